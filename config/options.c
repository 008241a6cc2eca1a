#include "config/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"

#define CONFIG_FILE_BYTES_MAX (1u << 20)
#define VALUE_BYTES_MAX       4096

enum option_type { TYPE_STR, TYPE_LIST, TYPE_INT, TYPE_NUM, TYPE_BOOL, TYPE_CHOICE };

struct option_def {
    const char *name; /* as --name; underscores and capitals for CHORUS_NAME */
    unsigned commands;
    enum option_type type;
    size_t offset;
    double min;
    double max;
    const char *value;   /* default, as text */
    const char *arg;     /* what the value is, for help */
    const char *choices; /* "a|b|c" for TYPE_CHOICE */
    const char *help;
};

#define AT(field) offsetof(struct options, field)
#define STR(n, c, f, v, a, h)                                                                      \
    {                                                                                              \
        n, c, TYPE_STR, AT(f), 0, 0, v, a, NULL, h                                                 \
    }
#define LIST(n, c, f, a, h)                                                                        \
    {                                                                                              \
        n, c, TYPE_LIST, AT(f), 0, 0, "", a, NULL, h                                               \
    }
#define INT(n, c, f, lo, hi, v, a, h)                                                              \
    {                                                                                              \
        n, c, TYPE_INT, AT(f), lo, hi, v, a, NULL, h                                               \
    }
#define NUM(n, c, f, lo, hi, v, a, h)                                                              \
    {                                                                                              \
        n, c, TYPE_NUM, AT(f), lo, hi, v, a, NULL, h                                               \
    }
#define BOOL(n, c, f, v, h)                                                                        \
    {                                                                                              \
        n, c, TYPE_BOOL, AT(f), 0, 0, v, NULL, NULL, h                                             \
    }
#define CHOICE(n, c, f, v, choices, h)                                                             \
    {                                                                                              \
        n, c, TYPE_CHOICE, AT(f), 0, 0, v, choices, choices, h                                     \
    }

#define ENGINE (OPTION_SERVE | OPTION_RUN)
#define TEXT   (OPTION_TOKENIZE | OPTION_RENDER)
#define ALL    (ENGINE | TEXT | OPTION_INSPECT | OPTION_BENCH)
#define TALK   (OPTION_RUN | OPTION_BENCH)

