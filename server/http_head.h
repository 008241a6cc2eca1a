/* http_head: is this request head well-formed, and how long is its body? Pure.
 *
 * libmicrohttpd is lenient where two parsers in a row must agree (bare LF, NUL, folded lines, two
 * Hosts, Content-Length beside Transfer-Encoding ...). Here the parsed head is judged again, by the
 * strict reading of RFC 9112. What the parser swallowed shows in the sum: a head in which every
 * line ends in CRLF and every byte is accounted for has exactly the length that was read.
 */
#ifndef CHORUS_SERVER_HTTP_HEAD_H
#define CHORUS_SERVER_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

#define HTTP_HEAD_FIELDS 100 /* real clients send fewer than 30 */

struct http_field {
    const char *name;
    const char *value;
    ptrdiff_t gap; /* bytes between the colon and the value */
};

struct http_head {
    const char *method;
    const char *target; /* raw, with the query */
    const char *version;
    struct http_field fields[HTTP_HEAD_FIELDS];
    int field_count;
    bool too_many;
    size_t read_bytes; /* from the first byte of the method to behind the blank line; 0: unknown */
    size_t max_bytes;
};

struct http_framing {
    bool chunked;
    bool expect_continue;
    uint64_t content_length; /* 0 when chunked */
};

/* HTTP status: 0 is accepted and *out is set; else *e says what is wrong. */
int http_head_check(const struct http_head *h, struct http_framing *out, struct err *e);

/* 1 to 18 decimal digits. */
bool http_head_is_length(const char *s);

/* A host of a Host or Origin field: name, IPv4 or [IPv6], then an optional port of 1-5 digits.
 * On true *host_len is the length without the port. */
bool http_head_split_host(const char *s, size_t *host_len);

#endif
