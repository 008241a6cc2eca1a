/* cuda_step: one step from its batch to its results.
 *
 * The batch is packed into a pinned image, sent with one copy, and the pass launched behind it: as
 * a graph where the bucket has one, else node by node. Results stay on the device for the step that
 * follows and are copied to pinned memory for this one's end. Up to BACKEND_FLIGHTS steps may be in
 * flight; each has its own image, results and event.
 *
 * A late step's image goes without what its draws ask for. That is packed in step_draw, travels
 * beside the pass, and the sampling is launched behind both.
 *
 * A row that the host draws needs its logits before the next step writes over them: a step with
 * such rows is waited for in step_launch or step_draw.
 */
#include "cuda/cuda_step.h"

#include <string.h>

#include "cuda/cuda_error.h"
#include "cuda/cuda_image.h"
#include "cuda/cuda_pass.h"
#include "cuda/cuda_states.h"
#include "cuda/sample_rows.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/model/forward.h"

/* A step is waited for by asking again and again, so that its end is seen at once; only one that
 * takes longer than any step of a busy server lets the thread sleep. */
#define SPIN_NS 20000000

/* ---- memory ---- */

static enum status init_flight(struct cuda_backend *c, struct cuda_flight *f, struct err *e)
{
    size_t outs = (size_t)c->plan.outs_max;
    enum status st = cuda_error(
        cudaMallocHost((void **)&f->pinned, cuda_image_bytes(&c->plan, c->w.shape.vocab)),
        "pinned memory for steps", e);
    if (st == STATUS_OK)
        st = cuda_error(cudaMallocHost((void **)&f->results, outs * sizeof *f->results),
                        "pinned memory for results", e);
    unsigned flags = cudaEventDisableTiming | cudaEventBlockingSync;
    return st == STATUS_OK
               ? cuda_error(cudaEventCreateWithFlags(&f->finished, flags), "an event for steps", e)
               : st;
}

static enum status init_beside(struct cuda_backend *c, struct err *e)
{
    const unsigned flags = cudaEventDisableTiming;
    enum status st = cuda_error(cudaStreamCreateWithFlags(&c->beside, cudaStreamNonBlocking),
                                "a stream for late draws", e);
    if (st == STATUS_OK)
        st = cuda_error(cudaEventCreateWithFlags(&c->begun, flags), "an event for late draws", e);
    if (st == STATUS_OK)
        st = cuda_error(cudaEventCreateWithFlags(&c->asked, flags), "an event for late draws", e);
    return st;
}

enum status cuda_step_init(struct cuda_backend *c, struct err *e)
{
    size_t vocab = (size_t)c->w.shape.vocab;
    enum status st = cuda_error(cudaMallocHost((void **)&c->row, vocab * sizeof *c->row),
                                "pinned memory for logits", e);
    for (int i = 0; st == STATUS_OK && i < BACKEND_FLIGHTS; i++)
        st = init_flight(c, &c->flights[i], e);
    if (st == STATUS_OK)
        st = cuda_states_init(c, e);
    if (st == STATUS_OK)
        st = init_beside(c, e);
    if (st != STATUS_OK)
        return st;
    c->row_scratch = mem_alloc(sample_scratch_floats(c->w.shape.vocab), sizeof *c->row_scratch);
    c->places = mem_calloc(vocab, sizeof *c->places);
    return c->row_scratch && c->places
               ? STATUS_OK
               : err_set(e, STATUS_NO_MEMORY, "model", "out of memory for steps");
}

void cuda_step_deinit(struct cuda_backend *c)
{
    cuda_graphs_destroy(&c->graphs);
    cuda_states_deinit(c);
    for (int i = 0; i < BACKEND_FLIGHTS; i++) {
        struct cuda_flight *f = &c->flights[i];
        (void)cudaFreeHost(f->pinned);
        (void)cudaFreeHost(f->results);
        if (f->finished)
            (void)cudaEventDestroy(f->finished);
        *f = (struct cuda_flight){0};
    }
    if (c->begun)
        (void)cudaEventDestroy(c->begun);
    if (c->asked)
        (void)cudaEventDestroy(c->asked);
    if (c->beside)
        (void)cudaStreamDestroy(c->beside);
    c->begun = c->asked = NULL;
    c->beside = NULL;
    (void)cudaFreeHost(c->row);
    mem_free(c->row_scratch);
    mem_free(c->places);
    c->row = NULL;
    c->row_scratch = NULL;
    c->places = NULL;
}

