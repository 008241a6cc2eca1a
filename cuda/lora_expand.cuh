/* lora_expand: adapters inside a linear: sums += weight scale B u, from the u of lora_device.cuh.
 *
 * A round of pieces at a time over the tiles of one module: a warp takes whole pieces, or, where
 * there are fewer pieces than warps, every so many tiles of one. Pieces of a round never share a
 * row, so each element of the sums has one writer between two barriers. A warp has B and u of its
 * next EXPAND_AHEAD steps under way, a step being at most EXPAND_RANKS rank tiles of a tile: B of
 * many adapters is most of what such a step reads, and comes once.
 */
#ifndef CHORUS_CUDA_LORA_EXPAND_CUH
#define CHORUS_CUDA_LORA_EXPAND_CUH

#include "cuda/lora_device.cuh"

#define EXPAND_RANKS 4
#define EXPAND_AHEAD 4
/* Pieces that a block keeps at hand; those beyond are looked up each time. */
#define PIECE_TABLE 32

/* One piece at this linear. All zero: it has nothing here. */
struct piece_entry {
    const uint8_t *b[STACK_MODULES];
    float scale[STACK_MODULES]; /* with the piece's weight */
    int16_t row, rows;
    int16_t module_tile[STACK_MODULES + 1];
};

/* In shared memory, the same for all warps. */
struct lora_state {
    int count;      /* pieces */
    int fine;       /* units in that form; 0: coarse */
    int before[32]; /* fine: units before each piece */
    uint2 *u;       /* fine: [FINE_UNITS * 32], u as the coarse form has it */
    struct piece_entry pieces[PIECE_TABLE];
};

PTX_INLINE struct piece_entry piece_entry_of(const struct linear_dev *p, int q)
{
    const struct lora_piece piece = p->pieces[q];
    const struct lora_stack *s = piece_stack(p, piece.slot);
    struct piece_entry e = {};
    if (s->rank_tiles == 0)
        return e;
    e.row = (int16_t)piece.row;
    e.rows = (int16_t)piece.rows;
#pragma unroll
    for (int m = 0; m < STACK_MODULES; m++) {
        e.b[m] = s->b[m];
        e.scale[m] = piece.weight * s->scale[m];
    }
#pragma unroll
    for (int m = 0; m <= STACK_MODULES; m++)
        e.module_tile[m] = (int16_t)s->module_tile[m];
    return e;
}

/* Before the wait for the node in front: the table, and by warp 0 which form it will leave u in. A
 * barrier follows before the first use. */
PTX_INLINE void lora_find(struct lora_state *l, uint2 *u, const struct linear_dev *p, int count,
                          const struct place *at)
{
    for (int q = threadIdx.x; q < min(count, PIECE_TABLE); q += LINEAR_THREADS)
        l->pieces[q] = piece_entry_of(p, q);
    if (at->warp != 0)
        return;
    struct unit_scan scan;
    const int units = scan_init(&scan, p, count, at->lane);
    l->count = count;
    l->u = u;
    l->fine = shrink_fine(p, units, count) ? units : 0;
    int left = __shfl_up_sync(~0u, scan.incl, 1);
    l->before[at->lane] = at->lane ? left : 0;
}

/* Behind the wait: fine u is added up once. A barrier in front, and one before its use. */
PTX_INLINE void lora_gather(struct lora_state *l, const struct linear_dev *p,
                            const struct place *at)
{
    for (int unit = at->warp; unit < l->fine; unit += LINEAR_WARPS) {
        const uint8_t *from = p->u + (size_t)unit * 4096 + at->lane * 16;
        uint4 v[LINEAR_SLICES];
#pragma unroll
        for (int i = 0; i < LINEAR_SLICES; i++)
            v[i] = ptx_load_l2(from + i * 512);
        float s[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < LINEAR_SLICES; i++) {
            s[0] = __fadd_rn(s[0], __uint_as_float(v[i].x));
            s[1] = __fadd_rn(s[1], __uint_as_float(v[i].y));
            s[2] = __fadd_rn(s[2], __uint_as_float(v[i].z));
            s[3] = __fadd_rn(s[3], __uint_as_float(v[i].w));
        }
        l->u[unit * 32 + at->lane] = make_uint2(pack_bf16(s[0], s[1]), pack_bf16(s[2], s[3]));
    }
}

