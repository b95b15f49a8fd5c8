/* POST /run: a task and its events in one answer. POST /run-async: a task, and no waiting. */
#include "runner/api/caller_limits.h"
#include "runner/api/python.h"
#include "runner/api/stream.h"
#include "runner/api/wait.h"

void run_post(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct follow follow = {0};
    AUTO(submission)
    struct submission s = {.kind = CLAUDE_KIND, .where = REQUEST_PYTHON, .streams = true};
    buf_init(&s.body, API_BODY_MAX);
    s.has_body = true;
    if (api_json_body(req, API_BODY_MAX, &s.body, &err)) {
        send_err(req, &err);
        return;
    }
    if (pyrunner_takes(&s.body) && api->service) {
        err_set(&err, ERR_NOT_IMPLEMENTED,
                "code: not at the service at Google: Python runs at home");
        send_err(req, &err);
        return;
    }
    if (pyrunner_takes(&s.body)) {
        if (caller_may(req, api, "python"))
            pyrunner_run(req, api, &s.body);
        return;
    }
    s.timeout_minutes = CONFIG_GET(api->config, task_timeout_minutes);
    /* Before there is a task that would have to be cancelled. */
    if (follow_form(req, &follow.lines, &err) || http_stream_room(req, &err)) {
        send_err(req, &err);
        return;
    }
    if (submit_task(req, api, &s))
        return;
    follow.attached = !s.request->detach;
    follow.patient = s.patient;
    if (follow_task(req, api, s.records->id, &follow, &err))
        send_err(req, &err);
}

void run_async_post(struct http_request *req, void *arg)
{
    struct api *api = arg;
    AUTO(submission) struct submission s = {.kind = CLAUDE_KIND, .patient = true};
    s.timeout_minutes = CONFIG_GET(api->config, task_timeout_minutes);
    if (submit_task(req, api, &s) == 0)
        wait_send_accepted(req, &s);
}
