/* engine_adapter_data: what the engine is told and tells about adapters. Plain data. */
#ifndef CHORUS_ENGINE_ADAPTER_DATA_H
#define CHORUS_ENGINE_ADAPTER_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/limits.h"
#include "engine/base/status.h"

/* One of a request's voices, or one part of a blend. */
struct engine_adapter_use {
    char name[LIMIT_NAME_BYTES + 1];
    uint64_t generation; /* filled by engine_submit, as are the fields below the weight */
    float weight;
    bool activated;  /* an activated LoRA by its own name: it acts from a token of the prompt on */
    int active_from; /* that token's index; -1: its invocation sequence is not in the prompt */
};

/* The width at which an adapter's factors are kept. Quantised, each answer is what the values of
 * codes and scales give. */
enum engine_adapter_quant {
    ENGINE_QUANT_DEFAULT, /* as the engine was opened */
    ENGINE_QUANT_NONE,    /* as they are stored */
    ENGINE_QUANT_INT8,    /* a scale for each rank of A and of B */
    ENGINE_QUANT_INT4,    /* a scale for 64 inputs or outputs of a rank */
    ENGINE_QUANT_COUNT
};
/* "default", "none", "int8", "int4" */
extern const char *const engine_adapter_quant_names[ENGINE_QUANT_COUNT];

struct engine_adapter_spec {
    const char *name; /* [A-Za-z0-9._-]{1,64} */
    const char *root; /* NULL, or `path` is a directory of this one and whatever leads out of it,
                         links included, is STATUS_BAD_FILE: for directories others may write to */
    const char *path;
    bool pinned; /* stays in host memory, and on the device as long as others find room there */
    int share; /* 1 .. 100, 0 = 1: where adapters take turns on the device, turns of this length */
    enum engine_adapter_quant quant;
};

#define ENGINE_ADAPTER_USERS 16

/* Who kept a removed adapter alive. */
struct engine_adapter_left {
    uint64_t generation; /* that the name led to */
    int users;           /* requests that still hold it; 0: it is gone */
    int told;            /* of these in request_id */
    char request_id[ENGINE_ADAPTER_USERS][129];
};

/* Where a generation's bytes are nearest to the device. */
enum engine_adapter_tier { ENGINE_TIER_DISK, ENGINE_TIER_HOST, ENGINE_TIER_DEVICE };

struct engine_adapter_part {
    char name[LIMIT_NAME_BYTES + 1];
    float weight;
};

/* Counters that only grow are the name's: a new generation goes on with those of the ones it
 * replaced, once these are gone. */
struct engine_adapter_info {
    char name[LIMIT_NAME_BYTES + 1];
    char path[512]; /* "": a blend */
    char sha256[65];
    uint64_t generation;
    int rank_max;
    int module_count;
    unsigned targets; /* engine_adapter_target */
    size_t bytes;
    float scale_min; /* effective scales over its modules */
    float scale_max;
    int32_t alora_tokens[LIMIT_ALORA_TOKENS]; /* the invocation sequence of an activated LoRA */
    int alora_token_count;                    /* 0: an ordinary one */
    enum engine_adapter_quant quant;          /* never the default; of a blend none */
    float quant_error; /* of A's and B's values: root mean square, relative to theirs; 0: none */
    int part_count;    /* a blend's; 0: no blend */
    struct engine_adapter_part parts[LIMIT_ADAPTERS_PER_REQUEST];
    enum engine_adapter_tier tier;
    bool pinned;
    int share;
    int users;                /* requests that hold this generation */
    bool resident;            /* in a device slot */
    bool loading;             /* on its way from disk or to the device */
    bool draining;            /* its name leads elsewhere or nowhere; gone with its last user */
    int64_t last_used_unix_s; /* 0: never */
    /* counters */
    uint64_t requests;
    uint64_t hits;        /* requests that found it on the device */
    uint64_t misses;      /* requests that had to wait for it */
    uint64_t loads;       /* to the device */
    uint64_t evictions;   /* from the device */
    uint64_t disk_reads;  /* after it was added */
    double load_s;        /* from disk or host memory to the device, summed over loads */
    double queue_s;       /* submitted to first scheduled, summed over `scheduled` requests */
    double first_token_s; /* submitted to first token, summed over `first_tokens` requests */
    uint64_t scheduled;
    uint64_t first_tokens;
    uint64_t tokens_in;
    uint64_t tokens_out;
};

struct engine_adapter_tensor {
    char name[192];
    char shape[64]; /* "[16, 64]" */
    char dtype[12];
    char why[200]; /* it does not match because of this; "": it matches */
};

/* What a directory would be as an adapter of this base. */
struct engine_adapter_report {
    enum status status; /* STATUS_OK: it would be added; else `why` */
    struct err why;
    struct engine_adapter_tensor *tensors; /* owned, [tensor_count] by name; empty where the file
                                              itself cannot be read */
    int tensor_count;
    int unmatched;
    /* with STATUS_OK only */
    char sha256[65];
    int rank_max;
    int module_count;
    int zero_modules; /* change nothing: B or the scale is zero */
    bool no_op;       /* all of them */
    unsigned targets; /* engine_adapter_target */
    float scale_min;
    float scale_max;
    size_t bytes;
    int32_t alora_tokens[LIMIT_ALORA_TOKENS];
    int alora_token_count;
};

#endif
