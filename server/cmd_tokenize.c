/* cmd_tokenize: text to token ids and back. For people, and for comparing with other tokenizers. */
#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/strbuf.h"
#include "engine/engine_text.h"
#include "server/cmd.h"
#include "server/hub_cache.h"

static void print_ids(const struct token_buf *ids)
{
    putchar('[');
    for (size_t i = 0; i < ids->count; i++)
        printf(i ? ", %d" : "%d", ids->ids[i]);
    puts("]");
}

static void print_string(struct strbuf *scratch, const char *s, size_t n)
{
    strbuf_clear(scratch);
    strbuf_json_string(scratch, s, n);
    puts(strbuf_str(scratch));
}

static enum status encode(const struct engine_text *t, const struct options *o, const char *s,
                          size_t n, struct strbuf *scratch, struct err *e)
{
    struct token_buf ids = {0};
    enum status st = engine_text_encode(t, s, n, o->add_special, !o->plain, &ids, e);
    if (st == STATUS_OK && o->count)
        printf("%zu\n", ids.count);
    else if (st == STATUS_OK && o->jsonl)
        print_ids(&ids);
    for (size_t i = 0; st == STATUS_OK && !o->count && !o->jsonl && i < ids.count; i++) {
        size_t len = 0;
        const char *piece = engine_text_token(t, ids.ids[i], &len);
        printf("%d\t", ids.ids[i]);
        print_string(scratch, piece ? piece : "", len);
    }
    token_buf_deinit(&ids);
    return st;
}

static enum status decode(const struct engine_text *t, const cJSON *array, struct strbuf *scratch,
                          struct err *e)
{
    struct token_buf ids = {0};
    struct strbuf text;
    strbuf_init(&text, LIMIT_ENCODE_BYTES);
    enum status st = STATUS_OK;
    for (const cJSON *v = array->child; v && st == STATUS_OK; v = v->next) {
        int64_t id;
        if (!json_int64(v, &id) || id < 0 || id > INT32_MAX)
            st = err_set(e, STATUS_INVALID, NULL, "not a token id");
        else if (!token_buf_push(&ids, (int32_t)id))
            st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    if (st == STATUS_OK)
        st = engine_text_decode(t, ids.ids, ids.count, true, &text, e);
    if (st == STATUS_OK)
        print_string(scratch, strbuf_str(&text), text.len);
    strbuf_deinit(&text);
    token_buf_deinit(&ids);
    return st;
}

static enum status do_line(const struct engine_text *t, const struct options *o,
                           const struct strbuf *line, struct strbuf *scratch, struct err *e)
{
    cJSON *v;
    enum status st = json_parse(strbuf_str(line), line->len, &json_default_limits, &v, e);
    if (st != STATUS_OK)
        return st;
    if (o->decode && cJSON_IsArray(v))
        st = decode(t, v, scratch, e);
    else if (!o->decode && cJSON_IsString(v))
        st = encode(t, o, v->valuestring, strlen(v->valuestring), scratch, e);
    else
        st = err_set(e, STATUS_INVALID, NULL, "not %s", o->decode ? "an array" : "a JSON string");
    cJSON_Delete(v);
    return st;
}

/* The next line of stdin with its newline; false at the end or when it is too long. */
static bool read_line(struct strbuf *line)
{
    char chunk[65536];
    strbuf_clear(line);
    while (!line->failed && fgets(chunk, sizeof chunk, stdin)) {
        strbuf_puts(line, chunk);
        if (line->len > 0 && line->data[line->len - 1] == '\n')
            break;
    }
    return !line->failed && line->len > 0;
}

static enum status do_lines(const struct engine_text *t, const struct options *o,
                            struct strbuf *line, struct strbuf *scratch, struct err *e)
{
    for (size_t number = 1; read_line(line); number++) {
        enum status st = do_line(t, o, line, scratch, e);
        if (st != STATUS_OK) {
            err_prefix(e, "line %zu", number);
            return st;
        }
    }
    return line->failed ? err_set(e, STATUS_LIMIT, NULL, "a line is too long") : STATUS_OK;
}

static enum status do_stdin(const struct engine_text *t, const struct options *o,
                            struct strbuf *text, struct strbuf *scratch, struct err *e)
{
    enum status st = cmd_read_stdin("text", text, e);
    if (st != STATUS_OK)
        return st;
    return encode(t, o, strbuf_str(text), text->len, scratch, e);
}

static int tokenize(const struct options *o)
{
    struct err e = {0};
    if (!*o->model || o->args.count > 0 || (o->decode && !o->jsonl)) {
        err_set(&e, STATUS_INVALID, NULL, "%s (chorus tokenize --help)",
                !*o->model      ? "--model DIR is needed"
                : o->args.count ? "the text comes from standard input"
                                : "--decode goes with --jsonl");
        return cmd_fail("tokenize", &e);
    }
    struct engine_text *t;
    char model[HUB_PATH_BYTES];
    if (hub_model_find(o->model, model, &e) != STATUS_OK ||
        engine_text_open(model, &t, &e) != STATUS_OK)
        return cmd_fail("tokenize", &e);
    struct strbuf in;
    struct strbuf scratch;
    strbuf_init(&in, LIMIT_ENCODE_BYTES);
    strbuf_init(&scratch, (size_t)LIMIT_ENCODE_BYTES * 8);
    enum status st =
        o->jsonl ? do_lines(t, o, &in, &scratch, &e) : do_stdin(t, o, &in, &scratch, &e);
    strbuf_deinit(&scratch);
    strbuf_deinit(&in);
    engine_text_close(t);
    return st == STATUS_OK ? CMD_EXIT_OK : cmd_fail("tokenize", &e);
}

int cmd_tokenize(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_TOKENIZE, argc, argv, &o, &code))
        code = tokenize(&o);
    options_deinit(&o);
    return code;
}
