/* k_pieces: see k_pieces.h.
 *
 * Grid: a block of one warp a linear, 32 pieces at a time, one a lane, with running sums over the
 * lanes. Latency only: three loads behind each other, 80 bytes out a piece and linear; once in a
 * million steps it clears u. No shared memory. Tested by tests/kernels/test_pieces.c. */
#include "cuda/k_pieces.h"

#include "cuda/launch.cuh"
#include "cuda/piece_of.cuh"

static_assert(sizeof(struct piece_entry) == 64 && sizeof(struct piece_head) == 64 &&
                  sizeof(struct piece_shrink) == 16,
              "they are copied by 16 bytes");
static_assert(LORA_ROUNDS == 4, "the head's quarters");
static_assert(PIECES_KEPT * RANK_TILES_MAX * 8 <= UINT16_MAX, "sums of rank tiles times rows");

__global__ __launch_bounds__(32) void k_pieces(const __grid_constant__ struct pieces_args a,
                                               const __grid_constant__ struct step_dev step)
{
    const int stack = (int)blockIdx.x, lane = (int)threadIdx.x;
    const enum step_view view = stack < a.out_stack ? VIEW_ROWS : VIEW_OUTS;
    const struct lora_pieces *head = &step.head->pieces[view];
    struct stack_pieces *to = a.out + stack;
    const int count = head->count;
    int units = 0, cum[STACK_MODULES] = {};
    for (int first = 0; first < count; first += 32) {
        const int q = first + lane;
        const bool kept = q < min(count, PIECES_KEPT);
        struct piece_entry e = {};
        struct piece_shrink s = {};
        if (q < count) {
            const struct lora_piece piece = step.pieces[view][q];
            const struct lora_stack *at = a.table + (size_t)piece.slot * a.table_stride + stack;
            e = piece_entry_of(at, piece);
            s = piece_shrink_of(at, piece);
        }
        const int sum = ptx_lanes_sum(s.rank_tiles, lane);
        e.before = (uint16_t)(units + sum - s.rank_tiles);
        units += __shfl_sync(~0u, sum, 31);
#pragma unroll
        for (int m = 0; m < STACK_MODULES; m++) {
            const int own = kept ? e.module_tile[m + 1] * e.rows : 0;
            const int rows = ptx_lanes_sum(own, lane);
            e.cum[m] = (uint16_t)(cum[m] + rows - own);
            cum[m] += __shfl_sync(~0u, rows, 31);
        }
        if (kept) {
            to->entry[q] = e;
            to->shrink[q] = s;
        }
    }
    uint32_t tag = 0;
    if (lane == 0)
        tag = (to->head.tag & ~(PIECES_TAG_STACKS - 1u)) + PIECES_TAG_STACKS;
    if (__shfl_sync(~0u, tag, 0) == 0 && a.u)
        for (size_t i = (size_t)stack * 32 + lane; i < a.u_bytes / 16; i += (size_t)a.stacks * 32)
            ((uint4 *)a.u)[i] = make_uint4(0, 0, 0, 0);
    if (lane > 0)
        return;
    struct piece_head h = {};
    h.tag = tag + 1 + (uint32_t)stack;
    h.count = units > 0 ? count : 0;
    h.units = units;
#pragma unroll
    for (int m = 0; m < STACK_MODULES; m++)
        h.cum[m] = (uint16_t)cum[m];
#pragma unroll
    for (int i = 0; i < LORA_ROUNDS; i++)
        h.round_end[i] = head->round_end[i];
    h.any_gain = head->any_gain;
    to->head = h;
}

enum status cuda_pieces(const struct pieces_args *a, cudaStream_t s)
{
    if (a->stacks < 1 || a->stacks >= PIECES_TAG_STACKS - 1 || !a->table || !a->out)
        return STATUS_INVALID;
    return launch({dim3((unsigned)a->stacks), 32, 0, false}, s, k_pieces, *a, *a->step);
}
