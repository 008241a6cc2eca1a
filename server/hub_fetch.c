#include "server/hub_fetch.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "server/text_table.h"

#define REDIRECTS_MAX   6
#define BACKOFF_MS      100 /* after the first failure, twice as long after each further one */
#define RETRY_AFTER_MAX 300 /* a hub that asks for more is taken at its word, later */
#define SLICE_NS        100000000

void hub_fetch_close(struct hub_fetch *f)
{
    hub_client_destroy(f->client);
    f->client = NULL;
}

void hub_fetch_quote(struct strbuf *url, const char *text, bool slash)
{
    for (const char *c = text; *c; c++) {
        bool plain = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') ||
                     (*c >= 'A' && *c <= 'Z') || strchr("-._~", *c) || (slash && *c == '/');
        if (plain)
            strbuf_putc(url, *c);
        else
            strbuf_printf(url, "%%%02X", (unsigned)(unsigned char)*c);
    }
}

/* ---- one try ---- */

static bool is_here(const char *origin)
{
    static const char *const hosts[] = {"http://127.0.0.1:", "http://localhost:", "http://[::1]:"};
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        if (strncmp(origin, hosts[i], strlen(hosts[i])) == 0)
            return true;
    }
    return false;
}

static const char *token_for(const struct hub_fetch *f, const char *origin)
{
    bool safe = strncmp(origin, "https:", 6) == 0 || is_here(origin);
    return safe && strcmp(origin, f->origin) == 0 ? f->token : NULL;
}

enum status hub_fetch_open(struct hub_fetch *f, struct err *e)
{
    enum status st = hub_client_create(&f->client, e);
    if (st != STATUS_OK)
        return st;
    if (!*f->endpoint || !hub_client_origin(f->client, f->endpoint, f->origin)) {
        hub_fetch_close(f);
        return err_set(e, STATUS_INVALID, "HF_ENDPOINT", "HF_ENDPOINT is not an http(s) address");
    }
    if (f->token && !token_for(f, f->origin))
        f->note(f->ctx, "the token is not sent: HF_ENDPOINT is plain http to another machine");
    return STATUS_OK;
}

static bool is_redirect(const struct hub_response *r)
{
    return (r->status == 301 || r->status == 302 || r->status == 303 || r->status == 307 ||
            r->status == 308) &&
           *r->location;
}

static bool refuse(struct hub_response *r, const char *why)
{
    r->final = true;
    snprintf(r->why, sizeof r->why, "%s", why);
    return false;
}

/* What an earlier answer of a chain of redirects said of the file, where the last is silent. */
static void keep_earlier(struct hub_response *r, const struct hub_response *before)
{
    if (!*r->commit)
        memcpy(r->commit, before->commit, sizeof r->commit);
    if (!*r->linked_etag)
        memcpy(r->linked_etag, before->linked_etag, sizeof r->linked_etag);
    if (r->linked_length < 0)
        r->linked_length = before->linked_length;
}

bool hub_fetch_try(struct hub_fetch *f, const char *url, uint64_t from, const struct hub_sink *sink,
                   struct hub_response *out)
{
    char here[HUB_LINK_BYTES];
    char origin[HUB_LINK_BYTES];
    char next[HUB_LINK_BYTES];
    struct hub_response before = {.linked_length = -1};
    int n = snprintf(here, sizeof here, "%s", url);
    *out = before;
    if (n < 0 || (size_t)n >= sizeof here || !hub_client_origin(f->client, here, origin))
        return refuse(out, "the address is not understood");
    for (int i = 0; i < REDIRECTS_MAX; i++) {
        struct hub_request request = {
            .url = here,
            .head = !sink,
            .from = from,
            .ca_file = f->ca_file,
            .token = token_for(f, origin),
            .stall_s = f->stall_s,
            .begin = sink ? sink->begin : NULL,
            .data = sink ? sink->data : NULL,
            .ctx = sink ? sink->ctx : NULL,
            .alive = f->alive,
            .alive_ctx = f->ctx,
        };
        if (!hub_client_exchange(f->client, &request, out))
            return false;
        keep_earlier(out, &before);
        if (!is_redirect(out))
            return true;
        if (!hub_client_origin(f->client, out->location, next))
            return refuse(out, "a redirect leads to no http(s) address");
        bool away = strcmp(next, origin) != 0;
        if (!sink && away && *out->linked_etag)
            return true;
        if (strncmp(origin, "https:", 6) == 0 && strncmp(next, "https:", 6) != 0)
            return refuse(out, "a redirect leads from https to http");
        memcpy(here, out->location, sizeof here);
        memcpy(origin, next, sizeof origin);
        before = *out;
    }
    return refuse(out, "too many redirects");
}

/* ---- what follows from an answer ---- */

static bool is_passing(int status)
{
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
           status == 504;
}

static const char *host_of(const struct hub_fetch *f)
{
    const char *host = strstr(f->endpoint, "://");
    return host ? host + 3 : f->endpoint;
}

static enum status refused_gated(const struct hub_fetch *f, const struct hub_id *id, struct err *e)
{
    if (!f->token)
        return err_set(e, STATUS_FORBIDDEN, NULL,
                       "%s is gated: accept its terms at %s/%s, then give a token of that account "
                       "(HF_TOKEN, --token-file, or hf auth login)",
                       id->name, f->endpoint, id->name);
    return err_set(e, STATUS_FORBIDDEN, NULL,
                   "%s is gated and the token's account has no access: ask for it at %s/%s",
                   id->name, f->endpoint, id->name);
}

