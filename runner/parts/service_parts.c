/* The second half of the table: parts that serve callers. */
#include "base/clock.h"
#include "runner/access/audit.h"
#include "runner/access/callers.h"
#include "runner/api/numbers.h"
#include "runner/api/openapi.h"
#include "runner/api/replay.h"
#include "runner/api/system_prompt.h"
#include "runner/api/visits.h"
#include "runner/overflow/prompt.h"
#include "runner/parts/runner.h"
#include "runner/version.h"
#include "runner/webpush/webpush.h"

#include <stdio.h>
#include <string.h>

#define HEAD_MS 30000
#define BODY_IDLE_MS 30000
#define BODY_TOTAL_MS 300000
#define IDLE_MS                                                                   \
    100000 /* longer than cloudflared keeps an idle connection, so that it closes \
            * first */
#define PARKED_MAX 4096
#define STREAMS_MAX 8192
#define LINGER_MS 2000

/* --- logging in from anywhere -------------------------------------------------------------- */

static int build_login(void *whole, struct err *err)
{
    struct runner *runner = whole;
    snprintf(runner->marker, sizeof(runner->marker), TASK_MARKER "=%s",
             store_instance(runner->store));
    const struct login_flow_config flow = {.config = &runner->config,
                                           .launcher = runner->launcher,
                                           .keeper = runner->keeper,
                                           .secrets = runner->secrets,
                                           .marker = runner->marker};
    runner->flow = login_flow_new(&flow, err);
    return runner->flow ? 0 : -1;
}

static void free_login(void *whole)
{
    struct runner *runner = whole;
    login_flow_free(runner->flow);
    runner->flow = NULL;
}

/* --- Cloudflare Access, where it is configured --------------------------------------------- */

static int build_access(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct config *config = runner->first;
    const struct access_config access = {.team_domain = config->cf_access_team_domain,
                                         .aud = config->cf_access_aud,
                                         .certs_url = config->cf_access_certs_url,
                                         .state_dir = config->state_dir};
    if (!access.team_domain)
        return 0;
    runner->access = access_new(&access, err);
    return runner->access ? 0 : -1;
}

static int start_access(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return runner->access ? access_start(runner->access, err) : 0;
}

static void free_access(void *whole)
{
    struct runner *runner = whole;
    access_free(runner->access);
    runner->access = NULL;
}

/* --- who was here, and what they did ------------------------------------------------------- */

static int build_audit(void *whole, struct err *err)
{
    struct runner *runner = whole;
    runner->audit = audit_open(runner->first->state_dir, err);
    runner->callers = runner->audit ? callers_new(runner->first->state_dir, err) : NULL;
    return runner->callers ? 0 : -1;
}

static void free_audit(void *whole)
{
    struct runner *runner = whole;
    callers_free(runner->callers);
    audit_close(runner->audit);
    runner->callers = NULL;
    runner->audit = NULL;
}

/* --- the system prompt from Secret Manager, where it is configured ------------------------- */

static int build_prompt(void *whole, struct err *err)
{
    struct runner *runner = whole;
    if (!runner->first->system_prompt_secret)
        return 0;
    runner->prompt = prompt_watch_start(runner->first, err);
    return runner->prompt ? 0 : -1;
}

static void free_prompt(void *whole)
{
    struct runner *runner = whole;
    prompt_watch_stop(runner->prompt);
    runner->prompt = NULL;
}

/* --- the executor past this machine, where it is configured -------------------------------- */

static int build_cloud(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct config *config = runner->first;
    bool named = config->cloudrun_job_name && config->gcs_logs_bucket && config->kms_key_name;
    if (config->overflow == OVERFLOW_OFF && !named)
        return 0;
    if (cloud_open(config, &runner->cloud, err))
        return -1;
    const struct overflow_config overflow = {.config = &runner->config,
                                             .inputs = runner->inputs,
                                             .cloud = &runner->cloud,
                                             .store = runner->store,
                                             .repos = runner->repos,
                                             .engine = runner->engine};
    runner->overflow = overflow_new(&overflow, err);
    if (!runner->overflow)
        return -1;
    runner->away =
        (struct executor){.run = overflow_run, .arg = runner->overflow, .outlives = true};
    runner->claude.cloud = &runner->cloud;
    engine_set_away(runner->engine, &runner->away);
    return 0;
}

