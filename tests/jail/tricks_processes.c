/* Other processes, users, keys, sockets, other ways to make a system call. */
#include "tricks.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

/* None of it may reach the outsider: that one is looked at afterwards. */
static void signal_an_outsider(void)
{
    pid_t pid = (pid_t)house_number("PID");
    siginfo_t info = {.si_signo = SIGKILL, .si_code = SI_QUEUE};
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0)
        never("a signal by descriptor", syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    never("a signal", kill(pid, SIGKILL));
    never("a signal to the group", kill(-pid, SIGKILL));
    never("a signal to a thread", syscall(SYS_tgkill, pid, pid, SIGKILL));
    never("a signal to any thread", syscall(SYS_tkill, pid, SIGKILL));
    never("a queued signal", syscall(SYS_rt_sigqueueinfo, pid, SIGKILL, &info));
    never("a queued signal to a thread", syscall(SYS_rt_tgsigqueueinfo, pid, pid, SIGKILL, &info));
}

/* The kernel sends the signal, when a descriptor becomes readable. */
static void signal_by_descriptor_owner(void)
{
    int ends[2];
    if (pipe(ends))
        return;
    (void)fcntl(ends[0], F_SETSIG, SIGKILL);
    (void)fcntl(ends[0], F_SETOWN, (int)house_number("PID"));
    (void)fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK);
    (void)!write(ends[1], "x", 1);
    (void)fcntl(ends[0], F_SETOWN, -(int)house_number("PID"));
    (void)!write(ends[1], "x", 1);
    (void)fcntl(ends[0], F_SETOWN, (int)house_number("INIT"));
    (void)!write(ends[1], "x", 1);
}

/* Everybody of the same user, which a jail may share with others. */
static void priority_of_all(void)
{
    (void)setpriority(PRIO_USER, 0, 19);
    (void)setpriority(PRIO_USER, geteuid(), 19);
    (void)setpriority(PRIO_PGRP, (id_t)house_number("PID"), 19);
    (void)syscall(SYS_ioprio_set, 3 /* of a user */, 0, 3 << 13);
    (void)syscall(SYS_ioprio_set, 3, geteuid(), 3 << 13);
    (void)syscall(SYS_ioprio_set, 2, house_number("PID"), 3 << 13);
}

static void write_to(const char *file, const char *text)
{
    char path[80];
    snprintf(path, sizeof(path), "/proc/%ld/%s", house_number("PID"), file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, text, strlen(text)) > 0)
        escaped(path);
    if (fd >= 0)
        close(fd);
}

static void settings_of_an_outsider(void)
{
    write_to("oom_score_adj", "1000");
    write_to("oom_adj", "15");
    write_to("comm", "evil");
    write_to("coredump_filter", "0xff");
    write_to("clear_refs", "1");
    write_to("autogroup", "19");
    write_to("timerslack_ns", "1");
    write_to("attr/current", "x");
    write_to("uid_map", "0 0 1");
    write_to("projid_map", "0 0 1");
    write_to("mem", "x");
}

static void memory_of_an_outsider(void)
{
    char room[64], path[64];
    struct iovec here = {room, sizeof(room)}, there = {(void *)0x400000, sizeof(room)};
    const long who[] = {house_number("PID"), house_number("INIT"), 1, getppid()};
    for (size_t i = 0; i < sizeof(who) / sizeof(*who); i++) {
        never("memory was read", process_vm_readv((pid_t)who[i], &here, 1, &there, 1, 0));
        never("memory was written", process_vm_writev((pid_t)who[i], &here, 1, &there, 1, 0));
        never("seized", syscall(SYS_ptrace, 0x4206, who[i], 0, 0));
        snprintf(path, sizeof(path), "/proc/%ld/mem", who[i]);
        if (may_open(path, O_RDWR) || may_open(path, O_RDONLY))
            escaped(path);
    }
}

static void somebody_else(void)
{
    const gid_t root = 0;
    never("setuid", setuid(0));
    never("setreuid", setreuid(0, 0));
    never("setresuid", setresuid(0, 0, 0));
    never("setgid", setgid(0));
    never("setresgid", setresgid(0, 0, 0));
    never("setgroups", syscall(SYS_setgroups, 1, &root));
    syscall(SYS_setfsuid, 0);
    if (syscall(SYS_setfsuid, -1) == 0 && geteuid() != 0)
        escaped("setfsuid");
    never("the neighbour's user", setresuid(1, 1, 1));
    never("a bit that lets capabilities stay", prctl(PR_SET_SECUREBITS, 0x10, 0, 0, 0));
}

static void keys(void)
{
    /* of the process, the session, the user, the user's session; any key by its number */
    for (long ring = -1; ring >= -8; ring--)
        never("a keyring", syscall(SYS_keyctl, 0, ring, 0, 0, 0));
    never("a key", syscall(SYS_add_key, "user", "hostile", "x", 1, -4));
    never("joining a session", syscall(SYS_keyctl, 1, "hostile", 0, 0, 0));
    never("a key's search", syscall(SYS_keyctl, 10, -4, "user", "hostile", 0));
    for (long key = 1; key < 50; key++)
        never("a key by its number", syscall(SYS_keyctl, 6, key, NULL, 0, 0));
}

