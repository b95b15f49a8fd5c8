#include "runner/repo/call.h"

#include "base/clock.h"
#include "base/fd.h"
#include "runner/task/engine.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_BYTES_MAX (16u << 20)
#define WORDS_BYTES_MAX 4096
#define SLACK_MS 5000 /* the helper keeps its own time limit; ours is for one that is stuck */
#define END_MS 15000

struct files {
    int in;
    int out;
    int words;
};

static int memory_file(const char *name)
{
    return memfd_create(name, MFD_CLOEXEC);
}

static int fill_plan(const struct call *call, struct plan *plan, struct err *err)
{
    static const char *const passed_on[] = {"PATH",     "https_proxy", "HTTPS_PROXY",
                                            "no_proxy", "NO_PROXY",    "SSL_CERT_FILE"};
    plan->uid = call->uid;
    plan->gid = call->gid;
    plan->kill_grace_ms = 1000;
    plan->jail.file_mb = call->file_mb_max;
    plan->cwd = strdup("/");
    strlist_add(&plan->argv, PLAN_SELF);
    strlist_add(&plan->argv, "git");
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

/* 0 once it has ended; *ret_stopped when it was made to. */
static int await(const struct call *call, struct child *child, struct err *err)
{
    int64_t deadline = clock_mono_ms() + call->timeout_ms + SLACK_MS;
    bool stopped = false, late = false;
    while (child_read(child) != CHILD_ENDED) {
        int64_t left = deadline - clock_mono_ms();
        bool stop = call->stop.is_stopped && call->stop.is_stopped(call->stop.arg);
        if (!stopped && !late && (left <= 0 || stop)) {
            stopped = stop;
            late = !stop;
            child_end(child, true);
            deadline = clock_mono_ms() + END_MS;
        } else if (left <= 0) {
            break;
        }
        struct pollfd fds[] = {
            {.fd = child_fd(child), .events = POLLIN},
            {.fd = call->stop.is_stopped && !stopped ? call->stop.wake_fd : -1, .events = POLLIN}};
        poll(fds, 2, left > 0 && left < 1000 ? (int)left : 1000);
    }
    if (stopped)
        return err_set(err, ERR_BUSY, "stopped");
    return late ? err_set(err, ERR_TIMEOUT, "git did not end in time") : 0;
}

static int fail_without_answer(const struct child *child, int words_fd, struct err *err)
{
    struct err ignored;
    int status = child_status(child);
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

static struct json *run_with(const struct call *call, const struct plan *plan,
                             const struct files *files, struct err *err)
{
    const int stdio[3] = {files->in, files->out, files->words};
    struct child *child = launcher_spawn(call->launcher, plan, stdio, err);
    if (!child)
        return NULL;
    struct json *answer = NULL;
    if (await(call, child, err) == 0) {
        err->code = ERR_NONE;
        answer = read_answer(files->out, err);
        if (!answer && err->code == ERR_NONE)
            fail_without_answer(child, files->words, err);
    }
    child_free(child);
    return answer;
}

struct json *call_run(const struct call *call, struct err *err)
{
    AUTO(plan) struct plan *plan = plan_new();
    AUTO(fd) int in = memory_file("job");
    AUTO(fd) int out = memory_file("answer");
    AUTO(fd) int words = memory_file("words");
    const struct files files = {in, out, words};
    if (!plan || in < 0 || out < 0 || words < 0 ||
        fd_write_all(in, buf_str(call->job), call->job->len) || lseek(in, 0, SEEK_SET) < 0) {
        err_sys(err, "helper");
        return NULL;
    }
    if (buf_check(call->job, "the git helper's job", err) || fill_plan(call, plan, err))
        return NULL;
    return run_with(call, plan, &files, err);
}
