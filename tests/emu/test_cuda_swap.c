/* Adapters come and go on the card while steps fly: a slot is given to another, extents move, and
 * every step answers as if it were alone with the adapter that its slot held when it was launched.
 * The thread of the steps makes no call meanwhile that could wait for the device. And cards that
 * give a block 99 KB of shared memory answer as those that give 227 do. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/cuda_state.h"
#include "engine/base/log.h"
#include "engine/model/forward.h"
#include "tests/emu/emu.h"
#include "tests/unit/cpu_fixture.h"

enum { TOP = 8, ADAPTERS = 5 };

static const struct backend_plan plan = {.rows_max = 8,
                                         .seqs_max = 2,
                                         .outs_max = 4,
                                         .segments_max = 8,
                                         .slots_max = 4,
                                         .pages = 4,
                                         .ctx_max = 32};

/* By number: small, medium, as medium, larger than the bounce buffer, with gains. */
static const struct fixture_lora kinds[ADAPTERS] = {
    {.rank = 4, .attention = true, .dtype = DTYPE_BF16, .strength = 0.4},
    {.rank = 16, .attention = true, .mlp = true, .dtype = DTYPE_BF16, .strength = 0.4},
    {.rank = 16, .attention = true, .mlp = true, .dtype = DTYPE_BF16, .strength = 0.4},
    {.rank = 512, .attention = true, .mlp = true, .dtype = DTYPE_BF16, .strength = 0.4},
    {.rank = 16,
     .attention = true,
     .mlp = true,
     .dora = true,
     .dtype = DTYPE_BF16,
     .strength = 0.4},
};

/* A step of one row, the first of its sequence. */
struct one_row {
    int32_t token, position, seq, begin[2], kv_len, page, out_row;
    struct batch_segment segment;
    struct sample_params params;
    struct sample_row out;
    struct batch batch;
};

struct world {
    struct backend *b;
    struct model *model;
    struct lora *loras[ADAPTERS];
    struct sample_result alone[ADAPTERS];
    struct one_row rows[BACKEND_FLIGHTS];
    int next;       /* of rows */
    uint64_t waits; /* that finishing steps takes is left out */
};

/* Calls that wait, but for results. */
static uint64_t waits_of(const struct world *w)
{
    return emu_waits() - w->waits;
}

static void launch(struct world *w, int slot)
{
    struct one_row *r = &w->rows[w->next++ % BACKEND_FLIGHTS];
    *r = (struct one_row){
        .token = 7,
        .begin = {0, 1},
        .kv_len = 1,
        .page = w->next % plan.pages,
        .segment = {.slot = slot, .weight = 1, .row_begin = 0, .row_end = 1},
        .params = {.top_p = 1, .typical_p = 1, .repetition_penalty = 1, .logprobs = TOP}};
    r->out = (struct sample_row){.params = &r->params, .forced = -1};
    r->batch = (struct batch){.rows = 1,
                              .seqs = 1,
                              .segment_count = 1,
                              .out_count = 1,
                              .page_stride = 1,
                              .token = &r->token,
                              .position = &r->position,
                              .seq_of_row = &r->seq,
                              .row_begin = r->begin,
                              .kv_len = &r->kv_len,
                              .page_table = &r->page,
                              .segments = &r->segment,
                              .out_row = &r->out_row,
                              .out = &r->out};
    assert_int_equal(w->b->ops->step_begin(w->b, &r->batch), STATUS_OK);
    forward(w->b, w->model->shape.layers);
    assert_int_equal(w->b->ops->step_launch(w->b), STATUS_OK);
}

static struct sample_result finish(struct world *w)
{
    struct sample_result result;
    struct err e = {0};
    uint64_t before = emu_waits();
    assert_int_equal(w->b->ops->step_finish(w->b, &result, &e), STATUS_OK);
    w->waits += emu_waits() - before;
    return result;
}

static void same(const struct sample_result *got, const struct sample_result *want,
                 const char *what, int adapter)
{
    for (int i = 0; i < TOP; i++)
        if (got->top[i].token != want->top[i].token || got->top[i].logprob != want->top[i].logprob)
            fail_msg("%s, adapter %d, candidate %d: %d (%a), alone %d (%a)", what, adapter, i,
                     got->top[i].token, (double)got->top[i].logprob, want->top[i].token,
                     (double)want->top[i].logprob);
}

static void expect(struct world *w, int adapter)
{
    struct sample_result got = finish(w);
    same(&got, &w->alone[adapter], "in a step", adapter);
}

/* ---- an adapter on its way ---- */

struct sending {
    struct backend *b;
    int slot;
    struct backend_image *image;
    enum status status;
};

static void *upload(void *arg)
{
    struct sending *s = arg;
    struct err e = {0};
    s->status = s->b->ops->adapter_upload(s->b, s->slot, s->image, &e);
    return NULL;
}

