#include "engine/grammar/regular.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"

/* Derivatives recurse only where the empty word may be skipped or a group is entered, and a node
 * knows how deep that goes: deeper ones are refused when they are built. */
#define DEPTH_MAX  500
#define NODES_MAX  2000000
#define POOL_MAX   8000000 /* children and ranges of all nodes */
#define CODE_BEGIN (REGULAR_CODE_MAX + 1)
#define CODE_END   (REGULAR_CODE_MAX + 2)
#define CACHE_SIZE 8192
#define NO_STATE   UINT32_MAX

enum kind {
    KIND_SET,
    KIND_EMPTY,
    KIND_CAT,
    KIND_OR,
    KIND_AND,
    KIND_NOT,
    KIND_REPEAT,
    KIND_MULTIPLE
};

struct node {
    uint8_t kind;
    bool nullable;
    uint16_t depth;
    uint32_t a, b; /* SET: first range, ranges. OR, AND: first child, children. CAT: head, tail.
                      NOT, REPEAT: child. MULTIPLE: of, rest */
    int32_t min, max;
    uint32_t next; /* of the same hash + 1 */
};

struct cached {
    uint32_t node, code, result;
};

struct regular {
    struct node *nodes;
    size_t nodes_count, nodes_cap;
    struct regular_range *ranges;
    size_t ranges_count, ranges_cap;
    uint32_t *kids;
    size_t kids_count, kids_cap;
    uint32_t *heads; /* hash -> node + 1 */
    size_t heads_cap;
    uint32_t *stack; /* results of derivatives that wait for their siblings */
    size_t stack_count, stack_cap;
    uint32_t *cuts; /* where the characters that a state tells apart begin */
    size_t cuts_count, cuts_cap;
    struct cached *cache;
    int64_t deadline;
    uint32_t work;
    enum status failed;
    const char *why;
};

static uint32_t fail(struct regular *r, enum status code, const char *why)
{
    if (r->failed == STATUS_OK) {
        r->failed = code;
        r->why = why;
    }
    return REGULAR_NONE;
}

static bool tick(struct regular *r)
{
    if ((++r->work & 1023) == 0 && clock_thread_cpu_ns() > r->deadline)
        fail(r, STATUS_LIMIT, "it takes too long to compile");
    return r->failed == STATUS_OK;
}

enum status regular_status(const struct regular *r, struct err *e)
{
    return r->failed == STATUS_OK ? STATUS_OK : err_set(e, r->failed, NULL, "%s", r->why);
}

/* --- nodes ------------------------------------------------------------------------------------ */

static uint32_t mix(uint32_t h, uint32_t v)
{
    h = (h ^ v) * 0x9E3779B1u;
    return h ^ (h >> 15);
}

static uint32_t hash_node(const struct regular *r, const struct node *n)
{
    uint32_t h = mix(17, n->kind);
    h = mix(mix(h, (uint32_t)n->min), (uint32_t)n->max);
    if (n->kind == KIND_SET) {
        for (uint32_t i = 0; i < n->b; i++)
            h = mix(mix(h, r->ranges[n->a + i].lo), r->ranges[n->a + i].hi);
    } else if (n->kind == KIND_OR || n->kind == KIND_AND) {
        for (uint32_t i = 0; i < n->b; i++)
            h = mix(h, r->kids[n->a + i]);
    } else {
        h = mix(mix(h, n->a), n->b);
    }
    return h;
}

static bool same_node(const struct regular *r, const struct node *x, const struct node *y)
{
    if (x->kind != y->kind || x->b != y->b || x->min != y->min || x->max != y->max)
        return false;
    if (x->kind == KIND_SET)
        return !memcmp(r->ranges + x->a, r->ranges + y->a, x->b * sizeof *r->ranges);
    if (x->kind == KIND_OR || x->kind == KIND_AND)
        return !memcmp(r->kids + x->a, r->kids + y->a, x->b * sizeof *r->kids);
    return x->a == y->a;
}

static bool grow_heads(struct regular *r)
{
    size_t cap = r->heads_cap ? r->heads_cap * 2 : 1024;
    uint32_t *heads = mem_calloc(cap, sizeof *heads);
    if (!heads)
        return false;
    for (size_t i = 0; i < r->nodes_count; i++) {
        uint32_t *head = &heads[hash_node(r, &r->nodes[i]) & (cap - 1)];
        r->nodes[i].next = *head;
        *head = (uint32_t)i + 1;
    }
    mem_free(r->heads);
    r->heads = heads;
    r->heads_cap = cap;
    return true;
}

