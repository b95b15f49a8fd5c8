/*
 * Sessions: shells that keep their state whatever commands do to them, processes in the background,
 * and what survives a kill of the runner.
 */
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *shared;

static struct runner *get(void)
{
    static const char *const settings[] = {"SESSIONS_MAX", "300", NULL};
    return runner_shared(&shared, settings);
}

static struct done *run(const char *id, const char *command, const char *more)
{
    return session_run(get(), id, command, more);
}

/* Runs a command, and checks its exit code and its output (NULL: any). */
static void expect(const char *id, const char *command, int exit_code, const char *out)
{
    struct done *done = run(id, command, "");
    if (done->exit_code != exit_code || (out && strcmp(done->out, out) != 0))
        fail_msg("'%s' gave %d, '%s', '%s'", command, done->exit_code, done->out, done->err);
    done_free(done);
}

static void fresh(const char *id)
{
    char *path = textf("/sessions/%s", id);
    struct reply *reply = runner_delete(get(), path);
    assert_status(reply, 200);
    reply_free(reply);
    session_make(get(), id);
    free(path);
}

/* ---- shells ---- */

static void a_shell_remembers(void **state)
{
    (void)state;
    fresh("a");
    expect("a", "pwd", 0, "/workspace\n");
    expect("a",
           "mkdir -p d && cd d; export A='x y'; B=2; f() { echo f:$1; }; alias g='echo g:'; "
           "umask 077; shopt -s nullglob; set -o pipefail; declare -A m=([k]=v)",
           0, "");
    const char *look = "echo \"$PWD $A $B ${m[k]}\"; f 1; g 2; umask; shopt nullglob; false | true";
    const char *seen = "/workspace/d x y 2 v\nf:1\ng: 2\n0077\nnullglob       \ton\n";
    expect("a", look, 1, seen);
    expect("a", "exit 5", 5, "");
    expect("a", look, 1, seen);
    expect("a", "kill -9 $$", 137, "");
    expect("a", look, 1, seen);
    struct done *done = run("a", "pwd; echo $A", "\"shell\":\"other\"");
    assert_string_equal(done->out, "/workspace\n\n");
    done_free(done);
}

static void the_status_of_the_last_command_is_known(void **state)
{
    (void)state;
    fresh("a");
    expect("a", "(exit 9)", 9, "");
    expect("a", "echo $?", 0, "9\n");
    expect("a", "exit 4", 4, "");
    expect("a", "echo $?", 0, "4\n");
}

static void output_is_whole_and_apart(void **state)
{
    (void)state;
    fresh("a");
    struct done *done = run("a", "echo out; echo err >&2; echo more >/dev/stdout; printf x", "");
    assert_string_equal(done->out, "out\nmore\nx");
    assert_string_equal(done->err, "err\n");
    done_free(done);
    done = run("a", "head -c 10000000 /dev/zero | tr '\\0' a", "");
    assert_int_equal(strlen(done->out), 10000000);
    assert_false(done->truncated);
    done_free(done);
    done = run("a", "head -c 40000000 /dev/zero | tr '\\0' b; echo end >&2", "");
    assert_int_equal(strlen(done->out), 16 << 20);
    assert_true(done->truncated);
    assert_string_equal(done->err, "end\n");
    done_free(done);
    expect("a", "cat", 0, "");
    done = run("a", "read x; echo \"<$x>\"; cat", "\"stdin\":\"one\\ntwo\"");
    assert_string_equal(done->out, "<one>\ntwo");
    done_free(done);
}

