/* sample_select: which candidates top_k and top_p keep, by the last block of a row, in passes of
 * BINS bins over the bits of z or of -s, each pass inside the bin that the one before ended in; no
 * sort. The first pass of a nucleus over a whole row has been made by the row's blocks together.
 *
 * Masses of bins are whole numbers in units of 2^(unit - 150), unit from the bin's least weight, so
 * atomics leave no trace. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_SELECT_CUH
#define CHORUS_CUDA_SAMPLE_SELECT_CUH

#include "cuda/sample_part.cuh"

/* Kept: keys below `key`, and of those equal to it ids up to `id`. */
struct cut {
    uint32_t key, id;
};

static __device__ __forceinline__ bool keeps(struct cut c, uint32_t key, uint32_t id)
{
    return key < c.key || (key == c.key && id <= c.id);
}

/* Candidates to look through: the listed ones, in the tile, or the whole row part by part. */
struct field {
    bool whole;
    int listed;
    uint32_t far; /* largest key of z */
    struct cut top_k, top_p;
};

static __device__ __forceinline__ int tiles_of(const struct row *r, const struct field *f)
{
    return f->whole ? r->j.parts : 1;
}

static __device__ __forceinline__ void first_tile(struct walk *k, const struct row *r,
                                                  const struct field *f, int t)
{
    if (f->whole)
        walk_from(k, r, t);
}

/* Brings tile t, the one after the last, into shared memory; returns its number of candidates. */
static __device__ __forceinline__ int open_tile(struct walk *k, struct shared *sh,
                                                const struct row *r, const struct field *f, int t)
{
    if (!f->whole)
        return f->listed;
    walk_open(k, r, sh->tile);
    return min(PART, r->j.vocab - t * PART);
}

static __device__ __forceinline__ uint32_t tile_id(const struct shared *sh, const struct field *f,
                                                   int t, int i)
{
    return f->whole ? (uint32_t)(t * PART + i) : __float_as_uint(sh->tile[PART + i]);
}

/* A pass: keys [low, high] in bins of 2^shift from base on, what is below base in bin 0. */
struct range {
    uint32_t low, high, base, shift;
};

static __device__ __forceinline__ struct range near_range()
{
    return {0, s_key(EXP_LEAST), NEAR_KEY, NEAR_SHIFT};
}

static __device__ __forceinline__ uint32_t range_bin(const struct range *g, uint32_t key)
{
    return key < g->base ? 0 : min((key - g->base) >> g->shift, (uint32_t)BINS - 1);
}

/* The last key of a bin. */
static __device__ __forceinline__ uint32_t range_end(const struct range *g, uint32_t bin)
{
    uint64_t end = (uint64_t)g->base + ((uint64_t)(bin + 1) << g->shift) - 1;
    return end < g->high ? (uint32_t)end : g->high;
}

static __device__ __forceinline__ uint32_t shift_for(uint32_t span)
{
    int bits = 32 - __clz((int)span);
    return bits > 9 ? (uint32_t)bits - 9 : 0;
}

/* Key of a candidate, and whether it is one: by z, or by s among those that top_k keeps. */
template <bool MASS>
static __device__ __forceinline__ bool key_of(const struct shared *sh, const struct row *r,
                                              const struct field *f, int t, int i, uint32_t *key,
                                              float *w)
{
    float z = sh->tile[i];
    *key = z_key(r, z);
    if (!(z > -INFINITY) || !MASS)
        return z > -INFINITY;
    float s = scaled(r, z);
    *key = s_key(s);
    *w = exp_of(s);
    return *w > 0.0f && keeps(f->top_k, z_key(r, z), tile_id(sh, f, t, i));
}

template <bool MASS>
static __device__ __forceinline__ void clear_bins(struct shared *sh, const struct range *g)
{
    __syncthreads(); /* the last pass has been read */
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++) {
        int bin = (int)threadIdx.x + i * THREADS;
        sh->count[bin] = sh->low[bin] = sh->high[bin] = 0;
        if (MASS) {
            float far = fminf(__uint_as_float(range_end(g, (uint32_t)bin)), -EXP_LEAST);
            sh->unit[bin] = (__float_as_uint(exp_of(-far)) >> 23) - 1;
        }
    }
    __syncthreads(); /* bins are zero before they are counted in */
}

/* Whole numbers, because a bin's weights are not below 2^(unit - 127), nor above 2^6 of that. */
template <bool MASS>
static __device__ __forceinline__ void count_in(struct shared *sh, uint32_t bin, float w)
{
    atomicAdd(&sh->count[bin], 1u);
    if (!MASS)
        return;
    uint32_t bits = __float_as_uint(w);
    uint32_t amount = ((bits & 0x7fffffu) | 0x800000u) << ((bits >> 23) - sh->unit[bin]);
    uint32_t old = atomicAdd(&sh->low[bin], amount);
    if (old + amount < old)
        atomicAdd(&sh->high[bin], 1u);
}

/* The bins of -s of a part's weights, added to the row's. */
static __device__ void bins_of_part(struct shared *sh, const struct row *r, const float z[EACH])
{
    struct range g = near_range();
    clear_bins<true>(sh, &g);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float s = scaled(r, z[i]), w = exp_of(s);
        if (w > 0.0f)
            count_in<true>(sh, range_bin(&g, s_key(s)), w);
    }
    __syncthreads(); /* all is counted before it is handed on */
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++) {
        int bin = (int)threadIdx.x + i * THREADS;
        if (sh->count[bin] == 0)
            continue;
        atomicAdd(r->counts + bin, sh->count[bin]);
        atomicAdd(r->masses + bin, (unsigned long long)sh->high[bin] << 32 | sh->low[bin]);
    }
}

