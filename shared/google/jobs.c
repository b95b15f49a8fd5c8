#include "google/jobs.h"

#include "base/check.h"
#include "base/str.h"
#include "google/execution.h"
#include "google/limits.h"
#include "google/wire.h"

#include <stdio.h>
#include <string.h>

#define PATH_MAX_BYTES 8192
#define BODY_MAX (4u << 20)
#define PAGE_SIZE 100
#define MATCHES_MAX 10000
#define JOB_WAIT_MS 300000
#define START_TRIES 3 /* tries when certainly nothing was started; after that the queue waits */

/* Appends "/v2/", the name, and `rest`. */
static int make_path(struct buf *path, const char *what, const char *name, const char *after,
                     struct err *err)
{
    if (answer_check_name(what, name, err))
        return -1;
    buf_adds(path, "/v2/");
    str_add_url(path, name, "/");
    buf_adds(path, after);
    return buf_check(path, "the request's path", err);
}

/* --- start ---------------------------------------------------------------------------------- */

static void add_env(struct json_writer *w, const char *pair)
{
    const char *equals = strchrnul(pair, '=');
    json_open_object(w, NULL);
    json_add_textn(w, "name", pair, (size_t)(equals - pair));
    json_add_text(w, "value", *equals ? equals + 1 : "");
    json_close(w);
}

static void add_overrides(struct buf *body, const struct jobs_start *start)
{
    struct json_writer w;
    json_write(&w, body);
    json_open_object(&w, NULL);
    json_open_object(&w, "overrides");
    if (start->env && start->env[0]) {
        json_open_array(&w, "containerOverrides");
        json_open_object(&w, NULL);
        json_open_array(&w, "env");
        for (const char *const *pair = start->env; *pair; pair++)
            add_env(&w, *pair);
        json_close(&w);
        json_close(&w);
        json_close(&w);
    }
    if (start->timeout_s > 0) {
        char timeout[32];
        snprintf(timeout, sizeof(timeout), "%ds", start->timeout_s);
        json_add_text(&w, "timeout", timeout);
    }
    json_close(&w);
    json_close(&w);
}

/* Rewrites an execution's name so that it begins with our job's name: Google may write the
 * project's number where we have its id. False when it belongs to another job. */
static bool take_as_ours(const char *name, const char *job, char ret_name[RUN_NAME_SIZE])
{
    const char *place = strstr(job, "/locations/");
    const char *theirs = strstr(name, "/locations/");
    if (!place || !theirs || !str_starts(name, "projects/"))
        return false;
    size_t len = strlen(place);
    if (strncmp(theirs, place, len) != 0 || !str_starts(theirs + len, "/executions/") ||
        strchr(theirs + len + strlen("/executions/"), '/') ||
        (size_t)(place - job) + strlen(theirs) >= RUN_NAME_SIZE)
        return false;
    snprintf(ret_name, RUN_NAME_SIZE, "%.*s%s", (int)(place - job), job, theirs);
    return true;
}

/* Reads the execution's name: it is the operation's metadata, and also the response of a finished
 * operation. */
static int take_name(const struct json *operation, const char *job, char ret_name[RUN_NAME_SIZE],
                     struct err *err)
{
    static const char *const places[] = {"metadata", "response"};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        const char *name = json_text(json_get(json_get(operation, places[i]), "name"));
        if (name && take_as_ours(name, job, ret_name))
            return 0;
    }
    return err_set(err, ERR_UPSTREAM, "Cloud Run: the answer does not name the execution");
}

int jobs_start(struct google *google, const char *job, const struct jobs_start *start,
               char ret_name[RUN_NAME_SIZE], bool *ret_unsure, struct err *err)
{
    REQUIRE(ret_name && ret_unsure);
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_BYTES);
    AUTO(buf) struct buf body = BUF_INIT(BODY_MAX);
    AUTO(json) struct json *operation = NULL;
    struct google_answer answer = {0};
    *ret_unsure = false;
    add_overrides(&body, start);
    if (make_path(&path, "a job", job, ":run", err) || buf_check(&body, "the request", err))
        return -1;
    const struct google_call call = {.api = GOOGLE_RUN,
                                     .method = "POST",
                                     .path = buf_str(&path),
                                     .body = body.data,
                                     .body_len = body.len,
                                     .retry = GOOGLE_ONCE,
                                     .tries = START_TRIES};
    if (google_call(google, &call, &operation, &answer, err)) {
        *ret_unsure = answer.unsure;
        return -1;
    }
    const struct json *error = answer_error(operation);
    if (error)
        return answer_fail_status(GOOGLE_RUN, error, err);
    *ret_unsure = true;
    if (take_name(operation, job, ret_name, err))
        return -1;
    *ret_unsure = false;
    return 0;
}

