#include "server/reasoning.h"

#include <string.h>

#define HELD_BYTES_MAX ((size_t)1 << 24) /* white space without end: out of memory, as it is */

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static size_t skip_space(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && is_space(s[i]))
        i++;
    return i;
}

static size_t trim_end(const char *s, size_t n)
{
    while (n > 0 && is_space(s[n - 1]))
        n--;
    return n;
}

/* Drops the first n bytes of what is held. */
static void drop(struct strbuf *held, size_t n)
{
    if (n == 0)
        return;
    memmove(held->data, held->data + n, held->len - n);
    held->len -= n;
    held->data[held->len] = '\0';
}

static void give(struct strbuf *held, size_t n, struct strbuf *to)
{
    if (n > 0)
        strbuf_append(to, held->data, n);
    drop(held, n);
}

/* How many bytes at the end of s could be white space and the beginning of `tag`. */
static size_t undecided_end(const char *s, size_t n, const char *tag)
{
    size_t k = strlen(tag) - 1;
    k = k < n ? k : n;
    while (k > 0 && memcmp(s + n - k, tag, k) != 0)
        k--;
    return n - trim_end(s, n - k);
}

void reasoning_init(struct reasoning *r, const char *open, const char *close, bool thinking)
{
    *r = (struct reasoning){
        .open = open, .close = close, .state = thinking ? REASONING_OPENED : REASONING_UNDECIDED};
    strbuf_init(&r->held, HELD_BYTES_MAX);
}

void reasoning_deinit(struct reasoning *r)
{
    strbuf_deinit(&r->held);
}

/* One state's look at what is held. False: more text is needed to go on. */
static bool decide_begin(struct reasoning *r)
{
    const char *s = strbuf_str(&r->held);
    size_t skip = skip_space(s, r->held.len);
    size_t n = r->held.len - skip;
    size_t tag = strlen(r->open);
    bool may = memcmp(s + skip, r->open, n < tag ? n : tag) == 0;
    if (may && n < tag)
        return false;
    if (may)
        drop(&r->held, skip + tag);
    r->state = may ? REASONING_OPENED : REASONING_SAYS;
    return true;
}

static bool decide_space(struct reasoning *r, enum reasoning_state next)
{
    drop(&r->held, skip_space(strbuf_str(&r->held), r->held.len));
    if (r->held.len == 0)
        return false;
    r->state = next;
    return true;
}

static bool decide_thought(struct reasoning *r, struct strbuf *thought)
{
    const char *s = strbuf_str(&r->held);
    const char *end = memmem(s, r->held.len, r->close, strlen(r->close));
    if (!end) {
        give(&r->held, r->held.len - undecided_end(s, r->held.len, r->close), thought);
        return false;
    }
    size_t n = (size_t)(end - s);
    size_t rest = n + strlen(r->close);
    size_t text = trim_end(s, n);
    strbuf_append(thought, s, text);
    drop(&r->held, rest);
    r->state = REASONING_CLOSED;
    return true;
}

void reasoning_push(struct reasoning *r, const char *text, size_t n, struct strbuf *thought,
                    struct strbuf *said)
{
    bool more = n > 0;
    strbuf_append(&r->held, text, n);
    said->failed |= r->held.failed;
    while (more && !r->held.failed) {
        switch (r->state) {
        case REASONING_UNDECIDED:
            more = decide_begin(r);
            break;
        case REASONING_OPENED:
            more = decide_space(r, REASONING_THINKS);
            break;
        case REASONING_THINKS:
            more = decide_thought(r, thought);
            break;
        case REASONING_CLOSED:
            more = decide_space(r, REASONING_SAYS);
            break;
        case REASONING_SAYS:
            give(&r->held, r->held.len, said);
            more = false;
            break;
        }
    }
}

void reasoning_end(struct reasoning *r, struct strbuf *thought, struct strbuf *said)
{
    give(&r->held, r->held.len, reasoning_is_thinking(r) ? thought : said);
}

bool reasoning_is_thinking(const struct reasoning *r)
{
    return r->state == REASONING_OPENED || r->state == REASONING_THINKS;
}

bool reasoning_opens(const char *open, const char *text, size_t n)
{
    size_t tag = strlen(open);
    n = trim_end(text, n);
    return n >= tag && memcmp(text + n - tag, open, tag) == 0;
}
