#include "engine/base/arena.h"

#include <stdint.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/mem.h"

#define ARENA_BLOCK_MIN ((size_t)4096)
#define ARENA_BLOCK_MAX ((size_t)1 << 20)
#define ARENA_ALIGN     ((size_t)16)

struct arena_block {
    struct arena_block *next;
    size_t size;
    size_t used;
    size_t pad; /* keeps data[] aligned to 16 */
    unsigned char data[];
};

void arena_init(struct arena *a, size_t cap_bytes)
{
    *a = (struct arena){.cap_bytes = cap_bytes};
}

void arena_reset(struct arena *a)
{
    struct arena_block *b = a->head;
    while (b) {
        struct arena_block *next = b->next;
        mem_free(b);
        b = next;
    }
    a->head = NULL;
    a->used_bytes = 0;
}

void arena_deinit(struct arena *a)
{
    arena_reset(a);
}

static struct arena_block *grow(struct arena *a, size_t need)
{
    size_t size = a->head ? a->head->size * 2 : ARENA_BLOCK_MIN;
    if (size > ARENA_BLOCK_MAX)
        size = ARENA_BLOCK_MAX;
    if (size < need)
        size = need;
    size_t bytes;
    if (!checked_add(sizeof(struct arena_block), size, &bytes))
        return NULL;
    struct arena_block *b = mem_alloc(bytes, 1);
    if (!b)
        return NULL;
    b->next = a->head;
    b->size = size;
    b->used = 0;
    a->head = b;
    return b;
}

void *arena_alloc(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    if (!checked_mul(count, size, &bytes) || !checked_add(bytes, ARENA_ALIGN - 1, &bytes))
        return NULL;
    bytes &= ~(ARENA_ALIGN - 1);
    if (bytes > a->cap_bytes || a->used_bytes > a->cap_bytes - bytes)
        return NULL;
    struct arena_block *b = a->head;
    if (!b || b->size - b->used < bytes) {
        b = grow(a, bytes);
        if (!b)
            return NULL;
    }
    void *p = b->data + b->used;
    b->used += bytes;
    a->used_bytes += bytes;
    memset(p, 0, bytes);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    size_t bytes;
    if (!checked_add(n, 1, &bytes))
        return NULL;
    char *out = arena_alloc(a, bytes, 1);
    if (!out)
        return NULL;
    memcpy(out, s, n);
    return out;
}
