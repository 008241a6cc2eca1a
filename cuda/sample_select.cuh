/* sample_select: which candidates top_k and top_p keep, by the last block of a row, in passes of
 * BINS bins over the bits of z or of -s, each pass inside the bin that the one before ended in; no
 * sort. The first pass of a nucleus over a whole row has been made by the row's blocks together;
 * later ones see what is held (sample_hold.cuh). Device only. */
#ifndef CHORUS_CUDA_SAMPLE_SELECT_CUH
#define CHORUS_CUDA_SAMPLE_SELECT_CUH

#include "cuda/sample_bins.cuh"
#include "cuda/sample_hold.cuh"

/* Key of a candidate, and whether it is one: by z, or by s among those that top_k keeps. */
template <bool MASS>
static __device__ __forceinline__ bool key_of(const struct row *r, const struct field *f, float z,
                                              uint32_t id, uint32_t *key)
{
    *key = z_key(r, z);
    if (!(z > -INFINITY) || !MASS)
        return z > -INFINITY;
    bool kept = keeps(f->top_k, *key, id);
    *key = s_key(scaled(r, z));
    return kept && *key <= s_key(EXP_LEAST);
}

/* The same of a held one, which has z or s. */
template <bool MASS>
static __device__ __forceinline__ bool held_key(const struct row *r, float v, uint32_t *key)
{
    *key = MASS ? s_key(v) : z_key(r, v);
    return v > -INFINITY && (!MASS || *key <= s_key(EXP_LEAST));
}

template <bool MASS>
static __device__ __attribute__((noinline)) void count_held(const struct field *f,
                                                            const struct range *from)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    struct range g = *from;
    for (int at = 0; at < f->held; at += PART) {
        struct candidate c[EACH];
        uint32_t key[EACH], in = 0;
        read_held(r, f->held, at, c);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            bool is = held_key<MASS>(r, c[i].z, &key[i]) && key[i] >= g.low && key[i] <= g.high;
            in |= is ? 1u << i : 0u;
        }
        count_keys<MASS, EACH>(sh, &g, key, in);
    }
}

/* The same of the listed, or of the whole row. */
template <bool MASS>
static __device__ __attribute__((noinline)) void count_tiles(const struct field *f,
                                                             const struct range *from)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    struct range g = *from;
    struct walk k;
    first_tile(&k, r, f, 0);
    for (int t = 0; t < tiles_of(r, f); t++) {
        int n = open_tile(&k, sh, r, f, t);
#pragma unroll 1
        for (int first = (int)threadIdx.x; first < n; first += 2 * THREADS) {
            uint32_t key[2], in = 0;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int at = first + i * THREADS;
                float z = at < n ? sh->tile[at] : -INFINITY;
                bool is = key_of<MASS>(r, f, z, at < n ? tile_id(sh, f, t, at) : 0, &key[i]) &&
                          key[i] >= g.low && key[i] <= g.high;
                in |= is ? 1u << i : 0u;
            }
            count_keys<MASS, 2>(sh, &g, key, in);
        }
    }
}

template <bool MASS>
static __device__ void fill_bins(struct shared *sh, const struct field *f, const struct range *g)
{
    clear_bins<MASS>(sh, g);
    if (f->held >= 0)
        count_held<MASS>(f, g);
    else
        count_tiles<MASS>(f, g);
    __syncthreads(); /* all is counted before it is read */
}

/* The id of the m-th (from 1) candidate with this key, ascending. */
template <bool MASS>
static __device__ __attribute__((noinline)) uint32_t nth_id(const struct field *f, uint32_t key,
                                                            uint64_t m)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    struct walk walk;
    first_tile(&walk, r, f, 0);
    for (int t = 0; t < tiles_of(r, f); t++) {
        int n = open_tile(&walk, sh, r, f, t), first = (int)threadIdx.x * EACH;
        uint32_t hits = 0, k;
        for (int i = first; i < first + EACH; i++) {
            if (i < n && key_of<MASS>(r, f, sh->tile[i], tile_id(sh, f, t, i), &k) && k == key)
                hits |= 1u << (i - first);
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

/* The same among few held ones. */
template <bool MASS>
static __device__ __attribute__((noinline)) uint32_t nth_held(const struct field *f, uint32_t key,
                                                              uint64_t m)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    uint32_t *ids = (uint32_t *)sh->tile;
    begin_search(sh, 0);
    for (int at = 0; at < f->held; at += PART) {
        struct candidate c[EACH];
        read_held(r, f->held, at, c);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            uint32_t k;
            if (held_key<MASS>(r, c[i].z, &k) && k == key)
                ids[atomicAdd(&sh->found, 1u)] = (uint32_t)c[i].id;
        }
    }
    __syncthreads(); /* all are there before they are ranked */
    uint32_t n = sh->found;
    for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
        uint64_t rank = 1;
        for (uint32_t other = 0; other < n; other++)
            rank += ids[other] < ids[i];
        if (rank == m)
            sh->other = ids[i];
    }
    __syncthreads(); /* other is written before it is read */
    return sh->other;
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
        here[i] = MASS ? bin_mass(sh, first + i) : (double)sh->count[first + i];
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

#define HELD_TIES (4 * THREADS) /* more are found faster by a walk over the row */

/* The shortest prefix whose count (by z), or whose weight (by s), reaches `need`. */
template <bool MASS>
static __device__ __attribute__((noinline)) struct cut find_cut(struct field *f, double need)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    struct range g = {0, f->far, 0, shift_for(f->far), false};
    double before = 0.0;
    f->held = -1;
    if (MASS)
        g = near_range();
    if (MASS && f->whole && has_bins(r))
        read_bins(sh, r, &g);
    else
        fill_bins<MASS>(sh, f, &g);
    for (;;) {
        double upto;
        uint32_t bin = bin_at<MASS>(sh, before, need, &upto);
        if (bin == BINS)
            return {ALL, ALL};
        before = upto;
        uint32_t count = sh->count[bin], end = range_end(&g, bin);
        g.low = range_begin(&g, bin);
        g.high = end;
        if (count == 1 || (!MASS && before + (double)count == need))
            return {g.high, ALL};
        if (f->whole && f->held < 0 && count <= (uint32_t)held_max(r))
            hold<MASS>(sh, r, f, g.low, g.high);
        if (g.low == g.high)
            break;
        g.near = false;
        g.base = g.low;
        g.shift = shift_for(g.high - g.low);
        fill_bins<MASS>(sh, f, &g);
    }
    /* All that is left are ties: the first few by id. */
    double w = MASS ? (double)exp_of(-__uint_as_float(g.low)) : 1.0;
    uint32_t ties = sh->count[range_bin(&g, g.low)];
    double some = ceil((need - before) / w);
    uint64_t m = some < 1.0 ? 1 : some < (double)ties ? (uint64_t)some : ties;
    if (m == ties)
        return {g.low, ALL};
    uint32_t id =
        f->held >= 0 && ties <= HELD_TIES ? nth_held<MASS>(f, g.low, m) : nth_id<MASS>(f, g.low, m);
    return {g.low, id};
}

#endif
