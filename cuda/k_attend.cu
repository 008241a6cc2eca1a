/* k_attend: attention of single rows over paged keys and values; the contract is in k_attend.h.
 *
 *   q'[t, h] = rope(norm(q[t, h])), k' = rope(norm(k)), s[j] = scale * q' . K[j], p = softmax(s)
 *   a[t, h]  = sum_j p[j] V[j],  j over max(0, pos - window + 1) .. pos
 *
 * Shapes: qkv [T, qkv_stride] fp32; kv [page][k, v][KH][16][D] bf16, or bytes (k_attend.h); out [T,
 * out_stride] bf16; partial [T, H, chunks_max, D + 2] fp32: the sums of a chunk, its largest score,
 * its sum of weights.
 *
 * Mapping: grid (kv head fastest, then groups of 8 query heads, then part; row), 256 or 128
 * threads. A block serves up to 8 query heads of one kv head over one part, a chunk of 256
 * positions (or `span` of them, one after the other): K and V are read once for all of them. Of a
 * chunk's 16 pages slot i has the pages i and i + 8. 8 warps have a slot each: the first page goes
 * to registers, the second to shared memory by cp.async (head_dim <= 128; each lane reads only what
 * it copied itself). 4 warps have two slots each: what does not go to registers at once is asked
 * into L2. In a step of single rows all of it is under way before the wait for the node in front.
 *
 * Products on mma.m16n8k16 with fp32 sums. Scores: q' is the m16 operand, rows 0-7 the 8 heads
 * rounded to bf16, rows 8-15 what the rounding left (the sum has 16 bits), K the n8 operand, 8
 * tokens, straight from memory: lane (g, t) takes columns 32 s + 8 t .. + 7 of token g with one
 * 16-byte load, and q' is permuted alike. The scores then lie where the weights are wanted as n8
 * operand of a' = V^T p (two products, the rounded weight and the rest); V is the m16 operand: lane
 * (g, t) takes columns 64 b + 8 g .. + 7 of four tokens and pairs them with byte permutes.
 *
 * Order of sums: a score over steps 0, 2, 4 .. and 1, 3, 5 .. of 16 columns, then both; a slot's
 * two pages; slots 0 to 7; chunks in order, then parts. All fixed by the position alone; masked
 * tokens are zeros of V and weight 0. Parts of one row merge in the block that arrives last.
 *
 * Shared memory: q' 1 KiB per 32 columns, the row's own k and v, the slots' sums (132 floats a
 * head), and with 8 warps the second pages (64 B * D a warp) in the same place: 71 or 18 KiB at
 * D = 128 and three heads. Bytes: 4 D * positions a kv head; flops 4 D * positions a head.
 * Precision: q' and weights have 16 bits, K and V are what is stored: tests/kernels/test_attend.c
 * derives the bound. Bench: tests/kernels/bench_attend.c.
 */
#include "cuda/k_attend.h"

#include "cuda/attend_block.cuh"
#include "cuda/attend_keys.cuh"
#include "cuda/k_attend_prefill.h"
#include "cuda/launch.cuh"

/* ---- sums of slots, chunks and parts ---- */

/* Weighted sums of two columns against the largest score `most`, and their sum of weights. */
struct sums {
    float most, sum, x, y;
};

/* b's tokens come after a's. */
static __device__ __forceinline__ struct sums add_sums(const struct sums &a, const struct sums &b)
{
    float most = fmaxf(a.most, b.most), f = ptx_exp2(a.most - most), g = ptx_exp2(b.most - most);
    return {most, fmaf(b.sum, g, __fmul_rn(a.sum, f)), fmaf(b.x, g, __fmul_rn(a.x, f)),
            fmaf(b.y, g, __fmul_rn(a.y, f))};
}

static __device__ __forceinline__ void put_out(const struct attend_call &c,
                                               const struct attend_place &p, int head, int column,
                                               float x, float y)
{
    uint16_t *out =
        (uint16_t *)c.a.out + (size_t)p.row * c.a.out_stride + head * c.a.head_dim + column;
    *(uint32_t *)out = bf16_bits(x) | bf16_bits(y) << 16;
}

