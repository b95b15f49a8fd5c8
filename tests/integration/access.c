/*
 * Behind Cloudflare Access: the daemon, and a stand-in that publishes the keys.
 */
#include "jwt.h"
#include "loopback.h"
#include "testing.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AUD "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"

/* ---- keys and tokens ---- */

static EVP_PKEY *key, *stranger;
static char *published;

static char *number_of(EVP_PKEY *of, const char *name)
{
    BIGNUM *number = NULL;
    unsigned char bytes[1024];
    assert_int_equal(EVP_PKEY_get_bn_param(of, name, &number), 1);
    int len = BN_bn2bin(number, bytes);
    BN_free(number);
    return jwt_base64url(bytes, (size_t)len);
}

static char *make_assertion(EVP_PKEY *by, const char *aud, long ends_in_s)
{
    static const char header[] = "{\"alg\":\"RS256\",\"kid\":\"k1\",\"typ\":\"JWT\"}";
    char *claims = textf("{\"aud\":[\"%s\"],\"iss\":\"https://team.cloudflareaccess.com\","
                         "\"exp\":%ld,\"iat\":%ld,\"nbf\":%ld,\"type\":\"app\"}",
                         aud, (long)time(NULL) + ends_in_s, (long)time(NULL), (long)time(NULL));
    char *jwt = jwt_sign(by, header, claims);
    char *line = textf("Cf-Access-Jwt-Assertion: %s\r\n", jwt);
    free(claims);
    free(jwt);
    return line;
}

static int make_keys(void **state)
{
    (void)state;
    key = EVP_RSA_gen(2048);
    stranger = EVP_RSA_gen(2048);
    char *n = number_of(key, OSSL_PKEY_PARAM_RSA_N);
    char *e = number_of(key, OSSL_PKEY_PARAM_RSA_E);
    published =
        textf("{\"keys\":[{\"kid\":\"k1\",\"kty\":\"RSA\",\"alg\":\"RS256\",\"use\":\"sig\","
              "\"e\":\"%s\",\"n\":\"%s\"}]}",
              e, n);
    free(n);
    free(e);
    return 0;
}

static int free_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    EVP_PKEY_free(stranger);
    free(published);
    return 0;
}

static bool publish(struct loopback_call *call, void *arg)
{
    (void)arg;
    return loopback_answer(call, 200, "Content-Type: application/json\r\n", published);
}

/* ---- the tests ---- */

static struct runner *behind_access(struct loopback *keys)
{
    struct runner *runner = runner_new();
    char *url = loopback_url(keys, "/cdn-cgi/access/certs");
    runner_set(runner, "CF_ACCESS_TEAM_DOMAIN", "team.cloudflareaccess.com");
    runner_set(runner, "CF_ACCESS_AUD", AUD);
    runner_set(runner, "CF_ACCESS_CERTS_URL", url);
    free(url);
    return runner;
}

static int status_of(const struct runner *runner, const char *method, const char *path,
                     const char *assertion, const char *auth)
{
    char *headers = textf("%s%s", assertion, auth);
    struct reply *reply = http_call(runner->base, method, path, headers, NULL);
    int status = reply->status;
    if (status == 403)
        assert_json_text(reply->json, "detail", "forbidden");
    reply_free(reply);
    free(headers);
    return status;
}

/* It fetches the keys as it starts; a request waits for them a while only. */
static void await_keys(const struct runner *runner, const char *good)
{
    EVENTUALLY(20000, status_of(runner, "GET", "/health", good, "") == 200);
}

