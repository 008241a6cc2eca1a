/* lora_runs: who does what of B, and B on its way into shared memory.
 *
 * A warp takes whole pieces of a round, or, where there are fewer pieces than warps, every so many
 * tiles of one. Pieces of a round never share a row, so each element of the sums has one writer
 * between two barriers. What a warp does of a piece and module is a run: some tiles, so many rank
 * tiles of B each, which lie behind each other in memory. The runs of a round are listed at once,
 * one in the registers of each lane, and looked up there. B goes through a ring of the warp's own
 * in shared memory, a chunk of a few rank tiles of a tile at a time, each lane copying the very
 * bytes it reads (but for codes).
 *
 * The ring is full when a list begins; whoever has read a chunk asks for another into its place. A
 * group of copies is closed for each chunk, empty ones too, so the oldest chunk is there when all
 * but slots - 1 groups are.
 */
#ifndef CHORUS_CUDA_LORA_RUNS_CUH
#define CHORUS_CUDA_LORA_RUNS_CUH

#include "cuda/lora_codes.cuh"
#include "cuda/lora_pieces.cuh"

#define RANK_TILE_BYTES 512 /* of B; of u a row takes 32 */
#define CODES_CHUNK     4   /* rank tiles of codes at once, in every ring */
#define CODES_SCALES    512 /* byte of a slot where the scales of int4 are */
#define LIST_PIECES     8   /* of a warp, at all modules, in a list */

/* A ring of FRAGS rank tiles. */
template <int FRAGS> struct expand_shape {
    static constexpr int chunk = FRAGS >= 8 ? 4 : 2; /* rank tiles */
    static constexpr int slots = FRAGS / chunk;
    static constexpr int slot_bytes = chunk * RANK_TILE_BYTES;
    static_assert(slots >= 2, "one to read and one to fill");
    static_assert(slot_bytes >= 1024, "a chunk of codes");
};

/* Pieces on the tiles of a pass. `pieces` and `u` are the state's: where the compiler can see that
 * they are shared memory, it need not ask at each load. */
struct expand_range {
    const struct linear_dev *p;
    struct lora_state *l;
    const struct piece_entry *pieces;
    const uint8_t *u;
    int tile, tiles;
    int first, rows; /* row block */
};

PTX_INLINE struct expand_range expand_range_of(const struct linear_dev *p, struct lora_state *l,
                                               const struct lora_room *room, int tile, int tiles,
                                               int first, int rows)
{
    const uint8_t *u = room->at + room->table * sizeof(struct piece_entry);
    return {p, l, (const struct piece_entry *)room->at, u, tile, tiles, first, rows};
}

/* What a warp does of a piece at a module. All zero: nothing. */
struct expand_run {
    const uint8_t *b; /* of its first tile */
    float low, high;  /* scales of rows g and g + 8 of a tile */
    uint32_t tiles;   /* bytes: first tile of the pass, step, how many, rank tiles of each */
    uint32_t rows;    /* bytes: first row in the row block (signed), rows, rank tiles of u, of up */
    uint32_t u;       /* halves: where u and up begin in lora_state.u, in rows of 32 bytes */
    uint32_t piece;   /* half, bytes: which, its rank tiles in front of u and of up */
    uint32_t codes;   /* enum lora_codes, 256 * first tile in its module */
};

PTX_INLINE int byte_of(uint32_t v, int i)
{
    return (int)(v >> i * 8 & 255);
}

PTX_INLINE uint32_t bytes_of(int a, int b, int c, int d)
{
    return (uint32_t)(a & 255) | (uint32_t)b << 8 | (uint32_t)c << 16 | (uint32_t)d << 24;
}

/* A lane's run. */
template <bool CODES>
PTX_INLINE struct expand_run expand_run_of(const struct piece_entry *e,
                                           const struct expand_range *r, int q, int m, int share,
                                           int k_step)
{
    const struct linear_dev *p = r->p;
    const bool pair = p->out == LINEAR_SWIGLU;
    const int first = p->module_tile[m], count = expand_count(p, e, m), row = e->row - r->first;
    const int k = max(0, first - r->tile) + share;
    const int k_end = min(r->tiles, module_end(p, m) - r->tile);
    struct expand_run run = {};
    if (k >= k_end || count == 0 || row >= r->rows || row + e->rows <= 0)
        return run;
    const int tile = r->tile + k - first, low = e->module_tile[r->l->low];
    const int u = e->module_tile[m], up = e->module_tile[1];
    const int codes = CODES ? e->codes : LORA_BF16;
    run.b = e->b[m] + (CODES && codes ? lora_b_at(codes, pair, count, tile)
                                      : (size_t)tile * count * RANK_TILE_BYTES);
    run.low = e->scale[m];
    run.high = pair ? e->scale[1] : run.low;
    run.tiles = bytes_of(k, k_step, (k_end - k + k_step - 1) / k_step, count);
    run.rows = bytes_of(row, e->rows, e->module_tile[m + 1] - u, e->module_tile[2] - up);
    run.u = (uint32_t)(e->u_at + (u - low) * e->rows) | (uint32_t)(e->u_at + (up - low) * e->rows)
                                                            << 16;
    run.piece = (uint32_t)q | (uint32_t)u << 16 | (uint32_t)up << 24;
    if (CODES)
        run.codes = (uint32_t)codes | (uint32_t)tile << 8;
    return run;
}

