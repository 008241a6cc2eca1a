/* The threads of a grid as fibers.
 *
 * A fiber runs until it waits: at a barrier, at a warp collective, or by a yield inside a loop that
 * waits for another thread. A warp is run until all its lanes wait; the warps of a block take turns
 * in a random order drawn anew after every round, lanes in an order drawn at the start. So between
 * two barriers one warp may be as far ahead of another as the card allows, and a barrier that is
 * missing shows. Blocks run one after the other; only when all started blocks yield is another one
 * started, up to the number that the card would hold at once.
 * A round in which nobody can run and nobody yields is a mistake: some threads wait for others that
 * have ended or wait elsewhere.
 */
#include "tests/emu/emu_block.h"

#include <algorithm>
#include <cstdarg>
#include <sys/mman.h>
#include <vector>

#include "tests/emu/emu_device.h"
#include "tests/emu/emu_ptx.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES (256u << 10)
#else
#define STACK_BYTES (64u << 10)
#endif

#define WARP         32
#define BARRIERS     16
#define POISON       0xFF
#define STACK_MAGIC  0x5afe57acc0de0001ull
#define STALL_ROUNDS 20000 /* of yields in which no thread of the grid ended */

enum lane_state { LANE_READY, LANE_YIELDED, LANE_COLLECTIVE, LANE_BARRIER, LANE_PDL, LANE_ENDED };
static const char *const state_names[] = {"ready",        "spinning",        "in a warp collective",
                                          "at a barrier", "in ptx_pdl_wait", "ended"};

namespace
{

struct copy {
    void *to;
    const void *from; /* NULL: zeros */
    size_t bytes;
};

struct lane {
    emu_place place; /* first: emu_now points here */
    struct block *block;
    int index; /* in the block */
    lane_state state;
    char *stack;
    void *sp;
    void *fake_stack; /* of AddressSanitizer */
    /* what it waits for */
    uint32_t mask;
    emu_combine *combine;
    void *io;
    const char *file;
    int line, barrier;
    bool look_again; /* a lane has ended: are all of the mask here now? */
    emu_vote vote;
    /* cp.async: copies of open and closed groups, oldest first */
    std::vector<copy> copies;
    std::vector<size_t> group_ends;
};

struct barrier {
    int arrived, votes, threads; /* threads 0 = all that live */
    const char *file;
    int line;
};

struct block {
    emu_grid *grid;
    uint8_t *smem;
    void *smem_raw;
    std::vector<lane> lanes;
    int live, flip; /* lane i of a warp runs as number i ^ flip */
    barrier barriers[BARRIERS];
    int waiting[WARP];    /* of each warp, lanes in a collective */
    uint32_t alive[WARP]; /* of each warp */
    bool released;        /* a barrier opened: the warp that runs gives way */
};

} // namespace

struct emu_grid {
    emu_kernel kernel;
    size_t smem_sm;
    uint64_t random;
    size_t next, total, open_max;
    std::vector<size_t> order;
    std::vector<block *> open;
    bool holding; /* ptx_pdl_wait waits */
    uint64_t ended;
    bool failed;
    std::string mistake;
};

emu_place *emu_now;
static lane *running;
static void *scheduler_sp;
static std::vector<char *> free_stacks;
#if defined(__SANITIZE_ADDRESS__)
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;
#endif

static uint64_t draw(emu_grid *g)
{
    uint64_t z = g->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* ---- fibers ---- */

#if !defined(__x86_64__)
#error "the emulator switches stacks in x86-64 assembly"
#endif
extern "C" void emu_switch(void **save_sp, void *load_sp);
__asm__(".text\n.globl emu_switch\n.type emu_switch,@function\nemu_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
        ".size emu_switch,.-emu_switch\n");

static void to_scheduler(bool for_ever)
{
    lane *l = running;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_ever ? nullptr : &l->fake_stack, scheduler_stack,
                                   scheduler_stack_bytes);
#else
    (void)for_ever;
#endif
    emu_switch(&l->sp, scheduler_sp);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(l->fake_stack, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

static void to_lane(lane *l)
{
    running = l;
    emu_now = &l->place;
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, l->stack, STACK_BYTES);
#endif
    emu_switch(&scheduler_sp, l->sp);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    running = nullptr;
    emu_now = nullptr;
}

static void lane_main()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
    lane *l = running;
    l->block->grid->kernel.body();
    l->state = LANE_ENDED;
    to_scheduler(true);
    abort();
}

