/*
 * The network of a task in tier full where the kernel has no nf_tables: programs that know of
 * proxies reach what `egress` allows, the others nothing.
 */
#include "egress_scene.h"

#include "situation.h"

#define CURL "curl -s --max-time 60 "
#define BARE "--noproxy '*' "

static struct runner *runner;

static int start(void **state)
{
    if (!situation_enter(situation_find("no-nftables")))
        return 0; /* each test is skipped */
    return open_service(state);
}

static int stop(void **state)
{
    (void)state;
    if (runner)
        runner_free(runner);
    if (service.fd > 0)
        end_service();
    return 0;
}

/* The runner; it is started at the first call, by a caller of proxies of its own. */
static void need_proxy(void)
{
    static const char *const settings[] = {"EGRESS_LAN", "127.0.0.0/8", "HTTP_PROXY",
                                           "http://proxy.invalid:3128", NULL};
    if (service.fd <= 0 || !host[0])
        SKIP_BECAUSE("no filter for calls can be set here, or there is no name for loopback");
    if (!runner) {
        struct runner *made = runner_new_with(settings);
        AUTO(str) char *allow = textf("file:%s", made->shared);
        runner_set(made, "GIT_ALLOW", allow);
        runner_start(made);
        runner = made;
    }
    struct reply *reply = runner_get(runner, "/health?verbose=true");
    const bool full = strcmp(json_text(reply->json, "jail.tier"), "full") == 0;
    const bool net = cJSON_IsTrue(json_at(reply->json, "jail.features.net"));
    if (full && net)
        assert_json_text(reply->json, "jail.network", "proxy");
    reply_free(reply);
    if (!full || !net)
        SKIP_BECAUSE("this host has no tier full with a network of its own");
}

static void health_and_doctor_say_who_reaches_the_network(void **state)
{
    (void)state;
    int status;
    need_proxy();
    struct reply *reply = runner_get(runner, "/health?verbose=true");
    assert_json_bool(reply->json, "jail.features.gate", false);
    assert_json_bool(reply->json, "jail.features.proxy", true);
    assert_json_contains(reply->json, "jail.missing.gate", "nf_tables");
    assert_json_contains(reply->json, "jail.network_why", "only programs that heed HTTPS_PROXY");
    assert_json_contains(reply->json, "jail.network_why", "nf_tables");
    reply_free(reply);
    char *url = textf("RUNNER_URL=%s", runner->base), *out = textf("%s/doctor", runner->dir);
    char *home = textf("HOME=%s", runner->dir);
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, url, home,
                   (char[]){"RUNNER_SECRET=" RUNNER_SECRET}, NULL};
    char *argv[] = {(char[]){TEST_RUNNER}, (char[]){"doctor"}, NULL};
    assert_true(proc_wait(proc_start(argv, env, out, out), 120000, &status));
    char *said = read_file(out, NULL);
    if (!strstr(said, "network: only programs that heed HTTPS_PROXY"))
        fail_msg("%s", said);
    free(said);
    free(home);
    free(out);
    free(url);
}

static void programs_that_know_of_proxies_reach_what_is_allowed(void **state)
{
    (void)state;
    need_proxy();
    char *egress[] = {strdup("\"open\""), textf("[\"%s:%d\"]", host, service.port)};
    char *commands[] = {
        textf(CURL "http://%s:%d/", host, service.port),
        textf(CURL "-p http://%s:%d/", host, service.port), /* CONNECT */
        textf(CURL "-d x http://%s:%d/", host, service.port),
        textf(CURL "-H 'Transfer-Encoding: chunked' -d x http://%s:%d/", host, service.port),
        textf("python3 -c 'import urllib.request as u; print(u.urlopen(\\\"http://%s:%d/\\\")"
              ".read().decode(), end=str())'",
              host, service.port),
        textf("a=$(getent ahostsv4 %s | head -1 | cut -d' ' -f1); " CURL "http://$a:%d/", host,
              service.port), /* the address that stands for the name */
    };
    for (size_t i = 0; i < COUNT(commands); i++) {
        struct reply *reply = run(runner, commands[i], egress[i % 2]);
        if (strcmp(json_text(reply->json, "stdout"), "hello") != 0)
            fail_msg("%s: %s", commands[i], reply->body);
        reply_free(reply);
        free(commands[i]);
    }
    free(egress[0]);
    free(egress[1]);
}

