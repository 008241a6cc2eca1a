/* k_attend: attention of single rows over paged keys and values; the contract is in k_attend.h.
 *
 *   q'[t, h] = rope(norm(q[t, h])), k' = rope(norm(k)), s[j] = scale * q' . K[j], p = softmax(s)
 *   a[t, h]  = sum_j p[j] V[j],  j over max(0, pos - window + 1) .. pos
 *
 * Shapes: qkv [T, qkv_stride] fp32; kv [page][k, v][KH][16][D] bf16; out [T, out_stride] bf16;
 * partial [T, H, chunks_max, D + 2] fp32: the sums of a chunk, its largest score, its sum of
 * weights.
 *
 * Mapping: grid (kv head fastest, then groups of 8 query heads, then chunk; row), 256 threads. A
 * block serves up to 8 query heads of one kv head over one chunk of 256 positions: K and V are read
 * once for all of them. Its 8 warps take the chunk's 16 pages in turn, two each: the first goes to
 * registers, the second to shared memory by cp.async (head_dim <= 128; each lane reads only what it
 * copied itself), all in flight at once; in a step of single rows all of it is under way before the
 * wait for the node in front. More than 128 columns: the second page is loaded when the first is
 * done.
 *
 * Products on mma.m16n8k16 with fp32 sums. Scores: q' is the m16 operand, rows 0-7 the 8 heads
 * rounded to bf16, rows 8-15 what the rounding left (the sum has 16 bits), K the n8 operand, 8
 * tokens, straight from memory: lane (g, t) takes columns 32 s + 8 t .. + 7 of token g with one
 * 16-byte load, and q' is permuted alike. The scores then lie where the weights are wanted as n8
 * operand of a' = V^T p (two products, the rounded weight and the rest); V is the m16 operand: lane
 * (g, t) takes columns 64 b + 8 g .. + 7 of four tokens and pairs them with byte permutes.
 *
 * Order of sums: a score over steps 0, 2, 4 .. and 1, 3, 5 .. of 16 columns, then both; a warp's
 * page i and i + 8; warps 0 to 7; chunks in order. All fixed by the position alone; masked tokens
 * are zeros of V and weight 0. Chunks of one row merge in the block that arrives last.
 *
 * Shared memory: q' 1 KiB per 32 columns, the row's own k and v, the second pages (64 B * D a
 * warp), reused for the warps' sums: 66 KiB at D = 128. Bytes: 4 D * positions a kv head; flops
 * 4 D * positions a head.
 * Precision: q' and weights have 16 bits, K and V are what is stored: tests/kernels/test_attend.c
 * derives the bound. Bench: tests/kernels/bench_attend.c.
 */
#include "cuda/k_attend.h"

#include "cuda/k_attend_prefill.h"
#include "cuda/launch.cuh"

#define WARPS       8
#define THREADS     (WARPS * 32)
#define PAGE        16
#define CHUNK_PAGES (ATTEND_CHUNK / PAGE)
#define GROUP       8 /* query heads of a block: n of the mma */
#define LOG2E       1.4426950408889634f
#define PAIRS_MAX   4 /* rotated pairs a lane: head_dim <= 256 */

static_assert(CHUNK_PAGES == 2 * WARPS, "a warp has two pages of a chunk");

struct attend_call {
    struct attend_args a;
    struct step_dev s;
    int group;        /* query heads of a kv head */
    int head_groups;  /* blocks that share them */
    int stage_stride; /* bytes of a warp's part of shared memory */
};

/* Where the parts of shared memory begin. */
template <int NB> struct attend_smem {
    static constexpr int NV = (NB + 1) / 2; /* blocks of 64 columns; rotated pairs a lane */
    static constexpr bool STAGED = NB <= 4;
    static constexpr int Q_HI = 0; /* [NB][8 heads][32] bf16 */
    static constexpr int Q_LO = Q_HI + NB * 512;
    static constexpr int K_NEW = Q_LO + NB * 512; /* [32 NB] bf16 */
    static constexpr int V_NEW = K_NEW + NB * 64; /* [64 NV] bf16 */
    static constexpr int MOST = V_NEW + NV * 128; /* [warp][8] fp32: largest score */
    static constexpr int SUM = MOST + WARPS * GROUP * 4;
    static constexpr int LAST = SUM + WARPS * GROUP * 4;
    static constexpr int STAGE = (LAST + 16 + 127) / 128 * 128;
    static constexpr int PAGE_BYTES = STAGED ? (2 * NB + 4 * NV) * 512 : 0;
    static constexpr int ROW = 32 * NB + 4; /* floats of a head's sums: off the bank grid */
};

