/* The steps of the child, from a fresh clone to a confined process. */
#include "jail/jail_private.h"

#include "base/check.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- ids ----------------------------------------------------------------------------------- */

/* Writes into a file of /proc. `proc` is an open /proc; `who` is one of its processes or "self". */
static int write_text(int proc, const char *who, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/%s", who, file);
    AUTO(fd) int fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

static int write_map(int proc, const char *who, const char *file, unsigned id)
{
    char line[64];
    snprintf(line, sizeof(line), "%u %u 1", id, id);
    return write_text(proc, who, file, line);
}

/* Maps every id that the jail uses to itself in the user namespace, and no other. */
static int map_process(const struct jail *jail, int proc, const char *who)
{
    /* Otherwise the program could leave a group that denies it something. */
    return write_text(proc, who, "setgroups", "deny") ||
                   write_map(proc, who, "uid_map", (unsigned)jail->uid) ||
                   write_map(proc, who, "gid_map", (unsigned)jail->gid)
               ? -1
               : 0;
}

static int open_proc(void)
{
    return open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int jail_parent(struct jail *jail, pid_t pid, struct err *err)
{
    REQUIRE(pid > 0);
    char who[16];
    if (!jail->user_first || jail->maps_itself)
        return 0;
    AUTO(fd) int proc = open_proc();
    snprintf(who, sizeof(who), "%d", (int)pid);
    bool failed =
        proc < 0 || map_process(jail, proc, who) || write(jail->handshake[1], "m", 1) != 1;
    fd_close(&jail->handshake[0]);
    fd_close(&jail->handshake[1]);
    return failed ? jail_fail(err, "id maps") : 0;
}

/* Uses the system calls directly: libc's wrappers signal threads that they believe to exist (a
 * sanitizer's, from before the clone), and here that signal has no handler any more. */
static int become(const struct jail *jail, bool leave_groups, struct err *err)
{
    if (leave_groups && syscall(SYS_setgroups, 0, NULL))
        return jail_fail(err, "setgroups");
    if (syscall(SYS_setresgid, jail->gid, jail->gid, jail->gid))
        return jail_fail(err, "setresgid");
    if (syscall(SYS_setresuid, jail->uid, jail->uid, jail->uid))
        return jail_fail(err, "setresuid");
    return 0;
}

/* In the new user namespace of a clone: waits for its id maps and becomes the mapped user. */
static int settle_user(struct jail *jail, struct err *err)
{
    char byte;
    if (jail->maps_itself) {
        AUTO(fd) int proc = open_proc();
        return proc < 0 || map_process(jail, proc, "self") ? jail_fail(err, "id maps") : 0;
    }
    fd_close(&jail->handshake[1]);
    if (read(jail->handshake[0], &byte, 1) != 1)
        return jail_fail(err, "id maps");
    fd_close(&jail->handshake[0]);
    return become(jail, false, err);
}

/* --- building ------------------------------------------------------------------------------ */

static int make_mounts(const struct strlist *mounts, struct err *err)
{
    for (size_t i = 0; mounts && i < mounts->count; i += 3) {
        char *const *at = &mounts->items[i];
        if (mount(at[0], at[1], at[0], MS_NOSUID | MS_NODEV, at[2]))
            return jail_fail(err, "mount %s", at[0]);
    }
    return 0;
}

/* From here on what is mounted is nobody else's: whoever joins a template still has the launcher's
 * mounts. Tier none sees what is mounted outside later; the others nothing. */
static int leave_mounts(const struct jail *jail, bool joins, struct err *err)
{
    if (joins && unshare(CLONE_NEWNS))
        return jail_fail(err, "a mount namespace");
    if (mount(NULL, "/", NULL, MS_REC | (jail->tier == JAIL_NONE ? MS_SLAVE : MS_PRIVATE), NULL))
        return jail_fail(err, "private mounts");
    return 0;
}

int jail_build(struct jail *jail, const struct strlist *mounts, struct err *err)
{
    const char *host = jail->policy.hostname ? jail->policy.hostname : "jail";
    const bool joins = jail->template_ns >= 0;
    template_forget(jail);
    if (!jail->namespaces) {
        if (mounts && mounts->count > 0) {
            errno = ENOSYS;
            return jail_fail(err, "mounts");
        }
        return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) ? jail_fail(err, "sub-reaper") : 0;
    }
    if (jail->user_first && settle_user(jail, err))
        return -1;
    if (!joins || (mounts && mounts->count > 0))
        if (leave_mounts(jail, joins, err) || make_mounts(mounts, err))
            return -1;
    if (jail->tier != JAIL_NONE && sethostname(host, strlen(host)))
        return jail_fail(err, "hostname");
    if (jail_gate(jail) && jail_net_build(jail, err))
        return -1;
    if (jail->tier == JAIL_FULL) {
        int rc = joins ? root_join(jail, err) : root_build(jail, err);
        template_forget(NULL);
        return rc;
    }
    if (jail->tier == JAIL_RESTRICTED && !jail->host.no_view)
        return root_cover(jail, err);
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
        return jail_fail(err, "namespaces");
    return 0;
}

/* --- shutting ------------------------------------------------------------------------------ */

/* Leaves alone what is low enough already: gVisor refuses to set some limits, which are 0 there. */
static int set_limit(int resource, uint64_t value, struct err *err, const char *name)
{
    struct rlimit now, wanted = {value, value};
    if (getrlimit((__rlimit_resource_t)resource, &now) == 0 && now.rlim_max <= wanted.rlim_max) {
        if (now.rlim_cur == now.rlim_max)
            return 0;
        wanted.rlim_cur = wanted.rlim_max = now.rlim_max; /* Only root can raise it. */
    }
    return setrlimit((__rlimit_resource_t)resource, &wanted) ? jail_fail(err, "limit of %s", name)
                                                             : 0;
}

static int set_limits(const struct jail *jail, struct err *err)
{
    const struct jail_policy *policy = &jail->policy;
    const bool walls = jail->tier != JAIL_NONE;
    const uint64_t mib = 1 << 20;
    const struct {
        bool set;
        int resource;
        uint64_t value;
        const char *name;
    } limits[] = {
        {true, RLIMIT_CORE, 0, "core"},
        {policy->file_mb > 0, RLIMIT_FSIZE, (uint64_t)policy->file_mb * mib, "file size"},
        /* Counted for the user, where no control group counts the tree's processes. */
        {policy->pids_max > 0 && !jail->host.has[JAIL_HAS_PIDS], RLIMIT_NPROC,
         (uint64_t)policy->pids_max, "processes"},
        {walls, RLIMIT_NOFILE, policy->files_max > 0 ? (uint64_t)policy->files_max : 4096, "files"},
        {walls, RLIMIT_MEMLOCK, 8 * mib, "locked memory"},
        {walls, RLIMIT_MSGQUEUE, 819200, "message queues"},
        {walls, RLIMIT_SIGPENDING, 4096, "signals"},
        {walls, RLIMIT_RTPRIO, 0, "priority"},
        {walls, RLIMIT_NICE, 0, "nice"},
    };
    for (size_t i = 0; i < COUNT_OF(limits); i++)
        if (limits[i].set && set_limit(limits[i].resource, limits[i].value, err, limits[i].name))
            return -1;
    return 0;
}

/* Opens /proc where it is shown, else a private one that nobody sees. Needs root. */
static int take_proc(const struct jail *jail)
{
    return jail->policy.no_proc ? mount_detached("proc") : open_proc();
}

/* Goes from root to the user, and into a user namespace that owns none of the others. One
 * capability is kept until then, because some hosts let nobody else make user namespaces. */
static int leave_root(const struct jail *jail, struct err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct admin[2] = {
        {.effective = 1u << CAP_SYS_ADMIN, .permitted = 1u << CAP_SYS_ADMIN}};
    AUTO(fd) int proc = take_proc(jail);
    if (proc < 0)
        return jail_fail(err, "/proc");
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || become(jail, true, err))
        return -1;
    if (syscall(SYS_capset, &head, admin))
        return jail_fail(err, "capabilities");
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* Otherwise only root could write the maps. */
    if (unshare(CLONE_NEWUSER))
        return jail_fail(err, "user namespace");
    return map_process(jail, proc, "self") ? jail_fail(err, "id maps") : 0;
}

