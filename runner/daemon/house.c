#include "runner/daemon/house.h"

#include "base/clock.h"
#include "base/log.h"
#include "runner/api/numbers.h"
#include "runner/api/openapi.h"
#include "runner/api/system_prompt.h"
#include "runner/api/visits.h"
#include "runner/overflow/prompt.h"
#include "runner/version.h"

#include <stdio.h>
#include <string.h>

#define HEAD_MS 30000
#define BODY_IDLE_MS 30000
#define BODY_TOTAL_MS 300000
#define IDLE_MS 100000 /* longer than cloudflared keeps an idle connection: it closes first */
#define PARKED_MAX 4096
#define STREAMS_MAX 8192

static int build_flow(struct house *house, struct err *err)
{
    struct core *core = &house->core;
    snprintf(house->marker, sizeof(house->marker), TASK_MARKER "=%s", store_instance(core->store));
    const struct flow_config flow = {.config = &core->config,
                                     .launcher = core->launcher,
                                     .keeper = core->keeper,
                                     .secrets = core->secrets,
                                     .marker = house->marker};
    house->flow = flow_new(&flow, err);
    return house->flow ? 0 : -1;
}

static int count_waiting(void *arg)
{
    struct engine_load load;
    struct house *house = arg;
    engine_load(house->core.engine, &load);
    return load.queued;
}

static int build_alert(struct house *house, const struct config *config, struct err *err)
{
    const struct alert_config alert = {.config = &house->core.config,
                                       .keeper = house->core.keeper,
                                       .breaker = house->core.breaker,
                                       .waiting = count_waiting,
                                       .arg = house,
                                       .state_dir = config->state_dir};
    house->alert = alert_new(&alert, err);
    return house->alert ? alert_start(house->alert, err) : -1;
}

static int start_janitor(struct house *house, struct err *err)
{
    const struct janitor_config janitor = {
        .config = &house->core.config, .store = house->core.store, .repos = house->core.repos};
    house->janitor = janitor_new(&janitor, err);
    return house->janitor ? 0 : -1;
}

/* Before the engine: whatever ends a task from now on, its webhook finds its way. */
static int build_webhook(struct house *house, struct err *err)
{
    const struct webhook_config webhook = {
        .config = &house->core.config, .store = house->core.store, .version = RUNNER_VERSION};
    house->webhook = webhook_new(&webhook, err);
    return house->webhook ? 0 : -1;
}

/* Cloudflare Access, where it is configured. */
static int build_access(struct house *house, const struct config *config, struct err *err)
{
    const struct access_config access = {.team_domain = config->cf_access_team_domain,
                                         .aud = config->cf_access_aud,
                                         .certs_url = config->cf_access_certs_url,
                                         .state_dir = config->state_dir};
    if (!access.team_domain)
        return 0;
    house->access = access_new(&access, err);
    return house->access ? access_start(house->access, err) : -1;
}

/* The engine past this machine, where it is configured. */
static int build_cloud(struct house *house, const struct config *config, struct err *err)
{
    struct core *core = &house->core;
    bool named = config->cloudrun_job_name && config->gcs_logs_bucket && config->kms_key_name;
    if (config->system_prompt_secret && !(house->prompt = prompt_watch_start(config, err)))
        return -1;
    if (config->overflow == OVERFLOW_OFF && !named)
        return 0;
    if (cloud_open(config, &house->cloud, err))
        return -1;
    const struct overflow_config overflow = {.config = &core->config,
                                             .cloud = &house->cloud,
                                             .store = core->store,
                                             .repos = core->repos,
                                             .engine = core->engine};
    house->overflow = overflow_new(&overflow, err);
    if (!house->overflow)
        return -1;
    house->cloud_kind =
        (struct task_kind){.name = "cloud", .run = overflow_run, .arg = house->overflow};
    core->claude.cloud = &house->cloud;
    engine_set_cloud(core->engine, &house->cloud_kind);
    return 0;
}

static int build_sessions(struct house *house, const struct config *config, struct err *err)
{
    const struct sessions_config sessions = {.config = &house->core.config,
                                             .launcher = house->core.launcher,
                                             .state_dir = config->state_dir,
                                             .marker = house->marker,
                                             .uid = house->core.claude.uid,
                                             .gid = house->core.claude.gid};
    house->sessions = sessions_new(&sessions, err);
    return house->sessions ? 0 : -1;
}

