#include "runner/command/command.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "runner/command/capture.h"
#include "runner/command/command_plan.h"
#include "runner/request/request.h"
#include "runner/work/work.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define LOOK_EVERY_MS 1000
#define INIT_SLACK_MS 15000 /* beyond the grace: then init itself is lost */
#define LAST_READ_MS 5000   /* for what is left in the pipes of a tree that has ended */

/* Why the runner ends a command. */
enum cause { CAUSE_NONE, CAUSE_CANCEL, CAUSE_INTERRUPT, CAUSE_TIMEOUT, CAUSE_UNHEALTHY };

static const struct {
    enum task_state state;
    const char *reason;
    const char *error;
} causes[] = {
    [CAUSE_CANCEL] = {TASK_CANCELLED, "cancelled", "the task was cancelled"},
    [CAUSE_INTERRUPT] = {TASK_FAILED, "interrupted", "the runner was stopped while the task ran"},
    [CAUSE_TIMEOUT] = {TASK_FAILED, "timeout", "the task did not end within its time limit"},
    [CAUSE_UNHEALTHY] = {TASK_FAILED, "internal", "the events could not be written"},
};

struct job {
    const struct command *command;
    struct task_run *run;
    struct task_outcome *outcome;
    struct task_request *request;
    struct workspace *workspace; /* NULL: a task without a repository */
    struct capture out, errors;
    struct child *child;
    struct egress_gate *gate; /* NULL: the jail has the host's network */
    const char *failed_step;  /* the reason when it could not be started */
    enum cause cause;
    int64_t started_ms; /* mono, as all here */
    int64_t ending_ms;  /* 0: it was not told to end */
};

/* --- starting ------------------------------------------------------------------------------- */

static enum work_cause asked(struct work *work, void *arg)
{
    static const enum work_cause wishes[] = {
        [STOP_NO] = WORK_ENDED, [STOP_CANCEL] = WORK_CANCEL, [STOP_INTERRUPT] = WORK_INTERRUPT};
    (void)work;
    return wishes[task_run_stop(arg)];
}

/* The repository that the command works in, if it names one. */
static int open_workspace(struct job *job, struct err *err)
{
    const struct task_request *request = job->request;
    const struct work_stop stop = {
        .wake_fd = task_run_wake_fd(job->run), .asked = asked, .arg = job->run};
    const struct repo_wish wish = {.url = request->repo_url,
                                   .branch = request->git_branch,
                                   .ref = request->git_ref,
                                   .key = request->ssh_key,
                                   .token = request->git_token,
                                   .timeout_ms = request->timeout_ms,
                                   .depth = request->git_depth,
                                   .stale_ok = request->stale_ok};
    AUTO(buf) struct buf json = BUF_INIT(1u << 20);
    if (!wish.url)
        return 0;
    job->workspace = workspace_open(job->command->repos, &wish, task_run_dir(job->run), &stop, err);
    if (!job->workspace) {
        job->failed_step = "repo_error";
        return -1;
    }
    workspace_print(job->workspace, &json);
    task_run_event(job->run, "repo", buf_str(&json), json.len);
    buf_addf(&job->outcome->members, ",\"repo\":%s", buf_str(&json));
    return 0;
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

static void serve_network(struct job *job)
{
    int sockets[JAIL_GATE_SOCKETS];
    if (job->gate && child_take_gate(job->child, sockets))
        egress_gate_serve(job->gate, sockets);
}

static void tell(const char *event, const char *json, size_t len, void *arg)
{
    task_run_event(arg, event, json, len);
}

static int start(struct job *job, struct err *err)
{
    AUTO(fd) int out = -1;
    AUTO(fd) int errors = -1;
    job->started_ms = clock_mono_ms();
    if (load_request(job, err) || open_workspace(job, err) ||
        walls_gate(job->command->walls, job->request, NULL, &job->gate, err))
        return -1;
    AUTO(plan)
    struct plan *plan =
        command_plan(job->command, job->request, task_run_dir(job->run), job->workspace, err);
    AUTO(fd) int in = plan ? command_stdin_fd(job->request->stdin_text, err) : -1;
    if (in < 0 || capture_open(&job->out, job->run, "stdout", &job->outcome->output, &out, err) ||
        capture_open(&job->errors, job->run, "stderr", &job->outcome->errors, &errors, err))
        return -1;
    const int stdio[3] = {in, out, errors};
    job->child = launcher_spawn(job->command->launcher, plan, stdio, err);
    if (job->child)
        serve_network(job);
    if (!job->child && job->request->cwd_relative)
        err_wrap(err, "cwdRelative '%.80s'", job->request->cwd_relative);
    return job->child ? 0 : -1;
}

/* --- while it runs -------------------------------------------------------------------------- */

static void end_tree(struct job *job, enum cause cause)
{
    if (job->ending_ms > 0)
        return;
    job->ending_ms = clock_mono_ms();
    job->cause = cause;
    child_end(job->child, cause == CAUSE_UNHEALTHY);
}

static void heed_clock_and_caller(struct job *job)
{
    enum task_stop stop = task_run_stop(job->run);
    if (stop == STOP_CANCEL)
        end_tree(job, CAUSE_CANCEL);
    else if (stop == STOP_INTERRUPT)
        end_tree(job, CAUSE_INTERRUPT);
    else if (!task_run_healthy(job->run))
        end_tree(job, CAUSE_UNHEALTHY);
    else if (clock_mono_ms() >= job->started_ms + job->request->timeout_ms)
        end_tree(job, CAUSE_TIMEOUT);
}

static void wait_for_something(struct job *job)
{
    int64_t left = job->started_ms + job->request->timeout_ms - clock_mono_ms();
    struct pollfd fds[] = {
        {.fd = child_fd(job->child), .events = POLLIN},
        {.fd = job->out.read_fd, .events = POLLIN},
        {.fd = job->errors.read_fd, .events = POLLIN},
        /* once the tree is being ended the caller has nothing to add */
        {.fd = job->ending_ms > 0 ? -1 : task_run_wake_fd(job->run), .events = POLLIN},
    };
    if (left < 0 || left > LOOK_EVERY_MS || job->ending_ms > 0)
        left = LOOK_EVERY_MS;
    poll(fds, COUNT_OF(fds), (int)left);
}

static bool is_lost(const struct job *job)
{
    int64_t grace_ms = INT64_C(1000) * CONFIG_GET(job->command->config, kill_grace_seconds);
    return job->ending_ms > 0 && clock_mono_ms() - job->ending_ms > grace_ms + INIT_SLACK_MS;
}

static bool read_both(struct job *job)
{
    bool any = capture_read(&job->out);
    return capture_read(&job->errors) || any;
}

/* Until the whole tree has ended: what a command leaves behind is ended with it. */
static void follow(struct job *job)
{
    for (;;) {
        /* look at the child first, read then: what it printed before its end is not missed */
        enum child_event event = child_read(job->child);
        bool any = read_both(job);
        if (event == CHILD_ENDED || is_lost(job))
            break;
        heed_clock_and_caller(job);
        walls_tell(job->gate, tell, job->run);
        if (!any && event == CHILD_NOTHING)
            wait_for_something(job);
    }
    int64_t deadline = clock_mono_ms() + LAST_READ_MS;
    while (read_both(job) && clock_mono_ms() < deadline)
        continue;
    capture_finish(&job->out);
    capture_finish(&job->errors);
    walls_tell(job->gate, tell, job->run);
}

/* --- the outcome ---------------------------------------------------------------------------- */

static void settle(struct task_outcome *outcome, enum task_state state, const char *reason,
                   const char *error)
{
    outcome->state = state;
    snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason);
    snprintf(outcome->error, sizeof(outcome->error), "%s", error);
}

