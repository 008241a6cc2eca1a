/* server_state: the parts of a running server that its own files share. Private to server/; loop
 * thread only, but for what api_context lends to pool threads (constant after the start).
 */
#ifndef CHORUS_SERVER_SERVER_STATE_H
#define CHORUS_SERVER_SERVER_STATE_H

#include "engine/engine.h"
#include "engine/engine_text.h"
#include "server/access_log.h"
#include "server/api_key.h"
#include "server/api_live.h"
#include "server/api_request.h"
#include "server/fair.h"
#include "server/guard.h"
#include "server/http.h"
#include "server/hub_cache.h"
#include "server/id_map.h"
#include "server/ident.h"
#include "server/keeper.h"
#include "server/metrics.h"
#include "server/metrics_gateway.h"
#include "server/reload.h"
#include "server/server.h"

struct adapter_op;
struct job;
struct text_task;

enum server_phase { SERVER_LOADING, SERVER_READY, SERVER_DRAINING, SERVER_ENDED };

#define SERVER_BASE_NAMES 3
#define SERVER_EVENTS     8 /* read from the engine at once */

struct server {
    struct server_options settings;   /* what may change at SIGHUP does so here */
    const struct server_options *opt; /* the same, to read */
    struct reload reload;
    bool had_terminal;
    struct loop *loop;
    struct http_server *http;
    struct listener listeners[LIMIT_LISTENERS];
    int listener_count;
    struct guard guard;
    struct api_keys keys;
    struct engine *engine; /* NULL while loading */
    const struct engine_text *text;
    struct engine_info info;
    struct api_context api;
    char *base_name; /* owned */
    const char *base_names[SERVER_BASE_NAMES];
    char hub_name[HUB_NAME_BYTES]; /* "org/name" of a model in the hub's cache; else "" */
    char fingerprint[IDENT_BYTES];
    int64_t started_unix_s;
    enum server_phase phase;
    struct metrics metrics;
    struct metrics_gateway gateway;
    struct job *jobs;               /* every generation that is not over */
    struct adapter_op *adapter_ops; /* changes of adapters that are not over */
    struct keeper *keeper;
    int text_tasks; /* requests of api_text that are not over */
    int listings;   /* of listing */
    struct live live;
    struct fair fair;      /* choices on their way to the engine and in it */
    struct id_map choices; /* engine id -> struct choice */
    struct strbuf scratch;
    struct engine_event events[SERVER_EVENTS];
    struct loop_waker *engine_waker;
    struct loop_timer *tick;
    struct loop_timer *drain_timer;
    struct service *service;
    struct loader *loader; /* owned until the engine is open */
    enum status result;
    struct err result_err;
};

/* One request from its headers to its access-log line. */
struct call {
    struct server *server;
    struct http_exchange *x;
    const struct route *route; /* NULL: refused before a route was found */
    const char *tail;
    struct job *job;               /* while it generates */
    struct text_task *text_task;   /* while text is worked on */
    struct listing *listing;       /* while a list is written */
    struct adapter_op *adapter_op; /* while adapters change */
    struct call *next_watcher;
    bool watches; /* the engine's steps */
    int64_t begin_ns;
    int64_t first_token_ns; /* 0: none */
    int64_t tokens_in;
    int64_t tokens_out;
    struct access_times times;
    char adapter[LIMIT_NAME_BYTES * 2];
    char request_id[129];
};

/* Answers with an OpenAI error; `k` is one of api_error. */
struct api_error_kind;
void server_answer_error(struct call *c, const struct api_error_kind *k, const struct err *e);
/* The API key that came with a request, or NULL. */
const char *server_key_of(const struct call *c);
void server_answer_json(struct call *c, int status, struct strbuf *body);
/* The device failed: streams get their errors, the server ends and says so. */
void server_device_lost(struct server *s, const struct err *e);
/* Whether the engine thread shows no life although there is work. */
bool server_is_stalled(const struct server *s, const struct engine_stats *stats);
/* The last exchange or job of a draining server ended: go on. */
void server_check_drained(struct server *s);

#endif
