/* A task's events, replayed. */
#include "base/fd.h"
#include "base/str.h"
#include "runner/api/handlers.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPLAY_BYTES_MAX (64u << 20)

static void print_event(const struct event *event, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_int(&w, "id", event->id);
    json_add_text(&w, "event", event->name[0] ? event->name : "message");
    json_add_raw(&w, "data", event->data, event->data_len);
    json_close(&w);
    buf_addc(out, '\n');
}

/* Where to begin: after the event that Last-Event-ID names, at the one that ?from= does. */
static int find_start(struct http_request *req, int fd, struct buf *scratch, int64_t *ret_at,
                      struct err *err)
{
    struct event event;
    const char *last = http_header(req, "Last-Event-ID");
    const char *text = last ? last : http_query(req, "from");
    *ret_at = 0;
    if (!text)
        return 0;
    if (str_to_int(text, 0, INT64_MAX, ret_at))
        return err_set(err, ERR_RANGE, "'%.40s' is not the id of an event", text);
    if (events_read(fd, *ret_at, scratch, &event, err) < 0)
        return -1;
    if (last)
        *ret_at = event.next;
    return 0;
}

static int replay(struct http_request *req, int fd, struct buf *out, struct err *err)
{
    struct event event;
    int64_t at;
    int got;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX);
    if (find_start(req, fd, &scratch, &at, err))
        return -1;
    while ((got = events_read(fd, at, &scratch, &event, err)) == 1 && buf_ok(out)) {
        print_event(&event, out);
        at = event.next;
    }
    return got < 0 ? -1 : buf_check(out, "the events", err);
}

void task_events(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(task_record) struct task_record record = {0};
    AUTO(buf) struct buf out = BUF_INIT(REPLAY_BYTES_MAX);
    if (!find_task(req, api, &record))
        return;
    if (!task_state_is_active(record.state) && engine_mend_events(api->engine, record.id, &err)) {
        send_err(req, &err);
        return;
    }
    AUTO(str) char *path = engine_events_path(api->engine, record.id);
    AUTO(fd) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    int rc = fd < 0 ? err_sys(&err, "events of the task") : replay(req, fd, &out, &err);
    if (rc)
        send_err(req, &err);
    else
        http_send(req, 200, "application/x-ndjson", buf_str(&out), out.len);
}
