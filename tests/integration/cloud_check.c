#include "cloud_scene.h"

/* ---- check ---- */

/* The lines for .env, as they were printed, where check and the runner find them. */
static void write_env_file(void)
{
    const char *from = strstr(said, "OVERFLOW=full"), *to = from ? strstr(from, "\n\n") : NULL;
    assert_non_null(to);
    char *text = strndup(from, (size_t)(to - from)), *path = textf("%s/.env", dir);
    char *line = strstr(text, "GOOGLE_APPLICATION_CREDENTIALS=");
    assert_non_null(line);
    write_file(path, text, 0600);
    free(text);
    free(path);
}

/* A complete project, whose job finds the stand-in. */
static void furnish(void)
{
    static const char *const passed[] = {"GOOGLE_", "CLAUDE_BIN=", "RUNNER_STATE_DIR="};
    char *options = textf("setup --env ANTHROPIC_UPSTREAM=%s", api->base);
    for (size_t i = 0; admin->env[i]; i++)
        for (size_t k = 0; k < COUNT(passed); k++) {
            bool is = strncmp(admin->env[i], passed[k], strlen(passed[k])) == 0 &&
                      !strstr(admin->env[i], "CREDENTIALS=");
            char *more = is ? textf("%s --env '%s'", options, admin->env[i]) : NULL;
            if (more) {
                free(options);
                options = more;
            }
        }
    assert_run(options, KEY, 0);
    write_env_file();
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", NULL);
    free(options);
}

static int check(void)
{
    return run("check --timeout 1 --wait 0", "");
}

static void tries_both_ends(void **state)
{
    (void)state;
    furnish();
    int status = check();
    if (status != 0)
        fail_msg("%s", said);
    assert_said("home: credentials: ok");
    assert_said("service account " HOME);
    assert_said("home: bucket: write, read, delete: ok");
    assert_said("job: a payload, to its result: ok");
    assert_said("read the API key");
    assert_said("Both ends work.");
    struct reply *reply = look("/storage/v1/b/" BUCKET "/o?prefix=sessions/");
    assert_json_lacks(reply->json, "items");
    reply_free(reply);
}

/* Takes a binding away, for as long as one check. */
static void check_without(const char *get, const char *path, const char *set, const char *role,
                          const char *end_of, const char *what)
{
    bool bare = strcmp(set, "PUT") == 0;
    char *get_path = textf("%s%s", path, bare ? "/iam" : POLICY);
    char *set_path = textf("%s%s", path, bare ? "/iam" : ":setIamPolicy");
    struct reply *before = ask(get, get_path, NULL);
    cJSON *policy = cJSON_Duplicate(before->json, 1), *bindings, *one, *next;
    bindings = cJSON_GetObjectItem(policy, "bindings");
    for (one = bindings->child; one; one = next) {
        next = one->next;
        if (strstr(json_text(one, "role"), role))
            cJSON_Delete(cJSON_DetachItemViaPointer(bindings, one));
    }
    cJSON_DeleteItemFromObject(policy, "etag");
    cJSON_DeleteItemFromObject(before->json, "etag");
    for (int i = 0; i < 2; i++) {
        char *text = cJSON_PrintUnformatted(i ? before->json : policy);
        char *body = bare ? strdup(text) : textf("{\"policy\":%s}", text);
        send(set, set_path, body);
        free(text);
        free(body);
        if (i == 0) {
            assert_int_equal(check(), 1);
            assert_said(end_of);
            assert_said(what);
            assert_said("It does not work yet.");
        }
    }
    cJSON_Delete(policy);
    reply_free(before);
    free(get_path);
    free(set_path);
}

/* What was bound or made a moment ago does not hold everywhere at once. */
static void waits_until_what_was_granted_holds(void **state)
{
    (void)state;
    furnish();
    cloud_control(cloud,
                  "{\"faults\":[{\"method\":\"storage.objects.insert\",\"status\":403,\"times\":2},"
                  "{\"method\":\"cloudkms.*.decrypt\",\"status\":403,\"times\":1}]}");
    int status = run("check --timeout 1 --wait 120", "");
    if (status != 0)
        fail_msg("%s", said);
    assert_said("waiting up to");
    assert_said("within minutes");
    assert_said("and Anthropic takes it");
    assert_said("Both ends work.");
    api_control(api, "{\"apiKeys\":[]}");
    assert_int_equal(check(), 1);
    assert_said("Anthropic refuses the API key");
}

