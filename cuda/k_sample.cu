/* k_sample: token[o] = sample_logits(logits[o], rows[o]) for all output rows of a step.
 *
 * logits [O, stride] fp32; a row is cut into parts of 8,192 ids. Two nodes of grid (parts,
 * outs_max), 512 threads, a block a part and row:
 *
 *   k_sample_scan   largest z of the part (lowest id), and where log-probabilities are wanted its
 *                   largest raw logits, one after the other
 *   k_sample_draw   with the largest z of the row: the part's sum of weights exp((z - max) / T),
 * the same of raw logits for log-probabilities, and for top_k and top_p a list of its first
 * candidates; the last block of a row to arrive then finishes the row. A row that needs none of
 * this (greedy, forced) is finished by its first block.
 *
 * top_k and top_p look for the last candidate they keep in passes of 512 bins over the bits of z or
 * of -s, each pass inside the bin that the one before ended in; no sort. Lists hold all that is
 * above a common bin; when the answer lies below it (a wide nucleus, hundreds of ties) the same
 * passes go over the whole row, in one block: correct, and slow (bench_sample, "flat").
 *
 * Preconditions: those of cuda_sample. Shared memory: struct shared, 42 KB. Bytes: each node reads
 * the row once (L2), 4 V; flops: about 25 V a weight sum. Order of sums: a thread's 16 weights in a
 * float pair, then doubles over lanes, warps, parts. Masses of bins are exact integers in units of
 * the bin's least weight, so atomics leave no trace. Covered by tests/kernels/test_sample_device.c;
 * timed by tests/kernels/bench_sample.c.
 */
#include "cuda/k_sample.h"

#include "cuda/launch.cuh"
#include "cuda/sample_math.cuh"

#define THREADS   512
#define WARPS     (THREADS / 32)
#define EACH      16
#define PART      (THREADS * EACH) /* ids a block */
#define BINS      THREADS          /* one a thread */
#define LIST      256              /* candidates of a part */
#define LISTED    (PART / 2)       /* candidates of a row: z and id fill a tile */
#define WANT      128              /* candidates that a part looks for: lists seldom overflow */
#define PARTS_MAX (SAMPLE_VOCAB_MAX / PART)
#define TOPS      LIMIT_TOP_LOGPROBS
#define ALL       0xffffffffu

static_assert(PARTS_MAX * TOPS * sizeof(struct token_logprob) <= PART * sizeof(float),
              "the largest logits of all parts fit a tile");

/* What a block of one node leaves for the next, in scratch. */
struct scan_part {
    float z, raw; /* largest; raw where log-probabilities are wanted */
    int32_t id;   /* of z */
    int32_t pad;
};

struct draw_part {
    double raw, w;       /* sums of weights */
    uint32_t count, cut; /* candidates listed: all those in bins below cut */
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
    struct scan_part *scans;    /* [parts] */
    struct draw_part *draws;    /* [parts] */
    struct token_logprob *tops; /* [parts, TOPS] */
    struct candidate *lists;    /* [parts, LIST] */
    uint32_t *ticket;
    /* What the second node finds: the largest, and the id of the first z that has it; -1: none. */
    float most, raw_most;
    int32_t best;
};

struct shared {
    float tile[PART]; /* z or weights of a part; or z, then ids of the listed */
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
    return 16 +
           (size_t)parts * (sizeof(struct scan_part) + sizeof(struct draw_part) +
                            TOPS * sizeof(struct token_logprob) + LIST * sizeof(struct candidate));
}

/* Fills sh->row but for `most`, which the second node finds. */
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
        r->tops = (struct token_logprob *)(r->scans + j->parts);
        r->lists = (struct candidate *)(r->tops + j->parts * TOPS);
    }
    __syncthreads(); /* the row is written before it is read */
    return r;
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
#pragma unroll 4
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

/* ---- A part in registers: 16 ids a thread, in four quads ---- */

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
    int words = (r->j.vocab + 31) / 32;
    const uint32_t *mask = r->j.masks + (size_t)r->p.mask * (size_t)words;
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

/* z of a part into the tile, -inf beyond the vocabulary. */
static __device__ void open_part(const struct row *r, int part, float *tile)
{
    float x[EACH];
    int begin = part * PART;
    __syncthreads(); /* the tile's last readers are done */
    load_part(r->logits, r->j.vocab, begin, x);
    clean_part(x);
    if (r->p.mask >= 0)
        mask_part(r, begin, x);
    part_to_tile(x, tile);
    __syncthreads(); /* z are written before they are edited */
    if (r->p.edit_count > 0) {
        edit_tile(r, begin, tile, false);
        __syncthreads(); /* and edited before they are read */
    }
}

