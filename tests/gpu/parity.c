/* parity: a backend held against the CPU backend, which computes in float32.
 *
 *   parity [options] MODEL        modes: steps, company, jobs (default: all three)
 *
 * steps    Both backends take the same steps (lanes.h); all log-probabilities of all output rows
 *          are compared, and the greedy tokens. The reference holds the weights that the device
 *          holds (view_stored): bf16, or dequantised int4 and int8, so that what differs is the
 *          arithmetic.
 * company  On the device, every sequence alone must give the bits it gave in company. The device is
 *          `deterministic` here and in jobs, but not in steps.
 * jobs     512 jobs over the base and up to seven adapters through the engine, alone and with 8
 *          and 32 in flight: tokens, log-probabilities, alternatives and embeddings to the bit.
 *
 * The bound. The device rounds to bf16 what a linear reads (norm, attention, SwiGLU, u = A x) and
 * what attention reads (q, k, v); sums, norms, the residual and logits are float32, whose errors
 * are 2^-16 of these. A rounding moves a value by a relative d, |d| <= 2^-8. Rounding input i of a
 * linear by d is the same as multiplying column i of its matrix by 1 + d; rounding output j is the
 * same as multiplying row j. So the device computes exactly what the reference would compute with
 * other weights, each column and row moved by at most 2^-8 (view_rounded), and the question is how
 * far such moves carry the log-probabilities of this model on these steps, over all layers and
 * through every softmax. (Keys and values as bytes are rounded alike on both sides; where a value
 * falls to the neighbouring byte because it came in with other roundings, it does so in the draws
 * too.) That is measured in the same run: D further CPU backends hold weights with
 * columns and rows moved at random, uniform within +-2^-8. A true rounding of a number with a
 * random significand has 0.74 of that deviation, and not every output is rounded, so a draw is an
 * upper estimate of the device's noise. With s(r) the root mean square move of row r over draws and
 * tokens, s that over all rows too,
 *
 *   bound(r) = reach * max(s(r), s),
 *
 * where reach is the farthest that a draw itself gets in any row of the run, in units of the other
 * draws' max(s(r), s). Of each voice (the base, an adapter, blends) the mean difference may not
 * exceed the largest that a draw has. So the device must look like one more draw, and nothing is
 * set by hand.
 *
 * Exit code: 0 all held, 1 something did not, 2 could not run.
 */
#include "tests/gpu/parity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/log.h"

static const char usage[] =
    "usage: parity [options] MODEL [MODE...]\n"
    "modes: steps company jobs (all where none is named)\n"
    "  --backend NAME    cuda, cpu, or noisy (a test of this test); default cuda\n"
    "  --adapters DIR    every sub-directory is an adapter; may be repeated\n"
    "  --adapter-quant FORMAT  none, int8, int4: of all adapters, here and in the reference\n"
    "  --quant FORMAT    none, int8, int4: what the device holds\n"
    "  --head FORMAT     the head's, default int8 where --quant is not none\n"
    "  --kv FORMAT       bf16, int8: keys and values, here and in the reference\n"
    "  --sequences N     in steps and company, default 64\n"
    "  --jobs N          default 512\n"
    "  --draws N         noise draws for the bound, default 8; 0: no bound, for a sanitizer\n"
    "  --launches HOW    plain: no dependent launches, as cards before sm_90\n"
    "  --threads N       of CPU backends\n"
    "  --seed N\n"
    "  --plant FACTOR    make the device's adapters FACTOR times as strong: must fail\n";

static enum weight_format format_of(const char *s)
{
    for (int f = 0; f < WEIGHT_FORMAT_COUNT; f++) {
        if (strcmp(s, parity_formats[f]) == 0)
            return (enum weight_format)f;
    }
    lanes_die("no format \"%s\"; there are none, int8, int4", s);
}