static int start_cloud(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return runner->overflow ? overflow_start(runner->overflow, err) : 0;
}

static void free_cloud(void *whole)
{
    struct runner *runner = whole;
    overflow_free(runner->overflow);
    runner->overflow = NULL;
    cloud_close(&runner->cloud);
}

static void show_cloud(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    overflow_metrics(page, runner->overflow);
}

/* --- an instance of the service at Google --------------------------------------------------- */

static int build_service(void *whole, struct err *err)
{
    struct runner *runner = whole;
    if (!runner->first->cloud_service)
        return 0;
    if (!runner->overflow)
        return err_set(err, ERR_CONFIG,
                       "CLOUD_SERVICE needs CLOUDRUN_JOB_NAME, GCS_LOGS_BUCKET and KMS_KEY_NAME");
    const struct replica_config service = {.config = &runner->config,
                                           .cloud = &runner->cloud,
                                           .store = runner->store,
                                           .engine = runner->engine};
    runner->service = replica_new(&service, err);
    if (!runner->service)
        return -1;
    overflow_share(runner->overflow, replica_shared(runner->service));
    return 0;
}

static int start_service(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return runner->service ? replica_start(runner->service, err) : 0;
}

static void stop_service(void *whole)
{
    struct runner *runner = whole;
    replica_stop(runner->service);
}

static void free_service(void *whole)
{
    struct runner *runner = whole;
    replica_free(runner->service);
    runner->service = NULL;
}

/* --- sessions ------------------------------------------------------------------------------ */

static int build_sessions(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct sessions_config sessions = {.config = &runner->config,
                                             .launcher = runner->launcher,
                                             .walls = &runner->walls,
                                             .repos = runner->repos,
                                             .state_dir = runner->first->state_dir,
                                             .marker = runner->marker,
                                             .uid = runner->claude.uid,
                                             .gid = runner->claude.gid};
    runner->sessions = sessions_new(&sessions, err);
    runner->claude.sessions = runner->sessions; /* Set before a task is started. */
    return runner->sessions ? 0 : -1;
}

static void stop_sessions(void *whole)
{
    struct runner *runner = whole;
    sessions_stop(runner->sessions);
}

static void free_sessions(void *whole)
{
    struct runner *runner = whole;
    sessions_free(runner->sessions);
    runner->sessions = NULL;
}

/* --- sessions in the cloud ----------------------------------------------------------------- */

static int build_cloudbox(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct cloudbox_config cloudbox = {.config = &runner->config,
                                             .cloud = &runner->cloud,
                                             .sessions = runner->sessions,
                                             .engine = runner->engine,
                                             .store = runner->store,
                                             .state_dir = runner->first->state_dir,
                                             .uid = runner->claude.uid,
                                             .gid = runner->claude.gid};
    if (!runner->overflow)
        return 0;
    runner->cloudbox = cloudbox_new(&cloudbox, err);
    return runner->cloudbox ? 0 : -1;
}

/* The engine has taken up its tasks by now. */
static int start_cloudbox(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return runner->cloudbox ? cloudbox_start(runner->cloudbox, err) : 0;
}

static void stop_cloudbox(void *whole)
{
    struct runner *runner = whole;
    cloudbox_stop(runner->cloudbox);
}

static void free_cloudbox(void *whole)
{
    struct runner *runner = whole;
    cloudbox_free(runner->cloudbox);
    runner->cloudbox = NULL;
}

static void show_cloudbox(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    cloudbox_metrics(page, runner->cloudbox);
}

/* --- webhooks ------------------------------------------------------------------------------ */

static int build_webhook(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct webhook_config webhook = {
        .config = &runner->config, .store = runner->store, .version = RUNNER_VERSION};
    runner->webhook = webhook_new(&webhook, err);
    return runner->webhook ? 0 : -1;
}

static int start_webhook(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return webhook_start(runner->webhook, err);
}

static void stop_webhook(void *whole)
{
    struct runner *runner = whole;
    webhook_stop(runner->webhook);
}