template <bool CODES>
LINEAR_CALL void expand_run_far(struct expand_run *run, const struct expand_range *r, int q, int m,
                                int share, int k_step)
{
    const struct lora_piece piece = r->p->pieces[q]; /* it is not kept: u_at is nobody's */
    const struct piece_entry far = piece_entry_of(piece_stack(r->p, piece.slot), piece);
    *run = expand_run_of<CODES>(&far, r, q, m, share, k_step);
}

/* This warp's runs of a round: pieces LIST_PIECES * batch .. of its own, at all modules. */
template <bool CODES>
PTX_INLINE struct expand_run expand_list(const struct expand_range *r, int round, int batch,
                                         const struct place *at)
{
    const struct linear_dev *p = r->p;
    const struct lora_state *l = r->l;
    const int begin = round ? l->head.round_end[round - 1] : 0, end = l->head.round_end[round];
    const int step = max(1, min(end - begin, LINEAR_WARPS)); /* pieces at once */
    const int share = at->warp / step, k_step = LINEAR_WARPS / step;
    const int m = at->lane / LIST_PIECES;
    const int q = begin + at->warp % step + (batch * LIST_PIECES + at->lane % LIST_PIECES) * step;
    struct expand_run run = {};
    if (share >= k_step || m >= (p->out == LINEAR_SWIGLU ? 1 : STACK_MODULES) || q >= end)
        return run;
    if (q < l->table)
        return expand_run_of<CODES>(&r->pieces[q], r, q, m, share, k_step);
    const struct expand_range here = *r;
    struct expand_run far;
    expand_run_far<CODES>(&far, &here, q, m, share, k_step);
    return far;
}

/* What a warp fetches next. */
struct expand_feed {
    struct expand_run run; /* this lane's */
    unsigned runs, ahead;  /* bit i: lane i has one; it is yet to be fetched */
    int tiles, left;       /* tiles of the run to come, rank tiles of the first of them to come */
    int count;             /* rank tiles a tile */
    int skip;              /* bytes from behind a tile's last chunk to the next tile's begin */
    const uint8_t *b;      /* this lane's bytes of the next chunk; of codes: the warp's */
    int codes;             /* enum lora_codes */
    int tile, k_step;      /* of codes: the tile to come, in its module, and the step to the next */
};

/* The next run of the list. */
template <int FRAGS, bool CODES>
PTX_INLINE void feed_run(struct expand_feed *f, const struct place *at)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    const int i = __ffs((int)f->ahead) - 1;
    const uint32_t tiles = __shfl_sync(~0u, f->run.tiles, i);
    const int k_step = byte_of(tiles, 1);
    f->ahead &= f->ahead - 1;
    f->tiles = byte_of(tiles, 2);
    f->count = f->left = byte_of(tiles, 3);
    f->b = (const uint8_t *)__shfl_sync(~0u, (unsigned long long)f->run.b, i);
    if (CODES) {
        const uint32_t codes = __shfl_sync(~0u, f->run.codes, i);
        f->codes = byte_of(codes, 0);
        f->tile = (int)(codes >> 8);
        f->k_step = k_step;
        f->skip = (k_step - 1) * f->count * (RANK_TILE_BYTES >> f->codes);
    }
    if (!CODES || !f->codes) {
        f->b += at->lane * 16;
        f->skip = (k_step * f->count - (f->count + chunk - 1) / chunk * chunk) * RANK_TILE_BYTES;
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

/* One chunk into its slot, this lane's bytes. */
template <int FRAGS> PTX_INLINE void feed_plain(struct expand_feed *f, uint8_t *slot)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    if (f->left >= chunk) {
#pragma unroll
        for (int i = 0; i < chunk; i++)
            ptx_cp_async16(slot + i * RANK_TILE_BYTES, f->b + i * RANK_TILE_BYTES);
    } else {
#pragma unroll 1
        for (int i = 0; i < f->left; i++)
            ptx_cp_async16(slot + i * RANK_TILE_BYTES, f->b + i * RANK_TILE_BYTES);
    }
    f->b += chunk * RANK_TILE_BYTES;
    f->left -= chunk;
    if (f->left > 0)
        return;
    f->left = f->count;
    f->tiles--;
    f->b += f->skip;
}

/* The next chunk of the list into a slot: this lane's bytes of it. */
template <int FRAGS, bool CODES>
PTX_INLINE void expand_issue(struct expand_feed *f, const struct expand_range *r, uint8_t *slot,
                             const struct place *at)
{
    if (CODES)
        __syncwarp(); /* all lanes have read what lay there: of codes not each its own */
    if (f->tiles > 0) {
        if (CODES && f->codes)
            feed_codes(f, r, slot - at->lane * 16, at);
        else
            feed_plain<FRAGS>(f, slot);
        if (f->tiles == 0 && f->ahead)
            feed_run<FRAGS, CODES>(f, at);
    }
    ptx_cp_async_commit();
}

/* The list of a round and its first chunks. */
template <int FRAGS, bool CODES>
PTX_INLINE void expand_begin(struct expand_feed *f, const struct expand_range *r, int round,
                             int batch, uint8_t *ring, const struct place *at)
{
    *f = {};
    f->run = expand_list<CODES>(r, round, batch, at);
    f->runs = f->ahead = __ballot_sync(~0u, f->run.tiles != 0);
    if (f->ahead)
        feed_run<FRAGS, CODES>(f, at);
#pragma unroll 1
    for (int i = 0; i < expand_shape<FRAGS>::slots; i++)
        expand_issue<FRAGS, CODES>(f, r, ring + i * expand_shape<FRAGS>::slot_bytes + at->lane * 16,
                                   at);
}

#endif
