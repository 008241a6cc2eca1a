/* engine_grammar: from what a request asks of its answer to a compiled grammar. The door of
 * engine/grammar.
 *
 * Compiled grammars are shared and kept, up to LIMIT_GRAMMAR_CACHE_BYTES, by what was asked; those
 * asked for last stay. Any thread; slow (up to LIMIT_GRAMMAR_COMPILE_MS): call it from a pool
 * thread.
 */
#ifndef CHORUS_ENGINE_GRAMMAR_H
#define CHORUS_ENGINE_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/status.h"
#include "engine/engine.h"

enum engine_grammar_kind {
    ENGINE_GRAMMAR_JSON_OBJECT, /* any object; no text */
    ENGINE_GRAMMAR_JSON_SCHEMA, /* text: the schema, as grammar/schema.h reads it */
    ENGINE_GRAMMAR_REGEX,       /* the whole answer matches; grammar/regex_parse.h */
    ENGINE_GRAMMAR_CHOICE,      /* one of the strings of a JSON list */
    ENGINE_GRAMMAR_GBNF,        /* grammar/gbnf.h */
    ENGINE_GRAMMAR_TOOLS        /* calls of tools: the JSON of grammar/tool_grammar.h */
};

/* All borrowed during the call. */
struct engine_grammar_ask {
    enum engine_grammar_kind kind;
    const char *text; /* [text_len] */
    size_t text_len;
    bool strict;  /* schema: as OpenAI's strict mode */
    bool compact; /* schema, object: no white space between tokens */
    /* Tags of a model that thinks first: the grammar holds for what comes behind. NULL: it does
     * not. thinking: the prompt opened the thought. */
    const char *think_open;
    const char *think_close;
    bool thinking;
};

/* For engine_request.grammar; the caller ends *out with engine_grammar_release. STATUS_INVALID (the
 * message says where), STATUS_UNSUPPORTED (names the keyword; or this engine has no text),
 * STATUS_LIMIT, STATUS_NO_MEMORY; err->param stays empty. */
WARN_UNUSED enum status engine_grammar_compile(struct engine *e,
                                               const struct engine_grammar_ask *ask,
                                               struct grammar **out, struct err *err);
/* NULL is allowed. */
void engine_grammar_release(struct grammar *g);

#endif
