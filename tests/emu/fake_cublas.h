/* fake_cublas: the emulated card's cuBLAS, and what a test says to it. */
#ifndef CHORUS_TESTS_EMU_FAKE_CUBLAS_H
#define CHORUS_TESTS_EMU_FAKE_CUBLAS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Products made so far. */
extern int fake_cublas_products;
/* Whether opening it fails from now on. */
void fake_cublas_missing(bool on);

/* For cuda/cublas_library.cu: NULL where it is missing. */
void *fake_cublas_open(void);
void *fake_cublas_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
