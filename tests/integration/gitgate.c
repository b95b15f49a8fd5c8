/*
 * git in a task: it fetches, pulls and pushes through the runner, with a remote over ssh, over
 * https or in a directory, in the tier that the program's argument names. The servers are real, and
 * git checks the results.
 */
#include "githost.h"
#include "testing.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANY "\"gitPush\":true"
#define CLAUDES "\"gitPush\":{\"branches\":[\"claude/*\"]}"
#define FORCE "\"gitPush\":{\"branches\":[\"claude/*\",\"refs/tags/v*\"],\"force\":true}"

static const char *tier = "full";
static struct runner *runner;
static char *key;

/* ---- the world ---- */

static int start_all(void **state)
{
    (void)state;
    if (!githost_start())
        return 0;
    key = key_json("k_ed25519");
    /* the remote has a hook that prints text and refuses one branch */
    free(sh("printf '#!/bin/sh\\necho words of the remote >&2\\n"
            "while read old new ref; do case $ref in */forbidden) exit 1;; esac; done\\n'"
            " >o.git/hooks/pre-receive; chmod +x o.git/hooks/pre-receive"));
    runner = githost_runner("");
    runner_set(runner, "JAIL", tier);
    runner_set(runner, "GIT_PUSH_MAX_MB", "4");
    runner_set(runner, "MAX_CONCURRENT_TASKS", "8");
    runner_start(runner);
    return 0;
}

static int stop_all(void **state)
{
    (void)state;
    if (runner)
        runner_free(runner);
    runner = NULL;
    free(key);
    githost_stop();
    return 0;
}

static void need_host(void)
{
    if (!runner)
        SKIP_BECAUSE("needs root, sshd, nginx and fcgiwrap");
    struct reply *reply = runner_get(runner, "/health?verbose=true");
    bool there = strcmp(json_text(reply->json, "jail.tier"), tier) == 0;
    reply_free(reply);
    if (!there)
        SKIP_BECAUSE("this host has no tier %s", tier);
}

enum upstream { BY_SSH, BY_HTTPS, BY_FILE, UPSTREAMS };

/* The fields of a request that name the repository by that transport. */
static char *fields_of(enum upstream upstream, const char *more)
{
    const char *comma = *more ? "," : "";
    return upstream == BY_SSH
               ? textf("\"repoUrl\":\"ssh://root@localhost:%d%s/o.git\",\"sshKey\":%s%s%s",
                       host.ssh_port, host.dir, key, comma, more)
           : upstream == BY_HTTPS
               ? textf("\"repoUrl\":\"https://localhost:%d/o.git\",\"gitToken\":\"" TOKEN "\"%s%s",
                       host.web_port, comma, more)
               : textf("\"repoUrl\":\"file://%s/o.git\"%s%s", host.dir, comma, more);
}

/* Runs a script in a workspace of the repository. Returns what it printed; the last line is its
 * exit status ("exit 0"). */
static char *run_in(enum upstream upstream, const char *more, const char *script)
{
    AUTO(str)
    char *whole = textf("export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b"
                        " GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b\n%s",
                        script);
    cJSON *text = cJSON_CreateString(whole);
    AUTO(str) char *quoted = cJSON_PrintUnformatted(text);
    AUTO(str) char *fields = fields_of(upstream, more);
    AUTO(str)
    char *json = textf("{\"command\":%s,%s,\"timeout_ms\":280000}", quoted, fields);
    cJSON_Delete(text);
    struct reply *reply = runner_post(runner, "/exec", json);
    assert_status(reply, 200);
    if (!cJSON_IsNumber(json_at(reply->json, "exit_code")))
        print_error("%s\n", reply->body);
    char *said =
        textf("%s%sexit %d\n", json_text(reply->json, "stdout"), json_text(reply->json, "stderr"),
              (int)json_number(reply->json, "exit_code"));
    reply_free(reply);
    return said;
}

/* The same by every transport at once. */
struct by_one {
    enum upstream upstream;
    const char *more;
    const char *script;
    char *said;
};

static void *run_one(void *arg)
{
    struct by_one *one = arg;
    one->said = run_in(one->upstream, one->more, one->script);
    return NULL;
}

