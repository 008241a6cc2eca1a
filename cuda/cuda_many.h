/* cuda_many: the layers' linears in steps of many rows (prompts): the matrix is unpacked to bf16, a
 * library makes the product, cuda_base does what lies behind it.
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

/* Rows of a step at best: unpacking is then a tenth of it. Cards of less memory than this keep it
 * for other things than the 200 KB that a row of the 3B shape takes. */
#define MANY_ROWS_BEST    2048
#define MANY_MEMORY_LEAST ((size_t)12 << 30)

struct cuda_many {
    struct cublas *cublas; /* owned; NULL: nothing goes this way */
};

/* Opens the library, or says in the log why there is none; the device is set. STATUS_NO_MEMORY. */
WARN_UNUSED enum status cuda_many_open(struct cuda_many *m, struct err *e);
void cuda_many_close(struct cuda_many *m);

/* Whether steps of so many rows go this way. */
bool cuda_many_takes(const struct cuda_many *m, int rows);
/* Before the first linear; `ws` was placed with room for it. */
WARN_UNUSED enum status cuda_many_place(struct cuda_many *m, const struct cuda_workspace *ws,
                                        cudaStream_t s, struct err *e);
/* A linear of `rows` rows: `behind` says what x is and what becomes of the product, which is put
 * in. */
WARN_UNUSED enum status cuda_many_linear(const struct cuda_many *m, const struct cuda_workspace *ws,
                                         const struct dev_matrix *w, const struct base_args *behind,
                                         int rows, cudaStream_t s);

#endif
