/* A schema or an expression, hostile, and a walk through its grammar. Input: 'r' for an expression
 * or anything else for a schema, the text, a zero byte, what the walk likes at each step.
 *
 * What does not compile says why. What does compile never leads into a dead end, and each whole
 * answer to a schema is one JSON value in UTF-8 without a duplicate among the declared keys. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/utf8.h"
#include "engine/grammar/grammar_build.h"
#include "engine/grammar/grammar_state.h"
#include "engine/grammar/regular_build.h"
#include "engine/grammar/schema.h"

#define WALK_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static enum status compile(bool regex, const char *text, size_t n, struct grammar **out,
                           struct err *e)
{
    if (!regex)
        return schema_compile(text, n, NULL, out, e);
    struct grammar_builder *b;
    require(grammar_builder_create(&b) == STATUS_OK);
    int root = grammar_build_rule(b, "root");
    grammar_build_define(b, root, regular_build_pattern(b, text, n));
    enum status s = grammar_build_finish(b, root, out, e);
    grammar_builder_destroy(b);
    return s;
}

/* The first byte at or after `like` that may come next, or -1. *over: a budget ran out. */
static int step(struct grammar_state *s, uint8_t like, bool *over)
{
    for (unsigned i = 0; i < 256; i++) {
        char byte = (char)(uint8_t)(like + i);
        enum status st = grammar_state_accept(s, &byte, 1);
        if (st == STATUS_OK)
            return (uint8_t)byte;
        *over |= st != STATUS_INVALID;
    }
    return -1;
}

static void check_answer(bool regex, const char *text, size_t n)
{
    static const struct json_limits limits = {128, 100000, false};
    cJSON *tree = NULL;
    struct err e;
    require(utf8_is_valid(text, n));
    /* \u0000 is JSON, but nothing that json_parse reads. */
    if (regex || memmem(text, n, "\\u0000", 6))
        return;
    require(json_parse(text, n, &limits, &tree, &e) == STATUS_OK);
    cJSON_Delete(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct grammar *g = NULL;
    struct grammar_state s = {0};
    struct err e = {0};
    if (n < 1 || n > 4096)
        return 0;
    bool regex = data[0] == 'r';
    const uint8_t *end = memchr(data + 1, 0, n - 1);
    size_t len = end ? (size_t)(end - data - 1) : n - 1;
    const uint8_t *likes = end ? end + 1 : data + n;
    size_t likes_count = (size_t)(data + n - likes);
    enum status status = compile(regex, (const char *)data + 1, len, &g, &e);
    if (status != STATUS_OK) {
        require(e.msg[0] && !g);
        return 0;
    }
    if (grammar_state_init(&s, g) != STATUS_OK) {
        grammar_unref(g);
        return 0;
    }
    char text[WALK_MAX];
    size_t at = 0;
    bool over = false;
    for (; at < WALK_MAX; at++) {
        if (grammar_state_can_end(&s))
            check_answer(regex, text, at);
        int byte = step(&s, at < likes_count ? likes[at] : '"', &over);
        if (byte < 0) {
            require(over || grammar_state_can_end(&s));
            break;
        }
        text[at] = (char)byte;
    }
    grammar_state_deinit(&s);
    grammar_unref(g);
    return 0;
}
