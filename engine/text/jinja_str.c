#include "engine/text/jinja_str.h"

#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/utf8.h"
#include "engine/text/jinja_run.h"

const uint8_t jinja_from_input[1] = {1};

/* A block that strings are built in. `used` only grows; strings that end at an earlier `used` keep
 * seeing their own prefix. */
struct jinja_grow {
    char *data;
    uint8_t *mask; /* NULL while every byte has the provenance `fill` */
    size_t used;
    size_t cap;
    bool fill;
};

static bool is_uniform(const uint8_t *mask)
{
    return mask == JINJA_FROM_TEMPLATE || mask == JINJA_FROM_INPUT;
}

static struct jinja_grow *grow_new(struct jinja_run *run, size_t cap)
{
    struct jinja_grow *g = jinja_alloc(run, 1, sizeof *g);
    if (!g)
        return NULL;
    g->data = jinja_alloc(run, cap, 1);
    g->cap = cap;
    return g->data ? g : NULL;
}

/* Appends to a block that has the room. */
static bool grow_add(struct jinja_run *run, struct jinja_grow *g, const char *s, size_t n,
                     const uint8_t *mask)
{
    if (!run->track)
        mask = JINJA_FROM_TEMPLATE;
    bool value = mask == JINJA_FROM_INPUT;
    if (!g->mask) {
        if (is_uniform(mask) && (g->used == 0 || g->fill == value)) {
            g->fill = value;
        } else {
            g->mask = jinja_alloc(run, g->cap, 1);
            if (!g->mask)
                return false;
            memset(g->mask, g->fill, g->used);
        }
    }
    memcpy(g->data + g->used, s, n);
    if (g->mask) {
        if (is_uniform(mask))
            memset(g->mask + g->used, value, n);
        else
            memcpy(g->mask + g->used, mask, n);
    }
    g->used += n;
    return true;
}

static const uint8_t *grow_mask(const struct jinja_grow *g)
{
    if (g->mask)
        return g->mask;
    return g->fill ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE;
}

/* A new block that begins with the text of `old` (may be NULL) and has room for n more bytes. */
static struct jinja_grow *grow_more(struct jinja_run *run, const struct jinja_str *old, size_t n)
{
    size_t need;
    size_t len = old ? old->len : 0;
    if (!checked_add(len, n, &need) || !jinja_room(run, need, 1))
        return NULL;
    struct jinja_grow *g = grow_new(run, need + need / 2 + 32);
    if (!g || (len && !grow_add(run, g, old->data, len, old->mask)))
        return NULL;
    return g;
}

void jinja_buf_init(struct jinja_buf *b, struct jinja_run *run)
{
    *b = (struct jinja_buf){.run = run};
}

void jinja_buf_add(struct jinja_buf *b, const char *s, size_t n, const uint8_t *mask)
{
    if (b->failed || n == 0)
        return;
    struct jinja_grow *g = b->grow;
    if (!g || g->cap - g->used < n) {
        struct jinja_str old = {.len = 0};
        if (g)
            old = (struct jinja_str){.data = g->data, .len = g->used, .mask = grow_mask(g)};
        g = grow_more(b->run, &old, n);
    }
    if (!g || !grow_add(b->run, g, s, n, mask)) {
        b->failed = true;
        return;
    }
    b->grow = g;
    b->len = g->used;
}

void jinja_buf_str(struct jinja_buf *b, const struct jinja_str *s)
{
    jinja_buf_add(b, s->data, s->len, s->mask);
}

void jinja_buf_puts(struct jinja_buf *b, const char *s)
{
    jinja_buf_add(b, s, strlen(s), JINJA_FROM_TEMPLATE);
}

void jinja_buf_fill(struct jinja_buf *b, char c, size_t n)
{
    char chunk[64];
    memset(chunk, c, sizeof chunk);
    while (n > 0 && !b->failed) {
        size_t k = n < sizeof chunk ? n : sizeof chunk;
        jinja_buf_add(b, chunk, k, JINJA_FROM_TEMPLATE);
        n -= k;
    }
}

void jinja_buf_cp(struct jinja_buf *b, uint32_t cp, bool input)
{
    char text[4];
    size_t n = utf8_encode(cp, text);
    jinja_buf_add(b, text, n, input ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE);
}

bool jinja_buf_finish(struct jinja_buf *b, const struct jinja_str **out)
{
    if (b->failed || b->run->failed)
        return false;
    struct jinja_grow *g = b->grow;
    const struct jinja_str *s =
        g ? jinja_str_wrap(b->run, g->data, g->used, grow_mask(g)) : jinja_str_static(b->run, "");
    if (!s)
        return false;
    ((struct jinja_str *)s)->own = g;
    *out = s;
    return true;
}

const struct jinja_str *jinja_str_wrap(struct jinja_run *run, const char *data, size_t n,
                                       const uint8_t *mask)
{
    struct jinja_str *s = jinja_alloc(run, 1, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct jinja_str){.data = data, .len = n, .cps = JINJA_CPS_UNKNOWN, .mask = mask};
    return s;
}

const struct jinja_str *jinja_str_static(struct jinja_run *run, const char *s)
{
    return jinja_str_wrap(run, s, strlen(s), JINJA_FROM_TEMPLATE);
}

const uint8_t *jinja_str_mask_at(const struct jinja_str *s, size_t at)
{
    return is_uniform(s->mask) ? s->mask : s->mask + at;
}

