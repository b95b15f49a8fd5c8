#include "net_scene.h"
#include "wait.h"

#include "base/fd.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* --- relays -------------------------------------------------------------------------------- */

#define PIECE 65536
#define MEBI (INT64_C(1) << 20)

struct side {
    int64_t up_left;      /* bytes that are still to be sent */
    _Atomic int64_t down; /* bytes that have arrived */
    int heads, status;
    int refuse_write_after; /* refuse after that many pieces; 0: never */
    int writes;
    bool refuse_head, refuse_read;
    int64_t stop_at; /* where stop_soon() stops it: with that many bytes down */
    bool wrong;      /* a byte differed from its number */
    _Atomic bool stopping;
    char type[64];
};

static ssize_t on_read(char *to, size_t size, void *arg)
{
    struct side *side = arg;
    size_t n = (int64_t)size < side->up_left ? size : (size_t)side->up_left;
    if (side->refuse_read)
        return -1;
    memset(to, 'u', n);
    side->up_left -= (int64_t)n;
    return (ssize_t)n;
}

static int on_head(int status, const struct buf *head, void *arg)
{
    struct side *side = arg;
    side->heads++;
    side->status = status;
    net_header(head, "Content-Type", side->type, sizeof(side->type));
    return side->refuse_head ? -1 : 0;
}

static int on_write(const char *data, size_t len, void *arg)
{
    struct side *side = arg;
    assert_int_equal(side->heads, 1);
    for (size_t i = 0; i < len; i += 997)
        side->wrong |= data[i] != 'd';
    side->down += (int64_t)len;
    side->writes++;
    return side->refuse_write_after && side->writes >= side->refuse_write_after ? -1 : 0;
}

static bool on_stop(void *arg)
{
    struct side *side = arg;
    return side->stopping;
}

static struct net_relay relay_to(const char *url, const char *method, int64_t body_len,
                                 struct side *side)
{
    side->up_left = body_len > 0 ? body_len : side->up_left;
    return (struct net_relay){.method = method,
                              .url = url,
                              .body_len = body_len,
                              .connect_ms = 2000,
                              .silence_ms = 20000,
                              .arg = side,
                              .read = on_read,
                              .head = on_head,
                              .write = on_write,
                              .stop = on_stop};
}

struct far {
    _Atomic int64_t up;   /* bytes of the last body that arrived */
    _Atomic int64_t down; /* bytes to send */
    _Atomic bool wrong, chunked;
};

static bool stream_both_ways(struct loopback_call *call, void *arg)
{
    struct far *far = arg;
    static _Thread_local char piece[PIECE];
    char line[128];
    ssize_t n;
    int64_t down = far->down;
    far->up = 0;
    while ((n = loopback_read(call, piece, sizeof(piece))) > 0) {
        for (ssize_t i = 0; i < n; i += 997)
            far->wrong = far->wrong || piece[i] != 'u';
        far->up += n;
    }
    far->chunked = loopback_header(call, "Transfer-Encoding", line, sizeof(line)) != NULL;
    snprintf(line, sizeof(line),
             "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: %lld\r\n\r\n",
             (long long)down);
    loopback_text(call, line);
    memset(piece, 'd', sizeof(piece));
    for (int64_t left = down; left > 0; left -= PIECE)
        if (!loopback_send(call, piece, left < PIECE ? (size_t)left : PIECE))
            return false;
    return true;
}

/* The process's peak memory since the last call, in KiB. */
static long peak_kib(void)
{
    long kib = -1;
    char line[256];
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (file)
        fclose(file);
    AUTO(fd) int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "5", 1) != 1)
        return -1;
    return kib;
}

static void a_hundred_megabytes_pass_both_ways_at_flat_memory(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct far far = {.down = 100 * MEBI};
    struct loopback *server = loopback_start(stream_both_ways, &far);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    for (int round = 0; round < 3; round++) { /* the first round warms up */
        struct side side = {.up_left = 100 * MEBI};
        struct net_relay relay = relay_to(url, "POST", round == 2 ? -1 : 100 * MEBI, &side);
        long before = peak_kib();
        if (net_relay(link, &relay, &err))
            fail_msg("%s", err.msg);
        assert_int_equal(side.down, 100 * MEBI);
        assert_int_equal(far.up, 100 * MEBI);
        assert_int_equal(far.chunked, round == 2);
        assert_false(side.wrong || far.wrong);
        assert_int_equal(side.status, 200);
        assert_string_equal(side.type, "text/x");
        long after = peak_kib();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        if (round > 0 && before > 0)
            assert_true(after - before < 4096);
#else
        (void)before, (void)after;
#endif
    }
    net_link_free(link);
    loopback_stop(server);
}