/* The number of this node; ranges or children that it owns lie at the end of their pool and are
 * taken back when the node is known. */
static uint32_t intern(struct regular *r, struct node n)
{
    if (!tick(r))
        return REGULAR_NONE;
    if (n.depth > DEPTH_MAX)
        return fail(r, STATUS_LIMIT, "it is nested too deeply");
    if (r->nodes_count >= r->heads_cap && !grow_heads(r))
        return fail(r, STATUS_NO_MEMORY, "out of memory");
    uint32_t *head = &r->heads[hash_node(r, &n) & (r->heads_cap - 1)];
    for (uint32_t i = *head; i; i = r->nodes[i - 1].next) {
        if (!same_node(r, &r->nodes[i - 1], &n))
            continue;
        if (n.kind == KIND_SET)
            r->ranges_count = n.a;
        else if (n.kind == KIND_OR || n.kind == KIND_AND)
            r->kids_count = n.a;
        return i - 1;
    }
    if (r->nodes_count >= NODES_MAX || r->kids_count > POOL_MAX || r->ranges_count > POOL_MAX)
        return fail(r, STATUS_LIMIT, "it is too complex");
    if (!VEC_RESERVE(r->nodes, r->nodes_cap, r->nodes_count + 1))
        return fail(r, STATUS_NO_MEMORY, "out of memory");
    n.next = *head;
    r->nodes[r->nodes_count++] = n;
    *head = (uint32_t)r->nodes_count;
    return (uint32_t)r->nodes_count - 1;
}

static uint16_t deeper(int depth)
{
    return (uint16_t)(depth < DEPTH_MAX ? depth + 1 : DEPTH_MAX + 1);
}

