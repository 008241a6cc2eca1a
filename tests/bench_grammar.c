/* Bench of constrained decoding: `make bench-grammar`, or
 *
 *   build/tests/bench_grammar [--most US] [DIR [GRAMMAR.gbnf]]
 *
 * DIR holds a tokenizer.json; without one, 128,000 made-up tokens. Random answers are made, the
 * processor time for each mask and each token is taken: the first answers of a grammar, which
 * compute what is kept, and later ones; once with nothing prepared (cold), once as the engine
 * compiles grammars. Without a file: any JSON object, a schema, a record of fixed keys, patterns of
 * letters, and prose with quotes. Exit code 1 when the 99th percentile of any is above US.
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
#include "engine/base/utf8.h"
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

static const char letters[] = "root ::= ([a-zA-Z0-9 ]{20,80} \".\" [a-z]{1,30} \"\\n\")*\n";

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

/* Returns the 99th percentile. */
static double report(const char *what, double *us, int n)
{
    if (n == 0)
        return 0;
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += us[i];
    qsort(us, (size_t)n, sizeof *us, by_value);
    printf("  %-22s %6d: mean %7.1f us, p50 %7.1f, p90 %7.1f, p99 %7.1f, max %8.1f\n", what, n,
           sum / n, us[n / 2], us[n * 9 / 10], us[n * 99 / 100], us[n - 1]);
    return us[n * 99 / 100];
}

static const char *bytes_of(const void *ctx, int32_t id, size_t *n)
{
    const struct tokenizer *t = ctx;
    return tokenizer_is_special(t, id) ? NULL : tokenizer_token_bytes(t, id, n);
}

static uint64_t seed_now = 1;
static double worst_p99;

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

static void measure(struct grammar *g, const struct token_trie *t)
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
    printf("%zu KiB of states, %zu KiB of masks\n", grammar_machine_bytes(g->machine) >> 10,
           grammar_masks_bytes(g->machine->masks) >> 10);
    double p99[] = {report("mask, first 10 answers", first, firsts),
                    report("mask, later", later, laters)};
    (void)report("token taken", taken, takens);
    for (int i = 0; i < 2; i++)
        worst_p99 = p99[i] > worst_p99 ? p99[i] : worst_p99;
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

static void bench_one(const char *name, enum form form, const char *text, size_t n,
                      const struct token_trie *t, bool warm)
{
    struct grammar *g = NULL;
    struct err e = {0};
    double at = now();
    if (build(form, text, n, &g, &e) != STATUS_OK) {
        printf("%s: %s\n", name, e.msg);
        return;
    }
    double compiled = now();
    if (warm && grammar_state_warm(g, t) != STATUS_OK)
        printf("too ambiguous; ");
    printf("%s, %s: compiled in %.0f us, prepared in %.0f ms, ", name, warm ? "warm" : "cold",
           1e6 * (compiled - at), 1e3 * (now() - compiled));
    measure(g, t);
    grammar_unref(g);
}

static void bench(const char *name, enum form form, const char *text, size_t n,
                  const struct token_trie *t)
{
    bench_one(name, form, text, n, t, false);
    bench_one(name, form, text, n, t, true);
}

/* ---- a vocabulary ---- */

enum { MADE = 128000, MADE_BYTES = 100 };

static char (*made)[MADE_BYTES + 1]; /* owned, [MADE]: a length, then so many bytes */

static size_t make_word(char *to, size_t most, bool capital)
{
    static const char consonants[] = "bcdfghjklmnpqrstvwxyz", vowels[] = "aeiou";
    size_t n = 0;
    for (uint32_t parts = 1 + draw(4); parts > 0 && n + 3 < most; parts--) {
        to[n++] = consonants[draw(21)];
        to[n++] = vowels[draw(5)];
        if (draw(2))
            to[n++] = consonants[draw(21)];
    }
    if (capital)
        to[0] = (char)(to[0] - 'a' + 'A');
    return n;
}

/* Shares as in the large vocabularies: words, other scripts, runs of spaces and signs, and broken
 * characters. */
