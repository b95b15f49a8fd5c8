/* The routes of Python, and the fields they accept. */
#include "base/str.h"
#include "runner/api/python.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 32
#define FILES_BYTES_MAX (8u << 20)
#define INPUT_MAX (1u << 20)
#define TTL_DEFAULT_S 1800
#define TTL_MAX_S 86400

/* --- reading fields ------------------------------------------------------------------------ */

struct fields {
    struct json *root;
    struct request_errors errors;
    struct err err; /* the first error */
    unsigned seen;  /* a bit for each name that was asked for */
};

static void wrong(struct fields *fields, const char *field, const char *message)
{
    if (fields->errors.count == 0)
        err_set(&fields->err, ERR_INVALID, "%s: %s", field, message);
    request_errors_add(&fields->errors, ERR_INVALID, field, message);
}

/* The member, or NULL when it is missing or null. */
static const struct json *member(const struct fields *fields, const char *name)
{
    const struct json *node = json_get(fields->root, name);
    return node && json_type(node) != JSON_NULL ? node : NULL;
}

static void read_int(struct fields *fields, const char *name, int low, int high, int *value)
{
    char message[120];
    int64_t whole;
    const struct json *node = member(fields, name);
    if (!node)
        return;
    if (json_int(node, &whole) || whole < low || whole > high) {
        snprintf(message, sizeof(message), "must be an integer of %d..%d", low, high);
        wrong(fields, name, message);
        return;
    }
    *value = (int)whole;
}

static void read_bool(struct fields *fields, const char *name, bool *value)
{
    const struct json *node = member(fields, name);
    if (node && json_bool(node, value))
        wrong(fields, name, "must be true or false");
}

static size_t count_characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static void read_code(struct fields *fields, char **ret_code)
{
    const struct json *node = member(fields, "code");
    const char *text = json_text(node);
    if (!node)
        wrong(fields, "code", "is required");
    else if (!text || str_is_blank(text, strlen(text)))
        wrong(fields, "code", "must be text that is not blank");
    else if (count_characters(text) > PYTHON_CODE_MAX)
        wrong(fields, "code", "must be at most 1000000 characters");
    else
        *ret_code = strdup(text);
}

static void read_input(struct fields *fields, char **ret_input)
{
    const struct json *node = member(fields, "stdin");
    const char *text = json_text(node);
    if (node && !text)
        wrong(fields, "stdin", "must be text");
    else if (text && strlen(text) > INPUT_MAX)
        wrong(fields, "stdin", "must be at most 1048576 bytes");
    else if (text)
        *ret_input = strdup(text);
}

static bool is_file_name(const char *name)
{
    if (!*name || *name == '/' || strlen(name) > 200)
        return false;
    for (const char *at = name; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL) {
        size_t n = strcspn(at, "/");
        if (n == 0 || (n == 1 && at[0] == '.') || (n == 2 && at[0] == '.' && at[1] == '.'))
            return false;
    }
    for (; *name; name++)
        if ((unsigned char)*name < 0x20 || *name == 0x7f)
            return false;
    return true;
}

/* Reads "text", {"text":"…"} or {"base64":"…"}, into base64. */
static int add_file(const char *name, const struct json *node, struct strlist *files, size_t *bytes)
{
    AUTO(buf) struct buf out = BUF_INIT(FILES_BYTES_MAX * 2);
    AUTO(buf) struct buf decoded = BUF_INIT(FILES_BYTES_MAX);
    const char *text = json_text(node), *base64 = NULL;
    if (!text)
        text = json_text(json_get(node, "text"));
    if (!text)
        text = json_text(json_get(node, "content"));
    if (!text && (!(base64 = json_text(json_get(node, "base64"))) ||
                  str_read_base64(base64, strlen(base64), &decoded)))
        return -1;
    if (text)
        str_add_base64(&out, BASE64_STD, text, strlen(text));
    else
        buf_adds(&out, base64);
    *bytes += out.len;
    strlist_add(files, name);
    return buf_ok(&out) ? strlist_add(files, buf_str(&out)) : -1;
}

