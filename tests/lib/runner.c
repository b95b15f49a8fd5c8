#include "testing.h"

#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_MS = 60000, STOP_MS = 20000 };

static const char *const passed_on[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
                                        "LSAN_OPTIONS", "LLVM_PROFILE_FILE"};

static const char *const complaints[] = {"AddressSanitizer", "ThreadSanitizer", "LeakSanitizer",
                                         "runtime error:"};

/* A sanitizer's complaint in the text, or NULL. */
static const char *complaint_in(const char *text)
{
    for (size_t i = 0; i < COUNT(complaints); i++)
        if (strstr(text, complaints[i]))
            return complaints[i];
    return NULL;
}

static const char *daemon_path(void)
{
    const char *path = getenv("CR_BINARY");
    return path ? path : TEST_RUNNER;
}

/* The user of the daemon: CR_RUNNER_UID when the test is root, else the test's own. */
static uid_t daemon_uid(void)
{
    const char *uid = getenv("CR_RUNNER_UID");
    return uid && geteuid() == 0 ? (uid_t)strtoul(uid, NULL, 10) : geteuid();
}

/* ---- starting ---- */

/* The address after "listening on " in the file past `from`, up to the first byte that cannot be in
 * a URL; NULL when it is not there yet. */
static char *find_base(const char *path, long from)
{
    static const char url_bytes[] = "abcdefghijklmnopqrstuvwxyz0123456789.:/";
    size_t size = 0;
    char *text = read_file(path, &size);
    const char *at = text && size > (size_t)from ? strstr(text + from, "listening on http") : NULL;
    if (at)
        at += strlen("listening on ");
    size_t len = at ? strspn(at, url_bytes) : 0;
    char *base = at && at[len] ? strndup(at, len) : NULL;
    free(text);
    return base;
}

static char *await_base(pid_t pid, const char *path, long from)
{
    int64_t end = now_ms() + START_MS * slowness();
    char *base = NULL;
    while (now_ms() < end && proc_alive(pid)) {
        base = find_base(path, from);
        if (base)
            return base;
        poll_pause();
    }
    char *text = read_file(path, NULL);
    fail_msg("it does not listen; it says: %.3000s", text ? text : "(nothing)");
    return NULL;
}

struct api *double_new(char *const argv[])
{
    struct api *api = calloc(1, sizeof *api);
    assert_non_null(api);
    api->dir = tmp_dir_new();
    char *out = textf("%s/out", api->dir);
    char *env[] = {NULL};
    api->pid = proc_start(argv, env, out, out);
    api->base = await_base(api->pid, out, 0);
    free(out);
    return api;
}

struct api *api_new(void)
{
    char *argv[] = {(char[]){TEST_MESSAGES_API}, (char[]){"--token"}, (char[]){API_TOKEN},
                    (char[]){"--api-key"},       (char[]){API_KEY},   NULL};
    return double_new(argv);
}

struct api *token_server_new(void)
{
    char *argv[] = {(char[]){TEST_OAUTH_SERVER}, (char[]){"--refresh-token"},
                    (char[]){REFRESH_TOKEN}, NULL};
    return double_new(argv);
}

struct api *token_server_tls_new(const char *cert, const char *key)
{
    char *argv[] = {(char[]){TEST_OAUTH_SERVER},
                    (char[]){"--tls-port"},
                    (char[]){"443"},
                    (char[]){"--cert"},
                    strdup(cert),
                    (char[]){"--key"},
                    strdup(key),
                    NULL};
    struct api *api = double_new(argv);
    free(argv[4]);
    free(argv[6]);
    return api;
}

void api_free(struct api *api)
{
    if (!api)
        return;
    int status;
    kill(api->pid, SIGKILL);
    proc_wait(api->pid, STOP_MS, &status);
    char *out = textf("%s/out", api->dir), *text = read_file(out, NULL);
    const char *fault = text ? complaint_in(text) : NULL;
    if (fault)
        fail_msg("a double: %s\n%.6000s", fault, text);
    free(text);
    free(out);
    tmp_dir_free(api->dir);
    free(api->base);
    free(api);
}

