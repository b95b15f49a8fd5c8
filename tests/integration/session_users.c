/*
 * Users of sessions' own, on a host without namespaces (a container): the runner is root, and
 * RUNNER_UIDS has enough users. The CLI is a script that runs its prompt as a shell script.
 */
#include "githost.h"
#include "session.h"
#include "situation.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST 15001
#define USERS 3

static struct runner *runner;

static int start(void **state)
{
    (void)state;
    char users[40];
    static const char *const settings[] = {"MAX_CONCURRENT_TASKS", "1", "SESSIONS_MAX", "2", NULL};
    if (geteuid() != 0 || !situation_enter(situation_find("denied")))
        return 0; /* each test is skipped */
    runner = runner_new_with(settings);
    snprintf(users, sizeof(users), "%d-%d", FIRST, FIRST + USERS - 1);
    runner_set(runner, "RUNNER_UIDS", users);
    runner_set(runner, "JAIL_MIN", "none");
    runner_set(runner, "PYTHON_MODULES", "os");
    unlink(runner->cli);
    write_file(runner->cli, githost_cli, 0755);
    runner_start(runner);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (runner)
        runner_free(runner);
    return 0;
}

static void needs_users(void)
{
    if (!runner)
        SKIP_BECAUSE("the runner changes users only when it is root");
}

static char *said_by(const char *session, const char *command)
{
    struct done *done = session_run(runner, session, command, "");
    if (done->exit_code != 0)
        fail_msg("'%s': %d, '%s'", command, done->exit_code, done->err);
    char *text = strdup(done->out);
    done_free(done);
    return text;
}

static void must_say(const char *session, const char *command, const char *text)
{
    char *said = said_by(session, command);
    assert_string_equal(said, text);
    free(said);
}

static void removes(const char *path)
{
    struct reply *reply = runner_delete(runner, path);
    assert_status(reply, 200);
    reply_free(reply);
}

static long user_of(const char *session)
{
    char *text = said_by(session, "id -u");
    long user = strtol(text, NULL, 10);
    free(text);
    return user;
}

static void two_sessions_are_two_users(void **state)
{
    (void)state;
    needs_users();
    struct reply *health = runner_get(runner, "/health?verbose=true");
    assert_json_text(health->json, "host.session_uids", "15001-15003");
    reply_free(health);
    session_make(runner, "a");
    session_make(runner, "b");
    long a = user_of("a"), b = user_of("b");
    assert_in_range(a, FIRST, FIRST + USERS - 1);
    assert_in_range(b, FIRST, FIRST + USERS - 1);
    assert_int_not_equal(a, b);
    must_say("b", "sleep 600 & echo $! >sleeps", "");
    struct done *done = session_run(runner, "a", "kill -9 -1", "");
    done_free(done);
    must_say("b", "kill -0 $(cat sleeps) && echo lives; kill $(cat sleeps)", "lives\n");
    must_say("a", "echo works", "works\n");
    removes("/sessions/a");
    removes("/sessions/b");
}

static void its_files_are_its_own_whoever_makes_them(void **state)
{
    (void)state;
    needs_users();
    session_make(runner, "a");
    must_say("a", "echo one >one", "");
    struct reply *reply = session_send(runner, "PUT", "/sessions/a/files/dir/two", "two\n", 4);
    assert_in_range(reply->status, 200, 201);
    reply_free(reply);
    must_say("a", "stat -c %u one dir dir/two | sort -u | wc -l; echo more >>dir/two; cat dir/two",
             "1\ntwo\nmore\n");
    reply =
        runner_execute(runner, "cat one; echo from Claude >>one; id -u >>one; mkdir mine",
                       "\"inSession\":\"a\",\"preExecutionCommands\":[\"echo before >before\"]");
    assert_status(reply, 200);
    assert_true(cJSON_IsTrue(json_at(reply->json, "success")));
    assert_json_text(reply->json, "output", "one");
    reply_free(reply);
    must_say("a",
             "[ $(tail -1 one) = $(id -u) ] && sed -n 2p one; rmdir mine; cat before; rm before",
             "from Claude\nbefore\n");
    removes("/sessions/a");
}

static void they_are_still_its_own_after_a_restart(void **state)
{
    (void)state;
    needs_users();
    session_make(runner, "a");
    must_say("a", "umask 077; mkdir deep; echo kept >deep/file; cd deep", "");
    runner_crash(runner);
    runner_start(runner);
    session_make(runner, "first"); /* takes a user before it */
    user_of("first");
    must_say("a", "cat file; echo more >>file; stat -c %u file . | sort -u | wc -l", "kept\n1\n");
    struct reply *reply = runner_post(runner, "/sessions/a/snapshot", "{\"id\":\"s\"}");
    assert_status(reply, 201);
    reply_free(reply);
    removes("/sessions/first");
    reply = runner_post(runner, "/sessions", "{\"id\":\"copy\",\"from\":\"s\"}");
    assert_status(reply, 201);
    reply_free(reply);
    must_say("copy", "cat /workspace/deep/file 2>/dev/null || cat deep/file", "kept\nmore\n");
    must_say("copy", "cd; echo mine >mine; cat mine", "mine\n");
    removes("/sessions/a");
    removes("/sessions/copy");
    removes("/snapshots/s");
}

static void the_user_of_a_session_that_has_gone_serves_the_next(void **state)
{
    (void)state;
    needs_users();
    for (int i = 0; i < 2 * USERS; i++) {
        session_make(runner, "a");
        assert_in_range(user_of("a"), FIRST, FIRST + USERS - 1);
        removes("/sessions/a");
    }
    struct reply *reply = runner_execute(runner, "id -u", "");
    assert_status(reply, 200);
    assert_true(cJSON_IsTrue(json_at(reply->json, "success")));
    reply_free(reply);
}

/* All runs are one user: none may signal another. */
static void a_run_of_python_signals_nobody(void **state)
{
    (void)state;
    needs_users();
    struct reply *reply =
        runner_post(runner, "/python",
                    "{\"code\":\"import os\\nfor pid in (os.getpid(), os.getppid(), -1):\\n"
                    "    try:\\n        os.kill(pid, 0)\\n        print('reached', pid)\\n"
                    "    except PermissionError:\\n        print('denied')\"}");
    if (reply->status == 503 || reply->status == 501)
        SKIP_BECAUSE("there is no Python: %s", reply->body);
    assert_status(reply, 200);
    assert_json_text(reply->json, "stdout", "denied\ndenied\ndenied\n");
    reply_free(reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_sessions_are_two_users),
        cmocka_unit_test(its_files_are_its_own_whoever_makes_them),
        cmocka_unit_test(they_are_still_its_own_after_a_restart),
        cmocka_unit_test(a_run_of_python_signals_nobody),
        cmocka_unit_test(the_user_of_a_session_that_has_gone_serves_the_next),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
