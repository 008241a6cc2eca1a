#include "server/tool_parse.h"

#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "server/tool_python.h"

#define HELD_MAX  ((size_t)1 << 30)
#define TAG_OPEN  "<tool_call>"
#define TAG_CLOSE "</tool_call>"

const char *tool_parse_marker(enum engine_tool_form form)
{
    switch (form) {
    case ENGINE_TOOLS_TAGS:
        return TAG_OPEN;
    case ENGINE_TOOLS_MISTRAL:
        return "[TOOL_CALLS]";
    case ENGINE_TOOLS_OBJECT:
        return "<|python_tag|>";
    case ENGINE_TOOLS_PYTHON:
        return "<|python_start|>";
    case ENGINE_TOOLS_NONE:
    case ENGINE_TOOLS_OTHER:
        break;
    }
    return NULL;
}

void tool_parse_init(struct tool_parse *p, enum engine_tool_form form, bool forced,
                     const cJSON *tools, const struct tool_sink *sink)
{
    *p = (struct tool_parse){
        .form = form, .forced = forced, .tools = tools, .sink = *sink, .state = TOOL_SAYS};
    strbuf_init(&p->held, HELD_MAX);
    if (forced) {
        if (form != ENGINE_TOOLS_TAGS && form != ENGINE_TOOLS_MISTRAL)
            p->form = ENGINE_TOOLS_OBJECT;
        p->state = form == ENGINE_TOOLS_MISTRAL ? TOOL_BETWEEN : TOOL_BEGIN;
    } else if (form == ENGINE_TOOLS_OBJECT || form == ENGINE_TOOLS_PYTHON) {
        p->state = TOOL_BEGIN;
    } else if (form == ENGINE_TOOLS_NONE || form == ENGINE_TOOLS_OTHER) {
        p->state = TOOL_PLAIN;
    }
    if (p->form == ENGINE_TOOLS_TAGS)
        p->state = TOOL_SAYS;
}

void tool_parse_deinit(struct tool_parse *p)
{
    strbuf_deinit(&p->held);
}

/* --- pieces ----------------------------------------------------------------------------------- */

static bool blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Bytes of white space at s + i. */
static size_t blanks(const struct strbuf *b, size_t i)
{
    size_t n = 0;
    while (i + n < b->len && blank(b->data[i + n]))
        n++;
    return n;
}

static void drop(struct tool_parse *p, size_t n)
{
    memmove(p->held.data, p->held.data + n, p->held.len - n + 1);
    p->held.len -= n;
    p->scanned = p->scanned > n ? p->scanned - n : 0;
}

static void say(struct tool_parse *p, size_t n)
{
    if (!n)
        return;
    p->sink.text(p->sink.ctx, p->held.data, n);
    drop(p, n);
}

static void say_all(struct tool_parse *p)
{
    p->state = TOOL_PLAIN;
    say(p, p->held.len);
}

/* 1: the held text goes on with `word` at i; 0: it does not; -1: it may, when more comes. */
static int word_at(const struct strbuf *b, size_t i, const char *word)
{
    size_t have = b->len - i, n = strlen(word);
    if (memcmp(b->data + i, word, have < n ? have : n) != 0)
        return 0;
    return have < n ? -1 : 1;
}

/* Reads brackets from p->scanned on; the bytes up to the one that closes the first, or 0. */
static size_t scan_value(struct tool_parse *p)
{
    struct tool_scan *s = &p->scan;
    for (; p->scanned < p->held.len; p->scanned++) {
        char c = p->held.data[p->scanned];
        if (s->in_string) {
            s->in_string = s->escaped || c != '"';
            s->escaped = !s->escaped && c == '\\';
        } else if (c == '"') {
            s->in_string = true;
        } else if (c == '{' || c == '[') {
            s->depth++;
        } else if ((c == '}' || c == ']') && --s->depth <= 0) {
            return ++p->scanned;
        }
    }
    return 0;
}

static bool offered(const struct tool_parse *p, const char *name, size_t n)
{
    const cJSON *t;
    cJSON_ArrayForEach(t, p->tools)
    {
        const cJSON *f = cJSON_GetObjectItemCaseSensitive(t, "function");
        const cJSON *own = cJSON_GetObjectItemCaseSensitive(f, "name");
        if (cJSON_IsString(own) && strlen(own->valuestring) == n &&
            !memcmp(own->valuestring, name, n))
            return true;
    }
    return false;
}

static bool tagged(const struct tool_parse *p)
{
    return p->form == ENGINE_TOOLS_TAGS || p->form == ENGINE_TOOLS_MISTRAL;
}

static void begin_call(struct tool_parse *p, const char *name, size_t n)
{
    p->calls++;
    p->sink.call(p->sink.ctx, name, n);
}

/* --- states; each returns true when it may go on with what is held ---------------------------- */

