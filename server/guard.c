#include "server/guard.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/http_head.h"

static bool equals(const char *s, size_t n, const char *name)
{
    return strlen(name) == n && strncasecmp(s, name, n) == 0;
}

static bool host_is_known(const struct guard *g, const char *host)
{
    size_t n;
    if (!http_head_split_host(host, &n))
        return false;
    if (equals(host, n, "localhost") || equals(host, n, "127.0.0.1") || equals(host, n, "[::1]"))
        return true;
    for (int i = 0; i < g->host_count; i++) {
        if (strcasecmp(g->hosts[i], host) == 0 || equals(host, n, g->hosts[i]))
            return true;
    }
    return false;
}

/* Our own page: http on the very host and port asked. Only where the Host itself is trusted. */
static bool is_own(const struct guard *g, const struct guard_request *r)
{
    static const char scheme[] = "http://";
    return g->loopback && strncmp(r->origin, scheme, sizeof scheme - 1) == 0 &&
           strcasecmp(r->origin + sizeof scheme - 1, r->host) == 0;
}

static int refuse(struct err *e, int status, const char *param, const char *why)
{
    err_set(e, STATUS_INVALID, param, "%s", why);
    return status;
}

int guard_check(const struct guard *g, const struct guard_request *r, const char **allowed_origin,
                struct err *e)
{
    *allowed_origin = NULL;
    if (g->loopback && !host_is_known(g, r->host))
        return refuse(e, 403, NULL, "this Host is not served here (--allow-host names more)");
    if (r->origin_count > 1)
        return refuse(e, 400, NULL, "more than one Origin");
    if (r->origin) {
        for (int i = 0; i < g->origin_count; i++) {
            if (strcmp(g->origins[i], r->origin) == 0) {
                *allowed_origin = g->origins[i];
                return 0;
            }
        }
        if (is_own(g, r))
            return 0;
        return refuse(e, 403, NULL, "this Origin is not allowed (--allow-origin names some)");
    }
    /* Browsers leave Origin out of some cross-site GETs but say where those come from. Following a
     * link to us is the user's own doing. */
    bool foreign = r->fetch_site && strcmp(r->fetch_site, "same-origin") != 0 &&
                   strcmp(r->fetch_site, "none") != 0;
    bool link = strcmp(r->method, "GET") == 0 && r->fetch_mode && r->fetch_dest &&
                strcmp(r->fetch_mode, "navigate") == 0 && strcmp(r->fetch_dest, "document") == 0;
    if (foreign && !link)
        return refuse(e, 403, NULL, "pages of other origins are not allowed here");
    return 0;
}

bool guard_is_json(const char *content_type)
{
    static const char json[] = "application/json";
    if (!content_type || strncasecmp(content_type, json, sizeof json - 1) != 0)
        return false;
    const char *rest = content_type + sizeof json - 1;
    rest += strspn(rest, " \t");
    return *rest == '\0' || *rest == ';';
}
