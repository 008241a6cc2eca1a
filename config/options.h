/* options: every setting of Chorus in one table (options.c), read from four places, later wins:
 * default < configuration file (--config, CHORUS_CONFIG) < environment (CHORUS_<NAME>) < command
 * line.
 *
 * The table drives parsing, --help, --print-config, config/chorus.conf, the manual and the
 * completion of shells, so a setting exists everywhere or nowhere. No state of its own: any thread.
 */
#ifndef CHORUS_CONFIG_OPTIONS_H
#define CHORUS_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/commands.h"
#include "engine/base/status.h"

#define OPTION_LIST_MAX   64
#define OPTION_PATH_BYTES 4096
#define OPTION_ROWS_MAX   160

struct option_list {
    char *items[OPTION_LIST_MAX]; /* owned */
    int count;
};

/* Where a value came from; later ones win. */
enum option_place {
    OPTION_FROM_DEFAULT,
    OPTION_FROM_FILE,
    OPTION_FROM_ENVIRONMENT,
    OPTION_FROM_COMMAND_LINE
};

struct option_origin {
    unsigned char place; /* enum option_place */
    int line;            /* FILE: of options.config */
};

/* Strings are owned; "" where nothing was set. Names, ranges and meaning: the table in options.c.
 */
struct options {
    char *config; /* the file that was read; "" for none */
    char *model;
    struct option_list adapters;     /* directories of adapters */
    struct option_list adapter_root; /* directories that clients may register from */
    struct option_list adapter;      /* serve: NAME=PATH; run and bench: a name to use */
    char *default_adapter;
    char *state_dir; /* options_state_dir */
    char *served_name;
    char *backend, *isa;
    int64_t threads, device;
    char *quant, *head_quant;
    char *kv_cache_type;
    char *token_embedding;
    char *gpu_memory;     /* a share of free memory or bytes: options_memory */
    char *lora_arena;     /* bytes or "auto": options_bytes */
    char *adapter_memory; /* the same */
    char *adapter_quant;
    bool plain_launches;
    bool deterministic;
    int64_t ctx;
    int64_t max_seqs;
    int64_t step_rows;
    int64_t prefill_chunk;
    int64_t kv_pages;
    int64_t adapter_slots;
    int64_t queue;
    int64_t wait_bound;
    bool prefix_cache;

    char *host;
    int64_t port;
    char *port_file;
    char *api_key_file;
    char *url; /* REMOTE: "": host and port */
    char *api_key;
    struct option_list allow_host;
    struct option_list allow_origin;
    int64_t max_body;
    int64_t max_connections;
    int64_t max_connections_peer;
    int64_t header_timeout;
    int64_t body_timeout;
    int64_t idle_timeout;
    int64_t stall_timeout;
    int64_t drain_timeout;

    char *log_level, *log_format;
    int64_t log_slow_ms;
    bool log_prompts;

    char *file;                                    /* render: the template */
    bool jsonl, decode, add_special, plain, count; /* tokenize */
    bool continue_final_message;
    bool json;
    char *system;
    char *prompt;
    double temperature, chat_temperature; /* bench, run */
    double top_p, chat_top_p;
    int64_t max_tokens, chat_max_tokens;
    int64_t seed;

    struct option_list files; /* pull and rm */
    bool all, offline, yes;
    char *token_file;
    int64_t pull_timeout;
    bool watch; /* ps */
    double interval;
    double patience; /* health */
    char *dialect;   /* bench */
    int64_t concurrency;
    int64_t requests;
    double rate;
    int64_t prompt_tokens;
    bool token_prompts;
    bool ignore_eos;
    char *distribution;
    double zipf;
    int64_t timeout;
    char *csv;

    bool help, print_config, print_limits;

    struct option_list args; /* what is left: positional arguments */
    struct option_origin origin[OPTION_ROWS_MAX];
};

/* Fills *o from all four places for one command. argv[0] is the command's name. A bad name, value
 * or file is STATUS_INVALID with the option in e->param. The caller ends *o with options_deinit in
 * every case. */
WARN_UNUSED enum status options_load(enum option_command command, int argc, char **argv,
                                     struct options *o, struct err *e);
void options_deinit(struct options *o);
/* Where the value that `command` has for a name of the table came from. */
enum option_place options_place(const struct options *o, enum option_command command,
                                const char *name);

/* "512MiB", "6GiB", "1000000" (bytes; KiB, MiB, GiB, also without the iB) to bytes; false for
 * anything else. */
bool options_bytes(const char *text, size_t *out);
/* "0.9", in (0, 1], to a share with *bytes 0, or bytes with *share 0. */
bool options_memory(const char *text, double *share, size_t *bytes);

/* Where what outlives the server is kept: state-dir, else what systemd or the user's settings say
 * (STATE_DIRECTORY, XDG_STATE_HOME, HOME); "" for none. */
void options_state_dir(const struct options *o, char out[OPTION_PATH_BYTES]);

#endif
