#include "runner/worker/courier.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "runner/worker/deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GATHER_MS 100                   /* Events that come within this time are sent together. */
#define GIVE_UP_MS (10 * 60 * 1000)     /* time after which one piece is given up */
#define KEEP_BYTES (INT64_C(128) << 10) /* The engine reads back from the file's end. */
#define PAGE_BYTES INT64_C(4096)

struct courier {
    struct job *job;
    int fd;
    char *chunk; /* FOLDER_CHUNK_BYTES */
    int64_t sent;
    int64_t sent_ms; /* when the last piece was begun; 0: none yet */
    int64_t punched;
    struct thread thread;

    struct lock lock; /* guards the fields below */
    pthread_cond_t wake;
    int64_t end;
    int64_t born_ms; /* when the oldest unsent event arrived */
    bool closing;
};

void courier_grew(struct courier *courier, int64_t end)
{
    lock_take(&courier->lock);
    if (end > courier->end) {
        if (courier->born_ms == 0)
            courier->born_ms = clock_mono_ms();
        courier->end = end;
        pthread_cond_signal(&courier->wake);
    }
    lock_drop(&courier->lock);
}

/* --- cutting ---------------------------------------------------------------------------------- */

/* The end of the event that begins at `from`, which is longer than a chunk. */
static int64_t end_of_long(const struct courier *courier, int64_t from, int64_t end)
{
    char *chunk = courier->chunk;
    for (int64_t at = from; at < end;) {
        size_t want =
            end - at < (int64_t)FOLDER_CHUNK_BYTES ? (size_t)(end - at) : FOLDER_CHUNK_BYTES;
        ssize_t n = fd_pread_full(courier->fd, chunk, want, at);
        if (n <= 1)
            return -1;
        const char *stop = memmem(chunk, (size_t)n, "\n\n", 2);
        if (stop)
            return at + (stop - chunk) + 2;
        at += n - 1; /* The two line ends may lie in two reads. */
    }
    return -1;
}

/* Reads the next piece into the chunk and returns its length; 0 when it is one event of *ret_long
 * bytes, which is too long for the chunk. -1 with *err. */
static ssize_t cut(struct courier *courier, int64_t end, int64_t *ret_long, struct err *err)
{
    int64_t from = courier->sent;
    size_t want =
        end - from < (int64_t)FOLDER_CHUNK_BYTES ? (size_t)(end - from) : FOLDER_CHUNK_BYTES;
    ssize_t n = fd_pread_full(courier->fd, courier->chunk, want, from);
    if (n != (ssize_t)want)
        return err_sys(err, "cannot read the events");
    for (ssize_t len = n; len > 1; len--)
        if (courier->chunk[len - 1] == '\n' && courier->chunk[len - 2] == '\n')
            return len;
    int64_t stop = end_of_long(courier, from, end);
    if (stop < 0)
        return err_set(err, ERR_INTERNAL, "the event at %lld has no end", (long long)from);
    *ret_long = stop - from;
    return 0;
}

/* Frees the file's stored part, except for its last bytes. */
static void punch(struct courier *courier, int64_t end)
{
    int64_t to = end - KEEP_BYTES < courier->sent ? end - KEEP_BYTES : courier->sent;
    to -= to % PAGE_BYTES;
    if (to <= courier->punched)
        return;
    fallocate(courier->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, courier->punched,
              to - courier->punched); /* Where that is not possible they stay. */
    courier->punched = to;
}

static int send_piece(struct courier *courier, int64_t end, struct err *err)
{
    char name[FOLDER_NAME_SIZE];
    int64_t long_size = 0;
    ssize_t len = cut(courier, end, &long_size, err);
    if (len < 0)
        return -1;
    folder_events_name(courier->job->id, courier->sent, name);
    const struct parcel parcel = {.name = name,
                                  .type = "text/event-stream",
                                  .data = len > 0 ? courier->chunk : NULL,
                                  .fd = courier->fd,
                                  .from = courier->sent,
                                  .size = len > 0 ? len : long_size,
                                  .fresh = true};
    courier->sent_ms = clock_mono_ms();
    if (deliver(courier->job, &parcel, GIVE_UP_MS, err))
        return -1;
    courier->sent += parcel.size;
    punch(courier, end);
    return 0;
}

