/* Who sets up a Google project, and what stands in it afterwards. */
#ifndef TESTS_CLOUD_SCENE_H
#define TESTS_CLOUD_SCENE_H

#include "cloud.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define KEY "sk-ant-api03-canary-6f1d2b"
#define BUCKET CLOUD_PROJECT "-claude-runner"
#define JOB CLOUD_LOCATION "/jobs/claude-runner"
#define HOME "claude-runner-home@" CLOUD_PROJECT ".iam.gserviceaccount.com"
#define KEY_RING "/v1/projects/" CLOUD_PROJECT "/locations/global/keyRings/claude-runner"
#define POLICY ":getIamPolicy"
#define ALL_POLICY "/v3/projects/" CLOUD_PROJECT POLICY

enum { RUN_MS = 240000 };

static struct api *api;
static struct cloud *cloud;
static struct runner *admin; /* never started: the environment of who sets up */
static struct runner *home;  /* started by one test */
static char *dir;            /* where it is run, and leaves its key */
static char *said;           /* what the last run said: stdout and stderr */

static inline const char *binary(void)
{
    const char *path = getenv("CR_BINARY");
    return path ? path : TEST_RUNNER;
}

static inline int set_up(void **state)
{
    static const char *const named[] = {
        "GCP_PROJECT_ID", "GCP_REGION",   "CLOUDRUN_JOB_NAME", "KMS_LOCATION",
        "KMS_KEY_RING",   "KMS_KEY_NAME", "GCS_LOGS_BUCKET",   "CLOUD_API_KEY_SECRET"};
    (void)state;
    api = api_new();
    api_control(api, "{\"apiKeys\":[\"" KEY "\",\"" API_KEY "\"]}");
    admin = runner_new();
    home = runner_new();
    cloud = cloud_new(binary(), NULL);
    cloud_use(cloud, admin);
    for (size_t i = 0; i < COUNT(named); i++)
        runner_set(admin, named[i], NULL);
    assert_int_equal(mkdir(admin->state, 0711), 0);
    dir = tmp_dir_new();
    cloud_control(cloud, "{\"iam\":1,\"enforceServices\":1}");
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    runner_free(home);
    cloud_free(cloud);
    runner_free(admin);
    api_free(api);
    tmp_dir_free(dir);
    free(said);
    said = NULL;
    return 0;
}

/* ---- running it ---- */

static inline char *output_file(void)
{
    return textf("%s/said", dir);
}

/* Starts a shell's command; what it reads and says are files. */
static inline pid_t begin_command(struct runner *who, const char *started, const char *input)
{
    char *out = output_file(), *in = textf("%s/input", dir), *next = textf("%s.next", in);
    write_file(next, input, 0600);
    assert_int_equal(rename(next, in), 0); /* one that runs already reads on from its own */
    char *command = textf("cd '%s' && exec %s <'%s' >'%s' 2>&1", dir, started, in, out);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    pid_t pid = proc_start(argv, who->env, NULL, NULL);
    free(command);
    free(out);
    free(next);
    free(in);
    return pid;
}

static inline pid_t begin(struct runner *who, const char *options, const char *input)
{
    char *command = textf("'%s' cloud %s", binary(), options);
    pid_t pid = begin_command(who, command, input);
    free(command);
    return pid;
}

static inline int end(pid_t pid)
{
    int status = -1;
    char *out = output_file();
    if (!proc_wait(pid, RUN_MS, &status))
        fail_msg("it does not end");
    free(said);
    said = read_file(out, NULL);
    assert_non_null(said);
    assert_null(strstr(said, KEY));
    assert_null(strstr(said, "Sanitizer"));
    free(out);
    return status;
}

static inline int run(const char *options, const char *input)
{
    return end(begin(admin, options, input));
}

static inline void assert_said(const char *text)
{
    if (!strstr(said, text))
        fail_msg("no '%s' in: %.6000s", text, said);
}

static inline void assert_run(const char *options, const char *input, int status)
{
    int got = run(options, input);
    if (got != status)
        fail_msg("cloud %s: exit status %d instead of %d: %.6000s", options, got, status, said);
}

/* Requests that write. */
static inline int writes(void)
{
    cJSON *log = cloud_log(cloud, NULL, NULL), *one;
    int count = 0;
    cJSON_ArrayForEach(one, log)
    {
        const char *id = json_text(one, "id");
        count += strcmp(json_text(one, "method"), "GET") != 0 && *id && strcmp(id, "token") != 0 &&
                 !strstr(id, "etIamPolicy");
        count += strstr(id, "setIamPolicy") != NULL;
    }
    cJSON_Delete(log);
    return count;
}

static inline void forget_log(void)
{
    struct reply *reply = http_call(cloud->base, "DELETE", "/_log", NULL, NULL);
    assert_status(reply, 200);
    reply_free(reply);
}

/* Run once more it changes nothing, and asks for no change. */
static inline void assert_complete(void)
{
    forget_log();
    assert_run("setup", KEY "\n", 0);
    assert_int_equal(writes(), 0);
    assert_null(strstr(said, ": created"));
    assert_null(strstr(said, ": changed"));
}

/* ---- looking ---- */

static inline struct reply *ask(const char *method, const char *path, const char *body)
{
    return cloud_call(cloud, method, path, body);
}

static inline void send(const char *method, const char *path, const char *body)
{
    struct reply *reply = ask(method, path, body);
    assert_status(reply, 200);
    reply_free(reply);
}

static inline struct reply *look(const char *path)
{
    struct reply *reply = ask("GET", path, NULL);
    assert_status(reply, 200);
    return reply;
}

/* Who has the role: "a,b" in the policy's order; "" for nobody. The caller frees it. */
static inline char *members(const char *method, const char *path, const char *role)
{
    struct reply *reply = ask(method, path, strcmp(method, "POST") == 0 ? "{}" : NULL);
    assert_status(reply, 200);
    char *text = strdup("");
    const cJSON *binding, *member;
    cJSON_ArrayForEach(binding, cJSON_GetObjectItem(reply->json, "bindings"))
    {
        if (strcmp(json_text(binding, "role"), role) != 0)
            continue;
        cJSON_ArrayForEach(member, cJSON_GetObjectItem(binding, "members"))
        {
            char *more = textf("%s%s%s", text, *text ? "," : "", member->valuestring);
            free(text);
            text = more;
        }
    }
    reply_free(reply);
    return text;
}

static inline void assert_members(const char *method, const char *path, const char *role,
                                  const char *expected)
{
    char *text = members(method, path, role);
    assert_string_equal(text, expected);
    free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
