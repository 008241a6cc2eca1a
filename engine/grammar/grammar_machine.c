#include "engine/grammar/grammar_machine.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "engine/grammar/grammar_mask.h"
#include "engine/grammar/grammar_plain.h"
#include "engine/grammar/grammar_state.h"

enum status grammar_machine_create(const struct grammar *g, struct grammar_machine **out)
{
    struct grammar_machine *m = mem_calloc(1, sizeof *m);
    if (!m)
        return STATUS_NO_MEMORY;
    m->g = g;
    m->frame_of = mem_calloc(g->code_count, sizeof *m->frame_of);
    m->frame_of_set = mem_calloc(g->code_count, sizeof *m->frame_of_set);
    m->seen_slots = m->table_slots = 1024;
    m->seen = mem_calloc(m->seen_slots, sizeof *m->seen);
    m->table = mem_calloc(m->table_slots, sizeof *m->table);
    m->work_end = UINT64_MAX;
    if (!m->frame_of || !m->frame_of_set || !m->seen || !m->table ||
        !VEC_RESERVE(m->frames, m->frame_cap, 2) || !VEC_RESERVE(m->sets, m->set_cap, 2)) {
        grammar_machine_destroy(m);
        return STATUS_NO_MEMORY;
    }
    memset(m->frames, 0, 2 * sizeof *m->frames);
    memset(m->sets, 0, 2 * sizeof *m->sets);
    m->frame_count = m->set_count = 2;
    *out = m;
    return STATUS_OK;
}

void grammar_machine_destroy(struct grammar_machine *m)
{
    if (!m)
        return;
    grammar_masks_destroy(m->masks);
    mem_free(m->items);
    mem_free(m->sets);
    mem_free(m->frames);
    mem_free(m->nexts);
    mem_free(m->plains);
    mem_free(m->table);
    mem_free(m->list);
    mem_free(m->seen);
    mem_free(m->gone);
    mem_free(m->gone_frame);
    mem_free(m->kernel);
    mem_free(m->frame_of);
    mem_free(m->frame_of_set);
    mem_free(m);
}

size_t grammar_machine_bytes(const struct grammar_machine *m)
{
    return sizeof *m + m->item_cap * sizeof *m->items + m->set_cap * sizeof *m->sets +
           m->frame_cap * sizeof *m->frames + m->next_cap * sizeof *m->nexts +
           m->plain_cap * sizeof *m->plains + m->table_slots * sizeof *m->table +
           m->seen_slots * sizeof *m->seen + m->g->code_count * 2 * sizeof *m->frame_of;
}

/* ---- items ---- */

static int by_item(const void *x, const void *y)
{
    const struct grammar_item *a = x, *b = y;
    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    if (a->frame != b->frame)
        return a->frame < b->frame ? -1 : 1;
    return a->count < b->count ? -1 : a->count > b->count;
}

static bool same_item(const struct grammar_item *a, const struct grammar_item *b)
{
    return a->at == b->at && a->frame == b->frame && a->count == b->count;
}

static uint32_t hash_item(uint32_t h, const struct grammar_item *it)
{
    h = (h ^ it->at) * 0x9E3779B1u;
    h = (h ^ h >> 15 ^ it->frame) * 0x85EBCA77u;
    h = (h ^ h >> 13 ^ it->count) * 0xC2B2AE3Du;
    return h ^ h >> 16;
}

/* ---- the list of a closure: each item once ---- */

static void list_clear(struct grammar_machine *m)
{
    if (m->list_count > m->seen_slots / 8)
        memset(m->seen, 0, m->seen_slots * sizeof *m->seen);
    else
        for (size_t i = 0; i < m->list_count; i++) {
            size_t mask = m->seen_slots - 1, at = hash_item(0, &m->list[i]) & mask;
            /* Whatever stands in the run of a slot belongs to this list too. */
            for (; m->seen[at] != 0; at = (at + 1) & mask)
                m->seen[at] = 0;
        }
    m->list_count = 0;
}

