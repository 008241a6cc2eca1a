/* access_log: what the log says of each request: one line when it is over, one more when it was
 * slow, and its prompt where that was asked for. Loop thread. */
#ifndef CHORUS_SERVER_ACCESS_LOG_H
#define CHORUS_SERVER_ACCESS_LOG_H

#include <stddef.h>
#include <stdint.h>

struct call;
struct choice;

/* Where the time of a generation went: of the choice that ended last. */
struct access_times {
    int64_t lined_ns;     /* clock: its first choice got in line; 0: none did */
    int64_t queue_ns;     /* for a seat and for the engine */
    int64_t adapter_ns;   /* for adapters only */
    int64_t prefill_ns;   /* to the first token */
    int64_t decode_ns;    /* to the last one */
    int64_t tokens_timed; /* that decode_ns was spent on */
    int64_t tokens_cached;
    const char *error; /* code of what it was answered; static; NULL: none */
};

/* A choice got its terminal event, or the request ends without it. */
void access_log_spent(struct call *c, const struct choice *choice);
/* The prompt as the model sees it, cut, where --log-prompts asks for that. */
void access_log_prompt(const struct call *c, const int32_t *ids, size_t count);
/* The exchange is over; its job is still there. */
void access_log_end(struct call *c, int status, int64_t now_ns);

#endif