/* Asks the pieces' B of tiles [tile, tile_end) into L2, a warp a piece. Behind a barrier. */
PTX_INLINE void expand_prefetch(const struct linear_dev *p, const struct lora_state *l, int pieces,
                                int tile, int tile_end, const struct place *at)
{
    for (int q = at->warp; q < min(pieces, PIECE_TABLE); q += LINEAR_WARPS) {
        const struct piece_entry *e = &l->pieces[q];
        const bool pair = p->out == LINEAR_SWIGLU;
        for (int m = 0; m < (pair ? 1 : STACK_MODULES); m++) {
            const int low = max(tile, p->module_tile[m]);
            const int high =
                !pair && m + 1 < STACK_MODULES ? min(tile_end, p->module_tile[m + 1]) : tile_end;
            const int own = e->module_tile[m + 1] - e->module_tile[m];
            const int count = pair ? max(own, e->module_tile[2] - e->module_tile[1]) : own;
            const uint8_t *b = e->b[m] + (size_t)(low - p->module_tile[m]) * count * 512;
            for (int i = at->lane * 128; i < (high - low) * count * 512; i += 32 * 128)
                ptx_prefetch_l2(b + i);
        }
    }
}

/* What a warp's walk goes over: pieces of a round, tiles of one module. */
struct expand_field {
    int end;    /* of the pieces */
    int module; /* 0 for gate and up together */
    int tiles;
    int local;       /* first tile within its module */
    int first, rows; /* row block */
};

/* Where a warp is: what it fetches next. */
struct expand_walk {
    int q, q_step;
    int k, k_begin, k_step;
    int c; /* next rank tile */
    const uint8_t *b;
    int count;                            /* rank tiles of a tile in b; 0: the piece has none */
    int u_row;                            /* this lane's row of the piece */
    int ranks, first, ranks_up, first_up; /* of u */
};

struct expand_step {
    uint4 b[EXPAND_RANKS];
    uint2 u[EXPAND_RANKS], up[EXPAND_RANKS];
    int q, k;
    int last;  /* the tile's last step */
    int ranks; /* of b; 0: the end */
};

PTX_INLINE void walk_piece(struct expand_walk *w, const struct linear_dev *p,
                           const struct lora_state *l, const struct expand_field *f,
                           const struct place *at)
{
    const struct piece_entry e = w->q < PIECE_TABLE ? l->pieces[w->q] : piece_entry_of(p, w->q);
    const int m = f->module;
    w->first = e.module_tile[m];
    w->ranks = e.module_tile[m + 1] - w->first;
    w->first_up = e.module_tile[1];
    w->ranks_up = p->out == LINEAR_SWIGLU ? e.module_tile[2] - w->first_up : 0;
    w->b = e.b[m];
    w->u_row = min(at->g, e.rows - 1);
    const bool here = e.row - f->first < f->rows && e.row + e.rows > f->first;
    w->count = here ? max(w->ranks, w->ranks_up) : 0;
}

/* The B fragment of a rank tile of u. Lanes of rows that the piece has not read one that it has. */
PTX_INLINE uint2 u_load(const struct linear_dev *p, const struct lora_state *l,
                        const struct expand_walk *w, int rank_tile, const struct place *at)
{
    const int lane = w->u_row * 4 + at->t;
    if (l->fine)
        return l->u[(l->before[w->q] + rank_tile) * 32 + lane];
    return __ldcg((const uint2 *)(p->u + ((size_t)w->q * RANK_TILES_MAX + rank_tile) * 256) + lane);
}

template <bool PAIR>
PTX_INLINE void expand_fetch(struct expand_step *s, struct expand_walk *w,
                             const struct expand_field *f, const struct linear_dev *p,
                             const struct lora_state *l, const struct place *at)
{
    if (w->c >= w->count) { /* the tile is done */
        w->c = 0;
        w->k += w->k_step;
        while (w->k >= f->tiles || w->count == 0) { /* so is the piece */
            w->q += w->q_step;
            if (w->q >= f->end) {
                w->count = s->ranks = 0;
                return;
            }
            w->k = w->k_begin;
            walk_piece(w, p, l, f, at);
        }
    }
    s->q = w->q;
    s->k = w->k;
    s->ranks = min(EXPAND_RANKS, w->count - w->c);
    s->last = w->c + EXPAND_RANKS >= w->count;
    const uint8_t *b = w->b + ((size_t)(f->local + w->k) * w->count + w->c) * 512 + at->lane * 16;
#pragma unroll
    for (int i = 0; i < EXPAND_RANKS; i++)
        if (i < s->ranks)
            s->b[i] = ptx_load_stream(b + i * 512);
#pragma unroll
    for (int i = 0; i < EXPAND_RANKS; i++) {
        s->u[i] = s->up[i] = make_uint2(0, 0);
        if (w->c + i < w->ranks)
            s->u[i] = u_load(p, l, w, w->first + w->c + i, at);
        if (PAIR && w->c + i < w->ranks_up)
            s->up[i] = u_load(p, l, w, w->first_up + w->c + i, at);
    }
    w->c += EXPAND_RANKS;
}

