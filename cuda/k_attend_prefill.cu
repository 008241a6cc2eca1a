/* k_attend_prefill: flash attention of prompt pieces over paged keys and values; contract in
 * k_attend_prefill.h.
 *
 *   s[i, j] = q'[i] . K[j], p = exp2(s - max), a[i] = sum_j p[j] V[j] / sum_j p[j]
 *   j over max(0, pos_i - window + 1) .. pos_i; q' holds scale * log2 e
 *
 * Shapes: out [T, out_stride] bf16, q' before and a after, [H, D] within a row; kv [page][k, v][KH]
 * [16][D] bf16.
 *
 * Mapping: grid (kv head, tile; the last tiles of a piece, which are the longest, first). A tile is
 * 64 MT query vectors of one kv head: (row, head of the group) with the head fastest, so that K and
 * V are read once for all heads of the group. 4 warps with 16 MT vectors each (MT = 2, and 1 beyond
 * 128 columns); the loop goes over BN tokens from an absolute multiple of BN on.
 *
 * Shared memory: q' of the tile, two tiles of K and of V, rows padded by 16 bytes (ldmatrix hits 8
 * different bank groups): 102 KiB at D = 128, two blocks on an SM of sm_80 and sm_90. The next
 * tokens are copied while these are worked on. Where a card has less, one tile of each, 68 KiB: K
 * of the next tokens is copied while weights are applied, V while scores are computed; the same
 * bits. Page numbers are read two tiles ahead. KV_INT8: bytes and scales of the next tokens are
 * copied, made bf16 between two barriers (int8_pair), 85 KiB on every card; scales are
 * multiplied in fp32, to scores, and to weights before they are rounded.
 *
 * Precondition: D a multiple of 8, <= 256; keys and values of all positions up to the rows' own are
 * stored. Bytes: 4 D a token for each tile behind it; flops 4 D a (row, head, token).
 * Order of sums: a score over steps of 16 columns; the weighted sum over steps of 16 tokens from an
 * absolute multiple of 16 on, rescaled (exactly 1 where nothing changed) each BN tokens. Tokens
 * that a row does not see add exact zeros, so that its bits do not depend on the tile it is in.
 * Precision: q' and weights rounded to bf16 once, sums in fp32: tests/kernels/test_attend.c. Bench:
 * tests/kernels/bench_attend.c.
 */
#include "cuda/k_attend_prefill.h"

#include "cuda/attend_heads.cuh"
#include "cuda/launch.cuh"

#define WARPS   4
#define THREADS (WARPS * 32)

struct prefill_call {
    struct attend_args a;
    struct step_dev s;
    int group; /* query heads of a kv head */
};

/* A tile's place. */
struct prefill_tile {
    int row, rows; /* of the piece */
    int first;     /* first vector: (row, head) of the piece, head fastest */
    int position;  /* of the piece's first row */
    int low, high; /* tokens [low, high) that some vector sees */
    int pages;     /* index of the sequence's first page */
};

template <int KS, int MT, int BN, int STAGES> struct prefill_smem {
    static constexpr int ROW = 32 * KS + 16; /* bytes */
    static constexpr int VECTORS = 16 * WARPS * MT;
    static constexpr int Q = 0;
    static constexpr int K = VECTORS * ROW;
    static constexpr int V = K + BN * ROW;
    static constexpr int STAGE = 2 * BN * ROW;       /* from one K to the next */
    static constexpr int PAGES = K + STAGES * STAGE; /* of four tiles, a ring */
    static constexpr int BYTES = PAGES + 4 * (BN / PAGE) * 4;
};

/* The same for KV_INT8: the next tokens come in as bytes and scales. */
template <int KS, int MT, int BN> struct prefill_smem_int8 {
    using bf16 = prefill_smem<KS, MT, BN, 1>;
    static constexpr int SCALES = (bf16::BYTES + 15) / 16 * 16; /* fp32 [k, v][BN] */
    static constexpr int RAW = SCALES + 2 * BN * 4;             /* [k, v][BN][16 KS] bytes */
    static constexpr int RAW_SCALES = RAW + 2 * BN * 16 * KS;   /* bf16 [k, v][BN] */
    static constexpr int BYTES = RAW_SCALES + 2 * BN * 2;
};

