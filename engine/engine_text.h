/* engine_text: messages to tokens and back, for one model directory. The door of engine/text.
 *
 * Opened on any thread, then immutable: every call is safe from several threads at once. Slow calls
 * (render, encode) belong on a pool thread. Text that came from a request never becomes a special
 * token.
 */
#ifndef CHORUS_ENGINE_TEXT_H
#define CHORUS_ENGINE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"
#include "engine/base/token_buf.h"

struct engine_text;
struct tokenizer;

/* How a model writes down the calls of tools (engine/text/chat_tools.h has examples). */
enum engine_tool_form {
    ENGINE_TOOLS_NONE, /* its template knows none */
    ENGINE_TOOLS_OTHER,
    ENGINE_TOOLS_TAGS,
    ENGINE_TOOLS_OBJECT,
    ENGINE_TOOLS_PYTHON,
    ENGINE_TOOLS_MISTRAL
};

/* Tokenizer and chat template of a Hugging Face directory; a directory without a template opens
 * too. */
WARN_UNUSED enum status engine_text_open(const char *dir, struct engine_text **out, struct err *e);
/* The same tokenizer with another chat template, for an adapter that brings its own: `source`, or
 * (NULL) the one that `config`, its tokenizer_config.json, holds; STATUS_NOT_FOUND when there is
 * neither. `config` may be NULL. `base` must outlive *out. STATUS_BAD_FILE, STATUS_UNSUPPORTED,
 * STATUS_LIMIT: it is no template that can be run; param is "chat_template". */
WARN_UNUSED enum status engine_text_beside(const struct engine_text *base, const char *source,
                                           const cJSON *config, struct engine_text **out,
                                           struct err *e);
void engine_text_close(struct engine_text *t);
bool engine_text_has_template(const struct engine_text *t);
/* The tags between which the model thinks aloud, as its template knows them. False: it does not. */
bool engine_text_thinking(const struct engine_text *t, const char **open, const char **close);
enum engine_tool_form engine_text_tools(const struct engine_text *t);
/* For the engine's own detokenising; borrowed. */
const struct tokenizer *engine_text_tokenizer(const struct engine_text *t);

/* Renders the chat template over `vars` (messages, tools, add_generation_prompt, template kwargs
 * ...; from json_parse). A template that raises is STATUS_INVALID with its message. Variables whose
 * name ends in _token are the model's: a request must not choose them. */
WARN_UNUSED enum status engine_text_render(const struct engine_text *t, const cJSON *vars,
                                           struct strbuf *out, struct err *e);
/* Renders and tokenises. Special tokens come from the template only. */
WARN_UNUSED enum status engine_text_chat(const struct engine_text *t, const cJSON *vars,
                                         struct token_buf *out, struct err *e);
/* The same with the final message left open: everything behind its content is cut away, so that
 * generation goes on in it. `vars` is as before afterwards. STATUS_INVALID: nothing to go on in. */
WARN_UNUSED enum status engine_text_continue(const struct engine_text *t, cJSON *vars,
                                             struct strbuf *out, struct err *e);
WARN_UNUSED enum status engine_text_chat_continue(const struct engine_text *t, cJSON *vars,
                                                  struct token_buf *out, struct err *e);
/* Plain text. add_special: with the tokenizer's own prefix (bos ...); parse_special: special tokens
 * in the text count. */
WARN_UNUSED enum status engine_text_encode(const struct engine_text *t, const char *s, size_t n,
                                           bool add_special, bool parse_special,
                                           struct token_buf *out, struct err *e);
WARN_UNUSED enum status engine_text_decode(const struct engine_text *t, const int32_t *ids,
                                           size_t count, bool keep_special, struct strbuf *out,
                                           struct err *e);
/* Raw bytes of one token (may be part of a UTF-8 character); NULL for an unknown id. */
const char *engine_text_token(const struct engine_text *t, int32_t id, size_t *n);
bool engine_text_is_special(const struct engine_text *t, int32_t id);
/* -1: no such token. */
int32_t engine_text_token_id(const struct engine_text *t, const char *token);
int engine_text_vocab(const struct engine_text *t);

#endif
