#include "server/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/sha256.h"
#include "engine/base/strbuf.h"
#include "server/api_adapter.h"

#define PATH_BYTES       4096
#define FILE_BYTES_MAX   ((size_t)8 << 20) /* LIMIT_ADAPTERS entries of the longest kind */
#define VERSION          1
#define HASH_HEX         12
#define MODEL_NAME_SHOWN 40

struct registry {
    char dir[PATH_BYTES];
    char name[128]; /* of the file in it */
    char path[PATH_BYTES + 128];
    int lock_fd; /* owned, -1: not taken yet */
    bool broken; /* what is there was not understood: do not write over it */
};

static enum status io_error(const char *what, const char *path, struct err *e)
{
    return err_set(e, STATUS_IO, "state-dir", "cannot %s %s: %s", what, path, strerror(errno));
}

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* Readable, and the same only for the same directory. */
static void name_file(const char *model_dir, char out[128])
{
    char real[PATH_BYTES];
    const char *dir = realpath(model_dir, real) ? real : model_dir;
    const char *slash = strrchr(dir, '/');
    const char *base = slash && slash[1] ? slash + 1 : dir;
    uint8_t digest[SHA256_BYTES];
    char hex[65];
    char shown[MODEL_NAME_SHOWN + 1];
    size_t n = 0;
    sha256_of(dir, strlen(dir), digest);
    sha256_hex(digest, hex);
    for (; base[n] && n < MODEL_NAME_SHOWN; n++) {
        char one[2] = {base[n], '\0'};
        shown[n] = api_adapter_is_name(one) ? base[n] : '_';
    }
    shown[n] = '\0';
    snprintf(out, 128, "adapters-%s-%.*s.json", shown, HASH_HEX, hex);
}

enum status registry_create(const char *dir, const char *model_dir, struct registry **out,
                            struct err *e)
{
    struct registry *r = mem_calloc(1, sizeof *r);
    if (!r)
        return out_of_memory(e);
    r->lock_fd = -1;
    name_file(model_dir, r->name);
    int n = snprintf(r->dir, sizeof r->dir, "%s", dir);
    snprintf(r->path, sizeof r->path, "%s/%s", r->dir, r->name);
    if (n < 0 || (size_t)n >= sizeof r->dir) {
        mem_free(r);
        return err_set(e, STATUS_INVALID, "state-dir",
                       "the path of the state directory is too long");
    }
    *out = r;
    return STATUS_OK;
}

void registry_destroy(struct registry *r)
{
    if (!r)
        return;
    if (r->lock_fd >= 0)
        close(r->lock_fd);
    mem_free(r);
}

const char *registry_path(const struct registry *r)
{
    return r->path;
}

/* Takes the file for this process. `make`: also where there is no directory yet. */
static enum status take(struct registry *r, bool make, struct err *e)
{
    char path[sizeof r->path + 8];
    if (r->lock_fd >= 0)
        return STATUS_OK;
    if (make) {
        char part[PATH_BYTES];
        for (const char *at = r->dir; at; at = strchr(at + 1, '/')) {
            const char *end = strchr(at + 1, '/');
            snprintf(part, sizeof part, "%.*s", end ? (int)(end - r->dir) : (int)strlen(r->dir),
                     r->dir);
            if (mkdir(part, 0700) != 0 && errno != EEXIST)
                return io_error("make", part, e);
        }
    }
    snprintf(path, sizeof path, "%s.lock", r->path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return io_error("open", path, e);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return err_set(e, STATUS_CONFLICT, "state-dir", "another server of this model uses %s",
                       r->path);
    }
    r->lock_fd = fd;
    return STATUS_OK;
}

void registry_item_deinit(struct registry_item *it)
{
    mem_free(it->profile);
    it->profile = NULL;
}

char *registry_text_of(const cJSON *v)
{
    char *text = cJSON_PrintUnformatted(v);
    char *copy = text ? mem_strdup(text) : NULL;
    cJSON_free(text);
    return copy;
}

/* ---- reading ---- */

