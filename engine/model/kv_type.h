/* kv_type: how keys and values are kept, and how a head of them is rounded for that. Pure, any
 * thread.
 *
 * KV_BF16 keeps what attention reads anyway. KV_INT8 keeps one signed byte a value and one bf16
 * scale for each head of each token, of keys and of values: value = byte * scale. So what a token
 * leaves behind depends on that token alone, and multiplying back is exact (7 bits times 8).
 */
#ifndef CHORUS_MODEL_KV_TYPE_H
#define CHORUS_MODEL_KV_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum kv_type { KV_BF16, KV_INT8 };

/* Scales never come below this: the smallest whose inverse, and whose products, are normal. */
#define KV_SCALE_LEAST 0x1p-100f
#define KV_INT8_MOST   127

/* "bf16" (NULL too) or "int8"; false for any other. */
bool kv_type_find(const char *name, enum kv_type *out);
const char *kv_type_name(enum kv_type t);

/* The scale of a head whose largest absolute value is `most`: most / 127, rounded up to bf16. */
float kv_int8_scale(float most);
/* One head [d] as KV_INT8 gives it back: nearest byte (ties to even) times scale. */
void kv_int8_round(float *head, size_t d);

#endif
