/*
 * Terminals: what people and programs look at and type into.
 *
 * Theory of operation. The agent starts a bash on a pty and passes the pty's other end, which the
 * hub reads as long as the terminal lives, whether somebody looks or not:
 *
 *     bash ─ pty ──▶ hub ──▶ ring of the last bytes ──▶ viewer, each from where it is
 *          ◀── what was typed and not taken yet ◀────── viewers
 *
 * Who comes (again) is first given the ring, and so has the last screen. While somebody looks, the
 * pty is read only as fast as the fastest viewer follows, so one that looks alone misses nothing;
 * one that is slower than others misses what has left the ring. What is typed waits in a bounded
 * buffer; who sends more is held back.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/str.h"
#include "runner/session/session_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define RING_BYTES (256u << 10)
#define AHEAD_BYTES (128u << 10) /* ahead of the fastest viewer */
#define INPUT_BYTES (64u << 10)
#define PIECE_BYTES (16u << 10)
#define PIECES_A_TURN 4
#define VIEWERS_MAX 32
#define INPUT_EACH (256u << 10) /* most that one viewer can have sent before it must wait */
#define OPENING_MS 20000
#define LINGER_MS 500 /* Processes that the shell has left may still print after its end. */

struct pty {
    struct pty *next;
    struct session *session; /* not a reference: NULL once the terminal is over */
    char name[ID_SIZE];
    pid_t pid;
    struct source *source; /* source of the pty's end; NULL: closed */
    uint32_t waits;        /* events that the hub waits for */
    char *ring;
    int64_t end; /* number of bytes that were ever written */
    struct buf input;
    int cols, rows;
    bool exited, over, lost;
    int exit_code;
    int64_t over_ms; /* mono: when it is over although a process holds it open */
    struct pty_viewer *viewers;
    size_t viewer_count;
};

struct pty_viewer {
    struct pty_viewer *next;
    struct sessions *sessions;
    struct pty *pty;
    int64_t at, skipped;
    bool held; /* it has typed more than was taken */
    int cols, rows;
    struct pty_watch watch;
};

/* --- the pty ------------------------------------------------------------------------------- */

static void pty_free(struct pty *pty)
{
    buf_wipe(&pty->input); /* Input may contain passwords. */
    free(pty->ring);
    free(pty);
}

static void tell_locked(const struct pty *pty)
{
    for (const struct pty_viewer *at = pty->viewers; at; at = at->next)
        at->watch.changed(at->watch.arg);
}

static void close_locked(struct pty *pty)
{
    if (!pty->source)
        return;
    source_end_locked(pty->session->sessions, pty->source);
    pty->source = NULL;
}

/* Ends the terminal: takes it off the session's list; the last viewer frees it. */
static void over_locked(struct pty *pty, bool lost)
{
    struct session *session = pty->session;
    struct pty **at = &session->ptys;
    if (pty->exited && !pty->over)
        session->sessions->ptys_exiting--;
    close_locked(pty);
    while (*at != pty)
        at = &(*at)->next;
    *at = pty->next;
    session->pty_count--;
    pty->over = true;
    pty->lost = lost;
    pty->session = NULL;
    if (pty->viewers)
        tell_locked(pty);
    else
        pty_free(pty);
}

/* Tells the hub which events to wait for now. */
static void wait_locked(struct pty *pty)
{
    int64_t seen = pty->viewers ? 0 : pty->end;
    for (const struct pty_viewer *at = pty->viewers; at; at = at->next)
        seen = at->at > seen ? at->at : seen;
    bool behind = pty->end - seen > AHEAD_BYTES;
    uint32_t waits = (behind && !pty->exited ? 0 : EPOLLIN) | (pty->input.len > 0 ? EPOLLOUT : 0);
    if (!pty->source || waits == pty->waits)
        return;
    pty->waits = waits;
    source_wait_locked(pty->session->sessions, pty->source, waits);
}

static void ring_add(struct pty *pty, const char *data, size_t len)
{
    size_t at = (size_t)(pty->end % RING_BYTES), first = RING_BYTES - at;
    size_t n = len < first ? len : first;
    memcpy(pty->ring + at, data, n);
    memcpy(pty->ring, data + n, len - n);
    pty->end += (int64_t)len;
}

