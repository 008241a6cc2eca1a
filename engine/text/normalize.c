#include "engine/text/normalize.h"

#include <string.h>
#include <utf8proc.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"
#include "engine/text/config_steps.h"
#include "engine/text/unicode_class.h"
#include "engine/text/unicode_form.h"
#include "engine/text/unicode_inert.h"

enum norm_kind {
    NORM_FORM,
    NORM_LOWERCASE,
    NORM_STRIP,
    NORM_STRIP_ACCENTS,
    NORM_REPLACE,
    NORM_PREPEND
};

struct norm_step {
    enum norm_kind kind;
    bool compose; /* NORM_FORM */
    bool compat;
    bool left; /* NORM_STRIP */
    bool right;
    struct regex pattern; /* NORM_REPLACE */
    char *content;        /* owned: NORM_REPLACE, NORM_PREPEND */
};

static enum status read_strip(const cJSON *config, struct norm_step *step, struct err *e)
{
    step->left = step->right = true;
    enum status st = json_get_bool(config, "strip_left", &step->left, e);
    return st != STATUS_OK ? st : json_get_bool(config, "strip_right", &step->right, e);
}

static enum status read_content(const cJSON *config, const char *key, struct norm_step *step,
                                struct err *e)
{
    const char *s;
    enum status st = config_string(config, key, &s, e);
    if (st != STATUS_OK)
        return st;
    step->content = mem_strdup(s);
    return step->content ? STATUS_OK : err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

static enum status read_step(const cJSON *config, const char *type, struct norm_step *step,
                             struct err *e)
{
    static const struct {
        const char *type;
        enum norm_kind kind;
        bool compose;
        bool compat;
    } types[] = {
        {"NFC", NORM_FORM, true, false},
        {"NFD", NORM_FORM, false, false},
        {"NFKC", NORM_FORM, true, true},
        {"NFKD", NORM_FORM, false, true},
        {"Lowercase", NORM_LOWERCASE, false, false},
        {"Strip", NORM_STRIP, false, false},
        {"StripAccents", NORM_STRIP_ACCENTS, false, false},
        {"Replace", NORM_REPLACE, false, false},
        {"Prepend", NORM_PREPEND, false, false},
    };
    size_t k = 0;
    while (k < sizeof types / sizeof types[0] && strcmp(types[k].type, type) != 0)
        k++;
    if (k == sizeof types / sizeof types[0])
        return config_refuse("normalizer", type, e);
    *step = (struct norm_step){
        .kind = types[k].kind, .compose = types[k].compose, .compat = types[k].compat};
    if (step->kind == NORM_STRIP)
        return read_strip(config, step, e);
    if (step->kind == NORM_PREPEND)
        return read_content(config, "prepend", step, e);
    if (step->kind != NORM_REPLACE)
        return STATUS_OK;
    enum status st = read_content(config, "content", step, e);
    return st != STATUS_OK ? st : config_pattern(config, &step->pattern, e);
}

enum status normalize_open(struct normalizer *z, const cJSON *config, struct err *e)
{
    *z = (struct normalizer){0};
    struct config_steps walk;
    config_steps_init(&walk, config, "normalizers");
    for (;;) {
        const cJSON *step;
        const char *type;
        enum status st = config_steps_next(&walk, &step, &type, e);
        if (st == STATUS_OK && !step)
            return STATUS_OK;
        if (st == STATUS_OK && !VEC_RESERVE(z->steps, z->cap, z->count + 1))
            st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
        if (st == STATUS_OK) {
            z->steps[z->count] = (struct norm_step){0};
            st = read_step(step, type, &z->steps[z->count++], e);
        }
        if (st != STATUS_OK) {
            normalize_close(z);
            return st;
        }
    }
}

void normalize_close(struct normalizer *z)
{
    for (size_t k = 0; k < z->count; k++) {
        regex_close(&z->steps[k].pattern);
        mem_free(z->steps[k].content);
    }
    mem_free(z->steps);
    *z = (struct normalizer){0};
}

void normalize_scratch_init(struct norm_scratch *s, struct regex_scan *scan)
{
    *s = (struct norm_scratch){.scan = scan};
}

void normalize_scratch_deinit(struct norm_scratch *s)
{
    for (int k = 0; k < 2; k++) {
        mem_free(s->text[k].p);
        mem_free(s->text[k].marks);
    }
    mem_free(s->cps);
    normalize_scratch_init(s, NULL);
}

static enum status put(struct norm_text *t, const char *s, size_t n, bool mark, struct err *e)
{
    if (n > LIMIT_ENCODE_BYTES - t->n)
        return err_set(e, STATUS_LIMIT, NULL, "text grows beyond %u bytes in normalization",
                       LIMIT_ENCODE_BYTES);
    if (!VEC_RESERVE(t->p, t->cap, t->n + n + 1) ||
        (t->has_marks && !VEC_RESERVE(t->marks, t->mark_cap, t->n + n + 1)))
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    memcpy(t->p + t->n, s, n);
    if (t->has_marks)
        memset(t->marks + t->n, mark, n);
    t->n += n;
    return STATUS_OK;
}

/* in[from, to) as it stands, with its marks. */
static enum status copy(struct norm_text *t, const struct norm_text *in, size_t from, size_t to,
                        struct err *e)
{
    enum status st = put(t, in->p + from, to - from, false, e);
    if (st == STATUS_OK && t->has_marks && to > from)
        memcpy(t->marks + t->n - (to - from), in->marks + from, to - from);
    return st;
}

static bool is_marked(const struct norm_text *t, size_t from, size_t to)
{
    if (!t->has_marks)
        return false;
    while (from < to && !t->marks[from])
        from++;
    return from < to;
}

static enum status put_code_point(struct norm_text *t, uint32_t cp, bool mark, struct err *e)
{
    char s[4];
    return put(t, s, utf8_encode(cp, s), mark, e);
}

static size_t ascii_run(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && (unsigned char)s[i] < 0x80)
        i++;
    return i;
}

