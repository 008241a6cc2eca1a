/* emu: a card made of the CPU, for tests. What a test says to it; kernels see emu_device.h.
 *
 * The emulator answers the CUDA runtime's C functions (emu_runtime.cc) and runs kernels compiled
 * with CHORUS_EMULATE (emu_block.cc): each CUDA thread is a fiber, shared and device memory start
 * as 0xFF bytes (NaN), asynchronous copies land at the wait that covers them and not before, warps
 * take turns in a seeded random order, a collective or barrier that not all its threads reach is an
 * error. Streams are lazy: nothing runs before something waits for it. Until emu_card is called
 * there is no card: cudaGetDeviceCount gives cudaErrorNoDevice.
 *
 * All calls take one lock; kernels run in the thread that waits for them.
 */
#ifndef CHORUS_TESTS_EMU_H
#define CHORUS_TESTS_EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct emu_options {
    size_t memory_bytes; /* 0 = 8 GiB; nothing is reserved */
    int sms;             /* multiprocessors; 0 = 4 */
    int arch;            /* compute capability, major * 10 + minor; 0 = 90 */
    uint64_t seed;       /* of the order of blocks, warps and lanes */
};

/* A fresh card: errors, counters and injected failures are gone. Memory that is allocated stays.
 * NULL = defaults.
 */
void emu_card(const struct emu_options *opt);
void emu_no_card(void);

/* The n-th runtime call from now (1 = the next) fails with `error`, a cudaError_t; 0 = none. Errors
 * that CUDA keeps (launch failure, illegal address) are kept. */
void emu_fail_at(uint64_t n, int error);
/* Runtime calls since emu_card that could have failed, and those of them that gave memory. */
uint64_t emu_calls(void);
uint64_t emu_allocs(void);
/* Calls of this thread so far that wait for the device, or may on a card: synchronising ones, those
 * that take or give back memory, copies between the device and pageable memory. */
uint64_t emu_waits(void);
/* Device bytes that are allocated now. */
size_t emu_allocated(void);
uint64_t emu_launches(void);

/* A kernel's mistake ends the process with a message; after emu_catch(true) it becomes a sticky
 * cudaErrorLaunchFailure and the message is kept. */
void emu_catch(bool on);
/* The last mistake, "" where none; cleared by emu_card. */
const char *emu_mistake(void);

#ifdef __cplusplus
}
#endif
#endif
