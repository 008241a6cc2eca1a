/* Adapters that come, change and go while others are talked to: the rows ISO-2, ISO-3, ISO-4,
 * ADP-5, ADP-6, ADP-8 and CAN-6 of the acceptance list at the level of the engine, and a thousand
 * adapters in the memory of sixteen. Over the fake backend, whose answers depend on every byte of
 * every adapter; with its own thread and loader where time matters. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "tests/release.h"
#include "tests/sim/rig.h"

#define IDENTITIES 8
#define MANY       1000

static struct rig rig;
static struct rig_heard heard;

/* ---- ISO-2: the prefix cache over all pairs of identities ---- */

struct voice {
    uint64_t identity;
    struct engine_adapter_use uses[2];
    int count;
};

/* The base, two adapters, two weights, both orders of a blend, a named blend. */
static void make_voices(struct voice v[IDENTITIES])
{
    static const struct {
        const char *name[2];
        float weight[2];
    } of[IDENTITIES] = {
        {{NULL, NULL}, {0, 0}},          {{"elf", NULL}, {1, 0}},      {{"orc", NULL}, {1, 0}},
        {{"elf", NULL}, {0.5f, 0}},      {{"elf", "orc"}, {1, 1}},     {{"orc", "elf"}, {1, 1}},
        {{"elf", "orc"}, {0.5f, 0.25f}}, {{"again", NULL}, {1.0f, 0}},
    };
    rig_add(&rig, "elf", "e");
    rig_add(&rig, "orc", "o");
    rig_add(&rig, "again", "e"); /* the same bytes under another name: another generation */
    for (int i = 0; i < IDENTITIES; i++) {
        struct engine_request r = {.adapter_count = 0};
        memset(&v[i], 0, sizeof v[i]);
        for (int k = 0; k < 2 && of[i].name[k]; k++) {
            const char *path = strcmp(of[i].name[k], "orc") == 0 ? "o" : "e";
            rig_use(&r, of[i].name[k], of[i].weight[k]);
            v[i].identity =
                fake_identity_add(v[i].identity, fake_identity_of(path), of[i].weight[k]);
        }
        memcpy(v[i].uses, r.adapters, sizeof v[i].uses);
        v[i].count = r.adapter_count;
    }
}

static int cached_of(const struct voice *v, int prompt)
{
    struct engine_request r = rig_request(&rig, prompt, 3, 4);
    memcpy(r.adapters, v->uses, sizeof v->uses);
    r.adapter_count = v->count;
    rig_run(&rig, rig_submit(&rig, &r), &heard);
    rig_expect(&r, v->identity, &heard);
    return heard.last.usage.cached_tokens;
}

static void test_adapters_live_prefix_cache(void **state)
{
    (void)state;
    static const int prompts[] = {64, 80, 48}; /* same, longer, shorter */
    int cross = 0, same = 0, hits = 0;
    for (int pair = 0; pair < IDENTITIES * IDENTITIES * 3; pair++) {
        struct voice v[IDENTITIES];
        struct engine_options opt = rig_options();
        int a = pair / 3 / IDENTITIES, b = pair / 3 % IDENTITIES;
        rig_open(&rig, &opt);
        make_voices(v);
        assert_int_equal(cached_of(&v[a], 64), 0);
        int cached = cached_of(&v[b], prompts[pair % 3]);
        cross += a != b && cached > 0;
        same += a == b;
        hits += a == b && cached > 0;
        rig_close(&rig);
    }
    printf("figure: ISO-2 %d ordered pairs x 3 prompts: %d hits across identities, %d of %d within "
           "one\n",
           IDENTITIES * IDENTITIES, cross, hits, same);
    assert_int_equal(cross, 0);
    assert_int_equal(hits, same);
}

/* ---- ISO-3: a name, new bytes ---- */

static void path_name(char out[32], const char *prefix, int i)
{
    snprintf(out, 32, "%s%d", prefix, i);
}

static uint64_t identity_of(const char *path)
{
    return fake_identity_add(0, fake_identity_of(path), 1);
}

