#include "server/notify.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/base/mem.h"

struct notify {
    int fd;
    struct sockaddr_un to;
    socklen_t to_bytes;
};

enum status notify_open(const char *path, struct notify **out, struct err *e)
{
    size_t n = strlen(path);
    *out = NULL;
    if (n == 0)
        return STATUS_OK;
    struct notify *made = mem_calloc(1, sizeof *made);
    if (!made)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    CHECK(n < sizeof made->to.sun_path);
    made->to.sun_family = AF_UNIX;
    memcpy(made->to.sun_path, path, n);
    /* An abstract name begins with NUL and ends with its length; a path ends with NUL. */
    bool abstract = path[0] == '@';
    if (abstract)
        made->to.sun_path[0] = '\0';
    made->to_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + !abstract);
    made->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made->fd < 0) {
        mem_free(made);
        return err_set(e, STATUS_IO, "NOTIFY_SOCKET", "cannot tell the service manager: %s",
                       strerror(errno));
    }
    *out = made;
    return STATUS_OK;
}

void notify_close(struct notify *n)
{
    if (!n)
        return;
    close(n->fd);
    mem_free(n);
}

bool notify_send(const struct notify *n, const char *text)
{
    if (!n)
        return true;
    size_t bytes = strlen(text);
    const struct sockaddr *to = (const struct sockaddr *)&n->to;
    return sendto(n->fd, text, bytes, MSG_NOSIGNAL, to, n->to_bytes) == (ssize_t)bytes;
}
