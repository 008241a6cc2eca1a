/* Opening, encoding and what is refused, on tokenizers of a few tokens. Equality with the library
 * is tests/tokenizers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <pthread.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/text/tokenizer.h"

#define ADDED                                                                                      \
    "\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true,\"normalized\":false},"      \
    "{\"id\":1,\"content\":\"</s>\",\"special\":true,\"normalized\":true},"                        \
    "{\"id\":12,\"content\":\"<t>\",\"special\":false,\"normalized\":false},"                      \
    "{\"id\":13,\"content\":\"<s><s>\",\"special\":true,\"normalized\":false}]"
#define VOCAB                                                                                      \
    "\"vocab\":{\"<s>\":0,\"</s>\":1,\"\\u0120\":2,\"a\":3,\"b\":4,\"<\":5,\"s\":6,\">\":7,"       \
    "\"/\":8,\"ab\":9,\"\\u0120a\":10,\"t\":11}"
#define MERGES "\"merges\":[[\"a\",\"b\"],[\"\\u0120\",\"a\"]]"
#define MODEL  "\"model\":{\"type\":\"BPE\"," VOCAB "," MERGES "}"
#define SPLIT                                                                                      \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\" ?\\\\p{L}+|[^\\\\s]+|\\\\s+\"},"                \
    "\"behavior\":\"Isolated\"}"
#define BYTES   "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define PRE     "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[" SPLIT "," BYTES "]}"
#define DECODER "\"decoder\":{\"type\":\"ByteLevel\"}"
#define POST                                                                                       \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"           \
    "{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[0]}}}"
#define NORMALIZER "\"normalizer\":{\"type\":\"NFC\"}"
#define SMALL      "{" ADDED "," NORMALIZER "," PRE "," POST "," DECODER "," MODEL "}"

static const char config[] = "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\","
                             "\"pad_token\":null,\"add_eos_token\":true}";

static struct tokenizer *open_small(const char *config_text)
{
    struct tokenizer *t = NULL;
    struct err e = {0};
    if (tokenizer_open_json(SMALL, strlen(SMALL), config_text,
                            config_text ? strlen(config_text) : 0, &t, &e) != STATUS_OK)
        fail_msg("refused: %s", e.msg);
    return t;
}

static void check_ids(const char *what, const struct token_buf *ids, const char *wanted)
{
    char got[256] = "";
    size_t len = 0;
    for (size_t i = 0; i < ids->count && len + 16 < sizeof got; i++)
        len += (size_t)snprintf(got + len, sizeof got - len, i ? " %d" : "%d", ids->ids[i]);
    if (strcmp(got, wanted) != 0)
        fail_msg("%s: \"%s\" instead of \"%s\"", what, got, wanted);
}

struct encode_case {
    const char *text;
    const char *marks; /* 'x' is a byte from a message; NULL: none */
    unsigned flags;
    const char *ids;
};

static void test_encode(void **state)
{
    (void)state;
    const unsigned parse = ENCODE_PARSE_SPECIAL;
    const struct encode_case cases[] = {
        {"", NULL, parse, ""},
        {"", NULL, ENCODE_ADD_SPECIAL, "0 1"},
        {"ab", NULL, parse, "9"},
        {"ab ab", NULL, parse | ENCODE_ADD_SPECIAL, "0 9 2 9 1"},
        {"<s>ab</s>", NULL, parse, "0 9 1"},
        {"<s>ab", NULL, 0, "5 6 7 9"},
        {"<s><s>", "xxx...", parse, "5 6 7 0"},
        {"<s><s>", ".x....", parse, "5 6 7 0"},
        {"<s><s>", "...xxx", parse, "0 5 6 7"},
        {"<s><s>", NULL, parse, "13"},
        {"<s><t>", "xxxxxx", parse, "5 6 7 12"},
        {"a</s>", ".xxxx", parse, "3 5 8 6 7"},
        {"a</s>", "....x", parse, "3 5 8 6 7"},
        {"a</s>", "x....", parse, "3 1"},
    };
    struct tokenizer *t = open_small(config);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const struct encode_case *c = &cases[k];
        uint8_t marks[64] = {0};
        struct token_buf ids = {0};
        struct err e = {0};
        for (size_t i = 0; c->marks && c->marks[i]; i++)
            marks[i] = c->marks[i] == 'x';
        assert_int_equal(tokenizer_encode(t, c->text, strlen(c->text), c->marks ? marks : NULL,
                                          c->flags, &ids, &e),
                         STATUS_OK);
        check_ids(c->text, &ids, c->ids);
        token_buf_deinit(&ids);
    }
    tokenizer_close(t);
}

