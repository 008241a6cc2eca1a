/* tensor: a read-only view of stored numbers and how to widen them. Pure functions, any thread. */
#ifndef CHORUS_MODEL_TENSOR_H
#define CHORUS_MODEL_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The last two are quantised: adapters' factors only, see struct tensor_codes. */
enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8, DTYPE_Q4 };

/* What `data` of a quantised tensor points to. A value is its code times its scale; `group` values
 * beside each other in a row share one, or, where `down`, below each other in a column. */
struct tensor_codes {
    const void *codes;   /* row-major; q8: int8; q4: two to a byte, the first low, each code + 8 */
    const float *scales; /* [rows, groups of a row]; down: [groups of a column, cols] */
    int64_t group;
    bool down;
};

/* A row-major view, outermost dimension first. `data` may be unaligned. Borrowed from the file it
 * came from. */
struct tensor {
    const void *data; /* NULL: the model has no such tensor */
    enum dtype dtype;
    int64_t rows; /* [rows, cols]; a vector is [1, cols] */
    int64_t cols;
};

/* Of one value that is not quantised. */
size_t dtype_bytes(enum dtype d);
bool dtype_is_quantised(enum dtype d);
/* "f32", "f16", "bf16", "q8", "q4". */
const char *dtype_name(enum dtype d);

/* `count` values of a tensor from element `at` (row-major), widened to float32. Exact: subnormals,
 * infinities and NaN payloads included. Quantised ones are code times scale, rounded once. */
void tensor_read_f32(const struct tensor *t, size_t at, size_t count, float *out);
size_t tensor_count(const struct tensor *t);
/* As stored, scales included. */
size_t tensor_bytes(const struct tensor *t);
/* Scales of a quantised tensor of this shape. */
size_t tensor_scale_count(int64_t rows, int64_t cols, int64_t group, bool down);
/* False when a value is infinite or NaN; *at is then the first such element. */
bool tensor_is_finite(const struct tensor *t, size_t *at);
/* True when every value is +0 or -0. */
bool tensor_is_zero(const struct tensor *t);
/* Equal shapes, and one is the other rounded to its own dtype: a copy saved in another precision is
 * still a copy. -0 equals +0. */
bool tensor_equal(const struct tensor *a, const struct tensor *b);

#endif
