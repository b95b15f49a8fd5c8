/*
 * Cloud tasks from the execution's side: the stand-in for Google's APIs really starts
 * `claude-runner job`, with what Cloud Run gives it; what is sealed and started here is what the
 * runner at home would seal and start.
 */
#include "cloud.h"
#include "testing.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANARY "canary-5f2c9d7e41-secret"
#define OBJECTS "/storage/v1/b/" CLOUD_BUCKET "/o"
#define ID_MAX 80

enum { END_MS = 60000, NOT_OURS = 3 };

static struct api *api;       /* Anthropic's */
static struct cloud *cloud;   /* Google's */
static struct runner *runner; /* places and variables; it is never started */
static char task[ID_MAX];     /* the id of the one that was sent last */
static char execution[512];   /* the name of the one that was started last */

/* ---- the bucket ---- */

struct object {
    char *data;
    size_t size;
};

static char *object_path(const char *name)
{
    char *out = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&out, &size);
    fprintf(file, OBJECTS "/sessions%%2F%s%%2F", task);
    for (; *name; name++)
        *name == '/' ? fputs("%2F", file) : fputc(*name, file);
    fclose(file);
    return out;
}

/* What lies at sessions/TASK/NAME; data is NULL when nothing does. */
static struct object fetch(const char *name)
{
    struct object object = {0};
    char *path = object_path(name), *media = textf("%s?alt=media", path);
    struct reply *reply = cloud_call(cloud, "GET", media, NULL);
    if (reply->status == 200) {
        object.data = calloc(1, reply->body_size + 1);
        memcpy(object.data, reply->body, reply->body_size);
        object.size = reply->body_size;
    } else {
        assert_int_equal(reply->status, 404);
    }
    reply_free(reply);
    free(path);
    free(media);
    return object;
}

static bool is_there(const char *name)
{
    struct object object = fetch(name);
    free(object.data);
    return object.data != NULL;
}

static void put_object(const char *name, const char *text)
{
    char *path = textf("/upload" OBJECTS "?uploadType=media&name=sessions%%2F%s%%2F%s", task, name);
    struct reply *reply = cloud_call(cloud, "POST", path, text);
    assert_status(reply, 200);
    reply_free(reply);
    free(path);
}

/* All objects whose names begin so: an array of {name, size, …}. */
static cJSON *list(const char *prefix)
{
    cJSON *all = cJSON_CreateArray();
    char *token = strdup("");
    while (token) {
        char *path = textf(OBJECTS "?prefix=%s%s%s", prefix, *token ? "&pageToken=" : "", token);
        struct reply *reply = cloud_call(cloud, "GET", path, NULL);
        assert_status(reply, 200);
        cJSON *items = cJSON_GetObjectItem(reply->json, "items");
        while (cJSON_GetArraySize(items) > 0)
            cJSON_AddItemToArray(all, cJSON_DetachItemFromArray(items, 0));
        free(token);
        const char *next = json_text(reply->json, "nextPageToken");
        token = *next ? strdup(next) : NULL;
        reply_free(reply);
        free(path);
    }
    return all;
}

/* ---- sending and starting ---- */

/* Seals the request for the task `sealed_for` (NULL: itself) and puts it where `task` looks. */
static void send_sealed(const char *id, const char *attempt, const char *request,
                        const char *sealed_for)
{
    int status = -1;
    char *in = textf("%s/request", runner->dir), *log = textf("%s/seal.log", runner->dir);
    write_file(in, request, 0600);
    char *command = textf("exec '%s' '%s' %s %s <'%s'", TEST_SEAL, id, attempt,
                          sealed_for ? sealed_for : "", in);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, command, NULL};
    pid_t pid = proc_start(argv, runner->env, log, log);
    bool ended = proc_wait(pid, 20000, &status);
    char *said = read_file(log, NULL);
    if (!ended || status != 0)
        fail_msg("seal-payload: %s", said ? said : "");
    free(said);
    unlink(in);
    unlink(log);
    free(in);
    free(log);
    free(command);
    snprintf(task, sizeof task, "%s", id);
}

/* A task with this prompt and more fields, as its first attempt. */
static void send_task(const char *id, const char *prompt, const char *more)
{
    char *request = prompt_json(prompt, more);
    send_sealed(id, "1", request, NULL);
    free(request);
}

static void start(const char *attempt)
{
    char *body = textf("{\"overrides\":{\"containerOverrides\":[{\"env\":["
                       "{\"name\":\"TASK_ID\",\"value\":\"%s\"},"
                       "{\"name\":\"TASK_ATTEMPT\",\"value\":\"%s\"}]}]}}",
                       task, attempt);
    struct reply *reply = cloud_call(cloud, "POST", "/v2/" CLOUD_JOB_NAME ":run", body);
    assert_status(reply, 200);
    snprintf(execution, sizeof execution, "%s", json_text(reply->json, "metadata.name"));
    assert_string_not_equal(execution, "");
    reply_free(reply);
    free(body);
}

