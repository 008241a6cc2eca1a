/* The CUDA backend as a whole: against the CPU backend on the very weights that the card holds, few
 * rows a step and many, and against itself: a deterministic one gives a sequence the same bits
 * alone, in company, in prompt chunks of any size, as a graph and node by node, and whether or not
 * a step waits for the one before. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/cuda_state.h"
#include "cuda/quantise_ref.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/model/forward.h"
#include "tests/kernels/kernel_test.h"
#include "tests/unit/cpu_drive.h"
#include "tests/unit/cpu_fixture.h"

static const char *const arch_names[ARCH_COUNT] = {"llama", "mistral", "qwen2", "qwen3"};

#define ADAPTERS 7
#define PROMPT   35

/* Rows beyond 64, so that some steps have no graph; contexts of more than one attention chunk. */
static const struct backend_plan plan = {.rows_max = 100,
                                         .seqs_max = 16,
                                         .outs_max = 60,
                                         .segments_max = 64,
                                         .slots_max = ADAPTERS + 1,
                                         .pages = 120,
                                         .ctx_max = 400};

/* Ranks around the tile of 16; slot 5 has only what lies outside the layers, slot 6 only q, k and
 * v, for which there are graphs of their own. */
static struct fixture_lora adapter_kind(int i)
{
    static const int ranks[ADAPTERS] = {1, 8, 33, 5, 16, 3, 12};
    return (struct fixture_lora){.rank = ranks[i],
                                 .dora = i == 2 || i == 3,
                                 .inputs = i == 6,
                                 .attention = i < 4,
                                 .mlp = i != 1 && i < 5,
                                 .head = i == 3 || i == 5,
                                 .embed = i == 5 || i == 1,
                                 .dtype = DTYPE_BF16,
                                 .strength = 0.4};
}

/* Of the adapters of the worlds to come (the default: all widths in turn), and what the card is
 * told of it. */
static enum engine_adapter_quant adapter_quant = ENGINE_QUANT_NONE;
static int adapter_bits = 16;

struct world {
    struct model *model;
    struct lora *adapters[ADAPTERS];
    int32_t prompt[PROMPT];
};

static struct world make_world(enum model_arch arch, enum dtype d)
{
    struct world w;
    struct model_shape s = fixture_shape(arch);
    struct fixture_rng r = {(uint64_t)arch + 77};
    w.model = fixture_model(&s, d, 5 + (uint64_t)arch);
    for (int i = 0; i < ADAPTERS; i++) {
        struct fixture_lora f = adapter_kind(i);
        w.adapters[i] = fixture_lora(&s, &f, 1000 + (uint64_t)i);
        fixture_lora_quantise(
            w.adapters[i],
            adapter_quant ? adapter_quant : (enum engine_adapter_quant)(ENGINE_QUANT_NONE + i % 3));
    }
    for (int i = 0; i < PROMPT; i++)
        w.prompt[i] = fixture_below(&r, s.vocab);
    return w;
}

static void free_world(struct world *w)
{
    for (int i = 0; i < ADAPTERS; i++)
        fixture_lora_free(w->adapters[i]);
    fixture_model_free(w->model);
}

/* ---- the model that the card holds, for the CPU ---- */

/* Rows rounded as the format does, in float32. */
static void round_tensor(struct tensor *t, enum weight_format f)
{
    size_t cols = (size_t)t->cols;
    float *out = calloc(tensor_count(t), sizeof *out);
    assert_non_null(out);
    for (size_t r = 0; r < (size_t)t->rows; r++) {
        tensor_read_f32(t, r * cols, cols, out + r * cols);
        assert_int_equal(quantise_ref_row(f, out + r * cols, (int)cols, out + r * cols), STATUS_OK);
    }
    fixture_tensor_free(t);
    t->data = out;
    t->dtype = DTYPE_F32;
}

static struct model *served_model(enum model_arch arch, enum dtype d, enum weight_format layers,
                                  enum weight_format head)
{
    struct model_shape s = fixture_shape(arch);
    struct model *m = fixture_model(&s, d, 5 + (uint64_t)arch);
    if (s.tied_head) {
        struct model *again = fixture_model(&s, d, 5 + (uint64_t)arch);
        m->lm_head = again->embed;
        again->embed = fixture_tensor(&(struct fixture_rng){1}, 1, 1, d, 0, 1);
        fixture_model_free(again);
        m->shape.tied_head = false;
    }
    for (int l = 0; l < s.layers; l++)
        for (int k = 0; k < LINEAR_COUNT; k++)
            round_tensor(&m->layers[l].linear[k], layers);
    round_tensor(&m->embed, WEIGHT_BF16);
    round_tensor(&m->lm_head, head);
    return m;
}

/* ---- driving ---- */

static void load_adapters(const struct world *w, struct drive *d)
{
    struct err e = {0};
    for (int i = 0; i < ADAPTERS; i++)
        if (d->b->ops->adapter_load(d->b, i, w->adapters[i], &e) != STATUS_OK)
            fail_msg("adapter %d: %s", i, e.msg);
}

