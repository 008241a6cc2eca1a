/* fair: whose request goes to the engine next. Pure; one thread.
 *
 * The engine serves in order of arrival, so one client's two hundred requests would stand before
 * another's one. Therefore no more requests are handed to it than have a seat; the others wait
 * here, in a line for each client, and a free seat goes to the client that has the fewest. A few
 * seats more are kept for clients that have none at all: they need not wait until somebody else's
 * answer ends. A client is an API key, or an address where no key is asked for. Priorities order a
 * client's own line; nobody gets before others by them.
 */
#ifndef CHORUS_SERVER_FAIR_H
#define CHORUS_SERVER_FAIR_H

#include <stdbool.h>

#include "engine/base/status.h"

#define FAIR_NAME_BYTES 72

enum fair_place { FAIR_NOWHERE, FAIR_WAITS, FAIR_SEATED };

/* One sequence that wants to be made; its owner embeds it, zeroed at first. */
struct fair_item {
    enum fair_place place;
    int priority; /* set by the owner: smaller comes first in its client's line */
    struct fair_client *client;
    struct fair_item *prev; /* in the client's line */
    struct fair_item *next;
    unsigned long long order; /* of arrival */
};

struct fair_client {
    char name[FAIR_NAME_BYTES];
    int seated;
    int waiting;
    struct fair_item *first; /* borrowed */
    struct fair_item *last;
    struct fair_client *next;
};

struct fair {
    int seats;     /* 0: no bound, nobody waits */
    int reserve;   /* beyond seats, for clients that have none */
    int queue_max; /* that one client may have waiting */
    int seated;
    int waiting;
    unsigned long long order;
    struct fair_client *clients; /* owned: those that have something here */
};

/* The item gets into its client's line. STATUS_BUSY: the line is full; STATUS_NO_MEMORY. */
WARN_UNUSED enum status fair_enter(struct fair *f, const char *client, struct fair_item *item,
                                   struct err *e);
/* Seats the item whose turn it is; NULL: nobody's. */
struct fair_item *fair_next(struct fair *f);
/* The item ended or gave up, wherever it was; from nowhere nothing happens. */
void fair_leave(struct fair *f, struct fair_item *item);
void fair_deinit(struct fair *f);

#endif