static char *execution_file(const char *name)
{
    return textf("%s/executions/%s/%s", cloud->state, strrchr(execution, '/') + 1, name);
}

/* What the supervisor of the execution knows of its only task. */
static cJSON *execution_state(void)
{
    char *path = execution_file("state.json"), *text = read_file(path, NULL);
    cJSON *state = text ? cJSON_Parse(text) : NULL;
    free(path);
    free(text);
    return state;
}

static bool has_ended(void)
{
    cJSON *state = execution_state();
    bool ended = state && json_number(state, "tasks.0.ended") > 0;
    cJSON_Delete(state);
    return ended;
}

static char *job_log(void)
{
    if (!*execution)
        return strdup("");
    char *path = execution_file("output"), *text = read_file(path, NULL);
    free(path);
    return text ? text : strdup("");
}

static pid_t job_pid(void)
{
    cJSON *state = execution_state();
    pid_t pid = state ? (pid_t)json_number(state, "tasks.0.pid") : 0;
    cJSON_Delete(state);
    return pid;
}

/* Waits for the execution's end: the job's exit status. */
static int await_end(int ms)
{
    int64_t end = now_ms() + (int64_t)ms * slowness();
    while (!has_ended() && now_ms() < end)
        poll_pause();
    if (!has_ended()) {
        char *log = job_log();
        fail_msg("the execution has not ended: %.3000s", log);
    }
    cJSON *state = execution_state();
    int code = (int)json_number(state, "tasks.0.code");
    cJSON_Delete(state);
    return code;
}

static void assert_exit(int code)
{
    int got = await_end(END_MS);
    if (got != code) {
        char *log = job_log();
        fail_msg("exit status %d instead of %d: %.4000s", got, code, log);
    }
}

static void assert_log_says(const char *text)
{
    char *log = job_log();
    if (!strstr(log, text))
        fail_msg("no '%s' in the log: %.3000s", text, log);
    free(log);
}

static cJSON *result(void)
{
    struct object object = fetch("result.json");
    assert_non_null(object.data);
    cJSON *json = cJSON_Parse(object.data);
    assert_non_null(json);
    free(object.data);
    return json;
}

static void assert_result(const char *state, const char *reason)
{
    cJSON *json = result();
    assert_json_text(json, "state", state);
    assert_json_text(json, "reason", reason);
    cJSON_Delete(json);
}

/* ---- events ---- */

/* The pieces in order, put together. Fails unless each begins where the one before it ended and is
 * no longer than it may be. */
static struct object joined(size_t *ret_pieces)
{
    struct object all = {0};
    char *prefix = textf("sessions/%s/events/", task);
    cJSON *pieces = list(prefix), *piece;
    FILE *file = open_memstream(&all.data, &all.size);
    *ret_pieces = (size_t)cJSON_GetArraySize(pieces);
    cJSON_ArrayForEach(piece, pieces)
    {
        fflush(file);
        const char *name = json_text(piece, "name") + strlen(prefix);
        assert_int_equal(strlen(name), 20);
        assert_int_equal(strtoll(name, NULL, 10), (long long)all.size);
        char *short_name = textf("events/%s", name);
        struct object part = fetch(short_name);
        assert_non_null(part.data);
        assert_true(part.size > 2 && memcmp(part.data + part.size - 2, "\n\n", 2) == 0);
        size_t events = text_count(part.data, "\n\n");
        assert_true(part.size <= 256u << 10 || events == 1);
        fwrite(part.data, 1, part.size, file);
        free(part.data);
        free(short_name);
    }
    fclose(file);
    cJSON_Delete(pieces);
    free(prefix);
    return all;
}

/* They are the events file of the job, byte for byte: every event's id is its offset, the first is
 * "task", the last is "done" (unless cut), and result.json knows how long it was. */
static size_t assert_events_whole(bool done)
{
    size_t pieces, count = 0;
    struct object all = joined(&pieces);
    cJSON *json = result();
    assert_int_equal(all.size, (size_t)json_number(json, "eventsBytes"));
    cJSON_Delete(json);
    const char *last = all.data;
    for (const char *at = all.data; at && *at; count++) {
        char *expected = textf("id: %zu\n", (size_t)(at - all.data));
        if (strncmp(at, expected, strlen(expected)) != 0)
            fail_msg("no '%s' at that place: %.100s", expected, at);
        free(expected);
        last = at;
        at = strstr(at, "\n\n");
        at = at ? at + 2 : NULL;
    }
    assert_non_null(strstr(all.data, "event: task\n"));
    if (done && !strstr(last, "event: done\n"))
        fail_msg("the last event is %.200s", last);
    free(all.data);
    return count;
}

/* ---- what must hold for every job ---- */

