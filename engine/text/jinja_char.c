/* General categories and simple case mappings come from utf8proc; what Python adds to them is a
 * table generated from Python (scripts/gen_jinja_char.py). */
#include "engine/text/jinja_char.h"

#include <utf8proc.h>

#include "engine/text/jinja_char_table.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}

static bool in_ranges(const uint32_t (*rows)[2], size_t count, uint32_t cp)
{
    size_t lo = 0;
    size_t hi = count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (cp > rows[mid][1])
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < count && cp >= rows[lo][0];
}

/* Long mapping of cp into out, or 0. */
static size_t long_map(const uint32_t (*rows)[4], size_t count, uint32_t cp, uint32_t out[3])
{
    size_t lo = 0;
    size_t hi = count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (cp > rows[mid][0])
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo >= count || rows[lo][0] != cp)
        return 0;
    size_t n = 0;
    while (n < 3 && rows[lo][n + 1] != 0) {
        out[n] = rows[lo][n + 1];
        n++;
    }
    return n;
}

bool jinja_char_is_space(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool jinja_char_is_line_break(uint32_t cp)
{
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

bool jinja_char_is_alpha(uint32_t cp)
{
    if (cp < 0x80)
        return (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z';
    int c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool jinja_char_is_decimal(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= '0' && cp <= '9';
    return category(cp) == UTF8PROC_CATEGORY_ND;
}

/* Decimal digits come in runs that start with a zero and are a multiple of ten long. */
int jinja_char_decimal(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= '0' && cp <= '9' ? (int)cp - '0' : -1;
    if (!jinja_char_is_decimal(cp))
        return -1;
    int before = 0;
    while (jinja_char_is_decimal(cp - 1 - (uint32_t)before))
        before++;
    return before % 10;
}

bool jinja_char_is_digit(uint32_t cp)
{
    return jinja_char_is_decimal(cp) || in_ranges(jinja_digit_only, jinja_digit_only_count, cp);
}

bool jinja_char_is_numeric(uint32_t cp)
{
    return jinja_char_is_digit(cp) || in_ranges(jinja_numeric_only, jinja_numeric_only_count, cp);
}

bool jinja_char_is_alnum(uint32_t cp)
{
    return jinja_char_is_alpha(cp) || jinja_char_is_numeric(cp);
}

bool jinja_char_is_word(uint32_t cp)
{
    return cp == '_' || jinja_char_is_alnum(cp);
}

bool jinja_char_is_upper(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'A' && cp <= 'Z';
    return category(cp) == UTF8PROC_CATEGORY_LU ||
           in_ranges(jinja_other_upper, jinja_other_upper_count, cp);
}

bool jinja_char_is_lower(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'a' && cp <= 'z';
    return category(cp) == UTF8PROC_CATEGORY_LL ||
           in_ranges(jinja_other_lower, jinja_other_lower_count, cp);
}

bool jinja_char_is_title(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LT;
}

bool jinja_char_is_cased(uint32_t cp)
{
    return jinja_char_is_lower(cp) || jinja_char_is_upper(cp) || jinja_char_is_title(cp);
}

bool jinja_char_is_case_ignorable(uint32_t cp)
{
    static const uint32_t inside_words[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,
                                            0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                            0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    for (size_t i = 0; i < COUNT(inside_words); i++) {
        if (cp == inside_words[i])
            return true;
    }
    int c = category(cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK;
}

bool jinja_char_is_printable(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 0x20 && cp != 0x7F;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

size_t jinja_char_upper(uint32_t cp, uint32_t out[3])
{
    size_t n = cp < 0x80 ? 0 : long_map(jinja_upper_long, jinja_upper_long_count, cp, out);
    if (n == 0)
        out[n++] = (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
    return n;
}

size_t jinja_char_lower(uint32_t cp, uint32_t out[3])
{
    size_t n = cp < 0x80 ? 0 : long_map(jinja_lower_long, jinja_lower_long_count, cp, out);
    if (n == 0)
        out[n++] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    return n;
}

size_t jinja_char_title(uint32_t cp, uint32_t out[3])
{
    size_t n = cp < 0x80 ? 0 : long_map(jinja_title_long, jinja_title_long_count, cp, out);
    if (n == 0)
        out[n++] = (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp);
    return n;
}
