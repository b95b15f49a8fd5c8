#include "proc/tree.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENVIRON_BYTES_MAX (4u << 20)

struct process {
    pid_t pid;
    pid_t parent;
    bool inside;
};

/* Reads fields of /proc/PID/stat after the command, which may itself hold spaces and
 * parentheses. */
static int read_stat(pid_t pid, pid_t *ret_parent, int64_t *ret_start)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    char *at = strrchr(text, ')');
    if (!at)
        return -1;
    char *save = NULL;
    char *field = strtok_r(at + 1, " ", &save);
    for (int i = 3; field; i++, field = strtok_r(NULL, " ", &save)) {
        if (i == 4)
            *ret_parent = (pid_t)strtol(field, NULL, 10);
        if (i == 22) {
            *ret_start = strtoll(field, NULL, 10);
            return 0;
        }
    }
    return -1;
}

int64_t tree_start_time(pid_t pid)
{
    pid_t parent;
    int64_t start;
    return read_stat(pid, &parent, &start) ? 0 : start;
}

/* The pid of the next entry in /proc, or 0 at the end. */
static pid_t next_pid(DIR *proc)
{
    struct dirent *entry;
    while ((entry = readdir(proc)))
        if (isdigit((unsigned char)entry->d_name[0]))
            return (pid_t)strtol(entry->d_name, NULL, 10);
    return 0;
}

static struct process *list_processes(size_t *ret_count)
{
    DIR *proc = opendir("/proc");
    struct process *list = NULL;
    size_t count = 0, room = 0;
    pid_t pid, parent;
    int64_t start;
    while (proc && (pid = next_pid(proc))) {
        if (read_stat(pid, &parent, &start))
            continue;
        if (count == room) {
            room = room ? room * 2 : 256;
            struct process *more = realloc(list, room * sizeof(*list));
            if (!more)
                break;
            list = more;
        }
        list[count++] = (struct process){pid, parent, false};
    }
    if (proc)
        closedir(proc);
    *ret_count = count;
    return list;
}

static bool is_inside(const struct process *list, size_t count, pid_t pid, pid_t root)
{
    if (pid == root)
        return true;
    for (size_t i = 0; i < count; i++)
        if (list[i].pid == pid)
            return list[i].inside;
    return false;
}

int tree_signal(pid_t root, int sig)
{
    REQUIRE(root > 0);
    size_t count;
    int found = 0;
    AUTO(str) char *memory = (char *)list_processes(&count);
    struct process *list = (struct process *)(void *)memory;
    for (bool more = true; more;) { /* children may be listed before their parents */
        more = false;
        for (size_t i = 0; i < count; i++) {
            if (!list[i].inside && list[i].pid != root &&
                is_inside(list, count, list[i].parent, root)) {
                list[i].inside = more = true;
                found++;
            }
        }
    }
    for (size_t i = 0; i < count; i++)
        if (list[i].inside)
            kill(list[i].pid, sig);
    return found;
}

static bool has_marker(pid_t pid, const char *marker)
{
    char path[64];
    struct err err;
    AUTO(buf) struct buf env = BUF_INIT(ENVIRON_BYTES_MAX);
    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    if (file_read(path, &env, &err))
        return false;
    size_t len = strlen(marker);
    for (const char *at = buf_str(&env), *end = at + env.len; at < end; at += strlen(at) + 1)
        if (strncmp(at, marker, len) == 0 && at[len] == '\0')
            return true;
    return false;
}

static int kill_marked(const char *marker)
{
    int found = 0;
    pid_t pid;
    DIR *proc = opendir("/proc");
    while (proc && (pid = next_pid(proc))) {
        if (pid != getpid() && has_marker(pid, marker) && kill(pid, SIGKILL) == 0)
            found++;
    }
    if (proc)
        closedir(proc);
    return found;
}

int tree_end_marked(const char *marker, int timeout_ms)
{
    REQUIRE(marker && strchr(marker, '='));
    int64_t deadline = clock_mono_ms() + timeout_ms;
    int found = 0, now;
    while ((now = kill_marked(marker)) > 0) {
        found += now;
        if (clock_mono_ms() > deadline)
            return -1;
        poll(NULL, 0, 2);
    }
    return found;
}

/* Where the kernel has no descriptors of processes (gVisor until 2025), the number may become
 * another's between the look and the kill. */
static bool end_by_number(pid_t pid, int64_t start_time, int timeout_ms)
{
    const int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    while (start_time != 0 && tree_start_time(pid) == start_time) {
        if (kill(pid, SIGKILL) && errno == ESRCH)
            return true;
        if (clock_mono_ms() >= deadline_ms)
            return false;
        poll(NULL, 0, 2);
    }
    return true;
}

bool tree_end_process(pid_t pid, int64_t start_time, int timeout_ms)
{
    AUTO(fd) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 && errno == ENOSYS)
        return end_by_number(pid, start_time, timeout_ms);
    if (pidfd < 0 || start_time == 0 || tree_start_time(pid) != start_time)
        return true;
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) && errno == ESRCH)
        return true;
    struct pollfd wait = {.fd = pidfd, .events = POLLIN};
    return poll(&wait, 1, timeout_ms) == 1;
}
