#include "http/serve.h"

#include "base/auto.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

/* The request object of the calling worker; a parked request keeps its own. */
static _Thread_local struct http_request *spare;

void serve_thread_ends(void)
{
    http_request_free(spare);
    spare = NULL;
}

/* Takes the caller's id when it is harmless in headers, logs, JSON and URLs; else makes one. */
static void choose_id(struct http_request *req)
{
    const char *id = head_field(&req->head, "X-Request-ID");
    size_t len = id ? strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                 "0123456789._~:+/=@-")
                    : 0;
    if (len > 0 && len < ID_SIZE && id[len] == '\0')
        memcpy(req->id, id, len + 1);
    else
        id_new(req->id);
}

/* Copies parameter values, each with a NUL; the path stays whole. */
static int keep_params(struct http_request *req)
{
    struct route_match *match = &req->match;
    size_t size = 0;
    for (size_t i = 0; i < match->param_count; i++)
        size += match->params[i].value_len + 1;
    if (size == 0)
        return 0;
    char *to = req->params = malloc(size);
    if (!to)
        return -1;
    for (size_t i = 0; i < match->param_count; i++) {
        memcpy(to, match->params[i].value, match->params[i].value_len);
        match->params[i].value = to;
        to += match->params[i].value_len;
        *to++ = '\0';
    }
    return 0;
}

static void answer_unrouted(struct http_request *req)
{
    const struct http_config *config = &req->server->config;
    const char *pattern = req->match.pattern                 ? req->match.pattern->path
                          : strcmp(req->head.path, "*") == 0 ? "*"
                                                             : NULL;
    struct err err;
    if (!pattern) {
        err_set(&err, ERR_NOT_FOUND, "there is nothing at '%.150s'", req->head.path);
        http_send_error(req, &err, NULL);
        return;
    }
    AUTO(buf) struct buf allow = BUF_INIT(256);
    route_add_allow(config->routes, config->route_count, pattern, &allow);
    http_add_header(req, "Allow", buf_str(&allow));
    if (strcmp(req->head.method, "OPTIONS") == 0) {
        http_send(req, 204, NULL, NULL, 0);
        return;
    }
    err_set(&err, ERR_METHOD, "'%.150s' takes %s, not %s", req->head.path, buf_str(&allow),
            req->head.method);
    http_send_error(req, &err, NULL);
}

static void dispatch(struct http_request *req)
{
    const struct http_config *config = &req->server->config;
    struct conn *conn = req->conn;
    struct err err;
    route_find(config->routes, config->route_count, req->head.method, req->head.path, &req->match);
    unsigned takes = HTTP_ANY_BYTES | (req->head.odd_slash ? HTTP_FILE_PATH : 0);
    if (req->head.odd && !(req->match.route && req->match.route->flags & takes)) {
        err_set(&err, ERR_INVALID, "the path %s", req->head.odd);
        http_send_error(req, &err, NULL);
        return;
    }
    if (keep_params(req) < 0) {
        err_set(&err, ERR_INTERNAL, "out of memory");
        http_send_error(req, &err, NULL);
        return;
    }
    if (config->gate && !config->gate(req, req->match.route, config->arg))
        ; /* It has already answered. */
    else if (req->match.route)
        req->match.route->handle(req, config->arg);
    else
        answer_unrouted(req);
    if (conn->parked || req->state != REQUEST_OPEN)
        return; /* Tested first, because a parked request may already be freed. */
    if (config->trouble)
        config->trouble("a handler returned without an answer", config->arg);
    err_set(&err, ERR_INTERNAL, "the request was not answered");
    http_send_error(req, &err, NULL);
}

static void refuse(struct http_request *req, const struct err *err)
{
    atomic_fetch_add_explicit(&req->server->refused, 1, memory_order_relaxed);
    req->head.keep_alive = false;
    req->body_done = false;
    req->head.chunked = true; /* Unknown bytes may follow, so close the connection as if there were
                               * a body. */
    http_send_error(req, err, NULL);
}

/* Keeps the bytes after this request: they belong to the next one. */
static void go_on(struct conn *conn, size_t used)
{
    if (conn->closing) {
        buf_clear(&conn->input);
        return;
    }
    buf_drop(&conn->input, used);
    conn_enter(conn, conn->input.len > 0 ? CONN_HEAD : CONN_IDLE);
}

static struct http_request *open_request(struct http_server *server, struct conn *conn,
                                         struct mg_connection *mg)
{
    if (!spare)
        spare = http_request_new(server);
    struct http_request *req = spare;
    if (!req)
        return NULL;
    req->server = server;
    req->conn = conn;
    req->mg = mg;
    req->state = REQUEST_OPEN;
    req->status = 0;
    req->start_us = clock_mono_us();
    req->match.route = NULL;
    req->match.param_count = 0;
    req->body_done = false;
    req->body_taken = req->body_buffered = 0;
    req->body_read = 0;
    req->chunk = (struct chunk){0};
    buf_clear(&req->piece);
    http_request_name_peer(req, conn);
    atomic_fetch_add_explicit(&server->requests, 1, memory_order_relaxed);
    return req;
}

/* How many bytes of the body came together with the head. */
static size_t buffered(const struct http_request *req)
{
    size_t here = req->conn->input.len - req->head_size;
    return !req->head.chunked && (int64_t)here > req->head.length ? (size_t)req->head.length : here;
}

/* Parses, answers, reports. `size` is 0 when the head is not complete. Returns how many of the
 * received bytes belong to this request. */
static size_t serve(struct http_server *server, struct conn *conn, struct mg_connection *mg,
                    size_t size)
{
    struct err err;
    struct http_request *req = open_request(server, conn, mg);
    if (!req) {
        conn->closing = true;
        return size;
    }
    conn_enter(conn, CONN_BUSY);
    int rc = head_parse(conn->input.data, size, &req->head, &err);
    choose_id(req);
    req->head_size = size;
    if (size == 0 && atomic_load(&server->stopping))
        rc = err_set(&err, ERR_BUSY, "the server is stopping");
    else if (size == 0 && atomic_load(&conn->cut))
        rc = err_set(&err, ERR_SLOW, "the request head came too slowly");
    else if (size == 0)
        rc = head_unfinished(conn->input.data, conn->input.len, &err);
    else if (rc == 0)
        req->body_buffered = buffered(req);
    size_t used = size + req->body_buffered;
    if (rc < 0)
        refuse(req, &err);
    else
        dispatch(req);
    if (conn->parked)
        spare = NULL;
    else
        http_request_end(req, req->status);
    return used;
}

void serve_request(struct http_server *server, struct conn *conn, struct mg_connection *mg)
{
    if (conn->closing)
        return;
    size_t size = head_size(conn->input.data, conn->input.len);
    go_on(conn, serve(server, conn, mg, size));
}

void serve_refused(struct http_server *server, struct conn *conn)
{
    if (conn->closing || conn->input.len == 0)
        return;
    serve(server, conn, NULL, head_size(conn->input.data, conn->input.len));
    conn->closing = true;
    buf_clear(&conn->input);
}
