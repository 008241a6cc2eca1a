#include "engine/text/unicode_form.h"

#include <string.h>
#include <utf8proc.h>

#include "engine/base/status.h"
#include "engine/base/utf8.h"
#include "engine/text/unicode_inert.h"

#define DECOMPOSED_MAX  32
#define INSERT_SORT_MAX 16

static utf8proc_option_t options(const struct unicode_form *f)
{
    unsigned o = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE;
    if (f->compat)
        o |= UTF8PROC_COMPAT;
    return (utf8proc_option_t)o;
}

static size_t decompose(const struct unicode_form *f, uint32_t cp, int32_t out[DECOMPOSED_MAX])
{
    int boundary = 0;
    if (unicode_is_inert(cp)) {
        out[0] = (int32_t)cp;
        return 1;
    }
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, out, DECOMPOSED_MAX, options(f), &boundary);
    CHECK(n >= 0 && n <= DECOMPOSED_MAX);
    return (size_t)n;
}

static int combining_class(int32_t cp)
{
    int c = utf8proc_get_property(cp)->combining_class;
    return c != 0 && unicode_is_inert((uint32_t)cp) ? 0 : c;
}

/* Vowels and finals of Hangul, and what utf8proc's tables know as the second half of a pair. */
static bool combines_back(int32_t cp)
{
    if (cp >= 0x1161 && cp <= 0x11C2)
        return true;
    unsigned index = utf8proc_get_property(cp)->comb_index;
    return index >= 0x8000 && index != UINT16_MAX && !unicode_is_inert((uint32_t)cp);
}

static bool begins_segment(const struct unicode_form *f, uint32_t cp)
{
    if (cp < 0x300)
        return true;
    int32_t first = (int32_t)cp;
    if (utf8proc_get_property(first)->decomp_seqindex != UINT16_MAX) {
        int32_t parts[DECOMPOSED_MAX];
        if (decompose(f, cp, parts) > 0)
            first = parts[0];
    }
    return combining_class(first) == 0 && !combines_back(first);
}

size_t unicode_form_segment(const struct unicode_form *f, const char *s, size_t n)
{
    uint32_t cp;
    size_t i = utf8_decode(s, n, &cp);
    CHECK(i > 0);
    while (i < n) {
        size_t len = utf8_decode(s + i, n - i, &cp);
        CHECK(len > 0);
        if (begins_segment(f, cp))
            break;
        i += len;
    }
    return i;
}

bool unicode_form_is_stable(const struct unicode_form *f, const char *s, size_t n)
{
    uint32_t cp;
    if (utf8_decode(s, n, &cp) != n)
        return false;
    if (cp >= 0xAC00 && cp <= 0xD7A3)
        return f->compose;
    return utf8proc_get_property((int32_t)cp)->decomp_seqindex == UINT16_MAX ||
           unicode_is_inert(cp);
}

/* Stable sort of cp[0, n), all with a class above 0, by class; spare has room for n. */
static void sort_marks(int32_t *cp, size_t n, int32_t *spare)
{
    if (n <= INSERT_SORT_MAX) {
        for (size_t i = 1; i < n; i++) {
            int32_t v = cp[i];
            size_t k = i;
            for (; k > 0 && combining_class(cp[k - 1]) > combining_class(v); k--)
                cp[k] = cp[k - 1];
            cp[k] = v;
        }
        return;
    }
    size_t at[256] = {0};
    for (size_t i = 0; i < n; i++)
        at[combining_class(cp[i]) & 255]++;
    size_t sum = 0;
    for (size_t k = 0; k < 256; k++) {
        size_t count = at[k];
        at[k] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++)
        spare[at[combining_class(cp[i]) & 255]++] = cp[i];
    memcpy(cp, spare, n * sizeof *cp);
}

size_t unicode_form_apply(const struct unicode_form *f, const char *s, size_t n, int32_t *out)
{
    size_t count = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int32_t parts[DECOMPOSED_MAX];
        size_t len = utf8_decode(s + i, n - i, &cp);
        CHECK(len > 0);
        size_t made = decompose(f, cp, parts);
        CHECK(made <= len * UNICODE_FORM_GROWTH);
        memcpy(out + count, parts, made * sizeof *parts);
        count += made;
        i += len;
    }
    for (size_t from = 0; from < count;) {
        size_t to = from;
        while (to < count && combining_class(out[to]) != 0)
            to++;
        sort_marks(out + from, to - from, out + count);
        from = to + 1;
    }
    /* An inert character can only be the first of its segment, where utf8proc leaves it alone. */
    if (!f->compose)
        return count;
    utf8proc_ssize_t composed = utf8proc_normalize_utf32(
        out, (utf8proc_ssize_t)count, (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    CHECK(composed >= 0);
    return (size_t)composed;
}
