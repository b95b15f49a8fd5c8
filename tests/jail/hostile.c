/*
 * Hostile programs in jails: `jail-hostile SITUATION TIER [NAME]` runs every case of cases.h (or
 * those whose name holds NAME) in a jail as a task would run it, some side by side, and looks at
 * its canaries after each such batch. When one of them was touched the batch runs again one by one,
 * to say who it was.
 */
#include "testbase.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cases.h"
#include "cases_calls.h"
#include "cases_shell.h"
#include "house.h"
#include "proc/launch.h"
#include "proc/tree.h"
#include "situation.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CASE_MS 1500   /* then it is ended: some never end by themselves … */
#define FINE_MS 90000  /* … but not what must work, nor what a limit ends, on a busy machine */
#define ENDED_MS 20000 /* then it counts as one that can't be */
#define WIDTH 10

static struct launcher *launcher;
static const struct situation *situation;
static enum jail_tier tier;
static const char *only;

/* One that runs, or has run. */
struct going {
    const struct hostile *hostile;
    struct child *child;
    char *dir;
    int out;
    int64_t end_ms;
    bool ended;
};

/* --- one jail ------------------------------------------------------------------------------ */

static void give(const char *path)
{
    assert_int_equal(chown(path, house.uid, geteuid() ? (gid_t)-1 : house.uid), 0);
}

static void add_bind(struct plan *plan, const char *mode, const char *outside, const char *inside)
{
    strlist_add(&plan->jail.binds, mode);
    strlist_add(&plan->jail.binds, outside);
    strlist_add(&plan->jail.binds, inside);
}

/* The places of a run, as the runner makes them. */
static void make_places(struct plan *plan, const char *dir)
{
    struct err err;
    static const char *const names[] = {"work", "tmp"};
    OK(path_make_dirs(dir, 0711, &err) == 0, &err);
    for (size_t i = 0; i < COUNT(names); i++) {
        AUTO(str) char *outside = textf("%s/%s", dir, names[i]);
        AUTO(str)
        char *inside = tier == JAIL_FULL ? textf("/%s", i ? "tmp" : "workspace") : strdup(outside);
        OK(path_make_dirs(outside, 0700, &err) == 0, &err);
        give(outside);
        add_bind(plan, "rw", outside, inside);
        if (i == 0)
            plan->cwd = strdup(inside);
        else
            strlist_addf(&plan->env, "TMPDIR=%s", inside);
    }
}

/* "@NAME" is a trick of tricks.c, which is the very first program then; else a script. */
static void add_program(struct plan *plan, const char *script)
{
    if (*script == '@') {
        strlist_add(&plan->argv, TEST_TRICKS);
        strlist_add(&plan->argv, script + 1);
        return;
    }
    strlist_add(&plan->argv, "/bin/bash");
    strlist_add(&plan->argv, "-c");
    strlist_add(&plan->argv, script);
}

