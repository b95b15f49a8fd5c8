/*
 * Clients that follow tasks in unusual ways: an EventSource whose connection is cut, one that stops
 * reading for half a minute, and more clients than there is room for.
 */
#include "testing.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define STOPPED_MS 30000
#define STREAMS_MAX 8192 /* the runner's limit */
#define AT_ONCE 64

static struct runner *runner;

static const char *const settings[] = {NULL};

static struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

static char *submit(const char *prompt)
{
    return runner_submit(shared(), prompt, "");
}

static char *events_url(const char *id)
{
    return textf("%s/tasks/%s/events", runner->base, id);
}

/* The contents of the task's events file. */
static char *events_of(const char *id)
{
    char *path = textf("%s/tasks/%s/events", runner->state, id);
    char *text = read_file(path, NULL);
    assert_non_null(text);
    free(path);
    return text;
}

static void assert_same(const char *path, const char *id)
{
    char *got = read_file(path, NULL), *want = events_of(id);
    assert_non_null(got);
    if (strcmp(got, want) != 0)
        fail_msg("of %zu bytes %zu came: %.2000s", strlen(want), strlen(got), got);
    free(got);
    free(want);
}

/* ---- EventSource ---- */

static pid_t event_source(const char *id, const char *out, const char *const cuts[3])
{
    char *url = events_url(id);
    char *argv[] = {strdup("/usr/bin/node"),
                    strdup(TEST_EVENTSOURCE "/client.mjs"),
                    url,
                    strdup(cuts[0]),
                    strdup(cuts[1]),
                    strdup(cuts[2]),
                    NULL};
    char *env[] = {strdup("PATH=/usr/bin:/bin"), strdup("SECRET=" RUNNER_SECRET), NULL};
    char *err = textf("%s.err", out);
    pid_t pid = proc_start(argv, env, out, err);
    free(err);
    for (size_t i = 0; argv[i]; i++)
        free(argv[i]);
    for (size_t i = 0; env[i]; i++)
        free(env[i]);
    return pid;
}

static void an_event_source_comes_back_until_there_is_no_more(void **state)
{
    (void)state;
    /* cuts in the head, in the middle of events, and after the task has ended */
    static const char *const cuts[] = {"120", "1500", "9000"};
    if (access("/usr/bin/node", X_OK) != 0 || access(TEST_EVENTSOURCE "/node_modules", X_OK) != 0)
        SKIP_BECAUSE("no eventsource (npm ci in tests/eventsource)");
    char *id = submit("standin: tick 200 20");
    char *out = textf("%s/events", runner->shared), *err = textf("%s.err", out);
    int status;
    assert_true(proc_wait(event_source(id, out, cuts), 120000, &status));
    char *said = read_file(err, NULL);
    /* the last request goes over the last stream's connection, or over one of its own */
    if (status != 0 ||
        !(strstr(said, "204 after 4 connections") || strstr(said, "204 after 5 connections")))
        fail_msg("exit status %d: %s", status, said);
    assert_same(out, id);
    free(said);
    free(err);
    free(out);
    free(id);
}

/* ---- standing still ---- */

struct reader {
    char *id;
    char *out;
    pid_t pid;
};

static struct reader read_by_curl(const char *prompt, const char *name)
{
    struct reader reader = {.id = submit(prompt), .out = textf("%s/%s", runner->shared, name)};
    char *url = events_url(reader.id);
    char *argv[] = {strdup("/usr/bin/curl"),
                    strdup("-sSN"),
                    strdup("-H"),
                    strdup("X-Runner-Secret: " RUNNER_SECRET),
                    strdup("-H"),
                    strdup("Accept: application/x-ndjson"),
                    url,
                    NULL};
    char *env[] = {NULL};
    reader.pid = proc_start(argv, env, reader.out, NULL);
    for (size_t i = 0; argv[i]; i++)
        free(argv[i]);
    EVENTUALLY(20000, file_size(reader.out) > 0);
    kill(reader.pid, SIGSTOP);
    return reader;
}

/* The client reads on and must then have received all events. */
static void assert_misses_nothing(struct reader *reader)
{
    int status = -1;
    kill(reader->pid, SIGCONT);
    assert_true(proc_wait(reader->pid, 120000, &status));
    assert_int_equal(status, 0);
    struct stream *all = NULL;
    char *path = textf("/tasks/%s/events", reader->id);
    all = stream_open(runner->base, "GET", path, RUNNER_AUTH "Accept: application/x-ndjson\r\n",
                      NULL);
    stream_until_end(all, 120000);
    size_t size;
    char *got = read_file(reader->out, &size);
    /* heartbeats are empty lines */
    size_t kept = 0;
    for (size_t i = 0; i < size; i++)
        if (got[i] != '\n' || (kept > 0 && got[kept - 1] != '\n'))
            got[kept++] = got[i];
    assert_int_equal(kept, all->body_size);
    assert_memory_equal(got, all->body, kept);
    free(got);
    free(path);
    stream_free(all);
    free(reader->id);
    free(reader->out);
}