/* Text up to a marker; white space before it is nobody's. */
static bool says(struct tool_parse *p)
{
    const char *marker = tool_parse_marker(p->form);
    const struct strbuf *b = &p->held;
    for (size_t i = 0; i < b->len; i++) {
        size_t skip = blanks(b, i);
        if (i + skip == b->len) {
            say(p, i);
            return false; /* white space waits */
        }
        int found = word_at(b, i + skip, marker);
        if (found == 0) {
            i += skip;
            continue;
        }
        say(p, i);
        if (found < 0)
            return false;
        drop(p, skip + strlen(marker));
        p->state = TOOL_BETWEEN;
        return true;
    }
    say(p, b->len);
    return false;
}

/* The beginning of an answer whose calls have no tags. */
static bool begins(struct tool_parse *p)
{
    const struct strbuf *b = &p->held;
    size_t i = blanks(b, 0);
    if (i == b->len)
        return false;
    const char *marker = tool_parse_marker(p->form);
    int found = word_at(b, i, marker);
    if (found < 0)
        return false;
    if (found > 0)
        i += strlen(marker);
    i += blanks(b, i);
    if (i == b->len)
        return false;
    if (b->data[i] == (p->form == ENGINE_TOOLS_PYTHON ? '[' : '{')) {
        p->state = p->form == ENGINE_TOOLS_PYTHON ? TOOL_PYTHON : TOOL_HEAD;
        p->scan = (struct tool_scan){0};
        p->scanned = i;
        return true;
    }
    say_all(p);
    return false;
}

static bool between(struct tool_parse *p)
{
    struct strbuf *b = &p->held;
    while (b->len > 0) {
        char c = b->data[0];
        if (blank(c) || (c == ',' && p->form == ENGINE_TOOLS_MISTRAL && p->calls) ||
            ((c == ';' || c == ',') && p->form == ENGINE_TOOLS_OBJECT) ||
            (c == '[' && p->form == ENGINE_TOOLS_MISTRAL)) {
            drop(p, 1);
            continue;
        }
        if (c == '{') {
            p->state = TOOL_HEAD;
            p->scan = (struct tool_scan){0};
            p->scanned = 0;
            return true;
        }
        if (p->form == ENGINE_TOOLS_TAGS) {
            int closes = word_at(b, 0, TAG_CLOSE);
            if (closes < 0)
                return false;
            if (closes > 0)
                drop(p, strlen(TAG_CLOSE));
            p->state = TOOL_SAYS;
            return true;
        }
        if (c == ']' && p->form == ENGINE_TOOLS_MISTRAL)
            drop(p, 1);
        p->state = TOOL_PLAIN;
        return true;
    }
    return false;
}

/* A JSON string without escapes at *i: its bounds. 1, 0 (none) or -1 (more must come). */
static int string_at(const struct strbuf *b, size_t *i, size_t *from, size_t *to)
{
    size_t k = *i;
    if (k == b->len)
        return -1;
    if (b->data[k] != '"')
        return 0;
    for (*from = ++k; k < b->len; k++) {
        if (b->data[k] == '\\')
            return 0;
        if (b->data[k] != '"')
            continue;
        *to = k;
        *i = k + 1;
        return 1;
    }
    return -1;
}

/* {"name": "f", "arguments": { in this order. 1: the name's bounds and where the arguments begin;
 * 0: another order or no call; -1: more must come. */
static int read_head(const struct strbuf *b, size_t *from, size_t *to, size_t *args)
{
    static const char *const keys[] = {"name", "arguments", "parameters"};
    size_t i = blanks(b, 0);
    for (int part = 0; part < 2; part++) {
        size_t key = 0, end = 0;
        if (i < b->len && b->data[i] != (part ? ',' : '{'))
            return 0;
        i += i < b->len;
        i += blanks(b, i);
        int found = string_at(b, &i, &key, &end);
        if (found <= 0)
            return found;
        size_t n = end - key;
        bool right = false;
        for (size_t k = part ? 1 : 0; k < (part ? 3u : 1u); k++)
            right |= strlen(keys[k]) == n && !memcmp(b->data + key, keys[k], n);
        if (!right)
            return 0;
        i += blanks(b, i);
        if (i < b->len && b->data[i] != ':')
            return 0;
        i += i < b->len;
        i += blanks(b, i);
        found = part ? (i == b->len ? -1 : b->data[i] == '{') : string_at(b, &i, from, to);
        if (found <= 0)
            return found;
        if (!part)
            i += blanks(b, i);
    }
    *args = i;
    return 1;
}

static bool head(struct tool_parse *p)
{
    size_t from = 0, to = 0, args = 0;
    size_t start = p->scanned; /* white space and a marker may stand before it */
    struct strbuf rest = p->held;
    rest.data += start;
    rest.len -= start;
    int found = read_head(&rest, &from, &to, &args);
    if (found < 0)
        return false;
    if (found > 0 && !tagged(p) && !offered(p, rest.data + from, to - from)) {
        say_all(p);
        return false;
    }
    if (!found) {
        p->state = TOOL_WHOLE;
        return true;
    }
    begin_call(p, rest.data + from, to - from);
    drop(p, start + args);
    p->scan = (struct tool_scan){0};
    p->scanned = 0;
    p->state = TOOL_ARGS;
    return true;
}

