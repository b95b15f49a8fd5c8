#include "google_token_scene.h"

#include "base/strlist.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char *write_credentials(struct world *w, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static char *write_credentials(struct world *w, const char *name, const char *fmt, ...)
{
    char *path = NULL;
    va_list ap;
    assert_true(asprintf(&path, "%s/%s", google_peer_dir(w->peer), name) > 0);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    va_start(ap, fmt);
    vfprintf(file, fmt, ap);
    va_end(ap);
    fclose(file);
    return path;
}

static struct google *client(struct world *w, const char *path, const char *impersonate,
                             struct err *err)
{
    struct google_config config = {.credentials = path, .impersonate = impersonate};
    for (int i = 0; i < GOOGLE_API_COUNT; i++)
        config.endpoints[i] = google_peer_url(w->peer);
    return google_new(&config, err);
}

static void a_persons_login_is_refreshed_and_pays_with_its_project(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(str)
    char *path = write_credentials(
        w, "user.json",
        "{\"type\":\"authorized_user\",\"client_id\":\"id&1\",\"client_secret\":\"s3=cret\","
        "\"refresh_token\":\"1//r\",\"quota_project_id\":\"payer\",\"token_uri\":\"%s/token\"}",
        google_peer_url(w->peer));
    AUTO(google) struct google *google = client(w, path, NULL, &err);
    if (!google)
        fail_msg("%s", err.msg);
    must_call(google);
    AUTO(str) char *question = google_peer_token_question(w->peer);
    assert_string_equal(question, "grant_type=refresh_token&client_id=id%261&client_secret="
                                  "s3%3Dcret&refresh_token=1%2F%2Fr");
    AUTO(str) char *last = google_peer_last(w->peer);
    assert_non_null(strstr(last, "X-Goog-User-Project: payer\r\n"));
    assert_string_equal(google_identity(google), "a person's login");
}

/* The parts of IAM Credentials that the client uses. */
static bool impersonate(struct loopback_call *call, const char *body, void *arg)
{
    _Atomic int *wrong = arg;
    char until[CLOCK_TEXT_SIZE], text[256];
    if (strstr(call->path, "/v2/"))
        return loopback_answer(call, 200, "", "{}");
    if (strcmp(call->path, "/v1/projects/-/serviceAccounts/"
                           "job%40p.iam.gserviceaccount.com:generateAccessToken") != 0 ||
        !strstr(body, "\"scope\":[\"https://www.googleapis.com/auth/cloud-platform\"]") ||
        !strstr(body, "\"lifetime\":\"3600s\""))
        (*wrong)++;
    /* the source's own token is returned as the impersonated one, because the peer knows it */
    char token[128];
    loopback_header(call, "Authorization", token, sizeof(token));
    clock_format(clock_real_ms() + 3600000, until);
    snprintf(text, sizeof(text), "{\"accessToken\":\"%s\",\"expireTime\":\"%s\"}", token + 7,
             until);
    return loopback_answer(call, 200, "", text);
}

