/* Names and places of the Hugging Face cache: what is taken for a repository, a file or a commit,
 * and where --model leads. */
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

#include "server/hub_cache.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define OTHER  "0123456f00000000000000000000000000000000"

static void test_hub_id_parses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *name; /* NULL: refused */
        const char *revision;
    } cases[] = {
        {"org/name", "org/name", "main"},
        {"gpt2", "gpt2", "main"},
        {"meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B", "main"},
        {"org/name:v1.0", "org/name", "v1.0"},
        {"org/name:refs/pr/1", "org/name", "refs/pr/1"},
        {"org/name:" COMMIT, "org/name", COMMIT},
        {"", NULL, NULL},
        {"org/", NULL, NULL},
        {"/name", NULL, NULL},
        {"org/name/more", NULL, NULL},
        {"./name", NULL, NULL},
        {"../name", NULL, NULL},
        {"org/..", NULL, NULL},
        {"org/na..me", NULL, NULL},
        {"org/na--me", NULL, NULL},
        {"org/-name", NULL, NULL},
        {"org/name.", NULL, NULL},
        {"~/models", NULL, NULL},
        {"org/na me", NULL, NULL},
        {"org/name\n", NULL, NULL},
        {"org/name:", NULL, NULL},
        {"org/name:..", NULL, NULL},
        {"org/name:a/../b", NULL, NULL},
        {"org/name:/abs", NULL, NULL},
        {"org/name:a//b", NULL, NULL},
        {"org/name:a/", NULL, NULL},
        {"org/name:.hidden", NULL, NULL},
        {"org/name:a:b", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hub_id id;
        bool ok = hub_id_parse(cases[i].text, &id);
        if (ok != (cases[i].name != NULL))
            fail_msg("\"%s\": %d", cases[i].text, ok);
        if (!ok)
            continue;
        assert_string_equal(id.name, cases[i].name);
        assert_string_equal(id.revision, cases[i].revision);
        char folder[HUB_NAME_BYTES + 16];
        char back[HUB_NAME_BYTES];
        hub_folder_name(&id, folder);
        assert_null(strchr(folder, '/'));
        assert_true(hub_folder_parse(folder, back));
        assert_string_equal(back, id.name);
    }
    char long_name[400];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    struct hub_id id;
    assert_false(hub_id_parse(long_name, &id));
    long_name[96] = '\0';
    assert_true(hub_id_parse(long_name, &id));
}

static void test_hub_file_names(void **state)
{
    (void)state;
    static const char *const good[] = {
        "config.json", "a/b/c.json", ".gitattributes", "...", "r\xC3\xA9sum\xC3\xA9.txt",
        "a b",         "-"};
    static const char *const bad[] = {"",       ".",        "..",    "/etc/passwd", "../x",
                                      "a/../b", "a//b",     "a/",    "a/.",         "a\\b",
                                      "a\nb",   "a\x1b[2J", "a\x7F", "\xFF\xFE",    "./config"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!hub_file_name_ok(good[i]))
            fail_msg("\"%s\" is refused", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (hub_file_name_ok(bad[i]))
            fail_msg("\"%s\" is taken", bad[i]);
    }
    char part[300];
    memset(part, 'x', sizeof part - 1);
    part[256] = '\0';
    assert_false(hub_file_name_ok(part));
    part[255] = '\0';
    assert_true(hub_file_name_ok(part));
}

static void test_hub_snapshots(void **state)
{
    (void)state;
    char name[HUB_NAME_BYTES];
    char commit[HUB_HASH_BYTES];
    assert_true(hub_snapshot_parse("/c/hub/models--org--n/snapshots/" COMMIT "//", name, commit));
    assert_string_equal(name, "org/n");
    assert_string_equal(commit, COMMIT);
    assert_true(hub_snapshot_parse("models--gpt2/snapshots/" COMMIT, name, commit));
    assert_string_equal(name, "gpt2");
    static const char *const others[] = {
        "/c/models--org--n/snapshots/main",         "/c/models--org--n/blobs/" COMMIT,
        "/c/datasets--org--n/snapshots/" COMMIT,    "/models/storyteller",
        "models--org--n--more/snapshots/" COMMIT,   "snapshots/" COMMIT,
        "/c/models--org--/snapshots/" COMMIT,       COMMIT,
        "/c/models--..--n/snapshots/" COMMIT "/..", ""};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (hub_snapshot_parse(others[i], name, commit))
            fail_msg("\"%s\" is taken for a snapshot", others[i]);
    }
}

