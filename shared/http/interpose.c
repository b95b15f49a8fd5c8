/* The headers' fortified inline recv() and poll() must not stand in for the ones defined here. */
#undef _FORTIFY_SOURCE

#include "http/interpose.h"

#include "base/auto.h"
#include "http/guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int accept(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len)
{
    struct sockaddr_storage peer = {0};
    socklen_t peer_len = sizeof(peer);
    int client = accept4(fd, (struct sockaddr *)&peer, &peer_len, SOCK_CLOEXEC);
    if (client < 0) {
        if (errno == EMFILE || errno == ENFILE)
            guard_starved(fd);
        return -1;
    }
    if (addr.__sockaddr__ && len) {
        memcpy(addr.__sockaddr__, &peer, *len < peer_len ? *len : peer_len);
        *len = peer_len;
    }
    if (guard_accepted(fd, client, (struct sockaddr *)&peer) < 0) {
        close(client);
        errno = ENOMEM;
        return -1;
    }
    return client;
}

#if !defined(__clang__) /* gcc takes <poll.h> by its word that poll only writes *fds */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct timespec wait = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    if (count == 1 && !guard_may_wait(fds[0].fd)) {
        fds[0].revents = POLLIN; /* recv() will say that this is the end */
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
