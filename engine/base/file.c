#include "engine/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/mem.h"

#define FD_LINK       "/proc/self/fd/%d"
#define FD_LINK_BYTES 32

/* The text of errno without the static buffer of strerror. */
static const char *reason(int err, char *buf, size_t n)
{
    return strerror_r(err, buf, n);
}

static enum status open_error(int err, const char *name, struct err *e)
{
    char buf[128];
    if (err == ENOENT || err == ENOTDIR)
        return err_set(e, STATUS_NOT_FOUND, name, "%s: no such file", name);
    if (err == EXDEV || err == ELOOP)
        return err_set(e, STATUS_BAD_FILE, name, "%s: leads outside its directory", name);
    return err_set(e, STATUS_IO, name, "%s: cannot be opened: %s", name,
                   reason(err, buf, sizeof buf));
}

static int open_by_rules(int dir, const char *name, int flags, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)flags, .resolve = resolve | RESOLVE_NO_MAGICLINKS};
    int fd;
    do
        fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
    while (fd < 0 && errno == EAGAIN); /* a rename raced with the walk */
    if (fd < 0 && errno == ENOSYS && resolve == 0)
        fd = openat(dir, name, flags);
    return fd;
}

/* Where an open file lies, without links. False: unknown. */
static bool place_of(int fd, char out[PATH_MAX])
{
    char link[FD_LINK_BYTES];
    snprintf(link, sizeof link, FD_LINK, fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n <= 0)
        return false;
    out[n] = '\0';
    return out[0] == '/';
}

static bool lies_in(int fd, int dir)
{
    char place[PATH_MAX];
    char top[PATH_MAX];
    if (!place_of(fd, place) || !place_of(dir, top))
        return false;
    size_t n = strlen(top);
    return strncmp(place, top, n) == 0 && (place[n] == '/' || top[n - 1] == '/');
}

/* For links that the kernel's own rule refuses although they may come back: absolute ones, and in a
 * folder of a root those to other folders; and for every file where there is no such rule (an old
 * kernel, or a sandbox that forbids openat2, as systemd's RestrictSUIDSGID= does). What they lead
 * to is held without being opened, looked at, and only then opened. */
static int open_inside(const struct file_root *root, const char *name, int flags)
{
    char link[FD_LINK_BYTES];
    int fd = -1;
    int held = open_by_rules(root->fd, name, O_PATH | O_CLOEXEC, 0);
    if (held < 0)
        return -1;
    if (lies_in(held, root->top_fd >= 0 ? root->top_fd : root->fd)) {
        snprintf(link, sizeof link, FD_LINK, held);
        fd = open(link, flags);
    }
    close(held);
    if (fd < 0)
        errno = EXDEV;
    return fd;
}

static int open_under(const struct file_root *root, const char *name, int flags)
{
    flags |= O_RDONLY | O_CLOEXEC | O_NOCTTY;
    if (!root->beneath)
        return openat(root->fd, name, flags);
    int fd = open_by_rules(root->fd, name, flags, RESOLVE_BENEATH);
    bool refused = fd < 0 && errno == EXDEV;
    if (!refused && (fd >= 0 || errno != ENOSYS))
        return fd;
    fd = open_inside(root, name, flags);
    if (fd < 0 && refused)
        errno = EXDEV;
    return fd;
}

static enum status root_from(int fd, const char *name, bool beneath, struct file_root *out,
                             struct err *e)
{
    if (fd < 0 && errno == ENOENT)
        return err_set(e, STATUS_NOT_FOUND, name, "%s: no such directory", name);
    if (fd < 0 && errno == ENOTDIR)
        return err_set(e, STATUS_BAD_FILE, name, "%s: not a directory", name);
    if (fd < 0)
        return open_error(errno, name, e);
    *out = (struct file_root){.fd = fd, .top_fd = -1, .beneath = beneath};
    return STATUS_OK;
}

enum status file_root_open(const char *path, bool beneath, struct file_root *out, struct err *e)
{
    return root_from(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), path, beneath, out, e);
}

