/* bench_client: a request of a load run: a client (client.h) that notes when which text came. One
 * thread. */
#ifndef CHORUS_SERVER_BENCH_CLIENT_H
#define CHORUS_SERVER_BENCH_CLIENT_H

#include "server/client.h"

struct bench_client {
    struct client http;
    bool failed; /* the transport did, or an error event came in the stream */
    char why[160];
    int64_t first_ns;      /* first piece of text, 0 before */
    int64_t last_ns;       /* latest piece of text */
    int pieces;            /* stream chunks with text */
    int completion_tokens; /* from usage, 0 when the server sends none */
    int prompt_tokens;
    /* Called for each piece after the first with the time since the piece before. May be NULL. */
    void (*on_gap)(void *ctx, int64_t gap_ns);
    void *on_gap_ctx;
};

void bench_client_init(struct bench_client *c);
void bench_client_deinit(struct bench_client *c);

/* As client_start; c stays where it is until the end. */
WARN_UNUSED enum status bench_client_start(struct bench_client *c, const struct client_target *t,
                                           const char *path, const char *body, const char *key,
                                           struct err *e);
/* Whether it is over; then `failed` and `why` hold. */
bool bench_client_is_done(struct bench_client *c);

#endif
