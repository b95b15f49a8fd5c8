/*
 * POST /run with `code`, to the letter of PyRunner: its fields, read as pydantic reads them, its
 * refusals (422 with `detail`), its answers.
 */
#include "base/str.h"
#include "runner/api/python.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DETAIL_MAX (12u << 20)

/* --- whose request it is ------------------------------------------------------------------- */

bool pyrunner_takes(const struct buf *body)
{
    struct err ignored;
    AUTO(json)
    struct json *root = json_parse_within(buf_str(body), body->len, REQUEST_VALUES_MAX, &ignored);
    static const char *const own[] = {"code", "timeout", "memory_limit", "auto_print"};
    if (!root)
        return !strstr(buf_str(body), "\"prompt\"");
    if (json_type(root) != JSON_OBJECT || json_count(root) == 0)
        return true;
    if (json_get(root, "prompt"))
        return false;
    for (size_t i = 0; i < COUNT_OF(own); i++)
        if (json_get(root, own[i]))
            return true;
    return false;
}

/* --- what is wrong ------------------------------------------------------------------------- */

struct details {
    struct json_writer w;
    struct buf out;
    int count;
};

static void begin_detail(struct details *details, const char *type, const char *field,
                         const char *message, const struct json *input)
{
    struct json_writer *w = &details->w;
    AUTO(buf) struct buf text = BUF_INIT(DETAIL_MAX);
    if (details->count++ == 0) {
        json_write(w, &details->out);
        json_open_object(w, NULL);
        json_open_array(w, "detail");
    }
    json_open_object(w, NULL);
    json_add_text(w, "type", type);
    json_open_array(w, "loc");
    json_add_text(w, NULL, "body");
    if (field)
        json_add_text(w, NULL, field);
    json_close(w);
    json_add_text(w, "msg", message);
    if (input)
        json_print(input, &text);
    if (input)
        json_add_raw(w, "input", buf_str(&text), text.len);
    else
        json_add_null(w, "input");
}

static int refuse(struct details *details, const char *type, const char *field, const char *message,
                  const struct json *input)
{
    begin_detail(details, type, field, message, input);
    json_close(&details->w);
    return -1;
}

/* As refuse(), with the limit that was exceeded. */
static int refuse_limit(struct details *details, const char *type, const char *field,
                        const char *message, const struct json *input, const char *name,
                        int64_t limit)
{
    begin_detail(details, type, field, message, input);
    json_open_object(&details->w, "ctx");
    json_add_int(&details->w, name, limit);
    json_close(&details->w);
    json_close(&details->w);
    return -1;
}

/* --- fields, in pydantic's lax mode -------------------------------------------------------- */

static size_t count_characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static void read_code(const struct json *root, char **ret_code, struct details *details)
{
    const struct json *node = json_get(root, "code");
    const char *text = json_text(node);
    if (!node)
        refuse(details, "missing", "code", "Field required", root);
    else if (!text)
        refuse(details, "string_type", "code", "Input should be a valid string", node);
    else if (!*text)
        refuse_limit(details, "string_too_short", "code", "String should have at least 1 character",
                     node, "min_length", 1);
    else if (count_characters(text) > PYTHON_CODE_MAX)
        refuse_limit(details, "string_too_long", "code",
                     "String should have at most 1000000 characters", node, "max_length",
                     PYTHON_CODE_MAX);
    else if (str_is_blank(text, strlen(text)))
        refuse(details, "value_error", "code", "Value error, Code cannot be empty", node);
    else
        *ret_code = strdup(text);
}

/* Reads a whole number in text: "30", " +30 ", "30.0". */
static int text_to_int(const char *text, int64_t *ret_value)
{
    char digits[32];
    text += strspn(text, " \t\r\n");
    text += *text == '+';
    size_t n = strspn(text, "-0123456789");
    if (n == 0 || n >= sizeof(digits))
        return -1;
    snprintf(digits, sizeof(digits), "%.*s", (int)n, text);
    text += n;
    if (*text == '.' && text[1] == '0')
        text += 1 + strspn(text + 1, "0");
    text += strspn(text, " \t\r\n");
    return *text ? -1 : str_to_int(digits, INT64_MIN, INT64_MAX, ret_value);
}