/* Segment by segment (see unicode_form.h); ASCII between them is copied at once. */
static enum status run_form(const struct norm_step *step, struct norm_scratch *s,
                            const struct norm_text *in, struct norm_text *out, struct err *e)
{
    struct unicode_form form = {.compose = step->compose, .compat = step->compat};
    size_t i = 0;
    enum status st = STATUS_OK;
    while (i < in->n && st == STATUS_OK) {
        size_t plain = ascii_run(in->p + i, in->n - i);
        if (plain > 0 && i + plain < in->n)
            plain--; /* what follows may combine with it */
        st = copy(out, in, i, i + plain, e);
        i += plain;
        if (st != STATUS_OK || i == in->n)
            break;
        size_t len = unicode_form_segment(&form, in->p + i, in->n - i);
        if (unicode_form_is_stable(&form, in->p + i, len)) {
            st = copy(out, in, i, i + len, e);
        } else if (!VEC_RESERVE(s->cps, s->cp_cap, len * UNICODE_FORM_GROWTH * 2)) {
            st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
        } else {
            size_t count = unicode_form_apply(&form, in->p + i, len, s->cps);
            bool mark = is_marked(in, i, i + len);
            for (size_t k = 0; k < count && st == STATUS_OK; k++)
                st = put_code_point(out, (uint32_t)s->cps[k], mark, e);
        }
        i += len;
    }
    return st;
}

