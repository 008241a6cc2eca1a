/* grammar_check: compiles grammars and tries texts on them, for tests in Python.
 *
 * One JSON object a line: {"kind": "schema" | "object" | "regex" | "gbnf", "text", "strict",
 * "compact", "candidates": [text, ...], "walks", "seed"}. One line back: {"error": message,
 * "status": code} or {"accepts": [bool, ...], "walks": [text, ...]}. A walk is a random text that
 * the grammar accepts; those that do not come to an end are left out. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/grammar/gbnf.h"
#include "engine/grammar/grammar_build.h"
#include "engine/grammar/grammar_state.h"
#include "engine/grammar/regular_build.h"
#include "engine/grammar/schema.h"

#define WALK_MAX 1500 /* bytes; from half of it on a walk looks for its end */

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static const char *text_of(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static double number_of(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static enum status compile(const cJSON *in, struct grammar **out, struct err *e)
{
    const char *kind = text_of(in, "kind"), *text = text_of(in, "text");
    const struct schema_options o = {
        .strict = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(in, "strict")),
        .compact = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(in, "compact")),
    };
    if (!strcmp(kind, "schema"))
        return schema_compile(text, strlen(text), &o, out, e);
    if (!strcmp(kind, "object"))
        return schema_compile(NULL, 0, &o, out, e);
    struct grammar_builder *b;
    if (grammar_builder_create(&b) != STATUS_OK)
        return STATUS_NO_MEMORY;
    int root;
    if (!strcmp(kind, "regex")) {
        root = grammar_build_rule(b, "root");
        grammar_build_define(b, root, regular_build_pattern(b, text, strlen(text)));
    } else {
        root = gbnf_read(b, text, strlen(text));
    }
    enum status s = grammar_build_finish(b, root, out, e);
    grammar_builder_destroy(b);
    return s;
}

static bool accepts(struct grammar *g, const char *text)
{
    struct grammar_state s = {0};
    bool ok = grammar_state_init(&s, g) == STATUS_OK &&
              grammar_state_accept(&s, text, strlen(text)) == STATUS_OK &&
              grammar_state_can_end(&s);
    grammar_state_deinit(&s);
    return ok;
}

/* How much a walk likes byte c. */
static unsigned weight(unsigned c, bool closing)
{
    if (c == '"' || c == '}' || c == ']')
        return closing ? 4000 : 60;
    if (c == ' ' || c == '\n' || c == '\\')
        return closing ? 1 : 6;
    if (c < 0x80)
        return closing && c == ',' ? 1 : 10;
    return 1;
}

static bool walk(struct grammar *g, uint64_t *seed, char *out)
{
    struct grammar_state s = {0};
    bool ended = false;
    size_t n = 0;
    if (grammar_state_init(&s, g) != STATUS_OK)
        return false;
    while (n < WALK_MAX && !ended) {
        unsigned sum = 0;
        int pick = -1;
        ended = grammar_state_can_end(&s) && (n > WALK_MAX / 2 || next_random(seed) % 3 == 0);
        for (unsigned c = 1; c < 256 && !ended; c++) {
            struct grammar_state try = {0};
            char byte = (char)c;
            grammar_state_copy(&try, &s);
            if (grammar_state_accept(&try, &byte, 1) == STATUS_OK) {
                unsigned w = weight(c, n > WALK_MAX / 2);
                sum += w;
                if (next_random(seed) % sum < w)
                    pick = (int)c;
            }
            grammar_state_deinit(&try);
        }
        if (pick < 0)
            break;
        out[n++] = (char)pick;
        if (grammar_state_accept(&s, out + n - 1, 1) != STATUS_OK)
            break;
    }
    /* No way on is an end, or the grammar has a dead one: the caller is told. */
    if (!ended && n < WALK_MAX && !grammar_state_can_end(&s))
        memcpy(out + n, "<DEAD>", 7);
    else
        out[n] = '\0';
    ended |= n < WALK_MAX;
    grammar_state_deinit(&s);
    return ended;
}

static cJSON *answer(const cJSON *in)
{
    cJSON *out = cJSON_CreateObject();
    struct grammar *g = NULL;
    struct err e = {0};
    int64_t began = clock_thread_cpu_ns();
    enum status s = compile(in, &g, &e);
    cJSON_AddNumberToObject(out, "compile_ms", (double)(clock_thread_cpu_ns() - began) / 1e6);
    if (s != STATUS_OK) {
        cJSON_AddStringToObject(out, "error", e.msg);
        cJSON_AddStringToObject(out, "status", status_code(s));
        return out;
    }
    cJSON_AddNumberToObject(out, "bytes", (double)grammar_bytes(g));
    cJSON *list = cJSON_AddArrayToObject(out, "accepts"),
          *walks = cJSON_AddArrayToObject(out, "walks");
    const cJSON *v;
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(in, "candidates"))
        cJSON_AddItemToArray(list, cJSON_CreateBool(accepts(g, v->valuestring)));
    uint64_t seed = (uint64_t)number_of(in, "seed") * 2654435761u + 88172645463325252u;
    for (int i = 0; i < (int)number_of(in, "walks"); i++) {
        char text[WALK_MAX + 16];
        if (walk(g, &seed, text))
            cJSON_AddItemToArray(walks, cJSON_CreateString(text));
    }
    grammar_unref(g);
    return out;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        cJSON *in = cJSON_Parse(line);
        cJSON *out = answer(in);
        char *text = cJSON_PrintUnformatted(out);
        puts(text);
        fflush(stdout);
        free(text);
        cJSON_Delete(out);
        cJSON_Delete(in);
    }
    free(line);
    return 0;
}
