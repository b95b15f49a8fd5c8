/*
 * The client straight to Cloud Run, with no runner at home: the stand-in for Google's APIs starts
 * the real job worker for each execution.
 */
#include "overflow_scene.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static char *dir; /* of one test */

static int begin(void **state)
{
    dir = tmp_dir_new();
    return set_up(state);
}

static int end(void **state)
{
    tmp_dir_free(dir);
    return tear_down(state);
}

/* Starts the client with the variables of Google, and none of a runner's. */
static pid_t start(const char *const args[])
{
    char *argv[24] = {(char[]){TEST_RUNNER}}, *env[RUNNER_ENV_MAX + 3];
    size_t count = 0;
    for (size_t i = 0; args[i]; i++)
        argv[1 + i] = (char *)(uintptr_t)args[i];
    for (size_t i = 0; runner->env[i]; i++)
        if (strncmp(runner->env[i], "RUNNER_", 7) != 0)
            env[count++] = runner->env[i];
    char *tmp = textf("TMPDIR=%s", dir), *out = textf("%s/stdout", dir),
         *err = textf("%s/stderr", dir);
    env[count++] = tmp;
    env[count] = NULL;
    unlink(out);
    unlink(err);
    pid_t pid = proc_start(argv, env, out, err);
    free(tmp);
    free(out);
    free(err);
    return pid;
}

static char *text_of(const char *name)
{
    char *path = textf("%s/%s", dir, name), *text = read_file(path, NULL);
    free(path);
    return text ? text : strdup("");
}

static bool says(const char *name, const char *text)
{
    char *all = text_of(name);
    bool found = strstr(all, text) != NULL;
    free(all);
    return found;
}

static void expect(const char *const args[], int status, const char *out, const char *err)
{
    int got = -1;
    assert_true(proc_wait(start(args), SLOW_MS, &got));
    char *said = text_of("stdout"), *told = text_of("stderr");
    if (got != status || (out && strcmp(said, out) != 0) || (err && !strstr(told, err)))
        fail_msg("%s: status %d\nstdout: %s\nstderr: %s", args[0], got, said, told);
    free(said);
    free(told);
}

static void write_tasks(const char *text)
{
    char *path = textf("%s/tasks.jsonl", dir);
    write_file(path, text, 0600);
    free(path);
}

/* The line of a task; cJSON_Delete() it. */
static cJSON *result_of_run(const char *id, int run)
{
    cJSON *found = NULL;
    char *text = text_of("out/results.jsonl"), *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cJSON *json = cJSON_Parse(line);
        assert_non_null(json);
        if (strcmp(json_text(json, "id"), id) != 0 || json_number(json, "run") != run) {
            cJSON_Delete(json);
            continue;
        }
        assert_null(found); /* one line a run */
        found = json;
    }
    free(text);
    assert_non_null(found);
    return found;
}

static cJSON *result_of(const char *id)
{
    return result_of_run(id, 0);
}

static void a_command_in_the_cloud_is_as_one_at_home(void **state)
{
    (void)state;
    expect(ARGS("exec", "--cloud", "--", "echo out; echo err >&2; exit 3"), 3, "out\n", "err\n");
    assert_int_equal(executions(), 1);
    char *command =
        textf("ls -d '%s'/claude-runner-cloud-* >/dev/null 2>&1 && exit 1 || exit 0", dir);
    proc_shell(command); /* nothing is left behind */
    free(command);
}

static void a_batch_has_the_results_of_any_other(void **state)
{
    (void)state;
    char *tasks = textf("%s/tasks.jsonl", dir), *out = textf("%s/out", dir);
    write_tasks("{\"id\":\"p\",\"prompt\":\"standin: ok hello\"}\n"
                "{\"id\":\"c\",\"command\":\"echo said; echo bad >&2; mkdir -p output && echo kept "
                ">output/file; exit 4\"}\n"
                "{\"id\":\"l\",\"command\":\"true\",\"egress\":\"none\"}\n");
    expect(ARGS("batch", tasks, "--cloud", "--out", out, "-q"), 1, NULL, NULL);
    cJSON *p = result_of("p"), *c = result_of("c"), *l = result_of("l");
    assert_true(cJSON_IsTrue(json_at(p, "success")));
    assert_json_text(p, "response", "hello");
    assert_true(json_number(p, "cloud_cost_usd") > 0);
    assert_true(json_number(p, "cost_usd") > 0);
    assert_json_number(c, "returncode", 4);
    assert_json_text(c, "response", "said\n");
    assert_json_text(c, "stderr", "bad\n");
    assert_non_null(strstr(json_text(l, "error"), "egress")); /* refused, not run at home */
    assert_int_equal(executions(), 2);
    char *left = textf("%s/.cloud", out);
    assert_int_not_equal(access(left, F_OK), 0);
    free(left);
    cJSON_Delete(p);
    cJSON_Delete(c);
    cJSON_Delete(l);
    free(tasks);
    free(out);
}

