#include "server/hub_pull.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/checked.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "server/hub_hash.h"
#include "server/hub_store.h"
#include "server/text_table.h"

#define READ_BYTES   (1u << 20)
#define ROOM_SPARE   (1u << 20) /* left on the disk beside the files */
#define GGUF_SHOWN   6
#define MISMATCH_MAX 2

struct pulling {
    const struct hub_pull *p;
    struct hub_files files;
    struct hub_store store;
    struct hub_progress progress;
    struct err *e;
};

/* One file on its way. */
struct getting {
    struct pulling *pull;
    const struct hub_file *file;
    struct hub_part part;
    struct hub_hash hash;
    enum status broke; /* what a callback found, for after the exchange */
    bool grew;         /* since the last try */
};

static enum status stopped(struct err *e)
{
    return err_set(e, STATUS_CANCELLED, NULL, "stopped");
}

static void show(struct pulling *x)
{
    x->p->progress(x->p->ctx, &x->progress);
}

/* ---- the list ---- */

static enum status nothing_wanted(const struct pulling *x)
{
    const struct hub_id *id = x->p->id;
    char names[256] = "";
    size_t used = 0;
    int shown = 0;
    for (size_t i = 0; i < x->files.count; i++) {
        const char *name = x->files.list[i].name;
        size_t n = strlen(name);
        if (n < 5 || strcmp(name + n - 5, ".gguf") != 0 || shown++ >= GGUF_SHOWN ||
            used + n + 3 > sizeof names)
            continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
    }
    if (x->p->pattern_count > 0)
        return err_set(x->e, STATUS_NOT_FOUND, NULL, "%s has no file that --file asks for",
                       id->name);
    if (shown > 0)
        return err_set(x->e, STATUS_UNSUPPORTED, NULL,
                       "%s has GGUF files but no safetensors; choose with --file: %s%s", id->name,
                       names, shown > GGUF_SHOWN ? ", ..." : "");
    return err_set(
        x->e, STATUS_UNSUPPORTED, NULL,
        "%s has no safetensors, which is what Chorus reads (--all fetches what there is)",
        id->name);
}

static enum status list_files(struct pulling *x)
{
    const struct hub_pull *p = x->p;
    struct strbuf url;
    struct strbuf text;
    strbuf_init(&url, HUB_LINK_BYTES);
    strbuf_init(&text, LIMIT_HUB_LIST_BYTES);
    strbuf_printf(&url, "%s/api/models/%s/revision/", p->fetch->endpoint, p->id->name);
    hub_fetch_quote(&url, p->id->revision, false);
    strbuf_puts(&url, "?blobs=true");
    enum status st =
        hub_fetch_text(p->fetch, strbuf_str(&url), p->id, "the list of files", &text, x->e);
    if (st == STATUS_OK)
        st = hub_files_parse(strbuf_str(&text), text.len, &x->files, x->e);
    strbuf_deinit(&text);
    strbuf_deinit(&url);
    return st;
}

static bool has_weights(const struct hub_files *f)
{
    for (size_t i = 0; i < f->count; i++) {
        size_t n = strlen(f->list[i].name);
        if (f->list[i].wanted && n > 12 && strcmp(f->list[i].name + n - 12, ".safetensors") == 0)
            return true;
    }
    return false;
}

static enum status choose(struct pulling *x)
{
    const struct hub_pull *p = x->p;
    size_t n = hub_files_choose(&x->files, p->all, p->patterns, p->pattern_count);
    bool plain = !p->all && p->pattern_count == 0;
    if (n == 0 || (plain && !has_weights(&x->files)))
        return nothing_wanted(x);
    x->progress.count = (int)n;
    return STATUS_OK;
}

/* ---- hashes and sizes ---- */

static void file_url(const struct pulling *x, const struct hub_file *f, struct strbuf *url)
{
    strbuf_init(url, HUB_LINK_BYTES);
    strbuf_printf(url, "%s/%s/resolve/%s/", x->p->fetch->endpoint, x->p->id->name, x->files.commit);
    hub_fetch_quote(url, f->name, true);
}

static enum status ask(struct pulling *x, struct hub_file *f)
{
    struct strbuf url;
    struct hub_response r;
    file_url(x, f, &url);
    enum status st = hub_fetch_head(x->p->fetch, strbuf_str(&url), x->p->id, f->name, &r, x->e);
    strbuf_deinit(&url);
    if (st != STATUS_OK)
        return st;
    const char *etag = *r.linked_etag ? r.linked_etag : r.etag;
    int64_t bytes = r.linked_length >= 0 ? r.linked_length : r.status == 200 ? r.length : -1;
    if (!hub_hash_ok(etag))
        return err_set(x->e, STATUS_BAD_FILE, NULL,
                       "%s: the hub names no hash to check it by (is HF_ENDPOINT a hub?)", f->name);
    if (*r.commit && strcmp(r.commit, x->files.commit) != 0)
        return err_set(x->e, STATUS_BAD_FILE, NULL, "%s: the hub answers with another commit",
                       f->name);
    if (bytes < 0)
        return err_set(x->e, STATUS_BAD_FILE, NULL, "%s: the hub does not tell its size", f->name);
    memcpy(f->etag, etag, strlen(etag) + 1);
    f->bytes = (uint64_t)bytes;
    return STATUS_OK;
}

