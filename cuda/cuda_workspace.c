#include "cuda/cuda_workspace.h"

#include "cuda/cublas.h"
#include "cuda/k_linear.h"
#include "cuda/stack_shape.h"
#include "cuda/step_pieces.h"

/* Bytes of one piece's u where the library multiplies: RANK_TILES_MAX tiles of 16 ranks by 8 rows,
 * bf16. */
#define MANY_PIECE_U ((size_t)RANK_TILES_MAX * 256)

/* Rows whose partial sums of attention there is room for; larger steps attend in several launches.
 * With ATTEND_PARTS_MAX that bounds them: 26 MB for 24 heads of 128. */
#define ATTEND_ROWS BUCKET_ROWS_GRAPH

/* A matrix that takes more than this unpacked is made in parts. */
#define DEQUANT_BYTES_MAX ((size_t)256 << 20)

static void place_many(const struct model_shape *s, struct cuda_carve *c, size_t rows,
                       size_t pieces, struct cuda_workspace *w)
{
    size_t most = 0, widest = 0, tail = MANY_TAIL;
    for (int k = 0; k < STACK_KINDS; k++) {
        struct stack_shape shape;
        stack_shape_init(s, STACK_OF(0, k), &shape);
        int n = shape.tiles * TILE_N;
        w->product_stride = n > w->product_stride ? n : w->product_stride;
        size_t k_wide = (size_t)shape.groups * TILE_K;
        size_t bytes = (size_t)n * (k_wide + tail) * sizeof *w->dequant;
        most = bytes > most ? bytes : most;
        widest = k_wide > widest ? k_wide : widest;
    }
    w->many_xn = cuda_carve(c, rows, ((size_t)w->hidden_stride + tail) * sizeof *w->many_xn);
    w->many_attn = cuda_carve(c, rows, ((size_t)w->attn_stride + tail) * sizeof *w->many_attn);
    w->many_h = cuda_carve(c, rows, ((size_t)w->ffn_stride + tail) * sizeof *w->many_h);
    w->many_u = cuda_carve(c, pieces, MANY_PIECE_U);
    w->many_a = cuda_carve(c, tail, widest * sizeof *w->many_a);
    w->dequant_bytes = most < DEQUANT_BYTES_MAX ? most : DEQUANT_BYTES_MAX;
    w->product = cuda_carve(c, rows, (size_t)w->product_stride * sizeof *w->product);
    w->dequant = cuda_carve(c, 1, w->dequant_bytes);
    w->library = cuda_carve(c, 1, CUBLAS_WORKSPACE_BYTES);
}

bool cuda_workspace_place(const struct model_shape *s, const struct backend_plan *p,
                          struct cuda_ways ways, uintptr_t base, struct cuda_workspace *out,
                          size_t *bytes)
{
    struct cuda_carve c = {.base = base};
    struct stack_shape qkv;
    stack_shape_init(s, STACK_OF(0, STACK_QKV), &qkv);
    size_t rows = (size_t)cuda_bucket_rows(p->rows_max);
    size_t outs = (size_t)cuda_bucket_rows(p->outs_max);
    size_t heads = (size_t)s->heads, kv_heads = (size_t)s->kv_heads;
    struct cuda_workspace w = {
        .hidden_stride = PAD_K(s->hidden),
        .qkv_stride = qkv.tiles * TILE_N,
        .attn_stride = PAD_K(s->heads * s->head_dim),
        .ffn_stride = PAD_K(s->ffn),
        .vocab_stride = PAD_N(s->vocab),
        .ss_tiles = PAD_N(s->hidden) / TILE_N,
        .table_stride = STACK_COUNT(s->layers),
    };
    w.y = cuda_carve(&c, rows, (size_t)w.hidden_stride * sizeof *w.y);
    w.xn = cuda_carve(&c, rows, (size_t)w.hidden_stride * sizeof *w.xn);
    w.ss = cuda_carve(&c, rows, (size_t)w.ss_tiles * sizeof *w.ss);
    w.qkv = cuda_carve(&c, rows, (size_t)w.qkv_stride * sizeof *w.qkv);
    size_t few = ways.library && rows > BUCKET_ROWS_GRAPH ? BUCKET_ROWS_GRAPH : rows;
    w.attn = cuda_carve(&c, few, (size_t)w.attn_stride * sizeof *w.attn);
    w.h = cuda_carve(&c, few, (size_t)w.ffn_stride * sizeof *w.h);
    w.logits = cuda_carve(&c, outs, (size_t)w.vocab_stride * sizeof *w.logits);
    int chunks = cuda_bucket_chunks(p->ctx_max);
    w.attend_span = attend_span(chunks);
    size_t parts = (size_t)attend_parts(chunks, w.attend_span, s->window);
    w.partial_rows = parts == 1 ? 0 : rows < ATTEND_ROWS ? (int)rows : ATTEND_ROWS;
    w.partial = cuda_carve(&c, (size_t)w.partial_rows * heads,
                           parts * ((size_t)s->head_dim + 2) * sizeof *w.partial);
    w.sample = cuda_carve(&c, outs, cuda_sample_scratch(s->vocab) * sizeof *w.sample);
    int most = (int)(few > outs ? few : outs);
    w.u_bytes = (size_t)step_pieces_max(most, p->seqs_max) * LINEAR_PIECE_U;
    w.u_bytes = w.u_bytes > LINEAR_U_MIN ? w.u_bytes : LINEAR_U_MIN;
    w.u = cuda_carve(&c, 1, w.u_bytes);
    w.pieces = cuda_carve(&c, (size_t)w.table_stride, sizeof *w.pieces);
    w.begun = cuda_carve(&c, (size_t)w.table_stride, LINEAR_BEGUN * sizeof *w.begun);
    w.arrived_count = (int)(rows * kv_heads);
    w.arrived = cuda_carve(&c, rows * kv_heads, sizeof *w.arrived);
    size_t slots = (size_t)p->slots_max;
    w.table = cuda_carve(&c, slots, (size_t)w.table_stride * sizeof *w.table);
    w.embeds = cuda_carve(&c, slots, sizeof *w.embeds);
    w.results = cuda_carve(&c, outs, sizeof *w.results);
    w.next_token = cuda_carve(&c, outs, sizeof *w.next_token);
    w.image = cuda_carve(&c, 1, cuda_image_bytes(p, s->vocab));
    if (ways.library && rows > BUCKET_ROWS_GRAPH)
        place_many(s, &c, rows, (size_t)step_pieces_max((int)rows, p->seqs_max), &w);
    *out = w;
    *bytes = c.used;
    return !c.overflow;
}