static void assert_no_trace(const char *text)
{
    cJSON *objects = list("sessions/"), *object;
    char own_task[ID_MAX];
    snprintf(own_task, sizeof own_task, "%s", task);
    cJSON_ArrayForEach(object, objects)
    {
        const char *name = json_text(object, "name") + strlen("sessions/");
        const char *slash = strchr(name, '/');
        assert_non_null(slash);
        snprintf(task, sizeof task, "%.*s", (int)(slash - name), name);
        struct object content = fetch(slash + 1);
        if (content.data && memmem(content.data, content.size, text, strlen(text)))
            fail_msg("'%s' is in %s", text, json_text(object, "name"));
        free(content.data);
    }
    snprintf(task, sizeof task, "%s", own_task);
    cJSON_Delete(objects);
    char *log = job_log();
    if (strstr(log, text))
        fail_msg("'%s' is in the log: %s", text, log);
    free(log);
}

static bool is_empty(const char *path)
{
    int entries = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        entries++;
    if (dir)
        closedir(dir);
    return entries <= 2;
}

/* ---- set-up ---- */

static int set_up(void **state)
{
    (void)state;
    const char *binary = getenv("CR_BINARY");
    api = api_new();
    runner = runner_new();
    cloud = cloud_new(binary ? binary : TEST_RUNNER, NULL);
    cloud_furnish(cloud, API_KEY "\n");
    cloud_use(cloud, runner);
    runner_set(runner, "ANTHROPIC_UPSTREAM", api->base);
    runner_set(runner, "GIT_ALLOW", "file:");
    assert_int_equal(mkdir(runner->state, 0711), 0);
    cloud_define_job(cloud, runner);
    return 0;
}

/* No job may leave anything on the machine, or a secret anywhere. */
static int tear_down(void **state)
{
    (void)state;
    if (*execution) {
        assert_no_trace(API_KEY);
        assert_no_trace(CANARY);
        char *log = job_log();
        if (strstr(log, "Sanitizer") || strstr(log, "runtime error:"))
            fail_msg("%s", log);
        free(log);
    }
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
    cloud_free(cloud);
    runner_free(runner);
    api_free(api);
    execution[0] = '\0';
    return 0;
}

/* ---- a task from its beginning to its end ---- */

static void a_task_leaves_its_events_its_outputs_and_its_result(void **state)
{
    (void)state;
    send_task("whole", "standin: touch made.txt",
              "\"metadata\":{\"a\":1},\"postExecutionActions\":"
              "{\"uploadFiles\":{\"globPatterns\":[\"*.txt\"]}}");
    start("1");
    assert_exit(0);
    cJSON *json = result();
    assert_json_text(json, "state", "completed");
    assert_json_number(json, "exitCode", 0);
    assert_json_number(json, "attempt", 1);
    assert_json_text(json, "outputs.0.path", "made.txt");
    assert_json_number(json, "outputs.0.sizeBytes", 1);
    assert_json_contains(json, "members", "\"num_turns\":1");
    assert_true(json_number(json, "endedMs") >= json_number(json, "startedMs"));
    cJSON_Delete(json);
    struct object output = fetch("outputs/made.txt");
    assert_string_equal(output.data, "x");
    free(output.data);
    assert_events_whole(true);
    assert_false(is_there("payload.enc"));
    assert_true(is_there("claim-1.json"));
    assert_true(is_there("heartbeat.json"));
    struct object metadata = fetch("metadata.json");
    assert_non_null(strstr(metadata.data, strrchr(execution, '/') + 1));
    free(metadata.data);
    assert_true(is_empty(runner->state));
}

static void log_lines_are_what_cloud_logging_reads(void **state)
{
    (void)state;
    send_task("logged", "hello", "");
    start("1");
    assert_exit(0);
    char *log = job_log(), *rest = log, *line;
    size_t lines = 0;
    while ((line = strsep(&rest, "\n"))) {
        if (!*line)
            continue;
        cJSON *json = cJSON_Parse(line);
        assert_json_has(json, "severity");
        assert_json_has(json, "message");
        assert_json_text(json, "task_id", "logged");
        cJSON_Delete(json);
        lines++;
    }
    assert_true(lines > 3);
    free(log);
}

/* The key from Secret Manager reaches Anthropic by the proxy; the CLI has never seen it. */
static void the_real_cli_works_with_the_key_from_secret_manager(void **state)
{
    (void)state;
    runner_use_real_cli(runner, api);
    cloud_define_job(cloud, runner);
    send_task("real", "Say hello.", "");
    start("1");
    assert_exit(0);
    assert_result("completed", "");
    assert_events_whole(true);
    cJSON *calls = api_log(api, "messages");
    assert_true(cJSON_GetArraySize(calls) > 0);
    cJSON_Delete(calls);
}

static void a_requests_own_key_is_used_and_the_secret_is_left_alone(void **state)
{
    (void)state;
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_JOB_ACCOUNT
                         "\",\"permissions\":[\"secretmanager.versions.access\"]}}");
    runner_use_real_cli(runner, api);
    cloud_define_job(cloud, runner);
    send_task("own-key", "Say hello.", "\"anthropicApiKey\":\"" API_KEY "\"");
    start("1");
    assert_exit(0);
    assert_result("completed", "");
    assert_int_equal(cloud_count(cloud, "secretmanager.projects.secrets.versions.access", NULL), 0);
}