/* All that listen with a name but no file, as the kernel lists them. */
static void every_abstract_socket(void)
{
    char line[512], *name;
    FILE *list = fopen("/proc/net/unix", "re");
    while (list && fgets(line, sizeof(line), list)) {
        if (!(name = strchr(line, '@')))
            continue;
        size_t len = strcspn(name, "\n");
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        if (len > sizeof(to.sun_path))
            continue;
        memcpy(to.sun_path, name, len);
        to.sun_path[0] = '\0';
        for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type += SOCK_SEQPACKET - SOCK_STREAM) {
            int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            if (fd >= 0)
                never(name, connect(fd, (struct sockaddr *)&to,
                                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)));
            if (fd >= 0)
                close(fd);
        }
    }
    if (list)
        fclose(list);
}

/* Datagrams need no connection, and may carry descriptors. */
static void datagram_to_the_house(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    snprintf(to.sun_path, sizeof(to.sun_path), "%s", house_path("SOCKET"));
    never("a datagram", sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
    snprintf(to.sun_path, sizeof(to.sun_path), "/dev/log");
    never("the house's log", sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
    snprintf(to.sun_path, sizeof(to.sun_path), "/run/systemd/notify");
    never("systemd", sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)));
}

static void every_family(void)
{
    for (int family = 0; family < 64; family++)
        for (int type = 1; type < 11; type++) {
            if (family == AF_UNIX ||
                ((family == AF_INET || family == AF_INET6) && type != SOCK_RAW && type < 10))
                continue;
            int fd = socket(family, type, 0);
            if (fd >= 0) {
                printf("family %d type %d\n", family, type);
                escaped("a socket of another kind");
                close(fd);
            }
        }
}

static void house_segments(void)
{
    int id = (int)house_number("SHM");
    struct shmid_ds ds;
    never("a segment's state", shmctl(id, IPC_STAT, &ds));
    never("a segment's state for all", shmctl(id, 15 /* SHM_STAT_ANY */, &ds));
    never("a segment was removed", shmctl(id, IPC_RMID, NULL));
    never("a segment was locked", shmctl(id, SHM_LOCK, NULL));
    if (shmat(id, NULL, 0) != (void *)-1)
        escaped("a segment was attached");
}

/* Its name is the run's, so that what is found can only be left by another. */
static void queue(int flags)
{
    mqd_t queue = mq_open(house_path("QUEUE"), flags, 0666, NULL);
    if (queue != (mqd_t)-1 && !(flags & O_CREAT))
        escaped("a queue was left");
}

static void leave_a_queue(void)
{
    queue(O_CREAT | O_RDWR);
}

static void find_a_queue(void)
{
    queue(O_RDONLY);
}

#ifdef __x86_64__
static long call_32(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

/* The filter knows this architecture's numbers: others' must not run at all. */
static void calls_of_32_bits(void)
{
    long got = call_32(20 /* getpid */, 0, 0, 0);
    if (got > 0)
        escaped("another architecture's call");
}

static void calls_of_x32(void)
{
    never("an x32 call", syscall(0x40000000L + SYS_getpid));
    never("an x32 ptrace", syscall(0x40000000L + 521, 16, 1, 0, 0));
}
#else
static void calls_of_32_bits(void)
{
}
static void calls_of_x32(void)
{
}
#endif

/* Runs from everybody who kills by a list: each process is there for a moment only. */
static void runaway(void)
{
    for (int i = 0; i < 64; i++)
        signal(i, SIG_IGN);
    setsid();
    for (;;) {
        pid_t pid = fork();
        if (pid > 0)
            _exit(0);
        if (pid == 0)
            setsid();
    }
}

static void daemons(void)
{
    for (int i = 0; i < 5; i++) {
        if (fork() != 0)
            continue;
        setsid();
        if (fork() != 0)
            _exit(0);
        for (int sig = 1; sig < 64; sig++)
            signal(sig, SIG_IGN);
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        prctl(PR_SET_NAME, "task-init", 0, 0, 0);
        closefrom(0);
        for (;;)
            pause();
    }
}

const struct trick process_tricks[] = {
    {"signal-an-outsider", signal_an_outsider},
    {"signal-by-descriptor-owner", signal_by_descriptor_owner},
    {"priority-of-all", priority_of_all},
    {"settings-of-an-outsider", settings_of_an_outsider},
    {"memory-of-an-outsider", memory_of_an_outsider},
    {"somebody-else", somebody_else},
    {"keys", keys},
    {"every-abstract-socket", every_abstract_socket},
    {"datagram-to-the-house", datagram_to_the_house},
    {"every-family", every_family},
    {"house-segments", house_segments},
    {"leave-a-queue", leave_a_queue},
    {"find-a-queue", find_a_queue},
    {"calls-of-32-bits", calls_of_32_bits},
    {"calls-of-x32", calls_of_x32},
    {"runaway", runaway},
    {"daemons", daemons},
    {NULL, NULL},
};
