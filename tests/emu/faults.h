/* faults: kernels with one mistake each, for the emulator to find. */
#ifndef CHORUS_TESTS_EMU_FAULTS_H
#define CHORUS_TESTS_EMU_FAULTS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fault {
    FAULT_NONE,              /* out[i] = sum of in[0..256) */
    FAULT_NO_WAIT,           /* reads a cp.async target before the wait */
    FAULT_WAIT_TOO_FEW,      /* the wait lets the group that is read be under way */
    FAULT_NO_BARRIER,        /* reads what another warp wrote, without a barrier */
    FAULT_NO_SECOND_BARRIER, /* overwrites what another warp still reads */
    FAULT_NO_WARP_BARRIER,   /* reads what another lane wrote, without __syncwarp */
    FAULT_BARRIER_DIVERGES,  /* two barriers in two branches */
    FAULT_BARRIER_SKIPPED,   /* a warp waits for a flag of threads that wait at a barrier */
    FAULT_SHUFFLE_DIVERGES,  /* a full mask in one branch, another collective in the other */
    FAULT_SHUFFLE_MASK,      /* reads a lane that is not in the mask */
    FAULT_NOT_IN_MASK,       /* a lane calls with a mask without itself */
    FAULT_UNINITIALISED,     /* sums shared memory that nobody wrote */
    FAULT_SPIN,              /* waits for a flag that nobody raises */
    FAULT_MISALIGNED,        /* a 16-byte load at 4 bytes */
    FAULT_SHARED_COPY,       /* cp.async past the end of shared memory */
    FAULT_SHARED_BOUNDS,     /* a store past the end of shared memory */
    FAULT_READ_BOUNDS,       /* in[256] */
    FAULT_WRITE_BOUNDS,      /* out[256] */
    FAULT_NO_PDL_WAIT,       /* a dependent kernel reads before its ptx_pdl_wait */
    FAULT_COUNT
};

/* One block of 256 threads; in and out hold 256 floats, flag one zero. */
WARN_UNUSED enum status cuda_fault(enum fault f, const float *in, float *out, uint32_t *flag,
                                   cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
