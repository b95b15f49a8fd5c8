/*
 * claude-python: the zygotes and their children; see ../python_wire.h.
 *
 * Theory of operation. A zygote has imported libraries and only waits for the daemon to ask for a
 * copy of it: a child, which is cloned into a jail and stands by until it is given code, or the
 * next larger zygote. A zygote runs no caller's code and holds no secret. It is the parent of its
 * children, so only it can report how they ended. The launcher's init holds the whole tree: when
 * one zygote dies, the daemon ends them all.
 */
#include "base/auto.h"
#include "base/fd.h"
#include "base/str.h"
#include "jail/jail.h"
#include "runner/python/inside/children.h"
#include "runner/python/inside/embed.h"
#include "runner/python/inside/walls.h"

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
#include <unistd.h>

struct zygote {
    int control;
    int signals;
    enum python_level level;
    struct children *children;
};

static void tell(const struct zygote *zygote, const struct zygote_wire *wire)
{
    (void)!send(zygote->control, wire, sizeof(*wire), MSG_NOSIGNAL);
}

static void tell_failed(const struct zygote *zygote, uint32_t id, const struct err *err)
{
    struct zygote_wire wire = {.type = ZYGOTE_FAILED, .id = id};
    snprintf(wire.text, sizeof(wire.text), "%s", err->msg);
    tell(zygote, &wire);
}

/* Returns 1 with a message and its descriptors (-1 where there is none), or 0 when the daemon is
 * gone. */
static int receive(int control, struct zygote_wire *wire, int fds[CHILD_FDS])
{
    union {
        char room[CMSG_SPACE(sizeof(int) * CHILD_FDS)];
        struct cmsghdr align;
    } ancillary;
    struct iovec part = {wire, sizeof(*wire)};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &ancillary,
                         .msg_controllen = sizeof(ancillary)};
    ssize_t n = recvmsg(control, &msg, MSG_CMSG_CLOEXEC);
    for (int i = 0; i < CHILD_FDS; i++)
        fds[i] = -1;
    struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (head && head->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(head), head->cmsg_len - CMSG_LEN(0));
    return n == (ssize_t)sizeof(*wire);
}

/* --- growing ------------------------------------------------------------------------------- */

static int begin(struct zygote *zygote, int control, enum python_level level, struct err *err)
{
    sigset_t set;
    struct zygote_wire hello = {.type = ZYGOTE_HELLO, .value = (int)level};
    AUTO(buf) struct buf missing = BUF_INIT(64u << 10);
    char name[16];
    zygote->control = control;
    zygote->level = level;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    zygote->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    zygote->children = children_new();
    if (zygote->signals < 0 || !zygote->children)
        return err_sys(err, "zygote");
    snprintf(name, sizeof(name), "zygote-%s", embed_level_name(level));
    prctl(PR_SET_NAME, name, 0, 0, 0);
    if (embed_load(level, &missing, err))
        return -1;
    snprintf(hello.text, sizeof(hello.text), "%s", buf_str(&missing));
    tell(zygote, &hello);
    return 0;
}

/* In the fork: keeps open only what the next level needs. */
static void become_next(struct zygote *zygote, int control, int level)
{
    struct err err;
    children_forget(zygote->children);
    fd_close(&zygote->signals);
    fd_close(&zygote->control);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (begin(zygote, control, (enum python_level)level, &err)) {
        tell_failed(zygote, 0, &err);
        _exit(1);
    }
}

static void grow(struct zygote *zygote, int control, int level)
{
    struct err err;
    if (control < 0 || level <= (int)zygote->level || level >= LEVEL_COUNT)
        return;
    embed_before_clone();
    pid_t pid = (pid_t)clone_process(0);
    if (pid == 0) {
        embed_after_clone_child();
        become_next(zygote, control, level);
        return; /* Continue in the loop of the new zygote. */
    }
    embed_after_clone_parent();
    if (pid < 0) {
        err_sys(&err, "cannot fork the zygote");
        tell_failed(zygote, 0, &err);
    }
}

/* --- children ------------------------------------------------------------------------------ */

