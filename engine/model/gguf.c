#include "engine/model/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/model/tensor.h"

#define ALIGNMENT_DEFAULT 32
#define VALUE_BYTES_MIN   13 /* key length, kind, one byte */
#define TENSOR_BYTES_MIN  32 /* name length, rank, one dimension, type, offset */
#define BLOCK             32

static const unsigned char kind_bytes[GGUF_KINDS] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

/* Tensor types: those that are read have a size. */
static const struct type_facts {
    int number;
    const char *name;
    unsigned char values; /* of a block */
    unsigned char bytes;  /* of a block; 0: not read */
} types[] = {
    {GGUF_TYPE_F32, "F32", 1, 4},
    {GGUF_TYPE_F16, "F16", 1, 2},
    {GGUF_TYPE_BF16, "BF16", 1, 2},
    {GGUF_TYPE_Q4_0, "Q4_0", BLOCK, 18},
    {GGUF_TYPE_Q4_1, "Q4_1", BLOCK, 20},
    {GGUF_TYPE_Q5_0, "Q5_0", BLOCK, 22},
    {GGUF_TYPE_Q5_1, "Q5_1", BLOCK, 24},
    {GGUF_TYPE_Q8_0, "Q8_0", BLOCK, 34},
    {10, "Q2_K", 0, 0},
    {11, "Q3_K", 0, 0},
    {12, "Q4_K", 0, 0},
    {13, "Q5_K", 0, 0},
    {14, "Q6_K", 0, 0},
};

static const struct type_facts *facts_of(uint32_t number)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if ((uint32_t)types[i].number == number)
            return &types[i];
    }
    return NULL;
}

const char *gguf_type_name(enum gguf_type type)
{
    const struct type_facts *f = facts_of((uint32_t)type);
    return f ? f->name : "?";
}

size_t gguf_block(enum gguf_type type)
{
    return facts_of((uint32_t)type)->values;
}

const char *gguf_shape_text(const struct gguf_tensor *t, char *out, size_t cap)
{
    size_t at = (size_t)snprintf(out, cap, "[");
    for (int i = 0; i < t->rank && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, i ? ", %lld" : "%lld", (long long)t->shape[i]);
    if (at < cap)
        snprintf(out + at, cap - at, "]");
    return out;
}

/* ---- a place in the file that never leaves it ---- */

struct cursor {
    const unsigned char *bytes;
    size_t n;
    size_t at;
    const char *file;
    struct err *e;
};

static enum status cut_off(const struct cursor *c, const char *what)
{
    return err_set(c->e, STATUS_BAD_FILE, c->file, "%s: ends at byte %zu inside %s (cut off?)",
                   c->file, c->n, what);
}

static enum status take(struct cursor *c, size_t n, const char *what, const unsigned char **out)
{
    if (n > c->n - c->at)
        return cut_off(c, what);
    *out = c->bytes + c->at;
    c->at += n;
    return STATUS_OK;
}

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static enum status take_u32(struct cursor *c, const char *what, uint32_t *out)
{
    const unsigned char *p = NULL;
    enum status st = take(c, 4, what, &p);
    if (st == STATUS_OK)
        *out = (uint32_t)little(p, 4);
    return st;
}

static enum status take_u64(struct cursor *c, const char *what, uint64_t *out)
{
    const unsigned char *p = NULL;
    enum status st = take(c, 8, what, &p);
    if (st == STATUS_OK)
        *out = little(p, 8);
    return st;
}

static enum status take_string(struct cursor *c, const char *what, const unsigned char **out,
                               size_t *n)
{
    uint64_t len = 0;
    enum status st = take_u64(c, what, &len);
    if (st != STATUS_OK)
        return st;
    if (len > c->n - c->at)
        return cut_off(c, what);
    *n = (size_t)len;
    return take(c, (size_t)len, what, out);
}

/* A key or a name, copied to *to with a terminator. */
static enum status take_name(struct cursor *c, const char *what, char **to, const char **out)
{
    const unsigned char *p = NULL;
    size_t n = 0;
    enum status st = take_string(c, what, &p, &n);
    if (st != STATUS_OK)
        return st;
    if (n == 0 || n > LIMIT_GGUF_NAME_BYTES)
        return err_set(c->e, STATUS_BAD_FILE, c->file, "%s: %s of %zu bytes (1 to %d are read)",
                       c->file, what, n, LIMIT_GGUF_NAME_BYTES);
    if (!utf8_is_valid((const char *)p, n) || memchr(p, 0, n))
        return err_set(c->e, STATUS_BAD_FILE, c->file, "%s: %s at byte %zu is not text", c->file,
                       what, c->at - n);
    memcpy(*to, p, n);
    (*to)[n] = '\0';
    *out = *to;
    *to += n + 1;
    return STATUS_OK;
}

