/* regex_translate: an Oniguruma pattern (Ruby syntax, UTF-8) as a PCRE2 pattern of the same
 * meaning.
 *
 * For PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE with newline LF. Groups that capture become groups
 * that do not; nothing can refer to them. Known differences, all of them about characters younger
 * than Unicode 14: \P{...} inside a character class, \p{C}, scripts, and marks in \p{Alphabetic}.
 */
#ifndef CHORUS_TEXT_REGEX_TRANSLATE_H
#define CHORUS_TEXT_REGEX_TRANSLATE_H

#include <stddef.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"

/* STATUS_UNSUPPORTED names the construct, STATUS_BAD_FILE is a malformed pattern, STATUS_LIMIT,
 * STATUS_NO_MEMORY. */
WARN_UNUSED enum status regex_translate(const char *pattern, size_t n, struct strbuf *out,
                                        struct err *e);

#endif
