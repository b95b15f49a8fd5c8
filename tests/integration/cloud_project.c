/* Which project set-up takes or makes, what home may do with images, and keys that grow old. */
#include "cloud_scene.h"

#define CREATE "cloudresourcemanager.projects.create"
#define IMAGES "projects/" CLOUD_PROJECT "/roles/claudeRunnerHomeImages"

/* Whoever sets up is a person whose credentials name no project. */
static void be_a_person(void)
{
    char *text = read_file(cloud->user_file, NULL), *path = textf("%s/person.json", dir);
    cJSON *user = cJSON_Parse(text);
    cJSON_DeleteItemFromObject(user, "quota_project_id");
    char *plain = cJSON_PrintUnformatted(user);
    write_file(path, plain, 0600);
    runner_set(admin, "GOOGLE_APPLICATION_CREDENTIALS", path);
    cloud_control(cloud, "{\"enforceServices\":0}");
    send("POST", "/v3/projects/" CLOUD_PROJECT ":setIamPolicy",
         "{\"policy\":{\"bindings\":[{\"role\":\"roles/owner\",\"members\":["
         "\"user:owner@example.com\"]}]}}");
    cloud_control(cloud, "{\"enforceServices\":1}");
    forget_log();
    cJSON_Delete(user);
    free(plain);
    free(path);
    free(text);
}

static void takes_the_only_project_that_there_is(void **state)
{
    (void)state;
    be_a_person();
    assert_run("setup", KEY, 0);
    assert_said("project " CLOUD_PROJECT ": the only one there is");
    assert_complete();
}

static void lists_projects_when_there_are_several(void **state)
{
    (void)state;
    be_a_person();
    cloud_control(cloud, "{\"moreProjects\":3}");
    assert_run("setup", KEY, 2);
    assert_said("--project ID, one of: " CLOUD_PROJECT ", another-0");
    assert_int_equal(writes(), 0);
    assert_run("setup --project " CLOUD_PROJECT, KEY, 0);
}

static void makes_a_project_once_also_when_the_answer_is_lost(void **state)
{
    (void)state;
    be_a_person();
    cloud_control(cloud, "{\"noProject\":1}");
    assert_run("setup", KEY, 2);
    assert_said("There is none: --create-project ID");
    assert_run("setup --create-project NO", KEY, 2);
    cloud_control(cloud, "{\"faults\":[{\"method\":\"" CREATE "\",\"cut\":\"after\"}]}");
    assert_run("setup --create-project " CLOUD_PROJECT, KEY, 1);
    assert_run("setup --create-project " CLOUD_PROJECT, KEY, 0);
    assert_said("project " CLOUD_PROJECT ": there");
    assert_int_equal(cloud_count(cloud, CREATE, "\"" CLOUD_PROJECT "\""), 1);
    assert_complete();
}

/* A person's calls are charged to the project that is set up. */
static void each_call_names_the_project_that_pays(void **state)
{
    (void)state;
    be_a_person();
    assert_run("setup --project " CLOUD_PROJECT, KEY, 0);
    cJSON *log = cloud_log(cloud, NULL, NULL), *one;
    int count = 0;
    cJSON_ArrayForEach(one, log)
    {
        const char *id = json_text(one, "id");
        const char *pays = cJSON_GetStringValue(
            cJSON_GetObjectItem(cJSON_GetObjectItem(one, "headers"), "x-goog-user-project"));
        if (!*id || strcmp(id, "token") == 0 || strcmp(id, "upload") == 0)
            continue;
        if (!pays || strcmp(pays, CLOUD_PROJECT) != 0)
            fail_msg("%s is charged to %s", id, pays ? pays : "nobody");
        count++;
    }
    assert_true(count > 30);
    cJSON_Delete(log);
}

