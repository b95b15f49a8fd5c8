/*
 * The credential proxy between an untrusted client (a task) and an API that answers well, badly or
 * not at all.
 */
#include "proxy_scene.h"

static bool client_got(const struct scene *s, const char *text)
{
    return strcasestr(buf_str(&s->in), text) != NULL;
}

/* --- headers ------------------------------------------------------------------------------- */

static void what_concerns_one_connection_stays_on_it(void **state)
{
    (void)state;
    static const char *const dropped[] = {"x-one:",   "x-two:", "keep-alive:", "te:",     "cookie:",
                                          "upgrade:", "proxy-", "forwarded",   "trailer:"};
    struct scene *s = scene_new();
    answer_with(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Three\r\n"
                   "X-Three: 3\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=b\r\n"
                   "Proxy-Authenticate: Basic\r\nX-Many: one\r\nX-Many:  two \r\n"
                   "request-id: req_1\r\n\r\n{}");
    assert_int_equal(call(s, "/v1/messages?beta=true",
                          "Connection: X-One\r\nConnection: x-TWO , upgrade\r\nX-One: 1\r\n"
                          "X-Two: 2\r\nKeep-Alive: 1\r\nTE: trailers\r\nTrailer: X\r\n"
                          "Cookie: a=b\r\nUpgrade: websocket\r\nProxy-Authorization: Basic eA==\r\n"
                          "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n"
                          "anthropic-beta: one,two\r\nX-Empty:\r\n"),
                     200);
    for (size_t i = 0; i < COUNT_OF(dropped); i++)
        if (api_got(s, dropped[i]))
            fail_msg("the API got '%s': %s", dropped[i], s->up.head);
    assert_true(api_got(s, "\r\nanthropic-beta: one,two\r\n"));
    assert_true(api_got(s, "\r\nX-Empty:\r\n"));
    assert_true(api_got(s, "POST /v1/messages?beta=true HTTP/1.1\r\n"));
    assert_true(client_got(s, "\r\nX-Many: one\r\n"));
    assert_true(client_got(s, "\r\nX-Many: two\r\n"));
    assert_true(client_got(s, "\r\nrequest-id: req_1\r\n"));
    assert_false(client_got(s, "x-three") || client_got(s, "set-cookie") ||
                 client_got(s, "proxy-authenticate") || client_got(s, "keep-alive"));
    scene_free(s);
}

static void the_credential_is_the_runners_whatever_the_client_sends(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    assert_int_equal(call(s, "/v1/messages", "X-Api-Key: sk-evil\r\n"), 200);
    assert_true(api_got(s, "\r\nAuthorization: Bearer " TOKEN "\r\n"));
    assert_false(api_got(s, "runner-task-") || api_got(s, "sk-evil") || api_got(s, "x-api-key"));
    take_lease(s, LEASE_KEY, "sk-own");
    assert_int_equal(call(s, "/v1/messages", ""), 200);
    assert_true(api_got(s, "\r\nx-api-key: sk-own\r\n"));
    assert_false(api_got(s, "authorization") || api_got(s, TOKEN));
    take_lease(s, LEASE_OAUTH, "own-oauth");
    assert_int_equal(call(s, "/v1/messages", ""), 200);
    assert_true(api_got(s, "\r\nAuthorization: Bearer own-oauth\r\n"));
    scene_free(s);
}

/* --- where to ------------------------------------------------------------------------------ */

static int status_of_target(struct scene *s, const char *method, const char *target,
                            const char *host)
{
    AUTO(buf) struct buf text = BUF_INIT(8192);
    buf_addf(&text,
             "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 2\r\n"
             "Connection: close\r\n\r\n{}",
             method, target, host, lease_token(s->lease));
    int fd = peer_connect(s->port);
    peer_send_bytes(fd, text.data, text.len);
    buf_clear(&s->in);
    assert_true(peer_read_end(fd, &s->in));
    close(fd);
    return peer_status(&s->in);
}