cJSON *api_log(const struct api *api, const char *contains)
{
    char *path = textf("/_log?contains=%s", contains);
    struct reply *reply = http_call(api->base, "GET", path, NULL, NULL);
    assert_status(reply, 200);
    cJSON *requests = cJSON_DetachItemFromObject(reply->json, "requests");
    reply_free(reply);
    free(path);
    return requests;
}

void api_control(const struct api *api, const char *json)
{
    struct reply *reply = http_call(api->base, "POST", "/_control", NULL, json);
    assert_status(reply, 200);
    reply_free(reply);
}

static const struct {
    const char *name, *value;
} defaults[] = {
    {"PATH", "/usr/local/bin:/usr/bin:/bin"},
    {"PORT", "0"},
    {"RUNNER_SECRET", RUNNER_SECRET},
    {"ANTHROPIC_API_KEY", API_KEY},
    {"MAX_CONCURRENT_TASKS", "4"},
    {"LOG_FORMAT", "json"},
    {"LOG_LEVEL", "debug"},
    {"JAIL_MIN", "none"},
    {"DISK_MIN_FREE_MB", "1"},
    {"KEEPALIVE_AFTER_MS", "600000"}, /* A slow machine does not change an answer's status. */
};

static void set_paths(struct runner *runner)
{
    runner->dir = tmp_dir_new();
    runner->state = textf("%s/state", runner->dir);
    runner->config = textf("%s/claude-config", runner->dir);
    runner->shared = textf("%s/shared", runner->dir);
    runner->cli = textf("%s/claude", runner->dir);
    runner->log = textf("%s/log", runner->dir);
    assert_int_equal(mkdir(runner->config, 0700), 0);
    assert_int_equal(mkdir(runner->shared, 0777), 0);
    assert_int_equal(chmod(runner->shared, 0777), 0);
    file_copy_program(TEST_CLI_STANDIN, runner->cli);
    write_file(runner->log, "", 0644);
}

/* Every runner that has not been freed: a test that fails half way leaves runners behind. */
static struct runner *alive[16];

static void remember(struct runner *runner, struct runner *instead_of)
{
    for (size_t i = 0; i < COUNT(alive); i++)
        if (alive[i] == instead_of) {
            alive[i] = runner;
            return;
        }
}

static void clean_up(void)
{
    for (size_t i = 0; i < COUNT(alive); i++) {
        if (!alive[i])
            continue;
        if (alive[i]->pid) {
            kill(alive[i]->pid, SIGKILL);
            waitpid(alive[i]->pid, NULL, 0); /* otherwise it would go on writing files that are
                                              * being removed */
        }
        proc_kill_file(alive[i]->cli);
        tmp_dir_free(alive[i]->dir);
    }
}

struct runner *runner_new(void)
{
    static bool registered;
    if (!registered)
        registered = atexit(clean_up) == 0;
    if (access(daemon_path(), X_OK) != 0)
        SKIP_BECAUSE("no daemon to test at %s", daemon_path());
    struct runner *runner = calloc(1, sizeof *runner);
    assert_non_null(runner);
    set_paths(runner);
    remember(runner, NULL);
    for (size_t i = 0; i < COUNT(defaults); i++)
        runner_set(runner, defaults[i].name, defaults[i].value);
    for (size_t i = 0; i < COUNT(passed_on); i++)
        runner_set(runner, passed_on[i], getenv(passed_on[i]));
    runner_set(runner, "HOME", runner->dir);
    runner_set(runner, "RUNNER_STATE_DIR", runner->state);
    runner_set(runner, "CLAUDE_CONFIG_DIR", runner->config);
    runner_set(runner, "CLAUDE_BIN", runner->cli);
    char *shown = textf("%s:rw", runner->shared);
    runner_set(runner, "JAIL_PATHS", shown);
    free(shown);
    return runner;
}

