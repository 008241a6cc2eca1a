/* GGUF adapters: those that the gguf package wrote hold what their PEFT originals hold, to the bit
 * (tests/golden/data/gguf); whatever else is refused by name. */
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

#include "engine/adapter/lora_gguf.h"
#include "engine/base/file.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "tests/unit/fixture_files.h"
#include "tests/unit/fixture_golden.h"

#define GGUF_DIR GOLDEN_DIR "/gguf"

/* ---- goldens ---- */

static struct model *open_base(const char *arch)
{
    char path[256];
    struct err e = {0};
    struct model *m = NULL;
    snprintf(path, sizeof path, GOLDEN_DIR "/%s/model", arch);
    if (model_open(path, NULL, &m, &e) != STATUS_OK)
        fail_msg("%s: %s", path, e.msg);
    return m;
}

static struct lora *open_adapter(const char *path, const struct model *m)
{
    struct err e = {0};
    struct lora *l = NULL;
    if (lora_open(path, m, &l, &e) != STATUS_OK)
        fail_msg("%s: %s", path, e.msg);
    return l;
}

static void check_same(const char *what, int module, const struct tensor *a, const struct tensor *b)
{
    if (a->rows != b->rows || a->cols != b->cols)
        fail_msg("%s: module %d: [%lld, %lld] and [%lld, %lld]", what, module, (long long)a->rows,
                 (long long)a->cols, (long long)b->rows, (long long)b->cols);
    for (size_t i = 0; i < tensor_count(a); i++) {
        float x, y;
        tensor_read_f32(a, i, 1, &x);
        tensor_read_f32(b, i, 1, &y);
        if (memcmp(&x, &y, sizeof x) != 0)
            fail_msg("%s: module %d: element %zu: %.9g and %.9g", what, module, i, (double)x,
                     (double)y);
    }
}

static void test_gguf_equals_peft(void **state)
{
    (void)state;
    static const struct {
        const char *file, *arch, *peft;
        bool same_types;
    } all[] = {
        {"llama-all-r8", "llama", GOLDEN_DIR "/llama/adapters/all-r8", true},
        {"llama-head-r8", "llama", GOLDEN_DIR "/llama/adapters/head-r8", true},
        {"mistral-all-r8", "mistral", GOLDEN_DIR "/mistral/adapters/all-r8", true},
        {"mistral-embed-r4", "mistral", GOLDEN_DIR "/mistral/adapters/embed-r4", true},
        {"qwen2-qv-r4", "qwen2", GOLDEN_DIR "/qwen2/adapters/qv-r4", true},
        {"qwen3-all-r8", "qwen3", GOLDEN_DIR "/qwen3/adapters/all-r8", true},
        {"types", "qwen3", GGUF_DIR "/types", false},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char path[256];
        struct model *m = open_base(all[i].arch);
        snprintf(path, sizeof path, GGUF_DIR "/%s.gguf", all[i].file);
        struct lora *l = open_adapter(path, m);
        struct lora *peft = open_adapter(all[i].peft, m);
        assert_int_equal(l->module_count, peft->module_count);
        assert_int_equal(l->rank_max, peft->rank_max);
        for (int k = 0; k < l->module_count; k++) {
            const struct lora_module *x = &l->modules[k], *y = &peft->modules[k];
            assert_int_equal(x->site, y->site);
            assert_int_equal(x->rank, y->rank);
            assert_int_equal(x->in, y->in);
            assert_int_equal(x->out, y->out);
            assert_true(x->scale == y->scale);
            check_same(all[i].file, k, &x->a, &y->a);
            check_same(all[i].file, k, &x->b, &y->b);
            if (all[i].same_types)
                assert_true(x->a.dtype == y->a.dtype && x->b.dtype == y->b.dtype);
        }
        assert_true(!all[i].same_types || l->bytes == peft->bytes);
        assert_memory_not_equal(l->sha256, peft->sha256, SHA256_BYTES);
        lora_free(peft);
        lora_free(l);
        model_close(m);
    }
}

