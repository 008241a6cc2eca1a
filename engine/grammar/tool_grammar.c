#include "engine/grammar/tool_grammar.h"

#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/grammar/schema.h"

struct form {
    const char *name, *open, *before, *arguments, *after, *join, *close;
};

static const struct form forms[] = {
    {"tags", "", "<tool_call>\n", "arguments", "\n</tool_call>", "\n", ""},
    {"object", "", "", "parameters", "", "; ", ""},
    {"list", "[", "", "arguments", "", ", ", "]"},
};

static int invalid(struct grammar_builder *b, const char *what)
{
    struct err e;
    err_set(&e, STATUS_INVALID, NULL, "%s", what);
    return grammar_build_fail(b, &e);
}

/* {"name": "f", "arguments": {...}} of one tool. */
static int call(struct grammar_builder *b, const struct form *f, const cJSON *tool, bool compact)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(tool, "name");
    const cJSON *parameters = cJSON_GetObjectItemCaseSensitive(tool, "parameters");
    const struct schema_options o = {
        .strict = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(tool, "strict")),
        .compact = compact,
    };
    if (!cJSON_IsString(name) || !parameters)
        return invalid(b, "a tool needs a name and parameters");
    struct strbuf head;
    strbuf_init(&head, LIMIT_GRAMMAR_TEXT_BYTES);
    strbuf_puts(&head, "{\"name\": ");
    strbuf_json_string(&head, name->valuestring, strlen(name->valuestring));
    strbuf_printf(&head, ", \"%s\": ", f->arguments);
    int begin = grammar_build_literal(b, strbuf_str(&head), head.len);
    bool failed = head.failed;
    strbuf_deinit(&head);
    if (failed) {
        struct err e;
        err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
        return grammar_build_fail(b, &e);
    }
    return grammar_build_seq3(b, begin, schema_build(b, parameters, &o),
                              grammar_build_text(b, "}"));
}

int tool_grammar_build(struct grammar_builder *b, const cJSON *ask)
{
    const cJSON *tools = cJSON_GetObjectItemCaseSensitive(ask, "tools");
    const cJSON *form = cJSON_GetObjectItemCaseSensitive(ask, "form");
    bool many = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(ask, "many"));
    bool compact = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(ask, "compact"));
    const struct form *f = NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms && cJSON_IsString(form); i++)
        if (!strcmp(forms[i].name, form->valuestring))
            f = &forms[i];
    if (!f || !cJSON_IsArray(tools) || !tools->child)
        return invalid(b, "tools and their form are missing");
    int count = 0, *calls = mem_alloc((size_t)cJSON_GetArraySize(tools), sizeof *calls);
    if (!calls) {
        struct err e;
        err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
        return grammar_build_fail(b, &e);
    }
    for (const cJSON *t = tools->child; t; t = t->next)
        calls[count++] = call(b, f, t, compact);
    int one = grammar_build_seq3(b, grammar_build_text(b, f->before),
                                 grammar_build_alt(b, calls, (size_t)count),
                                 grammar_build_text(b, f->after));
    mem_free(calls);
    if (many) {
        one = grammar_build_as_rule(b, "call", one);
        int more = grammar_build_seq2(b, grammar_build_text(b, f->join), one);
        one = grammar_build_seq2(b, one, grammar_build_repeat(b, more, 0, LIMIT_TOOL_CALLS - 1));
    }
    return grammar_build_seq3(b, grammar_build_text(b, f->open), one,
                              grammar_build_text(b, f->close));
}
