/* POST /sessions/{id}/exec: a command, answered when it has ended, or followed as it goes. */
#include "base/lock.h"
#include "base/str.h"
#include "runner/api/body_fields.h"
#include "runner/api/session_cloud.h"
#include "runner/cloudbox/cloudbox.h"
#include "runner/session/session.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_BYTES_MAX (1 << 20)
#define INPUT_BYTES_MAX (8 << 20)
#define TIMEOUT_MAX_S 86400
#define TIMEOUT_S 120
#define STUCK_MS 60000
#define PACE_MS 10
#define CHUNK_BYTES 8192
#define SSE_HEADERS "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"

/* A command, of a session here or of one in the cloud. */
struct running {
    struct exec *here;
    struct cloudexec *away;
};

/* What a command and a connection share; either may end first. */
struct caller {
    struct api *api;
    char request_id[80];
    _Atomic int refs;
    struct lock lock;
    struct http_parked *parked; /* the parked request or the stream; NULL before and after it
                                 * exists */
    struct running command;     /* holds a reference */
    bool over;                  /* the command has ended */

    int64_t at[2];      /* how much of stdout and stderr the stream has sent */
    struct buf held[2]; /* the beginning of a character whose rest has not arrived */
    bool told;
};

#if !defined(__clang__) /* gcc's analyzer does not follow a count of references */
#pragma GCC diagnostic ignored "-Wanalyzer-double-free"
#pragma GCC diagnostic ignored "-Wanalyzer-use-after-free"
#endif

static void running_unref(struct running command)
{
    exec_unref(command.here);
    cloudexec_unref(command.away);
}

static void running_kill(struct running command)
{
    if (command.away)
        cloudexec_kill(command.away);
    else
        exec_kill(command.here);
}

static bool running_failed(struct running command, struct err *err)
{
    return command.away ? cloudexec_failed(command.away, err) : exec_failed(command.here, err);
}

static bool running_ended(struct running command)
{
    int exit;
    return command.away ? cloudexec_exit(command.away, &exit) : exec_exit(command.here, &exit);
}

static struct caller *caller_new(struct api *api, const struct http_request *req)
{
    struct caller *caller = calloc(1, sizeof(*caller));
    if (!caller)
        return NULL;
    caller->api = api;
    caller->refs = 3; /* of the command, the connection and the handler */
    snprintf(caller->request_id, sizeof(caller->request_id), "%s", http_id(req));
    lock_init(&caller->lock);
    buf_init(&caller->held[0], 2 * CHUNK_BYTES);
    buf_init(&caller->held[1], 2 * CHUNK_BYTES);
    return caller;
}

static void caller_unref(struct caller *caller)
{
    if (atomic_fetch_sub(&caller->refs, 1) > 1)
        return;
    running_unref(caller->command);
    buf_done(&caller->held[0]);
    buf_done(&caller->held[1]);
    lock_done(&caller->lock);
    free(caller);
}

/* --- answered at the end ------------------------------------------------------------------- */

/* Makes the whole answer, or a problem; returns its status. */
static int print_answer(struct caller *caller, struct running command, struct buf *out)
{
    struct err err;
    if (running_failed(command, &err)) {
        http_add_problem(out, &err, caller->request_id, 0, NULL);
        return err_http(err.code);
    }
    if (command.away)
        cloudexec_print(command.away, out);
    else
        exec_print(command.here, out);
    if (buf_ok(out))
        return 200;
    buf_clear(out);
    out->failed = false;
    err_set(&err, ERR_TOO_LARGE, "the answer is too large");
    http_add_problem(out, &err, caller->request_id, 0, NULL);
    return 500;
}

static void answer(struct caller *caller, struct running command, struct http_parked *parked)
{
    AUTO(buf) struct buf out = BUF_INIT(API_RESULT_MAX);
    int status = print_answer(caller, command, &out);
    const char *headers = status == 429 || status == 503 ? "Retry-After: 5\r\n" : NULL;
    http_parked_send(parked, status,
                     status == 200 ? "application/json" : "application/problem+json", headers,
                     buf_str(&out), out.len);
}

static struct http_parked *take_parked(struct caller *caller, bool over)
{
    lock_take(&caller->lock);
    struct http_parked *parked = caller->parked;
    caller->parked = NULL;
    caller->over |= over;
    lock_drop(&caller->lock);
    return parked;
}

static void finish(struct caller *caller, struct running command)
{
    struct http_parked *parked = take_parked(caller, true);
    if (parked)
        answer(caller, command, parked);
    caller_unref(caller);
}

static void on_command_done(struct exec *command, void *arg)
{
    finish(arg, (struct running){.here = command});
}

