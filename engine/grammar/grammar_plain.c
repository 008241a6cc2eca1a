#include "engine/grammar/grammar_plain.h"

#include "engine/base/vec.h"

enum {
    SETS_MAX = 16, /* within a character; where there are more, they are not alike */
    WORK_MAX = 20000
};

/* Sets that were met, each once. */
struct sets {
    uint32_t set[SETS_MAX];
    int count;
    bool full;
};

static void meet(struct sets *s, uint32_t set)
{
    for (int i = 0; i < s->count; i++)
        if (s->set[i] == set)
            return;
    if (s->count == SETS_MAX)
        s->full = true;
    else
        s->set[s->count++] = set;
}

static enum status step_range(struct grammar_machine *m, uint32_t set, int first, int last,
                              struct sets *out)
{
    for (int b = first, c = -1; b <= last && !out->full; b++) {
        uint32_t next;
        if (m->g->class_of[b] == c)
            continue;
        c = m->g->class_of[b];
        enum status st = grammar_machine_step(m, set, c, &next);
        if (st != STATUS_OK)
            return st;
        meet(out, next);
    }
    return STATUS_OK;
}

/* Where the characters of one form lead, into `ends`. */
static enum status step_form(struct grammar_machine *m, uint32_t set,
                             const struct token_plain_form *form, struct sets *ends, uint16_t *rise)
{
    struct sets at = {.set = {set}, .count = 1};
    for (int i = 0; i < form->bytes; i++) {
        struct sets next = {.count = 0};
        struct sets *to = i + 1 == form->bytes ? ends : &next;
        for (int k = 0; k < at.count; k++) {
            enum status st = step_range(m, at.set[k], form->first[i], form->last[i], to);
            if (st != STATUS_OK)
                return st;
        }
        if (i + 1 == form->bytes)
            break;
        at.count = 0;
        for (int k = 0; k < next.count; k++) {
            const struct grammar_set *s = &m->sets[next.set[k]];
            *rise = s->rise > *rise ? s->rise : *rise;
            ends->full |= s->escapes || next.full;
            if (next.set[k] == GRAMMAR_SET_DEAD)
                meet(ends, GRAMMAR_SET_DEAD);
            else
                at.set[at.count++] = next.set[k];
        }
    }
    return STATUS_OK;
}

/* Where the characters of a kind lead. */
static enum status look(struct grammar_machine *m, uint32_t set, int kind, uint32_t *next,
                        uint16_t *rise)
{
    struct sets ends = {.count = 0};
    for (int f = 0; f < TOKEN_PLAIN_FORMS && ends.count <= 1 && !ends.full; f++) {
        enum status st = STATUS_OK;
        if (token_plain_forms[f].kind == kind)
            st = step_form(m, set, &token_plain_forms[f], &ends, rise);
        if (st != STATUS_OK)
            return st;
    }
    *next = ends.count == 1 && !ends.full ? ends.set[0] : GRAMMAR_PLAIN_MIXED;
    return STATUS_OK;
}

enum status grammar_plain_of(struct grammar_machine *m, uint32_t set, uint32_t *out)
{
    const uint64_t work_end = m->work_end;
    struct grammar_plain p = {.rise = 0};
    enum status st = STATUS_OK;
    if (m->sets[set].plain != 0) {
        *out = m->sets[set].plain - 1;
        return STATUS_OK;
    }
    if (!VEC_RESERVE(m->plains, m->plain_cap, m->plain_count + 1))
        return STATUS_NO_MEMORY;
    m->work_end = m->work + WORK_MAX < work_end ? m->work + WORK_MAX : work_end;
    for (int k = 0; k < PLAIN_KINDS && st != STATUS_NO_MEMORY; k++) {
        st = look(m, set, 1 << k, &p.next[k], &p.rise);
        if (st != STATUS_OK) /* it would take too much to find out */
            p.next[k] = GRAMMAR_PLAIN_MIXED;
    }
    m->work_end = work_end;
    if (st == STATUS_NO_MEMORY)
        return st;
    m->plains[m->plain_count++] = p;
    m->sets[set].plain = (uint32_t)m->plain_count;
    *out = (uint32_t)m->plain_count - 1;
    return STATUS_OK;
}
