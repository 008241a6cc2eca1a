/* Exact semantics, so that another implementation can be held against this one:
 *
 * - A logit that is NaN counts as -inf, +inf as the largest float; so does what bias and repetition
 *   make of it.
 * - z = logit + bias; banned and masked ids are -inf. Repetition: z > 0 ? z / r : z * r, once for
 *   each id in prompt or output. Then z -= frequency * count + presence over the output.
 * - temperature 0: the largest z. Otherwise s = (z - max z) / temperature and weight w = exp(s)
 *   (zero below s = -86.5); ids of weight zero are never drawn.
 * - "Highest first" is by s descending, then id ascending. top_k keeps the first
 *   min(k, LIMIT_TOP_K). typical_p sorts by |log p + H| ascending (H the entropy of what is left),
 *   then id, top_p highest first; each keeps the shortest prefix whose weight reaches its share of
 *   all that is left. min_p keeps w >= min_p * largest w left.
 * - The draw walks ids in ascending order and takes the first at which the running sum of weights
 *   exceeds u times their total, u = sample_uniform(seed, token_count).
 *
 * Weights are summed in double, ids ascending; over the whole vocabulary first in blocks of 16.
 */
#include "engine/sample/sample.h"

#include <float.h>
#include <math.h>
#include <string.h>

static uint32_t high_product(uint32_t a, uint32_t b, uint32_t *low)
{
    uint64_t p = (uint64_t)a * b;
    *low = (uint32_t)p;
    return (uint32_t)(p >> 32);
}

float sample_uniform(uint64_t seed, uint64_t position)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)position, c1 = (uint32_t)(position >> 32), c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        uint32_t low0, low1;
        uint32_t high0 = high_product(0xD2511F53u, c0, &low0);
        uint32_t high1 = high_product(0xCD9E8D57u, c2, &low1);
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (float)(c0 >> 8) * 0x1p-24f;
}

/* ---- Blocks of 16, and vectors of 4, which every 64-bit machine has: the compiler does not make
 * them of plain loops with comparisons. Arrays by id are padded to whole blocks. ---- */

#define BLOCK     16
#define LANES     4
#define VECTOR(t) t __attribute__((vector_size(LANES * 4)))

static int padded(int vocab)
{
    return (vocab + BLOCK - 1) / BLOCK * BLOCK;
}

#define EXP_LEAST (-86.5f) /* smaller arguments give 0: no subnormals */

/* y = exp(x), x <= 0, the same bits on every machine, which the C library does not promise.
 * x = n ln 2 + r; Taylor polynomial of degree 7 in r; relative error below 4e-7. */
static inline void exp_lanes(const float *from, float *to)
{
    VECTOR(float) x;
    memcpy(&x, from, sizeof x);
    VECTOR(float) t = x * 0x1.715476p0f + 0x1.8p23f;
    VECTOR(float) n = t - 0x1.8p23f;
    VECTOR(float) r = x - n * 0x1.62e4p-1f - n * 0x1.7f7d1cp-20f;
    VECTOR(float) p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    VECTOR(uint32_t) bits = (VECTOR(uint32_t))p + ((VECTOR(uint32_t))t << 23);
    bits &= (VECTOR(uint32_t))(x >= EXP_LEAST);
    memcpy(to, &bits, sizeof bits);
}

static void exp_block(const float *from, float *to)
{
    for (int i = 0; i < BLOCK; i += LANES)
        exp_lanes(from + i, to + i);
}

/* NaN to -inf, +inf to the largest float. */
static inline void clean_lanes(const float *from, float *to)
{
    VECTOR(float) x;
    VECTOR(float) nan = (VECTOR(float)){0} - INFINITY;
    VECTOR(float) big = (VECTOR(float)){0} + FLT_MAX;
    memcpy(&x, from, sizeof x);
    VECTOR(int32_t) is_nan = (VECTOR(int32_t))(x != x);
    VECTOR(int32_t) is_big = (VECTOR(int32_t))(x > FLT_MAX);
    VECTOR(int32_t)
    bits = ((VECTOR(int32_t))x & ~is_nan & ~is_big) | ((VECTOR(int32_t))nan & is_nan) |
           ((VECTOR(int32_t))big & is_big);
    memcpy(to, &bits, sizeof bits);
}

static float clean(float x)
{
    return x != x ? -INFINITY : x > FLT_MAX ? FLT_MAX : x;
}

