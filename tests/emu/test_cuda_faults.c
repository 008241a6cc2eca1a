/* Every call of the CUDA runtime that a life of the backend makes fails once: the failing phase
 * answers with a status and a sentence, nothing crashes, nothing stays allocated; a card that
 * failed for good says so in every later step. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cuda_runtime_api.h>

#include "engine/backend.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/model/forward.h"
#include "tests/emu/emu.h"
#include "tests/unit/cpu_fixture.h"

static const struct backend_plan plan = {.rows_max = 8,
                                         .seqs_max = 2,
                                         .outs_max = 4,
                                         .segments_max = 8,
                                         .slots_max = 2,
                                         .pages = 4,
                                         .ctx_max = 32};

/* One sequence of one row a step; the host draws where `typical`. */
struct one_row {
    int32_t token, position, seq, begin[2], kv_len, pages[2], out_row;
    struct batch_segment segment;
    struct sample_params params;
    struct sample_row out;
    struct batch batch;
};

static void one_row_init(struct one_row *r, int32_t token, int position, bool typical)
{
    *r = (struct one_row){.token = token,
                          .position = position,
                          .begin = {0, 1},
                          .kv_len = position + 1,
                          .pages = {2, 1},
                          .segment = {.slot = 0, .weight = 1, .row_begin = 0, .row_end = 1},
                          .params = {.temperature = typical ? 1.0f : 0.0f,
                                     .top_p = 1,
                                     .typical_p = typical ? 0.5f : 1,
                                     .repetition_penalty = 1,
                                     .logprobs = 0}};
    r->out = (struct sample_row){.params = &r->params, .forced = -1};
    r->batch = (struct batch){.rows = 1,
                              .seqs = 1,
                              .segment_count = 1,
                              .out_count = 1,
                              .page_stride = 2,
                              .token = &r->token,
                              .position = &r->position,
                              .seq_of_row = &r->seq,
                              .row_begin = r->begin,
                              .kv_len = &r->kv_len,
                              .page_table = r->pages,
                              .segments = &r->segment,
                              .out_row = &r->out_row,
                              .out = &r->out};
}

struct life {
    struct model *model;
    struct lora *lora;
    struct err err;
    const char *phase; /* the last one begun */
    int32_t token;
};

static enum status step(struct backend *b, struct life *l, int position, bool typical)
{
    struct one_row r;
    struct sample_result result = {0};
    one_row_init(&r, l->token, position, typical);
    l->phase = "step_begin";
    enum status st = b->ops->step_begin(b, &r.batch);
    if (st != STATUS_OK)
        return st;
    forward(b, l->model->shape.layers);
    l->phase = "step_launch";
    st = b->ops->step_launch(b);
    if (st != STATUS_OK)
        return st;
    l->phase = "step_finish";
    st = b->ops->step_finish(b, &result, &l->err);
    if (st == STATUS_OK)
        l->token = result.token;
    return st;
}

/* A step with a late one behind it: the host draws its row under a penalty, or a mask is sent. */
static enum status two_steps(struct backend *b, struct life *l, int position, bool typical)
{
    struct one_row r[2];
    struct sample_result result = {0};
    int32_t tokens[3] = {l->token, -1, -1};
    uint32_t mask[256];
    enum status st = STATUS_OK;
    memset(mask, 0x5a, sizeof mask);
    for (int i = 0; st == STATUS_OK && i < 2; i++) {
        one_row_init(&r[i], tokens[i], position + i, typical);
        r[i].out.tokens = tokens;
        r[i].out.token_count = i + 1;
        r[i].batch.late = i == 1;
        l->phase = "step_begin";
        st = b->ops->step_begin(b, &r[i].batch);
        if (st != STATUS_OK)
            return st;
        forward(b, l->model->shape.layers);
        l->phase = "step_launch";
        st = b->ops->step_launch(b);
    }
    for (int i = 0; st == STATUS_OK && i < 2; i++) {
        l->phase = "step_finish";
        st = b->ops->step_finish(b, &result, &l->err);
        tokens[i + 1] = l->token = result.token;
        if (st != STATUS_OK || i == 1)
            break;
        r[1].out.mask = typical ? NULL : mask;
        r[1].params.repetition_penalty = typical ? 1.5f : 1;
        l->phase = "step_draw";
        st = b->ops->step_draw(b);
    }
    return st;
}

