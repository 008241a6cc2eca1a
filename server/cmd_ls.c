/* cmd_ls: the models and adapters that are there: in the Hugging Face cache, and adapters in the
 * directories of --adapters. Tables for people, one object with --json for programs. */
#include "server/cmd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "server/hub_scan.h"
#include "server/model_facts.h"
#include "server/text_table.h"

#define LIST_BYTES_MAX (16u << 20)

struct row {
    char name[256]; /* org/name, or an adapter's name in its directory */
    char revision[HUB_REFS_BYTES];
    char commit[HUB_HASH_BYTES]; /* "": not of the cache */
    char *path;                  /* owned */
    uint64_t bytes;
    int files;
    int64_t used_s;
    struct model_facts facts;
};

struct listing {
    struct row *rows; /* owned */
    size_t count;
    size_t cap;
    struct hub_scan scan;
    const char *cache;
};

static enum status no_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

static struct row *add_row(struct listing *l, const char *path)
{
    char *copy = VEC_RESERVE(l->rows, l->cap, l->count + 1) ? mem_strdup(path) : NULL;
    if (!copy)
        return NULL;
    struct row *r = &l->rows[l->count++];
    *r = (struct row){.path = copy};
    return r;
}

/* ---- the cache ---- */

static void explain_partial(const struct listing *l, const struct hub_snapshot *s, struct row *r)
{
    const struct hub_partial *part = hub_scan_partial(&l->scan, s->name);
    char *why = r->facts.why;
    size_t size = sizeof r->facts.why;
    if (!r->facts.servable && (part || (!*s->refs && s->broken == 0)))
        snprintf(why, size, "its download is not complete; chorus pull %s goes on", s->name);
    else if (s->broken > 0)
        snprintf(why, size, "%d of %d files are missing in the cache; chorus pull %s fetches them",
                 s->broken, s->files, s->name);
}

static enum status list_cache(struct listing *l, struct err *e)
{
    char path[HUB_PATH_BYTES];
    char folder[HUB_NAME_BYTES + 16];
    enum status st = hub_scan_run(l->cache, &l->scan, e);
    for (size_t i = 0; st == STATUS_OK && i < l->scan.snapshot_count; i++) {
        const struct hub_snapshot *s = &l->scan.snapshots[i];
        struct hub_id id = {0};
        memcpy(id.name, s->name, sizeof id.name);
        hub_folder_name(&id, folder);
        snprintf(path, sizeof path, "%s/%s/snapshots/%s", l->cache, folder, s->commit);
        struct row *r = add_row(l, path);
        if (!r)
            return no_memory(e);
        snprintf(r->name, sizeof r->name, "%s", s->name);
        snprintf(r->commit, sizeof r->commit, "%s", s->commit);
        snprintf(r->revision, sizeof r->revision, "%s", s->refs);
        r->bytes = s->bytes;
        r->files = s->files;
        r->used_s = s->used_s;
        model_facts_read(r->path, &r->facts);
        explain_partial(l, s, r);
    }
    return st;
}

/* ---- directories of adapters ---- */

static void measure(const struct file_root *dir, const char *name, struct row *r)
{
    struct stat st;
    if (fstatat(dir->fd, name, &st, 0) != 0 || !S_ISREG(st.st_mode))
        return;
    r->files++;
    r->bytes += (uint64_t)st.st_size;
    r->used_s = st.st_atime > r->used_s ? st.st_atime : r->used_s;
}

static enum status add_adapter(struct listing *l, const char *dir, const char *entry, struct err *e)
{
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors",
                                        "chorus.json", "tokenizer_config.json",
                                        "chat_template.jinja"};
    char path[HUB_PATH_BYTES];
    struct file_root root;
    size_t stem = file_stem(entry, ".gguf");
    int n = snprintf(path, sizeof path, "%s/%s", dir, entry);
    if (n < 0 || (size_t)n >= sizeof path)
        return STATUS_OK;
    bool folder = file_root_open(path, false, &root, NULL) == STATUS_OK;
    if (folder && !file_exists(&root, files[0])) {
        file_root_close(&root);
        return STATUS_OK;
    }
    if (!folder && (stem == 0 || file_root_open(dir, false, &root, NULL) != STATUS_OK))
        return STATUS_OK;
    struct row *r = add_row(l, path);
    if (r && folder) {
        snprintf(r->name, sizeof r->name, "%s", entry);
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
            measure(&root, files[i], r);
        model_facts_read(path, &r->facts);
    } else if (r) {
        snprintf(r->name, sizeof r->name, "%.*s", (int)stem, entry);
        measure(&root, entry, r);
        r->facts = (struct model_facts){.adapter = true, .servable = true, .what = "GGUF"};
    }
    file_root_close(&root);
    return r ? STATUS_OK : no_memory(e);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct row *)a)->name, ((const struct row *)b)->name);
}

