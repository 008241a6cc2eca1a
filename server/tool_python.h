/* tool_python: a Python list of calls, [f(x=1, y="a"), g()], with its arguments as JSON. Pure. */
#ifndef CHORUS_SERVER_TOOL_PYTHON_H
#define CHORUS_SERVER_TOOL_PYTHON_H

#include <stddef.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"

struct tool_python_call {
    const char *name; /* in the text that was read */
    size_t name_len;
    size_t args_at, args_len; /* in tool_python.text: a JSON object */
};

struct tool_python {
    struct tool_python_call *calls; /* owned */
    size_t count, cap;
    struct strbuf text;
};

/* Keyword arguments of literals (numbers, strings, True, False, None, lists, dicts with string
 * keys, as deep as JSON may nest). STATUS_INVALID: it is nothing of the kind; STATUS_NO_MEMORY. */
WARN_UNUSED enum status tool_python_read(const char *s, size_t n, struct tool_python *out);
void tool_python_deinit(struct tool_python *p);

#endif
