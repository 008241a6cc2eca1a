#include "server/hub_remove.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "server/hub_store.h"
#include "server/hub_walk.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
#define USE_LOCK  "chorus.lock"

struct removal {
    const struct hub_id *id;
    const char *commit;
    char folder[HUB_NAME_BYTES + 16];
    int cache_fd;
    int locks_fd;
    int use_fd;
    int repo_fd;
    uint64_t freed;
    enum status st; /* of a visit */
    struct err *e;
};

static enum status failed(struct removal *r, const char *what)
{
    r->st = err_set(r->e, STATUS_IO, NULL, "cannot remove %s: %s", what, strerror(errno));
    return r->st;
}

/* ---- trees ---- */

/* A file that another name (a hard link) still holds frees nothing. */
static bool remove_entry(void *ctx, const struct hub_entry *entry)
{
    struct removal *r = ctx;
    struct stat st;
    bool counts = !entry->directory &&
                  fstatat(entry->at, entry->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                  S_ISREG(st.st_mode) && st.st_nlink == 1;
    if (unlinkat(entry->at, entry->name, entry->directory ? AT_REMOVEDIR : 0) != 0 &&
        errno != ENOENT) {
        failed(r, entry->path);
        return false;
    }
    r->freed += counts ? (uint64_t)st.st_size : 0;
    return true;
}

static enum status remove_tree(struct removal *r, int at, const char *name)
{
    enum status st = hub_walk_at(at, name, remove_entry, r, r->e);
    if (st == STATUS_OK)
        st = r->st;
    if (st == STATUS_OK && unlinkat(at, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        st = failed(r, name);
    return st;
}

/* ---- who else uses it ---- */

static bool check_lock(void *ctx, const struct hub_entry *entry)
{
    struct removal *r = ctx;
    size_t n = strlen(entry->name);
    int fd;
    if (entry->directory || strcmp(entry->name, USE_LOCK) == 0 || n < 5 ||
        strcmp(entry->name + n - 5, ".lock") != 0)
        return true;
    r->st = hub_store_lock(r->locks_fd, entry->name, true, &fd, r->e);
    if (r->st == STATUS_OK)
        close(fd);
    return r->st == STATUS_OK;
}

/* Whoever downloads holds a lock: a pull of ours the first, huggingface_hub one of a blob. */
static enum status take_locks(struct removal *r)
{
    enum status st = hub_store_locks(r->cache_fd, r->folder, &r->locks_fd, r->e);
    if (st == STATUS_OK)
        st = hub_store_lock(r->locks_fd, USE_LOCK, true, &r->use_fd, r->e);
    if (st == STATUS_OK)
        st = hub_walk(r->locks_fd, check_lock, r, r->e);
    if (st == STATUS_OK)
        st = r->st;
    if (st == STATUS_BUSY)
        return err_set(r->e, st, NULL, "a download into %s is running; nothing was removed",
                       r->id->name);
    return st;
}

/* ---- one revision ---- */

struct blobs {
    char (*list)[HUB_HASH_BYTES]; /* owned */
    size_t count;
    size_t cap;
    bool failed;
};

struct sorting {
    const char *commit;
    struct blobs mine;
    struct blobs others;
    bool more; /* there are other snapshots */
};

/* snapshots/<commit>/<file> -> .../blobs/<etag> */
static bool sort_link(void *ctx, const struct hub_entry *entry)
{
    struct sorting *s = ctx;
    char target[PATH_MAX];
    size_t n = strcspn(entry->path, "/");
    bool mine = strlen(s->commit) == n && strncmp(entry->path, s->commit, n) == 0;
    struct blobs *b = mine ? &s->mine : &s->others;
    s->more = s->more || !mine;
    ssize_t k =
        entry->directory ? -1 : readlinkat(entry->at, entry->name, target, sizeof target - 1);
    if (k < 0)
        return true;
    target[k] = '\0';
    char *slash = strrchr(target, '/');
    if (!slash || slash - target < 5 || strncmp(slash - 5, "blobs", 5) != 0 ||
        strlen(slash + 1) >= HUB_HASH_BYTES || !hub_hash_ok(slash + 1))
        return true;
    if (!VEC_RESERVE(b->list, b->cap, b->count + 1)) {
        b->failed = true;
        return false;
    }
    snprintf(b->list[b->count++], HUB_HASH_BYTES, "%s", slash + 1);
    return true;
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static enum status remove_blobs(struct removal *r, struct sorting *s)
{
    int fd = openat(r->repo_fd, "blobs", DIR_FLAGS);
    if (fd < 0)
        return STATUS_OK;
    if (s->others.count > 0)
        qsort(s->others.list, s->others.count, sizeof *s->others.list, compare);
    for (size_t i = 0; i < s->mine.count && r->st == STATUS_OK; i++) {
        const char *etag = s->mine.list[i];
        struct hub_entry entry = {.at = fd, .name = etag, .path = etag};
        if (s->others.count == 0 ||
            !bsearch(etag, s->others.list, s->others.count, sizeof *s->others.list, compare))
            remove_entry(r, &entry);
    }
    close(fd);
    return r->st;
}

static bool remove_ref(void *ctx, const struct hub_entry *entry)
{
    struct removal *r = ctx;
    char text[HUB_HASH_BYTES + 8];
    if (entry->directory)
        return true;
    int fd = openat(entry->at, entry->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    while (n > 0 && strchr(" \r\n", text[n - 1]))
        n--;
    if (n > 0 && (size_t)n == strlen(r->commit) && memcmp(text, r->commit, (size_t)n) == 0 &&
        unlinkat(entry->at, entry->name, 0) != 0)
        failed(r, entry->path);
    return r->st == STATUS_OK;
}

/* What huggingface_hub notes of a commit: files that it does not have, the list of its files. */
static enum status remove_notes(struct removal *r)
{
    char path[HUB_HASH_BYTES + 16];
    int fd = openat(r->repo_fd, ".no_exist", DIR_FLAGS);
    enum status st = fd >= 0 ? remove_tree(r, fd, r->commit) : STATUS_OK;
    if (fd >= 0)
        close(fd);
    snprintf(path, sizeof path, "trees/%s.json", r->commit);
    unlinkat(r->repo_fd, path, 0);
    return st;
}

/* Refs first, blobs last: whatever ends us in between leaves a cache that is whole. */
static enum status remove_revision(struct removal *r, bool *last)
{
    struct sorting s = {.commit = r->commit};
    int fd = openat(r->repo_fd, "snapshots", DIR_FLAGS);
    if (fd < 0)
        return failed(r, "snapshots");
    enum status st = hub_walk(fd, sort_link, &s, r->e);
    if (st == STATUS_OK && (s.mine.failed || s.others.failed))
        st = err_set(r->e, STATUS_NO_MEMORY, NULL, "out of memory");
    *last = !s.more;
    if (st == STATUS_OK && s.more) {
        st = hub_walk_at(r->repo_fd, "refs", remove_ref, r, r->e);
        if (st == STATUS_OK)
            st = r->st;
        if (st == STATUS_OK)
            st = remove_tree(r, fd, r->commit);
        if (st == STATUS_OK)
            st = remove_blobs(r, &s);
        if (st == STATUS_OK)
            st = remove_notes(r);
    }
    mem_free(s.mine.list);
    mem_free(s.others.list);
    close(fd);
    return st;
}

static enum status remove_repository(struct removal *r)
{
    enum status st = remove_tree(r, r->cache_fd, r->folder);
    uint64_t freed = r->freed;
    int locks = openat(r->cache_fd, ".locks", DIR_FLAGS);
    if (locks >= 0) {
        if (st == STATUS_OK)
            st = remove_tree(r, locks, r->folder);
        close(locks);
    }
    r->freed = freed; /* locks are empty files */
    return st;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

enum status hub_remove(const char *cache, const struct hub_id *id, const char *commit,
                       uint64_t *freed, struct err *e)
{
    struct removal r = {.id = id, .commit = commit, .e = e};
    r.locks_fd = r.use_fd = r.repo_fd = -1;
    hub_folder_name(id, r.folder);
    errno = ENOENT;
    r.cache_fd = *cache ? open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    r.repo_fd = r.cache_fd >= 0 ? openat(r.cache_fd, r.folder, DIR_FLAGS) : -1;
    enum status st = STATUS_OK;
    if (r.repo_fd < 0 && (errno == ELOOP || errno == ENOTDIR))
        st = err_set(e, STATUS_FORBIDDEN, NULL,
                     "%s/%s is a link and not followed; remove what it leads to, then the link",
                     cache, r.folder);
    else if (r.repo_fd < 0)
        st = err_set(e, STATUS_NOT_FOUND, NULL, "%s is not in the Hugging Face cache (%s)",
                     id->name, cache);
    if (st == STATUS_OK)
        st = take_locks(&r);
    bool whole = !commit;
    if (st == STATUS_OK && commit)
        st = remove_revision(&r, &whole);
    if (st == STATUS_OK && whole)
        st = remove_repository(&r);
    *freed = r.freed;
    close_fd(r.repo_fd);
    close_fd(r.use_fd);
    close_fd(r.locks_fd);
    close_fd(r.cache_fd);
    return st;
}
