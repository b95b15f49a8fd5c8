/*
 * An answer out of a file: the kernel moves its pages to the socket.
 *
 * Theory of operation. The worker sends while the client reads as fast as it can be sent to: a wait
 * for room takes a moment then. At the first wait that takes longer, or at any wait while workers
 * are short, the rest becomes a stream of the park, which has the head behind it and a body of
 * known length (parked.h: `sized`):
 *
 *     worker: head, sendfile, wait, sendfile, wait ... ──(slow client)──▶ park: fill() for fill()
 *
 * So a slow client holds a descriptor of the file and one of the socket, and no thread. When the
 * park has no room for it, the worker goes on.
 */
#include "base/fd.h"
#include "http/parked.h"
#include "http/pieces.h"
#include "http/request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define SEND_BYTES (1u << 20)    /* in one call */
#define PIECE_BYTES (128u << 10) /* of the park, which has others to serve */
#define COPY_BYTES (128u << 10)  /* read at once from a file that cannot be sent by the kernel */
#define READY_MS 100             /* a client that takes longer is slow */

struct filed {
    int file; /* borrowed by the worker, owned by the park */
    int64_t at, left;
};

static enum http_fill fill(struct http_piece *piece, void *arg)
{
    struct filed *filed = arg;
    piece->file = filed->file;
    piece->file_at = filed->at;
    piece->file_len = filed->left < (int64_t)PIECE_BYTES ? (size_t)filed->left : PIECE_BYTES;
    filed->at += (int64_t)piece->file_len;
    filed->left -= (int64_t)piece->file_len;
    return filed->left > 0 ? HTTP_FILL_MORE : HTTP_FILL_END;
}

static void done(void *arg)
{
    struct filed *filed = arg;
    fd_close(&filed->file);
    free(filed);
}

/* Gives the rest to the park. -1 when that has no room: then nothing has changed. */
static int hand_over(struct http_request *req, const struct filed *filed)
{
    struct filed *rest = malloc(sizeof(*rest));
    if (!rest)
        return -1;
    *rest = *filed;
    rest->file = fcntl(filed->file, F_DUPFD_CLOEXEC, 0);
    const struct http_stream_config stream = {
        .stuck_ms = PIECES_STUCK_MS, .fill = fill, .done = done, .arg = rest};
    if (rest->file >= 0 && stream_take_over(req, &stream) == 0)
        return 0;
    done(rest);
    return -1;
}

/* Sends what the socket takes now. 0 at the file's end, -1 with errno. */
static ssize_t send_some(int fd, struct filed *filed)
{
    off_t from = (off_t)filed->at;
    size_t want = filed->left < (int64_t)SEND_BYTES ? (size_t)filed->left : SEND_BYTES;
    ssize_t n = sendfile(fd, filed->file, &from, want);
    if (n > 0) {
        filed->at += n;
        filed->left -= n;
    }
    return n;
}

/* Sends the rest of a file that the kernel cannot send by itself: its file system has no means. */
static void copy(struct http_request *req, struct filed *filed)
{
    char *piece = malloc(COPY_BYTES);
    while (piece && filed->left > 0) {
        size_t want = filed->left < (int64_t)COPY_BYTES ? (size_t)filed->left : COPY_BYTES;
        ssize_t n = fd_pread_full(filed->file, piece, want, filed->at);
        if (n <= 0 || http_write(req, piece, (size_t)n))
            break;
        filed->at += n;
        filed->left -= n;
    }
    free(piece);
}

/* Sends the body. False when the request is no longer the worker's. */
static bool send_body(struct http_request *req, struct filed *filed)
{
    int fd = req->conn->fd;
    while (filed->left > 0) {
        ssize_t n = send_some(fd, filed);
        if (n == 0) /* It has become shorter. */
            return true;
        if (n > 0 || errno == EINTR)
            continue;
        if (errno == EINVAL || errno == ENOSYS) {
            copy(req, filed);
            return true;
        }
        if (errno != EAGAIN) {
            pieces_lose_client(req);
            return true;
        }
        if (pieces_wait_for_room(fd, guard_is_pressed(req->server->guard) ? 0 : READY_MS) == 0)
            continue;
        if (hand_over(req, filed) == 0)
            return false;
        if (pieces_wait_for_room(fd, PIECES_STUCK_MS)) {
            pieces_lose_client(req);
            return true;
        }
    }
    return true;
}

void http_send_file(struct http_request *req, int status, const char *type, int file, int64_t from,
                    int64_t len)
{
    struct filed filed = {file, from, len};
    bool is_head = strcmp(req->head.method, "HEAD") == 0;
    if (pieces_begin(req, status, type, len, len > 0 && !is_head ? MSG_MORE : 0))
        return;
    if (is_head) /* who asks for terabytes so gets no byte of them */
        filed.left = 0;
    else if (len > 0)
        stream_settle_socket(req->conn->fd, PIECES_STUCK_MS);
    if (send_body(req, &filed))
        http_end(req, filed.left == 0);
}
