/*
 * Commands with inputs and outputs, by `exec` and `batch`, against a strict stand-in for the routes
 * of the contract: /exec, /inputs, /tasks/{id}/outputs.
 */
#include "testing.h"

#include "loopback.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct loopback *server;
static char *dir;
static _Atomic int execs, uploads, asked;
static _Atomic int breaks,
    losses; /* streams that are to end too early; requests to go unanswered */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char kept[80];    /* the digest that was uploaded */
static char *last_body;  /* of POST /exec */
static char keys[65536]; /* every Idempotency-Key */
static int wrong;

static bool stream(struct loopback_call *call, int from)
{
    static const char *const events[] = {
        "id: 0\nevent: task\ndata: {\"taskId\":\"task-1\",\"status\":\"pending\"}\n\n",
        "id: 1\nevent: stdout\ndata: {\"text\":\"out 1\\n\"}\n\n",
        "id: 2\nevent: stderr\ndata: {\"text\":\"err 1\\n\"}\n\n",
        "id: 3\nevent: stdout\ndata: {\"text\":\"out 2\\n\"}\n\n",
        ("id: 4\nevent: done\ndata: {\"success\":false,\"taskId\":\"task-1\",\"exit_code\":5,"
         "\"stdout\":\"out 1\\nout 2\\n\",\"stderr\":\"err 1\\n\",\"duration_ms\":12}\n\n")};
    if (!loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                             "Connection: close\r\n\r\n"))
        return false;
    for (int i = from; i < (int)COUNT(events); i++) {
        if (i == 2 && breaks > 0) {
            breaks--;
            return false;
        }
        loopback_text(call, events[i]);
    }
    return false;
}

static bool exec_command(struct loopback_call *call)
{
    char key[160] = "", accept[64] = "";
    char *body = loopback_body(call);
    cJSON *json = cJSON_Parse(body);
    execs++;
    loopback_header(call, "Idempotency-Key", key, sizeof(key));
    loopback_header(call, "Accept", accept, sizeof(accept));
    pthread_mutex_lock(&lock);
    free(last_body);
    last_body = body;
    snprintf(keys + strlen(keys), sizeof(keys) - strlen(keys), "%s\n", key);
    wrong += !*key || strcmp(accept, "text/event-stream") != 0 ||
             !cJSON_IsString(cJSON_GetObjectItem(json, "command")) ||
             !cJSON_IsTrue(cJSON_GetObjectItem(json, "detach"));
    pthread_mutex_unlock(&lock);
    cJSON_Delete(json);
    if (losses > 0) {
        losses--;
        return false;
    }
    return stream(call, 0);
}

/* A conversation, whose transcript has more than its stream. */
static bool talk(struct loopback_call *call)
{
    free(loopback_body(call));
    loopback_text(call, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                        "Connection: close\r\n\r\n"
                        "id: 0\nevent: task\ndata: {\"taskId\":\"talk\"}\n\n"
                        "id: 1\ndata: {\"type\":\"result\"}\n\n"
                        "id: 2\nevent: done\ndata: {\"success\":true,\"taskId\":\"talk\","
                        "\"output\":\"said\",\"exit_code\":0}\n\n");
    return false;
}

