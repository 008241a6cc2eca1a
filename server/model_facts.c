#include "server/model_facts.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/engine_inspect.h"

#define REPORT_BYTES_MAX (1u << 20)

static void copy(char *out, size_t size, const char *text)
{
    if (text)
        snprintf(out, size, "%s", text);
}

static const char *string_of(const cJSON *obj, const char *key)
{
    const cJSON *v = cJSON_IsObject(obj) ? json_member(obj, key) : NULL;
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* NULL when it is not there or no JSON object; the caller deletes it. */
static cJSON *read_object(const struct file_root *root, const char *name)
{
    char *text;
    size_t n;
    cJSON *json = NULL;
    if (file_read(root, name, LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL, NULL) != STATUS_OK)
        return NULL;
    enum status st = json_parse(text, n, &json_default_limits, &json, NULL);
    mem_free(text);
    if (st == STATUS_OK && cJSON_IsObject(json))
        return json;
    if (st == STATUS_OK)
        cJSON_Delete(json);
    return NULL;
}

/* "bf16", or "bf16+f32" */
static void join_dtypes(const cJSON *report, char *out, size_t size)
{
    const cJSON *list = json_member(report, "dtypes");
    const cJSON *item;
    size_t used = 0;
    if (!cJSON_IsArray(list))
        return;
    cJSON_ArrayForEach(item, list)
    {
        if (cJSON_IsString(item) && used + strlen(item->valuestring) + 2 <= size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? "+" : "",
                                     item->valuestring);
    }
}

static void take_report(const char *text, size_t n, struct model_facts *out)
{
    cJSON *report = NULL;
    if (json_parse(text, n, &json_default_limits, &report, NULL) != STATUS_OK)
        return;
    const cJSON *ok = cJSON_IsObject(report) ? json_member(report, "ok") : NULL;
    const cJSON *parameters = ok ? json_member(report, "parameters") : NULL;
    out->servable = cJSON_IsTrue(ok);
    if (out->servable) {
        copy(out->what, sizeof out->what, string_of(report, "architecture"));
        join_dtypes(report, out->weights, sizeof out->weights);
        if (parameters)
            json_int64(parameters, &out->parameters);
    } else if (ok) {
        copy(out->why, sizeof out->why, string_of(json_member(report, "error"), "message"));
    }
    cJSON_Delete(report);
}

/* What config.json says of a model that is not served. */
static void take_config(const struct file_root *root, struct model_facts *out)
{
    cJSON *config = read_object(root, "config.json");
    const cJSON *list = config ? json_member(config, "architectures") : NULL;
    const cJSON *first = cJSON_IsArray(list) ? cJSON_GetArrayItem(list, 0) : NULL;
    const char *type = string_of(config, "model_type");
    const cJSON *quant = config ? json_member(config, "quantization_config") : NULL;
    const cJSON *bits = cJSON_IsObject(quant) ? json_member(quant, "bits") : NULL;
    const char *dtype = string_of(config, "torch_dtype");
    int64_t width = 0;
    copy(out->what, sizeof out->what,
         type                    ? type
         : cJSON_IsString(first) ? first->valuestring
                                 : "");
    copy(out->weights, sizeof out->weights, dtype ? dtype : string_of(config, "dtype"));
    if (string_of(quant, "quant_method"))
        copy(out->weights, sizeof out->weights, string_of(quant, "quant_method"));
    size_t used = strlen(out->weights);
    if (bits && json_int64(bits, &width) && width > 0 && width <= 32)
        snprintf(out->weights + used, sizeof out->weights - used, " %d-bit", (int)width);
    cJSON_Delete(config);
}

static void read_model(const char *dir, const struct file_root *root, struct model_facts *out)
{
    struct strbuf report;
    struct err why = {0};
    strbuf_init(&report, REPORT_BYTES_MAX);
    if (engine_inspect_model(dir, ENGINE_INSPECT_JSON, &report, &why) != STATUS_OK)
        copy(out->why, sizeof out->why, why.msg);
    if (!report.failed && report.len > 0)
        take_report(strbuf_str(&report), report.len, out);
    strbuf_deinit(&report);
    if (!out->servable)
        take_config(root, out);
}

static void read_adapter(const struct file_root *root, struct model_facts *out)
{
    cJSON *config = read_object(root, "adapter_config.json");
    const cJSON *rank = config ? json_member(config, "r") : NULL;
    out->adapter = true;
    copy(out->what, sizeof out->what, string_of(config, "peft_type"));
    copy(out->base, sizeof out->base, string_of(config, "base_model_name_or_path"));
    if (rank && (!json_int64(rank, &out->rank) || out->rank < 0))
        out->rank = 0;
    if (!config)
        copy(out->why, sizeof out->why, "adapter_config.json is not readable JSON");
    else if (!file_exists(root, "adapter_model.safetensors"))
        copy(out->why, sizeof out->why, "adapter_model.safetensors is not there");
    else if (strcmp(out->what, "") != 0 && strcmp(out->what, "LORA") != 0)
        snprintf(out->why, sizeof out->why, "PEFT's %s is not LoRA", out->what);
    out->servable = !*out->why;
    cJSON_Delete(config);
}

void model_facts_read(const char *dir, struct model_facts *out)
{
    struct file_root root;
    struct err why = {0};
    *out = (struct model_facts){0};
    if (file_root_open(dir, false, &root, &why) != STATUS_OK) {
        copy(out->why, sizeof out->why, why.msg);
        return;
    }
    if (file_exists(&root, "adapter_config.json"))
        read_adapter(&root, out);
    else
        read_model(dir, &root, out);
    file_root_close(&root);
}
