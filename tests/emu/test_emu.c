/* The emulator finds what it is there to find: each mistake in a kernel either shows as a wrong
 * result for some order of warps, or ends with a message that names it. And the runtime is as late
 * as the real one may be. */
#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "tests/emu/emu.h"
#include "tests/emu/faults.h"
#include "tests/kernels/k_selftest.h"

#define N     256
#define SEEDS 8

struct outcome {
    int right, wrong, caught;
    char message[2048];
};

/* Device memory without guards, so that AddressSanitizer sees its ends. */
static struct outcome run_fault(enum fault f)
{
    struct outcome o = {0};
    emu_catch(true);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const struct emu_options opt = {.seed = seed};
        emu_card(&opt);
        float in[N], got[N], want = 0;
        uint64_t numbers = seed;
        for (int i = 0; i < N; i++) {
            in[i] = (float)kernel_test_below(&numbers, 100);
            want += in[i];
        }
        void *d_in, *d_out, *d_flag;
        cudaStream_t s;
        assert_int_equal(cudaSuccess, cudaStreamCreate(&s));
        assert_int_equal(cudaSuccess, cudaMalloc(&d_in, sizeof in));
        assert_int_equal(cudaSuccess, cudaMalloc(&d_out, sizeof got));
        assert_int_equal(cudaSuccess, cudaMalloc(&d_flag, sizeof(uint32_t)));
        assert_int_equal(cudaSuccess, cudaMemsetAsync(d_flag, 0, sizeof(uint32_t), s));
        assert_int_equal(cudaSuccess, cudaMemcpyAsync(d_in, in, sizeof in, cudaMemcpyDefault, s));
        /* a kernel in front, so that a dependent one can be early */
        assert_int_equal(STATUS_OK, cuda_selftest_add(d_in, N, 1, 0, s));
        assert_int_equal(STATUS_OK, cuda_fault(f, d_in, d_out, d_flag, s));
        want += N;
        cudaError_t code = cudaStreamSynchronize(s);
        if (code != cudaSuccess) {
            assert_int_equal(cudaErrorLaunchFailure, code);
            snprintf(o.message, sizeof o.message, "%s", emu_mistake());
            o.caught++;
        } else {
            assert_int_equal(cudaSuccess, cudaMemcpy(got, d_out, sizeof got, cudaMemcpyDefault));
            int i = 0;
            while (i < N && got[i] == want)
                i++;
            if (i == N)
                o.right++;
            else
                o.wrong++;
        }
        cudaFree(d_in);
        cudaFree(d_out);
        cudaFree(d_flag);
        cudaStreamDestroy(s);
    }
    emu_catch(false);
    return o;
}

static void test_no_fault_is_right_in_every_order(void **state)
{
    (void)state;
    struct outcome o = run_fault(FAULT_NONE);
    if (o.right != SEEDS)
        fail_msg("%d of %d right; %s", o.right, SEEDS, o.message);
}

/* At least `least` of the orders must show it. */
static void test_races_give_wrong_results(void **state)
{
    (void)state;
    static const struct {
        enum fault f;
        const char *name;
        int least;
    } cases[] = {
        {FAULT_NO_WAIT, "missing cp.async wait", SEEDS},
        {FAULT_WAIT_TOO_FEW, "cp.async wait for too few", SEEDS},
        {FAULT_NO_BARRIER, "missing __syncthreads", SEEDS / 2},
        {FAULT_NO_SECOND_BARRIER, "missing second __syncthreads", SEEDS / 2},
        {FAULT_NO_WARP_BARRIER, "missing __syncwarp", SEEDS / 2},
        {FAULT_UNINITIALISED, "uninitialised shared memory", SEEDS},
        {FAULT_NO_PDL_WAIT, "read before ptx_pdl_wait", SEEDS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome o = run_fault(cases[i].f);
        if (o.wrong < cases[i].least)
            fail_msg("%s: wrong in %d orders of %d, want at least %d; %s", cases[i].name, o.wrong,
                     SEEDS, cases[i].least, o.message);
    }
}

static void test_mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        enum fault f;
        const char *says;
    } cases[] = {
        {FAULT_BARRIER_DIVERGES, "divergent barrier"},
        {FAULT_BARRIER_SKIPPED, "spin for ever"},
        {FAULT_SHUFFLE_DIVERGES, "divergent warp collective"},
        {FAULT_SHUFFLE_MASK, "shuffle reads lane 20, which does not take part"},
        {FAULT_NOT_IN_MASK, "which is not in it"},
        {FAULT_SPIN, "spin for ever"},
        {FAULT_MISALIGNED, "not 16-byte aligned"},
        {FAULT_SHARED_COPY, "outside the block's shared memory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct outcome o = run_fault(cases[i].f);
        if (o.caught != SEEDS || !strstr(o.message, cases[i].says) ||
            !strstr(o.message, i == 1 || i == 5 ? "threads" : "faults.cu:"))
            fail_msg("%s: caught in %d orders of %d: %s", cases[i].says, o.caught, SEEDS,
                     o.message);
    }
}

#if defined(__SANITIZE_ADDRESS__)
/* Runs in a child, which AddressSanitizer must end. */
static void expect_death(enum fault f, const char *what)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(0);
        run_fault(f);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(child, waitpid(child, &status, 0));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        fail_msg("%s went unseen", what);
}

