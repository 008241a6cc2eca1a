/* main: picks the command. Nothing else ends the process. */
#include <stdio.h>
#include <string.h>

#include "server/cmd.h"
#include "server/version.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"serve", cmd_serve, "answer OpenAI's API over HTTP"},
    {"inspect", cmd_inspect, "what a model or adapter holds, and what would be refused"},
    {"tokenize", cmd_tokenize, "text to token ids and back"},
    {"render", cmd_render, "a chat template over variables from stdin"},
    {"run", cmd_run, "chat in the terminal"},
    {"bench", cmd_bench, "measure a server under load"},
    {NULL, NULL, NULL},
};

static void usage(FILE *to)
{
    fputs("usage: chorus COMMAND [options]\n\n", to);
    for (const struct command *c = commands; c->name; c++)
        fprintf(to, "  %-10s %s\n", c->name, c->help);
    fputs("\nchorus COMMAND --help lists the options of a command.\n", to);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return CMD_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return CMD_EXIT_OK;
    }
    if (strcmp(name, "--version") == 0) {
        puts("chorus " CHORUS_VERSION);
        return CMD_EXIT_OK;
    }
    for (const struct command *c = commands; c->name; c++) {
        if (strcmp(c->name, name) == 0)
            return c->run(argc - 1, argv + 1);
    }
    fprintf(stderr, "chorus: unknown command \"%s\" (chorus --help lists them)\n", name);
    return CMD_EXIT_USAGE;
}
