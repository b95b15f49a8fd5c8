/*
 * The initial contents of sessions: repositories and snapshots, over restarts, and what is refused.
 */
#include "session.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct runner *shared;
static char *url;

/* A repository of a few files, in the directory that tasks may read. */
static void make_repository(const struct runner *runner)
{
    char *script = textf(
        "set -e; cd '%s'; git init -q -b main project; cd project; mkdir dir; "
        "echo one >one.txt; echo two >dir/two.txt; ln -s one.txt link; "
        "git add .; git -c user.name=T -c user.email=t@example.com commit -qm first; "
        "git tag v1; git checkout -q -b other; echo other >one.txt; "
        "git -c user.name=T -c user.email=t@example.com commit -qam second; git checkout -q main; "
        "git clone -q --bare . '%s/project.git'",
        runner->shared, runner->shared);
    proc_shell(script);
    free(script);
    url = textf("file://%s/project.git", runner->shared);
}

static struct runner *get(void)
{
    if (shared)
        return shared;
    shared = runner_new();
    char *allow = textf("file:%s", shared->shared);
    runner_set(shared, "GIT_ALLOW", allow);
    runner_set(shared, "SESSIONS_MAX", "12");
    free(allow);
    make_repository(shared);
    runner_start(shared);
    return shared;
}

static int start(void **state)
{
    (void)state;
    get();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (shared)
        runner_free(shared);
    free(url);
    return 0;
}

static struct reply *post(char *body)
{
    struct reply *reply = runner_post(get(), "/sessions", body);
    free(body);
    return reply;
}
#define make(format, text) post(textf(format, text))

static void made(struct reply *reply)
{
    assert_status(reply, 201);
    reply_free(reply);
}
#define makes(format, text) made(make(format, text))

static void refuses(const char *method, const char *path, const char *body, int status,
                    const char *words)
{
    struct reply *reply = http_call(get()->base, method, path,
                                    RUNNER_AUTH "Content-Type: application/json\r\n", body);
    assert_problem(reply, status, NULL);
    if (!strstr(reply->body, words))
        fail_msg("'%s' is not in %s", words, reply->body);
    reply_free(reply);
}

static void prints(const char *id, const char *command, const char *want)
{
    struct done *done = session_run(get(), id, command, "");
    if (strcmp(done->out, want) != 0)
        fail_msg("%s: '%s' and '%s', not '%s'", command, done->out, done->err, want);
    done_free(done);
}

static void snapshot(const char *session, const char *id)
{
    char *path = textf("/sessions/%s/snapshot", session), *body = textf("{\"id\":\"%s\"}", id);
    struct reply *reply = runner_post(get(), path, body);
    assert_status(reply, 201);
    assert_json_text(reply->json, "id", id);
    assert_json_text(reply->json, "session", session);
    assert_json_text(reply->json, "state", "ready");
    reply_free(reply);
    free(path);
    free(body);
}

static void removes(const char *path, bool there)
{
    struct reply *reply = runner_delete(get(), path);
    assert_status(reply, 200);
    assert_int_equal(strstr(reply->body, "\"deleted\":true") != NULL, there);
    reply_free(reply);
}

static void a_session_begins_with_a_repository(void **state)
{
    (void)state;
    struct reply *reply = make("{\"id\":\"repo\",\"repoUrl\":\"%s\",\"layered\":true}", url);
    assert_status(reply, 201);
    const cJSON *repo = cJSON_GetObjectItem(reply->json, "repo");
    assert_json_text(repo, "branch", "main");
    reply_free(reply);
    prints("repo", "cat one.txt dir/two.txt link; git status --short; git log --format=%s",
           "one\ntwo\none\nfirst\n");
    prints("repo", "git remote get-url origin | grep -c project.git; git branch --show-current",
           "1\nmain\n");
    makes("{\"id\":\"other\",\"gitRepo\":\"%s\",\"gitBranch\":\"other\"}", url);
    prints("other", "cat one.txt", "other\n");
    makes("{\"id\":\"tag\",\"repo_url\":\"%s\",\"gitRef\":\"v1\"}", url);
    prints("tag", "cat one.txt; git describe --tags", "one\nv1\n");
    prints("repo", "echo mine >one.txt; cat one.txt", "mine\n");
    prints("other", "cat one.txt", "other\n"); /* no session sees the files of another */
    removes("/sessions/other", true);
    removes("/sessions/tag", true);
}

