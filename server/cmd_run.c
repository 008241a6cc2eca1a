/* cmd_run: chat in the terminal, with a running server or a model of our own (chat.h).
 *
 * Ctrl-C ends the answer, and at the prompt the program. Lines that begin with '/' are commands
 * (the table below), a line that ends in '\' goes on in the next one, and """ stands around
 * several. Where standard input is no terminal, or with --prompt, one question is answered.
 */
#include "server/cmd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/limits.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "server/chat.h"
#include "server/engine_setup.h"
#include "server/text_table.h"

#define NAMES_BYTES_MAX (1u << 20)
#define VOICES_SHOWN    12
#define INPUT_POLL_MS   50
#define FENCE           "\"\"\""

#define ANSI_DIM   "\x1b[2m"
#define ANSI_PLAIN "\x1b[0m"

struct talk {
    struct chat_link *link;
    cJSON *messages; /* owned */
    struct chat_ask ask;
    char *system; /* owned; "" for none */
    bool screen;  /* stdout is a terminal */
    bool dim;     /* a thought is being shown */
    bool begun;   /* of the answer something was shown */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

static enum status no_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* ---- the conversation ---- */

static enum status add_message(struct talk *t, const char *role, const char *content, struct err *e)
{
    cJSON *m = cJSON_CreateObject();
    if (!m || !cJSON_AddStringToObject(m, "role", role) ||
        !cJSON_AddStringToObject(m, "content", content) || !cJSON_AddItemToArray(t->messages, m)) {
        cJSON_Delete(m);
        return no_memory(e);
    }
    return STATUS_OK;
}

static bool last_is(const struct talk *t, const char *role)
{
    const cJSON *m = cJSON_GetArrayItem(t->messages, cJSON_GetArraySize(t->messages) - 1);
    const cJSON *r = cJSON_GetObjectItemCaseSensitive(m, "role");
    return cJSON_IsString(r) && strcmp(r->valuestring, role) == 0;
}

static void drop_last(struct talk *t)
{
    int n = cJSON_GetArraySize(t->messages);
    if (n > 0)
        cJSON_DeleteItemFromArray(t->messages, n - 1);
}

static enum status clear_messages(struct talk *t, struct err *e)
{
    while (cJSON_GetArraySize(t->messages) > 0)
        drop_last(t);
    return *t->system ? add_message(t, "system", t->system, e) : STATUS_OK;
}

/* ---- an answer ---- */

/* What a model says must not steer the terminal; a file gets it as it is. */
static void put_text(const struct talk *t, const char *text, size_t n)
{
    if (!t->screen) {
        fwrite(text, 1, n, stdout);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool second = c == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0;
        if (second)
            i++; /* U+0080 to U+009F */
        if (second || (c < ' ' && c != '\n' && c != '\t') || c == 0x7F)
            putchar('?');
        else
            putchar(c);
    }
}

/* Thoughts are for people only. */
static void show(void *ctx, const char *text, size_t n, bool thought)
{
    struct talk *t = ctx;
    if (thought && !t->screen)
        return;
    if (thought != t->dim)
        fputs(thought ? ANSI_DIM : ANSI_PLAIN "\n", stdout);
    t->dim = thought;
    t->begun = true;
    put_text(t, text, n);
    fflush(stdout);
}

static void tell_figures(const struct chat_answer *a)
{
    if (!isatty(STDERR_FILENO) || a->tokens == 0)
        return;
    fprintf(stderr, "(%d tokens, ", a->tokens);
    if (a->tokens_per_s > 0)
        fprintf(stderr, "%.0f tokens/s, ", a->tokens_per_s);
    fprintf(stderr, "first after %.0f ms%s)\n", a->first_ms, a->cut ? ", interrupted" : "");
}

/* Answers the last message. The conversation keeps the answer, as far as it came. */
static enum status answer(struct talk *t, bool *cut, struct err *e)
{
    struct chat_answer a = {.tokens = 0};
    strbuf_init(&a.text, CHAT_ANSWER_BYTES);
    interrupted = 0;
    t->dim = t->begun = false;
    t->ask.messages = t->messages;
    enum status st = t->link->ops->say(t->link, &t->ask, &a, e);
    if (t->dim)
        fputs(ANSI_PLAIN, stdout);
    if (t->begun)
        putchar('\n');
    if (st == STATUS_OK && a.text.failed)
        st = err_set(e, STATUS_LIMIT, NULL, "the answer is too long to be kept");
    if (st == STATUS_OK && (a.text.len > 0 || !a.cut))
        st = add_message(t, "assistant", strbuf_str(&a.text), e);
    fflush(stdout);
    if (st == STATUS_OK)
        tell_figures(&a);
    *cut = a.cut;
    interrupted = 0;
    strbuf_deinit(&a.text);
    return st;
}

/* One question and its answer. The conversation keeps both, or neither when the turn failed. */
static enum status turn(struct talk *t, const char *text, bool *cut, struct err *e)
{
    enum status st = add_message(t, "user", text, e);
    if (st != STATUS_OK)
        return st;
    st = answer(t, cut, e);
    if (st != STATUS_OK)
        drop_last(t);
    return st;
}

/* ---- voices ---- */

static bool has_line(const char *lines, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = lines; *at; at += strcspn(at, "\n") + 1) {
        if (strncmp(at, name, n) == 0 && at[n] == '\n')
            return true;
    }
    return false;
}

