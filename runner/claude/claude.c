#include "runner/claude/claude.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/claude/conversation.h"
#include "runner/claude/finish.h"
#include "runner/claude/plan.h"
#include "runner/claude/prepare.h"
#include "runner/claude/stream.h"
#include "runner/claude/tail.h"
#include "runner/claude/walls.h"
#include "runner/request/request.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_BYTES (256u << 10)
#define MEMBERS_BYTES_MAX (1u << 20)
#define READS_AT_ONCE 16
#define BACKLOG_BYTES_MAX (INT64_C(1) << 30) /* of output on the disk that we have not read yet */
#define LAST_READ_MS 5000 /* of a task that we ended, what is left then is dropped, and said so */
#define STDERR_KEEP_BYTES (64 << 10)
#define STDERR_SHOW_BYTES 400
#define LOOK_EVERY_MS 1000  /* at the latest: for stderr's size, and where inotify is missing */
#define TAIL_EVERY_MS 20    /* where inotify is missing */
#define INIT_SLACK_MS 15000 /* beyond the grace: then init itself is lost */

/* Why the runner ends a task; each has its own clock. */
enum cause {
    CAUSE_NONE,
    CAUSE_CANCEL,
    CAUSE_INTERRUPT,
    CAUSE_TIMEOUT,
    CAUSE_SILENT,
    CAUSE_IDLE,
    CAUSE_GRACE,
    CAUSE_FLOOD,
    CAUSE_UNHEALTHY
};

static const struct {
    const char *reason;
    const char *error;
} causes[] = {
    [CAUSE_NONE] = {"", ""},
    [CAUSE_CANCEL] = {"cancelled", "the task was cancelled"},
    [CAUSE_INTERRUPT] = {"interrupted", "the runner was stopped while the task ran"},
    [CAUSE_TIMEOUT] = {"timeout", "the task did not end within its time limit"},
    [CAUSE_SILENT] = {"no_output", "Claude Code printed nothing after it was started"},
    [CAUSE_IDLE] = {"idle_timeout", "Claude Code printed nothing for too long"},
    [CAUSE_GRACE] = {"", ""}, /* the result has come: it decides */
    [CAUSE_FLOOD] = {"output_limit", "Claude Code printed faster than can be stored"},
    [CAUSE_UNHEALTHY] = {"", ""},
};

struct work {
    struct task_run *run;
    const struct claude *claude;
    struct task_request *request;
    struct workspace *workspace; /* NULL: a task without a repository */
    struct tail out;
    struct tail errors;
    struct stream stream;
    struct child *child;
    struct lease *lease;
    char *chunk;
    enum cause cause;
    bool ending;             /* the tree has been told to end */
    const char *failed_step; /* the reason when it could not be started; NULL: cli_error */
    struct buf members;      /* of the answer, known before it ran */
    int64_t started_ms;
    int64_t launched_ms;
    int64_t heard_ms;  /* when output last came */
    int64_t result_ms; /* when the result came, 0: not yet */
    int64_t ending_ms;
};

/* --- set-up -------------------------------------------------------------------------------- */

static void pass_event(const char *json, size_t len, void *arg)
{
    task_run_event(arg, NULL, json, len);
}

static int open_files(struct work *work, struct err *err)
{
    const char *dir = task_run_dir(work->run);
    AUTO(str) char *out = path_join(dir, "stdout");
    AUTO(str) char *errors = path_join(dir, "stderr");
    if (!out || !errors)
        return err_sys(err, "output");
    return tail_open(&work->out, out, true, err) || tail_open(&work->errors, errors, false, err)
               ? -1
               : 0;
}

/* The request's own credential, else the configured key, else the login, which is made to last. */
static int take_lease(struct work *work, struct err *err)
{
    const struct claude *claude = work->claude;
    const struct task_request *request = work->request;
    const struct config *config = atomic_load(claude->config);
    enum lease_kind kind = request->anthropic_oauth_token                            ? LEASE_OAUTH
                           : request->anthropic_api_key || config->anthropic_api_key ? LEASE_KEY
                                                                                     : LEASE_LOGIN;
    const char *own = request->anthropic_oauth_token ? request->anthropic_oauth_token
                                                     : request->anthropic_api_key;
    if (kind == LEASE_LOGIN && keeper_prepare(claude->keeper, request->timeout_ms, err)) {
        breaker_refused(claude->breaker);
        err->code = ERR_LOGIN; /* a token server that is away is no fault of the task's, either */
        return -1;
    }
    work->lease = proxy_lease(claude->proxy, kind, own, err);
    return work->lease ? 0 : -1;
}

