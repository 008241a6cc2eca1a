/* api_adapters: the routes that list, add, check and remove adapters while the server runs, in our
 * own words and in those of vLLM (load_lora_adapter).
 *
 * A change is an operation: read on the loop (its body is small), done in the keeper's lane, told
 * on the loop. A client that leaves does not undo it. Loop thread.
 */
#ifndef CHORUS_SERVER_API_ADAPTERS_H
#define CHORUS_SERVER_API_ADAPTERS_H

struct call;
struct server;

void api_adapters_list(struct call *c, const char *tail);
void api_adapters_one(struct call *c, const char *tail);
void api_adapters_add(struct call *c, const char *tail);
void api_adapters_check(struct call *c, const char *tail);
void api_adapters_remove(struct call *c, const char *tail);
void api_adapters_load(struct call *c, const char *tail);
void api_adapters_unload(struct call *c, const char *tail);

/* The exchange of a call is over. */
void api_adapters_on_end(struct call *c);
/* Frees operations that will not go on: the keeper was stopped and is not busy. */
void api_adapters_release(struct server *s);

#endif
