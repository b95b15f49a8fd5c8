/* Passes on one request of a task's CLI. */
#include "base/check.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/str.h"
#include "runner/proxy/lease.h"
#include "runner/proxy/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TOKEN_BYTES_MAX 16384
#define SILENCE_MS (20 * 60000) /* The model may think for long; the API sends pings meanwhile. */
#define LOOK_EVERY_MS 250
#define LIMIT_RETRY_S 60        /* A Retry-After of at least this means the account's limit. */
#define UNNAMED_LIMIT_MS 300000 /* pause for a limit without a reset time */
/* With a login the CLI takes every 429 for the account's limit and gives up; this it tries again,
 * after Retry-After. With a key it tries a 429 again as well. */
#define OVERLOADED 529

void relay_refuse(struct http_request *req, int status, const char *type, const char *message)
{
    REQUIRE(status >= 400);
    AUTO(buf) struct buf body = BUF_INIT(4096);
    buf_addf(&body, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"", type);
    str_add_json(&body, message, strlen(message));
    buf_adds(&body, "\"}}");
    http_send(req, status, "application/json", buf_str(&body), body.len);
}

/* --- one request's state ------------------------------------------------------------------- */

struct relay {
    struct http_request *req;
    struct proxy *proxy;
    struct lease *lease;
    struct buf token; /* the credential that was sent with this request */
    struct strlist headers;
    struct reader reader;
    int64_t looked_ms; /* when the client's connection was last checked */
    bool began;        /* the client has received a head */
    int status;
};

/* True for headers that concern one connection only, or that the proxy sets itself. */
static bool is_dropped(const char *name)
{
    static const char *const dropped[] = {
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Host",
        "Content-Length",
        "Expect",
        "Authorization",
        "X-Api-Key",
        "Cookie",
        "Set-Cookie",
        "Accept-Encoding",
        "Date",
        "X-Forwarded-For",
        "Forwarded",
    };
    for (size_t i = 0; i < COUNT_OF(dropped); i++)
        if (strcasecmp(dropped[i], name) == 0)
            return true;
    return false;
}

/* True when this list, a Connection header's, names the header. */
static bool names(const char *connection, const char *name)
{
    size_t n = strlen(name);
    while (*connection) {
        connection += strspn(connection, " \t,");
        size_t len = strcspn(connection, " \t,");
        if (len == n && strncasecmp(connection, name, n) == 0)
            return true;
        connection += len;
    }
    return false;
}

/* True when one of the Connection headers names this one too. */
static bool is_hop_by_hop(const struct http_request *req, const char *name)
{
    const char *each, *value;
    for (size_t i = 0; http_header_at(req, i, &each, &value); i++)
        if (strcasecmp(each, "Connection") == 0 && names(value, name))
            return true;
    return false;
}

static void copy_request_headers(struct relay *relay)
{
    const char *name, *value;
    for (size_t i = 0; http_header_at(relay->req, i, &name, &value); i++)
        if (!is_dropped(name) && !is_hop_by_hop(relay->req, name))
            strlist_addf(&relay->headers, value[0] ? "%s: %s" : "%s;%s", name, value);
}

static int add_credential(struct relay *relay, struct err *err)
{
    const struct lease *lease = relay->lease;
    AUTO(config_ref) const struct config *config = config_ref(relay->proxy->config.config);
    const char *key = config->anthropic_api_key;
    int rc = 0;
    if (lease->secret)
        buf_adds(&relay->token, lease->secret);
    else if (lease->kind == LEASE_LOGIN)
        rc = keeper_token(relay->proxy->config.keeper, &relay->token, err);
    else if (key)
        buf_adds(&relay->token, key);
    else
        rc = err_set(err, ERR_LOGIN, "there is no API key any more");
    if (rc == 0)
        strlist_addf(&relay->headers,
                     lease->kind == LEASE_KEY ? "x-api-key: %s" : "Authorization: Bearer %s",
                     buf_str(&relay->token));
    return rc;
}

/* --- what the API says of the account ------------------------------------------------------ */