static void others_reach_nothing_and_hear_so_at_once(void **state)
{
    (void)state;
    need_proxy();
    int came = atomic_load(&service.came);
    char *commands[] = {
        textf(CURL BARE "http://%s:%d/; test $? = 7 && echo refused", host, service.port),
        textf("python3 -c 'import socket as s,errno as e\\n"
              "for a in "
              "(\\\"8.8.8.8\\\",\\\"198.18.0.1\\\",\\\"10.0.0.1\\\",\\\"169.254.169.254\\\"):\\n"
              " c=s.socket(); c.settimeout(60)\\n"
              " print(e.errorcode.get(c.connect_ex((a,80))))'"),
        textf("for a in 127.0.0.1 [::ffff:127.0.0.1] [::1] localhost; do " CURL BARE
              "http://$a:%d/; done; echo nothing",
              service.port),
    };
    static const char *const printed[] = {
        "refused\n", "ENETUNREACH\nENETUNREACH\nENETUNREACH\nENETUNREACH\n", "nothing\n"};
    for (size_t i = 0; i < COUNT(commands); i++) {
        struct reply *reply = run(runner, commands[i], "\"open\"");
        assert_json_text(reply->json, "stdout", printed[i]);
        reply_free(reply);
        free(commands[i]);
    }
    assert_int_equal(atomic_load(&service.came), came);
}

/* The program is told what the event says. */
static void what_is_refused_is_told_and_an_event(void **state)
{
    (void)state;
    need_proxy();
    int came = atomic_load(&service.came);
    const char *port = strrchr(runner->base, ':') + 1;
    const struct {
        char *command, *egress;
        const char *words;
    } cases[] = {
        {textf(CURL "http://%s:%d/", host, service.port), strdup("[\"other.example\"]"),
         "to the request's `egress`, or to EGRESS"},
        {textf(CURL "-v -p http://%s:%d/ 2>&1", host, service.port), strdup("\"none\""),
         "to the request's `egress`, or to EGRESS"},
        {textf("python3 -c 'import urllib.request as u; u.urlopen(\\\"https://%s:%d/\\\")' 2>&1",
               host, service.port),
         strdup("\"none\""), "to the request's `egress`, or to EGRESS"},
        {textf("git ls-remote http://%s:%d/x.git 2>&1; GIT_CURL_VERBOSE=1 git ls-remote "
               "http://%s:%d/x.git 2>&1",
               host, service.port, host, service.port),
         strdup("[\"other.example\"]"), "403"},
        {textf(CURL "http://%s:%s/health", host, port), strdup("\"open\""), "a port of the runner"},
        {textf(CURL "http://169.254.169.254/"), strdup("\"open\""), "private or reserved"},
        {textf(CURL "http://[::ffff:10.0.0.1]/"), strdup("\"open\""), "private or reserved"},
        {textf(CURL "-x $http_proxy --noproxy - http://2130706433:%d/", service.port),
         strdup("\"open\""), "own loopback"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = run(runner, cases[i].command, cases[i].egress);
        if (!strstr(json_text(reply->json, "stdout"), cases[i].words))
            fail_msg("%s: no '%s' in %s", cases[i].command, cases[i].words, reply->body);
        expect_denied(runner, reply, "\"allow\"");
        reply_free(reply);
        free(cases[i].command);
        free(cases[i].egress);
    }
    assert_int_equal(atomic_load(&service.came), came);
}

static void a_callers_own_variables_stay(void **state)
{
    (void)state;
    static const struct {
        const char *env, *printed;
    } cases[] = {
        {"{\"https_proxy\":\"mine\",\"NO_PROXY\":\"\"}",
         "http://127.0.0.1:880 http://127.0.0.1:880,mine,http://127.0.0.1:880,"
         "http://127.0.0.1:880,,,1\n"},
        {"{\"http_proxy\":\"\",\"NODE_USE_ENV_PROXY\":\"0\",\"no_proxy\":\"x\"}",
         " ,http://127.0.0.1:880http://127.0.0.1:880,http://127.0.0.1:880,"
         "http://127.0.0.1:880,,x,0\n"},
    };
    need_proxy();
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *json =
            textf("{\"command\":\"echo \\\"$HTTP_PROXY $http_proxy,$HTTPS_PROXY$https_proxy,"
                  "$ALL_PROXY,$all_proxy,$NO_PROXY,$no_proxy,$NODE_USE_ENV_PROXY\\\"\",\"env\":%s}",
                  cases[i].env);
        struct reply *reply = runner_post(runner, "/exec", json);
        assert_status(reply, 200);
        assert_json_text(reply->json, "stdout", cases[i].printed);
        reply_free(reply);
        free(json);
    }
}

