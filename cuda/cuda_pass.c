/* cuda_pass: the operations of a step. In steps of few rows each is one or two launches whose
 * arguments depend on the step's bucket only; while a graph replays the pass they have nothing to
 * do. In steps of many rows (cuda_many.h) the linears go through a library, the norms are launches
 * of their own, and the batch is looked at. */
#include "cuda/cuda_pass.h"

#include <math.h>

#include "cuda/k_attend.h"
#include "cuda/k_embed.h"
#include "cuda/k_linear.h"
#include "cuda/k_norm.h"
#include "cuda/k_sample.h"
#include "cuda/stack_shape.h"
#include "engine/base/log.h"

/* The first launch that fails decides; what follows it is left out. */
static void launched(struct cuda_backend *c, enum status st, const char *op)
{
    if (st == STATUS_OK)
        return;
    c->step.failed = st;
    c->step.failed_op = op;
    LOG_ERROR(
        LOG_WHAT("a kernel was not launched"), LOG_STR("op", op), LOG_STR("why", status_code(st)),
        LOG_STR("cuda", cudaGetErrorName(cudaGetLastError())), LOG_INT("rows", c->step.bucket.rows),
        LOG_INT("outs", c->step.bucket.outs), LOG_INT("chunks", c->step.bucket.chunks));
}

static bool idle(const struct cuda_backend *c)
{
    return c->step.graph || c->step.failed != STATUS_OK;
}

/* Whether adapters of this step may have something at a linear. */
static bool has_adapters(const struct cuda_backend *c, int stack)
{
    const enum bucket_adapters reach = c->step.bucket.adapters;
    const bool attn_in = stack % STACK_KINDS == STACK_QKV && stack != STACK_HEAD(c->w.shape.layers);
    return reach == ADAPTERS_ANY || (reach == ADAPTERS_ATTN_IN && attn_in);
}

/* ---- steps of many rows ---- */

static bool is_many(const struct cuda_backend *c)
{
    return cuda_many_takes(&c->many, c->step.bucket.rows);
}

/* y through the norm of weight `norm`, for the next linear; last: for the head. */
static void many_norm(struct cuda_backend *c, const float *norm, bool last)
{
    struct norm_args a = {
        .step = &c->step.dev,
        .rows_max = c->step.bucket.rows,
        .hidden = c->w.shape.hidden,
        .y = c->ws.y,
        .y_stride = c->ws.hidden_stride,
        .norm = norm,
        .eps = (float)c->w.shape.rms_eps,
        .xn = last ? c->ws.xn : c->ws.many_xn,
        .xn_stride = c->ws.hidden_stride + (last ? 0 : MANY_TAIL),
        .ss = last ? c->ws.ss : NULL,
        .dependent = c->dependent,
    };
    if (!idle(c))
        launched(c, cuda_norm(&a, c->stream), "norm");
}

/* `behind` says what goes in and out. */
static void many_linear(struct cuda_backend *c, int layer, enum lora_stack_kind kind,
                        const struct base_args *behind, const char *op)
{
    const struct batch *batch = c->step.batch;
    const int stack = STACK_OF(layer, kind);
    struct stack_shape shape;
    stack_shape_init(&c->w.shape, stack, &shape);
    struct many_linear l = {.w = cuda_weights_stack(&c->w, stack),
                            .interleaved = shape.interleaved,
                            .rows = batch ? batch->rows : c->step.bucket.rows,
                            .batch = batch,
                            .table = c->slots.table,
                            .behind = *behind};
    struct base_args *a = &l.behind;
    a->step = &c->step.dev;
    a->rows_max = c->step.bucket.rows;
    a->bias = c->w.layers[layer].bias[kind];
    a->table = has_adapters(c, stack) ? c->ws.table : NULL;
    a->table_stride = c->ws.table_stride;
    a->codes = cuda_has_codes(c);
    a->stack = stack;
    for (int m = 0; m < STACK_MODULES; m++)
        a->module_tile[m] = shape.module_tile[m];
    a->pieces_max = batch ? c->step.pieces : 1;
    a->u = c->ws.many_u;
    a->dependent = c->dependent;
    launched(c, cuda_many_linear(&c->many, &c->ws, &l, c->stream), op);
}

