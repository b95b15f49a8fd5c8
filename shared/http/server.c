/* Starting and stopping a server, and the moments at which CivetWeb calls us. How connections get
 * to it is described in interpose.h. */
#include "http/request.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "http/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUE_MAX "1024" /* connections that wait for a worker */
#define START_MS 10000
#define UNIX_MODE 0660
#define HEAD_MAX_TEXT "16384"
_Static_assert(HEAD_MAX == 16384, "CivetWeb's buffer and the copy of it are of one size");

static struct http_server *server_of(const struct mg_connection *mg)
{
    return mg_get_user_data(mg_get_context(mg));
}

static int on_connection(const struct mg_connection *mg, void **conn_data)
{
    (void)conn_data;
    guard_take(server_of(mg)->guard);
    return 0;
}

static int on_request(struct mg_connection *mg)
{
    struct conn *conn = guard_here();
    if (conn)
        serve_request(server_of(mg), conn, mg);
    return 200; /* Tells CivetWeb that we have answered; the number is not used. */
}

/* CivetWeb gave up on a head. In some places it is stricter than this server (a tab in a value);
 * where this server is stricter, the answer says what is wrong. */
static int on_refusal(struct mg_connection *mg, int status, const char *message)
{
    struct conn *conn = guard_here();
    (void)status;
    (void)message;
    if (conn)
        serve_refused(server_of(mg), conn);
    return 0;
}

/* The last moment before the socket closes. A target in absolute form or "*" arrives here without
 * any other callback. */
static void on_close(const struct mg_connection *mg)
{
    struct http_server *server = server_of(mg);
    struct conn *conn = guard_here();
    if (conn) {
        if (head_size(conn->input.data, conn->input.len) > 0)
            serve_refused(server, conn);
    } else {
        const struct mg_request_info *info = mg_get_request_info(mg);
        conn = info ? guard_untouched(server->guard, interpose_tag(info->remote_addr)) : NULL;
    }
    if (conn)
        guard_forget(server->guard, conn);
}

static void on_closed(const struct mg_connection *mg)
{
    guard_drop(server_of(mg)->guard);
}

static void on_thread_end(const struct mg_context *ctx, int type, void *pointer)
{
    (void)ctx;
    (void)type;
    (void)pointer;
    serve_thread_ends();
}

/* While it starts, its first complaint is the cause; later ones only repeat that it failed. */
static int on_message(const struct mg_connection *mg, const char *message)
{
    struct http_server *server = server_of(mg);
    if (!server)
        return 1;
    if (atomic_load(&server->started)) {
        if (server->config.trouble)
            server->config.trouble(message, server->config.arg);
    } else if (!server->start_message[0]) {
        snprintf(server->start_message, sizeof(server->start_message), "%s", message);
    }
    return 1;
}

/* Each thread's first call. Type 0 is the one that accepts. */
static void *on_thread(const struct mg_context *ctx, int type)
{
    struct http_server *server = mg_get_user_data(ctx);
    if (type == 0)
        interpose_accept_for(&server->acceptor);
    return NULL;
}

/* The guard keeps the time limits; CivetWeb's are only a second line. There is no document root, so
 * neither files nor CGI nor directories; and no CORS answer of CivetWeb's own. */
static struct mg_context *run_civetweb(struct http_server *server, struct mg_error_data *error)
{
    static const struct mg_callbacks callbacks = {
        .begin_request = on_request,
        .log_message = on_message,
        .connection_close = on_close,
        .connection_closed = on_closed,
        .http_error = on_refusal,
        .init_thread = on_thread,
        .exit_thread = on_thread_end,
        .init_connection = on_connection,
    };
    const struct http_config *config = &server->config;
    char threads[16], head_ms[16], idle_ms[16];
    snprintf(threads, sizeof(threads), "%d", config->workers);
    snprintf(head_ms, sizeof(head_ms), "%d", config->head_ms + 2000);
    snprintf(idle_ms, sizeof(idle_ms), "%d", config->idle_ms + config->head_ms + 2000);
    const char *options[][2] = {
        {"listening_ports", "127.0.0.1:0"}, /* it never listens there: interpose.h */
        {"num_threads", threads},
        {"request_timeout_ms", head_ms},
        {"keep_alive_timeout_ms", idle_ms},
        {"enable_keep_alive", "yes"},
        {"connection_queue", QUEUE_MAX},
        {"max_request_size", HEAD_MAX_TEXT},
        {"decode_url", "no"},
        {"enable_auth_domain_check", "no"},
        {"access_control_allow_origin", ""},
        {"enable_directory_listing", "no"},
        {NULL, NULL},
    };
    struct mg_init_data init = {&callbacks, server, options[0]};
    interpose_start(true);
    struct mg_context *ctx = mg_start2(&init, error);
    interpose_start(false);
    return ctx;
}

