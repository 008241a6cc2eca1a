#include "engine/text/bpe.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"
#include "engine/text/byte_chars.h"

#define JOIN_BITS     (1u << 22)
#define CHAR_PAGES    (0x110000 >> 8)
#define CACHE_LINES   8192
#define CACHE_KEY_MAX 23
#define CACHE_IDS_MAX 9
/* Above this a heap finds the next merge faster than a scan. */
#define SCAN_SYMBOLS_MAX 48

struct bpe_symbol {
    uint32_t id;
    uint32_t rank;   /* of the merge with the right neighbour, BPE_NONE if there is none */
    uint32_t merged; /* what that merge yields */
    uint32_t prev;   /* neighbours in a long run; BPE_NONE at its ends */
    uint32_t next;
};

struct bpe_cache_line {
    uint8_t key_len; /* 0: free */
    char key[CACHE_KEY_MAX];
    uint32_t id_count;
    int32_t ids[CACHE_IDS_MAX];
};

void bpe_init(struct bpe *b, const struct vocab *v)
{
    *b = (struct bpe){.vocab = v, .unk_id = -1};
}

void bpe_deinit(struct bpe *b)
{
    mem_free(b->char_pages);
    mem_free(b->char_ids);
    mem_free(b->merges);
    mem_free(b->joins);
    bpe_init(b, NULL);
}

static uint64_t pair_hash(uint32_t left, uint32_t right)
{
    uint64_t x = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return x ^ x >> 32;
}

static struct bpe_merge *merge_slot(const struct bpe *b, uint32_t left, uint32_t right)
{
    size_t mask = b->merge_slots - 1;
    size_t at = (size_t)pair_hash(left, right) & mask;
    struct bpe_merge *m = &b->merges[at];
    while (m->left != BPE_NONE && (m->left != left || m->right != right)) {
        at = (at + 1) & mask;
        m = &b->merges[at];
    }
    return m;
}

static void set_rank(const struct bpe *b, struct bpe_symbol *s, uint32_t right, bool plain)
{
    const struct bpe_merge *m = merge_slot(b, s->id, right);
    s->rank = m->rank;
    s->merged = m->merged;
    if (plain && m->left != BPE_NONE && b->vocab->flags[m->merged] & VOCAB_SPECIAL)
        s->rank = BPE_NONE;
}

static bool can_join(const struct bpe *b, uint32_t left, uint32_t right)
{
    uint64_t h = pair_hash(left, right) & (JOIN_BITS - 1);
    return b->joins[h / 64] >> (h % 64) & 1;
}

static int32_t char_id(const struct bpe *b, uint32_t cp)
{
    uint16_t page = b->char_pages[cp >> 8];
    return page ? b->char_ids[(size_t)(page - 1) * 256 + (cp & 255)] : -1;
}

static bool set_char(struct bpe *b, uint32_t cp, int32_t id)
{
    uint16_t page = b->char_pages[cp >> 8];
    if (!page) {
        size_t at = b->char_page_count * 256;
        if (!VEC_RESERVE(b->char_ids, b->char_id_cap, at + 256))
            return false;
        for (size_t k = 0; k < 256; k++)
            b->char_ids[at + k] = -1;
        page = b->char_pages[cp >> 8] = (uint16_t)++b->char_page_count;
    }
    b->char_ids[(size_t)(page - 1) * 256 + (cp & 255)] = id;
    return true;
}

static void prepare_bytes(struct bpe *b)
{
    static const char hex[] = "0123456789ABCDEF";
    char spelled[] = "<0x00>";
    b->bytes_complete = b->byte_fallback;
    for (unsigned k = 0; k < 256; k++) {
        spelled[3] = hex[k >> 4];
        spelled[4] = hex[k & 15];
        b->byte_ids[k] = vocab_find_model(b->vocab, spelled, 6);
        if (b->byte_ids[k] < 0)
            b->bytes_complete = false;
        char c[4];
        b->byte_syms[k] = vocab_find_model(b->vocab, c, utf8_encode(byte_chars_of((uint8_t)k), c));
    }
}

