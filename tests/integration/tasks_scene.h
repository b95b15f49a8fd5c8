/* One runner for the tests of tasks. */
#ifndef TESTS_TASKS_SCENE_H
#define TESTS_TASKS_SCENE_H

#include "testing.h"

#include <stdlib.h>
#include <string.h>

static struct runner *runner;

static const char *const settings[] = {
    "KEEPALIVE_AFTER_MS", "300", "KEEPALIVE_EVERY_MS", "200", "KILL_GRACE_SECONDS", "1", NULL};

static inline struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

static inline void await_ended(const char *id)
{
    int64_t end = now_ms() + 60000 * slowness();
    for (bool ended = false; !ended;) {
        char *now = runner_task_state(runner, id);
        ended = strcmp(now, "completed") == 0 || strcmp(now, "failed") == 0 ||
                strcmp(now, "cancelled") == 0;
        free(now);
        assert_true(ended || now_ms() < end);
        poll_pause();
    }
}

#endif
