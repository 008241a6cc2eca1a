/* kv_pool: who holds which KV page. Only counts and lists; the bytes live in the backend.
 *
 * A page holds LIMIT_KV_PAGE_TOKENS tokens of every layer and is in exactly one state: free, held
 * (by `refs` sequences) or cached (no holder, but the prefix cache can still find it). The
 * invariant free + cached + held = total is checked by kv_pool_check. Engine thread.
 */
#ifndef CHORUS_SCHED_KV_POOL_H
#define CHORUS_SCHED_KV_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"

struct kv_pool {
    int total;
    int free_count;
    int cached_count;
    int32_t free_head; /* stack through `next`; -1: none */
    int32_t *refs;     /* owned, [P] */
    int32_t *prev; /* owned, [P + 1] ring of cached pages, least recently used first; entry P is */
    int32_t *next; /* owned, [P + 1] its sentinel */
    bool *kept;    /* owned, [P] the prefix cache knows the page */
};

WARN_UNUSED enum status kv_pool_init(struct kv_pool *p, int pages);
void kv_pool_deinit(struct kv_pool *p);

/* A free page with one reference, or -1. */
int kv_pool_take(struct kv_pool *p);
/* One more holder of a held or cached page. */
void kv_pool_ref(struct kv_pool *p, int page);
/* The last holder's unref makes the page cached (most recently used) if it is kept, free otherwise.
 */
void kv_pool_unref(struct kv_pool *p, int page);

/* The prefix cache found a use for this held page / forgets this page. A forgotten page without a
 * holder is free at once. */
void kv_pool_keep(struct kv_pool *p, int page);
void kv_pool_forget(struct kv_pool *p, int page);
/* The least recently used cached page, or -1. */
int kv_pool_oldest(const struct kv_pool *p);

static inline int kv_pool_held(const struct kv_pool *p)
{
    return p->total - p->free_count - p->cached_count;
}

/* CHECKs every page and list against the counts: O(P), for tests and at close. */
void kv_pool_check(const struct kv_pool *p);

#endif
