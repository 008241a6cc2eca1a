/* --help, --print-config and config/chorus.conf. */
#include <string.h>

#include "config/option_table.h"
#include "config/options_text.h"

#define COLUMNS     80
#define HELP_COLUMN 26

void *option_field(struct options *o, const struct option_def *d)
{
    return (char *)o + d->offset;
}

static const void *field_of(const struct options *o, const struct option_def *d)
{
    return (const char *)o + d->offset;
}

void option_text(const struct option_def *d, const struct options *o, struct strbuf *out)
{
    const void *field = field_of(o, d);
    if (d->type == TYPE_INT)
        strbuf_printf(out, "%lld", (long long)*(const int64_t *)field);
    else if (d->type == TYPE_NUM)
        strbuf_printf(out, "%.15g", *(const double *)field);
    else if (d->type == TYPE_BOOL)
        strbuf_puts(out, *(const bool *)field ? "true" : "false");
    else if (d->type != TYPE_LIST && d->type != TYPE_GROUP)
        strbuf_puts(out, *(char *const *)field);
}

void option_range(const struct option_def *d, struct strbuf *out)
{
    if (d->type == TYPE_INT || d->type == TYPE_NUM) {
        strbuf_printf(out, "%.15g to %.15g", d->min, d->max);
    } else if (d->type == TYPE_BOOL) {
        strbuf_puts(out, "true or false");
    } else if (d->type == TYPE_BYTES) {
        strbuf_puts(out, "auto or bytes like 2GiB");
    } else if (d->type == TYPE_MEMORY) {
        strbuf_puts(out, "a share like 0.9 or bytes like 6GiB");
    } else if (d->type == TYPE_LIST && strcmp(d->arg, "NAME=PATH") == 0) {
        strbuf_puts(out, d->arg);
    } else if (d->type == TYPE_CHOICE) {
        strbuf_puts(out, "one of ");
        for (const char *c = d->choices; *c; c++)
            strbuf_puts(out, *c == '|' ? ", " : (const char[]){*c, '\0'});
    }
}

void option_wrap(struct strbuf *out, const char *text, size_t column, size_t indent, size_t width)
{
    bool first = true; /* of its line */
    while (*text) {
        size_t n = strcspn(text, " ");
        if (!first && column + 1 + n > width) {
            strbuf_printf(out, "\n%*s", (int)indent, "");
            column = indent;
            first = true;
        }
        strbuf_puts(out, first ? "" : " ");
        column += n + !first;
        strbuf_append(out, text, n);
        first = false;
        text += n;
        text += strspn(text, " ");
    }
    strbuf_putc(out, '\n');
}

/* ---- help ---- */

static void help_row(const struct option_def *d, struct strbuf *out)
{
    struct strbuf text;
    strbuf_init(&text, OPTIONS_TEXT_BYTES);
    size_t from = out->len;
    bool on = d->type == TYPE_BOOL && strcmp(d->value, "true") == 0;
    strbuf_printf(out, "  --%s%s%s%s", on ? "[no-]" : "", d->name, d->arg ? " " : "",
                  d->arg ? d->arg : "");
    if (out->len - from + 2 > HELP_COLUMN)
        strbuf_printf(out, "\n%*s", HELP_COLUMN, "");
    else
        strbuf_printf(out, "%*s", (int)(HELP_COLUMN - (out->len - from)), "");
    strbuf_puts(&text, d->help);
    if (d->type == TYPE_LIST)
        strbuf_puts(&text, " (may be repeated)");
    if (*d->value && (d->type != TYPE_BOOL || on))
        strbuf_printf(&text, " (default: %s)", d->value);
    option_wrap(out, strbuf_str(&text), HELP_COLUMN, HELP_COLUMN, COLUMNS - 1);
    strbuf_deinit(&text);
}

void options_help(enum option_command command, struct strbuf *out)
{
    int number = 0;
    while (command >> number > 1)
        number++;
    const struct command_text *c = &command_texts[number];
    strbuf_puts(out, "usage: chorus ");
    struct strbuf text;
    strbuf_init(&text, OPTIONS_TEXT_BYTES);
    strbuf_printf(&text, "%s %s", c->name, c->args);
    option_wrap(out, strbuf_str(&text), strlen("usage: chorus "), strlen("usage: chorus "),
                COLUMNS - 1);
    strbuf_clear(&text);
    strbuf_printf(&text, "%c%s. %s", c->what[0] - 'a' + 'A', c->what + 1, c->more);
    strbuf_putc(out, '\n');
    option_wrap(out, strbuf_str(&text), 0, 0, COLUMNS - 1);
    strbuf_deinit(&text);
    const char *group = NULL;
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        if (d->type == TYPE_GROUP)
            group = d->name;
        if (!(d->commands & command))
            continue;
        if (group)
            strbuf_printf(out, "\n%s:\n", group);
        group = NULL;
        help_row(d, out);
    }
}

/* ---- files ---- */

