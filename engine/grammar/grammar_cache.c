#include "engine/grammar/grammar_cache.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/vec.h"

bool grammar_cache_init(struct grammar_cache *c, size_t max_bytes)
{
    *c = (struct grammar_cache){.max_bytes = max_bytes};
    return pthread_mutex_init(&c->lock, NULL) == 0;
}

void grammar_cache_deinit(struct grammar_cache *c)
{
    for (size_t i = 0; i < c->count; i++)
        grammar_unref(c->entries[i].grammar);
    mem_free(c->entries);
    pthread_mutex_destroy(&c->lock);
}

/* With the lock held; NULL: not there. */
static struct grammar_cache_entry *find(struct grammar_cache *c, const uint8_t *key)
{
    for (size_t i = 0; i < c->count; i++)
        if (memcmp(c->entries[i].key, key, SHA256_BYTES) == 0)
            return &c->entries[i];
    return NULL;
}

struct grammar *grammar_cache_find(struct grammar_cache *c, const uint8_t key[SHA256_BYTES])
{
    struct grammar *g = NULL;
    pthread_mutex_lock(&c->lock);
    struct grammar_cache_entry *e = find(c, key);
    if (e) {
        e->used = ++c->clock;
        g = grammar_ref(e->grammar);
    }
    pthread_mutex_unlock(&c->lock);
    return g;
}

/* With the lock held: gives up the oldest until `more` bytes have room too. What is used grows, so
 * sizes are looked at each time. */
static void make_room(struct grammar_cache *c, size_t more)
{
    for (;;) {
        size_t sum = more, oldest = 0;
        for (size_t i = 0; i < c->count; i++) {
            sum += grammar_bytes(c->entries[i].grammar);
            if (c->entries[i].used < c->entries[oldest].used)
                oldest = i;
        }
        if (sum <= c->max_bytes || c->count == 0)
            return;
        grammar_unref(c->entries[oldest].grammar);
        c->entries[oldest] = c->entries[--c->count];
    }
}

void grammar_cache_put(struct grammar_cache *c, const uint8_t key[SHA256_BYTES], struct grammar *g)
{
    size_t bytes = grammar_bytes(g);
    pthread_mutex_lock(&c->lock);
    if (bytes <= c->max_bytes && !find(c, key)) {
        make_room(c, bytes);
        if (VEC_RESERVE(c->entries, c->cap, c->count + 1)) {
            struct grammar_cache_entry *e = &c->entries[c->count++];
            memcpy(e->key, key, SHA256_BYTES);
            e->grammar = grammar_ref(g);
            e->used = ++c->clock;
        }
    }
    pthread_mutex_unlock(&c->lock);
}
