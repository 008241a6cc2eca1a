/* cmd_inspect: what a model or adapter directory holds, what binds, what would be refused and why.
 */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/engine_inspect.h"
#include "server/cmd.h"
#include "server/hub_cache.h"
#include "server/text_table.h"

#define REPORT_BYTES_MAX (1u << 20)

/* Names in files are not ours: nothing of them steers a terminal. */
static void clean(struct strbuf *report)
{
    struct strbuf out;
    char *text = mem_alloc(report->len + 1, 1);
    strbuf_init(&out, REPORT_BYTES_MAX);
    out.failed = !text;
    for (char *line = report->data; text && line && *line;) {
        size_t n = strcspn(line, "\n");
        bool ends = line[n] == '\n';
        line[n] = '\0';
        text_clean(line, text, report->len + 1);
        strbuf_puts(&out, text);
        if (ends)
            strbuf_putc(&out, '\n');
        line += n + ends;
    }
    mem_free(text);
    strbuf_deinit(report);
    *report = out;
}

static int inspect(const struct options *o)
{
    struct err e = {0};
    if (o->args.count != 1) {
        err_set(&e, STATUS_INVALID, "PATH", "one PATH is needed (chorus inspect --help)");
        return cmd_fail("inspect", &e);
    }
    const char *path = o->args.items[0];
    const char *model = *o->model ? o->model : NULL;
    enum engine_inspect_form form = o->json ? ENGINE_INSPECT_JSON : ENGINE_INSPECT_TEXT;
    struct strbuf report;
    strbuf_init(&report, REPORT_BYTES_MAX);
    char place[HUB_PATH_BYTES];
    char base[HUB_PATH_BYTES];
    enum status st = hub_model_find(path, place, &e);
    if (st == STATUS_OK && model)
        st = hub_model_find(model, base, &e);
    if (st == STATUS_OK)
        st = engine_inspect_is_adapter(place)
                 ? engine_inspect_adapter(place, model ? base : NULL, form, &report, &e)
                 : engine_inspect_model(place, form, &report, &e);
    if (!o->json)
        clean(&report);
    int code = cmd_print(&report);
    return st == STATUS_OK ? code : cmd_fail("inspect", &e);
}

int cmd_inspect(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_INSPECT, argc, argv, &o, &code))
        code = inspect(&o);
    options_deinit(&o);
    return code;
}