static void append_names(const char *lines, struct strbuf *out)
{
    int count = 0;
    for (const char *at = lines; *at && count < VOICES_SHOWN; count++) {
        char name[LIMIT_NAME_BYTES + 1], clean[LIMIT_NAME_BYTES + 1];
        size_t n = strcspn(at, "\n");
        snprintf(name, sizeof name, "%.*s", n < sizeof name ? (int)n : (int)sizeof name - 1, at);
        text_clean(name, clean, sizeof clean);
        strbuf_printf(out, count ? ", %s" : "%s", clean);
        at += n + 1;
    }
}

/* Sets who speaks, if they are there. */
static enum status set_voice(struct talk *t, const char *text, struct err *e)
{
    struct chat_voice v;
    struct strbuf names, some;
    enum status st = chat_voice_parse(text, &v, e);
    if (st != STATUS_OK)
        return st;
    strbuf_init(&names, NAMES_BYTES_MAX);
    strbuf_init(&some, NAMES_BYTES_MAX);
    if (v.count > 0)
        st = t->link->ops->voices(t->link, &names, e);
    for (int i = 0; i < v.count && st == STATUS_OK; i++) {
        if (has_line(strbuf_str(&names), v.uses[i].name))
            continue;
        append_names(strbuf_str(&names), &some);
        st = err_set(e, STATUS_ADAPTER_NOT_FOUND, "adapter", "there is no adapter '%s'%s%.300s",
                     v.uses[i].name, some.len ? "; there are " : "", strbuf_str(&some));
    }
    if (st == STATUS_OK)
        t->ask.voice = v;
    strbuf_deinit(&names);
    strbuf_deinit(&some);
    return st;
}

static void print_voice(const struct talk *t, const char *end)
{
    struct strbuf b;
    strbuf_init(&b, 1024);
    chat_voice_text(&t->ask.voice, &b);
    printf("%s%s", strbuf_str(&b), end);
    strbuf_deinit(&b);
}

/* ---- commands ---- */

static enum status do_voice(struct talk *t, const char *arg, bool *quit, struct err *e)
{
    (void)quit;
    enum status st = set_voice(t, arg, e);
    if (st == STATUS_OK) {
        fputs("speaking: ", stdout);
        print_voice(t, "\n");
    }
    return st;
}

static enum status do_voices(struct talk *t, const char *arg, bool *quit, struct err *e)
{
    (void)arg;
    (void)quit;
    struct strbuf names;
    strbuf_init(&names, NAMES_BYTES_MAX);
    strbuf_puts(&names, "base\n");
    enum status st = t->link->ops->voices(t->link, &names, e);
    for (char *at = names.data; st == STATUS_OK && at && *at;) {
        char clean[TEXT_TABLE_CELL_BYTES];
        char *end = strchr(at, '\n');
        *end = '\0';
        bool speaks = at == names.data && t->ask.voice.count == 0;
        for (int i = 0; i < t->ask.voice.count; i++)
            speaks = speaks || strcmp(t->ask.voice.uses[i].name, at) == 0;
        text_clean(at, clean, sizeof clean);
        printf("%s %s\n", speaks ? "*" : " ", clean);
        at = end + 1;
    }
    strbuf_deinit(&names);
    return st;
}

