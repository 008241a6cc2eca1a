/* sample_bins: counts and masses of a range of keys in BINS bins, of a block, and those of near_bin
 * that all blocks of a row fill together. Masses are whole numbers in units of 2^(unit - 150), unit
 * from the bin's least weight, so atomics leave no trace. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_BINS_CUH
#define CHORUS_CUDA_SAMPLE_BINS_CUH

#include "cuda/sample_field.cuh"

static __device__ __forceinline__ float weight_of(uint32_t key)
{
    return exp_of(-__uint_as_float(key));
}

/* Of the bin's least weight. */
static __device__ __forceinline__ uint32_t unit_of(const struct range *g, uint32_t bin)
{
    float far = fminf(__uint_as_float(range_end(g, bin)), -EXP_LEAST);
    return (__float_as_uint(exp_of(-far)) >> 23) - 1;
}

template <bool MASS>
static __device__ __forceinline__ void clear_bins(struct shared *sh, const struct range *g)
{
    __syncthreads(); /* the last pass has been read */
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++) {
        int bin = (int)threadIdx.x + i * THREADS;
        sh->count[bin] = sh->low[bin] = sh->high[bin] = 0;
        if (MASS)
            sh->unit[bin] = unit_of(g, (uint32_t)bin);
    }
    __syncthreads(); /* bins are zero before they are counted in */
}

/* w in units of 2^(unit - 150). A whole number, because w is not below 2^(unit - 127). */
static __device__ __forceinline__ uint64_t amount_of(float w, uint32_t unit)
{
    uint32_t bits = __float_as_uint(w);
    return (uint64_t)((bits & 0x7fffffu) | 0x800000u) << ((bits >> 23) - unit);
}

/* Adds to a sum of two words. */
static __device__ __forceinline__ void add_amount(uint32_t *low, uint32_t *high, uint64_t amount)
{
    uint32_t part = (uint32_t)amount, old = atomicAdd(low, part);
    uint32_t carry = (uint32_t)(amount >> 32) + (old + part < old);
    if (carry)
        atomicAdd(high, carry);
}

/* Those of a thread's keys that `in` has bits of, into their bins; weights and sums side by side,
 * because each waits for a chain of operations. */
template <bool MASS, int N>
static __device__ __forceinline__ void count_keys(struct shared *sh, const struct range *g,
                                                  const uint32_t key[N], uint32_t in)
{
    uint32_t bin[N], old[N];
    uint64_t amount[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        bool is = in >> i & 1;
        bin[i] = is ? range_bin(g, key[i]) : 0;
        amount[i] = MASS && is ? amount_of(weight_of(key[i]), sh->unit[bin[i]]) : 0;
    }
#pragma unroll
    for (int i = 0; i < N; i++) {
        old[i] = 0;
        if (!(in >> i & 1))
            continue;
        atomicAdd(&sh->count[bin[i]], 1u);
        if (MASS)
            old[i] = atomicAdd(&sh->low[bin[i]], (uint32_t)amount[i]);
    }
#pragma unroll
    for (int i = 0; MASS && i < N; i++) {
        uint32_t carry = (uint32_t)(amount[i] >> 32) + (old[i] + (uint32_t)amount[i] < old[i]);
        if (carry)
            atomicAdd(&sh->high[bin[i]], carry);
    }
}

static __device__ __forceinline__ double mass_of(uint64_t amount, uint32_t unit)
{
    return (double)amount * power_of_two((int)unit - 150);
}

static __device__ __forceinline__ double bin_mass(const struct shared *sh, int bin)
{
    return mass_of((uint64_t)sh->high[bin] << 32 | sh->low[bin], sh->unit[bin]);
}

/* The bins of -s of a part's weights, added to its section's. Returns their sum. */
static __device__ double bins_of_part(struct shared *sh, const struct row *r, int part,
                                      const float z[EACH])
{
    struct range g = near_range();
    clear_bins<true>(sh, &g);
    uint32_t key[EACH], in = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float s = scaled(r, z[i]);
        key[i] = s_key(s);
        in |= s >= EXP_LEAST ? 1u << i : 0u;
    }
    count_keys<true, EACH>(sh, &g, key, in);
    __syncthreads(); /* all is counted before it is handed on */
    unsigned long long *masses = r->masses + part / section_parts(r) * BINS;
    double mine = 0.0;
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++) {
        int bin = (int)threadIdx.x + i * THREADS;
        if (sh->count[bin] == 0)
            continue;
        mine += bin_mass(sh, bin);
        atomicAdd(r->counts + bin, sh->count[bin]);
        atomicAdd(masses + bin, (unsigned long long)sh->high[bin] << 32 | sh->low[bin]);
    }
    return block_sum(mine, sh->sum);
}

/* The bins that the row's blocks filled together. */
static __device__ void read_bins(struct shared *sh, const struct row *r, const struct range *g)
{
    clear_bins<true>(sh, g);
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++) {
        int bin = (int)threadIdx.x + i * THREADS;
        unsigned long long mass = 0;
#pragma unroll
        for (int s = 0; s < SECTIONS; s++)
            mass += s * section_parts(r) < r->j.parts ? __ldcg(r->masses + s * BINS + bin) : 0;
        sh->count[bin] = __ldcg(r->counts + bin);
        sh->low[bin] = (uint32_t)mass;
        sh->high[bin] = (uint32_t)(mass >> 32);
    }
    __syncthreads(); /* all are there before they are read */
}

#endif
