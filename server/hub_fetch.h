/* hub_fetch: requests to one hub: which redirects are followed, who gets the token, what is tried
 * again and when.
 *
 * The token goes to the endpoint's own scheme, host and port alone, and over plain http only to
 * this machine; a CDN that a redirect leads to never sees it. From https no redirect leads to http.
 * One thread.
 */
#ifndef CHORUS_SERVER_HUB_FETCH_H
#define CHORUS_SERVER_HUB_FETCH_H

#include "server/hub_cache.h"
#include "server/hub_client.h"

#define HUB_TOKEN_BYTES 1024

struct hub_fetch {
    struct hub_client *client;   /* owned */
    const char *endpoint;        /* borrowed */
    char origin[HUB_LINK_BYTES]; /* of the endpoint */
    const char *token;           /* borrowed; NULL: none */
    const char *ca_file;         /* borrowed; NULL: the system's */
    int stall_s;
    bool (*alive)(void *ctx); /* asked often; false: stop */
    void (*note)(void *ctx, const char *text);
    void *ctx;
};

/* How often in a row something failed; 0 again after progress. */
struct hub_patience {
    int failures;
    int most; /* the next one ends it */
};
#define HUB_PATIENCE_ASKING  4 /* 1.5 s of waiting: somebody looks at the first question */
#define HUB_PATIENCE_LOADING 8 /* 25 s */

struct hub_sink {
    bool (*begin)(void *ctx, const struct hub_response *r);
    bool (*data)(void *ctx, const void *bytes, size_t n);
    void *ctx;
};

/* The other members are set by the caller and stay. */
WARN_UNUSED enum status hub_fetch_open(struct hub_fetch *f, struct err *e);
void hub_fetch_close(struct hub_fetch *f);

/* One try, over its redirects. With `sink` NULL a HEAD request, which ends at the first answer that
 * names a blob. False: it broke off, see out->why. */
bool hub_fetch_try(struct hub_fetch *f, const char *url, uint64_t from, const struct hub_sink *sink,
                   struct hub_response *out);
/* After a try that failed or was refused: waits and is OK when another makes sense, else the status
 * with what to do. `what` names what was asked for. */
WARN_UNUSED enum status hub_fetch_again(struct hub_fetch *f, struct hub_patience *p,
                                        const struct hub_response *r, const struct hub_id *id,
                                        const char *what, struct err *e);
/* A whole small body, with tries. */
WARN_UNUSED enum status hub_fetch_text(struct hub_fetch *f, const char *url,
                                       const struct hub_id *id, const char *what,
                                       struct strbuf *out, struct err *e);
/* HEAD, with tries. */
WARN_UNUSED enum status hub_fetch_head(struct hub_fetch *f, const char *url,
                                       const struct hub_id *id, const char *what,
                                       struct hub_response *out, struct err *e);

/* Appends `text` with what is not plain in a path %-encoded; `slash` keeps '/'. */
void hub_fetch_quote(struct strbuf *url, const char *text, bool slash);

#endif
