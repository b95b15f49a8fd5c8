#include "repos_hostile_scene.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* ---- keeping house ---- */

static bool packs_are_few(const char *state)
{
    char *said =
        sh("for s in $(grep -l many.git %s/repos/*/state); do ls $(dirname $s)/git/objects/pack/"
           "*.pack 2>/dev/null | wc -l; done", /* the janitor removes some meanwhile */
           state);
    bool few = number(said) > 0 && number(said) < 5;
    free(said);
    return few;
}

/* Waits until the task is in its workspace: the state "running" begins earlier. */
static void await_begun(const char *go)
{
    char *began = textf("%s.began", go);
    EVENTUALLY(30000, access(began, F_OK) == 0);
    free(began);
}

static void many_packs_become_one_under_a_workspace_that_goes_on(void **state)
{
    (void)state;
    need_host();
    struct runner *own = githost_runner("");
    runner_set(own, "JANITOR_SECONDS", "1");
    runner_start(own);
    free(sh("git clone -q --bare o.git many.git; git clone -q many.git mw"));
    char *go = textf("%s/go", own->shared);
    char *prompt = textf("touch %s.began; while [ ! -e %s ]; do sleep 0.05; done; git fsck &&"
                         " git log --oneline | wc -l && git status --porcelain",
                         go, go);
    char *fields = textf("\"repoUrl\":\"file://%s/many.git\"", host.dir);
    char *count = sh("git -C many.git rev-list --count main");
    count[strcspn(count, "\n")] = '\0';
    char *id = runner_submit(own, prompt, fields);
    await_begun(go);
    for (int i = 0; i < 26; i++) {
        free(sh("cd mw; date +%%N >n; git add -A; git commit -qm n%d; git push -q origin main", i));
        reply_free(good(in(own, "many.git", "true", "")));
    }
    EVENTUALLY(60000, packs_are_few(own->state));
    write_file(go, "", 0644);
    EVENTUALLY(60000, runner_has_ended(own, id));
    struct reply *reply = good(runner_result(own, id));
    assert_json_text(reply->json, "output", count);
    reply_free(reply);
    reply = good(in(own, "many.git", "git fsck; git rev-list --count HEAD", ""));
    char *expected = textf("%d", number(count) + 26);
    assert_json_text(reply->json, "output", expected);
    reply_free(reply);
    EVENTUALLY(20000,
               says(sh("find %s/repos -name repack 2>/dev/null | wc -l", own->state), "0\n"));
    free(expected);
    free(id);
    free(count);
    free(fields);
    free(prompt);
    free(go);
    runner_free(own);
}

static void the_cache_keeps_to_its_size_and_nobody_loses_ground(void **state)
{
    (void)state;
    need_host();
    struct runner *own = githost_runner("");
    runner_set(own, "JANITOR_SECONDS", "1");
    runner_set(own, "REPO_CACHE_MAX_MB", "8");
    runner_start(own);
    free(sh(
        "for r in old held new; do git init -q -b main c_$r; cd c_$r; head -c 3000000 /dev/urandom"
        " >r; git add r; git commit -qm r; cd ..; git clone -q --bare c_$r c_$r.git; done"));
    char *go = textf("%s/go", own->shared);
    char *prompt = textf("touch %s.began; while [ ! -e %s ]; do sleep 0.05; done; git fsck &&"
                         " git status --porcelain && wc -c <r",
                         go, go);
    char *fields = textf("\"repoUrl\":\"file://%s/c_held.git\"", host.dir);
    char *id = runner_submit(own, prompt, fields);
    await_begun(go);
    reply_free(good(in(own, "c_old.git", "true", "")));
    reply_free(good(in(own, "c_new.git", "true", "")));
    EVENTUALLY(60000, says(sh("grep -l c_old.git %s/repos/*/state 2>/dev/null || echo evicted",
                              own->state),
                           "evicted"));
    char *path = textf("/tasks/%s", id);
    struct reply *reply = runner_get(own, path);
    assert_json_text(reply->json, "status", "running");
    reply_free(reply);
    write_file(go, "", 0644);
    EVENTUALLY(60000, runner_has_ended(own, id));
    reply = good(runner_result(own, id));
    assert_json_text(reply->json, "output", "3000000");
    reply_free(reply);
    EVENTUALLY(
        20000,
        says(sh("[ $(du -sm %s/repos 2>/dev/null | cut -f1) -le 9 ] && echo small || echo big",
                own->state),
             "small"));
    reply_free(good(in(own, "c_old.git", "git fsck", "")));
    free(path);
    free(id);
    free(fields);
    free(prompt);
    free(go);
    runner_free(own);
}