/* Lower case younger than utf8proc's tables: [first, last] -> + delta. */
static const struct {
    uint32_t first;
    uint32_t last;
    int32_t delta;
} late_lower[] = {
    {0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, -42343}, {0xA7CC, 0xA7CC, 1},
    {0xA7CE, 0xA7CE, 1},      {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
    {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, -42561}, {0x10D50, 0x10D65, 0x20},
    {0x16EA0, 0x16EB8, 0x1B},
};

static uint32_t lower(uint32_t cp)
{
    for (size_t k = 0; k < sizeof late_lower / sizeof late_lower[0] && cp >= 0x1C89; k++) {
        if (cp >= late_lower[k].first && cp <= late_lower[k].last)
            return (uint32_t)((int32_t)cp + late_lower[k].delta);
    }
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

/* Marks in the sense of Unicode 9.0. */
static bool is_accent(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    if (c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME)
        return !unicode_is_inert(cp);
    return cp == 0x1CF2 || cp == 0x1CF3; /* letters since 12.0 */
}

static enum status put_lower(struct norm_text *out, uint32_t cp, bool mark, struct err *e)
{
    if (cp != 0x130)
        return put_code_point(out, lower(cp), mark, e);
    enum status st = put_code_point(out, 'i', mark, e); /* the one lower case of two characters */
    return st != STATUS_OK ? st : put_code_point(out, 0x307, mark, e);
}

static enum status run_each_char(const struct norm_step *step, const struct norm_text *in,
                                 struct norm_text *out, struct err *e)
{
    enum status st = STATUS_OK;
    for (size_t i = 0; i < in->n && st == STATUS_OK;) {
        uint32_t cp = 0;
        size_t len = utf8_decode(in->p + i, in->n - i, &cp);
        CHECK(len > 0);
        bool mark = is_marked(in, i, i + len);
        if (step->kind == NORM_LOWERCASE)
            st = put_lower(out, cp, mark, e);
        else if (!is_accent(cp))
            st = copy(out, in, i, i + len, e);
        else if (i == 0)
            out->from_start = false;
        i += len;
    }
    return st;
}

static enum status run_strip(const struct norm_step *step, const struct norm_text *in,
                             struct norm_text *out, struct err *e)
{
    size_t from = 0;
    size_t to = in->n;
    size_t len;
    uint32_t cp;
    while (step->left && from < to && (len = utf8_decode(in->p + from, to - from, &cp)) > 0 &&
           unicode_is_space(cp))
        from += len;
    while (step->right && to > from && unicode_is_space(unicode_last(in->p, to, &len)))
        to -= len;
    out->from_start &= from == 0;
    return copy(out, in, from, to, e);
}

static enum status run_replace(const struct norm_step *step, struct regex_scan *scan,
                               const struct norm_text *in, struct norm_text *out, struct err *e)
{
    size_t done = 0;
    size_t n = strlen(step->content);
    regex_scan_start(scan, in->p, in->n);
    for (;;) {
        bool found;
        size_t from;
        size_t to;
        enum status st = regex_next(&step->pattern, scan, &found, &from, &to, e);
        if (st != STATUS_OK)
            return st;
        if (!found)
            return copy(out, in, done, in->n, e);
        /* What replaces several characters counts as made from the last one. */
        if (from == 0 && to > 0 && (n == 0 || to > utf8_valid_len(in->p, in->n)))
            out->from_start = false;
        st = copy(out, in, done, from, e);
        if (st == STATUS_OK)
            st = put(out, step->content, n, is_marked(in, from, to), e);
        if (st != STATUS_OK)
            return st;
        done = to;
    }
}

static enum status run_prepend(const struct norm_step *step, const struct norm_text *in,
                               struct norm_text *out, struct err *e)
{
    enum status st = STATUS_OK;
    if (in->n > 0)
        st = put(out, step->content, strlen(step->content), false, e);
    return st != STATUS_OK ? st : copy(out, in, 0, in->n, e);
}

static enum status run_step(const struct norm_step *step, struct norm_scratch *s,
                            const struct norm_text *in, struct norm_text *out, struct err *e)
{
    out->n = 0;
    out->has_marks = in->has_marks;
    out->from_start = in->from_start;
    switch (step->kind) {
    case NORM_FORM:
        return run_form(step, s, in, out, e);
    case NORM_STRIP:
        return run_strip(step, in, out, e);
    case NORM_REPLACE:
        return run_replace(step, s->scan, in, out, e);
    case NORM_PREPEND:
        return run_prepend(step, in, out, e);
    default:
        return run_each_char(step, in, out, e);
    }
}

enum status normalize_run(const struct normalizer *z, struct norm_scratch *scratch, const char *s,
                          size_t n, const uint8_t *marks, const struct norm_text **out,
                          struct err *e)
{
    struct norm_text *t = scratch->text;
    t[0].n = 0;
    t[0].has_marks = marks != NULL;
    t[0].from_start = true;
    enum status st = put(&t[0], s, n, false, e);
    if (st == STATUS_OK && marks && n)
        memcpy(t[0].marks, marks, n);
    int at = 0;
    for (size_t k = 0; k < z->count && st == STATUS_OK; k++) {
        st = run_step(&z->steps[k], scratch, &t[at], &t[1 - at], e);
        at = 1 - at;
    }
    if (st == STATUS_OK)
        *out = &t[at];
    return st;
}
