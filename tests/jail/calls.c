/*
 * Inside a jail: makes every system call that a jail denies, with arguments that would do something
 * where it may be made. `calls` prints a line "OPEN name: outcome" for each that is not denied, and
 * at the end how many were denied. `calls python` also makes those that Python runs lose.
 *
 * Denied means EPERM or ENOSYS: any other error comes from inside of the call.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static int denied, open_calls;
static char room[4096];
#define TEXT(s) ((long)(s))

/* The same number on all architectures, younger than the headers. */
#define NR_LISTMOUNT 458
#define NR_STATMOUNT 457
#define NR_OPEN_TREE_ATTR 467
#define NR_MEMFD_SECRET 447

struct call {
    const char *name;
    long nr;
    long args[6];
};

static const struct call calls[] = {
    {"ptrace", SYS_ptrace, {16 /* ATTACH */, 1}},
    {"ptrace_traceme", SYS_ptrace, {0}},
    {"process_vm_readv", SYS_process_vm_readv, {1, TEXT(room), 0, TEXT(room), 0, 0}},
    {"process_vm_writev", SYS_process_vm_writev, {1, TEXT(room), 0, TEXT(room), 0, 0}},
    {"process_madvise", SYS_process_madvise, {-1, TEXT(room), 0, 0, 0}},
    {"kcmp", SYS_kcmp, {1, 1, 0, 0, 0}},
    {"pidfd_getfd", SYS_pidfd_getfd, {-1, 0, 0}},
    {"keyctl", SYS_keyctl, {0 /* GET_KEYRING_ID */, -3, 0}},
    {"add_key", SYS_add_key, {TEXT("user"), TEXT("x"), TEXT("y"), 1, -2}},
    {"request_key", SYS_request_key, {TEXT("user"), TEXT("x"), 0, 0}},
    {"bpf", SYS_bpf, {0, TEXT(room), 64}},
    {"perf_event_open", SYS_perf_event_open, {TEXT(room), 0, -1, -1, 0}},
    {"userfaultfd", SYS_userfaultfd, {1}},
    {"io_uring_setup", SYS_io_uring_setup, {1, TEXT(room)}},
    {"io_uring_enter", SYS_io_uring_enter, {0, 0, 0, 0, 0, 0}},
    {"io_uring_register", SYS_io_uring_register, {0, 0, 0, 0}},
    {"fanotify_init", SYS_fanotify_init, {0, 0}},
    {"fanotify_mark", SYS_fanotify_mark, {0, 1, 1, -100, TEXT("/")}},
    {"mbind", SYS_mbind, {0, 4096, 0, 0, 0, 0}},
    {"move_pages", SYS_move_pages, {0, 0, 0, 0, 0, 0}},
    {"migrate_pages", SYS_migrate_pages, {0, 0, 0, 0}},
    {"set_mempolicy", SYS_set_mempolicy, {0, 0, 0}},
    {"personality", SYS_personality, {0x0040000 /* ADDR_NO_RANDOMIZE */}},
    {"remap_file_pages", SYS_remap_file_pages, {0, 0, 0, 0, 0}},
    {"memfd_secret", NR_MEMFD_SECRET, {0}},
    {"vhangup", SYS_vhangup, {0}},
    {"mount", SYS_mount, {TEXT("none"), TEXT("/tmp"), TEXT("tmpfs"), 0, 0}},
    {"remount", SYS_mount, {0, TEXT("/"), 0, 32 /* REMOUNT */, 0}},
    {"umount2", SYS_umount2, {TEXT("/tmp"), 2}},
    {"pivot_root", SYS_pivot_root, {TEXT("/tmp"), TEXT("/tmp")}},
    {"chroot", SYS_chroot, {TEXT("/tmp")}},
    {"setns", SYS_setns, {0, 0}},
    {"open_tree", SYS_open_tree, {-100, TEXT("/"), 1}},
    {"open_tree_attr", NR_OPEN_TREE_ATTR, {-100, TEXT("/"), 1, 0, 0}},
    {"move_mount", SYS_move_mount, {-100, TEXT("/"), -100, TEXT("/tmp"), 0}},
    {"fsopen", SYS_fsopen, {TEXT("tmpfs"), 0}},
    {"fsconfig", SYS_fsconfig, {-1, 6, 0, 0, 0}},
    {"fsmount", SYS_fsmount, {-1, 0, 0}},
    {"fspick", SYS_fspick, {-100, TEXT("/"), 0}},
    {"mount_setattr", SYS_mount_setattr, {-100, TEXT("/"), 0, TEXT(room), 32}},
    {"listmount", NR_LISTMOUNT, {TEXT(room), TEXT(room), 1, 0}},
    {"statmount", NR_STATMOUNT, {TEXT(room), TEXT(room), 64, 0}},
    {"open_by_handle_at", SYS_open_by_handle_at, {-100, TEXT(room), 0}},
    {"name_to_handle_at", SYS_name_to_handle_at, {-100, TEXT("/"), TEXT(room), TEXT(room), 0}},
    {"unshare_files", SYS_unshare, {CLONE_FILES}},
    {"unshare_user", SYS_unshare, {CLONE_NEWUSER}},
    {"unshare_mount", SYS_unshare, {CLONE_NEWNS}},
    {"unshare_pid", SYS_unshare, {CLONE_NEWPID}},
    {"unshare_net", SYS_unshare, {CLONE_NEWNET}},
    {"unshare_ipc", SYS_unshare, {CLONE_NEWIPC}},
    {"unshare_uts", SYS_unshare, {CLONE_NEWUTS}},
    {"unshare_cgroup", SYS_unshare, {CLONE_NEWCGROUP}},
    {"kexec_file_load", SYS_kexec_file_load, {-1, -1, 0, 0, 0}},
    {"kexec_load", SYS_kexec_load, {0, 0, 0, 0}},
    {"init_module", SYS_init_module, {TEXT(room), 16, TEXT("")}},
    {"finit_module", SYS_finit_module, {-1, TEXT(""), 0}},
    {"delete_module", SYS_delete_module, {TEXT("x"), 0}},
    {"reboot", SYS_reboot, {0xfee1dead, 672274793, 0x89abcdef, 0}},
    {"swapon", SYS_swapon, {TEXT("/tmp/x"), 0}},
    {"swapoff", SYS_swapoff, {TEXT("/tmp/x")}},
    {"quotactl", SYS_quotactl, {0, TEXT("/"), 0, 0}},
    {"acct", SYS_acct, {TEXT("/tmp/x")}},
    {"settimeofday", SYS_settimeofday, {TEXT(room), 0}},
    {"clock_settime", SYS_clock_settime, {0, TEXT(room)}},
    {"clock_adjtime", SYS_clock_adjtime, {0, TEXT(room)}},
    {"adjtimex", SYS_adjtimex, {TEXT(room)}},
    {"syslog", SYS_syslog, {3, TEXT(room), 4096}},
    {"sethostname", SYS_sethostname, {TEXT("x"), 1}},
    {"setdomainname", SYS_setdomainname, {TEXT("x"), 1}},
#ifdef __x86_64__
    {"iopl", SYS_iopl, {3}},
    {"ioperm", SYS_ioperm, {0x80, 1, 1}},
    {"modify_ldt", SYS_modify_ldt, {0, TEXT(room), 16}},
    {"uselib", SYS_uselib, {TEXT("/tmp/x")}},
    {"ustat", SYS_ustat, {0, TEXT(room)}},
    {"sysfs", SYS_sysfs, {3}},
#endif
    {"netlink", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}},
    {"netlink_netfilter", SYS_socket, {AF_NETLINK, SOCK_RAW, 12}},
    {"packet", SYS_socket, {AF_PACKET, SOCK_RAW, 0x300}},
    {"packet_dgram", SYS_socket, {AF_PACKET, SOCK_DGRAM, 0x300}},
    {"alg", SYS_socket, {38, SOCK_SEQPACKET, 0}},
    {"vsock", SYS_socket, {40, SOCK_STREAM, 0}},
    {"key", SYS_socket, {15, SOCK_RAW, 2}},
    {"bluetooth", SYS_socket, {31, SOCK_RAW, 1}},
    {"can", SYS_socket, {29, SOCK_RAW, 1}},
    {"tipc", SYS_socket, {30, SOCK_RDM, 0}},
    {"rds", SYS_socket, {21, SOCK_SEQPACKET, 0}},
    {"xdp", SYS_socket, {44, SOCK_RAW, 0}},
    {"qipcrtr", SYS_socket, {42, SOCK_DGRAM, 0}},
    {"ax25", SYS_socket, {3, SOCK_DGRAM, 0}},
    {"family_beyond", SYS_socket, {4000, SOCK_STREAM, 0}},
    {"raw", SYS_socket, {AF_INET, SOCK_RAW, 1}},
    {"raw_cloexec", SYS_socket, {AF_INET, SOCK_RAW | SOCK_CLOEXEC, 255}},
    {"raw6", SYS_socket, {AF_INET6, SOCK_RAW, 58}},
    {"tiocsti", SYS_ioctl, {0, TIOCSTI, TEXT("x")}},
    {"tiocsti_wide", SYS_ioctl, {0, (long)(0x100000000UL | TIOCSTI), TEXT("x")}},
    {"tioclinux", SYS_ioctl, {0, TIOCLINUX, TEXT(room)}},
    {"clone3", SYS_clone3, {TEXT(room), 88}},
};