static __device__ __forceinline__ uint32_t pack_bf16(float lo, float hi)
{
    __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return (uint32_t)__bfloat16_as_ushort(v.x) | (uint32_t)__bfloat16_as_ushort(v.y) << 16;
}

/* Tile `index` counted through all pieces; false: there are fewer. */
static __device__ bool find_tile(const struct prefill_call &c, int index, int vectors,
                                 struct prefill_tile *t)
{
    int pieces = c.a.split->pieces, i = 0;
    for (; i < pieces; i++) {
        t->row = c.a.piece[i].row;
        t->rows = c.a.piece[i].rows;
        int tiles = (t->rows * c.group + vectors - 1) / vectors;
        if (index < tiles) {
            index = tiles - 1 - index;
            break;
        }
        index -= tiles;
    }
    if (i == pieces)
        return false;
    t->first = index * vectors;
    t->position = c.s.position[t->row];
    int last = min(t->first + vectors, t->rows * c.group) - 1;
    int pos = t->position + t->first / c.group;
    t->low = c.a.window > 0 ? max(0, pos - c.a.window + 1) : 0;
    t->high = t->position + last / c.group + 1;
    t->pages = c.s.page_begin[c.s.seq_of_row[t->row]];
    return true;
}

/* q' of vector `i` of the tile, and where its result goes. */
static __device__ __forceinline__ uint16_t *vector_at(const struct prefill_call &c,
                                                      const struct prefill_tile &t, int i)
{
    int row = t.row + (t.first + i) / c.group;
    int head = (int)blockIdx.x * c.group + (t.first + i) % c.group;
    return (uint16_t *)c.a.out + (size_t)row * c.a.out_stride + head * c.a.head_dim;
}

template <int KS, int MT, int BN, int STAGES>
static __device__ __forceinline__ void copy_q(const struct prefill_call &c,
                                              const struct prefill_tile &t, uint8_t *smem)
{
    using at = prefill_smem<KS, MT, BN, STAGES>;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < at::VECTORS * 2 * KS; i += THREADS) {
        int v = i / (2 * KS), column = i % (2 * KS) * 8;
        bool ok = t.first + v < t.rows * c.group && column < c.a.head_dim;
        const uint16_t *from = ok ? vector_at(c, t, v) + column : (const uint16_t *)c.a.out;
        ptx_cp_async16_or_zero(smem + at::Q + v * at::ROW + column * 2, from, ok);
    }
}

/* The page number that this thread looks up of the tile of tokens [base, base + BN); 0 where it has
 * none to look up, or none of its tokens is seen. */
template <int BN>
static __device__ __forceinline__ int find_page(const struct prefill_call &c,
                                                const struct prefill_tile &t, int base)
{
    int token = base + (int)threadIdx.x * PAGE;
    bool ok = threadIdx.x < BN / PAGE && token < t.high;
    return ok ? c.s.pages[t.pages + token / PAGE] : 0;
}

/* To its place in the ring, where copy_kv finds it behind a barrier. */
template <int BN> static __device__ __forceinline__ void keep_page(int *pages, int base, int page)
{
    if (threadIdx.x < BN / PAGE)
        pages[base / BN % 4 * (BN / PAGE) + (int)threadIdx.x] = page;
}

/* Tokens [base, base + BN) of K (side 0) or V (1), zeros where no vector of the tile sees them. A
 * thread copies 16 bytes of every LINES-th token. */
template <int KS, int BN>
static __device__ __forceinline__ void copy_kv(const struct prefill_call &c,
                                               const struct prefill_tile &t, const int *pages,
                                               int side, int base, uint8_t *to)
{
    constexpr int ROW = 32 * KS + 16, ACROSS = KS > 8 ? 32 : KS > 4 ? 16 : KS > 2 ? 8 : 4;
    constexpr int LINES = THREADS / ACROSS;
    int line = (int)threadIdx.x / ACROSS, column = (int)threadIdx.x % ACROSS * 8, d = c.a.head_dim;
    if (column >= 16 * KS)
        return;
    const uint16_t *kv = (const uint16_t *)c.a.kv + column;
    pages += base / BN % 4 * (BN / PAGE);
    to += line * ROW + column * 2;
#pragma unroll 2
    for (int n = 0; n < BN / LINES; n++) {
        int token = base + line + n * LINES;
        bool ok = token >= t.low && token < t.high && column < d;
        const uint16_t *from = (const uint16_t *)c.a.kv;
        if (ok) {
            size_t block =
                ((size_t)pages[(token - base) / PAGE] * 2 + (size_t)side) * (size_t)c.a.kv_heads;
            from = kv + ((block + blockIdx.x) * PAGE + (size_t)(token % PAGE)) * (size_t)d;
        }
        ptx_cp_async16_or_zero(to + n * LINES * ROW, from, ok);
    }
}

