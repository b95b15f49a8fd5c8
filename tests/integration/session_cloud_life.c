/*
 * The life of sessions in the cloud, against the stand-in for Google's APIs: what they begin with,
 * what of their files travels, and how they end; and what becomes of one when the bucket, its
 * execution, or the runner fails.
 */
#include "overflow_scene.h"
#include "session.h"

#include <unistd.h>

#define STATE "\"pathContains\":\"state.json\""

static struct reply *call(const char *method, const char *path, const char *body)
{
    return http_call(runner->base, method, path, RUNNER_AUTH, body);
}

static void answers(const char *method, const char *path, const char *body, int status,
                    const char *holds)
{
    struct reply *reply = call(method, path, body);
    if (reply->status != status || !strstr(reply->body, holds))
        fail_msg("%s %s: %d '%.2000s', not %d with '%s'", method, path, reply->status, reply->body,
                 status, holds);
    reply_free(reply);
}

/* Makes a session in the cloud, with these fields besides. */
static void make(const char *id, const char *more)
{
    char *body = textf("{\"id\":\"%s\",\"executor\":\"cloud\"%s}", id, more);
    answers("POST", "/sessions", body, 201, "\"executor\":\"cloud\"");
    free(body);
}

static void drop(const char *id)
{
    char *path = textf("/sessions/%s", id);
    answers("DELETE", path, NULL, 200, "\"success\":true");
    answers("DELETE", path, NULL, 200, "\"success\":true");
    free(path);
}

static void prints(const char *id, const char *command, const char *out)
{
    struct done *done = session_run(runner, id, command, "");
    if (strcmp(done->out, out) != 0)
        fail_msg("'%s' gave %d, '%s', '%s', not '%s'", command, done->exit_code, done->out,
                 done->err, out);
    done_free(done);
}

/* The warm ones, too: the next command gets the session's files from the bucket. */
static void kill_executions(void)
{
    cloud_control(cloud, "{\"killExecutions\":true}");
}

/* Whether the bucket holds anything of the session. */
static bool is_stored(const char *id)
{
    char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o?prefix=sessions%%2F%s%%2F", id);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 200);
    bool stored = cJSON_GetArraySize(cJSON_GetObjectItem(reply->json, "items")) > 0;
    reply_free(reply);
    free(path);
    return stored;
}

static void make_repository(void)
{
    char *script =
        textf("set -e; cd '%s'; git init -q -b main project; cd project; echo one >one.txt; "
              "git add .; git -c user.name=T -c user.email=t@example.com commit -qm first; "
              "git clone -q --bare . '%s/project.git'",
              runner->shared, runner->shared);
    proc_shell(script);
    free(script);
}

static int set_up_all(void **state)
{
    int rc = set_up(state);
    char *allow = textf("file:%s", runner->shared);
    runner_set(runner, "GIT_ALLOW", allow);
    runner_set(runner, "SESSIONS_MAX", "3");
    free(allow);
    make_repository();
    runner_start(runner);
    return rc;
}

/* What a test that failed has left is not in the way of the next. */
static int clean(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"faults\":[]}");
    struct reply *reply = call("GET", "/sessions", NULL);
    const cJSON *at;
    cJSON_ArrayForEach(at, cJSON_GetObjectItem(reply->json, "sessions")) drop(json_text(at, "id"));
    reply_free(reply);
    return 0;
}

/* ---- beginnings ---- */

static void a_session_begins_with_a_repository_and_inputs(void **state)
{
    (void)state;
    struct tar tar = {0};
    tar_add(&tar, "file", '0', "given\n");
    tar_end(&tar);
    char *input = input_upload(runner, tar.data, tar.size);
    char *more = textf(",\"repoUrl\":\"file://%s/project.git\",\"inputs\":{\"data\":\"%s\"},"
                       "\"env\":{\"A\":\"a b\"},\"limits\":{\"pids\":200,\"diskMb\":500},"
                       "\"metadata\":{\"k\":1}",
                       runner->shared, input);
    make("b", more);
    prints("b",
           "git log --format=%s; git status --short one.txt; cat one.txt; echo $A; cat input/data",
           "first\none\na b\ngiven\n");
    prints("b",
           "echo two >one.txt; git -c user.name=T -c user.email=t@example.com commit -qam 2; "
           "git fsck && git log --format=%s",
           "2\nfirst\n");
    answers("GET", "/sessions/b", NULL, 200, "\"metadata\":{\"k\":1}");
    answers("GET", "/sessions", NULL, 200, "\"executor\":\"cloud\"");
    answers("POST", "/sessions", "{\"executor\":\"cloud\",\"limits\":{\"diskMb\":0.5}}", 400,
            "\"field\":\"limits.diskMb\"");
    drop("b");
    free(more);
    free(input);
    free(tar.data);
}

