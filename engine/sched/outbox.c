#include "engine/sched/outbox.h"

#include <string.h>

#include "engine/base/utf8.h"

enum status outbox_init(struct outbox *o, struct arena *a, int top_max)
{
    memset(o, 0, sizeof *o);
    o->ring = arena_alloc(a, LIMIT_OUTBOX_EVENTS, sizeof *o->ring);
    o->top = arena_alloc(a, (size_t)LIMIT_OUTBOX_EVENTS * (size_t)top_max, sizeof *o->top);
    o->top_max = top_max;
    return o->ring && o->top ? STATUS_OK : STATUS_NO_MEMORY;
}

int outbox_events_for(size_t bytes)
{
    size_t least = LIMIT_EVENT_TEXT - 3;
    size_t n = (bytes + least - 1) / least;
    return n == 0 ? 1 : (int)n;
}

int outbox_room(const struct outbox *o)
{
    return LIMIT_OUTBOX_EVENTS - 1 - o->count;
}

bool outbox_is_terminal(enum engine_event_kind kind)
{
    return kind >= ENGINE_EVENT_DONE;
}

static struct outbox_item *push(struct outbox *o, enum engine_event_kind kind)
{
    CHECK(!o->ended && (outbox_room(o) > 0 || outbox_is_terminal(kind)));
    struct outbox_item *it = &o->ring[(o->head + o->count++) % LIMIT_OUTBOX_EVENTS];
    it->kind = kind;
    it->token = -1;
    it->logprob = 0;
    it->has_logprob = false;
    it->top_count = 0;
    it->text_len = 0;
    return it;
}

/* Moves as many whole characters as one event takes. */
static void take_text(struct outbox_item *it, const char **text, size_t *len)
{
    size_t n = *len < LIMIT_EVENT_TEXT ? *len : LIMIT_EVENT_TEXT;
    if (n < *len)
        n -= utf8_incomplete_tail(*text, n);
    if (n > 0)
        memcpy(it->text, *text, n);
    it->text_len = (uint16_t)n;
    *text += n;
    *len -= n;
}

void outbox_push_token(struct outbox *o, enum engine_event_kind kind, const struct sample_result *r,
                       bool has_logprob, const char *text, size_t text_len)
{
    struct outbox_item *it = push(o, kind);
    it->token = r->token;
    it->has_logprob = has_logprob;
    if (has_logprob) {
        int tops = r->top_count < o->top_max ? r->top_count : o->top_max;
        it->logprob = r->logprob;
        it->top_count = (uint8_t)tops;
        memcpy(&o->top[(it - o->ring) * o->top_max], r->top, (size_t)tops * sizeof *r->top);
    }
    take_text(it, &text, &text_len);
    while (text_len > 0)
        take_text(push(o, ENGINE_EVENT_TEXT), &text, &text_len);
}

void outbox_push_end(struct outbox *o, enum engine_event_kind kind, enum engine_finish finish,
                     const struct engine_usage *usage, const struct err *err)
{
    CHECK(outbox_is_terminal(kind));
    push(o, kind);
    o->ended = true;
    o->finish = finish;
    o->usage = *usage;
    if (kind == ENGINE_EVENT_ERROR)
        o->err = *err;
}

bool outbox_pop(struct outbox *o, struct engine_event *out)
{
    if (o->count == 0)
        return false;
    const struct outbox_item *it = &o->ring[o->head];
    memset(out, 0, sizeof *out);
    out->kind = it->kind;
    out->token = it->token;
    out->has_logprob = it->has_logprob;
    out->logprob = it->logprob;
    out->top_count = it->top_count;
    memcpy(out->top, &o->top[o->head * o->top_max], it->top_count * sizeof *out->top);
    out->text_len = it->text_len;
    memcpy(out->text, it->text, it->text_len);
    out->usage = o->usage;
    if (outbox_is_terminal(it->kind)) {
        out->finish = o->finish;
        out->err = o->err;
    }
    o->head = (o->head + 1) % LIMIT_OUTBOX_EVENTS;
    o->count--;
    return true;
}
