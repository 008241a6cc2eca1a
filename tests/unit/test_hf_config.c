/* config.json and generation_config.json: what a field does, and which are refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "engine/model/hf_config.h"

#define COMMON                                                                                     \
    "\"hidden_size\":64,\"num_hidden_layers\":2,\"intermediate_size\":128,\"vocab_size\":512,"     \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":512"

static const char *const bases[ARCH_COUNT] = {
    [ARCH_LLAMA] = "{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"]," COMMON "}",
    [ARCH_MISTRAL] = "{\"model_type\":\"mistral\",\"sliding_window\":null," COMMON "}",
    [ARCH_QWEN2] = "{\"model_type\":\"qwen2\"," COMMON "}",
    [ARCH_QWEN3] = "{\"model_type\":\"qwen3\"," COMMON "}",
};

/* The base with the members of `patch` in the place of its own; the string "-" removes one. */
static char *patched(const char *base, const char *patch)
{
    cJSON *b = cJSON_Parse(base);
    cJSON *p = cJSON_Parse(patch);
    if (!b || !p)
        fail_msg("bad test: %s + %s", base, patch);
    while (p->child) {
        cJSON *m = cJSON_DetachItemViaPointer(p, p->child);
        cJSON_DeleteItemFromObjectCaseSensitive(b, m->string);
        if (cJSON_IsString(m) && strcmp(m->valuestring, "-") == 0)
            cJSON_Delete(m);
        else
            cJSON_AddItemToObject(b, m->string, m);
    }
    char *text = cJSON_PrintUnformatted(b);
    cJSON_Delete(b);
    cJSON_Delete(p);
    return text;
}

