/* Exact semantics, so that another implementation can be held against this one:
 *
 * - A logit that is NaN counts as -inf, +inf as the largest float.
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
 * Sums of weights are in double, over ids in ascending order where the order can matter.
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

/* ---- Exponentials: the same bits on every machine, which the C library does not promise ---- */

#define EXP_BLOCK 16
#define EXP_LEAST (-86.5f) /* smaller arguments give 0: no subnormals */

/* x = n ln 2 + r; Taylor polynomial of degree 7 in r; relative error below 4e-7. x <= 0. */
static void exp_block(const float *x, float *y)
{
    for (int i = 0; i < EXP_BLOCK; i++) {
        float in = x[i] < EXP_LEAST ? EXP_LEAST : x[i];
        float t = in * 0x1.715476p0f + 0x1.8p23f;
        float n = t - 0x1.8p23f;
        float r = in - n * 0x1.62e4p-1f - n * 0x1.7f7d1cp-20f;
        float p = 1.0f / 5040;
        p = p * r + 1.0f / 720;
        p = p * r + 1.0f / 120;
        p = p * r + 1.0f / 24;
        p = p * r + 1.0f / 6;
        p = p * r + 0.5f;
        p = p * r + 1.0f;
        p = p * r + 1.0f;
        uint32_t tb, pb;
        memcpy(&tb, &t, sizeof tb);
        memcpy(&pb, &p, sizeof pb);
        pb += tb << 23;
        memcpy(&p, &pb, sizeof p);
        y[i] = x[i] < EXP_LEAST ? 0.0f : p;
    }
}

static void exp_many(const float *x, float *y, int n)
{
    int i = 0;
    for (; n - i >= EXP_BLOCK; i += EXP_BLOCK)
        exp_block(x + i, y + i);
    float in[EXP_BLOCK] = {0}, out[EXP_BLOCK];
    if (i < n) {
        memcpy(in, x + i, (size_t)(n - i) * sizeof *in);
        exp_block(in, out);
        memcpy(y + i, out, (size_t)(n - i) * sizeof *out);
    }
}

/* ---- One row's working state ---- */

struct work {
    int vocab;
    float *z;       /* [V] adjusted logits, then s */
    float *w;       /* [V] weights by id */
    int32_t *ids;   /* [V] candidates */
    int32_t *count; /* [V] */
};

size_t sample_scratch_floats(int vocab)
{
    return (size_t)vocab * 4;
}