static enum status seen_grow(struct grammar_machine *m)
{
    size_t slots = m->seen_slots * 4, mask = slots - 1;
    uint32_t *seen = mem_calloc(slots, sizeof *seen);
    if (!seen)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < m->list_count; i++) {
        size_t at = hash_item(0, &m->list[i]) & mask;
        while (seen[at] != 0)
            at = (at + 1) & mask;
        seen[at] = (uint32_t)i + 1;
    }
    mem_free(m->seen);
    m->seen = seen;
    m->seen_slots = slots;
    return STATUS_OK;
}

/* Adds an item that is not there yet and can be finished in the levels that are left. `rise` is
 * raised to the level it needs. */
static enum status add(struct grammar_machine *m, uint32_t at, uint32_t count, uint32_t frame,
                       uint16_t *rise)
{
    uint16_t need = m->g->need[at];
    if (need == GRAMMAR_NEED_NEVER)
        return STATUS_OK;
    uint32_t level = (uint32_t)m->frames[frame].depth + need;
    if (level > LIMIT_GRAMMAR_DEPTH) {
        *rise = UINT16_MAX;
        return STATUS_OK;
    }
    *rise = level > *rise ? (uint16_t)level : *rise;
    struct grammar_item it = {at, count, frame};
    size_t mask = m->seen_slots - 1, slot = hash_item(0, &it) & mask;
    for (; m->seen[slot] != 0; slot = (slot + 1) & mask)
        if (same_item(&m->list[m->seen[slot] - 1], &it))
            return STATUS_OK;
    if (m->list_count >= LIMIT_GRAMMAR_ITEMS || ++m->work > m->work_end)
        return STATUS_LIMIT;
    if (!VEC_RESERVE(m->list, m->list_cap, m->list_count + 1))
        return STATUS_NO_MEMORY;
    m->list[m->list_count++] = it;
    m->seen[slot] = (uint32_t)m->list_count;
    return m->list_count * 2 > m->seen_slots ? seen_grow(m) : STATUS_OK;
}

/* ---- closure ---- */

struct closure {
    uint32_t set;
    uint32_t frames; /* the first frame that this set makes */
    uint16_t rise;
    bool accepts;
    bool escapes;
};

static enum status remember_return(struct grammar_machine *m, uint32_t frame,
                                   struct grammar_item it)
{
    if (!VEC_RESERVE(m->gone, m->gone_cap, m->gone_count + 1) ||
        !VEC_RESERVE(m->gone_frame, m->gone_frame_cap, m->gone_count + 1))
        return STATUS_NO_MEMORY;
    m->gone[m->gone_count] = it;
    m->gone_frame[m->gone_count++] = frame;
    return STATUS_OK;
}

/* A call of `body` whose return goes on with `back`. */
static enum status call(struct grammar_machine *m, struct closure *c, uint32_t body,
                        struct grammar_item back)
{
    uint16_t depth = (uint16_t)(m->frames[back.frame].depth + 1);
    uint32_t frame = m->frame_of[body];
    if (m->g->need[body] == GRAMMAR_NEED_NEVER)
        return STATUS_OK;
    if (m->frame_of_set[body] != c->set) {
        if (!VEC_RESERVE(m->frames, m->frame_cap, m->frame_count + 1))
            return STATUS_NO_MEMORY;
        frame = (uint32_t)m->frame_count++;
        m->frames[frame] = (struct grammar_frame){.depth = depth};
        m->frame_of[body] = frame;
        m->frame_of_set[body] = c->set;
    } else if (depth < m->frames[frame].depth) {
        m->frames[frame].depth = depth;
    }
    enum status st = remember_return(m, frame, back);
    return st == STATUS_OK ? add(m, body, 0, frame, &c->rise) : st;
}

static enum status returned(struct grammar_machine *m, struct closure *c, uint32_t frame)
{
    enum status st = STATUS_OK;
    if (frame == GRAMMAR_FRAME_ROOT)
        c->accepts = true;
    else if (frame == GRAMMAR_FRAME_OPEN)
        c->escapes = true;
    else if (frame < c->frames) /* else without a byte: the caller went on already */
        for (uint32_t i = 0; st == STATUS_OK && i < m->frames[frame].return_count; i++) {
            struct grammar_item it = m->items[m->frames[frame].returns + i];
            m->work++;
            st = add(m, it.at, it.count, it.frame, &c->rise);
        }
    return st;
}

