#include "engine/engine_adapters.h"

#include <string.h>

#include "engine/adapter/adapter_check.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/engine_internal.h"

enum status engine_adapter_put(struct engine *e, const struct engine_adapter_spec *spec,
                               uint64_t *generation, struct err *err)
{
    uint64_t made = 0;
    enum status st = adapter_store_put(&e->store, spec, &made, err);
    if (st != STATUS_OK)
        return st;
    LOG_INFO(LOG_WHAT("adapter added"), LOG_STR("adapter", spec->name), LOG_STR("path", spec->path),
             LOG_INT("generation", made));
    engine_signal(e); /* a generation that was replaced may leave its slot */
    *generation = made;
    return STATUS_OK;
}

enum status engine_adapter_add(struct engine *e, const char *name, const char *path,
                               uint64_t *generation, struct err *err)
{
    struct engine_adapter_spec spec = {.name = name, .path = path};
    return engine_adapter_put(e, &spec, generation, err);
}

enum status engine_adapter_add_beneath(struct engine *e, const char *name, const char *root,
                                       const char *path, uint64_t *generation, struct err *err)
{
    struct engine_adapter_spec spec = {.name = name, .root = root, .path = path};
    return engine_adapter_put(e, &spec, generation, err);
}

static enum status check_parts(const struct engine *e, const struct engine_adapter_use *parts,
                               int count, struct err *err)
{
    int most = e->opt.slots_max < LIMIT_ADAPTERS_PER_REQUEST ? e->opt.slots_max
                                                             : LIMIT_ADAPTERS_PER_REQUEST;
    if (count < 1 || count > most)
        return err_set(err, count < 1 ? STATUS_INVALID : STATUS_LIMIT, "adapter",
                       "A blend has 1 to %d adapters, not %d.", most, count);
    return engine_check_adapters(e, parts, count, err);
}

enum status engine_adapter_blend(struct engine *e, const char *name,
                                 const struct engine_adapter_use *parts, int count,
                                 uint64_t *generation, struct err *err)
{
    uint64_t made = 0;
    enum status st = check_parts(e, parts, count, err);
    if (st == STATUS_OK)
        st = adapter_store_blend(&e->store, name, parts, count, &made, err);
    if (st != STATUS_OK)
        return st;
    LOG_INFO(LOG_WHAT("blend added"), LOG_STR("adapter", name), LOG_INT("parts", count),
             LOG_INT("generation", made));
    engine_signal(e);
    *generation = made;
    return STATUS_OK;
}

static enum status take_name(struct engine *e, const char *name, uint64_t *generation,
                             struct err *err)
{
    enum status st = adapter_store_remove(&e->store, name, generation, err);
    if (st != STATUS_OK)
        return st;
    LOG_INFO(LOG_WHAT("adapter removed"), LOG_STR("adapter", name));
    engine_signal(e);
    return STATUS_OK;
}

enum status engine_adapter_remove(struct engine *e, const char *name, struct err *err)
{
    uint64_t generation;
    return take_name(e, name, &generation, err);
}

static bool holds(const struct seq *s, uint64_t generation)
{
    for (int i = 0; i < s->hold_count; i++)
        if (s->holds[i] == generation)
            return true;
    return false;
}

static void tell_users(struct engine *e, struct engine_adapter_left *left)
{
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < e->slot_count && left->told < ENGINE_ADAPTER_USERS; i++) {
        const struct seq *s = e->slots[i].seq;
        if (!s || s->outbox.ended || !holds(s, left->generation))
            continue;
        char *to = left->request_id[left->told++];
        size_t n = strlen(s->request_id), most = sizeof left->request_id[0] - 1;
        memcpy(to, s->request_id, n < most ? n : most);
    }
    pthread_mutex_unlock(&e->lock);
}

enum status engine_adapter_drain(struct engine *e, const char *name, int wait_ms,
                                 struct engine_adapter_left *left, struct err *err)
{
    uint64_t generation;
    enum status st = take_name(e, name, &generation, err);
    if (st != STATUS_OK)
        return st;
    memset(left, 0, sizeof *left);
    left->generation = generation;
    left->users = adapter_store_wait(&e->store, generation, wait_ms);
    if (left->users > 0)
        tell_users(e, left);
    return STATUS_OK;
}

int engine_adapters(struct engine *e, struct engine_adapter_info *out, int max)
{
    return adapter_store_list(&e->store, out, max);
}

enum status engine_adapter_find(struct engine *e, const char *name, struct engine_adapter_info *out)
{
    return adapter_store_find(&e->store, name, out);
}

int engine_adapter_users(struct engine *e, const char *name, uint64_t generation)
{
    return adapter_store_users(&e->store, name, generation);
}

const char *engine_adapter_target(int bit)
{
    static const char *const names[] = {"q_proj",    "k_proj",    "v_proj",
                                        "o_proj",    "gate_proj", "up_proj",
                                        "down_proj", "lm_head",   "embed_tokens"};
    _Static_assert(sizeof names / sizeof names[0] == LINEAR_COUNT + 2, "a name for each");
    return bit >= 0 && bit < LINEAR_COUNT + 2 ? names[bit] : NULL;
}

enum status engine_adapter_check(struct engine *e, const char *root, const char *path,
                                 struct engine_adapter_report *out, struct err *err)
{
    return adapter_check(&e->parts.adapters, e->parts.model, root, path, out, err);
}

void engine_adapter_report_deinit(struct engine_adapter_report *r)
{
    mem_free(r->tensors);
    r->tensors = NULL;
    r->tensor_count = 0;
}

void engine_adapter_memory(struct engine *e, size_t bytes)
{
    adapter_store_set_budget(&e->store, bytes > 0 ? bytes : engine_size_host_default(e));
}
