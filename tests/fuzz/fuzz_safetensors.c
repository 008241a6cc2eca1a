/* Safetensors files against a second checker that shares no code with the reader: it walks the
 * bytes itself, compares names pairwise and marks every byte of the data. Both must agree on every
 * input, and what is accepted must be readable.
 *
 * Input: one byte of mode; even: the rest is the file; odd: header, a zero byte, data, so that
 * mutations need not keep the length in front right.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/strbuf.h"
#include "engine/base/utf8.h"
#include "engine/model/safetensors.h"

#define NAMES_MAX 4096 /* the slow checker is quadratic */
#define INT_MAX64 ((uint64_t)INT64_MAX)

struct text {
    const unsigned char *p;
    size_t n;
    size_t i;
};

struct string {
    char *s; /* decoded, owned */
    size_t n;
};

struct entry {
    struct string name;
    uint64_t begin;
    uint64_t end;
};

static void space(struct text *t)
{
    while (t->i < t->n && t->p[t->i] && strchr(" \t\r\n", t->p[t->i]))
        t->i++;
}

static bool eat(struct text *t, char c)
{
    space(t);
    if (t->i >= t->n || t->p[t->i] != (unsigned char)c)
        return false;
    t->i++;
    return true;
}

static bool hex(struct text *t, uint32_t *out)
{
    *out = 0;
    for (int k = 0; k < 4; k++, t->i++) {
        static const char digits[] = "0123456789abcdef";
        if (t->i >= t->n)
            return false;
        unsigned char c = t->p[t->i];
        const char *d = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
        if (!d)
            return false;
        *out = *out * 16 + (uint32_t)(d - digits);
    }
    return true;
}

static bool escape(struct text *t, struct string *out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (t->i >= t->n)
        return false;
    unsigned char c = t->p[t->i++];
    uint32_t cp;
    uint32_t low;
    if (c != 'u') {
        const char *at = c ? strchr(from, c) : NULL;
        if (at)
            out->s[out->n++] = to[at - from];
        return at != NULL;
    }
    if (!hex(t, &cp) || cp == 0 || (cp >= 0xDC00 && cp < 0xE000))
        return false;
    if (cp >= 0xD800 && cp < 0xDC00) {
        if (t->n - t->i < 6 || t->p[t->i] != '\\' || t->p[t->i + 1] != 'u')
            return false;
        t->i += 2;
        if (!hex(t, &low) || low < 0xDC00 || low >= 0xE000)
            return false;
        cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
    }
    out->n += utf8_encode(cp, out->s + out->n);
    return true;
}

/* The caller frees out->s in any case. */
static bool string(struct text *t, struct string *out)
{
    out->n = 0;
    out->s = malloc(t->n + 8);
    if (!eat(t, '"'))
        return false;
    while (t->i < t->n && t->p[t->i] != '"') {
        unsigned char c = t->p[t->i];
        if (c < 0x20)
            return false;
        if (c == '\\') {
            t->i++;
            if (!escape(t, out))
                return false;
            continue;
        }
        size_t k = utf8_valid_len((const char *)t->p + t->i, t->n - t->i);
        if (k == 0)
            return false;
        memcpy(out->s + out->n, t->p + t->i, k);
        out->n += k;
        t->i += k;
    }
    out->s[out->n] = '\0';
    return eat(t, '"');
}

static bool same(const struct string *a, const char *b)
{
    return a->n == strlen(b) && memcmp(a->s, b, a->n) == 0;
}

static bool integer(struct text *t, uint64_t *out)
{
    space(t);
    size_t from = t->i;
    *out = 0;
    for (; t->i < t->n && t->p[t->i] >= '0' && t->p[t->i] <= '9'; t->i++) {
        uint64_t d = t->p[t->i] - '0';
        if (*out > (INT_MAX64 - d) / 10)
            return false;
        *out = *out * 10 + d;
    }
    return t->i > from && (t->p[from] != '0' || t->i == from + 1);
}