enum status bpe_prepare(struct bpe *b, size_t merges, struct err *e)
{
    size_t slots = 16;
    while (slots < merges * 2)
        slots *= 2;
    b->merges = mem_alloc(slots, sizeof *b->merges);
    b->char_pages = mem_calloc(CHAR_PAGES, sizeof *b->char_pages);
    if (!b->merges || !b->char_pages)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    b->merge_slots = slots;
    for (size_t k = 0; k < slots; k++)
        b->merges[k] = (struct bpe_merge){BPE_NONE, BPE_NONE, BPE_NONE, BPE_NONE};
    prepare_bytes(b);
    for (size_t id = 0; id < b->vocab->id_count; id++) {
        size_t n;
        uint32_t cp;
        if (!vocab_has(b->vocab, (int32_t)id, VOCAB_MODEL))
            continue;
        const char *s = vocab_text(b->vocab, (int32_t)id, &n);
        if (n > 0 && n <= 4 && utf8_decode(s, n, &cp) == n && !set_char(b, cp, (int32_t)id))
            return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    return STATUS_OK;
}

enum status bpe_add_merge(struct bpe *b, int32_t left, int32_t right, uint32_t rank, struct err *e)
{
    size_t ln;
    size_t rn;
    const char *l = vocab_text(b->vocab, left, &ln);
    const char *r = vocab_text(b->vocab, right, &rn);
    char joined[1024];
    if (ln + rn > sizeof joined)
        return err_set(e, STATUS_LIMIT, NULL, "merge %u yields a token longer than %zu bytes", rank,
                       sizeof joined);
    memcpy(joined, l, ln);
    memcpy(joined + ln, r, rn);
    int32_t merged = vocab_find_model(b->vocab, joined, ln + rn);
    if (merged < 0)
        return err_set(e, STATUS_BAD_FILE, NULL,
                       "merge %u yields \"%.*s\", which is not in the vocabulary", rank,
                       (int)(ln + rn), joined);
    /* The table has room for the number of merges that prepare was told. */
    CHECK(b->merge_count < b->merge_slots / 2 + 8);
    struct bpe_merge *m = merge_slot(b, (uint32_t)left, (uint32_t)right);
    b->merge_count += m->left == BPE_NONE;
    *m = (struct bpe_merge){(uint32_t)left, (uint32_t)right, rank, (uint32_t)merged};
    return STATUS_OK;
}

/* The initial symbols with which a token can begin or end: its outermost character, and itself
 * where it is one that no character stands for. */
static size_t edge_symbols(const struct bpe *b, uint32_t id, bool last, uint32_t out[2])
{
    size_t n;
    size_t count = 0;
    const char *s = vocab_text(b->vocab, (int32_t)id, &n);
    if (n > 0) {
        size_t at = last ? n - 1 : 0;
        while (at > 0 && ((unsigned char)s[at] & 0xC0) == 0x80)
            at--;
        uint32_t cp = 0;
        if (utf8_decode(s + at, n - at, &cp) > 0 && char_id(b, cp) >= 0)
            out[count++] = (uint32_t)char_id(b, cp);
    }
    bool is_byte = n == 6 && memcmp(s, "<0x", 3) == 0;
    if (is_byte || (int32_t)id == b->unk_id)
        out[count++] = id;
    return count;
}

enum status bpe_finish(struct bpe *b, struct err *e)
{
    b->joins = mem_calloc(JOIN_BITS / 64, sizeof *b->joins);
    if (!b->joins)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    for (size_t k = 0; k < b->merge_slots; k++) {
        const struct bpe_merge *m = &b->merges[k];
        if (m->left == BPE_NONE)
            continue;
        uint32_t l[2];
        uint32_t r[2];
        size_t ln = edge_symbols(b, m->left, true, l);
        size_t rn = edge_symbols(b, m->right, false, r);
        for (size_t i = 0; i < ln; i++) {
            for (size_t j = 0; j < rn; j++) {
                uint64_t h = pair_hash(l[i], r[j]) & (JOIN_BITS - 1);
                b->joins[h / 64] |= (uint64_t)1 << (h % 64);
            }
        }
        b->makes_special |= b->vocab->flags[m->merged] & VOCAB_SPECIAL;
    }
    for (size_t id = 0; b->ignore_merges && id < b->vocab->id_count; id++)
        b->makes_special |= vocab_has(b->vocab, (int32_t)id, VOCAB_MODEL | VOCAB_SPECIAL);
    return STATUS_OK;
}

void bpe_scratch_init(struct bpe_scratch *s)
{
    *s = (struct bpe_scratch){0};
}

void bpe_scratch_deinit(struct bpe_scratch *s)
{
    mem_free(s->symbols);
    mem_free(s->heap);
    mem_free(s->cache);
    mem_free(s->spelled);
    bpe_scratch_init(s);
}

void bpe_scratch_use_cache(struct bpe_scratch *s)
{
    if (!s->cache)
        s->cache = mem_calloc(CACHE_LINES, sizeof *s->cache);
}

static bool append_ids(struct token_buf *out, const int32_t *ids, size_t count)
{
    if (!VEC_RESERVE(out->ids, out->cap, out->count + count))
        return false;
    memcpy(out->ids + out->count, ids, count * sizeof *ids);
    out->count += count;
    return true;
}

/* Symbols of unknown units are not emitted at once: a run of them may become one. */
struct symbolizer {
    const struct bpe *b;
    struct bpe_symbol *out;
    size_t count;
    bool unk_waits;
};

static void put_symbol(struct symbolizer *z, int32_t id)
{
    z->out[z->count++].id = (uint32_t)id;
}

static void put_known(struct symbolizer *z, int32_t id)
{
    if (z->unk_waits)
        put_symbol(z, z->b->unk_id);
    z->unk_waits = false;
    put_symbol(z, id);
}

/* `s` is the unit as the vocabulary would spell it. Byte tokens do not flush a waiting unknown
 * token, which then comes behind them: so does the library. */
static void put_unknown(struct symbolizer *z, const char *s, size_t n)
{
    const struct bpe *b = z->b;
    bool bytes = b->byte_fallback;
    for (size_t i = 0; i < n && bytes; i++)
        bytes = b->byte_ids[(uint8_t)s[i]] >= 0;
    if (bytes) {
        for (size_t i = 0; i < n; i++)
            put_symbol(z, b->byte_ids[(uint8_t)s[i]]);
        return;
    }
    if (b->unk_id < 0)
        return;
    if (z->unk_waits && !b->fuse_unk)
        put_symbol(z, b->unk_id);
    z->unk_waits = true;
}

/* At most 2 n symbols for a byte-level word, n otherwise, and one. */
static size_t symbolize(const struct bpe *b, const char *word, size_t n, struct bpe_symbol *out)
{
    struct symbolizer z = {.b = b, .out = out};
    size_t i = 0;
    while (i < n) {
        uint32_t cp;
        char unit[4];
        size_t len = 1;
        size_t unit_len;
        int32_t id;
        if (b->byte_level) {
            id = b->byte_syms[(uint8_t)word[i]];
            cp = byte_chars_of((uint8_t)word[i]);
        } else {
            len = utf8_decode(word + i, n - i, &cp);
            CHECK(len > 0);
            id = char_id(b, cp);
        }
        if (id >= 0) {
            put_known(&z, id);
        } else {
            unit_len = utf8_encode(cp, unit);
            put_unknown(&z, unit, unit_len);
        }
        i += len;
    }
    if (z.unk_waits)
        put_symbol(&z, b->unk_id);
    return z.count;
}

/* Merges s[0, n) in place by looking for the lowest rank each time; returns the new count. */
static size_t merge_short(const struct bpe *b, struct bpe_symbol *s, size_t n, bool plain)
{
    for (size_t i = 0; i + 1 < n; i++)
        set_rank(b, &s[i], s[i + 1].id, plain);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            if (s[i].rank < s[best].rank)
                best = i;
        }
        if (s[best].rank == BPE_NONE)
            break;
        s[best].id = s[best].merged;
        memmove(&s[best + 1], &s[best + 2], (n - best - 2) * sizeof *s);
        n--;
        if (best + 1 < n)
            set_rank(b, &s[best], s[best + 1].id, plain);
        if (best > 0)
            set_rank(b, &s[best - 1], s[best].id, plain);
    }
    return n;
}

