/* Reads Google's answers: both shapes of errors, and the members of JSON objects. */
#include "base/clock.h"
#include "base/str.h"
#include "google/wire.h"

#include <stdio.h>
#include <string.h>

#define WORDS_MAX 150

const char *wire_title(enum google_api api)
{
    static const char *const titles[] = {
#define TITLE(name, title, endpoint) [name] = (title),
        GOOGLE_APIS(TITLE)
#undef TITLE
    };
    return titles[api];
}

static enum err_code code_of_http(int status)
{
    static const struct {
        int status;
        enum err_code code;
    } rows[] = {
        {401, ERR_FORBIDDEN}, {403, ERR_FORBIDDEN}, {404, ERR_NOT_FOUND}, {408, ERR_TIMEOUT},
        {409, ERR_CONFLICT},  {410, ERR_NOT_FOUND}, {412, ERR_MISMATCH},  {413, ERR_TOO_LARGE},
        {416, ERR_RANGE},     {429, ERR_RATE},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (rows[i].status == status)
            return rows[i].code;
    return status >= 400 && status < 500 ? ERR_INVALID : ERR_UPSTREAM;
}

/* google.rpc.Code, in order, and the HTTP status that goes with each. */
static const struct {
    const char *name;
    int http;
} rpc_codes[] = {
    {"OK", 200},
    {"CANCELLED", 499},
    {"UNKNOWN", 500},
    {"INVALID_ARGUMENT", 400},
    {"DEADLINE_EXCEEDED", 504},
    {"NOT_FOUND", 404},
    {"ALREADY_EXISTS", 409},
    {"PERMISSION_DENIED", 403},
    {"RESOURCE_EXHAUSTED", 429},
    {"FAILED_PRECONDITION", 400},
    {"ABORTED", 409},
    {"OUT_OF_RANGE", 400},
    {"UNIMPLEMENTED", 501},
    {"INTERNAL", 500},
    {"UNAVAILABLE", 503},
    {"DATA_LOSS", 500},
    {"UNAUTHENTICATED", 401},
};

/* The reason of the first google.rpc.ErrorInfo among the details. */
static const char *error_info(const struct json *error)
{
    const struct json *details = json_get(error, "details");
    for (const struct json *one = json_first(details); one; one = json_next(one)) {
        const char *type = json_text(json_get(one, "@type"));
        if (type && strstr(type, "google.rpc.ErrorInfo"))
            return json_text(json_get(one, "reason"));
    }
    return NULL;
}

void answer_copy_words(char *to, size_t size, const char *words)
{
    AUTO(buf) struct buf clean = BUF_INIT(1024);
    retry_add_words(&clean, words ? words : "", size - 1);
    snprintf(to, size, "%s", buf_str(&clean));
}

/* Composes "Cloud Run: PERMISSION_DENIED (SERVICE_DISABLED): its words". */
static void compose(enum google_api api, const char *words, int http, const char *status,
                    const char *reason, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(2048);
    char head[128], why[64];
    answer_copy_words(head, 64, status);
    answer_copy_words(why, sizeof(why), reason);
    if (!*head)
        snprintf(head, sizeof(head), "HTTP %d", http);
    buf_addf(&text, "%s: %s", wire_title(api), head);
    if (*why && strcmp(why, head) != 0)
        buf_addf(&text, " (%s)", why);
    if (words && *words) {
        buf_adds(&text, ": ");
        retry_add_words(&text, words, WORDS_MAX);
    }
    err_set(err, err->code, "%s", buf_str(&text));
}

/* The plain text of an error: Cloud Storage's front end sometimes answers in plain words. An HTML
 * page of a proxy is of no use. */
static const char *plain_words(const struct wire_answer *answer)
{
    char type[64];
    bool plain = net_header(&answer->head, "Content-Type", type, sizeof(type)) &&
                 str_starts(type, "text/plain");
    return plain && !memchr(buf_str(&answer->body), '\0', answer->body.len) ? buf_str(&answer->body)
                                                                            : NULL;
}

int answer_fail(enum google_api api, const struct wire_answer *answer,
                struct google_answer *ret_answer, struct err *err)
{
    struct err ignored;
    AUTO(json) struct json *body = json_parse(buf_str(&answer->body), answer->body.len, &ignored);
    const bool listed = body && json_type(body) == JSON_ARRAY; /* The form of a streamed answer. */
    const struct json *said = listed ? json_first(body) : body;
    const struct json *error = json_get(said, "error");
    const char *status = json_text(json_get(error, "status"));
    const char *info = error_info(error);
    const char *words = json_text(json_get(error, "message"));
    if (json_text(error)) { /* The form of OAuth. */
        status = json_text(error);
        words = json_text(json_get(said, "error_description"));
    } else if (!body) {
        words = plain_words(answer);
    }
    const char *reason = json_text(json_get(json_first(json_get(error, "errors")), "reason"));
    if (!info)
        info = reason;
    *err = (struct err){.code = code_of_http(answer->status)};
    if ((status && strcmp(status, "RESOURCE_EXHAUSTED") == 0) ||
        (reason && (strcmp(reason, "rateLimitExceeded") == 0 ||
                    strcmp(reason, "userRateLimitExceeded") == 0)))
        err->code = ERR_RATE;
    if (ret_answer) {
        *ret_answer = (struct google_answer){.status = answer->status,
                                             .retry_after_ms = retry_after(&answer->head)};
        answer_copy_words(ret_answer->reason, sizeof(ret_answer->reason), status ? status : reason);
        answer_copy_words(ret_answer->detail, sizeof(ret_answer->detail), info);
    }
    compose(api, words, answer->status, status, info, err);
    return -1;
}

int answer_fail_status(enum google_api api, const struct json *status, struct err *err)
{
    int64_t code = 2;
    json_int(json_get(status, "code"), &code);
    if (code < 0 || code >= (int64_t)COUNT_OF(rpc_codes))
        code = 2;
    *err = (struct err){.code = code_of_http(rpc_codes[code].http)};
    compose(api, json_text(json_get(status, "message")), rpc_codes[code].http, rpc_codes[code].name,
            error_info(status), err);
    return -1;
}

const struct json *answer_error(const struct json *answer)
{
    const struct json *error = json_get(answer, "error");
    return error && json_type(error) == JSON_OBJECT ? error : NULL;
}

int answer_json(enum google_api api, const struct wire_answer *answer, struct json **ret_json,
                struct err *err)
{
    struct err why = ERR_INIT;
    *ret_json = NULL;
    if (str_is_blank(buf_str(&answer->body), answer->body.len))
        return 0;
    *ret_json = json_parse(buf_str(&answer->body), answer->body.len, &why);
    if (*ret_json && json_type(*ret_json) == JSON_OBJECT)
        return 0;
    json_free(STEAL_PTR(*ret_json));
    return err_set(err, ERR_UPSTREAM, "%s: the answer is no JSON object%s%s", wire_title(api),
                   *why.msg ? ": " : "", why.msg);
}

int answer_int(const struct json *object, const char *name, int64_t *ret_value)
{
    const struct json *node = json_get(object, name);
    const char *digits = json_text(node);
    return digits ? str_to_int(digits, INT64_MIN, INT64_MAX, ret_value) : json_int(node, ret_value);
}

int64_t answer_time(const struct json *object, const char *name)
{
    int64_t ms;
    const char *text = json_text(json_get(object, name));
    return text && clock_parse(text, &ms) == 0 ? ms : 0;
}

int answer_next_page(enum google_api api, const struct json *page, char **token, struct err *err)
{
    const char *next = json_text(json_get(page, "nextPageToken"));
    if (!next || !*next)
        return 0;
    if (*token && strcmp(*token, next) == 0)
        return err_set(err, ERR_UPSTREAM, "%s: the list does not end", wire_title(api));
    char *copy = strdup(next);
    if (!copy)
        return err_sys(err, "a page's token");
    free(*token);
    *token = copy;
    return 1;
}

int answer_check_name(const char *what, const char *name, struct err *err)
{
    size_t len;
    for (const char *at = name;; at += len + 1) {
        len = strcspn(at, "/");
        if (len == 0 || (len == 1 && at[0] == '.') || (len == 2 && at[0] == '.' && at[1] == '.'))
            return err_set(err, ERR_INVALID, "'%.120s' is no name of %s", name, what);
        if (!at[len])
            return 0;
    }
}
