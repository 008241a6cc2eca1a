/* linear_many_end: where the sums of a pass of linear_many.cuh lie, and how they make room for B.
 */
#ifndef CHORUS_CUDA_LINEAR_MANY_END_CUH
#define CHORUS_CUDA_LINEAR_MANY_END_CUH

#include "cuda/linear_end.cuh"
#include "cuda/linear_many_ring.cuh"

/* A warp's ring for B where the sums of slices 2 to 7 were. */
template <class S> PTX_INLINE uint8_t *many_expand_ring(float *red, int warp)
{
    constexpr int sharers = LINEAR_WARPS / S::tiles;
    return (uint8_t *)(red + warp / sharers * (LINEAR_SLICES * S::floats) + 2 * S::floats) +
           warp % sharers * S::expand_frags * RANK_TILE_BYTES;
}

/* Totals into slice 0's place, zeros into slice 1's: the others' are then the ring for B. */
template <class S>
PTX_INLINE void many_make_room(const struct sums *s, const struct linear_dev *p, int tile,
                               int tiles)
{
    for (int i = threadIdx.x; i < tiles * S::nt * 64; i += LINEAR_THREADS) {
        const struct item e = item_of<S::nt>(i, tile);
        const float2 v = item_total(s, &e, p);
        float *at = s->at + e.k * s->tile_floats + e.at;
        at[0] = v.x;
        at[64] = v.y;
        at[s->slice_floats] = at[s->slice_floats + 64] = 0;
    }
    __syncthreads(); /* the totals and zeros above */
}

#endif
