#include "cuda/cuda_slots.h"

#include <string.h>

#include "cuda/cuda_adapter.h"
#include "cuda/cuda_error.h"
#include "cuda/k_dora.h"
#include "cuda/stack_shape.h"
#include "engine/base/mem.h"

#define MIB(bytes) ((double)(bytes) / (1 << 20))

/* Pointers in a packed image's tables count from here. */
#define PACK_BASE ((uint64_t)1 << 32)

/* 195 MB pass through it with 200 copies of some us each. */
#define BOUNCE_BYTES ((size_t)2 << 20)

struct slot_image {
    struct backend_image base; /* first */
    struct lora_stack *table;  /* owned, [STACK_COUNT(L)] with pointers from PACK_BASE on */
    struct lora_embed embed;   /* likewise */
    uint8_t *dora;             /* owned, [STACK_COUNT(L)] cuda_adapter_dora */
    uint8_t *bytes;            /* owned, [byte_count] */
    size_t byte_count;         /* 0: the adapter changes nothing */
};

static const struct slot_image *slot_image_of(const struct backend_image *image)
{
    return (const struct slot_image *)image;
}

static int stacks_of(const struct cuda_backend *c)
{
    return STACK_COUNT(c->w.shape.layers);
}

static struct lora_stack *table_of(const struct cuda_backend *c, int slot)
{
    return c->slots.table + (size_t)slot * (size_t)stacks_of(c);
}

/* Sends a slot's tables behind what is in the stream, from a pinned copy: a copy from other memory
 * may wait for the stream. */
static enum status send_tables(struct cuda_backend *c, int slot, struct err *e)
{
    static const char what[] = "adapter tables";
    struct cuda_slots *s = &c->slots;
    struct cuda_table_copy *copy = &s->copies[s->copy_next];
    const size_t stacks = (size_t)stacks_of(c), bytes = stacks * sizeof *s->table;
    cudaError_t code = copy->used ? cudaEventQuery(copy->sent) : cudaSuccess;
    if (code == cudaErrorNotReady)
        code = cudaEventSynchronize(copy->sent);
    if (code != cudaSuccess)
        return cuda_backend_check(c, code, what, e);
    s->copy_next = (s->copy_next + 1) % SLOTS_COPIES;
    memcpy(copy->host, table_of(c, slot), bytes);
    memcpy((char *)copy->host + bytes, s->embeds + slot, sizeof *s->embeds);
    code = cudaMemcpyAsync(c->ws.table + (size_t)slot * stacks, copy->host, bytes,
                           cudaMemcpyHostToDevice, c->stream);
    if (code == cudaSuccess)
        code = cudaMemcpyAsync(c->ws.embeds + slot, (char *)copy->host + bytes, sizeof *s->embeds,
                               cudaMemcpyHostToDevice, c->stream);
    if (code == cudaSuccess)
        code = cudaEventRecord(copy->sent, c->stream);
    copy->used = code == cudaSuccess;
    return cuda_backend_check(c, code, what, e);
}

static enum status init_copies(struct cuda_backend *c, struct err *e)
{
    static const char what[] = "pinned memory for adapter tables";
    struct cuda_slots *s = &c->slots;
    size_t bytes = (size_t)stacks_of(c) * sizeof *s->table + sizeof *s->embeds;
    enum status st = STATUS_OK;
    for (int i = 0; i < SLOTS_COPIES && st == STATUS_OK; i++) {
        st = cuda_error(cudaMallocHost(&s->copies[i].host, bytes), what, e);
        if (st == STATUS_OK)
            st = cuda_error(cudaEventCreateWithFlags(&s->copies[i].sent, cudaEventDisableTiming),
                            what, e);
    }
    return st;
}

enum status cuda_slots_init(struct cuda_backend *c, struct err *e)
{
    size_t slots = (size_t)c->plan.slots_max;
    struct cuda_slots *s = &c->slots;
    lora_arena_init(&s->arena, c->memory.arena);
    s->table = mem_calloc(slots * (size_t)stacks_of(c), sizeof *s->table);
    s->embeds = mem_calloc(slots, sizeof *s->embeds);
    s->gain = mem_calloc(slots, sizeof *s->gain);
    s->reach = mem_calloc(slots, sizeof *s->reach);
    s->filled = mem_calloc(slots, sizeof *s->filled);
    if (!s->table || !s->embeds || !s->gain || !s->reach || !s->filled)
        return err_set(e, STATUS_NO_MEMORY, "model", "out of memory for the adapter tables");
    enum status st = init_copies(c, e);
    if (st == STATUS_OK)
        st = cuda_error(cudaMalloc(&s->bounce, BOUNCE_BYTES), "memory for moving adapters", e);
    return st == STATUS_OK ? cuda_send_init(&s->send, e) : st;
}