/* `script` with the number of the transport in place of each '@'. */
static void run_in_all(const char *more, const char *script, char *ret_said[UPSTREAMS])
{
    struct by_one all[UPSTREAMS];
    char *scripts[UPSTREAMS];
    pthread_t threads[UPSTREAMS];
    for (int i = 0; i < UPSTREAMS; i++) {
        scripts[i] = strdup(script);
        for (char *at = scripts[i]; (at = strchr(at, '@'));)
            *at = (char)('0' + i);
        all[i] = (struct by_one){(enum upstream)i, more, scripts[i], NULL};
        assert_int_equal(pthread_create(&threads[i], NULL, run_one, &all[i]), 0);
    }
    for (int i = 0; i < UPSTREAMS; i++) {
        pthread_join(threads[i], NULL);
        free(scripts[i]);
        ret_said[i] = all[i].said;
    }
}

#define COMMIT "echo $RANDOM$RANDOM >>f1; git commit -qam change; "

/* ---- what works ---- */

static void fetch_pull_and_push_work_without_a_key(void **state)
{
    (void)state;
    need_host();
    for (int i = 0; i < UPSTREAMS; i++) {
        AUTO(str)
        char *script = textf(
            COMMIT "git push origin HEAD:claude/way-%d && git ls-remote origin && git fetch origin"
                   " feature/x && git push && git pull --rebase && git config -l && env",
            i);
        char *said = run_in((enum upstream)i, ANY, script);
        assert_null(strstr(said, TOKEN));
        assert_null(strstr(said, "PRIVATE KEY"));
        AUTO(str) char *branch = textf("refs/heads/claude/way-%d", i);
        assert_non_null(strstr(said, branch));
        assert_true(says(said, "exit 0"));
        free(sh("git -C o.git rev-parse --verify %s", branch));
    }
}

static void the_remotes_own_words_arrive(void **state)
{
    (void)state;
    need_host();
    for (int i = 0; i < UPSTREAMS; i++) {
        char *said = run_in((enum upstream)i, ANY, COMMIT "git push origin HEAD:forbidden");
        assert_non_null(strstr(said, "remote: words of the remote"));
        assert_non_null(strstr(said, "[remote rejected]"));
        assert_true(says(said, "pre-receive hook declined"));
    }
    assert_true(
        says(sh("git -C o.git rev-parse --verify refs/heads/forbidden 2>&1 || true"), "fatal"));
}

static void every_version_of_the_protocol_and_shallow_fetches_work(void **state)
{
    (void)state;
    need_host();
    char *said[UPSTREAMS];
    run_in_all(CLAUDES,
               "set -e; git -C /workspace rev-parse >/dev/null 2>&1 || true\n"
               "url=$(git remote get-url origin)\n"
               "for v in 0 1 2; do\n"
               " git -c protocol.version=$v ls-remote origin >/dev/null\n"
               " git -c protocol.version=$v fetch -q --refetch origin\n"
               " git -c protocol.version=$v fetch -q --depth=1 origin feature/x\n"
               " git -c protocol.version=$v fetch -q --unshallow origin || true\n"
               "done; git fsck --connectivity-only",
               said);
    for (int i = 0; i < UPSTREAMS; i++)
        assert_true(says(said[i], "exit 0"));
}

/* Shell code: 120 empty commits on top of main, as git fast-import reads them. */
#define MANY(letter, ref)                                                                        \
    "from=$(git -C w rev-parse main 2>/dev/null || git rev-parse HEAD); for i in $(seq 120); do" \
    " echo commit " ref "; echo \"committer A <ab> $((1700000000 + i)) +0000\"; echo data 4;"    \
    " echo " letter "$((100 + i)); [ $i = 1 ] && echo from $from; done; true;"

/* Both histories have grown by more commits than one round of the negotiation holds. */
static void histories_that_part_far_back_are_negotiated(void **state)
{
    (void)state;
    need_host();
    free(sh("git -C w checkout -q -B long main; { " MANY(
        "t",
        "refs/heads/long") " } | git -C w fast-import --quiet --force; git -C w reset -q --hard;"
                           " git -C w push -q -f origin long; git -C w checkout -q main"));
    char *said[UPSTREAMS];
    run_in_all(
        CLAUDES,
        "{ " MANY(
            "o",
            "refs/heads/mine") " } | git fast-import --quiet; git update-ref"
                               " -d refs/remotes/origin/long\n"
                               "for v in 0 2; do git reset -q --hard mine; git -c "
                               "protocol.version=$v fetch"
                               " origin long && git merge -q --no-edit FETCH_HEAD || exit 9; done\n"
                               "git push origin HEAD:claude/merged-@ && git log --oneline | wc -l",
        said);
    for (int i = 0; i < UPSTREAMS; i++)
        assert_true(says(said[i], "exit 0"));
}

