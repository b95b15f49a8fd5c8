#include "proc/init.h"

#include "base/beneath.h"
#include "base/clock.h"
#include "base/fd.h"
#include "proc/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_WAIT_MS                                                          \
    10000 /* A process in an uninterruptible sleep must not delay the end any \
           * longer. */
#define SWEEP_EVERY_MS 2

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fd_write_all(fd, text, strlen(text));
    fd_close(&fd);
    return rc;
}

static void say(int control, enum wire_type type, int value, int64_t extra, const char *text)
{
    struct wire wire = {.type = type, .value = value, .extra = extra};
    if (text)
        snprintf(wire.text, sizeof(wire.text), "%s", text);
    /* MSG_NOSIGNAL, and the result is ignored: when the daemon is gone, this process ends in a
     * moment, too. */
    (void)!send(control, &wire, sizeof(wire), MSG_NOSIGNAL);
}

/* What the program's process tells init about a failed step before it exits. */
struct failure {
    int sys;
    char step[sizeof(((struct wire *)0)->text)];
};

static _Noreturn void fail_with(int report, int sys, const char *step)
{
    struct failure failure = {.sys = sys};
    snprintf(failure.step, sizeof(failure.step), "%s", step);
    (void)!write(report, &failure, sizeof(failure));
    _exit(127);
}

static _Noreturn void fail(int report, const char *step)
{
    fail_with(report, errno, step);
}

/* Enters the start directory as the program's user: a directory that this user may not enter is not
 * entered. */
static int enter_place(const struct plan *plan)
{
    if (chdir(plan->cwd))
        return -1;
    if (!plan->below || !plan->below[0])
        return 0;
    int below = beneath_open(AT_FDCWD, plan->below, O_DIRECTORY | O_PATH, 0, BENEATH_STAY);
    return below < 0 ? -1 : fchdir(below);
}

/* Resets the signals by system call: posix_spawn() leaves the C library's own two signals ignored,
 * and the library's functions refuse to change them. */
static void reset_signals(void)
{
    static const struct {
        unsigned long handler, flags, restorer, mask;
    } by_default = {0};
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        syscall(SYS_rt_sigaction, sig, &by_default, NULL, sizeof(by_default.mask));
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The program's process, up to exec. `report` is close-on-exec: when it closes without a message,
 * exec has succeeded. */
static _Noreturn void program_run(const struct plan *plan, struct jail *jail,
                                  const int fds[WIRE_FDS], int report)
{
    struct err err;
    setsid();
    for (int i = 0; i < 3; i++)
        if (dup2(fds[WIRE_STDIN + i], i) < 0)
            fail(report, "stdio");
    if (dup2(report, 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC))
        fail(report, "descriptors");
    umask(022);
    if (jail_shut(jail, &err)) /* Its control groups are open descriptors. */
        fail_with(3, err.sys, err.msg);
    if (fd_close_from(4))
        fail(3, "descriptors");
    reset_signals(); /* Not earlier: in a process with threads, changing the user needs a signal. */
    if (enter_place(plan))
        fail(3, "working directory");
    execve(plan->argv.items[0], plan->argv.items, plan->env.items);
    fail(3, "exec");
}

/* Passes the gate's sockets to the daemon, which serves them; nothing in the jail keeps them. */
static int hand_out_gate(int control, const struct jail *jail)
{
    struct wire wire = {.type = WIRE_GATE};
    union {
        char room[CMSG_SPACE(sizeof(int) * JAIL_GATE_SOCKETS)];
        struct cmsghdr align;
    } rights = {{0}};
    const int *gate = jail_gate(jail);
    struct iovec part = {&wire, sizeof(wire)};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &rights,
                         .msg_controllen = sizeof(rights)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
    if (!gate)
        return 0;
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * JAIL_GATE_SOCKETS);
    memcpy(CMSG_DATA(head), gate, sizeof(int) * JAIL_GATE_SOCKETS);
    int rc = sendmsg(control, &msg, MSG_NOSIGNAL) < 0 ? -1 : 0;
    for (int i = 0; i < JAIL_GATE_SOCKETS; i++)
        close(gate[i]);
    return rc;
}

