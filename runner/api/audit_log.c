/* Writes requests to the audit log, and shows it. */
#include "base/clock.h"
#include "base/str.h"
#include "runner/access/audit.h"
#include "runner/api/handlers.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_BYTES_MAX (4u << 20)
#define LIST_MAX 1000
#define REFUSALS_A_MINUTE 10

/* Requests that change or run something, and the part of the path that names their target. New
 * tasks, and signing in and out of the console, are recorded where more is known (submit.c,
 * console.c, login.c). */
static const struct {
    const char *method, *path, *action, *target;
} actions[] = {
    {"POST", "/tasks/{id}/cancel", "task.cancel", "id"},
    {"DELETE", "/tasks/{id}", "task.cancel", "id"},
    {"POST", "/cancel/{id}", "task.cancel", "id"},
    {"POST", "/tasks/{id}/redeliver", "webhook.redeliver", "id"},
    {"POST", "/oauth/refresh", "login.refresh", NULL},
    {"POST", "/oauth/login", "login.begin", NULL},
    {"POST", "/oauth/login/{id}", "login.code", "id"},
    {"DELETE", "/oauth/login/{id}", "login.cancel", "id"},
    {"POST", "/login/start", "login.begin", NULL},
    {"POST", "/login/code", "login.code", NULL},
    {"POST", "/login/cancel", "login.cancel", NULL},
    {"POST", "/console/links", "console.link", NULL},
    {"DELETE", "/repos", "repo.remove", NULL},
    {"DELETE", "/repos/{id}", "repo.remove", "id"},
    {"POST", "/python", "python.run", NULL},
    {"POST", "/python/sessions", "python.open", NULL},
    {"DELETE", "/python/sessions/{id}", "python.close", "id"},
    {"POST", "/python/sessions/{id}/exec", "python.run", "id"},
    {"POST", "/sessions", "session.open", NULL},
    {"DELETE", "/sessions/{id}", "session.close", "id"},
    {"POST", "/sessions/{id}/exec", "session.run", "id"},
    {"GET", "/sessions/{id}/terminal", "session.terminal", "id"},
    {"PUT", "/sessions/{id}/files/{path...}", "session.write", "id"},
    {"DELETE", "/sessions/{id}/files/{path...}", "session.delete", "id"},
    {"POST", "/sessions/{id}/files/replace", "session.write", "id"},
    {"PUT", "/sessions/{id}/archive", "session.write", "id"},
    {"PUT", "/inputs/{sha256}", "input.upload", "sha256"},
    {"POST", "/push/subscriptions", "push.subscribe", NULL},
    {"DELETE", "/push/subscriptions/{id}", "push.unsubscribe", "id"},
};

void record_action(struct api *api, const struct http_request *req, const char *action,
                   const char *caller, const char *target, const char *detail)
{
    AUTO(str) char *name = caller ? NULL : caller_name(api, req);
    const struct audit_entry entry = {.action = action,
                                      .caller = caller ? caller : name,
                                      .address = caller_address(api, req),
                                      .target = target,
                                      .detail = detail};
    audit_add(api->audit, &entry);
}

void record_request(struct api *api, const struct http_request *req, int status)
{
    const struct http_route *route = http_served_by(req);
    if (!route || status >= 400)
        return;
    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        if (strcmp(actions[i].path, route->path) != 0 ||
            strcmp(actions[i].method, route->method) != 0)
            continue;
        const char *target = actions[i].target ? http_param(req, actions[i].target) : NULL;
        record_action(api, req, actions[i].action, NULL, target, http_param(req, "path"));
        return;
    }
}

/* Limited, so that somebody who guesses secrets cannot push everything else out of the log. */
void record_refusal(struct api *api, const char *address)
{
    static _Atomic int64_t minute;
    static _Atomic int noted;
    int64_t now = clock_mono_ms() / 60000;
    if (atomic_exchange(&minute, now) != now)
        atomic_store(&noted, 0);
    if (atomic_fetch_add(&noted, 1) >= REFUSALS_A_MINUTE)
        return;
    const struct audit_entry entry = {.action = "secret.refused", .address = address};
    audit_add(api->audit, &entry);
}

static int bad_query(struct err *err, const char *name, const char *wanted, const char *got)
{
    return err_set(err, ERR_INVALID, "%s must be %s, got '%.40s'", name, wanted, got);
}

static int read_query(struct http_request *req, int64_t *limit, int64_t *cursor, struct err *err)
{
    static const char *const known[] = {"action", "caller", "limit", "cursor", NULL};
    const char *text;
    if (check_query(req, known, err))
        return -1;
    if ((text = http_query(req, "limit")) && str_to_int(text, 1, LIST_MAX, limit))
        return bad_query(err, "limit", "1..1000", text);
    if ((text = http_query(req, "cursor")) && str_to_int(text, 1, INT64_MAX, cursor))
        return bad_query(err, "cursor", "a nextCursor of an earlier answer", text);
    return 0;
}

void audit_get(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    struct json_writer w;
    char cursor[24];
    int64_t limit = 100, before = 0, next = 0;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_open_array(&w, "entries");
    if (read_query(req, &limit, &before, &err) ||
        audit_print(api->audit, before, (int)limit, http_query(req, "action"),
                    http_query(req, "caller"), &w, &next, &err)) {
        send_err(req, &err);
        return;
    }
    json_close(&w);
    snprintf(cursor, sizeof(cursor), "%lld", (long long)next);
    json_add_text(&w, "nextCursor", next ? cursor : NULL);
    json_close(&w);
    send_json(req, 200, &out);
}