/* y[padded] = clean x[n], the rest -inf. */
static void clean_all(const float *x, int n, float *y)
{
    int i = 0;
    for (; n - i >= LANES; i += LANES)
        clean_lanes(x + i, y + i);
    for (; i < padded(n); i++)
        y[i] = i < n ? clean(x[i]) : -INFINITY;
}

/* Of whole blocks, free of NaN. */
static float largest(const float *x, int count)
{
    VECTOR(int32_t) most;
    float m[LANES];
    memcpy(&most, x, sizeof most);
    for (int at = LANES; at < count; at += LANES) {
        VECTOR(float) v;
        memcpy(&v, x + at, sizeof v);
        VECTOR(int32_t) larger = (VECTOR(int32_t))(v > (VECTOR(float))most);
        most = (most & ~larger) | ((VECTOR(int32_t))v & larger);
    }
    memcpy(m, &most, sizeof m);
    for (int i = 1; i < LANES; i++)
        m[0] = m[i] > m[0] ? m[i] : m[0];
    return m[0];
}

/* x = (x - most) / divisor, w = exp(x), sums[count / 16] = sums of blocks. Returns their sum. */
static double exp_all(float *x, int count, float most, float divisor, float *w, double *sums)
{
    double total = 0.0;
    for (int at = 0; at < count; at += BLOCK) {
        for (int i = 0; i < BLOCK; i++)
            x[at + i] = (x[at + i] - most) / divisor;
        exp_block(x + at, w + at);
        double sum = 0.0;
        for (int i = 0; i < BLOCK; i++)
            sum += (double)w[at + i];
        sums[at / BLOCK] = sum;
        total += sum;
    }
    return total;
}

/* ---- One row's working state ---- */

struct work {
    int vocab;
    float *z;       /* [padded V] adjusted logits, then s */
    float *w;       /* [padded V] weights by id */
    int32_t *ids;   /* [padded V] candidates */
    int32_t *count; /* [padded V] of occurrences; later marks, or keys of typical_p */
    double *sums;   /* [padded V / 16] of weights */
};

size_t sample_scratch_floats(int vocab)
{
    size_t v = (size_t)padded(vocab);
    return 4 * v + v / BLOCK * 2 + 1;
}

/* Lowest id of the largest value; NaN never wins; -1 when all are -inf or NaN. */
static int32_t argmax(const float *x, int n)
{
    float best = -INFINITY;
    int32_t at = -1;
    for (int i = 0; i < n; i++) {
        if (x[i] > best) {
            best = x[i];
            at = i;
        }
    }
    return at;
}

bool sample_is_blind(const struct sample_params *p)
{
    return p->repetition_penalty == 1.0f && p->presence_penalty == 0.0f &&
           p->frequency_penalty == 0.0f;
}

static bool is_plain(const struct sample_row *r)
{
    return r->params->bias_count == 0 && r->banned_count == 0 && !r->mask &&
           sample_is_blind(r->params);
}

static bool in_vocab(const struct work *k, int32_t id)
{
    return id >= 0 && id < k->vocab;
}

static void apply_bans(struct work *k, const struct sample_row *r)
{
    for (int i = 0; i < r->banned_count; i++) {
        if (in_vocab(k, r->banned[i]))
            k->z[r->banned[i]] = -INFINITY;
    }
    for (int i = 0; r->mask && i < k->vocab; i++) {
        if (!(r->mask[i / 32] >> (i % 32) & 1u))
            k->z[i] = -INFINITY;
    }
}

static void apply_penalties(struct work *k, const struct sample_row *r)
{
    const struct sample_params *p = r->params;
    for (int i = 0; i < r->token_count; i++) {
        if (in_vocab(k, r->tokens[i]))
            k->count[r->tokens[i]] = 0;
    }
    for (int i = 0; i < r->token_count && p->repetition_penalty != 1.0f; i++) {
        int32_t t = r->tokens[i];
        if (!in_vocab(k, t) || k->count[t]++ > 0)
            continue;
        k->z[t] = clean(k->z[t] > 0.0f ? k->z[t] / p->repetition_penalty
                                       : k->z[t] * p->repetition_penalty);
    }
    for (int i = r->prompt_count; i < r->token_count; i++) {
        if (in_vocab(k, r->tokens[i]))
            k->count[r->tokens[i]] = 0;
    }
    for (int i = r->prompt_count; i < r->token_count; i++) {
        if (in_vocab(k, r->tokens[i]))
            k->count[r->tokens[i]]++;
    }
    for (int i = r->prompt_count; i < r->token_count; i++) {
        int32_t t = r->tokens[i];
        if (!in_vocab(k, t) || k->count[t] == 0)
            continue;
        k->z[t] -= p->frequency_penalty * (float)k->count[t] + p->presence_penalty;
        k->count[t] = 0;
    }
}

