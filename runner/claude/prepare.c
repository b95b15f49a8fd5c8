#include "runner/claude/prepare.h"

#include "base/check.h"
#include "base/clock.h"
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
#define SHOWN_BYTES (64u << 10) /* bytes of a command's output that are shown */
#define NAME_MAX_BYTES 100
#define POST_MS 300000 /* time for all postCommands together */
#define POST_REPORT_MAX (256u << 10)

/* --- files --------------------------------------------------------------------------------- */

/* Writes a new file of the task in a directory, and removes what had that name before. */
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

/* Appends NAME="value" in the form that every reader of such files accepts. */
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

/* A session keeps its files, so it gets no file with secrets. */
static int write_secrets(const struct attempt *attempt, struct plan *plan, struct err *err)
{
    const struct claude *claude = attempt->claude;
    const char *json = attempt->request->environment_secrets;
    struct workspace *workspace = attempt->workspace;
    AUTO(buf_wipe) struct buf text = BUF_INIT(FILE_BYTES_MAX);
    AUTO(str) char *work = path_join(attempt->places.dir, "work");
    AUTO(json) struct json *root = json ? json_parse(json, strlen(json), err) : NULL;
    if (!json)
        return 0;
    if (!root || !work)
        return root ? err_sys(err, "secrets") : -1;
    for (const struct json *at = json_first(root); at; at = json_next(at)) {
        strlist_set(&plan->env, json_name(at), json_text(at));
        add_assignment(&text, json_name(at), json_text(at));
    }
    if (attempt->guest)
        return 0;
    if (workspace && exclude(workspace, err))
        return -1;
    return write_file(claude, workspace ? workspace_upper(workspace) : work, ".env", &text, err);
}

static int write_mcp(const struct attempt *attempt, struct plan *plan, struct err *err)
{
    const struct claude *claude = attempt->claude;
    const struct task_request *request = attempt->request;
    AUTO(buf_wipe) struct buf text = BUF_INIT(FILE_BYTES_MAX);
    AUTO(str) char *config = path_join(attempt->places.dir, "config");
    if (!request->mcp_config)
        return 0;
    buf_adds(&text, request->mcp_config);
    AUTO(str) char *inside = walls_place(claude->walls, &attempt->places, "config");
    strlist_addf(&plan->argv, "--mcp-config=%s/mcp.json", inside ? inside : "");
    return config ? write_file(claude, config, "mcp.json", &text, err) : err_sys(err, "mcp");
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
        if (!request_is_command_name(given))
            return err_set(err, ERR_INVALID, "'%.60s' is no name for a slash command", given);
        snprintf(name, sizeof(name), "%s%s", given, strstr(given, ".md") ? "" : ".md");
        buf_adds(&text, json_text(at));
        if (write_file(claude, place, name, &text, err))
            return -1;
    }
    return 0;
}

static void trust(struct json_writer *w, const char *path)
{
    json_open_object(w, path);
    json_add_bool(w, "hasTrustDialogAccepted", true);
    json_add_bool(w, "hasClaudeMdExternalIncludesApproved", true);
    json_close(w);
}

/* Marks the workspace as trusted, because the request vouches for its repository: otherwise the CLI
 * reads its CLAUDE.md but skips its hooks. */
static int write_trust(const struct attempt *attempt, const struct plan *plan, struct err *err)
{
    struct json_writer w;
    const struct task_request *request = attempt->request;
    AUTO(buf) struct buf text = BUF_INIT(FILE_BYTES_MAX), below = BUF_INIT(8192);
    AUTO(str) char *config = path_join(attempt->places.dir, "config");
    if (!request->project_settings)
        return 0;
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_open_object(&w, "projects");
    trust(&w, plan->cwd);
    buf_addf(&below, "%s/%s", plan->cwd, request->cwd_relative ? request->cwd_relative : "");
    if (request->cwd_relative)
        trust(&w, buf_str(&below));
    json_close(&w);
    json_close(&w);
    return config ? write_file(attempt->claude, config, ".claude.json", &text, err)
                  : err_sys(err, "trust");
}

int prepare_files(const struct attempt *attempt, struct plan *plan, struct err *err)
{
    return write_secrets(attempt, plan, err) || write_mcp(attempt, plan, err) ||
                   write_trust(attempt, plan, err) ||
                   write_commands(attempt->claude, attempt->request, attempt->places.dir, err)
               ? -1
               : 0;
}

/* --- commands ------------------------------------------------------------------------------ */

int prepare_mounts(const struct attempt *attempt, struct strlist *mounts, struct err *err)
{
    return (attempt->workspace && workspace_mounts(attempt->workspace, mounts, err)) ||
                   input_layers_mounts(attempt->inputs, mounts, err)
               ? -1
               : 0;
}

static struct plan *command_plan(const struct attempt *attempt, const char *command,
                                 struct err *err)
{
    const struct plan *claude = attempt->plan;
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
    return prepare_mounts(attempt, &plan->mounts, err) ? NULL : STEAL_PTR(plan);
}

