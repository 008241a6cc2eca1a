/* sample_row: one row of k_sample as a block sees it, and the sums and searches over a block that
 * the other pieces are made of. Device only.
 *
 * A row is cut into parts of PART ids; a thread has EACH of them, in quads. Scratch of a row:
 * what the blocks of one node leave for the next, and for its last block. */
#ifndef CHORUS_CUDA_SAMPLE_ROW_CUH
#define CHORUS_CUDA_SAMPLE_ROW_CUH

#include "cuda/k_sample.h"
#include "cuda/sample_math.cuh"

#define THREADS   256
#define WARPS     (THREADS / 32)
#define EACH      8
#define PART      (THREADS * EACH) /* ids a block */
#define BINS      512
#define BINS_EACH (BINS / THREADS) /* of a thread, one behind the other */
#define LIST      256              /* candidates of a part */
#define LISTED    PART             /* candidates of a row */
#define SECTIONS  8                /* of a row: whole parts */
#define PARTS_MAX (SAMPLE_VOCAB_MAX / PART)
#define TOPS      LIMIT_TOP_LOGPROBS
#define ALL       0xffffffffu

static_assert(PARTS_MAX <= BINS, "a bin's words can hold a part's");
static_assert(TOPS * TOPS <= PART, "the largest logits of TOPS parts fit a tile");

struct scan_part {
    float z, raw; /* largest; raw where log-probabilities are wanted */
    int32_t id;   /* of z */
    int32_t pad;
};

struct draw_part {
    double raw, w;  /* sums of weights */
    uint32_t count; /* candidates below the row's cut; listed when not above LIST */
    uint32_t cut;   /* the same for all parts */
    uint32_t pad[2];
};

struct candidate {
    float z;
    int32_t id;
};

struct job {
    const struct step_head *head;
    const float *logits;
    const struct sample_dev *rows;
    const struct sample_edit *edits;
    const uint32_t *masks;
    uint8_t *scratch;
    struct sample_result *results;
    int32_t *next_token;
    size_t scratch_bytes; /* a row */
    int stride, vocab, parts;
};

/* One row as a block sees it. */
struct alignas(16) row {
    struct sample_dev p; /* first: copied 16 bytes at a time */
    struct job j;
    const float *logits;
    struct draw_part *draws;    /* [parts] */
    struct scan_part *scans;    /* [parts] */
    unsigned long long *masses; /* [SECTIONS, BINS] weights of candidates, in units of the bin */
    struct candidate *lists;    /* [parts, LIST] */
    struct token_logprob *tops; /* [parts, TOPS] */
    uint32_t *counts;           /* [BINS] */
    float *groups;              /* [parts, WARPS] largest z of a warp's ids */
    uint32_t *ticket;
    /* What the second node finds: the largest, and the id of the first z that has it; -1: none. */
    float most, raw_most;
    int32_t best;
};

struct shared {
    float tile[2 * PART]; /* z or weights of a part; or z, then ids, of the listed */
    uint32_t count[BINS], low[BINS], high[BINS], unit[BINS];
    double sum[WARPS];
    uint64_t scan[WARPS];
    uint32_t key[2][WARPS], id[2][WARPS];
    double value;
    uint32_t found, other;
    struct row row;
};

static size_t scratch_bytes(int parts)
{
    size_t a_part = sizeof(struct scan_part) + sizeof(struct draw_part) +
                    LIST * sizeof(struct candidate) + TOPS * sizeof(struct token_logprob) +
                    WARPS * sizeof(float);
    return 16 + BINS * (SECTIONS * sizeof(uint64_t) + sizeof(uint32_t)) + (size_t)parts * a_part;
}

