#include "engine/grammar/grammar_mask.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "engine/grammar/grammar_machine.h"

struct spot {
    uint32_t at;
    uint32_t count;
};

struct shape {
    uint32_t hash;
    struct spot *spots; /* owned, sorted */
    size_t spot_count;
    uint32_t *mask;  /* owned, [mask_words] allowed wherever this shape stands */
    uint32_t *roots; /* owned: subtrees that the surroundings decide, in order */
    size_t root_count, root_cap;
    uint32_t rise; /* levels that the tokens walked need at most */
};

/* Two sets side by side. */
struct pair {
    uint32_t one;
    uint32_t other;
};

enum {
    AGREE_BYTES = 24, /* tokens longer than this are few */
    AGREE_LEAST = 6,  /* and so many are shorter than this that a walk costs no less */
    AGREE_ENOUGH = 16,
    AGREE_PAIRS = 1024,
    AGREE_WORK = 400000, /* not to lose more than there is to be won */
    AGREE_SLOTS = 4096,
    RECENT = 4
};

struct grammar_masks {
    const struct token_trie *trie; /* borrowed: that of all shapes */
    struct shape **shapes;         /* owned */
    size_t shape_count, shape_cap;
    uint32_t *table; /* open addressing, shape + 1 */
    size_t table_slots;
    size_t bytes;
    struct spot *spots; /* scratch */
    size_t spot_count, spot_cap;
    /* Where a walk stands: sets of the path, and for each depth the node it belongs to. */
    uint32_t sets[TOKEN_TRIE_DEPTH + 1];
    uint32_t rows[TOKEN_TRIE_DEPTH + 1]; /* of m->nexts, of these sets */
    uint32_t nodes[TOKEN_TRIE_DEPTH + 1];
    bool escaped[TOKEN_TRIE_DEPTH + 1];
    uint32_t recent[RECENT]; /* shapes whose walk was long, plus 1 */
    uint32_t recent_at;
    struct pair pairs[AGREE_PAIRS];
    uint16_t pair_table[AGREE_SLOTS]; /* open addressing, index + 1 */
};

static void shape_destroy(struct shape *s)
{
    if (!s)
        return;
    mem_free(s->spots);
    mem_free(s->mask);
    mem_free(s->roots);
    mem_free(s);
}

static void forget_shapes(struct grammar_masks *k)
{
    for (size_t i = 0; i < k->shape_count; i++)
        shape_destroy(k->shapes[i]);
    k->shape_count = 0;
    k->bytes = 0;
    memset(k->recent, 0, sizeof k->recent);
    memset(k->table, 0, k->table_slots * sizeof *k->table);
}

void grammar_masks_destroy(struct grammar_masks *k)
{
    if (!k)
        return;
    forget_shapes(k);
    mem_free(k->shapes);
    mem_free(k->table);
    mem_free(k->spots);
    mem_free(k);
}

size_t grammar_masks_bytes(const struct grammar_masks *k)
{
    return k ? sizeof *k + k->bytes : 0;
}

static enum status masks_create(struct grammar_masks **out)
{
    struct grammar_masks *k = mem_calloc(1, sizeof *k);
    if (!k)
        return STATUS_NO_MEMORY;
    k->table_slots = 256;
    k->table = mem_calloc(k->table_slots, sizeof *k->table);
    if (!k->table) {
        mem_free(k);
        return STATUS_NO_MEMORY;
    }
    *out = k;
    return STATUS_OK;
}

/* ---- walking ---- */

static void deny(const struct token_trie *t, uint32_t from, uint32_t to, uint32_t *mask)
{
    for (uint32_t i = from; i < to; i++)
        for (int32_t id = t->nodes[i].token; id >= 0; id = t->same[id])
            mask[(uint32_t)id / 32] &= ~(1u << ((uint32_t)id % 32));
}

static inline void allow(const struct token_trie *t, const struct token_node *node, uint32_t *mask)
{
    int32_t id = node->token;
    if (id < 0)
        return;
    mask[(uint32_t)id / 32] |= 1u << ((uint32_t)id % 32);
    for (id = node->more ? t->same[id] : -1; id >= 0; id = t->same[id])
        mask[(uint32_t)id / 32] |= 1u << ((uint32_t)id % 32);
}