/* Adds the parts of the row, all heads of the kv head, in order, to the output. */
static __device__ void merge_parts(const struct attend_call &c, const struct attend_place &p)
{
    int d = c.a.head_dim, pairs = d / 2;
    for (int i = (int)threadIdx.x; i < c.group * pairs; i += (int)blockDim.x) {
        int head = p.kv_head * c.group + i / pairs, column = 2 * (i % pairs);
        const float *from = c.a.partial + ((size_t)p.at * c.a.heads + head) * c.parts_max * (d + 2);
        float most = -INFINITY;
#pragma unroll 4
        for (int n = 0; n < p.parts; n++)
            most = fmaxf(most, __ldcg(from + (size_t)n * (d + 2) + d));
        float sum = 0.0f, x = 0.0f, y = 0.0f;
#pragma unroll 4
        for (int n = 0; n < p.parts; n++) {
            const float2 *part = (const float2 *)(from + (size_t)n * (d + 2));
            float2 ml = __ldcg(part + pairs), o = __ldcg(part + column / 2);
            float f = ptx_exp2(ml.x - most);
            sum = fmaf(ml.y, f, sum);
            x = fmaf(o.x, f, x);
            y = fmaf(o.y, f, y);
        }
        put_out(c, p, head, column, x / sum, y / sum);
    }
}

/* The chunk's slots in order. */
template <int NB, bool WIDE, int NW>
static __device__ __forceinline__ struct sums merge_slots(const struct attend_call &c,
                                                          const uint8_t *smem, int h, int column)
{
    using at = attend_smem<NB, WIDE, NW>;
    const float *most_of = (const float *)(smem + at::MOST);
    const float *sum_of = (const float *)(smem + at::SUM);
    struct sums s = {-INFINITY, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < SLOTS; n++)
        s.most = fmaxf(s.most, most_of[n * GROUP + h]);
#pragma unroll
    for (int n = 0; n < SLOTS; n++) {
        float m = most_of[n * GROUP + h];
        if (m == -INFINITY)
            continue;
        float f = ptx_exp2(m - s.most);
        float2 o =
            *(const float2 *)(smem + at::STAGE + n * c.stage_stride + (h * at::ROW + column) * 4);
        s.sum = fmaf(sum_of[n * GROUP + h], f, s.sum);
        s.x = fmaf(o.x, f, s.x);
        s.y = fmaf(o.y, f, s.y);
    }
    return s;
}

/* Adds the chunk to those before it in the block; the last one to the output where the row has one
 * part, else to `partial`. */
template <int NB, bool WIDE, int NW, bool LONG>
static __device__ __forceinline__ void merge_chunk(const struct attend_call &c,
                                                   const struct attend_place &p, int chunk,
                                                   uint8_t *smem)
{
    using at = attend_smem<NB, WIDE, NW>;
    struct sums *run = (struct sums *)(smem + at::STAGE + SLOTS * c.stage_stride);
    int d = c.a.head_dim, pairs = d / 2;
    for (int i = (int)threadIdx.x; i < p.heads * pairs; i += NW * 32) {
        int h = i / pairs, column = 2 * (i % pairs);
        struct sums s = merge_slots<NB, WIDE, NW>(c, smem, h, column);
        if (LONG && chunk > p.first)
            s = add_sums(run[i], s);
        if (LONG && chunk < p.last) {
            run[i] = s;
            continue;
        }
        int head = p.kv_head * c.group + p.head_begin + h;
        if (p.parts == 1) {
            put_out(c, p, head, column, s.x / s.sum, s.y / s.sum);
            continue;
        }
        size_t index = ((size_t)p.at * c.a.heads + head) * c.parts_max + p.part;
        float2 *to = (float2 *)(c.a.partial + index * (d + 2));
        to[column / 2] = make_float2(s.x, s.y);
        if (column == 0)
            to[pairs] = make_float2(s.most, s.sum);
    }
}

/* Whether this block is the last of its row and kv head; its partial sums are written. */
static __device__ __forceinline__ bool arrive_last(const struct attend_call &c,
                                                   const struct attend_place &p, uint32_t *last)
{
    __threadfence(); /* this thread's partial sums before the block's arrival */
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t *arrived = c.a.arrived + (size_t)p.row * c.a.kv_heads + p.kv_head;
        *last = atomicAdd(arrived, 1u) == (uint32_t)(p.parts * c.head_groups - 1);
        if (*last)
            *arrived = 0;
        __threadfence(); /* the other blocks' arrivals before their partial sums are read */
    }
    __syncthreads(); /* the verdict before all read it */
    return *last != 0;
}

