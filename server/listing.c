#include "server/listing.h"

#include <stdio.h>

#include "engine/base/mem.h"
#include "server/api_error.h"
#include "server/loop.h"
#include "server/served.h"
#include "server/server_state.h"

#define ANSWER_BYTES_MAX ((size_t)64 << 20)

static void answer_no_memory(struct call *c)
{
    struct err e;
    enum status st = err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
    server_answer_error(c, api_error_of(st), &e);
}

static void end(struct listing *l)
{
    if (l->call)
        l->call->listing = NULL;
    l->server->listings--;
    strbuf_deinit(&l->body);
    mem_free(l->list);
    mem_free(l);
}

static void work(void *ctx)
{
    struct listing *l = ctx;
    l->count = served_list(l->server->engine, l->kind->draining, &l->list);
    if (l->count >= 0)
        l->kind->write(l);
}

static void on_done(void *ctx)
{
    struct listing *l = ctx;
    if (l->call && (l->count < 0 || l->body.failed))
        answer_no_memory(l->call);
    else if (l->call && l->kind->answer)
        l->kind->answer(l);
    else if (l->call)
        server_answer_json(l->call, 200, &l->body);
    end(l);
}

void listing_begin(struct call *c, const struct listing_kind *kind)
{
    struct server *s = c->server;
    struct listing *l = mem_calloc(1, sizeof *l);
    if (!l) {
        answer_no_memory(c);
        return;
    }
    l->server = s;
    l->call = c;
    l->kind = kind;
    if (s->api.default_adapter)
        snprintf(l->fallback, sizeof l->fallback, "%s", s->api.default_adapter);
    strbuf_init(&l->body, ANSWER_BYTES_MAX);
    c->listing = l;
    s->listings++;
    if (!loop_pool(s->loop, work, on_done, l)) {
        answer_no_memory(c);
        end(l);
    }
}

void listing_on_end(struct call *c)
{
    if (c->listing)
        c->listing->call = NULL;
    c->listing = NULL;
}

bool listing_is_busy(const struct server *s)
{
    return s->listings > 0;
}