static void summary(const struct hf_config *c, char *out, size_t cap)
{
    const struct model_shape *s = &c->shape;
    const struct rope_params *r = &s->rope;
    size_t at = (size_t)snprintf(
        out, cap,
        "%s L%d M%d H%d KH%d D%d F%d V%d ctx%d win%d eps%g tied%d qk%d "
        "rope%d theta%g factor%g low%g high%g orig%d nested%d bias",
        hf_config_arch_name(s->arch), s->layers, s->hidden, s->heads, s->kv_heads, s->head_dim,
        s->ffn, s->vocab, s->ctx_max, s->window, s->rms_eps, s->tied_head, s->qk_norm, r->kind,
        r->theta, r->factor, r->low_freq_factor, r->high_freq_factor, r->original_ctx, c->nested);
    for (int i = 0; i < LINEAR_COUNT; i++)
        at += (size_t)snprintf(out + at, cap - at, "%d", c->bias[i]);
    for (int i = 0; i < c->eos_count; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%d", i ? "," : " eos", c->eos[i]);
}

struct config_case {
    enum model_arch arch;
    const char *patch;
    enum status status;
    const char *want; /* in the summary; refused: the param */
};

static const struct config_case cases[] = {
    /* geometry and defaults */
    {ARCH_LLAMA, "{}", STATUS_OK,
     "llama L2 M64 H4 KH2 D16 F128 V512 ctx512 win0 eps1e-06 tied0 qk0 rope0 theta10000 factor1 "
     "low0 high0 orig0 nested0 bias0000000"},
    {ARCH_LLAMA, "{\"num_key_value_heads\":\"-\"}", STATUS_OK, "KH4 "},
    {ARCH_LLAMA, "{\"num_key_value_heads\":null}", STATUS_OK, "KH4 "},
    {ARCH_MISTRAL, "{\"num_key_value_heads\":\"-\",\"num_attention_heads\":8}", STATUS_OK, "KH8 "},
    {ARCH_MISTRAL, "{\"num_key_value_heads\":null}", STATUS_OK, "KH4 "},
    {ARCH_LLAMA, "{\"head_dim\":32}", STATUS_OK, "D32 "},
    {ARCH_LLAMA, "{\"head_dim\":null}", STATUS_OK, "D16 "},
    {ARCH_QWEN3, "{}", STATUS_OK, "D128 "},
    {ARCH_QWEN3, "{\"head_dim\":32}", STATUS_OK, "D32 "},
    {ARCH_QWEN2, "{\"head_dim\":32}", STATUS_OK, "D32 "},
    {ARCH_LLAMA, "{\"max_position_embeddings\":\"-\"}", STATUS_OK, "ctx2048 "},
    {ARCH_MISTRAL, "{\"max_position_embeddings\":\"-\"}", STATUS_OK, "ctx131072 "},
    {ARCH_QWEN3, "{\"rms_norm_eps\":1e-5}", STATUS_OK, "eps1e-05 tied0 qk1 "},
    {ARCH_LLAMA, "{\"tie_word_embeddings\":true}", STATUS_OK, "tied1 "},
    {ARCH_LLAMA, "{\"torch_dtype\":\"float8\",\"dtype\":7,\"use_cache\":true}", STATUS_OK, "llama"},
    {ARCH_LLAMA, "{\"hidden_size\":\"-\"}", STATUS_BAD_FILE, "hidden_size"},
    {ARCH_LLAMA, "{\"num_hidden_layers\":\"-\"}", STATUS_BAD_FILE, "num_hidden_layers"},
    {ARCH_LLAMA, "{\"num_attention_heads\":\"-\"}", STATUS_BAD_FILE, "num_attention_heads"},
    {ARCH_LLAMA, "{\"intermediate_size\":\"-\"}", STATUS_BAD_FILE, "intermediate_size"},
    {ARCH_LLAMA, "{\"vocab_size\":\"-\"}", STATUS_BAD_FILE, "vocab_size"},
    {ARCH_LLAMA, "{\"hidden_size\":0}", STATUS_BAD_FILE, "hidden_size"},
    {ARCH_LLAMA, "{\"hidden_size\":1048576}", STATUS_BAD_FILE, "head_dim"},
    {ARCH_LLAMA, "{\"hidden_size\":1048576,\"head_dim\":64}", STATUS_OK, "M1048576 "},
    {ARCH_LLAMA, "{\"hidden_size\":1048577}", STATUS_BAD_FILE, "hidden_size"},
    {ARCH_LLAMA, "{\"hidden_size\":64.5}", STATUS_BAD_FILE, "hidden_size"},
    {ARCH_LLAMA, "{\"hidden_size\":\"64\"}", STATUS_BAD_FILE, "hidden_size"},
    {ARCH_LLAMA, "{\"num_hidden_layers\":1024}", STATUS_OK, "L1024 "},
    {ARCH_LLAMA, "{\"num_hidden_layers\":1025}", STATUS_BAD_FILE, "num_hidden_layers"},
    {ARCH_LLAMA, "{\"hidden_size\":66}", STATUS_BAD_FILE, "num_attention_heads"},
    {ARCH_LLAMA, "{\"hidden_size\":66,\"head_dim\":16}", STATUS_OK, "M66 "},
    {ARCH_LLAMA, "{\"hidden_size\":60}", STATUS_BAD_FILE, "head_dim"},
    {ARCH_LLAMA, "{\"head_dim\":15}", STATUS_BAD_FILE, "head_dim"},
    {ARCH_LLAMA, "{\"head_dim\":1024}", STATUS_OK, "D1024 "},
    {ARCH_LLAMA, "{\"head_dim\":1026}", STATUS_BAD_FILE, "head_dim"},
    {ARCH_LLAMA, "{\"num_attention_heads\":2048,\"head_dim\":1024}", STATUS_BAD_FILE, "head_dim"},
    {ARCH_LLAMA, "{\"num_key_value_heads\":3}", STATUS_BAD_FILE, "num_key_value_heads"},
    {ARCH_LLAMA, "{\"num_key_value_heads\":8}", STATUS_BAD_FILE, "num_key_value_heads"},
    {ARCH_LLAMA, "{\"rms_norm_eps\":-1}", STATUS_BAD_FILE, "rms_norm_eps"},
    {ARCH_LLAMA, "{\"tie_word_embeddings\":1}", STATUS_BAD_FILE, "tie_word_embeddings"},
    /* which architecture */
    {ARCH_LLAMA, "{\"model_type\":\"-\"}", STATUS_BAD_FILE, "model_type"},
    {ARCH_LLAMA, "{\"model_type\":\"mixtral\"}", STATUS_UNSUPPORTED, "model_type"},
    {ARCH_LLAMA, "{\"model_type\":\"qwen3_moe\"}", STATUS_UNSUPPORTED, "model_type"},
    {ARCH_LLAMA, "{\"model_type\":\"Llama\"}", STATUS_UNSUPPORTED, "model_type"},
    {ARCH_LLAMA, "{\"model_type\":7}", STATUS_BAD_FILE, "model_type"},
    {ARCH_LLAMA, "{\"architectures\":\"-\"}", STATUS_OK, "llama"},
    {ARCH_LLAMA, "{\"architectures\":[\"LlamaForSequenceClassification\"]}", STATUS_UNSUPPORTED,
     "architectures"},
    {ARCH_LLAMA, "{\"architectures\":[\"X\",\"LlamaForCausalLM\"]}", STATUS_OK, "llama"},
    {ARCH_LLAMA, "{\"architectures\":[]}", STATUS_BAD_FILE, "architectures"},
    {ARCH_LLAMA, "{\"quantization_config\":{\"quant_method\":\"gptq\"}}", STATUS_UNSUPPORTED,
     "quantization_config"},
    {ARCH_LLAMA, "{\"quantization_config\":null}", STATUS_OK, "llama"},
    {ARCH_LLAMA, "{\"compression_config\":{}}", STATUS_UNSUPPORTED, "compression_config"},
    {ARCH_LLAMA, "{\"hidden_act\":\"gelu\"}", STATUS_UNSUPPORTED, "hidden_act"},
    {ARCH_LLAMA, "{\"hidden_act\":\"silu\"}", STATUS_OK, "llama"},
    {ARCH_LLAMA, "{\"hidden_act\":\"swish\"}", STATUS_OK, "llama"},
    /* biases */
    {ARCH_LLAMA, "{\"attention_bias\":true}", STATUS_OK, "bias1111000"},
    {ARCH_LLAMA, "{\"mlp_bias\":true}", STATUS_OK, "bias0000111"},
    {ARCH_LLAMA, "{\"mlp_bias\":\"yes\"}", STATUS_BAD_FILE, "mlp_bias"},
    {ARCH_MISTRAL, "{\"attention_bias\":true}", STATUS_OK, "bias0000000"},
    {ARCH_QWEN2, "{}", STATUS_OK, "bias1110000"},
    {ARCH_QWEN3, "{}", STATUS_OK, "bias0000000"},
    {ARCH_QWEN3, "{\"attention_bias\":true}", STATUS_OK, "bias1111000"},
    /* sliding window */
    {ARCH_LLAMA, "{\"sliding_window\":16}", STATUS_OK, "win0 "},
    {ARCH_MISTRAL, "{\"sliding_window\":16}", STATUS_OK, "win16 "},
    {ARCH_MISTRAL, "{\"sliding_window\":511}", STATUS_OK, "win511 "},
    {ARCH_MISTRAL, "{\"sliding_window\":512}", STATUS_OK, "win0 "},
    {ARCH_MISTRAL, "{\"sliding_window\":\"-\",\"max_position_embeddings\":8192}", STATUS_OK,
     "win4096 "},
    {ARCH_MISTRAL, "{\"sliding_window\":0}", STATUS_BAD_FILE, "sliding_window"},
    {ARCH_QWEN2, "{\"sliding_window\":16}", STATUS_OK, "win0 "},
    {ARCH_QWEN2, "{\"sliding_window\":16,\"use_sliding_window\":true}", STATUS_OK, "win0 "},
    {ARCH_QWEN2, "{\"sliding_window\":16,\"use_sliding_window\":true,\"max_window_layers\":0}",
     STATUS_OK, "win16 "},
    {ARCH_QWEN2, "{\"sliding_window\":16,\"use_sliding_window\":true,\"max_window_layers\":1}",
     STATUS_UNSUPPORTED, "max_window_layers"},
    {ARCH_QWEN2, "{\"sliding_window\":16,\"use_sliding_window\":true,\"max_window_layers\":2}",
     STATUS_OK, "win0 "},
    {ARCH_QWEN3, "{\"sliding_window\":null,\"use_sliding_window\":true,\"max_window_layers\":0}",
     STATUS_OK, "win0 "},
    {ARCH_QWEN3,
     "{\"sliding_window\":16,\"use_sliding_window\":true,\"layer_types\":"
     "[\"full_attention\",\"full_attention\"]}",
     STATUS_OK, "win0 "},
    {ARCH_QWEN3,
     "{\"sliding_window\":16,\"use_sliding_window\":true,\"layer_types\":"
     "[\"sliding_attention\",\"full_attention\"]}",
     STATUS_UNSUPPORTED, "layer_types"},
    {ARCH_QWEN3,
     "{\"sliding_window\":16,\"use_sliding_window\":true,\"layer_types\":"
     "[\"sliding_attention\",\"sliding_attention\"]}",
     STATUS_OK, "win16 "},
    {ARCH_QWEN3,
     "{\"sliding_window\":16,\"use_sliding_window\":true,\"layer_types\":[\"full_attention\"]}",
     STATUS_BAD_FILE, "layer_types"},
    {ARCH_QWEN3,
     "{\"sliding_window\":16,\"use_sliding_window\":true,\"layer_types\":"
     "[\"chunked_attention\",\"full_attention\"]}",
     STATUS_UNSUPPORTED, "layer_types"},
    /* rope */
    {ARCH_LLAMA, "{\"rope_theta\":500000.0}", STATUS_OK, "rope0 theta500000 "},
    {ARCH_LLAMA, "{\"rope_theta\":0}", STATUS_BAD_FILE, "rope_theta"},
    {ARCH_LLAMA, "{\"rope_theta\":5.0,\"rope_parameters\":{\"rope_theta\":7.0}}", STATUS_OK,
     "rope0 theta7 "},
    {ARCH_LLAMA, "{\"rope_parameters\":{\"rope_theta\":7.0,\"rope_type\":\"default\"}}", STATUS_OK,
     "rope0 theta7 "},
    {ARCH_LLAMA, "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}", STATUS_OK,
     "rope1 theta10000 factor4 "},
    {ARCH_LLAMA, "{\"rope_scaling\":{\"rope_type\":\"linear\",\"type\":\"yarn\",\"factor\":4}}",
     STATUS_OK, "rope1 theta10000 factor4 "},
    {ARCH_LLAMA, "{\"rope_scaling\":{\"type\":\"linear\"}}", STATUS_BAD_FILE, "factor"},
    {ARCH_LLAMA, "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}}", STATUS_BAD_FILE,
     "factor"},
    {ARCH_LLAMA,
     "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
     "\"high_freq_factor\":4,\"original_max_position_embeddings\":64}}",
     STATUS_OK, "rope2 theta10000 factor8 low1 high4 orig64 "},
    {ARCH_LLAMA,
     "{\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
     "\"high_freq_factor\":4}}",
     STATUS_OK, "orig512 "},
    {ARCH_LLAMA,
     "{\"original_max_position_embeddings\":32,\"rope_parameters\":{\"rope_type\":\"llama3\","
     "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
     "\"original_max_position_embeddings\":64}}",
     STATUS_OK, "orig32 "},
    {ARCH_LLAMA,
     "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"high_freq_factor\":4}}",
     STATUS_BAD_FILE, "low_freq_factor"},
    {ARCH_LLAMA,
     "{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
     "\"high_freq_factor\":4}}",
     STATUS_BAD_FILE, "high_freq_factor"},
    {ARCH_LLAMA, "{\"rope_scaling\":null,\"rope_parameters\":{}}", STATUS_OK, "rope0 theta10000 "},
    {ARCH_LLAMA, "{\"rope_scaling\":7}", STATUS_BAD_FILE, "rope_scaling"},
    {ARCH_LLAMA, "{\"rope_parameters\":7}", STATUS_BAD_FILE, "rope_scaling"},
    {ARCH_QWEN2, "{\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0}}", STATUS_UNSUPPORTED,
     "rope_type"},
    {ARCH_LLAMA, "{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4.0}}", STATUS_UNSUPPORTED,
     "rope_type"},
    {ARCH_LLAMA, "{\"rope_scaling\":{\"rope_type\":\"longrope\"}}", STATUS_UNSUPPORTED,
     "rope_type"},
    {ARCH_QWEN2, "{\"rope_scaling\":{\"mrope_section\":[1,2]}}", STATUS_UNSUPPORTED, "rope_type"},
    {ARCH_LLAMA, "{\"partial_rotary_factor\":0.5}", STATUS_UNSUPPORTED, "partial_rotary_factor"},
    {ARCH_LLAMA, "{\"partial_rotary_factor\":1.0}", STATUS_OK, "llama"},
    {ARCH_LLAMA, "{\"rope_parameters\":{\"partial_rotary_factor\":0.5}}", STATUS_UNSUPPORTED,
     "partial_rotary_factor"},
    {ARCH_QWEN3,
     "{\"rope_parameters\":{\"full_attention\":{\"rope_theta\":9.0},\"sliding_attention\":"
     "{\"rope_theta\":8.0}}}",
     STATUS_OK, "theta9 "},
    {ARCH_MISTRAL,
     "{\"sliding_window\":16,\"rope_parameters\":{\"full_attention\":{\"rope_theta\":9.0},"
     "\"sliding_attention\":{\"rope_theta\":8.0}}}",
     STATUS_OK, "theta8 "},
    /* eos */
    {ARCH_LLAMA, "{\"eos_token_id\":7}", STATUS_OK, " eos7"},
    {ARCH_LLAMA, "{\"eos_token_id\":[7,9,7]}", STATUS_OK, " eos7,9"},
    {ARCH_LLAMA, "{\"eos_token_id\":null}", STATUS_OK, "bias0000000"},
    {ARCH_LLAMA, "{\"eos_token_id\":-1}", STATUS_BAD_FILE, "eos_token_id"},
    {ARCH_LLAMA, "{\"eos_token_id\":[\"a\"]}", STATUS_BAD_FILE, "eos_token_id"},
    {ARCH_LLAMA, "{\"eos_token_id\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}", STATUS_OK, "15,16"},
    {ARCH_LLAMA, "{\"eos_token_id\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", STATUS_BAD_FILE,
     "eos_token_id"},
};

static void test_hf_config_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct config_case *c = &cases[i];
        struct hf_config got;
        struct err e = {0};
        char text[512];
        char *json = patched(bases[c->arch], c->patch);
        enum status st = hf_config_parse(json, strlen(json), &got, &e);
        if (st != c->status)
            fail_msg("%s: %s, expected %s: %s", json, status_code(st), status_code(c->status),
                     e.msg);
        if (st != STATUS_OK) {
            if (strcmp(e.param, c->want) != 0 || !strstr(e.msg, "config.json: "))
                fail_msg("%s: [%s] \"%s\", expected [%s]", json, e.param, e.msg, c->want);
        } else {
            summary(&got, text, sizeof text);
            if (!strstr(text, c->want))
                fail_msg("%s: \"%s\" lacks \"%s\"", json, text, c->want);
        }
        cJSON_free(json);
    }
}

