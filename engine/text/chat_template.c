#include "engine/text/chat_template.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_eval.h"
#include "engine/text/jinja_global.h"
#include "engine/text/jinja_parse.h"

struct chat_template {
    struct jinja_template program;
    cJSON *tokens; /* owned object: bos_token ... of the model; NULL: none */
    const struct chat_thinking *thinking;
    enum chat_tool_form tools;
};

static enum status no_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

void chat_template_free(struct chat_template *t)
{
    if (!t)
        return;
    jinja_template_deinit(&t->program);
    cJSON_Delete(t->tokens);
    mem_free(t);
}

enum status chat_template_compile(const char *source, size_t n, struct chat_template **out,
                                  struct err *e)
{
    struct chat_template *t = mem_calloc(1, sizeof *t);
    if (!t)
        return no_memory(e);
    enum status st = jinja_parse(source, n, &t->program, e);
    if (st != STATUS_OK) {
        chat_template_free(t);
        return st;
    }
    t->thinking = chat_thinking_of(source, n);
    t->tools = chat_tool_form_of(source, n);
    *out = t;
    return STATUS_OK;
}

const struct chat_thinking *chat_template_thinking(const struct chat_template *t)
{
    return t->thinking;
}

enum chat_tool_form chat_template_tools(const struct chat_template *t)
{
    return t->tools;
}

static bool is_token_name(const char *name)
{
    size_t n = strlen(name);
    return n > 6 && strcmp(name + n - 6, "_token") == 0;
}

/* The *_token members of a tokenizer_config.json: strings, or objects that hold one. */
static enum status collect_tokens(const cJSON *config, cJSON **out, struct err *e)
{
    cJSON *tokens = cJSON_CreateObject();
    if (!tokens)
        return no_memory(e);
    for (const cJSON *m = config->child; m; m = m->next) {
        const cJSON *text = cJSON_IsObject(m) ? json_member(m, "content") : m;
        if (!m->string || !is_token_name(m->string) || !cJSON_IsString(text))
            continue;
        if (!cJSON_AddStringToObject(tokens, m->string, text->valuestring)) {
            cJSON_Delete(tokens);
            return no_memory(e);
        }
    }
    *out = tokens;
    return STATUS_OK;
}

/* "chat_template": a string, which is the default, or a list of named ones. NULL: not there. */
static const char *named_source(const cJSON *config, const char *name)
{
    const cJSON *v = json_member(config, "chat_template");
    const char *wanted = name ? name : "default";
    if (cJSON_IsString(v))
        return name ? NULL : v->valuestring;
    for (const cJSON *item = cJSON_IsArray(v) ? v->child : NULL; item; item = item->next) {
        const cJSON *n = json_member(item, "name");
        const cJSON *source = json_member(item, "template");
        if (cJSON_IsString(n) && cJSON_IsString(source) && strcmp(n->valuestring, wanted) == 0)
            return source->valuestring;
    }
    return NULL;
}

const char *chat_template_of_config(const cJSON *config)
{
    return named_source(config, NULL);
}

enum status chat_template_beside(const char *source, size_t n, const struct chat_template *base,
                                 const cJSON *config, struct chat_template **out, struct err *e)
{
    struct chat_template *t;
    enum status st = chat_template_compile(source, n, &t, e);
    if (st != STATUS_OK)
        return st;
    if (base && base->tokens) {
        t->tokens = cJSON_Duplicate(base->tokens, 1);
        st = t->tokens ? STATUS_OK : no_memory(e);
    } else if (config) {
        st = collect_tokens(config, &t->tokens, e);
    }
    if (st != STATUS_OK) {
        chat_template_free(t);
        return st;
    }
    *out = t;
    return STATUS_OK;
}

/* A JSON file of the directory that must be an object. *out NULL: there is no such file. */
static enum status read_object(const struct file_root *root, const char *name, cJSON **out,
                               struct err *e)
{
    static const struct json_limits limits = {.depth_max = LIMIT_JSON_DEPTH,
                                              .members_max = LIMIT_TOKENIZER_JSON_MEMBERS};
    char *text;
    size_t n;
    *out = NULL;
    enum status st = file_read(root, name, LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL, e);
    if (st != STATUS_OK)
        return st == STATUS_NOT_FOUND ? STATUS_OK : st;
    st = json_parse(text, n, &limits, out, e);
    mem_free(text);
    if (st != STATUS_OK) {
        err_prefix(e, "%s", name);
        return st == STATUS_INVALID ? err_set(e, STATUS_BAD_FILE, name, "%s: not valid JSON", name)
                                    : st;
    }
    if (!cJSON_IsObject(*out)) {
        cJSON_Delete(*out);
        *out = NULL;
        return err_set(e, STATUS_BAD_FILE, name, "%s is not a JSON object", name);
    }
    return STATUS_OK;
}