static enum status do_system(struct talk *t, const char *arg, bool *quit, struct err *e)
{
    (void)quit;
    char *copy = mem_strdup(arg);
    if (!copy)
        return no_memory(e);
    mem_free(t->system);
    t->system = copy;
    puts("the conversation begins anew");
    return clear_messages(t, e);
}

static enum status do_set(struct talk *t, const char *arg, bool *quit, struct err *e)
{
    (void)quit;
    size_t n = strcspn(arg, " =");
    const char *text = arg + n + strspn(arg + n, " =");
    char *end;
    double v = strtod(text, &end);
    bool number = end != text && *end == '\0';
    if (n == 11 && strncmp(arg, "temperature", n) == 0 && number && v >= -1 && v <= 100)
        t->ask.temperature = v;
    else if (n == 5 && strncmp(arg, "top-p", n) == 0 && number && v >= 0 && v <= 1)
        t->ask.top_p = v;
    else if (n == 10 && strncmp(arg, "max-tokens", n) == 0 && number && v >= 1 && v <= 1 << 24)
        t->ask.max_tokens = (int64_t)v;
    else if (n == 4 && strncmp(arg, "seed", n) == 0 && number && v >= -1 && v <= 9007199254740991.0)
        t->ask.seed = (int64_t)v;
    else if (*arg)
        return err_set(e, STATUS_INVALID, NULL,
                       "/set temperature -1..100, top-p 0..1, max-tokens 1.., seed -1..");
    printf("temperature %g, top-p %g, max-tokens %lld, seed %lld\n", t->ask.temperature,
           t->ask.top_p, (long long)t->ask.max_tokens, (long long)t->ask.seed);
    return STATUS_OK;
}

static enum status do_again(struct talk *t, const char *arg, bool *quit, struct err *e)
{
    (void)arg;
    (void)quit;
    bool cut;
    if (last_is(t, "assistant"))
        drop_last(t);
    if (!last_is(t, "user"))
        return err_set(e, STATUS_INVALID, NULL, "nothing was asked yet");
    return answer(t, &cut, e);
}

static enum status do_clear(struct talk *t, const char *arg, bool *quit, struct err *e)
{
    (void)arg;
    (void)quit;
    return clear_messages(t, e);
}

static enum status do_quit(struct talk *t, const char *arg, bool *quit, struct err *e)
{
    (void)t;
    (void)arg;
    (void)e;
    *quit = true;
    return STATUS_OK;
}

static enum status do_help(struct talk *t, const char *arg, bool *quit, struct err *e);

static const struct line_command {
    const char *name;
    const char *args;
    const char *help; /* NULL: another name of the one before */
    enum status (*run)(struct talk *t, const char *arg, bool *quit, struct err *e);
} line_commands[] = {
    {"/voice", "[NAME]", "who speaks: an adapter, elf*0.7+villain*0.3, or nobody: the base",
     do_voice},
    {"/adapter", "", NULL, do_voice},
    {"/voices", "", "list them", do_voices},
    {"/adapters", "", NULL, do_voices},
    {"/again", "", "another answer to the last question", do_again},
    {"/system", "[TEXT]", "another system message; the conversation begins anew", do_system},
    {"/set", "[NAME VALUE]", "temperature, top-p, max-tokens or seed", do_set},
    {"/clear", "", "forget the conversation", do_clear},
    {"/help", "", "this list", do_help},
    {"/quit", "", "end (also Ctrl-D)", do_quit},
    {"/exit", "", NULL, do_quit},
};
#define LINE_COMMANDS (sizeof line_commands / sizeof line_commands[0])

static enum status do_help(struct talk *t, const char *arg, bool *quit, struct err *e)
{
    (void)t;
    (void)arg;
    (void)quit;
    (void)e;
    for (size_t i = 0; i < LINE_COMMANDS; i++) {
        const struct line_command *c = &line_commands[i];
        char head[32];
        snprintf(head, sizeof head, "%s %s", c->name, c->args);
        if (c->help)
            printf("%-20s %s\n", head, c->help);
    }
    puts("A line that ends in \\ goes on in the next one; " FENCE " stands around several lines.\n"
         "Ctrl-C ends an answer.");
    return STATUS_OK;
}

