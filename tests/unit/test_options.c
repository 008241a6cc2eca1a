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

#include "config/option_table.h"
#include "config/options_text.h"

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
        {"--port", "70000", "\"70000\" is out of range: 0 to 65535 (command line)"},
        {"--port", "12x", "not a number: 0 to 65535"},
        {"--nope", "1", "unknown option"},
        {"--backend", "tpu", "not one of "},
        {"--backend", "c", "not one of "},
        {"--max-seqs", "0", "out of range: 1 to"},
        {"--quant", "int2", "not one of "},
        {"--head-quant", "int4", "not one of "},
        {"--device", "-1", "out of range: 0 to"},
        {"--prefix-cache=maybe", "", "not true or false"},
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

static char *temp_file(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/chorus-options-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_file(path, text);
    return path;
}

static void assert_equal_options(struct options *a, struct options *b)
{
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        if (d->commands & OPTION_ONCE)
            continue;
        struct strbuf x;
        struct strbuf y;
        strbuf_init(&x, 1u << 16);
        strbuf_init(&y, 1u << 16);
        option_text(d, a, &x);
        option_text(d, b, &y);
        const struct option_list *l = option_field(a, d);
        const struct option_list *m = option_field(b, d);
        bool list = d->type == TYPE_LIST;
        if (strcmp(strbuf_str(&x), strbuf_str(&y)) != 0 || (list && l->count != m->count))
            fail_msg("%s: \"%s\" and \"%s\"", d->name, strbuf_str(&x), strbuf_str(&y));
        for (int k = 0; list && k < l->count; k++)
            assert_string_equal(l->items[k], m->items[k]);
        strbuf_deinit(&x);
        strbuf_deinit(&y);
    }
}

/* What --print-config writes, read back, is the same configuration. */
static void test_options_print_round_trip(void **state)
{
    (void)state;
    static const char *const names[] = {"plain",       " blanks ", "a # b",
                                        "\"quoted\"",  "#begins",  "tab\tnewline\n",
                                        "back\\slash", "end\\",    "\x7F\x1B[31m"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *argv[] = {"serve", "--port",  "9",      "--adapters",    "d1", "--adapters",
                              "d2",    "--model", names[i], "--served-name", "n"};
        struct options a;
        struct options b;
        struct err e = {0};
        assert_int_equal(load(ARGC(argv), argv, &a, &e), STATUS_OK);
        struct strbuf text;
        strbuf_init(&text, 1u << 20);
        options_print(OPTION_SERVE, &a, &text);
        for (const char *c = strbuf_str(&text); *c; c++)
            assert_true(*c == '\n' || (unsigned char)*c >= ' ');
        const char *path = temp_file(strbuf_str(&text));
        const char *again[] = {"serve", "--config", path};
        if (load(ARGC(again), again, &b, &e) != STATUS_OK)
            fail_msg("%s", e.msg);
        assert_string_equal(b.model, names[i]);
        assert_equal_options(&a, &b);
        unlink(path);
        options_deinit(&a);
        options_deinit(&b);
        strbuf_deinit(&text);
    }
}