/* The bins that the row's blocks filled together. */
static __device__ void read_bins(struct shared *sh, const struct row *r, const struct range *g)
{
    clear_bins<true>(sh, g);
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++) {
        int bin = (int)threadIdx.x + i * THREADS;
        unsigned long long mass = __ldcg(r->masses + bin);
        sh->count[bin] = __ldcg(r->counts + bin);
        sh->low[bin] = (uint32_t)mass;
        sh->high[bin] = (uint32_t)(mass >> 32);
    }
    __syncthreads(); /* all are there before they are read */
}

template <bool MASS>
static __device__ void fill_bins(struct shared *sh, const struct row *r, const struct field *f,
                                 const struct range *g)
{
    struct walk k;
    clear_bins<MASS>(sh, g);
    first_tile(&k, r, f, 0);
    for (int t = 0; t < tiles_of(r, f); t++) {
        int n = open_tile(&k, sh, r, f, t);
#pragma unroll 1
        for (int i = (int)threadIdx.x; i < n; i += THREADS) {
            uint32_t key;
            float w = 0.0f;
            if (key_of<MASS>(sh, r, f, t, i, &key, &w) && key >= g->low && key <= g->high)
                count_in<MASS>(sh, range_bin(g, key), w);
        }
    }
    __syncthreads(); /* all is counted before it is read */
}

/* The id of the m-th (from 1) candidate with this key, ascending. */
template <bool MASS>
static __device__ uint32_t nth_id(struct shared *sh, const struct row *r, const struct field *f,
                                  uint32_t key, uint64_t m)
{
    struct walk walk;
    first_tile(&walk, r, f, 0);
    for (int t = 0; t < tiles_of(r, f); t++) {
        int n = open_tile(&walk, sh, r, f, t), first = (int)threadIdx.x * EACH;
        uint32_t hits = 0, k;
        float w;
        for (int i = 0; i < EACH; i++) {
            if (first + i < n && key_of<MASS>(sh, r, f, t, first + i, &k, &w) && k == key)
                hits |= 1u << i;
        }
        uint64_t total, before = sum_before((uint64_t)__popc(hits), sh->scan, &total);
        if (total < m) {
            m -= total;
            continue;
        }
        for (int i = 0; i < EACH; i++) {
            before += hits >> i & 1;
            if ((hits >> i & 1) && before == m)
                sh->found = tile_id(sh, f, t, first + i);
        }
        __syncthreads(); /* found is written before it is read */
        return sh->found;
    }
    return ALL;
}

/* The first bin with which `before` and the bins up to it reach `need`, BINS: none; *upto: what
 * lies in front of it. */
template <bool MASS>
static __device__ uint32_t bin_at(struct shared *sh, double before, double need, double *upto)
{
    int first = (int)threadIdx.x * BINS_EACH;
    double here[BINS_EACH], mine = 0.0, all;
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++) {
        here[i] = (double)sh->count[first + i];
        if (MASS)
            here[i] = (double)((uint64_t)sh->high[first + i] << 32 | sh->low[first + i]) *
                      power_of_two((int)sh->unit[first + i] - 150);
        mine += here[i];
    }
    before += sum_before(mine, sh->sum, &all);
    begin_search(sh, BINS);
    uint32_t hit = BINS;
    double sum = before;
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++) {
        if (hit == BINS && sh->count[first + i] > 0 && sum + here[i] >= need) {
            hit = (uint32_t)(first + i);
            before = sum;
        }
        sum += here[i];
    }
    if (hit < BINS)
        atomicMin(&sh->found, hit);
    __syncthreads(); /* found is final before it is read */
    uint32_t bin = sh->found;
    if (bin < BINS && bin == hit)
        sh->value = before;
    __syncthreads(); /* value is written before it is read */
    *upto = sh->value;
    return bin;
}

/* The shortest prefix whose count (by z), or whose weight (by s), reaches `need`. */
template <bool MASS>
static __device__ struct cut find_cut(struct shared *sh, const struct row *r, const struct field *f,
                                      double need)
{
    struct range g = {0, f->far, 0, shift_for(f->far)};
    double before = 0.0;
    if (MASS)
        g = near_range();
    if (MASS && f->whole && has_bins(r))
        read_bins(sh, r, &g);
    else
        fill_bins<MASS>(sh, r, f, &g);
    for (;;) {
        double upto;
        uint32_t bin = bin_at<MASS>(sh, before, need, &upto);
        if (bin == BINS)
            return {ALL, ALL};
        before = upto;
        uint32_t count = sh->count[bin], end = range_end(&g, bin);
        g.low = bin == 0 ? g.low : max(g.low, g.base + (bin << g.shift));
        g.high = end;
        if (count == 1 || (!MASS && before + (double)count == need))
            return {g.high, ALL};
        if (g.low == g.high)
            break;
        g.base = g.low;
        g.shift = shift_for(g.high - g.low);
        fill_bins<MASS>(sh, r, f, &g);
    }
    /* All that is left are ties: the first few by id. */
    double w = MASS ? (double)exp_of(-__uint_as_float(g.low)) : 1.0;
    uint32_t ties = sh->count[range_bin(&g, g.low)];
    double some = ceil((need - before) / w);
    uint64_t m = some < 1.0 ? 1 : some < (double)ties ? (uint64_t)some : ties;
    if (m == ties)
        return {g.low, ALL};
    return {g.low, nth_id<MASS>(sh, r, f, g.low, m)};
}

#endif
