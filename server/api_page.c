#include "server/api_page.h"

#include "server/api_error.h"
#include "server/page.h"
#include "server/server_state.h"

#define FILE_BYTES_MAX (1u << 20)

/* Nothing but our own files and our own API; no markup or script that is made of text. */
static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

static void answer(struct call *c, const struct page_file *f)
{
    if (!f) {
        struct err e;
        err_set(&e, STATUS_INVALID, NULL, "there is nothing at this path");
        server_answer_error(c, api_error_of_http(404), &e);
        return;
    }
    /* Asked for again at each visit, as the next version may have others; kept for "back". */
    http_set_header(c->x, "Cache-Control", "no-cache");
    http_set_header(c->x, "Content-Security-Policy", policy);
    http_add_header(c->x, "Cross-Origin-Opener-Policy", "same-origin");
    http_add_header(c->x, "Referrer-Policy", "no-referrer");
    struct strbuf b;
    strbuf_init(&b, FILE_BYTES_MAX);
    strbuf_append(&b, f->begin, (size_t)(f->end - f->begin));
    http_answer(c->x, 200, f->type, &b);
}

void api_page_index(struct call *c, const char *tail)
{
    (void)tail;
    answer(c, page_find(NULL));
}

void api_page_file(struct call *c, const char *tail)
{
    answer(c, page_find(tail));
}
