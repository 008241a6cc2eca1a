#include "engine/base/vec.h"

#include <stdint.h>

#include "engine/base/mem.h"

bool vec_reserve(void **data, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return true;
    size_t next = *cap > SIZE_MAX / 2 ? need : *cap * 2;
    if (next < 8)
        next = 8;
    if (next < need)
        next = need;
    void *p = mem_realloc(*data, next, size);
    if (!p)
        return false;
    *data = p;
    *cap = next;
    return true;
}
