/* cmd_ps: what a running server is doing, once or again and again. */
#include "server/cmd.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "server/live_view.h"
#include "server/remote.h"

#define ANSWER_MS      10000
#define TEXT_BYTES_MAX (64u << 20)
#define COLUMNS        80 /* of a terminal that does not say */

#define ANSI_BEGIN "\x1b[?25l\x1b[H\x1b[2J" /* no cursor, home, clear */
#define ANSI_END   "\x1b[?25h"
#define ANSI_HOME  "\x1b[H"
#define ANSI_LINE  "\x1b[K\n" /* clear the rest of a line */
#define ANSI_REST  "\x1b[J"

static volatile sig_atomic_t stopped;

static void on_stop(int sig)
{
    (void)sig;
    stopped = 1;
}

static void measure(struct live_view *v)
{
    struct winsize w = {0};
    v->width = v->height = 0;
    if (!isatty(STDOUT_FILENO))
        return;
    v->width = COLUMNS;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20)
        v->width = w.ws_col;
    v->height = w.ws_row;
}

/* Over what was there: no flicker. */
static void redraw(const char *text)
{
    fputs(ANSI_HOME, stdout);
    for (const char *line = text; *line;) {
        size_t n = strcspn(line, "\n");
        fwrite(line, 1, n, stdout);
        fputs(ANSI_LINE, stdout);
        line += n + (line[n] == '\n');
    }
    fputs(ANSI_REST, stdout);
}

/* Fills `text` with one look. */
static enum status look(const struct options *o, const struct remote *r, bool live,
                        struct strbuf *text, struct err *e)
{
    cJSON *status = NULL;
    strbuf_clear(text);
    enum status st =
        remote_ask(r, "/v1/status", NULL, ANSWER_MS, &status, o->json ? text : NULL, e);
    if (st != STATUS_OK)
        return st;
    if (!live_view_is_status(status)) {
        cJSON_Delete(status);
        return err_set(e, STATUS_BUSY, "url", "what answers at %s is no chorus server",
                       r->target.text);
    }
    struct live_view v = {.url = r->target.text, .now_s = clock_unix_s()};
    measure(&v);
    v.height = live && v.height > 1 ? v.height - 1 : 0;
    bool ok = true;
    if (o->json)
        strbuf_putc(text, '\n');
    else
        ok = live_view_write(&v, status, text);
    cJSON_Delete(status);
    return ok ? STATUS_OK : err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* Until Ctrl-C. A server that is gone for a moment, as in a restart, is waited for. */
static enum status watch(const struct options *o, const struct remote *r, struct strbuf *text,
                         struct err *e)
{
    bool live = isatty(STDOUT_FILENO) && !o->json;
    struct sigaction sa = {.sa_handler = on_stop};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    enum status st = look(o, r, live, text, e);
    if (st != STATUS_OK)
        return st;
    if (live)
        fputs(ANSI_BEGIN, stdout);
    while (!stopped) {
        if (live)
            redraw(strbuf_str(text));
        else
            printf("%s%s", strbuf_str(text), o->json ? "" : "\n");
        if (fflush(stdout) != 0)
            break; /* nobody reads any more */
        poll(NULL, 0, (int)(o->interval * 1000));
        if (stopped)
            break;
        st = look(o, r, live, text, e);
        if (st == STATUS_NO_MEMORY || st == STATUS_FORBIDDEN)
            break;
        if (st != STATUS_OK)
            strbuf_printf(text, o->json ? "{\"error\":\"unreachable\"}\n" : "%s\n", e->msg);
        st = STATUS_OK;
    }
    if (live)
        fputs(ANSI_END, stdout);
    return st;
}

static int ps(const struct options *o)
{
    struct remote r;
    struct err e = {0};
    struct strbuf text;
    strbuf_init(&text, TEXT_BYTES_MAX);
    enum status st = remote_open(o, &r, &e);
    if (st == STATUS_OK && o->watch) {
        st = watch(o, &r, &text, &e);
    } else if (st == STATUS_OK) {
        st = look(o, &r, false, &text, &e);
        if (st == STATUS_OK)
            fputs(strbuf_str(&text), stdout);
    }
    strbuf_deinit(&text);
    return st == STATUS_OK ? CMD_EXIT_OK : cmd_fail("ps", &e);
}

int cmd_ps(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_PS, argc, argv, &o, &code))
        code = ps(&o);
    options_deinit(&o);
    return code;
}
