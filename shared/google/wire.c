#include "google/wire.h"

#include "google/limits.h"

#include <string.h>

#define CALL_BUFFER 16384
#define DOWNLOAD_BUFFER                                                     \
    65536 /* small enough that the bytes are still in the nearest cache for \
           * their checksum */

/* What the callbacks of one try share. */
struct passing {
    const struct wire *wire;
    struct wire_answer *answer;
    const char *body;
    size_t body_left;
    bool through; /* the answer's body is passed on */
    bool cut;     /* enough of an error's body has arrived */
    bool too_large;
};

void wire_answer_done(struct wire_answer *answer)
{
    buf_done(&answer->head);
    buf_done(&answer->body);
}

static ssize_t on_read(char *to, size_t size, void *arg)
{
    struct passing *passing = arg;
    if (!passing->body)
        return passing->wire->read(to, size, passing->wire->arg);
    size_t n = passing->body_left < size ? passing->body_left : size;
    memcpy(to, passing->body, n);
    passing->body += n;
    passing->body_left -= n;
    return (ssize_t)n;
}

static int on_head(int status, const struct buf *head, void *arg)
{
    struct passing *passing = arg;
    const struct wire *wire = passing->wire;
    passing->answer->status = status;
    passing->through = wire->write && (status == 200 || status == 206);
    passing->answer->body.max = status < 300 ? ANSWER_BYTES_MAX : ERROR_BYTES_MAX;
    if (buf_add(&passing->answer->head, buf_str(head), head->len))
        return -1;
    return passing->through && wire->head ? wire->head(status, head, wire->arg) : 0;
}

static int on_write(const char *data, size_t len, void *arg)
{
    struct passing *passing = arg;
    struct buf *body = &passing->answer->body;
    if (passing->through)
        return passing->wire->write(data, len, passing->wire->arg);
    if (len <= body->max - body->len)
        return buf_add(body, data, len);
    passing->cut = passing->answer->status >= 300;
    passing->too_large = !passing->cut;
    return -1;
}

static bool on_stop(void *arg)
{
    const struct wire *wire = ((struct passing *)arg)->wire;
    return wire->stop && wire->stop(wire->stop_arg);
}

static int make_headers(const struct google *google, const struct wire *wire, const char *token,
                        struct strlist *headers, struct err *err)
{
    if (!wire->bare)
        strlist_addf(headers, "Authorization: Bearer %s", token);
    if (google->identity->quota_project)
        strlist_addf(headers, "X-Goog-User-Project: %s", google->identity->quota_project);
    if (!wire->write)
        strlist_add(headers, "Accept: application/json");
    for (size_t i = 0; wire->headers && i < wire->headers->count; i++)
        strlist_add(headers, wire->headers->items[i]);
    return headers->failed ? err_set(err, ERR_TOO_LARGE, "headers") : 0;
}

static int relay(struct google *google, const struct wire *wire, const char *token,
                 struct passing *passing, struct err *err)
{
    AUTO(buf) struct buf url = BUF_INIT(65536);
    struct strlist headers = STRLIST_INIT;
    int to = (int)wire->api * 2 + wire->media;
    struct net_link *link = links_take(&google->links, to);
    buf_addf(&url, "%s%s", wire->base ? wire->base : google->endpoints[wire->api], wire->path);
    int rc = link ? buf_check(&url, "the URL", err) : err_set(err, ERR_INTERNAL, "no libcurl");
    if (rc == 0)
        rc = make_headers(google, wire, token, &headers, err);
    const struct net_relay relay = {.method = wire->method,
                                    .url = buf_str(&url),
                                    .headers = &headers,
                                    .body_len = wire->body_len,
                                    .connect_ms = CONNECT_MS,
                                    .silence_ms = wire->silence_ms,
                                    .total_ms = wire->total_ms,
                                    .buffer = !wire->media  ? CALL_BUFFER
                                              : wire->write ? DOWNLOAD_BUFFER
                                                            : 0,
                                    .http2 = !wire->media,
                                    .fresh = wire->once,
                                    .ret_sent = &passing->answer->sent,
                                    .arg = passing,
                                    .read = on_read,
                                    .head = on_head,
                                    .write = on_write,
                                    .stop = on_stop};
    if (rc == 0)
        rc = net_relay(link, &relay, err);
    strlist_wipe(&headers);
    if (rc == 0)
        links_put(&google->links, to, link);
    else
        net_link_free(link);
    return rc;
}

