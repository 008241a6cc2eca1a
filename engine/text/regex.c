#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/regex.h"

#include <pcre2.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/base/utf8.h"
#include "engine/text/regex_translate.h"

static void *pcre_malloc(size_t n, void *unused)
{
    (void)unused;
    return mem_alloc(n, 1);
}

static void pcre_free(void *p, void *unused)
{
    (void)unused;
    mem_free(p);
}

static enum status compile(struct regex *r, const struct strbuf *text, pcre2_general_context *g,
                           struct err *e)
{
    pcre2_compile_context *cc = pcre2_compile_context_create(g);
    if (!cc)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(cc, 100);
    int code = 0;
    PCRE2_SIZE at = 0;
    r->code = pcre2_compile((PCRE2_SPTR)strbuf_str(text), text->len,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (!r->code) {
        if (code == PCRE2_ERROR_NOMEMORY || code == 121) /* 121: compiling ran out of memory */
            return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
        char why[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return err_set(e, STATUS_BAD_FILE, NULL, "bad pattern: %s at byte %zu of %s", why, at,
                       strbuf_str(text));
    }
    /* Without JIT the pattern still runs, slower. */
    (void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
    return STATUS_OK;
}

enum status regex_open(struct regex *r, const char *pattern, size_t n, struct err *e)
{
    *r = (struct regex){0};
    struct strbuf text;
    strbuf_init(&text, LIMIT_PATTERN_BYTES * 16);
    enum status st = regex_translate(pattern, n, &text, e);
    pcre2_general_context *g = NULL;
    if (st == STATUS_OK) {
        g = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
        st = g ? compile(r, &text, g, e) : err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    pcre2_general_context_free(g);
    strbuf_deinit(&text);
    if (st != STATUS_OK)
        regex_close(r);
    return st;
}

enum status regex_open_literal(struct regex *r, const char *s, size_t n, struct err *e)
{
    CHECK(n >= 1);
    *r = (struct regex){.literal = mem_strndup(s, n), .literal_len = n};
    if (!r->literal)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    return STATUS_OK;
}

void regex_close(struct regex *r)
{
    pcre2_code_free(r->code);
    mem_free(r->literal);
    *r = (struct regex){0};
}

void regex_scan_init(struct regex_scan *s)
{
    *s = (struct regex_scan){0};
}

void regex_scan_deinit(struct regex_scan *s)
{
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    regex_scan_init(s);
}

void regex_scan_start(struct regex_scan *s, const char *text, size_t n)
{
    s->text = text;
    s->n = n;
    s->at = 0;
    s->last = SIZE_MAX;
}

static bool next_literal(const struct regex *r, struct regex_scan *s, size_t *from, size_t *to)
{
    const char *hit = memmem(s->text + s->at, s->n - s->at, r->literal, r->literal_len);
    if (!hit) {
        s->at = s->n + 1;
        return false;
    }
    *from = (size_t)(hit - s->text);
    *to = s->at = *from + r->literal_len;
    return true;
}

static enum status make_match_data(struct regex_scan *s, struct err *e)
{
    pcre2_general_context *g = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    s->match = g ? pcre2_match_data_create(1, g) : NULL;
    s->context = g ? pcre2_match_context_create(g) : NULL;
    pcre2_general_context_free(g);
    if (!s->match || !s->context)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    pcre2_set_heap_limit(s->context, LIMIT_PATTERN_STACK_BYTES / 1024);
    return STATUS_OK;
}

/* Steps that one match may take: patterns of real tokenizers need less than ten for a byte. */
static uint32_t step_limit(size_t n)
{
    size_t steps = LIMIT_PATTERN_STEPS + LIMIT_PATTERN_STEPS_BYTE * n;
    return steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX;
}

static int match(const struct regex *r, struct regex_scan *s)
{
    uint32_t steps = step_limit(s->n - s->at);
    pcre2_set_match_limit(s->context, steps);
    pcre2_set_depth_limit(s->context, steps);
    int rc = pcre2_match(r->code, (PCRE2_SPTR)s->text, s->n, s->at, PCRE2_NO_UTF_CHECK, s->match,
                         s->context);
    if (rc != PCRE2_ERROR_JIT_STACKLIMIT || s->stack)
        return rc;
    /* 32 KiB of the machine stack are the default; a repeated group needs some bytes for each
     * round. The memory is only reserved until it is touched. */
    s->stack = pcre2_jit_stack_create(65536, LIMIT_PATTERN_STACK_BYTES, NULL);
    if (!s->stack)
        return PCRE2_ERROR_NOMEMORY;
    pcre2_jit_stack_assign(s->context, NULL, s->stack);
    return pcre2_match(r->code, (PCRE2_SPTR)s->text, s->n, s->at, PCRE2_NO_UTF_CHECK, s->match,
                       s->context);
}

enum status regex_next(const struct regex *r, struct regex_scan *s, bool *found, size_t *from,
                       size_t *to, struct err *e)
{
    *found = false;
    if (r->literal) {
        *found = s->at <= s->n && next_literal(r, s, from, to);
        return STATUS_OK;
    }
    if (!s->context) {
        enum status st = make_match_data(s, e);
        if (st != STATUS_OK)
            return st;
    }
    while (s->at <= s->n) {
        int rc = match(r, s);
        if (rc == PCRE2_ERROR_NOMATCH) {
            s->at = s->n + 1;
            break;
        }
        if (rc == PCRE2_ERROR_NOMEMORY)
            return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
        if (rc < 0)
            return err_set(e, STATUS_LIMIT, NULL,
                           "a pattern of the tokenizer needs too many steps on this text");
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
        if (span[0] < span[1] || span[1] != s->last) {
            *from = span[0];
            *to = s->at = s->last = span[1];
            *found = true;
            break;
        }
        size_t step = s->at < s->n ? utf8_valid_len(s->text + s->at, s->n - s->at) : 1;
        s->at += step ? step : 1;
    }
    return STATUS_OK;
}
