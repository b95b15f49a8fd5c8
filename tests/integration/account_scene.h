/* A runner with a login that the test has written. */
#ifndef TESTS_ACCOUNT_SCENE_H
#define TESTS_ACCOUNT_SCENE_H

#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NEW_TOKEN "sk-ant-oat01-after-refresh"
#define NEW_REFRESH "sk-ant-ort01-after-refresh"
#define OUTDATED "sk-ant-oat01-outdated"

static inline void write_login(const struct runner *runner, const char *access, const char *refresh,
                               long long expires_ms)
{
    char *path = textf("%s/.credentials.json", runner->config);
    char *next = textf("%s.new", path);
    char *text = textf("{\"claudeAiOauth\":{\"accessToken\":\"%s\",\"refreshToken\":\"%s\","
                       "\"expiresAt\":%lld,\"scopes\":[\"user:inference\"]},\"kept\":[1,2]}",
                       access, refresh, expires_ms);
    write_file(next, text, 0600);
    assert_int_equal(rename(next, path), 0);
    free(text);
    free(next);
    free(path);
}

static inline long long in_hours(int hours)
{
    return ((long long)time(NULL) + hours * 3600LL) * 1000;
}

/* A runner with a login instead of a key; its credentials are still to be written. */
static inline struct runner *with_login(const struct api *api, const struct api *tokens)
{
    struct runner *runner = runner_new();
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    if (api)
        runner_use_real_cli(runner, api);
    if (tokens) {
        char *url = textf("%s/v1/oauth/token", tokens->base);
        runner_set(runner, "OAUTH_TOKEN_URL", url);
        free(url);
        api_control(tokens,
                    "{\"next\":[{\"access\":\"" NEW_TOKEN "\",\"refresh\":\"" NEW_REFRESH "\"}]}");
    }
    return runner;
}

static inline int refreshes(const struct api *tokens)
{
    struct reply *reply = http_call(tokens->base, "GET", "/_control", NULL, NULL);
    int count = (int)json_number(reply->json, "refreshes");
    assert_json_number(reply->json, "reuses", 0);
    reply_free(reply);
    return count;
}

#endif
