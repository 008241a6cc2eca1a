#include "engine/adapter/lora_quant.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/base/mem.h"

#define CHUNK   64 /* values worked on at a time; a group of 4 bits */
#define LANES   16
#define ROUND   0x1.8p23f /* added and taken away again it rounds to nearest, ties to even */
#define MOST_Q8 127.0f
#define MOST_Q4 7.0f

/* How far a group's codes reach beyond its largest value (above 1) or fall short of it; what is
 * beyond the last code is cut to it. Many values: rare large ones cost little as they are. */
static const float reach_q8[] = {1.0f};
static const float reach_q4[] = {1.0f, 1.07f, 0.94f, 0.88f, 0.82f, 0.76f, 0.7f, 0.62f};

struct format {
    enum dtype dtype;
    int64_t group; /* 0: a whole rank */
    float most;
    const float *reach;
    int reach_count;
};

static struct format format_of(enum engine_adapter_quant quant)
{
    if (quant == ENGINE_QUANT_INT8)
        return (struct format){DTYPE_Q8, 0, MOST_Q8, reach_q8, 1};
    return (struct format){DTYPE_Q4, CHUNK, MOST_Q4, reach_q4,
                           (int)(sizeof reach_q4 / sizeof reach_q4[0])};
}

const char *const engine_adapter_quant_names[ENGINE_QUANT_COUNT] = {"default", "none", "int8",
                                                                    "int4"};

float lora_quant_error(const struct lora_quant_sums *s)
{
    return s->norm > 0 ? (float)sqrt(s->error / s->norm) : 0.0f;
}

/* ---- one group ---- */

/* Loops of constant counts: compilers make vector code of them. */
static void round_chunk(const float u[CHUNK], float inverse, float most, float q[CHUNK])
{
    for (int i = 0; i < CHUNK; i++) {
        float x = u[i] * inverse;
        x = x > most ? most : x;
        x = x < -most ? -most : x;
        q[i] = (x + ROUND) - ROUND;
    }
}

static double dot_chunk(const float a[CHUNK], const float b[CHUNK])
{
    float part[LANES] = {0};
    double sum = 0;
    for (int i = 0; i < CHUNK; i += LANES) {
        for (int k = 0; k < LANES; k++)
            part[k] += a[i + k] * b[i + k];
    }
    for (int k = 0; k < LANES; k++)
        sum += (double)part[k];
    return sum;
}

/* A group's codes: their product with what they stand for, and their squares. */
struct fit {
    double qu, qq;
};

/* `u` [chunks * CHUNK] in -1 .. 1. */
static struct fit try_reach(const float *u, size_t chunks, float most, float reach)
{
    float q[CHUNK];
    struct fit f = {0, 0};
    for (size_t i = 0; i < chunks; i++) {
        round_chunk(u + i * CHUNK, most / reach, most, q);
        f.qu += dot_chunk(q, u + i * CHUNK);
        f.qq += dot_chunk(q, q);
    }
    return f;
}

/* The part of the squares that the best scale explains. */
static double explained(const struct fit *f)
{
    return f->qq > 0 ? f->qu * f->qu / f->qq : 0;
}

