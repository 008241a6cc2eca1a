/* The CUDA runtime's C functions on the CPU: memory, streams, events, graphs.
 *
 * A stream is a queue of closures that runs when something waits for it, as late as CUDA allows: a
 * result that is read too early is poison, a host buffer that is reused too early gives its new
 * bytes. Copies from pageable memory take their bytes at the call, copies to it wait, as on the
 * card. A kernel that is `dependent` runs up to its ptx_pdl_wait before the kernel in front of it
 * starts. Captured closures are kept in the graph and queued at each launch.
 */
#include "tests/emu/emu.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "tests/emu/emu_block.h"

#define POISON 0xFF

struct op {
    std::shared_ptr<emu_kernel> kernel; /* or */
    std::function<void()> run;
};

struct CUgraph_st {
    std::vector<op> ops;
};
struct CUgraphExec_st {
    std::vector<op> ops;
};
struct CUstream_st {
    std::deque<op> queue;
    emu_grid_ptr early; /* the kernel at the front of the queue, started before its turn */
    bool nonblocking;
    CUgraph_st *capture;
};
struct record { /* one cudaEventRecord */
    CUstream_st *stream;
    bool done;
    double at_ms;
};
struct CUevent_st {
    std::shared_ptr<record> last;
    CUgraph_st *capture;
};

/* Made before any constructor of a program runs: emu_present is one, and may be linked first. */
#define MADE_FIRST __attribute__((init_priority(200)))

static struct {
    bool present;
    emu_options card;
    uint64_t calls, allocs, fail_at, launches;
    int fail_with;
    cudaError_t sticky, last;
    bool catching;
    std::string mistake;
    std::map<uintptr_t, size_t> device, pinned;
    size_t allocated;
    std::set<CUstream_st *> streams;
    std::map<const void *, size_t> smem_told;
} emu MADE_FIRST;
static CUstream_st null_stream MADE_FIRST;
static thread_local uint64_t waits;
static std::recursive_mutex lock;
using guard = std::lock_guard<std::recursive_mutex>;

cudaError_t emu_launch(dim3 grid, dim3 block, size_t smem, cudaStream_t s, bool dependent,
                       const void *kernel,
                       std::function<void()> body); /* declared for kernels in emu_device.h */

/* ---- what tests say ---- */

void emu_card(const emu_options *opt)
{
    guard g(lock);
    emu.card = opt ? *opt : emu_options{};
    emu.card.memory_bytes = emu.card.memory_bytes ? emu.card.memory_bytes : (size_t)8 << 30;
    emu.card.sms = emu.card.sms ? emu.card.sms : 4;
    emu.card.arch = emu.card.arch ? emu.card.arch : 90;
    emu.present = true;
    emu.calls = emu.allocs = emu.fail_at = emu.launches = 0;
    emu.sticky = emu.last = cudaSuccess;
    emu.mistake.clear();
}
void emu_no_card(void)
{
    guard g(lock);
    emu.present = false;
    emu.sticky = emu.last = cudaSuccess;
}
void emu_fail_at(uint64_t n, int error)
{
    guard g(lock);
    emu.fail_at = n ? emu.calls + n : 0;
    emu.fail_with = error;
}
uint64_t emu_calls(void)
{
    return emu.calls;
}
uint64_t emu_allocs(void)
{
    return emu.allocs;
}
uint64_t emu_waits(void)
{
    return waits;
}
uint64_t emu_launches(void)
{
    return emu.launches;
}
size_t emu_allocated(void)
{
    return emu.allocated;
}
void emu_catch(bool on)
{
    emu.catching = on;
}
const char *emu_mistake(void)
{
    return emu.mistake.c_str();
}

/* ---- errors ---- */

static bool is_sticky(int code)
{
    return code == cudaErrorLaunchFailure || code == cudaErrorIllegalAddress ||
           code == cudaErrorMisalignedAddress || code == cudaErrorECCUncorrectable ||
           code == cudaErrorLaunchTimeout || code == cudaErrorHardwareStackError ||
           code == cudaErrorIllegalInstruction || code == cudaErrorAssert ||
           code == cudaErrorUnknown;
}
static cudaError_t fail(cudaError_t code)
{
    if (is_sticky(code))
        emu.sticky = code;
    if (code != cudaSuccess && code != cudaErrorNotReady)
        emu.last = code;
    return code;
}
/* Every call that can fail begins here. */
static cudaError_t begin()
{
    emu.calls++;
    if (emu.sticky)
        return emu.sticky;
    if (!emu.present)
        return fail(cudaErrorNoDevice);
    if (emu.fail_at == emu.calls)
        return fail((cudaError_t)emu.fail_with);
    return cudaSuccess;
}
#define BEGIN                                                                                      \
    guard hold(lock);                                                                              \
    if (cudaError_t begun = begin())                                                               \
    return begun
