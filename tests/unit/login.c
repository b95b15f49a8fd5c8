#include "runner/oauth/credentials.h"

#include "base/auto.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOKENS "\"accessToken\":\"a-1\",\"refreshToken\":\"r-1\""

static void assert_text(const char *got, const char *want)
{
    if (!want)
        assert_null(got);
    else
        assert_string_equal(got ? got : "(none)", want);
}

static void reads_every_shape_of_the_file(void **state)
{
    (void)state;
    static const struct {
        const char *text, *access, *refresh;
        int64_t expires_ms;
        const char *subscription, *scopes;
    } cases[] = {
        {"{\"claudeAiOauth\":{" TOKENS ",\"expiresAt\":1795245960145,\"scopes\":[\"user:a\","
         "\"user:b\"],\"subscriptionType\":\"max\",\"rateLimitTier\":\"x\"}}",
         "a-1", "r-1", 1795245960145, "max", "user:a user:b"},
        {"{" TOKENS ",\"expiresAt\":1795245960145}", "a-1", "r-1", 1795245960145, NULL, ""},
        {"{" TOKENS ",\"expiresAt\":\"1795245960145\"}", "a-1", "r-1", 1795245960145, NULL, ""},
        {"{" TOKENS ",\"expiresAt\":1795245960}", "a-1", "r-1", 1795245960000, NULL, ""},
        {"{" TOKENS ",\"expiresAt\":1795245960145.75}", "a-1", "r-1", 1795245960145, NULL, ""},
        {"{" TOKENS ",\"expiresAt\":\"2026-11-21T03:26:00.145Z\"}", "a-1", "r-1", 1795231560000,
         NULL, ""},
        {"{" TOKENS ",\"expiresAt\":null}", "a-1", "r-1", 0, NULL, ""},
        {"{" TOKENS ",\"expiresAt\":-5}", "a-1", "r-1", 0, NULL, ""},
        {"{" TOKENS ",\"expiresAt\":1e300}", "a-1", "r-1", 0, NULL, ""},
        {"{" TOKENS ",\"expiresAt\":\"soon\"}", "a-1", "r-1", 0, NULL, ""},
        {"{" TOKENS ",\"expiresAt\":{}}", "a-1", "r-1", 0, NULL, ""},
        {"{" TOKENS ",\"scopes\":\"user:a user:b\"}", "a-1", "r-1", 0, NULL, "user:a user:b"},
        {"{" TOKENS ",\"scopes\":[1,null,\"user:a\"]}", "a-1", "r-1", 0, NULL, "user:a"},
        {"{\"accessToken\":\"a-1\"}", "a-1", NULL, 0, NULL, ""},
        {"{\"accessToken\":\"a-1\",\"refreshToken\":null}", "a-1", NULL, 0, NULL, ""},
        {"{\"accessToken\":\"a-1\",\"refreshToken\":\"\"}", "a-1", NULL, 0, NULL, ""},
        {"{\"mcpOAuth\":{\"accessToken\":\"no\"},\"claudeAiOauth\":{" TOKENS "}}", "a-1", "r-1", 0,
         NULL, ""},
        {" \n{ \"accessToken\" : \"a\\u002d1\" } ", "a-1", NULL, 0, NULL, ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO(login) struct login login;
        login_parse(cases[i].text, strlen(cases[i].text), &login);
        assert_text(login.access_token, cases[i].access);
        assert_text(login.refresh_token, cases[i].refresh);
        if (login.expires_ms != cases[i].expires_ms)
            fail_msg("%s: ends %lld", cases[i].text, (long long)login.expires_ms);
        assert_text(login.subscription, cases[i].subscription);
        assert_text(login.scopes ? login.scopes : "", cases[i].scopes);
    }
}

static void what_is_no_login_gives_an_empty_one(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "null",
        "[]",
        "\"accessToken\"",
        "{",
        "{}",
        "not json",
        "{\"accessToken\":\"\"}",
        "{\"accessToken\":7}",
        "{\"accessToken\":null}",
        "{\"accessToken\":\"two words\"}",
        "{\"accessToken\":\"line\\nHeader: x\"}",
        "{\"accessToken\":\"\xc3\xa9\"}",
        "{\"accessToken\":\"a\",\"accessToken\":\"b\"}",
        "{\"claudeAiOauth\":{}}",
        "{\"claudeAiOauth\":null}",
        "{\"claudeAiOauth\":[]}",
        "{\"claudeAiOauth\":{\"accessToken\":\"a-1\"}",
        "{\"claudeAiOauth\":{\"accessToken\":\"a-1\"}}}",
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        AUTO(login) struct login login;
        login_parse(texts[i], strlen(texts[i]), &login);
        if (login.access_token)
            fail_msg("%s is no login", texts[i]);
        assert_null(login.refresh_token);
    }
}

static void no_cut_of_a_file_is_a_login(void **state)
{
    (void)state;
    static const char text[] = "{\"claudeAiOauth\":{" TOKENS ",\"expiresAt\":1795245960145}}";
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        AUTO(login) struct login login;
        char *copy = malloc(len + 1); /* exactly as long, so that a sanitizer notices a step too
                                       * far */
        assert_non_null(copy);
        memcpy(copy, text, len);
        login_parse(copy, len, &login);
        assert_null(login.access_token);
        free(copy);
    }
}

static const struct login_tokens pair = {"a-2", "r-2", 1800000000000, 0};

