/*
 * What sessions answer to requests that are wrong or at the edge, sentence by sentence of the
 * contract: every error names its field, and all of them at once.
 */
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *shared;

static struct runner *get(void)
{
    static const char *const settings[] = {"SESSIONS_MAX", "4", NULL};
    return runner_shared(&shared, settings);
}

static int start(void **state)
{
    (void)state;
    session_make(get(), "w");
    return 0;
}

static struct done *run(const char *command, const char *more)
{
    return session_run(get(), "w", command, more);
}

static struct reply *ask(const char *method, const char *path, const char *body)
{
    char *whole = textf("/sessions/w%s", path);
    struct reply *reply = http_call(get()->base, method, whole,
                                    RUNNER_AUTH "Content-Type: application/json\r\n", body);
    free(whole);
    return reply;
}

/* The fields that the errors of a refusal name, with ',' between them. */
static char *fields_of(const struct reply *reply)
{
    char *all = textf("%s", "");
    const cJSON *error;
    cJSON_ArrayForEach(error, cJSON_GetObjectItem(reply->json, "errors"))
    {
        const cJSON *field = cJSON_GetObjectItem(error, "field");
        const cJSON *message = cJSON_GetObjectItem(error, "message");
        assert_true(cJSON_IsString(field) && cJSON_IsString(message) && *message->valuestring);
        char *more = textf("%s%s%s", all, *all ? "," : "", field->valuestring);
        free(all);
        all = more;
    }
    return all;
}

static void refused(const char *method, const char *path, const char *body, const char *fields)
{
    struct reply *reply = strncmp(path, "/sessions", 9) == 0
                              ? http_call(get()->base, method, path,
                                          RUNNER_AUTH "Content-Type: application/json\r\n", body)
                              : ask(method, path, body);
    char *named = fields_of(reply);
    if (reply->status != 400 || strcmp(named, fields) != 0)
        fail_msg("%s %s %s: %d, fields '%s', not '%s': %s", method, path, body ? body : "",
                 reply->status, named, fields, reply->body);
    free(named);
    reply_free(reply);
}

static void all_that_is_wrong_is_named_at_once(void **state)
{
    (void)state;
    refused(
        "POST", "/sessions",
        "{\"id\":\"a/b\",\"from\":\"..\",\"executor\":\"moon\",\"env\":{\"1A\":\"x\",\"OK\":\"y\","
        "\"B\":5},\"limits\":{\"pids\":-1,\"cores\":1,\"memoryMb\":1},\"egress\":5,\"inputs\":{"
        "\"a/b\":\"x\",\"c\":\"sha256:00\"},\"gitBranch\":\"b\",\"layered\":true,\"ttlMinutes\":-1,"
        "\"what\":1}",
        "ttlMinutes,what,id,from,executor,env.1A,env.B,limits.pids,limits.cores,"
        "limits.memoryMb,egress,inputs.a/b,inputs.c,gitBranch,layered");
    refused("POST", "/sessions", "{\"repoUrl\":5,\"gitRef\":[],\"id\":\"..\"}",
            "repoUrl,gitRef,id");
    refused("POST", "/exec", "{\"command\":\"  \",\"shell\":\"a/b\",\"timeout\":-1,\"comand\":1}",
            "timeout,comand,shell,command");
    refused("POST", "/exec", "{\"shell\":\"..\"}", "command,shell");
}

static void parameters_that_are_wrong_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *field;
    } asks[] = {
        {"GET", "/processes?shel=a", "shel"},
        {"GET", "/processes?shell=a%2Fb", "shell"},
        {"DELETE", "/processes?signal=NOPE", "signal"},
        {"DELETE", "/processes?signal=32", "signal"},
        {"DELETE", "/processes?shell=..", "shell"},
        {"GET", "/processes/7?wait=x", "wait"},
        {"GET", "/processes/7?wait=3601", "wait"},
        {"GET", "/processes/7?wait=-1", "wait"},
        {"GET", "/processes/7/logs?from=-1", "from"},
        {"GET", "/processes/7/logs?from=1.5", "from"},
        {"GET", "/processes/7/logs?form=1", "form"},
        {"DELETE", "/processes/7?signal=SIGWHAT", "signal"},
        {"GET", "/shells/default?console=maybe", "console"},
        {"GET", "/shell?shell=..", "shell"},
        {"GET", "/files?limit=10001", "limit"},
        {"GET", "/files?limit=1&path=.&limit=2", "limit"},
    };
    for (size_t i = 0; i < COUNT(asks); i++)
        refused(asks[i].method, asks[i].path, NULL, asks[i].field);
}