static char *stack_get()
{
    char *s;
    if (!free_stacks.empty()) {
        s = free_stacks.back();
        free_stacks.pop_back();
    } else {
        s = (char *)mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (s == MAP_FAILED) {
            perror("emulator: no memory for stacks");
            abort();
        }
    }
    *(uint64_t *)s = STACK_MAGIC;
    return s;
}

static void stack_put(lane *l)
{
    if (*(uint64_t *)l->stack != STACK_MAGIC) {
        fprintf(stderr, "emulator: a thread's local variables need more than %u bytes of stack\n",
                STACK_BYTES);
        abort();
    }
#if defined(__SANITIZE_ADDRESS__)
    if (l->state != LANE_ENDED)
        __asan_unpoison_memory_region(l->stack, STACK_BYTES);
#endif
    free_stacks.push_back(l->stack);
    l->stack = nullptr;
}

static void lane_start(lane *l)
{
    l->stack = stack_get();
    /* Tops at different places of a page, or all threads would share a few lines of the cache. */
    void **sp = (void **)(l->stack + STACK_BYTES - 64 - (size_t)(l->index % 64) * 192);
    *--sp = nullptr; /* where lane_main would return to: makes its frame 16-byte aligned */
    *--sp = (void *)lane_main;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    l->sp = sp;
    l->fake_stack = nullptr;
    l->state = LANE_READY;
}

/* ---- mistakes ---- */

static void mistake(emu_grid *g, const std::string &text)
{
    if (!g->failed) {
        g->failed = true;
        g->mistake = text;
    }
}

static std::string place_text(const lane *l)
{
    char text[160];
    snprintf(text, sizeof text, "block (%u, %u, %u), thread %d", l->place.block.x, l->place.block.y,
             l->place.block.z, l->index);
    return text;
}

void emu_wrong(const char *file, int line, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    lane *l = running;
    mistake(l->block->grid,
            std::string(file) + ":" + std::to_string(line) + ": " + text + "; " + place_text(l));
    to_scheduler(false);
    abort();
}

/* Who waits where: one line for each run of lanes that do the same. */
static std::string waiting_text(const block *b)
{
    std::string text;
    for (size_t i = 0; i < b->lanes.size();) {
        const lane *l = &b->lanes[i];
        size_t j = i + 1;
        while (j < b->lanes.size() && b->lanes[j].state == l->state &&
               b->lanes[j].file == l->file && b->lanes[j].line == l->line &&
               b->lanes[j].mask == l->mask)
            j++;
        char row[256];
        if (l->state == LANE_COLLECTIVE || l->state == LANE_BARRIER)
            snprintf(row, sizeof row, "\n  threads %zu-%zu %s at %s:%d, mask %08x", i, j - 1,
                     state_names[l->state], l->file, l->line, l->mask);
        else
            snprintf(row, sizeof row, "\n  threads %zu-%zu %s", i, j - 1, state_names[l->state]);
        text += row;
        i = j;
    }
    return text;
}

/* ---- barriers and collectives, called by fibers ---- */

static void open_barrier(block *b, int id)
{
    barrier *bar = &b->barriers[id];
    emu_vote vote = {bar->votes, bar->arrived};
    for (lane &l : b->lanes)
        if (l.state == LANE_BARRIER && l.barrier == id) {
            l.state = LANE_READY;
            l.vote = vote;
        }
    *bar = {};
    b->released = true;
}

static bool same_file(const char *a, const char *b)
{
    return a == b || strcmp(a, b) == 0;
}

static bool barrier_full(const block *b, const barrier *bar)
{
    return bar->arrived > 0 && bar->arrived == (bar->threads ? bar->threads : b->live);
}

emu_vote emu_barrier(int id, int threads, bool wait, bool pred, const char *file, int line)
{
    lane *l = running;
    block *b = l->block;
    if (id < 0 || id >= BARRIERS || threads % WARP)
        emu_wrong(file, line, "barrier %d of %d threads", id, threads);
    barrier *bar = &b->barriers[id];
    if (bar->arrived > 0 && bar->threads != threads)
        emu_wrong(file, line, "barrier %d is for %d threads here and for %d at %s:%d", id, threads,
                  bar->threads, bar->file, bar->line);
    if (bar->arrived > 0 && threads == 0 && (bar->line != line || !same_file(bar->file, file)))
        emu_wrong(file, line, "divergent barrier: others of the block wait at %s:%d", bar->file,
                  bar->line);
    bar->threads = threads;
    bar->file = file;
    bar->line = line;
    bar->arrived++;
    bar->votes += pred;
    if (wait) {
        l->state = LANE_BARRIER;
        l->barrier = id;
        l->file = file;
        l->line = line;
        l->mask = 0;
    }
    if (barrier_full(b, bar))
        open_barrier(b, id);
    if (wait)
        to_scheduler(false);
    return l->vote;
}

