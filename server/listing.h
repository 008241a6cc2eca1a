/* listing: answers that grow with the number of adapters, written on the pool: a thousand of them
 * take milliseconds, in which the loop could hand no token on. Loop thread, but for `write`.
 */
#ifndef CHORUS_SERVER_LISTING_H
#define CHORUS_SERVER_LISTING_H

#include <stdbool.h>

#include "engine/base/strbuf.h"
#include "engine/engine_adapters.h"

struct call;
struct server;

/* From the request to its answer. While `write` runs only the pool touches it. */
struct listing {
    struct server *server;
    struct call *call; /* NULL: the exchange is over */
    const struct listing_kind *kind;
    char fallback[LIMIT_NAME_BYTES +
                  1]; /* the adapter of requests that name none; "": there is none */
    struct engine_adapter_info *list; /* owned, in name order */
    int count;                        /* -1: out of memory */
    struct strbuf body;
};

struct listing_kind {
    bool draining; /* `list` holds those that drain, too */
    /* Pool thread: puts what `list` says into `body`; of the server it reads what never changes and
     * what has a lock of its own. */
    void (*write)(struct listing *l);
    /* Answers l->call; takes `body`. NULL: it is JSON and goes out as it is. */
    void (*answer)(struct listing *l);
};

/* Answers `c` later, or at once that memory is out. */
void listing_begin(struct call *c, const struct listing_kind *kind);
/* The exchange of a call is over. */
void listing_on_end(struct call *c);
bool listing_is_busy(const struct server *s);

#endif