static float clean(float x)
{
    return x != x ? -INFINITY : x > FLT_MAX ? FLT_MAX : x;
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

static bool has_penalties(const struct sample_params *p)
{
    return p->repetition_penalty != 1.0f || p->presence_penalty != 0.0f ||
           p->frequency_penalty != 0.0f;
}

static bool is_plain(const struct sample_row *r)
{
    return r->params->bias_count == 0 && r->banned_count == 0 && !r->mask &&
           !has_penalties(r->params);
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
        k->z[t] =
            k->z[t] > 0.0f ? k->z[t] / p->repetition_penalty : k->z[t] * p->repetition_penalty;
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
    for (int i = 0; i < k->vocab; i++)
        k->z[i] = clean(logits[i]);
    for (int i = 0; i < r->params->bias_count; i++) {
        const struct logit_bias *b = &r->params->bias[i];
        if (in_vocab(k, b->token))
            k->z[b->token] = clean(k->z[b->token] + b->bias);
    }
    apply_bans(k, r);
    if (has_penalties(r->params))
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

/* Drops candidates [keep, n): their weight becomes zero. */
static int drop_after(struct work *k, int keep, int n)
{
    for (int i = keep; i < n; i++)
        k->w[k->ids[i]] = 0.0f;
    return keep;
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
    return drop_after(k, kept, n);
}

static int collect(struct work *k)
{
    int n = 0;
    for (int i = 0; i < k->vocab; i++) {
        k->ids[n] = i;
        n += k->w[i] > 0.0f;
    }
    return n;
}

/* Puts the n candidates back into ascending order: all weights are known unless top_k chose. */
static void restore_order(struct work *k, int n, bool few)
{
    if (few)
        sort_ids(k->ids, n);
    else
        collect(k);
}

static int top_k_of(const struct sample_params *p)
{
    return p->top_k < LIMIT_TOP_K ? p->top_k : LIMIT_TOP_K;
}

static bool has_top_k(const struct work *k, const struct sample_params *p)
{
    return p->top_k > 0 && top_k_of(p) < k->vocab;
}

/* z to s and weights; candidates in ids, ascending. Returns how many. */
static int weigh(struct work *k, const struct sample_params *p, float most)
{
    if (has_top_k(k, p)) {
        int n = select_first(k->z, k->vocab, top_k_of(p), k->ids);
        for (int i = 0; i < n; i++) {
            float s = (k->z[k->ids[i]] - most) / p->temperature;
            float in[EXP_BLOCK] = {s}, out[EXP_BLOCK];
            exp_block(in, out);
            k->z[k->ids[i]] = s;
            k->w[k->ids[i]] = out[0];
        }
        sort_ids(k->ids, n);
        return n;
    }
    for (int i = 0; i < k->vocab; i++)
        k->z[i] = (k->z[i] - most) / p->temperature;
    exp_many(k->z, k->w, k->vocab);
    return collect(k);
}

static int32_t draw(struct work *k, const struct sample_row *r, float most)
{
    const struct sample_params *p = r->params;
    bool few = has_top_k(k, p);
    int n = weigh(k, p, most);
    if (p->typical_p < 1.0f) {
        float *key = (float *)(void *)k->count;
        typical_keys(k, n, key);
        double need = (double)p->typical_p * mass(k->w, k->ids, n);
        n = drop_after(k, keep_mass(key, k->w, k->ids, n, need), n);
        restore_order(k, n, few);
    }
    if (p->top_p < 1.0f) {
        double need = (double)p->top_p * mass(k->w, k->ids, n);
        n = drop_after(k, keep_mass(k->z, k->w, k->ids, n, need), n);
    }
    if (p->min_p > 0.0f)
        n = keep_min_p(k, n, p->min_p);
    if (p->top_p < 1.0f || p->min_p > 0.0f)
        restore_order(k, n, few);
    double target =
        mass(k->w, k->ids, n) * (double)sample_uniform(p->seed, (uint64_t)r->token_count);
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        sum += (double)k->w[k->ids[i]];
        if (sum > target)
            return k->ids[i];
    }
    return k->ids[n - 1];
}

static int32_t choose(struct work *k, const float *logits, const struct sample_row *r)
{
    bool greedy = r->params->temperature == 0.0f;
    if (greedy && is_plain(r)) {
        int32_t best = argmax(logits, k->vocab);
        return best < 0 ? 0 : best;
    }
    adjust(k, logits, r);
    int32_t best = argmax(k->z, k->vocab);
    if (best < 0)
        return last_resort(k, logits, r);
    return greedy ? best : draw(k, r, k->z[best]);
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
    float m = -INFINITY;
    for (int i = 0; i < k->vocab; i++) {
        k->z[i] = clean(logits[i]);
        m = k->z[i] > m ? k->z[i] : m;
    }
    *most = m;
    if (m == -INFINITY)
        return 0.0;
    for (int i = 0; i < k->vocab; i++)
        k->z[i] -= m;
    exp_many(k->z, k->w, k->vocab);
    double sum = 0.0;
    for (int i = 0; i < k->vocab; i++)
        sum += (double)k->w[i];
    return log(sum);
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
    struct work k = {.vocab = vocab,
                     .z = scratch,
                     .w = scratch + vocab,
                     .ids = (int32_t *)(void *)(scratch + 2 * (size_t)vocab),
                     .count = (int32_t *)(void *)(scratch + 3 * (size_t)vocab)};
    out->token = row->forced >= 0 && row->forced < vocab ? row->forced : choose(&k, logits, row);
    out->logprob = 0.0f;
    out->top_count = 0;
    if (row->params->logprobs >= 0)
        add_logprobs(&k, logits, row->params->logprobs, out);
}