/* What every walk does at a node: the set behind its byte, in k->sets[depth]. */
static inline enum status enter_node(struct grammar_machine *m, struct grammar_masks *k,
                                     const struct token_node *node, uint32_t *set)
{
    int c = m->g->class_of[node->byte];
    *set = m->nexts[k->rows[node->depth - 1] + (uint32_t)c];
    if (*set == GRAMMAR_SET_UNKNOWN) {
        enum status st = grammar_machine_step(m, k->sets[node->depth - 1], c, set);
        if (st != STATUS_OK)
            return st;
    }
    k->sets[node->depth] = *set;
    k->rows[node->depth] = m->sets[*set].next;
    return STATUS_OK;
}

/* The path begins here. */
static void enter_root(const struct grammar_machine *m, struct grammar_masks *k, uint32_t set)
{
    k->sets[0] = set;
    k->rows[0] = m->sets[set].next;
}

/* The nodes [from, to) beneath a node whose set is in k->sets, in the real surroundings. */
static enum status walk(struct grammar_machine *m, struct grammar_masks *k,
                        const struct token_trie *t, uint32_t from, uint32_t to, uint32_t *mask)
{
    for (uint32_t i = from; i < to;) {
        const struct token_node *node = &t->nodes[i];
        uint32_t set;
        enum status st = enter_node(m, k, node, &set);
        if (st != STATUS_OK)
            return st;
        if (set == GRAMMAR_SET_DEAD) {
            i = node->end;
            continue;
        }
        allow(t, node, mask);
        i++;
    }
    return STATUS_OK;
}

static bool push_root(struct shape *s, uint32_t node)
{
    if (!VEC_RESERVE(s->roots, s->root_cap, s->root_count + 1))
        return false;
    s->roots[s->root_count++] = node;
    return true;
}

/* A shape that is known, and agrees with another one on all tokens of up to `bytes` bytes. */
struct likeness {
    const struct shape *shape; /* NULL: none */
    int bytes;
    uint32_t rise; /* of what was compared */
    size_t at;     /* next of its roots */
};

/* Takes over what a subtree of short tokens is in the other shape. */
static bool copy_roots(struct likeness *like, uint32_t from, uint32_t to, struct shape *s)
{
    const struct shape *other = like->shape;
    while (like->at < other->root_count && other->roots[like->at] < from)
        like->at++;
    for (; like->at < other->root_count && other->roots[like->at] < to; like->at++)
        if (!push_root(s, other->roots[like->at]))
            return false;
    return true;
}

/* All nodes, in open surroundings, but for those that a likeness tells: fills mask, roots and rise.
 * *visited: how many nodes were looked at. */
static enum status walk_open(struct grammar_machine *m, struct grammar_masks *k,
                             const struct token_trie *t, uint32_t start, struct likeness *like,
                             struct shape *s, uint32_t *visited)
{
    enter_root(m, k, start);
    k->escaped[0] = false; /* what may follow without a byte is in the shape */
    s->rise = m->sets[start].rise;
    int known = like->shape ? like->bytes : 0;
    if (like->shape) {
        memcpy(s->mask, like->shape->mask, t->mask_words * sizeof *s->mask);
        s->rise = like->shape->rise > s->rise ? like->shape->rise : s->rise;
        s->rise = like->rise > s->rise ? like->rise : s->rise;
    }
    for (uint32_t i = 1; i < t->node_count; ++*visited) {
        const struct token_node *node = &t->nodes[i];
        if (node->deepest <= known) {
            if (!copy_roots(like, i, node->end, s))
                return STATUS_NO_MEMORY;
            i = node->end;
            continue;
        }
        uint32_t set;
        enum status st = enter_node(m, k, node, &set);
        if (st != STATUS_OK)
            return st;
        bool escaped = k->escaped[node->depth - 1];
        if (set == GRAMMAR_SET_DEAD) {
            if (escaped && !push_root(s, i))
                return STATUS_NO_MEMORY;
            if (known > 0)
                deny(t, i, node->end, s->mask);
            i = node->end;
            continue;
        }
        const struct grammar_set *to = &m->sets[set];
        k->escaped[node->depth] = escaped || to->escapes;
        s->rise = to->rise > s->rise ? to->rise : s->rise;
        allow(t, node, s->mask);
        i++;
    }
    return STATUS_OK;
}

/* ---- likeness ---- */

