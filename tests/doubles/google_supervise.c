/*
 * The supervisor of one execution: starts the tasks in process groups of their own, ends them when
 * their time is over or it is told to (SIGTERM;
 * SIGUSR1: at once and without a word), starts them again as often as may be, and writes
 * down in state.json how it goes. As on Cloud Run SIGTERM comes first and SIGKILL ten seconds
 * later, and nothing that a task has started outlives it.
 *
 * Holds the lock of the file `lock` as long as it lives, so that it can be seen whether it does.
 */
#include "google_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TASKS_MAX = 64, ENV_MAX = 256, ARGS_MAX = 64 };

struct task {
    pid_t pid; /* 0: not running */
    int attempt;
    int64_t started, ended;
    int64_t term_at, kill_at; /* 0: not planned */
    int code, signal;
    bool timed_out;
};

static struct {
    cJSON *spec;
    char *argv[ARGS_MAX + 1];
    char *env[ENV_MAX + 4];
    size_t n_env;
    struct task tasks[TASKS_MAX];
    int count, retries;
    int64_t timeout_ms, grace_ms, started, ended;
    bool cancelled;
    int signals, owner; /* descriptors */
} me;

/* ---- what is written down ---- */

static cJSON *task_json(const struct task *task, int index)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "index", index);
    cJSON_AddNumberToObject(json, "attempt", task->attempt);
    cJSON_AddNumberToObject(json, "pid", task->pid);
    cJSON_AddNumberToObject(json, "started", (double)task->started);
    cJSON_AddNumberToObject(json, "ended", (double)task->ended);
    cJSON_AddNumberToObject(json, "code", task->code);
    cJSON_AddNumberToObject(json, "signal", task->signal);
    cJSON_AddBoolToObject(json, "timedOut", task->timed_out);
    return json;
}

static void write_state(void)
{
    cJSON *state = cJSON_CreateObject();
    cJSON_AddNumberToObject(state, "pid", getpid());
    cJSON_AddNumberToObject(state, "started", (double)me.started);
    cJSON_AddNumberToObject(state, "ended", (double)me.ended);
    cJSON_AddBoolToObject(state, "cancelled", me.cancelled);
    cJSON *tasks = cJSON_AddArrayToObject(state, "tasks");
    for (int i = 0; i < me.count; i++)
        cJSON_AddItemToArray(tasks, task_json(&me.tasks[i], i));
    char *text = cJSON_PrintUnformatted(state);
    FILE *file = fopen("state.json.new", "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0 ||
        rename("state.json.new", "state.json") < 0)
        abort();
    free(text);
    cJSON_Delete(state);
}

/* ---- tasks ---- */

static void run_task(int index, int attempt)
{
    char index_text[48], attempt_text[48];
    sigset_t none;
    int out = open("output", O_WRONLY | O_CREAT | O_APPEND, 0600);
    int in = open("/dev/null", O_RDONLY);
    snprintf(index_text, sizeof index_text, "CLOUD_RUN_TASK_INDEX=%d", index);
    snprintf(attempt_text, sizeof attempt_text, "CLOUD_RUN_TASK_ATTEMPT=%d", attempt);
    me.env[me.n_env] = index_text;
    me.env[me.n_env + 1] = attempt_text;
    me.env[me.n_env + 2] = NULL;
    setpgid(0, 0);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || chdir("work") < 0)
        _exit(126);
    close_range(3, ~0U, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    execve(me.argv[0], me.argv, me.env);
    dprintf(2, "cannot start %s: %s\n", me.argv[0], strerror(errno));
    _exit(127);
}

static void start_task(int index)
{
    struct task *task = &me.tasks[index];
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        run_task(index, task->attempt);
    if (pid < 0)
        abort();
    setpgid(pid, pid); /* whoever is first */
    task->pid = pid;
    task->started = task->started ? task->started : store_now_ms();
    task->term_at = store_now_ms() + me.timeout_ms;
    task->kill_at = 0;
    task->timed_out = false;
}

static void stop_task(struct task *task)
{
    task->term_at = 0;
    task->kill_at = store_now_ms() + me.grace_ms;
    kill(-task->pid, SIGTERM);
}

static void task_ended(int index, int status)
{
    struct task *task = &me.tasks[index];
    kill(-task->pid, SIGKILL); /* what is left of its group */
    task->pid = 0;
    task->term_at = task->kill_at = 0;
    task->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    task->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    bool failed = task->code != 0 || task->timed_out;
    if (failed && !me.cancelled && task->attempt < me.retries) {
        task->attempt++;
        start_task(index);
    } else {
        task->ended = store_now_ms();
    }
    write_state();
}

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < me.count; i++)
            if (me.tasks[i].pid == pid)
                task_ended(i, status);
}

