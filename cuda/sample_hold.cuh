/* sample_hold: all candidates of a row between two keys, brought together by its last block in one
 * pass over the logits. Keys of s grow as z falls, so two values of z bound them: a logit costs two
 * comparisons, and only what lies between them is written out, in any order, into the memory of the
 * lists. Device only. */
#ifndef CHORUS_CUDA_SAMPLE_HOLD_CUH
#define CHORUS_CUDA_SAMPLE_HOLD_CUH

#include "cuda/sample_field.cuh"

#define HOLD_EACH    (2 * EACH) /* logits of a thread on their way at once */
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

/* The z with keys [low, high]. */
template <bool MASS>
static __device__ struct z_range range_of_z(const struct row *r, uint32_t low, uint32_t high)
{
    uint32_t top = order_key(r->most), far = z_key(r, -FLT_MAX);
    uint32_t begin = MASS ? first_reach(r, low) : low;
    uint32_t last = min(MASS ? first_reach(r, high + 1) - 1 : high, far);
    if (begin > last)
        return {INFINITY, -INFINITY};
    return {order_value(top - last), order_value(top - begin)};
}

static __device__ __forceinline__ bool is_within(struct z_range b, float x)
{
    return x >= b.from && fminf(x, FLT_MAX) <= b.to;
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

/* The logits within, as if there were no edits; sh->found counts them. */
static __device__ __attribute__((noinline)) void hold_logits(struct z_range b)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    const uint32_t *mask = r->p.mask >= 0 ? r->j.masks + r->p.mask : NULL;
    uint32_t lane = threadIdx.x % 32, room = (uint32_t)held_max(r);
    float ahead[HOLD_EACH];
    load_ahead(r, 0, ahead);
    for (int begin = 0; begin < r->j.vocab; begin += THREADS * HOLD_EACH) {
        float x[HOLD_EACH];
        uint32_t in = 0;
#pragma unroll
        for (int i = 0; i < HOLD_EACH; i++)
            x[i] = ahead[i];
        load_ahead(r, begin + THREADS * HOLD_EACH, ahead);
#pragma unroll
        for (int i = 0; i < HOLD_EACH; i += 4) {
            int id = id_of(begin, i);
            uint32_t bits = min(max(r->j.vocab - id, 0), 4);
            bits = (1u << bits) - 1;
            if (mask && id < r->j.vocab)
                bits &= __ldcg(mask + id / 32) >> id % 32;
#pragma unroll
            for (int c = 0; c < 4; c++)
                in |= (uint32_t)is_within(b, x[i + c]) << (i + c);
            in &= ~(0xfu << i) | bits << i;
        }
        uint32_t own = (uint32_t)__popc(in), upto = own;
        for (int d = 1; d < 32; d *= 2) {
            uint32_t other = __shfl_up_sync(ALL, upto, d);
            upto += lane >= (uint32_t)d ? other : 0;
        }
        uint32_t at = 0;
        if (lane == 31 && upto > 0)
            at = atomicAdd(&sh->found, upto);
        at = __shfl_sync(ALL, at, 31) + upto - own;
#pragma unroll
        for (int i = 0; i < HOLD_EACH; i++) {
            if (in >> i & 1) {
                if (at < room)
                    r->lists[at] = {clean(x[i]), id_of(begin, i)};
                at++;
            }
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

/* Candidate at + i THREADS + threadIdx of the held, z = -inf where there is none. */
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

/* Raw entries of dropped ids become nothing, edited ones (~id) ids as all others. */
static __device__ __attribute__((noinline)) void settle_edits(int held, uint32_t drops)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    const uint32_t *dropped = (const uint32_t *)sh->tile;
    for (int at = 0; at < held; at += PART) {
        struct candidate c[EACH];
        bool is[EACH] = {};
        read_held(r, held, at, c);
        for (uint32_t d = 0; d < drops; d++) {
            int32_t id = (int32_t)dropped[d];
#pragma unroll
            for (int i = 0; i < EACH; i++)
                is[i] |= c[i].id == id;
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int k = at + i * THREADS + (int)threadIdx.x;
            if (k < held && (is[i] || c[i].id < 0))
                r->lists[k] = {is[i] ? -INFINITY : c[i].z, is[i] ? c[i].id : ~c[i].id};
        }
    }
    __syncthreads(); /* all are settled before they are read */
}

/* Holds the candidates with keys [low, high]; f->held stays -1 where they are too many. */
template <bool MASS>
static __device__ void hold(struct shared *sh, const struct row *r, struct field *f, uint32_t low,
                            uint32_t high)
{
    struct z_range b = range_of_z<MASS>(r, low, high);
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
    if (r->p.edit_count > 0)
        settle_edits((int)n, drops);
}

#endif
