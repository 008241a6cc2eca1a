/* k_selftest: kernels that use each primitive of cuda/ptx.cuh once, so that the card and the
 * emulator are known to mean the same. */
#ifndef CHORUS_TESTS_K_SELFTEST_H
#define CHORUS_TESTS_K_SELFTEST_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out[row] = sum of x[row, 0..n): one block of `threads` a row, shuffles and shared memory. */
WARN_UNUSED enum status cuda_selftest_sum(const float *x, float *out, int rows, int n, int threads,
                                          cudaStream_t s);

/* out = in through a ring of cp.async stages, a block of 128 threads; n a multiple of 4. The last
 * `zeros` floats are stored as zeros by ptx_cp_async16_or_zero. */
WARN_UNUSED enum status cuda_selftest_copy(const float *in, float *out, int n, int zeros,
                                           cudaStream_t s);

/* c[M, N] = a[M, K] b[N, K]^T, bf16 in, float out; M a multiple of 16, N of 8, K of 16. Fragments
 * by ldmatrix; b by the transposed form from b stored [K, N] where `trans`. */
WARN_UNUSED enum status cuda_selftest_mma(const uint16_t *a, const uint16_t *b, float *c, int m,
                                          int n, int k, int trans, cudaStream_t s);

/* Blocks pass a token on: block i waits for flag i, then adds i to *sum and raises flag i + 1. */
WARN_UNUSED enum status cuda_selftest_chain(uint32_t *flags, uint32_t *sum, int blocks,
                                            cudaStream_t s);

/* out[lane, 0..8): what the warp collectives gave lane `lane` of one warp. */
WARN_UNUSED enum status cuda_selftest_votes(uint32_t *out, cudaStream_t s);

/* x[i] += add, n floats; `dependent` as in launch_shape. */
WARN_UNUSED enum status cuda_selftest_add(float *x, int n, float add, int dependent,
                                          cudaStream_t s);

/* A block with `bytes` of shared memory, which it writes and reads. */
WARN_UNUSED enum status cuda_selftest_room(int bytes, cudaStream_t s);

/* Reads 16 bytes at x + 4 bytes: an error that CUDA keeps, cudaErrorMisalignedAddress. */
WARN_UNUSED enum status cuda_selftest_misaligned(void *x, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
