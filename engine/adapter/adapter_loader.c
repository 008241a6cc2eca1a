#include "engine/adapter/adapter_loader.h"

#include "engine/adapter/adapter_host.h"
#include "engine/adapter/adapter_slots.h"

static void *reader_main(void *arg)
{
    struct adapter_store *s = arg;
    pthread_setname_np(pthread_self(), "adapter-read");
    pthread_mutex_lock(&s->lock);
    while (!s->ending) {
        if (!s->buried && !adapter_host_has_work(s)) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        adapter_store_free_buried(s);
        (void)adapter_host_read_one(s);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void *uploader_main(void *arg)
{
    struct adapter_store *s = arg;
    pthread_setname_np(pthread_self(), "adapter-send");
    pthread_mutex_lock(&s->lock);
    while (!s->ending) {
        if (s->upload.state != UPLOAD_ASKED) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        (void)adapter_slots_upload_one(s);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

enum status adapter_loader_start(struct adapter_loader *l, struct adapter_store *s)
{
    *l = (struct adapter_loader){.store = s};
    s->buries = true; /* nobody else knows the store yet */
    if (pthread_create(&l->reader, NULL, reader_main, s) == 0)
        l->started = 1;
    if (l->started == 1 && s->packs && pthread_create(&l->uploader, NULL, uploader_main, s) == 0)
        l->started = 2;
    if (l->started == (s->packs ? 2 : 1))
        return STATUS_OK;
    adapter_loader_stop(l);
    return STATUS_NO_MEMORY;
}

void adapter_loader_stop(struct adapter_loader *l)
{
    if (l->started == 0)
        return;
    pthread_mutex_lock(&l->store->lock);
    l->store->ending = true;
    pthread_cond_broadcast(&l->store->work);
    pthread_mutex_unlock(&l->store->lock);
    pthread_join(l->reader, NULL);
    if (l->started == 2)
        pthread_join(l->uploader, NULL);
    l->started = 0;
}

bool adapter_loader_turn(struct adapter_store *s)
{
    return adapter_slots_upload_one(s) || adapter_host_read_one(s);
}
