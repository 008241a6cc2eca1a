/* jinja_filter_rows: the tables of filters, one a file. Private to them and jinja_filter.c. */
#ifndef CHORUS_TEXT_JINJA_FILTER_ROWS_H
#define CHORUS_TEXT_JINJA_FILTER_ROWS_H

#include "engine/text/jinja_args.h"

extern const struct jinja_builtin jinja_text_filters[]; /* jinja_filter_text.c */
extern const size_t jinja_text_filter_count;
extern const struct jinja_builtin jinja_seq_filters[]; /* jinja_filter_seq.c */
extern const size_t jinja_seq_filter_count;
extern const struct jinja_builtin jinja_pick_filters[]; /* jinja_filter_pick.c */
extern const size_t jinja_pick_filter_count;

#endif
