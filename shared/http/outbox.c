#include "http/outbox.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
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
    out->body_len = out->file_len = out->at = 0;
    out->tail = NULL;
}

/* The offset at which the file's part begins. */
static size_t before_file(const struct outbox *out)
{
    return out->lead.len + out->body_len;
}

static size_t total(const struct outbox *out)
{
    return before_file(out) + out->file_len + (out->tail ? strlen(out->tail) : 0);
}

bool outbox_is_empty(const struct outbox *out)
{
    return out->at == total(out);
}

/* Fills in the parts in memory that come next, up to the file's part. Returns their number. */
static int remaining(const struct outbox *out, struct iovec parts[3])
{
    bool whole = out->file_len == 0 || out->at >= before_file(out) + out->file_len;
    const struct iovec all[3] = {
        {out->lead.data, out->lead.len},
        {out->body, out->body_len},
        {(void *)(uintptr_t)out->tail, whole && out->tail ? strlen(out->tail) : 0},
    };
    size_t skip = out->at - (whole ? out->file_len : 0);
    int count = 0;
    for (int i = 0; i < 3; i++) {
        size_t gone = skip < all[i].iov_len ? skip : all[i].iov_len;
        skip -= gone;
        if (all[i].iov_len > gone)
            parts[count++] = (struct iovec){(char *)all[i].iov_base + gone, all[i].iov_len - gone};
    }
    return count;
}

static ssize_t send_memory(const struct outbox *out, int fd)
{
    struct iovec parts[3];
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = (size_t)remaining(out, parts)};
    int more = out->at < before_file(out) && out->file_len > 0 ? MSG_MORE : 0;
    return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL | more);
}

/* Sends from the file; the user of the outbox made the socket non-blocking. 0 when the file has
 * become shorter. */
static ssize_t send_from_file(const struct outbox *out, int fd)
{
    size_t gone = out->at - before_file(out);
    off_t from = out->file_at + (off_t)gone;
    return sendfile(fd, out->file, &from, out->file_len - gone);
}

enum outbox_state outbox_flush(struct outbox *out, int fd)
{
    if (!buf_ok(&out->lead))
        return OUTBOX_BROKEN;
    while (!outbox_is_empty(out)) {
        bool in_file = out->at >= before_file(out) && out->at < before_file(out) + out->file_len;
        ssize_t n = in_file ? send_from_file(out, fd) : send_memory(out, fd);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return OUTBOX_STUCK;
        if (n <= 0)
            return OUTBOX_BROKEN;
        out->at += (size_t)n;
    }
    outbox_done(out);
    return OUTBOX_EMPTY;
}
