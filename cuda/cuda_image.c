#include "cuda/cuda_image.h"

#include <string.h>

#include "cuda/step_pieces.h"

/* Room for edits, a row on average; rows that find none are drawn by the host. */
#define EDITS_A_ROW 1024

static size_t page_stride(const struct backend_plan *p)
{
    return ((size_t)p->ctx_max + LIMIT_KV_PAGE_TOKENS - 1) / LIMIT_KV_PAGE_TOKENS;
}

static void place(const struct backend_plan *p, const struct cuda_bucket *k, struct cuda_carve *c,
                  struct cuda_image *out)
{
    size_t rows = (size_t)k->rows, outs = (size_t)k->outs, seqs = (size_t)p->seqs_max;
    struct cuda_image m = {0};
    m.head = cuda_carve(c, 1, sizeof *m.head);
    m.token = cuda_carve(c, rows, sizeof *m.token);
    m.position = cuda_carve(c, rows, sizeof *m.position);
    m.seq_of_row = cuda_carve(c, rows, sizeof *m.seq_of_row);
    m.page_begin = cuda_carve(c, seqs, sizeof *m.page_begin);
    m.out_row = cuda_carve(c, outs, sizeof *m.out_row);
    m.split = cuda_carve(c, 1, sizeof *m.split);
    m.single = cuda_carve(c, rows, sizeof *m.single);
    m.piece = cuda_carve(c, (size_t)cuda_bucket_pieces(k->rows), sizeof *m.piece);
    for (int v = 0; v < VIEW_COUNT; v++) {
        int most = step_pieces_max(v == VIEW_ROWS ? k->rows : k->outs, p->seqs_max);
        m.pieces[v] = cuda_carve(c, (size_t)most, sizeof *m.pieces[v]);
    }
    m.samples = cuda_carve(c, outs, sizeof *m.samples);
    m.tail_at = c->used;
    m.tail = cuda_carve(c, seqs, page_stride(p) * sizeof *m.tail);
    *out = m;
}

size_t cuda_image_edit_bytes(const struct backend_plan *p)
{
    return (size_t)p->outs_max * EDITS_A_ROW * sizeof(struct sample_edit);
}

size_t cuda_image_bytes(const struct backend_plan *p, int vocab)
{
    struct cuda_bucket all = {.rows = cuda_bucket_rows(p->rows_max),
                              .outs = cuda_bucket_rows(p->outs_max)};
    struct cuda_carve c = {.base = 0};
    struct cuda_image image;
    place(p, &all, &c, &image);
    CHECK(!c.overflow);
    size_t mask = ((size_t)vocab + 31) / 32 * sizeof(uint32_t);
    return c.used + (size_t)p->seqs_max * mask + cuda_image_edit_bytes(p);
}

void cuda_image_place(const struct backend_plan *p, const struct cuda_bucket *k, void *base,
                      struct cuda_image *out)
{
    struct cuda_carve c = {.base = (uintptr_t)base};
    place(p, k, &c, out);
}

struct step_dev cuda_image_step(const struct cuda_image *device)
{
    return (struct step_dev){.head = device->head,
                             .token = device->token,
                             .position = device->position,
                             .seq_of_row = device->seq_of_row,
                             .page_begin = device->page_begin,
                             .pages = device->tail,
                             .out_row = device->out_row,
                             .pieces = {device->pieces[VIEW_ROWS], device->pieces[VIEW_OUTS]}};
}

/* Page lists one behind the other; returns how many entries there are. */
static int pack_pages(const struct cuda_image *host, const struct batch *b)
{
    int at = 0;
    for (int s = 0; s < b->seqs; s++) {
        int pages = (b->kv_len[s] + LIMIT_KV_PAGE_TOKENS - 1) / LIMIT_KV_PAGE_TOKENS;
        CHECK(pages <= b->page_stride);
        memcpy(host->tail + at, b->page_table + (size_t)s * (size_t)b->page_stride,
               (size_t)pages * sizeof *host->tail);
        host->page_begin[s] = at;
        at += pages;
    }
    return at;
}

struct attend_split cuda_image_split(const struct batch *b, int32_t *single,
                                     struct attend_piece *piece)
{
    struct attend_split split = {0, 0};
    for (int row = 0, end; row < b->rows; row = end) {
        end = row + 1;
        while (end < b->rows && b->seq_of_row[end] == b->seq_of_row[row])
            end++;
        if (end - row >= BUCKET_PIECE_ROWS) {
            if (piece)
                piece[split.pieces] = (struct attend_piece){.row = row, .rows = end - row};
            split.pieces++;
            continue;
        }
        for (int i = row; single && i < end; i++)
            single[split.singles + i - row] = i;
        split.singles += end - row;
    }
    return split;
}

size_t cuda_image_pack(const struct cuda_image *host, const struct batch *b,
                       const uint8_t *slot_gain)
{
    size_t rows = (size_t)b->rows * sizeof(int32_t);
    struct step_head head = {.rows = {b->rows, b->out_count}, .seqs = b->seqs};
    memcpy(host->token, b->token, rows);
    memcpy(host->position, b->position, rows);
    memcpy(host->seq_of_row, b->seq_of_row, rows);
    memcpy(host->out_row, b->out_row, (size_t)b->out_count * sizeof(int32_t));
    for (int v = 0; v < VIEW_COUNT; v++)
        step_pieces_build(b, (enum step_view)v, slot_gain, host->pieces[v], &head.pieces[v]);
    *host->head = head;
    *host->split = cuda_image_split(b, host->single, host->piece);
    return host->tail_at + (size_t)pack_pages(host, b) * sizeof *host->tail;
}
