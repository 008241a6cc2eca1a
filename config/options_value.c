/* What settings mean: sizes, shares, where state is kept, the fixed limits. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/options.h"
#include "config/options_text.h"
#include "engine/base/limits.h"

void options_state_dir(const struct options *o, char out[OPTION_PATH_BYTES])
{
    const char *systemd = getenv("STATE_DIRECTORY");
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int n = 0;
    out[0] = '\0';
    if (strcmp(o->state_dir, "none") == 0)
        return;
    if (*o->state_dir)
        n = snprintf(out, OPTION_PATH_BYTES, "%s", o->state_dir);
    else if (systemd && *systemd)
        n = snprintf(out, OPTION_PATH_BYTES, "%.*s", (int)strcspn(systemd, ":"), systemd);
    else if (xdg && *xdg == '/')
        n = snprintf(out, OPTION_PATH_BYTES, "%s/chorus", xdg);
    else if (home && *home == '/')
        n = snprintf(out, OPTION_PATH_BYTES, "%s/.local/state/chorus", home);
    if (n < 0 || n >= OPTION_PATH_BYTES)
        out[0] = '\0';
}

bool options_bytes(const char *text, size_t *out)
{
    static const char units[] = "KMG";
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || errno != 0)
        return false;
    const char *unit = *end ? strchr(units, *end) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    end += unit != NULL;
    if (unit && strcmp(end, "iB") == 0)
        end += 2;
    if (*end != '\0' || n > SIZE_MAX >> shift)
        return false;
    *out = (size_t)n << shift;
    return true;
}

bool options_memory(const char *text, double *share, size_t *bytes)
{
    size_t n;
    if (options_bytes(text, &n) && n > 1) {
        *share = 0;
        *bytes = n;
        return true;
    }
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v > 0 && v <= 1))
        return false;
    *share = v;
    *bytes = 0;
    return true;
}

#define LIMIT_ROW(name)                                                                            \
    {                                                                                              \
#name, (long long)(name)                                                                   \
    }

static const struct limit_row {
    const char *name;
    long long value;
} limit_rows[] = {
    LIMIT_ROW(LIMIT_JSON_DEPTH),
    LIMIT_ROW(LIMIT_JSON_MEMBERS),
    LIMIT_ROW(LIMIT_ADAPTERS_PER_REQUEST),
    LIMIT_ROW(LIMIT_NAME_BYTES),
    LIMIT_ROW(LIMIT_CHOICES),
    LIMIT_ROW(LIMIT_STOP_STRINGS),
    LIMIT_ROW(LIMIT_STOP_BYTES),
    LIMIT_ROW(LIMIT_STOP_TOKENS),
    LIMIT_ROW(LIMIT_LOGIT_BIAS),
    LIMIT_ROW(LIMIT_TOP_LOGPROBS),
    LIMIT_ROW(LIMIT_TOP_K),
    LIMIT_ROW(LIMIT_KV_PAGE_TOKENS),
    LIMIT_ROW(LIMIT_ADAPTER_SLOTS),
    LIMIT_ROW(LIMIT_SEQS),
    LIMIT_ROW(LIMIT_SAFETENSORS_HEADER_BYTES),
    LIMIT_ROW(LIMIT_TENSORS),
    LIMIT_ROW(LIMIT_ADAPTER_RANK),
    LIMIT_ROW(LIMIT_ADAPTER_BYTES),
    LIMIT_ROW(LIMIT_TOKENIZER_JSON_BYTES),
    LIMIT_ROW(LIMIT_TEMPLATE_STEPS),
    LIMIT_ROW(LIMIT_TEMPLATE_DEPTH),
    LIMIT_ROW(LIMIT_TEMPLATE_OUTPUT_BYTES),
    LIMIT_ROW(LIMIT_TEMPLATE_TIME_MS),
    LIMIT_ROW(LIMIT_HTTP_HEADER_BYTES),
    LIMIT_ROW(LIMIT_HTTP_RESERVED),
    LIMIT_ROW(LIMIT_HTTP_UNSENT_BYTES),
    LIMIT_ROW(LIMIT_HTTP_PING_MS),
    LIMIT_ROW(LIMIT_HTTP_BODIES_BYTES),
    LIMIT_ROW(LIMIT_API_KEYS),
    LIMIT_ROW(LIMIT_STEP_STREAMS),
};

void options_print_limits(struct strbuf *out)
{
    for (size_t i = 0; i < sizeof limit_rows / sizeof limit_rows[0]; i++)
        strbuf_printf(out, "%-32s %lld\n", limit_rows[i].name + strlen("LIMIT_"),
                      limit_rows[i].value);
}
