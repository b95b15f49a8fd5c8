#include "repos_scene.h"

#include <signal.h>

/* ---- trouble ---- */

static void a_damaged_mirror_is_made_anew(void **state)
{
    (void)state;
    need_host();
    reply_free(good(in_repo("true", "")));
    free(sh("for d in %s/repos/*/; do [ -d $d/git ] || continue; rm -rf $d/tree-*; for p in "
            "$d/git/objects/pack/*.pack; do"
            " chmod u+w $p; cp $p $p.x; mv -f $p.x $p; truncate -s 40 $p; done; done",
            runner->state));
    struct reply *reply = good(in_repo("git fsck; git status --porcelain; ls d", ""));
    assert_json_text(reply->json, "output", "in");
    reply_free(reply);
}

static void what_a_killed_fetch_left_is_swept(void **state)
{
    (void)state;
    need_host();
    free(sh("for d in %s/repos/*/; do grep -q file:// $d/state || continue; touch "
            "$d/git/packed-refs.lock "
            "$d/git/HEAD.lock"
            " $d/git/objects/pack/tmp_pack_x; mkdir -p $d/git.new $d/refs-x.new; done; cd w;"
            " git pull -q; date +%%N >n; git add -A; git commit -qm n; git push -q origin main",
            runner->state));
    struct reply *reply = good(in_repo("git log -1 --format=%s", ""));
    assert_json_text(reply->json, "output", "n");
    reply_free(reply);
    assert_true(says(sh("ls -d %s/repos/*/*.new %s/repos/*/git/*.lock 2>/dev/null || echo none",
                        runner->state, runner->state),
                     "none"));
}

static void without_a_network_stale_is_only_given_to_who_takes_it(void **state)
{
    (void)state;
    need_host();
    char *fields = textf("\"repoUrl\":\"https://localhost:%d/o.git\",\"gitToken\":\"" TOKEN "\"",
                         host.web_port);
    char *stale = textf("%s,\"staleOk\":true", fields);
    reply_free(good(runner_execute(runner, "true", fields)));
    kill(host.nginx, SIGSTOP); /* a black hole: it accepts and never answers */
    free(sh("true"));
    int status;
    kill(host.nginx, SIGCONT);
    kill(host.nginx, SIGTERM);
    assert_true(proc_wait(host.nginx, 20000, &status));
    host.nginx = 0;
    struct reply *reply = runner_execute(runner, "true", fields);
    assert_json_bool(reply->json, "success", false);
    reply_free(reply);
    reply = good(runner_execute(runner, "ls d", stale));
    assert_json_bool(json_at(reply->json, "repo"), "stale", true);
    assert_json_text(reply->json, "output", "in");
    reply_free(reply);
    free(stale);
    free(fields);
}

static void many_tasks_at_once_on_one_repository_are_all_right(void **state)
{
    (void)state;
    need_host();
    char *ids[16];
    char *fields = file_fields("");
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = runner_submit(runner, "git fsck && git status --porcelain && cat d/in", fields);
    free(sh("cd w; git pull -q; for i in 1 2 3 4; do date +%%N >n; git add -A; git commit -qm $i; "
            "git push -q origin main; "
            "done"));
    for (size_t i = 0; i < COUNT(ids); i++) {
        EVENTUALLY(60000, runner_has_ended(runner, ids[i]));
        struct reply *reply = good(runner_result(runner, ids[i]));
        assert_json_text(reply->json, "output", "in");
        reply_free(reply);
        free(ids[i]);
    }
    free(fields);
}

static bool some_repository_is_in_use(void)
{
    struct reply *reply = runner_get(runner, "/repos");
    bool used = strstr(reply->body, "\"inUse\":1") != NULL;
    reply_free(reply);
    return used;
}

static void mirrors_are_listed_held_and_removed(void **state)
{
    (void)state;
    need_host();
    char *fields = file_fields("");
    char *id = runner_submit(runner, "sleep 600", fields);
    runner_await(runner, id, "running", 20000);
    EVENTUALLY(20000, some_repository_is_in_use());
    struct reply *reply = runner_delete(runner, "/repos");
    assert_problem(reply, 409, "conflict");
    reply_free(reply);
    char *cancel = textf("/tasks/%s", id);
    reply_free(runner_delete(runner, cancel));
    runner_await(runner, id, "cancelled", 20000);
    reply = runner_get(runner, "/repos");
    assert_status(reply, 200);
    assert_null(strstr(reply->body, TOKEN));
    assert_true(cJSON_GetArraySize(json_at(reply->json, "mirrors")) >= 1);
    assert_json_has(reply->json, "mirrors.0.url");
    assert_non_null(strchr(json_text(reply->json, "repos.0"), '/')); /* owner/name */
    reply_free(reply);
    reply = runner_delete(runner, "/repos");
    assert_status(reply, 200);
    reply_free(reply);
    free(cancel);
    free(id);
    free(fields);
}

static void too_little_disk_is_answered_with_the_numbers(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    runner_set(own, "DISK_MIN_FREE_MB", "99999999");
    runner_start(own);
    struct reply *reply = runner_execute(own, "x", "");
    assert_problem(reply, 507, "insufficient_storage");
    assert_json_contains(reply->json, "detail", "99999999");
    reply_free(reply);
    reply = runner_get(own, "/health");
    assert_non_null(strstr(reply->body, "disk_low"));
    reply_free(reply);
    runner_free(own);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_mirror_is_made_anew),
        cmocka_unit_test(what_a_killed_fetch_left_is_swept),
        cmocka_unit_test(many_tasks_at_once_on_one_repository_are_all_right),
        cmocka_unit_test(mirrors_are_listed_held_and_removed),
        cmocka_unit_test(without_a_network_stale_is_only_given_to_who_takes_it),
        cmocka_unit_test(too_little_disk_is_answered_with_the_numbers),
    };
    if (argc > 1)
        method = argv[1];
    if (argc > 2 && *argv[2])
        file_system = argv[2];
    if (argc > 3)
        cmocka_set_test_filter(argv[3]);
    return cmocka_run_group_tests_name("repos_trouble", tests, start_all, stop_all);
}
