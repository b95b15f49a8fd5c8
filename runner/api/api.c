#include "runner/api/api.h"

#include "base/log.h"
#include "base/str.h"
#include "runner/api/handlers.h"

#include <string.h>

static const struct http_route routes[] = {
    {"GET", "/healthz", healthz_get, ROUTE_OPEN | ROUTE_DRAIN | ROUTE_BARE},
    {"GET", "/health", health_get, ROUTE_OPEN | ROUTE_DRAIN},
    {"GET", "/", root_get, ROUTE_DRAIN},
    {"POST", "/execute", execute_post, 0},
    {"GET", "/oauth/status", oauth_status, ROUTE_DRAIN},
    {"POST", "/oauth/refresh", oauth_refresh, 0},
    {"POST", "/oauth/login", oauth_login_begin, 0},
    {"GET", "/oauth/login/{id}", oauth_login_get, ROUTE_DRAIN},
    {"POST", "/oauth/login/{id}", oauth_login_code, 0},
    {"DELETE", "/oauth/login/{id}", oauth_login_cancel, ROUTE_DRAIN},
    {"GET", "/login", login_page, ROUTE_PAGE | ROUTE_DRAIN},
    {"GET", "/login/state", login_state, ROUTE_PAGE | ROUTE_DRAIN},
    {"GET", "/login/page.css", login_css, ROUTE_PAGE | ROUTE_DRAIN},
    {"GET", "/login/page.js", login_js, ROUTE_PAGE | ROUTE_DRAIN},
    {"POST", "/login/enter", login_enter, ROUTE_PAGE | ROUTE_DRAIN},
    {"POST", "/login/leave", login_leave, ROUTE_PAGE | ROUTE_DRAIN},
    {"POST", "/login/start", login_start, ROUTE_PAGE},
    {"POST", "/login/code", login_code, ROUTE_PAGE},
    {"POST", "/login/cancel", login_cancel, ROUTE_PAGE | ROUTE_DRAIN},
    {"POST", "/run", run_post, 0},
    {"POST", "/run-async", run_async_post, 0},
    {"GET", "/tasks", tasks_list, ROUTE_DRAIN},
    {"GET", "/tasks/status", tasks_status, ROUTE_DRAIN},
    {"GET", "/tasks/{id}", task_get, ROUTE_DRAIN},
    {"DELETE", "/tasks/{id}", task_cancel, ROUTE_DRAIN},
    {"GET", "/tasks/{id}/result", task_result, ROUTE_DRAIN},
    {"GET", "/tasks/{id}/events", task_events, ROUTE_DRAIN},
    {"POST", "/tasks/{id}/cancel", task_cancel, ROUTE_DRAIN},
    {"POST", "/tasks/{id}/redeliver", task_redeliver, 0},
    {"GET", "/tasks/{id}/outputs", outputs_list, ROUTE_DRAIN},
    {"GET", "/tasks/{id}/outputs.tgz", outputs_archive, ROUTE_DRAIN},
    {"GET", "/tasks/{id}/outputs/{path...}", output_get, ROUTE_DRAIN},
    {"GET", "/repos", repos_list, ROUTE_DRAIN},
    {"DELETE", "/repos", repos_remove, ROUTE_DRAIN},
    {"DELETE", "/repos/{id}", repos_remove, ROUTE_DRAIN},
    {"POST", "/cancel/{id}", task_cancel, ROUTE_DRAIN},
};

const struct http_route *api_routes(size_t *ret_count)
{
    *ret_count = COUNT_OF(routes);
    return routes;
}

void api_done(const struct http_request *req, int status, int64_t duration_us, void *arg)
{
    (void)arg;
    enum log_level level = status >= 500 ? LOG_WARN : LOG_DEBUG;
    log_set_request(http_id(req));
    log_at(level, "http", "%s %s %d %lld us", http_method(req), http_path(req), status,
           (long long)duration_us);
    log_set_request(NULL);
}

void api_trouble(const char *message, void *arg)
{
    (void)arg;
    log_warn("http", "%s", message);
}

void send_err(struct http_request *req, const struct err *err)
{
    if (err_http(err->code) == 500)
        log_error("http", "%s %s: %s", http_method(req), http_path(req), err->msg);
    if (err->code == ERR_RATE || err->code == ERR_BUSY)
        http_add_header(req, "Retry-After", err->code == ERR_RATE ? "10" : "5");
    http_send_error(req, err, NULL);
}

void send_json(struct http_request *req, int status, const struct buf *json)
{
    struct err err;
    if (buf_check(json, "the answer", &err)) {
        err.code = ERR_INTERNAL;
        send_err(req, &err);
        return;
    }
    http_send(req, status, "application/json", buf_str(json), json->len);
}

struct known_names {
    const char *const *names;
};

static const char *known_name(size_t index, void *arg)
{
    return ((const struct known_names *)arg)->names[index];
}

int check_query(struct http_request *req, const char *const known[], struct err *err)
{
    const char *name;
    struct known_names names = {known};
    for (size_t i = 0; (name = http_query_name(req, i)); i++) {
        size_t found = 0;
        while (known[found] && strcmp(known[found], name) != 0)
            found++;
        if (known[found])
            continue;
        const char *nearest = str_nearest(name, known_name, &names);
        return err_set(err, ERR_INVALID, "unknown query parameter '%.60s'%s%s%s", name,
                       nearest ? "; did you mean '" : "", nearest ? nearest : "",
                       nearest ? "'?" : "");
    }
    return 0;
}