/* ---- The first node ---- */

/* Largest of the values above -inf, lowest id; key of -inf where there is none. */
static __device__ __forceinline__ struct best best_of_part(struct shared *sh, int begin,
                                                           const float x[EACH], int slot)
{
    float most = -INFINITY;
    uint32_t id = ALL;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (x[i] > most) {
            most = x[i];
            id = (uint32_t)id_of(begin, i);
        }
    }
    return best_of_warps(sh, warp_best(order_key(most), id), slot);
}

/* The first n of the part's cleaned logits in order, -inf included. Returns the largest. */
static __device__ float write_tops(struct shared *sh, const struct row *r, int part,
                                   const float x[EACH])
{
    int begin = part * PART, here = min(PART, r->j.vocab - begin), n = min(r->p.logprobs, TOPS);
    uint32_t key[EACH], own = 0, own_id = ALL;
    struct best mine, first = {0, 0};
#pragma unroll
    for (int i = 0; i < EACH; i++)
        key[i] = id_of(begin, i) < r->j.vocab ? order_key(x[i]) : 0;
    bool again = true; /* this warp's best is not known */
    for (int place = 0; place < max(min(n, here), 1); place++) {
        if (again) {
            own = 0;
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                own_id = key[i] > own ? (uint32_t)id_of(begin, i) : own_id;
                own = max(own, key[i]);
            }
            mine = warp_best(own, own_id);
        }
        struct best b = best_of_warps(sh, mine, place % 2);
        first = place == 0 ? b : first;
        if (threadIdx.x == 0 && n > 0)
            r->tops[part * TOPS + place] = {(int32_t)b.id, order_value(b.key)};
        again = b.id == mine.id;
#pragma unroll
        for (int i = 0; i < EACH; i++)
            key[i] = (uint32_t)id_of(begin, i) == b.id ? 0 : key[i];
    }
    __syncthreads(); /* the words of both slots are read before others are written */
    return order_value(first.key);
}

static __global__ void __launch_bounds__(THREADS, 2) k_sample_scan(struct job j)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    ptx_pdl_trigger();
    ptx_pdl_wait();
    int o = (int)blockIdx.y, part = (int)blockIdx.x, begin = part * PART;
    if (o >= j.head->rows[VIEW_OUTS])
        return;
    float x[EACH];
    load_part(j.logits + (size_t)o * (size_t)j.stride, j.vocab, begin, x);
    const struct row *r = open_row(sh, &j, o);
    if (r->p.host)
        return;
    struct scan_part out = {-INFINITY, -INFINITY, -1, 0};
    bool choose = r->p.forced < 0, scores = r->p.logprobs >= 0;
    bool greedy = r->p.temperature == 0.0f && r->p.plain;
    struct best b = {0, 0};
    if (choose && greedy) /* of the raw logits: +inf is above the largest float here */
        b = best_of_part(sh, begin, x, 0);
    if (scores || !greedy) {
        clean_part(x);
        if (scores) {
            __syncthreads(); /* slot 0 is read before it is written again */
            out.raw = write_tops(sh, r, part, x);
        }
        if (choose && !greedy) {
            adjust_part(r, begin, sh->tile, x);
            b = best_of_part(sh, begin, x, 0);
        }
    }
    if (threadIdx.x > 0)
        return;
    if (choose) {
        out.z = order_value(b.key);
        out.id = (int32_t)b.id;
    }
    r->scans[part] = out;
    if (part == 0)
        *r->ticket = 0;
}

/* ---- The second node, a part ---- */

static __device__ void read_scans(struct shared *sh)
{
    struct row *r = &sh->row;
    uint32_t key = 0, raw = 0, id = ALL;
    for (int p = (int)threadIdx.x % 32; p < r->j.parts; p += 32) {
        uint4 v = ptx_load_l2(r->scans + p);
        uint32_t k = order_key(__uint_as_float(v.x));
        id = k > key ? v.z : id;
        key = max(key, k);
        raw = max(raw, order_key(__uint_as_float(v.y)));
    }
    struct best b = warp_best(key, id);
    raw = __reduce_max_sync(ALL, raw);
    if (threadIdx.x == 0) {
        r->most = order_value(b.key);
        r->raw_most = order_value(raw);
        r->best = b.key > order_key(-INFINITY) ? (int32_t)b.id : -1;
    }
    __syncthreads(); /* written before they are read */
}

