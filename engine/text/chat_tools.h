/* chat_tools: how a model writes down the calls of tools, as its chat template shows it. */
#ifndef CHORUS_TEXT_CHAT_TOOLS_H
#define CHORUS_TEXT_CHAT_TOOLS_H

#include <stddef.h>

enum chat_tool_form {
    CHAT_TOOLS_NONE,    /* the template knows no tools */
    CHAT_TOOLS_OTHER,   /* it does, but not in a form known here */
    CHAT_TOOLS_TAGS,    /* <tool_call>{"name", "arguments"}</tool_call>: Hermes, Qwen */
    CHAT_TOOLS_OBJECT,  /* {"name", "parameters"} and nothing else: Llama 3 */
    CHAT_TOOLS_PYTHON,  /* [f(x=1), g()]: Llama 3.2 and 4 */
    CHAT_TOOLS_MISTRAL, /* [TOOL_CALLS][{"name", "arguments"}] */
};

/* From the template's source. */
enum chat_tool_form chat_tool_form_of(const char *source, size_t n);

#endif
