/*
 * System calls that are denied. Whatever is not named here is allowed, because a list of allowed
 * calls could not keep up with programs and C libraries. A denied call fails with EPERM; only calls
 * of another architecture kill.
 */
#include "jail/jail_private.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEW_NAMESPACES                                                                            \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
     CLONE_NEWNET | 0x00000080 /* CLONE_NEWTIME */)

/* By name: names that this machine's architecture lacks are skipped. */
static const char *const denied[] = {
    /* Memory of other processes, and the kernel's key store. */
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "process_mrelease",
    "kcmp",
    "pidfd_getfd",
    "keyctl",
    "add_key",
    "request_key",
    "lookup_dcookie",
    /* Large attack surfaces that tasks do not need. */
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "fanotify_init",
    "fanotify_mark",
    "modify_ldt",
    "vm86",
    "vm86old",
    "remap_file_pages",
    "mbind",
    "move_pages",
    "migrate_pages",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "personality",
    "vhangup",
    "uselib",
    "ustat",
    "sysfs",
    "_sysctl",
    "nfsservctl",
    "memfd_secret",
    /* mounts and namespaces */
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "unshare",
    "setns",
    "open_tree",
    "open_tree_attr",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "listmount",
    "statmount",
    "open_by_handle_at",
    "name_to_handle_at",
    /* the machine */
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "reboot",
    "swapon",
    "swapoff",
    "quotactl",
    "quotactl_fd",
    "acct",
    "settimeofday",
    "stime",
    "clock_settime",
    "clock_settime64",
    "clock_adjtime",
    "clock_adjtime64",
    "adjtimex",
    "syslog",
    "iopl",
    "ioperm",
    "sethostname",
    "setdomainname",
    "lsm_set_self_attr",
    "listns",
};

/* Python runs start no programs and use no network. */
static const char *const denied_to_python[] = {
    "execve",
    "execveat",
    "fork",
    "vfork",
    "socket",
    "socketpair",
    "socketcall",
    "connect",
    "bind",
    "listen",
    "accept",
    "accept4",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "shutdown",
    "getsockname",
    "getpeername",
    "setsockopt",
    "getsockopt",
    "memfd_create",
    "shmget",
    "shmat",
    "shmctl",
    "shmdt",
    "semget",
    "semop",
    "semctl",
    "semtimedop",
    "semtimedop_time64",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
    "mq_open",
    "mq_unlink",
    "mq_timedsend",
    "mq_timedreceive",
    "mq_notify",
    "mq_getsetattr",
    "ipc",
    "inotify_init",
    "inotify_init1",
    "inotify_add_watch",
    "setsid",
    "prctl",
    "pidfd_open",
    "pidfd_send_signal",
};

/* Where other processes can be named, a run signals nobody, not even itself. */
static const char *const denied_to_python_among_others[] = {
    "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
};

/* Without an ipc namespace a task's segments would remain for the next task. */
static const char *const denied_without_ipc[] = {
    "shmget", "shmat", "shmctl", "semget", "semctl", "msgget", "msgctl", "mq_open", "ipc",
};

/* Calls that reach another process of the same user, which no namespace hides: the argument that
 * names the process must be 0, the caller itself. */
static const struct {
    const char *name;
    unsigned argument;
} own_only[] = {
    {"prlimit64", 0},      {"sched_setaffinity", 0}, {"sched_setscheduler", 0},
    {"sched_setparam", 0}, {"sched_setattr", 0},     {"setpriority", 1},
    {"ioprio_set", 1},
};

/* The same calls for all processes of a user at once: argument 0 says so. */
static const struct {
    const char *name;
    unsigned of_user;
} not_of_user[] = {{"setpriority", PRIO_USER}, {"ioprio_set", 3 /* IOPRIO_WHO_USER */}};

#define SEGMENT_BYTES_MAX (64u << 10)

/* What the filter is for: a program, Python; in which tier; alone in its namespaces or not; whether
 * its memory is counted by whoever looks at its processes, as there is no control group. */
enum { KIND_PYTHON = 1, KIND_RESTRICTED = 2, KIND_NOT_ALONE = 4, KIND_WATCHED = 8, KINDS = 16 };

static struct {
    struct sock_filter *code;
    unsigned short len;
} compiled[KINDS];

static int deny_all(scmp_filter_ctx ctx, const char *const names[], size_t count, int error)
{
    for (size_t i = 0; i < count; i++) {
        int nr = seccomp_syscall_resolve_name(names[i]);
        if (nr == __NR_SCMP_ERROR)
            continue; /* Newer than the library, or of another architecture. */
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)error), nr, 0);
        if (rc && rc != -EDOM && rc != -EEXIST)
            return rc;
    }
    return 0;
}