static struct sending place(struct world *w, int slot, int adapter)
{
    struct sending s = {.b = w->b, .slot = slot};
    struct err e = {0};
    assert_int_equal(w->b->ops->adapter_pack(w->b, w->loras[adapter], &s.image, &e), STATUS_OK);
    if (w->b->ops->adapter_place(w->b, slot, s.image, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    return s;
}

static void commit(struct world *w, struct sending *s)
{
    pthread_t thread;
    struct err e = {0};
    assert_int_equal(pthread_create(&thread, NULL, upload, s), 0);
    pthread_join(thread, NULL);
    assert_int_equal(s->status, STATUS_OK);
    assert_int_equal(w->b->ops->adapter_commit(w->b, s->slot, s->image, &e), STATUS_OK);
    w->b->ops->image_free(s->image);
}

static void load(struct world *w, int slot, int adapter)
{
    struct err e = {0};
    assert_int_equal(w->b->ops->adapter_load(w->b, slot, w->loras[adapter], &e), STATUS_OK);
}

static void open_world_on(struct world *w, const struct emu_options *card, const char *quant)
{
    struct model_shape s = fixture_shape(ARCH_LLAMA);
    struct backend_options opt = {.quant = quant, .deterministic = true};
    struct err e = {0};
    emu_card(card);
    *w = (struct world){.model = fixture_model(&s, DTYPE_BF16, 5)};
    if (cuda_backend_open(&opt, &w->b, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    size_t bytes = 0;
    for (int i = 0; i < ADAPTERS; i++)
        w->loras[i] = fixture_lora(&s, &kinds[i], 100 + (uint64_t)i);
    for (int i = 0; i < 4; i++) {
        cuda_backend_of(w->b)->w.shape = s;
        bytes += w->b->ops->adapter_bytes(w->b, w->loras[i]);
    }
    cuda_backend_of(w->b)->opt.arena_bytes = bytes;
    if (w->b->ops->model_load(w->b, w->model, &plan, NULL, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    for (int i = 0; i < ADAPTERS; i++) {
        load(w, 0, i);
        launch(w, 0);
        w->alone[i] = finish(w);
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(&w->alone[i], &w->alone[k], sizeof w->alone[i]);
        w->b->ops->adapter_unload(w->b, 0);
    }
}

static void open_world(struct world *w)
{
    open_world_on(w, NULL, "none");
}

static void close_world(struct world *w)
{
    w->b->ops->close(w->b);
    for (int i = 0; i < ADAPTERS; i++)
        fixture_lora_free(w->loras[i]);
    fixture_model_free(w->model);
    assert_int_equal(emu_allocated(), 0);
}

/* The slot's next adapter lies where the last one lay. */
static void test_cuda_swap_behind_a_step_in_flight(void **state)
{
    (void)state;
    static const int order[] = {1, 2, 4, 1, 4, 2};
    struct world w;
    open_world(&w);
    load(&w, 0, order[0]);
    uint64_t waits = waits_of(&w);
    launch(&w, 0);
    for (int i = 1; i < 6; i++) {
        w.b->ops->adapter_unload(w.b, 0);
        struct sending s = place(&w, 0, order[i]);
        commit(&w, &s);
        launch(&w, 0); /* the one before still flies, for all that we know */
        expect(&w, order[i - 1]);
    }
    assert_int_equal(waits_of(&w), waits);
    expect(&w, order[5]);
    close_world(&w);
}

/* A hole in front is too small for what comes, so all behind it move down: by less than their size,
 * through the bounce buffer, in one part and in several. */
static void test_cuda_swap_moves_what_flies(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    size_t large = w.b->ops->adapter_bytes(w.b, w.loras[3]);
    assert_true(large > ((size_t)2 << 20));
    for (int i = 0; i < 4; i++)
        load(&w, i, i);
    uint64_t waits = waits_of(&w);
    launch(&w, 3);
    w.b->ops->adapter_unload(w.b, 0);
    w.b->ops->adapter_unload(w.b, 2); /* 1 and 3 stay, a hole in front of each */
    struct sending s = place(&w, 0, 4);
    assert_int_equal(cuda_backend_of(w.b)->slots.arena.extents[0].slot, 1);
    launch(&w, 3); /* moved, and what is on its way lies behind or between */
    expect(&w, 3);
    launch(&w, 1);
    expect(&w, 3);
    commit(&w, &s);
    launch(&w, 0);
    expect(&w, 1);
    launch(&w, 3);
    assert_int_equal(waits_of(&w), waits);
    expect(&w, 4);
    expect(&w, 3);
    close_world(&w);
}

/* With one multiprocessor a block has passes of as many tiles as it ever has: what needs most
 * memory.
 */
static void test_cuda_swap_on_cards_of_99_kib(void **state)
{
    (void)state;
    static const char *const quants[] = {"none", "int8", "int4"};
    static const struct emu_options card = {.arch = 86, .sms = 1};
    for (int i = 0; i < 3; i++) {
        struct world large, small;
        open_world_on(&large, &(struct emu_options){.sms = 1}, quants[i]);
        close_world(&large);
        open_world_on(&small, &card, quants[i]);
        for (int k = 0; k < ADAPTERS; k++)
            same(&small.alone[k], &large.alone[k], quants[i], k);
        close_world(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_swap_behind_a_step_in_flight),
        cmocka_unit_test(test_cuda_swap_moves_what_flies),
        cmocka_unit_test(test_cuda_swap_on_cards_of_99_kib),
    };
    log_setup(LOG_LEVEL_WARN, false);
    return cmocka_run_group_tests_name("cuda_swap", tests, NULL, NULL);
}