/* To the nearest that has 8 bits, ties to even; finite ones stay so. */
static float round_bf16(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    u = (u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u;
    memcpy(&v, &u, sizeof u);
    return v;
}

/* The scale of a group of which the largest value is `largest`: no value becomes infinite. */
static float scale_of(const struct format *f, const struct fit *fit, float largest)
{
    float scale = fit->qq > 0 ? (float)(fit->qu / fit->qq) * largest : 0;
    float widest = (f->dtype == DTYPE_Q4 ? 0.99f : 0.9999f) * FLT_MAX / f->most;
    scale = scale < widest ? scale : widest;
    return f->dtype == DTYPE_Q4 && scale >= FLT_MIN ? round_bf16(scale) : scale;
}

static void write_codes(const float *u, size_t chunks, float most, float reach, int8_t *codes)
{
    float q[CHUNK];
    for (size_t i = 0; i < chunks; i++) {
        round_chunk(u + i * CHUNK, most / reach, most, q);
        for (int k = 0; k < CHUNK; k++)
            codes[i * CHUNK + (size_t)k] = (int8_t)q[k];
    }
}

/* A group of whole chunks (zeros behind its end), which it spoils. */
static float quantise_group(const struct format *f, float *u, size_t chunks, int8_t *codes,
                            struct lora_quant_sums *sums)
{
    float largest = 0, best_reach = 1;
    struct fit best = {0, 0};
    double norm = 0;
    for (size_t i = 0; i < chunks * CHUNK; i++)
        largest = fabsf(u[i]) > largest ? fabsf(u[i]) : largest;
    if (largest == 0) {
        memset(codes, 0, chunks * CHUNK);
        return 0;
    }
    for (size_t i = 0; i < chunks * CHUNK; i++)
        u[i] /= largest;
    for (size_t i = 0; i < chunks; i++)
        norm += dot_chunk(u + i * CHUNK, u + i * CHUNK);
    for (int i = 0; i < f->reach_count; i++) {
        struct fit fit = try_reach(u, chunks, f->most, f->reach[i]);
        if (i == 0 || explained(&fit) > explained(&best)) {
            best = fit;
            best_reach = f->reach[i];
        }
    }
    write_codes(u, chunks, f->most, best_reach, codes);
    float scale = scale_of(f, &best, largest);
    double square = (double)largest * (double)largest, s = (double)scale / (double)largest;
    double error = norm - (scale >= FLT_MIN ? 2 * s * best.qu - s * s * best.qq : explained(&best));
    sums->norm += norm * square;
    sums->error += error > 0 ? error * square : 0;
    return scale;
}

/* ---- one factor ---- */

struct scratch {
    float *wide;   /* a whole factor */
    float *vector; /* a rank of it, in whole chunks */
    int8_t *codes; /* of a rank */
};

/* Where a factor goes; `scales` NULL: nowhere. */
struct target {
    float *scales;
    uint8_t *codes; /* of q4 zeros before */
};

static void put_code(enum dtype d, uint8_t *codes, size_t i, int8_t code)
{
    if (d == DTYPE_Q8)
        codes[i] = (uint8_t)code;
    else
        codes[i / 2] = (uint8_t)(codes[i / 2] | (code + 8) << (i % 2 * 4));
}

static size_t whole_chunks(size_t n)
{
    return (n + CHUNK - 1) / CHUNK;
}

/* A: ranks are rows; B: columns. */
static void quantise_factor(const struct format *f, const struct tensor *t, bool down,
                            const struct scratch *s, const struct target *to,
                            struct lora_quant_sums *sums)
{
    size_t ranks = (size_t)(down ? t->cols : t->rows), n = (size_t)(down ? t->rows : t->cols);
    size_t rank_step = down ? 1 : n, step = down ? ranks : 1;
    size_t group = f->group ? (size_t)f->group : whole_chunks(n) * CHUNK;
    size_t groups = (n + group - 1) / group;
    tensor_read_f32(t, 0, tensor_count(t), s->wide);
    for (size_t r = 0; r < ranks; r++) {
        memset(s->vector, 0, whole_chunks(n) * CHUNK * sizeof *s->vector);
        for (size_t i = 0; i < n; i++)
            s->vector[i] = s->wide[r * rank_step + i * step];
        for (size_t g = 0; g < groups; g++) {
            float scale =
                quantise_group(f, s->vector + g * group, group / CHUNK, s->codes + g * group, sums);
            if (to->scales)
                to->scales[down ? g * ranks + r : r * groups + g] = scale;
        }
        for (size_t i = 0; to->scales && i < n; i++)
            put_code(f->dtype, to->codes, r * rank_step + i * step, s->codes[i]);
    }
}

/* ---- an adapter ---- */

static void add_sums(struct lora_quant_sums *to, const struct lora_quant_sums *from)
{
    to->error += from->error;
    to->norm += from->norm;
}

/* What the report says after one more module. */
static void tell(struct lora_quant_report *r, int module, const struct lora_quant_sums *a,
                 const struct lora_quant_sums *b)
{
    float ea = lora_quant_error(a), eb = lora_quant_error(b);
    add_sums(&r->a, a);
    add_sums(&r->b, b);
    if (module > 0 && hypotf(ea, eb) <= hypotf(r->worst_a, r->worst_b))
        return;
    r->worst = module;
    r->worst_a = ea;
    r->worst_b = eb;
}

static void free_scratch(struct scratch *s)
{
    mem_free(s->wide);
    mem_free(s->vector);
    mem_free(s->codes);
}

static enum status make_scratch(const struct lora *l, struct scratch *s, struct err *e)
{
    size_t values = 1, longest = 1;
    for (int i = 0; i < l->module_count; i++) {
        const struct lora_module *m = &l->modules[i];
        size_t a = tensor_count(&m->a), b = tensor_count(&m->b);
        size_t n = (size_t)(m->in > m->out ? m->in : m->out);
        values = a > values ? a : values;
        values = b > values ? b : values;
        longest = n > longest ? n : longest;
    }
    longest = whole_chunks(longest) * CHUNK;
    *s = (struct scratch){.wide = mem_alloc(values, sizeof *s->wide),
                          .vector = mem_alloc(longest, sizeof *s->vector),
                          .codes = mem_alloc(longest, 1)};
    if (s->wide && s->vector && s->codes)
        return STATUS_OK;
    free_scratch(s);
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for an adapter");
}

enum status lora_quant_measure(const struct lora *l, enum engine_adapter_quant quant,
                               struct lora_quant_report *report, struct err *e)
{
    struct format f = format_of(quant);
    struct scratch s;
    struct lora_quant_report r = {.worst = 0};
    enum status st = make_scratch(l, &s, e);
    if (st != STATUS_OK)
        return st;
    for (int i = 0; i < l->module_count; i++) {
        struct lora_quant_sums a = {0}, b = {0};
        struct target nowhere = {NULL, NULL};
        quantise_factor(&f, &l->modules[i].a, false, &s, &nowhere, &a);
        quantise_factor(&f, &l->modules[i].b, true, &s, &nowhere, &b);
        tell(&r, i, &a, &b);
    }
    free_scratch(&s);
    *report = r;
    return STATUS_OK;
}

/* The new storage, from the widest alignment down: heads of the factors, scales, magnitudes in 32
 * and then in 16 bits, codes. */
struct storage {
    unsigned char *memory;
    struct tensor_codes *heads;
    float *scales;
    unsigned char *magnitudes;
    uint8_t *codes;
};

/* Heads and views of one factor; the codes are still to be made. */
static struct tensor lay_out(const struct format *f, const struct tensor *t, bool down,
                             struct storage *to, struct target *target)
{
    int64_t n = down ? t->rows : t->cols;
    int64_t group = f->group ? f->group : n;
    *to->heads = (struct tensor_codes){to->codes, to->scales, group, down};
    *target = (struct target){to->scales, to->codes};
    struct tensor out = {.data = to->heads, .dtype = f->dtype, .rows = t->rows, .cols = t->cols};
    size_t scales = tensor_scale_count(t->rows, t->cols, group, down);
    to->heads++;
    to->scales += scales;
    to->codes += tensor_bytes(&out) - scales * sizeof(float);
    return out;
}

static size_t factor_codes(const struct format *f, const struct tensor *t)
{
    return f->dtype == DTYPE_Q8 ? tensor_count(t) : (tensor_count(t) + 1) / 2;
}

static size_t factor_scales(const struct format *f, const struct tensor *t, bool down)
{
    return tensor_scale_count(t->rows, t->cols,
                              f->group ? f->group
                              : down   ? t->rows
                                       : t->cols,
                              down);
}

static enum status make_storage(const struct format *f, const struct lora *l, struct storage *to,
                                struct err *e)
{
    size_t heads = 2 * (size_t)l->module_count * sizeof *to->heads;
    size_t scales = 0, magnitudes = 0, codes = 0;
    for (int i = 0; i < l->module_count; i++) {
        const struct lora_module *m = &l->modules[i];
        scales += factor_scales(f, &m->a, false) + factor_scales(f, &m->b, true);
        codes += factor_codes(f, &m->a) + factor_codes(f, &m->b);
        magnitudes += m->magnitude.data ? tensor_bytes(&m->magnitude) : 0;
    }
    scales *= sizeof(float);
    to->memory = mem_alloc_aligned(heads + scales + magnitudes + codes);
    if (!to->memory)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for an adapter");
    to->heads = (struct tensor_codes *)(void *)to->memory;
    to->scales = (float *)(void *)(to->memory + heads);
    to->magnitudes = to->memory + heads + scales;
    to->codes = to->magnitudes + magnitudes;
    memset(to->codes, 0, codes);
    return STATUS_OK;
}

static void move_magnitudes(struct lora *l, unsigned char *to)
{
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < l->module_count; i++) {
            struct tensor *t = &l->modules[i].magnitude;
            if (!t->data || (t->dtype == DTYPE_F32) != (pass == 0))
                continue;
            memcpy(to, t->data, tensor_bytes(t));
            t->data = to;
            to += tensor_bytes(t);
        }
    }
}