/* Numbers of calls that are newer than the library. They are the same on all architectures. */
static int deny_young(scmp_filter_ctx ctx)
{
    static const struct {
        const char *name;
        int nr;
    } young[] = {
        {"quotactl_fd", 443},
        {"memfd_secret", 447},
        {"process_mrelease", 448},
        {"cachestat", -1},
        {"set_mempolicy_home_node", 450},
        {"statmount", 457},
        {"listmount", 458},
        {"lsm_set_self_attr", 460},
        {"open_tree_attr", 467},
        {"listns", 470},
    };
    for (size_t i = 0; i < COUNT_OF(young); i++) {
        if (young[i].nr < 0 || seccomp_syscall_resolve_name(young[i].name) != __NR_SCMP_ERROR)
            continue;
        int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), young[i].nr, 0);
        if (rc && rc != -EDOM)
            return rc;
    }
    return 0;
}

/* clone() shows its flags. clone3() hides them behind a pointer, so it is denied as unknown and
 * libc falls back to clone(). */
static int deny_namespaces(scmp_filter_ctx ctx, bool threads_only)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    for (unsigned bit = 1; rc == 0 && bit; bit <<= 1)
        if (NEW_NAMESPACES & bit)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                  SCMP_A0(SCMP_CMP_MASKED_EQ, bit, bit));
    if (rc == 0 && threads_only)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
    return rc;
}

/* Denies input to the terminal as if it had been typed, the console's menus, and line disciplines,
 * which the kernel would load. */
static int deny_terminals(scmp_filter_ctx ctx)
{
    static const unsigned long calls[] = {TIOCSTI, TIOCLINUX, TIOCSETD};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < COUNT_OF(calls); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffUL, calls[i]));
    return rc;
}

/* A comparison with one value; the library's own macros leave a field unset. */
static struct scmp_arg_cmp compare(unsigned argument, enum scmp_compare op, scmp_datum_t datum)
{
    return (struct scmp_arg_cmp){.arg = argument, .op = op, .datum_a = datum, .datum_b = 0};
}

#define PROTOCOL_LAST IPPROTO_ICMPV6 /* the highest that is allowed */
#define TYPE_MASK 0xfU

/* Values that are denied: those whose bits in `mask` are `value`. Few of these, because the kernel
 * compiles the filter anew for each jail. */
struct range {
    unsigned mask, value;
};

/* The types of sockets, but SOCK_STREAM and SOCK_DGRAM: 0, 3, 4 to 7, 8 to 15. */
static const struct range denied_types[] = {{TYPE_MASK, 0}, {TYPE_MASK, 3}, {0xc, 0x4}, {0x8, 0x8}};

/* The protocols up to PROTOCOL_LAST, but 0, 1 (ICMP), 6 (TCP), 17 (UDP) and 58 (ICMPv6): 2 to 3, 4
 * to 5, 7, 8 to 15, 16, 18 to 19, 20 to 23, 24 to 31, 32 to 47, 48 to 55, 56 to 57. */
static const struct range denied_protocols[] = {{~1U, 2},   {~1U, 4},  {~0U, 7},  {~7U, 8},
                                                {~0U, 16},  {~1U, 18}, {~3U, 20}, {~7U, 24},
                                                {~15U, 32}, {~7U, 48}, {~1U, 56}};

/* Denies the socket() calls of a family whose argument compares so. */
static int deny_of_family(scmp_filter_ctx ctx, unsigned family, struct scmp_arg_cmp which)
{
    return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 2,
                            compare(0, SCMP_CMP_EQ, family), which);
}

/* Of the internet's protocols, TCP, UDP and the echo of ICMP: others (SCTP, DCCP, MPTCP, …) are
 * modules that a program could make the kernel load, as are upper layers of TCP. */
static int deny_protocols(scmp_filter_ctx ctx)
{
    static const unsigned families[] = {AF_INET, AF_INET6};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < COUNT_OF(families); i++) {
        for (size_t k = 0; rc == 0 && k < COUNT_OF(denied_types); k++)
            rc = deny_of_family(
                ctx, families[i],
                SCMP_A1(SCMP_CMP_MASKED_EQ, denied_types[k].mask, denied_types[k].value));
        for (size_t k = 0; rc == 0 && k < COUNT_OF(denied_protocols); k++)
            rc = deny_of_family(
                ctx, families[i],
                SCMP_A2(SCMP_CMP_MASKED_EQ, denied_protocols[k].mask, denied_protocols[k].value));
        if (rc == 0)
            rc = deny_of_family(ctx, families[i], compare(2, SCMP_CMP_GT, PROTOCOL_LAST));
    }
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(setsockopt), 2,
                              compare(1, SCMP_CMP_EQ, IPPROTO_TCP),
                              compare(2, SCMP_CMP_EQ, TCP_ULP));
    return rc;
}

/* What Landlock does not stop: a datagram socket of a pair sends to any socket that has a path, and
 * a watch tells the names in any directory. Programs know the error, and look now and then. */
