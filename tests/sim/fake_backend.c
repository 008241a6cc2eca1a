#include "tests/sim/fake_backend.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "engine/base/mem.h"

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v + 0x9e3779b97f4a7c15u;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
}

static uint64_t kv_of(uint64_t before, uint64_t identity, int32_t token, int32_t position)
{
    return mix(mix(mix(before, identity), (uint64_t)(uint32_t)token), (uint64_t)(uint32_t)position);
}

uint64_t fake_identity_add(uint64_t identity, uint64_t adapter, float weight)
{
    uint32_t bits;
    memcpy(&bits, &weight, sizeof bits);
    return mix(mix(identity, adapter), bits);
}

void fake_history_add(struct fake_history *h, int32_t token)
{
    h->kv = kv_of(h->kv, h->identity, token, h->count);
    h->all = mix(h->all, h->kv);
    h->tokens = mix(h->tokens, (uint64_t)(uint32_t)token);
    h->count++;
}

static bool banned(const struct sample_row *row, int32_t token)
{
    for (int i = 0; i < row->banned_count; i++)
        if (row->banned[i] == token)
            return true;
    return false;
}

static bool masked(const struct sample_row *row, int32_t token)
{
    return row->mask && !(row->mask[token / 32] >> (token % 32) & 1u);
}

static float score(uint64_t h, int32_t token)
{
    return -(float)(mix(h, (uint64_t)(uint32_t)token) >> 40) / 1048576.0f;
}

static void answer(uint64_t all, uint64_t tokens, int count, const struct sample_row *row,
                   struct sample_result *out)
{
    uint64_t h = mix(all, tokens), draw = mix(mix(h, row->params->seed), (uint64_t)count);
    memset(out, 0, sizeof *out);
    out->token = row->forced;
    for (; row->forced < 0; draw = mix(draw, 1)) {
        out->token = (int32_t)(draw % FAKE_VOCAB);
        if (!banned(row, out->token) && !masked(row, out->token))
            break;
    }
    if (row->params->logprobs < 0)
        return;
    out->logprob = score(h, out->token);
    out->top_count = row->params->logprobs;
    for (int i = 0; i < out->top_count; i++) {
        out->top[i].token = (int32_t)(mix(h, (uint64_t)i) % FAKE_VOCAB);
        out->top[i].logprob = score(h, out->top[i].token);
    }
}

void fake_next(const struct fake_history *h, const struct sample_row *row,
               struct sample_result *out)
{
    answer(h->all, h->tokens, h->count, row, out);
}

/* Values in [0, 1) with few bits, so that sums of them are exact. */
static void put_state(uint64_t history, float *state)
{
    for (int i = 0; i < FAKE_WIDTH; i++)
        state[i] = (float)(mix(history, (uint64_t)i) >> 52) / 4096;
}

void fake_state(const struct fake_history *h, float *state)
{
    put_state(h->all, state);
}

/* ---- backend ---- */

static struct fake_backend *self(struct backend *b)
{
    return (struct fake_backend *)b;
}

static bool fails(struct fake_backend *f, enum fake_fault what)
{
    return f->fault == what && --f->fault_in == 0;
}

static enum status model_load(struct backend *b, const struct model *m,
                              const struct backend_plan *plan, const struct progress *progress,
                              struct err *e)
{
    struct fake_backend *f = self(b);
    (void)m;
    (void)progress;
    size_t cells = (size_t)plan->pages * LIMIT_KV_PAGE_TOKENS;
    f->plan = *plan;
    f->cells = mem_alloc(cells, sizeof *f->cells);
    f->page_owner = mem_calloc((size_t)plan->pages, sizeof *f->page_owner);
    f->row_history = mem_calloc((size_t)plan->rows_max, sizeof *f->row_history);
    f->results = mem_calloc((size_t)plan->outs_max * BACKEND_FLIGHTS, sizeof *f->results);
    f->states = mem_calloc((size_t)plan->outs_max * BACKEND_FLIGHTS, sizeof *f->states);
    if (!f->cells || !f->page_owner || !f->row_history || !f->results || !f->states)
        return err_set(e, STATUS_NO_MEMORY, NULL, "fake: no memory");
    for (size_t i = 0; i < cells; i++)
        f->cells[i] = (struct fake_cell){.token = -1, .position = -1};
    return STATUS_OK;
}

