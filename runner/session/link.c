/* The hub, and requests to agents: see session.h. */
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "runner/session/session_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in a list for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define EVENTS_MAX 64
#define TICK_MS 200

int link_text_file(const char *text, size_t len, struct err *err)
{
    AUTO(fd) int fd = memfd_create("text", MFD_CLOEXEC);
    if (fd < 0 || fd_write_all(fd, text, len) || lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, "session");
    int out = fd;
    fd = -1;
    return out;
}

/* --- sources ------------------------------------------------------------------------------- */

struct source *source_new_locked(struct sessions *sessions, enum source_kind kind, int fd)
{
    struct source *source = calloc(1, sizeof(*source));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    if (!source)
        return NULL;
    source->kind = kind;
    source->fd = fd;
    if (epoll_ctl(sessions->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
        return source;
    free(source);
    return NULL;
}

void source_wait_locked(struct sessions *sessions, struct source *source, uint32_t waits)
{
    REQUIRE(source->fd >= 0);
    struct epoll_event event = {.events = waits, .data.ptr = source};
    epoll_ctl(sessions->epoll, EPOLL_CTL_MOD, source->fd, &event);
}

/* Ends a source. The hub may be using it, so it is freed at the end of the hub's turn. */
void source_end_locked(struct sessions *sessions, struct source *source)
{
    if (!source || source->gone)
        return;
    source->gone = true;
    epoll_ctl(sessions->epoll, EPOLL_CTL_DEL, source->fd, NULL);
    fd_close(&source->fd);
    source->next_gone = sessions->gone;
    sessions->gone = source;
}

static void free_gone_locked(struct sessions *sessions) HOLDS(sessions->lock);
static void free_gone_locked(struct sessions *sessions)
{
    struct source *source;
    while ((source = sessions->gone)) {
        sessions->gone = source->next_gone;
        free(source);
    }
}

void hub_ring(const struct sessions *sessions)
{
    const uint64_t one = 1;
    if (sessions->attending)
        return;
    (void)!write(sessions->bell, &one, sizeof(one));
}

/* --- what agents say ----------------------------------------------------------------------- */

static void on_event_locked(struct session *session, const char *event, const struct json *said,
                            const struct box_message *message)
{
    int64_t exec = 0;
    json_int(json_get(said, "exec"), &exec);
    if (strcmp(event, "process") == 0)
        detached_started_locked(session, said);
    else if (strcmp(event, "exited") == 0)
        detached_exited_locked(session, said);
    else if (strcmp(event, "pty") == 0)
        pty_exited_locked(session, said);
    else if (strcmp(event, "ended") == 0) {
        struct exec *command = exec_find_locked(session, exec);
        if (command)
            exec_ended_locked(command, said, message->fd_count > 0 ? message->fds[0] : -1);
    }
}

static void read_error(const struct json *said, struct err *err)
{
    int64_t code = ERR_INTERNAL;
    const char *message = json_text(json_get(said, "message"));
    json_int(json_get(said, "error"), &code);
    err_set(err, (enum err_code)code, "%s", message ? message : "the session failed");
}

static void on_answer_locked(struct session *session, int64_t id, const struct json *said,
                             struct box_message *message)
{
    struct err err;
    struct exec *command = exec_find_locked(session, id);
    if (command) {
        if (json_get(said, "error")) {
            read_error(said, &err);
            exec_refused_locked(command, &err);
        } else {
            bool both = message->fd_count == 2;
            exec_started_locked(command, both ? message->fds[0] : -1, both ? message->fds[1] : -1);
            if (both)
                message->fds[0] = message->fds[1] = -1;
        }
        return;
    }
    struct call *call = session->sessions->calls;
    while (call && call->id != id)
        call = call->next;
    if (!call)
        return;
    if (call->answered && !call->later) { /* The first answer is not taken yet. */
        call->later = strdup(message->text);
        return;
    }
    free(call->text);
    call->text = strdup(message->text);
    fd_close(&call->fd);
    if (message->fd_count > 0) {
        call->fd = message->fds[0];
        message->fds[0] = -1;
    }
    call->answered = true;
    pthread_cond_broadcast(&session->sessions->changed);
}

static void hear_locked(struct session *session)
{
    static char text[BOX_TEXT_MAX + 1];
    struct err ignored;
    struct box_message message = {.text = text};
    int got = 1;
    while (session->control >= 0 && (got = box_receive(session->control, &message)) == 1) {
        AUTO(json) struct json *said = json_parse(message.text, message.len, &ignored);
        const char *event = json_text(json_get(said, "event"));
        int64_t id = 0;
        if (event)
            on_event_locked(session, event, said, &message);
        else if (said && json_int(json_get(said, "id"), &id) == 0)
            on_answer_locked(session, id, said, &message);
        box_close_fds(&message);
    }
    if (got < 0)
        session_dies_locked(session);
}

/* --- the thread ---------------------------------------------------------------------------- */

void hub_finish_locked(struct exec *command)
{
    struct sessions *sessions = command->sessions;
    if (command->told)
        return;
    if (sessions->due_count == sessions->due_room) {
        size_t room = sessions->due_room ? sessions->due_room * 2 : 64;
        struct exec **due = realloc(sessions->due, room * sizeof(struct exec *));
        if (!due)
            return; /* Its caller's own time limit ends the wait. */
        sessions->due = due;
        sessions->due_room = room;
    }
    command->told = true;
    exec_ref_locked(command);
    sessions->due[sessions->due_count++] = command;
    hub_ring(sessions);
}

/* Calls done() of ended commands. The lock is held on entry and on return, but not while callbacks
 * run. */
static void tell_finished(struct sessions *sessions) HOLDS(sessions->lock);
static void tell_finished(struct sessions *sessions)
{
    while (sessions->woken || sessions->due_count > 0) {
        struct process_waiter *waiter = sessions->woken;
        if (waiter) {
            sessions->woken = waiter->next;
            session_unref_locked(waiter->session);
            lock_drop(&sessions->lock);
            waiter->fn(waiter->arg);
            free(waiter);
            lock_take(&sessions->lock);
            continue;
        }
        struct exec *command = sessions->due[--sessions->due_count];
        void (*done)(struct exec *, void *) = command->watch.done;
        if (done) {
            lock_drop(&sessions->lock);
            done(command, command->watch.arg);
            lock_take(&sessions->lock);
        }
        command->watch = (struct exec_watch){0};
        pthread_cond_broadcast(&sessions->changed);
        exec_unref_locked(command);
    }
}

static void attend_locked(struct sessions *sessions, struct source *source) HOLDS(sessions->lock);
static void attend_locked(struct sessions *sessions, struct source *source)
{
    uint64_t rung;
    if (source->gone)
        return;
    switch (source->kind) {
    case SOURCE_BELL:
        (void)!read(sessions->bell, &rung, sizeof(rung));
        break;
    case SOURCE_AGENT:
        hear_locked(source->session);
        break;
    case SOURCE_TREE:
        hear_locked(source->session); /* its last words */
        session_tree_locked(source->session);
        break;
    case SOURCE_OUT:
    case SOURCE_ERR:
        exec_bytes_locked(source->command, source);
        break;
    case SOURCE_PTY:
        pty_bytes_locked(source->pty);
        break;
    }
}

int sessions_tick(struct sessions *sessions, void (*fn)(void *arg), void *arg, struct err *err)
{
    struct ticker *ticker = calloc(1, sizeof(*ticker));
    if (!ticker)
        return err_sys(err, "following");
    lock_take(&sessions->lock);
    *ticker = (struct ticker){sessions->tickers, fn, arg};
    sessions->tickers = ticker;
    hub_ring(sessions);
    lock_drop(&sessions->lock);
    return 0;
}

void sessions_untick(struct sessions *sessions, void *arg)
{
    lock_take(&sessions->lock);
    struct ticker **at = &sessions->tickers;
    while (*at && (*at)->arg != arg)
        at = &(*at)->next;
    struct ticker *found = *at;
    if (found)
        *at = found->next;
    lock_drop(&sessions->lock);
    free(found);
}

/* When the hub must look at time limits again. */
static int64_t due_locked(struct sessions *sessions) HOLDS(sessions->lock);
static int64_t due_locked(struct sessions *sessions)
{
    int64_t due = execs_due_locked(sessions), late = ptys_late_locked(sessions, clock_mono_ms());
    int64_t ending = sessions_ending_locked(sessions);
    due = late < due ? late : due;
    due = ending < due ? ending : due;
    if (sessions->tickers && sessions->ticked_ms + TICK_MS < due)
        due = sessions->ticked_ms + TICK_MS;
    return due;
}

static void tick_locked(struct sessions *sessions, int64_t now_ms) HOLDS(sessions->lock);
static void tick_locked(struct sessions *sessions, int64_t now_ms)
{
    if (now_ms < sessions->ticked_ms + TICK_MS)
        return;
    sessions->ticked_ms = now_ms;
    for (const struct ticker *at = sessions->tickers; at; at = at->next)
        at->fn(at->arg);
}

static int wait_ms(int64_t due_ms)
{
    int64_t left = due_ms - clock_mono_ms();
    return due_ms == INT64_MAX ? 60000 : left <= 0 ? 0 : left < 60000 ? (int)left : 60000;
}

static void *hub_run(void *arg)
{
    struct sessions *sessions = arg;
    struct epoll_event events[EVENTS_MAX];
    lock_take(&sessions->lock);
    while (!sessions->stopping) {
        int64_t due_ms = due_locked(sessions);
        sessions->attending = false;
        lock_drop(&sessions->lock);
        int count = epoll_wait(sessions->epoll, events, EVENTS_MAX, wait_ms(due_ms));
        lock_take(&sessions->lock);
        sessions->attending = true;
        for (int i = 0; i < count; i++)
            attend_locked(sessions, events[i].data.ptr);
        execs_late_locked(sessions, clock_mono_ms());
        sessions_ended_locked(sessions, clock_mono_ms());
        tick_locked(sessions, clock_mono_ms());
        tell_finished(sessions);
        free_gone_locked(sessions);
    }
    tell_finished(sessions);
    lock_drop(&sessions->lock);
    return NULL;
}

int hub_start(struct sessions *sessions, struct err *err)
{
    sessions->epoll = epoll_create1(EPOLL_CLOEXEC);
    sessions->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sessions->epoll >= 0 && sessions->bell >= 0)
        sessions->ringing = source_new_locked(sessions, SOURCE_BELL, sessions->bell);
    if (!sessions->ringing)
        return err_sys(err, "sessions");
    return thread_start(&sessions->hub, "sessions", THREAD_STACK_DEFAULT, hub_run, sessions, err);
}

void hub_stop(struct sessions *sessions)
{
    lock_take(&sessions->lock);
    sessions->stopping = true;
    pthread_cond_broadcast(&sessions->changed);
    pthread_cond_broadcast(&sessions->stopped);
    hub_ring(sessions);
    lock_drop(&sessions->lock);
    thread_join(&sessions->tidier);
    thread_join(&sessions->hub);
}

/* --- requests ------------------------------------------------------------------------------ */

int link_send_locked(struct session *session, int64_t id, const struct buf *members, const int *fds,
                     size_t fd_count, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(BOX_TEXT_MAX);
    buf_addf(&text, "{\"id\":%lld", (long long)id);
    buf_add(&text, members->data, members->len);
    buf_addc(&text, '}');
    if (buf_check(&text, "the request", err) || buf_check(members, "the request", err))
        return -1;
    if (session->control < 0)
        return err_set(err, ERR_BUSY, "the session's agent has just ended");
    if (box_send(session->control, text.data, text.len, fds, fd_count))
        return errno == EAGAIN ? err_set(err, ERR_BUSY, "the session does not answer")
                               : err_sys(err, "cannot reach the session");
    return 0;
}

struct json *link_await(struct session *session, struct call *call, int timeout_ms, int *ret_fd,
                        struct err *err)
{
    struct sessions *sessions = session->sessions;
    int64_t deadline = clock_mono_ms() + timeout_ms;
    lock_take(&sessions->lock);
    while (!call->answered && !call->lost && clock_mono_ms() < deadline)
        lock_wait(&sessions->changed, &sessions->lock, deadline - clock_mono_ms());
    AUTO(str) char *text = call->answered ? STEAL_PTR(call->text) : NULL;
    *ret_fd = call->fd;
    call->fd = -1;
    bool lost = call->lost;
    call->text = STEAL_PTR(call->later);
    call->answered = call->text != NULL;
    lock_drop(&sessions->lock);
    struct json *said = text ? json_parse(text, strlen(text), err) : NULL;
    if (!text)
        err_set(err, lost ? ERR_BUSY : ERR_TIMEOUT,
                lost ? "the session's processes have just been ended"
                     : "the session did not answer");
    if (said && json_get(said, "error")) {
        read_error(said, err);
        json_free(said);
        said = NULL;
    }
    if (!said)
        fd_close(ret_fd);
    return said;
}

void link_forget(struct session *session, struct call *call)
{
    struct sessions *sessions = session->sessions;
    lock_take(&sessions->lock);
    struct call **at = &sessions->calls;
    while (*at && *at != call)
        at = &(*at)->next;
    if (*at)
        *at = call->next;
    lock_drop(&sessions->lock);
    free(call->text);
    free(call->later);
    fd_close(&call->fd);
}

int link_begin(struct session *session, const struct buf *members, const int *fds, size_t fd_count,
               struct call *call, struct err *err)
{
    struct sessions *sessions = session->sessions;
    lock_take(&sessions->lock);
    *call = (struct call){
        .next = sessions->calls, .id = ++sessions->next_id, .session = session, .fd = -1};
    sessions->calls = call;
    int rc = link_send_locked(session, call->id, members, fds, fd_count, err);
    lock_drop(&sessions->lock);
    return rc;
}

struct json *link_call(struct session *session, const struct buf *members, const int *fds,
                       size_t fd_count, int timeout_ms, int *ret_fd, struct err *err)
{
    struct call call;
    struct json *said = NULL;
    *ret_fd = -1;
    if (link_begin(session, members, fds, fd_count, &call, err) == 0)
        said = link_await(session, &call, timeout_ms, ret_fd, err);
    link_forget(session, &call);
    return said;
}
