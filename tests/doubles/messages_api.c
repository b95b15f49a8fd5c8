/*
 * messages-api: a stand-in for Anthropic's Messages API, scripted by the prompts it gets (script.h)
 * and as strict as the service about what it is sent.
 *
 *   messages-api [--port N] [--token T]… [--api-key K]… [--die-with-parent]
 *
 *   HEAD /                              200
 *   POST /v1/messages[?beta=true]       the answer, streamed when the body says "stream":true
 *   POST /v1/messages/count_tokens      {"input_tokens":N}
 *
 *   GET    /_log[?contains=TEXT]        what arrived (request_log.h)
 *   DELETE /_log                        forgets it
 *   GET    /_control                    the credentials in force
 *   POST   /_control                    {"tokens":[…],"apiKeys":[…],"expired":[…]} replaces those
 *                                       lists that it names; a token listed as expired answers 401
 *
 * What the real CLI (2.1.332, -p --output-format stream-json) does with each answer; tests hold it
 * to this (tests/integration/doubles.c):
 *
 * - Text, tools, 5 MB, drip: exit 0, is_error false, 0.5 to 1 s from start to end. Each content
 *   block is an assistant line; 5 MB are one line, and the result line holds them a second time.
 *   With a login, a rate_limit_event line follows the first answer.
 * - A tool that is not permitted: a tool_result with is_error, the model goes on; exit 0, is_error
 *   false, the refused calls in permission_denials. A harmless `echo` needs no permission.
 * - --max-turns used up: exit 1, subtype error_max_turns, is_error true, no `result` field.
 * - stop_reason max_tokens: asks the model to go on, one more request.
 * - All errors below: exit 1, subtype "success", is_error true, the status in api_error_status.
 * - No credential: no request; api_error_status null, "Not logged in · Please run /login".
 * - 400, 403: no retry.
 * - 401 with a login: 2 retries, 2 s; "Failed to authenticate. API Error: 401 …".
 * - 401 with an API key or ANTHROPIC_AUTH_TOKEN: 10 retries, 3 minutes; "Invalid API key · Fix
 *   external API key".
 * - 429 with a login and the unified headers: no retry; a rate_limit_event line with status
 *   "rejected", resetsAt (unix s) and rateLimitType; "You've hit your session limit · resets
 *   3:21am (UTC)". The same without those headers, or when they say "allowed".
 * - 429 with an API key: 10 retries, each after Retry-After at least; 3 minutes.
 * - 529: 10 retries, 3 minutes. An Opus model gives up after the third in a row, and then
 *   api_error_status is null.
 * - Cut before the head: 10 retries, 3 minutes; api_error_status null, "API Error: Unable to
 *   connect to API (ECONNRESET)".
 * - Cut, or an error event, in the stream: asks again at once without streaming, and that request
 *   is retried as above. No half text reaches the output.
 * - Hang: after API_TIMEOUT_MS (600 s) "Request timed out". Hang in the stream: not noticed within
 *   45 s; API_TIMEOUT_MS does not cover it.
 *
 * Retries wait 0.5, 1, 2, 4, 8, 16, then 32 to 40 s, each announced by a line {"type":"system",
 * "subtype":"api_retry","attempt","max_retries","retry_delay_ms","error_status","error"}. The
 * variable CLAUDE_CODE_MAX_RETRIES bounds them (0: none).
 */
#include "answer.h"
#include "request_log.h"
#include "script.h"
#include "server.h"

#include <cjson/cJSON.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>

/* ---- credentials ---- */

/* {"tokens":[…],"apiKeys":[…],"expired":[…]} */
static cJSON *credentials;
static pthread_mutex_t credentials_lock = PTHREAD_MUTEX_INITIALIZER;

static bool listed(const char *list, const char *value)
{
    bool found = false;
    pthread_mutex_lock(&credentials_lock);
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(credentials, list)) found |=
        cJSON_IsString(item) && strcmp(item->valuestring, value) == 0;
    pthread_mutex_unlock(&credentials_lock);
    return found;
}

static const char *bearer_fault(const struct server_request *req, const char *authorization)
{
    if (strncasecmp(authorization, "Bearer ", 7) != 0)
        return "Invalid Authorization header: expected a Bearer token";
    const char *token = authorization + 7;
    if (listed("expired", token))
        return "OAuth token has expired. Please obtain a new token or refresh your existing token.";
    if (!listed("tokens", token))
        return "Invalid bearer token";
    const char *beta = server_header(req, "anthropic-beta");
    if (!beta || !strstr(beta, "oauth-2025-04-20"))
        return "OAuth authentication is currently not supported.";
    return NULL;
}