static __device__ __forceinline__ float scaled(const struct row *r, float z)
{
    return (z - r->most) / r->p.temperature;
}

/* Candidates of a part: those of the bins of -s below `cut`, in which at least `want` of the
 * threads' largest lie, so that the part's first `want` are among them. */
static __device__ void list_part(struct shared *sh, const struct row *r, int part,
                                 const float z[EACH], struct draw_part *out)
{
    uint32_t bins[EACH / 2], least = BINS; /* two bins a word */
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float s = scaled(r, z[i]);
        uint32_t bin = s >= EXP_LEAST ? near_bin(fabsf(s)) : BINS;
        bins[i / 2] = i % 2 ? bins[i / 2] | bin << 16 : bin;
        least = min(least, bin);
    }
    sh->count[threadIdx.x] = 0;
    if (threadIdx.x == 0)
        sh->found = BINS;
    __syncthreads(); /* bins are zero before they are counted in */
    if (least < BINS)
        atomicAdd(&sh->count[least], 1u);
    __syncthreads(); /* and counted before they are added up */
    uint32_t want = r->p.top_k > 0 && r->p.top_k < WANT ? (uint32_t)r->p.top_k : WANT;
    uint64_t here = sh->count[threadIdx.x], total;
    uint64_t before = sum_before(here, sh->scan, &total);
    if (before < want && before + here >= want)
        sh->found = threadIdx.x + 1;
    __syncthreads(); /* found is written before it is read */
    uint32_t cut = sh->found;
    if (r->p.top_k == 0) { /* what weighs too little in all to reach into top_p's share */
        float far = logf(2.0f * (float)r->j.vocab / (1.0f - r->p.top_p)) * 1.001f + 0.01f;
        cut = min(cut, near_bin(far) + 1);
    }
    /* Places in the order of ids: four counts of 16 bits, one a quad of each thread. */
    uint64_t mine = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++)
        mine += (uint64_t)((bins[i / 2] >> i % 2 * 16 & 0xffff) < cut) << i / 4 * 16;
    before = sum_before(mine, sh->scan, &total);
    uint32_t count = 0, base[4];
#pragma unroll
    for (int q = 0; q < 4; q++) {
        base[q] = count + (uint32_t)(before >> q * 16 & 0xffff);
        count += (uint32_t)(total >> q * 16 & 0xffff);
    }
    bool fits = count <= LIST;
    out->count = fits ? count : 0;
    out->cut = fits ? cut : 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (fits && (bins[i / 2] >> i % 2 * 16 & 0xffff) < cut)
            r->lists[part * LIST + (int)base[i / 4]++] = {z[i], id_of(part * PART, i)};
    }
}

static __device__ bool draws(const struct row *r)
{
    return r->p.forced < 0 && r->best >= 0 && r->p.temperature > 0.0f;
}

static __device__ bool is_listed(const struct row *r)
{
    return r->p.top_k > 0 || r->p.top_p < 1.0f;
}

/* The part's sums and list. */
static __device__ void work_part(struct shared *sh, const struct row *r, int part)
{
    struct draw_part out = {0.0, 0.0, 0, 0, {0, 0}};
    float x[EACH];
    load_part(r->logits, r->j.vocab, part * PART, x);
    clean_part(x);
    if (r->p.logprobs >= 0) {
        struct sum2 s = {0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < EACH; i++)
            sum2_add(&s, exp_of(x[i] - r->raw_most));
        out.raw = block_sum(sum2_value(s), sh->sum);
    }
    if (draws(r)) {
        adjust_part(r, part * PART, sh->tile, x);
        if (is_listed(r))
            list_part(sh, r, part, x, &out);
        if (r->p.top_k == 0) {
            float least = r->p.top_p < 1.0f ? 0.0f : r->p.min_p;
            struct sum2 s = {0.0f, 0.0f};
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                float w = exp_of(scaled(r, x[i]));
                sum2_add(&s, w >= least ? w : 0.0f);
            }
            out.w = block_sum(sum2_value(s), sh->sum);
        }
    }
    if (threadIdx.x == 0)
        r->draws[part] = out;
}

