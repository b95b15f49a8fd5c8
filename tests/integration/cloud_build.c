/* The image of the cloud job, made by Cloud Build out of what the program carries. */
#include "cloud_scene.h"

#include <signal.h>
#include <stdio.h>

#define BUILDER "claude-runner-build@" CLOUD_PROJECT ".iam.gserviceaccount.com"
#define REPOSITORY CLOUD_LOCATION "/repositories/claude-runner"
#define CREATE "cloudbuild.projects.builds.create"

static cJSON *the_build(void)
{
    struct reply *reply = look("/v1/projects/" CLOUD_PROJECT "/builds");
    cJSON *build = cJSON_Duplicate(json_at(reply->json, "builds.0"), 1);
    assert_non_null(build);
    reply_free(reply);
    return build;
}

static char *image_of_the_job(void)
{
    struct reply *reply = look("/v2/" JOB);
    char *image = strdup(json_text(reply->json, "template.template.containers.0.image"));
    reply_free(reply);
    return image;
}

/* ---- what is asked for ---- */

static void asks_for_an_image_for_linux_amd64_of_the_sources_in_the_bucket(void **state)
{
    (void)state;
    assert_run("setup", KEY, 0);
    cJSON *build = the_build();
    assert_json_text(build, "source.storageSource.bucket", BUCKET);
    assert_json_text(build, "steps.0.name", "gcr.io/cloud-builders/docker");
    assert_json_text(build, "steps.0.args.2", "linux/amd64");
    assert_json_text(build, "options.logging", "CLOUD_LOGGING_ONLY");
    assert_json_text(build, "serviceAccount",
                     "projects/" CLOUD_PROJECT "/serviceAccounts/" BUILDER);
    char *image = image_of_the_job();
    assert_non_null(strstr(image, json_text(build, "results.images.0.digest")));
    free(image);
    cJSON_Delete(build);
    assert_int_equal(cloud_count(cloud, CREATE, NULL), 1);
}

/* Google's own clients define these messages: what is sent to make them has no other members. */
static void sends_what_googles_clients_would(void **state)
{
    (void)state;
    static const struct {
        const char *method, *package, *message;
    } sent[] = {
        {CREATE, "cloudbuild", "google.devtools.cloudbuild.v1.Build"},
        {"run.projects.locations.jobs.create", "run", "google.cloud.run.v2.Job"},
        {"run.projects.locations.services.create", "run", "google.cloud.run.v2.Service"},
        {"compute.firewalls.insert", "compute", "google.cloud.compute.v1.Firewall"},
    };
    if (access(TEST_GOOGLE_CLIENTS "/node_modules", R_OK))
        SKIP_BECAUSE("tests/google has no node_modules (tests/setup)");
    assert_run("setup --service --env A=b --vpc default/default", KEY, 0);
    for (size_t i = 0; i < COUNT(sent); i++) {
        int status;
        cJSON *log = cloud_log(cloud, sent[i].method, NULL);
        char *path = textf("%s/sent.json", dir), *out = textf("%s/shape", dir);
        char *body =
            cJSON_PrintUnformatted(cJSON_GetObjectItem(cJSON_GetArrayItem(log, 0), "body"));
        write_file(path, body, 0600);
        char *command = textf("node '" TEST_GOOGLE_CLIENTS "/shapes.mjs' %s %s <'%s' >'%s' 2>&1",
                              sent[i].package, sent[i].message, path, out);
        char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
        assert_true(proc_wait(proc_start(argv, environ, NULL, NULL), 60000, &status));
        char *said_there = read_file(out, NULL);
        if (status)
            fail_msg("%s: %.2000s: %.2000s", sent[i].message, said_there, body);
        free(said_there);
        free(command);
        free(body);
        free(path);
        free(out);
        cJSON_Delete(log);
    }
}

