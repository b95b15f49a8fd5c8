#include "runner/claude/prepare.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/claude/finish.h"
#include "runner/work/work.h"
#include "json/json.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX (4u << 20)
#define SHOWN_BYTES (64u << 10) /* of a command's output */
#define NAME_MAX_BYTES 100

/* --- files --------------------------------------------------------------------------------- */

/* A new file of the task's in a directory; whatever had that name there goes. */
static int write_file(const struct claude *claude, const char *dir, const char *name,
                      const struct buf *text, struct err *err)
{
    AUTO(fd) int at = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (at < 0)
        return err_sys(err, "cannot write '%s'", name);
    unlinkat(at, name, 0);
    AUTO(fd) int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (buf_check(text, name, err))
        return -1;
    if (fd < 0 || fd_write_all(fd, buf_str(text), text->len) ||
        fchown(fd, claude->uid, claude->gid))
        return err_sys(err, "cannot write '%s'", name);
    return 0;
}

/* NAME="value" as every reader of such files takes it. */
static void add_assignment(struct buf *out, const char *name, const char *value)
{
    buf_addf(out, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '\n')
            buf_adds(out, "\\n");
        else if (strchr("\"\\$`", *value))
            buf_addf(out, "\\%c", *value);
        else
            buf_addc(out, *value);
    }
    buf_adds(out, "\"\n");
}

static int exclude(const struct workspace *workspace, struct err *err)
{
    AUTO(str) char *path = path_join(workspace_upper(workspace), ".git/info/exclude");
    AUTO(fd) int fd = path ? open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0 || fd_write_all(fd, "/.env\n", 6))
        return err_sys(err, "cannot keep .env out of git");
    return 0;
}

static int write_secrets(const struct claude *claude, const struct task_request *request,
                         struct workspace *workspace, const char *dir, struct plan *plan,
                         struct err *err)
{
    const char *json = request->environment_secrets;
    AUTO(buf_wipe) struct buf text = BUF_INIT(FILE_BYTES_MAX);
    AUTO(str) char *work = path_join(dir, "work");
    AUTO(json) struct json *root = json ? json_parse(json, strlen(json), err) : NULL;
    if (!json)
        return 0;
    if (!root || !work)
        return root ? err_sys(err, "secrets") : -1;
    for (const struct json *at = json_first(root); at; at = json_next(at)) {
        strlist_set(&plan->env, json_name(at), json_text(at));
        add_assignment(&text, json_name(at), json_text(at));
    }
    if (workspace && exclude(workspace, err))
        return -1;
    return write_file(claude, workspace ? workspace_upper(workspace) : work, ".env", &text, err);
}

static int write_mcp(const struct claude *claude, const struct task_request *request,
                     const char *dir, struct plan *plan, struct err *err)
{
    AUTO(buf_wipe) struct buf text = BUF_INIT(FILE_BYTES_MAX);
    AUTO(str) char *config = path_join(dir, "config");
    if (!request->mcp_config)
        return 0;
    buf_adds(&text, request->mcp_config);
    AUTO(str) char *inside = walls_place(claude->walls, dir, "config");
    strlist_addf(&plan->argv, "--mcp-config=%s/mcp.json", inside ? inside : "");
    return config ? write_file(claude, config, "mcp.json", &text, err) : err_sys(err, "mcp");
}

static bool is_command_name(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= NAME_MAX_BYTES && *name != '.' && *name != '-' &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

static int write_commands(const struct claude *claude, const struct task_request *request,
                          const char *dir, struct err *err)
{
    const char *json = request->slash_commands;
    AUTO(str) char *place = path_join(dir, "config/commands");
    AUTO(json) struct json *root = json ? json_parse(json, strlen(json), err) : NULL;
    if (!json)
        return 0;
    if (!root || !place || path_make_dirs(place, 0700, err) ||
        path_own(place, claude->uid, claude->gid, err))
        return -1;
    for (const struct json *at = json_first(root); at; at = json_next(at)) {
        char name[NAME_MAX_BYTES + 8];
        AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES_MAX);
        const char *given = json_name(at) + (*json_name(at) == '/');
        if (!is_command_name(given))
            return err_set(err, ERR_INVALID, "'%.60s' is no name for a slash command", given);
        snprintf(name, sizeof(name), "%s%s", given, strstr(given, ".md") ? "" : ".md");
        buf_adds(&text, json_text(at));
        if (write_file(claude, place, name, &text, err))
            return -1;
    }
    return 0;
}

int prepare_files(const struct claude *claude, const struct task_request *request,
                  struct workspace *workspace, const char *dir, struct plan *plan, struct err *err)
{
    return write_secrets(claude, request, workspace, dir, plan, err) ||
                   write_mcp(claude, request, dir, plan, err) ||
                   write_commands(claude, request, dir, err)
               ? -1
               : 0;
}