/* True in the block of the row that comes last: it sees what the others wrote. */
static __device__ bool is_last(struct shared *sh, const struct row *r)
{
    __threadfence(); /* lists and sums are written before the ticket is taken */
    __syncthreads();
    if (threadIdx.x == 0)
        sh->found = atomicAdd(r->ticket, 1u);
    __syncthreads(); /* the ticket is in shared memory before it is read */
    bool last = sh->found == (uint32_t)r->j.parts - 1;
    __threadfence(); /* and read before the others' words */
    __syncthreads(); /* read before `found` is used again */
    return last;
}

static __device__ struct draw_part read_draw(const struct row *r, int part)
{
    uint4 v[2] = {ptx_load_l2(r->draws + part), ptx_load_l2((const uint4 *)(r->draws + part) + 1)};
    struct draw_part d;
    memcpy(&d, v, sizeof d);
    return d;
}

/* ---- The last block of a row: which candidates stay ---- */

/* Kept: keys below `key`, and of those equal to it ids up to `id`. */
struct cut {
    uint32_t key, id;
};

static __device__ __forceinline__ bool keeps(struct cut c, uint32_t key, uint32_t id)
{
    return key < c.key || (key == c.key && id <= c.id);
}

/* Candidates to look through: the listed ones, in the tile, or the whole row part by part. */
struct field {
    bool whole;
    int listed;
    uint32_t far; /* largest key of z */
    struct cut top_k, top_p;
};

static __device__ __forceinline__ int tiles_of(const struct row *r, const struct field *f)
{
    return f->whole ? r->j.parts : 1;
}

/* Brings tile t into shared memory and returns how many candidates it has. */
static __device__ int open_tile(struct shared *sh, const struct row *r, const struct field *f,
                                int t)
{
    if (!f->whole)
        return f->listed;
    open_part(r, t, sh->tile);
    return min(PART, r->j.vocab - t * PART);
}

static __device__ __forceinline__ uint32_t tile_id(const struct shared *sh, const struct field *f,
                                                   int t, int i)
{
    return f->whole ? (uint32_t)(t * PART + i) : __float_as_uint(sh->tile[LISTED + i]);
}

static __device__ __forceinline__ uint32_t z_key(const struct row *r, float z)
{
    return order_key(r->most) - order_key(z);
}

static __device__ __forceinline__ uint32_t s_key(float s)
{
    return __float_as_uint(fabsf(s));
}

/* A pass: keys [low, high] in bins of 2^shift from base on, what is below base in bin 0. */
struct range {
    uint32_t low, high, base, shift;
};

static __device__ __forceinline__ uint32_t range_bin(const struct range *g, uint32_t key)
{
    return key < g->base ? 0 : min((key - g->base) >> g->shift, (uint32_t)BINS - 1);
}

/* The last key of a bin. */
static __device__ __forceinline__ uint32_t range_end(const struct range *g, uint32_t bin)
{
    uint64_t end = (uint64_t)g->base + ((uint64_t)(bin + 1) << g->shift) - 1;
    return end < g->high ? (uint32_t)end : g->high;
}

static __device__ __forceinline__ uint32_t shift_for(uint32_t span)
{
    int bits = 32 - __clz((int)span);
    return bits > 9 ? (uint32_t)bits - 9 : 0;
}

/* Key of a candidate, and whether it is one: by z, or by s among those that top_k keeps. */
template <bool MASS>
static __device__ __forceinline__ bool key_of(const struct shared *sh, const struct row *r,
                                              const struct field *f, int t, int i, uint32_t *key,
                                              float *w)
{
    float z = sh->tile[i];
    if (!(z > -INFINITY))
        return false;
    if (!MASS) {
        *key = z_key(r, z);
        return true;
    }
    float s = scaled(r, z);
    *key = s_key(s);
    *w = exp_of(s);
    return *w > 0.0f && keeps(f->top_k, z_key(r, z), tile_id(sh, f, t, i));
}

/* Counts, and weights in units of 2^(unit - 150): whole numbers, because a bin's weights are not
 * below 2^(unit - 127), nor above 2^6 of that. */
