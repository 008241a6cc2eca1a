#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/status.h"
#include "engine/base/utf8.h"

#define EURO "\xe2\x82\xac"
#define GRIN "\xf0\x9f\x98\x80"

/* Precision counts bytes, so it may stop inside a character anywhere in the message. */
static void test_err_set_is_text_at_every_precision(void **state)
{
    (void)state;
    static const char name[] = "a" EURO "b" GRIN "\xc3\xa9" GRIN EURO;
    for (int cut = 0; cut <= (int)strlen(name); cut++) {
        struct err e = {0};
        assert_int_equal(
            err_set(&e, STATUS_INVALID, name, "'%.*s' and '%.*s' end", cut, name, cut, name),
            STATUS_INVALID);
        assert_true(utf8_is_valid(e.msg, strlen(e.msg)));
        assert_non_null(strstr(e.msg, "' end"));
        if (utf8_is_valid(name, (size_t)cut))
            assert_int_equal(strlen(e.msg), strlen("'' and '' end") + 2 * (size_t)cut);
        assert_int_equal(err_prefix(&e, "%.*s", cut, name), STATUS_INVALID);
        assert_true(utf8_is_valid(e.msg, strlen(e.msg)));
        assert_non_null(strstr(e.msg, ": '"));
    }
}

static void test_err_set_cuts_long_messages_between_characters(void **state)
{
    (void)state;
    char longer[2 * ERR_MSG_MAX];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(longer, 'x', shift);
        size_t n = shift;
        for (; n + 5 < sizeof longer; n += 4)
            memcpy(longer + n, GRIN, 4);
        longer[n] = '\0';
        struct err e = {0};
        err_set(&e, STATUS_INVALID, longer, "%s", longer);
        assert_true(utf8_is_valid(e.msg, strlen(e.msg)));
        assert_true(utf8_is_valid(e.param, strlen(e.param)));
        assert_true(strlen(e.msg) > ERR_MSG_MAX - 6);
        err_prefix(&e, "%s", longer);
        assert_true(utf8_is_valid(e.msg, strlen(e.msg)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err_set_is_text_at_every_precision),
        cmocka_unit_test(test_err_set_cuts_long_messages_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
