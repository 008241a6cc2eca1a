#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/utf8.h"
#include "engine/sched/outbox.h"

static void test_outbox_keeps_order_through_the_ring(void **state)
{
    (void)state;
    struct arena a;
    struct outbox o;
    struct engine_event ev;
    int pushed = 0, popped = 0;
    arena_init(&a, 1 << 20);
    assert_int_equal(outbox_init(&o, &a, 2), STATUS_OK);
    srand(3);
    while (popped < 1000) {
        for (int n = rand() % 40; n > 0 && outbox_room(&o) > 0; n--, pushed++) {
            struct sample_result r = {.token = pushed, .logprob = (float)-pushed, .top_count = 2};
            r.top[1].token = pushed + 7;
            outbox_push_token(&o, ENGINE_EVENT_TOKEN, &r, true, "x", 1);
        }
        for (int n = rand() % 40; n > 0 && outbox_pop(&o, &ev); n--, popped++) {
            assert_int_equal(ev.token, popped);
            assert_true(ev.logprob == (float)-popped);
            assert_int_equal(ev.top_count, 2);
            assert_int_equal(ev.top[1].token, popped + 7);
        }
        assert_int_equal(o.count, pushed - popped);
    }
    arena_deinit(&a);
}

static void test_outbox_has_a_place_for_the_end(void **state)
{
    (void)state;
    struct arena a;
    struct outbox o;
    struct engine_event ev;
    struct sample_result r = {.token = 1};
    struct engine_usage usage = {.prompt_tokens = 3, .completion_tokens = 63};
    struct err err = {.code = STATUS_LIMIT, .msg = "why"};
    int count = 0;
    arena_init(&a, 1 << 20);
    assert_int_equal(outbox_init(&o, &a, 0), STATUS_OK);
    for (; outbox_room(&o) > 0; count++)
        outbox_push_token(&o, ENGINE_EVENT_TOKEN, &r, false, NULL, 0);
    assert_int_equal(count, LIMIT_OUTBOX_EVENTS - 1);
    outbox_push_end(&o, ENGINE_EVENT_ERROR, ENGINE_FINISH_STOP, &usage, &err);
    assert_true(o.ended);
    for (; count > 0; count--) {
        assert_true(outbox_pop(&o, &ev));
        assert_int_equal(ev.kind, ENGINE_EVENT_TOKEN);
        assert_false(ev.has_logprob);
    }
    assert_true(outbox_pop(&o, &ev));
    assert_int_equal(ev.kind, ENGINE_EVENT_ERROR);
    assert_int_equal(ev.usage.completion_tokens, 63);
    assert_string_equal(ev.err.msg, "why");
    assert_false(outbox_pop(&o, &ev));
    arena_deinit(&a);
}

/* Text of any length comes out whole, in whole characters, in as many events as were promised. */
static void test_outbox_cuts_text_between_characters(void **state)
{
    (void)state;
    static const char *const chars[] = {"a", "é", "€", "😀"};
    static char text[6000];
    srand(5);
    for (int round = 0; round < 300; round++) {
        struct arena a;
        struct outbox o;
        struct engine_event ev;
        size_t len = 0, want = (size_t)(rand() % 5000), at = 0;
        int events = 0;
        while (len < want) {
            const char *c = chars[round % 5 == 4 ? rand() % 4 : round % 5];
            memcpy(text + len, c, strlen(c));
            len += strlen(c);
        }
        arena_init(&a, 1 << 20);
        assert_int_equal(outbox_init(&o, &a, 0), STATUS_OK);
        struct sample_result r = {.token = 9};
        outbox_push_token(&o, ENGINE_EVENT_TOKEN, &r, false, text, len);
        for (; outbox_pop(&o, &ev); events++) {
            assert_int_equal(ev.kind, events == 0 ? ENGINE_EVENT_TOKEN : ENGINE_EVENT_TEXT);
            assert_true(utf8_is_valid(ev.text, (size_t)ev.text_len));
            assert_memory_equal(ev.text, text + at, (size_t)ev.text_len);
            at += (size_t)ev.text_len;
        }
        assert_int_equal(at, len);
        assert_in_range(events, 1, outbox_events_for(len));
        arena_deinit(&a);
    }
}

static void test_outbox_events_for(void **state)
{
    (void)state;
    assert_int_equal(outbox_events_for(0), 1);
    assert_int_equal(outbox_events_for(1), 1);
    assert_int_equal(outbox_events_for(LIMIT_EVENT_TEXT - 3), 1);
    assert_int_equal(outbox_events_for(LIMIT_EVENT_TEXT - 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outbox_keeps_order_through_the_ring),
        cmocka_unit_test(test_outbox_has_a_place_for_the_end),
        cmocka_unit_test(test_outbox_cuts_text_between_characters),
        cmocka_unit_test(test_outbox_events_for),
    };
    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