static void a_snapshot_is_what_has_changed_and_begins_others(void **state)
{
    (void)state;
    makes("{\"id\":\"base\",\"repoUrl\":\"%s\",\"layered\":true}", url);
    prints("base",
           "rm -r dir; mkdir dir; echo new >dir/new; mv one.txt moved.txt; ln moved.txt same; "
           "chmod 750 moved.txt; mkfifo pipe; truncate -s 1T hole; echo end >>hole; touch -d @1000 "
           "old; "
           "echo h >~/home.txt; export V='a b'; f() { echo called; }; cd dir; umask 077; echo ok",
           "ok\n");
    snapshot("base", "snap");
    struct reply *reply = runner_get(get(), "/snapshots/snap");
    assert_status(reply, 200);
    if (strstr(reply->body, "\"method\":\"overlay\"")) /* the method of its repository */
        assert_json_text(reply->json, "method", "changes");
    reply_free(reply);
    prints("base", "cd ..; echo later >moved.txt; echo x >dir/later; echo ok", "ok\n");
    makes("{\"id\":\"copy\",\"from\":\"%s\",\"env\":{\"W\":\"w\"}}", "snap");
    prints("copy", "pwd; echo \"$V $W\"; f; umask; ls; cat ~/home.txt",
           "/workspace/dir\na b w\ncalled\n0077\nnew\nh\n");
    prints("copy", "cd ..; ls; cat moved.txt",
           "dir\nhole\nlink\nmoved.txt\nold\npipe\nsame\none\n");
    prints("copy", "stat -c '%a %h %n' moved.txt same; stat -c %Y old; test -p pipe && echo pipe",
           "750 2 moved.txt\n750 2 same\n1000\npipe\n");
    prints("copy",
           "stat -c %s hole; tail -c 4 hole; test $(stat -c %b hole) -lt 100 && echo sparse",
           "1099511627780\nend\nsparse\n");
    prints("copy", "git status --short | sort | head -3",
           " D dir/two.txt\n D one.txt\n?? dir/new\n");
    prints("base", "cat moved.txt", "later\n");
    /* a snapshot of a session that began as a snapshot needs neither the first snapshot nor its
     * session */
    prints("copy", "echo third >third; echo ok", "ok\n");
    snapshot("copy", "second");
    removes("/snapshots/snap", true);
    removes("/snapshots/snap", false);
    removes("/sessions/base", true);
    removes("/sessions/copy", true);
    makes("{\"id\":\"third\",\"from\":\"%s\"}", "second");
    prints("third", "cat third moved.txt dir/new; ls link; test -e one.txt || echo gone",
           "third\none\nnew\nlink\ngone\n");
    removes("/sessions/third", true);
    removes("/snapshots/second", true);
}

static void a_session_without_a_repository_has_snapshots_too(void **state)
{
    (void)state;
    makes("{\"id\":\"plain\",\"env\":{\"E\":\"%s\"}}", "kept");
    prints("plain",
           "mkdir -p a/b; echo deep >a/b/c; ln -s /etc/passwd out; printf 'x\\0y' >bin; echo $E",
           "kept\n");
    snapshot("plain", "plain");
    makes("{\"from\":\"plain\",\"id\":\"%s\"}", "plain2");
    prints("plain2", "cat a/b/c; readlink out; wc -c <bin; echo $E",
           "deep\n/etc/passwd\n3\nkept\n");
    removes("/sessions/plain2", true);
}

static void all_of_it_survives_a_crash(void **state)
{
    (void)state;
    prints("repo", "echo before >crash.txt; cd dir; export C=1; echo ok", "ok\n");
    snapshot("repo", "crash");
    runner_crash(get());
    runner_start(get());
    struct reply *reply = runner_get(get(), "/sessions/repo");
    assert_status(reply, 200);
    assert_json_text(reply->json, "cwd", "/workspace/dir");
    assert_json_text(reply->json, "state", "ready");
    reply_free(reply);
    prints("repo", "pwd; echo $C; cat ../crash.txt ../one.txt two.txt",
           "/workspace/dir\n1\nbefore\nmine\ntwo\n");
    makes("{\"from\":\"crash\",\"id\":\"%s\"}", "after");
    prints("after", "pwd; cat ../crash.txt two.txt", "/workspace/dir\nbefore\ntwo\n");
    reply = runner_get(get(), "/snapshots");
    assert_non_null(strstr(reply->body, "\"id\":\"crash\""));
    assert_non_null(strstr(reply->body, "\"id\":\"plain\""));
    reply_free(reply);
}

