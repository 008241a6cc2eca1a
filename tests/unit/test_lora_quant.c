/* Adapters at 8 and 4 bits: codes and scales against sums made here, odd shapes and odd values, and
 * the CPU backend against the same values in float32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/adapter/lora_quant.h"
#include "engine/base/mem.h"
#include "tests/unit/cpu_drive.h"
#include "tests/unit/cpu_fixture.h"
#include "tests/unit/fixture_golden.h"

static const enum engine_adapter_quant widths[] = {ENGINE_QUANT_INT8, ENGINE_QUANT_INT4};

/* ---- adapters made here: one module, float32 ---- */

static struct lora *make_lora(int rank, int in, int out, bool magnitude,
                              float (*value)(struct fixture_rng *r, int i), uint64_t seed)
{
    struct fixture_rng rng = {seed};
    struct lora *l = mem_calloc(1, sizeof *l);
    size_t a = (size_t)rank * (size_t)in, b = (size_t)rank * (size_t)out;
    float *v = mem_alloc_aligned((a + b + (size_t)out) * sizeof *v);
    assert_non_null(l);
    assert_non_null(v);
    for (size_t i = 0; i < a + b + (size_t)out; i++)
        v[i] = value(&rng, (int)i);
    l->storage = v;
    l->modules = mem_calloc(1, sizeof *l->modules);
    assert_non_null(l->modules);
    l->module_count = 1;
    l->rank_max = rank;
    l->modules[0] = (struct lora_module){
        .site = 0,
        .rank = rank,
        .in = in,
        .out = out,
        .scale = 2,
        .a = {.data = v, .dtype = DTYPE_F32, .rows = rank, .cols = in},
        .b = {.data = v + a, .dtype = DTYPE_F32, .rows = out, .cols = rank},
        .magnitude = {.data = magnitude ? v + a + b : NULL,
                      .dtype = DTYPE_F32,
                      .rows = 1,
                      .cols = out},
    };
    l->bytes = (a + b + (magnitude ? (size_t)out : 0)) * sizeof *v;
    return l;
}

static float normal(struct fixture_rng *r, int i)
{
    (void)i;
    return (float)fixture_normal(r);
}

static float *values_of(const struct tensor *t)
{
    float *v = mem_alloc(tensor_count(t) + 1, sizeof *v);
    assert_non_null(v);
    tensor_read_f32(t, 0, tensor_count(t), v);
    return v;
}

/* The sums of a factor, and that no scale near the one it has would leave less. */
static void check_factor(const char *what, const struct tensor *t, const float *before, bool down,
                         struct lora_quant_sums *sums)
{
    const struct tensor_codes *c = t->data;
    float *after = values_of(t);
    double nearby[2] = {0, 0}, error = 0;
    double aside = t->dtype == DTYPE_Q4 ? 0.006 : 0.002; /* scales of 4 bits have 8 bits */
    assert_true(c->down == down);
    for (size_t i = 0; i < tensor_count(t); i++) {
        double d = (double)before[i] - (double)after[i];
        error += d * d;
        sums->norm += (double)before[i] * (double)before[i];
        for (int k = 0; k < 2; k++) {
            double near = (double)before[i] - (double)after[i] * (k ? 1 + aside : 1 - aside);
            nearby[k] += near * near;
        }
    }
    if (error > nearby[0] || error > nearby[1])
        fail_msg("%s: error %g, with scales beside it %g and %g", what, error, nearby[0],
                 nearby[1]);
    sums->error += error;
    mem_free(after);
}

