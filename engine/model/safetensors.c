#include "engine/model/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "engine/base/checked.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/mem.h"

#define READ_BYTES   ((size_t)4 << 20) /* that a hash may lag behind */
#define LENGTH_BYTES 8                 /* the little-endian header length in front */
/* A tensor of rank 8 is 14 JSON values; the rest is for __metadata__. */
#define HEADER_MEMBERS ((size_t)LIMIT_TENSORS * 14 + 65536)

static const char *const dtype_names[] = {
#define X(name, bytes) #name,
    SAFETENSORS_DTYPES(X)
#undef X
};

static const unsigned char dtype_sizes[] = {
#define X(name, bytes) bytes,
    SAFETENSORS_DTYPES(X)
#undef X
};

const char *safetensors_dtype_name(enum safetensors_dtype d)
{
    return dtype_names[d];
}

const char *safetensors_shape_text(const struct safetensors_tensor *t, char *out, size_t cap)
{
    size_t at = (size_t)snprintf(out, cap, "[");
    for (int i = 0; i < t->rank && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%lld", i > 0 ? ", " : "",
                               (long long)t->shape[i]);
    if (at < cap)
        snprintf(out + at, cap - at, "]");
    return out;
}

/* ---- one tensor: rules 4 to 7 ---- */

/* 0 and more, written without sign, point or exponent. */
static bool plain_integer(const cJSON *v, int64_t *out)
{
    int64_t n;
    if (!json_int64(v, &n) || json_is_float(v) || n < 0 || signbit(v->valuedouble))
        return false;
    *out = n;
    return true;
}

static enum status parse_dtype(const char *name, const cJSON *v, struct safetensors_tensor *t,
                               struct err *e)
{
    if (!cJSON_IsString(v))
        return err_set(e, STATUS_BAD_FILE, name, "tensor %s: dtype must be a string", name);
    for (int i = 0; i < SAFETENSORS_DTYPE_COUNT; i++) {
        if (strcmp(v->valuestring, dtype_names[i]) == 0) {
            t->dtype = (enum safetensors_dtype)i;
            return STATUS_OK;
        }
    }
    return err_set(e, STATUS_BAD_FILE, name, "tensor %s: unknown dtype \"%.32s\"", name,
                   v->valuestring);
}

static enum status parse_shape(const char *name, const cJSON *v, struct safetensors_tensor *t,
                               struct err *e)
{
    if (!cJSON_IsArray(v))
        return err_set(e, STATUS_BAD_FILE, name, "tensor %s: shape must be a list", name);
    for (const cJSON *d = v->child; d; d = d->next) {
        if (t->rank == LIMIT_SAFETENSORS_RANK)
            return err_set(e, STATUS_BAD_FILE, name, "tensor %s: more than %d dimensions", name,
                           LIMIT_SAFETENSORS_RANK);
        int64_t n;
        if (!plain_integer(d, &n))
            return err_set(e, STATUS_BAD_FILE, name,
                           "tensor %s: dimension %d is not a non-negative integer", name, t->rank);
        t->shape[t->rank++] = n;
    }
    return STATUS_OK;
}

static enum status parse_offsets(const char *name, const cJSON *v, size_t data_bytes,
                                 struct safetensors_tensor *t, struct err *e)
{
    if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 2)
        return err_set(e, STATUS_BAD_FILE, name, "tensor %s: data_offsets must be two integers",
                       name);
    int64_t begin;
    int64_t end;
    if (!plain_integer(v->child, &begin) || !plain_integer(v->child->next, &end))
        return err_set(e, STATUS_BAD_FILE, name,
                       "tensor %s: data_offsets must be non-negative integers", name);
    if (begin > end)
        return err_set(e, STATUS_BAD_FILE, name,
                       "tensor %s: data_offsets begin %lld after end %lld", name, (long long)begin,
                       (long long)end);
    if ((uint64_t)end > data_bytes)
        return err_set(e, STATUS_BAD_FILE, name,
                       "tensor %s: ends at byte %lld of %zu bytes of data (cut off?)", name,
                       (long long)end, data_bytes);
    t->begin = (size_t)begin;
    t->end = (size_t)end;
    return STATUS_OK;
}

