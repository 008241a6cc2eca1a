/* Expressions are nodes in one array, children before parents; a rule is code only once somebody
 * who is reached refers to it. Code is written from its end to its beginning: each expression is
 * told what follows it and returns where it begins. */
#include "engine/grammar/grammar_build.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"
#include "engine/grammar/grammar_code.h"

#define NO_CODE     UINT32_MAX
#define COPIES_CODE 64u /* repetitions up to this much code are copied, others are counted */

enum expr_kind {
    EXPR_NEVER,
    EXPR_LITERAL, /* bytes[a, a + b) */
    EXPR_BYTE,    /* a .. b */
    EXPR_CHARS,   /* ranges[a, a + b), ascending, disjoint */
    EXPR_SEQ,     /* lists[a, a + b) */
    EXPR_ALT,
    EXPR_REPEAT, /* a, min .. max times */
    EXPR_REF     /* rule a */
};

struct expr {
    uint8_t kind;
    uint16_t depth;
    uint32_t a;
    uint32_t b;
    int min;
    int max;
    uint32_t size; /* instructions, copies included; capped */
};

struct rule {
    char *name; /* owned; NULL: none */
    int expr;   /* -1: not defined */
    uint32_t start;
};

struct grammar_builder {
    struct expr *exprs; /* owned, as all arrays here */
    size_t expr_count, expr_cap;
    int *lists;
    size_t list_count, list_cap;
    char *bytes;
    size_t byte_count, byte_cap;
    struct grammar_range *ranges;
    size_t range_count, range_cap;
    struct rule *rules;
    size_t rule_count, rule_cap;
    uint32_t *names; /* open addressing, rule + 1 */
    size_t name_slots;
    size_t name_count;
    int at_rule; /* whose code is being written, for messages */
    int *todo;   /* rules referred to whose code is not written */
    size_t todo_count, todo_cap;
    uint32_t *stack; /* beginnings of alternatives */
    size_t stack_count, stack_cap;
    struct grammar *g; /* owned until finished */
    bool failed;
    struct err err;
};

enum status grammar_builder_create(struct grammar_builder **out)
{
    struct grammar_builder *b = mem_calloc(1, sizeof *b);
    if (!b)
        return STATUS_NO_MEMORY;
    b->at_rule = -1;
    *out = b;
    return STATUS_OK;
}

void grammar_builder_destroy(struct grammar_builder *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->rule_count; i++)
        mem_free(b->rules[i].name);
    mem_free(b->exprs);
    mem_free(b->lists);
    mem_free(b->bytes);
    mem_free(b->ranges);
    mem_free(b->rules);
    mem_free(b->names);
    mem_free(b->todo);
    mem_free(b->stack);
    grammar_unref(b->g);
    mem_free(b);
}

/* ---- failing ---- */

int grammar_build_fail(struct grammar_builder *b, const struct err *e)
{
    if (!b->failed) {
        b->failed = true;
        b->err = *e;
    }
    return -1;
}

bool grammar_build_failed(const struct grammar_builder *b)
{
    return b->failed;
}

static int no_memory(struct grammar_builder *b)
{
    struct err e;
    err_set(&e, STATUS_NO_MEMORY, NULL, "Out of memory for a grammar.");
    return grammar_build_fail(b, &e);
}

static const char *rule_name(const struct grammar_builder *b, int rule)
{
    return rule >= 0 && b->rules[rule].name ? b->rules[rule].name : "(without a name)";
}

static int too_large(struct grammar_builder *b, const char *what, int limit)
{
    struct err e;
    if (b->at_rule >= 0)
        err_set(&e, STATUS_LIMIT, NULL, "Rule '%.64s': %s, at most %d.", rule_name(b, b->at_rule),
                what, limit);
    else
        err_set(&e, STATUS_LIMIT, NULL, "The grammar is too large: %s, at most %d.", what, limit);
    return grammar_build_fail(b, &e);
}

