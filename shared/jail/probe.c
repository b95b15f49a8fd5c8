/* Finds out what this host can do by starting a program behind each kind of wall. */
#include "jail/jail_private.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

static bool has_capabilities(unsigned mask)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    return syscall(SYS_capget, &head, data) == 0 && (data[0].effective & mask) == mask;
}

static _Noreturn void report(int fd, const struct err *err)
{
    (void)!write(fd, err, sizeof(*err));
    _exit(1);
}

/* Does in short what init and the program do. */
static _Noreturn void child(struct jail *jail, int fd)
{
    char *const argv[] = {(char[]){"true"}, NULL};
    char *const env[] = {NULL};
    struct err err;
    int status = 1;
    if (jail_build(jail, NULL, &err))
        report(fd, &err);
    pid_t pid = fork();
    if (pid == 0) {
        if (jail_shut(jail, &err) == 0) {
            execve("/bin/true", argv, env);
            jail_fail(&err, "exec");
        }
        report(fd, &err);
    }
    _exit(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1);
}

/* Clones like fork(). This process has no threads. */
static pid_t clone_into(unsigned long flags)
{
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

static int start(struct jail *jail, struct err *err)
{
    int ends[2], status = 1;
    struct err told = ERR_INIT;
    if (pipe2(ends, O_CLOEXEC))
        return jail_fail(err, "pipe");
    AUTO(fd) int from = ends[0];
    AUTO(fd) int to = ends[1];
    pid_t pid = clone_into(jail_clone_flags(jail));
    if (pid == 0)
        child(jail, to);
    if (pid < 0)
        return jail_fail(err, "clone");
    fd_close(&to);
    if (jail_parent(jail, pid, err))
        kill(pid, SIGKILL);
    bool failed = read(from, &told, sizeof(told)) == (ssize_t)sizeof(told);
    waitpid(pid, &status, 0);
    if (failed)
        *err = told;
    else if (status != 0 && err->msg[0] == '\0')
        err_set(err, ERR_INTERNAL, "a program did not run");
    return status ? -1 : 0;
}

static bool works(const struct jail_policy *policy, const struct jail_host *host, char *why,
                  size_t size)
{
    struct err err = ERR_INIT;
    AUTO(jail) struct jail *jail = jail_new(policy, host, NOBODY, NOBODY, &err);
    bool failed = !jail || jail_open(jail, "probe", &err) || start(jail, &err);
    if (jail)
        jail_close(jail);
    if (failed)
        snprintf(why, size, "%.60s%s%s", err.msg, err.sys ? ": " : "",
                 err.sys ? strerror(err.sys) : "");
    else
        *why = '\0';
    return !failed;
}

static bool probe_feature(struct jail_host *host, enum jail_feature feature,
                          const struct jail_policy *policy)
{
    host->has[feature] = true; /* Assumed for the trial, so that the plan uses it. */
    host->has[feature] = works(policy, host, host->why[feature], sizeof(host->why[feature]));
    return host->has[feature];
}

static void probe_namespaces(struct jail_host *host)
{
    const struct jail_policy none = {.tier = JAIL_NONE};
    host->root = host->uid == 0;
    if (host->root && probe_feature(host, JAIL_HAS_NAMESPACES, &none))
        return;
    host->root = false;
    probe_feature(host, JAIL_HAS_NAMESPACES, &none);
}

static void probe_user(struct jail_host *host)
{
    host->has[JAIL_HAS_USER] =
        host->uid == 0 && has_capabilities(1u << CAP_SETUID | 1u << CAP_SETGID);
    if (!host->has[JAIL_HAS_USER])
        snprintf(host->why[JAIL_HAS_USER], sizeof(host->why[0]),
                 host->uid == 0 ? "CAP_SETUID and CAP_SETGID are missing"
                                : "the runner is no root: tasks run as its own user");
}

/* Without Landlock, being another user is what protects files; an older Landlock does not block
 * signals. */
static bool has_restricted(struct jail_host *host)
{
    const struct jail_policy restricted = {.tier = JAIL_RESTRICTED};
    char why[96];
    const bool apart = host->has[JAIL_HAS_USER] || host->has[JAIL_HAS_NAMESPACES];
    if (!host->has[JAIL_HAS_FILTER])
        return false;
    host->landlock = landlock_abi();
    host->has[JAIL_HAS_LANDLOCK] = host->landlock > 0;
    if (host->landlock == 0)
        snprintf(host->why[JAIL_HAS_LANDLOCK], sizeof(host->why[0]), "the kernel has none: %s",
                 strerror(errno));
    else if (host->landlock < 6 && !apart)
        snprintf(host->why[JAIL_HAS_LANDLOCK], sizeof(host->why[0]),
                 "its version %d lets signals through", host->landlock);
    if (host->landlock < 6 && !(host->landlock > 0 ? apart : host->has[JAIL_HAS_USER]))
        return false;
    if (works(&restricted, host, why, sizeof(why)))
        return true;
    host->no_view = true; /* an older kernel, or gVisor */
    if (host->has[JAIL_HAS_NAMESPACES] && works(&restricted, host, why, sizeof(why)))
        return true;
    snprintf(host->why_tier, sizeof(host->why_tier), "restricted: %s", why);
    return false;
}

static void probe_filter(struct jail_host *host)
{
    struct err err = ERR_INIT;
    int status = 1;
    const struct jail_policy policy = {.tier = JAIL_NONE};
    AUTO(jail) struct jail *jail = jail_new(&policy, host, NOBODY, NOBODY, &err);
    pid_t pid = !jail || filter_prepare(jail, &err) ? -1 : fork();
    if (pid == 0)
        _exit(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || filter_apply(jail, &err));
    host->has[JAIL_HAS_FILTER] = pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
    if (!host->has[JAIL_HAS_FILTER])
        snprintf(host->why[JAIL_HAS_FILTER], sizeof(host->why[0]), "seccomp filters don't work");
}

/* Which networks of their own jails can have. What a gate takes includes what a proxy does. */
static void probe_networks(struct jail_host *host)
{
    struct jail_policy policy = {.tier = JAIL_FULL, .net = JAIL_NET_OWN};
    probe_feature(host, JAIL_HAS_NET, &policy);
    policy.net = JAIL_NET_GATE;
    host->has[JAIL_HAS_PROXY] = probe_feature(host, JAIL_HAS_GATE, &policy);
    policy.net = JAIL_NET_PROXY;
    if (!host->has[JAIL_HAS_PROXY])
        probe_feature(host, JAIL_HAS_PROXY, &policy);
}

void jail_probe(struct jail_host *ret_host)
{
    const struct jail_policy full = {.tier = JAIL_FULL};
    struct jail_host host = {.uid = geteuid(), .gid = getegid()};
    probe_user(&host);
    groups_probe(&host);
    probe_namespaces(&host);
    probe_filter(&host);
    host.tier = has_restricted(&host) ? JAIL_RESTRICTED : JAIL_NONE;
    int weaker = host.tier;
    host.tier = JAIL_FULL;
    if (!host.has[JAIL_HAS_NAMESPACES])
        snprintf(host.why[JAIL_HAS_ROOT], sizeof(host.why[0]), "it takes namespaces");
    if (host.has[JAIL_HAS_NAMESPACES] && host.has[JAIL_HAS_FILTER] &&
        probe_feature(&host, JAIL_HAS_ROOT, &full)) {
        probe_networks(&host);
    } else {
        host.tier = weaker;
        enum jail_feature missing = !host.has[JAIL_HAS_NAMESPACES] ? JAIL_HAS_NAMESPACES
                                    : !host.has[JAIL_HAS_FILTER]   ? JAIL_HAS_FILTER
                                                                   : JAIL_HAS_ROOT;
        snprintf(host.why_tier, sizeof(host.why_tier), "%s: %s", jail_feature_name(missing),
                 host.why[missing]);
        for (int i = JAIL_HAS_NET; i <= JAIL_HAS_PROXY; i++)
            snprintf(host.why[i], sizeof(host.why[0]), "it takes tier full");
    }
    *ret_host = host;
}
