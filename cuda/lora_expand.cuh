/* lora_expand: adapters inside a linear: sums += weight scale B u, from the u of lora_device.cuh.
 *
 * A round of pieces at a time: a warp takes whole pieces, or, where there are fewer pieces than
 * warps, every so many tiles of one. Pieces of a round never share a row, so each element of the
 * sums has one writer between two barriers. B goes through a ring of a warp's own in shared memory,
 * in chunks of a few rank tiles of a tile, each with a note of what it is: B of many adapters is
 * most of what such a step reads, and the loop over it must be short, or it is not its bytes that
 * take the time but its instructions, which are cold each time. u of all pieces lies in shared
 * memory where it has room.
 */
#ifndef CHORUS_CUDA_LORA_EXPAND_CUH
#define CHORUS_CUDA_LORA_EXPAND_CUH

#include "cuda/lora_device.cuh"

/* Pieces that a block keeps at hand; those beyond are looked up each time. */
#define PIECE_TABLE     32
#define EXPAND_SLOTS    4   /* chunks of a ring at most */
#define RANK_TILE_BYTES 512 /* of B; of u a row takes 32 */

/* A ring of FRAGS rank tiles. */
template <int FRAGS> struct expand_shape {
    static constexpr int chunk = FRAGS >= 8 ? 4 : 2; /* rank tiles */
    static constexpr int slots = FRAGS / chunk;
    static_assert(slots >= 2 && slots <= EXPAND_SLOTS, "one to read and one to fill");
};

/* One piece at this linear. All zero: it has nothing here. */
struct piece_entry {
    const uint8_t *b[STACK_MODULES];
    float scale[STACK_MODULES]; /* with the piece's weight */
    int16_t row, rows;
    int16_t module_tile[STACK_MODULES + 1];
    int32_t u_at; /* rows of 32 bytes of the pieces before it in lora_state.u */
};

/* In shared memory, the same for all warps. */
struct lora_state {
    int count;      /* pieces */
    int fine;       /* u comes as slices, see lora_device.cuh */
    int low, high;  /* rank tiles of modules [low, high] are in u */
    int u_rows;     /* -1: u is not here */
    int before[32]; /* fine: units before each piece */
    uint8_t *u;     /* [piece][rank tile][row][t] 8 bytes */
    int4 note[LINEAR_WARPS][EXPAND_SLOTS];
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

LINEAR_CALL void piece_entry_far(struct piece_entry *e, const struct linear_dev *p, int q)
{
    *e = piece_entry_of(p, q);
}

/* Last tile but one of module m; gate and up count as one. */
PTX_INLINE int module_end(const struct linear_dev *p, int m)
{
    return p->out == LINEAR_SWIGLU || m + 1 == STACK_MODULES ? 1 << 30 : p->module_tile[m + 1];
}

/* Rank tiles of a tile of module m in B. */
PTX_INLINE int expand_count(const struct linear_dev *p, const struct piece_entry *e, int m)
{
    const int n = e->module_tile[m + 1] - e->module_tile[m];
    return p->out == LINEAR_SWIGLU ? max(n, e->module_tile[2] - e->module_tile[1]) : n;
}

/* Before the wait for the node in front: the table of the pieces, for tiles [tile, tile_end); by
 * warp 0 what becomes of u, room bytes at `u`. Barriers inside. */
PTX_INLINE void lora_find(struct lora_state *l, uint8_t *u, int room, const struct linear_dev *p,
                          int count, int tile, int tile_end, const struct place *at)
{
    if (threadIdx.x < min(count, PIECE_TABLE))
        l->pieces[threadIdx.x] = piece_entry_of(p, threadIdx.x);
    __syncthreads(); /* entries, before their u is counted */
    if (at->warp == 0) {
        int low = 0, high = p->out == LINEAR_SWIGLU ? 1 : STACK_MODULES - 1;
        while (tile >= module_end(p, low))
            low++;
        while (high > low && p->out != LINEAR_SWIGLU && tile_end <= p->module_tile[high])
            high--;
        struct unit_scan scan;
        const int units = scan_init(&scan, p, count, at->lane);
        const int left = __shfl_up_sync(~0u, scan.incl, 1);
        l->before[at->lane] = at->lane ? left : 0;
        struct piece_entry *e = &l->pieces[at->lane];
        const int own =
            at->lane < count ? (e->module_tile[high + 1] - e->module_tile[low]) * e->rows : 0;
        int sum = own;
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            const int v = __shfl_up_sync(~0u, sum, d);
            sum += at->lane >= d ? v : 0;
        }
        if (at->lane < count)
            e->u_at = sum - own;
        sum = __shfl_sync(~0u, sum, 31);
        if (at->lane == 0) {
            l->count = count;
            l->fine = shrink_fine(p, units, count);
            l->low = low;
            l->high = high;
            l->u_rows = count <= PIECE_TABLE && sum * 32 <= room ? sum : -1;
            l->u = u;
        }
    }
    __syncthreads(); /* the table */
}