template <bool MASS>
static __device__ void fill_bins(struct shared *sh, const struct row *r, const struct field *f,
                                 const struct range *g)
{
    int me = (int)threadIdx.x;
    __syncthreads(); /* the last pass has been read */
    sh->count[me] = sh->low[me] = sh->high[me] = 0;
    if (MASS) {
        float far = fminf(__uint_as_float(range_end(g, (uint32_t)me)), -EXP_LEAST);
        sh->unit[me] = (__float_as_uint(exp_of(-far)) >> 23) - 1;
    }
    __syncthreads(); /* bins are zero before they are counted in */
    for (int t = 0; t < tiles_of(r, f); t++) {
        int n = open_tile(sh, r, f, t);
#pragma unroll 1
        for (int i = me; i < n; i += THREADS) {
            uint32_t key;
            float w = 0.0f;
            if (!key_of<MASS>(sh, r, f, t, i, &key, &w) || key < g->low || key > g->high)
                continue;
            uint32_t bin = range_bin(g, key);
            atomicAdd(&sh->count[bin], 1u);
            if (MASS) {
                uint32_t bits = __float_as_uint(w);
                uint32_t amount = ((bits & 0x7fffffu) | 0x800000u)
                                  << ((bits >> 23) - sh->unit[bin]);
                uint32_t old = atomicAdd(&sh->low[bin], amount);
                if (old + amount < old)
                    atomicAdd(&sh->high[bin], 1u);
            }
        }
    }
    __syncthreads(); /* all is counted before it is read */
}

/* The id of the m-th (from 1) candidate with this key, ascending. */
template <bool MASS>
static __device__ uint32_t nth_id(struct shared *sh, const struct row *r, const struct field *f,
                                  uint32_t key, uint64_t m)
{
    for (int t = 0; t < tiles_of(r, f); t++) {
        int n = open_tile(sh, r, f, t), first = (int)threadIdx.x * EACH;
        uint32_t hits = 0, k;
        float w;
        for (int i = 0; i < EACH; i++) {
            if (first + i < n && key_of<MASS>(sh, r, f, t, first + i, &k, &w) && k == key)
                hits |= 1u << i;
        }
        uint64_t total, before = sum_before((uint64_t)__popc(hits), sh->scan, &total);
        if (total < m) {
            m -= total;
            continue;
        }
        for (int i = 0; i < EACH; i++) {
            before += hits >> i & 1;
            if ((hits >> i & 1) && before == m)
                sh->found = tile_id(sh, f, t, first + i);
        }
        __syncthreads(); /* found is written before it is read */
        return sh->found;
    }
    return ALL;
}

/* The shortest prefix whose count (by z), or whose weight (by s), reaches `need`. */
template <bool MASS>
static __device__ struct cut find_cut(struct shared *sh, const struct row *r, const struct field *f,
                                      double need)
{
    struct range g = {0, f->far, 0, 0};
    g.shift = shift_for(g.high);
    if (MASS)
        g = {0, s_key(EXP_LEAST), NEAR_KEY, NEAR_SHIFT};
    double before = 0.0;
    for (;;) {
        fill_bins<MASS>(sh, r, f, &g);
        int me = (int)threadIdx.x;
        double mine = (double)sh->count[me], all;
        if (MASS)
            mine = (double)((uint64_t)sh->high[me] << 32 | sh->low[me]) *
                   power_of_two((int)sh->unit[me] - 150);
        double upto = before + sum_before(mine, sh->sum, &all);
        if (me == 0)
            sh->found = BINS;
        __syncthreads(); /* found is set before it is lowered */
        if (sh->count[me] > 0 && upto + mine >= need)
            atomicMin(&sh->found, (uint32_t)me);
        __syncthreads(); /* and final before it is read */
        uint32_t bin = sh->found;
        if (bin == BINS)
            return {ALL, ALL};
        if ((uint32_t)me == bin)
            sh->value = upto;
        __syncthreads(); /* value is written before it is read */
        before = sh->value;
        uint32_t count = sh->count[bin], end = range_end(&g, bin);
        g.low = bin == 0 ? g.low : max(g.low, g.base + (bin << g.shift));
        g.high = end;
        if (count == 1 || (!MASS && before + (double)count == need))
            return {g.high, ALL};
        if (g.low == g.high)
            break;
        g.base = g.low;
        g.shift = shift_for(g.high - g.low);
    }
    /* All that is left are ties: the first few by id. */
    double w = MASS ? (double)exp_of(-__uint_as_float(g.low)) : 1.0;
    uint32_t ties = sh->count[range_bin(&g, g.low)];
    double some = ceil((need - before) / w);
    uint64_t m = some < 1.0 ? 1 : some < (double)ties ? (uint64_t)some : ties;
    if (m == ties)
        return {g.low, ALL};
    return {g.low, nth_id<MASS>(sh, r, f, g.low, m)};
}

