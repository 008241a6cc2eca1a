#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "server/fair.h"

static void enter(struct fair *f, const char *client, struct fair_item *items, int count)
{
    struct err e;
    for (int i = 0; i < count; i++)
        assert_int_equal(fair_enter(f, client, &items[i], &e), STATUS_OK);
}

/* Seats as many as may; returns how many. */
static int seat(struct fair *f)
{
    int n = 0;
    while (fair_next(f))
        n++;
    return n;
}

/* LOAD-2: beside somebody's 200 requests a client with one at a time is always seated at once. */
static void test_fair_one_beside_many(void **state)
{
    (void)state;
    struct fair f = {.seats = 16, .reserve = 2, .queue_max = 256};
    static struct fair_item many[200];
    struct fair_item one = {0};
    memset(many, 0, sizeof many);
    enter(&f, "many", many, 200);
    assert_int_equal(seat(&f), 16); /* the reserve is not for who has seats */
    for (int i = 0; i < 50; i++) {
        enter(&f, "one", &one, 1);
        assert_ptr_equal(fair_next(&f), &one);
        assert_null(fair_next(&f));
        fair_leave(&f, &one);
        assert_int_equal(seat(&f), 0); /* its seat was of the reserve */
    }
    for (int i = 0; i < 200; i++) {
        assert_int_equal(many[i].place, FAIR_SEATED); /* in order of arrival */
        fair_leave(&f, &many[i]);
        seat(&f);
    }
    assert_null(f.clients);
    assert_int_equal(f.seated + f.waiting, 0);
}

/* Smaller ones come first in their own client's line, equal ones in order of arrival; another
 * client's do not count. */
static void test_fair_priorities(void **state)
{
    (void)state;
    struct fair f = {.seats = 1, .queue_max = 100};
    static const int priorities[] = {0, 5, -1, 5, 0, INT32_MIN, INT32_MAX, -1};
    static const int order[] = {0, 5, 2, 7, 4, 1, 3, 6}; /* the first is seated at once */
    struct fair_item items[8] = {0}, other = {.priority = INT32_MAX};
    struct err e;
    for (int i = 0; i < 8; i++) {
        items[i].priority = priorities[i];
        assert_int_equal(fair_enter(&f, "a", &items[i], &e), STATUS_OK);
        if (i == 0)
            assert_ptr_equal(fair_next(&f), &items[0]);
    }
    assert_int_equal(fair_enter(&f, "b", &other, &e), STATUS_OK);
    fair_leave(&f, &items[0]);
    assert_ptr_equal(fair_next(&f), &items[order[1]]);
    fair_leave(&f, &items[order[1]]);
    fair_leave(&f, &items[order[4]]); /* out of the middle, and to the end again */
    items[order[4]].priority = INT32_MAX;
    assert_int_equal(fair_enter(&f, "a", &items[order[4]], &e), STATUS_OK);
    static const int rest[] = {2, 7, 1, 3, 6, 4};
    bool other_came = false;
    for (int i = 0; i < 7; i++) {
        struct fair_item *next = fair_next(&f);
        assert_non_null(next);
        if (next == &other)
            other_came = true;
        else
            assert_ptr_equal(next, &items[rest[i - other_came]]);
        fair_leave(&f, next);
    }
    assert_true(other_came);
    assert_null(fair_next(&f));
    assert_null(f.clients);
}

