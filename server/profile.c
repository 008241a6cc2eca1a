#include "server/profile.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "server/api_request.h"

#define FILE_NAME   "chorus.json"
#define CONFIG_NAME "tokenizer_config.json"

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

struct profile *profile_ref(struct profile *p)
{
    if (p)
        atomic_fetch_add(&p->refs, 1);
    return p;
}

void profile_unref(struct profile *p)
{
    if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
        return;
    engine_text_close(p->text);
    mem_free(p->system);
    mem_free(p);
}

/* Where a field stands: in the file, or in what a client gave. */
static enum status name_field(bool given, const char *within, const char *field, const char *why,
                              struct err *e)
{
    char param[ERR_PARAM_MAX];
    char text[ERR_MSG_MAX];
    snprintf(text, sizeof text, "%s", why); /* `field` and `why` may lie in `e` */
    snprintf(param, sizeof param, "%s%.16s%.48s", given ? "profile." : FILE_NAME ": ", within,
             field);
    return err_set(e, given ? STATUS_INVALID : STATUS_BAD_FILE, param, "%s: %.400s", param, text);
}

/* Puts the place before what a getter said. */
static enum status in_place(bool given, enum status st, const char *within, struct err *e)
{
    return st == STATUS_INVALID ? name_field(given, within, e->param, e->msg, e) : st;
}

static enum status read_sampling(bool given, const cJSON *list,
                                 const struct sample_params *defaults, struct profile *p,
                                 struct err *e)
{
    int64_t max_tokens = -1;
    if (!cJSON_IsObject(list))
        return name_field(given, "", "sampling", "must be an object", e);
    for (const cJSON *m = list->child; m; m = m->next) {
        if (!api_request_is_sampling(m->string) && strcmp(m->string, "max_tokens") != 0)
            return name_field(given, "sampling.", m->string, "is not known", e);
    }
    p->sampling = *defaults;
    p->has_sampling = true;
    enum status st = api_request_read_sampling(list, &p->sampling, e);
    if (st == STATUS_OK)
        st = json_get_int(list, "max_tokens", 1, INT32_MAX, &max_tokens, e);
    p->max_tokens = (int)max_tokens;
    return in_place(given, st, "sampling.", e);
}

/* *own: the template to use, NULL for none of its own words; *none: the base's, whatever lies
 * there. */
static enum status read_json(bool given, const cJSON *root, const struct sample_params *defaults,
                             struct profile *p, const char **own, bool *none, struct err *e)
{
    const cJSON *template = json_member(root, "chat_template");
    const char *system = NULL;
    enum status st = STATUS_OK;
    for (const cJSON *m = root->child; m; m = m->next) {
        if (strcmp(m->string, "system") != 0 && strcmp(m->string, "sampling") != 0 &&
            strcmp(m->string, "chat_template") != 0)
            return name_field(given, "", m->string, "is not known", e);
    }
    st = in_place(given, json_get_string(root, "system", &system, e), "", e);
    if (st == STATUS_OK && json_member(root, "sampling"))
        st = read_sampling(given, json_member(root, "sampling"), defaults, p, e);
    if (st != STATUS_OK)
        return st;
    *none = cJSON_IsFalse(template);
    if (template && !*none && !cJSON_IsString(template))
        return name_field(given, "", "chat_template", "must be a template, or false for the base's",
                          e);
    if (given && cJSON_IsString(template))
        return name_field(given, "", "chat_template", "a request cannot bring a template", e);
    *own = cJSON_IsString(template) ? template->valuestring : NULL;
    p->system = system && *system ? mem_strdup(system) : NULL;
    return system && *system && !p->system ? out_of_memory(e) : STATUS_OK;
}

/* A JSON file that must be an object. *out NULL: there is none. */
static enum status read_object(const struct file_root *dir, const char *name, size_t max_bytes,
                               cJSON **out, struct err *e)
{
    char *text;
    size_t n;
    *out = NULL;
    enum status st = file_read(dir, name, max_bytes, &text, &n, NULL, e);
    if (st != STATUS_OK)
        return st == STATUS_NOT_FOUND ? STATUS_OK : st;
    struct json_limits limits = json_default_limits;
    limits.refuse_duplicate = true;
    struct err why;
    st = json_parse(text, n, &limits, out, &why);
    mem_free(text);
    if (st == STATUS_OK && cJSON_IsObject(*out))
        return STATUS_OK;
    cJSON_Delete(*out);
    *out = NULL;
    if (st == STATUS_NO_MEMORY)
        return out_of_memory(e);
    return err_set(e, STATUS_BAD_FILE, name, "%s: %s", name,
                   st == STATUS_OK ? "is not an object" : why.msg);
}

static enum status read_template(const struct file_root *dir, const struct engine_text *base,
                                 const char *own, struct profile *p, struct err *e)
{
    cJSON *config = NULL;
    char *text = NULL;
    size_t n;
    enum status st = read_object(dir, CONFIG_NAME, LIMIT_CONFIG_JSON_BYTES, &config, e);
    if (st == STATUS_OK && !own) {
        st = file_read(dir, "chat_template.jinja", LIMIT_TEMPLATE_SOURCE_BYTES, &text, &n, NULL, e);
        st = st == STATUS_NOT_FOUND ? STATUS_OK : st;
        if (st == STATUS_OK && text && strlen(text) != n)
            st = err_set(e, STATUS_BAD_FILE, "chat_template.jinja", "it holds a NUL");
    }
    if (st == STATUS_OK) {
        st = engine_text_beside(base, own ? own : text, config, &p->text, e);
        st = st == STATUS_NOT_FOUND ? STATUS_OK : st;
    }
    mem_free(text);
    cJSON_Delete(config);
    return st;
}

/* `dir` NULL: there is none. */
static enum status read_all(const struct file_root *dir, const cJSON *given,
                            const struct engine_text *base, const struct sample_params *defaults,
                            struct profile *p, struct err *e)
{
    cJSON *root = NULL;
    const char *own = NULL;
    bool none = false;
    enum status st = STATUS_OK;
    if (dir && !given)
        st = read_object(dir, FILE_NAME, LIMIT_PROFILE_BYTES, &root, e);
    if (st == STATUS_OK && (given || root))
        st = read_json(given != NULL, given ? given : root, defaults, p, &own, &none, e);
    if (st == STATUS_OK && dir && !none)
        st = read_template(dir, base, own, p, e);
    cJSON_Delete(root);
    return st;
}

/* False: no directory; a single file has none, and what else is wrong others say better. */
static bool open_directory(const char *root, const char *rest, struct file_root *out)
{
    struct file_root top;
    struct err ignored;
    if (!root || file_root_open(root, true, &top, &ignored) != STATUS_OK)
        return false;
    bool found = file_root_open_in(&top, rest, out, &ignored) == STATUS_OK;
    file_root_close(&top);
    return found;
}

enum status profile_load(const char *root, const char *rest, const cJSON *given,
                         const struct engine_text *base, const struct sample_params *defaults,
                         struct profile **out, struct err *e)
{
    struct file_root dir;
    *out = NULL;
    struct profile *p = mem_calloc(1, sizeof *p);
    if (!p)
        return out_of_memory(e);
    atomic_init(&p->refs, 1);
    p->max_tokens = -1;
    bool found = open_directory(root, rest, &dir);
    enum status st = read_all(found ? &dir : NULL, given, base, defaults, p, e);
    if (found)
        file_root_close(&dir);
    if (st != STATUS_OK || (!p->system && !p->text && !p->has_sampling)) {
        profile_unref(p);
        return st;
    }
    *out = p;
    return STATUS_OK;
}
