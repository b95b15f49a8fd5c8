/*
 * kill -9 at every step of a refresh. The program starts itself as the victim, which counts the
 * calls that change something on the disk (the linker puts step() around them) and ends itself
 * before or after the one it was told; or the token server ends it. Afterwards the file must hold
 * the old pair or the new one, and a new keeper must say LOGIN_OK or LOGIN_REFUSED. The same when
 * the next one, which takes up what the first has left, is killed at every step of that.
 */
#include "keeper_world.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

/* --- the victim ---------------------------------------------------------------------------- */

static _Atomic int steps, last_step; /* 0: counting has not begun */

static void step(void)
{
    if (last_step && ++steps == last_step)
        raise(SIGKILL);
}

#define WRAP(type, name, parameters, arguments) \
    type __real_##name parameters;              \
    type __wrap_##name parameters;              \
    type __wrap_##name parameters               \
    {                                           \
        step();                                 \
        type rc = __real_##name arguments;      \
        int kept = errno;                       \
        step();                                 \
        errno = kept;                           \
        return rc;                              \
    }

WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, rmdir, (const char *path), (path))
WRAP(int, unlink, (const char *path), (path))
WRAP(int, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
WRAP(int, posix_fallocate, (int fd, off_t at, off_t len), (fd, at, len))
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t len, off_t at), (fd, data, len, at))
WRAP(int, ftruncate, (int fd, off_t len), (fd, len))
WRAP(int, truncate, (const char *path, off_t len), (path, len))
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(int, futimens, (int fd, const struct timespec times[2]), (fd, times))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, rename, (const char *from, const char *to), (from, to))

static int be_victim(char **argv)
{
    struct err err = ERR_INIT;
    struct config *config = world_config(argv[2], argv[3]);
    struct config_in_force in_force;
    config_in_force_init(&in_force, config);
    const struct keeper_config keeper_config = {.config = &in_force};
    log_set_level(LOG_ERROR);
    struct keeper *keeper = keeper_new(&keeper_config, &err);
    if (!keeper)
        return 2;
    last_step = (int)strtol(argv[4], NULL, 10);
    int rc = keeper_refresh(keeper, &err);
    last_step = 0;
    keeper_free(keeper);
    config_in_force_done(&in_force);
    return rc ? 1 : 0;
}

/* --- its parent ---------------------------------------------------------------------------- */

static _Atomic pid_t victim;

static void start_victim(const struct world *w, int at)
{
    char step_text[16];
    char *argv[] = {(char[]){"/proc/self/exe"}, (char[]){"victim"}, strdup(w->dir),
                    strdup(w->server.url),      step_text,          NULL};
    pid_t pid;
    snprintf(step_text, sizeof(step_text), "%d", at);
    victim = 0;
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
    victim = pid;
    free(argv[2]);
    free(argv[3]);
}