/* A base of another family, or of another shape. */
static void test_gguf_wants_its_base(void **state)
{
    (void)state;
    static const struct {
        const char *file, *arch, *param;
    } all[] = {
        {"llama-all-r8", "qwen3", "general.architecture"},
        {"qwen2-qv-r4", "qwen3", "general.architecture"},
        {"qwen3-all-r8", "qwen2", "general.architecture"},
        {"llama-all-r8", "mistral", "blk.0.attn_q.weight.lora_b"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char path[256];
        struct err e = {0};
        struct lora *l = NULL;
        struct model *m = open_base(all[i].arch);
        snprintf(path, sizeof path, GGUF_DIR "/%s.gguf", all[i].file);
        enum status st = lora_open(path, m, &l, &e);
        if (st != STATUS_BAD_FILE || strcmp(e.param, all[i].param) != 0)
            fail_msg("%s on %s: %s, [%s] %s", all[i].file, all[i].arch, status_code(st), e.param,
                     e.msg);
        model_close(m);
    }
}

/* ---- files made here ---- */

#define HIDDEN 32
#define VOCAB  40

static const struct model base = {
    .shape = {.arch = ARCH_LLAMA,
              .layers = 2,
              .hidden = HIDDEN,
              .heads = 4,
              .kv_heads = 2,
              .head_dim = 8,
              .ffn = 64,
              .vocab = VOCAB},
};

static void put(struct strbuf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        strbuf_putc(b, (char)(v >> (8 * i) & 255));
}

static void put_string(struct strbuf *b, const char *s)
{
    put(b, strlen(s), 8);
    strbuf_puts(b, s);
}

static void put_text(struct strbuf *b, const char *key, const char *value)
{
    put_string(b, key);
    put(b, GGUF_STRING, 4);
    put_string(b, value);
}

static void put_number(struct strbuf *b, const char *key, enum gguf_kind kind, uint64_t bits,
                       int bytes)
{
    put_string(b, key);
    put(b, (uint64_t)kind, 4);
    put(b, bits, bytes);
}

struct wanted {
    const char *name;
    int rank;
    int64_t shape[5]; /* as the file has it: innermost first */
    int type;
    int64_t shift; /* of its offset */
    float value;   /* 0: something finite */
};

struct build {
    const char *what;
    enum status status;
    const char *param; /* of the refusal; NULL: accepted */
    struct wanted t[4];
    void (*keys)(struct strbuf *b); /* further ones, counted by `more_keys` */
    int more_keys;
    const char *type, *kind, *arch; /* NULL: as it should be; "": left out */
    const char *magic;
    int version;     /* 0: 3 */
    int64_t tensors; /* what the head says beyond what is there */
    int64_t extra;   /* bytes behind the data */
    double alpha;    /* 0: 4; NAN: left out; < 0: written as an integer */
    int alignment;   /* 0: no such key */
};

static size_t type_bytes(int type, int64_t count)
{
    static const unsigned char block[] = {[2] = 18, [3] = 20, [6] = 22, [7] = 24, [8] = 34};
    if (type == 0)
        return (size_t)count * 4;
    if (type == 1 || type == 30)
        return (size_t)count * 2;
    return type < 9 ? (size_t)((count + 31) / 32) * block[type] : (size_t)count;
}

static int count_of(const struct wanted t[4])
{
    int n = 0;
    while (n < 4 && t[n].name)
        n++;
    return n;
}

static size_t padded(size_t n, size_t alignment)
{
    return (n + alignment - 1) / alignment * alignment;
}

static void put_table(struct strbuf *b, const struct build *w, size_t alignment)
{
    size_t at = 0;
    for (int i = 0; i < count_of(w->t); i++) {
        const struct wanted *t = &w->t[i];
        int64_t count = 1;
        put_string(b, t->name);
        put(b, (uint64_t)t->rank, 4);
        for (int k = 0; k < t->rank; k++) {
            put(b, (uint64_t)t->shape[k], 8);
            count *= t->shape[k] >= 0 && t->shape[k] < 4096 ? t->shape[k] : 1;
        }
        put(b, (uint64_t)t->type, 4);
        put(b, at + (uint64_t)t->shift, 8);
        at = padded(at + type_bytes(t->type, count), alignment);
    }
}

static void put_data(struct strbuf *b, const struct build *w, size_t alignment)
{
    for (int i = 0; i < count_of(w->t); i++) {
        const struct wanted *t = &w->t[i];
        int64_t count = 1;
        for (size_t pad = padded(b->len, alignment) - b->len; pad > 0; pad--)
            strbuf_putc(b, 0);
        for (int k = 0; k < t->rank; k++)
            count *= t->shape[k] >= 0 && t->shape[k] < 4096 ? t->shape[k] : 1;
        size_t n = type_bytes(t->type, count);
        for (size_t k = 0; k < n; k++) {
            uint32_t bits = 0x3e000000u + (uint32_t)(k / 4) * 4096;
            if (t->value != 0)
                memcpy(&bits, &t->value, 4);
            /* Low bytes alone are small halves too. */
            strbuf_putc(b, (char)(t->type == 0 ? bits >> (8 * (k % 4)) : (uint32_t)k * 7 & 63));
        }
    }
    for (int64_t i = 0; i < w->extra; i++)
        strbuf_putc(b, 0);
}

static void write_file(struct strbuf *b, const struct build *w)
{
    size_t alignment = w->alignment > 0 ? (size_t)w->alignment : 32;
    int keys = w->more_keys + (w->alignment != 0) + !isnan(w->alpha);
    keys += !w->type || *w->type;
    keys += !w->kind || *w->kind;
    keys += !w->arch || *w->arch;
    strbuf_append(b, w->magic ? w->magic : "GGUF", 4);
    put(b, (uint64_t)(w->version ? w->version : 3), 4);
    put(b, (uint64_t)(count_of(w->t) + w->tensors), 8);
    put(b, (uint64_t)keys, 8);
    if (!w->type || *w->type)
        put_text(b, "general.type", w->type ? w->type : "adapter");
    if (!w->kind || *w->kind)
        put_text(b, "adapter.type", w->kind ? w->kind : "lora");
    if (!w->arch || *w->arch)
        put_text(b, "general.architecture", w->arch ? w->arch : "llama");
    if (w->alpha < 0) {
        put_number(b, "adapter.lora.alpha", GGUF_U32, 4, 4);
    } else if (!isnan(w->alpha)) {
        float alpha = w->alpha == 0 ? 4.0f : (float)w->alpha;
        uint32_t bits;
        memcpy(&bits, &alpha, 4);
        put_number(b, "adapter.lora.alpha", GGUF_F32, bits, 4);
    }
    if (w->alignment)
        put_number(b, "general.alignment", GGUF_U32, (uint32_t)w->alignment, 4);
    if (w->keys)
        w->keys(b);
    put_table(b, w, alignment);
    put_data(b, w, alignment);
}

static void keys_harmless(struct strbuf *b)
{
    put_text(b, "adapter.lora.task_name", "stories");
    put_string(b, "general.tags");
    put(b, GGUF_ARRAY, 4);
    put(b, GGUF_STRING, 4);
    put(b, 2, 8);
    put_string(b, "one");
    put_string(b, "");
    put_number(b, "general.quantization_version", GGUF_U32, 2, 4);
}

static void key_alora(struct strbuf *b)
{
    put_string(b, "adapter.alora.invocation_tokens");
    put(b, GGUF_ARRAY, 4);
    put(b, GGUF_U32, 4);
    put(b, 1, 8);
    put(b, 7, 4);
}

static void key_alora_far(struct strbuf *b)
{
    put_string(b, "adapter.alora.invocation_tokens");
    put(b, GGUF_ARRAY, 4);
    put(b, GGUF_I32, 4);
    put(b, 2, 8);
    put(b, 7, 4);
    put(b, VOCAB, 4);
}

static void key_alora_text(struct strbuf *b)
{
    put_string(b, "adapter.alora.invocation_tokens");
    put(b, GGUF_ARRAY, 4);
    put(b, GGUF_STRING, 4);
    put(b, 1, 8);
    put_string(b, "<elf>");
}

static void key_alora_number(struct strbuf *b)
{
    put_number(b, "adapter.alora.invocation_tokens", GGUF_U32, 7, 4);
}

static void key_alora_empty(struct strbuf *b)
{
    put_string(b, "adapter.alora.invocation_tokens");
    put(b, GGUF_ARRAY, 4);
    put(b, GGUF_U32, 4);
    put(b, 0, 8);
}

static void key_unknown(struct strbuf *b)
{
    put_number(b, "adapter.lora.use_rslora", GGUF_BOOL, 1, 1);
}

static void key_twice(struct strbuf *b)
{
    put_text(b, "adapter.type", "lora");
}

static void key_kind(struct strbuf *b)
{
    put_number(b, "general.odd", (enum gguf_kind)13, 0, 1);
}

static void key_nested(struct strbuf *b)
{
    put_string(b, "general.odd");
    put(b, GGUF_ARRAY, 4);
    put(b, GGUF_ARRAY, 4);
    put(b, 1, 8);
}

static void key_huge_array(struct strbuf *b)
{
    put_string(b, "general.odd");
    put(b, GGUF_ARRAY, 4);
    put(b, GGUF_U64, 4);
    put(b, UINT64_MAX / 8 + 2, 8);
}

static void key_huge_name(struct strbuf *b)
{
    put(b, UINT64_MAX, 8);
    put(b, 0, 8);
}

static void key_not_text(struct strbuf *b)
{
    put_text(b, "general.\xff", "x");
}

static void key_long(struct strbuf *b)
{
    char name[LIMIT_GGUF_NAME_BYTES + 2];
    memset(name, 'k', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    put_text(b, name, "x");
}

#define Q0      "blk.0.attn_q.weight"
#define A(site) site ".lora_a"
#define B(site) site ".lora_b"

static const struct build builds[] = {
    {.what = "plain",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}}},
    {.what = "version 2",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .version = 2},
    {.what = "padding behind",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 1}, .type = 1},
           {.name = B(Q0), .rank = 2, .shape = {1, 32}, .type = 0}}},
    {.what = "further keys",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = keys_harmless,
     .more_keys = 3},
    {.what = "no tokens",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_alora_empty,
     .more_keys = 1},
    {.what = "alignment",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .alignment = 8},
    {.what = "types",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 32}, .type = 2},
           {.name = B(Q0), .rank = 2, .shape = {32, 32}, .type = 7}}},
    {.what = "head",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A("output.weight"), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B("output.weight"), .rank = 2, .shape = {2, 40}, .type = 0}}},
    {.what = "embedding",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A("token_embd.weight"), .rank = 2, .shape = {2, 40}, .type = 0},
           {.name = B("token_embd.weight"), .rank = 2, .shape = {2, 32}, .type = 0}}},
    /* the container */
    {.what = "magic",
     .status = STATUS_BAD_FILE,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .magic = "GGML"},
    {.what = "version 1",
     .status = STATUS_UNSUPPORTED,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .version = 1},
    {.what = "big-endian",
     .status = STATUS_UNSUPPORTED,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .version = 3 << 24},
    {.what = "tensors that are not there",
     .status = STATUS_BAD_FILE,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .tensors = 1},
    {.what = "too many tensors",
     .status = STATUS_LIMIT,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .tensors = LIMIT_TENSORS},
    {.what = "tensors without end",
     .status = STATUS_LIMIT,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .tensors = INT64_MAX - 2},
    {.what = "key twice",
     .status = STATUS_BAD_FILE,
     .param = "adapter.type",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_twice,
     .more_keys = 1},
    {.what = "kind of value",
     .status = STATUS_BAD_FILE,
     .param = "general.odd",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_kind,
     .more_keys = 1},
    {.what = "nested",
     .status = STATUS_BAD_FILE,
     .param = "general.odd",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_nested,
     .more_keys = 1},
    {.what = "huge array",
     .status = STATUS_BAD_FILE,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_huge_array,
     .more_keys = 1},
    {.what = "huge key",
     .status = STATUS_BAD_FILE,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_huge_name,
     .more_keys = 1},
    {.what = "long key",
     .status = STATUS_BAD_FILE,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_long,
     .more_keys = 1},
    {.what = "key no text",
     .status = STATUS_BAD_FILE,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_not_text,
     .more_keys = 1},
    {.what = "alignment 3",
     .status = STATUS_BAD_FILE,
     .param = "general.alignment",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .alignment = 3},
    {.what = "alignment huge",
     .status = STATUS_BAD_FILE,
     .param = "general.alignment",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .alignment = 1 << 20},
    {.what = "bytes behind",
     .status = STATUS_BAD_FILE,
     .param = "f.gguf",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .extra = 1},
    {.what = "offset",
     .status = STATUS_BAD_FILE,
     .param = B(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0, .shift = 32}}},
    {.what = "offset back",
     .status = STATUS_BAD_FILE,
     .param = B(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0, .shift = -32}}},
    {.what = "offset uneven",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0, .shift = 1},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}}},
    {.what = "no dimension",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 0, .shape = {0}, .type = 0}}},
    {.what = "five dimensions",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 5, .shape = {1, 1, 1, 1, 1}, .type = 0}}},
    {.what = "zero",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {0, 2}, .type = 0}}},
    {.what = "overflow",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 3, .shape = {INT64_MAX, INT64_MAX, 2}, .type = 0}}},
    {.what = "negative",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {-1, 2}, .type = 0}}},
    {.what = "no whole blocks",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {16, 2}, .type = 8}}},
    {.what = "type not read",
     .status = STATUS_UNSUPPORTED,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 12}}},
    {.what = "integers",
     .status = STATUS_UNSUPPORTED,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 24}}},
    {.what = "no such type",
     .status = STATUS_UNSUPPORTED,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 99}}},
    {.what = "twice",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0}}},
    /* what it says of itself */
    {.what = "a model",
     .status = STATUS_BAD_FILE,
     .param = "general.type",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .type = "model"},
    {.what = "no type",
     .status = STATUS_BAD_FILE,
     .param = "general.type",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .type = ""},
    {.what = "no LoRA",
     .status = STATUS_UNSUPPORTED,
     .param = "adapter.type",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .kind = "ia3"},
    {.what = "no kind",
     .status = STATUS_UNSUPPORTED,
     .param = "adapter.type",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .kind = ""},
    {.what = "architecture",
     .status = STATUS_BAD_FILE,
     .param = "general.architecture",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .arch = "qwen2"},
    {.what = "no architecture",
     .status = STATUS_BAD_FILE,
     .param = "general.architecture",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .arch = ""},
    {.what = "no alpha",
     .status = STATUS_BAD_FILE,
     .param = "adapter.lora.alpha",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .alpha = (double)NAN},
    {.what = "integer alpha",
     .status = STATUS_BAD_FILE,
     .param = "adapter.lora.alpha",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .alpha = -1},
    {.what = "infinite alpha",
     .status = STATUS_BAD_FILE,
     .param = "adapter.lora.alpha",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .alpha = (double)INFINITY},
    {.what = "activated",
     .status = STATUS_OK,
     .param = NULL,
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_alora,
     .more_keys = 1},
    {.what = "activated by no token",
     .status = STATUS_BAD_FILE,
     .param = "adapter.alora.invocation_tokens",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_alora_far,
     .more_keys = 1},
    {.what = "activated by a text",
     .status = STATUS_BAD_FILE,
     .param = "adapter.alora.invocation_tokens",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_alora_text,
     .more_keys = 1},
    {.what = "activated by a number",
     .status = STATUS_BAD_FILE,
     .param = "adapter.alora.invocation_tokens",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_alora_number,
     .more_keys = 1},
    {.what = "activated embedding",
     .status = STATUS_UNSUPPORTED,
     .param = "adapter.alora.invocation_tokens",
     .t = {{.name = A("token_embd.weight"), .rank = 2, .shape = {2, 40}, .type = 0},
           {.name = B("token_embd.weight"), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_alora,
     .more_keys = 1},
    {.what = "unknown key",
     .status = STATUS_UNSUPPORTED,
     .param = "adapter.lora.use_rslora",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}},
     .keys = key_unknown,
     .more_keys = 1},
    /* tensors and the base */
    {.what = "no tensors", .status = STATUS_BAD_FILE, .param = "f.gguf"},
    {.what = "half a pair",
     .status = STATUS_BAD_FILE,
     .param = B(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0}}},
    {.what = "other half",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}}},
    {.what = "far layer",
     .status = STATUS_BAD_FILE,
     .param = A("blk.2.attn_q.weight"),
     .t = {{.name = A("blk.2.attn_q.weight"), .rank = 2, .shape = {32, 2}, .type = 0}}},
    {.what = "odd layer",
     .status = STATUS_BAD_FILE,
     .param = A("blk.00.attn_q.weight"),
     .t = {{.name = A("blk.00.attn_q.weight"), .rank = 2, .shape = {32, 2}, .type = 0}}},
    {.what = "no layer",
     .status = STATUS_BAD_FILE,
     .param = A("blk..attn_q.weight"),
     .t = {{.name = A("blk..attn_q.weight"), .rank = 2, .shape = {32, 2}, .type = 0}}},
    {.what = "fused",
     .status = STATUS_BAD_FILE,
     .param = A("blk.0.attn_qkv.weight"),
     .t = {{.name = A("blk.0.attn_qkv.weight"), .rank = 2, .shape = {32, 2}, .type = 0}}},
    {.what = "bias",
     .status = STATUS_BAD_FILE,
     .param = A("blk.0.attn_q.bias"),
     .t = {{.name = A("blk.0.attn_q.bias"), .rank = 2, .shape = {32, 2}, .type = 0}}},
    {.what = "norm",
     .status = STATUS_BAD_FILE,
     .param = "blk.0.attn_norm.weight",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0},
           {.name = "blk.0.attn_norm.weight", .rank = 1, .shape = {32}, .type = 0}}},
    {.what = "third matrix",
     .status = STATUS_BAD_FILE,
     .param = Q0 ".lora_c",
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0},
           {.name = Q0 ".lora_c", .rank = 2, .shape = {32, 2}, .type = 0}}},
    {.what = "nothing but the end",
     .status = STATUS_BAD_FILE,
     .param = ".lora_a",
     .t = {{.name = ".lora_a", .rank = 2, .shape = {32, 2}, .type = 0}}},
    {.what = "turned",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {2, 32}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}}},
    {.what = "narrow",
     .status = STATUS_BAD_FILE,
     .param = B(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 16}, .type = 0}}},
    {.what = "ranks differ",
     .status = STATUS_BAD_FILE,
     .param = B(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {3, 32}, .type = 0}}},
    {.what = "a vector",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 1, .shape = {32}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {1, 32}, .type = 0}}},
    {.what = "rank",
     .status = STATUS_LIMIT,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 513}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {513, 32}, .type = 0}}},
    {.what = "embedding not turned",
     .status = STATUS_BAD_FILE,
     .param = A("token_embd.weight"),
     .t = {{.name = A("token_embd.weight"), .rank = 2, .shape = {40, 2}, .type = 0},
           {.name = B("token_embd.weight"), .rank = 2, .shape = {2, 32}, .type = 0}}},
    {.what = "not a number",
     .status = STATUS_BAD_FILE,
     .param = A(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0, .value = NAN},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0}}},
    {.what = "infinite",
     .status = STATUS_BAD_FILE,
     .param = B(Q0),
     .t = {{.name = A(Q0), .rank = 2, .shape = {32, 2}, .type = 0},
           {.name = B(Q0), .rank = 2, .shape = {2, 32}, .type = 0, .value = INFINITY}}},
};

