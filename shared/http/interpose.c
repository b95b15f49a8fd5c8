/*
 * See interpose.h for what is replaced, and why. The rule for this file: a definition here decides
 * by the calling thread's role and calls one function of listen.h or guard.h; it contains nothing
 * else.
 */

/* The inline versions of recv() and poll() in the fortified headers must not take the place of the
 * definitions here. */
#undef _FORTIFY_SOURCE

#include "http/interpose.h"

#include "base/auto.h"
#include "http/guard.h"
#include "http/listen.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The calling thread's role; a worker's is guard_here(). */
static _Thread_local bool starts;
static _Thread_local struct acceptor *accepts;

void interpose_start(bool starting)
{
    starts = starting;
}

void interpose_accept_for(struct acceptor *acceptor)
{
    accepts = acceptor;
}

int interpose_tag(const char *remote_addr)
{
    struct in_addr addr;
    return inet_pton(AF_INET, remote_addr, &addr) == 1 ? (int)ntohl(addr.s_addr) : -1;
}

int listen(int fd, int backlog)
{
    return starts ? 0 : (int)syscall(SYS_listen, fd, backlog);
}

/* On CivetWeb's accepting thread: returns the connection that poll() has found. */
static int accept_for(const struct acceptor *acceptor, struct sockaddr_in *ret_tag)
{
    struct sockaddr_storage peer;
    int client = listen_accept(acceptor->listener, &peer);
    if (client < 0)
        return -1;
    if (guard_accepted(acceptor->guard, client, &peer) < 0) {
        close(client);
        errno = ENOMEM;
        return -1;
    }
    *ret_tag =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl((uint32_t)client)};
    return client;
}

int accept(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len)
{
    struct sockaddr_in tag;
    if (!accepts)
        return accept4(fd, addr.__sockaddr__, len, SOCK_CLOEXEC);
    int client = accept_for(accepts, &tag);
    if (client >= 0 && addr.__sockaddr__ && len) {
        memcpy(addr.__sockaddr__, &tag, *len < sizeof(tag) ? *len : sizeof(tag));
        *len = sizeof(tag);
    }
    return client;
}

#if !defined(__clang__) /* gcc assumes from <poll.h> that poll() only writes *fds. */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct timespec wait = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    if (accepts) {
        for (nfds_t i = 0; i < count; i++)
            fds[i].revents = 0;
        int ready = listen_wait(accepts->listener, timeout_ms);
        if (ready > 0)
            fds[0].revents = POLLIN;
        return ready;
    }
    if (count == 1 && !guard_may_wait(fds[0].fd)) {
        fds[0].revents = POLLIN; /* recv() will report the end of the connection. */
        return 1;
    }
    return ppoll(fds, count, timeout_ms < 0 ? NULL : &wait, NULL);
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
    if (!guard_may_receive(fd))
        return 0;
    ssize_t n = recvfrom(fd, data, len, flags, NULL, NULL);
    return n > 0 ? (ssize_t)guard_received(fd, data, (size_t)n) : n;
}

int pthread_attr_setstacksize(pthread_attr_t *attr, size_t size)
{
    static int (*_Atomic real)(pthread_attr_t *, size_t);
    if (!real)
        real = __extension__(int (*)(pthread_attr_t *, size_t))
            dlsym(RTLD_NEXT, "pthread_attr_setstacksize");
    return real(attr, size < INTERPOSE_STACK_MIN ? INTERPOSE_STACK_MIN : size);
}

int interpose_check(struct err *err)
{
    const struct {
        const char *name;
        uintptr_t ours;
    } calls[] = {
        {"accept", (uintptr_t)accept},
        {"listen", (uintptr_t)listen},
        {"poll", (uintptr_t)poll},
        {"recv", (uintptr_t)recv},
        {"pthread_attr_setstacksize", (uintptr_t)pthread_attr_setstacksize},
    };
    for (size_t i = 0; i < COUNT_OF(calls); i++)
        if ((uintptr_t)dlsym(RTLD_DEFAULT, calls[i].name) != calls[i].ours)
            return err_set(err, ERR_INTERNAL, "the program hides its %s() from libraries",
                           calls[i].name);
    return 0;
}