/* Writes what was typed to the pty. */
static void flush_locked(struct pty *pty)
{
    while (pty->source && pty->input.len > 0) {
        ssize_t n = write(pty->source->fd, pty->input.data, pty->input.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buf_drop(&pty->input, (size_t)n);
    }
    if (pty->input.len > INPUT_BYTES / 2)
        return;
    for (struct pty_viewer *at = pty->viewers; at; at = at->next) {
        if (at->held)
            at->watch.drained(at->watch.arg);
        at->held = false;
    }
}

/* Reads output. False at its end: no process has the other side open. */
static bool read_locked(struct pty *pty)
{
    static char piece[PIECE_BYTES]; /* The lock protects it. */
    for (int i = 0; i < PIECES_A_TURN; i++) {
        ssize_t n = read(pty->source->fd, piece, sizeof(piece));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        ring_add(pty, piece, (size_t)n);
    }
    return true;
}

void pty_bytes_locked(struct pty *pty)
{
    int64_t before = pty->end;
    flush_locked(pty);
    bool open = read_locked(pty);
    if (pty->end != before)
        tell_locked(pty);
    if (!open)
        close_locked(pty);
    if (!open && pty->exited)
        over_locked(pty, false);
    else
        wait_locked(pty);
}

void pty_exited_locked(struct session *session, const struct json *event)
{
    int64_t pid = 0, exit = 0;
    struct pty *pty = session->ptys;
    json_int(json_get(event, "pid"), &pid);
    json_int(json_get(event, "exitCode"), &exit);
    while (pty && pty->pid != pid)
        pty = pty->next;
    if (!pty || pty->exited)
        return;
    pty->exited = true;
    pty->exit_code = (int)exit;
    pty->over_ms = clock_mono_ms() + LINGER_MS;
    session->sessions->ptys_exiting++;
    if (pty->source)
        wait_locked(pty);
    else
        over_locked(pty, false);
}

/* Ends terminals whose shell has ended some time ago, although other processes hold them open. */
int64_t ptys_late_locked(struct sessions *sessions, int64_t now_ms)
{
    int64_t due = INT64_MAX;
    struct pty *next;
    for (struct session *at = sessions->ptys_exiting ? sessions->list : NULL; at; at = at->next)
        for (struct pty *pty = at->ptys; pty; pty = next) {
            next = pty->next;
            if (pty->exited && now_ms >= pty->over_ms)
                over_locked(pty, false);
            else if (pty->exited && pty->over_ms < due)
                due = pty->over_ms;
        }
    return due;
}

void ptys_lost_locked(struct session *session)
{
    while (session->ptys)
        over_locked(session->ptys, true);
}

bool ptys_watched_locked(const struct session *session)
{
    const struct pty *pty = session->ptys;
    while (pty && !pty->viewers)
        pty = pty->next;
    return pty != NULL;
}

void ptys_print_locked(const struct session *session, struct json_writer *w)
{
    json_open_array(w, "terminals");
    for (const struct pty *pty = session->ptys; pty; pty = pty->next) {
        json_open_object(w, NULL);
        json_add_text(w, "shell", pty->name);
        json_add_int(w, "pid", pty->pid);
        json_add_int(w, "cols", pty->cols);
        json_add_int(w, "rows", pty->rows);
        json_add_int(w, "viewers", (int64_t)pty->viewer_count);
        json_close(w);
    }
    json_close(w);
}

/* --- opening ------------------------------------------------------------------------------- */

static struct pty *find_locked(const struct session *session, const char *name)
{
    struct pty *pty = session->ptys;
    while (pty && (pty->exited || strcmp(pty->name, name) != 0))
        pty = pty->next;
    return pty;
}

static struct pty *pty_new(const struct pty_wish *wish, pid_t pid)
{
    struct pty *pty = calloc(1, sizeof(*pty));
    if (!pty)
        return NULL;
    *pty = (struct pty){.pid = pid, .cols = wish->cols, .rows = wish->rows, .waits = EPOLLIN};
    buf_init(&pty->input, INPUT_BYTES + VIEWERS_MAX * INPUT_EACH);
    snprintf(pty->name, sizeof(pty->name), "%s", wish->shell);
    pty->ring = malloc(RING_BYTES);
    if (pty->ring)
        return pty;
    free(pty);
    return NULL;
}

/* Takes over the descriptor. */
static int enter_locked(struct session *session, const struct pty_wish *wish, pid_t pid, int fd,
                        struct err *err)
{
    if (session->control < 0) {
        close(fd);
        return err_set(err, ERR_BUSY, "the session's processes have just been ended");
    }
    struct pty *pty = pty_new(wish, pid);
    struct source *source = pty ? source_new_locked(session->sessions, SOURCE_PTY, fd) : NULL;
    if (!source) {
        close(fd); /* This hangs it up. */
        if (pty)
            pty_free(pty);
        return err_sys(err, "terminal");
    }
    source->pty = pty;
    pty->source = source;
    pty->session = session;
    pty->next = session->ptys;
    session->ptys = pty;
    session->pty_count++;
    return 0;
}

/* Called with `opening` set and without the lock. */
static int start(struct session *session, const struct pty_wish *wish, struct err *err)
{
    int fd;
    int64_t pid = 0;
    struct json_writer w;
    AUTO(buf) struct buf members = BUF_INIT(1024), object = BUF_INIT(1024);
    json_write(&w, &object);
    json_open_object(&w, NULL);
    json_add_text(&w, "op", "pty");
    json_add_text(&w, "shell", wish->shell);
    json_add_int(&w, "cols", wish->cols);
    json_add_int(&w, "rows", wish->rows);
    json_close(&w);
    buf_addc(&members, ',');
    buf_add(&members, object.data + 1, object.len - 2);
    AUTO(json) struct json *said = link_call(session, &members, NULL, 0, CALL_MS, &fd, err);
    if (!said)
        return -1;
    if (fd < 0)
        return err_set(err, ERR_INTERNAL, "the session gave no terminal");
    json_int(json_get(said, "pid"), &pid);
    lock_take(&session->sessions->lock);
    int rc = enter_locked(session, wish, (pid_t)pid, fd, err);
    lock_drop(&session->sessions->lock);
    return rc;
}

static int join_locked(struct pty *pty, const struct pty_watch *watch, struct pty_viewer **ret,
                       struct err *err)
{
    if (pty->viewer_count >= VIEWERS_MAX)
        return err_set(err, ERR_RATE, "%d look at this terminal already", VIEWERS_MAX);
    struct pty_viewer *viewer = calloc(1, sizeof(*viewer));
    if (!viewer)
        return err_sys(err, "terminal");
    *viewer = (struct pty_viewer){.next = pty->viewers,
                                  .sessions = pty->session->sessions,
                                  .pty = pty,
                                  .at = pty->end > RING_BYTES ? pty->end - RING_BYTES : 0,
                                  .cols = pty->cols,
                                  .rows = pty->rows,
                                  .watch = *watch};
    pty->viewers = viewer;
    pty->viewer_count++;
    *ret = viewer;
    return 0;
}

/* Skips to the next line: the ring may begin in the middle of a line or an escape sequence. */
static void skip_to_line_locked(struct pty_viewer *viewer)
{
    const struct pty *pty = viewer->pty;
    if (pty->end <= RING_BYTES)
        return;
    for (int64_t at = viewer->at; at < viewer->at + 4096; at++)
        if (pty->ring[at % RING_BYTES] == '\n') {
            viewer->at = at + 1;
            return;
        }
}

int pty_open(struct sessions *sessions, const char *id, const struct pty_wish *wish,
             const struct pty_watch *watch, struct pty_viewer **ret_viewer,
             struct pty_state *ret_state, struct err *err)
{
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session || session_wake(session, err))
        return -1;
    int rc = 0;
    lock_take(&sessions->lock);
    while (session->pty_opening)
        lock_wait(&sessions->changed, &sessions->lock, OPENING_MS);
    bool fresh = !find_locked(session, wish->shell);
    if (fresh) {
        session->pty_opening = true;
        lock_drop(&sessions->lock);
        rc = start(session, wish, err);
        lock_take(&sessions->lock);
        session->pty_opening = false;
        pthread_cond_broadcast(&sessions->changed);
    }
    struct pty *pty = rc ? NULL : find_locked(session, wish->shell);
    if (rc == 0 && !pty)
        rc = err_set(err, ERR_BUSY, "the terminal has just ended");
    if (pty && (rc = join_locked(pty, watch, ret_viewer, err)) == 0) {
        skip_to_line_locked(*ret_viewer);
        *ret_state = (struct pty_state){.pid = pty->pid,
                                        .cols = pty->cols,
                                        .rows = pty->rows,
                                        .fresh = fresh,
                                        .replay = pty->end - (*ret_viewer)->at};
    }
    lock_drop(&sessions->lock);
    return rc;
}

