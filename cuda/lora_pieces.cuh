/* lora_pieces: what a block of a linear has at hand of the adapters' pieces: a copy of what
 * k_pieces.h says of them, copied before the wait for the node in front, and u where it has room,
 * copied when the block has multiplied. Used by lora_runs.cuh and lora_expand.cuh.
 */
#ifndef CHORUS_CUDA_LORA_PIECES_CUH
#define CHORUS_CUDA_LORA_PIECES_CUH

#include "cuda/lora_device.cuh"
#include "cuda/piece_of.cuh"

/* In shared memory, the same for all warps. */
struct alignas(16) lora_state {
    struct piece_head head;
    int fine;      /* u comes as slices, see lora_device.cuh */
    int low, high; /* rank tiles of modules [low, high] are in u */
    int u_rows;    /* -1: u is not here */
    int table;     /* entries in `pieces` at most */
    int pair;      /* gate and up; codes only */
    uint8_t *u;    /* [piece][rank tile][row][t] 8 bytes */
    struct piece_entry *pieces;
};

/* Room beside it: entries of the table, bytes of u behind them. */
struct lora_room {
    uint8_t *at;
    int table, u;
};

/* Lots of 16 bytes of a record that are asked for first of all, whether or not there are so many
 * pieces: the head and eight entries. */
#define LORA_ASKED (4 * (1 + 8))

/* This thread's one of them, and how many pieces have anything here. */
struct lora_ahead {
    int count;
    uint4 v;
};

PTX_INLINE void lora_ask(struct lora_ahead *a, const struct linear_dev *p)
{
    a->count = __ldcg(&p->here->head.count);
    if (threadIdx.x < LORA_ASKED)
        a->v = ptx_load_l2((const uint4 *)&p->here->head + threadIdx.x);
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

/* Modules [low, high] of tiles [tile, tile_end). */
PTX_INLINE void lora_modules(int *low, int *high, const struct linear_dev *p, int tile,
                             int tile_end)
{
    *low = 0;
    *high = p->out == LINEAR_SWIGLU ? 1 : STACK_MODULES - 1;
    while (tile >= module_end(p, *low))
        ++*low;
    while (*high > *low && p->out != LINEAR_SWIGLU && tile_end <= p->module_tile[*high])
        --*high;
}

/* From the three sums `cum` of an entry or the head, two a word: those of modules [low, high]. */
PTX_INLINE int cum_between(uint32_t cum01, uint32_t cum2, int low, int high)
{
    const int sums[] = {0, (int)(cum01 & 0xffff), (int)(cum01 >> 16), (int)(cum2 & 0xffff)};
    int before = 0, end = 0;
#pragma unroll
    for (int m = 0; m <= STACK_MODULES; m++) { /* no address is taken: they stay in registers */
        before = m == low ? sums[m] : before;
        end = m == high + 1 ? sums[m] : end;
    }
    return end - before;
}

/* Before the wait for the node in front: the pieces, and what of u will be here, for tiles
 * [tile, tile_end). A barrier inside. */
PTX_INLINE void lora_find(struct lora_state *l, struct lora_room room, const struct linear_dev *p,
                          const struct lora_ahead *ahead, int tile, int tile_end)
{
    static_assert(offsetof(struct piece_head, cum) == 8 && offsetof(struct piece_entry, cum) == 48,
                  "where they lie among the lots");
    const int here = min(ahead->count, room.table);
    const uint4 *from = (const uint4 *)&p->here->head;
    uint4 *entries = (uint4 *)room.at;
    int low, high;
    lora_modules(&low, &high, p, tile, tile_end);
    for (int i = threadIdx.x; i < 4 * (1 + here); i += LINEAR_THREADS) {
        uint4 v = i < LORA_ASKED ? ahead->v : ptx_load_l2(from + i);
        if (i < 4) {
            ((uint4 *)&l->head)[i] = v;
            continue;
        }
        if (i % 4 == 3)
            v.z = cum_between(v.x, v.y, low, high);
        entries[i - 4] = v;
    }
    if (threadIdx.x == 0) { /* it has asked for the head's first lot */
        const int count = ahead->count, u_rows = cum_between(ahead->v.z, ahead->v.w, low, high);
        l->fine = count == here && shrink_fine(p, (int)ahead->v.y, count);
        l->low = low;
        l->high = high;
        l->u_rows = count == here && u_rows * 32 <= room.u ? u_rows : -1;
        l->table = room.table;
        l->pair = p->out == LINEAR_SWIGLU;
        l->pieces = (struct piece_entry *)room.at;
        l->u = room.at + room.table * sizeof(struct piece_entry);
    }
    __syncthreads(); /* all of it */
}

/* The eight slices of a lane's four values of u in the fine form. */
PTX_INLINE uint2 u_total(const uint8_t *from)
{
    float v[4][LINEAR_SLICES];
#pragma unroll
    for (int i = 0; i < LINEAR_SLICES; i++) {
        const uint2 low = u_load(from + i * U_SLICE),
                    high = u_load(from + i * U_SLICE + U_SLICE / 2);
        v[0][i] = __uint_as_float(low.x);
        v[1][i] = __uint_as_float(low.y);
        v[2][i] = __uint_as_float(high.x);
        v[3][i] = __uint_as_float(high.y);
    }
    return make_uint2(pack_bf16(slices_tree(v[0]), slices_tree(v[1])),
                      pack_bf16(slices_tree(v[2]), slices_tree(v[3])));
}

/* Item i of u in shared memory, 8 bytes each: where it comes from; fine: its slice 0. */
PTX_INLINE const uint8_t *u_from(const struct lora_state *l, const struct linear_dev *p, int i)
{
    int q = 0;
    for (int step = 32; step; step /= 2)
        if (q + step < l->head.count && l->pieces[q + step].u_at <= i / 4)
            q += step;
    const struct piece_entry *e = &l->pieces[q];
    const int at = i / 4 - e->u_at, lane = at % e->rows * 4 + i % 4;
    const int rank_tile = e->module_tile[l->low] + at / e->rows;
    return p->u + lane * 16 +
           (l->fine ? (size_t)(e->before + rank_tile) * LINEAR_SLICES * U_SLICE
                    : ((size_t)q * RANK_TILES_MAX + rank_tile) * U_UNIT);
}

/* u into shared memory, from item `from` on. A barrier follows before its use. */
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
                v[k] = l->fine ? u_total(at) : u_load(at);
            }
