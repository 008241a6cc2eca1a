#include "server/form_items.h"

#include <string.h>

#include "engine/base/vec.h"
#include "server/job_write.h"

static struct job_item *last_of(struct choice *c)
{
    return c->item_count ? &c->items[c->item_count - 1] : NULL;
}

static void begin_stream(struct choice *c)
{
    struct job *j = c->job;
    if (c->begun || !j->request.stream)
        return;
    c->begun = true;
    job_write_begin(j);
    j->form->begin(j);
}

static void end_item(struct choice *c, enum job_item_state state)
{
    struct job_item *item = last_of(c);
    if (!item || item->state != JOB_ITEM_OPEN)
        return;
    item->state = state;
    if (c->job->request.stream)
        c->job->form->item_end(c, item);
}

static struct job_item *begin_item(struct choice *c, enum job_item_kind kind)
{
    begin_stream(c);
    end_item(c, JOB_ITEM_WHOLE);
    if (!VEC_RESERVE(c->items, c->item_cap, c->item_count + 1)) {
        job_write_no_memory(c->job);
        return NULL;
    }
    struct job_item *item = &c->items[c->item_count++];
    *item = (struct job_item){.kind = kind, .token_begin = c->tokens_told};
    strbuf_init(&item->text, JOB_BYTES_MAX);
    if (kind == JOB_ITEM_CALL)
        item->call = c->call_count - 1;
    ident_make(kind == JOB_ITEM_CALL ? "fc_" : kind == JOB_ITEM_TEXT ? "msg_" : "rs_", item->id);
    if (c->job->request.stream)
        c->job->form->item_begin(c, item);
    return item;
}

static void grow(struct choice *c, struct job_item *item, const char *s, size_t n)
{
    strbuf_append(&item->text, s, n);
    if (item->text.failed) {
        job_write_no_memory(c->job);
        return;
    }
    item->tokens_from = c->tokens_told;
    c->tokens_told = c->token_count;
    item->token_end = c->tokens_told;
    if (c->job->request.stream)
        c->job->form->item_grow(c, item, s, n);
}

/* More of the item that is open, or of one that begins with it. */
static void add(struct choice *c, enum job_item_kind kind, struct strbuf *s)
{
    struct job_item *item = last_of(c);
    if (s->len > 0 && (!item || item->kind != kind || item->state != JOB_ITEM_OPEN))
        item = begin_item(c, kind);
    if (s->len > 0 && item)
        grow(c, item, s->data, s->len);
    strbuf_clear(s);
}

void form_items_piece(struct choice *c, const char *text, size_t n)
{
    strbuf_append(&c->text, text, n);
    if (c->text.failed)
        job_write_no_memory(c->job);
    else
        add(c, JOB_ITEM_TEXT, &c->text);
}

void form_items_thought(struct choice *c)
{
    add(c, JOB_ITEM_THOUGHT, &c->thought);
}

void form_items_call(struct choice *c, bool first, const char *arguments, size_t n)
{
    add(c, JOB_ITEM_TEXT, &c->text);
    if (c->job->over)
        return;
    struct job_item *item = first ? begin_item(c, JOB_ITEM_CALL) : last_of(c);
    if (item && n > 0)
        grow(c, item, arguments, n);
}

void form_items_finish(struct choice *c)
{
    begin_stream(c);
    add(c, JOB_ITEM_TEXT, &c->text);
    if (!c->job->over)
        end_item(c, strcmp(c->finish_reason, "length") == 0 ? JOB_ITEM_CUT : JOB_ITEM_WHOLE);
}