static enum status command(struct talk *t, const char *line, bool *quit, struct err *e)
{
    size_t n = strcspn(line, " ");
    const char *arg = line + n + strspn(line + n, " ");
    for (size_t i = 0; i < LINE_COMMANDS; i++) {
        const char *name = line_commands[i].name;
        if (strlen(name) == n && strncmp(line, name, n) == 0)
            return line_commands[i].run(t, arg, quit, e);
    }
    return err_set(e, STATUS_INVALID, NULL, "there is no %.*s; /help lists the commands",
                   n > 32 ? 32 : (int)n, line);
}

/* ---- input ---- */

/* Until the terminal has something to read; false: Ctrl-C. A read alone would miss one that comes
 * just before it. */
static bool input_waits(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!interrupted) {
        int n = poll(&in, 1, INPUT_POLL_MS);
        if (n > 0 || (n < 0 && errno != EINTR))
            return true;
    }
    return false;
}

/* A line of the terminal without its end; false: Ctrl-D, Ctrl-C or an error. */
static bool read_line(char **line, size_t *cap)
{
    if (!input_waits())
        return false;
    ssize_t n = getline(line, cap, stdin);
    if (n < 0)
        return false;
    while (n > 0 && ((*line)[n - 1] == '\n' || (*line)[n - 1] == '\r'))
        (*line)[--n] = '\0';
    return true;
}

/* A message of one or several lines. False: nothing more comes. */
static bool read_message(struct strbuf *out)
{
    char *line = NULL;
    size_t cap = 0;
    bool fenced = false, more = true, open = false;
    strbuf_clear(out);
    while (more) {
        if (open) {
            fputs("... ", stdout);
            fflush(stdout);
        }
        if (!read_line(&line, &cap)) {
            if (interrupted || out->len == 0)
                strbuf_clear(out);
            open = open && (interrupted || out->len > 0); /* what was begun is given up, or said */
            more = false;
            clearerr(stdin);
            putchar('\n');
            mem_free(line); /* getline's block comes from the C library, as mem_free expects */
            return open;
        }
        char *text = line;
        size_t n = strlen(text);
        if (out->len > 0 && !out->failed)
            strbuf_putc(out, '\n');
        if (!open && strncmp(text, FENCE, 3) == 0) {
            fenced = true;
            text += 3;
            n -= 3;
        }
        bool closes = fenced && n >= 3 && strcmp(text + n - 3, FENCE) == 0;
        bool goes_on = !fenced && n > 0 && text[n - 1] == '\\';
        strbuf_append(out, text, n - (closes ? 3 : 0) - (goes_on ? 1 : 0));
        more = goes_on || (fenced && !closes);
        open = true;
    }
    mem_free(line);
    return true;
}

static void converse(struct talk *t)
{
    struct strbuf message;
    strbuf_init(&message, LIMIT_HTTP_BODY_BYTES);
    (void)setvbuf(stdin, NULL, _IONBF, 0); /* what is read ahead, poll does not see */
    printf("%s; /help lists commands, Ctrl-D ends\n", t->link->name);
    for (bool quit = false; !quit;) {
        struct err e = {0};
        bool cut;
        interrupted = 0; /* before the prompt: who sees it may press Ctrl-C */
        if (t->ask.voice.count > 0)
            print_voice(t, "");
        fputs("> ", stdout);
        fflush(stdout);
        if (!read_message(&message))
            break;
        const char *text = strbuf_str(&message);
        enum status st = STATUS_OK;
        if (message.failed)
            st = err_set(&e, STATUS_LIMIT, NULL, "that is too long");
        else if (text[0] == '/')
            st = command(t, text, &quit, &e);
        else if (text[strspn(text, " \t\n")] != '\0')
            st = turn(t, text, &cut, &e);
        if (st != STATUS_OK)
            fprintf(stderr, "%s\n", e.msg);
    }
    strbuf_deinit(&message);
}

static enum status read_stdin(struct strbuf *out, struct err *e)
{
    enum status st = cmd_read_stdin("what to answer", out, e);
    while (out->len > 0 && strchr("\r\n", out->data[out->len - 1]))
        out->data[--out->len] = '\0';
    if (st == STATUS_OK && (out->len == 0 || memchr(out->data, '\0', out->len)))
        st = err_set(e, STATUS_INVALID, NULL, "standard input holds no text to answer");
    return st;
}