/* The eight slices of a lane's four values of u in the fine form. */
PTX_INLINE uint2 u_total(const uint8_t *from)
{
    float s[4] = {0, 0, 0, 0};
    uint4 v[LINEAR_SLICES];
#pragma unroll
    for (int i = 0; i < LINEAR_SLICES; i++)
        v[i] = ptx_load_l2(from + i * 512);
#pragma unroll
    for (int i = 0; i < LINEAR_SLICES; i++) {
        s[0] = __fadd_rn(s[0], __uint_as_float(v[i].x));
        s[1] = __fadd_rn(s[1], __uint_as_float(v[i].y));
        s[2] = __fadd_rn(s[2], __uint_as_float(v[i].z));
        s[3] = __fadd_rn(s[3], __uint_as_float(v[i].w));
    }
    return make_uint2(pack_bf16(s[0], s[1]), pack_bf16(s[2], s[3]));
}

/* Values of ranks 2t, 2t + 1, 2t + 8, 2t + 9 of a rank tile of u. */
PTX_INLINE uint2 u_load(const struct linear_dev *p, const struct lora_state *l, int q,
                        int rank_tile, int row, int t)
{
    const int lane = row * 4 + t;
    if (l->fine)
        return u_total(p->u + (size_t)(l->before[q] + rank_tile) * 4096 + lane * 16);
    return __ldcg((const uint2 *)(p->u + ((size_t)q * RANK_TILES_MAX + rank_tile) * 256) + lane);
}

/* Behind the wait: u into shared memory. A barrier follows before its use. */
PTX_INLINE void lora_gather(const struct lora_state *l, const struct linear_dev *p)
{
#pragma unroll 1
    for (int i = threadIdx.x; i < l->u_rows * 4; i += LINEAR_THREADS) {
        int q = 0;
        for (int step = PIECE_TABLE / 2; step; step /= 2)
            if (q + step < l->count && l->pieces[q + step].u_at <= i / 4)
                q += step;
        const struct piece_entry *e = &l->pieces[q];
        const int at = i / 4 - e->u_at;
        *(uint2 *)(l->u + i * 8) =
            u_load(p, l, q, e->module_tile[l->low] + at / e->rows, at % e->rows, i % 4);
    }
}

/* What a warp fetches next, over the tiles of a pass. */
struct expand_feed {
    int round, module;
    int q; /* piece; -1: none of this round and module yet */
    int k; /* tile of the pass */
    int c; /* rank tile */
    int slot;
};

/* Pieces of a round, tiles [begin, end) of a pass. */
struct expand_range {
    const struct linear_dev *p;
    const struct lora_state *l;
    int tile, tiles;
    int first, rows; /* row block */
};

#define NOTE_LAST 1
#define NOTE_END  -1

/* One chunk into the ring: its note is {piece | tile << 16, module | round << 8 | rank tiles << 16,
 * first rank tile, NOTE_}. Always commits a group. */
template <int FRAGS>
PTX_INLINE void expand_issue(struct expand_feed *f, const struct expand_range *r, uint8_t *ring,
                             struct lora_state *l, const struct place *at)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    const struct linear_dev *p = r->p;
    int4 note = make_int4(0, LORA_ROUNDS << 8, 0, NOTE_END);
#pragma unroll 1
    while (f->round < LORA_ROUNDS) {
        const int32_t *ends = p->head->pieces[p->view].round_end;
        const int begin = f->round ? ends[f->round - 1] : 0, end = ends[f->round];
        const int low = max(0, p->module_tile[f->module] - r->tile);
        const int high = min(r->tiles, module_end(p, f->module) - r->tile);
        const int step = min(end - begin, LINEAR_WARPS); /* pieces at once */
        const int sharers = step > 0 ? LINEAR_WARPS / step : 1;
        const int share = step > 0 ? at->warp / step : 0;
        if (f->q < 0) {
            f->q = begin + (step > 0 ? at->warp % step : 0);
            f->k = low + share;
            f->c = 0;
        }
        if (share >= sharers || low >= high || f->q >= end) {
            f->q = -1;
            if (p->out == LINEAR_SWIGLU || ++f->module == STACK_MODULES) {
                f->module = 0;
                f->round++;
            }
            continue;
        }
        struct piece_entry far;
        const struct piece_entry *e = &l->pieces[f->q];
        if (f->q >= PIECE_TABLE) {
            piece_entry_far(&far, p, f->q);
            e = &far;
        }
        const int count = expand_count(p, e, f->module);
        const bool here = e->row - r->first < r->rows && e->row + e->rows > r->first;
        if (f->k >= high || count == 0 || !here) {
            f->q += step;
            f->k = low + share;
            f->c = 0;
            continue;
        }
        const int n = min(chunk, count - f->c);
        const uint8_t *from =
            e->b[f->module] +
            ((size_t)(r->tile + f->k - p->module_tile[f->module]) * count + f->c) *
                RANK_TILE_BYTES +
            at->lane * 16;
        uint8_t *to = ring + f->slot * chunk * RANK_TILE_BYTES + at->lane * 16;
        for (int i = 0; i < n; i++)
            ptx_cp_async16(to + i * RANK_TILE_BYTES, from + i * RANK_TILE_BYTES);
        note = make_int4(f->q | f->k << 16, f->module | f->round << 8 | n << 16, f->c,
                         f->c + n >= count ? NOTE_LAST : 0);
        f->c += n;
        if (note.w == NOTE_LAST) {
            f->c = 0;
            f->k += sharers;
        }
        break;
    }
    if (at->lane == 0)
        l->note[at->warp][f->slot] = note;
    if (++f->slot == expand_shape<FRAGS>::slots)
        f->slot = 0;
    ptx_cp_async_commit();
}

