/* The walls that the agent puts around itself: see box_private.h. */
#include "runner/box/box_private.h"

#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static int fail(struct err *err, const char *step)
{
    return err_sys(err, "walls: %s", step);
}

static int put_text(const char *path, const char *text)
{
    AUTO(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -1 : fd_write_all(fd, text, strlen(text));
}

/* Makes namespaces in which every id keeps its meaning. */
static int own_namespaces(struct err *err)
{
    char map[64];
    unsigned uid = geteuid(), gid = getegid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC))
        return fail(err, "namespaces");
    snprintf(map, sizeof(map), "%u %u 1", uid, uid);
    if (put_text("/proc/self/setgroups", "deny") || put_text("/proc/self/uid_map", map))
        return fail(err, "user");
    snprintf(map, sizeof(map), "%u %u 1", gid, gid);
    if (put_text("/proc/self/gid_map", map))
        return fail(err, "group");
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ? fail(err, "mounts") : 0;
}

/* Makes everything below the path read-only, also what is mounted there. */
static int seal(const char *path)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
    return (int)syscall(SYS_mount_setattr, AT_FDCWD, path, AT_RECURSIVE, &attr, sizeof(attr));
}

static int bind_to(const char *from, const char *to)
{
    return mount(from, to, NULL, MS_BIND | MS_REC, NULL);
}

/* Shows a path of the host: a link as a link, a directory read-only. */
static int show(const char *name, struct err *err)
{
    char link[256];
    struct stat st;
    AUTO(buf) struct buf host = BUF_INIT(256);
    buf_addf(&host, "/%s", name);
    if (lstat(buf_str(&host), &st))
        return 0;
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(buf_str(&host), link, sizeof(link) - 1);
        link[n > 0 ? n : 0] = '\0';
        return n > 0 && symlink(link, name) == 0 ? 0 : fail(err, name);
    }
    if (mkdir(name, 0755) || bind_to(buf_str(&host), name) || seal(name))
        return fail(err, name);
    return 0;
}

static int make_devices(struct err *err)
{
    static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
    static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
                                           {"/proc/self/fd/0", "dev/stdin"},
                                           {"/proc/self/fd/1", "dev/stdout"},
                                           {"/proc/self/fd/2", "dev/stderr"},
                                           {"pts/ptmx", "dev/ptmx"}};
    char from[64], to[64];
    if (mkdir("dev", 0755) || mkdir("dev/shm", 01777) || mkdir("dev/pts", 0755))
        return fail(err, "dev");
    for (size_t i = 0; i < COUNT_OF(devices); i++) {
        snprintf(from, sizeof(from), "/dev/%s", devices[i]);
        snprintf(to, sizeof(to), "dev/%s", devices[i]);
        AUTO(fd) int file = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
        if (file < 0 || bind_to(from, to))
            return fail(err, from);
    }
    for (size_t i = 0; i < COUNT_OF(links); i++)
        if (symlink(links[i][0], links[i][1]))
            return fail(err, links[i][1]);
    if (mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=64m"))
        return fail(err, "dev/shm");
    return mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                 "newinstance,ptmxmode=0666,mode=620")
               ? fail(err, "dev/pts")
               : 0;
}

/* Shows the session's own directories, from the earlier working directory. */
static int show_own(const char *dir, struct err *err)
{
    static const char *const own[] = {"workspace", "tmp", "home"};
    for (size_t i = 0; i < COUNT_OF(own); i++) {
        AUTO(str) char *from = path_join(dir, own[i]);
        if (!from || mkdir(own[i], 0755) || bind_to(from, own[i]))
            return fail(err, own[i]);
    }
    return 0;
}

static int build_root(const char *dir, struct err *err)
{
    static const char *const places[] = {"usr",   "bin",   "sbin", "lib",
                                         "lib64", "lib32", "etc",  "opt"};
    AUTO(str) char *root = path_join(dir, "root");
    if (!root || mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755") ||
        chdir(root))
        return fail(err, "root");
    for (size_t i = 0; i < COUNT_OF(places); i++)
        if (show(places[i], err))
            return -1;
    if (mkdir("proc", 0755) || bind_to("/proc", "proc"))
        return fail(err, "proc");
    if (make_devices(err) || show_own(dir, err))
        return -1;
    if (mkdir("var", 0755) || mkdir("run", 0755) || symlink("/tmp", "var/tmp"))
        return fail(err, "var");
    if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
        return fail(err, "pivot_root");
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    return syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &attr, sizeof(attr)) ? fail(err, "root")
                                                                             : 0;
}

/* Drops the capabilities: a process with more of them than its children could not be looked up by
 * them in /proc/AGENT/fd. */
static int drop(struct err *err)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
            return fail(err, "capabilities");
    if (syscall(SYS_capset, &head, none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return fail(err, "capabilities");
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) ? fail(err, "dumpable") : 0;
}

int box_enclose(const char *dir, struct err *err)
{
    return own_namespaces(err) || build_root(dir, err) || drop(err) ? -1 : 0;
}
