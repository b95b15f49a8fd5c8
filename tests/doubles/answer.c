#include "answer.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECE_BYTES = 8192, DRIP_PIECE_BYTES = 16, REPEAT_MAX = 32 * 1024 * 1024 };

/* A reset may overtake what was sent before it, so the peer gets time to read that. */
enum { CUT_AFTER_MS = 100 };

static const struct error_kind {
    int status;
    const char *type;
    const char *message;
} error_kinds[] = {
    {400, "invalid_request_error", "The request was refused"},
    {401, "authentication_error", "Invalid authentication credentials"},
    {403, "permission_error", "Your account does not have permission to use this resource"},
    {404, "not_found_error", "Not Found"},
    {405, "invalid_request_error", "Method Not Allowed"},
    {413, "request_too_large", "Request exceeds the maximum size"},
    {429, "rate_limit_error",
     "This request would exceed your account's rate limit. Please try again later."},
    {500, "api_error", "Internal server error"},
    {503, "api_error", "Service unavailable"},
    {529, "overloaded_error", "Overloaded"},
};

static const struct error_kind *error_kind(int status)
{
    for (size_t i = 0; i < sizeof error_kinds / sizeof *error_kinds; i++)
        if (error_kinds[i].status == status)
            return &error_kinds[i];
    return &error_kinds[7];
}

const char *answer_error_type(int status)
{
    return error_kind(status)->type;
}

static unsigned long next_id(void)
{
    static atomic_ulong id = 1;
    return atomic_fetch_add(&id, 1);
}

static cJSON *error_json(int status, const char *message, unsigned long id)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "type", "error");
    cJSON *error = cJSON_AddObjectToObject(json, "error");
    cJSON_AddStringToObject(error, "type", answer_error_type(status));
    cJSON_AddStringToObject(error, "message", message ? message : error_kind(status)->message);
    char text[40];
    snprintf(text, sizeof text, "req_%024lu", id);
    cJSON_AddStringToObject(json, "request_id", text);
    return json;
}

int answer_error(struct server_conn *conn, int status, const char *headers, const char *message)
{
    unsigned long id = next_id();
    cJSON *json = error_json(status, message, id);
    char *body = cJSON_PrintUnformatted(json);
    char head[2048];
    snprintf(head, sizeof head, "Content-Type: application/json\r\nrequest-id: req_%024lu\r\n%s",
             id, headers);
    server_reply(conn, status, head, body, strlen(body));
    free(body);
    cJSON_Delete(json);
    return status;
}

/* ---- usage limits ---- */

static void rfc3339(time_t t, char *out, size_t size)
{
    struct tm tm;
    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
}

static time_t reset_time(const char *args)
{
    char value[32];
    if (!script_arg(args, "reset", value, sizeof value))
        return time(NULL) + 3600;
    long n = strtol(value, NULL, 10);
    return value[0] == '+' ? time(NULL) + n : (time_t)n;
}

/* What the service sends with a refused request: a login has unified windows (5 hours, 7 days), a
 * key has limits by the minute. */
static void limit_headers(const struct answer *answer, const char *args, char *out, size_t size)
{
    char retry[32] = "";
    char claim[32] = "five_hour";
    char status[32], when[32];
    time_t reset = reset_time(args);
    script_arg(args, "claim", claim, sizeof claim);
    int n = 0;
    if (script_arg(args, "retry-after", retry, sizeof retry))
        n = snprintf(out, size, "retry-after: %s\r\n", retry);
    char *rest = out + n;
    size_t left = size - (size_t)n;
    rfc3339(reset, when, sizeof when);
    if (!answer->oauth) {
        snprintf(rest, left,
                 "anthropic-ratelimit-requests-limit: 50\r\n"
                 "anthropic-ratelimit-requests-remaining: 0\r\n"
                 "anthropic-ratelimit-requests-reset: %s\r\n",
                 when);
        return;
    }
    if (script_arg(args, "status", status, sizeof status)) {
        snprintf(rest, left,
                 "anthropic-ratelimit-unified-status: %s\r\n"
                 "anthropic-ratelimit-unified-reset: %lld\r\n",
                 status, (long long)reset);
        return;
    }
    bool week = strncmp(claim, "seven_day", 9) == 0;
    snprintf(rest, left,
             "anthropic-ratelimit-unified-status: rejected\r\n"
             "anthropic-ratelimit-unified-reset: %lld\r\n"
             "anthropic-ratelimit-unified-representative-claim: %s\r\n"
             "anthropic-ratelimit-unified-%s-status: rejected\r\n"
             "anthropic-ratelimit-unified-%s-reset: %lld\r\n"
             "anthropic-ratelimit-unified-%s-utilization: 1.0\r\n"
             "anthropic-ratelimit-unified-overage-status: rejected\r\n"
             "anthropic-ratelimit-unified-overage-disabled-reason: org_level_disabled\r\n",
             (long long)reset, claim, week ? "7d" : "5h", week ? "7d" : "5h", (long long)reset,
             week ? "7d" : "5h");
}

