/*
 * The common part of many jails' roots, made once.
 *
 * Theory of operation. The process that starts jails has a child make a mount namespace whose root
 * holds what is the same in all of them (the system, its names, its devices) and an empty place for
 * the rest. The process keeps the namespace by a descriptor. A jail enters the namespace, makes a
 * copy for itself and adds its own mounts.
 *
 *     launcher ── template_prepare() ──▶ namespace: /usr /etc /dev, places for /tmp /workspace …
 *       └ child   root_join()              setns(), unshare(): a copy; /tmp, /proc, the binds
 *
 * This saves each jail about sixty mounts and pivot_root(), which visits every thread of the host.
 * The child opens the paths outside before it enters, because it cannot reach them afterwards.
 *
 * A template is made when a plan of the same shape comes a second time. It is made again when it
 * would turn out differently: when a shown path leads to another file (a name server's file is
 * replaced by renaming), or when anything was mounted or unmounted. Templates need a launcher that
 * makes namespaces as root; jails of other launchers perform all steps themselves.
 *
 * Threads: as jail.h says.
 */
#include "jail/jail_private.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FD_LOWEST 64
#define KEPT 8      /* shapes: Claude, commands, sessions, Python, with a gate or without */
#define SEEN 16     /* shapes that came once */
#define LOOK_MS 100 /* the shortest time between two looks at the files */
#define HASH_START UINT64_C(0xcbf29ce484222325)

struct made_root {
    uint64_t shape, files; /* the shape that it serves, and the files in it */
    int64_t looked_ms;     /* when the files were last found unchanged */
    uint64_t used;         /* the entry with the smallest number is replaced first */
    int ns;                /* below 1: free */
};

static struct made_root kept[KEPT];
static uint64_t seen[SEEN];
static size_t next_seen;
static uint64_t uses;
static int mounts = -1; /* this process's mount table; poll() reports changes */
static pid_t watcher;   /* the process that opened it: its forks do not see the changes */
static bool impossible;

/* --- its contents --------------------------------------------------------------------------- */

static uint64_t add_bytes(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *at = data;
    while (len-- > 0)
        hash = (hash ^ *at++) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t add_text(uint64_t hash, const char *text)
{
    return text ? add_bytes(hash, text, strlen(text) + 1) : add_bytes(hash, "", 1);
}

/* Adds which file is at the path now, and where a link leads. */
static uint64_t add_file(uint64_t hash, const char *path)
{
    struct stat st;
    for (int follow = 0; follow < 2; follow++) {
        if (fstatat(AT_FDCWD, path, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW))
            return add_bytes(hash, "-", 1);
        const uint64_t is[] = {st.st_dev, st.st_ino, st.st_mode & S_IFMT};
        hash = add_bytes(hash, is, sizeof(is));
        if (!S_ISLNK(st.st_mode))
            break;
        hash = add_bytes(hash, &st.st_ctim, sizeof(st.st_ctim));
    }
    return hash;
}

static mode_t type_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : st.st_mode & S_IFMT;
}

/* False for a plan that no template serves: a link of its own, or a bind that becomes one, is made
 * in the root itself. */
static bool find_shape(const struct jail *jail, uint64_t *ret_shape)
{
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < jail->step_count; i++) {
        const struct step *step = &jail->steps[i];
        const unsigned how[] = {step->kind, step->read_only, step->optional, step->common,
                                step->kind == STEP_BIND && !step->common ? type_of(step->from) : 0};
        if (!step->common && (step->kind == STEP_LINK || root_makes_link(step)))
            return false;
        hash = add_text(add_bytes(hash, how, sizeof(how)), step->to);
        if (step->common)
            hash = add_text(hash, step->from);
    }
    *ret_shape = hash;
    return true;
}

static uint64_t files_of(const struct jail *jail)
{
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < jail->step_count; i++) {
        const struct step *step = &jail->steps[i];
        if (step->common && (step->kind == STEP_BIND || step->kind == STEP_DEVICE))
            hash = add_file(hash, step->from);
    }
    return hash;
}

/* --- making it ------------------------------------------------------------------------------ */

static void drop(struct made_root *made)
{
    if (made->ns > 0)
        close(made->ns);
    *made = (struct made_root){.ns = 0};
}

