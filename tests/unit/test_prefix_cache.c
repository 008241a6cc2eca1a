#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/sched/prefix_cache.h"

#define G     LIMIT_KV_PAGE_TOKENS
#define PAGES 8

struct rig {
    struct kv_pool pool;
    struct prefix_cache cache;
};

static void rig_init(struct rig *r)
{
    assert_int_equal(kv_pool_init(&r->pool, PAGES), STATUS_OK);
    assert_int_equal(prefix_cache_init(&r->cache, &r->pool), STATUS_OK);
}

static void rig_deinit(struct rig *r)
{
    kv_pool_check(&r->pool);
    prefix_cache_deinit(&r->cache);
    kv_pool_deinit(&r->pool);
}

static void fill(int32_t *tokens, int count, int32_t first)
{
    for (int i = 0; i < count; i++)
        tokens[i] = first + i;
}

static void chain(const struct prefix_key *seed, const int32_t *tokens, int pages,
                  struct prefix_key *keys)
{
    for (int i = 0; i < pages; i++)
        prefix_next(i ? &keys[i - 1] : seed, tokens + i * G, &keys[i]);
}

/* Computes `pages` pages and leaves them in the cache, the last first. */
static void publish(struct rig *r, const struct prefix_key *keys, const int32_t *tokens, int pages,
                    int32_t *numbers)
{
    for (int i = 0; i < pages; i++) {
        numbers[i] = prefix_cache_page(&r->cache);
        assert_true(numbers[i] >= 0);
        prefix_cache_publish(&r->cache, numbers[i], &keys[i], tokens + i * G);
    }
    for (int i = pages - 1; i >= 0; i--)
        kv_pool_unref(&r->pool, numbers[i]);
}

static const uint8_t sha_a[SHA256_BYTES] = {1}, sha_b[SHA256_BYTES] = {2};

/* Everything that shapes the KV makes another seed; nothing else does. */
static void test_prefix_seed_tells_everything_apart(void **state)
{
    (void)state;
    const struct {
        const char *salt;
        struct prefix_identity adapters[2];
        int count;
    } cases[] = {
        {NULL, {{0}}, 0},
        {"", {{0}}, 0},
        {"x", {{0}}, 0},
        {"y", {{0}}, 0},
        {NULL, {{sha_a, 1, 1.0f, 0}}, 1},
        {NULL, {{sha_a, 2, 1.0f, 0}}, 1}, /* the same bytes, loaded again */
        {NULL, {{sha_b, 1, 1.0f, 0}}, 1},
        {NULL, {{sha_a, 1, 0.5f, 0}}, 1},
        {NULL, {{sha_a, 1, -1.0f, 0}}, 1},
        {"x", {{sha_a, 1, 1.0f, 0}}, 1},
        {NULL, {{sha_a, 1, 1.0f, 0}, {sha_b, 2, 1.0f, 0}}, 2},
        {NULL, {{sha_b, 2, 1.0f, 0}, {sha_a, 1, 1.0f, 0}}, 2},
        {NULL, {{sha_a, 1, 1.0f, 0}, {sha_b, 2, 0.5f, 0}}, 2},
    };
    enum { COUNT = sizeof cases / sizeof cases[0] };
    struct prefix_key seed[COUNT], again;
    for (int i = 0; i < COUNT; i++) {
        prefix_seed(cases[i].salt, cases[i].adapters, cases[i].count, &seed[i]);
        prefix_seed(cases[i].salt, cases[i].adapters, cases[i].count, &again);
        assert_memory_equal(&seed[i], &again, sizeof again);
        for (int k = 0; k < i; k++)
            if (memcmp(&seed[i], &seed[k], sizeof seed[i]) == 0)
                fail_msg("cases %d and %d have the same seed", k, i);
    }
}

