#include "server/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)a;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (a->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
    return a->sa_family == AF_UNIX;
}

static int port_of(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_UNIX)
        return 0;
    if (a->ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)a)->sin6_port);
    return ntohs(((const struct sockaddr_in *)a)->sin_port);
}

static void write_text(const struct sockaddr_storage *a, socklen_t len, struct listener *l)
{
    if (a->ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)a;
        size_t begin = offsetof(struct sockaddr_un, sun_path);
        size_t n = len > begin ? len - begin : 0;
        if (n > 0 && un->sun_path[0] == '\0')
            snprintf(l->text, sizeof l->text, "unix:@%.*s", (int)(n - 1), un->sun_path + 1);
        else
            snprintf(l->text, sizeof l->text, "unix:%.*s", (int)n, un->sun_path);
        return;
    }
    char host[128];
    if (getnameinfo((const struct sockaddr *)a, len, host, sizeof host, NULL, 0, NI_NUMERICHOST))
        snprintf(host, sizeof host, "?");
    snprintf(l->text, sizeof l->text, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, l->port);
}

/* What the kernel says of a socket that is bound. */
static enum status describe(int fd, struct listener *out, struct err *e)
{
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &len) != 0)
        return err_set(e, STATUS_IO, "port", "getsockname: %s", strerror(errno));
    struct listener l = {
        .fd = fd,
        .port = port_of(&bound),
        .loopback = is_loopback((const struct sockaddr *)&bound),
    };
    write_text(&bound, len, &l);
    *out = l;
    return STATUS_OK;
}

static int bind_and_listen(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    /* A restart must not wait for the old connections' TIME_WAIT. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

enum status listener_open(const char *host, int port, struct listener *out, struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    int rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0)
        return err_set(e, STATUS_INVALID, "host", "cannot resolve host '%s': %s", host,
                       gai_strerror(rc));
    int fd = -1;
    int last_errno = 0;
    for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
        fd = bind_and_listen(ai);
        last_errno = errno;
    }
    freeaddrinfo(list);
    if (fd < 0)
        return err_set(e, last_errno == EADDRINUSE ? STATUS_CONFLICT : STATUS_IO, "port",
                       "cannot listen on %s port %d: %s", host, port, strerror(last_errno));
    enum status st = describe(fd, out, e);
    if (st != STATUS_OK)
        close(fd);
    return st;
}

static int socket_int(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

enum status listener_adopt(int fd, const char *name, struct listener *out, struct err *e)
{
    int domain = socket_int(fd, SO_DOMAIN);
    const char *why = NULL;
    if (fcntl(fd, F_GETFD) < 0)
        why = "not open";
    else if (domain < 0)
        why = "not a socket";
    else if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX)
        why = "neither a TCP nor a Unix socket";
    else if (socket_int(fd, SO_TYPE) != SOCK_STREAM)
        why = "not a stream socket";
    else if (socket_int(fd, SO_ACCEPTCONN) != 1)
        why = "not listening";
    if (why)
        return err_set(e, STATUS_INVALID, "LISTEN_FDS", "the passed descriptor %d%s%s%s is %s", fd,
                       *name ? " (" : "", name, *name ? ")" : "", why);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return err_set(e, STATUS_IO, "LISTEN_FDS", "descriptor %d: %s", fd, strerror(errno));
    return describe(fd, out, e);
}