/* ---- start ---- */

/* What the pass is recorded with, for this bucket. */
static void aim(struct cuda_backend *c, const struct cuda_bucket *k)
{
    struct cuda_image device;
    cuda_image_place(&c->plan, k, c->ws.image, &device);
    c->step = (struct cuda_step){.bucket = *k,
                                 .dev = cuda_image_step(&device),
                                 .split = device.split,
                                 .single = device.single,
                                 .piece = device.piece,
                                 .samples = device.samples,
                                 .edits = (struct sample_edit *)device.tail,
                                 .masks = (const uint32_t *)device.tail};
}

/* One pass of this bucket over an image of no rows: loads the code that such steps run, and finds
 * out whether every kernel takes the shape. */
static enum status try_bucket(struct cuda_backend *c, const struct cuda_bucket *k, struct err *e)
{
    aim(c, k);
    forward(&c->base, c->w.shape.layers);
    enum status st = c->step.failed;
    if (st != STATUS_OK)
        return err_set(e, st, "model",
                       "The kernels do not take this model's shape: %s with %d rows, %d outputs, "
                       "%d chunks.",
                       c->step.failed_op, k->rows, k->outs, k->chunks);
    return cuda_error(cudaStreamSynchronize(c->stream), "the first pass", e);
}

static enum status keep_graph(struct cuda_backend *c, const struct cuda_bucket *k, struct err *e)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t *at = cuda_graphs_at(&c->graphs, k);
    CHECK(at && !*at);
    aim(c, k);
    enum status st = cuda_error(cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal),
                                "recording a graph", e);
    if (st != STATUS_OK)
        return st;
    forward(&c->base, c->w.shape.layers);
    /* The capture is ended in every case: the stream is of no use before. */
    st = cuda_error(cudaStreamEndCapture(c->stream, &graph), "recording a graph", e);
    if (st == STATUS_OK && c->step.failed != STATUS_OK)
        st = err_set(e, c->step.failed, NULL, "recording a graph: %s", c->step.failed_op);
    if (st == STATUS_OK)
        st = cuda_error(cudaGraphInstantiate(at, graph, 0), "a graph", e);
    if (st == STATUS_OK)
        st = cuda_error(cudaGraphUpload(*at, c->stream), "a graph", e);
    if (graph)
        (void)cudaGraphDestroy(graph);
    return st;
}

/* Whether steps of so many rows attend long runs of rows as pieces. */
static bool splits(const struct cuda_backend *c, int rows)
{
    return rows > BUCKET_ROWS_GRAPH && c->ways.pieces;
}

/* The smallest and the largest bucket beyond the graphs, with and without much of everything. */
static enum status try_large(struct cuda_backend *c, struct err *e)
{
    const struct backend_plan *p = &c->plan;
    int most = cuda_bucket_rows(p->rows_max), outs = cuda_bucket_rows(p->outs_max);
    int chunks = cuda_bucket_chunks(p->ctx_max);
    enum status st = STATUS_OK;
    for (int i = 0; st == STATUS_OK && most > BUCKET_ROWS_GRAPH && i < 8; i++) {
        struct cuda_bucket k = {.rows = i & 1 ? most : cuda_bucket_rows(BUCKET_ROWS_GRAPH + 1),
                                .outs = i & 2 ? outs : 8,
                                .chunks = i & 2 ? chunks : 1,
                                .one_row_each = i & 4 ? 1 : 0,
                                .adapters = (i >> 1 ^ i >> 2) & 1 ? ADAPTERS_ANY : ADAPTERS_NONE};
        if (!k.one_row_each && splits(c, k.rows)) {
            k.pieces = cuda_bucket_pieces(k.rows);
            k.singles = i & 2 ? cuda_bucket_singles(k.rows, p->seqs_max) : 0;
        }
        st = try_bucket(c, &k, e);
    }
    /* Which of its kernels a library takes, and loads, depends on the rows. */
    for (int rows = 4 * BUCKET_ROWS_GRAPH; st == STATUS_OK && rows < most; rows *= 2) {
        struct cuda_bucket k = {.rows = rows, .outs = 8, .chunks = 1, .adapters = ADAPTERS_ANY};
        k.pieces = splits(c, rows) ? cuda_bucket_pieces(rows) : 0;
        st = cuda_many_takes(&c->many, rows) ? try_bucket(c, &k, e) : STATUS_OK;
    }
    return st;
}

