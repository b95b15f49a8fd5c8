/* The one way to run a program: output, clocks, causes and ends, with real processes. */
#include "testbase.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/work/work.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct launcher *launcher;
static char *scratch;

/* --- a clock that can run fast ------------------------------------------------------------- */

static _Atomic int64_t ahead_us; /* microseconds ahead of the system's clock */

static int64_t ahead_mono_us(void *arg)
{
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + atomic_load(&ahead_us);
}

static int64_t ahead_real_ms(void *arg)
{
    return ahead_mono_us(arg) / 1000;
}

/* Moves the clock ahead by that time. */
static void pass_ms(int64_t ms)
{
    atomic_fetch_add(&ahead_us, ms * 1000);
}

/* --- orders -------------------------------------------------------------------------------- */

static struct plan *shell(const char *script)
{
    struct plan *plan = plan_new();
    assert_non_null(plan);
    strlist_add(&plan->argv, "/bin/sh");
    strlist_add(&plan->argv, "-c");
    strlist_add(&plan->argv, script);
    strlist_add(&plan->env, "PATH=/usr/bin:/bin");
    plan->cwd = strdup("/");
    plan->uid = geteuid();
    plan->gid = getegid();
    plan->kill_grace_ms = 200;
    return plan;
}

/* A program under test: what it printed, and what the test does while it runs. */
struct program {
    struct plan *plan;
    struct work_order order;
    struct work_result result;
    struct buf printed;
    int rounds;
};

static void take(struct work *work, const char *data, size_t len, void *arg)
{
    struct program *program = arg;
    buf_add(&program->printed, data, len);
    if (strstr(buf_str(&program->printed), "began"))
        work_began(work);
    if (strstr(buf_str(&program->printed), "answer"))
        work_answered(work);
}

static void program_init(struct program *program, const char *script)
{
    *program = (struct program){.plan = shell(script)};
    buf_init(&program->printed, 1u << 26);
    program->order = (struct work_order){.launcher = launcher,
                                         .plan = program->plan,
                                         .out = {.via = WORK_PIPE, .take = take},
                                         .arg = program};
}

static void program_run(struct program *program)
{
    struct err err;
    program->order.arg = program;
    OK(work_run(&program->order, &program->result, &err) == 0, &err);
}

static void program_done(struct program *program)
{
    plan_free(program->plan);
    buf_done(&program->printed);
}

/* --- output -------------------------------------------------------------------------------- */

static void pipes_are_passed_on_whole_and_apart(void **state)
{
    struct program program;
    AUTO(fd) int errors = memfd_create("errors", 0);
    char text[64] = "";
    (void)state;
    program_init(&program, "head -c 3000000 /dev/zero | tr '\\0' x; echo other >&2; exit 3");
    program.order.errors = (struct work_output){.via = WORK_FD, .fd = errors};
    program_run(&program);
    assert_int_equal(program.printed.len, 3000000);
    assert_int_equal(program.result.cause, WORK_ENDED);
    assert_int_equal(work_exit_code(program.result.status), 3);
    assert_false(program.result.lost || program.result.dropped);
    assert_true(program.result.peak_kib > 0);
    assert_int_equal(fd_pread_full(errors, text, sizeof(text) - 1, 0), 6);
    assert_string_equal(text, "other\n");
    program_done(&program);
}

static void a_file_is_followed_while_it_grows(void **state)
{
    struct err err;
    struct program program;
    struct tail out;
    AUTO(str) char *path = path_join(scratch, "followed");
    (void)state;
    OK(tail_open(&out, path, true, &err) == 0, &err);
    program_init(&program, "head -c 20000000 /dev/zero | tr '\\0' y; printf end");
    program.order.out = (struct work_output){.via = WORK_TAIL, .tail = &out, .take = take};
    program_run(&program);
    assert_int_equal(out.write_fd, -1);
    assert_int_equal(program.printed.len, 20000003);
    assert_string_equal(buf_str(&program.printed) + 20000000, "end");
    tail_done(&out);
    program_done(&program);
}

static int64_t say_hello(struct work *work, void *arg)
{
    struct program *program = arg;
    if (program->rounds++ == 0)
        assert_int_equal(work_write(work, "hello\n", 6), 6);
    return -1;
}

