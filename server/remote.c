#include "server/remote.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "server/text_table.h"

#define SAID_BYTES 320 /* of a message of the server's */

/* ---- which one ---- */

/* A server that listens everywhere is reached on this machine's own address. */
static void write_url(const struct options *o, char *url, size_t size)
{
    const char *host = o->host;
    if (*host == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "*") == 0)
        host = "127.0.0.1";
    else if (strcmp(host, "::") == 0)
        host = "::1";
    snprintf(url, size, strchr(host, ':') ? "http://[%s]:%lld" : "http://%s:%lld", host,
             (long long)o->port);
}

static bool is_key(const char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f)
            return false;
    }
    return true;
}

/* The first key of the server's own file will do. One that cannot be read is no failure yet: the
 * settings may name a file for the server's eyes only, and it may ask for no key. */
static void read_key_file(const char *path, struct remote *r)
{
    char line[REMOTE_KEY_BYTES];
    FILE *f = fopen(path, "re");
    if (!f) {
        snprintf(r->key_why, sizeof r->key_why, "%.120s: %s", path, strerror(errno));
        return;
    }
    while (!r->key[0] && fgets(line, sizeof line, f)) {
        char *begin = line + strspn(line, " \t");
        begin[strcspn(begin, " \t\r\n")] = '\0';
        if (*begin && *begin != '#' && is_key(begin))
            snprintf(r->key, sizeof r->key, "%s", begin);
    }
    if (!r->key[0])
        snprintf(r->key_why, sizeof r->key_why, "%.120s holds no key", path);
    fclose(f);
}

enum status remote_open(const struct options *o, struct remote *out, struct err *e)
{
    char url[512];
    struct remote r = {.key = ""};
    write_url(o, url, sizeof url);
    if (!*o->url && o->port == 0)
        return err_set(e, STATUS_INVALID, "url",
                       "the server's port is not known beforehand: --url says where it is");
    enum status st = client_target_parse(*o->url ? o->url : url, &r.target, e);
    if (st != STATUS_OK)
        return st;
    if (strlen(o->api_key) >= sizeof r.key || !is_key(o->api_key))
        return err_set(e, STATUS_INVALID, "api-key", "that is no API key");
    snprintf(r.key, sizeof r.key, "%s", o->api_key);
    if (!r.key[0] && *o->api_key_file)
        read_key_file(o->api_key_file, &r);
    *out = r;
    return STATUS_OK;
}

/* ---- what it answers ---- */

/* error.message of an error's body, for a terminal; "" where there is none. */
static void read_message(const struct client *c, char *said, size_t size)
{
    cJSON *v = NULL;
    said[0] = '\0';
    if (json_parse(strbuf_str(&c->body), c->body.len, &json_default_limits, &v, NULL) != STATUS_OK)
        return;
    const cJSON *error = cJSON_IsObject(v) ? json_member(v, "error") : NULL;
    const char *message =
        cJSON_IsObject(error) ? cJSON_GetStringValue(json_member(error, "message")) : NULL;
    if (message)
        text_clean(message, said, size);
    cJSON_Delete(v);
}

static enum status refused_key(const struct remote *r, struct err *e)
{
    const char *at = r->target.text;
    if (r->key[0])
        return err_set(e, STATUS_FORBIDDEN, "api-key",
                       "the server at %s does not know this API key", at);
    if (r->key_why[0])
        return err_set(e, STATUS_FORBIDDEN, "api-key", "the server at %s asks for an API key (%s)",
                       at, r->key_why);
    return err_set(e, STATUS_FORBIDDEN, "api-key",
                   "the server at %s asks for an API key: CHORUS_API_KEY or --api-key-file FILE",
                   at);
}

static enum status alien(const struct remote *r, const char *why, struct err *e)
{
    return err_set(e, STATUS_BUSY, "url", "what answers at %s is no chorus server: %s",
                   r->target.text, why);
}

enum status remote_refusal(const struct remote *r, const struct client *c, const char *path,
                           struct err *e)
{
    const char *at = r->target.text;
    char said[SAID_BYTES];
    switch (c->failure) {
    case CLIENT_UNREACHED:
        return err_set(e, STATUS_BUSY, "url",
                       "no server answers at %s (%s): chorus serve starts one, --url names "
                       "another",
                       at, c->why);
    case CLIENT_ALIEN:
        return alien(r, c->why, e);
    case CLIENT_BROKEN:
        return err_set(e, STATUS_BUSY, "url", "%s: %s", at, c->why);
    case CLIENT_ABORTED:
        return err_set(e, STATUS_CANCELLED, NULL, "%s: %s", at, c->why);
    case CLIENT_FINE:
        break;
    }
    if (c->status == 200)
        return STATUS_OK;
    read_message(c, said, sizeof said);
    if (c->status == 401)
        return refused_key(r, e);
    if (!said[0]) {
        char why[160];
        snprintf(why, sizeof why, "%.80s is answered %d", path, c->status);
        return alien(r, why, e);
    }
    enum status st = c->status == 429 || c->status == 503 ? STATUS_BUSY
                     : c->status == 403                   ? STATUS_FORBIDDEN
                     : c->status == 404                   ? STATUS_ADAPTER_NOT_FOUND
                     : c->status < 500                    ? STATUS_INVALID
                                                          : STATUS_INTERNAL;
    return err_set(e, st, NULL, "%s", said);
}

enum status remote_ask(const struct remote *r, const char *path, const char *body, int quiet_ms,
                       cJSON **out, struct strbuf *raw, struct err *e)
{
    struct client c;
    client_init(&c);
    enum status st = client_start(&c, &r->target, body ? "POST" : "GET", path, body, r->key, e);
    if (st == STATUS_OK) {
        client_run(&c, quiet_ms, NULL);
        st = remote_refusal(r, &c, path, e);
    }
    if (st == STATUS_OK &&
        json_parse(strbuf_str(&c.body), c.body.len, &json_default_limits, out, NULL) != STATUS_OK)
        st = alien(r, "it does not answer with JSON", e);
    if (st == STATUS_OK && raw) {
        strbuf_append(raw, strbuf_str(&c.body), c.body.len);
        if (raw->failed) {
            cJSON_Delete(*out);
            st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
        }
    }
    client_deinit(&c);
    return st;
}
