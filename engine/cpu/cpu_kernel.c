#include "engine/cpu/cpu_kernel.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* By cpuid: clang 14 does not know "f16c" in __builtin_cpu_supports. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f");
}
#endif

const struct cpu_kernels *cpu_kernels_find(const char *isa)
{
    bool any = !isa || strcmp(isa, "auto") == 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if ((any || strcmp(isa, "avx512") == 0) && has_avx512())
        return &cpu_kernels_avx512;
    if ((any || strcmp(isa, "avx2") == 0) && has_avx2())
        return &cpu_kernels_avx2;
#endif
    return any || strcmp(isa, "scalar") == 0 ? &cpu_kernels_scalar : NULL;
}

size_t cpu_attend_scratch(int tile_rows, int head_dim)
{
    size_t d = CPU_ROUND_LANES(head_dim);
    return (size_t)tile_rows * (2 * d + CPU_ATTEND_BLOCK);
}
