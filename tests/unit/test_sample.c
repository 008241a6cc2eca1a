/* sample_logits against a slow version written from sample.c's list of rules (full sorts, double
 * throughout), against the distribution it promises, and its edges. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/sample/sample.h"
#include "tests/unit/cpu_fixture.h"

#define V_MAX 3000

static const struct sample_params plain = {
    .top_p = 1.0f, .typical_p = 1.0f, .repetition_penalty = 1.0f, .logprobs = -1};

/* Scratch is filled with rubbish, so that nothing may rest on its content. */
static struct sample_result run(const float *logits, int vocab, const struct sample_row *row)
{
    static float scratch[5 * V_MAX + 100];
    struct sample_result out;
    assert_true(sample_scratch_floats(vocab) <= sizeof scratch / sizeof *scratch);
    memset(scratch, 0x7f, sizeof scratch);
    memset(&out, 0x55, sizeof out);
    sample_logits(logits, vocab, row, scratch, &out);
    return out;
}

static int32_t pick(const float *logits, int vocab, const struct sample_params *p)
{
    return run(logits, vocab, &(struct sample_row){.params = p, .forced = -1}).token;
}

/* ---- the slow version ---- */

struct entry {
    int id;
    double s; /* (z - max) / temperature */
    double w;
    double key; /* of typical_p */
};

static int by_s(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->s != y->s ? (x->s > y->s ? -1 : 1) : x->id - y->id;
}

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : x->id - y->id;
}

static int by_id(const void *a, const void *b)
{
    return ((const struct entry *)a)->id - ((const struct entry *)b)->id;
}

/* Everything closer than this to a threshold may fall either way in float. */
#define CLOSE 1e-6

static double total(const struct entry *e, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += e[i].w;
    return sum;
}

/* Length of the shortest prefix with the share; *doubt when another length is within rounding. */
static int prefix(const struct entry *e, int n, double share, bool *doubt)
{
    double sum = 0.0, need = share * total(e, n);
    for (int i = 0; i < n; i++) {
        sum += e[i].w;
        if (fabs(sum - need) < CLOSE * need)
            *doubt = true;
        if (sum >= need)
            return i + 1;
    }
    return n;
}

static double slow_z(const float *logits, const struct sample_row *r, int id)
{
    const struct sample_params *p = r->params;
    double z = isnan(logits[id]) ? -INFINITY : (double)logits[id];
    int seen = 0, out = 0;
    for (int i = 0; i < p->bias_count; i++)
        z += p->bias[i].token == id ? (double)p->bias[i].bias : 0.0;
    for (int i = 0; i < r->banned_count; i++)
        z = r->banned[i] == id ? -INFINITY : z;
    if (r->mask && !(r->mask[id / 32] >> (id % 32) & 1))
        z = -INFINITY;
    for (int i = 0; i < r->token_count; i++) {
        seen += r->tokens[i] == id;
        out += i >= r->prompt_count && r->tokens[i] == id;
    }
    if (seen)
        z = z > 0.0 ? z / (double)p->repetition_penalty : z * (double)p->repetition_penalty;
    return z - (out ? (double)p->frequency_penalty * out + (double)p->presence_penalty : 0.0);
}

static void slow_typical(struct entry *e, int n)
{
    double sum = total(e, n), entropy = 0.0;
    for (int i = 0; i < n; i++)
        entropy -= e[i].w / sum * (e[i].w > 0.0 ? log(e[i].w / sum) : 0.0);
    for (int i = 0; i < n; i++)
        e[i].key = fabs(-(e[i].s - log(sum)) - entropy);
    qsort(e, (size_t)n, sizeof *e, by_key);
}

