/* Credentials and access tokens. */
#include "google/google.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/strlist.h"
#include "crypto/crypto.h"
#include "google_peer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define CALLERS 16

/* --- a clock that can be set ahead ---------------------------------------------------------- */

static _Atomic int64_t ahead_ms;

static int64_t mono_us(void *arg)
{
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((int64_t)now.tv_sec * 1000 + ahead_ms) * 1000 + now.tv_nsec / 1000;
}

static int64_t real_ms(void *arg)
{
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + ahead_ms + now.tv_nsec / 1000000;
}

static const struct clock test_clock = {mono_us, real_ms, NULL};

/* --- the world ------------------------------------------------------------------------------ */

static bool say_ok(struct loopback_call *call, const char *body, void *arg)
{
    (void)body;
    _Atomic int *answered = arg;
    if (answered)
        (*answered)++;
    return loopback_answer(call, 200, "", "{\"ok\":true}");
}

struct world {
    struct google_peer *peer;
    struct google *google;
    _Atomic int answered;
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    w->peer = google_peer_start(say_ok, &w->answered);
    w->google = google_peer_client(w->peer);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    google_free(w->google);
    google_peer_stop(w->peer);
    free(w);
    return 0;
}

static int call(struct google *google, struct err *err)
{
    const struct google_call ask = {
        .api = GOOGLE_RUN, .method = "GET", .path = "/v2/x", .total_ms = 5000};
    return google_call(google, &ask, NULL, NULL, err);
}

static void must_call(struct google *google)
{
    struct err err = ERR_INIT;
    if (call(google, &err))
        fail_msg("%s", err.msg);
}

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

/* --- a service account's key ---------------------------------------------------------------- */

/* The parts of "grant_type=…&assertion=HEADER.CLAIMS.SIGNATURE". */
static void read_assertion(const char *question, struct buf *header, struct buf *claims,
                           struct buf *signature, size_t *ret_signed_len, const char **ret_signed)
{
    const char *at = strstr(question, "assertion=");
    assert_non_null(at);
    at += 10;
    const char *one = strchr(at, '.'), *two = strchr(one + 1, '.');
    assert_int_equal(str_read_base64url(at, (size_t)(one - at), header), 0);
    assert_int_equal(str_read_base64url(one + 1, (size_t)(two - one) - 1, claims), 0);
    assert_int_equal(str_read_base64url(two + 1, strlen(two + 1), signature), 0);
    *ret_signed = at;
    *ret_signed_len = (size_t)(two - at);
}

static void a_key_signs_for_a_token(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    AUTO(buf) struct buf header = BUF_INIT(4096), claims = BUF_INIT(4096), sig = BUF_INIT(4096);
    AUTO(buf) struct buf quoted = BUF_INIT(8192), want = BUF_INIT(4096);
    size_t len;
    const char *text;
    must_call(w->google);
    AUTO(str) char *question = google_peer_token_question(w->peer);
    assert_true(str_starts(
        question, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion="));
    read_assertion(question, &header, &claims, &sig, &len, &text);
    assert_string_equal(buf_str(&header), "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"k1\"}");
    AUTO(json) struct json *claim = json_parse(buf_str(&claims), claims.len, &err);
    int64_t from = 0, to = 0;
    assert_int_equal(json_int(json_get(claim, "iat"), &from), 0);
    assert_int_equal(json_int(json_get(claim, "exp"), &to), 0);
    assert_int_equal(to - from, 3600);
    assert_true(llabs(from * 1000 - clock_real_ms()) < 60000);
    buf_addf(&want, "%s/token", google_peer_url(w->peer));
    assert_string_equal(json_text(json_get(claim, "aud")), buf_str(&want));
    assert_string_equal(json_text(json_get(claim, "iss")), "runner@p.iam.gserviceaccount.com");
    assert_string_equal(json_text(json_get(claim, "scope")),
                        "https://www.googleapis.com/auth/cloud-platform");
    buf_addf(&quoted, "[\"%s\"]", google_peer_key(w->peer));
    AUTO(json) struct json *key_text = json_parse(buf_str(&quoted), quoted.len, &err);
    AUTO(crypto_rsa)
    struct crypto_rsa *key = crypto_rsa_new_pem(json_text(json_first(key_text)), &err);
    assert_true(crypto_rs256_is_valid(key, text, len, sig.data, sig.len));
    assert_string_equal(google_identity(w->google),
                        "service account runner@p.iam.gserviceaccount.com");
    assert_string_equal(google_project(w->google), "p");
}

static void a_token_serves_until_shortly_before_its_end(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 20; i++)
        must_call(w->google);
    ahead_ms += (3600 - 226) * 1000;
    must_call(w->google);
    assert_int_equal(google_peer_tokens(w->peer), 1);
    ahead_ms += 2000;
    must_call(w->google);
    must_call(w->google);
    assert_int_equal(google_peer_tokens(w->peer), 2);
    google_peer_set_life(w->peer, 60); /* short ones serve half their life */
    ahead_ms += 3600 * 1000;
    must_call(w->google);
    ahead_ms += 29000;
    must_call(w->google);
    assert_int_equal(google_peer_tokens(w->peer), 3);
    ahead_ms += 2000;
    must_call(w->google);
    assert_int_equal(google_peer_tokens(w->peer), 4);
    google_peer_set_life(w->peer, 0);
    ahead_ms += 60000;
    must_call(w->google);
    must_call(w->google);
    assert_int_equal(google_peer_tokens(w->peer), 6);
}

static void *call_once(void *arg)
{
    struct err err = ERR_INIT;
    return call(arg, &err) ? "failed" : NULL;
}

static void start_callers(struct google *google, pthread_t threads[CALLERS])
{
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_once, google), 0);
}