/* Parsing and binding from memory that ends where the file does, so that a sanitizer sees a step
 * too far. */
static enum status bind(const void *bytes, size_t n, const struct model *on, struct lora **out,
                        struct err *e)
{
    unsigned char *exact = mem_alloc(n ? n : 1, 1);
    struct gguf *g = NULL;
    assert_non_null(exact);
    memcpy(exact, bytes, n);
    enum status st = gguf_parse(exact, n, "f.gguf", &g, e);
    if (st == STATUS_OK)
        st = lora_gguf_bind(g, on, out, e);
    gguf_free(g);
    mem_free(exact);
    return st;
}

static void test_gguf_table(void **state)
{
    (void)state;
    int refused = 0;
    for (size_t i = 0; i < sizeof builds / sizeof builds[0]; i++) {
        const struct build *w = &builds[i];
        struct strbuf b;
        struct err e = {0};
        struct lora *l = NULL;
        strbuf_init(&b, 4u << 20);
        write_file(&b, w);
        enum status st = bind(b.data, b.len, &base, &l, &e);
        if (st != w->status)
            fail_msg("%s: %s (%s), expected %s", w->what, status_code(st), e.msg,
                     status_code(w->status));
        if (w->param && (strcmp(e.param, w->param) != 0 || !e.msg[0]))
            fail_msg("%s: [%s] %s, expected [%s]", w->what, e.param, e.msg, w->param);
        refused += st != STATUS_OK;
        bool activated = w->keys == key_alora;
        if (l && (l->alora_token_count != activated || (activated && l->alora_tokens[0] != 7)))
            fail_msg("%s: %d tokens", w->what, l->alora_token_count);
        lora_free(l);
        strbuf_deinit(&b);
    }
    print_message("refused by name: %d\n", refused);
}

