/* cmd_completion and cmd_man: what is generated of the option table, on stdout. The build writes it
 * to files for install. */
#include <stdio.h>

#include "config/options_text.h"
#include "server/cmd.h"
#include "server/version.h"

int cmd_completion(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_COMPLETION, argc, argv, &o, &code)) {
        struct err e = {0};
        struct strbuf text;
        strbuf_init(&text, OPTIONS_TEXT_BYTES);
        const char *shell = o.args.count == 1 ? o.args.items[0] : "";
        if (options_complete(shell, &text)) {
            code = cmd_print(&text);
        } else {
            strbuf_deinit(&text);
            err_set(&e, STATUS_INVALID, "shell", "say which shell: bash, zsh or fish");
            code = cmd_fail("completion", &e);
        }
    }
    options_deinit(&o);
    return code;
}

int cmd_man(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_MAN, argc, argv, &o, &code)) {
        struct err e = {0};
        struct strbuf text;
        strbuf_init(&text, OPTIONS_TEXT_BYTES);
        const char *page = o.args.count == 0 ? "chorus.1" : o.args.items[0];
        if (o.args.count < 2 && options_man(page, CHORUS_VERSION, CHORUS_DATE, &text)) {
            code = cmd_print(&text);
        } else {
            strbuf_deinit(&text);
            err_set(&e, STATUS_INVALID, "page", "there are chorus.1 and chorus.conf.5");
            code = cmd_fail("man", &e);
        }
    }
    options_deinit(&o);
    return code;
}