/* Each command returns, and afterwards the shell still has its state. */
static const char *const hostile[] = {
    "exit",
    "exit 3",
    "logout",
    "return 5",
    "break",
    "continue",
    "exec true",
    "exec sleep 0.01",
    "kill $$",
    "kill -9 $$",
    "kill -HUP $$",
    "kill -9 -1",
    "kill -9 $PPID",
    "kill -TERM $PPID",
    "set -e; false",
    "set -eu; echo $nope",
    "set -u; echo $nope",
    "set -n",
    "set -r",
    "set -o posix; exit 1",
    "set -x",
    "set -v",
    "set -f",
    "set -o noclobber",
    "set -k",
    "set -T; trap 'echo d' DEBUG",
    "trap 'exit 9' ERR; false",
    "trap 'echo bye' EXIT; exit",
    "trap '' TERM INT HUP",
    "trap 'kill -9 $$' EXIT; exit",
    "echo \"unbalanced",
    "echo 'unbalanced",
    "echo $(",
    "echo ${",
    "((((",
    "fi",
    "done",
    "}",
    "{",
    "case x in",
    "cat <<E",
    "cat <<E\nx",
    "cat <<'E'\n$x\nE",
    "<<",
    "echo a |",
    "echo a &&",
    "| x",
    "&",
    "; ;",
    "if true; then",
    "declare() { :; }; builtin() { :; }; printf() { :; }; eval() { :; }; trap() { :; }",
    "alias eval=false builtin=false printf=false; alias '{'=false",
    "enable -n eval",
    "enable -n builtin printf declare",
    "enable -n enable builtin eval",
    "readonly PWD HOME PATH IFS OLDPWD",
    "readonly BASH_ENV ENV PS4",
    "unset PATH",
    "IFS=abcdefghijklmnopqrstuvwxyz",
    "PATH=",
    "PS4='$(exit 3)'; set -x",
    "POSIXLY_CORRECT=1",
    "BASH_COMPAT=31",
    "GLOBIGNORE='*'",
    "exec >/dev/null",
    "exec 2>&-",
    "exec <&-",
    "exec 1>&- 2>&- 0<&-",
    "for i in {3..260}; do eval \"exec $i>&-\"; done",
    "for i in {10..20}; do eval \"exec $i</dev/null\"; done",
    "exec 10>&- 11>&- 12>&-",
    "exec 255>&-",
    "ulimit -n 3",
    "ulimit -n 0",
    "ulimit -t 1; while :; do :; done",
    "ulimit -f 0; echo x > f",
    "ulimit -u 1; (true)",
    "ulimit -v 20000; ls",
    "ulimit -s 8",
    "cd /; rm -rf --no-preserve-root / 2>/dev/null",
    "rm -rf /workspace/* /tmp/* /tmp/.[a-z]*",
    "mkdir q; cd q; rmdir ../q",
    "cd /nonexistent",
    "chmod 000 /workspace; cd /",
    "chmod 755 /workspace",
    "dd if=/dev/urandom bs=1000 count=10 2>/dev/null",
    "printf 'a\\0b\\377\\n'",
    "yes | head -c 3000000",
    "printf '\\033[31m\\007\\r\\b'",
    "coproc cat",
    "disown -a",
    "sleep 30 & disown",
    "(sleep 30 &)",
    "nohup sleep 30 >/dev/null 2>&1 & true",
    "wait",
    "fg",
    "bg",
    "suspend",
    "history -c",
    "fc",
    "bind -x '\"a\":ls'",
    "f() { f; }; f",
    "echo {1..100000} | wc -c",
    "x=$(head -c 3000000 /dev/zero | tr '\\0' x); echo ${#x}",
    "export V=$(head -c 100000 /dev/zero | tr '\\0' v); /bin/true",
    "unset V; x=",
    "mkfifo p; cat p & rm p",
    "exec 3<>/dev/tcp/127.0.0.1/1",
    "time exit 3",
    "! exit 4",
    "mapfile -C 'exit 1' -c 1 <<< a",
    "source /dev/stdin <<< 'exit 6'",
    ". /nonexistent",
    "command exit 7",
    "builtin exit 8",
    "eval exit 9",
    "bash -c 'kill -9 $PPID'",
    "shopt -s extdebug; trap 'return 1' DEBUG",
    "shopt -s failglob; echo *nope*",
    "shopt -u expand_aliases; shopt -s execfail; exec /nope",
    "exec /nope",
    "exec /etc/passwd",
};

static void no_command_bricks_a_shell(void **state)
{
    (void)state;
    fresh("h");
    for (size_t i = 0; i < COUNT(hostile); i++) {
        struct done *done = run("h", hostile[i], "\"timeout\":2");
        done_free(done);
        done = run("h", "echo still", "\"timeout\":20");
        if (!strstr(done->out, "still"))
            fail_msg("after '%s': %d '%s' '%s'", hostile[i], done->exit_code, done->out, done->err);
        done_free(done);
        done = run("h", "echo here", "\"shell\":\"beside\"");
        assert_string_equal(done->out, "here\n");
        done_free(done);
    }
}