static __device__ __forceinline__ uint32_t bf16_bits(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

static __device__ __forceinline__ float bf16_value(uint32_t bits)
{
    return __uint_as_float(bits << 16);
}

static __device__ __forceinline__ float warp_sum(float x)
{
    for (int bit = 16; bit > 0; bit >>= 1)
        x += __shfl_xor_sync(0xffffffffu, x, bit);
    return x;
}

static __device__ __forceinline__ uint16_t *kv_at(const struct attend_call &c, int page, int side,
                                                  int kv_head)
{
    size_t block = ((size_t)page * 2 + (size_t)side) * (size_t)c.a.kv_heads + (size_t)kv_head;
    return (uint16_t *)c.a.kv + block * PAGE * (size_t)c.a.head_dim;
}

/* ---- q/k norm and RoPE: a warp has one head, a lane the pairs (i, i + D/2) of i = lane + 32 j
 * ---- */

template <int PAIRS> struct head_pairs {
    float x[PAIRS], y[PAIRS];
};

template <int PAIRS>
static __device__ __forceinline__ void load_angles(const struct attend_call &c, int pos, int lane,
                                                   struct head_pairs<PAIRS> *cs)
{
    int pairs = c.a.head_dim / 2;
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = lane + 32 * j;
        bool ok = i < pairs;
        cs->x[j] = ok ? c.a.rope_cos[(size_t)pos * pairs + i] : 0.0f;
        cs->y[j] = ok ? c.a.rope_sin[(size_t)pos * pairs + i] : 0.0f;
    }
}

/* r = rope(norm(h)). Every product that is added is a written fma: the same bits in every kernel.
 */
template <int PAIRS>
static __device__ __forceinline__ void turn(const struct attend_call &c, const float *h,
                                            const float *norm, const struct head_pairs<PAIRS> &cs,
                                            int lane, struct head_pairs<PAIRS> *r)
{
    int pairs = c.a.head_dim / 2;
    float wx[PAIRS], wy[PAIRS];
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = lane + 32 * j;
        bool ok = i < pairs;
        r->x[j] = ok ? __ldcg(h + i) : 0.0f;
        r->y[j] = ok ? __ldcg(h + pairs + i) : 0.0f;
        wx[j] = ok && norm ? norm[i] : 1.0f;
        wy[j] = ok && norm ? norm[pairs + i] : 1.0f;
    }
    float inv = 1.0f;
    if (norm) {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < PAIRS; j++)
            sum = fmaf(r->y[j], r->y[j], fmaf(r->x[j], r->x[j], sum));
        inv = 1.0f / sqrtf(warp_sum(sum) / (float)c.a.head_dim + c.a.eps);
    }
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        float x = r->x[j] * inv * wx[j], y = r->y[j] * inv * wy[j];
        r->x[j] = fmaf(x, cs.x[j], -__fmul_rn(y, cs.y[j]));
        r->y[j] = fmaf(y, cs.x[j], __fmul_rn(x, cs.y[j]));
    }
}

/* bf16 of a head to up to two places, either may be NULL. */
template <int PAIRS>
static __device__ __forceinline__ void put_pairs(const struct head_pairs<PAIRS> &r, int pairs,
                                                 int lane, uint16_t *to, uint16_t *also)
{
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = lane + 32 * j;
        if (i >= pairs)
            continue;
        uint16_t x = (uint16_t)bf16_bits(r.x[j]), y = (uint16_t)bf16_bits(r.y[j]);
        if (to) {
            to[i] = x;
            to[pairs + i] = y;
        }
        if (also) {
            also[i] = x;
            also[pairs + i] = y;
        }
    }
}

template <int PAIRS>
static __device__ __forceinline__ void make_key(const struct attend_call &c, int row, int kv_head,
                                                const struct head_pairs<PAIRS> &cs, int lane,
                                                uint16_t *to, uint16_t *also)
{
    const float *k =
        c.a.qkv + (size_t)row * c.a.qkv_stride + c.a.k_at + (size_t)kv_head * c.a.head_dim;
    struct head_pairs<PAIRS> r;
    turn(c, k, c.a.k_norm, cs, lane, &r);
    put_pairs(r, c.a.head_dim / 2, lane, to, also);
}

template <int PAIRS>
static __device__ __forceinline__ void make_value(const struct attend_call &c, int row, int kv_head,
                                                  int lane, uint16_t *to, uint16_t *also)
{
    const float *v =
        c.a.qkv + (size_t)row * c.a.qkv_stride + c.a.v_at + (size_t)kv_head * c.a.head_dim;
    int pairs = c.a.head_dim / 2;
    struct head_pairs<PAIRS> r;
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = lane + 32 * j;
        r.x[j] = i < pairs ? __ldcg(v + i) : 0.0f;
        r.y[j] = i < pairs ? __ldcg(v + pairs + i) : 0.0f;
    }
    put_pairs(r, pairs, lane, to, also);
}

