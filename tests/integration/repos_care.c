/*
 * Maintenance of repositories: mirrors that were damaged between tasks, workspaces that resist
 * removal, files that Claude closed to their owner, commits that were not pushed, and what the
 * janitor removes.
 */
#include "githost.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PUSH "\"postExecutionActions\":{\"git\":{\"commit\":true,\"push\":true}}"
#define COMMIT "\"postExecutionActions\":{\"git\":{\"commit\":true}}"

static struct runner *runner;

static int start_all(void **state)
{
    (void)state;
    if (!githost_start())
        return 0;
    runner = githost_runner("");
    runner_set(runner, "JANITOR_SECONDS", "1");
    runner_set(runner, "KEEP_TASKS_DAYS", "2");
    runner_start(runner);
    return 0;
}

static int stop_all(void **state)
{
    (void)state;
    runner_free(runner);
    githost_stop();
    return 0;
}

static void need_host(void)
{
    if (!runner)
        SKIP_BECAUSE("needs root, sshd, nginx and fcgiwrap");
}

static char *fields_of(const char *repo, const char *more)
{
    return textf("\"repoUrl\":\"file://%s/%s\"%s%s", host.dir, repo, *more ? "," : "", more);
}

static struct reply *in(const char *repo, const char *prompt, const char *more)
{
    char *fields = fields_of(repo, more);
    struct reply *reply = runner_execute(runner, prompt, fields);
    free(fields);
    assert_status(reply, 200);
    return reply;
}

/* ---- a task that stays until it is told to go ---- */

struct guest {
    char *id;
    char *go;
};

static struct guest invite(const char *repo, const char *before, const char *after)
{
    static int count;
    struct guest guest = {.go = textf("%s/go%d", runner->shared, ++count)};
    char *began = textf("%s.began", guest.go), *fields = fields_of(repo, "");
    char *prompt = textf("%s; touch %s; while [ ! -e %s ]; do sleep 0.05; done; %s", before, began,
                         guest.go, after);
    guest.id = runner_submit(runner, prompt, fields);
    EVENTUALLY(30000, access(began, F_OK) == 0);
    free(prompt);
    free(fields);
    free(began);
    return guest;
}

static struct reply *see_off(struct guest *guest)
{
    write_file(guest->go, "", 0644);
    EVENTUALLY(60000, runner_has_ended(runner, guest->id));
    struct reply *reply = runner_result(runner, guest->id);
    free(guest->id);
    free(guest->go);
    return reply;
}

/* ---- mirrors ---- */

#define LOOK \
    "git fsck --no-dangling 2>&1; git status --porcelain; git rev-list --count HEAD; cat d/in"

/* Each script runs in the mirror's directory; P is a pack's path without its ending. */
static const char *const damages[] = {
    "cp $P.pack x; mv -f x $P.pack; truncate -s 40 $P.pack",
    "rm -f $P.pack",
    "rm -f git/objects/pack/*",
    "rm -rf git/objects",
    "rm -f $P.idx",
    "rm -f $P.idx; head -c 2000 /dev/urandom >$P.idx",
    "rm -f $P.idx; : >$P.idx",
    "echo garbage >git/packed-refs",
    "mkdir -p git/refs/heads; echo garbage >git/refs/heads/main",
    "mkdir -p git/refs/heads; : >git/refs/heads/main",
    "mkdir -p git/refs/heads; printf '%040d\\n' 1 >git/refs/heads/main",
    "mkdir -p git/refs/heads; printf '%040d\\n' 1 >git/refs/heads/other",
    "rm -f git/refs/heads/main; mkdir -p git/refs/heads/main/x; touch git/refs/heads/main/x/y",
    "rm -rf git/refs git/packed-refs",
    "rm git/HEAD",
    "echo x >git/HEAD",
    "echo '[x' >git/config",
    "rm git/config",
    "rm -rf git; mkdir git",
    "rm -rf git; echo x >git",
    "rm -rf git",
    "echo '{' >state",
    ": >state",
    "rm state",
    "rm state; mkdir state",
    "echo '{}' >state",
    "sed -i 's/\"generation\":\"[^\"]*/\"generation\":\"nope/' state",
    "sed -i 's,\"generation\":\"[^\"]*,\"generation\":\"../../x,' state",
    "sed -i 's/\"head\":\"[^\"]*/\"head\":\"nope/' state",
    "sed -i 's/\"fetchedMs\":[0-9]*/\"fetchedMs\":99999999999999/' state",
    "rm -rf notes",
    "touch git/config.lock git/shallow.lock git/objects/pack/tmp_pack_x; mkdir x.new",
};

