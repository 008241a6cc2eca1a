/* The division of the card's memory, by shape alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/cuda_memory.h"

#define GIB ((size_t)1 << 30)

/* Llama-3.2-3B. */
static struct cuda_memory_ask ask_3b(enum weight_format layers, enum weight_format head, int ctx,
                                     int seqs, double budget_gib)
{
    return (struct cuda_memory_ask){
        .shape = {.arch = ARCH_LLAMA,
                  .layers = 28,
                  .hidden = 3072,
                  .heads = 24,
                  .kv_heads = 8,
                  .head_dim = 128,
                  .ffn = 8192,
                  .vocab = 128256,
                  .ctx_max = 131072,
                  .tied_head = true,
                  .rms_eps = 1e-5,
                  .rope = {.kind = ROPE_DEFAULT, .theta = 500000}},
        .plan = {.rows_max = 256,
                 .seqs_max = seqs,
                 .outs_max = seqs + 32,
                 .segments_max = seqs * 4,
                 .slots_max = 32,
                 .pages = seqs * ctx / 16,
                 .ctx_max = ctx},
        .formats = {layers, head},
        .budget_bytes = (size_t)(budget_gib * (double)GIB),
    };
}

static void print(const char *what, const struct cuda_memory *m, int pages)
{
    printf("figure: %s: sum %zu MiB = layers %zu, head %zu, embedding %zu, kv %zu (%d tokens), "
           "adapters %zu, workspace %zu, graphs %zu, reserve %zu\n",
           what, m->total >> 20, m->weights.layers >> 20, m->weights.head >> 20,
           m->weights.embed >> 20, m->kv >> 20, pages * 16, m->arena >> 20, m->workspace >> 20,
           m->graphs >> 20, m->reserve >> 20);
}

static size_t sum_of(const struct cuda_memory *m)
{
    return cuda_weights_total(&m->weights) + m->kv + m->arena + m->workspace + m->graphs +
           m->reserve;
}

/* An 8 GB card that a desktop leaves 7.4 GB: four bits, adapters, and 16 sequences of up to 4096
 * tokens, which share the pages. */