static void close_backend(struct backend *b)
{
    struct fake_backend *f = self(b);
    mem_free(f->cells);
    mem_free(f->page_owner);
    mem_free(f->row_history);
    mem_free(f->results);
    mem_free(f->states);
    mem_free(f);
}

static uint64_t identity_of(const uint8_t sha256[SHA256_BYTES])
{
    uint64_t v;
    memcpy(&v, sha256, sizeof v);
    return v | 1;
}

static void wait_for(atomic_int *delay_us)
{
    int us = *delay_us;
    struct timespec pause = {.tv_nsec = us > 0 ? us * 1000L : 1000000L};
    if (us > 0)
        nanosleep(&pause, NULL);
    while (*delay_us < 0)
        nanosleep(&pause, NULL);
}

static bool has_room(const struct fake_backend *f, size_t bytes)
{
    for (int i = 0; i < f->plan.slots_max; i++)
        bytes += f->slot_bytes[i];
    return f->room == 0 || bytes <= f->room;
}

static enum status adapter_load(struct backend *b, int slot, const struct lora *l, struct err *e)
{
    struct fake_backend *f = self(b);
    CHECK(!f->begun);
    CHECK(slot >= 0 && slot < f->plan.slots_max && f->slots[slot] == 0);
    if (fails(f, FAKE_FAULT_LOAD))
        return err_set(e, f->fault_status, "adapter", "fake: load fails");
    CHECK(has_room(f, l->bytes)); /* the engine keeps to what it was told */
    f->slot_bytes[slot] = l->bytes;
    f->slots[slot] = identity_of(l->sha256);
    return STATUS_OK;
}

static void adapter_unload(struct backend *b, int slot)
{
    struct fake_backend *f = self(b);
    CHECK(!f->begun && (f->slots[slot] != 0 || f->placed[slot].identity != 0));
    f->beside += f->flights > 0;
    f->slots[slot] = 0;
    f->placed[slot].identity = 0;
    f->slot_bytes[slot] = 0;
}

/* ---- loads in parts ---- */

struct fake_image {
    struct backend_image base;
    uint64_t identity;
};

static atomic_int images;

static size_t adapter_bytes(const struct backend *b, const struct lora *l)
{
    (void)b;
    return l->bytes;
}

static size_t adapter_room(const struct backend *b)
{
    return ((const struct fake_backend *)b)->room;
}

static enum status adapter_pack(const struct backend *b, const struct lora *l,
                                struct backend_image **out, struct err *e)
{
    (void)b;
    struct fake_image *image = mem_calloc(1, sizeof *image);
    if (!image)
        return err_set(e, STATUS_NO_MEMORY, NULL, "fake: no memory");
    image->base.bytes = l->bytes;
    image->identity = identity_of(l->sha256);
    images++;
    *out = &image->base;
    return STATUS_OK;
}

static void image_free(struct backend_image *image)
{
    images--;
    memset(image, 0xee, sizeof(struct fake_image));
    mem_free(image);
}

static enum status adapter_place(struct backend *b, int slot, const struct backend_image *image,
                                 struct err *e)
{
    struct fake_backend *f = self(b);
    const struct fake_image *in = (const struct fake_image *)image;
    CHECK(!f->begun);
    CHECK(slot >= 0 && slot < f->plan.slots_max && f->slots[slot] == 0);
    for (int i = 0; i < f->plan.slots_max; i++)
        CHECK(f->placed[i].identity == 0);
    if (fails(f, FAKE_FAULT_LOAD))
        return err_set(e, f->fault_status, "adapter", "fake: load fails");
    CHECK(has_room(f, image->bytes));
    f->slot_bytes[slot] = image->bytes;
    f->placed[slot].identity = in->identity;
    f->placed[slot].sent = false;
    return STATUS_OK;
}

