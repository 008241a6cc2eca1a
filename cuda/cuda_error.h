/* cuda_error: what a CUDA runtime call's result means to Chorus. Pure; any thread. */
#ifndef CHORUS_CUDA_CUDA_ERROR_H
#define CHORUS_CUDA_CUDA_ERROR_H

#include <cuda_runtime_api.h>

#include "engine/base/status.h"

/* cudaSuccess -> STATUS_OK. Device memory that ran out -> STATUS_NO_MEMORY. Everything else is
 * STATUS_DEVICE_LOST: CUDA keeps such an error, no later call can succeed. On failure *e (NULL is
 * allowed) says "<what>: cudaErrorName (text)". */
enum status cuda_error(cudaError_t code, const char *what, struct err *e);

#endif
