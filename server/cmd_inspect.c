/* cmd_inspect: what a model or adapter directory holds, what binds, what would be refused and why.
 */
#include <stdio.h>
#include <string.h>

#include "engine/engine_inspect.h"
#include "server/cmd.h"
#include "server/hub_cache.h"

#define REPORT_BYTES_MAX (1u << 20)

static int usage(FILE *to, int code)
{
    fputs(
        "usage: chorus inspect PATH [--model DIR] [--json]\n\n"
        "  PATH         directory of a model or of an adapter, or an adapter in a .gguf file, or\n"
        "               org/name[:revision] in the Hugging Face cache\n"
        "  --model DIR  check the adapter against this base model\n"
        "  --json       the report as one JSON object; \"ok\" says whether it would be served\n",
        to);
    return code;
}

int cmd_inspect(int argc, char **argv)
{
    const char *path = NULL;
    const char *model = NULL;
    enum engine_inspect_form form = ENGINE_INSPECT_TEXT;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)
            return usage(stdout, CMD_EXIT_OK);
        if (strcmp(a, "--model") == 0 && i + 1 < argc)
            model = argv[++i];
        else if (strncmp(a, "--model=", 8) == 0)
            model = a + 8;
        else if (strcmp(a, "--json") == 0)
            form = ENGINE_INSPECT_JSON;
        else if (a[0] == '-' || path)
            return usage(stderr, CMD_EXIT_USAGE);
        else
            path = a;
    }
    if (!path)
        return usage(stderr, CMD_EXIT_USAGE);
    struct err e = {0};
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
    fputs(strbuf_str(&report), stdout);
    strbuf_deinit(&report);
    return st == STATUS_OK ? CMD_EXIT_OK : cmd_fail("inspect", &e);
}
