/* launch: starts a kernel and turns the outcome into a status. The only place that launches.
 *
 *   return launch({grid, 256, smem, dependent}, stream, k_op<4>, *a, n);
 *
 * Arguments are copied at the call. Nothing here waits or allocates, so it may run while the stream
 * is being captured. Called from the engine thread only.
 */
#ifndef CHORUS_CUDA_LAUNCH_CUH
#define CHORUS_CUDA_LAUNCH_CUH

#include <stddef.h>

#include "cuda/ptx.cuh"
#include "engine/base/status.h"

struct launch_shape {
    dim3 grid;
    int threads;    /* a block; a multiple of 32 */
    size_t smem;    /* bytes a block */
    bool dependent; /* may start before the kernel in front of it ends; it calls ptx_pdl_wait.
                       Ignored by cards before sm_90 */
};

/* Memory -> STATUS_NO_MEMORY; a launch that no card of this kind takes -> STATUS_UNSUPPORTED;
 * anything else is final. */
static inline enum status launch_status(cudaError_t code)
{
    switch (code) {
    case cudaSuccess:
        return STATUS_OK;
    case cudaErrorMemoryAllocation:
        return STATUS_NO_MEMORY;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
        return STATUS_UNSUPPORTED;
    default:
        return STATUS_DEVICE_LOST;
    }
}

/* Above 48 KiB a kernel must be told once that it may have so much shared memory. The table
 * remembers which were told; a full table asks again each time. */
#define LAUNCH_SMEM_PLAIN (48u << 10)
#define LAUNCH_TOLD_MAX   64
#define LAUNCH_SMEM_LEAST (99u << 10) /* bytes a block that every card gives */
#ifndef LAUNCH_SMEM_MOST /* bytes a block; less than the card has: to try what others do */
#define LAUNCH_SMEM_MOST (227u << 10)
#endif

static inline cudaError_t launch_allow_smem(const void *kernel, size_t bytes)
{
    static struct {
        const void *kernel;
        size_t bytes;
    } told[LAUNCH_TOLD_MAX];
    static int told_count;
    if (bytes <= LAUNCH_SMEM_PLAIN)
        return cudaSuccess;
    if (bytes > LAUNCH_SMEM_MOST)
        return cudaErrorInvalidValue; /* as a card says that has less */
    int i = 0;
    while (i < told_count && told[i].kernel != kernel)
        i++;
    if (i < told_count && told[i].bytes >= bytes)
        return cudaSuccess;
    cudaError_t code =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (code == cudaSuccess) /* so that nodes of a step can lie on an SM beside each other */
        code = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                    cudaSharedmemCarveoutMaxShared);
    if (code == cudaSuccess && i < LAUNCH_TOLD_MAX) {
        told[i].kernel = kernel;
        told[i].bytes = bytes;
        told_count += i == told_count;
    }
    return code;
}

template <typename... Params, typename... Args>
static inline enum status launch(const struct launch_shape &shape, cudaStream_t stream,
                                 void (*kernel)(Params...), Args... args)
{
    cudaError_t code = launch_allow_smem((const void *)kernel, shape.smem);
    if (code != cudaSuccess)
        return launch_status(code);
    dim3 block((unsigned)shape.threads, 1, 1);
#ifdef CHORUS_EMULATE
    code = emu_launch(shape.grid, block, shape.smem, stream, shape.dependent, (const void *)kernel,
                      [=]() { kernel(static_cast<Params>(args)...); });
#else
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shape.smem;
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = shape.dependent ? 1 : 0;
    code = cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
#endif
    return launch_status(code);
}

#endif
