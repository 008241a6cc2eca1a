/* engine_open on the bundled demo model with its adapters: the whole chain from files to text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/engine.h"
#include "engine/engine_text.h"

#define DEMO "models/storyteller"

static struct engine_options options(void)
{
    return (struct engine_options){.model_dir = DEMO,
                                   .backend = "cpu",
                                   .isa = "auto",
                                   .threads = 2,
                                   .ctx_max = 256,
                                   .seqs_max = 4,
                                   .rows_max = 64,
                                   .slots_max = 2,
                                   .queue_max = 8,
                                   .wait_bound_steps = 8,
                                   .prefix_cache = true};
}

static enum status ask(struct engine *e, const char *voice, char *text, size_t cap, struct err *err)
{
    struct token_buf prompt = {0};
    struct engine_event ev = {0};
    uint64_t id;
    size_t len = 0;
    static const char question[] = "Tell me a story about a fox.";
    enum status st = engine_text_encode(engine_get_text(e), question, sizeof question - 1, true,
                                        false, &prompt, err);
    struct engine_request r = {.request_id = "test",
                               .prompt = prompt.ids,
                               .prompt_count = (int)prompt.count,
                               .sampling = {.temperature = 0,
                                            .top_p = 1,
                                            .typical_p = 1,
                                            .repetition_penalty = 1,
                                            .logprobs = -1},
                               .max_tokens = 24,
                               .ignore_eos = true,
                               .cache_prompt = true};
    if (voice) {
        r.adapter_count = 1;
        r.adapters[0].weight = 1.0f;
        memcpy(r.adapters[0].name, voice, strlen(voice));
    }
    if (st == STATUS_OK)
        st = engine_submit(e, &r, &id, NULL, err);
    while (st == STATUS_OK && ev.kind < ENGINE_EVENT_DONE) {
        if (engine_read(e, id, &ev, 1) == 0) {
            usleep(200);
            continue;
        }
        assert_true(len + (size_t)ev.text_len < cap);
        memcpy(text + len, ev.text, (size_t)ev.text_len);
        len += (size_t)ev.text_len;
    }
    text[len] = '\0';
    token_buf_deinit(&prompt);
    if (st == STATUS_OK && ev.kind == ENGINE_EVENT_ERROR) {
        *err = ev.err;
        return ev.err.code;
    }
    return st;
}

static enum status add_voice(struct engine *e, struct err *err)
{
    uint64_t generation;
    return engine_adapter_add(e, "villain", DEMO "/adapters/villain", &generation, err);
}

static void test_engine_open_speaks_in_voices(void **state)
{
    (void)state;
    struct engine_options opt = options();
    struct engine *e;
    struct engine_info info;
    struct err err;
    char base[4096], again[4096], voice[4096];
    assert_int_equal(engine_open(&opt, &e, &err), STATUS_OK);
    engine_get_info(e, &info);
    assert_string_equal(info.arch, "llama");
    assert_string_equal(info.backend, "cpu");
    assert_int_equal(info.ctx_max, 256);
    assert_true(info.parameters > 0 && info.vocab > 0);
    assert_int_equal(add_voice(e, &err), STATUS_OK);
    assert_int_equal(ask(e, NULL, base, sizeof base, &err), STATUS_OK);
    assert_int_equal(ask(e, "villain", voice, sizeof voice, &err), STATUS_OK);
    assert_int_equal(ask(e, NULL, again, sizeof again, &err), STATUS_OK);
    assert_true(strlen(base) > 0 && utf8_is_valid(base, strlen(base)));
    assert_string_equal(base, again);
    assert_string_not_equal(base, voice);
    engine_close(e);
}

static void test_engine_open_refuses(void **state)
{
    (void)state;
    const struct {
        const char *dir, *backend;
        enum status status; /* STATUS_OK: any refusal */
    } cases[] = {
        {DEMO, "cuda", STATUS_UNSUPPORTED},
        {DEMO, "abacus", STATUS_INVALID},
        {"/nowhere", "cpu", STATUS_OK},
        {"engine", "cpu", STATUS_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct engine_options opt = options();
        struct engine *e = NULL;
        struct err err = {0};
        opt.model_dir = cases[i].dir;
        opt.backend = cases[i].backend;
        enum status st = engine_open(&opt, &e, &err);
        assert_int_not_equal(st, STATUS_OK);
        assert_true(cases[i].status == STATUS_OK || cases[i].status == st);
        assert_int_equal(err.code, st);
        assert_true(err.msg[0]);
        assert_null(e);
    }
}

/* A whole life with one allocation that fails somewhere: a clean status, nothing left behind (the
 * sanitizer's build counts), and never a wrong answer. */
