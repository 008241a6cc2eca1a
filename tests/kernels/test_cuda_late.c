/* Late steps on the CUDA backend: the pass of a step is launched behind the one before, and its
 * draws when that one was told of. Each sequence draws the same tokens, bit for bit, as with one
 * step at a time: held to masks that follow from its last token, with penalties, drawn by the host,
 * beside others that ask for nothing, that join with a prompt, and that end meanwhile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda_state.h"
#include "engine/base/log.h"
#include "engine/model/forward.h"
#include "tests/kernels/kernel_test.h"
#include "tests/unit/cpu_fixture.h"

enum { SEQS = 9, TOKENS = 24, PROMPT_MAX = 6, MASK_IDS = 40 };

static const struct backend_plan plan = {.rows_max = 100,
                                         .seqs_max = 16,
                                         .outs_max = 16,
                                         .segments_max = 64,
                                         .slots_max = 2,
                                         .pages = 40,
                                         .ctx_max = 64};

struct speaker {
    bool masked;
    struct sample_params params;
    int adapters; /* 0 or 1 */
    int prompt_count;
    int joins; /* the step it begins with */
    int most;  /* tokens it makes */
    /* while it speaks */
    int32_t tokens[PROMPT_MAX + TOKENS + 1];
    float logprobs[PROMPT_MAX + TOKENS];
    int32_t pages[2];
    uint32_t *mask; /* owned */
    int count, computed;
    bool pending, ended;
    int pending_out;
};

struct flight {
    struct batch_builder builder;
    struct batch_seq shares[SEQS];
    struct speaker *seqs[SEQS];
    int count;
};

struct world {
    struct backend *b;
    struct model *model;
    struct lora *lora;
    int vocab;
    struct flight flights[BACKEND_FLIGHTS];
    int late, late_graphs, rows_for_nothing;
};

static void make_speakers(const struct world *w, struct speaker *s)
{
    for (int i = 0; i < SEQS; i++) {
        s[i] = (struct speaker){
            .masked = i % 2 == 0,
            .params = {.temperature = i % 3 ? 0.9f : 0.0f,
                       .top_p = i % 4 == 1 ? 0.9f : 1.0f,
                       .typical_p = i == 4 ? 0.7f : 1.0f, /* the host draws */
                       .repetition_penalty = i == 3 || i == 6 ? 1.7f : 1.0f,
                       .frequency_penalty = i == 5 ? 0.8f : 0.0f,
                       .seed = (uint64_t)i + 11,
                       .logprobs = 2},
            .adapters = i % 3 == 1,
            .prompt_count = i == 7 || i == 8 ? PROMPT_MAX : 1,
            .joins = i == 7   ? 4
                     : i == 8 ? 9
                              : 0,
            .most = i == 2   ? 5
                    : i == 1 ? 7
                             : TOKENS - 2 * i % 5,
            .pages = {2 * i, 2 * i + 1},
        };
        for (int t = 0; t < s[i].prompt_count; t++)
            s[i].tokens[t] = (3 + 7 * i + 5 * t) % w->vocab;
        s[i].count = s[i].prompt_count;
        s[i].mask = calloc((size_t)w->vocab / 32 + 1, sizeof *s[i].mask);
        assert_non_null(s[i].mask);
    }
}

/* What may come next follows from the last token and from how many there are. */
static void next_mask(const struct world *w, struct speaker *s)
{
    uint64_t seed = (uint64_t)s->tokens[s->count - 1] * 64 + (uint64_t)s->count;
    memset(s->mask, 0, ((size_t)w->vocab / 32 + 1) * sizeof *s->mask);
    for (int i = 0; i < MASK_IDS; i++) {
        uint32_t id = kernel_test_below(&seed, (uint32_t)w->vocab);
        s->mask[id / 32] |= 1u << id % 32;
    }
}

static void pack(struct world *w, struct flight *f, struct speaker *s, int step)
{
    bool late = false;
    f->count = 0;
    for (int i = 0; i < SEQS; i++) {
        if (s[i].ended || step < s[i].joins)
            continue;
        const int have = s[i].count + s[i].pending;
        if (s[i].pending)
            s[i].tokens[s[i].count] = -1 - s[i].pending_out;
        else if (s[i].masked)
            next_mask(w, &s[i]);
        late = late || (s[i].pending && (s[i].masked || !sample_is_blind(&s[i].params)));
        f->seqs[f->count] = &s[i];
        f->shares[f->count++] = (struct batch_seq){.tokens = s[i].tokens,
                                                   .token_count = have,
                                                   .prompt_count = s[i].prompt_count,
                                                   .computed = s[i].computed,
                                                   .rows = have - s[i].computed,
                                                   .pages = s[i].pages,
                                                   .page_count = 2,
                                                   .adapter_count = s[i].adapters,
                                                   .weights = {0.8f},
                                                   .score_from = s[i].prompt_count,
                                                   .params = &s[i].params,
                                                   .mask = s[i].masked ? s[i].mask : NULL};
        s[i].computed = have;
    }
    batch_build(&f->builder, f->shares, f->count);
    f->builder.batch.late = late;
    for (int o = 0; o < f->builder.batch.out_count; o++) {
        f->seqs[f->builder.out_seq[o]]->pending = true;
        f->seqs[f->builder.out_seq[o]]->pending_out = o;
    }
}

