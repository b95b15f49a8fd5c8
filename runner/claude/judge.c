/* Decides the outcome of a run: from the fields of the result line, else from why and how the
 * program ended. */
#include "base/check.h"
#include "base/log.h"
#include "base/str.h"
#include "runner/claude/attempt.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define STDERR_SHOW_BYTES 4096

static void set_reason(struct task_outcome *outcome, const char *reason, const char *error)
{
    snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason);
    snprintf(outcome->error, sizeof(outcome->error), "%s", error);
    if (strcmp(reason, "login_required") == 0)
        return;
    /* Published callers take this word, anywhere in an error, for a lost login; and what a program
     * said before the start, which may be quoted here, is about anything. */
    static const char word[] = "OAuth", other[] = "login";
    for (char *at = outcome->error; (at = strstr(at, word)); at += sizeof(other) - 1)
        memcpy(at, other, sizeof(other) - 1);
}

/* The outcome when the runner ended the program. */
static void judge_cause(enum work_cause cause, struct task_outcome *outcome)
{
    char error[sizeof(outcome->error)];
    work_cause_say(cause, "Claude Code", error, sizeof(error));
    outcome->state = cause == WORK_CANCEL ? TASK_CANCELLED : TASK_FAILED;
    set_reason(outcome, work_cause_reason(cause), error);
}

/* The reason in api.md's words for an error's result line, and the runner's own sentence for it,
 * which for an "api_error" lacks the status. */
static const char *reason_of(const struct claude_output *stream, const char **ret_error)
{
    static const struct {
        const char *subtype, *reason, *error;
    } subtypes[] = {
        {"error_max_turns", "max_turns", "Claude Code used up its turns (maxTurns)"},
        {"error_max_budget_usd", "budget", "Claude Code used up its budget (maxBudgetUsd)"},
        {"error_max_structured_output_retries", "structured_output",
         "Claude Code gave no result that fits jsonSchema"},
    };
    for (size_t i = 0; i < COUNT_OF(subtypes); i++)
        if (strcmp(stream->subtype, subtypes[i].subtype) == 0) {
            *ret_error = subtypes[i].error;
            return subtypes[i].reason;
        }
    if (stream->api_status == 401 || strcmp(stream->last_error, "authentication_failed") == 0) {
        *ret_error = "OAuth or API key refused";
        return "login_required";
    }
    if (stream->limit_reset_ms > 0 || stream->api_status == 429) {
        *ret_error = "a usage limit of the account was reached";
        return "usage_limit";
    }
    *ret_error = "Claude Code ended its work with an error";
    return stream->api_status > 0 ? "api_error" : "cli_error";
}

/* True when the CLI does not have the slash command: the oldest tested version says so and
 * succeeds, the newest passes the line to the model as a prompt. */
static bool is_command_unknown(const struct claude_output *stream)
{
    return stream->command_unknown &&
           (stream->num_turns > 0 || str_starts(buf_str(&stream->output), "Unknown "));
}

static void judge_result(const struct attempt *attempt, struct task_outcome *outcome)
{
    const struct claude_output *stream = &attempt->stream;
    bool good = !stream->is_error && strcmp(stream->subtype, "success") == 0;
    outcome->state = good ? TASK_COMPLETED : TASK_FAILED;
    if (good && is_command_unknown(stream)) {
        char unknown[160];
        snprintf(unknown, sizeof(unknown), "Claude Code knows no command '/%s'", stream->command);
        outcome->state = TASK_FAILED;
        outcome->exit_code = 1;
        set_reason(outcome, "unknown_command", unknown);
        return;
    }
    if (good) {
        outcome->exit_code = 0;
        return;
    }
    const char *error;
    const char *reason = reason_of(stream, &error);
    char answered[64];
    if (strcmp(reason, "api_error") == 0) {
        bool reached = stream->api_status != 502; /* the proxy's own, when it could not connect */
        snprintf(answered, sizeof(answered), "Anthropic's API %s %lld",
                 reached ? "answered with status" : "could not be reached: status",
                 (long long)stream->api_status);
        error = answered;
    }
    set_reason(outcome, reason, error);
}

/* Takes the end of its stderr, without secrets, for the output of a run that has none. */
static void take_stderr(const struct attempt *attempt, struct task_outcome *outcome)
{
    AUTO(buf) struct buf said = BUF_INIT(STDERR_SHOW_BYTES);
    tail_show(attempt->errors.read_fd, STDERR_SHOW_BYTES, task_run_redact(attempt->run), &said);
    while (said.len > 0 && (unsigned char)said.data[said.len - 1] <= ' ')
        said.data[--said.len] = '\0';
    str_add_utf8(&outcome->output, buf_str(&said), said.len);
}