enum status cuda_step_record(struct cuda_backend *c, struct err *e)
{
    struct cuda_bucket k;
    enum status st = try_large(c, e);
    for (int i = 0; st == STATUS_OK && cuda_graphs_bucket(&c->plan, i, &k); i++) {
        if (!k.late) /* it has the kernels of one that is not */
            st = try_bucket(c, &k, e);
        if (st == STATUS_OK)
            st = keep_graph(c, &k, e);
    }
    return st == STATUS_OK ? cuda_error(cudaStreamSynchronize(c->stream), "graphs", e) : st;
}

/* ---- begin ---- */

static void check_batch(const struct cuda_backend *c, const struct batch *b)
{
    const struct backend_plan *p = &c->plan;
    CHECK(b->rows >= 0 && b->rows <= p->rows_max && b->seqs >= 0 && b->seqs <= p->seqs_max);
    CHECK(b->out_count >= 0 && b->out_count <= p->outs_max);
    for (int r = 0; r < b->rows; r++) {
        CHECK(b->token[r] >= -p->outs_max && b->token[r] < c->w.shape.vocab);
        CHECK(b->position[r] >= 0 && b->position[r] < p->ctx_max);
        CHECK(b->seq_of_row[r] >= 0 && b->seq_of_row[r] < b->seqs);
        size_t page = (size_t)b->seq_of_row[r] * (size_t)b->page_stride +
                      (size_t)(b->position[r] / LIMIT_KV_PAGE_TOKENS);
        CHECK(b->page_table[page] >= 0 && b->page_table[page] < p->pages);
    }
    for (int o = 0; o < b->out_count; o++)
        CHECK(b->out_row[o] >= 0 && b->out_row[o] < b->rows &&
              (o == 0 || b->out_row[o] >= b->out_row[o - 1]));
    for (int i = 0; i < b->segment_count; i++)
        CHECK(b->segments[i].slot >= 0 && b->segments[i].slot < p->slots_max &&
              c->slots.filled[b->segments[i].slot]);
}

/* Steps with prompts in them and late ones go by the widest, for which there is a graph. */
static enum bucket_adapters adapters_of(const struct cuda_backend *c, const struct batch *b)
{
    int reach = ADAPTERS_NONE;
    for (int i = 0; i < b->segment_count; i++) {
        const int of = c->slots.reach[b->segments[i].slot];
        reach = of > reach ? of : reach;
    }
    return reach == ADAPTERS_ATTN_IN && (b->rows != b->seqs || b->late)
               ? ADAPTERS_ANY
               : (enum bucket_adapters)reach;
}

static struct cuda_bucket bucket_of(const struct cuda_backend *c, const struct batch *b)
{
    int tokens = 1;
    for (int s = 0; s < b->seqs; s++)
        tokens = b->kv_len[s] > tokens ? b->kv_len[s] : tokens;
    int rows = cuda_bucket_rows(b->rows);
    struct cuda_bucket k = {.rows = rows,
                            .outs = cuda_bucket_rows(b->out_count),
                            .chunks = cuda_bucket_chunks(tokens),
                            .one_row_each = b->rows == b->seqs,
                            .adapters = adapters_of(c, b),
                            .late = b->late};
    if (splits(c, rows)) {
        struct attend_split split = cuda_image_split(b, NULL, NULL);
        k.pieces = split.pieces;
        k.singles = split.singles ? cuda_bucket_rows(split.singles) : 0;
    }
    /* Graphs have few outputs or as many as rows. */
    if (rows <= BUCKET_ROWS_GRAPH && k.outs < rows && (k.outs > 8 || k.one_row_each))
        k.outs = rows;
    return k;
}

/* Rows with a mask, as far as there is room for them: each sequence draws one token. */
static int masks_of(const struct batch *b, int most)
{
    int count = 0;
    for (int o = 0; o < b->out_count && count < most; o++)
        count += b->out[o].mask != NULL;
    return count;
}

/* What output rows ask for, in the image and behind what is packed of it; returns the bytes in use
 * then. */
