#include "base/fd.h"
#include "runner/session/session_private.h"

#include <fcntl.h>
#include <string.h>

void spool_init(struct spool *spool)
{
    *spool = (struct spool){.fd = -1};
    buf_init(&spool->head, SPOOL_MEMORY);
}

void spool_done(struct spool *spool)
{
    buf_done(&spool->head);
    fd_close(&spool->fd);
}

void spool_add(struct spool *spool, const char *dir, const char *data, size_t len)
{
    if ((int64_t)len > OUTPUT_BYTES_MAX - spool->size) {
        len = (size_t)(OUTPUT_BYTES_MAX - spool->size);
        spool->truncated = true;
    }
    if (len == 0)
        return;
    if (spool->fd < 0 && spool->head.len + len <= SPOOL_MEMORY) {
        spool->truncated |= buf_add(&spool->head, data, len) != 0;
        spool->size = (int64_t)spool->head.len;
        return;
    }
    if (spool->fd < 0) {
        spool->fd = file_nameless(dir, 0);
        if (spool->fd < 0 || fd_write_all(spool->fd, spool->head.data, spool->head.len)) {
            spool->truncated = true;
            return;
        }
        buf_done(&spool->head);
        buf_init(&spool->head, SPOOL_MEMORY);
    }
    if (fd_pwrite_all(spool->fd, data, len, spool->size))
        spool->truncated = true;
    else
        spool->size += (int64_t)len;
}

size_t spool_read(const struct spool *spool, int64_t from, size_t max, struct buf *out)
{
    int64_t left = spool->size - from;
    size_t len = left <= 0 ? 0 : left < (int64_t)max ? (size_t)left : max;
    if (len == 0)
        return 0;
    if (spool->fd < 0)
        return buf_add(out, spool->head.data + from, len) ? 0 : len;
    char *to = buf_room(out, len);
    ssize_t n = to ? fd_pread_full(spool->fd, to, len, from) : 0;
    buf_grew(out, n > 0 ? (size_t)n : 0);
    return n > 0 ? (size_t)n : 0;
}
