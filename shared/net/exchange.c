#define CURL_DISABLE_TYPECHECK
#include "net/exchange.h"

#include "base/clock.h"
#include "net/address.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define GATHER_BYTES                                                          \
    65536 /* Pieces smaller than a quarter of this are gathered and passed on \
           * together. */
#define RELAY_BUFFER 131072L
#define CERT_DIR "/etc/ssl/certs"

/* curl_easy_setopt() through the table of functions, with a pointer or with a number. */
#define set(curl, handle, option, value) (curl)->curl_easy_setopt((handle), (option), (value))

/* --- callbacks ----------------------------------------------------------------------------- */

/* Sees the address of each connection before it is made: neither names nor redirects can avoid this
 * check. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct exchange *exchange = arg;
    (void)purpose;
    bool allowed = exchange->reach != NET_PUBLIC || address_is_public(&address->addr);
    if (exchange->plain && exchange->reach != NET_PLAIN)
        allowed = allowed && address_is_loopback(&address->addr);
    const struct net_request *call = exchange->call;
    if (!allowed && !(call && call->allow && call->allow(&address->addr, call->arg))) {
        exchange->blocked = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct exchange *exchange = arg;
    size_t len = size * count;
    exchange->head_over = len <= 2;
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
        buf_clear(exchange->head); /* Only the last answer counts: 100 Continue comes before it. */
    else if (len > 2 && buf_add(exchange->head, line, len))
        exchange->too_large = true;
    return exchange->too_large ? 0 : len;
}

int exchange_tell_head(struct exchange *exchange)
{
    long status = 0;
    if (exchange->told)
        return 0;
    exchange->told = true;
    exchange->curl->curl_easy_getinfo(exchange->handle, CURLINFO_RESPONSE_CODE, &status);
    return exchange->relay->head((int)status, exchange->head, exchange->relay->arg);
}

static int pass_on(struct exchange *exchange, const char *data, size_t len)
{
    if (exchange_tell_head(exchange) || exchange->relay->write(data, len, exchange->relay->arg))
        exchange->gave_up = true;
    exchange->moved_ms = clock_mono_ms(); /* A slow reader on our side does not count as silence. */
    return exchange->gave_up ? -1 : 0;
}

int exchange_pass_gathered(struct exchange *exchange)
{
    struct buf *gathered = &exchange->gathered;
    if (gathered->len == 0 || exchange->gave_up)
        return exchange->gave_up ? -1 : 0;
    int rc = pass_on(exchange, gathered->data, gathered->len);
    buf_clear(gathered);
    return rc;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct exchange *exchange = arg;
    size_t len = size * count;
    struct buf *gathered = &exchange->gathered;
    if (!exchange->relay) {
        struct buf *body = &exchange->answer->body;
        size_t room = body->max - body->len;
        bool cut = exchange->call->head_enough && len > room;
        exchange->too_large = buf_add(body, data, cut ? room : len) != 0;
        return exchange->too_large || cut ? 0 : len;
    }
    if (gathered->len + len > GATHER_BYTES && exchange_pass_gathered(exchange))
        return 0;
    if (len >= GATHER_BYTES / 4 && gathered->len == 0)
        return pass_on(exchange, data, len) ? 0 : len;
    if (buf_add(gathered, data, len) == 0)
        return len;
    exchange->gave_up = true;
    return 0;
}

static size_t on_read(char *to, size_t size, size_t count, void *arg)
{
    struct exchange *exchange = arg;
    size_t room = size * count;
    if (exchange->relay) {
        ssize_t n = exchange->relay->read(to, room, exchange->relay->arg);
        exchange->gave_up |= n < 0;
        exchange->moved_ms = clock_mono_ms();
        return n < 0 ? CURL_READFUNC_ABORT : (size_t)n;
    }
    size_t n = exchange->body_left < room ? exchange->body_left : room;
    memcpy(to, exchange->body, n);
    exchange->body += n;
    exchange->body_left -= n;
    return n;
}

/* True when nothing has moved for too long. libcurl's own limit is on the average speed, and would
 * end a stream of rare events. */
static bool is_silent(struct exchange *exchange, curl_off_t moved)
{
    int64_t now = clock_mono_ms();
    if (moved != exchange->moved) {
        exchange->moved = moved;
        exchange->moved_ms = now;
    }
    return exchange->relay->silence_ms > 0 &&
           now - exchange->moved_ms > exchange->relay->silence_ms;
}