/* s += q' K^T for the warp's vectors: s[m][n] of 16 vectors and 8 tokens. */
template <int KS, int MT, int BN>
static __device__ __forceinline__ void score(float (&s)[MT][BN / 8][4], const uint8_t *q,
                                             const uint8_t *k, int lane)
{
    const int row_bytes = 32 * KS + 16;
    q += lane % 16 * row_bytes + lane / 16 * 16;
    k += (lane % 8 + lane / 16 * 8) * row_bytes + lane / 8 % 2 * 16;
#pragma unroll
    for (int b = 0; b < KS; b++) {
        uint32_t a[MT][4];
#pragma unroll
        for (int m = 0; m < MT; m++)
            ptx_ldmatrix_x4(a[m], q + m * 16 * row_bytes + b * 32);
#pragma unroll
        for (int n = 0; n < BN / 16; n++) {
            uint32_t r[4];
            ptx_ldmatrix_x4(r, k + n * 16 * row_bytes + b * 32);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                ptx_mma_bf16(s[m][2 * n], a[m][0], a[m][1], a[m][2], a[m][3], r[0], r[1]);
                ptx_mma_bf16(s[m][2 * n + 1], a[m][0], a[m][1], a[m][2], a[m][3], r[2], r[3]);
            }
        }
    }
}

/* o += p V: p[m][b] as the fragment of 16 vectors and 16 tokens. */
template <int KS, int MT, int BN>
static __device__ __forceinline__ void weigh(float (&o)[MT][2 * KS][4],
                                             const uint32_t (&p)[MT][BN / 16][4], const uint8_t *v,
                                             int lane)
{
    const int row_bytes = 32 * KS + 16;
    v += lane % 16 * row_bytes + lane / 16 * 16;
#pragma unroll
    for (int b = 0; b < BN / 16; b++) {
#pragma unroll
        for (int n = 0; n < KS; n++) {
            uint32_t r[4];
            ptx_ldmatrix_x4_trans(r, v + b * 16 * row_bytes + n * 32);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                const uint32_t *a = p[m][b];
                ptx_mma_bf16(o[m][2 * n], a[0], a[1], a[2], a[3], r[0], r[1]);
                ptx_mma_bf16(o[m][2 * n + 1], a[0], a[1], a[2], a[3], r[2], r[3]);
            }
        }
    }
}

/* Tokens that a vector does not see get weight 0. */
template <int MT, int BN>
static __device__ __forceinline__ void mask(const struct prefill_call &c,
                                            const struct prefill_tile &t, float (&s)[MT][BN / 8][4],
                                            int base)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) {
        int m = i / 2, r = i % 2;
        int vector = t.first + (warp * MT + m) * 16 + r * 8 + lane / 4;
        int pos = t.position + vector / c.group - base - lane % 4 * 2;
        int low = c.a.window > 0 ? pos - c.a.window : -BN;
#pragma unroll
        for (int n = 0; n < BN / 4; n++) {
            int token = n / 2 * 8 + n % 2;
            if (token > pos || token <= low)
                s[m][n / 2][2 * r + n % 2] = -INFINITY;
        }
    }
}

/* Scores to weights p against the new largest score; what was summed so far is brought to it.
 * INT8: p gets the scales of the tokens' values. */
