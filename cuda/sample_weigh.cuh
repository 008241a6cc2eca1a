/* sample_weigh: weights of candidates, their sums by part, and the draw over them: first the part,
 * then the id in it. By the last block of a row. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_WEIGH_CUH
#define CHORUS_CUDA_SAMPLE_WEIGH_CUH

#include "cuda/sample_select.cuh"

#define PARTS_EACH ((PARTS_MAX + THREADS - 1) / THREADS)

/* Candidates of the tile become their weights, 0 where dropped and up to the tile's end. */
static __device__ void weigh_tile(struct shared *sh, const struct row *r, const struct field *f,
                                  int t, int n, float least)
{
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < PART; i += THREADS) {
        float w = 0.0f;
        if (i < n) {
            float z = sh->tile[i], s = scaled(r, z);
            uint32_t id = tile_id(sh, f, t, i);
            w = exp_of(s);
            bool keep =
                w >= least && keeps(f->top_k, z_key(r, z), id) && keeps(f->top_p, s_key(s), id);
            w = keep ? w : 0.0f;
        }
        sh->tile[i] = w;
    }
    __syncthreads(); /* weights are written before they are added up */
}

/* This thread's weights of the tile, one behind the other. */
static __device__ __forceinline__ void own_weights(const struct shared *sh, float w[EACH])
{
#pragma unroll
    for (int i = 0; i < EACH; i += 4) {
        float4 v = *(const float4 *)(sh->tile + (int)threadIdx.x * EACH + i);
        w[i] = v.x;
        w[i + 1] = v.y;
        w[i + 2] = v.z;
        w[i + 3] = v.w;
    }
}

/* Sum of the weights before this thread's; *total of the tile. */
static __device__ double tile_before(struct shared *sh, double *total)
{
    struct sum2 s = {0.0f, 0.0f};
    float w[EACH];
    own_weights(sh, w);
#pragma unroll
    for (int i = 0; i < EACH; i++)
        sum2_add(&s, w[i]);
    return sum_before(sum2_value(s), sh->sum, total);
}

/* Index of the first weight at which `base` and the sum so far exceed target; where rounding leaves
 * none, of the last that is not zero. */
static __device__ int draw_tile(struct shared *sh, double base, double before, double target)
{
    int first = (int)threadIdx.x * EACH, last = -1;
    double run = base + before;
    uint32_t hit = ALL;
    float w[EACH];
    own_weights(sh, w);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        run += (double)w[i];
        last = w[i] > 0.0f ? first + i : last;
        hit = hit == ALL && w[i] > 0.0f && run > target ? (uint32_t)(first + i) : hit;
    }
    begin_search(sh, ALL);
    if (hit != ALL)
        atomicMin(&sh->found, hit);
    if (last >= 0)
        atomicMax(&sh->other, (uint32_t)last);
    __syncthreads(); /* both are final before they are read */
    return (int)(sh->found != ALL ? sh->found : sh->other);
}

/* The part of [begin, end) at whose weight `base` and the sum so far exceed *target (below 0: set
 * to the row's share of the sum), else the last that has any; *before: the sum in front of it. */
static __device__ int find_part(struct shared *sh, const struct row *r, int begin, int end,
                                double base, double *target, double *before)
{
    int first = begin + (int)threadIdx.x * PARTS_EACH;
    double w[PARTS_EACH], mine = 0.0, total;
#pragma unroll
    for (int i = 0; i < PARTS_EACH; i++) {
        w[i] = first + i < end ? read_draw(r, first + i).w : 0.0;
        mine += w[i];
    }
    double run = base + sum_before(mine, sh->sum, &total), mark = run;
    *target = *target < 0.0 ? total * (double)r->p.uniform : *target;
    begin_search(sh, ALL);
    uint32_t hit = ALL, last = (uint32_t)begin;
#pragma unroll
    for (int i = 0; i < PARTS_EACH; i++) {
        if (w[i] > 0.0)
            last = (uint32_t)(first + i);
        if (hit == ALL && w[i] > 0.0 && run + w[i] > *target)
            hit = (uint32_t)(first + i);
        run += w[i];
    }
    atomicMax(&sh->other, last);
    if (hit != ALL)
        atomicMin(&sh->found, hit);
    __syncthreads(); /* both are final before they are read */
    int part = (int)(sh->found != ALL ? sh->found : sh->other);
    if (part >= first && part < first + PARTS_EACH) {
#pragma unroll
        for (int i = 0; i < PARTS_EACH; i++)
            mark += first + i < part ? w[i] : 0.0;
        sh->value = mark;
    }
    __syncthreads(); /* value is written before it is read */
    *before = sh->value;
    return part;
}

/* Draws in a part, with `base` in front of it. */
static __device__ int32_t draw_in(struct shared *sh, const struct row *r, const struct field *f,
                                  int part, double base, double target)
{
    struct walk k;
    double total;
    first_tile(&k, r, f, part);
    int n = open_tile(&k, sh, r, f, part);
    weigh_tile(sh, r, f, part, n, r->p.min_p);
    double before = tile_before(sh, &total);
    return part * PART + draw_tile(sh, base, before, target);
}

/* Draws over the whole row, f->whole; the parts' sums are in scratch. */
static __device__ int32_t draw_parts(struct shared *sh, const struct row *r, const struct field *f)
{
    double before, target = -1.0;
    int part = find_part(sh, r, 0, r->j.parts, 0.0, &target, &before);
    return draw_in(sh, r, f, part, before, target);
}

/* Weights of parts under f's cuts and `least`, also into the parts' sums. */
static __device__ __attribute__((noinline)) double weigh_parts(const struct field *from, int begin,
                                                               int end, float least)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    struct field f = *from;
    double total = 0.0;
    float ahead[EACH];
    __syncthreads(); /* the tile's last readers are done */
    load_part(r->logits, r->j.vocab, begin * PART, ahead);
    for (int t = begin; t < end; t++) {
        float z[EACH];
        struct sum2 s = {0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < EACH; i++)
            z[i] = clean(ahead[i]);
        if (t + 1 < end)
            load_part(r->logits, r->j.vocab, (t + 1) * PART, ahead);
        adjust_part(r, t * PART, sh->tile, z);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            uint32_t id = (uint32_t)id_of(t * PART, i);
            float x = scaled(r, z[i]), w = exp_of(x);
            bool keep =
                w >= least && keeps(f.top_k, z_key(r, z[i]), id) && keeps(f.top_p, s_key(x), id);
            sum2_add(&s, keep ? w : 0.0f);
        }
        double sum = block_sum(sum2_value(s), sh->sum);
        if (threadIdx.x == 0)
            r->draws[t].w = sum;
        total += sum;
    }
    __threadfence();
    __syncthreads(); /* sums are written before find_part reads them */
    return total;
}

#endif
