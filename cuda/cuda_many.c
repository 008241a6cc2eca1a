#include "cuda/cuda_many.h"

#include "cuda/k_dequant.h"
#include "cuda/k_tail.h"
#include "engine/base/log.h"

_Static_assert(MANY_ROWS_LEAST > BUCKET_ROWS_GRAPH, "the library's calls are in no graph");

enum status cuda_many_open(struct cuda_many *m, struct err *e)
{
    enum status st = cublas_open(&m->cublas, e);
    if (st != STATUS_UNSUPPORTED)
        return st;
    LOG_INFO(LOG_WHAT("prompts are computed without cuBLAS, more slowly"), LOG_STR("why", e->msg));
    return STATUS_OK;
}

void cuda_many_close(struct cuda_many *m)
{
    cublas_close(m->cublas);
    m->cublas = NULL;
}

bool cuda_many_takes(const struct cuda_many *m, int rows)
{
    return m->cublas && rows >= MANY_ROWS_LEAST;
}

enum status cuda_many_place(struct cuda_many *m, const struct cuda_workspace *ws, cudaStream_t s,
                            struct err *e)
{
    enum status st = cublas_place(m->cublas, s, ws->library, CUBLAS_WORKSPACE_BYTES);
    return st == STATUS_OK ? st
                           : err_set(e, st, "backend", "cuBLAS refuses its stream or workspace.");
}

/* ---- runs ---- */

/* Keeps the longest, in order. */
static void run_add(struct cuda_many *m, struct many_run run)
{
    int at = m->runs;
    while (at > 0 && m->run[at - 1].rows < run.rows)
        at--;
    if (at == MANY_RUNS_MAX)
        return;
    m->runs += m->runs < MANY_RUNS_MAX;
    for (int i = m->runs - 1; i > at; i--)
        m->run[i] = m->run[i - 1];
    m->run[at] = run;
}

void cuda_many_begin(struct cuda_many *m, const struct batch *b, const uint8_t *slot_gain)
{
    m->runs = 0;
    int end = 0; /* of the segments before */
    for (int i = 0; b && i < b->segment_count; i++) {
        const struct batch_segment *s = &b->segments[i];
        bool alone = s->row_begin >= end &&
                     (i + 1 == b->segment_count || b->segments[i + 1].row_begin >= s->row_end);
        end = s->row_end > end ? s->row_end : end;
        if (alone && s->row_end - s->row_begin >= MANY_RUN_LEAST && !slot_gain[s->slot])
            run_add(m, (struct many_run){
                           .segment = i, .row = s->row_begin, .rows = s->row_end - s->row_begin});
    }
}

/* Runs that go through the library at one linear, and where their ranks stand behind x. */
struct tails {
    const struct many_run *run[MANY_RUNS_MAX];
    const struct batch_segment *segment[MANY_RUNS_MAX];
    const struct lora_stack *lora[MANY_RUNS_MAX];
    int column[MANY_RUNS_MAX];
    int count;
    int ranks; /* of all */
    /* While the pass is tried: all rows, a rank tile of whatever the workspace holds. */
    struct many_run try_run;
    struct batch_segment try_segment;
    struct lora_stack try_lora;
};

static const struct lora_stack *stack_of(const struct many_linear *l, int slot)
{
    return l->table + (size_t)slot * (size_t)l->behind.table_stride + l->behind.stack;
}

static void tails_add(struct tails *t, const struct many_linear *l, const struct many_run *run,
                      const struct batch_segment *segment, const struct lora_stack *lora)
{
    t->run[t->count] = run;
    t->segment[t->count] = segment;
    t->lora[t->count] = lora;
    t->column[t->count++] = l->w->groups * TILE_K + t->ranks;
    t->ranks += lora->rank_tiles * TILE_N;
}