template <int KS, int MT, int BN, bool INT8>
static __device__ __forceinline__ void soften(const float (&s)[MT][BN / 8][4],
                                              uint32_t (&p)[MT][BN / 16][4],
                                              float (&o)[MT][2 * KS][4], float (&most)[MT][2],
                                              float (&sum)[MT][2], const float *v_scales)
{
    float keep[MT][2];
    bool same = true;
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) {
        int m = i / 2, r = i % 2;
        float top = most[m][r];
#pragma unroll
        for (int n = 0; n < BN / 8; n++)
            top = fmaxf(top, fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        float from = top == -INFINITY ? 0.0f : top; /* nothing seen yet: all weights are 0 */
        keep[m][r] = ptx_exp2(most[m][r] - from);
        same = same && most[m][r] == top;
        most[m][r] = top;
        float add = 0.0f;
#pragma unroll
        for (int n = 0; n < BN / 8; n++) {
            float x = ptx_exp2(s[m][n][2 * r] - from), y = ptx_exp2(s[m][n][2 * r + 1] - from);
            add += x + y;
            if (INT8) {
                float2 v = *(const float2 *)(v_scales + n * 8 + threadIdx.x % 4 * 2);
                x = __fmul_rn(x, v.x);
                y = __fmul_rn(y, v.y);
            }
            p[m][n / 2][n % 2 * 2 + r] = pack_bf16(x, y);
        }
        sum[m][r] = fmaf(sum[m][r], keep[m][r], add);
    }
    if (__all_sync(0xffffffffu, same)) /* all factors are 1, or of sums that are 0 */
        return;
#pragma unroll
    for (int i = 0; i < 2 * MT; i++)
#pragma unroll
        for (int n = 0; n < 2 * KS; n++) {
            o[i / 2][n][2 * (i % 2)] *= keep[i / 2][i % 2];
            o[i / 2][n][2 * (i % 2) + 1] *= keep[i / 2][i % 2];
        }
}

/* a = o / sum through the warp's part of q' in shared memory, which only it reads. */
template <int KS, int MT, int BN>
static __device__ __forceinline__ void store(const struct prefill_call &c,
                                             const struct prefill_tile &t, uint8_t *q,
                                             const float (&o)[MT][2 * KS][4],
                                             const float (&sum)[MT][2])
{
    const int row_bytes = 32 * KS + 16;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    __syncwarp(); /* q' was read by all lanes before it is overwritten */
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) {
        int m = i / 2, r = i % 2;
        float total = sum[m][r];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        float inv = 1.0f / total;
        uint8_t *to = q + (m * 16 + r * 8 + lane / 4) * row_bytes + lane % 4 * 4;
#pragma unroll
        for (int n = 0; n < 2 * KS; n++)
            *(uint32_t *)(to + n * 16) = pack_bf16(o[m][n][2 * r] * inv, o[m][n][2 * r + 1] * inv);
    }
    __syncwarp(); /* results of all lanes before they are read */
    for (int i = lane; i < 16 * MT * 2 * KS; i += 32) {
        int v = i / (2 * KS), column = i % (2 * KS) * 8, vector = warp * 16 * MT + v;
        if (t.first + vector < t.rows * c.group && column < c.a.head_dim)
            *(uint4 *)(vector_at(c, t, vector) + column) =
                *(const uint4 *)(q + v * row_bytes + column * 2);
    }
}