/* ---- metadata ---- */

static enum status skip_items(struct cursor *c, struct gguf_value *v)
{
    size_t bytes;
    const unsigned char *p = NULL;
    if (v->kind != GGUF_STRING) {
        if (!checked_mul(v->count, kind_bytes[v->kind], &bytes))
            return cut_off(c, "a value");
        return take(c, bytes, "a value", &p);
    }
    enum status st = STATUS_OK;
    for (size_t i = 0; i < v->count && st == STATUS_OK; i++) {
        size_t n;
        st = take_string(c, "a value", &p, &n);
    }
    return st;
}

static enum status take_value(struct cursor *c, char **to, struct gguf_value *v)
{
    uint32_t kind = 0;
    uint64_t count = 1;
    enum status st = take_name(c, "a key", to, &v->key);
    if (st == STATUS_OK)
        st = take_u32(c, "a value", &kind);
    v->is_array = kind == GGUF_ARRAY;
    if (st == STATUS_OK && v->is_array)
        st = take_u32(c, "a value", &kind);
    if (st == STATUS_OK && v->is_array)
        st = take_u64(c, "a value", &count);
    if (st != STATUS_OK)
        return st;
    if (kind >= GGUF_KINDS || kind == GGUF_ARRAY)
        return err_set(c->e, STATUS_BAD_FILE, v->key, "%s: %s: unknown kind of value %u", c->file,
                       v->key, (unsigned)kind);
    if (count > c->n - c->at) /* each item has a byte at least */
        return cut_off(c, "a value");
    v->kind = (enum gguf_kind)kind;
    v->count = (size_t)count;
    v->data = c->bytes + c->at;
    return skip_items(c, v);
}

static int compare_values(const void *a, const void *b)
{
    return strcmp(((const struct gguf_value *)a)->key, ((const struct gguf_value *)b)->key);
}

static enum status take_values(struct cursor *c, struct gguf *g, char **to)
{
    enum status st = STATUS_OK;
    for (size_t i = 0; i < g->value_count && st == STATUS_OK; i++)
        st = take_value(c, to, &g->values[i]);
    if (st != STATUS_OK)
        return st;
    if (g->value_count > 1)
        qsort(g->values, g->value_count, sizeof *g->values, compare_values);
    for (size_t i = 1; i < g->value_count; i++) {
        if (compare_values(&g->values[i - 1], &g->values[i]) == 0)
            return err_set(c->e, STATUS_BAD_FILE, g->values[i].key, "%s: %s stands there twice",
                           c->file, g->values[i].key);
    }
    return STATUS_OK;
}

static enum status read_alignment(const struct gguf *g, size_t *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, "general.alignment");
    int64_t n = ALIGNMENT_DEFAULT;
    if (v && (v->kind != GGUF_U32 || v->is_array || !gguf_integer(v, 0, &n) || n < 1 ||
              n > LIMIT_GGUF_ALIGNMENT || (n & (n - 1)) != 0))
        return err_set(e, STATUS_BAD_FILE, "general.alignment",
                       "%s: general.alignment must be a power of two up to %d", g->file,
                       LIMIT_GGUF_ALIGNMENT);
    *out = (size_t)n;
    return STATUS_OK;
}

/* ---- tensors ---- */

static enum status take_shape(struct cursor *c, struct gguf_tensor *t)
{
    uint32_t rank = 0;
    enum status st = take_u32(c, "a tensor's shape", &rank);
    if (st == STATUS_OK && (rank < 1 || rank > GGUF_RANK_MAX))
        return err_set(c->e, STATUS_BAD_FILE, t->name, "%s: tensor %s: %u dimensions (1 to %d)",
                       c->file, t->name, (unsigned)rank, GGUF_RANK_MAX);
    t->rank = (int)rank;
    for (int i = t->rank - 1; i >= 0 && st == STATUS_OK; i--) {
        uint64_t n = 0;
        st = take_u64(c, "a tensor's shape", &n);
        if (st == STATUS_OK && (n < 1 || n > INT64_MAX))
            return err_set(c->e, STATUS_BAD_FILE, t->name, "%s: tensor %s: a dimension of %llu",
                           c->file, t->name, (unsigned long long)n);
        t->shape[i] = (int64_t)n;
    }
    return st;
}

