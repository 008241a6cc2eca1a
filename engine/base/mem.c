#include "engine/base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/checked.h"

/* Blocks of some large pages and more are made of them: a page fault and a page to give back cost
 * about 0.5 and 0.16 us each, and 51 MB are 12,500 small pages but 25 large ones. */
#define LARGE_PAGE  ((size_t)2 << 20)
#define LARGE_BLOCK (2 * LARGE_PAGE)

static atomic_int_fast64_t fail_countdown;
static atomic_uint_fast64_t alloc_total;

static bool must_fail(void)
{
    atomic_fetch_add_explicit(&alloc_total, 1, memory_order_relaxed);
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0)
        return false;
    return atomic_fetch_sub_explicit(&fail_countdown, 1, memory_order_relaxed) == 1;
}

void *mem_alloc(size_t count, size_t size)
{
    size_t bytes;
    if (!checked_mul(count, size, &bytes) || must_fail())
        return NULL;
    return malloc(bytes ? bytes : 1);
}

void *mem_calloc(size_t count, size_t size)
{
    if (must_fail())
        return NULL;
    return calloc(count ? count : 1, size ? size : 1);
}

void *mem_realloc(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (!checked_mul(count, size, &bytes) || must_fail())
        return NULL;
    return realloc(p, bytes ? bytes : 1);
}

void *mem_alloc_aligned(size_t bytes)
{
    size_t padded;
    if (!checked_add(bytes, 63, &padded) || must_fail())
        return NULL;
    padded &= ~(size_t)63;
    if (padded < LARGE_BLOCK)
        return aligned_alloc(64, padded ? padded : 64);
    void *p = NULL;
    if (posix_memalign(&p, LARGE_PAGE, padded) != 0) /* aligned_alloc wants whole pages */
        return NULL;
    (void)madvise(p, padded / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE); /* a hint */
    return p;
}

char *mem_strndup(const char *s, size_t n)
{
    char *out = mem_alloc(n + 1, 1);
    if (!out)
        return NULL;
    memcpy(out, s, n);
    out[n] = '\0';
    return out;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

/* Gives the pages of a large block back a few at a time. The kernel lets nobody else of the process
 * map or unmap memory meanwhile, be it the 64 KB of a connection: 195 MB at once are 1 to 10 ms, in
 * which the event loop stood still. */
static void thin_out(char *p, size_t bytes)
{
    size_t begin = (size_t)(-(uintptr_t)p & (LARGE_PAGE - 1));
    for (size_t at = begin; at + LARGE_PAGE <= bytes; at += LARGE_PAGE)
        (void)madvise(p + at, LARGE_PAGE, MADV_DONTNEED);
}

void mem_free(void *p)
{
    size_t bytes = p ? malloc_usable_size(p) : 0;
    if (bytes >= LARGE_BLOCK)
        thin_out(p, bytes);
    free(p);
}

void mem_fail_at(int64_t k)
{
    atomic_store(&fail_countdown, k);
}

uint64_t mem_alloc_count(void)
{
    return atomic_load(&alloc_total);
}
