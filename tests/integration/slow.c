/*
 * Slow and waiting callers must not keep /health and cancel from answering: 100 connections send
 * their heads slowly, 100 their bodies, and 200 callers wait for /execute.
 */
#include "testing.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DRIPPERS = 200, CALLERS = 200, LOOKS = 100 };

/* Meanwhile the store may have opened its four connections for reading, of two descriptors each. */
enum { STORE_FDS = 8 };

/* How many of the connections that the server has closed are opened again in each round. */
enum { BACK_AT_ONCE = 20 };

/* An answer that waits for a slow client takes as long as such a client is given: 30 s for a head,
 * more for a body. Nineteen of twenty come far sooner; one may meet what else the machine does. */
enum { USUAL_MS = 500, WORST_MS = 15000 };

struct dripper {
    int fd;
    const char *bytes;
    size_t at;
};

static struct dripper drippers[DRIPPERS];
static int callers[CALLERS];

static const char slow_head[] =
    "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char slow_body[] =
    "POST /execute HTTP/1.1\r\nHost: x\r\n" RUNNER_AUTH
    "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    "{\"prompt\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

static void dripper_connect(const struct runner *runner, struct dripper *dripper, bool body)
{
    dripper->fd = http_connect(runner->base);
    dripper->bytes = body ? slow_body : slow_head;
    /* The head of a slow body is sent at once: the body occupies a worker. */
    dripper->at = body ? (size_t)(strstr(slow_body, "\r\n\r\n") - slow_body) + 4 : 1;
    http_send(dripper->fd, dripper->bytes, dripper->at);
}

/* Sends one more byte on each connection, and opens those again that the server has closed. */
static void drip(const struct runner *runner)
{
    int back = 0;
    for (size_t i = 0; i < DRIPPERS; i++) {
        struct dripper *d = &drippers[i];
        char c = d->bytes[d->at] ? d->bytes[d->at++] : 'x';
        struct pollfd pfd = {.fd = d->fd, .events = POLLIN};
        bool gone = poll(&pfd, 1, 0) > 0 || send(d->fd, &c, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1;
        if (gone && back++ < BACK_AT_ONCE) {
            close(d->fd);
            dripper_connect(runner, d, i % 2);
        }
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void check_times(const char *what, int64_t *times, size_t n)
{
    qsort(times, n, sizeof *times, compare);
    int64_t usual = times[(n - 1) * 95 / 100], worst = times[n - 1];
    print_message("  %s: half within %lld ms, 95%% within %lld, all within %lld\n", what,
                  (long long)times[n / 2], (long long)usual, (long long)worst);
    if (usual > USUAL_MS * slowness() || worst > WORST_MS * slowness())
        fail_msg("%s is too slow", what);
}

static void look(const struct runner *runner, const char *path)
{
    int64_t times[LOOKS];
    for (size_t i = 0; i < LOOKS; i++) {
        if (i % 5 == 0)
            drip(runner);
        int64_t start = now_ms();
        struct reply *reply = http_call(runner->base, "GET", path, NULL, NULL);
        times[i] = now_ms() - start;
        assert_status(reply, 200);
        reply_free(reply);
    }
    check_times(path, times, LOOKS);
}

/* Cancels the waiting tasks, the latest first, and the running task last. */
static void cancel_some(const struct runner *runner)
{
    int64_t times[LOOKS];
    for (size_t i = 0; i < COUNT(times); i++) {
        bool last = i >= COUNT(times) - 2;
        char *path = textf("/tasks/waiter-%zu", last ? COUNT(times) - 1 - i : CALLERS - 1 - i);
        if (i % 5 == 0)
            drip(runner);
        int64_t start = now_ms();
        struct reply *reply = runner_delete(runner, path);
        times[i] = now_ms() - start;
        assert_status(reply, 200);
        reply_free(reply);
        free(path);
    }
    check_times("cancel", times, COUNT(times));
}

static bool slots_are_full(const struct runner *runner)
{
    struct reply *reply = http_call(runner->base, "GET", "/health", NULL, NULL);
    bool full = json_number(reply->json, "tasks.running") >= 2 &&
                json_number(reply->json, "tasks.queued") >= CALLERS - 2;
    reply_free(reply);
    return full;
}

/* The number of callers that have an answer or have lost their connection. All should be
 * waiting. */
static int callers_that_do_not_wait(void)
{
    int n = 0;
    for (size_t i = 0; i < CALLERS; i++) {
        char start[200] = "";
        struct pollfd pfd = {.fd = callers[i], .events = POLLIN};
        if (poll(&pfd, 1, 0) <= 0)
            continue;
        ssize_t got = recv(callers[i], start, sizeof start - 1, MSG_PEEK);
        if (got > 0 && strncmp(start, "HTTP/1.1 1", 10) == 0) /* only interim answers */
            continue;
        if (n++ == 0)
            print_error("caller %zu got: %s\n", i, *start ? start : "(closed)");
    }
    return n;
}

static void start_all(const struct runner *runner)
{
    for (size_t i = 0; i < CALLERS; i++) {
        char *fields = textf("\"taskId\":\"waiter-%zu\"", i);
        char *json = prompt_json("standin: hang-middle", fields);
        callers[i] = http_begin(runner->base, "POST", "/execute",
                                RUNNER_AUTH "Content-Type: application/json\r\n", json);
        free(json);
        free(fields);
    }
    EVENTUALLY(20000, slots_are_full(runner) || callers_that_do_not_wait() > 0);
    assert_int_equal(callers_that_do_not_wait(), 0);
    for (size_t i = 0; i < DRIPPERS; i++)
        dripper_connect(runner, &drippers[i], i % 2);
}

static void health_and_cancel_answer_whoever_is_slow(void **state)
{
    (void)state;
    struct runner *runner = runner_new();
    runner_set(runner, "MAX_CONCURRENT_TASKS", "2");
    runner_set(runner, "KILL_GRACE_SECONDS", "0");
    runner_start(runner);
    reply_free(http_call(runner->base, "GET", "/health", NULL, NULL));
    int fds = proc_fds(runner->pid), threads = proc_threads(runner->pid);
    start_all(runner);
    EVENTUALLY(20000, (drip(runner), proc_fds(runner->pid) > fds + CALLERS));
    look(runner, "/health");
    look(runner, "/healthz");
    cancel_some(runner);
    struct reply *reply = http_read(callers[CALLERS - 1], 20000);
    assert_json_text(reply->json, "reason", "cancelled");
    reply_free(reply);
    for (size_t i = 0; i < DRIPPERS; i++)
        close(drippers[i].fd);
    for (size_t i = 0; i < CALLERS; i++)
        close(callers[i]);
    EVENTUALLY(20000, proc_fds(runner->pid) <= fds + STORE_FDS);
    EVENTUALLY(20000, proc_threads(runner->pid) <= threads + 1);
    runner_free(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_and_cancel_answer_whoever_is_slow),
    };
    return cmocka_run_group_tests_name("slow", tests, NULL, NULL);
}
