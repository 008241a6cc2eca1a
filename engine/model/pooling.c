#include "engine/model/pooling.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"

#define MODULES_MAX 16 /* transformer, pooling, normalise; more is something else */

/* Embeddings cannot be made, and why. */
#define REFUSE(p, ...)                                                                             \
    ((p)->kind = POOLING_NONE, (p)->normalize = false,                                             \
     (void)err_set(&(p)->why, STATUS_UNSUPPORTED, NULL, __VA_ARGS__))

/* NULL: there is none, or it cannot be read and *p says why. */
static cJSON *read_json(const struct file_root *root, const char *name, struct pooling *p,
                        struct err *e)
{
    static const struct json_limits limits = {
        .depth_max = LIMIT_JSON_DEPTH, .members_max = LIMIT_JSON_MEMBERS, .refuse_duplicate = true};
    char *text;
    size_t n;
    cJSON *json = NULL;
    enum status st = file_read(root, name, LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL, e);
    if (st == STATUS_OK) {
        st = json_parse(text, n, &limits, &json, e);
        mem_free(text);
    }
    if (st != STATUS_OK)
        REFUSE(p, "%s: %.100s", name, e->msg);
    return json;
}

/* The one way that the booleans or the newer string name; NULL: none, or several (they would be
 * joined). */
static const char *mode_of(const cJSON *config)
{
    static const char prefix[] = "pooling_mode_";
    const char *mode = NULL;
    const cJSON *named = json_member(config, "pooling_mode");
    if (named)
        return cJSON_IsString(named) ? named->valuestring : NULL;
    for (const cJSON *m = config->child; m; m = m->next) {
        if (strncmp(m->string, prefix, sizeof prefix - 1) != 0 || !cJSON_IsTrue(m))
            continue;
        if (mode)
            return NULL;
        mode = m->string + sizeof prefix - 1;
    }
    return mode;
}

static void read_mode(const cJSON *config, int width, struct pooling *p)
{
    static const struct {
        const char *name;
        enum pooling_kind kind;
    } modes[] = {
        {"lasttoken", POOLING_LAST},
        {"mean", POOLING_MEAN},
        {"mean_tokens", POOLING_MEAN},
        {"weightedmean", POOLING_WEIGHTED_MEAN},
        {"weightedmean_tokens", POOLING_WEIGHTED_MEAN},
    };
    struct err e;
    int64_t wide = width;
    const char *mode = cJSON_IsObject(config) ? mode_of(config) : NULL;
    if (!mode) {
        REFUSE(p, "the pooling module's config.json does not name one way of pooling");
        return;
    }
    if (json_get_int(config, "word_embedding_dimension", 1, LIMIT_MODEL_WIDTH, &wide, &e) !=
            STATUS_OK ||
        wide != width) {
        REFUSE(p, "the pooling module's word_embedding_dimension is not %d", width);
        return;
    }
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(modes[i].name, mode) == 0) {
            p->kind = modes[i].kind;
            return;
        }
    REFUSE(p, "pooling by '%.40s' is not supported", mode);
}

/* The name of a folder of the model's, not a way out of it. */
static bool is_folder(const char *s)
{
    return *s && *s != '.' && strlen(s) <= LIMIT_NAME_BYTES &&
           strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
               strlen(s);
}

static void read_pooling(const struct file_root *root, const cJSON *module, int width,
                         struct pooling *p, struct err *e)
{
    char name[LIMIT_NAME_BYTES + sizeof "/config.json"];
    const cJSON *path = json_member(module, "path");
    if (!cJSON_IsString(path) || !is_folder(path->valuestring)) {
        REFUSE(p, "modules.json: the pooling module's path is no folder of the model's");
        return;
    }
    snprintf(name, sizeof name, "%s/config.json", path->valuestring);
    cJSON *config = read_json(root, name, p, e);
    if (config)
        read_mode(config, width, p);
    cJSON_Delete(config);
}

/* The modules in their order: a transformer, a pooling, and perhaps one that normalises. */
static void read_modules(const struct file_root *root, const cJSON *list, int width,
                         struct pooling *p, struct err *e)
{
    static const char *const order[] = {"Transformer", "Pooling", "Normalize"};
    int at = 0;
    *p = (struct pooling){.kind = POOLING_NONE};
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > MODULES_MAX) {
        REFUSE(p, "modules.json is no list of modules");
        return;
    }
    for (const cJSON *m = list->child; m; m = m->next, at++) {
        const cJSON *type = cJSON_IsObject(m) ? json_member(m, "type") : NULL;
        const char *s = cJSON_IsString(type) ? type->valuestring : "";
        const char *dot = strrchr(s, '.');
        s = dot ? dot + 1 : s;
        if (at > 2 || strcmp(s, order[at]) != 0) {
            REFUSE(p, "modules.json: module %d, '%.40s', is not supported", at, s);
            return;
        }
        if (at == 1)
            read_pooling(root, m, width, p, e);
        if (at == 1 && p->kind == POOLING_NONE)
            return;
        p->normalize = at == 2;
    }
    if (at < 2)
        REFUSE(p, "modules.json names no pooling module");
}

enum status pooling_read(const struct file_root *root, int width, struct pooling *out,
                         struct err *e)
{
    struct err why = {0};
    *out = (struct pooling){.kind = POOLING_LAST, .normalize = true};
    cJSON *list = read_json(root, "modules.json", out, &why);
    if (list)
        read_modules(root, list, width, out, &why);
    else if (why.code == STATUS_NOT_FOUND)
        *out = (struct pooling){.kind = POOLING_LAST, .normalize = true};
    cJSON_Delete(list);
    return why.code == STATUS_NO_MEMORY ? err_set(e, why.code, NULL, "out of memory") : STATUS_OK;
}

bool pooling_takes_all(enum pooling_kind kind)
{
    return kind == POOLING_MEAN || kind == POOLING_WEIGHTED_MEAN;
}

void pooling_add(struct pooled *p, int i, const float *state)
{
    double weight = p->kind == POOLING_WEIGHTED_MEAN ? i + 1.0 : 1.0;
    for (int c = 0; c < p->width; c++)
        p->sum[c] += weight * (double)state[c];
}

void pooling_end(struct pooled *p, int count)
{
    double n = p->kind == POOLING_LAST ? 1.0 : (double)count;
    double all = p->kind == POOLING_WEIGHTED_MEAN ? n * (n + 1) / 2 : n;
    for (int c = 0; c < p->width; c++)
        p->out[c] = (float)(p->sum[c] / all);
}
