/*
 * Events as they come: /run, /run-async and GET /tasks/{id}/events, cut off and taken up again, and
 * through the proxies that stand in front of servers.
 */
#include "testing.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINES_TYPE "Accept: application/x-ndjson\r\n"
#define CUTS 200

static struct runner *runner;

static const char *const settings[] = {"KEEPALIVE_EVERY_MS", "300", NULL};

static struct runner *shared(void)
{
    return runner_shared(&runner, settings);
}

static struct stream *run(const char *base, const char *prompt, const char *more)
{
    char *json = prompt_json(prompt, more);
    struct stream *stream = stream_open(base, "POST", "/run", RUNNER_AUTH, json);
    free(json);
    return stream;
}

static struct stream *follow(const char *base, const char *id, const char *headers)
{
    char *path = textf("/tasks/%s/events", id);
    char *all = textf("%s%s", RUNNER_AUTH, headers);
    struct stream *stream = stream_open(base, "GET", path, all, NULL);
    free(all);
    free(path);
    return stream;
}

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

/* The id of the task whose stream this is. */
static char *task_of(struct stream *stream)
{
    stream_until(stream, "\"taskId\":\"", 10000);
    stream_until(stream, "\n\n", 10000);
    const char *id = strstr(stream->body, "\"taskId\":\"") + strlen("\"taskId\":\"");
    return strndup(id, strcspn(id, "\""));
}

/* What the task's file holds. */
static char *file_of(const struct runner *of, const char *id)
{
    char *path = textf("%s/tasks/%s/events", of->state, id);
    char *text = read_file(path, NULL);
    assert_non_null(text);
    free(path);
    return text;
}

static void assert_header(const struct stream *stream, const char *line)
{
    if (!strcasestr(stream->head, line))
        fail_msg("no '%s' in:\n%s", line, stream->head);
}

/* Without the heartbeats, which may come anywhere between two events. */
static void drop_heartbeats(char *text)
{
    for (char *at; (at = strstr(text, "\n\n:\n\n"));)
        memmove(at + 2, at + 5, strlen(at + 5) + 1);
    if (strncmp(text, ":\n\n", 3) == 0)
        memmove(text, text + 3, strlen(text + 3) + 1);
}

static void run_streams_a_task_from_its_first_event_to_done(void **state)
{
    (void)state;
    struct stream *stream = run(shared()->base, "standin: tick 3 400", "");
    char *id = task_of(stream);
    assert_int_equal(strncmp(stream->body, "id: 0\nevent: task\ndata: {", 25), 0);
    stream_until(stream, "\n\n:\n\n", 2000);
    stream_until_end(stream, 10000);
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
    runner_await(own, busy, "running", 5000); /* or it would run again, and for ever */
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
    runner_await(own, id, "completed", 10000);
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
    stream_until(reader, "\"assistant\"", 5000);
    stream_until(attached, "\"assistant\"", 5000);
    stream_until(detached, "\"assistant\"", 5000);
    struct stream *witness = follow(runner->base, ids[0], "");
    stream_until(witness, "\"assistant\"", 5000);
    stream_free(attached);
    stream_free(detached);
    stream_free(reader);
    stream_until_end(witness, 10000);
    assert_int_equal(stream_count(witness, "\nevent: cancelled\n"), 1);
    assert_int_equal(stream_count(witness, "\nevent: done\n"), 1);
    runner_await(runner, ids[0], "cancelled", 10000);
    for (size_t i = 1; i < COUNT(ids); i++) {
        char *path = textf("/tasks/%s", ids[i]);
        runner_await(runner, ids[i], "running", 100);
        reply_free(runner_delete(runner, path));
        runner_await(runner, ids[i], "cancelled", 10000);
        free(path);
    }
    for (size_t i = 0; i < COUNT(ids); i++)
        free(ids[i]);
    stream_free(witness);
}

/* Offset after the last whole event in text[0..size), and that event's id. */
static size_t whole_part(const char *text, size_t size, long *ret_id)
{
    size_t end = size;
    while (end > 1 && !(text[end - 1] == '\n' && text[end - 2] == '\n'))
        end--;
    *ret_id = -1;
    if (end <= 1)
        return 0;
    size_t from = end - 2;
    while (from > 0 && !(text[from] == '\n' && text[from - 1] == '\n'))
        from--;
    assert_int_equal(sscanf(text + (from ? from + 1 : 0), "id: %ld", ret_id), 1);
    return end;
}

/* Reads `cut` bytes of the task's stream, goes away, and comes back with the last id it has seen:
 * the whole must be the file. */