/* True when the lease uses the runner's own credential: then limits and refusals concern all
 * tasks. */
static bool is_shared(const struct lease *lease)
{
    return !lease->secret;
}

/* When a limit ends: the API gives seconds of Unix time, or a wait; 0 when it gives neither. */
static int64_t limit_end_ms(const struct buf *head)
{
    static const char *const resets[] = {"anthropic-ratelimit-unified-reset",
                                         "anthropic-ratelimit-unified-5h-reset",
                                         "anthropic-ratelimit-unified-7d-reset"};
    char value[64];
    int64_t seconds;
    for (size_t i = 0; i < COUNT_OF(resets); i++)
        if (net_header(head, resets[i], value, sizeof(value)) &&
            str_to_int(value, 1, INT64_C(100000000000), &seconds) == 0 &&
            seconds * 1000 > clock_real_ms())
            return seconds * 1000;
    if (net_header(head, "retry-after", value, sizeof(value)) &&
        str_to_int(value, LIMIT_RETRY_S, INT64_C(100000000), &seconds) == 0)
        return clock_real_ms() + seconds * 1000;
    return 0;
}

/* Handles a 429. True when it means that the account's limit is reached. */
static bool heed_limit(struct relay *relay, const struct buf *head)
{
    char status[32];
    int64_t end_ms = limit_end_ms(head);
    /* An answer to a momentary rate limit also has the windows and their ends; that is not the
     * account's limit. */
    bool told = net_header(head, "anthropic-ratelimit-unified-status", status, sizeof(status));
    if (told ? strcmp(status, "rejected") != 0 : end_ms == 0)
        return false;
    lock_take(&relay->lease->lock);
    relay->lease->use.limited = true;
    lock_drop(&relay->lease->lock);
    if (is_shared(relay->lease))
        breaker_limit(relay->proxy->config.breaker,
                      end_ms ? end_ms : clock_real_ms() + UNNAMED_LIMIT_MS);
    return true;
}

/* True for the first refusal in a row for the lease's requests. */
static bool note_refusal(struct lease *lease)
{
    lock_take(&lease->lock);
    bool first = !lease->use.refused;
    lease->use.refused = true;
    lock_drop(&lease->lock);
    return first;
}

/* Handles a refusal. A login is refreshed once; the CLI then repeats the request by itself and gets
 * the new token. A second refusal, or one of a key, is passed on: repeating would hold a slot for
 * minutes. */
static void heed_refusal(struct relay *relay)
{
    struct err err;
    struct lease *lease = relay->lease;
    const struct proxy_config *config = &relay->proxy->config;
    if (lease->kind == LEASE_LOGIN && !lease->retried &&
        keeper_refused(config->keeper, buf_str(&relay->token), &err) == 0) {
        lease->retried = true;
        return;
    }
    http_add_header(relay->req, "x-should-retry", "false");
    if (note_refusal(lease) && is_shared(lease))
        breaker_denied(config->breaker, lease->task);
}

static void heed_success(struct relay *relay)
{
    lock_take(&relay->lease->lock);
    relay->lease->use.answers++;
    relay->lease->use.refused = false;
    relay->lease->retried = false;
    lock_drop(&relay->lease->lock);
    if (relay->lease->kind == LEASE_LOGIN && is_shared(relay->lease))
        keeper_verified(relay->proxy->config.keeper, buf_str(&relay->token));
    if (is_shared(relay->lease))
        breaker_accepted(relay->proxy->config.breaker);
}

/* --- callbacks of the exchange ------------------------------------------------------------- */

static ssize_t on_read(char *to, size_t size, void *arg)
{
    struct relay *relay = arg;
    struct err ignored;
    return http_read(relay->req, to, size, &ignored);
}

/* Copies the next header line at *at; false past the last. A malformed line, or one that does not
 * fit, gives an empty name. */
