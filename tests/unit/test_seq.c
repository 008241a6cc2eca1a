/* Where the adapters of a request begin to act, and what its pages are called then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/adapter/adapter.h"
#include "engine/sched/seq_adapters.h"

#define G      LIMIT_KV_PAGE_TOKENS
#define PROMPT (5 * G)

/* A sequence with these adapters, weight 1; its answer has room for a page. */
static struct seq *sequence(const int32_t *prompt, int count, struct adapter *const *adapters,
                            int adapter_count, const char *salt)
{
    struct engine_request r = {.prompt = prompt, .prompt_count = count, .cache_prompt = true};
    struct seq_setup setup = {.request = &r, .max_new = G, .prefix_cache = true};
    struct seq *s = NULL;
    assert_int_equal(seq_create(&setup, &s), STATUS_OK);
    for (int i = 0; i < adapter_count; i++) {
        s->set.parts[i] = adapters[i];
        s->set.weights[i] = 1.0f;
    }
    s->set.count = adapter_count;
    seq_adapters_place(s);
    seq_seed(s, salt);
    return s;
}

static void set_mark(struct adapter *a, const char *mark)
{
    a->facts.alora_token_count = (int)strlen(mark);
    for (int i = 0; mark[i]; i++)
        a->facts.alora_tokens[i] = mark[i];
}

static void test_seq_adapters_act_from_the_last_sequence_on(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *mark;
        int from;
    } cases[] = {
        {"abc", "", 0},
        {"abc", "a", 0},
        {"abc", "b", 1},
        {"abc", "c", 2},
        {"abc", "abc", 0},
        {"abc", "bc", 1},
        {"abc", "abcd", SEQ_NEVER},
        {"abc", "cd", SEQ_NEVER},
        {"abc", "x", SEQ_NEVER},
        {"a", "aa", SEQ_NEVER},
        {"ababab", "ab", 4},
        {"abababx", "ab", 4},
        {"aaaa", "aa", 2}, /* overlapping: the last one counts */
        {"abaaba ab", "aba", 3},
        {"abaababaab", "abaab", 5},
        {"aabaabaaab", "aabaab", 0},
        {"aabaaabaab", "aabaab", 4}, /* found after falling back by less than all */
        {"abcabcabd", "abcabd", 3},
        {"mark here mark", "mark", 10},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct adapter a = {.generation = 1};
        struct adapter *const one[] = {&a};
        int32_t prompt[PROMPT];
        int n = (int)strlen(cases[i].prompt);
        for (int k = 0; k < n; k++)
            prompt[k] = cases[i].prompt[k];
        set_mark(&a, cases[i].mark);
        struct seq *s = sequence(prompt, n, one, 1, NULL);
        if (s->adapters[0].from != cases[i].from)
            fail_msg("'%s' in '%s': from %d, expected %d", cases[i].mark, cases[i].prompt,
                     s->adapters[0].from, cases[i].from);
        seq_destroy(s);
    }
}

/* Those that act sooner come first; the set, by whose index loads are counted, goes along. */
static void test_seq_adapters_are_ordered_by_where_they_begin(void **state)
{
    (void)state;
    struct adapter a[4] = {
        {.generation = 1}, {.generation = 2}, {.generation = 3}, {.generation = 4}};
    struct adapter *const all[] = {&a[0], &a[1], &a[2], &a[3]};
    static const int want[] = {2, 4, 1, 3}, from[] = {0, 0, 5, SEQ_NEVER};
    int32_t prompt[8] = {0, 0, 0, 0, 0, 'x', 0, 0};
    set_mark(&a[0], "x");
    set_mark(&a[2], "y");
    struct seq *s = sequence(prompt, 8, all, 4, NULL);
    assert_int_equal(s->adapter_count, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(s->adapters[i].adapter->generation, want[i]);
        assert_int_equal(s->adapters[i].from, from[i]);
        assert_ptr_equal(s->set.parts[i], s->adapters[i].adapter);
    }
    seq_destroy(s);
}

/* Pages that two sequences share by name, from the first on. */
static int shared(const struct seq *a, const struct seq *b)
{
    int n = 0;
    while (n < a->key_count && n < b->key_count &&
           memcmp(&a->keys[n], &b->keys[n], sizeof a->keys[n]) == 0)
        n++;
    for (int i = n; i < a->key_count && i < b->key_count; i++)
        assert_memory_not_equal(&a->keys[i], &b->keys[i], sizeof a->keys[i]);
    return n;
}

static void expect_shared(const char *what, const struct seq *a, const struct seq *b, int pages)
{
    if (shared(a, b) != pages)
        fail_msg("%s: %d pages have one name, expected %d", what, shared(a, b), pages);
}

