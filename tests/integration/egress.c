/*
 * The network of a task: which addresses its programs reach through the gate, and which they do
 * not.
 */
#include "egress_scene.h"

#include <poll.h>

static struct runner *closed, *opened;

static int close_service(void **state)
{
    (void)state;
    if (closed)
        runner_free(closed);
    if (opened)
        runner_free(opened);
    end_service();
    return 0;
}

static struct runner *started(struct runner **runner, const char *const settings[])
{
    if (!*runner) {
        *runner = runner_new_with(settings);
        runner_start(*runner);
    }
    return *runner;
}

static struct runner *closed_lan(void)
{
    static const char *const settings[] = {NULL};
    return started(&closed, settings);
}

static struct runner *open_lan(void)
{
    static const char *const settings[] = {"EGRESS_LAN", "127.0.0.0/8", NULL};
    return started(&opened, settings);
}

static void need_gate(struct runner *runner)
{
    struct reply *reply = runner_get(runner, "/health?verbose=true");
    const cJSON *gate = json_at(reply->json, "jail.features.gate");
    const char *tier = json_text(reply->json, "jail.tier");
    bool there = cJSON_IsTrue(gate) && strcmp(tier, "full") == 0;
    reply_free(reply);
    if (!there || !host[0]) {
        print_message("no gate here, or no name for loopback: skipped\n");
        skip();
    }
}

#define CURL "curl -s --max-time 60 --noproxy '*' "

static void programs_reach_a_network_that_the_owner_opened(void **state)
{
    (void)state;
    need_gate(open_lan());
    char *const commands[] = {
        textf(CURL "http://%s:%d/", host, service.port),
        textf("python3 -c 'import urllib.request as u; print(u.urlopen(\\\"http://%s:%d/\\\")"
              ".read().decode(), end=str())'",
              host, service.port),
        textf("exec 3<>/dev/tcp/%s/%d; printf 'GET / HTTP/1.0\\\\r\\\\n\\\\r\\\\n' >&3; "
              "tail -c 5 <&3",
              host, service.port)};
    for (size_t i = 0; i < COUNT(commands); i++) {
        struct reply *reply = run(opened, commands[i], "\"open\"");
        assert_json_text(reply->json, "stdout", "hello");
        reply_free(reply);
        free(commands[i]);
    }
}

static void the_hosts_loopback_and_the_runners_ports_stay_closed(void **state)
{
    (void)state;
    need_gate(closed_lan());
    need_gate(open_lan());
    const char *port = strrchr(opened->base, ':') + 1;
    int came = atomic_load(&service.came);
    const struct {
        struct runner *runner;
        char *command;
        const char *why;
    } cases[] = {
        {closed, textf(CURL "http://%s:%d/", host, service.port), "this machine"},
        {opened, textf(CURL "http://%s:%s/health", host, port), "a port of the runner"},
        {closed, textf(CURL "http://169.254.169.254/"), "private or reserved"},
        {closed, textf(CURL "http://167772161/"), "10.0.0.1"},
        {closed, textf(CURL "http://[::ffff:10.0.0.1]/"), "10.0.0.1"},
        {closed, textf(CURL "http://100.64.0.1:8080/"), "100.64.0.1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = run(cases[i].runner, cases[i].command, "\"open\"");
        assert_json_bool(reply->json, "success", false);
        assert_json_text(reply->json, "stdout", "");
        expect_denied(cases[i].runner, reply, cases[i].why);
        reply_free(reply);
        free(cases[i].command);
    }
    /* in every spelling, the jail's loopback is not the host's */
    char *command =
        textf("for a in 127.0.0.1 2130706433 [::ffff:127.0.0.1] [::1] localhost; do " CURL
              "http://$a:%d/; done",
              service.port);
    struct reply *reply = run(opened, command, "\"open\"");
    assert_json_text(reply->json, "stdout", "");
    reply_free(reply);
    free(command);
    assert_int_equal(atomic_load(&service.came), came);
}

/* How many loopback ports of TCP the daemon listens at. */
static int loopback_ports(const struct runner *runner)
{
    AUTO(str)
    char *script =
        textf("cd %s; for fd in /proc/%d/fd/*; do readlink $fd; done |"
              " sed -n 's/^socket:.\\([0-9]*\\).$/\\1/p' >inodes; awk 'NR == FNR { ours[$1]; next }"
              " $4 == \"0A\" && $2 ~ /^0100007F/ && $10 in ours' inodes /proc/net/tcp >ports",
              runner->dir, (int)runner->pid);
    AUTO(str) char *ports = textf("%s/ports", runner->dir);
    int count = 0;
    proc_shell(script);
    FILE *file = fopen(ports, "re");
    assert_non_null(file);
    for (int c; (c = getc(file)) != EOF;)
        count += c == '\n';
    fclose(file);
    return count;
}