static void a_rewrite_changes_the_tokens_and_nothing_else(void **state)
{
    (void)state;
    static const struct login_tokens ending = {"a-2", "r-2", 1800000000000, 1900000000000};
    static const struct login_tokens keep = {"a-2", NULL, 0, 0};
    static const struct {
        const char *text, *want;
        const struct login_tokens *tokens;
    } cases[] = {
        {"{\"claudeAiOauth\":{" TOKENS ",\"expiresAt\":1}}",
         "{\"claudeAiOauth\":{\"accessToken\":\"a-2\",\"refreshToken\":\"r-2\","
         "\"expiresAt\":1800000000000}}",
         &pair},
        {"{" TOKENS ",\"expiresAt\":1}",
         "{\"accessToken\":\"a-2\",\"refreshToken\":\"r-2\",\"expiresAt\":1800000000000}", &pair},
        {"{" TOKENS ",\"expiresAt\":\"1\"}",
         "{\"accessToken\":\"a-2\",\"refreshToken\":\"r-2\",\"expiresAt\":\"1800000000000\"}",
         &pair},
        {"{\"accessToken\":\"a-1\"}",
         "{\"accessToken\":\"a-2\",\"refreshToken\":\"r-2\",\"expiresAt\":1800000000000}", &pair},
        {"{" TOKENS ",\"expiresAt\":1}",
         "{\"accessToken\":\"a-2\",\"refreshToken\":\"r-1\",\"expiresAt\":1}", &keep},
        /* Numbers that a double cannot hold, escapes, order and nesting stay as they are. */
        {"{\"z\":[1.50,1e2,123456789012345678901],\"claudeAiOauth\":{\"x\":{\"refreshToken\":"
         "\"deep\"}," TOKENS ",\"t\":\"\\u00e9\\/\"},\"accessToken\":\"other\",\"e\":{}}",
         "{\"z\":[1.50,1e2,123456789012345678901],\"claudeAiOauth\":{\"x\":{\"refreshToken\":"
         "\"deep\"},\"accessToken\":\"a-2\",\"refreshToken\":\"r-2\",\"t\":\"\\u00e9\\/\","
         "\"expiresAt\":1800000000000},\"accessToken\":\"other\",\"e\":{}}",
         &pair},
        /* the end of the login itself */
        {"{" TOKENS ",\"expiresAt\":1,\"refreshTokenExpiresAt\":7}",
         "{\"accessToken\":\"a-2\",\"refreshToken\":\"r-2\",\"expiresAt\":1800000000000,"
         "\"refreshTokenExpiresAt\":7}",
         &pair},
        {"{" TOKENS ",\"expiresAt\":1,\"refreshTokenExpiresAt\":\"7\"}",
         "{\"accessToken\":\"a-2\",\"refreshToken\":\"r-2\",\"expiresAt\":1800000000000,"
         "\"refreshTokenExpiresAt\":\"1900000000000\"}",
         &ending},
        {"{" TOKENS ",\"expiresAt\":1}",
         "{\"accessToken\":\"a-2\",\"refreshToken\":\"r-2\",\"expiresAt\":1800000000000,"
         "\"refreshTokenExpiresAt\":1900000000000}",
         &ending},
        {"{\"access\\u0054oken\":\"a-1\",\"\":1,\" \":[ 1 , 2 ],\"refreshToken\":\"r-1\"}",
         "{\"accessToken\":\"a-2\",\"\":1,\" \":[ 1 , 2 ],\"refreshToken\":\"r-2\","
         "\"expiresAt\":1800000000000}",
         &pair},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO(buf) struct buf out = BUF_INIT(4096);
        if (login_rewrite(cases[i].text, strlen(cases[i].text), cases[i].tokens, &out, &err))
            fail_msg("%s: %s", cases[i].text, err.msg);
        assert_string_equal(buf_str(&out), cases[i].want);
        assert_int_equal(json_check(buf_str(&out), out.len, &err), 0);
    }
}

static void tokens_are_escaped_on_their_way_into_the_file(void **state)
{
    (void)state;
    static const struct login_tokens odd = {"a\"\\2", "r</2>", 1800000000000, 0};
    static const char text[] = "{" TOKENS "}";
    struct err err = ERR_INIT;
    AUTO(buf) struct buf out = BUF_INIT(4096);
    AUTO(login) struct login login;
    assert_int_equal(login_rewrite(text, strlen(text), &odd, &out, &err), 0);
    login_parse(buf_str(&out), out.len, &login);
    assert_text(login.access_token, odd.access_token);
    assert_text(login.refresh_token, odd.refresh_token);
}

static void a_rewrite_fails_on_what_is_no_json_or_does_not_fit(void **state)
{
    (void)state;
    static const char text[] = "{" TOKENS "}";
    struct err err = ERR_INIT;
    AUTO(buf) struct buf out = BUF_INIT(4096), small = BUF_INIT(20);
    assert_int_equal(login_rewrite("{", 1, &pair, &out, &err), -1);
    assert_int_equal(login_rewrite(text, strlen(text), &pair, &small, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_shape_of_the_file),
        cmocka_unit_test(what_is_no_login_gives_an_empty_one),
        cmocka_unit_test(no_cut_of_a_file_is_a_login),
        cmocka_unit_test(a_rewrite_changes_the_tokens_and_nothing_else),
        cmocka_unit_test(tokens_are_escaped_on_their_way_into_the_file),
        cmocka_unit_test(a_rewrite_fails_on_what_is_no_json_or_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
