#include "webhook_scene.h"

/* Returns when the outbox has been looked at, that is, when another receiver has been served. */
static void look_around(struct world *w, const char *id)
{
    struct world other = {.status = 200};
    pthread_mutex_init(&other.lock, NULL);
    other.http = loopback_start(receive, &other);
    AUTO(str) char *url = loopback_url(other.http, "/");
    add_task(w, id, url);
    end_task(w, id, "x", 1);
    EVENTUALLY(20000, state_of(w, id) == WEBHOOK_DELIVERED);
    loopback_stop(other.http);
    pthread_mutex_destroy(&other.lock);
}

static void a_receiver_may_ask_for_rest(void **state)
{
    (void)state;
    struct world *w = world_new();
    w->status = 429;
    w->headers = "Retry-After: 100\r\n";
    open_webhook(w);
    owe(w, "a");
    EVENTUALLY(20000, tries_of(w, "a") == 1);
    pass(w, 99999);
    look_around(w, "b");
    assert_int_equal(w->count, 1);
    w->status = 200;
    w->headers = NULL;
    pass(w, 1);
    EVENTUALLY(20000, state_of(w, "a") == WEBHOOK_DELIVERED);
    assert_int_equal(w->seen[1].at_ms - w->seen[0].at_ms, 100000);
    world_free(w);
}

static void private_addresses_are_refused_when_they_are_connected_to(void **state)
{
    (void)state;
    struct world *w = world_new();
    AUTO(str)
    char *url = textf("http://localhost:%d/hook?token=hunter2", loopback_port(w->http));
    config_replace(&w->in_force, config_of("CALLBACK_ALLOW=10.0.0.0/8", ""));
    open_webhook(w);
    add_task(w, "t", url);
    end_task(w, "t", "x", 1);
    EVENTUALLY(20000, tries_of(w, "t") == 1);
    assert_last(w, "t", 0, "may not be reached");
    assert_int_equal(w->count, 0);
    config_replace(&w->in_force, config_of("CALLBACK_ALLOW=127.0.0.1", "")); /* SIGHUP */
    pass(w, 5000);
    EVENTUALLY(20000, state_of(w, "t") == WEBHOOK_DELIVERED);
    world_free(w);
}

static void one_receiver_gets_one_at_a_time(void **state)
{
    (void)state;
    struct world *w = world_new();
    for (int i = 0; i < 50; i++) {
        AUTO(str) char *id = textf("t-%d", i);
        owe(w, id);
    }
    open_webhook(w);
    /* however often the outbox is looked at */
    EVENTUALLY(60000, (webhook_wake(w->webhook), state_of(w, "t-49") == WEBHOOK_DELIVERED));
    webhook_stop(w->webhook);
    assert_int_equal(w->count, 50);
    assert_int_equal(w->crowd, 1);
    for (int i = 0; i < 50; i++) { /* in the order in which the tasks ended */
        AUTO(str) char *id = textf("\"taskId\":\"t-%d\"", i);
        assert_non_null(strstr(w->seen[i].body, id));
    }
    world_free(w);
}

static void one_silent_receiver_does_not_delay_the_others_of_its_host(void **state)
{
    (void)state;
    struct world *w = world_new();
    for (int i = 0; i < 5; i++) {
        AUTO(str) char *id = textf("silent-%d", i);
        owe_at(w, id, "/silent");
    }
    for (int i = 0; i < 5; i++) {
        AUTO(str) char *id = textf("t-%d", i);
        AUTO(str) char *path = textf("/hook-%d?token=hunter2", i);
        owe_at(w, id, path);
    }
    open_webhook(w);
    for (int i = 0; i < 5; i++) {
        AUTO(str) char *id = textf("t-%d", i);
        EVENTUALLY(20000, state_of(w, id) == WEBHOOK_DELIVERED);
        assert_int_equal(tries_of(w, "silent-0"), 0); /* it still waits for its answer */
    }
    assert_int_equal(tries_of(w, "silent-1"), 0);
    world_free(w);
}

/* Each with a URL of its own: they take some of the workers and leave the others to other hosts. */
static void silent_receivers_of_one_host_do_not_take_every_worker(void **state)
{
    (void)state;
    struct world *w = world_new();
    for (int i = 0; i < 50; i++) {
        AUTO(str) char *id = textf("silent-%d", i);
        AUTO(str) char *path = textf("/silent/%d", i);
        owe_at(w, id, path);
    }
    open_webhook(w);
    EVENTUALLY(20000, w->count == WEBHOOK_HOST_WORKERS);
    look_around(w, "t");
    assert_int_equal(w->count, WEBHOOK_HOST_WORKERS);
    world_free(w);
}