static void many_to_residual(struct cuda_backend *c, int layer, enum lora_stack_kind kind,
                             const void *x, int x_stride, const char *op)
{
    struct base_args a = {.out = BASE_ADD,
                          .x = x,
                          .x_stride = x_stride,
                          .y = c->ws.y,
                          .y_stride = c->ws.hidden_stride};
    many_linear(c, layer, kind, &a, op);
}

/* ---- the operations ---- */

/* What the linears of a step with adapters look up. */
static void pieces(struct cuda_backend *c)
{
    struct pieces_args a = {
        .step = &c->step.dev,
        .table = c->ws.table,
        .table_stride = c->ws.table_stride,
        .stacks = c->ws.table_stride,
        .out_stack = STACK_HEAD(c->w.shape.layers),
        .out = c->ws.pieces,
        .u = c->ws.u,
        .u_bytes = c->ws.u_bytes,
    };
    launched(c, cuda_pieces(&a, c->stream), "pieces");
}

void cuda_pass_embed(struct backend *b)
{
    struct cuda_backend *c = cuda_backend_of(b);
    const struct cuda_workspace *ws = &c->ws;
    if (idle(c))
        return;
    if (c->step.bucket.adapters != ADAPTERS_NONE)
        pieces(c);
    struct embed_args a = {
        .step = &c->step.dev,
        .rows_max = c->step.bucket.rows,
        .drawn = ws->next_token,
        .embed = c->w.embed,
        .hidden = c->w.shape.hidden,
        .norm = c->w.layers[0].attn_norm,
        .y = ws->y,
        .y_stride = ws->hidden_stride,
        .xn = ws->xn,
        .xn_stride = ws->hidden_stride,
        .ss = ws->ss,
        .table = ws->embeds,
        .counters = ws->arrived,
        .counter_count = ws->arrived_count,
        .dependent = 0, /* what is in front of it is another step's end, or k_pieces */
    };
    launched(c, cuda_embed(&a, c->stream), "embed");
    if (is_many(c))
        many_norm(c, c->w.layers[0].attn_norm, false);
}

/* What all linears have in common. */
static struct linear_args linear_of(struct cuda_backend *c, int stack)
{
    const struct cuda_workspace *ws = &c->ws;
    struct stack_shape shape;
    stack_shape_init(&c->w.shape, stack, &shape);
    struct linear_args a = {
        .w = *cuda_weights_stack(&c->w, stack),
        .step = &c->step.dev,
        .view = VIEW_ROWS,
        .rows_max = c->step.bucket.rows,
        .eps = (float)c->w.shape.rms_eps,
        .no_pieces = !has_adapters(c, stack),
        .table = ws->table,
        .table_stride = ws->table_stride,
        .codes = cuda_has_codes(c),
        .stack = stack,
        .pieces = ws->pieces,
        .u = ws->u,
        .begun = ws->begun + (size_t)stack * LINEAR_BEGUN,
        .sms = c->sms,
        .dependent = c->dependent,
    };
    for (int m = 0; m < STACK_MODULES; m++)
        a.module_tile[m] = shape.module_tile[m];
    return a;
}

/* Multiprocessors that attention of single rows takes: two blocks each. It stands between two
 * linears whose blocks fill theirs, and is the faster for finding some free, as is the second of
 * them. */
static int attend_sms(const struct cuda_backend *c)
{
    return (c->step.bucket.rows * c->w.shape.kv_heads + 1) / 2;
}

/* Reads the residual through its norm. */
static void read_normed(const struct cuda_backend *c, struct linear_args *a)
{
    a->x = c->ws.xn;
    a->x_stride = c->ws.hidden_stride;
    a->ss = c->ws.ss;
    a->ss_tiles = c->ws.ss_tiles;
}

