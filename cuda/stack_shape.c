#include "cuda/stack_shape.h"

#include <string.h>

/* Sites of a stack of a layer, in row order. */
static const struct {
    int count;
    enum linear_kind kind[STACK_MODULES];
} stack_sites[STACK_KINDS] = {
    [STACK_QKV] = {3, {LINEAR_Q, LINEAR_K, LINEAR_V}},
    [STACK_O] = {1, {LINEAR_O}},
    [STACK_GATE_UP] = {2, {LINEAR_GATE, LINEAR_UP}},
    [STACK_DOWN] = {1, {LINEAR_DOWN}},
};

static void add_site(const struct model_shape *s, struct stack_shape *o, int site)
{
    int m = o->modules++;
    o->site[m] = site;
    model_site_dims(s, site, &o->k, &o->rows[m]);
}

void stack_shape_init(const struct model_shape *s, int stack, struct stack_shape *out)
{
    CHECK(stack >= 0 && stack < STACK_COUNT(s->layers));
    struct stack_shape o;
    memset(&o, 0, sizeof o);
    int kind = stack % STACK_KINDS;
    if (stack == STACK_HEAD(s->layers)) {
        add_site(s, &o, SITE_LM_HEAD(s->layers));
    } else {
        for (int i = 0; i < stack_sites[kind].count; i++)
            add_site(s, &o, SITE_OF(stack / STACK_KINDS, stack_sites[kind].kind[i]));
        o.interleaved = kind == STACK_GATE_UP;
    }
    if (o.interleaved) {
        CHECK(o.rows[0] == o.rows[1]);
        o.tiles = (o.rows[0] + TILE_N / 2 - 1) / (TILE_N / 2);
        o.n = o.tiles * TILE_N;
        o.module_tile[1] = o.tiles;
    } else {
        for (int m = 0; m < o.modules; m++) {
            o.module_tile[m] = o.tiles;
            o.n = o.tiles * TILE_N + o.rows[m];
            o.tiles += PAD_N(o.rows[m]) / TILE_N;
        }
    }
    for (int m = o.modules; m < STACK_MODULES; m++)
        o.module_tile[m] = o.tiles;
    o.groups = PAD_K(o.k) / TILE_K;
    *out = o;
}

int stack_shape_row(const struct stack_shape *s, int m, int row)
{
    if (s->interleaved)
        return row / (TILE_N / 2) * TILE_N + row % (TILE_N / 2) + m * (TILE_N / 2);
    return s->module_tile[m] * TILE_N + row;
}
