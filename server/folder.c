#include "server/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/limits.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "server/api_adapter.h"

#define SETTLE_NS ((int64_t)300 * 1000000) /* without a change before it is tried */
#define GGUF      ".gguf"
#define TELL_NS   ((int64_t)3000 * 1000000) /* refused for so long: say why */

/* Everything that makes a generation what it is. */
static const char *const stamp_names[] = {
    "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin",
    "chorus.json",         "tokenizer_config.json",     "chat_template.jinja",
};
#define STAMP_FILES (sizeof stamp_names / sizeof stamp_names[0])

struct stamp {
    struct file_stamp files[STAMP_FILES]; /* zeros: there is none */
};

struct item {
    char name[LIMIT_NAME_BYTES + 1];
    bool gguf; /* the file <name>.gguf, no directory */
    int root;
    unsigned scan;  /* the last one that saw it */
    bool candidate; /* it is such a file, or has an adapter_config.json */
    uint64_t inode; /* of the directory; 0: there is none */
    struct stamp seen;
    int64_t seen_ns; /* since when it looks like this */
    int64_t gone_ns; /* since when it is no candidate any more; 0: it is one */
    bool has_served, has_failed, has_hidden;
    struct stamp served;
    struct stamp failed;
    struct stamp hidden;
    int64_t failed_ns;
    bool told;
    struct err why;
    struct loop_dir *watch; /* owned; loop thread */
    uint64_t watch_inode;
};

struct folder {
    const struct adapter_roots *roots;
    struct folder_handlers h;
    struct item **items; /* owned, in no order */
    size_t count;
    size_t cap;
    unsigned scan;
    bool first;
    bool unsettled;
    struct loop_dir *watches[ADAPTER_ROOTS_MAX]; /* owned; of the roots */
    uint64_t watch_inodes[ADAPTER_ROOTS_MAX];
    uint64_t root_inodes[ADAPTER_ROOTS_MAX]; /* 0: not there */
    bool root_told[ADAPTER_ROOTS_MAX];
};

struct folder *folder_create(const struct adapter_roots *roots, const struct folder_handlers *h)
{
    struct folder *f = mem_calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->roots = roots;
    f->h = *h;
    return f;
}

void folder_unwatch(struct folder *f)
{
    for (int i = 0; i < ADAPTER_ROOTS_MAX; i++) {
        loop_dir_destroy(f->watches[i]);
        f->watches[i] = NULL;
    }
    for (size_t i = 0; i < f->count; i++) {
        loop_dir_destroy(f->items[i]->watch);
        f->items[i]->watch = NULL;
    }
}

void folder_destroy(struct folder *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->count; i++)
        mem_free(f->items[i]);
    mem_free(f->items);
    mem_free(f);
}

static struct item *find(struct folder *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++) {
        if (strcmp(f->items[i]->name, name) == 0)
            return f->items[i];
    }
    return NULL;
}

static struct item *make(struct folder *f, const char *name)
{
    if (f->count >= LIMIT_ADAPTERS || !VEC_RESERVE(f->items, f->cap, f->count + 1))
        return NULL;
    struct item *it = mem_calloc(1, sizeof *it);
    if (!it)
        return NULL;
    snprintf(it->name, sizeof it->name, "%s", name);
    f->items[f->count++] = it;
    return it;
}

static void take_stamp(const struct file_root *dir, struct stamp *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < STAMP_FILES; i++) {
        struct err ignored;
        if (file_stamp_of(dir, stamp_names[i], &out->files[i], &ignored) != STATUS_OK)
            memset(&out->files[i], 0, sizeof out->files[i]);
    }
}

static bool equal(const struct stamp *a, const struct stamp *b)
{
    bool same = true;
    for (size_t i = 0; i < STAMP_FILES; i++)
        same &= file_stamp_equal(&a->files[i], &b->files[i]);
    return same;
}

/* ---- what is there ---- */

/* What lies in the root for an item. */
static void name_entry(const struct item *it, char out[LIMIT_NAME_BYTES + sizeof GGUF])
{
    snprintf(out, LIMIT_NAME_BYTES + sizeof GGUF, "%s%s", it->name, it->gguf ? GGUF : "");
}

/* An item of this name that this scan has not found yet: of several the first counts, a directory
 * before a file beside it. NULL: it has, or there is no memory. */
static struct item *to_look_at(struct folder *f, const char *name)
{
    struct item *it = find(f, name);
    if (!it)
        it = make(f, name);
    return it && it->scan == f->scan && it->candidate ? NULL : it;
}