static void test_encode_refuses_invalid_utf8(void **state)
{
    (void)state;
    struct tokenizer *t = open_small(NULL);
    static const char *const bad[] = {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80",
                                      "\xf4\x90\x80\x80"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        struct token_buf ids = {0};
        struct err e = {0};
        assert_true(token_buf_push(&ids, 7));
        assert_int_equal(tokenizer_encode(t, bad[k], strlen(bad[k]), NULL, 0, &ids, &e),
                         STATUS_INVALID);
        check_ids(bad[k], &ids, "7");
        token_buf_deinit(&ids);
    }
    tokenizer_close(t);
}

static void test_names_and_bytes(void **state)
{
    (void)state;
    struct tokenizer *t = open_small(config);
    size_t n = 0;
    assert_string_equal(tokenizer_bos_token(t), "<s>");
    assert_string_equal(tokenizer_eos_token(t), "</s>");
    assert_null(tokenizer_pad_token(t));
    assert_null(tokenizer_unk_token(t));
    assert_int_equal(tokenizer_bos_id(t), 0);
    assert_int_equal(tokenizer_eos_id(t), 1);
    assert_int_equal(tokenizer_vocab_size(t), 14);
    assert_int_equal(tokenizer_id_of(t, "<t>"), 12);
    assert_int_equal(tokenizer_id_of(t, "nothing"), -1);
    assert_true(tokenizer_is_special(t, 0));
    assert_false(tokenizer_is_special(t, 12));
    assert_false(tokenizer_is_special(t, -1));
    assert_memory_equal(tokenizer_token_bytes(t, 10, &n), " a", 2);
    assert_int_equal(n, 2);
    assert_memory_equal(tokenizer_token_content(t, 10, &n),
                        "\xC4\xA0"
                        "a",
                        3);
    assert_null(tokenizer_token_bytes(t, 14, &n));
    assert_null(tokenizer_token_bytes(t, -1, &n));
    tokenizer_close(t);
}

/* The config decides over a template, which puts <s> in front. */
static void test_bos_and_eos_by_config(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        const char *ids;
    } cases[] = {
        {"{\"bos_token\":\"<s>\"}", "0 9"},
        {"{\"bos_token\":\"<s>\",\"add_bos_token\":true}", "0 9"},
        {"{\"bos_token\":\"<s>\",\"add_bos_token\":false}", "9"},
        {"{\"bos_token\":null,\"add_bos_token\":false}", "0 9"},
        {"{\"eos_token\":\"</s>\",\"add_eos_token\":true}", "0 9 1"},
        {"{\"eos_token\":\"</s>\",\"add_eos_token\":false}", "0 9"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct tokenizer *t = open_small(cases[k].config);
        struct token_buf ids = {0};
        struct err e = {0};
        assert_int_equal(tokenizer_encode(t, "ab", 2, NULL, ENCODE_ADD_SPECIAL, &ids, &e),
                         STATUS_OK);
        check_ids(cases[k].config, &ids, cases[k].ids);
        token_buf_deinit(&ids);
        tokenizer_close(t);
    }
}

struct bad_case {
    const char *json;
    enum status status;
    const char *why;
};

static void test_refused_by_name(void **state)
{
    (void)state;
    static const struct bad_case cases[] = {
        {"", STATUS_BAD_FILE, "tokenizer.json"},
        {"{", STATUS_BAD_FILE, "tokenizer.json"},
        {"{}", STATUS_BAD_FILE, "model"},
        {"{\"model\":{\"type\":\"Unigram\"}}", STATUS_UNSUPPORTED, "Unigram"},
        {"{\"model\":{\"vocab\":{}}}", STATUS_BAD_FILE, "merges"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", STATUS_UNSUPPORTED,
         "dropout"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
         STATUS_UNSUPPORTED, "end_of_word_suffix"},
        {"{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", STATUS_BAD_FILE, "id 0"},
        {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", STATUS_BAD_FILE, "whole number"},
        {"{\"model\":{\"vocab\":{\"a\":4194304},\"merges\":[]}}", STATUS_LIMIT, "4194304"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", STATUS_BAD_FILE, "\"b\""},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", STATUS_BAD_FILE, "\"aa\""},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", STATUS_BAD_FILE, "two tokens"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}}", STATUS_BAD_FILE,
         "unk_token"},
        {"{\"normalizer\":{\"type\":\"Nmt\"}," MODEL "}", STATUS_UNSUPPORTED, "Nmt"},
        {"{\"normalizer\":{}," MODEL "}", STATUS_BAD_FILE, "normalizer"},
        {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL "}", STATUS_UNSUPPORTED,
         "UnicodeScripts"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},"
         "\"behavior\":\"Isolated\"}," MODEL "}",
         STATUS_UNSUPPORTED, "&&"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},"
         "\"behavior\":\"Isolated\"}," MODEL "}",
         STATUS_BAD_FILE, "missing ')'"},
        {"{\"post_processor\":{\"type\":\"BertProcessing\"}," MODEL "}", STATUS_UNSUPPORTED,
         "BertProcessing"},
        {"{\"decoder\":{\"type\":\"WordPiece\"}," MODEL "}", STATUS_UNSUPPORTED, "WordPiece"},
        {"{\"added_tokens\":[{\"content\":\"a\",\"special\":true}]," MODEL "}", STATUS_UNSUPPORTED,
         "\"a\""},
        {"{\"added_tokens\":[{\"id\":3}]," MODEL "}", STATUS_BAD_FILE, "without content"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct tokenizer *t = NULL;
        struct err e = {0};
        enum status st = tokenizer_open_json(cases[k].json, strlen(cases[k].json), NULL, 0, &t, &e);
        if (st != cases[k].status || !strstr(e.msg, cases[k].why))
            fail_msg("%s: status %d, \"%s\"; wanted %d, \"%s\"", cases[k].json, st, e.msg,
                     cases[k].status, cases[k].why);
        assert_null(t);
    }
}

