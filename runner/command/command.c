#include "runner/command/command.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/command/capture.h"
#include "runner/command/command_plan.h"
#include "runner/material/material.h"
#include "runner/repo/harvest.h"
#include "runner/request/request.h"
#include "runner/work/work.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

struct job {
    const struct command *command;
    struct task_run *run;
    struct task_outcome *outcome;
    struct task_request *request;
    struct workspace *workspace; /* NULL: a task without a repository */
    struct input_layers *inputs; /* NULL: none */
    struct gitgate_pass *pass;   /* for git in the workspace; NULL without a repository */
    struct capture out, errors;
    struct plan *plan;
    struct egress_gate *gate; /* NULL: the jail has the host's network */
    struct work_result result;
    const char *failed_step; /* the task's reason when it could not be started */
    int64_t started_ms;      /* mono: its time limit counts from here */
    int64_t files_ms;        /* real, by the file system's clock: before it ran */
};

/* --- set-up ------------------------------------------------------------------------------- */

/* Prepares the repository that the command works in, if it names one. */
static int open_workspace(struct job *job, struct err *err)
{
    const struct command *command = job->command;
    if (material_open_repo(command->repos, job->run, job->request, &job->outcome->members,
                           &job->workspace, err)) {
        job->failed_step = "repo_error";
        return -1;
    }
    return material_open_gitgate(command->gitgate, job->run, job->request, job->workspace,
                                 command->walls->gate, &job->pass, err);
}

static int open_inputs(struct job *job, struct err *err)
{
    const struct material_inputs order = {.inputs = job->command->inputs,
                                          .repos = job->command->repos,
                                          .run = job->run,
                                          .request = job->request,
                                          .workspace = job->workspace,
                                          .until_ms = job->started_ms + job->request->timeout_ms};
    return material_open_inputs(&order, &job->inputs, &job->failed_step, err);
}

static int load_request(struct job *job, struct err *err)
{
    const struct task_record *record = task_run_record(job->run);
    const char *secrets = task_run_secrets(job->run);
    job->request = task_request_load(record->request, strlen(record->request),
                                     *secrets ? secrets : NULL, strlen(secrets), err);
    if (!job->request)
        return -1;
    if (task_request_redact(job->request, task_run_redact(job->run)))
        return err_sys(err, "secrets");
    return job->request->command ? 0 : err_set(err, ERR_INTERNAL, "the task has no command");
}

static void tell(const char *event, const char *json, size_t len, void *arg)
{
    task_run_event(arg, event, json, len);
}

static int prepare(struct job *job, struct err *err)
{
    const struct egress_ours ours = {.git = gitgate_socket(job->command->gitgate)};
    job->started_ms = clock_mono_ms();
    if (load_request(job, err) || open_workspace(job, err) || open_inputs(job, err) ||
        walls_gate(job->command->walls, job->request, &ours, &job->gate, err))
        return -1;
    const struct command_files files = {task_run_dir(job->run), job->workspace, job->inputs,
                                        task_run_redact(job->run)};
    job->files_ms = clock_files_ms();
    job->plan = command_plan(job->command, job->request, &files, err);
    return job->plan ? 0 : -1;
}

/* --- while it runs -------------------------------------------------------------------------- */

static void take_output(struct work *work, const char *data, size_t len, void *arg)
{
    (void)work;
    capture_take(&((struct job *)arg)->out, data, len);
}

static void take_errors(struct work *work, const char *data, size_t len, void *arg)
{
    (void)work;
    capture_take(&((struct job *)arg)->errors, data, len);
}

/* Tells readers of new events; when the store accepts none, ends the task. */
static int64_t look(struct work *work, void *arg)
{
    const struct job *job = arg;
    walls_tell(job->gate, tell, job->run);
    gitgate_tell(job->pass, tell, job->run);
    if (!task_run_healthy(job->run))
        work_end(work, WORK_ABORT);
    return -1;
}

/* Runs until the whole tree has ended: what a command leaves behind is ended with it. */
static int run_program(struct job *job, struct err *err)
{
    AUTO(fd) int in = command_stdin_fd(job->request->stdin_text, err);
    const struct work_order order = {
        .launcher = job->command->launcher,
        .plan = job->plan,
        .users = job->command->walls->users,
        .given = task_run_dir(job->run),
        .gate = job->gate,
        .in = {.via = WORK_FD, .fd = in},
        .out = {.via = WORK_PIPE, .take = take_output},
        .errors = {.via = WORK_PIPE, .take = take_errors},
        .limits = {.until_ms = job->started_ms + job->request->timeout_ms},
        .stop = material_stop(job->run),
        .look = look,
        .arg = job};
    if (in < 0)
        return -1;
    if (work_run(&order, &job->result, err) == 0) {
        capture_finish(&job->out);
        capture_finish(&job->errors);
        walls_tell(job->gate, tell, job->run);
        gitgate_tell(job->pass, tell, job->run);
        return 0;
    }
    if (job->request->cwd_relative)
        err_wrap(err, "cwdRelative '%.80s'", job->request->cwd_relative);
    return -1;
}

/* --- the outcome ---------------------------------------------------------------------------- */

