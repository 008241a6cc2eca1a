/* tokenizer: text to token ids and back, from a Hugging Face tokenizer.json.
 *
 * Byte-level BPE (GPT-2, Llama 3, Qwen, gpt-oss) and SentencePiece-style BPE (Llama 2, Gemma,
 * Mistral). Ids equal those of the `tokenizers` library. What the file asks for and is not
 * supported is refused by name when the file is opened.
 *
 * A tokenizer does not change after it was opened: any number of threads may use one at the same
 * time. All strings that are lent live as long as the tokenizer.
 */
#ifndef CHORUS_TEXT_TOKENIZER_H
#define CHORUS_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"
#include "engine/base/token_buf.h"

struct tokenizer;

enum encode_flag {
    ENCODE_ADD_SPECIAL = 1,  /* what the post-processor adds: bos and the like */
    ENCODE_PARSE_SPECIAL = 2 /* special tokens written out in the text become their ids */
};

/* Reads dir/tokenizer.json and, where there is one, dir/tokenizer_config.json. STATUS_NOT_FOUND
 * (no tokenizer.json), STATUS_IO, STATUS_BAD_FILE (message names the part), STATUS_UNSUPPORTED
 * (message names the type), STATUS_LIMIT, STATUS_NO_MEMORY. Free with tokenizer_close. */
WARN_UNUSED enum status tokenizer_open(const char *dir, struct tokenizer **out, struct err *e);
/* The same from memory. `config` is the text of a tokenizer_config.json, NULL for none. */
WARN_UNUSED enum status tokenizer_open_json(const char *json, size_t n, const char *config,
                                            size_t config_n, struct tokenizer **out, struct err *e);
/* NULL is allowed. */
void tokenizer_close(struct tokenizer *t);

/* Appends the ids of text[0, n) to `out`; on failure `out` keeps its old count.
 *
 * `from_input` is NULL or n bytes, of which 1 marks a byte that came from a message: no special
 * token is matched over a range that holds such a byte, and text that holds one never yields a
 * special token except the unknown token. Other added tokens match everywhere. Without
 * ENCODE_PARSE_SPECIAL all text is taken as if it were marked.
 *
 * STATUS_INVALID (text is not UTF-8), STATUS_LIMIT (longer than LIMIT_ENCODE_BYTES, or a pattern
 * of the file needs too many steps), STATUS_NO_MEMORY. */
WARN_UNUSED enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                                         const uint8_t *from_input, unsigned flags,
                                         struct token_buf *out, struct err *e);

/* Appends the text of ids to `out`, as the library's decode does: always valid UTF-8. Ids that do
 * not exist are skipped. STATUS_NO_MEMORY also stands for a full `out`. */
WARN_UNUSED enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids,
                                         size_t count, bool skip_special, struct strbuf *out,
                                         struct err *e);

/* The bytes that one token stands for in running text; need not be UTF-8 by themselves. NULL if
 * there is no such id. */
const char *tokenizer_token_bytes(const struct tokenizer *t, int32_t id, size_t *n);
/* The token as the file spells it ("\u2581the", "<0x0A>"); NULL if there is no such id. */
const char *tokenizer_token_content(const struct tokenizer *t, int32_t id, size_t *n);
/* Added to the vocabulary with special = true. */
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);
/* By the file's spelling; -1 if there is none. */
int32_t tokenizer_id_of(const struct tokenizer *t, const char *content);
/* The highest id plus one; ids below it need not all exist. */
size_t tokenizer_vocab_size(const struct tokenizer *t);

/* From tokenizer_config.json; NULL or -1 where it names none. */
const char *tokenizer_bos_token(const struct tokenizer *t);
const char *tokenizer_eos_token(const struct tokenizer *t);
const char *tokenizer_unk_token(const struct tokenizer *t);
const char *tokenizer_pad_token(const struct tokenizer *t);
int32_t tokenizer_bos_id(const struct tokenizer *t);
int32_t tokenizer_eos_id(const struct tokenizer *t);

#endif
