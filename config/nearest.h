/* nearest: which known word was meant. Pure. */
#ifndef CHORUS_CONFIG_NEAREST_H
#define CHORUS_CONFIG_NEAREST_H

#include <stddef.h>

#define NEAREST_BYTES 64 /* longer words are like nothing */

/* Edits (insert, drop, change, swap of neighbours) that make `known` of the first n bytes of
 * `word`; 0 also when the word is a beginning of at least three letters. SIZE_MAX: too many for it
 * to have been meant. */
size_t nearest_distance(const char *word, size_t n, const char *known);

#endif
