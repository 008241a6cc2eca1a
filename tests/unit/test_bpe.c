/* Merging against a slow merger that does what the definition says, on random vocabularies: words
 * of all lengths, so that the scan, the heap and the exact cuts all meet it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/text/bpe.h"

#define LETTERS   4
#define MERGES    40
#define TOKEN_MAX 24

struct model {
    struct vocab vocab;
    struct bpe bpe;
    int32_t pairs[MERGES][3]; /* left, right, merged, by rank */
    size_t count;
};

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void add_token(struct model *m, const char *s, size_t n)
{
    struct err e = {0};
    if (vocab_find(&m->vocab, s, n) < 0)
        assert_int_equal(vocab_add(&m->vocab, s, n, (uint32_t)m->vocab.id_count, VOCAB_MODEL, &e),
                         STATUS_OK);
}

static bool has_pair(const struct model *m, int32_t left, int32_t right)
{
    for (size_t k = 0; k < m->count; k++) {
        if (m->pairs[k][0] == left && m->pairs[k][1] == right)
            return true;
    }
    return false;
}

static void make_model(struct model *m, uint64_t *seed)
{
    struct err e = {0};
    memset(m, 0, sizeof *m);
    vocab_init(&m->vocab);
    for (size_t k = 0; k < LETTERS; k++)
        add_token(m, &"abcd"[k], 1);
    for (int tries = 0; tries < 400 && m->count < MERGES; tries++) {
        int32_t left = (int32_t)(next_random(seed) % m->vocab.id_count);
        int32_t right = (int32_t)(next_random(seed) % m->vocab.id_count);
        size_t ln;
        size_t rn;
        const char *l = vocab_text(&m->vocab, left, &ln);
        const char *r = vocab_text(&m->vocab, right, &rn);
        char joined[TOKEN_MAX * 2];
        if (ln + rn > TOKEN_MAX || has_pair(m, left, right))
            continue;
        memcpy(joined, l, ln);
        memcpy(joined + ln, r, rn);
        add_token(m, joined, ln + rn);
        m->pairs[m->count][0] = left;
        m->pairs[m->count][1] = right;
        m->pairs[m->count++][2] = vocab_find(&m->vocab, joined, ln + rn);
    }
    bpe_init(&m->bpe, &m->vocab);
    assert_int_equal(bpe_prepare(&m->bpe, m->count, &e), STATUS_OK);
    for (size_t k = 0; k < m->count; k++)
        assert_int_equal(bpe_add_merge(&m->bpe, m->pairs[k][0], m->pairs[k][1], (uint32_t)k, &e),
                         STATUS_OK);
    assert_int_equal(bpe_finish(&m->bpe, &e), STATUS_OK);
}

static size_t merge_slowly(const struct model *m, int32_t *ids, size_t n)
{
    for (size_t k = 0; k < m->count;) {
        size_t i = 0;
        while (i + 1 < n && (ids[i] != m->pairs[k][0] || ids[i + 1] != m->pairs[k][1]))
            i++;
        if (i + 1 >= n) {
            k++;
            continue;
        }
        ids[i] = m->pairs[k][2];
        memmove(&ids[i + 1], &ids[i + 2], (n - i - 2) * sizeof *ids);
        n--;
        k = 0; /* the merged token may complete an earlier pair */
    }
    return n;
}

static void test_equals_slow_merger(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 23, 24, 47, 48, 49, 50, 300};
    uint64_t seed = 7;
    for (int round = 0; round < 60; round++) {
        struct model *m = mem_alloc(1, sizeof *m);
        struct bpe_scratch scratch;
        assert_non_null(m);
        make_model(m, &seed);
        bpe_scratch_init(&scratch);
        for (int w = 0; w < 60; w++) {
            char word[300];
            int32_t slow[300];
            struct token_buf ids = {0};
            size_t n = lengths[(size_t)w % (sizeof lengths / sizeof lengths[0])];
            uint32_t letters = 1 + next_random(&seed) % LETTERS;
            if (w == 30)
                bpe_scratch_use_cache(&scratch);
            for (size_t i = 0; i < n; i++) {
                slow[i] = (int32_t)(next_random(&seed) % letters);
                word[i] = "abcd"[slow[i]];
            }
            size_t count = merge_slowly(m, slow, n);
            for (int again = 0; again < 2; again++) {
                ids.count = 0;
                assert_int_equal(bpe_encode(&m->bpe, &scratch, word, n, false, &ids), STATUS_OK);
                if (ids.count != count || memcmp(ids.ids, slow, count * sizeof *slow) != 0)
                    fail_msg("round %d, word \"%.*s\": %d ids instead of %d", round, (int)n, word,
                             (int)ids.count, (int)count);
            }
            token_buf_deinit(&ids);
        }
        bpe_scratch_deinit(&scratch);
        bpe_deinit(&m->bpe);
        vocab_deinit(&m->vocab);
        mem_free(m);
    }
}

/* A merge that yields a special token is barred for plain text, and only there. */
static void test_plain_text_yields_no_special(void **state)
{
    (void)state;
    struct model m = {0};
    struct bpe_scratch scratch;
    struct err e = {0};
    struct token_buf ids = {0};
    vocab_init(&m.vocab);
    add_token(&m, "a", 1);
    add_token(&m, "b", 1);
    add_token(&m, "ab", 2);
    bpe_init(&m.bpe, &m.vocab);
    assert_int_equal(bpe_prepare(&m.bpe, 1, &e), STATUS_OK);
    assert_int_equal(bpe_add_merge(&m.bpe, 0, 1, 0, &e), STATUS_OK);
    m.vocab.flags[2] |= VOCAB_SPECIAL;
    assert_int_equal(bpe_finish(&m.bpe, &e), STATUS_OK);
    bpe_scratch_init(&scratch);
    bpe_scratch_use_cache(&scratch);
    assert_int_equal(bpe_encode(&m.bpe, &scratch, "ab", 2, false, &ids), STATUS_OK);
    assert_int_equal(ids.count, 1);
    ids.count = 0;
    assert_int_equal(bpe_encode(&m.bpe, &scratch, "ab", 2, true, &ids), STATUS_OK);
    assert_int_equal(ids.count, 2);
    token_buf_deinit(&ids);
    bpe_scratch_deinit(&scratch);
    bpe_deinit(&m.bpe);
    vocab_deinit(&m.vocab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_slow_merger),
        cmocka_unit_test(test_plain_text_yields_no_special),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