static enum status close_count(struct grammar_machine *m, struct closure *c, struct grammar_item it)
{
    const struct code *code = &m->g->code[it.at];
    const struct code_count *n = &m->g->counts[code->arg];
    enum status st = STATUS_OK;
    if (it.count >= n->min)
        st = add(m, code->next, 0, it.frame, &c->rise);
    if (st == STATUS_OK && it.count < n->max) {
        struct grammar_item back = {it.at, it.count + 1, it.frame};
        st = call(m, c, n->body, back);
    }
    return st;
}

static enum status close_call(struct grammar_machine *m, struct closure *c, struct grammar_item it)
{
    const struct code *code = &m->g->code[it.at];
    enum status st = call(m, c, code->arg, (struct grammar_item){code->next, 0, it.frame});
    if (st == STATUS_OK && m->g->code[code->arg].empty)
        st = add(m, code->next, 0, it.frame, &c->rise);
    return st;
}

static enum status close_item(struct grammar_machine *m, struct closure *c, struct grammar_item it)
{
    const struct code *code = &m->g->code[it.at];
    enum status st = STATUS_OK;
    switch ((enum code_op)code->op) {
    case CODE_RETURN:
        return returned(m, c, it.frame);
    case CODE_SPLIT:
        for (uint32_t t = 0; st == STATUS_OK && t < code->next; t++)
            st = add(m, m->g->targets[code->arg + t], 0, it.frame, &c->rise);
        return st;
    case CODE_CALL:
        return close_call(m, c, it);
    case CODE_COUNT:
        return close_count(m, c, it);
    case CODE_BYTE:
    case CODE_NEVER:
    case CODE_JUMP:
        break;
    }
    return STATUS_OK;
}

/* Puts the returns of the new frames behind each other in `items`. */
static enum status store_returns(struct grammar_machine *m, uint32_t frames)
{
    if (!VEC_RESERVE(m->items, m->item_cap, m->item_count + m->gone_count))
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < m->gone_count; i++)
        m->frames[m->gone_frame[i]].return_count++;
    uint32_t at = (uint32_t)m->item_count;
    for (size_t f = frames; f < m->frame_count; f++) {
        m->frames[f].returns = at;
        at += m->frames[f].return_count;
        m->frames[f].return_count = 0;
    }
    for (size_t i = 0; i < m->gone_count; i++) {
        struct grammar_frame *f = &m->frames[m->gone_frame[i]];
        m->items[f->returns + f->return_count++] = m->gone[i];
    }
    m->item_count = at;
    return STATUS_OK;
}

static enum status store_scan(struct grammar_machine *m, struct grammar_set *s)
{
    if (!VEC_RESERVE(m->items, m->item_cap, m->item_count + m->list_count))
        return STATUS_NO_MEMORY;
    s->scan = (uint32_t)m->item_count;
    for (size_t i = 0; i < m->list_count; i++)
        if (m->g->code[m->list[i].at].op == CODE_BYTE)
            m->items[m->item_count++] = m->list[i];
    s->scan_count = (uint32_t)m->item_count - s->scan;
    return STATUS_OK;
}

static enum status close_set(struct grammar_machine *m, uint32_t id, struct grammar_set *s)
{
    struct closure c = {.set = id, .frames = (uint32_t)m->frame_count};
    enum status st = STATUS_OK;
    list_clear(m);
    m->gone_count = 0;
    for (uint32_t i = 0; st == STATUS_OK && i < s->kernel_count; i++) {
        struct grammar_item it = m->items[s->kernel + i];
        uint16_t depth = m->frames[it.frame].depth;
        s->depth = depth > s->depth ? depth : s->depth;
        st = add(m, it.at, it.count, it.frame, &c.rise);
    }
    for (size_t i = 0; st == STATUS_OK && i < m->list_count; i++)
        st = close_item(m, &c, m->list[i]);
    if (st == STATUS_OK)
        st = store_returns(m, c.frames);
    if (st == STATUS_OK)
        st = store_scan(m, s);
    s->rise = c.rise;
    s->accepts = c.accepts;
    s->escapes = c.escapes;
    if (st != STATUS_OK) {
        m->frame_count = c.frames;
        memset(m->frame_of_set, 0, m->g->code_count * sizeof *m->frame_of_set);
    }
    return st;
}

