/* The agent's loop: see box.h. */
#include "runner/box/box.h"

#include "runner/box/box_private.h"

#include "base/clock.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIDS_MAX 1024
#define LOOK_EVERY_MS 250 /* at shells that run something */
#define FORK_TRIES 100
#define FORK_PATIENCE 10 /* tries before room is made, and before it is made again */
#define FORK_EVERY_MS 20

void box_say(const struct box *box, const struct buf *text, const int *fds, size_t fd_count)
{
    if (!buf_ok(text))
        return;
    /* The runner reads all the time; when its queue stays full, it is gone. */
    for (int i = 0; i < 200; i++) {
        if (box_send(box->control, text->data, text->len, fds, fd_count) == 0 || errno != EAGAIN)
            return;
        struct pollfd wait = {.fd = box->control, .events = POLLOUT};
        poll(&wait, 1, 50);
    }
}

void box_say_error(const struct box *box, int64_t id, const struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(4096);
    struct json_writer w;
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_int(&w, "id", id);
    json_add_int(&w, "error", err->code);
    json_add_text(&w, "message", err->msg);
    json_close(&w);
    box_say(box, &text, NULL, 0);
}

int box_file(const struct box *box)
{
    char states[32];
    int fd = memfd_create("box", MFD_CLOEXEC);
    if (fd >= 0 || errno != ENOSYS)
        return fd;
    snprintf(states, sizeof(states), "/proc/self/fd/%d", box->states);
    return file_nameless(states, 0);
}

void box_say_ok(const struct box *box, int64_t id)
{
    AUTO(buf) struct buf text = BUF_INIT(64);
    buf_addf(&text, "{\"id\":%lld,\"ok\":true}", (long long)id);
    box_say(box, &text, NULL, 0);
}

/* --- the first message --------------------------------------------------------------------- */

/* `fd`: a list of "NAME=value". */
static int read_env(struct box *box, int fd, struct err *err)
{
    AUTO(json) struct json *list = box_read_json(fd, err);
    if (!list)
        return -1;
    for (const struct json *at = json_first(list); at; at = json_next(at))
        if (strlist_add(&box->env, json_text(at)))
            return err_sys(err, "the session's environment");
    return strlist_addf(&box->env,
                        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
               ? err_sys(err, "the session's environment")
               : 0;
}

/* Limits the number of processes in the session. They are counted in its own user namespace, so not
 * together with others of the same user; without one they would be, and there is no limit. */
static void limit_processes(const struct json *ask)
{
    int64_t pids = 0;
    json_int(json_get(ask, "pids"), &pids);
    const rlim_t max = pids > 0 ? (rlim_t)pids : PIDS_MAX;
    const struct rlimit limit = {max, max};
    setrlimit(RLIMIT_NPROC, &limit);
}

/* Builds walls, when the runner has built none around this process and the host allows it. */
static int settle(struct box *box, const struct json *ask, struct err *err)
{
    bool walls = true;
    int64_t pids = 0;
    struct err why;
    const char *dir = json_text(json_get(ask, "dir"));
    AUTO(str) char *states = dir ? path_join(dir, "shells") : NULL;
    json_bool(json_get(ask, "walls"), &walls);
    json_int(json_get(ask, "pidsMax"), &pids);
    box->alone = !walls;
    box->pids_max = (int)pids;
    box->states = states ? open(states, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (box->states < 0)
        return err_sys(err, "the session's directory");
    if (walls && box_enclose(dir, &why)) {
        if (chdir(dir))
            return err_sys(err, "the session's directory");
        box->outside = strdup(dir);
    } else if (walls) {
        limit_processes(ask);
    }
    box->root = open(box->outside ? box->outside : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(str) char *home = box_real_path(box, "/home/user");
    if (box->root < 0 || !home)
        return err_sys(err, "the session's directory");
    mkdirat(box->root, "home/user", 0755);
    return strlist_addf(&box->env, "HOME=%s", home) ? err_sys(err, "the session's environment") : 0;
}

/* The environment is in the message's file: it may be long. */
static void begin(struct box *box, int64_t id, const struct json *ask,
                  const struct box_message *message)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(256);
    int env = message->fd_count > 0 ? message->fds[0] : -1;
    if (read_env(box, env, &err) || settle(box, ask, &err)) {
        box_say_error(box, id, &err);
        exit(1);
    }
    buf_addf(&text, "{\"id\":%lld,\"ok\":true,\"enclosed\":%s}", (long long)id,
             box->outside ? "false" : "true");
    box_say(box, &text, NULL, 0);
}

/* --- requests ------------------------------------------------------------------------------ */

static void dispatch(struct box *box, const struct json *ask, struct box_message *message)
{
    struct err err;
    int64_t id = 0;
    const char *op = json_text(json_get(ask, "op"));
    json_int(json_get(ask, "id"), &id);
    if (!op)
        return;
    if (strcmp(op, "begin") == 0)
        begin(box, id, ask, message);
    else if (strcmp(op, "exec") == 0)
        box_run_start(box, id, ask, message);
    else if (strcmp(op, "kill") == 0)
        box_run_kill(box, id, ask);
    else if (strcmp(op, "signal") == 0)
        box_job_signal(box, id, ask);
    else if (strcmp(op, "stdin") == 0)
        box_job_stdin(box, id, ask, message);
    else if (strcmp(op, "pty") == 0)
        box_pty_start(box, id, ask);
    else if (strcmp(op, "work") == 0)
        box_worker_start(box, id, ask, message);
    else if (err_set(&err, ERR_INVALID, "unknown request '%.40s'", op))
        box_say_error(box, id, &err);
}

/* Reads requests. False when the runner is gone. */
static bool hear(struct box *box)
{
    static char text[BOX_TEXT_MAX + 1];
    struct box_message message = {.text = text};
    struct err ignored;
    int got;
    while ((got = box_receive(box->control, &message)) == 1) {
        AUTO(json) struct json *ask = json_parse(message.text, message.len, &ignored);
        if (ask)
            dispatch(box, ask, &message);
        box_close_fds(&message);
    }
    return got == 0;
}

/* --- children ------------------------------------------------------------------------------ */

static void bury(struct box *box, pid_t pid, int status)
{
    for (size_t i = 0; i < box->shell_count; i++) {
        if (box->shells[i].pid != pid)
            continue;
        box_shell_died(box, &box->shells[i], status);
        return;
    }
    if (box_pty_died(box, pid, status))
        return;
    struct job *job = box_job_find(box, pid);
    if (!box_worker_died(box, pid, status) && job)
        box_job_over(box, job, status);
}

void box_reap(struct box *box)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(box->signals, &info, sizeof(info)) > 0)
        continue;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        bury(box, pid, status);
}

