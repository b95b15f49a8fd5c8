/*
 * Sessions in the cloud: the same commands and files as here, each command an execution of the
 * stand-in's Cloud Run, and what lies in the bucket between them.
 */
#include "overflow_scene.h"
#include "session.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

static struct reply *post(const char *path, const char *body)
{
    return runner_post(runner, path, body);
}

static void make(const char *id, const char *executor, const char *more)
{
    char *body = textf("{\"id\":\"%s\",\"executor\":\"%s\"%s}", id, executor, more);
    struct reply *reply = post("/sessions", body);
    assert_status(reply, 201);
    assert_json_text(reply->json, "executor", executor);
    assert_json_text(reply->json, "state", "ready");
    reply_free(reply);
    free(body);
}

static void drop(const char *id)
{
    char *path = textf("/sessions/%s", id);
    struct reply *reply = runner_delete(runner, path);
    assert_status(reply, 200);
    reply_free(reply);
    free(path);
}

/* Runs it and checks the exit code and what it printed (NULL: anything). */
static void expect(const char *id, const char *command, int exit_code, const char *out)
{
    struct done *done = session_run(runner, id, command, "");
    if (done->exit_code != exit_code || (out && strcmp(done->out, out) != 0))
        fail_msg("'%s' gave %d, '%s', '%s'", command, done->exit_code, done->out, done->err);
    done_free(done);
}

/* The session's state.json. */
static cJSON *state_of(const char *id)
{
    char *path =
        textf("/storage/v1/b/" CLOUD_BUCKET "/o/sessions%%2F%s%%2Fstate.json?alt=media", id);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 200);
    cJSON *json = cJSON_Duplicate(reply->json, true);
    reply_free(reply);
    free(path);
    return json;
}

static int set_up_all(void **state)
{
    int rc = set_up(state);
    runner_start(runner);
    return rc;
}

/* ---- what is the same here and there ---- */

static void a_shell_remembers_here_and_there(void **state)
{
    (void)state;
    static const char *const where[] = {"local", "cloud"};
    for (size_t i = 0; i < COUNT(where); i++) {
        make("a", where[i], ",\"env\":{\"GIVEN\":\"g\"}");
        expect("a", "pwd; echo $GIVEN", 0, "/workspace\ng\n");
        expect("a",
               "mkdir -p d && cd d; export A='x y'; B=2; f() { echo f:$1; }; umask 077; "
               "shopt -s nullglob; echo one >file; ln -s /etc/passwd link; mkdir empty; exit 5",
               5, "");
        const char *look = "echo \"$PWD $A $B\"; f 1; umask; shopt nullglob; cat file; "
                           "readlink link; ls -d empty; false";
        const char *seen = "/workspace/d x y 2\nf:1\n0077\nnullglob       \ton\none\n/etc/passwd\n"
                           "empty\n";
        expect("a", look, 1, seen);
        struct done *done =
            session_run(runner, "a", "sleep 100 & sleep 100; echo never", "\"timeout\":1");
        assert_true(done->timed_out);
        assert_int_equal(done->exit_code, -1);
        assert_string_equal(done->cwd, "/workspace/d");
        done_free(done);
        expect("a", "rm -r file empty; cd ..; echo x >\"$(printf '\\377')\"", 0, "");
        expect("a", "ls d; pwd; ls | od -An -c | head -1", 0, NULL);
        struct reply *reply = runner_get(runner, "/sessions/a");
        assert_json_text(reply->json, "cwd", "/workspace");
        assert_json_text(reply->json, "env.A", "x y");
        assert_json_text(reply->json, "shells.0.name", "default");
        reply_free(reply);
        drop("a");
    }
}

/* ---- files ---- */

static struct reply *file(const char *method, const char *path, const char *headers,
                          const char *body)
{
    char *whole = textf("/sessions/f/%s", path);
    char *head = textf(RUNNER_AUTH "%s", headers);
    struct reply *reply = http_call(runner->base, method, whole, head, body);
    free(head);
    free(whole);
    return reply;
}

static void file_is(const char *method, const char *path, const char *body, int status,
                    const char *holds)
{
    struct reply *reply = file(method, path, "", body);
    assert_status(reply, status);
    if (holds && !strstr(reply->body, holds))
        fail_msg("%s %s: '%s'", method, path, reply->body);
    reply_free(reply);
}

