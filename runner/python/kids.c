/* Children, as the daemon sees them: standby, request, output, end. */
#include "runner/python/core.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_BYTES 65536
#define WORDS_MAX 1024

int kids_count(const struct python *python, enum python_level level, enum kid_state state)
{
    int count = 0;
    for (const struct kid *kid = python->kids; kid; kid = kid->next)
        count += kid->level == level && kid->state == state;
    return count;
}

struct kid *kid_find(struct python *python, uint32_t id)
{
    struct kid *kid = python->kids;
    while (kid && kid->id != id)
        kid = kid->next;
    return kid;
}

struct kid *kid_standby(struct python *python, enum python_level level)
{
    for (struct kid *kid = python->kids; kid; kid = kid->next)
        if (kid->level == level && kid->state == KID_STANDBY)
            return kid;
    return NULL;
}

/* --- starting ------------------------------------------------------------------------------ */

/* Opens the pipes: `ours` for the kid, `theirs` for the child process. */
static int open_channels(struct kid *kid, int theirs[CHILD_FDS])
{
    int control[2], out[2], err[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control))
        return -1;
    kid->control = control[0];
    theirs[CHILD_CONTROL] = control[1];
    if (pipe2(out, O_CLOEXEC))
        return -1;
    kid->out = out[0];
    theirs[CHILD_STDOUT] = out[1];
    if (pipe2(err, O_CLOEXEC))
        return -1;
    kid->err = err[0];
    theirs[CHILD_STDERR] = err[1];
    const int ours[] = {kid->control, kid->out, kid->err};
    for (int i = 0; i < 3; i++) {
        kid->sources[i] = (struct source){(enum source_kind)(SOURCE_CONTROL + i), kid};
        if (fcntl(ours[i], F_SETFL, O_NONBLOCK) ||
            python_watch(kid->python, ours[i], &kid->sources[i], EPOLLIN))
            return -1;
    }
    return 0;
}

static struct kid *kid_new(struct python *python, enum python_level level)
{
    struct kid *kid = calloc(1, sizeof(*kid));
    if (!kid)
        return NULL;
    kid->python = python;
    kid->level = level;
    kid->control = kid->out = kid->err = -1;
    do
        kid->id = ++python->last_id;
    while (kid->id == 0 || kid_find(python, kid->id));
    buf_init(&kid->in, FRAME_MAX + FRAME_HEAD);
    buf_init(&kid->request, FRAME_REQUEST_MAX);
    buf_init(&kid->words, WORDS_MAX);
    kid->next = python->kids;
    python->kids = kid;
    python->kid_count++;
    return kid;
}

static int start_one(struct python *python, enum python_level level, struct err *err)
{
    int theirs[CHILD_FDS] = {-1, -1, -1};
    struct kid *kid = kid_new(python, level);
    if (!kid)
        return err_sys(err, "a Python child");
    const struct zygote_wire wire = {.type = ZYGOTE_CHILD, .id = kid->id, .value = PYTHON_MEMORY};
    int rc = open_channels(kid, theirs)
                 ? err_sys(err, "a Python child's channels")
                 : zygote_send(&python->zygotes[level], &wire, theirs, CHILD_FDS, err);
    for (int i = 0; i < CHILD_FDS; i++)
        fd_close(&theirs[i]);
    if (rc)
        kid_free(kid);
    return rc;
}

void kids_fill(struct python *python, enum python_level level)
{
    struct err err;
    if (python->zygotes[level].state != ZYGOTE_READY || python->stopping ||
        clock_mono_ms() < python->hold_until_ms)
        return;
    int have = kids_count(python, level, KID_STANDBY) + kids_count(python, level, KID_STARTING);
    for (; have < STANDBY_MIN && python->kid_count < KIDS_MAX; have++)
        if (start_one(python, level, &err)) {
            python->last_failure = err;
            return;
        }
}

