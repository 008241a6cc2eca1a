#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/adapter/module_regex.h"

#include <errno.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"

struct module_regex {
    pcre2_general_context *general; /* owned, all four */
    pcre2_code *code;
    pcre2_match_context *match;
    pcre2_match_data *data;
};

static void *take(PCRE2_SIZE n, void *unused)
{
    (void)unused;
    return mem_alloc(n, 1);
}

static void give(void *p, void *unused)
{
    (void)unused;
    mem_free(p);
}

static enum status no_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

static enum status compile(struct module_regex *r, const struct strbuf *text, bool whole,
                           struct err *e)
{
    r->general = pcre2_general_context_create(take, give, NULL);
    if (!r->general)
        return no_memory(e);
    pcre2_compile_context *ctx = pcre2_compile_context_create(r->general);
    if (!ctx)
        return no_memory(e);
    const uint32_t options =
        PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_ANCHORED | (whole ? PCRE2_ENDANCHORED : 0);
    int code = 0;
    PCRE2_SIZE at = 0;
    r->code = pcre2_compile((PCRE2_SPTR)text->data, text->len, options, &code, &at, ctx);
    pcre2_compile_context_free(ctx);
    if (!r->code) {
        PCRE2_UCHAR reason[128];
        if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED)
            return no_memory(e);
        pcre2_get_error_message(code, reason, sizeof reason);
        return err_set(e, STATUS_INVALID, NULL, "%s", (const char *)reason);
    }
    r->match = pcre2_match_context_create(r->general);
    r->data = pcre2_match_data_create_from_pattern(r->code, r->general);
    if (!r->match || !r->data)
        return no_memory(e);
    pcre2_set_match_limit(r->match, LIMIT_ADAPTER_MATCH_STEPS);
    pcre2_set_heap_limit(r->match, LIMIT_ADAPTER_MATCH_KIB);
    return STATUS_OK;
}

enum status module_regex_compile(const char *head, const char *pattern, const char *tail,
                                 bool whole, struct module_regex **out, struct err *e)
{
    if (strlen(pattern) > LIMIT_ADAPTER_PATTERN_BYTES)
        return err_set(e, STATUS_LIMIT, NULL, "longer than %d bytes", LIMIT_ADAPTER_PATTERN_BYTES);
    struct strbuf text;
    strbuf_init(&text, LIMIT_ADAPTER_PATTERN_BYTES + 256);
    strbuf_puts(&text, head);
    strbuf_puts(&text, pattern);
    strbuf_puts(&text, tail);
    struct module_regex *r = mem_calloc(1, sizeof *r);
    enum status st = !r || text.failed ? no_memory(e) : compile(r, &text, whole, e);
    strbuf_deinit(&text);
    if (st != STATUS_OK) {
        module_regex_free(r);
        return st;
    }
    *out = r;
    return STATUS_OK;
}

void module_regex_free(struct module_regex *r)
{
    if (!r)
        return;
    pcre2_match_data_free(r->data);
    pcre2_match_context_free(r->match);
    pcre2_code_free(r->code);
    pcre2_general_context_free(r->general);
    mem_free(r);
}

/* The digits of group "idx"; a group that took no part leaves *idx alone. */
static void read_idx(const struct module_regex *r, const char *name, int64_t *idx)
{
    int group = pcre2_substring_number_from_name(r->code, (PCRE2_SPTR) "idx");
    if (group < 0)
        return;
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(r->data) + 2 * (size_t)group;
    if (span[0] == PCRE2_UNSET)
        return;
    errno = 0;
    long long v = strtoll(name + span[0], NULL, 10);
    if (errno == 0)
        *idx = v;
}

enum status module_regex_match(const struct module_regex *r, const char *name, bool *matched,
                               int64_t *idx, struct err *e)
{
    int rc = pcre2_match(r->code, (PCRE2_SPTR)name, strlen(name), 0, 0, r->data, r->match);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *matched = false;
        return STATUS_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY)
        return no_memory(e);
    if (rc < 0) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(rc, reason, sizeof reason);
        return err_set(e, STATUS_LIMIT, NULL, "too costly to match: %s", (const char *)reason);
    }
    *matched = true;
    if (idx)
        read_idx(r, name, idx);
    return STATUS_OK;
}
