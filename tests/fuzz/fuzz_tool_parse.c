/* Answers of a hostile model, told apart into text and calls. Input: a byte that chooses form,
 * forced and where to cut, then the text.
 *
 * Whole, byte by byte and cut anywhere it gives the same; nothing is lost from an answer without
 * calls; a name and arguments come only inside a call. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/strbuf.h"
#include "server/tool_parse.h"

struct seen {
    struct strbuf text, calls;
    int count;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void on_text(void *ctx, const char *s, size_t n)
{
    struct seen *o = ctx;
    require(n > 0);
    strbuf_append(&o->text, s, n);
}

static void on_call(void *ctx, const char *name, size_t n)
{
    struct seen *o = ctx;
    o->count++;
    strbuf_putc(&o->calls, '\n');
    strbuf_append(&o->calls, name, n);
    strbuf_putc(&o->calls, '\t');
}

static void on_arguments(void *ctx, const char *s, size_t n)
{
    struct seen *o = ctx;
    require(o->count > 0);
    strbuf_append(&o->calls, s, n);
}

static void read_text(enum engine_tool_form form, bool forced, const cJSON *tools, const char *s,
                      size_t n, size_t cut, struct seen *o)
{
    const struct tool_sink sink = {on_text, on_call, on_arguments, o};
    struct tool_parse p;
    *o = (struct seen){0};
    strbuf_init(&o->text, 1 << 20);
    strbuf_init(&o->calls, 1 << 20);
    tool_parse_init(&p, form, forced, tools, &sink);
    for (size_t i = 0, step; i < n; i += step) {
        step = cut == 0 ? 1 : i < cut && cut < n ? cut - i : n - i;
        require(tool_parse_push(&p, s + i, step));
    }
    require(tool_parse_end(&p));
    tool_parse_deinit(&p);
}

static void require_same(const struct strbuf *a, const struct strbuf *b)
{
    require(a->len == b->len && !memcmp(strbuf_str(a), strbuf_str(b), a->len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char list[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]";
    static cJSON *tools;
    if (n < 2 || n > 8192)
        return 0;
    if (!tools)
        require(json_parse(list, strlen(list), &json_default_limits, &tools, NULL) == STATUS_OK);
    enum engine_tool_form form = (enum engine_tool_form)(data[0] % 6);
    bool forced = data[0] / 6 % 4 == 0;
    const char *s = (const char *)data + 2;
    struct seen whole, bytes, cut;
    read_text(form, forced, tools, s, n - 2, n, &whole);
    read_text(form, forced, tools, s, n - 2, 0, &bytes);
    read_text(form, forced, tools, s, n - 2, 1 + data[1] % n, &cut);
    require_same(&whole.text, &bytes.text);
    require_same(&whole.calls, &bytes.calls);
    require_same(&whole.text, &cut.text);
    require_same(&whole.calls, &cut.calls);
    bool marked = tool_parse_marker(form) &&
                  memmem(s, n - 2, tool_parse_marker(form), strlen(tool_parse_marker(form)));
    if (!whole.count && !forced && !marked)
        require(whole.text.len == n - 2 && !memcmp(strbuf_str(&whole.text), s, n - 2));
    struct seen *all[] = {&whole, &bytes, &cut};
    for (size_t i = 0; i < 3; i++) {
        strbuf_deinit(&all[i]->text);
        strbuf_deinit(&all[i]->calls);
    }
    return 0;
}