/* More dead hosts than workers, with many webhooks for each. */
static void hosts_that_hang_do_not_keep_others_waiting(void **state)
{
    (void)state;
    enum { DEAD = 12, EACH = 20 };
    struct world *w = world_new(), dead[DEAD] = {0};
    for (int i = 0; i < DEAD; i++) {
        pthread_mutex_init(&dead[i].lock, NULL);
        dead[i].http = loopback_start(receive, &dead[i]); /* closes the connection at once */
        for (int k = 0; k < EACH; k++) {
            AUTO(str) char *url = loopback_url(dead[i].http, "/");
            AUTO(str) char *id = textf("dead-%d-%d", i, k);
            add_task(w, id, url);
            end_task(w, id, "x", 1);
        }
    }
    atomic_fetch_add(&real_ms, 1);
    owe(w, "t"); /* due last */
    open_webhook(w);
    EVENTUALLY(60000, state_of(w, "t") == WEBHOOK_DELIVERED);
    int wasted = 0;
    for (int i = 0; i < DEAD; i++)
        wasted += dead[i].count;
    if (wasted > DEAD * EACH / 2) /* by due time alone all attempts would go there */
        fail_msg("%d tries to dead hosts came first", wasted);
    webhook_stop(w->webhook);
    for (int i = 0; i < DEAD; i++) {
        loopback_stop(dead[i].http);
        pthread_mutex_destroy(&dead[i].lock);
    }
    world_free(w);
}

static void stopping_breaks_a_try_off_and_it_is_made_again(void **state)
{
    (void)state;
    struct world *w = world_new();
    w->status = -1;
    open_webhook(w);
    owe(w, "t");
    EVENTUALLY(20000, w->count == 1);
    int64_t begun = now_ms();
    webhook_stop(w->webhook);
    assert_true(now_ms() - begun < 20000);
    assert_int_equal(tries_of(w, "t"), 0);
    webhook_free(w->webhook);
    w->status = 200;
    open_webhook(w);
    EVENTUALLY(20000, state_of(w, "t") == WEBHOOK_DELIVERED);
    assert_string_equal(w->seen[1].id, w->seen[0].id);
    world_free(w);
}

static void a_lost_key_file_ends_in_dead_webhooks_not_in_a_loop(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err;
    char other[32];
    AUTO(webhook_record) struct webhook_record record = {0};
    AUTO(str) char *path = textf("%s/secret.key", w->dir);
    AUTO(buf) struct buf json = BUF_INIT(1000);
    struct json_writer writer;
    owe(w, "t");
    memset(other, 'x', sizeof(other));
    write_bytes(path, other, sizeof(other));
    store_close(w->store);
    w->store = store_open(w->dir, &err);
    OK(w->store, &err);
    open_webhook(w);
    EVENTUALLY(20000, tries_of(w, "t") == 1);
    assert_last(w, "t", 0, "secret.key");
    OK(store_webhook(w->store, "t", &record, &err) == 0, &err);
    json_write(&writer, &json);
    json_open_object(&writer, NULL);
    webhook_print(&record, &writer);
    assert_non_null(strstr(buf_str(&json), "\"url\":null"));
    world_free(w);
}

static long rss_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return pages * 4;
}

static void *owe_many(void *arg)
{
    struct world *w = arg;
    static _Atomic int next;
    for (int i; (i = next++) < 10000;) {
        AUTO(str) char *id = textf("t-%d", i);
        AUTO(str) char *url = textf("https://host-%d.example/hook", i % 500);
        add_task(w, id, url);
        end_task(w, id, "x", 1);
    }
    return NULL;
}

/* None is due: the clock is before the end of every task. */
static void ten_thousand_that_wait_cost_no_memory_and_no_time(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct err err;
    struct webhook_receiver hosts[16];
    struct webhook_numbers numbers;
    in_threads(16, owe_many, w);
    atomic_fetch_sub(&real_ms, 1000);
    long before = rss_kib();
    open_webhook(w);
    for (int i = 0; i < 20; i++)
        webhook_wake(w->webhook);
    int64_t begun = now_ms();
    assert_int_equal(store_webhook_receivers(w->store, clock_real_ms(), hosts, 16, &err), 16);
    assert_true(now_ms() - begun < 10000);
    OK(webhook_numbers(w->webhook, &numbers, &err) == 0, &err);
    assert_int_equal(numbers.pending, 10000);
    webhook_stop(w->webhook);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    if (rss_kib() - before > 4096)
        fail_msg("%ld KiB", rss_kib() - before);
#else
    (void)before;
#endif
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receiver_may_ask_for_rest),
        cmocka_unit_test(private_addresses_are_refused_when_they_are_connected_to),
        cmocka_unit_test(one_receiver_gets_one_at_a_time),
        cmocka_unit_test(one_silent_receiver_does_not_delay_the_others_of_its_host),
        cmocka_unit_test(silent_receivers_of_one_host_do_not_take_every_worker),
        cmocka_unit_test(hosts_that_hang_do_not_keep_others_waiting),
        cmocka_unit_test(stopping_breaks_a_try_off_and_it_is_made_again),
        cmocka_unit_test(a_lost_key_file_ends_in_dead_webhooks_not_in_a_loop),
        cmocka_unit_test(ten_thousand_that_wait_cost_no_memory_and_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
