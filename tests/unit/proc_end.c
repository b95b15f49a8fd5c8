#include "proc_scene.h"

#include "proc/tree.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool has_namespaces(void)
{
    return launcher_host(launcher)->has[JAIL_HAS_NAMESPACES];
}

/* Starts a tree whose processes carry this marker in their environment. */
static struct run start_marked(const char *script, const char *marker)
{
    struct plan *plan = shell(script);
    strlist_add(&plan->env, marker);
    return start_plan(plan);
}

static char *fresh_marker(void)
{
    static int n;
    return textf("UNIT_MARK=%d-%d", (int)getpid(), n++);
}

static bool has_printed(const struct run *run, const char *text)
{
    AUTO(str) char *now = output_of(run);
    return strstr(now, text) != NULL;
}

static void await_text(const struct run *run, const char *text)
{
    EVENTUALLY(SOON_MS, has_printed(run, text));
}

static pid_t launcher_pid(void)
{
    AUTO(str) char *path = textf("/proc/self/task/%d/children", (int)gettid());
    AUTO(str) char *text = read_file(path, NULL);
    return text ? (pid_t)strtol(text, NULL, 10) : 0;
}

static bool launcher_has_no_inits(void)
{
    int pid = (int)launcher_pid();
    AUTO(str) char *path = textf("/proc/%d/task/%d/children", pid, pid);
    AUTO(str) char *inits = read_file(path, NULL);
    return inits && *inits == '\0';
}

static void it_sees_no_process_of_others(void **state)
{
    (void)state;
    if (!has_namespaces())
        SKIP_BECAUSE("without namespaces everybody sees everybody");
    AUTO(str) char *text = print_of("echo /proc/[0-9]*");
    assert_null(strchr(strchr(text, ' ') + 1, ' ')); /* init and the process itself */
}

static void a_child_that_heeds_term_ends_at_once(void **state)
{
    (void)state;
    struct plan *plan = shell("trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done");
    plan->kill_grace_ms = 3600 * 1000;
    struct run run = start_plan(plan);
    await_text(&run, "up");
    child_end(run.child, false);
    await_end(run.child);
    assert_int_equal(child_status(run.child), 3 << 8);
    run_done(&run);
}

static void a_child_that_ignores_term_is_killed_after_the_grace(void **state)
{
    (void)state;
    struct run run = start("trap '' TERM; echo up; while :; do sleep 0.01; done");
    await_text(&run, "up");
    int64_t before = now_ms();
    child_end(run.child, false);
    child_end(run.child, false); /* a second request changes nothing */
    await_end(run.child);
    assert_true(now_ms() - before >= GRACE_MS - 1);
    assert_int_equal(child_status(run.child), SIGKILL);
    run_done(&run);
}

static void kill_needs_no_grace(void **state)
{
    (void)state;
    struct plan *plan = shell("trap '' TERM; echo up; while :; do sleep 0.01; done");
    plan->kill_grace_ms = 3600 * 1000;
    struct run run = start_plan(plan);
    await_text(&run, "up");
    child_end(run.child, false);
    child_end(run.child, true); /* during the grace period */
    await_end(run.child);
    assert_int_equal(child_status(run.child), SIGKILL);
    run_done(&run);
}

/* The program's end, as init's children show it while init itself stands still. */
static bool has_only_ended(pid_t init)
{
    AUTO(str) char *path = textf("/proc/%d/task/%d/children", (int)init, (int)init);
    AUTO(str) char *pid = read_file(path, NULL);
    AUTO(str) char *file = textf("/proc/%ld/stat", pid ? strtol(pid, NULL, 10) : 0);
    AUTO(str) char *stat = read_file(file, NULL);
    return stat && strstr(stat, ") Z ");
}