/* A zero dimension makes the size 0, but must not hide an overflow of the others. */
static enum status check_size(const struct safetensors_tensor *t, struct err *e)
{
    size_t product = dtype_sizes[t->dtype];
    bool zero = false;
    for (int i = 0; i < t->rank; i++) {
        if (t->shape[i] == 0)
            zero = true;
        else if (!checked_mul(product, (size_t)t->shape[i], &product))
            return err_set(e, STATUS_BAD_FILE, t->name, "tensor %s: size overflows", t->name);
    }
    size_t want = zero ? 0 : product;
    char shape[200];
    if (t->end - t->begin != want)
        return err_set(e, STATUS_BAD_FILE, t->name,
                       "tensor %s: %s %s needs %zu bytes, data_offsets hold %zu", t->name,
                       dtype_names[t->dtype], safetensors_shape_text(t, shape, sizeof shape), want,
                       t->end - t->begin);
    return STATUS_OK;
}

static enum status parse_tensor(const cJSON *entry, size_t data_bytes, struct safetensors_tensor *t,
                                struct err *e)
{
    const char *name = entry->string;
    if (!cJSON_IsObject(entry))
        return err_set(e, STATUS_BAD_FILE, name, "tensor %s: must be an object", name);
    const cJSON *dtype = NULL;
    const cJSON *shape = NULL;
    const cJSON *offsets = NULL;
    for (const cJSON *m = entry->child; m; m = m->next) {
        if (strcmp(m->string, "dtype") == 0)
            dtype = m;
        else if (strcmp(m->string, "shape") == 0)
            shape = m;
        else if (strcmp(m->string, "data_offsets") == 0)
            offsets = m;
        else
            return err_set(e, STATUS_BAD_FILE, name, "tensor %s: unknown member \"%.64s\"", name,
                           m->string);
    }
    if (!dtype || !shape || !offsets)
        return err_set(e, STATUS_BAD_FILE, name, "tensor %s: %s is missing", name,
                       !dtype   ? "dtype"
                       : !shape ? "shape"
                                : "data_offsets");
    enum status st = parse_dtype(name, dtype, t, e);
    if (st == STATUS_OK)
        st = parse_shape(name, shape, t, e);
    if (st == STATUS_OK)
        st = parse_offsets(name, offsets, data_bytes, t, e);
    return st == STATUS_OK ? check_size(t, e) : st;
}

/* ---- the header: rules 3 and 8 ---- */

static enum status parse_header_json(const char *header, size_t n, const char *file, cJSON **out,
                                     struct err *e)
{
    static const struct json_limits limits = {
        .depth_max = 4, .members_max = HEADER_MEMBERS, .refuse_duplicate = true};
    if (n == 0 || header[0] != '{')
        return err_set(e, STATUS_BAD_FILE, file, "%s: header does not begin with {", file);
    cJSON *root = NULL;
    struct err why = {0};
    enum status st = json_parse(header, n, &limits, &root, &why);
    if (st == STATUS_NO_MEMORY)
        return err_set(e, st, file, "%s: out of memory", file);
    if (st != STATUS_OK)
        return err_set(e, STATUS_BAD_FILE, why.param[0] ? why.param : file, "%s: header: %s", file,
                       why.msg);
    *out = root;
    return STATUS_OK;
}

static enum status check_metadata(const cJSON *m, const char *file, struct err *e)
{
    if (!cJSON_IsObject(m))
        return err_set(e, STATUS_BAD_FILE, file, "%s: __metadata__ must be an object", file);
    for (const cJSON *v = m->child; v; v = v->next) {
        if (!cJSON_IsString(v))
            return err_set(e, STATUS_BAD_FILE, file, "%s: __metadata__ \"%.64s\" must be a string",
                           file, v->string);
    }
    return STATUS_OK;
}

