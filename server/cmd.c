#include "server/cmd.h"

#include <stdio.h>
#include <unistd.h>

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

enum status cmd_read_stdin(const char *what, struct strbuf *in, struct err *e)
{
    char chunk[65536];
    size_t n;
    if (isatty(STDIN_FILENO))
        fprintf(stderr, "reading %s from the terminal, Ctrl-D ends it\n", what);
    do { /* a terminal's end of input is not asked for twice */
        n = fread(chunk, 1, sizeof chunk, stdin);
        strbuf_append(in, chunk, n);
    } while (n > 0 && !in->failed && !feof(stdin));
    if (in->failed)
        return err_set(e, STATUS_LIMIT, NULL, "more than %zu bytes on standard input", in->max);
    return ferror(stdin) ? err_set(e, STATUS_IO, NULL, "cannot read standard input") : STATUS_OK;
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