/* ---- a full disk ---- */

/* A runner with a login whose state and credentials are on a file system of 40 MB. */
static struct runner *on_a_small_disk(const struct api *tokens, const char *small)
{
    char *url = textf("%s/v1/oauth/token", tokens->base);
    struct runner *own = githost_runner("");
    free(sh("mkdir -p '%s'; mount -t tmpfs -o size=40m,mode=755 tmpfs '%s'; mkdir '%s/config'",
            small, small, small));
    free(own->state);
    free(own->config);
    own->state = textf("%s/state", small);
    own->config = textf("%s/config", small);
    char *login = textf("%s/.credentials.json", own->config);
    write_file(login,
               "{\"claudeAiOauth\":{\"accessToken\":\"" API_TOKEN
               "\",\"refreshToken\":\"" REFRESH_TOKEN
               "\",\"expiresAt\":4102444800000,\"scopes\":[\"user:inference\"]},\"kept\":[1,2]}",
               0600);
    runner_set(own, "RUNNER_STATE_DIR", own->state);
    runner_set(own, "CLAUDE_CONFIG_DIR", own->config);
    runner_set(own, "ANTHROPIC_API_KEY", NULL);
    runner_set(own, "OAUTH_TOKEN_URL", url);
    runner_set(own, "DISK_MIN_FREE_MB", "0");
    api_control(tokens, "{\"next\":[{\"access\":\"new-access\",\"refresh\":\"new-refresh\"}]}");
    free(login);
    free(url);
    return own;
}

/* Each refresh token works once: a lost token, or an older one in the file, would fail at the next
 * refresh. */
static void assert_login_is_whole(const struct runner *own, const struct api *tokens)
{
    char *path = textf("%s/.credentials.json", own->config), *text = read_file(path, NULL);
    struct reply *control = http_call(tokens->base, "GET", "/_control", NULL, NULL);
    assert_json_number(control->json, "reuses", 0);
    assert_non_null(text);
    cJSON *root = cJSON_Parse(text);
    assert_non_null(root);
    assert_true(strlen(json_text(json_at(root, "claudeAiOauth"), "refreshToken")) > 10);
    assert_non_null(strstr(text, "\"kept\""));
    cJSON_Delete(root);
    reply_free(control);
    free(text);
    free(path);
}

/* A task whose end cannot be stored says so in the log, and waits. */
static bool complains_of_room(const struct runner *own, long from)
{
    char *text = read_file(own->log, NULL);
    bool does = strstr(text + from, "cannot store the outcome") != NULL ||
                strstr(text + from, "cannot start the task") != NULL;
    free(text);
    return does;
}

static void assert_it_ended(struct runner *own, const char *id, int kib)
{
    EVENTUALLY(60000, runner_has_ended(own, id));
    struct reply *reply = runner_result(own, id);
    bool good = cJSON_IsTrue(json_at(reply->json, "success"));
    const cJSON *error = json_at(reply->json, "error");
    if (!good && !(cJSON_IsString(error) && *error->valuestring))
        fail_msg("%d KiB: %s", kib, reply->body);
    print_message("%5d KiB free: %s\n", kib, good ? "done" : error->valuestring);
    reply_free(reply);
}

