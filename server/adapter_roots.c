#include "server/adapter_roots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* realpath hands out memory of the C library; ours is counted. NULL: none, or it is unknown. */
static char *real_path(const char *path, bool *no_memory)
{
    char buf[4096];
    char *found = realpath(path, buf);
    char *copy = found ? mem_strdup(buf) : NULL;
    *no_memory = found && !copy;
    return copy;
}

enum status adapter_roots_add(struct adapter_roots *r, const char *path, bool live, struct err *e)
{
    if (r->count == ADAPTER_ROOTS_MAX)
        return err_set(e, STATUS_LIMIT, "adapters", "more than %d adapter directories",
                       ADAPTER_ROOTS_MAX);
    if (access(path, R_OK | X_OK) != 0)
        return err_set(e, STATUS_IO, "adapters", "cannot read the adapter directory %s: %s", path,
                       strerror(errno));
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    bool no_memory;
    char *real = real_path(path, &no_memory);
    char *copy = no_memory ? NULL : mem_strndup(path, n);
    if (!copy) {
        mem_free(real);
        return out_of_memory(e);
    }
    r->items[r->count++] = (struct adapter_root){.path = copy, .real = real, .live = live};
    return STATUS_OK;
}

void adapter_roots_deinit(struct adapter_roots *r)
{
    for (int i = 0; i < r->count; i++) {
        mem_free(r->items[i].path);
        mem_free(r->items[i].real);
    }
    r->count = 0;
}

static bool has_parent_step(const char *path)
{
    for (const char *at = path; at; at = strchr(at, '/')) {
        at += strspn(at, "/");
        if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0'))
            return true;
    }
    return false;
}

/* What is left of `path` behind `root`; NULL: it does not lie there, or is the root itself. */
static const char *behind(const char *root, const char *path)
{
    size_t n = root ? strlen(root) : 0;
    if (n == 0 || strncmp(path, root, n) != 0 || (path[n] != '/' && root[n - 1] != '/'))
        return NULL;
    const char *rest = path + n;
    rest += strspn(rest, "/");
    return *rest ? rest : NULL;
}

static bool is_there(const char *root, const char *rest)
{
    struct file_root top;
    struct file_root dir;
    struct err ignored;
    if (file_root_open(root, true, &top, &ignored) != STATUS_OK)
        return false;
    bool found = file_root_open_in(&top, rest, &dir, &ignored) == STATUS_OK;
    if (found)
        file_root_close(&dir);
    else
        found = file_exists(&top, rest);
    file_root_close(&top);
    return found;
}

enum status adapter_roots_find(const struct adapter_roots *r, const char *path, const char **root,
                               const char **rest, struct err *e)
{
    size_t n = strlen(path);
    if (n == 0 || n >= ADAPTER_PATH_BYTES)
        return err_set(e, STATUS_INVALID, "path", "'path' must hold 1 to %d bytes",
                       ADAPTER_PATH_BYTES - 1);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f)
            return err_set(e, STATUS_INVALID, "path", "'path' must hold no control characters");
    }
    if (r->count == 0)
        return err_set(e, STATUS_FORBIDDEN, "path",
                       "no adapter directory was configured (--adapters, --adapter-root)");
    bool outside = has_parent_step(path);
    bool inside = path[0] != '/';
    for (int i = 0; i < r->count && !outside; i++) {
        const struct adapter_root *at = &r->items[i];
        const char *found = path;
        if (path[0] == '/')
            found = behind(at->path, path) ? behind(at->path, path) : behind(at->real, path);
        inside |= found != NULL;
        if (found && is_there(at->path, found)) {
            *root = at->path;
            *rest = found;
            return STATUS_OK;
        }
    }
    if (outside || !inside)
        return err_set(e, STATUS_FORBIDDEN, "path",
                       "'path' must lie in a configured adapter directory");
    return err_set(e, STATUS_NOT_FOUND, "path", "no adapter found for %s", path);
}

const char *adapter_roots_absolute(const struct adapter_roots *r, const char *root)
{
    for (int i = 0; i < r->count; i++) {
        if (r->items[i].path == root)
            return root[0] != '/' && r->items[i].real ? r->items[i].real : root;
    }
    return root;
}