/* Other users of this machine reach the caller's port (with a secret), and nothing else. */
static void no_loopback_port_leads_to_the_proxy_or_the_git_gate(void **state)
{
    (void)state;
    need_gate(open_lan());
    if (geteuid() != 0)
        SKIP_BECAUSE("only root may look at the daemon's sockets");
    assert_int_equal(loopback_ports(opened), 1);
    struct reply *reply = run(
        opened, CURL "-m 20 -o /dev/null -w '%{http_code}' http://192.0.2.1/v1/models", "\"none\"");
    assert_json_text(reply->json, "stdout", "000"); /* a command has no way to the proxy */
    reply_free(reply);
}

static void a_list_holds_for_names_and_ports(void **state)
{
    (void)state;
    need_gate(open_lan());
    char *command = textf(CURL "http://%s:%d/", host, service.port);
    char *with_port = textf("[\"%s:%d\"]", host, service.port);
    char *other_port = textf("[\"%s:%d\"]", host, service.port == 1 ? 2 : 1);
    const struct {
        const char *egress, *printed;
    } cases[] = {{with_port, "hello"},
                 {other_port, ""},
                 {"[\"elsewhere.example\",\"*.example\"]", ""},
                 {"\"none\"", ""}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = run(opened, command, cases[i].egress);
        assert_json_text(reply->json, "stdout", cases[i].printed);
        if (!cases[i].printed[0])
            expect_denied(opened, reply, "request's `egress`");
        reply_free(reply);
    }
    free(command);
    free(with_port);
    free(other_port);
}

static void a_name_is_told_only_to_whom_it_is_allowed(void **state)
{
    (void)state;
    need_gate(open_lan());
    char *command = textf("getent ahostsv4 %s | head -1 | cut -d. -f1,2", host);
    struct reply *reply = run(opened, command, "\"open\"");
    assert_json_text(reply->json, "stdout", "198.18\n"); /* the address that stands for the name */
    reply_free(reply);
    reply = run(opened, command, "\"none\"");
    assert_json_text(reply->json, "stdout", "");
    reply_free(reply);
    free(command);
}

static void nothing_but_tcp_leaves(void **state)
{
    (void)state;
    need_gate(open_lan());
    struct reply *reply = run(
        opened,
        "python3 -c 'import socket as s\\nu=s.socket(s.AF_INET,s.SOCK_DGRAM); u.settimeout(0.3)\\n"
        "u.sendto(b\\\"x\\\",(\\\"8.8.8.8\\\",123))\\ntry: print(u.recv(9))\\n"
        "except OSError: print(\\\"silent\\\")\\n"
        "try: s.socket(s.AF_INET,s.SOCK_RAW,1); print(\\\"raw\\\")\\n"
        "except OSError: print(\\\"no raw\\\")\\n"
        "try: s.socket(s.AF_INET6,s.SOCK_STREAM).connect((\\\"2001:4860::1\\\",443))\\n"
        "except OSError: print(\\\"no v6\\\")'",
        "\"open\"");
    assert_json_text(reply->json, "stdout", "silent\nno raw\nno v6\n");
    reply_free(reply);
}

/* Programs see at once that there is no IPv6, and take the other way; what is IPv4 in the clothes
 * of IPv6 is judged as that. */
static void ipv6_is_cleanly_absent(void **state)
{
    (void)state;
    need_gate(open_lan());
    char *command = textf(
        "python3 -c 'import socket as s,errno as e\\n"
        "def go(a,p):\\n"
        " c=s.socket(s.AF_INET6,s.SOCK_STREAM); c.settimeout(60)\\n"
        " try: c.connect((a,p)); return \\\"reached\\\"\\n"
        " except OSError as x: return e.errorcode.get(x.errno,str(x))\\n"
        "for a in \\\"2606:4700::1 fd00::1 fe80::1 64:ff9b::a00:1 2002:a00:1::\\\".split():\\n"
        " print(go(a,80) in \\\"ENETUNREACH EHOSTUNREACH EADDRNOTAVAIL EINVAL\\\")\\n"
        "print(go(\\\"::1\\\",%d))\\n"
        "own=s.gethostbyname(\\\"%s\\\")\\n"
        "print(go(\\\"::ffff:\\\"+own,%d))'",
        service.port, host, service.port);
    struct reply *reply = run(opened, command, "\"open\"");
    assert_json_text(reply->json, "stdout",
                     "True\nTrue\nTrue\nTrue\nTrue\nECONNREFUSED\nreached\n");
    reply_free(reply);
    free(command);
}

