/* model_open: what binds, what is refused and by which name. Models are written here, tensor by
 * tensor; those of tests/golden come from transformers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/model/model.h"
#include "tests/unit/fixture_files.h"
#include "tests/unit/fixture_golden.h"

#define HIDDEN 8
#define HEADS  2
#define KV     1
#define DIM    6 /* not hidden / heads */
#define FFN    12
#define VOCAB  10
#define LAYERS 2

#define SHAPE                                                                                      \
    "\"hidden_size\":8,\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":6,"        \
    "\"intermediate_size\":12,\"vocab_size\":10,\"num_hidden_layers\":2,"                          \
    "\"max_position_embeddings\":64,\"sliding_window\":null"

/* ---- a model as a list of tensors ---- */

struct set {
    struct fixture_tensor t[64];
    char names[64][96];
    size_t n;
};

static void add(struct set *s, const char *dtype, int rows, int cols, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->names[s->n], sizeof s->names[0], fmt, ap);
    va_end(ap);
    s->t[s->n] = (struct fixture_tensor){.name = s->names[s->n],
                                         .dtype = dtype,
                                         .rank = rows > 0 ? 2 : 1,
                                         .shape = {rows > 0 ? rows : cols, cols}};
    s->n++;
}

static struct fixture_tensor *get(struct set *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->t[i].name, name) == 0)
            return &s->t[i];
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static void drop(struct set *s, const char *name)
{
    struct fixture_tensor *t = get(s, name);
    size_t i = (size_t)(t - s->t);
    for (; i + 1 < s->n; i++)
        s->t[i] = s->t[i + 1];
    s->n--;
}

static void build(struct set *s, enum model_arch arch, const char *body, const char *head)
{
    static const char *const linears[] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    static const int dims[][2] = {{HEADS * DIM, HIDDEN}, {KV * DIM, HIDDEN}, {KV * DIM, HIDDEN},
                                  {HIDDEN, HEADS * DIM}, {FFN, HIDDEN},      {FFN, HIDDEN},
                                  {HIDDEN, FFN}};
    s->n = 0;
    add(s, "BF16", VOCAB, HIDDEN, "%sembed_tokens.weight", body);
    add(s, "F32", 0, HIDDEN, "%snorm.weight", body);
    add(s, "BF16", VOCAB, HIDDEN, "%slm_head.weight", head);
    for (int l = 0; l < LAYERS; l++) {
        add(s, "F32", 0, HIDDEN, "%slayers.%d.input_layernorm.weight", body, l);
        add(s, "F16", 0, HIDDEN, "%slayers.%d.post_attention_layernorm.weight", body, l);
        for (int k = 0; k < LINEAR_COUNT; k++) {
            add(s, "BF16", dims[k][0], dims[k][1], "%slayers.%d.%s.weight", body, l, linears[k]);
            if (arch == ARCH_QWEN2 && k < 3)
                add(s, "BF16", 0, dims[k][0], "%slayers.%d.%s.bias", body, l, linears[k]);
        }
        for (int k = 0; arch == ARCH_QWEN3 && k < 2; k++)
            add(s, "F32", 0, DIM, "%slayers.%d.self_attn.%c_norm.weight", body, l, "qk"[k]);
    }
}

static const char *const types[] = {"llama", "mistral", "qwen2", "qwen3"};

static void write_config(const struct fixture_dir *d, enum model_arch arch, const char *more)
{
    char text[1024];
    snprintf(text, sizeof text, "{\"model_type\":\"%s\"," SHAPE "%s}", types[arch], more);
    fixture_write_text(d, "config.json", text);
}

static void write_model(const struct fixture_dir *d, enum model_arch arch, const char *more,
                        const struct set *s)
{
    write_config(d, arch, more);
    fixture_write_tensors(d, "model.safetensors", s->t, s->n);
}

static void expect(const struct fixture_dir *d, const char *what, enum status want,
                   const char *param, const char *in_message)
{
    struct model *m = NULL;
    struct err e = {0};
    enum status st = model_open(d->path, NULL, &m, &e);
    if (st != want || (st != STATUS_OK && strcmp(e.param, param) != 0) ||
        (st != STATUS_OK && in_message && !strstr(e.msg, in_message)))
        fail_msg("%s: %s [%s] \"%s\", expected %s [%s] \"%s\"", what, status_code(st), e.param,
                 e.msg, status_code(want), param, in_message ? in_message : "");
    if (st == STATUS_OK)
        model_close(m);
}