static enum status ask_all(struct pulling *x)
{
    size_t total = 0;
    for (size_t i = 0; i < x->files.count; i++) {
        if (!x->files.list[i].wanted)
            continue;
        enum status st = ask(x, &x->files.list[i]);
        if (st != STATUS_OK)
            return st;
        if (!checked_add(total, x->files.list[i].bytes, &total))
            return err_set(x->e, STATUS_LIMIT, NULL, "the sizes add up to nonsense");
    }
    x->progress.bytes = total;
    return STATUS_OK;
}

static enum status check_room(const struct pulling *x)
{
    uint64_t missing = 0;
    for (size_t i = 0; i < x->files.count; i++) {
        const struct hub_file *f = &x->files.list[i];
        if (!f->wanted || hub_store_has(&x->store, f->etag, f->bytes))
            continue;
        uint64_t part = hub_store_part_bytes(&x->store, f->etag);
        missing += f->bytes - (part < f->bytes ? part : f->bytes);
    }
    uint64_t room = hub_store_room(&x->store);
    if (missing == 0 || room == UINT64_MAX || (missing < room && room - missing >= ROOM_SPARE))
        return STATUS_OK;
    char need[TEXT_SHORT_BYTES];
    char have[TEXT_SHORT_BYTES];
    text_bytes(missing, need);
    text_bytes(room, have);
    return err_set(x->e, STATUS_NO_ROOM, NULL,
                   "%s are missing and %s are free at %s (chorus ls shows what is there, chorus rm "
                   "frees it; HF_HUB_CACHE names another place)",
                   need, have, x->p->cache);
}

/* ---- one file ---- */

static void count(struct getting *g)
{
    struct hub_progress *p = &g->pull->progress;
    p->done = p->done - p->file_done + g->part.bytes;
    p->file_done = g->part.bytes;
    show(g->pull);
}

static enum status start_over(struct getting *g)
{
    hub_hash_init(&g->hash, g->file->etag, g->file->bytes);
    enum status st = hub_part_clear(&g->part, g->pull->e);
    count(g);
    return st;
}

