#include "engine/text/jinja_text.h"

#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/jinja_char.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"

/* Cost of looking at every code point. */
static bool charge_scan(struct jinja_run *r, const struct jinja_str *s)
{
    return jinja_charge(r, s->len / 256 + 1);
}

/* The code point that ends at byte `at` (> 0); *at moves to its begin. */
static uint32_t cp_before(const struct jinja_str *s, size_t *at)
{
    size_t n;
    do
        (*at)--;
    while (*at > 0 && ((unsigned char)s->data[*at] & 0xC0) == 0x80);
    return jinja_str_cp(s, *at, &n);
}

/* A part of a text that is mapped for itself. */
struct span {
    size_t from;
    size_t to;
};

/* Whether the sigma at byte `at` ends a word: a letter before it, none behind. */
static bool is_final_sigma(const struct jinja_str *s, struct span span, size_t at)
{
    size_t n;
    bool before = false;
    for (size_t i = at; i > span.from;) {
        uint32_t cp = cp_before(s, &i);
        if (!jinja_char_is_case_ignorable(cp)) {
            before = jinja_char_is_cased(cp);
            break;
        }
    }
    jinja_str_cp(s, at, &n);
    for (size_t i = at + n; i < span.to; i += n) {
        uint32_t cp = jinja_str_cp(s, i, &n);
        if (!jinja_char_is_case_ignorable(cp))
            return before && !jinja_char_is_cased(cp);
    }
    return before;
}

static size_t lower_at(const struct jinja_str *s, struct span span, size_t at, uint32_t cp,
                       uint32_t out[3])
{
    if (cp == 0x3A3) {
        out[0] = is_final_sigma(s, span, at) ? 0x3C2 : 0x3C3;
        return 1;
    }
    return jinja_char_lower(cp, out);
}

static bool splits_title_words(uint32_t cp)
{
    return cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || jinja_char_is_space(cp);
}

/* End of the title word that `at` lies in. */
static size_t word_end(const struct jinja_str *s, size_t at)
{
    size_t n;
    while (at < s->len && !splits_title_words(jinja_str_cp(s, at, &n)))
        at += n;
    return at;
}

static size_t map_cp(const struct jinja_str *s, struct span span, size_t at, uint32_t cp,
                     enum jinja_case how, bool first, uint32_t out[3])
{
    switch (how) {
    case JINJA_UPPER:
        return jinja_char_upper(cp, out);
    case JINJA_CAPITALIZE:
    case JINJA_TITLE:
        return first ? jinja_char_title(cp, out) : lower_at(s, span, at, cp, out);
    case JINJA_TITLE_WORDS:
        return first ? jinja_char_upper(cp, out) : lower_at(s, span, at, cp, out);
    case JINJA_SWAPCASE:
        if (jinja_char_is_upper(cp))
            return lower_at(s, span, at, cp, out);
        if (jinja_char_is_lower(cp))
            return jinja_char_upper(cp, out);
        out[0] = cp;
        return 1;
    default:
        return lower_at(s, span, at, cp, out);
    }
}

bool jinja_text_case(struct jinja_run *r, const struct jinja_str *s, enum jinja_case how,
                     const struct jinja_str **out)
{
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    if (!jinja_charge(r, s->len / 32 + 1))
        return false;
    bool first = true;
    struct span span = {.to = s->len};
    for (size_t i = 0, n; i < s->len && !b.failed; i += n) {
        uint32_t cp = jinja_str_cp(s, i, &n);
        uint32_t mapped[3];
        char text[12];
        size_t k = 0;
        if (how == JINJA_TITLE_WORDS && first)
            span = (struct span){i + n, word_end(s, i + n)};
        size_t count = map_cp(s, span, i, cp, how, first, mapped);
        for (size_t j = 0; j < count; j++)
            k += utf8_encode(mapped[j], text + k);
        jinja_buf_add(&b, text, k,
                      jinja_str_is_input(s, i) ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE);
        first = how == JINJA_TITLE         ? !jinja_char_is_cased(cp)
                : how == JINJA_TITLE_WORDS ? splits_title_words(cp)
                                           : false;
        if (cp == 0x3A3 && !jinja_charge(r, s->len / 256))
            return false;
    }
    if (!jinja_buf_finish(&b, out))
        return false;
    *out = jinja_str_markup(r, *out, s->markup);
    return *out != NULL;
}

bool jinja_text_case_of(struct jinja_run *r, const struct jinja_str *s, bool *upper, bool *lower)
{
    bool any_upper = false;
    bool any_lower = false;
    bool any_title = false;
    if (!jinja_charge(r, s->len / 64 + 1))
        return false;
    for (size_t i = 0, n; i < s->len; i += n) {
        uint32_t cp = jinja_str_cp(s, i, &n);
        any_upper = any_upper || jinja_char_is_upper(cp);
        any_lower = any_lower || jinja_char_is_lower(cp);
        any_title = any_title || jinja_char_is_title(cp);
    }
    *upper = any_upper && !any_lower && !any_title;
    *lower = any_lower && !any_upper && !any_title;
    return true;
}