static void test_cuda_memory_8_gb(void **state)
{
    (void)state;
    struct cuda_memory_ask ask = ask_3b(WEIGHT_INT4, WEIGHT_INT8, 4096, 16, 6.9);
    struct cuda_memory m;
    struct err e = {0};
    int pages = 0;
    /* 32 of rank 64 on q, k, v. */
    ask.arena_bytes = (size_t)32 * 52 << 20;
    if (cuda_memory_divide(&ask, 4096 / 16, &m, &pages, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    print("3B int4, 8 GB, 32 adapters", &m, pages);
    assert_true(m.total <= ask.budget_bytes);
    assert_int_equal(m.total, sum_of(&m));
    assert_true(pages >= 16 * 1024 / 16);
    /* PERFORMANCE: 1,453 MB of int4 layers, 394 MB of int8 head, 788 MB of embedding. */
    assert_in_range(m.weights.layers / 1000000, 1450, 1470);
    assert_in_range(m.weights.head / 1000000, 394, 396);
    assert_in_range((m.weights.embed + m.host) / 1000000, 787, 789);
}

/* 32 adapters of rank 64 on q, k and v: each has 25.69 million values in 16 bits, 49 MiB, in whole
 * tiles. */
#define QKV_ARENA ((size_t)32 * 49 << 20)
/* On all seven linears: 97.26 million values, 186 MiB. */
#define SEVEN_BYTES ((size_t)186 << 20)
/* What a driver leaves of 8 GB. */
#define CARD_8_GB 7.6

/* The same card with nothing else on it: 16 sequences of 4096 tokens each, all at once, beside 32
 * adapters, with bytes for keys and values. As `chorus serve --quant int4 --kv-cache-type int8
 * --ctx 4096 --max-seqs 16 --kv-pages 4096 --lora-arena 1568MiB --gpu-memory 7782MiB` asks for, and
 * prints, on any card. */
static void test_cuda_memory_8_gb_whole(void **state)
{
    (void)state;
    /* The server keeps one seat more for other clients. */
    struct cuda_memory_ask ask = ask_3b(WEIGHT_INT4, WEIGHT_INT8, 4096, 17, CARD_8_GB);
    struct cuda_memory m;
    struct err e = {0};
    int pages = 0;
    ask.plan.rows_max = 512;
    ask.ways = (struct cuda_ways){.library = true, .pieces = true};
    ask.arena_bytes = QKV_ARENA;
    ask.kv_type = KV_INT8;
    ask.plan.pages = 16 * 4096 / 16;
    if (cuda_memory_divide(&ask, 16 * 4096 / 16, &m, &pages, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    print("3B int4, 8 GB, 32 adapters, int8 keys and values", &m, pages);
    assert_int_equal(pages * 16, 16 * 4096);
    assert_true(m.total <= ask.budget_bytes);
    assert_int_equal(m.total, sum_of(&m));
    /* 28 layers, 8 heads, k and v: 128 bytes and a scale of 2. The embedding's 788 MB are on the
     * host. */
    assert_int_equal(m.kv, (size_t)65536 * 28 * 8 * 2 * 130);
    assert_int_equal(m.weights.embed, 0);
    assert_in_range(m.host / 1000000, 787, 789);
    printf("figure: %.2f GiB of %.2f; with adapters on all seven linears %zu fit, and 32 make it "
           "%.2f GiB\n",
           (double)m.total / (double)GIB, CARD_8_GB,
           (ask.budget_bytes - m.total + m.arena) / SEVEN_BYTES,
           (double)(m.total - m.arena + 32 * SEVEN_BYTES) / (double)GIB);
    /* In bf16 they do not. */
    ask.kv_type = KV_BF16;
    assert_int_equal(cuda_memory_divide(&ask, 16 * 4096 / 16, &m, &pages, &e), STATUS_NO_MEMORY);
}

/* The arena is planned for adapters as wide as they will be. */
static void test_cuda_memory_codes(void **state)
{
    (void)state;
    struct cuda_memory_ask ask = ask_3b(WEIGHT_INT4, WEIGHT_INT8, 4096, 16, 75);
    /* Rank 64 on all seven linears: values of A and B, int4's groups of 64, of 28 layers. */
    const size_t a = (size_t)64 * (6 * 3072 + 8192) * 28, b = (size_t)64 * 27648 * 28;
    const size_t bytes[] = {2 * (a + b), a + b, (a + b) / 2 + (a + b) / 32};
    for (int codes = LORA_BF16; codes <= LORA_INT4; codes++) {
        struct cuda_memory m;
        struct err e = {0};
        int pages = 0;
        ask.codes = (enum lora_codes)codes;
        if (cuda_memory_divide(&ask, 4096 / 16, &m, &pages, &e) != STATUS_OK)
            fail_msg("%s", e.msg);
        assert_int_equal(m.arena, (size_t)ask.plan.slots_max * bytes[codes]);
    }
}

/* The embedding leaves the card where that makes room that is needed, and only there. */
static void test_cuda_memory_embedding(void **state)
{
    (void)state;
    static const struct {
        double gib;
        enum cuda_embedding where;
        bool host;
    } cases[] = {
        {75, EMBED_AUTO, false},  {75, EMBED_HOST, true},  {7.6, EMBED_AUTO, true},
        {7.6, EMBED_CARD, false}, {20, EMBED_AUTO, false},
    };
    size_t kv[2] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cuda_memory_ask ask = ask_3b(WEIGHT_INT4, WEIGHT_INT8, 8192, 32, cases[i].gib);
        struct cuda_memory m;
        struct err e = {0};
        int pages;
        ask.embedding = cases[i].where;
        assert_int_equal(cuda_memory_divide(&ask, 512, &m, &pages, &e), STATUS_OK);
        assert_int_equal(m.host > 0, cases[i].host);
        assert_int_equal(m.weights.embed > 0, !cases[i].host);
        assert_int_equal(m.total, sum_of(&m));
        assert_true(m.total <= ask.budget_bytes);
        if (cases[i].gib < 8)
            kv[cases[i].host] = m.kv + m.arena;
    }
    assert_in_range(kv[1] - kv[0], 780000000, 800000000);
}

static void test_cuda_memory_shares(void **state)
{
    (void)state;
    struct cuda_memory m;
    struct err e = {0};
    int pages = 0;
    /* Enough for all: what is wanted is given. */
    struct cuda_memory_ask ask = ask_3b(WEIGHT_BF16, WEIGHT_BF16, 8192, 64, 75);
    assert_int_equal(cuda_memory_divide(&ask, 512, &m, &pages, &e), STATUS_OK);
    print("3B bf16, 80 GB", &m, pages);
    assert_int_equal(pages, ask.plan.pages);
    assert_in_range(m.arena / 1000000, 32 * 190, 32 * 200); /* rank 64, all seven linears */
    /* Less: both give way, neither to nothing. */
    ask = ask_3b(WEIGHT_INT4, WEIGHT_INT8, 4096, 16, 6.9);
    assert_int_equal(cuda_memory_divide(&ask, 256, &m, &pages, &e), STATUS_OK);
    print("3B int4, 8 GB", &m, pages);
    assert_in_range(m.arena, GIB, 4 * GIB);
    assert_in_range(pages, 256, ask.plan.pages - 1);
    assert_int_equal(m.total, sum_of(&m));
    /* Hardly any: pages come first. */
    size_t rest = m.total - m.kv - m.arena;
    ask.budget_bytes = rest + 256 * cuda_memory_page_bytes(&ask.shape, KV_BF16) + 4096;
    assert_int_equal(cuda_memory_divide(&ask, 256, &m, &pages, &e), STATUS_OK);
    assert_int_equal(pages, 256);
    assert_true(m.total <= ask.budget_bytes);
}

static void test_cuda_memory_too_small(void **state)
{
    (void)state;
    static const struct {
        enum weight_format layers;
        double gib;
        const char *says;
    } cases[] = {
        {WEIGHT_INT4, 2.75, "--ctx 4096 --max-seqs 16 would fit, and with --kv-cache-type int8"},
        {WEIGHT_INT4, 3.5,
         "--ctx 8192 --max-seqs 16 would fit, and with --kv-cache-type int8 "
         "--ctx 16384 --max-seqs 16."},
        {WEIGHT_BF16, 5.0, "--quant int4 --ctx 16384 --max-seqs 16 would"},
        {WEIGHT_INT4, 1.5, "too small for this model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cuda_memory_ask ask = ask_3b(cases[i].layers, WEIGHT_INT8, 16384, 16, cases[i].gib);
        struct cuda_memory m;
        struct err e = {0};
        int pages = -1;
        assert_int_equal(cuda_memory_divide(&ask, 1024, &m, &pages, &e), STATUS_NO_MEMORY);
        assert_int_equal(pages, -1);
        printf("figure: %s\n", e.msg);
        if (!strstr(e.msg, cases[i].says))
            fail_msg("%g GiB: '%s' does not say '%s'", cases[i].gib, e.msg, cases[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_memory_8_gb),   cmocka_unit_test(test_cuda_memory_8_gb_whole),
        cmocka_unit_test(test_cuda_memory_codes),  cmocka_unit_test(test_cuda_memory_embedding),
        cmocka_unit_test(test_cuda_memory_shares), cmocka_unit_test(test_cuda_memory_too_small),
    };
    return cmocka_run_group_tests_name("cuda_memory", tests, NULL, NULL);
}
