/* lora_pieces: what a block of a linear has at hand of the adapters' pieces: a table of them, and u
 * in shared memory where it has room. Made before and right behind the wait for the node in front,
 * used by lora_expand.cuh.
 */
#ifndef CHORUS_CUDA_LORA_PIECES_CUH
#define CHORUS_CUDA_LORA_PIECES_CUH

#include "cuda/lora_device.cuh"

#define EXPAND_SLOTS 4 /* chunks of a ring of lora_expand.cuh at most */

/* One piece at this linear. All zero: it has nothing here. */
struct alignas(16) piece_entry {
    const uint8_t *b[STACK_MODULES];
    float scale[STACK_MODULES]; /* with the piece's weight */
    int16_t row, rows;
    int16_t module_tile[STACK_MODULES + 1];
    int32_t u_at; /* rows of 32 bytes of the pieces before it in lora_state.u */
};

static_assert(sizeof(struct piece_entry) == PIECE_BYTES, "see linear_dev.cuh");

/* In shared memory, the same for all warps. */
struct lora_state {
    int count;               /* pieces; 0: none of them has anything here */
    int fine;                /* u comes as slices, see lora_device.cuh */
    int low, high;           /* rank tiles of modules [low, high] are in u */
    int u_rows;              /* -1: u is not here */
    int table;               /* entries in `pieces` at most */
    int before[FINE_PIECES]; /* fine: units before each piece */
    uint8_t *u;              /* [piece][rank tile][row][t] 8 bytes */
    struct piece_entry *pieces;
    int4 note[LINEAR_WARPS][EXPAND_SLOTS];
};

/* Room beside it: entries of the table, bytes of u behind them. */
struct lora_room {
    uint8_t *at;
    int table, u;
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

/* Before the wait for the node in front: the table of the pieces, and by warp 0 what of u will be
 * here, for tiles [tile, tile_end). Barriers inside. */
PTX_INLINE void lora_find(struct lora_state *l, struct lora_room room, const struct linear_dev *p,
                          int count, int tile, int tile_end, const struct place *at)
{
    struct piece_entry *table = (struct piece_entry *)room.at;
    if ((int)threadIdx.x < min(count, room.table))
        table[threadIdx.x] = piece_entry_of(p, threadIdx.x);
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
        int u_rows = 0;
        for (int q = at->lane; q - at->lane < min(count, room.table); q += 32) {
            const int own =
                q < min(count, room.table)
                    ? (table[q].module_tile[high + 1] - table[q].module_tile[low]) * table[q].rows
                    : 0;
            int sum = own;
#pragma unroll
            for (int d = 1; d < 32; d *= 2) {
                const int v = __shfl_up_sync(~0u, sum, d);
                sum += at->lane >= d ? v : 0;
            }
            if (q < min(count, room.table))
                table[q].u_at = u_rows + sum - own;
            u_rows += __shfl_sync(~0u, sum, 31);
        }
        if (at->lane == 0) {
            l->count = units > 0 ? count : 0;
            l->fine = shrink_fine(p, units, count);
            l->low = low;
            l->high = high;
            l->u_rows = count <= room.table && u_rows * 32 <= room.u ? u_rows : -1;
            l->table = room.table;
            l->pieces = table;
            l->u = room.at + room.table * sizeof *table;
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
        for (int step = 32; step; step /= 2)
            if (q + step < l->count && l->pieces[q + step].u_at <= i / 4)
                q += step;
        const struct piece_entry *e = &l->pieces[q];
        const int at = i / 4 - e->u_at;
        *(uint2 *)(l->u + i * 8) =
            u_load(p, l, q, e->module_tile[l->low] + at / e->rows, at % e->rows, i % 4);
    }
}

#endif