static void test_adapters_live_replace(void **state)
{
    (void)state;
    struct engine_options opt = rig_options();
    char path[32], before[32];
    int stale = 0, kept = 0;
    opt.slots_max = 2;
    rig_open_live(&rig, &opt, 400);
    rig_add(&rig, "elf", "bytes0");
    for (int i = 1; i <= 200; i++) {
        struct engine_request r = rig_request(&rig, 40, 1, 8);
        rig_use(&r, "elf", 1);
        path_name(before, "bytes", i - 1);
        path_name(path, "bytes", i);
        uint64_t old = rig_submit(&rig, &r); /* began before: it keeps its generation */
        rig_add(&rig, "elf", path);
        uint64_t now = rig_submit(&rig, &r);
        rig_wait(&rig, now, &heard);
        rig_expect(&r, identity_of(path), &heard);
        stale += heard.last.usage.cached_tokens > 0;
        rig_wait(&rig, old, &heard);
        rig_expect(&r, identity_of(before), &heard);
        kept++;
    }
    printf("figure: ISO-3 200 replacements under one name: %d stale, %d running ones kept theirs\n",
           stale, kept);
    assert_int_equal(stale, 0);
    rig_close(&rig);
}

/* ---- ISO-4 and ADP-5: streams while others come and go ---- */

static atomic_bool stop;
static atomic_int changes;

static void *change_adapters(void *arg)
{
    (void)arg;
    struct err err;
    char name[32], path[32];
    for (int i = 0; !stop; i++) {
        struct engine_adapter_left left;
        path_name(name, "guest", i % 5);
        path_name(path, "visit", i);
        rig_add(&rig, name, path);
        struct engine_request r = rig_request(&rig, 3, 1, 1);
        rig_use(&r, name, 1);
        uint64_t id;
        if (engine_submit(rig.e, &r, &id, NULL, &err) == STATUS_OK) {
            struct rig_heard h;
            rig_wait(&rig, id, &h);
            rig_expect(&r, identity_of(path), &h);
        }
        if (engine_adapter_drain(rig.e, name, 5000, &left, &err) != STATUS_OK || left.users != 0)
            abort();
        changes++;
    }
    return NULL;
}

static void test_adapters_live_streams(void **state)
{
    (void)state;
    struct engine_options opt = rig_options();
    pthread_t thread;
    struct engine_adapter_spec spec = {.pinned = true};
    uint64_t generation, ids[2];
    struct err err;
    int rounds = 0;
    opt.host_adapter_bytes = 300;
    rig_open_live(&rig, &opt, 600);
    for (int i = 0; i < 2; i++) {
        spec.name = i ? "right" : "left";
        spec.path = spec.name;
        assert_int_equal(engine_adapter_put(rig.e, &spec, &generation, &err), STATUS_OK);
    }
    stop = false;
    changes = 0;
    pthread_create(&thread, NULL, change_adapters, NULL);
    while (changes < 500) {
        struct engine_request r[2];
        for (int i = 0; i < 2; i++) {
            r[i] = rig_request(&rig, 20, (uint64_t)rounds, 400);
            rig_use(&r[i], i ? "right" : "left", 1);
            ids[i] = rig_submit(&rig, &r[i]);
        }
        for (int i = 0; i < 2; i++) {
            rig_wait(&rig, ids[i], &heard);
            rig_expect(&r[i], identity_of(i ? "right" : "left"), &heard);
        }
        rounds++;
    }
    stop = true;
    pthread_join(thread, NULL);
    /* Idle and least recently used, they stay: guests take turns in the third slot. */
    for (int i = 0; i < 6; i++) {
        struct engine_request r = rig_request(&rig, 3, 1, 1);
        char name[32];
        path_name(name, "guest", i % 3);
        if (i < 3)
            rig_add(&rig, name, name);
        rig_use(&r, name, 1);
        rig_wait(&rig, rig_submit(&rig, &r), &heard);
        rig_expect(&r, identity_of(name), &heard);
    }
    struct engine_adapter_info left = rig_info(&rig, "left"), right = rig_info(&rig, "right");
    printf("figure: ISO-4 %d loads and unloads beside two pinned streams, %d x 800 tokens equal, "
           "pinned ones evicted %d times\n",
           changes, rounds, (int)(left.evictions + right.evictions));
    assert_int_equal(left.evictions + right.evictions, 0);
    rig_close(&rig);
}

