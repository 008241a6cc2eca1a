/* grammar_plain: where the characters of each kind (token_plain.h) lead from a set, where all of a
 * kind lead to one and the same. One thread at a time, as the machine. */
#ifndef CHORUS_GRAMMAR_GRAMMAR_PLAIN_H
#define CHORUS_GRAMMAR_GRAMMAR_PLAIN_H

#include <stdint.h>

#include "engine/grammar/grammar_machine.h"
#include "engine/grammar/token_plain.h"

#define GRAMMAR_PLAIN_MIXED                                                                        \
    UINT32_MAX /* they lead to different sets, or a call ends within one                           \
                */

struct grammar_plain {
    uint32_t next[PLAIN_KINDS]; /* by number of the kind: a set, GRAMMAR_SET_DEAD or MIXED */
    uint16_t rise;              /* of the sets within characters */
};

/* *out: an index of m->plains. Found once for each set. */
WARN_UNUSED enum status grammar_plain_of(struct grammar_machine *m, uint32_t set, uint32_t *out);

#endif