/* ---- the kernel ---- */

template <int NB, bool WIDE, int NW, bool LONG, bool INT8>
__global__ __launch_bounds__(
    NW * 32, NB <= 4 && WIDE ? (LONG ? 3 : 16 / NW)
                             : 1) void k_attend_rows(const __grid_constant__ struct attend_call c)
{
    using at = attend_smem<NB, WIDE, NW, INT8>;
    DYN_SMEM(smem);
    ptx_pdl_trigger();
    struct attend_place *place = (struct attend_place *)(smem + at::PLACE), own_place;
    struct attend_work w;
    if (!find_work(c, &own_place, &w)) {
        if (blockIdx.x == 0 && blockIdx.y == 0)
            ptx_pdl_wait(); /* an empty step must not end before the nodes in front of it */
        return;
    }
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    find_pages(c, own_place.first, lane, &w);
    struct head_pairs<at::NV> cs;
    load_angles(c, w.pos, lane, &cs);
    bool own = c.a.one_row_each && own_place.last == w.pos / ATTEND_CHUNK;
    int own_page = own ? w.pages[w.pos / PAGE] : 0;
    if (!c.a.one_row_each)
        ptx_pdl_wait(); /* the rows' keys, written by the node in front, before any page is read */

    struct slot_pages<NB, INT8> pages;
    float p[2][4];
    take_slot(warp, &w);
    load_slot<NB, WIDE, NW>(c, w, (uint4 *)(smem + at::STAGE + warp * c.stage_stride), pages);
    ask_slots<NB, WIDE, NW, INT8>(c, warp, lane, &w);
    for (int i = (int)threadIdx.x; i < at::MOST / 16; i += NW * 32)
        ((uint4 *)smem)[i] = make_uint4(0, 0, 0, 0);
    if (threadIdx.x == 0)
        *place = own_place;
    __syncthreads(); /* zeros and the place before their readers */
    if (c.a.one_row_each)
        ptx_pdl_wait(); /* qkv */
    make_heads<NB, WIDE, NW, INT8>(c, *place, w.pos, own, own_page, cs, smem);
    __syncthreads(); /* q', k', v of the row before all warps read them */

    for (;;) {
#pragma unroll 1
        for (int n = 0; n < SLOTS / NW; n++) {
            take_slot(n * NW + warp, &w);
            uint4 *stage = (uint4 *)(smem + at::STAGE + w.slot * c.stage_stride);
            if (n > 0 || (LONG && w.chunk > place->first))
                load_slot<NB, WIDE, NW>(c, w, stage, pages);
            score_slot<NB, WIDE, NW>(c, w, smem, stage, pages, p);
            soften<NB, WIDE, NW>(p, w.slot, smem);
            weigh_slot<NB, WIDE, NW>(c, w, place->heads, smem, stage, pages, p);
        }
        __syncthreads(); /* all slots' sums before they are added */
        merge_chunk<NB, WIDE, NW, LONG>(c, *place, w.chunk, smem);
        if (!LONG || w.chunk == place->last)
            break;
        find_pages(c, w.chunk + 1, lane, &w);
        ask_slots<NB, WIDE, NW, INT8>(c, warp, lane, &w);
        __syncthreads(); /* and added before the next chunk's take their place */
    }
    if (place->parts > 1 && arrive_last(c, *place, (uint32_t *)(smem + at::LAST)))
        merge_parts(c, *place);
}

/* ---- launch ---- */

template <int NB, bool WIDE, int NW, bool LONG, bool INT8>
static enum status launch_rows(const struct attend_call &given, int rows, cudaStream_t s)
{
    using at = attend_smem<NB, WIDE, NW, INT8>;
    struct attend_call c = given;
    int heads = c.group < GROUP ? c.group : GROUP;
    int sums = heads * at::ROW * 4;
    static_assert(at::STAGE + SLOTS * at::PAGE_BYTES +
                          (LONG ? GROUP * 256 / 2 * sizeof(struct sums) : 0) <=
                      LAUNCH_SMEM_LEAST,
                  "on all cards");
    c.stage_stride = at::PAGE_BYTES > sums ? at::PAGE_BYTES : (sums + 15) / 16 * 16;
    size_t smem = (size_t)(at::STAGE + SLOTS * c.stage_stride);
    if (LONG)
        smem += (size_t)(heads * c.a.head_dim / 2) * sizeof(struct sums);
    unsigned across = (unsigned)(c.a.kv_heads * c.head_groups * c.parts_max);
    return launch({dim3(across, (unsigned)rows, 1), NW * 32, smem, c.a.dependent != 0}, s,
                  k_attend_rows<NB, WIDE, NW, LONG, INT8>, c);
}

