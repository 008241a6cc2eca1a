#include "server/engine_setup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/journal.h"
#include "engine/base/file.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "server/hub_cache.h"

#define PATH_BYTES 4096

int engine_setup_reserve(const struct options *o)
{
    int wanted = (int)(o->max_seqs + 15) / 16;
    int room = LIMIT_SEQS - (int)o->max_seqs;
    return wanted < room ? wanted : room;
}

void engine_setup_log(const struct options *o)
{
    enum log_level level = LOG_LEVEL_INFO;
    if (strcmp(o->log_level, "debug") == 0)
        level = LOG_LEVEL_DEBUG;
    else if (strcmp(o->log_level, "warn") == 0)
        level = LOG_LEVEL_WARN;
    else if (strcmp(o->log_level, "error") == 0)
        level = LOG_LEVEL_ERROR;
    bool journal = journal_is_stderr();
    enum log_form form = strcmp(o->log_format, "json") == 0              ? LOG_FORM_JSON
                         : strcmp(o->log_format, "auto") == 0 && journal ? LOG_FORM_JOURNAL
                                                                         : LOG_FORM_TEXT;
    log_setup_form(level, form, journal, JOURNAL_SOCKET);
}

struct shown {
    int tenth;
    struct service_progress *progress; /* NULL: nobody else looks */
};

