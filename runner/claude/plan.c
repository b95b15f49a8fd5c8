#include "runner/claude/plan.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "runner/claude/prepare.h"
#include "runner/repo/harvest.h"
#include "runner/walls/owner_env.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Directories below a run's own, and the variables that name them. */
static const struct {
    const char *name;
    const char *variable;
} places[] = {
    {"home", "HOME"},
    {"config", "CLAUDE_CONFIG_DIR"},
    {"tmp", "TMPDIR"},
    {"work", "PWD"},
};

/* Makes one of these directories and its variable. A session's directories exist already. */
static int make_place(const struct attempt *attempt, const char *name, const char *variable,
                      struct plan *plan, struct err *err)
{
    const struct claude *claude = attempt->claude;
    const char *below = attempt->request->cwd_relative;
    bool config = strcmp(name, "config") == 0;
    AUTO(str) char *path = path_join(attempt->places.dir, name);
    AUTO(str) char *inside = walls_place(claude->walls, &attempt->places, name);
    if (!path || !inside)
        return err_sys(err, "workspace");
    if ((!attempt->guest || config) &&
        (path_make_dirs(path, 0700, err) || path_own(path, claude->uid, claude->gid, err)))
        return -1;
    bool deeper = strcmp(name, "work") == 0 && below;
    strlist_addf(&plan->env, "%s=%s%s%s", variable, inside, deeper ? "/" : "", deeper ? below : "");
    return 0;
}

static int make_places(const struct attempt *attempt, struct plan *plan, struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(places); i++)
        if (make_place(attempt, places[i].name, places[i].variable, plan, err))
            return -1;
    plan->cwd = walls_place(attempt->claude->walls, &attempt->places, "work");
    return plan->cwd ? 0 : err_sys(err, "workspace");
}

/* Writes the identity that Claude commits with, where the repository names none. */
static int write_identity(const struct attempt *attempt, const char *dir, struct err *err)
{
    static const char text[] = "[user]\n\tname = Claude Code\n\temail = noreply@anthropic.com\n";
    const struct claude *claude = attempt->claude;
    if (attempt->guest) /* The home of a session belongs to its user. */
        return 0;
    AUTO(str) char *path = path_join(dir, "home/.gitconfig");
    AUTO(fd)
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644) : -1;
    if (fd < 0 || fd_write_all(fd, text, sizeof(text) - 1) || fchown(fd, claude->uid, claude->gid))
        return err_sys(err, "cannot write the identity for commits");
    return 0;
}

static int add_workspace(const struct attempt *attempt, const char *dir, struct plan *plan,
                         struct err *err)
{
    const struct claude *claude = attempt->claude;
    const struct task_request *request = attempt->request;
    struct workspace *workspace = attempt->workspace;
    AUTO(str) char *work = path_join(dir, "work");
    if (prepare_mounts(attempt, &plan->mounts, err) ||
        (((!workspace && !attempt->guest) || attempt->inputs) &&
         harvest_make_output(claude->repos, workspace, dir, err)))
        return -1;
    if (!request->cwd_relative)
        return 0;
    plan->below = strdup(request->cwd_relative);
    if (!plan->below || !work)
        return err_sys(err, "workspace");
    return workspace || attempt->guest
               ? 0 /* Without a repository the directory must be made. */
               : path_make_owned(work, plan->below, claude->uid, claude->gid, err);
}

static void add_environment(const struct claude *claude, struct plan *plan)
{
    owner_env_inherit(plan, claude->walls->gate != EGRESS_ASKED);
    strlist_add(&plan->env, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1");
    strlist_add(&plan->env, "DISABLE_AUTOUPDATER=1");
    if (claude->walls->tier == JAIL_FULL)
        strlist_add(&plan->env, "IS_SANDBOX=1");
    strlist_addf(&plan->env, TASK_MARKER "=%s", claude->instance);
}

/* Sets the lease's token in the variable that makes the CLI treat it like the real credential. */
static int add_lease(const struct lease *lease, enum egress_way gate, struct plan *plan,
                     struct redact_set *redact, struct err *err)
{
    const char *variable =
        lease_kind(lease) == LEASE_KEY ? "ANTHROPIC_API_KEY" : "CLAUDE_CODE_OAUTH_TOKEN";
    if (redact_add(redact, lease_token(lease)))
        return err_sys(err, "credential");
    strlist_addf(&plan->env, "%s=%s", variable, lease_token(lease));
    strlist_addf(&plan->env, "ANTHROPIC_BASE_URL=%s",
                 gate ? egress_proxy_url(gate) : lease_url(lease));
    return 0;
}

static int add_program(const struct config *config, const struct task_request *request,
                       struct plan *plan, struct err *err)
{
    AUTO(str) char *program = path_find_program(config->claude_bin, getenv("PATH"));
    if (!program)
        return err_set(err, ERR_INTERNAL, "CLAUDE_BIN: there is no program '%s'",
                       config->claude_bin);
    strlist_add(&plan->argv, program);
    return task_request_argv(request, &plan->argv, err);
}

/* Names that the input .claude may not contain: the runner manages the credential, and
 * conversations belong to the requests that began them. */
static bool is_not_seeded(const char *name)
{
    return strcmp(name, ".credentials.json") == 0 || strcmp(name, "projects") == 0;
}

static int seed_config(const struct attempt *attempt, const char *dir, struct err *err)
{
    AUTO(str) char *config = path_join(dir, "config");
    return config ? input_layers_seed(attempt->inputs, config, is_not_seeded, err)
                  : err_sys(err, "workspace");
}

struct plan *claude_plan(const struct attempt *attempt, struct err *err)
{
    REQUIRE(attempt->lease);
    const struct claude *claude = attempt->claude;
    const struct task_request *request = attempt->request;
    const char *dir = task_run_dir(attempt->run);
    AUTO(config_ref) const struct config *config = config_ref(claude->config);
    AUTO(plan) struct plan *plan = plan_new();
    if (!plan) {
        err_sys(err, "plan");
        return NULL;
    }
    plan->uid = claude->uid;
    plan->gid = claude->gid;
    plan->kill_grace_ms = config->kill_grace_seconds * 1000;
    if (make_places(attempt, plan, err) || write_identity(attempt, dir, err) ||
        seed_config(attempt, dir, err) || add_workspace(attempt, dir, plan, err) ||
        add_program(config, request, plan, err) ||
        walls_build(claude->walls, request, &attempt->places, plan, err) ||
        add_lease(attempt->lease, claude->walls->gate, plan, task_run_redact(attempt->run), err))
        return NULL;
    add_environment(claude, plan);
    if (owner_env_add(config, task_run_redact(attempt->run), plan, err) ||
        prepare_files(attempt, plan, err))
        return NULL;
    walls_add_proxies(claude->walls, &plan->env);
    if (plan->argv.failed || plan->env.failed) {
        err_set(err, ERR_INTERNAL, "too many arguments for Claude Code");
        return NULL;
    }
    return STEAL_PTR(plan);
}
