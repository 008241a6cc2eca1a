/* lost_server: `chorus serve` on a card that fails for good while it serves, for
 * scripts/gpu_lost.py.
 *
 *   lost_server FILE SERVE-OPTIONS...
 *
 * Once FILE is there, a kernel of this process reads at an address that no card takes. CUDA keeps
 * such an error for the whole process, as it keeps a real one. */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "server/cmd.h"
#include "tests/kernels/k_selftest.h"

/* Of the emulated card alone: a kernel's mistake becomes an error that CUDA keeps. */
void emu_catch(bool on) __attribute__((weak));

static void *break_card(void *arg)
{
    const char *file = arg;
    const struct timespec pause = {.tv_nsec = 10000000};
    while (access(file, F_OK) != 0)
        nanosleep(&pause, NULL);
    void *memory = NULL;
    cudaStream_t s;
    if (cudaMalloc(&memory, 64) != cudaSuccess || cudaStreamCreate(&s) != cudaSuccess ||
        cuda_selftest_misaligned(memory, s) != STATUS_OK || cudaStreamSynchronize(s) == cudaSuccess)
        fputs("lost_server: the card is still there\n", stderr);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc < 3) {
        fputs("usage: lost_server FILE SERVE-OPTIONS...\n", stderr);
        return CMD_EXIT_USAGE;
    }
    if (emu_catch)
        emu_catch(true);
    if (pthread_create(&thread, NULL, break_card, argv[1]) != 0)
        return CMD_EXIT_FAILED;
    return cmd_serve(argc - 1, argv + 1);
}
