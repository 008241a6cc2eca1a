#include "tests/kernels/lora_ref.h"

#include <stdlib.h>
#include <string.h>

#include "tests/kernels/kernel_test.h"

/* Where a code lies: byte of its word, its register of the two or four there, its half. */
struct spot {
    size_t byte;
    int reg, high;
};

static struct spot spot_a(enum lora_codes codes, int groups, int r, int c)
{
    int in = c % TILE_K, e = in % 8, step = in / 32 * 2 + e / 4;
    int lane = r % 8 * 4 + in % 32 / 8, reg = r % 16 / 8 + e % 4 / 2 * 2;
    size_t group = (size_t)(r / 16) * (size_t)groups + (size_t)(c / TILE_K);
    if (codes == LORA_INT8)
        return (struct spot){group * 2048 +
                                 (size_t)(step / 2 * 512 + lane * 16 + step % 2 * 8 + reg / 2 * 4),
                             reg % 2, e % 2};
    return (struct spot){group * 1088 + (size_t)(step / 4 * 512 + lane * 16 + step % 4 * 4), reg,
                         e % 2};
}

/* Bytes in front of the fragments of a tile, and before its scales. */
static size_t tile_begin(enum lora_codes codes, int count, bool pair, int tile, bool scales)
{
    size_t share = pair ? 8 : 4, block = (size_t)tile / share, in = (size_t)tile % share;
    size_t ranks = (size_t)count;
    if (codes == LORA_INT8)
        return (size_t)tile * ranks * 256;
    size_t head = ranks * (pair ? 64 : 32), whole = head + share * ranks * 128;
    return block * whole + (scales ? 0 : head + in * ranks * 128);
}

static struct spot spot_b(enum lora_codes codes, int count, bool pair, int tile, int row, int rank)
{
    int i = rank / 16, in = rank % 16, lane = row % 8 * 4 + in % 8 / 2, reg = row / 8 + in / 8 * 2;
    int at;
    if (codes == LORA_INT8) {
        bool two = i / 2 * 2 + 1 < count;
        at = i / 2 * 512 + (two ? lane * 16 + i % 2 * 8 : lane * 8) + reg / 2 * 4;
        reg %= 2;
    } else {
        int first = i / 4 * 4, left = count - first;
        at = first * 128;
        if (left >= 4)
            at += lane * 16 + i % 4 * 4;
        else if (left >= 2 && i - first < 2)
            at += lane * 8 + i % 4 * 4;
        else
            at += (left == 3 ? 256 : 0) + lane * 4;
    }
    return (struct spot){tile_begin(codes, count, pair, tile, false) + (size_t)at, reg, in % 2};
}

static size_t scale_a(int groups, int r, int c)
{
    size_t group = (size_t)(r / 16) * (size_t)groups + (size_t)(c / TILE_K);
    return group * 1088 + 1024 + (size_t)(r % 8 * 8 + c % TILE_K / 64 * 4 + r % 16 / 8 * 2);
}

static size_t scale_b(int count, bool pair, int tile, int row, int rank)
{
    int in = rank % 16, t = in % 8 / 2, k = in / 8 * 2 + in % 2;
    size_t at = (size_t)(rank / 16 * (pair ? 64 : 32) + t * 8 + k * 2);
    return tile_begin(LORA_INT4, count, pair, tile, true) + at + (pair && row >= 8 ? 32 : 0);
}

static void put(enum lora_codes codes, uint8_t *image, struct spot s, int code)
{
    uint32_t w;
    memcpy(&w, image + s.byte, sizeof w);
    if (codes == LORA_INT8) {
        int size = 16 * s.high + 8 * s.reg, sign = s.reg ? (s.high ? 7 : 23) : 16 * s.high + 15;
        w = (w & ~(0x7fu << size)) | (uint32_t)abs(code) << size;
        w = (w & ~(1u << sign)) | (uint32_t)(code < 0) << sign;
    } else {
        int at = 4 * (s.reg + 4 * s.high);
        w = (w & ~(15u << at)) | (uint32_t)(code + 8) << at;
    }
    memcpy(image + s.byte, &w, sizeof w);
}

static int get(enum lora_codes codes, const uint8_t *image, struct spot s)
{
    uint32_t w;
    memcpy(&w, image + s.byte, sizeof w);
    if (codes == LORA_INT4)
        return (int)(w >> (4 * (s.reg + 4 * s.high)) & 15) - 8;
    int size = (int)(w >> (16 * s.high + 8 * s.reg) & 127);
    int sign = s.reg ? (s.high ? 7 : 23) : 16 * s.high + 15;
    return w >> sign & 1 ? -size : size;
}

static void put_scale(uint8_t *image, size_t at, float v)
{
    uint16_t h = kernel_test_bf16(v);
    memcpy(image + at, &h, sizeof h);
}

static float get_scale(const uint8_t *image, size_t at)
{
    uint16_t h;
    memcpy(&h, image + at, sizeof h);
    return kernel_test_float(h);
}

