/*
 * A session's terminal over a WebSocket: binary messages carry the pty's output and the input, text
 * messages are JSON (runner/docs/http.md describes them).
 */
#include "base/lock.h"
#include "base/str.h"
#include "runner/api/body_fields.h"
#include "runner/api/session_cloud.h"
#include "runner/session/session.h"
#include "websocket/websocket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (64u << 10) /* limit of a client's message */
#define OUT_MAX (128u << 10) /* limit of what waits to be sent, besides the terminal's output */
#define PIECE_BYTES (16u << 10)
#define STUCK_MS 60000
#define COLS 80
#define ROWS 24

struct terminal {
    struct pty_viewer *viewer;
    struct pty_state state;
    struct websocket_reader reader;
    struct buf out;  /* frames to send before the next output */
    struct buf pong; /* the answer to the last ping */
    int64_t replay;  /* bytes left of the earlier output; -1: its end was announced */
    bool pong_due, held;
    bool closing;    /* the client's messages are ignored from now on */
    int code;        /* the close frame's code */
    const char *why; /* static */
    bool client_gone;
    struct lock lock; /* guards the handle, through which the hub wakes the stream */
    struct http_parked *stream;
};

/* --- what is said -------------------------------------------------------------------------- */

static void say(struct terminal *terminal, const struct buf *json)
{
    websocket_add(&terminal->out, WEBSOCKET_TEXT, buf_str(json), json->len, NULL);
}

static void say_open(struct terminal *terminal, const char *session, const char *shell)
{
    struct json_writer w;
    AUTO(buf) struct buf json = BUF_INIT(4096);
    json_write(&w, &json);
    json_open_object(&w, NULL);
    json_add_text(&w, "type", "open");
    json_add_text(&w, "session", session);
    json_add_text(&w, "shell", shell);
    json_add_int(&w, "pid", terminal->state.pid);
    json_add_int(&w, "cols", terminal->state.cols);
    json_add_int(&w, "rows", terminal->state.rows);
    json_add_bool(&w, "fresh", terminal->state.fresh);
    json_add_int(&w, "replay", terminal->state.replay);
    json_close(&w);
    say(terminal, &json);
}

static void say_number(struct terminal *terminal, const char *type, const char *name, int64_t value)
{
    AUTO(buf) struct buf json = BUF_INIT(256);
    buf_addf(&json, "{\"type\":\"%s\",\"%s\":%lld}", type, name, (long long)value);
    say(terminal, &json);
}

static void say_size(struct terminal *terminal, int cols, int rows)
{
    AUTO(buf) struct buf json = BUF_INIT(256);
    buf_addf(&json, "{\"type\":\"resize\",\"cols\":%d,\"rows\":%d}", cols, rows);
    say(terminal, &json);
}

static void say_exit(struct terminal *terminal, const struct pty_news *news)
{
    AUTO(buf) struct buf json = BUF_INIT(256);
    if (news->lost)
        buf_adds(&json, "{\"type\":\"exit\",\"exitCode\":null,\"lost\":true}");
    else
        buf_addf(&json, "{\"type\":\"exit\",\"exitCode\":%d,\"lost\":false}", news->exit_code);
    say(terminal, &json);
}

static void say_error(struct terminal *terminal, const char *message)
{
    AUTO(buf) struct buf json = BUF_INIT(4096);
    buf_adds(&json, "{\"type\":\"error\",\"message\":\"");
    str_add_json(&json, message, strlen(message));
    buf_adds(&json, "\"}");
    say(terminal, &json);
}

/* --- what comes ---------------------------------------------------------------------------- */

static void type_in(struct terminal *terminal, const char *data, size_t len)
{
    while (len > 0) {
        size_t n = len < PTY_WRITE_MAX ? len : PTY_WRITE_MAX;
        terminal->held |= !pty_write(terminal->viewer, data, n);
        data += n;
        len -= n;
    }
}

static int read_size(const struct json *size, int *ret_cols, int *ret_rows)
{
    int64_t cols = 0, rows = 0;
    json_int(json_get(size, "cols"), &cols);
    json_int(json_get(size, "rows"), &rows);
    if (cols < 1 || cols > PTY_SIZE_MAX || rows < 1 || rows > PTY_SIZE_MAX)
        return -1;
    *ret_cols = (int)cols;
    *ret_rows = (int)rows;
    return 0;
}

