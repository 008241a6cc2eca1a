/* stop: finds stop strings in streamed text, whatever the borders of its pieces.
 *
 * Text is read byte by byte (Knuth, Morris and Pratt 1977, one automaton a stop string): the first
 * moment at which some stop string is complete ends the text, and if several end there the longest
 * wins. So the answer does not depend on how tokens cut the text. Held back is exactly the longest
 * end of the text that could still become a stop string. Text and stop strings are valid UTF-8, so
 * what is released is whole characters. One owner.
 */
#ifndef CHORUS_SCHED_STOP_H
#define CHORUS_SCHED_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/arena.h"
#include "engine/base/limits.h"
#include "engine/base/status.h"

struct stop_string {
    const char *text; /* owned by the arena */
    uint16_t len;
    uint16_t matched; /* bytes at the end of the text so far that are a beginning of `text` */
    uint16_t *fall;   /* owned by the arena, [len]: matched length to go on with after a mismatch */
};

struct stop {
    struct stop_string strings[LIMIT_STOP_STRINGS];
    int count;
    int found;    /* the string that ended the text, from 1; 0: none yet */
    bool include; /* the matched string stays in the text */
    size_t held;  /* bytes of `hold` in use */
    char hold[LIMIT_STOP_BYTES];
};

void stop_init(struct stop *s, bool include);
/* Adds a string of 1 .. LIMIT_STOP_BYTES bytes; it is copied into `a`. STATUS_NO_MEMORY. */
WARN_UNUSED enum status stop_add(struct stop *s, struct arena *a, const char *text, size_t len);

/* Reads n more bytes of text. Writes what became visible to `out` (room for n + LIMIT_STOP_BYTES)
 * and its length to *out_len. True: a stop string is complete; the rest of the text is dropped. */
bool stop_push(struct stop *s, const char *text, size_t n, char *out, size_t *out_len);
/* The end of the text without a stop string: releases what was held back. */
size_t stop_flush(struct stop *s, char *out);

#endif
