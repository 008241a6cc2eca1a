/* A segment is the i-th adapter of all of its rows, for one i: that is its round. It is not written
 * in the segment, but follows from the order that batch_build gives (by first row, then by place in
 * the request's list): a segment goes on into the next sequence only while all before it in the
 * list do, and within a sequence those of later places begin later or together, so the segments
 * that cover a row are nested, those of earlier places around those of later ones, and the round is
 * the number of earlier segments that still cover the first row. */
#include "cuda/step_pieces.h"

#include "engine/base/limits.h"

_Static_assert(LORA_ROUNDS == LIMIT_ADAPTERS_PER_REQUEST, "a round for each adapter of a request");

/* In one round segments share no row and each has the last row of a sequence or more, so there are
 * n <= min(seqs, rows) of them; a segment of r rows makes (r + 7) / 8 <= (r - 1) / 8 + 1 pieces,
 * together (rows - n) / 8 + n, which grows with n. */
int step_pieces_max(int rows, int seqs)
{
    int n = seqs < rows ? seqs : rows;
    return LORA_ROUNDS * ((rows - n) / PIECE_ROWS + n);
}

/* First output row that is row `row` of the batch or behind it. */
static int first_out(const struct batch *b, int row)
{
    int lo = 0, hi = b->out_count;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (b->out_row[mid] < row)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The segments of a batch one after the other, each with its round. */
struct walk {
    const struct batch *batch;
    enum step_view view;
    int next;
    int depth;            /* segments that cover the row looked at */
    int end[LORA_ROUNDS]; /* their ends, outermost first */
    int round, begin, stop;
};

static const struct batch_segment *walk_next(struct walk *w)
{
    const struct batch *b = w->batch;
    if (w->next == b->segment_count)
        return NULL;
    const struct batch_segment *s = &b->segments[w->next++];
    while (w->depth > 0 && w->end[w->depth - 1] <= s->row_begin)
        w->depth--;
    CHECK(w->depth < LORA_ROUNDS && s->row_begin < s->row_end && s->row_end <= b->rows);
    CHECK(w->depth == 0 || s->row_end <= w->end[w->depth - 1]);
    w->round = w->depth;
    w->end[w->depth++] = s->row_end;
    w->begin = w->view == VIEW_OUTS ? first_out(b, s->row_begin) : s->row_begin;
    w->stop = w->view == VIEW_OUTS ? first_out(b, s->row_end) : s->row_end;
    return s;
}

void step_pieces_build(const struct batch *b, enum step_view view, const uint8_t *slot_gain,
                       struct lora_piece *pieces, struct lora_pieces *head)
{
    int at[LORA_ROUNDS] = {0};
    struct lora_pieces h = {.count = 0};
    struct walk w = {.batch = b, .view = view};
    for (const struct batch_segment *s; (s = walk_next(&w));) {
        int count = (w.stop - w.begin + PIECE_ROWS - 1) / PIECE_ROWS;
        at[w.round] += count;
        h.any_gain |= count > 0 && slot_gain && slot_gain[s->slot];
    }
    for (int i = 0; i < LORA_ROUNDS; i++) {
        int count = at[i];
        at[i] = h.count;
        h.count += count;
        h.round_end[i] = h.count;
    }
    CHECK(h.count <= step_pieces_max(view == VIEW_OUTS ? b->out_count : b->rows, b->seqs));
    w = (struct walk){.batch = b, .view = view};
    for (const struct batch_segment *s; (s = walk_next(&w));) {
        for (int row = w.begin; row < w.stop; row += PIECE_ROWS) {
            int rows = w.stop - row < PIECE_ROWS ? w.stop - row : PIECE_ROWS;
            pieces[at[w.round]++] =
                (struct lora_piece){.slot = s->slot, .weight = s->weight, .row = row, .rows = rows};
        }
    }
    *head = h;
}
