#include "repos_hostile_scene.h"

#include <errno.h>
#include <string.h>

static void uploads_are_plain_files_and_bounded(void **state)
{
    (void)state;
    need_host();
    struct reply *reply = good(in(
        runner, "o.git",
        "mkdir -p up/a/b; for i in $(seq 1010); do echo $i >up/a/b/$i.txt; done; mkfifo up/p.txt;"
        " ln -s /etc up/etc.txt; ln -s ../d/in up/in.txt; ln -s a up/dir; mkdir up/d.txt",
        "\"postExecutionActions\":{\"uploadFiles\":{\"globPatterns\":[\"up/**/*.txt\"]}}"));
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "uploadedFiles")), 1000);
    assert_int_equal((int)json_at(reply->json, "uploadsSkipped")->valuedouble, 10 + 3);
    reply_free(reply);
}

/* Mirrors and libgit2 know SHA-1 only. An empty repository does not tell what it is before the
 * first push. */
static void a_repository_of_sha_256_is_refused_by_name(void **state)
{
    (void)state;
    need_host();
    free(sh("git init -q -b main --object-format=sha256 w256; cd w256; echo x >a; git add a; "
            "git commit -qm a; cd ..; git clone -q --bare w256 full256.git; "
            "git init -q --bare -b main --object-format=sha256 empty256.git"));
    static const char *const fields[] = {"", "\"gitDepth\":1", "\"gitPush\":true"};
    for (size_t i = 0; i < COUNT(fields); i++) {
        struct reply *reply = in(runner, "full256.git", "true", fields[i]);
        assert_json_contains(reply->json, "error", "/full256.git': git fetch: ");
        assert_failed(reply, "repo_error", "names its objects by SHA-256");
    }
    struct reply *reply = good(in(runner, "empty256.git", "echo 1 >first", PUSH));
    const cJSON *commit = json_at(reply->json, "gitCommit");
    assert_json_bool(commit, "pushed", false);
    assert_json_contains(commit, "error", "names its objects by SHA-256");
    assert_json_has(commit, "bundle"); /* the work is not lost */
    reply_free(reply);
    reply = good(in(runner, "empty256.git",
                    "date >x; git add x; git commit -qm x; git push origin HEAD:main 2>&1 || true",
                    "\"gitPush\":true"));
    assert_json_contains(reply->json, "output", "remote rejected");
    assert_json_contains(reply->json, "output", "names its objects by SHA-256");
    reply_free(reply);
}

/* ---- before Claude ---- */

static void secrets_are_what_they_were_and_never_in_git(void **state)
{
    (void)state;
    need_host();
    free(sh(
        "git clone -q o.git envw; cd envw; echo OLD=1 >.env; git add -f .env; git commit -qm env;"
        " cd ..; git clone -q --bare envw env.git"));
    struct reply *reply = good(in(runner, "env.git",
                                  "printenv NL | wc -l; [ \"$Q\" = \"a'b\\\"c\" ] && echo q; [ "
                                  "\"$D\" = '$(touch x) `y` ${Z} \\' ] &&"
                                  " echo d; q=$Q d=$D; unset Q D; . ./.env; [ \"$Q\" = \"$q\" ] && "
                                  "[ \"$D\" = \"$d\" ] && echo same;"
                                  " ls x 2>/dev/null; stat -c %a .env; echo 1 >done",
                                  "\"environmentSecrets\":{\"NL\":\"line-one\\nline-two\\n\",\"Q\":"
                                  "\"a'b\\\"c\",\"D\":\"$(touch x)"
                                  " `y` ${Z} \\\\\"}," PUSH));
    assert_json_text(reply->json, "output", "3\nq\nd\nsame\n600");
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    reply_free(reply);
    assert_true(
        says(sh("git -C env.git show --format= --name-only main; git -C env.git show main:.env"),
             "done\nOLD=1\n"));
}

static void commands_before_are_shown_and_end_with_their_whole_tree(void **state)
{
    (void)state;
    need_host();
    char *marks[] = {proc_mark(7531), proc_mark(7532)};
    struct reply *reply = NULL;
    for (int ms = 8000; !reply; ms *= 4) { /* so long that it gets to the commands */
        char *more = textf("\"timeout_ms\":%d,\"preExecutionCommands\":[\"echo so far >&2;"
                           " setsid sleep %s & sleep %s\"]",
                           ms, marks[0], marks[1]);
        reply = in(runner, "o.git", "true", more);
        if (ms < 100000 && !strstr(json_text(reply->json, "error"), "preExecutionCommands")) {
            reply_free(reply);
            reply = NULL;
        }
        free(more);
    }
    assert_failed(reply, "timeout", "preExecutionCommands");
    for (size_t i = 0; i < COUNT(marks); i++) {
        assert_int_equal(proc_with_argument(marks[i]), 0);
        free(marks[i]);
    }
    char *fields =
        textf("\"repoUrl\":\"file://%s\",\"preExecutionCommands\":[\"echo one\",\"echo two;"
              " exit 7\",\"touch %s/three\"]",
              host.remote, runner->shared);
    char *id = runner_submit(runner, "true", fields);
    EVENTUALLY(60000, runner_has_ended(runner, id));
    reply = runner_result(runner, id);
    assert_failed(reply, "pre_execution", "ended with 7");
    char *path = textf("/tasks/%s/events", id);
    reply = runner_get(runner, path);
    assert_non_null(strstr(reply->body, "\"output\":\"one\\n\""));
    assert_non_null(strstr(reply->body, "\"output\":\"two\\n\""));
    reply_free(reply);
    char *third = textf("%s/three", runner->shared);
    assert_int_equal(file_size(third), -1);
    free(third);
    free(path);
    free(id);
    free(fields);
}