static pid_t program_start(const struct plan *plan, struct jail *jail, const int fds[WIRE_FDS])
{
    int ends[2];
    struct failure failure;
    /* The pipe must not be one of 0..3, which the program's process overwrites. */
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    int report = fcntl(ends[1], F_DUPFD_CLOEXEC, 16);
    close(ends[1]);
    pid_t pid = report < 0 ? -1 : fork();
    if (pid == 0)
        program_run(plan, jail, fds, report);
    close(report);
    ssize_t n = pid < 0 ? -1 : read(ends[0], &failure, sizeof(failure));
    close(ends[0]);
    if (n == 0)
        return pid;
    if (n == (ssize_t)sizeof(failure))
        say(fds[WIRE_CONTROL], WIRE_FAILED, failure.sys, 0, failure.step);
    else
        say(fds[WIRE_CONTROL], WIRE_FAILED, errno, 0, "fork");
    return -1;
}

enum phase { RUNNING, TERMINATING, KILLING };

struct init {
    const struct plan *plan;
    struct jail *jail;
    int control;
    int signals;
    pid_t program;
    enum phase phase;
    int64_t deadline_ms; /* when TERMINATING or KILLING ends */
    int64_t killed_ms;   /* when everything was last sent SIGKILL */
    int leftover;
    unsigned met; /* limits, enum jail_exceeded */
    bool empty;   /* no process is left */
};

static int signal_tree(struct init *init, int sig)
{
    if (sig == SIGKILL) {
        init->killed_ms = clock_mono_ms();
        jail_kill(init->jail);
    }
    if (jail_holds_tree(init->jail))
        return kill(-1, sig) == 0;
    if (sig == SIGKILL)
        tree_signal(getpid(), SIGSTOP); /* Stopped first, so that none can fork between the look and
                                         * the kill. */
    return tree_signal(getpid(), sig);
}

static void enter_phase(struct init *init, enum phase phase)
{
    if (init->phase >= phase)
        return;
    init->phase = phase;
    init->deadline_ms =
        clock_mono_ms() + (phase == KILLING ? KILL_WAIT_MS : init->plan->kill_grace_ms);
    signal_tree(init, phase == KILLING ? SIGKILL : SIGTERM);
}

/* Reaps children. A SIGKILL may take effect only at the next instruction, so a tree that forks is
 * killed again until it is empty. */
static void reap(struct init *init)
{
    int status;
    pid_t pid;
    struct rusage usage;
    int also = init->plan->resumed ? WUNTRACED : 0;
    while ((pid = wait4(-1, &status, WNOHANG | also, &usage)) > 0) {
        if (WIFSTOPPED(status)) {
            if (pid == init->program)
                kill(pid, SIGCONT);
        } else if (pid == init->program) {
            init->program = 0;
            say(init->control, WIRE_EXITED, status, usage.ru_maxrss, NULL);
        } else if (init->program == 0) {
            init->leftover++;
        }
    }
    init->empty = pid < 0 && errno == ECHILD;
    if (init->program == 0 && !init->empty)
        enter_phase(init, TERMINATING);
}

