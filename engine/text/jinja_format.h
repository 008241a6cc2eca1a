/* jinja_format: "%d items" % n and "{} items".format(n), as Python has them. */
#ifndef CHORUS_TEXT_JINJA_FORMAT_H
#define CHORUS_TEXT_JINJA_FORMAT_H

#include "engine/text/jinja_args.h"

/* format % arg */
WARN_UNUSED bool jinja_format_percent(struct jinja_run *r, const struct jinja_str *format,
                                      struct jinja_value arg, struct jinja_value *out);
/* format.format(args) */
WARN_UNUSED bool jinja_format_braces(struct jinja_run *r, const struct jinja_str *format,
                                     const struct jinja_args *args, struct jinja_value *out);
/* format(v, spec), appended. */
WARN_UNUSED bool jinja_format_spec(struct jinja_run *r, struct jinja_value v,
                                   const struct jinja_str *spec, struct jinja_buf *b);

/* A number as a conversion wants it: digits without sign, and the sign. */
struct jinja_number_text {
    char text[512];
    size_t len;
    bool minus;
};
/* type: d x X o b e E f F g G; precision -1: the default. Raises for what does not fit. */
WARN_UNUSED bool jinja_format_number(struct jinja_run *r, struct jinja_value v, char type,
                                     int precision, bool alternate, struct jinja_number_text *out);

#endif
