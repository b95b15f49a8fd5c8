/* Relations between a session's processes: see box_private.h. */
#include "runner/box/box_private.h"

#include "base/check.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROCESSES_MAX 65536

static int read_small(pid_t pid, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? 0 : -1;
}

/* Reads what stands in /proc/PID/stat from the parent on: that is field 4. */
static void read_numbers(const char *at, struct process *process)
{
    char *end;
    for (int field = 4; field <= 20; field++, at = end) {
        long number = strtol(at, &end, 10);
        if (field == 4)
            process->parent = (pid_t)number;
        if (field == 5)
            process->group = (pid_t)number;
        if (field == 20)
            process->threads = number > 0 ? (int)number : 1;
    }
}

/* Reads about a process; -1 when it is gone or a zombie, which no signal can reach. */
static int look(pid_t pid, struct process *process)
{
    char text[1024];
    if (read_small(pid, "stat", text, sizeof(text)))
        return -1;
    const char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
        return -1;
    process->pid = pid;
    read_numbers(at + 3, process);
    process->stopped = at[2] == 'T' || at[2] == 't';
    process->tag =
        read_small(pid, "coredump_filter", text, sizeof(text)) ? -1 : (int)strtol(text, NULL, 16);
    return 0;
}

static int by_pid(const void *a, const void *b)
{
    const struct process *one = a, *other = b;
    return one->pid < other->pid ? -1 : one->pid > other->pid;
}

/* Keeps the processes that descend from the agent: without a pid namespace /proc shows others,
 * too. Most parents have lower pids than their children, so few turns are needed. */
static size_t keep_ours(struct process *list, size_t count, pid_t self)
{
    bool *ours = calloc(count + 1, sizeof(*ours));
    bool grown = ours != NULL;
    qsort(list, count, sizeof(*list), by_pid);
    while (grown) {
        grown = false;
        for (size_t i = 0; i < count; i++) {
            const struct process key = {.pid = list[i].parent};
            const struct process *parent =
                ours[i] ? NULL : bsearch(&key, list, count, sizeof(*list), by_pid);
            if (!ours[i] && (list[i].parent == self || (parent && ours[parent - list])))
                grown = ours[i] = true;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; ours && i < count; i++)
        if (ours[i])
            list[kept++] = list[i];
    free(ours);
    return kept;
}

struct process *box_processes_list(const struct box *box, size_t *ret_count)
{
    struct process *list = NULL;
    struct dirent *entry;
    size_t count = 0, room = 0;
    DIR *proc = opendir("/proc");
    while (proc && count < PROCESSES_MAX && (entry = readdir(proc))) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        if (count == room) {
            room = room ? room * 2 : 64;
            struct process *grown = realloc(list, room * sizeof(*list));
            if (!grown)
                break;
            list = grown;
        }
        count += look((pid_t)strtol(entry->d_name, NULL, 10), &list[count]) == 0;
    }
    if (proc)
        closedir(proc);
    *ret_count = list ? keep_ours(list, count, box->self) : 0;
    return list;
}

void box_tag_set(pid_t pid, int tag)
{
    char path[64], text[16];
    snprintf(path, sizeof(path), "/proc/%d/coredump_filter", (int)pid);
    AUTO(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    int n = snprintf(text, sizeof(text), "0x%x", (unsigned)tag);
    if (fd >= 0)
        (void)!write(fd, text, (size_t)n);
}

/* Gives tags in turn; after one round, tags that a process still has are skipped. */
int box_tag_new(struct box *box)
{
    static bool used[TAG_COUNT];
    static bool again;
    do {
        box->tag = (box->tag + 1) % TAG_COUNT;
        if (box->tag == 0) {
            size_t count;
            struct process *list = box_processes_list(box, &count);
            memset(used, 0, sizeof(used));
            for (size_t i = 0; i < count; i++)
                if (list[i].tag >= 0 && list[i].tag < TAG_COUNT)
                    used[list[i].tag] = true;
            free(list);
            again = true;
        }
    } while (box->tag == TAG_NONE || box->tag == 0 || (again && used[box->tag]));
    return box->tag;
}

static int send_to(const struct process *process, int sig)
{
    return process->pid > 1 && !(sig == SIGSTOP && process->stopped) &&
           kill(process->pid, sig) == 0;
}

int box_tag_signal(const struct box *box, int tag, pid_t spare, int sig)
{
    size_t count;
    int found = 0;
    struct process *list = box_processes_list(box, &count);
    for (size_t i = 0; i < count; i++)
        if (list[i].tag == tag && list[i].pid != spare)
            found += send_to(&list[i], sig);
    free(list);
    return found;
}

bool box_is_ours(const struct box *box, pid_t pid)
{
    for (size_t i = 0; i < box->shell_count; i++)
        if (box->shells[i].pid == pid)
            return true;
    for (size_t i = 0; i < PTYS_MAX; i++)
        if (box->ptys[i] == pid)
            return true;
    for (size_t i = 0; i < WORKERS_MAX; i++)
        if (box->workers[i].pid == pid)
            return true;
    return false;
}

int box_branch_signal(const struct box *box, pid_t pid, int sig)
{
    size_t count;
    int found = 0;
    struct process *list = box_processes_list(box, &count);
    bool grown = true;
    for (size_t i = 0; i < count; i++)
        list[i].tag = list[i].pid == pid || getpgid(list[i].pid) == pid;
    while (grown) {
        grown = false;
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < count && !list[i].tag; j++)
                if (list[j].tag && list[j].pid == list[i].parent)
                    list[i].tag = (grown = true);
    }
    for (size_t i = 0; i < count; i++)
        if (list[i].tag && list[i].pid > 1)
            found += kill(list[i].pid, sig) == 0;
    free(list);
    return found;
}