static void a_time_limit_ends_all_that_the_command_started_and_nothing_else(void **state)
{
    /* the first in which it comes as far as it should */
    static const char *const limits[] = {"\"timeout\":1", "\"timeout\":5", "\"timeout\":60"};
    (void)state;
    fresh("a");
    expect("a", "export KEPT=1; mkdir -p t; sleep 4321 & cd t", 0, "");
    struct done *done = NULL;
    for (size_t i = 0; i < COUNT(limits) && !(done && *done->out); i++) {
        if (done)
            done_free(done);
        done = run("a",
                   "setsid sleep 4322 & (setsid sh -c 'sleep 4323 & sleep 4324' &) ; "
                   "echo before; while :; do :; done",
                   limits[i]);
        assert_true(done->timed_out);
    }
    assert_int_equal(done->exit_code, -1);
    assert_string_equal(done->out, "before\n");
    assert_non_null(strstr(done->err, "timed out"));
    assert_string_equal(done->cwd, "/workspace/t");
    done_free(done);
    expect("a", "echo $KEPT $PWD; ps -eo args | grep '^sleep 432' | sort", 0,
           "1 /workspace/t\nsleep 4321\n");
}

static void a_fork_bomb_ends_with_its_time(void **state)
{
    (void)state;
    fresh("a");
    expect("a", "export KEPT=1", 0, "");
    struct done *done = run("a", "b() { b | b & }; b; while :; do sleep 1; done", "\"timeout\":2");
    assert_true(done->timed_out);
    done_free(done);
    expect("a",
           "echo $KEPT; for i in {1..200}; do n=$(ps -e -o stat= | grep -vc ^Z); ((n > 20)) || "
           "break; sleep 0.1; done; echo $((n > 20))",
           0, "1\n0\n"); /* a kill takes effect when each process has been scheduled once more */
}

static void one_command_at_a_time_in_a_shell(void **state)
{
    (void)state;
    fresh("a");
    int fd = http_begin(get()->base, "POST", "/sessions/a/exec", RUNNER_AUTH,
                        "{\"command\":\"touch began; sleep 100\"}");
    EVENTUALLY(20000, session_is_busy(get(), "a"));
    struct reply *reply = runner_post(get(), "/sessions/a/exec", "{\"command\":\"true\"}");
    assert_problem(reply, 409, "conflict");
    assert_non_null(strstr(reply->body, "sleep 100"));
    reply_free(reply);
    reply = runner_post(get(), "/sessions/a/shells/default/kill", "");
    assert_status(reply, 200);
    reply_free(reply);
    reply = http_read(fd, HTTP_DEADLINE_MS);
    assert_status(reply, 200);
    assert_int_equal(cJSON_GetObjectItem(reply->json, "exit_code")->valueint, 137);
    reply_free(reply);
    close(fd);
    expect("a", "echo free", 0, "free\n");
}

static void a_caller_that_goes_away_ends_its_command(void **state)
{
    (void)state;
    fresh("a");
    int fd = http_begin(get()->base, "POST", "/sessions/a/exec", RUNNER_AUTH,
                        "{\"command\":\"sleep 100\"}");
    struct reply *reply;
    EVENTUALLY(20000, session_is_busy(get(), "a"));
    close(fd);
    EVENTUALLY(20000,
               (reply = runner_post(get(), "/sessions/a/exec", "{\"command\":\"true\"}"),
                reply->status == 200 ? (reply_free(reply), true) : (reply_free(reply), false)));
}

static void output_is_followed_as_it_comes(void **state)
{
    (void)state;
    fresh("a");
    struct stream *stream = stream_open(
        get()->base, "POST", "/sessions/a/exec", RUNNER_AUTH "Accept: text/event-stream\r\n",
        "{\"command\":\"echo one; echo two >&2; read x; echo $x; exit 3\",\"stdin\":\"\"}");
    stream_until_end(stream, 20000);
    assert_non_null(strstr(stream->body, "event: stdout\ndata: {\"text\":\"one\\n"));
    assert_non_null(strstr(stream->body, "event: stderr\ndata: {\"text\":\"two\\n\"}"));
    assert_non_null(strstr(stream->body, "event: done\ndata: {\"exit_code\":3"));
    stream_free(stream);
}

