/* The CPU backend against the pass written in double (cpu_fixture), and against itself: a
 * sequence's logits are the same bits alone, in company, in prompt chunks of any size, on any
 * number of threads and with any instruction set. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/cpu/cpu_state.h"
#include "tests/unit/cpu_drive.h"
#include "tests/unit/cpu_fixture.h"

static const char *arch_names[ARCH_COUNT] = {"llama", "mistral", "qwen2", "qwen3"};

#define ADAPTERS 6
#define PROMPT   61

static const struct backend_plan plan = {.rows_max = 200,
                                         .seqs_max = 16,
                                         .outs_max = 200,
                                         .segments_max = 64,
                                         .slots_max = ADAPTERS + 1,
                                         .pages = 200,
                                         .ctx_max = 640};

/* Ranks around the pair and panel widths; slot 5 has only what lies outside the layers. */
static struct fixture_lora adapter_kind(int i, enum dtype d)
{
    static const int ranks[ADAPTERS] = {1, 8, 33, 5, 16, 3};
    struct fixture_lora f = {.rank = ranks[i],
                             .dora = i == 2 || i == 3,
                             .attention = i != 4 && i != 5,
                             .mlp = i != 1 && i != 5,
                             .head = i == 3 || i == 5,
                             .embed = i == 5 || i == 2,
                             .dtype = i % 2 ? d : DTYPE_F32,
                             .strength = 0.4};
    return f;
}

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
        struct fixture_lora f = adapter_kind(i, d);
        w.adapters[i] = fixture_lora(&s, &f, 1000 + (uint64_t)i);
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

/* All of the workspace NaN, KV pages included: whatever a step reads it must have written. */
static void poison(struct drive *d)
{
    struct cpu_backend *c = (struct cpu_backend *)d->b;
    float *const buffers[] = {c->kv,
                              c->x,
                              c->n,
                              c->q,
                              c->k,
                              c->v,
                              c->a,
                              c->g,
                              c->up,
                              c->y,
                              c->out,
                              c->u,
                              c->attend_scratch,
                              c->logits};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        size_t bytes = buffers[i] == c->u ? c->u_rows * c->u_stride * sizeof(float) : 0;
        for (int k = 0; k < c->region_count; k++) {
            void *p;
            memcpy(&p, c->regions[k].at, sizeof p);
            if (p == buffers[i])
                bytes = c->regions[k].bytes;
        }
        if (buffers[i])
            memset(buffers[i], 0xff, bytes);
    }
}

static struct drive open_world(const struct world *w, const char *isa, int threads)
{
    struct drive d =
        drive_open(w->model, &(struct backend_options){.threads = threads, .isa = isa}, &plan);
    struct err e = {0};
    for (int i = 0; i < ADAPTERS; i++) {
        if (d.b->ops->adapter_load(d.b, i, w->adapters[i], &e) != STATUS_OK)
            fail_msg("adapter %d: %s", i, e.msg);
    }
    poison(&d);
    return d;
}

/* The company: who uses what. */
#define SEQS 12
static void make_seqs(const struct world *w, struct drive_seq *s)
{
    static const struct {
        int count;
        int slot[3];
        float weight[3];
    } uses[SEQS] = {
        {0, {0}, {0}},
        {0, {0}, {0}},
        {1, {0}, {1.0f}},
        {1, {0}, {1.0f}},
        {1, {1}, {1.0f}},
        {1, {2}, {1.0f}},
        {1, {2}, {-0.5f}},
        {1, {3}, {1.0f}},
        {1, {5}, {0.7f}},
        {2, {1, 0}, {0.6f, 0.4f}},
        {3, {2, 3, 5}, {0.3f, 0.9f, -0.2f}},
        {3, {3, 2, 4}, {0.9f, 0.3f, 1.0f}},
    };
    for (int i = 0; i < SEQS; i++) {
        int length = i == 0 ? 1 : i == 3 ? 16 : i == 5 ? 33 : PROMPT - i;
        s[i] = drive_seq_of(w->prompt + i % 3, length, 6);
        s[i].keep_logits = true;
        s[i].adapter_count = uses[i].count;
        memcpy(s[i].slot, uses[i].slot, sizeof uses[i].slot);
        memcpy(s[i].weight, uses[i].weight, sizeof uses[i].weight);
    }
}

