/* job_write: what a job says, as one object or as a stream, in the form of its wire (form.h). A
 * write that fails ends the job with an error in the form that still fits. Loop thread. */
#ifndef CHORUS_SERVER_JOB_WRITE_H
#define CHORUS_SERVER_JOB_WRITE_H

#include "server/job.h"

/* Ends the job with an error; its work goes away. Nothing once it is over. */
void job_write_error(struct job *j, const struct err *e);
void job_write_no_memory(struct job *j);

/* Streams: the head, if it is not on its way; a whole frame as it stands. */
void job_write_begin(struct job *j);
void job_write_frame(struct job *j, const struct strbuf *frame);
/* More of a choice: what waits in c->text, then `text`; what waits in c->thought, before what is
 * said; a call that begins (`first`) or a piece of the last one's arguments; its end. */
void job_write_piece(struct choice *c, const char *text, size_t n);
void job_write_thought(struct choice *c);
void job_write_call(struct choice *c, bool first, const char *arguments, size_t n);
void job_write_finish(struct choice *c);
/* After the last choice: what the form has there, and the end of the stream. */
void job_write_end(struct job *j);
/* A sign of life in a stream that waits. */
void job_write_ping(struct job *j);

/* The whole answer: of each prompt's choices the best n. */
void job_write_whole(struct job *j);
/* What all its objects share; counts over all its choices. */
struct answer_head job_write_head(const struct job *j);
struct answer_usage job_write_usage(const struct job *j);

#endif
