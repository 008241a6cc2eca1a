#include "server/cmd.h"

#include <stdio.h>

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
