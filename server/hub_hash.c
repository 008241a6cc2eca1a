#include "server/hub_hash.h"

#include <stdio.h>
#include <string.h>

static uint32_t rotl(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

/* FIPS 180-4, 6.1.2 */
static void compress(uint32_t h[5], const uint8_t *p)
{
    static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t w[80];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? (b & c) | (~b & d)
                     : i < 40 ? b ^ c ^ d
                     : i < 60 ? (b & c) | (b & d) | (c & d)
                              : b ^ c ^ d;
        uint32_t t = rotl(a, 5) + f + e + k[i / 20] + w[i];
        e = d;
        d = c;
        c = rotl(b, 30);
        b = a;
        a = t;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

static void sha1_update(struct hub_hash *s, const uint8_t *p, size_t n)
{
    size_t held = s->total % 64;
    s->total += n;
    if (held > 0) {
        size_t k = n < 64 - held ? n : 64 - held;
        memcpy(s->block + held, p, k);
        p += k;
        n -= k;
        if (held + k < 64)
            return;
        compress(s->h, s->block);
    }
    for (; n >= 64; p += 64, n -= 64)
        compress(s->h, p);
    if (n > 0)
        memcpy(s->block, p, n);
}

void hub_hash_init(struct hub_hash *s, const char *name, uint64_t bytes)
{
    static const uint32_t start[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    *s = (struct hub_hash){.git = strlen(name) == 40};
    sha256_init(&s->sha256);
    memcpy(s->h, start, sizeof start);
    if (!s->git)
        return;
    char head[32];
    int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)bytes);
    sha1_update(s, (const uint8_t *)head, (size_t)n + 1);
}

void hub_hash_update(struct hub_hash *s, const void *data, size_t n)
{
    if (s->git)
        sha1_update(s, data, n);
    else
        sha256_update(&s->sha256, data, n);
}

void hub_hash_final(struct hub_hash *s, char out[65])
{
    if (!s->git) {
        uint8_t digest[SHA256_BYTES];
        sha256_final(&s->sha256, digest);
        sha256_hex(digest, out);
        return;
    }
    static const uint8_t pad[64] = {0x80};
    uint64_t bits = s->total * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha1_update(s, pad, 1 + (119 - s->total % 64) % 64);
    sha1_update(s, length, sizeof length);
    for (int i = 0; i < 5; i++)
        snprintf(out + 8 * i, 9, "%08x", (unsigned)s->h[i]);
}