/* Why the caller is refused, or NULL. */
static const char *auth_fault(const struct server_request *req)
{
    const char *key = server_header(req, "x-api-key");
    const char *authorization = server_header(req, "authorization");
    if (key && authorization)
        return "Send either x-api-key or Authorization, not both";
    if (key)
        return listed("apiKeys", key) ? NULL : "invalid x-api-key";
    return authorization ? bearer_fault(req, authorization) : "x-api-key header is required";
}

/* ---- the request's body ---- */

static const char *const known_fields[] = {
    "model",          "messages",           "max_tokens",  "system",
    "stream",         "temperature",        "top_k",       "top_p",
    "tools",          "tool_choice",        "metadata",    "thinking",
    "stop_sequences", "container",          "mcp_servers", "service_tier",
    "output_config",  "context_management", "speed",       "cache_control",
    "output_format",  "inference_geo",      "diagnostics", "fallback_credit_token",
};

static bool known_field(const char *name)
{
    for (size_t i = 0; i < sizeof known_fields / sizeof *known_fields; i++)
        if (strcmp(known_fields[i], name) == 0)
            return true;
    return false;
}

static bool tool_was_called(const cJSON *message, const char *id)
{
    const cJSON *block;
    cJSON_ArrayForEach(block, cJSON_GetObjectItem(message, "content"))
    {
        const char *used = cJSON_GetStringValue(cJSON_GetObjectItem(block, "id"));
        if (used && id && strcmp(used, id) == 0)
            return true;
    }
    return false;
}

static bool block_fault(const cJSON *block, const cJSON *previous, int n, char *fault, size_t size)
{
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItem(block, "type"));
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(block, "text"));
    if (!type)
        snprintf(fault, size, "messages.%d.content.0.type: Field required", n);
    else if (strcmp(type, "text") == 0 && (!text || !*text))
        snprintf(fault, size, "messages: text content blocks must be non-empty");
    else if (strcmp(type, "tool_result") == 0 &&
             !tool_was_called(previous,
                              cJSON_GetStringValue(cJSON_GetObjectItem(block, "tool_use_id"))))
        snprintf(fault, size,
                 "messages.%d.content.0: unexpected `tool_use_id` found in `tool_result` blocks",
                 n);
    return *fault != '\0';
}

static bool messages_fault(const cJSON *messages, char *fault, size_t size)
{
    if (!cJSON_IsArray(messages) || cJSON_GetArraySize(messages) == 0) {
        snprintf(fault, size,
                 messages ? "messages: at least one message is required"
                          : "messages: Field required");
        return true;
    }
    const cJSON *message;
    const cJSON *previous = NULL;
    int n = 0;
    cJSON_ArrayForEach(message, messages)
    {
        const char *role = cJSON_GetStringValue(cJSON_GetObjectItem(message, "role"));
        const cJSON *content = cJSON_GetObjectItem(message, "content");
        if (!role || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0 &&
                      strcmp(role, "system") != 0)) {
            snprintf(fault, size, "messages.%d.role: Input should be 'user' or 'assistant'", n);
        } else if (!cJSON_IsString(content) && !cJSON_IsArray(content)) {
            snprintf(fault, size, "messages.%d.content: Field required", n);
        } else if (cJSON_IsArray(content)) {
            const cJSON *block;
            cJSON_ArrayForEach(block,
                               content) if (block_fault(block, previous, n, fault, size)) break;
        }
        if (*fault)
            return true;
        previous = message;
        n++;
    }
    return false;
}

/* Says in `fault` what is wrong with the body, as the service would; false when nothing is. */
static bool body_fault(const cJSON *body, bool count_only, char *fault, size_t size)
{
    *fault = '\0';
    const cJSON *max_tokens = cJSON_GetObjectItem(body, "max_tokens");
    if (!cJSON_IsObject(body)) {
        snprintf(fault, size, "The request body is not valid JSON");
        return true;
    }
    if (!cJSON_IsString(cJSON_GetObjectItem(body, "model"))) {
        snprintf(fault, size, "model: Field required");
        return true;
    }
    if (!count_only && (!cJSON_IsNumber(max_tokens) || max_tokens->valuedouble < 1)) {
        snprintf(fault, size,
                 max_tokens ? "max_tokens: Input should be greater than or equal to 1"
                            : "max_tokens: Field required");
        return true;
    }
    const cJSON *field;
    cJSON_ArrayForEach(field, body) if (!known_field(field->string))
    {
        snprintf(fault, size, "%s: Extra inputs are not permitted", field->string);
        return true;
    }
    return messages_fault(cJSON_GetObjectItem(body, "messages"), fault, size);
}

