/* backend_facts: what a loaded backend says of itself. Plain data. */
#ifndef CHORUS_BACKEND_FACTS_H
#define CHORUS_BACKEND_FACTS_H

#include <stdbool.h>
#include <stddef.h>

#define BACKEND_PARTS_MAX 10

struct backend_part {
    const char *name; /* static */
    bool on_host;     /* of a card: in the host's memory */
    size_t bytes;
};

struct backend_facts {
    char device[128];    /* "NVIDIA H100 80GB HBM3", "CPU, avx2, 8 threads" */
    const char *weights; /* static: "bf16", "int8", "int4", ... */
    const char *head;
    const char *kv;
    int part_count;
    struct backend_part parts[BACKEND_PARTS_MAX]; /* "kv" and, of a card, "adapters" among them */
};

#endif
