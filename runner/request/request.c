#include "runner/request/request.h"

#include "base/check.h"
#include "base/str.h"
#include "runner/request/rows.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct request_row request_rows[REQUEST_ROWS] = {
#define REQUEST_ROW(kind_, member, name_, aliases_, takes_, default_, flags_, cli_, help_) \
    {.kind = KIND_##kind_,                                                                 \
     .name = (name_),                                                                      \
     .aliases = (aliases_),                                                                \
     .takes = {takes_},                                                                    \
     .default_text = (default_),                                                           \
     .flags = (flags_),                                                                    \
     .cli = (cli_),                                                                        \
     .help = (help_),                                                                      \
     .offset = offsetof(struct task_request, member)},
    REQUEST_FIELDS(REQUEST_ROW)
#undef REQUEST_ROW
};

void *request_member(const struct task_request *request, const struct request_row *row)
{
    return (char *)(uintptr_t)request + row->offset;
}

static void clear_member(const struct task_request *request, const struct request_row *row)
{
    void *member = request_member(request, row);
    char *text;
    switch (request_form(row)) {
    case FORM_STRING:
    case FORM_JSON:
        text = *(char **)member;
        if (text && (row->flags & REQUEST_SECRET))
            explicit_bzero(text, strlen(text));
        free(text);
        *(char **)member = NULL;
        return;
    case FORM_LIST:
        strlist_done(member);
        return;
    case FORM_INT:
    case FORM_ENUM:
    case FORM_NUMBER:
    case FORM_BOOL:
        return;
    }
}

void task_request_free(struct task_request *request)
{
    if (!request)
        return;
    for (size_t i = 0; i < REQUEST_ROWS; i++)
        clear_member(request, &request_rows[i]);
    free(request);
}

size_t request_parent_length(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot - name) : 0;
}

/* A request, or a saved request, being read. */
struct reading {
    const char *text;
    size_t len;
    unsigned where;
    bool saved; /* it was saved by us: complete, and all of its fields are supported */
    struct task_request *request;
    struct request_errors *errors;
    const char *given[REQUEST_ROWS]; /* the spelling by which each row was given, or NULL */
};

static void wrong(struct reading *r, enum err_code code, const char *field, const char *message)
{
    request_errors_add(r->errors, code, field, message);
}

/* True when `name`, in the object whose path is `path`, is the row's name or one of its aliases. */
static bool is_row(const struct request_row *row, const char *path, const char *name)
{
    size_t parent = request_parent_length(row->name);
    if (strlen(path) != parent || strncmp(row->name, path, parent) != 0)
        return false;
    if (strcmp(row->name + parent + (parent > 0), name) == 0)
        return true;
    size_t len = strlen(name);
    for (const char *alias = row->aliases; alias; alias = strchr(alias, '|')) {
        alias += *alias == '|';
        if (strncmp(alias, name, len) == 0 && (alias[len] == '\0' || alias[len] == '|'))
            return true;
    }
    return false;
}

static bool is_offered(const struct reading *r, const struct request_row *row)
{
    return (row->flags & r->where) != 0;
}

struct hint {
    const struct reading *r;
    const char *path;
};

/* Names in the object, for str_nearest(); rows of other objects as "", which resembles nothing. */
static const char *next_name(size_t index, void *arg)
{
    const struct hint *hint = arg;
    if (index >= REQUEST_ROWS)
        return NULL;
    const struct request_row *row = &request_rows[index];
    size_t parent = request_parent_length(row->name);
    if (!is_offered(hint->r, row) || strlen(hint->path) != parent ||
        strncmp(row->name, hint->path, parent) != 0)
        return "";
    return row->name + parent + (parent > 0);
}

