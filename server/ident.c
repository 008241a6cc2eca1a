#include "server/ident.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "engine/base/status.h"

#define RANDOM_CHARS 24

static void random_bytes(void *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = getrandom((char *)p + done, n - done, 0);
        CHECK(r > 0); /* cannot fail for small sizes once the kernel has booted */
        done += (size_t)r;
    }
}

void ident_make(const char *prefix, char out[IDENT_BYTES])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char raw[RANDOM_CHARS];
    random_bytes(raw, sizeof raw);
    int n = snprintf(out, IDENT_BYTES, "%.*s", IDENT_BYTES - RANDOM_CHARS - 1, prefix);
    for (int i = 0; i < RANDOM_CHARS; i++) {
        /* 62 of 64: the two signs fold into letters, the small bias does not matter for a name. */
        unsigned k = raw[i] & 63u;
        out[n + i] = alphabet[k < 62 ? k : k - 62];
    }
    out[n + RANDOM_CHARS] = '\0';
}

uint64_t ident_seed(void)
{
    uint64_t v;
    random_bytes(&v, sizeof v);
    return v;
}

uint64_t ident_derive(uint64_t seed, int i)
{
    if (i == 0)
        return seed;
    /* SplitMix64 (Steele, Lea, Flood 2014) over a stream numbered by i. */
    uint64_t z = seed + 0x9E3779B97F4A7C15u * (uint64_t)i;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

bool ident_is_request_id(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");
    return n >= 1 && n <= 128 && s[n] == '\0';
}
