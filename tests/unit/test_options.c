#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "config/options.h"

#define ARGC(a) ((int)(sizeof(a) / sizeof(a)[0]))

static enum status load(int argc, const char **argv, struct options *o, struct err *e)
{
    return options_load(OPTION_SERVE, argc, (char **)(uintptr_t)argv, o, e);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_options_precedence(void **state)
{
    (void)state;
    char path[] = "/tmp/chorus-options-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_file(
        path,
        "# comment\n[server]\nport = 1001\nqueue=7\nthreads = 3\nallow-host = a\nallow-host = b\n");
    setenv("CHORUS_QUEUE", "8", 1);
    setenv("CHORUS_THREADS", "4", 1);
    setenv("CHORUS_ADAPTERS", "x,y", 1);
    const char *argv[] = {"serve", "--config", path, "--threads=5", "--no-prefix-cache", "rest"};
    struct options o;
    struct err e = {0};
    assert_int_equal(load(ARGC(argv), argv, &o, &e), STATUS_OK);
    assert_int_equal(o.ctx, 0);     /* default */
    assert_int_equal(o.port, 1001); /* file */
    assert_int_equal(o.queue, 8);   /* environment over file */
    assert_int_equal(o.threads, 5); /* command line over both */
    assert_false(o.prefix_cache);
    assert_int_equal(o.allow_host.count, 2);
    assert_int_equal(o.adapters.count, 2);
    assert_string_equal(o.adapters.items[1], "y");
    assert_int_equal(o.args.count, 1);
    options_deinit(&o);
    unsetenv("CHORUS_QUEUE");
    unsetenv("CHORUS_THREADS");
    unsetenv("CHORUS_ADAPTERS");
    unlink(path);
}

struct bad_case {
    const char *arg;
    const char *value;
    const char *says;
};

static void test_options_refusals(void **state)
{
    (void)state;
    static const struct bad_case cases[] = {
        {"--port", "70000", "between 0 and 65535"},
        {"--port", "12x", "not a number"},
        {"--nope", "1", "unknown option"},
        {"--backend", "tpu", "not one of"},
        {"--backend", "c", "not one of"},
        {"--max-seqs", "0", "between 1"},
        {"--quant", "int2", "not one of"},
        {"--head-quant", "int4", "not one of"},
        {"--device", "-1", "between 0"},
        {"--prefix-cache=maybe", "", "neither true"},
        {"--no-port", "", "unknown option"},
        {"--config", "/nonexistent", "cannot read"},
        {"--jsonl", "", "unknown option"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *argv[] = {"serve", cases[i].arg, cases[i].value};
        struct options o;
        struct err e = {0};
        enum status st = load(3, argv, &o, &e);
        if (st == STATUS_OK || !strstr(e.msg, cases[i].says))
            fail_msg("%s %s: status %d \"%s\"", cases[i].arg, cases[i].value, st, e.msg);
        options_deinit(&o);
    }
    const char *argv[] = {"serve", "--port"};
    struct options o;
    struct err e = {0};
    assert_int_equal(load(2, argv, &o, &e), STATUS_INVALID);
    options_deinit(&o);
}

/* What --print-config writes, read back, is the same configuration. */
static void test_options_print_round_trip(void **state)
{
    (void)state;
    const char *argv[] = {"serve",      "--port", "9",       "--adapters", "d1",
                          "--adapters", "d2",     "--model", "m"};
    struct options a;
    struct err e = {0};
    assert_int_equal(load(ARGC(argv), argv, &a, &e), STATUS_OK);
    struct strbuf first;
    struct strbuf second;
    strbuf_init(&first, 1u << 20);
    strbuf_init(&second, 1u << 20);
    options_print(&a, &first);
    char path[] = "/tmp/chorus-options-XXXXXX";
    close(mkstemp(path));
    write_file(path, strbuf_str(&first));
    const char *again[] = {"serve", "--config", path};
    struct options b;
    assert_int_equal(load(ARGC(again), again, &b, &e), STATUS_OK);
    options_print(&b, &second);
    assert_string_equal(strbuf_str(&first), strbuf_str(&second));
    unlink(path);
    options_deinit(&a);
    options_deinit(&b);
    strbuf_deinit(&first);
    strbuf_deinit(&second);
}

static void test_options_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double share;
        size_t bytes; /* both 0: refused */
    } cases[] = {
        {"0.9", 0.9, 0},
        {"1", 1, 0},
        {"6GiB", 0, (size_t)6 << 30},
        {"512M", 0, (size_t)512 << 20},
        {"3KiB", 0, 3072},
        {"1000000", 0, 1000000},
        {"", 0, 0},
        {"0", 0, 0},
        {"1.5", 0, 0},
        {"-1", 0, 0},
        {"-0.5", 0, 0},
        {"nan", 0, 0},
        {"6GB", 0, 0},
        {"6 GiB", 0, 0},
        {"6iB", 0, 0},
        {"18446744073709551615", 0, SIZE_MAX},
        {"18446744073709551616", 0, 0},
        {"17179869184GiB", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double share = -1;
        size_t bytes = 7;
        bool want = cases[i].share > 0 || cases[i].bytes > 0;
        bool got = options_memory(cases[i].text, &share, &bytes);
        if (got != want || (want && (share != cases[i].share || bytes != cases[i].bytes)))
            fail_msg("\"%s\": %d, share %g, %zu bytes", cases[i].text, got, share, bytes);
        assert_true(got || (share == -1 && bytes == 7));
    }
}

/* config/chorus.conf is the table's own text. */
static void test_options_checked_in_file(void **state)
{
    (void)state;
    struct strbuf now;
    strbuf_init(&now, 1u << 20);
    options_print(NULL, &now);
    FILE *f = fopen("config/chorus.conf", "r");
    assert_non_null(f);
    static char text[1 << 16];
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    fclose(f);
    if (strcmp(text, strbuf_str(&now)) != 0) {
        write_file("build/chorus.conf", strbuf_str(&now));
        fail_msg("config/chorus.conf is not what the table says; build/chorus.conf is");
    }
    strbuf_deinit(&now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_precedence),       cmocka_unit_test(test_options_refusals),
        cmocka_unit_test(test_options_print_round_trip), cmocka_unit_test(test_options_sizes),
        cmocka_unit_test(test_options_checked_in_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