static void many_connections_at_once_all_come_through(void **state)
{
    (void)state;
    need_gate(open_lan());
    char *command =
        textf("seq 200 | xargs -P 40 -I{} " CURL "http://%s:%d/ | wc -c", host, service.port);
    struct reply *reply = run(opened, command, "\"open\"");
    assert_json_text(reply->json, "stdout", "1000\n");
    reply_free(reply);
    free(command);
}

/* One connection has one destination; the gate does not read what is sent over it. */
static void a_connection_leads_to_one_place_whatever_it_says(void **state)
{
    (void)state;
    need_gate(open_lan());
    int before = atomic_load(&service.came);
    char *command = textf("exec 3<>/dev/tcp/%s/%d; printf 'CONNECT other.example:22 HTTP/1.1"
                          "\\r\\n\\r\\n' >&3; tail -c 5 <&3",
                          host, service.port);
    char *egress = textf("[\"%s:%d\"]", host, service.port);
    struct reply *reply = run(opened, command, egress);
    assert_json_text(reply->json, "stdout", "hello");
    assert_int_equal(atomic_load(&service.came), before + 1);
    reply_free(reply);
    free(command);
    free(egress);
}

/* ---- sessions ---- */

/* Runs a command in a session. Returns what it printed. */
static char *in_session(const char *id, const char *command)
{
    char *path = textf("/sessions/%s/exec", id);
    char *json = textf("{\"command\":\"%s\"}", command);
    struct reply *reply = runner_post(opened, path, json);
    assert_status(reply, 200);
    char *said = strdup(json_text(reply->json, "stdout"));
    reply_free(reply);
    free(path);
    free(json);
    return said;
}

static void sessions_have_the_same_gate(void **state)
{
    (void)state;
    need_gate(open_lan());
    char *get = textf(CURL "http://%s:%d/ || echo no", host, service.port);
    for (int i = 0; i < 3; i++) {
        char *egress = i == 0   ? strdup("\"none\"")
                       : i == 1 ? strdup("[\"other.example\"]")
                                : textf("[\"%s:%d\"]", host, service.port);
        char *id = textf("net%d", i), *path = textf("/sessions/%s", id);
        char *json = textf("{\"id\":\"%s\",\"egress\":%s}", id, egress);
        struct reply *reply = runner_post(opened, "/sessions", json);
        assert_status(reply, 201);
        reply_free(reply);
        char *said = in_session(id, get);
        assert_string_equal(said, i < 2 ? "no\n" : "hello");
        reply = runner_get(opened, path);
        assert_int_equal(strstr(reply->body, "egressDenied") != NULL, i < 2);
        reply_free(reply);
        free(said);
        free(egress);
        free(json);
        free(path);
        free(id);
    }
    runner_stop(opened, 30000); /* the rules of the session survive */
    runner_start(opened);
    char *closed_one = in_session("net0", get), *open_one = in_session("net2", get);
    assert_string_equal(closed_one, "no\n");
    assert_string_equal(open_one, "hello");
    free(closed_one);
    free(open_one);
    free(get);
}

static void what_can_not_be_restricted_is_refused(void **state)
{
    (void)state;
    static const char *const settings[] = {"JAIL", "restricted", NULL};
    struct runner *runner = NULL;
    struct reply *reply = runner_post(started(&runner, settings), "/exec",
                                      "{\"command\":\"true\",\"egress\":[\"example.org\"]}");
    assert_status(reply, 400);
    assert_non_null(strstr(reply->body, "egress"));
    assert_non_null(strstr(reply->body, "must be open here"));
    reply_free(reply);
    reply = runner_post(runner, "/sessions", "{\"egress\":\"none\"}");
    assert_status(reply, 400);
    assert_non_null(strstr(reply->body, "must be open here"));
    reply_free(reply);
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_reach_a_network_that_the_owner_opened),
        cmocka_unit_test(the_hosts_loopback_and_the_runners_ports_stay_closed),
        cmocka_unit_test(no_loopback_port_leads_to_the_proxy_or_the_git_gate),
        cmocka_unit_test(a_list_holds_for_names_and_ports),
        cmocka_unit_test(a_name_is_told_only_to_whom_it_is_allowed),
        cmocka_unit_test(nothing_but_tcp_leaves),
        cmocka_unit_test(ipv6_is_cleanly_absent),
        cmocka_unit_test(many_connections_at_once_all_come_through),
        cmocka_unit_test(a_connection_leads_to_one_place_whatever_it_says),
        cmocka_unit_test(sessions_have_the_same_gate),
        cmocka_unit_test(what_can_not_be_restricted_is_refused),
    };
    return cmocka_run_group_tests(tests, open_service, close_service);
}
