/* Connections that another protocol has taken over: what a stream has besides its pieces. */
#include "base/auto.h"
#include "http/parked.h"
#include "http/reply.h"
#include "http/request.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define READS_AT_ONCE 4 /* reads in one turn, so that other connections get theirs */

/* True when one of the headers of that name lists the token. */
static bool lists(const struct head *head, const char *name, const char *token)
{
    for (size_t i = 0; i < head->field_count; i++)
        if (strcasecmp(head->fields[i].name, name) == 0 &&
            head_has_token(head->fields[i].value, token))
            return true;
    return false;
}

bool http_wants_upgrade(const struct http_request *req, const char *protocol)
{
    bool has_body = req->head.chunked || req->head.length > 0;
    return strcmp(req->head.method, "GET") == 0 && req->head.minor == 1 && !has_body &&
           lists(&req->head, "Connection", "upgrade") && lists(&req->head, "Upgrade", protocol);
}

void upgrade_add_head(struct http_parked *parked)
{
    struct http_request *req = parked->req;
    struct buf *out = &parked->out.lead;
    http_request_announce(req, 101);
    if (!buf_ok(&req->added))
        out->failed = true;
    buf_addf(out,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n"
             "X-Request-ID: %s\r\n%s%s\r\n",
             parked->stream.protocol, req->id, buf_str(&req->added),
             parked->answer.headers ? parked->answer.headers : "");
}

bool upgrade_listens(const struct http_parked *parked)
{
    return !parked->paused && !parked->received_end;
}

/* Passes bytes to the other protocol; no bytes mean the client's end. False when the connection is
 * over. */
static bool give(struct http_parked *parked, const char *data, size_t len)
{
    parked->received_end = len == 0;
    switch (parked->stream.receive(data, len, parked->stream.arg)) {
    case HTTP_RECEIVE_MORE:
        return true;
    case HTTP_RECEIVE_PAUSE:
        parked->paused = true;
        return true;
    case HTTP_RECEIVE_BROKEN:
        break;
    }
    parked_end(parked, 0);
    return false;
}

static bool give_early(struct http_parked *parked)
{
    const struct buf *raw = &parked->req->raw;
    size_t len = parked->early;
    parked->early = 0;
    return len == 0 || give(parked, raw->data + raw->len - len, len);
}

bool upgrade_receive(struct http_parked *parked)
{
    char data[16384];
    if (!give_early(parked))
        return false;
    for (int i = 0; i < READS_AT_ONCE && upgrade_listens(parked); i++) {
        ssize_t n = recv(parked->fd, data, sizeof(data), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n < 0) {
            parked_end(parked, 0);
            return false;
        }
        if (!give(parked, data, (size_t)n))
            return false;
    }
    return true;
}

bool upgrade_look_at_resume(struct http_parked *parked)
{
    if (!atomic_exchange(&parked->resumed, false) || !parked->paused)
        return true;
    parked->paused = false;
    return upgrade_receive(parked);
}

struct http_parked *http_upgrade(struct http_request *req, const struct http_stream_config *config,
                                 struct err *err)
{
    struct http_stream_config upgrade = *config;
    if (!config->receive || !config->protocol || !http_wants_upgrade(req, config->protocol)) {
        err_set(err, ERR_INTERNAL, "the request does not ask for the upgrade that it gets");
        return NULL;
    }
    if (guard_has_cut(req->server->guard, req->conn)) { /* It would read as the client's end. */
        err_set(err, ERR_BUSY, "the connection was cut off, because workers are short");
        return NULL;
    }
    upgrade.status = 101;
    upgrade.type = NULL;
    /* Bytes that came after the head: the request takes them along. */
    size_t early = req->conn->input.len - req->head_size;
    return stream_enter(req, &upgrade, early, err);
}

void http_stream_resume(struct http_parked *stream)
{
    if (!atomic_exchange(&stream->resumed, true))
        park_put_in(stream);
}
