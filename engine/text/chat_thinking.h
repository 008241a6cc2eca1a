/* chat_thinking: the tags between which a model thinks aloud, as its chat template shows them. */
#ifndef CHORUS_TEXT_CHAT_THINKING_H
#define CHORUS_TEXT_CHAT_THINKING_H

#include <stddef.h>

struct chat_thinking {
    const char *open; /* ASCII, as all of these */
    const char *close;
};

/* The pair that the source of a template knows; NULL: the model does not think in tags. */
const struct chat_thinking *chat_thinking_of(const char *source, size_t n);

#endif