enum status registry_read_quant(const cJSON *obj, enum engine_adapter_quant *out, struct err *e)
{
    const char *name = engine_adapter_quant_names[ENGINE_QUANT_DEFAULT];
    enum status st = json_get_string(obj, "quant", &name, e);
    for (int q = 0; q < ENGINE_QUANT_COUNT && st == STATUS_OK; q++) {
        if (strcmp(name, engine_adapter_quant_names[q]) == 0) {
            *out = (enum engine_adapter_quant)q;
            return STATUS_OK;
        }
    }
    return st != STATUS_OK ? st
                           : err_set(e, STATUS_INVALID, "quant",
                                     "'quant' must be \"default\", \"none\", \"int8\" or \"int4\"");
}

static enum status bad(const char *what, struct err *e)
{
    return err_set(e, STATUS_BAD_FILE, what, "an entry's \"%s\" is not as it was written", what);
}

static enum status read_parts(const cJSON *list, struct registry_item *out, struct err *e)
{
    if (!cJSON_IsArray(list))
        return bad("blend", e);
    for (const cJSON *item = list->child; item; item = item->next) {
        const char *name = NULL;
        double weight = 1;
        if (!cJSON_IsObject(item) || out->part_count == LIMIT_ADAPTERS_PER_REQUEST ||
            json_get_string(item, "name", &name, e) != STATUS_OK || !name ||
            !api_adapter_is_name(name) ||
            json_get_double(item, "weight", -API_WEIGHT_MAX, API_WEIGHT_MAX, &weight, e) !=
                STATUS_OK)
            return bad("blend", e);
        struct engine_adapter_part *p = &out->parts[out->part_count++];
        snprintf(p->name, sizeof p->name, "%s", name);
        p->weight = (float)weight;
    }
    return STATUS_OK;
}

static enum status read_item(const cJSON *v, struct registry_item *out, struct err *e)
{
    const char *name = NULL;
    const char *path = NULL;
    int64_t share = 1;
    *out = (struct registry_item){.share = 1};
    if (!cJSON_IsObject(v) || json_get_string(v, "name", &name, e) != STATUS_OK || !name ||
        !api_adapter_is_name(name))
        return bad("name", e);
    snprintf(out->name, sizeof out->name, "%s", name);
    if (json_member(v, "blend")) {
        enum status st = read_parts(json_member(v, "blend"), out, e);
        if (st != STATUS_OK)
            return st;
    } else if (json_get_string(v, "path", &path, e) != STATUS_OK || !path || !*path ||
               strlen(path) >= sizeof out->path) {
        return bad("path", e);
    } else {
        snprintf(out->path, sizeof out->path, "%s", path);
    }
    if (json_get_bool(v, "pinned", &out->pinned, e) != STATUS_OK)
        return bad("pinned", e);
    const cJSON *profile = json_member(v, "profile");
    if (profile && !cJSON_IsBool(profile) && !cJSON_IsObject(profile))
        return bad("profile", e);
    out->plain = cJSON_IsFalse(profile);
    if (cJSON_IsObject(profile)) {
        out->profile = registry_text_of(profile);
        if (!out->profile)
            return out_of_memory(e);
    }
    if (registry_read_quant(v, &out->quant, e) != STATUS_OK)
        return bad("quant", e);
    if (json_get_int(v, "share", 1, 100, &share, e) != STATUS_OK)
        return bad("share", e);
    out->share = (int)share;
    return STATUS_OK;
}

static enum status read_all(const cJSON *root, struct registry_item **out, size_t *count,
                            struct err *e)
{
    int64_t version = 0;
    const cJSON *list = cJSON_IsObject(root) ? json_member(root, "adapters") : NULL;
    if (!list || json_get_int(root, "version", 0, INT32_MAX, &version, e) != STATUS_OK ||
        version != VERSION || !cJSON_IsArray(list))
        return bad("version", e);
    size_t n = 0;
    size_t most = (size_t)cJSON_GetArraySize(list);
    struct registry_item *items = mem_calloc(most + 1, sizeof *items);
    if (!items)
        return out_of_memory(e);
    enum status st = STATUS_OK;
    for (const cJSON *v = list->child; v && st == STATUS_OK; v = v->next)
        st = read_item(v, &items[n++], e);
    if (st != STATUS_OK) {
        for (size_t i = 0; i < n; i++)
            registry_item_deinit(&items[i]);
        mem_free(items);
        return st;
    }
    *out = items;
    *count = n;
    return STATUS_OK;
}