static void what_was_pushed_is_an_event(void **state)
{
    (void)state;
    need_host();
    AUTO(str) char *fields = fields_of(BY_SSH, CLAUDES);
    struct reply *reply = good(runner_execute(
        runner,
        "echo x >>f2; git -c user.name=A -c user.email=a@b commit -qam x; git push origin"
        " HEAD:claude/event; git push origin HEAD:other; true",
        fields));
    AUTO(str) char *path = textf("/tasks/%s/events", json_text(reply->json, "taskId"));
    struct reply *events = runner_get(runner, path);
    assert_non_null(strstr(events->body, "event: git_push"));
    assert_non_null(strstr(events->body, "\"ref\":\"refs/heads/claude/event\""));
    assert_non_null(strstr(events->body, "\"pushed\":true"));
    assert_non_null(strstr(events->body, "\"reason\":\"not allowed by gitPush\""));
    reply_free(events);
    reply_free(reply);
}

/* ---- what is refused ---- */

static void without_git_push_only_fetching_works(void **state)
{
    (void)state;
    need_host();
    for (int i = 0; i < UPSTREAMS; i++) {
        char *said = run_in((enum upstream)i, i == 1 ? "\"gitPush\":false" : "",
                            "git fetch origin && git pull && echo fetched; " COMMIT
                            "git push origin HEAD:claude/never");
        assert_non_null(strstr(said, "fetched"));
        assert_non_null(strstr(said, "remote: claude-runner: this task may fetch and pull"));
        assert_non_null(strstr(said, "\"gitPush\":true"));
        assert_null(strstr(said, "exit 0"));
        free(said);
    }
    assert_true(says(sh("git -C o.git for-each-ref"), "refs/heads/main"));
    assert_true(
        says(sh("git -C o.git rev-parse --verify refs/heads/claude/never 2>&1 || true"), "fatal"));
}

/* The output of each push; `changes` says whether the push may change the remote's refs. */
static const struct {
    const char *rules;
    const char *script;
    const char *says;
    bool changes;
} pushes[] = {
    {CLAUDES, COMMIT "git push origin HEAD:claude/new-branch", "[new branch]", true},
    {CLAUDES, COMMIT "git push origin HEAD:main", "only to claude/*", false},
    {CLAUDES, COMMIT "git push origin HEAD:claude", "not allowed by gitPush", false},
    {CLAUDES, COMMIT "git push origin HEAD:xclaude/a", "not allowed by gitPush", false},
    {CLAUDES, COMMIT "git push origin HEAD:refs/for/main", "not allowed by gitPush", false},
    {ANY, COMMIT "git push origin HEAD:refs/for/main", "not allowed by gitPush", false},
    {ANY, COMMIT "git push origin HEAD:refs/notes/x", "not allowed by gitPush", false},
    {ANY, COMMIT "git push origin HEAD:refs/replace/x", "not allowed by gitPush", false},
    {CLAUDES, "git tag t1; git push origin t1", "not allowed by gitPush", false},
    {ANY, "git tag t2; git push origin t2", "[new tag]", true},
    {ANY,
     "git tag -f v1 HEAD~0; git commit -q --allow-empty -m x; git tag -f v1;"
     " git push -f origin v1",
     "move the tag 'v1'", false},
    {ANY, "git push origin :feature/x", "would delete 'feature/x'", false},
    {ANY, "git commit -q --amend -m other; git push -f origin HEAD:main", "throw away commits",
     false},
    {ANY, "git commit -q --amend -m other; git push --force-with-lease origin HEAD:main",
     "\"force\":true", false},
    {FORCE, "git commit -q --amend -m other; git push -f origin HEAD:main", "only to claude/*",
     false},
    {FORCE,
     COMMIT "git push origin HEAD:claude/f && git commit -q --amend -m other && git push -f"
            " origin HEAD:claude/f",
     "(forced update)", true},
    {FORCE, COMMIT "git push origin HEAD:claude/gone && git push origin :claude/gone", "[deleted]",
     false},
    {FORCE, "git tag -f v1; git commit -q --allow-empty -m y; git tag -f v9; git push origin v9",
     "[new tag]", true},
    {CLAUDES, COMMIT "git push --mirror", "not allowed by gitPush", false},
    {CLAUDES, COMMIT "git push --all", "not allowed by gitPush", false},
    {CLAUDES, COMMIT "git push --atomic origin HEAD:claude/atomic HEAD:main", "atomic push failed",
     false},
    {CLAUDES, COMMIT "git push origin HEAD:claude/half HEAD:main", "-> claude/half", true},
    {ANY, "git push origin main", "Everything up-to-date", false},
    {ANY, COMMIT "git push -o ci.skip origin HEAD:claude/options", "does not support push options",
     false},
    {CLAUDES,
     "git fetch -q --depth=1 origin feature/x && git checkout -q FETCH_HEAD && " COMMIT
     "git push origin HEAD:refs/heads/claude/shallow",
     "[new branch]", true},
};

