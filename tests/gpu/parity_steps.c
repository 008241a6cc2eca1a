#include "tests/gpu/parity.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/adapter/lora_quant.h"
#include "tests/gpu/ask.h"
#include "tests/gpu/view.h"

#define REFERENCE 0
#define DEVICE    1
#define DRAWS     2 /* first lane of them */

const char *const parity_formats[] = {
    [WEIGHT_BF16] = "none", [WEIGHT_INT8] = "int8", [WEIGHT_INT4] = "int4"};

/* ---- lanes over one model ---- */

struct world {
    const struct parity *p;
    struct model *files;  /* owned */
    struct model *stored; /* owned: what the device holds, in float32 */
    struct lora *loras[PARITY_ADAPTERS_MAX];
    const char *names[PARITY_ADAPTERS_MAX]; /* owned */
    int adapters;
    struct model *views[LANES_MAX]; /* owned; kept while the backends live */
    struct lanes lanes;
    struct lanes_setup setup;
    bool deterministic; /* for backends that are added */
};

static void load_adapters(struct world *w)
{
    for (int d = 0; d < w->p->dir_count; d++) {
        char **paths;
        int count = ask_list(w->p->dirs[d], &paths);
        for (int i = 0; i < count; i++) {
            struct err e = {0};
            if (w->adapters == PARITY_ADAPTERS_MAX)
                lanes_die("more than %d adapters", PARITY_ADAPTERS_MAX);
            if (lora_open(paths[i], w->files, &w->loras[w->adapters], &e) != STATUS_OK)
                lanes_die("%s: %s", paths[i], e.msg);
            if (lora_quantise(w->loras[w->adapters], w->p->adapter_quant, NULL, &e) != STATUS_OK)
                lanes_die("%s: %s", paths[i], e.msg);
            w->names[w->adapters++] = paths[i];
        }
        free(paths);
    }
}

static void world_open(struct world *w, const struct parity *p)
{
    struct err e = {0};
    *w = (struct world){.p = p};
    if (model_open(p->model_dir, NULL, &w->files, &e) != STATUS_OK)
        lanes_die("%s: %s", p->model_dir, e.msg);
    w->stored = view_stored(w->files, p->linears, p->head);
    load_adapters(w);
    const struct model_shape *s = &w->files->shape;
    w->setup = (struct lanes_setup){
        .vocab = s->vocab,
        .layers = s->layers,
        .sequences = p->sequences,
        .adapters = w->adapters,
        .prompt_max = s->ctx_max < 400 ? s->ctx_max / 2 : 300,
        .generate_max = 40,
        .chunk_max = 70,
        .sampled = true,
        .seed = p->seed,
    };
    int longest = w->setup.prompt_max + w->setup.generate_max;
    w->lanes.plan = (struct backend_plan){
        .rows_max = 160,
        .seqs_max = 32,
        .outs_max = 160,
        .segments_max = 32 * LIMIT_ADAPTERS_PER_REQUEST,
        .slots_max = w->adapters ? w->adapters : 1,
        .pages = 32 * (longest / LIMIT_KV_PAGE_TOKENS + 1),
        .ctx_max = longest,
    };
}

static struct backend *open_backend(const struct world *w, const char *name)
{
    const struct parity *p = w->p;
    struct backend_options opt = {.threads = p->threads, .deterministic = w->deterministic};
    opt.quant = parity_formats[p->linears];
    opt.head_quant = parity_formats[p->head];
    opt.kv_type = p->kv_type;
    opt.adapter_bits = p->adapter_quant == ENGINE_QUANT_INT8   ? 8
                       : p->adapter_quant == ENGINE_QUANT_INT4 ? 4
                                                               : 16;
    opt.plain_launches = p->plain_launches;
    struct backend *b = NULL;
    struct err e = {0};
    enum status st = STATUS_UNSUPPORTED;
    if (strcmp(name, "cpu") == 0 || strcmp(name, "noisy") == 0)
        st = cpu_backend_open(&opt, &b, &e);
#ifdef CHORUS_CUDA
    else if (strcmp(name, "cuda") == 0)
        st = cuda_backend_open(&opt, &b, &e);
#endif
    else
        lanes_die("no backend \"%s\" in this build", name);
    if (st != STATUS_OK)
        lanes_die("backend %s: %s", name, e.msg);
    return b;
}