static const struct call python_calls[] = {
    {"execve", SYS_execve, {TEXT("/bin/true"), 0, 0}},
    {"execveat", SYS_execveat, {-100, TEXT("/bin/true"), 0, 0, 0}},
    {"fork_by_clone", SYS_clone, {SIGCHLD, 0, 0, 0, 0}},
    {"socket", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
    {"socket_unix", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
    {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, TEXT(room)}},
    {"memfd_create", SYS_memfd_create, {TEXT("x"), 0}},
    {"shmget", SYS_shmget, {0, 4096, 01600}},
    {"semget", SYS_semget, {0, 1, 01600}},
    {"msgget", SYS_msgget, {0, 01600}},
    {"mq_open", SYS_mq_open, {TEXT("x"), 0102, 0600, 0}},
    {"inotify_init1", SYS_inotify_init1, {0}},
    {"setsid", SYS_setsid, {0}},
    {"prctl", SYS_prctl, {PR_GET_NAME, TEXT(room)}},
};

static void judge(const char *name, long result)
{
    /* Landlock says EACCES; nothing else does that here */
    if (result < 0 && (errno == EPERM || errno == ENOSYS || errno == EACCES)) {
        denied++;
        return;
    }
    open_calls++;
    printf("OPEN %s: %s\n", name, result < 0 ? strerror(errno) : "it worked");
}

static void make(const struct call *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const long *a = list[i].args;
        memset(room, 0, sizeof(room));
        long got = syscall(list[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (got == 0 && list[i].nr == SYS_clone)
            _exit(0);
        judge(list[i].name, got);
    }
}

/* clone() into namespaces, alone and hidden among harmless flags. */
static void clone_away(void)
{
    static const unsigned long flags[] = {CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,   CLONE_NEWNET,
                                          CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP};
    for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
        for (int more = 0; more < 2; more++) {
            unsigned long all = flags[i] | SIGCHLD | (more ? CLONE_PARENT_SETTID : 0);
            long pid = syscall(SYS_clone, all, 0, room, 0, 0);
            if (pid == 0)
                _exit(0);
            judge("clone into a namespace", pid);
        }
}

/* Being somebody else, or more. */
static void rise(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct all[2] = {{~0U, ~0U, ~0U}, {~0U, ~0U, ~0U}};
    struct rlimit limit = {1 << 20, 1 << 20};
    const gid_t group = 0;
    judge("capset", syscall(SYS_capset, &head, all));
    judge("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
    judge("setgroups", syscall(SYS_setgroups, 1, &group));
    judge("raise a limit", setrlimit(RLIMIT_NOFILE, &limit));
    judge("device", mknod("/tmp/hostile-null", S_IFCHR | 0666, makedev(1, 3)));
    judge("device of a disk", mknod("/tmp/hostile-disk", S_IFBLK | 0666, makedev(8, 0)));
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        judge("no_new_privs", 0);
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2)
        judge("seccomp", 0);
    errno = 0;
    judge("nice", setpriority(PRIO_PROCESS, 0, -5));
}

int main(int argc, char **argv)
{
    const int python = argc > 1 && strcmp(argv[1], "python") == 0;
    make(calls, sizeof(calls) / sizeof(*calls));
    clone_away();
    if (!python)
        rise();
    if (python)
        make(python_calls, sizeof(python_calls) / sizeof(*python_calls));
    printf("%d denied, %d open\n", denied, open_calls);
    return open_calls > 0;
}
