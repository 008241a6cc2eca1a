/* cmd_bench: load over HTTP against any OpenAI-compatible server.
 *
 * Closed loop: C clients, each asks again as soon as it has its answer. Open loop: arrivals at a
 * Poisson rate, whatever the server does. One poll() loop drives all sockets, so the tool takes
 * little of the machine it measures. Which adapter a request names follows a distribution over the
 * adapters the server lists (or those of --adapter).
 */
#include "server/cmd.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config/options.h"
#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "server/bench_client.h"
#include "server/bench_report.h"
#include "server/remote.h"
#include "server/text_table.h"

#define ADAPTERS_MAX     4096
#define ANSWER_MS        10000
#define POLL_MS          20
#define PROMPT_BYTES_MAX (8u << 20)

struct bench {
    const struct options *o;
    struct remote remote;
    char base[256];  /* model name of the base */
    char **adapters; /* owned; llama: the index as text */
    int adapter_count;
    double *zipf_cdf; /* owned, [adapter_count] */
    uint64_t random;
    struct bench_client *clients; /* owned, [slots] */
    int *voice_of;                /* owned, [slots] which of report.voices a client asked for */
    int slots;
    int started;
    int ended;
    struct bench_report report;
};

/* splitmix64 (Steele, Lea, Flood 2014). */
static double next_uniform(struct bench *b)
{
    uint64_t z = b->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

static void on_gap(void *ctx, int64_t gap_ns)
{
    struct bench *b = ctx;
    bench_series_add(&b->report.gap, (double)gap_ns / 1e6);
}

/* --- what the server has
 * ------------------------------------------------------------------------------------------- */

static enum status add_adapter(struct bench *b, const char *name, struct err *e)
{
    if (b->adapter_count == ADAPTERS_MAX)
        return err_set(e, STATUS_LIMIT, "adapter", "more than %d adapters", ADAPTERS_MAX);
    b->adapters[b->adapter_count] = mem_strdup(name);
    if (!b->adapters[b->adapter_count])
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    b->adapter_count++;
    return STATUS_OK;
}

/* Models with a parent are adapters, the first without one is the base. */
static enum status read_models(struct bench *b, bool want_adapters, struct err *e)
{
    cJSON *v = NULL;
    enum status st = remote_ask(&b->remote, "/v1/models", NULL, ANSWER_MS, &v, NULL, e);
    const cJSON *data = st == STATUS_OK ? json_member(v, "data") : NULL;
    const cJSON *m;
    cJSON_ArrayForEach(m, data)
    {
        const char *id = cJSON_GetStringValue(json_member(m, "id"));
        if (!id || st != STATUS_OK)
            continue;
        if (json_member(m, "parent")) {
            if (want_adapters)
                st = add_adapter(b, id, e);
        } else if (!b->base[0]) {
            snprintf(b->base, sizeof b->base, "%s", id);
        }
    }
    cJSON_Delete(v);
    return st;
}

static enum status read_lora_list(struct bench *b, struct err *e)
{
    cJSON *v = NULL;
    enum status st = remote_ask(&b->remote, "/lora-adapters", NULL, ANSWER_MS, &v, NULL, e);
    int n = cJSON_GetArraySize(v);
    for (int i = 0; st == STATUS_OK && i < n; i++) {
        char index[16];
        snprintf(index, sizeof index, "%d", i);
        st = add_adapter(b, index, e);
    }
    cJSON_Delete(v);
    return st;
}

static enum status discover(struct bench *b, struct err *e)
{
    b->adapters = mem_calloc(ADAPTERS_MAX, sizeof *b->adapters);
    if (!b->adapters)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    bool llama = strcmp(b->o->dialect, "llama") == 0;
    enum status st = read_models(b, b->o->adapter.count == 0 && !llama, e);
    if (st == STATUS_OK && llama && b->o->adapter.count == 0)
        st = read_lora_list(b, e);
    for (int i = 0; st == STATUS_OK && i < b->o->adapter.count; i++)
        st = add_adapter(b, b->o->adapter.items[i], e);
    if (st != STATUS_OK || b->adapter_count == 0)
        return st;
    b->zipf_cdf = mem_alloc((size_t)b->adapter_count, sizeof *b->zipf_cdf);
    if (!b->zipf_cdf)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    double sum = 0;
    for (int i = 0; i < b->adapter_count; i++)
        b->zipf_cdf[i] = sum += pow(i + 1, -b->o->zipf);
    for (int i = 0; i < b->adapter_count; i++)
        b->zipf_cdf[i] /= sum;
    return STATUS_OK;
}

/* --- requests
 * -------------------------------------------------------------------------------------------------------
 */

/* The adapter of a request; NULL is the base ("base" in --adapter, or a server without adapters).
 */
static const char *choose_adapter(struct bench *b, int request, int client, int *voice)
{
    *voice = 0;
    if (b->adapter_count == 0)
        return NULL;
    const char *how = b->o->distribution;
    int i = 0;
    if (strcmp(how, "distinct") == 0) {
        /* In the closed loop one a client, so that no two in flight share an adapter by chance. */
        i = (b->o->rate > 0 ? request : client) % b->adapter_count;
    } else if (strcmp(how, "uniform") == 0) {
        i = (int)(next_uniform(b) * b->adapter_count);
    } else if (strcmp(how, "zipf") == 0) {
        double u = next_uniform(b);
        while (i < b->adapter_count - 1 && b->zipf_cdf[i] < u)
            i++;
    }
    *voice = i;
    return strcmp(b->adapters[i], "base") == 0 ? NULL : b->adapters[i];
}

/* A short question that differs from request to request, or about --prompt-tokens words of material
 * before it. */
static void write_prompt(struct bench *b, int request, struct strbuf *out)
{
    static const char *const who[] = {"fox",   "queen", "miller", "dragon", "sailor",
                                      "witch", "giant", "crow",   "baker",  "knight"};
    static const char *const what[] = {"lantern",   "silver key", "broken bridge", "winter storm",
                                       "lost ring", "old map",    "golden apple",  "sleeping bell"};
    static const char *const word[] = {"moon", "river", "stone", "tower", "wind",  "night",
                                       "road", "light", "tree",  "song",  "house", "sea"};
    if (*b->o->prompt) {
        strbuf_puts(out, b->o->prompt);
        return;
    }
    if (b->o->prompt_tokens > 0)
        strbuf_printf(out, "Story %d:", request);
    for (int64_t i = 0; i < b->o->prompt_tokens; i++)
        strbuf_printf(out, " %s", word[(int)(next_uniform(b) * 12)]);
    strbuf_printf(out, "%sTell me a story about a %s and a %s.", out->len ? ". " : "",
                  who[request % 10], what[request / 10 % 8]);
}

static void write_adapter(struct bench *b, const char *adapter, struct strbuf *out)
{
    const char *dialect = b->o->dialect;
    const char *model = strcmp(dialect, "vllm") == 0 && adapter ? adapter : b->base;
    strbuf_puts(out, "{\"model\":");
    strbuf_json_string(out, model, strlen(model));
    if (adapter && strcmp(dialect, "chorus") == 0) {
        strbuf_puts(out, ",\"adapter\":");
        strbuf_json_string(out, adapter, strlen(adapter));
    } else if (strcmp(dialect, "llama") == 0) {
        strbuf_puts(out, ",\"lora\":[");
        if (adapter)
            strbuf_printf(out, "{\"id\":%ld,\"scale\":1}", strtol(adapter, NULL, 10));
        strbuf_putc(out, ']');
    }
}

/* Ids that every vocabulary has, and none of them special where specials come last. */
static void write_ids(struct bench *b, struct strbuf *out)
{
    strbuf_puts(out, ",\"prompt\":[");
    for (int64_t i = 0; i < b->o->prompt_tokens; i++)
        strbuf_printf(out, "%s%d", i ? "," : "", 32 + (int)(next_uniform(b) * 468));
    strbuf_putc(out, ']');
}

static void write_messages(struct bench *b, int request, struct strbuf *out)
{
    struct strbuf prompt;
    strbuf_init(&prompt, PROMPT_BYTES_MAX);
    strbuf_puts(out, ",\"messages\":[");
    if (*b->o->system) {
        strbuf_puts(out, "{\"role\":\"system\",\"content\":");
        strbuf_json_string(out, b->o->system, strlen(b->o->system));
        strbuf_puts(out, "},");
    }
    write_prompt(b, request, &prompt);
    strbuf_puts(out, "{\"role\":\"user\",\"content\":");
    strbuf_json_string(out, strbuf_str(&prompt), prompt.len);
    strbuf_puts(out, "}]");
    out->failed = out->failed || prompt.failed;
    strbuf_deinit(&prompt);
}

static enum status write_body(struct bench *b, int request, int client, struct strbuf *out,
                              struct err *e)
{
    write_adapter(b, choose_adapter(b, request, client, &b->voice_of[client]), out);
    if (b->o->token_prompts)
        write_ids(b, out);
    else
        write_messages(b, request, out);
    strbuf_printf(out,
                  ",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                  "\"max_tokens\":%lld,\"temperature\":%.6g,\"top_p\":%.6g",
                  (long long)b->o->max_tokens, b->o->temperature, b->o->top_p);
    if (b->o->seed >= 0)
        strbuf_printf(out, ",\"seed\":%lld", (long long)(b->o->seed + request));
    if (b->o->ignore_eos)
        strbuf_puts(out, ",\"ignore_eos\":true");
    strbuf_putc(out, '}');
    return out->failed ? err_set(e, STATUS_NO_MEMORY, NULL, "out of memory") : STATUS_OK;
}

static enum status start_request(struct bench *b, int slot, struct err *e)
{
    struct strbuf body;
    strbuf_init(&body, PROMPT_BYTES_MAX);
    int request = b->started++;
    enum status st = write_body(b, request, slot, &body, e);
    const char *path = b->o->token_prompts ? "/v1/completions" : "/v1/chat/completions";
    struct bench_client *c = &b->clients[slot];
    c->on_gap = on_gap;
    c->on_gap_ctx = b;
    if (st == STATUS_OK)
        st = bench_client_start(c, &b->remote.target, path, strbuf_str(&body), b->remote.key, e);
    strbuf_deinit(&body);
    return st;
}

/* The first error in plain words, where the server has some. */
static void note_error(struct bench *b, const struct bench_client *c)
{
    struct bench_report *r = &b->report;
    struct err e = {0};
    if (!c->failed && remote_refusal(&b->remote, &c->http, "the request", &e) != STATUS_OK)
        snprintf(r->first_error, sizeof r->first_error, "%d: %.150s", c->http.status, e.msg);
    else
        text_clean(c->why, r->first_error, sizeof r->first_error);
}

static void take_result(struct bench *b, struct bench_client *c)
{
    struct bench_report *r = &b->report;
    struct bench_voice *v = &r->voices[b->voice_of[c - b->clients]];
    r->requests++;
    v->requests++;
    b->ended++;
    if (c->failed || c->http.status != 200) {
        v->errors++;
        if (r->errors++ == 0)
            note_error(b, c);
    } else {
        int tokens = c->completion_tokens ? c->completion_tokens : c->pieces;
        r->completion_tokens += tokens;
        v->tokens += tokens;
        r->prompt_tokens += c->prompt_tokens;
        double first_ms = (double)(c->first_ns - c->http.start_ns) / 1e6;
        if (c->first_ns) {
            bench_series_add(&r->first_token, first_ms);
            bench_series_add(&v->first_token, first_ms);
        }
        bench_series_add(&r->whole, (double)(c->http.end_ns - c->http.start_ns) / 1e6);
    }
    c->http.state = CLIENT_IDLE;
}

/* --- the loop
 * -------------------------------------------------------------------------------------------------------
 */

static int idle_slot(const struct bench *b)
{
    for (int i = 0; i < b->slots; i++) {
        if (b->clients[i].http.state == CLIENT_IDLE)
            return i;
    }
    return -1;
}

/* Starts what is due now; in the open loop `next_ns` is the next arrival. */
static enum status start_due(struct bench *b, int64_t *next_ns, struct err *e)
{
    enum status st = STATUS_OK;
    while (st == STATUS_OK && b->started < b->o->requests) {
        int slot = idle_slot(b);
        bool open_loop = b->o->rate > 0;
        if (slot < 0 || (open_loop && clock_now_ns() < *next_ns))
            break;
        st = start_request(b, slot, e);
        if (open_loop)
            *next_ns += (int64_t)(-log(1 - next_uniform(b)) / b->o->rate * 1e9);
    }
    return st;
}

static void step_clients(struct bench *b, struct pollfd *polls, int *slot_of)
{
    nfds_t n = 0;
    for (int i = 0; i < b->slots; i++) {
        const struct client *c = &b->clients[i].http;
        if (c->state != CLIENT_IDLE && c->state != CLIENT_DONE) {
            slot_of[n] = i;
            polls[n++] = (struct pollfd){.fd = c->fd, .events = client_wants(c)};
        }
    }
    poll(polls, n, n ? POLL_MS : 1);
    for (nfds_t k = 0; k < n; k++) {
        struct client *c = &b->clients[slot_of[k]].http;
        if (polls[k].revents)
            client_step(c);
        else if (clock_now_ns() - c->start_ns > b->o->timeout * 1000000000)
            client_abort(c, "timed out");
    }
    for (int i = 0; i < b->slots; i++) {
        if (bench_client_is_done(&b->clients[i]))
            take_result(b, &b->clients[i]);
    }
}

static enum status run_load(struct bench *b, struct err *e)
{
    /* The open loop is bounded by nothing but the server: every request may be in flight at once.
     */
    b->slots = (int)(b->o->rate > 0 ? b->o->requests : b->o->concurrency);
    size_t n = (size_t)b->slots;
    b->clients = mem_calloc(n, sizeof *b->clients);
    struct pollfd *polls = mem_calloc(n, sizeof *polls);
    int *slot_of = mem_calloc(n, sizeof *slot_of);
    b->voice_of = mem_calloc(n, sizeof *b->voice_of);
    enum status st = STATUS_OK;
    if (!b->clients || !polls || !slot_of || !b->voice_of)
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    for (size_t i = 0; st == STATUS_OK && i < n; i++)
        bench_client_init(&b->clients[i]);
    int64_t begin = clock_now_ns();
    int64_t next = begin;
    int64_t shown = begin;
    while (st == STATUS_OK && b->ended < b->o->requests && !interrupted) {
        st = start_due(b, &next, e);
        if (st == STATUS_OK)
            step_clients(b, polls, slot_of);
        if (clock_now_ns() - shown > (int64_t)5000000000) {
            shown = clock_now_ns();
            fprintf(stderr, "bench: %d of %lld requests ended, %d errors\n", b->ended,
                    (long long)b->o->requests, b->report.errors);
        }
    }
    b->report.seconds = (double)(clock_now_ns() - begin) / 1e9;
    b->report.interrupted = interrupted != 0;
    for (size_t i = 0; b->clients && i < n; i++)
        bench_client_deinit(&b->clients[i]);
    mem_free(polls);
    mem_free(slot_of);
    return st;
}

static enum status write_csv(struct bench *b, struct err *e)
{
    struct stat info;
    bool heading = stat(b->o->csv, &info) != 0 || info.st_size == 0;
    FILE *f = fopen(b->o->csv, "ae");
    if (!f)
        return err_set(e, STATUS_IO, "csv", "cannot write %s: %s", b->o->csv, strerror(errno));
    struct strbuf out;
    strbuf_init(&out, 1u << 16);
    bench_report_csv(&b->report, heading, &out);
    bool ok = fwrite(strbuf_str(&out), 1, out.len, f) == out.len;
    ok = fclose(f) == 0 && ok;
    strbuf_deinit(&out);
    return ok ? STATUS_OK : err_set(e, STATUS_IO, "csv", "cannot write %s", b->o->csv);
}

static enum status name_voices(struct bench *b, struct err *e)
{
    struct bench_report *r = &b->report;
    int count = b->adapter_count ? b->adapter_count : 1;
    r->voices = mem_calloc((size_t)count, sizeof *r->voices);
    if (!r->voices)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    r->voice_count = count;
    for (int i = 0; i < count; i++)
        r->voices[i].name = b->adapter_count ? b->adapters[i] : "base";
    return STATUS_OK;
}

/* Before a long run, not behind it. */
static enum status check_csv(const struct options *o, struct err *e)
{
    FILE *f = *o->csv ? fopen(o->csv, "ae") : NULL;
    if (*o->csv && !f)
        return err_set(e, STATUS_IO, "csv", "cannot write %s: %s", o->csv, strerror(errno));
    if (f)
        fclose(f);
    return STATUS_OK;
}

static int bench(const struct options *o)
{
    struct bench b = {.o = o, .random = o->seed >= 0 ? (uint64_t)o->seed : 1};
    struct err e;
    enum status st = o->args.count ? err_set(&e, STATUS_INVALID, NULL,
                                             "%.64s: bench takes options only", o->args.items[0])
                                   : remote_open(o, &b.remote, &e);
    if (st == STATUS_OK)
        st = check_csv(o, &e);
    if (st == STATUS_OK && o->token_prompts && o->prompt_tokens == 0)
        st = err_set(&e, STATUS_INVALID, "prompt-tokens", "--token-prompts needs --prompt-tokens");
    if (st == STATUS_OK)
        st = discover(&b, &e);
    if (st == STATUS_OK)
        st = name_voices(&b, &e);
    b.report.url = b.remote.target.text;
    b.report.dialect = o->dialect;
    b.report.distribution = o->distribution;
    b.report.adapters = b.adapter_count;
    b.report.concurrency = o->rate > 0 ? 0 : (int)o->concurrency;
    b.report.rate = o->rate;
    b.report.max_tokens = (int)o->max_tokens;
    struct sigaction sa = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &sa, NULL);
    if (st == STATUS_OK)
        st = run_load(&b, &e);
    int code = CMD_EXIT_OK;
    if (st == STATUS_OK) {
        struct strbuf out;
        strbuf_init(&out, 1u << 16);
        if (o->json)
            bench_report_json(&b.report, &out);
        else
            bench_report_table(&b.report, &out);
        code = cmd_print(&out);
        if (*o->csv && !interrupted)
            st = write_csv(&b, &e);
        code = interrupted ? CMD_EXIT_INTERRUPTED : b.report.errors ? CMD_EXIT_FAILED : code;
    }
    if (st != STATUS_OK)
        code = cmd_fail("bench", &e);
    for (int i = 0; i < b.adapter_count; i++)
        mem_free(b.adapters[i]);
    mem_free(b.adapters);
    mem_free(b.zipf_cdf);
    mem_free(b.clients);
    mem_free(b.voice_of);
    bench_report_deinit(&b.report);
    return code;
}

int cmd_bench(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_BENCH, argc, argv, &o, &code))
        code = bench(&o);
    options_deinit(&o);
    return code;
}
