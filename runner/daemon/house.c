#include "runner/daemon/house.h"

#include "base/clock.h"
#include "base/log.h"
#include "runner/api/system_prompt.h"
#include "runner/api/visits.h"
#include "runner/version.h"

#include <stdio.h>

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

static int build_api(struct house *house, struct err *err)
{
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
    api->state_dir = atomic_load(&house->core.config)->state_dir;
    api->guard = api_guard_new();
    api->visits = visits_new();
    api->version = RUNNER_VERSION;
    api->started_ms = clock_mono_ms();
    api->system_prompt = system_prompt_new();
    return api->guard && api->visits && api->system_prompt ? 0 : err_sys(err, "api");
}

int house_build(struct house *house, struct config *config, struct err *err)
{
    house->configs[house->config_count++] = config;
    if (core_build(&house->core, config, err) || build_flow(house, err) ||
        build_access(house, config, err) || build_api(house, err) || core_start(&house->core, err))
        return -1;
    if (start_janitor(house, err) || build_alert(house, config, err))
        return -1;
    return serve_http(house, config, err);
}

void house_take_apart(struct house *house)
{
    flow_stop(house->flow);
    if (house->server)
        http_stop(house->server, 2000);
    alert_free(house->alert);
    core_stop(&house->core); /* whatever still runs dies … */
    flow_free(house->flow);
    house->flow = NULL;
    janitor_free(house->janitor);
    if (!core_free(&house->core)) /* … and its task's thread stores that */
        return;
    access_free(house->access);
    api_guard_free(house->api.guard);
    visits_free(house->api.visits);
    system_prompt_free(house->api.system_prompt);
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
    atomic_store(&house->core.config, config);
    log_set_level((enum log_level)config->log_level);
    core_look_at_login(&house->core);
    const struct engine_limits limits = core_limits(config);
    engine_set_limits(house->core.engine, &limits);
    return 0;
}