/* libcurl calls this each time it has read what there was, and before it waits. */
static int on_progress(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
                       curl_off_t up)
{
    struct exchange *exchange = arg;
    (void)down_all, (void)up_all;
    if (exchange->call) {
        exchange->gave_up = exchange->call->stop(exchange->call->arg);
        return exchange->gave_up;
    }
    exchange_pass_gathered(exchange);
    if (exchange->relay->stop && exchange->relay->stop(exchange->relay->arg))
        exchange->gave_up = true;
    exchange->silent = is_silent(exchange, down + up);
    return exchange->gave_up || exchange->silent;
}

/* --- one exchange -------------------------------------------------------------------------- */

/* Copies host and port of a URL, without a password before them. */
static void host_of(const char *url, char *host, size_t size)
{
    const char *from = strstr(url, "://");
    from = from ? from + 3 : url;
    const char *end = from + strcspn(from, "/?#");
    const char *at = memrchr(from, '@', (size_t)(end - from));
    from = at ? at + 1 : from;
    snprintf(host, size, "%.*s", (int)(end - from), from);
}

int exchange_explain(const struct exchange *exchange, CURLcode code, const char *url,
                     struct err *err)
{
    char host[128];
    host_of(url, host, sizeof(host));
    if (exchange->gave_up)
        return err_set(err, ERR_INTERNAL, "given up");
    if (exchange->silent)
        return err_set(err, ERR_TIMEOUT, "'%s' has been silent for too long", host);
    if (exchange->blocked)
        return err_set(err, ERR_FORBIDDEN, "'%s' is at an address that may not be reached", host);
    if (exchange->too_large)
        return err_set(err, ERR_TOO_LARGE, "the answer of '%s' is too large", host);
    enum err_code mine = code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT
                         : code == CURLE_URL_MALFORMAT    ? ERR_INVALID
                                                          : ERR_UPSTREAM;
    return err_set(err, mine, "'%s': %s", host,
                   exchange->message[0] ? exchange->message
                                        : exchange->curl->curl_easy_strerror(code));
}

int exchange_headers(const struct curl_functions *curl, const struct strlist *headers,
                     struct curl_slist **ret_list, struct err *err)
{
    for (size_t i = 0; headers && i < headers->count; i++)
        if (strpbrk(headers->items[i], "\r\n"))
            return err_set(err, ERR_INVALID, "a header must be one line");
    struct curl_slist *list = curl->curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; list && headers && i < headers->count; i++) {
        struct curl_slist *longer = curl->curl_slist_append(list, headers->items[i]);
        if (!longer)
            curl->curl_slist_free_all(list);
        list = longer;
    }
    *ret_list = list;
    return list ? 0 : err_sys(err, "headers");
}

/* True when the system stores each certificate authority in a file named by its hash. */
static bool are_hashed(const char *dir)
{
    static const char *const hex = "0123456789abcdef";
    DIR *entries = opendir(dir);
    bool found = false;
    for (struct dirent *entry; entries && !found && (entry = readdir(entries));)
        found = strspn(entry->d_name, hex) == 8 && strcmp(entry->d_name + 8, ".0") == 0;
    if (entries)
        closedir(entries);
    return found;
}

static bool hashed;

static void look_for_hashed(void)
{
    hashed = are_hashed(CERT_DIR);
}

/* libcurl would read the whole bundle of authorities for every connection: 900 KB and 40 ms each
 * time. */
static void set_authorities(const struct curl_functions *curl, CURL *h)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *file = getenv("SSL_CERT_FILE"), *dir = getenv("SSL_CERT_DIR");
    pthread_once(&once, look_for_hashed);
    if (file || dir || hashed)
        set(curl, h, CURLOPT_CAINFO, file);
    if (dir || hashed)
        set(curl, h, CURLOPT_CAPATH, dir ? dir : CERT_DIR);
}

