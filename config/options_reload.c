#include "config/options_reload.h"

#include <string.h>

#include "config/option_table.h"

static void value_of(const struct option_def *d, const struct options *o, struct strbuf *out)
{
    strbuf_clear(out);
    const struct option_list *l =
        d->type == TYPE_LIST ? (const void *)((const char *)o + d->offset) : NULL;
    for (int i = 0; l && i < l->count; i++)
        strbuf_printf(out, "%s%s", i ? "," : "", l->items[i]);
    option_text(d, o, out);
}

static size_t size_of(const struct option_def *d)
{
    switch (d->type) {
    case TYPE_LIST:
        return sizeof(struct option_list);
    case TYPE_INT:
        return sizeof(int64_t);
    case TYPE_NUM:
        return sizeof(double);
    case TYPE_BOOL:
        return sizeof(bool);
    default:
        return sizeof(char *);
    }
}

static void swap(void *a, void *b, size_t n)
{
    unsigned char *x = a;
    unsigned char *y = b;
    for (size_t i = 0; i < n; i++) {
        unsigned char was = x[i];
        x[i] = y[i];
        y[i] = was;
    }
}

void options_adopt(enum option_command command, struct options *o, struct options *next,
                   void (*tell)(void *ctx, const struct option_change *change), void *ctx)
{
    struct strbuf was;
    struct strbuf is;
    strbuf_init(&was, OPTION_LIST_MAX * OPTION_PATH_BYTES);
    strbuf_init(&is, OPTION_LIST_MAX * OPTION_PATH_BYTES);
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        if (!(d->commands & command) || (d->commands & OPTION_ONCE))
            continue;
        value_of(d, o, &was);
        value_of(d, next, &is);
        bool same = strcmp(strbuf_str(&was), strbuf_str(&is)) == 0;
        bool live = (d->commands & OPTION_LIVE) != 0;
        bool secret = (d->commands & OPTION_SECRET) != 0;
        if (live) {
            swap(option_field(o, d), option_field(next, d), size_of(d));
            swap(&o->origin[i], &next->origin[i], sizeof o->origin[i]);
        }
        if (!same)
            tell(ctx, &(struct option_change){.name = d->name,
                                              .was = secret ? "(hidden)" : strbuf_str(&was),
                                              .is = secret ? "(hidden)" : strbuf_str(&is),
                                              .applied = live});
    }
    swap(&o->config, &next->config, sizeof o->config);
    strbuf_deinit(&was);
    strbuf_deinit(&is);
}