/* Each would break a reader of the mirror; there is none. */
static const char *const removals[] = {
    "rm -rf tree-*",
    "for t in tree-*; do rm -f $t/.git/index; done",
    "for t in tree-*; do rm -rf $t; echo x >$t; done",
    "rm -rf refs-*",
    "for t in refs-*; do rm -rf $t/.git; done",
    "for t in refs-*; do rm -rf $t/.git/objects; done",
    "for t in refs-*; do rm -rf $t/.git/objects/pack/*; done",
    "for t in refs-*/.git; do echo x >$t/packed-refs; done",
};

static void damage_and_look(const char *damage, bool moved)
{
    if (moved)
        free(sh(
            "cd carew; date +%%N >n; git add n; git commit -qm n; git push -q ../care.git main"));
    free(sh("cd $(dirname $(grep -l /care.git %s/repos/*/state));"
            " P=$(ls git/objects/pack/*.pack | head -1); P=${P%%.pack}; %s",
            runner->state, damage));
    char *count = sh("git -C care.git rev-list --count main");
    char *expected = textf("%sin", count);
    struct reply *reply = in("care.git", LOOK, "");
    const char *said = json_text(reply->json, "output");
    if (strcmp(said, expected) != 0)
        fail_msg("after '%s': %s", damage, reply->body);
    reply_free(reply);
    free(expected);
    free(count);
}

static void a_damaged_mirror_is_whole_again_and_nobody_feels_it(void **state)
{
    (void)state;
    need_host();
    free(sh("git clone -q --bare o.git care.git; git clone -q care.git carew"));
    struct guest guest = invite("care.git", "true", "git fsck && git status --porcelain");
    for (size_t i = 0; i < COUNT(damages); i++)
        damage_and_look(damages[i], i % 2 != 0); /* with and without new commits on the remote */
    reply_free(good(see_off(&guest)));
    for (size_t i = 0; i < COUNT(removals); i++)
        damage_and_look(removals[i], false);
}

static void what_cannot_be_repaired_now_is_said_and_repaired_later(void **state)
{
    (void)state;
    need_host();
    free(sh("git clone -q --bare o.git away.git"));
    reply_free(good(in("away.git", "true", "")));
    free(
        sh("rm -rf $(dirname $(grep -l /away.git %s/repos/*/state))/git/objects/pack/*; mv away.git"
           " gone.git",
           runner->state));
    struct reply *reply = in("away.git", "true", "");
    assert_json_bool(reply->json, "success", false);
    assert_json_text(reply->json, "reason", "repo_error");
    assert_true(strlen(json_text(reply->json, "error")) > 10);
    reply_free(reply);
    free(sh("mv gone.git away.git"));
    reply = good(in("away.git", "git fsck; cat d/in", ""));
    assert_json_text(reply->json, "output", "in");
    reply_free(reply);
}

/* ---- workspaces ---- */

static bool run_is_empty(void)
{
    return says(sh("ls -A %s/run | wc -l", runner->state), "0\n");
}

#define MESS                                                                                 \
    "mkdir -p hard/a/b soft closed/x; echo 1 >hard/f; echo 1 >hard/a/b/f; echo 1 >soft/log;" \
    " echo 1 >closed/x/f; ln -s %s/kept hard/link; ln -s %s hard/a/dir; chmod 000 closed/x " \
    "closed;"                                                                                \
    " (for i in $(seq 60); do mkdir -p $(printf 'y%%.0s' $(seq 200)); cd y*; done; touch end)"

/* The task itself may not make files immutable; root on the host, or a task of root, may. */
static bool harden(void)
{
    char *said = sh("cd %s/run/*; cd upper 2>/dev/null || cd work; chattr +a soft/log soft &&"
                    " chattr +i hard/f hard/a/b/f hard/a/b hard && echo hard || echo soft",
                    runner->state);
    bool hard = strstr(said, "hard\n") != NULL;
    free(said);
    return hard;
}

