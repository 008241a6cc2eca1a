/* api_error: from a status to an HTTP answer in OpenAI's form. Pure. The one table of codes. */
#ifndef CHORUS_SERVER_API_ERROR_H
#define CHORUS_SERVER_API_ERROR_H

#include <stdbool.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"

struct api_error_kind {
    int http;
    const char *type;  /* OpenAI's error.type */
    const char *code;  /* error.code */
    bool no_retry;     /* x-should-retry: false */
    int retry_after_s; /* Retry-After, 0: none */
};

/* For what the engine and the parsers say. */
const struct api_error_kind *api_error_of(enum status s);
/* For what HTTP itself refuses (401, 403, 404, 405, 413, 415, 431 ...). Never NULL. */
const struct api_error_kind *api_error_of_http(int http);

/* Appends {"error":{"message","type","param","code"}}; `e` gives message and param. */
void api_error_write(struct strbuf *b, const struct api_error_kind *k, const struct err *e);

/* Anthropic's form: {"type":"error","error":{"type","message"},"request_id"}, and its code. */
void api_error_write_message(struct strbuf *b, const struct api_error_kind *k, const struct err *e,
                             const char *request_id);
int api_error_message_http(const struct api_error_kind *k);

#endif
