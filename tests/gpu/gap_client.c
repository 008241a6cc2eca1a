/* How long the tokens of running streams are apart, as one who listens to a server hears them.
 *
 *   gap_client --port P [--seconds S] [--tokens N] [--prompt N] [--skip N] [--all] ADAPTER...
 *
 * A stream for each ADAPTER, greedy, on http://127.0.0.1:P, listened to by one thread. Prints
 * "running" once each has said --skip tokens, listens for S seconds from then on (0: until the
 * first stream has said its N tokens), and prints one line of JSON: gaps in microseconds.
 *
 * It does nothing else meanwhile, so that what is measured is the server: who disturbs it does so
 * from another process. Each event tells how many tokens were said by then; a token that has no
 * text of its own (a piece of a character, a special one) brings none, and what lies between the
 * events around it is no gap between two tokens: such are counted apart. So are events that came
 * together, in one read: the gap between them is zero, and the one before them as long as a
 * listener has to wait.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "server/client.h"
#include "tests/gpu/lanes.h"

#define STREAMS_MAX 256
#define QUIET_MS    60000 /* no byte from anybody for so long: the server hangs */
#define USAGE                                                                                      \
    "gap_client --port P [--seconds S] [--tokens N] [--prompt N] [--skip N] [--all] ADAPTER..."

struct gap {
    int64_t at_ns; /* its end */
    int64_t ns;
    int number; /* of the token that ended it, from 1 */
};

struct stream {
    struct watch *watch;
    const char *adapter;
    struct client client;
    int64_t last_ns;
    int said; /* tokens */
};

struct watch {
    struct stream streams[STREAMS_MAX];
    int count;
    int prompt, tokens, skip;
    double seconds;
    bool all;
    int64_t begin_ns, end_ns; /* 0: not yet */
    bool over;                /* a stream has ended */
    struct gap *gaps;         /* owned */
    size_t gap_count, gap_cap;
    size_t apart;    /* events with several tokens behind them */
    size_t together; /* events of one read with the one before */
};

/* ---- listening ---- */

static void hear(void *ctx, const char *data, size_t n)
{
    static const char key[] = "\"predicted_n\":";
    struct stream *s = ctx;
    struct watch *w = s->watch;
    (void)n;
    if (strcmp(data, "[DONE]") == 0)
        w->over = true;
    if (strncmp(data, "{\"error\"", 8) == 0)
        lanes_die("%s: %.300s", s->adapter, data);
    const char *at = strstr(data, key);
    if (!at)
        return;
    int said = (int)strtol(at + sizeof key - 1, NULL, 10);
    int64_t now = s->client.heard_ns;
    if (w->begin_ns && s->last_ns >= w->begin_ns && said > s->said) {
        w->together += now == s->last_ns;
        w->apart += said > s->said + 1;
        if (said == s->said + 1) {
            if (!VEC_RESERVE(w->gaps, w->gap_cap, w->gap_count + 1))
                lanes_die("out of memory");
            w->gaps[w->gap_count++] = (struct gap){now, now - s->last_ns, said};
        }
    }
    if (said > s->said) /* the last event of a stream tells of no further token */
        s->last_ns = now;
    s->said = said;
}

/* Ids that every vocabulary has, none of them special. */
static void write_body(const struct watch *w, int which, struct strbuf *b)
{
    strbuf_puts(b, "{\"prompt\":[");
    for (int i = 0; i < w->prompt; i++)
        strbuf_printf(b, "%s%d", i ? "," : "", 32 + (which * 101 + i * 37 + i * i) % 468);
    strbuf_printf(b,
                  "],\"max_tokens\":%d,\"temperature\":0,\"ignore_eos\":true,\"stream\":true,"
                  "\"timings_per_token\":true,\"adapter\":",
                  w->tokens);
    strbuf_json_string(b, w->streams[which].adapter, strlen(w->streams[which].adapter));
    strbuf_putc(b, '}');
}

static void open_streams(struct watch *w, long port)
{
    struct client_target target;
    struct err e = {0};
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%ld", port);
    if (client_target_parse(url, &target, &e) != STATUS_OK)
        lanes_die("%s: %s", url, e.msg);
    for (int i = 0; i < w->count; i++) {
        struct stream *s = &w->streams[i];
        struct strbuf body;
        strbuf_init(&body, (size_t)1 << 20);
        write_body(w, i, &body);
        client_init(&s->client);
        s->watch = w;
        s->client.on_event = hear;
        s->client.ctx = s;
        if (body.failed || client_start(&s->client, &target, "POST", "/v1/completions", body.data,
                                        "", &e) != STATUS_OK)
            lanes_die("%s: %s", s->adapter, e.msg);
        strbuf_deinit(&body);
    }
}

/* Why a stream that ended should not have. */
static void check(const struct watch *w, const struct stream *s)
{
    if (s->client.state != CLIENT_DONE)
        return;
    if (s->client.failure != CLIENT_FINE || s->client.status != 200)
        lanes_die("%s: %d %s %.300s", s->adapter, s->client.status, s->client.why,
                  s->client.body.len > 0 ? s->client.body.data : "");
    if (!w->begin_ns)
        lanes_die("%s ended after %d tokens, before all ran", s->adapter, s->said);
}

