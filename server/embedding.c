#include "server/embedding.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define BASE64_GROUP 3 /* bytes that make four characters */

bool embedding_finish(const struct api_embedding *form, float *v)
{
    double squares = 0;
    for (int i = 0; i < form->dimensions; i++) {
        if (!isfinite(v[i]))
            return false;
        squares += (double)v[i] * (double)v[i];
    }
    double length = sqrt(squares);
    for (int i = 0; i < form->dimensions && form->normalize && length > 0; i++)
        v[i] = (float)((double)v[i] / length);
    return true;
}

static void put_list(struct strbuf *b, const float *v, int count)
{
    strbuf_putc(b, '[');
    for (int i = 0; i < count && !b->failed; i++)
        strbuf_printf(b, i ? ",%.9g" : "%.9g", (double)v[i]);
    strbuf_putc(b, ']');
}

static uint8_t byte_of(const float *v, size_t at)
{
    uint32_t bits;
    memcpy(&bits, &v[at / sizeof bits], sizeof bits);
    return (uint8_t)(bits >> 8 * (at % sizeof bits));
}

static void put_base64(struct strbuf *b, const float *v, int count)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t bytes = (size_t)count * sizeof *v;
    char *to = strbuf_reserve(b, (bytes + BASE64_GROUP - 1) / BASE64_GROUP * 4 + 2);
    if (!to)
        return;
    char *begin = to;
    *to++ = '"';
    for (size_t at = 0; at < bytes; at += BASE64_GROUP) {
        size_t n = bytes - at < BASE64_GROUP ? bytes - at : BASE64_GROUP;
        uint32_t group = 0;
        for (size_t i = 0; i < BASE64_GROUP; i++)
            group = group << 8 | (i < n ? byte_of(v, at + i) : 0);
        for (size_t i = 0; i < 4; i++)
            *to++ = i <= n ? digits[group >> 6 * (3 - i) & 63] : '=';
    }
    *to++ = '"';
    *to = '\0'; /* there is always room for it */
    b->len += (size_t)(to - begin);
}

void embedding_put(struct strbuf *b, const float *v, int count, bool base64)
{
    if (base64)
        put_base64(b, v, count);
    else
        put_list(b, v, count);
}
