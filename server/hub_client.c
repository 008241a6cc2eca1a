#include "server/hub_client.h"

#if __has_include(<curl/curl.h>)

#include <curl/curl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/base/mem.h"
#include "server/version.h"

#define CONNECT_TIMEOUT_S 15
#define TOKEN_HEAD        "Authorization: Bearer "
#define HEADER_BYTES_MAX  8192
#define HUB_WHY_SHOWN     140

/* X(member, type of the result, parameters) for each function of libcurl that is used. */
#define CURL_FUNCTIONS(X)                                                                          \
    X(global_init, CURLcode, (long))                                                               \
    X(global_cleanup, void, (void))                                                                \
    X(easy_init, CURL *, (void))                                                                   \
    X(easy_reset, void, (CURL *))                                                                  \
    X(easy_cleanup, void, (CURL *))                                                                \
    X(easy_setopt, CURLcode, (CURL *, CURLoption, ...))                                            \
    X(easy_getinfo, CURLcode, (CURL *, CURLINFO, ...))                                             \
    X(easy_perform, CURLcode, (CURL *))                                                            \
    X(easy_strerror, const char *, (CURLcode))                                                     \
    X(slist_append, struct curl_slist *, (struct curl_slist *, const char *))                      \
    X(slist_free_all, void, (struct curl_slist *))                                                 \
    X(url, CURLU *, (void))                                                                        \
    X(url_cleanup, void, (CURLU *))                                                                \
    X(url_set, CURLUcode, (CURLU *, CURLUPart, const char *, unsigned int))                        \
    X(url_get, CURLUcode, (CURLU *, CURLUPart, char **, unsigned int))                             \
    X(free, void, (void *))

struct hub_client {
    void *library; /* never closed: TLS libraries keep handlers for the process's end */
    CURL *easy;    /* owned */
#define X(name, type, params) type(*name) params;
    CURL_FUNCTIONS(X)
#undef X
};

/* One exchange under way. */
struct exchange {
    struct hub_client *c;
    const struct hub_request *request;
    struct hub_response *r;
    bool begun;
    bool stopped; /* a callback of ours ended it */
};

#define LOAD_FAILED "libcurl of this machine cannot be used (%.200s)"

static enum status load(struct hub_client *c, struct err *e)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};
    for (size_t i = 0; i < 2 && !c->library; i++)
        c->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!c->library)
        return err_set(e, STATUS_UNSUPPORTED, NULL,
                       "libcurl is not installed, which pull needs (Debian: apt install libcurl4)");