/* q' times scale and log2 e, in place of the row's result: for k_attend_prefill. */
static __device__ __forceinline__ void make_query(const struct attend_call &c, int row, int head,
                                                  const struct head_pairs<PAIRS_MAX> &cs, int lane)
{
    const float *q = c.a.qkv + (size_t)row * c.a.qkv_stride + (size_t)head * c.a.head_dim;
    struct head_pairs<PAIRS_MAX> r;
    turn(c, q, c.a.q_norm, cs, lane, &r);
    float scale = c.a.scale * LOG2E;
#pragma unroll
    for (int j = 0; j < PAIRS_MAX; j++) {
        r.x[j] *= scale;
        r.y[j] *= scale;
    }
    uint16_t *to = (uint16_t *)c.a.out + (size_t)row * c.a.out_stride + head * c.a.head_dim;
    put_pairs(r, c.a.head_dim / 2, lane, to, NULL);
}

/* The node in front where a sequence has several rows: keys and values of all rows to their pages,
 * and q' where prompts follow. Grid (rows_max), a warp a head. */
__global__ __launch_bounds__(THREADS) void k_attend_keys(
    const __grid_constant__ struct attend_call c)
{
    ptx_pdl_trigger();
    int row = (int)blockIdx.x, lane = (int)threadIdx.x % 32;
    bool mine = row < c.s.head->rows[VIEW_ROWS];
    if (!mine && row > 0)
        return;
    int pos = 0, page = 0;
    struct head_pairs<PAIRS_MAX> cs;
    if (mine) {
        pos = c.s.position[row];
        page = c.s.pages[c.s.page_begin[c.s.seq_of_row[row]] + pos / PAGE];
        load_angles(c, pos, lane, &cs);
    }
    ptx_pdl_wait();
    if (!mine)
        return;
    size_t slot = (size_t)(pos % PAGE) * (size_t)c.a.head_dim;
    int heads = 2 * c.a.kv_heads + (c.a.pieces_max > 0 ? c.a.heads : 0);
    for (int i = (int)threadIdx.x / 32; i < heads; i += WARPS) {
        int kv_head = i / 2;
        if (kv_head >= c.a.kv_heads) {
            make_query(c, row, i - 2 * c.a.kv_heads, cs, lane);
            continue;
        }
        uint16_t *to = kv_at(c, page, i % 2, kv_head) + slot;
        if (i % 2 == 0)
            make_key(c, row, kv_head, cs, lane, to, NULL);
        else
            make_value<PAIRS_MAX>(c, row, kv_head, lane, to, NULL);
    }
}

/* ---- one page of a warp ---- */

/* 8 values of a row of K or V, zeros where !ok or beyond the head; `left` columns remain. */
template <bool WIDE>
static __device__ __forceinline__ uint4 load_8(const uint16_t *p, int left, bool ok)
{
    uint4 r = make_uint4(0, 0, 0, 0);
    if (WIDE) {
        if (ok && left > 0)
            r = ptx_load_l2(p);
    } else if (ok) {
        const uint32_t *w = (const uint32_t *)p;
        r.x = left > 0 ? __ldcg(w) : 0;
        r.y = left > 2 ? __ldcg(w + 1) : 0;
        r.z = left > 4 ? __ldcg(w + 2) : 0;
        r.w = left > 6 ? __ldcg(w + 3) : 0;
    }
    return r;
}

/* Token of a lane's i-th row of V, i < 4. */
static __device__ __forceinline__ int v_token(int i, int t)
{
    return 2 * t + i % 2 + 8 * (i / 2);
}

/* Tokens [begin, end) of the page; others are zeros. */
template <int NB, bool WIDE>
static __device__ __forceinline__ void load_k(uint4 (&k)[2][NB], const uint16_t *page, int d,
                                              int begin, int end, int lane)
{
    int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        int token = 8 * j + g;
        bool ok = token >= begin && token < end;
#pragma unroll
        for (int s = 0; s < NB; s++) {
            int column = 32 * s + 8 * t;
            k[j][s] = load_8<WIDE>(page + token * d + column, d - column, ok);
        }
    }
}

template <int NV, bool WIDE>
static __device__ __forceinline__ void load_v(uint4 (&v)[NV][4], const uint16_t *page, int d,
                                              int begin, int end, int lane)
{
    int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int token = v_token(i, t);
        bool ok = token >= begin && token < end;
#pragma unroll
        for (int b = 0; b < NV; b++) {
            int column = 64 * b + 8 * g;
            v[b][i] = load_8<WIDE>(page + token * d + column, d - column, ok);
        }
    }
}