static int answer_scripted_error(const struct answer *answer, const struct step *step)
{
    int status = (int)strtol(step->arg, NULL, 10);
    char headers[1024] = "";
    char retry[32];
    if (status == 429)
        limit_headers(answer, step->arg, headers, sizeof headers);
    else if (script_arg(step->arg, "retry-after", retry, sizeof retry))
        snprintf(headers, sizeof headers, "retry-after: %s\r\n", retry);
    const char *message = strstr(step->arg, " -- ");
    return answer_error(answer->conn, status, headers, message ? message + 4 : NULL);
}

/* ---- the stream ---- */

/* Sends one event and frees its data; then waits as the script says. */
static bool event(const struct answer *answer, const struct step *step, const char *name,
                  cJSON *data)
{
    char *json = cJSON_PrintUnformatted(data);
    char *text = NULL;
    int n = asprintf(&text, "event: %s\ndata: %s\n\n", name, json);
    bool ok = n > 0 && server_write(answer->conn, text, (size_t)n);
    if (n >= 0)
        free(text);
    free(json);
    cJSON_Delete(data);
    return ok && (step->drip_ms <= 0 || server_wait(answer->conn, step->drip_ms));
}

__attribute__((format(printf, 1, 2))) static cJSON *jsonf(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    cJSON *json = n >= 0 ? cJSON_Parse(text) : NULL;
    free(text);
    return json;
}

static cJSON *usage_json(const struct answer *answer, const struct step *step, size_t text_size)
{
    long in = step->usage_in ? step->usage_in : (long)(answer->request_size / 4 + 1);
    long out = step->usage_out ? step->usage_out : (long)(text_size / 4 + 1);
    return jsonf("{\"input_tokens\":%ld,\"cache_creation_input_tokens\":0,"
                 "\"cache_read_input_tokens\":%ld,\"output_tokens\":%ld,"
                 "\"service_tier\":\"standard\"}",
                 in, step->usage_cached, out);
}

static cJSON *message_json(const struct answer *answer, const struct step *step, size_t text_size)
{
    cJSON *message =
        jsonf("{\"id\":\"msg_%024lu\",\"type\":\"message\",\"role\":\"assistant\"}", next_id());
    cJSON_AddStringToObject(message, "model", answer->model);
    cJSON_AddItemToObject(message, "content", cJSON_CreateArray());
    cJSON_AddNullToObject(message, "stop_reason");
    cJSON_AddNullToObject(message, "stop_sequence");
    cJSON_AddItemToObject(message, "usage", usage_json(answer, step, text_size));
    return message;
}

/* What an answer tells of one of the account's windows. */
static int window_headers(const struct step *step, const char *name, const char *used, char *out,
                          size_t size)
{
    if (!*used)
        return 0;
    return snprintf(out, size,
                    "anthropic-ratelimit-unified-%s-status: allowed\r\n"
                    "anthropic-ratelimit-unified-%s-utilization: %s\r\n"
                    "anthropic-ratelimit-unified-%s-reset: %lld\r\n",
                    name, name, used, name, (long long)time(NULL) + step->windows_end);
}

