#include "engine/adapter/adapter_host.h"

#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"

/* The two forms of an adapter's bytes, to be freed without the lock. */
struct forms {
    struct lora *lora;
    struct backend_image *image;
};

static void free_forms(const struct adapter_store *s, const struct forms *f)
{
    if (f->lora)
        s->source.free(f->lora);
    if (f->image)
        s->backend->ops->image_free(f->image);
}

static bool is_ready(const struct adapter *a)
{
    return a->lora || a->image;
}

/* With the lock held; somebody reads it: the form may go, but not the adapter. */
static struct forms take_forms(struct adapter_store *s, struct adapter *a)
{
    struct forms f = {a->lora, a->image};
    a->lora = NULL;
    a->image = NULL;
    s->host_used -= a->held_bytes;
    a->held_bytes = 0;
    return f;
}

/* From what was read to the host form and its identity, which is waited for last: the bytes are
 * hashed while they are packed. Takes lora in every case. */
static enum status make_form(const struct adapter_store *s, struct lora *lora, struct forms *out,
                             uint8_t sha256[SHA256_BYTES], struct err *e)
{
    struct backend_image *image = NULL;
    enum status st = STATUS_OK;
    if (s->packs)
        st = s->backend->ops->adapter_pack(s->backend, lora, &image, e);
    adapter_source_identify(&s->source, lora);
    memcpy(sha256, lora->sha256, SHA256_BYTES);
    if (!s->packs) {
        *out = (struct forms){.lora = lora};
        return STATUS_OK;
    }
    s->source.free(lora);
    if (st == STATUS_OK)
        *out = (struct forms){.image = image};
    return st;
}

static void put_form(struct adapter_store *s, struct adapter *a, const struct forms *f)
{
    a->lora = f->lora;
    a->image = f->image;
    a->host_tick = ++s->host_clock;
}

enum status adapter_host_keep(struct adapter_store *s, struct adapter *a, struct lora *lora,
                              struct err *e)
{
    size_t bytes = a->facts.host_bytes;
    adapter_store_free_buried(s); /* so that they never pile up behind a loader that reads */
    pthread_mutex_lock(&s->lock);
    bool room = a->pinned || (bytes <= s->host_budget && s->host_used <= s->host_budget - bytes);
    if (room) {
        a->held_bytes = bytes;
        s->host_used += bytes;
    }
    pthread_mutex_unlock(&s->lock);
    if (!room) {
        adapter_source_identify(&s->source, lora);
        memcpy(a->facts.sha256, lora->sha256, SHA256_BYTES);
        s->source.free(lora);
        return STATUS_OK;
    }
    struct forms f = {0};
    enum status st = make_form(s, lora, &f, a->facts.sha256, e);
    pthread_mutex_lock(&s->lock);
    if (st == STATUS_OK)
        put_form(s, a, &f);
    else
        f = take_forms(s, a);
    pthread_mutex_unlock(&s->lock);
    return st;
}

/* ---- what is wanted ---- */

void adapter_host_begin(struct adapter_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->want_turn++;
    s->want_left = s->host_budget;
    s->want_any = s->want_full = false;
}

static size_t missing_bytes(const struct adapter_store *s, const struct adapter_set *set)
{
    size_t bytes = 0;
    for (int i = 0; i < set->count; i++) {
        const struct adapter *a = set->parts[i];
        if (!a->usable && a->want != s->want_turn && !a->pinned)
            bytes += a->facts.host_bytes;
    }
    return bytes;
}

static void want(struct adapter_store *s, struct adapter *a, uint64_t order)
{
    if (a->usable || a->want == s->want_turn)
        return;
    a->want = s->want_turn;
    a->want_order = order;
    a->host_tick = ++s->host_clock;
}