static void join_callers(pthread_t threads[CALLERS])
{
    for (int i = 0; i < CALLERS; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
}

static void await_count(struct world *w, const char *match, int count)
{
    for (int i = 0; i < 20000 && google_peer_count(w->peer, match) < count; i++)
        usleep(1000);
    assert_int_equal(google_peer_count(w->peer, match), count);
}

static void one_caller_fetches_the_token_for_all(void **state)
{
    struct world *w = *state;
    pthread_t threads[CALLERS];
    google_peer_hold_tokens(w->peer, true);
    start_callers(w->google, threads);
    await_count(w, "TOKEN", 1);
    google_peer_hold_tokens(w->peer, false);
    join_callers(threads);
    assert_int_equal(google_peer_tokens(w->peer), 1);
    assert_int_equal(w->answered, CALLERS);
}

static void others_go_on_with_the_old_token_while_one_refreshes_it(void **state)
{
    struct world *w = *state;
    pthread_t threads[CALLERS];
    must_call(w->google);
    w->answered = 0;
    ahead_ms += (3600 - 100) * 1000;
    google_peer_hold_tokens(w->peer, true);
    start_callers(w->google, threads);
    await_count(w, "TOKEN", 2);
    for (int i = 0; i < 20000 && w->answered < CALLERS - 1; i++)
        usleep(1000);
    assert_int_equal(w->answered, CALLERS - 1);
    google_peer_hold_tokens(w->peer, false);
    join_callers(threads);
    assert_int_equal(google_peer_tokens(w->peer), 2);
}

static void a_failed_refresh_harms_nobody_while_the_old_token_lives(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    must_call(w->google);
    google_peer_set_token_answer(w->peer, 400, "{\"error\":\"invalid_grant\"}");
    ahead_ms += (3600 - 100) * 1000;
    for (int i = 0; i < 5; i++)
        must_call(w->google);
    assert_int_equal(google_peer_count(w->peer, "TOKEN"), 2); /* and a pause after the failure */
    ahead_ms += 11000;
    must_call(w->google);
    assert_int_equal(google_peer_count(w->peer, "TOKEN"), 3);
    ahead_ms += 100000;
    assert_int_equal(call(w->google, &err), -1);
    assert_int_equal(err.code, ERR_FORBIDDEN);
    google_peer_set_token_answer(w->peer, 0, NULL);
    must_call(w->google);
}

static void a_refused_token_is_replaced_once(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    must_call(w->google);
    google_peer_revoke(w->peer);
    must_call(w->google);
    assert_int_equal(google_peer_tokens(w->peer), 2);
    assert_int_equal(google_peer_count(w->peer, "GET "), 3);
    google_peer_fault(
        w->peer,
        &(struct peer_fault){.kind = PEER_ANSWER, .match = "GET ", .times = 2, .status = 401});
    assert_int_equal(call(w->google, &err), -1);
    assert_int_equal(err.code, ERR_FORBIDDEN);
    assert_int_equal(google_peer_count(w->peer, "GET "), 5);
    assert_int_equal(google_peer_faults_left(w->peer), 0);
}

static void sixteen_callers_with_a_revoked_token_fetch_one(void **state)
{
    struct world *w = *state;
    pthread_t threads[CALLERS];
    must_call(w->google);
    google_peer_revoke(w->peer);
    start_callers(w->google, threads);
    join_callers(threads);
    assert_int_equal(google_peer_tokens(w->peer), 2);
}

/* What the token endpoint may answer, and what a person is told. */
static void a_token_that_is_refused_or_makes_no_sense_is_an_error(void **state)
{
    struct world *w = *state;
    static const struct {
        int status;
        const char *body;
        enum err_code code;
        const char *words;
    } cases[] = {
        {400, "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid JWT\\nSignature.\"}",
         ERR_FORBIDDEN,
         "no access token for service account runner@p.iam.gserviceaccount.com: HTTP 400 "
         "invalid_grant: Invalid JWT Signature."},
        {401, "", ERR_FORBIDDEN, "HTTP 401"},
        {403, "<html>no</html>", ERR_FORBIDDEN, "HTTP 403"},
        {302, "moved", ERR_FORBIDDEN, "HTTP 302"},
        {200, "", ERR_UPSTREAM, "JSON"},
        {200, "<html>", ERR_UPSTREAM, "JSON"},
        {200, "[]", ERR_UPSTREAM, "access_token"},
        {200, "{\"expires_in\":3600}", ERR_UPSTREAM, "access_token"},
        {200, "{\"access_token\":\"\",\"expires_in\":3600}", ERR_UPSTREAM, "access_token"},
        {200, "{\"access_token\":\"a b\",\"expires_in\":3600}", ERR_UPSTREAM, "access_token"},
        {200, "{\"access_token\":\"a\\r\\nX: y\",\"expires_in\":9}", ERR_UPSTREAM, "access_token"},
        {200, "{\"access_token\":{},\"expires_in\":3600}", ERR_UPSTREAM, "access_token"},
        {200, "{\"access_token\":\"a\",\"expires_in\":-1}", ERR_UPSTREAM, "expires_in"},
        {200, "{\"access_token\":\"a\",\"expires_in\":{}}", ERR_UPSTREAM, "expires_in"},
        {200, "{\"access_token\":\"a\",\"expires_in\":\"soon\"}", ERR_UPSTREAM, "expires_in"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        google_peer_set_token_answer(w->peer, cases[i].status, cases[i].body);
        if (call(w->google, &err) == 0 || err.code != cases[i].code ||
            !strstr(err.msg, cases[i].words))
            fail_msg("%d %s: %s", cases[i].status, cases[i].body, err.msg);
    }
    google_peer_set_token_answer(w->peer, 0, NULL);
    assert_int_equal(google_peer_count(w->peer, "GET "), 0);
    must_call(w->google);
}

/* --- other kinds ---------------------------------------------------------------------------- */

/* RFC 6749 lets the life be left out; who says too much is believed for a day. */
static void a_token_of_unsaid_or_endless_life_is_renewed_in_time(void **state)
{
    struct world *w = *state;
    struct err err = ERR_INIT;
    static const struct {
        const char *answer;
        int64_t life_s;
    } cases[] = {
        {"{\"access_token\":\"ya29.a\"}", 3600},
        {"{\"access_token\":\"ya29.a\",\"expires_in\":null}", 3600},
        {"{\"access_token\":\"ya29.a\",\"expires_in\":\"1800\"}", 1800},
        {"{\"access_token\":\"ya29.a\",\"expires_in\":99999999999}", 86400},
        {"{\"access_token\":\"ya29.a\",\"expires_in\":1e300}", 86400},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        ahead_ms += (int64_t)2 * 86400 * 1000;
        int asked = google_peer_count(w->peer, "TOKEN");
        google_peer_set_token_answer(w->peer, 200, cases[i].answer);
        assert_int_equal(google_login(w->google, &err), 0);
        ahead_ms += (cases[i].life_s - 240) * 1000;
        assert_int_equal(google_login(w->google, &err), 0);
        assert_int_equal(google_peer_count(w->peer, "TOKEN"), asked + 1);
        ahead_ms += 30 * 1000;
        assert_int_equal(google_login(w->google, &err), 0);
        assert_int_equal(google_peer_count(w->peer, "TOKEN"), asked + 2);
    }
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

/* IAM Credentials, as far as it concerns us. */
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
    /* the source's own token serves as the impersonated one, so that the peer knows it */
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
        /* its source's token is refused: both are fetched anew */
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    clock_use(&test_clock);
    const struct CMUnitTest tests[] = {
        TEST(a_key_signs_for_a_token),
        TEST(a_token_serves_until_shortly_before_its_end),
        TEST(one_caller_fetches_the_token_for_all),
        TEST(others_go_on_with_the_old_token_while_one_refreshes_it),
        TEST(a_failed_refresh_harms_nobody_while_the_old_token_lives),
        TEST(a_refused_token_is_replaced_once),
        TEST(sixteen_callers_with_a_revoked_token_fetch_one),
        TEST(a_token_that_is_refused_or_makes_no_sense_is_an_error),
        TEST(a_token_of_unsaid_or_endless_life_is_renewed_in_time),
        TEST(a_persons_login_is_refreshed_and_pays_with_its_project),
        TEST(a_service_account_is_impersonated_by_file_and_by_configuration),
        TEST(the_metadata_server_gives_a_token_when_there_is_no_file),
        TEST(who_is_no_metadata_server_of_googles_is_not_believed),
        TEST(gclouds_own_login_is_found),
        TEST(a_malformed_file_is_refused_with_what_is_wrong_and_no_secret),
        TEST(a_file_that_is_named_has_to_be_there),
        TEST(endpoints_are_https_or_on_loopback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
