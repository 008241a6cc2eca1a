/* lora_open and lora_bind: which tensors bind, which are refused by name, and files that change,
 * end early or lead elsewhere. Whole adapters by peft are in test_lora_golden.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/adapter/lora.h"
#include "engine/adapter/lora_bind.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "tests/unit/fixture_files.h"

#define HIDDEN 8
#define VOCAB  10
#define LAYERS 12
#define RANK   2

static float embed_values[VOCAB * HIDDEN];
static float head_values[VOCAB * HIDDEN];

static const struct model base = {
    .shape = {.arch = ARCH_LLAMA,
              .layers = LAYERS,
              .hidden = HIDDEN,
              .heads = 2,
              .kv_heads = 1,
              .head_dim = 4,
              .ffn = 12,
              .vocab = VOCAB},
    .embed = {embed_values, DTYPE_F32, VOCAB, HIDDEN},
    .lm_head = {head_values, DTYPE_F32, VOCAB, HIDDEN},
};

static int fill_base(void **state)
{
    (void)state;
    for (int i = 0; i < VOCAB * HIDDEN; i++) {
        embed_values[i] = (float)i / 8.0f; /* exact in bf16 */
        head_values[i] = -(float)i / 8.0f;
    }
    return 0;
}

#define P      "base_model.model."
#define Q0     P "model.layers.0.self_attn.q_proj"
#define CONFIG "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":"
#define ALL                                                                                        \
    "[\"q_proj\",\"k_proj\",\"v_proj\",\"o_proj\",\"gate_proj\",\"up_proj\",\"down_proj\","        \
    "\"lm_head\",\"embed_tokens\"]"

/* ---- lora_bind from memory ---- */

static enum status bind(const char *config, const struct fixture_tensor *t, size_t n,
                        const struct model *on, struct lora **out, struct err *e)
{
    struct strbuf bytes;
    struct lora_config *c = NULL;
    struct safetensors *file = NULL;
    strbuf_init(&bytes, 64u << 20);
    fixture_safetensors(&bytes, t, n);
    int fd = memfd_create("adapter", MFD_CLOEXEC);
    assert_true(fd >= 0 && write(fd, bytes.data, bytes.len) == (ssize_t)bytes.len);
    strbuf_deinit(&bytes);
    enum status st = lora_config_parse(config, strlen(config), &c, e);
    if (st == STATUS_OK)
        st = safetensors_read(fd, "adapter_model.safetensors", LIMIT_ADAPTER_BYTES, NULL, &file, e);
    if (st == STATUS_OK)
        st = lora_bind(c, file, on, out, e);
    safetensors_free(file);
    lora_config_free(c);
    close(fd);
    return st;
}

struct bind_case {
    const char *what;
    const char *config;
    struct fixture_tensor t[4];
    size_t n;
    enum status status;
    const char *param; /* refused */
    int site;          /* accepted: of the last module */
};

#define A(path, ...)                                                                               \
    {                                                                                              \
        path ".lora_A.weight", "F32", 2, {__VA_ARGS__}, NULL                                       \
    }
#define B(path, ...)                                                                               \
    {                                                                                              \
        path ".lora_B.weight", "F32", 2, {__VA_ARGS__}, NULL                                       \
    }
#define T(name, rank, ...)                                                                         \
    {                                                                                              \
        name, "F32", rank, {__VA_ARGS__}, NULL                                                     \
    }

