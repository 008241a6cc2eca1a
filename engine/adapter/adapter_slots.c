#include "engine/adapter/adapter_slots.h"

#include "engine/base/clock.h"

static const struct backend_ops *ops_of(const struct adapter_store *s)
{
    return s->backend->ops;
}

static void empty_slot(struct adapter_store *s, int slot)
{
    CHECK(s->slots[slot].adapter && s->slots[slot].refs == 0);
    if (!s->lost)
        ops_of(s)->adapter_unload(s->backend, slot);
    s->slots[slot] = (struct adapter_slot){0};
}

/* `slot` of a generation is read by other threads, so it changes under the lock. */
static void set_slot(struct adapter_store *s, struct adapter *a, int slot, bool usable)
{
    pthread_mutex_lock(&s->lock);
    a->counts.loads += usable && !a->usable;
    a->counts.evictions += !usable && a->usable;
    a->slot = slot;
    a->usable = usable;
    struct adapter *gone = adapter_store_retire(s, a);
    pthread_mutex_unlock(&s->lock);
    adapter_store_free(s, gone);
}

static void add_load_time(struct adapter_store *s, struct adapter *a, int64_t begin_ns)
{
    pthread_mutex_lock(&s->lock);
    a->counts.load_ns += clock_now_ns() - begin_ns;
    pthread_mutex_unlock(&s->lock);
}

void adapter_slots_evict(struct adapter_store *s, int slot)
{
    struct adapter *a = s->slots[slot].adapter;
    CHECK(!s->slots[slot].loading);
    if (!a)
        return;
    empty_slot(s, slot);
    set_slot(s, a, -1, false);
}

enum status adapter_slots_load(struct adapter_store *s, struct adapter *a, int slot, uint64_t step,
                               struct err *e)
{
    adapter_slots_evict(s, slot);
    CHECK(a->lora);
    int64_t begin_ns = clock_now_ns();
    enum status st = ops_of(s)->adapter_load(s->backend, slot, a->lora, e);
    if (st != STATUS_OK)
        return st;
    s->slots[slot] = (struct adapter_slot){.adapter = a, .since = step};
    set_slot(s, a, slot, true);
    add_load_time(s, a, begin_ns);
    return STATUS_OK;
}

enum status adapter_slots_begin(struct adapter_store *s, struct adapter *a, int slot, uint64_t step,
                                struct err *e)
{
    adapter_slots_evict(s, slot);
    CHECK(a->image && s->upload.state == UPLOAD_NONE);
    int64_t begin_ns = clock_now_ns();
    enum status st = ops_of(s)->adapter_place(s->backend, slot, a->image, e);
    if (st != STATUS_OK)
        return st;
    s->slots[slot] = (struct adapter_slot){.adapter = a, .since = step, .loading = true};
    set_slot(s, a, slot, false);
    pthread_mutex_lock(&s->lock);
    s->upload = (struct adapter_upload){
        .state = UPLOAD_ASKED, .adapter = a, .slot = slot, .begin_ns = begin_ns};
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    return STATUS_OK;
}

bool adapter_slots_busy(struct adapter_store *s, bool *done)
{
    pthread_mutex_lock(&s->lock);
    bool busy = s->upload.state != UPLOAD_NONE;
    *done = s->upload.state == UPLOAD_DONE;
    pthread_mutex_unlock(&s->lock);
    return busy;
}

bool adapter_slots_upload_one(struct adapter_store *s)
{
    struct err e = {0};
    pthread_mutex_lock(&s->lock);
    bool asked = s->upload.state == UPLOAD_ASKED;
    int slot = s->upload.slot;
    const struct backend_image *image = asked ? s->upload.adapter->image : NULL;
    if (asked)
        s->upload.state = UPLOAD_RUNS;
    pthread_mutex_unlock(&s->lock);
    if (!asked)
        return false;
    enum status st = ops_of(s)->adapter_upload(s->backend, slot, image, &e);
    pthread_mutex_lock(&s->lock);
    s->upload.state = UPLOAD_DONE;
    s->upload.status = st;
    s->upload.err = e;
    pthread_mutex_unlock(&s->lock);
    if (s->changed)
        s->changed(s->changed_ctx);
    return true;
}

/* Those who wait for it are told. */
static void count_as_failed(struct adapter_store *s, struct adapter *a, enum status st,
                            const struct err *e)
{
    pthread_mutex_lock(&s->lock);
    a->failed = st;
    if (e->code == st)
        a->failed_err = *e;
    else
        err_set(&a->failed_err, st, "adapter", "Adapter '%s' could not be loaded.", a->name);
    s->any_failed = true;
    pthread_mutex_unlock(&s->lock);
}

enum status adapter_slots_finish(struct adapter_store *s, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    struct adapter_upload up = s->upload;
    s->upload.state = UPLOAD_NONE;
    pthread_mutex_unlock(&s->lock);
    CHECK(up.state == UPLOAD_DONE);
    enum status st = up.status;
    *e = up.err;
    if (st == STATUS_OK)
        st = ops_of(s)->adapter_commit(s->backend, up.slot, up.adapter->image, e);
    s->slots[up.slot].loading = false;
    if (st == STATUS_OK) {
        set_slot(s, up.adapter, up.slot, true);
        add_load_time(s, up.adapter, up.begin_ns);
        return STATUS_OK;
    }
    if (st != STATUS_DEVICE_LOST)
        count_as_failed(s, up.adapter, st, e);
    adapter_slots_evict(s, up.slot);
    return st;
}

int adapter_slots_use(struct adapter_store *s, const struct adapter *a, uint64_t used)
{
    for (int i = 0; i < s->slots_max; i++) {
        if (s->slots[i].adapter != a || s->slots[i].loading)
            continue;
        s->slots[i].refs++;
        s->slots[i].used = used;
        return i;
    }
    return -1;
}

void adapter_slots_unuse(struct adapter_store *s, int slot)
{
    CHECK(s->slots[slot].refs > 0);
    s->slots[slot].refs--;
}

int adapter_slots_sweep(struct adapter_store *s)
{
    int gone = 0;
    pthread_mutex_lock(&s->lock);
    bool sweep = s->sweep;
    s->sweep = false;
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; sweep && i < s->slots_max; i++) {
        struct adapter *a = s->slots[i].adapter;
        if (!a)
            continue;
        pthread_mutex_lock(&s->lock);
        bool dead = !a->named && a->users == 0;
        s->sweep = s->sweep || (dead && s->slots[i].loading);
        pthread_mutex_unlock(&s->lock);
        if (dead && !s->slots[i].loading) {
            adapter_slots_evict(s, i);
            gone++;
        }
    }
    return gone;
}

void adapter_slots_lost(struct adapter_store *s)
{
    s->lost = true;
}

void adapter_slots_clear(struct adapter_store *s)
{
    for (int i = 0; i < s->slots_max; i++) {
        s->slots[i].loading = false;
        if (s->slots[i].adapter)
            empty_slot(s, i);
    }
}
