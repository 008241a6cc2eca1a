#include "cuda/cuda_slots.h"

#include <string.h>

#include "cuda/cuda_adapter.h"
#include "cuda/k_dora.h"
#include "cuda/stack_shape.h"
#include "engine/base/mem.h"

#define MIB(bytes) ((double)(bytes) / (1 << 20))

static int stacks_of(const struct cuda_backend *c)
{
    return STACK_COUNT(c->w.shape.layers);
}

static struct lora_stack *table_of(const struct cuda_backend *c, int slot)
{
    return c->slots.table + (size_t)slot * (size_t)stacks_of(c);
}

/* Sends a slot's tables; the host's copy of them stays as it is until the stream has come here. */
static enum status send_tables(struct cuda_backend *c, int slot, struct err *e)
{
    size_t stacks = (size_t)stacks_of(c), at = (size_t)slot * stacks;
    enum status st = cuda_backend_check(c,
                                        cudaMemcpyAsync(c->ws.table + at, table_of(c, slot),
                                                        stacks * sizeof *c->ws.table,
                                                        cudaMemcpyHostToDevice, c->stream),
                                        "adapter tables", e);
    if (st != STATUS_OK)
        return st;
    return cuda_backend_check(c,
                              cudaMemcpyAsync(c->ws.embeds + slot, c->slots.embeds + slot,
                                              sizeof *c->ws.embeds, cudaMemcpyHostToDevice,
                                              c->stream),
                              "adapter tables", e);
}

enum status cuda_slots_init(struct cuda_backend *c, struct err *e)
{
    size_t slots = (size_t)c->plan.slots_max;
    struct cuda_slots *s = &c->slots;
    lora_arena_init(&s->arena, c->memory.arena);
    s->table = mem_calloc(slots * (size_t)stacks_of(c), sizeof *s->table);
    s->embeds = mem_calloc(slots, sizeof *s->embeds);
    s->gain = mem_calloc(slots, sizeof *s->gain);
    if (!s->table || !s->embeds || !s->gain)
        return err_set(e, STATUS_NO_MEMORY, "model", "out of memory for the adapter tables");
    return STATUS_OK; /* the workspace was zeroed: the device's tables are empty too */
}

void cuda_slots_deinit(struct cuda_backend *c)
{
    mem_free(c->slots.table);
    mem_free(c->slots.embeds);
    mem_free(c->slots.gain);
    c->slots = (struct cuda_slots){0};
}

/* Moves an extent down by parts that do not overlap their destination. */
static enum status move_extent(struct cuda_backend *c, const struct lora_move *m, struct err *e)
{
    char *base = c->arena_mem;
    size_t step = m->from - m->to;
    CHECK(m->to < m->from);
    for (size_t at = 0; at < m->bytes; at += step) {
        size_t n = m->bytes - at < step ? m->bytes - at : step;
        enum status st = cuda_backend_check(c,
                                            cudaMemcpyAsync(base + m->to + at, base + m->from + at,
                                                            n, cudaMemcpyDeviceToDevice, c->stream),
                                            "moving an adapter", e);
        if (st != STATUS_OK)
            return st;
    }
    cuda_adapter_rebase(table_of(c, m->slot), stacks_of(c), c->slots.embeds + m->slot,
                        (uint64_t)(uintptr_t)(base + m->from), (uint64_t)(uintptr_t)(base + m->to));
    return send_tables(c, m->slot, e);
}

/* Room in the arena; others may move for it. */
static enum status make_room(struct cuda_backend *c, int slot, size_t bytes, size_t *offset,
                             struct err *e)
{
    struct lora_move moves[LIMIT_ADAPTER_SLOTS];
    int count;
    enum status st = lora_arena_place(&c->slots.arena, slot, bytes, offset, moves, &count);
    if (st != STATUS_OK)
        return err_set(e, st, "adapter",
                       "The adapter takes %.1f MiB of the card's memory; %.1f of %.1f MiB for "
                       "adapters are free (--lora-arena).",
                       MIB(lora_arena_cost(bytes)), MIB(lora_arena_free_bytes(&c->slots.arena)),
                       MIB(c->slots.arena.bytes));
    for (int i = 0; st == STATUS_OK && i < count; i++)
        st = move_extent(c, &moves[i], e);
    return st;
}

