#include "server/text_table.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/status.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"

void text_table_init(struct text_table *t, int columns, unsigned right)
{
    CHECK(columns > 0 && columns <= TEXT_TABLE_COLUMNS);
    *t = (struct text_table){.columns = columns, .right = right};
}

void text_table_deinit(struct text_table *t)
{
    for (size_t i = 0; i < t->count; i++)
        mem_free(t->cells[i]);
    mem_free(t->cells);
    *t = (struct text_table){0};
}

int text_clean(const char *text, char *out, size_t size)
{
    size_t n = strlen(text);
    size_t len = 0;
    int points = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t k = utf8_decode(text + i, n - i, &cp);
        bool turns = (cp >= 0x200E && cp <= 0x200F) || (cp >= 0x2028 && cp <= 0x202E) ||
                     (cp >= 0x2066 && cp <= 0x2069); /* the order of what stands beside them */
        bool plain = k > 0 && cp >= 0x20 && (cp < 0x7F || cp > 0x9F) && !turns;
        size_t bytes = plain ? k : 1;
        if (len + bytes >= size)
            break;
        if (plain)
            memcpy(out + len, text + i, k);
        else
            out[len] = '?';
        len += bytes;
        i += k ? k : 1;
        points++;
    }
    out[len] = '\0';
    return points;
}

void text_table_cell(struct text_table *t, const char *text)
{
    char clean[TEXT_TABLE_CELL_BYTES];
    int points = text_clean(text ? text : "", clean, sizeof clean);
    char *copy =
        !t->failed && VEC_RESERVE(t->cells, t->cap, t->count + 1) ? mem_strdup(clean) : NULL;
    if (!copy) {
        t->failed = true;
        return;
    }
    int *width = &t->width[t->count % (size_t)t->columns];
    *width = points > *width ? points : *width;
    t->cells[t->count++] = copy;
}

static int points_of(const char *clean)
{
    int points = 0;
    for (const char *c = clean; *c; c++)
        points += ((unsigned char)*c & 0xC0) != 0x80;
    return points;
}

bool text_table_print(const struct text_table *t, const char *indent, struct strbuf *out)
{
    if (t->failed)
        return false;
    for (size_t i = 0; i < t->count; i++) {
        int column = (int)(i % (size_t)t->columns);
        bool last = column == t->columns - 1 || i + 1 == t->count;
        bool right = t->right >> column & 1;
        int fill = t->width[column] - points_of(t->cells[i]);
        strbuf_printf(out, "%s%*s%s", column ? "  " : indent, right ? fill : 0, "", t->cells[i]);
        if (last)
            strbuf_putc(out, '\n');
        else
            strbuf_printf(out, "%*s", right ? 0 : fill, "");
    }
    return !out->failed;
}

void text_bytes(uint64_t bytes, char out[TEXT_SHORT_BYTES])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1000) {
        snprintf(out, TEXT_SHORT_BYTES, "%d B", (int)bytes);
        return;
    }
    double v = (double)bytes / 1024;
    int unit = 0;
    while (v >= 999.95 && unit < 5) {
        v /= 1024;
        unit++;
    }
    snprintf(out, TEXT_SHORT_BYTES, "%.1f %s", v, units[unit]);
}

void text_ago(int64_t now_s, int64_t then_s, char out[TEXT_SHORT_BYTES])
{
    static const struct {
        const char *name;
        int64_t seconds;
    } units[] = {{"year", 31557600}, {"month", 2629800}, {"week", 604800},
                 {"day", 86400},     {"hour", 3600},     {"minute", 60}};
    int64_t s = now_s - then_s;
    if (then_s <= 0) {
        snprintf(out, TEXT_SHORT_BYTES, "-");
        return;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        int n = (int)(s / units[i].seconds);
        if (n > 0) {
            snprintf(out, TEXT_SHORT_BYTES, "%d %s%s ago", n, units[i].name, n > 1 ? "s" : "");
            return;
        }
    }
    snprintf(out, TEXT_SHORT_BYTES, "just now");
}

void text_duration(int64_t seconds, char out[TEXT_SHORT_BYTES])
{
    int64_t s = seconds > 0 ? seconds : 0;
    if (s >= 3600000)
        snprintf(out, TEXT_SHORT_BYTES, "-:--");
    else if (s >= 3600)
        snprintf(out, TEXT_SHORT_BYTES, "%d:%02d:%02d", (int)(s / 3600), (int)(s / 60 % 60),
                 (int)(s % 60));
    else
        snprintf(out, TEXT_SHORT_BYTES, "%d:%02d", (int)(s / 60), (int)(s % 60));
}
