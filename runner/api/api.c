#include "runner/api/api.h"

#include "base/log.h"
#include "base/str.h"
#include "runner/api/numbers.h"
#include "runner/api/routes.h"

#include <string.h>
#include <strings.h>

static const struct http_route routes[] = {
#define ROUTE_ROW(method, path, handler, flags, ...) {(method), (path), (handler), (flags)},
    API_ROUTES(ROUTE_ROW)
#undef ROUTE_ROW
};

const struct route_text api_route_texts[] = {
#define TEXT_ROW(method, path, handler, flags, ...) {__VA_ARGS__},
    API_ROUTES(TEXT_ROW)
#undef TEXT_ROW
};

const struct http_route *api_routes(size_t *ret_count)
{
    *ret_count = COUNT_OF(routes);
    return routes;
}

void api_answering(const struct http_request *req, int status, void *arg)
{
    record_request(arg, req, status);
}

void api_done(const struct http_request *req, int status, int64_t duration_us, void *arg)
{
    struct api *api = arg;
    bool ours = status >= 500 && status != 501 && status != 505; /* Those are caused by the
                                                                  * caller. */
    enum log_level level = ours ? LOG_WARN : LOG_DEBUG;
    api_numbers_add(api->numbers, http_served_by(req), status, duration_us);
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

bool meets_condition(struct http_request *req, const char *etag)
{
    struct err err;
    int status = http_condition(req, etag);
    http_add_header(req, "ETag", etag);
    if (status == 0)
        return true;
    if (status == 304) {
        http_send(req, 304, NULL, NULL, 0);
    } else {
        err_set(&err, ERR_PRECONDITION, "it has changed: its ETag is %s now", etag);
        send_err(req, &err);
    }
    return false;
}

/* True for JSON's media type with an allowed charset, and for the types that `curl -d` and fetch()
 * send by default. */
static bool says_json(const char *type)
{
    size_t n = strcspn(type, "; \t");
    const char *charset = strcasestr(type + n, "charset=");
    if (charset && strncasecmp(charset + 8, "utf-8", 5) != 0 &&
        strncasecmp(charset + 8, "\"utf-8\"", 7) != 0)
        return false;
    static const char *const types[] = {"application/json", "text/json",
                                        "application/x-www-form-urlencoded", "text/plain"};
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (strlen(types[i]) == n && strncasecmp(type, types[i], n) == 0)
            return true;
    return n == 0 || (n > 5 && strncasecmp(type + n - 5, "+json", 5) == 0);
}

int api_json_body(struct http_request *req, size_t max, struct buf *out, struct err *err)
{
    const char *type = http_header(req, "Content-Type");
    if (type && !says_json(type))
        return err_set(
            err, ERR_MEDIA_TYPE,
            "the body must be JSON in UTF-8 (Content-Type: application/json), got '%.80s'", type);
    return http_body(req, max, out, err);
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
