/* adapter: one generation, or a blend of others, as adapter_store keeps it. Plain data; who may
 * touch what is said in adapter_store.h. */
#ifndef CHORUS_ADAPTER_ADAPTER_H
#define CHORUS_ADAPTER_ADAPTER_H

#include "engine/adapter/lora.h"
#include "engine/backend.h"
#include "engine/engine_adapter_data.h"

#define ADAPTER_PATH_BYTES 512
#define ADAPTER_SHARE_MAX  100

/* What stays known of an adapter wherever its bytes are. */
struct adapter_facts {
    uint8_t sha256[SHA256_BYTES];
    int rank_max;
    int module_count;
    unsigned targets; /* bit k: linear kind k, then the head, then the embedding */
    size_t bytes;
    float scale_min;
    float scale_max;
    float quant_error;
    int32_t alora_tokens[LIMIT_ALORA_TOKENS];
    int alora_token_count; /* 0: it acts on every token */
    size_t host_bytes;     /* that it takes in host memory, about */
    size_t device_bytes;   /* 0: it takes a slot only */
};

/* What requests did with it; the name's, see engine_adapter_info. */
struct adapter_counts {
    uint64_t requests, hits, misses, loads, evictions, disk_reads, tokens_in, tokens_out;
    uint64_t scheduled, first_tokens; /* requests that queue_ns, first_token_ns are summed over */
    int64_t load_ns, queue_ns, first_token_ns;
};

/* One generation, or a blend of others. Fields from `users` on are under the store's lock. */
struct adapter {
    char name[LIMIT_NAME_BYTES + 1];
    char path[ADAPTER_PATH_BYTES];
    size_t root_len;     /* of `path` is the root that is not left, 0: none */
    uint64_t generation; /* >= 1 */
    struct adapter_facts facts;
    enum engine_adapter_quant quant; /* never the default */
    int part_count;                  /* of a blend */
    struct engine_adapter_part parts[LIMIT_ADAPTERS_PER_REQUEST];
    bool pinned;
    int share;
    int users;
    bool named; /* its name still leads here */
    int64_t last_used_unix_s;
    struct adapter_counts counts;

    /* host tier: one of the two, or none; owned, immutable */
    struct lora *lora;           /* where the backend does not pack */
    struct backend_image *image; /* where it does */
    size_t held_bytes;           /* counted for it in host_used */
    uint64_t host_tick;          /* larger is more recent */
    bool reading;                /* somebody makes its host form; nobody else touches it */
    uint64_t want;               /* the store's want_turn: somebody waits for it */
    uint64_t want_order;         /* the oldest of them */
    enum status failed;          /* of the last reading, until everybody was told */
    struct err failed_err;

    /* device tier */
    int slot;    /* device slot or -1 */
    bool usable; /* it is in its slot; false: on its way */

    struct adapter *buried_next; /* nobody can reach it; see adapter_store_free */
};

/* What a request's names lead to. */
struct adapter_set {
    struct adapter *parts[LIMIT_ADAPTERS_PER_REQUEST]; /* distinct, no blends */
    float weights[LIMIT_ADAPTERS_PER_REQUEST];
    int count;
    struct adapter *blends[LIMIT_ADAPTERS_PER_REQUEST];
    int blend_count;
};

void adapter_facts_of(const struct lora *l, int layers, struct adapter_facts *out);

#endif