static void test_gguf_scale(void **state)
{
    (void)state;
    static const struct {
        double alpha;
        float bits_alpha, scale;
    } all[] = {{4, 4, 2}, {-0.0, 0, 1}, {3, 3, 1.5f}};
    struct build w = builds[0];
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct strbuf b;
        struct err e = {0};
        struct lora *l = NULL;
        strbuf_init(&b, 1u << 20);
        w.alpha = all[i].bits_alpha == 0 ? 1e-300 : all[i].alpha; /* which is 0 in 32 bits */
        write_file(&b, &w);
        if (bind(b.data, b.len, &base, &l, &e) != STATUS_OK)
            fail_msg("%s", e.msg);
        if (l->modules[0].scale != all[i].scale)
            fail_msg("alpha %g: scale %g, expected %g", (double)all[i].bits_alpha,
                     (double)l->modules[0].scale, (double)all[i].scale);
        lora_free(l);
        strbuf_deinit(&b);
    }
}

/* ---- torn files (ADP-1) ---- */

static char *read_whole(const char *path, size_t *n)
{
    struct file_root root;
    char *bytes = NULL;
    struct err e = {0};
    assert_int_equal(file_root_open(GGUF_DIR, false, &root, &e), STATUS_OK);
    assert_int_equal(file_read(&root, path, 1u << 20, &bytes, n, NULL, &e), STATUS_OK);
    file_root_close(&root);
    return bytes;
}

