#include "engine/sched/stop.h"

#include <string.h>

void stop_init(struct stop *s, bool include)
{
    memset(s, 0, sizeof *s);
    s->include = include;
}

/* fall[i]: length of the longest proper end of text[0, i] that is also a beginning of text. */
static void fill_fall(const char *text, size_t len, uint16_t *fall)
{
    fall[0] = 0;
    for (size_t i = 1, k = 0; i < len; i++) {
        while (k > 0 && text[i] != text[k])
            k = fall[k - 1];
        k += text[i] == text[k];
        fall[i] = (uint16_t)k;
    }
}

enum status stop_add(struct stop *s, struct arena *a, const char *text, size_t len)
{
    CHECK(s->count < LIMIT_STOP_STRINGS && len >= 1 && len <= LIMIT_STOP_BYTES);
    struct stop_string *t = &s->strings[s->count];
    char *copy = arena_strndup(a, text, len);
    t->fall = arena_alloc(a, len, sizeof *t->fall);
    if (!copy || !t->fall)
        return STATUS_NO_MEMORY;
    t->text = copy;
    t->len = (uint16_t)len;
    fill_fall(copy, len, t->fall);
    s->count++;
    return STATUS_OK;
}

/* Moves one automaton by one byte; true when its string is complete. */
static bool step(struct stop_string *t, char c)
{
    size_t k = t->matched;
    while (k > 0 && c != t->text[k])
        k = t->fall[k - 1];
    k += c == t->text[k];
    t->matched = (uint16_t)k;
    return k == t->len;
}

bool stop_push(struct stop *s, const char *text, size_t n, char *out, size_t *out_len)
{
    /* out holds all text not yet released; what may still match is taken back from its end. */
    memcpy(out, s->hold, s->held);
    size_t len = s->held;
    s->held = 0;
    for (size_t i = 0; i < n; i++) {
        out[len++] = text[i];
        size_t longest = 0;
        for (int k = 0; k < s->count; k++)
            if (step(&s->strings[k], text[i]) && s->strings[k].len > longest) {
                longest = s->strings[k].len;
                s->found = k + 1;
            }
        if (longest > 0) {
            *out_len = s->include ? len : len - longest;
            return true;
        }
    }
    for (int k = 0; k < s->count; k++)
        if (s->strings[k].matched > s->held)
            s->held = s->strings[k].matched;
    len -= s->held;
    memcpy(s->hold, out + len, s->held);
    *out_len = len;
    return false;
}

size_t stop_flush(struct stop *s, char *out)
{
    size_t n = s->held;
    memcpy(out, s->hold, n);
    s->held = 0;
    return n;
}
