#include "runner/command/command_plan.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/repo/harvest.h"
#include "runner/walls/owner_env.h"
#include "json/json.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Directories below a run's own, and the variables that name them. */
static const struct {
    const char *name;
    const char *variable;
} places[] = {{"home", "HOME"}, {"tmp", "TMPDIR"}, {"work", "PWD"}};

static int make_places(const struct command *command, const char *dir, struct plan *plan,
                       struct err *err)
{
    const struct walls_run run = {.dir = dir};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        AUTO(str) char *path = path_join(dir, places[i].name);
        if (!path)
            return err_sys(err, "workspace");
        if (path_make_dirs(path, 0700, err) || path_own(path, command->uid, command->gid, err))
            return -1;
        AUTO(str) char *inside = walls_place(command->walls, &run, places[i].name);
        strlist_addf(&plan->env, "%s=%s", places[i].variable, inside ? inside : "");
    }
    plan->cwd = walls_place(command->walls, &run, "work");
    return plan->cwd ? 0 : err_sys(err, "workspace");
}

/* Adds the runner's variables, the owner's, then the request's own: the last one counts. */
static int add_environment(const struct command *command, const struct task_request *request,
                           struct redact_set *redact, struct plan *plan, struct err *err)
{
    const char *json = request->env;
    AUTO(config_ref) const struct config *config = config_ref(command->config);
    owner_env_inherit(plan, command->walls->gate != EGRESS_ASKED);
    if (owner_env_add(config, redact, plan, err))
        return -1;
    AUTO(json) struct json *root = json ? json_parse(json, strlen(json), err) : NULL;
    if (json && !root)
        return -1;
    for (const struct json *at = json_first(root); at; at = json_next(at))
        strlist_set(&plan->env, json_name(at), json_text(at));
    strlist_set(&plan->env, TASK_MARKER, command->instance);
    return walls_add_proxies(command->walls, &plan->env) ? err_sys(err, "environment") : 0;
}

/* Without a repository the start directory is made. */
static int start_below(const struct command *command, const struct task_request *request,
                       const struct workspace *workspace, const char *dir, struct plan *plan,
                       struct err *err)
{
    AUTO(str) char *work = path_join(dir, "work");
    plan->below = strdup(request->cwd_relative);
    if (!plan->below || !work)
        return err_sys(err, "workspace");
    return workspace ? 0 : path_make_owned(work, plan->below, command->uid, command->gid, err);
}

struct plan *command_plan(const struct command *command, const struct task_request *request,
                          const struct command_files *files, struct err *err)
{
    REQUIRE(files->dir);
    const char *dir = files->dir;
    const struct walls_run run = {.dir = dir};
    struct workspace *workspace = files->workspace;
    AUTO(plan) struct plan *plan = plan_new();
    if (!plan) {
        err_sys(err, "plan");
        return NULL;
    }
    plan->uid = command->uid;
    plan->gid = command->gid;
    plan->kill_grace_ms = CONFIG_GET(command->config, kill_grace_seconds) * 1000;
    strlist_add(&plan->argv, "/bin/bash");
    strlist_add(&plan->argv, "-c");
    strlist_add(&plan->argv, request->command);
    if (make_places(command, dir, plan, err) ||
        add_environment(command, request, files->redact, plan, err) ||
        ((!workspace || files->inputs) &&
         harvest_make_output(command->repos, workspace, dir, err)) ||
        (workspace && workspace_mounts(workspace, &plan->mounts, err)) ||
        input_layers_mounts(files->inputs, &plan->mounts, err) ||
        walls_build(command->walls, request, &run, plan, err))
        return NULL;
    if (request->cwd_relative && start_below(command, request, workspace, dir, plan, err))
        return NULL;
    if (plan->argv.failed || plan->env.failed) {
        err_set(err, ERR_INVALID, "the command and its environment are too long");
        return NULL;
    }
    return STEAL_PTR(plan);
}

int command_stdin_fd(const char *text, struct err *err)
{
    AUTO(fd)
    int fd = text ? memfd_create("stdin", MFD_CLOEXEC) : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (text && (fd_write_all(fd, text, strlen(text)) || lseek(fd, 0, SEEK_SET) < 0)))
        return err_sys(err, "cannot pass on stdin");
    int out = fd;
    fd = -1;
    return out;
}