/* chat_template.jinja, or that of a name. *t NULL: there is no such file. */
static enum status load_file(const struct file_root *root, const char *name,
                             struct chat_template **t, struct err *e)
{
    char path[LIMIT_NAME_BYTES + 48];
    char *text;
    size_t n;
    if (name && (strlen(name) > LIMIT_NAME_BYTES || strchr(name, '/')))
        return err_set(e, STATUS_NOT_FOUND, NULL, "there is no such chat template");
    snprintf(path, sizeof path, name ? "additional_chat_templates/%s.jinja" : "chat_template.jinja",
             name);
    enum status st = file_read(root, path, LIMIT_TEMPLATE_SOURCE_BYTES, &text, &n, NULL, e);
    if (st != STATUS_OK)
        return st == STATUS_NOT_FOUND ? STATUS_OK : st;
    st = chat_template_compile(text, n, t, e);
    mem_free(text);
    return st;
}

static enum status load_json(const cJSON *config, const char *name, struct chat_template **t,
                             struct err *e)
{
    const char *source = config ? named_source(config, name) : NULL;
    return source ? chat_template_compile(source, strlen(source), t, e) : STATUS_OK;
}

static enum status load_from(const struct file_root *root, const char *name,
                             struct chat_template **t, struct err *e)
{
    cJSON *config = NULL;
    cJSON *processor = NULL;
    enum status st = read_object(root, "tokenizer_config.json", &config, e);
    if (st == STATUS_OK)
        st = load_file(root, name, t, e);
    if (st == STATUS_OK && !*t)
        st = load_json(config, name, t, e);
    if (st == STATUS_OK && !*t)
        st = read_object(root, "chat_template.json", &processor, e);
    if (st == STATUS_OK && !*t)
        st = load_json(processor, name, t, e);
    if (st == STATUS_OK && !*t)
        st = err_set(e, STATUS_NOT_FOUND, NULL, "the model has no chat template");
    if (st == STATUS_OK && config)
        st = collect_tokens(config, &(*t)->tokens, e);
    cJSON_Delete(processor);
    cJSON_Delete(config);
    return st;
}

enum status chat_template_load(const char *model_dir, const char *name, struct chat_template **out,
                               struct err *e)
{
    struct file_root root;
    struct chat_template *t = NULL;
    enum status st = file_root_open(model_dir, false, &root, e);
    if (st != STATUS_OK)
        return st;
    st = load_from(&root, name, &t, e);
    file_root_close(&root);
    if (st != STATUS_OK) {
        chat_template_free(t);
        return st;
    }
    *out = t;
    return STATUS_OK;
}

/* What a name of the template means: a variable, a token of the model, a function, or nothing. */
static bool bind_name(struct jinja_run *r, const struct chat_template *t, const cJSON *vars,
                      const struct jinja_name *name, struct jinja_value *out)
{
    char text[LIMIT_NAME_BYTES * 4];
    const struct jinja_builtin *fn = jinja_global_find(&name->str);
    if (fn)
        *out = (struct jinja_value){.type = JINJA_FUNCTION, .function = fn};
    if (name->str.len >= sizeof text)
        return true;
    memcpy(text, name->str.data, name->str.len);
    text[name->str.len] = '\0';
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(vars, text);
    if (!v && t->tokens)
        v = cJSON_GetObjectItemCaseSensitive(t->tokens, text);
    return !v || jinja_from_json(r, v, cJSON_IsString(v) && is_token_name(text), out);
}

static bool run_program(struct jinja_run *r, const struct chat_template *t, const cJSON *vars)
{
    const struct jinja_template *program = &t->program;
    enum jinja_flow flow = JINJA_FLOW_NEXT;
    r->template = program;
    r->names = jinja_alloc(r, program->name_count, sizeof *r->names);
    if (!r->names)
        return false;
    for (size_t i = 0; i < program->name_count; i++) {
        if (!bind_name(r, t, vars, program->names[i], &r->names[i]))
            return false;
    }
    struct jinja_scope *scope = jinja_scope_new(r, NULL);
    return scope && jinja_scope_begin(r, scope, program->unbound) &&
           jinja_exec(r, scope, program->body, &flow);
}

enum status chat_template_render(const struct chat_template *t, const cJSON *vars,
                                 struct strbuf *out, struct strbuf *from_input, struct err *e)
{
    struct err local;
    struct jinja_run r;
    if (!e)
        e = &local;
    jinja_run_init(&r, out, from_input, e);
    bool ok = run_program(&r, t, vars);
    jinja_run_deinit(&r);
    return ok ? STATUS_OK : e->code;
}
