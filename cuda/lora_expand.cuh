/* lora_expand: adapters inside a linear: sums += weight scale B u, from the u of lora_device.cuh.
 *
 * A round of pieces at a time: a warp takes whole pieces, or, where there are fewer pieces than
 * warps, every so many tiles of one. Pieces of a round never share a row, so each element of the
 * sums has one writer between two barriers. B goes through a ring of a warp's own in shared memory,
 * in chunks of a few rank tiles of a tile, each with a note of what it is: B of many adapters is
 * most of what such a step reads, and the loop over it must be short, or it is not its bytes that
 * take the time but its instructions, which are cold each time. u of all pieces lies in shared
 * memory where it has room.
 */
#ifndef CHORUS_CUDA_LORA_EXPAND_CUH
#define CHORUS_CUDA_LORA_EXPAND_CUH

#include "cuda/lora_pieces.cuh"

#define RANK_TILE_BYTES 512 /* of B; of u a row takes 32 */

/* A ring of FRAGS rank tiles. */
template <int FRAGS> struct expand_shape {
    static constexpr int chunk = FRAGS >= 8 ? 4 : 2; /* rank tiles */
    static constexpr int slots = FRAGS / chunk;
    static_assert(slots >= 2 && slots <= EXPAND_SLOTS, "one to read and one to fill");
};

/* Pieces on the tiles of a pass. */
struct expand_range {
    const struct linear_dev *p;
    struct lora_state *l;
    int tile, tiles;
    int first, rows; /* row block */
};

/* What a warp fetches next: chunks of one piece and module until `k` reaches `k_end`, then
 * expand_seek finds the next. */
struct expand_feed {
    int blend, module;    /* blend: the round */
    int q;                /* piece */
    int k, k_end, k_step; /* tiles of the pass */
    int c, count;         /* rank tiles */
    int slot;
    const uint8_t *b; /* this lane's bytes of the next chunk */
    size_t skip;      /* from the end of a tile to the next of this warp */
    int u, u_up;      /* bytes of its u in lora_state.u */
    int rows;
    int ranks, ranks_up;
};

/* The first piece from f->q on, or of the next modules and rounds, that has something on this
 * warp's tiles. round = LORA_ROUNDS: none. */
LINEAR_CALL struct expand_feed expand_seek(struct expand_feed f, const struct expand_range *r)
{
    const struct linear_dev *p = r->p;
    const struct lora_state *l = r->l;
    const struct place at = place_here();
    const int32_t *ends = p->head->pieces[p->view].round_end;
    for (; f.blend < LORA_ROUNDS; f.blend++, f.module = 0, f.q = -1) {
        const int begin = f.blend ? ends[f.blend - 1] : 0, end = ends[f.blend];
        const int step = min(end - begin, LINEAR_WARPS); /* pieces at once */
        if (step <= 0)
            continue;
        const int share = at.warp / step;
        f.k_step = LINEAR_WARPS / step;
        for (; f.module < (p->out == LINEAR_SWIGLU ? 1 : STACK_MODULES); f.module++, f.q = -1) {
            const int low = max(0, p->module_tile[f.module] - r->tile);
            f.k_end = min(r->tiles, module_end(p, f.module) - r->tile);
            f.k = low + share;
            if (share >= f.k_step || f.k >= f.k_end)
                continue;
            f.q = f.q < 0 ? begin + at.warp % step : f.q + step;
            for (; f.q < end; f.q += step) {
                struct piece_entry far;
                const struct piece_entry *e = &l->pieces[f.q];
                if (f.q >= l->table) {
                    piece_entry_far(&far, p, f.q);
                    e = &far;
                }
                f.count = expand_count(p, e, f.module);
                if (f.count == 0 || e->row - r->first >= r->rows || e->row + e->rows <= r->first)
                    continue;
                const int first = e->module_tile[f.module];
                f.c = 0;
                f.rows = e->rows;
                f.ranks = e->module_tile[f.module + 1] - first;
                f.ranks_up = p->out == LINEAR_SWIGLU ? e->module_tile[2] - e->module_tile[1] : 0;
                f.u = (e->u_at + (first - e->module_tile[l->low]) * e->rows) * 32;
                f.u_up = (e->u_at + (e->module_tile[1] - e->module_tile[l->low]) * e->rows) * 32;
                f.b =
                    e->b[f.module] +
                    (size_t)(r->tile + f.k - p->module_tile[f.module]) * f.count * RANK_TILE_BYTES +
                    at.lane * 16;
                f.skip = (size_t)(f.k_step - 1) * f.count * RANK_TILE_BYTES;
                return f;
            }
        }
    }
    return f;
}

