/* GGUF adapters: whatever is accepted binds completely, and each value is what a second, slow
 * reading of the file says.
 *
 * Input: the file.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/adapter/lora_gguf.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"

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

static const char *const kinds[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                    "ffn_gate", "ffn_up", "ffn_down"};

static const struct gguf_tensor *tensor_of(const struct gguf *g, int site, char end)
{
    char name[64];
    int layers = base.shape.layers;
    if (site == SITE_LM_HEAD(layers))
        snprintf(name, sizeof name, "output.weight.lora_%c", end);
    else if (site == SITE_EMBED(layers))
        snprintf(name, sizeof name, "token_embd.weight.lora_%c", end);
    else
        snprintf(name, sizeof name, "blk.%d.%s.weight.lora_%c", site / LINEAR_COUNT,
                 kinds[site % LINEAR_COUNT], end);
    for (size_t i = 0; i < g->count; i++) {
        if (strcmp(g->tensors[i].name, name) == 0)
            return &g->tensors[i];
    }
    return NULL;
}

static float half_of(const unsigned char *p)
{
    int sign = p[1] & 0x80, exponent = (p[1] & 0x7c) >> 2, fraction = (p[1] & 3) << 8 | p[0];
    float v = exponent == 31  ? (fraction ? NAN : INFINITY)
              : exponent == 0 ? ldexpf((float)fraction, -24)
                              : ldexpf((float)(1024 + fraction), exponent - 25);
    return sign ? -v : v;
}

static uint32_t word_of(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Value i of the tensor. */
static float value_of(const struct gguf *g, const struct gguf_tensor *t, size_t i)
{
    const unsigned char *d = g->data + t->begin, *p;
    uint32_t bits;
    float v;
    size_t k = i % 32;
    switch (t->type) {
    case GGUF_TYPE_F32:
        bits = word_of(d + i * 4);
        break;
    case GGUF_TYPE_BF16:
        bits = (uint32_t)d[i * 2] << 16 | (uint32_t)d[i * 2 + 1] << 24;
        break;
    case GGUF_TYPE_F16:
        return half_of(d + i * 2);
    case GGUF_TYPE_Q8_0:
        p = d + i / 32 * 34;
        return half_of(p) * (float)(int8_t)p[2 + k];
    case GGUF_TYPE_Q4_0:
        p = d + i / 32 * 18;
        return half_of(p) * (float)((k < 16 ? p[2 + k] & 15 : p[2 + k - 16] >> 4) - 8);
    case GGUF_TYPE_Q4_1:
        p = d + i / 32 * 20;
        return half_of(p) * (float)(k < 16 ? p[4 + k] & 15 : p[4 + k - 16] >> 4) + half_of(p + 2);
    case GGUF_TYPE_Q5_0:
        p = d + i / 32 * 22;
        bits = (k < 16 ? p[6 + k] & 15 : p[6 + k - 16] >> 4) | (word_of(p + 2) >> k & 1) << 4;
        return half_of(p) * (float)((int)bits - 16);
    case GGUF_TYPE_Q5_1:
        p = d + i / 32 * 24;
        bits = (k < 16 ? p[8 + k] & 15 : p[8 + k - 16] >> 4) | (word_of(p + 4) >> k & 1) << 4;
        return half_of(p) * (float)bits + half_of(p + 2);
    default:
        CHECK(!"a type that is not read");
        return 0;
    }
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void check_value(const struct gguf *g, const struct gguf_tensor *from, size_t in_file,
                        const struct tensor *t, size_t at)
{
    float v;
    tensor_read_f32(t, at, 1, &v);
    CHECK(isfinite(v) && v == value_of(g, from, in_file));
}

/* Row of the file where the converter put row `r`: pairs of a head's halves. */
static size_t row_in_file(int site, size_t r)
{
    size_t d = (size_t)base.shape.head_dim, half = d / 2, i = r % d;
    int kind = site % LINEAR_COUNT;
    if (site >= SITE_LM_HEAD(base.shape.layers) || (kind != LINEAR_Q && kind != LINEAR_K))
        return r;
    return r - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

static void check_module(const struct gguf *g, const struct lora_module *m)
{
    const struct gguf_tensor *a = tensor_of(g, m->site, 'a'), *b = tensor_of(g, m->site, 'b');
    bool embed = m->site == SITE_EMBED(base.shape.layers);
    size_t rank = (size_t)m->rank, in_count = (size_t)m->in;
    int in, out;
    model_site_dims(&base.shape, m->site, &in, &out);
    CHECK(a && b && m->in == in && m->out == out);
    CHECK(m->rank >= 1 && m->rank <= LIMIT_ADAPTER_RANK && isfinite(m->scale));
    CHECK(m->a.rows == m->rank && m->a.cols == in && m->b.rows == out && m->b.cols == m->rank);
    CHECK(!m->magnitude.data);
    for (size_t r = 0; r < rank; r++) {
        for (size_t i = 0; i < in_count; i++)
            check_value(g, a, embed ? i * rank + r : r * in_count + i, &m->a, r * in_count + i);
    }
    for (size_t o = 0; o < (size_t)out; o++) {
        for (size_t r = 0; r < rank; r++)
            check_value(g, b, row_in_file(m->site, o) * rank + r, &m->b, o * rank + r);
    }
}

static void check_accepted(const struct gguf *g, const struct lora *l)
{
    int rank_max = 0;
    size_t bytes = 0;
    CHECK(l->module_count > 0 && (size_t)l->module_count * 2 == g->count);
    for (int i = 0; i < l->module_count; i++) {
        const struct lora_module *m = &l->modules[i];
        CHECK(i == 0 || m->site > l->modules[i - 1].site);
        check_module(g, m);
        bytes += tensor_bytes(&m->a) + tensor_bytes(&m->b);
        rank_max = m->rank > rank_max ? m->rank : rank_max;
    }
    CHECK(l->rank_max == rank_max && l->bytes == bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gguf *g = NULL;
    struct lora *l = NULL;
    struct err e = {0};
    enum status st = gguf_parse(data, n, "f.gguf", &g, &e);
    for (size_t i = 0; st == STATUS_OK && i < g->count; i++) {
        struct err ignored = {0};
        enum status looked = lora_gguf_look(g, &g->tensors[i], &base, &ignored);
        CHECK(looked == STATUS_OK || ignored.msg[0]);
        CHECK(g->tensors[i].begin <= g->tensors[i].end && g->tensors[i].end <= g->data_bytes);
    }
    if (st == STATUS_OK)
        st = lora_gguf_bind(g, &base, &l, &e);
    if (st == STATUS_OK)
        check_accepted(g, l);
    else
        CHECK(e.code == st && e.msg[0] &&
              (st == STATUS_BAD_FILE || st == STATUS_UNSUPPORTED || st == STATUS_LIMIT));
    lora_free(l);
    gguf_free(g);
    return 0;
}
