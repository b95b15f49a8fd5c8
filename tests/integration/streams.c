/*
 * Streams of events: /run, /run-async and GET /tasks/{id}/events, cut off and resumed, and through
 * proxies in front of the runner.
 */
#include "streams_scene.h"

#define LINES_TYPE "Accept: application/x-ndjson\r\n"
#define CUTS 200

static char *submit_async(const struct runner *to, const char *prompt, const char *more)
{
    char *json = prompt_json(prompt, more);
    struct reply *reply = runner_post(to, "/run-async", json);
    assert_status(reply, 202);
    char *id = strdup(json_text(reply->json, "taskId"));
    reply_free(reply);
    free(json);
    return id;
}

static bool has_last_event(const char *text)
{
    const char *done = strstr(text, "\nevent: done\n");
    return done && strstr(done, "\n\n");
}

/* The contents of the events file of a task that ends: the last event is written a moment after the
 * state is known. */
static char *file_of(const struct runner *of, const char *id)
{
    char *path = textf("%s/tasks/%s/events", of->state, id), *text = NULL;
    EVENTUALLY(20000, (free(text), text = read_file(path, NULL)) && has_last_event(text));
    free(path);
    return text;
}

static void assert_header(const struct stream *stream, const char *line)
{
    if (!strcasestr(stream->head, line))
        fail_msg("no '%s' in:\n%s", line, stream->head);
}

static void run_streams_a_task_from_its_first_event_to_done(void **state)
{
    (void)state;
    struct stream *stream = run(shared()->base, "standin: tick 3 400", "");
    char *id = task_of(stream);
    assert_int_equal(strncmp(stream->body, "id: 0\nevent: task\ndata: {", 25), 0);
    stream_until(stream, "\n\n:\n\n", 20000);
    stream_until_end(stream, 20000);
    assert_header(stream, "Content-Type: text/event-stream\r\n");
    assert_header(stream, "Cache-Control: no-cache, no-transform\r\n");
    assert_header(stream, "X-Accel-Buffering: no\r\n");
    assert_int_equal(stream_count(stream, "\nevent: done\n"), 1);
    assert_int_equal(stream_count(stream, "tick 2"), 1);
    drop_heartbeats(stream->body);
    char *file = file_of(runner, id);
    assert_string_equal(stream->body, file);
    struct reply *result = runner_result(runner, id);
    assert_non_null(strstr(file, result->body));
    reply_free(result);
    free(file);
    free(id);
    stream_free(stream);
}

