#include "google/google.h"

#include "base/check.h"
#include "base/form.h"
#include "base/str.h"
#include "google/limits.h"
#include "google/wire.h"

#include <stdio.h>
#include <string.h>

static const char *const default_endpoints[] = {
#define ENDPOINT(name, title, endpoint) [name] = (endpoint),
    GOOGLE_APIS(ENDPOINT)
#undef ENDPOINT
};

static int take_endpoint(struct google *google, enum google_api api, const char *text,
                         struct err *err)
{
    struct form_url url;
    if (form_url(text, &url) || url.has_user || (!url.tls && !url.loopback) || strpbrk(text, "?#"))
        return err_set(err, ERR_CONFIG,
                       "the endpoint of %s is no https URL (http is for loopback only)",
                       wire_title(api));
    size_t len = strlen(text);
    while (text[len - 1] == '/')
        len--;
    google->endpoints[api] = str_copy(text, len);
    return google->endpoints[api] ? 0 : err_sys(err, "the endpoint of %s", wire_title(api));
}

/* Searches as Google's libraries do: the named file, gcloud's file, the metadata server. */
static struct identity *find_identity(const struct google_config *config, const char *iam,
                                      struct err *err)
{
    if (config->credentials && *config->credentials)
        return identity_from_file(config->credentials, iam, err);
    if (config->home && *config->home) {
        AUTO(buf) struct buf path = BUF_INIT(4096);
        buf_addf(&path, "%s/.config/gcloud/application_default_credentials.json", config->home);
        if (buf_check(&path, "the path of gcloud's credentials", err))
            return NULL;
        struct identity *identity = identity_from_file(buf_str(&path), iam, err);
        if (identity || err->code != ERR_NOT_FOUND)
            return identity;
    }
    bool named = config->metadata_host && *config->metadata_host;
    struct identity *identity = identity_from_metadata(named ? config->metadata_host : NULL, err);
    if (identity && config->at_google)
        identity->patience_ms = METADATA_PATIENCE_MS;
    return identity;
}

struct google *google_new(const struct google_config *config, struct err *err)
{
    AUTO(google) struct google *google = calloc(1, sizeof(*google));
    if (!google) {
        err_sys(err, "Google");
        return NULL;
    }
    links_init(&google->links);
    for (int i = 0; i < GOOGLE_API_COUNT; i++)
        if (take_endpoint(google, i,
                          config->endpoints[i] && *config->endpoints[i] ? config->endpoints[i]
                                                                        : default_endpoints[i],
                          err))
            return NULL;
    const char *iam = google->endpoints[GOOGLE_IAM_CREDENTIALS];
    google->identity = find_identity(config, iam, err);
    if (google->identity && config->impersonate && *config->impersonate)
        google->identity = identity_impersonate(google->identity, config->impersonate, iam, err);
    return google->identity ? STEAL_PTR(google) : NULL;
}

void google_free(struct google *google)
{
    if (!google)
        return;
    links_done(&google->links);
    identity_free(google->identity);
    for (int i = 0; i < GOOGLE_API_COUNT; i++)
        free(google->endpoints[i]);
    free(google);
}

int google_use_token(struct google *google, const char *token, struct err *err)
{
    struct identity *identity = identity_from_token(token, err);
    if (!identity)
        return -1;
    identity_free(google->identity);
    google->identity = identity;
    return 0;
}

int google_charge(struct google *google, const char *project, struct err *err)
{
    struct identity *identity = google->identity;
    bool person = identity->kind == IDENTITY_USER || identity->kind == IDENTITY_TOKEN;
    char *copy = person ? strdup(project) : NULL;
    if (person && !copy)
        return err_sys(err, "credentials");
    if (person) {
        free(identity->quota_project);
        identity->quota_project = copy;
    }
    return 0;
}

const char *google_identity(const struct google *google)
{
    const struct identity *identity = google->identity;
    const struct identity *root = identity->source ? identity->source : identity;
    return root->absent_ms ? NULL : identity->name;
}

const char *google_project(const struct google *google)
{
    return google->identity->project;
}

int google_login(struct google *google, struct err *err)
{
    AUTO(buf_wipe) struct buf token = BUF_INIT(TOKEN_BYTES_MAX);
    return identity_token(google->identity, &token, err);
}

