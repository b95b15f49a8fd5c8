#include "runner/api/submit.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "crypto/crypto.h"
#include "runner/api/caller_limits.h"
#include "runner/api/system_prompt.h"
#include "runner/cloudbox/cloudbox.h"
#include "runner/egress/rules.h"
#include "runner/inputs/layers.h"
#include "runner/janitor/disk.h"
#include "runner/overflow/prompt.h"
#include "runner/replica/replica.h"
#include "runner/session/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES_MAX 255

int check_token_server(struct api *api, struct err *err)
{
    struct keeper_status login;
    keeper_status(api->keeper, &login);
    if (CONFIG_GET(api->config, anthropic_api_key) || !keeper_is_cut_off(&login))
        return 0;
    return err_set(err, ERR_BUSY, "the login's token could not be refreshed: %s",
                   login.refresh_error);
}

int check_account(struct api *api, struct err *err)
{
    struct breaker_status breaker;
    struct keeper_status login;
    char time[CLOCK_TEXT_SIZE];
    breaker_status(api->breaker, &breaker);
    keeper_status(api->keeper, &login);
    if (breaker.state == BREAKER_LIMIT)
        return err_set(err, ERR_RATE, "usage limit: %s at %s",
                       breaker.reserved
                           ? "the rest of the window is kept for the owner (USAGE_KEEP_PERCENT); "
                             "tasks go on"
                           : "the account may go on",
                       clock_format(breaker.until_ms, time));
    if (breaker.state == BREAKER_LOGIN && check_token_server(api, err))
        return -1;
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

int idempotency_key(struct http_request *req, const char **ret_key, struct err *err)
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

/* Hashes the request: "the same request" means the same path with the same bytes. */
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

/* Answers with the errors of all fields; err is the first of them. */
static void send_errors(struct http_request *req, const struct request_errors *errors,
                        const struct err *err)
{
    AUTO(buf) struct buf members = BUF_INIT(256u << 10);
    request_errors_print(errors, &members);
    http_send_error(req, err, members.len > 0 && buf_ok(&members) ? members.data : NULL);
}

/* Adds one more wrong field; the first is the answer's detail. */
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
    /* When the secret could never be read, /health says so, and tasks run without the prompt. */
    const char *prompt_path = !api->prompt                         ? config->system_prompt_file
                              : prompt_watch_has_text(api->prompt) ? prompt_watch_path(api->prompt)
                                                                   : NULL;
    bool unreadable =
        system_prompt_get(api->system_prompt, prompt_path, &system_prompt, &no_prompt) < 0;
    const struct request_defaults defaults = {
        .where = s->task_kind->fields | s->where,
        .timeout_minutes = s->timeout_minutes,
        .permission_mode = config->permission_mode ? config->permission_mode : "acceptEdits",
        .free_mode = !config->permission_mode && api->claude->walls->tier == JAIL_FULL
                         ? "bypassPermissions" /* An explicit list of tools restricts the task. */
                         : NULL,
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

/* The values that the tasks of a submission are made of; they live until the tasks are stored. */
struct making {
    struct buf request, secrets;
    struct buf key; /* the idempotency key with its caller's name; or empty when the request's own
                     * key is used */
    unsigned char hash[CRYPTO_SHA256_SIZE];
    char host[WEBHOOK_HOST_SIZE];
    char group[ID_SIZE];
    char *caller;
    struct store_room room; /* where the caller has limits */
    char (*conversations)[ID_UUID_SIZE];
    char (*ids)[ID_SIZE]; /* at the service, of a group's */
    struct task_new *tasks;
};

static void making_done(struct making *making)
{
    buf_done(&making->request);
    buf_wipe(&making->secrets);
    buf_done(&making->key);
    free(making->caller);
    free(making->conversations);
    free(making->ids);
    free(making->tasks);
}

/* Serializes the request for the store, with its secrets apart. */
static int save_request(struct http_request *req, const struct submission *s, struct making *making,
                        struct err *err)
{
    buf_init(&making->request, 8u << 20);
    buf_init(&making->secrets, 4u << 20);
    buf_init(&making->key, 1024);
    if (s->request->callback_url)
        webhook_host(s->request->callback_url, making->host);
    task_request_save(s->request, &making->request);
    task_request_save_secrets(s->request, &making->secrets);
    return buf_check(&making->request, "the request", err) ||
                   buf_check(&making->secrets, "the secrets", err) ||
                   hash_request(req, &s->body, making->hash, err)
               ? -1
               : 0;
}

/* Makes the key unique to its caller: callers with names share no keys. Callers without names are
 * one caller, whose secret is being replaced. A key cannot contain the character that separates it
 * from the name. */
static int scope_key(struct submission *s, struct making *making, struct err *err)
{
    static const char unnamed[] = "secret-";
    const char *name = making->caller;
    if (!s->key || (str_starts(name, unnamed) &&
                    strspn(name + strlen(unnamed), "0123456789") == strlen(name + strlen(unnamed))))
        return 0;
    buf_addf(&making->key, "%s\x1f%s", name, s->key);
    return buf_check(&making->key, "the Idempotency-Key", err);
}

/* Makes as many tasks as `n` asks for; they differ only in what must be unique. */
static int make_tasks(struct http_request *req, struct api *api, struct submission *s,
                      struct making *making, struct err *err)
{
    const struct task_request *request = s->request;
    bool alone = s->count == 1;
    int64_t not_before_ms = 0;
    if (request->not_before) /* It was checked before. */
        (void)clock_parse(request->not_before, &not_before_ms);
    making->tasks = calloc(s->count, sizeof(*making->tasks));
    making->conversations = calloc(s->count, sizeof(*making->conversations));
    s->records = calloc(s->count, sizeof(*s->records));
    making->caller = caller_name(api, req);
    if (!making->tasks || !making->conversations || !s->records || !making->caller)
        return err_sys(err, "task");
    if (scope_key(s, making, err))
        return -1;
    if (s->limited)
        caller_limits_room(&s->limits, clock_real_ms(), &making->room);
    id_new(making->group);
    if (request->task_id && !alone)
        snprintf(making->group, sizeof(making->group), "%s", request->task_id);
    for (size_t i = 0; i < s->count; i++) {
        const char *resumed = request->resume_session_id;
        id_uuid(making->conversations[i]);
        making->tasks[i] = (struct task_new){
            .id = alone ? request->task_id : NULL,
            .kind = s->task_kind->name,
            .priority = request->priority,
            .not_before_ms = not_before_ms,
            .retry_interrupted = request->retry_interrupted,
            .shared = s->shared && s->executor != EXECUTOR_CLOUD,
            .executor = s->executor,
            .stays = s->stays,
            .conversation = resumed ? resumed : making->conversations[i],
            .resume = resumed != NULL,
            .request = buf_str(&making->request),
            .secrets = making->secrets.len > 0 ? making->secrets.data : NULL,
            .caller = making->caller,
            .room = s->limited ? &making->room : NULL,
            .request_id = http_id(req),
            .webhook_url = request->callback_url,
            .webhook_host = making->host,
            .idempotency_key = making->key.len > 0 ? buf_str(&making->key) : s->key,
            .body_hash = making->hash,
            .body_hash_len = sizeof(making->hash),
            .group = alone ? NULL : making->group,
            .run = (int)i};
    }
    return 0;
}

/* Where it is an instance of the service: the bucket has the tasks before the rows are made; theirs
 * are the keys, the webhooks and the conversations. 1: the records are of earlier tasks. */
static int promise(struct api *api, struct submission *s, struct making *making, struct err *err)
{
    making->ids = calloc(s->count, sizeof(*making->ids));
    if (!making->ids)
        return err_sys(err, "task");
    for (size_t i = 0; i < s->count; i++) {
        struct task_new *task = &making->tasks[i];
        if (task->group)
            replica_run_id(task->group, task->run, making->ids[i]);
        if (task->group)
            task->id = making->ids[i];
        else if (!task->id)
            task->id = making->group; /* not a group's: it is one task */
    }
    int rc = instances_promise(api, making->tasks, s->count, s->records, err);
    for (size_t i = 0; i < s->count; i++) {
        making->tasks[i].webhook_url = NULL;
        making->tasks[i].idempotency_key = NULL;
        making->tasks[i].resume = false;
    }
    return rc;
}

/* Makes the rows. Of tasks that were promised another thread may have made them. */
static int make_rows(struct api *api, struct submission *s, const struct making *making,
                     bool *ret_created, struct err *err)
{
    if (engine_submit_group(api->engine, making->tasks, s->count, s->records, ret_created, err) ==
        0)
        return 0;
    if (!api->service || err->code != ERR_CONFLICT)
        return -1;
    *ret_created = true;
    return instances_taken(api, making->tasks, s->count, s->records, err);
}

static int submit(struct http_request *req, struct api *api, struct submission *s, struct err *err)
{
    bool created = false;
    struct making making = {.tasks = NULL};
    s->count = s->request->n > 1 ? (size_t)s->request->n : 1;
    int rc = save_request(req, s, &making, err);
    if (rc == 0)
        rc = make_tasks(req, api, s, &making, err);
    if (rc == 0 && api->service)
        rc = promise(api, s, &making, err);
    if (rc == 0)
        rc = make_rows(api, s, &making, &created, err);
    if (rc > 0)
        rc = 0;
    if (created && rc == 0) {
        log_set_task(s->records->id);
        log_info("api", "%zu task%s submitted by %s", s->count, s->count > 1 ? "s" : "",
                 making.tasks->caller);
        log_set_task(NULL);
        record_action(api, req, "task.run", making.tasks->caller,
                      s->count > 1 ? making.group : s->records->id, s->task_kind->name);
    }
    making_done(&making);
    return rc;
}

/* Answers for a field that only the store could check. */
static void send_bad_field(struct http_request *req, const char *field, const struct err *why)
{
    struct err err;
    AUTO(request_errors) struct request_errors errors = {0};
    refuse(&errors, &err, field, why->msg);
    send_errors(req, &errors, &err);
}

/* Answers for a full queue or a paused account, with the time to try again. */
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

/* Says what is wrong with a place in the bucket, or returns NULL. */
static const char *check_prefix(const char *prefix)
{
    if (prefix && (strcmp(prefix, "sessions") == 0 || str_starts(prefix, "sessions/")))
        return "'sessions' is where cloud tasks keep what is theirs";
    return NULL;
}

/* Refuses addresses that the configuration does not allow. The worker judges those of a cloud
 * task's repository. */
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

/* The size of the disk that tasks write to, in MB; 0 when it is unknown. */
static int64_t disk_mb(const struct api *api)
{
    struct err ignored;
    int64_t unused, total = 0;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    return disk_space(config->state_dir, &unused, &total, &ignored) ? 0 : total >> 20;
}

/* Refuses limits that this machine could not keep. */
static void check_limits(const struct api *api, const struct submission *s,
                         struct request_errors *errors, struct err *err)
{
    const struct {
        const char *field;
        int64_t asked, most;
    } limits[] = {
        {"limits.memoryMb", s->request->limits_memory_mb, config_machine_memory_mb()},
        {"limits.diskMb", s->request->limits_disk_mb, disk_mb(api)},
    };
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        char why[96];
        if (s->executor == EXECUTOR_CLOUD || limits[i].most == 0 ||
            limits[i].asked <= limits[i].most)
            continue;
        snprintf(why, sizeof(why),
                 "must be at most %lld, which is all that this machine has, got %lld",
                 (long long)limits[i].most, (long long)limits[i].asked);
        refuse(errors, err, limits[i].field, why);
    }
}

/* Refuses a network restriction that this runner could not enforce. */
static void check_egress(const struct api *api, const struct submission *s,
                         struct request_errors *errors, struct err *err)
{
    char why[200];
    const struct jail_host *host = launcher_host(api->launcher);
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    const struct strlist *egress = &s->request->egress;
    egress = egress->count > 0 ? egress : &config->egress;
    if (api->claude->walls->gate || egress_mode_of(egress) == EGRESS_OPEN)
        return;
    snprintf(
        why, sizeof(why), "must be open here: this runner can't restrict a task's network (%s)",
        host->why[JAIL_HAS_GATE][0] ? host->why[JAIL_HAS_GATE] : "it takes a jail of tier full");
    refuse(errors, err, "egress", why);
}

/* Refuses what a task in a session cannot have: it works with the session's files. */
static void check_session(const struct api *api, const struct submission *s,
                          struct request_errors *errors, struct err *err)
{
    struct err why;
    const struct task_request *request = s->request;
    const struct {
        bool given;
        const char *field, *why;
    } others[] = {
        {request->repo_url, "repoUrl", "not with inSession: the session's files are the workspace"},
        {request->inputs, "inputs", "not with inSession: give them to the session"},
        {request->n > 1, "n", "must be 1 with inSession: its runs would share their files"},
        {request->post_git_commit || request->post_git_push, "postExecutionActions.git",
         "not with inSession: commit in the session"},
        {s->executor == EXECUTOR_CLOUD, "executor", "the session is on this machine"},
        {request->in_session && cloudbox_has(api->cloudbox, request->in_session), "inSession",
         "that session is in the cloud: tasks work in sessions of this machine"},
    };
    if (!request->in_session)
        return;
    if (session_check(api->sessions, request->in_session, &why))
        refuse(errors, err, "inSession", why.msg);
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (others[i].given)
            refuse(errors, err, others[i].field, others[i].why);
}

struct hold {
    struct api *api;
    struct submission *s;
    struct request_errors *errors;
    struct err *err;
};

static int hold_input(const char *name, const char *hash, void *arg)
{
    struct err why;
    char field[320];
    struct hold *hold = arg;
    if (input_hold(hold->api->inputs, hash, &why) == 0)
        return strlist_add(&hold->s->held, hash);
    snprintf(field, sizeof(field), "inputs.%.255s", name);
    refuse(hold->errors, hold->err, field,
           why.code == ERR_NOT_FOUND
               ? "has not been uploaded: send the archive by PUT /inputs/{sha256} first"
               : why.msg);
    return 0;
}

/* At the service: an input that the bucket does not have. */
static void refuse_input(const char *name, void *arg)
{
    char field[320];
    struct hold *hold = arg;
    snprintf(field, sizeof(field), "inputs.%.255s", name);
    refuse(hold->errors, hold->err, field,
           "has not been uploaded: send the archive by PUT /inputs/{sha256} first");
}

/* Holds the inputs that the task names, so that none is evicted before the store holds them. -1
 * when the bucket, which has them at the service, cannot be asked. */
static int hold_inputs(struct api *api, struct submission *s, struct request_errors *errors,
                       struct err *err)
{
    struct err why;
    struct hold hold = {.api = api, .s = s, .errors = errors, .err = err};
    s->inputs = api->inputs;
    if (api->service)
        return instances_hold_inputs(api, s->request->inputs, refuse_input, &hold, err);
    if (input_each(s->request->inputs, hold_input, &hold, &why))
        refuse(errors, err, "inputs", why.msg);
    return 0;
}

/* Checks the fields against this runner, and decides where the task may run. -1 after the
 * answer. */
static int check_fields(struct http_request *req, struct api *api, struct submission *s)
{
    struct err err;
    AUTO(request_errors) struct request_errors errors = {0};
    s->executor = (enum task_executor)s->request->executor;
    if (s->request->image && s->executor == EXECUTOR_LOCAL)
        refuse(&errors, &err, "image", "runs in the cloud only, and executor says local");
    else if (s->request->image)
        s->executor = EXECUTOR_CLOUD;
    const char *why, *field;
    for (size_t i = 0; api->service && instances_field(s->request, i, &field, &why); i++)
        if (field)
            refuse(&errors, &err, field, why);
    if (api->service)
        s->executor = EXECUTOR_CLOUD;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    s->stays = api->overflow ? overflow_stays(config, s->task_kind, s->request)
                             : "Google Cloud is not configured";
    check_addresses(api, s, &errors, &err);
    check_limits(api, s, &errors, &err);
    if (s->request->n > 1 && s->streams)
        refuse(&errors, &err, "n",
               "must be 1 here: a stream follows one task; without a stream, `GET /tasks?group=` "
               "has them all");
    if (s->request->n > 1 && s->request->resume_session_id)
        refuse(&errors, &err, "n", "must be 1 with resumeSessionId: one task at a time goes on");
    check_egress(api, s, &errors, &err);
    if (hold_inputs(api, s, &errors, &err)) {
        send_err(req, &err);
        return -1;
    }
    check_session(api, s, &errors, &err);
    const char *wrong_prefix = check_prefix(s->request->post_upload_gcs_prefix);
    if (wrong_prefix)
        refuse(&errors, &err, "postExecutionActions.uploadFiles.gcsPrefix", wrong_prefix);
    if (s->executor == EXECUTOR_CLOUD && s->stays)
        refuse(&errors, &err, "executor", s->stays);
    if (errors.count == 0)
        return 0;
    send_errors(req, &errors, &err);
    return -1;
}

/* True when the cloud can take the task although it cannot run here now. */
static bool may_leave(const struct api *api, const struct submission *s)
{
    int overflow = CONFIG_GET(api->config, overflow);
    if (s->stays || s->executor == EXECUTOR_LOCAL)
        return false;
    return s->executor == EXECUTOR_CLOUD || overflow == OVERFLOW_UNAVAILABLE ||
           overflow == OVERFLOW_ALWAYS;
}

/* Refuses the task when nothing can run here now and the cloud cannot take it. */
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

/* The limits of who asks, on what is asked for. -1 after the answer. */
static int check_caller(struct http_request *req, struct api *api, struct submission *s)
{
    struct err err;
    AUTO(str) char *name = caller_name(api, req);
    s->config = config_ref(api->config); /* the limits point into it */
    s->limited = name && caller_limits_find(s->config, name, &s->limits);
    if (!s->limited ||
        caller_limits_apply(&s->limits, name, s->task_kind->name, s->request, &err) == 0)
        return 0;
    send_err(req, &err);
    return -1;
}

int submit_task(struct http_request *req, struct api *api, struct submission *s)
{
    REQUIRE(s->kind);
    struct err err;
    if (!s->has_body)
        buf_init(&s->body, API_BODY_MAX);
    s->task_kind = engine_kind(api->engine, s->kind);
    if (!s->task_kind) {
        err_set(&err, ERR_INTERNAL, "this runner has no tasks of kind '%s'", s->kind);
        send_err(req, &err);
        return -1;
    }
    if (idempotency_key(req, &s->key, &err) ||
        (!s->has_body && api_json_body(req, API_BODY_MAX, &s->body, &err))) {
        send_err(req, &err);
        return -1;
    }
    s->request = decode(req, api, s);
    if (!s->request || check_caller(req, api, s) || check_fields(req, api, s))
        return -1;
    s->shared = s->task_kind->shares_account && s->task_kind->shares_account(s->request);
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
    config_unref(s->config);
    for (size_t i = 0; i < s->held.count; i++)
        input_drop(s->inputs, s->held.items[i]);
    strlist_done(&s->held);
    for (size_t i = 0; s->records && i < s->count; i++)
        task_record_done(&s->records[i]);
    free(s->records);
    buf_wipe(&s->body);
}