/* What is left after all filters, by id. */
static int slow_left(const float *logits, int vocab, const struct sample_row *r, struct entry *e,
                     bool *doubt)
{
    const struct sample_params *p = r->params;
    double most = -INFINITY;
    int n = vocab;
    for (int i = 0; i < vocab; i++) {
        e[i] = (struct entry){.id = i, .s = slow_z(logits, r, i)};
        most = fmax(most, e[i].s);
    }
    for (int i = 0; i < vocab; i++) {
        e[i].s = (e[i].s - most) / (double)p->temperature;
        e[i].w = e[i].s < -86.5 ? 0.0 : exp(e[i].s);
    }
    qsort(e, (size_t)n, sizeof *e, by_s);
    int top_k = p->top_k < LIMIT_TOP_K ? p->top_k : LIMIT_TOP_K;
    if (top_k > 0 && top_k < n)
        n = top_k;
    if (p->typical_p < 1.0f) {
        slow_typical(e, n);
        int keep = prefix(e, n, (double)p->typical_p, doubt);
        /* Keys are rounded to float in the fast version. */
        if (keep < n && e[keep].key != e[keep - 1].key &&
            e[keep].key - e[keep - 1].key < CLOSE * e[keep].key)
            *doubt = true;
        n = keep;
        qsort(e, (size_t)n, sizeof *e, by_s);
    }
    if (p->top_p < 1.0f)
        n = prefix(e, n, (double)p->top_p, doubt);
    if (n < vocab && n > 0 && fabs(e[n].s - e[n - 1].s) < CLOSE && e[n].s != e[n - 1].s)
        *doubt = true;
    int kept = 0;
    double least = (double)p->min_p * e[0].w;
    for (int i = 0; i < n; i++) {
        if (fabs(e[i].w - least) < CLOSE * least)
            *doubt = true;
        if (e[i].w >= least)
            e[kept++] = e[i];
    }
    qsort(e, (size_t)kept, sizeof *e, by_id);
    return kept;
}

/* The token that u takes; -1 when u is too close to a border. */
static int slow_draw(const struct entry *e, int n, double u)
{
    double sum = 0.0, target = u * total(e, n), slack = CLOSE * total(e, n);
    for (int i = 0; i < n; i++) {
        sum += e[i].w;
        if (fabs(sum - target) < slack)
            return -1;
        if (sum > target)
            return e[i].id;
    }
    return -1;
}

struct random_row {
    float logits[V_MAX];
    int32_t tokens[200];
    int32_t banned[5];
    struct logit_bias bias[6];
    uint32_t mask[V_MAX / 32 + 1];
    struct sample_params params;
    struct sample_row row;
};

static void make_row(struct random_row *x, int vocab, struct fixture_rng *r)
{
    double spread = 0.5 + 4.0 * (fixture_below(r, 100) / 100.0);
    for (int i = 0; i < vocab; i++)
        x->logits[i] = (float)(spread * fixture_normal(r));
    if (fixture_below(r, 4) == 0) { /* many ties */
        for (int i = 0; i < vocab; i++)
            x->logits[i] = roundf(x->logits[i]);
    }
    if (fixture_below(r, 4) == 0)
        x->logits[fixture_below(r, vocab)] = fixture_below(r, 2) ? NAN : -INFINITY;
    static const float temperatures[] = {0.3f, 0.7f, 1.0f, 1.0f, 2.0f};
    x->params = plain;
    struct sample_params *p = &x->params;
    p->temperature = temperatures[fixture_below(r, 5)];
    p->seed = fixture_next(r);
    if (fixture_below(r, 2))
        p->top_k = 1 + fixture_below(r, vocab + 5);
    if (fixture_below(r, 2))
        p->top_p = (float)(0.05 + 0.94 * fixture_below(r, 1000) / 1000);
    if (fixture_below(r, 3) == 0)
        p->typical_p = (float)(0.1 + 0.89 * fixture_below(r, 1000) / 1000);
    if (fixture_below(r, 3) == 0)
        p->min_p = (float)(0.3 * fixture_below(r, 1000) / 1000);
    if (fixture_below(r, 2)) {
        p->repetition_penalty = 1.3f;
        p->presence_penalty = (float)fixture_normal(r);
        p->frequency_penalty = (float)(0.5 * fixture_normal(r));
    }
    for (int i = 0; i < 6; i++)
        x->bias[i] = (struct logit_bias){(i * vocab + 3) / 7, (float)(3.0 * fixture_normal(r))};
    for (int i = 0; i < 200; i++)
        x->tokens[i] = fixture_below(r, vocab < 40 ? vocab : 40);
    for (int i = 0; i < 5; i++)
        x->banned[i] = fixture_below(r, vocab);
    for (int i = 0; i < V_MAX / 32 + 1; i++)
        x->mask[i] = (uint32_t)fixture_next(r);
    x->mask[0] |= 7;
    p->bias = x->bias;
    p->bias_count = fixture_below(r, 2) ? 6 : 0;
    x->row = (struct sample_row){.params = p, .tokens = x->tokens, .forced = -1};
    x->row.token_count = fixture_below(r, 200);
    x->row.prompt_count = fixture_below(r, x->row.token_count + 1);
    x->row.banned = x->banned;
    x->row.banned_count = vocab > 20 && fixture_below(r, 2) ? 5 : 0;
    x->row.mask = vocab > 20 && fixture_below(r, 3) == 0 ? x->mask : NULL;
}