static void test_gguf_cut_anywhere(void **state)
{
    (void)state;
    struct model *m = open_base("qwen2");
    struct fixture_dir d;
    size_t n;
    char *bytes = read_whole("qwen2-qv-r4.gguf", &n);
    fixture_dir_make(&d);
    for (size_t cut = 0; cut < n; cut++) {
        struct err e = {0};
        struct lora *l = NULL;
        enum status st = bind(bytes, cut, m, &l, &e);
        if (st != STATUS_BAD_FILE || !e.param[0] || !e.msg[0])
            fail_msg("cut at %zu of %zu: %s, %s", cut, n, status_code(st), e.msg);
        if (cut % 61 == 0 || cut < 64) { /* and from a file */
            fixture_write(&d, "cut.gguf", bytes, cut);
            st = lora_open(fixture_path(&d, "cut.gguf"), m, &l, &e);
            if (st != STATUS_BAD_FILE)
                fail_msg("file of %zu bytes: %s, %s", cut, status_code(st), e.msg);
        }
    }
    print_message("ADP-1: %zu cuts\n", n);
    fixture_dir_remove(&d);
    mem_free(bytes);
    model_close(m);
}

/* Whatever a byte of the header becomes, the file is refused with a reason, or binds whole. */
static void test_gguf_any_byte_changed(void **state)
{
    (void)state;
    static const unsigned char flips[] = {0x01, 0x80, 0xff, 0x20};
    struct model *m = open_base("qwen2");
    size_t n;
    char *bytes = read_whole("qwen2-qv-r4.gguf", &n);
    int bound = 0;
    for (size_t at = 0; at < 1024; at++) {
        for (size_t k = 0; k < sizeof flips; k++) {
            struct err e = {0};
            struct lora *l = NULL;
            bytes[at] = (char)(bytes[at] ^ flips[k]);
            enum status st = bind(bytes, n, m, &l, &e);
            bytes[at] = (char)(bytes[at] ^ flips[k]);
            if (st == STATUS_OK)
                bound++;
            else if (!e.msg[0] || e.code != st)
                fail_msg("byte %zu: %s without a reason", at, status_code(st));
            lora_free(l);
        }
    }
    assert_true(bound > 0); /* texts that nobody reads */
    mem_free(bytes);
    model_close(m);
}