/* The repository that the task works in, if it names one. */
static int open_workspace(struct work *work, struct err *err)
{
    const struct repo_wish wish = finish_wish(work->request);
    const struct call_stop stop = finish_stop(work->run);
    AUTO(buf) struct buf json = BUF_INIT(1u << 20);
    if (!wish.url)
        return 0;
    work->workspace =
        workspace_open(work->claude->repos, &wish, task_run_dir(work->run), &stop, err);
    if (!work->workspace) {
        work->failed_step = "repo_error";
        return -1;
    }
    workspace_print(work->workspace, &json);
    task_run_event(work->run, "repo", buf_str(&json), json.len);
    buf_addf(&work->members, ",\"repo\":%s", buf_str(&json));
    return 0;
}

static int add_argument(struct plan *plan, const char *flag, const char *value, struct err *err)
{
    return strlist_addf(&plan->argv, "%s=%s", flag, value) ? err_sys(err, "arguments") : 0;
}

/* The conversation goes on, or gets the name under which it can be gone on with. */
static int add_session(struct work *work, struct plan *plan, struct err *err)
{
    const struct claude *claude = work->claude;
    const char *conversation = task_run_record(work->run)->conversation;
    AUTO(str) char *transcript = NULL;
    if (!conversation[0]) /* it was submitted to a runner that kept none */
        return 0;
    if (!work->request->resume_session_id)
        return add_argument(plan, "--session-id", conversation, err);
    work->failed_step = "session_error";
    if (conversation_restore(atomic_load(claude->config)->state_dir, conversation,
                             task_run_dir(work->run), claude->uid, claude->gid, &transcript, err))
        return -1;
    work->failed_step = NULL;
    AUTO(str) char *inside = walls_path(claude, task_run_dir(work->run), transcript);
    return inside ? add_argument(plan, "--resume", inside, err) : err_sys(err, "session");
}

static int start(struct work *work, struct err *err)
{
    const struct task_record *record = task_run_record(work->run);
    const char *secrets = task_run_secrets(work->run);
    struct redact_set *redact = task_run_redact(work->run);
    work->request = task_request_load(record->request, strlen(record->request),
                                      *secrets ? secrets : NULL, strlen(secrets), err);
    if (!work->request)
        return -1;
    if (task_request_redact(work->request, redact))
        return err_sys(err, "secrets");
    work->started_ms = clock_mono_ms();
    if (open_workspace(work, err) || take_lease(work, err))
        return -1;
    AUTO(plan)
    struct plan *plan = claude_plan(work->claude, work->request, work->lease,
                                    task_run_dir(work->run), work->workspace, redact, err);
    if (!plan || add_session(work, plan, err) || open_files(work, err))
        return -1;
    if (prepare_commands(work->claude, work->run, work->request, work->workspace, plan,
                         work->started_ms + work->request->timeout_ms, &work->failed_step, err)) {
        if (!work->failed_step)
            work->failed_step = err->code == ERR_TIMEOUT ? "timeout" : "pre_execution";
        return -1;
    }
    AUTO(fd) int prompt = claude_prompt_fd(work->request->prompt, err);
    if (prompt < 0)
        return -1;
    const int stdio[3] = {prompt, work->out.write_fd, work->errors.write_fd};
    work->launched_ms = work->heard_ms = clock_mono_ms();
    work->child = launcher_spawn(work->claude->launcher, plan, stdio, err);
    fd_close(&work->out.write_fd);
    fd_close(&work->errors.write_fd);
    if (!work->child && work->request->cwd_relative)
        err_wrap(err, "cwdRelative '%.80s'", work->request->cwd_relative);
    return work->child ? 0 : -1;
}

/* --- while it runs ------------------------------------------------------------------------- */

/* Passes on what has been printed, up to READS_AT_ONCE: a program may print faster than we read,
 * and clocks and callers have their say between. False when there was nothing. */
static bool drain(struct work *work)
{
    struct err err;
    bool any = false;
    size_t n;
    for (int i = 0; i < READS_AT_ONCE; i++) {
        n = tail_read(&work->out, work->chunk, READ_BYTES);
        if (n == 0)
            break;
        stream_feed(&work->stream, work->chunk, n);
        any = true;
    }
    if (!any)
        return false;
    work->heard_ms = clock_mono_ms();
    if (work->stream.have_result && work->result_ms == 0)
        work->result_ms = work->heard_ms;
    if (events_flush(task_run_events(work->run), &err))
        task_run_fail(work->run, &err);
    return true;
}

