/* lora_pieces: what a block of a linear has at hand of the adapters' pieces: a table of them, and u
 * in shared memory where it has room. Made before and right behind the wait for the node in front,
 * used by lora_runs.cuh and lora_expand.cuh.
 */
#ifndef CHORUS_CUDA_LORA_PIECES_CUH
#define CHORUS_CUDA_LORA_PIECES_CUH

#include "cuda/lora_device.cuh"

/* One piece at this linear. All zero: it has nothing here. */
struct alignas(16) piece_entry {
    const uint8_t *b[STACK_MODULES];
    float scale[STACK_MODULES]; /* with the piece's weight */
    int16_t row, rows;
    int16_t module_tile[STACK_MODULES + 1];
    int32_t u_at;  /* rows of 32 bytes of the pieces before it in lora_state.u */
    int32_t codes; /* enum lora_codes */
};

static_assert(sizeof(struct piece_entry) == PIECE_BYTES, "see linear_dev.cuh");

/* In shared memory, the same for all warps. */
struct lora_state {
    int count;     /* pieces; 0: none of them has anything here */
    int fine;      /* u comes as slices, see lora_device.cuh */
    int low, high; /* rank tiles of modules [low, high] are in u */
    int u_rows;    /* -1: u is not here */
    int table;     /* entries in `pieces` at most */
    int any_gain;
    int pair; /* gate and up; codes only */
    int round_end[LORA_ROUNDS];
    int before[FINE_PIECES]; /* fine: units before each piece */
    uint8_t *u;              /* [piece][rank tile][row][t] 8 bytes */
    struct piece_entry *pieces;
};

/* Room beside it: entries of the table, bytes of u behind them. */
struct lora_room {
    uint8_t *at;
    int table, u;
};

/* What all of it begins with, asked for first of all: how many pieces there are, and this thread's
 * one, should there be so many. */
struct lora_ahead {
    int count;
    struct lora_piece piece;
};

PTX_INLINE void lora_ask(struct lora_ahead *a, const struct linear_dev *p)
{
    a->count = p->head->pieces[p->view].count;
    if (threadIdx.x < PIECES_LEAST)
        a->piece = p->pieces[threadIdx.x];
}

template <bool CODES>
PTX_INLINE struct piece_entry piece_entry_of(const struct linear_dev *p,
                                             const struct lora_piece &piece)
{
    const struct lora_stack *s = piece_stack(p, piece.slot);
    struct piece_entry e = {};
    if (s->rank_tiles == 0)
        return e;
    e.row = (int16_t)piece.row;
    e.rows = (int16_t)piece.rows;
    e.codes = CODES ? s->codes : LORA_BF16;
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

PTX_INLINE int lanes_before(int v, int lane)
{
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        const int left = __shfl_up_sync(~0u, v, d);
        v += lane >= d ? left : 0;
    }
    return v;
}

/* By warp 0: what of u will be here and how it comes. */
PTX_INLINE void lora_count(struct lora_state *l, struct lora_room room, const struct linear_dev *p,
                           int count, int tile, int tile_end, int lane)
{
    struct piece_entry *table = (struct piece_entry *)room.at;
    const int here = min(count, room.table);
    int low = 0, high = p->out == LINEAR_SWIGLU ? 1 : STACK_MODULES - 1;
    while (tile >= module_end(p, low))
        low++;
    while (high > low && p->out != LINEAR_SWIGLU && tile_end <= p->module_tile[high])
        high--;
    int u_rows = 0, units = 0;
    for (int first = 0; first < here; first += 32) {
        const bool on = first + lane < here;
        struct piece_entry *e = table + first + (on ? lane : 0);
        const int own_u = on ? (e->module_tile[high + 1] - e->module_tile[low]) * e->rows : 0;
        const int own_units = on ? e->module_tile[STACK_MODULES] : 0;
        const int sum_u = lanes_before(own_u, lane), sum_units = lanes_before(own_units, lane);
        if (on)
            e->u_at = u_rows + sum_u - own_u;
        if (first == 0)
            l->before[lane] = sum_units - own_units;
        u_rows += __shfl_sync(~0u, sum_u, 31);
        units += __shfl_sync(~0u, sum_units, 31);
    }
    if (lane == 0) {
        l->count = units > 0 || count > here ? count : 0;
        l->fine = count == here && shrink_fine(p, units, count);
        l->low = low;
        l->high = high;
        l->u_rows = count == here && u_rows * 32 <= room.u ? u_rows : -1;
        l->table = room.table;
        l->pieces = table;
        l->u = room.at + room.table * sizeof *table;
    }
}

/* Before the wait for the node in front: the table of the pieces, and what of u will be here, for
 * tiles [tile, tile_end). Barriers inside. */
