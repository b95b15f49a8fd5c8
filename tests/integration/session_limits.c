/*
 * A session's limits where the host has no control groups: in every tier they hold, the answer says
 * which one was met, and the session goes on.
 */
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const tiers[] = {"auto", "restricted", "none"};

/* A runner without rights to control groups, of a tier; or NULL, and why is said. */
static struct runner *start_weak(const char *tier)
{
    if (geteuid() == 0)
        setenv("CR_RUNNER_UID", "65534", 0);
    struct runner *runner =
        runner_new_with((const char *const[]){"JAIL", tier, "JAIL_MIN", "none", NULL});
    runner_start(runner);
    return runner;
}

static bool has_groups(const struct runner *runner)
{
    struct reply *health = runner_get(runner, "/health?verbose=true");
    bool has = strcmp(json_text(health->json, "jail.cgroups"), "none") != 0;
    reply_free(health);
    return has;
}

static void make(const struct runner *runner, const char *limits)
{
    char *body = textf("{\"id\":\"s\",\"limits\":%s}", limits);
    reply_free(runner_delete(runner, "/sessions/s"));
    struct reply *reply = runner_post(runner, "/sessions", body);
    assert_status(reply, 201);
    reply_free(reply);
    free(body);
}

/* The command is ended, and the answer says why. */
static void ends(const struct runner *runner, const char *command, const char *cause,
                 const char *field)
{
    struct done *done = session_run(runner, "s", command, "\"timeout\":60");
    const cJSON *said = cJSON_GetObjectItem(done->reply->json, "cause");
    if (done->exit_code != 137 || !cJSON_IsString(said) || strcmp(said->valuestring, cause) != 0 ||
        !strstr(done->err, field))
        fail_msg("%s: %s", command, done->reply->body);
    done_free(done);
}

static void prints(const struct runner *runner, const char *command, const char *out)
{
    struct done *done = session_run(runner, "s", command, "\"timeout\":60");
    if (strcmp(done->out, out) != 0)
        fail_msg("%s: %s", command, done->reply->body);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(done->reply->json, "cause")));
    done_free(done);
}

/* A stop of everybody reaches the session's agent, too: it goes on, and so do the other shells. */
static void a_stop_of_all_stops_nothing(const struct runner *runner)
{
    make(runner, "{}");
    prints(runner, "export KEPT=1", "");
    done_free(session_run(runner, "s", "export MINE=2", "\"shell\":\"beside\""));
    prints(runner, "kill -STOP -1 $PPID; kill -STOP $PPID; echo $KEPT", "1\n");
    struct done *done = session_run(runner, "s", "echo $MINE", "\"shell\":\"beside\"");
    assert_string_equal(done->out, "2\n");
    done_free(done);
}

/* What fills the session with processes is ended, and the next command finds its shell. */
static void bombs_are_ended(const struct runner *runner)
{
    static const char *const bombs[] = {
        ":(){ :|:& };: 2>/dev/null; sleep 0.3",
        ":(){ :|:& };: &",
        "perl -e 'fork while 1' 2>/dev/null",
        "for i in {1..400}; do sleep 1000 & done 2>/dev/null; wait",
    };
    make(runner, "{\"pids\":128}");
    prints(runner, "export KEPT=1; cd /tmp", "");
    for (size_t i = 0; i < COUNT(bombs); i++) {
        struct done *done = session_run(runner, "s", bombs[i], "\"timeout\":1");
        const cJSON *cause = cJSON_GetObjectItem(done->reply->json, "cause");
        if (cJSON_IsString(cause) && (done->exit_code == 0 || !*done->err))
            fail_msg("%s: %s", bombs[i], done->reply->body);
        done_free(done);
        prints(runner, "echo $KEPT; pwd", "1\n/tmp\n");
    }
}

/* What is over the limit is not lost, and can be removed. */
static void limits_hold(const struct runner *runner)
{
    make(runner, "{\"memoryMb\":96}");
    prints(runner, "export KEPT=1; echo a >file", "");
    ends(runner, "head -c 400000000 /dev/zero | tail -c 399999999 | sleep 60", "memory_exceeded",
         "limits.memoryMb");
    prints(runner, "echo $KEPT; cat file", "1\na\n");
    ends(runner, /* by a process that a thread has started */
         "python3 -I -c \"import subprocess, threading; t = threading.Thread(target=lambda: "
         "subprocess.run(['sh', '-c', 'head -c 400000000 /dev/zero | tail -c 399999999 | sleep "
         "60'])); t.start(); t.join()\"",
         "memory_exceeded", "limits.memoryMb");
    make(runner, "{\"diskMb\":20}");
    ends(runner, "cd \"$HOME\"; head -c 60000000 /dev/zero >big; sleep 60", "disk_exceeded",
         "limits.diskMb");
    prints(runner, "cd \"$HOME\"; ls", "big\n");
    prints(runner, "rm big; head -c 10000000 /dev/zero >small; sleep 0.2; ls", "small\n");
}

static void the_limits_of_a_session_hold_in_every_tier(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(tiers); i++) {
        struct runner *runner = start_weak(tiers[i]);
        print_message("tier %s, control groups: %s\n", tiers[i],
                      has_groups(runner) ? "some" : "none");
        limits_hold(runner);
        a_stop_of_all_stops_nothing(runner);
        bombs_are_ended(runner);
        runner_free(runner);
    }
}

static void a_limit_that_nothing_can_keep_is_refused_by_name(void **state)
{
    (void)state;
    struct runner *runner = start_weak("none");
    if (has_groups(runner)) {
        runner_free(runner);
        SKIP_BECAUSE("this user may make control groups");
    }
    struct reply *reply = runner_post(runner, "/sessions", "{\"limits\":{\"cpu\":0.5}}");
    assert_problem(reply, 400, "invalid_request");
    assert_non_null(strstr(reply->body, "limits.cpu"));
    reply_free(reply);
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_limits_of_a_session_hold_in_every_tier),
        cmocka_unit_test(a_limit_that_nothing_can_keep_is_refused_by_name),
    };
    return cmocka_run_group_tests_name("session_limits", tests, NULL, NULL);
}
