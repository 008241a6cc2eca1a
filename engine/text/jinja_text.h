/* jinja_text: operations on text that filters and methods of str share. Provenance goes with every
 * byte; what an operation adds (padding) counts as template text. */
#ifndef CHORUS_TEXT_JINJA_TEXT_H
#define CHORUS_TEXT_JINJA_TEXT_H

#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_run.h"

enum jinja_case {
    JINJA_UPPER,
    JINJA_LOWER,
    JINJA_CAPITALIZE,
    JINJA_TITLE,       /* str.title: words begin where letters begin */
    JINJA_TITLE_WORDS, /* the filter: words begin behind space and opening brackets */
    JINJA_SWAPCASE,
};
WARN_UNUSED bool jinja_text_case(struct jinja_run *r, const struct jinja_str *s,
                                 enum jinja_case how, const struct jinja_str **out);
/* isupper and islower. */
WARN_UNUSED bool jinja_text_case_of(struct jinja_run *r, const struct jinja_str *s, bool *upper,
                                    bool *lower);
/* chars NULL: white space. */
WARN_UNUSED bool jinja_text_strip(struct jinja_run *r, const struct jinja_str *s,
                                  const struct jinja_str *chars, bool left, bool right,
                                  const struct jinja_str **out);
/* At most `count` times; < 0: all. */
WARN_UNUSED bool jinja_text_replace(struct jinja_run *r, const struct jinja_str *s,
                                    const struct jinja_str *old, const struct jinja_str *with,
                                    int64_t count, const struct jinja_str **out);
/* Padding of `fill` (one code point) to `width` code points, in all `left` or all right or, as
 * str.center, on both sides. */
enum jinja_align { JINJA_ALIGN_LEFT, JINJA_ALIGN_RIGHT, JINJA_ALIGN_CENTER };
WARN_UNUSED bool jinja_text_pad(struct jinja_run *r, const struct jinja_str *s, int64_t width,
                                const struct jinja_str *fill, enum jinja_align align,
                                const struct jinja_str **out);
/* sep NULL: runs of white space. max < 0: no limit; from_right as rsplit. */
WARN_UNUSED bool jinja_text_split(struct jinja_run *r, const struct jinja_str *s,
                                  const struct jinja_str *sep, int64_t max, bool from_right,
                                  struct jinja_items *out);
WARN_UNUSED bool jinja_text_lines(struct jinja_run *r, const struct jinja_str *s, bool keep_ends,
                                  struct jinja_items *out);
/* sep.join(items): items must be strings, or with `any` are printed. */
WARN_UNUSED bool jinja_text_join(struct jinja_run *r, const struct jinja_str *sep,
                                 struct jinja_value items, bool any, const struct jinja_str **out);

#endif
