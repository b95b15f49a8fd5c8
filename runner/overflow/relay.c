/*
 * Relaying: the job's events, piece by piece, into the task's own log.
 *
 * The name of the next piece is known, so asking for news is one request: often while there are
 * any, seldom while there are none, and not at all in the time that the job leaves between two. A
 * file beside the events says how far both logs had come when a piece was done with. After a
 * restart the events that follow that place in our log are those of the next piece, in the same
 * order: so many are skipped. Nothing else adds events meanwhile.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "google/storage.h"
#include "runner/overflow/trip.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MIN_MS 200
#define WAIT_MAX_MS 5000
#define NEXT_MS (SESSION_CHUNK_MS * 4 / 5) /* no sooner is there a piece after one that is new */
#define LOOK_EVERY_MS 15000                /* at the execution */
#define LOOK_AGAIN_MS 2000         /* the same, when there was none: it may be too new to be seen */
#define COLD_START_MS (15 * 60000) /* beyond its time limit an execution is lost */
#define END_MS 30000               /* of an execution that was asked to end */
#define CURSOR_FORMAT "%019lld %019lld\n"
#define CURSOR_BYTES 40
#define PIECES_AT_ONCE 64
#define PIECE_BYTES_MAX (EVENT_BYTES_MAX + SESSION_CHUNK_BYTES)

/* --- how far it has come ------------------------------------------------------------------- */

/* Written in place: whatever of it the power takes away, it is only behind. */
static void save_cursor(struct trip *trip)
{
    char text[CURSOR_BYTES + 1];
    snprintf(text, sizeof(text), CURSOR_FORMAT, (long long)trip->offset,
             (long long)events_size(task_run_events(trip->run)));
    if (trip->cursor_fd < 0 || fd_pwrite_all(trip->cursor_fd, text, CURSOR_BYTES, 0))
        log_warn("overflow", "cannot note how far the events have come");
}

/* The job's events that our log has from there on. */
static int64_t count_passed(struct trip *trip, int64_t from)
{
    struct err err;
    struct event event;
    int64_t count = 0;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX + 4096);
    AUTO(str) char *path = path_join(task_run_keep_dir(trip->run), "events");
    AUTO(fd) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    for (; fd >= 0 && events_read(fd, from, &scratch, &event, &err) == 1; from = event.next)
        count++;
    return count;
}

/* Where an earlier process was; false when it had not begun. */
static bool load_cursor(struct trip *trip, const char *path)
{
    struct err err;
    long long offset, from;
    AUTO(buf) struct buf text = BUF_INIT(256);
    if (file_read(path, &text, &err) ||
        sscanf(buf_str(&text), "%lld %lld", &offset, &from) != 2) // NOLINT(cert-err34-c)
        return false;
    trip->offset = offset;
    trip->skip = count_passed(trip, from);
    return true;
}

static int open_cursor(struct trip *trip, struct err *err)
{
    char text[CURSOR_BYTES + 1];
    AUTO(str) char *path = path_join(task_run_keep_dir(trip->run), "relayed");
    if (!path)
        return err_sys(err, "events");
    if (!task_run_adopted(trip->run) || !load_cursor(trip, path)) {
        snprintf(text, sizeof(text), CURSOR_FORMAT, 0LL,
                 (long long)events_size(task_run_events(trip->run)));
        if (file_replace(path, text, CURSOR_BYTES, 0600, err))
            return -1;
    }
    trip->cursor_fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    return trip->cursor_fd < 0 ? err_sys(err, "cannot open '%s'", path) : 0;
}

/* --- pieces -------------------------------------------------------------------------------- */

static void pass_on(struct trip *trip, const struct event *event)
{
    if (strcmp(event->name, "done") == 0)
        trip->done = true;
    if (strcmp(event->name, "done") == 0 || strcmp(event->name, "task") == 0 ||
        strcmp(event->name, "cancelled") == 0) /* ours say these things themselves */
        return;
    if (trip->skip > 0)
        trip->skip--;
    else
        task_run_event(trip->run, *event->name ? event->name : NULL, event->data, event->data_len);
}