void runner_set(struct runner *runner, const char *name, const char *value)
{
    size_t len = strlen(name);
    size_t i = 0;
    while (runner->env[i] &&
           !(strncmp(runner->env[i], name, len) == 0 && runner->env[i][len] == '='))
        i++;
    free(runner->env[i]);
    if (value) {
        assert_true(i < RUNNER_ENV_MAX);
        runner->env[i] = textf("%s=%s", name, value);
        return;
    }
    for (; runner->env[i]; i++) /* close the gap in the list */
        runner->env[i] = runner->env[i + 1];
}

/* tests/cli/claude is a link to the version that runner/install-claude was asked for. A jail shows
 * what it leads to, not the link. */
const char *runner_real_cli(void)
{
    static char path[PATH_MAX];
    const char *given = getenv("CR_CLAUDE");
    return realpath(given ? given : TEST_REAL_CLI, path) && access(path, X_OK) == 0 ? path : NULL;
}

void runner_use_real_cli(struct runner *runner, const struct api *api)
{
    const char *cli = runner_real_cli();
    if (!cli) {
        runner_free(runner);
        SKIP_BECAUSE("the Claude Code CLI is not installed (runner/install-claude)");
    }
    char *script = textf("#!/bin/sh\n"
                         ": \"${ANTHROPIC_BASE_URL:=%s}\"\n"
                         ": \"${CLAUDE_CODE_MAX_RETRIES:=1}\"\n"
                         "export ANTHROPIC_BASE_URL CLAUDE_CODE_MAX_RETRIES\n"
                         "exec '%s' \"$@\"\n",
                         api->base, cli);
    unlink(runner->cli);
    write_file(runner->cli, script, 0755);
    free(script);
    runner_set(runner, "ANTHROPIC_UPSTREAM", api->base);
}

struct runner *runner_new_real(struct api **api)
{
    struct runner *runner = runner_new();
    *api = *api ? *api : api_new();
    runner_use_real_cli(runner, *api);
    return runner;
}

static struct runner *with(struct runner *runner, const char *const settings[])
{
    for (size_t i = 0; settings[i]; i += 2)
        runner_set(runner, settings[i], settings[i + 1]);
    return runner;
}

struct runner *runner_new_with(const char *const settings[])
{
    return with(runner_new(), settings);
}

static int give_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return lchown(path, daemon_uid(), (gid_t)daemon_uid());
}

/* Files that a test has put into the runner's directories get the daemon's user. What a daemon that
 * was killed has started may still remove its own meanwhile. */
static void give_to_daemon(const char *dir)
{
    if (daemon_uid() != geteuid())
        EVENTUALLY(20000, nftw(dir, give_one, 16, FTW_PHYS | FTW_MOUNT) == 0);
}

static void launch(struct runner *runner)
{
    char *argv[] = {strdup(daemon_path()), (char[]){"serve"}, NULL};
    assert_int_equal(runner->pid, 0);
    give_to_daemon(runner->dir);
    runner->pid = proc_start_as(daemon_uid(), argv, runner->env, NULL, runner->log);
    free(argv[0]);
}

void runner_start(struct runner *runner)
{
    long from = file_size(runner->log);
    launch(runner);
    free(runner->base);
    runner->base = await_base(runner->pid, runner->log, from);
    assert_int_equal(proc_uid(runner->pid), daemon_uid());
}

/* Where a program keeps the runner that its tests share. */
static struct runner **shared_runner;
static struct api **shared_api;

/* Sets the shared runner only when it has started: a test that is skipped earlier leaves none. */
static struct runner *share(struct runner **runner, struct runner *made)
{
    runner_start(made);
    shared_runner = runner;
    return *runner = made;
}