/* Init leaves without having read all that it was told, and the kernel says so first. */
static void its_last_words_are_heard_past_a_reset(void **state)
{
    (void)state;
    AUTO(str) char *go = textf("%s/go", scratch);
    AUTO(str)
    char *script = textf("echo up; while [ ! -e %s ]; do sleep 0.01; done; exit 3", go);
    unlink(go);
    struct run run = start(script);
    await_text(&run, "up");
    pid_t init = child_pid(run.child);
    assert_int_equal(kill(init, SIGSTOP), 0);
    write_bytes(go, "", 0);
    EVENTUALLY(SOON_MS, has_only_ended(init));
    child_end(run.child, false);
    child_end(run.child, true);
    assert_int_equal(kill(init, SIGCONT), 0);
    EVENTUALLY(SOON_MS, tree_start_time(init) == 0);
    await_end(run.child);
    assert_int_equal(child_status(run.child), 3 << 8);
    run_done(&run);
}

/* Each starts processes that try to outlive their tree, and prints "up" when they run. */
static const char *const clingers[] = {
    "sleep 1000 & echo up; wait",
    "setsid sh -c 'trap \"\" TERM HUP; echo up; sleep 1000; sleep 1000' & wait",
    /* a classic daemon: two forks, its own session, no parent */
    "(setsid sh -c '(trap \"\" TERM HUP; echo up; while :; do sleep 1000; done) & exit' &)"
    "; sleep 1000",
    "(sh -c '(sh -c \"(sleep 1000 & echo up) &\" &)' &); sleep 1000",
    "i=0; while [ $i -lt 20 ]; do setsid sleep 1000 & i=$((i+1)); done; echo up; wait",
    /* a chain in which each process forks and ends, so that a scan misses it; it has an end */
    "hop() { [ $1 -gt 300 ] || (hop $(($1 + 1)) &); }; (hop 0 &); echo up; sleep 1000",
    /* stopped processes react to KILL only */
    "sh -c 'kill -STOP $$' & echo up; sleep 1000",
    /* a fork bomb of 2^6 processes */
    "trap '' TERM; f() { [ $1 -gt 5 ] || { f $(($1 + 1)) & f $(($1 + 1)) & }; sleep 1000; };"
    " f 0 & echo up; sleep 1000",
};

static void nothing_of_a_tree_outlives_its_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(clingers); i++) {
        AUTO(str) char *marker = fresh_marker();
        struct run run = start_marked(clingers[i], marker);
        await_text(&run, "up");
        child_end(run.child, i % 2 == 0);
        await_end(run.child);
        int left = (int)proc_with_environment(marker);
        if (left)
            fail_msg("case %zu left %d processes", i, left);
        run_done(&run);
    }
}

static void letting_go_of_a_child_kills_its_tree(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(clingers); i++) {
        AUTO(str) char *marker = fresh_marker();
        struct run run = start_marked(clingers[i], marker);
        await_text(&run, "up");
        run_done(&run);
        EVENTUALLY(SOON_MS, (int)proc_with_environment(marker) == 0);
    }
}

static void counts_what_outlived_the_program(void **state)
{
    (void)state;
    struct run run = start("sleep 1000 & sleep 1000 & setsid sleep 1000 & exit 5");
    await_end(run.child);
    assert_int_equal(child_status(run.child), 5 << 8);
    assert_int_equal(child_leftover(run.child), 3);
    run_done(&run);
    run = start("sleep 0.01 & wait");
    await_end(run.child);
    assert_int_equal(child_leftover(run.child), 0);
    run_done(&run);
}

static void tells_the_exit_before_the_end(void **state)
{
    (void)state;
    struct run run = start("trap '' TERM; (while :; do sleep 1; done) & exit 4");
    EVENTUALLY(SOON_MS, child_read(run.child) == CHILD_EXITED);
    assert_int_equal(child_status(run.child), 4 << 8);
    assert_true(child_peak_kib(run.child) > 0);
    await_end(run.child);                                 /* after the grace period */
    assert_int_equal(child_read(run.child), CHILD_ENDED); /* and each time after that */
    run_done(&run);
}