static void a_task_is_somebody_else_and_knows_nothing_of_google(void **state)
{
    (void)state;
    send_task("who", "standin: env", "\"environmentSecrets\":{\"MINE\":\"" CANARY "\"}");
    start("1");
    assert_exit(0);
    cJSON *json = result();
    const char *said = json_text(json, "output");
    static const char *const unknown[] = {"GOOGLE_", "GCE_",   "GCS_",     "KMS_",
                                          "TASK_ID", "CLOUD_", "CLOUDRUN", "GCP_"};
    for (size_t i = 0; i < COUNT(unknown); i++)
        if (strstr(said, unknown[i]))
            fail_msg("'%s' is in its environment: %s", unknown[i], said);
    cJSON *seen = cJSON_Parse(said);
    assert_non_null(seen);
    if (geteuid() == 0)
        assert_true(json_number(seen, "uid") != 0);
    cJSON_Delete(seen);
    cJSON_Delete(json);
}

static void a_secret_that_a_task_prints_stays_out_of_the_bucket(void **state)
{
    (void)state;
    send_task("printed", "standin: secret MINE",
              "\"environmentSecrets\":{\"MINE\":\"" CANARY "\"},\"gitToken\":\"" CANARY "-2\"");
    assert_no_trace(CANARY); /* sealed */
    start("1");
    assert_exit(0);
    assert_result("completed", "");
    assert_no_trace(CANARY);
    assert_true(is_empty(runner->state));
}

/* Runs a shell script in the directory that tasks share with us; what it said. */
static char *shared_sh(const char *script)
{
    int status = -1;
    char *log = textf("%s/log.txt", runner->dir);
    char *text = textf("set -e; cd '%s'; export HOME=/nonexistent GIT_AUTHOR_NAME=a"
                       " GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b"
                       " GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory"
                       " GIT_CONFIG_VALUE_0='*'; %s",
                       runner->shared, script);
    char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, text, NULL};
    char *env[] = {(char[]){"PATH=/usr/local/bin:/usr/bin:/bin"}, NULL};
    bool ended = proc_wait(proc_start(argv, env, log, log), 20000, &status);
    char *said = read_file(log, NULL);
    if (!ended || status != 0)
        fail_msg("%s: %s", script, said ? said : "");
    free(log);
    free(text);
    return said;
}

/* A remote that the task may write to as well, with so many commits and two branches. */
static void make_remote(int commits)
{
    char *script =
        textf("git init -q --bare -b main --shared=0666 remote.git; git -C remote.git config"
              " receive.denyNonFastForwards false; git init -q -b main"
              " w; cd w; for i in $(seq %d); do echo $i >f; seq $i >n$i; git add .;"
              " git commit -qm c$i; done; git push -q ../remote.git main"
              " main:refs/heads/other; chmod -R a+rwX ../remote.git",
              commits);
    char *allow = textf("file:%s", runner->shared);
    free(shared_sh(script));
    runner_set(runner, "GIT_ALLOW", allow);
    cloud_define_job(cloud, runner);
    free(allow);
    free(script);
}

#define PUSH "\"postExecutionActions\":{\"git\":{\"commit\":true,\"push\":true}}"

/* A task that adds a file, commits and pushes; what became of it. */
static cJSON *run_in_remote(const char *id, const char *file, const char *more)
{
    char *prompt = textf("standin: touch %s", file);
    char *fields = textf("\"repoUrl\":\"file://%s/remote.git\"," PUSH "%s", runner->shared, more);
    send_task(id, prompt, fields);
    start("1");
    assert_exit(0);
    cJSON *json = result();
    assert_json_text(json, "state", "completed");
    assert_json_contains(json, "members", "\"pushed\":true");
    free(fields);
    free(prompt);
    return json;
}

static void a_repository_task_commits_and_pushes(void **state)
{
    (void)state;
    make_remote(1);
    cJSON_Delete(run_in_remote("repo", "new-file", ""));
    char *said = shared_sh("git --git-dir=remote.git show --stat main");
    assert_non_null(strstr(said, "new-file"));
    free(said);
}

/* What the commands before it have said. */
static void assert_events_say(const char *text)
{
    size_t pieces;
    struct object all = joined(&pieces);
    if (!strstr(all.data, text))
        fail_msg("no '%s' in %s", text, all.data);
    free(all.data);
}

#define SHALLOW_LOOK                                                                            \
    "git rev-parse --is-shallow-repository; git rev-list --count --all; git branch -r | xargs;" \
    " git status --porcelain; git fsck 2>/dev/null; cat f"

/* A cold worker has no mirror that a whole history would be good for: it gets what was asked for,
 * and what it makes of that gets home all the same. */