static void run_refuses_before_there_is_a_task(void **state)
{
    static const struct {
        const char *headers, *body;
        int status;
        const char *code;
    } cases[] = {
        {"", "{\"prompt\":\"a\",\"code\":\"b\"}", 400, "invalid_request"},
        {"", "{\"prompt\":\"a\",\"promt\":1}", 400, "invalid_request"},
        {"", "{\"prompt\":\"a\",\"callbackUrl\":\"https://example.com/\"}", 400, "invalid_request"},
        {"", "{\"prompt\":\"a\",\"egress\":[\"http://a\"]}", 400, "invalid_request"},
        {"Accept: application/json\r\n", "{\"prompt\":\"a\"}", 406, "not_acceptable"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *headers = textf("%s%s", RUNNER_AUTH, cases[i].headers);
        struct reply *reply = http_call(shared()->base, "POST", "/run", headers, cases[i].body);
        assert_problem(reply, cases[i].status, cases[i].code);
        reply_free(reply);
        free(headers);
    }
}

static void run_async_answers_at_once_and_survives_a_crash(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    runner_set(own, "MAX_CONCURRENT_TASKS", "1");
    runner_start(own);
    char *busy = submit_async(own, "standin: hang-middle", "");
    runner_await(own, busy, "running", 20000); /* otherwise it would run again after each restart */
    struct reply *reply = runner_post(own, "/run-async", "{\"prompt\":\"later\"}");
    assert_status(reply, 202);
    char location[128], *id = strdup(json_text(reply->json, "taskId"));
    char *path = textf("/tasks/%s", id), *events = textf("/tasks/%s/events", id);
    assert_json_text(reply->json, "status", "pending");
    assert_json_text(reply->json, "logsPath", events);
    assert_json_has(reply->json, "createdAt");
    assert_true(reply_header(reply, "Location", location, sizeof location));
    assert_string_equal(location, path);
    runner_crash(own);
    runner_start(own);
    runner_await(own, id, "completed", 60000);
    free(busy);
    free(path);
    free(events);
    free(id);
    reply_free(reply);
    runner_free(own);
}

static void who_goes_away_cancels_what_run_started_and_nothing_else(void **state)
{
    (void)state;
    const char *forever = "standin: hang-middle";
    struct stream *attached = run(shared()->base, forever, "");
    struct stream *detached = run(runner->base, forever, "\"detach\":true");
    char *ids[] = {task_of(attached), task_of(detached), submit_async(runner, forever, "")};
    struct stream *reader = follow(runner->base, ids[2], "");
    stream_until(reader, "\"assistant\"", 20000);
    stream_until(attached, "\"assistant\"", 20000);
    stream_until(detached, "\"assistant\"", 20000);
    struct stream *witness = follow(runner->base, ids[0], "");
    stream_until(witness, "\"assistant\"", 20000);
    stream_free(attached);
    stream_free(detached);
    stream_free(reader);
    stream_until_end(witness, 20000);
    assert_int_equal(stream_count(witness, "\nevent: cancelled\n"), 1);
    assert_int_equal(stream_count(witness, "\nevent: done\n"), 1);
    runner_await(runner, ids[0], "cancelled", 20000);
    for (size_t i = 1; i < COUNT(ids); i++) {
        char *path = textf("/tasks/%s", ids[i]);
        runner_await(runner, ids[i], "running", 100);
        reply_free(runner_delete(runner, path));
        runner_await(runner, ids[i], "cancelled", 20000);
        free(path);
    }
    for (size_t i = 0; i < COUNT(ids); i++)
        free(ids[i]);
    stream_free(witness);
}

/* Reads `cut` bytes of the task's stream, disconnects, and connects again with the last id that it
 * has seen: both parts together must be the file. */
static void cut_and_resume(const char *id, const char *file, size_t cut)
{
    long last;
    char headers[80] = "";
    struct stream *first = follow(runner->base, id, "");
    assert_true(stream_until_size(first, cut, 20000));
    assert_memory_equal(first->body, file, cut);
    size_t have = whole_part(first->body, cut, &last);
    stream_free(first);
    if (last >= 0)
        snprintf(headers, sizeof headers, "Last-Event-ID: %ld\r\n", last);
    struct stream *second = follow(runner->base, id, headers);
    if (have == strlen(file)) { /* no event is left: the server says that the client must not
                                 * reconnect */
        assert_false(stream_until_size(second, 1, 10000));
        assert_int_equal(second->status, 204);
    } else {
        stream_until_end(second, 20000);
        assert_string_equal(second->body, file + have);
    }
    stream_free(second);
}

static void a_stream_cut_anywhere_resumes_without_loss_or_repeat(void **state)
{
    (void)state;
    char *id = submit_async(shared(), "standin: lines 60 700", "");
    runner_await(runner, id, "completed", 60000);
    struct stream *all = follow(runner->base, id, "");
    stream_until_end(all, 20000);
    drop_heartbeats(all->body); /* the last event may come a while after the state */
    char *file = file_of(runner, id);
    assert_string_equal(all->body, file);
    unsigned short seed[3] = {3, 1, 4};
    for (int i = 0; i < CUTS; i++)
        cut_and_resume(id, file, 1 + (size_t)nrand48(seed) % strlen(file));
    free(file);
    stream_free(all);
    free(id);
}

static void a_live_stream_is_taken_up_again(void **state)
{
    (void)state;
    char *id = submit_async(shared(), "standin: tick 40 25", "");
    char *joined = strdup("");
    char headers[80] = "";
    for (int rounds = 0; !strstr(joined, "\nevent: done\n"); rounds++) {
        long last;
        struct stream *part = follow(runner->base, id, headers);
        stream_until_size(part, 700 + (size_t)rounds % 5 * 100, 10000);
        drop_heartbeats(part->body);
        size_t have = whole_part(part->body, strlen(part->body), &last);
        part->body[have] = '\0';
        char *more = textf("%s%s", joined, part->body);
        free(joined);
        joined = more;
        if (last >= 0)
            snprintf(headers, sizeof headers, "Last-Event-ID: %ld\r\n", last);
        stream_free(part);
        assert_true(rounds < 500);
    }
    char *file = file_of(runner, id);
    assert_string_equal(joined, file);
    free(file);
    free(joined);
    free(id);
}

static void an_offset_that_is_no_events_is_refused(void **state)
{
    (void)state;
    char *id = submit_async(shared(), "standin: tick 2 1", "");
    runner_await(runner, id, "completed", 60000);
    char *file = file_of(runner, id);
    static const struct {
        const char *query, *headers;
        int status;
    } cases[] = {
        {"?from=0", "", 200},
        {"?from=1", "", 416},
        {"?from=-1", "", 416},
        {"?from=x", "", 416},
        {"?from=", "", 416},
        {"?from=999999999", "", 416},
        {"?from=9223372036854775807", "", 416},
        {"", "Last-Event-ID: 5\r\n", 416},
        {"", "Last-Event-ID: abc\r\n", 416},
        {"", "Last-Event-ID: 0\r\n", 200},
        {"?form=0", "", 400},
        {"", "Accept: application/json\r\n", 406},
        {"", "Accept: */*\r\n", 200},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = textf("/tasks/%s/events%s", id, cases[i].query);
        char *headers = textf("%s%s", RUNNER_AUTH, cases[i].headers);
        struct reply *reply = http_call(runner->base, "GET", path, headers, NULL);
        assert_status(reply, cases[i].status);
        reply_free(reply);
        free(headers);
        free(path);
    }
    char *path = textf("/tasks/%s/events?from=%zu", id, strlen(file));
    struct reply *end = runner_get(runner, path);
    assert_status(end, 204);
    reply_free(end);
    free(path);
    free(file);
    free(id);
}

static void json_lines_hold_the_same_events(void **state)
{
    (void)state;
    static const char *const prompts[] = {"standin: lines 300 30", "standin: big-line 300000",
                                          "standin: garbage"};
    for (size_t i = 0; i < COUNT(prompts); i++) {
        char *id = submit_async(shared(), prompts[i], "");
        struct stream *lines = follow(runner->base, id, LINES_TYPE);
        stream_until_end(lines, 60000);
        assert_header(lines, "Content-Type: application/x-ndjson\r\n");
        char *file = file_of(runner, id), *save = NULL, *at = file;
        for (char *line = strtok_r(lines->body, "\n", &save); line;
             line = strtok_r(NULL, "\n", &save)) {
            long number;
            char name[20] = "message";
            cJSON *json = cJSON_Parse(line);
            assert_non_null(json);
            assert_int_equal(sscanf(at, "id: %ld\nevent: %19s", &number, name) >= 1, 1);
            char *data = strstr(at, "\ndata: ") + 7, *end = strstr(data, "\n\n");
            assert_true(json_number(json, "id") == (double)number && number == at - file);
            assert_json_text(json, "event", name);
            *end = '\0';
            char *expected = textf(",\"data\":%s}", data);
            assert_string_equal(strstr(line, ",\"data\":"), expected);
            free(expected);
            cJSON_Delete(json);
            at = end + 2;
        }
        assert_int_equal(*at, '\0');
        free(file);
        stream_free(lines);
        free(id);
    }
}

static void a_restart_of_the_runner_loses_nothing(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    runner_start(own);
    char *id = submit_async(own, "standin: tick 1000 20", "");
    struct stream *before = follow(own->base, id, "");
    stream_until(before, "tick 10", 20000);
    runner_crash(own);
    while (stream_read(before, 5000))
        continue;
    long last;
    size_t have = whole_part(before->body, before->body_size, &last);
    runner_start(own);
    char *headers = textf("Last-Event-ID: %ld\r\n", last);
    struct stream *after = follow(own->base, id, headers);
    stream_until_end(after, 20000);
    char *file = file_of(own, id);
    before->body[have] = '\0';
    char *joined = textf("%s%s", before->body, after->body);
    assert_string_equal(joined, file);
    assert_int_equal(text_count(joined, "\nevent: done\n"), 1);
    assert_non_null(strstr(joined, "\"reason\":\"interrupted\""));
    free(joined);
    free(file);
    free(headers);
    stream_free(before);
    stream_free(after);
    free(id);
    runner_free(own);
}

static void a_stopping_runner_ends_its_streams(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    runner_set(own, "MAX_CONCURRENT_TASKS", "1");
    runner_start(own);
    char *running = submit_async(own, "standin: tick 50 100", "");
    char *waiting = submit_async(own, "standin: ok x", "");
    struct stream *of_running = follow(own->base, running, "");
    struct stream *of_waiting = follow(own->base, waiting, "");
    stream_until(of_running, "tick 0", 20000);
    stream_until(of_waiting, "event: task", 20000);
    assert_int_equal(runner_stop(own, 60000), 0);
    stream_until_end(of_running, 20000);
    stream_until_end(of_waiting, 20000);
    assert_int_equal(stream_count(of_running, "\nevent: done\n"), 1);
    assert_int_equal(stream_count(of_waiting, "\nevent: done\n"), 0);
    stream_free(of_running);
    stream_free(of_waiting);
    runner_start(own);
    runner_await(own, waiting, "completed", 60000);
    free(running);
    free(waiting);
    runner_free(own);
}

static void a_reader_that_stops_slows_nobody_and_misses_nothing(void **state)
{
    (void)state;
    char *id = submit_async(shared(), "standin: print-bytes 30000000", "");
    struct stream *stopped = follow(runner->base, id, "");
    struct stream *reader = follow(runner->base, id, "");
    stream_until_end(reader, 120000); /* meanwhile nothing is read from the other stream */
    runner_await(runner, id, "completed", 60000);
    stream_until_end(stopped, 120000);
    drop_heartbeats(stopped->body);
    drop_heartbeats(reader->body);
    char *file = file_of(runner, id);
    assert_true(strcmp(stopped->body, file) == 0);
    assert_true(strcmp(reader->body, file) == 0);
    free(file);
    stream_free(stopped);
    stream_free(reader);
    free(id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_streams_a_task_from_its_first_event_to_done),
        cmocka_unit_test(run_refuses_before_there_is_a_task),
        cmocka_unit_test(run_async_answers_at_once_and_survives_a_crash),
        cmocka_unit_test(who_goes_away_cancels_what_run_started_and_nothing_else),
        cmocka_unit_test(a_stream_cut_anywhere_resumes_without_loss_or_repeat),
        cmocka_unit_test(a_live_stream_is_taken_up_again),
        cmocka_unit_test(an_offset_that_is_no_events_is_refused),
        cmocka_unit_test(json_lines_hold_the_same_events),
        cmocka_unit_test(a_restart_of_the_runner_loses_nothing),
        cmocka_unit_test(a_stopping_runner_ends_its_streams),
        cmocka_unit_test(a_reader_that_stops_slows_nobody_and_misses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
