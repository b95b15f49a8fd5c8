/* Landlock: the walls of tier restricted, and in tier full of what namespaces do not cover. */
#include "jail/jail_private.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers: refer (2), truncate (3), ioctl on devices (5), scopes (6). */
#define FS_TRUNCATE (1ULL << 14)
#define FS_IOCTL_DEV (1ULL << 15)
#define SCOPE_ABSTRACT_SOCKETS (1ULL << 0)
#define SCOPE_SIGNALS (1ULL << 1)

struct ruleset {
    __u64 fs;
    __u64 net;
    __u64 scoped;
};

#define READING \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define OF_FILES                                                                                 \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
     FS_TRUNCATE | FS_IOCTL_DEV)

int landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi > 0 ? (int)abi : 0;
}

/* All rights that this kernel can control. */
static __u64 everything(int abi)
{
    __u64 all = (1ULL << 13) - 1;
    if (abi >= 2)
        all |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        all |= FS_TRUNCATE;
    if (abi >= 5)
        all |= FS_IOCTL_DEV;
    return all;
}

static int allow(int ruleset, const char *path, __u64 access, bool optional)
{
    struct stat st;
    AUTO(fd) int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return optional && (errno == ENOENT || errno == EACCES || errno == ENOTDIR) ? 0 : -1;
    if (fstat(fd, &st))
        return -1;
    if (!S_ISDIR(st.st_mode))
        access &= OF_FILES;
    const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

/* What may be read of what the kernel says about itself and the program; other processes' memory is
 * kept by the scope of the domain. Their settings (oom_score_adj, autogroup …) are not: where other
 * tasks' processes are in /proc, too, nothing in there is written. */
static const char *const proc_paths[] = {"/proc", "/sys/devices/system/cpu", NULL};

static int allow_system(const struct jail *jail, int ruleset, __u64 all, struct err *err)
{
    const __u64 settings = jail->namespaces ? LANDLOCK_ACCESS_FS_WRITE_FILE : 0;
    char path[32];
    for (size_t i = 0; system_paths[i]; i++)
        if (allow(ruleset, system_paths[i], READING & all, true))
            return jail_fail(err, "%s", system_paths[i]);
    static const char *const names[] = {"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (allow(ruleset, names[i], READING & all, true))
            return jail_fail(err, "%s", names[i]);
    for (size_t i = 0; proc_paths[i]; i++)
        if (allow(ruleset, proc_paths[i], (READING | (i == 0 ? settings : 0)) & all, true))
            return jail_fail(err, "%s", proc_paths[i]);
    for (size_t i = 0; system_devices[i]; i++) {
        snprintf(path, sizeof(path), "/dev/%s", system_devices[i]);
        if (allow(ruleset, path,
                  (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_IOCTL_DEV |
                   FS_TRUNCATE) &
                      all,
                  true))
            return jail_fail(err, "%s", path);
    }
    return 0;
}

static int allow_binds(const struct jail *jail, int ruleset, __u64 all, struct err *err)
{
    static const char *const private[] = {"/tmp", "/dev/shm"};
    char *const *at = jail->policy.binds.items;
    for (size_t i = 0; jail->namespaces && !jail->host.no_view && i < COUNT_OF(private); i++)
        if (allow(ruleset, private[i], all, true))
            return jail_fail(err, "%s", private[i]);
    for (size_t i = 0; i < jail->policy.binds.count; i += 3)
        if (allow(ruleset, at[i + 1], at[i][1] == 'o' ? READING & all : all, at[i][2] == '?'))
            return jail_fail(err, "%s", at[i + 1]);
    return 0;
}

int landlock_apply(const struct jail *jail, struct err *err)
{
    const int abi = jail->host.landlock;
    const __u64 all = everything(abi);
    const bool files = jail->tier == JAIL_RESTRICTED;
    const struct ruleset wanted = {.fs = files ? all : 0,
                                   .scoped = abi >= 6 ? SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS : 0};
    /* In tier full it would have nothing else to do. */
    if (abi == 0 || (!files && wanted.scoped == 0))
        return 0;
    AUTO(fd)
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &wanted,
                               abi >= 6 ? sizeof(wanted) : sizeof(wanted.fs), 0);
    if (ruleset < 0)
        return jail_fail(err, "landlock");
    if (files && (allow_system(jail, ruleset, all, err) || allow_binds(jail, ruleset, all, err)))
        return -1;
    return syscall(SYS_landlock_restrict_self, ruleset, 0) ? jail_fail(err, "landlock") : 0;
}