/* Adapters that come into the chain at a page: all of them count, and where each begins. */
static void test_prefix_join_tells_everything_apart(void **state)
{
    (void)state;
    const struct {
        struct prefix_identity adapters[2];
        int count;
    } cases[] = {
        {{{sha_a, 1, 1.0f, 17}}, 1},
        {{{sha_a, 1, 1.0f, 18}}, 1},
        {{{sha_a, 2, 1.0f, 17}}, 1},
        {{{sha_b, 1, 1.0f, 17}}, 1},
        {{{sha_a, 1, 0.5f, 17}}, 1},
        {{{sha_a, 1, 1.0f, 17}, {sha_b, 2, 1.0f, 17}}, 2},
        {{{sha_b, 2, 1.0f, 17}, {sha_a, 1, 1.0f, 17}}, 2},
        {{{sha_a, 1, 1.0f, 17}, {sha_b, 2, 1.0f, 18}}, 2},
    };
    enum { COUNT = sizeof cases / sizeof cases[0] };
    struct prefix_key parent[2], joined[2 * COUNT + 2];
    prefix_seed(NULL, NULL, 0, &parent[0]);
    prefix_seed("x", NULL, 0, &parent[1]);
    joined[0] = parent[0];
    joined[1] = parent[1];
    for (int i = 2; i < 2 * COUNT + 2; i++) {
        prefix_join(&parent[i % 2], cases[i / 2 - 1].adapters, cases[i / 2 - 1].count, &joined[i]);
        for (int k = 0; k < i; k++)
            if (memcmp(&joined[i], &joined[k], sizeof joined[i]) == 0)
                fail_msg("cases %d and %d have the same key", k, i);
    }
}

static void test_prefix_cache_finds_the_longest_beginning(void **state)
{
    (void)state;
    struct rig r;
    struct prefix_key seed, keys[4], other_keys[4];
    int32_t tokens[4 * G], other[4 * G], numbers[4], found[4];
    int held;
    rig_init(&r);
    fill(tokens, 4 * G, 100);
    prefix_seed(NULL, NULL, 0, &seed);
    chain(&seed, tokens, 4, keys);
    publish(&r, keys, tokens, 3, numbers);

    assert_int_equal(prefix_cache_find(&r.cache, keys, tokens, 4, found, &held), 3);
    assert_memory_equal(found, numbers, 3 * sizeof *found);
    assert_int_equal(held, 0);
    assert_int_equal(prefix_cache_find(&r.cache, keys, tokens, 2, found, &held), 2);
    kv_pool_ref(&r.pool, numbers[0]);
    assert_int_equal(prefix_cache_find(&r.cache, keys, tokens, 3, found, &held), 3);
    assert_int_equal(held, 1);
    kv_pool_unref(&r.pool, numbers[0]);

    /* One token differs in the second page: the same third page is not the same place. */
    memcpy(other, tokens, sizeof other);
    other[G + 3]++;
    chain(&seed, other, 4, other_keys);
    assert_int_equal(prefix_cache_find(&r.cache, other_keys, other, 4, found, &held), 1);
    /* Another seed: nothing. */
    prefix_seed("x", NULL, 0, &seed);
    chain(&seed, tokens, 4, other_keys);
    assert_int_equal(prefix_cache_find(&r.cache, other_keys, tokens, 4, found, &held), 0);
    rig_deinit(&r);
}

/* Were two beginnings ever to share a key, the tokens still tell them apart. */
static void test_prefix_cache_compares_tokens_on_a_hit(void **state)
{
    (void)state;
    struct rig r;
    struct prefix_key seed, key;
    int32_t tokens[G], other[G], number, found;
    int held;
    rig_init(&r);
    fill(tokens, G, 1);
    fill(other, G, 2);
    prefix_seed(NULL, NULL, 0, &seed);
    chain(&seed, tokens, 1, &key);
    publish(&r, &key, tokens, 1, &number);
    assert_int_equal(prefix_cache_find(&r.cache, &key, other, 1, &found, &held), 0);
    assert_int_equal(prefix_cache_find(&r.cache, &key, tokens, 1, &found, &held), 1);
    rig_deinit(&r);
}

