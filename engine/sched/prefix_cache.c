#include "engine/sched/prefix_cache.h"

#include <string.h>

#include "engine/base/mem.h"

#define PAGE_TOKENS LIMIT_KV_PAGE_TOKENS

static void update_u64(struct sha256 *s, uint64_t v)
{
    sha256_update(s, &v, sizeof v);
}

static void update_adapters(struct sha256 *s, const struct prefix_identity *adapters, int count)
{
    update_u64(s, (uint64_t)count);
    for (int i = 0; i < count; i++) {
        sha256_update(s, adapters[i].sha256, SHA256_BYTES);
        update_u64(s, adapters[i].generation);
        sha256_update(s, &adapters[i].weight, sizeof adapters[i].weight);
        update_u64(s, (uint64_t)adapters[i].from);
    }
}

void prefix_seed(const char *salt, const struct prefix_identity *adapters, int adapter_count,
                 struct prefix_key *out)
{
    struct sha256 s;
    sha256_init(&s);
    /* Each part is preceded by its length, so that no two different lists read the same. */
    size_t salt_len = salt ? strlen(salt) : 0;
    update_u64(&s, salt ? 1 + (uint64_t)salt_len : 0);
    if (salt)
        sha256_update(&s, salt, salt_len);
    update_adapters(&s, adapters, adapter_count);
    sha256_final(&s, out->bytes);
}

void prefix_join(const struct prefix_key *parent, const struct prefix_identity *adapters, int count,
                 struct prefix_key *out)
{
    struct sha256 s;
    sha256_init(&s);
    sha256_update(&s, parent->bytes, sizeof parent->bytes);
    update_adapters(&s, adapters, count);
    sha256_final(&s, out->bytes);
}

void prefix_next(const struct prefix_key *parent, const int32_t *tokens, struct prefix_key *out)
{
    struct sha256 s;
    sha256_init(&s);
    sha256_update(&s, parent->bytes, sizeof parent->bytes);
    sha256_update(&s, tokens, PAGE_TOKENS * sizeof *tokens);
    sha256_final(&s, out->bytes);
}

enum status prefix_cache_init(struct prefix_cache *c, struct kv_pool *pool)
{
    memset(c, 0, sizeof *c);
    size_t pages = (size_t)pool->total, buckets = 1;
    while (buckets < 2 * pages)
        buckets *= 2;
    c->bucket = mem_alloc(buckets, sizeof *c->bucket);
    c->chain = mem_calloc(pages, sizeof *c->chain);
    c->keys = mem_calloc(pages, sizeof *c->keys);
    c->tokens = mem_calloc(pages, PAGE_TOKENS * sizeof *c->tokens);
    if (!c->bucket || !c->chain || !c->keys || !c->tokens) {
        prefix_cache_deinit(c);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < buckets; i++)
        c->bucket[i] = -1;
    c->mask = (uint32_t)(buckets - 1);
    c->pool = pool;
    return STATUS_OK;
}

void prefix_cache_deinit(struct prefix_cache *c)
{
    mem_free(c->bucket);
    mem_free(c->chain);
    mem_free(c->keys);
    mem_free(c->tokens);
    memset(c, 0, sizeof *c);
}

/* The key is a hash already: its first bytes choose the bucket. */
static int32_t *bucket_of(const struct prefix_cache *c, const struct prefix_key *key)
{
    uint32_t h;
    memcpy(&h, key->bytes, sizeof h);
    return &c->bucket[h & c->mask];
}

static int lookup(const struct prefix_cache *c, const struct prefix_key *key)
{
    int page = *bucket_of(c, key);
    while (page >= 0 && memcmp(&c->keys[page], key, sizeof *key) != 0)
        page = c->chain[page];
    return page;
}

int prefix_cache_find(const struct prefix_cache *c, const struct prefix_key *keys,
                      const int32_t *tokens, int count, int32_t *pages, int *held)
{
    int found = 0, with_holder = 0;
    for (; found < count; found++) {
        int page = lookup(c, &keys[found]);
        if (page < 0 ||
            memcmp(&c->tokens[(size_t)page * PAGE_TOKENS], &tokens[(size_t)found * PAGE_TOKENS],
                   PAGE_TOKENS * sizeof *tokens) != 0)
            break;
        pages[found] = page;
        with_holder += c->pool->refs[page] > 0;
    }
    *held = with_holder;
    return found;
}

void prefix_cache_publish(struct prefix_cache *c, int page, const struct prefix_key *key,
                          const int32_t *tokens)
{
    if (c->pool->kept[page] || lookup(c, key) >= 0)
        return;
    kv_pool_keep(c->pool, page);
    c->keys[page] = *key;
    memcpy(&c->tokens[(size_t)page * PAGE_TOKENS], tokens, PAGE_TOKENS * sizeof *tokens);
    int32_t *b = bucket_of(c, key);
    c->chain[page] = *b;
    *b = page;
}

static void forget(struct prefix_cache *c, int page)
{
    int32_t *link = bucket_of(c, &c->keys[page]);
    while (*link != page)
        link = &c->chain[*link];
    *link = c->chain[page];
    kv_pool_forget(c->pool, page);
}

int prefix_cache_page(struct prefix_cache *c)
{
    if (c->pool->free_count == 0) {
        int oldest = kv_pool_oldest(c->pool);
        if (oldest >= 0)
            forget(c, oldest);
    }
    return kv_pool_take(c->pool);
}