/* ---- The last block: the draw ---- */

/* Candidates of the tile become their weights, 0 where dropped. */
static __device__ void weigh_tile(struct shared *sh, const struct row *r, const struct field *f,
                                  int t, int n, float least)
{
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        float z = sh->tile[i], s = scaled(r, z), w = exp_of(s);
        uint32_t id = tile_id(sh, f, t, i);
        bool keep = w >= least && keeps(f->top_k, z_key(r, z), id) && keeps(f->top_p, s_key(s), id);
        sh->tile[i] = keep ? w : 0.0f;
    }
    __syncthreads(); /* weights are written before they are added up */
}

/* Sum of the weights before this thread's 16; *total of the tile. */
static __device__ double tile_before(struct shared *sh, int n, double *total)
{
    struct sum2 s = {0.0f, 0.0f};
    int first = (int)threadIdx.x * EACH;
    for (int i = first; i < min(first + EACH, n); i++)
        sum2_add(&s, sh->tile[i]);
    return sum_before(sum2_value(s), sh->sum, total);
}

/* Index of the first weight at which `base` and the sum so far exceed target; where rounding leaves
 * none, of the last that is not zero. */
static __device__ int draw_tile(struct shared *sh, int n, double base, double before, double target)
{
    int first = (int)threadIdx.x * EACH, last = -1;
    double run = base + before;
    uint32_t hit = ALL;
    for (int i = first; i < min(first + EACH, n); i++) {
        float w = sh->tile[i];
        run += (double)w;
        last = w > 0.0f ? i : last;
        hit = hit == ALL && w > 0.0f && run > target ? (uint32_t)i : hit;
    }
    if (threadIdx.x == 0) {
        sh->found = ALL;
        sh->other = 0;
    }
    __syncthreads(); /* both are set before they are changed */
    if (hit != ALL)
        atomicMin(&sh->found, hit);
    if (last >= 0)
        atomicMax(&sh->other, (uint32_t)last);
    __syncthreads(); /* and final before they are read */
    return (int)(sh->found != ALL ? sh->found : sh->other);
}

/* Draws over the whole row; the parts' sums are in scratch. */
static __device__ int32_t draw_parts(struct shared *sh, const struct row *r, const struct field *f)
{
    int me = (int)threadIdx.x, parts = r->j.parts;
    double mine = me < parts ? read_draw(r, me).w : 0.0, total;
    double before = sum_before(mine, sh->sum, &total);
    double target = total * (double)r->p.uniform;
    if (me == 0) {
        sh->found = ALL;
        sh->other = 0;
    }
    __syncthreads(); /* both are set before they are changed */
    if (mine > 0.0) {
        atomicMax(&sh->other, (uint32_t)me);
        if (before + mine > target)
            atomicMin(&sh->found, (uint32_t)me);
    }
    __syncthreads(); /* and final before they are read */
    int part = (int)(sh->found != ALL ? sh->found : sh->other);
    if (me == part)
        sh->value = before;
    __syncthreads(); /* value is written before it is read */
    double base = sh->value;
    int n = open_tile(sh, r, f, part);
    weigh_tile(sh, r, f, part, n, r->p.min_p);
    before = tile_before(sh, n, &total);
    return part * PART + draw_tile(sh, n, base, before, target);
}

/* The weight of every tile under f's cuts and `least`, also into the parts' sums. */
static __device__ double weigh_parts(struct shared *sh, const struct row *r, const struct field *f,
                                     float least)
{
    double total = 0.0;
    for (int t = 0; t < r->j.parts; t++) {
        double sum;
        int n = open_tile(sh, r, f, t);
        weigh_tile(sh, r, f, t, n, least);
        tile_before(sh, n, &sum);
        if (threadIdx.x == 0)
            r->draws[t].w = sum;
        total += sum;
    }
    __threadfence();
    __syncthreads(); /* sums are written before draw_parts reads them */
    return total;
}

/* Brings the parts' lists into the tile, ids ascending; what lies at or beyond the least cut of all
 * parts becomes -inf, because there others may be missing. False: they are too many. *more: there
 * are candidates that are not listed. *valid: how many are left. */