/* Whether all living lanes of the mask wait at this very place; gathers their io. */
static bool all_here(lane *l, void *io[WARP])
{
    block *b = l->block;
    int warp = l->index / WARP;
    uint32_t wanted = l->mask & b->alive[warp];
    if (b->waiting[warp] < (wanted == EMU_ALL ? WARP : __builtin_popcount(wanted)))
        return false;
    memset(io, 0, WARP * sizeof *io);
    bool complete = true;
    for (int i = 0; i < WARP; i++) {
        if (!(wanted >> i & 1))
            continue;
        const lane *o = &b->lanes[(size_t)(warp * WARP + i)];
        io[i] = o->io;
        if (o->state != LANE_COLLECTIVE || !(o->mask >> l->place.lane & 1)) {
            complete = false;
        } else if (o->mask != l->mask || o->combine != l->combine || o->line != l->line ||
                   !same_file(o->file, l->file)) {
            emu_wrong(l->file, l->line,
                      "divergent warp collective, mask %08x: lane %d waits at %s:%d with mask %08x",
                      l->mask, i, o->file, o->line, o->mask);
        }
    }
    return complete;
}

static void leave_collective(lane *l)
{
    l->state = LANE_READY;
    l->block->waiting[l->index / WARP]--;
}

void emu_collective(uint32_t mask, emu_combine *combine, void *io, const char *file, int line)
{
    lane *l = running;
    block *b = l->block;
    int warp = l->index / WARP;
    if (!(mask >> l->place.lane & 1))
        emu_wrong(file, line, "warp collective with mask %08x by lane %u, which is not in it", mask,
                  l->place.lane);
    l->mask = mask;
    l->combine = combine;
    l->io = io;
    l->file = file;
    l->line = line;
    do {
        void *all[WARP];
        l->state = LANE_COLLECTIVE;
        l->look_again = false;
        b->waiting[warp]++;
        if (all_here(l, all)) {
            if (combine)
                combine(all, mask);
            for (uint32_t rest = mask & b->alive[warp]; rest; rest &= rest - 1)
                leave_collective(&b->lanes[(size_t)(warp * WARP + __builtin_ctz(rest))]);
            return;
        }
        to_scheduler(false);
    } while (l->look_again);
}

void emu_yield()
{
    running->state = LANE_YIELDED;
    to_scheduler(false);
}

void emu_pdl_wait()
{
    if (!running->block->grid->holding)
        return;
    running->state = LANE_PDL;
    to_scheduler(false);
}

void emu_combine_shuffle(void *const io[32], uint32_t)
{
    for (int i = 0; i < WARP; i++) {
        emu_shuffle *s = (emu_shuffle *)io[i];
        if (!s)
            continue;
        const emu_shuffle *from = (const emu_shuffle *)io[s->from & (WARP - 1)];
        s->ok = from != nullptr;
        s->out = from ? from->in : 0;
    }
}

/* All get f over the values in the order of the lanes. */
template <typename F> static void fold(void *const io[32], F f)
{
    bool first = true;
    uint32_t sum = 0;
    for (int i = 0; i < WARP; i++)
        if (io[i]) {
            uint32_t v = (uint32_t)((const emu_ballot *)io[i])->in;
            sum = first ? v : f(sum, v);
            first = false;
        }
    for (int i = 0; i < WARP; i++)
        if (io[i])
            ((emu_ballot *)io[i])->out = sum;
}
#define FOLD(name, value)                                                                          \
    void name(void *const io[32], uint32_t)                                                        \
    {                                                                                              \
        fold(io, [](uint32_t a, uint32_t v) { return (uint32_t)(value); });                        \
    }
