/* k_pieces against the same in plain C, byte by byte, and what a record leaves alone. */
#include "tests/kernels/kernel_test.h"

#include <stdio.h>
#include <string.h>

#include "cuda/k_pieces.h"

#define SLOTS      5
#define STACKS     7
#define OUT_STACK  6 /* the head: reads the output rows */
#define PIECES_MAX 200

struct scene {
    struct lora_stack table[SLOTS * STACKS];
    struct lora_piece pieces[VIEW_COUNT][PIECES_MAX];
    struct step_head head;
};

static const uint8_t *pointer(uint64_t *seed)
{
    return (const uint8_t *)((uintptr_t)kernel_test_u32(seed) << 8);
}

/* Slot 0 has nothing anywhere, nobody has anything at stack 2. */
static void tables_init(struct scene *s, uint64_t *seed)
{
    for (int i = 0; i < SLOTS * STACKS; i++) {
        struct lora_stack *t = &s->table[i];
        if (i / STACKS == 0 || i % STACKS == 2)
            continue;
        for (int m = 0; m < STACK_MODULES; m++) {
            t->b[m] = pointer(seed);
            t->scale[m] = kernel_test_uniform(seed, -2, 2);
            t->module_tile[m + 1] = t->module_tile[m] + (int)kernel_test_below(seed, 33);
        }
        t->a = pointer(seed);
        t->codes = (int)kernel_test_below(seed, 3);
        t->rank_tiles = t->module_tile[STACK_MODULES];
    }
}

static void pieces_init(struct scene *s, enum step_view view, int count, uint64_t *seed)
{
    struct lora_pieces *head = &s->head.pieces[view];
    head->count = count;
    head->any_gain = count % 2;
    for (int i = 0; i < LORA_ROUNDS; i++)
        head->round_end[i] = count * (i + 1) / LORA_ROUNDS;
    for (int q = 0; q < count; q++)
        s->pieces[view][q] = (struct lora_piece){.slot = (int)kernel_test_below(seed, SLOTS),
                                                 .weight = kernel_test_uniform(seed, -1, 1),
                                                 .row = q * 8,
                                                 .rows = 1 + (int)kernel_test_below(seed, 8)};
}

/* What the kernel is to make of `out`, whose bytes are those of before. */
static void expect(const struct scene *s, int stack, struct stack_pieces *out)
{
    const enum step_view view = stack < OUT_STACK ? VIEW_ROWS : VIEW_OUTS;
    const struct lora_pieces *head = &s->head.pieces[view];
    int units = 0, cum[STACK_MODULES] = {0};
    for (int q = 0; q < head->count; q++) {
        const struct lora_piece *p = &s->pieces[view][q];
        const struct lora_stack *t = &s->table[p->slot * STACKS + stack];
        struct piece_entry e;
        struct piece_shrink k;
        memset(&e, 0, sizeof e);
        memset(&k, 0, sizeof k);
        e.before = (uint16_t)units;
        for (int m = 0; m < STACK_MODULES; m++)
            e.cum[m] = (uint16_t)cum[m];
        if (t->rank_tiles > 0) {
            e.row = k.row = (int16_t)p->row;
            e.rows = (int16_t)p->rows;
            e.codes = k.codes = t->codes;
            k.a = t->a;
            k.rows = (uint8_t)p->rows;
            k.rank_tiles = (uint8_t)t->rank_tiles;
            for (int m = 0; m < STACK_MODULES; m++) {
                e.b[m] = t->b[m];
                e.scale[m] = p->weight * t->scale[m];
                e.module_tile[m + 1] = (int16_t)t->module_tile[m + 1];
            }
        }
        units += t->rank_tiles;
        if (q >= PIECES_KEPT)
            continue;
        for (int m = 0; m < STACK_MODULES; m++)
            cum[m] += t->module_tile[m + 1] * (t->rank_tiles > 0 ? p->rows : 0);
        out->entry[q] = e;
        out->shrink[q] = k;
    }
    struct piece_head h;
    memset(&h, 0, sizeof h);
    h.count = units > 0 ? head->count : 0;
    h.units = units;
    for (int m = 0; m < STACK_MODULES; m++)
        h.cum[m] = (uint16_t)cum[m];
    memcpy(h.round_end, head->round_end, sizeof h.round_end);
    h.any_gain = head->any_gain;
    h.tag = PIECES_TAG_STACKS + 1 + (uint32_t)stack;
    out->head = h;
}