/* What a listing says of a tree that has been everywhere: types, modes, targets, contents. */
#define TREE                                                                                  \
    "cd /workspace && find . -mindepth 1 ! -path './list*' -printf '%y %m %l %P\\n' | sort; " \
    "cat $'a\\nb' hard one/two/three/four </dev/null | od -An -c; ls one/locked | wc -l"

static char *tree_of(const char *id)
{
    struct done *done = session_run(runner, id, TREE, "");
    char *text = strdup(done->out);
    if (!*text)
        fail_msg("'%s' lists nothing: '%s'", id, done->err);
    done_free(done);
    return text;
}

static void snapshot(const char *id, const char *as)
{
    char *path = textf("/sessions/%s/snapshot", id), *body = textf("{\"id\":\"%s\"}", as);
    answers("POST", path, body, 201, "\"state\":\"ready\"");
    free(body);
    free(path);
}

static void every_kind_of_file_travels_and_snapshots_go_both_ways(void **state)
{
    (void)state;
    make("t", "");
    prints(
        "t",
        "mkdir -p one/two/three empty 'sp ace' gone/deep one/locked; echo x >one/two/three/four; "
        "printf '\\0\\377' >$'a\\nb'; ln a* hard; ln -s nowhere dangling; ln -s / root; "
        "echo r >ro; chmod 400 ro; echo u >u; chmod 4755 u; touch gone/deep/f; mkdir swap; "
        "touch swap/inside; mkfifo fifo; echo s >secret; chmod 000 secret; "
        "touch one/locked/f; chmod 555 one/locked; chmod 700 empty; echo ok",
        "ok\n");
    answers("GET", "/sessions/t/files/swap/inside", NULL, 200, "");
    prints("t",
           "rm -r gone fifo swap; echo file >swap; rm hard; mkdir hard2; echo h >hard; echo ok",
           "ok\n");
    answers("GET", "/sessions/t/files/swap", NULL, 200, "file");
    answers("GET", "/sessions/t/files/gone/deep/f", NULL, 404, "");
    answers("GET", "/sessions/t/files?path=empty", NULL, 200, "\"entries\":[]");
    snapshot("t", "snap");
    drop("t");
    answers("POST", "/sessions", "{\"id\":\"home\",\"executor\":\"local\",\"from\":\"snap\"}", 201,
            "");
    make("away", ",\"from\":\"snap\"");
    char *home = tree_of("home"), *away = tree_of("away");
    assert_string_equal(home, away);
    if (strstr(home, "gone") || !strstr(home, "f 644  swap\n") || !strstr(home, "d 700  empty\n") ||
        !strstr(home, "f 0  secret\n") || !strstr(home, "l 777 nowhere dangling\n") ||
        !strstr(home, "d 555  one/locked\n"))
        fail_msg("it has: %s", home);
    free(home);
    free(away);
    drop("home");
    drop("away");
    answers("DELETE", "/snapshots/snap", NULL, 200, "");
}