/* Adds to the residual and prepares the next norm, of weight `norm`. */
static void add_to_residual(const struct cuda_backend *c, const float *norm, struct linear_args *a)
{
    a->out = LINEAR_RESIDUAL;
    a->y = c->ws.y;
    a->y_stride = c->ws.hidden_stride;
    a->norm = norm;
    a->xn = c->ws.xn;
    a->xn_stride = c->ws.hidden_stride;
    a->ss_out = c->ws.ss;
}

void cuda_pass_attn_in(struct backend *b, int layer)
{
    struct cuda_backend *c = cuda_backend_of(b);
    if (idle(c))
        return;
    if (is_many(c)) {
        struct base_args many = {.out = BASE_STORE,
                                 .x = c->ws.many_xn,
                                 .x_stride = c->ws.hidden_stride + MANY_TAIL,
                                 .y = c->ws.qkv,
                                 .y_stride = c->ws.qkv_stride};
        many_linear(c, layer, STACK_QKV, &many, "attn_in");
        return;
    }
    struct linear_args a = linear_of(c, STACK_OF(layer, STACK_QKV));
    read_normed(c, &a);
    a.leave = attend_sms(c);
    a.out = LINEAR_STORE;
    a.bias = c->w.layers[layer].bias[STACK_QKV];
    a.y = c->ws.qkv;
    a.y_stride = c->ws.qkv_stride;
    launched(c, cuda_linear(&a, c->stream), "attn_in");
}

void cuda_pass_attend(struct backend *b, int layer)
{
    struct cuda_backend *c = cuda_backend_of(b);
    const struct cuda_workspace *ws = &c->ws;
    const struct model_shape *s = &c->w.shape;
    if (idle(c))
        return;
    struct stack_shape qkv;
    stack_shape_init(s, STACK_OF(layer, STACK_QKV), &qkv);
    size_t layer_bytes = c->memory.kv / (size_t)s->layers;
    struct attend_args a = {
        .step = &c->step.dev,
        .rows_max = c->step.bucket.rows,
        .chunks_max = c->step.bucket.chunks,
        .qkv = ws->qkv,
        .qkv_stride = ws->qkv_stride,
        .k_at = qkv.module_tile[1] * TILE_N,
        .v_at = qkv.module_tile[2] * TILE_N,
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->head_dim,
        .window = s->window,
        .scale = 1.0f / sqrtf((float)s->head_dim),
        .rope_cos = c->w.rope_cos,
        .rope_sin = c->w.rope_sin,
        .q_norm = c->w.layers[layer].q_norm,
        .k_norm = c->w.layers[layer].k_norm,
        .eps = (float)s->rms_eps,
        .kv_type = c->kv_type,
        .kv = (char *)c->kv_mem + (size_t)layer * layer_bytes,
        .out = is_many(c) ? ws->many_attn : ws->attn,
        .out_stride = ws->attn_stride + (is_many(c) ? MANY_TAIL : 0),
        .span = ws->attend_span,
        .partial = ws->partial,
        .partial_rows = ws->partial_rows,
        .arrived = ws->arrived,
        .one_row_each = c->step.bucket.one_row_each,
        .dependent = c->dependent,
    };
    if (c->step.bucket.pieces > 0) {
        a.split = c->step.split;
        a.single = c->step.single;
        a.piece = c->step.piece;
        a.singles_max = c->step.bucket.singles;
        a.pieces_max = c->step.bucket.pieces;
    }
    launched(c, cuda_attend(&a, c->stream), "attend");
}

void cuda_pass_attn_out(struct backend *b, int layer)
{
    struct cuda_backend *c = cuda_backend_of(b);
    if (idle(c))
        return;
    if (is_many(c)) {
        many_to_residual(c, layer, STACK_O, c->ws.many_attn, c->ws.attn_stride + MANY_TAIL,
                         "attn_out");
        many_norm(c, c->w.layers[layer].mlp_norm, false);
        return;
    }
    struct linear_args a = linear_of(c, STACK_OF(layer, STACK_O));
    a.leave = attend_sms(c);
    a.x = c->ws.attn;
    a.x_stride = c->ws.attn_stride;
    a.bias = c->w.layers[layer].bias[STACK_O];
    add_to_residual(c, c->w.layers[layer].mlp_norm, &a);
    launched(c, cuda_linear(&a, c->stream), "attn_out");
}

