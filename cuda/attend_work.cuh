/* attend_work: what a block of k_attend works on, where its parts of shared memory begin, and how
 * its pages come in; the mapping is described in k_attend.cu. Device only.
 *
 * A slot is a place of the order of sums: of a chunk's 16 pages, slot i has the pages i and i + 8.
 * NW warps take the 8 slots in turn. */
#ifndef CHORUS_CUDA_ATTEND_WORK_CUH
#define CHORUS_CUDA_ATTEND_WORK_CUH

#include "cuda/attend_page.cuh"

#define SLOTS       8
#define CHUNK_PAGES (ATTEND_CHUNK / PAGE)
#define GROUP       8 /* query heads of a block: n of the mma */

static_assert(CHUNK_PAGES == 2 * SLOTS, "a slot has two pages of a chunk");

/* Where the parts of shared memory begin. INT8: K_NEW and V_NEW have bytes and behind them their
 * scale; both pages of a slot go to registers. */
template <int NB, bool WIDE, int NW, bool INT8 = false> struct attend_smem {
    static constexpr int NV = (NB + 1) / 2; /* blocks of 64 columns; rotated pairs a lane */
    static constexpr bool STAGED = NB <= 4 && WIDE && NW == SLOTS && !INT8;
    static constexpr int Q_HI = 0; /* [NB][8 heads][32] bf16 */
    static constexpr int Q_LO = Q_HI + NB * 512;
    static constexpr int K_NEW = Q_LO + NB * 512; /* [32 NB] bf16 */
    static constexpr int V_NEW = K_NEW + NB * 64; /* [64 NV] bf16 */
    static constexpr int MOST = V_NEW + NV * 128; /* [slot][8] fp32: largest score */
    static constexpr int SUM = MOST + SLOTS * GROUP * 4;
    static constexpr int LAST = SUM + SLOTS * GROUP * 4;
    static constexpr int PLACE = LAST + 16; /* struct attend_place */
    static constexpr int STAGE = (PLACE + 64 + 127) / 128 * 128;
    static constexpr int PAGE_BYTES = STAGED ? (2 * NB + 4 * NV) * 512 : 0;
    static constexpr int ROW = 32 * NB + 4; /* floats of a head's sums: off the bank grid */
    static_assert(!STAGED || GROUP * ROW * 4 <= (2 * NB + 4) * 512, "sums spare V's next columns");
    static constexpr int ITEMS = (GROUP + 2 + NW - 1) / NW; /* heads of a warp, at most */
};

/* Where a block belongs: in shared memory, because registers are few. */
struct attend_place {
    int at, row;                    /* at: place among the launch's rows */
    int part, parts;                /* of those that the row touches */
    int first, last;                /* chunks of the block */
    int kv_head, head_begin, heads; /* query heads head_begin .. of those of kv_head */
};

static_assert(sizeof(struct attend_place) <= 64, "its room in shared memory");

/* What a warp has at hand. */
struct attend_work {
    int pos, low, kv_head; /* tokens low .. pos */
    int chunk, slot;
    int id, page[2];      /* the lane's page of the chunk, the slot's two */
    bool own;             /* the row's key is not in memory, but in shared memory */
    const int32_t *pages; /* of the row's sequence */
};

