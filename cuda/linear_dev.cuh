/* linear_dev: what k_linear's parts share: the kernel's arguments and how weights become fragments.
 *
 * A block has 8 warps, each a slice of K: slice i = groups [G i / 8, G (i + 1) / 8). Their sums are
 * added as the tree ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)).
 */
#ifndef CHORUS_CUDA_LINEAR_DEV_CUH
#define CHORUS_CUDA_LINEAR_DEV_CUH

#include "cuda/k_linear.h"
#include "cuda/ptx.cuh"

#define LINEAR_WARPS   8
#define LINEAR_THREADS (LINEAR_WARPS * 32)
#define LINEAR_SLICES  8
#define PIECE_BYTES    ((int)sizeof(struct piece_entry))

typedef __nv_bfloat16 bf16;

/* A function that is called: rare paths keep their registers to themselves. */
#ifdef CHORUS_EMULATE
#define LINEAR_CALL static __attribute__((noinline))
#else
#define LINEAR_CALL static __device__ __noinline__
#endif

struct linear_dev {
    const uint8_t *w;
    const float *row_scale;
    int tiles, groups, n, k;
    const struct step_head *head;
    const struct lora_piece *pieces;
    int view;
    const uint8_t *x; /* bf16, [T, x_stride] */
    int x_stride;
    const int32_t *x_row;
    const float *ss;
    int ss_tiles;
    float eps, k_inverse;
    int out; /* enum linear_out */
    const float *bias;
    float *y;
    int y_stride;
    const float *norm;
    bf16 *xn;
    int xn_stride;
    float *ss_out;
    bf16 *h;
    int h_stride;
    const struct lora_stack *table;
    int table_stride, stack;
    const struct stack_pieces *here; /* of this stack */
    int module_tile[STACK_MODULES];
    uint8_t *u;
    uint32_t *begun; /* see linear_args; NULL: the wait for the node in front is for x too */
    bool codes;      /* some adapters may be of int8 or int4 */
    bool fine;       /* at most 8 rows: u may come in the form for few units */
    int pass_tiles;  /* tiles that a block works on at once */
};

/* Who a thread is. g and t are the fragment coordinates of layout.h. */
struct place {
    int warp, lane, g, t;
};

PTX_INLINE struct place place_of(unsigned thread)
{
    int lane = thread % 32;
    return {(int)thread / 32, lane, lane / 4, lane % 4};
}

PTX_INLINE struct place place_here()
{
    return place_of(threadIdx.x);
}

/* First group of slice i. */
PTX_INLINE int slice_begin(int groups, int i)
{
    return groups * i / LINEAR_SLICES;
}

/* The eight slices' total. */
PTX_INLINE float slices_tree(const float v[LINEAR_SLICES])
{
    float s[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        s[i] = __fadd_rn(v[2 * i], v[2 * i + 1]);
    return __fadd_rn(__fadd_rn(s[0], s[1]), __fadd_rn(s[2], s[3]));
}

/* Where output (r, t) of a tile lies within a slot; r < 16, t the row within the row block. */
PTX_INLINE int slot_at(int r, int t)
{
    return (t / 8 * 4 + r / 8 * 2 + t % 2) * 32 + r % 8 * 4 + t % 8 / 2;
}

/* Sums of slices in shared memory, [row tile][4][lane] floats of a tile and slice. */
struct sums {
    float *at;                     /* slice 0 of tile 0 */
    int slice_floats, tile_floats; /* to the next */
};

/* ---- fragments ---- */

/* Eight nibbles of a lane to the four registers of a fragment: magic + nibble as bf16. */
PTX_INLINE void nibbles(uint32_t f[4], uint32_t w, uint32_t magic)
{
    f[0] = ptx_and_or(w, 0x000f000fu, magic);
    f[1] = ptx_and_or(w >> 4, 0x000f000fu, magic);
    f[2] = ptx_and_or(w >> 8, 0x000f000fu, magic);
    f[3] = ptx_and_or(w >> 12, 0x000f000fu, magic);
}

PTX_INLINE float bf16_bits(uint32_t low)
{
    return __uint_as_float(low << 16);
}

PTX_INLINE uint32_t pack_bf16(float low, float high)
{
    uint32_t a = __bfloat16_as_ushort(__float2bfloat16(low));
    uint32_t b = __bfloat16_as_ushort(__float2bfloat16(high));
    return a | b << 16;
}

/* A format's constants. Integer weights enter the products with an offset that is taken back by
 * `centre` * sum of x: int4: 128 + q, centre -136; int8: (128 + low) + (2048 + 16 high), centre
 * -2304. All are exact in bf16. */
template <int FORMAT> struct format_traits;
template <> struct format_traits<WEIGHT_INT4> {
    static constexpr int tile_bytes = TILE_BYTES_INT4;
    static constexpr uint32_t centre = 0xc308c308u;
};
template <> struct format_traits<WEIGHT_INT8> {
    static constexpr int tile_bytes = TILE_BYTES_INT8;
    static constexpr uint32_t centre = 0xc510c510u;
};
template <> struct format_traits<WEIGHT_BF16> {
    static constexpr int tile_bytes = TILE_BYTES_BF16;
    static constexpr uint32_t centre = 0;
};

#define MAGIC_128  0x43004300u /* bf16 128 + nibble */
#define MAGIC_2048 0x45004500u /* bf16 2048 + 16 nibble */

#endif