/* "[" integers "]", at most `max` of them. */
static bool integers(struct text *t, uint64_t *out, int max, int *count)
{
    *count = 0;
    if (!eat(t, '['))
        return false;
    if (eat(t, ']'))
        return true;
    do {
        if (*count == max || !integer(t, &out[(*count)++]))
            return false;
    } while (eat(t, ','));
    return eat(t, ']');
}

static int element_bytes(const struct string *dtype)
{
    static const struct {
        const char *name;
        int bytes;
    } all[] = {
        {"BOOL", 1},        {"U8", 1},          {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
        {"F8_E8M0", 1},     {"F8_E4M3FNUZ", 1}, {"I16", 2}, {"U16", 2},     {"F16", 2},
        {"F8_E5M2FNUZ", 1}, {"BF16", 2},        {"I32", 4}, {"U32", 4},     {"F32", 4},
        {"I64", 8},         {"U64", 8},         {"F64", 8}, {"C64", 8},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (same(dtype, all[i].name))
            return all[i].bytes;
    }
    return 0;
}

static bool tensor_fits(const struct entry *t, const uint64_t *shape, int rank, int bytes)
{
    unsigned __int128 product = (unsigned)bytes;
    bool zero = false;
    for (int i = 0; i < rank; i++) {
        if (shape[i] == 0) {
            zero = true;
            continue;
        }
        product *= shape[i];
        if (product > UINT64_MAX)
            return false;
    }
    return t->begin <= t->end && t->end - t->begin == (zero ? 0 : (uint64_t)product);
}

static bool tensor(struct text *t, struct entry *out)
{
    bool seen[3] = {false};
    uint64_t shape[8];
    uint64_t offsets[2];
    int rank = 0;
    int two = 0;
    int bytes = 0;
    if (!eat(t, '{'))
        return false;
    do {
        struct string key;
        bool good = string(t, &key) && eat(t, ':');
        int which = !good                        ? -1
                    : same(&key, "dtype")        ? 0
                    : same(&key, "shape")        ? 1
                    : same(&key, "data_offsets") ? 2
                                                 : -1;
        free(key.s);
        if (which < 0 || seen[which])
            return false;
        seen[which] = true;
        if (which == 0) {
            struct string dtype;
            good = string(t, &dtype);
            bytes = good ? element_bytes(&dtype) : 0;
            free(dtype.s);
            if (bytes == 0)
                return false;
        } else if (which == 1 ? !integers(t, shape, 8, &rank) : !integers(t, offsets, 2, &two)) {
            return false;
        }
    } while (eat(t, ','));
    if (!eat(t, '}') || !seen[0] || !seen[1] || !seen[2] || two != 2)
        return false;
    out->begin = offsets[0];
    out->end = offsets[1];
    return tensor_fits(out, shape, rank, bytes);
}

static bool metadata(struct text *t)
{
    struct string keys[NAMES_MAX];
    size_t count = 0;
    bool good = eat(t, '{');
    if (good && eat(t, '}'))
        return true;
    while (good) {
        struct string value = {NULL, 0};
        good = count < NAMES_MAX && string(t, &keys[count]);
        count += count < NAMES_MAX;
        for (size_t i = 0; good && i + 1 < count; i++)
            good = keys[i].n != keys[count - 1].n ||
                   memcmp(keys[i].s, keys[count - 1].s, keys[i].n) != 0;
        good = good && eat(t, ':') && string(t, &value);
        free(value.s);
        if (!good || !eat(t, ','))
            break;
    }
    for (size_t i = 0; i < count; i++)
        free(keys[i].s);
    return good && eat(t, '}');
}

/* Every byte of the data is in exactly one tensor, and no empty tensor lies inside another. */
static bool covers(const struct entry *e, size_t count, size_t data_bytes)
{
    unsigned char *marks = calloc(data_bytes + 1, 1);
    bool good = true;
    for (size_t i = 0; i < count && good; i++) {
        good = e[i].end <= data_bytes;
        for (uint64_t k = e[i].begin; good && k < e[i].end; k++)
            good = marks[k]++ == 0;
    }
    for (size_t k = 0; k < data_bytes && good; k++)
        good = marks[k] == 1;
    for (size_t i = 0; i < count && good; i++) {
        for (size_t k = 0; k < count && good; k++)
            good = e[i].begin != e[i].end || e[i].begin <= e[k].begin || e[i].begin >= e[k].end;
    }
    free(marks);
    return good;
}

static bool slow_header(const unsigned char *header, size_t n, size_t data_bytes)
{
    struct text t = {header, n, 0};
    static struct entry entries[NAMES_MAX];
    size_t count = 0;
    bool meta = false;
    bool good = n > 0 && header[0] == '{' && eat(&t, '{');
    if (good && eat(&t, '}')) {
        space(&t);
        return t.i == t.n && data_bytes == 0;
    }
    while (good) {
        struct entry *e = &entries[count];
        good = count < NAMES_MAX && string(&t, &e->name);
        count += count < NAMES_MAX;
        good = good && eat(&t, ':');
        if (good && same(&e->name, "__metadata__")) {
            good = !meta && metadata(&t);
            meta = true;
            free(e->name.s);
            count--;
        } else {
            for (size_t i = 0; good && i + 1 < count; i++)
                good = entries[i].name.n != e->name.n ||
                       memcmp(entries[i].name.s, e->name.s, e->name.n) != 0;
            good = good && tensor(&t, e);
        }
        if (!good || !eat(&t, ','))
            break;
    }
    good = good && eat(&t, '}');
    space(&t);
    good = good && t.i == t.n && covers(entries, count, data_bytes);
    for (size_t i = 0; i < count; i++)
        free(entries[i].name.s);
    return good;
}

static bool slow_file(const unsigned char *p, size_t n)
{
    uint64_t length = 0;
    if (n < 8)
        return false;
    for (int i = 7; i >= 0; i--)
        length = length * 256 + p[i];
    return length <= n - 8 && slow_header(p + 8, (size_t)length, n - 8 - (size_t)length);
}

static void read_all(const struct safetensors *s)
{
    size_t bytes = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct safetensors_tensor *t = &s->tensors[i];
        struct tensor v;
        bytes += t->end - t->begin;
        CHECK(safetensors_find(s, t->name) == t);
        if (safetensors_view(s, t, &v, NULL) == STATUS_OK) {
            size_t at;
            CHECK(tensor_bytes(&v) == t->end - t->begin);
            (void)tensor_is_finite(&v, &at);
        }
    }
    CHECK(bytes == s->data_bytes);
}