/* What it was made of, and how. */
static void rename_form(struct lora *l, enum engine_adapter_quant quant)
{
    struct sha256 h;
    const char *name = engine_adapter_quant_names[quant];
    sha256_init(&h);
    sha256_update(&h, l->sha256, sizeof l->sha256);
    sha256_update(&h, name, strlen(name));
    sha256_final(&h, l->sha256);
}

enum status lora_quantise(struct lora *l, enum engine_adapter_quant quant,
                          struct lora_quant_report *report, struct err *e)
{
    struct format f = format_of(quant);
    struct scratch s;
    struct storage to = {0};
    struct lora_quant_report r = {.worst = 0};
    CHECK(quant != ENGINE_QUANT_DEFAULT);
    if (quant == ENGINE_QUANT_NONE)
        return STATUS_OK;
    enum status st = make_scratch(l, &s, e);
    if (st != STATUS_OK)
        return st;
    st = make_storage(&f, l, &to, e);
    if (st != STATUS_OK) {
        free_scratch(&s);
        return st;
    }
    move_magnitudes(l, to.magnitudes);
    l->bytes = 0;
    for (int i = 0; i < l->module_count; i++) {
        struct lora_module *m = &l->modules[i];
        struct lora_quant_sums a_sums = {0}, b_sums = {0};
        struct target target;
        struct tensor a = lay_out(&f, &m->a, false, &to, &target);
        quantise_factor(&f, &m->a, false, &s, &target, &a_sums);
        struct tensor b = lay_out(&f, &m->b, true, &to, &target);
        quantise_factor(&f, &m->b, true, &s, &target, &b_sums);
        tell(&r, i, &a_sums, &b_sums);
        m->a = a;
        m->b = b;
        l->bytes += tensor_bytes(&a) + tensor_bytes(&b);
        l->bytes += m->magnitude.data ? tensor_bytes(&m->magnitude) : 0;
    }
    free_scratch(&s);
    mem_free(l->storage);
    l->storage = to.memory;
    rename_form(l, quant);
    if (report)
        *report = r;
    return STATUS_OK;
}
