/* The engine's thread, and the functions for other rooms. */
#include "runner/python/core.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/path.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PROGRAM "claude-python"

void python_wake(struct python *python)
{
    uint64_t one = 1;
    (void)!write(python->event, &one, sizeof(one));
}

int python_watch(struct python *python, int fd, struct source *source, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(python->epoll, EPOLL_CTL_ADD, fd, &event);
}

/* The path of claude-python next to this program's own file, which the caller frees. */
static char *find_program(const char *given)
{
    char self[PATH_MAX];
    if (given)
        return strdup(given);
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return NULL;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    return path_join(self, PROGRAM);
}

static void handle(const struct epoll_event *event)
{
    uint64_t count;
    struct source *source = event->data.ptr;
    switch (source->kind) {
    case SOURCE_WAKE:
        (void)!read(((struct python *)source->owner)->event, &count, sizeof(count));
        break;
    case SOURCE_ZYGOTE:
        zygote_event(source->owner);
        break;
    case SOURCE_CONTROL:
    case SOURCE_OUT:
    case SOURCE_ERR:
        kid_event(source->owner, source->kind, event->events);
        break;
    }
}

/* Calls done() for ended runs. The lock is held, and released meanwhile. */
static void hand_out(struct python *python) HOLDS(python->lock);
static void hand_out(struct python *python)
{
    while (python->finished) {
        struct run *run = python->finished;
        python->finished = run->next;
        lock_drop(&python->lock);
        run->done(&run->outcome, run->arg);
        python_run_free(run);
        lock_take(&python->lock);
    }
}

static void tick(struct python *python) HOLDS(python->lock);
static void tick(struct python *python)
{
    int64_t now = clock_mono_ms();
    runs_tick(python, now);
    kids_tick(python, now);
    zygotes_tick(python, now);
    python_sessions_tick(python, now);
    runs_dispatch(python);
    hand_out(python);
    kids_refill(python);
    kids_stock(python, now);
    if (python->wants_root && !python->stopping) {
        python->wants_root = false;
        lock_drop(&python->lock);
        zygotes_start(python);
        lock_take(&python->lock);
        runs_dispatch(python);
        hand_out(python);
    }
}

/* Handles one event at a time, because an event may free the subject of the next one. */
static void *engine_thread(void *arg)
{
    struct python *python = arg;
    struct epoll_event event;
    lock_take(&python->lock);
    while (!python->stopping) {
        bool active = python->kid_count > 0 || python->queued_count > 0 || python->root;
        bool urgent = python->running_count > 0 || python->queued_count > 0;
        int wait_ms = urgent                                ? TICK_MS
                      : kids_lack(python)                   ? QUIET_MS
                      : active || python->session_count > 0 ? 1000
                                                            : -1;
        lock_drop(&python->lock);
        int count = epoll_wait(python->epoll, &event, 1, wait_ms);
        lock_take(&python->lock);
        if (count > 0)
            handle(&event);
        tick(python);
    }
    lock_drop(&python->lock);
    return NULL;
}

static int open_engine(struct python *python, struct err *err)
{
    python->epoll = epoll_create1(EPOLL_CLOEXEC);
    python->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    python->wake = (struct source){SOURCE_WAKE, python};
    if (python->epoll < 0 || python->event < 0 ||
        python_watch(python, python->event, &python->wake, EPOLLIN))
        return err_sys(err, "Python's engine");
    python->program = find_program(python->config.program);
    if (!python->program)
        return err_sys(err, "Python's program");
    if (access(python->program, X_OK))
        snprintf(python->why, sizeof(python->why),
                 "%s was not built: the packages of purpose python are missing", PROGRAM);
    return thread_start(&python->thread, "python", THREAD_STACK_DEFAULT, engine_thread, python,
                        err);
}

struct python *python_new(const struct python_config *config, struct err *err)
{
    struct python *python = calloc(1, sizeof(*python));
    if (!python) {
        err_sys(err, "Python");
        return NULL;
    }
    python->config = *config;
    lock_init(&python->lock);
    python->epoll = python->event = -1;
    for (int i = 0; i < CALLERS_MAX; i++)
        python->callers[i].last = &python->callers[i].first;
    zygotes_init(python);
    if (open_engine(python, err)) {
        python_free(python);
        return NULL;
    }
    return python;
}

void python_stop(struct python *python)
{
    struct err err;
    if (!python || !python->thread.running)
        return;
    lock_take(&python->lock);
    python->stopping = true;
    lock_drop(&python->lock);
    python_wake(python);
    thread_join(&python->thread);
    lock_take(&python->lock);
    err_set(&err, ERR_BUSY, "the runner is shutting down");
    runs_fail_all(python, &err, true);
    zygotes_end(python, "the runner is shutting down");
    hand_out(python);
    lock_drop(&python->lock);
}

void python_free(struct python *python)
{
    if (!python)
        return;
    python_stop(python);
    python_sessions_free(python);
    for (int i = 0; i < CALLERS_MAX; i++)
        free(python->callers[i].name);
    fd_close(&python->epoll);
    fd_close(&python->event);
    lock_done(&python->lock);
    free(python->program);
    free(python);
}

bool python_is_available(const struct python *python, char why[160])
{
    snprintf(why, 160, "%s", python->why);
    return python->why[0] == '\0';
}
