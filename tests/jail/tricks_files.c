/* Files, links, descriptors, attributes. */
#include "tricks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SYSTEM_FILE "/usr/bin/env"

/* The first thing that this program does: before whoever started it has done anything else. */
static void look_at_init_at_once(void)
{
    const char *const dirs[] = {"/proc/1/fd", "/proc/1/fdinfo", "/proc/1/map_files"};
    for (size_t i = 0; i < 3; i++) {
        DIR *dir = opendir(dirs[i]);
        const struct dirent *entry;
        while (dir && (entry = readdir(dir)))
            if (entry->d_name[0] != '.')
                escaped(dirs[i]);
        if (dir)
            closedir(dir);
    }
}

static void init_by_parent(void)
{
    static const char *const files[] = {"fd",   "environ", "maps",  "mem",  "stack", "io",
                                        "auxv", "syscall", "root/", "cwd/", "exe"};
    char path[64], text[64];
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        snprintf(path, sizeof(path), "/proc/%d/%s", (int)getppid(), files[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && (read(fd, text, sizeof(text)) > 0 || errno == EISDIR))
            escaped(path);
        if (fd >= 0)
            close(fd);
    }
}

static void open_descriptors(void)
{
    for (int fd = 3; fd < 8192; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            escaped("an inherited descriptor");
}

/* A descriptor without rights is opened anew through /proc. */
static void reopen_for_writing(void)
{
    char path[64];
    int fd = open(SYSTEM_FILE, O_PATH | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    never("a system file was opened for writing", open(path, O_RDWR | O_CLOEXEC));
    never("a system file was cut", truncate(path, 0));
    never("its mode was changed", chmod(path, 0777));
    fd = open(house_path("PRECIOUS"), O_PATH | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fd >= 0)
        never("the precious file was opened", open(path, O_RDWR | O_CLOEXEC));
}

static void link_by_descriptor(void)
{
    char path[64];
    int fd = open(SYSTEM_FILE, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    never("a system file was linked to", linkat(AT_FDCWD, path, AT_FDCWD, "l", AT_SYMLINK_FOLLOW));
    never("a system file was linked to by its descriptor",
          linkat(fd, "", AT_FDCWD, "l2", AT_EMPTY_PATH));
    never("a set-user-ID program was linked to", link("/usr/bin/passwd", "l3"));
    never("the secret was linked to", link(house_path("SECRET"), "l4"));
    never("a file was linked out", link("/proc/self/exe", house_path("PRECIOUS")));
}

static void hidden_file_linked_out(void)
{
    char path[64], out[256];
    int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    snprintf(out, sizeof(out), "%s/new", house_path("DIR"));
    never("a file was linked out of the workspace",
          linkat(AT_FDCWD, path, AT_FDCWD, out, AT_SYMLINK_FOLLOW));
}

static void rename_out(void)
{
    char out[256];
    close(open("mine", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    snprintf(out, sizeof(out), "%s/new", house_path("DIR"));
    never("a file was moved out", rename("mine", out));
    never("two files changed places", syscall(SYS_renameat2, AT_FDCWD, "mine", AT_FDCWD,
                                              house_path("PRECIOUS"), RENAME_EXCHANGE));
    never("a file was moved over the system", rename("mine", "/usr/bin/mine"));
}

static void attributes(void)
{
    static const char cap[20] = {1, 0, 0, 2, -1, -1, -1, -1};
    int flags = FS_IMMUTABLE_FL | FS_APPEND_FL;
    int fd = open("a", O_CREAT | O_RDWR | O_CLOEXEC, 0700);
    never("a file has capabilities", setxattr("a", "security.capability", cap, sizeof(cap), 0));
    never("a trusted attribute", setxattr("a", "trusted.x", "x", 1, 0));
    never("an overlay's attribute", setxattr("a", "trusted.overlay.opaque", "y", 1, 0));
    never("a file that nobody can remove", ioctl(fd, FS_IOC_SETFLAGS, &flags));
    never("a file was given away", chown("a", 0, 0));
    never("a group was taken on", chown("a", (uid_t)-1, 0));
}

static void devices_of_its_own(void)
{
    never("a device", mknod("d", S_IFCHR | 0666, 0x0103));
    never("a device in tmp", mknod("/tmp/d", S_IFBLK | 0666, 0x0800));
    never("a device in shared memory", mknod("/dev/shm/d", S_IFCHR | 0666, 0x0101));
    never("a device among devices", mknod("/dev/d", S_IFCHR | 0666, 0x0101));
}

static void all_devices(void)
{
    static const char *const harmless[] = {"null",   "zero", "full", "random", "urandom",
                                           "tty",    "ptmx", "pts",  "stdin",  "stdout",
                                           "stderr", "fd",   "shm",  "core",   "mqueue"};
    char path[300];
    DIR *dir = opendir("/dev");
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        int known = entry->d_name[0] == '.';
        for (size_t i = 0; i < sizeof(harmless) / sizeof(*harmless); i++)
            known |= strcmp(entry->d_name, harmless[i]) == 0;
        snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
        struct stat st;
        if (!known && stat(path, &st) == 0 && !S_ISDIR(st.st_mode) && may_open(path, O_RDONLY))
            escaped(path);
    }
    if (dir)
        closedir(dir);
}

/* The page cache of a file that may only be read, written to by way of a pipe or a private map. */
static void write_through_the_page_cache(void)
{
    int pipes[2], fd = open(SYSTEM_FILE, O_RDONLY | O_CLOEXEC);
    char before[16] = "", after[16] = "", *map;
    off_t at = 0;
    if (fd < 0 || pipe(pipes) || pread(fd, before, sizeof(before), 0) < 0)
        return;
    for (int i = 0; i < 16; i++) { /* so that its buffers have been used */
        (void)!write(pipes[1], before, sizeof(before));
        (void)!read(pipes[0], after, sizeof(after));
    }
    (void)!splice(fd, &at, pipes[1], NULL, 1, 0);
    (void)!write(pipes[1], "evil", 4);
    map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    int self = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (map != MAP_FAILED && self >= 0)
        (void)!pwrite(self, "evil", 4, (off_t)(size_t)map);
    never("a shared map could be written",
          mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    if (pread(fd, after, sizeof(after), 0) > 0 && memcmp(before, after, sizeof(before)) != 0)
        escaped("a system file has changed");
}

static void namespaces_by_descriptor(void)
{
    static const char *const kinds[] = {"mnt", "pid", "net",    "user",
                                        "ipc", "uts", "cgroup", "time"};
    char path[64];
    const long who[] = {1, house_number("PID"), house_number("INIT"), getppid(), getpid()};
    for (size_t w = 0; w < sizeof(who) / sizeof(*who); w++)
        for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
            snprintf(path, sizeof(path), "/proc/%ld/ns/%s", who[w], kinds[i]);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd < 0)
                continue;
            never(path, syscall(SYS_setns, fd, 0));
            close(fd);
        }
    int fd = (int)syscall(SYS_pidfd_open, house_number("PID"), 0);
    if (fd >= 0)
        never("namespaces of an outsider", syscall(SYS_setns, fd, 0x20000));
}

static void roots_of_others(void)
{
    char path[300];
    for (int pid = 1; pid < 400; pid++) {
        snprintf(path, sizeof(path), "/proc/%d/root%s", pid, house_path("SECRET"));
        if (may_open(path, O_RDONLY))
            escaped(path);
        snprintf(path, sizeof(path), "/proc/%d/cwd/../../../../../..%s", pid, house_path("SECRET"));
        if (pid != getpid() && may_open(path, O_RDONLY))
            escaped(path);
    }
}

static void kernel_files(void)
{
    static const char *const reading[] = {"/proc/kcore",
                                          "/proc/kmsg",
                                          "/proc/vmcore",
                                          "/proc/kpagecount",
                                          "/proc/kpageflags",
                                          "/proc/timer_list",
                                          "/proc/sched_debug",
                                          "/proc/self/../../etc/shadow",
                                          "/sys/kernel/security/lockdown",
                                          "/sys/kernel/debug",
                                          "/sys/kernel/tracing/trace",
                                          "/sys/fs/bpf",
                                          "/sys/firmware/efi/efivars",
                                          "/sys/kernel/uevent_helper"};
    static const char *const writing[] = {"/proc/sys/kernel/core_pattern",
                                          "/proc/sys/kernel/modprobe",
                                          "/proc/sys/kernel/hotplug",
                                          "/proc/sys/kernel/randomize_va_space",
                                          "/proc/sys/kernel/unprivileged_bpf_disabled",
                                          "/proc/sys/kernel/yama/ptrace_scope",
                                          "/proc/sys/vm/overcommit_memory",
                                          "/proc/sys/vm/drop_caches",
                                          "/proc/sys/fs/binfmt_misc/register",
                                          "/proc/sys/fs/suid_dumpable",
                                          "/proc/sys/fs/protected_symlinks",
                                          "/proc/sys/net/ipv4/ip_forward",
                                          "/proc/sys/user/max_user_namespaces",
                                          "/proc/sysrq-trigger",
                                          "/proc/irq/default_smp_affinity",
                                          "/proc/bus/pci/00",
                                          "/proc/acpi/wakeup",
                                          "/proc/scsi/scsi",
                                          "/proc/mtrr",
                                          "/sys/kernel/uevent_helper",
                                          "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
                                          "/sys/module/kernel/parameters/panic",
                                          "/sys/power/state",
                                          "/sys/fs/cgroup/cgroup.procs"};
    for (size_t i = 0; i < sizeof(reading) / sizeof(*reading); i++)
        if (may_open(reading[i], O_RDONLY))
            escaped(reading[i]);
    for (size_t i = 0; i < sizeof(writing) / sizeof(*writing); i++)
        if (may_open(writing[i], O_WRONLY))
            escaped(writing[i]);
}

static void program_in_memory(void)
{
    char *const argv[] = {(char[]){"sh"}, (char[]){"-c"},
                          (char[]){"[ $(id -u) = 0 ] && echo ESCAPED; cat $SECRET; grep -q "
                                   "'NoNewPrivs:.*1' /proc/self/status || echo ESCAPED"},
                          NULL};
    char data[65536];
    ssize_t n;
    int from = open("/bin/dash", O_RDONLY | O_CLOEXEC), to = memfd_create("sh", MFD_CLOEXEC);
    if (to < 0) /* as on a kernel without them */
        return;
    while (from >= 0 && (n = read(from, data, sizeof(data))) > 0)
        (void)!write(to, data, (size_t)n);
    fchmod(to, 06755);
    pid_t pid = fork();
    if (pid == 0) {
        syscall(SYS_execveat, to, "", argv, environ, AT_EMPTY_PATH);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

const struct trick file_tricks[] = {
    {"look-at-init-at-once", look_at_init_at_once},
    {"init-by-parent", init_by_parent},
    {"open-descriptors", open_descriptors},
    {"reopen-for-writing", reopen_for_writing},
    {"link-by-descriptor", link_by_descriptor},
    {"hidden-file-linked-out", hidden_file_linked_out},
    {"rename-out", rename_out},
    {"attributes", attributes},
    {"devices-of-its-own", devices_of_its_own},
    {"all-devices", all_devices},
    {"write-through-the-page-cache", write_through_the_page_cache},
    {"namespaces-by-descriptor", namespaces_by_descriptor},
    {"roots-of-others", roots_of_others},
    {"kernel-files", kernel_files},
    {"program-in-memory", program_in_memory},
    {NULL, NULL},
};
