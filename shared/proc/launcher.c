/* The daemon's side of the launcher: see launch.h. */
#include "proc/launch.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/str.h"
#include "proc/tree.h"
#include "proc/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORPHANS_MS 5000
#define ANSWER_MS 20000 /* a launch that takes longer counts as failed */

struct launcher {
    struct lock lock; /* guards the fields below: a launcher that died is replaced */
    int socket;
    pid_t pid;
    bool stopped;
    bool greeted;       /* it has said hello */
    _Atomic bool known; /* host is filled in and does not change any more; read without the lock */
    struct jail_host host;
    struct launcher_numbers numbers;
};

struct child {
    struct launcher *launcher; /* borrowed */
    int control;
    pid_t pid;
    int64_t start_time;
    int gate[JAIL_GATE_SOCKETS]; /* -1: there are none, or they were taken */
    int status;
    int64_t peak_kib;
    int leftover;
    unsigned exceeded;
    bool ended;
};

/* Keeps for the launcher only what a sanitizer needs: the daemon's environment holds secrets. */
static int keep_sanitizer_options(struct strlist *env)
{
    for (char **entry = environ; *entry; entry++)
        if ((strstr(*entry, "SAN_OPTIONS=") || str_starts(*entry, "LD_LIBRARY_PATH=")) &&
            strlist_add(env, *entry))
            return -1;
    return 0;
}

static int spawn_with(posix_spawn_file_actions_t *files, posix_spawnattr_t *attr, int remote,
                      char *const env[], pid_t *ret_pid)
{
    sigset_t set;
    char *argv[] = {(char[]){"claude-runner"}, (char[]){"launch"}, NULL};
    char *const none[] = {NULL};
    posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(files, remote, LAUNCH_FD);
    posix_spawn_file_actions_addclosefrom_np(files, LAUNCH_FD + 1);
    posix_spawnattr_setflags(attr,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    sigemptyset(&set);
    posix_spawnattr_setsigmask(attr, &set);
    sigfillset(&set);
    posix_spawnattr_setsigdefault(attr, &set);
    return posix_spawn(ret_pid, "/proc/self/exe", files, attr, argv, env ? env : none);
}

static int spawn_launcher(int remote, pid_t *ret_pid, struct err *err)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    struct strlist env = {0};
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    errno = keep_sanitizer_options(&env) ? ENOMEM
                                         : spawn_with(&files, &attr, remote, env.items, ret_pid);
    int sys = errno;
    strlist_done(&env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    errno = sys;
    return sys ? err_sys(err, "cannot start the launcher") : 0;
}

/* Returns 1, or -1 after timeout_ms. */
static int wait_readable(int fd, int timeout_ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int64_t deadline = clock_mono_ms() + timeout_ms;
    for (;;) {
        int64_t left = deadline - clock_mono_ms();
        int ready = poll(&wait, 1, left > 0 ? (int)left : 0);
        if (ready > 0)
            return 1;
        if (ready == 0 || errno != EINTR)
            return -1;
    }
}

/* Reads the launcher's first message, which says what the host can do. Callers wait for it only
 * when they need it. */
static int greet_locked(struct launcher *launcher, struct err *err) HOLDS(launcher->lock);
static int greet_locked(struct launcher *launcher, struct err *err)
{
    struct wire_hello hello;
    if (launcher->greeted)
        return 0;
    if (wait_readable(launcher->socket, ANSWER_MS) < 0 ||
        recv(launcher->socket, &hello, sizeof(hello), MSG_DONTWAIT) != (ssize_t)sizeof(hello) ||
        hello.wire.type != WIRE_HELLO)
        return err_set(err, ERR_INTERNAL, "the launcher did not start");
    if (!launcher->known) /* A later launcher on the same host finds the same. */
        launcher->host = hello.host;
    launcher->known = true;
    launcher->greeted = true;
    return 0;
}

static int start_locked(struct launcher *launcher, struct err *err) HOLDS(launcher->lock);
static int start_locked(struct launcher *launcher, struct err *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return err_sys(err, "cannot make the launcher's socket");
    AUTO(fd) int remote = ends[1];
    launcher->socket = ends[0];
    /* A launcher that hangs must not block callers for ever. */
    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){.tv_sec = ANSWER_MS / 1000},
               sizeof(struct timeval));
    if (remote == LAUNCH_FD) { /* dup2() onto itself would leave the descriptor close-on-exec. */
        int moved = fcntl(remote, F_DUPFD_CLOEXEC, LAUNCH_FD + 1);
        fd_close(&remote);
        remote = moved;
    }
    launcher->greeted = false;
    return spawn_launcher(remote, &launcher->pid, err);
}

