#include "engine/grammar/grammar_forms.h"

#include "engine/base/mem.h"
#include "engine/grammar/gbnf.h"

/* White space is at most one blank or one line with its indentation: a model that may write more
 * may never stop. */
static const char json_text[] =
    "json-value ::= json-object | json-array | json-string | json-number | "
    "\"true\" | \"false\" | \"null\"\n"
    "json-object ::= \"{\" ws (json-member (\",\" ws json-member)*)? \"}\"\n"
    "json-member ::= json-string ws \":\" ws json-value ws\n"
    "json-array ::= \"[\" ws (json-value ws (\",\" ws json-value ws)*)? \"]\"\n"
    "json-string ::= \"\\\"\" ([^\"\\\\\\x00-\\x1F] | json-escape)* \"\\\"\"\n"
    "json-escape ::= \"\\\\\" ([\"\\\\/bfnrt] | \"u\" json-unit)\n"
    "json-unit ::= ([0-9a-cA-CefEF] hex | [dD] [0-7]) hex hex |\n"
    "    [dD] [89abAB] hex hex \"\\\\u\" [dD] [c-fC-F] hex hex\n"
    "json-number ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15}) (\".\" [0-9]{1,16})? "
    "([eE] [+-]? [0-9]{1,2})?\n"
    "hex ::= [0-9a-fA-F]\n"
    "ws ::= (\" \" | \"\\n\" [ \\t]{0,20})?\n"
    "root ::= json-object\n";

int grammar_forms_json_object(struct grammar_builder *b)
{
    return gbnf_read(b, json_text, sizeof json_text - 1);
}

int grammar_forms_choice(struct grammar_builder *b, const char *const *strings, const size_t *lens,
                         size_t count)
{
    struct err e;
    int *parts = mem_alloc(count + 1, sizeof *parts);
    if (!parts) {
        err_set(&e, STATUS_NO_MEMORY, NULL, "Out of memory for a choice.");
        return grammar_build_fail(b, &e);
    }
    for (size_t i = 0; i < count; i++)
        parts[i] = grammar_build_literal(b, strings[i], lens[i]);
    int rule = grammar_build_rule(b, "choice");
    grammar_build_define(b, rule, grammar_build_alt(b, parts, count));
    mem_free(parts);
    return grammar_build_failed(b) ? -1 : rule;
}