static enum status adapter_upload(struct backend *b, int slot, const struct backend_image *image,
                                  struct err *e)
{
    struct fake_backend *f = self(b);
    const struct fake_image *in = (const struct fake_image *)image;
    CHECK(f->placed[slot].identity == in->identity && !f->placed[slot].sent);
    wait_for(&f->load_delay_us);
    if (fails(f, FAKE_FAULT_LOAD))
        return err_set(e, f->fault_status, "adapter", "fake: load fails");
    f->placed[slot].sent = true;
    return STATUS_OK;
}

static enum status adapter_commit(struct backend *b, int slot, const struct backend_image *image,
                                  struct err *e)
{
    struct fake_backend *f = self(b);
    const struct fake_image *in = (const struct fake_image *)image;
    CHECK(!f->begun);
    CHECK(f->placed[slot].identity == in->identity && f->placed[slot].sent);
    if (fails(f, FAKE_FAULT_LOAD))
        return err_set(e, f->fault_status, "adapter", "fake: load fails");
    f->beside += f->flights > 0;
    f->slots[slot] = f->placed[slot].identity;
    f->placed[slot].identity = 0;
    return STATUS_OK;
}

int fake_images_alive(void)
{
    return images;
}

void fake_backend_set_room(struct fake_backend *f, size_t room, bool in_parts)
{
    f->room = room;
    f->ops.adapter_bytes = adapter_bytes;
    f->ops.adapter_room = adapter_room;
    if (!in_parts)
        return;
    f->ops.adapter_pack = adapter_pack;
    f->ops.image_free = image_free;
    f->ops.adapter_place = adapter_place;
    f->ops.adapter_upload = adapter_upload;
    f->ops.adapter_commit = adapter_commit;
}

static void check_rows(const struct fake_backend *f, const struct batch *t)
{
    CHECK(t->rows >= 1 && t->rows <= f->plan.rows_max && t->seqs >= 1 &&
          t->seqs <= f->plan.seqs_max);
    CHECK(t->row_begin[0] == 0 && t->row_begin[t->seqs] == t->rows);
    for (int s = 0; s < t->seqs; s++) {
        CHECK(t->row_begin[s] < t->row_begin[s + 1]);
        for (int r = t->row_begin[s]; r < t->row_begin[s + 1]; r++) {
            CHECK(t->seq_of_row[r] == s);
            CHECK(r == t->row_begin[s] || t->position[r] == t->position[r - 1] + 1);
            CHECK(t->token[r] < FAKE_VOCAB);
            CHECK(t->token[r] >= 0 || r == t->row_begin[s + 1] - 1);
        }
        CHECK(t->kv_len[s] == t->position[t->row_begin[s + 1] - 1] + 1);
        CHECK(t->kv_len[s] <= f->plan.ctx_max);
    }
}

static int page_of(const struct batch *t, int s, int position)
{
    return t->page_table[s * t->page_stride + position / LIMIT_KV_PAGE_TOKENS];
}

/* A page that is written in this step belongs to one sequence of it. */
static void check_pages(struct fake_backend *f, const struct batch *t)
{
    memset(f->page_owner, 0, (size_t)f->plan.pages * sizeof *f->page_owner);
    for (int s = 0; s < t->seqs; s++)
        for (int r = t->row_begin[s]; r < t->row_begin[s + 1]; r++) {
            int page = page_of(t, s, t->position[r]);
            CHECK(page >= 0 && page < f->plan.pages);
            CHECK(f->page_owner[page] == 0 || f->page_owner[page] == s + 1);
            f->page_owner[page] = s + 1;
        }
    for (int s = 0; s < t->seqs; s++)
        for (int p = 0; p < t->kv_len[s]; p += LIMIT_KV_PAGE_TOKENS) {
            int page = page_of(t, s, p);
            CHECK(page >= 0 && page < f->plan.pages);
            CHECK(f->page_owner[page] == 0 || f->page_owner[page] == s + 1);
        }
}

static void check_segments(const struct fake_backend *f, const struct batch *t)
{
    CHECK(t->segment_count >= 0 && t->segment_count <= f->plan.segments_max);
    for (int i = 0; i < t->segment_count; i++) {
        const struct batch_segment *g = &t->segments[i];
        CHECK(g->slot >= 0 && g->slot < f->plan.slots_max && f->slots[g->slot] != 0);
        CHECK(g->row_begin >= 0 && g->row_begin < g->row_end && g->row_end <= t->rows);
        CHECK(i == 0 || t->segments[i - 1].row_begin <= g->row_begin);
    }
}