static bool is_metadata(const cJSON *v)
{
    return strcmp(v->string, "__metadata__") == 0;
}

/* Counts tensors and takes the memory for them: one block of entries, one of names. */
static enum status take_memory(struct safetensors *s, const cJSON *root, struct err *e)
{
    size_t name_bytes = 0;
    for (const cJSON *v = root->child; v; v = v->next) {
        if (is_metadata(v)) {
            enum status st = check_metadata(v, s->file, e);
            if (st != STATUS_OK)
                return st;
            continue;
        }
        s->count++;
        name_bytes += strlen(v->string) + 1; /* below the header's length */
    }
    if (s->count > LIMIT_TENSORS)
        return err_set(e, STATUS_LIMIT, s->file, "%s: %zu tensors, at most %d are read", s->file,
                       s->count, LIMIT_TENSORS);
    s->tensors = mem_calloc(s->count + 1, sizeof *s->tensors);
    s->by_name = mem_calloc(s->count + 1, sizeof *s->by_name);
    s->names = mem_alloc(name_bytes + 1, 1);
    if (!s->tensors || !s->by_name || !s->names)
        return err_set(e, STATUS_NO_MEMORY, s->file, "%s: out of memory", s->file);
    return STATUS_OK;
}

static int compare_offsets(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a;
    const struct safetensors_tensor *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_names(const void *a, const void *b, void *tensors)
{
    const struct safetensors_tensor *t = tensors;
    return strcmp(t[*(const size_t *)a].name, t[*(const size_t *)b].name);
}

static enum status check_layout(const struct safetensors *s, struct err *e)
{
    size_t at = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct safetensors_tensor *t = &s->tensors[i];
        if (t->begin > at)
            return err_set(e, STATUS_BAD_FILE, t->name,
                           "tensor %s: begins at byte %zu, %zu bytes after what is before it",
                           t->name, t->begin, t->begin - at);
        if (t->begin < at)
            return err_set(e, STATUS_BAD_FILE, t->name,
                           "tensor %s: begins at byte %zu, inside tensor %s", t->name, t->begin,
                           s->tensors[i - 1].name);
        at = t->end;
    }
    if (at != s->data_bytes)
        return err_set(e, STATUS_BAD_FILE, s->file,
                       "%zu bytes of data, the tensors fill %zu of them", s->data_bytes, at);
    return STATUS_OK;
}

static enum status fill(struct safetensors *s, const cJSON *root, struct err *e)
{
    enum status st = take_memory(s, root, e);
    if (st != STATUS_OK)
        return st;
    char *name = s->names;
    size_t i = 0;
    for (const cJSON *v = root->child; v; v = v->next) {
        if (is_metadata(v))
            continue;
        size_t n = strlen(v->string) + 1;
        memcpy(name, v->string, n);
        s->tensors[i].name = name;
        name += n;
        st = parse_tensor(v, s->data_bytes, &s->tensors[i++], e);
        if (st != STATUS_OK) {
            (void)err_prefix(e, "%s", s->file);
            return st;
        }
    }
    qsort(s->tensors, s->count, sizeof *s->tensors, compare_offsets);
    st = check_layout(s, e);
    if (st != STATUS_OK) {
        (void)err_prefix(e, "%s", s->file);
        return st;
    }
    for (i = 0; i < s->count; i++)
        s->by_name[i] = i;
    qsort_r(s->by_name, s->count, sizeof *s->by_name, compare_names, s->tensors);
    return STATUS_OK;
}

enum status safetensors_parse(const char *header, size_t header_bytes, size_t data_bytes,
                              const char *file, struct safetensors **out, struct err *e)
{
    cJSON *root = NULL;
    enum status st = parse_header_json(header, header_bytes, file, &root, e);
    if (st != STATUS_OK)
        return st;
    struct safetensors *s = mem_calloc(1, sizeof *s);
    if (s)
        s->file = mem_strdup(file);
    if (!s || !s->file) {
        st = err_set(e, STATUS_NO_MEMORY, file, "%s: out of memory", file);
        goto done;
    }
    s->data_bytes = data_bytes;
    st = fill(s, root, e);
done:
    cJSON_Delete(root);
    if (st != STATUS_OK) {
        safetensors_free(s);
        return st;
    }
    *out = s;
    return STATUS_OK;
}

