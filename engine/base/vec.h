/* vec: growth for plain arrays that a struct owns as (pointer, count, capacity). One owner. */
#ifndef CHORUS_BASE_VEC_H
#define CHORUS_BASE_VEC_H

#include <stdbool.h>
#include <stddef.h>

/* Makes room for `need` items of `size` bytes in the mem_alloc'ed block *data of *cap items;
 * doubles at least. False when memory is out; nothing changes then. */
bool vec_reserve(void **data, size_t *cap, size_t need, size_t size)
    __attribute__((warn_unused_result));

/* VEC_RESERVE(p, cap, need): for a pointer p of any object type. */
#define VEC_RESERVE(p, cap, need) vec_reserve((void **)&(p), &(cap), (need), sizeof *(p))

#endif