static void an_overlay_does_not_go_into_the_bucket_by_half(void **state)
{
    (void)state;
    char *body = textf("{\"id\":\"l\",\"repoUrl\":\"file://%s/project.git\",\"layered\":true}",
                       runner->shared);
    struct reply *reply = call("POST", "/sessions", body);
    free(body);
    assert_status(reply, 201);
    reply_free(reply);
    snapshot("l", "half");
    reply = call("GET", "/snapshots/half", NULL);
    bool layered = strstr(reply->body, "\"changes\"") != NULL;
    reply_free(reply);
    if (layered) {
        answers("POST", "/sessions", "{\"id\":\"x\",\"executor\":\"cloud\",\"from\":\"half\"}", 409,
                "layered");
        answers("GET", "/sessions/x", NULL, 404, "");
        assert_false(is_stored("x"));
    }
    drop("l");
    answers("DELETE", "/snapshots/half", NULL, 200, "");
    if (!layered)
        SKIP_BECAUSE("this host has no overlays");
}

static void archives_go_both_ways(void **state)
{
    (void)state;
    struct tar tar = {0}, bad = {0};
    make("z", "");
    tar_add(&tar, "top/", '5', "");
    tar_add(&tar, "top/file", '0', "content\n");
    tar_end(&tar);
    struct reply *reply =
        session_send(runner, "PUT", "/sessions/z/archive?path=up", tar.data, tar.size);
    assert_status(reply, 200);
    reply_free(reply);
    prints("z", "cat up/top/file; echo more >>up/top/file", "content\n");
    reply = call("GET", "/sessions/z/archive?path=up", NULL);
    assert_status(reply, 200);
    struct reply *back = session_send(runner, "PUT", "/sessions/z/archive?path=again", reply->body,
                                      reply->body_size);
    assert_status(back, 200);
    reply_free(back);
    reply_free(reply);
    tar_add(&bad, "kept", '0', "k");
    tar_add(&bad, "../out", '0', "x");
    tar_end(&bad);
    reply = session_send(runner, "PUT", "/sessions/z/archive?path=bad", bad.data, bad.size);
    assert_true(reply->status >= 400 && reply->status < 500);
    reply_free(reply);
    prints("z", "cat again/top/file; ls -A", "content\nmore\nagain\nup\n");
    drop("z");
    free(tar.data);
    free(bad.data);
}

/* ---- much ---- */

/* How many layers of the session the bucket holds. */
static int layers_of(const char *id)
{
    char *path =
        textf("/storage/v1/b/" CLOUD_BUCKET "/o?prefix=sessions%%2F%s%%2Fworkspace%%2F", id);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    assert_status(reply, 200);
    int count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(reply->json, "items"))
    {
        const char *name = json_text(item, "name");
        count += strcmp(name + strlen(name) - 4, ".tgz") == 0;
    }
    reply_free(reply);
    free(path);
    return count;
}

/* Layers that outweigh the first, beyond what is never counted, become one; every execution finds
 * the same files. */
static void big_files_travel_in_layers_that_become_one(void **state)
{
    (void)state;
    static const char sum[] = "cat big/* | sha256sum | cut -c1-16; ls big | wc -l";
    int layers = 0, most = 0;
    make("big", "");
    prints("big", "mkdir big; head -c 3000000 /dev/urandom >big/0", "");
    for (int i = 1; i <= 3; i++) { /* 6 MB more each time, and one file that goes */
        char *grow = textf("head -c 6000000 /dev/urandom >big/%d; echo %d >now; rm -f gone; "
                           "head -c 70000 /dev/zero >gone",
                           i, i);
        prints("big", grow, "");
        free(grow);
        struct done *before = session_run(runner, "big", sum, "");
        kill_executions();
        prints("big", sum, before->out);
        done_free(before);
        layers = layers_of("big");
        most = layers > most ? layers : most;
    }
    assert_true(most >= 2);
    assert_true(layers < 4);
    prints("big", "cat now; ls -A; stat -c %s gone", "3\nbig\ngone\nnow\n70000\n");
    drop("big");
    assert_false(is_stored("big"));
}

/* They are more than the state's object may hold, and more than a program may be started with. */
static void variables_of_many_megabytes_come_back(void **state)
{
    (void)state;
    make("vars", "");
    prints("vars", "export KEPT=1; printf -v MUCH %9000000s x; export MUCH; cd /tmp", "");
    kill_executions();
    prints("vars", "echo ${#MUCH} ${MUCH: -1} $KEPT $PWD", "9000000 x 1 /tmp\n");
    drop("vars");
}