static bool is_over(struct watch *w)
{
    int64_t now = clock_now_ns();
    if (!w->begin_ns) {
        for (int i = 0; i < w->count; i++) {
            if (w->streams[i].said < w->skip)
                return false;
        }
        w->begin_ns = now;
        printf("running\n");
        fflush(stdout);
    }
    w->end_ns = now;
    return w->over || (w->seconds > 0 && (double)(now - w->begin_ns) >= w->seconds * 1e9);
}

static void listen_all(struct watch *w)
{
    struct pollfd polls[STREAMS_MAX];
    while (!is_over(w)) {
        for (int i = 0; i < w->count; i++)
            polls[i] = (struct pollfd){.fd = w->streams[i].client.fd,
                                       .events = client_wants(&w->streams[i].client)};
        if (poll(polls, (nfds_t)w->count, QUIET_MS) <= 0)
            lanes_die("no byte for %d s", QUIET_MS / 1000);
        for (int i = 0; i < w->count; i++) {
            if (polls[i].revents)
                client_step(&w->streams[i].client);
            check(w, &w->streams[i]);
        }
    }
    for (int i = 0; i < w->count; i++)
        client_deinit(&w->streams[i].client);
}

/* ---- telling ---- */

static int compare_gaps(const void *a, const void *b)
{
    int64_t x = ((const struct gap *)a)->ns;
    int64_t y = ((const struct gap *)b)->ns;
    return (x > y) - (x < y);
}

static double at_share(const struct watch *w, double share)
{
    size_t i = (size_t)(share * (double)w->gap_count);
    if (w->gap_count == 0)
        return 0;
    return (double)w->gaps[i < w->gap_count ? i : w->gap_count - 1].ns / 1e3;
}

static size_t longer_than(const struct watch *w, double us)
{
    size_t i = w->gap_count;
    while (i > 0 && (double)w->gaps[i - 1].ns / 1e3 > us)
        i--;
    return w->gap_count - i;
}

static void tell(struct watch *w)
{
    static const int bounds_ms[] = {2, 3, 5, 10, 20, 50};
    if (w->all) {
        printf("{\"gaps\":[");
        for (size_t i = 0; i < w->gap_count; i++)
            printf("%s[%lld,%d,%.1f]", i ? "," : "", (long long)w->gaps[i].at_ns, w->gaps[i].number,
                   (double)w->gaps[i].ns / 1e3);
        printf("],");
    } else {
        printf("{");
    }
    if (w->gap_count > 0)
        qsort(w->gaps, w->gap_count, sizeof *w->gaps, compare_gaps);
    printf("\"streams\":%d,\"begin_ns\":%lld,\"end_ns\":%lld,\"count\":%zu,\"p50\":%.1f,"
           "\"p90\":%.1f,\"p99\":%.1f,\"p99_9\":%.1f,\"max\":%.1f",
           w->count, (long long)w->begin_ns, (long long)w->end_ns, w->gap_count, at_share(w, 0.5),
           at_share(w, 0.9), at_share(w, 0.99), at_share(w, 0.999), at_share(w, 1));
    for (size_t i = 0; i < sizeof bounds_ms / sizeof bounds_ms[0]; i++)
        printf(",\"above_%d_ms\":%zu", bounds_ms[i], longer_than(w, 1e3 * bounds_ms[i]));
    printf(",\"together\":%zu,\"of_several_tokens\":%zu}\n", w->together, w->apart);
    mem_free(w->gaps);
}

/* ---- the program ---- */

static long read_port_and_rest(struct watch *w, int argc, char **argv)
{
    long port = 0;
    char *end;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        bool option = strncmp(argv[i], "--", 2) == 0;
        if (strcmp(argv[i], "--port") == 0)
            port = lanes_number(value, 1, 65535, USAGE, &end);
        else if (strcmp(argv[i], "--tokens") == 0)
            w->tokens = lanes_number(value, 1, 1000000, USAGE, &end);
        else if (strcmp(argv[i], "--prompt") == 0)
            w->prompt = lanes_number(value, 1, 10000, USAGE, &end);
        else if (strcmp(argv[i], "--skip") == 0)
            w->skip = lanes_number(value, 1, 1000000, USAGE, &end);
        else if (strcmp(argv[i], "--seconds") == 0)
            w->seconds = strtod(value, NULL);
        else if (strcmp(argv[i], "--all") == 0)
            w->all = true;
        else if (option || w->count == STREAMS_MAX)
            lanes_die("%s", USAGE);
        else
            w->streams[w->count++].adapter = argv[i];
        i += option && strcmp(argv[i], "--all") != 0;
    }
    if (port == 0 || w->count == 0)
        lanes_die("%s", USAGE);
    return port;
}

int main(int argc, char **argv)
{
    static struct watch w = {.prompt = 43, .tokens = 800, .skip = 20};
    long port = read_port_and_rest(&w, argc, argv);
    open_streams(&w, port);
    listen_all(&w);
    tell(&w);
    return 0;
}