/* Which requests have the field when this one may not have it, or NULL. */
static const char *who_takes(const char *path, const char *name)
{
    static const struct {
        unsigned where;
        const char *what;
    } requests[] = {
        {REQUEST_CLAUDE, "Claude"}, {REQUEST_COMMAND, "commands"}, {REQUEST_PYTHON, "Python"}};
    for (size_t i = 0; i < REQUEST_ROWS; i++)
        for (size_t k = 0; is_row(&request_rows[i], path, name) && k < COUNT_OF(requests); k++)
            if (request_rows[i].flags & requests[k].where)
                return requests[k].what;
    return NULL;
}

static void unknown_field(struct reading *r, const char *path, const char *name)
{
    char message[240];
    struct hint hint = {r, path};
    const char *dot = *path ? "." : "";
    const char *taker = who_takes(path, name);
    const char *near = taker ? NULL : str_nearest(name, next_name, &hint);
    AUTO(str) char *field = NULL;
    if (asprintf(&field, "%s%s%s", path, dot, name) < 0) {
        field = NULL;
        r->errors->more++;
        return;
    }
    int n = snprintf(message, sizeof(message), "unknown field '%.*s'", (int)request_cut(field, 60),
                     field);
    if (taker)
        snprintf(message + n, sizeof(message) - (size_t)n, " here: it is for %s", taker);
    else if (near)
        snprintf(message + n, sizeof(message) - (size_t)n, "; did you mean '%s%s%s'?", path, dot,
                 near);
    wrong(r, ERR_INVALID, field, message);
}

/* True for a value that asks for nothing, which every request may have. */
static bool is_nothing(const struct json *value)
{
    bool flag = true;
    if (json_bool(value, &flag) == 0)
        return !flag;
    return (json_type(value) == JSON_ARRAY || json_type(value) == JSON_OBJECT) &&
           !json_first(value);
}

/* Stores the bytes of a top-level member as the caller sent them. */
static int read_raw(struct reading *r, const struct request_row *row, const char *spelling,
                    struct err *err)
{
    size_t len;
    const char *raw = json_raw_member(r->text, r->len, spelling, &len);
    if (raw && (double)len > row->takes.max)
        return err_set(err, ERR_INVALID, "is too long: at most %.0f bytes, got %zu", row->takes.max,
                       len);
    char *copy = raw ? str_copy(raw, len) : NULL;
    if (!copy)
        return err_set(err, ERR_INTERNAL, "does not fit into memory");
    *(char **)request_member(r->request, row) = copy;
    return 0;
}

static void read_object(struct reading *r, const char *path, const struct json *object);

static void read_group(struct reading *r, const struct request_row *row, const struct json *value)
{
    char message[120];
    if (json_type(value) == JSON_OBJECT) {
        *(bool *)request_member(r->request, row) = true;
        read_object(r, row->name, value);
        return;
    }
    snprintf(message, sizeof(message), "must be an object, got %s",
             json_type_name(json_type(value)));
    wrong(r, ERR_INVALID, row->name, message);
}

/* True for fields that some kind of request requires: an empty one is wrong, not absent. */
static bool is_needed(size_t index)
{
    return index == ROW_prompt || index == ROW_command || index == ROW_code;
}

/* True for null, "" and, for limits, 0: published clients send these for fields that are not
 * set. */
static bool counts_as_absent(const struct reading *r, size_t index, const struct json *value)
{
    double number = 1;
    const struct request_row *row = &request_rows[index];
    const char *text = json_text(value);
    if (json_type(value) == JSON_NULL)
        return true;
    if (r->saved) /* In what we saved every value counts. */
        return false;
    if (text && *text == '\0')
        return !is_needed(index) && row->kind != KIND_JSON;
    return (row->flags & REQUEST_ZERO) && json_number(value, &number) == 0 && number == 0;
}

