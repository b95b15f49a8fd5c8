/*
 * Repositories on a real sshd and on a real git-http-backend behind nginx with TLS and basic auth.
 * The CLI is a script that runs the prompt as a shell script in its workspace; git itself checks
 * the results.
 */
#include "repos_scene.h"

#include <stdio.h>

#define COMMIT_AND_PUSH "\"postExecutionActions\":{\"git\":{\"commit\":true,\"push\":true}}"

/* ---- workspaces ---- */

static void a_workspace_is_what_a_clone_would_be(void **state)
{
    (void)state;
    need_host();
    struct reply *reply = good(in_repo("git status -sb; git log --oneline --decorate; git fsck;"
                                       " git rev-parse --abbrev-ref @{u}; git branch -r; cat d/in;"
                                       " git config --get remote.origin.url",
                                       ""));
    assert_json_contains(reply->json, "output", "## main...origin/main\n");
    assert_json_contains(reply->json, "output", "HEAD -> main, tag: v1, origin/main, ");
    assert_json_contains(reply->json, "output", "origin/HEAD -> origin/main\n");
    assert_json_contains(reply->json, "output", "origin/feature/x");
    assert_json_contains(reply->json, "output", "\nin\nfile://");
    assert_json_text(json_at(reply->json, "repo"), "branch", "main");
    if (strcmp(method, "auto") != 0)
        assert_json_text(json_at(reply->json, "repo"), "method", method);
    reply_free(reply);
}

static void branches_tags_and_commits_are_checked_out(void **state)
{
    (void)state;
    need_host();
    struct reply *reply =
        good(in_repo("git rev-parse --abbrev-ref HEAD @{u}", "\"gitBranch\":\"feature/x\""));
    assert_json_text(reply->json, "output", "feature/x\norigin/feature/x");
    reply_free(reply);
    reply = good(in_repo("git symbolic-ref -q HEAD || git describe --tags", "\"gitRef\":\"v1\""));
    assert_json_text(reply->json, "output", "v1");
    reply_free(reply);
    reply = in_repo("true", "\"gitBranch\":\"nope\"");
    assert_json_text(reply->json, "reason", "repo_error");
    assert_json_contains(reply->json, "error", "no branch 'nope'");
    reply_free(reply);
}

static void what_one_task_does_another_does_not_see(void **state)
{
    (void)state;
    need_host();
    reply_free(good(in_repo("rm -rf d f1; mv f2 moved; echo x >f3; git config a.b c;"
                            " git commit -qam gone; git gc -q --prune=now",
                            "")));
    struct reply *reply = good(in_repo("git status --porcelain; ls; cat f3; git fsck", ""));
    assert_json_contains(reply->json, "output", "d\nf1\nf2\nf3\nf4\nf5\nout\n3");
    reply_free(reply);
}

static void a_stale_tree_is_never_given(void **state)
{
    (void)state;
    need_host();
    for (int i = 0; i < 3; i++) {
        char *want = sh("cd w; git pull -q; echo %d >counter; git add -A; git commit -qm c%d;"
                        " git push -q origin main; git rev-parse HEAD",
                        i, i);
        want[strcspn(want, "\n")] = '\0';
        struct reply *reply = good(in_repo("git rev-parse HEAD origin/main; cat counter", ""));
        char *expected = textf("%s\n%s\n%d", want, want, i);
        assert_json_text(reply->json, "output", expected);
        reply_free(reply);
        free(expected);
        free(want);
    }
}

static void a_directory_inside_is_entered_and_none_outside(void **state)
{
    (void)state;
    need_host();
    struct reply *reply = good(in_repo("cat in", "\"cwdRelative\":\"d\""));
    assert_json_text(reply->json, "output", "in");
    reply_free(reply);
    free(sh("cd w; git pull -q; ln -sfn /etc lead; git add -A; git commit -qm l; git push -q "
            "origin main"));
    reply = in_repo("pwd", "\"cwdRelative\":\"lead\"");
    assert_json_bool(reply->json, "success", false);
    assert_json_contains(reply->json, "error", "working directory");
    reply_free(reply);
}