int google_call(struct google *google, const struct google_call *call, struct json **ret_json,
                struct google_answer *ret_answer, struct err *err)
{
    REQUIRE(call->method && call->path);
    AUTO(wire_answer) struct wire_answer answer = {0};
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    AUTO(json) struct json *json = NULL;
    int total_ms = call->total_ms ? call->total_ms : CALL_MS;
    struct tries tries = {.retry = retry_begin(total_ms, call->stop, call->arg),
                          .kind = call->retry,
                          .most = call->tries};
    const struct wire wire = {.api = call->api,
                              .method = call->method,
                              .path = call->path,
                              .headers = &headers,
                              .body = call->body,
                              .body_len = call->body ? (int64_t)call->body_len : 0,
                              .once = call->retry == GOOGLE_ONCE,
                              .silence_ms = call->retry == GOOGLE_ONCE ? 0 : TRY_SILENCE_MS};
    if (call->body)
        strlist_add(&headers, "Content-Type: application/json");
    if (wire_call(google, &wire, &tries, &answer, ret_answer, err))
        return -1;
    if (ret_answer)
        *ret_answer = (struct google_answer){.status = answer.status, .retry_after_ms = -1};
    if (answer_json(call->api, &answer, &json, err)) {
        if (ret_answer)
            ret_answer->unsure = true; /* Whatever the failure was, the request had arrived. */
        return -1;
    }
    if (ret_json)
        *ret_json = STEAL_PTR(json);
    return 0;
}

/* Compute Engine has its own form of operations. */
static bool is_done(enum google_api api, const struct json *operation)
{
    bool done = false;
    const char *status = json_text(json_get(operation, "status"));
    if (api == GOOGLE_COMPUTE)
        return status && strcmp(status, "DONE") == 0;
    json_bool(json_get(operation, "done"), &done);
    return done;
}

/* Reads a finished operation: its error, or its response into *ret_json. */
static int end_operation(enum google_api api, const struct json *operation, struct json **ret_json,
                         struct err *err)
{
    const struct json *error = answer_error(operation);
    if (error && api == GOOGLE_COMPUTE) {
        const struct json *first = json_first(json_get(error, "errors"));
        AUTO(buf) struct buf words = BUF_INIT(1024);
        const char *message = json_text(json_get(first, "message"));
        retry_add_words(&words, message ? message : "no reason given", 180);
        return err_set(err, ERR_UPSTREAM, "%s: %s", wire_title(api), buf_str(&words));
    }
    if (error)
        return answer_fail_status(api, error, err);
    if (!ret_json)
        return 0;
    AUTO(buf) struct buf text = BUF_INIT(ANSWER_BYTES_MAX);
    const struct json *response =
        api == GOOGLE_COMPUTE ? operation : json_get(operation, "response");
    *ret_json = NULL;
    if (!response)
        return 0;
    json_print(response, &text);
    *ret_json = json_parse(buf_str(&text), text.len, err);
    return *ret_json ? 0 : -1;
}

static int ask_operation(struct google *google, enum google_api api, const char *path,
                         const struct retry *retry, struct json **ret_json, struct err *err)
{
    struct google_call call = {.api = api, .method = "GET", .path = path};
    int64_t left = retry_left_ms(retry);
    call.total_ms = left < CALL_MS ? (int)left + 1 : CALL_MS;
    return google_call(google, &call, ret_json, NULL, err);
}

int google_await(struct google *google, enum google_api api, const struct json *first,
                 const char *path, int total_ms, struct json **ret_json, struct err *err)
{
    REQUIRE(total_ms > 0);
    struct retry retry = retry_begin(total_ms, NULL, NULL);
    if (first && is_done(api, first))
        return end_operation(api, first, ret_json, err);
    for (int64_t pause_ms = 200;; pause_ms = pause_ms < 2500 ? pause_ms * 2 : 5000) {
        AUTO(json) struct json *operation = NULL;
        if (ask_operation(google, api, path, &retry, &operation, err))
            return -1;
        if (is_done(api, operation))
            return end_operation(api, operation, ret_json, err);
        int64_t left = retry_left_ms(&retry) - RETRY_MIN_MS * 2;
        retry.tries = 0;
        if (!retry_pause(&retry, pause_ms < left ? pause_ms : left))
            return err_set(err, ERR_TIMEOUT, "%s: the operation is not over yet", wire_title(api));
    }
}

void google_add_escaped(struct buf *out, const char *text)
{
    str_add_url(out, text, "");
}
