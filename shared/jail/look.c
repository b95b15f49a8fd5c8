/* Limits: measures what a tree uses, by its control group or by counting here. */
#include "jail/jail_private.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FD_LOWEST 64
#define WATCH_MEMORY_MS 10
#define WATCH_EVENTS_MS 100
#define WATCH_DISK_MS 50
#define SUM_FOR_MS 300 /* a sum of the disk is good for so long */
#define SUM_SHARE 30   /* and for so many times what it took */
#define DEPTH_MAX 128
#define DEEP_MAX 64
#define ENTRIES_BYTES 2048 /* read at once, on the stack of each level */
#define UNLINKED_MAX 512   /* files that are told apart */
#define FILE_BYTES 1024    /* that a file costs beside its content */
#define TABLE_SHARE 512    /* a table of eight bytes a page, beside pages of four KiB */

/* True when the look is to end now. Each step of one may take long: a program chooses how many
 * processes and files there are, and one that forks without end keeps others from its maps. */
static bool is_over(const struct jail_stop *stop)
{
    if (!stop)
        return false;
    struct pollfd wait = {.fd = stop->fd, .events = POLLIN};
    return poll(&wait, 1, 0) > 0 || clock_mono_ms() >= stop->until_ms;
}

/* --- the processes of a tree ----------------------------------------------------------------- */

/* Who looks at the processes of a tree, and what it has found. */
struct visitor {
    void (*visit)(const char *pid, struct visitor *visitor);
    const struct jail_stop *stop; /* borrowed, or NULL */
    bool stopped;
    int64_t sum;
    int64_t tables_most; /* what the tables of all pages can take at most */
    size_t seen_count;
    struct {
        dev_t dev;
        ino_t ino;
    } seen[UNLINKED_MAX];
};

/* Calls visit() for all processes below `root`, which are its children's children …: with a pid
 * namespace everybody that /proc shows, but for us. Each thread has children of its own. */
static void visit_tree(pid_t root, int depth, struct visitor *visitor);

/* What a thread has started, and below. */
static void visit_branches(int tasks, const char *thread, int depth, struct visitor *visitor)
{
    char path[64], text[16384], *save = NULL;
    snprintf(path, sizeof(path), "%.16s/children", thread);
    AUTO(fd) int fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    for (char *pid = strtok_r(text, " ", &save); pid; pid = strtok_r(NULL, " ", &save)) {
        visitor->stopped = visitor->stopped || is_over(visitor->stop);
        if (visitor->stopped)
            return;
        visitor->visit(pid, visitor);
        visit_tree((pid_t)strtol(pid, NULL, 10), depth + 1, visitor);
    }
}

static void visit_tree(pid_t root, int depth, struct visitor *visitor)
{
    char path[64];
    const struct dirent *entry;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)root);
    DIR *tasks = depth < DEPTH_MAX ? opendir(path) : NULL;
    while (tasks && (entry = readdir(tasks)))
        if (entry->d_name[0] != '.')
            visit_branches(dirfd(tasks), entry->d_name, depth, visitor);
    if (tasks)
        closedir(tasks);
}

/* --- files without a name -------------------------------------------------------------------- */

static bool is_new(struct visitor *visitor, const struct stat *st)
{
    for (size_t i = 0; i < visitor->seen_count; i++)
        if (visitor->seen[i].dev == st->st_dev && visitor->seen[i].ino == st->st_ino)
            return false;
    if (visitor->seen_count < UNLINKED_MAX) {
        visitor->seen[visitor->seen_count].dev = st->st_dev;
        visitor->seen[visitor->seen_count++].ino = st->st_ino;
    }
    return true;
}

/* Adds the files of a directory of /proc (fd, map_files) that have no name any more. Those in
 * memory count as memory. */