/* What a chunk is, in four words:
 * x: tile | rank tiles << 8 | those with u << 12 | those with u_up << 16 | rows << 20 | last << 24
 * y, z: u and u_up in bytes, of row 0; w: piece | module << 16 | round << 20. */
struct expand_note {
    int tile, n, ranks, ranks_up, rows, last;
    int u, u_up;
    int q, module, blend;
};

PTX_INLINE struct expand_note expand_note_of(int4 v)
{
    return {v.x & 255, v.x >> 8 & 15, v.x >> 12 & 15, v.x >> 16 & 15, v.x >> 20 & 15, v.x >> 24,
            v.y,       v.z,           v.w & 0xffff,   v.w >> 16 & 15, v.w >> 20};
}

/* One chunk into the ring, and its note. Always commits a group. */
template <int FRAGS>
PTX_INLINE void expand_issue(struct expand_feed *f, const struct expand_range *r, uint8_t *ring,
                             const struct place *at)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    if (f->k >= f->k_end && f->blend < LORA_ROUNDS)
        *f = expand_seek(*f, r);
    int4 note = make_int4(0, 0, 0, f->blend << 20);
    if (f->blend < LORA_ROUNDS) {
        const int n = min(chunk, f->count - f->c), last = f->c + n == f->count;
        const int ranks = max(0, min(n, f->ranks - f->c));
        const int ranks_up = max(0, min(n, f->ranks_up - f->c));
        uint8_t *to = ring + f->slot * chunk * RANK_TILE_BYTES + at->lane * 16;
#pragma unroll
        for (int i = 0; i < chunk; i++)
            if (i < n)
                ptx_cp_async16(to + i * RANK_TILE_BYTES, f->b + i * RANK_TILE_BYTES);
        note = make_int4(f->k | n << 8 | ranks << 12 | ranks_up << 16 | f->rows << 20 | last << 24,
                         f->u + f->c * f->rows * 32, f->u_up + f->c * f->rows * 32,
                         f->q | f->module << 16 | f->blend << 20);
        f->b += n * RANK_TILE_BYTES;
        f->c += n;
        if (last) {
            f->c = 0;
            f->k += f->k_step;
            f->b += f->skip;
        }
    }
    if (at->lane == 0)
        r->l->note[at->warp][f->slot] = note;
    if (++f->slot == expand_shape<FRAGS>::slots)
        f->slot = 0;
    ptx_cp_async_commit();
}

/* The first chunks of a pass. */
template <int FRAGS>
PTX_INLINE void expand_begin(struct expand_feed *f, const struct expand_range *r, uint8_t *ring,
                             const struct place *at)
{
    *f = {};
    f->q = -1;
#pragma unroll 1
    for (int i = 0; i < expand_shape<FRAGS>::slots; i++)
        expand_issue<FRAGS>(f, r, ring, at);
}

/* c += a chunk's products; at a tile's end sum[row (r, t)] += weight scale c. c0: the first rank
 * tile, for u that is not here. */