static void read_field(struct reading *r, size_t index, const char *spelling,
                       const struct json *value)
{
    const struct request_row *row = &request_rows[index];
    const char *shown = strchr(row->name, '.') ? row->name : spelling;
    struct err err = ERR_INIT;
    char twice[160];
    if (counts_as_absent(r, index, value))
        return;
    if (r->given[index]) {
        snprintf(twice, sizeof(twice), "was also given as '%s'", r->given[index]);
        wrong(r, ERR_INVALID, shown, twice);
        return;
    }
    r->given[index] = spelling;
    if (row->kind == KIND_GROUP) {
        read_group(r, row, value);
        return;
    }
    int rc = row->kind == KIND_JSON
                 ? read_raw(r, row, spelling, &err)
                 : request_decode_value(row, value, request_member(r->request, row), &err);
    if (rc)
        wrong(r, ERR_INVALID, shown, err.msg);
    else if ((row->flags & REQUEST_LATER) && !r->saved && !is_nothing(value))
        wrong(r, ERR_NOT_SUPPORTED_YET, shown, "is not supported yet");
}

static void read_object(struct reading *r, const char *path, const struct json *object)
{
    for (const struct json *child = json_first(object); child; child = json_next(child)) {
        const char *name = json_name(child);
        size_t i = 0;
        if (r->errors->count ==
            REQUEST_ERRORS_MAX) { /* A million wrong names are not worth a search. */
            r->errors->more++;
            return;
        }
        while (i < REQUEST_ROWS &&
               !(is_offered(r, &request_rows[i]) && is_row(&request_rows[i], path, name)))
            i++;
        if (i < REQUEST_ROWS)
            read_field(r, i, name, child);
        else
            unknown_field(r, path, name);
    }
}

const struct request_pair request_exclusive[] = {
    {ROW_timeout_minutes, ROW_timeout_ms},
    {ROW_anthropic_api_key, ROW_anthropic_oauth_token},
    {ROW_prompt, ROW_code},
};
const size_t request_exclusive_count = COUNT_OF(request_exclusive);

static void check_exclusive(struct reading *r)
{
    char message[160];
    for (size_t i = 0; i < COUNT_OF(request_exclusive); i++) {
        const char *first = r->given[request_exclusive[i].first],
                   *second = r->given[request_exclusive[i].second];
        if (!first || !second)
            continue;
        snprintf(message, sizeof(message), "can't be given together with '%s'", first);
        wrong(r, ERR_INVALID, second, message);
    }
}

static void check_required(struct reading *r)
{
    bool code = r->given[ROW_code] != NULL;
    if ((r->where & REQUEST_CLAUDE) && !r->given[ROW_prompt] && !code)
        wrong(r, ERR_INVALID, "prompt", "is required");
    else if (r->where == REQUEST_PYTHON && !code)
        wrong(r, ERR_INVALID, "code", "is required");
    else if (r->where == REQUEST_COMMAND && !r->given[ROW_command])
        wrong(r, ERR_INVALID, "command", "is required");
}

static int copy_default(const struct reading *r, int row, char **member, const char *text)
{
    if (r->given[row] || !text)
        return 0;
    *member = strdup(text);
    return *member ? 0 : -1;
}

/* Fills in defaults. -1 when memory ran out. */
static int fill_defaults(struct reading *r, const struct request_defaults *defaults)
{
    struct task_request *request = r->request;
    if (request->timeout_minutes > 0)
        request->timeout_ms = request->timeout_minutes * 60000;
    else if (!r->given[ROW_timeout_ms])
        request->timeout_ms = defaults->timeout_minutes * 60000;
    request->timeout_minutes = 0;
    if (!r->given[ROW_priority])
        request->priority = 5;
    for (char *p = request->resume_session_id; p && *p; p++)
        *p = (char)tolower((unsigned char)*p);
    if (!(r->where & REQUEST_CLAUDE) || r->given[ROW_code])
        return 0;
    if (!r->given[ROW_allowed_tools] && defaults->allowed_tools)
        for (size_t i = 0; i < defaults->allowed_tools->count; i++)
            if (strlist_add(&request->allowed_tools, defaults->allowed_tools->items[i]))
                return -1;
    if (request->permission_mode && strcmp(request->permission_mode, "manual") == 0) {
        free(request->permission_mode); /* A newer name; all CLIs accept the old one. */
        request->permission_mode = strdup("default");
        if (!request->permission_mode)
            return -1;
    }
    const char *mode = defaults->free_mode && request->allowed_tools.count == 0
                           ? defaults->free_mode
                           : defaults->permission_mode;
    return copy_default(r, ROW_permission_mode, &request->permission_mode, mode) ||
                   copy_default(r, ROW_model, &request->model, defaults->model) ||
                   copy_default(r, ROW_system_prompt, &request->system_prompt,
                                defaults->system_prompt)
               ? -1
               : 0;
}