static void what_claude_is_given_is_where_it_looks_and_not_in_the_repository(void **state)
{
    (void)state;
    need_host();
    struct reply *reply = good(
        in(runner, "o.git",
           "cat $CLAUDE_CONFIG_DIR/commands/hi.md; grep -c mcpServers $CLAUDE_CONFIG_DIR/mcp.json;"
           " git status --porcelain --ignored; ls -A | grep -v -e '^f' -e '^n$'",
           "\"slashCommands\":{\"hi\":\"say hi\"},\"mcpConfig\":{\"mcpServers\":{}},\"subagents\":"
           "{\"x\":{\"description\":\"d\",\"prompt\":\"p\"}}"));
    assert_json_contains(reply->json, "output", "say hi1\n");
    assert_null(strstr(json_text(reply->json, "output"), "!!"));
    assert_null(strstr(json_text(reply->json, "output"), "??"));
    reply_free(reply);
    static const char *const names[] = {"../out", "/etc/x", "a/b", "..", "-x", ".hidden", ""};
    for (size_t i = 0; i < COUNT(names); i++) {
        char *more = textf("\"slashCommands\":{\"%s\":\"x\"}", names[i]);
        char *fields = textf("\"repoUrl\":\"file://%s\",%s", host.remote, more);
        reply = runner_execute(runner, "true", fields);
        if (reply->status != 400 && !cJSON_IsFalse(json_at(reply->json, "success")))
            fail_msg("%s: %s", names[i], reply->body);
        reply_free(reply);
        free(fields);
        free(more);
    }
}

/* ---- the list, as the first runner had it ---- */

/* The id of the first mirror while a task uses it; the caller frees it. NULL: none is in use. */
static char *mirror_in_use(void)
{
    struct reply *reply = runner_get(runner, "/repos");
    const cJSON *first = cJSON_GetArrayItem(json_at(reply->json, "mirrors"), 0);
    const cJSON *users = first ? json_at(first, "inUse") : NULL;
    char *id = users && users->valueint > 0 ? strdup(json_text(first, "id")) : NULL;
    reply_free(reply);
    return id;
}

static int drop(const char *path)
{
    struct reply *reply = runner_delete(runner, path);
    int status = reply->status;
    if (status == 200)
        assert_json_bool(reply->json, "cleared", true);
    reply_free(reply);
    return status;
}

static void repositories_are_listed_by_name_and_dropped_unless_in_use(void **state)
{
    (void)state;
    need_host();
    char *mirror = NULL;
    char *body = textf("{\"command\":\"until [ -e '%s/stop' ]; do sleep 0.1; done\","
                       "\"repoUrl\":\"file://%s\",\"detach\":true}",
                       runner->shared, host.remote);
    assert_int_equal(drop("/repos"), 200);
    struct reply *reply =
        http_call(runner->base, "POST", "/exec",
                  RUNNER_AUTH "Content-Type: application/json\r\nPrefer: wait=0\r\n", body);
    assert_status(reply, 202);
    reply_free(reply);
    EVENTUALLY(20000, (mirror = mirror_in_use()) != NULL);
    char *path = textf("/repos/%s", mirror);
    assert_int_equal(drop(path), 409);
    assert_int_equal(drop("/repos"), 409);
    assert_int_equal(drop("/repos/0123456789abcdef0123456789abcdef01234567"), 404);
    reply = runner_get(runner, "/repos");
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "repos")), 1);
    assert_true(cJSON_IsString(cJSON_GetArrayItem(json_at(reply->json, "repos"), 0)));
    reply_free(reply);
    free(sh("touch %s/stop", runner->shared));
    EVENTUALLY(20000, drop(path) == 200);
    assert_int_equal(drop("/repos"), 200);
    reply = runner_get(runner, "/repos");
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "repos")), 0);
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "mirrors")), 0);
    reply_free(reply);
    free(path);
    free(mirror);
    free(body);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repository_of_sha_256_is_refused_by_name),
        cmocka_unit_test(uploads_are_plain_files_and_bounded),
        cmocka_unit_test(secrets_are_what_they_were_and_never_in_git),
        cmocka_unit_test(commands_before_are_shown_and_end_with_their_whole_tree),
        cmocka_unit_test(what_claude_is_given_is_where_it_looks_and_not_in_the_repository),
        cmocka_unit_test(repositories_are_listed_by_name_and_dropped_unless_in_use),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("repos_given", tests, start_all, stop_all);
}
