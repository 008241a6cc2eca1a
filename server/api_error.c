#include "server/api_error.h"

#include <string.h>

#define BAD    "invalid_request_error"
#define SERVER "server_error"

static const struct api_error_kind by_status[STATUS_COUNT] = {
    [STATUS_OK] = {500, SERVER, "internal_error", true, 0},
    [STATUS_INVALID] = {400, BAD, "invalid_value", true, 0},
    [STATUS_UNSUPPORTED] = {400, BAD, "unsupported_value", true, 0},
    [STATUS_CONTEXT_LENGTH] = {400, BAD, "context_length_exceeded", true, 0},
    [STATUS_MODEL_NOT_FOUND] = {404, BAD, "model_not_found", true, 0},
    [STATUS_ADAPTER_NOT_FOUND] = {404, BAD, "adapter_not_found", true, 0},
    [STATUS_NOT_FOUND] = {404, BAD, "not_found", true, 0},
    [STATUS_CONFLICT] = {409, BAD, "conflict", true, 0},
    [STATUS_FORBIDDEN] = {403, "permission_error", "forbidden", true, 0},
    [STATUS_BAD_FILE] = {400, BAD, "bad_file", true, 0},
    [STATUS_IO] = {500, SERVER, "io_error", false, 0},
    [STATUS_LIMIT] = {400, BAD, "limit_exceeded", true, 0},
    [STATUS_BUSY] = {429, "rate_limit_error", "queue_full", false, 1},
    [STATUS_DRAINING] = {503, SERVER, "draining", false, 1},
    [STATUS_CANCELLED] = {499, BAD, "cancelled", true, 0},
    [STATUS_NO_MEMORY] = {503, SERVER, "out_of_memory", false, 1},
    [STATUS_NO_ROOM] = {507, SERVER, "no_room", true, 0},
    [STATUS_DEVICE_LOST] = {503, SERVER, "device_lost", false, 5},
    [STATUS_INTERNAL] = {500, SERVER, "internal_error", true, 0},
};

static const struct api_error_kind by_http[] = {
    {400, BAD, "bad_request", true, 0},
    {401, "authentication_error", "invalid_api_key", true, 0},
    {403, "permission_error", "forbidden", true, 0},
    {404, BAD, "not_found", true, 0},
    {405, BAD, "method_not_allowed", true, 0},
    {413, BAD, "request_too_large", true, 0},
    {415, BAD, "unsupported_media_type", true, 0},
    {417, BAD, "expectation_failed", true, 0},
    {431, BAD, "headers_too_large", true, 0},
    {501, BAD, "not_implemented", true, 0},
    {505, BAD, "http_version_not_supported", true, 0},
    {503, SERVER, "unavailable", false, 1},
    {500, SERVER, "internal_error", true, 0},
};

const struct api_error_kind *api_error_of(enum status s)
{
    return (unsigned)s < STATUS_COUNT ? &by_status[s] : &by_status[STATUS_INTERNAL];
}

const struct api_error_kind *api_error_of_http(int http)
{
    size_t last = sizeof by_http / sizeof by_http[0] - 1;
    for (size_t i = 0; i < last; i++) {
        if (by_http[i].http == http)
            return &by_http[i];
    }
    return &by_http[last];
}

void api_error_write(struct strbuf *b, const struct api_error_kind *k, const struct err *e)
{
    strbuf_puts(b, "{\"error\":{\"message\":");
    strbuf_json_string(b, e->msg, strlen(e->msg));
    strbuf_puts(b, ",\"type\":");
    strbuf_json_string(b, k->type, strlen(k->type));
    strbuf_puts(b, ",\"param\":");
    if (e->param[0])
        strbuf_json_string(b, e->param, strlen(e->param));
    else
        strbuf_puts(b, "null");
    strbuf_puts(b, ",\"code\":");
    strbuf_json_string(b, k->code, strlen(k->code));
    strbuf_puts(b, "}}");
}

int api_error_message_http(const struct api_error_kind *k)
{
    return k->http == 503 ? 529 : k->http;
}

void api_error_write_message(struct strbuf *b, const struct api_error_kind *k, const struct err *e,
                             const char *request_id)
{
    static const struct {
        int http;
        const char *type;
    } types[] = {
        {401, "authentication_error"}, {403, "permission_error"}, {404, "not_found_error"},
        {413, "request_too_large"},    {429, "rate_limit_error"}, {529, "overloaded_error"},
    };
    int http = api_error_message_http(k);
    const char *type = http < 500 ? BAD : "api_error";
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        type = types[i].http == http ? types[i].type : type;
    strbuf_printf(b, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", type);
    struct strbuf text; /* there is no place for the field but the sentence */
    strbuf_init(&text, ERR_PARAM_MAX + ERR_MSG_MAX);
    if (e->param[0] && !strstr(e->msg, e->param))
        strbuf_printf(&text, "%s: ", e->param);
    strbuf_puts(&text, e->msg);
    b->failed |= text.failed;
    strbuf_json_string(b, strbuf_str(&text), text.len);
    strbuf_deinit(&text);
    strbuf_puts(b, "},\"request_id\":");
    strbuf_json_string(b, request_id, strlen(request_id));
    strbuf_putc(b, '}');
}