enum adapter_answer adapter_host_ask(struct adapter_store *s, const struct adapter_set *set,
                                     uint64_t order, unsigned *loadable)
{
    bool ready = true;
    *loadable = 0;
    for (int i = 0; i < set->count; i++) {
        if (set->parts[i]->failed != STATUS_OK)
            return ADAPTER_FAILED;
        ready = ready && (set->parts[i]->usable || is_ready(set->parts[i]));
    }
    size_t need = missing_bytes(s, set);
    if (need > 0 && (s->want_full || (s->want_any && need > s->want_left))) {
        s->want_full = true;
        return ADAPTER_WAIT;
    }
    for (int i = 0; i < set->count; i++) {
        want(s, set->parts[i], order);
        if (set->parts[i]->want == s->want_turn && is_ready(set->parts[i]))
            *loadable |= 1u << i;
    }
    s->want_left -= need < s->want_left ? need : s->want_left;
    s->want_any = s->want_any || need > 0;
    return ready ? ADAPTER_READY : ADAPTER_WAIT;
}

/* The oldest request's that is not here, or NULL. */
static struct adapter *next_wanted(const struct adapter_store *s)
{
    struct adapter *best = NULL;
    for (size_t i = 0; i < s->count; i++) {
        struct adapter *a = s->list[i];
        if (a->want != s->want_turn || a->usable || a->slot >= 0 || is_ready(a) || a->reading ||
            a->failed != STATUS_OK)
            continue;
        if (!best || a->want_order < best->want_order)
            best = a;
    }
    return best;
}

/* The least recently used that may go, or NULL. */
static struct adapter *next_to_drop(const struct adapter_store *s)
{
    struct adapter *best = NULL;
    for (size_t i = 0; i < s->count; i++) {
        struct adapter *a = s->list[i];
        bool on_its_way = a->slot >= 0 && !a->usable;
        if (!is_ready(a) || a->reading || a->pinned || on_its_way || a->want == s->want_turn)
            continue;
        if (!best || a->host_tick < best->host_tick)
            best = a;
    }
    return best;
}

static bool is_over(const struct adapter_store *s, size_t more)
{
    return more > s->host_budget || s->host_used > s->host_budget - more;
}

/* What was wanted beyond the budget goes when it is no longer. */
static bool has_too_much(const struct adapter_store *s)
{
    return is_over(s, 0) && next_to_drop(s) != NULL;
}

bool adapter_host_has_work(const struct adapter_store *s)
{
    return (s->want_any && next_wanted(s) != NULL) || has_too_much(s);
}

void adapter_host_end(struct adapter_store *s)
{
    bool work = adapter_host_has_work(s);
    if (work)
        pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
}

void adapter_host_error(struct adapter_store *s, const struct adapter_set *set, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < set->count; i++)
        if (set->parts[i]->failed != STATUS_OK)
            *e = set->parts[i]->failed_err;
    pthread_mutex_unlock(&s->lock);
}

void adapter_host_forgive(struct adapter_store *s)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; s->any_failed && i < s->count; i++)
        s->list[i]->failed = STATUS_OK;
    s->any_failed = false;
    pthread_mutex_unlock(&s->lock);
}

/* ---- reading again ---- */

/* With the lock held, which is let go to free. */
static void make_room(struct adapter_store *s, size_t bytes)
{
    while (is_over(s, bytes)) {
        struct adapter *a = next_to_drop(s);
        if (!a)
            return; /* what is wanted fits; the first request's does in any case */
        struct forms f = take_forms(s, a);
        pthread_mutex_unlock(&s->lock);
        free_forms(s, &f);
        pthread_mutex_lock(&s->lock);
    }
}

static enum status has_changed(const struct adapter *a, struct err *e)
{
    return err_set(e, STATUS_CONFLICT, "adapter",
                   "The files of adapter '%s' have changed since it was added; add it again.",
                   a->name);
}

/* Whoever asks named a good adapter: that its files are gone or bad by now is no fault of the
 * request. */
