#include "server/terminal.h"

#include <fcntl.h>
#include <unistd.h>

bool terminal_is_here(void)
{
    int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}
