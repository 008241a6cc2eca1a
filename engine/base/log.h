/* log: short structured lines on stderr, text or JSON. Any thread; one write a line.
 *
 *   LOG_INFO(LOG_WHAT("model loaded"), LOG_STR("path", path), LOG_INT("tensors", n));
 *   -> 12:03:55.120 info  model loaded path=models/storyteller tensors=74
 *
 * The first field is a fixed sentence; the values of the others are quoted and escaped as needed
 * and cut at LIMIT_LOG_VALUE_BYTES. A line that cannot be written (full disk) is dropped and
 * counted.
 */
#ifndef CHORUS_BASE_LOG_H
#define CHORUS_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_kind { LOG_KIND_STR, LOG_KIND_INT, LOG_KIND_NUM };

struct log_field {
    enum log_kind kind;
    const char *key;
    const char *str;
    int64_t i;
    double num;
};

#define LOG_WHAT(v)   LOG_STR("msg", v)
#define LOG_STR(k, v) ((struct log_field){.kind = LOG_KIND_STR, .key = (k), .str = (v)})
#define LOG_INT(k, v) ((struct log_field){.kind = LOG_KIND_INT, .key = (k), .i = (int64_t)(v)})
#define LOG_NUM(k, v) ((struct log_field){.kind = LOG_KIND_NUM, .key = (k), .num = (v)})

/* Chosen once at start, before threads. */
void log_setup(enum log_level least, bool json);
bool log_enabled(enum log_level level);
/* fields[0] is the LOG_WHAT. */
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
