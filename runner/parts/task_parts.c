/* The first half of the table: parts that run tasks. */
#include "runner/parts/runner.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/thread.h"
#include "runner/egress/rules.h"
#include "runner/oauth/breaker.h"
#include "runner/oauth/usage.h"
#include "runner/work/work.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROBE_MS 10000
#define LAST_TASKS_MS 10000

/* Looks a user up in /etc/passwd itself: NSS would load half a dozen libraries for the daemon's
 * life. */
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

/* Chooses the user that tasks run as. When the runner is root it is another one: the CLI refuses
 * some modes as root, and tasks must not own the runner's files. */
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

static int build_launcher(void *whole, struct err *err)
{
    struct runner *runner = whole;
    runner->launcher = launcher_start(err);
    return runner->launcher ? 0 : -1;
}

static void stop_launcher(void *whole)
{
    struct runner *runner = whole;
    launcher_stop(runner->launcher);
}

static void free_launcher(void *whole)
{
    struct runner *runner = whole;
    launcher_free(runner->launcher);
    runner->launcher = NULL;
    users_free(runner->walls.users);
    runner->walls.users = NULL;
}

static int build_user(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return find_user(runner->first, &runner->claude, err);
}

static int build_store(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct config *config = runner->first;
    runner->lock_fd = runner->sockets_fd = -1;
    if (path_make_dirs(config->state_dir, 0711, err))
        return err_wrap(err, "RUNNER_STATE_DIR");
    AUTO(str) char *lock = path_join(config->state_dir, "lock");
    runner->lock_fd = lock ? file_lock(lock, err) : err_sys(err, "lock");
    if (runner->lock_fd < 0)
        return err->code == ERR_CONFLICT
                   ? err_set(err, ERR_CONFLICT, "another runner uses RUNNER_STATE_DIR '%s'",
                             config->state_dir)
                   : -1;
    runner->store = store_open(config->state_dir, err);
    return runner->store ? 0 : -1;
}

static void free_store(void *whole)
{
    struct runner *runner = whole;
    store_close(runner->store);
    runner->store = NULL;
    fd_close(&runner->lock_fd);
    fd_close(&runner->sockets_fd);
}

static int build_repos(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct config *config = runner->first;
    const struct repos_config repos = {.config = &runner->config,
                                       .launcher = runner->launcher,
                                       .walls = &runner->walls,
                                       .state_dir = config->state_dir,
                                       .marker = store_instance(runner->store),
                                       .uid = runner->claude.uid,
                                       .gid = runner->claude.gid,
                                       .one_task = runner->one_task};
    runner->repos = repos_new(&repos, err);
    return runner->repos ? 0 : -1;
}

static void free_repos(void *whole)
{
    struct runner *runner = whole;
    repos_free(runner->repos);
    runner->repos = NULL;
}

static int build_inputs(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct inputs_config inputs = {.config = &runner->config,
                                         .state_dir = runner->first->state_dir,
                                         .store = runner->store,
                                         .uid = runner->claude.uid,
                                         .gid = runner->claude.gid};
    runner->inputs = input_store_new(&inputs, err);
    return runner->inputs ? 0 : -1;
}

static void free_inputs(void *whole)
{
    struct runner *runner = whole;
    input_store_free(runner->inputs);
    runner->inputs = NULL;
}

/* Called by the breaker when tasks must wait, or may go on. */
static void on_breaker(const struct breaker_status *status, void *arg)
{
    static const enum task_state holds[] = {[BREAKER_CLOSED] = TASK_PENDING,
                                            [BREAKER_LOGIN] = TASK_WAITING_LOGIN,
                                            [BREAKER_LIMIT] = TASK_WAITING_LIMIT};
    struct runner *runner = arg;
    if (runner->engine)
        engine_hold(runner->engine, holds[status->state]);
}