/* --- viewers ------------------------------------------------------------------------------- */

void pty_leave(struct pty_viewer *viewer)
{
    struct sessions *sessions = viewer->sessions;
    struct pty *pty = viewer->pty;
    lock_take(&sessions->lock);
    struct pty_viewer **at = &pty->viewers;
    while (*at != viewer)
        at = &(*at)->next;
    *at = viewer->next;
    pty->viewer_count--;
    if (!pty->over)
        wait_locked(pty);
    else if (!pty->viewers)
        pty_free(pty);
    lock_drop(&sessions->lock);
    free(viewer);
}

size_t pty_read(struct pty_viewer *viewer, size_t max, struct buf *out, struct pty_news *ret_news)
{
    struct pty *pty = viewer->pty;
    lock_take(&viewer->sessions->lock);
    int64_t oldest = pty->end > RING_BYTES ? pty->end - RING_BYTES : 0;
    *ret_news = (struct pty_news){.skipped = viewer->at < oldest ? oldest - viewer->at : 0};
    if (viewer->at < oldest)
        viewer->at = oldest;
    size_t len = (size_t)(pty->end - viewer->at);
    len = len < max ? len : max;
    size_t from = (size_t)(viewer->at % RING_BYTES), first = RING_BYTES - from;
    buf_add(out, pty->ring + from, len < first ? len : first);
    if (len > first)
        buf_add(out, pty->ring, len - first);
    viewer->at += (int64_t)len;
    ret_news->more = viewer->at < pty->end;
    ret_news->resized = viewer->cols != pty->cols || viewer->rows != pty->rows;
    ret_news->cols = viewer->cols = pty->cols;
    ret_news->rows = viewer->rows = pty->rows;
    ret_news->over = pty->over;
    ret_news->lost = pty->lost;
    ret_news->exit_code = pty->exit_code;
    if (!pty->over)
        wait_locked(pty);
    lock_drop(&viewer->sessions->lock);
    return len;
}