static void tell(struct task_run *run, const char *subtype, const char *command, int out, int code)
{
    struct json_writer w;
    AUTO(buf) struct buf clean = BUF_INIT(SHOWN_BYTES);
    AUTO(buf) struct buf json = BUF_INIT(64 * SHOWN_BYTES);
    tail_show(out, SHOWN_BYTES, task_run_redact(run), &clean);
    json_write(&w, &json);
    json_open_object(&w, NULL);
    json_add_text(&w, "type", "system");
    json_add_text(&w, "subtype", subtype);
    json_add_text(&w, "command", command);
    json_add_int(&w, "exit_code", code);
    json_add_textn(&w, "output", buf_str(&clean), clean.len);
    json_close(&w);
    if (buf_ok(&json))
        task_run_event(run, NULL, buf_str(&json), json.len);
}

/* Opens a file without a name. Output beyond what is shown stays on disk while the command runs. */
static int open_output(struct task_run *run)
{
    return file_nameless(task_run_dir(run), O_APPEND);
}

/* Commands that run as Claude does. */
struct commands {
    const struct attempt *attempt;
    struct task_run *run;
    const char *subtype; /* of their events */
    const char *field;   /* for messages */
    int64_t deadline_ms;
    struct work_stop stop;
};

/* Runs one command and reports it as an event. *ret_code is its exit code, also when this fails. */
static int run_command(const struct commands *all, const char *command, int *ret_code,
                       const char **ret_reason, struct err *err)
{
    AUTO(plan) struct plan *plan = command_plan(all->attempt, command, err);
    AUTO(fd) int out = open_output(all->run);
    struct work_result result;
    *ret_code = 1;
    if (!plan || out < 0)
        return plan ? err_sys(err, "command") : -1;
    const struct work_order order = {
        .launcher = all->attempt->claude->launcher,
        .plan = plan,
        .users = all->attempt->claude->walls->users,
        .given = all->attempt->places.box && !all->attempt->user ? NULL : all->attempt->places.dir,
        .as = all->attempt->user,
        .gate = all->attempt->gate,
        .out = {.via = WORK_FD, .fd = out},
        .errors = {.via = WORK_FD, .fd = out},
        .limits = {.until_ms = all->deadline_ms},
        .stop = all->stop};
    if (work_run(&order, &result, err))
        return -1;
    int code = *ret_code = work_exit_code(result.status);
    AUTO(buf) struct buf shown = BUF_INIT(FILE_BYTES_MAX);
    redact_text(task_run_redact(all->run), command, strlen(command), &shown); /* Redacted before it
                                                                               * is cut. */
    tell(all->run, all->subtype, buf_str(&shown), out, code);
    if (result.cause == WORK_TIMEOUT)
        return err_set(err, ERR_TIMEOUT, "%s did not end in time", all->field);
    if (work_cause_is_limit(result.cause)) {
        char words[120];
        work_cause_say(result.cause, command, words, sizeof(words));
        *ret_reason = work_cause_reason(result.cause);
        return err_set(err, ERR_MISMATCH, "%s: '%.80s': %s", all->field, buf_str(&shown), words);
    }
    if (result.cause != WORK_ENDED)
        return err_set(err, ERR_BUSY, "stopped");
    return code == 0 ? 0
                     : err_set(err, ERR_MISMATCH, "%s: '%.100s' ended with %d", all->field,
                               buf_str(&shown), code);
}

int prepare_commands(struct attempt *attempt, struct err *err)
{
    REQUIRE(attempt->plan);
    int code;
    const struct strlist *list = &attempt->request->pre_execution_commands;
    const struct commands all = {.attempt = attempt,
                                 .run = attempt->run,
                                 .subtype = "pre_execution",
                                 .field = "preExecutionCommands",
                                 .deadline_ms = attempt->started_ms + attempt->request->timeout_ms,
                                 .stop = attempt_stop(attempt)};
    for (size_t i = 0; i < list->count; i++)
        if (run_command(&all, list->items[i], &code, &attempt->failed_step, err))
            return -1;
    return 0;
}

/* A cancel has been handled before: it was meant for Claude. */
static enum work_cause asked_to_go(struct work *work, void *arg)
{
    (void)work;
    return task_run_stop(arg) == STOP_INTERRUPT ? WORK_INTERRUPT : WORK_ENDED;
}

void prepare_post_commands(struct attempt *attempt)
{
    struct json_writer w;
    struct task_run *run = attempt->run;
    const struct strlist *list = &attempt->request->post_commands;
    AUTO(buf) struct buf said = BUF_INIT(POST_REPORT_MAX);
    /* No descriptor to wake on: after a cancel it would always be readable. */
    const struct commands all = {.attempt = attempt,
                                 .run = run,
                                 .subtype = "post_execution",
                                 .field = "postCommands",
                                 .deadline_ms = clock_mono_ms() + POST_MS,
                                 .stop = {.wake_fd = -1, .asked = asked_to_go, .arg = run}};
    bool gone = attempt->guest && session_guest_is_told(attempt->guest);
    if (list->count == 0 || gone)
        return;
    json_write(&w, &said);
    json_open_array(&w, NULL);
    for (size_t i = 0; i < list->count && task_run_stop(run) != STOP_INTERRUPT; i++) {
        int code;
        const char *ignored;
        struct err err = ERR_INIT;
        bool good = run_command(&all, list->items[i], &code, &ignored, &err) == 0;
        json_open_object(&w, NULL);
        json_add_int(&w, "exit_code", code);
        if (!good)
            json_add_text(&w, "error", err.msg);
        json_close(&w);
    }
    json_close(&w);
    if (buf_ok(&said))
        buf_addf(&attempt->members, ",\"postCommands\":%s", buf_str(&said));
}