static void sift_down(uint64_t *heap, size_t n, size_t at)
{
    uint64_t v = heap[at];
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= n)
            break;
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= v)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = v;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t v)
{
    size_t at = (*n)++;
    while (at > 0 && heap[(at - 1) / 2] > v) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = v;
}

/* The pair (at, next) changed. Entries of the heap whose rank is no longer that of their symbol are
 * stale and skipped when they surface. */
static void renew_pair(const struct bpe *b, struct bpe_symbol *s, uint32_t at, uint64_t *heap,
                       size_t *heap_n, bool plain)
{
    s[at].rank = BPE_NONE;
    if (s[at].next == BPE_NONE)
        return;
    set_rank(b, &s[at], s[s[at].next].id, plain);
    if (s[at].rank != BPE_NONE)
        heap_push(heap, heap_n, (uint64_t)s[at].rank << 32 | at);
}

/* As merge_short, in O(n log n). `heap` has room for 3 n entries: one for each symbol and two for
 * each merge. */
static size_t merge_long(const struct bpe *b, struct bpe_symbol *s, size_t n, uint64_t *heap,
                         bool plain)
{
    size_t heap_n = 0;
    for (size_t i = 0; i < n; i++) {
        s[i].prev = i > 0 ? (uint32_t)i - 1 : BPE_NONE;
        s[i].next = i + 1 < n ? (uint32_t)i + 1 : BPE_NONE;
        s[i].rank = BPE_NONE;
        if (i + 1 < n)
            set_rank(b, &s[i], s[i + 1].id, plain);
        if (s[i].rank != BPE_NONE)
            heap[heap_n++] = (uint64_t)s[i].rank << 32 | i;
    }
    for (size_t i = heap_n / 2; i > 0; i--)
        sift_down(heap, heap_n, i - 1);
    while (heap_n > 0) {
        uint32_t at = (uint32_t)heap[0];
        uint32_t rank = (uint32_t)(heap[0] >> 32);
        heap[0] = heap[--heap_n];
        if (heap_n > 0)
            sift_down(heap, heap_n, 0);
        if (s[at].rank != rank)
            continue;
        uint32_t gone = s[at].next;
        s[at].id = s[at].merged;
        s[at].next = s[gone].next;
        s[gone].rank = BPE_NONE;
        if (s[at].next != BPE_NONE)
            s[s[at].next].prev = at;
        renew_pair(b, s, at, heap, &heap_n, plain);
        if (s[at].prev != BPE_NONE)
            renew_pair(b, s, s[at].prev, heap, &heap_n, plain);
    }
    size_t count = 0;
    for (uint32_t i = 0; i != BPE_NONE; i = s[i].next)
        s[count++].id = s[i].id;
    return count;
}

