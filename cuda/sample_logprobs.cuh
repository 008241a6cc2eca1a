/* sample_logprobs: the largest raw logits of a row and their log-probabilities. Each part writes
 * its own in order; the last block ranks those of the parts whose largest are the row's largest.
 * Device only. */
#ifndef CHORUS_CUDA_SAMPLE_LOGPROBS_CUH
#define CHORUS_CUDA_SAMPLE_LOGPROBS_CUH

#include "cuda/sample_part.cuh"

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

static __device__ float logprob_of(const struct row *r, float x, double lse)
{
    return x == -INFINITY ? -INFINITY : (float)((double)x - (double)r->raw_most - lse);
}

/* The place of (key, id) among the first n of the lists: keys descending, then ids ascending. */
static __device__ __forceinline__ int rank_among(const uint32_t *keys, const uint32_t *ids, int n,
                                                 uint32_t key, uint32_t id)
{
    int rank = 0;
#pragma unroll 8
    for (int i = 0; i < n; i++)
        rank += keys[i] > key || (keys[i] == key && ids[i] < id);
    return rank;
}

static __device__ struct token_logprob read_top(const struct row *r, int part, int place)
{
    uint64_t packed = __ldcg((const unsigned long long *)(r->tops + part * TOPS + place));
    struct token_logprob t;
    memcpy(&t, &packed, sizeof t);
    return t;
}

/* The n largest logits of the row to `out`, by all threads. */
static __device__ void write_places(struct shared *sh, const struct row *r, int n, double lse,
                                    struct sample_result *out)
{
    int me = (int)threadIdx.x, parts = r->j.parts, vocab = r->j.vocab;
    uint32_t *keys = (uint32_t *)sh->tile, *ids = keys + PART;
    for (int p = me; p < parts; p += THREADS) {
        struct token_logprob t = read_top(r, p, 0);
        sh->count[p] = order_key(t.logprob);
        sh->low[p] = (uint32_t)t.token;
    }
    __syncthreads(); /* the parts' largest are there before they are ranked */
    for (int p = me; p < parts; p += THREADS) {
        int rank = rank_among(sh->count, sh->low, parts, sh->count[p], sh->low[p]);
        if (rank < n)
            sh->unit[rank] = (uint32_t)p;
    }
    __syncthreads(); /* parts are ranked before their lists are read */
    int entries = min(n, parts) * n;
    for (int i = me; i < entries; i += THREADS) {
        int part = (int)sh->unit[i / n];
        struct token_logprob t = {-1, 0.0f};
        bool is = i % n < vocab - part * PART;
        if (is)
            t = read_top(r, part, i % n);
        keys[i] = is ? order_key(t.logprob) : 0;
        ids[i] = (uint32_t)t.token;
    }
    __syncthreads(); /* the lists are there before they are ranked */
    for (int i = me; i < entries; i += THREADS) {
        int place = keys[i] ? rank_among(keys, ids, entries, keys[i], ids[i]) : n;
        if (place < n)
            out->top[place] = {(int32_t)ids[i], logprob_of(r, order_value(keys[i]), lse)};
    }
}

static __device__ __attribute__((noinline)) void write_logprobs(int32_t token,
                                                                struct sample_result *out)
{
    DYN_SMEM(smem);
    struct shared *sh = (struct shared *)smem;
    const struct row *r = &sh->row;
    int n = min(min(r->p.logprobs, TOPS), r->j.vocab);
    double sum = 0.0;
    for (int p = (int)threadIdx.x; p < r->j.parts; p += THREADS)
        sum += read_draw(r, p).raw;
    sum = block_sum(sum, sh->sum);
    double lse = r->raw_most > -INFINITY ? log(sum) : 0.0;
    if (n > 0)
        write_places(sh, r, n, lse, out);
    if (threadIdx.x == 0) {
        out->logprob = logprob_of(r, clean(__ldcg(r->logits + token)), lse);
        out->top_count = n;
    }
}

#endif
