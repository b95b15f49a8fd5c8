#include "http/request.h"

#include "base/clock.h"
#include "http/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *http_method(const struct http_request *req)
{
    return req->head.method;
}

const char *http_path(const struct http_request *req)
{
    return req->head.path;
}

const char *http_peer(const struct http_request *req)
{
    return req->peer;
}

enum http_peer_kind http_peer_kind(const struct http_request *req)
{
    return req->peer_kind;
}

bool http_peer_user(const struct http_request *req, uid_t *ret_uid)
{
    if (req->peer_kind != HTTP_PEER_UNIX || req->peer_uid == (uid_t)-1)
        return false;
    *ret_uid = req->peer_uid;
    return true;
}

/* Asks for the peer's user once per request. A process may drop its privileges while it is
 * connected, but the kernel reports the user it had when it connected, and that one counts. */
void http_request_name_peer(struct http_request *req, const struct conn *conn)
{
    char host[PLACE_TEXT_MAX];
    struct ucred cred = {.uid = (uid_t)-1};
    socklen_t len = sizeof(cred);
    bool is_unix = conn->peer.ss_family == AF_UNIX;
    req->peer_kind = is_unix                          ? HTTP_PEER_UNIX
                     : place_is_loopback(&conn->peer) ? HTTP_PEER_LOOPBACK
                                                      : HTTP_PEER_REMOTE;
    if (is_unix && getsockopt(conn->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        cred.uid = (uid_t)-1;
    req->peer_uid = cred.uid;
    place_format_host(&conn->peer, host);
    if (is_unix)
        snprintf(req->peer, sizeof(req->peer), "unix:%lld", (long long)(int)cred.uid);
    else
        snprintf(req->peer, sizeof(req->peer), "%.45s", host);
}

const char *http_id(const struct http_request *req)
{
    return req->id;
}

int64_t http_age_us(const struct http_request *req)
{
    return clock_mono_us() - req->start_us;
}

const char *http_header(const struct http_request *req, const char *name)
{
    return head_field(&req->head, name);
}

bool http_header_at(const struct http_request *req, size_t index, const char **ret_name,
                    const char **ret_value)
{
    if (index >= req->head.field_count)
        return false;
    *ret_name = req->head.fields[index].name;
    *ret_value = req->head.fields[index].value;
    return true;
}

const char *http_param(const struct http_request *req, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < req->match.param_count; i++)
        if (req->match.params[i].name_len == len &&
            memcmp(req->match.params[i].name, name, len) == 0)
            return req->match.params[i].value;
    return NULL;
}

const struct http_route *http_served_by(const struct http_request *req)
{
    return req->match.route;
}

const char *http_query(struct http_request *req, const char *name)
{
    for (size_t i = 0; i < req->head.query_count; i++)
        if (strcmp(req->head.query[i].name, name) == 0)
            return req->head.query[i].value;
    return NULL;
}

const char *http_query_name(struct http_request *req, size_t index)
{
    return index < req->head.query_count ? req->head.query[index].name : NULL;
}

bool http_accepts(const struct http_request *req, const char *type)
{
    return accept_takes(&req->head, type);
}

bool http_prefers(const struct http_request *req, const char *type)
{
    return accept_names(&req->head, type);
}

bool http_request_has_unread(const struct http_request *req)
{
    return !req->body_done && (req->head.chunked || req->head.length > (int64_t)req->body_buffered);
}

bool http_request_keeps(const struct http_request *req)
{
    return req->mg && req->head.keep_alive && !req->head.chunked && !http_request_has_unread(req) &&
           !req->conn->closing && !atomic_load(&req->conn->cut) &&
           !atomic_load(&req->server->stopping) && !guard_is_pressed(req->server->guard);
}

struct http_request *http_request_new(struct http_server *server)
{
    struct http_request *req = calloc(1, sizeof(*req));
    if (!req)
        return NULL;
    req->server = server;
    buf_init(&req->added, REQUEST_ADDED_MAX);
    buf_init(&req->piece, HTTP_PIECE_MAX);
    return req;
}

void http_request_free(struct http_request *req)
{
    if (!req)
        return;
    free(req->params);
    buf_done(&req->raw);
    buf_done(&req->added);
    buf_done(&req->piece);
    free(req);
}

void http_request_leave(struct http_request *req)
{
    struct conn *conn = req->conn;
    req->state = REQUEST_PARKED;
    req->raw = conn->input;
    buf_init(&conn->input, HEAD_MAX);
    conn->parked = true;
    req->conn = NULL;
    req->mg = NULL;
}

int http_request_detach(struct http_request *req)
{
    int fd = fcntl(req->conn->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (dup3(req->server->dummy, req->conn->fd, O_CLOEXEC) < 0) {
        int sys = errno;
        close(fd);
        errno = sys;
        return -1;
    }
    req->conn->closing = true;
    if (req->mg)
        mg_disable_connection_keep_alive(req->mg);
    return fd;
}

void http_request_announce(struct http_request *req, int status)
{
    const struct http_config *config = &req->server->config;
    if (!req->announced && config->answering)
        config->answering(req, status, config->arg);
    req->announced = true;
}

void http_request_end(struct http_request *req, int status)
{
    const struct http_config *config = &req->server->config;
    if (req->state == REQUEST_PARKED)
        http_request_announce(req, 0);
    if (config->done)
        config->done(req, status, http_age_us(req), config->arg);
    free(req->params);
    req->params = NULL;
    req->announced = false;
    buf_done(&req->raw);
    buf_clear(&req->added);
    req->added.failed = false;
    buf_done(&req->piece);
}