/* ---- the background ---- */

static int member(const char *path, const char *name)
{
    struct reply *reply = runner_get(get(), path);
    assert_status(reply, 200);
    const cJSON *value = cJSON_GetObjectItem(reply->json, name);
    int number = cJSON_IsBool(value)     ? cJSON_IsTrue(value)
                 : cJSON_IsNumber(value) ? value->valueint
                                         : -1;
    reply_free(reply);
    return number;
}

static bool logs_say(const struct runner *runner, const char *path, const char *text)
{
    struct reply *reply = runner_get(runner, path);
    bool say = reply->status == 200 && strstr(reply->body, text);
    reply_free(reply);
    return say;
}

static void background_processes_are_listed_logged_and_ended(void **state)
{
    (void)state;
    fresh("a");
    struct done *done = run("a", "echo begun; read a; echo got $a; exit 6", "\"background\":true");
    assert_true(done->pid > 0);
    assert_int_equal(done->exit_code, 0);
    char *path = textf("/sessions/a/processes/%d", done->pid);
    char *input = textf("%s/stdin", path), *logs = textf("%s/logs", path);
    char *wait = textf("%s?wait=20", path);
    assert_int_equal(member(path, "running"), 1);
    struct reply *reply = runner_post(get(), input, "{\"text\":\"hello\"}");
    assert_status(reply, 200);
    reply_free(reply);
    assert_int_equal(member(wait, "running"), 0);
    EVENTUALLY(20000, member(path, "exit_code") == 6);
    EVENTUALLY(20000, logs_say(get(), logs, "got hello\n"));
    reply = runner_get(get(), logs);
    assert_non_null(strstr(reply->body, "begun\n"));
    assert_non_null(strstr(reply->body, "hello\n"));
    assert_non_null(strstr(reply->body, "got hello\n"));
    reply_free(reply);
    char *file = textf("cat /tmp/bg_%d.out | head -1", done->pid);
    expect("a", file, 0, NULL);
    done_free(done);
    done = run("a", "cd /tmp && sleep 5555 &", "");
    assert_true(done->pid > 0);
    done_free(done);
    reply = runner_delete(get(), "/sessions/a/processes?pattern=sleep%205555");
    assert_int_equal(cJSON_GetObjectItem(reply->json, "killed_count")->valueint, 1);
    reply_free(reply);
    expect("a", "ps -eo args | grep -c '^sleep 555[5]'", 1, "0\n");
    free(path), free(input), free(logs), free(wait), free(file);
}

static void a_process_that_does_not_listen_is_killed(void **state)
{
    (void)state;
    fresh("a");
    struct done *done =
        run("a", "trap '' TERM; echo ready; sleep 600; sleep 601", "\"background\":true");
    char *path = textf("/sessions/a/processes/%d", done->pid), *logs = textf("%s/logs", path);
    struct reply *reply;
    EVENTUALLY(20000, logs_say(get(), logs, "ready"));
    reply = runner_delete(get(), path);
    assert_status(reply, 200);
    assert_string_equal(cJSON_GetObjectItem(reply->json, "status")->valuestring, "terminated");
    reply_free(reply);
    reply = runner_delete(get(), path);
    assert_string_equal(cJSON_GetObjectItem(reply->json, "status")->valuestring,
                        "already_terminated");
    reply_free(reply);
    done_free(done);
    free(path), free(logs);
}

static void a_shell_shows_its_console(void **state)
{
    (void)state;
    fresh("a");
    expect("a", "printf '\\033[31mred\\033[0m\\n'", 0, NULL);
    expect("a", "cd /tmp", 0, "");
    expect("a", "echo last", 0, "last\n");
    struct reply *reply = runner_get(get(), "/sessions/a/shells/default?console=true");
    assert_status(reply, 200);
    const cJSON *console = cJSON_GetObjectItem(reply->json, "console");
    assert_int_equal(cJSON_GetArraySize(console), 3);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(console, 0), "output")->valuestring,
                        "red\n");
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(console, 2), "ps1")->valuestring,
                        "user@a:/tmp $");
    assert_string_equal(cJSON_GetObjectItem(reply->json, "output")->valuestring, "last\n");
    reply_free(reply);
}

