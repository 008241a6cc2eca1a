/* layout: how weights, adapters and activations lie in device memory. Plain data, C and CUDA.
 *
 * A weight matrix [N, K] is cut into tiles of 16 output features by groups of 128 input features,
 * stored [tile][group], each in the order in which a warp's lanes feed mma.sync.m16n8k16 with the
 * weights as the m16 operand: 16 bytes a lane and load. N is padded to 16 and K to 128 with zeros.
 *
 * Inside a group, column c has block s = c / 32, owner t = c % 32 / 8 and element e = c % 8; it
 * belongs to the k16 step 2 s + e / 4. So the lane (g, t) = (lane / 4, lane % 4) that needs x of
 * row g for steps 2 s and 2 s + 1 finds it in 8 consecutive values, one 16-byte load: registers
 * 0 and 1 are b0, b1 of step 2 s, registers 2 and 3 those of step 2 s + 1. Element (r, c) of a
 * tile sits in lane (r % 8) * 4 + t, fragment register a = r / 8 + 2 * (e % 4 / 2), and in its low
 * half when e is even.
 *
 *   bf16  4096 bytes: [step 8][lane 32][a 4][half 2]
 *   int4  1056 bytes: [s / 2][lane 32][word 4], word 2 * (s % 2) + e / 4, nibble a + 4 * (e % 2);
 *         then 16 bf16 scales, one a row. Value = (nibble - 8) * scale.
 *   int8  2048 bytes: two int4 planes of 1024 bytes, low nibbles first; value = (16 high + low -
 *         128) * row_scale.
 */
#ifndef CHORUS_CUDA_LAYOUT_H
#define CHORUS_CUDA_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define TILE_N 16  /* output features of a tile */
#define TILE_K 128 /* input features of a group */

enum weight_format { WEIGHT_BF16, WEIGHT_INT8, WEIGHT_INT4, WEIGHT_FORMAT_COUNT };

#define TILE_BYTES_BF16 4096
#define TILE_BYTES_INT8 2048
#define TILE_BYTES_INT4 1056

/* Features rounded up to whole groups: the stride of every activation that a linear reads. Columns
 * beyond the true width hold zeros, always. */
#define PAD_K(k) (((k) + TILE_K - 1) / TILE_K * TILE_K)
#define PAD_N(n) (((n) + TILE_N - 1) / TILE_N * TILE_N)

/* A weight matrix on the device. Row order: q, k, v one after the other, each padded to TILE_N;
 * gate and up interleaved by 8: rows 16 j + r are gate 8 j + r for r < 8 and up 8 j + r - 8 else;
 * all others plain. */
struct dev_matrix {
    const uint8_t *data;    /* device, [tiles, groups, tile bytes] */
    const float *row_scale; /* device, [tiles * 16], int8 only */
    enum weight_format format;
    int n;      /* true output features, padding between parts included */
    int k;      /* true input features */
    int tiles;  /* PAD_N(n) / 16 */
    int groups; /* PAD_K(k) / 128 */
};

#ifdef __CUDACC__
#define LAYOUT_INLINE static __host__ __device__ inline
#else
#define LAYOUT_INLINE static inline
#endif

LAYOUT_INLINE size_t tile_bytes(enum weight_format f)
{
    return f == WEIGHT_BF16   ? TILE_BYTES_BF16
           : f == WEIGHT_INT8 ? TILE_BYTES_INT8
                              : TILE_BYTES_INT4;
}

/* ---- adapters ---- */

/* Linears of the step that adapters change: four a layer, then the head. */
enum lora_stack_kind { STACK_QKV, STACK_O, STACK_GATE_UP, STACK_DOWN, STACK_KINDS };
#define STACK_OF(layer, kind) ((layer)*STACK_KINDS + (kind))
#define STACK_HEAD(layers)    ((layers)*STACK_KINDS)
#define STACK_COUNT(layers)   ((layers)*STACK_KINDS + 1)
#define STACK_MODULES         3
/* Rank tiles (16 ranks) of a stack at most: three modules of rank 512. */
#define RANK_TILES_MAX 96

/* How wide A and B are. Used as a shift, too: fragments take as many bytes as those of bf16 >> it.
 */
enum lora_codes { LORA_BF16, LORA_INT8, LORA_INT4 };

/* One adapter at one linear; rank_tiles 0: it has nothing there. All pointers are device pointers.
 *
 * a: the modules' A stacked, each padded to whole rank tiles with zeros, in the bf16 tile format
 * above ([rank tile][group], K as the base linear's).
 * b[m]: fragments of B of module m: [output tile of the module][rank tile of the module][lane 32]
 * 16 bytes: registers a0..a3 of m16n8k16 in plain order (rank = k: low registers a0, a1 hold ranks
 * 2 t, 2 t + 1 of rows g and g + 8; a2, a3 ranks 2 t + 8, 2 t + 9).
 * gate_up: b[0] holds both: output tile j, rank tile i: a0 and a2 are gate's rows, a1 and a3 up's;
 * as many rank tiles as the larger of the two has, zeros where one has fewer; b[1] is not used.
 * y = base * (1 + weight * gain) + weight * scale[m] * B u, u = A x. DoRA's g is multiplied into B
 * at load (k_dora.h); scale stays the module's own. 0 where it has no module.
 * int8, int4: lora_layout.h. */
struct lora_stack {
    const uint8_t *a;
    const uint8_t *b[STACK_MODULES];
    const float
        *gain; /* [n of the linear], g - 1; 0 for rows of modules without DoRA; NULL: none */
    const float *rank_scale; /* [16 rank_tiles], int8 only: u is multiplied by it */
    float scale[STACK_MODULES];
    int32_t codes;                          /* enum lora_codes */
    int32_t rank_tiles;                     /* of all modules */
    int32_t module_tile[STACK_MODULES + 1]; /* first rank tile of each module, and the end */
};

/* An adapter's embedding part, fp32; rank 0: none. y += weight * scale * B a[token]. */
struct lora_embed {
    const float *a; /* [V, rank]: a token's column of A is contiguous */
    const float *b; /* [M, rank] */
    float scale;
    int32_t rank;
};

/* A piece of a batch segment: at most 8 consecutive rows. Pieces are ordered by round, the place of
 * the adapter in the row's list (0..3): pieces of a round never share a row. */
struct lora_piece {
    int32_t slot;
    float weight;
    int32_t row; /* first row: index into the rows of the view (all rows, or output rows) */
    int32_t rows;
};

#define LORA_ROUNDS 4

struct lora_pieces {
    int32_t count;
    int32_t round_end[LORA_ROUNDS]; /* pieces [round_end[i - 1], round_end[i]) are round i */
    int32_t any_gain;               /* some piece's adapter has DoRA anywhere */
};

#endif