static bool next_header(const char **at, char *name, size_t name_size, char *value,
                        size_t value_size)
{
    const char *line = *at, *end = strchr(line, '\n');
    end = end ? end : line + strlen(line);
    *at = *end ? end + 1 : end;
    const char *colon = memchr(line, ':', (size_t)(end - line));
    const char *from = colon ? colon + 1 : end;
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    while (end > from && (unsigned char)end[-1] <= ' ')
        end--;
    bool fits = colon && (size_t)(colon - line) < name_size && (size_t)(end - from) < value_size;
    snprintf(name, name_size, "%.*s", fits ? (int)(colon - line) : 0, line);
    snprintf(value, value_size, "%.*s", fits ? (int)(end - from) : 0, from);
    return *line != '\0';
}

static void copy_answer_headers(struct relay *relay, const struct buf *head)
{
    char name[128], value[4096], connection[1024] = "";
    net_header(head, "Connection", connection, sizeof(connection));
    const char *at = buf_str(head);
    while (next_header(&at, name, sizeof(name), value, sizeof(value)))
        if (*name && !is_dropped(name) && !names(connection, name) &&
            strcasecmp(name, "Content-Type") != 0)
            http_add_header(relay->req, name, value);
}

static int on_head(int status, const struct buf *head, void *arg)
{
    struct relay *relay = arg;
    char type[128];
    bool typed = net_header(head, "Content-Type", type, sizeof(type)) != NULL;
    relay->status = status;
    relay->began = true;
    if (is_shared(relay->lease))
        figures_read(relay->proxy, head);
    if (is_shared(relay->lease) && relay->lease->kind == LEASE_LOGIN)
        windows_read(relay->proxy, head);
    if (status == 429 && !heed_limit(relay, head) && relay->lease->kind != LEASE_KEY)
        status = OVERLOADED;
    else if (status == 401)
        heed_refusal(relay);
    else if (status == 200)
        heed_success(relay);
    reader_done(&relay->reader);
    reader_init(&relay->reader, typed ? type : NULL);
    copy_answer_headers(relay, head);
    return http_begin(relay->req, status, typed ? type : NULL);
}

static int on_write(const char *data, size_t len, void *arg)
{
    struct relay *relay = arg;
    reader_feed(&relay->reader, data, len);
    return http_write(relay->req, data, len);
}

/* Asked for every piece; the socket is only looked at when no piece has arrived for a while. */
static bool on_stop(void *arg)
{
    struct relay *relay = arg;
    int64_t now = clock_mono_ms();
    if (atomic_load(&relay->lease->dead))
        return true;
    if (now - relay->looked_ms < LOOK_EVERY_MS)
        return false;
    relay->looked_ms = now;
    return http_client_left(relay->req);
}

/* --- the exchange -------------------------------------------------------------------------- */

static struct net_link *take_link(struct proxy *proxy)
{
    struct net_link *link = NULL;
    lock_take(&proxy->lock);
    if (proxy->link_count > 0)
        link = proxy->links[--proxy->link_count];
    proxy->stats.requests++;
    proxy->stats.in_flight++;
    lock_drop(&proxy->lock);
    return link ? link : net_link_new();
}

static void give_link(struct relay *relay, struct net_link *link, bool usable)
{
    struct proxy *proxy = relay->proxy;
    const struct usage *usage = &relay->reader.usage;
    int class = relay->status / 100;
    bool unreached = !usable && !relay->began && !on_stop(relay);
    lock_take(&proxy->lock);
    proxy->unreached = unreached ? proxy->unreached + 1 : relay->began ? 0 : proxy->unreached;
    if (unreached)
        proxy->unreached_ms = clock_mono_ms();
    proxy->stats.in_flight--;
    proxy->stats.failed += !usable;
    proxy->stats.input_tokens += usage->input_tokens;
    proxy->stats.output_tokens += usage->output_tokens;
    if (class > 0 && class < 6)
        proxy->stats.answers_by_class[class]++;
    if (usable && link && proxy->link_count < LINKS_MAX) {
        proxy->links[proxy->link_count++] = link;
        link = NULL;
    }
    lock_drop(&proxy->lock);
    net_link_free(link);
}

