/* job_embed: the answer of a job whose choices are embeddings. Loop thread. */
#ifndef CHORUS_SERVER_JOB_EMBED_H
#define CHORUS_SERVER_JOB_EMBED_H

#include "server/form.h"

/* Texts of one request that stand in line or are with the engine at once: the others neither fill
 * the queue nor keep their client's other requests waiting. */
#define JOB_EMBED_AT_ONCE 16

/* Never streamed, written by job_embed_write. */
extern const struct form job_embed_form;

/* All choices ended well: a pool thread makes the answer of their vectors, which is then sent. */
void job_embed_write(struct job *j);

#endif
