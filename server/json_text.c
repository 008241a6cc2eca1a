#include "server/json_text.h"

#include "engine/base/mem.h"

/* cJSON prints numbers from their double; those that it cannot hold keep their text here. No deeper
 * than LIMIT_JSON_DEPTH. */
static void keep_digits(cJSON *tree)
{
    for (cJSON *m = tree->child; m; m = m->next)
        keep_digits(m);
    if (cJSON_IsNumber(tree) && tree->valuestring)
        tree->type = (tree->type & ~0xFF) | cJSON_Raw;
}

char *json_text_of(const cJSON *v)
{
    cJSON *copy = cJSON_Duplicate(v, 1);
    char *printed = NULL, *text = NULL;
    if (copy) {
        keep_digits(copy);
        printed = cJSON_PrintUnformatted(copy);
    }
    if (printed)
        text = mem_strdup(printed);
    cJSON_free(printed);
    cJSON_Delete(copy);
    return text;
}

void json_text_put(struct strbuf *b, const cJSON *v)
{
    char *text = json_text_of(v);
    if (text)
        strbuf_puts(b, text);
    else
        b->failed = true;
    mem_free(text);
}