static const float not_a_number[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NAN};
static const float infinite[] = {0, 0, 0, -INFINITY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

static const struct bind_case bind_cases[] = {
    /* names */
    {"plain", CONFIG ALL "}", {A(Q0, 2, 8), B(Q0, 8, 2)}, 2, STATUS_OK, NULL, 0},
    {"default infix",
     CONFIG ALL "}",
     {T(Q0 ".lora_A.default.weight", 2, 2, 8), T(Q0 ".lora_B.default.weight", 2, 8, 2)},
     2,
     STATUS_OK,
     NULL,
     0},
    {"another infix",
     CONFIG ALL "}",
     {T(Q0 ".lora_A.mine.weight", 2, 2, 8), T(Q0 ".lora_B.mine.weight", 2, 8, 2)},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_A.mine.weight",
     0},
    {"both forms",
     CONFIG ALL "}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".lora_A.default.weight", 2, 2, 8)},
     3,
     STATUS_BAD_FILE,
     Q0 ".lora_A.weight",
     0},
    {"no prefix",
     CONFIG ALL "}",
     {A("model.layers.0.self_attn.q_proj", 2, 8), B("model.layers.0.self_attn.q_proj", 8, 2)},
     2,
     STATUS_BAD_FILE,
     "model.layers.0.self_attn.q_proj.lora_A.weight",
     0},
    {"nested",
     CONFIG ALL "}",
     {A(P "model.language_model.layers.3.mlp.up_proj", 2, 8),
      B(P "model.language_model.layers.3.mlp.up_proj", 12, 2)},
     2,
     STATUS_OK,
     NULL,
     SITE_OF(3, LINEAR_UP)},
    {"nested, older",
     CONFIG ALL "}",
     {A(P "language_model.model.layers.3.mlp.up_proj", 2, 8),
      B(P "language_model.model.layers.3.mlp.up_proj", 12, 2)},
     2,
     STATUS_OK,
     NULL,
     SITE_OF(3, LINEAR_UP)},
    {"one site under two names",
     CONFIG ALL "}",
     {A(P "language_model.model.layers.0.self_attn.q_proj", 2, 8), B(Q0, 8, 2)},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_B.weight",
     0},
    {"last layer",
     CONFIG ALL "}",
     {A(P "model.layers.11.mlp.down_proj", 2, 12), B(P "model.layers.11.mlp.down_proj", 8, 2)},
     2,
     STATUS_OK,
     NULL,
     SITE_OF(11, LINEAR_DOWN)},
    {"layer too many",
     CONFIG ALL "}",
     {A(P "model.layers.12.mlp.down_proj", 2, 12), B(P "model.layers.12.mlp.down_proj", 8, 2)},
     2,
     STATUS_BAD_FILE,
     P "model.layers.12.mlp.down_proj.lora_A.weight",
     0},
    {"leading zero",
     CONFIG ALL "}",
     {A(P "model.layers.01.mlp.down_proj", 2, 12), B(P "model.layers.01.mlp.down_proj", 8, 2)},
     2,
     STATUS_BAD_FILE,
     P "model.layers.01.mlp.down_proj.lora_A.weight",
     0},
    {"no layer",
     CONFIG ALL "}",
     {A(P "model.layers..mlp.down_proj", 2, 12), B(P "model.layers..mlp.down_proj", 8, 2)},
     2,
     STATUS_BAD_FILE,
     P "model.layers..mlp.down_proj.lora_A.weight",
     0},
    {"layer that wraps",
     CONFIG ALL "}",
     {A(P "model.layers.4294967296.mlp.down_proj", 2, 12),
      B(P "model.layers.4294967296.mlp.down_proj", 8, 2)},
     2,
     STATUS_BAD_FILE,
     P "model.layers.4294967296.mlp.down_proj.lora_A.weight",
     0},
    {"longer name",
     CONFIG ALL "}",
     {A(Q0 ".x", 2, 8), B(Q0 ".x", 8, 2)},
     2,
     STATUS_BAD_FILE,
     Q0 ".x.lora_A.weight",
     0},
    {"lora_B.bias",
     CONFIG ALL "}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".lora_B.bias", 1, 8)},
     3,
     STATUS_BAD_FILE,
     Q0 ".lora_B.bias",
     0},
    {"base bias",
     CONFIG ALL "}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".bias", 1, 8)},
     3,
     STATUS_BAD_FILE,
     Q0 ".bias",
     0},
    /* head and embedding */
    {"head",
     CONFIG ALL "}",
     {A(P "lm_head", 2, 8), B(P "lm_head", 10, 2)},
     2,
     STATUS_OK,
     NULL,
     SITE_LM_HEAD(LAYERS)},
    {"nested head",
     CONFIG ALL "}",
     {A(P "language_model.lm_head", 2, 8), B(P "language_model.lm_head", 10, 2)},
     2,
     STATUS_OK,
     NULL,
     SITE_LM_HEAD(LAYERS)},
    {"embedding",
     CONFIG ALL "}",
     {T(P "model.embed_tokens.lora_embedding_A", 2, 2, 10),
      T(P "model.embed_tokens.lora_embedding_B", 2, 8, 2)},
     2,
     STATUS_OK,
     NULL,
     SITE_EMBED(LAYERS)},
    {"embedding, infix",
     CONFIG ALL "}",
     {T(P "model.embed_tokens.lora_embedding_A.default", 2, 2, 10),
      T(P "model.embed_tokens.lora_embedding_B.default", 2, 8, 2)},
     2,
     STATUS_OK,
     NULL,
     SITE_EMBED(LAYERS)},
    {"embedding, transposed",
     CONFIG ALL "}",
     {T(P "model.embed_tokens.lora_embedding_A", 2, 10, 2),
      T(P "model.embed_tokens.lora_embedding_B", 2, 2, 8)},
     2,
     STATUS_BAD_FILE,
     P "model.embed_tokens.lora_embedding_A",
     0},
    {"embedding, one half",
     CONFIG ALL "}",
     {T(P "model.embed_tokens.lora_embedding_A", 2, 2, 10)},
     1,
     STATUS_BAD_FILE,
     P "model.embed_tokens.lora_embedding_B",
     0},
    {"linear form on the embedding",
     CONFIG ALL "}",
     {A(P "model.embed_tokens", 2, 10), B(P "model.embed_tokens", 8, 2)},
     2,
     STATUS_BAD_FILE,
     P "model.embed_tokens.lora_A.weight",
     0},
    {"embedding form on a linear",
     CONFIG ALL "}",
     {T(Q0 ".lora_embedding_A", 2, 2, 8), T(Q0 ".lora_embedding_B", 2, 8, 2)},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_embedding_A",
     0},
    {"DoRA on the embedding",
     CONFIG ALL ",\"use_dora\":true}",
     {T(P "model.embed_tokens.lora_embedding_A", 2, 2, 10),
      T(P "model.embed_tokens.lora_embedding_B", 2, 8, 2),
      T(P "model.embed_tokens.lora_magnitude_vector", 1, 8)},
     3,
     STATUS_UNSUPPORTED,
     "use_dora",
     0},
    {"tying without head",
     CONFIG ALL ",\"ensure_weight_tying\":true}",
     {A(Q0, 2, 8), B(Q0, 8, 2)},
     2,
     STATUS_OK,
     NULL,
     0},
    {"tying with head",
     CONFIG ALL ",\"ensure_weight_tying\":true}",
     {A(P "lm_head", 2, 8), B(P "lm_head", 10, 2)},
     2,
     STATUS_UNSUPPORTED,
     "ensure_weight_tying",
     0},
    /* DoRA */
    {"DoRA",
     CONFIG ALL ",\"use_dora\":true}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".lora_magnitude_vector", 1, 8)},
     3,
     STATUS_OK,
     NULL,
     0},
    {"DoRA, .weight",
     CONFIG ALL ",\"use_dora\":true}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".lora_magnitude_vector.weight", 1, 8)},
     3,
     STATUS_OK,
     NULL,
     0},
    {"DoRA, infix",
     CONFIG ALL ",\"use_dora\":true}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".lora_magnitude_vector.default.weight", 1, 8)},
     3,
     STATUS_OK,
     NULL,
     0},
    {"DoRA twice",
     CONFIG ALL ",\"use_dora\":true}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".lora_magnitude_vector", 1, 8),
      T(Q0 ".lora_magnitude_vector.weight", 1, 8)},
     4,
     STATUS_BAD_FILE,
     Q0 ".lora_magnitude_vector.weight",
     0},
    {"DoRA, magnitude alone",
     CONFIG ALL ",\"use_dora\":true}",
     {T(Q0 ".lora_magnitude_vector", 1, 8)},
     1,
     STATUS_BAD_FILE,
     Q0 ".lora_A.weight",
     0},
    {"DoRA, matrix",
     CONFIG ALL ",\"use_dora\":true}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".lora_magnitude_vector", 2, 1, 8)},
     3,
     STATUS_BAD_FILE,
     Q0 ".lora_magnitude_vector",
     0},
    /* numbers */
    {"NaN in A",
     CONFIG ALL "}",
     {{Q0 ".lora_A.weight", "F32", 2, {2, 8}, not_a_number}, B(Q0, 8, 2)},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_A.weight",
     0},
    {"infinity in B",
     CONFIG ALL "}",
     {A(Q0, 2, 8), {Q0 ".lora_B.weight", "F32", 2, {8, 2}, infinite}},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_B.weight",
     0},
    {"infinity in f16",
     CONFIG ALL "}",
     {A(Q0, 2, 8), {Q0 ".lora_B.weight", "F16", 2, {8, 2}, infinite}},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_B.weight",
     0},
    {"NaN in bf16",
     CONFIG ALL "}",
     {{Q0 ".lora_A.weight", "BF16", 2, {2, 8}, not_a_number}, B(Q0, 8, 2)},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_A.weight",
     0},
    {"NaN in a magnitude",
     CONFIG ALL ",\"use_dora\":true}",
     {A(Q0, 2, 8), B(Q0, 8, 2), {Q0 ".lora_magnitude_vector", "F32", 1, {8}, infinite}},
     3,
     STATUS_BAD_FILE,
     Q0 ".lora_magnitude_vector",
     0},
    {"f64",
     CONFIG ALL "}",
     {{Q0 ".lora_A.weight", "F64", 2, {2, 8}, NULL}, B(Q0, 8, 2)},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_A.weight",
     0},
    {"rank of the config",
     "{\"peft_type\":\"LORA\",\"r\":3}",
     {A(Q0, 2, 8), B(Q0, 8, 2)},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_A.weight",
     0},
    {"default rank 8",
     "{\"peft_type\":\"LORA\"}",
     {A(Q0, 8, 8), B(Q0, 8, 8)},
     2,
     STATUS_OK,
     NULL,
     0},
    {"fractional rank",
     CONFIG ALL ",\"rank_pattern\":{\"q_proj\":2.5}}",
     {A(Q0, 2, 8), B(Q0, 8, 2)},
     2,
     STATUS_BAD_FILE,
     Q0 ".lora_A.weight",
     0},
    {"largest rank",
     CONFIG ALL ",\"rank_pattern\":{\"q_proj\":512}}",
     {A(Q0, 512, 8), B(Q0, 8, 512)},
     2,
     STATUS_OK,
     NULL,
     0},
    {"rank over the limit",
     CONFIG ALL ",\"rank_pattern\":{\"q_proj\":513}}",
     {A(Q0, 513, 8), B(Q0, 8, 513)},
     2,
     STATUS_LIMIT,
     Q0 ".lora_A.weight",
     0},
    {"infinite scale",
     CONFIG ALL ",\"alpha_pattern\":{\"q_proj\":1e300}}",
     {A(Q0, 2, 8), B(Q0, 8, 2)},
     2,
     STATUS_BAD_FILE,
     "lora_alpha",
     0},
    /* copies of the base */
    {"only a copy",
     CONFIG ALL "}",
     {T(P "lm_head.base_layer.weight", 2, 1, 1)},
     1,
     STATUS_BAD_FILE,
     P "lm_head.base_layer.weight",
     0},
    {"copy of a linear",
     CONFIG ALL "}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".base_layer.weight", 2, 8, 8)},
     3,
     STATUS_BAD_FILE,
     Q0 ".base_layer.weight",
     0},
    {"copy of a linear, plain",
     CONFIG ALL "}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(Q0 ".weight", 2, 8, 8)},
     3,
     STATUS_BAD_FILE,
     Q0 ".weight",
     0},
    {"head's copy, f32",
     CONFIG ALL "}",
     {A(P "lm_head", 2, 8),
      B(P "lm_head", 10, 2),
      {P "lm_head.base_layer.weight", "F32", 2, {10, 8}, head_values}},
     3,
     STATUS_OK,
     NULL,
     SITE_LM_HEAD(LAYERS)},
    {"head's copy, bf16",
     CONFIG ALL "}",
     {A(P "lm_head", 2, 8),
      B(P "lm_head", 10, 2),
      {P "lm_head.base_layer.weight", "BF16", 2, {10, 8}, head_values}},
     3,
     STATUS_OK,
     NULL,
     SITE_LM_HEAD(LAYERS)},
    {"embedding's plain copy",
     CONFIG ALL "}",
     {A(Q0, 2, 8), B(Q0, 8, 2), {P "model.embed_tokens.weight", "F16", 2, {10, 8}, embed_values}},
     3,
     STATUS_OK,
     NULL,
     0},
    {"embedding's copy in the head's place",
     CONFIG ALL "}",
     {A(P "lm_head", 2, 8),
      B(P "lm_head", 10, 2),
      {P "lm_head.base_layer.weight", "F32", 2, {10, 8}, embed_values}},
     3,
     STATUS_BAD_FILE,
     P "lm_head.base_layer.weight",
     0},
    {"a resized vocabulary",
     CONFIG ALL "}",
     {A(Q0, 2, 8), B(Q0, 8, 2), T(P "model.embed_tokens.weight", 2, 11, 8)},
     3,
     STATUS_BAD_FILE,
     P "model.embed_tokens.weight",
     0},
};