static enum status answer_once(struct talk *t, const char *prompt, bool *cut, struct err *e)
{
    struct strbuf text;
    enum status st = STATUS_OK;
    strbuf_init(&text, LIMIT_HTTP_BODY_BYTES);
    if (!*prompt || strcmp(prompt, "-") == 0) {
        st = read_stdin(&text, e);
        prompt = strbuf_str(&text);
    }
    if (st == STATUS_OK)
        st = turn(t, prompt, cut, e);
    strbuf_deinit(&text);
    return st;
}

/* ---- the whole ---- */

/* A model that a file names which nobody asked for is the server's. */
static bool wants_own_model(const struct options *o)
{
    enum option_place from = options_place(o, OPTION_RUN, "model");
    if (from == OPTION_FROM_FILE)
        return options_place(o, OPTION_RUN, "config") == OPTION_FROM_COMMAND_LINE;
    return *o->model && from >= options_place(o, OPTION_RUN, "url");
}

static enum status open_link(const struct options *o, struct chat_link **out, struct err *e)
{
    if (o->args.count > 0)
        return err_set(e, STATUS_INVALID, NULL, "%.64s: what to say comes behind --prompt",
                       o->args.items[0]);
    if (options_place(o, OPTION_RUN, "model") == OPTION_FROM_COMMAND_LINE &&
        options_place(o, OPTION_RUN, "url") == OPTION_FROM_COMMAND_LINE)
        return err_set(e, STATUS_INVALID, "model", "--model or --url, not both");
    if (wants_own_model(o))
        return chat_local_open(o, out, e);
    for (int i = 0; i < o->adapter.count; i++) {
        if (strchr(o->adapter.items[i], '='))
            return err_set(e, STATUS_INVALID, "adapter",
                           "--adapter NAME=PATH goes with --model; a server has its own adapters");
    }
    enum status st = chat_remote_open(o, out, e);
    if (st == STATUS_BUSY) {
        struct err why = *e;
        err_set(e, st, why.param, "%.420s; --model DIR loads a model here", why.msg);
    }
    return st;
}

static void catch_interrupt(bool once)
{
    struct sigaction sa = {.sa_handler = on_interrupt};
    if (once)
        sa.sa_flags = (int)SA_RESETHAND; /* a second Ctrl-C ends the program */
    sigaction(SIGINT, &sa, NULL);
}

static int talk(const struct options *o)
{
    bool once = *o->prompt || !isatty(STDIN_FILENO), cut = false;
    struct err e = {0};
    struct talk t = {
        .ask = {.temperature = o->chat_temperature,
                .top_p = o->chat_top_p,
                .max_tokens = o->chat_max_tokens,
                .seed = o->seed,
                .show = show,
                .stop = &interrupted},
        .screen = isatty(STDOUT_FILENO),
    };
    t.ask.ctx = &t;
    enum status st = open_link(o, &t.link, &e);
    if (st != STATUS_OK)
        return cmd_fail("run", &e);
    t.messages = cJSON_CreateArray();
    t.system = mem_strdup(o->system);
    st = t.messages && t.system ? clear_messages(&t, &e) : no_memory(&e);
    if (st == STATUS_OK && o->adapter.count > 0) {
        const char *named = o->adapter.items[o->adapter.count - 1];
        char voice[512];
        snprintf(voice, sizeof voice, "%.*s", (int)strcspn(named, "="), named);
        st = set_voice(&t, voice, &e);
    }
    catch_interrupt(once);
    if (st == STATUS_OK && once)
        st = answer_once(&t, o->prompt, &cut, &e);
    else if (st == STATUS_OK)
        converse(&t);
    int code = st != STATUS_OK ? cmd_fail("run", &e) : cut ? CMD_EXIT_INTERRUPTED : CMD_EXIT_OK;
    cJSON_Delete(t.messages);
    mem_free(t.system);
    t.link->ops->close(t.link);
    return code;
}

int cmd_run(int argc, char **argv)
{
    static char prompt[] = "--prompt";
    struct options o;
    int code;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "-p") == 0)
            argv[i] = prompt;
    }
    if (cmd_options(OPTION_RUN, argc, argv, &o, &code)) {
        /* A person reads this terminal: the engine's lines stay out of the way unless asked for. */
        if (strcmp(o.log_level, "info") == 0)
            log_setup(LOG_LEVEL_WARN, false);
        else
            engine_setup_log(&o);
        code = talk(&o);
    }
    options_deinit(&o);
    return code;
}