static void test_prefix_cache_gives_up_the_end_of_the_oldest_chain_first(void **state)
{
    (void)state;
    struct rig r;
    struct prefix_key seed, a[3], b[3];
    int32_t ta[3 * G], tb[3 * G], na[3], nb[3], found[3];
    int held;
    rig_init(&r);
    fill(ta, 3 * G, 0);
    fill(tb, 3 * G, 1000);
    prefix_seed(NULL, NULL, 0, &seed);
    chain(&seed, ta, 3, a);
    chain(&seed, tb, 3, b);
    publish(&r, a, ta, 3, na);
    publish(&r, b, tb, 3, nb);
    assert_int_equal(r.pool.free_count, 2);
    /* Two free pages, then a's from its end, then b's. */
    for (int i = 0; i < 3; i++)
        assert_true(prefix_cache_page(&r.cache) >= 0);
    assert_int_equal(prefix_cache_find(&r.cache, a, ta, 3, found, &held), 2);
    assert_int_equal(prefix_cache_find(&r.cache, b, tb, 3, found, &held), 3);
    assert_true(prefix_cache_page(&r.cache) == na[1]);
    assert_true(prefix_cache_page(&r.cache) == na[0]);
    assert_true(prefix_cache_page(&r.cache) == nb[2]);
    /* A chain that is in use is not touched. */
    kv_pool_ref(&r.pool, nb[0]);
    kv_pool_ref(&r.pool, nb[1]);
    assert_int_equal(prefix_cache_page(&r.cache), -1);
    assert_int_equal(prefix_cache_find(&r.cache, b, tb, 3, found, &held), 2);
    rig_deinit(&r);
}

static void test_prefix_cache_publishes_a_key_once(void **state)
{
    (void)state;
    struct rig r;
    struct prefix_key seed, key;
    int32_t tokens[G], found;
    int held;
    rig_init(&r);
    fill(tokens, G, 5);
    prefix_seed(NULL, NULL, 0, &seed);
    chain(&seed, tokens, 1, &key);
    int first = prefix_cache_page(&r.cache), second = prefix_cache_page(&r.cache);
    prefix_cache_publish(&r.cache, first, &key, tokens);
    prefix_cache_publish(&r.cache, second, &key, tokens);
    prefix_cache_publish(&r.cache, first, &key, tokens);
    assert_int_equal(prefix_cache_find(&r.cache, &key, tokens, 1, &found, &held), 1);
    assert_int_equal(found, first);
    kv_pool_unref(&r.pool, second);
    kv_pool_unref(&r.pool, first);
    assert_int_equal(r.pool.cached_count, 1);
    for (int i = 0; i < PAGES; i++)
        assert_true(prefix_cache_page(&r.cache) >= 0);
    assert_int_equal(prefix_cache_find(&r.cache, &key, tokens, 1, &found, &held), 0);
    rig_deinit(&r);
}

static void test_prefix_cache_init_without_memory(void **state)
{
    (void)state;
    struct kv_pool pool;
    struct prefix_cache cache;
    assert_int_equal(kv_pool_init(&pool, PAGES), STATUS_OK);
    for (int k = 1; k <= 4; k++) {
        mem_fail_at(k);
        assert_int_equal(prefix_cache_init(&cache, &pool), STATUS_NO_MEMORY);
    }
    mem_fail_at(0);
    kv_pool_deinit(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefix_seed_tells_everything_apart),
        cmocka_unit_test(test_prefix_join_tells_everything_apart),
        cmocka_unit_test(test_prefix_cache_finds_the_longest_beginning),
        cmocka_unit_test(test_prefix_cache_compares_tokens_on_a_hit),
        cmocka_unit_test(test_prefix_cache_gives_up_the_end_of_the_oldest_chain_first),
        cmocka_unit_test(test_prefix_cache_publishes_a_key_once),
        cmocka_unit_test(test_prefix_cache_init_without_memory),
    };
    return cmocka_run_group_tests_name("prefix_cache", tests, NULL, NULL);
}