/* The same two on their way to shared memory: [piece][lane] 16 bytes. */
template <int NB, int NV>
static __device__ __forceinline__ void copy_page(uint4 *stage, const uint16_t *k, const uint16_t *v,
                                                 int d, int begin, int end, int lane)
{
    int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 2 * NB; i++) {
        int token = 8 * (i / NB) + g, column = 32 * (i % NB) + 8 * t;
        bool ok = token >= begin && token < end && column < d;
        ptx_cp_async16_or_zero(stage + i * 32 + lane, ok ? k + token * d + column : k, ok);
    }
#pragma unroll
    for (int i = 0; i < 4 * NV; i++) {
        int token = v_token(i % 4, t), column = 64 * (i / 4) + 8 * g;
        bool ok = token >= begin && token < end && column < d;
        ptx_cp_async16_or_zero(stage + (2 * NB + i) * 32 + lane, ok ? v + token * d + column : v,
                               ok);
    }
}

/* Scores of the page's 16 tokens for head g: s[0..3] of tokens 2t, 2t + 1, 2t + 8, 2t + 9; -inf
 * outside [begin, end). */
template <int NB>
static __device__ __forceinline__ void score(float s[4], const uint4 (&k)[2][NB], const uint4 *q_hi,
                                             const uint4 *q_lo, int begin, int end, int lane)
{
    float c[2][2][4] = {};
#pragma unroll
    for (int b = 0; b < NB; b++) {
        uint4 hi = q_hi[b * 32 + lane], lo = q_lo[b * 32 + lane];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            ptx_mma_bf16(c[j][0], hi.x, lo.x, hi.y, lo.y, k[j][b].x, k[j][b].y);
            ptx_mma_bf16(c[j][1], hi.z, lo.z, hi.w, lo.w, k[j][b].z, k[j][b].w);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int j = i / 2, e = i % 2, token = v_token(i, lane % 4);
        float sum = (c[j][0][e] + c[j][1][e]) + (c[j][0][e + 2] + c[j][1][e + 2]);
        s[i] = token >= begin && token < end ? sum : -INFINITY;
    }
}

static __device__ __forceinline__ uint32_t word(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* o += V^T p: o[b][i] holds columns 64 b + 8 g + 2 i (c0, c1) and one further (c2, c3) of heads 2t
 * and 2t + 1. */
template <int NV>
static __device__ __forceinline__ void weigh(float (&o)[NV][4][4], const uint4 (&v)[NV][4],
                                             const float p[4])
{
    uint32_t hi[4], lo[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        hi[i] = bf16_bits(p[i]);
        lo[i] = bf16_bits(p[i] - bf16_value(hi[i]));
    }
    uint32_t h0 = hi[0] | hi[1] << 16, h1 = hi[2] | hi[3] << 16;
    uint32_t l0 = lo[0] | lo[1] << 16, l1 = lo[2] | lo[3] << 16;
#pragma unroll
    for (int b = 0; b < NV; b++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t w0 = word(v[b][0], i), w1 = word(v[b][1], i);
            uint32_t w2 = word(v[b][2], i), w3 = word(v[b][3], i);
            uint32_t a0 = __byte_perm(w0, w1, 0x5410), a1 = __byte_perm(w0, w1, 0x7632);
            uint32_t a2 = __byte_perm(w2, w3, 0x5410), a3 = __byte_perm(w2, w3, 0x7632);
            ptx_mma_bf16(o[b][i], a0, a1, a2, a3, h0, h1);
            ptx_mma_bf16(o[b][i], a0, a1, a2, a3, l0, l1);
        }
    }
}

/* ---- a block ---- */

/* What a block works on. */
struct attend_work {
    int at;                         /* place of the row's sums: which of the rows attended here */
    int row, pos, low;              /* tokens low .. pos */
    int chunk, chunks;              /* of those that the row touches */
    int kv_head, head_begin, heads; /* query heads head_begin .. of those of kv_head */
    int base;                       /* first token of the warp's first page */
    const int32_t *pages;
};

/* False: there is nothing to do for this block. */
static __device__ __forceinline__ bool find_work(const struct attend_call &c, struct attend_work *w)
{
    w->at = (int)blockIdx.y;
    if (w->at >= (c.a.split ? c.a.split->singles : c.s.head->rows[VIEW_ROWS]))
        return false;
    w->row = c.a.split ? c.a.single[w->at] : w->at;
    w->pos = c.s.position[w->row];
    w->low = c.a.window > 0 ? max(0, w->pos - c.a.window + 1) : 0;
    int first = w->low / ATTEND_CHUNK;
    w->chunks = w->pos / ATTEND_CHUNK - first + 1;
    int x = (int)blockIdx.x;
    w->kv_head = x % c.a.kv_heads;
    x /= c.a.kv_heads;
    w->head_begin = x % c.head_groups * GROUP;
    w->heads = min(c.group - w->head_begin, GROUP);
    w->chunk = x / c.head_groups;
    w->base = (first + w->chunk) * ATTEND_CHUNK + (int)threadIdx.x / 32 * PAGE;
    w->pages = c.s.pages + c.s.page_begin[c.s.seq_of_row[w->row]];
    return w->chunk < w->chunks;
}