static void a_worker_gets_no_more_of_a_history_than_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *id, *more, *says;
    } cases[] = {
        {"two", "\"gitDepth\":2", "true\\n2\\norigin/HEAD -> origin/main origin/main\\n20\\n"},
        {"branch", "\"gitDepth\":1,\"gitBranch\":\"other\"", "true\\n1\\norigin/other\\n20\\n"},
        {"tag", "\"gitDepth\":3,\"gitRef\":\"v7\",\"gitBranch\":\"side\"", "true\\n3\\n\\n7\\n"},
        {"sha", "\"gitDepth\":1,\"gitRef\":\"@\",\"gitBranch\":\"main\"",
         "true\\n2\\norigin/HEAD -> origin/main origin/main\\n5\\n"},
        {"none", "\"gitBranch\":\"other\"",
         "false\\n20\\norigin/HEAD -> origin/main origin/main origin/other\\n20\\n"},
        {"whole", "\"gitDepth\":1000",
         "false\\n20\\norigin/HEAD -> origin/main origin/main\\n20\\n"},
    };
    make_remote(20);
    free(shared_sh("cd w; git tag v7 HEAD~13; git push -q ../remote.git v7"));
    char *sha = shared_sh("git -C w rev-parse HEAD~15");
    sha[40] = '\0';
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *hole = strchr(cases[i].more, '@');
        char *more =
            textf("\"preExecutionCommands\":[\"" SHALLOW_LOOK "\"],"
                  "\"repoUrl\":\"file://%s/remote.git\",%.*s%s%s",
                  runner->shared, hole ? (int)(hole - cases[i].more) : (int)strlen(cases[i].more),
                  cases[i].more, hole ? sha : "", hole ? hole + 1 : "");
        send_task(cases[i].id, "hello", more);
        start("1");
        assert_exit(0);
        assert_events_say(cases[i].says);
        free(more);
    }
    free(sha);
}

/* The task itself plays the stranger who pushes while it runs. */
#define STRANGER                                                                                  \
    ",\"gitDepth\":1,\"preExecutionCommands\":[\"export HOME=$(mktemp -d) && cd $HOME &&"         \
    " printf '[safe]\\n\\tdirectory = *\\n[user]\\n\\tname = t\\n\\temail = t@t\\n' >.gitconfig " \
    "&&"                                                                                          \
    " git clone -q '%s/remote.git' r && cd r"

static void what_a_shallow_workspace_made_gets_home(void **state)
{
    (void)state;
    make_remote(20);
    /* nobody else is there */
    cJSON_Delete(run_in_remote("plain", "one", ",\"gitDepth\":1"));
    /* somebody is faster */
    char *theirs =
        textf(STRANGER " && echo t >t && git add t && git commit -qm t && git push -q\"]",
              runner->shared);
    cJSON *json = run_in_remote("fast", "two", theirs);
    assert_json_contains(json, "members", "\"method\":\"rebase\"");
    cJSON_Delete(json);
    /* and goes back to what this workspace has never seen */
    char *back = textf(STRANGER " && git reset -q --hard HEAD~9 && echo b >b && git add b &&"
                                " git commit -qm b && git push -qf\"]",
                       runner->shared);
    json = run_in_remote("back", "three", back);
    assert_json_contains(json, "members", "\"method\":\"rebase\"");
    cJSON_Delete(json);
    char *said = shared_sh("cd remote.git; git fsck --no-dangling 2>&1; git rev-list --count main;"
                           " git show --format= --name-only main; git ls-tree --name-only main |"
                           " grep -cx -e one -e two -e three -e t -e b");
    assert_string_equal(said, "25\nthree\n5\n");
    free(said);
    free(back);
    free(theirs);
}

static void a_task_past_its_time_limit_ends_as_at_home(void **state)
{
    (void)state;
    send_task("late", "standin: hang-middle", "\"timeout_ms\":1500");
    start("1");
    assert_exit(0);
    assert_result("failed", "timeout");
    assert_events_whole(true);
}

/* ---- whose attempt it is ---- */

static void an_attempt_runs_once(void **state)
{
    (void)state;
    char *mark = textf("%s/mark", runner->shared), *prompt = textf("standin: touch %s", mark);
    send_task("once", prompt, "");
    start("1");
    assert_exit(0);
    struct object before = fetch("result.json");
    send_task("once", prompt, "");
    start("1");
    assert_exit(NOT_OURS);
    assert_log_says("claimed by somebody else");
    struct object after = fetch("result.json");
    assert_string_equal(before.data, after.data);
    assert_true(is_there("payload.enc")); /* untouched */
    assert_int_equal(file_size(mark), 1);
    free(before.data);
    free(after.data);
    free(mark);
    free(prompt);
}

static void two_starts_at_once_run_it_once(void **state)
{
    (void)state;
    char first[sizeof execution];
    char *mark = textf("%s/mark", runner->shared), *prompt = textf("standin: touch %s", mark);
    send_task("twins", prompt, "");
    start("1");
    memcpy(first, execution, sizeof first);
    start("1");
    int second_code = await_end(END_MS);
    memcpy(execution, first, sizeof first);
    int first_code = await_end(END_MS);
    assert_int_equal(first_code + second_code, NOT_OURS);
    assert_int_equal(file_size(mark), 1);
    assert_result("completed", "");
    free(mark);
    free(prompt);
}

