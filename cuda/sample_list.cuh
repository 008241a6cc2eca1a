/* sample_list: the first candidates of a row: each block lists those of its part, the last one
 * brings them together. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_LIST_CUH
#define CHORUS_CUDA_SAMPLE_LIST_CUH

#include "cuda/sample_weigh.cuh"

/* ---- All blocks ---- */

/* How many of the row's groups (a warp's ids each) have their largest among the candidates: a
 * candidate list of about that length for top_k, of 1.4 (large vocabularies) to 2.8 groups for
 * top_p. */
static __device__ __forceinline__ uint32_t groups_wanted(const struct row *r)
{
    uint32_t groups = (uint32_t)(r->j.parts * WARPS), most = groups - groups / 16;
    if (r->p.top_k > 0)
        return min((uint32_t)r->p.top_k, most);
    return groups < 384 ? most : groups - groups / 4;
}

/* The bin of -s, the same in all blocks of a row, below which its candidates lie. */
static __device__ uint32_t row_cut(struct shared *sh, const struct row *r)
{
    int me = (int)threadIdx.x, first = me * BINS_EACH;
    __syncthreads(); /* the bins' last readers are done */
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++)
        sh->count[first + i] = 0;
    begin_search(sh, BINS);
    for (int i = me; i < r->j.parts * WARPS; i += THREADS) {
        float s = scaled(r, __ldcg(r->groups + i));
        if (s >= EXP_LEAST)
            atomicAdd(&sh->count[near_bin(fabsf(s))], 1u);
    }
    __syncthreads(); /* all are counted before they are added up */
    uint64_t mine = 0, total, want = groups_wanted(r);
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++)
        mine += sh->count[first + i];
    uint64_t sum = sum_before(mine, sh->scan, &total);
#pragma unroll
    for (int i = 0; i < BINS_EACH; i++) {
        uint64_t upto = sum + sh->count[first + i];
        if (sum < want && upto >= want)
            sh->found = (uint32_t)(first + i) + 1;
        sum = upto;
    }
    __syncthreads(); /* found is written before it is read */
    uint32_t cut = sh->found;
    if (has_bins(r)) { /* what weighs too little in all to reach into top_p's share */
        float far = logf(2.0f * (float)r->j.vocab / (1.0f - r->p.top_p)) * 1.001f + 0.01f;
        cut = min(cut, near_bin(far) + 1);
    }
    return cut;
}

/* The part's candidates in the order of ids: two counts of 16 bits, one a quad of each thread. */
static __device__ void list_part(struct shared *sh, const struct row *r, int part,
                                 const float z[EACH], struct draw_part *out)
{
    uint32_t cut = row_cut(sh, r), end = near_begin(cut), in = 0, mine = 0, total;
    static_assert(EACH == 8, "two quads");
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float s = scaled(r, z[i]);
        bool is = s >= EXP_LEAST && s_key(s) < end;
        in |= (uint32_t)is << i;
        mine += (uint32_t)is << i / 4 * 16;
    }
    uint32_t before = sum_before(mine, (uint32_t *)sh->scan, &total);
    uint32_t base[2] = {before & 0xffff, (total & 0xffff) + (before >> 16)};
    out->count = (total & 0xffff) + (total >> 16);
    out->cut = cut;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (out->count <= LIST && (in >> i & 1))
            r->lists[part * LIST + (int)base[i / 4]++] = {z[i], id_of(part * PART, i)};
    }
}

/* ---- The last block ---- */

/* The part whose list holds the row's i-th candidate; low: candidates in front of each part. */
static __device__ __forceinline__ int part_of(const struct shared *sh, int parts, uint32_t i)
{
    int from = 0, to = parts; /* low[from] <= i < low[to] */
    while (to - from > 1) {
        int middle = (from + to) / 2;
        if (sh->low[middle] <= i)
            from = middle;
        else
            to = middle;
    }
    return from;
}

/* Brings the parts' lists into the tile, ids ascending. False: some part or the row has too many.
 * *more: there are candidates that are not listed. */
static __device__ bool gather(struct shared *sh, const struct row *r, struct field *f, bool *more)
{
    int first = (int)threadIdx.x * PARTS_EACH, parts = r->j.parts;
    uint32_t count[PARTS_EACH], mine = 0, total, cut = 0;
    __syncthreads(); /* the words' last readers are done */
    begin_search(sh, 0);
#pragma unroll
    for (int i = 0; i < PARTS_EACH; i++) {
        count[i] = 0;
        if (first + i < parts) {
            struct draw_part d = read_draw(r, first + i);
            count[i] = d.count;
            cut = d.cut;
        }
        mine += count[i];
        if (count[i] > LIST)
            sh->found = 1;
    }
    if (threadIdx.x == 0)
        sh->key[0][0] = cut;
    uint32_t before = sum_before(mine, (uint32_t *)sh->scan, &total);
#pragma unroll
    for (int i = 0; i < PARTS_EACH; i++) {
        sh->low[first + i] = before;
        before += count[i];
    }
    __syncthreads(); /* low, found and the cut are there before they are read */
    if (sh->found || total > LISTED)
        return false;
    f->listed = (int)total;
    *more = sh->key[0][0] < BINS;
    uint32_t far = 0;
    for (uint32_t i = threadIdx.x; i < total; i += THREADS) {
        int part = part_of(sh, parts, i);
        uint64_t packed =
            __ldcg((const unsigned long long *)(r->lists + part * LIST + (int)(i - sh->low[part])));
        struct candidate c;
        memcpy(&c, &packed, sizeof c);
        sh->tile[i] = c.z;
        sh->tile[PART + i] = __int_as_float(c.id);
        far = max(far, z_key(r, c.z));
    }
    atomicMax(&sh->other, far);
    __syncthreads(); /* tile and far are final before they are read */
    f->far = sh->other;
    return true;
}

static __device__ double listed_mass(struct shared *sh, const struct row *r, const struct field *f)
{
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < f->listed; i += THREADS) {
        float z = sh->tile[i];
        if (keeps(f->top_k, z_key(r, z), tile_id(sh, f, 0, i)))
            sum += (double)exp_of(scaled(r, z));
    }
    return block_sum(sum, sh->sum);
}

#endif
