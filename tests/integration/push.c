/*
 * Web Push with the real daemon and node's own cryptography (tests/push).
 */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool run_script(const struct runner *runner)
{
    int status = -1;
    char *out = textf("%s/push", runner->dir);
    char *argv[] = {(char[]){"/usr/bin/node"},
                    (char[]){TEST_PUSH_FOLDER "/push.mjs"},
                    runner->base,
                    (char[]){RUNNER_SECRET},
                    runner->cli,
                    NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    bool ended = proc_wait(proc_start(argv, env, out, out), 200000, &status);
    char *said = read_file(out, NULL);
    fputs(said ? said : "", stdout);
    free(said);
    free(out);
    return ended && status == 0;
}

static void browsers_are_told_in_a_way_that_they_can_read(void **state)
{
    (void)state;
    if (access("/usr/bin/node", X_OK))
        SKIP_BECAUSE("node is missing");
    struct runner *runner = runner_new();
    runner_set(runner, "CALLBACK_ALLOW", "127.0.0.1");
    runner_start(runner);
    assert_true(run_script(runner));
    struct reply *before = runner_get(runner, "/push");
    assert_int_equal(runner_stop(runner, 30000), 0);
    runner_start(runner);
    struct reply *after = runner_get(runner, "/push");
    assert_json_text(after->json, "publicKey", json_text(before->json, "publicKey"));
    assert_json_text(after->json, "subscriptions.0.id",
                     json_text(before->json, "subscriptions.0.id"));
    reply_free(before);
    reply_free(after);
    runner_free(runner);
}

/* Without CALLBACK_ALLOW a push service must have a public address. */
static void this_machine_is_no_push_service(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_start(runner);
    static const char *const places[] = {"http://127.0.0.1:1/x",      "https://localhost/x",
                                         "https://[::1]/x",           "https://10.0.0.1/x",
                                         "http://push.example.org/x", "https://0x7f.1/x"};
    for (size_t i = 0; i < COUNT(places); i++) {
        char *json =
            textf("{\"endpoint\":\"%s\",\"keys\":{\"p256dh\":\"x\",\"auth\":\"x\"}}", places[i]);
        struct reply *reply = runner_post(runner, "/push/subscriptions", json);
        assert_status(reply, 400);
        assert_non_null(strstr(reply->body, "endpoint"));
        reply_free(reply);
        free(json);
    }
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(browsers_are_told_in_a_way_that_they_can_read),
        cmocka_unit_test(this_machine_is_no_push_service),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
