#include "cuda/cuda_graphs.h"

/* Of a kernel node: parameters, launch state and its share of the upload. */
#define NODE_BYTES ((size_t)4 << 10)
/* Nodes of a layer (keys are a node of their own where sequences have several rows), and outside
 * the layers: embedding, head, sampling. Graphs for adapters have one for what their linears look
 * up; of at most 8 rows also one in front of each linear, or of q, k and v, where adapters are for
 * these only. */
#define NODES_A_LAYER    6
#define NODES_OUTSIDE    4
#define ADAPTERS_A_LAYER 4
#define ADAPTERS_OUTSIDE 1

_Static_assert(BUCKET_ROWS_GRAPH == 8 << (GRAPH_ROWS - 1), "the list of buckets");
_Static_assert(ATTEND_CHUNK << (GRAPH_CHUNKS - 1) >= LIMIT_CTX, "the list of buckets");

static int log2_of(int power)
{
    return __builtin_ctz((unsigned)power);
}

/* The rows of a bucket bound its outputs, so a bucket of 8 rows has no use for GRAPH_FEW_OUTS. Late
 * steps that mix in prompts have no graph: they are few, and the host has time for their nodes. */
bool cuda_graphs_bucket(const struct backend_plan *p, int i, struct cuda_bucket *out)
{
    int chunks = log2_of(cuda_bucket_chunks(p->ctx_max)) + 1;
    for (int r = 0; r < GRAPH_ROWS && 8 << r <= cuda_bucket_rows(p->rows_max); r++) {
        for (int mix = 0; mix < GRAPH_MIXES; mix++) {
            bool one_each = mix == GRAPH_ONE_EACH;
            if ((r == 0 && mix == GRAPH_FEW_OUTS) ||
                (one_each && 8 << r > cuda_bucket_rows(p->seqs_max)))
                continue;
            int outs = mix == GRAPH_FEW_OUTS ? 8 : 8 << r;
            if (outs > cuda_bucket_rows(p->outs_max))
                continue;
            const int kinds = one_each ? ADAPTERS_COUNT + 2 : 2; /* late ones without ATTN_IN */
            if (i < kinds * chunks) {
                static const enum bucket_adapters each[] = {ADAPTERS_NONE, ADAPTERS_ATTN_IN,
                                                            ADAPTERS_ANY, ADAPTERS_NONE,
                                                            ADAPTERS_ANY},
                                                  mixed[] = {ADAPTERS_NONE, ADAPTERS_ANY};
                const enum bucket_adapters *reaches = one_each ? each : mixed;
                *out = (struct cuda_bucket){.rows = 8 << r,
                                            .outs = outs,
                                            .chunks = 1 << i / kinds,
                                            .one_row_each = one_each,
                                            .adapters = reaches[i % kinds],
                                            .late = i % kinds >= ADAPTERS_COUNT};
                return true;
            }
            i -= kinds * chunks;
        }
    }
    return false;
}

size_t cuda_graphs_bytes(const struct backend_plan *p, int layers)
{
    struct cuda_bucket k;
    size_t nodes = 0;
    for (int i = 0; cuda_graphs_bucket(p, i, &k); i++) {
        nodes += (size_t)layers * (k.one_row_each ? NODES_A_LAYER - 1 : NODES_A_LAYER);
        nodes += NODES_OUTSIDE;
        nodes += k.adapters != ADAPTERS_NONE;
        if (k.rows == 8 && k.adapters == ADAPTERS_ATTN_IN)
            nodes += (size_t)layers;
        if (k.rows == 8 && k.adapters == ADAPTERS_ANY)
            nodes += (size_t)layers * ADAPTERS_A_LAYER;
        if (k.outs == 8 && k.adapters == ADAPTERS_ANY)
            nodes += ADAPTERS_OUTSIDE;
    }
    return nodes * NODE_BYTES;
}

cudaGraphExec_t *cuda_graphs_at(struct cuda_graphs *g, const struct cuda_bucket *k)
{
    if (k->rows > BUCKET_ROWS_GRAPH || (k->outs != 8 && k->outs != k->rows))
        return NULL;
    int mix = k->one_row_each ? GRAPH_ONE_EACH : k->outs == k->rows ? GRAPH_MIXED : GRAPH_FEW_OUTS;
    if (mix == GRAPH_ONE_EACH ? k->outs != k->rows : k->late)
        return NULL;
    return &g->exec[log2_of(k->rows / 8)][mix][log2_of(k->chunks)][k->adapters][k->late != 0];
}

void cuda_graphs_destroy(struct cuda_graphs *g)
{
    for (int r = 0; r < GRAPH_ROWS; r++)
        for (int m = 0; m < GRAPH_MIXES; m++)
            for (int c = 0; c < GRAPH_CHUNKS; c++)
                for (int k = 0; k < 2 * ADAPTERS_COUNT; k++) {
                    cudaGraphExec_t *at = &g->exec[r][m][c][k / 2][k % 2];
                    if (*at)
                        (void)cudaGraphExecDestroy(*at);
                    *at = NULL;
                }
}
