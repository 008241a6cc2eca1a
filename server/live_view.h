/* live_view: the answer of GET /v1/status as text for a terminal. Pure: no I/O. Whatever the answer
 * holds, no control character of it comes through, and members that are missing read as nothing. */
#ifndef CHORUS_SERVER_LIVE_VIEW_H
#define CHORUS_SERVER_LIVE_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/strbuf.h"

struct live_view {
    const char *url;
    int64_t now_s; /* Unix time, for "5 minutes ago" */
    int width;     /* columns; longer lines are cut. 0: none is */
    int height;    /* lines in all; lists are shortened to fit. 0: any number */
};

/* Whether an answer is one of ours. */
bool live_view_is_status(const cJSON *answer);
/* Appends lines. False: out of memory. */
bool live_view_write(const struct live_view *v, const cJSON *status, struct strbuf *out);

#endif
