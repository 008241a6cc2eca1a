#include "engine/engine_template.h"

#include "engine/text/chat_template.h"

enum status engine_template_render(const char *source, size_t n, const cJSON *vars,
                                   struct strbuf *out, struct err *e)
{
    struct chat_template *t;
    enum status st = chat_template_compile(source, n, &t, e);
    if (st != STATUS_OK)
        return st;
    st = chat_template_render(t, vars, out, NULL, e);
    chat_template_free(t);
    return st;
}

enum status engine_template_render_model(const char *dir, const cJSON *vars, struct strbuf *out,
                                         struct err *e)
{
    struct chat_template *t;
    enum status st = chat_template_load(dir, NULL, &t, e);
    if (st != STATUS_OK)
        return st;
    st = chat_template_render(t, vars, out, NULL, e);
    chat_template_free(t);
    return st;
}