static pid_t clone_into(unsigned long flags)
{
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

/* In the child: makes the root, reports the result, and stays until the namespace has been
 * opened. */
static _Noreturn void live_in_it(const struct jail *jail, int says, int waits)
{
    struct err err;
    char byte;
    bool made = root_make_template(jail, &err) == 0 && write(says, "m", 1) == 1;
    (void)!read(waits, &byte, 1);
    _exit(made ? 0 : 1);
}

static int open_namespace(pid_t pid)
{
    char path[48];
    snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_LOWEST);
}

static int make_namespace(const struct jail *jail)
{
    char byte;
    int up[2], down[2], ns = -1, status = 1;
    if (pipe2(up, O_CLOEXEC))
        return -1;
    AUTO(fd) int says = up[1];
    AUTO(fd) int hears = up[0];
    if (pipe2(down, O_CLOEXEC))
        return -1;
    AUTO(fd) int lets_go = down[1];
    AUTO(fd) int waits = down[0];
    pid_t pid = clone_into(CLONE_NEWNS);
    if (pid == 0) {
        close(lets_go);
        live_in_it(jail, says, waits);
    }
    fd_close(&says);
    if (pid > 0 && read(hears, &byte, 1) == 1)
        ns = open_namespace(pid);
    fd_close(&lets_go);
    if (pid > 0)
        waitpid(pid, &status, 0);
    return ns;
}

/* Some containers do not allow anybody to enter a namespace. */
static bool can_be_entered(int ns)
{
    int status = 1;
    pid_t pid = clone_into(0);
    if (pid == 0)
        _exit(setns(ns, CLONE_NEWNS) || unshare(CLONE_NEWNS) ? 1 : 0);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void make(struct made_root *made, const struct jail *jail, uint64_t shape)
{
    drop(made);
    made->files = files_of(jail); /* first: a change that comes later is noticed by the next look */
    made->ns = make_namespace(jail);
    if (made->ns <= 0 || !can_be_entered(made->ns)) {
        drop(made);
        impossible = true;
        return;
    }
    made->shape = shape;
    made->looked_ms = clock_mono_ms();
}

/* --- keeping it ----------------------------------------------------------------------------- */

/* Forgets all templates when something was mounted since the last call. */
static void look_at_mounts(void)
{
    struct pollfd wait = {.fd = mounts, .events = POLLPRI};
    if (mounts >= 0 && watcher == getpid() && poll(&wait, 1, 0) == 0)
        return;
    for (size_t i = 0; i < KEPT; i++)
        drop(&kept[i]);
    if (mounts >= 0 && watcher == getpid())
        return;
    fd_close(&mounts);
    AUTO(fd) int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    mounts = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_LOWEST);
    watcher = getpid();
}

static bool is_fresh(struct made_root *made, const struct jail *jail)
{
    const int64_t now_ms = clock_mono_ms();
    if (now_ms - made->looked_ms < LOOK_MS)
        return true;
    made->looked_ms = now_ms;
    return made->files == files_of(jail);
}

/* Returns a template of this shape, else an entry that may be replaced. */
static struct made_root *find(uint64_t shape)
{
    struct made_root *oldest = &kept[0];
    for (size_t i = 0; i < KEPT; i++) {
        if (kept[i].ns > 0 && kept[i].shape == shape)
            return &kept[i];
        if (kept[i].used < oldest->used)
            oldest = &kept[i];
    }
    return oldest;
}

/* A shape may hold paths of a single task: such a shape does not come again. */
static bool came_before(uint64_t shape)
{
    for (size_t i = 0; i < SEEN; i++)
        if (seen[i] == shape)
            return true;
    seen[next_seen++ % SEEN] = shape;
    return false;
}

void template_prepare(struct jail *jail)
{
    uint64_t shape;
    jail->template_ns = -1;
    if (impossible || jail->tier != JAIL_FULL || jail->user_first || !find_shape(jail, &shape))
        return;
    look_at_mounts();
    if (mounts < 0)
        return;
    struct made_root *made = find(shape);
    const bool there = made->ns > 0 && made->shape == shape;
    if (!there && !came_before(shape))
        return;
    if (!there || !is_fresh(made, jail))
        make(made, jail, shape);
    if (made->ns > 0) {
        made->used = ++uses;
        jail->template_ns = made->ns;
    }
}

void template_forget(const struct jail *jail)
{
    fd_close(&mounts);
    for (size_t i = 0; i < KEPT; i++)
        if (kept[i].ns > 0 && (!jail || kept[i].ns != jail->template_ns))
            drop(&kept[i]);
}