static struct guest make_mess(void)
{
    char *before = textf(MESS, runner->shared, runner->shared);
    free(sh("rm -rf %s/kept; mkdir %s/kept; echo precious >%s/kept/file", runner->shared,
            runner->shared, runner->shared));
    EVENTUALLY(20000, run_is_empty());
    struct guest guest = invite("o.git", before, "true");
    if (!harden())
        print_message("SKIPPED: no immutable files here\n");
    free(before);
    return guest;
}

static void assert_mess_is_gone(void)
{
    EVENTUALLY(20000, run_is_empty());
    assert_true(says(sh("ls -d %s/run.old 2>/dev/null || echo none; cat %s/kept/file",
                        runner->state, runner->shared),
                     "none\nprecious\n"));
}

static void a_workspace_goes_however_it_resists(void **state)
{
    (void)state;
    need_host();
    struct guest guest = make_mess();
    reply_free(good(see_off(&guest)));
    assert_mess_is_gone();
}

static bool old_is_gone(void)
{
    char *old = textf("%s/run.old", runner->state);
    bool gone = access(old, F_OK) != 0;
    free(old);
    return gone;
}

static void what_a_killed_runner_left_goes_however_it_resists(void **state)
{
    (void)state;
    need_host();
    struct guest guest = make_mess();
    runner_crash(runner);
    free(sh("mkdir -p %s/repos/push-x %s/repos/growing-x/tree %s/repos/.gone-x; touch"
            " %s/repos/growing-x/tree/f; chattr +i %s/repos/growing-x/tree/f || true",
            runner->state, runner->state, runner->state, runner->state, runner->state));
    runner_start(runner);
    EVENTUALLY(20000, old_is_gone());
    assert_mess_is_gone();
    EVENTUALLY(20000, says(sh("ls -dA %s/repos/push-* %s/repos/growing-* %s/repos/.gone-*"
                              " 2>/dev/null || echo none",
                              runner->state, runner->state, runner->state),
                           "none"));
    struct reply *reply = see_off(&guest);
    assert_json_text(reply->json, "reason", "interrupted");
    reply_free(reply);
}

/* ---- the janitor ---- */

static char *run_with_output(void)
{
    char *fields = fields_of(
        "o.git", "\"postExecutionActions\":{\"uploadFiles\":{\"globPatterns\":[\"d/*\"]}}");
    char *id = runner_submit(runner, "true", fields);
    EVENTUALLY(60000, runner_has_ended(runner, id));
    struct reply *reply = good(runner_result(runner, id));
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "uploadedFiles")), 1);
    reply_free(reply);
    free(fields);
    return id;
}

static bool is_unknown(const char *path)
{
    struct reply *reply = runner_get(runner, path);
    bool unknown = reply->status == 404;
    reply_free(reply);
    return unknown;
}

static void what_is_over_its_time_goes_and_nothing_else(void **state)
{
    (void)state;
    need_host();
    char *old = run_with_output(), *young = run_with_output();
    runner_stop(runner, 60000);
    free(sh("cd %s; for db in *.db; do sqlite3 $db \"UPDATE tasks SET ended_ms=ended_ms-3*86400000"
            " WHERE id='%s'\"; done; mkdir -p tasks/stray tasks/fresh"
            " repos/%040d/git repos/%040d/git; touch -d '2 hours ago' tasks/stray; ln -s / "
            "repos/%040d/git/root",
            runner->state, old, 1, 2, 1));
    runner_start(runner);
    EVENTUALLY(20000,
               says(sh("cd %s; ls -d tasks/%s tasks/stray repos/%040d repos/%040d 2>/dev/null"
                       " || echo none",
                       runner->state, old, 1, 2),
                    "none"));
    char *path = textf("/tasks/%s", old);
    EVENTUALLY(20000, is_unknown(path));
    free(path);
    path = textf("/tasks/%s/outputs/d/in", young);
    struct reply *reply = runner_get(runner, path);
    assert_status(reply, 200);
    assert_string_equal(reply->body, "in\n");
    reply_free(reply);
    assert_true(says(sh("ls %s/tasks", runner->state), "fresh\n"));
    reply_free(good(in("o.git", "git fsck", "")));
    free(path);
    free(young);
    free(old);
}