static void test_hf_config_nested_text(void **state)
{
    (void)state;
    static const struct config_case nested[] = {
        {0,
         "{\"model_type\":\"mistral3\",\"architectures\":[\"Mistral3ForConditionalGeneration\"],"
         "\"text_config\":{\"model_type\":\"mistral\",\"sliding_window\":null," COMMON "}}",
         STATUS_OK, "mistral L2 M64 H4 KH2 D16 F128 V512 ctx512 win0 eps1e-06 tied0"},
        {0,
         "{\"model_type\":\"llava\",\"eos_token_id\":3,\"tie_word_embeddings\":true,"
         "\"text_config\":{\"eos_token_id\":4," COMMON "}}",
         STATUS_OK, "tied1 qk0 rope0 theta10000 factor1 low0 high0 orig0 nested1 bias0000000 eos3"},
        {0, "{\"model_type\":\"llava\",\"text_config\":{\"model_type\":\"gemma\"," COMMON "}}",
         STATUS_UNSUPPORTED, "model_type"},
        {0,
         "{\"model_type\":\"mistral3\",\"quantization_config\":{},\"text_config\":"
         "{\"model_type\":\"mistral\"," COMMON "}}",
         STATUS_UNSUPPORTED, "quantization_config"},
        {0, "{\"model_type\":\"llava\"," COMMON "}", STATUS_UNSUPPORTED, "model_type"},
        {0, "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"llama\"}}",
         STATUS_UNSUPPORTED, "model_type"},
        {0, "[]", STATUS_BAD_FILE, ""},
        {0, "{\"model_type\":\"llama\",\"model_type\":\"llama\"}", STATUS_BAD_FILE, "model_type"},
        {0, "{\"model_type\":", STATUS_BAD_FILE, ""},
    };
    for (size_t i = 0; i < sizeof nested / sizeof nested[0]; i++) {
        struct hf_config got;
        struct err e = {0};
        char text[512] = "";
        enum status st = hf_config_parse(nested[i].patch, strlen(nested[i].patch), &got, &e);
        if (st == STATUS_OK)
            summary(&got, text, sizeof text);
        if (st != nested[i].status || (st == STATUS_OK ? !strstr(text, nested[i].want)
                                                       : strcmp(e.param, nested[i].want) != 0))
            fail_msg("%s: %s [%s] %s %s", nested[i].patch, status_code(st), e.param, e.msg, text);
    }
}

