#include "server/chat.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_MAX 100

static bool is_name(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return n > 0 && n <= LIMIT_NAME_BYTES;
}

/* NAME or NAME*WEIGHT. */
static enum status parse_use(const char *s, size_t n, struct engine_adapter_use *u, struct err *e)
{
    const char *star = memchr(s, '*', n);
    size_t name = star ? (size_t)(star - s) : n;
    char weight[32] = "1", *end;
    if (!is_name(s, name))
        return err_set(e, STATUS_INVALID, "adapter",
                       "\"%.*s\" is no name of an adapter: letters, digits, '.', '_' and '-', "
                       "blends as in elf*0.7+villain*0.3",
                       n > 64 ? 64 : (int)n, s);
    if (star)
        snprintf(weight, sizeof weight, "%.*s", (int)(n - name - 1), star + 1);
    double w = strtod(weight, &end);
    if (end == weight || *end != '\0' || !isfinite(w) || fabs(w) > WEIGHT_MAX)
        return err_set(e, STATUS_INVALID, "adapter", "\"%.31s\" is no weight", weight);
    *u = (struct engine_adapter_use){.weight = (float)w};
    memcpy(u->name, s, name);
    return STATUS_OK;
}

enum status chat_voice_parse(const char *text, struct chat_voice *out, struct err *e)
{
    static const char between[] = " \t+";
    struct chat_voice v = {.count = 0};
    text += strspn(text, between);
    if (strcmp(text, "base") == 0)
        text = "";
    while (*text) {
        size_t n = strcspn(text, between);
        if (v.count == LIMIT_ADAPTERS_PER_REQUEST)
            return err_set(e, STATUS_INVALID, "adapter", "a blend has %d parts at most",
                           LIMIT_ADAPTERS_PER_REQUEST);
        enum status st = parse_use(text, n, &v.uses[v.count++], e);
        if (st != STATUS_OK)
            return st;
        text += n;
        text += strspn(text, between);
    }
    *out = v;
    return STATUS_OK;
}

void chat_voice_text(const struct chat_voice *v, struct strbuf *out)
{
    if (v->count == 0)
        strbuf_puts(out, "base");
    for (int i = 0; i < v->count; i++) {
        strbuf_printf(out, i ? "+%s" : "%s", v->uses[i].name);
        if (v->uses[i].weight != 1.0f)
            strbuf_printf(out, "*%g", (double)v->uses[i].weight);
    }
}
