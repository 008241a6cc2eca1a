#include "engine/sched/batch.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/sched/sched.h"

enum status batch_init(struct batch_builder *b, int rows_max, int seqs_max, int outs_max,
                       int ctx_max)
{
    memset(b, 0, sizeof *b);
    struct batch *t = &b->batch;
    size_t T = (size_t)rows_max, S = (size_t)seqs_max, O = (size_t)outs_max;
    size_t A = S * LIMIT_ADAPTERS_PER_REQUEST, P = (size_t)sched_pages_for(ctx_max);
    b->rows_max = rows_max;
    b->seqs_max = seqs_max;
    b->outs_max = outs_max;
    b->segments_max = (int)A;
    b->order = mem_calloc(S, sizeof *b->order);
    b->scratch = mem_calloc(S, sizeof *b->scratch);
    b->out_seq = mem_calloc(O, sizeof *b->out_seq);
    b->out_index = mem_calloc(O, sizeof *b->out_index);
    t->page_stride = (int)P;
    t->token = mem_calloc(T, sizeof *t->token);
    t->position = mem_calloc(T, sizeof *t->position);
    t->seq_of_row = mem_calloc(T, sizeof *t->seq_of_row);
    t->row_begin = mem_calloc(S + 1, sizeof *t->row_begin);
    t->kv_len = mem_calloc(S, sizeof *t->kv_len);
    t->page_table = mem_calloc(S, P * sizeof *t->page_table);
    t->segments = mem_calloc(A, sizeof *t->segments);
    t->out_row = mem_calloc(O, sizeof *t->out_row);
    t->out = mem_calloc(O, sizeof *t->out);
    if (b->order && b->scratch && b->out_seq && b->out_index && t->token && t->position &&
        t->seq_of_row && t->row_begin && t->kv_len && t->page_table && t->segments && t->out_row &&
        t->out)
        return STATUS_OK;
    batch_deinit(b);
    return STATUS_NO_MEMORY;
}

void batch_deinit(struct batch_builder *b)
{
    struct batch *t = &b->batch;
    mem_free(b->order);
    mem_free(b->scratch);
    mem_free(b->out_seq);
    mem_free(b->out_index);
    mem_free(t->token);
    mem_free(t->position);
    mem_free(t->seq_of_row);
    mem_free(t->row_begin);
    mem_free(t->kv_len);
    mem_free(t->page_table);
    mem_free(t->segments);
    mem_free(t->out_row);
    mem_free(t->out);
    memset(b, 0, sizeof *b);
}

static bool same_adapter(const struct batch_seq *x, const struct batch_seq *y, int i)
{
    return i < x->adapter_count && i < y->adapter_count && x->slots[i] == y->slots[i] &&
           x->weights[i] == y->weights[i];
}

/* Orders by adapter list, word by word: those that share the first adapters are neighbours. */
static bool adapters_before(const struct batch_seq *x, const struct batch_seq *y)
{
    int i = 0;
    while (same_adapter(x, y, i))
        i++;
    if (i == x->adapter_count || i == y->adapter_count)
        return x->adapter_count < y->adapter_count;
    if (x->slots[i] != y->slots[i])
        return x->slots[i] < y->slots[i];
    return x->weights[i] < y->weights[i];
}

/* Stable merge sort of b->order, bottom up: no allocation, no recursion. */
static void sort_order(struct batch_builder *b, const struct batch_seq *seqs, int count)
{
    int *from = b->order, *to = b->scratch;
    for (int width = 1; width < count; width *= 2) {
        for (int lo = 0; lo < count; lo += 2 * width) {
            int mid = lo + width < count ? lo + width : count;
            int hi = mid + width < count ? mid + width : count;
            for (int i = lo, j = mid, k = lo; k < hi; k++) {
                bool right =
                    i == mid || (j < hi && adapters_before(&seqs[from[j]], &seqs[from[i]]));
                to[k] = from[right ? j++ : i++];
            }
        }
        int *swap = from;
        from = to;
        to = swap;
    }
    b->order = from;
    b->scratch = to;
}

/* Of a row that nothing is drawn from. */
static const struct sample_params nothing = {.logprobs = -1};

