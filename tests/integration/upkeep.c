/*
 * What the owner does beside the runner: a backup while it works, its way back into another place,
 * and a test of the alerts.
 */
#include "loopback.h"
#include "testing.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define END_MS 60000
#define SPECIAL "copy.new"

static struct runner *runner;
static const char *const settings[] = {"RUNNER_SECRET", "owner:" RUNNER_SECRET, NULL};

/* Runs `claude-runner COMMAND ARGUMENT [MORE]` with that runner's settings. Fails the test unless
 * it ends with the status; what it said. The caller frees it. */
static char *call(const struct runner *with, int expected, const char *command,
                  const char *argument, const char *more)
{
    int status = -1;
    char *out = textf("%s/said", with->dir);
    char *argv[] = {(char[]){TEST_RUNNER}, textf("%s", command), textf("%s", argument),
                    more ? textf("%s", more) : NULL, NULL};
    unlink(out);
    assert_true(proc_wait(proc_start(argv, with->env, out, out), END_MS, &status));
    char *said = read_file(out, NULL);
    if (status != expected)
        fail_msg("%s: status %d: %s", command, status, said);
    for (int i = 1; i < 4; i++)
        free(argv[i]);
    free(out);
    return said;
}

static void assert_says(char *said, const char *part)
{
    if (!strstr(said, part))
        fail_msg("it does not say '%s':\n%s", part, said);
    free(said);
}

static void fill(const struct runner *with)
{
    struct reply *reply = runner_post(
        with, "/exec", "{\"command\":\"echo said; echo kept >output/o\",\"taskId\":\"task-a\"}");
    assert_status(reply, 200);
    reply_free(reply);
    reply = runner_post(with, "/sessions", "{\"id\":\"box\"}");
    assert_status(reply, 201);
    reply_free(reply);
    reply = runner_post(with, "/sessions/box/exec",
                        "{\"command\":\"cd /tmp; export A=7; echo mine >/workspace/" SPECIAL "\"}");
    assert_status(reply, 200);
    reply_free(reply);
}

static void assert_filled(const struct runner *with)
{
    struct reply *reply = runner_get(with, "/tasks/task-a/outputs/o");
    assert_status(reply, 200);
    assert_string_equal(reply->body, "kept\n");
    reply_free(reply);
    reply = runner_post(with, "/sessions/box/exec",
                        "{\"command\":\"cat /workspace/" SPECIAL "; echo $A; pwd\"}");
    assert_status(reply, 200);
    assert_json_text(reply->json, "stdout", "mine\n7\n/tmp\n");
    reply_free(reply);
}

static void a_backup_of_a_running_runner_comes_back_elsewhere(void **state)
{
    (void)state;
    const struct runner *from = runner_shared(&runner, settings);
    struct runner *to = runner_new_with(settings);
    char *file = textf("%s/copy.tar.gz", from->dir), *key = textf("%s/secret.key", to->state);
    fill(from);
    char *id = runner_submit(from, "standin: hang-middle", "");
    runner_await(from, id, "running", 20000); /* what waited would run there */
    free(call(from, 0, "backup", file, NULL));
    assert_says(call(from, 1, "restore", file, NULL), "stop it first");
    assert_says(call(to, 0, "restore", file, NULL), "without secrets");
    assert_int_equal(access(key, F_OK), -1);
    assert_says(call(to, 1, "restore", file, NULL), "holds a state already");
    runner_start(to);
    assert_filled(to);
    /* What ran when the copy was made has been cut off there. */
    EVENTUALLY(END_MS, runner_has_ended(to, id));
    char *reason = runner_task_text(to, id, "reason");
    assert_string_equal(reason, "interrupted");
    free(reason);
    free(id);
    free(key);
    free(file);
    runner_free(to);
}

static void secrets_and_login_come_along_when_asked_for(void **state)
{
    (void)state;
    struct stat st;
    const struct runner *from = runner_shared(&runner, settings);
    struct runner *to = runner_new_with(settings);
    char *file = textf("%s/whole.tar", from->dir), *key = textf("%s/secret.key", to->state),
         *login = textf("%s/.credentials.json", from->config),
         *copy = textf("%s/.credentials.json", to->config);
    write_file(login, "{\"claudeAiOauth\":{}}", 0600);
    free(call(from, 0, "backup", "--with-secrets", file));
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    assert_says(call(to, 0, "restore", file, NULL), "with the login");
    assert_int_equal(access(key, F_OK), 0);
    char *there = read_file(copy, NULL);
    assert_string_equal(there, "{\"claudeAiOauth\":{}}");
    unlink(login);
    free(there);
    free(copy);
    free(login);
    free(key);
    free(file);
    runner_free(to);
}

static void what_is_no_backup_changes_nothing(void **state)
{
    (void)state;
    const struct runner *from = runner_shared(&runner, settings);
    struct runner *to = runner_new_with(settings);
    char *file = textf("%s/other.tar", from->dir), *database = textf("%s/runner.db", to->state),
         *script = textf("cd '%s' && mkdir -p copied && echo no >copied/runner.db &&"
                         " tar cf other.tar copied",
                         from->dir);
    write_file(file, "this is text", 0600);
    free(call(to, 1, "restore", file, NULL));
    assert_int_equal(access(database, F_OK), -1);
    proc_shell(script);
    assert_says(call(to, 1, "restore", file, NULL), "database");
    assert_int_equal(access(database, F_OK), -1);
    free(call(to, 1, "backup", "/nowhere/at/all.tar", NULL));
    free(call(to, 2, "backup", "--with-secrets", NULL));
    runner_start(to); /* and it is none the worse for it */
    free(script);
    free(database);
    free(file);
    runner_free(to);
}

static bool take(struct loopback_call *call, void *arg)
{
    char title[100] = "";
    char *body = loopback_body(call);
    if (loopback_header(call, "Title", title, sizeof title) && strstr(title, "test") &&
        strstr(body, "claude-runner on"))
        atomic_fetch_add((atomic_int *)arg, 1);
    free(body);
    return loopback_answer(call, 200, "", "");
}

static void an_alert_can_be_tried(void **state)
{
    (void)state;
    atomic_int count = 0;
    struct loopback *told = loopback_start(take, &count);
    struct runner *with = runner_new_with(settings);
    char *url = loopback_url(told, "/topic#ntfy");
    assert_says(call(with, 2, "alert", "--test", NULL), "ALERT_URL");
    runner_set(with, "ALERT_URL", url);
    assert_says(call(with, 0, "alert", "--test", NULL), "sent");
    assert_int_equal(count, 1);
    loopback_stop(told);
    assert_says(call(with, 1, "alert", "--test", NULL), "connect");
    free(url);
    runner_free(with);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backup_of_a_running_runner_comes_back_elsewhere),
        cmocka_unit_test(secrets_and_login_come_along_when_asked_for),
        cmocka_unit_test(what_is_no_backup_changes_nothing),
        cmocka_unit_test(an_alert_can_be_tried),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
