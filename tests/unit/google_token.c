/* Credentials and access tokens. */
#include "google_token_scene.h"

#include "base/str.h"
#include "base/strlist.h"
#include "crypto/crypto.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define CALLERS 16

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
    ahead_ms += (3600 - 285) * 1000; /* a minute before: the test itself takes time too */
    must_call(w->google);
    assert_int_equal(google_peer_tokens(w->peer), 1);
    ahead_ms += 62000;
    must_call(w->google);
    must_call(w->google);
    assert_int_equal(google_peer_tokens(w->peer), 2);
    google_peer_set_life(w->peer, 60); /* a token of a short life is used for half of it */
    ahead_ms += 3600 * 1000;
    must_call(w->google);
    ahead_ms += 15000;
    must_call(w->google);
    assert_int_equal(google_peer_tokens(w->peer), 3);
    ahead_ms += 16000;
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

/* What the token endpoint may answer, and which message results. */
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

/* RFC 6749 makes the life optional. A life that is too long is reduced to a day. */
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