static void a_program_can_be_talked_to(void **state)
{
    struct program program;
    (void)state;
    program_init(&program, "read word; echo got $word");
    program.order.in.via = WORK_PIPE;
    program.order.look = say_hello;
    program_run(&program);
    assert_string_equal(buf_str(&program.printed), "got hello\n");
    program_done(&program);
}

static void a_program_without_streams_has_none(void **state)
{
    struct program program;
    (void)state;
    program_init(&program, "test \"$(cat)\" = '' && echo lost && echo lost >&2");
    program.order.out = (struct work_output){0};
    program_run(&program);
    assert_int_equal(program.result.status, 0);
    assert_int_equal(program.printed.len, 0);
    program_done(&program);
}

static void a_program_that_is_not_there_is_an_error(void **state)
{
    struct err err = ERR_INIT;
    struct program program;
    (void)state;
    program_init(&program, "");
    free(program.plan->argv.items[0]);
    program.plan->argv.items[0] = strdup("/no/such/program");
    assert_int_equal(work_run(&program.order, &program.result, &err), -1);
    assert_non_null(strstr(err.msg, "/no/such/program"));
    program_done(&program);
}

/* --- clocks and causes --------------------------------------------------------------------- */

/* Once the program has printed "ready", each round lasts an hour, until the program is being
 * ended. */
static int64_t hurry_when_ready(struct work *work, void *arg)
{
    struct program *program = arg;
    if (work_is_ending(work) || !strstr(buf_str(&program->printed), "ready"))
        return -1;
    pass_ms(3600000);
    return 0;
}

static void each_clock_ends_it_with_its_cause(void **state)
{
    static const struct {
        const char *script;
        struct work_limits limits; /* until_ms: from the start of the case */
        enum work_cause cause;
        const char *reason;
        bool answered;
    } cases[] = {
        {"echo ready; sleep 60", {.until_ms = 600000}, WORK_TIMEOUT, "timeout", false},
        {"echo ready; sleep 60", {.first_ms = 600000}, WORK_SILENT, "no_output", false},
        {"echo ready began; sleep 60",
         {.first_ms = 600000, .idle_ms = 600000},
         WORK_IDLE,
         "idle_timeout",
         false},
        {"echo ready answer; sleep 60",
         {.until_ms = 1800000, .first_ms = 1800000, .idle_ms = 1800000, .grace_ms = 600000},
         WORK_GRACE,
         "",
         true},
        {"echo ready answer; sleep 60", {.grace_ms = 0}, WORK_GRACE, "", true},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct program program;
        program_init(&program, cases[i].script);
        program.order.limits = cases[i].limits;
        if (cases[i].limits.until_ms)
            program.order.limits.until_ms += clock_mono_ms();
        program.order.look = hurry_when_ready;
        program_run(&program);
        assert_int_equal(program.result.cause, cases[i].cause);
        assert_string_equal(work_cause_reason(program.result.cause), cases[i].reason);
        assert_int_equal(program.result.answered, cases[i].answered);
        assert_false(program.result.lost);
        program_done(&program);
    }
}

/* Asks for the end when the program is ready. */
static enum work_cause asked(struct work *work, void *arg)
{
    struct program *program = arg;
    assert_false(work_is_ending(work));
    return strstr(buf_str(&program->printed), "ready") ? WORK_CANCEL : WORK_ENDED;
}