static enum status use(struct backend *b, struct life *l)
{
    l->phase = "model_load";
    enum status st = b->ops->model_load(b, l->model, &plan, NULL, &l->err);
    if (st != STATUS_OK)
        return st;
    l->phase = "adapter_load";
    st = b->ops->adapter_load(b, 0, l->lora, &l->err);
    l->token = 3;
    for (int i = 0; st == STATUS_OK && i < 3; i++)
        st = step(b, l, i, i == 1);
    for (int i = 0; st == STATUS_OK && i < 2; i++)
        st = two_steps(b, l, 3 + 2 * i, i == 1);
    if (st == STATUS_OK) {
        l->phase = "adapter_unload";
        b->ops->adapter_unload(b, 0);
    }
    /* Lost is lost: nothing later works, and it says so. */
    if (st == STATUS_DEVICE_LOST && strncmp(l->phase, "step", 4) == 0)
        assert_int_equal(step(b, l, 0, false), STATUS_DEVICE_LOST);
    return st;
}

static enum status live(struct life *l)
{
    struct backend *b = NULL;
    l->phase = "open";
    l->err = (struct err){0};
    enum status st = cuda_backend_open(&(struct backend_options){.quant = "int4"}, &b, &l->err);
    if (st != STATUS_OK)
        return st;
    st = use(b, l);
    b->ops->close(b);
    return st;
}

static struct life begin(void)
{
    struct model_shape s = fixture_shape(ARCH_QWEN2);
    struct fixture_lora f = {.rank = 5,
                             .dora = true,
                             .attention = true,
                             .mlp = true,
                             .dtype = DTYPE_BF16,
                             .strength = 0.4};
    s.ctx_max = 32;
    s.layers = 1;
    return (struct life){.model = fixture_model(&s, DTYPE_BF16, 5),
                         .lora = fixture_lora(&s, &f, 1)};
}

static void end(struct life *l)
{
    fixture_lora_free(l->lora);
    fixture_model_free(l->model);
}

static void fail_each(int error)
{
    struct life l = begin();
    emu_card(NULL);
    assert_int_equal(live(&l), STATUS_OK);
    assert_int_equal(emu_allocated(), 0);
    int32_t want = l.token;
    uint64_t total = emu_calls();
    int refused = 0;
    int tried = 0;
    /* All of the start; then every seventh. */
    for (uint64_t at = 1; at <= total; at += at < 60 ? 1 : 7) {
        tried++;
        emu_card(NULL);
        emu_fail_at(at, error);
        enum status st = live(&l);
        if (emu_allocated() != 0)
            fail_msg("call %llu: %zu bytes are left", (unsigned long long)at, emu_allocated());
        if (st == STATUS_OK) {
            if (l.token != want)
                fail_msg("call %llu: token %d, not %d", (unsigned long long)at, l.token, want);
            continue;
        }
        refused++;
        bool told = strncmp(l.phase, "step_", 5) == 0 || (l.err.code == st && l.err.msg[0]);
        bool known = st == STATUS_DEVICE_LOST || st == STATUS_NO_MEMORY || st == STATUS_UNSUPPORTED;
        if (!told || !known)
            fail_msg("call %llu of %llu, in %s: %s: %s", (unsigned long long)at,
                     (unsigned long long)total, l.phase, status_code(st), l.err.msg);
    }
    printf("figure: error %d at %d of %llu calls, %d answers with a status\n", error, tried,
           (unsigned long long)total, refused);
    assert_true(refused > tried / 2);
    end(&l);
}