static void adjust(struct work *k, const float *logits, const struct sample_row *r)
{
    clean_all(logits, k->vocab, k->z);
    for (int i = 0; i < r->params->bias_count; i++) {
        const struct logit_bias *b = &r->params->bias[i];
        if (in_vocab(k, b->token))
            k->z[b->token] = clean(k->z[b->token] + b->bias);
    }
    apply_bans(k, r);
    if (!sample_is_blind(r->params))
        apply_penalties(k, r);
}

/* Every z was -inf: what mask and bans allow, else anything. */
static int32_t last_resort(struct work *k, const float *logits, const struct sample_row *r)
{
    for (int i = 0; i < k->vocab; i++)
        k->z[i] = fmaxf(clean(logits[i]), -FLT_MAX);
    apply_bans(k, r);
    int32_t best = argmax(k->z, k->vocab);
    if (best < 0)
        best = argmax(logits, k->vocab);
    return best < 0 ? 0 : best;
}

/* ---- Choosing among candidates ---- */

/* Candidate a comes before b: larger key, then lower id. */
static bool before(const float *key, int32_t a, int32_t b)
{
    return key[a] > key[b] || (key[a] == key[b] && a < b);
}

static void swap(int32_t *a, int32_t *b)
{
    int32_t t = *a;
    *a = *b;
    *b = t;
}

/* ids[0, n) is a heap whose root comes last; restores it below `at`. */
static void sift(const float *key, int32_t *ids, int n, int at)
{
    for (;;) {
        int child = 2 * at + 1;
        if (child >= n)
            return;
        if (child + 1 < n && before(key, ids[child], ids[child + 1]))
            child++;
        if (before(key, ids[child], ids[at]))
            return;
        swap(&ids[child], &ids[at]);
        at = child;
    }
}

/* The first n ids by key into ids; ids that are -inf are left out. Returns how many. */
static int select_first(const float *key, int vocab, int n, int32_t *ids)
{
    int have = 0, i = 0;
    for (; i < vocab && have < n; i++) {
        if (key[i] > -INFINITY)
            ids[have++] = i;
    }
    for (int at = have / 2 - 1; at >= 0; at--)
        sift(key, ids, have, at);
    for (; i < vocab; i++) {
        if (key[i] > key[ids[0]]) { /* an equal key with a higher id comes later */
            ids[0] = i;
            sift(key, ids, have, 0);
        }
    }
    return have;
}

/* Moves a pivot of ids[low, high) to its place by key and returns that place. */
static int partition(const float *key, int32_t *ids, int low, int high)
{
    int mid = low + (high - low) / 2, last = high - 1;
    if (before(key, ids[mid], ids[low]))
        swap(&ids[mid], &ids[low]);
    if (before(key, ids[last], ids[low]))
        swap(&ids[last], &ids[low]);
    if (before(key, ids[last], ids[mid]))
        swap(&ids[last], &ids[mid]);
    swap(&ids[mid], &ids[last]);
    int at = low;
    for (int i = low; i < last; i++) {
        if (before(key, ids[i], ids[last]))
            swap(&ids[i], &ids[at++]);
    }
    swap(&ids[at], &ids[last]);
    return at;
}

/* Reorders ids so that the shortest prefix by key whose weight reaches `need` is ids[0, result). */
static int keep_mass(const float *key, const float *w, int32_t *ids, int n, double need)
{
    int low = 0, high = n;
    while (high - low > 1) {
        int at = partition(key, ids, low, high);
        double left = 0.0;
        for (int i = low; i < at; i++)
            left += (double)w[ids[i]];
        if (at > low && left >= need) {
            high = at;
        } else if (left + (double)w[ids[at]] >= need) {
            return at + 1;
        } else {
            need -= left + (double)w[ids[at]];
            low = at + 1;
        }
    }
    return low < n ? low + 1 : n;
}

static void sort_ids(int32_t *ids, int n)
{
    for (int gap = n / 2; gap > 0; gap /= 2) {
        for (int i = gap; i < n; i++) {
            int32_t v = ids[i];
            int at = i;
            for (; at >= gap && ids[at - gap] > v; at -= gap)
                ids[at] = ids[at - gap];
            ids[at] = v;
        }
    }
}