static void test_engine_open_without_memory(void **state)
{
    (void)state;
    char want[4096];
    uint64_t total = 0;
    int failed = 0;
    for (uint64_t at = 0; at <= total; at++) { /* 0: nothing fails */
        struct engine_options opt = options();
        struct engine *e = NULL;
        struct err err = {0};
        char text[4096];
        uint64_t before = mem_alloc_count();
        mem_fail_at((int64_t)at);
        enum status st = engine_open(&opt, &e, &err);
        if (st == STATUS_OK) {
            st = add_voice(e, &err);
            if (st == STATUS_OK)
                st = ask(e, "villain", text, sizeof text, &err);
            mem_fail_at(0);
            engine_close(e);
        }
        mem_fail_at(0);
        if (at == 0) {
            assert_int_equal(st, STATUS_OK);
            total = mem_alloc_count() - before;
            memcpy(want, text, sizeof want);
        } else if (st == STATUS_OK) {
            assert_string_equal(text, want);
        } else {
            failed++;
            /* A buffer with a cap cannot always tell which of the two it met. */
            if (st != STATUS_NO_MEMORY && !(st == STATUS_LIMIT && strstr(err.msg, "memory")))
                fail_msg("allocation %llu of %llu: %s: %s", (unsigned long long)at,
                         (unsigned long long)total, status_code(st), err.msg);
        }
    }
    printf("figure: engine_open %llu allocations, %d failures refused\n", (unsigned long long)total,
           failed);
    assert_true(failed > 50);
}

/* ---- adapters beyond the memory that they may take ---- */

static void copy_file(const char *from_dir, const char *name, const char *to_dir)
{
    char from[256], to[256], buffer[65536];
    size_t n;
    snprintf(from, sizeof from, "%s/%s", from_dir, name);
    snprintf(to, sizeof to, "%s/%s", to_dir, name);
    FILE *in = fopen(from, "rbe"), *out = fopen(to, "wbe");
    assert_true(in && out);
    while ((n = fread(buffer, 1, sizeof buffer, in)) > 0)
        assert_int_equal(fwrite(buffer, 1, n, out), n);
    assert_int_equal(fclose(in) | fclose(out), 0);
}

static void copy_adapter(const char *from, const char *to)
{
    copy_file(from, "adapter_config.json", to);
    copy_file(from, "adapter_model.safetensors", to);
}

/* They are read again, the same to the bit; files that changed meanwhile are an error. */
static void test_engine_open_reads_adapters_again(void **state)
{
    (void)state;
    struct engine_options opt = options();
    struct engine *e;
    struct err err = {0};
    struct engine_adapter_info info[2];
    uint64_t generation;
    char dir[] = "/tmp/chorus-adapter-XXXXXX", file[256];
    char first[4096], again[4096], elf[4096];
    assert_non_null(mkdtemp(dir));
    copy_adapter(DEMO "/adapters/villain", dir);
    opt.slots_max = 1;
    opt.host_adapter_bytes = 1;
    assert_int_equal(engine_open(&opt, &e, &err), STATUS_OK);
    assert_int_equal(engine_adapter_add(e, "villain", dir, &generation, &err), STATUS_OK);
    assert_int_equal(
        engine_adapter_add(e, "wood-elf", DEMO "/adapters/wood-elf", &generation, &err), STATUS_OK);
    assert_int_equal(ask(e, "villain", first, sizeof first, &err), STATUS_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(e, "wood-elf", elf, sizeof elf, &err), STATUS_OK);
        assert_int_equal(ask(e, "villain", again, sizeof again, &err), STATUS_OK);
        assert_string_equal(first, again);
        assert_string_not_equal(first, elf);
    }
    assert_int_equal(engine_adapters(e, info, 2), 2);
    assert_true(info[0].disk_reads >= 4 && info[1].evictions >= 3);
    copy_adapter(DEMO "/adapters/wood-elf", dir);
    assert_int_equal(ask(e, "wood-elf", elf, sizeof elf, &err), STATUS_OK);
    assert_int_equal(ask(e, "villain", again, sizeof again, &err), STATUS_CONFLICT);
    assert_int_equal(engine_adapter_add(e, "villain", dir, &generation, &err), STATUS_OK);
    assert_int_equal(ask(e, "villain", again, sizeof again, &err), STATUS_OK);
    assert_string_equal(again, elf);
    engine_close(e);
    snprintf(file, sizeof file, "%s/adapter_config.json", dir);
    assert_int_equal(unlink(file), 0);
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", dir);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_open_speaks_in_voices),
        cmocka_unit_test(test_engine_open_refuses),
        cmocka_unit_test(test_engine_open_reads_adapters_again),
        cmocka_unit_test(test_engine_open_without_memory),
    };
    log_setup(LOG_LEVEL_ERROR + 1, false);
    return cmocka_run_group_tests_name("engine_open", tests, NULL, NULL);
}