static void files_are_the_same_here_and_there(void **state)
{
    (void)state;
    static const char *const where[] = {"local", "cloud"};
    for (size_t i = 0; i < COUNT(where); i++) {
        make("f", where[i], "");
        file_is("PUT", "files/src/a.txt", "one\ntwo\nthree\n", 201, "\"bytes_written\":14");
        file_is("PUT", "files/src/a.txt?append=true", "four\n", 200, NULL);
        file_is("GET", "files/src/a.txt?startLine=1&endLine=3", NULL, 200, "two\nthree");
        struct reply *reply = file("GET", "files/src/a.txt", "Range: bytes=4-6\r\n", NULL);
        assert_status(reply, 206);
        assert_string_equal(reply->body, "two");
        reply_free(reply);
        reply = file("PUT", "files/src/a.txt", "If-Match: \"other\"\r\n", "x");
        assert_status(reply, 412);
        reply_free(reply);
        file_is("GET", "files?path=src", NULL, 200, "a.txt");
        file_is("POST", "files/search", "{\"path\":\"src\",\"pattern\":\"^t\"}", 200, "three");
        file_is("POST", "files/find", "{\"path\":\"/workspace\",\"pattern\":\"**/*.txt\"}", 200,
                "/workspace/src/a.txt");
        file_is("POST", "files/replace",
                "{\"path\":\"src/a.txt\",\"old\":\"two\",\"new\":\"zwei\"}", 200, NULL);
        expect("f", "cat src/a.txt; cd src; rm a.txt; echo b >b.txt", 0,
               "one\nzwei\nthree\nfour\n");
        file_is("GET", "files/src/a.txt", NULL, 404, NULL);
        file_is("GET", "files/src/b.txt", NULL, 200, "b\n");
        file_is("DELETE", "files/src/b.txt", NULL, 200, "\"deleted\":true");
        file_is("GET", "files/../../etc/passwd", NULL, 400, "part");
        expect("f", "ls -A; pwd", 0, "/workspace/src\n");
        file_is("GET", "shells/default?console=true", NULL, 200, "/workspace/src");
        drop("f");
    }
}

/* ---- what is different there ---- */

static void refused(const char *method, const char *path, const char *body, int status,
                    const char *holds)
{
    struct reply *reply = http_call(runner->base, method, path, RUNNER_AUTH, body);
    assert_status(reply, status);
    if (!strstr(reply->body, holds))
        fail_msg("%s %s: '%s'", method, path, reply->body);
    reply_free(reply);
}

static void what_needs_a_process_is_refused_with_a_reason(void **state)
{
    (void)state;
    size_t before = runs();
    make("r", "cloud", "");
    refused("POST", "/sessions/r/exec", "{\"command\":\"sleep 1\",\"background\":true}", 400,
            "\"field\":\"background\"");
    refused("POST", "/sessions/r/exec", "{\"command\":\"sleep 1 &\"}", 400,
            "\"field\":\"command\"");
    refused("POST", "/sessions/r/exec", "{\"command\":\"cat\",\"stdin\":\"x\"}", 400,
            "\"field\":\"stdin\"");
    refused("POST", "/sessions/r/processes/7/stdin", "{\"text\":\"x\"}", 409, "Cloud Run");
    refused("DELETE", "/sessions/r/processes/7?signal=HUP", NULL, 409, "Cloud Run");
    refused("POST", "/sessions/r/shells/default/stdin", "{\"text\":\"x\"}", 409, "Cloud Run");
    refused("GET", "/sessions/r/terminal", NULL, 409, "Cloud Run");
    refused("POST", "/execute", "{\"prompt\":\"x\",\"inSession\":\"r\"}", 400, "inSession");
    refused("GET", "/sessions/r/processes", NULL, 200, "\"processes\":[]");
    refused("DELETE", "/sessions/r/processes?pattern=x", NULL, 200, "\"killed_count\":0");
    refused("POST", "/sessions/r/shells/default/kill", "{}", 404, "no process");
    refused("POST", "/sessions", "{\"id\":\"r\",\"executor\":\"cloud\"}", 409, "already");
    refused("POST", "/sessions", "{\"executor\":\"cloud\",\"egress\":[\"none\"]}", 400, "egress");
    refused("POST", "/sessions", "{\"executor\":\"cloud\",\"ttlMinutes\":50000}", 400,
            "ttlMinutes");
    refused("POST", "/sessions", "{\"executor\":\"moon\"}", 400, "\"field\":\"executor\"");
    assert_int_equal(runs(), before);
    drop("r");
    refused("GET", "/sessions/r", NULL, 404, "r");
}

