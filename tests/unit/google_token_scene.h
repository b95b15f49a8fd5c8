/* Credential files and a token server, for the tests of Google tokens. */
#ifndef TESTS_GOOGLE_TOKEN_SCENE_H
#define TESTS_GOOGLE_TOKEN_SCENE_H

#include "google/google.h"

#include "base/clock.h"
#include "google_peer.h"

#include <stdlib.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* --- a clock that can be set ahead ---------------------------------------------------------- */

static _Atomic int64_t ahead_ms;

static inline int64_t mono_us(void *arg)
{
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((int64_t)now.tv_sec * 1000 + ahead_ms) * 1000 + now.tv_nsec / 1000;
}

static inline int64_t real_ms(void *arg)
{
    struct timespec now;
    (void)arg;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + ahead_ms + now.tv_nsec / 1000000;
}

static const struct clock test_clock = {mono_us, real_ms, NULL};

/* --- the world ------------------------------------------------------------------------------ */

static inline bool say_ok(struct loopback_call *call, const char *body, void *arg)
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

static inline int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    w->peer = google_peer_start(say_ok, &w->answered);
    w->google = google_peer_client(w->peer);
    *state = w;
    return 0;
}

static inline int tear_down(void **state)
{
    struct world *w = *state;
    google_free(w->google);
    google_peer_stop(w->peer);
    free(w);
    return 0;
}

static inline int call(struct google *google, struct err *err)
{
    const struct google_call ask = {
        .api = GOOGLE_RUN, .method = "GET", .path = "/v2/x", .total_ms = 20000};
    return google_call(google, &ask, NULL, NULL, err);
}

static inline void must_call(struct google *google)
{
    struct err err = ERR_INIT;
    if (call(google, &err))
        fail_msg("%s", err.msg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
