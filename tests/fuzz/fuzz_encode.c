/* Texts through three small tokenizers: byte-level, SentencePiece-style and one with a normalizer.
 * Byte-level without a normalizer decodes to the text itself; ids exist; marked text yields no
 * special token; the ids are those of a slow merger that looks at every pair in every round; a
 * stream of the ids in odd order gives whole characters.
 *
 * Input: one byte that picks tokenizer and flags, then the text.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/strbuf.h"
#include "engine/base/utf8.h"
#include "engine/text/byte_chars.h"
#include "engine/text/detokenize.h"
#include "engine/text/tokenizer.h"

static const char *const merges[][2] = {
    {"a", "b"},   {"ab", "a"},    {"b", "a"}, {"e", "r"},       {"t", "h"},
    {"th", "e"},  {"ab", "ab"},   {"1", "2"}, {"abab", "abab"}, {"SP", "SP"},
    {"SP", "th"}, {"SP", "the"},  {"a", "a"}, {"aa", "aa"},     {"aaaa", "aaaa"},
    {"er", "er"}, {"SPSP", "SP"}, {"|", ">"}, {"<", "|"},       {"X", "|>"},
};
#define MERGE_COUNT (sizeof merges / sizeof merges[0])

/* The spelling of a space differs between the kinds. */
static void put_spelled(struct strbuf *out, const char *s, const char *space)
{
    while (*s) {
        if (strncmp(s, "SP", 2) == 0) {
            strbuf_puts(out, space);
            s += 2;
        } else {
            strbuf_putc(out, *s++);
        }
    }
}

static void put_vocab(struct strbuf *out, bool byte_level, const char *space)
{
    int id = 0;
    strbuf_puts(out, "{");
    for (unsigned b = 0; b < 256; b++) {
        char c[5] = "";
        if (byte_level)
            c[utf8_encode(byte_chars_of((uint8_t)b), c)] = '\0';
        strbuf_puts(out, id ? "," : "");
        if (byte_level)
            strbuf_json_string(out, c, strlen(c));
        else
            strbuf_printf(out, "\"<0x%02X>\"", b);
        strbuf_printf(out, ":%d", id++);
    }
    for (char c = ' ' + 1; !byte_level && c < 0x7F; c++) {
        strbuf_puts(out, ",");
        strbuf_json_string(out, &c, 1);
        strbuf_printf(out, ":%d", id++);
    }
    if (!byte_level)
        strbuf_printf(out, ",\"%s\":%d,\"\xC3\xA9\":%d", space, id, id + 1);
    id += byte_level ? 0 : 2;
    for (size_t k = 0; k < MERGE_COUNT; k++) {
        strbuf_puts(out, ",\"");
        put_spelled(out, merges[k][0], space);
        put_spelled(out, merges[k][1], space);
        strbuf_printf(out, "\":%d", id++);
    }
    strbuf_puts(out, "}");
}

static struct tokenizer *make(bool byte_level, bool nfc)
{
    static const char added[] =
        "[{\"id\":0,\"content\":\"<|x|>\",\"special\":true,\"normalized\":false},"
        "{\"id\":0,\"content\":\"<s>\",\"special\":true,\"normalized\":true,\"rstrip\":true},"
        "{\"id\":0,\"content\":\"<t>\",\"special\":false,\"normalized\":false}]";
    const char *space = byte_level ? "\xC4\xA0" : "\xE2\x96\x81";
    struct strbuf j;
    strbuf_init(&j, 1u << 20);
    strbuf_printf(&j, "{\"added_tokens\":%s,\"normalizer\":", added);
    if (nfc)
        strbuf_puts(&j, "{\"type\":\"NFC\"}");
    else if (byte_level)
        strbuf_puts(&j, "null");
    else
        strbuf_puts(&j, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
                        "\"content\":\"\xE2\x96\x81\"}");
    strbuf_printf(&j, ",\"pre_tokenizer\":%s,\"decoder\":%s,\"model\":{\"vocab\":",
                  byte_level ? "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}" : "null",
                  byte_level ? "{\"type\":\"ByteLevel\"}"
                             : "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
                               "\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},"
                               "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}");
    put_vocab(&j, byte_level, space);
    strbuf_printf(&j, ",\"byte_fallback\":%s,\"merges\":[", byte_level ? "false" : "true");
    for (size_t k = 0; k < MERGE_COUNT; k++) {
        strbuf_puts(&j, k ? ",[\"" : "[\"");
        put_spelled(&j, merges[k][0], space);
        strbuf_puts(&j, "\",\"");
        put_spelled(&j, merges[k][1], space);
        strbuf_puts(&j, "\"]");
    }
    strbuf_puts(&j, "]}}");
    struct tokenizer *t = NULL;
    struct err e = {0};
    CHECK(tokenizer_open_json(strbuf_str(&j), j.len, NULL, 0, &t, &e) == STATUS_OK);
    strbuf_deinit(&j);
    return t;
}

