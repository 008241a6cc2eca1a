/* lora_runs: who does what of B, and B on its way into shared memory.
 *
 * A warp takes whole pieces of a round, or, where there are fewer pieces than warps, every so many
 * tiles of one. Pieces of a round never share a row, so each element of the sums has one writer
 * between two barriers. What a warp does of a piece and module is a run: some tiles, so many rank
 * tiles of B each, which lie behind each other in memory. A warp lists its runs of a round, a lane
 * each, and B goes through a ring of its own in shared memory, a chunk of a few rank tiles of a
 * tile at a time, each lane copying the very bytes it reads (but for the scales of int4).
 */
#ifndef CHORUS_CUDA_LORA_RUNS_CUH
#define CHORUS_CUDA_LORA_RUNS_CUH

#include "cuda/lora_codes.cuh"
#include "cuda/lora_pieces.cuh"

#define RANK_TILE_BYTES 512 /* of B; of u a row takes 32 */
#define CODES_CHUNK     4   /* rank tiles of codes at once, in every ring */
#define CODES_SCALES    512 /* byte of a slot where the scales of int4 are */

/* A ring of FRAGS rank tiles. */
template <int FRAGS> struct expand_shape {
    static constexpr int chunk = FRAGS >= 8 ? 4 : 2; /* rank tiles */
    static constexpr int slots = FRAGS / chunk;
    static constexpr int slot_bytes = chunk * RANK_TILE_BYTES;
    static_assert(slots == 2 || slots == 3, "one to read and one to fill; see expand_wait");
    static_assert(slot_bytes >= 1024, "a chunk of codes");
};

/* Pieces on the tiles of a pass. */
struct expand_range {
    const struct linear_dev *p;
    struct lora_state *l;
    int tile, tiles;
    int first, rows; /* row block */
};

/* What a warp fetches next. */
struct expand_feed {
    int run, runs;    /* next of the list, and its length; -1: no list yet */
    int tiles, left;  /* tiles of the run to come, rank tiles of the first of them to come */
    int count;        /* rank tiles a tile */
    int skip;         /* bytes from the end of a tile to the next of this warp */
    const uint8_t *b; /* this lane's bytes of the next chunk; of codes: the warp's */
    int codes;        /* enum lora_codes */
    int tile, k_step; /* of codes: the tile to come, in its module, and the step to the next */
    int slot;
    int pending; /* chunks under way or not yet read */
};

template <bool CODES>
PTX_INLINE const struct piece_entry *piece_entry_at(struct piece_entry *far,
                                                    const struct expand_range *r, int q)
{
    if (q < r->l->table)
        return &r->l->pieces[q];
    piece_entry_far<CODES>(far, r->p, q);
    return far;
}

/* This warp's runs of a round: pieces 8 batch .. of its own, at all modules. How many. */
template <bool CODES>
PTX_INLINE int expand_list(const struct expand_range *r, int round, int batch,
                           const struct place *at)
{
    const struct linear_dev *p = r->p;
    const struct lora_state *l = r->l;
    const int begin = round ? l->round_end[round - 1] : 0, end = l->round_end[round];
    const int step = max(1, min(end - begin, LINEAR_WARPS)); /* pieces at once */
    const int share = at->warp / step, k_step = LINEAR_WARPS / step;
    const int m = at->lane / 8, q = begin + at->warp % step + (batch * 8 + at->lane % 8) * step;
    bool on = share < k_step && m < (p->out == LINEAR_SWIGLU ? 1 : STACK_MODULES) && q < end;
    struct expand_run run = {};
    if (on) {
        const int k = max(0, p->module_tile[m] - r->tile) + share;
        const int k_end = min(r->tiles, module_end(p, m) - r->tile);
        struct piece_entry far;
        const struct piece_entry *e = piece_entry_at<CODES>(&far, r, q);
        const int count = expand_count(p, e, m);
        on = k < k_end && count > 0 && e->row - r->first < r->rows && e->row + e->rows > r->first;
        run.k = (uint8_t)k;
        run.k_step = (uint8_t)k_step;
        run.tiles = (uint8_t)((k_end - k + k_step - 1) / k_step);
        run.count = (uint8_t)count;
        run.q = (int16_t)q;
        run.module = (int16_t)m;
    }
    const unsigned mask = __ballot_sync(~0u, on);
    if (on)
        r->l->run[at->warp][__popc(mask & ((1u << at->lane) - 1))] = run;
    __syncwarp(); /* the list */
    return __popc(mask);
}

