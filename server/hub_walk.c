#include "server/hub_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct walk {
    DIR *dirs[HUB_WALK_DEPTH];
    size_t begin[HUB_WALK_DEPTH]; /* of the name in `path` that each level has entered last */
    int depth;                    /* levels that are open */
    char path[HUB_WALK_BYTES];
    struct err *e;
};

static enum status open_level(struct walk *w, int at, const char *name, size_t begin)
{
    if (w->depth == HUB_WALK_DEPTH)
        return err_set(w->e, STATUS_LIMIT, NULL, "%s: folders are nested too deeply", w->path);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        enum status st = err_set(w->e, STATUS_IO, NULL, "cannot read %s: %s",
                                 *w->path ? w->path : name, strerror(errno));
        if (fd >= 0)
            close(fd);
        return st;
    }
    w->begin[w->depth] = begin;
    w->dirs[w->depth++] = d;
    return STATUS_OK;
}

static bool is_directory(int at, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return fstatat(at, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static bool visit_left(struct walk *w, bool (*visit)(void *ctx, const struct hub_entry *entry),
                       void *ctx)
{
    size_t begin = w->begin[w->depth]; /* of the level that was just closed */
    struct hub_entry shown = {.at = dirfd(w->dirs[w->depth - 1]),
                              .name = w->path + begin,
                              .path = w->path,
                              .directory = true};
    bool on = visit(ctx, &shown);
    w->path[begin > 0 ? begin - 1 : 0] = '\0';
    return on;
}

enum status hub_walk(int fd, bool (*visit)(void *ctx, const struct hub_entry *entry), void *ctx,
                     struct err *e)
{
    struct walk w = {.e = e};
    enum status st = open_level(&w, fd, ".", 0);
    bool on = true;
    while (st == STATUS_OK && on && w.depth > 0) {
        struct dirent *entry = readdir(w.dirs[w.depth - 1]);
        if (!entry) {
            closedir(w.dirs[--w.depth]);
            on = w.depth == 0 || visit_left(&w, visit, ctx);
            continue;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        size_t used = strlen(w.path);
        size_t begin = used + (used > 0);
        int at = dirfd(w.dirs[w.depth - 1]);
        int n =
            snprintf(w.path + used, sizeof w.path - used, "%s%s", used ? "/" : "", entry->d_name);
        if (n < 0 || (size_t)n >= sizeof w.path - used) {
            st = err_set(e, STATUS_LIMIT, NULL, "a path is too long");
        } else if (is_directory(at, entry)) {
            st = open_level(&w, at, entry->d_name, begin);
        } else {
            struct hub_entry shown = {.at = at, .name = w.path + begin, .path = w.path};
            on = visit(ctx, &shown);
            w.path[used] = '\0';
        }
    }
    while (w.depth > 0)
        closedir(w.dirs[--w.depth]);
    return st;
}

enum status hub_walk_at(int at, const char *name,
                        bool (*visit)(void *ctx, const struct hub_entry *entry), void *ctx,
                        struct err *e)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return STATUS_OK;
    enum status st = hub_walk(fd, visit, ctx, e);
    close(fd);
    return st;
}
