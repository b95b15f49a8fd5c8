#include "unit.h"

#include "base/buf.h"
#include "base/fd.h"
#include "runner/oauth/login.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOW INT64_C(1795000000000)
#define INSIDE(members) "{\"claudeAiOauth\":{" members "}}"

static const struct {
    const char *text;
    enum login_state state;
    bool configured, refreshable, expired;
    int64_t expires_ms;
    const char *token, *subscription;
} files[] = {
    /* as the CLI writes it, with other keys beside */
    {"{\"mcpOAuth\":{},\"claudeAiOauth\":{\"accessToken\":\"sk-ant-oat01-x\","
     "\"refreshToken\":\"sk-ant-ort01-y\",\"expiresAt\":1795245960145,"
     "\"scopes\":[\"user:inference\"],\"subscriptionType\":\"max\"}}",
     LOGIN_OK, true, true, false, INT64_C(1795245960145), "sk-ant-oat01-x", "max"},
    /* as older ones did: at the top, the time as text */
    {"{\"accessToken\":\"t\",\"refreshToken\":\"r\",\"expiresAt\":\"1795245960145\"}", LOGIN_OK,
     true, true, false, INT64_C(1795245960145), "t", ""},
    {INSIDE("\"accessToken\":\"t\",\"expiresAt\":1795245960"), LOGIN_OK, true, false, false,
     INT64_C(1795245960000), "t", ""}, /* seconds */
    {INSIDE("\"accessToken\":\"t\",\"expiresAt\":\"2026-11-20T00:00:00.000Z\""), LOGIN_OK, true,
     false, false, INT64_C(1795132800000), "t", ""},
    {INSIDE("\"accessToken\":\"t\""), LOGIN_OK, true, false, false, 0, "t", ""},
    {INSIDE("\"accessToken\":\"t\",\"expiresAt\":null"), LOGIN_OK, true, false, false, 0, "t", ""},
    {INSIDE("\"accessToken\":\"t\",\"expiresAt\":\"soon\""), LOGIN_OK, true, false, false, 0, "t",
     ""},
    /* expired: curable by a refresh token, else not */
    {INSIDE("\"accessToken\":\"t\",\"refreshToken\":\"r\",\"expiresAt\":1794999999999"), LOGIN_OK,
     true, true, true, INT64_C(1794999999999), "t", ""},
    {INSIDE("\"accessToken\":\"t\",\"expiresAt\":1794999999999"), LOGIN_EXPIRED, true, false, true,
     INT64_C(1794999999999), "t", ""},
    {INSIDE("\"accessToken\":\"t\",\"expiresAt\":1795000000000"), LOGIN_EXPIRED, true, false, true,
     NOW, "t", ""}, /* at that very moment */
    {INSIDE("\"accessToken\":\"t\",\"refreshToken\":\"\",\"expiresAt\":1"), LOGIN_EXPIRED, true,
     false, true, 1000, "t", ""},
    {INSIDE("\"accessToken\":\"t\",\"refreshToken\":null,\"expiresAt\":1"), LOGIN_EXPIRED, true,
     false, true, 1000, "t", ""},
    /* no token that could travel in a header */
    {INSIDE("\"accessToken\":\"\""), LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {INSIDE("\"accessToken\":\"a b\""), LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {INSIDE("\"accessToken\":\"a\\r\\nX: y\""), LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {INSIDE("\"accessToken\":\"\xc3\xa4\""), LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {INSIDE("\"accessToken\":5"), LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {INSIDE("\"refreshToken\":\"r\""), LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {"{\"claudeAiOauth\":[]}", LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {"{\"claudeAiOauth\":null}", LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {"{}", LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {"[]", LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {"null", LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {"", LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {"sk-ant-oat01-x", LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {INSIDE("\"accessToken\":\"t\"") "x", LOGIN_MALFORMED, false, false, false, 0, "", ""},
    {INSIDE("\"accessToken\":\"t\",\"accessToken\":\"u\""), LOGIN_MALFORMED, false, false, false, 0,
     "", ""},
};

static void a_credentials_file_of_any_shape_is_understood_or_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        struct login_status status;
        AUTO(buf) struct buf token = BUF_INIT(1000);
        login_parse(files[i].text, strlen(files[i].text), NOW, &status, &token);
        if (status.state != files[i].state)
            fail_msg("%s: %s", files[i].text, login_state_name(status.state));
        assert_int_equal(status.configured, files[i].configured);
        assert_int_equal(status.refreshable, files[i].refreshable);
        assert_int_equal(status.token_expired, files[i].expired);
        assert_int_equal(status.expires_ms, files[i].expires_ms);
        assert_string_equal(buf_str(&token), files[i].token);
        assert_string_equal(status.subscription, files[i].subscription);
        login_parse(files[i].text, strlen(files[i].text), NOW, &status, NULL);
    }
}

static void every_cut_of_a_file_is_malformed(void **state)
{
    (void)state;
    static const char text[] = INSIDE("\"accessToken\":\"t\",\"expiresAt\":1795245960145");
    for (size_t len = 0; len + 1 < sizeof(text); len++) {
        struct login_status status;
        AUTO(buf) struct buf token = BUF_INIT(1000);
        AUTO(str) char *exact = malloc(len + 1);
        memcpy(exact, text, len);
        login_parse(exact, len, NOW, &status, &token);
        assert_int_equal(status.state, LOGIN_MALFORMED);
        assert_int_equal(token.len, 0);
    }
}

static void what_is_the_matter_with_the_file_is_told_by_name(void **state)
{
    (void)state;
    static const char good[] = INSIDE("\"accessToken\":\"t\"");
    char *dir = unit_scratch();
    AUTO(str) char *path = unit_textf("%s/.credentials.json", dir);
    static const enum login_state steps[] = {LOGIN_MISSING, LOGIN_MALFORMED, LOGIN_OK,
                                             LOGIN_UNREADABLE, LOGIN_UNREADABLE};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        struct err err;
        struct login_status status;
        AUTO(buf) struct buf token = BUF_INIT(100);
        if (i == 1)
            unit_spit(path, "{", 1);
        if (i == 2)
            unit_spit(path, good, sizeof(good) - 1);
        if (i == 3) { /* a directory; then a FIFO, which must not be waited for */
            unlink(path);
            mkdir(path, 0700);
        }
        if (i == 4) {
            rmdir(path);
            mkfifo(path, 0600);
        }
        struct login *login = login_new(dir);
        assert_non_null(login);
        login_status(login, &status);
        assert_int_equal(status.state, steps[i]);
        int rc = login_token(login, &token, &err);
        assert_int_equal(rc, steps[i] == LOGIN_OK ? 0 : -1);
        assert_string_equal(buf_str(&token), steps[i] == LOGIN_OK ? "t" : "");
        if (rc) {
            assert_int_equal(err.code, ERR_LOGIN);
            assert_int_equal(strncmp(err.msg, "OAuth", 5), 0);
        }
        login_free(login);
    }
    unit_scratch_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_credentials_file_of_any_shape_is_understood_or_told),
        cmocka_unit_test(every_cut_of_a_file_is_malformed),
        cmocka_unit_test(what_is_the_matter_with_the_file_is_told_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
