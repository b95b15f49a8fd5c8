/*
 * The real CLI performs a whole task with its tools, in the tier that the program's argument names
 * ("proxy": full, with a gate that is only a proxy): it installs packages through the network gate
 * and pushes the result through the git gate.
 */
#include "githost.h"
#include "situation.h"
#include "testing.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *tier = "full";
static bool proxy; /* where the gate is only a proxy */
static struct runner *runner;
static struct api *api;
static pid_t registry;
static int registry_port;
static char name[256]; /* the machine's own name, which resolves to its loopback */

/* Whether the machine's own name resolves to loopback, where the registry listens. */
static bool find_name(void)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct sockaddr_in at;
    if (gethostname(name, sizeof(name)) || getaddrinfo(name, NULL, &hints, &found))
        return false;
    memcpy(&at, found->ai_addr, sizeof(at));
    freeaddrinfo(found);
    return ntohl(at.sin_addr.s_addr) >> 24 == 127;
}

/* Starts a registry for npm and an index for pip, each with one package, as files of one web
 * server. */
static void start_registry(void)
{
    registry_port = port_reserve();
    free(sh("mkdir -p reg/simple/hello-gate reg/tgz/package w1; cd reg;"
            " printf '{\"name\":\"hello-gate\",\"version\":\"1.0.0\"}' >tgz/package/package.json;"
            " tar -C tgz -czf hello-gate-1.0.0.tgz package;"
            " printf '{\"name\":\"hello-gate\",\"dist-tags\":{\"latest\":\"1.0.0\"},\"versions\":"
            "{\"1.0.0\":{\"name\":\"hello-gate\",\"version\":\"1.0.0\",\"dist\":{\"tarball\":"
            "\"http://%s:%d/hello-gate-1.0.0.tgz\",\"integrity\":\"sha512-'\"$(openssl dgst -sha512"
            " -binary hello-gate-1.0.0.tgz | openssl base64 -A)\"'\"}}}}' >hello-gate;"
            " python3 -c 'import zipfile as z; f=z.ZipFile(\"simple/hello-gate/hello_gate-1.0-py3-"
            "none-any.whl\",\"w\"); f.writestr(\"hello_gate-1.0.dist-info/METADATA\","
            "\"Metadata-Version: 2.1\\nName: hello-gate\\nVersion: 1.0\\n\");"
            " f.writestr(\"hello_gate-1.0.dist-info/WHEEL\",\"Wheel-Version: 1.0\\n\");"
            " f.writestr(\"hello_gate-1.0.dist-info/RECORD\",\"\"); f.close()';"
            " printf '<a href=\"hello_gate-1.0-py3-none-any.whl\">x</a>'"
            " >simple/hello-gate/index.html",
            name, registry_port));
    char *dir = textf("%s/reg", host.dir), *port = textf("%d", registry_port);
    char *argv[] = {(char[]){"/usr/bin/python3"},
                    (char[]){"-m"},
                    (char[]){"http.server"},
                    port,
                    (char[]){"--bind"},
                    (char[]){"127.0.0.1"},
                    (char[]){"--directory"},
                    dir,
                    NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    char *log = textf("%s/registry.log", host.dir);
    registry = proc_start(argv, env, log, log);
    EVENTUALLY(20000, githost_is_listening(registry_port));
    free(log);
    free(dir);
    free(port);
}

static int start_all(void **state)
{
    (void)state;
    if (!find_name()) {
        print_message("SKIPPED: this machine's name does not lead to its loopback\n");
        return 0;
    }
    if (!githost_start())
        return 0;
    start_registry();
    api = api_new();
    runner = githost_runner("");
    runner_use_real_cli(runner, api);
    runner_set(runner, "JAIL", tier);
    runner_set(runner, "EGRESS_LAN", "127.0.0.0/8");
    runner_start(runner);
    return 0;
}

static int stop_all(void **state)
{
    int status;
    (void)state;
    if (runner)
        runner_free(runner);
    if (api)
        api_free(api);
    if (registry > 0) {
        kill(registry, SIGTERM);
        (void)proc_wait(registry, 5000, &status);
    }
    githost_stop();
    return 0;
}

static void need_all(void)
{
    if (!runner)
        SKIP_BECAUSE("needs root, sshd, nginx, fcgiwrap and a name for loopback");
    struct reply *reply = runner_get(runner, "/health?verbose=true");
    bool there = strcmp(json_text(reply->json, "jail.tier"), tier) == 0;
    if (proxy && there)
        there = strcmp(json_text(reply->json, "jail.network"), "proxy") == 0;
    reply_free(reply);
    if (!there)
        SKIP_BECAUSE("this host has no tier %s%s", tier, proxy ? " behind a proxy" : "");
}

/* A prompt with one call of Bash, whose output is the answer. */
static char *prompt_of(const char *script)
{
    cJSON *input = cJSON_CreateObject();
    cJSON_AddStringToObject(input, "command", script);
    char *json = cJSON_PrintUnformatted(input);
    char *prompt = textf("[[tool:Bash %s]] [[echo]]", json);
    cJSON_Delete(input);
    cJSON_free(json);
    return prompt;
}

static char *fields_of(const char *egress)
{
    return textf("\"repoUrl\":\"https://localhost:%d/o.git\",\"gitToken\":\"" TOKEN "\","
                 "\"gitPush\":{\"branches\":[\"claude/*\"]},\"allowedTools\":[\"Bash\"],"
                 "\"timeout_ms\":120000%s%s",
                 host.web_port, *egress ? ",\"egress\":" : "", egress);
}

static void a_task_installs_commits_and_pushes(void **state)
{
    (void)state;
    need_all();
    bool full = strcmp(tier, "full") == 0;
    AUTO(str) char *list = full ? textf("[\"%s:%d\"]", name, registry_port) : strdup("");
    AUTO(str) char *fields = fields_of(list);
    AUTO(str)
    char *script = textf(
        "set -e; echo '{\"name\":\"a\",\"version\":\"1.0.0\"}' >package.json;"
        " npm install --no-audit --no-fund --fetch-retries=0 --registry=http://%s:%d/ hello-gate"
        " >npm.log 2>&1 || { cat npm.log; exit 1; };"
        " python3 -m pip --disable-pip-version-check download -q --no-deps --retries 0"
        " --index-url http://%s:%d/simple/ --trusted-host %s -d wheels hello-gate;"
        " git checkout -q -b claude/tools-%s; git add package.json wheels;"
        " git commit -qm 'by the real CLI'; git push -u origin HEAD;"
        " ls node_modules/hello-gate wheels; echo all is done",
        name, registry_port, name, registry_port, name, tier);
    AUTO(str) char *prompt = prompt_of(script);
    struct reply *reply = runner_execute(runner, prompt, fields);
    if (!strstr(json_text(reply->json, "output"), "all is done"))
        fail_msg("%s", reply->body);
    reply_free(reply);
    assert_true(says(sh("git -C o.git ls-tree -r --name-only claude/tools-%s", tier),
                     "wheels/hello_gate-1.0-py3-none-any.whl"));
    assert_true(
        says(sh("git -C o.git log -1 --format=%%s claude/tools-%s", tier), "by the real CLI"));
}

static void what_is_not_listed_is_not_reached(void **state)
{
    (void)state;
    need_all();
    if (strcmp(tier, "full") != 0)
        SKIP_BECAUSE("only tier full has a gate");
    AUTO(str) char *fields = fields_of("[\"other.example\"]");
    AUTO(str)
    char *script = textf(
        "echo '{}' >package.json; npm install --no-audit --fetch-retries=0"
        " --registry=http://%s:%d/ hello-gate >/dev/null 2>&1 || echo npm-refused;"
        " python3 -m pip --disable-pip-version-check download -q --no-deps --retries 0 --index-url"
        " http://%s:%d/simple/ --trusted-host %s -d wheels hello-gate >/dev/null 2>&1 ||"
        " echo pip-refused; git push origin HEAD:main 2>&1 | tail -2; git fetch origin && echo"
        " fetched",
        name, registry_port, name, registry_port, name);
    AUTO(str) char *prompt = prompt_of(script);
    struct reply *reply = runner_execute(runner, prompt, fields);
    const char *said = json_text(reply->json, "output");
    if (!strstr(said, "npm-refused") || !strstr(said, "pip-refused") || !strstr(said, "fetched"))
        fail_msg("%s", reply->body);
    reply_free(reply);
}

int main(int argc, char **argv)
{
    proxy = argc > 1 && strcmp(argv[1], "proxy") == 0;
    if (argc > 1 && !proxy)
        tier = argv[1];
    if (proxy && !situation_enter(situation_find("no-nftables")))
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_installs_commits_and_pushes),
        cmocka_unit_test(what_is_not_listed_is_not_reached),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