/* The longest time between two lines of the task, until it has no more. */
static int64_t slowest_line(struct stream *stream)
{
    int64_t worst = 0, at = now_ms();
    size_t have = stream->body_size;
    while (!stream->ended && stream_read(stream, 10000)) {
        if (stream->body_size == have)
            continue;
        have = stream->body_size;
        worst = now_ms() - at > worst ? now_ms() - at : worst;
        at = now_ms();
    }
    return worst;
}

static void a_reader_that_stands_still_for_half_a_minute_slows_nobody(void **state)
{
    (void)state;
    if (access("/usr/bin/curl", X_OK) != 0)
        SKIP_BECAUSE("curl is not installed");
    shared();
    int64_t start = now_ms();
    struct reader many = read_by_curl("standin: print-bytes 100000000", "many");
    struct reader live = read_by_curl("standin: tick 300 100", "live");
    runner_await(runner, many.id, "completed", 120000); /* the task's output has no reader */
    char *path = textf("/tasks/%s/events", live.id);
    struct stream *witness = stream_open(runner->base, "GET", path, RUNNER_AUTH, NULL);
    stream_until(witness, "tick 0", 20000);
    /* those that stand still do so for much longer */
    assert_true(slowest_line(witness) < 8000 * slowness());
    assert_int_equal(stream_count(witness, "tick "), 300);
    assert_int_equal(stream_count(witness, "\nevent: done\n"), 1);
    EVENTUALLY(STOPPED_MS, now_ms() - start >= STOPPED_MS);
    assert_misses_nothing(&many);
    assert_misses_nothing(&live);
    stream_free(witness);
    free(path);
}

/* ---- too many ---- */

static bool may_open(rlim_t count)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_max < count)
        return false;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* Opens streams; each has received its first bytes when this returns, so it counts. Opens them in
 * groups, because the runner closes connections that come faster than it can accept them. */
static void open_streams(const struct runner *to, const char *path, int *fds, int count)
{
    for (int i = 0; i < count; i++) {
        fds[i] = http_begin(to->base, "GET", path, RUNNER_AUTH, NULL);
        if (i % AT_ONCE != AT_ONCE - 1 && i != count - 1)
            continue;
        for (int k = i - i % AT_ONCE; k <= i; k++) {
            char head[12];
            struct pollfd wait = {.fd = fds[k], .events = POLLIN};
            assert_int_equal(poll(&wait, 1, 60000), 1);
            assert_int_equal(recv(fds[k], head, sizeof head, MSG_PEEK), (int)sizeof head);
            assert_memory_equal(head, "HTTP/1.1 200", sizeof head);
        }
    }
}

static bool is_taken(const struct runner *by)
{
    struct reply *reply = runner_post(by, "/run", "{\"prompt\":\"standin: ok x\"}");
    bool taken = reply->status == 200;
    reply_free(reply);
    return taken;
}

static void beyond_the_most_streams_one_is_asked_to_come_again(void **state)
{
    (void)state;
    if (!may_open(2 * STREAMS_MAX + 500))
        SKIP_BECAUSE("needs %d open files", 2 * STREAMS_MAX + 500);
    struct runner *own = runner_new(); /* with the raised limit */
    runner_start(own);
    char *id = runner_submit(own, "standin: hang-middle", "");
    char *path = textf("/tasks/%s/events", id), value[16];
    int *fds = malloc(STREAMS_MAX * sizeof *fds);
    assert_non_null(fds);
    struct stream *first = stream_open(own->base, "GET", path, RUNNER_AUTH, NULL);
    stream_until(first, "event: task", 20000);
    open_streams(own, path, fds, STREAMS_MAX - 1);
    int fd = http_begin(own->base, "GET", path, RUNNER_AUTH, NULL);
    struct reply *reply = http_read(fd, HTTP_DEADLINE_MS);
    close(fd);
    assert_problem(reply, 503, "unavailable");
    assert_true(reply_header(reply, "Retry-After", value, sizeof value));
    reply_free(reply);
    reply = runner_post(own, "/run", "{\"prompt\":\"standin: ok never\"}");
    assert_problem(reply, 503, "unavailable");
    reply_free(reply);
    reply = runner_get(own, "/tasks?status=completed"); /* the request was refused before a task was
                                                         * made */
    assert_json_lacks(reply->json, "tasks.0");
    reply_free(reply);
    reply = runner_execute(own, "standin: ok goes on", "");
    assert_status(reply, 200);
    reply_free(reply);
    for (int i = 0; i < STREAMS_MAX - 1; i++)
        close(fds[i]);
    EVENTUALLY(60000, is_taken(own));
    stream_free(first);
    free(fds);
    free(path);
    free(id);
    runner_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_source_comes_back_until_there_is_no_more),
        cmocka_unit_test(a_reader_that_stands_still_for_half_a_minute_slows_nobody),
        cmocka_unit_test(beyond_the_most_streams_one_is_asked_to_come_again),
    };
    return cmocka_run_group_tests_name("readers", tests, NULL, shared_stop);
}
