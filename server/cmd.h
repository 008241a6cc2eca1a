/* cmd: the commands of the one binary. Each takes its own argv (argv[0] is the command's name),
 * prints to stdout and one line to stderr when it fails, and returns an exit code of the table
 * below. Main thread. */
#ifndef CHORUS_SERVER_CMD_H
#define CHORUS_SERVER_CMD_H

#include "engine/base/status.h"

/* Exit codes, documented in the README. */
enum cmd_exit {
    CMD_EXIT_OK = 0,
    CMD_EXIT_FAILED = 1,      /* the work itself failed: a template raised, a bench had errors */
    CMD_EXIT_USAGE = 2,       /* unknown command, option or value */
    CMD_EXIT_BAD_FILE = 3,    /* a model, adapter, tokenizer or settings file was refused */
    CMD_EXIT_NO_MEMORY = 4,   /* memory or a limit does not suffice */
    CMD_EXIT_UNAVAILABLE = 5, /* address in use, server not reachable, backend not in this build */
    CMD_EXIT_DEVICE_LOST = 6  /* the card failed: restart */
};

int cmd_serve(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_bench(int argc, char **argv);

/* Prints "chorus COMMAND: message" to stderr and returns the exit code that fits e->code. */
int cmd_fail(const char *command, const struct err *e);

#endif