/* False: it was there, or there is no room (then *full). */
static bool push_pair(struct grammar_masks *k, size_t *count, uint32_t one, uint32_t other,
                      bool *full)
{
    uint32_t hash = (one * 0x9E3779B1u) ^ (other * 0x85EBCA77u);
    size_t at = (hash ^ hash >> 15) % AGREE_SLOTS;
    for (; k->pair_table[at] != 0; at = (at + 1) % AGREE_SLOTS) {
        const struct pair *p = &k->pairs[k->pair_table[at] - 1];
        if (p->one == one && p->other == other)
            return false;
    }
    if (*count == AGREE_PAIRS) {
        *full = true;
        return false;
    }
    k->pairs[*count] = (struct pair){one, other};
    k->pair_table[at] = (uint16_t)++ * count;
    return true;
}

/* Every byte behind one pair: *same stays true while both sides live, escape or die together. */
static enum status compare(struct grammar_machine *m, struct grammar_masks *k, struct pair p,
                           size_t *count, uint32_t *rise, bool *same)
{
    for (int c = 0; *same && c < m->g->class_count; c++) {
        uint32_t one, other;
        bool full = false;
        enum status st = grammar_machine_step(m, p.one, c, &one);
        if (st == STATUS_OK)
            st = grammar_machine_step(m, p.other, c, &other);
        if (st != STATUS_OK)
            return st;
        if (one == other)
            continue;
        const struct grammar_set *a = &m->sets[one], *b = &m->sets[other];
        *same = one != GRAMMAR_SET_DEAD && other != GRAMMAR_SET_DEAD && a->escapes == b->escapes;
        if (*same && push_pair(k, count, one, other, &full))
            *rise = a->rise > *rise ? a->rise : *rise;
        *same = *same && !full;
    }
    return STATUS_OK;
}

/* How many bytes two sets agree on, whatever the bytes are; at most AGREE_BYTES. */
static enum status agree(struct grammar_machine *m, struct grammar_masks *k, uint32_t one,
                         uint32_t other, int *bytes, uint32_t *rise)
{
    size_t count = 0, at = 0;
    bool same = true, full = false;
    memset(k->pair_table, 0, sizeof k->pair_table);
    push_pair(k, &count, one, other, &full);
    *rise = 0;
    for (*bytes = 0; *bytes < AGREE_BYTES; ++*bytes) {
        for (size_t end = count; at < end; at++) {
            enum status st = compare(m, k, k->pairs[at], &count, rise, &same);
            if (st != STATUS_OK || !same)
                return st;
        }
    }
    return STATUS_OK;
}

/* ---- shapes ---- */

static int by_spot(const void *x, const void *y)
{
    const struct spot *a = x, *b = y;
    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    return a->count < b->count ? -1 : a->count > b->count;
}

/* Counts that no token can tell apart become one: each time takes a byte at least. */
static uint32_t canonical(const struct code_count *n, uint32_t count, uint32_t bytes)
{
    if (count < n->min)
        return n->min - count > bytes ? 0 : count;
    return n->max - count > bytes ? n->min : count;
}

/* The shape of a set into k->spots. */
static enum status find_spots(struct grammar_machine *m, struct grammar_masks *k,
                              const struct token_trie *t, uint32_t set)
{
    enum status st = grammar_machine_level(m, set);
    if (st != STATUS_OK)
        return st;
    if (!VEC_RESERVE(k->spots, k->spot_cap, m->list_count + 1))
        return STATUS_NO_MEMORY;
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < m->list_count; i++) {
        const struct grammar_item *it = &m->list[i];
        const struct code *code = &m->g->code[it->at];
        if (code->op == CODE_BYTE || code->op == CODE_CALL)
            k->spots[n++] = (struct spot){it->at, 0};
        else if (code->op == CODE_COUNT)
            k->spots[n++] = (struct spot){
                it->at, canonical(&m->g->counts[code->arg], it->count, (uint32_t)t->depth_max)};
    }
    if (n > 1)
        qsort(k->spots, n, sizeof *k->spots, by_spot);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || by_spot(&k->spots[kept - 1], &k->spots[i]) != 0)
            k->spots[kept++] = k->spots[i];
    k->spot_count = kept;
    return STATUS_OK;
}

static uint32_t hash_spots(const struct grammar_masks *k)
{
    uint32_t h = 0x811C9DC5u;
    for (size_t i = 0; i < k->spot_count; i++) {
        h = (h ^ k->spots[i].at) * 0x9E3779B1u;
        h = (h ^ h >> 15 ^ k->spots[i].count) * 0x85EBCA77u;
    }
    return h ^ h >> 16;
}

