/* rig: an engine over the fake backend that a test drives turn by turn, and a reader that collects
 * an answer and compares it with the oracle's. Fails by cmocka's assertions. */
#ifndef CHORUS_TESTS_SIM_RIG_H
#define CHORUS_TESTS_SIM_RIG_H

#include "engine/engine_internal.h"
#include "tests/sim/fake_backend.h"

#define RIG_CTX 512

struct rig {
    struct engine *e;
    struct fake_backend *f;
    struct model model;
    int32_t prompt[RIG_CTX];
};

struct rig_heard {
    int32_t tokens[RIG_CTX];
    int count;
    bool ended;
    struct engine_event last;
};

struct engine_options rig_options(void);
void rig_open(struct rig *rig, const struct engine_options *opt);
/* With a thread of its own, adapters loaded in parts into `room` bytes, two steps in flight. */
void rig_open_live(struct rig *rig, const struct engine_options *opt, size_t room);
/* Checks that nothing is left behind. */
void rig_close(struct rig *rig);

/* A request without adapters for max_tokens tokens, whatever they are. */
struct engine_request rig_request(struct rig *rig, int prompt_count, uint64_t seed, int max_tokens);
void rig_use(struct engine_request *r, const char *name, float weight);
uint64_t rig_add(struct rig *rig, const char *name, const char *path);
uint64_t rig_submit(struct rig *rig, const struct engine_request *r);
void rig_hear(struct rig *rig, uint64_t id, struct rig_heard *h);
/* Turns until the request has ended. */
void rig_run(struct rig *rig, uint64_t id, struct rig_heard *h);
/* Waits until the request has ended; for rig_open_live. */
void rig_wait(struct rig *rig, uint64_t id, struct rig_heard *h);
/* The answer is what the adapters of `identity` give alone. */
void rig_expect(const struct engine_request *r, uint64_t identity, const struct rig_heard *h);
/* What is told of the generation that a name leads to. */
struct engine_adapter_info rig_info(struct rig *rig, const char *name);

#endif
