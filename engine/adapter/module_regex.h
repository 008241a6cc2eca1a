/* module_regex: the regular expressions of adapter configs, over module names such as
 * "model.layers.3.self_attn.q_proj". Any thread; one regex, one thread at a time.
 *
 * PEFT matches with Python's re; PCRE2 means the same on what configs hold. A pattern comes from a
 * stranger: its length, the steps and the memory of a match are bounded (limits.h), and a match
 * that reaches a bound is an error, never "no match".
 */
#ifndef CHORUS_ADAPTER_MODULE_REGEX_H
#define CHORUS_ADAPTER_MODULE_REGEX_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"

struct module_regex;

/* Compiles `head` `pattern` `tail`, anchored at the start, and at the end too where `whole` is true
 * (re.fullmatch; else re.match). STATUS_INVALID with PCRE2's reason. Free with module_regex_free.
 */
WARN_UNUSED enum status module_regex_compile(const char *head, const char *pattern,
                                             const char *tail, bool whole,
                                             struct module_regex **out, struct err *e);
void module_regex_free(struct module_regex *r);

/* `idx` (may be NULL) receives the integer that the named group "idx" matched. STATUS_LIMIT when
 * the bound is reached. */
WARN_UNUSED enum status module_regex_match(const struct module_regex *r, const char *name,
                                           bool *matched, int64_t *idx, struct err *e);

#endif
