/* lora_units: the units of lora_device.cuh: which piece and rank tile one is, and what a warp does
 * of it; from what k_pieces.h keeps of the pieces. */
#ifndef CHORUS_CUDA_LORA_UNITS_CUH
#define CHORUS_CUDA_LORA_UNITS_CUH

#include "cuda/lora_device.cuh"
#include "cuda/lora_layout.h"
#include "cuda/piece_of.cuh"

/* One slice of a unit as a warp works on it. */
struct shrink_work {
    const uint8_t *a; /* this lane's bytes of the slice's first group */
    const uint8_t *x; /* this lane's bytes of x there */
    int groups;
    int piece, rank_tile, unit, slice; /* unit < 0: nothing */
    int codes;                         /* enum lora_codes */
};

/* `piece` is number q. */
template <bool CODES>
PTX_INLINE struct shrink_work shrink_work_of(const struct linear_dev *p,
                                             const struct piece_shrink &piece, int q, int rank_tile,
                                             int unit, int slice, const struct place *at)
{
    const int group = slice_begin(p->groups, slice);
    struct shrink_work w;
    w.piece = q;
    w.rank_tile = rank_tile;
    w.unit = unit;
    w.slice = slice;
    w.groups = slice_begin(p->groups, slice + 1) - group;
    w.codes = CODES ? piece.codes : LORA_BF16;
    w.a = piece.a + ((size_t)rank_tile * p->groups + group) * lora_group_bytes(w.codes) +
          at->lane * 16;
    int row = piece.row + min(at->g, piece.rows - 1);
    if (p->x_row)
        row = p->x_row[row];
    w.x = p->x + (size_t)row * p->x_stride * 2 + (size_t)group * 256 + at->t * 16;
    return w;
}

template <bool CODES> PTX_INLINE struct piece_shrink piece_kept(const struct linear_dev *p, int q)
{
    const struct piece_shrink *from = p->here->shrink + q;
    const uint32_t rows = __ldcg((const uint32_t *)&from->row);
    return {(const uint8_t *)__ldcg((const unsigned long long *)&from->a), (int16_t)rows,
            (uint8_t)(rows >> 16), (uint8_t)(rows >> 24), CODES ? __ldcg(&from->codes) : LORA_BF16};
}

/* 32 pieces at a time, one a lane, with their running count of units. */
struct unit_scan {
    int first;  /* piece of lane 0 */
    int before; /* units of the pieces before it */
    int incl;   /* units of the pieces first .. first + lane */
    struct piece_shrink piece;
};

template <bool CODES>
PTX_INLINE void scan_load(struct unit_scan *s, const struct linear_dev *p, int count, int lane)
{
    const int q = s->first + lane;
    s->piece = {};
    if (q < PIECES_KEPT) {
        const struct piece_shrink kept =
            piece_kept<CODES>(p, q); /* asked for before the count is there */
        if (q < count)
            s->piece = kept;
    } else if (q < count) {
        const struct lora_piece piece = p->pieces[q];
        s->piece = piece_shrink_of(piece_stack(p, piece.slot), piece);
    }
    s->incl = ptx_lanes_sum(s->piece.rank_tiles, lane);
}

/* At its begin. */
template <bool CODES>
PTX_INLINE void scan_init(struct unit_scan *s, const struct linear_dev *p, int count, int lane)
{
    s->first = s->before = 0;
    scan_load<CODES>(s, p, count, lane);
}

/* Unit numbers must not fall from call to call. */
template <bool CODES>
PTX_INLINE struct shrink_work shrink_find(struct unit_scan *s, const struct linear_dev *p,
                                          int count, int unit, int slice, const struct place *at)
{
    int chunk;
    while (unit >= s->before + (chunk = __shfl_sync(~0u, s->incl, 31))) {
        s->before += chunk;
        s->first += 32;
        scan_load<CODES>(s, p, count, at->lane);
    }
    const int lane = __popc(__ballot_sync(~0u, s->before + s->incl <= unit));
    const int begin = __shfl_sync(~0u, s->incl, lane ? lane - 1 : 0);
    const int rows = __shfl_sync(~0u, (int)s->piece.row | (int)s->piece.rows << 16, lane);
    struct piece_shrink piece = {};
    piece.a = (const uint8_t *)__shfl_sync(~0u, (unsigned long long)s->piece.a, lane);
    piece.row = (int16_t)rows;
    piece.rows = (uint8_t)(rows >> 16);
    piece.codes = CODES ? __shfl_sync(~0u, s->piece.codes, lane) : LORA_BF16;
    return shrink_work_of<CODES>(p, piece, s->first + lane, unit - s->before - (lane ? begin : 0),
                                 unit, slice, at);
}

#endif
