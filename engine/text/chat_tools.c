#include "engine/text/chat_tools.h"

#include <stdbool.h>
#include <string.h>

static bool has(const char *source, size_t n, const char *sign)
{
    return memmem(source, n, sign, strlen(sign));
}

enum chat_tool_form chat_tool_form_of(const char *source, size_t n)
{
    if (!has(source, n, "tools"))
        return CHAT_TOOLS_NONE;
    if (has(source, n, "[TOOL_CALLS]"))
        return CHAT_TOOLS_MISTRAL;
    /* The same tags around XML are another form. */
    if (has(source, n, "<tool_call>"))
        return has(source, n, "<function=") || has(source, n, "<arg_key>") ? CHAT_TOOLS_OTHER
                                                                           : CHAT_TOOLS_TAGS;
    if (has(source, n, "func_name1(") || has(source, n, "<|python_start|>"))
        return CHAT_TOOLS_PYTHON;
    if (has(source, n, "<|python_tag|>") || has(source, n, "\"parameters\": dictionary of"))
        return CHAT_TOOLS_OBJECT;
    return CHAT_TOOLS_OTHER;
}
