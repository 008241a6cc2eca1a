/* From the four places into struct options. Every refusal names the setting, the value, what is
 * allowed and where it stood. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/option_table.h"
#include "engine/base/file.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"

#define CONFIG_FILE_BYTES_MAX (1u << 20)
#define SHOWN_BYTES           64 /* of a value in a message */
#define SYSTEM_FILE           "/etc/chorus/chorus.conf"

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* A value for a message: cut, and nothing in it moves a terminal's cursor. */
static const char *shown(const char *value, char out[SHOWN_BYTES + 4])
{
    size_t n = strlen(value);
    bool cut = n > SHOWN_BYTES;
    n = cut ? SHOWN_BYTES : n;
    while (cut && n > 0 && ((unsigned char)value[n] & 0xC0) == 0x80)
        n--;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)((unsigned char)value[i] < ' ' || value[i] == 0x7F ? '?' : value[i]);
    memcpy(out + n, cut ? "..." : "", cut ? 4 : 1);
    return out;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t n = strlen(value);
    for (const char *c = choices; c; c = strchr(c, '|')) {
        c += *c == '|';
        if (n > 0 && strncmp(c, value, n) == 0 && (c[n] == '|' || c[n] == '\0'))
            return true;
    }
    return false;
}

static enum status set_string(char **field, const char *value, struct err *e)
{
    char *copy = mem_strdup(value);
    if (!copy)
        return out_of_memory(e);
    mem_free(*field);
    *field = copy;
    return STATUS_OK;
}

static enum status list_push(struct option_list *l, const char *name, const char *value,
                             struct err *e)
{
    if (l->count == OPTION_LIST_MAX)
        return err_set(e, STATUS_LIMIT, name, "%s: more than %d values", name, OPTION_LIST_MAX);
    l->items[l->count] = mem_strdup(value);
    if (!l->items[l->count])
        return out_of_memory(e);
    l->count++;
    return STATUS_OK;
}

static enum status refuse(const struct option_def *d, const char *value, const char *why,
                          struct err *e)
{
    char text[SHOWN_BYTES + 4];
    struct strbuf range;
    strbuf_init(&range, 1024);
    option_range(d, &range);
    enum status st = err_set(e, STATUS_INVALID, d->name, "%s: \"%s\" is %s%s", d->name,
                             shown(value, text), why, strbuf_str(&range));
    strbuf_deinit(&range);
    return st;
}

static enum status set_number(const struct option_def *d, const char *value, struct options *o,
                              struct err *e)
{
    errno = 0;
    char *end;
    long long whole = 0;
    double v;
    if (d->type == TYPE_INT) {
        whole = strtoll(value, &end, 10);
        v = (double)whole;
    } else {
        v = strtod(value, &end);
    }
    if (end == value || *end != '\0' || !isfinite(v))
        return refuse(d, value, "not a number: ", e);
    if (errno != 0 || v < d->min || v > d->max)
        return refuse(d, value, "out of range: ", e);
    if (d->type == TYPE_INT)
        *(int64_t *)option_field(o, d) = whole;
    else
        *(double *)option_field(o, d) = v;
    return STATUS_OK;
}

enum status option_set(const struct option_def *d, const char *value, struct options *o,
                       struct err *e)
{
    double share;
    size_t bytes;
    switch (d->type) {
    case TYPE_GROUP:
        return STATUS_OK;
    case TYPE_LIST:
        if (*value && strcmp(d->arg, "NAME=PATH") == 0 && !strchr(value, '='))
            return refuse(d, value, "not ", e);
        return *value ? list_push(option_field(o, d), d->name, value, e) : STATUS_OK;
    case TYPE_INT:
    case TYPE_NUM:
        return set_number(d, value, o, e);
    case TYPE_BOOL:
        if (!is_choice("true|1|yes|on", value) && !is_choice("false|0|no|off", value))
            return refuse(d, value, "not ", e);
        *(bool *)option_field(o, d) = is_choice("true|1|yes|on", value);
        return STATUS_OK;
    case TYPE_CHOICE:
        if (!is_choice(d->choices, value))
            return refuse(d, value, "not ", e);
        break;
    case TYPE_BYTES:
        if (strcmp(value, "auto") != 0 && !options_bytes(value, &bytes))
            return refuse(d, value, "not ", e);
        break;
    case TYPE_MEMORY:
        if (!options_memory(value, &share, &bytes))
            return refuse(d, value, "not ", e);
        break;
    case TYPE_STR:
        break;
    }
    return set_string(option_field(o, d), value, e);
}