static __device__ bool gather(struct shared *sh, const struct row *r, struct field *f, bool *more,
                              uint32_t *valid)
{
    int me = (int)threadIdx.x, parts = r->j.parts;
    struct draw_part d = {0.0, 0.0, 0, BINS, {0, 0}};
    if (me < parts)
        d = read_draw(r, me);
    uint64_t total, before = sum_before((uint64_t)d.count, sh->scan, &total);
    sh->count[me] = d.count;
    sh->low[me] = (uint32_t)before;
    if (me == 0) {
        sh->found = BINS;
        sh->other = 0;
    }
    __syncthreads(); /* both are set before they are changed */
    atomicMin(&sh->found, d.cut);
    __syncthreads(); /* found is final before it is read */
    uint32_t cut = sh->found;
    if (total > LISTED || cut == 0)
        return false;
    f->listed = (int)total;
    *more = cut < BINS;
    uint32_t far = 0, kept = 0;
    for (int i = me; i < parts * LIST; i += THREADS) {
        int part = i / LIST, at = i % LIST;
        if ((uint32_t)at >= sh->count[part])
            continue;
        uint64_t packed = __ldcg((const unsigned long long *)(r->lists + i));
        struct candidate c;
        memcpy(&c, &packed, sizeof c);
        bool stays = near_bin(fabsf(scaled(r, c.z))) < cut;
        at += (int)sh->low[part];
        sh->tile[at] = stays ? c.z : -INFINITY;
        sh->tile[LISTED + at] = __int_as_float(c.id);
        far = stays ? max(far, z_key(r, c.z)) : far;
        kept += stays;
    }
    atomicMax(&sh->other, far);
    uint64_t all;
    sum_before((uint64_t)kept, sh->scan, &all); /* its barriers stand between tile and readers */
    f->far = sh->other;
    *valid = (uint32_t)all;
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

/* Sets f's cuts. False: the listed candidates do not hold the answer. `total`: the weight of all,
 * where top_k is off. */
static __device__ bool find_cuts(struct shared *sh, const struct row *r, struct field *f,
                                 double total, bool more, uint32_t valid)
{
    uint32_t top_k = (uint32_t)r->p.top_k;
    if (more && valid < top_k)
        return false;
    if (top_k > 0 && valid > top_k)
        f->top_k = find_cut<false>(sh, r, f, (double)top_k);
    if (r->p.top_p >= 1.0f)
        return true;
    double mass = f->whole ? 0.0 : listed_mass(sh, r, f);
    if (top_k > 0)
        total = f->whole ? weigh_parts(sh, r, f, 0.0f) : mass;
    else if (more && mass < (double)r->p.top_p * total)
        return false;
    f->top_p = find_cut<true>(sh, r, f, (double)r->p.top_p * total);
    return true;
}

static __device__ __attribute__((noinline)) int32_t draw_row()
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    struct field f = {true, 0, 0, {ALL, ALL}, {ALL, ALL}};
    if (is_listed(r)) {
        int me = (int)threadIdx.x;
        double total = block_sum(me < r->j.parts ? read_draw(r, me).w : 0.0, sh->sum);
        bool more = false;
        uint32_t valid = 0;
        f.whole = !gather(sh, r, &f, &more, &valid);
        for (;;) {
            if (f.whole) {
                f.far = z_key(r, -FLT_MAX);
                f.top_k = {ALL, ALL};
                more = false;
                valid = ALL;
            }
            if (find_cuts(sh, r, &f, total, more, valid))
                break;
            f.whole = true;
        }
        if (!f.whole) {
            weigh_tile(sh, r, &f, 0, f.listed, r->p.min_p);
            double before = tile_before(sh, f.listed, &total);
            int at = draw_tile(sh, f.listed, 0.0, before, total * (double)r->p.uniform);
            return (int32_t)tile_id(sh, &f, 0, at);
        }
        weigh_parts(sh, r, &f, r->p.min_p);
    }
    return draw_parts(sh, r, &f);
}

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

/* All z are -inf: the largest logit of what mask and bans allow, -inf counting as the least number;
 * else of all. */
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

/* ---- Log-probabilities ---- */

static __device__ float logprob_of(const struct row *r, float x, double lse)
{
    return x == -INFINITY ? -INFINITY : (float)((double)x - (double)r->raw_most - lse);
}

