/* form: how one wire form writes what a job says. One table for each enum api_kind; job_write.c
 * calls it, and nothing else that runs a job knows which form it speaks. Loop thread.
 *
 * Chat and text completions are written from a choice's text, thought and calls. In the others an
 * answer is a list of items (form_items.h), kept as they come, whether it is streamed or not.
 */
#ifndef CHORUS_SERVER_FORM_H
#define CHORUS_SERVER_FORM_H

#include "server/api_error.h"
#include "server/job.h"

struct form {
    const char *id_prefix;   /* of the answer's id */
    const char *call_prefix; /* of a call's id; NULL: the form has no calls */
    bool in_items;

    /* As job_write.h has them. */
    void (*piece)(struct choice *c, const char *text, size_t n);
    void (*thought)(struct choice *c);
    void (*call)(struct choice *c, bool first, const char *arguments, size_t n);
    void (*finish)(struct choice *c);
    void (*end)(struct job *j);
    /* The whole answer as JSON. False: out of memory, as `failed` is too. */
    bool (*whole)(struct job *j, struct strbuf *b);
    /* Frames: an error in a stream that was begun; a sign of life. */
    void (*error)(struct job *j, const struct api_error_kind *k, const struct err *e,
                  struct strbuf *b);
    void (*ping)(struct strbuf *b);

    /* Items that are streamed: what comes before the first; one begins, grows, ends. */
    void (*begin)(struct job *j);
    void (*item_begin)(struct choice *c, const struct job_item *item);
    void (*item_grow)(struct choice *c, const struct job_item *item, const char *s, size_t n);
    void (*item_end)(struct choice *c, const struct job_item *item);
};

const struct form *form_of(enum api_kind kind);

#endif
