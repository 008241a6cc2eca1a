/* engine_adapters: the door for adapters. Any thread. */
#include "engine/engine_internal.h"

#include "engine/base/log.h"

static void added(struct engine *e, const char *name, const char *path, uint64_t generation)
{
    LOG_INFO(LOG_WHAT("adapter added"), LOG_STR("adapter", name), LOG_STR("path", path),
             LOG_INT("generation", generation));
    engine_signal(e); /* a generation that was replaced may leave its slot */
}

enum status engine_adapter_add(struct engine *e, const char *name, const char *path,
                               uint64_t *generation, struct err *err)
{
    uint64_t made = 0;
    enum status st = adapter_store_add(&e->store, name, path, &made, err);
    if (st != STATUS_OK)
        return st;
    added(e, name, path, made);
    *generation = made;
    return STATUS_OK;
}

enum status engine_adapter_add_beneath(struct engine *e, const char *name, const char *root,
                                       const char *path, uint64_t *generation, struct err *err)
{
    uint64_t made = 0;
    enum status st = adapter_store_add_beneath(&e->store, name, root, path, &made, err);
    if (st != STATUS_OK)
        return st;
    added(e, name, path, made);
    *generation = made;
    return STATUS_OK;
}

enum status engine_adapter_remove(struct engine *e, const char *name, struct err *err)
{
    enum status st = adapter_store_remove(&e->store, name, err);
    if (st != STATUS_OK)
        return st;
    LOG_INFO(LOG_WHAT("adapter removed"), LOG_STR("adapter", name));
    engine_signal(e);
    return STATUS_OK;
}

int engine_adapters(struct engine *e, struct engine_adapter_info *out, int max)
{
    return adapter_store_list(&e->store, out, max);
}