static void stream_start(const struct answer *answer, const struct step *step)
{
    char headers[1024];
    long long reset = (long long)time(NULL) + 3600;
    int n = snprintf(headers, sizeof headers,
                     "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
                     "request-id: req_%024lu\r\n",
                     next_id());
    if (answer->oauth)
        n += snprintf(headers + n, sizeof headers - (size_t)n,
                      "anthropic-ratelimit-unified-status: allowed\r\n"
                      "anthropic-ratelimit-unified-reset: %lld\r\n"
                      "anthropic-ratelimit-unified-representative-claim: five_hour\r\n",
                      reset);
    if (answer->oauth) {
        n += window_headers(step, "5h", step->used_5h, headers + n, sizeof headers - (size_t)n);
        window_headers(step, "7d", step->used_7d, headers + n, sizeof headers - (size_t)n);
    }
    server_begin(answer->conn, 200, headers);
    cJSON *start = jsonf("{\"type\":\"message_start\"}");
    cJSON_AddItemToObject(start, "message", message_json(answer, step, 0));
    event(answer, step, "message_start", start);
    event(answer, step, "ping", jsonf("{\"type\":\"ping\"}"));
}

/* How much of `text` goes into the next piece: never half a code point. */
static size_t piece_size(const char *text, size_t left, size_t max)
{
    if (left <= max)
        return left;
    while (max > 1 && ((unsigned char)text[max] & 0xc0) == 0x80)
        max--;
    return max;
}

/* Streams one content block; `kind` names the delta's type and field. */
static void stream_block(const struct answer *answer, const struct step *step, int index,
                         cJSON *block, const char *type, const char *field, const char *text)
{
    cJSON *start = jsonf("{\"type\":\"content_block_start\",\"index\":%d}", index);
    cJSON_AddItemToObject(start, "content_block", block);
    bool ok = event(answer, step, "content_block_start", start);
    size_t left = strlen(text);
    while (ok && left) {
        size_t size = piece_size(text, left, step->drip_ms ? DRIP_PIECE_BYTES : PIECE_BYTES);
        char piece[PIECE_BYTES + 1];
        memcpy(piece, text, size);
        piece[size] = '\0';
        cJSON *delta = jsonf("{\"type\":\"content_block_delta\",\"index\":%d,"
                             "\"delta\":{\"type\":\"%s\"}}",
                             index, type);
        cJSON_AddStringToObject(cJSON_GetObjectItem(delta, "delta"), field, piece);
        ok = event(answer, step, "content_block_delta", delta);
        text += size;
        left -= size;
    }
    event(answer, step, "content_block_stop",
          jsonf("{\"type\":\"content_block_stop\",\"index\":%d}", index));
}

static void stream_stop(const struct answer *answer, const struct step *step, const char *reason,
                        size_t text_size)
{
    cJSON *delta = jsonf("{\"type\":\"message_delta\",\"delta\":{\"stop_sequence\":null}}");
    cJSON_AddStringToObject(cJSON_GetObjectItem(delta, "delta"), "stop_reason", reason);
    cJSON_AddItemToObject(delta, "usage", usage_json(answer, step, text_size));
    event(answer, step, "message_delta", delta);
    event(answer, step, "message_stop", jsonf("{\"type\":\"message_stop\"}"));
    server_end(answer->conn);
}

static cJSON *text_block(const char *text)
{
    cJSON *block = jsonf("{\"type\":\"text\"}");
    cJSON_AddStringToObject(block, "text", text);
    return block;
}

static cJSON *tool_block(const struct step *step, bool with_input)
{
    cJSON *block = jsonf("{\"type\":\"tool_use\",\"id\":\"toolu_%022lu\"}", next_id());
    cJSON_AddStringToObject(block, "name", step->arg);
    cJSON_AddItemToObject(block, "input",
                          with_input ? cJSON_Parse(step->input) : cJSON_CreateObject());
    return block;
}