/* ---- sets ---- */

static enum status table_grow(struct grammar_machine *m)
{
    size_t slots = m->table_slots * 2, mask = slots - 1;
    uint32_t *table = mem_calloc(slots, sizeof *table);
    if (!table)
        return STATUS_NO_MEMORY;
    for (size_t i = 2; i < m->set_count; i++) {
        size_t at = m->sets[i].hash & mask;
        while (table[at] != 0)
            at = (at + 1) & mask;
        table[at] = (uint32_t)i;
    }
    mem_free(m->table);
    m->table = table;
    m->table_slots = slots;
    return STATUS_OK;
}

static bool same_kernel(const struct grammar_machine *m, const struct grammar_set *s,
                        const struct grammar_item *items, size_t count)
{
    if (s->kernel_count != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!same_item(&m->items[s->kernel + i], &items[i]))
            return false;
    return true;
}

static enum status new_set(struct grammar_machine *m, const struct grammar_item *items,
                           size_t count, uint32_t hash, uint32_t *out)
{
    size_t classes = (size_t)m->g->class_count, item_count = m->item_count;
    if (m->set_count * 2 > m->table_slots && table_grow(m) != STATUS_OK)
        return STATUS_NO_MEMORY;
    if (!VEC_RESERVE(m->sets, m->set_cap, m->set_count + 1) ||
        !VEC_RESERVE(m->items, m->item_cap, m->item_count + count) ||
        !VEC_RESERVE(m->nexts, m->next_cap, m->next_count + classes))
        return STATUS_NO_MEMORY;
    uint32_t id = (uint32_t)m->set_count;
    struct grammar_set s = {.hash = hash,
                            .kernel = (uint32_t)m->item_count,
                            .kernel_count = (uint32_t)count,
                            .next = (uint32_t)m->next_count};
    memcpy(m->items + m->item_count, items, count * sizeof *items);
    m->item_count += count;
    memset(m->nexts + m->next_count, 0, classes * sizeof *m->nexts);
    enum status st = close_set(m, id, &s);
    if (st != STATUS_OK) {
        m->item_count = item_count;
        return st;
    }
    m->next_count += classes;
    m->sets[m->set_count++] = s;
    size_t mask = m->table_slots - 1, at = hash & mask;
    while (m->table[at] != 0)
        at = (at + 1) & mask;
    m->table[at] = id;
    *out = id;
    return STATUS_OK;
}

enum status grammar_machine_set(struct grammar_machine *m, struct grammar_item *items, size_t count,
                                uint32_t *set)
{
    size_t n = 0;
    uint32_t hash = 0;
    if (count > 1)
        qsort(items, count, sizeof *items, by_item);
    for (size_t i = 0; i < count; i++)
        if (n == 0 || !same_item(&items[n - 1], &items[i]))
            items[n++] = items[i];
    if (n == 0) {
        *set = GRAMMAR_SET_DEAD;
        return STATUS_OK;
    }
    for (size_t i = 0; i < n; i++)
        hash = hash_item(hash, &items[i]);
    size_t mask = m->table_slots - 1;
    for (size_t at = hash & mask; m->table[at] != 0; at = (at + 1) & mask) {
        const struct grammar_set *s = &m->sets[m->table[at]];
        if (s->hash == hash && same_kernel(m, s, items, n)) {
            *set = m->table[at];
            return STATUS_OK;
        }
    }
    return new_set(m, items, n, hash, set);
}

enum status grammar_machine_start(struct grammar_machine *m, uint32_t *set)
{
    struct grammar_item it = {m->g->start, 0, GRAMMAR_FRAME_ROOT};
    return grammar_machine_set(m, &it, 1, set);
}

static enum status kernel_add(struct grammar_machine *m, struct grammar_item it)
{
    if (m->kernel_count >= LIMIT_GRAMMAR_ITEMS || ++m->work > m->work_end)
        return STATUS_LIMIT;
    if (!VEC_RESERVE(m->kernel, m->kernel_cap, m->kernel_count + 1))
        return STATUS_NO_MEMORY;
    m->kernel[m->kernel_count++] = it;
    return STATUS_OK;
}