/* ---- binding ---- */

static void test_model_binds_every_tensor(void **state)
{
    (void)state;
    for (int arch = 0; arch < ARCH_COUNT; arch++) {
        struct fixture_dir d;
        struct set s;
        struct model *m = NULL;
        struct err e = {0};
        fixture_dir_make(&d);
        build(&s, (enum model_arch)arch, "model.", "");
        write_model(&d, (enum model_arch)arch, "", &s);
        if (model_open(d.path, NULL, &m, &e) != STATUS_OK)
            fail_msg("%s: %s", types[arch], e.msg);
        size_t bytes = 0;
        int64_t count = 0;
        for (size_t i = 0; i < s.n; i++) {
            int64_t k = s.t[i].shape[0] * (s.t[i].rank == 2 ? s.t[i].shape[1] : 1);
            count += k;
            bytes += (size_t)k * (s.t[i].dtype[1] == '3' ? 4 : 2);
        }
        assert_int_equal(m->weight_bytes, bytes);
        assert_int_equal(m->parameters, count);
        assert_int_equal(m->shape.arch, arch);
        assert_true(m->lm_head.data != m->embed.data);
        assert_int_equal(m->layers[1].bias[LINEAR_V].data != NULL, arch == ARCH_QWEN2);
        assert_null(m->layers[1].bias[LINEAR_O].data);
        assert_int_equal(m->layers[1].k_norm.data != NULL, arch == ARCH_QWEN3);
        for (int site = 0; site < LAYERS * LINEAR_COUNT; site++) {
            int in;
            int out;
            const struct tensor *t = &m->layers[site / LINEAR_COUNT].linear[site % LINEAR_COUNT];
            model_site_dims(&m->shape, site, &in, &out);
            assert_int_equal(t->rows, out);
            assert_int_equal(t->cols, in);
        }
        model_close(m);
        fixture_dir_remove(&d);
    }
}

static void test_model_names_what_is_missing(void **state)
{
    (void)state;
    for (int arch = 0; arch < ARCH_COUNT; arch++) {
        struct fixture_dir d;
        struct set all;
        fixture_dir_make(&d);
        build(&all, (enum model_arch)arch, "model.", "");
        for (size_t i = 0; i < all.n; i++) {
            struct set s;
            build(&s, (enum model_arch)arch, "model.", "");
            drop(&s, all.names[i]);
            write_model(&d, (enum model_arch)arch, "", &s);
            expect(&d, "missing", STATUS_BAD_FILE, all.names[i], "is missing");
        }
        fixture_dir_remove(&d);
    }
}

static void test_model_names_wrong_shapes_and_types(void **state)
{
    (void)state;
    struct fixture_dir d;
    struct set all;
    fixture_dir_make(&d);
    build(&all, ARCH_QWEN2, "model.", "");
    for (size_t i = 0; i < all.n; i++) {
        for (int way = 0; way < 4; way++) {
            struct set s;
            build(&s, ARCH_QWEN2, "model.", "");
            struct fixture_tensor *t = get(&s, all.names[i]);
            if (way == 0)
                t->shape[0]++;
            else if (way == 1)
                t->shape[t->rank - 1]--;
            else if (way == 2)
                t->shape[t->rank++] = 1; /* [n] becomes [n, 1] */
            else
                t->dtype = "I32";
            write_model(&d, ARCH_QWEN2, "", &s);
            expect(&d, "wrong shape or type", STATUS_BAD_FILE, all.names[i],
                   way == 3 ? "dtype I32" : "shape [");
        }
    }
    fixture_dir_remove(&d);
}

static void test_model_refuses_what_it_does_not_know(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool refused;
    } extra[] = {
        {"model.layers.0.self_attn.rotary_emb.inv_freq", false},
        {"model.layers.2.self_attn.q_proj.weight", true},
        {"model.layers.0.self_attn.q_norm.weight", true},
        {"model.layers.0.self_attn.o_proj.bias", true},
        {"lm_head.bias", true},
        {"vision_tower.x", true},
        {"zzz", true},
    };
    struct fixture_dir d;
    fixture_dir_make(&d);
    for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
        struct set s;
        build(&s, ARCH_LLAMA, "model.", "");
        add(&s, "F32", 0, 4, "%s", extra[i].name);
        write_model(&d, ARCH_LLAMA, "", &s);
        expect(&d, extra[i].name, extra[i].refused ? STATUS_BAD_FILE : STATUS_OK, extra[i].name,
               "has no place in a llama model");
    }
    fixture_dir_remove(&d);
}

