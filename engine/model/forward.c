#include "engine/model/forward.h"

void forward(struct backend *b, int layers)
{
    const struct backend_ops *op = b->ops;
    op->embed(b);
    for (int l = 0; l < layers; l++) {
        op->attn_in(b, l);
        op->attend(b, l);
        op->attn_out(b, l);
        op->mlp_in(b, l);
        op->mlp_out(b, l);
    }
    op->head(b);
    op->sample(b);
}
