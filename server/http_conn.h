/* http_conn: connections: who is let in, in which phase one is, when it is late, how it ends, and
 * sockets that linger behind a refused body. Loop thread. */
#ifndef CHORUS_SERVER_HTTP_CONN_H
#define CHORUS_SERVER_HTTP_CONN_H

#include "server/http_state.h"

/* libmicrohttpd accepted it; *socket_context becomes the connection, NULL without memory. */
void http_conn_add(struct http_server *h, struct MHD_Connection *mhd, void **socket_context);
void http_conn_remove(struct http_conn *c);
struct http_conn *http_conn_of(struct MHD_Connection *mhd);

void http_conn_set_phase(struct http_conn *c, enum http_phase phase);
/* Its phase has lasted longer than the limits allow. */
bool http_conn_is_late(struct http_conn *c, int64_t now_ns);
/* Takes up a sleeping exchange again; nothing for one that does not sleep. */
void http_conn_resume(struct http_exchange *x);
/* Nothing more is read or written. `tell`: the handler hears of it. */
void http_conn_cut(struct http_conn *c, bool tell);

/* A copy of the socket stays open for reading for a moment, so that its client gets the answer. */
void http_conn_linger(struct http_server *h, int fd);
void http_conn_linger_end(struct http_lingerer *g);

#endif