enum status file_root_open_in(const struct file_root *parent, const char *name,
                              struct file_root *out, struct err *e)
{
    struct file_root r;
    enum status st = root_from(open_under(parent, name, O_DIRECTORY), name, parent->beneath, &r, e);
    if (st != STATUS_OK)
        return st;
    r.top_fd = fcntl(parent->top_fd >= 0 ? parent->top_fd : parent->fd, F_DUPFD_CLOEXEC, 0);
    if (r.top_fd < 0) {
        st = open_error(errno, name, e);
        file_root_close(&r);
        return st;
    }
    *out = r;
    return STATUS_OK;
}

void file_root_close(struct file_root *root)
{
    if (root->fd >= 0)
        close(root->fd);
    if (root->top_fd >= 0)
        close(root->top_fd);
    root->fd = root->top_fd = -1;
}

static int64_t nanoseconds(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

static void stamp_from(const struct stat *s, struct file_stamp *out)
{
    int64_t m = nanoseconds(&s->st_mtim);
    int64_t c = nanoseconds(&s->st_ctim);
    *out = (struct file_stamp){(uint64_t)s->st_dev, (uint64_t)s->st_ino, (uint64_t)s->st_size,
                               m > c ? m : c};
}

enum status file_open(const struct file_root *root, const char *name, int *fd,
                      struct file_stamp *stamp, struct err *e)
{
    int f = open_under(root, name, O_NONBLOCK); /* a fifo must not wait for a writer */
    if (f < 0)
        return open_error(errno, name, e);
    struct stat s;
    if (fstat(f, &s) != 0) {
        close(f);
        return open_error(errno, name, e);
    }
    if (!S_ISREG(s.st_mode)) {
        close(f);
        return err_set(e, STATUS_BAD_FILE, name, "%s: not a regular file", name);
    }
    if (stamp)
        stamp_from(&s, stamp);
    *fd = f;
    return STATUS_OK;
}

enum status file_stamp_of(const struct file_root *root, const char *name, struct file_stamp *out,
                          struct err *e)
{
    int fd;
    enum status st = file_open(root, name, &fd, out, e);
    if (st == STATUS_OK)
        close(fd);
    return st;
}

bool file_stamp_equal(const struct file_stamp *a, const struct file_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->changed_ns == b->changed_ns;
}

bool file_exists(const struct file_root *root, const char *name)
{
    struct file_stamp s;
    return file_stamp_of(root, name, &s, NULL) == STATUS_OK;
}

size_t file_stem(const char *name, const char *ending)
{
    size_t n = strlen(name), k = strlen(ending);
    return n > k && strcmp(name + n - k, ending) == 0 ? n - k : 0;
}

enum status file_pread(int fd, const char *name, void *out, size_t n, uint64_t at, struct err *e)
{
    char buf[128];
    char *p = out;
    while (n > 0) {
        ssize_t got = pread(fd, p, n < SSIZE_MAX ? n : SSIZE_MAX, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(e, STATUS_IO, name, "%s: cannot be read: %s", name,
                           reason(errno, buf, sizeof buf));
        if (got == 0)
            return err_set(e, STATUS_BAD_FILE, name, "%s: ended while it was being read", name);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return STATUS_OK;
}

enum status file_read(const struct file_root *root, const char *name, size_t max_bytes, char **out,
                      size_t *n, struct file_stamp *stamp, struct err *e)
{
    int fd;
    struct file_stamp s;
    enum status st = file_open(root, name, &fd, &s, e);
    if (st != STATUS_OK)
        return st;
    char *text = NULL;
    if (s.bytes > max_bytes) {
        st = err_set(e, STATUS_LIMIT, name, "%s: %llu bytes, at most %zu are read", name,
                     (unsigned long long)s.bytes, max_bytes);
        goto close_fd;
    }
    text = mem_alloc((size_t)s.bytes + 1, 1);
    if (!text) {
        st = err_set(e, STATUS_NO_MEMORY, name, "%s: out of memory", name);
        goto close_fd;
    }
    st = file_pread(fd, name, text, (size_t)s.bytes, 0, e);
    text[st == STATUS_OK ? s.bytes : 0] = '\0';
close_fd:
    close(fd);
    if (st != STATUS_OK) {
        mem_free(text);
        return st;
    }
    if (stamp)
        *stamp = s;
    *out = text;
    *n = (size_t)s.bytes;
    return STATUS_OK;
}