/* A value as the file has it: in quotes where a reader would see something else. */
static void put_value(const char *s, struct strbuf *out)
{
    size_t n = strlen(s);
    bool plain = n == 0 || (s[0] != ' ' && s[0] != '"' && s[0] != '#' && s[n - 1] != ' ');
    for (const char *c = s; *c && plain; c++)
        plain = (unsigned char)*c >= ' ' && *c != 0x7F && !(c[0] == ' ' && c[1] == '#');
    if (plain) {
        strbuf_puts(out, s);
        return;
    }
    strbuf_putc(out, '"');
    for (const char *c = s; *c; c++) {
        if (*c == '"' || *c == '\\')
            strbuf_printf(out, "\\%c", *c);
        else if ((unsigned char)*c < ' ' || *c == 0x7F)
            strbuf_printf(out, "\\x%02x", (unsigned char)*c);
        else
            strbuf_putc(out, *c);
    }
    strbuf_putc(out, '"');
}

static void put_origin(const struct option_def *d, const struct options *o, struct strbuf *out)
{
    const struct option_origin *from = &o->origin[d - option_rows];
    char variable[64];
    option_variable(d->name, variable);
    if (from->place == OPTION_FROM_FILE)
        strbuf_printf(out, "%s:%d", o->config, from->line);
    else
        strbuf_puts(out, from->place == OPTION_FROM_ENVIRONMENT    ? variable
                         : from->place == OPTION_FROM_COMMAND_LINE ? "command line"
                                                                   : "default");
}

static void print_value(const struct option_def *d, const struct options *o, const char *value,
                        struct strbuf *out)
{
    bool secret = (d->commands & OPTION_SECRET) && *value;
    bool unset = !*value && o->origin[d - option_rows].place == OPTION_FROM_DEFAULT;
    size_t from = out->len;
    strbuf_printf(out, "%s%s =", unset || secret ? "#" : "", d->name);
    if (*value) {
        strbuf_putc(out, ' ');
        if (secret)
            strbuf_puts(out, "(hidden)");
        else
            put_value(value, out);
    }
    size_t n = out->len - from;
    strbuf_printf(out, "%*s  # ", n < 38 ? (int)(38 - n) : 0, "");
    put_origin(d, o, out);
    strbuf_putc(out, '\n');
}

static void print_setting(const struct option_def *d, const struct options *o, struct strbuf *out)
{
    struct strbuf text;
    strbuf_init(&text, OPTIONS_TEXT_BYTES);
    const struct option_list *l = d->type == TYPE_LIST ? field_of(o, d) : NULL;
    for (int i = 0; l && i < l->count; i++)
        print_value(d, o, l->items[i], out);
    option_text(d, o, &text);
    if (!l || l->count == 0)
        print_value(d, o, strbuf_str(&text), out);
    strbuf_deinit(&text);
}

static void put_group(const char *title, struct strbuf *out)
{
    strbuf_puts(out, "\n[");
    for (const char *c = title; *c; c++)
        strbuf_putc(out, (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c == ' ' ? '-' : *c));
    strbuf_puts(out, "]\n");
}

void options_print(enum option_command command, const struct options *o, struct strbuf *out)
{
    strbuf_printf(out, "# Settings of chorus %s and where each came from. The file that was read: ",
                  command_name(command));
    strbuf_printf(out, "%s\n", *o->config ? o->config : "none");
    const char *group = NULL;
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        if (d->type == TYPE_GROUP)
            group = d->name;
        if (!(d->commands & command) || (d->commands & OPTION_ONCE))
            continue;
        if (group)
            put_group(group, out);
        group = NULL;
        print_setting(d, o, out);
    }
}

static void put_comment(const char *text, struct strbuf *out)
{
    struct strbuf lines;
    strbuf_init(&lines, OPTIONS_TEXT_BYTES);
    option_wrap(&lines, text, 2, 0, COLUMNS - 2);
    for (const char *s = strbuf_str(&lines); *s;) {
        size_t n = strcspn(s, "\n");
        strbuf_printf(out, "# %.*s\n", (int)n, s);
        s += n + (s[n] == '\n');
    }
    strbuf_deinit(&lines);
}

void options_print_file(struct strbuf *out)
{
    strbuf_puts(
        out, "# Chorus: every setting of `chorus serve` with its default. See chorus.conf(5).\n"
             "#\n"
             "# The command line wins over CHORUS_<NAME> variables, which win over this file.\n"
             "# `chorus serve --print-config` shows what holds, and why. A setting that may be\n"
             "# repeated is a list. Headings in brackets are for people. A # behind a blank\n"
             "# begins a comment; a value in double quotes may hold one, and \\\" \\\\ \\n \\xHH.\n"
             "# Those marked \"reloadable\" are read again at SIGHUP (systemctl reload), the\n"
             "# others at the next start.\n");
    struct strbuf text;
    strbuf_init(&text, OPTIONS_TEXT_BYTES);
    const char *group = NULL;
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        if (d->type == TYPE_GROUP)
            group = d->name;
        if (!option_is_in_file(d))
            continue;
        if (group)
            put_group(group, out);
        group = NULL;
        strbuf_clear(&text);
        strbuf_puts(&text, d->help);
        strbuf_putc(out, '\n');
        put_comment(strbuf_str(&text), out);
        strbuf_clear(&text);
        option_range(d, &text);
        if (d->type == TYPE_LIST)
            strbuf_puts(&text, text.len ? "; may be repeated" : "may be repeated");
        if (d->commands & OPTION_LIVE)
            strbuf_puts(&text, text.len ? "; reloadable" : "reloadable");
        if (text.len)
            put_comment(strbuf_str(&text), out);
        strbuf_printf(out, "#%s =%s%s\n", d->name, *d->value ? " " : "", d->value);
    }
    strbuf_deinit(&text);
}