/* A free seat goes to the client with the fewest; among equals to who came first. */
static void test_fair_shares(void **state)
{
    (void)state;
    struct fair f = {.seats = 6, .queue_max = 100};
    struct fair_item a[20] = {0};
    struct fair_item b[20] = {0};
    struct fair_item c[2] = {0};
    enter(&f, "a", a, 20);
    assert_int_equal(seat(&f), 6);
    enter(&f, "b", b, 20);
    assert_int_equal(seat(&f), 0); /* no reserve: wait for a seat */
    for (int i = 0; i < 3; i++) {
        fair_leave(&f, &a[i]);
        assert_ptr_equal(fair_next(&f), &b[i]);
    }
    fair_leave(&f, &a[3]); /* two of a, three of b */
    assert_ptr_equal(fair_next(&f), &a[6]);
    enter(&f, "c", c, 2);
    fair_leave(&f, &b[0]);
    assert_ptr_equal(fair_next(&f), &c[0]);
    fair_leave(&f, &a[4]); /* two of a, two of b, one of c */
    assert_ptr_equal(fair_next(&f), &c[1]);
    fair_leave(&f, &c[1]);
    assert_ptr_equal(fair_next(&f), &a[7]); /* a's first in line came before b's */
    for (int i = 0; i < 20; i++) {
        fair_leave(&f, &a[i]);
        fair_leave(&f, &b[i]);
    }
    fair_leave(&f, &c[0]);
    assert_null(f.clients);
}

static void test_fair_line_is_full(void **state)
{
    (void)state;
    struct fair f = {.seats = 2, .reserve = 1, .queue_max = 3};
    struct fair_item a[6] = {0};
    struct fair_item b[4] = {0};
    struct err e;
    enter(&f, "a", a, 2);
    assert_int_equal(seat(&f), 2);
    enter(&f, "a", a + 2, 3);
    assert_int_equal(fair_enter(&f, "a", &a[5], &e), STATUS_BUSY);
    assert_int_equal(a[5].place, FAIR_NOWHERE);
    enter(&f, "b", b, 1); /* has a line of its own, and the reserve */
    assert_int_equal(seat(&f), 1);
    enter(&f, "b", b + 1, 3);
    fair_leave(&f, &a[3]); /* gave up in the middle of the line */
    enter(&f, "a", &a[5], 1);
    fair_leave(&f, &b[0]);
    assert_ptr_equal(fair_next(&f), &b[1]); /* b had none again: the reserve is its own */
    fair_leave(&f, &a[0]);
    assert_null(fair_next(&f)); /* b sits in the reserve until the others are back to two */
    fair_leave(&f, &a[1]);
    assert_ptr_equal(fair_next(&f), &a[2]);
    for (int i = 0; i < 6; i++)
        fair_leave(&f, &a[i]);
    for (int i = 0; i < 4; i++)
        fair_leave(&f, &b[i]);
    assert_null(f.clients);
    mem_fail_at(1);
    assert_int_equal(fair_enter(&f, "a", &a[0], &e), STATUS_NO_MEMORY);
    mem_fail_at(0);
    assert_int_equal(f.waiting, 0);
}

/* Any history: counts add up, nobody is seated beyond the bounds, a seat that is free for somebody
 * who waits does not stay free. */
static void test_fair_histories(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "c", "d"};
    unsigned seed = 7;
    for (int run = 0; run < 200; run++) {
        struct fair f = {.seats = run % 5, .reserve = run % 3, .queue_max = 8};
        struct fair_item items[64] = {0};
        for (int step = 0; step < 500; step++) {
            struct fair_item *it = &items[rand_r(&seed) % 64];
            struct err e;
            if (it->place == FAIR_NOWHERE)
                (void)!fair_enter(&f, names[rand_r(&seed) % 4], it, &e);
            else
                fair_leave(&f, it);
            if (rand_r(&seed) % 2)
                seat(&f);
            int seated = 0, waiting = 0;
            for (int i = 0; i < 64; i++) {
                seated += items[i].place == FAIR_SEATED;
                waiting += items[i].place == FAIR_WAITS;
            }
            assert_int_equal(seated, f.seated);
            assert_int_equal(waiting, f.waiting);
            assert_true(f.seats == 0 || seated <= f.seats + f.reserve);
            seat(&f);
            assert_true(f.waiting == 0 || (f.seats > 0 && f.seated >= f.seats));
        }
        for (int i = 0; i < 64; i++)
            fair_leave(&f, &items[i]);
        assert_null(f.clients);
        fair_deinit(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fair_one_beside_many), cmocka_unit_test(test_fair_priorities),
        cmocka_unit_test(test_fair_shares),          cmocka_unit_test(test_fair_line_is_full),
        cmocka_unit_test(test_fair_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
