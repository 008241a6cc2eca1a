/* fake_backend: a device without mathematics, the oracle of the engine's tests.
 *
 * A KV cell remembers which token was written at which position under which adapters after which
 * history. A "logit" is a hash of the whole history as it is read back through the page table it
 * was given, so a stale page, a wrong table, a foreign adapter, a missing or doubled row or a wrong
 * order changes the answer. fake_next says what the model would answer alone, without pages.
 *
 * step_begin checks every promise of batch.h. Faults are counted down: the k-th call of an
 * operation fails once.
 */
#ifndef CHORUS_TESTS_SIM_FAKE_BACKEND_H
#define CHORUS_TESTS_SIM_FAKE_BACKEND_H

#include <stdatomic.h>

#include "engine/adapter/adapter_store.h"
#include "engine/backend.h"

#define FAKE_VOCAB     64
#define FAKE_WIDTH     8 /* of a hidden state */
#define FAKE_EOS       0
#define FAKE_EOS_2     1
#define FAKE_EOS_COUNT 2

enum fake_fault {
    FAKE_FAULT_NONE,
    FAKE_FAULT_LOAD,
    FAKE_FAULT_BEGIN,
    FAKE_FAULT_LAUNCH,
    FAKE_FAULT_FINISH,
    FAKE_FAULT_DRAW /* of late steps only */
};

struct fake_cell {
    int32_t token; /* -1: never written */
    int32_t position;
    uint64_t kv;
};

struct fake_backend {
    struct backend base;
    struct backend_ops ops;
    struct backend_plan plan;
    struct fake_cell *cells; /* owned, [pages, LIMIT_KV_PAGE_TOKENS] */
    int *page_owner;         /* owned, [pages] scratch: who may write the page in this step */
    uint64_t *row_history;   /* owned, [rows_max] hash of all tokens up to the row */
    uint64_t slots[LIMIT_ADAPTER_SLOTS]; /* identity, 0: empty */
    struct {
        uint64_t identity;
        size_t bytes;
        bool sent;
    } placed[LIMIT_ADAPTER_SLOTS]; /* loads in parts: on its way, identity 0: not */
    size_t room;                   /* for adapters */
    size_t slot_bytes[LIMIT_ADAPTER_SLOTS];
    atomic_int load_delay_us;      /* of each upload; -1: until it is 0 again */
    const struct batch *batch;     /* begun last */
    struct sample_result *results; /* owned, [BACKEND_FLIGHTS, outs_max] a ring */
    uint64_t *states;              /* owned, likewise: of rows that asked for theirs, else 0 */
    const struct batch *flying[BACKEND_FLIGHTS];
    int oldest;        /* of the ring */
    int flights;       /* launched, not finished */
    bool begun;        /* between step_begin and step_launch */
    bool undrawn;      /* the newest is late, and step_draw has not come */
    uint64_t followed; /* rows whose token was not known yet */
    uint64_t late;     /* steps that were drawn late */
    atomic_int alone;  /* steps that were begun with none in flight */
    atomic_int beside; /* slots filled or emptied while a step was in flight */
    enum fake_fault fault;
    int fault_in; /* fails when it reaches 0 */
    enum status fault_status;
    uint64_t steps;
    int delay_us; /* of each step, for tests with threads */
};

/* ahead: steps may be launched before the last one is finished. */
struct fake_backend *fake_backend_open(bool ahead);
/* From here on adapters take their bytes of `room`; in_parts: they are loaded in parts. Before
 * engine_create. */
void fake_backend_set_room(struct fake_backend *f, size_t room, bool in_parts);
extern const int32_t fake_eos[FAKE_EOS_COUNT];
/* A model for it: 2 layers, FAKE_VOCAB tokens. */
void fake_model_init(struct model *m, int ctx_max);
/* Adapters whose bytes are their path; a path that begins with "bad" is refused, and one that
 * begins with "shifty" has other bytes each time it is opened; one that begins with "alora" is
 * activated by a sequence of tokens. */
extern const struct adapter_source fake_adapters;
/* Microseconds that opening takes, -1: until it is 0 again; for tests with threads. */
void fake_adapters_delay(int us);
/* lora.bytes of this path: 50 to 150. */
size_t fake_bytes_of(const char *path);
#define FAKE_MARK_MAX 3
/* Tokens 2 and 3 in some order: the invocation sequence of this path; 0: it has none. */
int fake_mark_of(const char *path, int32_t mark[FAKE_MARK_MAX]);
/* Images packed and not freed. */
int fake_images_alive(void);
/* Adapters opened and not freed. */
int fake_adapters_alive(void);
/* What fake_next needs of an adapter with this path. */
uint64_t fake_identity_of(const char *path);
/* Of a request's adapters in order; start from 0. */
uint64_t fake_identity_add(uint64_t identity, uint64_t adapter, float weight);

/* The running state of a sequence alone. */
struct fake_history {
    uint64_t identity;
    uint64_t kv;
    uint64_t all;
    uint64_t tokens;
    int count;
};

void fake_history_add(struct fake_history *h, int32_t token);
/* The hidden state [FAKE_WIDTH] of the history's last token. */
void fake_state(const struct fake_history *h, float *state);
/* The answer to the history so far. `forced` >= 0: its score. */
void fake_next(const struct fake_history *h, const struct sample_row *row,
               struct sample_result *out);

#endif
