#include "engine/adapter/lora.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/adapter/lora_bind.h"
#include "engine/adapter/lora_config.h"
#include "engine/adapter/lora_gguf.h"
#include "engine/base/file.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"

#define CONFIG_FILE "adapter_config.json"
#define TENSOR_FILE "adapter_model.safetensors"

/* File systems stamp changes with a clock that may tick only every 10 ms: a file that is younger
 * than this may change again without its stamp showing it. */
#define SETTLE_NS    INT64_C(20000000)
#define ATTEMPTS_MAX 5

/* One reading of the two files, or of the one. */
struct reading {
    const struct file_root *root; /* borrowed */
    const char *gguf_name;        /* of a file in root; NULL: root is a PEFT directory */
    unsigned char *gguf_bytes;    /* owned */
    struct gguf *gguf;            /* owned */
    char *config_text;            /* owned */
    struct file_stamp config_stamp;
    struct file_stamp tensor_stamp;
    struct lora_config *config; /* owned */
    struct safetensors *file;   /* owned */
    struct sha256_job *hash;    /* owned */
    bool young;                 /* a change during the reading could have gone unseen */
};

static enum status open_tensors(struct reading *r, int *fd, struct err *e)
{
    static const char *const pickles[] = {"adapter_model.bin", "adapter_model.pt"};
    enum status st = file_open(r->root, TENSOR_FILE, fd, &r->tensor_stamp, e);
    if (st != STATUS_NOT_FOUND)
        return st;
    for (size_t i = 0; i < sizeof pickles / sizeof pickles[0]; i++) {
        if (file_exists(r->root, pickles[i]))
            return err_set(e, STATUS_UNSUPPORTED, pickles[i],
                           "%s: pickled weights may run code and are not read; save the adapter "
                           "as safetensors",
                           pickles[i]);
    }
    return err_set(e, STATUS_BAD_FILE, TENSOR_FILE, TENSOR_FILE ": no such file");
}

static bool is_young(const struct file_stamp *s, int64_t now_ns)
{
    return s->changed_ns <= now_ns && now_ns - s->changed_ns < SETTLE_NS;
}

static bool is_unchanged(const struct reading *r, const char *name, const struct file_stamp *then)
{
    struct file_stamp now;
    return file_stamp_of(r->root, name, &now, NULL) == STATUS_OK && file_stamp_equal(&now, then);
}

/* To be asked when all files are open and little is read. */
static bool is_any_young(const struct reading *r)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    return is_young(&r->config_stamp, now_ns) || is_young(&r->tensor_stamp, now_ns);
}

static enum status read_tensors(struct reading *r, struct err *e)
{
    int fd;
    enum status st = open_tensors(r, &fd, e);
    if (st != STATUS_OK)
        return st;
    r->young = is_any_young(r);
    st = safetensors_read(fd, TENSOR_FILE, LIMIT_ADAPTER_BYTES, r->hash, &r->file, e);
    close(fd);
    return st;
}

static enum status changed(struct err *e)
{
    return err_set(e, STATUS_CONFLICT, NULL,
                   "the adapter's files changed while they were read; try again");
}

static enum status read_bytes(struct reading *r, int fd, struct err *e)
{
    const char *name = r->gguf_name;
    uint64_t n = r->tensor_stamp.bytes;
    if (n > LIMIT_ADAPTER_BYTES)
        return err_set(e, STATUS_LIMIT, name, "%s: %llu bytes, at most %llu are read", name,
                       (unsigned long long)n, LIMIT_ADAPTER_BYTES);
    r->gguf_bytes = mem_alloc_aligned((size_t)n + 1);
    if (!r->gguf_bytes)
        return err_set(e, STATUS_NO_MEMORY, name, "%s: out of memory for %llu bytes", name,
                       (unsigned long long)n);
    enum status st = file_pread(fd, name, r->gguf_bytes, (size_t)n, 0, e);
    if (st != STATUS_OK)
        return st;
    sha256_job_follow(r->hash, r->gguf_bytes, (size_t)n);
    sha256_job_reached(r->hash, (size_t)n);
    return STATUS_OK;
}

static enum status read_gguf(struct reading *r, struct err *e)
{
    int fd;
    enum status st = file_open(r->root, r->gguf_name, &fd, &r->tensor_stamp, e);
    if (st != STATUS_OK)
        return st;
    r->young = is_any_young(r);
    st = read_bytes(r, fd, e);
    close(fd);
    if (st != STATUS_OK)
        return st;
    if (!is_unchanged(r, r->gguf_name, &r->tensor_stamp))
        return changed(e);
    return gguf_parse(r->gguf_bytes, (size_t)r->tensor_stamp.bytes, r->gguf_name, &r->gguf, e);
}