/* ---- against the formulas ---- */

/* k roundings of relative size 2^-24 in a chain add up like a random walk, to sqrt(k) * 2^-24 of
 * the sum's magnitude, and so do the chains along the pass. Four times that bounds the largest of
 * some thousand logits; a wrong term anywhere is off by 1e-3 or more. */
static double error_bound(const struct model_shape *s, double largest)
{
    double chain = 3.0 * s->hidden + (double)s->heads * s->head_dim + s->ffn + s->head_dim + PROMPT;
    return 4.0 * 0x1p-24 * largest * sqrt(s->layers * chain + s->hidden);
}

static double check_reference(const struct world *w, struct drive *d, struct drive_seq s)
{
    s.score = true;
    s.keep_logits = false;
    s.generate = 1;
    d->chunk = 23;
    drive_run(d, &s, 1);
    int vocab = w->model->shape.vocab;
    double *want = malloc((size_t)s.prompt_count * (size_t)vocab * sizeof *want);
    const struct lora *use[LIMIT_ADAPTERS_PER_REQUEST];
    for (int i = 0; i < s.adapter_count; i++)
        use[i] = w->adapters[s.slot[i]];
    fixture_forward(w->model, use, s.weight, s.adapter_count, s.prompt, s.prompt_count, want);
    assert_int_equal(s.logit_rows, s.prompt_count);
    double largest = 0.0, worst = 0.0;
    for (int i = 0; i < s.prompt_count * vocab; i++) {
        double off = fabs(want[i] - (double)s.logits[i]);
        largest = fmax(largest, fabs(want[i]));
        worst = off <= worst ? worst : off; /* NaN counts as worst */
    }
    double bound = error_bound(&w->model->shape, largest);
    if (!(worst <= bound))
        fail_msg("%d adapters, first %d: off by %g of %g, bound %g", s.adapter_count, s.slot[0],
                 worst, largest, bound);
    free(want);
    drive_free(&s, 1);
    return worst / largest;
}

static void test_cpu_backend_reference(void **state)
{
    (void)state;
    for (int arch = 0; arch < ARCH_COUNT; arch++) {
        for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
            if (dtype != DTYPE_F32 && dtype != arch % 2 + 1)
                continue;
            struct world w = make_world((enum model_arch)arch, (enum dtype)dtype);
            struct drive d = open_world(&w, "auto", 2);
            struct drive_seq s[SEQS];
            make_seqs(&w, s);
            double worst = 0.0;
            for (int i = 1; i < SEQS; i++)
                worst = fmax(worst, check_reference(&w, &d, s[i]));
            printf("figure: %s %s: largest error %.1e of the largest logit\n", arch_names[arch],
                   dtype_name((enum dtype)dtype), worst);
            drive_close(&d);
            free_world(&w);
        }
    }
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
    for (int k = 0; k < a->logit_rows * vocab; k++) {
        if (memcmp(&a->logits[k], &b->logits[k], sizeof *a->logits) != 0)
            fail_msg("%s: sequence %d, logit %d of row %d: %a and %a", what, i, k % vocab,
                     k / vocab, (double)a->logits[k], (double)b->logits[k]);
    }
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

