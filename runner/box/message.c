#include "runner/box/message.h"

#include "base/check.h"
#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

union control {
    char room[CMSG_SPACE(sizeof(int) * BOX_FDS_MAX)];
    struct cmsghdr align;
};

int box_send(int sock, const void *text, size_t len, const int *fds, size_t fd_count)
{
    REQUIRE(fd_count == 0 || fds);
    union control control = {{0}};
    struct iovec part = {(void *)(uintptr_t)text, len};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    if (len > BOX_TEXT_MAX || fd_count > BOX_FDS_MAX) {
        errno = EMSGSIZE;
        return -1;
    }
    if (fd_count > 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        if (!head) {
            errno = EINVAL;
            return -1;
        }
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * fd_count);
    }
    ssize_t n;
    while ((n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0 && errno == EINTR)
        continue;
    return n == (ssize_t)len ? 0 : -1;
}

static void take_fds(struct msghdr *msg, struct box_message *message)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(msg); head; head = CMSG_NXTHDR(msg, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(message->fds, CMSG_DATA(head), sizeof(int) * count);
        message->fd_count = count;
    }
}

int box_receive(int sock, struct box_message *message)
{
    REQUIRE(message->text);
    union control control;
    struct iovec part = {message->text, BOX_TEXT_MAX};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    ssize_t n;
    message->fd_count = 0;
    /* A reset is told once, before what the peer had said when it left without reading all. */
    while ((n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) < 0 &&
           (errno == EINTR || errno == ECONNRESET))
        continue;
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        return -1;
    take_fds(&msg, message);
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        box_close_fds(message);
        return -1;
    }
    message->len = (size_t)n;
    message->text[n] = '\0';
    return 1;
}

void box_close_fds(struct box_message *message)
{
    for (size_t i = 0; i < message->fd_count; i++)
        fd_close(&message->fds[i]);
    message->fd_count = 0;
}