static void test_lora_quant_is_least_squares(void **state)
{
    (void)state;
    static const struct {
        int rank, in, out;
    } shapes[] = {{1, 1, 1},    {1, 63, 65},  {3, 64, 128},  {16, 200, 77},
                  {17, 65, 63}, {8, 1024, 1}, {64, 96, 640}, {5, 7, 129}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int w = 0; w < 2; w++) {
            char what[64];
            struct err e = {0};
            struct lora_quant_report r, measured;
            struct lora_quant_sums a = {0}, b = {0};
            struct lora *l =
                make_lora(shapes[i].rank, shapes[i].in, shapes[i].out, true, normal, 7 + i);
            struct lora_module *m = &l->modules[0];
            float *va = values_of(&m->a), *vb = values_of(&m->b), *vm = values_of(&m->magnitude);
            snprintf(what, sizeof what, "%s [%d, %d, %d]", engine_adapter_quant_names[widths[w]],
                     shapes[i].rank, shapes[i].in, shapes[i].out);
            assert_int_equal(lora_quant_measure(l, widths[w], &measured, &e), STATUS_OK);
            assert_int_equal(lora_quantise(l, widths[w], &r, &e), STATUS_OK);
            assert_memory_equal(&r, &measured, sizeof r);
            check_factor(what, &m->a, va, false, &a);
            check_factor(what, &m->b, vb, true, &b);
            double told = r.a.error, most = widths[w] == ENGINE_QUANT_INT8 ? 0.012 : 0.13;
            if (fabs(told - a.error) > 1e-3 * a.norm * 1e-3 ||
                fabs(r.a.norm - a.norm) > 1e-6 * a.norm)
                fail_msg("%s: told %g of %g, is %g of %g", what, told, r.a.norm, a.error, a.norm);
            if ((double)lora_quant_error(&a) > most || (double)lora_quant_error(&b) > most)
                fail_msg("%s: errors %g, %g", what, (double)lora_quant_error(&a),
                         (double)lora_quant_error(&b));
            assert_memory_equal(vm, m->magnitude.data, tensor_bytes(&m->magnitude));
            assert_int_equal(l->bytes, tensor_bytes(&m->a) + tensor_bytes(&m->b) +
                                           tensor_bytes(&m->magnitude));
            mem_free(va);
            mem_free(vb);
            mem_free(vm);
            lora_free(l);
        }
    }
}

/* Any stretch of a tensor is what its single values are. */
static void test_lora_quant_reads_any_stretch(void **state)
{
    (void)state;
    for (int w = 0; w < 2; w++) {
        struct err e = {0};
        struct lora *l = make_lora(3, 71, 67, false, normal, 5);
        assert_int_equal(lora_quantise(l, widths[w], NULL, &e), STATUS_OK);
        for (int k = 0; k < 2; k++) {
            const struct tensor *t = k ? &l->modules[0].b : &l->modules[0].a;
            const struct tensor_codes *c = t->data;
            float *all = values_of(t);
            for (size_t at = 0; at < tensor_count(t); at++) {
                size_t row = at / (size_t)t->cols, col = at % (size_t)t->cols;
                size_t g = (size_t)c->group;
                float scale = c->down ? c->scales[row / g * (size_t)t->cols + col]
                                      : c->scales[row * (((size_t)t->cols + g - 1) / g) + col / g];
                const uint8_t *p = c->codes;
                int code =
                    t->dtype == DTYPE_Q8 ? (int8_t)p[at] : (p[at / 2] >> (at % 2 * 4) & 15) - 8;
                if (all[at] != (float)code * scale)
                    fail_msg("element %zu: %g, code %d times %g", at, (double)all[at], code,
                             (double)scale);
                float some[9];
                size_t n = tensor_count(t) - at < 9 ? tensor_count(t) - at : 9;
                tensor_read_f32(t, at, n, some);
                assert_memory_equal(some, all + at, n * sizeof *some);
            }
            mem_free(all);
        }
        lora_free(l);
    }
}

static float zero(struct fixture_rng *r, int i)
{
    (void)r;
    (void)i;
    return 0;
}

static float huge(struct fixture_rng *r, int i)
{
    return (fixture_next(r) & 1 ? 3.4e38f : -3.4e38f) / (float)(1 + i % 3);
}

static float tiny(struct fixture_rng *r, int i)
{
    (void)i;
    return (fixture_next(r) & 1 ? 1e-44f : -1e-45f);
}

static float lonely(struct fixture_rng *r, int i)
{
    return i % 64 == 5 ? 1000.0f : (float)fixture_normal(r) * 1e-3f;
}

