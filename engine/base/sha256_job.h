/* sha256_job: a hash that is made while the bytes still arrive and while others already work on
 * them: of one large buffer, on a thread of its own. SHA-256 cannot be cut into parts, so it is the
 * longest single piece of loading an adapter; everything else fits beside it.
 *
 * One thread calls all of this; `follow` and what it is given are the exception it makes. */
#ifndef CHORUS_BASE_SHA256_JOB_H
#define CHORUS_BASE_SHA256_JOB_H

#include "engine/base/sha256.h"

struct sha256_job;

/* NULL: out of memory. */
struct sha256_job *sha256_job_begin(void);
/* Hashes at once; not after sha256_job_follow. */
void sha256_job_update(struct sha256_job *j, const void *data, size_t n);
/* The hash ends with data[0, n), which stays where it is until the job ends or stops. It is read as
 * far as sha256_job_reached says. */
void sha256_job_follow(struct sha256_job *j, const void *data, size_t n);
void sha256_job_reached(struct sha256_job *j, size_t bytes);
/* The data of sha256_job_follow is not read any more; then only sha256_job_end with NULL is left.
 */
void sha256_job_stop(struct sha256_job *j);
/* Waits for the hash of everything and frees the job. NULL: nobody wants it. */
void sha256_job_end(struct sha256_job *j, uint8_t out[SHA256_BYTES]);

#endif