template <int CHUNK, bool HERE>
PTX_INLINE void expand_chunk(float c[4], float *sums, int tile_floats, const uint8_t *from,
                             const struct expand_note *n, int c0, const struct expand_range *r,
                             const struct place *at)
{
    const struct linear_dev *p = r->p;
    const struct lora_state *l = r->l;
    const bool pair = p->out == LINEAR_SWIGLU;
    const int row = min(at->g, n->rows - 1), stride = n->rows * 32;
    const uint8_t *u = l->u + n->u + row * 32 + at->t * 8;
    const uint8_t *u_up = l->u + n->u_up + row * 32 + at->t * 8;
    struct piece_entry far;
    const struct piece_entry *e = &l->pieces[n->q];
    if (!HERE && n->q >= l->table) {
        piece_entry_far(&far, p, n->q);
        e = &far;
    }
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        if (i >= n->n)
            break;
        const uint4 b = *(const uint4 *)(from + i * RANK_TILE_BYTES);
        uint2 v = make_uint2(0, 0), up = v;
        if (i < n->ranks)
            v = HERE ? *(const uint2 *)(u + i * stride)
                     : u_load(p, l, n->q, e->module_tile[n->module] + c0 + i, row, at->t);
        if (pair) {
            if (i < n->ranks_up)
                up = HERE ? *(const uint2 *)(u_up + i * stride)
                          : u_load(p, l, n->q, e->module_tile[1] + c0 + i, row, at->t);
            ptx_mma_bf16(c, b.x, 0, b.z, 0, v.x, v.y);
            ptx_mma_bf16(c, 0, b.y, 0, b.w, up.x, up.y);
        } else {
            ptx_mma_bf16(c, b.x, b.y, b.z, b.w, v.x, v.y);
        }
    }
    if (!n->last)
        return;
    const float low = e->scale[n->module], high = pair ? e->scale[1] : low;
    float *to = sums + n->tile * tile_floats;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int j = at->t * 2 + i, t = e->row + j - r->first;
        if (j < n->rows && t >= 0 && t < r->rows) {
            float *sum = to + slot_at(at->g, t);
            sum[0] = __fmaf_rn(low, c[i], sum[0]);
            sum[64] = __fmaf_rn(high, c[i + 2], sum[64]);
        }
    }
    c[0] = c[1] = c[2] = c[3] = 0;
}

/* The chunks of a round. HERE: the whole table and u are in shared memory. */
template <int FRAGS, bool HERE>
PTX_INLINE void expand_round(int round, float *sums, int tile_floats, struct expand_feed *f,
                             int *slot, const struct expand_range *r, uint8_t *ring,
                             const struct place *at)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    float c[4] = {0, 0, 0, 0};
    int c0 = 0;
#pragma unroll 1
    for (;;) {
        ptx_cp_async_wait<expand_shape<FRAGS>::slots - 1>();
        __syncwarp(); /* all lanes' copies, and the note */
        const struct expand_note note = expand_note_of(r->l->note[at->warp][*slot]);
        if (note.blend != round)
            break;
        const uint8_t *from = ring + *slot * chunk * RANK_TILE_BYTES + at->lane * 16;
        expand_chunk<chunk, HERE>(c, sums, tile_floats, from, &note, c0, r, at);
        c0 = note.last ? 0 : c0 + note.n;
        __syncwarp(); /* the chunk is read */
        expand_issue<FRAGS>(f, r, ring, at);
        if (++*slot == expand_shape<FRAGS>::slots)
            *slot = 0;
    }
}

/* Adds all pieces to `sums`, slot of the pass's first tile. f: from expand_begin. */
template <int FRAGS>
PTX_INLINE void expand_all(float *sums, int tile_floats, struct expand_feed *f,
                           const struct expand_range *r, uint8_t *ring, const struct place *at)
{
    const struct linear_dev *p = r->p;
    int slot = f->slot; /* all are full: the oldest */
    int begin = 0;
    for (int round = 0; round < LORA_ROUNDS; round++) {
        const int end = p->head->pieces[p->view].round_end[round];
        if (end <= begin)
            continue;
        begin = end;
        if (r->l->u_rows >= 0)
            expand_round<FRAGS, true>(round, sums, tile_floats, f, &slot, r, ring, at);
        else
            expand_round<FRAGS, false>(round, sums, tile_floats, f, &slot, r, ring, at);
        __syncthreads(); /* a round's sums before the next round adds to them, or all are read */
    }
}

#endif
