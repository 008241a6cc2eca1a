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

static int usage(FILE *to, int code)
{
    fputs("usage: chorus render (--template FILE | --model DIR) [options] < VARIABLES.json\n\n"
          "  --template FILE           a chat template (Jinja)\n"
          "  --model DIR               the chat template of a model directory\n"
          "  --continue-final-message  cut behind the final message's content\n\n"
          "Reads a JSON object of template variables (messages, tools, add_generation_prompt,\n"
          "bos_token ...) from stdin, writes the text to stdout. Exits 1 with the template's\n"
          "message when it raises.\n",
          to);
    return code;
}

static enum status read_stdin(struct strbuf *in, struct err *e)
{
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        strbuf_append(in, chunk, n);
    if (ferror(stdin))
        return err_set(e, STATUS_IO, NULL, "can't read stdin");
    if (in->failed)
        return err_set(e, STATUS_LIMIT, NULL, "more than %u bytes on stdin", LIMIT_HTTP_BODY_BYTES);
    return STATUS_OK;
}

static enum status read_vars(cJSON **out, struct err *e)
{
    struct strbuf in;
    strbuf_init(&in, LIMIT_HTTP_BODY_BYTES);
    enum status st = read_stdin(&in, e);
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

int cmd_render(int argc, char **argv)
{
    const char *file = NULL;
    const char *model = NULL;
    bool open_end = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)
            return usage(stdout, CMD_EXIT_OK);
        if (strcmp(a, "--template") == 0 && i + 1 < argc)
            file = argv[++i];
        else if (strncmp(a, "--template=", 11) == 0)
            file = a + 11;
        else if (strcmp(a, "--model") == 0 && i + 1 < argc)
            model = argv[++i];
        else if (strncmp(a, "--model=", 8) == 0)
            model = a + 8;
        else if (strcmp(a, "--continue-final-message") == 0)
            open_end = true;
        else
            return usage(stderr, CMD_EXIT_USAGE);
    }
    if (!file == !model)
        return usage(stderr, CMD_EXIT_USAGE);
    struct err e = {.code = STATUS_OK};
    struct strbuf out;
    cJSON *vars;
    if (read_vars(&vars, &e) != STATUS_OK)
        return cmd_fail("render", &e);
    strbuf_init(&out, LIMIT_TEMPLATE_OUTPUT_BYTES);
    char path[HUB_PATH_BYTES];
    enum status st =
        file ? render_file(file, vars, open_end, &out, &e) : hub_model_find(model, path, &e);
    if (!file && st == STATUS_OK)
        st = engine_template_render_model(path, vars, open_end, &out, &e);
    cJSON_Delete(vars);
    bool written = st == STATUS_OK && fwrite(strbuf_str(&out), 1, out.len, stdout) == out.len &&
                   fflush(stdout) == 0;
    strbuf_deinit(&out);
    if (st == STATUS_INVALID) {
        fprintf(stderr, "chorus render: %s\n", e.msg);
        return CMD_EXIT_FAILED;
    }
    if (st != STATUS_OK)
        return cmd_fail("render", &e);
    return written ? CMD_EXIT_OK : CMD_EXIT_FAILED;
}
