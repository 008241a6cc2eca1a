#include "engine/engine_template.h"

#include "engine/text/chat_continue.h"
#include "engine/text/chat_template.h"

static enum status render(struct chat_template *t, cJSON *vars, bool open_end, struct strbuf *out,
                          struct err *e)
{
    enum status st = open_end ? chat_continue_render(t, vars, out, NULL, e)
                              : chat_template_render(t, vars, out, NULL, e);
    chat_template_free(t);
    return st;
}

enum status engine_template_render(const char *source, size_t n, cJSON *vars, bool open_end,
                                   struct strbuf *out, struct err *e)
{
    struct chat_template *t;
    enum status st = chat_template_compile(source, n, &t, e);
    return st == STATUS_OK ? render(t, vars, open_end, out, e) : st;
}

enum status engine_template_render_model(const char *dir, cJSON *vars, bool open_end,
                                         struct strbuf *out, struct err *e)
{
    struct chat_template *t;
    enum status st = chat_template_load(dir, NULL, &t, e);
    return st == STATUS_OK ? render(t, vars, open_end, out, e) : st;
}
