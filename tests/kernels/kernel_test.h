/* kernel_test: what the tests of kernels share. They run on a card or on the emulator, which they
 * do not see: build/tests/kernels holds the former, build/emu/tests/kernels the latter.
 *
 *   int main(void) { ... return kernel_test_run("lora", tests, sizeof tests / sizeof *tests); }
 *
 * Device buffers begin as 0xFF bytes (NaN in every float type) with guard bytes on both sides,
 * which are checked when the buffer is freed; at the end of each test what is left is freed and
 * checked. Every failure prints both values and the index. One thread.
 */
#ifndef CHORUS_TESTS_KERNEL_TEST_H
#define CHORUS_TESTS_KERNEL_TEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <cuda_runtime_api.h>

/* False on the emulator: a test may take smaller shapes there. */
bool kernel_test_on_card(void);
/* Products of the emulator's cuBLAS so far; 0 on a card. */
int kernel_test_products(void);
/* Whether the emulator's cuBLAS is found from now on; nothing on a card. */
void kernel_test_library(bool there);
/* The stream all of the test's work goes to. */
cudaStream_t kernel_test_stream(void);
/* Waits for it; fails the test on any error. */
void kernel_test_sync(void);

/* Runs the tests with a stream each; without a card all are skipped with a line that says so. */
int kernel_test_run(const char *name, const struct CMUnitTest *tests, size_t count);

/* `bytes` (0 allowed) of device memory, 256-byte aligned. */
void *kernel_test_alloc(size_t bytes);
void *kernel_test_upload(const void *host, size_t bytes);
void kernel_test_write(void *d, const void *host, size_t bytes);
/* Waits for the stream first. */
void kernel_test_read(void *host, const void *d, size_t bytes);
/* Checks the guards. NULL is allowed. */
void kernel_test_free(void *d);

/* A value in [0, 2^32), in [0, n), in [lo, hi). Same seed, same values. */
uint32_t kernel_test_u32(uint64_t *seed);
uint32_t kernel_test_below(uint64_t *seed, uint32_t n);
float kernel_test_uniform(uint64_t *seed, float lo, float hi);

/* Round to nearest even, and back. */
uint16_t kernel_test_bf16(float x);
float kernel_test_float(uint16_t bf16);

/* |got - want| <= abs + rel |want| for all; NaN is never close. */
#define kernel_test_close(what, got, want, n, abs, rel)                                            \
    kernel_test_close_at(what, got, want, n, abs, rel, __FILE__, __LINE__)
void kernel_test_close_at(const char *what, const float *got, const float *want, size_t n,
                          float abs, float rel, const char *file, int line);
/* The same bytes. */
#define kernel_test_equal(what, got, want, bytes)                                                  \
    kernel_test_equal_at(what, got, want, bytes, __FILE__, __LINE__)
void kernel_test_equal_at(const char *what, const void *got, const void *want, size_t bytes,
                          const char *file, int line);

#endif
