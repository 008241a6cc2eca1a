/* checked: size arithmetic that cannot wrap. Each returns false and leaves *out alone on overflow.
 */
#ifndef CHORUS_BASE_CHECKED_H
#define CHORUS_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool checked_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool checked_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

/* a * b + c */
static inline bool checked_mul_add(size_t a, size_t b, size_t c, size_t *out)
{
    size_t r;
    return checked_mul(a, b, &r) && checked_add(r, c, out);
}

#endif
