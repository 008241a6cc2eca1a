#include "engine/grammar/grammar_mask.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "engine/grammar/grammar_machine.h"
#include "engine/grammar/grammar_plain.h"

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

enum {
    AGREE_LEAST = 6, /* so many tokens are shorter than this that a walk costs no less */
    RECENT = 8
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
    uint32_t bytes;
    size_t at; /* next of its roots */
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

/* All nodes with tokens of the kinds `wanted`, in open surroundings, but for those that a likeness
 * tells: into mask, roots and rise. *visited: how many were looked at. Nodes that skip most others
 * are far apart: those of PLAIN_NOT alone have an array of their own. */
static enum status walk_open(struct grammar_machine *m, struct grammar_masks *k,
                             const struct token_trie *t, unsigned wanted, struct likeness *like,
                             struct shape *s, uint32_t *visited)
{
    const bool few = wanted == PLAIN_NOT;
    const struct token_node *nodes = few ? t->plain.others : t->nodes;
    const uint32_t count = few ? t->plain.other_count : t->node_count;
    uint32_t known = like->shape ? like->bytes : 0;
    for (uint32_t i = 1; i < count; ++*visited) {
        const struct token_node *node = &nodes[i];
        if (!(node->kinds & wanted)) {
            i = node->end;
            continue;
        }
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
            if (escaped && !push_root(s, few ? node->parent : i))
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

/* ---- plain tokens ---- */

/* What is known of the plain tokens from a set on, as bits PLAIN_: of those made of kinds in `live`
 * the ones of up to `chars` characters may come; one with a character of `dead` may not, unless it
 * has one of `mixed` too, of which nothing is told. */
struct plain_reach {
    unsigned live, dead, mixed;
    int chars;
    uint32_t rise;
};

/* One character more. *to: where the live ones lead; GRAMMAR_SET_DEAD: nowhere. escaped: the
 * surroundings decide about what is dead now. */
static void reach_next(const struct grammar_plain *p, bool first, bool escaped,
                       struct plain_reach *r, uint32_t *to)
{
    unsigned ends = 0;
    *to = GRAMMAR_SET_DEAD;
    for (int k = 0; k < PLAIN_KINDS; k++) {
        const unsigned bit = 1u << k;
        const uint32_t next = p->next[k];
        if (r->mixed & bit)
            continue;
        if (next == GRAMMAR_SET_DEAD && (first || (r->dead & bit)) && !escaped) {
            r->dead |= bit;
            r->live &= ~bit;
        } else if (next == GRAMMAR_SET_DEAD && (r->live & bit)) {
            ends |= bit;
        } else if ((r->live & bit) && next != GRAMMAR_PLAIN_MIXED &&
                   (*to == GRAMMAR_SET_DEAD || *to == next)) {
            *to = next;
        } else {
            r->mixed |= bit;
            r->live &= ~bit;
            r->dead &= ~bit;
        }
    }
    /* Kinds that end together end the reach; one that ends before the others is not alike. */
    if (*to != GRAMMAR_SET_DEAD || escaped) {
        r->mixed |= ends;
        r->live &= ~ends;
    }
}

static enum status find_reach(struct grammar_machine *m, const struct token_trie *t, uint32_t start,
                              struct plain_reach *r)
{
    uint32_t set = start;
    bool escaped = false;
    *r = (struct plain_reach){.live = PLAIN_ALL, .rise = m->sets[start].rise};
    while (r->chars < t->plain.chars_max && r->live != 0) {
        uint32_t at;
        enum status st = grammar_plain_of(m, set, &at);
        if (st != STATUS_OK)
            return st;
        const struct grammar_plain *p = &m->plains[at];
        reach_next(p, r->chars == 0, escaped, r, &set);
        r->rise = p->rise > r->rise ? p->rise : r->rise;
        if (set == GRAMMAR_SET_DEAD)
            break;
        escaped = escaped || m->sets[set].escapes;
        r->rise = m->sets[set].rise > r->rise ? m->sets[set].rise : r->rise;
        r->chars++;
    }
    return STATUS_OK;
}

/* Allows what is known to be, where that spares most of a walk; *wanted: the kinds that are left to
 * it. */
static enum status tell_plain(struct grammar_machine *m, const struct token_trie *t, uint32_t start,
                              struct shape *s, unsigned *wanted)
{
    const struct token_plain *p = &t->plain;
    struct plain_reach r;
    uint32_t told = 0;
    *wanted = PLAIN_ALL | PLAIN_NOT;
    enum status st = find_reach(m, t, start, &r);
    if (st != STATUS_OK)
        return st;
    for (unsigned k = 1; k <= PLAIN_ALL; k++)
        if (!(k & r.mixed))
            told += p->begin[k][TOKEN_PLAIN_CHARS + 1] - p->begin[k][0];
    if (told < p->count / 2 || r.live == 0)
        return STATUS_OK;
    *wanted = r.mixed | PLAIN_NOT;
    s->rise = r.rise;
    if (r.live == PLAIN_ALL) {
        memcpy(s->mask, p->masks + (size_t)r.chars * t->mask_words,
               t->mask_words * sizeof *s->mask);
        return STATUS_OK;
    }
    for (unsigned k = 1; k <= PLAIN_ALL; k++)
        for (uint32_t i = p->begin[k][0]; !(k & ~r.live) && i < p->begin[k][r.chars + 1]; i++)
            s->mask[p->ids[i] / 32] |= 1u << (p->ids[i] % 32);
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

/* Bytes of a token for which two counts of a repetition make no difference: each time takes one at
 * least, and they part where one of them reaches a bound first. */
static uint32_t agreed_bytes(const struct code_count *n, uint32_t one, uint32_t other)
{
    uint32_t low = one < other ? one : other, high = one < other ? other : one;
    uint32_t times = n->max - high;
    if (low < n->min)
        times = n->min <= high ? 0 : n->min - high < times ? n->min - high : times;
    return times;
}

/* The one of the shapes walked lately that agrees on most bytes: the same but for counts. */
static struct likeness find_likeness(const struct grammar_machine *m, const struct grammar_masks *k,
                                     const struct shape *s)
{
    struct likeness best = {.bytes = AGREE_LEAST - 1};
    for (uint32_t i = 0; i < RECENT && k->recent[i] != 0; i++) {
        const struct shape *other = k->shapes[k->recent[i] - 1];
        uint32_t bytes = other->spot_count == s->spot_count ? UINT32_MAX : 0;
        for (size_t n = 0; n < s->spot_count && bytes > best.bytes; n++) {
            const struct spot *a = &s->spots[n], *b = &other->spots[n];
            uint32_t agreed = a->at != b->at ? 0 : UINT32_MAX;
            if (a->at == b->at && a->count != b->count)
                agreed = agreed_bytes(&m->g->counts[m->g->code[a->at].arg], a->count, b->count);
            bytes = agreed < bytes ? agreed : bytes;
        }
        if (bytes > best.bytes)
            best = (struct likeness){.shape = other, .bytes = bytes};
    }
    return best;
}

static enum status fill_mask(struct grammar_machine *m, struct grammar_masks *k,
                             const struct token_trie *t, uint32_t start, struct shape *s)
{
    struct likeness like = {.shape = NULL};
    uint32_t visited = 0;
    unsigned wanted;
    s->rise = m->sets[start].rise;
    enum status st = tell_plain(m, t, start, s, &wanted);
    if (st != STATUS_OK)
        return st;
    bool all = (wanted & PLAIN_ALL) == PLAIN_ALL;
    if (all)
        like = find_likeness(m, k, s);
    if (like.shape) {
        memcpy(s->mask, like.shape->mask, t->mask_words * sizeof *s->mask);
        s->rise = like.shape->rise > s->rise ? like.shape->rise : s->rise;
    }
    enter_root(m, k, start);
    k->escaped[0] = false; /* what may follow without a byte is in the shape */
    st = walk_open(m, k, t, wanted, &like, s, &visited);
    if (st == STATUS_OK && all && (visited > t->node_count / 8 || like.shape))
        k->recent[k->recent_at++ % RECENT] = (uint32_t)k->shape_count + 1;
    return st;
}

static enum status shape_fill(struct grammar_machine *m, struct grammar_masks *k,
                              const struct token_trie *t, struct shape *s)
{
    uint32_t start = GRAMMAR_SET_DEAD;
    s->mask = mem_calloc(t->mask_words + 1, sizeof *s->mask);
    s->spots = mem_alloc(k->spot_count + 1, sizeof *s->spots);
    if (!s->mask || !s->spots)
        return STATUS_NO_MEMORY;
    s->spot_count = k->spot_count;
    memcpy(s->spots, k->spots, s->spot_count * sizeof *s->spots);
    enum status st = open_set(m, s, &start);
    return st == STATUS_OK && start != GRAMMAR_SET_DEAD ? fill_mask(m, k, t, start, s) : st;
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
