/* Which paths of a client lie in a root: a table over a small tree. */
#include "server/adapter_roots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char base[256];

static const char *at(const char *path, char out[512])
{
    snprintf(out, 512, "%s%s", base, path);
    return out;
}

static int make_tree(void **state)
{
    (void)state;
    static const char *const dirs[] = {"",       "/a",  "/a/elf", "/a/elf/deep", "/b",  "/b/elf",
                                       "/b/fox", "/ab", "/abc",   "/abc/wolf",   "/out"};
    char path[512];
    snprintf(base, sizeof base, "/tmp/chorus-roots-%d", (int)getpid());
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        assert_int_equal(mkdir(at(dirs[i], path), 0700), 0);
    char link[512];
    assert_int_equal(symlink(at("/out", path), at("/a/away", link)), 0);
    assert_int_equal(symlink(at("/b", path), at("/linked", link)), 0);
    return 0;
}

static int remove_tree(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

static void test_adapter_roots_find(void **state)
{
    (void)state;
    static struct adapter_roots r;
    char path[512];
    struct err e;
    assert_int_equal(adapter_roots_add(&r, at("/a//", path), true, &e), STATUS_OK);
    assert_int_equal(adapter_roots_add(&r, at("/linked", path), false, &e), STATUS_OK);
    assert_int_equal(adapter_roots_add(&r, at("/nowhere", path), false, &e), STATUS_IO);
    assert_int_equal(r.count, 2);
    static const struct {
        const char *path; /* '@' at the start: absolute */
        enum status st;
        int root;
        const char *rest;
    } rows[] = {
        {"elf", STATUS_OK, 0, "elf"},
        {"fox", STATUS_OK, 1, "fox"},
        {"elf/deep", STATUS_OK, 0, "elf/deep"},
        {"./elf", STATUS_OK, 0, "./elf"},
        {"@/a/elf", STATUS_OK, 0, "elf"},
        {"@/a///elf/", STATUS_OK, 0, "elf/"},
        {"@/linked/fox", STATUS_OK, 1, "fox"},
        {"@/b/fox", STATUS_OK, 1, "fox"}, /* where the root's link leads */
        {"wolf", STATUS_NOT_FOUND, 0, NULL},
        {"@/a/wolf", STATUS_NOT_FOUND, 0, NULL},
        {"away", STATUS_NOT_FOUND, 0, NULL},
        {"@/a", STATUS_FORBIDDEN, 0, NULL},
        {"@/a/", STATUS_FORBIDDEN, 0, NULL},
        {"@/ab", STATUS_FORBIDDEN, 0, NULL},
        {"@/abc/wolf", STATUS_FORBIDDEN, 0, NULL},
        {"@/out", STATUS_FORBIDDEN, 0, NULL},
        {"@/a/../out", STATUS_FORBIDDEN, 0, NULL},
        {"..", STATUS_FORBIDDEN, 0, NULL},
        {"../a/elf", STATUS_FORBIDDEN, 0, NULL},
        {"elf/..", STATUS_FORBIDDEN, 0, NULL},
        {"elf/../elf", STATUS_FORBIDDEN, 0, NULL},
        {"elf//..//elf", STATUS_FORBIDDEN, 0, NULL},
        {"/", STATUS_FORBIDDEN, 0, NULL},
        {"", STATUS_INVALID, 0, NULL},
        {"elf\n", STATUS_INVALID, 0, NULL},
        {"elf\x7f", STATUS_INVALID, 0, NULL},
        {"..elf", STATUS_NOT_FOUND, 0, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *root = NULL;
        const char *rest = NULL;
        const char *asked = rows[i].path[0] == '@' ? at(rows[i].path + 1, path) : rows[i].path;
        enum status st = adapter_roots_find(&r, asked, &root, &rest, &e);
        if (st != rows[i].st)
            fail_msg("%s: %s, not %s", asked, status_code(st), status_code(rows[i].st));
        if (st != STATUS_OK)
            continue;
        assert_string_equal(root, r.items[rows[i].root].path);
        assert_string_equal(rest, rows[i].rest);
    }
    char longest[ADAPTER_PATH_BYTES + 1];
    memset(longest, 'a', sizeof longest);
    longest[ADAPTER_PATH_BYTES] = '\0';
    const char *root;
    const char *rest;
    assert_int_equal(adapter_roots_find(&r, longest, &root, &rest, &e), STATUS_INVALID);
    adapter_roots_deinit(&r);
    assert_int_equal(adapter_roots_find(&r, "elf", &root, &rest, &e), STATUS_FORBIDDEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_adapter_roots_find, make_tree, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
