/* lora_expand_few: the expand of k_linear_few. It begins in front of the base product, which needs
 * the registers: what a warp fetches next lies in shared memory meanwhile. */
#ifndef CHORUS_CUDA_LORA_EXPAND_FEW_CUH
#define CHORUS_CUDA_LORA_EXPAND_FEW_CUH

#include "cuda/lora_expand.cuh"

/* A feed put there. A warp has one piece of the first round: its runs are those of lanes
 * LIST_PIECES m. */
struct feed_parked {
    struct expand_run run[STACK_MODULES];
    unsigned runs, ahead;
    int tiles, left, count, skip, codes, tile, k_step;
    const uint8_t *b;
};

PTX_INLINE void feed_park(struct feed_parked *to, const struct expand_feed *f,
                          const struct place *at)
{
    const int m = at->lane / LIST_PIECES;
    if (at->lane % LIST_PIECES == 0 && m < STACK_MODULES)
        to->run[m] = f->run;
    if (at->lane == 0) {
        to->runs = f->runs;
        to->ahead = f->ahead;
        to->tiles = f->tiles;
        to->left = f->left;
        to->count = f->count;
        to->skip = f->skip;
        to->codes = f->codes;
        to->tile = f->tile;
        to->k_step = f->k_step;
        to->b = f->b;
    }
    __syncwarp(); /* it, before all lanes take it up again */
}

template <bool CODES>
PTX_INLINE void feed_take(struct expand_feed *f, const struct feed_parked *from,
                          const struct place *at)
{
    f->run = from->run[min(at->lane / LIST_PIECES, STACK_MODULES - 1)];
    f->runs = from->runs;
    f->ahead = from->ahead;
    f->tiles = from->tiles;
    f->left = from->left;
    f->count = from->count;
    f->skip = from->skip;
    f->b = from->b;
    if (CODES) {
        f->codes = from->codes;
        f->tile = from->tile;
        f->k_step = from->k_step;
    }
    if (!CODES || !f->codes)
        f->b += at->lane * 16;
}

template <int FRAGS>
PTX_INLINE void expand_begin_few(struct feed_parked *park, const struct expand_range *r,
                                 uint8_t *ring, const struct place *at)
{
    struct expand_feed f;
    expand_begin<FRAGS, false>(&f, r, 0, 0, ring, at);
    feed_park(park, &f, at);
}

template <int FRAGS>
PTX_INLINE void expand_all_few(float *sums, int tile_floats, const struct feed_parked *park,
                               bool begun, const struct expand_range *r, uint8_t *ring,
                               const struct place *at)
{
    struct expand_feed f;
    if (begun)
        feed_take<false>(&f, park, at);
    expand_all<FRAGS, false, false>(sums, tile_floats, &f, begun, r, ring, at);
}

/* Codes go through calls: a kernel that is short of registers would give away those of
 * loads that are under way, and wait for them where they are asked for. */
template <int FRAGS>
LINEAR_CALL void expand_begin_codes(struct feed_parked *park, const struct expand_range *r,
                                    uint8_t *ring)
{
    const struct place at = place_here();
    struct expand_feed f;
    expand_begin<FRAGS, true>(&f, r, 0, 0, ring, &at);
    feed_park(park, &f, &at);
}

template <int FRAGS>
LINEAR_CALL void expand_all_codes(float *sums, int tile_floats, const struct feed_parked *park,
                                  bool begun, const struct expand_range *r, uint8_t *ring)
{
    const struct place at = place_here();
    struct expand_feed f;
    if (begun)
        feed_take<true>(&f, park, &at);
    expand_all<FRAGS, false, true>(sums, tile_floats, &f, begun, r, ring, &at);
}

#endif
