/* sample_draw: the draw of a row, by the last of its blocks. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_DRAW_CUH
#define CHORUS_CUDA_SAMPLE_DRAW_CUH

#include "cuda/sample_list.cuh"

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

/* Sets f's cuts. False: the listed candidates do not hold the answer. `total`: the weight of all,
 * where top_k is off. */
static __device__ bool find_cuts(struct shared *sh, const struct row *r, struct field *f,
                                 double total, bool more)
{
    uint32_t top_k = (uint32_t)r->p.top_k, valid = f->whole ? ALL : (uint32_t)f->listed;
    if (more && valid < top_k)
        return false;
    if (top_k > 0 && valid > top_k)
        f->top_k = find_cut<false>(f, (double)top_k);
    if (r->p.top_p >= 1.0f)
        return true;
    double mass = f->whole ? 0.0 : listed_mass(sh, r, f);
    if (top_k > 0)
        total = f->whole ? weigh_parts(f, 0, r->j.parts, 0.0f) : mass;
    else if (more && mass < (double)r->p.top_p * total)
        return false;
    f->top_p = find_cut<true>(f, (double)r->p.top_p * total);
    return true;
}

static __device__ __attribute__((noinline)) int32_t draw_row()
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    struct field f = {true, 0, 0, -1, 0, 0, {ALL, ALL}, {ALL, ALL}};
    if (!is_listed(r))
        return draw_parts(sh, r, &f);
    double mine = 0.0;
    for (int i = (int)threadIdx.x; i < r->j.parts; i += THREADS)
        mine += read_draw(r, i).w;
    double total = block_sum(mine, sh->sum);
    bool more = false;
    f.whole = !gather(sh, r, &f, &more);
    for (;;) {
        if (f.whole) {
            f.far = z_key(r, -FLT_MAX);
            f.top_k = {ALL, ALL};
            more = false;
        }
        if (find_cuts(sh, r, &f, total, more))
            break;
        f.whole = true;
    }
    if (!f.whole) {
        weigh_tile(sh, r, &f, 0, f.listed, r->p.min_p);
        double before = tile_before(sh, &total);
        int at = draw_tile(sh, 0.0, before, total * (double)r->p.uniform);
        return (int32_t)tile_id(sh, &f, 0, at);
    }
    int32_t token = has_bins(r) ? draw_sections(&f) : -1;
    if (token >= 0)
        return token;
    weigh_parts(&f, 0, r->j.parts, r->p.min_p);
    return draw_parts(sh, r, &f);
}

/* ---- All z are -inf ---- */

static __device__ int32_t best_of_raw(struct shared *sh, const struct row *r)
{
    uint32_t key = 0, id = ALL;
    for (int i = (int)threadIdx.x; i < r->j.vocab; i += THREADS) {
        float x = __ldcg(r->logits + i);
        uint32_t k = x > -INFINITY ? order_key(x) : 0;
        id = k > key ? (uint32_t)i : id;
        key = max(key, k);
    }
    struct best b = best_of_warps(sh, warp_best(key, id), 0);
    return b.key ? (int32_t)b.id : 0;
}

/* The largest logit of what mask and bans allow, -inf counting as the least number; else of all. */
static __device__ __attribute__((noinline)) int32_t last_resort()
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    uint32_t key = 0, id = ALL;
    for (int t = 0; t < r->j.parts; t++) {
        float x[EACH];
        int begin = t * PART;
        load_part(r->logits, r->j.vocab, begin, x);
#pragma unroll
        for (int i = 0; i < EACH; i++)
            x[i] = id_of(begin, i) < r->j.vocab ? fmaxf(clean(x[i]), -FLT_MAX) : -INFINITY;
        if (r->p.mask >= 0)
            mask_part(r, begin, x);
        __syncthreads(); /* the last part has been read */
        part_to_tile(x, sh->tile);
        __syncthreads(); /* values are written before bans */
        edit_tile(r, begin, sh->tile, true);
        __syncthreads(); /* and bans before they are read */
        for (int i = (int)threadIdx.x; i < PART; i += THREADS) {
            float v = sh->tile[i];
            uint32_t k = v > -INFINITY ? order_key(v) : 0;
            id = k > key ? (uint32_t)(begin + i) : id;
            key = max(key, k);
        }
    }
    struct best b = best_of_warps(sh, warp_best(key, id), 0);
    __syncthreads(); /* the words are read before others are written */
    return b.key ? (int32_t)b.id : best_of_raw(sh, r);
}

#endif
