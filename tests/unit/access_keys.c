#include "access_scene.h"

#include "base/fd.h"
#include "runner/access/jwks.h"

#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>

static void reopen_access(struct world *w)
{
    access_free(w->access);
    open_access(w, true);
}

/* --- keys ---------------------------------------------------------------------------------- */

static void sets_are_read_strictly(void **state)
{
    (void)state;
    static const char *const none[] = {"",
                                       "{}",
                                       "[]",
                                       "{\"keys\":{}}",
                                       "{\"keys\":[]}",
                                       "{\"keys\":[null,7,\"x\",[]]}",
                                       "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"a\"}]}",
                                       "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"AA\"}]}"};
    struct err err;
    for (size_t i = 0; i < COUNT_OF(none); i++)
        assert_null(jwks_parse(none[i], strlen(none[i]), &err));
    AUTO(buf) struct buf set = BUF_INIT(65536);
    buf_adds(&set, "{\"keys\":[");
    add_jwk(&set, small, "small", fine);
    add_jwk(&set, one, "enc", ",\"alg\":\"RS256\",\"use\":\"enc\"");
    add_jwk(&set, one, "ps", ",\"alg\":\"PS256\"");
    add_jwk(&set, one, "", fine);
    add_jwk(&set, one, "twice", fine);
    add_jwk(&set, two, "twice", fine);
    add_jwk(&set, two, "bare", "");
    buf_adds(&set, ",{\"kty\":\"RSA\",\"kid\":\"bad\",\"e\":\"AQAB\",\"n\":\"not+base64url\"}"
                   ",{\"kty\":\"RSA\",\"kid\":\"zero\",\"e\":\"AQAB\",\"n\":\"AA\"}]}");
    AUTO(jwks) struct jwks *jwks = jwks_parse(set.data, set.len, &err);
    assert_int_equal(jwks_count(jwks), 2);
    assert_non_null(jwks_find(jwks, "twice"));
    assert_non_null(jwks_find(jwks, "bare"));
    assert_null(jwks_find(jwks, "small"));
    assert_null(jwks_find(jwks, "twice "));
    assert_null(jwks_find(NULL, "twice"));
}

static void many_keys_are_cut_off(void **state)
{
    (void)state;
    struct err err;
    AUTO(buf) struct buf set = BUF_INIT(JWKS_BYTES_MAX);
    buf_adds(&set, "{\"keys\":[");
    for (int i = 0; i < JWKS_KEYS_MAX + 10; i++) {
        char kid[16];
        snprintf(kid, sizeof(kid), "k%d", i);
        add_jwk(&set, one, kid, fine);
    }
    buf_adds(&set, "]}");
    AUTO(jwks) struct jwks *jwks = jwks_parse(set.data, set.len, &err);
    assert_int_equal(jwks_count(jwks), JWKS_KEYS_MAX);
}

static void a_new_key_is_fetched_when_a_token_names_it(void **state)
{
    (void)state;
    AUTO(str) char *old = make_set(true, false);
    AUTO(str) char *both = make_set(true, true);
    AUTO(str) char *new = make_set(false, true);
    struct world *w = world_new(old);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    w->set = both;
    EVENTUALLY(20000, check_made(w, two, K2, GOOD) == 0); /* the check waits for two seconds only */
    assert_int_equal(check_made(w, one, K1, GOOD), 0);    /* the old keys stay in use */
    assert_int_equal(loopback_requests(w->http), 2);
    w->set = new;
    mono_moved_ms += 7 * 3600000; /* without a token that needs them */
    EVENTUALLY(20000, loopback_requests(w->http) == 3);
    EVENTUALLY(20000, check_made(w, one, K1, GOOD) != 0);
    EVENTUALLY(20000, check_made(w, two, K2, GOOD) == 0);
    world_free(w);
}

static void unknown_keys_do_not_make_it_hammer_or_wait(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    int64_t began = now_ms();
    for (int i = 0; i < 100; i++)
        assert_int_equal(check_made(w, one, "{\"alg\":\"RS256\",\"kid\":\"k9\"}", GOOD), -1);
    EVENTUALLY(20000, loopback_requests(w->http) == 2);
    assert_true(now_ms() - began < 20000);
    mono_moved_ms += 31000;
    for (int i = 0; i < 100; i++)
        assert_int_equal(check_made(w, one, "{\"alg\":\"RS256\",\"kid\":\"k9\"}", GOOD), -1);
    EVENTUALLY(20000, loopback_requests(w->http) == 3);
    world_free(w);
}

struct caller {
    pthread_t thread;
    struct world *world;
    const char *token;
    int rc;
    int64_t took_ms;
};

