/* cpu_fixture: small random models and adapters built in memory, and the pass over them written
 * from the formulas in double, one row at a time. For tests and the bench tool. */
#ifndef CHORUS_TESTS_CPU_FIXTURE_H
#define CHORUS_TESTS_CPU_FIXTURE_H

#include "engine/adapter/lora.h"
#include "engine/engine_adapter_data.h"
#include "engine/model/model.h"

/* A generator for everything random in these tests (splitmix64). */
struct fixture_rng {
    uint64_t state;
};
uint64_t fixture_next(struct fixture_rng *r);
int fixture_below(struct fixture_rng *r, int n);
/* Roughly normal, mean 0, deviation 1. */
double fixture_normal(struct fixture_rng *r);

/* A random tensor in new memory; freed with fixture_tensor_free. */
struct tensor fixture_tensor(struct fixture_rng *r, int rows, int cols, enum dtype d, double mean,
                             double deviation);
void fixture_tensor_free(struct tensor *t);

/* Shapes: small and awkward, one an architecture. */
struct model_shape fixture_shape(enum model_arch arch);
/* About 8 million parameters in the shape of the demo model. */
struct model_shape fixture_demo_shape(void);

struct model *fixture_model(const struct model_shape *s, enum dtype d, uint64_t seed);
void fixture_model_free(struct model *m);

struct fixture_lora {
    int rank;
    bool dora;
    bool inputs;    /* q k v */
    bool attention; /* q k v o */
    bool mlp;
    bool head;
    bool embed;
    enum dtype dtype;
    double strength; /* of the change against the weights, about 0.3 */
};
struct lora *fixture_lora(const struct model_shape *s, const struct fixture_lora *f, uint64_t seed);
/* Its factors at 8 or 4 bits. */
void fixture_lora_quantise(struct lora *l, enum engine_adapter_quant quant);
void fixture_lora_free(struct lora *l);

/* Logits [count, V] of every position under `n` weighted adapters. */
void fixture_forward(const struct model *m, const struct lora *const *adapters,
                     const float *weights, int n, const int32_t *tokens, int count, double *logits);

#endif
