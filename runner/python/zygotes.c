/* The zygotes, as the daemon sees them: started when needed, ended together. */
#include "runner/python/core.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void zygotes_init(struct python *python)
{
    for (int i = 0; i < LEVEL_COUNT; i++) {
        struct zygote *zygote = &python->zygotes[i];
        zygote->python = python;
        zygote->level = (enum python_level)i;
        zygote->control = -1;
        zygote->source = (struct source){SOURCE_ZYGOTE, zygote};
    }
}

int zygote_send(struct zygote *zygote, const struct zygote_wire *wire, const int *fds, int count,
                struct err *err)
{
    struct zygote_wire copy = *wire;
    union {
        char room[CMSG_SPACE(sizeof(int) * CHILD_FDS)];
        struct cmsghdr align;
    } ancillary = {0};
    struct iovec part = {&copy, sizeof(copy)};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        msg.msg_control = &ancillary;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * (size_t)count);
    }
    if (zygote->control >= 0 && sendmsg(zygote->control, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        return 0;
    return err_sys(err, "a Python zygote does not listen");
}

/* --- starting ------------------------------------------------------------------------------ */

static void adopt(struct zygote *zygote, int control)
{
    zygote->control = control;
    zygote->state = ZYGOTE_LOADING;
    zygote->load_by_ms = clock_mono_ms() + LOAD_MS;
    zygote->used_ms = clock_mono_ms();
    zygote->missing[0] = '\0';
    python_watch(zygote->python, control, &zygote->source, EPOLLIN);
}

static int make_sockets(int ends[2], struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return err_sys(err, "a zygote's socket");
    return 0;
}

static int set_environment(struct plan *plan, const char *cache)
{
    static const char *const fixed[] = {
        "PATH=/usr/bin:/bin",       "HOME=/tmp",         "LANG=C.UTF-8",
        "OPENBLAS_NUM_THREADS=1",   "OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1",
        "NUMEXPR_NUM_THREADS=1",    "MPLBACKEND=Agg",    "LOKY_MAX_CPU_COUNT=1",
        "JOBLIB_MULTIPROCESSING=0",
    };
    for (size_t i = 0; i < COUNT_OF(fixed); i++)
        strlist_add(&plan->env, fixed[i]);
    strlist_addf(&plan->env, "MPLCONFIGDIR=%s", cache);
    return plan->env.failed ? -1 : 0;
}

/* A zygote runs only our code, so it keeps our user, which can build jails; but root without the
 * power to mount (a container) cannot be shown to a user namespace, and builds nothing that the
 * tasks' user cannot. */
static bool is_tasks_user(const struct python *python)
{
    const struct jail_host *host = launcher_host(python->config.launcher);
    return geteuid() == 0 && !host->root && host->has[JAIL_HAS_NAMESPACES];
}

/* Makes the directory of the zygotes' cache, and of children's own directories, which another user
 * must reach where we are root. */
static int make_cache(const struct python *python, const char *cache, struct err *err)
{
    mode_t mode = geteuid() == 0 ? 0711 : 0700;
    if (path_make_dirs(cache, mode, err))
        return -1;
    if (chmod(cache, mode))
        return err_sys(err, "cannot set the mode of '%s'", cache);
    return is_tasks_user(python) ? path_own(cache, python->config.uid, python->config.gid, err) : 0;
}

/* Plans the process tree. */
static struct plan *plan_tree(const struct python *python, struct err *err)
{
    AUTO(plan) struct plan *plan = plan_new();
    AUTO(str) char *cache = path_join(python->config.state_dir, "python");
    static const char *const tiers[] = {"auto", "full", "restricted", "none"};
    if (!plan || !cache) {
        err_sys(err, "Python's plan");
        return NULL;
    }
    if (make_cache(python, cache, err))
        return NULL;
    strlist_add(&plan->argv, python->program);
    strlist_add(&plan->argv, tiers[CONFIG_GET(python->config.config, jail)]);
    strlist_addf(&plan->argv, "%u", (unsigned)python->config.uid);
    strlist_addf(&plan->argv, "%u", (unsigned)python->config.gid);
    plan->cwd = strdup("/");
    plan->uid = is_tasks_user(python) ? python->config.uid : geteuid();
    plan->gid = is_tasks_user(python) ? python->config.gid : getegid();
    plan->kill_grace_ms = 0;
    if (set_environment(plan, cache) || plan->argv.failed || !plan->cwd) {
        err_sys(err, "Python's plan");
        return NULL;
    }
    return STEAL_PTR(plan);
}

static struct child *spawn_tree(struct python *python, int *ret_control, struct err *err)
{
    int ends[2];
    AUTO(plan) struct plan *plan = plan_tree(python, err);
    if (!plan || make_sockets(ends, err))
        return NULL;
    AUTO(fd) int ours = ends[0];
    AUTO(fd) int theirs = ends[1];
    AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int stdio[3] = {theirs, null, null};
    struct child *child = launcher_spawn(python->config.launcher, plan, stdio, err);
    if (child) {
        *ret_control = ours;
        ours = -1;
    }
    return child;
}

void zygotes_start(struct python *python)
{
    struct err err;
    int control = -1;
    struct child *child = spawn_tree(python, &control, &err);
    lock_take(&python->lock);
    if (child) {
        atomic_fetch_add(&python->numbers.trees, 1);
        python->root = child;
        adopt(&python->zygotes[LEVEL_BARE], control);
        const struct zygote_wire name = {.type = ZYGOTE_NAME, .value = (int)child_pid(child)};
        zygote_send(&python->zygotes[LEVEL_BARE], &name, NULL, 0, &err);
    } else {
        zygotes_failed(python, &err);
    }
    lock_drop(&python->lock);
}

static void grow(struct zygote *from, struct zygote *next)
{
    struct err err;
    int ends[2];
    if (make_sockets(ends, &err)) {
        zygotes_failed(from->python, &err);
        return;
    }
    AUTO(fd) int theirs = ends[1];
    const struct zygote_wire wire = {.type = ZYGOTE_GROW, .value = (int)next->level};
    if (zygote_send(from, &wire, &theirs, 1, &err)) {
        fd_close(&ends[0]);
        return; /* Its end is being reported. */
    }
    adopt(next, ends[0]);
}

void zygote_want(struct python *python, enum python_level level)
{
    if (clock_mono_ms() < python->hold_until_ms)
        return;
    struct zygote *bare = &python->zygotes[LEVEL_BARE];
    python->zygotes[level].used_ms = clock_mono_ms();
    if (bare->state == ZYGOTE_OFF) {
        if (!python->root && !python->wants_root) {
            python->wants_root = true;
            python_wake(python);
        }
        return;
    }
    for (int i = 1; i <= (int)level; i++) {
        struct zygote *below = &python->zygotes[i - 1], *zygote = &python->zygotes[i];
        if (below->state == ZYGOTE_READY && zygote->state == ZYGOTE_OFF)
            grow(below, zygote);
    }
}

/* --- what they say ------------------------------------------------------------------------- */

static void hello(struct zygote *zygote, const struct zygote_wire *wire)
{
    zygote->state = ZYGOTE_READY;
    snprintf(zygote->missing, sizeof(zygote->missing), "%s", wire->text);
    if (wire->text[0])
        log_warn("python", "the zygote lacks %s", wire->text);
    runs_dispatch(zygote->python);
}

static void failed(struct zygote *zygote, const struct zygote_wire *wire)
{
    struct err err;
    struct python *python = zygote->python;
    err_set(&err, ERR_BUSY, "Python can't be started: %s", wire->text);
    struct kid *kid = wire->id ? kid_find(python, wire->id) : NULL;
    if (!wire->id) {
        zygotes_failed(python, &err);
        zygotes_end(python, wire->text);
    } else if (kid && kid->state == KID_LIMITING) {
        kid_kill(kid);
    } else if (kid) {
        kid_free(kid);
        zygotes_failed(python, &err);
    }
}

static void take(struct zygote *zygote, struct zygote_wire *wire)
{
    wire->text[sizeof(wire->text) - 1] = '\0';
    struct kid *kid = wire->id ? kid_find(zygote->python, wire->id) : NULL;
    switch (wire->type) {
    case ZYGOTE_HELLO:
        hello(zygote, wire);
        break;
    case ZYGOTE_FAILED:
        failed(zygote, wire);
        break;
    case ZYGOTE_LIMIT:
        if (kid && kid->state == KID_LIMITING)
            kid_send_request(kid);
        break;
    case ZYGOTE_ENDED:
        if (kid)
            kid_ended(kid, wire);
        break;
    default: /* ZYGOTE_STARTED: the child itself reports when it is ready. */
        break;
    }
}

void zygote_event(struct zygote *zygote)
{
    struct zygote_wire wire;
    while (zygote->control >= 0) {
        ssize_t n = recv(zygote->control, &wire, sizeof(wire), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n != (ssize_t)sizeof(wire)) {
            log_warn("python", "a zygote has died");
            zygotes_end(zygote->python, "a zygote has died");
            return;
        }
        take(zygote, &wire);
    }
}

/* --- ending -------------------------------------------------------------------------------- */

void zygotes_failed(struct python *python, const struct err *err)
{
    python->last_failure = *err;
    python->last_failure.code = ERR_BUSY;
    log_warn("python", "%s", err->msg);
    if (++python->failures < START_FAILURES_MAX)
        return;
    python->failures = 0;
    python->hold_until_ms = clock_mono_ms() + HOLD_MS;
    runs_fail_all(python, &python->last_failure, false);
}

void zygotes_end(struct python *python, const char *why)
{
    for (int i = 0; i < LEVEL_COUNT; i++) {
        struct zygote *zygote = &python->zygotes[i];
        fd_close(&zygote->control);
        if (zygote->state == ZYGOTE_LOADING && i == LEVEL_BARE && !python->stopping) {
            struct err err;
            err_set(&err, ERR_BUSY, "Python can't be started: %s", why);
            zygotes_failed(python, &err);
        }
        zygote->state = ZYGOTE_OFF;
    }
    child_free(python->root); /* Kills the rest of the tree. */
    python->root = NULL;
    for (struct kid *kid = python->kids, *next; kid; kid = next) {
        next = kid->next;
        kid_drain(kid);
        struct run *run = kid->run;
        kid_free(kid);
        if (run)
            python_run_lost(run);
    }
}

void zygotes_tick(struct python *python, int64_t now_ms)
{
    bool used = python->running_count > 0 || python->queued_count > 0;
    for (int i = 0; i < LEVEL_COUNT; i++) {
        struct zygote *zygote = &python->zygotes[i];
        if (zygote->state == ZYGOTE_LOADING && now_ms > zygote->load_by_ms) {
            zygotes_end(python, "a zygote does not get ready");
            return;
        }
        used |= now_ms - zygote->used_ms < IDLE_MS;
    }
    for (const struct session *session = python->sessions; session; session = session->next)
        used |= session->kid != NULL;
    if (!used && python->root)
        zygotes_end(python, "nobody uses them");
}