static enum status not_read(const struct adapter *a, enum status st, struct err *e)
{
    struct err why = *e;
    if (st == STATUS_NOT_FOUND)
        st = STATUS_ADAPTER_NOT_FOUND;
    else if (st == STATUS_BAD_FILE || st == STATUS_UNSUPPORTED || st == STATUS_INVALID)
        st = STATUS_CONFLICT;
    return err_set(e, st, "adapter", "Adapter '%s' could not be read again: %s", a->name,
                   why.msg[0] ? why.msg : status_code(st));
}

/* `a` is being read: its constant fields only. */
static enum status read_again(const struct adapter_store *s, const struct adapter *a,
                              struct forms *out, struct err *e)
{
    char root[ADAPTER_PATH_BYTES];
    struct lora *l = NULL;
    memcpy(root, a->path, a->root_len);
    root[a->root_len] = '\0';
    const char *path = a->root_len > 0 ? a->path + a->root_len + 1 : a->path;
    float error;
    enum status st = adapter_source_open_at(&s->source, a->root_len > 0 ? root : NULL, path,
                                            s->base, a->quant, &l, &error, e);
    if (st != STATUS_OK)
        return not_read(a, st, e);
    uint8_t sha256[SHA256_BYTES];
    struct forms made = {0};
    if (l->bytes != a->facts.bytes) { /* so that only what was counted for it is packed */
        s->source.free(l);
        return has_changed(a, e);
    }
    st = make_form(s, l, &made, sha256, e);
    if (memcmp(a->facts.sha256, sha256, SHA256_BYTES) != 0)
        st = has_changed(a, e);
    if (st == STATUS_OK)
        *out = made;
    else
        free_forms(s, &made);
    return st;
}

static void settle(struct adapter_store *s, struct adapter *a, const struct forms *f,
                   enum status st, const struct err *e, int64_t ns)
{
    a->reading = false;
    a->counts.disk_reads++;
    a->counts.load_ns += ns;
    if (st == STATUS_OK) {
        put_form(s, a, f);
        return;
    }
    (void)take_forms(s, a);
    a->failed = st;
    a->failed_err = *e;
    s->any_failed = true;
}

bool adapter_host_read_one(struct adapter_store *s)
{
    struct err e = {0};
    struct forms f = {0};
    pthread_mutex_lock(&s->lock);
    struct adapter *a = s->want_any ? next_wanted(s) : NULL;
    if (a) {
        a->reading = true;
        make_room(s, a->facts.host_bytes);
        a->held_bytes = a->facts.host_bytes;
        s->host_used += a->held_bytes;
    }
    bool trim = !a && has_too_much(s);
    if (trim)
        make_room(s, 0);
    pthread_mutex_unlock(&s->lock);
    if (!a)
        return trim;

    int64_t begin_ns = clock_now_ns();
    enum status st = read_again(s, a, &f, &e);
    if (st != STATUS_OK)
        LOG_ERROR(LOG_WHAT("an adapter cannot be read again"), LOG_STR("adapter", a->name),
                  LOG_STR("path", a->path), LOG_STR("why", e.msg));
    pthread_mutex_lock(&s->lock);
    settle(s, a, &f, st, &e, clock_now_ns() - begin_ns);
    struct adapter *gone = adapter_store_retire(s, a);
    pthread_mutex_unlock(&s->lock);
    adapter_store_free(s, gone);
    if (s->changed)
        s->changed(s->changed_ctx);
    return true;
}

void adapter_host_check(struct adapter_store *s)
{
    size_t held = 0;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->count; i++) {
        const struct adapter *a = s->list[i];
        CHECK(!(a->lora && a->image) && (is_ready(a) || a->reading || a->held_bytes == 0));
        CHECK(!a->usable || a->slot >= 0);
        held += a->held_bytes;
    }
    CHECK(held == s->host_used);
    pthread_mutex_unlock(&s->lock);
}