/* Fills sh->row but for `most`, which the second node finds. Reads the step's upload only. */
static __device__ struct row *open_row(struct shared *sh, const struct job *j, int o)
{
    struct row *r = &sh->row;
    int me = (int)threadIdx.x;
    if (me < (int)sizeof r->p / 16)
        ((uint4 *)&r->p)[me] = ptx_load_l2((const uint4 *)(j->rows + o) + me);
    if (me == 32) {
        uint8_t *at = j->scratch + (size_t)o * j->scratch_bytes;
        r->j = *j;
        r->logits = j->logits + (size_t)o * (size_t)j->stride;
        r->ticket = (uint32_t *)at;
        r->draws = (struct draw_part *)(at + 16);
        r->scans = (struct scan_part *)(r->draws + j->parts);
        r->masses = (unsigned long long *)(r->scans + j->parts);
        r->lists = (struct candidate *)(r->masses + SECTIONS * BINS);
        r->tops = (struct token_logprob *)(r->lists + j->parts * LIST);
        r->counts = (uint32_t *)(r->tops + j->parts * TOPS);
        r->groups = (float *)(r->counts + BINS);
    }
    __syncthreads(); /* the row is written before it is read */
    return r;
}

static __device__ __forceinline__ int section_parts(const struct row *r)
{
    return (r->j.parts + SECTIONS - 1) / SECTIONS;
}

/* Whether the row looks for cuts, and whether it does so over all weights of the row. */
static __device__ __forceinline__ bool is_listed(const struct row *r)
{
    return r->p.top_k > 0 || r->p.top_p < 1.0f;
}

static __device__ __forceinline__ bool has_bins(const struct row *r)
{
    return r->p.top_k == 0 && r->p.top_p < 1.0f;
}

static __device__ __forceinline__ bool may_draw(const struct row *r)
{
    return r->p.forced < 0 && r->p.temperature > 0.0f;
}

static __device__ __forceinline__ bool draws(const struct row *r)
{
    return may_draw(r) && r->best >= 0;
}

static __device__ __forceinline__ float scaled(const struct row *r, float z)
{
    return (z - r->most) / r->p.temperature;
}

static __device__ __forceinline__ uint32_t z_key(const struct row *r, float z)
{
    return order_key(r->most) - order_key(z);
}

static __device__ __forceinline__ uint32_t s_key(float s)
{
    return __float_as_uint(fabsf(s));
}

static __device__ struct draw_part read_draw(const struct row *r, int part)
{
    uint4 v[2] = {ptx_load_l2(r->draws + part), ptx_load_l2((const uint4 *)(r->draws + part) + 1)};
    struct draw_part d;
    memcpy(&d, v, sizeof d);
    return d;
}

/* ---- Sums over a block. Each ends with a barrier before its words are used again. ---- */

/* Sum of the threads before this one; *total of all. */
template <typename T> static __device__ T sum_before(T v, T *slots, T *total)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int d = 1; d < 32; d *= 2) {
        T other = __shfl_up_sync(ALL, v, d);
        v = lane >= d ? v + other : v;
    }
    if (lane == 31)
        slots[warp] = v;
    __syncthreads();
    T before = 0, all = 0;
#pragma unroll
    for (int i = 0; i < WARPS; i++) {
        before = i == warp ? all : before;
        all += slots[i];
    }
    __syncthreads();
    *total = all;
    T shifted = __shfl_up_sync(ALL, v, 1);
    return before + (lane ? shifted : (T)0);
}

static __device__ double block_sum(double v, double *slots)
{
    double total;
    sum_before(v, slots, &total);
    return total;
}

struct best {
    uint32_t key, id; /* key of the largest value, the lowest id that has it */
};

static __device__ struct best warp_best(uint32_t key, uint32_t id)
{
    struct best b;
    b.key = __reduce_max_sync(ALL, key);
    b.id = __reduce_min_sync(ALL, key == b.key ? id : ALL);
    return b;
}

/* `slot` 0 and 1 in turn: then one barrier a call is enough. */
static __device__ struct best best_of_warps(struct shared *sh, struct best mine, int slot)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) {
        sh->key[slot][warp] = mine.key;
        sh->id[slot][warp] = mine.id;
    }
    __syncthreads();
    return warp_best(lane < WARPS ? sh->key[slot][lane] : 0,
                     lane < WARPS ? sh->id[slot][lane] : ALL);
}

/* Before threads lower `found` and raise `other`. */
static __device__ __forceinline__ void begin_search(struct shared *sh, uint32_t none)
{
    if (threadIdx.x == 0) {
        sh->found = none;
        sh->other = 0;
    }
    __syncthreads(); /* both are set before they are changed */
}

#endif