/* --- executions ----------------------------------------------------------------------------- */

static int get(struct google *google, const char *what, const char *name, const char *after,
               struct json **ret_json, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_BYTES);
    if (make_path(&path, what, name, after, err))
        return -1;
    const struct google_call call = {.api = GOOGLE_RUN, .method = "GET", .path = buf_str(&path)};
    return google_call(google, &call, ret_json, NULL, err);
}

int jobs_get(struct google *google, const char *execution, struct jobs_execution *ret_execution,
             struct err *err)
{
    AUTO(json) struct json *json = NULL;
    return get(google, "an execution", execution, "", &json, err) ||
                   execution_read(json, ret_execution, err)
               ? -1
               : 0;
}

struct matches {
    struct jobs_execution *items;
    size_t count, room;
};

static int add_match(struct matches *matches, const struct jobs_execution *execution,
                     struct err *err)
{
    if (matches->count == MATCHES_MAX)
        return err_set(err, ERR_TOO_LARGE, "Cloud Run: more than %d executions match", MATCHES_MAX);
    if (matches->count == matches->room) {
        size_t room = matches->room ? 2 * matches->room : 4;
        struct jobs_execution *items = realloc(matches->items, room * sizeof(*items));
        if (!items)
            return err_sys(err, "executions");
        matches->items = items;
        matches->room = room;
    }
    matches->items[matches->count++] = *execution;
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = ((const struct jobs_execution *)a)->created_ms;
    int64_t y = ((const struct jobs_execution *)b)->created_ms;
    return x < y ? 1 : x > y ? -1 : 0;
}

static int match_page(const struct json *page, const char *job, const char *name, const char *value,
                      int64_t since_ms, struct matches *matches, struct err *err)
{
    const struct json *all = json_get(page, "executions");
    for (const struct json *one = json_first(all); one; one = json_next(one)) {
        struct jobs_execution execution;
        if (!execution_has_env(one, name, value))
            continue;
        char own[RUN_NAME_SIZE];
        if (execution_read(one, &execution, err))
            return -1;
        if (take_as_ours(execution.name, job, own))
            snprintf(execution.name, sizeof(execution.name), "%s", own);
        if (execution.created_ms && execution.created_ms < since_ms)
            continue;
        if (add_match(matches, &execution, err))
            return -1;
    }
    return 0;
}

/* Reads all pages, whatever their order: a missed execution would be started a second time. */
static int collect(struct google *google, const char *job, const char *name, const char *value,
                   int64_t since_ms, struct matches *matches, struct err *err)
{
    AUTO(str) char *token = NULL;
    for (int pages = 0; pages < PAGES_MAX; pages++) {
        AUTO(json) struct json *page = NULL;
        AUTO(buf) struct buf after = BUF_INIT(PATH_MAX_BYTES);
        buf_addf(&after, "/executions?pageSize=%d", PAGE_SIZE);
        if (token) {
            buf_adds(&after, "&pageToken=");
            google_add_escaped(&after, token);
        }
        if (buf_check(&after, "a page's token", err) ||
            get(google, "a job", job, buf_str(&after), &page, err) ||
            match_page(page, job, name, value, since_ms, matches, err))
            return -1;
        int rc = answer_next_page(GOOGLE_RUN, page, &token, err);
        if (rc <= 0)
            return rc;
    }
    return err_set(err, ERR_UPSTREAM, "Cloud Run: the list does not end");
}

