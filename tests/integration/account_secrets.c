#include "account_scene.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void assert_nowhere(const char *dir, const char *secret)
{
    DIR *list = opendir(dir);
    struct dirent *entry;
    while (list && (entry = readdir(list))) {
        if (entry->d_name[0] == '.' && (!entry->d_name[1] || entry->d_name[1] == '.'))
            continue;
        struct stat st = {0}; /* it may be gone by now */
        char *path = textf("%s/%s", dir, entry->d_name);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            assert_nowhere(path, secret);
        } else if (S_ISREG(st.st_mode) && strcmp(entry->d_name, ".credentials.json") != 0) {
            size_t size = 0;
            char *text = read_file(path, &size);
            if (text && memmem(text, size, secret, strlen(secret)))
                fail_msg("'%s' holds the token", path);
            free(text);
        }
        free(path);
    }
    if (list)
        closedir(list);
}

/* No process but the daemon holds it: of the runner itself, or of a task. */
static void assert_in_no_process(const struct runner *runner, const char *secret)
{
    pid_t pids[64];
    size_t count = proc_descendants(runner->pid, pids, COUNT(pids));
    assert_in_range(count, 3, COUNT(pids)); /* the launcher, the CLI, the shell in it, … */
    for (size_t i = 0; i < count; i++) {
        const char *where = proc_holds(pids[i], secret);
        if (where)
            fail_msg("process %d holds '%s' in its %s", (int)pids[i], secret, where);
    }
}

/* Among processes that may see it, the search does find it. */
static void assert_search_finds(const struct runner *runner, const char *secret)
{
    pid_t pids[64];
    size_t count = proc_descendants(runner->pid, pids, COUNT(pids)), holders = 0;
    for (size_t i = 0; i < count && i < COUNT(pids); i++) {
        const char *where = proc_holds(pids[i], "runner-task-");
        holders += where != NULL;
    }
    assert_true(holders > 0);
    assert_non_null(proc_holds(runner->pid, secret));
}

/* A task that holds on, while everything of the runner is searched for the owner's secrets. */
static void search_while_a_task_runs(struct runner *runner, const char *const *secrets)
{
    char *there = textf("%s/there", runner->shared), *go = textf("%s/go", runner->shared);
    char *prompt = textf("[[tool:Bash {\"command\":\"touch %s; until test -e %s; do sleep 0.1; "
                         "done\"}]][[text:searched]]",
                         there, go);
    char *id = runner_submit(runner, prompt,
                             "\"permissionMode\":\"acceptEdits\",\"allowedTools\":[\"Bash\"]");
    EVENTUALLY(60000, file_size(there) >= 0);
    assert_search_finds(runner, secrets[0]);
    for (size_t i = 0; secrets[i]; i++) {
        assert_in_no_process(runner, secrets[i]);
        assert_nowhere(runner->dir, secrets[i]);
    }
    write_file(go, "", 0644);
    runner_await(runner, id, "completed", 60000);
    for (size_t i = 0; secrets[i]; i++)
        assert_nowhere(runner->dir, secrets[i]);
    free(id);
    free(prompt);
    free(go);
    free(there);
}

static void skip_without_sight(void)
{
    if (geteuid() != 0)
        SKIP_BECAUSE("only root can look into other processes");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP_BECAUSE("a sanitizer's own memory is too large to be searched");
#endif
}

/* The old pair and the new one. */
static void no_process_and_no_file_has_a_token(void **state)
{
    (void)state;
    skip_without_sight();
    static const char *const secrets[] = {NEW_TOKEN, NEW_REFRESH, OUTDATED, REFRESH_TOKEN, NULL};
    struct api *api = api_new(), *tokens = token_server_new();
    struct runner *runner = with_login(api, tokens);
    api_control(api, "{\"tokens\":[\"" NEW_TOKEN "\"],\"expired\":[\"" OUTDATED "\"]}");
    write_login(runner, OUTDATED, REFRESH_TOKEN, in_hours(8));
    runner_start(runner);
    search_while_a_task_runs(runner, secrets);
    assert_int_equal(refreshes(tokens), 1);
    runner_free(runner);
    api_free(tokens);
    api_free(api);
}

static void no_process_and_no_file_has_the_key(void **state)
{
    (void)state;
    skip_without_sight();
    static const char *const secrets[] = {API_KEY, NULL};
    struct api *api = api_new();
    struct runner *runner = runner_new();
    runner_use_real_cli(runner, api);
    runner_start(runner);
    search_while_a_task_runs(runner, secrets);
    runner_free(runner);
    api_free(api);
}

