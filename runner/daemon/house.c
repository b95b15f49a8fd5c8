#include "runner/daemon/house.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "runner/api/system_prompt.h"
#include "runner/api/visits.h"
#include "runner/oauth/breaker.h"
#include "runner/version.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD_MS 30000
#define BODY_IDLE_MS 30000
#define BODY_TOTAL_MS 300000
#define IDLE_MS 100000 /* longer than cloudflared keeps an idle connection: it closes first */
#define PARKED_MAX 4096
#define STREAMS_MAX 8192
#define PROBE_MS 10000

/* Who tasks run as. Another user when the runner is root: the CLI refuses some modes as root, and
 * must not own the runner's files. */
/* From /etc/passwd itself: asking through NSS loads half a dozen libraries for the daemon's life.
 */
static const struct passwd *look_up(const char *name)
{
    static struct passwd entry;
    static char text[4096];
    struct passwd *found = NULL;
    FILE *file = fopen("/etc/passwd", "re");
    while (file && fgetpwent_r(file, &entry, text, sizeof(text), &found) == 0 &&
           strcmp(found->pw_name, name) != 0)
        found = NULL;
    if (file)
        fclose(file);
    return found;
}

static int find_user(const struct config *config, struct claude *claude, struct err *err)
{
    const char *name = config->user;
    claude->uid = geteuid();
    claude->gid = getegid();
    if (claude->uid != 0)
        return 0;
    if (!name)
        name = look_up("claude-runner") ? "claude-runner" : "nobody";
    const struct passwd *user = look_up(name);
    if (!user)
        user = getpwnam(name);
    if (!user)
        return err_set(err, ERR_CONFIG, "RUNNER_USER: there is no user '%s'", name);
    if (user->pw_uid == 0)
        return err_set(err, ERR_CONFIG, "RUNNER_USER: '%s' is root; tasks may not be", name);
    claude->uid = user->pw_uid;
    claude->gid = user->pw_gid;
    return 0;
}

static int open_state(struct house *house, const struct config *config, struct err *err)
{
    if (path_make_dirs(config->state_dir, 0711, err))
        return err_wrap(err, "RUNNER_STATE_DIR");
    AUTO(str) char *lock = path_join(config->state_dir, "lock");
    house->lock_fd = lock ? file_lock(lock, err) : err_sys(err, "lock");
    if (house->lock_fd < 0)
        return err->code == ERR_CONFLICT
                   ? err_set(err, ERR_CONFLICT, "another runner uses RUNNER_STATE_DIR '%s'",
                             config->state_dir)
                   : -1;
    house->store = store_open(config->state_dir, err);
    return house->store ? 0 : -1;
}

static int build_repos(struct house *house, const struct config *config, struct err *err)
{
    const struct repos_config repos = {.config = &house->config,
                                       .launcher = house->launcher,
                                       .state_dir = config->state_dir,
                                       .marker = store_instance(house->store),
                                       .uid = house->claude.uid,
                                       .gid = house->claude.gid};
    house->repos = repos_new(&repos, err);
    return house->repos ? 0 : -1;
}

/* The breaker has changed its mind: tasks wait, or go on. */
static void on_breaker(const struct breaker_status *status, void *arg)
{
    static const enum task_state holds[] = {[BREAKER_CLOSED] = TASK_PENDING,
                                            [BREAKER_LOGIN] = TASK_WAITING_LOGIN,
                                            [BREAKER_LIMIT] = TASK_WAITING_LIMIT};
    struct house *house = arg;
    if (house->engine)
        engine_hold(house->engine, holds[status->state]);
}

/* The login, or the configuration, may have changed. */
static void on_login(void *arg)
{
    struct house *house = arg;
    struct keeper_status status;
    keeper_status(house->keeper, &status);
    breaker_login(house->breaker,
                  status.state != LOGIN_OK && !atomic_load(&house->config)->anthropic_api_key);
}

/* Whose account Claude works on: the login, its state for everybody, and the way to the API. */
static int build_account(struct house *house, struct err *err)
{
    house->breaker = breaker_new(on_breaker, house, err);
    if (!house->breaker)
        return -1;
    const struct keeper_config keeper = {
        .config = &house->config, .secrets = house->secrets, .changed = on_login, .arg = house};
    house->keeper = keeper_new(&keeper, err);
    if (!house->keeper)
        return -1;
    const struct proxy_config proxy = {
        .config = &house->config, .keeper = house->keeper, .breaker = house->breaker};
    house->proxy = proxy_new(&proxy, err);
    if (!house->proxy)
        return -1;
    snprintf(house->marker, sizeof(house->marker), TASK_MARKER "=%s", store_instance(house->store));
    const struct flow_config flow = {.config = &house->config,
                                     .launcher = house->launcher,
                                     .keeper = house->keeper,
                                     .secrets = house->secrets,
                                     .marker = house->marker};
    house->flow = flow_new(&flow, err);
    return house->flow ? 0 : -1;
}

static int count_waiting(void *arg)
{
    struct engine_load load;
    struct house *house = arg;
    engine_load(house->engine, &load);
    return load.queued;
}

static int build_alert(struct house *house, const struct config *config, struct err *err)
{
    const struct alert_config alert = {.config = &house->config,
                                       .keeper = house->keeper,
                                       .breaker = house->breaker,
                                       .waiting = count_waiting,
                                       .arg = house,
                                       .state_dir = config->state_dir};
    house->alert = alert_new(&alert, err);
    return house->alert ? alert_start(house->alert, err) : -1;
}

static int start_janitor(struct house *house, struct err *err)
{
    const struct janitor_config janitor = {
        .config = &house->config, .store = house->store, .repos = house->repos};
    house->janitor = janitor_new(&janitor, err);
    return house->janitor ? 0 : -1;
}

