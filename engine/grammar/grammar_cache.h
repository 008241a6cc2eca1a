/* grammar_cache: compiled grammars by what they were compiled from, least recently asked for goes
 * first. A grammar that goes lives on with those who hold it. Any thread; one lock inside.
 */
#ifndef CHORUS_GRAMMAR_GRAMMAR_CACHE_H
#define CHORUS_GRAMMAR_GRAMMAR_CACHE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/sha256.h"
#include "engine/grammar/grammar.h"

struct grammar_cache_entry {
    uint8_t key[SHA256_BYTES];
    struct grammar *grammar; /* one reference */
    uint64_t used;
};

struct grammar_cache {
    pthread_mutex_t lock;
    size_t max_bytes;
    struct grammar_cache_entry *entries; /* owned */
    size_t count, cap;
    uint64_t clock;
};

/* False: no lock could be made. */
bool grammar_cache_init(struct grammar_cache *c, size_t max_bytes)
    __attribute__((warn_unused_result));
void grammar_cache_deinit(struct grammar_cache *c);
/* A reference for the caller, or NULL. */
struct grammar *grammar_cache_find(struct grammar_cache *c, const uint8_t key[SHA256_BYTES]);
/* Keeps a reference of its own. What is larger than the cache, or finds no memory, is not kept. */
void grammar_cache_put(struct grammar_cache *c, const uint8_t key[SHA256_BYTES], struct grammar *g);

#endif