/* Turns the magnitudes in the image into gains; any order of stacks. */
static enum status make_gains(struct cuda_backend *c, int slot, const struct lora *l, struct err *e)
{
    for (int stack = 0; stack < stacks_of(c); stack++) {
        unsigned modules = cuda_adapter_dora(l, &c->w.shape, stack);
        if (!modules)
            continue;
        struct stack_shape shape;
        stack_shape_init(&c->w.shape, stack, &shape);
        struct dora_args a = {.w = *cuda_weights_stack(&c->w, stack),
                              .stack = table_of(c, slot)[stack],
                              .interleaved = shape.interleaved,
                              .modules = modules};
        memcpy(a.module_tile, shape.module_tile, sizeof a.module_tile);
        enum status st = cuda_dora(&a, c->stream);
        if (st != STATUS_OK)
            return err_set(e, st, "adapter", "a DoRA kernel was not launched: %s", status_code(st));
        c->slots.gain[slot] = 1;
    }
    return STATUS_OK;
}

/* Packs the adapter and sends it to its place. */
static enum status fill(struct cuda_backend *c, int slot, const struct lora *l, size_t bytes,
                        size_t offset, struct err *e)
{
    char *place = (char *)c->arena_mem + offset;
    uint8_t *image = mem_alloc_aligned(bytes);
    if (!image)
        return err_set(e, STATUS_NO_MEMORY, "adapter", "out of memory while packing an adapter");
    enum status st = cuda_adapter_pack(l, &c->w.shape, image, (uint64_t)(uintptr_t)place,
                                       table_of(c, slot), c->slots.embeds + slot, e);
    if (st == STATUS_OK)
        st = cuda_backend_check(
            c, cudaMemcpyAsync(place, image, bytes, cudaMemcpyHostToDevice, c->stream),
            "adapter_load", e);
    if (st == STATUS_OK)
        st = make_gains(c, slot, l, e);
    if (st == STATUS_OK)
        st = send_tables(c, slot, e);
    /* The image is read until the stream has come here. */
    enum status last = cuda_backend_check(c, cudaStreamSynchronize(c->stream), "adapter_load", e);
    mem_free(image);
    return st == STATUS_OK ? last : st;
}

static void forget(struct cuda_backend *c, int slot)
{
    memset(table_of(c, slot), 0, (size_t)stacks_of(c) * sizeof *c->slots.table);
    c->slots.embeds[slot] = (struct lora_embed){0};
    c->slots.gain[slot] = 0;
    lora_arena_drop(&c->slots.arena, slot);
}

enum status cuda_slots_load(struct backend *b, int slot, const struct lora *l, struct err *e)
{
    struct cuda_backend *c = cuda_backend_of(b);
    CHECK(slot >= 0 && slot < c->plan.slots_max && c->flight_count == 0);
    if (c->lost != STATUS_OK)
        return err_set(e, c->lost, NULL, "%s", c->lost_err.msg);
    size_t bytes = cuda_adapter_bytes(l, &c->w.shape), offset;
    if (bytes == 0)
        return STATUS_OK; /* it changes nothing: the empty slot is the adapter */
    enum status st = make_room(c, slot, bytes, &offset, e);
    if (st != STATUS_OK)
        return st;
    st = fill(c, slot, l, bytes, offset, e);
    if (st != STATUS_OK)
        forget(c, slot);
    return st;
}

void cuda_slots_unload(struct backend *b, int slot)
{
    struct cuda_backend *c = cuda_backend_of(b);
    CHECK(slot >= 0 && slot < c->plan.slots_max && c->flight_count == 0);
    forget(c, slot);
    if (c->lost == STATUS_OK)
        (void)send_tables(c, slot,
                          NULL); /* a failure makes the backend lost: the next step tells */
}
