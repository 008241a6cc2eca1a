/* attend_keys: the node in front of attention where a sequence has several rows: keys and values of
 * all rows to their pages, and q' where prompts follow. */
#ifndef CHORUS_CUDA_ATTEND_KEYS_CUH
#define CHORUS_CUDA_ATTEND_KEYS_CUH

#include "cuda/attend_heads.cuh"

#define KEYS_WARPS 8

/* q' times scale and log2 e, in place of the row's result: for k_attend_prefill. */
static __device__ __forceinline__ void put_query(const struct attend_call &c, int row, int head,
                                                 struct head_pairs<PAIRS_MAX> r, int lane)
{
    float scale = c.a.scale * LOG2E;
#pragma unroll
    for (int j = 0; j < PAIRS_MAX; j++) {
        r.x[j] *= scale;
        r.y[j] *= scale;
    }
    uint16_t *to = (uint16_t *)c.a.out + (size_t)row * c.a.out_stride + head * c.a.head_dim;
    put_pairs(r, c.a.head_dim / 2, lane, to, NULL);
}

/* Grid (rows_max), a warp a head. */
template <bool INT8>
__global__ __launch_bounds__(KEYS_WARPS *
                             32) void k_attend_keys(const __grid_constant__ struct attend_call c)
{
    ptx_pdl_trigger();
    int row = (int)blockIdx.x, lane = (int)threadIdx.x % 32, pairs = c.a.head_dim / 2;
    bool mine = row < c.s.head->rows[VIEW_ROWS];
    if (!mine && row > 0)
        return;
    int pos = 0, page = 0;
    struct head_pairs<PAIRS_MAX> cs, q_norm, k_norm;
    if (mine) {
        pos = c.s.position[row];
        page = c.s.pages[c.s.page_begin[c.s.seq_of_row[row]] + pos / PAGE];
        load_angles(c, pos, lane, &cs);
        load_norm(c.a.q_norm, pairs, lane, &q_norm);
        load_norm(c.a.k_norm, pairs, lane, &k_norm);
    }
    ptx_pdl_wait();
    if (!mine)
        return;
    size_t slot = (size_t)(pos % PAGE) * (size_t)c.a.head_dim;
    int heads = 2 * c.a.kv_heads + (c.a.pieces_max > 0 ? c.a.heads : 0);
    for (int i = (int)threadIdx.x / 32; i < heads; i += KEYS_WARPS) {
        int kv_head = i / 2, head = i - 2 * c.a.kv_heads;
        struct head_pairs<PAIRS_MAX> r;
        if (head >= 0) {
            load_head(item_at(c, row, 0, 0, c.a.heads, head), pairs, lane, &r);
            turn(c, c.a.q_norm != NULL, q_norm, cs, &r);
            put_query(c, row, head, r, lane);
            continue;
        }
        load_head(item_at(c, row, kv_head, 0, 0, i % 2), pairs, lane, &r);
        if (i % 2 == 0)
            turn(c, c.a.k_norm != NULL, k_norm, cs, &r);
        if (INT8)
            put_int8(r, pairs, lane, (uint8_t *)NULL, NULL, int8_at(c, page, i % 2, kv_head),
                     pos % PAGE, int8_row(c));
        else
            put_pairs(r, pairs, lane, kv_at(c, page, i % 2, kv_head) + slot, NULL);
    }
}

#endif