static void nothing_of_a_workspace_stays(void **state)
{
    (void)state;
    need_host();
    reply_free(good(in_repo("mkdir -p a/b/c; touch a/b/c/f; chmod 000 a/b; for i in $(seq 50);"
                            " do mkdir -p $(printf 'x%.0s' $(seq 200)); cd x*; done",
                            "")));
    EVENTUALLY(20000, says(sh("ls %s/run | wc -l", runner->state), "0\n"));
}

/* ---- transports ---- */

static void every_kind_of_ssh_key_fetches_and_pushes(void **state)
{
    (void)state;
    need_host();
    static const char *const keys[] = {"k_ed25519", "k_ecdsa",     "k_rsa",
                                       "k_pem",     "k_ecdsa_pem", "k_pkcs8"};
    for (size_t i = 0; i < COUNT(keys); i++) {
        char *key = key_json(keys[i]);
        char *fields =
            textf("\"repoUrl\":\"ssh://root@localhost:%d%s\",\"sshKey\":%s," COMMIT_AND_PUSH,
                  host.ssh_port, host.remote, key);
        char *prompt =
            textf("echo %s >by_%s; ps axe | grep -c 'BEGIN.*PRIVATE' || true", keys[i], keys[i]);
        struct reply *reply = good(runner_execute(runner, prompt, fields));
        assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
        if (i == 0)
            assert_json_contains(json_at(reply->json, "repo"), "hostKeyTrusted", "SHA256:");
        assert_true(says(sh("git -C o.git show main:by_%s", keys[i]), keys[i]));
        reply_free(reply);
        free(prompt);
        free(fields);
        free(key);
    }
}

static void a_locked_key_and_a_changed_host_key_are_refused(void **state)
{
    (void)state;
    need_host();
    static const char *const locked[] = {"k_locked", "k_locked_pem", "k_locked_pkcs8"};
    char *key, *fields;
    struct reply *reply;
    for (size_t i = 0; i < COUNT(locked); i++) {
        key = key_json(locked[i]);
        fields = textf("\"repoUrl\":\"ssh://root@localhost:%d%s\",\"sshKey\":%s", host.ssh_port,
                       host.remote, key);
        reply = runner_execute(runner, "true", fields);
        assert_json_contains(reply->json, "error", "passphrase");
        reply_free(reply);
        free(key);
        free(fields);
    }
    free(sh("ssh-keygen -q -t ed25519 -N '' -f other; sed -i 's/ssh-ed25519 .*/'\"$(cut -d' ' -f1,2"
            " other.pub | sed 's,/,\\\\/,g')\"'/' %s/known_hosts",
            runner->state));
    key = key_json("k_ed25519");
    fields = textf("\"repoUrl\":\"ssh://root@localhost:%d%s\",\"sshKey\":%s", host.ssh_port,
                   host.remote, key);
    reply = runner_execute(runner, "true", fields);
    assert_json_contains(reply->json, "error", "key");
    assert_json_bool(reply->json, "success", false);
    reply_free(reply);
    free(sh("rm %s/known_hosts", runner->state));
    free(key);
    free(fields);
}

static void a_token_goes_to_its_host_and_stays_nowhere(void **state)
{
    (void)state;
    need_host();
    char *fields = textf("\"repoUrl\":\"https://user:" TOKEN "@localhost:%d/o.git\","
                         "\"gitToken\":\"" TOKEN "\"," COMMIT_AND_PUSH,
                         host.web_port);
    struct reply *reply = good(runner_execute(
        runner, "date +%N >by_token; cat .git/config; env; ps axeww | grep -c ghp_ || true",
        fields));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    assert_null(strstr(reply->body, TOKEN));
    reply_free(reply);
    assert_true(says(sh("grep -rsl " TOKEN " %s || echo none", runner->state), "none"));
    free(fields);
}