static void settle(struct task_outcome *outcome, enum task_state state, const char *reason,
                   const char *error)
{
    outcome->state = state;
    snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason);
    snprintf(outcome->error, sizeof(outcome->error), "%s", error);
}

/* The outcome when the runner ended the command. */
static void settle_cause(struct task_outcome *outcome, enum work_cause cause)
{
    char error[sizeof(outcome->error)];
    const char *reason = work_cause_reason(cause);
    work_cause_say(cause, "the command", error, sizeof(error));
    settle(outcome, cause == WORK_CANCEL ? TASK_CANCELLED : TASK_FAILED,
           *reason ? reason : "internal", error);
}

static void judge(struct job *job)
{
    char error[120];
    struct task_outcome *outcome = job->outcome;
    const struct work_result *result = &job->result;
    bool killed = result->status < 0 || WIFSIGNALED(result->status);
    outcome->exit_code = work_exit_code(result->status);
    outcome->truncated = job->out.truncated || job->errors.truncated || result->dropped;
    buf_addf(&outcome->members, ",\"peak_memory_mb\":%lld", (long long)(result->peak_kib / 1024));
    if (result->cause != WORK_ENDED) {
        settle_cause(outcome, result->cause);
    } else if (outcome->exit_code == 0) {
        settle(outcome, TASK_COMPLETED, "", "");
    } else if (killed) {
        snprintf(error, sizeof(error), "the command was killed (signal %d)",
                 outcome->exit_code - 128);
        settle(outcome, TASK_FAILED, "killed", error);
    } else {
        snprintf(error, sizeof(error), "the command ended with exit status %d", outcome->exit_code);
        settle(outcome, TASK_FAILED, "exit_status", error);
    }
    if (outcome->state != TASK_COMPLETED && outcome->exit_code == 0)
        outcome->exit_code = 1;
}

static void judge_failed_start(struct job *job, const struct err *err)
{
    enum task_stop stop = task_run_stop(job->run);
    job->outcome->exit_code = 1;
    if (stop != STOP_NO)
        settle_cause(job->outcome, stop == STOP_CANCEL ? WORK_CANCEL : WORK_INTERRUPT);
    else
        settle(job->outcome, TASK_FAILED,
               err->code == ERR_NO_SPACE ? "disk_full"
               : job->failed_step        ? job->failed_step
                                         : "start_error",
               err->msg);
}

/* Stores the command's changes with the task's events. */
static void keep_changes(struct job *job)
{
    struct err err = ERR_INIT;
    const struct strlist none = STRLIST_INIT;
    const struct work_stop stop = material_stop(job->run);
    if (job->workspace && harvest_diff(job->workspace, &none, task_run_keep_dir(job->run),
                                       task_run_redact(job->run), &stop, &err))
        log_warn("command", "cannot keep what was changed: %s", err.msg);
}

/* Keeps its output folder, whatever the outcome. */
static void keep_output(struct job *job)
{
    struct err err;
    struct task_run *run = job->run;
    const struct work_stop stop = material_stop(run);
    const struct harvest_files wish = {.output = true,
                                       .since_ms = job->workspace ? job->files_ms : 0};
    AUTO(str) char *to = path_join(task_run_keep_dir(run), "outputs");
    AUTO(str) char *work = path_join(task_run_dir(run), "work");
    AUTO(buf) struct buf text = BUF_INIT(256);
    if (!to || !work || !harvest_has_output(job->workspace, work))
        return;
    AUTO(json)
    struct json *answer = harvest_files(job->command->repos, job->workspace, task_run_dir(run),
                                        work, &wish, to, &stop, &err);
    if (answer) {
        harvest_print_output(answer, &text);
        if (text.len > 0)
            buf_addf(&job->outcome->members, ",\"outputs\":%s", buf_str(&text));
    } else {
        log_warn("command", "outputs: %s", err.msg);
        buf_adds(&job->outcome->members, ",\"uploadError\":\"");
        str_add_json(&job->outcome->members, err.msg, strlen(err.msg));
        buf_addc(&job->outcome->members, '"');
    }
}

void command_run(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct err err;
    struct job job = {.command = arg, .run = run, .outcome = outcome};
    capture_init(&job.out, run, "stdout", &outcome->output);
    capture_init(&job.errors, run, "stderr", &outcome->errors);
    if (prepare(&job, &err) == 0 && run_program(&job, &err) == 0) {
        judge(&job);
        keep_changes(&job);
        keep_output(&job);
    } else {
        judge_failed_start(&job, &err);
    }
    egress_gate_free(job.gate);
    gitgate_close(job.pass);
    plan_free(job.plan);
    capture_done(&job.out);
    capture_done(&job.errors);
    task_request_free(job.request);
    input_layers_close(job.inputs);
    workspace_close(job.workspace);
}

/* --- the kind ------------------------------------------------------------------------------- */

static void print_said(const struct buf *output, const struct buf *errors, struct buf *out)
{
    buf_adds(out, "\"stdout\":\"");
    str_add_json(out, buf_str(output), output->len);
    buf_adds(out, "\",\"stderr\":\"");
    str_add_json(out, buf_str(errors), errors->len);
    buf_addc(out, '"');
}

const struct task_kind command_kind = {
    .name = COMMAND_KIND, .fields = REQUEST_COMMAND, .run = command_run, .print_said = print_said};
