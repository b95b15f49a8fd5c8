/*
 * Smaller promises of overflow: a conversation continues in either place, damaged results are
 * requested again, a late payload is swept, and an unreadable system prompt stops no task.
 */
#include "cloud.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN "run.projects.locations.jobs.run"
#define GET "storage.objects.get"
#define PUT "storage.objects.insert"
#define DECRYPT "cloudkms.projects.locations.keyRings.cryptoKeys.decrypt"
#define ENCRYPT "cloudkms.projects.locations.keyRings.cryptoKeys.encrypt"
#define ACCESS "secretmanager.projects.secrets.versions.access"
#define AWAY "\"executor\":\"cloud\""
#define PAYLOAD "/storage/v1/b/" CLOUD_BUCKET "/o/sessions%2Flate%2Fpayload.enc"

enum { END_MS = 150000 };

static struct api *api;
static struct cloud *cloud;
static struct runner *runner; /* at home */
static struct runner *there;  /* never started: the places and variables of executions */

static int set_up(void **state)
{
    (void)state;
    const char *binary = getenv("CR_BINARY");
    api = NULL;
    runner = runner_new_real(&api);
    there = runner_new_real(&api);
    cloud = cloud_new(binary ? binary : TEST_RUNNER, NULL);
    cloud_furnish(cloud, API_KEY "\n");
    cloud_use(cloud, there);
    runner_set(there, "ANTHROPIC_UPSTREAM", api->base);
    assert_int_equal(mkdir(there->state, 0711), 0);
    cloud_define_job(cloud, there);
    cloud_use(cloud, runner);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"faults\":[],\"release\":1}");
    runner_free(runner);
    cloud_free(cloud);
    runner_free(there);
    api_free(api);
    return 0;
}

static void faults(const char *list)
{
    char *json = textf("{\"faults\":[%s]}", list);
    cloud_control(cloud, json);
    free(json);
}

static char *run_at(const char *place, const char *prompt, const char *session)
{
    char *more = session ? textf("\"executor\":\"%s\",\"resumeSessionId\":\"%s\"", place, session)
                         : textf("\"executor\":\"%s\"", place);
    struct reply *reply = runner_ran(runner, prompt, more);
    assert_json_bool(reply->json, "success", true);
    assert_json_text(reply->json, "executor", place);
    char *id = strdup(json_text(reply->json, "sessionId"));
    assert_int_equal(strlen(id), 36);
    if (session)
        assert_string_equal(id, session);
    reply_free(reply);
    free(more);
    return id;
}

static void a_session_goes_on_in_either_place(void **state)
{
    (void)state;
    runner_start(runner);
    char *session = run_at("cloud", "[[text:I will]] Remember heron1", NULL);
    free(run_at("local", "[[text:yes]] goonmark1", session));
    assert_asked(api, "goonmark1", "messages", "Remember heron1");
    free(run_at("cloud", "[[text:yes]] goonmark2", session));
    assert_asked(api, "goonmark2", "messages", "Remember heron1");
    assert_asked(api, "goonmark2", "messages", "goonmark1");
    runner_crash(runner);
    runner_start(runner);
    free(run_at("cloud", "[[text:yes]] goonmark3", session));
    assert_asked(api, "goonmark3", "messages", "goonmark2");
    free(session);
    session = run_at("local", "[[text:I will]] Remember heron2", NULL);
    free(run_at("cloud", "[[text:yes]] goonmark4", session));
    assert_asked(api, "goonmark4", "messages", "Remember heron2");
    free(session);
}

static void what_arrives_changed_is_asked_for_again(void **state)
{
    (void)state;
    runner_start(runner);
    faults("{\"method\":\"" GET "\",\"pathContains\":\"payload.enc\",\"wrongCrc\":true},"
           "{\"method\":\"" DECRYPT "\",\"wrongCrc\":true},"
           "{\"method\":\"" ENCRYPT "\",\"wrongCrc\":true},"
           "{\"method\":\"" ACCESS "\",\"wrongCrc\":true}");
    struct reply *reply = runner_ran(runner, "[[text:good]] again", AWAY);
    assert_json_bool(reply->json, "success", true);
    assert_json_number(reply->json, "cloud.attempt", 1);
    reply_free(reply);
    assert_true(cloud_count(cloud, ACCESS, NULL) >= 2);
    assert_true(cloud_count(cloud, DECRYPT, NULL) >= 2);
}

