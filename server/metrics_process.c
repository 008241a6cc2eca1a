#include "server/metrics_process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "server/metrics_text.h"
#include "server/version.h"

#define STAT_BYTES 1024
/* Fields of /proc/self/stat behind the command, counted from the state (proc(5): field 3). */
#define STAT_USER      11
#define STAT_SYSTEM    12
#define STAT_START     19
#define STAT_VIRTUAL   20
#define STAT_RESIDENT  21
#define STAT_FIELD_MAX 22

/* The numbers of /proc/self/stat from its third field on. The command may hold anything, so they
 * are looked for behind its last parenthesis. False: it cannot be read. */
static bool read_stat(double field[STAT_FIELD_MAX])
{
    char text[STAT_BYTES];
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || !at[2])
        return false;
    at += 3; /* the state is a letter */
    for (int i = 1; i < STAT_FIELD_MAX; i++) {
        char *end;
        field[i] = strtod(at, &end);
        if (end == at)
            return false;
        at = end;
    }
    return true;
}

/* The start as Unix time: the clock's now, less what passed since, both in boot time. */
static double start_unix_s(double start_ticks, double ticks_per_s)
{
    struct timespec now, up;
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &up);
    return (double)(now.tv_sec - up.tv_sec) + (double)(now.tv_nsec - up.tv_nsec) * 1e-9 +
           start_ticks / ticks_per_s;
}

/* -1: cannot be told. The one that looks is not counted. */
static int open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return -1;
    int count = -1;
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

void metrics_process_write(struct strbuf *out)
{
    double field[STAT_FIELD_MAX];
    double ticks = (double)sysconf(_SC_CLK_TCK);
    if (read_stat(field)) {
        metrics_text_value(out, "process_start_time_seconds", "gauge",
                           "Start of the process, Unix time.",
                           start_unix_s(field[STAT_START], ticks));
        metrics_text_value(out, "process_cpu_seconds_total", "counter",
                           "User and system time of the process.",
                           (field[STAT_USER] + field[STAT_SYSTEM]) / ticks);
        metrics_text_value(out, "process_resident_memory_bytes", "gauge",
                           "Memory of the process that is in RAM.",
                           field[STAT_RESIDENT] * (double)sysconf(_SC_PAGESIZE));
        metrics_text_value(out, "process_virtual_memory_bytes", "gauge",
                           "Addresses of the process that are mapped.", field[STAT_VIRTUAL]);
    }
    int open = open_descriptors();
    if (open >= 0)
        metrics_text_value(out, "process_open_fds", "gauge", "Open file descriptors.", open);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        metrics_text_value(out, "process_max_fds", "gauge", "Most file descriptors allowed.",
                           (double)limit.rlim_cur);
}

void metrics_process_info(const char *backend, const char *model, struct strbuf *out)
{
    metrics_text_head(out, "chorus_build_info", "gauge", "Which server this is; always 1.");
    strbuf_puts(out, "chorus_build_info{version=\"" CHORUS_VERSION "\",backend=");
    metrics_text_quoted(out, backend ? backend : "");
    strbuf_puts(out, ",model=");
    metrics_text_quoted(out, model ? model : "");
    strbuf_puts(out, "} 1\n");
}
