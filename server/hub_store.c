#include "server/hub_store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DIR_FLAGS  (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define USE_LOCK   "chorus.lock"
#define LOCK_MODE  0664 /* as huggingface_hub: a group may share the cache */
#define NAME_BYTES 128  /* <etag>.incomplete */

static enum status failed(struct err *e, const char *what, const char *name)
{
    if (errno == ENOSPC || errno == EDQUOT)
        return err_set(e, STATUS_NO_ROOM, name, "the disk of the Hugging Face cache is full");
    return err_set(e, STATUS_IO, name, "cannot %s %s in the Hugging Face cache: %s", what, name,
                   strerror(errno));
}

/* A directory below an open one, made if need be; -1 with errno. */
static int make_dir(int at, const char *name, int flags)
{
    if (mkdirat(at, name, 0777) != 0 && errno != EEXIST)
        return -1;
    return openat(at, name, DIR_FLAGS | flags);
}

/* The cache itself and what it lies in, as mkdir -p. */
static int make_cache(const char *path)
{
    char part[HUB_PATH_BYTES];
    int n = snprintf(part, sizeof part, "%s", path);
    if (n <= 0 || (size_t)n >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (char *c = part + 1; *c; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST && errno != EROFS)
            return -1;
        *c = '/';
    }
    return make_dir(AT_FDCWD, part, 0);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

enum status hub_store_locks(int cache_fd, const char *folder, int *out, struct err *e)
{
    int locks = make_dir(cache_fd, ".locks", O_NOFOLLOW);
    int fd = locks >= 0 ? make_dir(locks, folder, O_NOFOLLOW) : -1;
    enum status st = fd >= 0 ? STATUS_OK : failed(e, "make", ".locks");
    close_fd(&locks);
    if (st == STATUS_OK)
        *out = fd;
    return st;
}

/* True when the name still leads to the open file: somebody may have removed it meanwhile. */
static bool same_file(int fd, int at, const char *name)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && fstatat(at, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
           a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

enum status hub_store_lock(int locks_fd, const char *name, bool alone, int *out, struct err *e)
{
    for (;;) {
        int fd = openat(locks_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, LOCK_MODE);
        if (fd < 0)
            return failed(e, "open", name);
        if (flock(fd, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
            enum status st = errno == EWOULDBLOCK || errno == EINTR
                                 ? err_set(e, STATUS_BUSY, name, "%s is held", name)
                                 : failed(e, "lock", name);
            close(fd);
            return st;
        }
        if (same_file(fd, locks_fd, name)) {
            *out = fd;
            return STATUS_OK;
        }
        close(fd);
    }
}

enum status hub_store_open(const char *cache, const struct hub_id *id, struct hub_store *out,
                           struct err *e)
{
    static const char *const parts[] = {"blobs", "refs", "snapshots"};
    struct hub_store s = {.repo_fd = -1, .blobs_fd = -1, .locks_fd = -1, .use_fd = -1};
    char folder[HUB_NAME_BYTES + 16];
    hub_folder_name(id, folder);
    if (!*cache)
        return err_set(e, STATUS_INVALID, NULL, "neither HF_HUB_CACHE nor HOME is set");
    int cache_fd = make_cache(cache);
    if (cache_fd < 0)
        return err_set(e, STATUS_IO, NULL, "cannot open the Hugging Face cache %s: %s", cache,
                       strerror(errno));
    enum status st = hub_store_locks(cache_fd, folder, &s.locks_fd, e);
    if (st == STATUS_OK)
        st = hub_store_lock(s.locks_fd, USE_LOCK, false, &s.use_fd, e);
    if (st == STATUS_BUSY)
        err_set(e, st, NULL, "%s is being removed at this moment", id->name);
    if (st == STATUS_OK && (s.repo_fd = make_dir(cache_fd, folder, 0)) < 0)
        st = failed(e, "make", folder);
    for (size_t i = 0; i < 3 && st == STATUS_OK; i++) {
        int fd = make_dir(s.repo_fd, parts[i], O_NOFOLLOW);
        if (fd < 0)
            st = failed(e, "make", parts[i]);
        else if (i == 0)
            s.blobs_fd = fd;
        else
            close(fd);
    }
    close(cache_fd);
    if (st == STATUS_OK)
        *out = s;
    else
        hub_store_close(&s);
    return st;
}

void hub_store_close(struct hub_store *s)
{
    close_fd(&s->blobs_fd);
    close_fd(&s->repo_fd);
    close_fd(&s->use_fd);
    close_fd(&s->locks_fd);
}

/* ---- blobs ---- */

static void part_name(const char *etag, char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, "%s.incomplete", etag);
}

/* Follows links: huggingface_hub may keep the bytes of several repositories in one place. */
bool hub_store_has(const struct hub_store *s, const char *etag, uint64_t bytes)
{
    struct stat st;
    return fstatat(s->blobs_fd, etag, &st, 0) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == bytes;
}

uint64_t hub_store_part_bytes(const struct hub_store *s, const char *etag)
{
    struct stat st;
    char name[NAME_BYTES];
    part_name(etag, name);
    if (fstatat(s->blobs_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return 0;
    return (uint64_t)st.st_size;
}

uint64_t hub_store_room(const struct hub_store *s)
{
    struct statvfs v;
    return fstatvfs(s->blobs_fd, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : UINT64_MAX;
}

enum status hub_part_open(const struct hub_store *s, const char *etag,
                          const struct hub_waiter *waiter, struct hub_part *out, struct err *e)
{
    char name[NAME_BYTES];
    struct hub_part p = {.fd = -1, .lock_fd = -1};
    struct stat st;
    enum status status;
    snprintf(p.etag, sizeof p.etag, "%s", etag);
    snprintf(name, sizeof name, "%s.lock", etag);
    while ((status = hub_store_lock(s->locks_fd, name, true, &p.lock_fd, e)) == STATUS_BUSY) {
        if (!waiter->wait(waiter->ctx, "another download of this file is running"))
            return err_set(e, STATUS_CANCELLED, NULL, "stopped");
    }
    if (status != STATUS_OK)
        return status;
    part_name(etag, name);
    p.fd = openat(s->blobs_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (p.fd < 0 || fstat(p.fd, &st) != 0) {
        status = failed(e, "open", name);
    } else if (!S_ISREG(st.st_mode)) {
        status = err_set(e, STATUS_IO, name, "%s in the Hugging Face cache is no file", name);
    } else {
        p.bytes = (uint64_t)st.st_size;
        *out = p;
        return STATUS_OK;
    }
    hub_part_close(&p);
    return status;
}

enum status hub_part_append(struct hub_part *p, const void *data, size_t n, struct err *e)
{
    const char *at = data;
    while (n > 0) {
        ssize_t k = pwrite(p->fd, at, n, (off_t)p->bytes);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return failed(e, "write", p->etag);
        at += k;
        n -= (size_t)k;
        p->bytes += (uint64_t)k;
    }
    return STATUS_OK;
}

enum status hub_part_clear(struct hub_part *p, struct err *e)
{
    if (ftruncate(p->fd, 0) != 0)
        return failed(e, "empty", p->etag);
    p->bytes = 0;
    return STATUS_OK;
}

void hub_part_drop(const struct hub_store *s, struct hub_part *p)
{
    char name[NAME_BYTES];
    part_name(p->etag, name);
    unlinkat(s->blobs_fd, name, 0);
    p->bytes = 0;
}

/* Synced first: after a power cut a blob of that name must hold its bytes. */
enum status hub_part_finish(const struct hub_store *s, struct hub_part *p, struct err *e)
{
    char name[NAME_BYTES];
    part_name(p->etag, name);
    if (fdatasync(p->fd) != 0)
        return failed(e, "sync", name);
    if (renameat(s->blobs_fd, name, s->blobs_fd, p->etag) != 0)
        return failed(e, "rename", name);
    return STATUS_OK;
}

void hub_part_close(struct hub_part *p)
{
    close_fd(&p->fd);
    close_fd(&p->lock_fd);
}

/* ---- links and refs ---- */

/* Refs and links are made in the repository's directory, where nobody looks for either, and renamed
 * into place: a reader of the older one never finds none or half of one. */
static void temp_name(char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, ".chorus.%d", (int)getpid());
}

/* Opens the directory of `path` below `at`, making what is missing; *last is its last part. */
static int open_parent(int at, const char *path, const char **last)
{
    int dir = fcntl(at, F_DUPFD_CLOEXEC, 0);
    const char *slash;
    while (dir >= 0 && (slash = strchr(path, '/'))) {
        char part[NAME_MAX + 1];
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        int next = make_dir(dir, part, O_NOFOLLOW);
        int why = errno;
        close(dir);
        errno = why;
        dir = next;
        path = slash + 1;
    }
    *last = path;
    return dir;
}

static bool link_leads_to(int dir, const char *name, const char *target)
{
    char there[PATH_MAX];
    ssize_t n = readlinkat(dir, name, there, sizeof there);
    return n >= 0 && (size_t)n == strlen(target) && memcmp(there, target, (size_t)n) == 0;
}

enum status hub_store_link(const struct hub_store *s, const char *commit, const char *file,
                           const char *etag, struct err *e)
{
    char path[HUB_PATH_BYTES];
    char target[HUB_PATH_BYTES];
    const char *name;
    int n = snprintf(path, sizeof path, "snapshots/%s/%s", commit, file);
    size_t used = (size_t)snprintf(target, sizeof target, "../..");
    for (const char *c = file; *c; c++) {
        if (*c == '/')
            used += (size_t)snprintf(target + used, sizeof target - used, "/..");
    }
    snprintf(target + used, sizeof target - used, "/blobs/%s", etag);
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(e, STATUS_LIMIT, file, "%s: the name is too long", file);
    int dir = open_parent(s->repo_fd, path, &name);
    if (dir < 0)
        return failed(e, "make the folder of", file);
    enum status st = STATUS_OK;
    char temp[NAME_BYTES];
    temp_name(temp);
    if (!link_leads_to(dir, name, target) &&
        ((unlinkat(s->repo_fd, temp, 0) != 0 && errno != ENOENT) ||
         symlinkat(target, s->repo_fd, temp) != 0 || renameat(s->repo_fd, temp, dir, name) != 0))
        st = failed(e, "link", file);
    close(dir);
    return st;
}

static bool write_all(int fd, const char *text)
{
    size_t n = strlen(text);
    return write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
}

enum status hub_store_ref(const struct hub_store *s, const struct hub_id *id, const char *commit,
                          struct err *e)
{
    char path[HUB_REVISION_BYTES + 8];
    const char *name;
    if (strcmp(id->revision, commit) == 0)
        return STATUS_OK;
    snprintf(path, sizeof path, "refs/%s", id->revision);
    int dir = open_parent(s->repo_fd, path, &name);
    if (dir < 0)
        return failed(e, "make the folder of", path);
    char temp[NAME_BYTES];
    temp_name(temp);
    int fd = openat(s->repo_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    bool ok = fd >= 0 && write_all(fd, commit) && renameat(s->repo_fd, temp, dir, name) == 0;
    enum status st = ok ? STATUS_OK : failed(e, "write", path);
    close_fd(&fd);
    close(dir);
    return st;
}