static void launch(struct world *w, struct flight *f)
{
    const struct batch *b = &f->builder.batch;
    assert_int_equal(w->b->ops->step_begin(w->b, b), STATUS_OK);
    w->late += b->late;
    w->late_graphs += b->late && cuda_backend_of(w->b)->step.graph;
    if (b->late)
        assert_int_equal(cuda_backend_of(w->b)->step.graph != NULL, b->rows == b->seqs);
    forward(w->b, w->model->shape.layers);
    assert_int_equal(w->b->ops->step_launch(w->b), STATUS_OK);
}

/* As the engine does: who ended is nobody in the step behind. */
static void forget(struct world *w, struct flight *f, const struct speaker *s)
{
    static const struct sample_params nothing = {.logprobs = -1};
    for (int o = 0; o < f->builder.batch.out_count; o++)
        if (f->count > 0 && f->seqs[f->builder.out_seq[o]] == s) {
            f->builder.batch.out[o] = (struct sample_row){.params = &nothing, .forced = 0};
            w->rows_for_nothing++;
        }
}

static void settle(struct world *w, struct flight *f, struct flight *behind)
{
    struct sample_result results[SEQS];
    struct err e = {0};
    assert_int_equal(w->b->ops->step_finish(w->b, results, &e), STATUS_OK);
    for (int o = 0; o < f->builder.batch.out_count; o++) {
        struct speaker *s = f->seqs[f->builder.out_seq[o]];
        if (s->ended)
            continue;
        s->logprobs[s->count] = results[o].top[1].logprob + results[o].logprob;
        s->tokens[s->count++] = results[o].token;
        s->pending = behind && s->computed == s->count;
        if (s->masked && !(s->mask[results[o].token / 32] >> results[o].token % 32 & 1))
            fail_msg("token %d is not in the mask", results[o].token);
        s->ended = s->count == s->prompt_count + s->most;
        if (s->ended && behind)
            forget(w, behind, s);
        else if (s->masked)
            next_mask(w, s);
    }
    f->count = 0;
}

static bool all_ended(const struct speaker *s)
{
    for (int i = 0; i < SEQS; i++)
        if (!s[i].ended)
            return false;
    return true;
}

static void run(struct world *w, struct speaker *s, bool ahead)
{
    struct flight *before = NULL;
    make_speakers(w, s);
    for (int step = 0; before || !all_ended(s); step++) {
        struct flight *f = &w->flights[step % BACKEND_FLIGHTS];
        pack(w, f, s, step);
        if (f->count > 0)
            launch(w, f);
        if (!ahead) {
            settle(w, f, NULL);
            continue;
        }
        if (before)
            settle(w, before, f);
        if (f->count > 0 && f->builder.batch.late)
            assert_int_equal(w->b->ops->step_draw(w->b), STATUS_OK);
        before = f->count > 0 ? f : NULL;
    }
}

static void compare(const struct speaker *want, const struct speaker *got)
{
    for (int i = 0; i < SEQS; i++) {
        assert_int_equal(got[i].count, want[i].count);
        for (int t = 0; t < want[i].count; t++)
            if (got[i].tokens[t] != want[i].tokens[t] ||
                (t >= want[i].prompt_count &&
                 memcmp(&got[i].logprobs[t], &want[i].logprobs[t], sizeof(float)) != 0))
                fail_msg("sequence %d, token %d: %d (%a), not %d (%a)", i, t, got[i].tokens[t],
                         (double)got[i].logprobs[t], want[i].tokens[t],
                         (double)want[i].logprobs[t]);
    }
}

static void open_world(struct world *w)
{
    struct model_shape s = fixture_shape(ARCH_LLAMA);
    struct fixture_lora f = {
        .rank = 8, .attention = true, .mlp = true, .dtype = DTYPE_BF16, .strength = 0.4};
    struct backend_options opt = {.quant = "none", .deterministic = true};
    struct err e = {0};
    *w = (struct world){.model = fixture_model(&s, DTYPE_BF16, 5),
                        .lora = fixture_lora(&s, &f, 1000),
                        .vocab = s.vocab};
    if (cuda_backend_open(&opt, &w->b, &e) != STATUS_OK ||
        w->b->ops->model_load(w->b, w->model, &plan, NULL, &e) != STATUS_OK ||
        w->b->ops->adapter_load(w->b, 0, w->lora, &e) != STATUS_OK)
        fail_msg("backend: %s", e.msg);
    for (int i = 0; i < BACKEND_FLIGHTS; i++)
        assert_int_equal(batch_init(&w->flights[i].builder, plan.rows_max, plan.seqs_max,
                                    plan.outs_max, plan.ctx_max),
                         STATUS_OK);
}

static void close_world(struct world *w)
{
    for (int i = 0; i < BACKEND_FLIGHTS; i++)
        batch_deinit(&w->flights[i].builder);
    w->b->ops->close(w->b);
    fixture_lora_free(w->lora);
    fixture_model_free(w->model);
}

static void test_cuda_late_answers_as_one_step_at_a_time(void **state)
{
    (void)state;
    struct world w;
    struct speaker want[SEQS], got[SEQS];
    open_world(&w);
    run(&w, want, false);
    assert_int_equal(w.late, 0);
    run(&w, got, true);
    compare(want, got);
    printf("figure: %d late steps, %d of them graphs, %d rows for nothing\n", w.late, w.late_graphs,
           w.rows_for_nothing);
    assert_true(w.late_graphs > 10 && w.late > w.late_graphs && w.rows_for_nothing >= SEQS - 1);
    for (int i = 0; i < SEQS; i++) {
        free(want[i].mask);
        free(got[i].mask);
    }
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_late_answers_as_one_step_at_a_time),
    };
    log_setup(LOG_LEVEL_WARN, false);
    return kernel_test_run("cuda_late", tests, sizeof tests / sizeof *tests);
}
