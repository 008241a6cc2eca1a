#include "engine/base/sha256_job.h"

#include <pthread.h>
#include <stdbool.h>

#include "engine/base/mem.h"
#include "engine/base/status.h"
#include "engine/base/team.h"

/* A thread costs some 30 us, and this takes about as long. */
#define ALONE_BYTES ((size_t)64 << 10)
/* Between two looks at whether somebody wants it to stop. */
#define PIECE_BYTES ((size_t)1 << 20)

struct sha256_job {
    struct sha256 hash;
    const uint8_t *data; /* borrowed */
    size_t bytes;
    bool started;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t more;
    size_t reached;
    bool stopped;
};

struct sha256_job *sha256_job_begin(void)
{
    struct sha256_job *j = mem_calloc(1, sizeof *j);
    if (!j)
        return NULL;
    if (pthread_mutex_init(&j->lock, NULL) != 0) {
        mem_free(j);
        return NULL;
    }
    if (pthread_cond_init(&j->more, NULL) != 0) {
        pthread_mutex_destroy(&j->lock);
        mem_free(j);
        return NULL;
    }
    sha256_init(&j->hash);
    return j;
}

void sha256_job_update(struct sha256_job *j, const void *data, size_t n)
{
    CHECK(!j->data);
    sha256_update(&j->hash, data, n);
}

/* Bytes from `at` on that may be read now; 0: it is to stop. */
static size_t next_piece(struct sha256_job *j, size_t at)
{
    pthread_mutex_lock(&j->lock);
    while (j->reached == at && !j->stopped)
        pthread_cond_wait(&j->more, &j->lock);
    size_t n = j->stopped ? 0 : j->reached - at;
    pthread_mutex_unlock(&j->lock);
    return n < PIECE_BYTES ? n : PIECE_BYTES;
}

static void *follow_main(void *arg)
{
    struct sha256_job *j = arg;
    team_thread_begins("adapter-hash");
    for (size_t at = 0, n; at < j->bytes && (n = next_piece(j, at)) > 0; at += n)
        sha256_update(&j->hash, j->data + at, n);
    return NULL;
}

void sha256_job_follow(struct sha256_job *j, const void *data, size_t n)
{
    CHECK(!j->data);
    j->data = data;
    j->bytes = n;
    j->started = n > ALONE_BYTES && pthread_create(&j->thread, NULL, follow_main, j) == 0;
}

void sha256_job_reached(struct sha256_job *j, size_t bytes)
{
    pthread_mutex_lock(&j->lock);
    j->reached = bytes;
    pthread_cond_signal(&j->more);
    pthread_mutex_unlock(&j->lock);
}

void sha256_job_stop(struct sha256_job *j)
{
    pthread_mutex_lock(&j->lock);
    j->stopped = true;
    pthread_cond_signal(&j->more);
    pthread_mutex_unlock(&j->lock);
    if (j->started)
        pthread_join(j->thread, NULL);
    j->started = false;
}

void sha256_job_end(struct sha256_job *j, uint8_t out[SHA256_BYTES])
{
    if (!out) {
        sha256_job_stop(j);
    } else {
        CHECK(!j->stopped && j->reached == j->bytes);
        if (j->started)
            pthread_join(j->thread, NULL);
        else
            sha256_update(&j->hash, j->data, j->bytes);
        sha256_final(&j->hash, out);
    }
    pthread_cond_destroy(&j->more);
    pthread_mutex_destroy(&j->lock);
    mem_free(j);
}