template <bool CODES>
PTX_INLINE void lora_find(struct lora_state *l, struct lora_room room, const struct linear_dev *p,
                          const struct lora_ahead *ahead, int tile, int tile_end,
                          const struct place *at)
{
    struct piece_entry *table = (struct piece_entry *)room.at;
    const struct lora_pieces *head = &p->head->pieces[p->view];
    struct lora_piece piece = ahead->piece; /* by value: a choice of places would be in memory */
    if ((int)threadIdx.x < min(ahead->count, room.table)) {
        if (threadIdx.x >= PIECES_LEAST)
            piece = p->pieces[threadIdx.x];
        table[threadIdx.x] = piece_entry_of<CODES>(p, piece);
    }
    if (threadIdx.x >= LINEAR_THREADS - LORA_ROUNDS)
        l->round_end[threadIdx.x % LORA_ROUNDS] = head->round_end[threadIdx.x % LORA_ROUNDS];
    if (threadIdx.x == LINEAR_THREADS - LORA_ROUNDS - 1)
        l->any_gain = head->any_gain;
    if (CODES && threadIdx.x == 0)
        l->pair = p->out == LINEAR_SWIGLU;
    __syncthreads(); /* entries, before their u is counted */
    if (at->warp == 0)
        lora_count(l, room, p, ahead->count, tile, tile_end, at->lane);
    __syncthreads(); /* the table */
}

/* The eight slices of a lane's four values of u in the fine form. */
PTX_INLINE uint2 u_total(const uint8_t *from)
{
    float v[4][LINEAR_SLICES];
#pragma unroll
    for (int i = 0; i < LINEAR_SLICES; i++) {
        const uint4 s = ptx_load_l2(from + i * 512);
        v[0][i] = __uint_as_float(s.x);
        v[1][i] = __uint_as_float(s.y);
        v[2][i] = __uint_as_float(s.z);
        v[3][i] = __uint_as_float(s.w);
    }
    return make_uint2(pack_bf16(slices_tree(v[0]), slices_tree(v[1])),
                      pack_bf16(slices_tree(v[2]), slices_tree(v[3])));
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

/* Item i of u in shared memory, 8 bytes each: where it comes from; fine: its slice 0. */
PTX_INLINE const uint8_t *u_from(const struct lora_state *l, const struct linear_dev *p, int i)
{
    int q = 0;
    for (int step = 32; step; step /= 2)
        if (q + step < l->count && l->pieces[q + step].u_at <= i / 4)
            q += step;
    const struct piece_entry *e = &l->pieces[q];
    const int at = i / 4 - e->u_at, lane = at % e->rows * 4 + i % 4;
    const int rank_tile = e->module_tile[l->low] + at / e->rows;
    return l->fine ? p->u + (size_t)(l->before[q] + rank_tile) * 4096 + lane * 16
                   : p->u + ((size_t)q * RANK_TILES_MAX + rank_tile) * 256 + lane * 8;
}

/* Behind the wait: u into shared memory, from item `from` on. A barrier follows before its use. */
PTX_INLINE void lora_gather(const struct lora_state *l, const struct linear_dev *p, int from)
{
    constexpr int batch = 4;
#pragma unroll 1
    for (int i = from + threadIdx.x; i < l->u_rows * 4; i += batch * LINEAR_THREADS) {
        uint2 v[batch];
#pragma unroll
        for (int k = 0; k < batch; k++)
            if (i + k * LINEAR_THREADS < l->u_rows * 4) {
                const uint8_t *at = u_from(l, p, i + k * LINEAR_THREADS);
                v[k] = l->fine ? u_total(at) : __ldcg((const uint2 *)at);
            }
#pragma unroll
        for (int k = 0; k < batch; k++)
            if (i + k * LINEAR_THREADS < l->u_rows * 4)
                *(uint2 *)(l->u + (i + k * LINEAR_THREADS) * 8) = v[k];
    }
}

/* The same for the first items in three parts, so that nobody waits: found before the wait, asked
 * for behind it, put there when the block has multiplied. fine: 8 lanes have an item, a slice each.
 */
struct gather_ahead {
    const uint8_t *from; /* NULL: this thread has none */
    uint4 v;
};

PTX_INLINE int gather_items(const struct lora_state *l)
{
    return l->fine ? LINEAR_THREADS / LINEAR_SLICES : LINEAR_THREADS;
}

PTX_INLINE void gather_find(struct gather_ahead *a, const struct lora_state *l,
                            const struct linear_dev *p)
{
    const int i = l->fine ? threadIdx.x / LINEAR_SLICES : threadIdx.x;
    a->from = NULL;
    if (i < l->u_rows * 4)
        a->from = u_from(l, p, i) + (l->fine ? threadIdx.x % LINEAR_SLICES * 512 : 0);
}

PTX_INLINE void gather_ask(struct gather_ahead *a, const struct lora_state *l)
{
    a->v = make_uint4(0, 0, 0, 0);
    if (!a->from)
        return;
    if (l->fine)
        a->v = ptx_load_l2(a->from);
    else
        ptx_load_l2_8(&a->v.x, &a->v.y, a->from);
}

PTX_INLINE float slices_shuffled(uint32_t v)
{
    float sum = __uint_as_float(v);
#pragma unroll
    for (int d = 1; d < LINEAR_SLICES; d *= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, d));
    return sum;
}

PTX_INLINE void gather_put(const struct gather_ahead *a, const struct lora_state *l)
{
    if (l->u_rows < 0)
        return;
    uint2 v = make_uint2(a->v.x, a->v.y);
    if (l->fine)
        v = make_uint2(pack_bf16(slices_shuffled(a->v.x), slices_shuffled(a->v.y)),
                       pack_bf16(slices_shuffled(a->v.z), slices_shuffled(a->v.w)));
    const int i = l->fine ? threadIdx.x / LINEAR_SLICES : threadIdx.x;
    if (a->from)
        *(uint2 *)(l->u + i * 8) = v;
}

#endif
