#include "runner/claude/claude.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "runner/claude/attempt.h"
#include "runner/claude/conversation.h"
#include "runner/claude/finish.h"
#include "runner/claude/plan.h"
#include "runner/claude/prepare.h"
#include "runner/claude/transcript.h"
#include "runner/claude/version.h"
#include "runner/material/material.h"

#include <string.h>
#include <unistd.h>

#define MEMBERS_BYTES_MAX (1u << 20)
#define BACKLOG_BYTES_MAX                                                 \
    (INT64_C(1) << 30) /* bytes of output on disk that have not been read \
                        * yet */
#define STDERR_KEEP_BYTES (64 << 10)

/* --- set-up -------------------------------------------------------------------------------- */

static void pass_event(const char *json, size_t len, void *arg)
{
    task_run_event(arg, NULL, json, len);
}

static int open_files(struct attempt *attempt, struct err *err)
{
    const char *dir = task_run_dir(attempt->run);
    AUTO(str) char *out = path_join(dir, "stdout");
    AUTO(str) char *errors = path_join(dir, "stderr");
    if (!out || !errors)
        return err_sys(err, "output");
    return tail_open(&attempt->out, out, true, err) ||
                   tail_open(&attempt->errors, errors, false, err)
               ? -1
               : 0;
}

/* Takes the request's own credential, else the configured key, else the login, which is refreshed
 * to last long enough. */
static int take_lease(struct attempt *attempt, struct err *err)
{
    const struct claude *claude = attempt->claude;
    const struct task_request *request = attempt->request;
    AUTO(config_ref) const struct config *config = config_ref(claude->config);
    enum lease_kind kind = request->anthropic_oauth_token                            ? LEASE_OAUTH
                           : request->anthropic_api_key || config->anthropic_api_key ? LEASE_KEY
                                                                                     : LEASE_LOGIN;
    const char *own = request->anthropic_oauth_token ? request->anthropic_oauth_token
                                                     : request->anthropic_api_key;
    if (kind == LEASE_LOGIN && keeper_prepare(claude->keeper, request->timeout_ms, err)) {
        breaker_refused(claude->breaker);
        err->code = ERR_LOGIN; /* The task is not to blame for an unreachable token server,
                                * either. */
        return -1;
    }
    attempt->lease = proxy_lease(claude->proxy, kind, own, err);
    if (!attempt->lease)
        return -1;
    lease_name(attempt->lease, task_run_record(attempt->run)->id);
    return 0;
}

/* Prepares the repository that the task works in, if it names one. */
static int open_workspace(struct attempt *attempt, struct err *err)
{
    int rc = material_open_repo(attempt->claude->repos, attempt->run, attempt->request,
                                &attempt->members, &attempt->workspace, err);
    if (rc)
        attempt->failed_step = "repo_error";
    return rc;
}

static void on_session_gone(void *arg)
{
    static const uint64_t one = 1;
    (void)!write(*(const int *)arg, &one, sizeof(one));
}

static int enter_session(struct attempt *attempt, struct err *err)
{
    const struct claude *claude = attempt->claude;
    const char *id = attempt->request->in_session;
    attempt->places = (struct walls_run){.dir = task_run_dir(attempt->run)};
    if (!id)
        return 0;
    attempt->failed_step = "session_error";
    attempt->wake_fd = task_run_wake_fd(attempt->run);
    if (!claude->sessions)
        return err_set(err, ERR_NOT_FOUND, "there are no sessions here");
    attempt->guest = session_enter(claude->sessions, id, on_session_gone, &attempt->wake_fd, err);
    if (!attempt->guest)
        return -1;
    attempt->places.box = session_guest_box(attempt->guest);
    attempt->user = session_guest_user(attempt->guest);
    attempt->failed_step = NULL;
    return 0;
}

static enum work_cause asked(struct work *work, void *arg)
{
    const struct attempt *attempt = arg;
    const struct work_stop run = material_stop(attempt->run);
    enum work_cause cause = run.asked(work, run.arg);
    bool gone = cause == WORK_ENDED && attempt->guest && session_guest_is_told(attempt->guest);
    return gone ? WORK_CANCEL : cause;
}

struct work_stop attempt_stop(struct attempt *attempt)
{
    return (struct work_stop){
        .wake_fd = task_run_wake_fd(attempt->run), .asked = asked, .arg = attempt};
}

static int open_inputs(struct attempt *attempt, struct err *err)
{
    const struct material_inputs order = {.inputs = attempt->claude->inputs,
                                          .repos = attempt->claude->repos,
                                          .run = attempt->run,
                                          .request = attempt->request,
                                          .workspace = attempt->workspace,
                                          .until_ms =
                                              attempt->started_ms + attempt->request->timeout_ms};
    return material_open_inputs(&order, &attempt->inputs, &attempt->failed_step, err);
}