static bool arguments(struct tool_parse *p)
{
    size_t end = scan_value(p);
    size_t n = end ? end : p->held.len;
    if (n)
        p->sink.arguments(p->sink.ctx, p->held.data, n);
    drop(p, n);
    if (!end)
        return false;
    p->scan = (struct tool_scan){.depth = 1};
    p->scanned = 0;
    p->state = TOOL_TAIL;
    return true;
}

static bool tail(struct tool_parse *p)
{
    size_t end = scan_value(p);
    drop(p, end ? end : p->held.len);
    if (end)
        p->state = TOOL_BETWEEN;
    return end > 0;
}

/* A call as a tree: {"name", "arguments" | "parameters"}, perhaps inside "function". */
static bool call_of_tree(struct tool_parse *p, const cJSON *tree)
{
    const cJSON *inside = cJSON_GetObjectItemCaseSensitive(tree, "function");
    const cJSON *call = cJSON_IsObject(inside) ? inside : tree;
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(call, "name");
    if (!name)
        name = inside;
    const cJSON *args = cJSON_GetObjectItemCaseSensitive(call, "arguments");
    if (!args)
        args = cJSON_GetObjectItemCaseSensitive(call, "parameters");
    if (!cJSON_IsString(name) ||
        (!tagged(p) && (!args || !offered(p, name->valuestring, strlen(name->valuestring)))))
        return false;
    char *text = cJSON_IsString(args) || !args ? NULL : cJSON_PrintUnformatted(args);
    p->held.failed |= args && !cJSON_IsString(args) && !text;
    const char *shown = text ? text : cJSON_IsString(args) ? args->valuestring : "{}";
    begin_call(p, name->valuestring, strlen(name->valuestring));
    p->sink.arguments(p->sink.ctx, shown, strlen(shown));
    cJSON_free(text);
    return true;
}

static bool whole(struct tool_parse *p)
{
    size_t end = scan_value(p);
    cJSON *tree = NULL;
    if (!end)
        return false;
    size_t start = 0;
    while (start < end && p->held.data[start] != '{')
        start++;
    enum status st =
        json_parse(p->held.data + start, end - start, &json_default_limits, &tree, NULL);
    bool call = st == STATUS_OK && call_of_tree(p, tree);
    cJSON_Delete(tree);
    if (st == STATUS_NO_MEMORY || p->held.failed) {
        p->held.failed = true;
        return false;
    }
    if (call) {
        drop(p, end);
        p->state = TOOL_BETWEEN;
        return true;
    }
    if (!tagged(p)) {
        say_all(p);
        return false;
    }
    say(p, end);
    p->state = TOOL_BETWEEN;
    return true;
}

bool tool_parse_push(struct tool_parse *p, const char *text, size_t n)
{
    static bool (*const steps[])(struct tool_parse *) = {
        [TOOL_BEGIN] = begins,   [TOOL_SAYS] = says, [TOOL_BETWEEN] = between, [TOOL_HEAD] = head,
        [TOOL_ARGS] = arguments, [TOOL_TAIL] = tail, [TOOL_WHOLE] = whole,
    };
    strbuf_append(&p->held, text, n);
    if (p->held.failed)
        return false;
    while (p->held.len > 0 && p->state != TOOL_PLAIN && p->state != TOOL_PYTHON &&
           steps[p->state](p))
        ;
    if (p->state == TOOL_PLAIN)
        say(p, p->held.len);
    return !p->held.failed;
}

bool tool_parse_end(struct tool_parse *p)
{
    bool call =
        p->forced || p->state == TOOL_BETWEEN || p->state == TOOL_TAIL || p->state == TOOL_ARGS;
    if (p->state == TOOL_PYTHON) {
        struct tool_python python;
        enum status st =
            tool_python_read(p->held.data + p->scanned, p->held.len - p->scanned, &python);
        bool all = st == STATUS_OK;
        p->held.failed |= st == STATUS_NO_MEMORY;
        for (size_t i = 0; all && i < python.count; i++)
            all = offered(p, python.calls[i].name, python.calls[i].name_len);
        for (size_t i = 0; all && i < python.count; i++) {
            begin_call(p, python.calls[i].name, python.calls[i].name_len);
            p->sink.arguments(p->sink.ctx, python.text.data + python.calls[i].args_at,
                              python.calls[i].args_len);
        }
        if (st == STATUS_OK)
            tool_python_deinit(&python);
        call = all;
    }
    if (!call && p->held.len > 0)
        say_all(p);
    return !p->held.failed;
}