static void check_outs(const struct fake_backend *f, const struct batch *t)
{
    CHECK(t->out_count >= 0 && t->out_count <= f->plan.outs_max);
    for (int o = 0; o < t->out_count; o++) {
        CHECK(t->out_row[o] >= 0 && t->out_row[o] < t->rows);
        CHECK(o == 0 || t->out_row[o - 1] < t->out_row[o]);
        if (t->out[o].hidden)
            continue;
        CHECK(t->out[o].token_count == t->position[t->out_row[o]] + 1);
        CHECK(t->out[o].prompt_count <= t->out[o].token_count);
        if (t->token[t->out_row[o]] < 0)
            CHECK(t->out[o].forced < 0 &&
                  (t->late || (!t->out[o].mask && sample_is_blind(t->out[o].params))));
    }
}

static enum status step_begin(struct backend *b, const struct batch *batch)
{
    struct fake_backend *f = self(b);
    CHECK(!f->begun && !f->undrawn && f->flights < (b->ops->step_draw ? BACKEND_FLIGHTS : 1));
    CHECK(!batch->late || f->flights == 1);
    if (fails(f, FAKE_FAULT_BEGIN))
        return f->fault_status;
    check_rows(f, batch);
    check_pages(f, batch);
    check_segments(f, batch);
    check_outs(f, batch);
    f->alone += f->flights == 0;
    f->batch = batch;
    f->begun = true;
    return STATUS_OK;
}

static void none(struct backend *b)
{
    CHECK(self(b)->begun);
}

static void none_layer(struct backend *b, int layer)
{
    CHECK(self(b)->begun && layer >= 0);
}

static struct fake_cell *cell(struct fake_backend *f, int s, int position)
{
    int page = page_of(f->batch, s, position);
    return &f->cells[page * LIMIT_KV_PAGE_TOKENS + position % LIMIT_KV_PAGE_TOKENS];
}

static uint64_t row_identity(const struct fake_backend *f, int row)
{
    uint64_t id = 0;
    for (int i = 0; i < f->batch->segment_count; i++) {
        const struct batch_segment *g = &f->batch->segments[i];
        if (row >= g->row_begin && row < g->row_end)
            id = fake_identity_add(id, f->slots[g->slot], g->weight);
    }
    return id;
}

/* Results of the flight that is number i from the oldest; i = flights: the one begun last. */
static struct sample_result *results_of(struct fake_backend *f, int i)
{
    return f->results + (f->oldest + i) % BACKEND_FLIGHTS * f->plan.outs_max;
}

static uint64_t *state_of(struct fake_backend *f, int i, int o)
{
    return &f->states[(f->oldest + i) % BACKEND_FLIGHTS * f->plan.outs_max + o];
}

/* A token, or what the output that it names has drawn. */
static int32_t known(struct fake_backend *f, int32_t token)
{
    if (token >= 0)
        return token;
    CHECK(f->flights == 1 && -1 - token < f->flying[f->oldest]->out_count);
    return results_of(f, 0)[-1 - token].token;
}

static void attn_in(struct backend *b, int layer)
{
    struct fake_backend *f = self(b);
    const struct batch *t = f->batch;
    for (int r = 0; r < t->rows && layer == 0; r++) {
        int s = t->seq_of_row[r], at = t->position[r];
        uint64_t before = at > 0 ? cell(f, s, at - 1)->kv : 0;
        int32_t token = known(f, t->token[r]);
        f->followed += t->token[r] < 0;
        *cell(f, s, at) = (struct fake_cell){
            .token = token,
            .position = at,
            .kv = kv_of(before, row_identity(f, r), token, at),
        };
    }
}