/* The first chunks of a pass. */
template <int FRAGS>
PTX_INLINE void expand_begin(struct expand_feed *f, const struct expand_range *r, uint8_t *ring,
                             struct lora_state *l, const struct place *at)
{
    *f = {0, 0, -1, 0, 0, 0};
#pragma unroll 1
    for (int i = 0; i < expand_shape<FRAGS>::slots; i++)
        expand_issue<FRAGS>(f, r, ring, l, at);
}

/* c += a chunk's products; at a tile's end sum[row (r, t)] += weight scale c. */
PTX_INLINE void expand_chunk(float c[4], float *sums, int tile_floats, const uint8_t *from,
                             const int4 note, const struct expand_range *r, const struct place *at)
{
    const struct linear_dev *p = r->p;
    const struct lora_state *l = r->l;
    const int q = note.x & 0xffff, k = note.x >> 16, m = note.y & 0xff, n = note.y >> 16;
    const bool pair = p->out == LINEAR_SWIGLU;
    struct piece_entry far;
    const struct piece_entry *e = &l->pieces[q];
    if (q >= PIECE_TABLE) {
        piece_entry_far(&far, p, q);
        e = &far;
    }
    const int first = e->module_tile[m], ranks = e->module_tile[m + 1] - first;
    const int first_up = e->module_tile[1], ranks_up = e->module_tile[2] - first_up;
    const int row = min(at->g, e->rows - 1);
    const bool here = l->u_rows >= 0;
    const uint8_t *u = l->u + (e->u_at - e->module_tile[l->low] * e->rows + row) * 32 + at->t * 8;
#pragma unroll 1
    for (int i = 0; i < n; i++) {
        const uint4 b = *(const uint4 *)(from + i * RANK_TILE_BYTES);
        const int rt = note.z + i;
        if (rt < ranks) {
            const uint2 v = here ? *(const uint2 *)(u + (first + rt) * e->rows * 32)
                                 : u_load(p, l, q, first + rt, row, at->t);
            ptx_mma_bf16(c, b.x, pair ? 0 : b.y, b.z, pair ? 0 : b.w, v.x, v.y);
        }
        if (pair && rt < ranks_up) {
            const uint2 v = here ? *(const uint2 *)(u + (first_up + rt) * e->rows * 32)
                                 : u_load(p, l, q, first_up + rt, row, at->t);
            ptx_mma_bf16(c, 0, b.y, 0, b.w, v.x, v.y);
        }
    }
    if (note.w != NOTE_LAST)
        return;
    const float low = e->scale[m], high = pair ? e->scale[1] : low;
    float *to = sums + k * tile_floats;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int j = at->t * 2 + i % 2, t = e->row + j - r->first;
        if (j < e->rows && t >= 0 && t < r->rows) {
            float *at_sum = to + slot_at(at->g + i / 2 * 8, t);
            *at_sum = __fmaf_rn(i < 2 ? low : high, c[i], *at_sum);
        }
        c[i] = 0;
    }
}

/* Adds all pieces to `sums`, slot of the pass's first tile. f: from expand_begin. */
template <int FRAGS>
PTX_INLINE void expand_all(float *sums, int tile_floats, struct expand_feed *f,
                           const struct expand_range *r, uint8_t *ring, struct lora_state *l,
                           const struct place *at)
{
    const struct linear_dev *p = r->p;
    float c[4] = {0, 0, 0, 0};
    int slot = f->slot; /* all are full: the oldest */
    int begin = 0;
    for (int round = 0; round < LORA_ROUNDS; round++) {
        const int end = p->head->pieces[p->view].round_end[round];
        if (end <= begin)
            continue;
        begin = end;
#pragma unroll 1
        for (;;) {
            ptx_cp_async_wait<expand_shape<FRAGS>::slots - 1>();
            __syncwarp(); /* all lanes' copies, and the note */
            const int4 note = l->note[at->warp][slot];
            if ((note.y >> 8 & 0xff) != round)
                break;
            expand_chunk(c, sums, tile_floats,
                         ring + slot * expand_shape<FRAGS>::chunk * RANK_TILE_BYTES + at->lane * 16,
                         note, r, at);
            __syncwarp(); /* the chunk is read */
            expand_issue<FRAGS>(f, r, ring, l, at);
            if (++slot == expand_shape<FRAGS>::slots)
                slot = 0;
        }
        __syncthreads(); /* a round's sums before the next round adds to them, or all are read */
    }
}

#endif
