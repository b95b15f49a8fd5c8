/* A keeper with its file, its token server and a clock that can be set. */
#ifndef TESTS_KEEPER_WORLD_H
#define TESTS_KEEPER_WORLD_H

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "runner/oauth/keeper.h"
#include "token_server.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define HOUR_MS INT64_C(3600000)

/* --- time: the system's, moved ------------------------------------------------------------- */

static _Atomic int64_t mono_moved_ms, real_moved_ms;
static _Atomic int64_t still_mono_us, still_real_us; /* when it was stopped; 0: it goes on */

static inline int64_t system_us(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static inline int64_t moved_mono_us(void *arg)
{
    (void)arg;
    return (still_mono_us ? still_mono_us : system_us(CLOCK_MONOTONIC)) + mono_moved_ms * 1000;
}

static inline int64_t moved_real_ms(void *arg)
{
    (void)arg;
    return (still_real_us ? still_real_us : system_us(CLOCK_REALTIME)) / 1000 + real_moved_ms;
}

static const struct clock moved_clock = {moved_mono_us, moved_real_ms, NULL};

/* From now on time passes by pass() alone, however long the test takes. */
static inline void stop_time(void)
{
    still_mono_us = system_us(CLOCK_MONOTONIC);
    still_real_us = system_us(CLOCK_REALTIME);
}

/* Time passes. */
static inline void pass(int64_t ms)
{
    mono_moved_ms += ms;
    real_moved_ms += ms;
}

/* --- the world ----------------------------------------------------------------------------- */

struct world {
    char dir[64], path[128], lock[128], spare[140];
    struct token_server server;
    struct config_in_force in_force;
    struct keeper *keeper;
    _Atomic int told;
};

static inline void on_changed(void *arg)
{
    struct world *w = arg;
    w->told++;
}

static inline struct config *world_config(const char *dir, const char *url)
{
    struct err err = ERR_INIT;
    AUTO(config_report) struct config_report report = {0};
    char place[128], token_url[256];
    snprintf(place, sizeof(place), "CLAUDE_CONFIG_DIR=%s", dir);
    snprintf(token_url, sizeof(token_url), "OAUTH_TOKEN_URL=%s", url);
    char *env[] = {(char[]){"RUNNER_SECRET=0123456789abcdef"}, place, token_url, NULL};
    const struct config_source source = {.env = env};
    return config_load(&source, &report, &err);
}

static inline void world_name(struct world *w)
{
    snprintf(w->path, sizeof(w->path), "%s/.credentials.json", w->dir);
    snprintf(w->lock, sizeof(w->lock), "%s/.oauth_refresh.lock", w->dir);
    snprintf(w->spare, sizeof(w->spare), "%s.refreshed", w->path);
}

static inline void put_file(const struct world *w, const char *text)
{
    struct err err = ERR_INIT;
    if (file_replace(w->path, text, strlen(text), 0600, &err))
        fail_msg("%s", err.msg);
}

/* Pair N, ending ms from now. */
static inline void put_pair(const struct world *w, int n, int64_t left_ms)
{
    char text[512];
    snprintf(text, sizeof(text),
             "{\"mcpOAuth\":{\"x\":1.50},\"claudeAiOauth\":{\"accessToken\":\"access-%d\","
             "\"refreshToken\":\"refresh-%d\",\"expiresAt\":%lld,\"scopes\":[\"user:inference\"],"
             "\"subscriptionType\":\"max\",\"rateLimitTier\":\"t\"}}",
             n, n, (long long)(clock_real_ms() + left_ms));
    put_file(w, text);
}

/* The number of the pair in the file; 0 when it holds none that is whole. */
static inline int pair_in(const char *path)
{
    struct err err;
    int access = 0, refresh = -1;
    AUTO(buf) struct buf text = BUF_INIT(LOGIN_FILE_MAX);
    AUTO(login) struct login login = {0};
    if (file_read(path, &text, &err))
        return 0;
    size_t len = text.len;
    while (len > 0 && text.data[len - 1] == '\0')
        len--;
    login_parse(buf_str(&text), len, &login);
    if (!login.access_token || !login.refresh_token ||
        sscanf(login.access_token, "access-%d", &access) != 1 ||
        sscanf(login.refresh_token, "refresh-%d", &refresh) != 1)
        return 0;
    return access == refresh ? access : 0;
}

static inline bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static inline void open_keeper(struct world *w)
{
    struct err err = ERR_INIT;
    const struct keeper_config config = {.config = &w->in_force, .changed = on_changed, .arg = w};
    w->keeper = keeper_new(&config, &err);
    if (!w->keeper)
        fail_msg("%s", err.msg);
}

/* A fresh directory, a server whose pair 1 is valid, and no file yet. */
static inline struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    mono_moved_ms = real_moved_ms = 0;
    still_mono_us = still_real_us = 0;
    clock_use(&moved_clock);
    log_set_level(LOG_ERROR);
    snprintf(w->dir, sizeof(w->dir), "/tmp/unit-keeper-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    world_name(w);
    token_server_start(&w->server);
    struct config *config = world_config(w->dir, w->server.url);
    assert_non_null(config);
    config_in_force_init(&w->in_force, config);
    return w;
}

static inline void world_free(struct world *w)
{
    struct err err;
    keeper_free(w->keeper);
    token_server_stop(&w->server);
    config_in_force_done(&w->in_force);
    assert_false(exists(w->lock));
    assert_int_equal(path_remove_tree(w->dir, &err), 0);
    clock_use(NULL);
    free(w);
}

static inline struct keeper_status status_of(struct world *w)
{
    struct keeper_status status;
    keeper_look(w->keeper);
    keeper_status(w->keeper, &status);
    return status;
}

#define await(ms, condition)                                                    \
    do {                                                                        \
        int64_t end_us_ = system_us(CLOCK_MONOTONIC) + (ms)*INT64_C(1000);      \
        bool holds_ = false;                                                    \
        while (!(holds_ = (condition)) && system_us(CLOCK_MONOTONIC) < end_us_) \
            usleep(2000);                                                       \
        if (!holds_)                                                            \
            fail_msg("not within %d ms: %s", (int)(ms), #condition);            \
    } while (0)

#endif