static char *refs(void)
{
    return sh("git -C o.git for-each-ref");
}

static void each_push_is_judged_by_its_rules(void **state)
{
    (void)state;
    need_host();
    for (size_t i = 0; i < COUNT(pushes); i++) {
        AUTO(str) char *before = refs();
        char *said = run_in((enum upstream)(i % UPSTREAMS), pushes[i].rules, pushes[i].script);
        if (!says(said, pushes[i].says))
            fail_msg("push %zu: %s", i, pushes[i].script);
        AUTO(str) char *after = refs();
        if ((strcmp(before, after) != 0) != pushes[i].changes)
            fail_msg("push %zu (%s) left %s", i, pushes[i].script, after);
    }
}

static void who_has_been_overtaken_has_to_fetch_first(void **state)
{
    (void)state;
    need_host();
    char *said[UPSTREAMS];
    run_in_all(CLAUDES,
               "git push -q origin HEAD:claude/race-@; " COMMIT
               /* the client believes what it saw, but the remote has changed since */
               "old=$(git rev-parse HEAD~1); " COMMIT
               "git push -q origin HEAD:claude/race-@; git reset -q --hard $old; " COMMIT
               "git push origin HEAD:claude/race-@",
               said);
    for (int i = 0; i < UPSTREAMS; i++)
        assert_true(says(said[i], "[rejected]"));
}

static void a_push_that_is_too_large_is_refused_by_its_size(void **state)
{
    (void)state;
    need_host();
    AUTO(str) char *before = refs();
    char *said = run_in(BY_SSH, ANY,
                        "head -c 6000000 /dev/urandom >big; git add big; git commit -qm big;"
                        " git push origin HEAD:claude/big");
    assert_non_null(strstr(said, "GIT_PUSH_MAX_MB"));
    assert_true(says(said, "remote: claude-runner: the push is larger than 4 MiB"));
    AUTO(str) char *after = refs();
    assert_string_equal(before, after);
    assert_true(says(run_in(BY_SSH, ANY,
                            "head -c 3000000 /dev/urandom >big; git add big; git commit -qm big;"
                            " git push origin HEAD:claude/fits"),
                     "exit 0"));
}

static void two_pushes_at_once_both_arrive(void **state)
{
    (void)state;
    need_host();
    char *said = run_in(BY_SSH, CLAUDES,
                        COMMIT "for i in 1 2 3 4; do git push -q origin HEAD:claude/at-once-$i &"
                               " done; wait; git ls-remote origin 'claude/at-once-*' | wc -l");
    assert_true(says(said, "4\n"));
}

/* ---- who speaks to the gate by hand ---- */

/* Shell code: the gate's address, its token, one line of a push, and a push. */
static const char gate[] =
    "url=$(git config --get-regexp '^url' | head -1 | sed 's/^url.//;s/.insteadof .*//')\n"
    "auth=$(git config --get-regexp '^http.*extraheader' | sed 's/^[^ ]* //')\n"
    "c() { curl -sS -m 30 --noproxy '*' -H \"$auth\" \"$@\"; }\n"
    "id=$(git rev-parse HEAD); zero=0000000000000000000000000000000000000000\n"
    "push() { c -X POST -H 'Content-Type: application/x-git-receive-pack-request'"
    " --data-binary @- $url/git-receive-pack | tr '\\0' ' '; }\n"
    "caps=' report-status side-band-64k'\n"
    "line() { s=\"$1 $2 $3\"; printf '%04x%s\\0%s0000' $((${#s}+5+${#caps})) \"$s\" \"$caps\"; }\n";