static int answer_stream(const struct answer *answer, const struct step *step, const char *text,
                         const char *stop_reason)
{
    int index = 0;
    stream_start(answer, step);
    if (text)
        stream_block(answer, step, index++, text_block(""), "text_delta", "text", text);
    if (step->kind == STEP_TOOL)
        stream_block(answer, step, index++, tool_block(step, false), "input_json_delta",
                     "partial_json", step->input);
    stream_stop(answer, step, stop_reason, text ? strlen(text) : 0);
    return 200;
}

static int answer_whole(const struct answer *answer, const struct step *step, const char *text,
                        const char *stop_reason)
{
    cJSON *message = message_json(answer, step, text ? strlen(text) : 0);
    cJSON *content = cJSON_GetObjectItem(message, "content");
    if (text)
        cJSON_AddItemToArray(content, text_block(text));
    if (step->kind == STEP_TOOL)
        cJSON_AddItemToArray(content, tool_block(step, true));
    cJSON_ReplaceItemInObject(message, "stop_reason", cJSON_CreateString(stop_reason));
    char *body = cJSON_PrintUnformatted(message);
    server_reply(answer->conn, 200, "Content-Type: application/json\r\n", body, strlen(body));
    free(body);
    cJSON_Delete(message);
    return 200;
}

/* Lines of 80 bytes that say where they are, so that a missing piece shows. */
static char *repeated_text(long size)
{
    if (size < 0 || size > REPEAT_MAX)
        size = REPEAT_MAX;
    char *text = malloc((size_t)size + 1);
    for (long at = 0; text && at < size; at += 80) {
        char line[81];
        snprintf(line, sizeof line, "%010ld %068d\n", at, 0);
        memcpy(text + at, line, (size_t)(size - at < 80 ? size - at : 80));
    }
    if (text)
        text[size] = '\0';
    return text;
}

/* Begins an answer and breaks it off, in the way the step says. */
static int answer_broken(const struct answer *answer, const struct step *step)
{
    bool head = strncmp(step->arg, "head", 4) == 0;
    bool begin =
        answer->stream && (step->kind == STEP_CUT ? !head : strncmp(step->arg, "stream", 6) == 0);
    if (begin) {
        stream_start(answer, step);
        event(answer, step, "content_block_start",
              jsonf("{\"type\":\"content_block_start\",\"index\":0,"
                    "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}"));
        event(answer, step, "content_block_delta",
              jsonf("{\"type\":\"content_block_delta\",\"index\":0,"
                    "\"delta\":{\"type\":\"text_delta\",\"text\":\"half of \"}}"));
    }
    if (step->kind == STEP_ERROR) {
        event(answer, step, "error", error_json(529, NULL, next_id()));
        server_end(answer->conn);
    } else if (step->kind == STEP_CUT) {
        server_wait(answer->conn, CUT_AFTER_MS);
        server_cut(answer->conn);
    } else {
        server_wait(answer->conn, -1);
    }
    return begin ? 200 : 0;
}

int answer_step(const struct answer *answer, const struct step *step)
{
    static const struct step none = {.kind = STEP_TEXT, .arg = NULL};
    if (!step)
        step = &none;
    const char *stop_reason = "end_turn";
    const char *text = step->arg ? step->arg : "Done.";
    char *made = NULL;
    switch (step->kind) {
    case STEP_ERROR:
        if (strncmp(step->arg, "stream", 6) != 0)
            return answer_scripted_error(answer, step);
        return answer->stream ? answer_broken(answer, step)
                              : answer_error(answer->conn, 529, "", NULL);
    case STEP_CUT:
    case STEP_HANG:
        return answer_broken(answer, step);
    case STEP_REPEAT:
        text = made = repeated_text(strtol(step->arg, NULL, 10));
        break;
    case STEP_ECHO:
        text = answer->echo;
        break;
    case STEP_TOOL:
        text = step->say;
        stop_reason = "tool_use";
        break;
    case STEP_STOP:
        text = "Stopped.";
        stop_reason = step->arg;
        break;
    case STEP_TEXT:
        break;
    }
    int status = (answer->stream ? answer_stream : answer_whole)(answer, step, text, stop_reason);
    free(made);
    return status;
}