static void start_child(struct zygote *zygote, const struct zygote_wire *wire,
                        const int fds[CHILD_FDS])
{
    struct err err;
    struct zygote_wire started = {.type = ZYGOTE_STARTED, .id = wire->id};
    if (fds[CHILD_STDERR] < 0) {
        err_set(&err, ERR_INTERNAL, "descriptors are missing");
        tell_failed(zygote, wire->id, &err);
    } else if (children_start(zygote->children, wire->id, wire->value, fds, &err)) {
        tell_failed(zygote, wire->id, &err);
    } else {
        tell(zygote, &started);
    }
}

static void limit_child(struct zygote *zygote, struct zygote_wire *wire)
{
    struct err err;
    if (children_limit(zygote->children, wire->id, wire->value, &err))
        tell_failed(zygote, wire->id, &err);
    else
        tell(zygote, wire);
}

static void obey(struct zygote *zygote, struct zygote_wire *wire, int fds[CHILD_FDS])
{
    switch (wire->type) {
    case ZYGOTE_CHILD:
        start_child(zygote, wire, fds);
        break;
    case ZYGOTE_LIMIT:
        limit_child(zygote, wire);
        break;
    case ZYGOTE_NAME:
        jail_name_after((pid_t)wire->value);
        break;
    case ZYGOTE_KILL:
        children_signal(zygote->children, wire->id, SIGKILL);
        break;
    case ZYGOTE_STOP:
        children_signal(zygote->children, wire->id, SIGTERM);
        break;
    case ZYGOTE_INTERRUPT:
        children_signal(zygote->children, wire->id, SIGINT);
        break;
    case ZYGOTE_GROW: {
        int control = fds[CHILD_CONTROL];
        fds[CHILD_CONTROL] = -1;
        pid_t before = getpid();
        grow(zygote, control, wire->value);
        if (getpid() == before)
            fd_close(&control);
        break;
    }
    default:
        break;
    }
    for (int i = 0; i < CHILD_FDS; i++)
        fd_close(&fds[i]);
}

static void reap(struct zygote *zygote)
{
    struct signalfd_siginfo info;
    struct zygote_wire wire;
    while (read(zygote->signals, &info, sizeof(info)) > 0)
        continue;
    while (children_reap(zygote->children, &wire)) {
        tell(zygote, &wire);
        children_tidy(zygote->children);
    }
}

static int serve(struct zygote *zygote)
{
    int fds[CHILD_FDS];
    struct zygote_wire wire;
    for (;;) {
        struct pollfd wait[] = {{.fd = zygote->control, .events = POLLIN},
                                {.fd = zygote->signals, .events = POLLIN}};
        if (poll(wait, 2, children_look(zygote->children)) < 0 && errno != EINTR)
            return 1;
        if (wait[1].revents)
            reap(zygote);
        if (!wait[0].revents)
            continue;
        if (!receive(zygote->control, &wire, fds))
            return 0;
        obey(zygote, &wire, fds);
    }
}

#if defined(__SANITIZE_ADDRESS__)
/* As without the sanitizer, which ends the process: Python makes a MemoryError of NULL. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
#endif

/* claude-python TIER UID GID */
int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct zygote zygote = {.control = -1, .signals = -1};
    int64_t uid, gid;
    sigset_t set;
    if (argc != 4 || str_to_int(argv[2], 0, UINT32_MAX, &uid) ||
        str_to_int(argv[3], 0, UINT32_MAX, &gid)) {
        fputs("claude-python is started by claude-runner\n", stderr);
        return 2;
    }
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    int control = fcntl(ZYGOTE_FD, F_DUPFD_CLOEXEC, 3);
    zygote.control = control;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (control < 0 || null < 0 || dup2(null, 0) < 0)
        return 1;
    fd_close(&null);
    if (walls_prepare(argv[1], (uid_t)uid, (gid_t)gid, &err) || embed_start(&err) ||
        begin(&zygote, control, LEVEL_BARE, &err)) {
        tell_failed(&zygote, 0, &err);
        return 1;
    }
    return serve(&zygote);
}