/* The tiles of tokens of a block, one after the other. */
template <int KS, int MT, int BN, int STAGES>
static __device__ __forceinline__ void attend_tiles(const struct prefill_call &c,
                                                    const struct prefill_tile &t, uint8_t *smem,
                                                    float (&o)[MT][2 * KS][4], float (&sum)[MT][2])
{
    using at = prefill_smem<KS, MT, BN, STAGES>;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int begin = t.low / BN * BN, first_pos = t.position + t.first / c.group;
    int *pages = (int *)(smem + at::PAGES);
    const uint8_t *q = smem + at::Q + warp * 16 * MT * at::ROW;
    float most[MT][2];
#pragma unroll
    for (int i = 0; i < 2 * MT; i++)
        most[i / 2][i % 2] = -INFINITY;
    copy_q<KS, MT, BN, STAGES>(c, t, smem);
    keep_page<BN>(pages, begin, find_page<BN>(c, t, begin));
    keep_page<BN>(pages, begin + BN, find_page<BN>(c, t, begin + BN));
    __syncthreads(); /* page numbers, before tokens are copied */
    copy_kv<KS, BN>(c, t, pages, 0, begin, smem + at::K);
    if (STAGES == 2)
        copy_kv<KS, BN>(c, t, pages, 1, begin, smem + at::V);
    ptx_cp_async_commit();
    int stage = 0;
    for (int base = begin; base < t.high; base += BN) {
        const uint8_t *k = smem + at::K + stage * at::STAGE, *v = smem + at::V + stage * at::STAGE;
        if (STAGES == 2)
            stage ^= 1;
        uint8_t *next = smem + stage * at::STAGE;
        int page = find_page<BN>(c, t, base + 2 * BN);
        ptx_cp_async_wait<0>();
        __syncthreads(); /* two stages: K and V are there, all warps are done with the others; one:
                            K is there, all warps are done with V */
        if (STAGES == 1)
            copy_kv<KS, BN>(c, t, pages, 1, base, smem + at::V);
        if (STAGES == 2 && base + BN < t.high) {
            copy_kv<KS, BN>(c, t, pages, 0, base + BN, next + at::K);
            copy_kv<KS, BN>(c, t, pages, 1, base + BN, next + at::V);
        }
        ptx_cp_async_commit();
        keep_page<BN>(pages, base + 2 * BN, page);
        float s[MT][BN / 8][4] = {};
        score<KS, MT, BN>(s, q, k, lane);
        if (base + BN - 1 > first_pos || (c.a.window > 0 && base < t.high - c.a.window))
            mask<MT, BN>(c, t, s, base);
        uint32_t p[MT][BN / 16][4];
        soften<KS, MT, BN, false>(s, p, o, most, sum, NULL);
        if (STAGES == 1) {
            ptx_cp_async_wait<0>();
            __syncthreads(); /* V is there; all warps are done with K */
            if (base + BN < t.high)
                copy_kv<KS, BN>(c, t, pages, 0, base + BN, smem + at::K);
            ptx_cp_async_commit();
        }
        weigh<KS, MT, BN>(o, p, v, lane);
    }
}

/* ---- keys and values as bytes ---- */

/* Bytes and scales of tokens [base, base + BN) on their way; zeros where no vector sees them. */
template <int KS, int MT, int BN>
static __device__ __forceinline__ void copy_int8(const struct prefill_call &c,
                                                 const struct prefill_tile &t, const int *pages,
                                                 int base, uint8_t *smem)
{
    using at = prefill_smem_int8<KS, MT, BN>;
    int row = (c.a.head_dim + 15) / 16 * 16;
    size_t block_bytes = (size_t)PAGE * (size_t)(row + 2);
    pages += base / BN % 4 * (BN / PAGE);
    const uint8_t *kv = (const uint8_t *)c.a.kv;
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < 2 * BN * KS; i += THREADS) {
        int side = i / (BN * KS), n = i / KS % BN, column = i % KS * 16, token = base + n;
        bool ok = token >= t.low && token < t.high && column < row;
        size_t block = ((size_t)pages[n / PAGE] * 2 + (size_t)side) * (size_t)c.a.kv_heads;
        const uint8_t *from = kv + (block + blockIdx.x) * block_bytes + n % PAGE * row + column;
        ptx_cp_async16_or_zero(smem + at::RAW + i * 16, ok ? from : kv, ok);
    }
    for (int i = (int)threadIdx.x; i < 2 * BN / 8; i += THREADS) {
        int side = i / (BN / 8), n = i % (BN / 8) * 8, token = base + n;
        bool ok = token + 8 > t.low && token < t.high;
        size_t block = ((size_t)pages[n / PAGE] * 2 + (size_t)side) * (size_t)c.a.kv_heads;
        const uint8_t *from = kv + (block + blockIdx.x) * block_bytes + PAGE * row + n % PAGE * 2;
        ptx_cp_async16_or_zero(smem + at::RAW_SCALES + i * 16, ok ? from : kv, ok);
    }
}