/* The task looks for it everywhere, as any program that Claude runs could. */
static void the_token_is_nowhere_but_where_it_lives(void **state)
{
    (void)state;
    struct api *api = api_new();
    struct runner *runner = with_login(api, NULL);
    write_login(runner, API_TOKEN, REFRESH_TOKEN, in_hours(8));
    char *own = textf("%s/.credentials.json", runner->config);
    runner_start(runner);
    struct reply *reply =
        runner_execute(runner,
                       "[[tool:Bash {\"command\":\"echo begin; env; cat /proc/*/environ "
                       "/proc/*/cmdline; grep -rs sk-ant-oat0[1]-test . ~ $CLAUDE_CONFIG_DIR "
                       "$TMPDIR; echo end\"}]][[text:looked]]",
                       "\"permissionMode\":\"acceptEdits\",\"allowedTools\":[\"Bash\"]");
    assert_json_text(reply->json, "output", "looked");
    char *path = textf("/tasks/%s/events", json_text(reply->json, "taskId"));
    struct reply *events =
        http_call(runner->base, "GET", path, RUNNER_AUTH "Accept: application/x-ndjson\r\n", NULL);
    assert_non_null(strstr(events->body, "begin"));
    assert_non_null(strstr(events->body, "end"));
    assert_null(strstr(events->body, API_TOKEN));
    assert_null(strstr(events->body, "sk-ant-oat01-test"));
    assert_nowhere(runner->dir, API_TOKEN);
    reply_free(events);
    reply_free(reply);
    assert_int_equal(access(own, F_OK), 0);
    free(own);
    free(path);
    runner_free(runner);
    api_free(api);
}

/* True when a program that dies here leaves a core: else there would be nothing to see. */
static bool cores_are_made(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        signal(SIGABRT, SIG_DFL), abort();
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WCOREDUMP(status);
}

static int count_cores(const char *dir)
{
    int count = 0;
    struct dirent *entry;
    DIR *list = opendir(dir);
    assert_non_null(list);
    while ((entry = readdir(list)))
        count += strncmp(entry->d_name, "core", 4) == 0;
    closedir(list);
    return count;
}

/* With all limits off and a directory that everybody may write to. */
static void what_crashes_leaves_no_core(void **state)
{
    (void)state;
    static const int signals[] = {
        SIGABRT,
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        SIGSEGV, /* a sanitizer takes it for its own */
#endif
    };
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    struct rlimit before;
    char *cwd = getcwd(NULL, 0);
    struct runner *runner = runner_new();
    assert_int_equal(getrlimit(RLIMIT_CORE, &before), 0);
    if (chdir(runner->shared) || setrlimit(RLIMIT_CORE, &unlimited) || !cores_are_made())
        print_message("  this host makes no cores at all\n");
    int own = count_cores(".");
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        int status;
        runner_start(runner);
        char *prompt = textf("standin: crash %d", signals[i]);
        char *pid_path = textf("/proc/%d/limits", (int)runner->pid);
        char *limits = read_file(pid_path, NULL);
        struct reply *reply = runner_execute(runner, prompt, "");
        assert_json_text(reply->json, "reason", "killed");
        assert_non_null(limits);
        if (!strstr(limits, "Max core file size        0                    0"))
            fail_msg("%s", limits);
        assert_int_equal(kill(runner->pid, signals[i]), 0);
        assert_int_equal(waitpid(runner->pid, &status, 0), runner->pid);
        runner->pid = 0;
        assert_true(WIFSIGNALED(status) || WIFEXITED(status)); /* a sanitizer exits */
        assert_false(WIFSIGNALED(status) && WCOREDUMP(status));
        reply_free(reply);
        free(limits);
        free(pid_path);
        free(prompt);
    }
    assert_int_equal(count_cores("."), own);
    assert_int_equal(count_cores(runner->state), 0);
    assert_int_equal(setrlimit(RLIMIT_CORE, &before), 0);
    assert_int_equal(chdir(cwd), 0);
    free(cwd);
    runner_free(runner);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_process_and_no_file_has_a_token),
        cmocka_unit_test(no_process_and_no_file_has_the_key),
        cmocka_unit_test(the_token_is_nowhere_but_where_it_lives),
        cmocka_unit_test(what_crashes_leaves_no_core),
    };
    return cmocka_run_group_tests_name("account_secrets", tests, NULL, NULL);
}
