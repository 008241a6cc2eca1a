#include "tests/unit/fixture_files.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

void fixture_dir_make(struct fixture_dir *d)
{
    static const char *const places[] = {"/dev/shm", "/tmp"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(d->path, sizeof d->path, "%s/chorus-test-XXXXXX", places[i]);
        if (mkdtemp(d->path))
            return;
    }
    fail_msg("no temporary directory");
}

static int remove_entry(const char *path, const struct stat *s, int type, struct FTW *f)
{
    (void)s;
    (void)type;
    (void)f;
    return remove(path);
}

void fixture_dir_remove(struct fixture_dir *d)
{
    nftw(d->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fixture_path(const struct fixture_dir *d, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", d->path, name);
    return path;
}

void fixture_write(const struct fixture_dir *d, const char *name, const void *data, size_t n)
{
    int fd = open(fixture_path(d, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n)
        fail_msg("cannot write %s", name);
    close(fd);
}

void fixture_write_text(const struct fixture_dir *d, const char *name, const char *text)
{
    fixture_write(d, name, text, strlen(text));
}

void fixture_unlink(const struct fixture_dir *d, const char *name)
{
    if (unlink(fixture_path(d, name)) != 0)
        fail_msg("cannot remove %s", name);
}

static size_t element_bytes(const char *dtype)
{
    return strstr(dtype, "64") ? 8 : strstr(dtype, "32") ? 4 : strstr(dtype, "16") ? 2 : 1;
}

/* Truncating is enough: tests use values that are exact in the dtype where they compare. */
static void add_value(struct strbuf *out, const char *dtype, float v)
{
    char raw[8] = {0};
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    if (strcmp(dtype, "F32") == 0) {
        memcpy(raw, &u, 4);
    } else if (strcmp(dtype, "BF16") == 0) {
        memcpy(raw, (const char *)&u + 2, 2);
    } else if (strcmp(dtype, "F16") == 0) {
        uint32_t sign = u >> 16 & 0x8000u;
        uint32_t magnitude = u & 0x7fffffffu;
        uint16_t h = (uint16_t)(magnitude >= 0x7f800000u  ? 0x7c00u | (magnitude > 0x7f800000u)
                                : magnitude < 0x38800000u ? 0
                                                          : (magnitude - 0x38000000u) >> 13);
        h = (uint16_t)(h | sign);
        memcpy(raw, &h, 2);
    }
    strbuf_append(out, raw, element_bytes(dtype));
}

static size_t element_count(const struct fixture_tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->shape[i];
    return n;
}

void fixture_raw_safetensors(struct strbuf *out, const char *header, size_t header_bytes,
                             const void *data, size_t data_bytes)
{
    char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (char)((uint64_t)header_bytes >> (8 * i) & 255);
    strbuf_append(out, length, sizeof length);
    strbuf_append(out, header, header_bytes);
    strbuf_append(out, data, data_bytes);
}

void fixture_safetensors(struct strbuf *out, const struct fixture_tensor *tensors, size_t count)
{
    struct strbuf header;
    struct strbuf data;
    strbuf_init(&header, 64u << 20);
    strbuf_init(&data, 64u << 20);
    strbuf_puts(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < count; i++) {
        const struct fixture_tensor *t = &tensors[i];
        size_t begin = data.len;
        unsigned seed = 1;
        for (const char *c = t->name; *c; c++)
            seed = seed * 31 + (unsigned char)*c;
        for (size_t k = 0; k < element_count(t); k++)
            add_value(&data, t->dtype,
                      t->values ? t->values[k] : (float)((seed + k * 7) % 17) / 16.0f + 0.25f);
        strbuf_puts(&header, ",");
        strbuf_json_string(&header, t->name, strlen(t->name));
        strbuf_printf(&header, ":{\"dtype\":\"%s\",\"shape\":[", t->dtype);
        for (int k = 0; k < t->rank; k++)
            strbuf_printf(&header, "%s%lld", k > 0 ? "," : "", (long long)t->shape[k]);
        strbuf_printf(&header, "],\"data_offsets\":[%zu,%zu]}", begin, data.len);
    }
    strbuf_puts(&header, "}");
    fixture_raw_safetensors(out, strbuf_str(&header), header.len, strbuf_str(&data), data.len);
    if (header.failed || data.failed || out->failed)
        fail_msg("fixture is too large");
    strbuf_deinit(&header);
    strbuf_deinit(&data);
}

void fixture_write_tensors(const struct fixture_dir *d, const char *file,
                           const struct fixture_tensor *tensors, size_t count)
{
    struct strbuf out;
    strbuf_init(&out, 128u << 20);
    fixture_safetensors(&out, tensors, count);
    fixture_write(d, file, strbuf_str(&out), out.len);
    strbuf_deinit(&out);
}
