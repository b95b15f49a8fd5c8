#include "http/listen.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS_MAX 32
#define BACKLOG 1024
#define FIRST_INHERITED 3 /* systemd's SD_LISTEN_FDS_START */
#define PORT_TRIES 32     /* attempts to find a port that is free in all families */
#define RETURNED_MAX 256  /* returned connections that wait to be accepted again */

struct listen_socket {
    int fd;
    struct sockaddr_storage address;
    bool has_file; /* a unix socket whose file we have made */
    dev_t dev;
    ino_t ino;
};

struct listener {
    struct listen_socket sockets[SOCKETS_MAX];
    size_t count;
    struct pollfd polled[SOCKETS_MAX + 1]; /* the sockets, then the bell */
    size_t next;                           /* index at which the search for a ready socket begins */
    int ready;                             /* what listen_wait() found; -1: nothing */
    int bell;                              /* eventfd that is written when the listener is
                                            * stopped or gets a connection back */
    _Atomic bool stopped;
    struct lock lock; /* guards the fields below */
    pthread_cond_t used;
    bool in_use;
    int returned[RETURNED_MAX]; /* descriptors; a ring */
    size_t returned_at, returned_count;
};

/* --- opening ------------------------------------------------------------------------------- */

static int fail(const struct sockaddr_storage *address, struct err *err)
{
    char text[PLACE_TEXT_MAX];
    int sys = errno;
    place_format(address, text);
    errno = sys;
    err_sys(err, "cannot listen on %s", text);
    return -1;
}

static int add_socket(struct listener *listener, int fd, const struct sockaddr_storage *address,
                      struct err *err)
{
    if (listener->count == SOCKETS_MAX) {
        close(fd);
        return err_set(err, ERR_CONFIG, "more than %d sockets to listen on", SOCKETS_MAX);
    }
    listener->sockets[listener->count++] = (struct listen_socket){.fd = fd, .address = *address};
    return 0;
}

/* Makes accepted connections send small pieces at once: they inherit this option. */
static void settle_tcp(int fd)
{
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* Makes room for a unix socket: removes a file on which nobody listens. */
static int clear_path(const struct sockaddr_un *address, struct err *err)
{
    struct stat st;
    if (lstat(address->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, "unix:%s", address->sun_path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_CONFIG, "cannot listen on unix:%s: there is something else",
                       address->sun_path);
    AUTO(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, "opening a socket");
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        return err_set(err, ERR_CONFIG, "cannot listen on unix:%s: somebody listens there already",
                       address->sun_path);
    if (errno == ECONNREFUSED && unlink(address->sun_path) < 0)
        return err_sys(err, "unix:%s", address->sun_path);
    return 0;
}

/* Sets the mode before the socket listens, so that nobody connects under the earlier mode. */
static int settle_file(struct listen_socket *sock, int mode, struct err *err)
{
    const char *path = ((const struct sockaddr_un *)&sock->address)->sun_path;
    struct stat st;
    if (lstat(path, &st) < 0)
        return err_sys(err, "unix:%s", path);
    sock->has_file = true;
    sock->dev = st.st_dev;
    sock->ino = st.st_ino;
    return chmod(path, (mode_t)mode) < 0 ? err_sys(err, "unix:%s", path) : 0;
}

static int open_socket(struct listener *listener, const struct place *place, int mode,
                       struct err *err)
{
    const int on = 1;
    struct sockaddr_storage address = place->socket;
    socklen_t len = place->len;
    int family = address.ss_family;
    if (family == AF_UNIX && clear_path((const struct sockaddr_un *)&address, err))
        return -1;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(&address, err);
    if (add_socket(listener, fd, &address, err))
        return -1;
    struct listen_socket *sock = &listener->sockets[listener->count - 1];
    if (family != AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&address, len) < 0)
        return fail(&address, err);
    if (family == AF_UNIX && settle_file(sock, mode, err))
        return -1;
    /* Not listen(), which is replaced for CivetWeb (interpose.h). */
    if (syscall(SYS_listen, fd, BACKLOG) < 0)
        return fail(&address, err);
    if (family == AF_UNIX)
        return 0;
    settle_tcp(fd);
    len = sizeof(sock->address);
    return getsockname(fd, (struct sockaddr *)&sock->address, &len) < 0 ? fail(&address, err) : 0;
}

/* Takes one socket that systemd passed, if it can accept connections. */
static int inherit_socket(struct listener *listener, int fd, struct err *err)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    int listening = 0, type = 0;
    socklen_t int_len = sizeof(int);
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &int_len) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_len) < 0 || !listening ||
        type != SOCK_STREAM ||
        (address.ss_family != AF_INET && address.ss_family != AF_INET6 &&
         address.ss_family != AF_UNIX))
        return err_set(err, ERR_CONFIG, "descriptor %d of systemd is no stream socket that listens",
                       fd);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_INHERITED);
    if (copy < 0)
        return err_sys(err, "taking a socket from systemd");
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
    if (address.ss_family != AF_UNIX)
        settle_tcp(copy);
    return add_socket(listener, copy, &address, err);
}