#define X(name, type, params)                                                                      \
    {                                                                                              \
        void *at = dlsym(c->library, "curl_" #name);                                               \
        if (!at)                                                                                   \
            return err_set(e, STATUS_UNSUPPORTED, NULL, LOAD_FAILED, "no curl_" #name);            \
        memcpy(&c->name, &at, sizeof at);                                                          \
    }
    CURL_FUNCTIONS(X)
#undef X
    return STATUS_OK;
}

enum status hub_client_create(struct hub_client **out, struct err *e)
{
    struct hub_client *c = mem_calloc(1, sizeof *c);
    if (!c)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    enum status st = load(c, e);
    if (st != STATUS_OK) {
        mem_free(c);
        return st;
    }
    if (c->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(c->easy = c->easy_init())) {
        hub_client_destroy(c);
        return err_set(e, STATUS_UNSUPPORTED, NULL, LOAD_FAILED, "it does not start");
    }
    *out = c;
    return STATUS_OK;
}

void hub_client_destroy(struct hub_client *c)
{
    if (!c)
        return;
    if (c->easy)
        c->easy_cleanup(c->easy);
    c->global_cleanup();
    mem_free(c);
}

/* ---- what comes back ---- */

/* The value of header `name` in a line, without spaces around it, in `out`; false: another header,
 * or it does not fit. */
static bool header_is(const char *line, size_t n, const char *name, char *out, size_t size)
{
    size_t k = strlen(name);
    if (n <= k || line[k] != ':' || strncasecmp(line, name, k) != 0)
        return false;
    const char *v = line + k + 1;
    size_t m = n - k - 1;
    while (m > 0 && (*v == ' ' || *v == '\t')) {
        v++;
        m--;
    }
    while (m > 0 && strchr(" \t\r\n", v[m - 1]))
        m--;
    if (m >= size || memchr(v, '\0', m))
        return false;
    memcpy(out, v, m);
    out[m] = '\0';
    return true;
}

static void take_etag(const char *value, char out[HUB_ETAG_BYTES])
{
    const char *v = strncmp(value, "W/", 2) == 0 ? value + 2 : value;
    size_t n = strlen(v);
    if (n >= 2 && v[0] == '"' && v[n - 1] == '"') {
        v++;
        n -= 2;
    }
    snprintf(out, HUB_ETAG_BYTES, "%.*s", (int)n, v);
}

/* Digits that fit, else -1. */
static int64_t take_number(const char *v, char **end)
{
    *end = (char *)(uintptr_t)v;
    if (*v < '0' || *v > '9' || strspn(v, "0123456789") > 18)
        return -1;
    return strtoll(v, end, 10);
}

/* "bytes 100-199/200" */
static void take_range(const char *v, struct hub_response *r)
{
    char *end;
    if (strncasecmp(v, "bytes ", 6) != 0)
        return;
    int64_t from = take_number(v + 6, &end);
    const char *slash = strchr(end, '/');
    if (from < 0 || *end != '-' || !slash)
        return;
    int64_t total = take_number(slash + 1, &end);
    if (*end != '\0')
        return;
    r->range_from = from;
    r->range_total = total;
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
    struct exchange *x = ctx;
    struct hub_response *r = x->r;
    size_t n = size * count;
    char v[1024];
    char *end;
    if (header_is(line, n, "ETag", v, sizeof v))
        take_etag(v, r->etag);
    else if (header_is(line, n, "X-Linked-Etag", v, sizeof v))
        take_etag(v, r->linked_etag);
    else if (header_is(line, n, "X-Repo-Commit", v, sizeof v))
        snprintf(r->commit, sizeof r->commit, "%.*s", (int)sizeof r->commit - 1, v);
    else if (header_is(line, n, "X-Error-Code", v, sizeof v))
        snprintf(r->error_code, sizeof r->error_code, "%.*s", (int)sizeof r->error_code - 1, v);
    else if (header_is(line, n, "X-Error-Message", v, sizeof v))
        snprintf(r->error_message, sizeof r->error_message, "%.*s",
                 (int)sizeof r->error_message - 1, v);
    else if (header_is(line, n, "X-Linked-Size", v, sizeof v))
        r->linked_length = take_number(v, &end);
    else if (header_is(line, n, "Content-Length", v, sizeof v))
        r->length = take_number(v, &end);
    else if (header_is(line, n, "Retry-After", v, sizeof v))
        r->retry_after_s = take_number(v, &end);
    else if (header_is(line, n, "Content-Range", v, sizeof v))
        take_range(v, r);
    return n;
}

static void take_status(struct exchange *x)
{
    long status = 0;
    x->c->easy_getinfo(x->c->easy, CURLINFO_RESPONSE_CODE, &status);
    x->r->status = (int)status;
}

static bool begin(struct exchange *x)
{
    if (x->begun)
        return true;
    x->begun = true;
    take_status(x);
    bool good = x->r->status >= 200 && x->r->status < 300;
    return !good || !x->request->begin || x->request->begin(x->request->ctx, x->r);
}

/* The text of a refusal is not looked at: its headers say what the hub means. */
static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
    struct exchange *x = ctx;
    size_t n = size * count;
    bool good = begin(x);
    if (good && x->r->status >= 200 && x->r->status < 300)
        good = x->request->data(x->request->ctx, bytes, n);
    x->stopped = !good;
    return good ? n : 0;
}

static int on_time(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct exchange *x = ctx;
    (void)a, (void)b, (void)c, (void)d;
    x->stopped = x->stopped || !x->request->alive(x->request->alive_ctx);
    return x->stopped;
}

/* ---- the exchange ---- */

/* Failures that stay however often one tries. */
static bool is_final(CURLcode code)
{
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_OUT_OF_MEMORY:
        return true;
    default:
        return false;
    }
}

/* What the texts of libcurl do not say. */
static const char *hint_of(CURLcode code)
{
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        return " (SSL_CERT_FILE names whose certificates are trusted)";
    if (code == CURLE_SSL_CACERT_BADFILE)
        return " (Debian: apt install ca-certificates)";
    return "";
}

