/* status: the one result type of Chorus, and the error that travels with it.
 *
 * Every function that can fail for a reason outside our own code returns `enum status`; STATUS_OK
 * is 0 everywhere. Detail (which parameter, which sentence) goes into a caller-owned `struct err`,
 * filled once, where it is known. A bug of our own is not a status: it is a CHECK.
 */
#ifndef CHORUS_BASE_STATUS_H
#define CHORUS_BASE_STATUS_H

#define WARN_UNUSED        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, va) __attribute__((format(printf, f, va)))

/* X(enum name, wire code). The wire code is what clients see in `error.code` when nothing more
 * specific is known. */
#define STATUS_LIST(X)                                                                             \
    X(STATUS_OK, "ok")                                                                             \
    X(STATUS_INVALID, "invalid_value")                                                             \
    X(STATUS_UNSUPPORTED, "unsupported_value")                                                     \
    X(STATUS_CONTEXT_LENGTH, "context_length_exceeded")                                            \
    X(STATUS_MODEL_NOT_FOUND, "model_not_found")                                                   \
    X(STATUS_ADAPTER_NOT_FOUND, "adapter_not_found")                                               \
    X(STATUS_NOT_FOUND, "not_found")                                                               \
    X(STATUS_CONFLICT, "conflict")                                                                 \
    X(STATUS_FORBIDDEN, "forbidden")                                                               \
    X(STATUS_BAD_FILE, "bad_file")                                                                 \
    X(STATUS_IO, "io_error")                                                                       \
    X(STATUS_LIMIT, "limit_exceeded")                                                              \
    X(STATUS_BUSY, "queue_full")                                                                   \
    X(STATUS_DRAINING, "draining")                                                                 \
    X(STATUS_CANCELLED, "cancelled")                                                               \
    X(STATUS_NO_MEMORY, "out_of_memory")                                                           \
    X(STATUS_NO_ROOM, "no_room")                                                                   \
    X(STATUS_DEVICE_LOST, "device_lost")                                                           \
    X(STATUS_INTERNAL, "internal_error")

enum status {
#define X(name, code) name,
    STATUS_LIST(X)
#undef X
        STATUS_COUNT
};

#define ERR_PARAM_MAX 96
#define ERR_MSG_MAX   512

struct err {
    enum status code;
    char param[ERR_PARAM_MAX]; /* the request field, option, file or tensor at fault; "" where there
                                  is none */
    char msg[ERR_MSG_MAX];     /* one sentence for people */
};

/* Wire code of a status, e.g. "adapter_not_found". Never NULL. */
const char *status_code(enum status s);

/* Fills `e` (NULL is allowed: nothing is stored) and returns `code`, so that `return err_set(...)`
 * reads well. Over-long text is cut at a UTF-8 boundary. `param` NULL means none. */
enum status err_set(struct err *e, enum status code, const char *param, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* Puts "prefix: " before the message of a filled error; keeps code and param. Returns e->code. */
enum status err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* A condition that only a bug of ours can break. On in release builds: prints file, line and text,
 * then aborts. */
#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))
void check_failed(const char *file, int line, const char *what) __attribute__((noreturn));

#endif