/* Ends what a dead launcher has left to this process, the last sub-reaper: its inits must be
 * reaped, and without namespaces their programs be killed. Every child of this process belongs to
 * the launcher: see launch.h. */
static void end_orphans(void)
{
    int64_t deadline = clock_mono_ms() + ORPHANS_MS;
    while (tree_signal(getpid(), SIGKILL) > 0 && clock_mono_ms() < deadline) {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
        poll(NULL, 0, 2);
    }
}

static void end_locked(struct launcher *launcher) HOLDS(launcher->lock);
static void end_locked(struct launcher *launcher)
{
    fd_close(&launcher->socket);
    if (launcher->pid > 0) {
        kill(launcher->pid, SIGKILL); /* Its inits die with it, by PR_SET_PDEATHSIG. */
        waitpid(launcher->pid, NULL, 0);
        launcher->pid = 0;
        end_orphans();
    }
}

struct launcher *launcher_start(struct err *err)
{
    struct launcher *launcher = calloc(1, sizeof(*launcher));
    if (!launcher) {
        err_sys(err, "launcher");
        return NULL;
    }
    lock_init(&launcher->lock);
    launcher->socket = -1;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    lock_take(&launcher->lock);
    int rc = start_locked(launcher, err);
    lock_drop(&launcher->lock);
    if (rc) {
        launcher_free(launcher);
        return NULL;
    }
    return launcher;
}

void launcher_stop(struct launcher *launcher)
{
    if (!launcher)
        return;
    lock_take(&launcher->lock);
    launcher->stopped = true;
    end_locked(launcher);
    lock_drop(&launcher->lock);
}

void launcher_free(struct launcher *launcher)
{
    if (!launcher)
        return;
    launcher_stop(launcher);
    lock_done(&launcher->lock);
    free(launcher);
}

const struct jail_host *launcher_host(struct launcher *launcher)
{
    static const struct jail_host nothing = {.why_tier = "the launcher did not start"};
    struct err ignored;
    if (!launcher->known) {
        lock_take(&launcher->lock);
        if (launcher->socket >= 0)
            greet_locked(launcher, &ignored);
        lock_drop(&launcher->lock);
    }
    return launcher->known ? &launcher->host : &nothing;
}

enum jail_tier launcher_tier(struct launcher *launcher)
{
    return (enum jail_tier)launcher_host(launcher)->tier;
}

const struct launcher_numbers *launcher_numbers(const struct launcher *launcher)
{
    return &launcher->numbers;
}