int jobs_find(struct google *google, const char *job, const char *name, const char *value,
              int64_t since_ms, int (*fn)(const struct jobs_execution *execution, void *arg),
              void *arg, struct err *err)
{
    REQUIRE(name && value && fn);
    struct matches matches = {0};
    int rc = collect(google, job, name, value, since_ms, &matches, err);
    if (rc == 0 && matches.count > 0) {
        qsort(matches.items, matches.count, sizeof(matches.items[0]), newest_first);
        for (size_t i = 0; i < matches.count && fn(&matches.items[i], arg) == 0; i++)
            continue;
    }
    free(matches.items);
    return rc;
}

int jobs_cancel(struct google *google, const char *execution, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_BYTES);
    struct jobs_execution now;
    struct err ignored = ERR_INIT;
    if (make_path(&path, "an execution", execution, ":cancel", err))
        return -1;
    const struct google_call call = {
        .api = GOOGLE_RUN, .method = "POST", .path = buf_str(&path), .body = "{}", .body_len = 2};
    if (google_call(google, &call, NULL, NULL, err) == 0)
        return 0;
    bool refused = err->code == ERR_INVALID || err->code == ERR_CONFLICT;
    return refused && jobs_get(google, execution, &now, &ignored) == 0 && now.state >= RUN_SUCCEEDED
               ? 0
               : -1;
}

int jobs_exit_code(struct google *google, const char *execution, int *ret_code, struct err *err)
{
    AUTO(json) struct json *json = NULL;
    int64_t code = -1, status = 0;
    if (get(google, "an execution", execution, "/tasks", &json, err))
        return -1;
    const struct json *task = json_first(json_get(json, "tasks"));
    const struct json *result = json_get(task, "lastAttemptResult");
    if (result && answer_int(result, "exitCode", &code)) { /* Google leaves out a zero. */
        answer_int(json_get(result, "status"), "code", &status);
        code = status == 0 ? 0 : -1;
    }
    *ret_code = code >= 0 && code <= 255 ? (int)code : -1;
    return 0;
}

/* --- jobs ----------------------------------------------------------------------------------- */

int jobs_job_get(struct google *google, const char *job, struct json **ret_job, struct err *err)
{
    return get(google, "a job", job, "", ret_job, err);
}

/* A job projects/P/locations/L/jobs/J is created by "/v2/projects/P/locations/L/jobs?jobId=J". */
static int make_create_path(struct buf *path, const char *job, struct err *err)
{
    const char *id = strstr(job, "/jobs/");
    if (!id || strchr(id + strlen("/jobs/"), '/'))
        return err_set(err, ERR_INVALID, "'%.120s' is no name of a job", job);
    AUTO(str) char *parent = str_copy(job, (size_t)(id - job));
    if (!parent)
        return err_sys(err, "a job's name");
    if (make_path(path, "a location", parent, "/jobs?jobId=", err))
        return -1;
    google_add_escaped(path, id + strlen("/jobs/"));
    return buf_check(path, "the request's path", err);
}

int jobs_job_put(struct google *google, const char *job, const char *definition, size_t len,
                 bool exists, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_BYTES);
    AUTO(buf) struct buf wait = BUF_INIT(PATH_MAX_BYTES);
    AUTO(json) struct json *operation = NULL;
    struct google_answer answer = {0};
    if (exists ? make_path(&path, "a job", job, "", err) : make_create_path(&path, job, err))
        return -1;
    const struct google_call call = {.api = GOOGLE_RUN,
                                     .method = exists ? "PATCH" : "POST",
                                     .path = buf_str(&path),
                                     .body = definition,
                                     .body_len = len};
    if (google_call(google, &call, &operation, &answer, err)) {
        /* An earlier try, whose answer was lost, has made it. */
        bool made = !exists && err->code == ERR_CONFLICT && answer.unsure;
        return made ? jobs_job_put(google, job, definition, len, true, err) : -1;
    }
    const char *name = json_text(json_get(operation, "name"));
    if (!name)
        return err_set(err, ERR_UPSTREAM, "Cloud Run: the answer names no operation");
    return make_path(&wait, "an operation", name, "", err) ||
                   google_await(google, GOOGLE_RUN, operation, buf_str(&wait), JOB_WAIT_MS, NULL,
                                err)
               ? -1
               : 0;
}