/* Each event's id is its place in the job's file. */
static int pass_on_all(struct trip *trip, const struct buf *piece, struct err *err)
{
    struct event event;
    const int64_t end = trip->offset + (int64_t)piece->len;
    while (trip->offset < end) {
        size_t left = (size_t)(end - trip->offset);
        int got = events_parse(piece->data + (piece->len - left), left, trip->offset, &event, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_UPSTREAM, "a piece ends within an event");
        pass_on(trip, &event);
        trip->offset = event.next;
    }
    return events_flush(task_run_events(trip->run), err);
}

int trip_take_pieces(struct trip *trip, struct err *err)
{
    int taken = 0;
    const struct cloud *cloud = trip->cloud;
    for (; taken < PIECES_AT_ONCE && !trip->done; taken++) {
        char name[SESSION_NAME_SIZE];
        AUTO(buf) struct buf piece = BUF_INIT(PIECE_BYTES_MAX);
        session_events_name(trip->id, trip->offset, name);
        if (storage_get(cloud->google, cloud->bucket, name, &piece, NULL, err)) {
            trip->awaited = err->code == ERR_NOT_FOUND;
            trip->rest_ms = WAIT_MIN_MS;
            return err->code != ERR_NOT_FOUND ? -1 : taken > 0;
        }
        if (piece.len == 0)
            return err_set(err, ERR_UPSTREAM, "'%s' is empty", name);
        if (pass_on_all(trip, &piece, err)) {
            if (err->code == ERR_NO_SPACE)
                task_run_fail(trip->run, err);
            return -1;
        }
        save_cursor(trip);
        bool fresh = trip->awaited && piece.len < SESSION_CHUNK_BYTES / 2;
        trip->awaited = false;
        trip->rest_ms = fresh ? NEXT_MS : 0;
        if (fresh)
            return 1;
    }
    return taken > 0;
}

struct next_piece {
    int64_t after;
    int64_t at;
};

static int note_next(const struct storage_object *object, void *arg)
{
    struct next_piece *next = arg;
    const char *slash = strrchr(object->name, '/');
    int64_t at = slash ? strtoll(slash + 1, NULL, 10) : -1;
    if (at <= next->after)
        return 0;
    next->at = at;
    return 1;
}

/* Goes on after what has vanished. */
static bool step_over_hole(struct trip *trip)
{
    struct err err;
    char prefix[SESSION_NAME_SIZE], from[SESSION_NAME_SIZE], json[160];
    struct next_piece next = {trip->offset, -1};
    session_name(trip->id, "events/", prefix);
    session_events_name(trip->id, trip->offset, from);
    const struct storage_list wish = {.prefix = prefix, .start_offset = from};
    if (storage_list(trip->cloud->google, trip->cloud->bucket, &wish, note_next, &next, &err))
        log_warn("overflow", "%s", err.msg);
    trip->holes = true;
    if (next.at < 0)
        return false;
    int n = snprintf(json, sizeof(json),
                     "{\"error\":\"%lld bytes of the events were lost in the cloud\"}",
                     (long long)(next.at - trip->offset));
    task_run_event(trip->run, "error", json, (size_t)n);
    trip->offset = next.at;
    return true;
}

void trip_take_rest(struct trip *trip, int64_t events_bytes)
{
    struct err err;
    for (int tries = 0; tries < 10;) {
        int got = trip_take_pieces(trip, &err);
        if (trip->done || task_run_stop(trip->run) == STOP_INTERRUPT)
            return;
        if (got > 0)
            continue;
        if (got == 0 && (events_bytes < 0 || trip->offset >= events_bytes))
            return;
        if (got == 0 && !step_over_hole(trip))
            return;
        if (got < 0) {
            tries++;
            trip_wait(trip, 1000);
        }
    }
    log_warn("overflow", "the rest of the events cannot be read: %s", err.msg);
    trip->holes = true;
}

/* --- following ----------------------------------------------------------------------------- */

