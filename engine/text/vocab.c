#include "engine/text/vocab.h"

#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"

#define SLOTS_FIRST 1024

void vocab_init(struct vocab *v)
{
    *v = (struct vocab){0};
}

void vocab_deinit(struct vocab *v)
{
    mem_free(v->pool);
    mem_free(v->tokens);
    mem_free(v->flags);
    mem_free(v->slots);
    vocab_init(v);
}

uint64_t vocab_hash(const char *s, size_t n)
{
    uint64_t h = n;
    uint64_t x;
    while (n >= 8) {
        memcpy(&x, s, 8);
        h = vocab_mix(h, x);
        s += 8;
        n -= 8;
    }
    x = 0;
    memcpy(&x, s, n);
    return vocab_mix(h, x);
}

static size_t find_slot(const struct vocab *v, const char *s, size_t n)
{
    size_t mask = v->slot_count - 1;
    size_t at = (size_t)vocab_hash(s, n) & mask;
    while (v->slots[at]) {
        const struct vocab_token *t = &v->tokens[v->slots[at] - 1];
        if (t->len == n && memcmp(v->pool + t->off, s, n) == 0)
            break;
        at = (at + 1) & mask;
    }
    return at;
}

int32_t vocab_find(const struct vocab *v, const char *s, size_t n)
{
    if (v->slot_count == 0)
        return -1;
    return (int32_t)v->slots[find_slot(v, s, n)] - 1;
}

int32_t vocab_find_model(const struct vocab *v, const char *s, size_t n)
{
    if (n > v->len_max)
        return -1;
    int32_t id = vocab_find(v, s, n);
    return id >= 0 && v->flags[id] & VOCAB_MODEL ? id : -1;
}

/* Keeps the table at most half full. */
static bool grow_slots(struct vocab *v)
{
    if ((v->count + 1) * 2 <= v->slot_count)
        return true;
    size_t count = v->slot_count ? v->slot_count * 4 : SLOTS_FIRST;
    uint32_t *slots = mem_calloc(count, sizeof *slots);
    if (!slots)
        return false;
    mem_free(v->slots);
    v->slots = slots;
    v->slot_count = count;
    for (size_t id = 0; id < v->id_count; id++) {
        if (v->flags[id]) {
            const struct vocab_token *t = &v->tokens[id];
            slots[find_slot(v, v->pool + t->off, t->len)] = (uint32_t)id + 1;
        }
    }
    return true;
}

static bool make_room(struct vocab *v, size_t n, uint32_t id)
{
    size_t old = v->flag_cap;
    if (!VEC_RESERVE(v->flags, v->flag_cap, (size_t)id + 1))
        return false;
    memset(v->flags + old, 0, v->flag_cap - old);
    return VEC_RESERVE(v->pool, v->pool_cap, v->pool_len + n + 1) &&
           VEC_RESERVE(v->tokens, v->token_cap, (size_t)id + 1) && grow_slots(v);
}

enum status vocab_add(struct vocab *v, const char *s, size_t n, uint32_t id, unsigned flags,
                      struct err *e)
{
    if (n > LIMIT_TOKEN_BYTES)
        return err_set(e, STATUS_LIMIT, NULL, "token %u is longer than %d bytes", id,
                       LIMIT_TOKEN_BYTES);
    if (id >= LIMIT_TOKEN_IDS)
        return err_set(e, STATUS_LIMIT, NULL, "token id %u is above %d", id, LIMIT_TOKEN_IDS - 1);
    if (!make_room(v, n, id))
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    size_t at = find_slot(v, s, n);
    if (v->slots[at])
        return err_set(e, STATUS_BAD_FILE, NULL, "token \"%.64s\" is listed twice",
                       v->pool + v->tokens[v->slots[at] - 1].off);
    if (id < v->id_count && v->flags[id])
        return err_set(e, STATUS_BAD_FILE, NULL, "two tokens have the id %u", id);
    memcpy(v->pool + v->pool_len, s, n);
    v->pool[v->pool_len + n] = '\0';
    v->tokens[id] = (struct vocab_token){(uint32_t)v->pool_len, (uint32_t)n};
    v->pool_len += n + 1;
    v->flags[id] = (uint8_t)(flags | VOCAB_PRESENT);
    v->slots[at] = id + 1;
    v->count++;
    if (id >= v->id_count)
        v->id_count = (size_t)id + 1;
    if (flags & VOCAB_MODEL) {
        v->model_count++;
        if (n > v->len_max)
            v->len_max = n;
    }
    return STATUS_OK;
}