void kids_refill(struct python *python)
{
    int64_t now_us = clock_mono_us();
    for (const struct run *run = python->running; run; run = run->next)
        if (now_us - run->started_us < YOUNG_US)
            return;
    for (int level = 0; level < LEVEL_COUNT; level++)
        kids_fill(python, (enum python_level)level);
}

/* A zygote with more libraries needs more memory for each child. */
static const int stock[LEVEL_COUNT] = {STANDBY_MAX, 4, 3, STANDBY_MIN};

static bool lacks(const struct python *python, enum python_level level)
{
    const struct zygote *zygote = &python->zygotes[level];
    return zygote->state == ZYGOTE_READY && zygote->ran_ms > 0 &&
           clock_mono_ms() - zygote->ran_ms < LATELY_MS &&
           kids_count(python, level, KID_STANDBY) < stock[level];
}

bool kids_lack(const struct python *python)
{
    if (python->failures > 0 || python->stopping || python->kid_count == KIDS_MAX)
        return false;
    for (int level = 0; level < LEVEL_COUNT; level++)
        if (lacks(python, (enum python_level)level))
            return true;
    return false;
}

/* One child at a time, so that a run that is asked for meanwhile has the other processors. */
void kids_stock(struct python *python, int64_t now_ms)
{
    struct err err;
    if (python->running_count + python->queued_count > 0 || now_ms - python->busy_ms < QUIET_MS ||
        !kids_lack(python))
        return;
    for (int level = 0; level < LEVEL_COUNT; level++)
        if (kids_count(python, (enum python_level)level, KID_STARTING) > 0)
            return;
    for (int level = 0; level < LEVEL_COUNT; level++)
        if (lacks(python, (enum python_level)level)) {
            if (start_one(python, (enum python_level)level, &err))
                python->last_failure = err;
            return;
        }
}

void kid_free(struct kid *kid)
{
    struct python *python = kid->python;
    struct kid **at = &python->kids;
    while (*at != kid)
        at = &(*at)->next;
    *at = kid->next;
    python->kid_count--;
    if (kid->session)
        python_session_lost(kid->session);
    if (kid->run)
        kid->run->kid = NULL;
    fd_close(&kid->control); /* Closing also removes it from epoll. */
    fd_close(&kid->out);
    fd_close(&kid->err);
    buf_done(&kid->in);
    buf_done(&kid->request);
    buf_done(&kid->words);
    free(kid);
}

/* --- a run --------------------------------------------------------------------------------- */

static void set_events(struct kid *kid, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = &kid->sources[0]};
    epoll_ctl(kid->python->epoll, EPOLL_CTL_MOD, kid->control, &event);
}

/* Sends as much as the socket takes; the rest when it takes more. */
static void push_request(struct kid *kid)
{
    while (kid->request.len > 0) {
        ssize_t n =
            send(kid->control, kid->request.data, kid->request.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            set_events(kid, EPOLLIN | (errno == EAGAIN ? EPOLLOUT : 0));
            return; /* Its zygote reports a child that is gone. */
        }
        buf_drop(&kid->request, (size_t)n);
    }
    set_events(kid, EPOLLIN);
    buf_done(&kid->request);
    buf_init(&kid->request, FRAME_REQUEST_MAX);
}

void kid_send_request(struct kid *kid)
{
    struct run *run = kid->run;
    char head[FRAME_HEAD] = {0};
    AUTO(config_ref) const struct config *config = config_ref(kid->python->config.config);
    kid->state = KID_RUNNING;
    buf_clear(&kid->request);
    buf_add(&kid->request, head, sizeof(head));
    python_run_print_request(run, config, &kid->request);
    if (!buf_ok(&kid->request)) {
        kid_kill(kid);
        return;
    }
    uint32_t len = (uint32_t)(kid->request.len - 4);
    for (int i = 0; i < 4; i++)
        kid->request.data[i] = (char)(len >> (8 * i));
    kid->request.data[4] = 'Q';
    run->started_us = clock_mono_us();
    run->deadline_ms = clock_mono_ms() + run->request.timeout_s * INT64_C(1000);
    push_request(kid);
}

