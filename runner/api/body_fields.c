#include "runner/api/body_fields.h"

#include "base/check.h"
#include "base/id.h"
#include "base/str.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

struct names {
    const struct field *fields;
    size_t count;
};

static const char *name_at(size_t index, void *arg)
{
    const struct names *names = arg;
    return index < names->count ? names->fields[index].name : NULL;
}

void send_field_errors(struct http_request *req, const struct request_errors *errors)
{
    struct err err;
    AUTO(buf) struct buf members = BUF_INIT(1u << 20);
    request_errors_print(errors, &members);
    size_t more = errors->count > 0 ? errors->count - 1 + errors->more : 0;
    const char *message = errors->count > 0 ? errors->items[0].message : "the body is wrong";
    const char *field = errors->count > 0 ? errors->items[0].field : "";
    const char *colon = *field && strncmp(message, "unknown", 7) != 0 ? ": " : "";
    if (more > 0)
        err_set(&err, ERR_INVALID, "%s%s%s (and %zu more)", *colon ? field : "", colon, message,
                more);
    else
        err_set(&err, ERR_INVALID, "%s%s%s", *colon ? field : "", colon, message);
    if (errors->count > 0)
        err.code = errors->items[0].code;
    http_send_error(req, &err, buf_ok(&members) ? buf_str(&members) : NULL);
}

void send_field_error(struct http_request *req, const char *field, const char *message)
{
    struct request_errors errors = {0};
    request_errors_add(&errors, ERR_INVALID, field, message);
    send_field_errors(req, &errors);
    request_errors_done(&errors);
}

/* Stores a value. True, with the message in text, when the value does not fit the field. */
static bool refuse(const struct field *field, const struct json *value, char *text, size_t size)
{
    int64_t number;
    const char *string = json_text(value);
    switch (field->kind) {
    case FIELD_TEXT:
    case FIELD_EMPTY:
        if (!string) {
            snprintf(text, size, "must be a string, got %s", json_type_name(json_type(value)));
            return true;
        }
        if (field->max > 0 && strlen(string) > (size_t)field->max) {
            snprintf(text, size, "must have at most %lld bytes", (long long)field->max);
            return true;
        }
        if (*string || field->kind == FIELD_EMPTY)
            *(const char **)field->to = string;
        return false;
    case FIELD_INT:
        if (json_int(value, &number)) {
            snprintf(text, size, "must be a whole number, got %s",
                     json_type_name(json_type(value)));
            return true;
        }
        if (field->zero && number == 0)
            return false;
        if (number < field->min || number > field->max) {
            snprintf(text, size, "must be %lld..%lld, got %lld", (long long)field->min,
                     (long long)field->max, (long long)number);
            return true;
        }
        *(int64_t *)field->to = number;
        return false;
    case FIELD_BOOL:
        if (json_bool(value, field->to))
            snprintf(text, size, "must be true or false, got %s", json_type_name(json_type(value)));
        return json_type(value) != JSON_BOOL;
    case FIELD_ANY:
        *(const struct json **)field->to = value;
        return false;
    case FIELD_NODE:
        if (json_type(value) != JSON_OBJECT)
            snprintf(text, size, "must be an object, got %s", json_type_name(json_type(value)));
        else
            *(const struct json **)field->to = value;
        return json_type(value) != JSON_OBJECT;
    }
    return true;
}

/* True for the name itself and for its snake_case spelling. */
static bool is_named(const char *given, const char *name)
{
    for (; *name; name++, given++) {
        if (isupper((unsigned char)*name) && given[0] == '_' &&
            given[1] == tolower((unsigned char)*name))
            given++;
        else if (*given != *name)
            return false;
    }
    return !*given;
}

