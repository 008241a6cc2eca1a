#include "server/metrics_text.h"

#include <string.h>

#include "engine/base/utf8.h"

void metrics_text_head(struct strbuf *b, const char *name, const char *type, const char *help)
{
    strbuf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_text_value(struct strbuf *b, const char *name, const char *type, const char *help,
                        double value)
{
    metrics_text_head(b, name, type, help);
    strbuf_printf(b, "%s %.17g\n", name, value);
}

void metrics_text_quoted(struct strbuf *b, const char *value)
{
    size_t n = strlen(value);
    strbuf_putc(b, '"');
    for (size_t i = 0, len; i < n; i += len) {
        len = utf8_valid_len(value + i, n - i);
        if (len == 0) {
            strbuf_puts(b, "\xEF\xBF\xBD");
            len = 1;
        } else if (value[i] == '\n') {
            strbuf_puts(b, "\\n");
        } else {
            if (value[i] == '"' || value[i] == '\\')
                strbuf_putc(b, '\\');
            strbuf_append(b, value + i, len);
        }
    }
    strbuf_putc(b, '"');
}

void metrics_text_histogram(struct strbuf *b, const char *name, const char *help,
                            const struct histogram *h, const struct histogram_bounds *bounds)
{
    uint64_t total = 0;
    metrics_text_head(b, name, "histogram", help);
    for (int i = 0; i < bounds->count; i++) {
        total += h->counts[i];
        strbuf_printf(b, "%s_bucket{le=\"%g\"} %llu\n", name, bounds->le[i],
                      (unsigned long long)total);
    }
    total += h->counts[bounds->count];
    strbuf_printf(b, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9g\n%s_count %llu\n", name,
                  (unsigned long long)total, name, h->sum, name, (unsigned long long)total);
}