static int open_gitgate(struct attempt *attempt, struct err *err)
{
    const struct claude *claude = attempt->claude;
    return material_open_gitgate(claude->gitgate, attempt->run, attempt->request,
                                 attempt->workspace, claude->walls->gate, &attempt->pass, err);
}

static int add_argument(struct plan *plan, const char *flag, const char *value, struct err *err)
{
    return strlist_addf(&plan->argv, "%s=%s", flag, value) ? err_sys(err, "arguments") : 0;
}

/* Gives a continued conversation the system prompt of this request, when it has one. */
static int renew_prompt(struct attempt *attempt, struct plan *plan, struct err *err)
{
    char version[CLAUDE_VERSION_SIZE];
    const struct task_request *request = attempt->request;
    if (!request->system_prompt && !request->append_system_prompt)
        return 0;
    AUTO(str) char *program = claude_version(attempt->claude, version);
    return program && claude_version_keeps_prompts(version)
               ? add_argument(plan, "--system-prompt-snapshot", "off", err)
               : 0;
}

/* Continues the conversation, or gives it the name by which it can be continued. */
static int add_session(struct attempt *attempt, struct plan *plan, struct err *err)
{
    const struct claude *claude = attempt->claude;
    const char *conversation = task_run_record(attempt->run)->conversation;
    AUTO(str) char *transcript = NULL;
    if (!conversation[0]) /* It was submitted to a runner that kept no conversations. */
        return 0;
    if (!attempt->request->resume_session_id)
        return add_argument(plan, "--session-id", conversation, err);
    attempt->failed_step = "session_error";
    AUTO(config_ref) const struct config *config = config_ref(claude->config);
    if (conversation_restore(config->state_dir, conversation, task_run_dir(attempt->run),
                             claude->uid, claude->gid, &transcript, err))
        return -1;
    attempt->failed_step = NULL;
    AUTO(str) char *inside = walls_path(claude->walls, &attempt->places, transcript);
    if (!inside)
        return err_sys(err, "session");
    return add_argument(plan, "--resume", inside, err) || renew_prompt(attempt, plan, err) ? -1 : 0;
}

static void tell(const char *event, const char *json, size_t len, void *arg)
{
    task_run_event(arg, event, json, len);
}

/* Does everything that is needed before the program can be launched. */
static int prepare(struct attempt *attempt, struct err *err)
{
    const struct task_record *record = task_run_record(attempt->run);
    const char *secrets = task_run_secrets(attempt->run);
    struct redact_set *redact = task_run_redact(attempt->run);
    const struct egress_ours ours = {.proxy = proxy_socket(attempt->claude->proxy),
                                     .git = gitgate_socket(attempt->claude->gitgate)};
    attempt->request = task_request_load(record->request, strlen(record->request),
                                         *secrets ? secrets : NULL, strlen(secrets), err);
    if (!attempt->request)
        return -1;
    if (task_request_redact(attempt->request, redact))
        return err_sys(err, "secrets");
    if (attempt->request->prompt)
        claude_output_command(&attempt->stream, attempt->request->prompt);
    attempt->started_ms = clock_mono_ms();
    if (enter_session(attempt, err) || open_workspace(attempt, err) || open_gitgate(attempt, err) ||
        open_inputs(attempt, err) || take_lease(attempt, err) ||
        walls_gate(attempt->claude->walls, attempt->request, &ours, &attempt->gate, err))
        return -1;
    attempt->files_ms = clock_files_ms();
    attempt->plan = claude_plan(attempt, err);
    if (!attempt->plan || add_session(attempt, attempt->plan, err) || open_files(attempt, err))
        return -1;
    if (prepare_commands(attempt, err)) {
        if (!attempt->failed_step)
            attempt->failed_step = err->code == ERR_TIMEOUT ? "timeout" : "pre_execution";
        return -1;
    }
    return 0;
}

/* --- the program --------------------------------------------------------------------------- */

static void take_output(struct work *work, const char *data, size_t len, void *arg)
{
    struct attempt *attempt = arg;
    claude_output_feed(&attempt->stream, data, len);
    attempt->unflushed = true;
    if (attempt->stream.began)
        work_began(work);
    if (attempt->stream.have_windows && attempt->claude->usage &&
        lease_kind(attempt->lease) == LEASE_LOGIN) /* Another credential belongs to another
                                                    * account. */
        usage_note(attempt->claude->usage, attempt->stream.windows);
    attempt->stream.have_windows = false;
    if (attempt->stream.have_result)
        work_answered(work);
}

/* Tells readers of new events; when the store accepts none, ends the task. */
static int64_t flush_events(struct work *work, void *arg)
{
    struct err err;
    struct attempt *attempt = arg;
    if (attempt->unflushed && events_flush(task_run_events(attempt->run), &err))
        task_run_fail(attempt->run, &err);
    attempt->unflushed = false;
    walls_tell(attempt->gate, tell, attempt->run);
    gitgate_tell(attempt->pass, tell, attempt->run);
    if (!task_run_healthy(attempt->run))
        work_end(work, WORK_ABORT);
    return -1;
}

