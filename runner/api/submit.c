#include "runner/api/submit.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/api/system_prompt.h"
#include "runner/janitor/disk.h"

#include <stdio.h>
#include <string.h>

#define KEY_BYTES_MAX 255

int check_account(struct api *api, struct err *err)
{
    struct breaker_status breaker;
    struct keeper_status login;
    char time[CLOCK_TEXT_SIZE];
    breaker_status(api->breaker, &breaker);
    keeper_status(api->keeper, &login);
    if (breaker.state == BREAKER_LIMIT)
        return err_set(err, ERR_RATE, "usage limit: the account may go on at %s",
                       clock_format(breaker.until_ms, time));
    if (breaker.state == BREAKER_LOGIN)
        return err_set(err, ERR_LOGIN, "%s",
                       login.state != LOGIN_OK && !CONFIG_GET(api->config, anthropic_api_key)
                           ? login_state_sentence(login.state)
                           : "OAuth login or API key is refused by the API");
    return 0;
}

int pause_seconds(struct api *api)
{
    struct breaker_status breaker;
    breaker_status(api->breaker, &breaker);
    int64_t left = (breaker.until_ms - clock_real_ms()) / 1000 + 1;
    return left < 1 ? 1 : left > 604800 ? 604800 : (int)left;
}

static int idempotency_key(struct http_request *req, const char **ret_key, struct err *err)
{
    const char *key = http_header(req, "Idempotency-Key");
    *ret_key = key;
    if (!key)
        return 0;
    size_t len = strlen(key);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)key[i] < 0x20 || (unsigned char)key[i] > 0x7e)
            len = 0;
    if (len == 0 || len > KEY_BYTES_MAX)
        return err_set(err, ERR_INVALID, "Idempotency-Key must be 1..%d printable characters",
                       KEY_BYTES_MAX);
    return 0;
}

/* "The same request" is the same path with the same bytes. */
static int hash_request(struct http_request *req, const struct buf *body,
                        unsigned char hash[CRYPTO_SHA256_SIZE], struct err *err)
{
    AUTO(crypto_hash) struct crypto_hash *h = crypto_hash_new();
    if (!h)
        return err_sys(err, "hash");
    crypto_hash_add(h, http_path(req), strlen(http_path(req)) + 1);
    crypto_hash_add(h, buf_str(body), body->len);
    crypto_hash_end(h, hash);
    return 0;
}

/* Answers with what is wrong with the fields; err is the first of it. */
static void send_errors(struct http_request *req, const struct request_errors *errors,
                        const struct err *err)
{
    AUTO(buf) struct buf members = BUF_INIT(256u << 10);
    request_errors_print(errors, &members);
    http_send_error(req, err, members.len > 0 && buf_ok(&members) ? members.data : NULL);
}

/* One more field that is wrong; the first is the answer's detail. */
static void refuse(struct request_errors *errors, struct err *err, const char *field,
                   const char *why)
{
    if (errors->count == 0)
        err_set(err, ERR_INVALID, "%s: %s", field, why);
    request_errors_add(errors, ERR_INVALID, field, why);
}

static struct task_request *decode(struct http_request *req, struct api *api,
                                   const struct submission *s)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    AUTO(request_errors) struct request_errors errors = {0};
    AUTO(str) char *system_prompt = NULL;
    struct err no_prompt;
    bool unreadable = system_prompt_get(api->system_prompt,
                                        api->system_prompt_path ? api->system_prompt_path
                                                                : config->system_prompt_file,
                                        &system_prompt, &no_prompt) < 0;
    const struct request_defaults defaults = {
        .where = s->where,
        .timeout_minutes = s->timeout_minutes,
        .permission_mode = config->permission_mode ? config->permission_mode : "acceptEdits",
        .allowed_tools = &config->allowed_tools,
        .model = config->default_model,
        .system_prompt = system_prompt};
    AUTO(task_request)
    struct task_request *request =
        task_request_decode(buf_str(&s->body), s->body.len, &defaults, &errors, &err);
    if (!request) {
        send_errors(req, &errors, &err);
    } else if (unreadable && !request->system_prompt) {
        send_err(req, &no_prompt);
        return NULL;
    }
    return STEAL_PTR(request);
}

static int submit(struct http_request *req, struct api *api, struct submission *s, struct err *err)
{
    bool created;
    char session[ID_UUID_SIZE];
    unsigned char hash[CRYPTO_SHA256_SIZE];
    char host[WEBHOOK_HOST_SIZE] = "";
    if (s->request->callback_url)
        webhook_host(s->request->callback_url, host);
    AUTO(buf) struct buf request = BUF_INIT(8u << 20);
    AUTO(buf_wipe) struct buf secrets = BUF_INIT(4u << 20);
    task_request_save(s->request, &request);
    task_request_save_secrets(s->request, &secrets);
    if (buf_check(&request, "the request", err) || buf_check(&secrets, "the secrets", err) ||
        hash_request(req, &s->body, hash, err))
        return -1;
    id_uuid(session);
    const char *resumed = s->request->resume_session_id;
    AUTO(str) char *caller = caller_name(api, req);
    if (!caller)
        return err_sys(err, "the caller");
    const struct task_new task = {.id = s->request->task_id,
                                  .kind = "claude",
                                  .priority = s->request->priority,
                                  .retry_interrupted = s->request->retry_interrupted,
                                  .shared = s->shared && s->executor != EXECUTOR_CLOUD,
                                  .executor = s->executor,
                                  .stays = s->stays,
                                  .conversation = resumed ? resumed : session,
                                  .resume = resumed != NULL,
                                  .request = buf_str(&request),
                                  .secrets = secrets.len > 0 ? secrets.data : NULL,
                                  .caller = caller,
                                  .request_id = http_id(req),
                                  .webhook_url = s->request->callback_url,
                                  .webhook_host = host,
                                  .idempotency_key = s->key,
                                  .body_hash = hash,
                                  .body_hash_len = sizeof(hash)};
    if (engine_submit(api->engine, &task, &s->record, &created, err))
        return -1;
    if (created) {
        log_set_task(s->record.id);
        log_info("api", "task submitted by %s", task.caller);
        log_set_task(NULL);
    }
    return 0;
}