/* ---- commands ---- */

static void output_streams_and_whoever_goes_away_ends_it(void **state)
{
    (void)state;
    make("s", "");
    struct stream *stream = stream_open(
        runner->base, "POST", "/sessions/s/exec", RUNNER_AUTH "Accept: text/event-stream\r\n",
        "{\"command\":\"echo out; echo err >&2; exit 3\",\"shell\":\"one\"}");
    stream_until_end(stream, (int)(END_MS * slowness()));
    assert_int_equal(stream_count(stream, "event: stdout\ndata: {\"text\":\"out\\n\"}"), 1);
    assert_int_equal(stream_count(stream, "event: stderr\ndata: {\"text\":\"err\\n\"}"), 1);
    assert_int_equal(stream_count(stream, "event: done"), 1);
    assert_int_equal(stream_count(stream, "\"exit_code\":3"), 1);
    stream_free(stream);
    stream = stream_open(runner->base, "POST", "/sessions/s/exec",
                         RUNNER_AUTH "Accept: text/event-stream\r\n",
                         "{\"command\":\"echo never >kept; echo begun; sleep 600\","
                         "\"timeout\":1000}");
    stream_until(stream, "begun", (int)(END_MS * slowness()));
    stream_free(stream); /* the caller goes away */
    struct reply *reply =
        call("POST", "/sessions/s/exec", "{\"command\":\"ls; echo $A\",\"wait\":600}");
    assert_status(reply, 200);
    assert_json_text(reply->json, "stdout", "\n");
    reply_free(reply);
    struct done *done = session_run(runner, "s", "export A=1; cd /tmp", "\"shell\":\"two\"");
    done_free(done);
    prints("s", "echo [$A]; pwd", "[]\n/workspace\n");
    done = session_run(runner, "s", "echo $A; pwd; yes | head -c 20000000", "\"shell\":\"two\"");
    assert_true(done->truncated);
    assert_true(strncmp(done->out, "1\n/tmp\ny\n", 9) == 0);
    done_free(done);
    answers("GET", "/sessions/s", NULL, 200, "\"name\":\"two\",\"cwd\":\"/tmp\"");
    answers("POST", "/sessions/s/exec", "{\"command\":\"true\",\"shell\":\"../x\"}", 400,
            "\"field\":\"shell\"");
    drop("s");
}

/* ---- ends ---- */

/* Sets a time of the record of a session, of a runner that does not run, far back. */
static void set_back(const char *id, const char *member)
{
    char *path = textf("%s/sessions/%s/session.json", runner->state, id);
    char *text = read_file(path, NULL);
    cJSON *record = cJSON_Parse(text);
    assert_true(cJSON_HasObjectItem(record, member));
    cJSON_ReplaceItemInObject(record, member, cJSON_CreateNumber(1000));
    char *changed = cJSON_PrintUnformatted(record);
    write_file(path, changed, 0600);
    free(changed);
    cJSON_Delete(record);
    free(text);
    free(path);
}

static bool is_there(const char *id)
{
    char *path = textf("/sessions/%s", id);
    struct reply *reply = runner_get(runner, path);
    bool there_is = reply->status == 200;
    reply_free(reply);
    free(path);
    return there_is;
}

static void quota_and_time_end_them_and_the_bucket_is_swept(void **state)
{
    (void)state;
    make("old", ",\"ttlMinutes\":5");
    make("idle", ",\"idleMinutes\":5");
    make("stays", ",\"ttlMinutes\":5,\"idleMinutes\":5");
    struct reply *reply = call("POST", "/sessions", "{\"id\":\"fourth\",\"executor\":\"cloud\"}");
    assert_status(reply, 429);
    reply_free(reply);
    assert_false(is_stored("fourth"));
    assert_true(is_stored("old") && is_stored("idle") && is_stored("stays"));
    runner_stop(runner, (int)(20000 * slowness()));
    set_back("old", "createdMs");
    set_back("idle", "usedMs");
    runner_start(runner);
    EVENTUALLY(60000, !is_there("old") && !is_there("idle"));
    EVENTUALLY(60000, !is_stored("old") && !is_stored("idle"));
    assert_true(is_there("stays") && is_stored("stays"));
    prints("stays", "echo on", "on\n");
    drop("stays");
    EVENTUALLY(60000, !is_stored("stays"));
}

