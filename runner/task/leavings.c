#include "runner/task/leavings.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/path.h"

#include <stdlib.h>

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

/* Takes the next directory, once it is due. NULL at the end. */
static char *next(struct leavings *leavings)
{
    char *path = NULL;
    lock_take(&leavings->lock);
    while (!path && !(leavings->stopping && leavings->count == 0)) {
        const struct leaving *oldest = &leavings->ring[leavings->first];
        int64_t wait = leavings->count == 0 ? IDLE_MS : oldest->due_ms - clock_mono_ms();
        if (leavings->count > 0 && (wait <= 0 || leavings->stopping)) {
            path = oldest->path;
            leavings->first = (leavings->first + 1) % LEAVINGS_MAX;
            leavings->count--;
        } else {
            (void)lock_wait(&leavings->changed, &leavings->lock, wait);
        }
    }
    lock_drop(&leavings->lock);
    return path;
}

static void *remove_all(void *arg)
{
    struct err err;
    char *path;
    while ((path = next(arg))) {
        if (path_remove_tree(path, &err))
            log_warn("task", "%s", err.msg);
        free(path);
    }
    return NULL;
}

int leavings_start(struct leavings *leavings, struct err *err)
{
    return thread_start(&leavings->thread, "task-leavings", THREAD_STACK_SMALL, remove_all,
                        leavings, err);
}

void leavings_stop(struct leavings *leavings)
{
    lock_take(&leavings->lock);
    leavings->stopping = true;
    pthread_cond_signal(&leavings->changed);
    lock_drop(&leavings->lock);
    thread_join(&leavings->thread);
}

bool leavings_add(struct leavings *leavings, char *path)
{
    REQUIRE(path);
    lock_take(&leavings->lock);
    bool takes = !leavings->stopping && leavings->thread.running && leavings->count < LEAVINGS_MAX;
    if (takes) {
        size_t at = (leavings->first + leavings->count++) % LEAVINGS_MAX;
        leavings->ring[at] = (struct leaving){path, clock_mono_ms() + LATER_MS};
        if (leavings->count == 1)
            pthread_cond_signal(&leavings->changed);
    }
    lock_drop(&leavings->lock);
    return takes;
}