static void test_seq_pages_before_the_marker_are_the_bases(void **state)
{
    (void)state;
    struct adapter plain = {.generation = 1, .facts.sha256 = {1}};
    struct adapter marked = {.generation = 2, .facts.sha256 = {2}};
    struct adapter again = {.generation = 3, .facts.sha256 = {2}};
    struct adapter *const with_marked[] = {&marked}, *const with_again[] = {&again};
    struct adapter *const with_plain[] = {&plain}, *const blend[] = {&marked, &plain};
    set_mark(&marked, "m");
    set_mark(&again, "m");
    int32_t prompt[PROMPT];
    for (int at = -1; at < PROMPT; at++) {
        for (int i = 0; i < PROMPT; i++)
            prompt[i] = 1000 + i;
        if (at >= 0)
            prompt[at] = 'm';
        int page = at < 0 ? PROMPT / G : at / G;
        struct seq *base = sequence(prompt, PROMPT, NULL, 0, NULL);
        struct seq *salted = sequence(prompt, PROMPT, NULL, 0, "x");
        struct seq *p = sequence(prompt, PROMPT, with_plain, 1, NULL);
        struct seq *m = sequence(prompt, PROMPT, with_marked, 1, NULL);
        struct seq *m2 = sequence(prompt, PROMPT, with_marked, 1, NULL);
        struct seq *n = sequence(prompt, PROMPT, with_again, 1, NULL);
        struct seq *b = sequence(prompt, PROMPT, blend, 2, NULL);
        expect_shared("base and adapter", base, p, 0);
        expect_shared("base and activated", base, m, page);
        expect_shared("base with a salt and activated", salted, m, 0);
        expect_shared("the same", m, m2, PROMPT / G);
        expect_shared("two generations", m, n, page);
        expect_shared("adapter and activated", p, m, 0);
        expect_shared("adapter and blend", p, b, page);
        expect_shared("activated and blend", m, b, 0);
        struct seq *const all[] = {base, salted, p, m, m2, n, b};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            seq_destroy(all[i]);
    }
}

/* The same tokens, but in one of them the marker comes again: another page's rows are the base's.
 */
static void test_seq_pages_know_where_the_adapter_began(void **state)
{
    (void)state;
    struct adapter marked = {.generation = 2, .facts.sha256 = {2}};
    struct adapter *const with_marked[] = {&marked};
    int32_t once[PROMPT], twice[PROMPT];
    set_mark(&marked, "mm");
    for (int i = 0; i < PROMPT; i++)
        once[i] = twice[i] = 1000 + i;
    /* Pages 0 and 1 are the same tokens; the second has its marker one token later. */
    once[2 * G - 2] = once[2 * G - 1] = twice[2 * G - 2] = twice[2 * G - 1] = 'm';
    twice[2 * G] = 'm';
    struct seq *a = sequence(once, PROMPT, with_marked, 1, NULL);
    struct seq *b = sequence(twice, PROMPT, with_marked, 1, NULL);
    assert_int_equal(a->adapters[0].from, 2 * G - 2);
    assert_int_equal(b->adapters[0].from, 2 * G - 1);
    expect_shared("one token later", a, b, 1);
    seq_destroy(a);
    seq_destroy(b);
}

/* Pages of the answer are named after it too, also when the keys come one by one. */
static void test_seq_keys_go_on_into_the_answer(void **state)
{
    (void)state;
    struct adapter marked = {.generation = 2, .facts.sha256 = {2}};
    struct adapter *const with_marked[] = {&marked};
    int32_t prompt[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = 1000 + i;
    prompt[G + 3] = 'm';
    set_mark(&marked, "m");
    struct seq *whole = sequence(prompt, PROMPT, with_marked, 1, NULL);
    struct seq *s = sequence(prompt, PROMPT - G, with_marked, 1, NULL);
    for (int i = PROMPT - G; i < PROMPT; i++)
        s->tokens[s->count++] = prompt[i];
    seq_extend_keys(s, s->count);
    assert_int_equal(s->key_count, PROMPT / G);
    expect_shared("a prompt and an answer", whole, s, PROMPT / G);
    seq_destroy(whole);
    seq_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seq_adapters_act_from_the_last_sequence_on),
        cmocka_unit_test(test_seq_adapters_are_ordered_by_where_they_begin),
        cmocka_unit_test(test_seq_pages_before_the_marker_are_the_bases),
        cmocka_unit_test(test_seq_pages_know_where_the_adapter_began),
        cmocka_unit_test(test_seq_keys_go_on_into_the_answer),
    };
    return cmocka_run_group_tests_name("seq", tests, NULL, NULL);
}