/* Reads an object (name: content) or an array of {"name","text"|"base64"}. */
static void read_files(struct fields *fields, struct python_request *request)
{
    size_t bytes = 0;
    const struct json *node = member(fields, "files");
    if (!node)
        return;
    request->has_files = true;
    bool list = json_type(node) == JSON_ARRAY;
    if ((!list && json_type(node) != JSON_OBJECT) || json_count(node) > FILES_MAX) {
        wrong(fields, "files", "must be an object of at most 32 names with their contents");
        return;
    }
    for (const struct json *child = json_first(node); child; child = json_next(child)) {
        const char *name = list ? json_text(json_get(child, "name")) : json_name(child);
        if (!name || !is_file_name(name))
            wrong(fields, "files", "must have names of files below the working directory");
        else if (add_file(name, child, &request->files, &bytes))
            wrong(fields, "files", "must have text, {\"text\"} or {\"base64\"} as contents");
        if (fields->errors.count > 0)
            return;
    }
    if (bytes > FILES_BYTES_MAX)
        wrong(fields, "files", "must be at most 6 MiB together");
}

static void refuse_others(struct fields *fields, const char *const known[])
{
    for (const struct json *child = json_first(fields->root); child; child = json_next(child)) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], json_name(child)) != 0)
            i++;
        if (!known[i] && fields->errors.count < REQUEST_ERRORS_MAX)
            wrong(fields, json_name(child), "is not a field of this request");
    }
}

/* Reads the body. False after the answer. When `optional`, an empty body is an empty object. */
static bool begin_fields(struct http_request *req, struct fields *fields, struct buf *body,
                         bool optional)
{
    if (api_json_body(req, PYTHON_BODY_MAX, body, &fields->err)) {
        send_err(req, &fields->err);
        return false;
    }
    bool empty = optional && body->len == 0;
    fields->root =
        empty ? json_parse("{}", 2, &fields->err)
              : json_parse_within(buf_str(body), body->len, REQUEST_VALUES_MAX, &fields->err);
    if (fields->root && json_type(fields->root) == JSON_OBJECT)
        return true;
    if (fields->root)
        err_set(&fields->err, ERR_INVALID, "the body must be a JSON object");
    json_free(fields->root);
    fields->root = NULL;
    send_err(req, &fields->err);
    return false;
}

/* Frees the body. False after an answer that says what is wrong. */
static bool end_fields(struct http_request *req, struct fields *fields)
{
    bool good = fields->errors.count == 0;
    AUTO(buf) struct buf members = BUF_INIT(256u << 10);
    if (!good) {
        request_errors_print(&fields->errors, &members);
        http_send_error(req, &fields->err, buf_ok(&members) ? members.data : NULL);
    }
    json_free(fields->root);
    request_errors_done(&fields->errors);
    return good;
}

/* --- runs ---------------------------------------------------------------------------------- */

static void read_run(struct fields *fields, struct python_request *request)
{
    read_code(fields, &request->code);
    read_int(fields, "timeout", 1, PYTHON_TIMEOUT_MAX, &request->timeout_s);
    read_input(fields, &request->input);
    read_files(fields, request);
    read_bool(fields, "result", &request->result);
    read_bool(fields, "auto_print", &request->auto_print);
}

static void run(struct http_request *req, struct api *api, const char *session)
{
    static const char *const known[] = {"code",  "timeout", "memory_limit", "stdin",
                                        "files", "result",  "auto_print",   NULL};
    static const char *const in_session[] = {"code",   "timeout",    "stdin", "files",
                                             "result", "auto_print", NULL};
    struct fields fields = {0};
    struct python_request request = {
        .timeout_s = PYTHON_TIMEOUT, .memory_mb = PYTHON_MEMORY, .extras = true};
    AUTO(buf) struct buf body = BUF_INIT(PYTHON_BODY_MAX);
    if (!begin_fields(req, &fields, &body, false))
        return;
    read_run(&fields, &request);
    if (!session)
        read_int(&fields, "memory_limit", PYTHON_MEMORY_MIN, PYTHON_MEMORY_MAX, &request.memory_mb);
    refuse_others(&fields, session ? in_session : known);
    if (end_fields(req, &fields))
        api_python_answer(req, api, &request, session, PYTHON_STYLE_OWN, &body);
    else
        python_request_done(&request);
}

void api_python_post(struct http_request *req, void *arg)
{
    run(req, arg, NULL);
}

void api_python_session_exec(struct http_request *req, void *arg)
{
    char id[ID_SIZE];
    snprintf(id, sizeof(id), "%s", http_param(req, "id"));
    run(req, arg, id);
}