static void says_which_end_is_broken_and_how(void **state)
{
    (void)state;
    furnish();
    check_without("GET", "/storage/v1/b/" BUCKET, "PUT", "objectUser",
                  "home: bucket: write, read, delete: FAILED", "storage.objects.create");
    check_without("GET", KEY_RING "/cryptoKeys/payload", "POST", "Encrypter",
                  "home: key: encrypt, and store a payload: FAILED", "useToEncrypt");
    check_without("GET", KEY_RING "/cryptoKeys/payload", "POST", "Decrypter",
                  "job: a payload, to its result: FAILED", "useToDecrypt");
    check_without("GET", "/v1/projects/" CLOUD_PROJECT "/secrets/claude-runner-api-key", "POST",
                  "secretAccessor", "job: a payload, to its result: FAILED",
                  "secretmanager.versions.access");
    check_without("GET", "/v2/" JOB, "POST", "claudeRunnerHome", "home: job: look at it: FAILED",
                  "run.jobs.get");
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", cloud->key_file); /* may look at it */
    cloud_control(cloud, "{\"noBilling\":1}");
    assert_int_equal(check(), 1);
    assert_said("home: billing: FAILED");
    assert_said("billing/linkedaccount?project=" CLOUD_PROJECT);
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", NULL);
    cloud_control(cloud, "{\"noBilling\":0,\"foreignImage\":1}");
    assert_int_equal(check(), 1);
    assert_said("job: a payload, to its result: FAILED");
    assert_said("--platform linux/amd64");
    cloud_control(cloud, "{\"foreignImage\":0}");
    assert_int_equal(check(), 0);
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", cloud->key_file);
    assert_run("setup --env CLAUDE_BIN=nothing-there", "", 0);
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", NULL);
    assert_int_equal(check(), 1);
    assert_said("job: a payload, to its result: FAILED");
    assert_said("nothing-there");
}

static void the_runner_works_with_what_was_set_up(void **state)
{
    (void)state;
    furnish();
    char *path = textf("%s/.env", dir), *text = read_file(path, NULL), *rest = text, *line;
    while ((line = strsep(&rest, "\n"))) {
        char *equals = strchr(line, '=');
        if (!equals)
            continue;
        *equals = '\0';
        runner_set(home, line, equals + 1);
    }
    for (size_t i = 0; admin->env[i]; i++)
        if (strncmp(admin->env[i], "GOOGLE_", 7) == 0) {
            char *copy = strdup(admin->env[i]), *equals = strchr(copy, '=');
            *equals = '\0';
            runner_set(home, copy, equals + 1);
            free(copy);
        }
    runner_start(home);
    struct reply *reply = runner_ran(home, "hello", "\"executor\":\"cloud\"");
    assert_json_text(reply->json, "executor", "cloud");
    reply_free(reply);
    free(text);
    free(path);
}

static bool is_at_google(void)
{
    char *argv[] = {(char[]){"/usr/bin/getent"}, (char[]){"hosts"},
                    (char[]){"metadata.google.internal"}, NULL};
    int status = -1;
    assert_true(proc_wait(proc_start(argv, admin->env, "/dev/null", "/dev/null"), 60000, &status));
    return status == 0;
}

/* Nobody has logged in here: both ways to a login are named, and at a terminal what Cloud Shell
 * prints can be pasted. */
static void without_a_login_both_ways_to_one_are_named(void **state)
{
    (void)state;
    if (is_at_google()) {
        print_message("skipped: this machine is at Google, where there is always a login\n");
        skip();
    }
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", NULL);
    runner_set(admin, "HOME", dir);
    assert_run("setup --project " CLOUD_PROJECT " --no-key", "", 2);
    assert_said("gcloud auth application-default login");
    assert_said("https://shell.cloud.google.com");
    assert_int_equal(writes(), 0);
    char *command =
        textf("script -qec \"'%s' cloud setup --project " CLOUD_PROJECT " --no-key\" /dev/null",
              binary());
    int status = end(begin_command(admin, command, CLOUD_TOKEN "\n"));
    if (status != 0)
        fail_msg("%d: %s", status, said);
    assert_said("https://shell.cloud.google.com");
    assert_said("Paste what that prints");
    assert_said("job claude-runner: created");
    free(command);
}

/* A token from elsewhere is a login, and whose project pays is said. */
static void a_token_from_elsewhere_is_a_login(void **state)
{
    (void)state;
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", NULL);
    runner_set(admin, "HOME", dir);
    runner_set(admin, "CLOUDSDK_AUTH_ACCESS_TOKEN", CLOUD_TOKEN);
    int status = run("setup --project " CLOUD_PROJECT " --no-key", "");
    if (status != 0)
        fail_msg("%s", said);
    assert_true(cloud_count(cloud, "serviceusage.services.list",
                            "\"X-Goog-User-Project\":\"" CLOUD_PROJECT "\"") > 0);
    runner_set(admin, "CLOUDSDK_AUTH_ACCESS_TOKEN", "ya29.over");
    assert_int_not_equal(run("setup --project " CLOUD_PROJECT " --no-key", ""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tries_both_ends),
        TEST(without_a_login_both_ways_to_one_are_named),
        TEST(a_token_from_elsewhere_is_a_login),
        TEST(waits_until_what_was_granted_holds),
        TEST(says_which_end_is_broken_and_how),
        TEST(the_runner_works_with_what_was_set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
