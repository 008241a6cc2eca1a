/* cmd_pull: a model or adapter of the hub into the Hugging Face cache. What is printed while it
 * comes: one line that changes on a terminal, a line a file elsewhere. */
#include "server/cmd.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/mem.h"
#include "server/hub_pull.h"
#include "server/text_table.h"

#define SHOW_NS      100000000  /* between two states of the line */
#define RATE_NS      3000000000 /* the rate is over about so long */
#define BAR_CELLS    24
#define LINE_COLUMNS 100
#define INTERRUPTED  130 /* as shells have it */

struct display {
    bool terminal;
    bool line; /* the line is there */
    int64_t shown_ns;
    int64_t rate_ns; /* where the rate is counted from */
    uint64_t rate_bytes;
    double rate; /* bytes a second; 0: unknown yet */
    int tenths;  /* of the file, on no terminal */
    int file;
};

static atomic_int interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    atomic_store(&interrupted, 1);
}

static bool is_alive(void *ctx)
{
    (void)ctx;
    return !atomic_load(&interrupted);
}

static int columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : LINE_COLUMNS;
}

static void clear_line(struct display *d)
{
    if (d->line)
        fputs("\r\033[K", stderr);
    d->line = false;
}

static void show_note(void *ctx, const char *text)
{
    clear_line(ctx);
    fprintf(stderr, "%s\n", text);
}

/* A decaying mean: young differences count more. */
static void measure(struct display *d, const struct hub_progress *p, int64_t now)
{
    int64_t passed = now - d->rate_ns;
    if (d->rate_ns == 0 || p->fetched < d->rate_bytes) {
        d->rate_ns = now;
        d->rate_bytes = p->fetched;
        return;
    }
    if (passed < 500000000)
        return;
    double young = (double)(p->fetched - d->rate_bytes) / ((double)passed / 1e9);
    double weight = d->rate > 0 ? (double)passed / RATE_NS : 1;
    d->rate += (young - d->rate) * (weight < 1 ? weight : 1);
    d->rate_ns = now;
    d->rate_bytes = p->fetched;
}

static void show_line(struct display *d, const struct hub_progress *p)
{
    char bar[BAR_CELLS + 1];
    char done[TEXT_SHORT_BYTES], all[TEXT_SHORT_BYTES], rate[TEXT_SHORT_BYTES] = "-";
    char eta[TEXT_SHORT_BYTES] = "-:--";
    char line[512];
    char name[512];
    int cells = p->bytes ? (int)((double)p->done / (double)p->bytes * BAR_CELLS) : BAR_CELLS;
    memset(bar, '.', BAR_CELLS);
    memset(bar, '#', (size_t)cells);
    bar[BAR_CELLS] = '\0';
    text_bytes(p->done, done);
    text_bytes(p->bytes, all);
    if (d->rate >= 1) {
        text_bytes((uint64_t)d->rate, rate);
        text_duration((int64_t)((double)(p->bytes - p->done) / d->rate), eta);
    }
    snprintf(line, sizeof line, "[%s] %s of %s  %s/s  %s left  (%d/%d) ", bar, done, all, rate, eta,
             p->number, p->count);
    int room = columns() - 1 - (int)strlen(line);
    text_clean(p->file, name, room > 0 && room < (int)sizeof name ? (size_t)room + 1 : 1);
    fprintf(stderr, "\r\033[K%.*s%s", columns() - 1, line, name);
    fflush(stderr);
    d->line = true;
}

static void show_file(struct display *d, const struct hub_progress *p)
{
    char size[TEXT_SHORT_BYTES];
    char name[512];
    int tenths = p->file_bytes ? (int)((double)p->file_done / (double)p->file_bytes * 10) : 10;
    text_bytes(p->file_bytes, size);
    text_clean(p->file, name, sizeof name);
    if (d->file != p->number) {
        d->file = p->number;
        d->tenths = tenths;
        if (!p->finished && p->file_bytes >= 100u << 20)
            fprintf(stderr, "(%d/%d) %s, %s\n", p->number, p->count, name, size);
    }
    if (p->finished)
        fprintf(stderr, "(%d/%d) %s, %s: there\n", p->number, p->count, name, size);
    else if (tenths != d->tenths && p->file_bytes >= 100u << 20)
        fprintf(stderr, "(%d/%d) %s: %d %%\n", p->number, p->count, name, tenths * 10);
    d->tenths = tenths;
}

static void show_progress(void *ctx, const struct hub_progress *p)
{
    struct display *d = ctx;
    int64_t now = clock_now_ns();
    if (!d->terminal) {
        show_file(d, p);
        return;
    }
    measure(d, p, now);
    if (now - d->shown_ns < SHOW_NS && !(p->finished && p->number == p->count))
        return;
    d->shown_ns = now;
    show_line(d, p);
}

/* ---- the token ---- */

/* One line of what goes into a header: anything else is no token. */
static enum status check_token(char *text, const char *from, struct err *e)
{
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        text[--n] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (text[i] <= ' ' || text[i] >= 0x7F)
            return err_set(e, STATUS_INVALID, from, "%s does not hold a token", from);
    }
    return STATUS_OK;
}