static void put(const char *dir, const char *path, const char *text)
{
    char full[HUB_PATH_BYTES];
    snprintf(full, sizeof full, "%s/%s", dir, path);
    for (char *c = full + strlen(dir) + 1; *c; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        mkdir(full, 0755);
        *c = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void clear(const char *dir)
{
    char command[HUB_PATH_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

#define REPO "models--org--name/"

static void test_hub_finds_models(void **state)
{
    (void)state;
    char cache[] = "/tmp/chorus-hub-XXXXXX";
    assert_non_null(mkdtemp(cache));
    setenv("HF_HUB_CACHE", cache, 1);
    put(cache, REPO "snapshots/" COMMIT "/config.json", "{}");
    put(cache, REPO "refs/main", COMMIT);
    put(cache, REPO "refs/refs/pr/1", COMMIT "\n");
    put(cache, REPO "refs/gone", OTHER);
    put(cache, REPO "refs/up", "../../../../../../tmp");
    put(cache, REPO "refs/long", COMMIT COMMIT COMMIT COMMIT);
    char want[HUB_PATH_BYTES];
    snprintf(want, sizeof want, "%s/" REPO "snapshots/" COMMIT, cache);
    static const struct {
        const char *model;
        const char *says; /* NULL: found */
    } cases[] = {
        {"org/name", NULL},
        {"org/name:main", NULL},
        {"org/name:refs/pr/1", NULL},
        {"org/name:" COMMIT, NULL},
        {"org/name:0123456", NULL},
        {"org/name:012345", "chorus pull org/name:012345 fetches what is missing"},
        {"org/name:gone", "chorus pull org/name:gone"},
        {"org/name:up", "chorus pull org/name:up"},
        {"org/name:long", "chorus pull org/name:long"},
        {"org/other", "org/other is neither a directory nor in the Hugging Face cache"},
        {"org/other:v2", "chorus pull org/other:v2 fetches it"},
        {"name", "chorus pull name fetches it"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char got[HUB_PATH_BYTES] = "";
        struct err e = {0};
        enum status st = hub_model_find(cases[i].model, got, &e);
        if (!cases[i].says) {
            if (st != STATUS_OK)
                fail_msg("%s: %s", cases[i].model, e.msg);
            assert_string_equal(got, want);
        } else if (st != STATUS_NOT_FOUND || !strstr(e.msg, cases[i].says)) {
            fail_msg("%s: %d \"%s\" instead of \"%s\"", cases[i].model, st, e.msg, cases[i].says);
        }
    }
    /* Two commits that begin alike: neither is meant. */
    put(cache, REPO "snapshots/" OTHER "/config.json", "{}");
    char got[HUB_PATH_BYTES];
    struct err e = {0};
    assert_int_equal(hub_model_find("org/name:0123456", got, &e), STATUS_NOT_FOUND);
    assert_int_equal(hub_model_find("org/name:01234567", got, &e), STATUS_OK);
    assert_string_equal(got, want);
    /* What is a path stays one, there or not. */
    assert_int_equal(hub_model_find(cache, got, &e), STATUS_OK);
    assert_string_equal(got, cache);
    assert_int_equal(hub_model_find("/no/such/place", got, &e), STATUS_OK);
    assert_string_equal(got, "/no/such/place");
    clear(cache);
    unsetenv("HF_HUB_CACHE");
}

static void test_hub_settings(void **state)
{
    (void)state;
    static const char *const names[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                        "XDG_CACHE_HOME", "HOME"};
    static const struct {
        const char *values[5];
        const char *cache;
    } cases[] = {
        {{"/a", "/b", "/c", "/d", "/h"}, "/a"},
        {{"", "/b", "/c", "/d", "/h"}, "/b"},
        {{"", "", "/c", "/d", "/h"}, "/c/hub"},
        {{"", "", "~/x", "/d", "/h"}, "/h/x/hub"},
        {{"", "", "", "/d", "/h"}, "/d/huggingface/hub"},
        {{"", "", "", "", "/h"}, "/h/.cache/huggingface/hub"},
        {{"", "", "", "", ""}, ""},
    };
    char *home = getenv("HOME");
    char *kept = home ? strdup(home) : NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int k = 0; k < 5; k++)
            setenv(names[k], cases[i].values[k], 1);
        struct hub_settings s;
        hub_settings_load(&s);
        assert_string_equal(s.cache, cases[i].cache);
    }
    for (int k = 0; k < 5; k++)
        unsetenv(names[k]);
    struct hub_settings s;
    setenv("HF_ENDPOINT", "http://127.0.0.1:1//", 1);
    setenv("HF_HUB_OFFLINE", "1", 1);
    setenv("HF_HOME", "/c", 1);
    hub_settings_load(&s);
    assert_string_equal(s.endpoint, "http://127.0.0.1:1");
    assert_string_equal(s.token_file, "/c/token");
    assert_true(s.offline);
    unsetenv("HF_ENDPOINT");
    unsetenv("HF_HUB_OFFLINE");
    hub_settings_load(&s);
    assert_string_equal(s.endpoint, "https://huggingface.co");
    assert_false(s.offline);
    unsetenv("HF_HOME");
    if (kept)
        setenv("HOME", kept, 1);
    free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hub_id_parses), cmocka_unit_test(test_hub_file_names),
        cmocka_unit_test(test_hub_snapshots), cmocka_unit_test(test_hub_finds_models),
        cmocka_unit_test(test_hub_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
