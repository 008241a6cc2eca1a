/* Bench of constrained decoding, for people:
 *
 *   make build/tests/bench_grammar && build/tests/bench_grammar DIR [GRAMMAR.gbnf]
 *
 * DIR holds a tokenizer.json. Random answers are made, the time for each mask and each token is
 * taken: the first answers of a grammar, which compute what is kept, and later ones. Without a
 * file: any JSON object, a schema, a record of fixed keys, and prose with quotes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"
#include "engine/grammar/gbnf.h"
#include "engine/grammar/grammar_machine.h"
#include "engine/grammar/grammar_mask.h"
#include "engine/grammar/grammar_state.h"
#include "engine/grammar/schema.h"
#include "engine/text/tokenizer.h"

enum { ANSWERS = 200, TOKENS = 150, SAMPLES = ANSWERS * TOKENS };

static const char record[] =
    "root ::= \"{\\\"name\\\": \" string \", \\\"age\\\": \" int \", \\\"tags\\\": [\" (string "
    "(\", "
    "\" string){0,9})? \"], \\\"address\\\": {\\\"street\\\": \" string \", \\\"zip\\\": \\\"\" "
    "[0-9]{5} \"\\\"}, \\\"note\\\": \\\"\" char{0,200} \"\\\"}\"\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "char ::= [^\"\\\\\\x00-\\x1F] | \"\\\\\" [\"\\\\/bfnrt]\n"
    "int ::= [0-9]{1,3}\n";
/* What many fields and choices come to. */
static const char schema_text[] =
    "{\"type\":\"object\",\"required\":[\"id\",\"title\",\"status\",\"items\",\"owner\"],"
    "\"additionalProperties\":false,\"properties\":{\"id\":{\"type\":\"integer\"},\"title\":{"
    "\"type\":"
    "\"string\",\"maxLength\":80},\"status\":{\"enum\":[\"open\",\"closed\",\"in "
    "progress\"]},\"score\":{"
    "\"type\":\"number\",\"minimum\":0,\"maximum\":100},\"when\":{\"type\":\"string\",\"format\":"
    "\"date-time\"},\"mail\":{\"type\":\"string\",\"pattern\":\"^[a-z.]+@[a-z]+[.](com|org)$\"},"
    "\"items\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":20,\"items\":{\"anyOf\":[{\"type\":"
    "\"string\"},"
    "{\"type\":\"object\",\"required\":[\"n\",\"of\"],\"properties\":{\"n\":{\"type\":\"integer\"},"
    "\"of\":{"
    "\"type\":\"string\"}},\"additionalProperties\":false}]}},\"owner\":{\"$ref\":\"#/$defs/"
    "person\"}},"
    "\"$defs\":{\"person\":{\"type\":\"object\",\"required\":[\"name\"],\"additionalProperties\":"
    "false,"
    "\"properties\":{\"name\":{\"type\":\"string\"},\"friends\":{\"type\":\"array\",\"items\":{\"$"
    "ref\":"
    "\"#/$defs/person\"}}}}}}";
static const char prose[] =
    "root ::= (line \"\\n\")+\nline ::= [^\\n\"]* (\"\\\"\" [^\\n\"]* \"\\\"\" "
    "[^\\n\"]*)*\n";

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static void report(const char *what, double *us, int n)
{
    if (n == 0)
        return;
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += us[i];
    qsort(us, (size_t)n, sizeof *us, by_value);
    printf("  %-22s %6d: mean %7.1f us, p50 %7.1f, p90 %7.1f, p99 %7.1f, max %8.1f\n", what, n,
           sum / n, us[n / 2], us[n * 9 / 10], us[n * 99 / 100], us[n - 1]);
}

static const char *bytes_of(const void *ctx, int32_t id, size_t *n)
{
    const struct tokenizer *t = ctx;
    return tokenizer_is_special(t, id) ? NULL : tokenizer_token_bytes(t, id, n);
}

static uint64_t seed_now = 1;

static uint32_t draw(uint32_t below)
{
    seed_now = seed_now * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed_now >> 33) % below;
}

/* Mostly a frequent token (they have low ids), sometimes any. */
static int32_t pick(const struct token_trie *t, const uint32_t *mask)
{
    uint32_t from = draw(draw(4) ? 1000 : (uint32_t)t->vocab);
    for (int i = 0; i < t->vocab; i++) {
        int32_t id = (int32_t)((from + (uint32_t)i) % (uint32_t)t->vocab);
        if (mask[id / 32] >> (id % 32) & 1)
            return id;
    }
    return -1;
}