static void cut_and_resume(const char *id, const char *file, size_t cut)
{
    long last;
    char headers[80] = "";
    struct stream *first = follow(runner->base, id, "");
    assert_true(stream_until_size(first, cut, 10000));
    assert_memory_equal(first->body, file, cut);
    size_t have = whole_part(first->body, cut, &last);
    stream_free(first);
    if (last >= 0)
        snprintf(headers, sizeof headers, "Last-Event-ID: %ld\r\n", last);
    struct stream *second = follow(runner->base, id, headers);
    if (have == strlen(file)) { /* nothing is left: do not come again */
        assert_false(stream_until_size(second, 1, 10000));
        assert_int_equal(second->status, 204);
    } else {
        stream_until_end(second, 10000);
        assert_string_equal(second->body, file + have);
    }
    stream_free(second);
}

static void a_stream_cut_anywhere_resumes_without_loss_or_repeat(void **state)
{
    (void)state;
    char *id = submit_async(shared(), "standin: lines 60 700", "");
    runner_await(runner, id, "completed", 10000);
    struct stream *all = follow(runner->base, id, "");
    stream_until_end(all, 10000);
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
    runner_await(runner, id, "completed", 10000);
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
        stream_until_end(lines, 20000);
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
    stream_until(before, "tick 10", 10000);
    runner_crash(own);
    while (stream_read(before, 5000))
        continue;
    long last;
    size_t have = whole_part(before->body, before->body_size, &last);
    runner_start(own);
    char *headers = textf("Last-Event-ID: %ld\r\n", last);
    struct stream *after = follow(own->base, id, headers);
    stream_until_end(after, 10000);
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
    char *running = submit_async(own, "standin: tick 10 100", "");
    char *waiting = submit_async(own, "standin: ok x", "");
    struct stream *of_running = follow(own->base, running, "");
    struct stream *of_waiting = follow(own->base, waiting, "");
    stream_until(of_running, "tick 0", 5000);
    stream_until(of_waiting, "event: task", 5000);
    assert_int_equal(runner_stop(own, 20000), 0);
    stream_until_end(of_running, 1000);
    stream_until_end(of_waiting, 1000);
    assert_int_equal(stream_count(of_running, "\nevent: done\n"), 1);
    assert_int_equal(stream_count(of_waiting, "\nevent: done\n"), 0);
    stream_free(of_running);
    stream_free(of_waiting);
    runner_start(own);
    runner_await(own, waiting, "completed", 10000);
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
    stream_until_end(reader, 30000); /* nothing is read from the other one meanwhile */
    runner_await(runner, id, "completed", 10000);
    stream_until_end(stopped, 30000);
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

/* ---- proxies ---- */

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    close(fd);
    return ntohs(at.sin_port);
}

/* A first event that is not there at once was held back. */
static void through(const char *base)
{
    struct stream *stream = run(base, "standin: tick 4 700", "");
    stream_until(stream, "tick 0", 1500);
    assert_int_equal(stream_count(stream, "tick 3"), 0);
    stream_until(stream, "tick 1", 1500);
    char *id = task_of(stream);
    long last;
    char headers[80];
    size_t have = whole_part(stream->body, stream->body_size, &last);
    (void)have;
    snprintf(headers, sizeof headers, "Last-Event-ID: %ld\r\n", last);
    struct stream *second = follow(base, id, headers);
    int64_t end = now_ms() + 15000;
    while (!strstr(second->body, "\nevent: done\n") && now_ms() < end)
        stream_read(second, 100);
    assert_int_equal(stream_count(second, "\nevent: done\n"), 1);
    assert_int_equal(stream_count(second, "tick 0"), 0);
    assert_int_equal(stream_count(second, "tick 3"), 1);
    stream_free(second);
    stream_free(stream);
    /* who goes away from the proxy goes away from us */
    stream = run(base, "standin: hang-middle", "");
    free(id);
    id = task_of(stream);
    stream_free(stream);
    runner_await(runner, id, "cancelled", 10000);
    free(id);
}

static void with_proxy(const char *program, char *const argv[], const char *base, const char *log)
{
    pid_t pid =
        proc_start(argv, (char *[]){(char[]){"PATH=/usr/sbin:/usr/bin:/bin"}, NULL}, log, log);
    int status = 0, fd = -1;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtol(strrchr(base, ':') + 1, NULL, 10)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int64_t end = now_ms() + 10000; now_ms() < end && proc_alive(pid); poll_pause()) {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
            break;
        close(fd);
        fd = -1;
    }
    if (fd < 0) {
        char *said = read_file(log, NULL);
        fail_msg("%s does not listen: %s", program, said);
    }
    close(fd);
    through(base);
    kill(pid, SIGTERM);
    if (!proc_wait(pid, 10000, &status))
        kill(pid, SIGKILL);
}