static bool take_input(struct loopback_call *call)
{
    char piece[4096];
    if (strcmp(call->method, "HEAD") == 0) {
        asked++;
        return loopback_text(call, strcmp(kept, call->path + 8) == 0
                                       ? "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                                       : "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    while (loopback_read(call, piece, sizeof(piece)) > 0)
        continue;
    uploads++;
    snprintf(kept, sizeof(kept), "%s", call->path + 8);
    return loopback_answer(call, 201, "", "{}");
}

static bool serve(struct loopback_call *call, void *arg)
{
    char last[40];
    (void)arg;
    if (strcmp(call->path, "/exec") == 0)
        return exec_command(call);
    if (strncmp(call->path, "/inputs/", 8) == 0)
        return take_input(call);
    if (strcmp(call->path, "/tasks/task-1/events") == 0)
        return stream(call, loopback_header(call, "Last-Event-ID", last, sizeof(last))
                                ? (int)strtol(last, NULL, 10) + 1
                                : 0);
    if (strcmp(call->path, "/run") == 0)
        return talk(call);
    if (strcmp(call->path, "/tasks/talk/transcript") == 0)
        return loopback_answer(call, 200, "", "{\"type\":\"user\"}\n{\"type\":\"assistant\"}\n");
    if (strcmp(call->path, "/tasks/talk/outputs") == 0)
        return loopback_answer(call, 200, "", "{\"outputs\":[]}");
    if (strcmp(call->path, "/tasks/task-1/outputs") == 0)
        return loopback_answer(call, 200, "",
                               "{\"outputs\":[{\"path\":\"sub/a b\",\"sizeBytes\":3},"
                               "{\"path\":\"c\",\"sizeBytes\":1}]}");
    if (strcmp(call->path, "/tasks/task-1/outputs/sub/a%20b") == 0)
        return loopback_answer(call, 200, "", "a b");
    if (strcmp(call->path, "/tasks/task-1/outputs/c") == 0)
        return loopback_answer(call, 200, "", "c");
    wrong++;
    return loopback_answer(call, 404, "", "{\"code\":\"not_found\",\"detail\":\"no such path\"}");
}

static int set_up(void **state)
{
    (void)state;
    execs = uploads = asked = breaks = losses = wrong = 0;
    kept[0] = keys[0] = '\0';
    server = loopback_start(serve, NULL);
    dir = tmp_dir_new();
    char *script = textf("mkdir %s/in; echo x >%s/in/file", dir, dir);
    proc_shell(script);
    free(script);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    loopback_stop(server);
    free(last_body);
    last_body = NULL;
    assert_int_equal(wrong, 0);
    tmp_dir_free(dir);
    return 0;
}

static int run(char *const argv[], char **ret_out, char **ret_err)
{
    char *base = loopback_url(server, ""), *out = textf("%s/o", dir), *err = textf("%s/e", dir);
    char *env[] = {textf("RUNNER_URL=%s", base), (char[]){"RUNNER_SECRET=" RUNNER_SECRET}, NULL};
    int status = -1;
    unlink(out);
    unlink(err);
    assert_true(proc_wait(proc_start(argv, env, out, err), 120000, &status));
    *ret_out = read_file(out, NULL);
    *ret_err = read_file(err, NULL);
    free(env[0]);
    free(base);
    free(out);
    free(err);
    return status;
}

static void exec_is_the_command_itself(void **state)
{
    (void)state;
    char *input = textf("data=%s/in", dir), *out, *err;
    char *argv[] = {(char[]){TEST_RUNNER}, (char[]){"exec"},   (char[]){"-i"},   input,
                    (char[]){"--"},        (char[]){"printf"}, (char[]){"it's"}, NULL};
    breaks = 1; /* and it comes back for the rest */
    assert_int_equal(run(argv, &out, &err), 5);
    assert_string_equal(out, "out 1\nout 2\n");
    assert_string_equal(err, "err 1\n");
    assert_int_equal(execs, 1);
    assert_int_equal(uploads, 1);
    cJSON *body = cJSON_Parse(last_body);
    assert_json_text(body, "command", "'printf' 'it'\\''s'");
    char *digest = textf("sha256:%s", kept);
    assert_json_text(body, "inputs.data", digest);
    cJSON_Delete(body);
    free(digest);
    free(out);
    free(err);
    free(input);
}

static void a_request_without_an_answer_is_sent_again_under_its_key(void **state)
{
    (void)state;
    char *argv[] = {(char[]){TEST_RUNNER}, (char[]){"exec"}, (char[]){"--"}, (char[]){"true"},
                    NULL};
    char *out, *err;
    losses = 2;
    assert_int_equal(run(argv, &out, &err), 5);
    assert_string_equal(out, "out 1\nout 2\n");
    assert_int_equal(execs, 3);
    size_t len = strcspn(keys, "\n") + 1;
    assert_int_equal(strlen(keys), 3 * len);
    assert_memory_equal(keys, keys + len, len);
    assert_memory_equal(keys, keys + 2 * len, len);
    free(out);
    free(err);
}

static void a_batch_of_commands_uploads_once_and_keeps_all(void **state)
{
    (void)state;
    char *tasks = textf("%s/tasks.json", dir), *results = textf("%s/out", dir), *out, *err;
    char *text = textf("[{\"id\":\"one\",\"command\":\"x\",\"inputs\":{\"in\":\"%s/in\"},\"n\":3},"
                       "{\"id\":\"two\",\"command\":\"y\",\"inputs\":[[\"in\",\"%s/in\"]]},"
                       "{\"id\":\"gone\",\"command\":\"z\",\"inputs\":{\"in\":\"%s/nothing\"}}]",
                       dir, dir, dir);
    char *argv[] = {(char[]){TEST_RUNNER}, (char[]){"batch"}, tasks,
                    (char[]){"--out"},     results,           NULL};
    write_file(tasks, text, 0644);
    breaks = 2;
    assert_int_equal(run(argv, &out, &err), 1);
    assert_non_null(strstr(err, "0 of 5 runs ok, 5 failed"));
    assert_int_equal(uploads, 1);
    assert_int_equal(asked, 1);
    assert_int_equal(execs, 4); /* the one whose input is missing never began */
    for (char *key = keys, *end; (end = strchr(key, '\n')); key = end + 1) {
        *end = '\0';
        assert_null(strstr(end + 1, key));
    }
    char *script =
        textf("cd %s/out; for r in one/0 one/1 one/2 two/0; do"
              " test \"$(cat $r/stdout.txt)\" = \"$(printf 'out 1\\nout 2')\";"
              " test \"$(cat $r/stderr.txt)\" = 'err 1';"
              " test \"$(cat \"$r/outputs/sub/a b\")$(cat $r/outputs/c)\" = 'a bc'; done;"
              " grep -c '\"returncode\":5' results.jsonl | grep -qx 4;"
              " grep '\"id\":\"gone\"' results.jsonl | grep -q '/nothing'",
              dir);
    proc_shell(script);
    free(script);
    free(out);
    free(err);
    free(text);
    free(results);
    free(tasks);
}

static void a_transcript_is_the_conversation_itself(void **state)
{
    (void)state;
    char *tasks = textf("%s/tasks.jsonl", dir), *results = textf("%s/out", dir), *out, *err;
    char *argv[] = {(char[]){TEST_RUNNER}, (char[]){"batch"}, tasks,
                    (char[]){"--out"},     results,           NULL};
    write_file(tasks, "{\"id\":\"a\",\"prompt\":\"x\"}", 0644);
    assert_int_equal(run(argv, &out, &err), 0);
    char *script = textf("cd %s/out/a/0; test \"$(wc -l <transcript.jsonl)\" = 2;"
                         " grep -q assistant transcript.jsonl; test \"$(cat response.txt)\" = said;"
                         " test -z \"$(find . -name '.?*')\"",
                         dir);
    proc_shell(script);
    free(script);
    free(out);
    free(err);
    free(results);
    free(tasks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_transcript_is_the_conversation_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(exec_is_the_command_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_without_an_answer_is_sent_again_under_its_key,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_of_commands_uploads_once_and_keeps_all, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
