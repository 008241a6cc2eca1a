#include "server/live_view.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "server/text_table.h"

#define TEXT_BYTES_MAX (1u << 20)
#define NAME_COLUMNS   20 /* of names in tables, where lines are cut */
#define ID_COLUMNS     20
#define VOICE_COLUMNS  18
#define ITEM_BYTES     160
#define ROWS_MAX       40 /* of a list, where nothing says how many fit */
#define LABEL_COLUMNS  9

/* ---- members, as far as they are there ---- */

static const cJSON *part(const cJSON *o, const char *key)
{
    return cJSON_IsObject(o) ? json_member(o, key) : NULL;
}

static const char *text(const cJSON *o, const char *key)
{
    const char *s = cJSON_GetStringValue(part(o, key));
    return s ? s : "";
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = part(o, key);
    return cJSON_IsNumber(v) && isfinite(v->valuedouble) && v->valuedouble > 0 ? v->valuedouble : 0;
}

static int64_t count(const cJSON *o, const char *key)
{
    double v = number(o, key);
    return v < 9007199254740992.0 ? (int64_t)v : (int64_t)1 << 53;
}

static bool truth(const cJSON *o, const char *key)
{
    return cJSON_IsTrue(part(o, key));
}

/* ---- lines of items ---- */

/* "label    item  item  item", wrapped. */
struct flow {
    const struct live_view *v;
    struct strbuf *out;
    const char *label; /* until it was written */
    int at;
};