/* The next run of the list. */
template <bool CODES>
PTX_INLINE void feed_run(struct expand_feed *f, const struct expand_range *r,
                         const struct place *at)
{
    const struct expand_run run = r->l->run[at->warp][f->run++];
    struct piece_entry far;
    const struct piece_entry *e = piece_entry_at<CODES>(&far, r, run.q);
    const int tile = r->tile + run.k - r->p->module_tile[run.module];
    f->count = f->left = run.count;
    f->tiles = run.tiles;
    f->skip = (run.k_step - 1) * run.count * RANK_TILE_BYTES;
    f->b = e->b[run.module] + (size_t)tile * run.count * RANK_TILE_BYTES + at->lane * 16;
    f->codes = CODES ? e->codes : LORA_BF16;
    if (CODES && f->codes) {
        f->skip >>= f->codes;
        f->tile = tile;
        f->k_step = run.k_step;
        f->b = e->b[run.module] + lora_b_at(f->codes, r->l->pair, run.count, tile);
    }
}

/* One chunk of codes into its slot. */
PTX_INLINE void feed_codes(struct expand_feed *f, const struct expand_range *r, uint8_t *slot,
                           const struct place *at)
{
    const int n = min(CODES_CHUNK, f->left), tile_bytes = RANK_TILE_BYTES >> f->codes;
    const int share = lora_share(r->l->pair), head = 8 << share;
    codes_copy(slot, f->b, n, f->codes, at->lane);
    if (f->codes == LORA_INT4) {
        const int before = f->count - f->left; /* rank tiles of the tile */
        const int back = f->count * (head + (f->tile & ((1 << share) - 1)) * tile_bytes) +
                         before * (tile_bytes - head);
        if (at->lane * 16 < n * head)
            ptx_cp_async16(slot + CODES_SCALES + at->lane * 16, f->b - back + at->lane * 16);
    }
    f->b += n * tile_bytes;
    f->left -= n;
    if (f->left > 0)
        return;
    f->left = f->count;
    f->tiles--;
    f->b += f->skip;
    if (f->codes == LORA_INT4)
        f->b += (((f->tile + f->k_step) >> share) - (f->tile >> share)) * f->count * head;
    f->tile += f->k_step;
}

/* One chunk into the ring. */
template <int FRAGS, bool CODES>
PTX_INLINE void expand_issue(struct expand_feed *f, const struct expand_range *r, uint8_t *ring,
                             const struct place *at)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    if (f->tiles == 0) {
        if (f->run >= f->runs)
            return;
        feed_run<CODES>(f, r, at);
    }
    if (CODES)
        __syncwarp(); /* all lanes have read what lay there: of codes not each its own */
    if (CODES && f->codes) {
        feed_codes(f, r, ring + f->slot * expand_shape<FRAGS>::slot_bytes, at);
        ptx_cp_async_commit();
    } else {
        const int n = min(chunk, f->left);
        uint8_t *to = ring + f->slot * (chunk * RANK_TILE_BYTES) + at->lane * 16;
#pragma unroll
        for (int i = 0; i < chunk; i++)
            if (i < n)
                ptx_cp_async16(to + i * RANK_TILE_BYTES, f->b + i * RANK_TILE_BYTES);
        ptx_cp_async_commit();
        f->b += n * RANK_TILE_BYTES;
        f->left -= n;
        if (f->left == 0) {
            f->left = f->count;
            f->tiles--;
            f->b += f->skip;
        }
    }
    f->slot = f->slot + 1 == expand_shape<FRAGS>::slots ? 0 : f->slot + 1;
    f->pending++;
}

/* The list of a round and its first chunks. */
template <int FRAGS, bool CODES>
PTX_INLINE void expand_begin(struct expand_feed *f, const struct expand_range *r, int round,
                             int batch, uint8_t *ring, const struct place *at)
{
    *f = {};
    f->runs = expand_list<CODES>(r, round, batch, at);
#pragma unroll 1
    for (int i = 0; i < expand_shape<FRAGS>::slots; i++)
        expand_issue<FRAGS, CODES>(f, r, ring, at);
}

/* What a warp fetches next, put into shared memory while others need the registers. */
PTX_INLINE void feed_park(struct expand_feed *to, const struct expand_feed *f,
                          const struct place *at)
{
    if (at->lane == 0)
        *to = *f;
    __syncwarp(); /* it, before all lanes take it up again */
}

PTX_INLINE void feed_take(struct expand_feed *f, const struct expand_feed *from,
                          const struct place *at)
{
    *f = *from;
    if (f->codes == LORA_BF16)
        f->b += at->lane * 16;
}

/* Until the oldest chunk has come. */
template <int FRAGS> PTX_INLINE void expand_wait(const struct expand_feed *f)
{
    if (f->pending == 3)
        ptx_cp_async_wait<2>();
    else if (f->pending == 2)
        ptx_cp_async_wait<1>();
    else
        ptx_cp_async_wait<0>();
}

#endif
