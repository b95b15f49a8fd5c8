/*
 * `claude-runner doctor --public URL` against a real runner, and against proxies that are broken in
 * the ways in which Cloudflare's are.
 */
#include "loopback.h"
#include "testing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *runner;
static const char *const settings[] = {NULL};

static struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

/* Runs the doctor against the address. Returns what it prints, which the caller frees, and its exit
 * status. */
static char *examine(const char *address, const char *secret, const char *token, int *ret_status)
{
    char *out = textf("%s/doctor", shared()->dir);
    char *home = textf("HOME=%s", shared()->dir),
         *config = textf("XDG_CONFIG_HOME=%s/config-home", shared()->dir);
    char *secret_line = textf("RUNNER_SECRET=%s", secret);
    char *folder = textf("%s/config-home/claude-runner", shared()->dir);
    char *file = textf("%s/config", folder);
    char *text = textf("[public]\nurl = %s\nsecret = %s\n%s", address, secret, token);
    char *make[] = {(char[]){"/bin/mkdir"}, (char[]){"-p"}, folder, NULL};
    char *none[] = {NULL};
    assert_true(proc_wait(proc_start(make, none, "/dev/null", "/dev/null"), 30000, ret_status));
    write_file(file, text, 0600);
    /* The secret in the configuration file is sent to the address in that file only. */
    char *argv[] = {(char[]){TEST_RUNNER},
                    (char[]){"doctor"},
                    (char[]){"--quick"},
                    *token ? (char[]){"--runner"} : (char[]){"--public"},
                    NULL,
                    NULL};
    char *target = textf("%s", *token ? "public" : address);
    argv[4] = target;
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, home, config, *token ? NULL : secret_line, NULL};
    unlink(out);
    assert_true(proc_wait(proc_start(argv, env, out, out), 120000, ret_status));
    char *said = read_file(out, NULL);
    print_message("%s", said);
    free(target);
    free(text);
    free(file);
    free(folder);
    free(secret_line);
    free(config);
    free(home);
    free(out);
    return said;
}

static void assert_says(const char *said, const char *part)
{
    if (!strstr(said, part))
        fail_msg("it does not say '%s':\n%s", part, said);
}

static void all_is_well_with_a_runner_that_can_be_reached(void **state)
{
    (void)state;
    int status;
    char *said = examine(shared()->base, RUNNER_SECRET, "", &status);
    assert_int_equal(status, 0);
    assert_says(said, "ok   name");
    assert_says(said, "ok   tunnel    /healthz answers 200");
    assert_says(said, "ok   secret");
    assert_says(said, "ok   events    two outputs ");
    assert_null(strstr(said, "FAIL"));
    assert_null(strstr(said, RUNNER_SECRET));
    free(said);
}

static void a_wrong_secret_is_found(void **state)
{
    (void)state;
    int status;
    char *said = examine(shared()->base, "not-the-secret-0123456789", "", &status);
    assert_int_equal(status, 1);
    assert_says(said, "FAIL secret    /tasks answers 403");
    free(said);
}

/* A server in front of the runner: it gives one answer to all, or acts as Access, which requires
 * its token; or holds back a command's events until they are whole. */
struct front {
    int status;
    bool access, whole;
};

static const char whole_stream[] =
    "id: 0\nevent: task\ndata: {\"taskId\":\"t\"}\n\nid: 9\nevent: stdout\ndata: {}\n\n"
    "id: 18\nevent: stdout\ndata: {}\n\nid: 27\nevent: done\ndata: {}\n\n";

static bool answer(struct loopback_call *call, void *arg)
{
    const struct front *front = arg;
    char token[80];
    if (front->whole && strcmp(call->path, "/exec") == 0)
        return loopback_answer(call, 200, "Content-Type: text/event-stream\r\n", whole_stream);
    if (!front->access)
        return loopback_answer(call, front->status, "", "");
    if (!loopback_header(call, "CF-Access-Client-Id", token, sizeof token) ||
        strcmp(token, "right.access") != 0)
        return loopback_answer(
            call, 302, "Location: https://team.cloudflareaccess.com/cdn-cgi/access/login\r\n", "");
    return loopback_answer(call, strcmp(call->path, "/healthz") == 0 ? 200 : 403, "", "ok\n");
}

static void what_is_broken_on_the_way_is_named(void **state)
{
    (void)state;
    static const struct {
        struct front front;
        const char *token, *says;
    } cases[] = {
        {{530, false, false}, "", "is cloudflared running"},
        {{502, false, false}, "", "finds no runner"},
        {{404, false, false}, "", "no rule for this host name"},
        {{500, false, false}, "", "not a runner's answer"},
        {{0, true, false}, "", "none is configured: access_client_id"},
        {{0, true, false},
         "access_client_id = wrong.access\naccess_client_secret = x\n",
         "is it in a policy of the kind Service Auth?"},
        {{0, true, false},
         "access_client_id = right.access\naccess_client_secret = x\n",
         "FAIL secret    /tasks answers 403"},
        {{200, false, true}, "", "holds answers back until they are whole"},
    };
    int status;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct front front = cases[i].front;
        struct loopback *server = loopback_start(answer, &front);
        char *url = loopback_url(server, "");
        char *said = examine(url, RUNNER_SECRET, cases[i].token, &status);
        assert_int_equal(status, 1);
        assert_says(said, cases[i].says);
        free(said);
        free(url);
        loopback_stop(server);
    }
}

static void a_name_that_leads_nowhere_is_found(void **state)
{
    (void)state;
    int status;
    char *said = examine("http://no-such-host.invalid", RUNNER_SECRET, "", &status);
    assert_int_equal(status, 1);
    assert_says(said, "FAIL name      no-such-host.invalid");
    free(said);
}

/* Without --env-file, `serve --check` looks at what the service reads: here the .env of its
 * folder. */
static void a_check_sees_the_settings_of_the_service(void **state)
{
    (void)state;
    char *script = textf("mkdir -p '%s/checkout' && cd '%s/checkout' && "
                         "echo RUNNER_SECRET=a-secret-of-its-own >.env && echo PORT=4711 >>.env && "
                         "env -i PATH=/usr/bin:/bin HOME=/nonexistent '%s' serve --check >out 2>&1",
                         shared()->dir, shared()->dir, TEST_RUNNER);
    if (access("/etc/claude-runner.env", F_OK) == 0)
        SKIP_BECAUSE("a service is installed here; its settings would be read");
    proc_shell(script);
    char *out = textf("%s/checkout/out", shared()->dir), *said = read_file(out, NULL);
    assert_says(said, "PORT=4711  # env-file");
    assert_null(strstr(said, "a-secret-of-its-own"));
    free(said);
    free(out);
    free(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_well_with_a_runner_that_can_be_reached),
        cmocka_unit_test(a_wrong_secret_is_found),
        cmocka_unit_test(what_is_broken_on_the_way_is_named),
        cmocka_unit_test(a_name_that_leads_nowhere_is_found),
        cmocka_unit_test(a_check_sees_the_settings_of_the_service),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
