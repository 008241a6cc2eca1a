/* The arena against a memory of its own in which every page knows whose it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "cuda/lora_arena.h"
#include "tests/unit/cpu_fixture.h"

#define PAGES 700
#define SLOTS 24

struct world {
    struct lora_arena arena;
    size_t at[SLOTS]; /* page; SIZE_MAX: not there */
    size_t pages[SLOTS];
    uint32_t memory[PAGES]; /* slot and page number within the adapter */
    int moves;
};

static uint32_t stamp(int slot, size_t page)
{
    return (uint32_t)slot << 16 | (uint32_t)page;
}

static void check_world(const struct world *w, uint64_t seed, int step)
{
    size_t used = 0, begin = 0;
    int there = 0;
    for (int s = 0; s < SLOTS; s++) {
        if (w->at[s] == SIZE_MAX)
            continue;
        there++;
        used += w->pages[s];
        for (size_t p = 0; p < w->pages[s]; p++) {
            if (w->memory[w->at[s] + p] != stamp(s, p))
                fail_msg("seed %llu, step %d: page %zu of slot %d holds %x",
                         (unsigned long long)seed, step, p, s, w->memory[w->at[s] + p]);
        }
    }
    assert_int_equal(w->arena.count, there);
    assert_int_equal(w->arena.used, used * LORA_ARENA_ALIGN);
    for (int i = 0; i < w->arena.count; i++) {
        assert_true(w->arena.extents[i].offset >= begin);
        assert_int_equal(w->arena.extents[i].offset,
                         w->at[w->arena.extents[i].slot] * LORA_ARENA_ALIGN);
        begin = w->arena.extents[i].offset + w->arena.extents[i].bytes;
    }
    assert_true(begin <= w->arena.bytes);
}

static void place(struct world *w, int slot, size_t bytes, uint64_t seed, int step)
{
    struct lora_move moves[LIMIT_ADAPTER_SLOTS];
    size_t offset, cost = lora_arena_cost(bytes);
    int count = -1;
    bool fits = cost <= lora_arena_free_bytes(&w->arena);
    assert_true(cost >= bytes && cost - bytes < LORA_ARENA_ALIGN);
    enum status st = lora_arena_place(&w->arena, slot, bytes, &offset, moves, &count);
    if ((st == STATUS_OK) != fits)
        fail_msg("seed %llu, step %d: %s for %zu of %zu free bytes", (unsigned long long)seed, step,
                 status_code(st), cost, lora_arena_free_bytes(&w->arena));
    if (!fits)
        return;
    for (int i = 0; i < count; i++) {
        const struct lora_move *m = &moves[i];
        assert_true(m->to < m->from);
        assert_int_equal(m->from, w->at[m->slot] * LORA_ARENA_ALIGN);
        assert_int_equal(m->bytes, w->pages[m->slot] * LORA_ARENA_ALIGN);
        memmove(&w->memory[m->to / LORA_ARENA_ALIGN], &w->memory[m->from / LORA_ARENA_ALIGN],
                w->pages[m->slot] * sizeof w->memory[0]);
        w->at[m->slot] = m->to / LORA_ARENA_ALIGN;
    }
    w->moves += count;
    assert_int_equal(offset % LORA_ARENA_ALIGN, 0);
    w->at[slot] = offset / LORA_ARENA_ALIGN;
    w->pages[slot] = cost / LORA_ARENA_ALIGN;
    for (size_t p = 0; p < w->pages[slot]; p++)
        w->memory[w->at[slot] + p] = stamp(slot, p);
}

static void drop(struct world *w, int slot)
{
    lora_arena_drop(&w->arena, slot);
    w->at[slot] = SIZE_MAX;
}

static void init_world(struct world *w)
{
    memset(w, 0, sizeof *w);
    memset(w->at, 0xff, sizeof w->at);
    lora_arena_init(&w->arena, PAGES * LORA_ARENA_ALIGN + 5);
    assert_int_equal(w->arena.bytes, PAGES * LORA_ARENA_ALIGN);
}

static void test_lora_arena_gives_whenever_free_bytes_suffice(void **state)
{
    (void)state;
    int moves = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fixture_rng r = {seed};
        struct world w;
        init_world(&w);
        for (int step = 0; step < 500; step++) {
            int slot = fixture_below(&r, SLOTS);
            int most = fixture_below(&r, 3) ? 40 : 300;
            if (w.at[slot] != SIZE_MAX)
                drop(&w, slot);
            else
                place(&w, slot, 1 + (size_t)fixture_below(&r, most * LORA_ARENA_ALIGN), seed, step);
            check_world(&w, seed, step);
        }
        moves += w.moves;
    }
    assert_true(moves > 0); /* else the hard part was not met */
}

/* The last byte can be used, whatever the holes look like. */
static void test_lora_arena_fills_to_the_last_page(void **state)
{
    (void)state;
    struct world w;
    init_world(&w);
    for (int s = 0; s < 20; s++)
        place(&w, s, PAGES / 20 * LORA_ARENA_ALIGN, 0, s);
    assert_int_equal(lora_arena_free_bytes(&w.arena), 0);
    for (int s = 0; s < 20; s += 2)
        drop(&w, s);
    place(&w, 20, 10 * (PAGES / 20) * LORA_ARENA_ALIGN, 0, 20);
    check_world(&w, 0, 21);
    assert_int_equal(lora_arena_free_bytes(&w.arena), 0);
    size_t offset;
    struct lora_move moves[LIMIT_ADAPTER_SLOTS];
    int count;
    assert_int_equal(lora_arena_place(&w.arena, 21, 1, &offset, moves, &count), STATUS_NO_MEMORY);
    check_world(&w, 0, 22);
}

static void test_lora_arena_never_moves_equal_sizes(void **state)
{
    (void)state;
    struct fixture_rng r = {7};
    struct world w;
    init_world(&w);
    for (int step = 0; step < 3000; step++) {
        int slot = fixture_below(&r, SLOTS);
        if (w.at[slot] != SIZE_MAX)
            drop(&w, slot);
        else
            place(&w, slot, 50 * LORA_ARENA_ALIGN - 100, 7, step);
    }
    check_world(&w, 7, 0);
    assert_int_equal(w.moves, 0);
}

static void test_lora_arena_absurd_size_is_refused(void **state)
{
    (void)state;
    struct world w;
    init_world(&w);
    size_t offset;
    struct lora_move moves[LIMIT_ADAPTER_SLOTS];
    int count;
    assert_int_equal(lora_arena_place(&w.arena, 0, SIZE_MAX - 3, &offset, moves, &count),
                     STATUS_NO_MEMORY);
    lora_arena_drop(&w.arena, 0);
    assert_int_equal(w.arena.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora_arena_gives_whenever_free_bytes_suffice),
        cmocka_unit_test(test_lora_arena_fills_to_the_last_page),
        cmocka_unit_test(test_lora_arena_never_moves_equal_sizes),
        cmocka_unit_test(test_lora_arena_absurd_size_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
