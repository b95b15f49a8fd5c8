/* A runner among stand-ins for Claude's hosts, and a login that was begun in it. */
#ifndef TESTS_LOGIN_SCENE_H
#define TESTS_LOGIN_SCENE_H

#include "testing.h"

#include "internet.h"

#include <stdlib.h>

static bool offline; /* whether the namespaces could be entered */

static inline struct runner *new_runner(struct internet **ret_internet)
{
    if (!offline)
        SKIP_BECAUSE("no namespaces of our own on this host (root is needed)");
    struct runner *runner = runner_new();
    *ret_internet = internet_new();
    internet_use(*ret_internet, runner);
    return runner;
}

/* The number of live processes of the login's CLI. */
static inline size_t cli_processes(const struct runner *runner)
{
    char *variable = textf("CLAUDE_CONFIG_DIR=%s/login", runner->state);
    size_t count = proc_with_environment(variable);
    free(variable);
    return count;
}

#endif