static void killed_and_resumed_nothing_runs_twice(void **state)
{
    (void)state;
    int status = -1;
    char *tasks = textf("%s/tasks.jsonl", dir), *out = textf("%s/out", dir);
    write_tasks("{\"id\":\"a\",\"command\":\"sleep 3; echo a\"}\n"
                "{\"id\":\"b\",\"command\":\"sleep 3; echo b\"}\n");
    pid_t pid = start(ARGS("batch", tasks, "--cloud", "--out", out, "-q"));
    EVENTUALLY(END_MS, runs() >= 1);
    kill(pid, SIGKILL);
    assert_true(proc_wait(pid, END_MS, &status));
    expect(ARGS("batch", tasks, "--cloud", "--out", out, "--resume", "-q"), 0, NULL, NULL);
    cJSON *a = result_of("a"), *b = result_of("b");
    assert_json_text(a, "response", "a\n");
    assert_json_text(b, "response", "b\n");
    assert_int_equal(executions(), 2);
    cJSON_Delete(a);
    cJSON_Delete(b);
    free(tasks);
    free(out);
}

/* Where the client's own runner has its state, for results that go to `out`; it is made. */
static char *make_state_of(const char *out)
{
    char *file = textf("%s/state", dir);
    char *command = textf(
        "mkdir -p '%s' && real=$(realpath '%s') && if [ \"$(id -u)\" = 0 ]; then "
        "state=/var/tmp/claude-runner-cloud-$(printf %%s \"$real\" | sha256sum | cut -c1-24);"
        "else state=$real/.cloud; fi && mkdir -m 711 \"$state\" && printf %%s \"$state\" >'%s'",
        out, out, file);
    proc_shell(command);
    free(command);
    free(file);
    return text_of("state");
}

/* The runner of a client that was killed holds its lock until the kernel has ended it. */
static void a_runner_that_still_ends_is_waited_for(void **state)
{
    (void)state;
    int status = -1;
    char *tasks = textf("%s/tasks.jsonl", dir), *out = textf("%s/out", dir),
         *place = make_state_of(out), *path = textf("%s/lock", place);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0);
    write_tasks("{\"id\":\"a\",\"command\":\"echo a\"}\n");
    pid_t pid = start(ARGS("batch", tasks, "--cloud", "--out", out, "-q"));
    EVENTUALLY(END_MS, says("stderr", "waiting for the runner of the client before"));
    close(lock);
    assert_true(proc_wait(pid, SLOW_MS, &status));
    assert_int_equal(status, 0);
    cJSON *a = result_of("a");
    assert_json_text(a, "response", "a\n");
    cJSON_Delete(a);
    free(path);
    free(place);
    free(out);
    free(tasks);
}

/* All items of a list, page by page; cJSON_Delete() it. */
static cJSON *list_all(const char *path, const char *member)
{
    cJSON *all = cJSON_CreateArray(), *item;
    char token[300] = "";
    do {
        char *page = textf("%s%s%s", path, *token ? "&pageToken=" : "", token);
        struct reply *reply = cloud_call(cloud, "GET", page, NULL);
        assert_status(reply, 200);
        while ((item = cJSON_DetachItemFromArray(cJSON_GetObjectItem(reply->json, member), 0)))
            cJSON_AddItemToArray(all, item);
        snprintf(token, sizeof token, "%s", json_text(reply->json, "nextPageToken"));
        reply_free(reply);
        free(page);
    } while (*token);
    return all;
}

static cJSON *objects(const char *prefix)
{
    char *path = textf("/storage/v1/b/" CLOUD_BUCKET "/o?prefix=%s", prefix);
    cJSON *all = list_all(path, "items");
    free(path);
    return all;
}

static size_t objects_below(const char *prefix)
{
    cJSON *all = objects(prefix);
    size_t count = (size_t)cJSON_GetArraySize(all);
    cJSON_Delete(all);
    return count;
}