/* c += a step's products; at a tile's end sum[row (r, t)] += weight scale c. sum: slot of the
 * segment's first tile. */
template <bool PAIR>
PTX_INLINE void expand_apply(float c[4], float *sum, int tile_floats, const struct expand_step *s,
                             const struct expand_field *f, const struct linear_dev *p,
                             const struct lora_state *l, const struct place *at)
{
#pragma unroll
    for (int i = 0; i < EXPAND_RANKS; i++) {
        if (i >= s->ranks)
            break;
        if (PAIR) {
            ptx_mma_bf16(c, s->b[i].x, 0, s->b[i].z, 0, s->u[i].x, s->u[i].y);
            ptx_mma_bf16(c, 0, s->b[i].y, 0, s->b[i].w, s->up[i].x, s->up[i].y);
        } else {
            ptx_mma_bf16(c, s->b[i].x, s->b[i].y, s->b[i].z, s->b[i].w, s->u[i].x, s->u[i].y);
        }
    }
    if (!s->last)
        return;
    const struct piece_entry *e = &l->pieces[min(s->q, PIECE_TABLE - 1)];
    struct piece_entry far;
    if (s->q >= PIECE_TABLE) {
        far = piece_entry_of(p, s->q);
        e = &far;
    }
    const float low = e->scale[f->module], high = PAIR ? e->scale[1] : low;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int j = at->t * 2 + i % 2, t = e->row + j - f->first;
        if (j < e->rows && t >= 0 && t < f->rows) {
            float *to = sum + s->k * tile_floats + slot_at(at->g + i / 2 * 8, t);
            *to = __fmaf_rn(i < 2 ? low : high, c[i], *to);
        }
        c[i] = 0;
    }
}

/* All pieces [begin, f->end) of a round on the tiles of a segment. */
template <bool PAIR>
PTX_INLINE void expand_walk_all(float *sum, int tile_floats, int begin,
                                const struct expand_field *f, const struct linear_dev *p,
                                const struct lora_state *l, const struct place *at)
{
    const int pieces = f->end - begin, sharers = max(1, LINEAR_WARPS / pieces);
    struct expand_walk w = {};
    w.q_step = min(pieces, LINEAR_WARPS);
    w.q = begin + at->warp % w.q_step - w.q_step;
    w.k = f->tiles;
    w.k_begin = at->warp / w.q_step < sharers ? at->warp / w.q_step : f->tiles;
    w.k_step = sharers;
    struct expand_step s[EXPAND_AHEAD];
    float c[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < EXPAND_AHEAD; i++)
        expand_fetch<PAIR>(&s[i], &w, f, p, l, at);
    for (;;)
#pragma unroll
        for (int i = 0; i < EXPAND_AHEAD; i++) {
            if (s[i].ranks == 0)
                return;
            expand_apply<PAIR>(c, sum, tile_floats, &s[i], f, p, l, at);
            expand_fetch<PAIR>(&s[i], &w, f, p, l, at);
        }
}

/* Adds all pieces to the sums in `sums`, tiles [tile, tile + tiles), rows [first, first + rows). */
PTX_INLINE void expand_all(float *sums, int tile_floats, const struct linear_dev *p,
                           const struct lora_state *l, int tile, int tiles, int first, int rows,
                           const struct place *at)
{
    int begin = 0;
    for (int round = 0; round < LORA_ROUNDS; round++) {
        const int end = p->head->pieces[p->view].round_end[round];
        if (end <= begin)
            continue;
        struct expand_field f = {end, 0, tiles, tile, first, rows};
        if (p->out == LINEAR_SWIGLU)
            expand_walk_all<true>(sums, tile_floats, begin, &f, p, l, at);
        else
            for (int k = 0; k < tiles; k += f.tiles) { /* tiles of one module */
                while (f.module + 1 < STACK_MODULES && tile + k >= p->module_tile[f.module + 1])
                    f.module++;
                f.local = tile + k - p->module_tile[f.module];
                f.tiles = tiles - k;
                if (f.module + 1 < STACK_MODULES)
                    f.tiles = min(f.tiles, p->module_tile[f.module + 1] - tile - k);
                expand_walk_all<false>(sums + k * tile_floats, tile_floats, begin, &f, p, l, at);
            }
        begin = end;
        __syncthreads(); /* a round's sums before the next round adds to them, or all are read */
    }
}

#endif
