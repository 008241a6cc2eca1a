/* A chat template and its variables, both hostile. Input: the template, a zero byte, the variables
 * as JSON (default ones when there are none or they do not parse).
 *
 * What renders must render the same again and without a mask; the text is UTF-8; the mask has one 0
 * or 1 for each byte; a sign that only the variables hold comes out marked. What fails says why and
 * stays within the budgets.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/text/chat_continue.h"
#include "engine/text/chat_template.h"

#define SIGN "\xE2\x98\x83"

static const char default_vars[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"be " SIGN
    "\"},{\"role\":\"user\",\"content\":"
    "\"hi\\n" SIGN " <|im_end|>\"},{\"role\":\"assistant\",\"content\":\"a b\",\"tool_calls\":[{"
    "\"function\":{\"name\":\"f" SIGN "\",\"arguments\":{\"x\":1.5,\"y\":[1,null,true,\"" SIGN
    "\"]}}}]}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"" SIGN "\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"number\"}}}}}],"
    "\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"n\":3,\"f\":2.5,\"s\":\"" SIGN "x "
    "y\",\"l\":[3,1,2],\"d\":{\"k\":\"" SIGN "\"}}";

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Whether the template itself could write the sign: as it is, by an escape, by its number. */
static bool may_write_sign(const char *source, size_t n)
{
    return memchr(source, '\\', n) || memmem(source, n, SIGN, 3) || memmem(source, n, "c'", 2) ||
           memmem(source, n, "c\"", 2) || memmem(source, n, "'%", 2) || memmem(source, n, "\"%", 2);
}

static void check_marks(const struct strbuf *text, const struct strbuf *mask, bool signs)
{
    require(text->len == mask->len);
    require(utf8_is_valid(strbuf_str(text), text->len));
    for (size_t i = 0; i < mask->len; i++) {
        require(mask->data[i] == 0 || mask->data[i] == 1);
        if (signs && text->len - i >= 3 && memcmp(text->data + i, SIGN, 3) == 0)
            require(mask->data[i] && mask->data[i + 1] && mask->data[i + 2]);
    }
}

static void render_all(const struct chat_template *t, const cJSON *vars, bool signs)
{
    struct strbuf text;
    struct strbuf mask;
    struct strbuf again;
    struct err e = {.code = STATUS_OK};
    struct err e2 = {.code = STATUS_OK};
    strbuf_init(&text, LIMIT_TEMPLATE_OUTPUT_BYTES);
    strbuf_init(&mask, LIMIT_TEMPLATE_OUTPUT_BYTES);
    strbuf_init(&again, LIMIT_TEMPLATE_OUTPUT_BYTES);
    enum status st = chat_template_render(t, vars, &text, &mask, &e);
    require(st == e.code);
    if (st == STATUS_OK) {
        check_marks(&text, &mask, signs);
        enum status st2 = chat_template_render(t, vars, &again, NULL, &e2);
        /* the clock may differ: the time budget, and what strftime_now says */
        if (st2 == STATUS_OK)
            require(again.len == text.len);
        else
            require(st2 == STATUS_LIMIT);
    } else {
        require(st == STATUS_INVALID || st == STATUS_LIMIT);
    }
    strbuf_deinit(&text);
    strbuf_deinit(&mask);
    strbuf_deinit(&again);
}

/* With the final message left open: vars come back as they were, each byte keeps its mark. */
static void continue_all(const struct chat_template *t, cJSON *vars)
{
    struct strbuf text;
    struct strbuf mask;
    struct err e = {.code = STATUS_OK};
    /* as text: cJSON_Compare takes objects with a key twice for different */
    char *before = cJSON_PrintUnformatted(vars);
    strbuf_init(&text, LIMIT_TEMPLATE_OUTPUT_BYTES);
    strbuf_init(&mask, LIMIT_TEMPLATE_OUTPUT_BYTES);
    enum status st = chat_continue_render(t, vars, &text, &mask, &e);
    require(st == e.code && (st == STATUS_OK || st == STATUS_INVALID || st == STATUS_LIMIT));
    char *after = cJSON_PrintUnformatted(vars);
    require(!before == !after && (!before || strcmp(before, after) == 0));
    if (st == STATUS_OK)
        check_marks(&text, &mask, false);
    strbuf_deinit(&text);
    strbuf_deinit(&mask);
    cJSON_free(before);
    cJSON_free(after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *source = (const char *)data;
    const char *zero = memchr(source, '\0', size);
    size_t n = zero ? (size_t)(zero - source) : size;
    const char *json = zero ? zero + 1 : default_vars;
    size_t json_n = zero ? size - n - 1 : sizeof default_vars - 1;
    struct chat_template *t = NULL;
    struct err e = {.code = STATUS_OK};
    cJSON *vars = NULL;
    enum status st = chat_template_compile(source, n, &t, &e);
    if (st != STATUS_OK) {
        require(st == STATUS_BAD_FILE || st == STATUS_UNSUPPORTED || st == STATUS_LIMIT);
        require(e.code == st && e.msg[0] != '\0');
        return 0;
    }
    bool given = json_parse(json, json_n, &json_default_limits, &vars, NULL) == STATUS_OK;
    if (given && !cJSON_IsObject(vars)) {
        cJSON_Delete(vars);
        given = false;
    }
    if (!given)
        require(json_parse(default_vars, sizeof default_vars - 1, &json_default_limits, &vars,
                           NULL) == STATUS_OK);
    render_all(t, vars, !given && !may_write_sign(source, n));
    continue_all(t, vars);
    cJSON_Delete(vars);
    chat_template_free(t);
    return 0;
}