static void everything_but_healthz_asks_for_an_assertion(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path;
        int bare, asserted; /* with the secret */
    } cases[] = {
        {"GET", "/healthz", 200, 200},   {"HEAD", "/healthz", 200, 200},
        {"GET", "/health", 403, 200},    {"GET", "/", 403, 200},
        {"GET", "/tasks", 403, 200},     {"GET", "/tasks/x", 403, 404},
        {"GET", "/nothing", 403, 404},   {"POST", "/cancel/x", 403, 404},
        {"GET", "/healthz/x", 403, 404}, {"GET", "/HEALTHZ", 403, 404},
        {"DELETE", "/health", 403, 405},
    };
    struct loopback *keys = loopback_start(publish, NULL);
    struct runner *runner = behind_access(keys);
    char *good = make_assertion(key, AUD, 600);
    runner_start(runner);
    await_keys(runner, good);
    for (size_t i = 0; i < COUNT(cases); i++) {
        print_message("  %s %s\n", cases[i].method, cases[i].path);
        assert_int_equal(status_of(runner, cases[i].method, cases[i].path, "", RUNNER_AUTH),
                         cases[i].bare);
        assert_int_equal(status_of(runner, cases[i].method, cases[i].path, good, RUNNER_AUTH),
                         cases[i].asserted);
    }
    assert_int_equal(status_of(runner, "GET", "/tasks", good, ""), 403); /* the secret as well */
    assert_int_equal(status_of(runner, "GET", "/health", good, ""), 200);
    free(good);
    runner_free(runner);
    loopback_stop(keys);
}

static void bad_assertions_are_refused_and_told_in_the_log_only(void **state)
{
    (void)state;
    struct loopback *keys = loopback_start(publish, NULL);
    struct runner *runner = behind_access(keys);
    char *good = make_assertion(key, AUD, 600);
    runner_start(runner);
    await_keys(runner, good);
    free(good);
    char *bad[] = {make_assertion(stranger, AUD, 600), make_assertion(key, "other", 600),
                   make_assertion(key, AUD, -120), strdup("Cf-Access-Jwt-Assertion: x\r\n"),
                   strdup("Cf-Access-Jwt-Assertion: \r\n")};
    static const char *const reasons[] = {"signature is wrong", "another application",
                                          "has expired", "three parts", "Cloudflare Access"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(status_of(runner, "GET", "/tasks", bad[i], RUNNER_AUTH), 403);
        char *log = runner_log(runner);
        assert_non_null(strstr(log, reasons[i]));
        if (strlen(bad[i]) > 100) { /* no part of it */
            bad[i][100] = '\0';
            assert_null(strstr(log, bad[i] + 50));
        }
        free(log);
        free(bad[i]);
    }
    runner_free(runner);
    loopback_stop(keys);
}

static void it_works_on_when_cloudflare_cannot_be_reached(void **state)
{
    (void)state;
    struct loopback *keys = loopback_start(publish, NULL);
    struct runner *runner = behind_access(keys);
    char *good = make_assertion(key, AUD, 600);
    char *bad = make_assertion(stranger, AUD, 600);
    runner_start(runner);
    await_keys(runner, good);
    assert_int_equal(runner_stop(runner, 30000), 0);
    loopback_stop(keys);
    runner_start(runner);
    assert_int_equal(status_of(runner, "GET", "/health", good, ""), 200);
    assert_int_equal(status_of(runner, "GET", "/health", bad, ""), 403);
    free(good);
    free(bad);
    runner_free(runner);
}

static void half_a_configuration_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *team, *aud, *named;
    } cases[] = {{"team", NULL, "CF_ACCESS_AUD"},
                 {NULL, AUD, "CF_ACCESS_TEAM_DOMAIN"},
                 {"team", "", "CF_ACCESS_AUD"},
                 {"not a host", AUD, "CF_ACCESS_TEAM_DOMAIN must be a host name"},
                 {"https://team/path", AUD, "CF_ACCESS_TEAM_DOMAIN must be a host name"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct runner *runner = runner_new();
        runner_set(runner, "CF_ACCESS_TEAM_DOMAIN", cases[i].team);
        runner_set(runner, "CF_ACCESS_AUD", cases[i].aud);
        assert_int_equal(runner_start_refused(runner), 2);
        char *log = runner_log(runner);
        if (!strstr(log, cases[i].named))
            fail_msg("%s is not named in: %s", cases[i].named, log);
        free(log);
        runner_free(runner);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_but_healthz_asks_for_an_assertion),
        cmocka_unit_test(bad_assertions_are_refused_and_told_in_the_log_only),
        cmocka_unit_test(it_works_on_when_cloudflare_cannot_be_reached),
        cmocka_unit_test(half_a_configuration_is_refused),
    };
    return cmocka_run_group_tests_name("access", tests, make_keys, free_keys);
}
