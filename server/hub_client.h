/* hub_client: one HTTP exchange with a hub, over libcurl.
 *
 * libcurl is opened at run time (dlopen), by `chorus pull` alone: it brings a dozen libraries for
 * TLS and names, and the server, which opens no connection of its own, shall not carry them. A
 * build without libcurl's header, or a machine without the library, is a chorus whose pull says so.
 *
 * Follows no redirect and repeats nothing: hub_fetch.h decides both. One thread.
 */
#ifndef CHORUS_SERVER_HUB_CLIENT_H
#define CHORUS_SERVER_HUB_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"

#define HUB_LINK_BYTES 4096 /* of a URL: signed ones of a CDN have some 1,500 */
#define HUB_ETAG_BYTES 128

struct hub_client;

struct hub_response {
    int status;                       /* of HTTP; 0: there was no answer */
    int64_t length;                   /* Content-Length; -1: unknown */
    int64_t linked_length;            /* X-Linked-Size; -1 */
    int64_t range_from;               /* Content-Range; -1 */
    int64_t range_total;              /* -1 */
    int64_t retry_after_s;            /* -1; only the form in seconds is understood */
    char etag[HUB_ETAG_BYTES];        /* without W/ and quotes; "" */
    char linked_etag[HUB_ETAG_BYTES]; /* X-Linked-Etag */
    char commit[HUB_ETAG_BYTES];      /* X-Repo-Commit */
    char error_code[64];              /* X-Error-Code */
    char error_message[200];          /* X-Error-Message */
    char location[HUB_LINK_BYTES];    /* where a 3xx leads, absolute; "" */
    bool final;                       /* the failure is none that another try could mend */
    char why[200];                    /* status 0, or the body broke off: what happened */
};

struct hub_request {
    const char *url;
    bool head;
    uint64_t from;       /* Range: bytes=from-; 0: all */
    const char *ca_file; /* of those who sign certificates; NULL: the system's */
    const char *token;   /* sent to this host; NULL: none */
    int stall_s;         /* no byte for so long ends it */
    /* Before the first byte of a 2xx body (or its end); false ends the exchange. May be NULL. */
    bool (*begin)(void *ctx, const struct hub_response *r);
    bool (*data)(void *ctx, const void *bytes, size_t n); /* false ends the exchange */
    void *ctx;
    bool (*alive)(void *alive_ctx); /* asked often; false ends the exchange */
    void *alive_ctx;
};

/* STATUS_UNSUPPORTED: built without libcurl, or it is not installed; with what to do. */
WARN_UNUSED enum status hub_client_create(struct hub_client **out, struct err *e);
void hub_client_destroy(struct hub_client *c);

/* True when the exchange came to its end, with whatever status; else out->why says what broke. */
bool hub_client_exchange(struct hub_client *c, const struct hub_request *r,
                         struct hub_response *out);

/* Scheme, host and port of a URL, for comparison: "https://huggingface.co:443". False: not http or
 * https, or no URL. */
bool hub_client_origin(struct hub_client *c, const char *url, char out[HUB_LINK_BYTES]);

#endif
