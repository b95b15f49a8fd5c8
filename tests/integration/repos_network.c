#include "repos_hostile_scene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* The number of the runner's git helpers; a signal_number other than 0 is sent to each. */
static int helpers(int signal_number)
{
    char *said = sh("kids() { for p in $(pgrep -P $1); do echo $p; kids $p; done; }; n=0;"
                    " for p in $(kids %d); do if tr '\\0' ' ' 2>/dev/null </proc/$p/cmdline |"
                    " grep -q '^[^ ]* git $'; then n=$((n + 1)); [ %d = 0 ] || kill -%d $p; fi;"
                    " done; echo $n",
                    (int)runner->pid, signal_number, signal_number);
    int count = number(said);
    free(said);
    return count;
}

static char *line_fields(const char *repo, const char *more)
{
    char *key = key_json("k_ed25519");
    char *fields = textf("\"repoUrl\":\"ssh://root@localhost:%d%s/%s\",\"sshKey\":%s%s%s",
                         line_port, host.dir, repo, key, *more ? "," : "", more);
    free(key);
    return fields;
}

/* ---- remotes that break down ---- */

static void a_remote_that_says_nothing_is_left_in_time(void **state)
{
    (void)state;
    need_host();
    int port, listener = listen_on(&port);
    char *key = key_json("k_ed25519");
    runner_stop(runner, 60000);
    runner_set(runner, "GIT_TIMEOUT_SECONDS", "2");
    runner_start(runner);
    for (int i = 0; i < 2; i++) {
        char *fields =
            i == 0 ? textf("\"repoUrl\":\"https://localhost:%d/o/r\"", port)
                   : textf("\"repoUrl\":\"ssh://git@localhost:%d/o/r\",\"sshKey\":%s", port, key);
        int64_t start = now_ms();
        struct reply *reply = runner_execute(runner, "true", fields);
        assert_failed(reply, "repo_error", "in time");
        assert_true(now_ms() - start < 30000 * slowness()); /* the usual limit is 90 s */
        EVENTUALLY(20000, helpers(0) == 0);
        free(fields);
    }
    runner_stop(runner, 60000);
    runner_set(runner, "GIT_TIMEOUT_SECONDS", "90");
    runner_start(runner);
    free(key);
    close(listener);
}

static void make_big(void)
{
    free(sh("[ -d big.git ] || { git init -q -b main big; cd big; head -c 4000000 /dev/urandom >r;"
            " git add r; git commit -qm big; cd ..; git clone -q --bare big big.git; }"));
}

static void a_remote_that_dies_in_mid_pack_leaves_nothing_behind(void **state)
{
    (void)state;
    need_host();
    make_big();
    line->allowed = 1000000;
    char *fields = line_fields("big.git", "");
    struct reply *reply = runner_execute(runner, "true", fields);
    assert_failed(reply, "repo_error", "git fetch");
    line->allowed = 100000000;
    reply = good(runner_execute(runner, "git fsck; wc -c <r", fields));
    assert_json_text(reply->json, "output", "4000000");
    reply_free(reply);
    /* and the mirror was whole before */
    free(sh("cd big; head -c 3000000 /dev/urandom >r2; git add r2; git commit -qm more;"
            " git push -q ../big.git main"));
    line->allowed = 500000;
    reply = runner_execute(runner, "true", fields);
    assert_failed(reply, "repo_error", "git fetch");
    line->allowed = 100000000;
    reply = good(runner_execute(runner, "git fsck; wc -c <r2", fields));
    assert_json_text(reply->json, "output", "3000000");
    reply_free(reply);
    assert_true(says(
        sh("find %s/repos -name '*.new' -o -name 'tmp_*' -o -name '*.lock' 2>/dev/null | head -1;"
           " echo end",
           runner->state),
        "end"));
    free(fields);
}

/* First the helper, then the whole runner is killed while a pack arrives. */
static void a_fetch_that_is_killed_is_done_again(void **state)
{
    (void)state;
    need_host();
    make_big();
    line->allowed = 100000000;
    for (int whole = 0; whole < 2; whole++) {
        free(sh("cd big; head -c 3000000 /dev/urandom >r%d; git add .; git commit -qm more;"
                " git push -q ../big.git main",
                whole + 3));
        line->allowed = 500000;
        line->silent = 1;
        char *fields = line_fields("big.git", "");
        char *id = runner_submit(runner, "true", fields);
        EVENTUALLY(60000, says(sh("find %s/repos -name 'tmp_pack*' -size +100k 2>/dev/null | wc -l",
                                  runner->state),
                               "1\n"));
        if (whole) {
            runner_crash(runner);
            runner_start(runner);
        } else {
            assert_int_equal(helpers(SIGKILL), 1);
        }
        EVENTUALLY(60000, runner_has_ended(runner, id));
        struct reply *reply = runner_result(runner, id);
        assert_json_text(reply->json, "reason", whole ? "interrupted" : "repo_error");
        reply_free(reply);
        line->silent = 0;
        line->allowed = 100000000;
        reply = good(runner_execute(runner, "git fsck; git status --porcelain; ls", fields));
        assert_json_contains(reply->json, "output", whole ? "r4" : "r3");
        reply_free(reply);
        free(id);
        free(fields);
    }
    char *left =
        sh("find %s/repos -name '*.new' -o -name 'tmp_*' 2>/dev/null || true", runner->state);
    assert_string_equal(left, "");
    free(left);
}

/* ---- many at once ---- */

static long asked(void)
{
    char *said =
        sh("grep -c 'GET /o.git/info/refs?service=git-upload-pack.* 200' access.log || true");
    long count = number(said);
    free(said);
    return count;
}

static void many_tasks_that_ask_together_cost_one_fetch(void **state)
{
    (void)state;
    need_host();
    char *ids[16];
    char *fields = textf("\"repoUrl\":\"https://localhost:%d/o.git\",\"gitToken\":\"" TOKEN "\"",
                         host.web_port);
    reply_free(good(runner_execute(runner, "true", fields)));
    char *lock = sh("grep -l 'https:[^\"]*/o.git' %s/repos/*/state", runner->state);
    snprintf(strstr(lock, "/state\n"), 7, "/lock");
    int fd = open(lock, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    long before = asked();
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = runner_submit(runner, "cat d/in", fields);
    EVENTUALLY(60000, helpers(0) == 16);
    close(fd);
    for (size_t i = 0; i < COUNT(ids); i++) {
        EVENTUALLY(60000, runner_has_ended(runner, ids[i]));
        reply_free(good(runner_result(runner, ids[i])));
        free(ids[i]);
    }
    assert_int_equal(asked() - before, 1);
    free(lock);
    free(fields);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_remote_that_says_nothing_is_left_in_time),
        cmocka_unit_test(a_remote_that_dies_in_mid_pack_leaves_nothing_behind),
        cmocka_unit_test(a_fetch_that_is_killed_is_done_again),
        cmocka_unit_test(many_tasks_that_ask_together_cost_one_fetch),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("repos_network", tests, start_all, stop_all);
}