/* Node's own fetch() heeds the variables from 22.21 and 24 on; an older one fails at once. */
static void nodes_own_fetch_goes_by_the_proxy(void **state)
{
    (void)state;
    need_proxy();
    char *command = textf(
        "node -e 'let [a, b] = process.versions.node.split(String.fromCharCode(46)).map(Number);"
        "console.log(a > 22 && a != 23 || a == 22 && b > 20 ? 1 : 0)' || echo none; "
        "node -e 'fetch(`http://%s:%d/`).then(r => r.text()).then(console.log, "
        "e => console.log(e.cause.code))'",
        host, service.port);
    struct reply *reply = run(runner, command, "\"open\"");
    const char *said = json_text(reply->json, "stdout");
    const bool none = strncmp(said, "none", 4) == 0;
    if (!none && strcmp(said, *said == '1' ? "1\nhello\n" : "0\nENETUNREACH\n") != 0)
        fail_msg("%s", reply->body);
    reply_free(reply);
    free(command);
    if (none)
        SKIP_BECAUSE("node is missing");
}

static void git_reaches_its_repository_by_the_git_gate(void **state)
{
    (void)state;
    need_proxy();
    AUTO(str)
    char *make = textf("cd %s; git init -q --bare -b main o.git; git clone -q o.git w 2>/dev/null;"
                       " cd w; git -c user.name=A -c user.email=a@b commit -q --allow-empty -m one;"
                       " git push -q origin HEAD:main; chmod -R a+rwX ../o.git",
                       runner->shared);
    proc_shell(make);
    AUTO(str)
    char *json =
        textf("{\"command\":\"git fetch -q && git -c user.name=A -c user.email=a@b commit"
              " -q --allow-empty -m two && git push -q origin HEAD:claude/x && echo pushed;"
              " git config --get-regexp url\",\"repoUrl\":\"file://%s/o.git\","
              "\"gitPush\":true,\"egress\":\"none\",\"timeout_ms\":180000}",
              runner->shared);
    struct reply *reply = runner_post(runner, "/exec", json);
    assert_status(reply, 200);
    if (!strstr(json_text(reply->json, "stdout"), "pushed"))
        fail_msg("%s", reply->body);
    reply_free(reply);
}

static void sessions_have_the_same_proxy(void **state)
{
    (void)state;
    need_proxy();
    char *json = textf("{\"id\":\"net\",\"egress\":[\"%s\"],\"env\":{\"MINE\":\"1\"}}", host);
    char *exec = textf("{\"command\":\"" CURL "http://%s:%d/; echo; " CURL
                       "http://other.example/; echo $MINE\"}",
                       host, service.port);
    struct reply *reply = runner_post(runner, "/sessions", json);
    assert_status(reply, 201);
    reply_free(reply);
    reply = runner_post(runner, "/sessions/net/exec", exec);
    assert_status(reply, 200);
    const char *said = json_text(reply->json, "stdout");
    if (strncmp(said, "hello\nother.example:80 is refused", 33) != 0 || !strstr(said, "\n1\n"))
        fail_msg("%s", reply->body);
    reply_free(reply);
    reply = runner_get(runner, "/sessions/net");
    assert_non_null(strstr(reply->body, "egressDenied"));
    assert_non_null(strstr(reply->body, "other.example"));
    reply_free(reply);
    free(exec);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_and_doctor_say_who_reaches_the_network),
        cmocka_unit_test(programs_that_know_of_proxies_reach_what_is_allowed),
        cmocka_unit_test(others_reach_nothing_and_hear_so_at_once),
        cmocka_unit_test(what_is_refused_is_told_and_an_event),
        cmocka_unit_test(a_callers_own_variables_stay),
        cmocka_unit_test(nodes_own_fetch_goes_by_the_proxy),
        cmocka_unit_test(git_reaches_its_repository_by_the_git_gate),
        cmocka_unit_test(sessions_have_the_same_proxy),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