/* Before the engine: whatever ends a task from now on, its webhook finds its way. */
static int build_webhook(struct house *house, struct err *err)
{
    const struct webhook_config webhook = {
        .config = &house->config, .store = house->store, .version = RUNNER_VERSION};
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

static struct engine_limits limits_of(const struct config *config)
{
    return (struct engine_limits){.slots = config->max_concurrent_tasks,
                                  .queue_max = config->queue_max,
                                  .cloud_slots = config->cloud_max_executions,
                                  .overflow = (enum config_overflow)config->overflow,
                                  .overflow_after_ms = config->overflow_after_ms};
}

static int build_engine(struct house *house, const struct config *config, struct err *err)
{
    house->claude.launcher = house->launcher;
    house->claude.keeper = house->keeper;
    house->claude.breaker = house->breaker;
    house->claude.proxy = house->proxy;
    house->claude.config = &house->config;
    house->claude.repos = house->repos;
    house->claude.instance = store_instance(house->store);
    house->kinds[0] =
        (struct task_kind){.name = "claude", .run = claude_run, .arg = &house->claude};
    const struct engine_config engine = {.store = house->store,
                                         .state_dir = config->state_dir,
                                         .kinds = house->kinds,
                                         .uid = house->claude.uid,
                                         .gid = house->claude.gid,
                                         .limits = limits_of(config)};
    house->engine = engine_new(&engine, err);
    return house->engine ? 0 : -1;
}

/* Starts a program as a task would be started, where a task would be. */
static int probe_launch(struct house *house, const struct config *config, struct err *err)
{
    AUTO(plan) struct plan *plan = plan_new();
    AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int stdio[3] = {null, null, null};
    if (!plan || null < 0 || !(plan->cwd = path_join(config->state_dir, "run")))
        return err_sys(err, "probe");
    strlist_add(&plan->argv, "/bin/true");
    plan->uid = house->claude.uid;
    plan->gid = house->claude.gid;
    struct child *child = launcher_spawn(house->launcher, plan, stdio, err);
    if (!child)
        return err_wrap(err, "a task's user (uid %u) could not run in '%s'", (unsigned)plan->uid,
                        plan->cwd);
    struct pollfd wait = {.fd = child_fd(child), .events = POLLIN};
    while (child_read(child) != CHILD_ENDED && poll(&wait, 1, PROBE_MS) > 0)
        continue;
    int status = child_status(child);
    child_free(child);
    if (status == 0)
        return 0;
    return err_set(err, ERR_INTERNAL,
                   "starting a program as a task failed: '%s' ended with wait status %d",
                   plan->argv.items[0], status);
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
    api->config = &house->config;
    api->engine = house->engine;
    api->store = house->store;
    api->keeper = house->keeper;
    api->flow = house->flow;
    api->breaker = house->breaker;
    api->proxy = house->proxy;
    api->access = house->access;
    api->claude = &house->claude;
    api->launcher = house->launcher;
    api->repos = house->repos;
    api->webhook = house->webhook;
    api->state_dir = atomic_load(&house->config)->state_dir;
    api->guard = api_guard_new();
    api->visits = visits_new();
    api->version = RUNNER_VERSION;
    api->started_ms = clock_mono_ms();
    api->system_prompt = system_prompt_new();
    return api->guard && api->visits && api->system_prompt ? 0 : err_sys(err, "api");
}

int house_build(struct house *house, struct config *config, struct err *err)
{
    house->lock_fd = -1;
    house->configs[house->config_count++] = config;
    atomic_store(&house->config, config);
    house->launcher = launcher_start(err); /* first: a small process makes quick children */
    if (!house->launcher || find_user(config, &house->claude, err) ||
        open_state(house, config, err))
        return -1;
    if (build_account(house, err) || build_access(house, config, err) ||
        build_repos(house, config, err) || build_webhook(house, err) ||
        build_engine(house, config, err) || build_api(house, err) ||
        keeper_start(house->keeper, err))
        return -1;
    on_login(house); /* before the first task starts */
    if (engine_start(house->engine, err) || probe_launch(house, config, err) ||
        start_janitor(house, err) || build_alert(house, config, err) ||
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
    launcher_stop(house->launcher); /* whatever still runs dies with it … */
    flow_free(house->flow);
    house->flow = NULL;
    janitor_free(house->janitor);
    webhook_stop(house->webhook);
    if (house->engine && engine_wait_idle(house->engine, 10000))
        engine_free(house->engine); /* … and its task's thread stores that */
    else if (house->engine)
        return; /* a thread is stuck in the kernel and needs the rest */
    launcher_free(house->launcher);
    proxy_free(house->proxy);
    keeper_free(house->keeper);
    repos_free(house->repos);
    breaker_free(house->breaker);
    webhook_free(house->webhook);
    store_close(house->store);
    access_free(house->access);
    api_guard_free(house->api.guard);
    visits_free(house->api.visits);
    system_prompt_free(house->api.system_prompt);
    fd_close(&house->lock_fd);
    for (size_t i = 0; i < house->config_count; i++)
        config_free(house->configs[i]);
}

int house_reconfigure(struct house *house, struct config *config, struct err *err)
{
    if (house->config_count == CONFIGS_MAX)
        return err_set(err, ERR_CONFIG, "reloaded %d times; restart the service", CONFIGS_MAX);
    if (config_redact(config, house->secrets))
        return err_sys(err, "configuration");
    house->configs[house->config_count++] = config;
    atomic_store(&house->config, config);
    log_set_level((enum log_level)config->log_level);
    on_login(house);
    const struct engine_limits limits = limits_of(config);
    engine_set_limits(house->engine, &limits);
    webhook_wake(house->webhook);
    return 0;
}
