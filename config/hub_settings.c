#include "config/hub_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ENDPOINT "https://huggingface.co"

static const char *set(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

/* base + tail, a leading ~/ in base meaning HOME; "" where that does not fit or HOME is unknown. */
static void join(char out[HUB_PATH_BYTES], const char *base, const char *tail)
{
    const char *home = "";
    bool tilde = base[0] == '~' && (base[1] == '/' || base[1] == '\0');
    out[0] = '\0';
    if (tilde && !(home = set("HOME")))
        return;
    int n = snprintf(out, HUB_PATH_BYTES, "%s%s%s", home, base + tilde, tail);
    if (n < 0 || n >= HUB_PATH_BYTES)
        out[0] = '\0';
}

static bool is_true(const char *v)
{
    static const char *const words[] = {"1", "on", "yes", "true"};
    for (size_t i = 0; v && i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(v, words[i]) == 0)
            return true;
    }
    return false;
}

void hub_settings_load(struct hub_settings *out)
{
    *out = (struct hub_settings){0};
    const char *xdg = set("XDG_CACHE_HOME");
    char home[HUB_PATH_BYTES];
    if (set("HF_HOME"))
        join(home, set("HF_HOME"), "");
    else
        join(home, xdg ? xdg : "~/.cache", "/huggingface");
    const char *cache = set("HF_HUB_CACHE");
    if (!cache)
        cache = set("HUGGINGFACE_HUB_CACHE"); /* its older name */
    if (cache)
        join(out->cache, cache, "");
    else if (*home)
        join(out->cache, home, "/hub");
    if (set("HF_TOKEN_PATH"))
        join(out->token_file, set("HF_TOKEN_PATH"), "");
    else if (*home)
        join(out->token_file, home, "/token");
    out->token = set("HF_TOKEN");
    out->ca_file = set("SSL_CERT_FILE");
    if (!out->ca_file)
        out->ca_file = set("REQUESTS_CA_BUNDLE");
    const char *endpoint = set("HF_ENDPOINT");
    int n = snprintf(out->endpoint, sizeof out->endpoint, "%s", endpoint ? endpoint : ENDPOINT);
    if (n < 0 || (size_t)n >= sizeof out->endpoint)
        n = 0;
    while (n > 0 && out->endpoint[n - 1] == '/')
        n--;
    out->endpoint[n] = '\0';
    out->offline = is_true(set("HF_HUB_OFFLINE")) || is_true(set("TRANSFORMERS_OFFLINE"));
}