/* Behind each value stands where it came from. */
static void test_options_print_origin(void **state)
{
    (void)state;
    const char *path = temp_file("\xEF\xBB\xBF# x\r\n[a]\r\nqueue = 7 # seven\r\nport=1\r\n");
    setenv("CHORUS_LOG_LEVEL", "debug", 1);
    setenv("CHORUS_PORT", "2", 1);
    const char *argv[] = {"serve", "--config", path, "--threads=5"};
    struct options o;
    struct err e = {0};
    if (load(ARGC(argv), argv, &o, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    struct strbuf text;
    strbuf_init(&text, 1u << 20);
    options_print(OPTION_SERVE, &o, &text);
    char queue[128];
    snprintf(queue, sizeof queue, "%s:3", path);
    const char *const want[][3] = {{"queue", "7", queue},
                                   {"port", "2", "CHORUS_PORT"},
                                   {"log-level", "debug", "CHORUS_LOG_LEVEL"},
                                   {"threads", "5", "command line"},
                                   {"max-seqs", "64", "default"}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        char head[128];
        char line[256];
        snprintf(head, sizeof head, "%s = %s", want[i][0], want[i][1]);
        snprintf(line, sizeof line, "\n%-40s# %s\n", head, want[i][2]);
        if (!strstr(strbuf_str(&text), line))
            fail_msg("no \"%s\" in:\n%s", line, strbuf_str(&text));
    }
    strbuf_deinit(&text);
    options_deinit(&o);
    unsetenv("CHORUS_LOG_LEVEL");
    unsetenv("CHORUS_PORT");
    unlink(path);
}

/* A refusal names the setting, the value, what is allowed, and where it stood. */
static void test_options_file_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"\n\nport = 70000\n", "port: \"70000\" is out of range: 0 to 65535 (%s:3)"},
        {"backend = tpu", "backend: \"tpu\" is not one of auto, cpu, cuda (%s:1)"},
        {"lora-arena = 2GB", "is not auto or bytes like 2GiB (%s:1)"},
        {"gpu-memory = 1.5", "is not a share like 0.9 or bytes like 6GiB (%s:1)"},
        {"prefix-cache = ja", "\"ja\" is not true or false (%s:1)"},
        {"adapter = elf", "adapter: \"elf\" is not NAME=PATH (%s:1)"},
        {"prot = 1", "%s:1: unknown setting prot; is port meant?"},
        {"frobnicate = 1", "%s:1: unknown setting frobnicate"},
        {"config = x", "%s:1: unknown setting config"},
        {"help = true", "%s:1: unknown setting help"},
        {"jsonl = true", "%s:1: unknown setting jsonl"},
        {"port = 1\nport = 2", "%s:2: set twice in this file: port"},
        {"port 1", "%s:1: expected name = value, not: port 1"},
        {"[server", "%s:1: a heading without ]"},
        {"model = \"a", "%s:1: a bad quoted value of model"},
        {"model = \"a\" b", "%s:1: a bad quoted value of model"},
        {"model = \"\\q\"", "%s:1: a bad quoted value of model"},
        {"model = \"\\x4\"", "%s:1: a bad quoted value of model"},
        {"port = \033[31m9", "port: \"?[31m9\" is not a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = temp_file(cases[i].text);
        const char *argv[] = {"serve", "--config", path};
        char says[256];
        const char *at = strstr(cases[i].says, "%s");
        size_t head = at ? (size_t)(at - cases[i].says) : strlen(cases[i].says);
        snprintf(says, sizeof says, "%.*s%s%s", (int)head, cases[i].says, at ? path : "",
                 at ? at + 2 : "");
        struct options o;
        struct err e = {0};
        enum status st = load(ARGC(argv), argv, &o, &e);
        if (st == STATUS_OK || !strstr(e.msg, says))
            fail_msg("%s: status %d \"%s\", not \"%s\"", cases[i].text, st, e.msg, says);
        options_deinit(&o);
        unlink(path);
    }
}

static void test_options_environment(void **state)
{
    (void)state;
    const char *argv[] = {"serve"};
    struct options o;
    struct err e = {0};
    setenv("CHORUS_PORT", "tcp://10.0.0.1:80", 1); /* as Kubernetes sets it */
    setenv("CHORUS_QUEUE", "", 1);
    setenv("CHORUS_HELP", "true", 1);
    assert_int_equal(load(1, argv, &o, &e), STATUS_OK);
    assert_int_equal(o.port, 8080);
    assert_int_equal(o.queue, 256);
    assert_false(o.help);
    options_deinit(&o);
    setenv("CHORUS_QUEUE", "many", 1);
    assert_int_equal(load(1, argv, &o, &e), STATUS_INVALID);
    assert_non_null(strstr(e.msg, "queue: \"many\" is not a number: 1 to 1048576 (CHORUS_QUEUE)"));
    options_deinit(&o);
    const char *help[] = {"serve", "--help"};
    assert_int_equal(load(2, help, &o, &e), STATUS_OK);
    assert_true(o.help);
    options_deinit(&o);
    unsetenv("CHORUS_PORT");
    unsetenv("CHORUS_QUEUE");
    unsetenv("CHORUS_HELP");
}