#pragma unroll
        for (int k = 0; k < batch; k++)
            if (i + k * LINEAR_THREADS < l->u_rows * 4)
                *(uint2 *)(l->u + (i + k * LINEAR_THREADS) * 8) = v[k];
    }
}

/* The same of what the grid's blocks make meanwhile, coarse, as it comes. What has no room here is
 * waited for: it is read where it is needed. */
PTX_INLINE void lora_gather_here(const struct lora_state *l, const struct linear_dev *p)
{
    const uint32_t tag = l->head.tag;
#pragma unroll 1
    for (int i = threadIdx.x; i < l->u_rows * 4; i += LINEAR_THREADS)
        *(uint2 *)(l->u + i * 8) = u_await(u_from(l, p, i), tag);
    if (l->u_rows >= 0)
        return;
    const struct place at = place_here();
#pragma unroll 1
    for (int q = at.warp; q < l->head.count; q += LINEAR_WARPS) {
        const struct lora_piece piece = p->pieces[q];
        const int tiles = piece_stack(p, piece.slot)->rank_tiles, lots = piece.rows * 4;
#pragma unroll 1
        for (int i = at.lane; i < tiles * lots; i += 32)
            u_await(p->u + ((size_t)q * RANK_TILES_MAX + i / lots) * U_UNIT + i % lots * 16, tag);
    }
}

/* The same for the first items where u is a node's in front, in three parts, so that nobody waits:
 * found before the wait for that node, asked for behind it (so it is there, whatever its tag), put
 * there when the block has multiplied. fine: 8 lanes have an item, a slice each.
 */
struct gather_ahead {
    const uint8_t *from; /* NULL: this thread has none */
    uint4 v;             /* without the tags; coarse: two of them */
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
        a->from = u_from(l, p, i) + (l->fine ? threadIdx.x % LINEAR_SLICES * U_SLICE : 0);
}

PTX_INLINE void gather_ask(struct gather_ahead *a, const struct lora_state *l)
{
    a->v = make_uint4(0, 0, 0, 0);
    if (!a->from)
        return;
    const uint4 v = ptx_load_l2(a->from);
    a->v.x = v.x;
    a->v.y = v.z;
    if (l->fine) {
        const uint4 high = ptx_load_l2(a->from + U_SLICE / 2);
        a->v.z = high.x;
        a->v.w = high.z;
    }
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
