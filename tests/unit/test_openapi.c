/* The description of what is served and the table of routes: each has what the other has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "engine/base/json.h"

#include "server/openapi.h"
#include "server/routes.h"

static cJSON *read_paths(cJSON **root)
{
    struct json_limits limits = json_default_limits;
    struct err e = {0};
    limits.refuse_duplicate = true;
    if (json_parse(openapi_text, openapi_bytes(), &limits, root, &e) != STATUS_OK)
        fail_msg("openapi.json: %s", e.msg);
    cJSON *paths = cJSON_GetObjectItemCaseSensitive(*root, "paths");
    assert_true(cJSON_IsObject(paths));
    return paths;
}

/* "/v1/models/{id}" for a route whose rest is its own: "/v1/models/". */
static bool is_path_of(const char *path, const struct route *r)
{
    size_t n = strlen(r->path);
    if (r->path[n - 1] != '/' || n == 1)
        return strcmp(path, r->path) == 0;
    return strncmp(path, r->path, n) == 0 && path[n] == '{' && path[strlen(path) - 1] == '}' &&
           !strchr(path + n, '/');
}

static bool is_method(const char *key, const char *method)
{
    return strlen(key) == strlen(method) && strcasecmp(key, method) == 0;
}

static void test_openapi_every_route_is_described(void **state)
{
    (void)state;
    cJSON *root;
    const cJSON *paths = read_paths(&root);
    size_t i = 0;
    for (const struct route *r; (r = routes_at(i)) != NULL; i++) {
        int found = 0;
        for (const cJSON *p = paths->child; p; p = p->next) {
            for (const cJSON *m = p->child; m && is_path_of(p->string, r); m = m->next)
                found += is_method(m->string, r->method);
        }
        if (found != 1)
            fail_msg("%s %s is described %d times", r->method, r->path, found);
    }
    assert_true(i > 20);
    cJSON_Delete(root);
}

static void test_openapi_everything_described_is_a_route(void **state)
{
    (void)state;
    cJSON *root;
    const cJSON *paths = read_paths(&root);
    for (const cJSON *p = paths->child; p; p = p->next) {
        for (const cJSON *m = p->child; m; m = m->next) {
            const struct route *r;
            bool found = strcmp(m->string, "parameters") == 0;
            for (size_t i = 0; !found && (r = routes_at(i)) != NULL; i++)
                found = is_path_of(p->string, r) && is_method(m->string, r->method);
            if (!found)
                fail_msg("%s %s is no route", m->string, p->string);
        }
    }
    cJSON_Delete(root);
}

/* A route that needs no key says so, and only that one. */
static void test_openapi_public_routes_say_so(void **state)
{
    (void)state;
    cJSON *root;
    const cJSON *paths = read_paths(&root);
    const struct route *r;
    for (size_t i = 0; (r = routes_at(i)) != NULL; i++) {
        for (const cJSON *p = paths->child; p; p = p->next) {
            for (const cJSON *m = p->child; m && is_path_of(p->string, r); m = m->next) {
                const cJSON *security = cJSON_GetObjectItemCaseSensitive(m, "security");
                bool open = cJSON_IsArray(security) && !security->child;
                if (is_method(m->string, r->method) && open != r->is_public)
                    fail_msg("%s: public %d, described as public %d", r->path, r->is_public, open);
            }
        }
    }
    cJSON_Delete(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_openapi_every_route_is_described),
        cmocka_unit_test(test_openapi_everything_described_is_a_route),
        cmocka_unit_test(test_openapi_public_routes_say_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