static int compare_ranges(const void *a, const void *b)
{
    const struct regular_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* Ranges at the end of the pool from `first`: sorted and joined; the set of them. */
static uint32_t intern_ranges(struct regular *r, size_t first)
{
    size_t n = r->ranges_count - first, kept = 0;
    struct regular_range *s = n ? r->ranges + first : NULL;
    if (n)
        qsort(s, n, sizeof *s, compare_ranges);
    for (size_t i = 0; i < n; i++) {
        if (kept && s[i].lo <= s[kept - 1].hi + 1) {
            if (s[i].hi > s[kept - 1].hi)
                s[kept - 1].hi = s[i].hi;
        } else {
            s[kept++] = s[i];
        }
    }
    r->ranges_count = first + kept;
    struct node node = {.kind = KIND_SET, .a = (uint32_t)first, .b = (uint32_t)kept};
    return intern(r, node);
}

static bool push_range(struct regular *r, uint32_t lo, uint32_t hi)
{
    if (lo > hi)
        return true;
    if (!VEC_RESERVE(r->ranges, r->ranges_cap, r->ranges_count + 1)) {
        fail(r, STATUS_NO_MEMORY, "out of memory");
        return false;
    }
    r->ranges[r->ranges_count++] = (struct regular_range){lo, hi};
    return true;
}

/* A range of characters without the surrogates, which are none. */
static bool push_chars(struct regular *r, uint32_t lo, uint32_t hi)
{
    if (hi > REGULAR_CODE_MAX)
        hi = REGULAR_CODE_MAX;
    return push_range(r, lo, hi < 0xD7FF ? hi : 0xD7FF) &&
           push_range(r, lo > 0xE000 ? lo : 0xE000, hi);
}

uint32_t regular_set(struct regular *r, const struct regular_range *ranges, size_t n, bool negate)
{
    if (r->failed)
        return REGULAR_NONE;
    size_t first = r->ranges_count;
    for (size_t i = 0; i < n; i++)
        if (!push_chars(r, ranges[i].lo, ranges[i].hi))
            return REGULAR_NONE;
    uint32_t set = intern_ranges(r, first);
    if (!negate || r->failed)
        return set;
    size_t behind = r->ranges_count;
    uint32_t from = 0;
    for (uint32_t i = 0; i < r->nodes[set].b; i++) {
        struct regular_range gone = r->ranges[r->nodes[set].a + i];
        if (gone.lo && !push_chars(r, from, gone.lo - 1))
            return REGULAR_NONE;
        from = gone.hi + 1;
    }
    if (from <= REGULAR_CODE_MAX && !push_chars(r, from, REGULAR_CODE_MAX))
        return REGULAR_NONE;
    return intern_ranges(r, behind);
}

uint32_t regular_range(struct regular *r, uint32_t lo, uint32_t hi)
{
    return regular_set(r, &(struct regular_range){lo, hi}, 1, false);
}

/* --- constructors ----------------------------------------------------------------------------- */

static bool push(struct regular *r, uint32_t v)
{
    if (!VEC_RESERVE(r->stack, r->stack_cap, r->stack_count + 1)) {
        fail(r, STATUS_NO_MEMORY, "out of memory");
        return false;
    }
    r->stack[r->stack_count++] = v;
    return true;
}

static uint32_t cat_pair(struct regular *r, uint32_t a, uint32_t b)
{
    if (r->failed || a == REGULAR_NONE || b == REGULAR_NONE)
        return REGULAR_NONE;
    if (a == REGULAR_EMPTY)
        return b;
    if (b == REGULAR_EMPTY)
        return a;
    const struct node *x = &r->nodes[a], *y = &r->nodes[b];
    int depth = x->nullable && y->depth > x->depth ? y->depth : x->depth;
    struct node n = {.kind = KIND_CAT,
                     .nullable = x->nullable && y->nullable,
                     .depth = x->nullable ? deeper(depth)
                              : x->depth  ? x->depth
                                          : 1,
                     .a = a,
                     .b = b};
    return intern(r, n);
}

/* Associated to the right, so that equal words are equal nodes. */
uint32_t regular_cat(struct regular *r, uint32_t a, uint32_t b)
{
    size_t base = r->stack_count;
    while (!r->failed && r->nodes[a].kind == KIND_CAT) {
        if (!push(r, r->nodes[a].a))
            return REGULAR_NONE;
        a = r->nodes[a].b;
    }
    b = cat_pair(r, a, b);
    while (r->stack_count > base)
        b = cat_pair(r, r->stack[--r->stack_count], b);
    return b;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Joins the sets among the items into one: union or intersection. */
static uint32_t join_sets(struct regular *r, const uint32_t *sets, size_t n, bool all_of)
{
    size_t first = r->ranges_count;
    if (!all_of) {
        for (size_t i = 0; i < n; i++)
            for (uint32_t k = 0; k < r->nodes[sets[i]].b; k++) {
                struct regular_range x = r->ranges[r->nodes[sets[i]].a + k];
                if (!push_range(r, x.lo, x.hi))
                    return REGULAR_NONE;
            }
        return intern_ranges(r, first);
    }
    uint32_t left = sets[0];
    for (size_t s = 1; s < n && !r->failed; s++) {
        struct node x = r->nodes[left], y = r->nodes[sets[s]];
        first = r->ranges_count;
        for (uint32_t i = 0, k = 0; i < x.b && k < y.b;) {
            struct regular_range p = r->ranges[x.a + i], q = r->ranges[y.a + k];
            if (!push_range(r, p.lo > q.lo ? p.lo : q.lo, p.hi < q.hi ? p.hi : q.hi))
                return REGULAR_NONE;
            if (p.hi < q.hi)
                i++;
            else
                k++;
        }
        left = intern_ranges(r, first);
    }
    return left;
}

/* Replaces the sets among items[0, n) by their union or intersection; the new count. */
static size_t fold_sets(struct regular *r, uint32_t *items, size_t n, bool all_of)
{
    size_t sets = 0;
    for (size_t i = 0; i < n; i++)
        if (r->nodes[items[i]].kind == KIND_SET) {
            uint32_t t = items[sets];
            items[sets++] = items[i];
            items[i] = t;
        }
    if (sets < 2)
        return n;
    uint32_t joined = join_sets(r, items, sets, all_of);
    items[0] = joined;
    memmove(items + 1, items + sets, (n - sets) * sizeof *items);
    return n - sets + 1;
}

/* The union (or intersection) of the stack's items from `base` on; pops them. */
static uint32_t join(struct regular *r, size_t base, bool all_of)
{
    enum kind kind = all_of ? KIND_AND : KIND_OR;
    uint32_t unit = all_of ? REGULAR_ALL : REGULAR_NONE;
    uint32_t zero = all_of ? REGULAR_NONE : REGULAR_ALL;
    uint32_t out = REGULAR_NONE;
    /* Joins inside are opened; their children are no joins of this kind any more. */
    for (size_t i = base; i < r->stack_count && !r->failed; i++) {
        struct node n = r->nodes[r->stack[i]];
        if (n.kind != kind)
            continue;
        r->stack[i] = r->kids[n.a];
        for (uint32_t k = 1; k < n.b; k++)
            if (!push(r, r->kids[n.a + k]))
                break;
    }
    uint32_t *items = r->stack + base;
    size_t n = r->stack_count - base, kept = 0;
    if (r->failed)
        goto done;
    n = fold_sets(r, items, n, all_of);
    if (r->failed)
        goto done;
    if (n)
        qsort(items, n, sizeof *items, compare_u32);
    bool nullable = all_of, others_nullable = all_of, has_empty = false;
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t v = items[i];
        if (v == zero) {
            out = zero;
            goto done;
        }
        if (v == unit || (kept && items[kept - 1] == v))
            continue;
        items[kept++] = v;
        const struct node *x = &r->nodes[v];
        nullable = all_of ? nullable && x->nullable : nullable || x->nullable;
        if (v == REGULAR_EMPTY)
            has_empty = true;
        else
            others_nullable =
                all_of ? others_nullable && x->nullable : others_nullable || x->nullable;
        depth = x->depth > depth ? x->depth : depth;
    }
    if (has_empty && all_of) {
        out = others_nullable ? REGULAR_EMPTY : REGULAR_NONE;
        goto done;
    }
    if (has_empty && others_nullable) {
        size_t at = 0;
        while (items[at] != REGULAR_EMPTY)
            at++;
        memmove(items + at, items + at + 1, (kept - at - 1) * sizeof *items);
        kept--;
    }
    if (kept < 2) {
        out = kept ? items[0] : unit;
        goto done;
    }
    if (!VEC_RESERVE(r->kids, r->kids_cap, r->kids_count + kept)) {
        fail(r, STATUS_NO_MEMORY, "out of memory");
        goto done;
    }
    struct node node = {.kind = (uint8_t)kind,
                        .nullable = nullable,
                        .depth = deeper(depth),
                        .a = (uint32_t)r->kids_count,
                        .b = (uint32_t)kept};
    memcpy(r->kids + r->kids_count, items, kept * sizeof *items);
    r->kids_count += kept;
    out = intern(r, node);
done:
    r->stack_count = base;
    return out;
}

uint32_t regular_or(struct regular *r, uint32_t a, uint32_t b)
{
    size_t base = r->stack_count;
    if (r->failed || !push(r, a) || !push(r, b))
        return REGULAR_NONE;
    return join(r, base, false);
}

uint32_t regular_and(struct regular *r, uint32_t a, uint32_t b)
{
    size_t base = r->stack_count;
    if (r->failed || !push(r, a) || !push(r, b))
        return REGULAR_NONE;
    return join(r, base, true);
}

uint32_t regular_not(struct regular *r, uint32_t a)
{
    if (r->failed)
        return REGULAR_NONE;
    if (r->nodes[a].kind == KIND_NOT)
        return r->nodes[a].a;
    struct node n = {.kind = KIND_NOT,
                     .nullable = !r->nodes[a].nullable,
                     .depth = deeper(r->nodes[a].depth),
                     .a = a};
    return intern(r, n);
}

uint32_t regular_repeat(struct regular *r, uint32_t a, int32_t min, int32_t max)
{
    if (r->failed)
        return REGULAR_NONE;
    if (max == 0 || a == REGULAR_EMPTY)
        return REGULAR_EMPTY;
    if (a == REGULAR_NONE)
        return min ? REGULAR_NONE : REGULAR_EMPTY;
    if (min == 1 && max == 1)
        return a;
    const struct node *x = &r->nodes[a];
    if (x->kind == KIND_REPEAT && x->min == 0 && x->max == REGULAR_NO_MAX)
        return a;
    struct node n = {.kind = KIND_REPEAT,
                     .nullable = min == 0 || x->nullable,
                     .depth = deeper(x->depth),
                     .a = a,
                     .min = x->nullable ? 0 : min,
                     .max = max};
    return intern(r, n);
}

uint32_t regular_multiple(struct regular *r, uint32_t of, uint32_t rest)
{
    struct node n = {.kind = KIND_MULTIPLE, .nullable = rest == 0, .depth = 1, .a = of, .b = rest};
    return r->failed ? REGULAR_NONE : intern(r, n);
}

uint32_t regular_literal(struct regular *r, const char *text, size_t n)
{
    size_t base = r->stack_count;
    uint32_t out = REGULAR_EMPTY;
    for (size_t i = 0; i < n && !r->failed;) {
        uint32_t cp;
        size_t len = utf8_decode(text + i, n - i, &cp);
        if (!len)
            return fail(r, STATUS_INVALID, "it is not UTF-8");
        if (!push(r, regular_range(r, cp, cp)))
            break;
        i += len;
    }
    while (r->stack_count > base)
        out = cat_pair(r, r->stack[--r->stack_count], out);
    return out;
}

uint32_t regular_frame(struct regular *r, uint32_t a)
{
    return regular_cat(r, REGULAR_BEGIN, regular_cat(r, a, REGULAR_END));
}

struct regular *regular_create(int64_t deadline_cpu_ns)
{
    struct regular *r = mem_calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->deadline = deadline_cpu_ns;
    r->cache = mem_calloc(CACHE_SIZE, sizeof *r->cache);
    /* In the order of the constants of the header. */
    uint32_t none = intern_ranges(r, 0);
    uint32_t empty = intern(r, (struct node){.kind = KIND_EMPTY, .nullable = true});
    uint32_t all = r->failed ? 0 : regular_not(r, none);
    uint32_t any = regular_range(r, 0, REGULAR_CODE_MAX);
    size_t first = r->ranges_count;
    uint32_t begin = push_range(r, CODE_BEGIN, CODE_BEGIN) ? intern_ranges(r, first) : 0;
    first = r->ranges_count;
    uint32_t end = push_range(r, CODE_END, CODE_END) ? intern_ranges(r, first) : 0;
    uint32_t text = regular_repeat(r, any, 0, REGULAR_NO_MAX);
    if (!r->cache || r->failed) {
        regular_destroy(r);
        return NULL;
    }
    CHECK(none == REGULAR_NONE && empty == REGULAR_EMPTY && all == REGULAR_ALL);
    CHECK(any == REGULAR_ANY && begin == REGULAR_BEGIN && end == REGULAR_END);
    CHECK(text == REGULAR_TEXT);
    return r;
}

void regular_destroy(struct regular *r)
{
    if (!r)
        return;
    mem_free(r->nodes);
    mem_free(r->ranges);
    mem_free(r->kids);
    mem_free(r->heads);
    mem_free(r->stack);
    mem_free(r->cuts);
    mem_free(r->cache);
    mem_free(r);
}

/* --- derivatives ------------------------------------------------------------------------------ */

static bool set_has(const struct regular *r, const struct node *n, uint32_t code)
{
    uint32_t lo = 0, hi = n->b;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct regular_range *x = &r->ranges[n->a + mid];
        if (code < x->lo)
            hi = mid;
        else if (code > x->hi)
            lo = mid + 1;
        else
            return true;
    }
    return false;
}

