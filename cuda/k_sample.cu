/* k_sample: token[o] = sample_logits(logits[o], rows[o]) for all output rows of a step.
 *
 * logits [O, stride] fp32; a row is cut into parts of 2,048 ids. Two nodes of grid (parts,
 * outs_max), 256 threads, a block a part and row:
 *
 *   k_sample_scan   largest z of the part (lowest id) and of each of its warps, and where
 *                   log-probabilities are wanted its largest raw logits, one after the other
 *   k_sample_draw   with the largest z of the row: the part's sum of weights exp((z - max) / T),
 * the same of raw logits for log-probabilities, for top_k and top_p a list of its first candidates,
 * and for top_p its share of its section's bins of weights; the last block of a row to arrive then
 * finishes the row. A row that needs none of this (greedy, forced) is finished by its first block,
 * the others leave without waiting for the node in front.
 *
 * Where to start: sample_row.cuh and sample_part.cuh (a row, its parts), sample_list.cuh and
 * sample_select.cuh (top_k, top_p), sample_draw.cuh, sample_logprobs.cuh. All blocks of a row list
 * what lies above one common bin, which the largest of the warps give: some hundred candidates.
 * When the answer lies below it (a wide nucleus), the last block finds the bin it ends in from
 * those that all have filled, brings what is in that bin together in one pass over the row
 * (sample_hold.cuh) and chooses there; the draw (sample_sections.cuh) takes an eighth of the row by
 * its bins, then a part of it, then an id. Where the bin holds more than an eighth of the
 * vocabulary (ties, temperatures that leave no difference) it goes over the whole row several
 * times.
 *
 * Preconditions: those of cuda_sample. Shared memory: struct shared, 25 KB. Bytes: each node reads
 * the row once (L2), 4 V; flops: about 25 V a weight sum. Order of sums: a thread's 8 weights in a
 * float pair, then doubles over lanes, warps, parts. Covered by
 * tests/kernels/test_sample_device.c; timed by tests/kernels/bench_sample.c.
 */
#include "cuda/k_sample.h"

#include "cuda/launch.cuh"
#include "cuda/sample_draw.cuh"
#include "cuda/sample_logprobs.cuh"

/* ---- The first node ---- */

/* Largest of the warp's values above -inf, lowest id; key of -inf where there is none. */
static __device__ __forceinline__ struct best best_of_warp(int begin, const float x[EACH])
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
    return warp_best(order_key(most), id);
}

/* The largest z of each warp, and the bins set to zero by the first part of a row or section. */
static __device__ void leave_for_cuts(const struct row *r, int part, struct best mine)
{
    int me = (int)threadIdx.x;
    if (me % 32 == 0)
        r->groups[part * WARPS + me / 32] = order_value(mine.key);
    if (part % section_parts(r) > 0 || !has_bins(r))
        return;
    int section = part / section_parts(r);
    for (int i = me; i < BINS; i += THREADS) {
        r->masses[section * BINS + i] = 0;
        if (part == 0)
            r->counts[i] = 0;
    }
}

static __global__ void __launch_bounds__(THREADS, 5) k_sample_scan(struct job j)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    ptx_pdl_trigger();
    int o = (int)blockIdx.y, part = (int)blockIdx.x, begin = part * PART;
    bool mine = o < j.head->rows[VIEW_OUTS];
    if (!mine && o + part > 0) /* the first block waits always: no step ends before its head */
        return;
    const struct row *r = &sh->row;
    if (mine)
        r = open_row(sh, &j, o);
    ptx_pdl_wait();
    if (!mine || r->p.host)
        return;
    float x[EACH];
    load_part(r->logits, j.vocab, begin, x);
    struct scan_part out = {-INFINITY, -INFINITY, -1, 0};
    bool choose = r->p.forced < 0, scores = r->p.logprobs >= 0;
    bool greedy = r->p.temperature == 0.0f && r->p.plain;
    struct best b = {0, 0}, own;
    if (choose && greedy) { /* of the raw logits: +inf is above the largest float here */
        own = best_of_warp(begin, x);
        b = best_of_warps(sh, own, 0);
    }
    if (scores || !greedy) {
        clean_part(x);
        if (scores) {
            __syncthreads(); /* slot 0 is read before it is written again */
            out.raw = write_tops(sh, r, part, x);
        }
        if (choose && !greedy) {
            adjust_part(r, begin, sh->tile, x);
            own = best_of_warp(begin, x);
            if (may_draw(r) && is_listed(r))
                leave_for_cuts(r, part, own);
            b = best_of_warps(sh, own, 0);
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
        if (has_bins(r)) {
            out.w = bins_of_part(sh, r, part, x);
        } else if (r->p.top_k == 0) {
            float least = r->p.min_p;
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

static __global__ void __launch_bounds__(THREADS, 4) k_sample_draw(struct job j)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    ptx_pdl_trigger();
    int o = (int)blockIdx.y, part = (int)blockIdx.x;
    bool first = o + part == 0, mine = o < j.head->rows[VIEW_OUTS];
    if (!mine && !first)
        return;
    const struct row *r = &sh->row;
    if (mine)
        r = open_row(sh, &j, o);
    if (mine && part > 0 && !may_draw(r) && r->p.logprobs < 0)
        return;
    ptx_pdl_wait();
    if (!mine || r->p.host)
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
    static_assert(sizeof(struct shared) <= LAUNCH_SMEM_LEAST, "on all cards");
    shape.smem = sizeof(struct shared);
    shape.dependent = a->dependent != 0;
    enum status st = launch(shape, s, k_sample_scan, j);
    return st != STATUS_OK ? st : launch(shape, s, k_sample_draw, j);
}