static double mass(const float *w, const int32_t *ids, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += (double)w[ids[i]];
    return sum;
}

/* Keys of typical_p: minus the distance of -log p from the entropy. Into key (by id). */
static void typical_keys(const struct work *k, int n, float *key)
{
    double total = mass(k->w, k->ids, n);
    double log_total = log(total);
    double entropy = 0.0;
    for (int i = 0; i < n; i++) {
        double log_p = (double)k->z[k->ids[i]] - log_total;
        entropy -= (double)k->w[k->ids[i]] / total * log_p;
    }
    for (int i = 0; i < n; i++)
        key[k->ids[i]] = (float)-fabs((double)k->z[k->ids[i]] - log_total + entropy);
}

static int keep_min_p(struct work *k, int n, float min_p)
{
    float most = 0.0f;
    for (int i = 0; i < n; i++)
        most = k->w[k->ids[i]] > most ? k->w[k->ids[i]] : most;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (k->w[k->ids[i]] >= min_p * most)
            swap(&k->ids[kept++], &k->ids[i]);
    }
    return kept;
}

/* Ids whose weight exceeds `least`, ascending. */
static int collect(struct work *k, double least)
{
    int n = 0;
    for (int i = 0; i < k->vocab; i++) {
        k->ids[n] = i;
        n += (double)k->w[i] > least;
    }
    return n;
}

/* Puts the candidates back into ascending order. */
static void restore_order(struct work *k, int n)
{
    if (n < k->vocab / 16) {
        sort_ids(k->ids, n);
        return;
    }
    memset(k->count, 0, (size_t)k->vocab * sizeof *k->count);
    for (int i = 0; i < n; i++)
        k->count[k->ids[i]] = 1;
    n = 0;
    for (int i = 0; i < k->vocab; i++) {
        if (k->count[i])
            k->ids[n++] = i;
    }
}

static int top_k_of(const struct sample_params *p)
{
    return p->top_k < LIMIT_TOP_K ? p->top_k : LIMIT_TOP_K;
}

/* s and weights of the first top_k; their ids, ascending. */
static int weigh_few(struct work *k, const struct sample_params *p, float most)
{
    int n = select_first(k->z, k->vocab, top_k_of(p), k->ids);
    for (int i = 0; i < n; i++) {
        float s = (k->z[k->ids[i]] - most) / p->temperature;
        float in[BLOCK] = {s}, out[BLOCK];
        exp_block(in, out);
        k->z[k->ids[i]] = s;
        k->w[k->ids[i]] = out[0];
    }
    sort_ids(k->ids, n);
    return n;
}

/* Draws among all ids: first the block, then the id in it. */
static int32_t draw_dense(const struct work *k, double target)
{
    double sum = 0.0;
    int last = 0;
    for (int at = 0; at < k->vocab; at += BLOCK) {
        double block = k->sums[at / BLOCK];
        if (sum + block <= target) {
            sum += block;
            continue;
        }
        for (int i = at; i < at + BLOCK && i < k->vocab; i++) {
            sum += (double)k->w[i];
            last = k->w[i] > 0.0f ? i : last;
            if (sum > target)
                return i;
        }
        return last; /* the block's own sum was rounded up */
    }
    return last;
}

/* Drops weights below min_p, whose largest is 1. Returns what is left. */
static double thin_dense(struct work *k, float min_p)
{
    double total = 0.0;
    for (int at = 0; at < padded(k->vocab); at += BLOCK) {
        double sum = 0.0;
        for (int i = at; i < at + BLOCK; i++) {
            k->w[i] = k->w[i] >= min_p ? k->w[i] : 0.0f;
            sum += (double)k->w[i];
        }
        k->sums[at / BLOCK] = sum;
        total += sum;
    }
    return total;
}

static int32_t draw_listed(const struct work *k, int n, float u)
{
    double target = mass(k->w, k->ids, n) * (double)u, sum = 0.0;
    for (int i = 0; i < n; i++) {
        sum += (double)k->w[k->ids[i]];
        if (sum > target)
            return k->ids[i];
    }
    return k->ids[n - 1];
}

