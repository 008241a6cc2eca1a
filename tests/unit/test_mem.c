/* How large blocks go back to the system. This program's madvise stands before the library's. */
#include "engine/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

static struct {
    uintptr_t begin, end; /* the block that is freed */
    size_t bytes;         /* of it that were given back */
    size_t most;          /* at once */
} seen;

int madvise(void *p, size_t bytes, int advice)
{
    uintptr_t at = (uintptr_t)p;
    if (advice == MADV_DONTNEED && at >= seen.begin && at + bytes <= seen.end) {
        seen.bytes += bytes;
        seen.most = bytes > seen.most ? bytes : seen.most;
    }
    return (int)syscall(SYS_madvise, p, bytes, advice);
}

static void watch(void *p, size_t bytes)
{
    memset(p, 1, bytes);
    memset(&seen, 0, sizeof seen);
    seen.begin = (uintptr_t)p;
    seen.end = seen.begin + bytes;
}

/* Whoever maps memory meanwhile waits for one of these pieces, not for all. */
static void test_mem_large_blocks_go_back_in_pieces(void **state)
{
    static const size_t sizes[] = {4 * MIB, 6 * MIB + 4096, 51 * MIB - 64, 195 * MIB};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int aligned = 0; aligned < 2; aligned++) {
            char *p = aligned ? mem_alloc_aligned(sizes[i]) : mem_alloc(sizes[i], 1);
            assert_non_null(p);
            watch(p, sizes[i]);
            mem_free(p);
            print_message("%zu bytes: %zu in pieces of at most %zu\n", sizes[i], seen.bytes,
                          seen.most);
            assert_true(seen.most <= 2 * MIB);
            assert_true(seen.bytes + 4 * MIB > sizes[i]);
        }
    }
}

/* Small ones stay with the allocator: they come again soon. */
static void test_mem_small_blocks_are_left_alone(void **state)
{
    (void)state;
    char *p = mem_alloc(3 * MIB, 1);
    assert_non_null(p);
    watch(p, 3 * MIB);
    mem_free(p);
    assert_int_equal(seen.bytes, 0);
    mem_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mem_large_blocks_go_back_in_pieces),
        cmocka_unit_test(test_mem_small_blocks_are_left_alone),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