void option_list_clear(struct option_list *l)
{
    for (int i = 0; i < l->count; i++)
        mem_free(l->items[i]);
    l->count = 0;
}

/* One of the four. A list given in a later place replaces the earlier one's; within one place it
 * grows. */
struct place {
    struct options *o;
    unsigned command;
    enum option_place kind;
    const char *path; /* of the file */
    int line;
    bool seen[OPTION_ROWS_MAX];
};

static void name_place(const struct place *p, const char *name, struct strbuf *out)
{
    char variable[64];
    option_variable(name, variable);
    if (p->kind == OPTION_FROM_FILE)
        strbuf_printf(out, "%s:%d", p->path, p->line);
    else
        strbuf_puts(out, p->kind == OPTION_FROM_ENVIRONMENT ? variable : "command line");
}

static enum status place_set(struct place *p, const struct option_def *d, const char *value,
                             struct err *e)
{
    size_t i = (size_t)(d - option_rows);
    struct option_origin *from = &p->o->origin[i];
    if (d->type == TYPE_LIST && !p->seen[i])
        option_list_clear(option_field(p->o, d));
    enum status st = option_set(d, value, p->o, e);
    if (st == STATUS_OK && (!p->seen[i] || d->type != TYPE_LIST))
        *from = (struct option_origin){.place = (unsigned char)p->kind, .line = p->line};
    p->seen[i] = true;
    if (st != STATUS_INVALID && st != STATUS_LIMIT)
        return st;
    struct strbuf where;
    strbuf_init(&where, OPTION_PATH_BYTES + 64);
    name_place(p, d->name, &where);
    struct err inner = *e;
    st = err_set(e, inner.code, inner.param, "%s (%s)", inner.msg, strbuf_str(&where));
    strbuf_deinit(&where);
    return st;
}

/* ---- the file ---- */

static enum status bad_line(const struct place *p, struct err *e, const char *what,
                            const char *text)
{
    char cut[SHOWN_BYTES + 4];
    return err_set(e, STATUS_INVALID, "config", "%s:%d: %s%s", p->path, p->line, what,
                   shown(text, cut));
}

static char *trim(char *s)
{
    s += strspn(s, " \t\r");
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r", s[n - 1]))
        s[--n] = '\0';
    return s;
}

static int hex_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One character behind a backslash; *s is moved behind it. 0: there is no such. */
static char unescape(const char **s)
{
    static const char names[] = "nrt\"\\";
    static const char means[] = "\n\r\t\"\\";
    const char *at = **s ? strchr(names, **s) : NULL;
    if (at) {
        ++*s;
        return means[at - names];
    }
    int high = **s == 'x' ? hex_of((*s)[1]) : -1;
    int low = high >= 0 ? hex_of((*s)[2]) : -1;
    if (low < 0)
        return '\0';
    *s += 3;
    return (char)(high * 16 + low);
}

/* In place: "..." with escapes as it is, else up to a comment (a # behind a blank). False: a quote
 * is not closed, there is text behind it, or an escape is not known. */
static bool unquote(char *s)
{
    if (*s != '"') {
        for (char *c = s; *c; c++) {
            if (*c == '#' && (c == s || c[-1] == ' ' || c[-1] == '\t'))
                *c-- = '\0';
        }
        return true;
    }
    const char *from = s + 1;
    char *to = s;
    while (*from && *from != '"') {
        char c = *from++;
        if (c == '\\' && !(c = unescape(&from)))
            return false;
        *to++ = c;
    }
    bool closed = *from == '"';
    from += closed;
    from += strspn(from, " \t");
    closed = closed && (*from == '\0' || *from == '#');
    *to = '\0';
    return closed;
}

