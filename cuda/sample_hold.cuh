/* sample_hold: all candidates of a row between two keys, brought together by its last block in one
 * pass over the logits. Keys of s grow as z falls, so two values of z bound them: a logit costs two
 * comparisons, and only what lies between them is written out, in any order, into the memory of the
 * lists. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_HOLD_CUH
#define CHORUS_CUDA_SAMPLE_HOLD_CUH

#include "cuda/sample_field.cuh"

#define HOLD_EACH    (2 * EACH) /* logits of a thread in one of two sets on their way */
#define HOLD_DROPPED (2 * PART) /* edited ids that a tile holds */

/* How many the memory of the lists has room for: an eighth of the vocabulary. */
static __device__ __forceinline__ int held_max(const struct row *r)
{
    return r->j.parts * LIST;
}

/* The least distance from the largest z, in z_key's steps, at which s_key reaches `key`; by all
 * lanes of a warp. */
static __device__ uint32_t first_reach(const struct row *r, uint32_t key)
{
    uint32_t top = order_key(r->most), far = z_key(r, -FLT_MAX), base = 0;
    for (int shift = 27;; shift = max(shift - 5, 0)) {
        uint32_t d = base + (threadIdx.x % 32 << shift);
        bool below = d <= far && s_key(scaled(r, order_value(top - d))) < key;
        uint32_t n = (uint32_t)__popc(__ballot_sync(ALL, below));
        if (n == 0)
            return 0;
        base += (n - 1) << shift;
        if (shift == 0)
            return base + 1;
    }
}

struct z_range {
    float from, to;
};

/* The z with keys [low, high], +inf as the largest float; by all warps. */
template <bool MASS>
static __device__ struct z_range range_of_z(struct shared *sh, const struct row *r, uint32_t low,
                                            uint32_t high)
{
    uint32_t top = order_key(r->most), far = z_key(r, -FLT_MAX), begin = low, end = high + 1;
    int warp = (int)threadIdx.x / 32;
    if (MASS) {
        uint32_t found = first_reach(r, warp % 2 ? end : begin);
        if (threadIdx.x % 32 == 0 && warp < 2)
            sh->key[1][warp] = found;
        __syncthreads(); /* both ends are there before they are read */
        begin = sh->key[1][0];
        end = sh->key[1][1];
    }
    uint32_t last = min(end - 1, far);
    if (begin > last)
        return {INFINITY, -INFINITY};
    float to = order_value(top - begin);
    return {order_value(top - last), to == FLT_MAX ? INFINITY : to};
}

static __device__ __forceinline__ bool is_within(struct z_range b, float x)
{
    return x >= b.from && x <= b.to;
}

static __device__ __forceinline__ void load_ahead(const struct row *r, int begin,
                                                  float x[HOLD_EACH])
{
#pragma unroll
    for (int i = 0; i < HOLD_EACH; i += 4) {
        int id = id_of(begin, i);
        x[i] = x[i + 1] = x[i + 2] = x[i + 3] = NAN;
        if (id < r->j.vocab) /* a row is padded to whole quads */
            load4(r->logits + id, x + i);
    }
}

/* Bits of those within. */
static __device__ __forceinline__ uint32_t within(const struct row *r, struct z_range b, int begin,
                                                  const float x[HOLD_EACH])
{
    uint32_t in = 0;
#pragma unroll
    for (int i = 0; i < HOLD_EACH; i++)
        in |= is_within(b, x[i]) ? 1u << i : 0u;
    if (begin + THREADS * HOLD_EACH <= r->j.vocab && r->p.mask < 0)
        return in;
#pragma unroll
    for (int i = 0; i < HOLD_EACH; i += 4) {
        int id = id_of(begin, i);
        uint32_t bits = (1u << min(max(r->j.vocab - id, 0), 4)) - 1;
        if (r->p.mask >= 0 && bits)
            bits &= __ldcg(r->j.masks + r->p.mask + id / 32) >> id % 32;
        in &= ~(0xfu << i) | bits << i;
    }
    return in;
}