/* ---- where in its script a conversation is ---- */

/* What the client itself adds to a user's message is not the prompt. */
static bool is_prompt_text(const char *text)
{
    return text && strncmp(text, "<system-reminder>", 17) != 0;
}

/* All text of a message, joined; with_results: what tools returned as well. The caller frees it. */
static char *message_text(const cJSON *message, bool with_results)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    const cJSON *content = cJSON_GetObjectItem(message, "content");
    const cJSON *block;
    if (is_prompt_text(cJSON_GetStringValue(content)))
        fputs(content->valuestring, out);
    cJSON_ArrayForEach(block, content)
    {
        const char *piece = cJSON_GetStringValue(cJSON_GetObjectItem(block, "text"));
        if (is_prompt_text(piece))
            fputs(piece, out);
        const cJSON *result = cJSON_GetObjectItem(block, "content");
        if (!with_results || !result)
            continue;
        if (cJSON_IsString(result))
            fputs(result->valuestring, out);
        const cJSON *part;
        cJSON_ArrayForEach(part, result) if (cJSON_IsObject(part))
        {
            const char *t = cJSON_GetStringValue(cJSON_GetObjectItem(part, "text"));
            fputs(t ? t : "", out);
        }
    }
    fclose(out);
    return text;
}

static bool has_role(const cJSON *message, const char *role)
{
    const char *is = cJSON_GetStringValue(cJSON_GetObjectItem(message, "role"));
    return is && strcmp(is, role) == 0;
}

/* The last message that a person or a tool has said. The CLI may add one of its own after it, in
 * the role of the system. */
static const cJSON *last_said(const cJSON *messages)
{
    int at = cJSON_GetArraySize(messages) - 1;
    while (at > 0 && has_role(cJSON_GetArrayItem(messages, at), "system"))
        at--;
    return cJSON_GetArrayItem(messages, at);
}

/* The text of the last user message with a script in it (else ""), and how often the model has
 * answered since. The caller frees it. */
static char *find_script(const cJSON *messages, size_t *ret_turn)
{
    char *found = strdup("");
    const cJSON *message;
    *ret_turn = 0;
    cJSON_ArrayForEach(message, messages)
    {
        if (has_role(message, "assistant"))
            ++*ret_turn;
        if (!has_role(message, "user"))
            continue;
        char *text = message_text(message, false);
        if (!script_present(text)) {
            free(text);
            continue;
        }
        free(found);
        found = text;
        *ret_turn = 0;
    }
    return found;
}

/* How often the limited steps (times=N) of a script happened, by the script's text. */
static struct tally {
    struct tally *next;
    char *script;
    long happened[SCRIPT_STEPS_MAX];
} * tallies;
static pthread_mutex_t tallies_lock = PTHREAD_MUTEX_INITIALIZER;

/* True when the step has had its times; else counts one more. */
static bool step_used_up(const char *script, size_t index, long times)
{
    pthread_mutex_lock(&tallies_lock);
    struct tally *tally = tallies;
    while (tally && strcmp(tally->script, script) != 0)
        tally = tally->next;
    if (!tally && (tally = calloc(1, sizeof *tally))) {
        tally->script = strdup(script);
        tally->next = tallies;
        tallies = tally;
    }
    bool used_up = tally && tally->happened[index]++ >= times;
    pthread_mutex_unlock(&tallies_lock);
    return used_up;
}

/* The step for this turn. A step that doesn't answer (an error, a cut) leaves no assistant message
 * behind, so once used up it must be stepped over by counting. */
static const struct step *current_step(const struct script *script, const char *text, size_t turn)
{
    size_t answered = 0;
    for (size_t i = 0; i < script->n; i++) {
        const struct step *step = &script->steps[i];
        if (step->times) {
            if (answered == turn && !step_used_up(text, i, step->times))
                return step;
        } else if (answered++ == turn) {
            return step;
        }
    }
    return NULL;
}

/* ---- routes ---- */

