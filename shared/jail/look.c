/* Limits: measures what a tree uses, by its control group or by counting here. */
#include "jail/jail_private.h"

#include "base/check.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FD_LOWEST 64
#define WATCH_MEMORY_MS 10
#define WATCH_EVENTS_MS 100
#define WATCH_DISK_MS 50
#define DEPTH_MAX 128
#define FILE_BYTES 1024 /* that a file costs beside its content */

/* --- disk ---------------------------------------------------------------------------------- */

int counted_open(struct jail *jail, struct err *err)
{
    for (size_t i = 0; jail->policy.disk_mb > 0 && i < jail->policy.counted.count; i++) {
        AUTO(fd)
        int fd =
            open(jail->policy.counted.items[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int kept = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_LOWEST);
        if (kept < 0)
            return jail_fail(err, "%s", jail->policy.counted.items[i]);
        jail->disk.fds[jail->disk.count++] = kept;
    }
    return 0;
}

/* Sums up what a directory holds, in bytes on disk; stops at `enough`. */
static int64_t sum_up(int at, int64_t enough, int depth)
{
    int64_t sum = 0;
    int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    struct stat st;
    if (!dir) {
        fd_close(&fd);
        return 0;
    }
    while (sum <= enough && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        if (!S_ISDIR(st.st_mode) || strcmp(entry->d_name, ".") == 0) {
            sum += (int64_t)st.st_blocks * 512 /
                   (st.st_nlink > 1 && !S_ISDIR(st.st_mode) ? (int64_t)st.st_nlink : 1);
            sum += FILE_BYTES; /* An empty file costs something too. */
            continue;
        }
        AUTO(fd)
        int below = depth < DEPTH_MAX ? openat(dirfd(dir), entry->d_name,
                                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                                      : -1;
        if (below >= 0)
            sum += sum_up(below, enough - sum, depth + 1);
    }
    closedir(dir);
    return sum;
}

static int64_t free_bytes(const struct disk *disk)
{
    struct statvfs fs;
    return fstatvfs(disk->fds[0], &fs)
               ? 0
               : (int64_t)fs.f_bfree * (int64_t)fs.f_frsize + (int64_t)fs.f_ffree * FILE_BYTES;
}

/* Whether the sum of the last time may be wrong by enough to matter: the whole file system has lost
 * so much since that this tree may have passed its limit, or gained so much that it may be below
 * that of the policy again. */
static bool is_stale(const struct disk *disk, int64_t now, int64_t limit)
{
    int64_t lost = disk->free_bytes - now;
    return !disk->known || lost > disk->limit_bytes - disk->used_bytes ||
           (disk->limit_bytes > limit && -lost >= disk->used_bytes - limit);
}

static bool disk_exceeded(struct jail *jail)
{
    struct disk *disk = &jail->disk;
    const int64_t limit = (int64_t)jail->policy.disk_mb << 20;
    const int64_t more = (int64_t)jail->policy.disk_more_mb << 20;
    if (disk->count == 0 || jail->policy.disk_mb == 0)
        return false;
    int64_t now = free_bytes(disk);
    if (!is_stale(disk, now, limit))
        return false;
    bool first = !disk->known;
    int64_t enough = !first ? disk->limit_bytes : more > 0 ? INT64_MAX : limit;
    disk->used_bytes = 0;
    for (int i = 0; i < disk->count; i++)
        disk->used_bytes += sum_up(disk->fds[i], enough - disk->used_bytes, 0);
    disk->free_bytes = now;
    disk->known = true;
    if (disk->used_bytes <= limit)
        disk->limit_bytes = limit;
    else if (first)
        disk->limit_bytes = more > 0 ? disk->used_bytes + more : limit;
    return disk->used_bytes > disk->limit_bytes;
}

/* --- memory without control groups ---------------------------------------------------------- */

/* A process's private resident memory, in KiB. */
static int64_t resident_kib(const char *pid)
{
    char path[64], text[128];
    char *at = text, *end = text;
    int64_t resident = 0;
    snprintf(path, sizeof(path), "/proc/%.16s/statm", pid);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    for (int i = 0; i < 2; i++, at = end) {
        resident = strtoll(at, &end, 10);
        if (end == at)
            return 0;
    }
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static int64_t tree_kib(pid_t root, int depth);

/* What a thread has started, and below. */
static int64_t branches_kib(int tasks, const char *thread, int depth)
{
    char path[64], text[16384], *save = NULL;
    int64_t sum = 0;
    snprintf(path, sizeof(path), "%.16s/children", thread);
    AUTO(fd) int fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    for (char *pid = strtok_r(text, " ", &save); pid; pid = strtok_r(NULL, " ", &save))
        sum += resident_kib(pid) + tree_kib((pid_t)strtol(pid, NULL, 10), depth + 1);
    return sum;
}

/* Of all processes below `root`, which are its children's children …: with a pid namespace
 * everybody that /proc shows, but for us. Each thread has children of its own. */
static int64_t tree_kib(pid_t root, int depth)
{
    char path[64];
    int64_t sum = 0;
    const struct dirent *entry;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)root);
    DIR *tasks = depth < DEPTH_MAX ? opendir(path) : NULL;
    while (tasks && (entry = readdir(tasks)))
        if (entry->d_name[0] != '.')
            sum += branches_kib(dirfd(tasks), entry->d_name, depth);
    if (tasks)
        closedir(tasks);
    return sum;
}

static bool memory_exceeded(const struct jail *jail, pid_t root)
{
    if (jail->policy.memory_mb == 0 || jail->group.memory_events >= 0)
        return false;
    return tree_kib(root, 0) > (int64_t)jail->policy.memory_mb * 1024;
}

/* --- both ----------------------------------------------------------------------------------- */

unsigned jail_look(struct jail *jail, pid_t root)
{
    unsigned met = group_look(&jail->group);
    if (memory_exceeded(jail, root))
        met |= JAIL_MEMORY;
    if (disk_exceeded(jail))
        met |= JAIL_DISK;
    return met;
}

int jail_look_every_ms(const struct jail *jail)
{
    if (jail->policy.memory_mb > 0 && jail->group.memory_events < 0)
        return WATCH_MEMORY_MS;
    if (jail->disk.count > 0)
        return WATCH_DISK_MS;
    return jail->group.memory_events >= 0 ? WATCH_EVENTS_MS : -1;
}

int jail_limit_memory(struct jail *jail, int memory_mb, struct err *err)
{
    REQUIRE(memory_mb > 0);
    jail->policy.memory_mb = memory_mb;
    return group_limit_memory(&jail->group, memory_mb) ? jail_fail(err, "limit of memory") : 0;
}

bool jail_kill(struct jail *jail)
{
    return group_kill(&jail->group);
}

static int open_handshake(struct jail *jail, struct err *err)
{
    int ends[2];
    if (!jail->user_first || jail->maps_itself)
        return 0;
    if (pipe2(ends, O_CLOEXEC))
        return jail_fail(err, "handshake");
    for (int i = 0; i < 2; i++) {
        jail->handshake[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, FD_LOWEST);
        fd_close(&ends[i]);
    }
    return jail->handshake[0] < 0 || jail->handshake[1] < 0 ? jail_fail(err, "handshake") : 0;
}

int jail_open(struct jail *jail, const char *name, struct err *err)
{
    REQUIRE(name && name[0]);
    if (jail->tier != JAIL_NONE && filter_prepare(jail, err))
        return -1;
    if (open_handshake(jail, err) || counted_open(jail, err))
        return -1;
    template_prepare(jail);
    return group_open(jail, name, err);
}

void jail_release(struct jail *jail)
{
    group_release(&jail->group);
    for (int i = 0; i < jail->disk.count; i++)
        fd_close(&jail->disk.fds[i]);
    jail->disk.count = 0;
    fd_close(&jail->handshake[0]);
    fd_close(&jail->handshake[1]);
}

void jail_close(struct jail *jail)
{
    jail_release(jail);
    group_remove(&jail->group);
}