static bool is_expr(const struct grammar_builder *b, int expr)
{
    if (b->failed)
        return false;
    CHECK(expr >= 0 && (size_t)expr < b->expr_count);
    return true;
}

/* ---- rules ---- */

static uint64_t hash_name(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)s[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

static int add_rule(struct grammar_builder *b, const char *name, size_t len)
{
    if (b->failed)
        return -1;
    if (b->rule_count >= LIMIT_GRAMMAR_RULES)
        return too_large(b, "too many rules", LIMIT_GRAMMAR_RULES);
    if (!VEC_RESERVE(b->rules, b->rule_cap, b->rule_count + 1))
        return no_memory(b);
    char *copy = name ? mem_strndup(name, len) : NULL;
    if (name && !copy)
        return no_memory(b);
    b->rules[b->rule_count] = (struct rule){.name = copy, .expr = -1, .start = NO_CODE};
    return (int)b->rule_count++;
}

int grammar_build_rule(struct grammar_builder *b, const char *name)
{
    return add_rule(b, name, name ? strlen(name) : 0);
}

static size_t name_slot(const struct grammar_builder *b, const char *name, size_t len)
{
    size_t mask = b->name_slots - 1, at = (size_t)hash_name(name, len) & mask;
    for (; b->names[at] != 0; at = (at + 1) & mask) {
        const char *other = b->rules[b->names[at] - 1].name;
        if (strlen(other) == len && memcmp(other, name, len) == 0)
            break;
    }
    return at;
}

static bool grow_names(struct grammar_builder *b)
{
    if (b->name_slots > 2 * (b->name_count + 1))
        return true;
    size_t slots = b->name_slots ? 2 * b->name_slots : 64;
    uint32_t *old = b->names, *names = mem_calloc(slots, sizeof *names);
    size_t old_slots = b->name_slots;
    if (!names)
        return false;
    b->names = names;
    b->name_slots = slots;
    for (size_t i = 0; i < old_slots; i++)
        if (old[i] != 0) {
            const char *name = b->rules[old[i] - 1].name;
            names[name_slot(b, name, strlen(name))] = old[i];
        }
    mem_free(old);
    return true;
}

int grammar_build_rule_named(struct grammar_builder *b, const char *name, size_t len)
{
    if (b->failed)
        return -1;
    if (!grow_names(b))
        return no_memory(b);
    size_t at = name_slot(b, name, len);
    if (b->names[at] != 0)
        return (int)b->names[at] - 1;
    int rule = add_rule(b, name, len);
    if (rule >= 0) {
        b->names[at] = (uint32_t)rule + 1;
        b->name_count++;
    }
    return rule;
}

void grammar_build_define(struct grammar_builder *b, int rule, int expr)
{
    struct err e;
    if (!is_expr(b, expr))
        return;
    CHECK(rule >= 0 && (size_t)rule < b->rule_count);
    if (b->rules[rule].expr >= 0) {
        err_set(&e, STATUS_INVALID, NULL, "Rule '%.64s' is defined twice.", rule_name(b, rule));
        grammar_build_fail(b, &e);
        return;
    }
    b->rules[rule].expr = expr;
}

bool grammar_build_defined(const struct grammar_builder *b, int rule)
{
    return !b->failed && b->rules[rule].expr >= 0;
}

int grammar_build_as_rule(struct grammar_builder *b, const char *name, int expr)
{
    int rule = grammar_build_rule(b, name);
    grammar_build_define(b, rule, expr);
    return grammar_build_ref(b, rule);
}

/* ---- expressions ---- */

static uint32_t size_sum(uint32_t a, uint64_t b)
{
    uint64_t sum = a + b;
    return sum > LIMIT_GRAMMAR_CODE ? LIMIT_GRAMMAR_CODE + 1u : (uint32_t)sum;
}

static int add_expr(struct grammar_builder *b, struct expr x)
{
    if (b->failed)
        return -1;
    if (b->expr_count >= LIMIT_GRAMMAR_CODE || x.size > LIMIT_GRAMMAR_CODE)
        return too_large(b, "too many expressions", LIMIT_GRAMMAR_CODE);
    if (x.depth > LIMIT_GRAMMAR_EXPR_DEPTH)
        return too_large(b, "expressions nested too deeply", LIMIT_GRAMMAR_EXPR_DEPTH);
    if (!VEC_RESERVE(b->exprs, b->expr_cap, b->expr_count + 1))
        return no_memory(b);
    b->exprs[b->expr_count] = x;
    return (int)b->expr_count++;
}

int grammar_build_ref(struct grammar_builder *b, int rule)
{
    if (b->failed)
        return -1;
    CHECK(rule >= 0 && (size_t)rule < b->rule_count);
    return add_expr(b, (struct expr){.kind = EXPR_REF, .a = (uint32_t)rule, .size = 1});
}

int grammar_build_literal(struct grammar_builder *b, const char *bytes, size_t n)
{
    if (b->failed)
        return -1;
    if (n > LIMIT_GRAMMAR_CODE - b->byte_count)
        return too_large(b, "too much literal text", LIMIT_GRAMMAR_CODE);
    if (!VEC_RESERVE(b->bytes, b->byte_cap, b->byte_count + n + 1))
        return no_memory(b);
    if (n > 0)
        memcpy(b->bytes + b->byte_count, bytes, n);
    struct expr x = {
        .kind = EXPR_LITERAL, .a = (uint32_t)b->byte_count, .b = (uint32_t)n, .size = (uint32_t)n};
    b->byte_count += n;
    return add_expr(b, x);
}

int grammar_build_text(struct grammar_builder *b, const char *text)
{
    return grammar_build_literal(b, text, strlen(text));
}

int grammar_build_empty(struct grammar_builder *b)
{
    return grammar_build_literal(b, "", 0);
}

int grammar_build_never(struct grammar_builder *b)
{
    return add_expr(b, (struct expr){.kind = EXPR_NEVER, .size = 1});
}

int grammar_build_byte(struct grammar_builder *b, uint8_t first, uint8_t last)
{
    return add_expr(
        b, (struct expr){
               .kind = first <= last ? EXPR_BYTE : EXPR_NEVER, .a = first, .b = last, .size = 1});
}

static int by_first(const void *x, const void *y)
{
    const struct grammar_range *a = x, *b = y;
    return a->first < b->first ? -1 : a->first > b->first;
}

#define SURROGATE_FIRST 0xD800u
#define SURROGATE_LAST  0xDFFFu
#define CHAR_LAST       0x10FFFFu

static bool put_range(struct grammar_builder *b, uint32_t first, uint32_t last)
{
    if (first > last)
        return true;
    if (!VEC_RESERVE(b->ranges, b->range_cap, b->range_count + 1))
        return false;
    b->ranges[b->range_count++] = (struct grammar_range){first, last};
    return true;
}

/* Without surrogates. */
static bool put_chars(struct grammar_builder *b, uint32_t first, uint32_t last)
{
    if (last < SURROGATE_FIRST || first > SURROGATE_LAST)
        return put_range(b, first, last);
    return (first >= SURROGATE_FIRST || put_range(b, first, SURROGATE_FIRST - 1)) &&
           (last <= SURROGATE_LAST || put_range(b, SURROGATE_LAST + 1, last));
}

/* Sorted ranges become disjoint, or their complement. */
static bool put_class(struct grammar_builder *b, const struct grammar_range *r, size_t count,
                      bool negated)
{
    uint32_t next = 0; /* first code point that nothing was said about */
    bool ok = true;
    for (size_t i = 0; ok && i < count && next <= CHAR_LAST; i++) {
        uint32_t first = r[i].first, last = r[i].last > CHAR_LAST ? CHAR_LAST : r[i].last;
        if (first > last || last < next)
            continue;
        first = first < next ? next : first;
        if (!negated)
            ok = put_chars(b, first, last);
        else if (first > next)
            ok = put_chars(b, next, first - 1);
        next = last + 1;
    }
    if (ok && negated && next <= CHAR_LAST)
        ok = put_chars(b, next, CHAR_LAST);
    return ok;
}

int grammar_build_chars(struct grammar_builder *b, const struct grammar_range *ranges, size_t count,
                        bool negated)
{
    if (b->failed)
        return -1;
    if (count > LIMIT_GRAMMAR_CODE || b->range_count > LIMIT_GRAMMAR_CODE)
        return too_large(b, "too many ranges of characters", LIMIT_GRAMMAR_CODE);
    struct grammar_range *sorted = mem_alloc(count + 1, sizeof *sorted);
    if (!sorted)
        return no_memory(b);
    if (count > 0)
        memcpy(sorted, ranges, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_first);
    size_t begin = b->range_count;
    bool ok = put_class(b, sorted, count, negated);
    mem_free(sorted);
    if (!ok)
        return no_memory(b);
    size_t n = b->range_count - begin;
    if (n == 0)
        return grammar_build_never(b);
    return add_expr(b, (struct expr){.kind = EXPR_CHARS,
                                     .a = (uint32_t)begin,
                                     .b = (uint32_t)n,
                                     .size = size_sum(8, 4 * (uint64_t)n)});
}

static int add_list(struct grammar_builder *b, enum expr_kind kind, const int *parts, size_t count)
{
    struct expr x = {.kind = kind, .a = (uint32_t)b->list_count, .b = (uint32_t)count, .size = 1};
    if (b->failed)
        return -1;
    if (count > LIMIT_GRAMMAR_CODE - b->list_count)
        return too_large(b, "too many expressions", LIMIT_GRAMMAR_CODE);
    if (!VEC_RESERVE(b->lists, b->list_cap, b->list_count + count))
        return no_memory(b);
    for (size_t i = 0; i < count; i++) {
        if (!is_expr(b, parts[i]))
            return -1;
        const struct expr *p = &b->exprs[parts[i]];
        x.depth = p->depth >= x.depth ? (uint16_t)(p->depth + 1) : x.depth;
        x.size = size_sum(x.size, p->size);
        b->lists[b->list_count++] = parts[i];
    }
    return add_expr(b, x);
}

int grammar_build_seq(struct grammar_builder *b, const int *parts, size_t count)
{
    return count == 0   ? grammar_build_empty(b)
           : count == 1 ? (b->failed ? -1 : parts[0])
                        : add_list(b, EXPR_SEQ, parts, count);
}

int grammar_build_seq2(struct grammar_builder *b, int first, int second)
{
    return grammar_build_seq(b, (int[]){first, second}, 2);
}

int grammar_build_seq3(struct grammar_builder *b, int first, int second, int third)
{
    return grammar_build_seq(b, (int[]){first, second, third}, 3);
}

int grammar_build_alt(struct grammar_builder *b, const int *parts, size_t count)
{
    return count == 0   ? grammar_build_never(b)
           : count == 1 ? (b->failed ? -1 : parts[0])
                        : add_list(b, EXPR_ALT, parts, count);
}

int grammar_build_alt2(struct grammar_builder *b, int one, int other)
{
    return grammar_build_alt(b, (int[]){one, other}, 2);
}

int grammar_build_optional(struct grammar_builder *b, int part)
{
    return grammar_build_repeat(b, part, 0, 1);
}

/* Are so many copies cheaper than counting? */
static bool copies(uint32_t size, int times)
{
    return times <= 1 || (uint64_t)size * (uint32_t)times <= COPIES_CODE;
}

int grammar_build_repeat(struct grammar_builder *b, int part, int min, int max)
{
    if (!is_expr(b, part))
        return -1;
    CHECK(min >= 0 && (max >= 0 || max == GRAMMAR_NO_MAX));
    if (max == 0 && min == 0)
        return grammar_build_empty(b);
    if (max != GRAMMAR_NO_MAX && min > max)
        return grammar_build_never(b);
    uint32_t one = size_sum(b->exprs[part].size, 1);
    int times = max == GRAMMAR_NO_MAX ? min : max;
    uint32_t size = copies(one, times) ? (uint32_t)times * one : one + 1;
    if (max == GRAMMAR_NO_MAX)
        size = size_sum(size, one);
    return add_expr(b, (struct expr){.kind = EXPR_REPEAT,
                                     .depth = (uint16_t)(b->exprs[part].depth + 1),
                                     .a = (uint32_t)part,
                                     .min = min,
                                     .max = max,
                                     .size = size_sum(size, 1)});
}

/* ---- code ---- */

static uint32_t emit(struct grammar_builder *b, struct code c)
{
    struct grammar *g = b->g;
    if (g->code_count >= LIMIT_GRAMMAR_CODE) {
        too_large(b, "too many instructions", LIMIT_GRAMMAR_CODE);
        return NO_CODE;
    }
    if (!VEC_RESERVE(g->code, g->code_cap, g->code_count + 1)) {
        no_memory(b);
        return NO_CODE;
    }
    g->code[g->code_count] = c;
    return (uint32_t)g->code_count++;
}

static uint32_t emit_byte(struct grammar_builder *b, uint8_t first, uint8_t last, uint32_t next)
{
    if (next == NO_CODE)
        return NO_CODE;
    return emit(b, (struct code){.op = CODE_BYTE, .first = first, .last = last, .next = next});
}

/* Room for `count` targets; NO_CODE: none. */
static uint32_t take_targets(struct grammar_builder *b, size_t count)
{
    struct grammar *g = b->g;
    if (g->target_count + count > LIMIT_GRAMMAR_CODE) {
        too_large(b, "too many alternatives", LIMIT_GRAMMAR_CODE);
        return NO_CODE;
    }
    if (!VEC_RESERVE(g->targets, g->target_cap, g->target_count + count)) {
        no_memory(b);
        return NO_CODE;
    }
    g->target_count += count;
    return (uint32_t)(g->target_count - count);
}

static uint32_t emit_split2(struct grammar_builder *b, uint32_t one, uint32_t other)
{
    uint32_t at = one == NO_CODE || other == NO_CODE ? NO_CODE : take_targets(b, 2);
    if (at == NO_CODE)
        return NO_CODE;
    b->g->targets[at] = one;
    b->g->targets[at + 1] = other;
    return emit(b, (struct code){.op = CODE_SPLIT, .arg = at, .next = 2});
}

static bool push(struct grammar_builder *b, uint32_t at)
{
    if (at == NO_CODE)
        return false;
    if (!VEC_RESERVE(b->stack, b->stack_cap, b->stack_count + 1)) {
        no_memory(b);
        return false;
    }
    b->stack[b->stack_count++] = at;
    return true;
}

/* A split of everything pushed since the stack had `base` entries. */
static uint32_t emit_split(struct grammar_builder *b, size_t base)
{
    size_t count = b->stack_count - base;
    b->stack_count = base;
    if (count == 0)
        return GRAMMAR_NEVER;
    if (count == 1)
        return b->stack[base];
    uint32_t at = take_targets(b, count);
    if (at == NO_CODE)
        return NO_CODE;
    memcpy(b->g->targets + at, b->stack + base, count * sizeof *b->stack);
    return emit(b, (struct code){.op = CODE_SPLIT, .arg = at, .next = (uint32_t)count});
}

/* ---- code points as bytes ---- */

struct chars {
    uint32_t next;
    uint32_t any[3]; /* 1 .. 3 continuation bytes of any value, then next; NO_CODE: not yet */
};

static uint32_t any_tail(struct grammar_builder *b, struct chars *c, int bytes)
{
    uint32_t at = c->next;
    for (int i = 0; i < bytes; i++) {
        if (c->any[i] == NO_CODE)
            c->any[i] = emit_byte(b, 0x80, 0xBF, at);
        at = c->any[i];
        if (at == NO_CODE)
            return NO_CODE;
    }
    return at;
}

/* One alternative for first .. last, of `n` bytes both, in which all bytes behind the first one
 * that differs run over all their values. */
static bool push_run(struct grammar_builder *b, struct chars *c, const char *first,
                     const char *last, int n)
{
    int same = 0;
    while (same < n - 1 && first[same] == last[same])
        same++;
    uint32_t at = any_tail(b, c, n - 1 - same);
    for (int i = same; i >= 0 && at != NO_CODE; i--)
        at = emit_byte(b, (uint8_t)first[i], (uint8_t)last[i], at);
    return push(b, at);
}

/* Cuts first .. last where the length or the run of a leading byte changes. */
static bool push_range(struct grammar_builder *b, struct chars *c, uint32_t first, uint32_t last)
{
    static const uint32_t length_last[4] = {0x7F, 0x7FF, 0xFFFF, CHAR_LAST};
    while (first <= last) {
        int n = first <= 0x7F ? 1 : first <= 0x7FF ? 2 : first <= 0xFFFF ? 3 : 4;
        uint32_t end = last < length_last[n - 1] ? last : length_last[n - 1];
        /* The largest block of whole tails that begins at `first`, else up to the next such. */
        for (int tail = 1; tail < n; tail++) {
            uint32_t mask = (1u << 6 * tail) - 1;
            if ((first & ~mask) == (end & ~mask))
                continue;
            if (first & mask)
                end = first | mask;
            else if ((end & mask) != mask)
                end = (end & ~mask) - 1;
        }
        char from[4], to[4];
        utf8_encode(first, from);
        utf8_encode(end, to);
        if (!push_run(b, c, from, to, n))
            return false;
        first = end + 1;
    }
    return true;
}

static uint32_t gen_chars(struct grammar_builder *b, const struct expr *x, uint32_t next)
{
    struct chars c = {.next = next, .any = {NO_CODE, NO_CODE, NO_CODE}};
    size_t base = b->stack_count;
    for (uint32_t i = 0; i < x->b; i++)
        if (!push_range(b, &c, b->ranges[x->a + i].first, b->ranges[x->a + i].last))
            return NO_CODE;
    return emit_split(b, base);
}

/* ---- expressions as code ---- */

static uint32_t gen(struct grammar_builder *b, int expr, uint32_t next);

static uint32_t gen_ref(struct grammar_builder *b, int rule, uint32_t next)
{
    struct rule *r = &b->rules[rule];
    if (r->start == NO_CODE) {
        /* A jump stands for its beginning until that is known. */
        r->start = emit(b, (struct code){.op = CODE_JUMP});
        if (r->start == NO_CODE)
            return NO_CODE;
        if (!VEC_RESERVE(b->todo, b->todo_cap, b->todo_count + 1)) {
            no_memory(b);
            return NO_CODE;
        }
        b->todo[b->todo_count++] = rule;
    }
    if (next == GRAMMAR_RETURN)
        return r->start;
    return emit(b, (struct code){.op = CODE_CALL, .next = next, .arg = r->start});
}

static uint32_t gen_alt(struct grammar_builder *b, const struct expr *x, uint32_t next)
{
    size_t base = b->stack_count;
    for (uint32_t i = 0; i < x->b; i++)
        if (!push(b, gen(b, b->lists[x->a + i], next)))
            return NO_CODE;
    return emit_split(b, base);
}

static uint32_t gen_counted(struct grammar_builder *b, const struct expr *x, int min, int max,
                            uint32_t next)
{
    struct grammar *g = b->g;
    uint32_t body = gen(b, (int)x->a, GRAMMAR_RETURN);
    if (body == NO_CODE)
        return NO_CODE;
    if (!VEC_RESERVE(g->counts, g->count_cap, g->count_count + 1)) {
        no_memory(b);
        return NO_CODE;
    }
    g->counts[g->count_count] = (struct code_count){body, (uint32_t)min, (uint32_t)max};
    return emit(b,
                (struct code){.op = CODE_COUNT, .next = next, .arg = (uint32_t)g->count_count++});
}

static uint32_t gen_loop(struct grammar_builder *b, const struct expr *x, uint32_t next)
{
    uint32_t loop = emit_split2(b, next, next);
    uint32_t body = loop == NO_CODE ? NO_CODE : gen(b, (int)x->a, loop);
    if (body == NO_CODE)
        return NO_CODE;
    b->g->targets[b->g->code[loop].arg] = body;
    return loop;
}

static uint32_t gen_repeat(struct grammar_builder *b, const struct expr *x, uint32_t next)
{
    uint32_t one = size_sum(b->exprs[x->a].size, 1), at = next;
    bool bound = x->max != GRAMMAR_NO_MAX;
    if (bound && !copies(one, x->max))
        return gen_counted(b, x, x->min, x->max, next);
    if (!bound)
        at = gen_loop(b, x, next);
    for (int i = x->min; bound && i < x->max && at != NO_CODE; i++)
        at = emit_split2(b, gen(b, (int)x->a, at), next);
    if (at != NO_CODE && !copies(one, x->min))
        return gen_counted(b, x, x->min, x->min, at);
    for (int i = 0; i < x->min && at != NO_CODE; i++)
        at = gen(b, (int)x->a, at);
    return at;
}

/* As deep as expressions, LIMIT_GRAMMAR_EXPR_DEPTH. Where the expression begins that is followed by
 * `next`; NO_CODE: failed. */
static uint32_t gen(struct grammar_builder *b, int expr, uint32_t next)
{
    const struct expr *x = &b->exprs[expr];
    uint32_t at = next;
    switch ((enum expr_kind)x->kind) {
    case EXPR_NEVER:
        return GRAMMAR_NEVER;
    case EXPR_LITERAL:
        for (uint32_t i = x->b; i > 0 && at != NO_CODE; i--) {
            uint8_t byte = (uint8_t)b->bytes[x->a + i - 1];
            at = emit_byte(b, byte, byte, at);
        }
        return at;
    case EXPR_BYTE:
        return emit_byte(b, (uint8_t)x->a, (uint8_t)x->b, next);
    case EXPR_CHARS:
        return gen_chars(b, x, next);
    case EXPR_SEQ:
        for (uint32_t i = x->b; i > 0 && at != NO_CODE; i--)
            at = gen(b, b->lists[x->a + i - 1], at);
        return at;
    case EXPR_ALT:
        return gen_alt(b, x, next);
    case EXPR_REPEAT:
        return gen_repeat(b, x, next);
    case EXPR_REF:
        return gen_ref(b, (int)x->a, next);
    }
    return NO_CODE;
}

static bool gen_rule(struct grammar_builder *b, int rule)
{
    struct err e;
    struct rule *r = &b->rules[rule];
    b->at_rule = rule;
    if (r->expr < 0) {
        err_set(&e, STATUS_INVALID, NULL, "Rule '%.64s' is not defined.", rule_name(b, rule));
        return grammar_build_fail(b, &e) == 0;
    }
    uint32_t begin = gen(b, r->expr, GRAMMAR_RETURN);
    if (begin == NO_CODE)
        return false;
    b->g->code[r->start].next = begin;
    return true;
}

enum status grammar_build_finish(struct grammar_builder *b, int root, struct grammar **out,
                                 struct err *e)
{
    if (!b->failed) {
        b->g = mem_calloc(1, sizeof *b->g);
        if (!b->g)
            no_memory(b);
    }
    if (!b->failed) {
        atomic_init(&b->g->refs, 1);
        emit(b, (struct code){.op = CODE_RETURN});
        emit(b, (struct code){.op = CODE_NEVER});
        b->g->start = b->failed ? 0 : gen_ref(b, root, GRAMMAR_RETURN);
        for (size_t i = 0; !b->failed && i < b->todo_count; i++)
            gen_rule(b, b->todo[i]);
    }
    if (b->failed) {
        if (e)
            *e = b->err;
        return b->err.code;
    }
    enum status st = grammar_code_finish(b->g, e);
    if (st != STATUS_OK)
        return st;
    *out = b->g;
    b->g = NULL;
    return STATUS_OK;
}