static void an_attempt_that_home_gave_up_is_not_begun(void **state)
{
    (void)state;
    send_task("given-up", "hello", "");
    put_object("claim-1.json", "{\"by\":\"home\"}");
    start("1");
    assert_exit(NOT_OURS);
    assert_true(is_there("payload.enc"));
    assert_false(is_there("result.json"));
    assert_false(is_there("metadata.json"));
}

/* Somebody else's events are there: it is not this job's attempt any more. */
static void a_job_that_meets_foreign_events_writes_nothing_more(void **state)
{
    (void)state;
    send_task("foreign", "standin: hang-middle", "");
    put_object("events%2F00000000000000000000", "{\"not\":\"ours\"}");
    start("1");
    assert_exit(NOT_OURS);
    assert_log_says("somebody else's now");
    assert_false(is_there("result.json"));
}

static void a_job_whose_heartbeat_is_deleted_ends_itself(void **state)
{
    (void)state;
    send_task("heartless", "standin: hang-middle", "");
    start("1");
    EVENTUALLY(20000, is_there("heartbeat.json"));
    char *path = object_path("heartbeat.json");
    struct reply *reply = cloud_call(cloud, "DELETE", path, NULL);
    assert_int_equal(reply->status, 204);
    reply_free(reply);
    free(path);
    assert_exit(NOT_OURS);
    assert_false(is_there("result.json"));
}

/* ---- payloads that are none ---- */

static void assert_not_run(const char *error, bool payload_stays)
{
    assert_exit(0); /* home learns why from the result */
    cJSON *json = result();
    assert_json_text(json, "state", "failed");
    assert_json_text(json, "reason", "cloud_error");
    assert_json_contains(json, "error", error);
    assert_json_number(json, "eventsBytes", 0);
    cJSON_Delete(json);
    assert_int_equal(is_there("payload.enc"), payload_stays);
}

static void a_payload_of_another_task_is_refused(void **state)
{
    (void)state;
    send_sealed("moved", "1", "{\"prompt\":\"hello\"}", "original");
    start("1");
    assert_not_run("the payload", true);
}

static void a_payload_of_another_attempt_is_refused(void **state)
{
    (void)state;
    send_sealed("older", "1", "{\"prompt\":\"hello\"}", NULL);
    start("2");
    assert_not_run("attempt 1's", true);
}

static void a_payload_that_was_changed_is_refused(void **state)
{
    (void)state;
    send_task("changed", "hello", "");
    struct object sealed = fetch("payload.enc");
    assert_true(sealed.size > 100);
    put_object("payload.enc", "CRP1 and something else, which is long enough to look at");
    free(sealed.data);
    start("1");
    assert_not_run("no payload, or not whole", true);
}

static void a_payload_that_is_not_there_is_said_so(void **state)
{
    (void)state;
    snprintf(task, sizeof task, "nothing");
    start("1");
    assert_not_run("payload.enc", false);
}

static void without_any_credential_a_task_is_not_run(void **state)
{
    (void)state;
    runner_set(runner, "CLOUD_API_KEY_SECRET", NULL);
    cloud_define_job(cloud, runner);
    send_task("poor", "hello", "");
    start("1");
    assert_exit(0);
    assert_result("failed", "login_required");
    assert_false(is_there("payload.enc"));
}

/* ---- what Cloud Run does ---- */

static void cancel_execution(void)
{
    char *path = textf("/v2/%s:cancel", execution);
    struct reply *reply = cloud_call(cloud, "POST", path, "{}");
    assert_status(reply, 200);
    reply_free(reply);
    free(path);
}

static void await_piece(void)
{
    EVENTUALLY(20000, is_there("events/00000000000000000000"));
}

static void stop_a_task(const char *id, const char *prompt)
{
    send_task(id, prompt, "");
    start("1");
    await_piece();
    EVENTUALLY(20000, runner_task_processes(runner) > 0);
    int64_t from = now_ms();
    cancel_execution();
    assert_exit(0);
    int64_t took = now_ms() - from;
    print_message("  %s: %lld ms from SIGTERM to the end\n", id, (long long)took);
    assert_true(took < 8000 * slowness());
    assert_result("failed", "interrupted");
    assert_events_whole(true);
    assert_false(is_there("payload.enc"));
}

static void sigterm_ends_the_task_and_hands_everything_in(void **state)
{
    (void)state;
    stop_a_task("stopped", "standin: hang-middle");
    stop_a_task("stubborn", "standin: ignore-term");
    stop_a_task("talking", "standin: tick 100000 5");
}

static int held(void)
{
    cJSON *state = cloud_state(cloud);
    int count = (int)json_number(state, "held");
    cJSON_Delete(state);
    return count;
}