/* SentencePiece-style ids of a text without added tokens, by the definition. */
static void slow_ids(const struct tokenizer *t, const char *s, size_t n, struct token_buf *out)
{
    for (size_t i = 0; i < n;) {
        size_t len = utf8_valid_len(s + i, n - i);
        char c[8] = "";
        memcpy(c, s[i] == ' ' ? "\xE2\x96\x81" : s + i, s[i] == ' ' ? 3 : len);
        int32_t id = tokenizer_id_of(t, c);
        for (size_t k = 0; id < 0 && k < len; k++)
            CHECK(token_buf_push(out, (uint8_t)s[i + k]));
        CHECK(id < 0 || token_buf_push(out, id));
        i += len;
    }
    for (size_t m = 0; m < MERGE_COUNT;) {
        struct strbuf spelled[2];
        int32_t pair[2];
        int32_t merged = (int32_t)(256 + 94 + 2 + m);
        for (int k = 0; k < 2; k++) {
            strbuf_init(&spelled[k], 256);
            put_spelled(&spelled[k], merges[m][k], "\xE2\x96\x81");
            pair[k] = tokenizer_id_of(t, strbuf_str(&spelled[k]));
            strbuf_deinit(&spelled[k]);
        }
        size_t i = 0;
        while (i + 1 < out->count && (out->ids[i] != pair[0] || out->ids[i + 1] != pair[1]))
            i++;
        if (i + 1 >= out->count) {
            m++;
            continue;
        }
        out->ids[i] = merged;
        memmove(&out->ids[i + 1], &out->ids[i + 2], (out->count - i - 2) * sizeof *out->ids);
        out->count--;
        m = 0; /* a merge may make room for an earlier one */
    }
}

static void check_stream(const struct tokenizer *t, const struct token_buf *ids, unsigned step)
{
    struct detok d;
    struct strbuf out;
    strbuf_init(&out, 1u << 24);
    detok_init(&d, t, step & 1, NULL, 0);
    for (size_t i = 0; i < ids->count; i++) {
        size_t before = out.len;
        detok_push(&d, ids->ids[i * (step * 2 + 1) % ids->count], &out);
        CHECK(utf8_is_valid(strbuf_str(&out) + before, out.len - before));
        CHECK(d.held_len < 4);
    }
    detok_flush(&d, &out);
    CHECK(utf8_is_valid(strbuf_str(&out), out.len));
    strbuf_deinit(&out);
}

static bool has_added(const char *s, size_t n)
{
    return memmem(s, n, "<|x|>", 5) || memmem(s, n, "<s>", 3) || memmem(s, n, "<t>", 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct tokenizer *made[3];
    if (!made[0]) {
        made[0] = make(true, false);
        made[1] = make(false, false);
        made[2] = make(true, true);
    }
    if (n == 0)
        return 0;
    unsigned pick = data[0] % 3;
    bool marked = data[0] & 64;
    unsigned flags = data[0] >> 6 & ENCODE_PARSE_SPECIAL;
    const struct tokenizer *t = made[pick];
    const char *text = (const char *)data + 1;
    n--;
    uint8_t *marks = malloc(n + 1);
    CHECK(marks);
    memset(marks, 1, n + 1);
    struct token_buf ids = {0};
    struct strbuf back;
    struct err e;
    strbuf_init(&back, 1u << 24);
    enum status st = tokenizer_encode(t, text, n, marked ? marks : NULL, flags, &ids, &e);
    CHECK(st == (utf8_is_valid(text, n) ? STATUS_OK : STATUS_INVALID));
    if (st == STATUS_OK) {
        for (size_t i = 0; i < ids.count; i++) {
            size_t len;
            CHECK(tokenizer_token_bytes(t, ids.ids[i], &len));
            CHECK(!(marked || !flags) || !tokenizer_is_special(t, ids.ids[i]));
        }
        CHECK(tokenizer_decode(t, ids.ids, ids.count, false, &back, &e) == STATUS_OK);
        /* Not NFC, and not a <s> that took the white space behind it. */
        if (pick < 2 && !memmem(text, n, "<s>", 3) && !memmem(text, n, "\xE2\x96\x81", 3))
            CHECK(back.len == n && memcmp(strbuf_str(&back), text, n) == 0);
        if (pick == 1 && n < 400 && !has_added(text, n)) {
            struct token_buf slow = {0};
            slow_ids(t, text, n, &slow);
            CHECK(slow.count == ids.count);
            CHECK(!slow.count || !memcmp(slow.ids, ids.ids, slow.count * sizeof *slow.ids));
            token_buf_deinit(&slow);
        }
        check_stream(t, &ids, data[0]);
    }
    strbuf_deinit(&back);
    token_buf_deinit(&ids);
    free(marks);
    return 0;
}
