#include "cuda/cublas_library.h"

#ifdef CHORUS_EMULATE

#include "cuda/ptx.cuh"

void *cublas_library_open(void)
{
    return fake_cublas_open();
}

void *cublas_library_find(void *library, const char *name)
{
    (void)library;
    return fake_cublas_find(name);
}

void cublas_library_close(void *library)
{
    (void)library;
}

#else

#include <dlfcn.h>
#include <stddef.h>

void *cublas_library_open(void)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

void *cublas_library_find(void *library, const char *name)
{
    return dlsym(library, name);
}

void cublas_library_close(void *library)
{
    dlclose(library);
}

#endif
