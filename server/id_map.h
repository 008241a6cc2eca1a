/* id_map: from an engine's request id to what waits for its events. One thread. */
#ifndef CHORUS_SERVER_ID_MAP_H
#define CHORUS_SERVER_ID_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct id_map_entry {
    uint64_t id;
    void *value; /* borrowed; NULL: the place is free */
};

struct id_map {
    struct id_map_entry *entries; /* owned, [cap], open addressing */
    size_t cap;                   /* 0 or a power of two, at least twice `count` */
    size_t count;
};

/* Room for one more. False: out of memory. */
bool id_map_reserve(struct id_map *m) __attribute__((warn_unused_result));
/* After id_map_reserve. The id must not be there; value is not NULL. */
void id_map_put(struct id_map *m, uint64_t id, void *value);
/* NULL: not there. */
void *id_map_get(const struct id_map *m, uint64_t id);
void id_map_remove(struct id_map *m, uint64_t id);
void id_map_deinit(struct id_map *m);

#endif