static void on_away_done(struct cloudexec *command, void *arg)
{
    finish(arg, (struct running){.away = command});
}

/* The client went away: ends the command. */
static void on_gone(void *arg)
{
    struct caller *caller = arg;
    struct http_parked *parked = take_parked(caller, false);
    running_kill(caller->command);
    if (parked)
        http_parked_drop(parked);
}

static void on_connection_done(void *arg)
{
    caller_unref(arg);
}

static void wait_for_end(struct http_request *req, struct caller *caller)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(caller->api->config);
    const struct http_park_config park = {.keepalive_after_ms = config->keepalive_after_ms,
                                          .keepalive_every_ms = config->keepalive_every_ms,
                                          .gone = on_gone,
                                          .done = on_connection_done,
                                          .arg = caller};
    lock_take(&caller->lock); /* gone() may be called before the handle is stored. */
    struct running command = caller->command;
    struct http_parked *parked = http_park(req, &park, &err);
    bool over = caller->over;
    caller->parked = over ? NULL : parked;
    lock_drop(&caller->lock);
    if (!parked) {
        send_err(req, &err);
        running_kill(command);
        caller_unref(caller);
    } else if (over) {
        answer(caller, command, parked);
    }
}

/* --- followed ------------------------------------------------------------------------------ */

/* How many bytes of the text are whole characters: all, except for a last one that is cut off. */
static size_t whole_characters(const char *text, size_t len)
{
    size_t back = 1;
    while (back < 4 && back <= len && ((unsigned char)text[len - back] & 0xc0) == 0x80)
        back++;
    if (back > len || back > 4)
        return len;
    unsigned char lead = (unsigned char)text[len - back];
    size_t wants = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    return wants > back ? len - back : len;
}

static void add_event(struct buf *out, const char *name, const char *text, size_t len)
{
    buf_addf(out, "event: %s\ndata: {\"text\":\"", name);
    str_add_json(out, text, len);
    buf_adds(out, "\"}\n\n");
}

/* Takes the next piece of one of the two outputs; false when there is none. */
static bool fill_output(struct caller *caller, int which, bool last, struct buf *out)
{
    struct buf *held = &caller->held[which];
    const struct running *from = &caller->command;
    int64_t at = caller->at[which];
    size_t n = from->away ? cloudexec_read(from->away, which == 1, at, CHUNK_BYTES, held)
                          : exec_read(from->here, which == 1, at, CHUNK_BYTES, held);
    caller->at[which] += (int64_t)n;
    size_t whole = n == 0 && last ? held->len : whole_characters(buf_str(held), held->len);
    if (whole > 0)
        add_event(out, which == 1 ? "stderr" : "stdout", held->data, whole);
    buf_drop(held, whole);
    return n > 0 || whole > 0;
}

static void fill_end(struct caller *caller, struct buf *out)
{
    AUTO(buf) struct buf text = BUF_INIT(65536);
    struct err err;
    if (running_failed(caller->command, &err)) {
        buf_adds(out, "event: error\ndata: {\"error\":\"");
        str_add_json(out, err.msg, strlen(err.msg));
        buf_addf(out, "\",\"code\":\"%s\"}\n\n", err_wire(err.code));
        return;
    }
    if (caller->command.away)
        cloudexec_print_end(caller->command.away, &text);
    else
        exec_print_end(caller->command.here, &text);
    buf_addf(out, "event: done\ndata: %s\n\n", buf_str(&text));
}

static enum http_fill on_fill(struct http_piece *piece, void *arg)
{
    struct caller *caller = arg;
    bool over = running_ended(caller->command); /* Asked first: once the command has ended, its
                                                 * output is complete. */
    bool more = fill_output(caller, 0, over, piece->bytes);
    more |= fill_output(caller, 1, over, piece->bytes);
    if (more)
        return HTTP_FILL_MORE;
    if (!over)
        return HTTP_FILL_WAIT;
    fill_end(caller, piece->bytes);
    caller->told = true;
    return HTTP_FILL_END;
}

static void on_stream_done(void *arg)
{
    struct caller *caller = arg;
    take_parked(caller, false);
    if (!caller->told)
        running_kill(caller->command);
    caller_unref(caller);
}

/* May be called with the sessions' lock held. */
static void on_command_changed(void *arg)
{
    struct caller *caller = arg;
    lock_take(&caller->lock);
    if (caller->parked)
        http_stream_wake(caller->parked);
    lock_drop(&caller->lock);
}

static void on_followed_done(struct exec *command, void *arg)
{
    (void)command;
    on_command_changed(arg);
    caller_unref(arg);
}

