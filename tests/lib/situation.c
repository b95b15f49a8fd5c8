#include "situation.h"

#include "base/auto.h"

#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool install(struct sock_filter *filter, size_t count)
{
    const struct sock_fprog program = {(unsigned short)count, filter};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ||
           (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* Acts like a host that denies namespaces: clone() and unshare() with any of their flags fail. */
static bool deny_namespaces(void)
{
    enum { ARG0 = offsetof(struct seccomp_data, args), NR = offsetof(struct seccomp_data, nr) };
    static const unsigned flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NR),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flags, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(filter, COUNT_OF(filter));
}

/* Acts like a kernel without nf_tables: there is no such netlink. */
static bool deny_nftables(void)
{
    enum {
        FAMILY = offsetof(struct seccomp_data, args),
        PROTOCOL = offsetof(struct seccomp_data, args) + 2 * sizeof(uint64_t),
        NR = offsetof(struct seccomp_data, nr)
    };
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NR),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FAMILY),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, PROTOCOL),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NETLINK_NETFILTER, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPROTONOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(filter, COUNT_OF(filter));
}

static bool become_nobody(void)
{
    return geteuid() != 0 ||
           (setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
            setresuid(NOBODY, NOBODY, NOBODY) == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
}

const struct situation *situation_find(const char *name)
{
    static const struct situation situations[] = {
        {"root", false, false, true, true, false},
        {"user", true, false, true, false, false},
        {"denied", false, true, false, false, false},
        {"denied-user", true, true, false, false, false},
        {"no-nftables", false, false, true, true, true},
    };
    for (size_t i = 0; i < COUNT_OF(situations); i++)
        if (strcmp(situations[i].name, name) == 0)
            return &situations[i];
    return NULL;
}

bool situation_enter(const struct situation *situation)
{
    return (!situation->nobody || become_nobody()) && (!situation->denied || deny_namespaces()) &&
           (!situation->no_nftables || deny_nftables());
}

bool situation_is(const struct situation *situation, const struct jail_host *host)
{
    return host->has[JAIL_HAS_NAMESPACES] == situation->namespaces && host->root == situation->root;
}