static void nothing_but_the_apis_own_calls_passes(void **state)
{
    (void)state;
    static const char *const refused[][2] = {
        {"POST", "//v1/messages"},
        {"POST", "/v1//messages"},
        {"POST", "/v1/messages/"},
        {"POST", "/V1/messages"},
        {"POST", "/v1/./messages"},
        {"POST", "/v1/../v1/messages"},
        {"POST", "/v1/messages/.."},
        {"POST", "/v1/%2e%2e/v1/messages"},
        {"POST", "/v1%2fmessages"},
        {"POST", "/v1/messages%00"},
        {"POST", "/v1/messages%0d%0aX: y"},
        {"POST", "/v1/messages%3f"},
        {"POST", "/v1/messages;a=b"},
        {"POST", "/v1\\messages"},
        {"POST", "/v1/messages#x"},
        {"POST", "/v1/messages/batches"},
        {"POST", "/v1/files"},
        {"POST", "/v1/oauth/token"},
        {"POST", "/api/oauth/claude_cli/create_api_key"},
        {"GET", "/api/oauth/profile"},
        {"GET", "/v1/models/../oauth/token"},
        {"GET", "/v1/models/%2e%2e"},
        {"GET", "/v1/models/a%2fb"},
        {"GET", "/v1/models/a/b"},
        {"GET", "/v1/messages"},
        {"PUT", "/v1/messages"},
        {"DELETE", "/v1/models/x"},
        {"CONNECT", "api.anthropic.com:443"},
        {"CONNECT", "/v1/messages"},
        {"TRACE", "/v1/messages"},
        {"OPTIONS", "*"},
        {"POST", "*"},
        {"POST", "v1/messages"},
        {"POST", "ftp://api.anthropic.com/v1/messages"},
        {"POST", "http://user@evil.test/v1/messages"},
        {"POST", "http:///v1/messages"},
    };
    struct scene *s = scene_new();
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        int status = status_of_target(s, refused[i][0], refused[i][1], "test");
        if (status < 400 || status == 401 || status > 501)
            fail_msg("%s %s: %d", refused[i][0], refused[i][1], status);
    }
    assert_int_equal(s->up.requests, 0);
    scene_free(s);
}

/* A client may name another host, or send a whole URL as to a forward proxy. */
static void the_upstream_is_fixed(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    char host[64];
    snprintf(host, sizeof(host), "\r\nHost: 127.0.0.1:%d\r\n", loopback_port(s->up.http));
    assert_int_equal(status_of_target(s, "POST", "/v1/messages", "evil.test"), 200);
    assert_true(api_got(s, host));
    assert_int_equal(status_of_target(s, "POST", "http://evil.test/v1/messages", "evil.test"), 200);
    assert_true(api_got(s, host) && !api_got(s, "evil"));
    assert_int_equal(status_of_target(s, "GET", "/v1/models/%252e%252e%3Fa", "x"), 200);
    assert_true(api_got(s, "GET /v1/models/%252e%252e%3Fa HTTP/1.1\r\n"));
    assert_int_equal(s->up.requests, 3);
    answer_with(s,
                "HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(call(s, "/v1/messages", ""), 302);
    assert_int_equal(s->up.requests, 4); /* the redirect is not followed */
    scene_free(s);
}

static void tokens_that_are_not_alive_open_nothing(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    static const char *const wrong[] = {
        "Authorization: Bearer \r\n",    "X-Api-Key: \r\n",
        "Authorization: Basic eDp5\r\n", "Authorization: Bearer " TOKEN "\r\n",
        "X-Api-Key: runner-task-\r\n",   ""};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        AUTO(buf) struct buf text = BUF_INIT(8192);
        buf_addf(&text, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n",
                 wrong[i]);
        int fd = peer_connect(s->port);
        peer_send(fd, buf_str(&text));
        buf_clear(&s->in);
        assert_true(peer_read_end(fd, &s->in));
        assert_int_equal(peer_status(&s->in), 401);
        close(fd);
    }
    assert_int_equal(s->up.requests, 0);
    scene_free(s);
}

/* --- bodies -------------------------------------------------------------------------------- */