enum status grammar_machine_step(struct grammar_machine *m, uint32_t set, int c, uint32_t *next)
{
    uint32_t cell = m->sets[set].next + (uint32_t)c;
    uint32_t scan = m->sets[set].scan, scan_count = m->sets[set].scan_count;
    uint8_t byte = m->g->class_byte[c];
    enum status st = STATUS_OK;
    if (m->nexts[cell] != GRAMMAR_SET_UNKNOWN) {
        *next = m->nexts[cell];
        return STATUS_OK;
    }
    m->work += scan_count;
    m->kernel_count = 0;
    for (uint32_t i = 0; st == STATUS_OK && i < scan_count; i++) {
        struct grammar_item it = m->items[scan + i];
        const struct code *code = &m->g->code[it.at];
        if (byte < code->first || byte > code->last)
            continue;
        if (code->next != GRAMMAR_RETURN || it.frame <= GRAMMAR_FRAME_OPEN) {
            st = kernel_add(m, (struct grammar_item){code->next, 0, it.frame});
            continue;
        }
        const struct grammar_frame *f = &m->frames[it.frame];
        for (uint32_t k = 0; st == STATUS_OK && k < f->return_count; k++)
            st = kernel_add(m, m->items[f->returns + k]);
    }
    if (st == STATUS_OK)
        st = grammar_machine_set(m, m->kernel, m->kernel_count, next);
    if (st == STATUS_OK)
        m->nexts[cell] = *next;
    return st;
}

enum status grammar_machine_level(struct grammar_machine *m, uint32_t set)
{
    const struct grammar *g = m->g;
    uint16_t rise = 0;
    enum status st = STATUS_OK;
    list_clear(m);
    for (uint32_t i = 0; st == STATUS_OK && i < m->sets[set].kernel_count; i++) {
        struct grammar_item it = m->items[m->sets[set].kernel + i];
        st = add(m, it.at, it.count, it.frame, &rise);
    }
    /* Everything that is reached without a byte and without a call; what is not an item of the
     * kernel or of a return is only passed through, and harmless to keep. */
    for (size_t i = 0; st == STATUS_OK && i < m->list_count; i++) {
        struct grammar_item it = m->list[i];
        const struct code *code = &g->code[it.at];
        const struct grammar_frame *f = &m->frames[it.frame];
        if (code->op == CODE_SPLIT)
            for (uint32_t t = 0; st == STATUS_OK && t < code->next; t++)
                st = add(m, g->targets[code->arg + t], 0, it.frame, &rise);
        else if ((code->op == CODE_CALL && g->code[code->arg].empty) ||
                 (code->op == CODE_COUNT && it.count >= g->counts[code->arg].min))
            st = add(m, code->next, 0, it.frame, &rise);
        else if (code->op == CODE_RETURN && it.frame > GRAMMAR_FRAME_OPEN)
            for (uint32_t k = 0; st == STATUS_OK && k < f->return_count; k++) {
                struct grammar_item back = m->items[f->returns + k];
                st = add(m, back.at, back.count, back.frame, &rise);
            }
    }
    return st;
}

/* ---- memory ---- */

/* Frames that states still need are kept, everything else is made again when it is asked for. */
static void mark_frames(struct grammar_machine *m, uint32_t *new_of, uint32_t *queue)
{
    size_t tail = 0;
    for (struct grammar_state *s = m->first; s; s = s->next) {
        const struct grammar_set *set = &m->sets[s->set];
        for (uint32_t i = 0; i < set->kernel_count; i++) {
            uint32_t f = m->items[set->kernel + i].frame;
            if (new_of[f] == UINT32_MAX) {
                new_of[f] = 0;
                queue[tail++] = f;
            }
        }
    }
    for (size_t head = 0; head < tail; head++) {
        const struct grammar_frame *f = &m->frames[queue[head]];
        for (uint32_t i = 0; i < f->return_count; i++) {
            uint32_t to = m->items[f->returns + i].frame;
            if (new_of[to] == UINT32_MAX) {
                new_of[to] = 0;
                queue[tail++] = to;
            }
        }
    }
}