static void count_usage(struct relay *relay)
{
    const struct usage *usage = &relay->reader.usage;
    struct lease_use *use = &relay->lease->use;
    reader_finish(&relay->reader);
    lock_take(&relay->lease->lock);
    use->requests++;
    use->input_tokens += usage->input_tokens;
    use->output_tokens += usage->output_tokens;
    use->cache_read_tokens += usage->cache_read_tokens;
    use->cache_creation_tokens += usage->cache_creation_tokens;
    lock_drop(&relay->lease->lock);
}

/* Prints the upstream's URL with this request's path and query. */
static void print_url(const struct relay *relay, struct buf *out)
{
    const char *name;
    AUTO(config_ref) const struct config *config = config_ref(relay->proxy->config.config);
    buf_adds(out, config->anthropic_upstream);
    str_add_url(out, http_path(relay->req), "/:@");
    for (size_t i = 0; (name = http_query_name(relay->req, i)); i++) {
        buf_addc(out, i == 0 ? '?' : '&');
        str_add_url(out, name, "");
        buf_addc(out, '=');
        str_add_url(out, http_query(relay->req, name), "");
    }
}

static void exchange(struct relay *relay)
{
    struct err err;
    AUTO(buf) struct buf url = BUF_INIT(65536);
    print_url(relay, &url);
    const struct net_relay net = {.method = http_method(relay->req),
                                  .url = buf_str(&url),
                                  .headers = &relay->headers,
                                  .body_len = http_body_length(relay->req),
                                  .silence_ms = SILENCE_MS,
                                  .arg = relay,
                                  .read = on_read,
                                  .head = on_head,
                                  .write = on_write,
                                  .stop = on_stop};
    if (!buf_ok(&url)) {
        relay_refuse(relay->req, 414, "invalid_request_error", "the address is too long");
        return;
    }
    struct net_link *link = take_link(relay->proxy);
    int rc = link ? net_relay(link, &net, &err) : err_set(&err, ERR_INTERNAL, "no link");
    count_usage(relay);
    give_link(relay, link, rc == 0);
    if (relay->began) {
        if (rc)
            log_info("proxy", "%s %s broke off: %s", net.method, http_path(relay->req), err.msg);
        http_end(relay->req, rc == 0);
    } else {
        log_warn("proxy", "%s %s: %s", net.method, http_path(relay->req), err.msg);
        relay_refuse(relay->req, 502, "api_error", "the runner could not connect to the API");
    }
}

static const char *token_of(const struct http_request *req)
{
    const char *key = http_header(req, "X-Api-Key");
    const char *authorization = http_header(req, "Authorization");
    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0)
        return authorization + 7;
    return key ? key : "";
}

void relay_request(struct http_request *req, void *arg)
{
    struct err err;
    struct relay relay = {.req = req, .proxy = arg};
    if (strcmp(http_path(req), "/") == 0) {
        http_send(req, 200, "text/plain", "", 0);
        return;
    }
    relay.lease = lease_find(relay.proxy, token_of(req));
    if (!relay.lease) {
        relay_refuse(req, 401, "authentication_error", "this token is not, or no longer, valid");
        return;
    }
    if (atomic_load(&relay.lease->refs) > LEASE_REQUESTS_MAX + 1) {
        http_add_header(req, "Retry-After", "1");
        relay_refuse(req, 429, "rate_limit_error", "too many requests of one task at once");
        lease_unref(relay.lease);
        return;
    }
    buf_init(&relay.token, TOKEN_BYTES_MAX);
    reader_init(&relay.reader, NULL);
    copy_request_headers(&relay);
    if (add_credential(&relay, &err))
        relay_refuse(req, 401, "authentication_error", err.msg);
    else if (relay.headers.failed || !buf_ok(&relay.token))
        relay_refuse(req, 500, "api_error", "the runner has no memory for this request");
    else
        exchange(&relay);
    reader_done(&relay.reader);
    buf_wipe(&relay.token);
    strlist_wipe(&relay.headers);
    lease_unref(relay.lease);
}
