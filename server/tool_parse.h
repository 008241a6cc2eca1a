/* tool_parse: an answer's text, piece by piece, told apart into what is said and the calls of tools
 * in it. Pure.
 *
 * The forms are those of engine_text.h. A call's arguments are handed on as they come, once its
 * name is known; what may still become a call waits, and what turns out to be none is said. Calls
 * without tags (ENGINE_TOOLS_OBJECT, _PYTHON) are calls only where the answer begins with one and
 * names a tool that was offered.
 *
 * `forced`: the answer was constrained to calls (tool_grammar.h): it is read as what the grammar
 * writes, whatever the model's own form.
 */
#ifndef CHORUS_SERVER_TOOL_PARSE_H
#define CHORUS_SERVER_TOOL_PARSE_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/strbuf.h"
#include "engine/engine_text.h"

/* Called in order; text and arguments may come in several pieces. */
struct tool_sink {
    void (*text)(void *ctx, const char *s, size_t n);
    void (*call)(void *ctx, const char *name, size_t n); /* the next call begins */
    void (*arguments)(void *ctx, const char *s, size_t n);
    void *ctx;
};

enum tool_state {
    TOOL_BEGIN,   /* nothing but white space yet */
    TOOL_SAYS,    /* text in which a marker may come */
    TOOL_BETWEEN, /* behind a marker or a call: another call, or its end */
    TOOL_HEAD,    /* inside a call, up to its arguments */
    TOOL_ARGS,
    TOOL_TAIL,   /* behind the arguments, up to the call's end */
    TOOL_WHOLE,  /* inside a call in another order: read when it is complete */
    TOOL_PYTHON, /* a list of calls as Python: read at the end */
    TOOL_PLAIN   /* no call will come any more */
};

/* How deep in brackets a JSON text is. */
struct tool_scan {
    int depth;
    bool in_string, escaped;
};

struct tool_parse {
    enum engine_tool_form form;
    bool forced;
    const cJSON *tools; /* borrowed: the request's list */
    struct tool_sink sink;
    enum tool_state state;
    struct tool_scan scan;
    struct strbuf held; /* text that waits */
    size_t scanned;     /* bytes of it that the scanner has seen */
    int calls;
};

void tool_parse_init(struct tool_parse *p, enum engine_tool_form form, bool forced,
                     const cJSON *tools, const struct tool_sink *sink);
void tool_parse_deinit(struct tool_parse *p);
/* False: out of memory. */
bool tool_parse_push(struct tool_parse *p, const char *text, size_t n);
/* The answer is complete: what waits is said, unless it is a call, or the beginning of one that was
 * forced and cut. */
bool tool_parse_end(struct tool_parse *p);
/* The marker of this form that may be a special token, or NULL: its text is pushed then. */
const char *tool_parse_marker(enum engine_tool_form form);

#endif
