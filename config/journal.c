#include "config/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool journal_is_stderr(void)
{
    const char *text = getenv("JOURNAL_STREAM");
    struct stat st;
    if (!text || *text < '0' || *text > '9' || fstat(STDERR_FILENO, &st) != 0)
        return false;
    char *end;
    errno = 0;
    unsigned long long device = strtoull(text, &end, 10);
    if (errno != 0 || *end != ':' || end[1] < '0' || end[1] > '9')
        return false;
    unsigned long long inode = strtoull(end + 1, &end, 10);
    return errno == 0 && *end == '\0' && device == (unsigned long long)st.st_dev &&
           inode == (unsigned long long)st.st_ino;
}