static void a_service_account_is_impersonated_by_file_and_by_configuration(void **state)
{
    (void)state;
    _Atomic int wrong = 0;
    struct world w = {.peer = google_peer_start(impersonate, &wrong)};
    AUTO(str) char *key = NULL;
    AUTO(str)
    char *file = write_credentials(
        &w, "as.json",
        "{\"type\":\"impersonated_service_account\",\"delegates\":[],"
        "\"service_account_impersonation_url\":\"https://iamcredentials.googleapis.com/v1/projects/"
        "-/serviceAccounts/job@p.iam.gserviceaccount.com:generateAccessToken\","
        "\"source_credentials\":{\"type\":\"service_account\",\"private_key\":\"%s\","
        "\"client_email\":\"a@b\",\"token_uri\":\"%s/token\"}}",
        google_peer_key(w.peer), google_peer_url(w.peer));
    assert_true(asprintf(&key, "%s/key.json", google_peer_dir(w.peer)) > 0);
    for (int i = 0; i < 2; i++) {
        struct err err = ERR_INIT;
        AUTO(google)
        struct google *google =
            client(&w, i ? key : file, i ? "job@p.iam.gserviceaccount.com" : NULL, &err);
        if (!google)
            fail_msg("%s", err.msg);
        must_call(google);
        must_call(google);
        assert_non_null(
            strstr(google_identity(google), " as service account job@p.iam.gserviceaccount.com"));
        /* the source's token is refused: both tokens are fetched again */
        google_peer_revoke(w.peer);
        must_call(google);
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(google_peer_tokens(w.peer), 4);
    google_peer_stop(w.peer);
}

static void the_metadata_server_gives_a_token_when_there_is_no_file(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    char home[128];
    snprintf(home, sizeof(home), "%s/nobody", google_peer_dir(w->peer));
    struct google_config config = {.home = home, .metadata_host = google_peer_url(w->peer) + 7};
    for (int i = 0; i < GOOGLE_API_COUNT; i++)
        config.endpoints[i] = google_peer_url(w->peer);
    AUTO(google) struct google *google = google_new(&config, &err);
    if (!google)
        fail_msg("%s", err.msg);
    assert_int_equal(google_peer_count(w->peer, ""), 0);
    must_call(google);
    assert_int_equal(
        google_peer_count(w->peer,
                          "TOKEN /computeMetadata/v1/instance/service-accounts/default/token"),
        1);
    assert_string_equal(google_identity(google), "the metadata server's service account");
    assert_null(google_project(google));
}

static bool no_flavor(struct loopback_call *call, void *arg)
{
    _Atomic int *asked = arg;
    char flavor[32];
    if (loopback_header(call, "Metadata-Flavor", flavor, sizeof(flavor)))
        (*asked)++;
    return loopback_answer(call, 200, "Metadata-Flavor: Other\r\n",
                           "{\"access_token\":\"a\",\"expires_in\":3600}");
}

static void who_is_no_metadata_server_of_googles_is_not_believed(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    _Atomic int asked = 0;
    struct loopback *server = loopback_start(no_flavor, &asked);
    AUTO(str) char *url = loopback_url(server, "");
    struct google_config config = {.metadata_host = url + 7};
    config.endpoints[GOOGLE_RUN] = url;
    AUTO(google) struct google *google = google_new(&config, &err);
    assert_int_equal(call(google, &err), -1);
    assert_non_null(strstr(err.msg, "no metadata server of Google's"));
    assert_int_equal(asked, 1);
    loopback_stop(server);
}

/* The metadata server as a starting container may find it: first unreachable, then busy, then
 * ready. */
static bool late(struct loopback_call *call, void *arg)
{
    _Atomic int *asked = arg;
    int turn = (*asked)++;
    if (turn == 0)
        return loopback_answer(call, 404, "", "Not Found");
    if (turn == 1)
        return loopback_answer(call, 503, "Metadata-Flavor: Google\r\n", "");
    return loopback_answer(call, 200, "Metadata-Flavor: Google\r\n",
                           "{\"access_token\":\"a\",\"expires_in\":3600}");
}

static void a_metadata_server_that_is_late_is_waited_for(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    _Atomic int asked = 0;
    struct loopback *server = loopback_start(late, &asked);
    AUTO(str) char *url = loopback_url(server, "");
    struct google_config config = {.metadata_host = url + 7, .at_google = true};
    AUTO(google) struct google *google = google_new(&config, &err);
    if (!google || google_login(google, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(asked, 3);
    loopback_stop(server);
}

static void a_token_that_was_given_is_used_once_and_never_renewed(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    struct google_config config = {.metadata_host = google_peer_url(w->peer) + 7};
    AUTO(google) struct google *google = google_new(&config, &err);
    if (!google || google_use_token(google, "ya29.given", &err) || google_login(google, &err) ||
        google_login(google, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(google_identity(google), "an access token that was given");
    assert_int_equal(google_peer_tokens(w->peer), 0);
}

static void gclouds_own_login_is_found(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    char home[256];
    snprintf(home, sizeof(home), "%s/.config", google_peer_dir(w->peer));
    mkdir(home, 0700);
    snprintf(home, sizeof(home), "%s/.config/gcloud", google_peer_dir(w->peer));
    mkdir(home, 0700);
    free(write_credentials(
        w, ".config/gcloud/application_default_credentials.json",
        "{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"s\","
        "\"refresh_token\":\"r\",\"token_uri\":\"%s/"
        "token\",\"universe_domain\":\"googleapis.com\"}",
        google_peer_url(w->peer)));
    struct google_config config = {.home = google_peer_dir(w->peer)};
    for (int i = 0; i < GOOGLE_API_COUNT; i++)
        config.endpoints[i] = google_peer_url(w->peer);
    AUTO(google) struct google *google = google_new(&config, &err);
    if (!google)
        fail_msg("%s", err.msg);
    must_call(google);
}

/* --- what is wrong with a file -------------------------------------------------------------- */

#define KEY_REST "\"client_email\":\"a@b\",\"private_key\":\"hunter2\""

static void a_malformed_file_is_refused_with_what_is_wrong_and_no_secret(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "JSON"},
        {"hunter2", "JSON"},
        {"[]", "\"type\" is missing"},
        {"{\"type\":5}", "\"type\" is missing"},
        {"{\"type\":\"hunter2\"}", "none of service_account, authorized_user"},
        {"{\"type\":\"external_account\"}", "workload identity federation"},
        {"{\"type\":\"external_account_authorized_user\"}", "is not supported"},
        {"{\"type\":\"service_account\"}", "\"client_email\" is missing"},
        {"{\"type\":\"service_account\",\"client_email\":\"a@b\"}", "\"private_key\" is missing"},
        {"{\"type\":\"service_account\"," KEY_REST "}", "\"private_key\": no unencrypted RSA"},
        {"{\"type\":\"service_account\"," KEY_REST ",\"token_uri\":\"http://192.0.2.1/\"}",
         "\"token_uri\" is no https URL"},
        {"{\"type\":\"service_account\"," KEY_REST ",\"token_uri\":\"https://u:hunter2@x/\"}",
         "\"token_uri\" is no https URL"},
        {"{\"type\":\"service_account\"," KEY_REST ",\"token_uri\":7}", "\"token_uri\""},
        {"{\"type\":\"service_account\"," KEY_REST ",\"universe_domain\":\"other.example\"}",
         "\"universe_domain\""},
        {"{\"type\":\"authorized_user\",\"client_id\":\"x\"}", "\"client_secret\" is missing"},
        {"{\"type\":\"authorized_user\",\"client_id\":\"x\",\"client_secret\":\"hunter2\"}",
         "\"refresh_token\" is missing"},
        {"{\"type\":\"impersonated_service_account\"}", "names no service account"},
        {"{\"type\":\"impersonated_service_account\",\"service_account_impersonation_url\":"
         "\"https://x/serviceAccounts/a@b:generateAccessToken\"}",
         "\"source_credentials\" are missing"},
        {"{\"type\":\"impersonated_service_account\",\"service_account_impersonation_url\":"
         "\"https://x/serviceAccounts/a@b:generateAccessToken\",\"source_credentials\":{\"type\":"
         "\"impersonated_service_account\"}}",
         "\"source_credentials\": \"type\" is none of"},
        {"{\"type\":\"service_account\",\"type\":\"service_account\"}", "JSON"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(str) char *path = write_credentials(w, "bad.json", "%s", cases[i].text);
        AUTO(google) struct google *google = client(w, path, NULL, &err);
        if (google || err.code != ERR_CONFIG || !strstr(err.msg, cases[i].words) ||
            strstr(err.msg, "hunter2"))
            fail_msg("%s: %s", cases[i].text, err.msg);
    }
}

static void a_file_that_is_named_has_to_be_there(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    assert_null(client(w, "/nonexistent/key.json", NULL, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_null(client(w, "/dev/null", NULL, &err));
    assert_int_equal(err.code, ERR_CONFIG);
}

static void endpoints_are_https_or_on_loopback(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *url;
        bool good;
    } cases[] = {
        {"https://x.example", true},  {"https://x.example/", true},
        {"http://127.0.0.1:1", true}, {"http://[::1]:1/base", true},
        {"http://x.example", false},  {"http://192.168.1.1", false},
        {"https://u:p@x", false},     {"x", false},
        {"https://x?y", false},       {"https://x/#y", false},
        {"ftp://127.0.0.1", false},   {"https://", false},
    };
    AUTO(str) char *path = NULL;
    assert_true(asprintf(&path, "%s/key.json", google_peer_dir(w->peer)) > 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        struct google_config config = {.credentials = path};
        config.endpoints[GOOGLE_KMS] = cases[i].url;
        AUTO(google) struct google *google = google_new(&config, &err);
        if (!google != !cases[i].good)
            fail_msg("%s: %s", cases[i].url, err.msg);
        if (!google)
            assert_non_null(strstr(err.msg, "the endpoint of Cloud KMS"));
    }
}

int main(void)
{
    clock_use(&test_clock);
    const struct CMUnitTest tests[] = {
        TEST(a_persons_login_is_refreshed_and_pays_with_its_project),
        TEST(a_service_account_is_impersonated_by_file_and_by_configuration),
        TEST(the_metadata_server_gives_a_token_when_there_is_no_file),
        TEST(a_metadata_server_that_is_late_is_waited_for),
        TEST(a_token_that_was_given_is_used_once_and_never_renewed),
        TEST(who_is_no_metadata_server_of_googles_is_not_believed),
        TEST(gclouds_own_login_is_found),
        TEST(a_malformed_file_is_refused_with_what_is_wrong_and_no_secret),
        TEST(a_file_that_is_named_has_to_be_there),
        TEST(endpoints_are_https_or_on_loopback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