bool jinja_str_is_input(const struct jinja_str *s, size_t at)
{
    return s->mask == JINJA_FROM_INPUT || (s->mask != JINJA_FROM_TEMPLATE && s->mask[at]);
}

const struct jinja_str *jinja_str_sub(struct jinja_run *run, const struct jinja_str *s, size_t from,
                                      size_t to)
{
    if (from == 0 && to == s->len)
        return s;
    struct jinja_str *sub = (struct jinja_str *)jinja_str_wrap(run, s->data + from, to - from,
                                                               jinja_str_mask_at(s, from));
    if (!sub)
        return NULL;
    if (s->cps == s->len)
        sub->cps = sub->len;
    sub->markup = s->markup;
    return sub;
}

const struct jinja_str *jinja_str_markup(struct jinja_run *run, const struct jinja_str *s,
                                         bool markup)
{
    if (s->markup == markup)
        return s;
    struct jinja_str *copy = jinja_alloc(run, 1, sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *s;
    copy->markup = markup;
    return copy;
}

const struct jinja_str *jinja_str_concat(struct jinja_run *run, const struct jinja_str *a,
                                         const struct jinja_str *b)
{
    if (!jinja_charge_bytes(run, b->len))
        return NULL;
    if (a->len == 0 && !b->markup)
        return b;
    if (b->len == 0 && !a->markup)
        return a;
    struct jinja_grow *g = a->own;
    if (!g || g->used != a->len || g->cap - g->used < b->len) {
        if (!jinja_charge_bytes(run, a->len))
            return NULL;
        g = grow_more(run, a, b->len);
    }
    if (!g || !grow_add(run, g, b->data, b->len, b->mask))
        return NULL;
    struct jinja_str *s = (struct jinja_str *)jinja_str_wrap(run, g->data, g->used, grow_mask(g));
    if (!s)
        return NULL;
    s->own = g;
    if (a->cps != JINJA_CPS_UNKNOWN && b->cps != JINJA_CPS_UNKNOWN)
        s->cps = a->cps + b->cps;
    return s;
}

const struct jinja_str *jinja_str_repeat(struct jinja_run *run, const struct jinja_str *s,
                                         int64_t n)
{
    if (n <= 0 || s->len == 0)
        return jinja_str_static(run, "");
    size_t total;
    if (!checked_mul(s->len, (size_t)n, &total))
        total = SIZE_MAX;
    if (!jinja_room(run, total, 1) || !jinja_charge_bytes(run, total))
        return NULL;
    struct jinja_grow *g = grow_new(run, total);
    for (int64_t i = 0; g && i < n; i++) {
        if (!grow_add(run, g, s->data, s->len, s->mask))
            return NULL;
    }
    return g ? jinja_str_wrap(run, g->data, g->used, grow_mask(g)) : NULL;
}

/* Lead bytes: all but 10xxxxxx. */
static size_t count_cps(const char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

size_t jinja_str_cps(const struct jinja_str *s)
{
    if (s->cps == JINJA_CPS_UNKNOWN)
        ((struct jinja_str *)s)->cps = count_cps(s->data, s->len);
    return s->cps;
}

size_t jinja_str_offset(const struct jinja_str *s, size_t index)
{
    if (jinja_str_cps(s) == s->len)
        return index;
    size_t i = 0;
    while (i < s->len) {
        if (((unsigned char)s->data[i] & 0xC0) != 0x80) {
            if (index == 0)
                break;
            index--;
        }
        i++;
    }
    return i;
}

size_t jinja_str_index(const struct jinja_str *s, size_t bytes)
{
    return jinja_str_cps(s) == s->len ? bytes : count_cps(s->data, bytes);
}

uint32_t jinja_str_cp(const struct jinja_str *s, size_t at, size_t *len)
{
    uint32_t cp = 0xFFFD;
    size_t n = utf8_decode(s->data + at, s->len - at, &cp);
    *len = n ? n : 1;
    return cp;
}

bool jinja_str_eq(const struct jinja_str *a, const struct jinja_str *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

bool jinja_str_is(const struct jinja_str *s, const char *text)
{
    return strlen(text) == s->len && memcmp(s->data, text, s->len) == 0;
}

int jinja_str_cmp(const struct jinja_str *a, const struct jinja_str *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int c = memcmp(a->data, b->data, n);
    if (c != 0)
        return c;
    return a->len < b->len ? -1 : a->len > b->len;
}

int64_t jinja_str_find(const struct jinja_str *s, const struct jinja_str *needle, size_t from)
{
    if (from > s->len)
        return -1;
    const char *p = memmem(s->data + from, s->len - from, needle->data, needle->len);
    return p ? (int64_t)(p - s->data) : -1;
}

bool jinja_str_rfind(struct jinja_run *run, const struct jinja_str *s,
                     const struct jinja_str *needle, size_t end, int64_t *out)
{
    *out = -1;
    if (needle->len > end)
        return true;
    uint64_t compared = 0;
    for (size_t at = end - needle->len;; at--) {
        if (needle->len == 0 || s->data[at] == needle->data[0]) {
            compared += needle->len;
            if (memcmp(s->data + at, needle->data, needle->len) == 0) {
                *out = (int64_t)at;
                return jinja_charge_bytes(run, end - at);
            }
            if (compared > 65536) {
                if (!jinja_charge_bytes(run, compared))
                    return false;
                compared = 0;
            }
        }
        if (at == 0)
            return jinja_charge_bytes(run, end);
    }
}
