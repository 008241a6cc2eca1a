#include "engine/engine_text.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/text/chat_continue.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

struct engine_text {
    struct tokenizer *tokenizer;
    struct chat_template *chat; /* NULL: the directory has none */
    bool beside;                /* the tokenizer is borrowed */
};

enum status engine_text_open(const char *dir, struct engine_text **out, struct err *e)
{
    struct engine_text *t = mem_calloc(1, sizeof *t);
    if (!t)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    enum status st = tokenizer_open(dir, &t->tokenizer, e);
    if (st == STATUS_OK) {
        struct err why;
        st = chat_template_load(dir, NULL, &t->chat, &why);
        if (st == STATUS_NOT_FOUND)
            st = STATUS_OK;
        else if (st != STATUS_OK)
            st = err_set(e, why.code, "chat_template", "%s", why.msg);
    }
    if (st != STATUS_OK) {
        engine_text_close(t);
        return st;
    }
    *out = t;
    return STATUS_OK;
}

enum status engine_text_beside(const struct engine_text *base, const char *source,
                               const cJSON *config, struct engine_text **out, struct err *e)
{
    if (!source && config)
        source = chat_template_of_config(config);
    if (!source)
        return err_set(e, STATUS_NOT_FOUND, "chat_template", "there is no chat template");
    struct engine_text *t = mem_calloc(1, sizeof *t);
    if (!t)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    struct err why;
    enum status st =
        chat_template_beside(source, strlen(source), base->chat, config, &t->chat, &why);
    if (st != STATUS_OK) {
        mem_free(t);
        return err_set(e, st, "chat_template", "chat template: %s", why.msg);
    }
    t->tokenizer = base->tokenizer;
    t->beside = true;
    *out = t;
    return STATUS_OK;
}

void engine_text_close(struct engine_text *t)
{
    if (!t)
        return;
    chat_template_free(t->chat);
    if (!t->beside)
        tokenizer_close(t->tokenizer);
    mem_free(t);
}

const struct tokenizer *engine_text_tokenizer(const struct engine_text *t)
{
    return t->tokenizer;
}

bool engine_text_has_template(const struct engine_text *t)
{
    return t->chat != NULL;
}

bool engine_text_thinking(const struct engine_text *t, const char **open, const char **close)
{
    const struct chat_thinking *thinking = t->chat ? chat_template_thinking(t->chat) : NULL;
    if (!thinking)
        return false;
    *open = thinking->open;
    *close = thinking->close;
    return true;
}

enum engine_tool_form engine_text_tools(const struct engine_text *t)
{
    static const enum engine_tool_form forms[] = {
        [CHAT_TOOLS_NONE] = ENGINE_TOOLS_NONE,     [CHAT_TOOLS_OTHER] = ENGINE_TOOLS_OTHER,
        [CHAT_TOOLS_TAGS] = ENGINE_TOOLS_TAGS,     [CHAT_TOOLS_OBJECT] = ENGINE_TOOLS_OBJECT,
        [CHAT_TOOLS_PYTHON] = ENGINE_TOOLS_PYTHON, [CHAT_TOOLS_MISTRAL] = ENGINE_TOOLS_MISTRAL,
    };
    return t->chat ? forms[chat_template_tools(t->chat)] : ENGINE_TOOLS_NONE;
}

static enum status check_template(const struct engine_text *t, struct err *e)
{
    if (t->chat)
        return STATUS_OK;
    return err_set(e, STATUS_UNSUPPORTED, "messages",
                   "this model has no chat template; use /v1/completions");
}

/* What a template refuses is the chat it was given. */
static enum status blame_messages(enum status st, struct err *e)
{
    if ((st == STATUS_INVALID || st == STATUS_LIMIT) && e && !e->param[0])
        snprintf(e->param, sizeof e->param, "messages");
    return st;
}

static enum status render(const struct engine_text *t, const cJSON *vars, struct strbuf *out,
                          struct strbuf *from_input, struct err *e)
{
    enum status st = check_template(t, e);
    return st == STATUS_OK
               ? blame_messages(chat_template_render(t->chat, vars, out, from_input, e), e)
               : st;
}

static enum status render_open(const struct engine_text *t, cJSON *vars, struct strbuf *out,
                               struct strbuf *from_input, struct err *e)
{
    enum status st = check_template(t, e);
    return st == STATUS_OK
               ? blame_messages(chat_continue_render(t->chat, vars, out, from_input, e), e)
               : st;
}

enum status engine_text_render(const struct engine_text *t, const cJSON *vars, struct strbuf *out,
                               struct err *e)
{
    return render(t, vars, out, NULL, e);
}

enum status engine_text_continue(const struct engine_text *t, cJSON *vars, struct strbuf *out,
                                 struct err *e)
{
    return render_open(t, vars, out, NULL, e);
}

/* What was rendered to tokens; takes both buffers' memory. The template writes bos itself where the
 * model wants one, so nothing is added here. */
static enum status tokenise(const struct engine_text *t, enum status st, struct strbuf *text,
                            struct strbuf *from_input, struct token_buf *out, struct err *e)
{
    if (st == STATUS_OK)
        st =
            tokenizer_encode(t->tokenizer, strbuf_str(text), text->len,
                             (const uint8_t *)strbuf_str(from_input), ENCODE_PARSE_SPECIAL, out, e);
    strbuf_deinit(text);
    strbuf_deinit(from_input);
    return st;
}

enum status engine_text_chat(const struct engine_text *t, const cJSON *vars, struct token_buf *out,
                             struct err *e)
{
    struct strbuf text;
    struct strbuf from_input;
    strbuf_init(&text, LIMIT_TEMPLATE_OUTPUT_BYTES);
    strbuf_init(&from_input, LIMIT_TEMPLATE_OUTPUT_BYTES);
    enum status st = render(t, vars, &text, &from_input, e);
    return tokenise(t, st, &text, &from_input, out, e);
}

enum status engine_text_chat_continue(const struct engine_text *t, cJSON *vars,
                                      struct token_buf *out, struct err *e)
{
    struct strbuf text;
    struct strbuf from_input;
    strbuf_init(&text, LIMIT_TEMPLATE_OUTPUT_BYTES);
    strbuf_init(&from_input, LIMIT_TEMPLATE_OUTPUT_BYTES);
    enum status st = render_open(t, vars, &text, &from_input, e);
    return tokenise(t, st, &text, &from_input, out, e);
}

enum status engine_text_encode(const struct engine_text *t, const char *s, size_t n,
                               bool add_special, bool parse_special, struct token_buf *out,
                               struct err *e)
{
    unsigned flags =
        (add_special ? ENCODE_ADD_SPECIAL : 0u) | (parse_special ? ENCODE_PARSE_SPECIAL : 0u);
    return tokenizer_encode(t->tokenizer, s, n, NULL, flags, out, e);
}

enum status engine_text_decode(const struct engine_text *t, const int32_t *ids, size_t count,
                               bool keep_special, struct strbuf *out, struct err *e)
{
    return tokenizer_decode(t->tokenizer, ids, count, !keep_special, out, e);
}

const char *engine_text_token(const struct engine_text *t, int32_t id, size_t *n)
{
    return tokenizer_token_bytes(t->tokenizer, id, n);
}

bool engine_text_is_special(const struct engine_text *t, int32_t id)
{
    return tokenizer_is_special(t->tokenizer, id);
}

int32_t engine_text_token_id(const struct engine_text *t, const char *token)
{
    return tokenizer_id_of(t->tokenizer, token);
}

int engine_text_vocab(const struct engine_text *t)
{
    return (int)tokenizer_vocab_size(t->tokenizer);
}