static void check_module(const struct bind_case *c, const struct lora *l)
{
    const struct lora_module *m = &l->modules[l->module_count - 1];
    int in;
    int out;
    model_site_dims(&base.shape, c->site, &in, &out);
    if (m->site != c->site || m->in != in || m->out != out)
        fail_msg("%s: site %d [%d, %d], expected %d [%d, %d]", c->what, m->site, m->out, m->in,
                 c->site, out, in);
    assert_true(m->a.rows == m->rank && m->a.cols == in && m->b.rows == out &&
                m->b.cols == m->rank);
    assert_int_equal(m->magnitude.data != NULL, strstr(c->config, "use_dora") != NULL);
    /* The values survive the move out of the file. */
    float v;
    tensor_read_f32(&m->b, 0, 1, &v);
    assert_true(v >= 0.25f && v < 1.5f);
}

static void test_lora_bind_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bind_cases / sizeof bind_cases[0]; i++) {
        const struct bind_case *c = &bind_cases[i];
        struct lora *l = NULL;
        struct err e = {0};
        enum status st = bind(c->config, c->t, c->n, &base, &l, &e);
        if (st != c->status || (st != STATUS_OK && strcmp(e.param, c->param) != 0))
            fail_msg("%s: %s [%s] \"%s\", expected %s [%s]", c->what, status_code(st), e.param,
                     e.msg, status_code(c->status), c->param ? c->param : "");
        if (st == STATUS_OK)
            check_module(c, l);
        lora_free(l);
    }
}

