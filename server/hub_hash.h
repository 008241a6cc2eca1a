/* hub_hash: what a hub's blob is named after: the SHA-256 of a large file (64 digits), or the SHA-1
 * that git gives a small one (40 digits: its length stands in front of its bytes). Pure; one owner.
 *
 * The name comes from the hub and so does the file; a match says that the bytes are those that the
 * hub listed, not that somebody is to be trusted.
 */
#ifndef CHORUS_SERVER_HUB_HASH_H
#define CHORUS_SERVER_HUB_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/sha256.h"

struct hub_hash {
    bool git;
    struct sha256 sha256;
    uint32_t h[5]; /* SHA-1 */
    uint64_t total;
    uint8_t block[64];
};

/* For a blob named `name` (hub_hash_ok) of so many bytes. */
void hub_hash_init(struct hub_hash *s, const char *name, uint64_t bytes);
void hub_hash_update(struct hub_hash *s, const void *data, size_t n);
/* Lower-case hexadecimal digits: 40 or 64. */
void hub_hash_final(struct hub_hash *s, char out[65]);

#endif
