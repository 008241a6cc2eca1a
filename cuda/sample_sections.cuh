/* sample_sections: the draw from a nucleus of thousands, by the last block of a row, from the bins
 * that the parts of each section have filled together. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_SECTIONS_CUH
#define CHORUS_CUDA_SAMPLE_SECTIONS_CUH

#include "cuda/sample_weigh.cuh"

#define MIN_P_MARGIN 1e-3f

struct bins_open {
    uint32_t first, last;
};

/* The bins between which f's cut and min_p end: all below `first` is kept, all behind `last` not.
 * The weights of a bin do not fall quite as its keys rise, hence the margin about min_p. */
static __device__ struct bins_open open_bins(const struct row *r, const struct field *f)
{
    struct range g = near_range();
    uint32_t key = min(f->top_p.key, g.high), last = range_bin(&g, key);
    bool all = key == range_end(&g, last) && f->top_p.id == ALL;
    struct bins_open b = {all ? last + 1 : last, last};
    if (r->p.min_p > 0.0f) {
        float x = -logf(r->p.min_p);
        b.first = min(b.first, near_bin(fmaxf(x - MIN_P_MARGIN, 0.0f)));
        b.last = min(b.last, near_bin(x + MIN_P_MARGIN));
    }
    return b;
}

/* Adds up the held candidates that are kept by section, in units of 2^(unit - 150): whole numbers,
 * so that the order they are held in leaves no trace. */
static __device__ void add_held(struct shared *sh, const struct row *r, const struct field *f,
                                uint32_t unit)
{
    uint32_t lane = threadIdx.x % 32, ids = (uint32_t)section_parts(r) * PART;
    for (int at = 0; at < f->held; at += PART) {
        struct candidate c[EACH];
        read_held(r, f->held, at, c);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            uint32_t key, id = (uint32_t)c[i].id, section = id / ids;
            bool is = held_key<true>(r, c[i].z, &key);
            float w = weight_of(key);
            is = is && w >= r->p.min_p && keeps(f->top_p, key, id);
            uint64_t amount = is ? amount_of(w, unit) : 0;
            uint32_t todo = __ballot_sync(ALL, is);
            while (todo) { /* most of a warp's are of the same section */
                uint32_t of = __shfl_sync(ALL, section, __ffs((int)todo) - 1);
                bool same = is && section == of;
                uint32_t low = __reduce_add_sync(ALL, same ? (uint32_t)amount & 0xffffff : 0u);
                uint32_t high = __reduce_add_sync(ALL, same ? (uint32_t)(amount >> 24) : 0u);
                if (lane == 0)
                    add_amount(&sh->low[of], &sh->high[of], low + ((uint64_t)high << 24));
                todo &= ~__ballot_sync(ALL, same);
            }
        }
    }
}

/* Draws from a nucleus over the whole row, from the bins of its sections: only the open ones are
 * weighed, and then the parts of the section drawn. -1: too many candidates in the open bins. */
static __device__ __attribute__((noinline)) int32_t draw_sections(struct field *f)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    struct bins_open b = open_bins(r, f);
    struct range g = near_range();
    uint32_t low = range_begin(&g, b.first), high = range_end(&g, b.last);
    int lane = (int)threadIdx.x % 32, mine = (int)threadIdx.x / 32, each = section_parts(r);
    static_assert(SECTIONS == WARPS, "a warp a section");
    if (b.first > b.last)
        f->held = 0;
    else if (f->held < 0 || f->held_low != low || f->held_high != high)
        hold<true>(sh, r, f, low, high);
    if (f->held < 0)
        return -1;
    __syncthreads(); /* the words' last readers are done */
    if (threadIdx.x < SECTIONS)
        sh->low[threadIdx.x] = sh->high[threadIdx.x] = 0;
    double sum = 0.0;
    for (uint32_t bin = (uint32_t)lane;
         bin < min(b.first, (uint32_t)BINS) && mine * each < r->j.parts; bin += 32)
        sum += mass_of(__ldcg(r->masses + mine * BINS + bin), unit_of(&g, bin));
    for (int d = 16; d > 0; d /= 2)
        sum += __shfl_down_sync(ALL, sum, d);
    if (lane == 0)
        sh->sum[mine] = sum;
    __syncthreads(); /* words are zero before they are added to */
    uint32_t unit = unit_of(&g, b.last);
    add_held(sh, r, f, unit);
    __syncthreads(); /* all is added before it is read */
    double w[SECTIONS], total = 0.0, before = 0.0, run = 0.0;
#pragma unroll
    for (int i = 0; i < SECTIONS; i++) {
        w[i] = sh->sum[i] + mass_of((uint64_t)sh->high[i] << 32 | sh->low[i], unit);
        total += w[i];
    }
    double target = total * (double)r->p.uniform;
    int section = 0;
    bool hit = false;
#pragma unroll
    for (int i = 0; i < SECTIONS; i++) {
        bool here = !hit && w[i] > 0.0; /* where rounding leaves none, the last that has any */
        before = here ? run : before;
        section = here ? i : section;
        run += w[i];
        hit = hit || (here && run > target);
    }
    int begin = section * each, end = min(begin + each, r->j.parts);
    __syncthreads(); /* the sums are read before others are written */
    weigh_parts(f, begin, end, r->p.min_p);
    int part = find_part(sh, r, begin, end, before, &target, &before);
    return draw_in(sh, r, f, part, before, target);
}

#endif
