#include "runner/repo/call.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "runner/task/engine.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX (16u << 20)
#define WORDS_BYTES_MAX 4096
#define SLACK_MS 5000 /* The helper has a time limit of its own; ours is for one that hangs. */

static int fill_plan(const struct call *call, struct plan *plan, struct err *err)
{
    static const char *const passed_on[] = {"PATH",     "https_proxy", "HTTPS_PROXY",
                                            "no_proxy", "NO_PROXY",    "SSL_CERT_FILE"};
    plan->uid = call->uid;
    plan->gid = call->gid;
    plan->kill_grace_ms = 1000;
    plan->cwd = strdup("/");
    strlist_add(&plan->argv, PLAN_SELF);
    strlist_add(&plan->argv, "git");
    if (call->walls && walls_helper(call->walls, call->dir, call->reads, plan, err))
        return -1;
    plan->jail.file_mb = call->file_mb_max;
    if (call->memory_mb > 0)
        plan->jail.memory_mb = call->memory_mb;
    for (size_t i = 0; i < COUNT_OF(passed_on); i++)
        if (getenv(passed_on[i]))
            strlist_addf(&plan->env, "%s=%s", passed_on[i], getenv(passed_on[i]));
    strlist_addf(&plan->env, TASK_MARKER "=%s", call->marker);
    for (size_t i = 0; call->mounts && i < call->mounts->count; i++)
        strlist_add(&plan->mounts, call->mounts->items[i]);
    return plan->cwd && !plan->argv.failed && !plan->env.failed && !plan->mounts.failed
               ? 0
               : err_sys(err, "helper");
}

/* Returns 0 when it ended by itself. */
static int judge_end(const struct work_result *result, struct err *err)
{
    if (result->cause == WORK_TIMEOUT)
        return err_set(err, ERR_TIMEOUT, "git did not end in time");
    if (work_cause_is_limit(result->cause))
        return err_set(err, ERR_TOO_LARGE, "git needed more memory than it may have");
    return result->cause == WORK_ENDED ? 0 : err_set(err, ERR_BUSY, "stopped");
}

static int fail_without_answer(int status, int words_fd, struct err *err)
{
    struct err ignored;
    AUTO(buf) struct buf words = BUF_INIT(WORDS_BYTES_MAX);
    if (lseek(words_fd, 0, SEEK_SET) == 0)
        fd_read_all(words_fd, &words, &ignored);
    return err_set(err, ERR_INTERNAL, "the git helper ended (%s %d) without an answer%s%.100s",
                   status >= 0 && WIFEXITED(status) ? "status" : "signal",
                   status < 0          ? SIGKILL
                   : WIFEXITED(status) ? WEXITSTATUS(status)
                                       : WTERMSIG(status),
                   words.len > 0 ? "; it said: " : "", buf_str(&words));
}

static struct json *read_answer(int fd, struct err *err)
{
    int64_t code = 0;
    AUTO(buf) struct buf text = BUF_INIT(ANSWER_BYTES_MAX);
    if (lseek(fd, 0, SEEK_SET) < 0 || fd_read_all(fd, &text, err))
        return NULL;
    AUTO(json) struct json *root = text.len > 0 ? json_parse(buf_str(&text), text.len, err) : NULL;
    if (!root)
        return NULL;
    const char *message = json_text(json_get(root, "error"));
    if (!message)
        return STEAL_PTR(root);
    json_int(json_get(root, "code"), &code);
    err_set(err, (enum err_code)code, "%s", message);
    return NULL;
}

int call_stream(const struct call *call, work_take_fn *take, void *arg, struct buf *words,
                struct err *err)
{
    struct work_result result;
    AUTO(plan) struct plan *plan = plan_new();
    if (!plan)
        return err_sys(err, "helper");
    if (buf_check(call->job, "the git helper's job", err) || fill_plan(call, plan, err))
        return -1;
    AUTO(fd) int in = work_memory_file("job", buf_str(call->job), call->job->len, err);
    AUTO(fd) int said = in < 0 ? -1 : work_memory_file("words", "", 0, err);
    const struct work_order order = {
        .launcher = call->launcher,
        .plan = plan,
        .in = {.via = WORK_FD, .fd = in},
        .out = {.via = WORK_PIPE, .take = take},
        .errors = {.via = WORK_FD, .fd = said},
        .limits = {.until_ms = clock_mono_ms() + call->timeout_ms + SLACK_MS},
        .stop = call->stop,
        .arg = arg,
        .at_once = true};
    if (said < 0 || work_run(&order, &result, err) || judge_end(&result, err))
        return -1;
    return lseek(said, 0, SEEK_SET) < 0 ? err_sys(err, "helper") : fd_read_all(said, words, err);
}

struct json *call_run(const struct call *call, struct err *err)
{
    REQUIRE(call->job && call->timeout_ms > 0);
    struct work_result result;
    AUTO(plan) struct plan *plan = plan_new();
    if (!plan || buf_check(call->job, "the git helper's job", err) || fill_plan(call, plan, err)) {
        if (!plan)
            err_sys(err, "helper");
        return NULL;
    }
    AUTO(fd) int in = work_memory_file("job", buf_str(call->job), call->job->len, err);
    AUTO(fd) int out = in < 0 ? -1 : work_memory_file("answer", "", 0, err);
    AUTO(fd) int words = out < 0 ? -1 : work_memory_file("words", "", 0, err);
    const struct work_order order = {
        .launcher = call->launcher,
        .plan = plan,
        .in = {.via = WORK_FD, .fd = in},
        .out = {.via = WORK_FD, .fd = out},
        .errors = {.via = WORK_FD, .fd = words},
        .limits = {.until_ms = clock_mono_ms() + call->timeout_ms + SLACK_MS},
        .stop = call->stop,
        .at_once = true};
    if (words < 0 || work_run(&order, &result, err) || judge_end(&result, err))
        return NULL;
    err->code = ERR_NONE;
    struct json *answer = read_answer(out, err);
    if (!answer && err->code == ERR_NONE)
        fail_without_answer(result.status, words, err);
    return answer;
}