static void a_link_uses_one_connection(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct far far = {.down = 10};
    struct loopback *server = loopback_start(stream_both_ways, &far);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    for (int i = 0; i < 50; i++) {
        struct side side = {0};
        struct net_relay relay = relay_to(url, i % 2 ? "POST" : "GET", i % 2 ? 1000 : 0, &side);
        assert_int_equal(net_relay(link, &relay, &err), 0);
        assert_int_equal(side.down, 10);
        assert_int_equal(far.up, i % 2 ? 1000 : 0);
    }
    assert_int_equal(loopback_requests(server), 50);
    assert_int_equal(loopback_connections(server), 1);
    net_link_free(link);
    loopback_stop(server);
}

static bool answer_and_close(struct loopback_call *call, void *arg)
{
    _Atomic int *closed = arg;
    free(loopback_body(call));
    loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nd");
    shutdown(call->fd, SHUT_RDWR);
    ++*closed;
    return false;
}

static void a_kept_connection_that_was_closed_is_replaced(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    _Atomic int closed = 0;
    struct loopback *server = loopback_start(answer_and_close, &closed);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    for (int i = 0; i < 20; i++) {
        struct side side = {0};
        struct net_relay relay = relay_to(url, "POST", 100, &side);
        if (net_relay(link, &relay, &err))
            fail_msg("%d: %s", i, err.msg);
        EVENTUALLY(60000, closed == i + 1);
    }
    assert_int_equal(loopback_requests(server), 20);
    net_link_free(link);
    loopback_stop(server);
}

/* A kept connection that dies without an answer: with `fresh`, nothing is sent on it, so nothing is
 * sent twice. */
static bool answer_first_only(struct loopback_call *call, void *arg)
{
    _Atomic int *requests = arg;
    return ++*requests == 1 && loopback_answer(call, 200, "", "x");
}

static void a_fresh_relay_is_sent_once(void **state)
{
    (void)state;
    for (int fresh = 0; fresh < 2; fresh++) {
        struct err err = ERR_INIT;
        _Atomic int requests = 0;
        struct loopback *server = loopback_start(answer_first_only, &requests);
        AUTO(str) char *url = loopback_url(server, "/");
        struct net_link *link = net_link_new();
        for (int i = 0; i < 2; i++) {
            struct side side = {0};
            bool sent = false;
            struct net_relay relay = relay_to(url, "POST", 0, &side);
            relay.fresh = fresh;
            relay.ret_sent = &sent;
            assert_int_equal(net_relay(link, &relay, &err), i ? -1 : 0);
            assert_true(sent);
        }
        assert_int_equal(requests, fresh ? 2 : 3);
        net_link_free(link);
        loopback_stop(server);
    }
}

