/* tensor: a read-only view of stored numbers and how to widen them. Pure functions, any thread. */
#ifndef CHORUS_MODEL_TENSOR_H
#define CHORUS_MODEL_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };

/* A row-major view, outermost dimension first. `data` may be unaligned. Borrowed from the file it
 * came from. */
struct tensor {
    const void *data; /* NULL: the model has no such tensor */
    enum dtype dtype;
    int64_t rows; /* [rows, cols]; a vector is [1, cols] */
    int64_t cols;
};

size_t dtype_bytes(enum dtype d);
/* "f32", "f16", "bf16". */
const char *dtype_name(enum dtype d);

/* `count` values of a tensor from element `at` (row-major), widened to float32. Exact: subnormals,
 * infinities and NaN payloads included. */
void tensor_read_f32(const struct tensor *t, size_t at, size_t count, float *out);
size_t tensor_count(const struct tensor *t);
size_t tensor_bytes(const struct tensor *t);
/* False when a value is infinite or NaN; *at is then the first such element. */
bool tensor_is_finite(const struct tensor *t, size_t *at);
/* True when every value is +0 or -0. */
bool tensor_is_zero(const struct tensor *t);
/* Equal shapes, and one is the other rounded to its own dtype: a copy saved in another precision is
 * still a copy. -0 equals +0. */
bool tensor_equal(const struct tensor *a, const struct tensor *b);

#endif