static bool is_stripped(uint32_t cp, const struct jinja_str *chars)
{
    if (!chars)
        return jinja_char_is_space(cp);
    for (size_t i = 0, n; i < chars->len; i += n) {
        if (jinja_str_cp(chars, i, &n) == cp)
            return true;
    }
    return false;
}

bool jinja_text_strip(struct jinja_run *r, const struct jinja_str *s, const struct jinja_str *chars,
                      bool left, bool right, const struct jinja_str **out)
{
    size_t from = 0;
    size_t to = s->len;
    uint64_t cost = 1 + (chars ? chars->len / 16 : 0);
    while (left && from < to) {
        size_t n;
        if (!is_stripped(jinja_str_cp(s, from, &n), chars))
            break;
        from += n;
        if ((cost > 1 || from % 256 == 0) && !jinja_charge(r, cost))
            return false;
    }
    while (right && to > from) {
        size_t at = to;
        if (!is_stripped(cp_before(s, &at), chars))
            break;
        to = at;
        if ((cost > 1 || to % 256 == 0) && !jinja_charge(r, cost))
            return false;
    }
    *out = jinja_str_sub(r, s, from, to);
    return *out != NULL;
}

/* An empty `old` is found before every code point and at the end. */
static bool replace_nothing(struct jinja_run *r, const struct jinja_str *s,
                            const struct jinja_str *with, int64_t count, struct jinja_buf *b)
{
    size_t i = 0;
    while (count != 0 && i <= s->len) {
        size_t n = 1;
        jinja_buf_str(b, with);
        count--;
        if (i == s->len) {
            i++;
            break;
        }
        jinja_str_cp(s, i, &n);
        jinja_buf_add(b, s->data + i, n, jinja_str_mask_at(s, i));
        i += n;
        if (b->failed || !jinja_charge(r, 1))
            return false;
    }
    if (i < s->len)
        jinja_buf_add(b, s->data + i, s->len - i, jinja_str_mask_at(s, i));
    return true;
}

bool jinja_text_replace(struct jinja_run *r, const struct jinja_str *s, const struct jinja_str *old,
                        const struct jinja_str *with, int64_t count, const struct jinja_str **out)
{
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    if (!charge_scan(r, s))
        return false;
    if (old->len == 0) {
        if (!replace_nothing(r, s, with, count, &b))
            return false;
    } else {
        int64_t at = count != 0 ? jinja_str_find(s, old, 0) : -1;
        if (at < 0) {
            *out = s;
            return true;
        }
        size_t from = 0;
        for (; at >= 0 && count != 0; count--) {
            jinja_buf_add(&b, s->data + from, (size_t)at - from, jinja_str_mask_at(s, from));
            jinja_buf_str(&b, with);
            from = (size_t)at + old->len;
            if (b.failed || !jinja_charge_bytes(r, with->len))
                return false;
            at = jinja_str_find(s, old, from);
        }
        jinja_buf_add(&b, s->data + from, s->len - from, jinja_str_mask_at(s, from));
    }
    if (!jinja_buf_finish(&b, out))
        return false;
    *out = jinja_str_markup(r, *out, s->markup);
    return *out != NULL;
}

bool jinja_text_pad(struct jinja_run *r, const struct jinja_str *s, int64_t width,
                    const struct jinja_str *fill, enum jinja_align align,
                    const struct jinja_str **out)
{
    int64_t len = (int64_t)jinja_str_cps(s);
    *out = s;
    if (width <= len)
        return true;
    if (fill && jinja_str_cps(fill) != 1)
        return jinja_raise(r, "The fill character must be exactly one character long");
    int64_t pad = width - len;
    if (!jinja_room(r, (size_t)pad, 4) || !jinja_charge_bytes(r, (size_t)pad))
        return false;
    int64_t left = align == JINJA_ALIGN_LEFT    ? 0
                   : align == JINJA_ALIGN_RIGHT ? pad
                                                : pad / 2 + (pad & width & 1);
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    for (int64_t i = 0; i < pad; i++) {
        if (i == left)
            jinja_buf_str(&b, s);
        if (fill)
            jinja_buf_str(&b, fill);
        else
            jinja_buf_fill(&b, ' ', 1);
    }
    if (left == pad)
        jinja_buf_str(&b, s);
    if (!jinja_buf_finish(&b, out))
        return false;
    *out = jinja_str_markup(r, *out, s->markup);
    return *out != NULL;
}

static bool add_sub(struct jinja_run *r, const struct jinja_str *s, size_t from, size_t to,
                    struct jinja_items *out)
{
    const struct jinja_str *part = jinja_str_sub(r, s, from, to);
    return part && jinja_charge(r, 1) && jinja_items_add(r, out, jinja_of_str(part));
}