static void judge_without_result(struct attempt *attempt, struct task_outcome *outcome)
{
    int status = attempt->result.status;
    bool killed = status < 0 || WIFSIGNALED(status);
    char error[sizeof(outcome->error)];
    if (killed)
        snprintf(error, sizeof(error), "Claude Code was killed (signal %d) before its result",
                 status < 0 ? SIGKILL : WTERMSIG(status));
    else
        snprintf(error, sizeof(error), "Claude Code ended (exit status %d) without a result",
                 WEXITSTATUS(status));
    take_stderr(attempt, outcome);
    set_reason(outcome, killed ? "killed" : "cli_error", error);
}

static void judge_program(struct attempt *attempt, struct task_outcome *outcome)
{
    struct claude_output *stream = &attempt->stream;
    const struct work_result *result = &attempt->result;
    int code = work_exit_code(result->status);
    outcome->exit_code = code ? code : 1;
    outcome->truncated = stream->truncated || result->dropped;
    if (stream->have_result) {
        buf_add(&outcome->output, buf_str(&stream->output), stream->output.len);
        buf_add(&outcome->members, buf_str(&stream->members), stream->members.len);
    }
    buf_addf(&outcome->members, ",\"peak_memory_mb\":%lld", (long long)(result->peak_kib / 1024));
    /* A result that came before the program was ended counts, whatever the reason for ending it. */
    if (stream->have_result && result->cause != WORK_ABORT &&
        (result->answered || result->cause == WORK_ENDED))
        judge_result(attempt, outcome);
    else if (work_cause_reason(result->cause)[0])
        judge_cause(result->cause, outcome);
    else
        judge_without_result(attempt, outcome);
    if (result->leftover > 0)
        log_info("claude", "%d processes outlived Claude Code and were ended", result->leftover);
}

/* The task is not to blame for a login that broke after the submission. */
void judge_failed_start(const struct attempt *attempt, const struct err *err,
                        struct task_outcome *outcome)
{
    REQUIRE(attempt->run && outcome);
    enum task_stop stop = task_run_stop(attempt->run);
    outcome->exit_code = 1;
    if (stop != STOP_NO) {
        judge_cause(stop == STOP_CANCEL ? WORK_CANCEL : WORK_INTERRUPT, outcome);
        return;
    }
    set_reason(outcome,
               err->code == ERR_LOGIN      ? "login_required"
               : err->code == ERR_NO_SPACE ? "disk_full"
               : attempt->failed_step      ? attempt->failed_step
                                           : "cli_error",
               err->msg);
    if (err->code == ERR_LOGIN)
        outcome->state = TASK_WAITING_LOGIN;
}

/* Pauses a task that has done nothing yet because of a usage limit or a refused credential that
 * concern every task: it will run again, from its beginning. */
static void judge_pause(const struct attempt *attempt, struct task_outcome *outcome)
{
    struct lease_use use;
    struct breaker_status breaker;
    lease_use(attempt->lease, &use);
    breaker_status(attempt->claude->breaker, &breaker);
    if (outcome->state != TASK_FAILED || use.answers > 0 || !task_run_record(attempt->run)->shared)
        return;
    if (use.limited && strcmp(outcome->reason, "usage_limit") == 0)
        outcome->state = TASK_WAITING_LIMIT;
    else if (use.refused && breaker.state == BREAKER_LOGIN)
        outcome->state = TASK_WAITING_LOGIN; /* It concerns more than this task. */
}

/* Adds the usage of a run without a result, as the proxy counted it. */
static void add_usage(const struct attempt *attempt, struct task_outcome *outcome)
{
    struct lease_use use;
    lease_use(attempt->lease, &use);
    if (attempt->stream.have_result || use.requests == 0)
        return;
    buf_addf(&outcome->members,
             ",\"usage\":{\"input_tokens\":%lld,\"cache_creation_input_tokens\":%lld,"
             "\"cache_read_input_tokens\":%lld,\"output_tokens\":%lld}",
             (long long)use.input_tokens, (long long)use.cache_creation_tokens,
             (long long)use.cache_read_tokens, (long long)use.output_tokens);
}

void judge(struct attempt *attempt, struct task_outcome *outcome)
{
    judge_program(attempt, outcome);
    add_usage(attempt, outcome);
    judge_pause(attempt, outcome);
}
