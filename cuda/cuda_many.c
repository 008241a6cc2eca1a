#include "cuda/cuda_many.h"

#include "cuda/k_dequant.h"
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

/* Whether the product is all there is to it. */
static bool is_plain(const struct base_args *a)
{
    return !a->table && !a->bias && a->out != BASE_SWIGLU;
}

/* Tiles of output features [tile, tile + tiles) into p, which has all else. */
static enum status multiply(const struct cuda_many *m, const struct cuda_workspace *ws,
                            const struct dev_matrix *w, struct cublas_product p, int tile,
                            int tiles, cudaStream_t s)
{
    struct dequant_args d = {.w = *w,
                             .tile_first = tile,
                             .tile_count = tiles,
                             .out = ws->dequant,
                             .out_stride = p.w_stride};
    p.y = (float *)p.y + (size_t)tile * TILE_N;
    p.n = tiles * TILE_N;
    enum status st = cuda_dequant(&d, s);
    return st == STATUS_OK ? cublas_multiply(m->cublas, &p) : st;
}

enum status cuda_many_linear(const struct cuda_many *m, const struct cuda_workspace *ws,
                             const struct dev_matrix *w, const struct base_args *behind, int rows,
                             cudaStream_t s)
{
    /* Zeros beyond the true width belong to the product: its k stays a multiple of TILE_K. */
    const int k = w->groups * TILE_K;
    int most = (int)(ws->dequant_bytes / ((size_t)TILE_N * (size_t)k * sizeof *ws->dequant));
    if (most == 0 || w->tiles * TILE_N > ws->product_stride || rows < 1)
        return STATUS_UNSUPPORTED;
    bool plain = is_plain(behind);
    struct cublas_product p = {.x = behind->x,
                               .x_stride = behind->x_stride,
                               .w = ws->dequant,
                               .w_stride = k,
                               .y = plain ? behind->y : ws->product,
                               .y_stride = plain ? behind->y_stride : ws->product_stride,
                               .add = plain && behind->out == BASE_ADD,
                               .factor = 1.0f,
                               .rows = rows,
                               .k = k};
    for (int tile = 0; tile < w->tiles; tile += most) {
        int left = w->tiles - tile;
        enum status st = multiply(m, ws, w, p, tile, left < most ? left : most, s);
        if (st != STATUS_OK)
            return st;
    }
    if (plain)
        return STATUS_OK;
    struct base_args a = *behind;
    a.tiles = w->tiles;
    a.n = w->n;
    a.groups = w->groups;
    a.product = ws->product;
    a.product_stride = ws->product_stride;
    return cuda_base(&a, s);
}