/* What is being stored when SIGTERM comes, and hangs, does not keep the result. */
static void sigterm_while_outputs_are_stored_ends_in_time(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        const char *prompt;
        const char *fault;
    } cases[] = {
        {"small", "standin: touch made.txt",
         "\"method\":\"storage.objects.insert\",\"pathContains\":\"small%2Foutputs\""},
        {"large", "standin: touch made.txt", "\"method\":\"upload\""},
        {"piece", "standin: tick 100000 20",
         "\"method\":\"storage.objects.insert\",\"pathContains\":\"piece%2Fevents\",\"skip\":1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *fault = textf("{\"faults\":[{%s,\"hold\":true,\"times\":9}]}", cases[i].fault);
        cloud_control(cloud, fault);
        send_task(cases[i].id, cases[i].prompt,
                  i == 1 ? "\"preExecutionCommands\":[\"head -c 9000000 /dev/zero >big\"],"
                           "\"postExecutionActions\":{\"uploadFiles\":{\"globPatterns\":[\"*\"]}}"
                         : "\"postExecutionActions\":{\"uploadFiles\":{\"globPatterns\":[\"*\"]}}");
        start("1");
        EVENTUALLY(20000, held() == 1);
        int64_t from = now_ms();
        cancel_execution();
        assert_exit(0);
        int64_t took = now_ms() - from;
        print_message("  %s: %lld ms from SIGTERM to the end\n", cases[i].id, (long long)took);
        assert_true(took < 9000 * slowness());
        assert_result("failed", "interrupted");
        cloud_control(cloud, "{\"faults\":[],\"release\":true}");
        free(fault);
    }
}

static void a_job_that_is_killed_leaves_no_process_and_no_result(void **state)
{
    (void)state;
    send_task("killed", "standin: hang-middle", "");
    start("1");
    await_piece();
    EVENTUALLY(20000, runner_task_processes(runner) > 0);
    kill(job_pid(), SIGKILL);
    EVENTUALLY(20000, runner_task_processes(runner) == 0);
    await_end(END_MS);
    assert_false(is_there("result.json"));
    assert_false(is_there("payload.enc"));
}

/* ---- a bucket that is not well ---- */

static void events_get_through_whatever_happens_to_requests(void **state)
{
    (void)state;
    static const char *const plans[] = {
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"events\","
        "\"times\":3,\"status\":503}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"events\","
        "\"times\":2,\"cut\":\"before\"}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"events\","
        "\"times\":2,\"cut\":\"after\"}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"times\":1,\"skip\":3,"
        "\"cut\":\"after\"},{\"method\":\"storage.objects.*\",\"times\":4,\"skip\":5,"
        "\"status\":429,\"retryAfter\":1}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"result\","
        "\"times\":2,\"cut\":\"after\"}]}",
        "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":\"claim\","
        "\"times\":1,\"cut\":\"after\"}]}",
        "{\"faults\":[{\"method\":\"storage.objects.delete\",\"times\":2,\"cut\":\"after\"}]}",
    };
    for (size_t i = 0; i < COUNT(plans); i++) {
        char *id = textf("fault-%zu", i);
        send_task(id, "standin: tick 40 50", "");
        cloud_control(cloud, plans[i]);
        start("1");
        assert_exit(0);
        cloud_control(cloud, "{\"faults\":[]}");
        assert_result("completed", "");
        assert_true(assert_events_whole(true) >= 42);
        assert_false(is_there("payload.enc"));
        free(id);
    }
}

static void a_bucket_that_is_away_for_a_while_loses_nothing(void **state)
{
    (void)state;
    send_task("away", "standin: tick 60 50", "");
    start("1");
    await_piece();
    cloud_kill(cloud);
    EVENTUALLY(20000, runner_task_processes(runner) == 0); /* the task goes on, and ends */
    cloud_restart(cloud);
    assert_exit(0);
    assert_result("completed", "");
    assert_true(assert_events_whole(true) >= 62);
}

static void a_slow_bucket_gets_larger_pieces_not_lost_ones(void **state)
{
    (void)state;
    size_t pieces;
    send_task("slow", "standin: tick 200 20", "");
    cloud_control(cloud, "{\"faults\":[{\"method\":\"storage.objects.insert\",\"pathContains\":"
                         "\"events\",\"times\":1000,\"delayMs\":1500}]}");
    start("1");
    assert_exit(0);
    assert_true(assert_events_whole(true) >= 202);
    struct object all = joined(&pieces);
    free(all.data);
    assert_in_range(pieces, 2, 8);
}

static void events_come_in_short_intervals(void **state)
{
    (void)state;
    size_t pieces;
    send_task("steady", "standin: tick 50 100", "");
    start("1");
    int64_t from = now_ms();
    await_piece();
    print_message("  first piece %lld ms after the start\n", (long long)(now_ms() - from));
    assert_exit(0);
    struct object all = joined(&pieces);
    free(all.data);
    print_message("  %zu pieces for 5 s\n", pieces);
    assert_in_range(pieces, 4, 12);
}

/* Peak memory of the job, in KiB, at its end. */
static long watch_memory(void)
{
    long most = 0;
    while (!has_ended()) {
        pid_t pid = job_pid();
        long now = pid > 0 ? proc_rss_kib(pid) : 0;
        most = now > most ? now : most;
        poll_pause();
    }
    return most;
}

