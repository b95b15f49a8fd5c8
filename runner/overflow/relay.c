/*
 * Relays the job's events, piece by piece, into the task's own log.
 *
 * The name of the next piece is known, so one request asks for news: often while there are any,
 * seldom while there are none, and not at all during the time that the job leaves between two
 * pieces. A file beside the events stores how long both logs were after each piece. After a
 * restart, the events after that position in our log are those of the next piece, in the same
 * order, and so many are skipped. Nothing else adds events meanwhile.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "google/storage.h"
#include "runner/overflow/cloud_task.h"
#include "runner/overflow/follow.h"
#include "json/json.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MIN_MS 200
#define WAIT_MAX_MS 5000
#define NEXT_MS                                                                      \
    (FOLDER_CHUNK_MS * 4 / 5) /* the next piece cannot exist earlier after a new one \
                               */
#define CURSOR_FORMAT "%019lld %019lld\n"
#define CURSOR_BYTES 40
#define PIECES_AT_ONCE 64
#define PIECE_BYTES_MAX (EVENT_BYTES_MAX + FOLDER_CHUNK_BYTES)

/* --- how far it has come ------------------------------------------------------------------- */

/* Writes the positions in place: when a power failure loses the write, they are only older. */
static void save_cursor(struct cloud_task *task)
{
    char text[CURSOR_BYTES + 1];
    snprintf(text, sizeof(text), CURSOR_FORMAT, (long long)task->offset,
             (long long)events_size(task_run_events(task->run)));
    if (task->cursor_fd < 0 || fd_pwrite_all(task->cursor_fd, text, CURSOR_BYTES, 0))
        log_warn("overflow", "cannot note how far the events have come");
}

/* True for the error event before the end of a failed task; a pause's error has a status, too. */
static bool is_last_error(const struct event *event)
{
    size_t len;
    return strcmp(event->name, "error") == 0 &&
           json_raw_member(event->data, event->data_len, "reason", &len) &&
           !json_raw_member(event->data, event->data_len, "status", &len);
}

/* True for events that the home runner writes itself, in the job's log as in its own. */
static bool is_ours(const struct event *event)
{
    static const char *const names[] = {"task", "done", "cancelled", "late", "lost"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(event->name, names[i]) == 0)
            return true;
    return is_last_error(event);
}

/* Counts the job's events that our log has after that position. */
static int64_t count_passed(struct cloud_task *task, int64_t from)
{
    struct err err;
    struct event event;
    int64_t count = 0;
    AUTO(buf) struct buf scratch = BUF_INIT(EVENT_BYTES_MAX + 4096);
    AUTO(str) char *path = path_join(task_run_keep_dir(task->run), "events");
    AUTO(fd) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    for (; fd >= 0 && events_read(fd, from, &scratch, &event, &err) == 1; from = event.next)
        count += !is_ours(&event);
    return count;
}

/* Reads the positions of an earlier process; false when it had not begun. */
static bool load_cursor(struct cloud_task *task, const char *path)
{
    struct err err;
    long long offset, from;
    AUTO(buf) struct buf text = BUF_INIT(256);
    if (file_read(path, &text, &err) ||
        sscanf(buf_str(&text), "%lld %lld", &offset, &from) != 2) // NOLINT(cert-err34-c)
        return false;
    task->offset = offset;
    task->skip = count_passed(task, from);
    return true;
}

static int open_cursor(struct cloud_task *task, struct err *err)
{
    char text[CURSOR_BYTES + 1];
    AUTO(str) char *path = path_join(task_run_keep_dir(task->run), "relayed");
    if (!path)
        return err_sys(err, "events");
    if (!task_run_adopted(task->run) || !load_cursor(task, path)) {
        snprintf(text, sizeof(text), CURSOR_FORMAT, 0LL,
                 (long long)events_size(task_run_events(task->run)));
        if (file_replace(path, text, CURSOR_BYTES, 0600, err))
            return -1;
    }
    task->cursor_fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    return task->cursor_fd < 0 ? err_sys(err, "cannot open '%s'", path) : 0;
}

/* --- pieces -------------------------------------------------------------------------------- */

static void pass_on(struct cloud_task *task, const struct event *event)
{
    if (strcmp(event->name, "done") == 0)
        task->done = true;
    if (is_ours(event))
        return;
    if (task->skip > 0)
        task->skip--;
    else
        task_run_event(task->run, *event->name ? event->name : NULL, event->data, event->data_len);
}