/* All that the Dockerfile takes is in the archive, and it is what the program was built of. */
static void the_archive_holds_what_the_dockerfile_takes(void **state)
{
    (void)state;
    static const char *const files[] = {
        "CMakeLists.txt",     "runner/Dockerfile",       "runner/packages",
        "runner/main.c",      "runner/install-claude",   "runner/install-packages",
        "runner/install-web", "runner/web/package.json", "tests/cli/package-lock.json",
        "shared/base/err.h",  "runner/source/pack",      "runner/web/package-lock.json"};
    assert_run("setup", KEY, 0);
    cJSON *build = the_build();
    char *path = textf("/storage/v1/b/" BUCKET "/o/builds%%2F%s?alt=media",
                       strchr(json_text(build, "source.storageSource.object"), '/') + 1);
    struct reply *reply = look(path);
    char *archive = textf("%s/source.tgz", dir), *list = textf("%s/list", dir);
    FILE *out = fopen(archive, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(reply->body, 1, reply->body_size, out), reply->body_size);
    assert_int_equal(fclose(out), 0);
    char *command = textf("tar -tzf '%s' >'%s' && cd '%s' && tar -xzf source.tgz && "
                          "cmp runner/main.c '" TEST_SOURCE "/runner/main.c' && "
                          "test -x runner/install-claude",
                          archive, list, dir);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    int status;
    assert_true(proc_wait(proc_start(argv, admin->env, NULL, NULL), 60000, &status));
    assert_int_equal(status, 0);
    char *names = read_file(list, NULL);
    for (size_t i = 0; i < COUNT(files); i++)
        if (!strstr(names, files[i]))
            fail_msg("%s is not in the archive", files[i]);
    assert_null(strstr(names, "node_modules/"));
    free(names);
    free(command);
    free(archive);
    free(list);
    reply_free(reply);
    free(path);
    cJSON_Delete(build);
}

static void an_image_that_is_given_is_taken_and_nothing_is_built(void **state)
{
    (void)state;
    assert_run("setup --image example.com/runner:1", KEY, 0);
    char *image = image_of_the_job();
    assert_string_equal(image, "example.com/runner:1");
    free(image);
    assert_int_equal(cloud_count(cloud, CREATE, NULL), 0);
    assert_run("setup --no-build", "", 0);
    image = image_of_the_job();
    assert_string_equal(image, "example.com/runner:1");
    free(image);
    assert_said("docker build --target job");
    assert_run("setup", "", 0);
    assert_said("job claude-runner: changed: image");
    assert_complete();
}

/* ---- cut off ---- */

static void waits_for_the_build_that_an_earlier_run_has_begun(void **state)
{
    (void)state;
    int status;
    cloud_control(cloud, "{\"buildMs\":600000}");
    pid_t pid = begin(admin, "setup", KEY);
    EVENTUALLY(120000, cloud_count(cloud, CREATE, NULL) == 1);
    kill(pid, SIGKILL);
    assert_true(proc_wait(pid, 30000, &status));
    pid = begin(admin, "setup", KEY);
    EVENTUALLY(120000, cloud_count(cloud, "cloudbuild.projects.builds.get", NULL) >= 3);
    cloud_control(cloud, "{\"buildMs\":0}");
    assert_int_equal(end(pid), 0);
    assert_int_equal(cloud_count(cloud, CREATE, NULL), 1);
    assert_complete();
}

static void a_build_that_fails_shows_the_end_of_its_log(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"failBuild\":1}");
    assert_run("setup", KEY, 1);
    assert_said("returned a non-zero code: 2");
    assert_said("Step 1/9 : FROM debian");
    assert_said("Cloud Build: FAILURE");
    cloud_control(cloud, "{\"failBuild\":0}");
    assert_run("setup", KEY, 0);
    assert_complete();
}

/* ---- what is not known everywhere yet ---- */

static void tries_again_while_its_grants_are_not_known_yet(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"grantDelayMs\":15000}");
    assert_run("setup", KEY, 0);
    assert_said("is not known at Cloud Build yet");
    assert_complete();
}

static void waits_for_billing_and_says_where_it_is_switched_on(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"noBilling\":1}");
    pid_t pid = begin(admin, "setup", KEY);
    EVENTUALLY(120000, cloud_count(cloud, "cloudbilling.projects.getBillingInfo", NULL) >= 1);
    cloud_control(cloud, "{\"noBilling\":0}");
    assert_int_equal(end(pid), 0);
    assert_said("billing/linkedaccount?project=" CLOUD_PROJECT);
    assert_complete();
}

static void down_takes_the_builder_away(void **state)
{
    (void)state;
    assert_run("setup", KEY, 0);
    assert_run("down --yes", "", 0);
    struct reply *reply =
        ask("GET", "/v1/projects/" CLOUD_PROJECT "/serviceAccounts/" BUILDER, NULL);
    assert_status(reply, 404);
    reply_free(reply);
    reply = ask("GET", "/v1/" REPOSITORY, NULL);
    assert_status(reply, 404);
    reply_free(reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(asks_for_an_image_for_linux_amd64_of_the_sources_in_the_bucket),
        TEST(sends_what_googles_clients_would),
        TEST(the_archive_holds_what_the_dockerfile_takes),
        TEST(an_image_that_is_given_is_taken_and_nothing_is_built),
        TEST(waits_for_the_build_that_an_earlier_run_has_begun),
        TEST(a_build_that_fails_shows_the_end_of_its_log),
        TEST(tries_again_while_its_grants_are_not_known_yet),
        TEST(waits_for_billing_and_says_where_it_is_switched_on),
        TEST(down_takes_the_builder_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
