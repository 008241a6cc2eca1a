#include "engine/cpu/cpu_matrix.h"

#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/mem.h"

static size_t panel_bytes_of(enum dtype dtype, int k)
{
    size_t n = (size_t)k;
    if (dtype == DTYPE_BF16)
        return (n + 1) / 2 * CPU_PANEL * 4;
    return n * CPU_PANEL * dtype_bytes(dtype);
}

static int panels_of(int n)
{
    return n / CPU_PANEL + (n % CPU_PANEL != 0);
}

bool cpu_matrix_bytes(enum dtype dtype, int n, int k, size_t *out)
{
    return checked_mul((size_t)panels_of(n), panel_bytes_of(dtype, k), out);
}

enum status cpu_matrix_init(struct cpu_matrix *m, enum dtype dtype, int n, int k)
{
    CHECK(n >= 0 && k >= 1);
    *m = (struct cpu_matrix){.dtype = dtype,
                             .n = n,
                             .k = k,
                             .panels = panels_of(n),
                             .panel_bytes = panel_bytes_of(dtype, k)};
    size_t bytes;
    if (!cpu_matrix_bytes(dtype, n, k, &bytes))
        return STATUS_NO_MEMORY;
    m->data = mem_alloc_aligned(bytes);
    if (!m->data)
        return STATUS_NO_MEMORY;
    /* Only the last panel can hold outputs that no row fills, only the last pair a k. */
    size_t tail = (m->dtype == DTYPE_BF16 && k % 2) ? 0 : (size_t)(n / CPU_PANEL) * m->panel_bytes;
    memset(m->data + tail, 0, bytes - tail);
    return STATUS_OK;
}

void cpu_matrix_deinit(struct cpu_matrix *m)
{
    mem_free(m->data);
    *m = (struct cpu_matrix){0};
}

/* Byte offset of element (column, k) inside a panel. */
static size_t offset_of(enum dtype dtype, int column, int k)
{
    size_t c = (size_t)column;
    size_t i = (size_t)k;
    switch (dtype) {
    case DTYPE_F32:
        return (i * CPU_PANEL + c) * 4;
    case DTYPE_F16:
        return (i * CPU_PANEL + c) * 2;
    case DTYPE_BF16:
        return (i / 2 * CPU_PANEL + c) * 4 + i % 2 * 2;
    case DTYPE_Q8: /* expanded before they come here */
    case DTYPE_Q4:
        break;
    }
    return 0;
}

#define STRETCH 64 /* values of a row moved at a time: 32 rows of them stay in the cache */

/* `count` values of row `row` of t from k0 into column `column`. */
static void pack_stretch(struct cpu_matrix *m, char *panel, int column, const struct tensor *t,
                         size_t row, float scale, int k0, int count)
{
    size_t at = row * (size_t)m->k + (size_t)k0;
    if (m->dtype != DTYPE_F32) {
        const char *from = (const char *)t->data + at * 2;
        for (int i = 0; i < count; i++)
            memcpy(panel + offset_of(m->dtype, column, k0 + i), from + 2 * i, 2);
        return;
    }
    float v[STRETCH];
    tensor_read_f32(t, at, (size_t)count, v);
    float *to = (float *)(void *)panel + (size_t)k0 * CPU_PANEL + column;
    for (int i = 0; i < count; i++)
        to[i * CPU_PANEL] = v[i] * scale;
}

void cpu_matrix_pack(struct cpu_matrix *m, int n0, const struct tensor *t, const float *row_scale,
                     int panel_begin, int panel_end)
{
    CHECK(t->cols == m->k && n0 >= 0 && n0 + t->rows <= m->n && panel_end <= m->panels);
    CHECK(m->dtype == t->dtype || m->dtype == DTYPE_F32);
    CHECK(!row_scale || m->dtype == DTYPE_F32);
    for (int p = panel_begin; p < panel_end; p++) {
        int begin = p * CPU_PANEL > n0 ? p * CPU_PANEL : n0;
        int end = n0 + (int)t->rows;
        end = (p + 1) * CPU_PANEL < end ? (p + 1) * CPU_PANEL : end;
        char *panel = m->data + (size_t)p * m->panel_bytes;
        for (int k0 = 0; k0 < m->k; k0 += STRETCH) {
            int count = m->k - k0 < STRETCH ? m->k - k0 : STRETCH;
            for (int n = begin; n < end; n++)
                pack_stretch(m, panel, n - p * CPU_PANEL, t, (size_t)(n - n0),
                             row_scale ? row_scale[n - n0] : 1.0f, k0, count);
        }
    }
}

void cpu_matrix_row(const struct cpu_matrix *m, int n, float *out)
{
    const char *panel = m->data + (size_t)(n / CPU_PANEL) * m->panel_bytes;
    int column = n % CPU_PANEL;
    size_t size = dtype_bytes(m->dtype);
    float v[STRETCH];
    struct tensor t = {.data = v, .dtype = m->dtype, .rows = 1, .cols = STRETCH};
    for (int k0 = 0; k0 < m->k; k0 += STRETCH) {
        int count = m->k - k0 < STRETCH ? m->k - k0 : STRETCH;
        for (int i = 0; i < count; i++)
            memcpy((char *)v + (size_t)i * size, panel + offset_of(m->dtype, column, k0 + i), size);
        tensor_read_f32(&t, 0, (size_t)count, out + k0);
    }
}
