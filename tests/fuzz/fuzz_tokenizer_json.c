/* tokenizer.json and tokenizer_config.json: what opens must work. Ids are in range and exist, text
 * that came from a message yields no special token, decoding gives UTF-8, and a stream gives the
 * same text wherever no byte had to be replaced.
 *
 * Input: the tokenizer.json; behind a zero byte, if there is one, the tokenizer_config.json.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/detokenize.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tokenizer_parts.h"

static const char *const texts[] = {
    "",
    "Hello, world! It's 2024.",
    "  a\xC3\xA9\xCC\x81 \xE4\xBD\xA0\xE5\xA5\xBD\n\t<s> ab<|x|>",
    "\xF0\x9F\x98\x80\xEF\xBC\xA1\xE1\x84\x92\xE1\x85\xA1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static void check_ids(const struct tokenizer *t, const struct token_buf *ids, bool plain)
{
    for (size_t i = 0; i < ids->count; i++) {
        size_t n;
        CHECK(ids->ids[i] >= 0 && (size_t)ids->ids[i] < tokenizer_vocab_size(t));
        CHECK(tokenizer_token_bytes(t, ids->ids[i], &n));
        CHECK(!plain || !tokenizer_is_special(t, ids->ids[i]) || ids->ids[i] == t->bpe.unk_id);
    }
}

static void check_decode(const struct tokenizer *t, const struct token_buf *ids)
{
    for (int skip = 0; skip < 2; skip++) {
        struct strbuf whole;
        struct strbuf stream;
        struct err e;
        struct detok d;
        strbuf_init(&whole, 1u << 24);
        strbuf_init(&stream, 1u << 24);
        detok_init(&d, t, skip, NULL, 0);
        enum status st = tokenizer_decode(t, ids->ids, ids->count, skip, &whole, &e);
        for (size_t i = 0; i < ids->count; i++)
            detok_push(&d, ids->ids[i], &stream);
        detok_flush(&d, &stream);
        if (st == STATUS_OK) {
            CHECK(utf8_is_valid(strbuf_str(&whole), whole.len));
            CHECK(utf8_is_valid(strbuf_str(&stream), stream.len));
            CHECK(strstr(strbuf_str(&whole), "\xEF\xBF\xBD") ||
                  (whole.len == stream.len &&
                   memcmp(strbuf_str(&whole), strbuf_str(&stream), whole.len) == 0));
        }
        strbuf_deinit(&whole);
        strbuf_deinit(&stream);
    }
}

static void check_text(const struct tokenizer *t, const char *text)
{
    uint8_t marks[128];
    size_t n = strlen(text);
    memset(marks, 1, sizeof marks);
    for (unsigned flags = 0; flags < 4; flags++) {
        for (int plain = 0; plain < 2; plain++) {
            struct token_buf ids = {0};
            struct err e;
            enum status st = tokenizer_encode(t, text, n, plain ? marks : NULL, flags, &ids, &e);
            CHECK(st == STATUS_OK || st == STATUS_LIMIT || st == STATUS_NO_MEMORY);
            if (st == STATUS_OK) {
                bool no_special =
                    (plain || !(flags & ENCODE_PARSE_SPECIAL)) && !(flags & ENCODE_ADD_SPECIAL);
                check_ids(t, &ids, no_special);
                check_decode(t, &ids);
            }
            token_buf_deinit(&ids);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *json = (const char *)data;
    const char *zero = n ? memchr(json, '\0', n) : NULL;
    size_t json_n = zero ? (size_t)(zero - json) : n;
    struct tokenizer *t;
    struct err e = {0};
    enum status st = tokenizer_open_json(json, json_n, zero ? zero + 1 : NULL,
                                         zero ? n - json_n - 1 : 0, &t, &e);
    if (st != STATUS_OK) {
        CHECK(st == STATUS_BAD_FILE || st == STATUS_UNSUPPORTED || st == STATUS_LIMIT ||
              st == STATUS_NO_MEMORY);
        CHECK(e.code == st && e.msg[0]);
        return 0;
    }
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
        check_text(t, texts[k]);
    tokenizer_close(t);
    return 0;
}