static void add_environment(struct strlist *env)
{
    strlist_add(env, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    strlist_add(env, house.mark);
    strlist_addf(env, "DIR=%s", house.dir);
    strlist_addf(env, "SECRET=%s", house.secret);
    strlist_addf(env, "MINE=%s", house.mine);
    strlist_addf(env, "PRECIOUS=%s", house.precious);
    strlist_addf(env, "SOCKET=%s", house.socket);
    strlist_addf(env, "DGRAM=%s", house.datagrams);
    strlist_addf(env, "ABSTRACT=%s", house.abstract);
    strlist_addf(env, "QUEUE=%s", house.queue);
    strlist_addf(env, "LEFT=%s", house.left);
    strlist_addf(env, "SHMFILE=%s", house.shm_file);
    strlist_addf(env, "PORT=%d", house.port);
    strlist_addf(env, "PID=%d", (int)house.outsider);
    strlist_addf(env, "SHM=%d", house.shm);
    strlist_addf(env, "KEY=%d", house.key);
    strlist_addf(env, "INIT=%d", (int)getpid());
    strlist_add(env, "CALLS=" TEST_CALLS);
}

/* Without control groups and namespaces all of a user's processes are counted together. */
static int pids_max(const struct hostile *hostile)
{
    const struct jail_host *host = launcher_host(launcher);
    const bool together = !host->has[JAIL_HAS_PIDS] && !host->has[JAIL_HAS_NAMESPACES];
    return together && !(hostile->where & FORKS) ? 64 * WIDTH : 64;
}

static struct plan *plan_of(const struct hostile *hostile, const char *dir)
{
    struct plan *plan = plan_new();
    assert_non_null(plan);
    add_program(plan, hostile->script);
    add_environment(&plan->env);
    make_places(plan, dir);
    add_bind(plan, "ro", TEST_CALLS, TEST_CALLS);
    add_bind(plan, "ro", TEST_TRICKS, TEST_TRICKS);
    plan->uid = house.uid;
    plan->gid = geteuid() ? getegid() : house.uid;
    plan->kill_grace_ms = 0;
    plan->jail.tier = tier;
    plan->jail.net = hostile->where & OWN_NET ? JAIL_NET_OWN : JAIL_NET_HOST;
    plan->jail.filter = JAIL_FILTER_TASK;
    plan->jail.memory_mb = 256;
    plan->jail.pids_max = pids_max(hostile);
    plan->jail.disk_mb = 60;
    plan->jail.cpu_percent = 200;
    strlist_add(&plan->jail.counted, dir);
    strlist_add(&plan->jail.hidden, house.dir);
    return plan;
}

static void start(struct going *going, const struct hostile *hostile, size_t number)
{
    struct err err;
    AUTO(str) char *dir = textf("%s/run-%zu", house.dir, number);
    AUTO(plan) struct plan *plan = plan_of(hostile, dir);
    AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    *going = (struct going){.hostile = hostile, .out = memfd_create("out", MFD_CLOEXEC)};
    const int stdio[3] = {null, going->out, null};
    going->child = launcher_spawn(launcher, plan, stdio, &err);
    OK(going->child, &err);
    going->dir = STEAL_PTR(dir);
    going->end_ms =
        clock_mono_ms() + (hostile->expect || hostile->where & LIMITED ? FINE_MS : CASE_MS);
}

/* Ends what is over its time. False when it has ended. */
static bool is_going(struct going *going)
{
    if (!going->child || child_read(going->child) == CHILD_ENDED) {
        child_free(going->child);
        going->child = NULL;
        return false;
    }
    int64_t now = clock_mono_ms();
    if (now >= going->end_ms && !going->ended) {
        child_end(going->child, true);
        going->ended = true;
    }
    if (now >= going->end_ms + ENDED_MS)
        fail_msg("'%s' could not be ended", going->hostile->name);
    return true;
}

static void await(struct going *all, size_t count)
{
    for (size_t left = 1; left > 0;) {
        struct pollfd wait[WIDTH];
        left = 0;
        for (size_t i = 0; i < count; i++)
            if (is_going(&all[i]))
                wait[left++] = (struct pollfd){.fd = child_fd(all[i].child), .events = POLLIN};
        if (left > 0)
            poll(wait, left, 100);
    }
}

/* --- batches ------------------------------------------------------------------------------- */

/* What a program says about itself; NULL: nothing. Lets go of it. */
static const char *judge(struct going *going, char **ret_said)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(16u << 20);
    const char *bad = NULL, *expect = going->hostile->expect;
    assert_true(lseek(going->out, 0, SEEK_SET) == 0);
    (void)fd_read_all(going->out, &text, &err);
    if (strstr(buf_str(&text), "ESCAPED"))
        bad = "it says so";
    else if (strstr(buf_str(&text), TOKEN))
        bad = "it knows the secret";
    else if (expect && !strstr(buf_str(&text), expect))
        bad = "it did not work";
    *ret_said = strdup(buf_str(&text));
    fd_close(&going->out);
    if (path_remove_tree(going->dir, &err))
        bad = "what it left can't be removed";
    free(going->dir);
    return bad;
}

static int count_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void tell(const struct hostile *hostile, const char *bad, const char *said)
{
    print_error("'%s': %s\n%.2000s\n", hostile->name, bad, said);
}

/* Returns how many got somewhere; *ret_damage when somebody of all did. */
static int run_batch(const struct hostile *const list[], size_t count, char *room, size_t size,
                     const char **ret_damage)
{
    struct going all[WIDTH];
    int failed = 0, fds = count_fds();
    for (size_t i = 0; i < count; i++)
        start(&all[i], list[i], i);
    await(all, count);
    for (size_t i = 0; i < count; i++) {
        AUTO(str) char *said = NULL;
        const char *bad = judge(&all[i], &said);
        if (bad)
            tell(list[i], bad, said);
        failed += bad != NULL;
    }
    *ret_damage = damage(room, size);
    if (!*ret_damage && proc_with_environment(house.mark) > 0)
        *ret_damage = "something of it is left";
    if (!*ret_damage && count_fds() != fds)
        *ret_damage = "a descriptor is left";
    return failed;
}