/* What may follow `code` in the words of `a`. Recursion goes as deep as the node's depth. */
static uint32_t derive(struct regular *r, uint32_t a, uint32_t code)
{
    if (!tick(r))
        return REGULAR_NONE;
    struct node n = r->nodes[a];
    struct cached *slot = &r->cache[mix(mix(7, a), code) & (CACHE_SIZE - 1)];
    if (slot->node == a && slot->code == code && a != REGULAR_NONE)
        return slot->result;
    uint32_t out = REGULAR_NONE, x;
    size_t base = r->stack_count;
    switch ((enum kind)n.kind) {
    case KIND_EMPTY:
        break;
    case KIND_SET:
        out = set_has(r, &n, code) ? REGULAR_EMPTY : REGULAR_NONE;
        break;
    case KIND_CAT:
        x = regular_cat(r, derive(r, n.a, code), n.b);
        out = r->nodes[n.a].nullable ? regular_or(r, x, derive(r, n.b, code)) : x;
        break;
    case KIND_OR:
    case KIND_AND:
        for (uint32_t i = 0; i < n.b; i++)
            if (!push(r, derive(r, r->kids[n.a + i], code)))
                break;
        out = join(r, base, n.kind == KIND_AND);
        break;
    case KIND_NOT:
        out = regular_not(r, derive(r, n.a, code));
        break;
    case KIND_REPEAT:
        x = regular_repeat(r, n.a, n.min > 0 ? n.min - 1 : 0,
                           n.max == REGULAR_NO_MAX ? n.max : n.max - 1);
        out = regular_cat(r, derive(r, n.a, code), x);
        break;
    case KIND_MULTIPLE:
        if (code >= '0' && code <= '9')
            out = regular_multiple(r, n.a, (uint32_t)(((uint64_t)n.b * 10 + (code - '0')) % n.a));
        break;
    }
    if (!r->failed)
        *slot = (struct cached){.node = a, .code = code, .result = out};
    return r->failed ? REGULAR_NONE : out;
}