static void a_killed_init_ends_the_tree_and_is_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(clingers); i++) {
        AUTO(str) char *marker = fresh_marker();
        struct run run = start_marked(clingers[i], marker);
        await_text(&run, "up");
        assert_int_equal(tree_start_time(child_pid(run.child)), child_start_time(run.child));
        kill(child_pid(run.child), SIGKILL);
        await_end(run.child);
        assert_int_equal(child_leftover(run.child), 0);
        EVENTUALLY(SOON_MS, (int)proc_with_environment(marker) == 0);
        run_done(&run);
    }
}

static void a_killed_launcher_takes_its_trees_along_and_is_replaced(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(clingers); i++) {
        AUTO(str) char *marker = fresh_marker();
        struct run run = start_marked(clingers[i], marker);
        await_text(&run, "up");
        pid_t old = launcher_pid();
        kill(old, SIGKILL);
        await_end(run.child); /* before another spawn is requested */
        EVENTUALLY(SOON_MS, (int)proc_with_environment(marker) == 0);
        run_done(&run);
        AUTO(str) char *text = print_of("echo again");
        assert_string_equal(text, "again\n");
        assert_int_not_equal(launcher_pid(), old);
        EVENTUALLY(SOON_MS, proc_children(getpid()) == 1);
    }
}

static void a_daemon_at_real_time_priority_keeps_that_for_itself(void **state)
{
    (void)state;
    if (sched_setscheduler(0, SCHED_RR, &(struct sched_param){.sched_priority = 1}))
        skip(); /* not allowed here */
    kill(launcher_pid(), SIGKILL);
    AUTO(str) char *policy = print_of("cut -d' ' -f41 /proc/self/stat");
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
    kill(launcher_pid(), SIGKILL);
    assert_string_equal(policy, "0\n");
}

static void a_launcher_killed_just_now_fails_no_spawn(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        kill(launcher_pid(), SIGKILL);
        AUTO(str) char *text = print_of("echo again");
        assert_string_equal(text, "again\n");
    }
}

/* The launcher and inits of another daemon become children of this process when that daemon
 * dies. */
static bool only_the_launcher_is_left(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
    return proc_children(getpid()) == 1;
}

static void everything_ends_with_the_daemon(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(clingers); i++) {
        AUTO(str) char *marker = fresh_marker();
        pid_t daemon = fork();
        if (daemon == 0) { /* a daemon of this test, which is killed */
            struct err err;
            launcher = launcher_start(&err);
            struct run run = start_marked(clingers[i], marker);
            while (!has_printed(&run, "up"))
                poll_pause();
            kill(getpid(), SIGKILL);
        }
        assert_int_equal(waitpid(daemon, NULL, 0), daemon);
        EVENTUALLY(SOON_MS, (int)proc_with_environment(marker) == 0 && only_the_launcher_is_left());
    }
}

static void two_hundred_spawns_leave_nothing_behind(void **state)
{
    (void)state;
    int fds = proc_fds(getpid()), threads = proc_threads(getpid());
    for (int i = 0; i < 200; i++) {
        struct run run = start("exit 0");
        await_end(run.child);
        run_done(&run);
    }
    assert_int_equal(proc_fds(getpid()), fds);
    assert_int_equal(proc_threads(getpid()), threads);
    assert_int_equal(proc_children(getpid()), 1); /* the launcher */
    EVENTUALLY(SOON_MS, launcher_has_no_inits());
}

static bool is_zombie(pid_t pid)
{
    AUTO(str) char *path = textf("/proc/%d/stat", (int)pid);
    AUTO(str) char *text = read_file(path, NULL);
    const char *after = text ? strrchr(text, ')') : NULL;
    return !after || after[2] == 'Z';
}

static _Atomic int holding; /* 1: the launcher will be held; -1: it cannot be held */