static const struct option_def table[] = {
    STR("config", ENGINE, config, "", "FILE", "read settings from this file first"),
    STR("model", ENGINE | TEXT | OPTION_INSPECT, model, "", "DIR|ORG/NAME[:REVISION]",
        "model directory (Hugging Face layout), or one in the cache that chorus pull fills"),
    LIST("adapters", ENGINE, adapters, "DIR",
         "serve every adapter in this directory, named after its sub-directory or .gguf file"),
    LIST("adapter-root", OPTION_SERVE, adapter_root, "DIR",
         "clients may register adapters that lie in this directory; also in each of adapters"),
    LIST("adapter", ENGINE | OPTION_BENCH, adapter, "NAME[=PATH]",
         "serve: one more adapter, NAME=PATH; run and bench: the adapter to talk to"),
    STR("state-dir", OPTION_SERVE, state_dir, "", "DIR",
        "where registered adapters are kept; none: nowhere; default: the user's state directory"),
    STR("default-adapter", OPTION_SERVE, default_adapter, "", "NAME",
        "adapter of requests that name none; default: the base model answers them"),
    STR("served-name", OPTION_SERVE, served_name, "", "NAME",
        "name of the base model in the API; default: the directory's name"),
    CHOICE("backend", ENGINE, backend, "auto", "auto|cpu|cuda", "where to compute"),
    CHOICE("isa", ENGINE, isa, "auto", "auto|avx512|avx2|scalar",
           "CPU instructions to use at most"),
    INT("threads", ENGINE, threads, 0, 1024, "0", "N", "CPU threads; 0: one a core"),
    INT("device", ENGINE, device, 0, 255, "0", "N", "number of the card to compute on"),
    CHOICE("quant", ENGINE, quant, "auto", "auto|none|int8|int4",
           "weights on a card; auto: int4 for models of 1 GiB and more"),
    CHOICE("head-quant", ENGINE, head_quant, "auto", "auto|none|int8",
           "output matrix on a card; auto: int8 when weights are quantised"),
    CHOICE("kv-cache-type", ENGINE, kv_cache_type, "bf16", "bf16|int8",
           "keys and values on a card; int8: in half the memory, a scale a token and head"),
    CHOICE("token-embedding", ENGINE, token_embedding, "auto", "auto|card|host",
           "where a card reads tokens' embeddings; auto: the host's memory where a card is short"),
    STR("gpu-memory", ENGINE, gpu_memory, "0.9", "SHARE|BYTES",
        "of a card's memory: a share of what is free, or bytes like 6GiB"),
    STR("lora-arena", ENGINE, lora_arena, "auto", "BYTES|auto",
        "of a card's memory for adapters; auto: from adapter-slots and what is free"),
    STR("adapter-memory", ENGINE, adapter_memory, "auto", "BYTES|auto",
        "of the host's memory for adapters, the rest is read again when asked for; auto: a "
        "quarter"),
    CHOICE("adapter-quant", ENGINE, adapter_quant, "none", "none|int8|int4",
           "width of adapters that say nothing of theirs; none: as they are stored"),
    BOOL("plain-launches", ENGINE, plain_launches, "false",
         "launch on a card as cards before sm_90 do"),
    BOOL("deterministic", ENGINE, deterministic, "false",
         "on a card: prompts too give the same bits in any company, more slowly"),
    INT("ctx", ENGINE, ctx, 0, 1 << 24, "0", "TOKENS", "longest sequence; 0: the model's"),
    INT("max-seqs", ENGINE, max_seqs, 1, LIMIT_SEQS, "64", "N",
        "sequences of one client that run at once; a few more for others"),
    INT("step-rows", ENGINE, step_rows, 0, 65536, "0", "N",
        "tokens in one step, over all sequences; 0: 2048 on a card of 12 GiB with cuBLAS, else "
        "512"),
    INT("prefill-chunk", ENGINE, prefill_chunk, 0, 65536, "0", "N",
        "prompt tokens of one sequence in one step; 0: as many as fit"),
    INT("kv-pages", ENGINE, kv_pages, 0, 1 << 24, "0", "N",
        "KV cache pages of 16 tokens; 0: from ctx and max-seqs"),
    INT("adapter-slots", ENGINE, adapter_slots, 1, LIMIT_ADAPTER_SLOTS, "32", "N",
        "adapters resident at once"),
    INT("queue", ENGINE, queue, 1, 1 << 20, "256", "N",
        "requests of one client that may wait; more are answered 429"),
    INT("wait-bound", ENGINE, wait_bound, 0, 1 << 20, "64", "STEPS",
        "a waiting request is overtaken for at most this many steps"),
    BOOL("prefix-cache", ENGINE, prefix_cache, "true", "reuse the KV cache of equal beginnings"),

    STR("host", OPTION_SERVE, host, "127.0.0.1", "ADDRESS", "address to listen on"),
    INT("port", OPTION_SERVE, port, 0, 65535, "8080", "PORT",
        "port to listen on; 0: the system chooses"),
    STR("port-file", OPTION_SERVE, port_file, "", "FILE",
        "write the port there once the server is ready"),
    STR("api-key-file", OPTION_SERVE | OPTION_BENCH, api_key_file, "", "FILE",
        "API keys, one a line; without it no key is asked for"),
    LIST("allow-host", OPTION_SERVE, allow_host, "HOST",
         "one more name that requests may use in Host"),
    LIST("allow-origin", OPTION_SERVE, allow_origin, "ORIGIN",
         "web origin whose pages may call this server"),
    INT("max-body", OPTION_SERVE, max_body, 1024, 1 << 30, "8388608", "BYTES",
        "largest request body"),
    INT("max-connections", OPTION_SERVE, max_connections, LIMIT_HTTP_RESERVED + 1, 65536, "1024",
        "N", "connections at once; 16 of them are kept for /health"),
    INT("max-connections-peer", OPTION_SERVE, max_connections_peer, 1, 65536, "256", "N",
        "connections of one address at once"),
    INT("header-timeout", OPTION_SERVE, header_timeout, 1, 3600000, "10000", "MS",
        "from a request's first byte to the end of its headers"),
    INT("body-timeout", OPTION_SERVE, body_timeout, 1, 3600000, "30000", "MS",
        "from the end of the headers to the end of the body"),
    INT("idle-timeout", OPTION_SERVE, idle_timeout, 1, 3600000, "75000", "MS",
        "a kept connection without a request"),
    INT("stall-timeout", OPTION_SERVE, stall_timeout, 1, 3600000, "30000", "MS",
        "a stream whose reader takes nothing is cut after this"),
    INT("drain-timeout", OPTION_SERVE, drain_timeout, 0, 86400000, "30000", "MS",
        "after SIGTERM running answers may take this long"),
    CHOICE("log-level", ENGINE, log_level, "info", "debug|info|warn|error",
           "least level that is logged"),
    CHOICE("log-format", ENGINE, log_format, "text", "text|json", "form of log lines"),

    STR("file", OPTION_TOKENIZE, file, "", "FILE", "read this file instead of standard input"),
    STR("template", OPTION_RENDER, file, "", "FILE", "chat template to render"),
    BOOL("jsonl", OPTION_TOKENIZE, jsonl, "false",
         "one JSON string a line in, one array of ids a line out"),
    BOOL("json", OPTION_INSPECT | OPTION_BENCH, json, "false", "print JSON"),
    STR("system", TALK, system, "", "TEXT", "system message"),
    STR("prompt", TALK, prompt, "", "TEXT", "what to say; run: answer this and end"),
    NUM("temperature", TALK, temperature, 0, 100, "0.7", "X",
        "sampling temperature; 0: always the likeliest token"),
    NUM("top-p", TALK, top_p, 0, 1, "1", "X", "sample from the smallest set with this probability"),
    INT("max-tokens", TALK, max_tokens, 1, 1 << 24, "256", "N", "longest answer"),
    INT("seed", TALK, seed, -1, 9007199254740991.0, "-1", "N",
        "the same seed gives the same answer; -1: another each time"),

    STR("url", OPTION_BENCH, url, "http://127.0.0.1:8080", "URL", "server to measure"),
    CHOICE("dialect", OPTION_BENCH, dialect, "chorus", "chorus|vllm|llama",
           "how a request names its adapter"),
    INT("concurrency", OPTION_BENCH, concurrency, 1, 4096, "16", "C",
        "closed loop: clients at once"),
    INT("requests", OPTION_BENCH, requests, 1, 1000000, "64", "N", "requests in all"),
    NUM("rate", OPTION_BENCH, rate, 0, 100000, "0", "PER_S",
        "open loop: Poisson arrivals a second; 0: closed loop"),
    INT("prompt-tokens", OPTION_BENCH, prompt_tokens, 0, 1 << 24, "0", "N",
        "about this many tokens of prompt; 0: short questions"),
    BOOL("token-prompts", OPTION_BENCH, token_prompts, "false",
         "prompts are exactly so many random token ids, for /v1/completions"),
    BOOL("ignore-eos", OPTION_BENCH, ignore_eos, "true",
         "answers run to max-tokens, so that runs compare"),
    CHOICE("distribution", OPTION_BENCH, distribution, "distinct",
           "identical|distinct|uniform|zipf", "how requests choose among the adapters"),
    NUM("zipf", OPTION_BENCH, zipf, 0, 10, "1.1", "S", "exponent of the zipf distribution"),
    INT("timeout", OPTION_BENCH, timeout, 1, 86400, "120", "S", "longest time for one request"),
    STR("csv", OPTION_BENCH, csv, "", "FILE", "append the figures to this file"),

    BOOL("help", ALL, help, "false", "this text"),
    BOOL("print-config", OPTION_SERVE, print_config, "false",
         "print the settings as a configuration file and end"),
    BOOL("print-limits", OPTION_SERVE, print_limits, "false", "print the fixed limits and end"),
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

static const struct option_def *find(const char *name, size_t len, unsigned command)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if ((table[i].commands & command) && strlen(table[i].name) == len &&
            memcmp(table[i].name, name, len) == 0)
            return &table[i];
    }
    return NULL;
}