static void test_adapters_live_unload_under_streams(void **state)
{
    (void)state;
    struct engine_options opt = rig_options();
    const int cycles = release_figure(200, 1000);
    int ends = 0;
    opt.seqs_max = 8;
    rig_open_live(&rig, &opt, 500);
    for (int cycle = 0; cycle < cycles; cycle++) {
        struct engine_adapter_left left;
        struct err err;
        uint64_t ids[8], id;
        char path[32];
        path_name(path, "cycle", cycle);
        rig_add(&rig, "elf", path);
        struct engine_request r = rig_request(&rig, 10, (uint64_t)cycle, 10);
        rig_use(&r, "elf", 1);
        for (int i = 0; i < 8; i++)
            ids[i] = rig_submit(&rig, &r);
        assert_int_equal(engine_adapter_drain(rig.e, "elf", 0, &left, &err), STATUS_OK);
        assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_ADAPTER_NOT_FOUND);
        for (int i = 0; i < 8; i++, ends++) {
            rig_wait(&rig, ids[i], &heard);
            rig_expect(&r, identity_of(path), &heard);
        }
    }
    for (int i = 0; i < 1000 && engine_adapters(rig.e, NULL, 0) > 0; i++)
        usleep(1000);
    printf("figure: ADP-5 %d unloads under 8 streams: %d answers whole, %d adapters left\n", cycles,
           ends, engine_adapters(rig.e, NULL, 0));
    assert_int_equal(engine_adapters(rig.e, NULL, 0), 0);
    rig_close(&rig);
}

/* ---- ADP-6: more than fits ---- */

static void test_adapters_live_over_budget(void **state)
{
    (void)state;
    struct engine_options opt = rig_options();
    struct err err;
    uint64_t generation, id;
    char path[32] = "";
    int refused = 0, added = 0;
    rig_open_live(&rig, &opt, 100);
    for (int i = 0; i < 50; i++) {
        path_name(path, "size", i);
        bool fits = fake_bytes_of(path) <= 100;
        enum status st = engine_adapter_add(rig.e, path, path, &generation, &err);
        assert_int_equal(st, fits ? STATUS_OK : STATUS_NO_ROOM);
        refused += !fits;
        added += fits;
        if (!fits)
            assert_non_null(strstr(err.msg, path));
    }
    /* All that fit alone are served, though never two at once. */
    for (int i = 0; i < 50; i++) {
        path_name(path, "size", i);
        if (fake_bytes_of(path) > 100)
            continue;
        struct engine_request r = rig_request(&rig, 5, 1, 3);
        rig_use(&r, path, 1);
        rig_wait(&rig, rig_submit(&rig, &r), &heard);
        rig_expect(&r, identity_of(path), &heard);
    }
    struct engine_request both = rig_request(&rig, 5, 1, 3);
    for (int i = 0; i < 50 && both.adapter_count < 2; i++) {
        path_name(path, "size", i);
        if (fake_bytes_of(path) <= 100)
            rig_use(&both, path, 1);
    }
    assert_int_equal(engine_submit(rig.e, &both, &id, NULL, &err), STATUS_NO_ROOM);
    printf("figure: ADP-6 %d adapters too large refused by name, %d served one at a time, two at "
           "once refused\n",
           refused, added);
    assert_true(refused > 0 && added > 1);
    rig_close(&rig);
}

/* ---- ADP-8: nothing is left behind ---- */

static long anonymous_kib(void)
{
    char line[256];
    long kib = 0, v;
    FILE *f = fopen("/proc/self/status", "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if ((strncmp(line, "RssAnon:", 8) == 0 || strncmp(line, "VmSwap:", 7) == 0) &&
            (v = strtol(strchr(line, ':') + 1, NULL, 10)) > 0)
            kib += v;
    fclose(f);
    return kib;
}