static void note(struct folder *f, struct item *it, int root, const struct stamp *stamp,
                 int64_t now)
{
    if (!equal(stamp, &it->seen) || it->root != root) {
        it->seen = *stamp;
        it->seen_ns = now;
    }
    it->root = root;
    it->scan = f->scan;
}

/* A link that leads nowhere or outside: what it would be is refused. */
static void look_at_link(struct folder *f, int root, const char *name, const struct err *why,
                         int64_t now)
{
    struct item *it = to_look_at(f, name);
    if (!it)
        return;
    struct stamp none = {0};
    if (!it->has_failed || !equal(&it->failed, &none)) {
        it->seen_ns = it->failed_ns = now;
        it->told = false;
    }
    it->seen = it->failed = none;
    it->has_failed = it->candidate = true;
    it->why = *why;
    it->root = root;
    it->scan = f->scan;
    it->inode = 0;
    it->gguf = false;
}

static bool is_link(const struct file_root *top, const char *entry)
{
    struct stat st;
    return fstatat(top->fd, entry, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

/* <name>.gguf. */
static void look_at_file(struct folder *f, int root, const struct file_root *top, const char *entry,
                         const char *name, int64_t now)
{
    struct err e;
    struct stamp stamp = {0};
    if (file_stamp_of(top, entry, &stamp.files[0], &e) != STATUS_OK) {
        if (is_link(top, entry))
            look_at_link(f, root, name, &e, now);
        return;
    }
    struct item *it = to_look_at(f, name);
    if (!it)
        return;
    note(f, it, root, &stamp, now);
    it->candidate = it->gguf = true;
    it->inode = 0;
}

static void look_at(struct folder *f, int root, const struct file_root *top, const char *name,
                    int64_t now)
{
    char beside[LIMIT_NAME_BYTES + sizeof GGUF];
    struct file_root dir;
    struct err e;
    struct stat st;
    if (file_root_open_in(top, name, &dir, &e) != STATUS_OK) {
        if (is_link(top, name) && file_stem(name, GGUF) == 0)
            look_at_link(f, root, name, &e, now);
        return;
    }
    bool candidate = file_exists(&dir, stamp_names[0]);
    snprintf(beside, sizeof beside, "%s" GGUF, name);
    struct item *it = candidate || !file_exists(top, beside) ? to_look_at(f, name) : NULL;
    if (it && fstat(dir.fd, &st) == 0) {
        struct stamp stamp;
        take_stamp(&dir, &stamp);
        note(f, it, root, &stamp, now);
        it->candidate = candidate;
        it->gguf = false;
        it->inode = (uint64_t)st.st_ino;
    }
    file_root_close(&dir);
}

/* Directories, or the files beside them. */
static void look_at_all(struct folder *f, int root, const struct file_root *top, DIR *d, bool files,
                        int64_t now)
{
    rewinddir(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        char name[LIMIT_NAME_BYTES + 2];
        size_t stem = file_stem(entry->d_name, GGUF);
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(files ? stem : strlen(entry->d_name)),
                 entry->d_name);
        if (files && stem > 0 && api_adapter_is_name(name))
            look_at_file(f, root, top, entry->d_name, name, now);
        else if (!files && api_adapter_is_name(name))
            look_at(f, root, top, entry->d_name, now);
        else if (f->first && (!files || stem > 0))
            LOG_WARN(LOG_WHAT("no name of an adapter, left alone"),
                     LOG_STR("path", f->roots->items[root].path), LOG_STR("name", entry->d_name));
    }
}

static void look_into(struct folder *f, int root, int64_t now)
{
    const char *path = f->roots->items[root].path;
    struct file_root top;
    struct err e;
    struct stat st;
    f->root_inodes[root] = 0;
    enum status opened = file_root_open(path, true, &top, &e);
    DIR *d = opened == STATUS_OK ? opendir(path) : NULL;
    if (!d) {
        if (!f->root_told[root])
            LOG_WARN(LOG_WHAT("an adapter directory cannot be read, what was in it stays"),
                     LOG_STR("path", path));
        f->root_told[root] = true;
    } else {
        f->root_told[root] = false;
        f->root_inodes[root] = fstat(top.fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
    }
    if (d) {
        look_at_all(f, root, &top, d, false, now);
        look_at_all(f, root, &top, d, true, now);
        closedir(d);
    }
    if (opened == STATUS_OK)
        file_root_close(&top);
}

/* ---- what is to be done ---- */

static void tell(struct folder *f, struct item *it)
{
    char path[ADAPTER_PATH_BYTES * 2];
    char entry[LIMIT_NAME_BYTES + sizeof GGUF];
    name_entry(it, entry);
    snprintf(path, sizeof path, "%s/%s", f->roots->items[it->root].path, entry);
    it->told = true;
    LOG_ERROR(LOG_WHAT("adapter refused"), LOG_STR("adapter", it->name), LOG_STR("path", path),
              LOG_STR("why", it->why.msg));
}

static void try_to_serve(struct folder *f, struct item *it, int64_t now)
{
    struct stamp tried = it->seen;
    struct err e = {0};
    char entry[LIMIT_NAME_BYTES + sizeof GGUF];
    name_entry(it, entry);
    enum status st = f->h.add(f->h.ctx, it->name, f->roots->items[it->root].path, entry, &e);
    it->has_served = it->has_served || st == STATUS_OK;
    if (st == STATUS_OK) {
        it->served = tried;
        it->has_failed = false;
        return;
    }
    it->has_failed = true;
    it->failed = tried;
    it->failed_ns = now;
    it->told = false;
    it->why = e;
    if (f->first)
        tell(f, it);
    else
        f->unsettled = true;
}

static void judge_present(struct folder *f, struct item *it, int64_t now)
{
    it->gone_ns = 0;
    if (f->h.taken(f->h.ctx, it->name)) {
        it->has_served = it->has_failed = false;
        return;
    }
    if (it->has_hidden && equal(&it->hidden, &it->seen))
        return;
    it->has_hidden = false;
    if (it->has_served && equal(&it->served, &it->seen))
        return;
    if (it->has_failed && equal(&it->failed, &it->seen)) {
        if (!it->told && (f->first || now - it->failed_ns >= TELL_NS))
            tell(f, it);
        f->unsettled |= !it->told;
        return;
    }
    if (f->first || now - it->seen_ns >= SETTLE_NS)
        try_to_serve(f, it, now);
    else
        f->unsettled = true;
}

static void judge_gone(struct folder *f, struct item *it, int64_t now)
{
    if (it->gone_ns == 0)
        it->gone_ns = now;
    if (it->has_served && now - it->gone_ns < SETTLE_NS) {
        f->unsettled = true;
        return;
    }
    if (it->has_served || it->has_failed)
        f->h.remove(f->h.ctx, it->name);
    it->has_served = it->has_failed = it->has_hidden = false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct item *const *)a)->name, (*(struct item *const *)b)->name);
}

