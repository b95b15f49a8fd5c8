/* A runner with a host of repositories, for one kind of workspaces. */
#ifndef TESTS_REPOS_SCENE_H
#define TESTS_REPOS_SCENE_H

#include "githost.h"
#include "testing.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

static struct runner *runner;

/* The program's arguments. */
static const char *method = "auto"; /* WORKSPACES */
static const char *file_system;     /* of RUNNER_STATE_DIR; NULL: the one that is there */

/* Mounts a small file system of that kind at the state directory, in this process's own mount
 * namespace. False when this host cannot. */
static inline bool mount_state(void)
{
    char *steps = textf("truncate -s 400M fs.img && mkfs.%s -q fs.img && mkdir -p '%s' && "
                        "mount -o loop fs.img '%s' && chmod 711 '%s'",
                        file_system, runner->state, runner->state, runner->state);
    bool made = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    char *said = made ? sh("( %s ) 2>&1 || echo it failed", steps) : strdup("it failed");
    bool mounted = !strstr(said, "it failed");
    if (!mounted)
        print_message("SKIPPED: cannot mount a loop device with %s: %s\n", file_system, said);
    free(said);
    free(steps);
    return mounted;
}

static inline int start_all(void **state)
{
    (void)state;
    if (!githost_start())
        return 0;
    runner = githost_runner("");
    runner_set(runner, "WORKSPACES", method);
    if (file_system && !mount_state()) {
        runner_free(runner);
        runner = NULL;
        return 0;
    }
    runner_start(runner);
    return 0;
}

static inline int stop_all(void **state)
{
    (void)state;
    if (runner && file_system) {
        runner_stop(runner, 60000);
        umount2(runner->state, MNT_DETACH);
    }
    runner_free(runner);
    githost_stop();
    return 0;
}

static inline void need_host(void)
{
    if (!runner)
        SKIP_BECAUSE("needs root, sshd, nginx, fcgiwrap and, for some file systems, a loop device");
}

/* ---- calls ---- */

static inline char *file_fields(const char *more)
{
    return textf("\"repoUrl\":\"file://%s\"%s%s", host.remote, *more ? "," : "", more);
}

static inline struct reply *in_repo(const char *prompt, const char *more)
{
    char *fields = file_fields(more);
    struct reply *reply = runner_execute(runner, prompt, fields);
    free(fields);
    assert_status(reply, 200);
    return reply;
}

#endif
