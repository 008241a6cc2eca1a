/* job_list: what the server tells of its jobs, as JSON. Loop thread. */
#ifndef CHORUS_SERVER_JOB_LIST_H
#define CHORUS_SERVER_JOB_LIST_H

#include <stdint.h>

struct server;
struct strbuf;

/* Appends the ids of up to `max` requests that hold a generation, as JSON strings. */
void job_list_users(const struct server *s, uint64_t generation, int max, struct strbuf *b);
/* Appends the adapters of requests that wait for a seat, comma-separated, each once. */
void job_list_queued(const struct server *s, struct strbuf *b);
/* Appends what the engine works on, as objects of llama-server's /slots; returns how many. */
int job_list_slots(const struct server *s, struct strbuf *b);
/* Appends the answers that wait or are being made, `max` at most, as objects of /v1/status: who
 * speaks, how far they are, never what they say. Returns how many more there are. */
int job_list_sequences(const struct server *s, int64_t now_ns, int max, struct strbuf *b);

#endif