bool pty_write(struct pty_viewer *viewer, const char *data, size_t len)
{
    REQUIRE(len <= PTY_WRITE_MAX);
    struct pty *pty = viewer->pty;
    lock_take(&viewer->sessions->lock);
    if (!pty->over) {
        buf_add(&pty->input, data, len);
        pty->session->used_ms = clock_real_ms();
        flush_locked(pty);
        wait_locked(pty);
        viewer->held = pty->input.len > INPUT_BYTES / 2;
    }
    bool held = viewer->held;
    lock_drop(&viewer->sessions->lock);
    return !held;
}

void pty_resize(struct pty_viewer *viewer, int cols, int rows)
{
    struct pty *pty = viewer->pty;
    lock_take(&viewer->sessions->lock);
    const struct winsize size = {.ws_col = (unsigned short)cols, .ws_row = (unsigned short)rows};
    viewer->cols = cols;
    viewer->rows = rows;
    if (pty->source && ioctl(pty->source->fd, TIOCSWINSZ, &size) == 0) {
        pty->cols = cols;
        pty->rows = rows;
        tell_locked(pty);
    }
    lock_drop(&viewer->sessions->lock);
}

void pty_hang_up(struct pty_viewer *viewer)
{
    lock_take(&viewer->sessions->lock);
    if (!viewer->pty->over)
        close_locked(viewer->pty); /* SIGHUP; the agent reports the end. */
    lock_drop(&viewer->sessions->lock);
}