/* On a terminal one line that fills up; elsewhere nothing below a tenth is worth a line. */
static void show_progress(void *ctx, const char *what, size_t done, size_t total)
{
    struct shown *s = ctx;
    int percent = total ? (int)((double)done / (double)total * 100) : 100;
    if (s->progress)
        service_progress_set(s->progress, what, percent);
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r%s %3d %%%s", what, percent, percent == 100 ? "\n" : "");
    } else if (percent / 10 != s->tenth) {
        s->tenth = percent / 10;
        LOG_DEBUG(LOG_WHAT("loading"), LOG_STR("what", what), LOG_INT("percent", percent));
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a directory, sorted; the caller frees each and the array. */
static enum status list_names(const char *dir, char ***names, size_t *count, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_set(e, STATUS_IO, "adapters", "cannot read the adapter directory %s: %s", dir,
                       strerror(errno));
    char **list = NULL;
    size_t n = 0;
    size_t cap = 0;
    enum status st = STATUS_OK;
    for (struct dirent *entry; st == STATUS_OK && (entry = readdir(d));) {
        if (entry->d_name[0] == '.')
            continue;
        char *copy = VEC_RESERVE(list, cap, n + 1) ? mem_strdup(entry->d_name) : NULL;
        if (copy)
            list[n++] = copy;
        else
            st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    closedir(d);
    if (n > 0)
        qsort(list, n, sizeof *list, compare_names);
    *names = list;
    *count = n;
    return st;
}

/* What `entry` of `dir` would be called: a directory with an adapter in it, or a .gguf file. False:
 * it is neither, or a file beside a directory of its name. */
static bool name_adapter(const char *dir, const char *entry, char name[LIMIT_NAME_BYTES + 2])
{
    char path[PATH_BYTES];
    size_t stem = file_stem(entry, ".gguf");
    snprintf(name, LIMIT_NAME_BYTES + 2, "%.*s", (int)(stem ? stem : strlen(entry)), entry);
    snprintf(path, sizeof path, "%s/%s/adapter_config.json", dir, name);
    bool directory = access(path, F_OK) == 0;
    struct file_root root = {.fd = AT_FDCWD, .top_fd = -1};
    snprintf(path, sizeof path, "%s/%s", dir, entry);
    return stem > 0 ? !directory && file_exists(&root, path) : directory;
}

/* Others may put files there, so nothing outside is read for them: what a link leads to must lie in
 * the directory too. The directory itself is the operator's word. */
static enum status add_directory(struct engine *engine, const char *dir, struct err *e)
{
    char **names = NULL;
    size_t count = 0;
    enum status st = list_names(dir, &names, &count, e);
    for (size_t i = 0; i < count; i++) {
        char name[LIMIT_NAME_BYTES + 2];
        struct err why;
        uint64_t generation;
        if (st == STATUS_OK && name_adapter(dir, names[i], name) &&
            engine_adapter_add_beneath(engine, name, dir, names[i], &generation, &why) != STATUS_OK)
            LOG_ERROR(LOG_WHAT("adapter refused"), LOG_STR("adapter", name), LOG_STR("path", dir),
                      LOG_STR("why", why.msg));
        mem_free(names[i]);
    }
    mem_free(names);
    return st;
}

static enum status add_named(struct engine *engine, const char *item, struct err *e)
{
    const char *eq = strchr(item, '=');
    if (!eq)
        return STATUS_OK; /* a name to use, not an adapter to add */
    char name[LIMIT_NAME_BYTES + 2];
    snprintf(name, sizeof name, "%.*s", (int)(eq - item), item);
    uint64_t generation;
    char path[HUB_PATH_BYTES];
    enum status st = hub_model_find(eq + 1, path, e);
    if (st == STATUS_OK)
        st = engine_adapter_add(engine, name, path, &generation, e);
    return st == STATUS_OK ? st : err_prefix(e, "adapter %s", name);
}

static enum status memory_of(const struct options *o, struct engine_options *opt, struct err *e)
{
    if (!options_memory(o->gpu_memory, &opt->gpu_memory_share, &opt->gpu_memory_bytes))
        return err_set(e, STATUS_INVALID, "gpu-memory",
                       "gpu-memory: \"%.64s\" is neither a share like 0.9 nor bytes like 6GiB",
                       o->gpu_memory);
    if (strcmp(o->lora_arena, "auto") != 0 && !options_bytes(o->lora_arena, &opt->lora_arena_bytes))
        return err_set(e, STATUS_INVALID, "lora-arena",
                       "lora-arena: \"%.64s\" is neither auto nor bytes like 2GiB", o->lora_arena);
    if (strcmp(o->adapter_memory, "auto") != 0 &&
        !options_bytes(o->adapter_memory, &opt->host_adapter_bytes))
        return err_set(e, STATUS_INVALID, "adapter-memory",
                       "adapter-memory: \"%.64s\" is neither auto nor bytes like 2GiB",
                       o->adapter_memory);
    return STATUS_OK;
}

/* One of the option's choices. */
static enum engine_adapter_quant quant_named(const char *name)
{
    int q = ENGINE_QUANT_COUNT - 1;
    while (q > ENGINE_QUANT_DEFAULT && strcmp(engine_adapter_quant_names[q], name) != 0)
        q--;
    return (enum engine_adapter_quant)q;
}

enum status engine_setup_open(const struct options *o, void (*notify)(void *ctx), void *notify_ctx,
                              struct service_progress *progress, struct engine **out, struct err *e)
{
    if (!*o->model)
        return err_set(e, STATUS_INVALID, "model", "--model DIR is needed");
    char model[HUB_PATH_BYTES];
    enum status st = hub_model_find(o->model, model, e);
    if (st != STATUS_OK)
        return st;
    struct shown shown = {.tenth = -1, .progress = progress};
    int seats = (int)o->max_seqs + engine_setup_reserve(o);
    struct engine_options opt = {
        .model_dir = model,
        .backend = o->backend,
        .isa = o->isa,
        .threads = (int)o->threads,
        .device = (int)o->device,
        .quant = o->quant,
        .head_quant = o->head_quant,
        .kv_type = o->kv_cache_type,
        .embedding = o->token_embedding,
        .plain_launches = o->plain_launches,
        .deterministic = o->deterministic,
        .ctx_max = (int)o->ctx,
        .seqs_max = seats,
        .rows_max = o->step_rows > 0 && o->step_rows < seats ? seats : (int)o->step_rows,
        .chunk_max = (int)o->prefill_chunk,
        .kv_pages = (int)o->kv_pages,
        .slots_max = (int)o->adapter_slots,
        .adapter_quant = quant_named(o->adapter_quant),
        .queue_max = (int)o->queue,
        .wait_bound_steps = (int)o->wait_bound,
        .prefix_cache = o->prefix_cache,
        .notify = notify,
        .notify_ctx = notify_ctx,
        .progress = show_progress,
        .progress_ctx = &shown,
    };
    st = memory_of(o, &opt, e);
    if (st != STATUS_OK)
        return st;
    struct engine *engine;
    st = engine_open(&opt, &engine, e);
    if (st != STATUS_OK)
        return st;
    for (int i = 0; st == STATUS_OK && i < o->adapter.count; i++)
        st = add_named(engine, o->adapter.items[i], e);
    if (st != STATUS_OK) {
        engine_close(engine);
        return st;
    }
    *out = engine;
    return STATUS_OK;
}

enum status engine_setup_directories(const struct options *o, struct engine *engine, struct err *e)
{
    enum status st = STATUS_OK;
    for (int i = 0; st == STATUS_OK && i < o->adapters.count; i++)
        st = add_directory(engine, o->adapters.items[i], e);
    return st;
}