/* Applies one member of a text message. */
static int obey(struct terminal *terminal, const struct json *member, struct err *err)
{
    int cols, rows;
    bool end = false;
    const char *name = json_name(member), *text = json_text(member);
    if (strcmp(name, "resize") == 0) {
        if (read_size(member, &cols, &rows))
            return err_set(err, ERR_INVALID, "resize takes cols and rows, 1..%d each",
                           PTY_SIZE_MAX);
        pty_resize(terminal->viewer, cols, rows);
    } else if (strcmp(name, "input") == 0) {
        if (!text)
            return err_set(err, ERR_INVALID, "input must be a string");
        type_in(terminal, text, strlen(text));
    } else if (strcmp(name, "end") == 0) {
        if (json_bool(member, &end))
            return err_set(err, ERR_INVALID, "end must be true or false");
        if (end)
            pty_hang_up(terminal->viewer);
    } else {
        return err_set(err, ERR_INVALID, "unknown member '%.60s': resize, input and end are known",
                       name);
    }
    return 0;
}

static void take_text(struct terminal *terminal, const char *text, size_t len)
{
    struct err err;
    AUTO(json) struct json *root = json_parse_within(text, len, 64, &err);
    int rc = root ? 0 : -1;
    if (root && json_type(root) != JSON_OBJECT)
        rc = err_set(&err, ERR_INVALID, "a text message must be an object");
    for (const struct json *at = rc ? NULL : json_first(root); at && rc == 0; at = json_next(at))
        rc = obey(terminal, at, &err);
    if (rc)
        say_error(terminal, err.msg);
}

static int take(enum websocket_kind kind, int code, const char *data, size_t len, void *arg)
{
    struct terminal *terminal = arg;
    switch (kind) {
    case WEBSOCKET_BINARY:
        type_in(terminal, data, len);
        break;
    case WEBSOCKET_TEXT:
        take_text(terminal, data, len);
        break;
    case WEBSOCKET_PING:
        buf_clear(&terminal->pong);
        buf_add(&terminal->pong, data, len);
        terminal->pong_due = true;
        break;
    case WEBSOCKET_CLOSE: /* Answer with the same code. */
        terminal->closing = true;
        terminal->code = code;
        break;
    case WEBSOCKET_PONG:
    case WEBSOCKET_CONTINUED:
        break;
    }
    return buf_ok(&terminal->out) ? 0 : WEBSOCKET_FAILED;
}

static const char *why(int code)
{
    switch (code) {
    case WEBSOCKET_NO_TEXT:
        return "text that is not UTF-8";
    case WEBSOCKET_TOO_LONG:
        return "a text message that is too long";
    case WEBSOCKET_FAILED:
        return "too much at once";
    default:
        return "against the protocol";
    }
}

static void wake(void *arg)
{
    struct terminal *terminal = arg;
    lock_take(&terminal->lock);
    if (terminal->stream)
        http_stream_wake(terminal->stream);
    lock_drop(&terminal->lock);
}

static void resume(void *arg)
{
    struct terminal *terminal = arg;
    lock_take(&terminal->lock);
    if (terminal->stream)
        http_stream_resume(terminal->stream);
    lock_drop(&terminal->lock);
}

static enum http_receive on_receive(const char *data, size_t len, void *arg)
{
    struct terminal *terminal = arg;
    if (len == 0)
        terminal->client_gone = true;
    terminal->held = false;
    int code = terminal->closing ? 0 : websocket_read(&terminal->reader, data, len, take, terminal);
    if (code) {
        terminal->closing = true;
        terminal->code = code;
        terminal->why = why(code);
    }
    wake(terminal);
    return terminal->held && !terminal->closing ? HTTP_RECEIVE_PAUSE : HTTP_RECEIVE_MORE;
}

/* --- what goes out ------------------------------------------------------------------------- */

static enum http_fill close_now(struct terminal *terminal, struct buf *out)
{
    if (terminal->client_gone)
        return HTTP_FILL_END;
    websocket_add_close(out, terminal->code, terminal->why ? terminal->why : "", NULL);
    return HTTP_FILL_END;
}