/* ---- values ---- */

static void *zeros(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    assert_non_null(p);
    return p;
}

static float *random_scales(size_t count, float size, int most, bool bf16, uint64_t *seed)
{
    float *v = zeros(count, sizeof *v);
    for (size_t i = 0; i < count; i++) {
        v[i] = kernel_test_uniform(seed, 0.3f, 1.0f) * size / (float)most;
        if (bf16)
            v[i] = kernel_test_float(kernel_test_bf16(v[i]));
    }
    return v;
}

static int8_t *random_codes(size_t count, int most, uint64_t *seed)
{
    int8_t *v = zeros(count, 1);
    for (size_t i = 0; i < count; i++)
        v[i] = (int8_t)((int)kernel_test_below(seed, (uint32_t)(2 * most + 1)) - most);
    return v;
}

void lora_ref_init(struct lora_ref *l, enum lora_codes codes, int rank, int k, int rows,
                   float size_a, float size_b, uint64_t *seed, float *a, float *b)
{
    size_t ranks = (size_t)rank, ins = (size_t)k, outs = (size_t)rows;
    size_t in_groups = (ins + 63) / 64, out_groups = (outs + 63) / 64;
    bool four = codes == LORA_INT4;
    int most = four ? 7 : 127;
    *l = (struct lora_ref){.codes = codes, .rank = rank, .k = k, .rows = rows};
    l->a = random_codes(ranks * ins, most, seed);
    l->b = random_codes(ranks * outs, most, seed);
    l->a_scale = random_scales(four ? ranks * in_groups : ranks,
                               four ? size_a : size_a * size_b / (float)most, most, four, seed);
    l->b_scale = random_scales(ranks * out_groups, size_b, most, true, seed);
    for (size_t i = 0; i < ranks * ins; i++)
        a[i] = (float)l->a[i] * l->a_scale[four ? i / ins * in_groups + i % ins / 64 : i / ins];
    for (size_t i = 0; i < ranks * outs; i++)
        b[i] = (float)l->b[i] * (four ? l->b_scale[i / ranks / 64 * ranks + i % ranks] : 1.0f);
}

void lora_ref_free(struct lora_ref *l)
{
    free(l->a);
    free(l->b);
    free(l->a_scale);
    free(l->b_scale);
}

/* ---- images ---- */

void lora_ref_put_a(const struct lora_ref *l, int groups, int tile, uint8_t *image)
{
    int in_groups = (l->k + 63) / 64;
    for (int r = 0; r < (l->rank + 15) / 16 * 16; r++) {
        for (int c = 0; c < groups * TILE_K; c++) {
            bool in = r < l->rank && c < l->k;
            put(l->codes, image, spot_a(l->codes, groups, tile * 16 + r, c),
                in ? l->a[r * l->k + c] : 0);
            if (l->codes == LORA_INT4)
                put_scale(image, scale_a(groups, tile * 16 + r, c),
                          r < l->rank && c / 64 < in_groups ? l->a_scale[r * in_groups + c / 64]
                                                            : 0);
        }
    }
}

void lora_ref_put_b(const struct lora_ref *l, int tiles, int count, int half, uint8_t *image)
{
    bool pair = half > 0;
    int across = pair ? 8 : 16;
    for (int n = 0; n < tiles * across; n++) {
        int tile = n / across, row = n % across + (half == 2 ? 8 : 0);
        for (int r = 0; r < count * 16; r++) {
            bool in = n < l->rows && r < l->rank;
            put(l->codes, image, spot_b(l->codes, count, pair, tile, row, r),
                in ? l->b[n * l->rank + r] : 0);
            if (l->codes == LORA_INT4 && n % 64 == 0)
                put_scale(image, scale_b(count, pair, tile, row, r),
                          in ? l->b_scale[n / 64 * l->rank + r] : 0);
        }
    }
}

size_t lora_ref_b_bytes(enum lora_codes codes, int tiles, int count, bool pair)
{
    if (codes == LORA_INT8 || tiles == 0)
        return (size_t)tiles * (size_t)count * 256;
    return tile_begin(codes, count, pair, tiles - 1, false) + (size_t)count * 128;
}

int lora_ref_a_code(enum lora_codes codes, const uint8_t *a, int groups, int r, int c)
{
    return get(codes, a, spot_a(codes, groups, r, c));
}

float lora_ref_a_scale(const uint8_t *a, int groups, int r, int c)
{
    return get_scale(a, scale_a(groups, r, c));
}

int lora_ref_b_code(enum lora_codes codes, const uint8_t *b, int count, bool pair, int tile,
                    int row, int rank)
{
    return get(codes, b, spot_b(codes, count, pair, tile, row, rank));
}

float lora_ref_b_scale(const uint8_t *b, int count, bool pair, int tile, int row, int rank)
{
    return get_scale(b, scale_b(count, pair, tile, row, rank));
}
