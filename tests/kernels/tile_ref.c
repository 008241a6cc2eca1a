#include "tests/kernels/tile_ref.h"

#include <string.h>

#include "engine/base/mem.h"
#include "tests/kernels/kernel_test.h"

size_t tile_ref_bytes(const struct dev_matrix *w)
{
    return (size_t)w->tiles * (size_t)w->groups * tile_bytes(w->format);
}

struct dev_matrix tile_ref_alloc(enum weight_format f, int n, int k)
{
    struct dev_matrix w = {
        .format = f, .n = n, .k = k, .tiles = PAD_N(n) / TILE_N, .groups = PAD_K(k) / TILE_K};
    void *zeros = mem_calloc(1, tile_ref_bytes(&w));
    assert_non_null(zeros);
    w.data = kernel_test_upload(zeros, tile_ref_bytes(&w));
    if (f == WEIGHT_INT8)
        w.row_scale = kernel_test_upload(zeros, (size_t)w.tiles * TILE_N * sizeof(float));
    mem_free(zeros);
    return w;
}

struct dev_matrix tile_ref_read(const struct dev_matrix *w)
{
    struct dev_matrix h = *w;
    size_t scales = (size_t)w->tiles * TILE_N;
    uint8_t *data = mem_alloc(1, tile_ref_bytes(w));
    float *row_scale = mem_calloc(scales, sizeof *row_scale);
    assert_true(data && row_scale);
    kernel_test_read(data, w->data, tile_ref_bytes(w));
    if (w->row_scale)
        kernel_test_read(row_scale, w->row_scale, scales * sizeof *row_scale);
    h.data = data;
    h.row_scale = row_scale;
    return h;
}

/* Word 2 (s % 2) + e / 4 of the lane, in the plane's half s / 2; nibble a + 4 (e % 2). */
static int nibble_at(const uint8_t *plane, int r, int c)
{
    int s = c / 32, t = c % 32 / 8, e = c % 8, a = r / 8 + 2 * (e % 4 / 2);
    int word = s / 2 * 128 + (r % 8 * 4 + t) * 4 + 2 * (s % 2) + e / 4;
    uint32_t v;
    memcpy(&v, plane + (size_t)word * sizeof v, sizeof v);
    return (int)(v >> 4 * (a + 4 * (e % 2)) & 15);
}

static float bf16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return kernel_test_float(v);
}

float tile_ref_at(const struct dev_matrix *w, int row, int column)
{
    size_t tile = (size_t)(row / TILE_N) * (size_t)w->groups + (size_t)(column / TILE_K);
    const uint8_t *at = w->data + tile * tile_bytes(w->format);
    int r = row % TILE_N, c = column % TILE_K;
    if (w->format == WEIGHT_BF16) {
        int s = c / 32, t = c % 32 / 8, e = c % 8, a = r / 8 + 2 * (e % 4 / 2);
        int half = (((2 * s + e / 4) * 32 + r % 8 * 4 + t) * 4 + a) * 2 + e % 2;
        return bf16_at(at + (size_t)half * 2);
    }
    if (w->format == WEIGHT_INT4)
        return (float)(nibble_at(at, r, c) - 8) * bf16_at(at + 1024 + (size_t)r * 2);
    int q = 16 * nibble_at(at + 1024, r, c) + nibble_at(at, r, c) - 128;
    /* Rows nobody wrote are -128 times a scale of 0. */
    return (float)q * w->row_scale[row];
}