/* Those bytes as K and V in bf16, and the scales in fp32, zeros where no vector sees the token. */
template <int KS, int MT, int BN>
static __device__ __forceinline__ void widen(const struct prefill_tile &t, int base, uint8_t *smem)
{
    using at = prefill_smem_int8<KS, MT, BN>;
    constexpr int ROW = at::bf16::ROW;
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < 2 * BN * KS; i += THREADS) {
        uint4 raw = *(const uint4 *)(smem + at::RAW + i * 16);
        uint4 *to = (uint4 *)(smem + at::bf16::K + i / KS * ROW + i % KS * 32);
        to[0] = make_uint4(
            int8_pair(__byte_perm(raw.x, 0, 0x1100)), int8_pair(__byte_perm(raw.x, 0, 0x3322)),
            int8_pair(__byte_perm(raw.y, 0, 0x1100)), int8_pair(__byte_perm(raw.y, 0, 0x3322)));
        to[1] = make_uint4(
            int8_pair(__byte_perm(raw.z, 0, 0x1100)), int8_pair(__byte_perm(raw.z, 0, 0x3322)),
            int8_pair(__byte_perm(raw.w, 0, 0x1100)), int8_pair(__byte_perm(raw.w, 0, 0x3322)));
    }
    for (int i = (int)threadIdx.x; i < 2 * BN; i += THREADS) {
        int token = base + i % BN;
        uint32_t bits = ((const uint16_t *)(smem + at::RAW_SCALES))[i];
        bool ok = token >= t.low && token < t.high;
        ((float *)(smem + at::SCALES))[i] = ok ? bf16_value(bits) : 0.0f;
    }
}

/* Scores get the scales of the tokens' keys. */
template <int MT, int BN>
static __device__ __forceinline__ void scale_scores(float (&s)[MT][BN / 8][4],
                                                    const float *k_scales)
{
#pragma unroll
    for (int n = 0; n < BN / 8; n++) {
        float2 k = *(const float2 *)(k_scales + n * 8 + threadIdx.x % 4 * 2);
#pragma unroll
        for (int m = 0; m < MT; m++) {
            s[m][n][0] = __fmul_rn(s[m][n][0], k.x);
            s[m][n][1] = __fmul_rn(s[m][n][1], k.y);
            s[m][n][2] = __fmul_rn(s[m][n][2], k.x);
            s[m][n][3] = __fmul_rn(s[m][n][3], k.y);
        }
    }
}

/* As attend_tiles; the next tile's bytes come in while this one is worked on. */
template <int KS, int MT, int BN>
static __device__ __forceinline__ void attend_tiles_int8(const struct prefill_call &c,
                                                         const struct prefill_tile &t,
                                                         uint8_t *smem, float (&o)[MT][2 * KS][4],
                                                         float (&sum)[MT][2])
{
    using at = prefill_smem_int8<KS, MT, BN>;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int begin = t.low / BN * BN, first_pos = t.position + t.first / c.group;
    int *pages = (int *)(smem + at::bf16::PAGES);
    const uint8_t *q = smem + at::bf16::Q + warp * 16 * MT * at::bf16::ROW;
    const float *scales = (const float *)(smem + at::SCALES);
    float most[MT][2];
#pragma unroll
    for (int i = 0; i < 2 * MT; i++)
        most[i / 2][i % 2] = -INFINITY;
    copy_q<KS, MT, BN, 1>(c, t, smem);
    keep_page<BN>(pages, begin, find_page<BN>(c, t, begin));
    keep_page<BN>(pages, begin + BN, find_page<BN>(c, t, begin + BN));
    __syncthreads(); /* page numbers, before tokens are copied */
    copy_int8<KS, MT, BN>(c, t, pages, begin, smem);
    ptx_cp_async_commit();
    for (int base = begin; base < t.high; base += BN) {
        int page = find_page<BN>(c, t, base + 2 * BN);
        ptx_cp_async_wait<0>();
        __syncthreads(); /* the bytes are there; all warps are done with K, V and scales before */
        widen<KS, MT, BN>(t, base, smem);
        keep_page<BN>(pages, base + 2 * BN, page);
        __syncthreads(); /* K, V and scales are there; all threads are done with the bytes */
        if (base + BN < t.high)
            copy_int8<KS, MT, BN>(c, t, pages, base + BN, smem);
        ptx_cp_async_commit();
        float s[MT][BN / 8][4] = {};
        score<KS, MT, BN>(s, q, smem + at::bf16::K, lane);
        scale_scores<MT, BN>(s, scales);
        if (base + BN - 1 > first_pos || (c.a.window > 0 && base < t.high - c.a.window))
            mask<MT, BN>(c, t, s, base);
        uint32_t p[MT][BN / 16][4];
        soften<KS, MT, BN, true>(s, p, o, most, sum, scales + BN);
        weigh<KS, MT, BN>(o, p, smem + at::bf16::V, lane);
    }
}