static void test_sample_filters(void **state)
{
    (void)state;
    static const int vocabs[] = {1, 2, 7, 33, 131, 1000, V_MAX};
    static struct random_row x;
    static struct entry left[V_MAX];
    struct fixture_rng r = {20};
    int checked = 0, doubtful = 0;
    for (int round = 0; round < 700; round++) {
        int vocab = vocabs[round % 7];
        bool doubt = false;
        make_row(&x, vocab, &r);
        int n = slow_left(x.logits, vocab, &x.row, left, &doubt);
        for (int i = 0; i < 20; i++) {
            x.params.seed++;
            double u = (double)sample_uniform(x.params.seed, (uint64_t)x.row.token_count);
            int want = doubt ? -1 : slow_draw(left, n, u);
            int32_t got = run(x.logits, vocab, &x.row).token;
            checked++;
            if (want < 0) {
                doubtful++;
                continue;
            }
            if (got != want)
                fail_msg("round %d: vocab %d, T %g, top_k %d, top_p %g, typical %g, min_p %g, %d "
                         "left: %d instead of %d",
                         round, vocab, (double)x.params.temperature, x.params.top_k,
                         (double)x.params.top_p, (double)x.params.typical_p, (double)x.params.min_p,
                         n, got, want);
        }
    }
    printf("figure: %d draws compared, %d too close to a border to tell\n", checked, doubtful);
    assert_true(doubtful < checked / 10);
}

static void test_sample_greedy(void **state)
{
    (void)state;
    static struct random_row x;
    struct fixture_rng r = {21};
    for (int round = 0; round < 300; round++) {
        int vocab = 1 + fixture_below(&r, 200);
        make_row(&x, vocab, &r);
        x.params.temperature = 0.0f;
        int32_t got = run(x.logits, vocab, &x.row).token;
        double best = -INFINITY;
        for (int i = 0; i < vocab; i++)
            best = fmax(best, slow_z(x.logits, &x.row, i));
        double z = slow_z(x.logits, &x.row, got);
        if (best > -INFINITY && !(z >= best - 1e-5))
            fail_msg("round %d: token %d has %g, the largest is %g", round, got, z, best);
    }
}

/* ---- the distribution ---- */

static void test_sample_chi_square(void **state)
{
    (void)state;
    enum { V = 12, N = 60000 };
    float logits[V];
    double w[V], sum = 0.0, chi = 0.0;
    int seen[V] = {0};
    for (int i = 0; i < V; i++) {
        logits[i] = (float)(i * 5 % V) * 0.35f;
        sum += w[i] = exp((double)logits[i] / 0.8);
    }
    struct sample_params p = plain;
    p.temperature = 0.8f;
    int32_t tokens[1] = {0};
    for (int i = 0; i < N; i++) {
        p.seed = (uint64_t)(i / 100);
        struct sample_row row = {
            .params = &p, .tokens = tokens, .token_count = i % 100 + 1, .forced = -1};
        row.token_count = 0;
        p.seed = p.seed * 1000003u + (uint64_t)(i % 100);
        seen[run(logits, V, &row).token]++;
    }
    for (int i = 0; i < V; i++) {
        double want = N * w[i] / sum;
        chi += (seen[i] - want) * (seen[i] - want) / want;
    }
    printf("figure: chi-square %.1f at 11 degrees of freedom (99.9 %%: 31.3)\n", chi);
    assert_true(chi < 31.3);
}

