/* Streams against whole decodes over the tokenizers of tests/tokenizers/data, on random ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/utf8.h"
#include "engine/text/detokenize.h"
#include "engine/text/tokenizer.h"

#define ROUNDS  400
#define IDS_MAX 60

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* Pieces are whole characters, at most three bytes wait, and the pieces are the text. */
static void check_stream(const char *style, const struct tokenizer *t, const int32_t *ids,
                         size_t count, bool skip)
{
    struct strbuf whole;
    struct strbuf stream;
    struct detok d;
    struct err e;
    strbuf_init(&whole, 1u << 20);
    strbuf_init(&stream, 1u << 20);
    assert_int_equal(tokenizer_decode(t, ids, count, skip, &whole, &e), STATUS_OK);
    assert_true(utf8_is_valid(strbuf_str(&whole), whole.len));
    detok_init(&d, t, skip, NULL, 0);
    for (size_t i = 0; i < count; i++) {
        size_t before = stream.len;
        detok_push(&d, ids[i], &stream);
        assert_true(utf8_is_valid(strbuf_str(&stream) + before, stream.len - before));
        assert_in_range(d.held_len, 0, 3);
    }
    detok_flush(&d, &stream);
    assert_true(utf8_is_valid(strbuf_str(&stream), stream.len));
    /* Runs of byte tokens that are not UTF-8 as a whole are the exception of detokenize.h;
     * byte-level text has none. */
    bool exempt = tokenizer_id_of(t, "<0x0A>") >= 0 && strstr(strbuf_str(&whole), "\xEF\xBF\xBD");
    if (!exempt && strcmp(strbuf_str(&whole), strbuf_str(&stream)) != 0)
        fail_msg("%s: stream \"%s\", whole \"%s\"", style, strbuf_str(&stream), strbuf_str(&whole));
    strbuf_deinit(&whole);
    strbuf_deinit(&stream);
}

static void test_stream_is_whole(void **state)
{
    (void)state;
    static const char *const styles[] = {"llama2",      "mistral_v3",      "phi3",    "gemma",
                                         "nfkc_spm",    "spm_no_fallback", "llama3",  "qwen",
                                         "deepseek_v3", "deepseek_coder",  "gpt_oss", "tekken",
                                         "gpt2",        "gpt2_prefix",     "smollm"};
    for (size_t k = 0; k < sizeof styles / sizeof styles[0]; k++) {
        char dir[128];
        struct tokenizer *t;
        struct err e = {0};
        uint64_t seed = k + 1;
        snprintf(dir, sizeof dir, "tests/tokenizers/data/%s", styles[k]);
        if (tokenizer_open(dir, &t, &e) != STATUS_OK)
            fail_msg("%s", e.msg);
        for (int round = 0; round < ROUNDS; round++) {
            int32_t ids[IDS_MAX];
            size_t count = next_random(&seed) % IDS_MAX;
            for (size_t i = 0; i < count; i++)
                ids[i] = (int32_t)(next_random(&seed) % (tokenizer_vocab_size(t) + 2));
            check_stream(styles[k], t, ids, count, round & 1);
        }
        tokenizer_close(t);
    }
}

#define SPM                                                                                        \
    "{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"         \
    "{\"String\":\"\\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}," \
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},\"added_tokens\":"            \
    "[{\"content\":\"<s>\",\"special\":true}],\"model\":{\"vocab\":{\"<s>\":0,\"\\u2581a\":1,"     \
    "\"b\":2,\"<0xC3>\":3,\"<0xA9>\":4,\"<0xFF>\":5,\"\\u2581\":6},\"merges\":[]}}"

struct piece_case {
    int32_t ids[6];
    size_t count;
    size_t prompt; /* so many of the ids are a prompt */
    bool skip;
    const char *pieces; /* '|' behind each push and the flush */
};

static void test_pieces(void **state)
{
    (void)state;
    static const struct piece_case cases[] = {
        {{1, 2, 1}, 3, 0, true, "a|b| a||"},
        {{0, 1, 1}, 3, 0, true, "|a| a||"},
        {{0, 1}, 2, 0, false, "<s>| a||"},
        {{2, 1}, 2, 1, true, " a||"},
        {{6, 1}, 2, 0, true, "| a||"},
        {{1, 3, 4, 2}, 4, 0, true, "a||\xC3\xA9|b||"},
        {{1, 3, 2},
         3,
         0,
         true,
         "a||\xEF\xBF\xBD"
         "b||"},
        {{1, 3}, 2, 0, true, "a||\xEF\xBF\xBD|"},
        {{3, 3, 4}, 3, 0, true, "|\xEF\xBF\xBD|\xC3\xA9||"},
        {{5, 2, 99}, 3, 0, true, "\xEF\xBF\xBD|b|||"},
    };
    struct tokenizer *t;
    struct err e = {0};
    if (tokenizer_open_json(SPM, strlen(SPM), NULL, 0, &t, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const struct piece_case *c = &cases[k];
        struct strbuf out;
        struct detok d;
        strbuf_init(&out, 1024);
        detok_init(&d, t, c->skip, c->ids, c->prompt);
        for (size_t i = c->prompt; i < c->count; i++) {
            detok_push(&d, c->ids[i], &out);
            strbuf_putc(&out, '|');
        }
        detok_flush(&d, &out);
        strbuf_putc(&out, '|');
        if (strcmp(strbuf_str(&out), c->pieces) != 0)
            fail_msg("case %d: \"%s\" instead of \"%s\"", (int)k, strbuf_str(&out), c->pieces);
        strbuf_deinit(&out);
    }
    tokenizer_close(t);
}

#define BYTE_LEVEL                                                                                 \
    "{\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"vocab\":{\"\\u00e4\\u00b8\":0,"            \
    "\"\\u0143\":1,\"a\":2},\"merges\":[]}}"

/* One U+FFFD for the beginning of a character, not one for each byte: ids 0 and 1 are E4 B8 and AD.
 */
static void test_broken_bytes(void **state)
{
    (void)state;
    static const int32_t ids[] = {0, 2, 0, 1, 1, 0};
    struct tokenizer *t;
    struct strbuf out;
    struct err e = {0};
    if (tokenizer_open_json(BYTE_LEVEL, strlen(BYTE_LEVEL), NULL, 0, &t, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    strbuf_init(&out, 1024);
    assert_int_equal(tokenizer_decode(t, ids, 6, false, &out, &e), STATUS_OK);
    assert_string_equal(strbuf_str(&out), "\xEF\xBF\xBD"
                                          "a\xE4\xB8\xAD\xEF\xBF\xBD\xEF\xBF\xBD");
    strbuf_deinit(&out);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_is_whole),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_broken_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
