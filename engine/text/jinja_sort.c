#include "engine/text/jinja_sort.h"

#include <string.h>

#include "engine/text/jinja_ops.h"

/* Merges the sorted runs [lo, mid) and [mid, hi) of from into to. */
static bool merge(struct jinja_run *r, const struct jinja_value *keys, bool reverse,
                  const size_t *from, size_t *to, size_t lo, size_t mid, size_t hi)
{
    size_t a = lo;
    size_t b = mid;
    for (size_t k = lo; k < hi; k++) {
        bool right = a == mid;
        if (a < mid && b < hi) {
            /* the right one goes first only when it is strictly before */
            struct jinja_value x = keys[from[b]];
            struct jinja_value y = keys[from[a]];
            if (!jinja_charge(r, 1) || !(reverse ? jinja_order(r, JINJA_LT, y, x, &right)
                                                 : jinja_order(r, JINJA_LT, x, y, &right)))
                return false;
        }
        to[k] = right ? from[b++] : from[a++];
    }
    return true;
}

bool jinja_sort_order(struct jinja_run *r, const struct jinja_value *keys, size_t count,
                      bool reverse, size_t *order)
{
    size_t *spare = jinja_alloc(r, count, sizeof *spare);
    if (!spare)
        return false;
    size_t *from = order;
    size_t *to = spare;
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t lo = 0; lo < count; lo += 2 * width) {
            size_t mid = lo + width < count ? lo + width : count;
            size_t hi = mid + width < count ? mid + width : count;
            if (!merge(r, keys, reverse, from, to, lo, mid, hi))
                return false;
        }
        size_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != order && count)
        memcpy(order, from, count * sizeof *order);
    return true;
}
