/* A connection that libcurl opens and over which the caller speaks its own protocol. */
#define CURL_DISABLE_TYPECHECK
#include "net/exchange.h"

#include "base/check.h"
#include "base/clock.h"

#include <poll.h>
#include <stdlib.h>

#define set(curl, handle, option, value) (curl)->curl_easy_setopt((handle), (option), (value))

struct net_wire {
    struct exchange x;
    struct buf head;
    int fd; /* libcurl's */
};

void net_wire_free(struct net_wire *wire)
{
    if (!wire)
        return;
    if (wire->x.handle)
        wire->x.curl->curl_easy_cleanup(wire->x.handle);
    buf_done(&wire->head);
    free(wire);
}

static int connect_it(struct net_wire *wire, const char *url, int connect_ms, struct err *err)
{
    struct exchange *x = &wire->x;
    curl_socket_t fd = CURL_SOCKET_BAD;
    exchange_set(x, "GET", url);
    set(x->curl, x->handle, CURLOPT_CONNECT_ONLY, 1L);
    set(x->curl, x->handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    set(x->curl, x->handle, CURLOPT_CONNECTTIMEOUT_MS,
        (long)(connect_ms ? connect_ms : EXCHANGE_CONNECT_MS));
    CURLcode code = x->curl->curl_easy_perform(x->handle);
    if (code == CURLE_OK)
        code = x->curl->curl_easy_getinfo(x->handle, CURLINFO_ACTIVESOCKET, &fd);
    if (code != CURLE_OK)
        return exchange_explain(x, code, url, err);
    wire->fd = fd;
    return fd == CURL_SOCKET_BAD ? err_set(err, ERR_UPSTREAM, "the connection is gone") : 0;
}

struct net_wire *net_wire_open(const char *url, int connect_ms, struct err *err)
{
    const struct curl_functions *curl = curl_load(err);
    if (!curl || exchange_check_url(url, err))
        return NULL;
    struct net_wire *wire = calloc(1, sizeof(*wire));
    CURL *handle = wire ? curl->curl_easy_init() : NULL;
    if (!handle) {
        err_sys(err, "libcurl");
        free(wire);
        return NULL;
    }
    buf_init(&wire->head, EXCHANGE_HEAD_MAX);
    wire->x = (struct exchange){
        .curl = curl, .handle = handle, .head = &wire->head, .reach = NET_TRUSTED};
    if (connect_it(wire, url, connect_ms, err) == 0)
        return wire;
    net_wire_free(wire);
    return NULL;
}

int net_wire_fd(const struct net_wire *wire)
{
    return wire->fd;
}

int net_wire_read(struct net_wire *wire, char *to, size_t size, size_t *ret_len, struct err *err)
{
    size_t len = 0;
    CURLcode code = wire->x.curl->curl_easy_recv(wire->x.handle, to, size, &len);
    *ret_len = 0;
    if (code == CURLE_AGAIN)
        return 0;
    if (code != CURLE_OK || len == 0)
        return err_set(err, ERR_UPSTREAM, "the connection has ended");
    *ret_len = len;
    return 1;
}

int net_wire_write(struct net_wire *wire, const char *data, size_t len, int timeout_ms,
                   struct err *err)
{
    REQUIRE(wire && (data || len == 0));
    int64_t until = clock_mono_ms() + timeout_ms;
    while (len > 0) {
        size_t sent = 0;
        CURLcode code = wire->x.curl->curl_easy_send(wire->x.handle, data, len, &sent);
        data += sent;
        len -= sent;
        if (code != CURLE_OK && code != CURLE_AGAIN)
            return err_set(err, ERR_UPSTREAM, "the connection has ended");
        if (clock_mono_ms() > until)
            return err_set(err, ERR_TIMEOUT, "the connection takes nothing more");
        struct pollfd wait = {.fd = wire->fd, .events = POLLOUT};
        if (code == CURLE_AGAIN)
            poll(&wait, 1, 100);
    }
    return 0;
}