bool regular_matches(struct regular *r, uint32_t a, const char *text, size_t n)
{
    a = derive(r, a, CODE_BEGIN);
    for (size_t i = 0; i < n && !r->failed;) {
        uint32_t cp;
        size_t len = utf8_decode(text + i, n - i, &cp);
        if (!len)
            return false;
        a = derive(r, a, cp);
        i += len;
    }
    a = derive(r, a, CODE_END);
    return !r->failed && r->nodes[a].nullable;
}

/* --- automata --------------------------------------------------------------------------------- */

static bool cut(struct regular *r, uint32_t code)
{
    if (!VEC_RESERVE(r->cuts, r->cuts_cap, r->cuts_count + 1)) {
        fail(r, STATUS_NO_MEMORY, "out of memory");
        return false;
    }
    r->cuts[r->cuts_count++] = code;
    return true;
}

/* Where characters begin that the first step into `a` tells from those before them. */
static void find_cuts(struct regular *r, uint32_t a)
{
    struct node n = r->nodes[a];
    if (!tick(r))
        return;
    switch ((enum kind)n.kind) {
    case KIND_EMPTY:
        break;
    case KIND_SET:
        for (uint32_t i = 0; i < n.b; i++)
            if (!cut(r, r->ranges[n.a + i].lo) || !cut(r, r->ranges[n.a + i].hi + 1))
                return;
        break;
    case KIND_CAT:
        find_cuts(r, n.a);
        if (r->nodes[n.a].nullable)
            find_cuts(r, n.b);
        break;
    case KIND_OR:
    case KIND_AND:
        for (uint32_t i = 0; i < n.b; i++)
            find_cuts(r, r->kids[n.a + i]);
        break;
    case KIND_NOT:
    case KIND_REPEAT:
        find_cuts(r, n.a);
        break;
    case KIND_MULTIPLE:
        for (uint32_t c = '0'; c <= '9' + 1; c++)
            if (!cut(r, c))
                return;
        break;
    }
}

