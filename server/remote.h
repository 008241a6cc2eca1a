/* remote: the server that a command talks to: which one, with which key, and in plain words why it
 * cannot be talked to. One thread. */
#ifndef CHORUS_SERVER_REMOTE_H
#define CHORUS_SERVER_REMOTE_H

#include <cjson/cJSON.h>

#include "config/options.h"
#include "server/client.h"

#define REMOTE_KEY_BYTES 1024

struct remote {
    struct client_target target;
    char key[REMOTE_KEY_BYTES]; /* "": none */
    char key_why[256];          /* the file of keys could not be read, and why; "": it could */
};

/* From --url, else host and port of the settings; the key from --api-key, else the first one of
 * --api-key-file. STATUS_INVALID. */
WARN_UNUSED enum status remote_open(const struct options *o, struct remote *out, struct err *e);

/* Asks and waits for quiet_ms at most for each byte; *out is the answer's JSON (cJSON_Delete).
 * `body` NULL: GET. `raw` (may be NULL, strbuf_init was called) gets its text. What is no 200 is an
 * error as remote_refusal has it. */
WARN_UNUSED enum status remote_ask(const struct remote *r, const char *path, const char *body,
                                   int quiet_ms, cJSON **out, struct strbuf *raw, struct err *e);

/* Why a call that is done is no answer: STATUS_BUSY for a server that is not there, not ready or
 * not ours, STATUS_FORBIDDEN for a key, STATUS_CANCELLED for client_abort, else what the server
 * said. STATUS_OK: it is one. */
enum status remote_refusal(const struct remote *r, const struct client *c, const char *path,
                           struct err *e);

#endif
