/* options_reload: what a second reading of the settings changes in a running program. */
#ifndef CHORUS_CONFIG_OPTIONS_RELOAD_H
#define CHORUS_CONFIG_OPTIONS_RELOAD_H

#include "config/options.h"

/* What a second reading made of one setting. */
struct option_change {
    const char *name, *was, *is; /* as text; secrets are hidden */
    bool applied;                /* else it needs a restart */
};

/* Moves what may change while a program runs from *next into *o (the rest of *next is the caller's
 * to end) and tells of every setting that is another. */
void options_adopt(enum option_command command, struct options *o, struct options *next,
                   void (*tell)(void *ctx, const struct option_change *change), void *ctx);

#endif
