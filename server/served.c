#include "server/served.h"

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