static size_t pack_samples(struct cuda_backend *c, struct cuda_flight *f,
                           const struct cuda_image *host)
{
    size_t words = ((size_t)c->w.shape.vocab + 31) / 32;
    size_t mask_at = (f->packed - host->tail_at) / sizeof(uint32_t);
    int masks = masks_of(f->batch, c->plan.seqs_max);
    size_t at =
        ((mask_at + (size_t)masks * words) * sizeof(uint32_t) + sizeof(struct sample_edit) - 1) /
        sizeof(struct sample_edit);
    size_t room = cuda_image_bytes(&c->plan, c->w.shape.vocab) - host->tail_at;
    struct sample_stage stage = {
        .rows = host->samples,
        .edits = (struct sample_edit *)host->tail + at,
        .edits_max = (int)(room / sizeof(struct sample_edit) - at),
        .masks = (uint32_t *)host->tail + mask_at,
        .masks_max = masks,
        .places = c->places,
    };
    sample_rows_fill(&stage, f->batch->out, f->batch->out_count, c->w.shape.vocab);
    for (int o = 0; o < f->batch->out_count; o++) {
        host->samples[o].edit_begin += (int32_t)at;
        host->samples[o].mask += host->samples[o].mask >= 0 ? (int32_t)mask_at : 0;
    }
    f->host_count = stage.host_count;
    f->samples = host->samples;
    return host->tail_at + (at + (size_t)stage.edit_count) * sizeof(struct sample_edit);
}

enum status cuda_step_begin(struct backend *b, const struct batch *batch)
{
    struct cuda_backend *c = cuda_backend_of(b);
    if (c->lost != STATUS_OK)
        return c->lost;
    CHECK(c->flight_count < BACKEND_FLIGHTS);
    check_batch(c, batch);
    enum status st = cuda_backend_check(c, cudaSetDevice(c->device), "step_begin", NULL);
    if (st != STATUS_OK)
        return st;
    struct cuda_flight *f = &c->flights[(c->flight_oldest + c->flight_count) % BACKEND_FLIGHTS];
    struct cuda_bucket k = bucket_of(c, batch);
    struct cuda_image host;
    cudaGraphExec_t *graph = cuda_graphs_at(&c->graphs, &k);
    f->batch = batch;
    f->host_count = 0;
    f->drawn = !batch->late;
    aim(c, &k);
    c->step.graph = graph ? *graph : NULL;
    cuda_image_place(&c->plan, &k, f->pinned, &host);
    f->packed = cuda_image_pack(&host, batch, c->slots.gain);
    size_t bytes = batch->late ? f->packed : pack_samples(c, f, &host);
    cuda_many_begin(&c->many, batch, c->slots.gain);
    c->step.batch = batch;
    c->step.states_only = !cuda_states_draws(batch);
    c->step.pieces = host.head->pieces[VIEW_ROWS].count;
    st = cuda_backend_check(
        c, cudaMemcpyAsync(c->ws.image, f->pinned, bytes, cudaMemcpyHostToDevice, c->stream),
        "step_begin", NULL);
    if (st == STATUS_OK && batch->late)
        st = cuda_backend_check(c, cudaEventRecord(c->begun, c->stream), "step_begin", NULL);
    return st;
}

/* ---- launch ---- */

static enum status read_row(struct cuda_backend *c, int o, struct err *e)
{
    const float *from = c->ws.logits + (size_t)o * (size_t)c->ws.vocab_stride;
    enum status st =
        cuda_backend_check(c,
                           cudaMemcpyAsync(c->row, from, (size_t)c->w.shape.vocab * sizeof *c->row,
                                           cudaMemcpyDeviceToHost, c->stream),
                           "reading logits", e);
    if (st != STATUS_OK)
        return st;
    return cuda_backend_check(c, cudaStreamSynchronize(c->stream), "reading logits", e);
}

/* Draws the rows that the device left out, and tells it what came out, for the step that follows.
 */