static void listen_to_daemon(struct init *init)
{
    struct wire wire;
    ssize_t n = recv(init->control, &wire, sizeof(wire), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    enter_phase(init, n == (ssize_t)sizeof(wire) && wire.type == WIRE_TERM ? TERMINATING : KILLING);
    if (n <= 0) {
        close(init->control);
        init->control = -1;
    }
}

/* Ends a tree that uses more memory or disk than allowed. One that has reached its number of
 * processes goes on. The daemon's word, and the time to kill, do not wait for a look. */
static void heed_limits(struct init *init)
{
    const struct jail_stop stop = {
        .fd = init->control, .until_ms = init->phase == RUNNING ? INT64_MAX : init->deadline_ms};
    if (init->phase == KILLING)
        return;
    init->met |= jail_look(init->jail, getpid(), &stop);
    if (init->met & (JAIL_MEMORY | JAIL_DISK))
        enter_phase(init, KILLING);
}

static int wait_ms(const struct init *init)
{
    if (init->phase == RUNNING)
        return jail_look_every_ms(init->jail);
    if (init->phase == KILLING)
        return SWEEP_EVERY_MS;
    int64_t left = init->deadline_ms - clock_mono_ms();
    return left > 0 ? (int)left : 0;
}

/* In a pid namespace one kill reaches everybody, whoever forks meanwhile. It is repeated, but not
 * after each death: that would be a thousand times a thousand signals for a thousand processes. */
static bool is_kill_due(const struct init *init)
{
    return !jail_holds_tree(init->jail) || clock_mono_ms() - init->killed_ms >= SWEEP_EVERY_MS;
}

static void supervise(struct init *init)
{
    while (!init->empty) {
        struct pollfd fds[] = {{.fd = init->signals, .events = POLLIN},
                               {.fd = init->control, .events = POLLIN}};
        struct signalfd_siginfo info;
        poll(fds, 2, wait_ms(init));
        if (fds[0].revents && read(init->signals, &info, sizeof(info)) < 0 && errno != EAGAIN)
            return;
        if (fds[1].revents)
            listen_to_daemon(init);
        reap(init);
        if (init->empty) /* init_run() looks once more. */
            return;
        heed_limits(init);
        if (init->phase == KILLING && !init->empty && is_kill_due(init))
            signal_tree(init, SIGKILL);
        if (init->phase != RUNNING && clock_mono_ms() >= init->deadline_ms) {
            if (init->phase == KILLING)
                return;
            enter_phase(init, KILLING);
        }
    }
}

static int open_signals(void)
{
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Moves the descriptors away from 0..3 and closes all others. */
static int settle_fds(const int fds[WIRE_FDS], int kept[WIRE_FDS])
{
    for (int i = 0; i < WIRE_FDS; i++) {
        kept[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 32);
        if (kept[i] < 0)
            return -1;
    }
    return close_range(3, 31, 0);
}

_Noreturn void init_run(const struct plan *plan, struct jail *jail, const int fds[WIRE_FDS])
{
    int kept[WIRE_FDS];
    struct init init = {.plan = plan, .jail = jail};
    struct err err;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_NAME, "task-init", 0, 0, 0);
    setsid();
    if (settle_fds(fds, kept)) {
        say(fds[WIRE_CONTROL], WIRE_FAILED, errno, 0, "descriptors");
        _exit(1);
    }
    init.control = kept[WIRE_CONTROL];
    init.signals = open_signals();
    if (init.signals < 0 || jail_build(jail, &plan->mounts, &err)) {
        say(init.control, WIRE_FAILED, init.signals < 0 ? errno : err.sys, 0,
            init.signals < 0 ? "signals" : err.msg);
        _exit(1);
    }
    (void)!write_text("/proc/self/oom_score_adj", "500");
    if (hand_out_gate(init.control, jail)) {
        say(init.control, WIRE_FAILED, errno, 0, "gate");
        _exit(1);
    }
    /* Before any program of our user exists that could trace this process: after its exec, which
     * makes it dumpable, the program may run before this process runs again. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    init.program = program_start(plan, jail, kept);
    if (init.program < 0)
        _exit(1);
    for (int i = WIRE_PLAN; i < WIRE_CONTROL; i++)
        close(kept[i]);
    say(init.control, WIRE_RUNNING, 0, 0, NULL);
    supervise(&init);
    init.met |= jail_look(jail, getpid(), NULL);
    if (init.control >= 0)
        say(init.control, WIRE_ENDED, init.leftover, (int64_t)init.met, NULL);
    _exit(0);
}