/* Adds a lane: `model` as backend `name`; its adapters with noise (NULL: as they are), and `factor`
 * times as strong. */
static void add_lane(struct world *w, const char *name, const struct model *model,
                     const struct view_noise *noise, float factor)
{
    struct backend *b = open_backend(w, name);
    struct err e = {0};
    if (b->ops->model_load(b, model, &w->lanes.plan, NULL, &e) != STATUS_OK)
        lanes_die("%s: %s", name, e.msg);
    for (int i = 0; i < w->adapters; i++) {
        struct lora *l =
            noise ? view_lora_rounded(w->loras[i], &w->files->shape, noise) : w->loras[i];
        struct lora *scaled = factor == 1.0f ? NULL : view_lora_scaled(l, factor);
        if (b->ops->adapter_load(b, i, scaled ? scaled : l, &e) != STATUS_OK)
            lanes_die("%s: %s: %s", name, w->names[i], e.msg);
        if (scaled)
            view_lora_free(scaled);
        if (noise)
            view_lora_free(l);
    }
    w->lanes.b[w->lanes.count++] = b;
}

static void add_noisy(struct world *w, const char *name, const struct view_noise *noise,
                      float factor)
{
    struct model *v = view_rounded(w->stored, noise);
    w->views[w->lanes.count] = v;
    add_lane(w, name, v, noise, factor);
}

/* The device lane: the checkpoint itself, which the backend stores in its own format. */
static void add_device(struct world *w)
{
    const struct parity *p = w->p;
    struct view_noise noise = {.draw = p->seed + 1000, .significands = true};
    if (strcmp(p->device, "cuda") == 0)
        add_lane(w, p->device, w->files, NULL, p->plant);
    else if (strcmp(p->device, "noisy") == 0)
        add_noisy(w, p->device, &noise, p->plant);
    else
        add_lane(w, p->device, w->stored, NULL, p->plant);
}

static void world_close(struct world *w)
{
    for (int i = 0; i < w->lanes.count; i++) {
        w->lanes.b[i]->ops->close(w->lanes.b[i]);
        if (w->views[i])
            view_free(w->views[i]);
    }
    for (int i = 0; i < w->adapters; i++) {
        lora_free(w->loras[i]);
        free((char *)w->names[i]);
    }
    view_free(w->stored);
    model_close(w->files);
}

/* ---- the comparison ---- */

struct row {
    double worst[LANES_MAX];  /* largest difference of a lane from the reference */
    double mean[LANES_MAX];   /* mean difference */
    double square[LANES_MAX]; /* mean square */
    double margin;            /* of the reference's two best */
    bool same;                /* greedy tokens agree */
    int seq;
    int index;
};

struct compare {
    struct world *w;
    const struct lanes_seq *seqs; /* borrowed */
    int vocab;
    int lanes;
    struct row *rows; /* owned */
    int count;
    int cap;
    int broken; /* rows with a value that is no number */
    /* the device's results against its own logits */
    double own_logprob; /* largest error of a log-probability it reports, against its allowance */
    int greedy_wrong;
    int draws;
    int draws_wrong;
    float *scratch;           /* owned */
    struct sample_result own; /* host's draw */
};

static double log_sum(const float *logits, int n)
{
    double most = (double)logits[0], sum = 0.0;
    for (int i = 1; i < n; i++)
        most = fmax(most, (double)logits[i]);
    for (int i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    return most + log(sum);
}

static int best(const float *logits, int n)
{
    int at = 0;
    for (int i = 1; i < n; i++)
        at = logits[i] > logits[at] ? i : at;
    return at;
}

static double margin_of(const float *logits, int n, int at)
{
    double second = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (i != at)
            second = fmax(second, (double)logits[i]);
    }
    return (double)logits[at] - second;
}

/* What the device reports about its own logits: log-probabilities, and the token that the host
 * would take. A float32 log-sum over V terms in any order errs by less than 2^-16 of the numbers it
 * is made of. */
