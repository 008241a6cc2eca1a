/* api_key: the keys that may ask. Read once at start; then constant, any thread. */
#ifndef CHORUS_SERVER_API_KEY_H
#define CHORUS_SERVER_API_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/sha256.h"
#include "engine/base/status.h"

struct api_keys {
    uint8_t (*digests)[SHA256_BYTES]; /* owned, [count] */
    size_t count;
};

/* One key a line; blank lines and those that begin with # are skipped, space around a key too. A
 * file without a key is refused: it would lock everybody out or nobody. */
WARN_UNUSED enum status api_key_load(const char *path, struct api_keys *out, struct err *e);
void api_key_free(struct api_keys *k);

/* The key that a request brings: of Authorization (Bearer), else, where there is none, of
 * x-api-key, as Anthropic's clients send it. Both are header values or NULL. NULL: it brings none.
 */
const char *api_key_of(const char *authorization, const char *x_api_key);
/* `key` may be NULL. Without keys everybody may. The time taken depends on the length of what was
 * sent and the number of keys only. */
bool api_key_allows(const struct api_keys *k, const char *key);

#endif