pid_t box_fork(struct box *box)
{
    pid_t pid;
    for (int i = 0; (pid = fork()) < 0 && errno == EAGAIN && i < FORK_TRIES; i++) {
        poll(NULL, 0, FORK_EVERY_MS); /* those that were killed are still on their way */
        box_reap(box);
        if (i % FORK_PATIENCE == FORK_PATIENCE - 1)
            box_make_room(box, NULL, true);
        errno = EAGAIN;
    }
    return pid;
}

/* --- the loop ------------------------------------------------------------------------------ */

#define FIXED 2 /* control and signals come first */

/* Lists what to wait for. A shell that is reporting is not among it, but ends the wait after its
 * patience. */
static size_t list_waits(struct box *box, struct pollfd *fds, int *ret_patience_us)
{
    size_t count = FIXED;
    *ret_patience_us = 0;
    fds[0] = (struct pollfd){.fd = box->control, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = box->signals, .events = POLLIN};
    for (size_t i = 0; i < box->shell_count; i++) {
        const struct shell *at = &box->shells[i];
        fds[count++] = (struct pollfd){.fd = at->patience_us ? -1 : at->report, .events = POLLIN};
        if (at->patience_us && (*ret_patience_us == 0 || at->patience_us < *ret_patience_us))
            *ret_patience_us = at->patience_us;
    }
    for (struct job *job = box->jobs; job; job = job->next)
        fds[count++] = (struct pollfd){.fd = job->over ? -1 : job->pidfd, .events = POLLIN};
    return count;
}

/* Handles jobs that have ended. They are looked up by descriptor, because each may remove others
 * from the list. */
static void see_jobs(struct box *box, const struct pollfd *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!fds[i].revents)
            continue;
        struct job *job = box->jobs;
        while (job && job->pidfd != fds[i].fd)
            job = job->next;
        if (job)
            box_job_over(box, job, -1);
    }
}

static bool any_runs(const struct box *box)
{
    for (size_t i = 0; i < box->shell_count; i++)
        if (box->shells[i].run)
            return true;
    return false;
}

/* Waits as poll() does: until a shell's patience is over, or it is time to look at those that run
 * something. */
static int await(struct box *box, struct pollfd *fds, size_t count, bool runs, int patience_us)
{
    int64_t left_ms = box->look_ms - clock_mono_ms();
    struct timespec limit = {.tv_nsec = (left_ms > 0 ? left_ms : 0) * 1000000};
    if (patience_us > 0)
        limit.tv_nsec = patience_us * 1000L;
    return ppoll(fds, count, runs || patience_us > 0 ? &limit : NULL, NULL);
}

static void look(struct box *box)
{
    box_crowd_look(box);
    if (clock_mono_ms() < box->look_ms)
        return;
    box->look_ms = clock_mono_ms() + LOOK_EVERY_MS;
    for (size_t i = 0; i < box->shell_count; i++)
        box_shell_look(box, &box->shells[i]);
}

static bool turn(struct box *box)
{
    static struct pollfd fds[FIXED + SHELLS_MAX + JOBS_MAX];
    int patience_us;
    size_t shells = box->shell_count;
    size_t count = list_waits(box, fds, &patience_us);
    bool runs = any_runs(box);
    if (await(box, fds, count, runs, patience_us) < 0)
        return true;
    for (size_t i = 0; i < shells; i++)
        if (box->shells[i].patience_us > 0 || fds[FIXED + i].revents)
            box_shell_listen(box, &box->shells[i]);
    if (runs)
        look(box);
    if (fds[1].revents)
        box_reap(box);
    see_jobs(box, fds + FIXED + shells, count - FIXED - shells);
    return !fds[0].revents || hear(box);
}

static int prepare(struct box *box)
{
    const struct rlimit none = {0, 0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* Protects against a command's `kill -1`; the runner ends this
                               * process by closing its socket. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    setrlimit(RLIMIT_CORE, &none);
    box->self = getpid();
    box->control = fcntl(0, F_DUPFD_CLOEXEC, 10);
    box->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || box->control < 0 || box->signals < 0 || dup2(null, 0) < 0)
        return -1;
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

int box_serve(void)
{
    static struct box box = {.root = -1, .states = -1};
    if (prepare(&box))
        return 1;
    while (turn(&box))
        continue;
    return 0;
}
