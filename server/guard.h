/* guard: may this request in? Host, Origin, content type. Pure.
 *
 * The danger is a web page in the user's own browser: it can send requests to 127.0.0.1, directly
 * (another Origin) or by making its own name point there (another Host). Bound to loopback, only
 * known Hosts are served; a request that says it comes from another origin is refused unless that
 * origin was named.
 */
#ifndef CHORUS_SERVER_GUARD_H
#define CHORUS_SERVER_GUARD_H

#include <stdbool.h>

#include "engine/base/status.h"

struct guard {
    bool loopback;            /* bound to loopback: the Host list is enforced */
    const char *const *hosts; /* more names, with or without a port */
    int host_count;
    const char *const *origins; /* exact, e.g. "https://app.example" */
    int origin_count;
};

struct guard_request {
    const char *method;
    const char *host;       /* present and well-formed (http_head.h) */
    const char *origin;     /* NULL: absent */
    int origin_count;       /* header lines */
    const char *fetch_site; /* Sec-Fetch-Site, -Mode, -Dest; NULL: absent */
    const char *fetch_mode;
    const char *fetch_dest;
};

/* 0: let in; *allowed_origin is set when the origin was named (it then may read answers). Else the
 * HTTP status, with the reason in *e. */
int guard_check(const struct guard *g, const struct guard_request *r, const char **allowed_origin,
                struct err *e);

/* application/json, with parameters or without. NULL: absent. */
bool guard_is_json(const char *content_type);

#endif
