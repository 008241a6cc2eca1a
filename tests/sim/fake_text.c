#include "tests/sim/fake_text.h"

#include <string.h>

#include "engine/base/utf8.h"
#include "tests/sim/fake_backend.h"

#define SPECIAL_COUNT 3
#define LONG_BYTES    700

struct state {
    bool keep_special;
    size_t held;
    char hold[4];
};

static size_t token_text(int32_t id, char *out)
{
    static const char *const first[] = {"</s>", "<eot>", "<|x|>", "\xf0", "\x9f", "\x98", "\x80",
                                        "\xc3", "\xa9",  "é",     "€",    "",     " ",    "\n"};
    int32_t named = (int32_t)(sizeof first / sizeof first[0]);
    if (id < named) {
        memcpy(out, first[id], strlen(first[id]));
        return strlen(first[id]);
    }
    if (id == named) { /* longer than two events, with characters across their borders */
        size_t n = 0;
        for (; n + 3 <= LONG_BYTES; n += 3)
            memcpy(out + n, n % 2 ? "a€" + 1 : "abc", 3);
        return n;
    }
    size_t n = 1 + (size_t)id % 3;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)('a' + (id >> i) % 3);
    return n;
}

static void give(struct state *s, char c, struct strbuf *out)
{
    s->hold[s->held++] = c;
    while (s->held > 0) {
        if (utf8_valid_len(s->hold, s->held) == s->held) {
            strbuf_append(out, s->hold, s->held);
            s->held = 0;
        } else if (utf8_incomplete_tail(s->hold, s->held) == s->held) {
            return;
        } else {
            strbuf_append(out, "\xef\xbf\xbd", 3);
            memmove(s->hold, s->hold + 1, --s->held);
        }
    }
}

static void begin(const void *ctx, void *state, bool keep_special, const int32_t *prompt,
                  int prompt_count)
{
    struct state *s = state;
    (void)ctx;
    (void)prompt;
    (void)prompt_count;
    s->keep_special = keep_special;
}

static void push(const void *ctx, void *state, int32_t token, struct strbuf *out)
{
    struct state *s = state;
    char text[LONG_BYTES];
    (void)ctx;
    if (token < SPECIAL_COUNT && !s->keep_special)
        return;
    size_t n = token_text(token, text);
    for (size_t i = 0; i < n; i++)
        give(s, text[i], out);
}

static void end(const void *ctx, void *state, struct strbuf *out)
{
    struct state *s = state;
    (void)ctx;
    for (; s->held > 0; s->held--)
        strbuf_append(out, "\xef\xbf\xbd", 3);
}

static const char *text_bytes(const void *ctx, int32_t id, size_t *n)
{
    static char text[FAKE_VOCAB][LONG_BYTES + 3];
    (void)ctx;
    *n = id < SPECIAL_COUNT ? 0 : token_text(id, text[id]);
    return *n > 0 ? text[id] : NULL;
}

const struct token_source fake_tokens = {text_bytes, NULL};

const struct engine_detok fake_detok = {
    .state_bytes = sizeof(struct state),
    .text_max = 3 * LONG_BYTES,
    .begin = begin,
    .push = push,
    .end = end,
};