static int start_civetweb(struct http_server *server, struct err *err)
{
    char text[128] = "";
    struct mg_error_data error = {.text = text, .text_buffer_size = sizeof(text)};
    server->acceptor = (struct acceptor){server->listener, server->guard};
    server->civetweb = run_civetweb(server, &error);
    if (!server->civetweb)
        return err_set(err, ERR_INTERNAL, "cannot start the HTTP server: %s",
                       server->start_message[0] ? server->start_message : text);
    if (listen_await_use(server->listener, START_MS) < 0)
        return err_set(err, ERR_INTERNAL,
                       "this CivetWeb (%s) does not ask for connections as it should",
                       mg_version());
    atomic_store(&server->started, true);
    return 0;
}

static int check_config(const struct http_config *config, struct err *err)
{
    if (config->port < 0 || config->port > 65535)
        return err_set(err, ERR_CONFIG, "%d is not a port", config->port);
    if (config->workers < 1 || config->workers > 10000)
        return err_set(err, ERR_CONFIG, "%d is not a number of workers", config->workers);
    return 0;
}

struct http_server *http_start(const struct http_config *config, struct err *err)
{
    if (check_config(config, err) < 0 || interpose_check(err) < 0)
        return NULL;
    struct http_server *server = calloc(1, sizeof(*server));
    if (!server) {
        err_set(err, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    struct guard_config guard = {config->workers, config->head_ms, config->idle_ms};
    mg_init_library(0);
    server->config = *config;
    struct listen_config places = {config->bind, config->port,
                                   config->unix_mode ? config->unix_mode : UNIX_MODE};
    server->dummy = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->dummy < 0)
        err_sys(err, "opening a socket");
    else if ((server->listener = listen_open(&places, err)) &&
             (server->guard = guard_new(&guard, err)) &&
             (server->park = park_new(config->parked_max, "http-park", "waiting requests", err)) &&
             (server->streams =
                  park_new(config->streams_max, "http-streams", "open streams", err)) &&
             start_civetweb(server, err) == 0)
        return server;
    http_stop(server, 0);
    return NULL;
}

int http_port(const struct http_server *server)
{
    return listen_port(server->listener);
}

bool http_place(const struct http_server *server, size_t index, char *text, size_t size)
{
    char address[PLACE_TEXT_MAX];
    const struct sockaddr_storage *place = listen_address(server->listener, index);
    if (!place)
        return false;
    place_format(place, address);
    snprintf(text, size, "%s%s", place->ss_family == AF_UNIX ? "" : "http://", address);
    return true;
}

void http_stop(struct http_server *server, int linger_ms)
{
    if (!server)
        return;
    atomic_store(&server->stopping, true);
    if (server->listener)
        listen_stop(server->listener); /* wakes CivetWeb's accepting thread */
    if (server->guard)
        guard_drain(server->guard); /* wakes the workers that wait for bytes */
    mg_stop(server->civetweb);
    if (server->listener)
        listen_shut(server->listener); /* A stream that ends now closes its connection. */
    guard_free(server->guard);
    int64_t began_ms = clock_mono_ms();
    park_stop(server->streams, linger_ms);
    int64_t left_ms = linger_ms - (clock_mono_ms() - began_ms);
    park_stop(server->park, left_ms > 0 ? (int)left_ms : 0);
    listen_close(server->listener);
    mg_exit_library();
    fd_close(&server->dummy);
    free(server);
}

void http_stats(struct http_server *server, struct http_stats *ret_stats)
{
    *ret_stats = (struct http_stats){
        .workers = server->config.workers,
        .busy = guard_busy(server->guard),
        .parked = park_count(server->park),
        .streams = park_count(server->streams),
        .requests = atomic_load(&server->requests),
        .refused = atomic_load(&server->refused),
        .cut_off = guard_cut_count(server->guard),
    };
}