static enum status read_files(struct reading *r, struct err *e)
{
    size_t n;
    enum status st = file_read(r->root, CONFIG_FILE, LIMIT_CONFIG_JSON_BYTES, &r->config_text, &n,
                               &r->config_stamp, e);
    if (st == STATUS_OK)
        st = lora_config_parse(r->config_text, n, &r->config, e);
    if (st != STATUS_OK)
        return st;
    sha256_job_update(r->hash, r->config_text, n);
    st = read_tensors(r, e);
    if (st != STATUS_OK)
        return st;
    if (!is_unchanged(r, CONFIG_FILE, &r->config_stamp) ||
        !is_unchanged(r, TENSOR_FILE, &r->tensor_stamp))
        return changed(e);
    return STATUS_OK;
}

/* Gives the hash to the adapter where the bytes went too, else waits for it. */
static void hand_over_hash(struct reading *r, struct lora *l)
{
    if (r->file && !r->file->memory)
        l->hashing = r->hash;
    else
        sha256_job_end(r->hash, l->sha256);
    r->hash = NULL;
}

/* Sets *settled to false when the files were so young that the result may be a mixture. */
static enum status open_once(const struct file_root *root, const char *gguf_name,
                             const struct model *base, struct lora **out, bool *settled,
                             struct err *e)
{
    struct reading r = {.root = root, .gguf_name = gguf_name, .hash = sha256_job_begin()};
    if (!r.hash)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    enum status st = gguf_name ? read_gguf(&r, e) : read_files(&r, e);
    if (st == STATUS_OK)
        st = gguf_name ? lora_gguf_bind(r.gguf, base, out, e)
                       : lora_bind(r.config, r.file, base, out, e);
    if (st == STATUS_OK)
        hand_over_hash(&r, *out);
    else
        sha256_job_end(r.hash, NULL);
    *settled = !r.young;
    safetensors_free(r.file);
    lora_config_free(r.config);
    mem_free(r.config_text);
    gguf_free(r.gguf);
    mem_free(r.gguf_bytes);
    return st;
}

static enum status open_settled(const struct file_root *root, const char *gguf_name,
                                const struct model *base, struct lora **out, struct err *e)
{
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        struct lora *l = NULL;
        bool settled = false;
        enum status st = open_once(root, gguf_name, base, &l, &settled, e);
        if (st != STATUS_OK)
            return st;
        if (settled) {
            *out = l;
            return STATUS_OK;
        }
        lora_free(l);
        const struct timespec pause = {.tv_nsec = SETTLE_NS};
        nanosleep(&pause, NULL);
    }
    return err_set(e, STATUS_CONFLICT, NULL, "the adapter's files are being written; try again");
}

bool lora_is_gguf(const struct file_root *root, const char *name)
{
    return file_stem(name, ".gguf") > 0 && file_exists(root, name);
}

static enum status open_in(const struct file_root *parent, const char *name,
                           const struct model *base, struct lora **out, struct err *e)
{
    struct file_root child;
    if (lora_is_gguf(parent, name))
        return open_settled(parent, name, base, out, e);
    enum status st = file_root_open_in(parent, name, &child, e);
    if (st != STATUS_OK)
        return st;
    st = open_settled(&child, NULL, base, out, e);
    file_root_close(&child);
    return st;
}

enum status lora_open_early(const char *path, const struct model *base, struct lora **out,
                            struct err *e)
{
    struct file_root root = {.fd = AT_FDCWD, .top_fd = -1};
    if (lora_is_gguf(&root, path))
        return open_settled(&root, path, base, out, e);
    enum status st = file_root_open(path, false, &root, e);
    if (st != STATUS_OK)
        return st;
    st = open_settled(&root, NULL, base, out, e);
    file_root_close(&root);
    return st;
}

enum status lora_open_beneath_early(const char *root, const char *name, const struct model *base,
                                    struct lora **out, struct err *e)
{
    struct file_root parent;
    enum status st = file_root_open(root, true, &parent, e);
    if (st != STATUS_OK)
        return st;
    st = open_in(&parent, name, base, out, e);
    file_root_close(&parent);
    return st;
}

enum status lora_open(const char *path, const struct model *base, struct lora **out, struct err *e)
{
    enum status st = lora_open_early(path, base, out, e);
    if (st == STATUS_OK)
        lora_identify(*out);
    return st;
}

enum status lora_open_beneath(const char *root, const char *name, const struct model *base,
                              struct lora **out, struct err *e)
{
    enum status st = lora_open_beneath_early(root, name, base, out, e);
    if (st == STATUS_OK)
        lora_identify(*out);
    return st;
}

void lora_identify(struct lora *l)
{
    if (l->hashing)
        sha256_job_end(l->hashing, l->sha256);
    l->hashing = NULL;
}

void lora_free(struct lora *l)
{
    if (!l)
        return;
    if (l->hashing)
        sha256_job_end(l->hashing, NULL); /* it reads the storage */
    mem_free(l->modules);
    mem_free(l->storage);
    mem_free(l->base_name);
    mem_free(l->alora_tokens);
    mem_free(l);
}