void kid_begin(struct kid *kid, struct run *run)
{
    REQUIRE(!kid->run);
    struct err err;
    bool first = kid->state == KID_STANDBY;
    kid->run = run;
    run->kid = kid;
    run->fresh = first;
    run->started_us = clock_mono_us();
    run->deadline_ms = clock_mono_ms() + run->request.timeout_s * INT64_C(1000);
    if (run->session) {
        kid->session = run->session;
        run->session->kid = kid;
    }
    if (!first || run->request.memory_mb == PYTHON_MEMORY) {
        kid_send_request(kid);
        return;
    }
    const struct zygote_wire wire = {
        .type = ZYGOTE_LIMIT, .id = kid->id, .value = run->request.memory_mb};
    kid->state = KID_LIMITING;
    zygote_send(&kid->python->zygotes[kid->level], &wire, NULL, 0, &err);
}

void kid_kill(struct kid *kid)
{
    struct err err;
    const struct zygote_wire wire = {.type = ZYGOTE_KILL, .id = kid->id};
    if (kid->state == KID_ENDING)
        return;
    kid->state = KID_ENDING;
    kid->end_by_ms = clock_mono_ms() + END_MS;
    zygote_send(&kid->python->zygotes[kid->level], &wire, NULL, 0, &err);
}

static void signal_kid(struct kid *kid, enum zygote_type type)
{
    struct err err;
    const struct zygote_wire wire = {.type = type, .id = kid->id};
    zygote_send(&kid->python->zygotes[kid->level], &wire, NULL, 0, &err);
}

void kid_interrupt(struct kid *kid)
{
    signal_kid(kid, ZYGOTE_INTERRUPT);
}

void kid_stop(struct kid *kid)
{
    signal_kid(kid, ZYGOTE_STOP);
}

/* --- what comes from it -------------------------------------------------------------------- */

/* Keeps output up to its maximum; the rest is read and dropped. */
static void keep(struct kid *kid, enum source_kind kind, const char *data, size_t len)
{
    struct run *run = kid->run;
    if (!run) {
        size_t room = WORDS_MAX - 1 - kid->words.len;
        buf_add(&kid->words, data, len < room ? len : room);
        return;
    }
    struct buf *to = kind == SOURCE_OUT ? &run->outcome.out : &run->outcome.errors;
    size_t room = PYTHON_OUTPUT_MAX - to->len;
    run->outcome.truncated |= len > room;
    buf_add(to, data, len < room ? len : room);
}

static int64_t read_base(const char *body, size_t len)
{
    struct err ignored;
    int64_t base_kib = 0;
    AUTO(json) struct json *root = json_parse(body, len, &ignored);
    json_int(json_get(root, "resident_kib"), &base_kib);
    return base_kib;
}

/* Takes whole frames from the bytes that arrived. In a session the last frame ends the run. */
static void take_frames(struct kid *kid)
{
    size_t at = 0;
    while (kid->in.len - at >= FRAME_HEAD) {
        const unsigned char *head = (const unsigned char *)kid->in.data + at;
        size_t len = head[0] | head[1] << 8 | head[2] << 16 | (size_t)head[3] << 24;
        if (len == 0 || len > FRAME_MAX) {
            kid_kill(kid);
            return;
        }
        if (kid->in.len - at < 4 + len)
            break;
        if (head[4] == 'R' && kid->state == KID_STARTING) {
            kid->state = KID_STANDBY;
            kid->base_kib = read_base((const char *)head + FRAME_HEAD, len - 1);
            kid->python->failures = 0;
        }
        if (kid->run)
            python_run_take_frame(kid->run, (char)head[4], (const char *)head + FRAME_HEAD,
                                  len - 1);
        at += 4 + len;
    }
    buf_drop(&kid->in, at);
}