static void *call(void *arg)
{
    struct caller *caller = arg;
    struct err err;
    int64_t began = now_ms();
    caller->rc = access_check(caller->world->access, caller->token, &err);
    caller->took_ms = now_ms() - began;
    return NULL;
}

/* How many of a crowd with an unknown key wait. */
static int held_of_a_crowd(struct world *w, const char *token)
{
    struct caller callers[32];
    int waited = 0;
    for (size_t i = 0; i < COUNT_OF(callers); i++) {
        callers[i] = (struct caller){.world = w, .token = token};
        pthread_create(&callers[i].thread, NULL, call, &callers[i]);
    }
    assert_int_equal(check_made(w, one, K1, GOOD), 0); /* a known key needs no request */
    for (size_t i = 0; i < COUNT_OF(callers); i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].rc, -1);
        assert_true(callers[i].took_ms < 15000);
        waited += callers[i].took_ms > 2000;
    }
    return waited;
}

/* The best of a few crowds: one in which nobody got a processor for a while seems to wait. */
static void a_slow_cloudflare_holds_few_and_not_for_long(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    AUTO(str) char *token = make_token(one, "{\"alg\":\"RS256\",\"kid\":\"k9\"}", GOOD);
    struct world *w = world_new(set);
    int waited = INT_MAX, crowds = 0;
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    w->delay_ms = 20000;
    for (; waited > 4 && crowds < 3; crowds++) {
        mono_moved_ms += 31000; /* so that the key is asked for */
        waited = held_of_a_crowd(w, token);
    }
    assert_true(waited <= 4);
    EVENTUALLY(20000, loopback_requests(w->http) >= 2);
    assert_true(loopback_requests(w->http) <= 1 + 2 * crowds); /* one of its own by each crowd, and
                                                                * one that follows a failed one */
    world_free(w);
}

static int requests_an_hour_later(struct world *w)
{
    mono_moved_ms += 3600000;
    return loopback_requests(w->http);
}

static void a_restart_works_while_the_keys_cannot_be_reached(void **state)
{
    (void)state;
    struct stat st;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    w->set = NULL;
    reopen_access(w);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    EVENTUALLY(20000, loopback_requests(w->http) == 2);
    assert_int_equal(check_made(w, one, K1, GOOD), 0); /* a failed request keeps the known keys */
    assert_int_equal(stat(w->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    w->set = "{\"keys\":[]}";
    /* until the thread has noticed: an hour of the clock may pass while it still handles the
     * earlier answer */
    EVENTUALLY(20000, requests_an_hour_later(w) >= 3);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    world_free(w);
}

static void keys_of_another_place_on_the_disk_are_not_used(void **state)
{
    (void)state;
    struct err err;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(set);
    assert_int_equal(check_made(w, one, K1, GOOD), 0);
    w->set = NULL;
    free(w->url);
    w->url = loopback_url(w->http, "/other");
    reopen_access(w);
    assert_int_equal(check_made(w, one, K1, GOOD), -1);
    static const char *const spoilt[] = {"", "\n", "x", "{\"keys\":[]}"};
    for (size_t i = 0; i < COUNT_OF(spoilt); i++) {
        AUTO(buf) struct buf text = BUF_INIT(4096);
        buf_addf(&text, "%s%s%s", w->url, i ? "\n" : "", spoilt[i]);
        assert_int_equal(file_replace(w->path, text.data, text.len, 0600, &err), 0);
        reopen_access(w);
        assert_int_equal(check_made(w, one, K1, GOOD), -1);
    }
    world_free(w);
}

static void without_any_key_it_comes_as_soon_as_it_can_be_had(void **state)
{
    (void)state;
    AUTO(str) char *set = make_set(true, true);
    struct world *w = world_new(NULL);
    assert_int_equal(check_made(w, one, K1, GOOD), -1);
    w->set = set;
    mono_moved_ms += 6000;
    EVENTUALLY(20000, check_made(w, one, K1, GOOD) == 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_are_read_strictly),
        cmocka_unit_test(many_keys_are_cut_off),
        cmocka_unit_test(a_new_key_is_fetched_when_a_token_names_it),
        cmocka_unit_test(unknown_keys_do_not_make_it_hammer_or_wait),
        cmocka_unit_test(a_slow_cloudflare_holds_few_and_not_for_long),
        cmocka_unit_test(a_restart_works_while_the_keys_cannot_be_reached),
        cmocka_unit_test(keys_of_another_place_on_the_disk_are_not_used),
        cmocka_unit_test(without_any_key_it_comes_as_soon_as_it_can_be_had),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