static void end_tree(struct work *work, enum cause cause)
{
    if (work->ending)
        return;
    work->ending = true;
    work->ending_ms = clock_mono_ms();
    work->cause = cause;
    child_end(work->child, cause == CAUSE_UNHEALTHY);
}

/* When each cause comes to pass; -1 for never. */
static int64_t due_ms(const struct work *work, const struct config *config, enum cause cause)
{
    switch (cause) {
    case CAUSE_TIMEOUT:
        return work->result_ms ? -1 : work->started_ms + work->request->timeout_ms;
    case CAUSE_SILENT:
        return work->stream.began ? -1 : work->launched_ms + config->first_event_seconds * 1000;
    case CAUSE_IDLE:
        return config->idle_seconds > 0 && !work->stream.have_result
                   ? work->heard_ms + (int64_t)config->idle_seconds * 1000
                   : -1;
    case CAUSE_GRACE:
        return work->result_ms ? work->result_ms + (int64_t)config->result_grace_seconds * 1000
                               : -1;
    case CAUSE_NONE:
    case CAUSE_CANCEL:
    case CAUSE_INTERRUPT:
    case CAUSE_FLOOD:
    case CAUSE_UNHEALTHY:
        break;
    }
    return -1;
}

/* Ends the tree when its time has come. Returns how long nothing will. */
static int64_t heed_clocks(struct work *work, const struct config *config)
{
    static const enum cause timed[] = {CAUSE_TIMEOUT, CAUSE_SILENT, CAUSE_IDLE, CAUSE_GRACE};
    int64_t now = clock_mono_ms(), wait = LOOK_EVERY_MS;
    for (size_t i = 0; i < COUNT_OF(timed) && !work->ending; i++) {
        int64_t due = due_ms(work, config, timed[i]);
        if (due < 0)
            continue;
        if (due <= now)
            end_tree(work, timed[i]);
        else if (due - now < wait)
            wait = due - now;
    }
    return wait;
}

static void heed_caller(struct work *work)
{
    enum task_stop stop = task_run_stop(work->run);
    if (stop == STOP_CANCEL)
        end_tree(work, CAUSE_CANCEL);
    else if (stop == STOP_INTERRUPT)
        end_tree(work, CAUSE_INTERRUPT);
    else if (!task_run_healthy(work->run))
        end_tree(work, CAUSE_UNHEALTHY);
    else if (tail_backlog(&work->out) > BACKLOG_BYTES_MAX)
        end_tree(work, CAUSE_FLOOD);
}

static void wait_for_something(struct work *work, int64_t timeout_ms)
{
    struct pollfd fds[] = {
        {.fd = child_fd(work->child), .events = POLLIN},
        {.fd = work->out.notify_fd, .events = POLLIN},
        /* once the tree is being ended the caller has nothing to add */
        {.fd = work->ending ? -1 : task_run_wake_fd(work->run), .events = POLLIN},
    };
    if (work->out.notify_fd < 0 && timeout_ms > TAIL_EVERY_MS)
        timeout_ms = TAIL_EVERY_MS;
    poll(fds, COUNT_OF(fds), (int)timeout_ms);
    if (fds[1].revents)
        tail_heed(&work->out);
}

static bool is_lost(const struct work *work, const struct config *config)
{
    return work->ending && clock_mono_ms() - work->ending_ms >
                               (int64_t)config->kill_grace_seconds * 1000 + INIT_SLACK_MS;
}

/* Nobody prints any more. The result may be at the end of what is left; but when it was us who
 * ended the tree, before a result, nobody waits for it. */
static void drain_rest(struct work *work)
{
    int64_t deadline = clock_mono_ms() + LAST_READ_MS;
    bool wanted = !work->ending || work->stream.have_result;
    while (drain(work))
        if (!wanted && clock_mono_ms() >= deadline) {
            work->stream.truncated |= tail_backlog(&work->out) > 0;
            return;
        }
}

static void follow(struct work *work)
{
    const struct config *config = atomic_load(work->claude->config);
    for (;;) {
        /* read first, look at the child then: what it printed before its end is not missed */
        enum child_event event = child_read(work->child);
        bool any = drain(work);
        tail_trim(&work->errors, STDERR_KEEP_BYTES);
        if (event == CHILD_ENDED || is_lost(work, config))
            break;
        heed_caller(work);
        int64_t wait = heed_clocks(work, config);
        if (!any && event == CHILD_NOTHING)
            wait_for_something(work, wait);
    }
    drain_rest(work);
    stream_finish(&work->stream);
}

/* --- the outcome --------------------------------------------------------------------------- */