static int deny_ways_past_landlock(scmp_filter_ctx ctx)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socketpair), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, SOCK_DGRAM));
    return rc ? rc : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSPC), SCMP_SYS(inotify_add_watch), 0);
}

/* Allows local and internet sockets only, and no raw ones. In tier restricted local sockets only as
 * pairs, because Landlock does not stop a program from connecting to those that have a path. */
static int deny_sockets(scmp_filter_ctx ctx, bool local_too)
{
    int rc = 0;
    for (unsigned family = 0; rc == 0 && family < AF_INET6; family++)
        if ((family != AF_UNIX || local_too) && family != AF_INET)
            rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                                  compare(0, SCMP_CMP_EQ, family));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                              compare(0, SCMP_CMP_GT, AF_INET6));
    if (rc == 0 && local_too)
        rc = deny_ways_past_landlock(ctx);
    return rc ? rc : deny_protocols(ctx);
}

static int deny_others(scmp_filter_ctx ctx)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < COUNT_OF(own_only); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM),
                              seccomp_syscall_resolve_name(own_only[i].name), 1,
                              compare(own_only[i].argument, SCMP_CMP_NE, 0));
    for (size_t i = 0; rc == 0 && i < COUNT_OF(not_of_user); i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM),
                              seccomp_syscall_resolve_name(not_of_user[i].name), 1,
                              compare(0, SCMP_CMP_EQ, not_of_user[i].of_user));
    return rc;
}

/* Memory that no process has mapped is nowhere to be seen: files in memory, as on a kernel without
 * them, and large segments. */
static int deny_unseen_memory(scmp_filter_ctx ctx, bool segments_too)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(memfd_create), 0);
    if (rc == 0 && segments_too)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSPC), SCMP_SYS(shmget), 1,
                              compare(1, SCMP_CMP_GT, SEGMENT_BYTES_MAX));
    return rc == -EDOM ? 0 : rc;
}

static int add_rules(scmp_filter_ctx ctx, int kind)
{
    const bool python = kind & KIND_PYTHON;
    seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    int rc = deny_all(ctx, denied, COUNT_OF(denied), EPERM);
    if (rc == 0)
        rc = deny_young(ctx);
    if (rc == 0)
        rc = deny_namespaces(ctx, python);
    if (rc == 0)
        rc = deny_terminals(ctx);
    if (rc == 0 && python)
        rc = deny_all(ctx, denied_to_python, COUNT_OF(denied_to_python), EPERM);
    if (rc == 0 && python && kind & KIND_NOT_ALONE)
        rc = deny_all(ctx, denied_to_python_among_others, COUNT_OF(denied_to_python_among_others),
                      EPERM);
    if (rc == 0 && !python)
        rc = deny_sockets(ctx, kind & KIND_RESTRICTED);
    if (rc == 0 && kind & KIND_NOT_ALONE)
        rc = deny_others(ctx);
    if (rc == 0 && kind & KIND_NOT_ALONE && !python)
        rc = deny_all(ctx, denied_without_ipc, COUNT_OF(denied_without_ipc), EPERM);
    if (rc == 0 && kind & KIND_WATCHED && !python)
        rc = deny_unseen_memory(ctx, !(kind & KIND_NOT_ALONE));
    return rc;
}

static int compile(int kind)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    AUTO(fd) int fd = memfd_create("filter", MFD_CLOEXEC);
    if (!ctx || fd < 0)
        return -1;
    int rc = add_rules(ctx, kind);
    if (rc == 0)
        rc = seccomp_export_bpf(ctx, fd);
    seccomp_release(ctx);
    if (rc) {
        errno = -rc;
        return -1;
    }
    off_t size = lseek(fd, 0, SEEK_END);
    compiled[kind].code = malloc((size_t)size);
    if (!compiled[kind].code ||
        fd_pread_full(fd, compiled[kind].code, (size_t)size, 0) != (ssize_t)size)
        return -1;
    compiled[kind].len = (unsigned short)((size_t)size / sizeof(struct sock_filter));
    return 0;
}

static int kind_of(const struct jail *jail)
{
    return (jail->filter == JAIL_FILTER_PYTHON ? KIND_PYTHON : 0) |
           (jail->tier == JAIL_RESTRICTED ? KIND_RESTRICTED : 0) |
           (jail->namespaces ? 0 : KIND_NOT_ALONE) |
           (jail->policy.memory_mb > 0 && !jail->host.has[JAIL_HAS_MEMORY] ? KIND_WATCHED : 0);
}

int filter_prepare(const struct jail *jail, struct err *err)
{
    int kind = kind_of(jail);
    return compiled[kind].code || compile(kind) == 0 ? 0 : err_sys(err, "jail: system-call filter");
}

int filter_apply(const struct jail *jail, struct err *err)
{
    int kind = kind_of(jail);
    const struct sock_fprog program = {compiled[kind].len, compiled[kind].code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)
               ? jail_fail(err, "system-call filter")
               : 0;
}
