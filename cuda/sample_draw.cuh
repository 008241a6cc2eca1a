/* sample_draw: the draw of a row, by the last of its blocks. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_DRAW_CUH
#define CHORUS_CUDA_SAMPLE_DRAW_CUH

#include "cuda/sample_list.cuh"
#include "cuda/sample_sections.cuh"

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