/* Bytes of a tensor's values; the last dimension must be whole blocks. */
static enum status size_of(const struct cursor *c, const struct gguf_tensor *t,
                           const struct type_facts *f, size_t *out)
{
    char shape[96];
    size_t count = 1;
    for (int i = 0; i < t->rank; i++) {
        if (!checked_mul(count, (size_t)t->shape[i], &count))
            return err_set(c->e, STATUS_BAD_FILE, t->name, "%s: tensor %s: size overflows", c->file,
                           t->name);
    }
    if (t->shape[t->rank - 1] % f->values != 0)
        return err_set(c->e, STATUS_BAD_FILE, t->name,
                       "%s: tensor %s: rows of %s %s are not whole blocks of %d", c->file, t->name,
                       f->name, gguf_shape_text(t, shape, sizeof shape), f->values);
    if (!checked_mul(count / f->values, f->bytes, out))
        return err_set(c->e, STATUS_BAD_FILE, t->name, "%s: tensor %s: size overflows", c->file,
                       t->name);
    return STATUS_OK;
}

/* `begin` [in]: where the tensor must begin, [out]: where its bytes end. */
static enum status take_tensor(struct cursor *c, char **to, struct gguf_tensor *t, size_t *begin)
{
    uint32_t type = 0;
    uint64_t offset = 0;
    size_t bytes = 0;
    enum status st = take_name(c, "a tensor's name", to, &t->name);
    if (st == STATUS_OK)
        st = take_shape(c, t);
    if (st == STATUS_OK)
        st = take_u32(c, "a tensor's type", &type);
    if (st == STATUS_OK)
        st = take_u64(c, "a tensor's offset", &offset);
    if (st != STATUS_OK)
        return st;
    const struct type_facts *f = facts_of(type);
    if (!f || f->bytes == 0)
        return err_set(c->e, STATUS_UNSUPPORTED, t->name, "%s: tensor %s: type %s (%u) is not read",
                       c->file, t->name, f ? f->name : "unknown", (unsigned)type);
    st = size_of(c, t, f, &bytes);
    if (st != STATUS_OK)
        return st;
    if (offset != *begin)
        return err_set(c->e, STATUS_BAD_FILE, t->name,
                       "%s: tensor %s: begins at byte %llu of the data, expected %zu", c->file,
                       t->name, (unsigned long long)offset, *begin);
    t->type = (enum gguf_type)type;
    t->begin = *begin;
    if (!checked_add(t->begin, bytes, &t->end))
        return err_set(c->e, STATUS_BAD_FILE, t->name, "%s: tensor %s: size overflows", c->file,
                       t->name);
    *begin = t->end;
    return STATUS_OK;
}

static int compare_tensors(const void *a, const void *b)
{
    return strcmp(((const struct gguf_tensor *)a)->name, ((const struct gguf_tensor *)b)->name);
}

static bool align_up(size_t *at, size_t alignment)
{
    size_t up;
    if (!checked_add(*at, alignment - 1, &up))
        return false;
    *at = up & ~(alignment - 1);
    return true;
}

/* The data begins behind the table and ends with the last tensor, padded or not. */
static enum status check_data(struct cursor *c, struct gguf *g, size_t used, size_t alignment)
{
    size_t at = c->at, padded = used;
    if (!align_up(&at, alignment) || !align_up(&padded, alignment) || (at > c->n && used > 0))
        return cut_off(c, "the data");
    at = at < c->n ? at : c->n;
    g->data = c->bytes + at;
    g->data_bytes = c->n - at;
    if (used > g->data_bytes)
        return err_set(c->e, STATUS_BAD_FILE, c->file,
                       "%s: %zu bytes of data, the tensors need %zu (cut off?)", c->file,
                       g->data_bytes, used);
    if (g->data_bytes > padded)
        return err_set(c->e, STATUS_BAD_FILE, c->file,
                       "%s: %zu bytes of data, the tensors fill %zu of them", c->file,
                       g->data_bytes, used);
    return STATUS_OK;
}