static int serve_messages(struct server_conn *conn, const struct server_request *req, cJSON *body)
{
    const cJSON *messages = cJSON_GetObjectItem(body, "messages");
    const cJSON *last = last_said(messages);
    size_t turn;
    char *text = find_script(messages, &turn);
    char *echo = message_text(last, true);
    struct script *script = script_new(text);
    struct answer answer = {
        .conn = conn,
        .model = cJSON_GetObjectItem(body, "model")->valuestring,
        .echo = echo,
        .request_size = req->body_size,
        .stream = cJSON_IsTrue(cJSON_GetObjectItem(body, "stream")),
        .oauth = server_header(req, "authorization") != NULL,
    };
    int status = script->error ? answer_error(conn, 400, "", script->error)
                               : answer_step(&answer, current_step(script, text, turn));
    script_free(script);
    free(echo);
    free(text);
    return status;
}

static int serve_count(struct server_conn *conn, const struct server_request *req, cJSON *body)
{
    (void)body;
    char json[64];
    int n = snprintf(json, sizeof json, "{\"input_tokens\":%zu}", req->body_size / 4 + 1);
    server_reply(conn, 200, "Content-Type: application/json\r\n", json, (size_t)n);
    return 200;
}

/* The checks every API call goes through, in the service's order. */
static int serve_api(struct server_conn *conn, const struct server_request *req, bool count_only)
{
    const char *auth = auth_fault(req);
    if (auth)
        return answer_error(conn, 401, "", auth);
    if (!server_header(req, "anthropic-version"))
        return answer_error(conn, 400, "", "anthropic-version: header is required");
    const char *type = server_header(req, "content-type");
    if (!type || strncasecmp(type, "application/json", 16) != 0)
        return answer_error(conn, 400, "", "Content-Type must be application/json");
    cJSON *body = cJSON_ParseWithLengthOpts(req->body, req->body_size + 1, NULL, 1);
    char fault[256];
    int status = body_fault(body, count_only, fault, sizeof fault)
                     ? answer_error(conn, 400, "", fault)
                     : (count_only ? serve_count : serve_messages)(conn, req, body);
    cJSON_Delete(body);
    return status;
}

static void serve_control(struct server_conn *conn, const struct server_request *req)
{
    cJSON *change = cJSON_Parse(req->body);
    pthread_mutex_lock(&credentials_lock);
    for (cJSON *list = change ? change->child : NULL, *next; list; list = next) {
        next = list->next;
        if (cJSON_IsArray(list) && cJSON_GetObjectItem(credentials, list->string))
            cJSON_ReplaceItemInObject(credentials, list->string, cJSON_Duplicate(list, 1));
    }
    char *json = cJSON_PrintUnformatted(credentials);
    pthread_mutex_unlock(&credentials_lock);
    cJSON_Delete(change);
    server_reply(conn, 200, "Content-Type: application/json\r\n", json, strlen(json));
    free(json);
}

static void handle(struct server_conn *conn, const struct server_request *req, void *ctx)
{
    (void)ctx;
    if (strcmp(req->path, "/_log") == 0) {
        request_log_serve(conn, req);
        return;
    }
    if (strcmp(req->path, "/_control") == 0) {
        serve_control(conn, req);
        return;
    }
    unsigned long number = request_log_add(req);
    bool head = strcmp(req->method, "HEAD") == 0;
    bool post = strcmp(req->method, "POST") == 0;
    bool root = strcmp(req->path, "/") == 0;
    bool messages = strcmp(req->path, "/v1/messages") == 0;
    bool count = strcmp(req->path, "/v1/messages/count_tokens") == 0;
    int status = 200;
    if (root && head)
        server_reply(conn, 200, "", "", 0);
    else if (!messages && !count)
        status = answer_error(conn, 404, "", NULL);
    else if (!post)
        status = answer_error(conn, 405, "Allow: POST\r\n", NULL);
    else
        status = serve_api(conn, req, count);
    request_log_status(number, status);
}

/* ---- start ---- */

static int usage(void)
{
    fputs("usage: messages-api [--port N] [--token T]... [--api-key K]... [--die-with-parent]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    int port = 0;
    credentials = cJSON_Parse("{\"tokens\":[],\"apiKeys\":[],\"expired\":[]}");
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--die-with-parent") == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            continue;
        }
        if (!value)
            return usage();
        if (strcmp(argv[i], "--port") == 0)
            port = (int)strtol(value, NULL, 10);
        else if (strcmp(argv[i], "--token") == 0)
            cJSON_AddItemToArray(cJSON_GetObjectItem(credentials, "tokens"),
                                 cJSON_CreateString(value));
        else if (strcmp(argv[i], "--api-key") == 0)
            cJSON_AddItemToArray(cJSON_GetObjectItem(credentials, "apiKeys"),
                                 cJSON_CreateString(value));
        else
            return usage();
        i++;
    }
    server_run(port, handle, NULL);
    perror("messages-api");
    return 1;
}