/* ---- troubles ---- */

static void a_bucket_that_fails_or_is_slow_loses_nothing(void **state)
{
    (void)state;
    make("f", "");
    prints("f", "echo one >kept", "");
    static const char *const passing[] = {
        "{\"faults\":[{\"method\":\"storage.objects.insert\"," STATE ",\"status\":503}]}",
        "{\"faults\":[{\"method\":\"storage.objects.get\"," STATE ",\"delayMs\":500}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\"," STATE ",\"cut\":\"after\"}]}"};
    for (size_t i = 0; i < COUNT(passing); i++) {
        cloud_control(cloud, passing[i]);
        if (i != 1) /* by the execution */
            prints("f", "echo there >>kept; tail -1 kept", "there\n");
        cloud_control(cloud, passing[i]);
        answers("PUT", "/sessions/f/files/kept?append=true", "home\n", 200, ""); /* from home */
    }
    cloud_control(cloud, "{\"faults\":[]}");
    prints("f", "cat kept; ls", "one\nthere\nhome\nhome\nthere\nhome\nkept\n");
    cloud_control(cloud, "{\"killExecutions\":true}"); /* with the warm one */
    prints("f", "tail -1 kept", "home\n");
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.get\"," STATE
                         ",\"status\":403,\"times\":1000}]}");
    struct reply *reply = call("PUT", "/sessions/f/files/kept", "lost");
    assert_status(reply, 502); /* and not 403: the caller has done nothing wrong */
    reply_free(reply);
    cloud_control(cloud, "{\"faults\":[]}");
    answers("GET", "/sessions/f/files/kept", NULL, 200, "one\n");
    drop("f");
}

static void two_homes_do_not_share_a_name_and_one_without_a_cloud_says_so(void **state)
{
    (void)state;
    make("n", "");
    prints("n", "echo mine >kept", "");
    struct runner *other = runner_new();
    cloud_use(cloud, other);
    runner_start(other);
    for (int i = 0; i < 2; i++) {
        if (i == 1) /* it does not see it at first, and meets it when it stores its own */
            cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.get\"," STATE
                                 ",\"status\":404}]}");
        struct reply *reply =
            runner_post(other, "/sessions", "{\"id\":\"n\",\"executor\":\"cloud\"}");
        assert_status(reply, 409);
        if (!strstr(reply->body, "the bucket holds a session 'n'"))
            fail_msg("it says: %s", reply->body);
        reply_free(reply);
    }
    cloud_control(cloud, "{\"faults\":[]}");
    prints("n", "cat kept", "mine\n"); /* what the other did about it harmed nothing */
    runner_free(other);
    drop("n");
    other = runner_new();
    runner_start(other);
    struct reply *reply = runner_post(other, "/sessions", "{\"executor\":\"cloud\"}");
    assert_status(reply, 400);
    assert_json_text(reply->json, "errors.0.field", "executor");
    if (!strstr(reply->body, "Google Cloud is not configured"))
        fail_msg("it says: %s", reply->body);
    reply_free(reply);
    runner_free(other);
}

#define TEST(name) cmocka_unit_test_teardown(name, clean)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_begins_with_a_repository_and_inputs),
        TEST(every_kind_of_file_travels_and_snapshots_go_both_ways),
        TEST(an_overlay_does_not_go_into_the_bucket_by_half),
        TEST(archives_go_both_ways),
        TEST(big_files_travel_in_layers_that_become_one),
        TEST(variables_of_many_megabytes_come_back),
        TEST(output_streams_and_whoever_goes_away_ends_it),
        TEST(quota_and_time_end_them_and_the_bucket_is_swept),
        TEST(a_bucket_that_fails_or_is_slow_loses_nothing),
        TEST(two_homes_do_not_share_a_name_and_one_without_a_cloud_says_so),
    };
    return cmocka_run_group_tests_name("session_cloud_life", tests, set_up_all, tear_down);
}
