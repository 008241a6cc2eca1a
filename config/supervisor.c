#include "config/supervisor.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Digits only, as systemd writes them. False: anything else, or out of range. */
static bool read_number(const char *text, int64_t max, int64_t *out)
{
    int64_t value = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > (max - (*text - '0')) / 10)
            return false;
        value = value * 10 + (*text - '0');
    }
    *out = value;
    return true;
}

static enum status refuse(const char *name, const char *value, const char *why, struct err *e)
{
    return err_set(e, STATUS_INVALID, name, "%s=%.100s: %s", name, value, why);
}

/* Whether what the service manager set is for this process: the variable is absent or its id. */
static enum status is_for_us(const char *name, bool absent, bool *out, struct err *e)
{
    const char *value = getenv(name);
    int64_t pid;
    *out = absent;
    if (!value)
        return STATUS_OK;
    if (!read_number(value, INT32_MAX, &pid))
        return refuse(name, value, "not a process id", e);
    *out = pid == getpid();
    return STATUS_OK;
}

static enum status read_notify(struct supervisor *s, struct err *e)
{
    const char *value = getenv("NOTIFY_SOCKET");
    if (!value || !*value)
        return STATUS_OK;
    size_t n = strlen(value);
    if ((*value != '/' && *value != '@') || n < 2 || n >= sizeof s->notify)
        return refuse("NOTIFY_SOCKET", value, "neither a path nor @name of at most 107 bytes", e);
    memcpy(s->notify, value, n + 1);
    return STATUS_OK;
}

static enum status read_watchdog(struct supervisor *s, struct err *e)
{
    const char *value = getenv("WATCHDOG_USEC");
    bool ours;
    enum status st = is_for_us("WATCHDOG_PID", true, &ours, e);
    if (st != STATUS_OK || !ours || !value)
        return st;
    if (!read_number(value, INT64_MAX / 1000, &s->watchdog_us) || s->watchdog_us == 0)
        return refuse("WATCHDOG_USEC", value, "not a time in microseconds", e);
    return STATUS_OK;
}

static void read_names(struct supervisor *s)
{
    const char *names = getenv("LISTEN_FDNAMES");
    for (int i = 0; names && i < s->socket_count; i++) {
        size_t n = strcspn(names, ":");
        size_t kept = n < SUPERVISOR_NAME_BYTES ? n : SUPERVISOR_NAME_BYTES - 1;
        memcpy(s->socket_names[i], names, kept);
        s->socket_names[i][kept] = '\0';
        names = names[n] ? names + n + 1 : NULL;
    }
}

static enum status read_sockets(struct supervisor *s, struct err *e)
{
    const char *value = getenv("LISTEN_FDS");
    bool ours;
    enum status st = is_for_us("LISTEN_PID", false, &ours, e);
    if (st != STATUS_OK || !ours || !value)
        return st;
    int64_t count;
    if (!read_number(value, INT32_MAX, &count))
        return refuse("LISTEN_FDS", value, "not a number of sockets", e);
    if (count > LIMIT_LISTENERS)
        return err_set(e, STATUS_LIMIT, "LISTEN_FDS", "LISTEN_FDS=%.100s: more than %d sockets",
                       value, LIMIT_LISTENERS);
    s->socket_count = (int)count;
    read_names(s);
    return STATUS_OK;
}

enum status supervisor_read(struct supervisor *out, struct err *e)
{
    struct supervisor s = {0};
    enum status st = read_notify(&s, e);
    if (st == STATUS_OK)
        st = read_watchdog(&s, e);
    if (st == STATUS_OK)
        st = read_sockets(&s, e);
    if (st == STATUS_OK)
        *out = s;
    return st;
}