/* One that holds the session for longer than any test; the connection. */
static int begin_long(const char *id)
{
    char *path = textf("/sessions/%s/exec", id);
    int fd = http_begin(runner->base, "POST", path, RUNNER_AUTH "Accept: text/event-stream\r\n",
                        "{\"command\":\"echo begun >kept; echo begun; sleep 300; echo never\","
                        "\"timeout\":600}");
    free(path);
    return fd;
}

/* Whether the task that the session shows has begun; false when it is the one of an earlier
 * command, which has ended. */
static bool has_begun(const char *path)
{
    struct reply *reply = runner_get(runner, path);
    const char *task = reply->json ? json_text(reply->json, "taskId") : "";
    char *events = *task ? textf("/tasks/%s/events", task) : NULL;
    reply_free(reply);
    if (!events)
        return false;
    struct stream *stream = stream_open(runner->base, "GET", events, RUNNER_AUTH, NULL);
    int64_t until = now_ms() + END_MS * slowness();
    while (!strstr(stream->body, "begun") && !stream->closed && !stream->ended && now_ms() < until)
        stream_read(stream, 100);
    bool begun = strstr(stream->body, "begun") != NULL;
    stream_free(stream);
    free(events);
    return begun;
}

static void await_begun(const char *id)
{
    char *path = textf("/sessions/%s", id);
    EVENTUALLY(END_MS, has_begun(path));
    free(path);
}

static void one_command_at_a_time_and_a_killed_one_leaves_nothing(void **state)
{
    (void)state;
    make("o", "cloud", "");
    expect("o", "echo before >kept", 0, "");
    int fd = begin_long("o");
    await_begun("o");
    refused("POST", "/sessions/o/exec", "{\"command\":\"true\"}", 409, "sleep 300");
    refused("PUT", "/sessions/o/files/x", "x", 409, "sleep 300");
    refused("GET", "/sessions/o/files/kept", NULL, 200, "before");
    int waiting = http_begin(runner->base, "POST", "/sessions/o/exec", RUNNER_AUTH,
                             "{\"command\":\"cat kept\",\"wait\":600}");
    refused("POST", "/sessions/o/exec", "{\"command\":\"true\",\"wait\":1}", 409, "sleep 300");
    refused("POST", "/sessions/o/shells/default/kill", "{}", 200, "terminated");
    struct reply *reply = http_read(waiting, (int)(END_MS * slowness()));
    assert_status(reply, 200);
    assert_json_text(reply->json, "stdout", "before\n");
    reply_free(reply);
    close(waiting);
    close(fd);
    drop("o");
}

static void a_change_from_elsewhere_is_not_written_over(void **state)
{
    (void)state;
    make("g", "cloud", "");
    expect("g", "cd /tmp; export A=1", 0, "");
    cJSON *was = state_of("g");
    static const char *const members[] = {"session_id",      "cwd",        "env_vars",
                                          "background_pids", "created_at", "last_updated"};
    for (size_t i = 0; i < COUNT(members); i++)
        assert_true(cJSON_HasObjectItem(was, members[i]));
    assert_json_text(was, "cwd", "/tmp");
    assert_json_text(was, "env_vars.A", "1");
    char *slow = textf("{\"command\":\"echo begun; sleep %d; echo mine >mine\"}", 15 * slowness());
    int fd = http_begin(runner->base, "POST", "/sessions/g/exec", RUNNER_AUTH, slow);
    free(slow);
    await_begun("g");
    char *text = cJSON_PrintUnformatted(was);
    struct reply *reply = cloud_call(cloud, "POST",
                                     "/upload/storage/v1/b/" CLOUD_BUCKET
                                     "/o?uploadType=media&name=sessions%2Fg%2Fstate.json",
                                     text);
    assert_status(reply, 200);
    reply_free(reply);
    reply = http_read(fd, (int)(END_MS * slowness()));
    assert_status(reply, 409);
    reply_free(reply);
    close(fd);
    expect("g", "ls /workspace; pwd; echo $A", 0, "/tmp\n1\n");
    free(text);
    cJSON_Delete(was);
    drop("g");
}

/* ---- what a crash leaves ---- */

/* Whether the process has all of this in its environment. */
static bool has_in_environment(const char *pid, const char *name, const char *value)
{
    char text[65536];
    bool named = false, valued = false;
    char *path = textf("/proc/%s/environ", pid);
    FILE *file = fopen(path, "re");
    size_t len = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    text[len] = '\0';
    for (size_t at = 0; at < len; at += strlen(text + at) + 1) {
        const char *is = strchr(text + at, '=');
        named |= strncmp(text + at, name, strlen(name)) == 0;
        valued |= is && strcmp(is + 1, value) == 0;
    }
    if (file)
        fclose(file);
    free(path);
    return named && valued;
}

