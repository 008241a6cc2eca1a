/* cuda_image: one step's arrays as one piece of memory: packed in pinned host memory, sent with one
 * copy, read by the kernels through step_dev. The places of the arrays depend on the step's bucket
 * only; what varies most, pages, masks and edits, comes last and is sent as far as it is filled. */
#ifndef CHORUS_CUDA_CUDA_IMAGE_H
#define CHORUS_CUDA_CUDA_IMAGE_H

#include "cuda/cuda_bucket.h"
#include "cuda/cuda_carve.h"
#include "cuda/k_sample.h"
#include "engine/backend.h"

/* Pointers into one memory, host or device. */
struct cuda_image {
    struct step_head *head;
    int32_t *token;      /* [T] */
    int32_t *position;   /* [T] */
    int32_t *seq_of_row; /* [T] */
    int32_t *page_begin; /* [S] */
    int32_t *out_row;    /* [O] */
    struct attend_split *split;
    int32_t *single;            /* [T] */
    struct attend_piece *piece; /* [cuda_bucket_pieces] */
    struct lora_piece *pieces[VIEW_COUNT];
    struct sample_dev *samples; /* [O] */
    size_t tail_at;             /* bytes before the tail */
    int32_t *tail;              /* pages [S, P] at most, then masks, then edits */
};

/* The most a step can need: what device and pinned memory are sized for. */
size_t cuda_image_bytes(const struct backend_plan *p, int vocab);
/* Bytes of the tail that edits may take, at least. */
size_t cuda_image_edit_bytes(const struct backend_plan *p);

void cuda_image_place(const struct backend_plan *p, const struct cuda_bucket *k, void *base,
                      struct cuda_image *out);
/* What kernels get, of the image's places in device memory. */
struct step_dev cuda_image_step(const struct cuda_image *device);

/* Runs of BUCKET_PIECE_ROWS rows or more of one sequence are pieces, all others singles; with
 * arrays of [T] and [cuda_bucket_pieces(T)], or NULL twice, to count. */
struct attend_split cuda_image_split(const struct batch *b, int32_t *single,
                                     struct attend_piece *piece);

/* Fills a host image with everything but sample rows; returns the bytes of it that are to be sent.
 * `slot_gain`: as step_pieces_build wants it. */
size_t cuda_image_pack(const struct cuda_image *host, const struct batch *b,
                       const uint8_t *slot_gain);

#endif