/* Stops the launcher at its next clone until the new init has ended. */
static void *hold_launcher(void *arg)
{
    unsigned long init = 0;
    int status;
    pid_t pid = *(const pid_t *)arg;
    if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE)) {
        atomic_store(&holding, -1);
        return NULL;
    }
    atomic_store(&holding, 1);
    waitpid(pid, &status, __WALL);
    ptrace(PTRACE_GETEVENTMSG, pid, NULL, &init);
    waitpid((pid_t)init, &status, __WALL);
    ptrace(PTRACE_DETACH, (pid_t)init, NULL, NULL);
    for (int64_t end = now_ms() + SOON_MS; !is_zombie((pid_t)init) && now_ms() < end;)
        poll_pause();
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return arg;
}

/* Both write to the same socket: init may have finished before the launcher writes its first
 * message. */
static void no_exit_status_is_lost_while_the_launcher_sleeps(void **state)
{
    pthread_t holder;
    pid_t pid = launcher_pid();
    (void)state;
    atomic_store(&holding, 0);
    assert_int_equal(pthread_create(&holder, NULL, hold_launcher, &pid), 0);
    EVENTUALLY(SOON_MS, atomic_load(&holding) != 0);
    if (atomic_load(&holding) < 0) {
        pthread_join(holder, NULL);
        SKIP_BECAUSE("the launcher cannot be traced here");
    }
    struct run run = start("exit 7");
    await_end(run.child);
    pthread_join(holder, NULL);
    assert_int_equal(child_status(run.child), 7 << 8);
    run_done(&run);
}

static void *spawn_some(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++) {
        AUTO(str) char *text = print_of("echo $((6 * 7))");
        assert_string_equal(text, "42\n");
    }
    return NULL;
}

static void many_threads_may_spawn_at_once(void **state)
{
    (void)state;
    in_threads(8, spawn_some, NULL);
}

static void a_stopped_launcher_refuses_and_kills(void **state)
{
    struct err err;
    (void)state;
    AUTO(str) char *marker = fresh_marker();
    struct run run = start_marked("trap '' TERM; echo up; sleep 1000", marker);
    await_text(&run, "up");
    launcher_stop(launcher);
    assert_int_equal((int)proc_with_environment(marker), 0);
    await_end(run.child);
    assert_int_equal(child_status(run.child), -1);
    assert_null(launcher_spawn(launcher, run.plan, (const int[3]){0, 1, 2}, &err));
    assert_int_equal(err.code, ERR_BUSY);
    assert_int_equal(proc_children(getpid()), 0);
    run_done(&run);
    launcher_free(launcher);
    launcher = launcher_start(&err);
    OK(launcher, &err);
}

/* How many descriptors the launcher holds, but for what it keeps of jails' templates: their
 * namespaces, and the table that tells of changes. */
static int launcher_descriptors(void)
{
    AUTO(str) char *fds = textf("/proc/%d/fd", (int)launcher_pid());
    int open_fds = 0;
    for (int fd = 0; fd < 1024; fd++) {
        char target[64] = "";
        AUTO(str) char *one = textf("%s/%d", fds, fd);
        ssize_t len = readlink(one, target, sizeof(target) - 1);
        open_fds += len >= 0 && !strstr(target, "mnt:[") && !strstr(target, "/mount");
    }
    return open_fds;
}

static void the_launcher_holds_no_secret_and_no_descriptor_of_ours(void **state)
{
    (void)state;
    char env[40];
    snprintf(env, sizeof(env), "/proc/%d/environ", (int)launcher_pid());
    int probe = open(env, O_RDONLY | O_CLOEXEC);
    bool readable = probe >= 0;
    fd_close(&probe);
    if (!has_namespaces() && (geteuid() != 0 || !readable))
        SKIP_BECAUSE("the launcher hides itself");
    size_t size = 0;
    AUTO(str) char *text = read_file(env, &size);
    assert_non_null(text);
    assert_null(memmem(text, size, "UNIT_SECRET", 11));
    /* 0 to 2, its socket, its signals; one more while it looks at the end of a probe. */
    EVENTUALLY(SOON_MS, launcher_descriptors() == 5);
}