/* One line of the file: empty, a comment, a [section] heading for people, or "name = value". */
static enum status config_line(struct place *p, char *line, struct err *e)
{
    char *s = trim(line);
    if (*s == '\0' || *s == '#' || *s == ';')
        return STATUS_OK;
    if (*s == '[')
        return strchr(s, ']') ? STATUS_OK : bad_line(p, e, "a heading without ]: ", s);
    char *eq = strchr(s, '=');
    if (!eq)
        return bad_line(p, e, "expected name = value, not: ", s);
    *eq = '\0';
    char *name = trim(s);
    char *value = trim(eq + 1);
    const struct option_def *d = option_find(name, strlen(name), OPTION_SERVE);
    if (!d || !option_is_in_file(d)) {
        const struct option_def *near = option_nearest(name, strlen(name), OPTION_SERVE);
        enum status st = bad_line(p, e, "unknown setting ", name);
        if (near && option_is_in_file(near)) {
            struct err inner = *e;
            st = err_set(e, st, "config", "%s; is %s meant?", inner.msg, near->name);
        }
        return st;
    }
    bool quoted = *value == '"';
    if (!unquote(value))
        return bad_line(p, e, "a bad quoted value of ", name);
    value = quoted ? value : trim(value);
    size_t i = (size_t)(d - option_rows);
    if (d->type != TYPE_LIST && p->seen[i])
        return bad_line(p, e, "set twice in this file: ", name);
    if (!(d->commands & p->command)) {
        p->seen[i] = true;
        return STATUS_OK; /* a setting of serve that this command has no use for */
    }
    return place_set(p, d, value, e);
}

static enum status load_text(struct place *p, char *text, size_t n, struct err *e)
{
    static const char bom[] = "\xEF\xBB\xBF";
    if (memchr(text, '\0', n))
        return err_set(e, STATUS_BAD_FILE, "config", "%s holds a NUL byte", p->path);
    if (strncmp(text, bom, sizeof bom - 1) == 0)
        text += sizeof bom - 1;
    enum status st = STATUS_OK;
    p->line = 0;
    while (st == STATUS_OK && *text) {
        size_t len = strcspn(text, "\n");
        char *next = text + len + (text[len] == '\n');
        text[len] = '\0';
        p->line++;
        st = config_line(p, text, e);
        text = next;
    }
    return st;
}

static enum status load_file(struct place *p, struct err *e)
{
    struct file_root root;
    char *text;
    size_t n;
    enum status st = file_root_open(".", false, &root, e);
    if (st != STATUS_OK)
        return st;
    st = file_read(&root, p->path, CONFIG_FILE_BYTES_MAX, &text, &n, NULL, e);
    file_root_close(&root);
    if (st != STATUS_OK) {
        struct err inner = *e;
        return err_set(e, st, "config", "cannot read the settings: %s", inner.msg);
    }
    st = load_text(p, text, n, e);
    mem_free(text);
    return st;
}

/* ---- the environment ---- */

/* A list in a variable is separated by commas. */
static enum status env_list(struct place *p, const struct option_def *d, const char *value,
                            struct err *e)
{
    enum status st = STATUS_OK;
    while (st == STATUS_OK && *value) {
        size_t n = strcspn(value, ",");
        char *item = mem_strndup(value, n);
        if (!item)
            return out_of_memory(e);
        st = place_set(p, d, item, e);
        mem_free(item);
        value += n + (value[n] == ',');
    }
    return st;
}

/* Kubernetes puts CHORUS_PORT=tcp://10.0.0.1:80 into every container beside a Service named
 * chorus. */
static bool is_service_link(const struct option_def *d, const char *value)
{
    return strcmp(d->name, "port") == 0 &&
           (strncmp(value, "tcp://", 6) == 0 || strncmp(value, "udp://", 6) == 0);
}

/* An empty variable is as good as none: so are those that compose files and units pass on. */
static enum status load_env(struct place *p, struct err *e)
{
    enum status st = STATUS_OK;
    for (size_t i = 0; st == STATUS_OK && i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        char name[64];
        option_variable(d->name, name);
        const char *value =
            (d->commands & p->command) && !(d->commands & OPTION_ONCE) ? getenv(name) : NULL;
        if (!value || !*value || is_service_link(d, value))
            continue;
        st = d->type == TYPE_LIST ? env_list(p, d, value, e) : place_set(p, d, value, e);
    }
    return st;
}

/* ---- the command line ---- */

static enum status unknown_option(const char *arg, const char *name, size_t n, unsigned command,
                                  struct err *e)
{
    char cut[SHOWN_BYTES + 4];
    shown(arg, cut);
    const struct option_def *d = option_nearest(name, n, command);
    if (d)
        return err_set(e, STATUS_INVALID, arg, "unknown option %s; is --%s meant?", cut, d->name);
    d = option_find(name, n, ~0u);
    if (d)
        return err_set(e, STATUS_INVALID, arg, "unknown option %s; chorus %s has one of that name",
                       cut, command_name(d->commands));
    return err_set(e, STATUS_INVALID, arg, "unknown option %s; chorus %s --help lists them", cut,
                   command_name(command));
}

/* --name value, --name=value, --flag, --no-flag; `once`: only what is no setting (--config,
 * --help), else only what is one. */