void exchange_set(struct exchange *x, const char *method, const char *url)
{
    const struct curl_functions *curl = x->curl;
    CURL *h = x->handle;
    x->plain = strncasecmp(url, "http://", 7) == 0;
    curl->curl_easy_reset(h);
    set(curl, h, CURLOPT_URL, url);
    set(curl, h, CURLOPT_CUSTOMREQUEST, method);
    set(curl, h, CURLOPT_PROTOCOLS_STR, "http,https");
    set(curl, h, CURLOPT_FOLLOWLOCATION, 0L);
    /* The owner's proxy (HTTPS_PROXY, NO_PROXY) is only for addresses that the owner configured:
     * for others it would hide the real address from open_socket(). */
    if (x->plain || x->reach == NET_PUBLIC)
        set(curl, h, CURLOPT_PROXY, "");
    set(curl, h, CURLOPT_NOSIGNAL, 1L);
    set(curl, h, CURLOPT_ERRORBUFFER, x->message);
    set(curl, h, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    set(curl, h, CURLOPT_OPENSOCKETDATA, x);
    set(curl, h, CURLOPT_HEADERFUNCTION, on_header);
    set(curl, h, CURLOPT_HEADERDATA, x);
    set(curl, h, CURLOPT_WRITEFUNCTION, on_body);
    set(curl, h, CURLOPT_WRITEDATA, x);
    set(curl, h, CURLOPT_READFUNCTION, on_read);
    set(curl, h, CURLOPT_READDATA, x);
    if (!x->plain)
        set_authorities(curl, h);
    if (strcmp(method, "HEAD") == 0)
        set(curl, h, CURLOPT_NOBODY, 1L);
}

void exchange_set_progress(struct exchange *x)
{
    set(x->curl, x->handle, CURLOPT_NOPROGRESS, 0L);
    set(x->curl, x->handle, CURLOPT_XFERINFOFUNCTION, on_progress);
    set(x->curl, x->handle, CURLOPT_XFERINFODATA, x);
}

/* A POST without a body sends Content-Length: 0, because servers answer 411 without it. */
void exchange_set_body(struct exchange *x, const char *method, int64_t len)
{
    if (len == 0 && strcmp(method, "POST") != 0 && strcmp(method, "PUT") != 0 &&
        strcmp(method, "PATCH") != 0)
        return;
    set(x->curl, x->handle, CURLOPT_UPLOAD, 1L);
    if (len >= 0)
        set(x->curl, x->handle, CURLOPT_INFILESIZE_LARGE, (curl_off_t)len);
}

void exchange_set_relay(struct exchange *x)
{
    const struct curl_functions *curl = x->curl;
    const struct net_relay *relay = x->relay;
    long buffer = relay->buffer ? relay->buffer : RELAY_BUFFER;
    exchange_set(x, relay->method, relay->url); /* keeps the connection */
    if (relay->body) {
        set(curl, x->handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)relay->body_len);
        set(curl, x->handle, CURLOPT_POSTFIELDS, relay->body);
    } else {
        exchange_set_body(x, relay->method, relay->body_len);
    }
    if (relay->proxy)
        set(curl, x->handle, CURLOPT_PROXY, relay->proxy);
    set(curl, x->handle, CURLOPT_BUFFERSIZE, buffer);
    set(curl, x->handle, CURLOPT_UPLOAD_BUFFERSIZE, buffer);
    set(curl, x->handle, CURLOPT_HTTP_VERSION,
        (long)(relay->http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    set(curl, x->handle, CURLOPT_FRESH_CONNECT, (long)relay->fresh);
    set(curl, x->handle, CURLOPT_TIMEOUT_MS, (long)relay->total_ms);
    set(curl, x->handle, CURLOPT_CONNECTTIMEOUT_MS,
        (long)(relay->connect_ms ? relay->connect_ms : EXCHANGE_CONNECT_MS));
    exchange_set_progress(x);
}

/* True when the last answer's status and its whole head have arrived. */
static bool is_answered(const struct exchange *x)
{
    long status = 0;
    x->curl->curl_easy_getinfo(x->handle, CURLINFO_RESPONSE_CODE, &status);
    return x->head_over && status >= 200;
}

int exchange_perform(struct exchange *x, const struct strlist *headers, const char *url,
                     struct err *err)
{
    struct curl_slist *list;
    if (exchange_headers(x->curl, headers, &list, err))
        return -1;
    set(x->curl, x->handle, CURLOPT_HTTPHEADER, list);
    CURLcode code = x->curl->curl_easy_perform(x->handle);
    x->curl->curl_slist_free_all(list);
    if (code == CURLE_OK && !x->head_over) /* libcurl accepts a head that was cut off as whole. */
        code = CURLE_PARTIAL_FILE;
    if (x->call && x->call->head_enough && !x->too_large && is_answered(x))
        code = CURLE_OK;
    return code == CURLE_OK ? 0 : exchange_explain(x, code, url, err);
}

int exchange_check_url(const char *url, struct err *err)
{
    size_t scheme = strncasecmp(url, "https://", 8) == 0  ? 8
                    : strncasecmp(url, "http://", 7) == 0 ? 7
                                                          : 0;
    if (scheme && url[scheme] && !strchr("/?#", url[scheme]))
        return 0;
    return err_set(err, ERR_INVALID, "only http and https URLs with a host can be called");
}