static int read_whole(const struct json *node, const char *field, int64_t *ret_value,
                      struct details *details)
{
    bool flag;
    double number;
    switch (json_type(node)) {
    case JSON_BOOL:
        json_bool(node, &flag);
        *ret_value = flag;
        return 0;
    case JSON_STRING:
        return text_to_int(json_text(node), ret_value)
                   ? refuse(details, "int_parsing", field,
                            "Input should be a valid integer, unable to parse string as an integer",
                            node)
                   : 0;
    case JSON_NUMBER:
        json_number(node, &number);
        if (number != floor(number))
            return refuse(details, "int_from_float", field,
                          "Input should be a valid integer, got a number with a fractional part",
                          node);
        *ret_value = number > 1e15    ? (int64_t)1e15
                     : number < -1e15 ? (int64_t)-1e15
                                      : (int64_t)number;
        return 0;
    case JSON_NULL:
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return refuse(details, "int_type", field, "Input should be a valid integer", node);
}

static void read_int(const struct json *root, const char *field, int low, int high, int *value,
                     struct details *details)
{
    char message[80];
    int64_t whole;
    const struct json *node = json_get(root, field);
    if (!node || json_type(node) == JSON_NULL || read_whole(node, field, &whole, details))
        return;
    if (whole < low) {
        snprintf(message, sizeof(message), "Input should be greater than or equal to %d", low);
        refuse_limit(details, "greater_than_equal", field, message, node, "ge", low);
    } else if (whole > high) {
        snprintf(message, sizeof(message), "Input should be less than or equal to %d", high);
        refuse_limit(details, "less_than_equal", field, message, node, "le", high);
    } else {
        *value = (int)whole;
    }
}

/* Reads one of pydantic's words for a boolean; -1 for any other text. */
static int word_to_bool(const char *text)
{
    static const char *const yes[] = {"1", "true", "t", "yes", "y", "on"};
    static const char *const no[] = {"0", "false", "f", "no", "n", "off"};
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return 1;
        if (strcasecmp(text, no[i]) == 0)
            return 0;
    }
    return -1;
}

static void read_bool(const struct json *root, const char *field, bool *value,
                      struct details *details)
{
    double number = 2;
    const struct json *node = json_get(root, field);
    if (!node || json_type(node) == JSON_NULL || json_bool(node, value) == 0)
        return;
    const char *text = json_text(node);
    bool numeric = json_number(node, &number) == 0;
    int word = text ? word_to_bool(text) : numeric && number >= 0 && number <= 1 ? (int)number : -1;
    if (word >= 0 && (text || number == word))
        *value = word != 0;
    else if (text || numeric)
        refuse(details, "bool_parsing", field,
               "Input should be a valid boolean, unable to interpret input", node);
    else
        refuse(details, "bool_type", field, "Input should be a valid boolean", node);
}

static void refuse_others(const struct json *root, struct details *details)
{
    static const char *const known[] = {"code", "timeout", "memory_limit", "auto_print"};
    for (const struct json *child = json_first(root); child; child = json_next(child)) {
        bool found = false;
        for (size_t i = 0; i < COUNT_OF(known); i++)
            found |= strcmp(json_name(child), known[i]) == 0;
        if (!found && details->count < 100)
            refuse(details, "extra_forbidden", json_name(child), "Extra inputs are not permitted",
                   child);
    }
}

static void refuse_json(struct details *details, const struct err *why)
{
    struct json_writer *w = &details->w;
    details->count++;
    json_write(w, &details->out);
    json_open_object(w, NULL);
    json_open_array(w, "detail");
    json_open_object(w, NULL);
    json_add_text(w, "type", "json_invalid");
    json_open_array(w, "loc");
    json_add_text(w, NULL, "body");
    json_add_int(w, NULL, 0);
    json_close(w);
    json_add_text(w, "msg", "JSON decode error");
    json_open_object(w, "input");
    json_close(w);
    json_open_object(w, "ctx");
    json_add_text(w, "error", why->msg);
    json_close(w);
    json_close(w);
}

