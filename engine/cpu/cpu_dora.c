#include "engine/cpu/cpu_dora.h"

#include <math.h>

#include "engine/base/checked.h"
#include "engine/base/mem.h"

#define BLOCK_ROWS 16

/* scale B A is computed a block of rows at a time as left [rows, R] times right [width, R]: for a
 * linear left = B and right = A^T; for the embedding, whose W is E^T, left = A^T and right = B, and
 * the squares are summed down the rows instead of along them. */
struct norms {
    const struct cpu_env *env;
    const struct lora_module *module;
    float *left;
    float *right_rows; /* [width, R] */
    struct cpu_matrix right;
    size_t stride;  /* floats of a row of scratch */
    float *scratch; /* a thread: deltas [BLOCK_ROWS, stride], then a row of W */
    double *sums;   /* [out] */
};

static float *block_deltas(struct norms *n, int row, int rows, int thread)
{
    float *delta = n->scratch + (size_t)thread * (BLOCK_ROWS + 1) * n->stride;
    size_t rank = (size_t)n->module->rank;
    struct cpu_gemm g = {.x = n->left + (size_t)row * rank,
                         .x_stride = rank,
                         .rows = rows,
                         .w = &n->right,
                         .panel_end = n->right.panels,
                         .y = delta,
                         .y_stride = n->stride};
    n->env->kernels->gemm(&g);
    return delta;
}

static void linear_job(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    struct norms *n = ctx;
    for (int row = begin; row < end; row += BLOCK_ROWS) {
        int rows = end - row < BLOCK_ROWS ? end - row : BLOCK_ROWS;
        float *delta = block_deltas(n, row, rows, thread);
        float *w = delta + BLOCK_ROWS * n->stride;
        for (int r = 0; r < rows; r++, delta += n->stride) {
            cpu_matrix_row(cpu_weights_site(n->env->w, n->module->site), row + r, w);
            double sum = 0.0;
            for (int i = 0; i < n->right.n; i++) {
                double v = (double)w[i] + (double)n->module->scale * (double)delta[i];
                sum += v * v;
            }
            n->sums[row + r] = sum;
        }
    }
}

static void embed_job(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    struct norms *n = ctx;
    for (int row = begin; row < end; row += BLOCK_ROWS) {
        int rows = end - row < BLOCK_ROWS ? end - row : BLOCK_ROWS;
        float *delta = block_deltas(n, row, rows, thread);
        float *w = delta + BLOCK_ROWS * n->stride;
        for (int r = 0; r < rows; r++, delta += n->stride) {
            cpu_weights_embed(n->env->w, row + r, w);
            for (int i = 0; i < n->right.n; i++) {
                double v = (double)w[i] + (double)n->module->scale * (double)delta[i];
                n->sums[i] += v * v;
            }
        }
    }
}

/* t [R, n] turned to [n, R]. `row` holds n floats. */
static void read_transposed(const struct tensor *t, float *row, float *out)
{
    size_t rank = (size_t)t->rows;
    size_t n = (size_t)t->cols;
    for (size_t r = 0; r < rank; r++) {
        tensor_read_f32(t, r * n, n, row);
        for (size_t i = 0; i < n; i++)
            out[i * rank + r] = row[i];
    }
}

static enum status alloc_norms(struct norms *n, bool is_embed)
{
    const struct lora_module *m = n->module;
    size_t rank = (size_t)m->rank;
    int left = is_embed ? m->in : m->out;
    int right = is_embed ? m->out : m->in;
    size_t per_thread, floats;
    n->stride = (size_t)right + CPU_PANEL;
    n->left = mem_alloc((size_t)left, rank * sizeof *n->left);
    n->right_rows = mem_alloc((size_t)right, rank * sizeof *n->right_rows);
    n->sums = mem_calloc((size_t)m->out, sizeof *n->sums);
    if (checked_mul(BLOCK_ROWS + 1, n->stride, &per_thread) &&
        checked_mul(per_thread, (size_t)cpu_pool_threads(n->env->pool), &floats))
        n->scratch = mem_alloc(floats, sizeof *n->scratch);
    if (!n->left || !n->right_rows || !n->sums || !n->scratch)
        return STATUS_NO_MEMORY;
    return cpu_matrix_init(&n->right, DTYPE_F32, right, m->rank);
}

enum status cpu_dora_gain(const struct cpu_env *env, const struct lora_module *m, float *out)
{
    bool is_embed = !cpu_weights_site(env->w, m->site);
    struct norms n = {.env = env, .module = m};
    enum status st = alloc_norms(&n, is_embed);
    if (st == STATUS_OK) {
        size_t rank = (size_t)m->rank;
        float *a = is_embed ? n.left : n.right_rows;
        float *b = is_embed ? n.right_rows : n.left;
        float *row = mem_alloc((size_t)m->in, sizeof *row);
        if (row) {
            read_transposed(&m->a, row, a);
            tensor_read_f32(&m->b, 0, (size_t)m->out * rank, b);
        } else {
            st = STATUS_NO_MEMORY;
        }
        mem_free(row);
    }
    if (st == STATUS_OK) {
        struct tensor right = {.data = n.right_rows, .rows = n.right.n, .cols = m->rank};
        cpu_matrix_pack(&n.right, 0, &right, NULL, 0, n.right.panels);
        if (is_embed)
            embed_job(&n, 0, 0, m->in, 0);
        else
            cpu_pool_run(env->pool, (struct cpu_job){.fn = linear_job, .ctx = &n}, m->out,
                         BLOCK_ROWS);
        tensor_read_f32(&m->magnitude, 0, (size_t)m->out, out);
        for (int i = 0; i < m->out; i++)
            out[i] = (float)((double)out[i] / sqrt(n.sums[i]));
    }
    mem_free(n.left);
    mem_free(n.right_rows);
    mem_free(n.sums);
    mem_free(n.scratch);
    cpu_matrix_deinit(&n.right);
    return st;
}