static void add_out(struct batch_builder *b, const struct batch_seq *q, int seq, int row, int index)
{
    struct batch *t = &b->batch;
    CHECK(t->out_count < b->outs_max);
    int o = t->out_count++;
    bool scored = index < q->token_count;
    t->out_row[o] = row;
    b->out_seq[o] = seq;
    b->out_index[o] = index;
    if (q->hidden) {
        t->out[o] = (struct sample_row){.params = &nothing, .forced = 0, .hidden = true};
        return;
    }
    t->out[o] = (struct sample_row){
        .params = q->params,
        .tokens = q->tokens,
        .prompt_count = index < q->prompt_count ? index : q->prompt_count,
        .token_count = index,
        .banned = scored ? NULL : q->banned,
        .banned_count = scored ? 0 : q->banned_count,
        .mask = scored ? NULL : q->mask,
        .forced = scored ? q->tokens[index] : -1,
    };
}

/* Rows, page table and output rows of sequence `seq` as number s of the step. */
static void add_rows(struct batch_builder *b, const struct batch_seq *q, int seq, int s)
{
    struct batch *t = &b->batch;
    int kv_len = q->computed + q->rows, pages = sched_pages_for(kv_len);
    CHECK(q->rows >= 1 && kv_len <= q->token_count && t->rows + q->rows <= b->rows_max);
    CHECK(pages <= q->page_count && pages <= t->page_stride);
    for (int i = 0; i < q->rows; i++) {
        int at = q->computed + i, row = t->rows + i;
        t->token[row] = q->tokens[at];
        t->position[row] = at;
        t->seq_of_row[row] = s;
        bool last = at + 1 == q->token_count;
        if (last || (at + 1 >= q->score_from && at + 1 < q->prompt_count))
            add_out(b, q, seq, row, at + 1);
    }
    t->rows += q->rows;
    t->row_begin[s + 1] = t->rows;
    t->kv_len[s] = kv_len;
    memcpy(&t->page_table[(size_t)s * (size_t)t->page_stride], q->pages,
           (size_t)pages * sizeof *q->pages);
}

/* The first of the step's rows that adapter i acts on, counted from the sequence's first. */
static int first_row(const struct batch_seq *q, int i)
{
    return q->from[i] > q->computed ? q->from[i] - q->computed : 0;
}

/* A segment goes on into the next sequence only while all segments before it in the list do, and
 * where it acts from the first row on: so the adapters of every row come in its own request's
 * order, and its sums are those it has alone. Within a sequence later ones of the list begin later,
 * so segments stay ordered and nested. */
static void add_segments(struct batch_builder *b, const struct batch_seq *seqs, int count)
{
    struct batch *t = &b->batch;
    int open[LIMIT_ADAPTERS_PER_REQUEST];
    const struct batch_seq *before = NULL;
    for (int s = 0; s < count; s++) {
        const struct batch_seq *q = &seqs[b->order[s]];
        bool going_on = before != NULL;
        for (int i = 0; i < q->adapter_count; i++) {
            int row = first_row(q, i);
            CHECK(row < q->rows && (i == 0 || q->from[i - 1] <= q->from[i]));
            going_on = going_on && row == 0 && same_adapter(before, q, i);
            if (!going_on) {
                CHECK(t->segment_count < b->segments_max);
                open[i] = t->segment_count++;
                t->segments[open[i]] = (struct batch_segment){.slot = q->slots[i],
                                                              .weight = q->weights[i],
                                                              .row_begin = t->row_begin[s] + row};
            }
            t->segments[open[i]].row_end = t->row_begin[s + 1];
        }
        before = q;
    }
}

void batch_build(struct batch_builder *b, const struct batch_seq *seqs, int count)
{
    struct batch *t = &b->batch;
    CHECK(count <= b->seqs_max);
    t->rows = t->segment_count = t->out_count = 0;
    t->seqs = count;
    t->row_begin[0] = 0;
    for (int s = 0; s < count; s++)
        b->order[s] = s;
    sort_order(b, seqs, count);
    for (int s = 0; s < count; s++)
        add_rows(b, &seqs[b->order[s]], b->order[s], s);
    add_segments(b, seqs, count);
}