static int inherit_sockets(struct listener *listener, struct err *err)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    int64_t number = 0, count = 0;
    if (!pid || !fds || str_to_int(pid, 1, INT32_MAX, &number) < 0 || number != getpid() ||
        str_to_int(fds, 1, SOCKETS_MAX, &count) < 0)
        return err_set(err, ERR_CONFIG,
                       "systemd has handed no socket over (LISTEN_PID, LISTEN_FDS): start this by "
                       "a .socket unit, or name an address");
    for (int i = 0; i < count; i++)
        if (inherit_socket(listener, FIRST_INHERITED + i, err))
            return -1;
    return 0;
}

static void close_sockets(struct listener *listener)
{
    for (size_t i = 0; i < listener->count; i++) {
        struct listen_socket *sock = &listener->sockets[i];
        const char *path = ((const struct sockaddr_un *)&sock->address)->sun_path;
        struct stat st;
        fd_close(&sock->fd);
        if (sock->has_file && lstat(path, &st) == 0 && st.st_dev == sock->dev &&
            st.st_ino == sock->ino)
            unlink(path);
    }
    listener->count = 0;
}

/* Opens all addresses of the list. The first that needs a port of 0 chooses it for all. */
static int open_all(struct listener *listener, const struct listen_config *config,
                    const struct place *places, int count, struct err *err)
{
    int port = config->port;
    for (int i = 0; i < count; i++) {
        struct place place = places[i];
        if (place.inherited) {
            if (inherit_sockets(listener, err))
                return -1;
            continue;
        }
        if (!place.has_port)
            place_set_port(&place.socket, port);
        if (open_socket(listener, &place, config->unix_mode, err))
            return -1;
        if (!place.has_port && port == 0)
            port = place_port(&listener->sockets[listener->count - 1].address);
    }
    return 0;
}

static void prepare_polls(struct listener *listener)
{
    for (size_t i = 0; i < listener->count; i++)
        listener->polled[i] = (struct pollfd){.fd = listener->sockets[i].fd, .events = POLLIN};
    listener->polled[listener->count] = (struct pollfd){.fd = listener->bell, .events = POLLIN};
}

