/* Less known doors of the kernel: protocols, terminals, watches, descriptors that are passed on,
 * and what is on disk without a name. */
#include "tricks.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MIB (1u << 20)
#define DISK_MIB 200 /* the jail's disk is 60 MiB */

static char block[MIB];

/* Protocols that are modules of the kernel. */
static void odd_protocols(void)
{
    static const int protocols[] = {
        132 /* SCTP */, 33 /* DCCP */, 136 /* UDP lite */, 262 /* MPTCP */, 2, 47, 50, 255, 256};
    for (int family = 0; family < 2; family++)
        for (int type = 1; type < 7; type++)
            for (size_t i = 0; i < sizeof(protocols) / sizeof(*protocols); i++)
                never("a socket of an odd protocol",
                      socket(family ? AF_INET6 : AF_INET, type, protocols[i]));
    never("a socket of packets in sequence", socket(AF_INET, SOCK_SEQPACKET, 0));
}

static void layers_over_tcp(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    errno = 0;
    if (fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) && errno != EPERM)
        escaped("the kernel was asked for a layer");
}

static void line_disciplines(void)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY);
    for (int which = 1; which < 30 && fd >= 0; which++)
        never("a line discipline", ioctl(fd, TIOCSETD, &which));
}

/* Sends by one end of a pair, which has no need to connect. */
static void datagrams_by_a_pair(void)
{
    static const char *const paths[] = {"/dev/log", "/run/systemd/journal/socket",
                                        "/run/systemd/notify"};
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
        return;
    snprintf(to.sun_path, sizeof(to.sun_path), "%s", house_path("DGRAM"));
    never("a datagram", sendto(pair[0], "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
    never("a connection", connect(pair[0], (struct sockaddr *)&to, sizeof(to)));
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        snprintf(to.sun_path, sizeof(to.sun_path), "%s", paths[i]);
        never(paths[i], sendto(pair[0], "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
    }
}

static void watch_the_house(void)
{
    int fd = inotify_init1(IN_CLOEXEC);
    never("a watch", inotify_add_watch(fd, house_path("DIR"), IN_ALL_EVENTS));
    never("a watch of a file", inotify_add_watch(fd, house_path("PRECIOUS"), IN_ALL_EVENTS));
}

/* --- what is on disk without a name ---------------------------------------------------------- */

static int fill(int mib)
{
    int fd = open("big", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    unlink("big");
    for (int i = 0; i < mib; i++)
        if (fd < 0 || write(fd, block, MIB) != MIB)
            return -1;
    return fd;
}

static void stay(const char *what)
{
    sleep(10); /* long enough for whoever polls */
    escaped(what);
}

static void removed_file(void)
{
    if (fill(DISK_MIB) >= 0)
        stay("a file without a name");
}

static void removed_files_of_children(void)
{
    int ends[2], done = 0;
    char full;
    if (pipe(ends))
        return;
    for (int i = 0; i < 5; i++)
        if (fork() == 0) {
            if (fill(DISK_MIB / 5) >= 0)
                (void)!write(ends[1], "f", 1);
            sleep(30);
            _exit(0);
        }
    close(ends[1]);
    while (done < 5 && read(ends[0], &full, 1) == 1)
        done++;
    if (done == 5)
        stay("files of children without a name");
}

static void temporary_file(void)
{
    int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    for (int i = 0; i < DISK_MIB; i++)
        if (fd < 0 || write(fd, block, MIB) != MIB)
            return;
    stay("a file that never had a name");
}

static void far_below(void)
{
    for (int i = 0; i < 400; i++)
        if (mkdir("d", 0700) || chdir("d"))
            return;
    int fd = open("big", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (int i = 0; i < DISK_MIB; i++)
        if (fd < 0 || write(fd, block, MIB) != MIB)
            return;
    stay("a file far below");
}

static void reserved(void)
{
    int fd = open("big", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && fallocate(fd, 1 /* keeps the size */, 0, (off_t)DISK_MIB * MIB) == 0)
        stay("reserved blocks");
}

/* --- what the kernel keeps for a program ------------------------------------------------------ */

static void timers(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    timer_t timer;
    for (int i = 0; i < 200000; i++)
        if (timer_create(CLOCK_MONOTONIC, &event, &timer))
            return;
    escaped("timers without an end");
}

static void signals_that_wait(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int i = 0; i < 200000; i++)
        if (sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}))
            return;
    escaped("signals without an end");
}

static void signals_for_init(void)
{
    for (int i = 0; i < 100000; i++) {
        kill(1, SIGRTMIN + i % 20);
        kill(getppid(), SIGUSR1 + i % 2);
        kill(1, SIGCHLD);
    }
}

/* Descriptors that nobody has open: they wait in sockets, in a circle. */
static void descriptors_in_flight(void)
{
    for (int i = 0; i < 300; i++) {
        char control[CMSG_SPACE(2 * sizeof(int))] = {0};
        struct iovec io = {(char[]){"x"}, 1};
        struct msghdr message = {.msg_iov = &io,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof(control)};
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
            return;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(pair));
        memcpy(CMSG_DATA(head), pair, sizeof(pair));
        (void)sendmsg(pair[0], &message, MSG_DONTWAIT);
        (void)sendmsg(pair[1], &message, MSG_DONTWAIT);
        close(pair[0]);
        close(pair[1]);
    }
}

/* Says that it is somebody else, to whoever asks a socket. */
static void forged_credentials(void)
{
    char control[CMSG_SPACE(sizeof(struct ucred))] = {0};
    struct iovec io = {(char[]){"x"}, 1};
    struct msghdr message = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    const struct ucred root = {.pid = 1, .uid = 0, .gid = 0};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_CREDENTIALS;
    head->cmsg_len = CMSG_LEN(sizeof(root));
    memcpy(CMSG_DATA(head), &root, sizeof(root));
    never("forged credentials", sendmsg(pair[0], &message, 0));
}

/* Takes over the orphans below it, and ends while they run. */
static void reaper_of_its_own(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    for (int i = 0; i < 8; i++)
        if (fork() == 0) {
            setsid();
            prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
            if (fork() != 0)
                _exit(0);
            prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
            prctl(PR_SET_NAME, "kworker/0:0", 0, 0, 0);
            prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
            for (int s = 1; s < 65; s++)
                signal(s, SIG_IGN);
            for (;;)
                sleep(100);
        }
    usleep(50000);
}

const struct trick kernel_tricks[] = {
    {"odd-protocols", odd_protocols},
    {"layers-over-tcp", layers_over_tcp},
    {"line-disciplines", line_disciplines},
    {"datagrams-by-a-pair", datagrams_by_a_pair},
    {"watch-the-house", watch_the_house},
    {"removed-file", removed_file},
    {"removed-files-of-children", removed_files_of_children},
    {"temporary-file", temporary_file},
    {"far-below", far_below},
    {"reserved", reserved},
    {"timers", timers},
    {"signals-that-wait", signals_that_wait},
    {"signals-for-init", signals_for_init},
    {"descriptors-in-flight", descriptors_in_flight},
    {"forged-credentials", forged_credentials},
    {"reaper-of-its-own", reaper_of_its_own},
    {NULL, NULL},
};
