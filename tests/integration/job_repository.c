#include "job_scene.h"

#include <signal.h>

/* Runs a shell script in the directory that tasks share with the test. Returns its output. */
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
    bool ended = proc_wait(proc_start(argv, env, log, log), 60000, &status);
    char *said = read_file(log, NULL);
    if (!ended || status != 0)
        fail_msg("%s: %s", script, said ? said : "");
    free(log);
    free(text);
    return said;
}

/* Makes a remote that the task may write to, with that many commits and two branches. */
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

/* Runs a task that adds a file, commits and pushes. Returns its result. */
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

/* The output of the commands that ran before the task. */
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

/* A cold worker has no mirror, so a whole history is of no use to it. It fetches what was asked
 * for, and its commits reach the remote all the same. */
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

/* The task itself plays a stranger who pushes while it runs. */
#define STRANGER                                                                                  \
    ",\"gitDepth\":1,\"preExecutionCommands\":[\"export HOME=$(mktemp -d) && cd $HOME &&"         \
    " printf '[safe]\\n\\tdirectory = *\\n[user]\\n\\tname = t\\n\\temail = t@t\\n' >.gitconfig " \
    "&&"                                                                                          \
    " git clone -q '%s/remote.git' r && cd r"

static void what_a_shallow_workspace_made_gets_home(void **state)
{
    (void)state;
    make_remote(20);
    /* without another writer */
    cJSON_Delete(run_in_remote("plain", "one", ",\"gitDepth\":1"));
    /* another writer is faster */
    char *theirs =
        textf(STRANGER " && echo t >t && git add t && git commit -qm t && git push -q\"]",
              runner->shared);
    cJSON *json = run_in_remote("fast", "two", theirs);
    assert_json_contains(json, "members", "\"method\":\"rebase\"");
    cJSON_Delete(json);
    /* and resets the branch to a commit that this workspace has never seen */
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_repository_task_commits_and_pushes),
        TEST(a_worker_gets_no_more_of_a_history_than_asked_for),
        TEST(what_a_shallow_workspace_made_gets_home),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("job_repository", tests, NULL, NULL);
}