/* The ids of logits within, as if there were no edits; sh->found counts them. */
static __device__ __attribute__((noinline)) void hold_logits(struct z_range b)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    const int set = THREADS * HOLD_EACH;
    uint32_t lane = threadIdx.x % 32, room = (uint32_t)held_max(r);
    float first[HOLD_EACH], second[HOLD_EACH];
    load_ahead(r, 0, first);
    load_ahead(r, set, second);
    for (int begin = 0; begin < r->j.vocab; begin += 2 * set) {
        uint32_t in = within(r, b, begin, first);
        load_ahead(r, begin + 2 * set, first);
        in |= within(r, b, begin + set, second) << HOLD_EACH;
        load_ahead(r, begin + 3 * set, second);
        uint32_t own = (uint32_t)__popc(in), upto = own, at = 0;
        for (int d = 1; d < 32; d *= 2) {
            uint32_t other = __shfl_up_sync(ALL, upto, d);
            upto += lane >= (uint32_t)d ? other : 0;
        }
        if (lane == 31 && upto > 0)
            at = atomicAdd(&sh->found, upto);
        at = __shfl_sync(ALL, at, 31) + upto - own;
        for (; in; in &= in - 1, at++) {
            if (at < room)
                r->lists[at].id = id_of(begin, __ffs((int)in) - 1);
        }
    }
}

/* Edited ids within are added as what they have become; those that were within before are named in
 * the tile, sh->other of them. */
static __device__ __attribute__((noinline)) void hold_edits(struct z_range b)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    uint32_t *dropped = (uint32_t *)sh->tile, room = (uint32_t)held_max(r);
    for (int i = (int)threadIdx.x; i < r->p.edit_count; i += THREADS) {
        const struct sample_edit *e = r->j.edits + r->p.edit_begin + i;
        int id = e->token;
        if (id >= r->j.vocab)
            continue;
        float z = clean(__ldcg(r->logits + id));
        if (r->p.mask >= 0 && !(__ldcg(r->j.masks + r->p.mask + id / 32) >> id % 32 & 1))
            z = -INFINITY;
        if (is_within(b, z)) {
            uint32_t at = atomicAdd(&sh->other, 1u);
            if (at < HOLD_DROPPED)
                dropped[at] = (uint32_t)id;
        }
        z = edited(z, e, &r->p);
        if (is_within(b, z)) {
            uint32_t at = atomicAdd(&sh->found, 1u);
            if (at < room)
                r->lists[at] = {z, ~id};
        }
    }
}

/* Candidate at + i THREADS + threadIdx of the held, -inf where there is none. */
static __device__ __forceinline__ void read_held(const struct row *r, int held, int at,
                                                 struct candidate c[EACH])
{
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int k = at + i * THREADS + (int)threadIdx.x;
        c[i] = {-INFINITY, 0};
        if (k < held) {
            uint64_t packed = __ldcg((const unsigned long long *)(r->lists + k));
            memcpy(&c[i], &packed, sizeof c[i]);
        }
    }
}

/* Ids become candidates: with z, or with s and only what top_k keeps. Raw ones of dropped ids are
 * none, edited ones (~id) have their z. */
template <bool MASS>
static __device__ __attribute__((noinline)) void settle(int held, uint32_t drops, struct cut top_k)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    const uint32_t *dropped = (const uint32_t *)sh->tile;
    for (int at = 0; at < held; at += PART) {
        struct candidate c[EACH];
        uint32_t none = 0;
        read_held(r, held, at, c);
        for (uint32_t d = 0; d < drops; d++) {
            int32_t id = (int32_t)dropped[d];
#pragma unroll
            for (int i = 0; i < EACH; i++)
                none |= c[i].id == id ? 1u << i : 0u;
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            bool raw = c[i].id >= 0;
            c[i].z = raw ? clean(__ldcg(r->logits + c[i].id)) : c[i].z;
            c[i].id = raw ? c[i].id : ~c[i].id;
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int k = at + i * THREADS + (int)threadIdx.x;
            bool is = !(none >> i & 1);
            if (MASS) {
                is = is && keeps(top_k, z_key(r, c[i].z), (uint32_t)c[i].id);
                c[i].z = scaled(r, c[i].z);
            }
            if (k < held)
                r->lists[k] = {is ? c[i].z : -INFINITY, c[i].id};
        }
    }
    __syncthreads(); /* all are settled before they are read */
}

/* Holds the candidates with keys [low, high]; f->held stays -1 where they are too many. */
template <bool MASS>
static __device__ void hold(struct shared *sh, const struct row *r, struct field *f, uint32_t low,
                            uint32_t high)
{
    struct z_range b = range_of_z<MASS>(sh, r, low, high);
    f->held = -1;
    __syncthreads(); /* the words' last readers are done */
    begin_search(sh, 0);
    hold_logits(b);
    if (r->p.edit_count > 0)
        hold_edits(b);
    __syncthreads(); /* all are written, and counted, before they are read */
    uint32_t n = sh->found, drops = sh->other;
    __syncthreads(); /* and read before they are used again */
    if (n > (uint32_t)held_max(r) || drops > HOLD_DROPPED)
        return;
    f->held = (int)n;
    f->held_low = low;
    f->held_high = high;
    settle<MASS>((int)n, drops, f->top_k);
}

#endif