struct pace {
    int64_t wait_ms;
    int64_t look_ms;   /* mono: when to look at the execution next */
    int64_t lost_ms;   /* real: then its time is over */
    int64_t ending_ms; /* mono: when it was asked to end; 0: not yet */
    bool asked_to_end;
    bool gone; /* there was none when it was looked for */
};

static void look(struct trip *trip, struct pace *pace)
{
    struct err err;
    struct run_execution execution;
    if (!trip->placement.execution[0])
        return; /* its name was never told: its time limit ends the wait */
    if (run_get(trip->cloud->google, trip->placement.execution, &execution, &err)) {
        if (err.code == ERR_NOT_FOUND && !pace->gone) {
            pace->gone = true;
        } else if (err.code == ERR_NOT_FOUND) {
            trip->ended = true;
            trip->execution = (struct run_execution){.state = RUN_FAILED};
            snprintf(trip->execution.message, sizeof(trip->execution.message),
                     "the execution is gone");
        }
        return;
    }
    pace->gone = false;
    trip->execution = execution;
    trip->ended = execution.state != RUN_PENDING && execution.state != RUN_RUNNING;
}

/* Asked until it is heard. */
static void ask_to_end(struct trip *trip, struct pace *pace)
{
    struct err err;
    if (pace->ending_ms == 0)
        pace->ending_ms = clock_mono_ms();
    if (pace->asked_to_end)
        return;
    pace->asked_to_end = !trip->placement.execution[0] ||
                         run_cancel(trip->cloud->google, trip->placement.execution, &err) == 0;
    if (!pace->asked_to_end)
        log_warn("overflow", "cannot end the execution: %s", err.msg);
    pace->look_ms = clock_mono_ms() + 1000;
    pace->wait_ms = WAIT_MIN_MS;
}

/* True when following is over. */
static bool heed(struct trip *trip, struct pace *pace)
{
    trip->cancelled = task_run_stop(trip->run) == STOP_CANCEL;
    trip->timed_out |= clock_real_ms() > pace->lost_ms;
    if (trip->cancelled || trip->timed_out)
        ask_to_end(trip, pace);
    if (clock_mono_ms() >= pace->look_ms) {
        look(trip, pace);
        pace->look_ms = clock_mono_ms() + (pace->ending_ms ? 1000
                                           : pace->gone    ? LOOK_AGAIN_MS
                                                           : LOOK_EVERY_MS);
    }
    return trip->done || trip->ended || !task_run_healthy(trip->run) ||
           (pace->ending_ms && clock_mono_ms() > pace->ending_ms + END_MS);
}

enum step trip_relay(struct trip *trip)
{
    struct err err;
    struct pace pace = {.wait_ms = WAIT_MIN_MS, .look_ms = clock_mono_ms() + LOOK_EVERY_MS};
    pace.lost_ms = trip->placement.asked_ms + trip->spec->timeout_ms + COLD_START_MS;
    if (open_cursor(trip, &err)) {
        task_run_fail(trip->run, &err);
        return STEP_ON;
    }
    if (task_run_adopted(trip->run))
        pace.look_ms = 0;
    for (;;) {
        if (task_run_stop(trip->run) == STOP_INTERRUPT) {
            trip_settle(trip, TASK_RUNNING, "", ""); /* it goes on, and is adopted */
            return STEP_OVER;
        }
        int got = trip_take_pieces(trip, &err);
        if (heed(trip, &pace))
            return STEP_ON;
        if (got > 0) {
            pace.wait_ms = WAIT_MIN_MS;
            pace.look_ms = clock_mono_ms() + LOOK_EVERY_MS; /* it lives */
            if (trip->rest_ms > 0)
                trip_wait(trip, trip->rest_ms);
            continue;
        }
        trip_wait(trip, pace.wait_ms);
        pace.wait_ms = pace.wait_ms * 3 / 2 < WAIT_MAX_MS ? pace.wait_ms * 3 / 2 : WAIT_MAX_MS;
    }
}