static void on_away_followed_done(struct cloudexec *command, void *arg)
{
    (void)command;
    on_command_changed(arg);
    caller_unref(arg);
}

static void follow(struct http_request *req, struct caller *caller)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(caller->api->config);
    const struct http_stream_config stream = {.status = 200,
                                              .type = "text/event-stream",
                                              .headers = SSE_HEADERS,
                                              .heartbeat = ":\n\n",
                                              .heartbeat_ms = config->keepalive_every_ms,
                                              .stuck_ms = STUCK_MS,
                                              .pace_ms = PACE_MS,
                                              .fill = on_fill,
                                              .done = on_stream_done,
                                              .arg = caller};
    lock_take(&caller->lock); /* done() may be called before the handle is stored. */
    struct http_parked *parked = http_stream(req, &stream, &err);
    caller->parked = parked;
    lock_drop(&caller->lock);
    if (parked) {
        http_stream_wake(parked);
        return;
    }
    send_err(req, &err);
    running_kill(caller->command);
    caller_unref(caller);
}

/* --- the request --------------------------------------------------------------------------- */

static struct exec *start_here(struct caller *caller, const char *id, const struct exec_wish *wish,
                               bool followed, struct err *err)
{
    const struct exec_watch watch = {.changed = followed ? on_command_changed : NULL,
                                     .done = followed ? on_followed_done : on_command_done,
                                     .arg = caller};
    return exec_start(caller->api->sessions, id, wish, &watch, err);
}

static struct cloudexec *start_away(struct caller *caller, const char *id,
                                    const struct cloudexec_wish *wish, bool followed,
                                    struct err *err)
{
    const struct cloudexec_watch watch = {.changed = followed ? on_command_changed : NULL,
                                          .done = followed ? on_away_followed_done : on_away_done,
                                          .arg = caller};
    return cloudexec_start(caller->api->cloudbox, id, wish, &watch, err);
}

/* `away` is NULL for a session that is here. */
static void start(struct http_request *req, struct api *api, const struct exec_wish *wish,
                  const struct cloudexec_wish *away)
{
    struct err err;
    const char *id = http_param(req, "id");
    bool followed = http_prefers(req, "text/event-stream");
    struct caller *caller = caller_new(api, req);
    if (!caller) {
        err_sys(&err, "command");
        send_err(req, &err);
        return;
    }
    if (away)
        caller->command.away = start_away(caller, id, away, followed, &err);
    else
        caller->command.here = start_here(caller, id, wish, followed, &err);
    if (!caller->command.here && !caller->command.away) {
        send_err(req, &err);
        caller_unref(caller); /* the command's reference */
        caller_unref(caller); /* the connection's reference */
    } else if (followed) {
        follow(req, caller);
    } else {
        wait_for_end(req, caller);
    }
    caller_unref(caller);
}

static void start_in_cloud(struct http_request *req, struct api *api, const struct exec_wish *wish,
                           int64_t wait_s)
{
    AUTO(str) char *name = caller_name(api, req);
    const struct cloudexec_wish away = {.text = wish->text,
                                        .shell = wish->shell,
                                        .cwd = wish->cwd,
                                        .timeout_ms = wish->timeout_ms,
                                        .wait_ms = wait_s * 1000,
                                        .caller = name,
                                        .request_id = http_id(req)};
    if (away_takes(req, wish))
        start(req, api, wish, &away);
}

void session_exec_post(struct http_request *req, void *arg)
{
    struct api *api = arg;
    int64_t timeout = TIMEOUT_S, wait = 0;
    struct exec_wish wish = {0};
    struct request_errors errors = {0};
    const struct field fields[] = {
        {.name = "command",
         .kind = FIELD_TEXT,
         .to = &wish.text,
         .max = COMMAND_BYTES_MAX,
         .required = true},
        {.name = "shell", .kind = FIELD_TEXT, .to = &wish.shell},
        {.name = "cwd", .kind = FIELD_TEXT, .to = &wish.cwd, .max = 4096},
        {.name = "timeout",
         .kind = FIELD_INT,
         .to = &timeout,
         .min = 1,
         .max = TIMEOUT_MAX_S,
         .zero = true},
        {.name = "stdin", .kind = FIELD_EMPTY, .to = &wish.input, .max = INPUT_BYTES_MAX},
        {.name = "background", .kind = FIELD_BOOL, .to = &wish.background},
        {.name = "wait",
         .kind = FIELD_INT,
         .to = &wait,
         .min = 1,
         .max = CLOUDBOX_WAIT_MAX_S,
         .zero = true},
    };
    AUTO(json) struct json *body = body_read(req, fields, COUNT_OF(fields), &errors);
    if (!body)
        return;
    if (wish.shell && !id_is_valid(wish.shell))
        request_errors_add(&errors, ERR_INVALID, "shell",
                           "must be 1..64 of A-Z a-z 0-9 . _ ~ - and not begin with . or -");
    if (wish.text && str_is_blank(wish.text, strlen(wish.text)))
        request_errors_add(&errors, ERR_INVALID, "command", "is blank");
    if (body_refused(req, &errors))
        return;
    wish.timeout_ms = timeout * 1000;
    if (cloudbox_has(api->cloudbox, http_param(req, "id")))
        start_in_cloud(req, api, &wish, wait);
    else if (wait > 0)
        send_field_error(req, "wait",
                         "is for sessions in the cloud: here each shell is free as "
                         "soon as its command has ended");
    else
        start(req, api, &wish, NULL);
}

