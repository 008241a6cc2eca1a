#include "server/served.h"

#include <string.h>

#include "engine/base/mem.h"

int served_list(struct engine *e, bool draining, struct engine_adapter_info **out)
{
    *out = NULL;
    int cap = engine_adapters(e, NULL, 0);
    if (cap == 0)
        return 0;
    struct engine_adapter_info *list = mem_calloc((size_t)cap, sizeof *list);
    if (!list)
        return -1;
    int count = engine_adapters(e, list, cap); /* one that came meanwhile waits for the next call */
    int kept = 0;
    for (int i = 0; i < count && i < cap; i++) {
        if (!list[i].draining || draining)
            list[kept++] = list[i];
    }
    *out = list;
    return kept;
}

enum status served_find(struct engine *e, const char *name, struct engine_adapter_info *out)
{
    struct engine_adapter_info *list;
    int count = served_list(e, false, &list);
    if (count < 0)
        return STATUS_NO_MEMORY;
    enum status st = STATUS_ADAPTER_NOT_FOUND;
    for (int i = 0; i < count && st != STATUS_OK; i++) {
        if (strcmp(list[i].name, name) != 0)
            continue;
        st = STATUS_OK;
        if (out)
            *out = list[i];
    }
    mem_free(list);
    return st;
}

int served_users(struct engine *e, const char *name, uint64_t generation)
{
    struct engine_adapter_info *list;
    int count = served_list(e, true, &list);
    int users = count < 0 ? -1 : 0;
    for (int i = 0; i < count; i++) {
        if (list[i].generation == generation && strcmp(list[i].name, name) == 0)
            users += list[i].users;
    }
    mem_free(list);
    return users;
}