/* The warp's two pages: their first tokens; the tokens of each that the row sees, [begin, end); and
 * the end of those that are in memory. */
static __device__ __forceinline__ int page_base(const struct attend_work &w, int i)
{
    return w.base + WARPS * PAGE * i;
}

static __device__ __forceinline__ int token_begin(const struct attend_work &w, int i)
{
    return max(w.low - page_base(w, i), 0);
}

static __device__ __forceinline__ int token_end(const struct attend_work &w, int i)
{
    return min(w.pos + 1 - page_base(w, i), PAGE);
}

static __device__ __forceinline__ bool sees(const struct attend_work &w, int i)
{
    return token_begin(w, i) < token_end(w, i);
}

static __device__ __forceinline__ int stored_end(const struct attend_work &w, int i, bool own)
{
    return min(w.pos + (own ? 0 : 1) - page_base(w, i), PAGE);
}

/* q' of the block's heads, and k', v of the row where `own`: warps take them in turn. */
template <int NB>
static __device__ __forceinline__ void make_heads(const struct attend_call &c,
                                                  const struct attend_work &w, bool own,
                                                  const struct head_pairs<(NB + 1) / 2> &cs,
                                                  uint8_t *smem)
{
    using at = attend_smem<NB>;
    constexpr int PAIRS = at::NV;
    int lane = (int)threadIdx.x % 32, d = c.a.head_dim, pairs = d / 2;
    uint16_t *q_hi = (uint16_t *)(smem + at::Q_HI), *q_lo = (uint16_t *)(smem + at::Q_LO);
    uint16_t *slot_k = NULL, *slot_v = NULL;
    if (own && w.head_begin == 0) {
        int page = w.pages[w.pos / PAGE];
        slot_k = kv_at(c, page, 0, w.kv_head) + (w.pos % PAGE) * d;
        slot_v = kv_at(c, page, 1, w.kv_head) + (w.pos % PAGE) * d;
    }
    float scale = c.a.scale * LOG2E;
    for (int i = (int)threadIdx.x / 32; i < w.heads + (own ? 2 : 0); i += WARPS) {
        if (i == w.heads) {
            make_key(c, w.row, w.kv_head, cs, lane, (uint16_t *)(smem + at::K_NEW), slot_k);
            continue;
        }
        if (i == w.heads + 1) {
            make_value<PAIRS>(c, w.row, w.kv_head, lane, (uint16_t *)(smem + at::V_NEW), slot_v);
            continue;
        }
        struct head_pairs<PAIRS> r;
        int head = w.kv_head * c.group + w.head_begin + i;
        turn(c, c.a.qkv + (size_t)w.row * c.a.qkv_stride + (size_t)head * d, c.a.q_norm, cs, lane,
             &r);
#pragma unroll
        for (int j = 0; j < 2 * PAIRS; j++) {
            int column = lane + 32 * (j / 2);
            if (column >= pairs)
                continue;
            column += j % 2 ? pairs : 0;
            float x = j % 2 ? r.y[j / 2] : r.x[j / 2];
            uint32_t hi = bf16_bits(__fmul_rn(x, scale));
            int at_q = column / 32 * 256 + i * 32 + column % 32;
            q_hi[at_q] = (uint16_t)hi;
            q_lo[at_q] = (uint16_t)bf16_bits(fmaf(x, scale, -bf16_value(hi)));
        }
    }
}

/* Adds the chunks of the row, all heads of the kv head, in order, to the output. */
static __device__ void merge_chunks(const struct attend_call &c, const struct attend_work &w)
{
    int d = c.a.head_dim, pairs = d / 2;
    for (int i = (int)threadIdx.x; i < c.group * pairs; i += THREADS) {
        int head = w.kv_head * c.group + i / pairs, column = 2 * (i % pairs);
        const float *from =
            c.a.partial + ((size_t)w.at * c.a.heads + head) * c.a.chunks_max * (d + 2);
        float most = -INFINITY;
#pragma unroll 4
        for (int n = 0; n < w.chunks; n++)
            most = fmaxf(most, __ldcg(from + (size_t)n * (d + 2) + d));
        float sum = 0.0f, x = 0.0f, y = 0.0f;
#pragma unroll 4
        for (int n = 0; n < w.chunks; n++) {
            const float2 *p = (const float2 *)(from + (size_t)n * (d + 2));
            float2 ml = __ldcg(p + pairs), o = __ldcg(p + column / 2);
            float f = ptx_exp2(ml.x - most);
            sum = fmaf(ml.y, f, sum);
            x = fmaf(o.x, f, x);
            y = fmaf(o.y, f, y);
        }
        uint16_t *out = (uint16_t *)c.a.out + (size_t)w.row * c.a.out_stride + head * d + column;
        *(uint32_t *)out = bf16_bits(x / sum) | bf16_bits(y / sum) << 16;
    }
}