static int send_request(int socket, const int fds[WIRE_FDS])
{
    struct wire wire = {.type = WIRE_LAUNCH};
    union {
        char room[CMSG_SPACE(sizeof(int) * WIRE_FDS)];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec part = {&wire, sizeof(wire)};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * WIRE_FDS);
    memcpy(CMSG_DATA(head), fds, sizeof(int) * WIRE_FDS);
    ssize_t n;
    while ((n = sendmsg(socket, &msg, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        continue;
    return n == (ssize_t)sizeof(wire) ? 0 : -1;
}

static bool has_died(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == pid;
}

/* Ends what a dead launcher has left behind; the next request starts a new one. */
static void bury_launcher(struct launcher *launcher)
{
    lock_take(&launcher->lock);
    if (launcher->pid > 0 && has_died(launcher->pid))
        end_locked(launcher);
    lock_drop(&launcher->lock);
}

static int replace_locked(struct launcher *launcher, struct err *err) HOLDS(launcher->lock);
static int replace_locked(struct launcher *launcher, struct err *err)
{
    end_locked(launcher);
    if (start_locked(launcher, err) == 0 && greet_locked(launcher, err) == 0)
        return 0;
    end_locked(launcher);
    return -1;
}

/* Sends the request, to a new launcher when the old one has died. */
static int request(struct launcher *launcher, const int fds[WIRE_FDS], struct err *err)
{
    lock_take(&launcher->lock);
    if (launcher->socket >= 0 && greet_locked(launcher, err))
        end_locked(launcher);
    int rc = launcher->socket >= 0 ? send_request(launcher->socket, fds) : -1;
    if (launcher->stopped) {
        err_set(err, ERR_BUSY, "the launcher has been stopped");
    } else if (rc && (launcher->socket < 0 || errno == EPIPE || errno == ECONNRESET)) {
        rc = replace_locked(launcher, err);
        if (rc == 0 && send_request(launcher->socket, fds))
            rc = err_sys(err, "cannot reach the launcher");
    } else if (rc) {
        err_sys(err, "cannot reach the launcher");
    }
    lock_drop(&launcher->lock);
    return rc;
}

static int write_plan(const struct plan *plan, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(PLAN_BYTES_MAX);
    if (plan_save(plan, &text, err))
        return -1;
    AUTO(fd) int fd = memfd_create("plan", MFD_CLOEXEC);
    bool failed = fd < 0 || fd_write_all(fd, text.data, text.len) || lseek(fd, 0, SEEK_SET) < 0;
    explicit_bzero(text.data, text.len);
    if (failed)
        return err_sys(err, "cannot pass on the plan of a process");
    int out = fd;
    fd = -1;
    return out;
}

/* Receives one message and its sender, as wait_wire() does. */
static int wait_words(int fd, struct wire *wire, struct child *child)
{
    union {
        char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(child->gate))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec part = {wire, sizeof(*wire)};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    struct ucred sender = {0};
    child->pid = 0;
    int got = wait_readable(fd, ANSWER_MS);
    if (got < 0)
        return -1;
    if (recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*wire))
        return 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&msg); head; head = CMSG_NXTHDR(&msg, head)) {
        if (head->cmsg_type == SCM_CREDENTIALS)
            memcpy(&sender, CMSG_DATA(head), sizeof(sender));
        else if (head->cmsg_len == CMSG_LEN(sizeof(child->gate)) && child->gate[0] < 0)
            memcpy(child->gate, CMSG_DATA(head), sizeof(child->gate));
    }
    child->pid = sender.pid;
    return 1;
}

/* Waits for init's first message, whose sender the kernel names; later messages are for
 * child_read(). The launcher's own message may come at any time: init may finish before the
 * launcher runs again. Returns 0, -1, or 1 when no message came: then the launcher died before it
 * read the request. */
static int await_start(struct child *child, const char *program, struct err *err)
{
    bool taken = false;
    struct wire wire;
    do {
        int got = wait_words(child->control, &wire, child);
        if (got != 1) {
            err_set(err, ERR_INTERNAL, "starting '%s': the launcher %s", program,
                    got == 0 ? "died" : "did not answer");
            return got == 0 && !taken ? 1 : -1;
        }
        if (wire.type == WIRE_FAILED) {
            errno = wire.value;
            return wire.value ? err_sys(err, "cannot start '%s': %s", program, wire.text)
                              : err_set(err, ERR_INTERNAL, "cannot start '%s': %.*s", program,
                                        (int)sizeof(wire.text), wire.text);
        }
        taken = true;
    } while (wire.type != WIRE_RUNNING);
    child->start_time = tree_start_time(child->pid);
    return 0;
}

