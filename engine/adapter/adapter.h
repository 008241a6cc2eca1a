/* adapter: one generation, or a blend of others, as adapter_store keeps it. Plain data; who may
 * touch what is said in adapter_store.h. */
#ifndef CHORUS_ADAPTER_ADAPTER_H
#define CHORUS_ADAPTER_ADAPTER_H

#include "engine/adapter/lora.h"
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
};

/* What requests did with it; the name's, see engine_adapter_info. */
struct adapter_counts {
    uint64_t requests, hits, misses, loads, evictions, disk_reads, tokens_in, tokens_out;
    int64_t load_ns, queue_ns, first_token_ns;
};

/* One generation, or a blend of others. Fields from `users` on are under the store's lock. */
struct adapter {
    char name[LIMIT_NAME_BYTES + 1];
    char path[ADAPTER_PATH_BYTES];
    uint64_t generation; /* >= 1 */
    struct lora *lora;   /* owned, immutable; NULL: a blend */
    struct adapter_facts facts;
    int part_count; /* of a blend */
    struct engine_adapter_part parts[LIMIT_ADAPTERS_PER_REQUEST];
    bool pinned;
    int share;
    int users;
    bool named; /* its name still leads here */
    int slot;   /* device slot or -1 */
    int64_t last_used_unix_s;
    struct adapter_counts counts;
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