static void check_own(struct compare *c, const struct lanes_row *r, const float *logits, double sum)
{
    const struct sample_result *got = r->results[DEVICE];
    double most = (double)logits[best(logits, c->vocab)];
    if (r->row->params->logprobs >= 0) {
        double want = (double)logits[got->token] - sum;
        double allowed = 0x1p-16 * (1.0 + fabs(want) + fabs(most));
        c->own_logprob = fmax(c->own_logprob, fabs((double)got->logprob - want) / allowed);
        for (int i = 0; i < got->top_count; i++) {
            want = (double)logits[got->top[i].token] - sum;
            allowed = 0x1p-16 * (1.0 + fabs(want) + fabs(most));
            c->own_logprob =
                fmax(c->own_logprob, fabs((double)got->top[i].logprob - want) / allowed);
        }
    }
    if (r->row->forced >= 0)
        return;
    sample_logits(logits, c->vocab, r->row, c->scratch, &c->own);
    bool differs = c->own.token != got->token;
    if (r->row->params->temperature == 0.0f && r->row->params->repetition_penalty == 1.0f) {
        c->greedy_wrong += differs;
    } else {
        c->draws++;
        c->draws_wrong += differs;
    }
}

static struct row *add_row(struct compare *c)
{
    if (c->count == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 1024;
        c->rows = realloc(c->rows, (size_t)c->cap * sizeof *c->rows);
        if (!c->rows)
            lanes_die("no memory");
    }
    struct row *row = &c->rows[c->count++];
    *row = (struct row){0};
    return row;
}

static void compare_lane(struct row *row, int lane, const float *want, double want_sum,
                         const float *got, double got_sum, int n)
{
    double worst = 0.0, sum = 0.0, square = 0.0;
    for (int t = 0; t < n; t++) {
        double d = fabs(((double)got[t] - got_sum) - ((double)want[t] - want_sum));
        worst = d > worst || d != d ? d : worst;
        sum += d;
        square += d * d;
    }
    row->worst[lane] = worst;
    row->mean[lane] = sum / n;
    row->square[lane] = square / n;
}

static void on_row(void *ctx, const struct lanes_row *r)
{
    struct compare *c = ctx;
    struct row *row = add_row(c);
    int n = c->vocab;
    const float *want = r->logits[REFERENCE], *got = r->logits[DEVICE];
    double want_sum = log_sum(want, n);
    row->seq = r->seq;
    row->index = r->index;
    for (int i = DEVICE; i < c->lanes; i++)
        compare_lane(row, i, want, want_sum, r->logits[i], log_sum(r->logits[i], n), n);
    c->broken += !isfinite(row->worst[DEVICE]);
    int first = best(want, n);
    row->margin = margin_of(want, n, first);
    row->same = best(got, n) == first;
    check_own(c, r, got, log_sum(got, n));
}

/* Root mean square of the draws' moves in a row, without draw `but`. */
static double move_of(const struct compare *c, const struct row *row, int but)
{
    double sum = 0.0;
    int count = 0;
    for (int i = DRAWS; i < c->lanes; i++) {
        if (i != but) {
            sum += row->square[i];
            count++;
        }
    }
    return count ? sqrt(sum / count) : 0.0;
}

struct verdict {
    double largest, bound_of_largest, worst_share, reach;
    const struct row *worst;
    int over, clear, clear_wrong, near_wrong;
};

static struct verdict judge(const struct compare *c)
{
    struct verdict v = {0};
    double all = 0.0;
    for (int i = 0; i < c->count; i++)
        all += pow(move_of(c, &c->rows[i], 0), 2.0) / c->count;
    all = sqrt(all);
    for (int i = 0; i < c->count; i++) {
        for (int d = DRAWS; d < c->lanes && all > 0.0; d++)
            v.reach = fmax(v.reach, c->rows[i].worst[d] / fmax(move_of(c, &c->rows[i], d), all));
    }
    for (int i = 0; i < c->count; i++) {
        const struct row *r = &c->rows[i];
        double bound = v.reach * fmax(move_of(c, r, 0), all), worst = r->worst[DEVICE];
        double share = bound > 0.0 ? worst / bound : worst > 0.0 ? INFINITY : 0.0;
        v.over += !(worst <= bound);
        if (worst >= v.largest) {
            v.largest = worst;
            v.bound_of_largest = bound;
        }
        if (!v.worst || share > v.worst_share) {
            v.worst_share = share;
            v.worst = r;
        }
        if (r->margin > bound) {
            v.clear++;
            v.clear_wrong += !r->same;
        } else {
            v.near_wrong += !r->same;
        }
    }
    return v;
}

/* Mean differences over the rows of one voice: the base (-1), an adapter, all blends (the number of
 * adapters), or everything (ALL_VOICES). */
