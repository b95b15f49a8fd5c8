#include "http/outbox.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

void outbox_init(struct outbox *out, size_t lead_max)
{
    *out = (struct outbox){.lead = BUF_INIT(lead_max)};
}

void outbox_done(struct outbox *out)
{
    buf_done(&out->lead);
    free(out->body);
    out->body = NULL;
    out->body_len = out->at = 0;
    out->tail = NULL;
}

static size_t total(const struct outbox *out)
{
    return out->lead.len + out->body_len + (out->tail ? strlen(out->tail) : 0);
}

bool outbox_is_empty(const struct outbox *out)
{
    return out->at == total(out);
}

/* The parts that are not yet sent. Returns their number. */
static int remaining(const struct outbox *out, struct iovec parts[3])
{
    const struct iovec all[3] = {
        {out->lead.data, out->lead.len},
        {out->body, out->body_len},
        {(void *)(uintptr_t)out->tail, out->tail ? strlen(out->tail) : 0},
    };
    size_t skip = out->at;
    int count = 0;
    for (int i = 0; i < 3; i++) {
        size_t gone = skip < all[i].iov_len ? skip : all[i].iov_len;
        skip -= gone;
        if (all[i].iov_len > gone)
            parts[count++] = (struct iovec){(char *)all[i].iov_base + gone, all[i].iov_len - gone};
    }
    return count;
}

enum outbox_state outbox_flush(struct outbox *out, int fd)
{
    struct iovec parts[3];
    if (!buf_ok(&out->lead))
        return OUTBOX_BROKEN;
    while (!outbox_is_empty(out)) {
        struct msghdr msg = {.msg_iov = parts, .msg_iovlen = (size_t)remaining(out, parts)};
        ssize_t n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? OUTBOX_STUCK : OUTBOX_BROKEN;
        out->at += (size_t)n;
    }
    outbox_done(out);
    return OUTBOX_EMPTY;
}