static int serve_http(struct house *house, const struct config *config, struct err *err)
{
    size_t count;
    const struct http_route *routes = api_routes(&count);
    const struct http_config http = {.bind = config->bind,
                                     .port = config->port,
                                     .workers = config->http_workers,
                                     .routes = routes,
                                     .route_count = count,
                                     .gate = api_gate,
                                     .done = api_done,
                                     .trouble = api_trouble,
                                     .arg = &house->api,
                                     .head_ms = HEAD_MS,
                                     .body_idle_ms = BODY_IDLE_MS,
                                     .body_total_ms = BODY_TOTAL_MS,
                                     .idle_ms = IDLE_MS,
                                     .parked_max = PARKED_MAX,
                                     .streams_max = STREAMS_MAX};
    house->server = http_start(&http, err);
    if (!house->server)
        return -1;
    atomic_store(&house->api.server, house->server);
    return 0;
}

/* Who has something to show at /metrics. */
static void list_metrics(struct house *house)
{
    const struct core *core = &house->core;
    const struct metric_source sources[] = {
        {engine_metrics, core->engine},      {keeper_metrics, core->keeper},
        {breaker_metrics, core->breaker},    {proxy_metrics, core->proxy},
        {repos_metrics, core->repos},        {webhook_metrics, house->webhook},
        {overflow_metrics, house->overflow},
    };
    _Static_assert(sizeof(sources) < sizeof(house->metrics), "the last one stays empty");
    memcpy(house->metrics, sources, sizeof(sources));
}

static int build_api(struct house *house, struct err *err)
{
    size_t count;
    const struct http_route *routes = api_routes(&count);
    struct api *api = &house->api;
    api->config = &house->core.config;
    api->engine = house->core.engine;
    api->store = house->core.store;
    api->keeper = house->core.keeper;
    api->flow = house->flow;
    api->breaker = house->core.breaker;
    api->proxy = house->core.proxy;
    api->access = house->access;
    api->claude = &house->core.claude;
    api->launcher = house->core.launcher;
    api->repos = house->core.repos;
    api->overflow = house->overflow;
    api->system_prompt_path = house->prompt ? prompt_watch_path(house->prompt) : NULL;
    api->webhook = house->webhook;
    api->sessions = house->sessions;
    api->state_dir = atomic_load(&house->core.config)->state_dir;
    api->guard = api_guard_new();
    api->visits = visits_new();
    api->version = RUNNER_VERSION;
    api->started_ms = clock_mono_ms();
    api->system_prompt = system_prompt_new();
    api->numbers = api_numbers_new(routes, count);
    list_metrics(house);
    api->metrics = house->metrics;
    api->openapi = openapi_new(api->version);
    bool all = api->guard && api->visits && api->system_prompt && api->numbers && api->openapi;
    return all ? 0 : err_sys(err, "api");
}

int house_build(struct house *house, struct config *config, struct err *err)
{
    house->configs[house->config_count++] = config;
    if (core_build(&house->core, config, err) || build_flow(house, err) ||
        build_access(house, config, err) || build_cloud(house, config, err) ||
        build_webhook(house, err) || build_sessions(house, config, err) || build_api(house, err) ||
        core_start(&house->core, err))
        return -1;
    if (start_janitor(house, err) || build_alert(house, config, err) ||
        webhook_start(house->webhook, err))
        return -1;
    return serve_http(house, config, err);
}

void house_take_apart(struct house *house)
{
    flow_stop(house->flow);
    if (house->server)
        http_stop(house->server, 2000);
    alert_free(house->alert);
    sessions_stop(house->sessions);
    core_stop(&house->core); /* whatever still runs dies … */
    flow_free(house->flow);
    house->flow = NULL;
    janitor_free(house->janitor);
    webhook_stop(house->webhook);
    if (!core_settle(&house->core)) /* … and its task's thread stores that */
        return;
    webhook_free(house->webhook);
    sessions_free(house->sessions);
    overflow_free(house->overflow);
    prompt_watch_stop(house->prompt);
    cloud_close(&house->cloud);
    core_free(&house->core);
    access_free(house->access);
    api_guard_free(house->api.guard);
    visits_free(house->api.visits);
    system_prompt_free(house->api.system_prompt);
    api_numbers_free(house->api.numbers);
    openapi_free(house->api.openapi);
    for (size_t i = 0; i < house->config_count; i++)
        config_free(house->configs[i]);
}

int house_reconfigure(struct house *house, struct config *config, struct err *err)
{
    if (house->config_count == CONFIGS_MAX)
        return err_set(err, ERR_CONFIG, "reloaded %d times; restart the service", CONFIGS_MAX);
    if (config_redact(config, house->core.secrets))
        return err_sys(err, "configuration");
    house->configs[house->config_count++] = config;
    core_reconfigure(&house->core, config);
    log_set_level((enum log_level)config->log_level);
    webhook_wake(house->webhook);
    return 0;
}