/* Called when the login, or the configuration, may have changed. */
static void look_at_login(struct runner *runner)
{
    struct keeper_status status;
    keeper_status(runner->keeper, &status);
    if (atomic_exchange(&runner->logins, status.logins) != status.logins) {
        breaker_renewed(runner->breaker);
        usage_forget(runner->usage);
    }
    bool has_key = CONFIG_GET(&runner->config, anthropic_api_key) != NULL;
    usage_keep(runner->usage, has_key ? 0 : CONFIG_GET(&runner->config, usage_keep_percent));
    breaker_login(runner->breaker, status.state != LOGIN_OK && !has_key);
}

static void on_login(void *arg)
{
    look_at_login(arg);
}

static int build_breaker(void *whole, struct err *err)
{
    struct runner *runner = whole;
    runner->breaker = breaker_new(on_breaker, runner, err);
    return runner->breaker ? 0 : -1;
}

/* Restores a pause from the last process, before the first task starts. */
static int start_breaker(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct config *config = runner->first;
    AUTO(str) char *path = path_join(config->state_dir, "usage-limit");
    AUTO(str) char *windows = path_join(config->state_dir, "usage-windows");
    look_at_login(runner);
    if (!path || !windows)
        return err_sys(err, "breaker");
    return breaker_remember(runner->breaker, path, err) ||
                   usage_remember(runner->usage, windows, err)
               ? -1
               : 0;
}

static void free_breaker(void *whole)
{
    struct runner *runner = whole;
    breaker_free(runner->breaker);
    runner->breaker = NULL;
}

static int build_usage(void *whole, struct err *err)
{
    struct runner *runner = whole;
    runner->usage = usage_new(runner->breaker, err);
    return runner->usage ? 0 : -1;
}

static void free_usage(void *whole)
{
    struct runner *runner = whole;
    usage_free(runner->usage);
    runner->usage = NULL;
}

static void show_usage(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    usage_metrics(page, runner->usage);
}

static int build_keeper(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct keeper_config keeper = {
        .config = &runner->config, .secrets = runner->secrets, .changed = on_login, .arg = runner};
    runner->keeper = keeper_new(&keeper, err);
    return runner->keeper ? 0 : -1;
}

static int start_keeper(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return keeper_start(runner->keeper, err);
}

static void free_keeper(void *whole)
{
    struct runner *runner = whole;
    keeper_free(runner->keeper);
    runner->keeper = NULL;
}

/* The strongest jail that the host can give and the owner wants. */
static enum jail_tier strongest(const struct jail_host *host, const struct config *config)
{
    enum jail_tier most = (enum jail_tier)config_jail_most(config);
    return host->tier < (int)most ? (enum jail_tier)host->tier : most;
}

/* Whether tasks' jails have a network behind a gate. */
static enum egress_way find_gate(const struct jail_host *host, const struct config *config)
{
    if (strongest(host, config) != JAIL_FULL)
        return EGRESS_NO_GATE;
    return host->has[JAIL_HAS_GATE]    ? EGRESS_REDIRECTS
           : host->has[JAIL_HAS_PROXY] ? EGRESS_ASKED
                                       : EGRESS_NO_GATE;
}

/* Sets *ret_path to the path of a socket for jails that have a gate, which the caller frees; NULL
 * where they have none. It leads by a descriptor, because a socket's path must be short. */
static int find_socket(struct runner *runner, const char *name, char **ret_path, struct err *err)
{
    *ret_path = NULL;
    if (!find_gate(launcher_host(runner->launcher), runner->first))
        return 0;
    if (runner->sockets_fd < 0) {
        AUTO(str) char *dir = path_join(runner->first->state_dir, "sockets");
        if (!dir || path_make_dirs(dir, 0700, err))
            return dir ? -1 : err_sys(err, "sockets");
        runner->sockets_fd = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (runner->sockets_fd < 0)
            return err_sys(err, "%s", dir);
    }
    if (asprintf(ret_path, "/proc/self/fd/%d/%s", runner->sockets_fd, name) < 0) {
        *ret_path = NULL;
        return err_sys(err, "sockets");
    }
    return 0;
}