/* ---- sessions ---- */

static void sessions_are_made_shown_and_removed(void **state)
{
    (void)state;
    struct reply *reply = runner_post(
        get(), "/sessions", "{\"id\":\"m\",\"env\":{\"GIVEN\":\"yes\"},\"ttlMinutes\":5}");
    assert_status(reply, 201);
    reply_free(reply);
    assert_problem(reply = runner_post(get(), "/sessions", "{\"id\":\"m\"}"), 409, "conflict");
    reply_free(reply);
    expect("m", "echo $GIVEN; export MADE=1; cd /tmp", 0, "yes\n");
    reply = runner_get(get(), "/sessions/m");
    assert_status(reply, 200);
    const cJSON *env = cJSON_GetObjectItem(reply->json, "env");
    assert_string_equal(cJSON_GetObjectItem(env, "MADE")->valuestring, "1");
    assert_string_equal(cJSON_GetObjectItem(reply->json, "cwd")->valuestring, "/tmp");
    reply_free(reply);
    for (int i = 0; i < 2; i++) {
        reply = runner_delete(get(), "/sessions/m");
        assert_status(reply, 200);
        reply_free(reply);
    }
    assert_problem(reply = runner_get(get(), "/sessions/m"), 404, "not_found");
    reply_free(reply);
    static const char *const wrong[] = {"{\"id\":\"../x\"}",
                                        "{\"id\":\".x\"}",
                                        "{\"nme\":1}",
                                        "{\"env\":{\"A B\":\"1\"}}",
                                        "{\"env\":[]}",
                                        "{\"ttlMinutes\":-1}",
                                        "{\"executor\":\"cloud\"}",
                                        "[]",
                                        "{\"egress\":\"no name\"}",
                                        "{\"egress\":[\"a/b\"]}",
                                        "{\"egress\":7}"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        assert_problem(reply = runner_post(get(), "/sessions", wrong[i]), 400, "invalid_request");
        reply_free(reply);
    }
}

/* Each prints "no" where the jail holds. */
static void a_session_is_a_jail(void **state)
{
    (void)state;
    static const char *const tries[] = {
        "[ $(ls -d /proc/[0-9]* | wc -l) -lt 20 ] && echo no",
        "cat /etc/shadow 2>/dev/null || echo no",
        "ls /root /home/runner 2>/dev/null || echo no",
        "grep -q 'CapEff:.*0000000000000000' /proc/self/status && echo no",
        "unshare -Ur true 2>/dev/null || echo no",
        "mount -t tmpfs none /mnt 2>/dev/null || echo no",
        "touch /usr/canary 2>/dev/null || echo no",
    };
    struct reply *health = runner_get(get(), "/health?verbose=true");
    bool full = strcmp(json_text(health->json, "jail.tier"), "full") == 0;
    reply_free(health);
    if (!full)
        SKIP_BECAUSE("this host gives no whole jail");
    fresh("walls");
    for (size_t i = 0; i < COUNT(tries); i++)
        expect("walls", tries[i], 0, "no\n");
    done_free(run("walls", "kill -9 $(pgrep -o claude-runner)", "")); /* the session's own agent */
    expect("walls", "echo well", 0, "well\n");
}

static void a_session_keeps_its_memory_limit(void **state)
{
    (void)state;
    reply_free(session_send(get(), "DELETE", "/sessions/small", "", 0));
    struct reply *made =
        runner_post(get(), "/sessions", "{\"id\":\"small\",\"limits\":{\"memoryMb\":64}}");
    assert_status(made, 201);
    reply_free(made);
    made =
        runner_post(get(), "/sessions/small/exec",
                    "{\"command\":\"head -c 300000000 /dev/zero | tail | wc -c\",\"timeout\":20}");
    assert_string_not_equal(json_text(made->json, "stdout"), "300000000\n");
    reply_free(made);
    done_free(run("small", "true", "")); /* the kernel may end more than one */
    expect("small", "echo well", 0, "well\n");
}