/* --- a process's log, followed ------------------------------------------------------------- */

struct log_stream {
    struct sessions *sessions;
    char id[ID_SIZE];
    pid_t pid;
    int fd;
    int64_t at;
    struct buf held;
    struct lock lock;
    struct http_parked *stream;
};

/* Looks at the file again and again: nothing reports that it grows. */
static enum http_fill on_log_fill(struct http_piece *piece, void *arg)
{
    struct log_stream *log = arg;
    struct err ignored;
    bool running = false;
    AUTO(buf) struct buf process = BUF_INIT(1u << 20);
    if (detached_print(log->sessions, log->id, log->pid, &process, &running, &ignored))
        return HTTP_FILL_END;
    char *to = buf_room(&log->held, CHUNK_BYTES);
    ssize_t n = to ? pread(log->fd, to, CHUNK_BYTES, log->at) : -1;
    buf_grew(&log->held, n > 0 ? (size_t)n : 0);
    log->at += n > 0 ? n : 0;
    size_t whole =
        n <= 0 && !running ? log->held.len : whole_characters(buf_str(&log->held), log->held.len);
    if (whole > 0) {
        buf_addf(piece->bytes, "id: %lld\n",
                 (long long)(log->at - (int64_t)(log->held.len - whole)));
        add_event(piece->bytes, "log", log->held.data, whole);
        buf_drop(&log->held, whole);
        return HTTP_FILL_MORE;
    }
    if (running)
        return HTTP_FILL_WAIT;
    buf_addf(piece->bytes, "event: done\ndata: %s\n\n", buf_str(&process));
    return HTTP_FILL_END;
}

static void on_log_done(void *arg)
{
    struct log_stream *log = arg;
    lock_take(&log->lock); /* Wait until the code that started the stream is done with it. */
    lock_drop(&log->lock);
    sessions_untick(log->sessions, log);
    lock_done(&log->lock);
    close(log->fd);
    buf_done(&log->held);
    free(log);
}

static void on_tick(void *arg)
{
    struct log_stream *log = arg;
    lock_take(&log->lock);
    if (log->stream)
        http_stream_wake(log->stream);
    lock_drop(&log->lock);
}

void follow_process(struct http_request *req, struct api *api, const char *id, pid_t pid,
                    int64_t from)
{
    struct err err;
    struct log_stream *log = calloc(1, sizeof(*log));
    int fd = log ? detached_log(api->sessions, id, pid, &err) : err_sys(&err, "log");
    if (!log || fd < 0) {
        free(log);
        send_err(req, &err);
        return;
    }
    *log = (struct log_stream){.sessions = api->sessions, .pid = pid, .fd = fd, .at = from};
    snprintf(log->id, sizeof(log->id), "%s", id);
    buf_init(&log->held, 4 * CHUNK_BYTES);
    const struct http_stream_config stream = {.status = 200,
                                              .type = "text/event-stream",
                                              .headers = SSE_HEADERS,
                                              .heartbeat = ":\n\n",
                                              .heartbeat_ms =
                                                  CONFIG_GET(api->config, keepalive_every_ms),
                                              .stuck_ms = STUCK_MS,
                                              .pace_ms = PACE_MS,
                                              .fill = on_log_fill,
                                              .done = on_log_done,
                                              .arg = log};
    lock_init(&log->lock);
    if (sessions_tick(api->sessions, on_tick, log, &err)) {
        send_err(req, &err);
        on_log_done(log);
        return;
    }
    lock_take(&log->lock); /* The timer and done() wait for this lock until the handle is stored. */
    bool streams = (log->stream = http_stream(req, &stream, &err)) != NULL;
    lock_drop(&log->lock);
    if (streams)
        return;
    send_err(req, &err);
    on_log_done(log);
}
