/*
 * A runner that is killed at any moment, also between a command's end and the write of its state:
 * the shell is as it was before the command or after it, whole, and processes are listed as lost.
 * The moments are random; the seed is printed, and taken from CR_SEED.
 */
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS 8
#define MOMENTS_US 12000

static unsigned seed;

static int start(void **state)
{
    (void)state;
    const char *given = getenv("CR_SEED");
    seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    print_message("seed %u\n", seed);
    return 0;
}

/* What the shell has: its number three times over, and how long its large variable is. */
static int look(const struct runner *runner)
{
    struct done *done = session_run(runner, "k", "echo $A; pwd; f; echo ${#B}", "");
    int a = -1, d = -1, f = -1, length = -1;
    if (sscanf(done->out, "%d\n/tmp/d%d\n%d\n%d\n", &a, &d, &f, &length) != 4)
        fail_msg("half a state: '%s' '%s'", done->out, done->err);
    if (a != d || a != f || length != 200000 + a)
        fail_msg("a mixed state: '%s'", done->out);
    done_free(done);
    return a;
}

/* The daemon, or the session's own agent with it, is killed so long after the command was sent. */
static void kill_in_the_middle(struct runner *runner, int number)
{
    char *body = textf("{\"command\":\"A=%d; mkdir -p /tmp/d%d; cd /tmp/d%d; f() { echo %d; }; "
                       "B=$(head -c $((200000 + %d)) /dev/zero | tr '\\\\0' b)\"}",
                       number, number, number, number, number);
    int fd = http_begin(runner->base, "POST", "/sessions/k/exec", RUNNER_AUTH, body);
    usleep((unsigned)(rand_r(&seed) % MOMENTS_US) * 5);
    runner_crash(runner);
    close(fd);
    free(body);
}

static void a_kill_leaves_the_state_before_or_after(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    int before = 0, later = 0;
    char *mark = proc_mark(6543), *sleeps = textf("sleep %s", mark);
    runner_start(runner);
    session_make(runner, "k");
    done_free(session_run(runner, "k",
                          "A=0; mkdir -p /tmp/d0; cd /tmp/d0; f() { echo 0; }; B=$(head -c 200000 "
                          "/dev/zero | tr '\\0' b)",
                          ""));
    for (int i = 1; i <= ROUNDS; i++) {
        struct done *done = session_run(runner, "k", sleeps, "\"background\":true");
        char *path = textf("/sessions/k/processes/%d", done->pid);
        int known = look(runner);
        done_free(done);
        kill_in_the_middle(runner, i);
        EVENTUALLY(20000, proc_with_argument(mark) == 0);
        runner_start(runner);
        int now = look(runner);
        if (now != known && now != i)
            fail_msg("round %d: neither %d nor %d, but %d", i, known, i, now);
        before += now == known;
        later += now == i;
        struct reply *reply = runner_get(runner, path);
        assert_status(reply, 200);
        assert_true(cJSON_IsTrue(cJSON_GetObjectItem(reply->json, "lost")));
        reply_free(reply);
        free(path);
    }
    print_message("%d kills: %d left the state before the command, %d after it\n", ROUNDS, before,
                  later);
    runner_free(runner);
    free(mark), free(sleeps);
}

static struct stat state_file(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        fail_msg("no '%s'", path);
    return st;
}

/* Most commands leave the shell as it was: its file stays. What does change it is there after a
 * crash, also when the shell is again what it was earlier, and a file that somebody has removed or
 * replaced is written again. */
static void a_state_is_written_when_it_is_another(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    session_make(runner, "k");
    char *path = textf("%s/sessions/k/box/shells/default", runner->state);
    done_free(session_run(runner, "k", "A=1", ""));
    done_free(session_run(runner, "k", "true", ""));
    struct stat first = state_file(path);
    done_free(session_run(runner, "k", "true", ""));
    assert_int_equal(state_file(path).st_ino, first.st_ino);
    done_free(session_run(runner, "k", "A=2", ""));
    done_free(session_run(runner, "k", "A=1", ""));
    assert_int_equal(unlink(path), 0);
    done_free(session_run(runner, "k", "true", ""));
    assert_int_equal(truncate(path, 10), 0);
    done_free(session_run(runner, "k", "true", ""));
    runner_crash(runner);
    runner_start(runner);
    struct done *done = session_run(runner, "k", "echo $A", "");
    assert_string_equal(done->out, "1\n");
    done_free(done);
    free(path);
    runner_free(runner);
}

/* The runner asks bash how it ended, which is no failure of a command. */
static void a_process_that_fails_meets_no_trap(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    session_make(runner, "k");
    struct done *first = session_run(runner, "k", "trap 'exit 9' ERR; set -e; echo $$", "");
    struct done *left = session_run(runner, "k", "(sleep 0.1; exit 3) &", "");
    char *path = textf("/sessions/k/processes/%d?wait=60", left->pid);
    struct reply *reply = runner_get(runner, path);
    assert_json_number(reply->json, "exit_code", 3);
    struct done *second = session_run(runner, "k", "echo $$", "");
    assert_string_equal(second->out, first->out);
    reply_free(reply);
    done_free(first), done_free(left), done_free(second);
    free(path);
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_is_written_when_it_is_another),
        cmocka_unit_test(a_process_that_fails_meets_no_trap),
        cmocka_unit_test(a_kill_leaves_the_state_before_or_after),
    };
    return cmocka_run_group_tests_name("session_kill", tests, start, NULL);
}
