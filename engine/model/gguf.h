/* gguf: the container of llama.cpp's files: metadata, a table of tensors, aligned data.
 *
 * The file is whole in memory and stays the caller's; everything here points into it. What is
 * parsed is checked: every length and offset lies in the file before it is followed, keys and names
 * are UTF-8 and distinct, tensors lie one behind the other without holes but for alignment, and
 * nothing is left over. Versions 2 and 3, little-endian. Immutable after parsing, any thread.
 */
#ifndef CHORUS_MODEL_GGUF_H
#define CHORUS_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

#define GGUF_RANK_MAX 4

/* As the file numbers them. */
enum gguf_kind {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_KINDS
};

enum gguf_type {
    GGUF_TYPE_F32 = 0,
    GGUF_TYPE_F16 = 1,
    GGUF_TYPE_Q4_0 = 2,
    GGUF_TYPE_Q4_1 = 3,
    GGUF_TYPE_Q5_0 = 6,
    GGUF_TYPE_Q5_1 = 7,
    GGUF_TYPE_Q8_0 = 8,
    GGUF_TYPE_BF16 = 30
};

struct gguf_value {
    const char *key;           /* owned by the gguf */
    enum gguf_kind kind;       /* of an array its items' */
    bool is_array;             /* never of arrays */
    size_t count;              /* items; 1 where it is no array */
    const unsigned char *data; /* of the first item, not aligned */
};

struct gguf_tensor {
    const char *name; /* owned by the gguf */
    enum gguf_type type;
    int rank;                     /* 1 .. GGUF_RANK_MAX */
    int64_t shape[GGUF_RANK_MAX]; /* outermost first, each >= 1: the last is the file's first */
    size_t begin;                 /* of its bytes in gguf.data */
    size_t end;
};

struct gguf {
    char *file;                  /* owned; for messages */
    struct gguf_value *values;   /* owned, [value_count] by key */
    struct gguf_tensor *tensors; /* owned, [count] by name */
    size_t value_count;
    size_t count;
    const unsigned char *data; /* borrowed */
    size_t data_bytes;
    char *names; /* owned */
};

/* STATUS_BAD_FILE, STATUS_UNSUPPORTED (a version, a tensor's type) or STATUS_LIMIT name the key,
 * the tensor or the file in e->param. `bytes` must outlive *out, which the caller frees. */
WARN_UNUSED enum status gguf_parse(const unsigned char *bytes, size_t n, const char *file,
                                   struct gguf **out, struct err *e);
/* NULL is allowed. */
void gguf_free(struct gguf *g);

/* NULL: there is none. */
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);
/* A string's bytes, in the file: not terminated. False: it is no single string. */
bool gguf_text(const struct gguf_value *v, const char **text, size_t *n);
/* True when the value is the string `text`. */
bool gguf_text_is(const struct gguf_value *v, const char *text);
/* Item i of integers of any width (bool too), or of floats. False: it is something else. */
bool gguf_integer(const struct gguf_value *v, size_t i, int64_t *out);
bool gguf_float(const struct gguf_value *v, double *out);

/* "Q8_0" ... "?" */
const char *gguf_type_name(enum gguf_type type);
/* Values of rows of a tensor, widened: `count` of them from value `at`, both whole blocks where the
 * type has blocks. Quantised ones are what their scales say, exact in float32 but for the one
 * rounding of each operation. */
void gguf_read_f32(const struct gguf *g, const struct gguf_tensor *t, size_t at, size_t count,
                   float *out);
/* Values that share a block's scale: 1 where there are no blocks. */
size_t gguf_block(enum gguf_type type);
/* "[16, 64]", cut at cap. Returns out. */
const char *gguf_shape_text(const struct gguf_tensor *t, char *out, size_t cap);

#endif
