#include "engine/text/post_process.h"

#include <stdbool.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/text/config_steps.h"

static enum status too_many(struct err *e)
{
    return err_set(e, STATUS_LIMIT, NULL, "a template adds more than %d tokens", POST_IDS_MAX);
}

/* Appends the ids of {"SpecialToken": {"id": name}}. */
static enum status add_special(const cJSON *config, const cJSON *token, const struct vocab *v,
                               int32_t *ids, size_t *count, struct err *e)
{
    const char *name;
    enum status st = config_string(token, "id", &name, e);
    if (st != STATUS_OK)
        return st;
    const cJSON *table = cJSON_GetObjectItemCaseSensitive(config, "special_tokens");
    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(table, name);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(entry, "ids");
    if (!cJSON_IsArray(list))
        return err_set(e, STATUS_BAD_FILE, NULL, "the template's token \"%.64s\" has no ids", name);
    for (const cJSON *item = list->child; item; item = item->next) {
        int64_t id;
        if (!json_int64(item, &id) || id < 0 || id > INT32_MAX ||
            !vocab_has(v, (int32_t)id, VOCAB_PRESENT))
            return err_set(e, STATUS_BAD_FILE, NULL, "the template's token \"%.64s\" has a bad id",
                           name);
        if (*count == POST_IDS_MAX)
            return too_many(e);
        ids[(*count)++] = (int32_t)id;
    }
    return STATUS_OK;
}

/* Later processors wrap what earlier ones made. */
static enum status wrap(struct post_process *p, const int32_t *before, size_t before_count,
                        const int32_t *after, size_t after_count, struct err *e)
{
    if (p->before_count + before_count > POST_IDS_MAX ||
        p->after_count + after_count > POST_IDS_MAX)
        return too_many(e);
    memmove(p->before + before_count, p->before, p->before_count * sizeof *p->before);
    memcpy(p->before, before, before_count * sizeof *before);
    memcpy(p->after + p->after_count, after, after_count * sizeof *after);
    p->before_count += before_count;
    p->after_count += after_count;
    return STATUS_OK;
}

static enum status open_template(struct post_process *p, const cJSON *config, const struct vocab *v,
                                 struct err *e)
{
    const cJSON *single = cJSON_GetObjectItemCaseSensitive(config, "single");
    int32_t ids[2][POST_IDS_MAX];
    size_t count[2] = {0, 0};
    bool seen_text = false;
    if (!cJSON_IsArray(single))
        return err_set(e, STATUS_BAD_FILE, NULL, "TemplateProcessing without 'single'");
    for (const cJSON *item = single->child; item; item = item->next) {
        const cJSON *special = cJSON_GetObjectItemCaseSensitive(item, "SpecialToken");
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(item, "Sequence");
        const cJSON *which = cJSON_GetObjectItemCaseSensitive(text, "id");
        if (special) {
            enum status st = add_special(config, special, v, ids[seen_text], &count[seen_text], e);
            if (st != STATUS_OK)
                return st;
        } else if (!seen_text && cJSON_IsString(which) && strcmp(which->valuestring, "A") == 0) {
            seen_text = true;
        } else {
            return err_set(e, STATUS_BAD_FILE, NULL, "a template item is neither token nor text A");
        }
    }
    if (!seen_text)
        return err_set(e, STATUS_BAD_FILE, NULL, "a template without its text");
    return wrap(p, ids[0], count[0], ids[1], count[1], e);
}

enum status post_process_open(struct post_process *p, const cJSON *config, const struct vocab *v,
                              struct err *e)
{
    *p = (struct post_process){0};
    struct config_steps walk;
    config_steps_init(&walk, config, "processors");
    for (;;) {
        const cJSON *step;
        const char *type;
        enum status st = config_steps_next(&walk, &step, &type, e);
        if (st == STATUS_OK && !step)
            return STATUS_OK;
        if (st == STATUS_OK && strcmp(type, "TemplateProcessing") == 0)
            st = open_template(p, step, v, e);
        else if (st == STATUS_OK && strcmp(type, "ByteLevel") != 0) /* only moves offsets */
            st = config_refuse("post-processor", type, e);
        if (st != STATUS_OK)
            return st;
    }
}

enum status post_process_set_bos(struct post_process *p, int32_t id, bool wanted, struct err *e)
{
    bool there = p->before_count > 0 && p->before[0] == id;
    if (there == wanted)
        return STATUS_OK;
    if (wanted)
        return wrap(p, &id, 1, &id, 0, e);
    p->before_count--;
    memmove(p->before, p->before + 1, p->before_count * sizeof *p->before);
    return STATUS_OK;
}

enum status post_process_set_eos(struct post_process *p, int32_t id, bool wanted, struct err *e)
{
    bool there = p->after_count > 0 && p->after[p->after_count - 1] == id;
    if (there == wanted)
        return STATUS_OK;
    if (wanted)
        return wrap(p, &id, 0, &id, 1, e);
    p->after_count--;
    return STATUS_OK;
}