static void free_webhook(void *whole)
{
    struct runner *runner = whole;
    webhook_free(runner->webhook);
    runner->webhook = NULL;
}

static void show_webhook(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    webhook_metrics(page, runner->webhook);
}

/* --- Web Push ------------------------------------------------------------------------------- */

static void on_end(const char *task_id, void *arg)
{
    webpush_ended(arg, task_id);
}

static int build_push(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct push_config push = {.config = &runner->config,
                                     .store = runner->store,
                                     .version = RUNNER_VERSION,
                                     .troubles = api_troubles,
                                     .arg = &runner->api};
    runner->push = webpush_new(&push, err);
    if (!runner->push)
        return -1;
    store_on_end(runner->store, on_end, runner->push);
    return 0;
}

/* Its thread asks the API for troubles; the API has been built by now. */
static int start_push(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return webpush_start(runner->push, err);
}

static void stop_push(void *whole)
{
    struct runner *runner = whole;
    webpush_stop(runner->push);
}

static void free_push(void *whole)
{
    struct runner *runner = whole;
    store_on_end(runner->store, NULL, NULL);
    webpush_free(runner->push);
    runner->push = NULL;
}

/* --- Python --------------------------------------------------------------------------------- */

static int build_python(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct python_config python = {.config = &runner->config,
                                         .launcher = runner->launcher,
                                         .state_dir = runner->first->state_dir,
                                         .uid = runner->claude.uid,
                                         .gid = runner->claude.gid};
    runner->python = python_new(&python, err);
    return runner->python ? 0 : -1;
}

static void free_python(void *whole)
{
    struct runner *runner = whole;
    python_free(runner->python);
    runner->python = NULL;
}

static void show_python(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    python_metrics(page, runner->python);
}

/* --- the janitor --------------------------------------------------------------------------- */

static int start_janitor(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct janitor_config janitor = {
        .config = &runner->config, .store = runner->store, .repos = runner->repos};
    runner->janitor = janitor_new(&janitor, err);
    return runner->janitor ? 0 : -1;
}

static void free_janitor(void *whole)
{
    struct runner *runner = whole;
    janitor_free(runner->janitor);
    runner->janitor = NULL;
}

/* --- alerts -------------------------------------------------------------------------------- */

static int count_waiting(void *arg)
{
    struct engine_load load;
    struct runner *runner = arg;
    engine_load(runner->engine, &load);
    return load.queued;
}

static int build_alert(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct alert_config alert = {.config = &runner->config,
                                       .keeper = runner->keeper,
                                       .breaker = runner->breaker,
                                       .waiting = count_waiting,
                                       .arg = runner,
                                       .state_dir = runner->first->state_dir};
    runner->alert = alert_new(&alert, err);
    return runner->alert ? 0 : -1;
}

static int start_alert(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return alert_start(runner->alert, err);
}

static void free_alert(void *whole)
{
    struct runner *runner = whole;
    alert_free(runner->alert);
    runner->alert = NULL;
}

/* --- the CLI ------------------------------------------------------------------------------- */

static int start_cli(void *whole, struct err *err)
{
    struct runner *runner = whole;
    runner->cli = claude_watch_start(&runner->claude, err);
    return runner->cli ? 0 : -1;
}

static void stop_cli(void *whole)
{
    struct runner *runner = whole;
    claude_watch_stop(runner->cli);
    runner->cli = NULL;
}

/* --- the API ------------------------------------------------------------------------------- */