struct kept {
    struct grammar_item *items; /* owned */
    size_t count, cap;
};

static enum status keep_items(const struct grammar_machine *m, struct kept *k, uint32_t from,
                              uint32_t count, const uint32_t *new_of)
{
    if (!VEC_RESERVE(k->items, k->cap, k->count + count))
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        struct grammar_item it = m->items[from + i];
        it.frame = new_of[it.frame];
        k->items[k->count++] = it;
    }
    return STATUS_OK;
}

/* Frames keep their order, so that what was older stays so. */
static enum status compact(struct grammar_machine *m, uint32_t *new_of, struct kept *k)
{
    enum status st = STATUS_OK;
    size_t frames = 2;
    new_of[0] = 0;
    new_of[1] = 1;
    for (size_t f = 2; f < m->frame_count; f++)
        if (new_of[f] != UINT32_MAX)
            new_of[f] = (uint32_t)frames++;
    for (size_t f = 2; st == STATUS_OK && f < m->frame_count; f++) {
        if (new_of[f] == UINT32_MAX)
            continue;
        struct grammar_frame frame = m->frames[f];
        uint32_t at = (uint32_t)k->count;
        st = keep_items(m, k, frame.returns, frame.return_count, new_of);
        frame.returns = at;
        m->frames[new_of[f]] = frame;
    }
    m->frame_count = frames;
    return st;
}

static enum status collect(struct grammar_machine *m)
{
    size_t states = 0;
    for (struct grammar_state *s = m->first; s; s = s->next)
        states++;
    struct kept kept = {0}, kernels = {0};
    uint32_t *new_of = mem_alloc(m->frame_count, sizeof *new_of);
    uint32_t *queue = mem_alloc(m->frame_count, sizeof *queue);
    size_t *begin = mem_calloc(states + 1, sizeof *begin);
    enum status st = new_of && queue && begin ? STATUS_OK : STATUS_NO_MEMORY;
    if (st == STATUS_OK) {
        memset(new_of, 0xFF, m->frame_count * sizeof *new_of);
        mark_frames(m, new_of, queue);
        st = compact(m, new_of, &kept);
    }
    size_t i = 0;
    for (struct grammar_state *s = m->first; st == STATUS_OK && s; s = s->next) {
        const struct grammar_set *set = &m->sets[s->set];
        st = keep_items(m, &kernels, set->kernel, set->kernel_count, new_of);
        begin[++i] = kernels.count;
    }
    mem_free(m->items);
    m->items = kept.items;
    m->item_count = kept.count;
    m->item_cap = kept.cap;
    m->set_count = 2;
    m->next_count = 0;
    m->plain_count = 0;
    memset(m->table, 0, m->table_slots * sizeof *m->table);
    memset(m->frame_of_set, 0, m->g->code_count * sizeof *m->frame_of_set);
    i = 0;
    for (struct grammar_state *s = m->first; s; s = s->next, i++) {
        s->set = GRAMMAR_SET_DEAD;
        if (st == STATUS_OK)
            st = grammar_machine_set(m, kernels.items + begin[i], begin[i + 1] - begin[i], &s->set);
    }
    mem_free(kernels.items);
    mem_free(new_of);
    mem_free(queue);
    mem_free(begin);
    return st;
}

enum status grammar_machine_begin(struct grammar_machine *m)
{
    enum status st = STATUS_OK;
    size_t used = m->item_count * sizeof *m->items + m->set_count * sizeof *m->sets +
                  m->next_count * sizeof *m->nexts + m->frame_count * sizeof *m->frames +
                  m->plain_count * sizeof *m->plains;
    m->work_end = UINT64_MAX;
    if (used > LIMIT_GRAMMAR_MACHINE_BYTES) {
        st = collect(m);
        if (st == STATUS_OK && m->item_count * sizeof *m->items > LIMIT_GRAMMAR_MACHINE_BYTES / 2)
            st = STATUS_LIMIT;
    }
    m->work_end = m->work + LIMIT_GRAMMAR_WORK;
    return st;
}