/* The file that nobody named: the user's. */
static void test_options_default_file(void **state)
{
    (void)state;
    char dir[] = "/tmp/chorus-config-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[128];
    snprintf(path, sizeof path, "%s/chorus", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/chorus/chorus.conf", dir);
    write_file(path, "port = 4711\n");
    unsetenv("CHORUS_CONFIG");
    setenv("XDG_CONFIG_HOME", dir, 1);
    const char *argv[] = {"serve"};
    const char *none[] = {"serve", "--config", "none"};
    struct options o;
    struct err e = {0};
    assert_int_equal(load(1, argv, &o, &e), STATUS_OK);
    assert_int_equal(o.port, 4711);
    assert_string_equal(o.config, path);
    options_deinit(&o);
    assert_int_equal(load(3, none, &o, &e), STATUS_OK);
    assert_int_equal(o.port, 8080);
    assert_string_equal(o.config, "");
    options_deinit(&o);
    assert_int_equal(options_load(OPTION_PS, 1, (char **)(uintptr_t)argv, &o, &e), STATUS_OK);
    assert_int_equal(o.port, 4711);
    options_deinit(&o);
    assert_int_equal(options_load(OPTION_INSPECT, 1, (char **)(uintptr_t)argv, &o, &e), STATUS_OK);
    assert_string_equal(o.config, "");
    options_deinit(&o);
    unlink(path);
    path[strlen(path) - strlen("/chorus.conf")] = '\0';
    rmdir(path);
    rmdir(dir);
    setenv("CHORUS_CONFIG", "none", 1);
    unsetenv("XDG_CONFIG_HOME");
}

static void test_options_nearest(void **state)
{
    (void)state;
    static const struct {
        const char *arg;
        const char *says;
    } cases[] = {
        {"--prot", "unknown option --prot; is --port meant?"},
        {"--max-seq", "is --max-seqs meant?"},
        {"--adaptres", "is --adapters meant?"},
        {"--log_level", "is --log-level meant?"},
        {"--drain", "is --drain-timeout meant?"},
        {"--no-prefx-cache", "chorus serve --help lists them"},
        {"--jsonl", "unknown option --jsonl; chorus tokenize has one of that name"},
        {"--xyz", "chorus serve --help lists them"},
        {"-", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *argv[] = {"serve", cases[i].arg};
        struct options o;
        struct err e = {0};
        enum status st = load(2, argv, &o, &e);
        if (cases[i].says ? st != STATUS_INVALID || !strstr(e.msg, cases[i].says) : st != STATUS_OK)
            fail_msg("%s: status %d \"%s\"", cases[i].arg, st, e.msg);
        options_deinit(&o);
    }
}

/* Rules that every row keeps, so that what is generated of it can be read. */
static void test_options_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        if (d->type == TYPE_GROUP) {
            assert_true(i + 1 < option_row_count && option_rows[i + 1].type != TYPE_GROUP);
            continue;
        }
        bool words = strspn(d->name, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(d->name);
        size_t n = strlen(d->help);
        if (!words || n == 0 || d->help[n - 1] == '.' || strpbrk(d->help, "\n\t"))
            fail_msg("%s: \"%s\"", d->name, d->help);
        if ((d->type == TYPE_BOOL) != (d->arg == NULL))
            fail_msg("%s: what its value is", d->name);
        for (size_t k = 0; k < i; k++) {
            const struct option_def *other = &option_rows[k];
            if (strcmp(d->name, other->name) == 0 && (d->commands & other->commands & 0xFFFFFF))
                fail_msg("%s stands twice", d->name);
        }
    }
}

static void test_options_help(void **state)
{
    (void)state;
    for (int k = 0; k < COMMAND_COUNT; k++) {
        struct strbuf text;
        strbuf_init(&text, OPTIONS_TEXT_BYTES);
        options_help((enum option_command)(1 << k), &text);
        for (const char *s = strbuf_str(&text); *s;) {
            size_t n = strcspn(s, "\n");
            if (n > 80)
                fail_msg("%s: %zu columns: %.*s", command_texts[k].name, n, (int)n, s);
            s += n + (s[n] == '\n');
        }
        for (size_t i = 0; i < option_row_count; i++) {
            char head[80];
            bool on = option_rows[i].type == TYPE_BOOL && strcmp(option_rows[i].value, "true") == 0;
            snprintf(head, sizeof head, "\n  --%s%s", on ? "[no-]" : "", option_rows[i].name);
            const char *at = strstr(strbuf_str(&text), head);
            bool wanted = option_rows[i].commands >> k & 1;
            if (wanted && !at)
                fail_msg("%s --help has no %s", command_texts[k].name, option_rows[i].name);
        }
        strbuf_deinit(&text);
    }
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
    options_print_file(&now);
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
        cmocka_unit_test(test_options_precedence),
        cmocka_unit_test(test_options_refusals),
        cmocka_unit_test(test_options_print_round_trip),
        cmocka_unit_test(test_options_print_origin),
        cmocka_unit_test(test_options_file_refusals),
        cmocka_unit_test(test_options_environment),
        cmocka_unit_test(test_options_default_file),
        cmocka_unit_test(test_options_nearest),
        cmocka_unit_test(test_options_rows),
        cmocka_unit_test(test_options_help),
        cmocka_unit_test(test_options_sizes),
        cmocka_unit_test(test_options_checked_in_file),
    };
    setenv("CHORUS_CONFIG", "none", 1); /* what lies on this machine is no part of the tests */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