/* What has left its group ends here, since orphans become this process's children. */
static void kill_children(void)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    for (int round = 0; round < 100; round++) {
        FILE *file = fopen(path, "re");
        size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
        if (file)
            fclose(file);
        while (n > 0 && text[n - 1] != ' ') /* a number that was cut off is another process's */
            n--;
        text[n] = '\0';
        if (n == 0)
            return;
        char *at = text;
        for (long pid; (pid = strtol(at, &at, 10)) > 0;)
            if (kill((pid_t)pid, SIGKILL) == 0)
                waitpid((pid_t)pid, NULL, 0); /* what it leaves comes in the next round */
    }
}

/* ---- waiting ---- */

static bool all_ended(void)
{
    for (int i = 0; i < me.count; i++)
        if (me.tasks[i].pid)
            return false;
    return true;
}

static void cancel(void)
{
    if (me.cancelled)
        return;
    me.cancelled = true;
    for (int i = 0; i < me.count; i++)
        if (me.tasks[i].pid)
            stop_task(&me.tasks[i]);
    write_state();
}

/* Everything at once, without a word: who wanted this is gone. */
static void abandon(void)
{
    for (int i = 0; i < me.count; i++)
        if (me.tasks[i].pid)
            kill(-me.tasks[i].pid, SIGKILL);
    kill_children();
    _exit(1);
}

static void look_at_clock(int64_t now)
{
    for (int i = 0; i < me.count; i++) {
        struct task *task = &me.tasks[i];
        if (task->pid && task->term_at && now >= task->term_at) {
            task->timed_out = true;
            stop_task(task);
        } else if (task->pid && task->kill_at && now >= task->kill_at) {
            task->kill_at = now + 1000;
            kill(-task->pid, SIGKILL);
        }
    }
}

static int64_t next_time(int64_t until)
{
    for (int i = 0; i < me.count; i++) {
        const struct task *task = &me.tasks[i];
        if (task->pid && task->term_at && task->term_at < until)
            until = task->term_at;
        if (task->pid && task->kill_at && task->kill_at < until)
            until = task->kill_at;
    }
    return until;
}

/* Waits for a signal, the owner's end, or that time. */
static void wait_once(int64_t until)
{
    struct pollfd fds[] = {{.fd = me.signals, .events = POLLIN},
                           {.fd = me.owner, .events = POLLIN}};
    struct signalfd_siginfo info;
    int64_t left = next_time(until) - store_now_ms();
    poll(fds, 2, left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left + 1);
    while (read(me.signals, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGTERM)
            cancel();
        else if (info.ssi_signo == SIGUSR1)
            abandon();
    if (fds[1].revents)
        abandon();
    reap();
    look_at_clock(store_now_ms());
}

/* ---- the start ---- */

static cJSON *read_spec(void)
{
    FILE *file = fopen("spec.json", "re");
    char *text = NULL;
    size_t cap = 0;
    cJSON *spec = file && getdelim(&text, &cap, '\0', file) > 0 ? cJSON_Parse(text) : NULL;
    free(text);
    if (file)
        fclose(file);
    return spec;
}

static void take_list(const char *name, char **list, size_t max)
{
    size_t n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(me.spec, name))
    {
        if (n < max)
            list[n++] = item->valuestring;
    }
    list[n] = NULL;
}

static bool take_spec(void)
{
    me.spec = read_spec();
    if (!me.spec)
        return false;
    take_list("argv", me.argv, ARGS_MAX);
    take_list("env", me.env, ENV_MAX);
    while (me.env[me.n_env])
        me.n_env++;
    me.count = (int)json_int(me.spec, "taskCount", 1);
    me.retries = (int)json_int(me.spec, "maxRetries", 0);
    me.timeout_ms = json_int(me.spec, "timeoutMs", 600000);
    me.grace_ms = json_int(me.spec, "graceMs", 10000);
    me.owner = -1;
    pid_t owner = (pid_t)json_int(me.spec, "owner", 0);
    if (owner && (me.owner = (int)syscall(SYS_pidfd_open, owner, 0)) < 0)
        return false;
    return me.count >= 1 && me.count <= TASKS_MAX && me.argv[0];
}

int supervise(const char *folder)
{
    sigset_t watched;
    if (chdir(folder) < 0)
        return 1;
    int lock = open("lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) < 0 || !take_spec())
        return 1;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGUSR1);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    me.signals = signalfd(-1, &watched, SFD_NONBLOCK | SFD_CLOEXEC);
    write_state();
    if (access("kill", F_OK) == 0)
        abandon();
    if (access("cancel", F_OK) == 0)
        cancel();
    int64_t begin = store_now_ms() + json_int(me.spec, "delayMs", 0);
    while (!me.cancelled && store_now_ms() < begin)
        wait_once(begin);
    if (!me.cancelled) {
        me.started = store_now_ms();
        for (int i = 0; i < me.count; i++)
            start_task(i);
        write_state();
    }
    while (!all_ended())
        wait_once(INT64_MAX);
    kill_children();
    me.ended = store_now_ms();
    write_state();
    cJSON_Delete(me.spec);
    return 0;
}
