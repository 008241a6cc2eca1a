#include "server/cmd.h"

#include <stdio.h>

#include "config/options_text.h"

int cmd_fail(const char *command, const struct err *e)
{
    fprintf(stderr, "chorus %s: %s\n", command, e->msg);
    switch (e->code) {
    case STATUS_INVALID:
    case STATUS_CONTEXT_LENGTH:
        return CMD_EXIT_USAGE;
    case STATUS_BAD_FILE:
    case STATUS_UNSUPPORTED:
    case STATUS_NOT_FOUND:
    case STATUS_IO:
        return CMD_EXIT_BAD_FILE;
    case STATUS_NO_MEMORY:
    case STATUS_LIMIT:
        return CMD_EXIT_NO_MEMORY;
    case STATUS_BUSY:
    case STATUS_CONFLICT:
        return CMD_EXIT_UNAVAILABLE;
    case STATUS_DEVICE_LOST:
        return CMD_EXIT_DEVICE_LOST;
    default:
        return CMD_EXIT_FAILED;
    }
}

int cmd_print(struct strbuf *text)
{
    bool ok = !text->failed && fwrite(strbuf_str(text), 1, text->len, stdout) == text->len;
    ok = fflush(stdout) == 0 && ok;
    strbuf_deinit(text);
    return ok ? CMD_EXIT_OK : CMD_EXIT_FAILED;
}

bool cmd_options(enum option_command command, int argc, char **argv, struct options *o, int *code)
{
    struct err e = {0};
    struct strbuf text;
    *code = CMD_EXIT_OK;
    if (options_load(command, argc, argv, o, &e) != STATUS_OK) {
        *code = cmd_fail(command_name(command), &e);
        return false;
    }
    strbuf_init(&text, OPTIONS_TEXT_BYTES);
    if (o->help)
        options_help(command, &text);
    else if (o->print_config)
        options_print(command, o, &text);
    else if (o->print_limits)
        options_print_limits(&text);
    else
        return true;
    *code = cmd_print(&text);
    return false;
}