static int build_api(void *whole, struct err *err)
{
    size_t count;
    struct runner *runner = whole;
    const struct http_route *routes = api_routes(&count);
    struct api *api = &runner->api;
    api->config = &runner->config;
    api->engine = runner->engine;
    api->store = runner->store;
    api->keeper = runner->keeper;
    api->flow = runner->flow;
    api->breaker = runner->breaker;
    api->proxy = runner->proxy;
    api->usage = runner->usage;
    api->alert = runner->alert;
    api->access = runner->access;
    api->claude = &runner->claude;
    api->launcher = runner->launcher;
    api->repos = runner->repos;
    api->overflow = runner->overflow;
    api->service = runner->service;
    api->prompt = runner->prompt;
    api->webhook = runner->webhook;
    api->sessions = runner->sessions;
    api->cloudbox = runner->cloudbox;
    api->inputs = runner->inputs;
    api->python = runner->python;
    api->replay = replay_new();
    api->state_dir = runner->first->state_dir;
    api->guard = api_guard_new();
    api->visits = visits_new();
    api->audit = runner->audit;
    api->callers = runner->callers;
    api->push = runner->push;
    api->version = RUNNER_VERSION;
    api->started_ms = clock_mono_ms();
    api->system_prompt = system_prompt_new();
    api->numbers = api_numbers_new(routes, count);
    parts_metrics(&runner->parts, runner->metrics, COUNT_OF(runner->metrics));
    api->metrics = runner->metrics;
    api->openapi = openapi_new(api->version);
    bool all = api->guard && api->visits && api->system_prompt && api->numbers && api->openapi &&
               api->replay;
    return all ? 0 : err_sys(err, "api");
}

static void free_api(void *whole)
{
    struct runner *runner = whole;
    api_guard_free(runner->api.guard);
    visits_free(runner->api.visits);
    system_prompt_free(runner->api.system_prompt);
    api_numbers_free(runner->api.numbers);
    openapi_free(runner->api.openapi);
    replay_free(runner->api.replay);
}

/* --- HTTP: last, when all is there that a request may need --------------------------------- */

static int start_http(void *whole, struct err *err)
{
    size_t count;
    struct runner *runner = whole;
    const struct http_route *routes = api_routes(&count);
    const struct http_config http = {.bind = runner->first->bind,
                                     .port = runner->first->port,
                                     .workers = runner->first->http_workers,
                                     .routes = routes,
                                     .route_count = count,
                                     .gate = api_gate,
                                     .answering = api_answering,
                                     .done = api_done,
                                     .trouble = api_trouble,
                                     .arg = &runner->api,
                                     .head_ms = HEAD_MS,
                                     .body_idle_ms = BODY_IDLE_MS,
                                     .body_total_ms = BODY_TOTAL_MS,
                                     .idle_ms = IDLE_MS,
                                     .parked_max = PARKED_MAX,
                                     .streams_max = STREAMS_MAX};
    runner->server = http_start(&http, err);
    if (!runner->server)
        return -1;
    atomic_store(&runner->api.server, runner->server);
    return 0;
}

/* Callers that wait for a login hold workers, so they are woken first. */
static void stop_http(void *whole)
{
    struct runner *runner = whole;
    login_flow_stop(runner->flow);
    python_stop(runner->python); /* The server sends its last answers. */
    if (runner->server)
        http_stop(runner->server, LINGER_MS);
    runner->server = NULL;
}

const struct part runner_service_parts[] = {
    {"login", .build = build_login, .free = free_login},
    {"access", .build = build_access, .start = start_access, .free = free_access},
    {"audit log", .build = build_audit, .free = free_audit},
    {"system prompt", .build = build_prompt, .free = free_prompt},
    {"cloud", .build = build_cloud, .start = start_cloud, .free = free_cloud,
     .metrics = show_cloud},
    {"service", .build = build_service, .start = start_service, .stop = stop_service,
     .free = free_service},
    {"webhooks", .build = build_webhook, .start = start_webhook, .stop = stop_webhook,
     .free = free_webhook, .metrics = show_webhook},
    {"push", .build = build_push, .start = start_push, .stop = stop_push, .free = free_push},
    {"sessions", .build = build_sessions, .stop = stop_sessions, .free = free_sessions},
    {"cloud sessions", .build = build_cloudbox, .start = start_cloudbox, .stop = stop_cloudbox,
     .free = free_cloudbox, .metrics = show_cloudbox},
    {"python", .build = build_python, .free = free_python, .metrics = show_python},
    {"alert", .build = build_alert, .start = start_alert, .free = free_alert},
    {"api", .build = build_api, .free = free_api},
    {"janitor", .start = start_janitor, .free = free_janitor},
    {"cli", .start = start_cli, .stop = stop_cli, .free = stop_cli},
    {"http", .start = start_http, .stop = stop_http},
};
const size_t runner_service_part_count = COUNT_OF(runner_service_parts);
