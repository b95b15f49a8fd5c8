#include "runner/core/core.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/thread.h"
#include "runner/oauth/breaker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROBE_MS 10000
#define LAST_TASKS_MS 10000

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

/* Who tasks run as. Another user when the runner is root: the CLI refuses some modes as root, and
 * must not own the runner's files. */
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

static int open_state(struct core *core, const struct config *config, struct err *err)
{
    if (path_make_dirs(config->state_dir, 0711, err))
        return err_wrap(err, "RUNNER_STATE_DIR");
    AUTO(str) char *lock = path_join(config->state_dir, "lock");
    core->lock_fd = lock ? file_lock(lock, err) : err_sys(err, "lock");
    if (core->lock_fd < 0)
        return err->code == ERR_CONFLICT
                   ? err_set(err, ERR_CONFLICT, "another runner uses RUNNER_STATE_DIR '%s'",
                             config->state_dir)
                   : -1;
    core->store = store_open(config->state_dir, err);
    return core->store ? 0 : -1;
}

static int build_repos(struct core *core, const struct config *config, struct err *err)
{
    const struct repos_config repos = {.config = &core->config,
                                       .launcher = core->launcher,
                                       .state_dir = config->state_dir,
                                       .marker = store_instance(core->store),
                                       .uid = core->claude.uid,
                                       .gid = core->claude.gid,
                                       .one_task = core->one_task};
    core->repos = repos_new(&repos, err);
    return core->repos ? 0 : -1;
}

/* The breaker has changed its mind: tasks wait, or go on. */
static void on_breaker(const struct breaker_status *status, void *arg)
{
    static const enum task_state holds[] = {[BREAKER_CLOSED] = TASK_PENDING,
                                            [BREAKER_LOGIN] = TASK_WAITING_LOGIN,
                                            [BREAKER_LIMIT] = TASK_WAITING_LIMIT};
    struct core *core = arg;
    if (core->engine)
        engine_hold(core->engine, holds[status->state]);
}

/* The login, or the configuration, may have changed. */
static void look_at_login(struct core *core)
{
    struct keeper_status status;
    keeper_status(core->keeper, &status);
    if (atomic_exchange(&core->logins, status.logins) != status.logins)
        breaker_renewed(core->breaker);
    breaker_login(core->breaker,
                  status.state != LOGIN_OK && !atomic_load(&core->config)->anthropic_api_key);
}

static void on_login(void *arg)
{
    look_at_login(arg);
}

/* Whose account Claude works on: the login, its state for everybody, and the way to the API. */
static int build_account(struct core *core, struct err *err)
{
    core->breaker = breaker_new(on_breaker, core, err);
    if (!core->breaker)
        return -1;
    const struct keeper_config keeper = {
        .config = &core->config, .secrets = core->secrets, .changed = on_login, .arg = core};
    core->keeper = keeper_new(&keeper, err);
    if (!core->keeper)
        return -1;
    const struct proxy_config proxy = {
        .config = &core->config, .keeper = core->keeper, .breaker = core->breaker};
    core->proxy = proxy_new(&proxy, err);
    return core->proxy ? 0 : -1;
}

static struct engine_limits limits_of(const struct config *config)
{
    return (struct engine_limits){.slots = config->max_concurrent_tasks,
                                  .queue_max = config->queue_max,
                                  .cloud_slots = config->cloud_max_executions,
                                  .overflow = (enum config_overflow)config->overflow,
                                  .overflow_after_ms = config->overflow_after_ms};
}

static int build_engine(struct core *core, const struct config *config, struct err *err)
{
    core->claude.launcher = core->launcher;
    core->claude.keeper = core->keeper;
    core->claude.breaker = core->breaker;
    core->claude.proxy = core->proxy;
    core->claude.config = &core->config;
    core->claude.repos = core->repos;
    core->claude.instance = store_instance(core->store);
    core->kinds[0] = (struct task_kind){.name = "claude", .run = claude_run, .arg = &core->claude};
    const struct engine_config engine = {.store = core->store,
                                         .state_dir = config->state_dir,
                                         .kinds = core->kinds,
                                         .uid = core->claude.uid,
                                         .gid = core->claude.gid,
                                         .limits = limits_of(config)};
    core->engine = engine_new(&engine, err);
    return core->engine ? 0 : -1;
}