static void home_may_make_jobs_only_when_that_is_asked_for(void **state)
{
    (void)state;
    assert_run("setup", KEY, 0);
    assert_members("POST", ALL_POLICY, IMAGES, "");
    assert_run("setup --images", "", 0);
    assert_said("role claudeRunnerHomeImages: created");
    assert_members("POST", ALL_POLICY, IMAGES, "serviceAccount:" HOME);
    assert_complete();
    assert_run("down --yes", "", 0);
    assert_members("POST", ALL_POLICY, IMAGES, "");
}

/* ---- the service at Google ---- */

#define SERVICE "/v2/" CLOUD_LOCATION "/services/claude-runner"

static void the_service_is_the_same_image_behind_a_secret_of_its_own(void **state)
{
    (void)state;
    assert_run("setup --service", KEY, 0);
    assert_said("https://claude-runner-");
    struct reply *reply = look(SERVICE), *job = look("/v2/" JOB);
    assert_json_text(reply->json, "template.containers.0.image",
                     json_text(job->json, "template.template.containers.0.image"));
    assert_json_text(reply->json, "template.containers.0.command.3", "serve");
    assert_json_text(reply->json, "template.serviceAccount", HOME);
    assert_json_number(reply->json, "template.scaling.minInstanceCount", 0);
    char *text = cJSON_PrintUnformatted(reply->json);
    assert_non_null(strstr(text, "\"secret\":\"claude-runner-service\""));
    assert_non_null(strstr(text, "CLOUD_SERVICE"));
    assert_null(strstr(text, "\"PORT\""));
    free(text);
    reply_free(reply);
    reply_free(job);
    assert_members("GET", SERVICE POLICY, "roles/run.invoker", "");
    forget_log();
    assert_run("setup --service", "", 0);
    assert_int_equal(writes(), 0);
    assert_run("setup --service --public", "", 0);
    assert_members("GET", SERVICE POLICY, "roles/run.invoker", "allUsers");
    assert_run("down --yes", "", 0);
    reply = ask("GET", SERVICE, NULL);
    assert_status(reply, 404);
    reply_free(reply);
}

/* ---- keys ---- */

static char *key_id(void)
{
    char *path = textf("%s/claude-runner-key.json", dir), *text = read_file(path, NULL);
    cJSON *key = cJSON_Parse(text);
    char *id = strdup(json_text(key, "private_key_id"));
    cJSON_Delete(key);
    free(text);
    free(path);
    return id;
}

static int key_status(const char *id)
{
    char *path = textf("/v1/projects/" CLOUD_PROJECT "/serviceAccounts/" HOME "/keys/%s", id);
    struct reply *reply = ask("GET", path, NULL);
    int status = reply->status;
    reply_free(reply);
    free(path);
    return status;
}

static void a_key_of_ninety_days_is_replaced_and_deleted_a_day_later(void **state)
{
    (void)state;
    assert_run("setup", KEY, 0);
    char *old = key_id();
    cloud_control(cloud, "{\"keyAgeDays\":89}");
    assert_run("setup", "", 0);
    cloud_control(cloud, "{\"keyAgeDays\":90}");
    assert_run("setup", "", 0);
    assert_said("changed: it is older than 90 days");
    char *fresh = key_id();
    assert_string_not_equal(old, fresh);
    assert_int_equal(key_status(old), 200); /* a runner may still sign with it */
    cloud_control(cloud, "{\"keyAgeDays\":0}");
    assert_run("setup", "", 0);
    assert_int_equal(key_status(old), 200);
    cloud_control(cloud, "{\"keyAgeDays\":2}");
    assert_run("setup", "", 0);
    assert_said("the key before it is deleted");
    assert_int_equal(key_status(old), 404);
    assert_int_equal(key_status(fresh), 200);
    assert_complete();
    free(old);
    free(fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(takes_the_only_project_that_there_is),
        TEST(lists_projects_when_there_are_several),
        TEST(makes_a_project_once_also_when_the_answer_is_lost),
        TEST(each_call_names_the_project_that_pays),
        TEST(home_may_make_jobs_only_when_that_is_asked_for),
        TEST(the_service_is_the_same_image_behind_a_secret_of_its_own),
        TEST(a_key_of_ninety_days_is_replaced_and_deleted_a_day_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
