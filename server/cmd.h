/* cmd: the commands of the one binary. Each takes its own argv (argv[0] is the command's name),
 * prints to stdout and one line to stderr when it fails, and returns an exit code of the table
 * below. Main thread. */
#ifndef CHORUS_SERVER_CMD_H
#define CHORUS_SERVER_CMD_H

#include <stdbool.h>

#include "config/options.h"
#include "engine/base/status.h"
#include "engine/base/strbuf.h"

/* Exit codes, documented in the README. */
enum cmd_exit {
    CMD_EXIT_OK = 0,
    CMD_EXIT_FAILED = 1,       /* the work itself failed: a template raised, a bench had errors */
    CMD_EXIT_USAGE = 2,        /* unknown command, option or value */
    CMD_EXIT_BAD_FILE = 3,     /* a model, adapter, tokenizer or settings file was refused */
    CMD_EXIT_NO_MEMORY = 4,    /* memory or a limit does not suffice */
    CMD_EXIT_UNAVAILABLE = 5,  /* address in use, server not reachable, backend not in this build */
    CMD_EXIT_DEVICE_LOST = 6,  /* the card failed: restart */
    CMD_EXIT_INTERRUPTED = 130 /* by Ctrl-C, as shells have it */
};

#define X(id, name, what, args, completes, more) int cmd_##name(int argc, char **argv);
COMMAND_LIST(X)
#undef X

/* The settings of a command, and what all commands do with them: wrong usage, --help,
 * --print-config, --print-limits. False: that was all, *code is the exit code. The caller ends *o
 * in every case. */
bool cmd_options(enum option_command command, int argc, char **argv, struct options *o, int *code);
/* Appends all of standard input; at a terminal a line on stderr says that `what` is waited for.
 * STATUS_LIMIT for more than in->max bytes, STATUS_IO. */
WARN_UNUSED enum status cmd_read_stdin(const char *what, struct strbuf *in, struct err *e);
/* Writes the text to stdout and ends it; the exit code says whether that went well. */
int cmd_print(struct strbuf *text);
/* Prints "chorus COMMAND: message" to stderr and returns the exit code that fits e->code. */
int cmd_fail(const char *command, const struct err *e);

#endif