static void tails_try(struct tails *t, const struct many_linear *l, const void *anything)
{
    t->try_run = (struct many_run){.rows = l->rows};
    t->try_segment = (struct batch_segment){.row_end = l->rows};
    t->try_lora = (struct lora_stack){.a = anything,
                                      .b = {anything, anything, anything},
                                      .rank_tiles = 1,
                                      .module_tile = {0, 1, 1, 1}};
    tails_add(t, l, &t->try_run, &t->try_segment, &t->try_lora);
}

/* Picks the tails; what is left is for cuda_base: returns the most rank tiles a segment there has.
 */
static int choose(const struct cuda_many *m, const struct cuda_workspace *ws,
                  const struct many_linear *l, struct tails *t)
{
    uint8_t taken[LIMIT_SEQS * LIMIT_ADAPTERS_PER_REQUEST] = {0};
    int most = 0;
    *t = (struct tails){.count = 0};
    if (!l->behind.table)
        return 0;
    const bool scaled = l->w->row_scale != NULL; /* behind the product: B may not be in it */
    if (!l->batch) {
        if (!scaled)
            tails_try(t, l, ws->product);
        return 1;
    }
    for (int i = 0; i < (scaled ? 0 : m->runs); i++) {
        const struct many_run *run = &m->run[i];
        const struct batch_segment *segment = &l->batch->segments[run->segment];
        const struct lora_stack *lora = stack_of(l, segment->slot);
        int ranks = lora->rank_tiles * TILE_N;
        if (ranks == 0 || t->ranks + ranks > MANY_TAIL)
            continue;
        tails_add(t, l, run, segment, lora);
        taken[run->segment] = 1;
    }
    for (int i = 0; i < l->batch->segment_count; i++) {
        int tiles = stack_of(l, l->batch->segments[i].slot)->rank_tiles;
        most = !taken[i] && tiles > most ? tiles : most;
    }
    return most;
}

/* ---- a linear ---- */

/* One linear's work, all parts of its matrix. */
struct work {
    const struct cuda_many *m;
    const struct cuda_workspace *ws;
    const struct many_linear *l;
    struct tails tails;
    struct cublas_product p; /* but for y's column and n */
    cudaStream_t s;
};

/* u of a run, module by module, or at once where their scales agree. */
static enum status multiply_a(const struct work *w, int i)
{
    const struct lora_stack *lora = w->tails.lora[i];
    const struct many_run *run = w->tails.run[i];
    const int k = w->l->w->groups * TILE_K;
    const struct base_args *a = &w->l->behind;
    uint16_t *x = (uint16_t *)(uintptr_t)a->x + (size_t)run->row * (size_t)a->x_stride;
    enum status st = STATUS_OK;
    for (int module = 0, end; st == STATUS_OK && module < STACK_MODULES; module = end) {
        const int first = lora->module_tile[module];
        end = module + 1;
        while (end < STACK_MODULES && (lora->module_tile[end] == lora->module_tile[end + 1] ||
                                       lora->scale[end] == lora->scale[module]))
            end++;
        const int ranks = (lora->module_tile[end] - first) * TILE_N;
        struct cublas_product p = {
            .x = x,
            .x_stride = a->x_stride,
            .w = w->ws->many_a + (size_t)first * TILE_N * (size_t)k,
            .w_stride = k,
            .y = x + w->tails.column[i] + first * TILE_N,
            .y_stride = a->x_stride,
            .y_bf16 = true,
            .factor = w->tails.segment[i]->weight * lora->scale[module],
            .rows = run->rows,
            .n = ranks,
            .k = k,
        };
        if (ranks > 0)
            st = cublas_multiply(w->m->cublas, &p);
    }
    return st;
}