static enum status draw_rows(struct cuda_backend *c, struct cuda_flight *f)
{
    for (int o = 0; o < f->batch->out_count; o++) {
        if (!f->samples[o].host)
            continue;
        enum status st = read_row(c, o, NULL);
        if (st != STATUS_OK)
            return st;
        struct sample_result *r = &f->results[o];
        sample_logits(c->row, c->w.shape.vocab, &f->batch->out[o], c->row_scratch, r);
        st = cuda_backend_check(c,
                                cudaMemcpyAsync(c->ws.next_token + o, &r->token, sizeof r->token,
                                                cudaMemcpyHostToDevice, c->stream),
                                "drawing on the host", NULL);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

/* Behind the sampling. */
static enum status launch_end(struct cuda_backend *c, struct cuda_flight *f, const char *what)
{
    enum status st = STATUS_OK;
    if (f->outs > 0)
        st = cuda_backend_check(c,
                                cudaMemcpyAsync(f->results, c->ws.results,
                                                (size_t)f->outs * sizeof *f->results,
                                                cudaMemcpyDeviceToHost, c->stream),
                                what, NULL);
    if (st == STATUS_OK && f->host_count > 0)
        st = draw_rows(c, f);
    return st == STATUS_OK
               ? cuda_backend_check(c, cudaEventRecord(f->finished, c->stream), what, NULL)
               : st;
}

enum status cuda_step_launch(struct backend *b)
{
    struct cuda_backend *c = cuda_backend_of(b);
    struct cuda_flight *f = &c->flights[(c->flight_oldest + c->flight_count) % BACKEND_FLIGHTS];
    if (c->step.failed != STATUS_OK)
        return c->step.failed;
    enum status st = STATUS_OK;
    if (c->step.graph)
        st = cuda_backend_check(c, cudaGraphLaunch(c->step.graph, c->stream), "step_launch", NULL);
    f->outs = f->batch->out_count;
    if (st == STATUS_OK)
        st = cuda_states_copy(c, f);
    if (st == STATUS_OK && f->drawn)
        st = launch_end(c, f, "step_launch");
    if (st == STATUS_OK)
        c->flight_count++;
    return st;
}

/* Nothing of the step before runs any more that could read what stands in the places of these two.
 */
static enum status send_samples(struct cuda_backend *c, struct cuda_flight *f)
{
    struct cuda_image host;
    cuda_image_place(&c->plan, &c->step.bucket, f->pinned, &host);
    const size_t rows_at = (size_t)((const uint8_t *)host.samples - f->pinned);
    const size_t rows = (size_t)f->outs * sizeof *host.samples;
    const size_t bytes = pack_samples(c, f, &host);
    cudaError_t code = cudaStreamWaitEvent(c->beside, c->begun, 0);
    if (code == cudaSuccess)
        code = cudaMemcpyAsync(c->ws.image + rows_at, f->pinned + rows_at, rows,
                               cudaMemcpyHostToDevice, c->beside);
    if (code == cudaSuccess && bytes > f->packed)
        code = cudaMemcpyAsync(c->ws.image + f->packed, f->pinned + f->packed, bytes - f->packed,
                               cudaMemcpyHostToDevice, c->beside);
    if (code == cudaSuccess)
        code = cudaEventRecord(c->asked, c->beside);
    if (code == cudaSuccess)
        code = cudaStreamWaitEvent(c->stream, c->asked, 0);
    return cuda_backend_check(c, code, "step_draw", NULL);
}

enum status cuda_step_draw(struct backend *b)
{
    struct cuda_backend *c = cuda_backend_of(b);
    struct cuda_flight *f = &c->flights[c->flight_oldest];
    if (c->lost != STATUS_OK)
        return c->lost;
    CHECK(c->flight_count == 1 && !f->drawn && f->batch == c->step.batch);
    f->drawn = true;
    enum status st = send_samples(c, f);
    if (st == STATUS_OK)
        st = cuda_pass_draw(c);
    return st == STATUS_OK ? launch_end(c, f, "step_draw") : st;
}

/* ---- finish ---- */

static cudaError_t await(cudaEvent_t event)
{
    int64_t until = clock_now_ns() + SPIN_NS;
    cudaError_t code;
    do
        code = cudaEventQuery(event);
    while (code == cudaErrorNotReady && clock_now_ns() < until);
    return code == cudaErrorNotReady ? cudaEventSynchronize(event) : code;
}

enum status cuda_step_finish(struct backend *b, struct sample_result *results, struct err *e)
{
    struct cuda_backend *c = cuda_backend_of(b);
    struct cuda_flight *f = &c->flights[c->flight_oldest];
    CHECK(c->flight_count > 0 && f->drawn);
    c->flight_oldest = (c->flight_oldest + 1) % BACKEND_FLIGHTS;
    c->flight_count--;
    enum status st = cuda_backend_check(c, await(f->finished), "step_finish", e);
    if (st == STATUS_OK)
        memcpy(results, f->results, (size_t)f->outs * sizeof *results);
    f->batch = NULL;
    return st;
}

enum status cuda_step_read_logits(struct backend *b, int o, float *logits)
{
    struct cuda_backend *c = cuda_backend_of(b);
    CHECK(o >= 0 && o < c->plan.outs_max);
    if (c->lost != STATUS_OK)
        return c->lost;
    enum status st = read_row(c, o, NULL);
    if (st == STATUS_OK)
        memcpy(logits, c->row, (size_t)c->w.shape.vocab * sizeof *logits);
    return st;
}
