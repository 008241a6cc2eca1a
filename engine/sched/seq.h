/* seq: one accepted request on its way: its tokens, pages, adapters, text and outbox.
 *
 *   WAITING --admitted--> RUNNING --ended--> ENDED
 *               ^            | pages ran out
 *               +-PREEMPTED<-+
 *
 * `computed` of `count` tokens are in the KV pages. A step computes some of the rest; the row of
 * the last token predicts the next one. So a prompt, its continuation and the recomputation after a
 * preemption are the same thing. A full outbox pauses a sequence: the scheduler leaves it out.
 *
 * Everything a request can ever need is allocated by seq_create: nothing grows on the step path.
 * The engine thread owns all fields but the reader's side, which is under the engine's lock.
 */
#ifndef CHORUS_SCHED_SEQ_H
#define CHORUS_SCHED_SEQ_H

#include "engine/adapter/adapter_store.h"
#include "engine/base/arena.h"
#include "engine/engine_request.h"
#include "engine/grammar/grammar_state.h"
#include "engine/model/pooling.h"
#include "engine/sched/outbox.h"
#include "engine/sched/prefix_cache.h"
#include "engine/sched/stop.h"

enum seq_state { SEQ_WAITING, SEQ_RUNNING, SEQ_PREEMPTED, SEQ_ENDED };

struct seq_adapter {
    struct adapter *adapter; /* borrowed from `set` */
    float weight;
    int from; /* first token that it acts on; SEQ_NEVER: its invocation sequence is not there */
    int slot; /* while RUNNING, else -1 */
};

struct seq {
    struct arena arena; /* owns everything below, this struct too */
    uint64_t id;
    uint64_t order; /* of arrival */
    enum seq_state state;
    int passed_steps;   /* waiting: steps since it was first overtaken */
    int slot_steps;     /* waiting: steps in which it lacked nothing but its adapters in slots */
    uint64_t turn_step; /* running: step of its first token after admission, 0: not yet */
    bool unloadable;    /* waiting: an adapter of it could not be read */
    bool at_hand;       /* waiting: its adapters are in slots, or (bit i of loadable) can be put */
    unsigned loadable;  /* into some */
    bool lacks;         /* waiting: nothing but its adapters, when the last step was planned */

    /* the request */
    const char *request_id;
    int prompt_count;
    int max_new; /* tokens to make at most, >= 1 */
    int min_new;
    bool keep_special, include_stop, prompt_logprobs;
    bool cache_read, cache_write;
    struct sample_params sampling;
    struct seq_adapter adapters[LIMIT_ADAPTERS_PER_REQUEST]; /* ascending by `from` */
    int adapter_count;
    struct adapter_set set; /* shared (one user of each in the store) until the sequence ends */
    uint64_t holds[2 * LIMIT_ADAPTERS_PER_REQUEST]; /* [hold_count] generations in it, to the end */
    int hold_count;
    int32_t *ends; /* [end_count] ids that end the answer: stop tokens, then eos unless ignored */
    int end_count, stop_token_count; /* the latter of these are the request's own */

    /* tokens and their KV */
    int32_t *tokens; /* [prompt_count + max_new] */
    int count;
    int computed;
    int32_t *pages; /* [pages_max] */
    int page_count;
    int pages_max;
    /* Of steps in flight: rows that are not in `computed` yet, and tokens that will be drawn. The
     * latest of these is output `pending_out` of the step launched last. */
    int flying_rows;
    int pending;
    int pending_out;
    int scored;           /* prompt tokens below this index need no PROMPT_TOKEN event any more */
    struct pooled pooled; /* where an embedding is wanted: of the tokens before scored - 1 */
    struct prefix_key seed;
    struct prefix_key *keys; /* [pages_max] chain of the full pages */
    int key_count;

    /* what the answer must match */
    struct grammar *grammar; /* shared, one reference until the end; NULL: anything */
    struct grammar_state matched;
    uint32_t *mask; /* [mask_words] of the next token, bans included */

    /* text */
    struct stop stop;
    void *detok; /* state of the streaming detokeniser */
    char *text;  /* room for all text one token can make visible */
    size_t text_len;
    bool text_lost; /* a token's text was longer than the vocabulary promised */

    /* times, clock_now_ns; 0: not yet */
    int64_t submitted_ns;
    int64_t scheduled_ns;
    int64_t lacks_since_ns, lacked_ns; /* `lacks` since then, 0: no; before that, in all */
    int64_t first_token_ns;
    int64_t last_token_ns;
    int cached_tokens;

    /* the engine thread's snapshot of the reader's side, once a turn */
    bool cancel_seen;
    int room;

    /* the reader's side: under the engine's lock */
    struct outbox outbox;
    bool cancelled;
    bool paused; /* waits for the reader: a read wakes the engine */
    bool ready;  /* in the ready list */
    struct seq *ready_next;
    struct seq *inbox_next;
};

/* What the engine adds to a request. */
struct seq_setup {
    const struct engine_request *request;
    int max_new;
    const int32_t *eos;
    int eos_count;
    bool prefix_cache;
    size_t detok_bytes;
    size_t text_bytes;
    size_t mask_words;    /* of a request with a grammar */
    struct pooled pooled; /* kind and width, of a request for an embedding */
};

/* Copies the request but for its adapters: then `set`, seq_adapters_place and seq_seed. */
WARN_UNUSED enum status seq_create(const struct seq_setup *setup, struct seq **out);
void seq_destroy(struct seq *s);
/* Engine thread: the grammar is not needed any more. */
void seq_drop_grammar(struct seq *s);

/* Computes the keys of the prompt's full pages; the adapters are known. Any thread. */
void seq_seed(struct seq *s, const char *salt);
/* Computes the keys of full pages up to `tokens` tokens. */
void seq_extend_keys(struct seq *s, int tokens);
/* Pages that may come from the cache: the last known token's row is wanted. */
int seq_cacheable_pages(const struct seq *s);
/* Tokens made so far. */
int seq_made(const struct seq *s);
/* True while prompt rows are wanted as outputs, to be scored or pooled. */
bool seq_scores(const struct seq *s);
/* Ids that must not be drawn when `made` tokens were made before. */
int seq_banned_count(const struct seq *s, int made);
/* True when `token` ends the answer; *show: its own text is part of it. */
bool seq_is_end(const struct seq *s, int32_t token, bool *show);
void seq_usage(const struct seq *s, struct engine_usage *out);

#endif