/* ---- tied heads ---- */

static void test_model_ties_as_transformers(void **state)
{
    (void)state;
    static float ones[VOCAB * HIDDEN];
    static float other[VOCAB * HIDDEN];
    for (int i = 0; i < VOCAB * HIDDEN; i++)
        ones[i] = other[i] = 1.0f;
    other[17] = 2.0f;
    static const struct {
        const char *config;
        bool embed, head, equal;
        enum status status;
        const char *param;
        bool tied;
    } cases[] = {
        {",\"tie_word_embeddings\":true", true, false, false, STATUS_OK, "", true},
        {",\"tie_word_embeddings\":true", false, true, false, STATUS_OK, "", true},
        {",\"tie_word_embeddings\":true", true, true, true, STATUS_OK, "", true},
        {",\"tie_word_embeddings\":true", true, true, false, STATUS_OK, "", false},
        {",\"tie_word_embeddings\":true", false, false, false, STATUS_BAD_FILE,
         "model.embed_tokens.weight", true},
        {"", true, false, false, STATUS_BAD_FILE, "lm_head.weight", false},
        {"", false, true, false, STATUS_BAD_FILE, "model.embed_tokens.weight", false},
        {"", true, true, true, STATUS_OK, "", false},
    };
    struct fixture_dir d;
    fixture_dir_make(&d);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct set s;
        struct err e = {0};
        struct model *m = NULL;
        build(&s, ARCH_LLAMA, "model.", "");
        get(&s, "model.embed_tokens.weight")->values = ones;
        get(&s, "lm_head.weight")->values = cases[i].equal ? ones : other;
        if (!cases[i].head)
            drop(&s, "lm_head.weight");
        if (!cases[i].embed)
            drop(&s, "model.embed_tokens.weight");
        write_model(&d, ARCH_LLAMA, cases[i].config, &s);
        enum status st = model_open(d.path, NULL, &m, &e);
        if (st != cases[i].status || (st != STATUS_OK && strcmp(e.param, cases[i].param) != 0))
            fail_msg("case %zu: %s [%s] %s", i, status_code(st), e.param, e.msg);
        if (st != STATUS_OK)
            continue;
        assert_int_equal(m->shape.tied_head, cases[i].tied);
        assert_int_equal(m->embed.data == m->lm_head.data, cases[i].tied);
        size_t count = (size_t)(VOCAB * HIDDEN) * (cases[i].tied ? 1 : 2);
        struct set rest = s;
        int64_t others = 0;
        for (size_t k = 0; k < rest.n; k++) {
            if (!strstr(rest.t[k].name, "embed_tokens") && !strstr(rest.t[k].name, "lm_head"))
                others += rest.t[k].shape[0] * (rest.t[k].rank == 2 ? rest.t[k].shape[1] : 1);
        }
        assert_int_equal(m->parameters, (int64_t)count + others);
        model_close(m);
    }
    fixture_dir_remove(&d);
}

/* ---- several files ---- */