static bool payload_is_gone(void)
{
    struct reply *reply = cloud_call(cloud, "GET", PAYLOAD, NULL);
    bool gone = reply->status == 404;
    reply_free(reply);
    return gone;
}

/* The first upload of the payload reaches Google late: it takes effect when the task is over. */
static void a_payload_that_lands_late_replaces_nothing_and_is_swept(void **state)
{
    (void)state;
    runner_start(runner);
    faults("{\"method\":\"" PUT "\",\"pathContains\":\"payload.enc\",\"hold\":true}");
    struct reply *reply = runner_ran(runner, "[[text:good]] late", AWAY ",\"taskId\":\"late\"");
    assert_json_bool(reply->json, "success", true);
    reply_free(reply);
    cloud_control(cloud, "{\"release\":1}");
    EVENTUALLY(END_MS, cloud_count(cloud, PUT, "payload.enc") >= 2);
    EVENTUALLY(END_MS, payload_is_gone());
}

static bool is_degraded_by_the_prompt(void)
{
    struct reply *reply = runner_get(runner, "/health");
    bool degraded = strstr(reply->body, "system_prompt_unreadable") != NULL;
    reply_free(reply);
    return degraded;
}

static void a_prompt_that_cannot_be_read_degrades_and_stops_nobody(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_ACCOUNT
                         "\",\"permissions\":[\"secretmanager.versions.access\"]}}");
    runner_set(runner, "SYSTEM_PROMPT_SECRET", CLOUD_SECRET);
    runner_set(runner, "SYSTEM_PROMPT_POLL_SECONDS", "1");
    runner_start(runner);
    struct reply *reply = runner_ran(runner, "[[text:good]] without", "");
    assert_json_bool(reply->json, "success", true);
    reply_free(reply);
    EVENTUALLY(END_MS, is_degraded_by_the_prompt());
    reply = runner_get(runner, "/health");
    assert_json_text(reply->json, "status", "degraded");
    reply_free(reply);
    cloud_control(cloud, "{\"allow\":{\"account\":\"" CLOUD_ACCOUNT
                         "\",\"permissions\":[\"secretmanager.versions.access\"]}}");
    EVENTUALLY(END_MS, !is_degraded_by_the_prompt());
    reply = runner_ran(runner, "[[text:good]] withprompt", "");
    reply_free(reply);
    assert_asked(api, "withprompt", "system", API_KEY);
}

static bool home_is_held(void)
{
    cJSON *json = cloud_state(cloud);
    bool held = json_number(json, "held") == 1;
    cJSON_Delete(json);
    return held;
}

/* An attacker who has the runner's own key starts the job as the runner does, with one more
 * variable. */
static void an_override_does_not_lead_the_key_elsewhere(void **state)
{
    (void)state;
    struct api *thief = api_new();
    runner_start(runner);
    faults("{\"method\":\"" RUN "\",\"hold\":true}");
    char *id = runner_submit(runner, "[[text:good]] stolenmark", AWAY);
    EVENTUALLY(END_MS, home_is_held());
    char *body = textf("{\"overrides\":{\"containerOverrides\":[{\"env\":["
                       "{\"name\":\"TASK_ID\",\"value\":\"%s\"},"
                       "{\"name\":\"TASK_ATTEMPT\",\"value\":\"1\"},"
                       "{\"name\":\"ANTHROPIC_UPSTREAM\",\"value\":\"%s\"}]}]}}",
                       id, thief->base);
    struct reply *reply = cloud_call(cloud, "POST", "/v2/" CLOUD_JOB_NAME ":run", body);
    assert_status(reply, 200);
    reply_free(reply);
    EVENTUALLY(END_MS, cloud_count(cloud, PUT, "result.json") > 0);
    cloud_control(cloud, "{\"release\":1}");
    runner_await(runner, id, "completed", END_MS);
    assert_asked(api, "stolenmark", "messages", "stolenmark");
    cJSON *asked = api_log(thief, "stolenmark");
    assert_int_equal(cJSON_GetArraySize(asked), 0);
    cJSON_Delete(asked);
    free(body);
    free(id);
    api_free(thief);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_session_goes_on_in_either_place),
        TEST(what_arrives_changed_is_asked_for_again),
        TEST(a_payload_that_lands_late_replaces_nothing_and_is_swept),
        TEST(an_override_does_not_lead_the_key_elsewhere),
        TEST(a_prompt_that_cannot_be_read_degrades_and_stops_nobody),
    };
    return cmocka_run_group_tests_name("overflow_care", tests, NULL, NULL);
}
