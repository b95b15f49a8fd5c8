/* Programs that the tests of shared/proc start, and the situation and tier in which they run. */
#ifndef TESTS_PROC_SCENE_H
#define TESTS_PROC_SCENE_H

#include "testbase.h"

#include "base/fd.h"
#include "proc/launch.h"
#include "situation.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GRACE_MS 300
#define SOON_MS 20000

static struct launcher *launcher;
static char *scratch;
static enum jail_tier tier; /* of the programs that the cases start */

/* --- helpers ------------------------------------------------------------------------------- */

static inline struct plan *plan_of(const char *const argv[])
{
    struct plan *plan = plan_new();
    assert_non_null(plan);
    for (size_t i = 0; argv[i]; i++)
        strlist_add(&plan->argv, argv[i]);
    strlist_add(&plan->env, "PATH=/usr/bin:/bin");
    plan->cwd = strdup("/");
    plan->uid = geteuid() == 0 ? NOBODY : geteuid();
    plan->gid = geteuid() == 0 ? NOBODY : getegid();
    plan->kill_grace_ms = GRACE_MS;
    plan->jail.tier = tier;
    strlist_add(&plan->jail.binds, "rw");
    strlist_add(&plan->jail.binds, scratch);
    strlist_add(&plan->jail.binds, scratch);
    return plan;
}

static inline struct plan *shell(const char *script)
{
    return plan_of((const char *const[]){"/bin/sh", "-c", script, NULL});
}

/* A running program, with its output in a file that every user may write to. */
struct run {
    struct plan *plan;
    struct child *child;
    int out;
};

static inline struct run start_plan(struct plan *plan)
{
    struct err err;
    struct run run = {.plan = plan, .out = memfd_create("out", MFD_CLOEXEC)};
    AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int stdio[3] = {null, run.out, run.out};
    assert_true(null >= 0 && run.out >= 0);
    run.child = launcher_spawn(launcher, plan, stdio, &err);
    OK(run.child, &err);
    return run;
}

static inline struct run start(const char *script)
{
    return start_plan(shell(script));
}

/* Reads events until the tree has ended. */
static inline void await_end(struct child *child)
{
    int64_t end = now_ms() + SOON_MS;
    enum child_event event;
    while ((event = child_read(child)) != CHILD_ENDED) {
        struct pollfd wait = {.fd = child_fd(child), .events = POLLIN};
        if (event == CHILD_NOTHING)
            poll(&wait, 1, 1000);
        assert_true(now_ms() < end);
    }
}

static inline char *output_of(const struct run *run)
{
    AUTO(str) char *path = textf("/proc/self/fd/%d", run->out);
    char *text = read_file(path, NULL);
    assert_non_null(text);
    return text;
}

static inline void run_done(struct run *run)
{
    child_free(run->child);
    plan_free(run->plan);
    close(run->out);
}

/* Runs the plan to its end. Returns what it printed. */
static inline char *print_of_plan(struct plan *plan)
{
    struct run run = start_plan(plan);
    await_end(run.child);
    char *text = output_of(&run);
    run_done(&run);
    return text;
}

static inline char *print_of(const char *script)
{
    return print_of_plan(shell(script));
}

static inline int run_all(const struct situation *situation, const struct CMUnitTest *tests,
                          size_t count)
{
    const struct jail_host own = *launcher_host(launcher), *host = &own; /* tests replace it */
    int failed = 0;
    if (!situation_is(situation, host)) {
        printf("SKIPPED: this host has no situation '%s': %s\n", situation->name,
               host->why[JAIL_HAS_NAMESPACES]);
        return 77;
    }
    for (int each = JAIL_NONE; each <= host->tier; each++) {
        char name[64];
        tier = (enum jail_tier)each;
        snprintf(name, sizeof(name), "%s, tier %s", situation->name, jail_tier_name(tier));
        failed += _cmocka_run_group_tests(name, tests, count, NULL, NULL);
    }
    return failed;
}

/* The program's main(): runs the tests in the situation that argv names, in each tier it has. */
static inline int run_in_situation(int argc, char **argv, const struct CMUnitTest *tests,
                                   size_t count)
{
    struct err err;
    const struct situation *situation = situation_find(argc > 1 ? argv[1] : "root");
    if (argc > 1 && strcmp(argv[1], "launch") == 0)
        return launch_serve();
    if (!situation || !situation_enter(situation))
        return fprintf(stderr, "cannot enter the situation\n"), 1;
    scratch = tmp_dir_new();
    launcher = launcher_start(&err);
    if (!launcher)
        return fprintf(stderr, "%s\n", err.msg), 1;
    int failed = run_all(situation, tests, count);
    launcher_free(launcher);
    tmp_dir_free(scratch);
    return failed;
}

#endif