/* Splits the set into files of at most `per` tensors and writes the index. */
static void write_shards(const struct fixture_dir *d, const struct set *s, size_t per)
{
    struct strbuf index;
    strbuf_init(&index, 1u << 20);
    strbuf_puts(&index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (size_t i = 0; i < s->n; i++)
        strbuf_printf(&index, "%s\"%s\":\"part-%zu.safetensors\"", i ? "," : "", s->t[i].name,
                      i / per);
    strbuf_puts(&index, "}}");
    for (size_t i = 0; i < s->n; i += per) {
        char name[64];
        snprintf(name, sizeof name, "part-%zu.safetensors", i / per);
        fixture_write_tensors(d, name, s->t + i, s->n - i < per ? s->n - i : per);
    }
    fixture_write(d, "model.safetensors.index.json", index.data, index.len);
    strbuf_deinit(&index);
}

struct steps {
    int calls;
    size_t done;
    size_t total;
};

static void on_progress(void *ctx, const char *what, size_t done, size_t total)
{
    struct steps *s = ctx;
    assert_non_null(what);
    assert_true(done >= s->done && done <= total);
    s->calls++;
    s->done = done;
    s->total = total;
}

static void test_model_reads_shards(void **state)
{
    (void)state;
    for (size_t per = 1; per <= 40; per += 13) {
        struct fixture_dir d;
        struct set s;
        struct model *m = NULL;
        struct err e = {0};
        struct steps steps = {0};
        struct progress progress = {on_progress, &steps};
        fixture_dir_make(&d);
        build(&s, ARCH_QWEN3, "model.", "");
        write_config(&d, ARCH_QWEN3, "");
        write_shards(&d, &s, per);
        if (model_open(d.path, &progress, &m, &e) != STATUS_OK)
            fail_msg("%zu tensors a file: %s", per, e.msg);
        assert_int_equal(steps.calls, (s.n + per - 1) / per);
        assert_int_equal(steps.done, steps.total);
        model_close(m);
        fixture_dir_remove(&d);
    }
}

static void test_model_refuses_bad_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *param;
        const char *why;
    } cases[] = {
        {"{", "model.safetensors.index.json", "invalid JSON"},
        {"[]", "model.safetensors.index.json", "no weight_map"},
        {"{\"weight_map\":{}}", "model.safetensors.index.json", "no weight_map"},
        {"{\"weight_map\":{\"a\":7}}", "a", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"../part-0.safetensors\"}}", "a", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"/etc/x.safetensors\"}}", "a", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"x/part-0.safetensors\"}}", "a", "no plain file name"},
        {"{\"weight_map\":{\"a\":\".safetensors\"}}", "a", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"part-0.bin\"}}", "a", "no plain file name"},
        {"{\"weight_map\":{\"a\":\"part-7.safetensors\"}}", "part-7.safetensors", "no such file"},
        {"{\"weight_map\":{\"a\":\"part-0.safetensors\"}}", "a", "says it is there"},
        {"{\"weight_map\":{\"model.norm.weight\":\"part-0.safetensors\"}}", "part-0.safetensors",
         "lists 1"},
        {"{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"x.safetensors\"}}",
         "model.safetensors.index.json", "duplicate"},
    };
    struct fixture_dir d;
    struct set s;
    fixture_dir_make(&d);
    build(&s, ARCH_LLAMA, "model.", "");
    write_config(&d, ARCH_LLAMA, "");
    write_shards(&d, &s, s.n);
    expect(&d, "whole", STATUS_OK, "", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model *m = NULL;
        struct err e = {0};
        fixture_write_text(&d, "model.safetensors.index.json", cases[i].text);
        enum status st = model_open(d.path, NULL, &m, &e);
        if (st == STATUS_OK || strcmp(e.param, cases[i].param) != 0 || !strstr(e.msg, cases[i].why))
            fail_msg("%s: %s [%s] \"%s\"", cases[i].text, status_code(st), e.param, e.msg);
    }
    fixture_dir_remove(&d);
}

/* ---- the directory ---- */

static void test_model_directory(void **state)
{
    (void)state;
    struct fixture_dir d;
    struct set s;
    fixture_dir_make(&d);
    build(&s, ARCH_LLAMA, "model.", "");
    expect(&d, "empty", STATUS_NOT_FOUND, "config.json", "no such file");
    write_config(&d, ARCH_LLAMA, "");
    expect(&d, "no weights", STATUS_BAD_FILE, "model.safetensors", "neither");
    fixture_write_text(&d, "pytorch_model.bin", "x");
    expect(&d, "pickle", STATUS_UNSUPPORTED, "pytorch_model.bin", "safetensors");
    fixture_write_text(&d, "model.safetensors", "x");
    expect(&d, "one byte", STATUS_BAD_FILE, "model.safetensors", "too short");
    fixture_unlink(&d, "model.safetensors");
    assert_int_equal(mkdir(fixture_path(&d, "model.safetensors"), 0700), 0);
    expect(&d, "directory", STATUS_BAD_FILE, "model.safetensors", "not a regular file");
    assert_int_equal(rmdir(fixture_path(&d, "model.safetensors")), 0);
    assert_int_equal(mkfifo(fixture_path(&d, "model.safetensors"), 0600), 0);
    expect(&d, "fifo", STATUS_BAD_FILE, "model.safetensors", "not a regular file");
    fixture_unlink(&d, "model.safetensors");
    write_model(&d, ARCH_LLAMA, "", &s);
    expect(&d, "whole", STATUS_OK, "", NULL);
    fixture_write_text(&d, "generation_config.json", "{\"top_p\":7}");
    expect(&d, "defaults", STATUS_BAD_FILE, "top_p", "generation_config.json");
    fixture_unlink(&d, "generation_config.json");
    fixture_write_text(&d, "config.json", "{}");
    expect(&d, "empty config", STATUS_BAD_FILE, "model_type", "config.json");
    fixture_dir_remove(&d);
    struct model *m = NULL;
    struct err e = {0};
    assert_int_equal(model_open("/nonexistent/model", NULL, &m, &e), STATUS_NOT_FOUND);
    assert_int_equal(model_open("/etc/passwd", NULL, &m, &e), STATUS_BAD_FILE);
}