/* --- trees without a launcher -------------------------------------------------------------- */

static pid_t fork_marked(const char *marker)
{
    pid_t pid = fork();
    if (pid == 0) {
        char *const env[] = {(char *)(uintptr_t)marker, NULL};
        char *const argv[] = {(char[]){"sleep"}, (char[]){"1000"}, NULL};
        execve("/bin/sleep", argv, env);
        _exit(127);
    }
    EVENTUALLY(SOON_MS, (int)proc_with_environment(marker) > 0);
    return pid;
}

static void finds_marked_processes_and_only_those(void **state)
{
    (void)state;
    AUTO(str) char *marker = fresh_marker();
    AUTO(str) char *longer = textf("%s0", marker);
    pid_t mine = fork_marked(marker), other = fork_marked(longer);
    int found = tree_end_marked(marker, SOON_MS);
    assert_true(found >= 1);
    assert_int_equal(waitpid(mine, NULL, 0), mine);
    assert_int_equal(waitpid(other, NULL, WNOHANG), 0);
    assert_int_equal(tree_end_marked(marker, SOON_MS), 0);
    assert_true(tree_end_marked(longer, SOON_MS) >= 1);
    assert_int_equal(waitpid(other, NULL, 0), other);
}

static void ends_a_process_only_when_it_is_the_one_that_was_meant(void **state)
{
    (void)state;
    AUTO(str) char *marker = fresh_marker();
    pid_t pid = fork_marked(marker);
    int64_t start_time = tree_start_time(pid);
    assert_true(start_time > 0);
    assert_true(tree_end_process(pid, start_time + 1, 100)); /* with another start time: that
                                                              * process is gone */
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    assert_true(tree_end_process(pid, start_time, SOON_MS));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(tree_end_process(pid, start_time, 100));
    assert_int_equal(tree_start_time(pid), 0);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_sees_no_process_of_others),
        cmocka_unit_test(a_child_that_heeds_term_ends_at_once),
        cmocka_unit_test(a_child_that_ignores_term_is_killed_after_the_grace),
        cmocka_unit_test(kill_needs_no_grace),
        cmocka_unit_test(its_last_words_are_heard_past_a_reset),
        cmocka_unit_test(nothing_of_a_tree_outlives_its_end),
        cmocka_unit_test(letting_go_of_a_child_kills_its_tree),
        cmocka_unit_test(counts_what_outlived_the_program),
        cmocka_unit_test(tells_the_exit_before_the_end),
        cmocka_unit_test(a_killed_init_ends_the_tree_and_is_told),
        cmocka_unit_test(a_killed_launcher_takes_its_trees_along_and_is_replaced),
        cmocka_unit_test(a_daemon_at_real_time_priority_keeps_that_for_itself),
        cmocka_unit_test(a_launcher_killed_just_now_fails_no_spawn),
        cmocka_unit_test(everything_ends_with_the_daemon),
        cmocka_unit_test(two_hundred_spawns_leave_nothing_behind),
        cmocka_unit_test(no_exit_status_is_lost_while_the_launcher_sleeps),
        cmocka_unit_test(many_threads_may_spawn_at_once),
        cmocka_unit_test(a_stopped_launcher_refuses_and_kills),
        cmocka_unit_test(the_launcher_holds_no_secret_and_no_descriptor_of_ours),
        cmocka_unit_test(finds_marked_processes_and_only_those),
        cmocka_unit_test(ends_a_process_only_when_it_is_the_one_that_was_meant),
    };
    return run_in_situation(argc, argv, tests, sizeof(tests) / sizeof(*tests));
}