static void judge(struct job *job)
{
    char error[120];
    struct task_outcome *outcome = job->outcome;
    int status = child_status(job->child);
    int signal = status < 0 ? SIGKILL : WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    outcome->exit_code = signal ? 128 + signal : WEXITSTATUS(status);
    outcome->truncated = job->out.truncated || job->errors.truncated;
    buf_addf(&outcome->members, ",\"peak_memory_mb\":%lld",
             (long long)(child_peak_kib(job->child) / 1024));
    enum work_cause limit = work_cause_of_limits(child_exceeded(job->child), status);
    if (job->cause == CAUSE_NONE && limit != WORK_ENDED) {
        work_cause_say(limit, "the command", error, sizeof(error));
        settle(outcome, TASK_FAILED, work_cause_reason(limit), error);
    } else if (job->cause != CAUSE_NONE) {
        settle(outcome, causes[job->cause].state, causes[job->cause].reason,
               causes[job->cause].error);
    } else if (signal) {
        snprintf(error, sizeof(error), "the command was killed (signal %d)", signal);
        settle(outcome, TASK_FAILED, "killed", error);
    } else if (outcome->exit_code != 0) {
        snprintf(error, sizeof(error), "the command ended with exit status %d", outcome->exit_code);
        settle(outcome, TASK_FAILED, "exit_status", error);
    } else {
        settle(outcome, TASK_COMPLETED, "", "");
    }
    if (outcome->state != TASK_COMPLETED && outcome->exit_code == 0)
        outcome->exit_code = 1;
}

static void judge_failed_start(struct job *job, const struct err *err)
{
    enum task_stop stop = task_run_stop(job->run);
    const enum cause cause = stop == STOP_CANCEL ? CAUSE_CANCEL : CAUSE_INTERRUPT;
    job->outcome->exit_code = 1;
    if (stop != STOP_NO)
        settle(job->outcome, causes[cause].state, causes[cause].reason, causes[cause].error);
    else
        settle(job->outcome, TASK_FAILED,
               err->code == ERR_NO_SPACE ? "disk_full"
               : job->failed_step        ? job->failed_step
                                         : "start_error",
               err->msg);
}

void command_run(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct err err;
    struct job job = {.command = arg, .run = run, .outcome = outcome};
    job.out.read_fd = job.errors.read_fd = -1;
    if (start(&job, &err) == 0) {
        follow(&job);
        judge(&job);
    } else {
        judge_failed_start(&job, &err);
    }
    child_free(job.child);
    egress_gate_free(job.gate);
    capture_done(&job.out);
    capture_done(&job.errors);
    task_request_free(job.request);
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