/* Reads the whole history back through the page table, as attention does. */
static void attend(struct backend *b, int layer)
{
    struct fake_backend *f = self(b);
    const struct batch *t = f->batch;
    for (int s = 0; s < t->seqs && layer == 0; s++) {
        uint64_t all = 0;
        int first = t->position[t->row_begin[s]];
        for (int at = 0; at < t->kv_len[s]; at++) {
            all = mix(all, cell(f, s, at)->kv);
            if (at >= first)
                f->row_history[t->row_begin[s] + at - first] = all;
        }
    }
}

/* The outputs of the batch begun last, into the results of flight i. */
static void draw_all(struct fake_backend *f, int i)
{
    const struct batch *t = f->batch;
    for (int o = 0; o < t->out_count; o++) {
        const struct sample_row *row = &t->out[o];
        uint64_t tokens = 0;
        *state_of(f, i, o) = row->hidden ? f->row_history[t->out_row[o]] : 0;
        results_of(f, i)[o] = (struct sample_result){.token = -1};
        if (row->hidden)
            continue;
        for (int n = 0; n < row->token_count; n++)
            tokens = mix(tokens, (uint64_t)(uint32_t)known(f, row->tokens[n]));
        answer(f->row_history[t->out_row[o]], tokens, row->token_count, row, &results_of(f, i)[o]);
    }
}

static void sample(struct backend *b)
{
    struct fake_backend *f = self(b);
    CHECK(f->begun);
    if (!f->batch->late)
        draw_all(f, f->flights);
}

static enum status step_launch(struct backend *b)
{
    struct fake_backend *f = self(b);
    CHECK(f->begun);
    f->begun = false;
    if (fails(f, FAKE_FAULT_LAUNCH))
        return f->fault_status;
    f->flying[(f->oldest + f->flights++) % BACKEND_FLIGHTS] = f->batch;
    f->undrawn = f->batch->late;
    return STATUS_OK;
}

/* By now every token is there: what rows name is not in `results` any more. */
static enum status step_draw(struct backend *b)
{
    struct fake_backend *f = self(b);
    CHECK(f->undrawn && f->flights == 1 && f->flying[f->oldest] == f->batch);
    for (int o = 0; o < f->batch->out_count; o++)
        for (int n = 0; n < f->batch->out[o].token_count; n++)
            CHECK(f->batch->out[o].tokens[n] >= 0);
    f->undrawn = false;
    if (fails(f, FAKE_FAULT_DRAW))
        return f->fault_status;
    draw_all(f, 0);
    f->late++;
    return STATUS_OK;
}

static enum status step_finish(struct backend *b, struct sample_result *results, struct err *e)
{
    struct fake_backend *f = self(b);
    CHECK(f->flights > 0 && !f->begun);
    const struct batch *t = f->flying[f->oldest];
    CHECK(!f->undrawn || t != f->batch);
    f->steps++;
    if (f->delay_us) {
        struct timespec pause = {.tv_nsec = f->delay_us * 1000L};
        nanosleep(&pause, NULL);
    }
    if (fails(f, FAKE_FAULT_FINISH))
        return err_set(e, f->fault_status, NULL, "fake: step fails");
    memcpy(results, results_of(f, 0), (size_t)t->out_count * sizeof *results);
    f->oldest = (f->oldest + 1) % BACKEND_FLIGHTS;
    f->flights--;
    return STATUS_OK;
}

static enum status read_logits(struct backend *b, int o, float *logits)
{
    (void)b;
    (void)o;
    (void)logits;
    return STATUS_UNSUPPORTED;
}

/* The step finished last is the one before the oldest. */
static void read_hidden(const struct backend *b, int o, float *state)
{
    const struct fake_backend *f = (const struct fake_backend *)b;
    int at = (f->oldest + BACKEND_FLIGHTS - 1) % BACKEND_FLIGHTS * f->plan.outs_max + o;
    CHECK(!f->begun && o < f->plan.outs_max && f->states[at] != 0);
    put_state(f->states[at], state);
}

static size_t page_bytes(const struct backend *b, const struct model_shape *s)
{
    (void)b;
    (void)s;
    return LIMIT_KV_PAGE_TOKENS * sizeof(struct fake_cell);
}