/* Announces the end of the earlier output: from now on a screen may answer questions of the
 * terminal. */
static void end_replay(struct terminal *terminal, size_t len)
{
    if (terminal->replay < 0 || (terminal->replay -= (int64_t)len) > 0)
        return;
    AUTO(buf) struct buf json = BUF_INIT(64);
    buf_adds(&json, "{\"type\":\"live\"}");
    say(terminal, &json);
    terminal->replay = -1;
}

static void flush(struct terminal *terminal, struct buf *out)
{
    if (terminal->pong_due)
        websocket_add(out, WEBSOCKET_PONG, buf_str(&terminal->pong), terminal->pong.len, NULL);
    terminal->pong_due = false;
    size_t room = HTTP_PIECE_BYTES - out->len;
    size_t n = terminal->out.len < room ? terminal->out.len : room;
    buf_add(out, buf_str(&terminal->out), n);
    buf_drop(&terminal->out, n);
}

static enum http_fill on_fill(struct http_piece *piece, void *arg)
{
    struct terminal *terminal = arg;
    struct pty_news news = {0};
    AUTO(buf) struct buf bytes = BUF_INIT(PIECE_BYTES + 1);
    flush(terminal, piece->bytes);
    if (terminal->out.len > 0)
        return HTTP_FILL_MORE;
    if (terminal->closing || terminal->client_gone)
        return close_now(terminal, piece->bytes);
    size_t max = terminal->replay > 0 && terminal->replay < PIECE_BYTES ? (size_t)terminal->replay
                                                                        : PIECE_BYTES;
    size_t len = pty_read(terminal->viewer, max, &bytes, &news);
    if (news.resized)
        say_size(terminal, news.cols, news.rows);
    if (news.skipped > 0)
        say_number(terminal, "skipped", "bytes", news.skipped);
    if (len > 0)
        websocket_add(&terminal->out, WEBSOCKET_BINARY, bytes.data, len, NULL);
    end_replay(terminal, len);
    if (news.over && !news.more) {
        say_exit(terminal, &news);
        terminal->closing = true;
        terminal->code = news.lost ? WEBSOCKET_GOING : WEBSOCKET_OK;
    }
    flush(terminal, piece->bytes);
    return news.more || terminal->closing || terminal->out.len > 0 ? HTTP_FILL_MORE
                                                                   : HTTP_FILL_WAIT;
}

static void on_done(void *arg)
{
    struct terminal *terminal = arg;
    lock_take(&terminal->lock); /* Wait until the code that started the stream is done with it. */
    terminal->stream = NULL;
    lock_drop(&terminal->lock);
    if (terminal->viewer)
        pty_leave(terminal->viewer);
    websocket_reader_done(&terminal->reader);
    lock_done(&terminal->lock);
    buf_done(&terminal->out);
    buf_done(&terminal->pong);
    free(terminal);
}

/* --- the request --------------------------------------------------------------------------- */

/* True when the browser says that another site's page asks: that request carries our cookie,
 * too. */
static bool is_from_another_site(const struct http_request *req)
{
    const char *origin = http_header(req, "Origin"), *host = http_header(req, "Host");
    if (!origin || http_header(req, "X-Runner-Secret") || http_header(req, "Authorization"))
        return false;
    const char *place = strstr(origin, "://");
    return !place || !host || strcasecmp(place + 3, host) != 0;
}

/* Checks the handshake. False after another answer has been sent. */
static bool check_handshake(struct http_request *req, char accept[WEBSOCKET_ACCEPT_SIZE])
{
    struct err err;
    const char *version = http_header(req, "Sec-WebSocket-Version");
    const char *key = http_header(req, "Sec-WebSocket-Key");
    bool wants = http_wants_upgrade(req, "websocket");
    bool other = version && strcmp(version, WEBSOCKET_VERSION) != 0;
    if (!wants || other) {
        http_add_header(req, "Upgrade", "websocket");
        http_add_header(req, "Sec-WebSocket-Version", WEBSOCKET_VERSION);
        err_set(&err, ERR_UPGRADE, "this is a WebSocket: ask for an upgrade, version %s",
                WEBSOCKET_VERSION);
    } else if (!version || !key || websocket_accept(key, accept)) {
        err_set(&err, ERR_INVALID, "the handshake lacks %s",
                !version ? "Sec-WebSocket-Version" : "a Sec-WebSocket-Key of 16 bytes");
    } else if (is_from_another_site(req)) {
        err_set(&err, ERR_FORBIDDEN, "forbidden");
    } else {
        return true;
    }
    send_err(req, &err);
    return false;
}

