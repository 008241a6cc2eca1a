#include "engine/text/chat_thinking.h"

#include <string.h>

/* Templates name the closing tag at least: they cut thoughts out of earlier turns by it. */
const struct chat_thinking *chat_thinking_of(const char *source, size_t n)
{
    static const struct chat_thinking known[] = {
        {"<think>", "</think>"},
        {"[THINK]", "[/THINK]"},
        {"<|START_THINKING|>", "<|END_THINKING|>"},
        {"<seed:think>", "</seed:think>"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (memmem(source, n, known[i].close, strlen(known[i].close)))
            return &known[i];
    }
    return NULL;
}