static const struct {
    const char *script;
    const char *says;
} by_hand[] = {
    {"c -o /dev/null -w '%{http_code}' $url/info/refs?service=git-upload-pack", "200"},
    {"c $url/../other.git/info/refs?service=git-upload-pack", "claude-runner:"},
    {"c ${url%/*}/x.git/info/refs?service=git-upload-pack", "own repository only"},
    {"c --path-as-is $url/../../etc/info/refs?service=git-upload-pack", "'..' part"},
    {"c $url/info/refs", "smart protocol"},
    {"c $url/HEAD", "smart protocol"},
    {"c -X POST -d '{}' $url/info/lfs/objects/batch", "{\"message\":\"claude-runner: Git LFS"},
    {"c $url/info/lfs/locks", "{\"message\":\"claude-runner: Git LFS"},
    {"c $url/objects/info/packs", "smart protocol"},
    {"c $url/info/refs?service=git-upload-archive", "smart protocol"},
    {"auth='Authorization: Bearer runner-git-x'; c $url/info/refs?service=git-upload-pack",
     "has ended or is another"},
    {"auth='X: y'; c $url/info/refs?service=git-upload-pack", "has ended or is another"},
    {"line $zero $id refs/heads/../../x | push", "claude-runner:"},
    {"line $zero $id HEAD | push", "claude-runner:"},
    {"line $zero $id refs/heads/-x..y | push", "claude-runner:"},
    {"line short $id refs/heads/claude/x | push", "claude-runner:"},
    {"printf 'zzzz' | push", "claude-runner: the push is malformed"},
    {"printf 'ffff' | push", "claude-runner:"},
    {"printf '0001' | push", "claude-runner:"},
    {"printf '00' | push", "claude-runner: the push is cut short"},
    {"head -c 3000000 /dev/zero | push", "claude-runner:"},
    {"head -c 3000000 /dev/urandom | push", "claude-runner:"},
    {"printf '0000' | push; echo probed", "probed"},
    {"head -c 100 /dev/urandom | c -X POST -H 'Content-Encoding: gzip' --data-binary @-"
     " $url/git-upload-pack",
     "no gzip"},
    {"head -c 200000000 /dev/zero | gzip -1 | c -X POST -H 'Content-Encoding: gzip'"
     " --data-binary @- $url/git-upload-pack",
     "too large"},
    {"c -X DELETE -o /dev/null -w '%{http_code}' $url/info/refs", "404"},
    {"c -X PUT -d x -o /dev/null -w '%{http_code}' $url/git-receive-pack", "404"},
};

static void what_no_client_of_git_sends_is_refused(void **state)
{
    (void)state;
    need_host();
    AUTO(str) char *before = refs();
    AUTO(str) char *script = textf("%s", gate);
    for (size_t i = 0; i < COUNT(by_hand); i++) {
        char *longer = textf("%s( %s ) 2>&1\necho '<end %zu>'\n", script, by_hand[i].script, i);
        free(script);
        script = longer;
    }
    AUTO(str) char *said = run_in(BY_SSH, CLAUDES, script);
    char *from = said;
    for (size_t i = 0; i < COUNT(by_hand); i++) {
        AUTO(str) char *mark = textf("<end %zu>", i);
        char *end = strstr(from, mark);
        assert_non_null(end);
        *end = '\0';
        if (!strstr(from, by_hand[i].says))
            fail_msg("%s: %s", by_hand[i].script, from);
        from = end + 1;
    }
    AUTO(str) char *after = refs();
    assert_string_equal(before, after);
}

/* A list of refs without a pack, a truncated pack and a forged pack: nothing is pushed. */
static void packs_that_are_none_are_refused(void **state)
{
    (void)state;
    need_host();
    AUTO(str) char *before = refs();
    static const char *const packs[] = {
        "true", "printf PACK", "head -c 100000 /dev/urandom",
        "printf 'PACK\\0\\0\\0\\2\\377\\377\\377\\377'; head -c 1000 /dev/zero"};
    for (size_t i = 0; i < COUNT(packs); i++) {
        AUTO(str)
        char *script = textf("%sid=1111111111111111111111111111111111111111\n"
                             "{ line $zero $id refs/heads/claude/lie; %s; } | push",
                             gate, packs[i]);
        assert_true(says(run_in(BY_SSH, CLAUDES, script), "ng refs/heads/claude/lie"));
    }
    AUTO(str) char *after = refs();
    assert_string_equal(before, after);
}