static enum status list_directory(struct listing *l, const char *dir, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_set(e, STATUS_IO, "adapters", "cannot read the adapter directory %s: %s", dir,
                       strerror(errno));
    size_t first = l->count;
    enum status st = STATUS_OK;
    for (struct dirent *entry; st == STATUS_OK && (entry = readdir(d));) {
        if (entry->d_name[0] != '.')
            st = add_adapter(l, dir, entry->d_name, e);
    }
    closedir(d);
    if (l->count > first)
        qsort(l->rows + first, l->count - first, sizeof *l->rows, by_name);
    return st;
}

/* ---- for people ---- */

static void sizes_of(const struct row *r, int64_t now, char bytes[TEXT_SHORT_BYTES],
                     char used[TEXT_SHORT_BYTES])
{
    text_bytes(r->bytes, bytes);
    text_ago(now, r->used_s, used);
}

static void print_models(const struct listing *l, int64_t now, struct strbuf *out)
{
    static const char *const heads[] = {"MODEL",   "REVISION", "COMMIT", "KIND",
                                        "WEIGHTS", "SIZE",     "USED",   ""};
    struct text_table t;
    text_table_init(&t, 8, 1u << 5);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        text_table_cell(&t, heads[i]);
    for (size_t i = 0; i < l->count; i++) {
        const struct row *r = &l->rows[i];
        char bytes[TEXT_SHORT_BYTES], used[TEXT_SHORT_BYTES], commit[9];
        if (r->facts.adapter)
            continue;
        sizes_of(r, now, bytes, used);
        snprintf(commit, sizeof commit, "%.8s", r->commit);
        text_table_cell(&t, r->name);
        text_table_cell(&t, *r->revision ? r->revision : "-");
        text_table_cell(&t, commit);
        text_table_cell(&t, *r->facts.what ? r->facts.what : "-");
        text_table_cell(&t, *r->facts.weights ? r->facts.weights : "-");
        text_table_cell(&t, bytes);
        text_table_cell(&t, used);
        text_table_cell(&t, r->facts.servable && !*r->facts.why ? "ready" : r->facts.why);
    }
    text_table_print(&t, "", out);
    text_table_deinit(&t);
}

static void print_adapters(const struct listing *l, int64_t now, struct strbuf *out)
{
    static const char *const heads[] = {"ADAPTER", "WHERE", "FOR", "RANK", "SIZE", "USED", ""};
    struct text_table t;
    text_table_init(&t, 7, 3u << 3);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        text_table_cell(&t, heads[i]);
    for (size_t i = 0; i < l->count; i++) {
        const struct row *r = &l->rows[i];
        char bytes[TEXT_SHORT_BYTES], used[TEXT_SHORT_BYTES], rank[TEXT_SHORT_BYTES] = "-";
        if (!r->facts.adapter)
            continue;
        sizes_of(r, now, bytes, used);
        if (r->facts.rank > 0)
            snprintf(rank, sizeof rank, "%lld", (long long)r->facts.rank);
        text_table_cell(&t, r->name);
        text_table_cell(&t, *r->commit ? "cache" : r->path);
        text_table_cell(&t, *r->facts.base ? r->facts.base : "-");
        text_table_cell(&t, rank);
        text_table_cell(&t, bytes);
        text_table_cell(&t, used);
        text_table_cell(&t, r->facts.servable && !*r->facts.why ? "ready" : r->facts.why);
    }
    text_table_print(&t, "", out);
    text_table_deinit(&t);
}

static void print_partials(const struct listing *l, struct strbuf *out)
{
    for (size_t i = 0; i < l->scan.partial_count; i++) {
        const struct hub_partial *p = &l->scan.partials[i];
        char bytes[TEXT_SHORT_BYTES];
        text_bytes(p->bytes, bytes);
        strbuf_printf(out, "\nnot complete: %s, %s in %d file%s; chorus pull %s goes on\n", p->name,
                      bytes, p->files, p->files == 1 ? "" : "s", p->name);
    }
}

