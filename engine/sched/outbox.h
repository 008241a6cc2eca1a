/* outbox: the events of one request on their way to its reader; a ring of LIMIT_OUTBOX_EVENTS.
 *
 * The writer asks outbox_room before it makes a token, so a push never fails: room always leaves a
 * place for the one terminal event. Usage and error exist once, because only the terminal event
 * carries them. No lock of its own: the engine's lock covers both ends.
 */
#ifndef CHORUS_SCHED_OUTBOX_H
#define CHORUS_SCHED_OUTBOX_H

#include "engine/base/arena.h"
#include "engine/engine_request.h"

struct outbox_item {
    enum engine_event_kind kind;
    int32_t token;
    float logprob;
    uint16_t text_len;
    uint8_t top_count;
    bool has_logprob;
    char text[LIMIT_EVENT_TEXT];
};

struct outbox {
    struct outbox_item *ring;  /* owned by the arena, [LIMIT_OUTBOX_EVENTS] */
    struct token_logprob *top; /* owned by the arena, [LIMIT_OUTBOX_EVENTS, top_max] */
    int top_max;
    int head; /* oldest item */
    int count;
    bool ended; /* a terminal event was pushed */
    enum engine_finish finish;
    struct engine_usage usage;
    struct err err;
};

/* top_max: most alternatives of a token, 0 .. LIMIT_TOP_LOGPROBS. */
WARN_UNUSED enum status outbox_init(struct outbox *o, struct arena *a, int top_max);

/* Most events that `bytes` of text can need: each takes LIMIT_EVENT_TEXT bytes less at most three
 * that would split a character. At least 1. */
int outbox_events_for(size_t bytes);
/* Events that can be pushed now, the terminal one not counted. */
int outbox_room(const struct outbox *o);

/* A TOKEN (or PROMPT_TOKEN) event with as much of the text as fits, then TEXT events. */
void outbox_push_token(struct outbox *o, enum engine_event_kind kind, const struct sample_result *r,
                       bool has_logprob, const char *text, size_t text_len);
/* The terminal event; `err` only for ENGINE_EVENT_ERROR. */
void outbox_push_end(struct outbox *o, enum engine_event_kind kind, enum engine_finish finish,
                     const struct engine_usage *usage, const struct err *err);

/* Moves the oldest event out. False: empty. */
bool outbox_pop(struct outbox *o, struct engine_event *out);
bool outbox_is_terminal(enum engine_event_kind kind);

#endif