/* The token is used after its task has ended, and by another task. */
static void a_token_is_worth_nothing_after_its_task(void **state)
{
    (void)state;
    need_host();
    AUTO(str) char *tells = textf("%sprintf '%%s' \"$auth\" | od -An -tx1 | tr -d ' \\n'", gate);
    AUTO(str) char *said = run_in(BY_SSH, ANY, tells);
    said[strspn(said, "0123456789abcdef")] = '\0';
    assert_true(strlen(said) > 60);
    AUTO(str)
    char *script = textf("%sauth=$(printf \"$(printf %s | sed 's/../\\\\x&/g')\")\n"
                         "c $url/info/refs?service=git-receive-pack",
                         gate, said);
    assert_true(says(run_in(BY_SSH, ANY, script), "has ended or is another"));
}

/* The client disconnects in the middle of a push. */
static void a_push_that_is_cut_off_leaves_nothing(void **state)
{
    (void)state;
    need_host();
    AUTO(str) char *before = refs();
    AUTO(str)
    char *script =
        textf("%shead -c 2000000 /dev/urandom >big; git add big; git commit -qm big\n"
              "{ line $zero $(git rev-parse HEAD) refs/heads/claude/cut; sleep 3; } |"
              " timeout 2 curl -sS -T - -X POST -H \"$auth\" $url/git-receive-pack; true",
              gate);
    assert_true(says(run_in(BY_SSH, CLAUDES, script), "exit 0"));
    AUTO(str) char *after = refs();
    assert_string_equal(before, after);
    EVENTUALLY(30000, says(sh("ls %s/repos | grep -c ^push- || true", runner->state), "0\n"));
}

static void a_git_push_that_makes_no_sense_is_refused_by_name(void **state)
{
    (void)state;
    need_host();
    static const char *const wrong[] = {
        "\"yes\"",
        "1",
        "[]",
        "{\"branches\":\"main\"}",
        "{\"branches\":[1]}",
        "{\"branches\":[\"\"]}",
        "{\"branches\":[\"-x\"]}",
        "{\"branches\":[\"a..b\"]}",
        "{\"branches\":[\"a b\"]}",
        "{\"branches\":[\"a:b\"]}",
        "{\"force\":1}",
        "{\"branch\":[\"main\"]}",
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        AUTO(str)
        char *json = textf("{\"command\":\"true\",\"repoUrl\":\"o/r\",\"gitPush\":%s}", wrong[i]);
        struct reply *reply = runner_post(runner, "/exec", json);
        assert_problem(reply, 400, "invalid_request");
        if (!strstr(reply->body, "gitPush"))
            fail_msg("%s: %s", wrong[i], reply->body);
        reply_free(reply);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        tier = argv[1];
    /* The way from a jail to the gate is another in each tier; what the gate decides is not. */
    const struct CMUnitTest ways[] = {
        cmocka_unit_test(fetch_pull_and_push_work_without_a_key),
        cmocka_unit_test(the_remotes_own_words_arrive),
        cmocka_unit_test(what_was_pushed_is_an_event),
        cmocka_unit_test(without_git_push_only_fetching_works),
        cmocka_unit_test(a_token_is_worth_nothing_after_its_task),
        cmocka_unit_test(a_push_that_is_cut_off_leaves_nothing),
    };
    const struct CMUnitTest all[] = {
        cmocka_unit_test(fetch_pull_and_push_work_without_a_key),
        cmocka_unit_test(the_remotes_own_words_arrive),
        cmocka_unit_test(what_was_pushed_is_an_event),
        cmocka_unit_test(without_git_push_only_fetching_works),
        cmocka_unit_test(a_token_is_worth_nothing_after_its_task),
        cmocka_unit_test(a_push_that_is_cut_off_leaves_nothing),
        cmocka_unit_test(every_version_of_the_protocol_and_shallow_fetches_work),
        cmocka_unit_test(histories_that_part_far_back_are_negotiated),
        cmocka_unit_test(each_push_is_judged_by_its_rules),
        cmocka_unit_test(who_has_been_overtaken_has_to_fetch_first),
        cmocka_unit_test(a_push_that_is_too_large_is_refused_by_its_size),
        cmocka_unit_test(two_pushes_at_once_both_arrive),
        cmocka_unit_test(what_no_client_of_git_sends_is_refused),
        cmocka_unit_test(packs_that_are_none_are_refused),
        cmocka_unit_test(a_git_push_that_makes_no_sense_is_refused_by_name),
    };
    return strcmp(tier, "full") == 0 ? cmocka_run_group_tests(all, start_all, stop_all)
                                     : cmocka_run_group_tests(ways, start_all, stop_all);
}
