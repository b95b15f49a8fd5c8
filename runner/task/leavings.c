#include "runner/task/leavings.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define LATER_MS 50
#define IDLE_MS 3600000

void leavings_init(struct leavings *leavings)
{
    lock_init(&leavings->lock);
    cond_init(&leavings->changed);
}

void leavings_done(struct leavings *leavings)
{
    REQUIRE(leavings->count == 0);
    pthread_cond_destroy(&leavings->changed);
    lock_done(&leavings->lock);
}

/* Takes the oldest, once it is due, and with it all that are due too. Returns how many; 0 at the
 * end. */
static size_t take_due(struct leavings *leavings, struct leaving batch[LEAVINGS_MAX])
{
    size_t taken = 0;
    lock_take(&leavings->lock);
    while (taken == 0 && !(leavings->stopping && leavings->count == 0)) {
        int64_t now = clock_mono_ms();
        const struct leaving *oldest = &leavings->ring[leavings->first];
        while (leavings->count > 0 && (leavings->stopping || oldest->due_ms <= now)) {
            batch[taken++] = *oldest;
            leavings->first = (leavings->first + 1) % LEAVINGS_MAX;
            leavings->count--;
            oldest = &leavings->ring[leavings->first];
        }
        if (taken == 0)
            (void)lock_wait(&leavings->changed, &leavings->lock,
                            leavings->count > 0 ? oldest->due_ms - now : IDLE_MS);
    }
    lock_drop(&leavings->lock);
    return taken;
}

/* All are on their way before the first is waited for, so that one commit of the journal does. */
static void sync_files(struct leaving *batch, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (batch[i].fd >= 0)
            sync_file_range(batch[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    for (size_t i = 0; i < count; i++) {
        if (batch[i].fd >= 0 && fdatasync(batch[i].fd))
            log_warn("task", "cannot sync events: errno %d", errno);
        fd_close(&batch[i].fd);
    }
}

/* Frees the batch, too. */
static void see_to(struct leaving *batch, size_t count)
{
    struct err err;
    sync_files(batch, count);
    for (size_t i = 0; i < count; i++) {
        if (batch[i].path && path_remove_tree(batch[i].path, &err))
            log_warn("task", "%s", err.msg);
        free(batch[i].path);
    }
}

static void *clear(void *arg)
{
    size_t count;
    struct leaving batch[LEAVINGS_MAX];
    while ((count = take_due(arg, batch)) > 0)
        see_to(batch, count);
    return NULL;
}

int leavings_start(struct leavings *leavings, struct err *err)
{
    return thread_start(&leavings->thread, "task-leavings", THREAD_STACK_SMALL, clear, leavings,
                        err);
}

void leavings_stop(struct leavings *leavings)
{
    lock_take(&leavings->lock);
    leavings->stopping = true;
    pthread_cond_signal(&leavings->changed);
    lock_drop(&leavings->lock);
    thread_join(&leavings->thread);
}

bool leavings_take(struct leavings *leavings, char *path, int fd)
{
    REQUIRE(path || fd >= 0);
    lock_take(&leavings->lock);
    bool later = !leavings->stopping && leavings->thread.running && leavings->count < LEAVINGS_MAX;
    if (later) {
        size_t at = (leavings->first + leavings->count++) % LEAVINGS_MAX;
        leavings->ring[at] = (struct leaving){path, fd, clock_mono_ms() + LATER_MS};
        if (leavings->count == 1)
            pthread_cond_signal(&leavings->changed);
    }
    lock_drop(&leavings->lock);
    if (!later)
        see_to(&(struct leaving){path, fd, 0}, 1);
    return later;
}