void cuda_slots_deinit(struct cuda_backend *c)
{
    struct cuda_slots *s = &c->slots;
    cuda_send_deinit(&s->send);
    for (int i = 0; i < SLOTS_COPIES; i++) {
        if (s->copies[i].sent)
            (void)cudaEventDestroy(s->copies[i].sent);
        (void)cudaFreeHost(s->copies[i].host);
    }
    (void)cudaFree(s->bounce);
    mem_free(s->table);
    mem_free(s->embeds);
    mem_free(s->gain);
    mem_free(s->reach);
    mem_free(s->filled);
    *s = (struct cuda_slots){0};
}

static enum status copy_within(struct cuda_backend *c, void *to, const void *from, size_t n,
                               struct err *e)
{
    return cuda_backend_check(c, cudaMemcpyAsync(to, from, n, cudaMemcpyDeviceToDevice, c->stream),
                              "moving an adapter", e);
}

/* Moves an extent down, through the bounce buffer where it overlaps its destination. */
static enum status move_extent(struct cuda_backend *c, const struct lora_move *m, struct err *e)
{
    char *base = c->arena_mem;
    const bool overlaps = m->from - m->to < m->bytes;
    const size_t most = overlaps ? BOUNCE_BYTES : m->bytes;
    enum status st = STATUS_OK;
    CHECK(m->to < m->from);
    for (size_t at = 0; at < m->bytes && st == STATUS_OK; at += most) {
        size_t n = m->bytes - at < most ? m->bytes - at : most;
        char *to = base + m->to + at, *from = base + m->from + at;
        if (overlaps)
            st = copy_within(c, c->slots.bounce, from, n, e);
        if (st == STATUS_OK)
            st = copy_within(c, to, overlaps ? c->slots.bounce : from, n, e);
    }
    if (st != STATUS_OK)
        return st;
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

/* Turns the magnitudes in the image, which lies at `place`, into gains; beside the steps. */
static enum status make_gains(struct cuda_backend *c, const struct slot_image *image,
                              uint64_t place, struct err *e)
{
    bool any = false;
    for (int stack = 0; stack < stacks_of(c); stack++) {
        unsigned modules = image->dora[stack];
        if (!modules)
            continue;
        struct stack_shape shape;
        struct lora_embed none = {.rank = 0};
        stack_shape_init(&c->w.shape, stack, &shape);
        struct dora_args a = {.w = *cuda_weights_stack(&c->w, stack),
                              .stack = image->table[stack],
                              .interleaved = shape.interleaved,
                              .modules = modules};
        memcpy(a.module_tile, shape.module_tile, sizeof a.module_tile);
        cuda_adapter_rebase(&a.stack, 1, &none, PACK_BASE, place);
        enum status st = cuda_dora(&a, c->slots.send.stream);
        if (st != STATUS_OK)
            return err_set(e, st, "adapter", "a DoRA kernel was not launched: %s", status_code(st));
        any = true;
    }
    return any ? cuda_send_wait(&c->slots.send, e) : STATUS_OK;
}

static bool has_gains(const struct cuda_backend *c, const struct slot_image *image)
{
    for (int stack = 0; stack < stacks_of(c); stack++)
        if (image->dora[stack])
            return true;
    return false;
}

static enum bucket_adapters reach_of(const struct lora_stack *table, int stacks)
{
    enum bucket_adapters reach = ADAPTERS_NONE;
    for (int stack = 0; stack < stacks; stack++) {
        if (table[stack].rank_tiles == 0)
            continue;
        if (stack == stacks - 1 || stack % STACK_KINDS != STACK_QKV)
            return ADAPTERS_ANY;
        reach = ADAPTERS_ATTN_IN;
    }
    return reach;
}

static void forget(struct cuda_backend *c, int slot)
{
    memset(table_of(c, slot), 0, (size_t)stacks_of(c) * sizeof *c->slots.table);
    c->slots.embeds[slot] = (struct lora_embed){0};
    c->slots.gain[slot] = 0;
    c->slots.reach[slot] = ADAPTERS_NONE;
    c->slots.filled[slot] = 0;
    lora_arena_drop(&c->slots.arena, slot);
}

size_t cuda_slots_bytes(const struct backend *b, const struct lora *l)
{
    const struct cuda_backend *c = (const struct cuda_backend *)b;
    return lora_arena_cost(cuda_adapter_bytes(l, &c->w.shape, cuda_has_codes(c)));
}

size_t cuda_slots_room(const struct backend *b)
{
    return ((const struct cuda_backend *)b)->slots.arena.bytes;
}

/* ---- loading, in its parts ---- */

void cuda_slots_image_free(struct backend_image *image)
{
    struct slot_image *i = (struct slot_image *)image;
    mem_free(i->table);
    mem_free(i->dora);
    mem_free(i->bytes);
    mem_free(i);
}

static bool make_image(struct slot_image *i, size_t stacks)
{
    i->table = mem_calloc(stacks, sizeof *i->table);
    i->dora = mem_calloc(stacks, sizeof *i->dora);
    i->bytes = i->byte_count > 0 ? mem_alloc_aligned(i->byte_count) : NULL;
    return i->table && i->dora && (i->bytes || i->byte_count == 0);
}

enum status cuda_slots_pack(const struct backend *b, const struct lora *l,
                            struct backend_image **out, struct err *e)
{
    const struct cuda_backend *c = (const struct cuda_backend *)b;
    size_t stacks = (size_t)stacks_of(c);
    enum status st = STATUS_OK;
    struct slot_image *i = mem_calloc(1, sizeof *i);
    if (!i)
        return err_set(e, STATUS_NO_MEMORY, "adapter", "out of memory while packing an adapter");
    i->byte_count = cuda_adapter_bytes(l, &c->w.shape, cuda_has_codes(c));
    i->base.bytes = sizeof *i + stacks * (sizeof *i->table + 1) + i->byte_count;
    if (!make_image(i, stacks))
        st = err_set(e, STATUS_NO_MEMORY, "adapter", "out of memory while packing an adapter");
    for (size_t k = 0; k < stacks && st == STATUS_OK; k++)
        i->dora[k] = (uint8_t)cuda_adapter_dora(l, &c->w.shape, (int)k);
    if (st == STATUS_OK && i->byte_count > 0)
        st = cuda_adapter_pack(l, &c->w.shape, cuda_has_codes(c), i->bytes, PACK_BASE, i->table,
                               &i->embed, e);
    if (st == STATUS_OK)
        *out = &i->base;
    else
        cuda_slots_image_free(&i->base);
    return st;
}

enum status cuda_slots_place(struct backend *b, int slot, const struct backend_image *image,
                             struct err *e)
{
    struct cuda_backend *c = cuda_backend_of(b);
    const struct slot_image *i = slot_image_of(image);
    CHECK(slot >= 0 && slot < c->plan.slots_max);
    if (c->lost != STATUS_OK)
        return err_set(e, c->lost, NULL, "%s", c->lost_err.msg);
    if (i->byte_count == 0)
        return STATUS_OK; /* it changes nothing: an empty table is the adapter */
    enum status st = make_room(c, slot, i->byte_count, &c->slots.sending_at, e);
    if (st == STATUS_OK)
        st = cuda_send_after(&c->slots.send, c->stream, e);
    if (st != STATUS_OK)
        forget(c, slot);
    return st;
}

enum status cuda_slots_upload(struct backend *b, int slot, const struct backend_image *image,
                              struct err *e)
{
    struct cuda_backend *c = cuda_backend_of(b);
    const struct slot_image *i = slot_image_of(image);
    CHECK(slot >= 0 && slot < c->plan.slots_max);
    if (i->byte_count == 0)
        return STATUS_OK;
    char *place = (char *)c->arena_mem + c->slots.sending_at;
    enum status st = cuda_send_bytes(&c->slots.send, c->device, place, i->bytes, i->byte_count, e);
    return st == STATUS_OK ? make_gains(c, i, (uint64_t)(uintptr_t)place, e) : st;
}

enum status cuda_slots_commit(struct backend *b, int slot, const struct backend_image *image,
                              struct err *e)
{
    struct cuda_backend *c = cuda_backend_of(b);
    const struct slot_image *i = slot_image_of(image);
    CHECK(slot >= 0 && slot < c->plan.slots_max);
    if (c->lost != STATUS_OK)
        return err_set(e, c->lost, NULL, "%s", c->lost_err.msg);
    uint64_t place = (uint64_t)(uintptr_t)((char *)c->arena_mem + c->slots.sending_at);
    memcpy(table_of(c, slot), i->table, (size_t)stacks_of(c) * sizeof *i->table);
    c->slots.embeds[slot] = i->embed;
    cuda_adapter_rebase(table_of(c, slot), stacks_of(c), c->slots.embeds + slot, PACK_BASE, place);
    enum status st = send_tables(c, slot, e);
    if (st != STATUS_OK)
        return st;
    c->slots.gain[slot] = has_gains(c, i);
    c->slots.reach[slot] = (uint8_t)reach_of(table_of(c, slot), stacks_of(c));
    c->slots.filled[slot] = 1;
    return STATUS_OK;
}

/* ---- and at once ---- */

enum status cuda_slots_load(struct backend *b, int slot, const struct lora *l, struct err *e)
{
    struct cuda_backend *c = cuda_backend_of(b);
    struct backend_image *image = NULL;
    if (c->lost != STATUS_OK)
        return err_set(e, c->lost, NULL, "%s", c->lost_err.msg);
    enum status st = cuda_slots_pack(b, l, &image, e);
    if (st != STATUS_OK)
        return st;
    st = cuda_slots_place(b, slot, image, e);
    if (st == STATUS_OK) {
        st = cuda_slots_upload(b, slot, image, e);
        if (st == STATUS_OK)
            st = cuda_slots_commit(b, slot, image, e);
        if (st != STATUS_OK)
            forget(c, slot);
    }
    cuda_slots_image_free(image);
    return st;
}

/* The device's table stays as it is: no step asks for an empty slot. */
void cuda_slots_unload(struct backend *b, int slot)
{
    struct cuda_backend *c = cuda_backend_of(b);
    CHECK(slot >= 0 && slot < c->plan.slots_max);
    forget(c, slot);
}