static void wrong_tokens_missing_repositories_and_redirects_are_refused(void **state)
{
    (void)state;
    need_host();
    static const struct {
        const char *path, *token, *says;
    } cases[] = {{"o.git", "ghp_wrong_token", "Authentication failed"},
                 {"none.git", TOKEN, "not found"},
                 {"moved/o.git", TOKEN, "302"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *fields = textf("\"repoUrl\":\"https://localhost:%d/%s\",\"gitToken\":\"%s\"",
                             host.web_port, cases[i].path, cases[i].token);
        struct reply *reply = runner_execute(runner, "true", fields);
        assert_json_bool(reply->json, "success", false);
        assert_json_text(reply->json, "reason", "repo_error");
        assert_json_contains(reply->json, "error", cases[i].says);
        reply_free(reply);
        free(fields);
    }
}

static void private_hosts_are_refused_unless_allowed(void **state)
{
    (void)state;
    need_host();
    static const char *const urls[] = {"https://127.0.0.1/o/r", "https://169.254.169.254/x/y",
                                       "https://[::1]/o/r",     "https://192.168.1.1/o/r",
                                       "file:///etc",           "ssh://git@10.0.0.1/x"};
    for (size_t i = 0; i < COUNT(urls); i++) {
        char *fields = textf("\"repoUrl\":\"%s\"", urls[i]);
        struct reply *reply = runner_execute(runner, "true", fields);
        assert_status(reply, 400);
        assert_json_text(reply->json, "errors.0.field", "repoUrl");
        assert_json_contains(reply->json, "error", "GIT_ALLOW");
        reply_free(reply);
        free(fields);
    }
}

/* ---- getting work home ---- */

static void both_strategies_meet_a_push_that_overtook_them(void **state)
{
    (void)state;
    need_host();
    char *overtake = textf("echo mine >f4; echo new >mine_$RANDOM; cd %s/w && git pull -q && "
                           "true",
                           host.dir);
    free(overtake);
    free(sh("cd w; git pull -q; git tag -f before; git push -qf origin before; echo theirs >f4;"
            " git commit -qam theirs; git push -q origin main"));
    const char *at = "\"gitRef\":\"before\",\"gitBranch\":\"main\",";
    char *more = textf("%s\"postExecutionActions\":{\"git\":{\"commit\":true,\"push\":true,"
                       "\"conflictStrategy\":\"fail\"}}",
                       at);
    struct reply *reply = good(in_repo("echo mine >f4", more));
    const cJSON *commit = json_at(reply->json, "gitCommit");
    assert_json_bool(commit, "pushed", false);
    assert_json_contains(commit, "bundle", "repository.bundle");
    char *path = strdup(json_text(commit, "bundle"));
    struct reply *bundle = runner_get(runner, path);
    assert_status(bundle, 200);
    assert_int_equal(strncmp(bundle->body, "# v2 git bundle", 15), 0);
    reply_free(bundle);
    reply_free(reply);
    free(path);
    free(more);
    more = textf("%s" COMMIT_AND_PUSH, at);
    reply = good(in_repo("echo mine >f4; echo new >mine", more));
    commit = json_at(reply->json, "gitCommit");
    assert_json_bool(commit, "pushed", true);
    assert_json_text(json_at(commit, "recovery"), "method", "rebase");
    assert_true(says(sh("git -C o.git show main:f4 main:mine; git -C o.git fsck"), "mine\nnew\n"));
    assert_true(says(sh("git -C o.git log --format=%%s -2 main"), "theirs"));
    reply_free(reply);
    free(more);
}

static void hooks_filters_and_fsmonitor_of_a_workspace_do_not_run(void **state)
{
    (void)state;
    need_host();
    char *prompt = filled(
        "printf '#!/bin/sh\\ntouch @S/owned\\n' >.git/hooks-x; chmod +x .git/hooks-x;"
        " mkdir -p .git/hooks; for h in pre-commit post-commit pre-push post-checkout;"
        " do cp .git/hooks-x .git/hooks/$h; done; git config core.fsmonitor $PWD/.git/hooks-x;"
        " git config filter.x.clean $PWD/.git/hooks-x; git config core.sshCommand "
        "$PWD/.git/hooks-x;"
        " git config diff.external $PWD/.git/hooks-x; git config credential.helper"
        " '!touch @S/owned'; echo '* filter=x' >.gitattributes; echo q >hooked;"
        " git config remote.origin.pushurl ext::sh; true",
        runner->shared);
    struct reply *reply = good(in_repo(prompt, COMMIT_AND_PUSH));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    char *owned = textf("%s/owned", runner->shared);
    assert_int_equal(file_size(owned), -1);
    reply_free(reply);
    free(owned);
    free(prompt);
    free(sh(
        "cd w; git pull -q; git rm -q .gitattributes; git commit -qm x; git push -q origin main"));
}

static void the_runners_own_files_are_not_committed_and_files_limit_a_commit(void **state)
{
    (void)state;
    need_host();
    struct reply *reply =
        good(in_repo("cat .env; git add -f .env; echo a >wanted; echo b >unwanted; echo $SEC",
                     "\"environmentSecrets\":{\"SEC\":\"s3cr3t-value-1\"},\"preExecutionCommands\":"
                     "[\"echo $SEC >pre\"],"
                     "\"postExecutionActions\":{\"git\":{\"commit\":true,\"push\":true,\"files\":["
                     "\"wanted\",\".env\"]}}"));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    assert_null(strstr(reply->body, "s3cr3t-value-1"));
    assert_true(
        says(sh("git -C o.git show --stat --format= main"), " wanted | 1 +\n 1 file changed"));
    reply_free(reply);
}

/* Published callers name a place in a bucket, whether the runner has one or not. */
static void outputs_are_kept_here_where_there_is_no_bucket(void **state)
{
    (void)state;
    need_host();
    struct reply *reply =
        good(in_repo("seq 3 >n.txt", "\"postExecutionActions\":{\"uploadFiles\":{\"globPatterns\":"
                                     "[\"n.txt\"],\"gcsPrefix\":\"kept/here\"}}"));
    const cJSON *file = cJSON_GetArrayItem(json_at(reply->json, "uploadedFiles"), 0);
    assert_non_null(strstr(json_text(file, "uploadError"), "no bucket"));
    char *url = strdup(json_text(file, "url"));
    reply_free(reply);
    reply = runner_get(runner, url);
    assert_status(reply, 200);
    assert_string_equal(reply->body, "1\n2\n3\n");
    reply_free(reply);
    free(url);
}

static void outputs_come_back_whole_in_ranges_and_packed(void **state)
{
    (void)state;
    need_host();
    struct reply *reply = good(
        in_repo("mkdir -p r/s; seq 100000 >r/s/n.txt; ln -s /etc/passwd r/p.txt; mkfifo r/f.txt",
                "\"postExecutionActions\":{\"uploadFiles\":{\"globPatterns\":[\"r/**/*.txt\"]}}"));
    const cJSON *files = json_at(reply->json, "uploadedFiles");
    assert_int_equal(cJSON_GetArraySize(files), 1);
    char *url = strdup(json_text(cJSON_GetArrayItem(files, 0), "url"));
    reply_free(reply);
    reply = runner_get(runner, url);
    assert_status(reply, 200);
    assert_int_equal(reply->body_size, 588895);
    reply_free(reply);
    reply = http_call(runner->base, "GET", url, RUNNER_AUTH "Range: bytes=0-3\r\n", NULL);
    assert_status(reply, 206);
    assert_string_equal(reply->body, "1\n2\n");
    reply_free(reply);
    *(strstr(url, "/outputs/") + 8) = '\0';
    char *tgz = textf("%s.tgz", url);
    reply = runner_get(runner, tgz);
    assert_status(reply, 200);
    char *path = textf("%s/o.tgz", host.dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(reply->body, 1, reply->body_size, file), reply->body_size);
    assert_int_equal(fclose(file), 0);
    assert_true(says(sh("tar tzf o.tgz; tar xzOf o.tgz r/s/n.txt | tail -1"), "r/s/n.txt\n100000"));
    reply_free(reply);
    free(path);
    free(tgz);
    free(url);
}

static void what_a_task_changed_is_told_as_a_patch_and_by_file(void **state)
{
    (void)state;
    need_host();
    struct reply *reply = good(
        in_repo("echo changed >d/in; printf 'a\\0b' >bin; echo one >committed; git add committed;"
                " git commit -qm mine; echo $SEC >new; git checkout -q --detach; mkfifo .gitignore",
                "\"environmentSecrets\":{\"SEC\":\"s3cr3t-value-9\"}"));
    char *path = textf("/tasks/%s/diff", json_text(reply->json, "taskId"));
    reply_free(reply);
    reply = http_call(runner->base, "GET", path, RUNNER_AUTH "Accept: application/json\r\n", NULL);
    assert_status(reply, 200);
    static const char *const expected[][2] = {
        {"bin", "added"}, {"committed", "added"}, {"d/in", "modified"}, {"new", "added"}};
    const cJSON *files = json_at(reply->json, "files");
    assert_int_equal(cJSON_GetArraySize(files), COUNT(expected));
    for (int i = 0; i < (int)COUNT(expected); i++) {
        assert_json_text(cJSON_GetArrayItem(files, i), "path", expected[i][0]);
        assert_json_text(cJSON_GetArrayItem(files, i), "status", expected[i][1]);
        assert_json_bool(cJSON_GetArrayItem(files, i), "binary", i == 0);
    }
    assert_json_contains(cJSON_GetArrayItem(files, 2), "patch", "-in\n+changed\n");
    assert_json_contains(cJSON_GetArrayItem(files, 3), "patch", "+[redacted]\n");
    assert_json_bool(reply->json, "truncated", false);
    reply_free(reply);
    reply = runner_get(runner, path);
    assert_status(reply, 200);
    char *patch = textf("%s/task.patch", host.dir);
    write_file(patch, reply->body, 0644);
    assert_true(says(sh("git -C o.git ls-tree main d/in; git clone -q o.git applied; cd applied;"
                        " git apply --exclude=bin ../task.patch; cat d/in committed; ls -A"),
                     "changed\none\n"));
    reply_free(reply);
    free(patch);
    free(path);
}

static void a_task_without_a_repository_has_no_diff(void **state)
{
    (void)state;
    need_host();
    struct reply *reply = good(runner_execute(runner, "true", ""));
    char *path = textf("/tasks/%s/diff", json_text(reply->json, "taskId"));
    reply_free(reply);
    reply = runner_get(runner, path);
    assert_status(reply, 404);
    assert_non_null(strstr(reply->body, "no repository"));
    reply_free(reply);
    free(path);
}

static void neither_head_nor_a_planted_place_decides_what_is_kept(void **state)
{
    (void)state;
    need_host();
    struct reply *reply = good(
        in_repo("mkdir -p ../keep/outputs; echo planted >../keep/outputs/planted;"
                " touch ../keep/bundle; echo x >headless;"
                " git update-ref refs/heads/--force HEAD; git symbolic-ref HEAD refs/heads/--force",
                "\"postExecutionActions\":{\"git\":{\"commit\":true,\"push\":true},"
                "\"uploadFiles\":{\"globPatterns\":[\"headless\"]}}"));
    const cJSON *commit = json_at(reply->json, "gitCommit");
    assert_json_text(commit, "branch", "main");
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "uploadedFiles")), 1);
    char *path = textf("/tasks/%s/outputs", json_text(reply->json, "taskId"));
    reply_free(reply);
    reply = runner_get(runner, path);
    assert_null(strstr(reply->body, "planted"));
    assert_true(
        says(sh("git -C o.git for-each-ref --format='<%%(refname)>' refs/heads/-*; echo ."), "."));
    assert_true(says(sh("git -C o.git for-each-ref | grep -c -e --force || true"), "0"));
    reply_free(reply);
    free(path);
}