static int32_t draw(struct work *k, const struct sample_row *r, float most)
{
    const struct sample_params *p = r->params;
    float u = sample_uniform(p->seed, (uint64_t)r->token_count);
    bool few = p->top_k > 0 && top_k_of(p) < k->vocab;
    double total = 0.0;
    int n;
    if (few) {
        n = weigh_few(k, p, most);
        total = mass(k->w, k->ids, n);
    } else {
        total = exp_all(k->z, padded(k->vocab), most, p->temperature, k->w, k->sums);
        if (p->typical_p >= 1.0f && p->top_p >= 1.0f) {
            if (p->min_p > 0.0f)
                total = thin_dense(k, p->min_p);
            return draw_dense(k, total * (double)u);
        }
        /* Ids below the bound weigh too little in all to reach into top_p's share. */
        double least = 0.5 * (1.0 - (double)p->top_p) * total / k->vocab;
        n = collect(k, p->typical_p < 1.0f ? 0.0 : least);
    }
    if (p->typical_p < 1.0f) {
        float *key = (float *)(void *)k->count;
        typical_keys(k, n, key);
        n = keep_mass(key, k->w, k->ids, n, (double)p->typical_p * total);
        restore_order(k, n);
        total = mass(k->w, k->ids, n);
    }
    if (p->top_p < 1.0f)
        n = keep_mass(k->z, k->w, k->ids, n, (double)p->top_p * total);
    if (p->min_p > 0.0f)
        n = keep_min_p(k, n, p->min_p);
    restore_order(k, n);
    return draw_listed(k, n, u);
}

static int32_t choose(struct work *k, const float *logits, const struct sample_row *r)
{
    bool greedy = r->params->temperature == 0.0f;
    if (greedy && is_plain(r)) {
        int32_t best = argmax(logits, k->vocab);
        return best < 0 ? 0 : best;
    }
    adjust(k, logits, r);
    float most = largest(k->z, padded(k->vocab));
    if (most == -INFINITY)
        return last_resort(k, logits, r);
    return greedy ? argmax(k->z, k->vocab) : draw(k, r, most);
}

/* ---- Log-probabilities ---- */

static void keep_top(const float *logits, int vocab, int n, struct sample_result *out)
{
    int have = 0;
    for (int i = 0; i < vocab && n > 0; i++) {
        float x = clean(logits[i]);
        if (have == n && !(x > out->top[have - 1].logprob))
            continue;
        int at = have < n ? have++ : have - 1;
        for (; at > 0 && x > out->top[at - 1].logprob; at--)
            out->top[at] = out->top[at - 1];
        out->top[at] = (struct token_logprob){.token = i, .logprob = x};
    }
    out->top_count = have;
}

/* log of the sum of exp(logit - most), and `most`. */
static double log_sum(struct work *k, const float *logits, float *most)
{
    clean_all(logits, k->vocab, k->z);
    *most = largest(k->z, padded(k->vocab));
    if (*most == -INFINITY)
        return 0.0;
    return log(exp_all(k->z, padded(k->vocab), *most, 1.0f, k->w, k->sums));
}

static float logprob_of(float logit, float most, double lse)
{
    float x = clean(logit);
    return x == -INFINITY ? -INFINITY : (float)((double)x - (double)most - lse);
}

static void add_logprobs(struct work *k, const float *logits, int n, struct sample_result *out)
{
    float most;
    double lse = log_sum(k, logits, &most);
    out->logprob = logprob_of(logits[out->token], most, lse);
    keep_top(logits, k->vocab, n < LIMIT_TOP_LOGPROBS ? n : LIMIT_TOP_LOGPROBS, out);
    for (int i = 0; i < out->top_count; i++)
        out->top[i].logprob = logprob_of(out->top[i].logprob, most, lse);
}

void sample_logits(const float *logits, int vocab, const struct sample_row *row, float *scratch,
                   struct sample_result *out)
{
    size_t v = (size_t)padded(vocab);
    /* Doubles first in what is left of an 8-byte boundary: scratch is aligned to floats. */
    float *doubles = scratch + ((uintptr_t)scratch % sizeof(double) != 0);
    float *rest = doubles + v / BLOCK * 2;
    struct work k = {.vocab = vocab,
                     .sums = (double *)(void *)doubles,
                     .z = rest,
                     .w = rest + v,
                     .ids = (int32_t *)(void *)(rest + 2 * v),
                     .count = (int32_t *)(void *)(rest + 3 * v)};
    out->token = row->forced >= 0 && row->forced < vocab ? row->forced : choose(&k, logits, row);
    out->logprob = 0.0f;
    out->top_count = 0;
    if (row->params->logprobs >= 0)
        add_logprobs(&k, logits, row->params->logprobs, out);
}