static void *field_of(struct options *o, const struct option_def *d)
{
    return (char *)o + d->offset;
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

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
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

static enum status set_number(const struct option_def *d, const char *value, struct options *o,
                              struct err *e)
{
    errno = 0;
    char *end;
    double v;
    if (d->type == TYPE_INT)
        v = (double)strtoll(value, &end, 10);
    else
        v = strtod(value, &end);
    if (end == value || *end != '\0' || errno != 0 || !isfinite(v))
        return err_set(e, STATUS_INVALID, d->name, "%s: \"%.64s\" is not a number", d->name, value);
    if (v < d->min || v > d->max)
        return err_set(e, STATUS_INVALID, d->name, "%s: %s is not between %.15g and %.15g", d->name,
                       value, d->min, d->max);
    if (d->type == TYPE_INT)
        *(int64_t *)field_of(o, d) = strtoll(value, NULL, 10);
    else
        *(double *)field_of(o, d) = v;
    return STATUS_OK;
}

static enum status set_value(const struct option_def *d, const char *value, struct options *o,
                             struct err *e)
{
    switch (d->type) {
    case TYPE_LIST:
        return *value ? list_push(field_of(o, d), d->name, value, e) : STATUS_OK;
    case TYPE_INT:
    case TYPE_NUM:
        return set_number(d, value, o, e);
    case TYPE_BOOL:
        if (!is_choice("true|1|yes|on", value) && !is_choice("false|0|no|off", value))
            return err_set(e, STATUS_INVALID, d->name, "%s: \"%.64s\" is neither true nor false",
                           d->name, value);
        *(bool *)field_of(o, d) = is_choice("true|1|yes|on", value);
        return STATUS_OK;
    case TYPE_CHOICE:
        if (!is_choice(d->choices, value))
            return err_set(e, STATUS_INVALID, d->name, "%s: \"%.64s\" is not one of %s", d->name,
                           value, d->choices);
        return set_string(field_of(o, d), value, e);
    case TYPE_STR:
        break;
    }
    return set_string(field_of(o, d), value, e);
}

static void list_clear(struct option_list *l)
{
    for (int i = 0; i < l->count; i++)
        mem_free(l->items[i]);
    l->count = 0;
}

/* A list given in a later place replaces the earlier one's; within one place it grows. */
struct place {
    struct options *o;
    unsigned command;
    bool seen[TABLE_COUNT];
};

static enum status place_set(struct place *p, const struct option_def *d, const char *value,
                             struct err *e)
{
    size_t i = (size_t)(d - table);
    if (d->type == TYPE_LIST && !p->seen[i])
        list_clear(field_of(p->o, d));
    p->seen[i] = true;
    return set_value(d, value, p->o, e);
}

static char *trim(char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r\n", s[n - 1]))
        s[--n] = '\0';
    return s;
}

/* One line of the file: empty, a comment, a [section] heading for people, or "name = value". */
static enum status config_line(struct place *p, char *line, const char *path, int number,
                               struct err *e)
{
    char *s = trim(line);
    if (*s == '\0' || *s == '#' || *s == ';' || *s == '[')
        return STATUS_OK;
    char *eq = strchr(s, '=');
    if (!eq)
        return err_set(e, STATUS_INVALID, path, "%s:%d: expected name = value", path, number);
    *eq = '\0';
    char *name = trim(s);
    const struct option_def *d = find(name, strlen(name), OPTION_SERVE);
    if (!d || d->offset == AT(config))
        return err_set(e, STATUS_INVALID, path, "%s:%d: unknown setting \"%.64s\"", path, number,
                       name);
    if (!(d->commands & p->command))
        return STATUS_OK; /* a setting of serve that this command has no use for */
    enum status st = place_set(p, d, trim(eq + 1), e);
    return st == STATUS_OK ? st : err_prefix(e, "%s:%d", path, number);
}

static enum status load_file(const char *path, struct place *p, struct err *e)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(e, STATUS_IO, "config", "cannot read %s: %s", path, strerror(errno));
    char *line = mem_alloc(VALUE_BYTES_MAX, 1);
    enum status st = line ? STATUS_OK : out_of_memory(e);
    size_t total = 0;
    for (int n = 1; st == STATUS_OK && fgets(line, VALUE_BYTES_MAX, f); n++) {
        size_t len = strlen(line);
        total += len;
        if (len == VALUE_BYTES_MAX - 1 || total > CONFIG_FILE_BYTES_MAX)
            st = err_set(e, STATUS_LIMIT, "config", "%s:%d: line or file is too long", path, n);
        else
            st = config_line(p, line, path, n, e);
    }
    mem_free(line);
    fclose(f);
    return st;
}