static void set_reason(struct task_outcome *outcome, const char *reason, const char *error)
{
    snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason);
    snprintf(outcome->error, sizeof(outcome->error), "%s", error);
}

/* What the fields of an error's result line say, in api.md's words. */
static const char *reason_of(const struct stream *stream)
{
    static const struct {
        const char *subtype;
        const char *reason;
    } subtypes[] = {
        {"error_max_turns", "max_turns"},
        {"error_max_budget_usd", "budget"},
        {"error_max_structured_output_retries", "structured_output"},
    };
    for (size_t i = 0; i < COUNT_OF(subtypes); i++)
        if (strcmp(stream->subtype, subtypes[i].subtype) == 0)
            return subtypes[i].reason;
    if (stream->api_status == 401 || strcmp(stream->last_error, "authentication_failed") == 0)
        return "login_required";
    if (stream->limit_reset_ms > 0 || stream->api_status == 429)
        return "usage_limit";
    return stream->api_status > 0 ? "api_error" : "cli_error";
}

static void judge_result(const struct work *work, struct task_outcome *outcome)
{
    const struct stream *stream = &work->stream;
    bool good = !stream->is_error && strcmp(stream->subtype, "success") == 0;
    outcome->state = good ? TASK_COMPLETED : TASK_FAILED;
    if (good) {
        outcome->exit_code = 0;
        return;
    }
    const char *reason = reason_of(stream);
    const char *said = stream->failure[0] ? stream->failure : stream->subtype;
    char error[sizeof(outcome->error)];
    snprintf(error, sizeof(error), "%s%s",
             strcmp(reason, "login_required") == 0 ? "OAuth or API key refused: " : "", said);
    set_reason(outcome, reason, error);
}

/* The end of what it printed to stderr, on one line and without secrets. */
static void show_stderr(struct work *work, struct buf *out)
{
    AUTO(buf) struct buf clean = BUF_INIT(STDERR_SHOW_BYTES);
    tail_show(work->errors.read_fd, STDERR_SHOW_BYTES, task_run_redact(work->run), &clean);
    while (clean.len > 0 && (unsigned char)clean.data[clean.len - 1] <= ' ')
        clean.data[--clean.len] = '\0';
    for (size_t i = 0; i < clean.len; i++)
        if ((unsigned char)clean.data[i] < 0x20)
            clean.data[i] = ' ';
    if (clean.len > 0)
        buf_adds(out, "; it said: ");
    str_add_utf8(out, buf_str(&clean), clean.len);
}

static void judge_without_result(struct work *work, struct task_outcome *outcome)
{
    int status = child_status(work->child);
    AUTO(buf) struct buf error = BUF_INIT(8 * STDERR_SHOW_BYTES);
    if (status < 0 || WIFSIGNALED(status))
        buf_addf(&error, "Claude Code was killed (signal %d) before its result",
                 status < 0 ? SIGKILL : WTERMSIG(status));
    else
        buf_addf(&error, "Claude Code ended (exit status %d) without a result",
                 WEXITSTATUS(status));
    show_stderr(work, &error);
    set_reason(outcome, status < 0 || WIFSIGNALED(status) ? "killed" : "cli_error",
               buf_str(&error));
}