#define REQUIRE(cond)                                                                              \
    if (!(cond))                                                                                   \
    return fail(cudaErrorInvalidValue)

/* ---- streams ---- */

static double now_ms()
{
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

/* Bytes of shared memory a block may ask for; a multiprocessor has 1 KiB more. */
static size_t smem_block_max()
{
    return (size_t)(emu.card.arch == 90 ? 227 : emu.card.arch == 80 ? 163 : 99) << 10;
}

static CUstream_st *stream_of(cudaStream_t s)
{
    return s == nullptr || s == cudaStreamLegacy || s == cudaStreamPerThread ? &null_stream : s;
}

static emu_grid_ptr grid_start(const emu_kernel &k)
{
    emu_limits limits = {emu.card.sms, smem_block_max() + 1024};
    emu.launches++;
    return emu_grid_start(k, limits, (emu.card.seed + 1) * 0x9e3779b97f4a7c15ull + emu.launches);
}

static void check_grid(const emu_grid *g)
{
    const std::string &text = emu_grid_mistake(g);
    if (text.empty())
        return;
    emu.mistake = text;
    if (!emu.catching) {
        fprintf(stderr, "emulator: %s\n", text.c_str());
        abort();
    }
    emu.sticky = emu.last = cudaErrorLaunchFailure;
}

static void run_next(CUstream_st *s)
{
    op o = s->queue.front();
    emu_grid_ptr grid = std::move(s->early);
    s->queue.pop_front();
    if (emu.sticky)
        return;
    if (!o.kernel) {
        o.run();
        return;
    }
    if (!grid)
        grid = grid_start(*o.kernel);
    if (emu.card.arch >= 90 && !s->queue.empty() && s->queue.front().kernel &&
        s->queue.front().kernel->dependent) {
        s->early = grid_start(*s->queue.front().kernel);
        emu_grid_prologue(s->early.get());
    }
    emu_grid_finish(grid.get());
    check_grid(grid.get());
    if (s->early)
        check_grid(s->early.get());
}
static void drain(CUstream_st *s)
{
    while (!s->queue.empty())
        run_next(s);
}
/* What waits for the legacy default stream, and what it waits for. */
static void drain_blocking()
{
    drain(&null_stream);
    for (CUstream_st *s : emu.streams)
        if (!s->nonblocking)
            drain(s);
}
static void drain_all()
{
    drain_blocking();
    for (CUstream_st *s : emu.streams)
        drain(s);
}
static bool capturing()
{
    for (CUstream_st *s : emu.streams)
        if (s->capture)
            return true;
    return false;
}
static cudaError_t enqueue(CUstream_st *s, op o)
{
    if (s->capture) {
        s->capture->ops.push_back(std::move(o));
        return cudaSuccess;
    }
    if (s == &null_stream && capturing())
        return fail(cudaErrorStreamCaptureImplicit);
    if (s == &null_stream)
        drain_blocking();
    s->queue.push_back(std::move(o));
    return cudaSuccess;
}

cudaError_t emu_launch(dim3 grid, dim3 block, size_t smem, cudaStream_t s, bool dependent,
                       const void *kernel, std::function<void()> body)
{
    BEGIN;
    size_t threads = (size_t)block.x * block.y * block.z;
    if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
        return fail(cudaErrorInvalidConfiguration);
    if (smem > smem_block_max() || (smem > (48u << 10) && emu.smem_told[kernel] < smem))
        return fail(cudaErrorInvalidValue);
    op o;
    o.kernel =
        std::make_shared<emu_kernel>(emu_kernel{grid, block, smem, dependent, std::move(body)});
    return enqueue(stream_of(s), std::move(o));
}

extern "C" {

cudaError_t cudaGetLastError(void)
{
    guard hold(lock);
    cudaError_t e = emu.sticky ? emu.sticky : emu.last;
    emu.last = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void)
{
    guard hold(lock);
    return emu.sticky ? emu.sticky : emu.last;
}
const char *cudaGetErrorName(cudaError_t e)
{
    static const std::map<int, const char *> names = {
        {cudaSuccess, "cudaSuccess"},
        {cudaErrorInvalidValue, "cudaErrorInvalidValue"},
        {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation"},
        {cudaErrorNoDevice, "cudaErrorNoDevice"},
        {cudaErrorNotReady, "cudaErrorNotReady"},
        {cudaErrorIllegalAddress, "cudaErrorIllegalAddress"},
        {cudaErrorLaunchFailure, "cudaErrorLaunchFailure"},
        {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration"},
    };
    auto it = names.find(e);
    return it == names.end() ? "cudaErrorOther" : it->second;
}
const char *cudaGetErrorString(cudaError_t e)
{
    static const std::map<int, const char *> texts = {
        {cudaSuccess, "no error"},
        {cudaErrorInvalidValue, "invalid argument"},
        {cudaErrorMemoryAllocation, "out of memory"},
        {cudaErrorNoDevice, "no CUDA-capable device is detected"},
        {cudaErrorNotReady, "device not ready"},
        {cudaErrorIllegalAddress, "an illegal memory access was encountered"},
        {cudaErrorLaunchFailure, "unspecified launch failure"},
        {cudaErrorInvalidConfiguration, "invalid configuration argument"},
    };
    auto it = texts.find(e);
    return it == texts.end() ? "another error" : it->second;
}

/* ---- the device ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
    BEGIN;
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    BEGIN;
    return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int *device)
{
    BEGIN;
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDeviceFlags(unsigned)
{
    BEGIN;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v)
{
    BEGIN;
    *v = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v)
{
    BEGIN;
    *v = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    BEGIN;
    if (device != 0)
        return fail(cudaErrorInvalidDevice);
    memset((void *)p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "Emulated");
    p->totalGlobalMem = emu.card.memory_bytes;
    p->major = emu.card.arch / 10;
    p->minor = emu.card.arch % 10;
    p->multiProcessorCount = emu.card.sms;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->sharedMemPerBlock = 48u << 10;
    p->sharedMemPerBlockOptin = smem_block_max();
    p->sharedMemPerMultiprocessor = p->sharedMemPerBlockOptin + 1024;
    p->reservedSharedMemPerBlock = 1024;
    p->l2CacheSize = 50 << 20;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->concurrentKernels = 1;
    p->asyncEngineCount = 3;
    p->unifiedAddressing = 1;
    p->memoryBusWidth = 5120;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attr, int device)
{
    cudaDeviceProp p;
    if (cudaError_t e = cudaGetDeviceProperties(&p, device))
        return e;
    switch (attr) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)p.sharedMemPerBlock;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = p.maxThreadsPerMultiProcessor;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        break;
    case cudaDevAttrL2CacheSize:
        *value = p.l2CacheSize;
        break;
    case cudaDevAttrWarpSize:
        *value = 32;
        break;
    case cudaDevAttrMemoryClockRate:
        *value = 2619000;
        break;
    case cudaDevAttrClockRate:
        *value = 1980000;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = p.memoryBusWidth;
        break;
    default:
        *value = 0;
    }
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    BEGIN;
    *total = emu.card.memory_bytes;
    *free_bytes = *total - std::min(*total, emu.allocated);
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    BEGIN;
    waits++;
    if (capturing())
        return fail(cudaErrorStreamCaptureUnsupported);
    drain_all();
    return emu.sticky;
}
cudaError_t cudaDeviceReset(void)
{
    BEGIN;
    drain_all();
    return cudaSuccess;
}
cudaError_t cudaDeviceSetLimit(cudaLimit, size_t)
{
    BEGIN;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attr, int value)
{
    BEGIN;
    if (attr == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        REQUIRE(value >= 0 && (size_t)value <= smem_block_max());
        emu.smem_told[kernel] = (size_t)value;
    }
    return cudaSuccess;
}
cudaError_t cudaFuncSetCacheConfig(const void *, cudaFuncCache)
{
    BEGIN;
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, const void *kernel)
{
    BEGIN;
    memset((void *)a, 0, sizeof *a);
    a->maxThreadsPerBlock = 1024;
    a->maxDynamicSharedSizeBytes = (int)std::max<size_t>(emu.smem_told[kernel], 48u << 10);
    a->ptxVersion = a->binaryVersion = emu.card.arch;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads,
                                                          size_t smem)
{
    BEGIN;
    REQUIRE(threads > 0);
    size_t per_sm = smem_block_max() + 1024;
    *blocks = (int)std::min<size_t>({32, 2048u / (unsigned)threads, per_sm / (smem + 1024)});
    return cudaSuccess;
}

/* ---- memory ---- */

static cudaError_t give(void **p, size_t bytes, std::map<uintptr_t, size_t> *kind)
{
    REQUIRE(p);
    waits++;
    *p = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    emu.allocs++;
    if (kind == &emu.device &&
        bytes > emu.card.memory_bytes - std::min(emu.card.memory_bytes, emu.allocated))
        return fail(cudaErrorMemoryAllocation);
    if (posix_memalign(p, 256, bytes))
        return fail(cudaErrorMemoryAllocation);
    memset(*p, POISON, bytes);
    (*kind)[(uintptr_t)*p] = bytes;
    if (kind == &emu.device)
        emu.allocated += bytes;
    return cudaSuccess;
}
static cudaError_t take(void *p, std::map<uintptr_t, size_t> *kind)
{
    if (!p)
        return cudaSuccess;
    auto it = kind->find((uintptr_t)p);
    REQUIRE(it != kind->end());
    waits++;
    drain_all();
    if (kind == &emu.device)
        emu.allocated -= it->second;
    kind->erase(it);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    BEGIN;
    return give(p, bytes, &emu.device);
}
cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    BEGIN;
    return give(p, bytes, &emu.pinned);
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    BEGIN;
    return give(p, bytes, &emu.pinned);
}
/* Freeing works after a sticky error too, so that a test of faults leaks nothing. */
cudaError_t cudaFree(void *p)
{
    guard hold(lock);
    cudaError_t e = begin();
    cudaError_t taken = take(p, &emu.device);
    return e ? e : taken;
}
cudaError_t cudaFreeHost(void *p)
{
    guard hold(lock);
    cudaError_t e = begin();
    cudaError_t taken = take(p, &emu.pinned);
    return e ? e : taken;
}

static bool within(const std::map<uintptr_t, size_t> &kind, const void *p, size_t bytes, bool *fits)
{
    auto it = kind.upper_bound((uintptr_t)p);
    if (it == kind.begin())
        return false;
    --it;
    if ((uintptr_t)p >= it->first + it->second)
        return false;
    *fits = (uintptr_t)p + bytes <= it->first + it->second;
    return true;
}
/* Pageable host memory may be anything; an allocation of ours must hold the whole range. */
static bool pageable(const void *p, size_t bytes, bool *fits)
{
    *fits = true;
    return !within(emu.device, p, bytes, fits) && !within(emu.pinned, p, bytes, fits);
}
static cudaError_t copy_async(void *to, const void *from, size_t bytes, CUstream_st *s)
{
    bool to_fits, from_fits, to_pageable = pageable(to, bytes, &to_fits),
                             from_pageable = pageable(from, bytes, &from_fits);
    REQUIRE(to_fits && from_fits && (bytes == 0 || (to && from)));
    if (bytes == 0)
        return emu.sticky;
    waits += to_pageable || from_pageable;
    op o;
    if (from_pageable && !s->capture) {
        std::vector<char> bytes_now((const char *)from, (const char *)from + bytes);
        o.run = [=]() { memcpy(to, bytes_now.data(), bytes); };
    } else { /* an overlap gives anything, on a card */
        const char *a = (const char *)to, *b = (const char *)from;
        bool apart = a == b || a + bytes <= b || b + bytes <= a;
        o.run = [=]() { apart ? memcpy(to, from, bytes) : memset(to, POISON, bytes); };
    }
    if (cudaError_t e = enqueue(s, std::move(o)))
        return e;
    if (to_pageable && !s->capture)
        drain(s);
    return emu.sticky;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t s)
{
    BEGIN;
    return copy_async(to, from, bytes, stream_of(s));
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind)
{
    BEGIN;
    cudaError_t e = copy_async(to, from, bytes, &null_stream);
    drain(&null_stream);
    return e ? e : emu.sticky;
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind, cudaStream_t s)
{
    BEGIN;
    for (size_t i = 0; i < height; i++)
        if (cudaError_t e = copy_async((char *)to + i * to_pitch,
                                       (const char *)from + i * from_pitch, width, stream_of(s)))
            return e;
    return cudaSuccess;
}
static cudaError_t set_async(void *p, int value, size_t bytes, CUstream_st *s)
{
    bool fits;
    pageable(p, bytes, &fits);
    REQUIRE(fits && (p || bytes == 0));
    if (bytes == 0)
        return emu.sticky;
    op o;
    o.run = [=]() { memset(p, value, bytes); };
    return enqueue(s, std::move(o));
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    BEGIN;
    return set_async(p, value, bytes, stream_of(s));
}
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    BEGIN;
    return set_async(p, value, bytes, &null_stream);
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int)
{
    BEGIN;
    CUstream_st *created = new CUstream_st();
    created->nonblocking = flags & cudaStreamNonBlocking;
    emu.streams.insert(created);
    *s = created;
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    return cudaStreamCreateWithPriority(s, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithPriority(s, cudaStreamDefault, 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    guard hold(lock);
    cudaError_t e = begin();
    REQUIRE(emu.streams.count(s));
    drain(s);
    emu.streams.erase(s);
    delete s;
    return e;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    BEGIN;
    waits++;
    if (stream_of(s)->capture)
        return fail(cudaErrorStreamCaptureUnsupported);
    drain(stream_of(s));
    return emu.sticky;
}
/* Each question makes the stream one operation older. */
cudaError_t cudaStreamQuery(cudaStream_t s)
{
    BEGIN;
    if (!stream_of(s)->queue.empty())
        run_next(stream_of(s));
    return emu.sticky ? emu.sticky : stream_of(s)->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned)
{
    BEGIN;
    CUstream_st *s = stream_of(stream);
    if (e->capture) { /* joins the capture: its operations follow in the order of the calls */
        s->capture = e->capture;
        return cudaSuccess;
    }
    std::shared_ptr<record> r = e->last;
    if (!r)
        return cudaSuccess;
    op o;
    o.run = [r]() {
        while (!r->done && !emu.sticky)
            run_next(r->stream);
    };
    return enqueue(s, std::move(o));
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void *data)
{
    BEGIN;
    op o;
    o.run = [=]() { fn(data); };
    return enqueue(stream_of(s), std::move(o));
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    BEGIN;
    *e = new CUevent_st();
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    guard hold(lock);
    cudaError_t begun = begin();
    delete e;
    return begun;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
    BEGIN;
    CUstream_st *s = stream_of(stream);
    e->capture = s->capture;
    if (s->capture)
        return cudaSuccess;
    std::shared_ptr<record> r = std::make_shared<record>(record{s, false, 0});
    e->last = r;
    op o;
    o.run = [r]() {
        r->done = true;
        r->at_ms = now_ms();
    };
    return enqueue(s, std::move(o));
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    BEGIN;
    waits++;
    while (e->last && !e->last->done && !emu.sticky)
        run_next(e->last->stream);
    return emu.sticky;
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    BEGIN;
    if (e->last && !e->last->done)
        run_next(e->last->stream);
    return emu.sticky ? emu.sticky : !e->last || e->last->done ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b)
{
    BEGIN;
    if (!a->last || !b->last)
        return fail(cudaErrorInvalidResourceHandle);
    if (!a->last->done || !b->last->done)
        return cudaErrorNotReady;
    *ms = (float)(b->last->at_ms - a->last->at_ms);
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    BEGIN;
    if (stream_of(s) == &null_stream || s->capture)
        return fail(cudaErrorStreamCaptureUnsupported);
    s->capture = new CUgraph_st();
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    guard hold(lock);
    cudaError_t begun = begin();
    CUgraph_st *g = stream_of(s)->capture;
    if (!g)
        return fail(cudaErrorIllegalState);
    for (CUstream_st *other : emu.streams)
        if (other->capture == g)
            other->capture = nullptr;
    if (begun) {
        delete g;
        *graph = nullptr;
        return begun;
    }
    *graph = g;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status)
{
    BEGIN;
    *status = stream_of(s)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    BEGIN;
    *exec = new CUgraphExec_st{graph->ops};
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph,
                                          unsigned long long flags)
{
    return cudaGraphInstantiate(exec, graph, flags);
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    BEGIN;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    BEGIN;
    for (const op &o : exec->ops)
        if (cudaError_t e = enqueue(stream_of(s), o))
            return e;
    return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    BEGIN;
    REQUIRE(nodes == nullptr);
    *count = graph->ops.size();
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    guard hold(lock);
    cudaError_t e = begin();
    delete g;
    return e;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g)
{
    guard hold(lock);
    cudaError_t e = begin();
    delete g;
    return e;
}

} // extern "C"