static void two_hundred_sessions_do_not_see_each_other(void **state)
{
    (void)state;
    enum { MANY = 200 };
    char *mark = proc_mark(9991);
    for (int i = 0; i < MANY; i++) {
        char *id = textf("many%d", i),
             *command = textf("echo %d >x; export N=%d; sleep %s & true", i, i, mark);
        session_make(get(), id);
        expect(id, command, 0, "");
        free(id), free(command);
    }
    for (int i = 0; i < MANY; i++) {
        char *id = textf("many%d", i), *path = textf("/sessions/%s", id),
             *seen = textf("%d\n%d\n1\n", i, i),
             *look = textf("cat x; echo $N; ps -eo args | grep -c '^sleep %s'", mark);
        expect(id, look, 0, seen);
        free(look);
        struct reply *reply = runner_delete(get(), path);
        assert_status(reply, 200);
        reply_free(reply);
        free(id), free(path), free(seen);
    }
    EVENTUALLY(20000, proc_with_argument(mark) == 0);
    free(mark);
}

static void a_killed_runner_loses_processes_and_nothing_else(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    session_make(runner, "k");
    done_free(session_run(runner, "k",
                          "cd /tmp; export A=1; f() { echo f; }; echo data >/workspace/file", ""));
    char *marks[] = {proc_mark(7777), proc_mark(7778)};
    char *behind = textf("echo logged; sleep %s", marks[0]);
    char *before = textf("{\"command\":\"export A=2; sleep %s\"}", marks[1]);
    struct done *done = session_run(runner, "k", behind, "\"background\":true");
    char *path = textf("/sessions/k/processes/%d", done->pid), *logs = textf("%s/logs", path);
    done_free(done);
    EVENTUALLY(20000, logs_say(runner, logs, "logged\n"));
    int fd = http_begin(runner->base, "POST", "/sessions/k/exec", RUNNER_AUTH, before);
    EVENTUALLY(20000, proc_with_argument(marks[1]) > 0);
    runner_crash(runner);
    close(fd);
    EVENTUALLY(20000, proc_with_argument(marks[0]) + proc_with_argument(marks[1]) == 0);
    runner_start(runner);
    done = session_run(runner, "k", "echo $A $PWD; f; cat /workspace/file", "");
    assert_string_equal(done->out, "1 /tmp\nf\ndata\n");
    done_free(done);
    struct reply *reply = runner_get(runner, path);
    assert_status(reply, 200);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(reply->json, "lost")));
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(reply->json, "running")));
    reply_free(reply);
    reply = runner_get(runner, logs);
    assert_string_equal(reply->body, "logged\n");
    reply_free(reply);
    free(path), free(logs), free(behind), free(before), free(marks[0]), free(marks[1]);
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shell_remembers),
        cmocka_unit_test(the_status_of_the_last_command_is_known),
        cmocka_unit_test(output_is_whole_and_apart),
        cmocka_unit_test(no_command_bricks_a_shell),
        cmocka_unit_test(a_time_limit_ends_all_that_the_command_started_and_nothing_else),
        cmocka_unit_test(a_fork_bomb_ends_with_its_time),
        cmocka_unit_test(one_command_at_a_time_in_a_shell),
        cmocka_unit_test(a_caller_that_goes_away_ends_its_command),
        cmocka_unit_test(output_is_followed_as_it_comes),
        cmocka_unit_test(background_processes_are_listed_logged_and_ended),
        cmocka_unit_test(a_process_that_does_not_listen_is_killed),
        cmocka_unit_test(a_shell_shows_its_console),
        cmocka_unit_test(sessions_are_made_shown_and_removed),
        cmocka_unit_test(a_session_is_a_jail),
        cmocka_unit_test(a_session_keeps_its_memory_limit),
        cmocka_unit_test(two_hundred_sessions_do_not_see_each_other),
        cmocka_unit_test(a_killed_runner_loses_processes_and_nothing_else),
    };
    return cmocka_run_group_tests_name("sessions", tests, NULL, shared_stop);
}