static struct drive open_planned(const struct model *m, const struct backend_options *opt,
                                 const struct backend_plan *p)
{
    struct drive d = {
        .layers = m->shape.layers, .vocab = m->shape.vocab, .plan = *p, .chunk = 1 << 20};
    d.width = m->shape.hidden;
    struct err e = {0};
    struct backend_options all = *opt;
    all.adapter_bits = adapter_bits;
    if (cuda_backend_open(&all, &d.b, &e) != STATUS_OK)
        fail_msg("backend: %s", e.msg);
    if (d.b->ops->model_load(d.b, m, p, NULL, &e) != STATUS_OK)
        fail_msg("model: %s", e.msg);
    return d;
}

static struct drive open_cuda(const struct model *m, const struct backend_options *opt)
{
    return open_planned(m, opt, &plan);
}

/* The company: who uses what. */
#define SEQS 12
static void make_seqs(const struct world *w, struct drive_seq *s)
{
    static const struct {
        int count;
        int slot[3];
        float weight[3];
        int from[3]; /* first token each acts on */
    } uses[SEQS] = {
        {0, {0}, {0}, {0}},
        {1, {6}, {0.8f}, {0}},
        {1, {0}, {1.0f}, {0}},
        {1, {0}, {1.0f}, {7}},
        {1, {1}, {1.0f}, {0}},
        {1, {2}, {1.0f}, {0}},
        {1, {2}, {-0.5f}, {21}},
        {1, {3}, {1.0f}, {0}},
        {1, {5}, {0.7f}, {16}},
        {2, {1, 0}, {0.6f, 0.4f}, {0, 11}},
        {3, {2, 3, 5}, {0.3f, 0.9f, -0.2f}, {0}},
        {3, {3, 2, 4}, {0.9f, 0.3f, 1.0f}, {2, 2, 13}},
    };
    for (int i = 0; i < SEQS; i++) {
        int length = i == 0 ? 1 : i == 3 ? 16 : i == 5 ? 33 : PROMPT - 3 * i;
        s[i] = drive_seq_of(w->prompt + i % 3, length, 4);
        s[i].keep_logits = true;
        s[i].adapter_count = uses[i].count;
        memcpy(s[i].slot, uses[i].slot, sizeof uses[i].slot);
        memcpy(s[i].weight, uses[i].weight, sizeof uses[i].weight);
        memcpy(s[i].from, uses[i].from, sizeof uses[i].from);
    }
}

/* ---- against the CPU ---- */

/* Activations are rounded to bf16 at eight places a layer (what the four linears read, q, k, v and
 * the attention's weights) and once before the head, each by up to 2^-9 of its size; the errors of
 * a product's terms add up like a random walk, so a place moves a logit by about 2^-9 / sqrt(3) of
 * the logits' size, and places add up alike. Six times that bounds the largest of some thousand; a
 * wrong term anywhere is off by more than a tenth. */
static double error_bound(const struct model_shape *s, double size)
{
    return 6.0 * 0x1p-9 / sqrt(3.0) * size * sqrt(8.0 * s->layers + 1.0);
}

/* Returns the largest error as a share of the bound. */
static double compare_logits(const struct world *w, const struct drive_seq *want,
                             const struct drive_seq *got, int vocab, const char *what)
{
    double squares = 0.0, worst = 0.0;
    int count = want->logit_rows * vocab;
    assert_int_equal(got->logit_rows, want->logit_rows);
    for (int i = 0; i < count; i++) {
        double off = fabs((double)want->logits[i] - (double)got->logits[i]);
        squares += (double)want->logits[i] * (double)want->logits[i];
        worst = off <= worst ? worst : off; /* NaN counts as worst */
    }
    double bound = error_bound(&w->model->shape, sqrt(squares / count));
    if (!(worst <= bound))
        fail_msg("%s: %d adapters, first %d: off by %g, bound %g", what, want->adapter_count,
                 want->slot[0], worst, bound);
    return worst / bound;
}

/* One prompt on both, all its logits. */
static double compare(const struct world *w, struct drive *cpu, struct drive *card,
                      struct drive_seq s, const char *what)
{
    int vocab = card->vocab;
    s.score = true;
    s.keep_logits = false;
    s.generate = 1;
    struct drive_seq want = s, got = s;
    cpu->chunk = card->chunk = 23;
    drive_run(cpu, &want, 1);
    drive_run(card, &got, 1);
    assert_int_equal(got.logit_rows, s.prompt_count);
    double share = compare_logits(w, &want, &got, vocab, what);
    drive_free(&want, 1);
    drive_free(&got, 1);
    return share;
}