/* Empties the bounding set. This has its place: entering a user namespace fills it again, and
 * leaving uid 0 removes the right to change it. */
static int drop_bounding(struct err *err)
{
    for (int cap = 0; cap <= 63; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0 || errno == EPERM)
            continue;
        return errno == EINVAL ? 0 : jail_fail(err, "bounding set"); /* This kernel has no more. */
    }
    return 0;
}

static int drop_capabilities(struct err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {{0}};
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &head, none) ? jail_fail(err, "capabilities") : 0;
}

/* Sets the user that the program runs as from now on. */
static int settle(const struct jail *jail, struct err *err)
{
    const bool walls = jail->tier != JAIL_NONE;
    const bool leaves = jail->becomes && !jail->user_first && jail->uid != 0;
    if (leaves && jail->tier == JAIL_FULL)
        return leave_root(jail, err) || drop_bounding(err) || drop_capabilities(err) ? -1 : 0;
    if (walls && drop_bounding(err))
        return -1;
    if (leaves && become(jail, true, err))
        return -1;
    return walls || jail->user_first ? drop_capabilities(err) : 0;
}

int jail_shut(struct jail *jail, struct err *err)
{
    if (group_join(jail, err) || set_limits(jail, err))
        return -1;
    if (jail->tier == JAIL_FULL && unshare(CLONE_NEWCGROUP))
        return jail_fail(err, "control group namespace");
    if (settle(jail, err))
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return jail_fail(err, "no_new_privs");
    if (jail->tier == JAIL_NONE)
        return 0;
    return landlock_apply(jail, err) || filter_apply(jail, err) ? -1 : 0;
}
