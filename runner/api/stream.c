#include "runner/api/stream.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COPY_BYTES 16384         /* more than this goes from file to socket without a copy */
#define RANGE_BYTES (256u << 10) /* most of it at once */
#define LINES_BYTES                                                      \
    16384 /* bytes of events in one step; as JSON lines they are at most \
           * three times as long */
#define STUCK_MS                                                                            \
    60000         /* a client that stopped reads again within this time, or comes back with \
                   * Last-Event-ID */
#define PACE_MS 5 /* lines that follow within this time are sent together */
#define HEADERS "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"

struct follower {
    struct engine_watch watch; /* first member: the engine's callbacks receive its address */
    struct api *api;           /* borrowed */
    char task_id[ID_SIZE];
    _Atomic int refs; /* of the worker, the engine's watch and the stream */
    int fd;
    bool lines;
    _Atomic int64_t end; /* end of the complete events */
    _Atomic bool ended;  /* no more events will follow */
    struct lock lock;
    struct http_parked *stream; /* NULL before it streams, and afterwards */

    int64_t at;    /* the streams' thread's: offset of the next byte */
    bool in_data;  /* the streams' thread's: it is in the middle of a line */
    bool finished; /* the streams' thread's: everything was handed out */
};

#if !defined(__clang__) /* gcc's analyzer does not follow a count of references */
#pragma GCC diagnostic ignored "-Wanalyzer-double-free"
#pragma GCC diagnostic ignored "-Wanalyzer-use-after-free"
#endif

static void follower_unref(struct follower *f)
{
    if (atomic_fetch_sub(&f->refs, 1) > 1)
        return;
    fd_close(&f->fd);
    lock_done(&f->lock);
    free(f);
}

/* --- the task's side ----------------------------------------------------------------------- */

static void wake(struct follower *f)
{
    lock_take(&f->lock);
    if (f->stream)
        http_stream_wake(f->stream);
    lock_drop(&f->lock);
}

static void note_end(struct follower *f, int64_t end)
{
    int64_t known = atomic_load(&f->end);
    while (end > known && !atomic_compare_exchange_weak(&f->end, &known, end))
        continue;
}

static void on_grew(struct engine_watch *watch, int64_t end)
{
    struct follower *f = (struct follower *)(void *)watch;
    note_end(f, end);
    wake(f);
}

/* Cancels a paused task whose caller did not say that it would wait, as /execute does. */
static void give_up_paused(struct follower *f)
{
    struct err ignored;
    AUTO(task_record) struct task_record record = {0};
    if (store_get(f->api->store, f->task_id, &record, &ignored) == 0 &&
        (record.state == TASK_WAITING_LOGIN || record.state == TASK_WAITING_LIMIT))
        engine_abandon(f->api->engine, f->task_id);
}

/* The task has ended, or nothing more will come before the runner's next start. */
static void on_ended(struct engine_watch *watch)
{
    struct follower *f = (struct follower *)(void *)watch;
    if (!f->watch.patient)
        give_up_paused(f);
    note_end(f, events_end(f->fd));
    atomic_store(&f->ended, true);
    wake(f);
    follower_unref(f);
}

/* Ends the watch. */
static void leave(struct follower *f, bool leaving)
{
    if (engine_unwatch(f->api->engine, f->task_id, &f->watch, leaving))
        follower_unref(f);
}

/* --- the client's side --------------------------------------------------------------------- */

static int fill_copy(struct follower *f, int64_t end, struct http_piece *piece)
{
    size_t left = end - f->at > RANGE_BYTES ? RANGE_BYTES : (size_t)(end - f->at);
    if (left > COPY_BYTES) {
        piece->file = f->fd;
        piece->file_at = f->at;
        piece->file_len = left;
    } else {
        char *to = buf_room(piece->bytes, left);
        if (!to || fd_pread_full(f->fd, to, left, f->at) != (ssize_t)left)
            return -1;
        buf_grew(piece->bytes, left);
    }
    f->at += (int64_t)left;
    return 0;
}

/* The value after `field`, up to the line's end; NULL when it is absent or incomplete. */
static const char *take_field(const char **at, const char *stop, const char *field, size_t *ret_len)
{
    size_t len = strlen(field);
    if ((size_t)(stop - *at) < len || memcmp(*at, field, len) != 0)
        return NULL;
    const char *value = *at + len, *end = memchr(value, '\n', (size_t)(stop - value));
    if (!end)
        return NULL;
    *ret_len = (size_t)(end - value);
    *at = end + 1;
    return value;
}