bool folder_scan(struct folder *f, bool first)
{
    int64_t now = clock_now_ns();
    f->scan++;
    f->first = first;
    f->unsettled = false;
    for (int i = 0; i < f->roots->count; i++) {
        if (f->roots->items[i].live)
            look_into(f, i, now);
    }
    if (f->count > 1)
        qsort(f->items, f->count, sizeof *f->items, by_name);
    for (size_t i = 0; i < f->count; i++) {
        struct item *it = f->items[i];
        if (it->scan == f->scan && it->candidate)
            judge_present(f, it, now);
        else if (it->scan == f->scan || f->root_inodes[it->root]) /* else the disk may come back */
            judge_gone(f, it, now);
    }
    return f->unsettled;
}

void folder_hide(struct folder *f, const char *name)
{
    struct item *it = find(f, name);
    if (!it)
        return;
    it->has_hidden = true;
    it->hidden = it->seen;
    it->has_served = it->has_failed = false;
}

/* ---- watches ---- */

static void watch_item(struct folder *f, struct loop *l, struct item *it)
{
    char path[ADAPTER_PATH_BYTES * 2];
    bool wanted = it->scan == f->scan && it->inode != 0;
    if (it->watch && wanted && it->watch_inode == it->inode)
        return;
    loop_dir_destroy(it->watch);
    it->watch = NULL;
    if (!wanted)
        return;
    snprintf(path, sizeof path, "%s/%s", f->roots->items[it->root].path, it->name);
    it->watch = loop_dir_create(l, path, f->h.changed, f->h.ctx);
    it->watch_inode = it->inode;
}

void folder_watch(struct folder *f, struct loop *l)
{
    for (int i = 0; i < f->roots->count; i++) {
        if (!f->roots->items[i].live || (f->watches[i] && f->watch_inodes[i] == f->root_inodes[i]))
            continue;
        loop_dir_destroy(f->watches[i]);
        f->watches[i] = f->root_inodes[i]
                            ? loop_dir_create(l, f->roots->items[i].path, f->h.changed, f->h.ctx)
                            : NULL;
        f->watch_inodes[i] = f->root_inodes[i];
    }
    size_t kept = 0;
    for (size_t i = 0; i < f->count; i++) {
        struct item *it = f->items[i];
        watch_item(f, l, it);
        if (it->scan == f->scan || it->has_served)
            f->items[kept++] = it;
        else
            mem_free(it);
    }
    f->count = kept;
}