static void decode(const struct buf *body, struct python_request *request, struct details *details)
{
    struct err err;
    AUTO(json)
    struct json *root = json_parse_within(buf_str(body), body->len, REQUEST_VALUES_MAX, &err);
    if (!root) {
        refuse_json(details, &err);
        return;
    }
    if (json_type(root) != JSON_OBJECT) {
        refuse(details, "model_attributes_type", NULL,
               "Input should be a valid dictionary or object to extract fields from", root);
        return;
    }
    read_code(root, &request->code, details);
    read_int(root, "timeout", 1, PYTHON_TIMEOUT_MAX, &request->timeout_s, details);
    read_int(root, "memory_limit", PYTHON_MEMORY_MIN, PYTHON_MEMORY_MAX, &request->memory_mb,
             details);
    read_bool(root, "auto_print", &request->auto_print, details);
    refuse_others(root, details);
}

void pyrunner_run(struct http_request *req, struct api *api, const struct buf *body)
{
    struct python_request request = {
        .timeout_s = PYTHON_TIMEOUT, .memory_mb = PYTHON_MEMORY, .auto_print = true};
    struct details details = {.out = BUF_INIT(DETAIL_MAX)};
    decode(body, &request, &details);
    if (details.count == 0) {
        api_python_answer(req, api, &request, NULL, PYTHON_STYLE_PYRUNNER, body);
    } else {
        json_close(&details.w);
        json_close(&details.w);
        send_json(req, 422, &details.out);
        python_request_done(&request);
    }
    buf_done(&details.out);
}

/* --- the answer ---------------------------------------------------------------------------- */

static void add_rounded(struct json_writer *w, const char *name, double value, int digits)
{
    char text[48];
    int n = snprintf(text, sizeof(text), "%.*f", digits, value);
    json_add_raw(w, name, text, (size_t)n);
}

/* Appends stderr; returns the part that is the error, or NULL. */
static const char *print_errors(const struct python_outcome *outcome, int timeout_s,
                                struct buf *text)
{
    const char *error = NULL;
    switch (outcome->status) {
    case PYTHON_REJECTED:
        buf_addf(text, "Security validation failed: %s", outcome->refusal.message);
        error = outcome->refusal.message;
        break;
    case PYTHON_TIMED_OUT:
        buf_addf(text, "Execution timed out after %d seconds", timeout_s);
        break;
    case PYTHON_MEMORY_EXCEEDED:
        buf_adds(text, "Memory limit exceeded");
        break;
    case PYTHON_ERROR:
        str_add_utf8(text, buf_str(&outcome->errors), outcome->errors.len);
        error = buf_str(text);
        break;
    case PYTHON_SUCCESS:
    case PYTHON_FAILED:
    case PYTHON_STATUS_COUNT:
        str_add_utf8(text, buf_str(&outcome->errors), outcome->errors.len);
        break;
    }
    return error;
}

void pyrunner_print(const struct python_outcome *outcome, int timeout_s, struct buf *out)
{
    struct json_writer w;
    const bool ran = outcome->status != PYTHON_REJECTED;
    const bool timed_out = outcome->status == PYTHON_TIMED_OUT;
    AUTO(buf) struct buf text = BUF_INIT(4 * PYTHON_OUTPUT_MAX);
    if (!timed_out)
        str_add_utf8(&text, buf_str(&outcome->out), outcome->out.len);
    AUTO(buf) struct buf errors = BUF_INIT(4 * PYTHON_OUTPUT_MAX);
    const char *error = print_errors(outcome, timeout_s, &errors);
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "status", ran ? python_status_name(outcome->status) : "error");
    json_add_textn(&w, "stdout", buf_str(&text), text.len);
    json_add_text(&w, "stderr", buf_str(&errors));
    add_rounded(&w, "execution_time",
                !ran        ? 0
                : timed_out ? timeout_s
                            : (double)outcome->took_us / 1e6,
                3);
    if (ran && !timed_out && outcome->peak_kib >= 0)
        add_rounded(&w, "memory_used", (double)outcome->peak_kib / 1024, 2);
    else
        json_add_null(&w, "memory_used");
    json_add_text(&w, "error", error);
    json_close(&w);
}