/* Turns "id: N\nevent: NAME\ndata: " into the beginning of a JSON line. Returns where the data
 * begins, or NULL when the three lines are incomplete. */
static const char *begin_line(const char *at, const char *stop, struct buf *out)
{
    size_t id_len, name_len = strlen("message"), data = strlen("data: ");
    const char *id = take_field(&at, stop, "id: ", &id_len);
    const char *name = id ? take_field(&at, stop, "event: ", &name_len) : NULL;
    if (!id || (size_t)(stop - at) < data || memcmp(at, "data: ", data) != 0)
        return NULL;
    buf_addf(out, "{\"id\":%.*s,\"event\":\"%.*s\",\"data\":", (int)id_len, id, (int)name_len,
             name ? name : "message");
    return at + data;
}

/* Makes JSON lines of the next events, or of parts of one. */
static int fill_lines(struct follower *f, int64_t end, struct http_piece *piece)
{
    char chunk[LINES_BYTES];
    size_t want = end - f->at > LINES_BYTES ? LINES_BYTES : (size_t)(end - f->at);
    if (fd_pread_full(f->fd, chunk, want, f->at) != (ssize_t)want)
        return -1;
    const char *at = chunk, *stop = chunk + want;
    while (at < stop) {
        const char *data = f->in_data ? at : begin_line(at, stop, piece->bytes);
        if (!data)
            break; /* The line crosses the chunk's end. */
        f->in_data = true;
        const char *newline = memchr(data, '\n', (size_t)(stop - data));
        at = newline ? newline : stop;
        buf_add(piece->bytes, data, (size_t)(at - data));
        if (stop - at < 2)
            break; /* The event's end comes with the next chunk. */
        buf_adds(piece->bytes, "}\n");
        f->in_data = false;
        at += 2;
    }
    f->at += at - chunk;
    return at > chunk ? 0 : -1;
}

static enum http_fill on_fill(struct http_piece *piece, void *arg)
{
    struct follower *f = arg;
    bool ended = atomic_load(&f->ended); /* Read first: once the task has ended, the end is
                                          * final. */
    int64_t end = atomic_load(&f->end);
    if (f->at < end && (f->lines ? fill_lines(f, end, piece) : fill_copy(f, end, piece)))
        return HTTP_FILL_BROKEN;
    if (f->at < end)
        return HTTP_FILL_MORE;
    f->finished = ended;
    return ended ? HTTP_FILL_END : HTTP_FILL_WAIT;
}

static void on_done(void *arg)
{
    struct follower *f = arg;
    lock_take(&f->lock);
    f->stream = NULL;
    lock_drop(&f->lock);
    leave(f, !f->finished);
    follower_unref(f);
}

/* --- joining the two ----------------------------------------------------------------------- */

static struct follower *follower_new(struct api *api, const char *task_id,
                                     const struct follow *follow, struct err *err)
{
    AUTO(str) char *path = engine_events_path(api->engine, task_id);
    struct follower *f = calloc(1, sizeof(*f));
    if (!f || !path) {
        free(f);
        err_sys(err, "following a task");
        return NULL;
    }
    f->watch = (struct engine_watch){.ended = on_ended,
                                     .grew = on_grew,
                                     .attached = follow->attached,
                                     .patient = follow->patient};
    f->api = api;
    f->refs = 1;
    f->lines = follow->lines;
    f->at = follow->from;
    snprintf(f->task_id, sizeof(f->task_id), "%s", task_id);
    lock_init(&f->lock);
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (f->fd >= 0)
        return f;
    err_sys(err, "cannot open the task's events");
    follower_unref(f);
    return NULL;
}

/* Begins the watch: from here on the follower hears of every change; earlier events are in the
 * file. */
static int watch_task(struct follower *f, struct err *err)
{
    atomic_fetch_add(&f->refs, 1);
    if (!engine_watch(f->api->engine, f->task_id, &f->watch)) {
        atomic_fetch_sub(&f->refs, 1);
        if (engine_mend_events(f->api->engine, f->task_id, err))
            return -1;
        note_end(f, events_end(f->fd));
        atomic_store(&f->ended, true);
    }
    note_end(f, events_end(f->fd));
    return 0;
}

