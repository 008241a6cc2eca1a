/* api_text: the routes that only deal with text and tokens: POST /tokenize and /detokenize (the
 * dialects of vLLM and llama-server, told apart by their fields), /apply-template, and Anthropic's
 * /v1/messages/count_tokens. No sequence runs; the work is done on a pool thread. Loop thread.
 */
#ifndef CHORUS_SERVER_API_TEXT_H
#define CHORUS_SERVER_API_TEXT_H

#include <stdbool.h>

struct call;
struct server;

void api_text_tokenize(struct call *c, const char *tail);
void api_text_detokenize(struct call *c, const char *tail);
void api_text_apply_template(struct call *c, const char *tail);
void api_text_count_tokens(struct call *c, const char *tail);

/* The exchange of c is over and c goes away; its work may still be on a pool thread. */
void api_text_on_end(struct call *c);
/* True while the pool works on something: it reads the engine's text. */
bool api_text_is_busy(const struct server *s);

#endif
