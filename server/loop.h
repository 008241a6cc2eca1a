/* loop: the event loop of the server. The only file that knows libuv.
 *
 * Everything here belongs to the loop thread except loop_wake, which any thread may call, and the
 * `work` function of loop_pool, which runs on a pool thread. A handle that was destroyed calls
 * nobody any more; its memory goes at the end of the turn.
 */
#ifndef CHORUS_SERVER_LOOP_H
#define CHORUS_SERVER_LOOP_H

#include <stdbool.h>

#include "engine/base/status.h"

struct loop;
struct loop_dir;
struct loop_timer;
struct loop_waker;
struct loop_watch;

enum loop_watch_kind {
    LOOP_READABLE, /* level-triggered: fires until the descriptor was read */
    LOOP_HANGUP    /* the peer closed, reset or shut down its writing side; fires once */
};

/* Ignores SIGPIPE for the process: a peer that left is an error of a write, not a signal. */
WARN_UNUSED enum status loop_create(struct loop **out, struct err *e);
/* Ends handles that are left, waits for pool work that runs, frees the loop. NULL is allowed. */
void loop_destroy(struct loop *l);
/* Runs until loop_stop. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
/* One turn: waits until something happens. */
void loop_turn(struct loop *l);
/* `fn` is called on the loop for each SIGINT and SIGTERM. */
WARN_UNUSED enum status loop_on_stop_signal(struct loop *l, void (*fn)(void *ctx), void *ctx,
                                            struct err *e);

/* `fn` is called on the loop for each SIGHUP. */
WARN_UNUSED enum status loop_on_hangup(struct loop *l, void (*fn)(void *ctx), void *ctx,
                                       struct err *e);

/* NULL: out of memory. */
struct loop_timer *loop_timer_create(struct loop *l, void (*fn)(void *ctx), void *ctx);
/* Fires after `after_ms`, then every `repeat_ms` (0: once). Starting again replaces. */
void loop_timer_start(struct loop_timer *t, int after_ms, int repeat_ms);
void loop_timer_stop(struct loop_timer *t);
void loop_timer_destroy(struct loop_timer *t);

/* NULL: out of memory. Calls coalesce: one call of `fn` may stand for many wakes. */
struct loop_waker *loop_waker_create(struct loop *l, void (*fn)(void *ctx), void *ctx);
void loop_wake(struct loop_waker *w);
void loop_waker_destroy(struct loop_waker *w);

/* The descriptor stays the caller's and must outlive the watch. NULL: it cannot be watched. */
struct loop_watch *loop_watch_create(struct loop *l, int fd, enum loop_watch_kind kind,
                                     void (*fn)(void *ctx), void *ctx);
void loop_watch_destroy(struct loop_watch *w);

/* `fn` is called after something in directory `path` (not below it) changed; calls coalesce and
 * some may be missing: it is a hint to look. NULL: it cannot be watched. */
struct loop_dir *loop_dir_create(struct loop *l, const char *path, void (*fn)(void *ctx),
                                 void *ctx);
void loop_dir_destroy(struct loop_dir *d);

/* Runs work(ctx) on a pool thread, then done(ctx) on the loop. False: nothing was queued. */
bool loop_pool(struct loop *l, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx);

#endif
