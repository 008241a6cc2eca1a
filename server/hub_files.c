#include "server/hub_files.h"

#include <fnmatch.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "server/text_table.h"

#define BYTES_MAX 9007199254740992 /* 2^53: sizes in JSON stay exact */

static enum status bad(struct err *e, const char *what)
{
    return err_set(e, STATUS_BAD_FILE, NULL, "the hub's list of files is not understood: %s", what);
}

static enum status parse_file(const cJSON *item, struct hub_file *out, struct err *e)
{
    const char *name = NULL;
    int64_t bytes = 0;
    if (!cJSON_IsObject(item) || json_get_string(item, "rfilename", &name, NULL) != STATUS_OK ||
        !name)
        return bad(e, "an entry has no rfilename");
    if (!hub_file_name_ok(name)) {
        char clean[128];
        text_clean(name, clean, sizeof clean);
        return err_set(e, STATUS_BAD_FILE, NULL,
                       "the hub lists a file whose name is not taken: \"%s\"", clean);
    }
    if (json_get_int(item, "size", 0, BYTES_MAX, &bytes, NULL) != STATUS_OK)
        return bad(e, "a size is no number of bytes");
    out->bytes = (uint64_t)bytes;
    out->name = mem_strdup(name);
    return out->name ? STATUS_OK : err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

static enum status parse_root(const cJSON *root, struct hub_files *out, struct err *e)
{
    const char *sha = NULL;
    const cJSON *list = cJSON_IsObject(root) ? json_member(root, "siblings") : NULL;
    if (!cJSON_IsArray(list) || json_get_string(root, "sha", &sha, NULL) != STATUS_OK || !sha ||
        !hub_hash_ok(sha))
        return bad(e, "no commit and files");
    memcpy(out->commit, sha, strlen(sha) + 1);
    size_t n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list) n++;
    if (n > LIMIT_HUB_FILES)
        return err_set(e, STATUS_LIMIT, NULL, "the repository has more than %d files",
                       LIMIT_HUB_FILES);
    out->list = mem_calloc(n ? n : 1, sizeof *out->list);
    if (!out->list)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    enum status st = STATUS_OK;
    cJSON_ArrayForEach(item, list)
    {
        if (st == STATUS_OK)
            st = parse_file(item, &out->list[out->count++], e);
    }
    return st;
}

enum status hub_files_parse(const char *text, size_t n, struct hub_files *out, struct err *e)
{
    struct err why = {0};
    cJSON *root = NULL;
    *out = (struct hub_files){0};
    enum status st = json_parse(text, n, &json_default_limits, &root, &why);
    if (st == STATUS_NO_MEMORY)
        return err_set(e, st, NULL, "out of memory");
    if (st != STATUS_OK)
        return bad(e, why.msg);
    st = parse_root(root, out, e);
    cJSON_Delete(root);
    return st;
}

void hub_files_deinit(struct hub_files *f)
{
    for (size_t i = 0; i < f->count; i++)
        mem_free(f->list[i].name);
    mem_free(f->list);
    *f = (struct hub_files){0};
}

const struct hub_file *hub_files_find(const struct hub_files *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++) {
        if (strcmp(f->list[i].name, name) == 0)
            return &f->list[i];
    }
    return NULL;
}

/* ---- what is wanted ---- */

/* What is read of a model, of an adapter, or tells people what they may do with it. */
static const char *const always[] = {
    "*config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "chorus.json",
    "modules.json",
    "[0-9]_Pooling/config.json",
    "adapter_*.json",
    "adapter_*.safetensors",
    "README.md",
    "LICENSE*",
};

/* Weights, the best spelling first: only one of them is read, so only one is fetched. Others hold
 * the same again (model.fp16.safetensors, consolidated.safetensors, pytorch_model.bin). */
static const char *const weights[][2] = {
    {"model.safetensors", "model.safetensors"},
    {"model-[0-9]*-of-[0-9]*.safetensors", "model.safetensors.index.json"},
};

static bool is_match(const char *pattern, const char *name)
{
    return fnmatch(pattern, name, FNM_PATHNAME) == 0;
}

static size_t mark(struct hub_files *f, const char *pattern)
{
    size_t n = 0;
    for (size_t i = 0; i < f->count; i++) {
        if (!is_match(pattern, f->list[i].name))
            continue;
        n++;
        f->list[i].wanted = true;
    }
    return n;
}

static void mark_weights(struct hub_files *f)
{
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        if (mark(f, weights[i][0]) > 0) {
            mark(f, weights[i][1]);
            return;
        }
    }
    /* Shards of other names, which the index tells. */
    if (mark(f, "model.safetensors.index.json") == 0)
        return;
    for (size_t i = 0; i < f->count; i++) {
        const char *name = f->list[i].name;
        if (is_match("*.safetensors", name) && !is_match("consolidated*", name))
            f->list[i].wanted = true;
    }
}

static bool is_asked(const char *name, const char *const *patterns, int count)
{
    const char *slash = strrchr(name, '/');
    for (int i = 0; i < count; i++) {
        bool whole = strchr(patterns[i], '/') != NULL;
        if (is_match(patterns[i], whole || !slash ? name : slash + 1))
            return true;
    }
    return false;
}

size_t hub_files_choose(struct hub_files *f, bool all, const char *const *patterns, int count)
{
    for (size_t i = 0; i < f->count; i++)
        f->list[i].wanted = all || is_asked(f->list[i].name, patterns, count);
    if (!all && count == 0) {
        for (size_t i = 0; i < sizeof always / sizeof always[0]; i++)
            mark(f, always[i]);
        mark_weights(f);
    }
    size_t n = 0;
    for (size_t i = 0; i < f->count; i++)
        n += f->list[i].wanted;
    return n;
}
