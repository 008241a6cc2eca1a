#include "server/id_map.h"

#include "engine/base/mem.h"
#include "engine/base/status.h"

#define CAP_LEAST 64

static size_t place_of(const struct id_map *m, uint64_t id)
{
    return (size_t)((id * 0x9E3779B97F4A7C15u) >> 32) & (m->cap - 1);
}

static void insert(struct id_map *m, uint64_t id, void *value)
{
    size_t i = place_of(m, id);
    while (m->entries[i].value)
        i = (i + 1) & (m->cap - 1);
    m->entries[i] = (struct id_map_entry){id, value};
    m->count++;
}

bool id_map_reserve(struct id_map *m)
{
    if (2 * (m->count + 1) <= m->cap)
        return true;
    struct id_map bigger = {.cap = m->cap ? m->cap * 2 : CAP_LEAST};
    bigger.entries = mem_calloc(bigger.cap, sizeof *bigger.entries);
    if (!bigger.entries)
        return false;
    for (size_t i = 0; i < m->cap; i++) {
        if (m->entries[i].value)
            insert(&bigger, m->entries[i].id, m->entries[i].value);
    }
    mem_free(m->entries);
    *m = bigger;
    return true;
}

void id_map_put(struct id_map *m, uint64_t id, void *value)
{
    CHECK(2 * (m->count + 1) <= m->cap);
    insert(m, id, value);
}

static bool find(const struct id_map *m, uint64_t id, size_t *at)
{
    if (m->cap == 0)
        return false;
    for (size_t i = place_of(m, id); m->entries[i].value; i = (i + 1) & (m->cap - 1)) {
        if (m->entries[i].id == id) {
            *at = i;
            return true;
        }
    }
    return false;
}

void *id_map_get(const struct id_map *m, uint64_t id)
{
    size_t i;
    return find(m, id, &i) ? m->entries[i].value : NULL;
}

/* Later entries of the run move up, so that no search stops at the hole. */
void id_map_remove(struct id_map *m, uint64_t id)
{
    size_t hole;
    if (!find(m, id, &hole))
        return;
    m->entries[hole].value = NULL;
    m->count--;
    size_t mask = m->cap - 1;
    for (size_t i = (hole + 1) & mask; m->entries[i].value; i = (i + 1) & mask) {
        size_t home = place_of(m, m->entries[i].id);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->entries[hole] = m->entries[i];
            m->entries[i].value = NULL;
            hole = i;
        }
    }
}

void id_map_deinit(struct id_map *m)
{
    mem_free(m->entries);
    *m = (struct id_map){0};
}
