#include "cuda/lora_pack.h"

#include <string.h>

static bool has_scales(const struct tensor *t, enum dtype d, bool down, int64_t group)
{
    const struct tensor_codes *c = t->data;
    return t->dtype == d && c->down == down && c->group == group;
}

enum lora_codes lora_pack_width(const struct lora_module *m)
{
    if (has_scales(&m->a, DTYPE_Q8, false, m->a.cols) &&
        has_scales(&m->b, DTYPE_Q8, true, m->b.rows))
        return LORA_INT8;
    if (has_scales(&m->a, DTYPE_Q4, false, LORA_GROUP) &&
        has_scales(&m->b, DTYPE_Q4, true, LORA_GROUP))
        return LORA_INT4;
    return LORA_BF16;
}

void lora_pack_read(const struct tensor *t, int row, int width, int8_t *out)
{
    const struct tensor_codes *c = t->data;
    const uint8_t *codes = c->codes;
    size_t count = (size_t)t->cols, at = (size_t)row * count;
    memset(out + count, 0, (size_t)width - count);
    if (t->dtype == DTYPE_Q8) {
        memcpy(out, codes + at, count);
        return;
    }
    for (size_t i = 0; i < count; i++, at++)
        out[i] = (int8_t)((codes[at / 2] >> at % 2 * 4 & 15) - 8);
}

/* A register's two codes, then those of the one behind it. */
static uint32_t word_int8(const int8_t *first, const int8_t *second)
{
    uint32_t word = 0;
    for (int i = 0; i < 2; i++) {
        int p = first[i], q = second[i];
        word |= (uint32_t)(p < 0 ? -p : p) << 16 * i | (uint32_t)(q < 0 ? -q : q) << (16 * i + 8);
        word |= (uint32_t)(p < 0) << (16 * i + 15) | (uint32_t)(q < 0) << (i ? 7 : 23);
    }
    return word;
}

/* A lane's four registers: rows g and g + 8 at `first`, then at `second`. */
static void put_int8(uint8_t *to, const int8_t *row, size_t stride, int first, int second)
{
    const int8_t *below = row + 8 * stride;
    uint32_t words[] = {word_int8(row + first, below + first),
                        word_int8(row + second, below + second)};
    memcpy(to, words, sizeof words);
}

static void put_int4(uint8_t *to, const int8_t *row, size_t stride, int first, int second)
{
    const int8_t *below = row + 8 * stride;
    const int8_t *reg[] = {row + first, below + first, row + second, below + second};
    uint32_t word = 0;
    for (int a = 0; a < 4; a++)
        word |= (uint32_t)(reg[a][0] + 8) << 4 * a | (uint32_t)(reg[a][1] + 8) << (4 * a + 16);
    memcpy(to, &word, sizeof word);
}

static void put_lane(enum lora_codes codes, uint8_t *to, const struct lora_pack_rows *rows,
                     int lane, int first, int second)
{
    const int8_t *row = rows->at + (size_t)(lane / 4) * rows->stride;
    if (codes == LORA_INT8)
        put_int8(to, row, rows->stride, first, second);
    else
        put_int4(to, row, rows->stride, first, second);
}

static uint16_t bf16_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* Scale of rank `rank` of A for columns [64 i, ...); 0 where there is none. */
static uint16_t scale_a(const struct tensor *t, int rank, int i)
{
    if (!t || rank >= t->rows || (int64_t)i * LORA_GROUP >= t->cols)
        return 0;
    const struct tensor_codes *c = t->data;
    int64_t groups = (t->cols + LORA_GROUP - 1) / LORA_GROUP;
    return bf16_of(c->scales[rank * groups + i]);
}

static uint16_t scale_b(const struct tensor *t, int group, int rank)
{
    if (!t || rank >= t->cols || (int64_t)group * LORA_GROUP >= t->rows)
        return 0;
    const struct tensor_codes *c = t->data;
    return bf16_of(c->scales[group * t->cols + rank]);
}

void lora_pack_a(enum lora_codes codes, const struct lora_pack_rows *rows, int groups,
                 const struct tensor *t, int rank, uint8_t *to)
{
    int together = 1 << codes, words = 16 >> codes; /* steps in 16 bytes, bytes of one */
    for (int g = 0; g < groups; g++, to += lora_group_bytes(codes)) {
        for (int step = 0; step < 8; step++) {
            for (int lane = 0; lane < 32; lane++) {
                int at = g * TILE_K + step / 2 * 32 + lane % 4 * 8 + step % 2 * 4;
                uint8_t *lot = to + step / together * 512 + lane * 16;
                put_lane(codes, lot + step % together * words, rows, lane, at, at + 2);
            }
        }
        for (int i = 0; codes == LORA_INT4 && i < 32; i++) {
            uint16_t scale = scale_a(t, rank + i / 4 + i % 2 * 8, g * 2 + i % 4 / 2);
            memcpy(to + 1024 + (size_t)i * sizeof scale, &scale, sizeof scale);
        }
    }
}

void lora_pack_b(enum lora_codes codes, const struct lora_pack_rows *rows, int rank_tiles,
                 uint8_t *to)
{
    for (int i = 0; i < rank_tiles; i++) {
        for (int lane = 0; lane < 32; lane++) {
            int at = i * 16 + lane % 4 * 2;
            put_lane(codes, to + lora_code_at(codes, rank_tiles, i, lane), rows, lane, at, at + 8);
        }
    }
}

void lora_pack_b_scales(const struct tensor *t, int group, int rank_tiles, int step, uint8_t *to)
{
    for (int i = 0; i < rank_tiles; i++, to += step) {
        for (int k = 0; k < 16; k++) {
            int rank = i * 16 + k / 4 * 2 + k % 2 + k % 4 / 2 * 8;
            uint16_t scale = scale_b(t, group, rank);
            memcpy(to + (size_t)k * sizeof scale, &scale, sizeof scale);
        }
    }
}
