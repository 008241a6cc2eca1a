#include "engine/engine_grammar.h"

#include <string.h>

#include <cjson/cJSON.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "engine/engine_internal.h"
#include "engine/grammar/gbnf.h"
#include "engine/grammar/grammar_build.h"
#include "engine/grammar/grammar_forms.h"
#include "engine/grammar/grammar_state.h"
#include "engine/grammar/regular_build.h"
#include "engine/grammar/schema.h"
#include "engine/grammar/tool_grammar.h"

static int fail(struct grammar_builder *b, enum status code, const char *msg)
{
    struct err e;
    err_set(&e, code, NULL, "%s", msg);
    return grammar_build_fail(b, &e);
}

static int read_choice(struct grammar_builder *b, const char *text, size_t n)
{
    struct err e;
    cJSON *list = NULL;
    int rule = -1;
    if (json_parse(text, n, &json_default_limits, &list, &e) != STATUS_OK)
        return grammar_build_fail(b, &e);
    size_t count = cJSON_IsArray(list) ? (size_t)cJSON_GetArraySize(list) : 0, i = 0;
    const char **strings = mem_calloc(count + 1, sizeof *strings);
    size_t *lens = mem_calloc(count + 1, sizeof *lens);
    if (!strings || !lens) {
        fail(b, STATUS_NO_MEMORY, "Out of memory for a choice.");
        goto done;
    }
    for (const cJSON *s = count > 0 ? list->child : NULL; s; s = s->next, i++) {
        strings[i] = cJSON_IsString(s) ? s->valuestring : NULL;
        if (!strings[i]) {
            fail(b, STATUS_INVALID, "A choice is a list of strings.");
            goto done;
        }
        lens[i] = strlen(strings[i]);
    }
    rule = count == 0 ? fail(b, STATUS_INVALID, "A choice needs at least one string.")
                      : grammar_forms_choice(b, strings, lens, count);
done:
    mem_free(strings);
    mem_free(lens);
    cJSON_Delete(list);
    return rule;
}

/* An expression. */
static int build_asked(struct grammar_builder *b, const struct engine_grammar_ask *a)
{
    static const struct json_limits limits = {LIMIT_JSON_DEPTH, LIMIT_JSON_MEMBERS, true};
    /* Schemas lie three levels deep in what is asked. */
    static const struct json_limits tool_limits = {LIMIT_JSON_DEPTH + 3, LIMIT_JSON_MEMBERS, true};
    struct schema_options options = {.strict = a->strict, .compact = a->compact};
    cJSON *schema = NULL;
    struct err e;
    int expr = -1;
    switch (a->kind) {
    case ENGINE_GRAMMAR_JSON_OBJECT:
        return schema_build_object(b, a->compact);
    case ENGINE_GRAMMAR_JSON_SCHEMA:
        if (json_parse(a->text, a->text_len, &limits, &schema, &e) != STATUS_OK)
            return grammar_build_fail(b, &e);
        expr = schema_build(b, schema, &options);
        cJSON_Delete(schema);
        return expr;
    case ENGINE_GRAMMAR_TOOLS:
        if (json_parse(a->text, a->text_len, &tool_limits, &schema, &e) != STATUS_OK)
            return grammar_build_fail(b, &e);
        expr = tool_grammar_build(b, schema);
        cJSON_Delete(schema);
        return expr;
    case ENGINE_GRAMMAR_REGEX:
        return regular_build_pattern(b, a->text, a->text_len);
    case ENGINE_GRAMMAR_CHOICE:
        return read_choice(b, a->text, a->text_len);
    case ENGINE_GRAMMAR_GBNF:
        return grammar_build_ref(b, gbnf_read(b, a->text, a->text_len));
    }
    return expr;
}

static enum status build(const struct engine_grammar_ask *a, struct grammar **out, struct err *err)
{
    struct grammar_builder *b = NULL;
    if (grammar_builder_create(&b) != STATUS_OK)
        return err_set(err, STATUS_NO_MEMORY, NULL, "Out of memory for a grammar.");
    int root = grammar_build_rule(b, "answer");
    int expr = build_asked(b, a);
    if (a->think_close)
        expr = grammar_forms_behind_thought(b, a->thinking ? NULL : a->think_open, a->think_close,
                                            expr);
    grammar_build_define(b, root, expr);
    enum status st = grammar_build_finish(b, root, out, err);
    grammar_builder_destroy(b);
    return st;
}

static void hash_string(struct sha256 *h, const char *s)
{
    sha256_update(h, s ? s : "", s ? strlen(s) + 1 : 1);
}

static void key_of(const struct engine_grammar_ask *a, uint8_t key[SHA256_BYTES])
{
    uint8_t head[] = {(uint8_t)a->kind, a->strict, a->compact, a->thinking, a->think_close != NULL};
    struct sha256 h;
    sha256_init(&h);
    sha256_update(&h, head, sizeof head);
    hash_string(&h, a->think_close ? a->think_open : NULL);
    hash_string(&h, a->think_close);
    sha256_update(&h, a->text, a->text_len);
    sha256_final(&h, key);
}

