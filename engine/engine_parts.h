/* engine_parts: what an engine is made of, for engine_open, which reads the parts from files, and
 * for tests, which bring their own backend, text and clock. Not for the server.
 */
#ifndef CHORUS_ENGINE_PARTS_H
#define CHORUS_ENGINE_PARTS_H

#include "engine/adapter/adapter_store.h"
#include "engine/backend.h"
#include "engine/base/strbuf.h"
#include "engine/engine.h"
#include "engine/grammar/token_trie.h"

#define DETOK_END_BYTES 16

/* Streaming text of one request, over a vocabulary. `state` is state_bytes of zeroed memory,
 * 16-byte aligned, without resources of its own. push and end append whole UTF-8 characters: at
 * most text_max and DETOK_END_BYTES bytes. */
struct engine_detok {
    const void *ctx;
    size_t state_bytes;
    size_t text_max;
    void (*begin)(const void *ctx, void *state, bool keep_special, const int32_t *prompt,
                  int prompt_count);
    void (*push)(const void *ctx, void *state, int32_t token, struct strbuf *out);
    void (*end)(const void *ctx, void *state, struct strbuf *out);
};

/* What an engine is made of. Borrowed parts live until engine_close; engine_close calls `release`
 * (may be NULL) last, for whoever gathered them. */
struct engine_parts {
    const struct model *model;      /* borrowed */
    struct backend *backend;        /* opened, not loaded; taken only on success */
    const struct engine_text *text; /* borrowed; NULL: engine_get_text has none */
    struct engine_detok detok;
    struct token_source tokens; /* text tokens for grammars; bytes NULL: there are no grammars */
    const int32_t *eos;         /* borrowed, [eos_count] ids that end an answer */
    int eos_count;
    struct adapter_source adapters;
    size_t memory_bytes;          /* memory that may be used: of MemAvailable */
    int64_t (*now_ns)(void *ctx); /* NULL: clock_now_ns */
    void *now_ctx;
    void (*release)(void *ctx);
    void *release_ctx;
    bool threaded;      /* false: the caller drives engine_turn */
    bool loads_by_hand; /* with threaded false: and adapter loads, by engine_load_turn; else a turn
                           begins with one */
};

/* Builds an engine from parts and, if threaded, starts its thread. */
WARN_UNUSED enum status engine_create(const struct engine_options *opt,
                                      const struct engine_parts *parts, struct engine **out,
                                      struct err *err);
/* One turn of the loop; false: there was nothing to do. Only where parts.threaded is false. */
bool engine_turn(struct engine *e);
/* Moves one adapter that is on its way; false: there is none. Only where parts.loads_by_hand. */
bool engine_load_turn(struct engine *e);

#endif
