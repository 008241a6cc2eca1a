/* k_linear_many: the kernel of k_linear.cu for more than 8 rows; see there. */
#ifndef CHORUS_CUDA_K_LINEAR_MANY_CUH
#define CHORUS_CUDA_K_LINEAR_MANY_CUH

#include "cuda/launch.cuh"
#include "cuda/linear_many.cuh"
#include "cuda/linear_many_end.cuh"
#include "cuda/lora_shrink.cuh"

/* S: a many_shape. */
template <class S, int LORA>
__global__ __launch_bounds__(LINEAR_THREADS,
                             1) void k_linear_many(const __grid_constant__ struct linear_dev p)
{
    constexpr int NT = S::nt;
    ptx_pdl_trigger();
    DYN_SMEM(smem);
    const struct place at = place_here();
    struct lora_ahead ahead = {};
    if (LORA)
        lora_ask(&ahead, &p);
    uint8_t *ring = smem + at.warp * S::stages * S::stage_bytes;
    float *red = (float *)(smem + S::ring_bytes);
    struct block_state<NT> *state = (struct block_state<NT> *)(red + S::red_bytes / 4);
    const int tile0 = tile_begin(&p, blockIdx.x), rows_all = p.head->rows[p.view];
    const struct many_range r = {tile_begin(&p, blockIdx.x + 1),
                                 (rows_all + NT * 8 - 1) / (NT * 8),
                                 rows_all,
                                 slice_begin(p.groups, at.warp),
                                 slice_begin(p.groups, at.warp + 1),
                                 (size_t)p.groups * format_traits<S::format>::tile_bytes};
    struct many_cursor cur = {tile0, 0, r.group, 0, 0}, cur_x = cur;
    struct many_from<S> from;
    many_seek_w<S>(&from, &cur, &p, &r, at.lane);
#pragma unroll
    for (int i = 0; i < S::stages - 1; i++)
        if (many_more(&cur, &r)) {
            many_weights<S>(&from, &cur, ring, &r, at.lane);
            many_next<S, true, false>(&from, &cur, &p, &r, &at);
        }
    const int pieces = ahead.count;
    const struct lora_room room = {(uint8_t *)(state + 1), S::table, S::u_room};
    struct shrink_ahead shrink;
    if (pieces > 0) {
        lora_find(&state->lora, room, &p, &ahead, tile0, r.tile_end);
        shrink_begin<LORA == LINEAR_CODES>(&shrink, &p, &state->lora.head, &at);
    }
    ptx_pdl_wait();
    if (rows_all == 0) {
        ptx_cp_async_wait<0>();
        return;
    }
    many_seek_x<S>(&from, &cur_x, &p, &r, &at);
#pragma unroll
    for (int i = 0; i < S::stages - 1; i++) {
        if (many_more(&cur_x, &r)) {
            many_x<S>(&from, &cur_x, ring, at.lane);
            many_next<S, false, true>(&from, &cur_x, &p, &r, &at);
        }
        ptx_cp_async_commit();
    }
    if (pieces > 0)
        shrink_all<LORA == LINEAR_CODES>(&shrink, red, &p, &state->lora.head, &at);
    const struct many_warp<S> warp = {
        &p, &r, &at, ring
    };
    const struct sums sums = {red, S::floats, LINEAR_SLICES * S::floats};
    int stage = 0;
    for (int tile = tile0; tile < r.tile_end; tile += S::tiles) {
        const int tiles = min(S::tiles, r.tile_end - tile);
        for (int block = 0; block < r.blocks; block++) {
            const int first = block * NT * 8, rows = min(rows_all - first, NT * 8);
            if (tile == tile0 || r.blocks > 1)
                rms_rows<NT>(state->rinv, &p, first, rows, &at);
            many_tiles<S, S::tiles>(tiles, &sums, &from, &cur, &stage, &warp);
            if (pieces > 0 && tile == tile0 && block == 0)
                lora_gather_here(&state->lora, &p);
            __syncthreads(); /* the warps' sums, before others add them up */
            struct added more = {NULL, sums.tile_floats};
            if (pieces > 0) {
                /* Else what expand computes of it would be kept while the block multiplies. */
                const struct place here = place_of(ptx_thread_anew() % LINEAR_THREADS);
                const struct expand_range range =
                    expand_range_of(&p, &state->lora, &room, tile, tiles, first, rows);
                uint8_t *const expand_ring = S::own_ring
                                                 ? room.at + S::lora_bytes - S::expand_bytes +
                                                       here.warp * S::expand_frags * RANK_TILE_BYTES
                                                 : many_expand_ring<S>(red, here.warp);
                more.at = sums.at + sums.slice_floats;
                many_make_room<S>(&sums, &p, tile, tiles);
                struct expand_feed feed;
                expand_all<S::expand_frags, true, LORA == LINEAR_CODES>(
                    more.at, more.tile_floats, &feed, false, &range, expand_ring, &here);
            }
            auto total = [&](const struct item &e) {
                const float *sum = sums.at + e.k * sums.tile_floats + e.at;
                return pieces > 0 ? make_float2(sum[0], sum[64]) : item_total(&sums, &e, &p);
            };
            pass_end<NT>(total, state->rinv, &p, &state->lora, more, {}, tile, tiles, first, rows);
        }
    }
    ptx_cp_async_wait<0>();
}

template <class S>
static enum status launch_many(const struct linear_dev *d, int grid, bool dependent, cudaStream_t s)
{
    const size_t smem = S::ring_bytes + S::red_bytes + sizeof(struct block_state<S::nt>) +
                        (d->table ? S::lora_bytes : 0);
    static_assert(sizeof(struct block_state<S::nt>) <= STATE_MAX, "it must fit beside the ring");
    return launch({dim3(grid), LINEAR_THREADS, smem, dependent}, s,
                  !d->table  ? k_linear_many<S, LINEAR_NO_LORA>
                  : d->codes ? k_linear_many<S, LINEAR_CODES>
                             : k_linear_many<S, LINEAR_LORA>,
                  *d);
}

#endif