/* Starts a program as a task would be started, where a task would be. */
static int probe_launch(struct core *core, const struct config *config, struct err *err)
{
    AUTO(plan) struct plan *plan = plan_new();
    AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int stdio[3] = {null, null, null};
    if (!plan || null < 0 || !(plan->cwd = path_join(config->state_dir, "run")))
        return err_sys(err, "probe");
    if (path_make_dirs(plan->cwd, 0711, err))
        return -1;
    strlist_add(&plan->argv, "/bin/true");
    plan->uid = core->claude.uid;
    plan->gid = core->claude.gid;
    struct child *child = launcher_spawn(core->launcher, plan, stdio, err);
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

static void *probe(void *arg)
{
    struct core *core = arg;
    const struct config *config = atomic_load(&core->config);
    core->probe.rc =
        repos_probe(core->repos, &core->probe.err) || probe_launch(core, config, &core->probe.err);
    return NULL;
}

static int begin_probe(struct core *core, struct err *err)
{
    return thread_start(&core->probe.thread, "probe", THREAD_STACK_DEFAULT, probe, core, err);
}

static int end_probe(struct core *core, struct err *err)
{
    if (!core->probe.thread.running)
        return 0;
    thread_join(&core->probe.thread);
    if (core->probe.rc)
        *err = core->probe.err;
    return core->probe.rc ? -1 : 0;
}

int core_build(struct core *core, const struct config *config, struct err *err)
{
    core->begun = true;
    core->lock_fd = -1;
    atomic_store(&core->config, config);
    core->launcher = launcher_start(err); /* first: a small process makes quick children */
    if (!core->launcher || find_user(config, &core->claude, err) || open_state(core, config, err))
        return -1;
    return build_repos(core, config, err) || begin_probe(core, err) || build_account(core, err) ||
                   build_engine(core, config, err)
               ? -1
               : 0;
}

/* The pause that the last process knew of; before the first task starts. */
static int take_up_pause(struct core *core, struct err *err)
{
    AUTO(str) char *path = path_join(atomic_load(&core->config)->state_dir, "usage-limit");
    look_at_login(core);
    return path ? breaker_remember(core->breaker, path, err) : err_sys(err, "breaker");
}

int core_start(struct core *core, struct err *err)
{
    if (keeper_start(core->keeper, err) || take_up_pause(core, err))
        return -1;
    return end_probe(core, err) || engine_start(core->engine, err) ? -1 : 0;
}

void core_reconfigure(struct core *core, const struct config *config)
{
    const struct engine_limits limits = limits_of(config);
    const char *old_key = atomic_load(&core->config)->anthropic_api_key;
    const char *key = config->anthropic_api_key;
    if (old_key != key && (!old_key || !key || strcmp(old_key, key) != 0))
        breaker_renewed(core->breaker);
    atomic_store(&core->config, config);
    look_at_login(core);
    engine_set_limits(core->engine, &limits);
}

void core_stop(struct core *core)
{
    struct err ignored;
    launcher_stop(core->launcher);
    end_probe(core, &ignored);
}

bool core_settle(struct core *core)
{
    return !core->begun || !core->engine || engine_wait_idle(core->engine, LAST_TASKS_MS);
}

void core_free(struct core *core)
{
    if (!core->begun)
        return;
    engine_free(core->engine);
    launcher_free(core->launcher);
    proxy_free(core->proxy);
    keeper_free(core->keeper);
    repos_free(core->repos);
    breaker_free(core->breaker);
    store_close(core->store);
    fd_close(&core->lock_fd);
}