/* Open, encode and decode, with the k-th allocation failing. */
static enum status whole_round(size_t *count, struct err *e)
{
    static const char text[] =
        "<s>ab ab e\xCC\x81</s> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaa";
    struct tokenizer *t = NULL;
    struct token_buf ids = {0};
    struct strbuf back;
    strbuf_init(&back, 4096);
    enum status st = tokenizer_open_json(SMALL, strlen(SMALL), config, strlen(config), &t, e);
    if (st == STATUS_OK)
        st = tokenizer_encode(t, text, strlen(text), NULL,
                              ENCODE_ADD_SPECIAL | ENCODE_PARSE_SPECIAL, &ids, e);
    if (st == STATUS_OK)
        st = tokenizer_decode(t, ids.ids, ids.count, false, &back, e);
    *count = st == STATUS_OK ? ids.count * 1000 + back.len : 0;
    strbuf_deinit(&back);
    token_buf_deinit(&ids);
    tokenizer_close(t);
    return st;
}

/* Only the JIT can do without its memory: the pattern is then interpreted. */
static void test_allocation_failure(void **state)
{
    (void)state;
    struct err e;
    uint64_t before = mem_alloc_count();
    size_t wanted;
    assert_int_equal(whole_round(&wanted, &e), STATUS_OK);
    uint64_t count = mem_alloc_count() - before;
    uint64_t survived = 0;
    assert_true(count > 20);
    for (uint64_t k = 1; k <= count; k++) {
        mem_fail_at((int64_t)k);
        size_t got;
        enum status st = whole_round(&got, &e);
        mem_fail_at(0);
        survived += st == STATUS_OK;
        if (st != STATUS_NO_MEMORY && (st != STATUS_OK || got != wanted))
            fail_msg("allocation %d of %d failed: status %d", (int)k, (int)count, st);
    }
    assert_in_range(survived, 0, count / 4);
}

struct worker {
    const struct tokenizer *t;
    const struct token_buf *wanted;
    const char *text;
    size_t n;
    bool same;
};

static void *encode_often(void *arg)
{
    struct worker *w = arg;
    w->same = true;
    for (int k = 0; k < 50; k++) {
        struct token_buf ids = {0};
        struct err e;
        if (tokenizer_encode(w->t, w->text, w->n, NULL, ENCODE_PARSE_SPECIAL, &ids, &e) !=
                STATUS_OK ||
            ids.count != w->wanted->count ||
            memcmp(ids.ids, w->wanted->ids, ids.count * sizeof *ids.ids) != 0)
            w->same = false;
        token_buf_deinit(&ids);
    }
    return NULL;
}

static void test_threads_share_one(void **state)
{
    (void)state;
    char text[6000];
    struct tokenizer *t = open_small(NULL);
    struct token_buf wanted = {0};
    struct err e;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "ab ba<s>t"[i * 7 % 9];
    assert_int_equal(
        tokenizer_encode(t, text, sizeof text, NULL, ENCODE_PARSE_SPECIAL, &wanted, &e), STATUS_OK);
    pthread_t threads[4];
    struct worker workers[4];
    for (int k = 0; k < 4; k++) {
        workers[k] = (struct worker){t, &wanted, text, sizeof text, false};
        assert_int_equal(pthread_create(&threads[k], NULL, encode_often, &workers[k]), 0);
    }
    for (int k = 0; k < 4; k++) {
        pthread_join(threads[k], NULL);
        assert_true(workers[k].same);
    }
    token_buf_deinit(&wanted);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_encode_refuses_invalid_utf8),
        cmocka_unit_test(test_names_and_bytes),
        cmocka_unit_test(test_bos_and_eos_by_config),
        cmocka_unit_test(test_refused_by_name),
        cmocka_unit_test(test_allocation_failure),
        cmocka_unit_test(test_threads_share_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
