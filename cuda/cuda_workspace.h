/* cuda_workspace: the activations of a step and everything else that steps write, cut out of one
 * allocation. Zeroed once at start; columns beyond a row's true width are never written, so they
 * stay zero, as layout.h asks. */
#ifndef CHORUS_CUDA_CUDA_WORKSPACE_H
#define CHORUS_CUDA_CUDA_WORKSPACE_H

#include "cuda/cuda_image.h"
#include "cuda/k_embed.h"
#include "cuda/k_pieces.h"

/* Ranks that stand behind an input and its matrix (k_tail.h) at most: rank 128 on q, k and v. */
#define MANY_TAIL 384

/* Device pointers. T and O are whole buckets. */
struct cuda_workspace {
    int hidden_stride; /* values between rows */
    int qkv_stride;
    int attn_stride;
    int ffn_stride;
    int vocab_stride;
    int ss_tiles;
    float *y;         /* [T, hidden_stride] residual */
    uint16_t *xn;     /* [T, hidden_stride] bf16, y times the next norm's weight */
    float *ss;        /* [T, ss_tiles] */
    float *qkv;       /* [T, qkv_stride] */
    uint16_t *attn;   /* [T, attn_stride] bf16; T: of steps that go without the library */
    uint16_t *h;      /* [T, ffn_stride] bf16, likewise */
    float *logits;    /* [O, vocab_stride] */
    float *partial;   /* [partial_rows, heads, parts, head_dim + 2], see k_attend.h */
    int partial_rows; /* at most ATTEND_ROWS; 0: no row has more than one part */
    int attend_span;
    float *sample;   /* [O, cuda_sample_scratch] */
    uint32_t *begun; /* [table_stride, LINEAR_BEGUN], see k_linear.h */
    uint8_t *u;      /* shrunk rows of pieces, see k_linear.h */
    size_t u_bytes;
    struct stack_pieces *pieces; /* [table_stride], see k_pieces.h */
    uint32_t *arrived;           /* see k_attend.h */
    int arrived_count;
    struct lora_stack *table;  /* [slots, table_stride] */
    struct lora_embed *embeds; /* [slots] */
    int table_stride;
    struct sample_result *results; /* [O] */
    int32_t *next_token;           /* [O] */
    uint8_t *image;                /* the step's arrays */
    /* Of steps that go through the library; NULL and 0 without it. */
    uint16_t *many_xn;   /* [T, hidden_stride + MANY_TAIL] bf16, what k_norm makes of y */
    uint16_t *many_attn; /* [T, attn_stride + MANY_TAIL] bf16 */
    uint16_t *many_h;    /* [T, ffn_stride + MANY_TAIL] bf16 */
    uint8_t *many_u;     /* shrunk rows of pieces, see k_base.h */
    uint16_t *many_a;    /* [MANY_TAIL, the widest of them] bf16: an adapter's A */
    float *product;      /* [T, product_stride] */
    int product_stride;
    uint16_t *dequant; /* bf16, dequant_bytes: a matrix, or as many of its rows as fit */
    size_t dequant_bytes;
    void *library; /* CUBLAS_WORKSPACE_BYTES */
};

/* Cuts `base` (0: only counts) for these sizes and ways. False: *bytes would not fit into size_t.
 */
bool cuda_workspace_place(const struct model_shape *s, const struct backend_plan *p,
                          struct cuda_ways ways, uintptr_t base, struct cuda_workspace *out,
                          size_t *bytes);

#endif