static enum status take_tensors(struct cursor *c, struct gguf *g, char **to)
{
    size_t alignment = 0, end = 0;
    enum status st = read_alignment(g, &alignment, c->e);
    for (size_t i = 0; i < g->count && st == STATUS_OK; i++) {
        if (!align_up(&end, alignment))
            return cut_off(c, "the data");
        st = take_tensor(c, to, &g->tensors[i], &end);
    }
    if (st == STATUS_OK)
        st = check_data(c, g, end, alignment);
    if (st != STATUS_OK)
        return st;
    if (g->count > 1)
        qsort(g->tensors, g->count, sizeof *g->tensors, compare_tensors);
    for (size_t i = 1; i < g->count; i++) {
        if (compare_tensors(&g->tensors[i - 1], &g->tensors[i]) == 0)
            return err_set(c->e, STATUS_BAD_FILE, g->tensors[i].name,
                           "%s: tensor %s stands there twice", c->file, g->tensors[i].name);
    }
    return STATUS_OK;
}

/* ---- the whole ---- */

static enum status take_head(struct cursor *c, struct gguf *g)
{
    const unsigned char *magic = NULL;
    uint32_t version = 0;
    uint64_t tensors = 0, values = 0;
    enum status st = take(c, 4, "the magic", &magic);
    if (st == STATUS_OK && memcmp(magic, "GGUF", 4) != 0)
        return err_set(c->e, STATUS_BAD_FILE, c->file, "%s: not a GGUF file", c->file);
    if (st == STATUS_OK)
        st = take_u32(c, "the version", &version);
    if (st == STATUS_OK && version != 2 && version != 3)
        return err_set(c->e, STATUS_UNSUPPORTED, c->file, "%s: version %u%s, only 2 and 3 are read",
                       c->file, (unsigned)version, version >= 1u << 24 ? " (big-endian?)" : "");
    if (st == STATUS_OK)
        st = take_u64(c, "the count of tensors", &tensors);
    if (st == STATUS_OK)
        st = take_u64(c, "the count of keys", &values);
    if (st != STATUS_OK)
        return st;
    if (tensors > LIMIT_TENSORS || values > LIMIT_GGUF_KEYS)
        return err_set(c->e, STATUS_LIMIT, c->file,
                       "%s: %llu tensors and %llu keys, at most %d and %d are read", c->file,
                       (unsigned long long)tensors, (unsigned long long)values, LIMIT_TENSORS,
                       LIMIT_GGUF_KEYS);
    if (values * VALUE_BYTES_MIN + tensors * TENSOR_BYTES_MIN > c->n - c->at)
        return cut_off(c, "the keys and the table of tensors");
    g->count = (size_t)tensors;
    g->value_count = (size_t)values;
    return STATUS_OK;
}

/* Every name is at most as long as allowed, and all of them are in the file. */
static size_t names_bytes(const struct cursor *c, const struct gguf *g)
{
    size_t most = (g->count + g->value_count) * (LIMIT_GGUF_NAME_BYTES + 1);
    return (most < c->n ? most : c->n) + g->count + g->value_count + 1;
}

static enum status parse(struct cursor *c, struct gguf *g)
{
    enum status st = take_head(c, g);
    if (st != STATUS_OK)
        return st;
    g->values = mem_calloc(g->value_count + 1, sizeof *g->values);
    g->tensors = mem_calloc(g->count + 1, sizeof *g->tensors);
    g->names = mem_alloc(names_bytes(c, g), 1);
    if (!g->values || !g->tensors || !g->names)
        return err_set(c->e, STATUS_NO_MEMORY, c->file, "%s: out of memory", c->file);
    char *to = g->names;
    st = take_values(c, g, &to);
    return st == STATUS_OK ? take_tensors(c, g, &to) : st;
}

enum status gguf_parse(const unsigned char *bytes, size_t n, const char *file, struct gguf **out,
                       struct err *e)
{
    struct cursor c = {.bytes = bytes, .n = n, .file = file, .e = e};
    struct gguf *g = mem_calloc(1, sizeof *g);
    if (g)
        g->file = mem_strdup(file);
    enum status st =
        g && g->file ? parse(&c, g) : err_set(e, STATUS_NO_MEMORY, file, "%s: out of memory", file);
    if (st != STATUS_OK) {
        gguf_free(g);
        return st;
    }
    *out = g;
    return STATUS_OK;
}

void gguf_free(struct gguf *g)
{
    if (!g)
        return;
    mem_free(g->values);
    mem_free(g->tensors);
    mem_free(g->names);
    mem_free(g->file);
    mem_free(g);
}

/* ---- values ---- */

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    struct gguf_value wanted = {.key = key};
    if (g->value_count == 0)
        return NULL;
    return bsearch(&wanted, g->values, g->value_count, sizeof *g->values, compare_values);
}