/* The set of a shape in open surroundings. */
static enum status open_set(struct grammar_machine *m, const struct shape *s, uint32_t *set)
{
    struct grammar_item *items = mem_alloc(s->spot_count + 1, sizeof *items);
    if (!items)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < s->spot_count; i++)
        items[i] = (struct grammar_item){s->spots[i].at, s->spots[i].count, GRAMMAR_FRAME_OPEN};
    enum status st = grammar_machine_set(m, items, s->spot_count, set);
    mem_free(items);
    return st;
}

/* The one of the shapes walked lately that agrees on most bytes. Characters of a string of limited
 * length are such: what may follow them differs for long tokens only. */
static enum status find_likeness(struct grammar_machine *m, struct grammar_masks *k, uint32_t start,
                                 struct likeness *out)
{
    uint64_t work_end = m->work_end;
    enum status st = STATUS_OK;
    *out = (struct likeness){.bytes = AGREE_LEAST - 1};
    for (uint32_t i = 0; i < RECENT && out->bytes < AGREE_ENOUGH; i++) {
        uint32_t set, rise = 0, number = k->recent[(k->recent_at - 1 - i) % RECENT];
        int bytes = 0;
        if (number == 0)
            continue;
        const struct shape *other = k->shapes[number - 1];
        st = open_set(m, other, &set);
        if (st != STATUS_OK)
            return st;
        m->work_end = m->work + AGREE_WORK < work_end ? m->work + AGREE_WORK : work_end;
        st = agree(m, k, start, set, &bytes, &rise);
        m->work_end = work_end;
        if (st == STATUS_NO_MEMORY)
            return st;
        if (st == STATUS_OK && bytes > out->bytes)
            *out = (struct likeness){.shape = other, .bytes = bytes, .rise = rise};
    }
    return STATUS_OK;
}

static enum status shape_fill(struct grammar_machine *m, struct grammar_masks *k,
                              const struct token_trie *t, struct shape *s)
{
    uint32_t start = GRAMMAR_SET_DEAD, visited = 0;
    struct likeness like;
    s->mask = mem_calloc(t->mask_words + 1, sizeof *s->mask);
    s->spots = mem_alloc(k->spot_count + 1, sizeof *s->spots);
    if (!s->mask || !s->spots)
        return STATUS_NO_MEMORY;
    s->spot_count = k->spot_count;
    memcpy(s->spots, k->spots, s->spot_count * sizeof *s->spots);
    enum status st = open_set(m, s, &start);
    if (st != STATUS_OK || start == GRAMMAR_SET_DEAD)
        return st;
    st = find_likeness(m, k, start, &like);
    if (st == STATUS_OK)
        st = walk_open(m, k, t, start, &like, s, &visited);
    if (st == STATUS_OK && (visited > t->node_count / 8 || like.shape))
        k->recent[k->recent_at++ % RECENT] = (uint32_t)k->shape_count + 1;
    return st;
}

static size_t shape_bytes(const struct token_trie *t, const struct shape *s)
{
    return sizeof *s + s->spot_count * sizeof *s->spots + t->mask_words * sizeof *s->mask +
           s->root_cap * sizeof *s->roots;
}

static enum status table_grow(struct grammar_masks *k)
{
    size_t slots = k->table_slots * 2, mask = slots - 1;
    uint32_t *table = mem_calloc(slots, sizeof *table);
    if (!table)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < k->shape_count; i++) {
        size_t at = k->shapes[i]->hash & mask;
        while (table[at] != 0)
            at = (at + 1) & mask;
        table[at] = (uint32_t)i + 1;
    }
    mem_free(k->table);
    k->table = table;
    k->table_slots = slots;
    return STATUS_OK;
}

static enum status shape_add(struct grammar_machine *m, struct grammar_masks *k,
                             const struct token_trie *t, uint32_t hash, uint32_t *out)
{
    if ((k->shape_count + 1) * 2 > k->table_slots && table_grow(k) != STATUS_OK)
        return STATUS_NO_MEMORY;
    struct shape *s = mem_calloc(1, sizeof *s);
    if (!s || !VEC_RESERVE(k->shapes, k->shape_cap, k->shape_count + 1)) {
        mem_free(s);
        return STATUS_NO_MEMORY;
    }
    s->hash = hash;
    enum status st = shape_fill(m, k, t, s);
    if (st != STATUS_OK) {
        shape_destroy(s);
        return st;
    }
    size_t mask = k->table_slots - 1, at = hash & mask;
    while (k->table[at] != 0)
        at = (at + 1) & mask;
    k->shapes[k->shape_count++] = s;
    k->table[at] = (uint32_t)k->shape_count;
    k->bytes += shape_bytes(t, s);
    *out = (uint32_t)k->shape_count;
    return STATUS_OK;
}

