/* reasoning: an answer's text, piece by piece, told apart into what stands between the thinking
 * tags and what is said. Pure.
 *
 * Thoughts come first or not at all: the answer begins with the open tag (or the prompt ended with
 * it), and everything behind the first close tag is said. The tags and the white space next to them
 * belong to neither. A piece that may be the beginning of a tag waits for the next one.
 */
#ifndef CHORUS_SERVER_REASONING_H
#define CHORUS_SERVER_REASONING_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/strbuf.h"

enum reasoning_state {
    REASONING_UNDECIDED, /* nothing but white space and the beginning of the open tag yet */
    REASONING_OPENED,    /* behind the open tag and white space */
    REASONING_THINKS,
    REASONING_CLOSED, /* behind the close tag and white space */
    REASONING_SAYS
};

struct reasoning {
    const char *open; /* borrowed */
    const char *close;
    enum reasoning_state state;
    struct strbuf held; /* text that waits */
};

/* `thinking`: the prompt opened the thought already. */
void reasoning_init(struct reasoning *r, const char *open, const char *close, bool thinking);
void reasoning_deinit(struct reasoning *r);
/* Appends what is decided by now; out of memory shows as `failed` of one of the buffers. */
void reasoning_push(struct reasoning *r, const char *text, size_t n, struct strbuf *thought,
                    struct strbuf *said);
/* The answer is complete: what waits is text. */
void reasoning_end(struct reasoning *r, struct strbuf *thought, struct strbuf *said);
/* Between the tags. */
bool reasoning_is_thinking(const struct reasoning *r);
/* Whether a prompt (or a message to be continued) ends inside a thought that has only begun. */
bool reasoning_opens(const char *open, const char *text, size_t n);

#endif