static void a_relay_has_a_time_for_all_of_it_and_says_whether_it_was_sent(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    bool sent = true;
    struct side side = {0};
    struct loopback *server = loopback_start(misbehave, NULL);
    AUTO(str) char *url = loopback_url(server, "/trickle");
    struct net_link *link = net_link_new();
    struct net_relay relay = relay_to(url, "GET", 0, &side);
    relay.total_ms = 2000;
    relay.ret_sent = &sent;
    int64_t began = clock_mono_ms();
    assert_int_equal(net_relay(link, &relay, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_true(sent);
    assert_true(clock_mono_ms() - began < 15000);
    loopback_stop(server);
    assert_int_equal(net_relay(link, &relay, &err), -1); /* the server no longer listens */
    assert_int_equal(err.code, ERR_UPSTREAM);
    assert_false(sent);
    net_link_free(link);
}

static bool no_content(struct loopback_call *call, void *arg)
{
    (void)arg;
    return loopback_text(call, "HTTP/1.1 204 No Content\r\nContent-Type: text/none\r\n\r\n");
}

static void an_answer_without_a_body_has_a_head(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct loopback *server = loopback_start(no_content, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    static const char *const methods[] = {"GET", "HEAD", "POST"};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        struct side side = {0};
        const struct net_relay relay = relay_to(url, methods[i], 0, &side);
        assert_int_equal(net_relay(link, &relay, &err), 0);
        assert_int_equal(side.heads, 1);
        assert_int_equal(side.status, 204);
        assert_string_equal(side.type, "text/none");
    }
    net_link_free(link);
    loopback_stop(server);
}

static void who_gives_up_is_obeyed_and_the_link_works_again(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct far far = {.down = 100 * MEBI};
    struct loopback *server = loopback_start(stream_both_ways, &far);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    for (int how = 0; how < 3; how++) {
        struct side side = {.refuse_write_after = how == 0 ? 3 : 0,
                            .refuse_head = how == 1,
                            .refuse_read = how == 2};
        far.down = 100 * MEBI;
        struct net_relay relay = relay_to(url, "POST", 100, &side);
        assert_int_equal(net_relay(link, &relay, &err), -1);
        assert_string_equal(err.msg, "given up");
        assert_int_equal(side.writes, how == 0 ? 3 : 0);
        struct side again = {0};
        far.down = 10;
        relay = relay_to(url, "POST", 100, &again);
        assert_int_equal(net_relay(link, &relay, &err), 0);
        assert_int_equal(again.down, 10);
    }
    net_link_free(link);
    loopback_stop(server);
}

static void *stop_soon(void *arg)
{
    struct side *side = arg;
    EVENTUALLY(12000, side->down == side->stop_at);
    usleep(100000);
    side->stopping = true;
    return NULL;
}

static bool first_a_little(struct loopback_call *call, void *arg)
{
    (void)arg;
    if (strcmp(call->path, "/little") == 0)
        loopback_text(call, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nd\r\n");
    loopback_await_close(call, 20000);
    return false;
}

static void a_relay_is_stopped_while_the_other_side_is_silent(void **state)
{
    (void)state;
    struct loopback *server = loopback_start(first_a_little, NULL);
    static const char *const paths[] = {"/nothing", "/little"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct err err = ERR_INIT;
        pthread_t thread;
        struct side side = {.stop_at = (int64_t)i};
        AUTO(str) char *url = loopback_url(server, paths[i]);
        struct net_link *link = net_link_new();
        const struct net_relay relay = relay_to(url, "GET", 0, &side);
        int64_t began = clock_mono_ms();
        pthread_create(&thread, NULL, stop_soon, &side);
        assert_int_equal(net_relay(link, &relay, &err), -1);
        assert_true(clock_mono_ms() - began < 15000);
        assert_string_equal(err.msg, "given up");
        assert_int_equal(side.down, (int64_t)i);
        pthread_join(thread, NULL);
        net_link_free(link);
    }
    loopback_stop(server);
}

static void a_relay_ends_when_nothing_moves_for_too_long(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct side side = {0};
    struct loopback *server = loopback_start(first_a_little, NULL);
    AUTO(str) char *url = loopback_url(server, "/little");
    struct net_link *link = net_link_new();
    struct net_relay relay = relay_to(url, "GET", 0, &side);
    relay.silence_ms = 1000;
    int64_t began = clock_mono_ms();
    assert_int_equal(net_relay(link, &relay, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_true(clock_mono_ms() - began < 15000);
    net_link_free(link);
    loopback_stop(server);
}

static bool ping(struct loopback_call *call, void *arg)
{
    (void)arg;
    loopback_text(call, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 4; i++) {
        usleep(1500000);
        if (!loopback_text(call, "1\r\nd\r\n"))
            return false;
    }
    return loopback_text(call, "0\r\n\r\n");
}

/* In one of a few tries: a machine that stands still for longer than the time has no pings either.
 */
static void a_stream_that_pings_within_the_time_lives(void **state)
{
    (void)state;
    struct loopback *server = loopback_start(ping, NULL);
    AUTO(str) char *url = loopback_url(server, "/");
    struct net_link *link = net_link_new();
    int rc = -1;
    for (int tries = 0; rc && tries < 3; tries++) {
        struct err err = ERR_INIT;
        struct side side = {0};
        struct net_relay relay = relay_to(url, "GET", 0, &side);
        relay.silence_ms = 4000;
        rc = net_relay(link, &relay, &err);
        if (rc)
            print_message("%s\n", err.msg);
        else
            assert_int_equal(side.down, 4);
    }
    assert_int_equal(rc, 0);
    net_link_free(link);
    loopback_stop(server);
}

static void a_bad_server_ends_a_relay(void **state)
{
    (void)state;
    static const char *const paths[] = {"/cut-body", "/cut-chunk", "/cut-head",
                                        "/nothing",  "/garbage",   "/huge-head"};
    struct loopback *server = loopback_start(misbehave, NULL);
    struct net_link *link = net_link_new();
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct err err = ERR_INIT;
        struct side side = {0};
        AUTO(str) char *url = loopback_url(server, paths[i]);
        const struct net_relay relay = relay_to(url, "GET", 0, &side);
        net_relay(link, &relay, &err);
        if (err.code != ERR_UPSTREAM && err.code != ERR_TOO_LARGE)
            fail_msg("%s: %s", paths[i], err.msg);
    }
    net_link_free(link);
    net_link_free(NULL);
    loopback_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_megabytes_pass_both_ways_at_flat_memory),
        cmocka_unit_test(a_link_uses_one_connection),
        cmocka_unit_test(a_kept_connection_that_was_closed_is_replaced),
        cmocka_unit_test(a_fresh_relay_is_sent_once),
        cmocka_unit_test(a_relay_has_a_time_for_all_of_it_and_says_whether_it_was_sent),
        cmocka_unit_test(an_answer_without_a_body_has_a_head),
        cmocka_unit_test(who_gives_up_is_obeyed_and_the_link_works_again),
        cmocka_unit_test(a_relay_is_stopped_while_the_other_side_is_silent),
        cmocka_unit_test(a_relay_ends_when_nothing_moves_for_too_long),
        cmocka_unit_test(a_stream_that_pings_within_the_time_lives),
        cmocka_unit_test(a_bad_server_ends_a_relay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
