#include "repos_hostile_scene.h"

#include <errno.h>
#include <string.h>

static void many_pushes_and_a_stranger_all_get_home(void **state)
{
    (void)state;
    need_host();
    char *ids[16];
    free(sh("git clone -q o.git stranger; git -C o.git rev-list --count main >count"));
    char *fields = textf("\"repoUrl\":\"file://%s\"," PUSH, host.remote);
    for (size_t i = 0; i < COUNT(ids); i++) {
        char *prompt = textf("echo %zu >task_%zu", i, i);
        ids[i] = runner_submit(runner, prompt, fields);
        free(prompt);
    }
    free(
        sh("cd stranger; for i in 1 2 3 4; do date +%%N >s$i; git add -A; git commit -qm s$i;"
           " until git pull -q --rebase && git push -q origin main; do :; done 2>/dev/null; done"));
    for (size_t i = 0; i < COUNT(ids); i++) {
        EVENTUALLY(60000, runner_has_ended(runner, ids[i]));
        struct reply *reply = good(runner_result(runner, ids[i]));
        if (!cJSON_IsTrue(json_at(json_at(reply->json, "gitCommit"), "pushed")))
            fail_msg("%s", reply->body);
        reply_free(reply);
        free(ids[i]);
    }
    char *said = sh(
        "git -C o.git ls-tree --name-only main | grep -c '^task_'; git -C o.git fsck --no-dangling;"
        " echo $(($(git -C o.git rev-list --count main) - $(cat count)))");
    assert_string_equal(said, "16\n20\n");
    free(said);
    free(fields);
}

/* ---- getting work home ---- */

static void a_commit_that_the_server_refuses_is_kept_as_a_bundle(void **state)
{
    (void)state;
    need_host();
    free(sh("git clone -q --bare o.git closed.git; printf '#!/bin/sh\\necho no such luck >&2\\nexit"
            " 1\\n' >closed.git/hooks/pre-receive; chmod +x closed.git/hooks/pre-receive"));
    struct reply *reply = good(in(runner, "closed.git", "echo precious >work", PUSH));
    const cJSON *commit = json_at(reply->json, "gitCommit");
    assert_json_bool(commit, "pushed", false);
    assert_json_bool(commit, "committed", true);
    assert_json_contains(commit, "error", "pre-receive hook declined");
    fetch_bundle(runner, commit);
    char *sha = strdup(json_text(commit, "sha"));
    reply_free(reply);
    char *said = sh("git clone -q closed.git reader; cd reader; git bundle verify -q "
                    "../kept.bundle >/dev/null 2>&1;"
                    " git fetch -q ../kept.bundle refs/heads/main; git show FETCH_HEAD:work;"
                    " git rev-parse FETCH_HEAD; git fsck --no-dangling");
    char *expected = textf("precious\n%s\n", sha);
    assert_string_equal(said, expected);
    free(expected);
    free(said);
    free(sha);
}

static void the_first_commit_of_an_empty_repository_gets_home_or_is_kept(void **state)
{
    (void)state;
    need_host();
    free(sh("git init -q --bare -b trunk empty.git; git init -q --bare -b trunk shut.git;"
            " printf '#!/bin/sh\\nexit 1\\n' >shut.git/hooks/pre-receive;"
            " chmod +x shut.git/hooks/pre-receive"));
    struct reply *reply = good(in(runner, "empty.git", "git status -sb; echo 1 >first", PUSH));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    reply_free(reply);
    assert_true(says(sh("git -C empty.git log --all --format=%%s%%n%%an --name-only"),
                     "Changes made by Claude Code\nClaude Code\n\nfirst"));
    reply = good(in(runner, "shut.git", "echo 1 >first", PUSH));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", false);
    fetch_bundle(runner, json_at(reply->json, "gitCommit"));
    reply_free(reply);
    assert_true(says(
        sh("git clone -q -b main kept.bundle whole; cat whole/first; git -C whole fsck"), "1\n"));
}