static void read_member(const struct json *member, const struct names *names,
                        struct request_errors *errors)
{
    char text[200];
    struct names copy = *names;
    for (size_t i = 0; i < names->count; i++) {
        if (!is_named(json_name(member), names->fields[i].name))
            continue;
        if (json_type(member) != JSON_NULL && refuse(&names->fields[i], member, text, sizeof(text)))
            request_errors_add(errors, ERR_INVALID, json_name(member), text);
        return;
    }
    if (errors->count == REQUEST_ERRORS_MAX) { /* Only counted: comparing names takes time. */
        errors->more++;
        return;
    }
    const char *nearest = str_nearest(json_name(member), name_at, &copy);
    snprintf(text, sizeof(text), "unknown field '%.60s'%s%s%s", json_name(member),
             nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    request_errors_add(errors, ERR_INVALID, json_name(member), text);
}

static void miss_required(const struct json *body, const struct names *names,
                          struct request_errors *errors)
{
    for (size_t i = 0; i < names->count; i++) {
        const struct field *field = &names->fields[i];
        const struct json *value = json_get(body, field->name);
        bool blank = field->kind == FIELD_TEXT && json_text(value) && !*json_text(value);
        if (field->required && (!value || json_type(value) == JSON_NULL || blank))
            request_errors_add(errors, ERR_INVALID, field->name, "is required");
    }
}

struct json *body_read(struct http_request *req, const struct field *fields, size_t count,
                       struct request_errors *errors)
{
    REQUIRE(fields && errors);
    struct err err;
    struct names names = {fields, count};
    AUTO(buf) struct buf text = BUF_INIT(API_BODY_MAX + 1);
    if (api_json_body(req, API_BODY_MAX, &text, &err)) {
        send_err(req, &err);
        return NULL;
    }
    if (text.len == 0)
        buf_adds(&text, "{}");
    struct json *body = json_parse_within(buf_str(&text), text.len, REQUEST_VALUES_MAX, &err);
    if (body && json_type(body) != JSON_OBJECT) {
        err_set(&err, ERR_INVALID, "the body must be a JSON object");
        json_free(body);
        body = NULL;
    }
    if (!body) {
        send_err(req, &err);
        return NULL;
    }
    for (const struct json *at = json_first(body); at; at = json_next(at))
        read_member(at, &names, errors);
    miss_required(body, &names, errors);
    return body;
}

bool body_refused(struct http_request *req, struct request_errors *errors)
{
    bool refused = errors->count > 0 || errors->more > 0;
    if (refused)
        send_field_errors(req, errors);
    request_errors_done(errors);
    return refused;
}

struct json *body_fields(struct http_request *req, const struct field *fields, size_t count)
{
    struct request_errors errors = {0};
    struct json *body = body_read(req, fields, count, &errors);
    if (!body || !body_refused(req, &errors))
        return body;
    json_free(body);
    return NULL;
}

/* --- queries ------------------------------------------------------------------------------- */

/* Whether an earlier parameter has that name. */
static bool is_repeated(struct http_request *req, size_t at, const char *name)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(http_query_name(req, i), name) == 0)
            return true;
    return false;
}

bool query_refused(struct http_request *req, const char *const known[])
{
    struct err err;
    const char *name;
    bool wrong = check_query(req, known, &err) != 0;
    for (size_t i = 0; (name = http_query_name(req, i)); i++) {
        size_t at = 0;
        while (known[at] && strcmp(known[at], name) != 0)
            at++;
        if (wrong ? !known[at] : is_repeated(req, i, name))
            break;
    }
    if (wrong || name)
        send_field_error(req, name ? name : "", wrong ? err.msg : "is there twice");
    return wrong || name;
}

int query_number(struct http_request *req, const char *name, int64_t max, int64_t *ret_value)
{
    char why[128];
    const char *text = http_query(req, name);
    if (!text || !*text || str_to_int(text, 0, max, ret_value) == 0)
        return 0;
    if (max == INT64_MAX)
        snprintf(why, sizeof(why), "must be a whole number from 0 on, got '%.40s'", text);
    else
        snprintf(why, sizeof(why), "must be 0..%lld, got '%.40s'", (long long)max, text);
    send_field_error(req, name, why);
    return -1;
}

int query_bool(struct http_request *req, const char *name, bool *ret_value)
{
    const char *text = http_query(req, name);
    if (!text || !*text)
        return 0;
    *ret_value = strcmp(text, "true") == 0;
    if (*ret_value || strcmp(text, "false") == 0)
        return 0;
    send_field_error(req, name, "must be true or false");
    return -1;
}

int query_shell(struct http_request *req, const char *name, const char **ret_shell)
{
    const char *text = http_query(req, name);
    *ret_shell = text && *text ? text : NULL;
    if (!*ret_shell || id_is_valid(text))
        return 0;
    send_field_error(req, name, "must be 1..64 of A-Z a-z 0-9 . _ ~ - and not begin with . or -");
    return -1;
}