static int build_proxy(void *whole, struct err *err)
{
    struct runner *runner = whole;
    AUTO(str) char *socket = NULL;
    if (find_socket(runner, "proxy", &socket, err))
        return -1;
    const struct proxy_config proxy = {.config = &runner->config,
                                       .keeper = runner->keeper,
                                       .breaker = runner->breaker,
                                       .usage = runner->usage,
                                       .socket = socket};
    runner->proxy = proxy_new(&proxy, err);
    return runner->proxy ? 0 : -1;
}

static void free_proxy(void *whole)
{
    struct runner *runner = whole;
    proxy_free(runner->proxy);
    runner->proxy = NULL;
}

static int build_gitgate(void *whole, struct err *err)
{
    struct runner *runner = whole;
    AUTO(str) char *socket = NULL;
    if (find_socket(runner, "git", &socket, err))
        return -1;
    runner->gitgate = gitgate_new(&runner->config, socket, err);
    return runner->gitgate ? 0 : -1;
}

static void free_gitgate(void *whole)
{
    struct runner *runner = whole;
    gitgate_free(runner->gitgate);
    runner->gitgate = NULL;
}

static struct engine_limits limits_of(const struct config *config)
{
    return (struct engine_limits){.slots = config->max_concurrent_tasks,
                                  .queue_max = config->queue_max,
                                  .away_slots = config->cloud_max_executions,
                                  .overflow = (enum config_overflow)config->overflow,
                                  .overflow_after_ms = config->overflow_after_ms};
}

/* All kinds of tasks. */
static const struct {
    const struct task_kind *kind;
    size_t arg; /* offset of its arg in struct runner */
} kinds[RUNNER_KINDS] = {
    {&claude_kind, offsetof(struct runner, claude)},
    {&command_kind, offsetof(struct runner, command)},
    {&visit_kind, offsetof(struct runner, visit)},
};

const struct task_kind *runner_kind(const char *name)
{
    for (size_t i = 0; i < RUNNER_KINDS; i++)
        if (strcmp(kinds[i].kind->name, name) == 0)
            return kinds[i].kind;
    return NULL;
}

static void build_kinds(struct runner *runner)
{
    runner->command = (struct command){.launcher = runner->launcher,
                                       .repos = runner->repos,
                                       .inputs = runner->inputs,
                                       .gitgate = runner->gitgate,
                                       .config = &runner->config,
                                       .instance = store_instance(runner->store),
                                       .walls = &runner->walls,
                                       .uid = runner->claude.uid,
                                       .gid = runner->claude.gid};
    runner->visit = (struct visit_config){.config = &runner->config,
                                          .launcher = runner->launcher,
                                          .repos = runner->repos,
                                          .walls = &runner->walls,
                                          .instance = store_instance(runner->store),
                                          .state_dir = runner->first->state_dir,
                                          .cloud = &runner->claude.cloud,
                                          .uid = runner->claude.uid,
                                          .gid = runner->claude.gid};
    for (size_t i = 0; i < RUNNER_KINDS; i++) {
        runner->kinds[i] = *kinds[i].kind;
        runner->kinds[i].arg = (char *)runner + kinds[i].arg;
    }
}

static int build_engine(void *whole, struct err *err)
{
    struct runner *runner = whole;
    const struct config *config = runner->first;
    runner->claude.launcher = runner->launcher;
    runner->claude.keeper = runner->keeper;
    runner->claude.breaker = runner->breaker;
    runner->claude.usage = runner->usage;
    runner->claude.proxy = runner->proxy;
    runner->claude.config = &runner->config;
    runner->claude.repos = runner->repos;
    runner->claude.inputs = runner->inputs;
    runner->claude.gitgate = runner->gitgate;
    runner->claude.instance = store_instance(runner->store);
    runner->claude.walls = &runner->walls;
    build_kinds(runner);
    const struct engine_config engine = {.store = runner->store,
                                         .state_dir = config->state_dir,
                                         .kinds = runner->kinds,
                                         .uid = runner->claude.uid,
                                         .gid = runner->claude.gid,
                                         .limits = limits_of(config),
                                         .memory = runner->one_task ? NULL : task_memory_read};
    runner->engine = engine_new(&engine, err);
    return runner->engine ? 0 : -1;
}