static void test_adapters_live_cycles(void **state)
{
    (void)state;
    struct engine_options opt = rig_options();
    struct err err;
    long begin = 0;
    opt.host_adapter_bytes = 400;
    rig_open_live(&rig, &opt, 600);
    for (int i = 0; i < 20000; i++) {
        char name[32], path[32];
        if (i == 2000)
            begin = anonymous_kib();
        path_name(name, "voice", i % 7);
        path_name(path, "bytes", i);
        rig_add(&rig, name, path);
        if (i % 10 == 0) {
            struct engine_request r = rig_request(&rig, 3, 1, 1);
            rig_use(&r, name, 1);
            rig_wait(&rig, rig_submit(&rig, &r), &heard);
            rig_expect(&r, identity_of(path), &heard);
        }
        if (i % 3 == 0)
            assert_int_equal(engine_adapter_remove(rig.e, name, &err), STATUS_OK);
    }
    long grown = anonymous_kib() - begin;
    printf("figure: ADP-8 20000 cycles: %ld KiB grown\n", grown);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they keep what is freed */
    assert_true(grown <= 1024);
#endif
    rig_close(&rig);
}

/* ---- CAN-6: a client leaves while its adapter loads; others notice nothing ---- */

static void wait_idle(void)
{
    struct engine_stats st;
    engine_get_stats(rig.e, &st);
    for (int i = 0; i < 5000 && (st.running || st.waiting || st.kv_pages_used); i++) {
        usleep(1000);
        engine_get_stats(rig.e, &st);
    }
    assert_int_equal(st.running + st.waiting + st.kv_pages_used, 0);
}

static void test_adapters_live_cancel_while_loading(void **state)
{
    (void)state;
    struct engine_options opt = rig_options();
    int64_t worst_ns = 0;
    opt.host_adapter_bytes = 1; /* everything is read again */
    opt.slots_max = 1;
    rig_open_live(&rig, &opt, SIZE_MAX);
    rig.f->load_delay_us = 20000;
    rig_add(&rig, "a", "aa");
    rig_add(&rig, "b", "bb");
    fake_adapters_delay(20000);
    for (int i = 0; i < 25; i++) {
        struct engine_request r = rig_request(&rig, 10, 1, 400);
        rig_use(&r, i % 2 ? "a" : "b", 1);
        uint64_t id = rig_submit(&rig, &r);
        usleep((useconds_t)(i * 2000)); /* waiting, reading, uploading, running */
        int64_t at_ns = clock_now_ns();
        engine_cancel(rig.e, id);
        rig_wait(&rig, id, &heard);
        int64_t took_ns = clock_now_ns() - at_ns;
        worst_ns = took_ns > worst_ns ? took_ns : worst_ns;
        assert_int_equal(heard.last.kind, ENGINE_EVENT_CANCELLED);
        wait_idle();
        assert_int_equal(rig_info(&rig, "a").users + rig_info(&rig, "b").users, 0);
    }
    /* And then it still loads and answers. */
    struct engine_request r = rig_request(&rig, 10, 1, 20);
    rig_use(&r, "a", 1);
    rig_wait(&rig, rig_submit(&rig, &r), &heard);
    rig_expect(&r, identity_of("aa"), &heard);
    fake_adapters_delay(0);
    printf("figure: CAN-6 25 cancels from 0 to 48 ms into a load of 40 ms: the slowest end after "
           "%.1f ms\n",
           (double)worst_ns * 1e-6);
    assert_true(worst_ns < 1000000000); /* 200 ms is the aim; the machine may be busy */
    rig_close(&rig);
}

/* A cold adapter is held on the disk, then on its way to the device: streams begin and end
 * meanwhile, and it is held still. */