static void reverse_items(struct jinja_items *l)
{
    for (size_t i = 0, k = l->count; i + 1 < k; i++) {
        k--;
        struct jinja_value swap = l->items[i];
        l->items[i] = l->items[k];
        l->items[k] = swap;
    }
}

static bool split_space(struct jinja_run *r, const struct jinja_str *s, int64_t max,
                        struct jinja_items *out)
{
    size_t i = 0;
    size_t n;
    for (;;) {
        while (i < s->len && jinja_char_is_space(jinja_str_cp(s, i, &n)))
            i += n;
        if (i == s->len)
            return true;
        size_t from = i;
        if (max >= 0 && (int64_t)out->count == max)
            return add_sub(r, s, from, s->len, out);
        while (i < s->len && !jinja_char_is_space(jinja_str_cp(s, i, &n)))
            i += n;
        if (!add_sub(r, s, from, i, out))
            return false;
    }
}

static bool rsplit_space(struct jinja_run *r, const struct jinja_str *s, int64_t max,
                         struct jinja_items *out)
{
    size_t end = s->len;
    for (;;) {
        size_t at = end;
        while (end > 0 && jinja_char_is_space(cp_before(s, &at)))
            end = at;
        if (end == 0)
            break;
        size_t from = end;
        if (max >= 0 && (int64_t)out->count == max) {
            if (!add_sub(r, s, 0, end, out))
                return false;
            break;
        }
        at = from;
        while (from > 0 && !jinja_char_is_space(cp_before(s, &at)))
            from = at;
        if (!add_sub(r, s, from, end, out))
            return false;
        end = from;
    }
    reverse_items(out);
    return true;
}

static bool rsplit_sep(struct jinja_run *r, const struct jinja_str *s, const struct jinja_str *sep,
                       int64_t max, struct jinja_items *out)
{
    size_t end = s->len;
    while (max < 0 || (int64_t)out->count < max) {
        int64_t at;
        if (!jinja_str_rfind(r, s, sep, end, &at))
            return false;
        if (at < 0)
            break;
        if (!add_sub(r, s, (size_t)at + sep->len, end, out))
            return false;
        end = (size_t)at;
    }
    if (!add_sub(r, s, 0, end, out))
        return false;
    reverse_items(out);
    return true;
}

bool jinja_text_split(struct jinja_run *r, const struct jinja_str *s, const struct jinja_str *sep,
                      int64_t max, bool from_right, struct jinja_items *out)
{
    *out = (struct jinja_items){.items = NULL};
    if (!charge_scan(r, s))
        return false;
    if (!sep)
        return from_right ? rsplit_space(r, s, max, out) : split_space(r, s, max, out);
    if (sep->len == 0)
        return jinja_raise(r, "empty separator");
    if (from_right)
        return rsplit_sep(r, s, sep, max, out);
    size_t from = 0;
    while (max < 0 || (int64_t)out->count < max) {
        int64_t at = jinja_str_find(s, sep, from);
        if (at < 0)
            break;
        if (!add_sub(r, s, from, (size_t)at, out))
            return false;
        from = (size_t)at + sep->len;
    }
    return add_sub(r, s, from, s->len, out);
}

bool jinja_text_lines(struct jinja_run *r, const struct jinja_str *s, bool keep_ends,
                      struct jinja_items *out)
{
    *out = (struct jinja_items){.items = NULL};
    if (!charge_scan(r, s))
        return false;
    size_t from = 0;
    for (size_t i = 0, n; i < s->len; i += n) {
        uint32_t cp = jinja_str_cp(s, i, &n);
        if (!jinja_char_is_line_break(cp))
            continue;
        if (cp == '\r' && i + 1 < s->len && s->data[i + 1] == '\n')
            n = 2;
        if (!add_sub(r, s, from, keep_ends ? i + n : i, out))
            return false;
        from = i + n;
    }
    return from == s->len || add_sub(r, s, from, s->len, out);
}

bool jinja_text_join(struct jinja_run *r, const struct jinja_str *sep, struct jinja_value items,
                     bool any, const struct jinja_str **out)
{
    struct jinja_iter *it;
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    if (!jinja_iter_of(r, items, &it))
        return false;
    for (size_t i = 0;; i++) {
        struct jinja_value v;
        bool done;
        if (!jinja_iter_next(r, it, &v, &done))
            return false;
        if (done)
            break;
        if (i)
            jinja_buf_str(&b, sep);
        if (!any && v.type != JINJA_STR)
            return jinja_raise(r, "sequence item %zu: expected str instance, %s found", i,
                               jinja_type_name(v));
        const struct jinja_str *s;
        if (v.type == JINJA_STR && sep->markup && !v.s->markup && !any) {
            if (!jinja_escape(r, v.s, &s))
                return false;
            v = jinja_of_str(s);
        }
        if (!jinja_print_to(r, v, false, &b) || !jinja_charge_bytes(r, sep->len))
            return false;
    }
    if (!jinja_buf_finish(&b, out))
        return false;
    *out = jinja_str_markup(r, *out, sep->markup && !any);
    return *out != NULL;
}