/* Adds the warps' sums in order: to the output where the row has one chunk, else to `partial`. */
template <int NB>
static __device__ __forceinline__ void merge_warps(const struct attend_call &c,
                                                   const struct attend_work &w, const uint8_t *smem)
{
    using at = attend_smem<NB>;
    const float *most_of = (const float *)(smem + at::MOST);
    const float *sum_of = (const float *)(smem + at::SUM);
    int d = c.a.head_dim, pairs = d / 2;
    for (int i = (int)threadIdx.x; i < w.heads * pairs; i += THREADS) {
        int h = i / pairs, column = 2 * (i % pairs);
        float most = -INFINITY, sum = 0.0f, x = 0.0f, y = 0.0f;
#pragma unroll
        for (int n = 0; n < WARPS; n++)
            most = fmaxf(most, most_of[n * GROUP + h]);
#pragma unroll
        for (int n = 0; n < WARPS; n++) {
            float m = most_of[n * GROUP + h];
            if (m == -INFINITY)
                continue;
            float f = ptx_exp2(m - most);
            float2 o = *(const float2 *)(smem + at::STAGE + n * c.stage_stride +
                                         (h * at::ROW + column) * 4);
            sum = fmaf(sum_of[n * GROUP + h], f, sum);
            x = fmaf(o.x, f, x);
            y = fmaf(o.y, f, y);
        }
        int head = w.kv_head * c.group + w.head_begin + h;
        if (w.chunks == 1) {
            uint16_t *out =
                (uint16_t *)c.a.out + (size_t)w.row * c.a.out_stride + head * d + column;
            *(uint32_t *)out = bf16_bits(x / sum) | bf16_bits(y / sum) << 16;
            continue;
        }
        size_t index = ((size_t)w.at * c.a.heads + head) * c.a.chunks_max + w.chunk;
        float2 *to = (float2 *)(c.a.partial + index * (d + 2));
        to[column / 2] = make_float2(x, y);
        if (column == 0)
            to[pairs] = make_float2(most, sum);
    }
}

/* Scores of the warp's two pages: p[i] as of `score`. k holds the first page, then the second. */
template <int NB, bool WIDE>
static __device__ __forceinline__ void score_pages(const struct attend_call &c,
                                                   const struct attend_work &w, bool own,
                                                   const uint8_t *smem, const uint4 *stage,
                                                   const uint16_t *second, uint4 (&k)[2][NB],
                                                   float (&p)[2][4])
{
    using at = attend_smem<NB>;
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint4 *k_new = (const uint4 *)(smem + at::K_NEW);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        p[i][0] = p[i][1] = p[i][2] = p[i][3] = -INFINITY;
        if (!sees(w, i))
            continue;
        if (i == 1 && at::STAGED && WIDE) {
            ptx_cp_async_wait<0>();
#pragma unroll
            for (int n = 0; n < 2 * NB; n++)
                k[n / NB][n % NB] = stage[n * 32 + lane];
        } else if (i == 1) {
            load_k<NB, WIDE>(k, second, c.a.head_dim, token_begin(w, 1), stored_end(w, 1, own),
                             lane);
        }
        int slot = own ? w.pos - page_base(w, i) : -1;
#pragma unroll
        for (int n = 0; n < 2 * NB; n++) {
            if (slot == n / NB * 8 + g)
                k[n / NB][n % NB] = k_new[n % NB * 4 + t];
        }
        score<NB>(p[i], k, (const uint4 *)(smem + at::Q_HI), (const uint4 *)(smem + at::Q_LO),
                  token_begin(w, i), token_end(w, i), lane);
    }
}

/* Scores to weights against the warp's largest score; leaves that and the sum to the block. */
template <int NB> static __device__ __forceinline__ void soften(float (&p)[2][4], uint8_t *smem)
{
    using at = attend_smem<NB>;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    float most = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++)
        most = fmaxf(most, p[i / 4][i % 4]);
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
#pragma unroll
    for (int i = 0; i < 8; i++) {
        p[i / 4][i % 4] = p[i / 4][i % 4] == -INFINITY ? 0.0f : ptx_exp2(p[i / 4][i % 4] - most);
        sum += p[i / 4][i % 4];
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (lane % 4 == 0) {
        ((float *)(smem + at::MOST))[warp * GROUP + lane / 4] = most;
        ((float *)(smem + at::SUM))[warp * GROUP + lane / 4] = sum;
    }
}

