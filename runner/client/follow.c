#include "runner/client/follow.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "runner/client/client.h"
#include "json/json.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SILENCE_MS 60000 /* The runner sends something every 15 s. */
#define NOW_MS 1000      /* Present events arrive at once. */
#define FIRST_PAUSE_MS 200
#define PAUSE_MAX_MS 5000
#define PROBLEM_MAX (1u << 20)

static void on_event(const char *id, const char *name, const char *data, size_t len, void *arg)
{
    struct follow *f = arg;
    struct err ignored;
    f->moved = true;
    if (*id)
        snprintf(f->last_id, sizeof(f->last_id), "%s", id);
    if (strcmp(name, "task") == 0 && !f->task_id[0]) {
        AUTO(json) struct json *root = json_parse(data, len, &ignored);
        snprintf(f->task_id, sizeof(f->task_id), "%s", text_of(root, "taskId"));
    }
    f->done |= strcmp(name, "done") == 0;
    f->event(id, name, data, len, f->arg);
}

void follower_init(struct follow *f, const struct settings *to, sse_fn *event, void *arg)
{
    *f = (struct follow){.to = to, .event = event, .arg = arg};
    sse_init(&f->sse, on_event, f);
    buf_init(&f->problem, PROBLEM_MAX);
    id_uuid(f->key);
}

void follower_done(struct follow *f)
{
    sse_done(&f->sse);
    buf_done(&f->problem);
    net_link_free(f->link);
}

/* --- one connection ------------------------------------------------------------------------ */

static int on_head(int status, const struct buf *head, void *arg)
{
    struct follow *f = arg;
    (void)head;
    f->status = status;
    return 0;
}

static int on_write(const char *data, size_t len, void *arg)
{
    struct follow *f = arg;
    if (f->status == 200)
        sse_feed(&f->sse, data, len);
    else
        buf_add(&f->problem, data, len);
    return 0;
}

static ssize_t on_read(char *to, size_t size, void *arg)
{
    struct follow *f = arg;
    size_t len = f->body ? strlen(f->body) : 0, at = f->sent;
    size_t n = len - at < size ? len - at : size;
    memcpy(to, f->body + at, n);
    f->sent += n;
    return (ssize_t)n;
}

static bool on_stop(void *arg)
{
    (void)arg;
    return client_signals > 0;
}

static int connect_once(struct follow *f, struct err *err)
{
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(str) char *url = NULL;
    bool begins = !f->task_id[0];
    if (client_headers(f->to, "text/event-stream", &headers, err))
        return -1;
    if (begins) {
        strlist_add(&headers, "Content-Type: application/json");
        strlist_addf(&headers, "Idempotency-Key: %s", f->key);
    } else if (f->last_id[0]) {
        strlist_addf(&headers, "Last-Event-ID: %s", f->last_id);
    }
    if ((begins ? asprintf(&url, "%s%s", f->to->url, f->path)
                : asprintf(&url, "%s/tasks/%s/events", f->to->url, f->task_id)) < 0)
        return err_sys(err, "URL");
    const struct net_relay relay = {.method = begins ? "POST" : "GET",
                                    .url = url,
                                    .headers = &headers,
                                    .body_len = begins ? (int64_t)strlen(f->body) : 0,
                                    .silence_ms = f->to_now ? NOW_MS : SILENCE_MS,
                                    .arg = f,
                                    .read = on_read,
                                    .head = on_head,
                                    .write = on_write,
                                    .stop = on_stop};
    f->status = 0;
    f->sent = 0;
    f->moved = false;
    sse_reset(&f->sse);
    buf_clear(&f->problem);
    return net_relay(f->link, &relay, err);
}

/* --- until the end ------------------------------------------------------------------------- */

/* True for a failure that another try may overcome: no answer, or a runner that starts or stops. */
static bool is_passing(const struct follow *f, const struct err *err)
{
    if (f->status == 0)
        return err->code == ERR_UPSTREAM || err->code == ERR_TIMEOUT || err->code == ERR_INTERNAL;
    return f->status == 200 || f->status == 429 || f->status >= 500;
}

static int refused(const struct follow *f, struct err *err)
{
    return client_explain(f->to, f->status, buf_str(&f->problem), f->problem.len, err);
}

int follower_run(struct follow *f, struct err *err)
{
    REQUIRE(f->path || f->task_id[0]);
    int64_t seen_ms = clock_mono_ms();
    int pause_ms = FIRST_PAUSE_MS;
    bool answered = f->task_id[0] != '\0', sent = false, said = false;
    if (!f->link && !(f->link = net_link_new()))
        return err_set(err, ERR_INTERNAL, "cannot load libcurl");
    while (!f->done) {
        int rc = connect_once(f, err);
        if (client_signals > 0)
            return 1;
        if (f->status == 204)
            f->done = true; /* The task has ended, and its last event was seen. */
        if (f->done || (f->to_now && f->status == 200))
            break;
        if (rc == 0 && f->status != 200)
            refused(f, err);
        if (rc < 0 && f->status == 0 && err->code == ERR_FORBIDDEN)
            return err_set(err, ERR_CONFIG,
                           "%s: the secret goes by plain http to this machine only", f->to->url);
        answered |= f->moved || f->status != 0;
        sent |= f->sent > 0;
        /* A runner that was never reached is reported at once. One that may have taken the request
         * is asked again, and knows its key; one that has answered is waited for. */
        if (!is_passing(f, err) || (!answered && !sent))
            return -1;
        if (f->moved) {
            seen_ms = clock_mono_ms();
            pause_ms = FIRST_PAUSE_MS;
        }
        if (clock_mono_ms() - seen_ms > (answered ? FOLLOW_PATIENCE_MS : FOLLOW_SILENCE_MS))
            return rc ? -1
                      : err_set(err, ERR_UPSTREAM, "the runner ends the stream again and again");
        if (!said && pause_ms > FIRST_PAUSE_MS)
            said = fprintf(stderr, "the runner is away; trying again\n") > 0;
        poll(NULL, 0, pause_ms);
        pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
    }
    return 0;
}