static void inputs_are_cached_in_the_bucket_and_outputs_leave_it(void **state)
{
    (void)state;
    char *tasks = textf("%s/tasks.jsonl", dir), *out = textf("%s/out", dir),
         *file = textf("%s/notes", dir), *json;
    write_file(file, "what it says\n", 0644);
    json = textf("{\"id\":\"a\",\"command\":\"cat input/notes; cp input/notes output/copy\","
                 "\"inputs\":{\"notes\":\"%s\"},\"n\":2}\n",
                 file);
    write_tasks(json);
    expect(ARGS("batch", tasks, "--cloud", "--out", out, "-q"), 0, NULL, NULL);
    char *copy = text_of("out/a/1/outputs/copy"), *said = text_of("out/a/0/stdout.txt");
    assert_string_equal(copy, "what it says\n");
    assert_string_equal(said, "what it says\n");
    assert_int_equal(objects_below("inputs%2F"), 1);
    cJSON *left = objects("sessions%2F"), *object;
    cJSON_ArrayForEach(object, left) assert_null(strstr(json_text(object, "name"), "outputs/copy"));
    cJSON_Delete(left);
    free(copy);
    free(said);
    free(json);
    free(file);
    free(tasks);
    free(out);
}

/* The jobs that were made for images and sizes. */
static cJSON *made_jobs(void)
{
    cJSON *jobs = list_all("/v2/" CLOUD_LOCATION "/jobs?pageSize=100", "jobs"), *job;
    for (int i = cJSON_GetArraySize(jobs) - 1; i >= 0; i--) {
        job = cJSON_GetArrayItem(jobs, i);
        if (strcmp(json_text(job, "name"), CLOUD_JOB_NAME) == 0)
            cJSON_DeleteItemFromArray(jobs, i);
    }
    return jobs;
}

static void each_image_and_size_has_a_job_that_is_used_again(void **state)
{
    (void)state;
    char *tasks = textf("%s/tasks.jsonl", dir), *out = textf("%s/out", dir);
    write_tasks("{\"id\":\"a\",\"command\":\"echo a\",\"image\":\"alpine:3\",\"cpu\":2,"
                "\"memory\":\"8Gi\",\"n\":2}\n"
                "{\"id\":\"b\",\"command\":\"echo b\",\"cpu\":\"4\",\"memory\":\"2Gi\"}\n"
                "{\"id\":\"c\",\"command\":\"echo c\",\"memory\":\"33Gi\"}\n");
    expect(ARGS("batch", tasks, "--cloud", "--out", out, "-q", "-p", "1"), 1, NULL, NULL);
    cJSON *a = result_of_run("a", 1), *b = result_of("b"), *c = result_of("c"), *jobs = made_jobs();
    assert_json_text(a, "response", "a\n");
    assert_json_text(b, "response", "b\n");
    assert_non_null(strstr(json_text(c, "error"), "32768"));
    assert_int_equal(cJSON_GetArraySize(jobs), 2);
    const char *made = "template.template.containers.0.resources.limits.cpu";
    int foreign = strcmp(json_text(cJSON_GetArrayItem(jobs, 0), made), "2") == 0 ? 0 : 1;
    cJSON *job = cJSON_GetArrayItem(jobs, foreign), *sized = cJSON_GetArrayItem(jobs, 1 - foreign);
    assert_json_text(job, "template.template.containers.0.image", "alpine:3");
    assert_json_text(job, "template.template.containers.0.resources.limits.memory", "8192Mi");
    assert_json_text(job, "template.template.containers.0.command.1", "/claude-runner/start");
    assert_json_text(job, "template.template.volumes.0.gcs.bucket", CLOUD_BUCKET);
    assert_json_text(sized, made, "4");
    assert_null(json_at(sized, "template.template.volumes"));
    assert_true(objects_below("worker%2F") > 5);
    cJSON_Delete(a);
    cJSON_Delete(b);
    cJSON_Delete(c);
    cJSON_Delete(jobs);
    free(tasks);
    free(out);
}

static void define_job(const char *id, const char *base, const char *made)
{
    char *path = textf("/v2/" CLOUD_LOCATION "/jobs?jobId=%s", id);
    char *body = textf("{\"labels\":{\"claude-runner-base\":\"%s\"},\"annotations\":{"
                       "\"standin/created\":\"%s\"},\"template\":{\"template\":{\"containers\":["
                       "{\"image\":\"alpine:3\"}]}}}",
                       base, made);
    struct reply *reply = cloud_call(cloud, "POST", path, body);
    assert_status(reply, 200);
    reply_free(reply);
    free(body);
    free(path);
}

static bool job_is_there(const char *id)
{
    char *path = textf("/v2/" CLOUD_LOCATION "/jobs/%s", id);
    struct reply *reply = cloud_call(cloud, "GET", path, NULL);
    bool found = reply->status == 200;
    reply_free(reply);
    free(path);
    return found;
}