static enum status merge_run(const struct bpe *b, struct bpe_scratch *s, struct bpe_symbol *run,
                             size_t n, bool plain, struct token_buf *out)
{
    if (n <= SCAN_SYMBOLS_MAX) {
        n = merge_short(b, run, n, plain);
    } else {
        if (!VEC_RESERVE(s->heap, s->heap_cap, n * 3))
            return STATUS_NO_MEMORY;
        n = merge_long(b, run, n, s->heap, plain);
    }
    if (!VEC_RESERVE(out->ids, out->cap, out->count + n))
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        out->ids[out->count++] = (int32_t)run[i].id;
    return STATUS_OK;
}

static enum status merge_word(const struct bpe *b, struct bpe_scratch *s, const char *word,
                              size_t n, bool plain, struct token_buf *out)
{
    if (!VEC_RESERVE(s->symbols, s->symbol_cap, n * 2 + 1))
        return STATUS_NO_MEMORY;
    struct bpe_symbol *sym = s->symbols;
    size_t count = symbolize(b, word, n, sym);
    size_t from = 0;
    for (size_t i = 1; i <= count; i++) {
        if (i < count && can_join(b, sym[i - 1].id, sym[i].id))
            continue;
        enum status st = merge_run(b, s, sym + from, i - from, plain, out);
        if (st != STATUS_OK)
            return st;
        from = i;
    }
    return STATUS_OK;
}