/* True when it was killed. */
static bool await_victim(void)
{
    int status;
    assert_int_equal(waitpid(victim, &status, 0), victim);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return true;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

/* Who held the lock is long dead. */
static void age_lock(const struct world *w)
{
    const struct timespec old[2] = {{.tv_sec = time(NULL) - 60}, {.tv_sec = time(NULL) - 60}};
    utimensat(AT_FDCWD, w->lock, old, 0);
}

/* What a new keeper makes of what is left; true when the login survived. */
static bool check_what_is_left(struct world *w)
{
    struct err err = ERR_INIT;
    int in_file = pair_in(w->path);
    bool left_whole = pair_in(w->spare) == 2;
    if (in_file != 1 && in_file != 2)
        fail_msg("the file holds neither the old pair nor the new one");
    age_lock(w);
    open_keeper(w);
    int rc = keeper_prepare(w->keeper, 0, &err);
    struct keeper_status status = status_of(w);
    if (rc == 0) {
        assert_int_equal(status.state, LOGIN_OK);
        assert_int_equal(pair_in(w->path), w->server.serial);
        assert_int_equal(keeper_refresh(w->keeper, &err), 0); /* and on it goes */
    } else {
        assert_int_equal(err.code, ERR_LOGIN);
        assert_int_equal(status.state, LOGIN_REFUSED);
        assert_int_equal(in_file, 1);
        assert_int_equal(w->server.granted, 1); /* the answer died with the process */
        assert_false(left_whole);
    }
    assert_false(exists(w->spare));
    assert_false(exists(w->lock));
    return rc == 0;
}

static void killed_at_every_step_the_login_is_whole_or_known_to_be_lost(void **state)
{
    (void)state;
    int survived = 0, lost = 0;
    bool killed = true;
    for (int at = 1; killed; at++) {
        struct world *w = world_new();
        put_pair(w, 1, -1000);
        start_victim(w, at);
        killed = await_victim();
        if (check_what_is_left(w))
            survived++;
        else
            lost++;
        world_free(w);
    }
    print_message("%d steps: survived %d, lost %d\n", survived + lost, survived, lost);
    assert_true(survived + lost > 15);
    assert_int_equal(lost, 1); /* between the answer and the first byte on the disk */
}

/* The first is killed at its step `first`. False when it left nothing to take up; else the second
 * was started on what it left, to be killed at its step `second`. *ret_killed: whether the last one
 * was. */
static bool take_up(struct world *w, int first, int second, bool *ret_killed)
{
    put_pair(w, 1, -1000);
    start_victim(w, first);
    *ret_killed = await_victim();
    if (!*ret_killed || pair_in(w->spare) != 2)
        return false;
    age_lock(w);
    start_victim(w, second);
    *ret_killed = await_victim();
    return true;
}

static void killed_again_while_it_is_taken_up_the_login_is_whole(void **state)
{
    (void)state;
    int firsts = 0, seconds = 0;
    bool left = true, killed = true;
    for (int first = 1; left || killed; first++) {
        left = killed = true;
        for (int second = 1; left && killed; second++) {
            struct world *w = world_new();
            left = take_up(w, first, second, &killed);
            if (left) {
                assert_true(check_what_is_left(w));
                assert_int_equal(w->server.granted, 2); /* of the first, and of the check */
                seconds++;
            }
            rmdir(w->lock); /* where nothing was taken up */
            world_free(w);
        }
        firsts += left;
    }
    print_message("%d states were taken up, in %d ways\n", firsts, seconds);
    assert_true(firsts >= 5 && seconds > firsts * 5);
}

static void leave_alone(void *arg)
{
    (void)arg;
}

static void kill_victim(void *arg)
{
    (void)arg;
    while (victim == 0)
        usleep(100);
    siginfo_t info;
    kill(victim, SIGKILL);
    waitid(P_PID, (id_t)victim, &info, WEXITED | WNOWAIT); /* then its connection is closed too */
}

static void killed_while_the_server_thinks_nothing_is_lost(void **state)
{
    (void)state;
    struct world *w = world_new();
    put_pair(w, 1, -1000);
    w->server.before = kill_victim;
    w->server.delay_ms = 50; /* sees that it has gone */
    start_victim(w, 100000);
    assert_true(await_victim());
    w->server.before = leave_alone;
    assert_true(check_what_is_left(w));
    world_free(w);
}

static void killed_before_the_answer_arrives_the_login_is_known_to_be_lost(void **state)
{
    (void)state;
    struct world *w = world_new();
    put_pair(w, 1, -1000);
    w->server.after = kill_victim;
    start_victim(w, 100000);
    assert_true(await_victim());
    w->server.after = leave_alone;
    assert_false(check_what_is_left(w));
    world_free(w);
}

static void killed_at_any_moment_after_the_answer_it_is_one_of_both(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        struct world *w = world_new();
        put_pair(w, 1, -1000);
        w->server.sent = kill_victim;
        start_victim(w, 100000);
        await_victim();
        w->server.sent = leave_alone;
        check_what_is_left(w);
        world_free(w);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_every_step_the_login_is_whole_or_known_to_be_lost),
        cmocka_unit_test(killed_again_while_it_is_taken_up_the_login_is_whole),
        cmocka_unit_test(killed_while_the_server_thinks_nothing_is_lost),
        cmocka_unit_test(killed_before_the_answer_arrives_the_login_is_known_to_be_lost),
        cmocka_unit_test(killed_at_any_moment_after_the_answer_it_is_one_of_both),
    };
    if (argc == 5 && strcmp(argv[1], "victim") == 0)
        return be_victim(argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
