/* reload: SIGHUP. The settings and the API keys are read again on a pool thread; what is wrong with
 * them changes nothing, else what can be changed while it runs is, and the log has a line for each
 * setting that is another: applied, or it needs a restart. Loop thread.
 */
#ifndef CHORUS_SERVER_RELOAD_H
#define CHORUS_SERVER_RELOAD_H

#include <stdbool.h>

#include "server/api_key.h"
#include "server/server.h"

struct server;
struct retired_name;

struct reload {
    bool busy;  /* a pool thread reads */
    bool again; /* asked for meanwhile, or before the model was there */
    enum status status;
    struct err err;
    struct server_options next; /* what was read; borrowed from the reader */
    struct api_keys keys;
    struct retired_name *retired; /* owned: names that a pool thread may still read */
};

/* Begins, or remembers to. */
void reload_ask(struct server *s);
/* The server began to serve. */
void reload_ready(struct server *s);
void reload_deinit(struct reload *r);

/* What requests that name no adapter get: "" or NULL for the base. False: out of memory. */
bool reload_set_default_adapter(struct server *s, const char *name);

#endif