struct runner *runner_shared(struct runner **runner, const char *const settings[])
{
    return *runner ? *runner : share(runner, runner_new_with(settings));
}

struct runner *runner_shared_real(struct runner **runner, struct api **api,
                                  const char *const settings[])
{
    if (*runner)
        return *runner;
    shared_api = api;
    struct runner *made = with(runner_new_real(api), settings);
    char *allow = textf("file:%s", made->shared);
    runner_set(made, "GIT_ALLOW", allow);
    free(allow);
    return share(runner, made);
}

int shared_stop(void **state)
{
    (void)state;
    runner_free(shared_runner ? *shared_runner : NULL);
    api_free(shared_api ? *shared_api : NULL);
    return 0;
}

int runner_start_refused(struct runner *runner)
{
    int status = -1;
    launch(runner);
    if (!proc_wait(runner->pid, START_MS, &status)) {
        runner_crash(runner);
        fail_msg("it started although it should have refused");
    }
    runner->pid = 0;
    return status;
}

/* ---- ending ---- */

int runner_stop(struct runner *runner, int ms)
{
    int status = -1;
    assert_true(runner->pid > 0); /* kill(0) would reach this process group: ctest and its
                                   * parents */
    kill(runner->pid, SIGTERM);
    if (!proc_wait(runner->pid, ms, &status)) {
        runner_crash(runner);
        fail_msg("it still runs %d ms after SIGTERM", ms);
    }
    runner->pid = 0;
    return status;
}

void runner_crash(struct runner *runner)
{
    int status;
    assert_true(runner->pid > 0);
    kill(runner->pid, SIGKILL);
    waitpid(runner->pid, &status, 0);
    runner->pid = 0;
}

char *runner_log(const struct runner *runner)
{
    char *text = read_file(runner->log, NULL);
    assert_non_null(text);
    return text;
}

size_t runner_task_processes(const struct runner *runner)
{
    pid_t pids[512];
    size_t n = proc_running_file(runner->cli, pids, COUNT(pids)), tasks = n;
    for (size_t i = 0; i < n && i < COUNT(pids); i++)
        tasks -= proc_has_argument(pids[i], "--version") || !proc_alive(pids[i]);
    return tasks;
}

/* What is wrong with what the runner has left behind, or NULL. */
static const char *find_fault(const struct runner *runner, size_t left_over)
{
    char *text = runner_log(runner);
    const char *fault = left_over ? "processes of tasks are left" : complaint_in(text);
    if (strstr(text, RUNNER_SECRET) || strstr(text, API_KEY) || strstr(text, API_TOKEN))
        fault = "a secret is in the log";
    if (fault)
        print_error("%s\n%.*s\n", fault, 6000, text);
    free(text);
    return fault;
}

/* By a second signal: it does not wait for tasks. Two of which it has taken neither would be one.
 */
static void end_daemon(struct runner *runner)
{
    int status;
    kill(runner->pid, SIGTERM);
    if (proc_wait(runner->pid, 200, &status))
        return;
    int64_t end = now_ms() + STOP_MS * slowness();
    while (proc_has_pending(runner->pid, SIGTERM) && now_ms() < end)
        poll_pause();
    kill(runner->pid, SIGTERM);
    if (!proc_wait(runner->pid, STOP_MS, &status))
        runner_crash(runner);
}

void runner_free(struct runner *runner)
{
    if (!runner)
        return;
    if (runner->pid)
        end_daemon(runner);
    int64_t end = now_ms() + STOP_MS * slowness(); /* a process that was killed a moment ago may
                                                    * still be there */
    while (runner_task_processes(runner) && now_ms() < end)
        poll_pause();
    size_t left_over = runner_task_processes(runner);
    proc_kill_file(runner->cli);
    const char *fault = find_fault(runner, left_over);
    remember(NULL, runner);
    tmp_dir_free(runner->dir);
    for (size_t i = 0; runner->env[i]; i++)
        free(runner->env[i]);
    free(runner->state);
    free(runner->config);
    free(runner->shared);
    free(runner->cli);
    free(runner->log);
    free(runner->base);
    free(runner);
    if (fault)
        fail_msg("%s", fault);
}