static struct curl_slist *headers_of(struct hub_client *c, const struct hub_request *r)
{
    char line[HEADER_BYTES_MAX];
    struct curl_slist *list = c->slist_append(NULL, "Accept-Encoding: identity");
    if (!list || !r->token)
        return list;
    snprintf(line, sizeof line, TOKEN_HEAD "%.*s", (int)(sizeof line - sizeof TOKEN_HEAD),
             r->token);
    struct curl_slist *longer = c->slist_append(list, line);
    memset(line, 0, sizeof line);
    if (!longer)
        c->slist_free_all(list);
    return longer;
}

#define SET(option, value) (ok = ok && c->easy_setopt(c->easy, (option), (value)) == CURLE_OK)

static bool set_options(struct hub_client *c, const struct hub_request *r, struct exchange *x,
                        struct curl_slist *headers, char *why)
{
    char range[32];
    bool ok = true;
    c->easy_reset(c->easy); /* keeps connections */
    SET(CURLOPT_URL, r->url);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_USERAGENT, "chorus/" CHORUS_VERSION);
    SET(CURLOPT_ERRORBUFFER, why);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, (long)r->stall_s);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, x);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, x);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_time);
    SET(CURLOPT_XFERINFODATA, x);
    if (r->ca_file)
        SET(CURLOPT_CAINFO, r->ca_file);
    if (r->head)
        SET(CURLOPT_NOBODY, 1L);
    if (r->from > 0) {
        snprintf(range, sizeof range, "%llu-", (unsigned long long)r->from);
        SET(CURLOPT_RANGE, range);
    }
    return ok;
}

bool hub_client_exchange(struct hub_client *c, const struct hub_request *r,
                         struct hub_response *out)
{
    char why[CURL_ERROR_SIZE] = "";
    *out = (struct hub_response){.length = -1,
                                 .linked_length = -1,
                                 .range_from = -1,
                                 .range_total = -1,
                                 .retry_after_s = -1};
    struct exchange x = {.c = c, .request = r, .r = out};
    struct curl_slist *headers = headers_of(c, r);
    if (!headers || !set_options(c, r, &x, headers, why)) {
        c->slist_free_all(headers);
        out->final = true;
        snprintf(out->why, sizeof out->why, "libcurl does not take the request");
        return false;
    }
    CURLcode code = c->easy_perform(c->easy);
    take_status(&x);
    if (code == CURLE_OK && !r->head && !begin(&x))
        x.stopped = true;
    char *location = NULL;
    if (c->easy_getinfo(c->easy, CURLINFO_REDIRECT_URL, &location) == CURLE_OK && location &&
        strlen(location) < sizeof out->location)
        snprintf(out->location, sizeof out->location, "%s", location);
    c->easy_setopt(c->easy, CURLOPT_ERRORBUFFER, NULL);
    c->easy_setopt(c->easy, CURLOPT_HTTPHEADER, NULL);
    c->slist_free_all(headers);
    if (code == CURLE_OK && !x.stopped)
        return true;
    out->final = x.stopped || is_final(code);
    const char *text = x.stopped ? "stopped" : *why ? why : c->easy_strerror(code);
    snprintf(out->why, sizeof out->why, "%.*s%s", HUB_WHY_SHOWN, text, hint_of(code));
    return false;
}

bool hub_client_origin(struct hub_client *c, const char *url, char out[HUB_LINK_BYTES])
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    CURLU *u = c->url();
    bool ok = u && c->url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              c->url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
              c->url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              c->url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0);
    if (ok) {
        int n = snprintf(out, HUB_LINK_BYTES, "%s://%s:%s", scheme, host, port);
        ok = n > 0 && n < HUB_LINK_BYTES;
        for (char *at = out; ok && *at; at++)
            *at = *at >= 'A' && *at <= 'Z' ? (char)(*at - 'A' + 'a') : *at;
    }
    c->free(scheme);
    c->free(host);
    c->free(port);
    c->url_cleanup(u);
    return ok;
}

#else

enum status hub_client_create(struct hub_client **out, struct err *e)
{
    (void)out;
    return err_set(e, STATUS_UNSUPPORTED, NULL,
                   "this chorus was built without libcurl, which pull needs (Debian: apt install "
                   "libcurl4-openssl-dev, then make)");
}

void hub_client_destroy(struct hub_client *c)
{
    (void)c;
}

bool hub_client_exchange(struct hub_client *c, const struct hub_request *r,
                         struct hub_response *out)
{
    (void)c, (void)r;
    *out = (struct hub_response){.final = true};
    return false;
}

bool hub_client_origin(struct hub_client *c, const char *url, char out[HUB_LINK_BYTES])
{
    (void)c, (void)url, (void)out;
    return false;
}

#endif
