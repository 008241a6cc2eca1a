#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/emu/emu.h"
#include "tests/emu/fake_cublas.h"

#define POISON      0xFF
#define GUARD       0xA5
#define GUARD_BYTES 256
#if defined(__SANITIZE_ADDRESS__)
#define TAIL_BYTES 0 /* there AddressSanitizer guards, and sees reads too */
#else
#define TAIL_BYTES GUARD_BYTES
#endif

/* Absent where the program is linked with the real runtime. */
#pragma weak emu_card
#pragma weak fake_cublas_products
#pragma weak fake_cublas_missing

struct buffer {
    char *raw;
    size_t bytes;
    struct buffer *next;
};

static struct buffer *buffers;
static cudaStream_t stream;

static void check(cudaError_t code, const char *what)
{
    if (code != cudaSuccess)
        fail_msg("%s: %s", what, cudaGetErrorString(code));
}

bool kernel_test_on_card(void)
{
    return emu_card == NULL;
}

void kernel_test_library(bool there)
{
    if (fake_cublas_missing)
        fake_cublas_missing(!there);
}

int kernel_test_products(void)
{
    return &fake_cublas_products ? fake_cublas_products : 0;
}

cudaStream_t kernel_test_stream(void)
{
    return stream;
}

void kernel_test_sync(void)
{
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

static int setup(void **state)
{
    (void)state;
    return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cudaError_t code = cudaStreamSynchronize(stream);
    while (buffers)
        kernel_test_free(buffers->raw + GUARD_BYTES);
    check(code, "the stream at the end");
    return cudaStreamDestroy(stream) == cudaSuccess ? 0 : -1;
}

int kernel_test_run(const char *name, const struct CMUnitTest *tests, size_t count)
{
    if (emu_card)
        emu_card(NULL);
    int cards = 0;
    if (cudaGetDeviceCount(&cards) != cudaSuccess || cards == 0) {
        for (size_t i = 0; i < count; i++)
            printf("[  SKIPPED ] %s\n", tests[i].name);
        printf("%s: there is no card here\n", name);
        return 0;
    }
    struct CMUnitTest *own = calloc(count, sizeof *own);
    if (!own)
        return 1;
    memcpy(own, tests, count * sizeof *own);
    for (size_t i = 0; i < count; i++) {
        own[i].setup_func = setup;
        own[i].teardown_func = teardown;
    }
    /* For a sanitizer, which takes minutes over what takes seconds. */
    const char *only = getenv("CHORUS_TEST_ONLY");
    if (only)
        cmocka_set_test_filter(only);
    int failed = _cmocka_run_group_tests(name, own, count, NULL, NULL);
    free(own);
    return failed;
}

void *kernel_test_alloc(size_t bytes)
{
    struct buffer *b = calloc(1, sizeof *b);
    assert_non_null(b);
    void *raw;
    size_t all = GUARD_BYTES + bytes + TAIL_BYTES;
    check(cudaMalloc(&raw, all), "cudaMalloc");
    check(cudaMemsetAsync(raw, GUARD, all, stream), "guards");
    b->raw = raw;
    b->bytes = bytes;
    b->next = buffers;
    buffers = b;
    if (bytes > 0)
        check(cudaMemsetAsync(b->raw + GUARD_BYTES, POISON, bytes, stream), "poison");
    return b->raw + GUARD_BYTES;
}

void kernel_test_write(void *d, const void *host, size_t bytes)
{
    if (bytes > 0)
        check(cudaMemcpyAsync(d, host, bytes, cudaMemcpyHostToDevice, stream), "upload");
}

void *kernel_test_upload(const void *host, size_t bytes)
{
    void *d = kernel_test_alloc(bytes);
    kernel_test_write(d, host, bytes);
    return d;
}

void kernel_test_read(void *host, const void *d, size_t bytes)
{
    kernel_test_sync();
    if (bytes > 0)
        check(cudaMemcpy(host, d, bytes, cudaMemcpyDeviceToHost), "download");
}

static void check_guard(const unsigned char *guard, size_t bytes, size_t size, const char *side)
{
    for (size_t i = 0; i < bytes; i++)
        if (guard[i] != GUARD)
            fail_msg("a buffer of %zu bytes: byte %zu %s it was overwritten with 0x%02x", size,
                     side[0] == 'b' ? bytes - i : i, side, guard[i]);
}

void kernel_test_free(void *d)
{
    if (!d)
        return;
    struct buffer **at = &buffers;
    while (*at && (*at)->raw + GUARD_BYTES != (char *)d)
        at = &(*at)->next;
    if (!*at)
        fail_msg("%p is no buffer of kernel_test_alloc", d);
    struct buffer b = **at;
    free(*at);
    *at = b.next;
    unsigned char before[GUARD_BYTES], after[GUARD_BYTES];
    cudaError_t code = cudaStreamSynchronize(stream);
    if (code == cudaSuccess)
        code = cudaMemcpy(before, b.raw, GUARD_BYTES, cudaMemcpyDeviceToHost);
    if (code == cudaSuccess && TAIL_BYTES > 0)
        code = cudaMemcpy(after, b.raw + GUARD_BYTES + b.bytes, TAIL_BYTES, cudaMemcpyDeviceToHost);
    cudaFree(b.raw);
    check(code, "reading the guards");
    check_guard(before, GUARD_BYTES, b.bytes, "before");
    check_guard(after, TAIL_BYTES, b.bytes, "after");
}

uint32_t kernel_test_u32(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

uint32_t kernel_test_below(uint64_t *seed, uint32_t n)
{
    return (uint32_t)((uint64_t)kernel_test_u32(seed) * n >> 32);
}

float kernel_test_uniform(uint64_t *seed, float lo, float hi)
{
    return lo + (hi - lo) * ((float)(kernel_test_u32(seed) >> 8) / 16777216.0f);
}

uint16_t kernel_test_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float kernel_test_float(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void kernel_test_close_at(const char *what, const float *got, const float *want, size_t n,
                          float abs, float rel, const char *file, int line)
{
    size_t bad = 0, first = 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= abs + rel * fabsf(want[i])) && bad++ == 0)
            first = i;
    if (bad == 0)
        return;
    print_error("%s:%d: %s: %zu of %zu are off; the first is [%zu]: got %.9g, want %.9g, "
                "difference %.3g, allowed %.3g\n",
                file, line, what, bad, n, first, (double)got[first], (double)want[first],
                (double)fabsf(got[first] - want[first]), (double)(abs + rel * fabsf(want[first])));
    _fail(file, line);
}

void kernel_test_equal_at(const char *what, const void *got, const void *want, size_t bytes,
                          const char *file, int line)
{
    const unsigned char *a = got, *b = want;
    size_t i = 0;
    while (i < bytes && a[i] == b[i])
        i++;
    if (i == bytes)
        return;
    print_error("%s:%d: %s: byte %zu of %zu: got 0x%02x, want 0x%02x\n", file, line, what, i, bytes,
                a[i], b[i]);
    _fail(file, line);
}