/* A call of the scene, with records as they are in `out` and that much of u. */
static struct pieces_args upload(const struct scene *s, const struct stack_pieces *out,
                                 struct step_dev *step, size_t u_bytes)
{
    *step = (struct step_dev){.head = kernel_test_upload(&s->head, sizeof s->head)};
    for (int v = 0; v < VIEW_COUNT; v++)
        step->pieces[v] = kernel_test_upload(s->pieces[v], sizeof s->pieces[v]);
    return (struct pieces_args){.step = step,
                                .table = kernel_test_upload(s->table, sizeof s->table),
                                .table_stride = STACKS,
                                .stacks = STACKS,
                                .out_stack = OUT_STACK,
                                .out = kernel_test_upload(out, STACKS * sizeof *out),
                                .u = u_bytes ? kernel_test_alloc(u_bytes) : NULL,
                                .u_bytes = u_bytes};
}

static void release(const struct pieces_args *a)
{
    const void *used[] = {a->step->head, a->step->pieces[0], a->step->pieces[1], a->table, a->out,
                          a->u};
    for (size_t k = 0; k < sizeof used / sizeof *used; k++)
        if (used[k])
            kernel_test_free((void *)used[k]);
}

static void test_pieces_records(void **state)
{
    (void)state;
    static const int counts[] = {0, 1, 8, 31, 32, 33, 64, 65, 150};
    uint64_t seed = 11;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        static struct scene s;
        static struct stack_pieces want[STACKS], got[STACKS];
        memset(got, 0xFF, sizeof got);
        for (int k = 0; k < STACKS; k++)
            got[k].head.tag = 0;
        memset(&s, 0, sizeof s);
        memset(want, 0xFF, sizeof want);
        tables_init(&s, &seed);
        pieces_init(&s, VIEW_ROWS, counts[i], &seed);
        pieces_init(&s, VIEW_OUTS, counts[i] / 2, &seed);
        struct step_dev step;
        const struct pieces_args a = upload(&s, got, &step, 0);
        assert_int_equal(STATUS_OK, cuda_pieces(&a, kernel_test_stream()));
        kernel_test_read(got, a.out, sizeof got);
        for (int k = 0; k < STACKS; k++) {
            expect(&s, k, &want[k]);
            kernel_test_equal("record", &got[k], &want[k], sizeof *want);
        }
        release(&a);
    }
}

/* From call to call and from linear to linear; and u is cleared when the count begins anew. */
static void test_pieces_tags(void **state)
{
    (void)state;
    enum { U_BYTES = 1040, U_WORDS = U_BYTES / 4 };
    static struct scene s;
    static struct stack_pieces got[STACKS];
    uint64_t seed = 12;
    tables_init(&s, &seed);
    pieces_init(&s, VIEW_ROWS, 3, &seed);
    memset(got, 0, sizeof got);
    for (int k = 0; k < STACKS; k++)
        got[k].head.tag = UINT32_MAX - 3 * PIECES_TAG_STACKS + 2 + (uint32_t)k;
    struct step_dev step;
    const struct pieces_args a = upload(&s, got, &step, U_BYTES);
    for (uint32_t call = 0; call < 4; call++) {
        uint32_t u[U_WORDS];
        assert_int_equal(STATUS_OK, cuda_pieces(&a, kernel_test_stream()));
        kernel_test_read(got, a.out, sizeof got);
        kernel_test_read(u, a.u, U_BYTES);
        for (int k = 0; k < STACKS; k++)
            assert_int_equal((call - 2) * PIECES_TAG_STACKS + 1 + (uint32_t)k, got[k].head.tag);
        for (int i = 0; i < U_WORDS; i++)
            assert_int_equal(call < 2 ? UINT32_MAX : 0, u[i]);
    }
    release(&a);
}

static void test_pieces_refused(void **state)
{
    (void)state;
    struct step_dev step = {0};
    static struct stack_pieces out;
    static struct lora_stack table;
    struct pieces_args a = {.step = &step, .stacks = 1};
    assert_int_equal(STATUS_INVALID, cuda_pieces(&a, kernel_test_stream()));
    a.table = &table;
    a.out = &out;
    a.stacks = PIECES_TAG_STACKS - 1;
    assert_int_equal(STATUS_INVALID, cuda_pieces(&a, kernel_test_stream()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pieces_records),
                                       cmocka_unit_test(test_pieces_tags),
                                       cmocka_unit_test(test_pieces_refused)};
    return kernel_test_run("pieces", tests, sizeof tests / sizeof *tests);
}