void safetensors_free(struct safetensors *s)
{
    if (!s)
        return;
    if (s->map)
        munmap(s->map, s->map_bytes);
    mem_free(s->memory);
    mem_free(s->tensors);
    mem_free(s->by_name);
    mem_free(s->names);
    mem_free(s->file);
    mem_free(s);
}

/* ---- the file: rules 1 and 2 ---- */

/* What people hand over by mistake, told from its first bytes. NULL: nothing known. */
static const char *mistaken_for(const unsigned char head[LENGTH_BYTES])
{
    if (memcmp(head, "PK\3\4", 4) == 0)
        return "a zip archive, as torch.save writes (a pickle, which may run code)";
    if (head[0] == 0x80 && head[1] >= 2 && head[1] <= 5)
        return "a pickle, which may run code";
    if (memcmp(head, "GGUF", 4) == 0)
        return "a GGUF file";
    if (memcmp(head, "version ", 8) == 0)
        return "a Git LFS pointer in the place of the file";
    return NULL;
}

static enum status read_length(int fd, const char *file, uint64_t *file_bytes, size_t *header_bytes,
                               struct sha256_job *sha, struct err *e)
{
    struct stat s;
    if (fstat(fd, &s) != 0 || s.st_size < 0)
        return err_set(e, STATUS_IO, file, "%s: cannot be examined", file);
    uint64_t size = (uint64_t)s.st_size;
    if (size < LENGTH_BYTES)
        return err_set(e, STATUS_BAD_FILE, file, "%s: %llu bytes, too short for a safetensors file",
                       file, (unsigned long long)size);
    unsigned char head[LENGTH_BYTES];
    enum status st = file_pread(fd, file, head, sizeof head, 0, e);
    if (st != STATUS_OK)
        return st;
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | head[i];
    if (length > size - LENGTH_BYTES || length > LIMIT_SAFETENSORS_HEADER_BYTES) {
        const char *other = mistaken_for(head);
        if (other)
            return err_set(e, STATUS_BAD_FILE, file, "%s: not a safetensors file but %s", file,
                           other);
        return err_set(e, STATUS_BAD_FILE, file,
                       "%s: header of %llu bytes in a file of %llu (at most %u are read)", file,
                       (unsigned long long)length, (unsigned long long)size,
                       LIMIT_SAFETENSORS_HEADER_BYTES);
    }
    if (sha)
        sha256_job_update(sha, head, sizeof head);
    *file_bytes = size;
    *header_bytes = (size_t)length;
    return STATUS_OK;
}

/* Reads and checks everything in front of the data. */
static enum status open_header(int fd, const char *file, uint64_t max_bytes, struct sha256_job *sha,
                               struct safetensors **out, uint64_t *data_at, struct err *e)
{
    uint64_t size = 0;
    size_t header_bytes = 0;
    enum status st = read_length(fd, file, &size, &header_bytes, sha, e);
    if (st != STATUS_OK)
        return st;
    if (size > max_bytes)
        return err_set(e, STATUS_LIMIT, file, "%s: %llu bytes, at most %llu are read", file,
                       (unsigned long long)size, (unsigned long long)max_bytes);
    char *header = mem_alloc(header_bytes + 1, 1);
    if (!header)
        return err_set(e, STATUS_NO_MEMORY, file, "%s: out of memory", file);
    st = file_pread(fd, file, header, header_bytes, LENGTH_BYTES, e);
    if (st == STATUS_OK && sha)
        sha256_job_update(sha, header, header_bytes);
    if (st == STATUS_OK)
        st = safetensors_parse(header, header_bytes, (size_t)(size - LENGTH_BYTES - header_bytes),
                               file, out, e);
    mem_free(header);
    *data_at = LENGTH_BYTES + header_bytes;
    return st;
}

