/*
 * oauth-server: a stand-in for the parts of platform.claude.com, claude.com and api.anthropic.com
 * that a login needs, as strict as they are and single-use where they are.
 *
 *   oauth-server [--port N] [--tls-port N --cert FILE --key FILE] [--refresh-token T]…
 *                [--die-with-parent]
 *
 * Serves plain HTTP on loopback (for OAUTH_TOKEN_URL=http://127.0.0.1:PORT/v1/oauth/token) and,
 * with a certificate, the same over TLS (the CLI, which knows its hosts by name only).
 *
 *   GET  /cai/oauth/authorize?…          what a person does in the browser, agreed: checks the
 *                                        request and answers {"code","state","paste":"CODE#STATE"}
 *   GET  /oauth/authorize?z-…            the same in the newer CLI's short form
 *   POST /v1/oauth/token                 grant_type authorization_code (PKCE S256, a code is good
 *                                        for one try) or refresh_token (single use)
 *   HEAD /                               200
 *   GET  /api/oauth/profile              with a token that is in force
 *   GET  /api/oauth/claude_cli/roles     likewise
 *
 *   GET, DELETE /_log[?contains=TEXT]    what arrived (request_log.h)
 *   GET  /_control                       {"logins","refreshes","reuses" (of spent refresh tokens),
 *                                        "refused","accessTokens","refreshTokens","spent","codes",
 *                                        "expiresIn","next","faults"}
 *   POST /_control                       replaces those members that it names:
 *     "expiresIn":SECONDS                of the tokens given from now on
 *     "accessTokens", "refreshTokens"    what is in force; a new pair takes the place of both
 *     "next":[{"access","refresh"}]      the pairs to give next, instead of random ones
 *     "faults":[{"path"?,"grant"?,"times":1,"delayMs"?,"hold":true?,"status"?,"body"?,"cut"?}]
 *                                        for matching requests, in order: waits, then answers
 *                                        `status` with `body`, or cuts the connection: "cut":
 *                                        "before" doing anything, "after" the tokens have changed
 *     "release":true                     those that are held go on
 */
#include "oauth_state.h"
#include "request_log.h"
#include "server.h"
#include "tls.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>

enum { PARAM_MAX = 2048 };

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, name));
    return text ? text : "";
}

/* ---- answers ---- */

/* Takes over `json`. */
static int answer_json(struct server_conn *conn, int status, cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);
    server_reply(conn, status, "Content-Type: application/json\r\n", text, strlen(text));
    free(text);
    cJSON_Delete(json);
    return status;
}

/* RFC 6749, 5.2. */
static int answer_fault(struct server_conn *conn, int status, const char *error,
                        const char *description)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "error", error);
    cJSON_AddStringToObject(json, "error_description", description);
    return answer_json(conn, status, json);
}

/* ---- the browser's part ---- */