static int start_engine(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return engine_start(runner->engine, err);
}

/* True when every task's thread has stored its task's end. */
static bool settle_engine(void *whole)
{
    struct runner *runner = whole;
    return engine_wait_idle(runner->engine, LAST_TASKS_MS);
}

static void free_engine(void *whole)
{
    struct runner *runner = whole;
    engine_free(runner->engine);
    runner->engine = NULL;
}

/* Refuses network restrictions that cannot be enforced. */
static int check_egress(const struct config *config, bool gate, const struct jail_host *host,
                        struct err *err)
{
    if (gate || egress_mode_of(&config->egress) == EGRESS_OPEN)
        return 0;
    return err_set(
        err, ERR_CONFIG,
        "EGRESS: this runner can't restrict the network of tasks, only 'open' works (%s)",
        host->why[JAIL_HAS_GATE][0] ? host->why[JAIL_HAS_GATE] : "JAIL is not full");
}

/* Whether tasks that have one user can reach each other's processes or files. Namespaces alone keep
 * only processes apart in tier restricted. */
static bool are_together(const struct jail_host *host, enum jail_tier tier)
{
    return !host->has[JAIL_HAS_NAMESPACES] ||
           (tier == JAIL_RESTRICTED && !host->has[JAIL_HAS_LANDLOCK]);
}

/* A user for each task, where nothing else keeps them apart. */
static int make_users(struct runner *runner, const struct config *config,
                      const struct jail_host *host, struct err *err)
{
    unsigned first, last;
    if (!host->has[JAIL_HAS_USER] || !are_together(host, runner->walls.tier) ||
        !config_uids(config, &first, &last))
        return 0;
    runner->walls.users = users_new(first, last, err);
    runner->walls.session_users =
        (int)(last - first) + 1 >= config->max_concurrent_tasks + config->sessions_max;
    return runner->walls.users ? 0 : err_wrap(err, "RUNNER_UIDS");
}

/* Sets the walls of tasks, and refuses what this host can't keep. */
static int choose_tier(struct runner *runner, const struct config *config, struct err *err)
{
    const struct jail_host *host = launcher_host(runner->launcher);
    enum jail_tier least = (enum jail_tier)config_jail_least(config);
    runner->walls.config = &runner->config;
    runner->walls.tier = strongest(host, config);
    runner->walls.gate = find_gate(host, config);
    if (make_users(runner, config, host, err))
        return -1;
    if (check_egress(config, runner->walls.gate, host, err))
        return -1;
    if (runner->walls.tier >= least)
        return 0;
    return err_set(err, ERR_CONFIG,
                   "JAIL_MIN: this host gives a jail of tier '%s' only, '%s' is asked for (%s)",
                   jail_tier_name(runner->walls.tier), jail_tier_name(least), host->why_tier);
}

/* Starts a program in the way and place of a task. */
static int probe_launch(struct runner *runner, const struct config *config, struct err *err)
{
    AUTO(plan) struct plan *plan = plan_new();
    struct work_result result;
    if (!plan || !(plan->cwd = path_join(config->state_dir, "run")))
        return err_sys(err, "probe");
    if (path_make_dirs(plan->cwd, 0711, err))
        return -1;
    strlist_add(&plan->argv, "/bin/true");
    plan->uid = runner->claude.uid;
    plan->gid = runner->claude.gid;
    plan->jail.tier = runner->walls.tier;
    for (int i = 0; i < 3; i++) /* The directory in which it starts. */
        strlist_add(&plan->jail.binds, i ? plan->cwd : "ro");
    const struct work_order order = {.launcher = runner->launcher,
                                     .plan = plan,
                                     .limits = {.until_ms = clock_mono_ms() + PROBE_MS},
                                     .at_once = true};
    if (work_run(&order, &result, err))
        return err_wrap(err, "a task's user (uid %u) could not run in '%s'", (unsigned)plan->uid,
                        plan->cwd);
    if (result.status == 0)
        return 0;
    return err_set(err, ERR_INTERNAL,
                   "starting a program as a task failed: '%s' ended with wait status %d",
                   plan->argv.items[0], result.status);
}