/* True when there may be more. */
static bool read_some(struct kid *kid, enum source_kind kind)
{
    char data[READ_BYTES];
    const int fd = kind == SOURCE_CONTROL ? kid->control : kind == SOURCE_OUT ? kid->out : kid->err;
    ssize_t n = fd < 0 ? 0 : read(fd, data, sizeof(data));
    if (n < 0)
        return errno == EINTR;
    if (n == 0) { /* It is closed: nothing more will come. */
        fd_close(kind == SOURCE_CONTROL ? &kid->control
                 : kind == SOURCE_OUT   ? &kid->out
                                        : &kid->err);
        return false;
    }
    if (kind != SOURCE_CONTROL)
        keep(kid, kind, data, (size_t)n);
    else if (kid->run && (kid->run->frame_bytes += (size_t)n) > FRAMES_MAX)
        kid->run->outcome.truncated = true, kid_kill(kid);
    else if (buf_add(&kid->in, data, (size_t)n))
        kid_kill(kid);
    else
        take_frames(kid);
    return n == (ssize_t)sizeof(data) || kind == SOURCE_CONTROL;
}

#define DRAIN_READS 64 /* reads from a pipe to which somebody may go on writing */

void kid_drain(struct kid *kid)
{
    for (int kind = SOURCE_CONTROL; kind <= SOURCE_ERR; kind++)
        for (int i = 0; i < DRAIN_READS && read_some(kid, (enum source_kind)kind); i++)
            continue;
}

/* A session's child has reported the end of its run; all of the output is in the pipes by then. */
static void end_session_run(struct kid *kid)
{
    struct run *run = kid->run;
    for (int kind = SOURCE_OUT; kind <= SOURCE_ERR; kind++)
        for (int i = 0; i < DRAIN_READS && read_some(kid, (enum source_kind)kind); i++)
            continue;
    kid->run = NULL;
    run->kid = NULL;
    kid->state = KID_IDLE;
    python_run_conclude(run, run->told_status << 8, 0, -1);
    python_run_finish(run);
}

void kid_event(struct kid *kid, enum source_kind kind, unsigned events)
{
    if (events & EPOLLOUT)
        push_request(kid);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_some(kid, kind);
    if (kid->run && kid->run->session && kid->run->told_end && kid->state == KID_RUNNING)
        end_session_run(kid);
}

/* Handles a child that ended before it had a request: its jail could not be built, or it was
 * killed. */
static void standby_ended(struct kid *kid, int status)
{
    struct err err;
    struct python *python = kid->python;
    bool jail = WIFEXITED(status) && kid->state == KID_STARTING;
    err_set(&err, ERR_BUSY, "Python can't be started: %s", buf_str(&kid->words));
    kid_free(kid);
    if (jail)
        zygotes_failed(python, &err);
}

static bool is_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

void kid_ended(struct kid *kid, const struct zygote_wire *wire)
{
    struct run *run = kid->run;
    kid_drain(kid);
    if (!run) {
        standby_ended(kid, wire->value);
        return;
    }
    bool ours = run->timed_out || run->cancelled;
    int64_t own_kib = wire->peak_kib - kid->base_kib;
    kid_free(kid);
    if (!run->begun && !ours && is_killed(wire->value) && !wire->exceeded) {
        python_run_lost(run); /* It was killed before the caller's code had begun. */
        return;
    }
    python_run_conclude(run, wire->value, wire->exceeded, own_kib > 0 ? own_kib : 0);
    python_run_finish(run);
}

void kids_tick(struct python *python, int64_t now_ms)
{
    for (const struct kid *kid = python->kids; kid; kid = kid->next)
        if (kid->state == KID_ENDING && now_ms > kid->end_by_ms) {
            zygotes_end(python, "a child can't be killed");
            return;
        }
}