struct generation_case {
    const char *text;
    enum status status;
    const char *want;
};

static void test_hf_config_generation(void **state)
{
    (void)state;
    static const struct generation_case all[] = {
        {"{}", STATUS_OK, "t nan p nan m nan r nan k -1 eos 9"},
        {"{\"temperature\":0.6,\"top_p\":0.9,\"min_p\":0.05,\"repetition_penalty\":1.1,"
         "\"top_k\":20,\"eos_token_id\":[1,2],\"do_sample\":true,\"new_field\":{}}",
         STATUS_OK, "t 0.6 p 0.9 m 0.05 r 1.1 k 20 eos 1 2"},
        {"{\"temperature\":null,\"eos_token_id\":3}", STATUS_OK,
         "t nan p nan m nan r nan k -1 eos 3"},
        {"{\"eos_token_id\":[]}", STATUS_OK, "t nan p nan m nan r nan k -1 eos 9"},
        {"{\"temperature\":-1}", STATUS_BAD_FILE, "temperature"},
        {"{\"top_p\":1.5}", STATUS_BAD_FILE, "top_p"},
        {"{\"top_k\":1.5}", STATUS_BAD_FILE, "top_k"},
        {"{\"repetition_penalty\":0}", STATUS_BAD_FILE, "repetition_penalty"},
        {"{\"eos_token_id\":\"</s>\"}", STATUS_BAD_FILE, "eos_token_id"},
        {"7", STATUS_BAD_FILE, ""},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct model_defaults d = {0};
        int32_t eos[MODEL_EOS_MAX] = {9};
        int count = 1;
        struct err e = {0};
        char text[256];
        enum status st =
            hf_config_parse_generation(all[i].text, strlen(all[i].text), &d, eos, &count, &e);
        size_t at =
            (size_t)snprintf(text, sizeof text, "t %g p %g m %g r %g k %d eos", d.temperature,
                             d.top_p, d.min_p, d.repetition_penalty, d.top_k);
        for (int k = 0; k < count; k++)
            at += (size_t)snprintf(text + at, sizeof text - at, " %d", eos[k]);
        if (st != all[i].status || strcmp(st == STATUS_OK ? text : e.param, all[i].want) != 0)
            fail_msg("%s: %s [%s] %s", all[i].text, status_code(st), e.param, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hf_config_fields),
        cmocka_unit_test(test_hf_config_nested_text),
        cmocka_unit_test(test_hf_config_generation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
