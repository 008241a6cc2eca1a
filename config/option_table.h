/* option_table: one row a setting. Private to config/; constant.
 *
 * The rows are in options.c; how they are read from the four places is options_load.c, what is
 * written of them options_print.c, options_man.c and options_complete.c.
 */
#ifndef CHORUS_CONFIG_OPTION_TABLE_H
#define CHORUS_CONFIG_OPTION_TABLE_H

#include "config/options.h"
#include "engine/base/strbuf.h"

enum option_type {
    TYPE_GROUP, /* no setting: the title of the rows behind it */
    TYPE_STR,
    TYPE_LIST,
    TYPE_INT,
    TYPE_NUM,
    TYPE_BOOL,
    TYPE_CHOICE,
    TYPE_BYTES, /* "auto" or what options_bytes reads; kept as text */
    TYPE_MEMORY /* what options_memory reads; kept as text */
};

/* Properties, beside the commands in one mask. */
#define OPTION_LIVE   (1u << 28) /* SIGHUP applies a change */
#define OPTION_SECRET (1u << 29) /* never printed */
#define OPTION_ONCE   (1u << 30) /* of the command line only: no setting, a wish */

struct option_def {
    const char *name; /* as --name; underscores and capitals for CHORUS_NAME */
    unsigned commands;
    enum option_type type;
    size_t offset; /* in struct options */
    double min;
    double max;
    const char *value;   /* default, as text */
    const char *arg;     /* what the value is, for help; FILE, DIR and a|b|c are completed */
    const char *choices; /* "a|b|c" for TYPE_CHOICE */
    const char *help;
};

extern const struct option_def option_rows[];
extern const size_t option_row_count; /* at most OPTION_ROWS_MAX */

/* The row of that name among the commands of `mask`; NULL: none. */
const struct option_def *option_find(const char *name, size_t len, unsigned mask);
/* The row that was probably meant; NULL: none is alike. */
const struct option_def *option_nearest(const char *name, size_t len, unsigned mask);
/* "max-seqs" -> "CHORUS_MAX_SEQS" */
void option_variable(const char *name, char out[64]);
/* Whether the row is one of a configuration file. */
bool option_is_in_file(const struct option_def *d);
/* Where in *o the row's value is. */
void *option_field(struct options *o, const struct option_def *d);
/* The value of a row that is no list as the text that would set it. */
void option_text(const struct option_def *d, const struct options *o, struct strbuf *out);
/* What values are allowed, for people: "0 to 65535", "auto, cpu or cuda"; "" where there is no
 * rule. */
void option_range(const struct option_def *d, struct strbuf *out);
/* Sets one value as text; a list grows. What is refused says why, with the range. */
WARN_UNUSED enum status option_set(const struct option_def *d, const char *value, struct options *o,
                                   struct err *e);
void option_list_clear(struct option_list *l);
/* Appends `text` in lines of at most `width` columns, each but the first after `indent` spaces;
 * `column` is where the first begins. Ends with a newline. */
void option_wrap(struct strbuf *out, const char *text, size_t column, size_t indent, size_t width);

#endif