/* Who of them it was: each alone, in a house that is whole again. */
static int find_out(const struct hostile *const list[], size_t count, const char *bad)
{
    char room[80];
    int found = 0;
    print_error("%s, by one of %zu:\n", bad, count);
    for (size_t i = 0; i < count; i++) {
        leave_house();
        build_house();
        (void)run_batch(&list[i], 1, room, sizeof(room), &bad);
        if (bad)
            tell(list[i], bad, "");
        found += bad != NULL;
    }
    leave_house();
    build_house();
    return found > 0 ? found : 1;
}

static bool applies(const struct hostile *hostile)
{
    if (only && !strstr(hostile->name, only))
        return false;
    if (hostile->where & OWN_NET)
        return tier == JAIL_FULL;
    if ((hostile->where & GROUPED) && !launcher_host(launcher)->has[JAIL_HAS_MEMORY])
        return false;
    if ((hostile->where & WITH_NAMESPACES) && !situation->namespaces)
        return false;
    if ((hostile->where & APART) && situation->nobody && !situation->namespaces)
        return false;
    return hostile->where & (tier == JAIL_FULL ? IN_FULL : IN_RESTRICTED);
}

static const struct hostile *list[COUNT(cases) + COUNT(call_cases) + COUNT(shell_cases)];

static size_t list_all(void)
{
    static const struct {
        const struct hostile *first;
        size_t count;
    } tables[] = {
        {cases, COUNT(cases)}, {call_cases, COUNT(call_cases)}, {shell_cases, COUNT(shell_cases)}};
    size_t count = 0;
    for (size_t t = 0; t < COUNT(tables); t++)
        for (size_t i = 0; i < tables[t].count; i++)
            if (applies(&tables[t].first[i]))
                list[count++] = &tables[t].first[i];
    return count;
}

/* How many of the next may run at once: what forks for ever is with its like only. */
static size_t batch_size(const struct hostile *const next[], size_t left)
{
    size_t n = 1;
    if (next[0]->where & ALONE)
        return 1;
    while (n < left && n < WIDTH && !(next[n]->where & (AFTER | ALONE)) &&
           (next[n]->where & FORKS) == (next[0]->where & FORKS))
        n++;
    return n;
}

static void nothing_gets_out(void **state)
{
    (void)state;
    char room[80];
    int failed = 0;
    size_t count = list_all();
    int64_t began = clock_mono_ms();
    for (size_t at = 0, n; at < count; at += n) {
        const char *bad;
        n = batch_size(&list[at], count - at);
        failed += run_batch(&list[at], n, room, sizeof(room), &bad);
        if (bad)
            failed += find_out(&list[at], n, bad);
    }
    print_message("%zu hostile programs, %d of them got somewhere, %d ms\n", count, failed,
                  (int)(clock_mono_ms() - began));
    assert_int_equal(failed, 0);
}

int main(int argc, char **argv)
{
    struct err err;
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_gets_out)};
    if (argc > 1 && strcmp(argv[1], "launch") == 0)
        return launch_serve();
    situation = situation_find(argc > 1 ? argv[1] : "root");
    tier = argc > 2 && strcmp(argv[2], "restricted") == 0 ? JAIL_RESTRICTED : JAIL_FULL;
    only = argc > 3 ? argv[3] : NULL;
    if (!situation || !situation_enter(situation))
        return fprintf(stderr, "cannot enter the situation\n"), 1;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* as the runner */
    launcher = launcher_start(&err);
    if (!launcher)
        return fprintf(stderr, "%s\n", err.msg), 1;
    if (!situation_is(situation, launcher_host(launcher)) || launcher_tier(launcher) < tier) {
        printf("SKIPPED: this host has no tier %s in situation '%s': %s\n", jail_tier_name(tier),
               situation->name, launcher_host(launcher)->why_tier);
        launcher_free(launcher);
        return 77;
    }
    build_house();
    int failed = cmocka_run_group_tests_name(situation->name, tests, NULL, NULL);
    launcher_free(launcher);
    leave_house();
    return failed;
}
