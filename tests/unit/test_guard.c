#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "server/api_key.h"
#include "server/guard.h"
#include "server/ident.h"
#include "server/routes.h"

static void test_guard_table(void **state)
{
    (void)state;
    static const char *const hosts[] = {"chorus.lan", "box:8080"};
    static const char *const origins[] = {"https://app.example"};
    const struct guard local = {true, hosts, 2, origins, 1};
    const struct guard open = {false, NULL, 0, NULL, 0};
    const struct {
        const struct guard *g;
        struct guard_request r;
        int status;
        bool named;
    } cases[] = {
        {&local, {"GET", "localhost", NULL, 0, NULL, NULL, NULL}, 0, false},
        {&local, {"GET", "LocalHost:99", NULL, 0, NULL, NULL, NULL}, 0, false},
        {&local, {"GET", "[::1]:1", NULL, 0, NULL, NULL, NULL}, 0, false},
        {&local, {"GET", "chorus.LAN:3", NULL, 0, NULL, NULL, NULL}, 0, false},
        {&local, {"GET", "box:8080", NULL, 0, NULL, NULL, NULL}, 0, false},
        {&local, {"GET", "box:8081", NULL, 0, NULL, NULL, NULL}, 403, false},
        {&local, {"GET", "localhost.evil", NULL, 0, NULL, NULL, NULL}, 403, false},
        {&local, {"GET", "127.0.0.10", NULL, 0, NULL, NULL, NULL}, 403, false},
        {&open, {"GET", "anything", NULL, 0, NULL, NULL, NULL}, 0, false},
        {&open, {"GET", "a", "http://a", 1, NULL, NULL, NULL}, 403, false},
        {&local, {"POST", "localhost:8", "http://localhost:8", 1, NULL, NULL, NULL}, 0, false},
        {&local, {"POST", "localhost:8", "http://localhost:9", 1, NULL, NULL, NULL}, 403, false},
        {&local, {"POST", "localhost:8", "https://localhost:8", 1, NULL, NULL, NULL}, 403, false},
        {&local, {"POST", "localhost", "https://app.example", 1, NULL, NULL, NULL}, 0, true},
        {&local, {"POST", "localhost", "https://app.example/", 1, NULL, NULL, NULL}, 403, false},
        {&local, {"POST", "evil", "https://app.example", 1, NULL, NULL, NULL}, 403, false},
        {&local, {"POST", "localhost", "null", 1, NULL, NULL, NULL}, 403, false},
        {&local, {"POST", "localhost", "https://app.example", 2, NULL, NULL, NULL}, 400, false},
        {&local, {"GET", "localhost", NULL, 0, "cross-site", "no-cors", "image"}, 403, false},
        {&local, {"GET", "localhost", NULL, 0, "cross-site", "navigate", "document"}, 0, false},
        {&local, {"POST", "localhost", NULL, 0, "cross-site", "navigate", "document"}, 403, false},
        {&local, {"GET", "localhost", NULL, 0, "same-origin", "cors", "empty"}, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        const char *named = NULL;
        int got = guard_check(cases[i].g, &cases[i].r, &named, &e);
        if (got != cases[i].status || (named != NULL) != cases[i].named)
            fail_msg("case %zu (Host %s, Origin %s): %d, expected %d", i, cases[i].r.host,
                     cases[i].r.origin ? cases[i].r.origin : "-", got, cases[i].status);
    }
}

static void test_guard_json(void **state)
{
    (void)state;
    assert_true(guard_is_json("application/json"));
    assert_true(guard_is_json("APPLICATION/json;charset=x"));
    assert_true(guard_is_json("application/json \t; x"));
    assert_false(guard_is_json(NULL));
    assert_false(guard_is_json(""));
    assert_false(guard_is_json("application/jsonx"));
    assert_false(guard_is_json("application/json text/plain"));
    assert_false(guard_is_json(" application/json"));
}

static enum status load_keys(const char *text, struct api_keys *k, struct err *e)
{
    char path[] = "/tmp/chorus-keys-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    enum status st = api_key_load(path, k, e);
    unlink(path);
    return st;
}

static void test_api_key_allows(void **state)
{
    (void)state;
    struct api_keys none = {0};
    assert_true(api_key_allows(&none, NULL));
    struct api_keys k;
    struct err e;
    assert_int_equal(load_keys("# c\r\n one \n\ntwo", &k, &e), STATUS_OK);
    assert_int_equal(k.count, 2);
    assert_true(api_key_allows(&k, api_key_of("Bearer one", NULL)));
    assert_true(api_key_allows(&k, api_key_of("BEARER two", "bad")));
    static const char *const bad[] = {
        NULL,  "",          "Bearer",    "Bearer ", "Bearer One", "Bearer one ", "Bearer onetwo",
        "one", "Token one", "Bearer # c"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (api_key_allows(&k, api_key_of(bad[i], NULL)))
            fail_msg("allowed: %s", bad[i] ? bad[i] : "(none)");
    }
    assert_true(api_key_allows(&k, api_key_of(NULL, "one")));
    assert_false(api_key_allows(&k, api_key_of(NULL, "Bearer one")));
    assert_false(api_key_allows(&k, api_key_of("Bearer three", "one"))); /* Authorization decides */
    assert_false(api_key_allows(&k, api_key_of("one", "one")));
    /* Digests are compared whole: among so many some begin with the bytes of a good one. */
    for (int i = 0; i < 20000; i++) {
        char other[32];
        snprintf(other, sizeof other, "key-%d", i);
        if (api_key_allows(&k, other))
            fail_msg("allowed: %s", other);
    }
    api_key_free(&k);
}

static void test_api_key_files(void **state)
{
    (void)state;
    struct api_keys k;
    struct err e;
    assert_int_equal(load_keys("\n# x\n", &k, &e), STATUS_INVALID);
    assert_int_equal(load_keys("a\tb\n", &k, &e), STATUS_INVALID);
    assert_int_equal(api_key_load("/nowhere/keys", &k, &e), STATUS_IO);
    char *many = mem_alloc(LIMIT_API_KEYS + 1, 8);
    size_t n = 0;
    for (int i = 0; i <= LIMIT_API_KEYS; i++)
        n += (size_t)snprintf(many + n, 8, "k%d\n", i);
    assert_int_equal(load_keys(many, &k, &e), STATUS_LIMIT);
    mem_free(many);
}

static void test_ident(void **state)
{
    (void)state;
    char a[IDENT_BYTES];
    char b[IDENT_BYTES];
    ident_make("chatcmpl-", a);
    ident_make("chatcmpl-", b);
    assert_int_equal(strlen(a), 9 + 24);
    assert_string_not_equal(a, b);
    assert_true(ident_is_request_id("Az0._:-"));
    assert_false(ident_is_request_id(""));
    assert_false(ident_is_request_id("a b"));
    assert_false(ident_is_request_id("a\n"));
    assert_true(ident_derive(5, 0) == 5);
    for (int i = 1; i < 16; i++) {
        for (int k = 0; k < i; k++)
            assert_true(ident_derive(5, i) != ident_derive(5, k));
    }
}

/* Every route is private but those named here; no path is served twice. */
static void test_routes(void **state)
{
    (void)state;
    const struct route *r;
    for (size_t i = 0; (r = routes_at(i)) != NULL; i++) {
        bool open = r->id == ROUTE_HEALTH || r->id == ROUTE_PAGE || r->id == ROUTE_PAGE_FILE;
        assert_int_equal(r->is_public, open);
        assert_string_equal(routes_label(r->id), r->path);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(routes_at(k)->path, r->path) == 0)
                assert_string_not_equal(routes_at(k)->method, r->method);
        }
    }
    const char *tail;
    const char *allow;
    assert_int_equal(routes_find("GET", "/v1/models/a/b", &tail, &allow)->id, ROUTE_MODEL);
    assert_string_equal(tail, "a/b");
    assert_null(routes_find("GET", "/v1/models/", &tail, &allow));
    assert_string_equal(allow, "");
    assert_null(routes_find("GET", "/v1/chat/completions", &tail, &allow));
    assert_string_equal(allow, "POST");
    assert_non_null(routes_find("HEAD", "/health", &tail, &allow));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guard_table),    cmocka_unit_test(test_guard_json),
        cmocka_unit_test(test_api_key_allows), cmocka_unit_test(test_api_key_files),
        cmocka_unit_test(test_ident),          cmocka_unit_test(test_routes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