static long rss_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static void a_gigabyte_of_request_passes_at_flat_memory(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const int64_t size = 64 * MEBI;
#else
    const int64_t size = 1024 * MEBI;
#endif
    static char data[1 << 18];
    char more[64], count[32];
    struct scene *s = scene_new();
    s->up.manner = SWALLOW;
    snprintf(more, sizeof(more), "Content-Length: %lld\r\nConnection: close\r\n", (long long)size);
    int fd = ask(s, "/v1/messages", more, NULL);
    long before = 0;
    for (int64_t sent = 0; sent < size; sent += (int64_t)sizeof(data)) {
        peer_send_bytes(fd, data, sizeof(data));
        if (sent == 16 * MEBI)
            before = rss_kib();
    }
    assert_true(peer_read_end(fd, &s->in));
    assert_int_equal(peer_status(&s->in), 200);
    snprintf(count, sizeof(count), "%lld", (long long)size);
    assert_true(client_got(s, count));
    assert_true(rss_kib() - before < 8192);
    close(fd);
    scene_free(s);
}

static void a_chunked_request_passes_chunked(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    s->up.manner = SWALLOW;
    int fd = ask(s, "/v1/messages", "Transfer-Encoding: chunked\r\nConnection: close\r\n", NULL);
    peer_send(fd, "4\r\nabcd\r\n");
    peer_send(fd, "3;ext=1\r\nefg\r\n0\r\nX-Trailer: 1\r\n\r\n");
    assert_true(peer_read_end(fd, &s->in));
    assert_int_equal(peer_status(&s->in), 200);
    assert_int_equal(s->up.bytes, 7);
    assert_true(api_got(s, "Transfer-Encoding: chunked") && !api_got(s, "Content-Length"));
    close(fd);
    scene_free(s);
}

static void who_waits_for_leave_to_send_gets_it(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    s->up.manner = SWALLOW;
    int fd = ask(s, "/v1/messages",
                 "Expect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n", NULL);
    assert_true(peer_read_until(fd, &s->in, "HTTP/1.1 100 Continue\r\n\r\n"));
    buf_clear(&s->in);
    peer_send(fd, "hello");
    assert_true(peer_read_end(fd, &s->in));
    assert_int_equal(peer_status(&s->in), 200);
    assert_int_equal(s->up.bytes, 5);
    assert_false(api_got(s, "Expect"));
    close(fd);
    scene_free(s);
}

/* --- clients of every kind ----------------------------------------------------------------- */