/* Passes on whole events. An event's id is its offset in the job's file. */
static int pass_on_all(struct cloud_task *task, const struct buf *piece, struct err *err)
{
    struct event event;
    const int64_t end = task->offset + (int64_t)piece->len;
    while (task->offset < end) {
        size_t left = (size_t)(end - task->offset);
        int got = events_parse(piece->data + (piece->len - left), left, task->offset, &event, err);
        if (got <= 0)
            return got < 0 ? -1 : err_set(err, ERR_UPSTREAM, "a piece ends within an event");
        pass_on(task, &event);
        task->offset = event.next;
    }
    return events_flush(task_run_events(task->run), err);
}

int cloud_task_take_pieces(struct cloud_task *task, struct err *err)
{
    int taken = 0;
    const struct cloud *cloud = task->cloud;
    for (; taken < PIECES_AT_ONCE && !task->done; taken++) {
        char name[FOLDER_NAME_SIZE];
        AUTO(buf) struct buf piece = BUF_INIT(PIECE_BYTES_MAX);
        folder_events_name(task->id, task->offset, name);
        if (storage_get(cloud->google, cloud->bucket, name, &piece, NULL, err)) {
            task->awaited = err->code == ERR_NOT_FOUND;
            task->rest_ms = WAIT_MIN_MS;
            return err->code != ERR_NOT_FOUND ? -1 : taken > 0;
        }
        if (piece.len == 0)
            return err_set(err, ERR_UPSTREAM, "'%s' is empty", name);
        if (pass_on_all(task, &piece, err)) {
            if (err->code == ERR_NO_SPACE)
                task_run_fail(task->run, err);
            return -1;
        }
        save_cursor(task);
        bool fresh = task->awaited && piece.len < FOLDER_CHUNK_BYTES / 2;
        task->awaited = false;
        task->heard = true;
        task->rest_ms = fresh ? NEXT_MS : 0;
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

/* Continues after pieces that have vanished. */
static bool step_over_hole(struct cloud_task *task)
{
    struct err err;
    char prefix[FOLDER_NAME_SIZE], from[FOLDER_NAME_SIZE], json[160];
    struct next_piece next = {task->offset, -1};
    folder_name(task->id, "events/", prefix);
    folder_events_name(task->id, task->offset, from);
    const struct storage_list wish = {.prefix = prefix, .start_offset = from};
    if (storage_list(task->cloud->google, task->cloud->bucket, &wish, note_next, &next, &err))
        log_warn("overflow", "%s", err.msg);
    task->holes = true;
    if (next.at < 0)
        return false;
    int n = snprintf(json, sizeof(json),
                     "{\"error\":\"%lld bytes of the events were lost in the cloud\"}",
                     (long long)(next.at - task->offset));
    task_run_event(task->run, "error", json, (size_t)n);
    task->offset = next.at;
    return true;
}

void cloud_task_take_rest(struct cloud_task *task, int64_t events_bytes)
{
    struct err err;
    for (int tries = 0; tries < 10;) {
        int got = cloud_task_take_pieces(task, &err);
        if (task->done || task_run_stop(task->run) == STOP_INTERRUPT)
            return;
        if (got > 0)
            continue;
        if (got == 0 && (events_bytes < 0 || task->offset >= events_bytes))
            return;
        if (got == 0 && !step_over_hole(task))
            return;
        if (got < 0) {
            tries++;
            cloud_task_wait(task, 1000);
        }
    }
    log_warn("overflow", "the rest of the events cannot be read: %s", err.msg);
    task->holes = true;
}

/* --- following ----------------------------------------------------------------------------- */

enum step cloud_task_relay(struct cloud_task *task)
{
    struct err err;
    int64_t wait_ms = WAIT_MIN_MS;
    cloud_task_follow(task);
    if (open_cursor(task, &err)) {
        task_run_fail(task->run, &err);
        return STEP_ON;
    }
    for (;;) {
        if (task->late)
            return STEP_ON; /* The end takes what is missing. */
        if (task_run_stop(task->run) == STOP_INTERRUPT) {
            cloud_task_settle(task, TASK_RUNNING, "", ""); /* The execution goes on, and the next
                                                            * start adopts it. */
            return STEP_OVER;
        }
        int got = cloud_task_take_pieces(task, &err);
        if (cloud_task_look(task) || task->done || task->ended || !task_run_healthy(task->run))
            return STEP_ON;
        if (got > 0) {
            wait_ms = WAIT_MIN_MS;
            cloud_task_seen_alive(task);
            if (task->rest_ms > 0)
                cloud_task_wait(task, task->rest_ms);
            continue;
        }
        if (task->asked_to_end)
            wait_ms = WAIT_MIN_MS;
        cloud_task_wait(task, wait_ms);
        wait_ms = wait_ms * 3 / 2 < WAIT_MAX_MS ? wait_ms * 3 / 2 : WAIT_MAX_MS;
    }
}
