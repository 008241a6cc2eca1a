#include "engine/model/kv_type.h"

#include <math.h>
#include <string.h>

bool kv_type_find(const char *name, enum kv_type *out)
{
    bool int8 = name && strcmp(name, "int8") == 0;
    if (name && !int8 && strcmp(name, "bf16") != 0)
        return false;
    *out = int8 ? KV_INT8 : KV_BF16;
    return true;
}

const char *kv_type_name(enum kv_type t)
{
    return t == KV_INT8 ? "int8" : "bf16";
}

float kv_int8_scale(float most)
{
    float scale = fmaxf(most * (1.0f / KV_INT8_MOST), KV_SCALE_LEAST);
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    bits = (bits + 0xffffu) & 0xffff0000u;
    memcpy(&scale, &bits, sizeof bits);
    return scale;
}

void kv_int8_round(float *head, size_t d)
{
    float most = 0.0f;
    for (size_t i = 0; i < d; i++)
        most = fmaxf(most, fabsf(head[i]));
    float scale = kv_int8_scale(most), inverse = 1.0f / scale;
    for (size_t i = 0; i < d; i++)
        head[i] = rintf(head[i] * inverse) * scale;
}