static void check_file(const unsigned char *p, size_t n)
{
    static int fd = -1;
    struct safetensors *m = NULL;
    struct safetensors *r = NULL;
    struct err e = {0};
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, p, n, 0) == (ssize_t)n);
    enum status st = safetensors_map(fd, "f", &m, &e);
    CHECK(safetensors_read(fd, "f", 1u << 30, NULL, &r, NULL) == st);
    CHECK(st == STATUS_OK || (st == STATUS_BAD_FILE && e.msg[0]));
    CHECK((st == STATUS_OK) == slow_file(p, n));
    if (st == STATUS_OK) {
        read_all(m);
        read_all(r);
    }
    safetensors_free(m);
    safetensors_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    if (data[0] % 2 == 0) {
        check_file(data + 1, n - 1);
        return 0;
    }
    const uint8_t *zero = memchr(data + 1, 0, n - 1);
    size_t header = zero ? (size_t)(zero - data) - 1 : n - 1;
    size_t rest = zero ? n - 2 - header : 0;
    unsigned char *file = malloc(8 + header + rest);
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)header >> (8 * i));
    memcpy(file + 8, data + 1, header);
    if (rest > 0)
        memcpy(file + 8 + header, zero + 1, rest);
    check_file(file, 8 + header + rest);
    free(file);
    return 0;
}