static void a_hundred_megabytes_pass_in_flat_memory(void **state)
{
    (void)state;
    size_t pieces;
    send_task("small", "standin: print-bytes 100000", "");
    start("1");
    long small = watch_memory();
    assert_exit(0);
    send_task("large", "standin: print-bytes 104857600", "");
    start("1");
    int64_t from = now_ms();
    long large = watch_memory();
    int64_t took = now_ms() - from;
    assert_exit(0);
    assert_result("completed", "");
    struct object all = joined(&pieces);
    assert_true(all.size > 104857600);
    assert_true(pieces >= all.size / (256u << 10));
    print_message("  %zu bytes in %zu pieces in %lld ms; %ld KiB, %ld KiB for a small task\n",
                  all.size, pieces, (long long)took, large, small);
    free(all.data);
    assert_true(large - small < 20 * 1024 * slowness());
}

static void an_event_longer_than_a_piece_is_one(void **state)
{
    (void)state;
    send_task("long", "standin: big-line 5000000", "");
    start("1");
    assert_exit(0);
    assert_result("completed", "");
    assert_events_whole(true);
}

/* ---- a start that cannot be ---- */

static void a_bucket_that_is_not_there_is_named(void **state)
{
    (void)state;
    send_task("no-bucket", "hello", "");
    runner_set(runner, "GCS_LOGS_BUCKET", "another-bucket");
    cloud_define_job(cloud, runner);
    start("1");
    assert_exit(1);
    assert_log_says("cannot claim the task");
    assert_log_says("another-bucket");
}

static void a_bucket_that_may_not_be_written_is_said_so(void **state)
{
    (void)state;
    send_task("forbidden", "hello", "");
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_JOB_ACCOUNT
                         "\",\"permissions\":[\"storage.objects.create\"]}}");
    start("1");
    assert_exit(1);
    assert_log_says("storage.objects.create");
}

static void a_key_that_may_not_be_used_is_said_so_in_the_result(void **state)
{
    (void)state;
    send_task("no-key", "hello", "");
    cloud_control(cloud, "{\"deny\":{\"account\":\"" CLOUD_JOB_ACCOUNT
                         "\",\"permissions\":[\"cloudkms.cryptoKeyVersions.useToDecrypt\"]}}");
    start("1");
    assert_not_run("Cloud KMS", true);
}

static void what_is_not_set_is_named(void **state)
{
    (void)state;
    send_task("unset", "hello", "");
    runner_set(runner, "KMS_KEY_RING", NULL);
    runner_set(runner, "GCS_LOGS_BUCKET", NULL);
    cloud_define_job(cloud, runner);
    start("1");
    assert_exit(2);
    assert_log_says("GCS_LOGS_BUCKET, KMS_KEY_RING are not set");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_task_leaves_its_events_its_outputs_and_its_result),
        TEST(log_lines_are_what_cloud_logging_reads),
        TEST(the_real_cli_works_with_the_key_from_secret_manager),
        TEST(a_requests_own_key_is_used_and_the_secret_is_left_alone),
        TEST(a_task_is_somebody_else_and_knows_nothing_of_google),
        TEST(a_secret_that_a_task_prints_stays_out_of_the_bucket),
        TEST(a_repository_task_commits_and_pushes),
        TEST(a_worker_gets_no_more_of_a_history_than_asked_for),
        TEST(what_a_shallow_workspace_made_gets_home),
        TEST(a_task_past_its_time_limit_ends_as_at_home),
        TEST(an_attempt_runs_once),
        TEST(two_starts_at_once_run_it_once),
        TEST(an_attempt_that_home_gave_up_is_not_begun),
        TEST(a_job_that_meets_foreign_events_writes_nothing_more),
        TEST(a_job_whose_heartbeat_is_deleted_ends_itself),
        TEST(a_payload_of_another_task_is_refused),
        TEST(a_payload_of_another_attempt_is_refused),
        TEST(a_payload_that_was_changed_is_refused),
        TEST(a_payload_that_is_not_there_is_said_so),
        TEST(without_any_credential_a_task_is_not_run),
        TEST(sigterm_ends_the_task_and_hands_everything_in),
        TEST(sigterm_while_outputs_are_stored_ends_in_time),
        TEST(a_job_that_is_killed_leaves_no_process_and_no_result),
        TEST(events_get_through_whatever_happens_to_requests),
        TEST(a_bucket_that_is_away_for_a_while_loses_nothing),
        TEST(a_slow_bucket_gets_larger_pieces_not_lost_ones),
        TEST(events_come_in_short_intervals),
        TEST(a_hundred_megabytes_pass_in_flat_memory),
        TEST(an_event_longer_than_a_piece_is_one),
        TEST(a_bucket_that_is_not_there_is_named),
        TEST(a_bucket_that_may_not_be_written_is_said_so),
        TEST(a_key_that_may_not_be_used_is_said_so_in_the_result),
        TEST(what_is_not_set_is_named),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