/* The automaton while it grows: states in the order of discovery, edges to states that reach no
 * end still among them. */
struct growth {
    struct regular_dfa dfa;
    size_t states_cap, edges_cap;
    uint32_t *node_of; /* state -> node */
    size_t node_of_cap;
    uint32_t *state_of; /* node -> state + 1 */
    size_t state_of_cap;
};

static uint32_t state_for(struct regular *r, struct growth *g, uint32_t node, size_t states_max)
{
    if (node >= g->state_of_cap) {
        size_t old = g->state_of_cap;
        if (!VEC_RESERVE(g->state_of, g->state_of_cap, (size_t)node + 1))
            return fail(r, STATUS_NO_MEMORY, "out of memory");
        memset(g->state_of + old, 0, (g->state_of_cap - old) * sizeof *g->state_of);
    }
    if (g->state_of[node])
        return g->state_of[node] - 1;
    if (g->dfa.states_count >= states_max)
        return fail(r, STATUS_LIMIT, "it needs too many states");
    if (!VEC_RESERVE(g->dfa.states, g->states_cap, g->dfa.states_count + 1) ||
        !VEC_RESERVE(g->node_of, g->node_of_cap, g->dfa.states_count + 1))
        return fail(r, STATUS_NO_MEMORY, "out of memory");
    uint32_t s = (uint32_t)g->dfa.states_count++;
    uint32_t ended = derive(r, node, CODE_END);
    g->dfa.states[s] = (struct regular_state){.accept = r->nodes[ended].nullable};
    g->node_of[s] = node;
    g->state_of[node] = s + 1;
    return s;
}

