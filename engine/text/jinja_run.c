#include "engine/text/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/clock.h"

#define CLOCK_STEPS 256

void jinja_run_init(struct jinja_run *r, struct strbuf *out, struct strbuf *from_input,
                    struct err *err)
{
    *r = (struct jinja_run){.out = out, .from_input = from_input, .err = err};
    arena_init(&r->arena, LIMIT_TEMPLATE_MEMORY_BYTES);
    r->track = from_input != NULL;
    r->hash_seed = (uint64_t)clock_now_ns() ^ (uint64_t)(uintptr_t)r;
    r->deadline_ns = clock_thread_cpu_ns() + (int64_t)LIMIT_TEMPLATE_TIME_MS * 1000000;
    r->next_clock = CLOCK_STEPS;
}

void jinja_run_deinit(struct jinja_run *r)
{
    arena_deinit(&r->arena);
}

bool jinja_raise(struct jinja_run *r, const char *fmt, ...)
{
    if (r->failed)
        return false;
    r->failed = true;
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (r->line > 0)
        err_set(r->err, STATUS_INVALID, NULL, "chat template line %d: %s", r->line, text);
    else
        err_set(r->err, STATUS_INVALID, NULL, "chat template: %s", text);
    return false;
}

bool jinja_fail(struct jinja_run *r, enum status code, const char *fmt, ...)
{
    if (r->failed)
        return false;
    r->failed = true;
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(r->err, code, NULL, "%s", text);
    return false;
}

bool jinja_charge(struct jinja_run *r, uint64_t steps)
{
    if (r->failed)
        return false;
    r->steps += steps;
    if (r->steps > LIMIT_TEMPLATE_STEPS)
        return jinja_fail(r, STATUS_LIMIT, "chat template took more than %d steps",
                          LIMIT_TEMPLATE_STEPS);
    if (r->steps >= r->next_clock) {
        r->next_clock = r->steps + CLOCK_STEPS;
        if (clock_thread_cpu_ns() > r->deadline_ns)
            return jinja_fail(r, STATUS_LIMIT, "chat template took more than %d ms",
                              LIMIT_TEMPLATE_TIME_MS);
    }
    return true;
}

bool jinja_charge_bytes(struct jinja_run *r, size_t bytes)
{
    return jinja_charge(r, (bytes >> 10) + 1);
}

bool jinja_nest(struct jinja_run *r)
{
    if (++r->nest <= JINJA_NEST_MAX)
        return jinja_charge(r, 1);
    return jinja_fail(r, STATUS_LIMIT, "chat template nested its work more than %d deep",
                      JINJA_NEST_MAX);
}

bool jinja_descend(struct jinja_run *r)
{
    if (++r->value_depth <= JINJA_VALUE_DEPTH_MAX)
        return jinja_charge(r, 1);
    return jinja_fail(r, STATUS_LIMIT, "chat template made a value nested more than %d deep",
                      JINJA_VALUE_DEPTH_MAX);
}

bool jinja_call_enter(struct jinja_run *r)
{
    if (++r->calls <= LIMIT_TEMPLATE_DEPTH)
        return true;
    return jinja_fail(r, STATUS_LIMIT, "chat template called itself more than %d deep",
                      LIMIT_TEMPLATE_DEPTH);
}

bool jinja_room(struct jinja_run *r, size_t count, size_t size)
{
    size_t bytes;
    if (r->failed)
        return false;
    if (checked_mul(count, size, &bytes) && bytes <= r->arena.cap_bytes - r->arena.used_bytes)
        return true;
    return jinja_fail(r, STATUS_LIMIT, "chat template needed more than %u MiB of memory",
                      LIMIT_TEMPLATE_MEMORY_BYTES >> 20);
}

void *jinja_alloc(struct jinja_run *r, size_t count, size_t size)
{
    /* 16: the arena rounds up */
    if (!jinja_room(r, count, size) || !jinja_room(r, count * size + 16, 1))
        return NULL;
    void *p = arena_alloc(&r->arena, count, size);
    if (!p)
        jinja_fail(r, STATUS_NO_MEMORY, "out of memory while rendering the chat template");
    return p;
}

static bool emit_root(struct jinja_run *r, const struct jinja_str *s)
{
    if (s->len > LIMIT_TEMPLATE_OUTPUT_BYTES ||
        r->out->len > LIMIT_TEMPLATE_OUTPUT_BYTES - s->len || s->len > r->out->max - r->out->len)
        return jinja_fail(r, STATUS_LIMIT, "chat template wrote more than %u bytes",
                          LIMIT_TEMPLATE_OUTPUT_BYTES);
    strbuf_append(r->out, s->data, s->len);
    if (r->from_input) {
        char *dst = strbuf_reserve(r->from_input, s->len);
        if (dst) {
            if (s->mask == JINJA_FROM_TEMPLATE || s->mask == JINJA_FROM_INPUT)
                memset(dst, s->mask == JINJA_FROM_INPUT, s->len);
            else
                memcpy(dst, s->mask, s->len);
            r->from_input->len += s->len;
        }
    }
    if (r->out->failed || (r->from_input && r->from_input->failed))
        return jinja_fail(r, STATUS_NO_MEMORY, "out of memory while rendering the chat template");
    return true;
}

bool jinja_emit(struct jinja_run *r, const struct jinja_str *s)
{
    if (s->len == 0)
        return !r->failed;
    if (!jinja_charge_bytes(r, s->len))
        return false;
    if (!r->capture)
        return emit_root(r, s);
    jinja_buf_str(r->capture, s);
    return !r->capture->failed;
}
