/* bpe: byte-pair merging of one word.
 *
 * A word becomes its initial symbols (bytes for a byte-level vocabulary, characters otherwise;
 * unknown ones fall back to <0xNN> tokens or to the unknown token), then the pair of neighbours
 * with the lowest rank, leftmost first, is merged until none is left.
 *
 * What keeps this linear for any text: a set of all pairs of initial symbols that can ever stand
 * inside one token, between which alone merging happens. Where two neighbours are not in it the
 * text is cut, exactly, into short runs; long runs that remain use a heap, O(n log n).
 *
 * A bpe does not change after it was opened; threads share it, each with a bpe_scratch of its own.
 */
#ifndef CHORUS_TEXT_BPE_H
#define CHORUS_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/token_buf.h"
#include "engine/text/vocab.h"

struct bpe_merge {
    uint32_t left; /* BPE_NONE: a free slot */
    uint32_t right;
    uint32_t rank;
    uint32_t merged;
};

#define BPE_NONE UINT32_MAX

struct bpe {
    const struct vocab *vocab; /* borrowed for life */
    bool byte_level;
    bool byte_fallback;
    bool fuse_unk;
    bool ignore_merges;     /* a word that is a token as it stands is that token */
    bool bytes_complete;    /* byte_fallback and all 256 <0xNN> exist */
    bool makes_special;     /* a special token can come out of plain text */
    int32_t unk_id;         /* -1: unknown symbols are dropped */
    int32_t byte_ids[256];  /* <0xNN>, or -1 */
    int32_t byte_syms[256]; /* byte-level: the byte's own token, or -1 */
    uint16_t *char_pages;   /* owned; code point >> 8 -> page + 1 */
    int32_t *char_ids;      /* owned; 256 to a page */
    size_t char_page_count;
    size_t char_id_cap;
    struct bpe_merge *merges; /* owned, open addressing by (left, right) */
    size_t merge_slots;
    size_t merge_count;
    uint64_t *joins; /* owned; bit set over hashed pairs of initial symbols */
};

/* Working memory of one thread. */
struct bpe_scratch {
    struct bpe_symbol *symbols; /* owned */
    size_t symbol_cap;
    uint64_t *heap; /* owned; rank << 32 | position */
    size_t heap_cap;
    struct bpe_cache_line *cache; /* owned; NULL: no cache */
    char *spelled;                /* owned; a byte-level word as the vocabulary spells it */
    size_t spelled_cap;
};

/* The model flags are set by the caller between init and prepare. */
void bpe_init(struct bpe *b, const struct vocab *v);
void bpe_deinit(struct bpe *b);
/* Reads the vocabulary's single characters and bytes; all model tokens are in it by then. */
WARN_UNUSED enum status bpe_prepare(struct bpe *b, size_t merges, struct err *e);
/* The next merge in order of rank. A pair that comes again takes its later rank. STATUS_BAD_FILE
 * when a token or the merged token is not in the vocabulary. */
WARN_UNUSED enum status bpe_add_merge(struct bpe *b, int32_t left, int32_t right, uint32_t rank,
                                      struct err *e);
/* After the last merge, and after special tokens were flagged in the vocabulary. */
WARN_UNUSED enum status bpe_finish(struct bpe *b, struct err *e);

void bpe_scratch_init(struct bpe_scratch *s);
void bpe_scratch_deinit(struct bpe_scratch *s);
/* Remembers words from here on; worth it for texts of some kilobytes. Failing is harmless. */
void bpe_scratch_use_cache(struct bpe_scratch *s);

/* Appends the ids of word[0, n), valid UTF-8. `plain`: no merge may yield a special token. */
WARN_UNUSED enum status bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *word,
                                   size_t n, bool plain, struct token_buf *out);

#endif