static void check_against_cpu(enum model_arch arch, enum dtype d, const char *quant,
                              enum weight_format layers, enum weight_format head, int first)
{
    char what[64];
    snprintf(what, sizeof what, "%s %s %s", arch_names[arch], dtype_name(d), quant);
    struct world w = make_world(arch, d);
    struct model *served = served_model(arch, d, layers, head);
    struct drive cpu = drive_open(served, &(struct backend_options){.threads = 1}, &plan);
    struct drive card = open_cuda(w.model, &(struct backend_options){.quant = quant});
    load_adapters(&w, &cpu);
    load_adapters(&w, &card);
    struct drive_seq s[SEQS];
    make_seqs(&w, s);
    double worst = 0.0;
    for (int i = first; i < SEQS; i += 2)
        worst = fmax(worst, compare(&w, &cpu, &card, s[i], what));
    printf("figure: %s: largest error %.2f of the bound\n", what, worst);
    drive_close(&cpu);
    drive_close(&card);
    fixture_model_free(served);
    free_world(&w);
}

static void test_cuda_backend_bf16(void **state)
{
    (void)state;
    for (int arch = 0; arch < ARCH_COUNT; arch++)
        check_against_cpu((enum model_arch)arch, DTYPE_BF16, "none", WEIGHT_BF16, WEIGHT_BF16,
                          arch % 2);
}

static void test_cuda_backend_int8(void **state)
{
    (void)state;
    check_against_cpu(ARCH_LLAMA, DTYPE_F32, "int8", WEIGHT_INT8, WEIGHT_INT8, 5);
    check_against_cpu(ARCH_QWEN2, DTYPE_BF16, "int8", WEIGHT_INT8, WEIGHT_INT8, 2);
}

static void test_cuda_backend_int4(void **state)
{
    (void)state;
    check_against_cpu(ARCH_QWEN3, DTYPE_F16, "int4", WEIGHT_INT4, WEIGHT_INT8, 5);
    check_against_cpu(ARCH_QWEN2, DTYPE_BF16, "int4", WEIGHT_INT4, WEIGHT_INT8, 2);
}

/* ---- many rows ---- */

/* All sequences together, their prompts as far as a step has room for them; all logits. */
static void check_many(enum model_arch arch, enum dtype d, const char *quant,
                       enum weight_format layers, enum weight_format head, bool library)
{
    const int before = kernel_test_products();
    char what[64];
    kernel_test_library(library);
    snprintf(what, sizeof what, "many rows%s, %s %s %s", library ? "" : " without library",
             arch_names[arch], dtype_name(d), quant);
    struct world w = make_world(arch, d);
    struct model *served = served_model(arch, d, layers, head);
    struct drive cpu = drive_open(served, &(struct backend_options){.threads = 1}, &plan);
    struct drive card = open_cuda(w.model, &(struct backend_options){.quant = quant});
    load_adapters(&w, &cpu);
    load_adapters(&w, &card);
    struct drive_seq want[SEQS], got[SEQS];
    make_seqs(&w, want);
    make_seqs(&w, got);
    cpu.chunk = card.chunk = 19;
    for (int i = 0; i < SEQS; i++)
        want[i].generate = got[i].generate = 1;
    drive_run(&cpu, want, SEQS);
    drive_run(&card, got, SEQS);
    double worst = 0.0;
    for (int i = 0; i < SEQS; i++)
        worst = fmax(worst, compare_logits(&w, &want[i], &got[i], card.vocab, what));
    printf("figure: %s: largest error %.2f of the bound\n", what, worst);
    if (!kernel_test_on_card() && !library)
        assert_int_equal(kernel_test_products(), before);
    else if (!kernel_test_on_card())
        assert_true(kernel_test_products() >= before + 4 * w.model->shape.layers);
    kernel_test_library(true);
    drive_free(want, SEQS);
    drive_free(got, SEQS);
    drive_close(&cpu);
    drive_close(&card);
    fixture_model_free(served);
    free_world(&w);
}

static void test_cuda_backend_many_bf16(void **state)
{
    (void)state;
    for (int arch = 0; arch < ARCH_COUNT; arch++)
        check_many((enum model_arch)arch, DTYPE_BF16, "none", WEIGHT_BF16, WEIGHT_BF16, true);
}

static void test_cuda_backend_many_int8(void **state)
{
    (void)state;
    check_many(ARCH_QWEN2, DTYPE_BF16, "int8", WEIGHT_INT8, WEIGHT_INT8, true);
}

static void test_cuda_backend_many_int4(void **state)
{
    (void)state;
    check_many(ARCH_LLAMA, DTYPE_BF16, "int4", WEIGHT_INT4, WEIGHT_INT8, true);
    check_many(ARCH_QWEN3, DTYPE_F16, "int4", WEIGHT_INT4, WEIGHT_INT8, true);
    check_many(ARCH_QWEN3, DTYPE_F16, "int4", WEIGHT_INT4, WEIGHT_INT8, false);
}

/* Long runs of rows with one adapter beside the base, a blend, one with DoRA and a short one; in
 * some sequences the adapters begin to act somewhere within the rows. */
static const struct {
    int count; /* sequences */
    int adapters;
    int slot[2];
    float weight[2];
    int from[2];
} run_uses[] = {
    {1, 0, {0}, {0}, {0}},    {4, 1, {0}, {1.0f}, {0}}, {5, 1, {1}, {-0.7f}, {0}},
    {1, 1, {4}, {1.0f}, {0}}, {2, 0, {0}, {0}, {0}},    {4, 1, {2}, {1.0f}, {0}},
    {1, 1, {0}, {1.0f}, {5}}, {1, 1, {1}, {1.0f}, {9}}, {1, 2, {1, 0}, {0.6f, 0.4f}, {0, 12}},
};
#define RUN_SEQS 20

