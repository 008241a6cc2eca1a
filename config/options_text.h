/* options_text: what is written of the option table for people and shells: help, the effective
 * settings, the commented file, the manual, completion. Any thread. Each appends to *out, whose cap
 * the caller chose; `failed` tells. */
#ifndef CHORUS_CONFIG_OPTIONS_TEXT_H
#define CHORUS_CONFIG_OPTIONS_TEXT_H

#include <stdbool.h>

#include "config/options.h"
#include "engine/base/strbuf.h"

#define OPTIONS_TEXT_BYTES ((size_t)1 << 20) /* a cap that every text here is far below */

/* The --help of one command: usage, what it does, its options by group; 80 columns. */
void options_help(enum option_command command, struct strbuf *out);
/* The settings of a command as a configuration file, behind each value where it came from. */
void options_print(enum option_command command, const struct options *o, struct strbuf *out);
/* config/chorus.conf: every setting of serve with its help and range, the default commented. */
void options_print_file(struct strbuf *out);
/* The fixed limits, "name value" a line. */
void options_print_limits(struct strbuf *out);
/* The manual page "chorus.1" or "chorus.conf.5" in roff (man macros); `date` as 2026-01-31. False:
 * there is no such page. */
bool options_man(const char *page, const char *version, const char *date, struct strbuf *out);
/* The completion of the whole program for "bash", "zsh" or "fish". False: another shell. */
bool options_complete(const char *shell, struct strbuf *out);

#endif