/* The warp's weighted sums of both pages, to its part of shared memory. */
template <int NB, bool WIDE>
static __device__ __forceinline__ void weigh_pages(
    const struct attend_call &c, const struct attend_work &w, bool own, const uint8_t *smem,
    uint4 *stage, const uint16_t *second, uint4 (&v)[(NB + 1) / 2][4], const float (&p)[2][4])
{
    using at = attend_smem<NB>;
    constexpr int NV = at::NV;
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint4 *v_new = (const uint4 *)(smem + at::V_NEW);
    float o[NV][4][4] = {};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (!sees(w, i))
            continue;
        if (i == 1 && at::STAGED && WIDE) {
#pragma unroll
            for (int n = 0; n < 4 * NV; n++)
                v[n / 4][n % 4] = stage[(2 * NB + n) * 32 + lane];
        } else if (i == 1) {
            load_v<NV, WIDE>(v, second, c.a.head_dim, token_begin(w, 1), stored_end(w, 1, own),
                             lane);
        }
        int slot = own ? w.pos - page_base(w, i) : -1;
#pragma unroll
        for (int n = 0; n < 4 * NV; n++) {
            if (slot == v_token(n % 4, t))
                v[n / 4][n % 4] = v_new[n / 4 * 8 + g];
        }
        weigh<NV>(o, v, p[i]);
    }
    __syncwarp(); /* lanes have read their pieces of the stage before it takes the sums */
    float *sums = (float *)stage;
#pragma unroll
    for (int n = 0; n < 2 * NV; n++) {
        int b = n / 2, e = n % 2, h = 2 * t + e, column = 64 * b + 8 * g;
        if (h < w.heads && column < 32 * NB) {
            float4 *to = (float4 *)(sums + h * at::ROW + column);
            to[0] = make_float4(o[b][0][e], o[b][0][e + 2], o[b][1][e], o[b][1][e + 2]);
            to[1] = make_float4(o[b][2][e], o[b][2][e + 2], o[b][3][e], o[b][3][e + 2]);
        }
    }
}

/* Whether this block is the last of its row and kv head; its partial sums are written. */
static __device__ __forceinline__ bool arrive_last(const struct attend_call &c,
                                                   const struct attend_work &w, uint32_t *last)
{
    __threadfence(); /* this thread's partial sums before the block's arrival */
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t *arrived = c.a.arrived + (size_t)w.row * c.a.kv_heads + w.kv_head;
        *last = atomicAdd(arrived, 1u) == (uint32_t)(w.chunks * c.head_groups - 1);
        if (*last)
            *arrived = 0;
        __threadfence(); /* the other blocks' arrivals before their partial sums are read */
    }
    __syncthreads(); /* the verdict before all read it */
    return *last != 0;
}

template <int NB, bool WIDE>
__global__ __launch_bounds__(THREADS, NB <= 4 && WIDE ? 2 : 1) void k_attend_rows(
    const __grid_constant__ struct attend_call c)
{
    using at = attend_smem<NB>;
    constexpr int NV = at::NV;
    DYN_SMEM(smem);
    ptx_pdl_trigger();
    struct attend_work w;
    if (!find_work(c, &w)) {
        if (blockIdx.x == 0 && blockIdx.y == 0)
            ptx_pdl_wait(); /* an empty step must not end before the nodes in front of it */
        return;
    }
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, d = c.a.head_dim;
    bool own = c.a.one_row_each && w.chunk == w.chunks - 1;
    const uint16_t *k_page[2], *v_page[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int page = sees(w, i) ? w.pages[page_base(w, i) / PAGE] : 0;
        k_page[i] = kv_at(c, page, 0, w.kv_head);
        v_page[i] = kv_at(c, page, 1, w.kv_head);
    }
    struct head_pairs<NV> cs;
    load_angles(c, w.pos, lane, &cs);
    if (!c.a.one_row_each)
        ptx_pdl_wait(); /* the rows' keys, written by the node in front, before any page is read */

    uint4 k[2][NB], v[NV][4];
    uint4 *stage = (uint4 *)(smem + at::STAGE + warp * c.stage_stride);
    if (at::STAGED && WIDE && sees(w, 1))
        copy_page<NB, NV>(stage, k_page[1], v_page[1], d, token_begin(w, 1), stored_end(w, 1, own),
                          lane);
    ptx_cp_async_commit();
    load_k<NB, WIDE>(k, k_page[0], d, token_begin(w, 0), stored_end(w, 0, own), lane);
    load_v<NV, WIDE>(v, v_page[0], d, token_begin(w, 0), stored_end(w, 0, own), lane);
    for (int i = (int)threadIdx.x; i < at::MOST / 16; i += THREADS)
        ((uint4 *)smem)[i] = make_uint4(0, 0, 0, 0);
    __syncthreads(); /* zeros before the heads */
    if (c.a.one_row_each)
        ptx_pdl_wait(); /* qkv */
    make_heads<NB>(c, w, own, cs, smem);
    __syncthreads(); /* q', k', v of the row before all warps read them */

    float p[2][4];
    score_pages<NB, WIDE>(c, w, own, smem, stage, k_page[1], k, p);
    soften<NB>(p, smem);
    weigh_pages<NB, WIDE>(c, w, own, smem, stage, v_page[1], v, p);
    __syncthreads(); /* all warps' sums before they are added */
    merge_warps<NB>(c, w, smem);
    if (w.chunks > 1 && arrive_last(c, w, (uint32_t *)(smem + at::LAST)))
        merge_chunks(c, w);
}