static enum status read_file(struct registry *r, struct registry_item **out, size_t *count,
                             struct err *e)
{
    struct file_root root;
    char *text = NULL;
    size_t n = 0;
    cJSON *json = NULL;
    enum status st = file_root_open(r->dir, true, &root, e);
    if (st != STATUS_OK)
        return st;
    st = file_read(&root, r->name, FILE_BYTES_MAX, &text, &n, NULL, e);
    file_root_close(&root);
    if (st != STATUS_OK)
        return st;
    struct json_limits limits = json_default_limits;
    limits.refuse_duplicate = true;
    st = json_parse(text, n, &limits, &json, e);
    mem_free(text);
    if (st == STATUS_INVALID)
        st = err_set(e, STATUS_BAD_FILE, "state-dir", "not JSON: %.200s", e->msg);
    if (st == STATUS_OK)
        st = read_all(json, out, count, e);
    cJSON_Delete(json);
    return st;
}

enum status registry_load(struct registry *r, struct registry_item **out, size_t *count,
                          struct err *e)
{
    *out = NULL;
    *count = 0;
    if (access(r->path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR))
        return STATUS_OK;
    enum status st = take(r, false, e);
    if (st == STATUS_OK)
        st = read_file(r, out, count, e);
    r->broken = st != STATUS_OK;
    return st;
}

/* ---- writing ---- */

static void put_item(struct strbuf *b, const struct registry_item *it)
{
    strbuf_puts(b, "{\"name\":");
    strbuf_json_string(b, it->name, strlen(it->name));
    if (it->path[0]) {
        strbuf_puts(b, ",\"path\":");
        strbuf_json_string(b, it->path, strlen(it->path));
    } else {
        strbuf_puts(b, ",\"blend\":[");
        for (int i = 0; i < it->part_count; i++) {
            strbuf_puts(b, i ? ",{\"name\":" : "{\"name\":");
            strbuf_json_string(b, it->parts[i].name, strlen(it->parts[i].name));
            strbuf_printf(b, ",\"weight\":%.9g}", (double)it->parts[i].weight);
        }
        strbuf_putc(b, ']');
    }
    strbuf_printf(b, ",\"pinned\":%s,\"profile\":", it->pinned ? "true" : "false");
    strbuf_puts(b, it->profile ? it->profile : it->plain ? "false" : "true");
    if (it->quant != ENGINE_QUANT_DEFAULT)
        strbuf_printf(b, ",\"quant\":\"%s\"", engine_adapter_quant_names[it->quant]);
    strbuf_printf(b, ",\"share\":%d}", it->share);
}

static bool write_all(int fd, const char *s, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, s, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        s += done;
        n -= (size_t)done;
    }
    return true;
}

static enum status replace_file(struct registry *r, const struct strbuf *text, struct err *e)
{
    char temp[sizeof r->path + 8];
    snprintf(temp, sizeof temp, "%s.tmp", r->path);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return io_error("write", temp, e);
    bool ok = write_all(fd, text->data, text->len) && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    if (!ok || rename(temp, r->path) != 0) {
        enum status st = io_error("write", r->path, e);
        unlink(temp);
        return st;
    }
    int dir = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0) {
        fsync(dir); /* so that the name outlives a crash too; the bytes are safe already */
        close(dir);
    }
    return STATUS_OK;
}

enum status registry_save(struct registry *r, const struct registry_item *items, size_t count,
                          struct err *e)
{
    if (r->broken)
        return err_set(e, STATUS_CONFLICT, "state-dir", "%s is left as it is", r->path);
    enum status st = take(r, true, e);
    if (st != STATUS_OK)
        return st;
    struct strbuf b;
    strbuf_init(&b, FILE_BYTES_MAX);
    strbuf_printf(&b, "{\"version\":%d,\"adapters\":[", VERSION);
    for (size_t i = 0; i < count; i++) {
        strbuf_puts(&b, i ? ",\n" : "\n");
        put_item(&b, &items[i]);
    }
    strbuf_puts(&b, "\n]}\n");
    st = b.failed ? out_of_memory(e) : replace_file(r, &b, e);
    strbuf_deinit(&b);
    return st;
}
