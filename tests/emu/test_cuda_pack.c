/* Packing by several threads gives what one gives, and refuses for the same reason. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/cuda_adapter.h"
#include "cuda/stack_shape.h"
#include "engine/base/mem.h"
#include "engine/base/team.h"
#include "tests/unit/cpu_fixture.h"

struct packed {
    uint8_t *image;
    size_t bytes;
    struct lora_stack table[64];
    struct lora_embed embed;
    enum status status;
    struct err err;
};

static void pack(const struct lora *l, const struct model_shape *s, struct packed *p)
{
    memset(p, 0, sizeof *p);
    assert_true(STACK_COUNT(s->layers) <= 64);
    p->bytes = cuda_adapter_bytes(l, s, false);
    p->image = malloc(p->bytes);
    memset(p->image, 0xa5, p->bytes);
    p->status = cuda_adapter_pack(l, s, false, p->image, 4096, p->table, &p->embed, &p->err);
}

/* With as many threads as there are processors for, or with one. */
static void pack_both_ways(const struct lora *l, const struct model_shape *s, struct packed p[2])
{
    cpu_set_t all, one;
    int cpu = 0;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    pack(l, s, &p[0]);
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(team_threads(), 1);
    pack(l, s, &p[1]);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static struct lora *large(const struct model_shape *s, enum dtype d)
{
    struct fixture_lora f = {.rank = 512,
                             .attention = true,
                             .mlp = true,
                             .head = true,
                             .embed = true,
                             .dora = false,
                             .dtype = d,
                             .strength = 0.4};
    struct lora *l = fixture_lora(s, &f, 3);
    assert_true(cuda_adapter_bytes(l, s, false) >= (size_t)2 << 20); /* worth a team */
    return l;
}

static void test_cuda_pack_by_a_team(void **state)
{
    (void)state;
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    struct model_shape s = fixture_shape(ARCH_QWEN2);
    for (int i = 0; i < 3; i++) {
        static struct packed p[2];
        struct lora *l = large(&s, types[i]);
        pack_both_ways(l, &s, p);
        assert_int_equal(p[0].status, STATUS_OK);
        assert_int_equal(p[1].status, STATUS_OK);
        assert_memory_equal(p[0].image, p[1].image, p[0].bytes);
        assert_memory_equal(p[0].table, p[1].table, sizeof p[0].table);
        assert_memory_equal(&p[0].embed, &p[1].embed, sizeof p[0].embed);
        for (int k = 0; k < 2; k++)
            free(p[k].image);
        fixture_lora_free(l);
    }
}

/* The first module of those that cannot be packed is named, whoever came upon one first. */
static void test_cuda_pack_names_the_first_bad_module(void **state)
{
    (void)state;
    struct model_shape s = fixture_shape(ARCH_QWEN2);
    struct lora *l = large(&s, DTYPE_F32);
    for (int i = 2; i < l->module_count; i += 3) {
        uint32_t bits = 0x7f7fffff; /* finite, and beyond bf16 */
        float *last = (float *)(uintptr_t)l->modules[i].b.data + tensor_count(&l->modules[i].b) - 1;
        memcpy(last, &bits, sizeof bits);
    }
    char first[128];
    model_site_name(&s, l->modules[2].site, first, sizeof first);
    for (int round = 0; round < 10; round++) {
        static struct packed p[2];
        pack_both_ways(l, &s, p);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(p[k].status, STATUS_UNSUPPORTED);
            assert_string_equal(p[k].err.param, first);
            free(p[k].image);
        }
    }
    fixture_lora_free(l);
}

/* MEM-2: each allocation fails once; nothing is left. */
static void test_cuda_pack_without_memory(void **state)
{
    (void)state;
    struct model_shape s = fixture_shape(ARCH_QWEN2);
    struct lora *l = large(&s, DTYPE_BF16);
    int refused = 0;
    for (int64_t k = 1;; k++, refused++) {
        static struct packed p;
        mem_fail_at(k);
        pack(l, &s, &p);
        mem_fail_at(0);
        free(p.image);
        if (p.status == STATUS_OK)
            break;
        assert_int_equal(p.status, STATUS_NO_MEMORY);
    }
    assert_true(refused >= 4);
    fixture_lora_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_pack_by_a_team),
        cmocka_unit_test(test_cuda_pack_names_the_first_bad_module),
        cmocka_unit_test(test_cuda_pack_without_memory),
    };
    return cmocka_run_group_tests_name("cuda_pack", tests, NULL, NULL);
}