/* SIGKILL to the executions of this stand-in, as a container's end is: they have its address and a
 * task in their environment. */
static void kill_executions(void)
{
    struct dirent *entry;
    DIR *dir = opendir("/proc");
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        if (strspn(entry->d_name, "0123456789") == strlen(entry->d_name) &&
            has_in_environment(entry->d_name, "TASK_ID=", cloud->base))
            kill((pid_t)strtol(entry->d_name, NULL, 10), SIGKILL);
    closedir(dir);
}

static bool nothing_is_stored(const char *id)
{
    char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o?prefix=sessions%%2F%s%%2F", id);
    char *name = textf("sessions/%s/", id);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 200);
    bool nothing = !strstr(reply->body, name);
    reply_free(reply);
    free(name);
    free(path);
    return nothing;
}

static void it_is_the_session_before_or_after_whatever_dies(void **state)
{
    (void)state;
    make("k", "cloud", "");
    expect("k", "echo before >kept", 0, "");
    int fd = begin_long("k"); /* the execution dies */
    await_begun("k");
    kill_executions();
    struct reply *reply = http_read(fd, (int)(END_MS * slowness()));
    if (!strstr(reply->body, "event: error"))
        fail_msg("it says: %.2000s", reply->body);
    reply_free(reply);
    close(fd);
    expect("k", "cat kept", 0, "before\n");
    fd = http_begin(runner->base, "POST", "/sessions/k/exec", RUNNER_AUTH, /* home dies */
                    "{\"command\":\"echo begun; sleep 3; echo after >kept\"}");
    await_begun("k");
    runner_crash(runner);
    close(fd);
    runner_start(runner);
    reply = runner_get(runner, "/sessions/k");
    assert_status(reply, 200);
    assert_json_text(reply->json, "executor", "cloud");
    reply_free(reply);
    reply = post("/sessions/k/exec", "{\"command\":\"cat kept\",\"wait\":600}");
    assert_status(reply, 200);
    assert_json_text(reply->json, "stdout", "after\n");
    reply_free(reply);
    drop("k");
    EVENTUALLY(60000, nothing_is_stored("k"));
}

/* ---- warm executions ---- */

static void commands_that_follow_soon_share_an_execution(void **state)
{
    (void)state;
    make("w", "cloud", "");
    size_t before = runs();
    int64_t took[4];
    for (size_t i = 0; i < COUNT(took); i++) {
        int64_t from = now_ms();
        expect("w", "N=$((N+1)); echo $N | tee -a all", 0, NULL);
        took[i] = now_ms() - from;
    }
    assert_int_equal(runs() - before, 1);
    print_message("  cold %lld ms, warm %lld, %lld, %lld ms: %.2f of the cold one\n",
                  (long long)took[0], (long long)took[1], (long long)took[2], (long long)took[3],
                  (double)(took[1] + took[2] + took[3]) / 3.0 / (double)took[0]);
    expect("w", "cat all", 0, "1\n2\n3\n4\n");
    drop("w");
}

/* ---- the protocol of the replaced sandbox ---- */

static void an_adapter_finds_every_member(void **state)
{
    int status = -1;
    (void)state;
    if (access("/usr/bin/python3", X_OK))
        SKIP_BECAUSE("there is no python3");
    char *out = textf("%s/adapter", runner->dir);
    char *argv[] = {(char[]){"/usr/bin/python3"},
                    (char[]){TEST_PROTOCOL_FOLDER "/adapter.py"},
                    runner->base,
                    (char[]){RUNNER_SECRET},
                    (char[]){"cloud"},
                    NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    bool ended = proc_wait(proc_start(argv, env, out, out), (int)(END_MS * slowness()), &status);
    char *said = read_file(out, NULL);
    fputs(said ? said : "", stdout);
    free(said);
    free(out);
    assert_true(ended);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shell_remembers_here_and_there),
        cmocka_unit_test(files_are_the_same_here_and_there),
        cmocka_unit_test(what_needs_a_process_is_refused_with_a_reason),
        cmocka_unit_test(one_command_at_a_time_and_a_killed_one_leaves_nothing),
        cmocka_unit_test(a_change_from_elsewhere_is_not_written_over),
        cmocka_unit_test(it_is_the_session_before_or_after_whatever_dies),
        cmocka_unit_test(commands_that_follow_soon_share_an_execution),
        cmocka_unit_test(an_adapter_finds_every_member),
    };
    return cmocka_run_group_tests_name("session_cloud", tests, set_up_all, tear_down);
}