/* "max-seqs" -> "CHORUS_MAX_SEQS" */
static void env_name(const char *name, char out[64])
{
    snprintf(out, 64, "CHORUS_%s", name);
    for (char *c = out; *c; c++) {
        if (*c == '-')
            *c = '_';
        else if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
    }
}

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

static enum status load_env(struct place *p, struct err *e)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        const struct option_def *d = &table[i];
        if (!(d->commands & p->command) || strcmp(d->name, "help") == 0)
            continue;
        char name[64];
        env_name(d->name, name);
        const char *value = getenv(name);
        if (!value)
            continue;
        enum status st =
            d->type == TYPE_LIST ? env_list(p, d, value, e) : place_set(p, d, value, e);
        if (st != STATUS_OK)
            return err_prefix(e, "%s", name);
    }
    return STATUS_OK;
}

/* --name value, --name=value, --flag, --no-flag; `only_config` looks for --config alone. */
static enum status load_args(int argc, char **argv, struct place *p, bool only_config,
                             struct err *e)
{
    bool plain = false; /* after "--" */
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (plain || a[0] != '-' || a[1] == '\0') {
            enum status st = only_config ? STATUS_OK : list_push(&p->o->args, "arguments", a, e);
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
        const struct option_def *d = find(name, n, p->command);
        const char *value = name[n] == '=' ? name + n + 1 : NULL;
        if (!d && strncmp(name, "no-", 3) == 0 && !value) {
            d = find(name + 3, n - 3, p->command);
            value = "false";
            if (d && d->type != TYPE_BOOL)
                d = NULL;
        }
        if (!d)
            return err_set(e, STATUS_INVALID, a, "unknown option %.64s", a);
        if (!value && d->type == TYPE_BOOL)
            value = "true";
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value)
            return err_set(e, STATUS_INVALID, d->name, "--%s needs a value", d->name);
        if (only_config && strcmp(d->name, "config") != 0)
            continue;
        enum status st = place_set(p, d, value, e);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

enum status options_load(enum option_command command, int argc, char **argv, struct options *o,
                         struct err *e)
{
    *o = (struct options){0};
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        enum status st = set_value(&table[i], table[i].value, o, e);
        if (st != STATUS_OK)
            return st;
    }
    struct place args = {.o = o, .command = command};
    struct place env = args;
    struct place file = args;
    enum status st = load_args(argc, argv, &args, true, e);
    const char *path = *o->config ? o->config : getenv("CHORUS_CONFIG");
    if (st == STATUS_OK && path && *path)
        st = load_file(path, &file, e);
    if (st == STATUS_OK)
        st = load_env(&env, e);
    args = (struct place){.o = o, .command = command};
    if (st == STATUS_OK)
        st = load_args(argc, argv, &args, false, e);
    return st;
}

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

