#include "engine/text/byte_chars.h"

#include <stdbool.h>

#include "engine/base/utf8.h"

/* The bytes that do not stand for themselves: [0, 0x20], [0x7F, 0xA0], 0xAD. */
#define LOW_COUNT  0x21
#define MID_FIRST  0x7F
#define MID_LAST   0xA0
#define MID_COUNT  (MID_LAST - MID_FIRST + 1)
#define SOFT       0xAD
#define MOVED      0x100
#define MOVED_LAST (MOVED + LOW_COUNT + MID_COUNT)

uint32_t byte_chars_of(uint8_t b)
{
    if (b < LOW_COUNT)
        return MOVED + b;
    if (b >= MID_FIRST && b <= MID_LAST)
        return MOVED + LOW_COUNT + (b - MID_FIRST);
    return b == SOFT ? MOVED_LAST : b;
}

int byte_chars_byte(uint32_t cp)
{
    if (cp < MOVED)
        return byte_chars_of((uint8_t)cp) == cp ? (int)cp : -1;
    if (cp < MOVED + LOW_COUNT)
        return (int)(cp - MOVED);
    if (cp < MOVED_LAST)
        return (int)(cp - MOVED - LOW_COUNT + MID_FIRST);
    return cp == MOVED_LAST ? SOFT : -1;
}

size_t byte_chars_write(const char *bytes, size_t n, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        len += utf8_encode(byte_chars_of((uint8_t)bytes[i]), out + len);
    return len;
}