static void test_bounds_are_kept(void **state)
{
    (void)state;
    expect_death(FAULT_READ_BOUNDS, "a read past the end of device memory");
    expect_death(FAULT_WRITE_BOUNDS, "a write past the end of device memory");
    expect_death(FAULT_SHARED_BOUNDS, "a write past the end of shared memory");
}
#endif

/* A pinned buffer is written when the stream comes to it, and is read no earlier. */
static void test_streams_are_late(void **state)
{
    (void)state;
    emu_card(NULL);
    float *pinned, back[N], *d_x;
    void *p;
    cudaStream_t s, other;
    cudaEvent_t e;
    assert_int_equal(cudaSuccess, cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    assert_int_equal(cudaSuccess, cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    assert_int_equal(cudaSuccess, cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    assert_int_equal(cudaSuccess, cudaMallocHost(&p, sizeof back));
    pinned = p;
    assert_int_equal(cudaSuccess, cudaMalloc(&p, sizeof back));
    d_x = p;
    for (int i = 0; i < N; i++)
        back[i] = 1;
    assert_int_equal(cudaSuccess, cudaMemcpyAsync(d_x, back, sizeof back, cudaMemcpyDefault, s));
    back[0] = 2; /* pageable: too late to matter */
    assert_int_equal(STATUS_OK, cuda_selftest_add(d_x, N, 3, 0, s));
    assert_int_equal(cudaSuccess, cudaEventRecord(e, s));
    assert_int_equal(cudaSuccess, cudaStreamWaitEvent(other, e, 0));
    assert_int_equal(cudaSuccess,
                     cudaMemcpyAsync(pinned, d_x, sizeof back, cudaMemcpyDefault, other));
    assert_true(isnan(pinned[0]));
    assert_int_equal(cudaErrorNotReady, cudaEventQuery(e));
    assert_int_equal(cudaSuccess, cudaStreamSynchronize(other));
    assert_int_equal(cudaSuccess, cudaEventQuery(e));
    for (int i = 0; i < N; i++)
        if (pinned[i] != 4)
            fail_msg("[%d]: got %g, want 4", i, (double)pinned[i]);
    assert_int_equal(cudaSuccess, cudaMemcpyAsync(d_x, pinned, sizeof back, cudaMemcpyDefault, s));
    pinned[0] = 7; /* pinned and not yet copied: this is what arrives */
    assert_int_equal(cudaSuccess, cudaStreamSynchronize(s));
    assert_int_equal(cudaSuccess, cudaMemcpy(back, d_x, sizeof back, cudaMemcpyDefault));
    assert_true(back[0] == 7);
    cudaFree(d_x);
    cudaFreeHost(pinned);
    cudaEventDestroy(e);
    cudaStreamDestroy(s);
    cudaStreamDestroy(other);
}

static void test_injected_errors(void **state)
{
    (void)state;
    const struct emu_options small = {.memory_bytes = 1 << 20};
    emu_card(&small);
    void *p = NULL, *q = NULL;
    emu_fail_at(2, cudaErrorMemoryAllocation);
    assert_int_equal(cudaSuccess, cudaMalloc(&p, 1 << 19));
    assert_int_equal(cudaErrorMemoryAllocation, cudaMalloc(&q, 64));
    assert_int_equal(cudaErrorMemoryAllocation, cudaGetLastError());
    assert_int_equal(cudaSuccess, cudaGetLastError());
    assert_int_equal(cudaErrorMemoryAllocation, cudaMalloc(&q, (1 << 19) + 1));
    assert_int_equal(cudaSuccess, cudaMalloc(&q, 1 << 19));
    size_t free_bytes, total;
    assert_int_equal(cudaSuccess, cudaMemGetInfo(&free_bytes, &total));
    assert_int_equal(0, free_bytes);
    assert_int_equal(1 << 20, total);
    emu_fail_at(1, cudaErrorIllegalAddress);
    assert_int_equal(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    assert_int_equal(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    assert_int_equal(STATUS_DEVICE_LOST, cuda_selftest_add(p, 1, 1, 0, NULL));
    cudaFree(p);
    cudaFree(q);
    assert_int_equal(0, emu_allocated());
    emu_no_card();
    int cards = -1;
    assert_int_equal(cudaErrorNoDevice, cudaGetDeviceCount(&cards));
}

static void test_launches_are_checked(void **state)
{
    (void)state;
    const struct emu_options ampere = {.arch = 86};
    emu_card(&ampere);
    int bytes = 0;
    assert_int_equal(cudaSuccess,
                     cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    assert_int_equal(99 << 10, bytes);
    assert_int_equal(STATUS_UNSUPPORTED, cuda_selftest_sum(NULL, NULL, 1, 1, 2048, NULL));
    assert_int_equal(STATUS_UNSUPPORTED, cuda_selftest_sum(NULL, NULL, 0, 1, 32, NULL));
    assert_int_equal(STATUS_UNSUPPORTED, cuda_selftest_room(99 << 10 | 1, NULL));
    assert_int_equal(STATUS_OK, cuda_selftest_room(99 << 10, NULL));
    assert_int_equal(STATUS_OK, cuda_selftest_room(64 << 10, NULL));
    assert_int_equal(cudaSuccess, cudaDeviceSynchronize());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_fault_is_right_in_every_order),
        cmocka_unit_test(test_races_give_wrong_results),
        cmocka_unit_test(test_mistakes_are_named),
#if defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(test_bounds_are_kept),
#endif
        cmocka_unit_test(test_streams_are_late),
        cmocka_unit_test(test_injected_errors),
        cmocka_unit_test(test_launches_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
