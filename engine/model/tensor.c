#include "engine/model/tensor.h"

#include <string.h>

#include "engine/base/status.h"

#define CHUNK 1024 /* values widened at a time where whole tensors are walked */

bool dtype_is_quantised(enum dtype d)
{
    return d == DTYPE_Q8 || d == DTYPE_Q4;
}

size_t dtype_bytes(enum dtype d)
{
    CHECK(!dtype_is_quantised(d));
    return d == DTYPE_F32 ? 4 : 2;
}

const char *dtype_name(enum dtype d)
{
    switch (d) {
    case DTYPE_F32:
        return "f32";
    case DTYPE_F16:
        return "f16";
    case DTYPE_BF16:
        return "bf16";
    case DTYPE_Q8:
        return "q8";
    case DTYPE_Q4:
        return "q4";
    }
    return "?";
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* Branch-free so that it vectorises, and free of float32 subnormals so that it is exact on threads
 * that flush them: a subnormal half m * 2^-24 is (0.5 + m * 2^-24) - 0.5. */
static float f32_of_f16(uint16_t h)
{
    uint32_t magnitude = h & 0x7fffu;
    uint32_t shifted = magnitude << 13;
    uint32_t normal = shifted + (112u << 23);
    uint32_t special = shifted | 0x7f800000u;
    uint32_t subnormal = bits_of(float_of(0x3f000000u + magnitude) - 0.5f);
    uint32_t u = magnitude < 0x0400u ? subnormal : normal;
    u = magnitude >= 0x7c00u ? special : u;
    return float_of(u | (uint32_t)(h & 0x8000u) << 16);
}

/* Round to nearest, ties to even; NaN stays NaN. */
static float round_to_bf16(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return f;
    return float_of((u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u);
}

static float round_to_f16(float f)
{
    uint32_t sign = bits_of(f) & 0x80000000u;
    float a = float_of(bits_of(f) & 0x7fffffffu);
    if (!(a < 65520.0f)) /* halfway between the largest half and the next power of two */
        return a != a ? f : float_of(sign | 0x7f800000u);
    if (a < 0x1p-14f) { /* spacing 2^-24 */
        a = (a + 0.5f) - 0.5f;
    } else {
        uint32_t u = bits_of(a);
        a = float_of((u + 0xfffu + (u >> 13 & 1u)) & ~0x1fffu);
    }
    return float_of(bits_of(a) | sign);
}

static float round_to(float f, enum dtype d)
{
    return d == DTYPE_F32 ? f : d == DTYPE_F16 ? round_to_f16(f) : round_to_bf16(f);
}

/* Whole blocks of a constant size: compilers turn their loops into vector code. */
#define BLOCK 16

static void widen_f16(const unsigned char *p, size_t count, float *out)
{
    uint16_t h[BLOCK];
    for (; count >= BLOCK; count -= BLOCK, p += sizeof h, out += BLOCK) {
        memcpy(h, p, sizeof h);
        for (int i = 0; i < BLOCK; i++)
            out[i] = f32_of_f16(h[i]);
    }
    memcpy(h, p, count * sizeof h[0]);
    for (size_t i = 0; i < count; i++)
        out[i] = f32_of_f16(h[i]);
}

static void widen_bf16(const unsigned char *p, size_t count, float *out)
{
    uint16_t h[BLOCK];
    for (; count >= BLOCK; count -= BLOCK, p += sizeof h, out += BLOCK) {
        memcpy(h, p, sizeof h);
        for (int i = 0; i < BLOCK; i++)
            out[i] = float_of((uint32_t)h[i] << 16);
    }
    memcpy(h, p, count * sizeof h[0]);
    for (size_t i = 0; i < count; i++)
        out[i] = float_of((uint32_t)h[i] << 16);
}

static int code_at(const struct tensor_codes *c, enum dtype d, size_t i)
{
    if (d == DTYPE_Q8)
        return ((const int8_t *)c->codes)[i];
    uint8_t pair = ((const uint8_t *)c->codes)[i / 2];
    return (i % 2 ? pair >> 4 : pair & 15) - 8;
}

static void widen_codes(const struct tensor *t, size_t at, size_t count, float *out)
{
    const struct tensor_codes *c = t->data;
    size_t cols = (size_t)t->cols, group = (size_t)c->group;
    size_t row = at / cols, col = at % cols, groups = (cols + group - 1) / group;
    for (size_t i = 0; i < count; i++) {
        float scale =
            c->down ? c->scales[row / group * cols + col] : c->scales[row * groups + col / group];
        out[i] = (float)code_at(c, t->dtype, at + i) * scale;
        if (++col == cols) {
            col = 0;
            row++;
        }
    }
}

void tensor_read_f32(const struct tensor *t, size_t at, size_t count, float *out)
{
    CHECK(at <= tensor_count(t) && count <= tensor_count(t) - at);
    if (dtype_is_quantised(t->dtype)) {
        widen_codes(t, at, count, out);
        return;
    }
    const unsigned char *p = (const unsigned char *)t->data + at * dtype_bytes(t->dtype);
    switch (t->dtype) {
    case DTYPE_F32:
        memcpy(out, p, count * sizeof *out);
        break;
    case DTYPE_F16:
        widen_f16(p, count, out);
        break;
    case DTYPE_BF16:
        widen_bf16(p, count, out);
        break;
    case DTYPE_Q8:
    case DTYPE_Q4:
        break;
    }
}

size_t tensor_count(const struct tensor *t)
{
    return (size_t)t->rows * (size_t)t->cols;
}

size_t tensor_scale_count(int64_t rows, int64_t cols, int64_t group, bool down)
{
    int64_t along = down ? rows : cols, across = down ? cols : rows;
    return (size_t)((along + group - 1) / group) * (size_t)across;
}

size_t tensor_bytes(const struct tensor *t)
{
    if (dtype_is_quantised(t->dtype)) {
        const struct tensor_codes *c = t->data;
        size_t codes = t->dtype == DTYPE_Q8 ? tensor_count(t) : (tensor_count(t) + 1) / 2;
        return codes + tensor_scale_count(t->rows, t->cols, c->group, c->down) * sizeof(float);
    }
    return tensor_count(t) * dtype_bytes(t->dtype);
}

static size_t chunk_at(const struct tensor *t, size_t at, float *out)
{
    size_t left = tensor_count(t) - at;
    size_t n = left < CHUNK ? left : CHUNK;
    tensor_read_f32(t, at, n, out);
    return n;
}

/* Of blocks of stored values, whether one has all bits of the exponent. */
#define WORDS 64
static bool is_finite16(const unsigned char *p, size_t count, uint16_t exponent)
{
    uint16_t h[WORDS], bad = 0;
    for (; count >= WORDS; count -= WORDS, p += sizeof h) {
        memcpy(h, p, sizeof h);
        for (int i = 0; i < WORDS; i++)
            bad |= (h[i] & exponent) == exponent;
        if (bad)
            return false;
    }
    memcpy(h, p, count * sizeof h[0]);
    for (size_t i = 0; i < count; i++)
        bad |= (h[i] & exponent) == exponent;
    return !bad;
}

static bool is_finite32(const unsigned char *p, size_t count)
{
    uint32_t u[WORDS], bad = 0;
    const uint32_t exponent = 0x7f800000u;
    for (; count >= WORDS; count -= WORDS, p += sizeof u) {
        memcpy(u, p, sizeof u);
        for (int i = 0; i < WORDS; i++)
            bad |= (u[i] & exponent) == exponent;
        if (bad)
            return false;
    }
    memcpy(u, p, count * sizeof u[0]);
    for (size_t i = 0; i < count; i++)
        bad |= (u[i] & exponent) == exponent;
    return !bad;
}

/* Adapters are looked through whole when they load, and nearly always all is well. */
static bool is_finite_as_stored(const struct tensor *t)
{
    switch (t->dtype) {
    case DTYPE_F32:
        return is_finite32(t->data, tensor_count(t));
    case DTYPE_F16:
        return is_finite16(t->data, tensor_count(t), 0x7c00);
    case DTYPE_BF16:
        return is_finite16(t->data, tensor_count(t), 0x7f80);
    case DTYPE_Q8:
    case DTYPE_Q4:
        break;
    }
    return false; /* codes times scales: unknown */
}

bool tensor_is_finite(const struct tensor *t, size_t *at)
{
    float v[CHUNK];
    if (is_finite_as_stored(t))
        return true;
    for (size_t i = 0, n; i < tensor_count(t); i += n) {
        n = chunk_at(t, i, v);
        size_t k = 0;
        while (k < n && (bits_of(v[k]) & 0x7f800000u) != 0x7f800000u)
            k++;
        if (k == n)
            continue;
        *at = i + k;
        return false;
    }
    return true;
}

bool tensor_is_zero(const struct tensor *t)
{
    float v[CHUNK];
    for (size_t i = 0, n; i < tensor_count(t); i += n) {
        n = chunk_at(t, i, v);
        for (size_t k = 0; k < n; k++) {
            if (v[k] != 0.0f)
                return false;
        }
    }
    return true;
}

static bool is_rounding_of(const struct tensor *a, const struct tensor *b)
{
    float x[CHUNK];
    float y[CHUNK];
    for (size_t i = 0, n; i < tensor_count(a); i += n) {
        n = chunk_at(a, i, x);
        tensor_read_f32(b, i, n, y);
        for (size_t k = 0; k < n; k++) {
            if (x[k] != round_to(y[k], a->dtype))
                return false;
        }
    }
    return true;
}

bool tensor_equal(const struct tensor *a, const struct tensor *b)
{
    if (a->rows != b->rows || a->cols != b->cols)
        return false;
    if (a->dtype == b->dtype && !dtype_is_quantised(a->dtype) &&
        memcmp(a->data, b->data, tensor_bytes(a)) == 0)
        return true;
    return is_rounding_of(a, b) || is_rounding_of(b, a);
}