static int exit_code_of(int status)
{
    if (status < 0)
        return 128 + SIGKILL;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void judge(struct work *work, struct task_outcome *outcome)
{
    struct stream *stream = &work->stream;
    const char *words, *limit;
    int code = exit_code_of(child_status(work->child));
    outcome->exit_code = code ? code : 1;
    outcome->truncated = stream->truncated;
    if (stream->have_result) {
        buf_add(&outcome->output, buf_str(&stream->output), stream->output.len);
        buf_add(&outcome->members, buf_str(&stream->members), stream->members.len);
    }
    buf_addf(&outcome->members, ",\"peak_memory_mb\":%lld",
             (long long)(child_peak_kib(work->child) / 1024));
    /* a result that came before we ended the tree stands, whatever made us end it */
    bool result_first =
        stream->have_result && (!work->ending || work->result_ms <= work->ending_ms);
    if (result_first && work->cause != CAUSE_UNHEALTHY) {
        judge_result(work, outcome);
    } else if (causes[work->cause].reason[0]) {
        outcome->state = work->cause == CAUSE_CANCEL ? TASK_CANCELLED : TASK_FAILED;
        set_reason(outcome, causes[work->cause].reason, causes[work->cause].error);
    } else if ((limit = walls_reason(child_exceeded(work->child), &words))) {
        set_reason(outcome, limit, words);
    } else {
        judge_without_result(work, outcome);
    }
    if (child_leftover(work->child) > 0)
        log_info("claude", "%d processes outlived Claude Code and were ended",
                 child_leftover(work->child));
}

/* A login that broke between the submission and now is no fault of the task's. */
static void judge_failed_start(struct work *work, const struct err *err,
                               struct task_outcome *outcome)
{
    enum task_stop stop = task_run_stop(work->run);
    outcome->exit_code = 1;
    if (stop != STOP_NO) {
        const int cause = stop == STOP_CANCEL ? CAUSE_CANCEL : CAUSE_INTERRUPT;
        outcome->state = stop == STOP_CANCEL ? TASK_CANCELLED : TASK_FAILED;
        set_reason(outcome, causes[cause].reason, causes[cause].error);
        return;
    }
    set_reason(outcome,
               err->code == ERR_LOGIN      ? "login_required"
               : err->code == ERR_NO_SPACE ? "disk_full"
               : work->failed_step         ? work->failed_step
                                           : "cli_error",
               err->msg);
    if (err->code == ERR_LOGIN)
        outcome->state = TASK_WAITING_LOGIN;
}

/* A usage limit or a refused credential that is everybody's pauses a task that has done nothing
 * yet: it will run again, from its beginning. */
static void judge_pause(const struct work *work, struct task_outcome *outcome)
{
    struct lease_use use;
    struct breaker_status breaker;
    lease_use(work->lease, &use);
    breaker_status(work->claude->breaker, &breaker);
    if (outcome->state != TASK_FAILED || use.answers > 0 || !task_run_record(work->run)->shared)
        return;
    if (use.limited && strcmp(outcome->reason, "usage_limit") == 0)
        outcome->state = TASK_WAITING_LIMIT;
    else if (use.refused && breaker.state == BREAKER_LOGIN)
        outcome->state = TASK_WAITING_LOGIN; /* not this task's matter alone */
}

/* What a run that gave no result has used, as the proxy saw it. */
static void add_usage(const struct work *work, struct task_outcome *outcome)
{
    struct lease_use use;
    lease_use(work->lease, &use);
    if (work->stream.have_result || use.requests == 0)
        return;
    buf_addf(&outcome->members,
             ",\"usage\":{\"input_tokens\":%lld,\"cache_creation_input_tokens\":%lld,"
             "\"cache_read_input_tokens\":%lld,\"output_tokens\":%lld}",
             (long long)use.input_tokens, (long long)use.cache_creation_tokens,
             (long long)use.cache_read_tokens, (long long)use.output_tokens);
}

/* A task that will run again, from its beginning, must find the conversation as it was. */
static void keep_conversation(struct work *work, struct task_outcome *outcome)
{
    struct err err = ERR_INIT;
    const struct task_record *record = task_run_record(work->run);
    bool again = task_run_stop(work->run) == STOP_INTERRUPT && record->retry_interrupted;
    if (!record->conversation[0] || again || task_state_is_active(outcome->state))
        return;
    int kept = conversation_save(atomic_load(work->claude->config)->state_dir, record->conversation,
                                 task_run_dir(work->run), &err);
    if (kept < 0)
        log_warn("claude", "%s", err.msg);
    outcome->conversation_kept = kept == 1;
    if (kept == 1 && !work->stream.have_result)
        buf_addf(&outcome->members, ",\"sessionId\":\"%s\"", record->conversation);
}

static void work_done(struct work *work)
{
    child_free(work->child);
    proxy_end(work->lease);
    tail_done(&work->out);
    tail_done(&work->errors);
    stream_done(&work->stream);
    task_request_free(work->request);
    workspace_close(work->workspace);
    buf_done(&work->members);
    free(work->chunk);
}

void claude_run(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct err err;
    struct work work = {.run = run, .claude = arg};
    work.out = work.errors = (struct tail){.write_fd = -1, .read_fd = -1, .notify_fd = -1};
    work.chunk = malloc(READ_BYTES);
    buf_init(&work.members, MEMBERS_BYTES_MAX);
    stream_init(&work.stream, task_run_redact(run), pass_event, run);
    int rc = work.chunk ? start(&work, &err) : err_sys(&err, "task");
    if (rc == 0) {
        follow(&work);
        judge(&work, outcome);
        add_usage(&work, outcome);
        judge_pause(&work, outcome);
        if (outcome->state == TASK_COMPLETED)
            finish_run(work.claude, run, work.request, work.workspace, &work.members);
    } else {
        judge_failed_start(&work, &err, outcome);
    }
    keep_conversation(&work, outcome);
    buf_add(&outcome->members, buf_str(&work.members), work.members.len);
    work_done(&work);
}