/* Made for an image or a size by an earlier task, and not used for long: whoever makes the next one
 * deletes it. */
static void jobs_that_nobody_uses_go(void **state)
{
    (void)state;
    define_job("old", CLOUD_JOB, "2024-01-01T00:00:00Z");
    define_job("others", "another-job", "2024-01-01T00:00:00Z");
    define_job("young", CLOUD_JOB, "2999-01-01T00:00:00Z");
    char *tasks = textf("%s/tasks.jsonl", dir), *out = textf("%s/out", dir);
    write_tasks("{\"id\":\"a\",\"command\":\"echo two\",\"cpu\":2}\n");
    expect(ARGS("batch", tasks, "--cloud", "--out", out, "-q"), 0, NULL, NULL);
    EVENTUALLY(END_MS, !job_is_there("old"));
    assert_true(job_is_there("others"));
    assert_true(job_is_there("young"));
    free(tasks);
    free(out);
}

/* A '/' is a part of an object's name. */
static char *escape_path(const char *name)
{
    char *escaped = calloc(3 * strlen(name) + 1, 1), *to = escaped;
    for (; *name; name++)
        if (*name == '/') {
            memcpy(to, "%2F", 3);
            to += 3;
        } else if (*name == '+') {
            memcpy(to, "%2B", 3);
            to += 3;
        } else {
            *to++ = *name;
        }
    return escaped;
}

/* Downloads worker/…/X to root/claude-runner/X. */
static void lay_out_bucket(const char *root)
{
    cJSON *kit = objects("worker%2F");
    const cJSON *item;
    cJSON_ArrayForEach(item, kit)
    {
        const char *name = json_text(item, "name"), *rest = strchr(name + 7, '/') + 1;
        char *escaped = escape_path(name);
        char *script = textf(
            "mkdir -p '%s/claude-runner/lib' && curl -fsS -H 'Authorization: Bearer " CLOUD_TOKEN
            "' -o '%s/claude-runner/%s' "
            "'%s/storage/v1/b/" CLOUD_BUCKET "/o/%s?alt=media' && "
            "chmod 555 '%s/claude-runner/%s'",
            root, root, rest, cloud->base, escaped, root, rest);
        proc_shell(script);
        free(script);
        free(escaped);
    }
    cJSON_Delete(kit);
}

/* What lies in the bucket runs in a file system that has a shell and nothing else: no C library of
 * its own. */
static void the_worker_travels_into_a_foreign_image(void **state)
{
    (void)state;
    if (geteuid() != 0 || access("/usr/bin/busybox", X_OK) != 0)
        SKIP_BECAUSE("needs root and busybox");
    expect(ARGS("exec", "--cloud", "--image", "alpine:3", "--", "echo there"), 0, "there\n", NULL);
    char *root = textf("%s/root", dir);
    lay_out_bucket(root);
    char *script =
        textf("mkdir -p '%s/bin' '%s/proc' '%s/tmp' && cp /usr/bin/busybox '%s/bin/sh' && "
              "/usr/sbin/chroot '%s' /bin/sh /claude-runner/start --help >'%s/help' && "
              "grep -q 'claude-runner job' '%s/help'",
              root, root, root, root, root, dir, dir);
    proc_shell(script);
    free(script);
    free(root);
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    runner_set(runner, "GCS_LOGS_BUCKET", NULL);
    expect(ARGS("exec", "--cloud", "--", "true"), 2, "", "--cloud needs GCS_LOGS_BUCKET in");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_command_in_the_cloud_is_as_one_at_home, begin, end),
        cmocka_unit_test_setup_teardown(a_batch_has_the_results_of_any_other, begin, end),
        cmocka_unit_test_setup_teardown(killed_and_resumed_nothing_runs_twice, begin, end),
        cmocka_unit_test_setup_teardown(a_runner_that_still_ends_is_waited_for, begin, end),
        cmocka_unit_test_setup_teardown(inputs_are_cached_in_the_bucket_and_outputs_leave_it, begin,
                                        end),
        cmocka_unit_test_setup_teardown(each_image_and_size_has_a_job_that_is_used_again, begin,
                                        end),
        cmocka_unit_test_setup_teardown(jobs_that_nobody_uses_go, begin, end),
        cmocka_unit_test_setup_teardown(the_worker_travels_into_a_foreign_image, begin, end),
        cmocka_unit_test_setup_teardown(what_is_missing_is_named, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