enum status safetensors_map(int fd, const char *file, struct safetensors **out, struct err *e)
{
    struct safetensors *s = NULL;
    uint64_t data_at = 0;
    enum status st = open_header(fd, file, SIZE_MAX / 2, NULL, &s, &data_at, e);
    if (st != STATUS_OK)
        return st;
    size_t bytes = (size_t)data_at + s->data_bytes;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        safetensors_free(s);
        return err_set(e, STATUS_IO, file, "%s: cannot be mapped", file);
    }
    s->map = map;
    s->map_bytes = bytes;
    s->data = (const unsigned char *)map + data_at;
    *out = s;
    return STATUS_OK;
}

/* The hash follows the reading. */
static enum status read_hashing(int fd, const char *file, struct safetensors *s, uint64_t data_at,
                                struct sha256_job *sha, struct err *e)
{
    unsigned char *to = s->memory;
    enum status st = STATUS_OK;
    if (sha)
        sha256_job_follow(sha, to, s->data_bytes);
    for (size_t at = 0, n; at < s->data_bytes && st == STATUS_OK; at += n) {
        n = s->data_bytes - at < READ_BYTES ? s->data_bytes - at : READ_BYTES;
        st = file_pread(fd, file, to + at, n, data_at + at, e);
        if (sha && st == STATUS_OK)
            sha256_job_reached(sha, at + n);
    }
    if (sha && st != STATUS_OK)
        sha256_job_stop(sha);
    return st;
}

enum status safetensors_read(int fd, const char *file, uint64_t max_bytes, struct sha256_job *sha,
                             struct safetensors **out, struct err *e)
{
    struct safetensors *s = NULL;
    uint64_t data_at = 0;
    enum status st = open_header(fd, file, max_bytes, sha, &s, &data_at, e);
    if (st != STATUS_OK)
        return st;
    s->memory = mem_alloc_aligned(s->data_bytes);
    if (!s->memory)
        st = err_set(e, STATUS_NO_MEMORY, file, "%s: out of memory for %zu bytes", file,
                     s->data_bytes);
    if (st == STATUS_OK)
        st = read_hashing(fd, file, s, data_at, sha, e);
    if (st != STATUS_OK) {
        safetensors_free(s);
        return st;
    }
    s->data = s->memory;
    *out = s;
    return STATUS_OK;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    size_t low = 0;
    size_t high = s->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct safetensors_tensor *t = &s->tensors[s->by_name[mid]];
        int order = strcmp(name, t->name);
        if (order == 0)
            return t;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

enum status safetensors_view(const struct safetensors *s, const struct safetensors_tensor *t,
                             struct tensor *out, struct err *e)
{
    char shape[200];
    if (t->dtype != SAFETENSORS_F32 && t->dtype != SAFETENSORS_F16 && t->dtype != SAFETENSORS_BF16)
        return err_set(e, STATUS_BAD_FILE, t->name,
                       "%s: tensor %s: dtype %s, expected F32, F16 or BF16", s->file, t->name,
                       dtype_names[t->dtype]);
    if (t->rank != 1 && t->rank != 2)
        return err_set(e, STATUS_BAD_FILE, t->name,
                       "%s: tensor %s: shape %s, expected one or two dimensions", s->file, t->name,
                       safetensors_shape_text(t, shape, sizeof shape));
    *out = (struct tensor){
        .data = s->data + t->begin,
        .dtype = t->dtype == SAFETENSORS_F32   ? DTYPE_F32
                 : t->dtype == SAFETENSORS_F16 ? DTYPE_F16
                                               : DTYPE_BF16,
        .rows = t->rank == 2 ? t->shape[0] : 1,
        .cols = t->shape[t->rank - 1],
    };
    return STATUS_OK;
}
