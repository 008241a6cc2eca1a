#include "tests/sim/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "tests/sim/fake_text.h"
#include "tests/sim/oracle.h"

#define WAIT_NS INT64_C(60000000000)

struct engine_options rig_options(void)
{
    return (struct engine_options){.model_dir = "fake",
                                   .backend = "fake",
                                   .seqs_max = 4,
                                   .rows_max = 32,
                                   .chunk_max = 24,
                                   .kv_pages = 128,
                                   .slots_max = 3,
                                   .queue_max = 64,
                                   .wait_bound_steps = 8,
                                   .prefix_cache = true};
}

static void start(struct rig *rig, const struct engine_options *opt, bool live, size_t room)
{
    struct err err = {0};
    memset(rig, 0, sizeof *rig);
    fake_model_init(&rig->model, RIG_CTX);
    rig->f = fake_backend_open(live);
    if (live)
        fake_backend_set_room(rig->f, room, true);
    struct engine_parts parts = {.model = &rig->model,
                                 .eos = fake_eos,
                                 .eos_count = FAKE_EOS_COUNT,
                                 .backend = &rig->f->base,
                                 .detok = fake_detok,
                                 .adapters = fake_adapters,
                                 .threaded = live};
    if (engine_create(opt, &parts, &rig->e, &err) != STATUS_OK)
        fail_msg("%s", err.msg);
    for (int i = 0; i < RIG_CTX; i++)
        rig->prompt[i] = 3 + (i * 7 + i / 5) % (FAKE_VOCAB - 3);
}

void rig_open(struct rig *rig, const struct engine_options *opt)
{
    start(rig, opt, false, 0);
}

void rig_open_live(struct rig *rig, const struct engine_options *opt, size_t room)
{
    start(rig, opt, true, room);
}

void rig_close(struct rig *rig)
{
    if (!rig->e->thread_started)
        engine_check(rig->e);
    engine_close(rig->e);
    assert_int_equal(fake_adapters_alive() + fake_images_alive(), 0);
}

struct engine_request rig_request(struct rig *rig, int prompt_count, uint64_t seed, int max_tokens)
{
    return (struct engine_request){
        .request_id = "test",
        .prompt = rig->prompt,
        .prompt_count = prompt_count,
        .sampling = {.temperature = 1,
                     .top_p = 1,
                     .typical_p = 1,
                     .repetition_penalty = 1,
                     .seed = seed,
                     .logprobs = -1},
        .max_tokens = max_tokens,
        .ignore_eos = true,
        .cache_prompt = true,
    };
}

void rig_use(struct engine_request *r, const char *name, float weight)
{
    struct engine_adapter_use *u = &r->adapters[r->adapter_count++];
    *u = (struct engine_adapter_use){.weight = weight};
    snprintf(u->name, sizeof u->name, "%s", name);
}

uint64_t rig_add(struct rig *rig, const char *name, const char *path)
{
    struct err err = {0};
    uint64_t generation = 0;
    if (engine_adapter_add(rig->e, name, path, &generation, &err) != STATUS_OK)
        fail_msg("%s", err.msg);
    return generation;
}

uint64_t rig_submit(struct rig *rig, const struct engine_request *r)
{
    struct err err = {0};
    uint64_t id = 0;
    if (engine_submit(rig->e, r, &id, NULL, &err) != STATUS_OK)
        fail_msg("%s", err.msg);
    return id;
}

void rig_hear(struct rig *rig, uint64_t id, struct rig_heard *h)
{
    struct engine_event ev;
    while (engine_read(rig->e, id, &ev, 1) == 1) {
        assert_false(h->ended);
        if (ev.kind == ENGINE_EVENT_TOKEN)
            h->tokens[h->count++] = ev.token;
        h->last = ev;
        h->ended = ev.kind >= ENGINE_EVENT_DONE;
    }
}

void rig_run(struct rig *rig, uint64_t id, struct rig_heard *h)
{
    memset(h, 0, sizeof *h);
    for (int turns = 0; !h->ended; turns++) {
        assert_true(turns < 20000);
        engine_turn(rig->e);
        engine_check(rig->e);
        rig_hear(rig, id, h);
    }
}

void rig_wait(struct rig *rig, uint64_t id, struct rig_heard *h)
{
    int64_t until_ns = clock_now_ns() + WAIT_NS;
    memset(h, 0, sizeof *h);
    for (rig_hear(rig, id, h); !h->ended; rig_hear(rig, id, h)) {
        assert_true(clock_now_ns() < until_ns);
        usleep(50);
    }
}

void rig_expect(const struct engine_request *r, uint64_t identity, const struct rig_heard *h)
{
    struct oracle o;
    oracle_answer(r, identity, r->max_tokens, &o);
    if (h->last.kind == ENGINE_EVENT_ERROR)
        fail_msg("%s", h->last.err.msg);
    assert_int_equal(h->last.kind, ENGINE_EVENT_DONE);
    assert_int_equal(h->count, o.count);
    for (int i = 0; i < o.count; i++)
        assert_int_equal(h->tokens[i], o.tokens[i].token);
    oracle_deinit(&o);
}

struct engine_adapter_info rig_info(struct rig *rig, const char *name)
{
    static struct engine_adapter_info all[LIMIT_ADAPTERS];
    int n = engine_adapters(rig->e, all, LIMIT_ADAPTERS);
    for (int i = 0; i < n; i++)
        if (strcmp(all[i].name, name) == 0 && !all[i].draining)
            return all[i];
    fail_msg("there is no adapter '%s'", name);
    return all[0];
}
