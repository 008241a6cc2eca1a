/* form_items: an answer as a list of items, each a thought, a text or a call, in the order in which
 * they were said. The pieces of an item are kept; streams hand them on too. Loop thread. */
#ifndef CHORUS_SERVER_FORM_ITEMS_H
#define CHORUS_SERVER_FORM_ITEMS_H

#include "server/form.h"

/* The functions of struct form for forms of items. */
void form_items_piece(struct choice *c, const char *text, size_t n);
void form_items_thought(struct choice *c);
void form_items_call(struct choice *c, bool first, const char *arguments, size_t n);
void form_items_finish(struct choice *c);

#endif
