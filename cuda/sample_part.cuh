/* sample_part: a part of a row in registers and in shared memory, from logits to z. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_PART_CUH
#define CHORUS_CUDA_SAMPLE_PART_CUH

#include "cuda/sample_row.cuh"

static __device__ __forceinline__ int id_of(int begin, int i)
{
    return begin + ((i / 4) * THREADS + (int)threadIdx.x) * 4 + i % 4;
}

static __device__ __forceinline__ void load4(const float *from, float *x)
{
    uint4 v = ptx_load_l2(from);
    x[0] = __uint_as_float(v.x);
    x[1] = __uint_as_float(v.y);
    x[2] = __uint_as_float(v.z);
    x[3] = __uint_as_float(v.w);
}

/* Raw logits; NaN beyond the vocabulary. */
static __device__ __forceinline__ void load_part(const float *logits, int vocab, int begin,
                                                 float x[EACH])
{
    if (begin + PART <= vocab) {
#pragma unroll
        for (int i = 0; i < EACH; i += 4)
            load4(logits + id_of(begin, i), x + i);
        return;
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
        x[i] = id_of(begin, i) < vocab ? __ldcg(logits + id_of(begin, i)) : NAN;
}

static __device__ __forceinline__ void clean_part(float x[EACH])
{
#pragma unroll
    for (int i = 0; i < EACH; i++)
        x[i] = clean(x[i]);
}

/* What is not allowed becomes -inf. */
static __device__ __forceinline__ void mask_part(const struct row *r, int begin, float x[EACH])
{
    const uint32_t *mask = r->j.masks + r->p.mask;
#pragma unroll
    for (int i = 0; i < EACH; i += 4) {
        int id = id_of(begin, i);
        uint32_t bits = id < r->j.vocab ? __ldcg(mask + id / 32) >> id % 32 : 0;
#pragma unroll
        for (int c = 0; c < 4; c++)
            x[i + c] = bits >> c & 1 ? x[i + c] : -INFINITY;
    }
}

static __device__ __forceinline__ void part_to_tile(const float x[EACH], float *tile)
{
#pragma unroll
    for (int i = 0; i < EACH; i += 4)
        *(float4 *)(tile + id_of(0, i)) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
}

/* Applies the edits of ids [begin, begin + PART) to z in the tile. */
static __device__ void edit_tile(const struct row *r, int begin, float *tile, bool bans_only)
{
    for (int i = (int)threadIdx.x; i < r->p.edit_count; i += THREADS) {
        const struct sample_edit *e = r->j.edits + r->p.edit_begin + i;
        uint32_t at = (uint32_t)(e->token - begin);
        if (at >= PART || e->token >= r->j.vocab)
            continue;
        if (!bans_only)
            tile[at] = edited(tile[at], e, &r->p);
        else if (e->flags & SAMPLE_BANNED)
            tile[at] = -INFINITY;
    }
}

/* Cleaned logits become z. The tile is overwritten where there are edits. */
static __device__ __forceinline__ void adjust_part(const struct row *r, int begin, float *tile,
                                                   float x[EACH])
{
    if (r->p.mask >= 0)
        mask_part(r, begin, x);
    if (r->p.edit_count == 0)
        return;
    part_to_tile(x, tile);
    __syncthreads(); /* the tile's z are written before they are edited */
    edit_tile(r, begin, tile, false);
    __syncthreads(); /* and edited before they are read */
#pragma unroll
    for (int i = 0; i < EACH; i += 4) {
        float4 v = *(const float4 *)(tile + id_of(0, i));
        x[i] = v.x;
        x[i + 1] = v.y;
        x[i + 2] = v.z;
        x[i + 3] = v.w;
    }
}

/* A walk over the parts of a row, each in the tile in turn: the next one's logits are on their way
 * while the tile is read. */
struct walk {
    float ahead[EACH];
    int part;
};

static __device__ __forceinline__ void walk_from(struct walk *k, const struct row *r, int part)
{
    k->part = part;
    load_part(r->logits, r->j.vocab, part * PART, k->ahead);
}

/* z of the walk's part into the tile, -inf beyond the vocabulary; then the next part. */
static __device__ __forceinline__ void walk_open(struct walk *k, const struct row *r, float *tile)
{
    int begin = k->part * PART;
    __syncthreads(); /* the tile's last readers are done */
    clean_part(k->ahead);
    if (r->p.mask >= 0)
        mask_part(r, begin, k->ahead);
    part_to_tile(k->ahead, tile);
    if (++k->part < r->j.parts)
        load_part(r->logits, r->j.vocab, k->part * PART, k->ahead);
    __syncthreads(); /* z are written before they are edited */
    if (r->p.edit_count > 0) {
        edit_tile(r, begin, tile, false);
        __syncthreads(); /* and edited before they are read */
    }
}

#endif
