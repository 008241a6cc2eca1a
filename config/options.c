#include "config/options.h"

#include <string.h>

#include "config/nearest.h"
#include "config/option_table.h"
#include "engine/base/limits.h"

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

#define GROUP(title)                                                                               \
    {                                                                                              \
        title, 0, TYPE_GROUP, 0, 0, 0, "", NULL, NULL, ""                                          \
    }
#define BYTES(n, c, f, v, h)                                                                       \
    {                                                                                              \
        n, c, TYPE_BYTES, AT(f), 0, 0, v, "BYTES|auto", NULL, h                                    \
    }
#define MEMORY(n, c, f, v, h)                                                                      \
    {                                                                                              \
        n, c, TYPE_MEMORY, AT(f), 0, 0, v, "SHARE|BYTES", NULL, h                                  \
    }

#define ENGINE (OPTION_SERVE | OPTION_RUN)
#define TEXT   (OPTION_TOKENIZE | OPTION_RENDER)
#define TALK   (OPTION_RUN | OPTION_BENCH)
#define LOOK   (OPTION_PS | OPTION_HEALTH)
#define REMOTE (TALK | LOOK)
#define ALL    ((1u << COMMAND_COUNT) - 1)
#define LIVE   OPTION_LIVE
#define ONCE   OPTION_ONCE