static enum status tell(enum status st, struct err *err)
{
    switch (st) {
    case STATUS_LIMIT:
        return err_set(err, st, NULL,
                       "The grammar is too ambiguous: too many of its rules may apply at once.");
    case STATUS_NO_MEMORY:
        return err_set(err, st, NULL, "Out of memory for a grammar.");
    default:
        return err_set(err, STATUS_INTERNAL, NULL, "A token was drawn that the grammar forbids.");
    }
}

enum status engine_grammar_compile(struct engine *e, const struct engine_grammar_ask *ask,
                                   struct grammar **out, struct err *err)
{
    uint8_t key[SHA256_BYTES];
    if (!e->trie)
        return err_set(err, STATUS_UNSUPPORTED, NULL, "This engine has no text.");
    if (ask->text_len > LIMIT_GRAMMAR_TEXT_BYTES)
        return err_set(err, STATUS_LIMIT, NULL, "The text has more than %d bytes.",
                       (int)LIMIT_GRAMMAR_TEXT_BYTES);
    key_of(ask, key);
    struct grammar *g = grammar_cache_find(&e->grammars, key);
    if (!g) {
        enum status st = build(ask, &g, err);
        if (st != STATUS_OK)
            return st;
        st = grammar_state_warm(g, e->trie);
        if (st != STATUS_OK) {
            grammar_unref(g);
            return tell(st, err);
        }
        grammar_cache_put(&e->grammars, key, g);
    }
    *out = g;
    return STATUS_OK;
}

void engine_grammar_release(struct grammar *g)
{
    grammar_unref(g);
}

/* ---- the engine thread's part ---- */

static bool has_bit(const uint32_t *mask, int32_t id)
{
    return mask[id / 32] >> (id % 32) & 1u;
}

static bool is_empty(const uint32_t *mask, size_t words)
{
    for (size_t i = 0; i < words; i++)
        if (mask[i] != 0)
            return false;
    return true;
}

/* Too early for an end (min_tokens): those leave the mask, unless nothing else is in it. */
static void ban_ends(const struct engine *e, struct seq *s)
{
    uint8_t had[LIMIT_STOP_TOKENS + MODEL_EOS_MAX] = {0};
    CHECK(s->end_count <= (int)sizeof had);
    for (int i = 0; i < s->end_count; i++) {
        had[i] = has_bit(s->mask, s->ends[i]);
        s->mask[s->ends[i] / 32] &= ~(1u << (s->ends[i] % 32));
    }
    bool empty = is_empty(s->mask, e->trie->mask_words);
    for (int i = 0; empty && i < s->end_count; i++)
        s->mask[s->ends[i] / 32] |= (uint32_t)had[i] << (s->ends[i] % 32);
}

/* Fills the mask of the token after those that were made. *any: some token may come that is text.
 */
static enum status next_mask(const struct engine *e, struct seq *s, bool *any)
{
    enum status st = grammar_state_mask(&s->matched, e->trie, s->mask, any);
    if (st != STATUS_OK)
        return st;
    bool can_end = grammar_state_can_end(&s->matched);
    for (int i = 0; can_end && i < s->end_count; i++) {
        int32_t id = s->ends[i];
        if (e->trie->node_of[id] == 0)
            s->mask[id / 32] |= 1u << (id % 32);
    }
    if (seq_made(s) < s->min_new)
        ban_ends(e, s);
    return STATUS_OK;
}

static enum status nothing_fits(struct err *err)
{
    return err_set(err, STATUS_INVALID, NULL,
                   "The grammar can go on with no token of this model's vocabulary.");
}

enum status engine_grammar_begin(struct engine *e, struct seq *s, struct err *err)
{
    bool any;
    enum status st = grammar_state_init(&s->matched, s->grammar);
    if (st == STATUS_OK)
        st = next_mask(e, s, &any);
    if (st != STATUS_OK)
        return tell(st, err);
    return is_empty(s->mask, e->trie->mask_words) ? nothing_fits(err) : STATUS_OK;
}

enum status engine_grammar_take(struct engine *e, struct seq *s, int32_t token, bool *ended,
                                struct err *err)
{
    bool any = false;
    enum status st = grammar_state_accept_token(&s->matched, e->trie, token);
    if (st != STATUS_OK)
        return tell(st, err);
    *ended = grammar_state_must_end(&s->matched);
    if (*ended || seq_made(s) == s->max_new)
        return STATUS_OK;
    st = next_mask(e, s, &any);
    if (st != STATUS_OK)
        return tell(st, err);
    *ended = !any && grammar_state_can_end(&s->matched);
    return any || *ended ? STATUS_OK : nothing_fits(err);
}