static void *probe(void *arg)
{
    struct runner *runner = arg;
    const struct config *config = runner->first;
    runner->probe.rc = choose_tier(runner, config, &runner->probe.err) ||
                       repos_probe(runner->repos, &runner->probe.err) ||
                       probe_launch(runner, config, &runner->probe.err);
    return NULL;
}

static int build_probe(void *whole, struct err *err)
{
    struct runner *runner = whole;
    return thread_start(&runner->probe.thread, "probe", THREAD_STACK_DEFAULT, probe, runner, err);
}

static int start_probe(void *whole, struct err *err)
{
    struct runner *runner = whole;
    thread_join(&runner->probe.thread);
    if (runner->probe.rc)
        *err = runner->probe.err;
    return runner->probe.rc ? -1 : 0;
}

static void free_probe(void *whole)
{
    struct runner *runner = whole;
    thread_join(&runner->probe.thread);
}

int runner_check_network(const struct runner *runner, const struct config *config, struct err *err)
{
    return runner->launcher /* Without a launcher no program can run. */
               ? check_egress(config, runner->walls.gate, launcher_host(runner->launcher), err)
               : 0;
}

void runner_replace_config(struct runner *runner, struct config *config)
{
    const struct engine_limits limits = limits_of(config);
    AUTO(config_ref) const struct config *old = config_ref(&runner->config);
    const char *old_key = old->anthropic_api_key, *key = config->anthropic_api_key;
    bool renewed = old_key != key && (!old_key || !key || strcmp(old_key, key) != 0);
    config_replace(&runner->config, config);
    if (renewed)
        breaker_renewed(runner->breaker);
    look_at_login(runner);
    engine_set_limits(runner->engine, &limits);
}

static void show_engine(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    engine_metrics(page, runner->engine);
}

static void show_keeper(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    keeper_metrics(page, runner->keeper);
}

static void show_breaker(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    breaker_metrics(page, runner->breaker);
}

static void show_proxy(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    proxy_metrics(page, runner->proxy);
}

static void show_repos(struct metric_page *page, void *whole)
{
    struct runner *runner = whole;
    repos_metrics(page, runner->repos);
}

const struct part runner_task_parts[] = {
    /* First, because a small process clones fast. */
    {"launcher", .build = build_launcher, .stop = stop_launcher, .free = free_launcher},
    {"user", .build = build_user},
    {"store", .build = build_store, .free = free_store},
    {"repos", .build = build_repos, .free = free_repos, .metrics = show_repos},
    {"inputs", .build = build_inputs, .free = free_inputs},
    /* It takes a moment, and runs while the rest is built. */
    {"probe", .build = build_probe, .start = start_probe, .free = free_probe},
    {"breaker", .build = build_breaker, .free = free_breaker, .metrics = show_breaker},
    {"usage", .build = build_usage, .free = free_usage, .metrics = show_usage},
    {"keeper", .build = build_keeper, .start = start_keeper, .free = free_keeper,
     .metrics = show_keeper},
    {"pause", .start = start_breaker}, /* Once the keeper watches the login. */
    {"proxy", .build = build_proxy, .free = free_proxy, .metrics = show_proxy},
    {"gitgate", .build = build_gitgate, .free = free_gitgate},
    {"engine", .build = build_engine, .start = start_engine, .settle = settle_engine,
     .free = free_engine, .metrics = show_engine},
};
const size_t runner_task_part_count = COUNT_OF(runner_task_parts);