static void a_caller_can_end_it(void **state)
{
    struct program program;
    char text[100];
    AUTO(fd) int wake = eventfd(0, EFD_CLOEXEC);
    (void)state;
    program_init(&program,
                 "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    program.order.stop = (struct work_stop){.wake_fd = wake, .asked = asked, .arg = &program};
    program.plan->kill_grace_ms = 60000;
    program_run(&program);
    assert_int_equal(program.result.cause, WORK_CANCEL);
    assert_int_equal(work_exit_code(program.result.status), 7); /* TERM came first */
    assert_string_equal(buf_str(&program.printed), "ready\nbye\n");
    work_cause_say(program.result.cause, "It", text, sizeof(text));
    assert_string_equal(text, "the task was cancelled");
    work_cause_say(WORK_IDLE, "It", text, sizeof(text));
    assert_string_equal(text, "It printed nothing for too long");
    program_done(&program);
}

static void at_once_means_without_term(void **state)
{
    struct program program;
    (void)state;
    program_init(&program, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    program.order.stop = (struct work_stop){.wake_fd = -1, .asked = asked, .arg = &program};
    program.order.at_once = true;
    program_run(&program);
    assert_int_equal(work_exit_code(program.result.status), 128 + SIGKILL);
    program_done(&program);
}

static void too_much_output_ends_it(void **state)
{
    struct err err;
    struct tail out;
    AUTO(str) char *path = path_join(scratch, "flood");
    struct program program;
    (void)state;
    program_init(&program, "while :; do echo more and more; done");
    program.order.out.max_bytes = 100000;
    program_run(&program);
    assert_int_equal(program.result.cause, WORK_LIMIT);
    assert_string_equal(work_cause_reason(WORK_LIMIT), "output_limit");
    program_done(&program);

    OK(tail_open(&out, path, true, &err) == 0, &err);
    program_init(&program, "while :; do echo more and more; done");
    program.order.out = (struct work_output){.via = WORK_TAIL, .tail = &out, .max_bytes = 100000};
    program_run(&program);
    assert_int_equal(program.result.cause, WORK_LIMIT);
    tail_done(&out);
    program_done(&program);
}

static void what_it_left_behind_is_ended_and_counted(void **state)
{
    struct program program;
    (void)state;
    program_init(&program, "sleep 600 & sleep 600 & echo started");
    program_run(&program);
    assert_int_equal(program.result.cause, WORK_ENDED);
    assert_int_equal(program.result.status, 0);
    assert_int_equal(program.result.leftover, 2);
    program_done(&program);
}

/* Stops init, which then answers nothing, and lets time pass. */
static int64_t lose_init(struct work *work, void *arg)
{
    struct program *program = arg;
    if (!strstr(buf_str(&program->printed), "ready"))
        return -1;
    if (program->rounds == 0) {
        program->rounds = work_pid(work);
        assert_int_equal(kill(program->rounds, SIGSTOP), 0);
    }
    pass_ms(10000);
    return 0;
}

/* A command whose init does not answer is waited for with a bound. */
static void a_lost_init_is_not_waited_for(void **state)
{
    struct program program;
    (void)state;
    program_init(&program, "echo ready; sleep 600");
    program.order.limits.until_ms = clock_mono_ms() + 60000;
    program.order.look = lose_init;
    program_run(&program);
    assert_int_equal(program.result.cause, WORK_TIMEOUT);
    assert_true(program.result.lost);
    assert_int_equal(program.result.status, -1);
    assert_int_equal(work_exit_code(program.result.status), 128 + SIGKILL);
    assert_int_equal(kill(program.rounds, SIGCONT), 0); /* it finds its socket closed */
    program_done(&program);
}

/* --- main ---------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    static const struct clock ahead = {ahead_mono_us, ahead_real_ms, NULL};
    struct err err;
    (void)state;
    clock_use(&ahead);
    scratch = tmp_dir_new();
    launcher = launcher_start(&err);
    return launcher ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    launcher_stop(launcher);
    launcher_free(launcher);
    tmp_dir_free(scratch);
    return 0;
}

/* --- users of their own --------------------------------------------------------------------- */

#define LENT_UID 54321
#define BASE_UID 54320

/* A directory with what a task's user has: files, a link, a directory that it has closed; and a
 * file that is not its own. */
static char *dir_of_base(void)
{
    char *dir = textf("%s/given", scratch);
    const char *const names[] = {"closed", "mine", "link", "theirs"};
    assert_int_equal(chmod(scratch, 0711), 0);
    assert_int_equal(mkdir(dir, 0755), 0);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        AUTO(str) char *path = textf("%s/%s", dir, names[i]);
        if (i == 0)
            assert_int_equal(mkdir(path, 0), 0);
        else if (i == 2)
            assert_int_equal(symlink("/etc/passwd", path), 0);
        else
            write_file(path, "x", 0600);
        assert_int_equal(lchown(path, i == 3 ? 0 : BASE_UID, i == 3 ? 0 : BASE_UID), 0);
    }
    assert_int_equal(chown(dir, BASE_UID, BASE_UID), 0);
    return dir;
}

static uid_t owner_in(const char *dir, const char *name)
{
    struct stat st;
    AUTO(str) char *path = textf("%s/%s", dir, name);
    assert_int_equal(lstat(path, &st), 0);
    return st.st_uid;
}

/* Starts another one while it runs: there is no user left for it. */
static void take_and_start_another(struct work *work, const char *data, size_t len, void *arg)
{
    struct work_order *other = arg;
    struct work_result result;
    struct err err;
    (void)work;
    (void)data;
    if (len == 0 || !other->users)
        return;
    assert_int_equal(work_run(other, &result, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    other->users = NULL;
    assert_int_equal(owner_in(other->given, "mine"), LENT_UID);
    assert_int_equal(owner_in(other->given, "theirs"), 0);
}

static void a_program_has_a_user_of_its_own(void **state)
{
    (void)state;
    struct err err;
    struct stat st;
    struct work_result result;
    struct users *users;
    if (geteuid() != 0)
        SKIP_BECAUSE("only root can become somebody else");
    AUTO(str) char *dir = dir_of_base();
    AUTO(str)
    char *script = textf("cd %s && test $(id -u) = %d && test $(id -g) = %d && echo y >new && "
                         "mkdir deep && echo z >deep/z && chmod 0 deep && rm mine && echo x >mine "
                         "&& ! cat theirs 2>/dev/null && echo done",
                         dir, LENT_UID, LENT_UID);
    AUTO(plan) struct plan *plan = shell(script);
    plan->uid = plan->gid = BASE_UID;
    users = users_new(LENT_UID, LENT_UID, &err);
    assert_non_null(users);
    struct work_order other = {.launcher = launcher, .plan = plan, .users = users, .given = dir};
    struct work_order order = other;
    order.out = (struct work_output){.via = WORK_PIPE, .take = take_and_start_another};
    order.arg = &other;
    OK(work_run(&order, &result, &err) == 0, &err);
    assert_int_equal(result.status, 0);
    assert_null(other.users); /* it was tried */
    static const char *const names[] = {"closed", "mine", "link", "new", "deep", "deep/z"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_int_equal(owner_in(dir, names[i]), BASE_UID);
    assert_int_equal(owner_in(dir, "theirs"), 0);
    assert_int_equal(stat("/etc/passwd", &st), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(users_take(users), LENT_UID); /* it was given back */
    assert_int_equal(users_take(users), 0);
    users_free(users);
}

static void users_are_a_range_without_root(void **state)
{
    (void)state;
    struct err err;
    static const uid_t ranges[][2] = {{0, 5}, {9, 8}, {10, 10 + USERS_MAX}};
    for (size_t i = 0; i < COUNT_OF(ranges); i++)
        assert_null(users_new(ranges[i][0], ranges[i][1], &err));
    struct users *users = users_new(10, 12, &err);
    assert_non_null(users);
    assert_int_equal(users_take(users), 10);
    users_give(users, 10);
    users_give(users, 99);                   /* nobody's */
    assert_int_equal(users_take(users), 11); /* not the one that has just been somebody */
    assert_int_equal(users_take(users), 12);
    assert_int_equal(users_take(users), 10);
    assert_int_equal(users_take(users), 0);
    users_free(users);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipes_are_passed_on_whole_and_apart),
        cmocka_unit_test(a_file_is_followed_while_it_grows),
        cmocka_unit_test(a_program_can_be_talked_to),
        cmocka_unit_test(a_program_without_streams_has_none),
        cmocka_unit_test(a_program_that_is_not_there_is_an_error),
        cmocka_unit_test(each_clock_ends_it_with_its_cause),
        cmocka_unit_test(a_caller_can_end_it),
        cmocka_unit_test(at_once_means_without_term),
        cmocka_unit_test(too_much_output_ends_it),
        cmocka_unit_test(what_it_left_behind_is_ended_and_counted),
        cmocka_unit_test(a_lost_init_is_not_waited_for),
        cmocka_unit_test(a_program_has_a_user_of_its_own),
        cmocka_unit_test(users_are_a_range_without_root),
    };
    if (argc > 1 && strcmp(argv[1], "launch") == 0)
        return launch_serve();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