static void test_adapters_live_loads_delay_nobody(void **state)
{
    (void)state;
    struct engine_options opt = rig_options();
    int whole = 0;
    opt.host_adapter_bytes = 1;
    rig_open_live(&rig, &opt, SIZE_MAX);
    rig_add(&rig, "cold", "cold");
    rig_add(&rig, "warm", "warm");
    struct engine_request r = rig_request(&rig, 10, 1, 400), c = rig_request(&rig, 10, 1, 2);
    struct engine_request w = r;
    rig_use(&c, "cold", 1);
    rig_use(&w, "warm", 1);
    rig_wait(&rig, rig_submit(&rig, &w), &heard); /* now it is on the device */
    fake_adapters_delay(-1);
    rig.f->load_delay_us = -1;
    uint64_t id = rig_submit(&rig, &c);
    for (int held = 0; held < 2; held++) {
        for (int i = 0; i < 4; i++, whole++) {
            rig_wait(&rig, rig_submit(&rig, i % 2 ? &w : &r), &heard);
            rig_expect(i % 2 ? &w : &r, i % 2 ? identity_of("warm") : 0, &heard);
        }
        struct rig_heard cold = {0};
        rig_hear(&rig, id, &cold);
        assert_true(!cold.ended && cold.count == 0);
        assert_int_equal(rig_info(&rig, "cold").users, 1);
        fake_adapters_delay(0);
    }
    rig.f->load_delay_us = 0;
    rig_wait(&rig, id, &heard);
    rig_expect(&c, identity_of("cold"), &heard);
    printf("figure: %d streams of 400 tokens whole while a cold adapter is held on its way\n",
           whole);
    rig_close(&rig);
}

/* ---- a thousand adapters, memory for sixteen ---- */

/* Zipf: rank k with weight 1 / (k + 1). */
static int draw(unsigned *seed, double total)
{
    double at = (double)rand_r(seed) / RAND_MAX * total;
    for (int k = 0; k < MANY; k++) {
        at -= 1.0 / (k + 1);
        if (at <= 0)
            return k;
    }
    return MANY - 1;
}

static void test_adapters_live_thousand(void **state)
{
    (void)state;
    static struct rig_heard all[32];
    struct engine_options opt = rig_options();
    uint64_t hits = 0, requests = 0, loads = 0, disk = 0;
    double total = 0, worst_s = 0;
    unsigned seed = 5;
    char name[32];
    opt.host_adapter_bytes = 16 * 100;
    opt.slots_max = 16;
    opt.seqs_max = 8;
    opt.adapter_turn_steps = 16;
    rig_open_live(&rig, &opt, SIZE_MAX);
    for (int i = 0; i < MANY; i++) {
        path_name(name, "v", i);
        rig_add(&rig, name, name);
        total += 1.0 / (i + 1);
    }
    for (int round = 0; round < 60; round++) {
        struct engine_request r[32];
        uint64_t ids[32];
        int voice[32];
        for (int i = 0; i < 32; i++) {
            voice[i] = draw(&seed, total);
            path_name(name, "v", voice[i]);
            r[i] = rig_request(&rig, 5 + i, (uint64_t)i, 20);
            rig_use(&r[i], name, 1);
            ids[i] = rig_submit(&rig, &r[i]);
        }
        for (int i = 0; i < 32; i++) {
            path_name(name, "v", voice[i]);
            rig_wait(&rig, ids[i], &all[i]);
            rig_expect(&r[i], identity_of(name), &all[i]);
            double s = (double)all[i].last.usage.queue_ns * 1e-9;
            worst_s = s > worst_s ? s : worst_s;
        }
    }
    static struct engine_adapter_info info[MANY];
    assert_int_equal(engine_adapters(rig.e, info, MANY), MANY);
    for (int i = 0; i < MANY; i++) {
        hits += info[i].hits;
        requests += info[i].requests;
        loads += info[i].loads;
        disk += info[i].disk_reads;
    }
    printf("figure: %d adapters, host memory for 16, 16 slots, zipf, 32 in flight: %llu requests, "
           "%.0f %% found theirs on the device, %llu loads, %llu from disk, worst wait %.0f ms\n",
           MANY, (unsigned long long)requests, 100.0 * (double)hits / (double)requests,
           (unsigned long long)loads, (unsigned long long)disk, worst_s * 1e3);
    assert_int_equal(requests, 60 * 32);
    assert_true(disk > 0);
    rig_close(&rig);
}

