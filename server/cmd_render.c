/* cmd_render: a chat template over variables from stdin, text on stdout. What a request's messages
 * become, and whether a template works, without a server. */
#include <stdio.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/engine_template.h"
#include "server/cmd.h"
#include "server/hub_cache.h"

static enum status read_vars(cJSON **out, struct err *e)
{
    struct strbuf in;
    strbuf_init(&in, LIMIT_HTTP_BODY_BYTES);
    enum status st = cmd_read_stdin("a JSON object", &in, e);
    if (st == STATUS_OK)
        st = json_parse(strbuf_str(&in), in.len, &json_default_limits, out, e);
    strbuf_deinit(&in);
    if (st == STATUS_OK && !cJSON_IsObject(*out)) {
        cJSON_Delete(*out);
        st = err_set(e, STATUS_INVALID, NULL, "stdin must hold a JSON object");
    }
    return st;
}

static enum status render_file(const char *path, cJSON *vars, bool open_end, struct strbuf *out,
                               struct err *e)
{
    struct file_root root;
    char *source;
    size_t n;
    enum status st = file_root_open(".", false, &root, e);
    if (st != STATUS_OK)
        return st;
    st = file_read(&root, path, LIMIT_TEMPLATE_SOURCE_BYTES, &source, &n, NULL, e);
    file_root_close(&root);
    if (st != STATUS_OK)
        return st;
    st = engine_template_render(source, n, vars, open_end, out, e);
    mem_free(source);
    return st;
}

static int render(const struct options *o)
{
    struct err e = {.code = STATUS_OK};
    if ((!*o->file && !*o->model) || o->args.count > 0) {
        err_set(&e, STATUS_INVALID, NULL, "%s (chorus render --help)",
                o->args.count ? "the variables come from standard input"
                              : "--model DIR or --template FILE is needed");
        return cmd_fail("render", &e);
    }
    struct strbuf out;
    cJSON *vars;
    if (read_vars(&vars, &e) != STATUS_OK)
        return cmd_fail("render", &e);
    strbuf_init(&out, LIMIT_TEMPLATE_OUTPUT_BYTES);
    bool open_end = o->continue_final_message;
    char path[HUB_PATH_BYTES];
    enum status st = *o->file ? render_file(o->file, vars, open_end, &out, &e)
                              : hub_model_find(o->model, path, &e);
    if (!*o->file && st == STATUS_OK)
        st = engine_template_render_model(path, vars, open_end, &out, &e);
    cJSON_Delete(vars);
    int code = st == STATUS_OK ? cmd_print(&out) : CMD_EXIT_FAILED;
    if (st != STATUS_OK)
        strbuf_deinit(&out);
    if (st == STATUS_INVALID)
        fprintf(stderr, "chorus render: %s\n", e.msg);
    else if (st != STATUS_OK)
        code = cmd_fail("render", &e);
    return code;
}

int cmd_render(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_RENDER, argc, argv, &o, &code))
        code = render(&o);
    options_deinit(&o);
    return code;
}
