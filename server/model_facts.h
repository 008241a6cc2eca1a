/* model_facts: what `chorus ls` tells of a model's or an adapter's directory in one line. Reads
 * headers and configuration, no weights. Any thread. */
#ifndef CHORUS_SERVER_MODEL_FACTS_H
#define CHORUS_SERVER_MODEL_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"

struct model_facts {
    bool adapter;
    bool servable;    /* models: Chorus would load it; adapters: its two files are there */
    char what[64];    /* "llama"; for what is not served as its config.json names it; "" unknown */
    char weights[32]; /* "bf16", "gptq 4-bit"; "" unknown */
    char base[192];   /* adapters: the model it was made for; "" unknown */
    int64_t rank;     /* adapters; 0 unknown */
    int64_t parameters;    /* models that are served; else 0 */
    char why[ERR_MSG_MAX]; /* not servable: the reason */
};

/* Never fails: what cannot be found out is in `why`. */
void model_facts_read(const char *dir, struct model_facts *out);

#endif