FOLD(emu_combine_add, a + v)
FOLD(emu_combine_min, std::min(a, v))
FOLD(emu_combine_max, std::max(a, v))
FOLD(emu_combine_imin, std::min((int)a, (int)v))
FOLD(emu_combine_imax, std::max((int)a, (int)v))
FOLD(emu_combine_and, a &v)
FOLD(emu_combine_or, a | v)
FOLD(emu_combine_xor, a ^ v)

void emu_combine_ballot(void *const io[32], uint32_t)
{
    uint32_t votes = 0;
    for (int i = 0; i < WARP; i++)
        if (io[i] && ((const emu_ballot *)io[i])->in)
            votes |= 1u << i;
    for (int i = 0; i < WARP; i++)
        if (io[i])
            ((emu_ballot *)io[i])->out = votes;
}

void emu_combine_match(void *const io[32], uint32_t)
{
    for (int i = 0; i < WARP; i++)
        for (int j = 0; j < WARP && io[i]; j++)
            if (io[j] && ((emu_ballot *)io[i])->in == ((emu_ballot *)io[j])->in)
                ((emu_ballot *)io[i])->out |= 1u << j;
}

/* ---- what ptx.cuh does ---- */

static bool in_smem(const void *p, int bytes)
{
    const uint8_t *at = (const uint8_t *)p;
    return at >= emu_now->smem && at + bytes <= emu_now->smem + running->block->grid->kernel.smem;
}

void emu_cp_async(void *smem, const void *gmem, int bytes, bool valid, const char *file, int line)
{
    if ((uintptr_t)smem % (unsigned)bytes || (uintptr_t)gmem % (unsigned)bytes)
        emu_wrong(file, line, "cp.async from %p to %p is not aligned to its %d bytes", gmem, smem,
                  bytes);
    if (!in_smem(smem, bytes))
        emu_wrong(file, line, "cp.async outside the block's shared memory (byte %td of %zu)",
                  (uint8_t *)smem - emu_now->smem, running->block->grid->kernel.smem);
    memset(smem, POISON, (size_t)bytes);
    running->copies.push_back({smem, valid ? gmem : nullptr, (size_t)bytes});
}

void emu_cp_async_commit()
{
    running->group_ends.push_back(running->copies.size());
}

void emu_cp_async_wait(int groups)
{
    lane *l = running;
    if (l->group_ends.size() <= (size_t)groups)
        return;
    size_t done = l->group_ends.size() - (size_t)groups, copies = l->group_ends[done - 1];
    for (size_t i = 0; i < copies; i++) {
        if (l->copies[i].from)
            memcpy(l->copies[i].to, l->copies[i].from, l->copies[i].bytes);
        else
            memset(l->copies[i].to, 0, l->copies[i].bytes);
    }
    l->copies.erase(l->copies.begin(), l->copies.begin() + (long)copies);
    l->group_ends.erase(l->group_ends.begin(), l->group_ends.begin() + (long)done);
    for (size_t &end : l->group_ends)
        end -= copies;
}

static float bf16(uint32_t pair, int high)
{
    return emu_bits<float>(high ? pair & 0xffff0000u : pair << 16);
}

/* Sums in the order of k, in float. */
void emu_combine_mma(void *const io[32], uint32_t)
{
    float a[16][16], b[16][8], c[16][8];
    for (int i = 0; i < WARP; i++) {
        const emu_mma *m = (const emu_mma *)io[i];
        if (!m)
            emu_wrong(__FILE__, __LINE__, "mma without lane %d, which has ended", i);
        int g = i / 4, t = i % 4 * 2;
        for (int h = 0; h < 2; h++) {
            a[g][t + h] = bf16(m->a[0], h);
            a[g + 8][t + h] = bf16(m->a[1], h);
            a[g][t + 8 + h] = bf16(m->a[2], h);
            a[g + 8][t + 8 + h] = bf16(m->a[3], h);
            b[t + h][g] = bf16(m->b[0], h);
            b[t + 8 + h][g] = bf16(m->b[1], h);
            c[g][t + h] = m->c[h];
            c[g + 8][t + h] = m->c[2 + h];
        }
    }
    for (int k = 0; k < 16; k++)
        for (int r = 0; r < 16; r++)
            for (int n = 0; n < 8; n++)
                c[r][n] += a[r][k] * b[k][n];
    for (int i = 0; i < WARP; i++) {
        float *out = ((emu_mma *)io[i])->c;
        int g = i / 4, t = i % 4 * 2;
        for (int h = 0; h < 2; h++) {
            out[h] = c[g][t + h];
            out[2 + h] = c[g + 8][t + h];
        }
    }
}

