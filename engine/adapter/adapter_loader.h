/* adapter_loader: the threads that move adapters while the engine steps: one reads files, one
 * uploads, so that a slow disk keeps nobody's upload waiting. */
#ifndef CHORUS_ADAPTER_ADAPTER_LOADER_H
#define CHORUS_ADAPTER_ADAPTER_LOADER_H

#include "engine/adapter/adapter_store.h"

struct adapter_loader {
    struct adapter_store *store; /* borrowed */
    pthread_t reader;
    pthread_t uploader;
    int started;
};

/* STATUS_NO_MEMORY: a thread could not be started, and none is left. */
WARN_UNUSED enum status adapter_loader_start(struct adapter_loader *l, struct adapter_store *s);
/* Lets what is being moved end, and joins. Nothing when it was not started. */
void adapter_loader_stop(struct adapter_loader *l);
/* One piece of work on the calling thread, where no loader was started; false: there is none. */
bool adapter_loader_turn(struct adapter_store *s);

#endif
