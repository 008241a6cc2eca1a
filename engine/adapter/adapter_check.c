/* The verdict is the loader's own: what lora_open says is what adding would say. The tensors' list
 * comes from the header, read again, so that it is there when the verdict is a refusal. */
#include "engine/adapter/adapter_check.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/adapter/lora_bind.h"
#include "engine/adapter/lora_gguf.h"
#include "engine/base/file.h"
#include "engine/base/mem.h"

#define CONFIG_FILE "adapter_config.json"
#define TENSOR_FILE "adapter_model.safetensors"

static void copy_text(char *to, size_t cap, const char *from)
{
    struct err cut; /* err_set cuts between characters */
    err_set(&cut, STATUS_OK, NULL, "%.*s", (int)(cap < ERR_MSG_MAX ? cap - 1 : ERR_MSG_MAX - 1),
            from);
    snprintf(to, cap, "%s", cut.msg);
}

static void describe(const struct safetensors_tensor *t, struct lora_config *config,
                     const struct model *base, struct engine_adapter_tensor *out)
{
    struct err why;
    memset(out, 0, sizeof *out);
    copy_text(out->name, sizeof out->name, t->name);
    safetensors_shape_text(t, out->shape, sizeof out->shape);
    copy_text(out->dtype, sizeof out->dtype, safetensors_dtype_name(t->dtype));
    if (lora_bind_look(config, t, base, &why) != STATUS_OK)
        copy_text(out->why, sizeof out->why, why.msg);
}

static enum status read_header(const struct file_root *root, struct safetensors **out)
{
    struct file_stamp stamp;
    int fd;
    uint8_t word[8];
    uint64_t n = 0;
    enum status st = file_open(root, TENSOR_FILE, &fd, &stamp, NULL);
    if (st != STATUS_OK)
        return st;
    if (stamp.bytes < sizeof word ||
        file_pread(fd, TENSOR_FILE, word, sizeof word, 0, NULL) != STATUS_OK) {
        close(fd);
        return STATUS_BAD_FILE;
    }
    for (int i = 7; i >= 0; i--)
        n = n << 8 | word[i];
    st = STATUS_BAD_FILE;
    char *header = NULL;
    if (n <= LIMIT_SAFETENSORS_HEADER_BYTES && n <= stamp.bytes - sizeof word) {
        header = mem_alloc((size_t)n + 1, 1);
        st = header ? file_pread(fd, TENSOR_FILE, header, (size_t)n, sizeof word, NULL)
                    : STATUS_NO_MEMORY;
    }
    if (st == STATUS_OK)
        st = safetensors_parse(header, (size_t)n, (size_t)(stamp.bytes - sizeof word - n),
                               TENSOR_FILE, out, NULL);
    mem_free(header);
    close(fd);
    return st;
}

/* STATUS_NO_MEMORY only; files that cannot be read leave the list empty. */
static enum status list_tensors(const struct file_root *root, const struct model *base,
                                struct engine_adapter_report *out)
{
    struct lora_config *config = NULL;
    struct safetensors *file = NULL;
    char *text = NULL;
    size_t n;
    enum status st = file_read(root, CONFIG_FILE, LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL, NULL);
    if (st == STATUS_OK)
        st = lora_config_parse(text, n, &config, NULL);
    if (st == STATUS_OK)
        st = read_header(root, &file);
    if (st == STATUS_OK && file->count > 0) {
        out->tensors = mem_calloc(file->count, sizeof *out->tensors);
        st = out->tensors ? STATUS_OK : STATUS_NO_MEMORY;
    }
    for (size_t i = 0; st == STATUS_OK && i < file->count; i++) {
        struct engine_adapter_tensor *t = &out->tensors[out->tensor_count++];
        describe(&file->tensors[file->by_name[i]], config, base, t);
        out->unmatched += t->why[0] != '\0';
    }
    safetensors_free(file);
    lora_config_free(config);
    mem_free(text);
    return st == STATUS_NO_MEMORY ? st : STATUS_OK;
}