/* False: there is nothing to do for this block. */
static __device__ __forceinline__ bool find_work(const struct attend_call &c,
                                                 struct attend_place *p, struct attend_work *w)
{
    int nth = c.begin + (int)blockIdx.y;
    if (nth >= (c.a.split ? c.a.split->singles : c.s.head->rows[VIEW_ROWS]))
        return false;
    p->at = (int)blockIdx.y;
    p->row = c.a.split ? c.a.single[nth] : nth;
    w->pos = c.s.position[p->row];
    w->low = c.a.window > 0 ? max(0, w->pos - c.a.window + 1) : 0;
    int tokens = ATTEND_CHUNK * c.a.span, first = w->low / tokens;
    p->parts = w->pos / tokens - first + 1;
    int x = (int)blockIdx.x;
    p->kv_head = w->kv_head = x % c.a.kv_heads;
    x /= c.a.kv_heads;
    p->head_begin = x % c.head_groups * GROUP;
    p->heads = min(c.group - p->head_begin, GROUP);
    p->part = x / c.head_groups;
    p->first = max(w->low / ATTEND_CHUNK, (first + p->part) * c.a.span);
    p->last = min(w->pos / ATTEND_CHUNK, (first + p->part + 1) * c.a.span - 1);
    w->pages = c.s.pages + c.s.page_begin[c.s.seq_of_row[p->row]];
    return p->part < p->parts;
}

/* The slot's pages: their first tokens; the tokens of each that the row sees, [begin, end); and the
 * end of those that are in memory. */
static __device__ __forceinline__ int page_base(const struct attend_work &w, int i)
{
    return w.chunk * ATTEND_CHUNK + (w.slot + SLOTS * i) * PAGE;
}

static __device__ __forceinline__ int token_begin(const struct attend_work &w, int i)
{
    return max(w.low - page_base(w, i), 0);
}

static __device__ __forceinline__ int token_end(const struct attend_work &w, int i)
{
    return min(w.pos + 1 - page_base(w, i), PAGE);
}

static __device__ __forceinline__ bool sees(const struct attend_work &w, int i)
{
    return token_begin(w, i) < token_end(w, i);
}

static __device__ __forceinline__ int stored_end(const struct attend_work &w, int i)
{
    return min(w.pos + (w.own ? 0 : 1) - page_base(w, i), PAGE);
}

/* Looks up the pages of a chunk, one a lane. */
static __device__ __forceinline__ void find_pages(const struct attend_call &c, int chunk, int lane,
                                                  struct attend_work *w)
{
    int page = chunk * CHUNK_PAGES + lane;
    w->chunk = chunk;
    w->own = c.a.one_row_each && chunk == w->pos / ATTEND_CHUNK;
    w->id = lane < CHUNK_PAGES && page <= w->pos / PAGE ? w->pages[page] : 0;
}

/* All lanes of a warp: the slot's pages. */
static __device__ __forceinline__ void take_slot(int slot, struct attend_work *w)
{
    w->slot = slot;
#pragma unroll
    for (int i = 0; i < 2; i++)
        w->page[i] = __shfl_sync(0xffffffffu, w->id, slot + SLOTS * i);
}

/* The registers of a slot's pages; of INT8 in attend_int8.cuh. */
template <int NB, bool INT8> struct slot_pages {
    uint4 k[2][NB], v[(NB + 1) / 2][4];
};

/* Sends the slot's pages on their way: the first to registers, the second to `stage`. */
template <int NB, bool WIDE, int NW>
static __device__ __forceinline__ void load_slot(const struct attend_call &c,
                                                 const struct attend_work &w, uint4 *stage,
                                                 struct slot_pages<NB, false> &r)
{
    using at = attend_smem<NB, WIDE, NW>;
    int lane = (int)threadIdx.x % 32, d = c.a.head_dim;
    if (at::STAGED) {
        if (sees(w, 1))
            copy_page<NB, at::NV>(stage, kv_at(c, w.page[1], 0, w.kv_head),
                                  kv_at(c, w.page[1], 1, w.kv_head), d, token_begin(w, 1),
                                  stored_end(w, 1), lane);
        ptx_cp_async_commit();
    }
    load_k<NB, WIDE>(r.k, kv_at(c, w.page[0], 0, w.kv_head), d, token_begin(w, 0), stored_end(w, 0),
                     lane);
#pragma unroll
    for (int b = 0; b < at::NV; b++)
        load_v<WIDE>(r.v[b], kv_at(c, w.page[0], 1, w.kv_head), d, b, token_begin(w, 0),
                     stored_end(w, 0), lane);
}

#endif
