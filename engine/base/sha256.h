/* sha256: FIPS 180-4. Adapter identities, prefix-cache keys, API keys. Pure; one context, one
 * thread. */
#ifndef CHORUS_BASE_SHA256_H
#define CHORUS_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256 {
    uint32_t h[8];
    uint64_t total;
    uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *data, size_t n);
void sha256_final(struct sha256 *s, uint8_t out[SHA256_BYTES]);
/* One call for a whole buffer. */
void sha256_of(const void *data, size_t n, uint8_t out[SHA256_BYTES]);
/* Lower-case hex, 64 characters and a terminator. */
void sha256_hex(const uint8_t digest[SHA256_BYTES], char out[65]);

#endif