static const struct backend_ops ops = {
    .name = "fake",
    .model_load = model_load,
    .close = close_backend,
    .adapter_load = adapter_load,
    .adapter_unload = adapter_unload,
    .step_begin = step_begin,
    .embed = none,
    .attn_in = attn_in,
    .attend = attend,
    .attn_out = none_layer,
    .mlp_in = none_layer,
    .mlp_out = none_layer,
    .head = none,
    .sample = sample,
    .step_launch = step_launch,
    .step_finish = step_finish,
    .read_logits = read_logits,
    .read_hidden = read_hidden,
    .page_bytes = page_bytes,
};

struct fake_backend *fake_backend_open(bool ahead)
{
    struct fake_backend *f = mem_calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->ops = ops;
    f->ops.step_draw = ahead ? step_draw : NULL;
    f->base.ops = &f->ops;
    return f;
}

const int32_t fake_eos[FAKE_EOS_COUNT] = {FAKE_EOS, FAKE_EOS_2};

void fake_model_init(struct model *m, int ctx_max)
{
    memset(m, 0, sizeof *m);
    m->shape.layers = 2;
    m->shape.vocab = FAKE_VOCAB;
    m->shape.hidden = FAKE_WIDTH;
    m->pooling = (struct pooling){.kind = POOLING_LAST, .normalize = true};
    m->shape.ctx_max = ctx_max;
    m->weight_bytes = 1 << 20;
}

/* ---- adapters ---- */

static atomic_int alive, opened, open_delay_us;

size_t fake_bytes_of(const char *path)
{
    uint64_t h = 7;
    for (; *path; path++)
        h = mix(h, (uint64_t)(unsigned char)*path);
    return 50 + h % 101;
}

void fake_adapters_delay(int us)
{
    open_delay_us = us;
}

static void sha_of(const char *path, uint8_t sha[SHA256_BYTES])
{
    sha256_of(path, strlen(path), sha);
}

int fake_mark_of(const char *path, int32_t mark[FAKE_MARK_MAX])
{
    uint64_t h = 3;
    if (strncmp(path, "alora", 5) != 0)
        return 0;
    for (; *path; path++)
        h = mix(h, (uint64_t)(unsigned char)*path);
    for (int i = 0; i < FAKE_MARK_MAX; i++)
        mark[i] = 2 + (int32_t)(h >> i & 1);
    return 1 + (int)(h >> 8) % FAKE_MARK_MAX;
}

static void free_lora(struct lora *l)
{
    alive--;
    mem_free(l->alora_tokens);
    memset(l, 0xee, sizeof *l);
    mem_free(l);
}

static enum status open_lora(const char *dir, const struct model *base, struct lora **out,
                             struct err *e)
{
    (void)base;
    if (strncmp(dir, "bad", 3) == 0)
        return err_set(e, STATUS_BAD_FILE, "tensor", "fake: it does not bind");
    wait_for(&open_delay_us);
    struct lora *l = mem_calloc(1, sizeof *l);
    if (!l)
        return err_set(e, STATUS_NO_MEMORY, NULL, "fake: no memory");
    sha_of(dir, l->sha256);
    if (strncmp(dir, "shifty", 6) == 0)
        l->sha256[9] ^= (uint8_t)(opened++ % 255 + 1); /* not what its identity is made of */
    l->rank_max = 8;
    l->bytes = fake_bytes_of(dir);
    alive++;
    int32_t mark[FAKE_MARK_MAX];
    l->alora_token_count = fake_mark_of(dir, mark);
    if (l->alora_token_count > 0) {
        l->alora_tokens = mem_alloc(FAKE_MARK_MAX, sizeof *mark);
        if (!l->alora_tokens) {
            free_lora(l);
            return err_set(e, STATUS_NO_MEMORY, NULL, "fake: no memory");
        }
        memcpy(l->alora_tokens, mark, sizeof mark);
    }
    *out = l;
    return STATUS_OK;
}

const struct adapter_source fake_adapters = {.open = open_lora, .free = free_lora};

int fake_adapters_alive(void)
{
    return alive;
}

uint64_t fake_identity_of(const char *path)
{
    uint8_t sha[SHA256_BYTES];
    sha_of(path, sha);
    return identity_of(sha);
}
