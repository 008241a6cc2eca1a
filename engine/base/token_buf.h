/* token_buf: a growing list of token ids. One owner. */
#ifndef CHORUS_BASE_TOKEN_BUF_H
#define CHORUS_BASE_TOKEN_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct token_buf {
    int32_t *ids; /* owned; NULL while empty */
    size_t count;
    size_t cap;
};

/* False when memory is out; nothing changes then. */
bool token_buf_push(struct token_buf *b, int32_t id) __attribute__((warn_unused_result));
/* Frees the ids; the list is empty and can be used again. */
void token_buf_deinit(struct token_buf *b);

#endif