static void test_lora_quant_odd_values(void **state)
{
    (void)state;
    static float (*const kinds[])(struct fixture_rng *, int) = {zero, huge, tiny, lonely};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (int w = 0; w < 2; w++) {
            struct err e = {0};
            struct lora_quant_report r;
            struct lora *l = make_lora(4, 130, 66, false, kinds[i], 3);
            size_t at;
            assert_int_equal(lora_quantise(l, widths[w], &r, &e), STATUS_OK);
            struct lora_module *m = &l->modules[0];
            if (!tensor_is_finite(&m->a, &at) || !tensor_is_finite(&m->b, &at))
                fail_msg("kind %zu: element %zu is not finite", i, at);
            assert_true(kinds[i] == tiny || tensor_is_zero(&m->a) == (kinds[i] == zero));
            assert_true(isfinite(lora_quant_error(&r.a)) && lora_quant_error(&r.a) < 0.5f);
            lora_free(l);
        }
    }
}

/* The identity changes with the width, and only with it. */
static void test_lora_quant_identity(void **state)
{
    (void)state;
    uint8_t sha[3][SHA256_BYTES];
    for (int q = 0; q < 3; q++) {
        struct err e = {0};
        struct lora *l = make_lora(4, 8, 8, false, normal, 1);
        for (int k = 0; k < 2; k++) {
            struct lora *again = make_lora(4, 8, 8, false, normal, 1);
            assert_int_equal(lora_quantise(k ? again : l,
                                           (enum engine_adapter_quant)(ENGINE_QUANT_NONE + q), NULL,
                                           &e),
                             STATUS_OK);
            if (k)
                assert_int_equal(lora_quantise(l, ENGINE_QUANT_NONE, NULL, &e), STATUS_OK);
            if (k)
                assert_memory_equal(l->sha256, again->sha256, SHA256_BYTES);
            lora_free(again);
        }
        memcpy(sha[q], l->sha256, SHA256_BYTES);
        lora_free(l);
    }
    assert_memory_not_equal(sha[0], sha[1], SHA256_BYTES);
    assert_memory_not_equal(sha[0], sha[2], SHA256_BYTES);
    assert_memory_not_equal(sha[1], sha[2], SHA256_BYTES);
}

static void test_lora_quant_out_of_memory(void **state)
{
    (void)state;
    struct err e = {0};
    struct lora *l = make_lora(4, 100, 50, true, normal, 1), before = *l;
    struct lora_module module = l->modules[0];
    int failed = 0;
    for (int64_t k = 1; l->modules[0].a.dtype == DTYPE_F32; k++) {
        mem_fail_at(k);
        enum status st = lora_quantise(l, ENGINE_QUANT_INT4, NULL, &e);
        mem_fail_at(0);
        if (st == STATUS_OK)
            break;
        assert_int_equal(st, STATUS_NO_MEMORY);
        assert_memory_equal(&before, l, sizeof before);
        assert_memory_equal(&module, &l->modules[0], sizeof module);
        failed++;
    }
    assert_int_equal(failed, 4);
    lora_free(l);
}

/* ---- on the CPU backend ---- */

/* The same values, wide. */
static struct lora *expanded(const struct lora *l)
{
    size_t count = 0;
    struct lora *x = mem_calloc(1, sizeof *x);
    assert_non_null(x);
    x->modules = mem_calloc((size_t)l->module_count, sizeof *x->modules);
    for (int i = 0; i < l->module_count; i++)
        count += tensor_count(&l->modules[i].a) + tensor_count(&l->modules[i].b) +
                 (l->modules[i].magnitude.data ? tensor_count(&l->modules[i].magnitude) : 0);
    float *v = x->storage = mem_alloc_aligned(count * sizeof *v);
    assert_non_null(v);
    for (int i = 0; i < l->module_count; i++) {
        struct lora_module *m = &x->modules[x->module_count++];
        *m = l->modules[i];
        struct tensor *all[] = {&m->a, &m->b, &m->magnitude};
        for (int k = 0; k < 3; k++) {
            if (!all[k]->data)
                continue;
            tensor_read_f32(all[k], 0, tensor_count(all[k]), v);
            all[k]->data = v;
            all[k]->dtype = DTYPE_F32;
            v += tensor_count(all[k]);
        }
    }
    x->rank_max = l->rank_max;
    return x;
}

