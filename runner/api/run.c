/* POST /run: a task and its events in one answer. POST /run-async: a task, and no waiting. */
#include "base/clock.h"
#include "runner/api/stream.h"
#include "runner/api/submit.h"

#include <stdio.h>

#define ASYNC_BYTES_MAX 4096

void run_post(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct follow follow = {0};
    AUTO(submission) struct submission s = {.where = REQUEST_CLAUDE | REQUEST_PYTHON};
    s.timeout_minutes = CONFIG_GET(api->config, task_timeout_minutes);
    /* before there is a task that would have to be given up */
    if (follow_form(req, &follow.lines, &err) || http_stream_room(req, &err)) {
        send_err(req, &err);
        return;
    }
    if (submit_task(req, api, &s))
        return;
    follow.attached = !s.request->detach;
    follow.patient = s.patient;
    if (follow_task(req, api, s.record.id, &follow, &err))
        send_err(req, &err);
}

static void send_accepted(struct http_request *req, const struct task_record *record)
{
    struct json_writer w;
    char created[CLOCK_TEXT_SIZE], location[ID_SIZE + 32];
    AUTO(buf) struct buf out = BUF_INIT(ASYNC_BYTES_MAX);
    snprintf(location, sizeof(location), "/tasks/%s", record->id);
    http_add_header(req, "Location", location);
    snprintf(location, sizeof(location), "/tasks/%s/events", record->id);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_add_text(&w, "taskId", record->id);
    json_add_text(&w, "status", task_state_name(record->state));
    json_add_text(&w, "logsPath", location);
    json_add_text(&w, "createdAt", clock_format(record->created_ms, created));
    json_close(&w);
    send_json(req, 202, &out);
}

void run_async_post(struct http_request *req, void *arg)
{
    struct api *api = arg;
    AUTO(submission) struct submission s = {.where = REQUEST_CLAUDE, .patient = true};
    s.timeout_minutes = CONFIG_GET(api->config, task_timeout_minutes);
    if (submit_task(req, api, &s) == 0)
        send_accepted(req, &s.record);
}