static void test_model_eos(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        const char *generation;
        int count;
        int first;
    } cases[] = {
        {"", NULL, 0, 0},
        {",\"eos_token_id\":[3,4]", NULL, 2, 3},
        {",\"eos_token_id\":[3,4]", "{}", 2, 3},
        {",\"eos_token_id\":[3,4]", "{\"eos_token_id\":5}", 1, 5},
        {"", "{\"eos_token_id\":[6,7,8]}", 3, 6},
    };
    struct fixture_dir d;
    struct set s;
    fixture_dir_make(&d);
    build(&s, ARCH_LLAMA, "model.", "");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model *m = NULL;
        struct err e = {0};
        write_model(&d, ARCH_LLAMA, cases[i].config, &s);
        if (cases[i].generation)
            fixture_write_text(&d, "generation_config.json", cases[i].generation);
        assert_int_equal(model_open(d.path, NULL, &m, &e), STATUS_OK);
        assert_int_equal(m->eos_count, cases[i].count);
        assert_int_equal(m->eos[0], cases[i].first);
        assert_true(isnan(m->defaults.temperature) && m->defaults.top_k == -1);
        model_close(m);
    }
    fixture_dir_remove(&d);
}

/* The text part of multimodal checkpoints, in both layouts that transformers has had. */
static void test_model_nested_names(void **state)
{
    (void)state;
    static const char *const prefixes[][2] = {
        {"language_model.model.", "language_model."},
        {"model.language_model.", ""},
        {"model.", ""},
    };
    for (size_t i = 0; i < 3; i++) {
        struct fixture_dir d;
        struct set s;
        char other[96];
        fixture_dir_make(&d);
        build(&s, ARCH_MISTRAL, prefixes[i][0], prefixes[i][1]);
        add(&s, "F32", 3, 3, "vision_tower.layers.0.weight");
        add(&s, "I64", 0, 3, "multi_modal_projector.x");
        fixture_write_text(&d, "config.json",
                           "{\"model_type\":\"mistral3\",\"text_config\":{\"model_type\":"
                           "\"mistral\"," SHAPE "}}");
        fixture_write_tensors(&d, "model.safetensors", s.t, s.n);
        expect(&d, prefixes[i][0], STATUS_OK, "", NULL);
        snprintf(other, sizeof other, "%slayers.9.x", prefixes[i][0]);
        add(&s, "F32", 0, 3, "%s", other);
        fixture_write_tensors(&d, "model.safetensors", s.t, s.n);
        expect(&d, other, STATUS_BAD_FILE, other, "has no place");
        fixture_dir_remove(&d);
    }
}

/* ---- damage and memory ---- */

static void test_model_cut_files_are_refused(void **state)
{
    (void)state;
    struct fixture_dir d;
    struct set s;
    struct strbuf file;
    fixture_dir_make(&d);
    build(&s, ARCH_LLAMA, "model.", "");
    write_config(&d, ARCH_LLAMA, "");
    strbuf_init(&file, 1u << 20);
    fixture_safetensors(&file, s.t, s.n);
    for (size_t n = 0; n < file.len; n += n < 400 ? 1 : 97) {
        struct model *m = NULL;
        struct err e = {0};
        fixture_write(&d, "model.safetensors", file.data, n);
        enum status st = model_open(d.path, NULL, &m, &e);
        if (st != STATUS_BAD_FILE)
            fail_msg("cut at %zu of %zu: %s %s", n, file.len, status_code(st), e.msg);
    }
    strbuf_deinit(&file);
    fixture_dir_remove(&d);
}