static void flow_item(struct flow *f, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void flow_item(struct flow *f, const char *fmt, ...)
{
    char raw[ITEM_BYTES], clean[ITEM_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    int points = text_clean(raw, clean, sizeof clean);
    int width = f->v->width > 0 ? f->v->width : 80;
    bool first = f->label != NULL;
    if (!first && f->at + 3 + points > width) {
        strbuf_printf(f->out, "\n%*s", LABEL_COLUMNS, "");
        f->at = LABEL_COLUMNS;
    } else if (first) {
        strbuf_printf(f->out, "%-*s", LABEL_COLUMNS, f->label);
        f->at = LABEL_COLUMNS;
    } else {
        strbuf_puts(f->out, "   ");
        f->at += 3;
    }
    strbuf_puts(f->out, clean);
    f->at += points;
    f->label = NULL;
}

static void flow_end(struct flow *f)
{
    if (!f->label)
        strbuf_putc(f->out, '\n');
}

static void write_head(const struct live_view *v, const cJSON *s, struct strbuf *out)
{
    char up[TEXT_SHORT_BYTES];
    const cJSON *m = part(s, "model"), *d = part(s, "device");
    text_duration(count(s, "uptime_s"), up);
    struct flow f = {v, out, "server", 0};
    flow_item(&f, "%s", v->url);
    flow_item(&f, "%s", text(s, "status"));
    flow_item(&f, "up %s", up);
    flow_item(&f, "chorus %s", text(s, "version"));
    flow_end(&f);
    if (!m)
        return;
    f = (struct flow){v, out, "model", 0};
    flow_item(&f, "%s", text(m, "name"));
    flow_item(&f, "%s, %.1f M parameters", text(m, "arch"), number(m, "parameters") / 1e6);
    flow_item(&f, "weights %s", text(m, "weights"));
    flow_item(&f, "head %s", text(m, "head"));
    flow_item(&f, "KV %s", text(m, "kv_cache_type"));
    flow_item(&f, "context %lld", (long long)count(m, "context"));
    flow_end(&f);
    f = (struct flow){v, out, "device", 0};
    flow_item(&f, "%s", *text(d, "name") ? text(d, "name") : text(d, "backend"));
    flow_end(&f);
}

static void write_memory(const struct live_view *v, const cJSON *s, struct strbuf *out)
{
    const cJSON *p;
    struct flow f = {v, out, "memory", 0};
    cJSON_ArrayForEach(p, part(part(s, "memory"), "parts"))
    {
        char bytes[TEXT_SHORT_BYTES], used[TEXT_SHORT_BYTES], name[64];
        snprintf(name, sizeof name, "%s", text(p, "name"));
        for (char *c = name; *c; c++)
            *c = *c == '_' ? ' ' : *c;
        text_bytes((uint64_t)count(p, "bytes"), bytes);
        text_bytes((uint64_t)count(p, "used"), used);
        if (count(p, "used") == count(p, "bytes"))
            flow_item(&f, "%s %s", name, used);
        else
            flow_item(&f, "%s %s of %s", name, used, bytes);
    }
    flow_end(&f);
    const cJSON *kv = part(s, "kv");
    f = (struct flow){v, out, "KV pages", 0};
    flow_item(&f, "%lld used", (long long)count(kv, "used"));
    flow_item(&f, "%lld cached", (long long)count(kv, "cached"));
    flow_item(&f, "%lld free of %lld", (long long)count(kv, "free"), (long long)count(kv, "pages"));
    flow_end(&f);
}

static void write_work(const struct live_view *v, const cJSON *s, struct strbuf *out)
{
    const cJSON *r = part(s, "rates"), *a = part(s, "adapters");
    struct flow f = {v, out, "now", 0};
    flow_item(&f, "%.1f tokens/s", number(r, "tokens_out"));
    flow_item(&f, "%.1f prompt tokens/s", number(r, "tokens_in"));
    flow_item(&f, "%.1f steps/s", number(r, "steps"));
    flow_item(&f, "%lld running, %lld waiting", (long long)count(s, "running"),
              (long long)count(s, "waiting"));
    flow_end(&f);
    f = (struct flow){v, out, "adapters", 0};
    flow_item(&f, "%lld on the device, of %lld slots", (long long)count(a, "device"),
              (long long)count(a, "slots"));
    flow_item(&f, "%lld in host memory", (long long)count(a, "host"));
    flow_item(&f, "%lld on disk", (long long)count(a, "disk"));
    flow_end(&f);
}

/* ---- tables ---- */

/* A name, cut where lines are. */
static void name_cell(const struct live_view *v, struct text_table *t, const char *name,
                      int columns)
{
    char cut[TEXT_TABLE_CELL_BYTES];
    if (v->width > 0 && (int)strlen(name) > columns)
        snprintf(cut, sizeof cut, "%.*s..", columns - 2, name);
    else
        snprintf(cut, sizeof cut, "%s", name);
    text_table_cell(t, cut);
}

static int tier_rank(const cJSON *a)
{
    const char *tier = text(a, "tier");
    return strcmp(tier, "device") == 0 ? 0 : strcmp(tier, "host") == 0 ? 1 : 2;
}

/* Those that are used now, then by tier, then those used last. */
static int by_use(const void *x, const void *y)
{
    const cJSON *a = *(const cJSON *const *)x, *b = *(const cJSON *const *)y;
    int64_t users = count(b, "users") - count(a, "users");
    int64_t last = count(b, "last_used") - count(a, "last_used");
    if (users)
        return users > 0 ? 1 : -1;
    if (tier_rank(a) != tier_rank(b))
        return tier_rank(a) - tier_rank(b);
    return last ? (last > 0 ? 1 : -1) : strcmp(text(a, "name"), text(b, "name"));
}

static void adapter_row(const struct live_view *v, const cJSON *a, struct text_table *t)
{
    char cell[64], bytes[TEXT_SHORT_BYTES];
    const char *state = truth(a, "draining") ? "draining"
                        : truth(a, "moving") ? "loading"
                        : truth(a, "blend")  ? "blend"
                                             : text(a, "tier");
    name_cell(v, t, text(a, "name"), NAME_COLUMNS);
    snprintf(cell, sizeof cell, "%.32s%s", state, truth(a, "pinned") ? " pin" : "");
    text_table_cell(t, cell);
    snprintf(cell, sizeof cell, "%lld", (long long)count(a, "users"));
    text_table_cell(t, cell);
    text_bytes((uint64_t)count(a, "bytes"), bytes);
    text_table_cell(t, truth(a, "blend") ? "-" : bytes);
    snprintf(cell, sizeof cell, "%lld", (long long)count(a, "tokens_out"));
    text_table_cell(t, cell);
    text_ago(v->now_s, count(a, "last_used"), bytes);
    text_table_cell(t, bytes);
}

static void end_table(struct text_table *t, int64_t more, struct strbuf *out)
{
    strbuf_putc(out, '\n');
    if (!text_table_print(t, "", out))
        out->failed = true;
    if (more > 0)
        strbuf_printf(out, "and %lld more (--json lists all)\n", (long long)more);
    text_table_deinit(t);
}

static void write_adapters(const struct live_view *v, const cJSON *s, int rows, struct strbuf *out)
{
    static const char *const heads[] = {"ADAPTER", "TIER", "USERS", "BYTES", "TOKENS", "LAST USED"};
    const cJSON *list = part(part(s, "adapters"), "list");
    int n = cJSON_GetArraySize(list), at = 0;
    const cJSON **sorted = n > 0 ? mem_calloc((size_t)n, sizeof(const cJSON *)) : NULL;
    if (n == 0 || rows <= 0)
        goto done;
    if (!sorted) {
        out->failed = true;
        return;
    }
    const cJSON *a;
    cJSON_ArrayForEach(a, list) sorted[at++] = a;
    qsort(sorted, (size_t)n, sizeof(const cJSON *), by_use);
    struct text_table t;
    text_table_init(&t, 6, 1u << 2 | 1u << 3 | 1u << 4);
    for (int i = 0; i < 6; i++)
        text_table_cell(&t, heads[i]);
    for (int i = 0; i < n && i < rows; i++)
        adapter_row(v, sorted[i], &t);
    end_table(&t, n - rows, out);
done:
    mem_free(sorted);
}

static void sequence_row(const struct live_view *v, const cJSON *q, struct text_table *t)
{
    char cell[TEXT_TABLE_CELL_BYTES];
    size_t n = 0;
    const cJSON *a;
    name_cell(v, t, text(q, "request_id"), ID_COLUMNS);
    text_table_cell(t, text(q, "state"));
    snprintf(cell, sizeof cell, "(base)");
    cJSON_ArrayForEach(a, part(q, "adapters"))
    {
        if (n < sizeof cell)
            n += (size_t)snprintf(cell + n, sizeof cell - n, "%s%s", n ? "+" : "", text(a, "name"));
    }
    name_cell(v, t, cell, VOICE_COLUMNS);
    snprintf(cell, sizeof cell, "%lld", (long long)count(q, "tokens_in"));
    text_table_cell(t, cell);
    n = (size_t)snprintf(cell, sizeof cell, "%lld", (long long)count(q, "tokens_out"));
    if (count(q, "max_tokens") > 0)
        snprintf(cell + n, sizeof cell - n, "/%lld", (long long)count(q, "max_tokens"));
    text_table_cell(t, cell);
    snprintf(cell, sizeof cell, "%.1f s", number(q, "age_s"));
    text_table_cell(t, cell);
}

static void write_sequences(const struct live_view *v, const cJSON *s, int rows, struct strbuf *out)
{
    static const char *const heads[] = {"REQUEST", "STATE", "VOICE", "IN", "OUT", "AGE"};
    const cJSON *list = part(s, "sequences"), *q;
    int n = cJSON_GetArraySize(list), shown = 0;
    if (n == 0 || rows <= 0)
        return;
    struct text_table t;
    text_table_init(&t, 6, 1u << 3 | 1u << 4 | 1u << 5);
    for (int i = 0; i < 6; i++)
        text_table_cell(&t, heads[i]);
    cJSON_ArrayForEach(q, list)
    {
        if (shown++ < rows)
            sequence_row(v, q, &t);
    }
    end_table(&t, (n > rows ? n - rows : 0) + count(s, "more_sequences"), out);
}

/* ---- all ---- */

static int lines_of(const struct strbuf *b)
{
    int lines = 0;
    for (size_t i = 0; i < b->len; i++)
        lines += b->data[i] == '\n';
    return lines;
}

/* Copies lines, cut to the width. */
static void copy_cut(const struct live_view *v, const struct strbuf *from, struct strbuf *out)
{
    int column = 0;
    for (size_t i = 0; i < from->len; i++) {
        char c = from->data[i];
        bool begins = ((unsigned char)c & 0xC0) != 0x80;
        column = c == '\n' ? 0 : column + begins;
        if (c == '\n' || v->width <= 0 || column <= v->width)
            strbuf_putc(out, c);
    }
}

/* What is left of the height is shared: a list takes its heading, a blank line and one that tells
 * of more. */
static void share_rows(const struct live_view *v, const struct strbuf *head, const cJSON *s,
                       int *adapters, int *sequences)
{
    int a = cJSON_GetArraySize(part(part(s, "adapters"), "list"));
    int q = cJSON_GetArraySize(part(s, "sequences"));
    *adapters = *sequences = ROWS_MAX;
    if (v->height <= 0)
        return;
    int left = v->height - lines_of(head) - (a ? 3 : 0) - (q ? 3 : 0);
    int half = left / 2;
    *sequences = a == 0 || a < half ? left - a : half;
    *sequences = q < *sequences ? q : *sequences;
    *adapters = left - *sequences;
}

bool live_view_is_status(const cJSON *answer)
{
    return strcmp(text(answer, "object"), "status") == 0;
}

bool live_view_write(const struct live_view *v, const cJSON *status, struct strbuf *out)
{
    struct strbuf b;
    int adapters, sequences;
    strbuf_init(&b, TEXT_BYTES_MAX);
    write_head(v, status, &b);
    if (part(status, "model")) {
        write_memory(v, status, &b);
        write_work(v, status, &b);
        share_rows(v, &b, status, &adapters, &sequences);
        write_adapters(v, status, adapters, &b);
        write_sequences(v, status, sequences, &b);
    }
    if (!b.failed)
        copy_cut(v, &b, out);
    bool ok = !b.failed && !out->failed;
    strbuf_deinit(&b);
    return ok;
}
