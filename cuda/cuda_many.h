/* cuda_many: the layers' linears in steps of many rows (prompts): the matrix is unpacked to bf16, a
 * library makes the product, cuda_base does what lies behind it.
 *
 * Adapters go one of two ways. A long run of rows with one adapter has its u = A x made by the
 * library too; u stands behind x and B behind the matrix, so that the one product of all rows is W
 * x + B u (k_tail.h). All others are pieces of 8 rows of cuda_base.
 *
 * The order of the library's sums depends on the number of rows, so the last bits of a row do too.
 * Where that must not be (backend_options.deterministic), where there is no library, and in steps
 * of fewer rows, cuda_linear does everything. Engine thread.
 */
#ifndef CHORUS_CUDA_CUDA_MANY_H
#define CHORUS_CUDA_CUDA_MANY_H

#include "cuda/cublas.h"
#include "cuda/cuda_bucket.h"
#include "cuda/cuda_workspace.h"
#include "cuda/k_base.h"

/* Rows of a step from which on the library is faster. It costs a pass over the matrices unpacked,
 * 2.4 ms of the 3B shape on an H100, whatever the rows; cuda_linear takes 3.3 ms for each 64 rows.
 */
#define MANY_ROWS_LEAST (BUCKET_ROWS_GRAPH + 1)
/* Rows of one adapter from which on the library makes its products: that costs two launches more a
 * linear, pieces read A and B again for every 8 rows. */
#define MANY_RUN_LEAST 128
#define MANY_RUNS_MAX  BASE_DONE_MAX
/* Rows of a step at best: unpacking is then a tenth of it. Who may use less memory than this keeps
 * it for other things than the 200 KB that a row of the 3B shape takes. */
#define MANY_ROWS_BEST    2048
#define MANY_MEMORY_LEAST ((size_t)12 << 30)

/* A segment that is long enough, of an adapter without DoRA, and alone on its rows. */
struct many_run {
    int segment; /* of the batch */
    int row, rows;
};

struct cuda_many {
    struct cublas *cublas; /* owned; NULL: nothing goes this way */
    struct many_run run[MANY_RUNS_MAX];
    int runs; /* of the step, the longest first */
};

/* Opens the library, or says in the log why there is none; the device is set. STATUS_NO_MEMORY. */
WARN_UNUSED enum status cuda_many_open(struct cuda_many *m, struct err *e);
void cuda_many_close(struct cuda_many *m);

/* Whether steps of so many rows go this way. */
bool cuda_many_takes(const struct cuda_many *m, int rows);
/* Before the first linear; `ws` was placed with room for it. */
WARN_UNUSED enum status cuda_many_place(struct cuda_many *m, const struct cuda_workspace *ws,
                                        cudaStream_t s, struct err *e);
/* A step begins. slot_gain[slot] != 0: the adapter has DoRA somewhere. NULL: the pass is tried with
 * no rows. */
void cuda_many_begin(struct cuda_many *m, const struct batch *b, const uint8_t *slot_gain);

struct many_linear {
    const struct dev_matrix *w;
    bool interleaved;          /* gate and up */
    int rows;                  /* of the step */
    const struct batch *batch; /* NULL: the pass is tried, with adapters where table is given */
    const struct lora_stack *table; /* host copy of behind.table */
    /* What x is and what becomes of the product. Filled in here: n, tiles, groups, product, done,
     * rank_tiles_max. x has MANY_TAIL columns of room behind the matrix's. table NULL: no adapters
     * in the step. */
    struct base_args behind;
};

WARN_UNUSED enum status cuda_many_linear(const struct cuda_many *m, const struct cuda_workspace *ws,
                                         const struct many_linear *l, cudaStream_t s);

#endif