static void check_on_cpu(const char *arch, const char *name, enum engine_adapter_quant quant)
{
    char path[256];
    struct err e = {0};
    struct model *m = NULL;
    struct lora *l = NULL, *plain = NULL;
    snprintf(path, sizeof path, GOLDEN_DIR "/%s/model", arch);
    assert_int_equal(model_open(path, NULL, &m, &e), STATUS_OK);
    snprintf(path, sizeof path, GOLDEN_DIR "/%s/adapters/%s", arch, name);
    assert_int_equal(lora_open(path, m, &l, &e), STATUS_OK);
    assert_int_equal(lora_open(path, m, &plain, &e), STATUS_OK);
    assert_int_equal(lora_quantise(l, quant, NULL, &e), STATUS_OK);
    struct lora *wide = expanded(l);
    const struct backend_options opt = {.threads = 2};
    const struct backend_plan plan = {.rows_max = 32,
                                      .seqs_max = 5,
                                      .outs_max = 32,
                                      .segments_max = 8,
                                      .slots_max = 3,
                                      .pages = 16,
                                      .ctx_max = 64};
    struct drive d = drive_open(m, &opt, &plan);
    const struct lora *slots[] = {l, wide, plain};
    for (int i = 0; i < 3; i++)
        assert_int_equal(d.b->ops->adapter_load(d.b, i, slots[i], &e), STATUS_OK);
    static const int32_t prompt[] = {5, 9, 100, 33, 7, 250};
    struct drive_seq seqs[5];
    /* Quantised, wide, as it was, a blend of the first and the last, the base. */
    for (int i = 0; i < 5; i++) {
        seqs[i] = drive_seq_of(prompt, 6, 4);
        seqs[i].keep_logits = true;
        seqs[i].adapter_count = i == 4 ? 0 : i == 3 ? 2 : 1;
        seqs[i].slot[0] = i == 3 ? 0 : i;
        seqs[i].slot[1] = 2;
        seqs[i].weight[0] = 1;
        seqs[i].weight[1] = -1;
    }
    drive_run(&d, seqs, 5);
    size_t n = (size_t)seqs[0].logit_rows * (size_t)d.vocab;
    if (memcmp(seqs[0].logits, seqs[1].logits, n * sizeof(float)) != 0)
        fail_msg("%s %s %s: not the bits of its values", arch, name,
                 engine_adapter_quant_names[quant]);
    double far = 0, all = 0; /* squares: from what the adapter says, and of all it changes */
    for (size_t i = 0; i < (size_t)d.vocab; i++) {
        double by = (double)seqs[0].logits[i] - (double)seqs[2].logits[i];
        double change = (double)seqs[4].logits[i] - (double)seqs[2].logits[i];
        far += by * by;
        all += change * change;
    }
    double share = sqrt(far / all), most = quant == ENGINE_QUANT_INT8 ? 0.05 : 0.5;
    print_message("%s %s %s: %.2f %% of what the adapter changes\n", arch, name,
                  engine_adapter_quant_names[quant], 100 * share);
    assert_true(share > 0 && share < most);
    drive_free(seqs, 5);
    drive_close(&d);
    lora_free(wide);
    lora_free(plain);
    lora_free(l);
    model_close(m);
}

static void test_lora_quant_on_cpu(void **state)
{
    (void)state;
    static const char *const all[][2] = {{"llama", "all-r8"},     {"llama", "dora-r8"},
                                         {"mistral", "head-r8"},  {"qwen2", "dora-r8"},
                                         {"mistral", "embed-r4"}, {"qwen3", "patterns"}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        check_on_cpu(all[i][0], all[i][1], ENGINE_QUANT_INT8);
        check_on_cpu(all[i][0], all[i][1], ENGINE_QUANT_INT4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora_quant_is_least_squares),
        cmocka_unit_test(test_lora_quant_reads_any_stretch),
        cmocka_unit_test(test_lora_quant_odd_values),
        cmocka_unit_test(test_lora_quant_identity),
        cmocka_unit_test(test_lora_quant_out_of_memory),
        cmocka_unit_test(test_lora_quant_on_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