/* Buckets of sample_uniform over neighbouring positions and over neighbouring seeds. */
static void test_sample_uniform(void **state)
{
    (void)state;
    /* Known answer of Philox4x32-10 for counter 0, key 0: first word 6627e8d5. */
    assert_true(sample_uniform(0, 0) == (float)0x6627e8 * 0x1p-24f);
    for (int way = 0; way < 2; way++) {
        int seen[64] = {0};
        double chi = 0.0;
        for (uint64_t i = 0; i < 64000; i++) {
            float u = way ? sample_uniform(i, 5) : sample_uniform(5, i);
            assert_true(u >= 0.0f && u < 1.0f);
            seen[(int)(u * 64.0f)]++;
        }
        for (int i = 0; i < 64; i++)
            chi += (seen[i] - 1000.0) * (seen[i] - 1000.0) / 1000.0;
        if (chi > 104.0) /* 63 degrees of freedom, 99.9 % */
            fail_msg("way %d: chi-square %g", way, chi);
    }
    assert_true(sample_uniform(1, 0) != sample_uniform(1ull << 32, 0));
    assert_true(sample_uniform(0, 1) != sample_uniform(0, 1ull << 32));
}

/* ---- edges ---- */

static void test_sample_edges(void **state)
{
    (void)state;
    const float ties[] = {1.0f, 3.0f, 3.0f, 2.0f};
    const float nans[] = {NAN, NAN, -INFINITY, NAN};
    const float mixed[] = {NAN, -5.0f, INFINITY, NAN};
    struct sample_params p = plain;
    assert_int_equal(pick(ties, 4, &p), 1);
    assert_int_equal(pick(nans, 4, &p), 0);
    assert_int_equal(pick(mixed, 4, &p), 2);
    p.temperature = 1.0f;
    assert_int_equal(pick(nans, 4, &p), 0);
    assert_int_equal(pick(mixed, 4, &p), 2);
    p.temperature = 1e-30f;
    assert_true(pick(ties, 4, &p) == 1 || pick(ties, 4, &p) == 2);
    p = plain;
    p.temperature = 1.0f;
    p.top_k = 1;
    for (p.seed = 0; p.seed < 50; p.seed++)
        assert_int_equal(pick(ties, 4, &p), 1);
    p.top_k = 0;
    p.top_p = 1e-9f;
    for (p.seed = 0; p.seed < 50; p.seed++)
        assert_int_equal(pick(ties, 4, &p), 1);
}

/* Mask and bans hold even when nothing else is left. */
static void test_sample_last_resort(void **state)
{
    (void)state;
    const float none[] = {-INFINITY, NAN, -INFINITY, -INFINITY, 4.0f};
    const uint32_t mask = 0xcu, empty = 0;
    const int32_t banned[] = {2, 900, -4};
    for (int t = 0; t < 2; t++) {
        struct sample_params p = plain;
        p.temperature = (float)t;
        struct sample_row row = {.params = &p, .forced = -1, .mask = &mask};
        assert_int_equal(run(none, 5, &row).token, 2);
        row.banned = banned;
        row.banned_count = 3;
        assert_int_equal(run(none, 5, &row).token, 3);
        row.mask = &empty;
        assert_int_equal(run(none, 5, &row).token, 4); /* nothing is allowed at all */
    }
}

static void test_sample_forced(void **state)
{
    (void)state;
    const float logits[] = {0.0f, 1.0f, 2.0f};
    struct sample_params p = plain;
    p.temperature = 1.0f;
    p.logprobs = 0;
    struct sample_result r = run(logits, 3, &(struct sample_row){.params = &p, .forced = 1});
    double want = 1.0 - log(1.0 + exp(1.0) + exp(2.0));
    assert_int_equal(r.token, 1);
    assert_int_equal(r.top_count, 0);
    assert_true(fabs((double)r.logprob - want) < 1e-6);
}