/* Columns or rows. -1 after the answer has been sent. */
static int query_size(struct http_request *req, const char *name, int *ret_size)
{
    char why[96];
    int64_t value;
    const char *text = http_query(req, name);
    if (!text || !*text)
        return 0;
    if (str_to_int(text, 1, PTY_SIZE_MAX, &value) == 0) {
        *ret_size = (int)value;
        return 0;
    }
    snprintf(why, sizeof(why), "must be 1..%d, got '%.20s'", PTY_SIZE_MAX, text);
    send_field_error(req, name, why);
    return -1;
}

/* False after the answer has been sent. */
static bool read_wish(struct http_request *req, struct pty_wish *wish)
{
    static const char *const known[] = {"shell", "cols", "rows", NULL};
    *wish = (struct pty_wish){.cols = COLS, .rows = ROWS};
    if (query_refused(req, known) || query_shell(req, "shell", &wish->shell) ||
        query_size(req, "cols", &wish->cols) || query_size(req, "rows", &wish->rows))
        return false;
    if (!wish->shell)
        wish->shell = "default";
    return true;
}

static struct terminal *terminal_new(void)
{
    struct terminal *terminal = calloc(1, sizeof(*terminal));
    if (!terminal)
        return NULL;
    websocket_reader_init(&terminal->reader, true, TEXT_MAX);
    lock_init(&terminal->lock);
    buf_init(&terminal->out, OUT_MAX);
    buf_init(&terminal->pong, 256);
    return terminal;
}

static int open_pty(struct http_request *req, struct api *api, struct terminal *terminal,
                    const struct pty_wish *wish, struct err *err)
{
    const char *id = http_param(req, "id");
    const char *cols = http_query(req, "cols"), *rows = http_query(req, "rows");
    const struct pty_watch watch = {.changed = wake, .drained = resume, .arg = terminal};
    if (pty_open(api->sessions, id, wish, &watch, &terminal->viewer, &terminal->state, err))
        return -1;
    if (!terminal->state.fresh && cols && *cols && rows && *rows) {
        pty_resize(terminal->viewer, wish->cols, wish->rows);
        terminal->state.cols = wish->cols;
        terminal->state.rows = wish->rows;
    }
    terminal->replay = terminal->state.replay;
    say_open(terminal, id, wish->shell);
    return 0;
}

void session_terminal(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct pty_wish wish;
    char accept[WEBSOCKET_ACCEPT_SIZE];
    if (away_refuses(req, api, "a terminal") || !check_handshake(req, accept) ||
        !read_wish(req, &wish))
        return;
    struct terminal *terminal = terminal_new();
    if (!terminal)
        err_sys(&err, "terminal");
    if (!terminal || http_stream_room(req, &err) || open_pty(req, api, terminal, &wish, &err)) {
        send_err(req, &err);
        if (terminal)
            on_done(terminal);
        return;
    }
    http_add_header(req, "Sec-WebSocket-Accept", accept);
    const struct http_stream_config stream = {.heartbeat = "\x89\x00",
                                              .heartbeat_len = 2,
                                              .heartbeat_ms =
                                                  CONFIG_GET(api->config, keepalive_every_ms),
                                              .stuck_ms = STUCK_MS,
                                              .protocol = "websocket",
                                              .receive = on_receive,
                                              .fill = on_fill,
                                              .done = on_done,
                                              .arg = terminal};
    lock_take(&terminal->lock); /* The hub and done() wait for this lock until the handle is
                                 * stored. */
    terminal->stream = http_upgrade(req, &stream, &err);
    bool streams = terminal->stream != NULL;
    lock_drop(&terminal->lock);
    if (streams)
        return;
    send_err(req, &err);
    on_done(terminal);
}
