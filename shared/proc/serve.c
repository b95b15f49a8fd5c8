/* The launcher's main loop: see launch.h. */
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
#define CHILDREN_BYTES_MAX (1u << 20)

/* A running init, and its jail, which is closed when the init has ended. */
struct alive {
    pid_t pid;
    struct jail *jail;
};

struct serve {
    struct jail_host host;
    int signals;
    unsigned next; /* names of jails */
    struct alive *inits;
    size_t count;
    size_t room;
};

/* Clones like fork(), into new namespaces. This process has no threads. */
static pid_t clone_into(unsigned long flags)
{
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

static void tell(int fd, enum wire_type type, int value, const char *text)
{
    struct wire wire = {.type = type, .value = value};
    if (text)
        snprintf(wire.text, sizeof(wire.text), "%s", text);
    (void)!send(fd, &wire, sizeof(wire), MSG_NOSIGNAL);
}

static void greet(const struct jail_host *host)
{
    const struct wire_hello hello = {.wire = {.type = WIRE_HELLO}, .host = *host};
    (void)!send(LAUNCH_FD, &hello, sizeof(hello), MSG_NOSIGNAL);
}

/* Returns 1 with a request and its descriptors, 0 when the daemon is gone, -1 for a malformed
 * message. */
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
    for (size_t i = 0; i < count; i++) /* Some descriptors did not fit into this process's table. */
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

/* Takes ownership of the jail. */
static int remember(struct serve *serve, pid_t pid, struct jail *jail)
{
    if (serve->count == serve->room) {
        size_t room = serve->room ? serve->room * 2 : 64;
        struct alive *inits = realloc(serve->inits, room * sizeof(*inits));
        if (!inits)
            return -1;
        serve->inits = inits;
        serve->room = room;
    }
    serve->inits[serve->count++] = (struct alive){pid, jail};
    return 0;
}

/* Makes the jail; NULL after closing what was opened. */
static struct jail *make_jail(struct serve *serve, const struct plan *plan, struct err *err)
{
    char name[16];
    AUTO(jail)
    struct jail *jail = jail_new(&plan->jail, &serve->host, plan->uid, plan->gid, err);
    snprintf(name, sizeof(name), "%u", serve->next++);
    if (!jail || jail_open(jail, name, err) == 0)
        return STEAL_PTR(jail);
    jail_close(jail);
    return NULL;
}

/* Clones an init into the jail, which the launcher closes when the init has ended. */
static int start_init(struct serve *serve, const struct plan *plan, struct jail *jail,
                      const int fds[WIRE_FDS], struct err *err)
{
    pid_t pid = clone_into(jail_clone_flags(jail));
    if (pid == 0)
        init_run(plan, jail, fds);
    if (pid < 0)
        return err_set(err, ERR_INTERNAL, "clone: %s", strerror(errno));
    if (jail_parent(jail, pid, err) == 0 && remember(serve, pid, jail) == 0)
        return 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return -1;
}

static void launch(struct serve *serve, const int fds[WIRE_FDS])
{
    struct err err = ERR_INIT;
    AUTO(plan) struct plan *plan = read_plan(fds[WIRE_PLAN], &err);
    struct jail *jail = plan ? make_jail(serve, plan, &err) : NULL;
    if (jail && start_init(serve, plan, jail, fds, &err) == 0) {
        jail_release(jail);
        tell(fds[WIRE_CONTROL], WIRE_STARTED, 0, NULL);
        return;
    }
    tell(fds[WIRE_CONTROL], WIRE_FAILED, err.sys, err.msg);
    if (jail)
        jail_close(jail);
    jail_free(jail);
}

static void forget(struct serve *serve, pid_t pid)
{
    for (size_t i = 0; i < serve->count; i++) {
        if (serve->inits[i].pid == pid) {
            jail_close(serve->inits[i].jail);
            jail_free(serve->inits[i].jail);
            serve->inits[i] = serve->inits[--serve->count];
            return;
        }
    }
}

/* Ends the trees of killed inits, which fall to this process, the next sub-reaper. Any child that
 * is not a living init belongs to such a tree; they are killed until none is left. */
static void end_orphans(const struct serve *serve)
{
    struct err ignored;
    AUTO(buf) struct buf text = BUF_INIT(CHILDREN_BYTES_MAX);
    if (file_read("/proc/thread-self/children", &text, &ignored) || text.len == 0)
        return;
    for (char *save = NULL, *word = strtok_r(text.data, " ", &save); word;
         word = strtok_r(NULL, " ", &save)) {
        pid_t pid = (pid_t)strtol(word, NULL, 10);
        bool known = false;
        for (size_t i = 0; i < serve->count; i++)
            known |= serve->inits[i].pid == pid;
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
    if (!serve->host.has[JAIL_HAS_NAMESPACES])
        end_orphans(serve);
}

/* Makes this process undumpable: a process of the same user could otherwise read other tasks' plans
 * from its memory. Inits inherit this, except that behind walls of their own they stay dumpable for
 * a moment, to map their user. */
static void hide(const struct serve *serve)
{
    if (serve->host.has[JAIL_HAS_NAMESPACES])
        return;
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); /* Inits cannot do this once
                                                                      * they are hidden. */
    if (fd >= 0) {
        (void)!write(fd, "500", 3);
        close(fd);
    }
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* A daemon at real-time priority keeps that for itself. What it starts could otherwise hold every
 * processor, and the control groups of a kernel that rations real time would not take it. */
static void be_ordinary(void)
{
    int policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
    if (policy == SCHED_FIFO || policy == SCHED_RR)
        sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
}

static int prepare(struct serve *serve)
{
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    be_ordinary();
    jail_probe(&serve->host);
    jail_sweep();
    serve->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    prctl(PR_SET_NAME, "launcher", 0, 0, 0);
    hide(serve);
    if (serve->signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) ||
        fcntl(LAUNCH_FD, F_SETFD, FD_CLOEXEC))
        return -1;
    return 0;
}

/* The daemon is gone: waits for the inits to end their trees. If this process ended first, then
 * without namespaces nobody would be left to do it. */
static void end_all(struct serve *serve)
{
    int64_t deadline = clock_mono_ms() + LAST_WAIT_MS;
    pid_t pid;
    do {
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            forget(serve, pid);
        poll(NULL, 0, 2);
    } while (tree_signal(getpid(), SIGKILL) > 0 && clock_mono_ms() < deadline);
    while (serve->count > 0)
        forget(serve, serve->inits[serve->count - 1].pid);
}

int launch_serve(void)
{
    struct serve serve = {0};
    int fds[WIRE_FDS];
    if (prepare(&serve))
        return 1;
    greet(&serve.host);
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
    end_all(&serve);
    free(serve.inits);
    return 0;
}
