#include "engine/base/token_buf.h"

#include "engine/base/mem.h"
#include "engine/base/vec.h"

bool token_buf_push(struct token_buf *b, int32_t id)
{
    if (!VEC_RESERVE(b->ids, b->cap, b->count + 1))
        return false;
    b->ids[b->count++] = id;
    return true;
}

void token_buf_deinit(struct token_buf *b)
{
    mem_free(b->ids);
    *b = (struct token_buf){0};
}