static void make_runs(const struct world *w, struct drive_seq *s)
{
    int at = 0;
    for (size_t i = 0; i < sizeof run_uses / sizeof *run_uses; i++)
        for (int n = 0; n < run_uses[i].count; n++) {
            s[at] = drive_seq_of(w->prompt + at % 2, PROMPT - at % 2, 2);
            s[at].keep_logits = true;
            s[at].adapter_count = run_uses[i].adapters;
            memcpy(s[at].slot, run_uses[i].slot, sizeof run_uses[i].slot);
            memcpy(s[at].weight, run_uses[i].weight, sizeof run_uses[i].weight);
            memcpy(s[at].from, run_uses[i].from, sizeof run_uses[i].from);
            at++;
        }
    assert_int_equal(at, RUN_SEQS);
}

static void check_runs(enum model_arch arch, const char *quant, enum weight_format layers)
{
    const int before = kernel_test_products();
    struct backend_plan large = plan;
    large.rows_max = PROMPT * RUN_SEQS;
    large.seqs_max = RUN_SEQS;
    struct world w = make_world(arch, DTYPE_BF16);
    struct model *served = served_model(arch, DTYPE_BF16, layers, WEIGHT_BF16);
    struct backend_options opt = {.quant = quant, .head_quant = "none"};
    struct drive cpu = drive_open(served, &(struct backend_options){.threads = 1}, &large);
    struct drive card = open_planned(w.model, &opt, &large);
    load_adapters(&w, &cpu);
    load_adapters(&w, &card);
    const int tried = kernel_test_products();
    struct drive_seq want[RUN_SEQS], got[RUN_SEQS];
    make_runs(&w, want);
    make_runs(&w, got);
    drive_run(&cpu, want, RUN_SEQS);
    drive_run(&card, got, RUN_SEQS);
    double worst = 0.0;
    for (int i = 0; i < RUN_SEQS; i++)
        worst = fmax(worst, compare_logits(&w, &want[i], &got[i], card.vocab, "runs"));
    printf("figure: long runs, %s %s: largest error %.2f of the bound\n", arch_names[arch], quant,
           worst);
    /* One step of many rows: four linears a layer, and in each a product for the A of two runs; not
     * behind int8, whose scales come after the product. */
    if (!kernel_test_on_card()) {
        const int products = (kernel_test_products() - tried) / w.model->shape.layers;
        assert_true(tried > before);
        assert_true(layers == WEIGHT_INT8 ? products == 4 : products >= 10);
    }
    drive_free(want, RUN_SEQS);
    drive_free(got, RUN_SEQS);
    drive_close(&cpu);
    drive_close(&card);
    fixture_model_free(served);
    free_world(&w);
}

static void test_cuda_backend_many_runs(void **state)
{
    (void)state;
    check_runs(ARCH_LLAMA, "none", WEIGHT_BF16);
    check_runs(ARCH_QWEN2, "int8", WEIGHT_INT8);
    check_runs(ARCH_QWEN2, "int4", WEIGHT_INT4);
}

/* ---- hidden states ---- */

/* The company with every other sequence for its states: in steps of few rows and of many, of chunks
 * and whole prompts, and alone, where no row of a step draws. A state is the final norm's output,
 * which has the errors of what goes into the head. */
static void compare_states(const struct world *w, const struct drive_seq *want,
                           const struct drive_seq *got, const char *what, double *worst)
{
    const struct model_shape *s = &w->model->shape;
    const int count = want->prompt_count * s->hidden;
    double squares = 0.0, most = 0.0;
    assert_int_equal(want->state_rows, want->prompt_count);
    assert_int_equal(got->state_rows, want->prompt_count);
    for (int i = 0; i < count; i++) {
        double off = fabs((double)want->states[i] - (double)got->states[i]);
        squares += (double)want->states[i] * (double)want->states[i];
        most = off <= most ? most : off;
    }
    double bound = error_bound(s, sqrt(squares / count));
    if (!(most <= bound && squares > 0))
        fail_msg("%s: states of %d adapters: off by %g, bound %g", what, want->adapter_count, most,
                 bound);
    *worst = fmax(*worst, most / bound);
}