static void what_cannot_be_rebased_replaces_only_what_it_has_seen(void **state)
{
    (void)state;
    need_host();
    free(sh("git clone -q --bare o.git lease.git; git clone -q lease.git lw; cd lw; echo t >theirs;"
            " git add -A; git commit -qm theirs; git push -q origin HEAD:refs/heads/waiting"));
    char *go = textf("%s/go", runner->shared);
    char *prompt = textf("git checkout -qb side; echo s >side; git add -A; git commit -qm side;"
                         " git checkout -q main; echo m >m; git add -A; git commit -qm m;"
                         " git merge -q --no-ff -m merged side; touch %s/ready;"
                         " while [ ! -e %s ]; do sleep 0.05; done",
                         runner->shared, go);
    char *fields = textf("\"repoUrl\":\"file://%s/lease.git\"," PUSH, host.dir);
    char *id = runner_submit(runner, prompt, fields);
    EVENTUALLY(60000, says(sh("ls %s", runner->shared), "ready"));
    char *theirs = sh("cd lw; git push -q origin HEAD:main; git rev-parse HEAD");
    theirs[strcspn(theirs, "\n")] = '\0';
    write_file(go, "", 0644);
    EVENTUALLY(60000, runner_has_ended(runner, id));
    struct reply *reply = good(runner_result(runner, id));
    const cJSON *commit = json_at(reply->json, "gitCommit");
    assert_json_bool(commit, "pushed", true);
    assert_json_text(json_at(commit, "recovery"), "method", "force-with-lease");
    assert_json_text(json_at(commit, "recovery"), "remoteSha", theirs);
    char *said =
        sh("git -C lease.git log -1 --format='%%H %%s' main; git -C lease.git fsck --no-dangling");
    char *expected = textf("%s merged\n", json_text(commit, "sha"));
    assert_string_equal(said, expected);
    free(expected);
    free(said);
    reply_free(reply);
    free(theirs);
    free(id);
    free(fields);
    free(prompt);
    free(go);
}

static void who_commits_what_and_where_is_as_asked(void **state)
{
    (void)state;
    need_host();
    free(sh(
        "git clone -q o.git idw; cd idw; printf '[user]\\nname = Iris\\nemail = i@example.org\\n'"
        " >.gitconfig; git add -A; git commit -qm id; cd ..; git clone -q --bare idw id.git"));
    struct reply *reply = good(
        in(runner, "id.git", "echo 1 >one",
           "\"postExecutionActions\":{\"git\":{\"commit\":true,\"commitMessage\":\"mine\\n\\nand"
           " more\",\"push\":true,\"branch\":\"claude/new\"}}"));
    assert_json_text(json_at(reply->json, "gitCommit"), "branch", "claude/new");
    reply_free(reply);
    assert_true(says(sh("git -C id.git log -1 --format='%%an <%%ae>|%%cn|%%B' claude/new"),
                     "Iris <i@example.org>|Iris|mine\n\nand more"));
    assert_true(says(sh("git -C id.git log -1 --format=%%s main"), "id"));
    reply = good(in(runner, "id.git", "true", PUSH));
    assert_json_bool(json_at(reply->json, "gitCommit"), "committed", false);
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", false);
    reply_free(reply);
}

/* The runner reads the owner's key when it uses it: a key that was replaced while the task ran is
 * the new one. */
static void the_key_of_the_push_is_the_one_of_that_moment(void **state)
{
    (void)state;
    need_host();
    struct runner *own = githost_runner("");
    free(sh("cp k_ed25519 owner; chmod 600 owner; cp auth auth.all"));
    char *key = textf("%s/owner", host.dir), *go = textf("%s/go", own->shared);
    runner_set(own, "GIT_SSH_KEY_FILE", key);
    runner_start(own);
    char *prompt =
        textf("echo k >by_new_key; touch %s/ready; while [ ! -e %s ]; do sleep 0.05; done",
              own->shared, go);
    char *fields =
        textf("\"repoUrl\":\"ssh://root@localhost:%d%s\"," PUSH, host.ssh_port, host.remote);
    char *id = runner_submit(own, prompt, fields);
    EVENTUALLY(60000, says(sh("ls %s", own->shared), "ready"));
    free(sh("cp k_ecdsa owner; cat k_ecdsa.pub >auth"));
    write_file(go, "", 0644);
    EVENTUALLY(60000, runner_has_ended(own, id));
    struct reply *reply = good(runner_result(own, id));
    free(sh("cp auth.all auth"));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    reply_free(reply);
    free(id);
    free(fields);
    free(prompt);
    free(go);
    free(key);
    runner_free(own);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_pushes_and_a_stranger_all_get_home),
        cmocka_unit_test(a_commit_that_the_server_refuses_is_kept_as_a_bundle),
        cmocka_unit_test(the_first_commit_of_an_empty_repository_gets_home_or_is_kept),
        cmocka_unit_test(what_cannot_be_rebased_replaces_only_what_it_has_seen),
        cmocka_unit_test(who_commits_what_and_where_is_as_asked),
        cmocka_unit_test(the_key_of_the_push_is_the_one_of_that_moment),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("repos_push", tests, start_all, stop_all);
}