static void check_equality(enum model_arch arch)
{
    struct world w = make_world(arch, arch % 2 ? DTYPE_BF16 : DTYPE_F32);
    struct drive d = open_world(&w, "auto", 1);
    struct drive_seq want[SEQS];
    struct fixture_rng r = {9};
    int order[SEQS];
    make_seqs(&w, want);
    for (int i = 0; i < SEQS; i++)
        drive_run(&d, &want[i], 1); /* alone, whole */
    for (int i = 0; i < SEQS; i++)
        check_company(&w, &d, want, 1 + fixture_below(&r, 20), &i, 1, "alone, in chunks");
    drive_close(&d);
    static const struct {
        const char *isa;
        int threads;
    } ways[] = {{"auto", 2}, {"auto", 3}, {"avx2", 2}, {"scalar", 2}};
    static const int chunks[] = {1 << 20, 1, 7, 16, 17};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (!cpu_kernels_find(ways[i].isa))
            continue;
        d = open_world(&w, ways[i].isa, ways[i].threads);
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            char what[64];
            snprintf(what, sizeof what, "%s, %s, %d threads, chunks of %d", arch_names[arch],
                     ways[i].isa, ways[i].threads, chunks[c]);
            shuffle(order, &r);
            check_company(&w, &d, want, chunks[c], order, SEQS, what);
            poison(&d);
        }
        drive_close(&d);
    }
    drive_free(want, SEQS);
    free_world(&w);
}

static void test_cpu_backend_equality_llama(void **state)
{
    (void)state;
    check_equality(ARCH_LLAMA);
}

static void test_cpu_backend_equality_mistral(void **state)
{
    (void)state;
    check_equality(ARCH_MISTRAL);
}

static void test_cpu_backend_equality_qwen2(void **state)
{
    (void)state;
    check_equality(ARCH_QWEN2);
}

static void test_cpu_backend_equality_qwen3(void **state)
{
    (void)state;
    check_equality(ARCH_QWEN3);
}

/* Contexts beyond one attention block, a prompt longer than a step. */
static void test_cpu_backend_long_context(void **state)
{
    (void)state;
    struct world w = make_world(ARCH_LLAMA, DTYPE_F32);
    static int32_t ids[600];
    for (int i = 0; i < 600; i++)
        ids[i] = i * 17 % w.model->shape.vocab;
    struct drive d = open_world(&w, "auto", 2);
    struct drive_seq a = drive_seq_of(ids, 600, 4), b = a, c[3];
    a.keep_logits = b.keep_logits = true;
    c[0] = drive_seq_of(ids, 300, 20);
    c[1] = a;
    c[2] = drive_seq_of(ids + 7, 255, 20);
    drive_run(&d, &a, 1);
    d.chunk = 31;
    drive_run(&d, c, 3);
    assert_equal_seq(&a, &c[1], d.vocab, "in company", 1);
    drive_close(&d);
    d = open_world(&w, "avx2", 1);
    drive_run(&d, &b, 1);
    assert_equal_seq(&a, &b, d.vocab, "avx2", 0);
    drive_close(&d);
    drive_free(&a, 1);
    drive_free(&b, 1);
    drive_free(c, 3);
    free_world(&w);
}

/* ---- loading ---- */

