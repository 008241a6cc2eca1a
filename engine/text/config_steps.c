#include "engine/text/config_steps.h"

#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/utf8.h"

void config_steps_init(struct config_steps *s, const cJSON *root, const char *list)
{
    *s = (struct config_steps){.list = list};
    if (root && !cJSON_IsNull(root))
        s->next[s->depth++] = root;
}

enum status config_steps_next(struct config_steps *s, const cJSON **step, const char **type,
                              struct err *e)
{
    *step = NULL;
    while (s->depth > 0) {
        const cJSON *v = s->next[s->depth - 1];
        if (!v) {
            s->depth--;
            continue;
        }
        /* The root is not a member of a list that this walk may follow. */
        s->next[s->depth - 1] = s->depth == 1 ? NULL : v->next;
        const cJSON *t = cJSON_GetObjectItemCaseSensitive(v, "type");
        if (!cJSON_IsString(t))
            return err_set(e, STATUS_BAD_FILE, NULL, "a step without a type");
        if (++s->taken > LIMIT_TOKENIZER_STEPS)
            return err_set(e, STATUS_LIMIT, NULL, "more than %d steps", LIMIT_TOKENIZER_STEPS);
        if (strcmp(t->valuestring, "Sequence") != 0) {
            *step = v;
            *type = t->valuestring;
            return STATUS_OK;
        }
        const cJSON *members = cJSON_GetObjectItemCaseSensitive(v, s->list);
        if (!cJSON_IsArray(members))
            return err_set(e, STATUS_BAD_FILE, NULL, "a Sequence without '%s'", s->list);
        if (s->depth == CONFIG_STEPS_DEPTH)
            return err_set(e, STATUS_LIMIT, NULL, "Sequences nested too deeply");
        s->next[s->depth++] = members->child;
    }
    return STATUS_OK;
}

enum status config_pattern(const cJSON *step, struct regex *out, struct err *e)
{
    const cJSON *p = cJSON_GetObjectItemCaseSensitive(step, "pattern");
    const cJSON *s = cJSON_GetObjectItemCaseSensitive(p, "String");
    const cJSON *r = cJSON_GetObjectItemCaseSensitive(p, "Regex");
    if (cJSON_IsString(r))
        return regex_open(out, r->valuestring, strlen(r->valuestring), e);
    if (!cJSON_IsString(s))
        return err_set(e, STATUS_BAD_FILE, NULL, "a pattern is neither String nor Regex");
    if (s->valuestring[0] == '\0')
        return err_set(e, STATUS_UNSUPPORTED, NULL, "an empty pattern");
    return regex_open_literal(out, s->valuestring, strlen(s->valuestring), e);
}

enum status config_char(const cJSON *step, const char *key, char out[4], size_t *len, struct err *e)
{
    const char *s = "";
    enum status st = config_string(step, key, &s, e);
    if (st != STATUS_OK)
        return st;
    size_t n = strlen(s);
    if (n == 0 || utf8_valid_len(s, n) != n)
        return err_set(e, STATUS_BAD_FILE, NULL, "'%s' is not one character", key);
    memcpy(out, s, n);
    *len = n;
    return STATUS_OK;
}

enum status config_string(const cJSON *step, const char *key, const char **out, struct err *e)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(step, key);
    if (!cJSON_IsString(v))
        return err_set(e, STATUS_BAD_FILE, NULL, "'%s' is not a string", key);
    *out = v->valuestring;
    return STATUS_OK;
}

enum status config_refuse(const char *kind, const char *type, struct err *e)
{
    return err_set(e, STATUS_UNSUPPORTED, NULL, "%s \"%.64s\" is not supported", kind, type);
}