/* A stream runs one step ahead from its first step to its last, whatever comes and goes beside it.
 */
static void test_adapters_live_keeps_a_step_in_flight(void **state)
{
    (void)state;
    struct engine_options opt = rig_options();
    struct engine_stats st;
    struct err err;
    int passed = 0;
    opt.prefix_cache = false;
    rig_open_live(&rig, &opt, SIZE_MAX);
    rig.f->delay_us = 1000;
    rig_add(&rig, "elf", "elf");
    struct engine_request r = rig_request(&rig, 10, 1, 400), one = rig_request(&rig, 3, 1, 1);
    rig_use(&r, "elf", 1);
    uint64_t id = rig_submit(&rig, &r);
    memset(&heard, 0, sizeof heard);
    while (heard.count < 2)
        rig_hear(&rig, id, &heard);
    int alone = rig.f->alone;
    one.adapter_count = 0;
    rig_use(&one, "guest", 1);
    for (; heard.count < 350; passed++) {
        struct rig_heard guest = {.count = 0};
        char path[32];
        path_name(path, "guest", passed);
        rig_add(&rig, "guest", path);
        uint64_t asked = rig_submit(&rig, &one);
        while (!guest.ended) {
            rig_hear(&rig, id, &heard);
            rig_hear(&rig, asked, &guest);
        }
        rig_expect(&one, identity_of(path), &guest);
        assert_int_equal(engine_adapter_remove(rig.e, "guest", &err), STATUS_OK);
    }
    assert_false(heard.ended);
    int emptied = rig.f->alone - alone, beside = rig.f->beside;
    while (!heard.ended)
        rig_hear(&rig, id, &heard);
    rig_expect(&r, identity_of("elf"), &heard);
    engine_get_stats(rig.e, &st);
    printf(
        "figure: %d adapters came and went in 350 tokens of a stream, %d slots filled or emptied "
        "beside a step, %d steps began with none in flight\n",
        passed, beside, emptied);
    assert_true(10 * emptied <= passed); /* a reader that sleeps pauses the stream */
    assert_int_equal(st.emptied, 0);
    assert_true(passed > 5 && beside >= 2 * passed - 2);
    rig_close(&rig);
}

/* Files that changed since the adapter was added are an error for who asks, not other bytes. */
static void test_adapters_live_changed_files(void **state)
{
    (void)state;
    struct engine_options opt = rig_options();
    opt.host_adapter_bytes = 1;
    rig_open_live(&rig, &opt, SIZE_MAX);
    rig_add(&rig, "elf", "shifty");
    for (int i = 0; i < 3; i++) {
        struct engine_request r = rig_request(&rig, 5, 1, 3);
        rig_use(&r, "elf", 1);
        rig_wait(&rig, rig_submit(&rig, &r), &heard);
        assert_int_equal(heard.last.kind, ENGINE_EVENT_ERROR);
        assert_int_equal(heard.last.err.code, STATUS_CONFLICT);
        assert_non_null(strstr(heard.last.err.msg, "'elf'"));
        assert_int_equal(heard.count, 0);
    }
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapters_live_prefix_cache),
        cmocka_unit_test(test_adapters_live_replace),
        cmocka_unit_test(test_adapters_live_streams),
        cmocka_unit_test(test_adapters_live_unload_under_streams),
        cmocka_unit_test(test_adapters_live_over_budget),
        cmocka_unit_test(test_adapters_live_cycles),
        cmocka_unit_test(test_adapters_live_cancel_while_loading),
        cmocka_unit_test(test_adapters_live_loads_delay_nobody),
        cmocka_unit_test(test_adapters_live_keeps_a_step_in_flight),
        cmocka_unit_test(test_adapters_live_thousand),
        cmocka_unit_test(test_adapters_live_changed_files),
    };
    log_setup(LOG_LEVEL_ERROR + 1, false);
    return cmocka_run_group_tests_name("adapters_live", tests, NULL, NULL);
}