static void commands_after_claude_run_whatever_came_of_it(void **state)
{
    (void)state;
    need_host();
    static const char more[] =
        "\"postCommands\":[\"echo after; exit 5\",\"cat made >again\"],\"postExecutionActions\":"
        "{\"uploadFiles\":{\"globPatterns\":[\"again\"]}}";
    struct reply *reply = good(in_repo("echo x >made", more));
    const cJSON *said = json_at(reply->json, "postCommands");
    assert_int_equal(cJSON_GetArraySize(said), 2);
    assert_json_number(cJSON_GetArrayItem(said, 0), "exit_code", 5);
    assert_json_contains(cJSON_GetArrayItem(said, 0), "error", "ended with 5");
    assert_json_number(cJSON_GetArrayItem(said, 1), "exit_code", 0);
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "uploadedFiles")), 1);
    char *path = textf("/tasks/%s/events", json_text(reply->json, "taskId"));
    reply_free(reply);
    reply = runner_get(runner, path);
    assert_non_null(strstr(reply->body, "\"post_execution\""));
    assert_non_null(strstr(reply->body, "\"output\":\"after\\n\""));
    reply_free(reply);
    reply = in_repo("kill -9 $PPID $$", "\"postCommands\":[\"true\"]");
    assert_json_bool(reply->json, "success", false);
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "postCommands")), 1);
    reply_free(reply);
    free(path);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_workspace_is_what_a_clone_would_be),
        cmocka_unit_test(branches_tags_and_commits_are_checked_out),
        cmocka_unit_test(what_one_task_does_another_does_not_see),
        cmocka_unit_test(a_stale_tree_is_never_given),
        cmocka_unit_test(a_directory_inside_is_entered_and_none_outside),
        cmocka_unit_test(nothing_of_a_workspace_stays),
        cmocka_unit_test(every_kind_of_ssh_key_fetches_and_pushes),
        cmocka_unit_test(a_locked_key_and_a_changed_host_key_are_refused),
        cmocka_unit_test(a_token_goes_to_its_host_and_stays_nowhere),
        cmocka_unit_test(wrong_tokens_missing_repositories_and_redirects_are_refused),
        cmocka_unit_test(private_hosts_are_refused_unless_allowed),
        cmocka_unit_test(both_strategies_meet_a_push_that_overtook_them),
        cmocka_unit_test(hooks_filters_and_fsmonitor_of_a_workspace_do_not_run),
        cmocka_unit_test(the_runners_own_files_are_not_committed_and_files_limit_a_commit),
        cmocka_unit_test(outputs_are_kept_here_where_there_is_no_bucket),
        cmocka_unit_test(outputs_come_back_whole_in_ranges_and_packed),
        cmocka_unit_test(what_a_task_changed_is_told_as_a_patch_and_by_file),
        cmocka_unit_test(a_task_without_a_repository_has_no_diff),
        cmocka_unit_test(commands_after_claude_run_whatever_came_of_it),
        cmocka_unit_test(neither_head_nor_a_planted_place_decides_what_is_kept),
    };
    if (argc > 1)
        method = argv[1];
    if (argc > 2 && *argv[2])
        file_system = argv[2];
    if (argc > 3)
        cmocka_set_test_filter(argv[3]);
    return cmocka_run_group_tests_name("repos", tests, start_all, stop_all);
}