/* What a session stood on is given up when the last thread has left it. */
static bool repos_are_removed(void)
{
    struct reply *reply = runner_delete(get(), "/repos");
    bool removed = reply->status == 200;
    if (!removed)
        assert_status(reply, 409);
    reply_free(reply);
    return removed;
}

static void what_it_stands_on_is_held(void **state)
{
    (void)state;
    struct reply *reply = runner_delete(get(), "/repos");
    if (reply->status != 409) /* copies do not need the mirror */
        assert_status(reply, 200);
    reply_free(reply);
    prints("repo", "git log --format=%s; cat two.txt", "first\ntwo\n");
    removes("/sessions/after", true);
    removes("/sessions/repo", true);
    makes("{\"from\":\"crash\",\"id\":\"%s\"}", "again"); /* only the snapshot needs the mirror */
    prints("again", "cat two.txt", "two\n");
    removes("/sessions/again", true);
    removes("/snapshots/crash", true);
    EVENTUALLY(20000, repos_are_removed());
}

static void what_cannot_be_had_is_refused(void **state)
{
    (void)state;
    refuses("POST", "/sessions", "{\"from\":\"nothing\"}", 404, "there is no snapshot 'nothing'");
    refuses("POST", "/sessions", "{\"from\":\"../x\"}", 400, "from");
    refuses("POST", "/sessions", "{\"from\":\"plain\",\"repoUrl\":\"o/r\"}", 400, "not both");
    refuses("POST", "/sessions", "{\"gitRef\":\"x\"}", 400, "needs repoUrl");
    refuses("POST", "/sessions", "{\"layered\":true}", 400, "needs repoUrl");
    refuses("POST", "/sessions", "{\"repoUrl\":\"ext::sh\"}", 400, "repoUrl");
    refuses("POST", "/sessions", "{\"repoUrl\":\"https://127.0.0.1/x\"}", 400, "repoUrl");
    refuses("POST", "/sessions", "{\"repoUrl\":\"o/r\",\"gitBranch\":\"a..b\"}", 400, "gitBranch");
    refuses("POST", "/sessions", "{\"repoUrl\":7}", 400, "repoUrl");
    refuses("POST", "/sessions/nothing/snapshot", "{}", 404, "there is no session 'nothing'");
    refuses("POST", "/sessions/plain/snapshot", "{\"id\":\"plain\"}", 409, "already");
    refuses("POST", "/sessions/plain/snapshot", "{\"id\":\"a/b\"}", 400, "id");
    refuses("POST", "/sessions/plain/snapshot", "{\"ttlMinutes\":-1}", 400, "ttlMinutes");
    refuses("POST", "/sessions/plain/snapshot", "{\"what\":1}", 400, "what");
    refuses("GET", "/snapshots/nothing", NULL, 404, "there is no snapshot");
    struct reply *reply = make("{\"id\":\"missing\",\"repoUrl\":\"%s-missing\"}", url);
    assert_problem(reply, 404, NULL);
    reply_free(reply);
    reply = make("{\"id\":\"missing\",\"repoUrl\":\"%s\",\"gitRef\":\"no-such-ref\"}", url);
    assert_problem(reply, 404, NULL);
    reply_free(reply);
    refuses("GET", "/sessions/missing", NULL, 404,
            "there is no session"); /* nothing of it is left */
    makes("{\"id\":\"missing\",\"repoUrl\":\"%s\"}", url);
    removes("/sessions/missing", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_begins_with_a_repository),
        cmocka_unit_test(a_snapshot_is_what_has_changed_and_begins_others),
        cmocka_unit_test(a_session_without_a_repository_has_snapshots_too),
        cmocka_unit_test(all_of_it_survives_a_crash),
        cmocka_unit_test(what_it_stands_on_is_held),
        cmocka_unit_test(what_cannot_be_had_is_refused),
    };
    return cmocka_run_group_tests_name("session_snapshots", tests, start, stop);
}
