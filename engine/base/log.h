/* log: short structured lines on stderr: text, JSON, or fields for systemd's journal. Any thread.
 *
 *   LOG_INFO(LOG_WHAT("model loaded"), LOG_STR("path", path), LOG_INT("tensors", n));
 *   -> 12:03:55.120 info  model loaded path=models/storyteller tensors=74
 *
 * A line is one line, whatever is in its values: they are quoted where they need it, controls (of
 * ASCII, of Latin 1, of bidirectional text) become \u escapes, what is not UTF-8 U+FFFD, and each
 * is cut at its bound with "..." behind it. Fields that a line has no room for are left out and say
 * so. Nothing is allocated. A reader that does not read, or a full disk, stops nobody: lines are
 * dropped and counted, and the next that gets through is followed by how many were.
 */
#ifndef CHORUS_BASE_LOG_H
#define CHORUS_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_kind { LOG_KIND_STR, LOG_KIND_INT, LOG_KIND_NUM };
enum log_form {
    LOG_FORM_TEXT,
    LOG_FORM_JSON,
    LOG_FORM_JOURNAL /* datagrams in the journal's own form: CHORUS_REQUEST_ID=, CHORUS_ADAPTER=,
                        ... beside MESSAGE=, which is the text line */
};

struct log_field {
    enum log_kind kind;
    const char *key;
    const char *str;
    size_t max; /* STR: bytes that it may take in the line; 0: LIMIT_LOG_VALUE_BYTES */
    int64_t i;
    double num;
};

#define LOG_WHAT(v)   LOG_STR("msg", v)
#define LOG_STR(k, v) ((struct log_field){.kind = LOG_KIND_STR, .key = (k), .str = (v)})
#define LOG_INT(k, v) ((struct log_field){.kind = LOG_KIND_INT, .key = (k), .i = (int64_t)(v)})
#define LOG_NUM(k, v) ((struct log_field){.kind = LOG_KIND_NUM, .key = (k), .num = (v)})
#define LOG_TEXT(k, v)                                                                             \
    ((struct log_field){.kind = LOG_KIND_STR, .key = (k), .str = (v), .max = LIMIT_LOG_TEXT_BYTES})

/* At start and whenever it should be another; lines that are being written are of either. */
void log_setup(enum log_level least, bool json);
/* `prefix`: "<6>" and the like before lines on stderr, as the journal takes them. `socket_path`:
 * socket for LOG_FORM_JOURNAL; what cannot be sent there goes to stderr as text. */
void log_setup_form(enum log_level least, enum log_form form, bool prefix, const char *socket_path);
bool log_enabled(enum log_level level);
/* fields[0] is the LOG_WHAT. Keys are of small letters, digits and _. */
void log_emit(enum log_level level, const struct log_field *fields, size_t count);
/* Lines that could not be written so far. */
uint64_t log_dropped(void);

#define LOG_AT(level, ...)                                                                         \
    do {                                                                                           \
        if (log_enabled(level)) {                                                                  \
            const struct log_field log_fields_[] = {__VA_ARGS__};                                  \
            log_emit((level), log_fields_, sizeof log_fields_ / sizeof log_fields_[0]);            \
        }                                                                                          \
    } while (0)
#define LOG_DEBUG(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define LOG_INFO(...)  LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_WARN(...)  LOG_AT(LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_ERROR(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