static enum status refused(const struct hub_fetch *f, const struct hub_response *r,
                           const struct hub_id *id, const char *what, struct err *e)
{
    char text[sizeof r->error_message];
    text_clean(r->error_message, text, sizeof text);
    const char *colon = *text ? ": " : "";
    if (strcmp(r->error_code, "GatedRepo") == 0)
        return refused_gated(f, id, e);
    if (strcmp(r->error_code, "RevisionNotFound") == 0)
        return err_set(e, STATUS_NOT_FOUND, NULL, "%s has no revision %s", id->name, id->revision);
    if (strcmp(r->error_code, "EntryNotFound") == 0)
        return err_set(e, STATUS_NOT_FOUND, NULL, "%s has no file %s", id->name, what);
    switch (r->status) {
    case 401:
        if (f->token && strcmp(r->error_code, "RepoNotFound") != 0)
            return err_set(e, STATUS_FORBIDDEN, NULL, "%s does not accept the token%s%s",
                           host_of(f), colon, text);
        /* A hub tells nobody whether a private repository exists. */
        /* fall through */
    case 404:
        if (f->token)
            return err_set(e, STATUS_NOT_FOUND, NULL,
                           "%s has no %s, or the token's account may not see it", host_of(f),
                           id->name);
        return err_set(e, STATUS_NOT_FOUND, NULL,
                       "%s has no %s; if it is private, give a token (HF_TOKEN, --token-file, or "
                       "hf auth login)",
                       host_of(f), id->name);
    case 403:
        return err_set(e, STATUS_FORBIDDEN, NULL,
                       "%s refuses access to %s%s%s; the token may lack the right to read it",
                       host_of(f), id->name, colon, text);
    case 429:
        return err_set(e, STATUS_BUSY, NULL,
                       "%s: too many requests for now; run the same command again later%s",
                       host_of(f), f->token ? "" : " (with a token it allows more)");
    default:
        return err_set(e, STATUS_IO, NULL, "%s answers %d for %s%s%s", host_of(f), r->status, what,
                       colon, text);
    }
}

/* Sleeps in slices, so that Ctrl-C is heard. */
static bool pause_ms(struct hub_fetch *f, int64_t ms)
{
    int64_t end = clock_now_ns() + ms * 1000000;
    while (f->alive(f->ctx)) {
        int64_t left = end - clock_now_ns();
        if (left <= 0)
            return true;
        struct timespec t = {.tv_nsec = left < SLICE_NS ? (long)left : SLICE_NS};
        nanosleep(&t, NULL);
    }
    return false;
}

enum status hub_fetch_again(struct hub_fetch *f, struct hub_patience *p,
                            const struct hub_response *r, const struct hub_id *id, const char *what,
                            struct err *e)
{
    bool broke = *r->why != '\0';
    char why[sizeof r->why];
    text_clean(r->why, why, sizeof why);
    if (!f->alive(f->ctx))
        return err_set(e, STATUS_CANCELLED, NULL, "stopped");
    if (broke && (r->final || p->failures >= p->most))
        return err_set(e, STATUS_IO, NULL, "%s: %s", what, why);
    if (!broke &&
        (!is_passing(r->status) || p->failures >= p->most || r->retry_after_s > RETRY_AFTER_MAX))
        return refused(f, r, id, what, e);
    int64_t ms = BACKOFF_MS << p->failures++;
    if (!broke && r->retry_after_s >= 0)
        ms = r->retry_after_s * 1000;
    if (ms >= 1000) {
        char note[320];
        char status[64];
        snprintf(status, sizeof status, "%.40s answers %d", host_of(f), r->status);
        snprintf(note, sizeof note, "%s; trying again in %d s", broke ? why : status,
                 (int)(ms / 1000));
        f->note(f->ctx, note);
    }
    return pause_ms(f, ms) ? STATUS_OK : err_set(e, STATUS_CANCELLED, NULL, "stopped");
}

/* ---- small things, whole ---- */

struct text_sink {
    struct hub_fetch *f;
    struct strbuf *out;
};

static bool text_data(void *ctx, const void *bytes, size_t n)
{
    struct text_sink *t = ctx;
    strbuf_append(t->out, bytes, n);
    return !t->out->failed;
}

static bool text_begin(void *ctx, const struct hub_response *r)
{
    struct text_sink *t = ctx;
    (void)r;
    strbuf_clear(t->out);
    return true;
}

enum status hub_fetch_text(struct hub_fetch *f, const char *url, const struct hub_id *id,
                           const char *what, struct strbuf *out, struct err *e)
{
    struct hub_patience patience = {.most = HUB_PATIENCE_ASKING};
    struct text_sink t = {.f = f, .out = out};
    struct hub_sink sink = {.begin = text_begin, .data = text_data, .ctx = &t};
    for (;;) {
        struct hub_response r;
        bool whole = hub_fetch_try(f, url, 0, &sink, &r);
        if (whole && r.status == 200)
            return STATUS_OK;
        if (out->failed)
            return err_set(e, STATUS_LIMIT, NULL, "%s: the answer is longer than %zu bytes", what,
                           out->max);
        enum status st = hub_fetch_again(f, &patience, &r, id, what, e);
        if (st != STATUS_OK)
            return st;
    }
}

enum status hub_fetch_head(struct hub_fetch *f, const char *url, const struct hub_id *id,
                           const char *what, struct hub_response *out, struct err *e)
{
    struct hub_patience patience = {.most = HUB_PATIENCE_ASKING};
    for (;;) {
        bool whole = hub_fetch_try(f, url, 0, NULL, out);
        if (whole && (out->status == 200 || is_redirect(out)))
            return STATUS_OK;
        enum status st = hub_fetch_again(f, &patience, out, id, what, e);
        if (st != STATUS_OK)
            return st;
    }
}