#define ALL_VOICES INT_MAX

static int voice_of(const struct compare *c, const struct row *row)
{
    const struct lanes_seq *q = &c->seqs[row->seq];
    return q->adapter_count == 0 ? -1 : q->adapter_count > 1 ? c->w->adapters : q->slots[0];
}

struct voice {
    double mean;  /* of the device */
    double bound; /* the largest mean of a draw */
    int rows;
};

static struct voice voice_mean(const struct compare *c, int voice)
{
    struct voice v = {0};
    double sum[LANES_MAX] = {0};
    for (int i = 0; i < c->count; i++) {
        if (voice != ALL_VOICES && voice_of(c, &c->rows[i]) != voice)
            continue;
        v.rows++;
        for (int d = DEVICE; d < c->lanes; d++)
            sum[d] += c->rows[i].mean[d];
    }
    for (int d = DRAWS; d < c->lanes; d++)
        v.bound = fmax(v.bound, sum[d] / (v.rows + !v.rows));
    v.mean = sum[DEVICE] / (v.rows + !v.rows);
    return v;
}

/* Prints the voices that are over their bound; returns how many. */
static int check_voices(const struct compare *c)
{
    int over = 0;
    for (int i = -1; i <= c->w->adapters; i++) {
        struct voice v = voice_mean(c, i);
        if (v.mean <= v.bound)
            continue;
        over++;
        printf("  %s: mean difference %.3g over %d rows (bound %.3g)\n",
               i < 0                ? "the base"
               : i < c->w->adapters ? c->w->names[i]
                                    : "blends",
               v.mean, v.rows, v.bound);
    }
    return over;
}

/* Draws on the device may differ from the host's where u falls into the error of a running float32
 * sum, 2^-24 log2 V of the whole, around one of V borders. */
static int draws_allowed(const struct compare *c)
{
    double share = c->vocab * log2(c->vocab) * 0x1p-24;
    double mean = share * c->draws;
    return (int)ceil(mean + 4.0 * sqrt(mean));
}

static bool report(const struct compare *c, int steps)
{
    const struct parity *p = c->w->p;
    struct verdict v = judge(c);
    struct voice all = voice_mean(c, ALL_VOICES);
    printf("steps %s: %s, linears %s, head %s, %d adapters, seed %llu: %d steps, %d rows of %d\n",
           p->model_dir, p->device, parity_formats[p->linears], parity_formats[p->head],
           c->w->adapters, (unsigned long long)p->seed, steps, c->count, c->vocab);
    printf("  log-probabilities: largest difference %.3g (bound there %.3g), mean %.3g (bound "
           "%.3g); worst row at %.2f of its bound (sequence %d, token %d); %d rows over\n",
           v.largest, v.bound_of_largest, all.mean, all.bound, v.worst_share, v.worst->seq,
           v.worst->index, v.over);
    int voices_over = p->exact || p->draws > 0 ? check_voices(c) : 0;
    printf("  greedy: %d rows with a margin above their bound, %d differ; of the other %d, %d\n",
           v.clear, v.clear_wrong, c->count - v.clear, v.near_wrong);
    printf("  own logits: log-probabilities at %.2f of the float32 error, %d greedy tokens wrong, "
           "%d of %d draws differ (%d allowed)\n",
           c->own_logprob, c->greedy_wrong, c->draws_wrong, c->draws, draws_allowed(c));
    if (c->broken)
        printf("  %d rows hold values that are no numbers\n", c->broken);
    bool ok = c->broken + c->greedy_wrong == 0 && c->own_logprob <= 1.0 &&
              c->draws_wrong <= draws_allowed(c);
    bool bounded = p->exact || p->draws > 0;
    if (bounded)
        ok = ok && v.over + voices_over + v.clear_wrong == 0 && all.mean <= all.bound;
    printf("  %s%s\n", ok ? "held" : "NOT HELD", bounded ? "" : " (no draws: no bound)");
    return ok;
}