/* Merges the parts' largest logits, a warp with some parts a lane. */
static __device__ __attribute__((noinline)) void write_logprobs(int32_t token,
                                                                struct sample_result *out)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    int me = (int)threadIdx.x, parts = r->j.parts, vocab = r->j.vocab;
    struct token_logprob *tops = (struct token_logprob *)sh->tile;
    int n = min(r->p.logprobs, TOPS);
    double lse, sum = block_sum(me < parts ? read_draw(r, me).raw : 0.0, sh->sum);
    lse = r->raw_most > -INFINITY ? log(sum) : 0.0;
    for (int i = me; i < parts * n; i += THREADS) {
        uint64_t packed = __ldcg((const unsigned long long *)(r->tops + i / n * TOPS + i % n));
        memcpy(tops + i, &packed, sizeof packed);
    }
    if (me < parts)
        sh->count[me] = 0; /* taken of the part */
    __syncthreads();       /* lists and heads are there before they are merged */
    if (me >= 32)
        return;
    for (int place = 0; place < min(n, vocab); place++) {
        uint32_t key = 0, id = ALL, from = 0;
        for (int p = me; p < parts; p += 32) {
            int taken = (int)sh->count[p];
            if (taken >= min(n, vocab - p * PART))
                continue;
            uint32_t k = order_key(tops[p * n + taken].logprob);
            if (k > key) {
                key = k;
                id = (uint32_t)tops[p * n + taken].token;
                from = (uint32_t)p;
            }
        }
        struct best b = warp_best(key, id);
        if (key == b.key && id == b.id) {
            sh->count[from]++;
            out->top[place].token = (int32_t)b.id;
            out->top[place].logprob = logprob_of(r, order_value(b.key), lse);
        }
    }
    if (me == 0) {
        out->logprob = logprob_of(r, clean(__ldcg(r->logits + token)), lse);
        out->top_count = min(n, vocab);
    }
}

/* The row's token and result, by all threads of the last block. */
static __device__ __attribute__((noinline)) void finish_row()
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    int o = (int)blockIdx.y;
    struct sample_result *out = r->j.results + o;
    int32_t token = r->p.forced;
    if (token < 0)
        token = r->best;
    if (token < 0)
        token = last_resort();
    else if (draws(r))
        token = draw_row();
    if (threadIdx.x == 0) {
        out->token = token;
        if (r->j.next_token)
            r->j.next_token[o] = token;
    }
    __syncthreads(); /* the draw's words are read before log-probabilities use them */
    if (r->p.logprobs >= 0) {
        write_logprobs(token, out);
    } else if (threadIdx.x == 0) {
        out->logprob = 0.0f;
        out->top_count = 0;
    }
}

static __global__ void __launch_bounds__(THREADS, 2) k_sample_draw(struct job j)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    ptx_pdl_trigger();
    ptx_pdl_wait();
    int o = (int)blockIdx.y, part = (int)blockIdx.x;
    if (o >= j.head->rows[VIEW_OUTS])
        return;
    const struct row *r = open_row(sh, &j, o);
    if (r->p.host)
        return;
    read_scans(sh);
    bool shared_work = draws(r) || r->p.logprobs >= 0;
    if (shared_work)
        work_part(sh, r, part);
    if (shared_work ? is_last(sh, r) : part == 0)
        finish_row();
}

static int parts_of(int vocab)
{
    return (vocab + PART - 1) / PART;
}

size_t cuda_sample_scratch(int vocab)
{
    return scratch_bytes(parts_of(vocab)) / sizeof(float);
}

enum status cuda_sample(const struct sample_args *a, cudaStream_t s)
{
    if (a->stride % 4 || a->stride < a->vocab || (uintptr_t)a->logits % 16 ||
        (uintptr_t)a->scratch % 16 || a->vocab < 1 || a->outs_max < 1)
        return STATUS_INVALID;
    if (a->vocab > SAMPLE_VOCAB_MAX || a->outs_max > 65535)
        return STATUS_UNSUPPORTED;
    struct job j;
    j.head = a->step->head;
    j.logits = a->logits;
    j.rows = a->rows;
    j.edits = a->edits;
    j.masks = a->masks;
    j.scratch = (uint8_t *)a->scratch;
    j.results = a->results;
    j.next_token = a->next_token;
    j.stride = a->stride;
    j.vocab = a->vocab;
    j.parts = parts_of(a->vocab);
    j.scratch_bytes = scratch_bytes(j.parts);
    struct launch_shape shape;
    shape.grid = dim3((unsigned)j.parts, (unsigned)a->outs_max, 1);
    shape.threads = THREADS;
    shape.smem = sizeof(struct shared);
    shape.dependent = a->dependent != 0;
    enum status st = launch(shape, s, k_sample_scan, j);
    return st != STATUS_OK ? st : launch(shape, s, k_sample_draw, j);
}