/* A slot can be filled again; what an unloaded adapter did is gone; company does not notice. */
static void test_cpu_backend_adapter_slots(void **state)
{
    (void)state;
    struct world w = make_world(ARCH_LLAMA, DTYPE_F32);
    struct drive d = open_world(&w, "auto", 2);
    struct drive_seq all[SEQS], before, after;
    struct err e = {0};
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

static struct {
    size_t done, total;
    int calls;
} seen;

static void on_progress(void *ctx, const char *what, size_t done, size_t total)
{
    (void)what;
    assert_ptr_equal(ctx, &seen);
    assert_true(done >= seen.done);
    seen.done = done;
    seen.total = total;
    seen.calls++;
}

static void test_cpu_backend_refusals(void **state)
{
    (void)state;
    struct world w = make_world(ARCH_LLAMA, DTYPE_F32);
    struct backend *b = NULL;
    struct err e = {0};
    assert_int_equal(cpu_backend_open(&(struct backend_options){.isa = "mmx"}, &b, &e),
                     STATUS_UNSUPPORTED);
    assert_string_equal(e.param, "isa");
    assert_int_equal(cpu_backend_open(&(struct backend_options){.threads = -1}, &b, &e),
                     STATUS_INVALID);
    assert_null(b);
    assert_int_equal(cpu_backend_open(&(struct backend_options){0}, &b, &e), STATUS_OK);
    struct backend_plan huge = plan;
    huge.pages = 1 << 30;
    assert_int_equal(b->ops->model_load(b, w.model, &huge, NULL, &e), STATUS_NO_MEMORY);
    assert_non_null(strstr(e.msg, "MiB available"));
    struct progress p = {on_progress, &seen};
    w.model->weight_bytes = 12345;
    assert_int_equal(b->ops->model_load(b, w.model, &plan, &p, &e), STATUS_OK);
    assert_true(seen.calls > 10 && seen.total == 12345);
    b->ops->close(b);
    free_world(&w);
}

/* Every allocation of open, load and adapter_load fails once; nothing leaks (ASan), nothing hangs.
 */
static void test_cpu_backend_out_of_memory(void **state)
{
    (void)state;
    struct world w = make_world(ARCH_LLAMA, DTYPE_BF16);
    int refused = 0;
    for (int k = 1;; k++) {
        struct backend *b = NULL;
        struct err e = {0};
        mem_fail_at(k);
        enum status st = cpu_backend_open(&(struct backend_options){.threads = 1}, &b, &e);
        if (st == STATUS_OK)
            st = b->ops->model_load(b, w.model, &plan, NULL, &e);
        if (st == STATUS_OK)
            st = b->ops->adapter_load(b, 0, w.adapters[2], &e);
        mem_fail_at(0);
        if (b)
            b->ops->close(b);
        if (st == STATUS_OK)
            break;
        assert_int_equal(st, STATUS_NO_MEMORY);
        assert_true(e.msg[0] != '\0');
        refused++;
    }
    printf("figure: %d allocations, each refused once\n", refused);
    assert_true(refused > 60);
    free_world(&w);
}

static void test_cpu_backend_no_allocation_in_steps(void **state)
{
    (void)state;
    struct world w = make_world(ARCH_QWEN3, DTYPE_F32);
    struct drive d = open_world(&w, "auto", 2);
    struct drive_seq s[SEQS];
    make_seqs(&w, s);
    uint64_t before = mem_alloc_count();
    drive_run(&d, s, SEQS);
    assert_int_equal(mem_alloc_count() - before, 0);
    drive_free(s, SEQS);
    drive_close(&d);
    free_world(&w);
}

static void test_cpu_backend_page_bytes(void **state)
{
    (void)state;
    struct world w = make_world(ARCH_QWEN3, DTYPE_F32);
    struct drive d = open_world(&w, "auto", 1);
    struct cpu_backend *c = (struct cpu_backend *)d.b;
    size_t bytes = d.b->ops->page_bytes(d.b, &w.model->shape);
    assert_int_equal(bytes * (size_t)plan.pages, c->regions[0].bytes);
    drive_close(&d);
    free_world(&w);
}

/* Enough that every product runs at its full speed; streams wait for more. */
static void test_cpu_backend_rows_best(void **state)
{
    (void)state;
    struct backend_options opt = {.threads = 1, .isa = "scalar"};
    struct backend *b;
    struct err e = {0};
    assert_int_equal(cpu_backend_open(&opt, &b, &e), STATUS_OK);
    assert_non_null(b->ops->rows_best);
    assert_in_range(b->ops->rows_best(b), 64, 256);
    b->ops->close(b);
}

int main(void)
{
    log_setup(LOG_LEVEL_WARN, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_backend_reference),
        cmocka_unit_test(test_cpu_backend_equality_llama),
        cmocka_unit_test(test_cpu_backend_equality_mistral),
        cmocka_unit_test(test_cpu_backend_equality_qwen2),
        cmocka_unit_test(test_cpu_backend_equality_qwen3),
        cmocka_unit_test(test_cpu_backend_long_context),
        cmocka_unit_test(test_cpu_backend_adapter_slots),
        cmocka_unit_test(test_cpu_backend_refusals),
        cmocka_unit_test(test_cpu_backend_out_of_memory),
        cmocka_unit_test(test_cpu_backend_no_allocation_in_steps),
        cmocka_unit_test(test_cpu_backend_page_bytes),
        cmocka_unit_test(test_cpu_backend_rows_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