/* An empty parameter is an absent one; signals have many spellings. */
static void parameters_may_be_empty(void **state)
{
    (void)state;
    struct done *done = run("exec sleep 1000", "\"background\":true");
    char *path = textf("/processes/%d", done->pid);
    static const char *const signals[] = {"?signal=WINCH", "?signal=sigwinch", "?signal=28",
                                          "?signal=SigCont"};
    struct reply *reply = ask("GET", "/processes?shell=", NULL);
    assert_non_null(strstr(reply->body, "sleep 1000"));
    reply_free(reply);
    for (size_t i = 0; i < COUNT(signals); i++) {
        char *whole = textf("%s%s", path, signals[i]);
        reply = ask("DELETE", whole, NULL);
        assert_status(reply, 200);
        assert_non_null(strstr(reply->body, "signalled"));
        reply_free(reply);
        free(whole);
    }
    reply = ask("DELETE", "/processes?shell=&pattern=&signal=", NULL);
    assert_status(reply, 200);
    assert_non_null(strstr(reply->body, "\"killed_count\":1"));
    reply_free(reply);
    done_free(done);
    free(path);
}

static void waiting_for_no_time_says_how_it_stands(void **state)
{
    (void)state;
    int fd = http_begin(get()->base, "POST", "/sessions/w/exec", RUNNER_AUTH,
                        "{\"command\":\"sleep 1000\",\"shell\":\"busy\"}");
    struct reply *reply = NULL;
    EVENTUALLY(20000, (reply_free(reply), reply = ask("GET", "/shells/busy", NULL),
                       strstr(reply->body, "\"running\":true") != NULL));
    reply_free(reply);
    reply = ask("POST", "/shells/busy/wait", "{\"seconds\":0}");
    assert_status(reply, 200);
    assert_non_null(strstr(reply->body, "{\"running\":true,\"exit_code\":null"));
    reply_free(reply);
    reply_free(ask("POST", "/shells/busy/kill", NULL));
    reply = http_read(fd, HTTP_DEADLINE_MS);
    assert_status(reply, 200);
    reply_free(reply);
    close(fd);
}

/* A shell whose last command has ended: that is told, as of a process in the background. */
static void a_command_that_has_ended_is_known(void **state)
{
    (void)state;
    done_free(run("exit 7", "\"shell\":\"after\""));
    static const struct {
        const char *path, *body;
        int status;
        const char *says;
    } asks[] = {
        {"/shells/after/wait", "{}", 200, "{\"running\":false,\"exit_code\":7,\"returncode\":7}"},
        {"/shells/after/kill", "", 200, "{\"status\":\"already_terminated\",\"returncode\":7}"},
        {"/shells/after/stdin", "{\"text\":\"x\"}", 409, "has ended"},
        {"/shells/nobody/wait", "{}", 404, "nobody"},
        {"/shells/nobody/kill", "", 404, "nobody"},
    };
    for (size_t i = 0; i < COUNT(asks); i++) {
        struct reply *reply = ask("POST", asks[i].path, asks[i].body);
        if (reply->status != asks[i].status || !strstr(reply->body, asks[i].says))
            fail_msg("%s: %d %s", asks[i].path, reply->status, reply->body);
        reply_free(reply);
    }
}

/* "abcdef\n", followed from where the last event ended. */
static void a_log_goes_on_after_the_last_event(void **state)
{
    (void)state;
    static const struct {
        const char *query, *header, *rest;
    } cases[] = {
        {"", "", "{\"text\":\"abcdef\\n\"}"},
        {"?from=2", "", "{\"text\":\"cdef\\n\"}"},
        {"", "Last-Event-ID: 4\r\n", "{\"text\":\"ef\\n\"}"},
        {"?from=2", "Last-Event-ID: 5\r\n", "{\"text\":\"f\\n\"}"},
        {"?from=2", "Last-Event-ID: \r\n", "{\"text\":\"cdef\\n\"}"},
        {"", "Last-Event-ID: 7\r\n", NULL},
        {"?from=99", "", NULL},
    };
    struct done *done = run("echo abcdef", "\"background\":true");
    char *wait = textf("/processes/%d?wait=60", done->pid);
    struct reply *reply = ask("GET", wait, NULL);
    assert_status(reply, 200);
    reply_free(reply);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = textf("/sessions/w/processes/%d/logs%s", done->pid, cases[i].query);
        char *headers = textf(RUNNER_AUTH "Accept: text/event-stream\r\n%s", cases[i].header);
        struct stream *stream = stream_open(get()->base, "GET", path, headers, NULL);
        stream_until_end(stream, 60000);
        const char *text = strstr(stream->body, "event: log\ndata: ");
        if (!cases[i].rest ? text != NULL : !text || !strstr(text, cases[i].rest))
            fail_msg("%s %s: %s", cases[i].query, cases[i].header, stream->body);
        assert_non_null(strstr(stream->body, "event: done\n"));
        stream_free(stream);
        free(path);
        free(headers);
    }
    reply = http_call(get()->base, "GET", "/sessions/w/processes/1/logs",
                      RUNNER_AUTH "Accept: text/event-stream\r\nLast-Event-ID: x\r\n", NULL);
    assert_status(reply, 416);
    reply_free(reply);
    done_free(done);
    free(wait);
}

