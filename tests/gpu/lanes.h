/* lanes: several backends driven through the same steps, for comparing them row by row.
 *
 * A run is a seeded mix of sequences: prompts cut into random chunks, decode rows between them,
 * the base, single adapters and blends side by side, some that begin to act within a prompt, pages
 * taken from a shuffled free list and used again after others. Lane 0 leads: its tokens go on in
 * every lane, so that a difference never grows by taking another path. One thread.
 */
#ifndef CHORUS_TESTS_GPU_LANES_H
#define CHORUS_TESTS_GPU_LANES_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/backend.h"

#define LANES_MAX 16

/* A generator for everything random in these programs (splitmix64, Steele, Lea, Flood 2014). */
struct lanes_rng {
    uint64_t state;
};
uint64_t lanes_next(struct lanes_rng *r);
int lanes_below(struct lanes_rng *r, int n);
/* In [0, 1). */
double lanes_unit(struct lanes_rng *r);

/* Ends the program with a line on stderr: a test that cannot go on has failed. */
void lanes_die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* The number at the start of `s`, *end behind it; outside of [least, most] the program ends with
 * `usage`. */
int lanes_number(const char *s, long least, long most, const char *usage, char **end);
/* Zeroed; ends the program when there is no memory. */
void *lanes_alloc(size_t count, size_t size);

struct lanes_seq {
    /* Asked for. */
    int prompt_count;
    int generate;
    int adapter_count;
    int32_t slots[LIMIT_ADAPTERS_PER_REQUEST];
    float weights[LIMIT_ADAPTERS_PER_REQUEST];
    int32_t from[LIMIT_ADAPTERS_PER_REQUEST]; /* first token each acts on, ascending */
    bool score;                               /* every prompt row is an output row */
    struct sample_params params;
    struct logit_bias bias[4];
    int32_t banned[2];
    int banned_count;
    /* State. */
    int32_t *tokens; /* owned, [prompt_count + generate] */
    int count;
    int computed;
    int32_t *pages; /* owned */
    int page_count;
    bool running;
};

struct lanes_setup {
    int vocab;
    int layers;
    int sequences;
    int adapters;   /* slots 0 .. adapters - 1 are loaded in every lane */
    int prompt_max; /* prompts have 1 .. prompt_max tokens, most of them few */
    int generate_max;
    int chunk_max; /* prompt rows of a sequence in one step */
    bool sampled;  /* a part of the sequences is sampled, with penalties, bans and biases */
    uint64_t seed;
};

/* One output row, in every lane. */
struct lanes_row {
    int seq;
    int index; /* of the token that the row predicts */
    bool prefill;
    const struct sample_row *row;
    float *const *logits;                       /* [lanes][V] */
    const struct sample_result *const *results; /* [lanes] */
};

struct lanes {
    struct backend *b[LANES_MAX]; /* borrowed; loaded with `plan` */
    int count;
    struct backend_plan plan;
    void (*on_row)(void *ctx, const struct lanes_row *row);
    void *ctx;
};

/* Makes the sequences of a setup; the same seed makes the same ones. lanes_free frees them. */
struct lanes_seq *lanes_make(const struct lanes_setup *s);
void lanes_free(struct lanes_seq *seqs, int count);
/* Runs seqs [count] to their ends with at most in_flight at once; they begin at their prompts
 * again. With `given`, the tokens that are there already lead in place of lane 0. Returns the steps
 * taken. */
int lanes_run(struct lanes *l, const struct lanes_setup *s, struct lanes_seq *seqs, int count,
              int in_flight, bool given);

#endif