/* Copies are left behind, and what stays is aligned. */
static void test_lora_bind_drops_copies(void **state)
{
    (void)state;
    static const struct fixture_tensor t[] = {
        {P "lm_head.lora_A.weight", "BF16", 2, {2, 8}, NULL},
        {P "lm_head.lora_B.weight", "F32", 2, {10, 2}, NULL},
        {Q0 ".lora_A.weight", "F32", 2, {2, 8}, NULL},
        {Q0 ".lora_B.weight", "F16", 2, {8, 2}, NULL},
    };
    struct fixture_tensor with_copy[5];
    struct lora *plain = NULL;
    struct lora *copied = NULL;
    struct err e = {0};
    memcpy(with_copy, t, sizeof t);
    with_copy[4] =
        (struct fixture_tensor){P "lm_head.base_layer.weight", "F32", 2, {10, 8}, head_values};
    assert_int_equal(bind(CONFIG ALL "}", t, 4, &base, &plain, &e), STATUS_OK);
    assert_int_equal(bind(CONFIG ALL "}", with_copy, 5, &base, &copied, &e), STATUS_OK);
    assert_int_equal(plain->bytes, 2 * 8 * 2 + 10 * 2 * 4 + 2 * 8 * 4 + 8 * 2 * 2);
    assert_int_equal(copied->bytes, plain->bytes);
    assert_int_equal(copied->module_count, 2);
    for (int i = 0; i < 2; i++) {
        const struct tensor *a[] = {&plain->modules[i].a, &plain->modules[i].b};
        const struct tensor *b[] = {&copied->modules[i].a, &copied->modules[i].b};
        for (int k = 0; k < 2; k++) {
            assert_int_equal(tensor_bytes(a[k]), tensor_bytes(b[k]));
            assert_memory_equal(a[k]->data, b[k]->data, tensor_bytes(a[k]));
            assert_int_equal((uintptr_t)b[k]->data % dtype_bytes(b[k]->dtype), 0);
        }
    }
    lora_free(plain);
    lora_free(copied);
}