template <int KS, int MT, int BN, int STAGES, bool INT8>
__global__ __launch_bounds__(THREADS,
                             2) void k_attend_prefill(const __grid_constant__ struct prefill_call c)
{
    using at = prefill_smem<KS, MT, BN, STAGES>;
    DYN_SMEM(smem);
    ptx_pdl_trigger();
    struct prefill_tile t;
    if (!find_tile(c, (int)blockIdx.y, at::VECTORS, &t)) {
        if (blockIdx.x == 0 && blockIdx.y == 0)
            ptx_pdl_wait(); /* a step without prompts must not end before the nodes in front of it
                             */
        return;
    }
    ptx_pdl_wait(); /* q', and the keys and values of the step's rows */
    float o[MT][2 * KS][4] = {}, sum[MT][2] = {};
    if constexpr (INT8)
        attend_tiles_int8<KS, MT, BN>(c, t, smem, o, sum);
    else
        attend_tiles<KS, MT, BN, STAGES>(c, t, smem, o, sum);
    find_tile(c, (int)blockIdx.y, at::VECTORS, &t); /* again: the loop is short of registers */
    store<KS, MT, BN>(c, t, smem + at::Q + (int)threadIdx.x / 32 * 16 * MT * at::ROW, o, sum);
}

template <int KS, int MT, int BN, int STAGES, bool INT8>
static enum status launch_stages(const struct prefill_call &c, cudaStream_t s)
{
    using at = prefill_smem<KS, MT, BN, STAGES>;
    /* Each piece may leave one tile that is not full. */
    size_t tiles = ((size_t)c.a.rows_max * (size_t)c.group + at::VECTORS - 1) / at::VECTORS +
                   (size_t)c.a.pieces_max;
    if (tiles > 65535)
        return STATUS_UNSUPPORTED;
    constexpr size_t smem = INT8 ? prefill_smem_int8<KS, MT, BN>::BYTES : at::BYTES;
    static_assert(STAGES > 1 || smem <= LAUNCH_SMEM_LEAST, "the form for all cards");
    return launch(
        {dim3((unsigned)c.a.kv_heads, (unsigned)tiles, 1), THREADS, smem, c.a.dependent != 0}, s,
        k_attend_prefill<KS, MT, BN, STAGES, INT8>, c);
}

/* What the card has room for; found out once. Engine thread. */
template <int KS, int MT, int BN>
static enum status launch_tiles(const struct prefill_call &c, cudaStream_t s)
{
    static bool small;
    if (c.a.kv_type == KV_INT8)
        return launch_stages<KS, MT, BN, 1, true>(c, s);
    enum status st = small ? STATUS_UNSUPPORTED : launch_stages<KS, MT, BN, 2, false>(c, s);
    if (st != STATUS_UNSUPPORTED)
        return st;
    small = true;
    return launch_stages<KS, MT, BN, 1, false>(c, s);
}

bool cuda_attend_prefill_takes(int head_dim)
{
    return head_dim >= 8 && head_dim <= 256 && head_dim % 8 == 0;
}

enum status cuda_attend_prefill(const struct attend_args *a, cudaStream_t s)
{
    if (!cuda_attend_prefill_takes(a->head_dim) || !a->split || !a->piece || a->pieces_max <= 0 ||
        a->out_stride % 8 != 0 || (uintptr_t)a->out % 16 != 0)
        return STATUS_UNSUPPORTED;
    struct prefill_call c = {};
    c.a = *a;
    c.s = *a->step;
    c.group = a->heads / a->kv_heads;
    if (a->head_dim <= 32)
        return launch_tiles<2, 2, 64>(c, s);
    if (a->head_dim <= 64)
        return launch_tiles<4, 2, 64>(c, s);
    if (a->head_dim <= 80)
        return launch_tiles<5, 2, 64>(c, s);
    if (a->head_dim <= 96)
        return launch_tiles<6, 2, 64>(c, s);
    return a->head_dim <= 128 ? launch_tiles<8, 2, 64>(c, s) : launch_tiles<16, 1, 32>(c, s);
}