void options_deinit(struct options *o)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        char **s = field_of(o, &table[i]);
        if (table[i].type == TYPE_LIST) {
            list_clear(field_of(o, &table[i]));
        } else if (table[i].type == TYPE_STR || table[i].type == TYPE_CHOICE) {
            mem_free(*s);
            *s = NULL;
        }
    }
    list_clear(&o->args);
}

void options_help(enum option_command command, struct strbuf *out)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        const struct option_def *d = &table[i];
        if (!(d->commands & command))
            continue;
        char head[96];
        snprintf(head, sizeof head, "--%s%s%s", d->name, d->arg ? " " : "", d->arg ? d->arg : "");
        strbuf_printf(out, "  %-34s%s", head, d->help);
        if (d->type != TYPE_LIST && *d->value && strcmp(d->name, "help") != 0)
            strbuf_printf(out, " (%s)", d->value);
        strbuf_putc(out, '\n');
    }
}

static void print_value(const struct option_def *d, const struct options *o, struct strbuf *out)
{
    const void *field = (const char *)o + d->offset;
    if (d->type == TYPE_LIST) {
        const struct option_list *l = field;
        for (int i = 0; i < l->count; i++)
            strbuf_printf(out, "%s = %s\n", d->name, l->items[i]);
        if (l->count == 0)
            strbuf_printf(out, "#%s =\n", d->name);
    } else if (d->type == TYPE_INT) {
        strbuf_printf(out, "%s = %lld\n", d->name, (long long)*(const int64_t *)field);
    } else if (d->type == TYPE_NUM) {
        strbuf_printf(out, "%s = %.15g\n", d->name, *(const double *)field);
    } else if (d->type == TYPE_BOOL) {
        strbuf_printf(out, "%s = %s\n", d->name, *(const bool *)field ? "true" : "false");
    } else {
        const char *s = *(char *const *)field;
        strbuf_printf(out, "%s%s =%s%s\n", *s ? "" : "#", d->name, *s ? " " : "", s);
    }
}

void options_print(const struct options *o, struct strbuf *out)
{
    strbuf_puts(
        out, "# Chorus: settings of `chorus serve`. Written by `chorus serve --print-config`.\n"
             "# The command line wins over CHORUS_<NAME> variables, which win over this file.\n");
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        const struct option_def *d = &table[i];
        if (!(d->commands & OPTION_SERVE) || d->offset == AT(config) || d->offset == AT(help) ||
            d->offset == AT(print_config) || d->offset == AT(print_limits))
            continue;
        strbuf_printf(out, "\n# %s", d->help);
        if (d->type == TYPE_CHOICE)
            strbuf_printf(out, ": %s", d->choices);
        strbuf_putc(out, '\n');
        if (o)
            print_value(d, o, out);
        else
            strbuf_printf(out, "#%s =%s%s\n", d->name, *d->value ? " " : "", d->value);
    }
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