static enum engine_adapter_quant adapter_width(const char *s)
{
    for (int q = ENGINE_QUANT_NONE; q < ENGINE_QUANT_COUNT; q++) {
        if (strcmp(s, engine_adapter_quant_names[q]) == 0)
            return (enum engine_adapter_quant)q;
    }
    lanes_die("no width \"%s\"; there are none, int8, int4", s);
}

static int number(const char *s)
{
    char *end;
    long v = strtol(s, &end, 10);
    if (*end || v < 0 || v > 1000000)
        lanes_die("\"%s\" is not a number that fits", s);
    return (int)v;
}

static void read_option(struct parity *p, const char *name, const char *value, bool *head_given)
{
    if (strcmp(name, "--backend") == 0) {
        p->device = value;
    } else if (strcmp(name, "--adapters") == 0) {
        if (p->dir_count == PARITY_DIRS_MAX)
            lanes_die("more than %d adapter directories", PARITY_DIRS_MAX);
        p->dirs[p->dir_count++] = value;
    } else if (strcmp(name, "--adapter-quant") == 0) {
        p->adapter_quant = adapter_width(value);
    } else if (strcmp(name, "--quant") == 0) {
        p->linears = format_of(value);
    } else if (strcmp(name, "--head") == 0) {
        p->head = format_of(value);
        *head_given = true;
    } else if (strcmp(name, "--kv") == 0) {
        p->kv_type = value;
    } else if (strcmp(name, "--sequences") == 0) {
        p->sequences = number(value);
    } else if (strcmp(name, "--jobs") == 0) {
        p->jobs = number(value);
    } else if (strcmp(name, "--draws") == 0) {
        p->draws = number(value);
    } else if (strcmp(name, "--threads") == 0) {
        p->threads = number(value);
    } else if (strcmp(name, "--seed") == 0) {
        p->seed = (uint64_t)number(value);
    } else if (strcmp(name, "--launches") == 0) {
        p->plain_launches = strcmp(value, "plain") == 0;
    } else if (strcmp(name, "--plant") == 0) {
        p->plant = strtof(value, NULL);
    } else {
        lanes_die("no option %s\n%s", name, usage);
    }
}

static const struct {
    const char *name;
    bool (*run)(const struct parity *p);
} modes[] = {{"steps", parity_steps}, {"company", parity_company}, {"jobs", parity_jobs}};
#define MODE_COUNT 3

int main(int argc, char **argv)
{
    struct parity p = {

        .device = "cuda",
        .adapter_quant = ENGINE_QUANT_NONE,
        .sequences = 64,
        .jobs = 512,
        .draws = 8,
        .seed = 1,
        .plant = 1.0f};
    bool head_given = false;
    bool wanted[MODE_COUNT] = {false};
    int named = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_setup(LOG_LEVEL_WARN, false);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) {
            if (strcmp(argv[i], "--help") == 0 || i + 1 == argc)
                lanes_die("%s", usage);
            read_option(&p, argv[i], argv[i + 1], &head_given);
            i++;
        } else if (!p.model_dir) {
            p.model_dir = argv[i];
        } else {
            int m = 0;
            while (m < MODE_COUNT && strcmp(modes[m].name, argv[i]) != 0)
                m++;
            if (m == MODE_COUNT)
                lanes_die("no mode \"%s\"\n%s", argv[i], usage);
            wanted[m] = true;
            named++;
        }
    }
    if (!p.model_dir)
        lanes_die("%s", usage);
    if (!head_given)
        p.head = p.linears == WEIGHT_BF16 ? WEIGHT_BF16 : WEIGHT_INT8;
    p.exact = strcmp(p.device, "cpu") == 0;
    if (p.draws > LANES_MAX - 2)
        lanes_die("--draws: at most %d", LANES_MAX - 2);
    bool ok = true;
    for (int m = 0; m < MODE_COUNT; m++) {
        if (named == 0 || wanted[m])
            ok = modes[m].run(&p) && ok;
    }
    return ok ? 0 : 1;
}