static void test_gguf_out_of_memory(void **state)
{
    (void)state;
    struct model *m = open_base("mistral");
    struct lora *l = NULL;
    int failed = 0;
    for (int64_t k = 1; !l; k++) {
        struct err e = {0};
        mem_fail_at(k);
        enum status st = lora_open(GGUF_DIR "/mistral-embed-r4.gguf", m, &l, &e);
        mem_fail_at(0);
        if (st != STATUS_OK && st != STATUS_NO_MEMORY)
            fail_msg("allocation %lld: %s, %s", (long long)k, status_code(st), e.msg);
        failed += st != STATUS_OK;
    }
    assert_true(failed >= 6);
    lora_free(l);
    model_close(m);
}

/* ---- where it lies ---- */

static void test_gguf_beneath_a_root(void **state)
{
    (void)state;
    struct model *m = open_base("qwen2");
    struct fixture_dir in, out;
    struct err e = {0};
    struct lora *l = NULL;
    size_t n;
    char *bytes = read_whole("qwen2-qv-r4.gguf", &n);
    fixture_dir_make(&in);
    fixture_dir_make(&out);
    fixture_write(&in, "here.gguf", bytes, n);
    fixture_write(&out, "there.gguf", bytes, n);
    assert_int_equal(symlink("here.gguf", fixture_path(&in, "link.gguf")), 0);
    char target[128];
    snprintf(target, sizeof target, "%s", fixture_path(&out, "there.gguf"));
    assert_int_equal(symlink(target, fixture_path(&in, "far.gguf")), 0);
    assert_int_equal(mkdir(fixture_path(&in, "folder.gguf"), 0700), 0);
    assert_int_equal(mkfifo(fixture_path(&in, "fifo.gguf"), 0600), 0);
    static const struct {
        const char *name;
        enum status status;
    } all[] = {
        {"here.gguf", STATUS_OK},        {"link.gguf", STATUS_OK},
        {"far.gguf", STATUS_BAD_FILE},   {"../x/there.gguf", STATUS_BAD_FILE},
        {"none.gguf", STATUS_NOT_FOUND}, {"folder.gguf", STATUS_NOT_FOUND},
        {"fifo.gguf", STATUS_BAD_FILE},  {".gguf", STATUS_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        l = NULL;
        enum status st = lora_open_beneath(in.path, all[i].name, m, &l, &e);
        if (st != all[i].status)
            fail_msg("%s: %s, %s", all[i].name, status_code(st), e.msg);
        lora_free(l);
    }
    fixture_dir_remove(&in);
    fixture_dir_remove(&out);
    mem_free(bytes);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_equals_peft),   cmocka_unit_test(test_gguf_wants_its_base),
        cmocka_unit_test(test_gguf_table),         cmocka_unit_test(test_gguf_scale),
        cmocka_unit_test(test_gguf_cut_anywhere),  cmocka_unit_test(test_gguf_any_byte_changed),
        cmocka_unit_test(test_gguf_out_of_memory), cmocka_unit_test(test_gguf_beneath_a_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