static int start_stream(struct http_request *req, struct follower *f, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(f->api->config);
    const struct http_stream_config stream = {.status = 200,
                                              .type = f->lines ? "application/x-ndjson"
                                                               : "text/event-stream",
                                              .headers = HEADERS,
                                              .heartbeat = f->lines ? "\n" : ":\n\n",
                                              .heartbeat_ms = config->keepalive_every_ms,
                                              .stuck_ms = STUCK_MS,
                                              .pace_ms = PACE_MS,
                                              .fill = on_fill,
                                              .done = on_done,
                                              .arg = f};
    atomic_fetch_add(&f->refs, 1);
    lock_take(&f->lock); /* done() may be called before the handle is stored. */
    f->stream = http_stream(req, &stream, err);
    bool streams = f->stream != NULL;
    lock_drop(&f->lock);
    if (!streams)
        atomic_fetch_sub(&f->refs, 1);
    return streams ? 0 : -1;
}

int follow_task(struct http_request *req, struct api *api, const char *task_id,
                const struct follow *follow, struct err *err)
{
    REQUIRE(task_id && follow);
    struct follower *f = follower_new(api, task_id, follow, err);
    int rc = f ? watch_task(f, err) || start_stream(req, f, err) : -1;
    if (f && rc)
        leave(f, false);
    if (f)
        follower_unref(f);
    if (rc && follow->attached)
        engine_abandon(api->engine, task_id);
    return rc ? -1 : 0;
}

int follow_form(const struct http_request *req, bool *ret_lines, struct err *err)
{
    static const char sse[] = "text/event-stream", lines[] = "application/x-ndjson";
    *ret_lines = !http_prefers(req, sse) && (http_prefers(req, lines) || !http_accepts(req, sse));
    if (!http_accepts(req, sse) && !http_accepts(req, lines))
        return err_set(err, ERR_NOT_ACCEPTABLE, "events come as %s or %s", sse, lines);
    return 0;
}

/* --- GET /tasks/{id}/events ---------------------------------------------------------------- */

/* Where to begin: after the event that Last-Event-ID names, or at the one that ?from= names. */
static int find_start(struct http_request *req, int fd, int64_t *ret_from, struct err *err)
{
    struct event event;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    const char *last = http_header(req, "Last-Event-ID");
    if (last && !*last)
        last = NULL;
    const char *text = last ? last : http_query(req, "from");
    *ret_from = 0;
    if (!text)
        return 0;
    if (str_to_int(text, 0, INT64_MAX, ret_from))
        return err_set(err, ERR_RANGE, "'%.40s' is not the id of an event", text);
    int got = events_read(fd, *ret_from, &scratch, &event, err);
    if (got == 0 && last)
        return err_set(err, ERR_RANGE, "there is no event %.40s yet", text);
    if (got == 1 && last)
        *ret_from = event.next;
    return got < 0 ? -1 : 0;
}

/* Returns 1 when the task has ended and the client already has its last event. */
static int find_place(struct http_request *req, struct api *api, const struct task_record *record,
                      int64_t *ret_from, struct err *err)
{
    bool over = !task_state_is_active(record->state);
    if (over && engine_mend_events(api->engine, record->id, err))
        return -1;
    AUTO(str) char *path = engine_events_path(api->engine, record->id);
    AUTO(fd) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return err_sys(err, "cannot open the task's events");
    if (find_start(req, fd, ret_from, err))
        return -1;
    return over && *ret_from > 0 && *ret_from == events_end(fd);
}

void task_events(struct http_request *req, void *arg)
{
    static const char *const parameters[] = {"from", NULL};
    struct api *api = arg;
    struct err err;
    struct follow follow = {.patient = true};
    AUTO(task_record) struct task_record record = {0};
    if (!find_task(req, api, &record))
        return;
    int rc = check_query(req, parameters, &err) || follow_form(req, &follow.lines, &err)
                 ? -1
                 : find_place(req, api, &record, &follow.from, &err);
    if (rc == 1 && !follow.lines)
        http_send(req, 204, NULL, NULL, 0); /* This tells an EventSource not to connect again. */
    else if (rc < 0 || follow_task(req, api, record.id, &follow, &err))
        send_err(req, &err);
}
