/* main: picks the command. Nothing else ends the process. */
#include <stdio.h>
#include <string.h>

#include "config/commands.h"
#include "server/cmd.h"
#include "server/version.h"

#define X(id, name, what, args, completes, more) cmd_##name,
static int (*const commands[COMMAND_COUNT])(int argc, char **argv) = {COMMAND_LIST(X)};
#undef X

static void usage(FILE *to)
{
    fputs("usage: chorus COMMAND [options]\n\n", to);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-10s  %s\n", command_texts[i].name, command_texts[i].what);
    fputs("\nchorus COMMAND --help lists the options of a command, chorus --version the version.\n",
          to);
}

/* What was said must have arrived; a server lives on without anybody who listens to its stdout. */
static int finish(int command, int code)
{
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    if (!lost || code != CMD_EXIT_OK || command == COMMAND_SERVE)
        return code;
    fprintf(stderr, "chorus %s: cannot write to standard output\n", command_texts[command].name);
    return CMD_EXIT_FAILED;
}

static int run(int argc, char **argv)
{
    const char *name = argv[0];
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(command_texts[i].name, name) == 0)
            return finish(i, commands[i](argc, argv));
    }
    const char *near = command_nearest(name);
    if (near)
        fprintf(stderr, "chorus: unknown command \"%.64s\"; is %s meant?\n", name, near);
    else
        fprintf(stderr, "chorus: unknown command \"%.64s\"; chorus --help lists them\n", name);
    return CMD_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return CMD_EXIT_USAGE;
    }
    const char *name = argv[1];
    bool help = strcmp(name, "help") == 0;
    if (help && argc == 3) {
        char flag[] = "--help";
        char *asks[] = {argv[2], flag, NULL};
        return run(2, asks);
    }
    if (help || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        usage(stdout);
        return CMD_EXIT_OK;
    }
    if (strcmp(name, "--version") == 0) {
        puts("chorus " CHORUS_VERSION);
        return CMD_EXIT_OK;
    }
    return run(argc - 1, argv + 1);
}
