/*
 * What is normal when a container starts: for a moment nobody listens at the metadata server's or
 * an API's address, and the first answer takes long.
 */
#include "google_token_scene.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { AWAY_MS = 700, SLOW_MS = 11000, ENOUGH_MS = 60000 };

#define FLAVOR "Metadata-Flavor: Google\r\n"

static const char token[] = "{\"access_token\":\"a\",\"expires_in\":3600}";

/* The metadata server, and every API, that listens late or thinks long. */
struct starting {
    struct loopback *server;
    char *url;
    int think_ms; /* before the first answer */
    _Atomic int tokens, calls;
    pthread_t opener;
};

static bool answer(struct loopback_call *call, void *arg)
{
    struct starting *s = arg;
    if (!strstr(call->path, "/computeMetadata/")) {
        s->calls++;
        return loopback_answer(call, 200, "", "{\"ok\":true}");
    }
    if (s->tokens++ == 0 && s->think_ms && loopback_await_close(call, s->think_ms))
        return false;
    return loopback_answer(call, 200, FLAVOR, token);
}

static void *open_later(void *arg)
{
    struct starting *s = arg;
    const struct timespec away = {.tv_nsec = AWAY_MS * 1000000L};
    nanosleep(&away, NULL);
    loopback_listen(s->server);
    return NULL;
}

static void start_late(struct starting *s)
{
    s->server = loopback_reserve(answer, s);
    s->url = loopback_url(s->server, "");
    assert_int_equal(pthread_create(&s->opener, NULL, open_later, s), 0);
}

static void stop(struct starting *s)
{
    loopback_stop(s->server);
    free(s->url);
}

static struct google *client(const struct starting *s, bool at_google)
{
    struct err err = ERR_INIT;
    struct google_config config = {.metadata_host = s->url + strlen("http://"),
                                   .at_google = at_google};
    for (int i = 0; i < GOOGLE_API_COUNT; i++)
        config.endpoints[i] = s->url;
    struct google *google = google_new(&config, &err);
    if (!google)
        fail_msg("%s", err.msg);
    return google;
}

/* In a container of Google's, and at home with a metadata server that is named. */
static void nobody_who_listens_for_a_moment_costs_a_retry(void **state)
{
    (void)state;
    for (int at_google = 0; at_google <= 1; at_google++) {
        struct starting s = {.think_ms = 0};
        start_late(&s);
        int64_t began = clock_mono_ms();
        AUTO(google) struct google *google = client(&s, at_google);
        must_call(google);
        assert_true(clock_mono_ms() - began < ENOUGH_MS / 4);
        pthread_join(s.opener, NULL);
        assert_int_equal(s.tokens, 1); /* one token, one call: nothing is made twice */
        assert_int_equal(s.calls, 1);
        must_call(google);
        assert_int_equal(s.tokens, 1);
        stop(&s);
    }
}

/* The token is there, the API is not yet; a call that may be sent once only is sent all the same,
 * because a connection that was refused has sent nothing. */
static void an_api_that_listens_late_is_called_once(void **state)
{
    struct world *w = *state;
    char key[256];
    snprintf(key, sizeof(key), "%s/key.json", google_peer_dir(w->peer));
    for (int retry = GOOGLE_SAFE; retry <= GOOGLE_ONCE; retry++) {
        struct err err = ERR_INIT;
        struct starting s = {.think_ms = 0};
        start_late(&s);
        struct google_config config = {.credentials = key};
        config.endpoints[GOOGLE_RUN] = s.url;
        AUTO(google) struct google *google = google_new(&config, &err);
        const struct google_call run = {.api = GOOGLE_RUN,
                                        .method = "POST",
                                        .path = "/v2/x:run",
                                        .retry = (enum google_retry)retry};
        if (!google || google_call(google, &run, NULL, NULL, &err))
            fail_msg("%s", err.msg);
        pthread_join(s.opener, NULL);
        assert_int_equal(s.calls, 1);
        stop(&s);
    }
}

struct asker {
    struct google *google;
    struct err err;
};

static void *ask(void *arg)
{
    struct asker *asker = arg;
    return call(asker->google, &asker->err) ? asker : NULL;
}

/* Everybody who asks meanwhile waits for the same answer. */
static void an_answer_that_takes_eleven_seconds_is_waited_for(void **state)
{
    (void)state;
    enum { ASKERS = 4 };
    pthread_t threads[ASKERS];
    struct asker askers[ASKERS];
    struct starting s = {.think_ms = SLOW_MS};
    s.server = loopback_start(answer, &s);
    s.url = loopback_url(s.server, "");
    AUTO(google) struct google *google = client(&s, true);
    int64_t began = clock_mono_ms();
    for (int i = 0; i < ASKERS; i++) {
        askers[i] = (struct asker){google, ERR_INIT};
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &askers[i]), 0);
    }
    for (int i = 0; i < ASKERS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        if (failed)
            fail_msg("%s", askers[i].err.msg);
    }
    assert_true(clock_mono_ms() - began >= SLOW_MS);
    assert_int_equal(s.tokens, 1); /* it was not given up and asked again */
    assert_int_equal(s.calls, ASKERS);
    stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_who_listens_for_a_moment_costs_a_retry),
        TEST(an_api_that_listens_late_is_called_once),
        cmocka_unit_test(an_answer_that_takes_eleven_seconds_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
