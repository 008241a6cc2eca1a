/* chat: a conversation's other side, whoever answers: a model of our own (chat_local.c) or a server
 * (chat_remote.c). One thread. */
#ifndef CHORUS_SERVER_CHAT_H
#define CHORUS_SERVER_CHAT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "config/options.h"
#include "engine/base/strbuf.h"
#include "engine/engine_adapter_data.h"

#define CHAT_ANSWER_BYTES (4u << 20)

/* Who speaks, and how. */
struct chat_voice {
    struct engine_adapter_use uses[LIMIT_ADAPTERS_PER_REQUEST];
    int count; /* 0: the base */
};

/* "elf", "elf*0.7+villain*0.3"; "" and "base" are the base. STATUS_INVALID. */
WARN_UNUSED enum status chat_voice_parse(const char *text, struct chat_voice *out, struct err *e);
/* The same as text, without weights of 1. */
void chat_voice_text(const struct chat_voice *v, struct strbuf *out);

/* What a request leaves open is the voice's or the model's own. */
struct chat_ask {
    const cJSON *messages;
    struct chat_voice voice;
    double temperature; /* below 0: open */
    double top_p;       /* 0: open */
    int64_t max_tokens;
    int64_t seed; /* -1: another each time */
    /* Each piece of the answer as it comes, whole characters; `thought`: of what comes before it.
     */
    void (*show)(void *ctx, const char *text, size_t n, bool thought);
    void *ctx;
    const volatile sig_atomic_t *stop; /* becomes true: end it, what was made stays */
};

struct chat_answer {
    struct strbuf text; /* the caller's (strbuf_init, strbuf_deinit): what was shown, no thoughts */
    int tokens;
    double tokens_per_s; /* after the first; 0: unknown */
    double first_ms;
    bool cut; /* by `stop` */
};

struct chat_link;

struct chat_link_ops {
    enum status (*say)(struct chat_link *l, const struct chat_ask *ask, struct chat_answer *answer,
                       struct err *e);
    /* Appends the names of adapters, each with a '\n' behind it. */
    enum status (*voices)(struct chat_link *l, struct strbuf *names, struct err *e);
    void (*close)(struct chat_link *l);
};

struct chat_link {
    const struct chat_link_ops *ops;
    char name[512]; /* for people: the model and where it is */
};

/* Loads the model of --model with its adapters. */
WARN_UNUSED enum status chat_local_open(const struct options *o, struct chat_link **out,
                                        struct err *e);
/* The server of --url, host and port; STATUS_BUSY when it is not there. */
WARN_UNUSED enum status chat_remote_open(const struct options *o, struct chat_link **out,
                                         struct err *e);

#endif