/* Tries once; returns as await_start(). */
static int try_spawn(struct child *child, const struct plan *plan, const int stdio[3],
                     struct err *err)
{
    int ends[2];
    AUTO(fd) int plan_fd = write_plan(plan, err);
    if (plan_fd < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return err_sys(err, "cannot start '%s'", plan->argv.items[0]);
    AUTO(fd) int remote = ends[1];
    child->control = ends[0];
    setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
    const int fds[WIRE_FDS] = {[WIRE_PLAN] = plan_fd,
                               [WIRE_STDIN] = stdio[0],
                               [WIRE_STDOUT] = stdio[1],
                               [WIRE_STDERR] = stdio[2],
                               [WIRE_CONTROL] = remote};
    if (request(child->launcher, fds, err))
        return -1;
    fd_close(&remote);
    return await_start(child, plan->argv.items[0], err);
}

struct child *launcher_spawn(struct launcher *launcher, const struct plan *plan, const int stdio[3],
                             struct err *err)
{
    REQUIRE(plan->argv.count > 0 && stdio);
    REQUIRE(stdio[0] >= 0 && stdio[1] >= 0 && stdio[2] >= 0);
    struct child *child = calloc(1, sizeof(*child));
    if (!child) {
        err_sys(err, "cannot start '%s'", plan->argv.items[0]);
        return NULL;
    }
    *child = (struct child){.launcher = launcher, .control = -1, .gate = {-1, -1}, .status = -1};
    int64_t began_us = clock_mono_us();
    int rc = try_spawn(child, plan, stdio, err);
    if (rc == 1) { /* A launcher that was killed accepts requests for another moment. */
        fd_close(&child->control);
        bury_launcher(launcher);
        rc = try_spawn(child, plan, stdio, err);
    }
    if (rc) {
        atomic_fetch_add_explicit(&launcher->numbers.failed, 1, memory_order_relaxed);
        child_free(child);
        return NULL;
    }
    histogram_add(&launcher->numbers.took, clock_mono_us() - began_us);
    return child;
}

int child_fd(const struct child *child)
{
    return child->control;
}

bool child_take_gate(struct child *child, int ret_sockets[JAIL_GATE_SOCKETS])
{
    REQUIRE(ret_sockets);
    if (child->gate[0] < 0)
        return false;
    for (int i = 0; i < JAIL_GATE_SOCKETS; i++) {
        ret_sockets[i] = child->gate[i];
        child->gate[i] = -1;
    }
    return true;
}

pid_t child_pid(const struct child *child)
{
    return child->pid;
}

int64_t child_start_time(const struct child *child)
{
    return child->start_time;
}

enum child_event child_read(struct child *child)
{
    struct wire wire;
    while (!child->ended) {
        ssize_t n = recv(child->control, &wire, sizeof(wire), MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == ECONNRESET))
            continue; /* Reset: init has left without reading all. It is told once, and before what
                       * init had said. */
        if (n < 0 && errno == EAGAIN)
            return CHILD_NOTHING;
        if (n != (ssize_t)sizeof(wire) || wire.type == WIRE_ENDED) {
            child->leftover = n > 0 ? wire.value : 0;
            child->exceeded = n > 0 ? (unsigned)wire.extra : 0;
            child->ended = true;
            if (n <= 0) /* Init was killed, perhaps together with its launcher. */
                bury_launcher(child->launcher);
        } else if (wire.type == WIRE_EXITED) {
            child->status = wire.value;
            child->peak_kib = wire.extra;
            return CHILD_EXITED;
        }
    }
    return CHILD_ENDED;
}

int child_status(const struct child *child)
{
    return child->status;
}

int64_t child_peak_kib(const struct child *child)
{
    return child->peak_kib;
}

int child_leftover(const struct child *child)
{
    return child->leftover;
}

unsigned child_exceeded(const struct child *child)
{
    return child->exceeded;
}

void child_end(struct child *child, bool at_once)
{
    struct wire wire = {.type = at_once ? WIRE_KILL : WIRE_TERM};
    (void)!send(child->control, &wire, sizeof(wire), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void child_free(struct child *child)
{
    if (!child)
        return;
    fd_close(&child->control);
    for (int i = 0; i < JAIL_GATE_SOCKETS; i++)
        fd_close(&child->gate[i]);
    free(child);
}