static int run_program(struct attempt *attempt, struct err *err)
{
    AUTO(config_ref) const struct config *config = config_ref(attempt->claude->config);
    const char *prompt = attempt->request->prompt;
    AUTO(fd) int in = work_memory_file("prompt", prompt, strlen(prompt), err);
    const struct work_order order = {
        .launcher = attempt->claude->launcher,
        .plan = attempt->plan,
        .users = attempt->claude->walls->users,
        .given = attempt->places.box && !attempt->user ? NULL : attempt->places.dir,
        .as = attempt->user,
        .gate = attempt->gate,
        .in = {.via = WORK_FD, .fd = in},
        .out = {.via = WORK_TAIL, .tail = &attempt->out, .take = take_output},
        .errors = {.via = WORK_TAIL, .tail = &attempt->errors, .keep_bytes = STDERR_KEEP_BYTES},
        .limits = {.until_ms = attempt->started_ms + attempt->request->timeout_ms,
                   .first_ms = (int64_t)config->first_event_seconds * 1000,
                   .idle_ms = (int64_t)config->idle_seconds * 1000,
                   .grace_ms = (int64_t)config->result_grace_seconds * 1000,
                   .backlog_bytes = BACKLOG_BYTES_MAX},
        .stop = attempt_stop(attempt),
        .look = flush_events,
        .arg = attempt};
    if (in < 0)
        return -1;
    if (work_run(&order, &attempt->result, err) == 0) {
        claude_output_finish(&attempt->stream);
        return 0;
    }
    if (attempt->request->cwd_relative)
        err_wrap(err, "cwdRelative '%.80s'", attempt->request->cwd_relative);
    return -1;
}

/* --- the end ------------------------------------------------------------------------------- */

/* Keeps the conversation. A task that will run again, from its beginning, must find it
 * unchanged. */
static void keep_conversation(struct attempt *attempt, struct task_outcome *outcome)
{
    struct err err = ERR_INIT;
    const struct task_record *record = task_run_record(attempt->run);
    bool again = task_run_stop(attempt->run) == STOP_INTERRUPT && record->retry_interrupted;
    if (!record->conversation[0] || again || task_state_is_active(outcome->state))
        return;
    AUTO(config_ref) const struct config *config = config_ref(attempt->claude->config);
    int kept = conversation_save(config->state_dir, record->conversation,
                                 task_run_dir(attempt->run), &err);
    if (kept < 0)
        log_warn("claude", "%s", err.msg);
    outcome->resumable = kept == 1;
    if (kept == 1 &&
        transcript_keep(config->state_dir, record->conversation, task_run_keep_dir(attempt->run),
                        task_run_redact(attempt->run), &err))
        log_warn("claude", "%s", err.msg);
    if (kept == 1 && !attempt->stream.have_result)
        buf_addf(&outcome->members, ",\"sessionId\":\"%s\"", record->conversation);
}

static void attempt_done(struct attempt *attempt)
{
    plan_free(attempt->plan);
    egress_gate_free(attempt->gate); /* Before the lease, because the gate uses it. */
    gitgate_close(attempt->pass);
    proxy_end(attempt->lease);
    tail_done(&attempt->out);
    tail_done(&attempt->errors);
    claude_output_done(&attempt->stream);
    task_request_free(attempt->request);
    input_layers_close(attempt->inputs);
    session_leave(attempt->guest);
    workspace_close(attempt->workspace);
    buf_done(&attempt->members);
}

void claude_run(struct task_run *run, struct task_outcome *outcome, void *arg)
{
    struct err err;
    struct attempt attempt = {.run = run, .claude = arg};
    attempt.out = attempt.errors = (struct tail){.write_fd = -1, .read_fd = -1, .notify_fd = -1};
    buf_init(&attempt.members, MEMBERS_BYTES_MAX);
    claude_output_init(&attempt.stream, task_run_redact(run), pass_event, run);
    if (prepare(&attempt, &err) == 0 && run_program(&attempt, &err) == 0) {
        judge(&attempt, outcome);
        if (!task_state_is_active(outcome->state))
            prepare_post_commands(&attempt);
        if (attempt.workspace && !task_state_is_active(outcome->state))
            finish_changes(run, attempt.workspace);
        if (!task_state_is_active(outcome->state))
            finish_run(&attempt, outcome->state == TASK_COMPLETED);
    } else {
        judge_failed_start(&attempt, &err, outcome);
    }
    walls_tell(attempt.gate, tell, run);
    gitgate_tell(attempt.pass, tell, run);
    keep_conversation(&attempt, outcome);
    buf_add(&outcome->members, buf_str(&attempt.members), attempt.members.len);
    attempt_done(&attempt);
}