static size_t make_token(char *to)
{
    static const char signs[] = "\"\\{}[]()<>:;,.!?-_=+*/&%$#@\n\t'";
    uint32_t kind = draw(100);
    size_t n = 0;
    if (kind < 66) {
        if (draw(2))
            to[n++] = ' ';
        return n + make_word(to + n, MADE_BYTES - n, kind > 50);
    }
    if (kind < 68) {
        for (uint32_t k = 1 + draw(3); k > 0; k--)
            to[n++] = (char)('0' + draw(10));
    } else if (kind < 75) {
        for (uint32_t k = 1 + draw(4); k > 0; k--)
            to[n++] = draw(5) ? signs[draw(sizeof signs - 1)] : ' ';
    } else if (kind < 76) {
        n = 2 + draw(MADE_BYTES - 2);
        memset(to, draw(4) ? ' ' : '-', n);
    } else if (kind < 99) {
        for (uint32_t k = 1 + draw(5); k > 0; k--)
            n += utf8_encode(draw(2) ? 0x400 + draw(0x500) : 0x3040 + draw(0x6000), to + n);
    } else {
        for (uint32_t k = 1 + draw(2); k > 0; k--)
            to[n++] = (char)(0x80 + draw(0x75));
    }
    return n;
}

static void make_vocab(void)
{
    made = mem_alloc(MADE, sizeof *made);
    for (int32_t id = 0; made && id < MADE; id++) {
        made[id][1] = (char)id;
        made[id][0] = (char)(id < 256 ? 1 : make_token(made[id] + 1));
    }
}

static const char *bytes_made(const void *ctx, int32_t id, size_t *n)
{
    (void)ctx;
    *n = (size_t)made[id][0];
    return made[id] + 1;
}

static struct token_trie *open_trie(const char *dir, struct tokenizer **tok)
{
    struct token_source from = {bytes_made, NULL};
    struct token_trie *t = NULL;
    struct err e = {0};
    int vocab = MADE;
    if (!dir) {
        make_vocab();
    } else if (tokenizer_open(dir, tok, &e) == STATUS_OK) {
        from = (struct token_source){bytes_of, *tok};
        vocab = (int)tokenizer_vocab_size(*tok);
    } else {
        fprintf(stderr, "%s\n", e.msg);
        return NULL;
    }
    double at = now();
    if ((!dir && !made) || token_trie_create(vocab, &from, &t) != STATUS_OK)
        return NULL;
    printf("%d tokens, %u of them plain, %u nodes, longest %d bytes, built in %.0f ms\n", t->vocab,
           t->plain.count, t->node_count, t->depth_max, 1e3 * (now() - at));
    return t;
}

static void bench_file(const char *path, const struct token_trie *t)
{
    struct file_root here = {0};
    struct err e = {0};
    char *text = NULL;
    size_t n = 0;
    if (file_root_open(".", false, &here, &e) != STATUS_OK ||
        file_read(&here, path, 1 << 20, &text, &n, NULL, &e) != STATUS_OK)
        fprintf(stderr, "%s\n", e.msg);
    else
        bench(path, FORM_GBNF, text, n, t);
    mem_free(text);
    file_root_close(&here);
}

int main(int argc, char **argv)
{
    struct tokenizer *tok = NULL;
    double most = 0;
    if (argc > 2 && strcmp(argv[1], "--most") == 0) {
        most = strtod(argv[2], NULL);
        argc -= 2;
        argv += 2;
    }
    struct token_trie *t = open_trie(argc > 1 ? argv[1] : NULL, &tok);
    if (!t) {
        fprintf(stderr, "bench_grammar [--most US] [DIR [GRAMMAR.gbnf]]\n");
        return 1;
    }
    if (argc > 2) {
        bench_file(argv[2], t);
    } else {
        bench("any JSON object", FORM_OBJECT, NULL, 0, t);
        bench("a schema", FORM_SCHEMA, schema_text, sizeof schema_text - 1, t);
        bench("a record", FORM_GBNF, record, sizeof record - 1, t);
        bench("letters", FORM_GBNF, letters, sizeof letters - 1, t);
        bench("prose", FORM_GBNF, prose, sizeof prose - 1, t);
    }
    token_trie_destroy(t);
    tokenizer_close(tok);
    mem_free(made);
    printf("the worst 99th percentile: %.0f us\n", worst_p99);
    return most > 0 && worst_p99 > most;
}