/* --token-file, HF_TOKEN, then the file of hf auth login. "" for none. */
static enum status find_token(const struct options *o, const struct hub_settings *s,
                              char out[HUB_TOKEN_BYTES], struct err *e)
{
    const char *path = *o->token_file ? o->token_file : s->token ? "" : s->token_file;
    struct file_root here;
    char *text = NULL;
    size_t n = 0;
    out[0] = '\0';
    if (!*path) {
        int k = snprintf(out, HUB_TOKEN_BYTES, "%s", s->token ? s->token : "");
        if (k >= HUB_TOKEN_BYTES)
            return err_set(e, STATUS_INVALID, "HF_TOKEN", "HF_TOKEN does not hold a token");
        return check_token(out, "HF_TOKEN", e);
    }
    enum status st = file_root_open(".", false, &here, e);
    if (st != STATUS_OK)
        return st;
    st = file_read(&here, path, HUB_TOKEN_BYTES - 1, &text, &n, NULL, e);
    file_root_close(&here);
    if (st != STATUS_OK)
        return *o->token_file ? st : STATUS_OK;
    memcpy(out, text, n);
    out[n] = '\0';
    mem_free(text);
    return strlen(out) == n ? check_token(out, path, e)
                            : err_set(e, STATUS_INVALID, path, "%s does not hold a token", path);
}

/* ---- the command ---- */

static void print_use(const struct hub_id *id, const struct hub_pulled *got, const char *cache)
{
    char folder[HUB_NAME_BYTES + 16];
    char colon[HUB_REVISION_BYTES + 1] = "";
    const char *slash = strrchr(id->name, '/');
    hub_folder_name(id, folder);
    if (id->revised)
        snprintf(colon, sizeof colon, ":%s", id->revision);
    printf("%s/%s/snapshots/%s\n", cache, folder, got->commit);
    if (!isatty(STDOUT_FILENO))
        return;
    if (got->adapter)
        printf("\n  chorus serve --model BASE --adapter %s=%s%s\n", slash ? slash + 1 : id->name,
               id->name, colon);
    else if (got->model)
        printf("\n  chorus serve --model %s%s\n", id->name, colon);
}

static enum status find_offline(const struct hub_settings *s, const struct hub_id *id,
                                struct err *e)
{
    struct hub_pulled got = {0};
    struct err why;
    if (hub_cache_commit(s->cache, id, got.commit, &why) != STATUS_OK)
        return err_set(e, STATUS_NOT_FOUND, NULL,
                       "%s is not in the Hugging Face cache (%s), and offline nothing is fetched",
                       id->name, s->cache);
    print_use(id, &got, s->cache);
    return STATUS_OK;
}

static void print_end(const struct hub_pulled *got, enum status st)
{
    char fetched[TEXT_SHORT_BYTES];
    char all[TEXT_SHORT_BYTES];
    text_bytes(got->fetched, fetched);
    text_bytes(got->bytes, all);
    if (st == STATUS_OK)
        fprintf(stderr, "%d files, %s (%s fetched)\n", got->files, all, fetched);
    else if (got->bytes > 0 && st != STATUS_BAD_FILE)
        fprintf(stderr, "what came is kept: the same command goes on from there\n");
}

static int pull(const struct options *o, const struct hub_settings *s, const struct hub_id *id)
{
    struct err e = {0};
    char token[HUB_TOKEN_BYTES];
    struct display display = {.terminal = isatty(STDERR_FILENO)};
    struct hub_pulled got = {0};
    enum status st = find_token(o, s, token, &e);
    if (st != STATUS_OK)
        return cmd_fail("pull", &e);
    struct hub_fetch fetch = {
        .endpoint = s->endpoint,
        .token = *token ? token : NULL,
        .ca_file = s->ca_file,
        .stall_s = (int)o->pull_timeout,
        .alive = is_alive,
        .note = show_note,
        .ctx = &display,
    };
    st = hub_fetch_open(&fetch, &e);
    if (st != STATUS_OK)
        return cmd_fail("pull", &e);
    struct hub_pull p = {
        .fetch = &fetch,
        .cache = s->cache,
        .id = id,
        .all = o->all,
        .patterns = (const char *const *)o->files.items,
        .pattern_count = o->files.count,
        .progress = show_progress,
        .ctx = &display,
    };
    st = hub_pull_run(&p, &got, &e);
    clear_line(&display);
    hub_fetch_close(&fetch);
    print_end(&got, st);
    if (st == STATUS_OK)
        print_use(id, &got, s->cache);
    if (st == STATUS_CANCELLED)
        return INTERRUPTED;
    return st == STATUS_OK ? CMD_EXIT_OK : cmd_fail("pull", &e);
}

static int run(const struct options *o)
{
    struct err e = {0};
    struct hub_id id;
    struct hub_settings settings;
    hub_settings_load(&settings);
    if (o->args.count != 1 || !hub_id_parse(o->args.items[0], &id)) {
        err_set(&e, STATUS_INVALID, NULL,
                o->args.count == 1 ? "\"%.100s\" is not ORG/NAME or ORG/NAME:REVISION"
                                   : "one ORG/NAME[:REVISION] is needed (chorus pull --help)",
                o->args.count == 1 ? o->args.items[0] : "");
        return cmd_fail("pull", &e);
    }
    struct sigaction sa = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sa.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &sa, NULL);
    if (o->offline || settings.offline)
        return find_offline(&settings, &id, &e) == STATUS_OK ? CMD_EXIT_OK : cmd_fail("pull", &e);
    return pull(o, &settings, &id);
}

int cmd_pull(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_PULL, argc, argv, &o, &code))
        code = run(&o);
    options_deinit(&o);
    return code;
}
