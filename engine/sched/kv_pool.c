#include "engine/sched/kv_pool.h"

#include <string.h>

#include "engine/base/mem.h"

enum status kv_pool_init(struct kv_pool *p, int pages)
{
    CHECK(pages > 0);
    memset(p, 0, sizeof *p);
    size_t n = (size_t)pages;
    p->refs = mem_calloc(n, sizeof *p->refs);
    p->prev = mem_calloc(n + 1, sizeof *p->prev);
    p->next = mem_calloc(n + 1, sizeof *p->next);
    p->kept = mem_calloc(n, sizeof *p->kept);
    if (!p->refs || !p->prev || !p->next || !p->kept) {
        kv_pool_deinit(p);
        return STATUS_NO_MEMORY;
    }
    p->total = pages;
    p->free_count = pages;
    for (int i = 0; i < pages; i++)
        p->next[i] = i + 1 < pages ? i + 1 : -1;
    p->prev[pages] = p->next[pages] = pages;
    return STATUS_OK;
}

void kv_pool_deinit(struct kv_pool *p)
{
    mem_free(p->refs);
    mem_free(p->prev);
    mem_free(p->next);
    mem_free(p->kept);
    memset(p, 0, sizeof *p);
}

static void ring_remove(struct kv_pool *p, int page)
{
    p->next[p->prev[page]] = p->next[page];
    p->prev[p->next[page]] = p->prev[page];
    p->cached_count--;
}

static void ring_append(struct kv_pool *p, int page)
{
    int end = p->total;
    p->prev[page] = p->prev[end];
    p->next[page] = end;
    p->next[p->prev[end]] = page;
    p->prev[end] = page;
    p->cached_count++;
}

static void free_push(struct kv_pool *p, int page)
{
    p->next[page] = p->free_head;
    p->free_head = page;
    p->free_count++;
}

int kv_pool_take(struct kv_pool *p)
{
    if (p->free_count == 0)
        return -1;
    int page = p->free_head;
    p->free_head = p->next[page];
    p->free_count--;
    p->refs[page] = 1;
    return page;
}

void kv_pool_ref(struct kv_pool *p, int page)
{
    CHECK(page >= 0 && page < p->total && (p->refs[page] > 0 || p->kept[page]));
    if (p->refs[page]++ == 0)
        ring_remove(p, page);
}

void kv_pool_unref(struct kv_pool *p, int page)
{
    CHECK(page >= 0 && page < p->total && p->refs[page] > 0);
    if (--p->refs[page] > 0)
        return;
    if (p->kept[page])
        ring_append(p, page);
    else
        free_push(p, page);
}

void kv_pool_keep(struct kv_pool *p, int page)
{
    CHECK(p->refs[page] > 0 && !p->kept[page]);
    p->kept[page] = true;
}

void kv_pool_forget(struct kv_pool *p, int page)
{
    CHECK(p->kept[page]);
    p->kept[page] = false;
    if (p->refs[page] > 0)
        return;
    ring_remove(p, page);
    free_push(p, page);
}

int kv_pool_oldest(const struct kv_pool *p)
{
    int page = p->next[p->total];
    return page == p->total ? -1 : page;
}

void kv_pool_check(const struct kv_pool *p)
{
    int held = 0, idle = 0, cached = 0, free_pages = 0;
    for (int i = 0; i < p->total; i++) {
        CHECK(p->refs[i] >= 0);
        held += p->refs[i] > 0;
        idle += p->refs[i] == 0 && p->kept[i];
    }
    for (int i = p->next[p->total]; i != p->total; i = p->next[i], cached++)
        CHECK(cached < p->total && p->refs[i] == 0 && p->kept[i] && p->prev[p->next[i]] == i);
    for (int i = p->free_head; i >= 0 && free_pages <= p->total; i = p->next[i], free_pages++)
        CHECK(p->refs[i] == 0 && !p->kept[i]);
    CHECK(cached == p->cached_count && idle == cached && free_pages == p->free_count);
    CHECK(free_pages + cached + held == p->total);
}
