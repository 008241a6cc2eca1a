/* api_generate: POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages and
 * /v1/embeddings, from the whole body to the last byte of the answer.
 *
 * A job is one such request. It is prepared on a pool thread (parse, template, tokens), becomes one
 * engine request for each choice, and turns the engine's events into one object or a stream of
 * chunks. It ends when the exchange is over, the pool let go and every choice had its terminal
 * event; whoever is last frees it. Loop thread.
 */
#ifndef CHORUS_SERVER_API_GENERATE_H
#define CHORUS_SERVER_API_GENERATE_H

#include <stdbool.h>
#include <stdint.h>

struct call;
struct err;
struct server;

void api_generate_chat(struct call *c, const char *tail);
void api_generate_completion(struct call *c, const char *tail);
void api_generate_response(struct call *c, const char *tail);
void api_generate_message(struct call *c, const char *tail);
void api_generate_embeddings(struct call *c, const char *tail);

/* The engine has events. */
void api_generate_on_engine(struct server *s);
/* The client of c left, or its stream has room again, or the exchange is over (c goes away). */
void api_generate_on_gone(struct call *c);
void api_generate_on_room(struct call *c);
void api_generate_on_end(struct call *c);
/* Now and then: comments into silent streams. */
void api_generate_on_tick(struct server *s, int64_t now_ns);
/* The engine admits nothing more: what waits for a seat is told so. */
void api_generate_drain(struct server *s);
/* Cuts every job's connection and cancels its work: the drain took too long. */
void api_generate_cut_all(struct server *s);
/* Ends all requests that hold a generation with an error; returns how many. */
int api_generate_end_users(struct server *s, uint64_t generation, const struct err *e);
/* After the last exchange: forgets the jobs. True while the pool still works on one. */
bool api_generate_release(struct server *s);

#endif