/* *id is -1 unless the word is a token as it stands. */
static enum status find_whole(const struct bpe *b, struct bpe_scratch *s, const char *word,
                              size_t n, int32_t *id)
{
    *id = -1;
    if (n > b->vocab->len_max)
        return STATUS_OK;
    if (b->byte_level) {
        if (!VEC_RESERVE(s->spelled, s->spelled_cap, n * 2))
            return STATUS_NO_MEMORY;
        n = byte_chars_write(word, n, s->spelled);
        word = s->spelled;
    }
    *id = vocab_find_model(b->vocab, word, n);
    return STATUS_OK;
}

static enum status encode_fresh(const struct bpe *b, struct bpe_scratch *s, const char *word,
                                size_t n, bool plain, struct token_buf *out)
{
    if (b->ignore_merges && b->byte_level) {
        int32_t id;
        if (find_whole(b, s, word, n, &id) != STATUS_OK)
            return STATUS_NO_MEMORY;
        if (id >= 0 && !(plain && b->vocab->flags[id] & VOCAB_SPECIAL))
            return append_ids(out, &id, 1) ? STATUS_OK : STATUS_NO_MEMORY;
    }
    return merge_word(b, s, word, n, plain, out);
}

/* A byte-level word, or a run of characters that was cut from its surroundings. */
static enum status encode_run(const struct bpe *b, struct bpe_scratch *s, const char *word,
                              size_t n, bool plain, struct token_buf *out)
{
    if (!s->cache || plain || n > CACHE_KEY_MAX)
        return encode_fresh(b, s, word, n, plain, out);
    struct bpe_cache_line *line = &s->cache[vocab_hash(word, n) % CACHE_LINES];
    if (line->key_len == n && memcmp(line->key, word, n) == 0)
        return append_ids(out, line->ids, line->id_count) ? STATUS_OK : STATUS_NO_MEMORY;
    size_t before = out->count;
    enum status st = encode_fresh(b, s, word, n, plain, out);
    size_t made = out->count - before;
    if (st == STATUS_OK && made <= CACHE_IDS_MAX) {
        line->key_len = (uint8_t)n;
        memcpy(line->key, word, n);
        line->id_count = (uint32_t)made;
        if (made)
            memcpy(line->ids, out->ids + before, made * sizeof *out->ids);
    }
    return st;
}

/* First and last symbol of a character, -1 where the unknown token may be involved: it could fuse
 * with its neighbours. */
static void char_edges(const struct bpe *b, uint32_t cp, const char *s, size_t len,
                       int32_t edges[2])
{
    edges[0] = edges[1] = char_id(b, cp);
    if (edges[0] < 0 && b->bytes_complete) {
        edges[0] = b->byte_ids[(uint8_t)s[0]];
        edges[1] = b->byte_ids[(uint8_t)s[len - 1]];
    }
}

static enum status encode_chars(const struct bpe *b, struct bpe_scratch *s, const char *word,
                                size_t n, bool plain, struct token_buf *out)
{
    size_t from = 0;
    int32_t before = -1;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        int32_t edges[2];
        size_t len = utf8_decode(word + i, n - i, &cp);
        CHECK(len > 0);
        char_edges(b, cp, word + i, len, edges);
        if (before >= 0 && edges[0] >= 0 && !can_join(b, (uint32_t)before, (uint32_t)edges[0])) {
            enum status st = encode_run(b, s, word + from, i - from, plain, out);
            if (st != STATUS_OK)
                return st;
            from = i;
        }
        before = edges[1];
        i += len;
    }
    return encode_run(b, s, word + from, n - from, plain, out);
}

enum status bpe_encode(const struct bpe *b, struct bpe_scratch *s, const char *word, size_t n,
                       bool plain, struct token_buf *out)
{
    plain = plain && b->makes_special;
    if (n == 0)
        return STATUS_OK;
    if (b->byte_level)
        return encode_run(b, s, word, n, plain, out);
    if (b->ignore_merges) {
        int32_t id = vocab_find_model(b->vocab, word, n);
        if (id >= 0 && !(plain && b->vocab->flags[id] & VOCAB_SPECIAL))
            return append_ids(out, &id, 1) ? STATUS_OK : STATUS_NO_MEMORY;
    }
    return encode_chars(b, s, word, n, plain, out);
}