/* ---- work that is not lost ---- */

static void what_claude_closed_is_committed_all_the_same(void **state)
{
    (void)state;
    need_host();
    free(sh("git clone -q --bare o.git closed.git"));
    struct reply *reply = good(in("closed.git",
                                  "echo new >f1; mkdir -p q/r; echo q >q/r/s; echo u >u;"
                                  " chmod 000 f1 d q/r q u",
                                  PUSH));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    assert_int_equal((int)json_at(reply->json, "gitCommit.files")->valuedouble, 3);
    reply_free(reply);
    char *said = sh("git -C closed.git show --format= --name-status main; git -C closed.git show"
                    " main:d/in main:f1 main:q/r/s main:u");
    assert_string_equal(said, "M\tf1\nA\tq/r/s\nA\tu\nin\nnew\nq\nu\n");
    free(said);
    reply = good(in("closed.git", "echo more >more; chmod 000 .git .", PUSH));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    reply_free(reply);
}

static void a_directory_may_become_a_link_and_a_file_a_directory(void **state)
{
    (void)state;
    need_host();
    free(sh("git clone -q --bare o.git turned.git"));
    struct reply *reply =
        good(in("turned.git", "rm -r d; ln -s work d; rm f1; mkdir f1; echo x >f1/x", PUSH));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    reply_free(reply);
    char *said = sh("git -C turned.git ls-tree -r --name-only main d f1; git -C turned.git show"
                    " main:d main:f1/x");
    assert_string_equal(said, "d\nf1/x\nworkx\n");
    free(said);
}

/* The contents of a bundle among the outputs, fetched into a clone of the repository. */
static char *read_bundle(const cJSON *commit, const char *ref)
{
    fetch_bundle(runner, commit);
    return sh("git -C o.git bundle verify -q ../kept.bundle >/dev/null 2>&1; rm -rf reader; git"
              " clone -q o.git reader; cd reader; git fetch -q ../kept.bundle %s; git show"
              " FETCH_HEAD:work; git fsck --no-dangling",
              ref);
}

static void a_commit_that_is_not_pushed_is_kept(void **state)
{
    (void)state;
    need_host();
    static const struct {
        const char *prompt, *more, *ref;
    } cases[] = {
        {"echo w >work", COMMIT, "refs/heads/main"},
        {"echo w >work", "\"gitRef\":\"v1\"," PUSH, "HEAD"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct reply *reply = good(in("o.git", cases[i].prompt, cases[i].more));
        const cJSON *commit = json_at(reply->json, "gitCommit");
        assert_json_bool(commit, "committed", true);
        assert_json_bool(commit, "pushed", false);
        char *said = read_bundle(commit, cases[i].ref);
        assert_string_equal(said, "w\n");
        free(said);
        reply_free(reply);
    }
}

static void a_branch_may_be_named_in_full(void **state)
{
    (void)state;
    need_host();
    static const char *const fields[] = {
        "\"gitBranch\":\"refs/heads/feature/x\"",
        "\"gitRef\":\"refs/heads/feature/x\"",
        "\"gitBranch\":\"feature/x\",\"gitRef\":\"HEAD\"",
    };
    for (size_t i = 0; i < COUNT(fields); i++) {
        struct reply *reply = good(in("o.git", "git rev-parse --abbrev-ref HEAD @{u}", fields[i]));
        assert_json_text(reply->json, "output", "feature/x\norigin/feature/x");
        reply_free(reply);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_mirror_is_whole_again_and_nobody_feels_it),
        cmocka_unit_test(what_cannot_be_repaired_now_is_said_and_repaired_later),
        cmocka_unit_test(a_workspace_goes_however_it_resists),
        cmocka_unit_test(what_a_killed_runner_left_goes_however_it_resists),
        cmocka_unit_test(what_is_over_its_time_goes_and_nothing_else),
        cmocka_unit_test(what_claude_closed_is_committed_all_the_same),
        cmocka_unit_test(a_directory_may_become_a_link_and_a_file_a_directory),
        cmocka_unit_test(a_commit_that_is_not_pushed_is_kept),
        cmocka_unit_test(a_branch_may_be_named_in_full),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("repos-care", tests, start_all, stop_all);
}