/* --- the thread ------------------------------------------------------------------------------- */

/* How long the next piece must wait; the lock is held. */
static int64_t wait_locked(const struct courier *courier) HOLDS(courier->lock);
static int64_t wait_locked(const struct courier *courier)
{
    int64_t now = clock_mono_ms();
    if (courier->closing || courier->end - courier->sent >= (int64_t)FOLDER_CHUNK_BYTES)
        return 0;
    int64_t due = courier->born_ms + GATHER_MS;
    if (courier->sent_ms > 0 && courier->sent_ms + FOLDER_CHUNK_MS > due)
        due = courier->sent_ms + FOLDER_CHUNK_MS;
    return due > now ? due - now : 0;
}

/* Waits until a piece is due. False at the end. */
static bool await_piece(struct courier *courier, int64_t *ret_end)
{
    bool any = false;
    lock_take(&courier->lock);
    for (;;) {
        any = courier->end > courier->sent;
        int64_t wait = any ? wait_locked(courier) : INT32_MAX;
        if ((any && wait == 0) || (!any && courier->closing))
            break;
        lock_wait(&courier->wake, &courier->lock, wait);
    }
    *ret_end = courier->end;
    /* What this piece leaves behind has waited just as long. */
    courier->born_ms = 0;
    lock_drop(&courier->lock);
    return any;
}

static void note_rest(struct courier *courier)
{
    lock_take(&courier->lock);
    if (courier->end > courier->sent && courier->born_ms == 0)
        courier->born_ms = clock_mono_ms();
    lock_drop(&courier->lock);
}

static void *courier_thread(void *arg)
{
    struct err err = ERR_INIT;
    struct courier *courier = arg;
    struct job *job = courier->job;
    int64_t end;
    log_set_task(job->id);
    while (await_piece(courier, &end)) {
        bool over = job_is_over(job);
        if (!over && send_piece(courier, end, &err) == 0) {
            note_rest(courier);
            continue;
        }
        log_error("job", "events from %lld on are not stored: %s", (long long)courier->sent,
                  over ? "there is no time left" : err.msg);
        job_hurry(job); /* A task whose events are lost must not go on. */
        break;
    }
    return NULL;
}

struct courier *courier_start(struct job *job, const char *path, struct err *err)
{
    REQUIRE(path);
    struct courier *courier = calloc(1, sizeof(*courier));
    if (!courier || !(courier->chunk = malloc(FOLDER_CHUNK_BYTES))) {
        free(courier);
        err_sys(err, "courier");
        return NULL;
    }
    courier->job = job;
    lock_init(&courier->lock);
    cond_init(&courier->wake);
    courier->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    int rc = courier->fd < 0 ? err_sys(err, "cannot follow the events '%s'", path)
                             : thread_start(&courier->thread, "courier", THREAD_STACK_DEFAULT,
                                            courier_thread, courier, err);
    if (rc) {
        fd_close(&courier->fd);
        free(courier->chunk);
        free(courier);
        return NULL;
    }
    return courier;
}

int64_t courier_finish(struct courier *courier)
{
    int64_t end = events_end(courier->fd);
    courier_grew(courier, end);
    lock_take(&courier->lock);
    courier->closing = true;
    pthread_cond_signal(&courier->wake);
    lock_drop(&courier->lock);
    thread_join(&courier->thread);
    int64_t sent = courier->sent;
    lock_done(&courier->lock);
    pthread_cond_destroy(&courier->wake);
    fd_close(&courier->fd);
    free(courier->chunk);
    free(courier);
    return sent;
}
