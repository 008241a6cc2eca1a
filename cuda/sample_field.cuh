/* sample_field: the candidates of a row as its last block looks through them, and ranges of their
 * keys. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_FIELD_CUH
#define CHORUS_CUDA_SAMPLE_FIELD_CUH

#include "cuda/sample_part.cuh"

/* Kept: keys below `key`, and of those equal to it ids up to `id`. */
struct cut {
    uint32_t key, id;
};

static __device__ __forceinline__ bool keeps(struct cut c, uint32_t key, uint32_t id)
{
    return key < c.key || (key == c.key && id <= c.id);
}

/* Candidates to look through: the listed ones, in the tile, or the whole row part by part; of that
 * those with keys [held_low, held_high] once more, in the lists (sample_hold.cuh). */
struct field {
    bool whole;
    int listed;
    uint32_t far; /* largest key of z */
    int held;     /* -1: none */
    uint32_t held_low, held_high;
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

/* A pass: keys [low, high] in bins of 2^shift from base on; near: in those of near_bin. */
struct range {
    uint32_t low, high, base, shift;
    bool near;
};

static __device__ __forceinline__ struct range near_range()
{
    return {0, s_key(EXP_LEAST), 0, 0, true};
}

static __device__ __forceinline__ uint32_t range_bin(const struct range *g, uint32_t key)
{
    uint32_t bin = g->near ? near_bin(__uint_as_float(key)) : (key - g->base) >> g->shift;
    return min(bin, (uint32_t)BINS - 1);
}

static __device__ __forceinline__ uint32_t range_begin(const struct range *g, uint32_t bin)
{
    return max(g->low, g->near ? near_begin(bin) : g->base + (bin << g->shift));
}

/* The last key of a bin. */
static __device__ __forceinline__ uint32_t range_end(const struct range *g, uint32_t bin)
{
    uint64_t next =
        g->near ? near_begin(bin + 1) : (uint64_t)g->base + ((uint64_t)(bin + 1) << g->shift);
    return next - 1 < g->high ? (uint32_t)(next - 1) : g->high;
}

static __device__ __forceinline__ uint32_t shift_for(uint32_t span)
{
    int bits = 32 - __clz((int)span);
    return bits > 9 ? (uint32_t)bits - 9 : 0;
}

#endif