/* Hides our token in a body that repeats it, so that it cannot get into a message. */
static void hide(struct buf *body, const char *token)
{
    size_t len = strlen(token);
    char *at = body->data;
    while (at && (at = memmem(at, (size_t)(body->data + body->len - at), token, len)))
        memset(at, '*', len);
}

static int explain(const struct wire *wire, const struct passing *passing, struct err *err)
{
    if (passing->too_large)
        return err_set(err, ERR_TOO_LARGE, "%s: the answer is larger than %u bytes",
                       wire_title(wire->api), ANSWER_BYTES_MAX);
    return err_wrap(err, "%s", wire_title(wire->api));
}

int wire_ask(struct google *google, const struct wire *wire, struct wire_answer *answer,
             struct err *err)
{
    AUTO(buf_wipe) struct buf token = BUF_INIT(TOKEN_BYTES_MAX);
    struct passing passing = {.wire = wire,
                              .answer = answer,
                              .body = wire->body   ? wire->body
                                      : wire->read ? NULL
                                                   : "",
                              .body_left = wire->body ? (size_t)wire->body_len : 0};
    wire_answer_done(answer);
    *answer = (struct wire_answer){.head = BUF_INIT(ERROR_BYTES_MAX), .body = BUF_INIT(0)};
    answer->no_token = identity_token(google->identity, &token, err) != 0;
    if (answer->no_token)
        return -1;
    int rc = relay(google, wire, buf_str(&token), &passing, err);
    if (rc && answer->status >= 300 &&
        !on_stop(&passing)) /* The rest of an error's body matters less. */
        rc = 0;
    if (answer->status == 401)
        identity_drop(google->identity, buf_str(&token));
    if (answer->status >= 300)
        hide(&answer->body, buf_str(&token));
    return rc ? explain(wire, &passing, err) : 0;
}

/* --- again? --------------------------------------------------------------------------------- */

static bool may_pass(int status)
{
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
           status == 504;
}

/* There was no answer. True when the connection failed and not this side. */
static bool is_way_lost(const struct err *err)
{
    return err->code == ERR_UPSTREAM || err->code == ERR_TIMEOUT || err->code == ERR_RATE;
}

bool tries_again(struct tries *tries, int rc, const struct wire_answer *answer,
                 const struct err *err)
{
    bool refused = rc == 0 && answer->status < 500 && answer->status != 408;
    tries->unsure |= answer->sent && !refused;
    if (answer->no_token || retry_is_stopped(&tries->retry))
        return false;
    if (rc == 0 && answer->status == 401 && !tries->renewed)
        return tries->renewed = true;
    if (rc ? !is_way_lost(err) : !may_pass(answer->status))
        return false;
    if (tries->kind == GOOGLE_ONCE && answer->sent && (rc || answer->status != 429))
        return false;
    if (tries->most > 0 && tries->retry.tries + 1 >= tries->most)
        return false;
    return retry_pause(&tries->retry, rc ? -1 : retry_after(&answer->head));
}

int wire_call(struct google *google, const struct wire *wire, struct tries *tries,
              struct wire_answer *answer, struct google_answer *ret_answer, struct err *err)
{
    struct wire one = *wire;
    int rc;
    one.stop = tries->retry.stop;
    one.stop_arg = tries->retry.arg;
    do {
        one.total_ms = (int)retry_left_ms(&tries->retry) + 1;
        rc = wire_ask(google, &one, answer, err);
        if (rc == 0 && answer->status >= 200 && answer->status < 300)
            return 0;
    } while (tries_again(tries, rc, answer, err));
    if (rc == 0)
        answer_fail(wire->api, answer, ret_answer, err);
    else if (ret_answer)
        *ret_answer = (struct google_answer){.retry_after_ms = -1};
    if (ret_answer)
        ret_answer->unsure = tries->unsure;
    return -1;
}