/* What an earlier pull left goes through the hash. */
static enum status hash_part(struct getting *g)
{
    struct pulling *x = g->pull;
    if (g->part.bytes > g->file->bytes)
        return start_over(g);
    hub_hash_init(&g->hash, g->file->etag, g->file->bytes);
    char *block = mem_alloc(READ_BYTES, 1);
    if (!block)
        return err_set(x->e, STATUS_NO_MEMORY, NULL, "out of memory");
    enum status st = STATUS_OK;
    for (uint64_t at = 0; at < g->part.bytes && st == STATUS_OK;) {
        uint64_t left = g->part.bytes - at;
        ssize_t n =
            pread(g->part.fd, block, left < READ_BYTES ? (size_t)left : READ_BYTES, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            st = err_set(x->e, STATUS_IO, NULL, "%s: its part cannot be read: %s", g->file->name,
                         n < 0 ? strerror(errno) : "it became shorter");
        else if (!x->p->fetch->alive(x->p->fetch->ctx))
            st = stopped(x->e);
        if (st == STATUS_OK) {
            hub_hash_update(&g->hash, block, (size_t)n);
            at += (uint64_t)n;
        }
    }
    mem_free(block);
    return st;
}

static enum status broke(struct getting *g, const char *why)
{
    return err_set(g->pull->e, STATUS_BAD_FILE, NULL, "%s: %s", g->file->name, why);
}

/* A hub may answer a Range with all; then the part is not needed. */
static bool on_begin(void *ctx, const struct hub_response *r)
{
    struct getting *g = ctx;
    uint64_t size = g->file->bytes;
    if (r->status == 206) {
        if (r->range_from != (int64_t)g->part.bytes ||
            (r->range_total >= 0 && (uint64_t)r->range_total != size))
            g->broke = broke(g, "the hub answers with other bytes than those asked for");
    } else {
        if (g->part.bytes > 0)
            g->broke = start_over(g);
        if (g->broke == STATUS_OK && r->length >= 0 && (uint64_t)r->length != size)
            g->broke = broke(g, "the hub sends another size than it lists");
    }
    return g->broke == STATUS_OK;
}

static bool on_data(void *ctx, const void *bytes, size_t n)
{
    struct getting *g = ctx;
    if (n > g->file->bytes - g->part.bytes)
        g->broke = broke(g, "the hub sends more than it lists");
    else
        g->broke = hub_part_append(&g->part, bytes, n, g->pull->e);
    if (g->broke != STATUS_OK)
        return false;
    hub_hash_update(&g->hash, bytes, n);
    g->grew = true;
    g->pull->progress.fetched += n;
    count(g);
    return true;
}

/* Brings the part to its full size. */
static enum status fill(struct getting *g, const char *url)
{
    struct hub_fetch *f = g->pull->p->fetch;
    struct hub_patience patience = {.most = HUB_PATIENCE_LOADING};
    struct hub_sink sink = {.begin = on_begin, .data = on_data, .ctx = g};
    while (g->part.bytes < g->file->bytes) {
        struct hub_response r;
        g->grew = false;
        bool whole = hub_fetch_try(f, url, g->part.bytes, &sink, &r);
        if (g->broke != STATUS_OK)
            return g->broke;
        if (g->part.bytes == g->file->bytes)
            return STATUS_OK;
        if (g->grew)
            patience.failures = 0;
        if (whole && r.status >= 200 && r.status < 300) {
            whole = false;
            snprintf(r.why, sizeof r.why, "the answer ended before its end");
        }
        if (whole && r.status == 416 && g->part.bytes > 0) {
            enum status st = start_over(g); /* the hub knows of no such rest */
            if (st != STATUS_OK)
                return st;
            continue;
        }
        enum status st =
            hub_fetch_again(f, &patience, &r, g->pull->p->id, g->file->name, g->pull->e);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

/* The part is the file, or it is gone: wrong bytes are not kept for a next time. */
static enum status fill_and_check(struct getting *g, const char *url)
{
    char digest[HUB_HASH_BYTES];
    enum status st = hash_part(g);
    for (int wrong = 0; st == STATUS_OK; wrong++) {
        count(g);
        st = fill(g, url);
        if (st != STATUS_OK)
            return st;
        hub_hash_final(&g->hash, digest);
        if (strcmp(digest, g->file->etag) == 0)
            return hub_part_finish(&g->pull->store, &g->part, g->pull->e);
        if (wrong + 1 == MISMATCH_MAX) {
            hub_part_drop(&g->pull->store, &g->part);
            return broke(g, "what came does not have the hash that the hub lists; nothing of it "
                            "was kept");
        }
        st = start_over(g);
    }
    return st;
}

static bool wait_for_other(void *ctx, const char *what)
{
    struct pulling *x = ctx;
    struct hub_fetch *f = x->p->fetch;
    char note[512];
    (void)what;
    snprintf(note, sizeof note, "waiting for another download of %s", x->progress.file);
    f->note(f->ctx, note);
    usleep(200000);
    return f->alive(f->ctx);
}

static enum status get_blob(struct pulling *x, const struct hub_file *f)
{
    struct getting g = {.pull = x, .file = f};
    struct hub_waiter waiter = {.wait = wait_for_other, .ctx = x};
    struct strbuf url;
    enum status st = hub_part_open(&x->store, f->etag, &waiter, &g.part, x->e);
    if (st != STATUS_OK)
        return st;
    /* Whoever held the lock before may have brought it. */
    if (hub_store_has(&x->store, f->etag, f->bytes)) {
        hub_part_drop(&x->store, &g.part);
        hub_part_close(&g.part);
        return STATUS_OK;
    }
    file_url(x, f, &url);
    st = fill_and_check(&g, strbuf_str(&url));
    strbuf_deinit(&url);
    hub_part_close(&g.part);
    return st;
}

static enum status get_file(struct pulling *x, const struct hub_file *f)
{
    struct hub_progress *p = &x->progress;
    p->file = f->name;
    p->number++;
    p->file_done = 0;
    p->file_bytes = f->bytes;
    p->finished = false;
    enum status st = STATUS_OK;
    if (!hub_store_has(&x->store, f->etag, f->bytes))
        st = get_blob(x, f);
    if (st == STATUS_OK)
        st = hub_store_link(&x->store, x->files.commit, f->name, f->etag, x->e);
    if (st != STATUS_OK)
        return st;
    p->done += f->bytes - p->file_done;
    p->file_done = f->bytes;
    p->finished = true;
    show(x);
    return STATUS_OK;
}

static enum status get_all(struct pulling *x)
{
    enum status st = STATUS_OK;
    for (size_t i = 0; i < x->files.count && st == STATUS_OK; i++) {
        if (x->files.list[i].wanted)
            st = get_file(x, &x->files.list[i]);
    }
    return st;
}

enum status hub_pull_run(const struct hub_pull *p, struct hub_pulled *out, struct err *e)
{
    struct pulling x = {.p = p, .e = e};
    *out = (struct hub_pulled){0};
    enum status st = list_files(&x);
    if (st == STATUS_OK)
        st = choose(&x);
    if (st == STATUS_OK)
        st = ask_all(&x);
    if (st != STATUS_OK)
        goto free_list;
    st = hub_store_open(p->cache, p->id, &x.store, e);
    if (st != STATUS_OK)
        goto free_list;
    st = check_room(&x);
    if (st == STATUS_OK)
        st = get_all(&x);
    if (st == STATUS_OK)
        st = hub_store_ref(&x.store, p->id, x.files.commit, e);
    hub_store_close(&x.store);
    memcpy(out->commit, x.files.commit, sizeof out->commit);
    out->files = x.progress.count;
    out->bytes = x.progress.bytes;
    out->fetched = x.progress.fetched;
    out->adapter = hub_files_find(&x.files, "adapter_config.json") != NULL;
    out->model = has_weights(&x.files);
free_list:
    hub_files_deinit(&x.files);
    return st;
}