/* What only looks like a command for the background has its output in the answer. */
static void an_ampersand_in_a_comment_loses_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *command, *out;
        int exit_code;
    } cases[] = {
        {"echo out; echo err >&2 # &", "out\nerr\n", 0},
        {"echo out; (exit 3) # a &", "out\n", 3},
        {"head -c 300000 /dev/zero | tr '\\0' z | wc -c # &", "300000\n", 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct done *done = run(cases[i].command, "");
        assert_string_equal(done->out, cases[i].out);
        assert_int_equal(done->exit_code, cases[i].exit_code);
        assert_int_equal(done->pid, 0);
        done_free(done);
    }
    struct done *done = run("echo ) &", "");
    assert_non_null(strstr(done->out, "syntax error"));
    assert_true(done->exit_code != 0 && done->pid == 0);
    done_free(done);
    done = run("ls -A /tmp | grep -c '[.]bg_'", "");
    assert_string_equal(done->out, "0\n");
    done_free(done);
}

/* A relative `cwd` begins at the shell's directory. */
static void a_place_is_not_looked_for_elsewhere(void **state)
{
    (void)state;
    static const char *const more[][2] = {
        {"\"cwd\":\"lib\"", "/workspace/lib\n"},   {"\"cwd\":\"..\"", "/workspace\n"},
        {"\"cwd\":\"./lib\"", "/workspace/lib\n"}, {"\"cwd\":\"/workspace\"", "/workspace\n"},
        {"\"cwd\":\"-\"", "/workspace/-\n"},       {"\"cwd\":\"../~\"", "/workspace/~\n"},
    };
    done_free(run("cd /tmp; cd /workspace; mkdir lib ./- ./~; CDPATH=/usr:/", ""));
    for (size_t i = 0; i < COUNT(more); i++) {
        struct done *done = run("pwd", more[i][0]);
        assert_string_equal(done->out, more[i][1]);
        done_free(done);
    }
    struct done *done = run("pwd", "\"cwd\":\"nowhere\"");
    assert_string_equal(done->out, "");
    assert_non_null(strstr(done->err, "nowhere"));
    assert_int_equal(done->exit_code, 1);
    done_free(done);
}

/* What packs is killed in the middle: the answer does not end as a whole one does. */
static void an_archive_that_is_not_whole_ends_otherwise(void **state)
{
    (void)state;
    done_free(
        run("cd /workspace; mkdir much; head -c 60000000 /dev/urandom >much/f", "\"timeout\":120"));
    struct stream *stream =
        stream_open(get()->base, "GET", "/sessions/w/archive?path=much", RUNNER_AUTH, NULL);
    assert_true(stream_until_size(stream, 1, 60000));
    done_free(run("kill -9 $(ps -o pid= --ppid $PPID | grep -vw $$)", ""));
    while (!stream->closed && !stream->ended)
        stream_read(stream, 60000);
    assert_int_equal(stream->status, 200);
    assert_false(stream->ended);
    stream_free(stream);
    done_free(run("rm -rf /workspace/much", ""));
}

/* Variables of 100 KB each, more than a message to the agent holds; longer ones are refused. */
static void an_environment_may_be_large(void **state)
{
    (void)state;
    char *value = calloc(1, 131072 + 1);
    assert_non_null(value);
    memset(value, 'v', 131072);
    refused("POST", "/sessions", "{\"env\":{\"A\":\"\\u0001\",\"1\":\"\"}}", "env.1");
    char *body = textf("{\"id\":\"env\",\"env\":{\"A\":\"%s\"}}", value);
    refused("POST", "/sessions", body, "env.A");
    free(body);
    value[100000] = '\0';
    body =
        textf("{\"id\":\"env\",\"env\":{\"A\":\"%s\",\"B\":\"%s\",\"C\":\"%s\",\"D\":\"\\u0001\"}}",
              value, value, value);
    struct reply *reply = runner_post(get(), "/sessions", body);
    assert_status(reply, 201);
    reply_free(reply);
    struct done *done = session_run(get(), "env", "echo ${#A} ${#B} ${#C} ${#D}; /bin/true", "");
    assert_string_equal(done->out, "100000 100000 100000 1\n");
    assert_int_equal(done->exit_code, 0);
    done_free(done);
    reply_free(runner_delete(get(), "/sessions/env"));
    free(body);
    body = textf(
        "{\"env\":{\"A\":\"%s\",\"B\":\"%s\",\"C\":\"%s\",\"D\":\"%s\",\"E\":\"%s\",\"F\":\"%s\"}}",
        value, value, value, value, value, value);
    refused("POST", "/sessions", body, "env");
    free(body);
    free(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_is_wrong_is_named_at_once),
        cmocka_unit_test(parameters_that_are_wrong_are_named),
        cmocka_unit_test(parameters_may_be_empty),
        cmocka_unit_test(waiting_for_no_time_says_how_it_stands),
        cmocka_unit_test(a_command_that_has_ended_is_known),
        cmocka_unit_test(a_log_goes_on_after_the_last_event),
        cmocka_unit_test(an_ampersand_in_a_comment_loses_nothing),
        cmocka_unit_test(a_place_is_not_looked_for_elsewhere),
        cmocka_unit_test(an_archive_that_is_not_whole_ends_otherwise),
        cmocka_unit_test(an_environment_may_be_large),
    };
    return cmocka_run_group_tests_name("session_words", tests, start, shared_stop);
}
