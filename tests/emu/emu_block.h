/* emu_block: runs one grid. Between emu_runtime.cc, which decides when, and emu_block.cc, which
 * knows how. */
#ifndef CHORUS_TESTS_EMU_BLOCK_H
#define CHORUS_TESTS_EMU_BLOCK_H

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <string>

struct emu_kernel {
    dim3 grid, block;
    size_t smem;
    bool dependent;
    std::function<void()> body; /* what one thread does */
};

struct emu_limits {
    int sms;
    size_t smem_sm; /* bytes of shared memory a multiprocessor */
};

/* A grid under way. Destroying it unfinished drops its threads. */
struct emu_grid;
struct emu_grid_deleter {
    void operator()(emu_grid *g) const;
};
using emu_grid_ptr = std::unique_ptr<emu_grid, emu_grid_deleter>;
emu_grid_ptr emu_grid_start(const emu_kernel &k, const emu_limits &limits, uint64_t seed);

/* Runs the threads of the first blocks up to their ptx_pdl_wait, or to the end of what they can do.
 * False: a mistake. */
bool emu_grid_prologue(emu_grid *g);
/* Runs all to the end. False: a mistake. */
bool emu_grid_finish(emu_grid *g);
const std::string &emu_grid_mistake(const emu_grid *g);

#endif