/* The shape of a set, plus 1. */
static enum status shape_of(struct grammar_machine *m, struct grammar_masks *k,
                            const struct token_trie *t, uint32_t set, uint32_t *out)
{
    if (m->sets[set].shape != 0) {
        *out = m->sets[set].shape;
        return STATUS_OK;
    }
    enum status st = find_spots(m, k, t, set);
    if (st != STATUS_OK)
        return st;
    uint32_t hash = hash_spots(k);
    size_t mask = k->table_slots - 1;
    *out = 0;
    for (size_t at = hash & mask; *out == 0 && k->table[at] != 0; at = (at + 1) & mask) {
        const struct shape *s = k->shapes[k->table[at] - 1];
        if (s->hash == hash && s->spot_count == k->spot_count &&
            memcmp(s->spots, k->spots, s->spot_count * sizeof *s->spots) == 0)
            *out = k->table[at];
    }
    if (*out == 0)
        st = shape_add(m, k, t, hash, out);
    if (st == STATUS_OK)
        m->sets[set].shape = *out;
    return st;
}

/* ---- masks ---- */

/* Brings the path to the parent of `root` into k->sets; its sets are alive in open surroundings,
 * so they are here. k->nodes tells what is there already. */
static enum status enter_path(struct grammar_machine *m, struct grammar_masks *k,
                              const struct token_trie *t, uint32_t root, bool *alive)
{
    uint32_t path[TOKEN_TRIE_DEPTH + 1];
    uint32_t parent = t->nodes[root].parent;
    int depth = t->nodes[parent].depth;
    for (uint32_t i = parent; i != 0; i = t->nodes[i].parent)
        path[t->nodes[i].depth] = i;
    for (int d = 1; d <= depth; d++) {
        uint32_t set;
        if (k->nodes[d] == path[d])
            continue;
        k->nodes[d] = 0;
        enum status st = enter_node(m, k, &t->nodes[path[d]], &set);
        if (st != STATUS_OK)
            return st;
        *alive = set != GRAMMAR_SET_DEAD;
        if (!*alive)
            return STATUS_OK;
        k->nodes[d] = path[d];
        if (d < TOKEN_TRIE_DEPTH)
            k->nodes[d + 1] = 0;
    }
    return STATUS_OK;
}

static enum status walk_roots(struct grammar_machine *m, struct grammar_masks *k,
                              const struct token_trie *t, const struct shape *s, uint32_t *mask)
{
    memset(k->nodes, 0, sizeof k->nodes);
    for (size_t i = 0; i < s->root_count; i++) {
        const struct token_node *root = &t->nodes[s->roots[i]];
        bool alive = true;
        enum status st = enter_path(m, k, t, s->roots[i], &alive);
        if (st == STATUS_OK && alive) {
            st = walk(m, k, t, s->roots[i], root->end, mask);
            /* The walk went over what stood below. */
            k->nodes[root->depth] = 0;
        }
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

enum status grammar_mask(struct grammar_machine *m, const struct token_trie *t, uint32_t set,
                         uint32_t *mask, bool *any)
{
    enum status st = m->masks ? STATUS_OK : masks_create(&m->masks);
    if (st != STATUS_OK)
        return st;
    struct grammar_masks *k = m->masks;
    if (k->trie != t || k->bytes > LIMIT_GRAMMAR_MASK_BYTES) {
        forget_shapes(k);
        k->trie = t;
        for (size_t i = 0; i < m->set_count; i++)
            m->sets[i].shape = 0;
    }
    uint32_t number = 0;
    st = shape_of(m, k, t, set, &number);
    if (st != STATUS_OK)
        return st;
    const struct shape *s = k->shapes[number - 1];
    enter_root(m, k, set);
    if (m->sets[set].depth + s->rise <= LIMIT_GRAMMAR_DEPTH) {
        memcpy(mask, s->mask, t->mask_words * sizeof *mask);
        st = walk_roots(m, k, t, s, mask);
    } else {
        memset(mask, 0, t->mask_words * sizeof *mask);
        st = walk(m, k, t, 1, t->node_count, mask);
    }
    *any = false;
    for (size_t i = 0; i < t->mask_words && !*any; i++)
        *any = mask[i] != 0;
    return st;
}
