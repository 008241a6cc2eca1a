/* gbnf: grammars as llama.cpp's users write them, into a grammar_builder.
 *
 *   root  ::= item ("," ws item)*        # a comment; rules end with their line, groups may not
 *   item  ::= [a-z_] [^\n,"]{0,20} | "\"" "\u00e9" "\"" | .
 *
 * Literals, classes ([a-z], [^...], escapes \n \r \t \\ \" \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH), any
 * character ".", groups, "|", and ? * + {m} {m,} {m,n} behind a term. The answer is rule `root`.
 */
#ifndef CHORUS_GRAMMAR_GBNF_H
#define CHORUS_GRAMMAR_GBNF_H

#include <stddef.h>

#include "engine/base/status.h"
#include "engine/grammar/grammar_build.h"

/* Reads text[0, n) and returns the number of rule `root`; -1: failed, as the builder will say, with
 * the line (STATUS_INVALID; groups deeper than LIMIT_GRAMMAR_DEPTH: STATUS_LIMIT). */
int gbnf_read(struct grammar_builder *b, const char *text, size_t n);

#endif