static void test_sample_logprobs(void **state)
{
    (void)state;
    static struct random_row x;
    struct fixture_rng r = {22};
    for (int round = 0; round < 200; round++) {
        int vocab = 1 + fixture_below(&r, V_MAX);
        make_row(&x, vocab, &r);
        x.params.logprobs = fixture_below(&r, LIMIT_TOP_LOGPROBS + 1);
        double most = -INFINITY, sum = 0.0;
        for (int i = 0; i < vocab; i++)
            most = isnan(x.logits[i]) ? most : fmax(most, (double)x.logits[i]);
        for (int i = 0; i < vocab; i++)
            sum += isnan(x.logits[i]) ? 0.0 : exp((double)x.logits[i] - most);
        struct sample_result got = run(x.logits, vocab, &x.row);
        double lse = most + log(sum);
        double want = (double)x.logits[got.token] - lse;
        if (!(fabs((double)got.logprob - want) < 2e-6 * (1.0 + fabs(want))))
            fail_msg("round %d: log-probability %g, want %g", round, (double)got.logprob, want);
        int n = x.params.logprobs < vocab ? x.params.logprobs : vocab;
        assert_int_equal(got.top_count, n);
        for (int i = 0; i < n; i++) {
            float logit = x.logits[got.top[i].token];
            int larger = 0;
            for (int k = 0; k < vocab; k++)
                larger += x.logits[k] > logit || (x.logits[k] == logit && k < got.top[i].token);
            if (isnan(logit) || isinf(logit))
                continue;
            if (larger != i || !(fabs((double)got.top[i].logprob - ((double)logit - lse)) < 1e-5))
                fail_msg("round %d: place %d holds token %d, which has place %d", round, i,
                         got.top[i].token, larger);
        }
    }
    struct sample_params p = plain;
    const float logits[] = {1.0f, 2.0f};
    struct sample_result none = run(logits, 2, &(struct sample_row){.params = &p, .forced = -1});
    assert_true(none.logprob == 0.0f && none.top_count == 0);
}

/* A penalty below 1 lifts the largest float no further: the distribution stays one. */
static void test_sample_huge(void **state)
{
    (void)state;
    const float logits[] = {1.0f, 2.0f, INFINITY, 0.0f};
    const int32_t tokens[] = {2};
    struct sample_params p = plain;
    p.repetition_penalty = 0.5f;
    p.temperature = 1.0f;
    struct sample_row row = {.params = &p, .tokens = tokens, .token_count = 1, .forced = -1};
    for (p.top_k = 0; p.top_k < 3; p.top_k++)
        assert_int_equal(run(logits, 4, &row).token, 2);
}

/* Tokens outside the vocabulary, in every list, are passed over. */
static void test_sample_foreign_ids(void **state)
{
    (void)state;
    const float logits[] = {1.0f, 5.0f, 2.0f};
    const int32_t tokens[] = {7, -1, 1, 1 << 30}, banned[] = {99, -9};
    const struct logit_bias bias[] = {{-1, 50.0f}, {3, 50.0f}, {2, 0.5f}};
    struct sample_params p = plain;
    p.bias = bias;
    p.bias_count = 3;
    p.presence_penalty = 4.0f;
    p.repetition_penalty = 2.0f;
    struct sample_row row = {.params = &p,
                             .tokens = tokens,
                             .prompt_count = 1,
                             .token_count = 4,
                             .banned = banned,
                             .banned_count = 2,
                             .forced = -1};
    assert_int_equal(run(logits, 3, &row).token, 2); /* 1, 5 / 2 - 4, 2.5 */
    row.forced = 17;
    assert_int_equal(run(logits, 3, &row).token, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample_filters),     cmocka_unit_test(test_sample_greedy),
        cmocka_unit_test(test_sample_chi_square),  cmocka_unit_test(test_sample_uniform),
        cmocka_unit_test(test_sample_edges),       cmocka_unit_test(test_sample_last_resort),
        cmocka_unit_test(test_sample_forced),      cmocka_unit_test(test_sample_logprobs),
        cmocka_unit_test(test_sample_foreign_ids), cmocka_unit_test(test_sample_huge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