bool gguf_text(const struct gguf_value *v, const char **text, size_t *n)
{
    if (!v || v->kind != GGUF_STRING || v->is_array)
        return false;
    *n = (size_t)little(v->data, 8);
    *text = (const char *)v->data + 8;
    return true;
}

bool gguf_text_is(const struct gguf_value *v, const char *text)
{
    const char *have;
    size_t n;
    return gguf_text(v, &have, &n) && n == strlen(text) && memcmp(have, text, n) == 0;
}

bool gguf_integer(const struct gguf_value *v, size_t i, int64_t *out)
{
    if (v->kind == GGUF_F32 || v->kind == GGUF_F64 || v->kind == GGUF_STRING || i >= v->count)
        return false;
    int bytes = kind_bytes[v->kind];
    uint64_t u = little(v->data + i * (size_t)bytes, bytes);
    bool is_signed = v->kind == GGUF_I8 || v->kind == GGUF_I16 || v->kind == GGUF_I32;
    if (is_signed && u >> (8 * bytes - 1))
        u |= ~UINT64_C(0) << (8 * bytes - 1);
    if (v->kind == GGUF_U64 && u > INT64_MAX)
        return false;
    *out = (int64_t)u;
    return true;
}

bool gguf_float(const struct gguf_value *v, double *out)
{
    if (v->is_array)
        return false;
    uint64_t u = little(v->data, v->kind == GGUF_F32 ? 4 : v->kind == GGUF_F64 ? 8 : 0);
    if (v->kind == GGUF_F32) {
        uint32_t bits = (uint32_t)u;
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = (double)f;
    } else if (v->kind == GGUF_F64) {
        memcpy(out, &u, sizeof *out);
    }
    return v->kind == GGUF_F32 || v->kind == GGUF_F64;
}

/* ---- tensors' values ---- */

static float half_at(const unsigned char *p)
{
    float f;
    struct tensor t = {.data = p, .dtype = DTYPE_F16, .rows = 1, .cols = 1};
    tensor_read_f32(&t, 0, 1, &f);
    return f;
}

/* A block of 4 or 5 bits: the low halves of 16 bytes, then the high ones; `high` has the fifth
 * bits. Adding -0, unlike 0, leaves -0 as it is. */
static void widen_nibbles(const unsigned char *q, uint32_t high, int offset, float d, float m,
                          float *out)
{
    for (int i = 0; i < BLOCK; i++) {
        int v = (i < BLOCK / 2 ? q[i] & 15 : q[i - BLOCK / 2] >> 4) | (int)(high >> i & 1) << 4;
        out[i] = (float)(v - offset) * d + m;
    }
}

static void widen_block(enum gguf_type type, const unsigned char *p, float *out)
{
    float d = half_at(p);
    switch (type) {
    case GGUF_TYPE_Q4_0:
        widen_nibbles(p + 2, 0, 8, d, -0.0f, out);
        break;
    case GGUF_TYPE_Q4_1:
        widen_nibbles(p + 4, 0, 0, d, half_at(p + 2), out);
        break;
    case GGUF_TYPE_Q5_0:
        widen_nibbles(p + 6, (uint32_t)little(p + 2, 4), 16, d, -0.0f, out);
        break;
    case GGUF_TYPE_Q5_1:
        widen_nibbles(p + 8, (uint32_t)little(p + 4, 4), 0, d, half_at(p + 2), out);
        break;
    default: /* Q8_0 */
        for (int i = 0; i < BLOCK; i++)
            out[i] = (float)(int8_t)p[2 + i] * d;
    }
}

void gguf_read_f32(const struct gguf *g, const struct gguf_tensor *t, size_t at, size_t count,
                   float *out)
{
    const struct type_facts *f = facts_of((uint32_t)t->type);
    CHECK(at % f->values == 0 && count % f->values == 0);
    const unsigned char *p = g->data + t->begin + at / f->values * f->bytes;
    CHECK(count / f->values <= (size_t)(g->data + t->end - p) / f->bytes);
    if (f->values > 1) {
        for (size_t i = 0; i < count; i += BLOCK, p += f->bytes, out += BLOCK)
            widen_block(t->type, p, out);
        return;
    }
    struct tensor v = {.data = p, .rows = 1, .cols = (int64_t)count};
    v.dtype = t->type == GGUF_TYPE_F32   ? DTYPE_F32
              : t->type == GGUF_TYPE_F16 ? DTYPE_F16
                                         : DTYPE_BF16;
    tensor_read_f32(&v, 0, count, out);
}
