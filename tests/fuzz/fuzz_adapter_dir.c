/* Adapter directories: whatever is accepted binds completely. The two files are made in memory.
 *
 * Input: two bytes, the length of adapter_config.json; its text; then the tensor file as header, a
 * zero byte, data (the length in front is written here).
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/adapter/lora_bind.h"
#include "engine/base/limits.h"
#include "engine/base/strbuf.h"

#define HIDDEN 8
#define VOCAB  10

static float embed_values[VOCAB * HIDDEN]; /* zero: a copy in any dtype is easy to find */

static const struct model base = {
    .shape = {.layers = 2,
              .hidden = HIDDEN,
              .heads = 2,
              .kv_heads = 1,
              .head_dim = 4,
              .ffn = 12,
              .vocab = VOCAB},
    .embed = {embed_values, DTYPE_F32, VOCAB, HIDDEN},
    .lm_head = {embed_values, DTYPE_F32, VOCAB, HIDDEN},
};

static size_t check_tensor(const struct tensor *t, int64_t rows, int64_t cols)
{
    size_t at;
    CHECK(t->data && t->rows == rows && t->cols == cols);
    CHECK(tensor_is_finite(t, &at));
    return tensor_bytes(t);
}

/* Tensors of the file that are no part of a LoRA: copies of the base's embedding or head. */
static int count_copies(const struct safetensors *file)
{
    int n = 0;
    for (size_t i = 0; i < file->count; i++) {
        const char *name = file->tensors[i].name;
        if (strstr(name, ".lora_"))
            continue;
        CHECK(strstr(name, "embed_tokens.") || strstr(name, "lm_head."));
        n++;
    }
    return n;
}

static void check_accepted(const struct lora *l, const struct safetensors *file)
{
    int tensors = 0;
    int rank_max = 0;
    size_t bytes = 0;
    CHECK(l->module_count > 0);
    for (int i = 0; i < l->module_count; i++) {
        const struct lora_module *m = &l->modules[i];
        int in;
        int out;
        model_site_dims(&base.shape, m->site, &in, &out);
        CHECK(i == 0 || m->site > l->modules[i - 1].site);
        CHECK(m->in == in && m->out == out);
        CHECK(m->rank >= 1 && m->rank <= LIMIT_ADAPTER_RANK && isfinite(m->scale));
        bytes += check_tensor(&m->a, m->rank, in);
        bytes += check_tensor(&m->b, out, m->rank);
        tensors += 2;
        if (m->magnitude.data) {
            bytes += check_tensor(&m->magnitude, 1, out);
            tensors++;
        }
        rank_max = m->rank > rank_max ? m->rank : rank_max;
    }
    CHECK(l->rank_max == rank_max && l->bytes == bytes);
    CHECK((size_t)(tensors + count_copies(file)) == file->count);
}

static int memory_file(const uint8_t *p, size_t n)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    const uint8_t *zero = memchr(p, 0, n);
    uint64_t header = zero ? (uint64_t)(zero - p) : n;
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(header >> (8 * i));
    CHECK(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, length, 8, 0) == 8);
    CHECK(pwrite(fd, p, header, 8) == (ssize_t)header);
    if (zero && n - header > 1)
        CHECK(pwrite(fd, zero + 1, n - header - 1, (off_t)(8 + header)) ==
              (ssize_t)(n - header - 1));
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    size_t config_bytes = data[0] | (size_t)data[1] << 8;
    if (config_bytes > n - 2)
        config_bytes = n - 2;
    const uint8_t *rest = data + 2 + config_bytes;
    struct lora_config *config = NULL;
    struct safetensors *file = NULL;
    struct lora *l = NULL;
    struct err e = {0};
    enum status st = lora_config_parse((const char *)data + 2, config_bytes, &config, &e);
    if (st == STATUS_OK)
        st = safetensors_read(memory_file(rest, n - 2 - config_bytes), "f", 1u << 30, NULL, &file,
                              &e);
    if (st == STATUS_OK)
        st = lora_bind(config, file, &base, &l, &e);
    if (st == STATUS_OK)
        check_accepted(l, file);
    else
        CHECK(e.code == st && e.msg[0] &&
              (st == STATUS_BAD_FILE || st == STATUS_UNSUPPORTED || st == STATUS_LIMIT));
    lora_free(l);
    safetensors_free(file);
    lora_config_free(config);
    return 0;
}