static void describe_gguf(const struct gguf *g, const struct gguf_tensor *t,
                          const struct model *base, struct engine_adapter_tensor *out)
{
    struct err why;
    memset(out, 0, sizeof *out);
    copy_text(out->name, sizeof out->name, t->name);
    gguf_shape_text(t, out->shape, sizeof out->shape);
    copy_text(out->dtype, sizeof out->dtype, gguf_type_name(t->type));
    if (lora_gguf_look(g, t, base, &why) != STATUS_OK)
        copy_text(out->why, sizeof out->why, why.msg);
}

/* As list_tensors. */
static enum status list_gguf(const struct file_root *root, const char *name,
                             const struct model *base, struct engine_adapter_report *out)
{
    struct gguf *g = NULL;
    char *bytes = NULL;
    size_t n = 0;
    enum status st = file_read(root, name, LIMIT_ADAPTER_BYTES, &bytes, &n, NULL, NULL);
    if (st == STATUS_OK)
        st = gguf_parse((const unsigned char *)bytes, n, name, &g, NULL);
    if (st == STATUS_OK && g->count > 0) {
        out->tensors = mem_calloc(g->count, sizeof *out->tensors);
        st = out->tensors ? STATUS_OK : STATUS_NO_MEMORY;
    }
    for (size_t i = 0; st == STATUS_OK && i < g->count; i++) {
        struct engine_adapter_tensor *t = &out->tensors[out->tensor_count++];
        describe_gguf(g, &g->tensors[i], base, t);
        out->unmatched += t->why[0] != '\0';
    }
    gguf_free(g);
    mem_free(bytes);
    return st == STATUS_NO_MEMORY ? st : STATUS_OK;
}

/* What is not there is an empty list too. */
static enum status list_all(const char *root, const char *path, const struct model *base,
                            struct engine_adapter_report *out)
{
    struct file_root parent = {.fd = AT_FDCWD, .top_fd = -1};
    struct file_root dir;
    enum status st = STATUS_OK;
    if (root && file_root_open(root, true, &parent, NULL) != STATUS_OK)
        return STATUS_OK;
    if (lora_is_gguf(&parent, path)) {
        st = list_gguf(&parent, path, base, out);
    } else if ((root ? file_root_open_in(&parent, path, &dir, NULL)
                     : file_root_open(path, false, &dir, NULL)) == STATUS_OK) {
        st = list_tensors(&dir, base, out);
        file_root_close(&dir);
    }
    if (root)
        file_root_close(&parent);
    return st;
}

/* With a magnitude even a zero product rescales the rows. */
static bool changes_nothing(const struct lora_module *m)
{
    return !m->magnitude.data && (m->scale == 0.0f || tensor_is_zero(&m->b));
}

static void tell_lora(const struct lora *l, const struct model *base,
                      struct engine_adapter_report *out)
{
    struct adapter_facts f;
    adapter_facts_of(l, base->shape.layers, &f);
    sha256_hex(f.sha256, out->sha256);
    out->rank_max = f.rank_max;
    out->module_count = f.module_count;
    out->targets = f.targets;
    out->scale_min = f.scale_min;
    out->scale_max = f.scale_max;
    out->bytes = f.bytes;
    out->alora_token_count = f.alora_token_count;
    memcpy(out->alora_tokens, f.alora_tokens, sizeof out->alora_tokens);
    for (int i = 0; i < l->module_count; i++)
        out->zero_modules += changes_nothing(&l->modules[i]);
    out->no_op = out->zero_modules == l->module_count;
}

enum status adapter_check(const struct adapter_source *source, const struct model *base,
                          const char *root, const char *path, struct engine_adapter_report *out,
                          struct err *err)
{
    struct engine_adapter_report r = {.status = STATUS_OK};
    struct lora *l = NULL;
    r.status = adapter_source_open(source, root, path, base, &l, &r.why);
    if (l) {
        tell_lora(l, base, &r);
        source->free(l);
    }
    enum status st = list_all(root, path, base, &r);
    if (st != STATUS_OK) {
        mem_free(r.tensors);
        return err_set(err, st, NULL, "Out of memory for the report.");
    }
    *out = r;
    return STATUS_OK;
}
