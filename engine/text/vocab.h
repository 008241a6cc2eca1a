/* vocab: the tokens of a tokenizer by id and by spelling. Filled while a file is opened, read by
 * any thread afterwards. */
#ifndef CHORUS_TEXT_VOCAB_H
#define CHORUS_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum vocab_flag {
    VOCAB_PRESENT = 1,
    VOCAB_MODEL = 2,  /* known to the BPE model itself */
    VOCAB_SPECIAL = 4 /* an added token with special = true */
};

struct vocab_token {
    uint32_t off; /* of the content in pool; a NUL follows it */
    uint32_t len;
};

struct vocab {
    char *pool; /* owned */
    size_t pool_len;
    size_t pool_cap;
    struct vocab_token *tokens; /* owned, by id */
    uint8_t *flags;             /* owned, by id */
    size_t token_cap;
    size_t flag_cap;
    size_t id_count;    /* highest id + 1 */
    size_t model_count; /* tokens with VOCAB_MODEL */
    size_t count;
    uint32_t *slots; /* owned, open addressing: id + 1, 0 is free */
    size_t slot_count;
    size_t len_max; /* of a token with VOCAB_MODEL, bytes */
};

void vocab_init(struct vocab *v);
void vocab_deinit(struct vocab *v);

/* STATUS_BAD_FILE when the id or the content is taken, STATUS_LIMIT, STATUS_NO_MEMORY. */
WARN_UNUSED enum status vocab_add(struct vocab *v, const char *s, size_t n, uint32_t id,
                                  unsigned flags, struct err *e);
/* Id of a spelling, -1 if there is none. */
int32_t vocab_find(const struct vocab *v, const char *s, size_t n);
/* Only tokens with VOCAB_MODEL. */
int32_t vocab_find_model(const struct vocab *v, const char *s, size_t n);

static inline bool vocab_has(const struct vocab *v, int32_t id, unsigned flags)
{
    return id >= 0 && (size_t)id < v->id_count && (v->flags[id] & flags) == flags;
}

/* Content of a token that is present; NUL-terminated. */
static inline const char *vocab_text(const struct vocab *v, int32_t id, size_t *n)
{
    *n = v->tokens[id].len;
    return v->pool + v->tokens[id].off;
}

/* Not keyed: collisions can be made, and cost time only. */
static inline uint64_t vocab_mix(uint64_t h, uint64_t x)
{
    __extension__ unsigned __int128 p =
        (unsigned __int128)(h ^ x ^ 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

uint64_t vocab_hash(const char *s, size_t n);

#endif