static void streams_pass_through_nginx(void **state)
{
    (void)state;
    if (access("/usr/sbin/nginx", X_OK))
        SKIP_BECAUSE("nginx is not installed");
    char *dir = tmp_dir_new(), *log = textf("%s/log", dir), *file = textf("%s/conf", dir);
    int port = free_port();
    char *base = textf("http://127.0.0.1:%d", port);
    char *conf = textf("daemon off; pid %s/pid; error_log %s/log; worker_processes 1;\n"
                       "events { worker_connections 64; }\n"
                       "http { access_log off; client_body_temp_path %s; proxy_temp_path %s;\n"
                       "fastcgi_temp_path %s; uwsgi_temp_path %s; scgi_temp_path %s;\n"
                       "gzip on; gzip_types *; gzip_proxied any;\n"
                       "server { listen 127.0.0.1:%d; location / { proxy_pass %s; } } }\n",
                       dir, dir, dir, dir, dir, dir, dir, port, shared()->base);
    write_file(file, conf, 0644);
    char *const argv[] = {
        (char[]){"/usr/sbin/nginx"}, (char[]){"-e"}, log, (char[]){"-c"}, file, NULL};
    with_proxy("nginx", argv, base, log);
    free(conf);
    free(base);
    free(file);
    free(log);
    tmp_dir_free(dir);
}

static void streams_pass_through_haproxy(void **state)
{
    (void)state;
    if (access("/usr/sbin/haproxy", X_OK))
        SKIP_BECAUSE("haproxy is not installed");
    char *dir = tmp_dir_new(), *log = textf("%s/log", dir), *file = textf("%s/conf", dir);
    int port = free_port();
    char *base = textf("http://127.0.0.1:%d", port);
    char *conf = textf("defaults\n mode http\n timeout connect 2s\n timeout client 2s\n"
                       " timeout server 2s\n"
                       "frontend in\n bind 127.0.0.1:%d\n default_backend out\n"
                       "backend out\n server one %s\n",
                       port, shared()->base + strlen("http://"));
    write_file(file, conf, 0644);
    char *const argv[] = {(char[]){"/usr/sbin/haproxy"}, (char[]){"-db"}, (char[]){"-f"}, file,
                          NULL};
    with_proxy("haproxy", argv, base, log);
    free(conf);
    free(base);
    free(file);
    free(log);
    tmp_dir_free(dir);
}

/* ---- the system prompt ---- */

/* What the task was started with as its system prompt. */
static void assert_system_prompt(const struct runner *own, const char *more, const char *expected)
{
    struct reply *reply = runner_execute(own, "standin: env", more);
    assert_status(reply, 200);
    char *argument = textf("--system-prompt=%s\\\"", expected);
    if (!strstr(reply->body, argument))
        fail_msg("no '%s' in %.1500s", argument, reply->body);
    free(argument);
    reply_free(reply);
}

static void the_system_prompt_follows_its_file(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    char *path = textf("%s/prompt.md", own->dir), *next = textf("%s/next", own->dir);
    runner_set(own, "SYSTEM_PROMPT_FILE", path);
    runner_start(own);
    struct reply *reply = runner_execute(own, "standin: env", "");
    assert_problem(reply, 500, "configuration");
    reply_free(reply);
    assert_system_prompt(own, "\"systemPrompt\":\"mine\"", "mine");
    write_file(path, "be brief", 0644);
    assert_system_prompt(own, "", "be brief");
    write_file(next, "be kind", 0644);
    assert_int_equal(rename(next, path), 0);
    assert_system_prompt(own, "", "be kind");
    char *big = malloc(102402);
    memset(big, 'x', 102401);
    big[102401] = '\0';
    write_file(path, big, 0644);
    assert_system_prompt(own, "", "be kind");
    assert_int_equal(unlink(path), 0);
    assert_system_prompt(own, "", "be kind");
    char *log = runner_log(own);
    assert_int_equal(text_count(log, "the last good text stays in force"), 2);
    write_file(path, "be back", 0644);
    assert_system_prompt(own, "", "be back");
    free(log);
    free(big);
    free(next);
    free(path);
    runner_free(own);
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
        cmocka_unit_test(streams_pass_through_nginx),
        cmocka_unit_test(streams_pass_through_haproxy),
        cmocka_unit_test(the_system_prompt_follows_its_file),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