static void add_unlinked(const char *pid, const char *which, struct visitor *visitor)
{
    char path[64];
    const struct dirent *entry;
    snprintf(path, sizeof(path), "/proc/%.16s/%s", pid, which);
    DIR *dir = opendir(path);
    while (dir && (entry = readdir(dir))) {
        struct stat st;
        struct statfs fs;
        if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &st, 0) ||
            !S_ISREG(st.st_mode) || st.st_nlink > 0 || st.st_blocks == 0)
            continue;
        snprintf(path, sizeof(path), "/proc/%.16s/%s/%.32s", pid, which, entry->d_name);
        if (statfs(path, &fs) == 0 && fs.f_type != TMPFS_MAGIC && is_new(visitor, &st))
            visitor->sum += (int64_t)st.st_blocks * 512;
    }
    if (dir)
        closedir(dir);
}

static void visit_files(const char *pid, struct visitor *visitor)
{
    add_unlinked(pid, "fd", visitor);
    add_unlinked(pid, "map_files", visitor); /* Only root may look there. */
}

/* What the tree keeps on disk in files that it has removed and still has open; -1 when the look was
 * ended before all were seen. */
static int64_t unlinked_bytes(pid_t root, const struct jail_stop *stop)
{
    struct visitor visitor = {.visit = visit_files, .stop = stop};
    visit_tree(root, 0, &visitor);
    return visitor.stopped ? -1 : visitor.sum;
}

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

/* Directories that are too deep to be looked into on the way: they are when that is done. */
struct later {
    const struct jail_stop *stop; /* borrowed, or NULL */
    bool stopped;
    int fds[DEEP_MAX];
    int count;
    bool full;
};

static bool has_stopped(struct later *later)
{
    return later->stopped = later->stopped || is_over(later->stop);
}

static int64_t sum_up(int dir, int64_t enough, int depth, struct later *later);

/* Sums up what an entry of a directory holds. The directory itself counts by its entry ".". */
static int64_t sum_up_entry(int dir, const char *name, int64_t enough, int depth,
                            struct later *later)
{
    struct stat st;
    if (strcmp(name, "..") == 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return 0;
    if (!S_ISDIR(st.st_mode) || strcmp(name, ".") == 0)
        return (int64_t)st.st_blocks * 512 /
                   (st.st_nlink > 1 && !S_ISDIR(st.st_mode) ? (int64_t)st.st_nlink : 1) +
               FILE_BYTES; /* An empty file costs something too. */
    AUTO(fd) int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below >= 0 && depth < DEPTH_MAX)
        return sum_up(below, enough, depth + 1, later);
    if (below >= 0 && later->count < DEEP_MAX) {
        later->fds[later->count++] = below;
        below = -1;
    } else {
        later->full |= below >= 0;
    }
    return 0;
}

/* Sums up what a directory holds, in bytes on disk; stops at `enough`. `dir` has just been opened.
 * Reads entries by the system call: readdir() would need five more for each directory, and most of
 * a task's hold next to nothing. */
static int64_t sum_up(int dir, int64_t enough, int depth, struct later *later)
{
    char room[ENTRIES_BYTES] __attribute__((aligned(8)));
    int64_t sum = 0;
    ssize_t n;
    while (sum <= enough && !has_stopped(later) && (n = getdents64(dir, room, sizeof(room))) > 0) {
        for (ssize_t at = 0; sum <= enough && at < n;) {
            const struct dirent64 *entry = (const void *)(room + at);
            at += entry->d_reclen;
            sum += sum_up_entry(dir, entry->d_name, enough - sum, depth, later);
        }
    }
    return sum;
}

/* The same of a whole tree; -1 when the look was ended before. One that is many times too deep
 * counts as more than enough. */