/* --- sessions ------------------------------------------------------------------------------ */

static void print_session(const struct python_session *session, const char *name,
                          struct json_writer *w)
{
    json_open_object(w, name);
    json_add_text(w, "sessionId", session->id);
    json_add_text(w, "state", session->busy ? "busy" : "ready");
    json_add_bool(w, "fresh", session->fresh);
    json_add_int(w, "memory_limit", session->memory_mb);
    json_add_int(w, "ttl", session->ttl_s);
    json_add_time(w, "createdAt", session->created_ms);
    json_add_time(w, "expiresAt", session->expires_ms);
    json_add_int(w, "runs", session->runs);
    json_add_int(w, "restarts", session->restarts);
    json_close(w);
}

static void send_session(struct http_request *req, int status, const struct python_session *session)
{
    struct json_writer w;
    AUTO(buf) struct buf out = BUF_INIT(4096);
    json_write(&w, &out);
    print_session(session, NULL, &w);
    send_json(req, status, &out);
}

/* The caller's name, which the caller of this function frees; NULL after an answer. */
static char *require_caller(struct http_request *req, const struct api *api)
{
    struct err err;
    char *name = caller_name(api, req);
    if (!name) {
        err_sys(&err, "session");
        send_err(req, &err);
    }
    return name;
}

void api_python_session_create(struct http_request *req, void *arg)
{
    static const char *const known[] = {"memory_limit", "ttl", NULL};
    struct api *api = arg;
    struct err err;
    struct fields fields = {0};
    struct python_session session;
    char location[ID_SIZE + 32];
    int memory_mb = PYTHON_MEMORY, ttl_s = TTL_DEFAULT_S;
    AUTO(buf) struct buf body = BUF_INIT(PYTHON_BODY_MAX);
    if (!begin_fields(req, &fields, &body, true))
        return;
    read_int(&fields, "memory_limit", PYTHON_MEMORY_MIN, PYTHON_MEMORY_MAX, &memory_mb);
    read_int(&fields, "ttl", 1, TTL_MAX_S, &ttl_s);
    refuse_others(&fields, known);
    if (!end_fields(req, &fields))
        return;
    AUTO(str) char *caller = require_caller(req, api);
    if (!caller)
        return;
    if (python_session_new(api->python, caller, memory_mb, ttl_s, &session, &err)) {
        send_err(req, &err);
        return;
    }
    snprintf(location, sizeof(location), "/python/sessions/%s", session.id);
    http_add_header(req, "Location", location);
    send_session(req, 201, &session);
}

static void add_session(const struct python_session *session, void *arg)
{
    print_session(session, NULL, arg);
}

void api_python_session_list(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct json_writer w;
    AUTO(buf) struct buf out = BUF_INIT(1u << 20);
    AUTO(str) char *caller = require_caller(req, api);
    if (!caller)
        return;
    json_write(&w, &out);
    json_open_object(&w, NULL);
    json_open_array(&w, "sessions");
    python_session_each(api->python, caller, add_session, &w);
    json_close(&w);
    json_close(&w);
    send_json(req, 200, &out);
}

typedef int session_act(struct python *python, const char *caller, const char *id, struct err *err);

/* Applies an action to the path's session, and shows it when it still exists. */
static void act(struct http_request *req, struct api *api, session_act *what)
{
    struct err err;
    struct python_session session;
    const char *id = http_param(req, "id");
    AUTO(str) char *caller = require_caller(req, api);
    if (!caller)
        return;
    if ((what && what(api->python, caller, id, &err)) ||
        python_session_get(api->python, caller, id, &session, &err))
        send_err(req, &err);
    else
        send_session(req, 200, &session);
}

void api_python_session_show(struct http_request *req, void *arg)
{
    act(req, arg, NULL);
}

void api_python_session_stop_run(struct http_request *req, void *arg)
{
    act(req, arg, python_session_interrupt);
}

void api_python_session_begin_again(struct http_request *req, void *arg)
{
    act(req, arg, python_session_restart);
}

void api_python_session_delete(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct err err;
    AUTO(str) char *caller = require_caller(req, api);
    if (!caller)
        return;
    if (python_session_end(api->python, caller, http_param(req, "id"), &err))
        send_err(req, &err);
    else
        http_send(req, 204, NULL, "", 0);
}