static void print_text(const struct listing *l, struct strbuf *out)
{
    size_t adapters = 0;
    int64_t now = clock_unix_s();
    for (size_t i = 0; i < l->count; i++)
        adapters += l->rows[i].facts.adapter;
    if (l->count > adapters)
        print_models(l, now, out);
    else
        strbuf_printf(out, "no models in %s; chorus pull ORG/NAME fetches one\n", l->cache);
    if (adapters > 0) {
        strbuf_putc(out, '\n');
        print_adapters(l, now, out);
    }
    print_partials(l, out);
}

/* ---- for programs ---- */

static void put_string(struct strbuf *out, const char *key, const char *value)
{
    strbuf_printf(out, ",\"%s\":", key);
    if (*value)
        strbuf_json_string(out, value, strlen(value));
    else
        strbuf_puts(out, "null");
}

static void put_row(struct strbuf *out, const struct row *r)
{
    strbuf_puts(out, "{\"name\":");
    strbuf_json_string(out, r->name, strlen(r->name));
    put_string(out, "path", r->path);
    put_string(out, "revision", r->revision);
    put_string(out, "commit", r->commit);
    if (r->facts.adapter) {
        put_string(out, "kind", r->facts.what);
        put_string(out, "base", r->facts.base);
        strbuf_printf(out, ",\"rank\":%lld", (long long)r->facts.rank);
    } else {
        put_string(out, "architecture", r->facts.what);
        put_string(out, "weights", r->facts.weights);
        strbuf_printf(out, ",\"parameters\":%lld", (long long)r->facts.parameters);
    }
    strbuf_printf(out, ",\"bytes\":%llu,\"files\":%d,\"used\":%lld,\"servable\":%s",
                  (unsigned long long)r->bytes, r->files, (long long)r->used_s,
                  r->facts.servable ? "true" : "false");
    put_string(out, "why", r->facts.why);
    strbuf_putc(out, '}');
}

static void put_rows(struct strbuf *out, const struct listing *l, bool adapters)
{
    bool first = true;
    for (size_t i = 0; i < l->count; i++) {
        if (l->rows[i].facts.adapter != adapters)
            continue;
        strbuf_puts(out, first ? "" : ",");
        put_row(out, &l->rows[i]);
        first = false;
    }
}

static void print_json(const struct listing *l, struct strbuf *out)
{
    strbuf_puts(out, "{\"cache\":");
    strbuf_json_string(out, l->cache, strlen(l->cache));
    strbuf_puts(out, ",\"models\":[");
    put_rows(out, l, false);
    strbuf_puts(out, "],\"adapters\":[");
    put_rows(out, l, true);
    strbuf_puts(out, "],\"downloads\":[");
    for (size_t i = 0; i < l->scan.partial_count; i++) {
        const struct hub_partial *p = &l->scan.partials[i];
        strbuf_printf(out, "%s{\"name\":\"%s\",\"files\":%d,\"bytes\":%llu}", i ? "," : "", p->name,
                      p->files, (unsigned long long)p->bytes);
    }
    strbuf_puts(out, "]}\n");
}

static int list(const struct options *o)
{
    struct err e = {0};
    struct hub_settings settings;
    struct strbuf out;
    hub_settings_load(&settings);
    struct listing l = {.cache = settings.cache};
    enum status st = list_cache(&l, &e);
    for (int i = 0; st == STATUS_OK && i < o->adapters.count; i++)
        st = list_directory(&l, o->adapters.items[i], &e);
    strbuf_init(&out, LIST_BYTES_MAX);
    if (st == STATUS_OK && o->json)
        print_json(&l, &out);
    else if (st == STATUS_OK)
        print_text(&l, &out);
    for (size_t i = 0; i < l.count; i++)
        mem_free(l.rows[i].path);
    mem_free(l.rows);
    hub_scan_deinit(&l.scan);
    int code = cmd_print(&out);
    return st == STATUS_OK ? code : cmd_fail("ls", &e);
}

int cmd_ls(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_LS, argc, argv, &o, &code))
        code = list(&o);
    options_deinit(&o);
    return code;
}
