/* mem: the only allocator of Chorus. Any thread.
 *
 * Thin over the C library, so that every allocation can be made to fail by number in tests
 * (RELIABILITY.md MEM-2) and so that products of sizes are checked in one place. NULL means out of
 * memory, never "zero bytes asked".
 */
#ifndef CHORUS_BASE_MEM_H
#define CHORUS_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#define MALLOC_LIKE __attribute__((malloc, warn_unused_result))

/* `count` items of `size` bytes, uninitialised / zeroed. A product that overflows returns NULL. */
void *mem_alloc(size_t count, size_t size) MALLOC_LIKE;
void *mem_calloc(size_t count, size_t size) MALLOC_LIKE;
/* As realloc: on NULL the old block is untouched. */
void *mem_realloc(void *p, size_t count, size_t size) __attribute__((warn_unused_result));
/* `bytes` rounded up to 64, aligned to 64 bytes (a cache line, an AVX-512 register), uninitialised.
 * Freed by mem_free. */
void *mem_alloc_aligned(size_t bytes) MALLOC_LIKE;
char *mem_strdup(const char *s) MALLOC_LIKE;
char *mem_strndup(const char *s, size_t n) MALLOC_LIKE;
void mem_free(void *p);

/* Tests only: the k-th allocation from now on fails once (k >= 1); 0 turns it off. */
void mem_fail_at(int64_t k);
/* Allocations since the process began. */
uint64_t mem_alloc_count(void);

#endif