struct rows {
    uint32_t *r;
    const uint8_t *row;
    int matrices;
    bool trans;
};

static void combine_ldmatrix(void *const io[32], uint32_t)
{
    int matrices = ((const rows *)io[running->place.lane])->matrices;
    for (int i = 0; i < matrices; i++) {
        uint16_t m[8][8];
        for (int row = 0; row < 8; row++) {
            if (!io[8 * i + row])
                emu_wrong(__FILE__, __LINE__, "ldmatrix without lane %d, which has ended",
                          8 * i + row);
            memcpy(m[row], ((const rows *)io[8 * i + row])->row, 16);
        }
        for (int l = 0; l < WARP; l++) {
            rows *o = (rows *)io[l];
            if (!o)
                continue;
            int g = l / 4, t = l % 4 * 2;
            uint32_t lo = o->trans ? m[t][g] : m[g][t], hi = o->trans ? m[t + 1][g] : m[g][t + 1];
            o->r[i] = lo | hi << 16;
        }
    }
}

void emu_ldmatrix(uint32_t *r, const void *smem, int matrices, bool trans, const char *file,
                  int line)
{
    if ((int)emu_now->lane < 8 * matrices) {
        emu_check_16(smem, file, line);
        if (!in_smem(smem, 16))
            emu_wrong(file, line, "ldmatrix outside the block's shared memory (byte %td of %zu)",
                      (const uint8_t *)smem - emu_now->smem, running->block->grid->kernel.smem);
    }
    rows m = {r, (const uint8_t *)smem, matrices, trans};
    emu_collective(EMU_ALL, combine_ldmatrix, &m, file, line);
}

/* ---- blocks and grids ---- */

static block *block_start(emu_grid *g, size_t number)
{
    block *b = new block();
    const emu_kernel *k = &g->kernel;
    b->grid = g;
    size_t bytes = k->smem ? k->smem : 1;
    if (posix_memalign(&b->smem_raw, 128, bytes))
        abort();
    b->smem = (uint8_t *)b->smem_raw;
    memset(b->smem, POISON, bytes);
    unsigned threads = k->block.x * k->block.y * k->block.z;
    b->lanes.resize(threads);
    b->live = (int)threads;
    b->flip = (int)(draw(g) % WARP);
    for (unsigned i = 0; i < threads; i++) {
        lane *l = &b->lanes[i];
        l->block = b;
        l->index = (int)i;
        l->place.thread =
            make_uint3(i % k->block.x, i / k->block.x % k->block.y, i / (k->block.x * k->block.y));
        l->place.block =
            make_uint3((unsigned)(number % k->grid.x), (unsigned)(number / k->grid.x % k->grid.y),
                       (unsigned)(number / k->grid.x / k->grid.y));
        l->place.block_dim = k->block;
        l->place.grid_dim = k->grid;
        l->place.smem = b->smem;
        l->place.lane = i % WARP;
        b->alive[i / WARP] |= 1u << i % WARP;
        lane_start(l);
    }
    return b;
}

static void block_end(block *b)
{
    for (lane &l : b->lanes)
        stack_put(&l);
    free(b->smem_raw);
    delete b;
}

/* A thread has ended: those that wait only for it go on. */
static void after_end(block *b, lane *l)
{
    b->live--;
    b->grid->ended++;
    for (int id = 0; id < BARRIERS; id++)
        if (b->barriers[id].threads == 0 && barrier_full(b, &b->barriers[id]))
            open_barrier(b, id);
    int warp = l->index / WARP;
    b->alive[warp] &= ~(1u << l->place.lane);
    for (uint32_t rest = b->alive[warp]; rest; rest &= rest - 1) {
        lane *o = &b->lanes[(size_t)(warp * WARP + __builtin_ctz(rest))];
        if (o->state == LANE_COLLECTIVE && o->mask >> l->place.lane & 1) {
            leave_collective(o);
            o->look_again = true;
        }
    }
}

/* Runs a warp until all its lanes wait or a barrier opened. True: somebody ran. */
static bool warp_run(block *b, size_t first)
{
    bool ran = false, again = true;
    b->released = false;
    while (again && !b->grid->failed && !b->released) {
        again = false;
        for (int i = 0; i < WARP && !b->grid->failed; i++) {
            size_t at = first + (size_t)(i ^ b->flip);
            if (at >= b->lanes.size() || b->lanes[at].state != LANE_READY)
                continue;
            lane *l = &b->lanes[at];
            to_lane(l);
            if (l->state == LANE_ENDED)
                after_end(b, l);
            ran = again = true;
        }
    }
    return ran;
}

