/* POST /execute: a Claude task, and its answer. POST /exec: the same for a command, which can also
 * be followed as a stream. */
#include "base/str.h"
#include "runner/api/stream.h"
#include "runner/api/wait.h"
#include "runner/command/command.h"

#include <string.h>
#include <strings.h>

void execute_post(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(submission) struct submission s = {.kind = CLAUDE_KIND};
    s.timeout_minutes = CONFIG_GET(api->config, execute_timeout_minutes);
    int wait_ms = wait_preferred_ms(req, &err);
    if (wait_ms < 0) {
        send_err(req, &err);
        return;
    }
    s.patient = wait_ms > 0;
    if (submit_task(req, api, &s) == 0)
        wait_for_tasks(req, api, &s, wait_ms);
}

/* True when the caller's Accept header names a stream; the default is JSON. */
static bool wants_stream(const struct http_request *req)
{
    const char *accept = http_header(req, "Accept");
    return accept &&
           (strcasestr(accept, "text/event-stream") || strcasestr(accept, "application/x-ndjson"));
}

static void exec_stream(struct http_request *req, struct api *api, struct submission *s)
{
    struct err err;
    struct follow follow = {0};
    s->streams = true;
    if (follow_form(req, &follow.lines, &err) || http_stream_room(req, &err)) {
        send_err(req, &err);
        return;
    }
    if (submit_task(req, api, s))
        return;
    follow.attached = !s->request->detach;
    follow.patient = s->patient;
    if (follow_task(req, api, s->records->id, &follow, &err))
        send_err(req, &err);
}

void exec_post(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(submission) struct submission s = {.kind = COMMAND_KIND};
    s.timeout_minutes = CONFIG_GET(api->config, task_timeout_minutes);
    int wait_ms = wait_preferred_ms(req, &err);
    if (wait_ms < 0) {
        send_err(req, &err);
        return;
    }
    s.patient = wait_ms > 0;
    if (wants_stream(req))
        exec_stream(req, api, &s);
    else if (submit_task(req, api, &s) == 0)
        wait_for_tasks(req, api, &s, wait_ms);
}