const struct option_def option_rows[] = {
    GROUP("Model"),
    STR("config", ENGINE | REMOTE | OPTION_LS | ONCE, config, "", "FILE",
        "read settings from this file first; none: from no file. Else from "
        "~/.config/chorus/chorus.conf or /etc/chorus/chorus.conf where there is one"),
    STR("model", ENGINE | TEXT | OPTION_INSPECT, model, "", "DIR|ORG/NAME[:REVISION]",
        "model directory (Hugging Face layout), or one in the cache that chorus pull fills; "
        "inspect: check the adapter against it"),

    GROUP("Adapters"),
    LIST("adapters", ENGINE | OPTION_LS, adapters, "DIR",
         "serve every adapter in this directory, named after its sub-directory or .gguf file"),
    LIST("adapter-root", OPTION_SERVE, adapter_root, "DIR",
         "clients may register adapters that lie in this directory; also in each of adapters"),
    LIST("adapter", OPTION_SERVE, adapter, "NAME=PATH", "one more adapter"),
    LIST("adapter", OPTION_RUN, adapter, "NAME[=PATH]",
         "who speaks: an adapter, a blend as in elf*0.7+villain*0.3, or one more adapter by path"),
    LIST("adapter", OPTION_BENCH, adapter, "NAME", "an adapter to talk to"),
    STR("state-dir", OPTION_SERVE, state_dir, "", "DIR",
        "where registered adapters are kept; none: nowhere; default: the user's state directory"),
    STR("default-adapter", OPTION_SERVE | LIVE, default_adapter, "", "NAME",
        "adapter of requests that name none; default: the base model answers them"),
    STR("served-name", OPTION_SERVE, served_name, "", "NAME",
        "name of the base model in the API; default: the directory's name"),

    GROUP("Computing"),
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
    MEMORY("gpu-memory", ENGINE, gpu_memory, "0.9",
           "of a card's memory: a share of what is free, or bytes like 6GiB"),
    BYTES("lora-arena", ENGINE, lora_arena, "auto",
          "of a card's memory for adapters; auto: from adapter-slots and what is free"),
    BYTES("adapter-memory", ENGINE | LIVE, adapter_memory, "auto",
          "of the host's memory for adapters, the rest is read again when asked for; auto: a "
          "quarter"),
    CHOICE("adapter-quant", ENGINE, adapter_quant, "none", "none|int8|int4",
           "width of adapters that say nothing of theirs; none: as they are stored"),
    BOOL("plain-launches", ENGINE, plain_launches, "false",
         "launch on a card as cards before sm_90 do"),
    BOOL("deterministic", ENGINE, deterministic, "false",
         "on a card: prompts too give the same bits in any company, more slowly"),

    GROUP("Scheduling"),
    INT("ctx", ENGINE, ctx, 0, 1 << 24, "0", "TOKENS", "longest sequence; 0: the model's"),
    INT("max-seqs", ENGINE, max_seqs, 1, LIMIT_SEQS, "64", "N",
        "sequences of one client that run at once; a few more for others"),
    INT("step-rows", ENGINE, step_rows, 0, 65536, "0", "N",
        "tokens in one step, over all sequences; 0: 128 on the CPU, 2048 with cuBLAS where "
        "12 GiB of a card may be used, else 512"),
    INT("prefill-chunk", ENGINE, prefill_chunk, 0, 65536, "0", "N",
        "prompt tokens of one sequence in one step; 0: as many as fit"),
    INT("kv-pages", ENGINE, kv_pages, 0, 1 << 24, "0", "N",
        "KV cache pages of 16 tokens; 0: from ctx and max-seqs"),
    INT("adapter-slots", ENGINE, adapter_slots, 1, LIMIT_ADAPTER_SLOTS, "32", "N",
        "adapters resident at once"),
    INT("queue", ENGINE | LIVE, queue, 1, 1 << 20, "256", "N",
        "requests of one client that may wait; more are answered 429"),
    INT("wait-bound", ENGINE, wait_bound, 0, 1 << 20, "64", "STEPS",
        "a waiting request is overtaken for at most this many steps"),
    BOOL("prefix-cache", ENGINE, prefix_cache, "true", "reuse the KV cache of equal beginnings"),

    GROUP("Network"),
    STR("host", OPTION_SERVE | REMOTE, host, "127.0.0.1", "ADDRESS",
        "address that the server listens on"),
    INT("port", OPTION_SERVE | REMOTE, port, 0, 65535, "8080", "PORT",
        "port that the server listens on; 0: the system chooses"),
    STR("url", REMOTE, url, "", "URL",
        "the server to talk to, as http://host:port or unix:/path; default: at host and port"),
    STR("api-key", REMOTE | OPTION_SECRET, api_key, "", "KEY",
        "to say to the server; others on this machine can see it here, in the variable they "
        "cannot"),
    STR("port-file", OPTION_SERVE, port_file, "", "FILE",
        "write the port there once the server is ready"),
    STR("api-key-file", OPTION_SERVE | REMOTE | LIVE, api_key_file, "", "FILE",
        "API keys, one a line. serve: without it no key is asked for; else: the first is said"),
    LIST("allow-host", OPTION_SERVE | LIVE, allow_host, "HOST",
         "one more name that requests may use in Host"),
    LIST("allow-origin", OPTION_SERVE | LIVE, allow_origin, "ORIGIN",
         "web origin whose pages may call this server"),

    GROUP("Bounds of the network"),
    INT("max-body", OPTION_SERVE | LIVE, max_body, 1024, 1 << 30, "8388608", "BYTES",
        "largest request body"),
    INT("max-connections", OPTION_SERVE, max_connections, LIMIT_HTTP_RESERVED + 1, 65536, "1024",
        "N", "connections at once; 16 of them are kept for /health"),
    INT("max-connections-peer", OPTION_SERVE | LIVE, max_connections_peer, 1, 65536, "256", "N",
        "connections of one address at once"),
    INT("header-timeout", OPTION_SERVE | LIVE, header_timeout, 1, 3600000, "10000", "MS",
        "from a request's first byte to the end of its headers"),
    INT("body-timeout", OPTION_SERVE | LIVE, body_timeout, 1, 3600000, "30000", "MS",
        "from the end of the headers to the end of the body"),
    INT("idle-timeout", OPTION_SERVE | LIVE, idle_timeout, 1, 3600000, "75000", "MS",
        "a kept connection without a request"),
    INT("stall-timeout", OPTION_SERVE | LIVE, stall_timeout, 1, 3600000, "30000", "MS",
        "a stream whose reader takes nothing is cut after this"),
    INT("drain-timeout", OPTION_SERVE | LIVE, drain_timeout, 0, 86400000, "30000", "MS",
        "after SIGTERM running answers may take this long"),

    GROUP("Log"),
    CHOICE("log-level", ENGINE | LIVE, log_level, "info", "debug|info|warn|error",
           "least level that is logged"),
    CHOICE(
        "log-format", ENGINE | LIVE, log_format, "auto", "auto|text|json",
        "form of log lines; auto: fields for systemd's journal where that reads them, else text"),
    INT("log-slow-ms", OPTION_SERVE | LIVE, log_slow_ms, 0, 86400000, "0", "MS",
        "requests that take this long get a line that says where the time went; 0: none do"),
    BOOL("log-prompts", OPTION_SERVE | LIVE, log_prompts, "false",
         "log the beginning of each prompt, as the model sees it"),

    GROUP("Text"),
    STR("template", OPTION_RENDER, file, "", "FILE",
        "chat template to render instead of the model's"),
    BOOL("jsonl", OPTION_TOKENIZE, jsonl, "false",
         "one JSON string a line in, one array of ids a line out"),
    BOOL("decode", OPTION_TOKENIZE, decode, "false",
         "with jsonl: an array of ids a line in, a JSON string a line out"),
    BOOL("add-special", OPTION_TOKENIZE, add_special, "false",
         "with the tokens that the model wants around a text (bos ...)"),
    BOOL("plain", OPTION_TOKENIZE, plain, "false",
         "as text of a message: special tokens in it are just text"),
    BOOL("count", OPTION_TOKENIZE, count, "false", "only the number of tokens"),
    BOOL("continue-final-message", OPTION_RENDER, continue_final_message, "false",
         "cut behind the final message's content"),
    BOOL("json", OPTION_INSPECT | OPTION_BENCH | OPTION_PS | OPTION_LS, json, "false",
         "print JSON"),

    GROUP("Looking"),
    BOOL("watch", OPTION_PS, watch, "false", "again and again, until Ctrl-C"),
    NUM("interval", OPTION_PS, interval, 0.1, 3600, "1", "S", "seconds from one look to the next"),
    NUM("patience", OPTION_HEALTH, patience, 0.01, 3600, "5", "S",
        "seconds that an answer may take"),

    GROUP("Hugging Face hub"),
    LIST("file", OPTION_PULL | ONCE, files, "PATTERN",
         "fetch only the files that match, as in *Q4_K_M.gguf; default: what Chorus reads"),
    BOOL("all", OPTION_PULL | ONCE, all, "false", "fetch every file"),
    STR("token-file", OPTION_PULL, token_file, "", "FILE",
        "file with a token of the hub; default: HF_TOKEN, else what hf auth login keeps"),
    BOOL("offline", OPTION_PULL, offline, "false",
         "fetch nothing, only say whether it is in the cache"),
    INT("timeout", OPTION_PULL, pull_timeout, 1, 3600, "30", "S",
        "a hub that sends nothing for so long is asked again"),
    BOOL("yes", OPTION_RM | ONCE, yes, "false", "remove without a question"),

    GROUP("Conversation"),
    STR("system", TALK, system, "", "TEXT", "system message"),
    STR("prompt", TALK, prompt, "", "TEXT",
        "what to say; run: answer this and end (also -p TEXT); -: all of standard input"),
    NUM("temperature", OPTION_BENCH, temperature, 0, 100, "0.7", "X",
        "sampling temperature; 0: always the likeliest token"),
    NUM("temperature", OPTION_RUN, chat_temperature, -1, 100, "-1", "X",
        "sampling temperature; 0: always the likeliest token; -1: the voice's or model's own"),
    NUM("top-p", OPTION_BENCH, top_p, 0, 1, "1", "X",
        "sample from the smallest set with this probability"),
    NUM("top-p", OPTION_RUN, chat_top_p, 0, 1, "0", "X",
        "sample from the smallest set with this probability; 0: the voice's or model's own"),
    INT("max-tokens", OPTION_BENCH, max_tokens, 1, 1 << 24, "256", "N", "longest answer"),
    INT("max-tokens", OPTION_RUN, chat_max_tokens, 1, 1 << 24, "1024", "N", "longest answer"),
    INT("seed", TALK, seed, -1, 9007199254740991.0, "-1", "N",
        "the same seed gives the same answer; -1: another each time"),

    GROUP("Load"),
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

    GROUP("Help"),
    BOOL("help", ALL | ONCE, help, "false", "this text"),
    BOOL("print-config", ALL | ONCE, print_config, "false",
         "print the settings and where each came from, as a configuration file, and end"),
    BOOL("print-limits", OPTION_SERVE | ONCE, print_limits, "false",
         "print the fixed limits and end"),
};
const size_t option_row_count = sizeof option_rows / sizeof option_rows[0];
_Static_assert(sizeof option_rows / sizeof option_rows[0] <= OPTION_ROWS_MAX, "option_origin");