static void check_states(enum model_arch arch, const char *quant, enum weight_format layers,
                         const struct backend_plan *p, int chunk, bool deterministic)
{
    char what[64];
    snprintf(what, sizeof what, "%s %s, %d rows, chunks of %d", arch_names[arch], quant,
             p->rows_max, chunk);
    struct world w = make_world(arch, DTYPE_BF16);
    struct model *served = served_model(arch, DTYPE_BF16, layers, WEIGHT_BF16);
    struct backend_options opt = {
        .quant = quant, .head_quant = "none", .deterministic = deterministic};
    struct drive cpu = drive_open(served, &(struct backend_options){.threads = 1}, p);
    struct drive card = open_planned(w.model, &opt, p);
    struct drive_seq want[SEQS], got[SEQS], alone[SEQS];
    double worst = 0.0;
    load_adapters(&w, &cpu);
    load_adapters(&w, &card);
    cpu.chunk = card.chunk = chunk;
    make_seqs(&w, want);
    for (int i = 0; i < SEQS; i++) {
        want[i].generate = 1;
        want[i].embed = i % 2;
        got[i] = alone[i] = want[i];
    }
    drive_run(&cpu, want, SEQS);
    drive_run(&card, got, SEQS);
    for (int i = 0; i < SEQS; i++) {
        if (!want[i].embed) {
            worst = fmax(worst, compare_logits(&w, &want[i], &got[i], card.vocab, what));
            continue;
        }
        compare_states(&w, &want[i], &got[i], what, &worst);
        drive_run(&card, &alone[i], 1);
        compare_states(&w, &want[i], &alone[i], what, &worst);
        if (deterministic)
            assert_memory_equal(alone[i].states, got[i].states,
                                (size_t)(got[i].prompt_count * card.width) * sizeof(float));
        drive_free(&alone[i], 1);
    }
    printf("figure: states, %s: largest error %.2f of the bound\n", what, worst);
    drive_free(want, SEQS);
    drive_free(got, SEQS);
    drive_close(&cpu);
    drive_close(&card);
    fixture_model_free(served);
    free_world(&w);
}

static void test_cuda_backend_states(void **state)
{
    (void)state;
    struct backend_plan few = plan, large = plan;
    few.rows_max = 40;
    few.outs_max = 40;
    large.rows_max = large.outs_max = PROMPT * SEQS;
    check_states(ARCH_LLAMA, "none", WEIGHT_BF16, &few, 9, true);
    check_states(ARCH_QWEN2, "none", WEIGHT_BF16, &large, 1 << 20, false);
    check_states(ARCH_QWEN3, "int4", WEIGHT_INT4, &large, 23, false);
}

/* ---- against itself ---- */

static void assert_equal_seq(const struct drive_seq *a, const struct drive_seq *b, int vocab,
                             const char *what, int i)
{
    size_t bytes = (size_t)a->logit_rows * (size_t)vocab * sizeof *a->logits;
    assert_int_equal(a->logit_rows, b->logit_rows);
    if (memcmp(a->tokens, b->tokens, (size_t)a->count * sizeof *a->tokens) == 0 &&
        memcmp(a->logits, b->logits, bytes) == 0)
        return;
    for (int k = 0; k < a->logit_rows * vocab; k++)
        if (memcmp(&a->logits[k], &b->logits[k], sizeof *a->logits) != 0)
            fail_msg("%s: sequence %d, logit %d of row %d: %a and %a", what, i, k % vocab,
                     k / vocab, (double)a->logits[k], (double)b->logits[k]);
    fail_msg("%s: sequence %d: tokens differ", what, i);
}

/* Runs the company as `order` says (a permutation) and compares with `want`. */
static void check_company(const struct world *w, struct drive *d, const struct drive_seq *want,
                          int chunk, const int *order, int count, const char *what)
{
    struct drive_seq all[SEQS], s[SEQS];
    make_seqs(w, all);
    for (int i = 0; i < count; i++)
        s[i] = all[order[i]];
    d->chunk = chunk;
    drive_run(d, s, count);
    for (int i = 0; i < count; i++) {
        assert_false(isnan(s[i].logits[0]));
        assert_equal_seq(&want[order[i]], &s[i], d->vocab, what, order[i]);
    }
    drive_free(s, count);
}