/* What only the store can see of a field. */
static void send_bad_field(struct http_request *req, const char *field, const struct err *why)
{
    struct err err;
    AUTO(request_errors) struct request_errors errors = {0};
    refuse(&errors, &err, field, why->msg);
    send_errors(req, &errors, &err);
}

/* A full queue, or a paused account, says when to come again. */
static void send_refusal(struct http_request *req, struct api *api, const struct submission *s,
                         const struct err *err)
{
    struct err ignored;
    char seconds[16];
    if (s->request->resume_session_id && err->code == ERR_NOT_FOUND) {
        send_bad_field(req, "resumeSessionId", err);
        return;
    }
    if (err->code != ERR_RATE || !s->shared || !check_account(api, &ignored)) {
        send_err(req, err);
        return;
    }
    snprintf(seconds, sizeof(seconds), "%d", pause_seconds(api));
    http_add_header(req, "Retry-After", seconds);
    http_send_error(req, err, NULL);
}

/* What is wrong with a place in the bucket, or NULL. */
static const char *check_prefix(const struct api *api, const char *prefix)
{
    if (!prefix)
        return NULL;
    if (!api->overflow)
        return "Google Cloud is not configured";
    if (strcmp(prefix, "sessions") == 0 || str_starts(prefix, "sessions/"))
        return "'sessions' is where cloud tasks keep what is theirs";
    return NULL;
}

/* Addresses that the configuration does not let us go to. Those of a cloud task's repository are
 * its worker's to judge. */
static void check_addresses(const struct api *api, const struct submission *s,
                            struct request_errors *errors, struct err *err)
{
    struct err why;
    const struct task_request *request = s->request;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    if (request->callback_url && webhook_check_url(request->callback_url, config, &why))
        refuse(errors, err, "callbackUrl", why.msg);
    if (request->repo_url && s->executor != EXECUTOR_CLOUD &&
        repos_check_url(api->repos, request->repo_url, &why))
        refuse(errors, err, "repoUrl", why.msg);
}

/* What can be said of the fields by who knows this runner, and where the task may run. -1 after the
 * answer. */
static int check_fields(struct http_request *req, struct api *api, struct submission *s)
{
    struct err err;
    AUTO(request_errors) struct request_errors errors = {0};
    s->executor = (enum task_executor)s->request->executor;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    s->stays =
        api->overflow ? overflow_stays(config, s->request) : "Google Cloud is not configured";
    check_addresses(api, s, &errors, &err);
    const char *wrong_prefix = check_prefix(api, s->request->post_upload_gcs_prefix);
    if (wrong_prefix)
        refuse(&errors, &err, "postExecutionActions.uploadFiles.gcsPrefix", wrong_prefix);
    if (s->executor == EXECUTOR_CLOUD && s->stays)
        refuse(&errors, &err, "executor", s->stays);
    if (errors.count == 0)
        return 0;
    send_errors(req, &errors, &err);
    return -1;
}

/* True when the cloud takes it although it cannot run here now. */
static bool may_leave(const struct api *api, const struct submission *s)
{
    int overflow = CONFIG_GET(api->config, overflow);
    if (s->stays || s->executor == EXECUTOR_LOCAL)
        return false;
    return s->executor == EXECUTOR_CLOUD || overflow == OVERFLOW_UNAVAILABLE ||
           overflow == OVERFLOW_ALWAYS;
}

/* What keeps tasks from running here keeps this one from being taken. */
static int check_here(struct api *api, struct submission *s, struct err *err)
{
    bool leaves = may_leave(api, s);
    if (disk_check(api->state_dir, CONFIG_GET(api->config, disk_min_free_mb), err)) {
        if (!leaves)
            return -1;
        s->executor = EXECUTOR_CLOUD;
    }
    return s->shared && !s->patient && !leaves ? check_account(api, err) : 0;
}

int submit_task(struct http_request *req, struct api *api, struct submission *s)
{
    struct err err;
    buf_init(&s->body, API_BODY_MAX);
    if (idempotency_key(req, &s->key, &err) || json_body(req, API_BODY_MAX, &s->body, &err)) {
        send_err(req, &err);
        return -1;
    }
    s->request = decode(req, api, s);
    if (!s->request || check_fields(req, api, s))
        return -1;
    s->shared = !s->request->anthropic_api_key && !s->request->anthropic_oauth_token;
    s->patient |= s->request->detach;
    if (check_here(api, s, &err) || submit(req, api, s, &err)) {
        send_refusal(req, api, s, &err);
        return -1;
    }
    return 0;
}

void submission_done(struct submission *s)
{
    task_request_free(s->request);
    task_record_done(&s->record);
    buf_wipe(&s->body);
}