/* ---- calls ---- */

struct reply *runner_get(const struct runner *runner, const char *path)
{
    return http_call(runner->base, "GET", path, RUNNER_AUTH, NULL);
}

struct reply *runner_post(const struct runner *runner, const char *path, const char *json)
{
    return http_call(runner->base, "POST", path, RUNNER_AUTH "Content-Type: application/json\r\n",
                     json);
}

struct reply *runner_delete(const struct runner *runner, const char *path)
{
    return http_call(runner->base, "DELETE", path, RUNNER_AUTH, NULL);
}

char *prompt_json(const char *prompt, const char *more)
{
    cJSON *text = cJSON_CreateString(prompt);
    char *quoted = cJSON_PrintUnformatted(text);
    char *json = textf("{\"prompt\":%s%s%s}", quoted, *more ? "," : "", more);
    free(quoted);
    cJSON_Delete(text);
    return json;
}

struct reply *runner_execute(const struct runner *runner, const char *prompt, const char *more)
{
    char *json = prompt_json(prompt, more);
    struct reply *reply = runner_post(runner, "/execute", json);
    free(json);
    return reply;
}

struct reply *runner_ran(const struct runner *runner, const char *prompt, const char *more)
{
    struct reply *reply = runner_execute(runner, prompt, more);
    assert_status(reply, 200);
    return reply;
}

struct reply *runner_succeeded(const struct runner *runner, const char *prompt, const char *more)
{
    struct reply *reply = runner_ran(runner, prompt, more);
    assert_json_bool(reply->json, "success", true);
    return reply;
}

char *runner_submit(const struct runner *runner, const char *prompt, const char *more)
{
    char *fields = textf("\"detach\":true%s%s", *more ? "," : "", more);
    char *json = prompt_json(prompt, fields);
    struct reply *reply = http_call(runner->base, "POST", "/execute",
                                    RUNNER_AUTH "Content-Type: application/json\r\n"
                                                "Prefer: wait=0\r\n",
                                    json);
    assert_status(reply, 202);
    char *id = strdup(json_text(reply->json, "taskId"));
    assert_string_not_equal(id, "");
    reply_free(reply);
    free(json);
    free(fields);
    return id;
}

char *runner_task_text(const struct runner *runner, const char *id, const char *member)
{
    char *path = textf("/tasks/%s", id);
    struct reply *reply = runner_get(runner, path);
    char *text = strdup(json_text(reply->json, member));
    reply_free(reply);
    free(path);
    return text;
}

char *runner_task_state(const struct runner *runner, const char *id)
{
    return runner_task_text(runner, id, "status");
}

bool runner_has_ended(const struct runner *runner, const char *id)
{
    char *state = runner_task_state(runner, id);
    bool ended = strcmp(state, "pending") != 0 && strcmp(state, "running") != 0;
    free(state);
    return ended;
}

void runner_await(const struct runner *runner, const char *id, const char *state, int ms)
{
    int64_t end = now_ms() + (int64_t)ms * slowness();
    for (;;) {
        char *now = runner_task_state(runner, id);
        bool there = strcmp(now, state) == 0;
        bool late = now_ms() > end;
        if (!there && late)
            print_error("task %s is '%s'\n", id, now);
        free(now);
        if (there)
            return;
        if (late)
            fail_msg("task %s is not '%s' within %d ms", id, state, ms);
        poll_pause();
    }
}

struct reply *runner_result(const struct runner *runner, const char *id)
{
    char *path = textf("/tasks/%s/result", id);
    struct reply *reply = runner_get(runner, path);
    free(path);
    return reply;
}