static void shuffle(int *order, struct fixture_rng *r)
{
    for (int i = 0; i < SEQS; i++)
        order[i] = i;
    for (int i = SEQS - 1; i > 0; i--) {
        int j = fixture_below(r, i + 1);
        int t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

/* Plain launches go with an embedding in the host's memory, dependent ones with one on the card. */
static void check_equality(enum model_arch arch, const char *quant, const char *kv_type)
{
    static const int chunks[] = {1 << 20, 5, 17};
    struct world w = make_world(arch, DTYPE_BF16);
    struct backend_options alone = {.quant = quant, .kv_type = kv_type, .deterministic = true};
    struct drive d = open_cuda(w.model, &alone);
    struct drive_seq want[SEQS];
    struct fixture_rng r = {9};
    int order[SEQS];
    load_adapters(&w, &d);
    make_seqs(&w, want);
    for (int i = 0; i < SEQS; i++)
        drive_run(&d, &want[i], 1); /* alone, whole */
    for (int i = 1; i < SEQS; i += 4)
        check_company(&w, &d, want, 1 + fixture_below(&r, 20), &i, 1, "alone, in chunks");
    check_company(&w, &d, want, 1 << 20, (const int[]){1, 4}, 2, "q, k, v and all of attention");
    check_company(&w, &d, want, 1 << 20, (const int[]){4, 1}, 2, "all of attention and q, k, v");
    check_company(&w, &d, want, 1 << 20, (const int[]){1, 0}, 2, "q, k, v and no adapter");
    drive_close(&d);
    for (int plain = 0; plain < 2; plain++) {
        struct backend_options opt = {.quant = quant,
                                      .kv_type = kv_type,
                                      .embedding = plain ? "host" : "card",
                                      .plain_launches = plain,
                                      .deterministic = true};
        d = open_cuda(w.model, &opt);
        load_adapters(&w, &d);
        for (size_t c = (size_t)plain; c < sizeof chunks / sizeof *chunks; c += 2) {
            char what[64];
            snprintf(what, sizeof what, "%s, chunks of %d", arch_names[arch], chunks[c]);
            shuffle(order, &r);
            check_company(&w, &d, want, chunks[c], order, SEQS, what);
        }
        drive_close(&d);
    }
    drive_free(want, SEQS);
    free_world(&w);
}

static void test_cuda_backend_equality_llama(void **state)
{
    (void)state;
    check_equality(ARCH_LLAMA, "int4", "bf16");
}

static void test_cuda_backend_equality_mistral(void **state)
{
    (void)state;
    check_equality(ARCH_MISTRAL, "none", NULL);
}

static void test_cuda_backend_equality_int8_kv(void **state)
{
    (void)state;
    check_equality(ARCH_QWEN3, "none", "int8");
}

static void adapters_at(enum engine_adapter_quant quant, int bits)
{
    adapter_quant = quant;
    adapter_bits = bits;
}

/* Read as they are, but for those with DoRA; all of them widened; all widths beside each other. */
static void test_cuda_backend_quantised_adapters(void **state)
{
    (void)state;
    static const struct {
        enum engine_adapter_quant quant;
        int bits;
    } all[] = {{ENGINE_QUANT_INT8, 8},
               {ENGINE_QUANT_INT4, 4},
               {ENGINE_QUANT_INT4, 16},
               {ENGINE_QUANT_DEFAULT, 4}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        adapters_at(all[i].quant, all[i].bits);
        check_against_cpu(ARCH_LLAMA, DTYPE_BF16, "none", WEIGHT_BF16, WEIGHT_BF16, (int)i);
    }
    adapters_at(ENGINE_QUANT_INT8, 8);
    check_against_cpu(ARCH_QWEN2, DTYPE_BF16, "int4", WEIGHT_INT4, WEIGHT_INT8, 3);
    check_many(ARCH_QWEN2, DTYPE_BF16, "int8", WEIGHT_INT8, WEIGHT_INT8, true);
    adapters_at(ENGINE_QUANT_INT4, 4);
    check_many(ARCH_QWEN3, DTYPE_F16, "int4", WEIGHT_INT4, WEIGHT_INT8, false);
    check_runs(ARCH_LLAMA, "none", WEIGHT_BF16);
    adapters_at(ENGINE_QUANT_DEFAULT, 8);
    check_many(ARCH_LLAMA, DTYPE_BF16, "int8", WEIGHT_INT8, WEIGHT_INT8, true);
    check_runs(ARCH_LLAMA, "none", WEIGHT_BF16);
    adapters_at(ENGINE_QUANT_NONE, 16);
}

static void test_cuda_backend_quantised_equality(void **state)
{
    (void)state;
    adapters_at(ENGINE_QUANT_DEFAULT, 8);
    check_equality(ARCH_LLAMA, "int4", NULL);
    adapters_at(ENGINE_QUANT_INT4, 4);
    check_equality(ARCH_MISTRAL, "int4", NULL);
    adapters_at(ENGINE_QUANT_NONE, 16);
}

/* Contexts beyond one attention chunk. */
static void check_long_context(const char *kv_type)
{
    struct world w = make_world(ARCH_LLAMA, DTYPE_BF16);
    static int32_t ids[400];
    for (int i = 0; i < 400; i++)
        ids[i] = i * 17 % w.model->shape.vocab;
    struct backend_options opt = {.quant = "int8", .kv_type = kv_type, .deterministic = true};
    struct drive d = open_cuda(w.model, &opt);
    struct drive_seq a = drive_seq_of(ids, 380, 4), c[3];
    a.keep_logits = true;
    c[0] = drive_seq_of(ids, 90, 20);
    c[1] = a;
    c[2] = drive_seq_of(ids + 7, 255, 20);
    drive_run(&d, &a, 1);
    d.chunk = 31;
    drive_run(&d, c, 3);
    assert_equal_seq(&a, &c[1], d.vocab, "in company", 1);
    drive_close(&d);
    drive_free(&a, 1);
    drive_free(c, 3);
    free_world(&w);
}

static void test_cuda_backend_long_context(void **state)
{
    (void)state;
    check_long_context("bf16");
    check_long_context("int8");
}

/* A step is launched before the one in front of it is finished; its token is named by the output
 * that draws it. */
static void test_cuda_backend_follows(void **state)
{
    (void)state;
    enum { STEPS = 6 };
    struct world w = make_world(ARCH_LLAMA, DTYPE_BF16);
    struct drive d = open_cuda(w.model, &(struct backend_options){.quant = "none"});
    const struct backend_ops *op = d.b->ops;
    struct drive_seq want = drive_seq_of(w.prompt, 1, STEPS);
    want.params.temperature = 0.8f;
    want.params.seed = 7;
    drive_run(&d, &want, 1);

    int32_t tokens[STEPS + 1] = {w.prompt[0]}, position[STEPS], kv_len[STEPS];
    int32_t seq = 0, out_row = 0, page = 3, begin[2] = {0, 1};
    struct sample_row out[STEPS];
    struct batch b[STEPS];
    struct sample_result got;
    struct err e = {0};
    for (int i = 0; i <= STEPS; i++) {
        if (i < STEPS) {
            tokens[i] = i == 0 ? w.prompt[0] : -1;
            position[i] = i;
            kv_len[i] = i + 1;
            out[i] = (struct sample_row){
                .params = &want.params, .prompt_count = 1, .token_count = i + 1, .forced = -1};
            b[i] = (struct batch){.rows = 1,
                                  .seqs = 1,
                                  .out_count = 1,
                                  .page_stride = 1,
                                  .token = &tokens[i],
                                  .position = &position[i],
                                  .seq_of_row = &seq,
                                  .row_begin = begin,
                                  .kv_len = &kv_len[i],
                                  .page_table = &page,
                                  .out_row = &out_row,
                                  .out = &out[i]};
            assert_int_equal(op->step_begin(d.b, &b[i]), STATUS_OK);
            forward(d.b, d.layers);
            assert_int_equal(op->step_launch(d.b), STATUS_OK);
        }
        if (i == 0)
            continue;
        assert_int_equal(op->step_finish(d.b, &got, &e), STATUS_OK);
        assert_int_equal(got.token, want.tokens[i]);
    }
    drive_free(&want, 1);
    drive_close(&d);
    free_world(&w);
}

/* Rows with a mask, with a mask and penalties, and plain ones in one step: drawn on the device, as
 * sample_logits draws them from the step's logits. */
static void test_cuda_backend_masks(void **state)
{
    (void)state;
    enum { ROWS = 5 };
    struct world w = make_world(ARCH_LLAMA, DTYPE_BF16);
    struct drive d = open_cuda(w.model, &(struct backend_options){.quant = "none"});
    const struct backend_ops *op = d.b->ops;
    int words = (d.vocab + 31) / 32;
    uint32_t *masks = calloc((size_t)(ROWS * words), sizeof *masks);
    float *logits = calloc((size_t)d.vocab, sizeof *logits);
    float *scratch = calloc(sample_scratch_floats(d.vocab), sizeof *scratch);
    assert_true(masks && logits && scratch);
    struct fixture_rng rng = {5};
    int32_t position[ROWS] = {0}, kv_len[ROWS], seq[ROWS], page[ROWS], begin[ROWS + 1];
    struct sample_params params[ROWS];
    struct sample_row out[ROWS];
    struct sample_result got[ROWS], want;
    struct err e = {0};
    for (int o = 0; o < ROWS; o++) {
        kv_len[o] = 1;
        seq[o] = begin[o] = o;
        page[o] = 2 * o + 1;
        for (int i = 0; i < 9; i++) {
            int id = fixture_below(&rng, d.vocab);
            masks[o * words + id / 32] |= 1u << id % 32;
        }
        params[o] = (struct sample_params){.temperature = o % 2 ? 1.0f : 0.0f,
                                           .top_p = o == 3 ? 0.9f : 1.0f,
                                           .typical_p = 1.0f,
                                           .repetition_penalty = o == 4 ? 1.5f : 1.0f,
                                           .seed = (uint64_t)o,
                                           .logprobs = 2};
        out[o] = (struct sample_row){.params = &params[o],
                                     .tokens = w.prompt,
                                     .prompt_count = 1,
                                     .token_count = 3,
                                     .mask = o == 2 ? NULL : masks + o * words,
                                     .forced = -1};
    }
    begin[ROWS] = ROWS;
    struct batch b = {.rows = ROWS,
                      .seqs = ROWS,
                      .out_count = ROWS,
                      .page_stride = 1,
                      .token = w.prompt,
                      .position = position,
                      .seq_of_row = seq,
                      .row_begin = begin,
                      .kv_len = kv_len,
                      .page_table = page,
                      .out_row = seq,
                      .out = out};
    assert_int_equal(op->step_begin(d.b, &b), STATUS_OK);
    assert_int_equal(cuda_backend_of(d.b)->flights[0].host_count, 0);
    forward(d.b, d.layers);
    assert_int_equal(op->step_launch(d.b), STATUS_OK);
    assert_int_equal(op->step_finish(d.b, got, &e), STATUS_OK);
    for (int o = 0; o < ROWS; o++) {
        assert_int_equal(op->read_logits(d.b, o, logits), STATUS_OK);
        sample_logits(logits, d.vocab, &out[o], scratch, &want);
        assert_int_equal(got[o].token, want.token);
        assert_int_equal(got[o].top[1].token, want.top[1].token);
        if (out[o].mask && !(out[o].mask[got[o].token / 32] >> got[o].token % 32 & 1))
            fail_msg("row %d drew %d, which its mask forbids", o, got[o].token);
    }
    free(masks);
    free(logits);
    free(scratch);
    drive_close(&d);
    free_world(&w);
}

/* A slot can be filled again; what an unloaded adapter did is gone; company does not notice. */
static void test_cuda_backend_adapter_slots(void **state)
{
    (void)state;
    struct world w = make_world(ARCH_LLAMA, DTYPE_BF16);
    struct drive d = open_cuda(w.model, &(struct backend_options){.quant = "none"});
    struct drive_seq all[SEQS], before, after;
    struct err e = {0};
    load_adapters(&w, &d);
    make_seqs(&w, all);
    before = all[5];
    drive_run(&d, &before, 1);
    for (int i = 0; i < 3; i++) {
        d.b->ops->adapter_unload(d.b, 2);
        assert_int_equal(d.b->ops->adapter_load(d.b, 2, w.adapters[i], &e), STATUS_OK);
        after = all[5];
        drive_run(&d, &after, 1);
        bool same = memcmp(before.logits, after.logits, (size_t)d.vocab * sizeof(float)) == 0;
        assert_int_equal(same, i == 2);
        drive_free(&after, 1);
    }
    drive_free(&before, 1);
    drive_close(&d);
    free_world(&w);
}

struct sending {
    struct backend *b;
    struct backend_image *image;
    enum status status;
    struct err err;
};

static void *send_image(void *arg)
{
    struct sending *s = arg;
    s->status = s->b->ops->adapter_upload(s->b, 2, s->image, &s->err);
    return NULL;
}

/* An adapter that another thread sends while steps run: these notice nothing, and it is the same as
 * one that was loaded at once. */
static void test_cuda_backend_loads_beside_steps(void **state)
{
    (void)state;
    struct world w = make_world(ARCH_LLAMA, DTYPE_BF16);
    struct drive d = open_cuda(w.model, &(struct backend_options){.quant = "none"});
    const struct backend_ops *op = d.b->ops;
    struct drive_seq all[SEQS], want[2], got;
    struct err e = {0};
    load_adapters(&w, &d);
    make_seqs(&w, all);
    want[0] = all[9]; /* of slots 1 and 0 */
    want[1] = all[5]; /* of slot 2, which goes and comes again */
    for (int i = 0; i < 2; i++)
        drive_run(&d, &want[i], 1);
    size_t held = op->adapter_bytes(d.b, w.adapters[2]);
    assert_true(held > 0 && held <= op->adapter_room(d.b));
    op->adapter_unload(d.b, 2);
    for (int round = 0; round < 2; round++) {
        struct sending s = {.b = d.b};
        pthread_t thread;
        assert_int_equal(op->adapter_pack(d.b, w.adapters[2], &s.image, &e), STATUS_OK);
        assert_int_equal(op->adapter_place(d.b, 2, s.image, &e), STATUS_OK);
        assert_int_equal(pthread_create(&thread, NULL, send_image, &s), 0);
        for (int i = 0; i < 2; i++) {
            got = all[9];
            drive_run(&d, &got, 1);
            assert_memory_equal(got.logits, want[0].logits, (size_t)d.vocab * sizeof(float));
            drive_free(&got, 1);
        }
        pthread_join(thread, NULL);
        assert_int_equal(s.status, STATUS_OK);
        if (round == 1) { /* the first goes before it was ever used */
            assert_int_equal(op->adapter_commit(d.b, 2, s.image, &e), STATUS_OK);
            got = all[5];
            drive_run(&d, &got, 1);
            assert_memory_equal(got.logits, want[1].logits, (size_t)d.vocab * sizeof(float));
            drive_free(&got, 1);
        }
        op->adapter_unload(d.b, 2);
        op->image_free(s.image);
    }
    drive_free(want, 2);
    drive_close(&d);
    free_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_backend_bf16),
        cmocka_unit_test(test_cuda_backend_int8),
        cmocka_unit_test(test_cuda_backend_int4),
        cmocka_unit_test(test_cuda_backend_many_bf16),
        cmocka_unit_test(test_cuda_backend_many_int8),
        cmocka_unit_test(test_cuda_backend_many_int4),
        cmocka_unit_test(test_cuda_backend_many_runs),
        cmocka_unit_test(test_cuda_backend_states),
        cmocka_unit_test(test_cuda_backend_equality_llama),
        cmocka_unit_test(test_cuda_backend_equality_mistral),
        cmocka_unit_test(test_cuda_backend_equality_int8_kv),
        cmocka_unit_test(test_cuda_backend_quantised_adapters),
        cmocka_unit_test(test_cuda_backend_quantised_equality),
        cmocka_unit_test(test_cuda_backend_long_context),
        cmocka_unit_test(test_cuda_backend_follows),
        cmocka_unit_test(test_cuda_backend_masks),
        cmocka_unit_test(test_cuda_backend_adapter_slots),
        cmocka_unit_test(test_cuda_backend_loads_beside_steps),
    };
    log_setup(LOG_LEVEL_WARN, false);
    return kernel_test_run("cuda_backend", tests, sizeof tests / sizeof *tests);
}
