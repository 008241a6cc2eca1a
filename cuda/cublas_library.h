/* cublas_library: where cublas.c gets its functions from: the library of the machine, or for the
 * emulated card the emulator's own (compiled like a kernel, so that it knows). Any thread. */
#ifndef CHORUS_CUDA_CUBLAS_LIBRARY_H
#define CHORUS_CUDA_CUBLAS_LIBRARY_H

#ifdef __cplusplus
extern "C" {
#endif

/* NULL: there is none. Closed with cublas_library_close. */
void *cublas_library_open(void);
/* The address of a function by its exported name; NULL: it has none of that name. */
void *cublas_library_find(void *library, const char *name);
void cublas_library_close(void *library);

#ifdef __cplusplus
}
#endif
#endif
