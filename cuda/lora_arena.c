#include "cuda/lora_arena.h"

#include <string.h>

#include "engine/base/checked.h"

void lora_arena_init(struct lora_arena *a, size_t bytes)
{
    memset(a, 0, sizeof *a);
    a->bytes = bytes / LORA_ARENA_ALIGN * LORA_ARENA_ALIGN;
}

size_t lora_arena_cost(size_t bytes)
{
    size_t up;
    if (!checked_add(bytes, LORA_ARENA_ALIGN - 1, &up))
        return SIZE_MAX / LORA_ARENA_ALIGN * LORA_ARENA_ALIGN;
    return up / LORA_ARENA_ALIGN * LORA_ARENA_ALIGN;
}

size_t lora_arena_free_bytes(const struct lora_arena *a)
{
    return a->bytes - a->used;
}

/* Hole i lies before extent i; hole `count` is behind the last one. */
static size_t hole_begin(const struct lora_arena *a, int i)
{
    return i == 0 ? 0 : a->extents[i - 1].offset + a->extents[i - 1].bytes;
}

static size_t hole_bytes(const struct lora_arena *a, int i)
{
    size_t end = i == a->count ? a->bytes : a->extents[i].offset;
    return end - hole_begin(a, i);
}

/* Holes [first, last], joined by moving the extents between them. */
struct window {
    int first;
    int last;
    size_t moved;
    size_t holes;
};

/* The window that moves fewest bytes; of those the one with the least room, so that large holes
 * stay whole (best fit); of those the first. Free bytes suffice, so there is one. */
static struct window best_window(const struct lora_arena *a, size_t bytes)
{
    struct window best = {.moved = SIZE_MAX};
    for (int first = 0; first <= a->count; first++) {
        struct window w = {.first = first, .last = first, .holes = hole_bytes(a, first)};
        while (w.holes < bytes && w.last < a->count) {
            w.moved += a->extents[w.last].bytes;
            w.holes += hole_bytes(a, ++w.last);
        }
        bool less = w.moved < best.moved || (w.moved == best.moved && w.holes < best.holes);
        if (w.holes >= bytes && less)
            best = w;
    }
    CHECK(best.moved != SIZE_MAX);
    return best;
}

enum status lora_arena_place(struct lora_arena *a, int slot, size_t bytes, size_t *offset,
                             struct lora_move moves[LIMIT_ADAPTER_SLOTS], int *move_count)
{
    size_t cost = lora_arena_cost(bytes);
    CHECK(bytes > 0);
    for (int i = 0; i < a->count; i++)
        CHECK(a->extents[i].slot != slot);
    if (cost > lora_arena_free_bytes(a))
        return STATUS_NO_MEMORY;
    CHECK(a->count < LIMIT_ADAPTER_SLOTS);
    struct window w = best_window(a, cost);
    size_t to = hole_begin(a, w.first);
    int count = 0;
    for (int i = w.first; i < w.last; i++) {
        struct lora_extent *x = &a->extents[i];
        if (x->offset != to)
            moves[count++] = (struct lora_move){x->slot, x->offset, to, x->bytes};
        x->offset = to;
        to += x->bytes;
    }
    memmove(&a->extents[w.last + 1], &a->extents[w.last],
            (size_t)(a->count - w.last) * sizeof a->extents[0]);
    a->extents[w.last] = (struct lora_extent){.offset = to, .bytes = cost, .slot = slot};
    a->count++;
    a->used += cost;
    *offset = to;
    *move_count = count;
    return STATUS_OK;
}

void lora_arena_drop(struct lora_arena *a, int slot)
{
    int i = 0;
    while (i < a->count && a->extents[i].slot != slot)
        i++;
    if (i == a->count)
        return;
    a->used -= a->extents[i].bytes;
    a->count--;
    memmove(&a->extents[i], &a->extents[i + 1], (size_t)(a->count - i) * sizeof a->extents[0]);
}
