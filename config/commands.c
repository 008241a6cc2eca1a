#include "config/commands.h"

#include <stdint.h>
#include <string.h>

#include "config/nearest.h"

#define X(id, name, what, args, completes, more) {#name, what, args, completes, more},
const struct command_text command_texts[COMMAND_COUNT] = {COMMAND_LIST(X)};
#undef X

const char *command_name(unsigned mask)
{
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (mask >> i & 1)
            return command_texts[i].name;
    }
    return "";
}

const char *command_nearest(const char *name)
{
    const char *found = NULL;
    size_t best = SIZE_MAX;
    for (int i = 0; i < COMMAND_COUNT; i++) {
        size_t d = nearest_distance(name, strlen(name), command_texts[i].name);
        if (d < best) {
            best = d;
            found = command_texts[i].name;
        }
    }
    return found;
}