/* With any amount of room left, a task is refused, or it ends with a reason once there is room for
 * the reason. */
static void run_with_room_of(struct runner *own, const char *small, int kib)
{
    static const char *const more[] = {
        "", "," PUSH,
        ",\"environmentSecrets\":{\"A\":\"b\"},\"postExecutionActions\":{\"uploadFiles\":"
        "{\"globPatterns\":[\"*\"]}}"};
    char *ids[COUNT(more)] = {NULL};
    long from = file_size(own->log);
    free(sh("cd '%s'; n=$(($(df --output=avail -k . | tail -1) - %d)); [ $n -le 0 ] ||"
            " head -c ${n}k /dev/zero >fill || true", /* the runner writes, too */
            small, kib));
    for (size_t i = 0; i < COUNT(more); i++) {
        char *fields = textf("\"repoUrl\":\"file://%s\"%s", host.remote, more[i]);
        char *body = prompt_json("echo x >x; head -c 3000000 /dev/zero >y; ls", fields);
        struct reply *reply = runner_post(own, "/run-async", body);
        if (reply->status == 202)
            ids[i] = strdup(json_text(reply->json, "taskId"));
        else
            assert_in_range(reply->status, 500, 507);
        reply_free(reply);
        free(body);
        free(fields);
    }
    reply_free(runner_post(own, "/oauth/refresh", "{}"));
    for (size_t i = 0; i < COUNT(more); i++)
        if (ids[i])
            EVENTUALLY(60000, runner_has_ended(own, ids[i]) || complains_of_room(own, from));
    free(sh("rm -f '%s/fill'", small));
    for (size_t i = 0; i < COUNT(more); i++)
        if (ids[i])
            assert_it_ended(own, ids[i], kib);
    for (size_t i = 0; i < COUNT(more); i++)
        free(ids[i]);
}

static void a_full_disk_ends_tasks_clearly_and_harms_nothing(void **state)
{
    (void)state;
    need_host();
    static const int rooms[] = {0, 4, 16, 48, 100, 200, 400, 1000, 3000, 6000};
    struct api *tokens = token_server_new();
    char *small = textf("%s/small", host.dir);
    struct runner *own = on_a_small_disk(tokens, small);
    char *fields = textf("\"repoUrl\":\"file://%s\"", host.remote);
    runner_start(own);
    reply_free(good(runner_execute(own, "true", fields)));
    for (size_t i = 0; i < COUNT(rooms); i++) {
        run_with_room_of(own, small, rooms[i]);
        assert_login_is_whole(own, tokens);
    }
    free(sh("rm -f '%s/fill'", small));
    struct reply *reply =
        good(runner_execute(own, "git fsck; git status --porcelain; cat d/in", fields));
    assert_json_text(reply->json, "output", "in");
    reply_free(reply);
    reply = runner_get(own, "/tasks?status=running");
    assert_null(strstr(reply->body, "\"id\""));
    reply_free(reply);
    assert_int_equal(runner_stop(own, 60000), 0);
    assert_true(
        says(sh("for f in '%s'/*.db; do sqlite3 $f 'pragma integrity_check'; done", own->state),
             "ok\n"));
    assert_login_is_whole(own, tokens);
    runner_start(own);
    reply_free(good(runner_execute(own, "true", fields)));
    reply = runner_post(own, "/oauth/refresh", "{}");
    assert_status(reply, 200);
    reply_free(reply);
    assert_login_is_whole(own, tokens);
    runner_stop(own, 60000);
    free(sh("umount -l '%s'", small)); /* the runner's last processes may still be there */
    runner_free(own);
    api_free(tokens);
    free(fields);
    free(small);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cache_keeps_to_its_size_and_nobody_loses_ground),
        cmocka_unit_test(a_full_disk_ends_tasks_clearly_and_harms_nothing),
        cmocka_unit_test(many_packs_become_one_under_a_workspace_that_goes_on),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("repos_room", tests, start_all, stop_all);
}