const struct option_def *option_find(const char *name, size_t len, unsigned mask)
{
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        if ((d->commands & mask & ALL) && strlen(d->name) == len && memcmp(d->name, name, len) == 0)
            return d;
    }
    return NULL;
}

enum option_place options_place(const struct options *o, enum option_command command,
                                const char *name)
{
    const struct option_def *d = option_find(name, strlen(name), command);
    return d ? (enum option_place)o->origin[d - option_rows].place : OPTION_FROM_DEFAULT;
}

const struct option_def *option_nearest(const char *name, size_t len, unsigned mask)
{
    const struct option_def *found = NULL;
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_def *d = &option_rows[i];
        size_t edits = d->commands & mask & ALL ? nearest_distance(name, len, d->name) : SIZE_MAX;
        if (edits < best) {
            best = edits;
            found = d;
        }
    }
    return found;
}

void option_variable(const char *name, char out[64])
{
    size_t n = 0;
    for (const char *c = "CHORUS_"; *c; c++)
        out[n++] = *c;
    for (; *name && n < 63; name++)
        out[n++] = (char)(*name == '-' ? '_' : *name >= 'a' && *name <= 'z' ? *name - 32 : *name);
    out[n] = '\0';
}

bool option_is_in_file(const struct option_def *d)
{
    return (d->commands & OPTION_SERVE) && !(d->commands & OPTION_ONCE);
}
