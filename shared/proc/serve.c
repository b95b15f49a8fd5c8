/* The launcher's own life: see launch.h. */
#include "proc/launch.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "proc/init.h"
#include "proc/tree.h"
#include "proc/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_WAIT_MS 10000

struct serve {
    enum proc_walls walls;
    int signals;
    pid_t *inits; /* those that are alive */
    size_t count;
    size_t room;
};

/* As fork(), into new namespaces. Nothing in this process has threads. */
static pid_t clone_into(unsigned long flags)
{
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

/* Tries for real: the flags may be allowed and the mount not. */
static bool can_give(enum proc_walls walls)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    int status;
    pid_t pid = clone_into(init_clone_flags(walls));
    if (pid == 0) {
        if (init_enter(walls, uid, gid))
            _exit(1);
        pid_t inner = fork();
        if (inner == 0)
            _exit(0);
        _exit(inner > 0 && waitpid(inner, &status, 0) == inner && status == 0 ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static enum proc_walls probe(void)
{
    if (geteuid() == 0 && can_give(PROC_PIDNS))
        return PROC_PIDNS;
    if (geteuid() != 0 && can_give(PROC_USERNS))
        return PROC_USERNS;
    return PROC_SWEEP;
}

static void tell(int fd, enum wire_type type, int value, const char *text)
{
    struct wire wire = {.type = type, .value = value};
    if (text)
        strncpy(wire.text, text, sizeof(wire.text) - 1);
    (void)!send(fd, &wire, sizeof(wire), MSG_NOSIGNAL);
}

/* 1 with a request and its descriptors, 0 when the daemon is gone, -1 for a malformed message. */
static int receive(int fds[WIRE_FDS])
{
    struct wire wire;
    union {
        char room[CMSG_SPACE(sizeof(int) * WIRE_FDS)];
        struct cmsghdr align;
    } control;
    struct iovec part = {&wire, sizeof(wire)};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(LAUNCH_FD, &msg, MSG_CMSG_CLOEXEC);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        return 0;
    struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (!head || head->cmsg_type != SCM_RIGHTS)
        return -1;
    size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(head), sizeof(int) * count);
    if (count == WIRE_FDS && wire.type == WIRE_LAUNCH)
        return 1;
    for (size_t i = 0; i < count; i++) /* some did not fit into our table of descriptors */
        close(fds[i]);
    return -1;
}

static struct plan *read_plan(int fd, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(PLAN_BYTES_MAX);
    if (fd_read_all(fd, &text, err))
        return NULL;
    struct plan *plan = plan_load(buf_str(&text), text.len, err);
    explicit_bzero(text.data ? text.data : (char[1]){0}, text.len);
    return plan;
}

static int remember(struct serve *serve, pid_t pid)
{
    if (serve->count == serve->room) {
        size_t room = serve->room ? serve->room * 2 : 64;
        pid_t *inits = realloc(serve->inits, room * sizeof(*inits));
        if (!inits)
            return -1;
        serve->inits = inits;
        serve->room = room;
    }
    serve->inits[serve->count++] = pid;
    return 0;
}

static void launch(struct serve *serve, const int fds[WIRE_FDS])
{
    struct err err;
    uid_t uid = geteuid();
    gid_t gid = getegid();
    AUTO(plan) struct plan *plan = read_plan(fds[WIRE_PLAN], &err);
    if (!plan) {
        tell(fds[WIRE_CONTROL], WIRE_FAILED, EINVAL, "plan");
        return;
    }
    if (serve->walls == PROC_USERNS) { /* everyone stays who they are */
        plan->uid = uid;
        plan->gid = gid;
    }
    pid_t pid = clone_into(init_clone_flags(serve->walls));
    if (pid == 0)
        init_run(plan, fds, serve->walls);
    if (pid < 0 || remember(serve, pid)) {
        tell(fds[WIRE_CONTROL], WIRE_FAILED, errno, "clone");
        if (pid > 0)
            kill(pid, SIGKILL);
        return;
    }
    tell(fds[WIRE_CONTROL], WIRE_STARTED, 0, NULL);
}

static bool forget(struct serve *serve, pid_t pid)
{
    for (size_t i = 0; i < serve->count; i++) {
        if (serve->inits[i] == pid) {
            serve->inits[i] = serve->inits[--serve->count];
            return true;
        }
    }
    return false;
}

/* An init that was killed leaves its tree to us, the next sub-reaper. Its processes are told from
 * living inits by not being one; they are killed until none is left. */
static void end_orphans(const struct serve *serve)
{
    char text[4096];
    int fd = open("/proc/self/task/self/children", O_RDONLY | O_CLOEXEC);
    AUTO(fd) int by_pid = fd;
    if (fd < 0) {
        snprintf(text, sizeof(text), "/proc/self/task/%d/children", (int)getpid());
        by_pid = open(text, O_RDONLY | O_CLOEXEC);
    }
    ssize_t n = by_pid < 0 ? 0 : read(by_pid, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    for (char *save = NULL, *word = strtok_r(text, " ", &save); word;
         word = strtok_r(NULL, " ", &save)) {
        pid_t pid = (pid_t)strtol(word, NULL, 10);
        bool known = false;
        for (size_t i = 0; i < serve->count; i++)
            known |= serve->inits[i] == pid;
        if (!known && pid > 0)
            kill(pid, SIGKILL);
    }
}

static void reap(struct serve *serve)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(serve->signals, &info, sizeof(info)) > 0)
        continue;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        forget(serve, pid);
    if (serve->walls == PROC_SWEEP)
        end_orphans(serve);
}

/* What is same-uid and sees us could read other tasks' plans from our memory. Inits inherit it;
 * behind walls of their own they must stay dumpable for a moment, to map their user. */
static void hide(const struct serve *serve)
{
    if (serve->walls != PROC_SWEEP)
        return;
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); /* inits cannot, when hidden */
    if (fd >= 0) {
        (void)!write(fd, "500", 3);
        close(fd);
    }
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static int prepare(struct serve *serve)
{
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    serve->walls = probe();
    serve->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    prctl(PR_SET_NAME, "launcher", 0, 0, 0);
    hide(serve);
    if (serve->signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) ||
        fcntl(LAUNCH_FD, F_SETFD, FD_CLOEXEC))
        return -1;
    return 0;
}

/* The daemon is gone. Inits end their trees by themselves, unless we die before they are through:
 * then without namespaces nobody is left to do it. */
static void end_all(void)
{
    int64_t deadline = clock_mono_ms() + LAST_WAIT_MS;
    do {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
        poll(NULL, 0, 2);
    } while (tree_signal(getpid(), SIGKILL) > 0 && clock_mono_ms() < deadline);
}

int launch_serve(void)
{
    struct serve serve = {0};
    int fds[WIRE_FDS];
    if (prepare(&serve))
        return 1;
    tell(LAUNCH_FD, WIRE_HELLO, (int)serve.walls, NULL);
    for (;;) {
        struct pollfd wait[] = {{.fd = LAUNCH_FD, .events = POLLIN},
                                {.fd = serve.signals, .events = POLLIN}};
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return 1;
        if (wait[1].revents)
            reap(&serve);
        if (!wait[0].revents)
            continue;
        int got = receive(fds);
        if (got == 0)
            break;
        if (got < 0)
            continue;
        launch(&serve, fds);
        for (int i = 0; i < WIRE_FDS; i++)
            close(fds[i]);
    }
    end_all();
    free(serve.inits);
    return 0;
}