static int hex(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* A parameter of the query, decoded; "" when it is missing. */
static void param(const char *query, const char *name, char out[PARAM_MAX])
{
    size_t len = strlen(name), n = 0;
    *out = '\0';
    while (*query && !(strncmp(query, name, len) == 0 && query[len] == '=')) {
        query += strcspn(query, "&");
        query += *query == '&';
    }
    if (!*query)
        return;
    for (const char *p = query + len + 1; *p && *p != '&' && n + 1 < PARAM_MAX; p++) {
        bool escaped = *p == '%' && hex(p[1]) >= 0 && hex(p[2]) >= 0;
        out[n++] = escaped ? (char)(hex(p[1]) * 16 + hex(p[2])) : *p == '+' ? ' ' : *p;
        p += escaped ? 2 : 0;
    }
    out[n] = '\0';
}

/* The address that newer CLIs print: nothing but "z-" and the challenge. */
static int serve_short(struct server_conn *conn, const struct server_request *req)
{
    const char *challenge = req->query + 2;
    if (strncmp(req->query, "z-", 2) != 0 || strlen(challenge) != 43 ||
        strspn(challenge, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != 43)
        return answer_fault(conn, 400, "invalid_request", "z-");
    return answer_json(
        conn, 200,
        oauth_grant(challenge, "", "user:profile user:inference user:sessions:claude_code"));
}

static int serve_authorize(struct server_conn *conn, const struct server_request *req)
{
    static const struct {
        const char *name, *value;
    } wanted[] = {
        {"client_id", OAUTH_CLIENT_ID},
        {"response_type", "code"},
        {"redirect_uri", OAUTH_REDIRECT},
        {"code_challenge_method", "S256"},
    };
    char value[PARAM_MAX], challenge[PARAM_MAX], state[PARAM_MAX], scope[PARAM_MAX];
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        param(req->query, wanted[i].name, value);
        if (strcmp(value, wanted[i].value) != 0)
            return answer_fault(conn, 400, "invalid_request", wanted[i].name);
    }
    param(req->query, "code_challenge", challenge);
    param(req->query, "state", state);
    param(req->query, "scope", scope);
    if (strlen(challenge) != 43 || strlen(state) < 16 || !strstr(scope, "user:inference"))
        return answer_fault(conn, 400, "invalid_request", "code_challenge, state or scope");
    return answer_json(conn, 200, oauth_grant(challenge, state, scope));
}

/* ---- the token server ---- */

static void add_account(cJSON *answer)
{
    cJSON *account = cJSON_AddObjectToObject(answer, "account");
    cJSON_AddStringToObject(account, "uuid", "5f6d0b1c-0000-4000-8000-000000000001");
    cJSON_AddStringToObject(account, "email_address", "owner@example.com");
    cJSON *organization = cJSON_AddObjectToObject(answer, "organization");
    cJSON_AddStringToObject(organization, "uuid", "5f6d0b1c-0000-4000-8000-000000000002");
    cJSON_AddStringToObject(organization, "name", "Example");
}

static int exchange(struct server_conn *conn, const cJSON *body, bool keep_silent)
{
    const char *grant = text_of(body, "grant_type");
    const char *fault = NULL;
    cJSON *answer;
    if (strcmp(text_of(body, "client_id"), OAUTH_CLIENT_ID) != 0)
        return answer_fault(conn, 401, "invalid_client", "Unknown client_id");
    if (strcmp(grant, "authorization_code") == 0)
        answer = oauth_redeem(body, &fault);
    else if (strcmp(grant, "refresh_token") == 0)
        answer = oauth_renew(body, &fault);
    else
        return answer_fault(conn, 400, "unsupported_grant_type", "Unknown grant_type");
    if (keep_silent) {
        cJSON_Delete(answer);
        server_cut(conn);
        return 0;
    }
    if (fault)
        return answer_fault(conn, 400, "invalid_grant", fault);
    add_account(answer);
    return answer_json(conn, 200, answer);
}

static int serve_token(struct server_conn *conn, const struct server_request *req, bool keep_silent)
{
    const char *type = server_header(req, "content-type");
    if (strcmp(req->method, "POST") != 0)
        return answer_fault(conn, 405, "invalid_request", "Method not allowed");
    if (!type || strncasecmp(type, "application/json", 16) != 0)
        return answer_fault(conn, 400, "invalid_request", "Content-Type must be application/json");
    cJSON *body = cJSON_ParseWithLengthOpts(req->body, req->body_size + 1, NULL, 1);
    int status = cJSON_IsObject(body)
                     ? exchange(conn, body, keep_silent)
                     : answer_fault(conn, 400, "invalid_request", "The body is not valid JSON");
    cJSON_Delete(body);
    return status;
}

/* ---- the API ---- */

static bool is_allowed(const struct server_request *req)
{
    const char *authorization = server_header(req, "authorization");
    return authorization && strncasecmp(authorization, "Bearer ", 7) == 0 &&
           oauth_accepts(authorization + 7);
}

static int serve_account(struct server_conn *conn, const struct server_request *req,
                         const char *answer)
{
    if (!is_allowed(req))
        return answer_fault(conn, 401, "authentication_error", "Invalid bearer token");
    return answer_json(conn, 200, cJSON_Parse(answer));
}

static const char profile[] =
    "{\"account\":{\"uuid\":\"5f6d0b1c-0000-4000-8000-000000000001\",\"full_name\":\"Owner\","
    "\"display_name\":\"Owner\",\"email\":\"owner@example.com\",\"has_claude_max\":true,"
    "\"has_claude_pro\":false,\"created_at\":\"2024-01-01T00:00:00Z\"},"
    "\"organization\":{\"uuid\":\"5f6d0b1c-0000-4000-8000-000000000002\",\"name\":\"Example\","
    "\"organization_type\":\"claude_max\",\"billing_type\":\"stripe_subscription\","
    "\"rate_limit_tier\":\"default_claude_max_5x\",\"has_extra_usage_enabled\":false}}";

static const char roles[] =
    "{\"organization_uuid\":\"5f6d0b1c-0000-4000-8000-000000000002\","
    "\"organization_name\":\"Example\",\"organization_role\":\"admin\","
    "\"workspace_uuid\":null,\"workspace_name\":null,\"workspace_role\":null}";

/* ---- routes ---- */

static int serve_path(struct server_conn *conn, const struct server_request *req, bool keep_silent)
{
    if (strcmp(req->path, "/v1/oauth/token") == 0)
        return serve_token(conn, req, keep_silent);
    if (strcmp(req->path, "/") == 0 && strcmp(req->method, "HEAD") == 0) {
        server_reply(conn, 200, "", "", 0);
        return 200;
    }
    if (strcmp(req->method, "GET") != 0)
        return answer_fault(conn, 404, "not_found_error", "Not Found");
    if (strcmp(req->path, "/cai/oauth/authorize") == 0)
        return serve_authorize(conn, req);
    if (strcmp(req->path, "/oauth/authorize") == 0)
        return serve_short(conn, req);
    if (strcmp(req->path, "/api/oauth/profile") == 0)
        return serve_account(conn, req, profile);
    if (strcmp(req->path, "/api/oauth/claude_cli/roles") == 0)
        return serve_account(conn, req, roles);
    return answer_fault(conn, 404, "not_found_error", "Not Found");
}

static atomic_uint releases;

/* Until all are released. False when the client has gone before. */
static bool hold(struct server_conn *conn)
{
    unsigned round = atomic_load(&releases);
    while (round == atomic_load(&releases))
        if (!server_wait(conn, 20))
            return false;
    return true;
}

/* What a planned fault makes of the request; -1: it goes on as usual. */
static int show_fault(struct server_conn *conn, const cJSON *fault)
{
    const cJSON *delay = cJSON_GetObjectItem(fault, "delayMs");
    const cJSON *status = cJSON_GetObjectItem(fault, "status");
    if (delay && !server_wait(conn, (int)delay->valuedouble))
        return 0;
    if (cJSON_IsTrue(cJSON_GetObjectItem(fault, "hold")) && !hold(conn))
        return 0;
    if (strcmp(text_of(fault, "cut"), "before") == 0) {
        server_cut(conn);
        return 0;
    }
    if (!status)
        return -1;
    const char *body = text_of(fault, "body");
    server_reply(conn, (int)status->valuedouble, "Content-Type: application/json\r\n", body,
                 strlen(body));
    return (int)status->valuedouble;
}

static int serve_checked(struct server_conn *conn, const struct server_request *req)
{
    cJSON *body = cJSON_ParseWithLengthOpts(req->body, req->body_size + 1, NULL, 1);
    cJSON *fault = oauth_fault(req->path, text_of(body, "grant_type"));
    int status = fault ? show_fault(conn, fault) : -1;
    if (status < 0)
        status = serve_path(conn, req, fault && strcmp(text_of(fault, "cut"), "after") == 0);
    cJSON_Delete(fault);
    cJSON_Delete(body);
    return status;
}

static void handle(struct server_conn *conn, const struct server_request *req, void *ctx)
{
    (void)ctx;
    if (strcmp(req->path, "/_log") == 0) {
        request_log_serve(conn, req);
        return;
    }
    if (strcmp(req->path, "/_control") == 0) {
        cJSON *change = cJSON_Parse(req->body);
        if (cJSON_IsTrue(cJSON_GetObjectItem(change, "release")))
            atomic_fetch_add(&releases, 1);
        answer_json(conn, 200, oauth_control(change));
        cJSON_Delete(change);
        return;
    }
    unsigned long number = request_log_add(req);
    request_log_status(number, serve_checked(conn, req));
}

/* ---- start ---- */

struct options {
    int port, tls_port;
    const char *cert, *key;
};

static int usage(void)
{
    fputs("usage: oauth-server [--port N] [--tls-port N --cert FILE --key FILE]\n"
          "                    [--refresh-token T]... [--die-with-parent]\n",
          stderr);
    return 2;
}

static bool parse_options(int argc, char **argv, struct options *options)
{
    cJSON *change = cJSON_CreateObject();
    cJSON *tokens = cJSON_AddArrayToObject(change, "refreshTokens");
    bool good = true;
    for (int i = 1; i < argc && good; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--die-with-parent") == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            continue;
        }
        good = value != NULL;
        if (good && strcmp(argv[i], "--port") == 0)
            options->port = (int)strtol(value, NULL, 10);
        else if (good && strcmp(argv[i], "--tls-port") == 0)
            options->tls_port = (int)strtol(value, NULL, 10);
        else if (good && strcmp(argv[i], "--cert") == 0)
            options->cert = value;
        else if (good && strcmp(argv[i], "--key") == 0)
            options->key = value;
        else if (good && strcmp(argv[i], "--refresh-token") == 0)
            cJSON_AddItemToArray(tokens, cJSON_CreateString(value));
        else
            good = false;
        i++;
    }
    cJSON_Delete(oauth_control(change));
    cJSON_Delete(change);
    return good && !options->cert == !options->key;
}

static struct server_transport tls;
static int tls_fd = -1;

static void *serve_tls(void *arg)
{
    (void)arg;
    server_serve(tls_fd, &tls, handle, NULL);
    return NULL;
}

/* True when there is nothing to start, too. */
static bool start_tls(struct options *options)
{
    pthread_t thread;
    if (!options->cert)
        return true;
    if (!tls_transport(options->cert, options->key, &tls))
        return false;
    tls_fd = server_listen(&options->tls_port);
    return tls_fd >= 0 && pthread_create(&thread, NULL, serve_tls, NULL) == 0;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    oauth_state_init();
    if (!parse_options(argc, argv, &options))
        return usage();
    int fd = server_listen(&options.port);
    if (fd < 0 || !start_tls(&options)) {
        perror("oauth-server");
        return 1;
    }
    printf("listening on http://127.0.0.1:%d\n", options.port);
    if (tls_fd >= 0)
        printf("listening on https://127.0.0.1:%d\n", options.tls_port);
    fflush(stdout);
    server_serve(fd, NULL, handle, NULL);
    perror("oauth-server");
    return 1;
}