static struct listener *listener_new(struct err *err)
{
    pthread_condattr_t attr;
    struct listener *listener = calloc(1, sizeof(*listener));
    if (!listener) {
        err_set(err, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    listener->ready = -1;
    lock_init(&listener->lock);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&listener->used, &attr);
    pthread_condattr_destroy(&attr);
    listener->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (listener->bell >= 0)
        return listener;
    err_sys(err, "opening a listener");
    listen_close(listener);
    return NULL;
}

/* The connection that was returned first, or -1. */
static int take_returned(struct listener *listener)
{
    int fd = -1;
    lock_take(&listener->lock);
    if (listener->returned_count > 0) {
        fd = listener->returned[listener->returned_at];
        listener->returned_at = (listener->returned_at + 1) % RETURNED_MAX;
        listener->returned_count--;
    }
    lock_drop(&listener->lock);
    return fd;
}

struct listener *listen_open(const struct listen_config *config, struct err *err)
{
    struct place places[PLACE_LIST_MAX];
    int count = place_list_parse(config->places, places, err);
    if (count < 0)
        return NULL;
    struct listener *listener = listener_new(err);
    if (!listener)
        return NULL;
    int rc = open_all(listener, config, places, count, err);
    /* The port that was free in one family was taken in another: try another one. */
    for (int i = 0; rc < 0 && config->port == 0 && err->sys == EADDRINUSE && i < PORT_TRIES; i++) {
        close_sockets(listener);
        rc = open_all(listener, config, places, count, err);
    }
    if (rc == 0) {
        prepare_polls(listener);
        return listener;
    }
    listen_close(listener);
    return NULL;
}

void listen_shut(struct listener *listener)
{
    REQUIRE(atomic_load(&listener->stopped)); /* Nothing is returned any more. */
    close_sockets(listener);
    for (int fd; (fd = take_returned(listener)) >= 0;)
        close(fd);
}

void listen_close(struct listener *listener)
{
    if (!listener)
        return;
    atomic_store(&listener->stopped, true);
    listen_shut(listener);
    fd_close(&listener->bell);
    pthread_cond_destroy(&listener->used);
    lock_done(&listener->lock);
    free(listener);
}

/* --- accepting ----------------------------------------------------------------------------- */

static void note_use(struct listener *listener)
{
    lock_take(&listener->lock);
    listener->in_use = true;
    pthread_cond_broadcast(&listener->used);
    lock_drop(&listener->lock);
}

int listen_await_use(struct listener *listener, int timeout_ms)
{
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    lock_take(&listener->lock);
    while (!listener->in_use && rc == 0)
        rc = pthread_cond_timedwait(&listener->used, &listener->lock.mutex, &until);
    bool in_use = listener->in_use;
    lock_drop(&listener->lock);
    return in_use ? 0 : -1;
}

/* Gives each socket its turn: the search begins after the socket that was served last. */
static int find_ready(struct listener *listener)
{
    for (size_t i = 0; i < listener->count; i++) {
        size_t at = (listener->next + i) % listener->count;
        if (listener->polled[at].revents) {
            listener->next = at + 1;
            return (int)at;
        }
    }
    return -1;
}

int listen_wait(struct listener *listener, int timeout_ms)
{
    struct timespec wait = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    if (!listener->in_use) /* Only this thread sets it. */
        note_use(listener);
    listener->ready = -1;
    if (atomic_load(&listener->stopped))
        return 0;
    /* Not poll(), which is replaced for CivetWeb (interpose.h). */
    int n = ppoll(listener->polled, listener->count + 1, timeout_ms < 0 ? NULL : &wait, NULL);
    if (n <= 0)
        return n;
    if (atomic_load(&listener->stopped))
        return 0;
    bool rang = listener->polled[listener->count].revents != 0;
    listener->ready = rang ? (int)listener->count : find_ready(listener);
    return listener->ready >= 0;
}

/* Takes a returned connection; the bell stays on while there are more. */
static int accept_returned(struct listener *listener, struct sockaddr_storage *ret_peer)
{
    uint64_t count;
    socklen_t len = sizeof(*ret_peer);
    ssize_t n = read(listener->bell, &count, sizeof(count)); /* a semaphore: one each */
    int fd = n < 0 ? -1 : take_returned(listener);
    if (fd >= 0 && getpeername(fd, (struct sockaddr *)ret_peer, &len) == 0)
        return fd;
    if (fd >= 0)
        close(fd); /* Its client has gone. */
    errno = EAGAIN;
    return -1;
}

int listen_accept(struct listener *listener, struct sockaddr_storage *ret_peer)
{
    socklen_t len = sizeof(*ret_peer);
    int ready = listener->ready;
    REQUIRE(ready <= (int)listener->count);
    listener->ready = -1;
    memset(ret_peer, 0, sizeof(*ret_peer));
    if (ready < 0) {
        errno = EAGAIN;
        return -1;
    }
    if (ready == (int)listener->count)
        return accept_returned(listener, ret_peer);
    int fd = accept4(listener->sockets[ready].fd, (struct sockaddr *)ret_peer, &len, SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        const struct timespec pause = {0, 20000000};
        int sys = errno;
        nanosleep(&pause, NULL);
        errno = sys;
    }
    return fd;
}

static void ring(struct listener *listener)
{
    const uint64_t one = 1;
    ssize_t n = write(listener->bell, &one, sizeof(one));
    (void)n; /* There are RETURNED_MAX + 1 writes at most, so there is room for it. */
}

void listen_stop(struct listener *listener)
{
    lock_take(&listener->lock);
    atomic_store(&listener->stopped, true);
    lock_drop(&listener->lock);
    ring(listener);
}

int listen_return(struct listener *listener, int fd)
{
    REQUIRE(fd >= 0);
    lock_take(&listener->lock);
    bool takes = !atomic_load(&listener->stopped) && listener->returned_count < RETURNED_MAX;
    if (takes)
        listener->returned[(listener->returned_at + listener->returned_count++) % RETURNED_MAX] =
            fd;
    lock_drop(&listener->lock);
    if (!takes)
        return -1;
    ring(listener);
    return 0;
}

int listen_port(const struct listener *listener)
{
    for (size_t i = 0; i < listener->count; i++)
        if (place_port(&listener->sockets[i].address) > 0)
            return place_port(&listener->sockets[i].address);
    return 0;
}

const struct sockaddr_storage *listen_address(const struct listener *listener, size_t index)
{
    return index < listener->count ? &listener->sockets[index].address : NULL;
}