/* Without a base nothing is compared with one. */
static void test_lora_bind_without_base(void **state)
{
    (void)state;
    static const struct fixture_tensor t[] = {A(P "model.layers.99.mlp.up_proj", 2, 77),
                                              B(P "model.layers.99.mlp.up_proj", 33, 2)};
    struct lora *l = NULL;
    struct err e = {0};
    if (bind(CONFIG ALL "}", t, 2, NULL, &l, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    assert_int_equal(l->modules[0].site, SITE_OF(99, LINEAR_UP));
    assert_int_equal(l->modules[0].in, 77);
    assert_int_equal(l->modules[0].out, 33);
    lora_free(l);
}

/* ---- files ---- */

static const struct fixture_tensor good[] = {A(Q0, 2, 8), B(Q0, 8, 2)};
#define GOOD_CONFIG CONFIG "[\"q_proj\"],\"base_model_name_or_path\":\"some/base\"}"

static void write_good(const struct fixture_dir *d, const char *sub)
{
    char name[64];
    if (mkdir(fixture_path(d, sub), 0700) != 0)
        fail_msg("mkdir %s", sub);
    snprintf(name, sizeof name, "%s/adapter_config.json", sub);
    fixture_write_text(d, name, GOOD_CONFIG);
    snprintf(name, sizeof name, "%s/adapter_model.safetensors", sub);
    fixture_write_tensors(d, name, good, 2);
}

static void expect(const char *what, enum status st, const struct err *e, enum status want,
                   const char *param, const char *why)
{
    if (st != want || (st != STATUS_OK && (strcmp(e->param, param) != 0 || !strstr(e->msg, why))))
        fail_msg("%s: %s [%s] \"%s\", expected %s [%s] \"%s\"", what, status_code(st), e->param,
                 e->msg, status_code(want), param, why);
}

static void expect_open(const struct fixture_dir *d, const char *what, enum status want,
                        const char *param, const char *why)
{
    struct lora *l = NULL;
    struct err e = {0};
    enum status st = lora_open(d->path, &base, &l, &e);
    expect(what, st, &e, want, param, why);
    lora_free(l);
}

static void test_lora_open_files(void **state)
{
    (void)state;
    static const char config[] = "adapter_config.json";
    static const char tensors[] = "adapter_model.safetensors";
    struct fixture_dir d;
    fixture_dir_make(&d);
    expect_open(&d, "empty", STATUS_NOT_FOUND, config, "no such file");
    fixture_write_text(&d, config, GOOD_CONFIG);
    expect_open(&d, "no tensors", STATUS_BAD_FILE, tensors, "no such file");
    fixture_write_text(&d, "adapter_model.bin", "x");
    expect_open(&d, "pickle", STATUS_UNSUPPORTED, "adapter_model.bin", "may run code");
    fixture_unlink(&d, "adapter_model.bin");
    fixture_write_text(&d, "adapter_model.pt", "x");
    expect_open(&d, "pickle", STATUS_UNSUPPORTED, "adapter_model.pt", "may run code");
    fixture_write(&d, tensors, "PK\3\4 and more", 12);
    expect_open(&d, "zip", STATUS_BAD_FILE, tensors, "zip archive");
    fixture_write(&d, tensors, "\x80\2}q", 4);
    expect_open(&d, "short", STATUS_BAD_FILE, tensors, "too short");
    fixture_write_tensors(&d, tensors, good, 2);
    expect_open(&d, "whole", STATUS_OK, "", "");
    fixture_unlink(&d, tensors);
    assert_int_equal(mkfifo(fixture_path(&d, tensors), 0600), 0);
    expect_open(&d, "fifo", STATUS_BAD_FILE, tensors, "not a regular file");
    fixture_unlink(&d, tensors);
    assert_int_equal(symlink("/dev/zero", fixture_path(&d, tensors)), 0);
    expect_open(&d, "device", STATUS_BAD_FILE, tensors, "not a regular file");
    fixture_unlink(&d, tensors);
    fixture_write_text(&d, tensors, "");
    assert_int_equal(truncate(fixture_path(&d, tensors), (off_t)LIMIT_ADAPTER_BYTES + 1), 0);
    expect_open(&d, "too large", STATUS_LIMIT, tensors, "at most");
    fixture_write_text(&d, config, "");
    assert_int_equal(truncate(fixture_path(&d, config), LIMIT_CONFIG_JSON_BYTES + 1), 0);
    expect_open(&d, "config too large", STATUS_LIMIT, config, "at most");
    fixture_dir_remove(&d);
    struct lora *l = NULL;
    struct err e = {0};
    assert_int_equal(lora_open("/nonexistent/x", &base, &l, &e), STATUS_NOT_FOUND);
    assert_int_equal(lora_open("/etc/passwd", &base, &l, &e), STATUS_BAD_FILE);
}

/* ADP-4: below a root that others may write to, no name and no link leads outside. */
static void test_lora_open_beneath_stays_beneath(void **state)
{
    (void)state;
    struct fixture_dir outside;
    struct fixture_dir root;
    char target[128];
    fixture_dir_make(&outside);
    fixture_dir_make(&root);
    write_good(&outside, "stolen");
    write_good(&root, "honest");
    write_good(&root, "hollow");
    snprintf(target, sizeof target, "%s/stolen", outside.path);
    assert_int_equal(symlink(target, fixture_path(&root, "link")), 0);
    fixture_unlink(&root, "hollow/adapter_model.safetensors");
    snprintf(target, sizeof target, "%s/stolen/adapter_model.safetensors", outside.path);
    assert_int_equal(symlink(target, fixture_path(&root, "hollow/adapter_model.safetensors")), 0);
    assert_int_equal(symlink("honest", fixture_path(&root, "alias")), 0);
    snprintf(target, sizeof target, "%s/honest", root.path);
    assert_int_equal(symlink(target, fixture_path(&root, "absolute")), 0);
    write_good(&root, "shared");
    fixture_unlink(&root, "shared/adapter_model.safetensors");
    assert_int_equal(symlink("../honest/adapter_model.safetensors",
                             fixture_path(&root, "shared/adapter_model.safetensors")),
                     0);
    char up[160];
    snprintf(up, sizeof up, "../%s/stolen", strrchr(outside.path, '/') + 1);
    const struct {
        const char *name;
        enum status status;
    } cases[] = {
        {"honest", STATUS_OK},
        {"./honest", STATUS_OK},
        {"alias", STATUS_OK},
        {"shared", STATUS_OK},
        {"absolute", STATUS_OK},
        {"link", STATUS_BAD_FILE},
        {"hollow", STATUS_BAD_FILE},
        {up, STATUS_BAD_FILE},
        {"honest/../../x", STATUS_BAD_FILE},
        {"/proc/self/root", STATUS_BAD_FILE},
        {outside.path, STATUS_BAD_FILE},
        {"absent", STATUS_NOT_FOUND},
        {"honest/adapter_config.json", STATUS_BAD_FILE},
        {"", STATUS_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lora *l = NULL;
        struct err e = {0};
        enum status st = lora_open_beneath(root.path, cases[i].name, &base, &l, &e);
        if (st != cases[i].status)
            fail_msg("\"%s\": %s: %s", cases[i].name, status_code(st), e.msg);
        lora_free(l);
    }
    /* A neighbour whose name begins as the root's is outside. */
    struct lora *l = NULL;
    struct err e = {0};
    assert_int_equal(mkdir(fixture_path(&root, "hon"), 0700), 0);
    assert_int_equal(symlink("../honest", fixture_path(&root, "hon/link")), 0);
    assert_int_equal(lora_open_beneath(fixture_path(&root, "hon"), "link", &base, &l, &e),
                     STATUS_BAD_FILE);
    /* The same links are followed where the path was given by the operator. */
    assert_int_equal(lora_open(fixture_path(&root, "link"), &base, &l, &e), STATUS_OK);
    lora_free(l);
    fixture_dir_remove(&outside);
    fixture_dir_remove(&root);
}

static void test_lora_open_hash_and_base_name(void **state)
{
    (void)state;
    struct fixture_dir d;
    struct strbuf bytes;
    struct lora *l = NULL;
    struct err e = {0};
    uint8_t want[SHA256_BYTES];
    fixture_dir_make(&d);
    strbuf_init(&bytes, 1u << 20);
    strbuf_puts(&bytes, GOOD_CONFIG);
    fixture_safetensors(&bytes, good, 2);
    sha256_of(bytes.data, bytes.len, want);
    fixture_write_text(&d, "adapter_config.json", GOOD_CONFIG);
    fixture_write_tensors(&d, "adapter_model.safetensors", good, 2);
    assert_int_equal(lora_open(d.path, &base, &l, &e), STATUS_OK);
    assert_memory_equal(l->sha256, want, SHA256_BYTES);
    assert_string_equal(l->base_name, "some/base");
    assert_true(l->modules[0].scale == 2.0f);
    lora_free(l);
    strbuf_deinit(&bytes);
    fixture_dir_remove(&d);
}

/* ADP-1: every shorter file is refused, both of them. */
static void test_lora_open_cut_files(void **state)
{
    (void)state;
    struct fixture_dir d;
    struct strbuf bytes;
    int cuts = 0;
    fixture_dir_make(&d);
    strbuf_init(&bytes, 1u << 20);
    fixture_safetensors(&bytes, good, 2);
    fixture_write_text(&d, "adapter_config.json", GOOD_CONFIG);
    for (size_t n = 0; n < bytes.len; n++, cuts++) {
        struct lora *l = NULL;
        struct err e = {0};
        fixture_write(&d, "adapter_model.safetensors", bytes.data, n);
        enum status st = lora_open(d.path, &base, &l, &e);
        if (st != STATUS_BAD_FILE)
            fail_msg("tensors cut at %zu: %s: %s", n, status_code(st), e.msg);
    }
    fixture_write(&d, "adapter_model.safetensors", bytes.data, bytes.len);
    for (size_t n = 0; n < sizeof GOOD_CONFIG - 1; n++, cuts++) {
        struct lora *l = NULL;
        struct err e = {0};
        fixture_write(&d, "adapter_config.json", GOOD_CONFIG, n);
        enum status st = lora_open(d.path, &base, &l, &e);
        if (st != STATUS_BAD_FILE)
            fail_msg("config cut at %zu: %s: %s", n, status_code(st), e.msg);
    }
    print_message("cut files refused: %d\n", cuts);
    strbuf_deinit(&bytes);
    fixture_dir_remove(&d);
}

static void wait_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void test_lora_open_every_allocation_may_fail(void **state)
{
    (void)state;
    static const struct fixture_tensor t[] = {
        A(P "lm_head", 2, 8),
        B(P "lm_head", 10, 2),
        {P "lm_head.base_layer.weight", "F32", 2, {10, 8}, head_values}};
    struct fixture_dir d;
    int failures = 0;
    fixture_dir_make(&d);
    fixture_write_text(&d, "adapter_config.json", CONFIG ALL ",\"base_model_name_or_path\":\"x\"}");
    fixture_write_tensors(&d, "adapter_model.safetensors", t, 3);
    wait_ms(50);
    for (int k = 1;; k++) {
        struct lora *l = NULL;
        struct err e = {0};
        mem_fail_at(k);
        enum status st = lora_open(d.path, &base, &l, &e);
        mem_fail_at(0);
        lora_free(l);
        if (st == STATUS_OK)
            break;
        if (st != STATUS_NO_MEMORY)
            fail_msg("allocation %d: %s: %s", k, status_code(st), e.msg);
        failures++;
    }
    print_message("allocations failed one by one: %d\n", failures);
    assert_true(failures > 15);
    fixture_dir_remove(&d);
}

/* ---- ADP-2: files that change while they are read ---- */

#define BIG_RANK            512
#define OVERWRITE_READS_MAX 5000

struct writer {
    struct fixture_dir dir;
    struct strbuf files[2]; /* all ones; all twos */
    atomic_bool stop;
    int written;
};

static void big_file(struct strbuf *out, float value)
{
    static float values[BIG_RANK * 12];
    for (int i = 0; i < BIG_RANK * 12; i++)
        values[i] = value;
    struct fixture_tensor t[2 * LAYERS];
    static char names[2 * LAYERS][96];
    for (int l = 0; l < LAYERS; l++) {
        snprintf(names[2 * l], 96, P "model.layers.%d.mlp.up_proj.lora_A.weight", l);
        snprintf(names[2 * l + 1], 96, P "model.layers.%d.mlp.up_proj.lora_B.weight", l);
        t[2 * l] = (struct fixture_tensor){names[2 * l], "F32", 2, {BIG_RANK, HIDDEN}, values};
        t[2 * l + 1] = (struct fixture_tensor){names[2 * l + 1], "F32", 2, {12, BIG_RANK}, values};
    }
    strbuf_init(out, 64u << 20);
    fixture_safetensors(out, t, 2 * LAYERS);
}

static float value_at(const struct lora *l, int layer, bool b)
{
    float v;
    const struct lora_module *m = &l->modules[layer];
    tensor_read_f32(b ? &m->b : &m->a, tensor_count(b ? &m->b : &m->a) - 1, 1, &v);
    return v;
}

/* 1 or 2 when every tensor is of one file; ends the test otherwise. */
static int whose(const struct lora *l)
{
    float first = value_at(l, 0, false);
    for (int layer = 0; layer < LAYERS; layer++) {
        for (int b = 0; b < 2; b++) {
            float v = value_at(l, layer, b);
            if (v != first)
                fail_msg("mixed: %g in layer %d, %g before", (double)v, layer, (double)first);
        }
    }
    return (int)first;
}

static void *overwrite_in_place(void *ctx)
{
    struct writer *w = ctx;
    int fd = open(fixture_path(&w->dir, "adapter_model.safetensors"), O_WRONLY);
    for (; !atomic_load(&w->stop); w->written++) {
        const struct strbuf *f = &w->files[w->written % 2];
        if (pwrite(fd, f->data, f->len, 0) != (ssize_t)f->len)
            break;
        /* A reader takes a tenth of a millisecond: many together, for one to fall into it, then a
         * while for one to come through. */
        if (w->written % 51 == 50)
            wait_ms(20);
    }
    close(fd);
    return NULL;
}

static void test_lora_open_never_mixes_overwritten_files(void **state)
{
    (void)state;
    struct writer w = {.written = 0};
    pthread_t thread;
    int counts[3] = {0};
    fixture_dir_make(&w.dir);
    big_file(&w.files[0], 1.0f);
    big_file(&w.files[1], 2.0f);
    fixture_write_text(&w.dir, "adapter_config.json",
                       "{\"peft_type\":\"LORA\",\"r\":512,\"target_modules\":[\"up_proj\"]}");
    fixture_write(&w.dir, "adapter_model.safetensors", w.files[0].data, w.files[0].len);
    assert_int_equal(pthread_create(&thread, NULL, overwrite_in_place, &w), 0);
    /* At least forty reads, and on until both outcomes were seen: which comes first is the
     * machine's affair. */
    for (int i = 0; i < OVERWRITE_READS_MAX; i++) {
        struct lora *l = NULL;
        struct err e = {0};
        enum status st = lora_open(w.dir.path, &base, &l, &e);
        if (st != STATUS_OK && st != STATUS_CONFLICT)
            fail_msg("%s: %s", status_code(st), e.msg);
        counts[st == STATUS_OK ? whose(l) : 0]++;
        lora_free(l);
        if (i >= 39 && counts[0] > 0 && counts[1] + counts[2] > 0)
            break;
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    print_message("overwritten %d times while reading: %d conflicts, %d + %d whole\n", w.written,
                  counts[0], counts[1], counts[2]);
    assert_true(counts[0] > 0 && counts[1] + counts[2] > 0);
    for (int i = 0; i < 2; i++)
        strbuf_deinit(&w.files[i]);
    fixture_dir_remove(&w.dir);
}

static void *exchange_directories(void *ctx)
{
    struct writer *w = ctx;
    char a[128];
    char b[128];
    snprintf(a, sizeof a, "%s/a", w->dir.path);
    snprintf(b, sizeof b, "%s/b", w->dir.path);
    for (; !atomic_load(&w->stop); w->written++) {
        if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) != 0)
            break;
        wait_ms(1);
    }
    return NULL;
}

/* A whole directory put in the place of another: old or new, and no error at all. */
static void test_lora_open_never_mixes_replaced_directories(void **state)
{
    (void)state;
    struct writer w = {.written = 0};
    pthread_t thread;
    int counts[3] = {0};
    fixture_dir_make(&w.dir);
    for (int i = 0; i < 2; i++) {
        char name[64];
        char config[128];
        snprintf(name, sizeof name, "%c", "ab"[i]);
        assert_int_equal(mkdir(fixture_path(&w.dir, name), 0700), 0);
        snprintf(name, sizeof name, "%c/adapter_config.json", "ab"[i]);
        snprintf(config, sizeof config,
                 "{\"peft_type\":\"LORA\",\"r\":512,\"lora_alpha\":%d,"
                 "\"target_modules\":[\"up_proj\"]}",
                 512 * (i + 1));
        fixture_write_text(&w.dir, name, config);
        snprintf(name, sizeof name, "%c/adapter_model.safetensors", "ab"[i]);
        big_file(&w.files[i], (float)(i + 1));
        fixture_write(&w.dir, name, w.files[i].data, w.files[i].len);
    }
    wait_ms(50);
    assert_int_equal(pthread_create(&thread, NULL, exchange_directories, &w), 0);
    for (int i = 0; i < 100; i++) {
        struct lora *l = NULL;
        struct err e = {0};
        if (lora_open_beneath(w.dir.path, "a", &base, &l, &e) != STATUS_OK)
            fail_msg("%s", e.msg);
        int id = whose(l);
        if (l->modules[0].scale != (float)id)
            fail_msg("scale %g with the tensors of %d", (double)l->modules[0].scale, id);
        counts[id]++;
        lora_free(l);
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    print_message("exchanged %d times while reading: %d + %d whole\n", w.written, counts[1],
                  counts[2]);
    assert_true(counts[1] > 0 && counts[2] > 0);
    for (int i = 0; i < 2; i++)
        strbuf_deinit(&w.files[i]);
    fixture_dir_remove(&w.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora_bind_cases),
        cmocka_unit_test(test_lora_bind_drops_copies),
        cmocka_unit_test(test_lora_bind_without_base),
        cmocka_unit_test(test_lora_open_files),
        cmocka_unit_test(test_lora_open_beneath_stays_beneath),
        cmocka_unit_test(test_lora_open_hash_and_base_name),
        cmocka_unit_test(test_lora_open_cut_files),
        cmocka_unit_test(test_lora_open_every_allocation_may_fail),
        cmocka_unit_test(test_lora_open_never_mixes_overwritten_files),
        cmocka_unit_test(test_lora_open_never_mixes_replaced_directories),
    };
    return cmocka_run_group_tests(tests, fill_base, NULL);
}
