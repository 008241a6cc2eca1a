#include "server/api_structured.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "server/json_text.h"

static enum status ask_for(struct api_structured *s, enum engine_grammar_kind kind,
                           const char *field, char *text, struct err *e)
{
    if (s->asked) {
        mem_free(text);
        return err_set(e, STATUS_INVALID, field, "'%s' and '%s' exclude each other", s->field,
                       field);
    }
    s->asked = true;
    s->field = field;
    s->ask.kind = kind;
    if (kind == ENGINE_GRAMMAR_JSON_OBJECT)
        return STATUS_OK;
    if (!text)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    s->text = text;
    s->ask.text = text;
    s->ask.text_len = strlen(text);
    return STATUS_OK;
}

/* ---- response_format ---- */

static enum status read_schema(const cJSON *schema, const char *field, struct api_structured *s,
                               struct err *e)
{
    if (!cJSON_IsObject(schema) && !cJSON_IsBool(schema))
        return err_set(e, STATUS_INVALID, field, "'%s' must be a JSON schema", field);
    return ask_for(s, ENGINE_GRAMMAR_JSON_SCHEMA, field, json_text_of(schema), e);
}

static enum status read_json_schema(const cJSON *format, struct api_structured *s, struct err *e)
{
    const cJSON *in = json_member(format, "json_schema");
    const char *name = NULL;
    if (!cJSON_IsObject(in))
        return err_set(e, STATUS_INVALID, "response_format.json_schema",
                       "'response_format.json_schema' must be {\"name\", \"schema\"}");
    enum status st = json_get_string(in, "name", &name, e);
    if (st != STATUS_OK)
        snprintf(e->param, sizeof e->param, "response_format.json_schema.name");
    else if ((st = json_get_bool(in, "strict", &s->ask.strict, e)) != STATUS_OK)
        snprintf(e->param, sizeof e->param, "response_format.json_schema.strict");
    if (st != STATUS_OK)
        return st;
    return read_schema(json_member(in, "schema"), "response_format.json_schema.schema", s, e);
}

static enum status read_format(const cJSON *format, struct api_structured *s, struct err *e)
{
    const char *type = NULL;
    if (!cJSON_IsObject(format))
        return err_set(e, STATUS_INVALID, "response_format", "'response_format' must be an object");
    enum status st = json_get_string(format, "type", &type, e);
    if (st != STATUS_OK || !type)
        return err_set(e, STATUS_INVALID, "response_format.type",
                       "'response_format.type' must be a string");
    if (strcmp(type, "text") == 0)
        return STATUS_OK;
    if (strcmp(type, "json_schema") == 0)
        return read_json_schema(format, s, e);
    if (strcmp(type, "json_object") != 0)
        return err_set(e, STATUS_INVALID, "response_format.type",
                       "'response_format.type' must be text, json_object or json_schema");
    const cJSON *schema = json_member(format, "schema"); /* as llama-server has it */
    return schema ? read_schema(schema, "response_format.schema", s, e)
                  : ask_for(s, ENGINE_GRAMMAR_JSON_OBJECT, "response_format", NULL, e);
}

/* ---- structured_outputs ---- */

/* An object, or its text. */
static enum status read_json(const cJSON *v, struct api_structured *s, struct err *e)
{
    static const char field[] = "structured_outputs.json";
    if (cJSON_IsString(v))
        return ask_for(s, ENGINE_GRAMMAR_JSON_SCHEMA, field, mem_strdup(v->valuestring), e);
    return read_schema(v, field, s, e);
}

static enum status read_text(const cJSON *v, enum engine_grammar_kind kind, const char *field,
                             struct api_structured *s, struct err *e)
{
    if (!cJSON_IsString(v))
        return err_set(e, STATUS_INVALID, field, "'%s' must be a string", field);
    return ask_for(s, kind, field, mem_strdup(v->valuestring), e);
}

static enum status read_choice(const cJSON *v, struct api_structured *s, struct err *e)
{
    static const char field[] = "structured_outputs.choice";
    bool strings = cJSON_IsArray(v) && v->child;
    for (const cJSON *c = strings ? v->child : NULL; c; c = c->next)
        strings = strings && cJSON_IsString(c);
    if (!strings)
        return err_set(e, STATUS_INVALID, field, "'%s' must be a list of strings", field);
    return ask_for(s, ENGINE_GRAMMAR_CHOICE, field, json_text_of(v), e);
}

static enum status read_structured(const cJSON *in, struct api_structured *s, struct err *e)
{
    if (!cJSON_IsObject(in))
        return err_set(e, STATUS_INVALID, "structured_outputs",
                       "'structured_outputs' must be an object");
    const cJSON *json = json_member(in, "json"), *choice = json_member(in, "choice");
    const cJSON *regex = json_member(in, "regex"), *grammar = json_member(in, "grammar");
    bool object = false;
    enum status st = json_get_bool(in, "json_object", &object, e);
    if (st != STATUS_OK)
        snprintf(e->param, sizeof e->param, "structured_outputs.json_object");
    else if ((st = json_get_bool(in, "disable_any_whitespace", &s->ask.compact, e)) != STATUS_OK)
        snprintf(e->param, sizeof e->param, "structured_outputs.disable_any_whitespace");
    if (st == STATUS_OK && json_member(in, "structural_tag"))
        st = err_set(e, STATUS_UNSUPPORTED, "structured_outputs.structural_tag",
                     "'structured_outputs.structural_tag' is not supported");
    if (st == STATUS_OK && json)
        st = read_json(json, s, e);
    if (st == STATUS_OK && regex)
        st = read_text(regex, ENGINE_GRAMMAR_REGEX, "structured_outputs.regex", s, e);
    if (st == STATUS_OK && choice)
        st = read_choice(choice, s, e);
    if (st == STATUS_OK && grammar)
        st = read_text(grammar, ENGINE_GRAMMAR_GBNF, "structured_outputs.grammar", s, e);
    if (st == STATUS_OK && object)
        st = ask_for(s, ENGINE_GRAMMAR_JSON_OBJECT, "structured_outputs.json_object", NULL, e);
    return st;
}

enum status api_structured_read(const cJSON *root, struct api_structured *out, struct err *e)
{
    const cJSON *format = json_member(root, "response_format");
    const cJSON *structured = json_member(root, "structured_outputs");
    enum status st = format ? read_format(format, out, e) : STATUS_OK;
    if (st == STATUS_OK && structured)
        st = read_structured(structured, out, e);
    return st;
}

enum status api_structured_compile(const struct api_structured *s, struct engine *engine,
                                   struct grammar **out, struct err *e)
{
    *out = NULL;
    if (!s->asked)
        return STATUS_OK;
    enum status st = engine_grammar_compile(engine, &s->ask, out, e);
    if (st != STATUS_OK && e->param[0] == '\0')
        snprintf(e->param, sizeof e->param, "%s", s->field);
    return st;
}

void api_structured_deinit(struct api_structured *s)
{
    mem_free(s->text);
    *s = (struct api_structured){0};
}
