/* arena: many small allocations freed at once. One owner, one thread at a time.
 *
 * Blocks grow geometrically up to a cap in bytes; an arena that reached its cap returns NULL like
 * an exhausted heap. Pointers stay valid until arena_deinit or arena_reset.
 */
#ifndef CHORUS_BASE_ARENA_H
#define CHORUS_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *head; /* owned list */
    size_t used_bytes;
    size_t cap_bytes;
};

void arena_init(struct arena *a, size_t cap_bytes);
void arena_deinit(struct arena *a);
/* Frees everything; the arena can be used again. */
void arena_reset(struct arena *a);

/* `count` items of `size` bytes, aligned to 16, zeroed. NULL when memory or the cap is exhausted.
 */
void *arena_alloc(struct arena *a, size_t count, size_t size) __attribute__((warn_unused_result));
/* n bytes of s and a terminator. */
char *arena_strndup(struct arena *a, const char *s, size_t n) __attribute__((warn_unused_result));

#endif