static void an_old_client_gets_an_answer_without_chunks(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    AUTO(buf) struct buf text = BUF_INIT(4096);
    answer_with(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n");
    buf_addf(&text, "POST /v1/messages HTTP/1.0\r\nX-Api-Key: %s\r\nContent-Length: 2\r\n\r\n{}",
             lease_token(s->lease));
    int fd = peer_connect(s->port);
    peer_send(fd, buf_str(&text));
    assert_true(peer_read_end(fd, &s->in));
    assert_int_equal(peer_status(&s->in), 200);
    assert_false(client_got(s, "chunked"));
    assert_true(client_got(s, "\r\n\r\nfirstlast"));
    assert_string_equal(buf_str(&s->in) + s->in.len - 9, "firstlast");
    close(fd);
    scene_free(s);
}

static void requests_sent_together_are_answered_in_order(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    AUTO(buf) struct buf text = BUF_INIT(8192);
    for (int i = 0; i < 3; i++)
        buf_addf(&text, "%s HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n%s\r\n%s",
                 i == 1 ? "POST /v1/nothing" : "POST /v1/messages", lease_token(s->lease),
                 i == 1 ? 0 : 2, i == 2 ? "Connection: close\r\n" : "", i == 1 ? "" : "{}");
    int fd = peer_connect(s->port);
    peer_send(fd, buf_str(&text));
    assert_true(peer_read_end(fd, &s->in));
    const char *first = strstr(buf_str(&s->in), "HTTP/1.1 200");
    const char *second = first ? strstr(first, "HTTP/1.1 404") : NULL;
    assert_non_null(second);
    assert_non_null(strstr(second, "HTTP/1.1 200"));
    assert_int_equal(s->up.requests, 2);
    close(fd);
    scene_free(s);
}

static void a_client_that_leaves_ends_its_request_at_the_api(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    struct proxy_stats stats;
    s->up.manner = HOLD;
    int fd = ask(s, "/v1/messages", "", "{}");
    assert_true(peer_read_until(fd, &s->in, "data: first"));
    close(fd);
    peer_wait_for(s->up.left == 1);
    s->up.manner = SWALLOW;
    fd = ask(s, "/v1/messages", "Content-Length: 1000\r\n", NULL);
    peer_send(fd, "only this much");
    peer_wait_for(s->up.bytes > 0);
    close(fd);
    peer_wait_for(s->up.left == 2);
    peer_wait_for((proxy_stats(s->proxy, &stats), stats.in_flight == 0));
    assert_int_equal(stats.failed, 2);
    scene_free(s);
}

/* One task may hold so many connections that others still have room. */
static void one_task_does_not_crowd_out_another(void **state)
{
    (void)state;
    enum { ALLOWED = 104 };
    int fds[ALLOWED];
    struct scene *s = scene_new();
    s->up.manner = HOLD;
    for (int i = 0; i < ALLOWED; i++)
        fds[i] = ask(s, "/v1/messages", "", "{}");
    peer_wait_for(s->up.requests == ALLOWED);
    assert_int_equal(call(s, "/v1/messages", ""), 429);
    assert_true(client_got(s, "\r\nRetry-After: 1\r\n"));
    struct lease *greedy = s->lease;
    s->lease = NULL;
    take_lease(s, LEASE_LOGIN, NULL);
    buf_clear(&s->in);
    int fd = ask(s, "/v1/messages", "", "{}");
    assert_true(peer_read_until(fd, &s->in, "data: first"));
    close(fd);
    proxy_end(greedy);
    for (int i = 0; i < ALLOWED; i++)
        close(fds[i]);
    peer_wait_for(s->up.left == ALLOWED + 1);
    scene_free(s);
}

static void a_task_that_ends_takes_its_requests_along(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    s->up.manner = HOLD;
    int fd = ask(s, "/v1/messages", "", "{}");
    assert_true(peer_read_until(fd, &s->in, "data: first"));
    proxy_end(s->lease);
    s->lease = NULL;
    peer_wait_for(s->up.left == 1);
    assert_true(peer_read_end(fd, &s->in));
    assert_false(client_got(s, "\r\n0\r\n")); /* the client can tell that the answer is
                                               * incomplete */
    close(fd);
    scene_free(s);
}

static void events_pass_as_they_come(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    s->up.manner = HOLD; /* nothing comes after the first event */
    int64_t before = system_us(CLOCK_MONOTONIC);
    int fd = ask(s, "/v1/messages", "", "{}");
    assert_true(peer_read_until(fd, &s->in, "data: first\n\n"));
    assert_true(system_us(CLOCK_MONOTONIC) - before < 20000000);
    assert_true(client_got(s, "Content-Type: text/event-stream"));
    close(fd);
    scene_free(s);
}

/* --- an API that fails --------------------------------------------------------------------- */

static void an_api_that_dies_is_told_from_one_that_ends(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    s->up.manner = RESET;
    assert_int_equal(call(s, "/v1/messages", ""), 502);
    assert_true(client_got(s, "\"type\":\"api_error\""));
    s->up.manner = BREAK_OFF;
    assert_int_equal(call(s, "/v1/messages", ""), 200);
    assert_true(client_got(s, "data: first"));
    assert_false(client_got(s, "\r\n0\r\n"));
    s->up.manner = ANSWER;
    assert_int_equal(call(s, "/v1/messages", ""), 200);
    scene_free(s);
}

static void a_kept_connection_that_was_closed_meanwhile_costs_nothing(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    s->up.manner = ANSWER_LEAVE;
    for (int i = 0; i < 10; i++)
        assert_int_equal(call(s, "/v1/messages", ""), 200);
    assert_int_equal(s->up.requests, 10);
    s->up.manner = ANSWER;
    int before = loopback_connections(s->up.http);
    for (int i = 0; i < 10; i++)
        assert_int_equal(call(s, "/v1/messages", ""), 200);
    assert_int_equal(loopback_connections(s->up.http), before + 1); /* and the connection is kept
                                                                     * while it lives */
    scene_free(s);
}

/* The API may have carried out the request, so only the caller may repeat it. */
static void a_request_that_was_sent_is_not_sent_again(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    assert_int_equal(call(s, "/v1/messages", ""), 200); /* on the connection of the following
                                                         * requests */
    s->up.manner = TAKE_LEAVE;
    assert_int_equal(call(s, "/v1/messages", ""), 502);
    assert_int_equal(s->up.requests, 2);
    scene_free(s);
}

/* --- what the API says of the account ------------------------------------------------------ */

/* The API answers 429. Returns the status that the client gets. */
static int answer_429(struct scene *s, const char *headers)
{
    char text[1024];
    snprintf(text, sizeof(text), "HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n%s\r\n{}", headers);
    answer_with(s, text);
    return call(s, "/v1/messages", "");
}

static enum breaker_state breaker_now(struct scene *s)
{
    struct breaker_status status;
    breaker_status(s->breaker, &status);
    return status.state;
}

static void a_limit_is_told_from_a_crowd(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    char headers[512];
    long long reset = (long long)clock_real_ms() / 1000 + 3600;
    struct lease_use use;
    assert_int_equal(answer_429(s, "retry-after: 2\r\n"), 529);
    assert_true(client_got(s, "\r\nretry-after: 2\r\n"));
    assert_int_equal(breaker_now(s), BREAKER_CLOSED);
    snprintf(headers, sizeof(headers),
             "anthropic-ratelimit-unified-status: allowed\r\n"
             "anthropic-ratelimit-unified-reset: %lld\r\n",
             reset);
    assert_int_equal(answer_429(s, headers), 529);
    assert_int_equal(breaker_now(s), BREAKER_CLOSED);
    struct lease *shared = s->lease; /* a refusal of the request's own credential does not concern
                                      * the login */
    s->lease = NULL;
    take_lease(s, LEASE_KEY, "sk-own");
    assert_int_equal(answer_429(s, "retry-after: 2\r\n"), 429);
    snprintf(headers, sizeof(headers),
             "anthropic-ratelimit-unified-status: rejected\r\n"
             "anthropic-ratelimit-unified-reset: %lld\r\n",
             reset);
    take_lease(s, LEASE_OAUTH, "own-oauth");
    assert_int_equal(answer_429(s, headers), 429);
    assert_int_equal(breaker_now(s), BREAKER_CLOSED);
    proxy_end(s->lease);
    s->lease = shared;
    assert_int_equal(answer_429(s, headers), 429);
    assert_int_equal(breaker_now(s), BREAKER_LIMIT);
    lease_use(s->lease, &use);
    assert_true(use.limited);
    breaker_renewed(s->breaker);
    assert_int_equal(breaker_now(s), BREAKER_CLOSED);
    scene_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_concerns_one_connection_stays_on_it),
        cmocka_unit_test(the_credential_is_the_runners_whatever_the_client_sends),
        cmocka_unit_test(nothing_but_the_apis_own_calls_passes),
        cmocka_unit_test(the_upstream_is_fixed),
        cmocka_unit_test(tokens_that_are_not_alive_open_nothing),
        cmocka_unit_test(a_gigabyte_of_request_passes_at_flat_memory),
        cmocka_unit_test(a_chunked_request_passes_chunked),
        cmocka_unit_test(who_waits_for_leave_to_send_gets_it),
        cmocka_unit_test(an_old_client_gets_an_answer_without_chunks),
        cmocka_unit_test(requests_sent_together_are_answered_in_order),
        cmocka_unit_test(a_client_that_leaves_ends_its_request_at_the_api),
        cmocka_unit_test(one_task_does_not_crowd_out_another),
        cmocka_unit_test(a_task_that_ends_takes_its_requests_along),
        cmocka_unit_test(events_pass_as_they_come),
        cmocka_unit_test(an_api_that_dies_is_told_from_one_that_ends),
        cmocka_unit_test(a_kept_connection_that_was_closed_meanwhile_costs_nothing),
        cmocka_unit_test(a_request_that_was_sent_is_not_sent_again),
        cmocka_unit_test(a_limit_is_told_from_a_crowd),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
