#include "server/hub_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#define PART_BYTES_MAX  96   /* of org and of name */
#define FILE_BYTES_MAX  1024 /* a file's name with its folders */
#define FILE_PART_BYTES 255  /* one folder of it: NAME_MAX */
#define FILE_PARTS_MAX  16   /* folders in each other, with the file */
#define COMMIT_DIGITS   7    /* an abbreviated commit has at least so many */
#define FOLDER_PREFIX   "models--"
#define SNAPSHOTS       "/snapshots/"
#define REF_BYTES_MAX   128

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-' || c == '.';
}

/* "--" separates in folder names, so no part may hold it; the hub forbids it too. */
static bool part_ok(const char *s, size_t n)
{
    if (n == 0 || n > PART_BYTES_MAX || strchr(".-", s[0]) || strchr(".-", s[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!is_word(s[i]) || (i > 0 && s[i] == s[i - 1] && strchr(".-", s[i])))
            return false;
    }
    return true;
}

static bool name_ok(const char *s, size_t n)
{
    const char *slash = memchr(s, '/', n);
    if (!slash)
        return part_ok(s, n);
    size_t org = (size_t)(slash - s);
    return part_ok(s, org) && part_ok(slash + 1, n - org - 1);
}

/* As git allows names of branches, less what would make a strange path. */
static bool revision_ok(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n >= HUB_REVISION_BYTES)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool begins = i == 0 || s[i - 1] == '/';
        if ((!is_word(s[i]) && s[i] != '/') || (begins && (s[i] == '.' || s[i] == '/')))
            return false;
        if (s[i] == '.' && s[i + 1] == '.')
            return false;
    }
    return s[n - 1] != '/';
}

bool hub_id_parse(const char *text, struct hub_id *out)
{
    size_t n = strcspn(text, ":");
    const char *revision = text[n] == ':' ? text + n + 1 : "main";
    if (n >= HUB_NAME_BYTES || !name_ok(text, n) || !revision_ok(revision))
        return false;
    *out = (struct hub_id){.revised = text[n] == ':'};
    memcpy(out->name, text, n);
    snprintf(out->revision, sizeof out->revision, "%s", revision);
    return true;
}

bool hub_file_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > FILE_BYTES_MAX || !utf8_is_valid(name, n))
        return false;
    int parts = 0;
    for (const char *part = name;; part++) {
        size_t k = strcspn(part, "/");
        if (++parts > FILE_PARTS_MAX || k == 0 || k > FILE_PART_BYTES ||
            (k == 1 && part[0] == '.') || (k == 2 && memcmp(part, "..", 2) == 0))
            return false;
        for (size_t i = 0; i < k; i++) {
            if ((unsigned char)part[i] < 0x20 || part[i] == 0x7F || part[i] == '\\')
                return false;
        }
        part += k;
        if (*part == '\0')
            return true;
    }
}

bool hub_hash_ok(const char *text)
{
    size_t n = 0;
    while (is_hex(text[n]))
        n++;
    return text[n] == '\0' && (n == 40 || n == 64);
}

void hub_folder_name(const struct hub_id *id, char out[HUB_NAME_BYTES + 16])
{
    const char *slash = strchr(id->name, '/');
    if (slash)
        snprintf(out, HUB_NAME_BYTES + 16, FOLDER_PREFIX "%.*s--%s", (int)(slash - id->name),
                 id->name, slash + 1);
    else
        snprintf(out, HUB_NAME_BYTES + 16, FOLDER_PREFIX "%s", id->name);
}

static bool folder_parse(const char *folder, size_t n, char name[HUB_NAME_BYTES])
{
    size_t k = sizeof FOLDER_PREFIX - 1;
    if (n <= k || n - k >= HUB_NAME_BYTES || memcmp(folder, FOLDER_PREFIX, k) != 0)
        return false;
    char text[HUB_NAME_BYTES];
    snprintf(text, sizeof text, "%.*s", (int)(n - k), folder + k);
    char *sep = strstr(text, "--");
    if (sep) {
        *sep = '/';
        memmove(sep + 1, sep + 2, strlen(sep + 2) + 1);
    }
    if (!name_ok(text, strlen(text)))
        return false;
    memcpy(name, text, sizeof text);
    return true;
}

bool hub_folder_parse(const char *folder, char name[HUB_NAME_BYTES])
{
    return folder_parse(folder, strlen(folder), name);
}

bool hub_snapshot_parse(const char *path, char name[HUB_NAME_BYTES], char commit[HUB_HASH_BYTES])
{
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        n--;
    size_t begin = n;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    char hash[HUB_HASH_BYTES];
    size_t k = sizeof SNAPSHOTS - 1;
    if (n - begin >= sizeof hash || begin < k || memcmp(path + begin - k, SNAPSHOTS, k) != 0)
        return false;
    snprintf(hash, sizeof hash, "%.*s", (int)(n - begin), path + begin);
    size_t end = begin - k;
    size_t folder = end;
    while (folder > 0 && path[folder - 1] != '/')
        folder--;
    if (!hub_hash_ok(hash) || !folder_parse(path + folder, end - folder, name))
        return false;
    memcpy(commit, hash, sizeof hash);
    return true;
}

