#include "server/fair.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"

static bool may_sit(const struct fair *f, const struct fair_client *c)
{
    return f->seats == 0 || f->seated < f->seats ||
           (c->seated == 0 && f->seated < f->seats + f->reserve);
}

static struct fair_client *find(struct fair *f, const char *name)
{
    struct fair_client *c = f->clients;
    while (c && strcmp(c->name, name) != 0)
        c = c->next;
    return c;
}

static void drop_if_empty(struct fair *f, struct fair_client *c)
{
    if (c->seated > 0 || c->waiting > 0)
        return;
    struct fair_client **link = &f->clients;
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    mem_free(c);
}

enum status fair_enter(struct fair *f, const char *client, struct fair_item *item, struct err *e)
{
    struct fair_client *c = find(f, client);
    CHECK(item->place == FAIR_NOWHERE);
    if (c && c->waiting >= f->queue_max && f->seats > 0 && !may_sit(f, c))
        return err_set(e, STATUS_BUSY, NULL, "The queue is full: %d requests of this client wait.",
                       c->waiting);
    if (!c) {
        c = mem_calloc(1, sizeof *c);
        if (!c)
            return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
        snprintf(c->name, sizeof c->name, "%s", client);
        c->next = f->clients;
        f->clients = c;
    }
    struct fair_item *before = c->last;
    while (before && before->priority > item->priority)
        before = before->prev;
    *item = (struct fair_item){.place = FAIR_WAITS,
                               .priority = item->priority,
                               .client = c,
                               .prev = before,
                               .next = before ? before->next : c->first,
                               .order = ++f->order};
    if (before)
        before->next = item;
    else
        c->first = item;
    if (item->next)
        item->next->prev = item;
    else
        c->last = item;
    c->waiting++;
    f->waiting++;
    return STATUS_OK;
}

static void unline(struct fair *f, struct fair_item *item)
{
    struct fair_client *c = item->client;
    if (item->prev)
        item->prev->next = item->next;
    else
        c->first = item->next;
    if (item->next)
        item->next->prev = item->prev;
    else
        c->last = item->prev;
    c->waiting--;
    f->waiting--;
}

struct fair_item *fair_next(struct fair *f)
{
    struct fair_client *best = NULL;
    for (struct fair_client *c = f->clients; c; c = c->next) {
        if (c->waiting == 0 || !may_sit(f, c))
            continue;
        if (!best || c->seated < best->seated ||
            (c->seated == best->seated && c->first->order < best->first->order))
            best = c;
    }
    if (!best)
        return NULL;
    struct fair_item *item = best->first;
    unline(f, item);
    item->place = FAIR_SEATED;
    best->seated++;
    f->seated++;
    return item;
}

void fair_leave(struct fair *f, struct fair_item *item)
{
    struct fair_client *c = item->client;
    if (item->place == FAIR_NOWHERE)
        return;
    if (item->place == FAIR_WAITS) {
        unline(f, item);
    } else {
        c->seated--;
        f->seated--;
    }
    *item = (struct fair_item){0};
    drop_if_empty(f, c);
}

void fair_deinit(struct fair *f)
{
    while (f->clients) {
        struct fair_client *c = f->clients;
        f->clients = c->next;
        mem_free(c);
    }
    *f = (struct fair){0};
}
