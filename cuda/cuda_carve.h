/* cuda_carve: one allocation cut into parts. A layout is written once, as a function that takes
 * part after part; run with base 0 it only counts, run with the allocation's address it places. */
#ifndef CHORUS_CUDA_CUDA_CARVE_H
#define CHORUS_CUDA_CUDA_CARVE_H

#include "engine/base/checked.h"

/* Of every part: what cudaMalloc gives, and whole cache lines for any kernel. */
#define CARVE_ALIGN 256

struct cuda_carve {
    uintptr_t base; /* 0: only counts; what is taken must not be read through */
    size_t used;    /* bytes so far */
    bool overflow;  /* the sum does not fit into size_t: `used` means nothing */
};

/* Room for count * size bytes. */
static inline void *cuda_carve(struct cuda_carve *c, size_t count, size_t size)
{
    size_t bytes, end, at = c->used;
    if (!checked_mul(count, size, &bytes) || !checked_add(at, bytes, &end) ||
        !checked_add(end, CARVE_ALIGN - 1, &end)) {
        c->overflow = true;
        return NULL;
    }
    c->used = end / CARVE_ALIGN * CARVE_ALIGN;
    return (void *)(c->base + at);
}

#endif