static int64_t sum_up_all(int at, int64_t enough, const struct jail_stop *stop)
{
    struct later later = {.stop = stop};
    AUTO(fd) int top = openat(at, ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int64_t sum = sum_up(top, enough, 0, &later);
    while (later.count > 0) {
        AUTO(fd) int below = later.fds[--later.count];
        if (sum <= enough)
            sum += sum_up(below, enough - sum, 0, &later);
    }
    if (later.stopped && sum <= enough)
        return -1;
    return later.full && sum <= enough && enough < INT64_MAX ? enough + 1 : sum;
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
 * that of the policy again. What others give back meanwhile hides what this tree takes, so a sum is
 * not good for long. */
static bool is_stale(const struct disk *disk, int64_t now, int64_t limit)
{
    int64_t lost = disk->free_bytes - now;
    return !disk->known || clock_mono_ms() >= disk->until_ms ||
           lost > disk->limit_bytes - disk->used_bytes ||
           (disk->limit_bytes > limit && -lost >= disk->used_bytes - limit);
}

/* Sums up what the tree has on disk, up to `enough`; -1 when the look was ended before. */
static int64_t sum_up_disk(const struct disk *disk, int64_t enough, pid_t root,
                           const struct jail_stop *stop)
{
    int64_t sum = 0, more;
    for (int i = 0; i < disk->count; i++, sum += more)
        if ((more = sum_up_all(disk->fds[i], enough - sum, stop)) < 0)
            return -1;
    more = unlinked_bytes(root, stop);
    return more < 0 && sum <= enough ? -1 : sum + (more > 0 ? more : 0);
}

static bool disk_exceeded(struct jail *jail, pid_t root, const struct jail_stop *stop)
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
    int64_t began_ms = clock_mono_ms();
    int64_t used = sum_up_disk(disk, enough, root, stop);
    if (used < 0)
        return false;
    disk->used_bytes = used;
    disk->free_bytes = now;
    disk->known = true;
    disk->until_ms = clock_mono_ms() + SUM_FOR_MS + SUM_SHARE * (clock_mono_ms() - began_ms);
    if (disk->used_bytes <= limit)
        disk->limit_bytes = limit;
    else if (first)
        disk->limit_bytes = more > 0 ? disk->used_bytes + more : limit;
    return disk->used_bytes > disk->limit_bytes;
}

/* --- memory without control groups ---------------------------------------------------------- */

/* Reads a file of a process as text; "" when the process has ended. */
static void read_text(const char *pid, const char *file, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%.16s/%s", pid, file);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    text[n > 0 ? n : 0] = '\0';
}

/* Adds a process's resident memory, in KiB. */
static void visit_memory(const char *pid, struct visitor *visitor)
{
    const int64_t page_kib = sysconf(_SC_PAGESIZE) / 1024;
    char text[128], *resident, *end;
    read_text(pid, "statm", text, sizeof(text));
    int64_t pages = strtoll(text, &resident, 10);
    if (resident == text)
        return;
    visitor->sum += strtoll(resident, &end, 10) * page_kib;
    visitor->tables_most += pages * page_kib / TABLE_SHARE;
}

/* Adds what the tables of a process's pages take, in KiB: reading untouched memory makes tables
 * that lead to one page of zeros, which is not resident. */
static void visit_tables(const char *pid, struct visitor *visitor)
{
    static const char word[] = "\nVmPTE:";
    char text[2048];
    read_text(pid, "status", text, sizeof(text));
    const char *at = strstr(text, word);
    if (at)
        visitor->sum += strtoll(at + sizeof(word) - 1, NULL, 10);
}

static bool memory_exceeded(const struct jail *jail, pid_t root, const struct jail_stop *stop)
{
    const int64_t limit_kib = (int64_t)jail->policy.memory_mb * 1024;
    if (jail->policy.memory_mb == 0 || jail->group.memory_events >= 0)
        return false;
    struct visitor visitor = {.visit = visit_memory, .stop = stop};
    visit_tree(root, 0, &visitor);
    if (visitor.sum > limit_kib || visitor.sum + visitor.tables_most <= limit_kib)
        return visitor.sum > limit_kib;
    visitor.visit = visit_tables; /* Dearer to read: only when it may matter. */
    visit_tree(root, 0, &visitor);
    return visitor.sum > limit_kib;
}

/* --- both ----------------------------------------------------------------------------------- */

unsigned jail_look(struct jail *jail, pid_t root, const struct jail_stop *stop)
{
    unsigned met = group_look(&jail->group);
    if (memory_exceeded(jail, root, stop))
        met |= JAIL_MEMORY;
    if (disk_exceeded(jail, root, stop))
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
