#include "runner/python/inside/children.h"

#include "base/auto.h"
#include "base/fd.h"
#include "base/str.h"
#include "jail/jail.h"
#include "runner/python/inside/embed.h"
#include "runner/python/inside/walls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN_MAX 4096
#define LOOK_MS 10
#define CONTROL_FD 200 /* In a child: a number that no library uses for an open file. */

struct child {
    uint32_t id;
    pid_t pid;
    int64_t base_kib; /* resident at its start: memory of the zygote */
    int memory_mb;
    unsigned exceeded; /* limits that were seen to be exceeded */
    struct walls *walls;
};

struct children {
    struct walls *dead; /* of the child that was reaped last */
    struct child *items;
    size_t count, room;
};

struct children *children_new(void)
{
    return calloc(1, sizeof(struct children));
}

void children_forget(struct children *children)
{
    /* The walls belong to the parent; only the table's memory is freed. */
    free(children->items);
    free(children);
}

/* Uses the system call: libc's fork() would run handlers of libraries, which have no threads
 * here. */
long clone_process(unsigned long flags)
{
    return syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

/* Reads fields of /proc/PID/statm, in KiB. */
static int read_statm(pid_t pid, int64_t *ret_resident_kib, int64_t *ret_data_kib)
{
    char path[32], text[128];
    long long resident, data;
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : fd_pread_full(fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    long long fields[6] = {0};
    char *at = text, *end = text;
    for (int i = 0; i < 6; i++, at = end) {
        fields[i] = strtoll(at, &end, 10);
        if (end == at)
            return -1;
    }
    resident = fields[1];
    data = fields[5];
    int64_t page_kib = sysconf(_SC_PAGESIZE) / 1024;
    *ret_resident_kib = resident * page_kib;
    *ret_data_kib = data * page_kib;
    return 0;
}

static _Noreturn void give_up(const struct err *err)
{
    fprintf(stderr, "the jail cannot be built: %s: %s\n", err->msg, strerror(err->sys));
    _exit(71);
}

static int put_stdio(const int fds[CHILD_FDS])
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return null < 0 || dup2(null, 0) < 0 || dup2(fds[CHILD_STDOUT], 1) < 0 ||
                   dup2(fds[CHILD_STDERR], 2) < 0 || dup2(fds[CHILD_CONTROL], CONTROL_FD) < 0
               ? -1
               : 0;
}

static _Noreturn void child_run(struct walls *walls, const int fds[CHILD_FDS], int64_t data_kib)
{
    struct err err = ERR_INIT;
    sigset_t none;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_NAME, "python-standby", 0, 0, 0);
    if (put_stdio(fds))
        _exit(71);
    if (walls_enter(walls, &err))
        give_up(&err);
    close_range(3, CONTROL_FD - 1, 0);
    fd_close_from(CONTROL_FD + 1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    embed_after_clone_child();
    embed_serve(CONTROL_FD, data_kib * 1024, walls_scratch(walls));
}

static int add(struct children *children, const struct child *child, struct err *err)
{
    if (children->count == CHILDREN_MAX)
        return err_set(err, ERR_BUSY, "there are %d children already", CHILDREN_MAX);
    if (children->count == children->room) {
        size_t room = children->room ? children->room * 2 : 16;
        struct child *items = realloc(children->items, room * sizeof(*items));
        if (!items)
            return err_sys(err, "children");
        children->items = items;
        children->room = room;
    }
    children->items[children->count++] = *child;
    return 0;
}

int children_start(struct children *children, uint32_t id, int memory_mb, const int fds[CHILD_FDS],
                   struct err *err)
{
    char name[48];
    int64_t data_kib = 0;
    struct child child = {.id = id, .memory_mb = memory_mb};
    snprintf(name, sizeof(name), "python-%u", id);
    child.walls = walls_open(name, memory_mb, err);
    if (!child.walls)
        return -1;
    read_statm(getpid(), &child.base_kib, &data_kib);
    embed_before_clone();
    child.pid = walls_clone(child.walls);
    if (child.pid == 0)
        child_run(child.walls, fds, data_kib);
    int sys = errno;
    embed_after_clone_parent();
    errno = sys;
    if (child.pid > 0)
        read_statm(child.pid, &child.base_kib, &data_kib);
    int rc =
        child.pid < 0 ? err_sys(err, "cannot clone") : walls_parent(child.walls, child.pid, err);
    if (rc == 0)
        rc = add(children, &child, err);
    if (rc && child.pid > 0) {
        kill(child.pid, SIGKILL);
        waitpid(child.pid, NULL, 0);
    }
    if (rc)
        walls_free(child.walls);
    return rc;
}

static struct child *find(struct children *children, uint32_t id)
{
    for (size_t i = 0; i < children->count; i++)
        if (children->items[i].id == id)
            return &children->items[i];
    return NULL;
}

int children_limit(struct children *children, uint32_t id, int memory_mb, struct err *err)
{
    struct child *child = find(children, id);
    if (!child)
        return err_set(err, ERR_NOT_FOUND, "there is no such child");
    child->memory_mb = memory_mb;
    return walls_limit(child->walls, memory_mb, err);
}

void children_signal(struct children *children, uint32_t id, int sig)
{
    struct child *child = find(children, id);
    if (child)
        kill(child->pid, sig); /* Not reaped yet, so the pid still belongs to it. */
}

void children_tidy(struct children *children)
{
    walls_free(children->dead);
    children->dead = NULL;
}

bool children_reap(struct children *children, struct zygote_wire *ret_wire)
{
    int status;
    struct rusage used;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0) {
        for (size_t i = 0; i < children->count; i++) {
            struct child *child = &children->items[i];
            if (child->pid != pid)
                continue;
            *ret_wire = (struct zygote_wire){.type = ZYGOTE_ENDED,
                                             .id = child->id,
                                             .value = status,
                                             .exceeded = child->exceeded | walls_look(child->walls),
                                             .peak_kib = used.ru_maxrss};
            children_tidy(children);
            children->dead = child->walls;
            *child = children->items[--children->count];
            return true;
        }
    }
    return false;
}

/* True when a child uses too much memory. Pages that it shares with the zygote do not count: only
 * what it has beyond its start. */
static bool is_beyond(const struct child *child)
{
    int64_t resident_kib, data_kib;
    return read_statm(child->pid, &resident_kib, &data_kib) == 0 &&
           resident_kib - child->base_kib > (int64_t)child->memory_mb * 1024;
}

int children_look(struct children *children)
{
    if (walls_count_memory() || children->count == 0)
        return -1;
    for (size_t i = 0; i < children->count; i++) {
        struct child *child = &children->items[i];
        if (child->exceeded || !is_beyond(child))
            continue;
        child->exceeded = JAIL_MEMORY;
        kill(child->pid, SIGKILL);
    }
    return LOOK_MS;
}