bool parity_steps(const struct parity *p)
{
    struct world w;
    world_open(&w, p);
    add_lane(&w, "cpu", w.stored, NULL, 1.0f);
    add_device(&w);
    for (int i = 0; i < (p->exact ? 0 : p->draws); i++) {
        struct view_noise noise = {.draw = p->seed + 1 + (uint64_t)i};
        add_noisy(&w, "cpu", &noise, 1.0f);
    }
    struct lanes_seq *seqs = lanes_make(&w.setup);
    struct compare c = {.w = &w, .seqs = seqs, .vocab = w.setup.vocab, .lanes = w.lanes.count};
    c.scratch = lanes_alloc(sample_scratch_floats(c.vocab), sizeof *c.scratch);
    w.lanes.on_row = on_row;
    w.lanes.ctx = &c;
    int steps = lanes_run(&w.lanes, &w.setup, seqs, w.setup.sequences, 24, false);
    bool ok = report(&c, steps);
    lanes_free(seqs, w.setup.sequences);
    free(c.scratch);
    free(c.rows);
    world_close(&w);
    return ok;
}

/* ---- company ---- */

/* Logits of a sequence's rows, by the token they predict. */
struct kept {
    float **logits; /* owned, [prompt_count + generate], each [V] or NULL */
    int count;
};

struct company {
    int vocab;
    struct kept *kept; /* owned, [sequences] */
    bool comparing;
    int first;               /* sequence that lanes counts from */
    long rows[2], differ[2]; /* decode, prefill */
    double largest;
    size_t bytes;
};

static void on_company_row(void *ctx, const struct lanes_row *r)
{
    struct company *c = ctx;
    struct kept *k = &c->kept[c->first + r->seq];
    size_t n = (size_t)c->vocab;
    const float *logits = r->logits[0];
    if (!c->comparing) {
        c->bytes += n * sizeof(float);
        if (c->bytes > (size_t)4 << 30)
            lanes_die("company: the logits of this run do not fit 4 GiB; fewer --sequences");
        k->logits[r->index] = lanes_alloc(n, sizeof(float));
        memcpy(k->logits[r->index], logits, n * sizeof(float));
        return;
    }
    const float *want = k->logits[r->index];
    if (!want)
        lanes_die("company: sequence %d has no row for token %d", c->first + r->seq, r->index);
    c->rows[r->prefill]++;
    if (memcmp(want, logits, n * sizeof(float)) == 0)
        return;
    c->differ[r->prefill]++;
    double a = log_sum(want, c->vocab), b = log_sum(logits, c->vocab);
    for (size_t i = 0; i < n; i++)
        c->largest = fmax(c->largest, fabs((double)want[i] - a - (double)logits[i] + b));
}

bool parity_company(const struct parity *p)
{
    static const int in_flight[] = {8, 32};
    struct world w;
    world_open(&w, p);
    w.deterministic = true;
    add_device(&w);
    struct company c = {.vocab = w.setup.vocab};
    struct lanes_seq *seqs = lanes_make(&w.setup);
    c.kept = lanes_alloc((size_t)w.setup.sequences, sizeof *c.kept);
    w.lanes.on_row = on_company_row;
    w.lanes.ctx = &c;
    for (int i = 0; i < w.setup.sequences; i++) {
        c.kept[i].count = seqs[i].prompt_count + seqs[i].generate;
        c.kept[i].logits = lanes_alloc((size_t)c.kept[i].count, sizeof(float *));
        c.first = i;
        lanes_run(&w.lanes, &w.setup, &seqs[i], 1, 1, false);
    }
    c.first = 0;
    c.comparing = true;
    for (int i = 0; i < 2; i++)
        lanes_run(&w.lanes, &w.setup, seqs, w.setup.sequences, in_flight[i], true);
    bool ok = c.differ[0] + c.differ[1] == 0 && c.rows[0] > 0;
    printf("company %s: %s, linears %s, head %s, %d adapters: %d sequences alone, then 8 and 32 in "
           "flight: %ld of %ld decode rows and %ld of %ld prefill rows differ, by %.3g at most: "
           "%s\n",
           p->model_dir, p->device, parity_formats[p->linears], parity_formats[p->head], w.adapters,
           w.setup.sequences, c.differ[0], c.rows[0], c.differ[1], c.rows[1], c.largest,
           ok ? "held" : "NOT HELD");
    for (int i = 0; i < w.setup.sequences; i++) {
        for (int t = 0; t < c.kept[i].count; t++)
            free(c.kept[i].logits[t]);
        free(c.kept[i].logits);
    }
    free(c.kept);
    lanes_free(seqs, w.setup.sequences);
    world_close(&w);
    return ok;
}