/* ---- looking things up ---- */

static bool read_ref(const struct file_root *repo, const char *revision, char out[HUB_HASH_BYTES])
{
    char path[HUB_REVISION_BYTES + 8];
    char *text;
    size_t n;
    snprintf(path, sizeof path, "refs/%s", revision);
    if (file_read(repo, path, REF_BYTES_MAX, &text, &n, NULL, NULL) != STATUS_OK)
        return false;
    while (n > 0 && strchr(" \r\n", text[n - 1]))
        text[--n] = '\0';
    bool ok = n == strlen(text) && hub_hash_ok(text);
    if (ok)
        memcpy(out, text, n + 1);
    mem_free(text);
    return ok;
}

static bool is_directory(const struct file_root *root, const char *path)
{
    struct file_root dir;
    if (file_root_open_in(root, path, &dir, NULL) != STATUS_OK)
        return false;
    file_root_close(&dir);
    return true;
}

/* The one commit whose name begins so. */
static bool find_commit(const struct file_root *repo, const char *begin, char out[HUB_HASH_BYTES])
{
    size_t n = strlen(begin);
    int fd = n >= COMMIT_DIGITS && strspn(begin, "0123456789abcdef") == n
                 ? openat(repo->fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                 : -1;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    int found = 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        if (strncmp(entry->d_name, begin, n) == 0 && hub_hash_ok(entry->d_name) && found++ == 0)
            snprintf(out, HUB_HASH_BYTES, "%s", entry->d_name);
    }
    closedir(d);
    return found == 1;
}

static enum status absent(const char *cache, const struct hub_id *id, bool folder, struct err *e)
{
    const char *colon = id->revised ? ":" : "";
    const char *revision = id->revised ? id->revision : "";
    if (!*cache)
        return err_set(e, STATUS_NOT_FOUND, "model",
                       "%s: no cache to look in: neither HF_HUB_CACHE nor HOME is set", id->name);
    if (folder)
        return err_set(e, STATUS_NOT_FOUND, "model",
                       "%s%s%s is not, or not completely, in the Hugging Face cache (%s); "
                       "chorus pull %s%s%s fetches what is missing",
                       id->name, colon, revision, cache, id->name, colon, revision);
    return err_set(e, STATUS_NOT_FOUND, "model",
                   "%s is neither a directory nor in the Hugging Face cache (%s); "
                   "chorus pull %s%s%s fetches it",
                   id->name, cache, id->name, colon, revision);
}

enum status hub_cache_commit(const char *cache, const struct hub_id *id,
                             char commit[HUB_HASH_BYTES], struct err *e)
{
    char path[HUB_PATH_BYTES];
    char folder[HUB_NAME_BYTES + 16];
    struct file_root repo;
    hub_folder_name(id, folder);
    int n = snprintf(path, sizeof path, "%s/%s", cache, folder);
    if (!*cache || n < 0 || (size_t)n >= sizeof path ||
        file_root_open(path, false, &repo, NULL) != STATUS_OK)
        return absent(cache, id, false, e);
    char hash[HUB_HASH_BYTES];
    bool ok = read_ref(&repo, id->revision, hash) || find_commit(&repo, id->revision, hash);
    snprintf(path, sizeof path, "snapshots/%s", ok ? hash : "");
    ok = ok && is_directory(&repo, path);
    file_root_close(&repo);
    if (!ok)
        return absent(cache, id, true, e);
    memcpy(commit, hash, sizeof hash);
    return STATUS_OK;
}

enum status hub_model_find(const char *model, char out[HUB_PATH_BYTES], struct err *e)
{
    struct hub_id id;
    int n;
    if (access(model, F_OK) == 0 || !hub_id_parse(model, &id)) {
        n = snprintf(out, HUB_PATH_BYTES, "%s", model);
    } else {
        struct hub_settings settings;
        char commit[HUB_HASH_BYTES];
        char folder[HUB_NAME_BYTES + 16];
        hub_settings_load(&settings);
        hub_folder_name(&id, folder);
        enum status st = hub_cache_commit(settings.cache, &id, commit, e);
        if (st != STATUS_OK)
            return st;
        n = snprintf(out, HUB_PATH_BYTES, "%s/%s" SNAPSHOTS "%s", settings.cache, folder, commit);
    }
    if (n < 0 || n >= HUB_PATH_BYTES)
        return err_set(e, STATUS_LIMIT, "model", "%.64s...: the path is too long", model);
    return STATUS_OK;
}
