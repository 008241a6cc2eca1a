#include "cuda/cuda_error.h"

enum status cuda_error(cudaError_t code, const char *what, struct err *e)
{
    if (code == cudaSuccess)
        return STATUS_OK;
    /* An error that is not kept must not be found by the next launch. */
    (void)cudaGetLastError();
    enum status st = code == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_DEVICE_LOST;
    return err_set(e, st, NULL, "%s: %s (%s)", what, cudaGetErrorName(code),
                   cudaGetErrorString(code));
}