static void add_edge(struct regular *r, struct growth *g, uint32_t lo, uint32_t hi, uint32_t to,
                     uint32_t first)
{
    struct regular_edge *last =
        g->dfa.edges_count > first ? &g->dfa.edges[g->dfa.edges_count - 1] : NULL;
    if (last && last->to == to && last->hi + 1 == lo) {
        last->hi = hi;
        return;
    }
    if (!VEC_RESERVE(g->dfa.edges, g->edges_cap, g->dfa.edges_count + 1)) {
        fail(r, STATUS_NO_MEMORY, "out of memory");
        return;
    }
    g->dfa.edges[g->dfa.edges_count++] = (struct regular_edge){lo, hi, to};
}

static void expand(struct regular *r, struct growth *g, uint32_t s, size_t states_max)
{
    uint32_t node = g->node_of[s];
    uint32_t first = (uint32_t)g->dfa.edges_count;
    r->cuts_count = 0;
    if (!cut(r, 0) || !cut(r, 0xD800) || !cut(r, 0xE000) || !cut(r, REGULAR_CODE_MAX + 1))
        return;
    find_cuts(r, node);
    qsort(r->cuts, r->cuts_count, sizeof *r->cuts, compare_u32);
    for (size_t i = 0; i + 1 < r->cuts_count && !r->failed; i++) {
        uint32_t lo = r->cuts[i], hi = r->cuts[i + 1] - 1;
        if (lo == r->cuts[i + 1] || lo == 0xD800)
            continue;
        if (lo > REGULAR_CODE_MAX)
            break;
        uint32_t next = derive(r, node, lo);
        if (next == REGULAR_NONE || r->failed)
            continue;
        uint32_t to = state_for(r, g, next, states_max);
        if (!r->failed)
            add_edge(r, g, lo, hi, to, first);
    }
    g->dfa.states[s].first = first;
    g->dfa.states[s].count = (uint32_t)g->dfa.edges_count - first;
}

/* Drops states from which no end is reachable, and edges into them. */
static bool trim(struct regular_dfa *d)
{
    size_t n = d->states_count;
    uint32_t *names = mem_alloc(n + 1, sizeof *names);
    if (!names)
        return false;
    for (size_t s = 0; s < n; s++)
        names[s] = d->states[s].accept ? 0 : NO_STATE;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t s = n; s-- > 0;) {
            const struct regular_state *x = &d->states[s];
            for (uint32_t i = 0; names[s] == NO_STATE && i < x->count; i++)
                if (names[d->edges[x->first + i].to] != NO_STATE) {
                    names[s] = 0;
                    changed = true;
                }
        }
    }
    size_t states = 0, edges = 0;
    if (names[0] != NO_STATE)
        for (size_t s = 0; s < n; s++)
            if (names[s] != NO_STATE)
                names[s] = (uint32_t)states++;
    for (size_t s = 0; s < n && states; s++) {
        if (names[s] == NO_STATE)
            continue;
        struct regular_state x = d->states[s];
        size_t first = edges;
        for (uint32_t i = 0; i < x.count; i++) {
            struct regular_edge e = d->edges[x.first + i];
            if (names[e.to] == NO_STATE)
                continue;
            e.to = names[e.to];
            d->edges[edges++] = e;
        }
        d->states[names[s]] = (struct regular_state){
            .first = (uint32_t)first, .count = (uint32_t)(edges - first), .accept = x.accept};
    }
    d->states_count = states;
    d->edges_count = edges;
    mem_free(names);
    return true;
}

enum status regular_dfa(struct regular *r, uint32_t a, size_t states_max, struct regular_dfa *out,
                        struct err *e)
{
    struct growth g = {0};
    uint32_t start = derive(r, a, CODE_BEGIN);
    if (!r->failed)
        state_for(r, &g, start, states_max);
    for (size_t s = 0; s < g.dfa.states_count && !r->failed; s++)
        expand(r, &g, (uint32_t)s, states_max);
    if (!r->failed && !trim(&g.dfa))
        fail(r, STATUS_NO_MEMORY, "out of memory");
    mem_free(g.node_of);
    mem_free(g.state_of);
    if (r->failed) {
        regular_dfa_deinit(&g.dfa);
        return regular_status(r, e);
    }
    *out = g.dfa;
    return STATUS_OK;
}

void regular_dfa_deinit(struct regular_dfa *d)
{
    mem_free(d->states);
    mem_free(d->edges);
    *d = (struct regular_dfa){0};
}