/* B of the run's adapter behind tiles [tile, tile + tiles); with the first of them u too. */
static enum status add_tail(const struct work *w, int i, int tile, int tiles)
{
    const struct base_args *a = &w->l->behind;
    struct tail_args t = {.lora = *w->tails.lora[i],
                          .interleaved = w->l->interleaved,
                          .groups = w->l->w->groups,
                          .w = w->ws->dequant,
                          .w_stride = w->p.w_stride,
                          .tile_first = tile,
                          .tile_count = tiles,
                          .column = w->tails.column[i],
                          .x = (void *)(uintptr_t)a->x,
                          .x_stride = a->x_stride,
                          .row = w->tails.run[i]->row,
                          .rows = w->tails.run[i]->rows};
    for (int m = 0; m < STACK_MODULES; m++)
        t.module_tile[m] = a->module_tile[m];
    if (tile == 0) {
        t.a = w->ws->many_a;
        t.x_rows = w->l->rows;
    }
    enum status st = cuda_tail(&t, w->s);
    return st == STATUS_OK && tile == 0 ? multiply_a(w, i) : st;
}

/* Tiles of output features [tile, tile + tiles). */
static enum status multiply(const struct work *w, int tile, int tiles)
{
    struct dequant_args d = {.w = *w->l->w,
                             .tile_first = tile,
                             .tile_count = tiles,
                             .out = w->ws->dequant,
                             .out_stride = w->p.w_stride};
    struct cublas_product p = w->p;
    p.y = (float *)p.y + (size_t)tile * TILE_N;
    p.n = tiles * TILE_N;
    enum status st = cuda_dequant(&d, w->s);
    for (int i = 0; st == STATUS_OK && i < w->tails.count; i++)
        st = add_tail(w, i, tile, tiles);
    return st == STATUS_OK ? cublas_multiply(w->m->cublas, &p) : st;
}

/* Zeros beyond the true width belong to the product: its k stays a multiple of TILE_K. */
static enum status work_init(struct work *w, bool plain)
{
    const struct base_args *a = &w->l->behind;
    const int k = w->l->w->groups * TILE_K;
    if (w->l->w->tiles * TILE_N > w->ws->product_stride || w->l->rows < 1 ||
        a->x_stride < k + MANY_TAIL)
        return STATUS_UNSUPPORTED;
    w->p = (struct cublas_product){.x = a->x,
                                   .x_stride = a->x_stride,
                                   .w = w->ws->dequant,
                                   .w_stride = k + w->tails.ranks,
                                   .y = plain ? a->y : w->ws->product,
                                   .y_stride = plain ? a->y_stride : w->ws->product_stride,
                                   .add = plain && a->out == BASE_ADD,
                                   .factor = 1.0f,
                                   .rows = w->l->rows,
                                   .k = k + w->tails.ranks};
    return STATUS_OK;
}

enum status cuda_many_linear(const struct cuda_many *m, const struct cuda_workspace *ws,
                             const struct many_linear *l, cudaStream_t s)
{
    struct work w = {.m = m, .ws = ws, .l = l, .s = s};
    const int rank_tiles = choose(m, ws, l, &w.tails);
    /* Whether the product is all there is to it. */
    const bool plain =
        rank_tiles == 0 && !l->w->row_scale && !l->behind.bias && l->behind.out != BASE_SWIGLU;
    enum status st = work_init(&w, plain);
    if (st != STATUS_OK)
        return st;
    int most = (int)(ws->dequant_bytes / ((size_t)TILE_N * (size_t)w.p.w_stride * 2));
    if (most == 0)
        return STATUS_UNSUPPORTED;
    for (int tile = 0; tile < l->w->tiles; tile += most) {
        int left = l->w->tiles - tile;
        st = multiply(&w, tile, left < most ? left : most);
        if (st != STATUS_OK)
            return st;
    }
    if (plain)
        return STATUS_OK;
    struct base_args a = l->behind;
    a.tiles = l->w->tiles;
    a.n = l->w->n;
    a.groups = l->w->groups;
    a.product = ws->product;
    a.product_stride = ws->product_stride;
    a.row_scale = l->w->row_scale;
    a.table = rank_tiles > 0 ? l->behind.table : NULL;
    a.rank_tiles_max = rank_tiles;
    for (int i = 0; i < w.tails.count; i++)
        a.done[i] = (struct base_rows){w.tails.run[i]->row, w.tails.run[i]->rows};
    a.done_count = w.tails.count;
    return cuda_base(&a, s);
}