static enum status load_args(int argc, char **argv, struct place *p, bool once, struct err *e)
{
    bool plain = false; /* after "--" */
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (plain || a[0] != '-' || a[1] == '\0') {
            enum status st = once ? STATUS_OK : list_push(&p->o->args, "arguments", a, e);
            if (st != STATUS_OK)
                return st;
            continue;
        }
        if (strcmp(a, "--") == 0) {
            plain = true;
            continue;
        }
        const char *name = strcmp(a, "-h") == 0 ? "help" : a[1] == '-' ? a + 2 : a + 1;
        size_t n = strcspn(name, "=");
        const struct option_def *d = option_find(name, n, p->command);
        const char *value = name[n] == '=' ? name + n + 1 : NULL;
        if (!d && strncmp(name, "no-", 3) == 0 && !value) {
            d = option_find(name + 3, n - 3, p->command);
            value = "false";
            if (d && d->type != TYPE_BOOL)
                d = NULL;
        }
        if (!d)
            return unknown_option(a, name, n, p->command, e);
        if (!value && d->type == TYPE_BOOL)
            value = "true";
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value)
            return err_set(e, STATUS_INVALID, d->name, "--%s needs a value: %s", d->name, d->arg);
        if (once != ((d->commands & OPTION_ONCE) != 0))
            continue;
        enum status st = place_set(p, d, value, e);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

/* ---- all of them ---- */

/* The file that nobody named: the user's, else the system's, of those that `mode` allows. */
static void default_file(int mode, char out[OPTION_PATH_BYTES])
{
    const char *xdg = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    int n = 0;
    out[0] = '\0';
    if (xdg && *xdg == '/')
        n = snprintf(out, OPTION_PATH_BYTES, "%s/chorus/chorus.conf", xdg);
    else if (home && *home == '/')
        n = snprintf(out, OPTION_PATH_BYTES, "%s/.config/chorus/chorus.conf", home);
    if (n > 0 && n < OPTION_PATH_BYTES && access(out, mode) == 0)
        return;
    snprintf(out, OPTION_PATH_BYTES, "%s", access(SYSTEM_FILE, mode) == 0 ? SYSTEM_FILE : "");
}

static enum status choose_file(enum option_command command, struct options *o, struct err *e)
{
    char found[OPTION_PATH_BYTES];
    const char *path = *o->config ? o->config : getenv("CHORUS_CONFIG");
    bool has_file = option_find("config", strlen("config"), command) != NULL;
    if (!has_file)
        return STATUS_OK;
    if (!path || !*path) {
        /* Who only wants to find the server takes the settings if they may be read. */
        default_file(command == OPTION_SERVE ? F_OK : R_OK, found);
        path = found;
    }
    if (!path || strcmp(path, "none") == 0)
        path = "";
    return strcmp(path, o->config) == 0 ? STATUS_OK : set_string(&o->config, path, e);
}

enum status options_load(enum option_command command, int argc, char **argv, struct options *o,
                         struct err *e)
{
    *o = (struct options){0};
    enum status st = STATUS_OK;
    for (size_t i = 0; st == STATUS_OK && i < option_row_count; i++)
        st = option_set(&option_rows[i], option_rows[i].value, o, e);
    struct place args = {.o = o, .command = command, .kind = OPTION_FROM_COMMAND_LINE};
    struct place env = {.o = o, .command = command, .kind = OPTION_FROM_ENVIRONMENT};
    struct place file = {.o = o, .command = command, .kind = OPTION_FROM_FILE};
    if (st == STATUS_OK)
        st = load_args(argc, argv, &args, true, e);
    if (st != STATUS_OK || o->help)
        return st; /* help is there whatever a file or a variable says */
    st = choose_file(command, o, e);
    if (st == STATUS_OK && *o->config) {
        file.path = o->config;
        st = load_file(&file, e);
    }
    if (st == STATUS_OK)
        st = load_env(&env, e);
    if (st == STATUS_OK)
        st = load_args(argc, argv, &args, false, e);
    return st;
}

void options_deinit(struct options *o)
{
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        char **s = option_field(o, d);
        if (d->type == TYPE_LIST) {
            option_list_clear(option_field(o, d));
        } else if (d->type != TYPE_GROUP && d->type != TYPE_INT && d->type != TYPE_NUM &&
                   d->type != TYPE_BOOL) {
            mem_free(*s);
            *s = NULL;
        }
    }
    option_list_clear(&o->args);
}
