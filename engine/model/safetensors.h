/* safetensors: one file of named tensors, checked completely before anything in it is used.
 *
 * The eight rules (a violation is STATUS_BAD_FILE; e->param is the tensor or, where none is at
 * fault, the file):
 *   1 at least 8 bytes
 *   2 header length within the limit and the file
 *   3 header: a UTF-8 JSON object from its first byte, depth <= 4, no duplicate key
 *   4 dtype from the closed list
 *   5 rank <= 8; dimensions 0 or more, written plainly (no 1.0, 1e3); product checked even where a
 *     dimension is 0
 *   6 two offsets, begin <= end <= data size
 *   7 end - begin = product x element size
 *   8 sorted by offset: first 0, no hole, no overlap, last = data size
 * More than LIMIT_TENSORS tensors is STATUS_LIMIT. n log n in the number of tensors.
 *
 * Two ways in: mapped read-only (base weights) and read into own memory (adapters). Immutable after
 * opening, any thread. The data's bytes are not looked at here.
 */
#ifndef CHORUS_MODEL_SAFETENSORS_H
#define CHORUS_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/limits.h"
#include "engine/base/sha256_job.h"
#include "engine/base/status.h"
#include "engine/model/tensor.h"

/* X(name, bytes of an element): the closed list. Consumers refuse what they cannot compute with. */
#define SAFETENSORS_DTYPES(X)                                                                      \
    X(BOOL, 1)                                                                                     \
    X(U8, 1)                                                                                       \
    X(I8, 1)                                                                                       \
    X(F8_E4M3, 1)                                                                                  \
    X(F8_E5M2, 1)                                                                                  \
    X(F8_E8M0, 1)                                                                                  \
    X(F8_E4M3FNUZ, 1)                                                                              \
    X(F8_E5M2FNUZ, 1)                                                                              \
    X(I16, 2)                                                                                      \
    X(U16, 2)                                                                                      \
    X(F16, 2)                                                                                      \
    X(BF16, 2)                                                                                     \
    X(I32, 4)                                                                                      \
    X(U32, 4)                                                                                      \
    X(F32, 4)                                                                                      \
    X(I64, 8)                                                                                      \
    X(U64, 8)                                                                                      \
    X(F64, 8)                                                                                      \
    X(C64, 8)

enum safetensors_dtype {
#define X(name, bytes) SAFETENSORS_##name,
    SAFETENSORS_DTYPES(X)
#undef X
        SAFETENSORS_DTYPE_COUNT
};

struct safetensors_tensor {
    const char *name; /* borrowed from the file */
    enum safetensors_dtype dtype;
    int rank;
    int64_t shape[LIMIT_SAFETENSORS_RANK];
    size_t begin; /* bytes within data, [begin, end) */
    size_t end;
};

struct safetensors {
    char *file;                         /* owned; name for messages */
    struct safetensors_tensor *tensors; /* owned, [count], by offset */
    size_t *by_name;                    /* owned, [count] indices into tensors */
    size_t count;
    char *names;               /* owned, the text behind all names */
    const unsigned char *data; /* [data_bytes]; NULL after safetensors_parse */
    size_t data_bytes;
    void *map; /* the mapping behind data, or NULL */
    size_t map_bytes;
    void *memory; /* owned block behind data, or NULL */
};

/* Checks a header (rules 3 to 8) for a data section of data_bytes; touches no file. The caller
 * frees *out with safetensors_free. */
WARN_UNUSED enum status safetensors_parse(const char *header, size_t header_bytes,
                                          size_t data_bytes, const char *file,
                                          struct safetensors **out, struct err *e);
/* Maps the open file read-only; the descriptor may be closed afterwards. A file that shrinks later
 * raises SIGBUS on access. */
WARN_UNUSED enum status safetensors_map(int fd, const char *file, struct safetensors **out,
                                        struct err *e);
/* Reads the open file into own memory, refusing more than max_bytes (STATUS_LIMIT) before taking
 * any. Every byte of the file goes through `sha` in order (NULL: none), which has stopped on
 * failure and may otherwise still be at the tensors' bytes: it ends before they are freed. */
WARN_UNUSED enum status safetensors_read(int fd, const char *file, uint64_t max_bytes,
                                         struct sha256_job *sha, struct safetensors **out,
                                         struct err *e);
void safetensors_free(struct safetensors *s);

/* NULL when there is none of this name. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);
/* View of a tensor of rank 1 ([1, n]) or 2 in a float type; else STATUS_BAD_FILE naming it. */
WARN_UNUSED enum status safetensors_view(const struct safetensors *s,
                                         const struct safetensors_tensor *t, struct tensor *out,
                                         struct err *e);
const char *safetensors_dtype_name(enum safetensors_dtype d);
/* "[4, 64]" into out, which is returned. */
const char *safetensors_shape_text(const struct safetensors_tensor *t, char *out, size_t cap);

#endif
