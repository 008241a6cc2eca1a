/* engine_open: from a model directory to the parts of an engine. */
#include "engine/engine.h"

#include <string.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/engine_internal.h"
#include "engine/engine_parts.h"
#include "engine/engine_text.h"
#include "engine/model/model.h"
#include "engine/text/detokenize.h"

/* What engine_open opened; freed by engine_close through engine_parts.release. */
struct opened {
    struct model *model;
    struct engine_text *text;
    int32_t eos[MODEL_EOS_MAX];
    int eos_count;
    int32_t think[2]; /* a thinking model's tags where they are tokens, else -1 */
};

static void release_opened(void *ctx)
{
    struct opened *o = ctx;
    engine_text_close(o->text);
    model_close(o->model);
    mem_free(o);
}

static void detok_begin(const void *ctx, void *state, bool keep_special, const int32_t *prompt,
                        int prompt_count)
{
    detok_init(state, engine_text_tokenizer(ctx), !keep_special, prompt, (size_t)prompt_count);
}

static void detok_push_token(const void *ctx, void *state, int32_t token, struct strbuf *out)
{
    (void)ctx;
    detok_push(state, token, out);
}

static void detok_end(const void *ctx, void *state, struct strbuf *out)
{
    (void)ctx;
    detok_flush(state, out);
}

/* Bytes of text that one token can complete: its own, each at worst replaced by U+FFFD, behind the
 * beginning of a character. */
static size_t text_max_of(const struct engine_text *t)
{
    const struct tokenizer *tok = engine_text_tokenizer(t);
    size_t longest = 0, n = 0;
    for (size_t id = 0; id < tokenizer_vocab_size(tok); id++) {
        if (tokenizer_token_bytes(tok, (int32_t)id, &n) && n > longest)
            longest = n;
        if (tokenizer_token_content(tok, (int32_t)id, &n) && n > longest)
            longest = n;
    }
    return 3 * (longest + sizeof((struct detok *)0)->held);
}

/* Special tokens are no text, and what ends an answer is not either. Tags around a thought are: a
 * grammar may stand behind them. */
static const char *text_token(const void *ctx, int32_t id, size_t *n)
{
    const struct opened *o = ctx;
    const struct tokenizer *t = engine_text_tokenizer(o->text);
    for (int i = 0; i < o->eos_count; i++)
        if (o->eos[i] == id)
            return NULL;
    if (id == o->think[0] || id == o->think[1])
        return tokenizer_token_content(t, id, n);
    return tokenizer_is_special(t, id) ? NULL : tokenizer_token_bytes(t, id, n);
}

/* What the model's files say ends an answer; where they are silent, the tokenizer's end token. */
static void fill_eos(struct opened *o)
{
    int32_t own = tokenizer_eos_id(engine_text_tokenizer(o->text));
    o->eos_count = o->model->eos_count;
    memcpy(o->eos, o->model->eos, sizeof o->eos);
    if (o->eos_count == 0 && own >= 0)
        o->eos[o->eos_count++] = own;
}

static void fill_think(struct opened *o)
{
    const char *open, *close;
    bool thinks = engine_text_thinking(o->text, &open, &close);
    o->think[0] = thinks ? engine_text_token_id(o->text, open) : -1;
    o->think[1] = thinks ? engine_text_token_id(o->text, close) : -1;
}

#ifdef CHORUS_CUDA
#define KNOWN_BACKENDS "auto, cpu, cuda"
static enum status open_cuda(const struct backend_options *o, struct backend **out, struct err *e)
{
    return cuda_backend_open(o, out, e);
}
#else
#define KNOWN_BACKENDS "auto, cpu"
static enum status open_cuda(const struct backend_options *o, struct backend **out, struct err *e)
{
    (void)o;
    (void)out;
    return err_set(e, STATUS_UNSUPPORTED, "backend", "This build has no CUDA backend.");
}
#endif

/* A card if there is one that can be used, and why not otherwise. */
static enum status open_any(const struct backend_options *o, struct backend **out, struct err *e)
{
    struct err why = {0};
    enum status st = open_cuda(o, out, &why);
    if (st == STATUS_OK)
        return st;
    LOG_INFO(LOG_WHAT("computing on the CPU"), LOG_STR("why", why.msg));
    return cpu_backend_open(o, out, e);
}

static int adapter_bits(enum engine_adapter_quant quant)
{
    return quant == ENGINE_QUANT_INT8 ? 8 : quant == ENGINE_QUANT_INT4 ? 4 : 16;
}

static enum status open_backend(const struct engine_options *opt, struct backend **out,
                                struct err *e)
{
    const char *name = opt->backend ? opt->backend : "auto";
    struct backend_options options = {
        .threads = opt->threads,
        .isa = opt->isa ? opt->isa : "auto",
        .device = opt->device,
        .quant = opt->quant,
        .head_quant = opt->head_quant,
        .kv_type = opt->kv_type,
        .embedding = opt->embedding,
        .memory_share = opt->gpu_memory_share,
        .memory_bytes = opt->gpu_memory_bytes,
        .arena_bytes = opt->lora_arena_bytes,
        .plain_launches = opt->plain_launches,
        .adapter_bits = adapter_bits(opt->adapter_quant),
        .deterministic = opt->deterministic,
    };
    if (strcmp(name, "auto") == 0)
        return open_any(&options, out, e);
    if (strcmp(name, "cpu") == 0)
        return cpu_backend_open(&options, out, e);
    if (strcmp(name, "cuda") == 0)
        return open_cuda(&options, out, e);
    return err_set(e, STATUS_INVALID, "backend",
                   "There is no backend '%s'; known are " KNOWN_BACKENDS ".", name);
}

static enum status open_files(const struct engine_options *opt, struct opened *o, struct err *e)
{
    struct progress progress = {.fn = opt->progress, .ctx = opt->progress_ctx};
    enum status st = model_open(opt->model_dir, &progress, &o->model, e);
    if (st != STATUS_OK)
        return st;
    st = engine_text_open(opt->model_dir, &o->text, e);
    if (st != STATUS_OK)
        model_close(o->model);
    return st;
}

enum status engine_open(const struct engine_options *opt, struct engine **out, struct err *e)
{
    struct opened *o = mem_calloc(1, sizeof *o);
    if (!o)
        return err_set(e, STATUS_NO_MEMORY, NULL, "Out of memory for the engine.");
    enum status st = open_files(opt, o, e);
    if (st != STATUS_OK) {
        mem_free(o);
        return st;
    }
    fill_eos(o);
    fill_think(o);
    struct engine_parts parts = {
        .model = o->model,
        .text = o->text,
        .tokens = {.bytes = text_token, .ctx = o},
        .eos = o->eos,
        .eos_count = o->eos_count,
        .detok = {.ctx = o->text,
                  .state_bytes = sizeof(struct detok),
                  .text_max = text_max_of(o->text),
                  .begin = detok_begin,
                  .push = detok_push_token,
                  .end = detok_end},
        .adapters = {.open = lora_open_early,
                     .open_beneath = lora_open_beneath_early,
                     .identify = lora_identify,
                     .free = lora_free},
        .memory_bytes = engine_memory_available(),
        .release = release_opened,
        .release_ctx = o,
        .threaded = true,
    };
    st = open_backend(opt, &parts.backend, e);
    if (st == STATUS_OK) {
        st = engine_create(opt, &parts, out, e);
        if (st != STATUS_OK)
            parts.backend->ops->close(parts.backend);
    }
    if (st != STATUS_OK)
        release_opened(o);
    return st;
}
