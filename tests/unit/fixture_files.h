/* fixture_files: temporary directories and small safetensors files for tests. Failures end the
 * test. */
#ifndef CHORUS_TESTS_FIXTURE_FILES_H
#define CHORUS_TESTS_FIXTURE_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/strbuf.h"

struct fixture_dir {
    char path[64];
};

void fixture_dir_make(struct fixture_dir *d);
/* With everything in it. */
void fixture_dir_remove(struct fixture_dir *d);
/* Replaces the file's contents in place. */
void fixture_write(const struct fixture_dir *d, const char *name, const void *data, size_t n);
void fixture_write_text(const struct fixture_dir *d, const char *name, const char *text);
void fixture_unlink(const struct fixture_dir *d, const char *name);
/* "<dir>/<name>" in a static buffer. */
const char *fixture_path(const struct fixture_dir *d, const char *name);

/* A tensor to write. `values` are narrowed to the dtype ("F32", "F16", "BF16"; others are left
 * zero); NULL: small numbers that depend on the name. */
struct fixture_tensor {
    const char *name;
    const char *dtype;
    int rank;
    int64_t shape[3];
    const float *values;
};

/* Appends a whole file with the tensors in this order. */
void fixture_safetensors(struct strbuf *out, const struct fixture_tensor *tensors, size_t count);
void fixture_write_tensors(const struct fixture_dir *d, const char *file,
                           const struct fixture_tensor *tensors, size_t count);
/* Length prefix, header, data. */
void fixture_raw_safetensors(struct strbuf *out, const char *header, size_t header_bytes,
                             const void *data, size_t data_bytes);

#endif
