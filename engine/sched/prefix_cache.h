/* prefix_cache: finds KV pages that were computed before for exactly the same beginning.
 *
 * Each full page is named by a chain: key[i] = SHA-256(key[i - 1], tokens of page i), and key[-1]
 * is a seed over everything else that shaped the KV: the adapters (SHA-256 of their bytes and
 * config, load generation, weight, in order) and the partition key. Adapters that begin to act at a
 * token (activated LoRA) come into the chain at that token's page: before it the pages are those of
 * the base. Two beginnings that differ anywhere have different keys; the page's tokens are compared
 * on a hit all the same. Only full pages are in it, and a page is never written after it was
 * published.
 *
 * Pages nobody holds stay findable until the pool needs them, least recently used first; sequences
 * release their last page first, so a chain shrinks from its end. Engine thread, but for the two
 * pure key functions.
 */
#ifndef CHORUS_SCHED_PREFIX_CACHE_H
#define CHORUS_SCHED_PREFIX_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/limits.h"
#include "engine/base/sha256.h"
#include "engine/base/status.h"
#include "engine/sched/kv_pool.h"

struct prefix_key {
    uint8_t bytes[SHA256_BYTES];
};

/* One adapter as the cache sees it. */
struct prefix_identity {
    const uint8_t *sha256; /* [SHA256_BYTES] */
    uint64_t generation;
    float weight;
    int from; /* the first token that it acts on */
};

struct prefix_cache {
    struct kv_pool *pool;    /* borrowed */
    uint32_t mask;           /* buckets - 1, a power of two less one */
    int32_t *bucket;         /* owned, [mask + 1] first page of a chain, -1: none */
    int32_t *chain;          /* owned, [P] next page of the same bucket */
    struct prefix_key *keys; /* owned, [P] of pages that are kept */
    int32_t *tokens;         /* owned, [P, LIMIT_KV_PAGE_TOKENS] */
};

/* key[-1] with the adapters that act from token 0 on. `salt` may be NULL (no partition key). */
void prefix_seed(const char *salt, const struct prefix_identity *adapters, int adapter_count,
                 struct prefix_key *out);
/* What stands for key[i - 1] where adapters begin to act in page i, count >= 1. */
void prefix_join(const struct prefix_key *parent, const struct prefix_identity *adapters, int count,
                 struct prefix_key *out);
/* key[i] from key[i - 1] and the page's LIMIT_KV_PAGE_TOKENS tokens. */
void prefix_next(const struct prefix_key *parent, const int32_t *tokens, struct prefix_key *out);

WARN_UNUSED enum status prefix_cache_init(struct prefix_cache *c, struct kv_pool *pool);
void prefix_cache_deinit(struct prefix_cache *c);

/* How many of the `count` pages named by `keys` (with their tokens [count, LIMIT_KV_PAGE_TOKENS])
 * are here, from the first on without a gap; their numbers go to `pages`. Takes no reference: the
 * caller refs them before the next prefix_cache_page. *held of them have a holder already. */
int prefix_cache_find(const struct prefix_cache *c, const struct prefix_key *keys,
                      const int32_t *tokens, int count, int32_t *pages, int *held);
/* Makes a full held page findable; does nothing when its key is here already. */
void prefix_cache_publish(struct prefix_cache *c, int page, const struct prefix_key *key,
                          const int32_t *tokens);
/* A page to write, with one reference: a free one, else the least recently used cached one. -1:
 * every page is held. */
int prefix_cache_page(struct prefix_cache *c);

#endif