static void measure(const char *name, struct grammar *g, const struct token_trie *t)
{
    static double first[SAMPLES], later[SAMPLES], taken[SAMPLES];
    int firsts = 0, laters = 0, takens = 0;
    uint32_t *mask = mem_alloc(t->mask_words, sizeof *mask);
    struct grammar_state keep;
    if (!mask || grammar_state_init(&keep, g) != STATUS_OK)
        return;
    for (int a = 0; a < ANSWERS; a++) {
        struct grammar_state s;
        bool any;
        grammar_state_copy(&s, &keep);
        for (int i = 0; i < TOKENS; i++) {
            double at = now();
            enum status st = grammar_state_mask(&s, t, mask, &any);
            double took = 1e6 * (now() - at);
            if (a < 10)
                first[firsts++] = took;
            else
                later[laters++] = took;
            if (st != STATUS_OK || !any)
                break;
            int32_t id = pick(t, mask);
            at = now();
            if (grammar_state_accept_token(&s, t, id) != STATUS_OK)
                printf("  a token of the mask is not taken\n");
            taken[takens++] = 1e6 * (now() - at);
        }
        grammar_state_deinit(&s);
    }
    printf("%s: %zu KiB of states, %zu KiB of masks\n", name,
           grammar_machine_bytes(g->machine) >> 10, grammar_masks_bytes(g->machine->masks) >> 10);
    report("mask, first 10 answers", first, firsts);
    report("mask, later", later, laters);
    report("token taken", taken, takens);
    grammar_state_deinit(&keep);
    mem_free(mask);
}

enum form { FORM_GBNF, FORM_SCHEMA, FORM_OBJECT };

static enum status build(enum form form, const char *text, size_t n, struct grammar **g,
                         struct err *e)
{
    struct grammar_builder *b = NULL;
    if (form == FORM_SCHEMA)
        return schema_compile(text, n, NULL, g, e);
    if (form == FORM_OBJECT)
        return schema_compile(NULL, 0, NULL, g, e);
    if (grammar_builder_create(&b) != STATUS_OK)
        return STATUS_NO_MEMORY;
    enum status st = grammar_build_finish(b, gbnf_read(b, text, n), g, e);
    grammar_builder_destroy(b);
    return st;
}

static void bench(const char *name, enum form form, const char *text, size_t n,
                  const struct token_trie *t)
{
    struct grammar *g = NULL;
    struct err e = {0};
    double at = now();
    if (build(form, text, n, &g, &e) != STATUS_OK) {
        printf("%s: %s\n", name, e.msg);
        return;
    }
    double compiled = now();
    if (grammar_state_warm(g, t) != STATUS_OK)
        printf("too ambiguous; ");
    printf("compiled in %.0f us, warmed up in %.0f ms; ", 1e6 * (compiled - at),
           1e3 * (now() - compiled));
    measure(name, g, t);
    grammar_unref(g);
}

int main(int argc, char **argv)
{
    struct tokenizer *tok = NULL;
    struct token_trie *t = NULL;
    struct err e = {0};
    if (argc < 2 || tokenizer_open(argv[1], &tok, &e) != STATUS_OK) {
        fprintf(stderr, "bench_grammar DIR [GRAMMAR.gbnf]  %s\n", e.msg);
        return 1;
    }
    struct token_source from = {bytes_of, tok};
    double at = now();
    if (token_trie_create((int)tokenizer_vocab_size(tok), &from, &t) != STATUS_OK)
        return 1;
    printf("%d tokens, %u nodes, longest %d bytes, built in %.0f ms\n", t->vocab, t->node_count,
           t->depth_max, 1e3 * (now() - at));
    if (argc > 2) {
        struct file_root here = {0};
        char *text = NULL;
        size_t n = 0;
        if (file_root_open(".", false, &here, &e) != STATUS_OK ||
            file_read(&here, argv[2], 1 << 20, &text, &n, NULL, &e) != STATUS_OK)
            fprintf(stderr, "%s\n", e.msg);
        else
            bench(argv[2], FORM_GBNF, text, n, t);
        mem_free(text);
        file_root_close(&here);
    } else {
        bench("any JSON object", FORM_OBJECT, NULL, 0, t);
        bench("a schema", FORM_SCHEMA, schema_text, sizeof schema_text - 1, t);
        bench("a record", FORM_GBNF, record, sizeof record - 1, t);
        bench("prose", FORM_GBNF, prose, sizeof prose - 1, t);
    }
    token_trie_destroy(t);
    tokenizer_close(tok);
    return 0;
}