enum round { ROUND_RAN, ROUND_YIELDED, ROUND_HELD, ROUND_ENDED };

/* Each warp of the block once. */
static enum round block_round(block *b)
{
    emu_grid *g = b->grid;
    size_t warps = (b->lanes.size() + WARP - 1) / WARP, order[32];
    for (size_t i = 0; i < warps; i++) {
        size_t j = draw(g) % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    bool ran = false, yielded = false, held = false;
    for (size_t i = 0; i < warps && !g->failed; i++)
        ran |= warp_run(b, order[i] * WARP);
    for (lane &l : b->lanes) {
        if (l.state == LANE_YIELDED) {
            l.state = LANE_READY;
            yielded = true;
        }
        held |= l.state == LANE_PDL;
    }
    if (b->live == 0)
        return ROUND_ENDED;
    if (yielded)
        return ROUND_YIELDED;
    if (!ran && !held && !g->failed)
        mistake(g, "threads wait for others that do not come; block " +
                       std::to_string(b->lanes[0].place.block.x) + waiting_text(b));
    return ran ? ROUND_RAN : ROUND_HELD;
}

/* Runs a block until it ended, spins or is held. */
static enum round block_run(block *b)
{
    enum round r = ROUND_RAN;
    while (r == ROUND_RAN && !b->grid->failed)
        r = block_round(b);
    return r;
}

emu_grid_ptr emu_grid_start(const emu_kernel &k, const emu_limits &limits, uint64_t seed)
{
    emu_grid *g = new emu_grid();
    g->kernel = k;
    g->random = seed;
    g->total = (size_t)k.grid.x * k.grid.y * k.grid.z;
    size_t threads = (size_t)k.block.x * k.block.y * k.block.z;
    size_t per_sm = std::min<size_t>(2048 / threads, limits.smem_sm / (k.smem + 1024));
    g->open_max = std::max<size_t>(1, std::min<size_t>(per_sm, 32)) * (size_t)limits.sms;
    g->order.resize(g->total);
    for (size_t i = 0; i < g->total; i++)
        g->order[i] = i;
    if (g->total <= g->open_max) /* all at once on the card: any order */
        for (size_t i = 1; i < g->total; i++)
            std::swap(g->order[i], g->order[draw(g) % (i + 1)]);
    return emu_grid_ptr(g);
}

void emu_grid_deleter::operator()(emu_grid *g) const
{
    for (block *b : g->open)
        block_end(b);
    delete g;
}

bool emu_grid_prologue(emu_grid *g)
{
    g->holding = true;
    while (g->open.size() < g->open_max && g->next < g->total && !g->failed) {
        block *b = block_start(g, g->order[g->next++]);
        if (block_run(b) == ROUND_ENDED)
            block_end(b);
        else
            g->open.push_back(b);
    }
    g->holding = false;
    return !g->failed;
}

bool emu_grid_finish(emu_grid *g)
{
    for (block *b : g->open)
        for (lane &l : b->lanes)
            if (l.state == LANE_PDL)
                l.state = LANE_READY;
    uint64_t stalled = 0, ended = g->ended;
    while (!g->failed && (g->next < g->total || !g->open.empty())) {
        if (g->open.empty())
            g->open.push_back(block_start(g, g->order[g->next++]));
        bool all_spin = true;
        for (size_t i = 0; i < g->open.size() && !g->failed; i++) {
            if (block_run(g->open[i]) != ROUND_ENDED)
                continue;
            block_end(g->open[i]);
            g->open.erase(g->open.begin() + (long)i--);
            all_spin = false;
        }
        if (all_spin && g->open.size() < g->open_max && g->next < g->total)
            g->open.push_back(block_start(g, g->order[g->next++]));
        stalled = g->ended == ended ? stalled + 1 : 0;
        ended = g->ended;
        if (stalled > STALL_ROUNDS)
            mistake(g, "blocks spin for ever; the first" + waiting_text(g->open[0]));
    }
    return !g->failed;
}

const std::string &emu_grid_mistake(const emu_grid *g)
{
    return g->mistake;
}