static void test_cuda_faults_memory(void **state)
{
    (void)state;
    fail_each(cudaErrorMemoryAllocation);
}

static void test_cuda_faults_kept(void **state)
{
    (void)state;
    fail_each(cudaErrorIllegalAddress);
}

static void test_cuda_faults_host_memory(void **state)
{
    (void)state;
    struct life l = begin();
    uint64_t total = 0;
    int refused = 0;
    for (uint64_t at = 0; at <= total; at++) { /* 0: nothing fails */
        emu_card(NULL);
        uint64_t before = mem_alloc_count();
        mem_fail_at((int64_t)at);
        enum status st = live(&l);
        mem_fail_at(0);
        if (at == 0)
            total = mem_alloc_count() - before;
        assert_int_equal(emu_allocated(), 0);
        refused += st != STATUS_OK;
        if (st != STATUS_OK && (st != STATUS_NO_MEMORY || l.err.code != st))
            fail_msg("allocation %llu: %s: %s", (unsigned long long)at, status_code(st), l.err.msg);
    }
    printf("figure: each of %llu allocations fails once, %d refused\n", (unsigned long long)total,
           refused);
    assert_int_equal(refused, (int)total);
    end(&l);
}

/* What is no card for us says why. */
static void test_cuda_faults_no_card(void **state)
{
    (void)state;
    struct backend *b = NULL;
    struct err e = {0};
    emu_no_card();
    assert_int_equal(cuda_backend_open(&(struct backend_options){0}, &b, &e), STATUS_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "cudaErrorNoDevice"));
    emu_card(&(struct emu_options){.arch = 75});
    assert_int_equal(cuda_backend_open(&(struct backend_options){0}, &b, &e), STATUS_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "7.5"));
    emu_card(NULL);
    assert_int_equal(cuda_backend_open(&(struct backend_options){.device = 3}, &b, &e),
                     STATUS_INVALID);
    assert_string_equal(e.param, "device");
    emu_fail_at(1, cudaErrorInsufficientDriver);
    assert_int_equal(cuda_backend_open(&(struct backend_options){0}, &b, &e), STATUS_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "driver"));
    /* A build for other cards: what the card is and how to build for it, before anything is read.
     */
    emu_card(&(struct emu_options){.arch = 89});
    emu_fail_at(4, cudaErrorNoKernelImageForDevice);
    assert_int_equal(cuda_backend_open(&(struct backend_options){0}, &b, &e), STATUS_UNSUPPORTED);
    if (!strstr(e.msg, "8.9") || !strstr(e.msg, "CUDA_ARCHS=89"))
        fail_msg("%s", e.msg);
    assert_null(b);
}

/* Who may use a part of a large card gets the steps of a small one: 12 GiB are the border. */
static void test_cuda_faults_part_of_a_card(void **state)
{
    (void)state;
    static const struct {
        struct backend_options opt;
        bool large;
    } cases[] = {{{.quant = "int4"}, true},
                 {{.memory_bytes = (size_t)7782 << 20}, false},
                 {{.memory_bytes = (size_t)12 << 30}, true},
                 {{.memory_share = 0.1}, false},
                 {{.memory_share = 0.5}, true}};
    emu_card(&(struct emu_options){.memory_bytes = (size_t)80 << 30});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct backend *b = NULL;
        struct err e = {0};
        assert_int_equal(cuda_backend_open(&cases[i].opt, &b, &e), STATUS_OK);
        assert_int_equal(b->ops->rows_best(b) > BACKEND_ROWS, cases[i].large);
        b->ops->close(b);
    }
    emu_card(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_faults_memory),
        cmocka_unit_test(test_cuda_faults_kept),
        cmocka_unit_test(test_cuda_faults_host_memory),
        cmocka_unit_test(test_cuda_faults_no_card),
        cmocka_unit_test(test_cuda_faults_part_of_a_card),
    };
    log_setup(LOG_LEVEL_ERROR + 1, false);
    return cmocka_run_group_tests_name("cuda_faults", tests, NULL, NULL);
}
