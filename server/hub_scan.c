#include "server/hub_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "server/hub_walk.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

struct scanning {
    struct hub_scan *out;
    size_t snapshot_cap;
    size_t partial_cap;
    size_t first; /* snapshot of the repository that is looked at */
    char name[HUB_NAME_BYTES];
    struct hub_snapshot *snapshot;
    enum status st; /* of a visit */
    struct err *e;
};

static enum status no_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

static bool add_file(void *ctx, const struct hub_entry *entry)
{
    struct hub_snapshot *s = ((struct scanning *)ctx)->snapshot;
    struct stat st;
    if (entry->directory)
        return true;
    s->files++;
    if (fstatat(entry->at, entry->name, &st, 0) != 0) {
        s->broken++;
        return true;
    }
    s->bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    s->used_s = st.st_atime > s->used_s ? st.st_atime : s->used_s;
    return true;
}

static enum status add_snapshot(struct scanning *x, int at, const char *commit)
{
    struct hub_scan *out = x->out;
    if (out->snapshot_count == LIMIT_HUB_SNAPSHOTS)
        return STATUS_OK;
    if (!VEC_RESERVE(out->snapshots, x->snapshot_cap, out->snapshot_count + 1))
        return no_memory(x->e);
    x->snapshot = &out->snapshots[out->snapshot_count++];
    *x->snapshot = (struct hub_snapshot){0};
    memcpy(x->snapshot->name, x->name, sizeof x->name);
    snprintf(x->snapshot->commit, sizeof x->snapshot->commit, "%s", commit);
    return hub_walk_at(at, commit, add_file, x, x->e);
}

static enum status scan_snapshots(struct scanning *x, int repo)
{
    int fd = openat(repo, "snapshots", DIR_FLAGS);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return STATUS_OK;
    }
    enum status st = STATUS_OK;
    for (struct dirent *entry; st == STATUS_OK && (entry = readdir(d));) {
        if (hub_hash_ok(entry->d_name))
            st = add_snapshot(x, dirfd(d), entry->d_name);
    }
    closedir(d);
    return st;
}

/* refs/<revision>: its text is the commit. */
static bool add_ref(void *ctx, const struct hub_entry *entry)
{
    struct scanning *x = ctx;
    struct file_root root = {.fd = entry->at, .top_fd = -1};
    char *text;
    size_t n;
    if (entry->directory ||
        file_read(&root, entry->name, HUB_REFS_BYTES, &text, &n, NULL, NULL) != STATUS_OK)
        return true;
    text[strcspn(text, " \r\n")] = '\0';
    for (size_t i = x->first; i < x->out->snapshot_count; i++) {
        struct hub_snapshot *s = &x->out->snapshots[i];
        size_t used = strlen(s->refs);
        if (strcmp(s->commit, text) == 0 &&
            used + strlen(entry->path) + sizeof ", " <= sizeof s->refs)
            snprintf(s->refs + used, sizeof s->refs - used, "%s%s", used ? ", " : "", entry->path);
    }
    mem_free(text);
    return true;
}

/* blobs/<etag>.incomplete, or <etag>.<something>.incomplete of huggingface_hub */
static bool add_part(void *ctx, const struct hub_entry *entry)
{
    struct scanning *x = ctx;
    struct hub_scan *out = x->out;
    struct stat st;
    if (entry->directory || file_stem(entry->name, ".incomplete") == 0 ||
        fstatat(entry->at, entry->name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return true;
    struct hub_partial *last = out->partial_count ? &out->partials[out->partial_count - 1] : NULL;
    if (!last || strcmp(last->name, x->name) != 0) {
        if (!VEC_RESERVE(out->partials, x->partial_cap, out->partial_count + 1)) {
            x->st = no_memory(x->e);
            return false;
        }
        last = &out->partials[out->partial_count++];
        *last = (struct hub_partial){0};
        memcpy(last->name, x->name, sizeof x->name);
    }
    last->files++;
    last->bytes += (uint64_t)st.st_size;
    return true;
}

static enum status scan_repository(struct scanning *x, int cache, const char *folder)
{
    int repo = openat(cache, folder, DIR_FLAGS);
    if (repo < 0)
        return STATUS_OK;
    x->first = x->out->snapshot_count;
    enum status st = scan_snapshots(x, repo);
    if (st == STATUS_OK)
        st = hub_walk_at(repo, "refs", add_ref, x, x->e);
    if (st == STATUS_OK)
        st = hub_walk_at(repo, "blobs", add_part, x, x->e);
    close(repo);
    return st == STATUS_OK ? x->st : st;
}

static int by_name(const void *a, const void *b)
{
    const struct hub_snapshot *x = a;
    const struct hub_snapshot *y = b;
    int order = strcmp(x->name, y->name);
    if (order == 0)
        order = (x->used_s < y->used_s) - (x->used_s > y->used_s);
    return order ? order : strcmp(x->commit, y->commit);
}

static int by_part_name(const void *a, const void *b)
{
    return strcmp(((const struct hub_partial *)a)->name, ((const struct hub_partial *)b)->name);
}

enum status hub_scan_run(const char *cache, struct hub_scan *out, struct err *e)
{
    struct scanning x = {.out = out, .e = e};
    *out = (struct hub_scan){0};
    DIR *d = *cache ? opendir(cache) : NULL;
    if (!d && *cache && errno != ENOENT)
        return err_set(e, STATUS_IO, NULL, "cannot read the Hugging Face cache %s: %s", cache,
                       strerror(errno));
    if (!d)
        return STATUS_OK;
    enum status st = STATUS_OK;
    for (struct dirent *entry; st == STATUS_OK && (entry = readdir(d));) {
        if (hub_folder_parse(entry->d_name, x.name))
            st = scan_repository(&x, dirfd(d), entry->d_name);
    }
    closedir(d);
    if (out->snapshot_count > 0)
        qsort(out->snapshots, out->snapshot_count, sizeof *out->snapshots, by_name);
    if (out->partial_count > 0)
        qsort(out->partials, out->partial_count, sizeof *out->partials, by_part_name);
    return st;
}

void hub_scan_deinit(struct hub_scan *s)
{
    mem_free(s->snapshots);
    mem_free(s->partials);
    *s = (struct hub_scan){0};
}

const struct hub_partial *hub_scan_partial(const struct hub_scan *s, const char *name)
{
    for (size_t i = 0; i < s->partial_count; i++) {
        if (strcmp(s->partials[i].name, name) == 0)
            return &s->partials[i];
    }
    return NULL;
}