/* ---- launch ---- */

template <int NB, bool WIDE>
static enum status launch_rows(const struct attend_call &given, cudaStream_t s)
{
    using at = attend_smem<NB>;
    struct attend_call c = given;
    int heads = c.group < GROUP ? c.group : GROUP;
    int sums = heads * at::ROW * 4;
    c.stage_stride = WIDE && at::PAGE_BYTES > sums ? at::PAGE_BYTES : (sums + 15) / 16 * 16;
    size_t smem = (size_t)(at::STAGE + WARPS * c.stage_stride);
    unsigned across = (unsigned)(c.a.kv_heads * c.head_groups * c.a.chunks_max);
    unsigned rows = (unsigned)(c.a.split ? c.a.singles_max : c.a.rows_max);
    return launch({dim3(across, rows, 1), THREADS, smem, c.a.dependent != 0}, s,
                  k_attend_rows<NB, WIDE>, c);
}

static bool fits(const struct attend_args *a)
{
    bool shape = a->head_dim >= 2 && a->head_dim <= 2 * 32 * PAIRS_MAX && a->head_dim % 2 == 0 &&
                 a->kv_heads > 0 && a->heads > 0 && a->heads % a->kv_heads == 0 &&
                 a->out_stride % 2 == 0;
    bool grid = a->rows_max > 0 && a->rows_max <= 65535 && a->chunks_max > 0 &&
                a->chunks_max <= (1 << 24) / a->heads;
    bool memory =
        a->step && a->qkv && a->kv && a->out && a->rope_cos && a->rope_sin &&
        (uintptr_t)a->kv % 16 == 0 && (uintptr_t)a->out % 4 == 0 &&
        (a->chunks_max == 1 || (a->partial && a->arrived && (uintptr_t)a->partial % 8 == 0));
    bool split = !a->split || (!a->one_row_each && a->singles_max >= 0 && a->pieces_max >= 0 &&
                               (a->singles_max == 0 || a->single) &&
                               (a->pieces_max == 0 || cuda_attend_prefill_takes(a->head_dim)));
    return shape && grid && memory && split;
}

static enum status attend_rows(const struct attend_call &c, cudaStream_t s)
{
    int d = c.a.head_dim;
    if (d % 8 != 0)
        return d <= 128 ? launch_rows<4, false>(c, s) : launch_rows<8, false>(c, s);
    if (d <= 32)
        return launch_rows<1, true>(c, s);
    if (d <= 64)
        return launch_rows<2, true>(c, s);
    if (d <= 96)
        return launch_rows<3, true>(c, s);
    return d <= 128 ? launch_rows<4, true>(c, s) : launch_rows<8, true>(c, s);
}

enum status cuda_attend(const struct attend_args *a, cudaStream_t s)
{
    if (!fits(a))
        return STATUS_UNSUPPORTED;
    struct attend_call c = {};
    c.a = *a;
    c.s = *a->step;
    c.group = a->heads / a->kv_heads;
    c.head_groups = (c.group + GROUP - 1) / GROUP;
    if (!a->one_row_each) {
        enum status status =
            launch({dim3((unsigned)a->rows_max, 1, 1), THREADS, 0, a->dependent != 0}, s,
                   k_attend_keys, c);
        if (status != STATUS_OK)
            return status;
    }
    if (!a->split || a->singles_max > 0) {
        enum status status = attend_rows(c, s);
        if (status != STATUS_OK || !a->split)
            return status;
    }
    return a->pieces_max > 0 ? cuda_attend_prefill(a, s) : STATUS_OK;
}