static void test_model_every_allocation_may_fail(void **state)
{
    (void)state;
    struct fixture_dir d;
    struct set s;
    int failures = 0;
    fixture_dir_make(&d);
    build(&s, ARCH_LLAMA, "model.", "");
    write_config(&d, ARCH_LLAMA, "");
    fixture_write_text(&d, "generation_config.json", "{\"top_p\":0.5}");
    write_shards(&d, &s, 9);
    for (int k = 1;; k++) {
        struct model *m = NULL;
        struct err e = {0};
        mem_fail_at(k);
        enum status st = model_open(d.path, NULL, &m, &e);
        mem_fail_at(0);
        if (st == STATUS_OK) {
            model_close(m);
            break;
        }
        if (st != STATUS_NO_MEMORY)
            fail_msg("allocation %d: %s %s", k, status_code(st), e.msg);
        failures++;
    }
    print_message("allocations failed one by one: %d\n", failures);
    assert_true(failures > 30);
    fixture_dir_remove(&d);
}

/* ---- sites ---- */

static void test_model_sites(void **state)
{
    (void)state;
    const struct model_shape s = {.layers = 12,
                                  .hidden = HIDDEN,
                                  .heads = HEADS,
                                  .kv_heads = KV,
                                  .head_dim = DIM,
                                  .ffn = FFN,
                                  .vocab = VOCAB};
    static const struct {
        int site;
        const char *name;
        int in, out;
    } cases[] = {
        {SITE_OF(0, LINEAR_Q), "model.layers.0.self_attn.q_proj", HIDDEN, HEADS * DIM},
        {SITE_OF(11, LINEAR_K), "model.layers.11.self_attn.k_proj", HIDDEN, KV * DIM},
        {SITE_OF(1, LINEAR_V), "model.layers.1.self_attn.v_proj", HIDDEN, KV * DIM},
        {SITE_OF(1, LINEAR_O), "model.layers.1.self_attn.o_proj", HEADS * DIM, HIDDEN},
        {SITE_OF(1, LINEAR_GATE), "model.layers.1.mlp.gate_proj", HIDDEN, FFN},
        {SITE_OF(1, LINEAR_UP), "model.layers.1.mlp.up_proj", HIDDEN, FFN},
        {SITE_OF(1, LINEAR_DOWN), "model.layers.1.mlp.down_proj", FFN, HIDDEN},
        {SITE_LM_HEAD(12), "lm_head", HIDDEN, VOCAB},
        {SITE_EMBED(12), "model.embed_tokens", VOCAB, HIDDEN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[64];
        int in;
        int out;
        model_site_name(&s, cases[i].site, name, sizeof name);
        model_site_dims(&s, cases[i].site, &in, &out);
        assert_string_equal(name, cases[i].name);
        assert_int_equal(in, cases[i].in);
        assert_int_equal(out, cases[i].out);
        model_site_name(&s, cases[i].site, name, 6);
        assert_int_equal(strlen(name), 5);
    }
}

static void test_model_goldens_open(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        int64_t parameters;
        bool tied;
        int eos;
    } cases[] = {
        {"llama", 106816, true, 3},
        {"mistral", 213440, false, 1},
        {"qwen2", 180464, false, 2},
        {"qwen3", 135616, true, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[256];
        struct model *m = NULL;
        struct err e = {0};
        snprintf(path, sizeof path, GOLDEN_DIR "/%s/model", cases[i].arch);
        if (model_open(path, NULL, &m, &e) != STATUS_OK)
            fail_msg("%s", e.msg);
        assert_int_equal(m->parameters, cases[i].parameters);
        assert_int_equal(m->shape.tied_head, cases[i].tied);
        assert_int_equal(m->eos_count, cases[i].eos);
        model_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_binds_every_tensor),
        cmocka_unit_test(test_model_names_what_is_missing),
        cmocka_unit_test(test_model_names_wrong_shapes_and_types),
        cmocka_unit_test(test_model_refuses_what_it_does_not_know),
        cmocka_unit_test(test_model_ties_as_transformers),
        cmocka_unit_test(test_model_reads_shards),
        cmocka_unit_test(test_model_refuses_bad_indexes),
        cmocka_unit_test(test_model_directory),
        cmocka_unit_test(test_model_eos),
        cmocka_unit_test(test_model_nested_names),
        cmocka_unit_test(test_model_cut_files_are_refused),
        cmocka_unit_test(test_model_every_allocation_may_fail),
        cmocka_unit_test(test_model_sites),
        cmocka_unit_test(test_model_goldens_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