void cuda_pass_mlp_in(struct backend *b, int layer)
{
    struct cuda_backend *c = cuda_backend_of(b);
    if (idle(c))
        return;
    if (is_many(c)) {
        struct base_args many = {.out = BASE_SWIGLU,
                                 .x = c->ws.many_xn,
                                 .x_stride = c->ws.hidden_stride + MANY_TAIL,
                                 .h = c->ws.many_h,
                                 .h_stride = c->ws.ffn_stride + MANY_TAIL};
        many_linear(c, layer, STACK_GATE_UP, &many, "mlp_in");
        return;
    }
    struct linear_args a = linear_of(c, STACK_OF(layer, STACK_GATE_UP));
    read_normed(c, &a);
    a.out = LINEAR_SWIGLU;
    a.bias = c->w.layers[layer].bias[STACK_GATE_UP];
    a.h = c->ws.h;
    a.h_stride = c->ws.ffn_stride;
    launched(c, cuda_linear(&a, c->stream), "mlp_in");
}

void cuda_pass_mlp_out(struct backend *b, int layer)
{
    struct cuda_backend *c = cuda_backend_of(b);
    if (idle(c))
        return;
    bool last = layer == c->w.shape.layers - 1;
    const float *norm = last ? c->w.final_norm : c->w.layers[layer + 1].attn_norm;
    if (is_many(c)) {
        many_to_residual(c, layer, STACK_DOWN, c->ws.many_h, c->ws.ffn_stride + MANY_TAIL,
                         "mlp_out");
        many_norm(c, norm, last);
        return;
    }
    struct linear_args a = linear_of(c, STACK_OF(layer, STACK_DOWN));
    a.x = c->ws.h;
    a.x_stride = c->ws.ffn_stride;
    a.bias = c->w.layers[layer].bias[STACK_DOWN];
    add_to_residual(c, norm, &a);
    launched(c, cuda_linear(&a, c->stream), "mlp_out");
}

void cuda_pass_head(struct backend *b)
{
    struct cuda_backend *c = cuda_backend_of(b);
    if (idle(c) || c->step.states_only)
        return;
    struct linear_args a = linear_of(c, STACK_HEAD(c->w.shape.layers));
    read_normed(c, &a);
    a.view = VIEW_OUTS;
    a.rows_max = c->step.bucket.outs;
    a.x_row = c->step.dev.out_row;
    a.out = LINEAR_STORE;
    a.y = c->ws.logits;
    a.y_stride = c->ws.vocab_stride;
    launched(c, cuda_linear(&a, c->stream), "head");
}

static void draw(struct cuda_backend *c, int dependent)
{
    struct sample_args a = {
        .step = &c->step.dev,
        .outs_max = c->step.bucket.outs,
        .logits = c->ws.logits,
        .stride = c->ws.vocab_stride,
        .vocab = c->w.shape.vocab,
        .rows = c->step.samples,
        .edits = c->step.edits,
        .masks = c->step.masks,
        .scratch = c->ws.sample,
        .results = c->ws.results,
        .next_token = c->ws.next_token,
        .dependent = dependent,
    };
    launched(c, cuda_sample(&a, c->stream), "sample");
}

void cuda_pass_sample(struct backend *b)
{
    struct cuda_backend *c = cuda_backend_of(b);
    if (!idle(c) && !c->step.states_only && !c->step.bucket.late)
        draw(c, c->dependent);
}

/* What is in front of it is no kernel that it could depend on. */
enum status cuda_pass_draw(struct cuda_backend *c)
{
    if (c->step.failed == STATUS_OK)
        draw(c, 0);
    return c->step.failed;
}
