/*
 * The owner is told when the login needs them: the daemon, a token server and who is told.
 */
#include "loopback.h"
#include "testing.h"
#include "token_server.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct told {
    struct loopback *http;
    _Atomic int refuses; /* the next ones that come */
    _Atomic int count;
    pthread_mutex_t lock;
    char *last; /* head and body */
};

static bool take(struct loopback_call *call, void *arg)
{
    struct told *told = arg;
    char *body = loopback_body(call);
    int status = told->refuses > 0 ? 500 : 200;
    pthread_mutex_lock(&told->lock);
    free(told->last);
    told->last = textf("%s\n%s", call->head, body);
    pthread_mutex_unlock(&told->lock);
    free(body);
    if (status != 200)
        told->refuses--;
    told->count++;
    return loopback_answer(call, status, "", "");
}

/* What came last; valid until the next call of this. */
static const char *last_of(struct told *told)
{
    static char *copy;
    free(copy);
    pthread_mutex_lock(&told->lock);
    copy = strdup(told->last ? told->last : "");
    pthread_mutex_unlock(&told->lock);
    return copy;
}

static void start_told(struct told *told)
{
    memset(told, 0, sizeof *told);
    pthread_mutex_init(&told->lock, NULL);
    told->http = loopback_start(take, told);
}

static void stop_told(struct told *told)
{
    loopback_stop(told->http);
    pthread_mutex_destroy(&told->lock);
    free(told->last);
}

/* Pair N, with so many hours to live. */
static void put_pair(const struct runner *runner, int n, int hours)
{
    char *path = textf("%s/.credentials.json", runner->config);
    char *next = textf("%s.next", path);
    char *text = textf("{\"claudeAiOauth\":{\"accessToken\":\"access-%d\",\"refreshToken\":"
                       "\"refresh-%d\",\"expiresAt\":%lld}}",
                       n, n, ((long long)time(NULL) + hours * 3600LL) * 1000);
    write_file(next, text, 0600);
    assert_int_equal(rename(next, path), 0);
    free(text);
    free(next);
    free(path);
}

static struct runner *with_alert(const struct token_server *tokens, const struct told *told,
                                 const char *form)
{
    struct runner *runner = runner_new();
    char *url = loopback_url(told->http, form);
    runner_set(runner, "ANTHROPIC_API_KEY", NULL);
    runner_set(runner, "OAUTH_TOKEN_URL", tokens->url);
    runner_set(runner, "ALERT_URL", url);
    free(url);
    return runner;
}

/* Whether the runner holds that the owner has been told of a lost login, and it is still lost. */
static bool is_noted(const struct runner *runner)
{
    char *path = textf("%s/alerted", runner->state);
    bool is = file_size(path) >= 0;
    free(path);
    return is;
}

/* Long enough for one more alert to have come. */
static void let_it_look(void)
{
    int64_t end = now_ms() + 2500 * slowness();
    while (now_ms() < end)
        poll_pause();
}

static void a_lost_login_is_told_once_also_across_restarts(void **state)
{
    (void)state;
    struct token_server tokens;
    struct told told;
    token_server_start(&tokens);
    start_told(&told);
    struct runner *runner = with_alert(&tokens, &told, "/topic#ntfy");
    put_pair(runner, 7, -1); /* the token server does not know it */
    told.refuses = 1;        /* the first try is not taken */
    runner_start(runner);
    EVENTUALLY(60000, told.count == 2);
    let_it_look();
    assert_int_equal(told.count, 2);
    assert_non_null(strstr(last_of(&told), "POST /topic HTTP/1.1"));
    assert_non_null(strstr(last_of(&told), "Title: Claude login needed"));
    assert_null(strstr(last_of(&told), "access-"));
    assert_null(strstr(last_of(&told), "refresh-"));
    assert_null(strstr(last_of(&told), RUNNER_SECRET));

    assert_int_equal(runner_stop(runner, 20000), 0);
    runner_start(runner);
    let_it_look();
    assert_int_equal(told.count, 2);

    assert_true(is_noted(runner));
    put_pair(runner, 1, 8); /* logged in again … */
    EVENTUALLY(30000, !is_noted(runner));
    put_pair(runner, 9, -1); /* … and lost again */
    EVENTUALLY(30000, told.count == 3);
    let_it_look();
    assert_int_equal(told.count, 3);
    runner_free(runner);
    stop_told(&told);
    token_server_stop(&tokens);
}

static void a_login_that_ends_soon_and_cannot_be_refreshed_is_told(void **state)
{
    (void)state;
    struct token_server tokens;
    struct told told;
    token_server_start(&tokens);
    tokens.status = 503;
    start_told(&told);
    struct runner *runner = with_alert(&tokens, &told, "/hook");
    put_pair(runner, 1, 1);
    runner_start(runner);
    EVENTUALLY(30000, told.count == 1);
    cJSON *json = cJSON_Parse(strchr(last_of(&told), '{'));
    assert_json_text(json, "event", "login_ends");
    assert_json_bool(json, "oauth.expired", false);
    cJSON_Delete(json);
    let_it_look();
    assert_int_equal(told.count, 1);
    runner_free(runner);
    stop_told(&told);
    token_server_stop(&tokens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_login_is_told_once_also_across_restarts),
        cmocka_unit_test(a_login_that_ends_soon_and_cannot_be_refreshed_is_told),
    };
    return cmocka_run_group_tests_name("alert", tests, NULL, NULL);
}