/* Puts a summary of the errors into *err. Returns -1 when there are any. */
static int sum_up(const struct request_errors *errors, struct err *err)
{
    const struct request_error *first = NULL;
    if (errors->count == 0 && errors->more == 0)
        return 0;
    for (size_t i = 0; i < errors->count; i++)
        if (!first || (first->code != ERR_INVALID && errors->items[i].code == ERR_INVALID))
            first = &errors->items[i];
    if (!first)
        return err_set(err, ERR_INTERNAL, "out of memory");
    char more[40] = "";
    if (errors->count + errors->more > 1)
        snprintf(more, sizeof(more), " (and %zu more)", errors->count + errors->more - 1);
    bool whole = str_starts(first->message, "unknown field");
    return err_set(err, first->code, "%s%s%.*s%s", whole ? "" : first->field, whole ? "" : " ",
                   (int)request_cut(first->message, 120), first->message, more);
}

/* Reads one JSON text into r->request. */
static int read_text(struct reading *r, struct err *err)
{
    size_t max_values = r->saved ? SIZE_MAX : REQUEST_VALUES_MAX;
    AUTO(json) struct json *tree = json_parse_within(r->text, r->len, max_values, err);
    if (!tree)
        return -1;
    if (json_type(tree) != JSON_OBJECT)
        return err_set(err, ERR_INVALID, "the body must be a JSON object, got %s",
                       json_type_name(json_type(tree)));
    read_object(r, "", tree);
    if (!r->saved) {
        check_exclusive(r);
        check_required(r);
    }
    for (size_t i = 0; i < REQUEST_ROWS; i++)
        r->given[i] = r->given[i] ? request_rows[i].name : NULL; /* The tree's names are freed with
                                                                  * it. */
    return sum_up(r->errors, err);
}

struct task_request *task_request_decode(const char *body, size_t len,
                                         const struct request_defaults *defaults,
                                         struct request_errors *errors, struct err *err)
{
    AUTO(task_request) struct task_request *request = calloc(1, sizeof(*request));
    struct reading r = {
        .text = body, .len = len, .where = defaults->where, .request = request, .errors = errors};
    if (!request) {
        err_set(err, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    if (read_text(&r, err))
        return NULL;
    if (fill_defaults(&r, defaults)) {
        err_set(err, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    return STEAL_PTR(request);
}

struct task_request *task_request_load(const char *saved, size_t saved_len, const char *secrets,
                                       size_t secrets_len, struct err *err)
{
    REQUIRE(saved);
    AUTO(request_errors) struct request_errors errors = {0};
    AUTO(task_request) struct task_request *request = calloc(1, sizeof(*request));
    struct reading r = {.text = saved,
                        .len = saved_len,
                        .where = REQUEST_TASK,
                        .saved = true,
                        .request = request,
                        .errors = &errors};
    if (!request) {
        err_set(err, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    int rc = read_text(&r, err);
    if (rc == 0 && secrets) {
        r.text = secrets;
        r.len = secrets_len;
        rc = read_text(&r, err);
    }
    if (rc) {
        err_wrap(err, "saved request");
        err->code = ERR_INTERNAL;
        return NULL;
    }
    return STEAL_PTR(request);
}