/* --- commands ------------------------------------------------------------------------------ */

static struct plan *command_plan(const struct plan *claude, const char *command,
                                 struct workspace *workspace, struct err *err)
{
    AUTO(plan) struct plan *plan = plan_new();
    if (!plan) {
        err_sys(err, "command");
        return NULL;
    }
    strlist_add(&plan->argv, "/bin/bash");
    strlist_add(&plan->argv, "-c");
    strlist_add(&plan->argv, command);
    for (size_t i = 0; i < claude->env.count; i++)
        strlist_add(&plan->env, claude->env.items[i]);
    plan->cwd = strdup(claude->cwd);
    plan->below = claude->below ? strdup(claude->below) : NULL;
    plan->uid = claude->uid;
    plan->gid = claude->gid;
    plan->kill_grace_ms = claude->kill_grace_ms;
    if (!plan->cwd || plan->env.failed || walls_copy(claude, plan)) {
        err_sys(err, "command");
        return NULL;
    }
    if (workspace && workspace_mounts(workspace, &plan->mounts, err))
        return NULL;
    return STEAL_PTR(plan);
}

static void tell(struct task_run *run, const char *command, int out, int code)
{
    struct json_writer w;
    AUTO(buf) struct buf clean = BUF_INIT(SHOWN_BYTES);
    AUTO(buf) struct buf json = BUF_INIT(64 * SHOWN_BYTES);
    tail_show(out, SHOWN_BYTES, task_run_redact(run), &clean);
    json_write(&w, &json);
    json_open_object(&w, NULL);
    json_add_text(&w, "type", "system");
    json_add_text(&w, "subtype", "pre_execution");
    json_add_text(&w, "command", command);
    json_add_int(&w, "exit_code", code);
    json_add_textn(&w, "output", buf_str(&clean), clean.len);
    json_close(&w);
    if (buf_ok(&json))
        task_run_event(run, NULL, buf_str(&json), json.len);
}

/* A file without a name. What a command prints past what is shown stays on the disk for as long as
 * it runs. */
static int open_output(struct task_run *run)
{
    return open(task_run_dir(run), O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
}

static int run_command(const struct claude *claude, struct task_run *run, const char *command,
                       struct workspace *workspace, const struct plan *like,
                       struct egress_gate *gate, int64_t deadline_ms, const char **ret_reason,
                       struct err *err)
{
    AUTO(plan) struct plan *plan = command_plan(like, command, workspace, err);
    AUTO(fd) int out = open_output(run);
    struct work_result result;
    if (!plan || out < 0)
        return plan ? err_sys(err, "command") : -1;
    const struct work_order order = {.launcher = claude->launcher,
                                     .plan = plan,
                                     .gate = gate,
                                     .out = {.via = WORK_FD, .fd = out},
                                     .errors = {.via = WORK_FD, .fd = out},
                                     .limits = {.until_ms = deadline_ms},
                                     .stop = finish_stop(run)};
    if (work_run(&order, &result, err))
        return -1;
    int code = work_exit_code(result.status);
    AUTO(buf) struct buf shown = BUF_INIT(FILE_BYTES_MAX);
    redact_text(task_run_redact(run), command, strlen(command), &shown); /* before it is cut */
    tell(run, buf_str(&shown), out, code);
    if (result.cause == WORK_TIMEOUT)
        return err_set(err, ERR_TIMEOUT, "preExecutionCommands did not end in time");
    if (work_cause_is_limit(result.cause)) {
        char words[120];
        work_cause_say(result.cause, command, words, sizeof(words));
        *ret_reason = work_cause_reason(result.cause);
        return err_set(err, ERR_MISMATCH, "preExecutionCommands: '%.80s': %s", buf_str(&shown),
                       words);
    }
    if (result.cause != WORK_ENDED)
        return err_set(err, ERR_BUSY, "stopped");
    return code == 0 ? 0
                     : err_set(err, ERR_MISMATCH, "preExecutionCommands: '%.100s' ended with %d",
                               buf_str(&shown), code);
}

int prepare_commands(const struct claude *claude, struct task_run *run,
                     const struct task_request *request, struct workspace *workspace,
                     const struct plan *plan, struct egress_gate *gate, int64_t deadline_ms,
                     const char **ret_reason, struct err *err)
{
    for (size_t i = 0; i < request->pre_execution_commands.count; i++)
        if (run_command(claude, run, request->pre_execution_commands.items[i], workspace, plan,
                        gate, deadline_ms, ret_reason, err))
            return -1;
    return 0;
}