/* A warp a slot is the shortest way from q to the result. Parts of several chunks take half as many
 * warps and a quarter of the shared memory: there other blocks hide what a warp waits for. */
template <int NB, bool INT8>
static enum status launch_wide(const struct attend_call &c, int rows, cudaStream_t s)
{
    return c.a.span > 1 ? launch_rows<NB, true, SLOTS / 2, true, INT8>(c, rows, s)
                        : launch_rows<NB, true, SLOTS, false, INT8>(c, rows, s);
}

/* Heads of any other width. */
template <int NB, bool WIDE, bool INT8>
static enum status launch_plain(const struct attend_call &c, int rows, cudaStream_t s)
{
    return c.a.span > 1 ? launch_rows<NB, WIDE, SLOTS, true, INT8>(c, rows, s)
                        : launch_rows<NB, WIDE, SLOTS, false, INT8>(c, rows, s);
}

template <bool INT8>
static enum status launch_any(const struct attend_call &c, int rows, cudaStream_t s)
{
    int d = c.a.head_dim;
    if constexpr (!INT8)
        if (d % 8 != 0)
            return d <= 128 ? launch_plain<4, false, INT8>(c, rows, s)
                            : launch_plain<8, false, INT8>(c, rows, s);
    if (d <= 32)
        return launch_wide<1, INT8>(c, rows, s);
    if (d <= 64)
        return launch_wide<2, INT8>(c, rows, s);
    if (d <= 96)
        return launch_wide<3, INT8>(c, rows, s);
    return d <= 128 ? launch_wide<4, INT8>(c, rows, s) : launch_plain<8, true, INT8>(c, rows, s);
}

static bool fits(const struct attend_args *a)
{
    bool shape = a->head_dim >= 2 && a->head_dim <= 2 * 32 * PAIRS_MAX && a->head_dim % 2 == 0 &&
                 a->kv_heads > 0 && a->heads > 0 && a->heads % a->kv_heads == 0 &&
                 a->out_stride % 2 == 0 && a->span > 0;
    int parts = shape ? attend_parts(a->chunks_max, a->span, a->window) : 0;
    bool grid = a->rows_max > 0 && a->rows_max <= 65535 && a->chunks_max > 0 &&
                a->chunks_max <= (1 << 24) / a->heads;
    bool memory = a->step && a->qkv && a->kv && a->out && a->rope_cos && a->rope_sin &&
                  (uintptr_t)a->kv % 16 == 0 && (uintptr_t)a->out % 4 == 0 &&
                  (parts == 1 || (a->partial && a->arrived && (uintptr_t)a->partial % 8 == 0));
    bool split = !a->split || (!a->one_row_each && a->singles_max >= 0 && a->pieces_max >= 0 &&
                               (a->singles_max == 0 || a->single) &&
                               (a->pieces_max == 0 || cuda_attend_prefill_takes(a->head_dim)));
    return shape && grid && memory && split;
}

/* As many launches as `partial` asks for. */
static enum status attend_rows(struct attend_call c, cudaStream_t s)
{
    int rows = c.a.split ? c.a.singles_max : c.a.rows_max;
    int room = c.parts_max > 1 && c.a.partial_rows > 0 ? c.a.partial_rows : rows;
    for (; c.begin < rows; c.begin += room) {
        int now = rows - c.begin < room ? rows - c.begin : room;
        enum status status =
            c.a.kv_type == KV_INT8 ? launch_any<true>(c, now, s) : launch_any<false>(c, now, s);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
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
    c.parts_max = attend_parts(a->chunks_max, a->span, a->window);
    if (!a->one_row_each) {
        enum status status =
            launch({dim3((unsigned)a->rows_max, 1, 1), KEYS_WARPS * 32, 0, a->dependent != 0}, s,
                   c.a.kv_type == KV_INT8 ? k_attend_keys<true> : k_attend_keys<false>, c);
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
