/*
 * Repositories that mean harm or are very big, remotes that break down, many tasks at once, and
 * what becomes of work that cannot be pushed. The servers are real, git is the judge.
 */
#include "githost.h"
#include "testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PUSH "\"postExecutionActions\":{\"git\":{\"commit\":true,\"push\":true}}"
#define REBOUND "git.example.org" /* looks public, is 127.0.0.1 */
#define RELAY_BYTES 65536

static struct runner *runner;

/* A line to the ssh server that can be cut. */
static struct line {
    volatile long allowed; /* bytes towards us; then it is cut, or silent */
    volatile int silent;
} * line;
static pid_t line_pid;
static int line_port;

static void start_line(void);

/* ---- the world ---- */

/* A name of the big world that leads home, for us and for whom we start. */
static void rebind_name(void)
{
    char *hosts = textf("%s/hosts", host.dir);
    write_file(hosts, "127.0.0.1 localhost " REBOUND "\n", 0644);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount(hosts, "/etc/hosts", NULL, MS_BIND, NULL))
        fail_msg("cannot put another hosts file in place");
    free(hosts);
}

static int start_all(void **state)
{
    (void)state;
    if (!githost_start())
        return 0;
    rebind_name();
    runner = githost_runner("");
    runner_set(runner, "MAX_CONCURRENT_TASKS", "16");
    runner_start(runner);
    start_line();
    return 0;
}

static int stop_all(void **state)
{
    (void)state;
    if (line_pid > 0)
        kill(line_pid, SIGKILL); /* and with it who passes on */
    runner_free(runner);
    githost_stop();
    return 0;
}

static void need_host(void)
{
    if (!runner)
        SKIP_BECAUSE("needs root, sshd, nginx and fcgiwrap");
}

/* A task in a repository of the host's directory. */
static struct reply *in(struct runner *where, const char *repo, const char *prompt,
                        const char *more)
{
    char *fields =
        textf("\"repoUrl\":\"file://%s/%s\"%s%s", host.dir, repo, *more ? "," : "", more);
    struct reply *reply = runner_execute(where, prompt, fields);
    free(fields);
    assert_status(reply, 200);
    return reply;
}

static void assert_failed(struct reply *reply, const char *reason, const char *error)
{
    if (!cJSON_IsFalse(json_at(reply->json, "success")))
        fail_msg("it succeeded: %s", reply->body);
    assert_json_text(reply->json, "reason", reason);
    assert_json_contains(reply->json, "error", error);
    reply_free(reply);
}

/* What a shell has counted. */
static int number(const char *said)
{
    char *end;
    long value = strtol(said, &end, 10);
    if (end == said)
        fail_msg("no number: %s", said);
    return (int)value;
}

/* How many git helpers the runner has; with `kill`, they get that signal. */
static int helpers(int signal_number)
{
    char *said = sh("kids() { for p in $(pgrep -P $1); do echo $p; kids $p; done; }; n=0;"
                    " for p in $(kids %d); do if tr '\\0' ' ' 2>/dev/null </proc/$p/cmdline |"
                    " grep -q '^[^ ]* git $'; then n=$((n + 1)); [ %d = 0 ] || kill -%d $p; fi;"
                    " done; echo $n",
                    (int)runner->pid, signal_number, signal_number);
    int count = number(said);
    free(said);
    return count;
}

/* ---- the line ---- */

static int connect_to(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int listen_on(int *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    *ret_port = ntohs(at.sin_port);
    return fd;
}

/* Passes on what one side says; false when it is over. */
static bool pass(int from, int to, bool counted, long *passed)
{
    char data[RELAY_BYTES];
    ssize_t n = read(from, data, sizeof data);
    if (n <= 0)
        return false;
    *passed += counted ? n : 0;
    if (counted && *passed > line->allowed) {
        while (line->silent)
            poll(NULL, 0, 20);
        return false;
    }
    return write(to, data, (size_t)n) == n;
}

static void relay(int client)
{
    long passed = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int server = connect_to(host.ssh_port);
    struct pollfd fds[] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
    bool open = server >= 0;
    while (open && poll(fds, 2, 20000) > 0)
        open = (!fds[0].revents || pass(client, server, false, &passed)) &&
               (!fds[1].revents || pass(server, client, true, &passed));
    _exit(0);
}

static void start_line(void)
{
    int port, listener = listen_on(&port);
    line = mmap(NULL, sizeof *line, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    line_port = port;
    line_pid = fork();
    if (line_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGCHLD, SIG_IGN);
        for (;;) {
            int client = accept(listener, NULL, NULL);
            if (client >= 0 && fork() == 0)
                relay(client);
            close(client);
        }
    }
    close(listener);
}

static char *line_fields(const char *repo, const char *more)
{
    char *key = key_json("k_ed25519");
    char *fields = textf("\"repoUrl\":\"ssh://root@localhost:%d%s/%s\",\"sshKey\":%s%s%s",
                         line_port, host.dir, repo, key, *more ? "," : "", more);
    free(key);
    return fields;
}

/* ---- what a repository can hold ---- */

/* tree MODE NAME TYPE-OF-CONTENT: raw trees, with names that git itself would not write. */
static const char make_hostile[] =
    "rm -rf '%s' && git init -q --bare -b main '%s' && cd '%s' && raw() { printf \"$1 $2\\0\";"
    " printf \"$(echo $3 | sed 's/../\\\\x&/g')\"; } &&"
    " put() { git hash-object -t tree --literally -w --stdin; } &&"
    " evil=$(printf '#!/bin/sh\\ntouch %s/owned\\n' | git hash-object -w --stdin) &&"
    " to=$(printf '%%s' '%s' | git hash-object -w --stdin) &&"
    " inner=$(raw 100755 owned $evil | put) && %s &&"
    " git update-ref refs/heads/main $(git commit-tree $top -m hostile)";

static void names_that_git_would_take_for_its_own_are_refused(void **state)
{
    (void)state;
    need_host();
    static const struct {
        const char *tree, *says;
    } cases[] = {
        {"top=$(raw 40000 .GIT $inner | put)", "invalid path"},
        {"top=$(raw 40000 git~1 $inner | put)", "invalid path"},
        {"top=$(raw 40000 '.g\\xe2\\x80\\x8cit' $inner | put)", "invalid path"},
        {"top=$(raw 40000 .git $inner | put)", "invalid path"},
        {"top=$(raw 40000 .. $inner | put)", "invalid path"},
        {"top=$(raw 40000 . $inner | put)", "invalid path"},
        {"top=$(raw 100644 ../owned $evil | put)", ""},
        {"top=$(raw 100644 a/../../owned $evil | put)", ""},
        {"top=$( { raw 120000 d $to; raw 40000 d $inner; } | put)", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        free(sh(make_hostile, "hostile.git", "hostile.git", "hostile.git", runner->shared,
                runner->shared, cases[i].tree));
        struct reply *reply = in(runner, "hostile.git", "git status", "");
        if (*cases[i].says)
            assert_failed(reply, "repo_error", cases[i].says);
        else
            reply_free(reply);
        assert_true(says(sh("ls -a %s %s/repos", runner->shared, runner->state), ""));
        char *found =
            sh("find %s %s -name owned -path '*shared*' -o -name owned -path '*/repos/owned'"
               " 2>/dev/null | head -1", /* the janitor is in there as well */
               runner->shared, runner->state);
        assert_string_equal(found, "");
        free(found);
    }
}

static void links_twins_pointers_and_submodules_are_kept_and_told(void **state)
{
    (void)state;
    need_host();
    free(sh("git init -q -b main odd; cd odd; ln -s /etc/shadow s; ln -s ../../../.. up; ln -s s l;"
            " echo a >README; echo b >readme; printf 'version https://git-lfs.github.com/spec/v1\\n"
            "oid sha256:%%064d\\nsize 4294967296\\n' 7 >big.bin; printf '[submodule \"sub\"]\\n"
            "\\tpath = sub\\n\\turl = https://169.254.169.254/evil\\n' >.gitmodules; mkdir sub;"
            " git add .; git update-index --add --cacheinfo 160000,%040d,sub; git commit -qm odd; "
            "cd ..;"
            " git clone -q --bare odd odd.git",
            5));
    for (int round = 0; round < 2; round++) {
        struct reply *reply = good(in(runner, "odd.git",
                                      "git status --porcelain; readlink s up; cat README readme;"
                                      " ls sub; wc -c <big.bin; git fsck; git config -l | grep -c"
                                      " submodule || true",
                                      ""));
        assert_json_text(reply->json, "output", "/etc/shadow\n../../../..\na\nb\n135\n0");
        const cJSON *repo = json_at(reply->json, "repo");
        assert_int_equal((int)json_at(repo, "lfsPointers")->valuedouble, 1);
        assert_string_equal(cJSON_GetArrayItem(json_at(repo, "submodules"), 0)->valuestring, "sub");
        reply_free(reply);
    }
}

static void a_long_history_and_a_wide_tree_are_whole(void **state)
{
    (void)state;
    need_host();
    free(
        sh("git init -q --bare -b main long.git; awk 'BEGIN { for (i = 1; i <= 100000; i++)"
           " printf \"commit refs/heads/main\\ncommitter a <a@b> %%d +0000\\ndata 1\\nx\\nM 100644"
           " inline f\\ndata %%d\\n%%d\\n\", 1600000000 + i, length(i \"\"), i }' |"
           " git -C long.git fast-import --quiet; git init -q --bare -b main wide.git; awk 'BEGIN {"
           " print \"commit refs/heads/main\\ncommitter a <a@b> 1600000000 +0000\\ndata 1\\nx\";"
           " for (i = 0; i < 50000; i++) printf \"M 100644 inline d%%d/f%%d\\ndata %%d\\n%%d\\n\","
           " i %% 500, i, length(i \"\"), i }' | git -C wide.git fast-import --quiet"));
    struct reply *reply = good(in(runner, "long.git", "git rev-list --count HEAD; cat f", ""));
    assert_json_text(reply->json, "output", "100000\n100000");
    reply_free(reply);
    reply = good(in(runner, "wide.git",
                    "git ls-files | wc -l; git status --porcelain | wc -l;"
                    " GIT_TRACE2_PERF=1 git status 2>&1 | grep -c 'sum_scan' ||"
                    " true",
                    "\"gitDepth\":1"));
    assert_json_contains(reply->json, "output", "50000\n0\n");
    reply_free(reply);
    reply = good(in(runner, "wide.git",
                    "echo changed >d7/f7; git rm -q d8/f8; git status "
                    "--porcelain",
                    PUSH));
    assert_json_bool(json_at(reply->json, "gitCommit"), "pushed", true);
    reply_free(reply);
    assert_true(says(sh("git -C wide.git show --format= --name-status main; git -C wide.git fsck"),
                     "M\td7/f7\nD\td8/f8\n"));
}

/* ---- what a URL can be ---- */

static void what_looks_like_an_option_is_none(void **state)
{
    (void)state;
    need_host();
    static const char *const fields[] = {
        "\"repoUrl\":\"--upload-pack=touch owned\"",
        "\"repoUrl\":\"-oProxyCommand=touch owned\"",
        "\"repoUrl\":\"ext::sh -c touch% owned\"",
        "\"repoUrl\":\"ssh://-oProxyCommand=touch/o/r\"",
        "\"repoUrl\":\"ssh://git@-oProxyCommand=touch/o/r\"",
        "\"repoUrl\":\"git@-oProxyCommand=x:o/r\"",
        "\"repoUrl\":\"https://localhost/$(touch owned)\"",
        "\"repoUrl\":\"https://localhost/../../etc\"",
        "\"repoUrl\":\"file://@D/../etc\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitBranch\":\"--upload-pack=x\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitRef\":\"--output=owned\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitRef\":\"HEAD^{tree}\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitRef\":\"main..v1\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitRef\":\"@{-1}\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitBranch\":\"a b\"",
        "\"repoUrl\":\"file://@D/o.git\",\"gitBranch\":\"x.lock\"",
        "\"repoUrl\":\"git://localhost/o/r\"",
        "\"repoUrl\":\"ftp://localhost/o/r\"",
    };
    for (size_t i = 0; i < COUNT(fields); i++) {
        char *text = filled(fields[i], runner->shared);
        struct reply *reply = runner_execute(runner, "true", text);
        if (reply->status != 400 && !cJSON_IsFalse(json_at(reply->json, "success")))
            fail_msg("%s: %s", text, reply->body);
        reply_free(reply);
        free(text);
    }
}

static void odd_branches_are_branches(void **state)
{
    (void)state;
    need_host();
    static const char *const names[] = {
        "we\\\"ird",          "do$lar", "semi;colon", "a&b|c", "\\u00fcml\\u00e4ut",
        "deep/er/and/deeper", "quo'te", "`x`",        "#hash", "p%20"};
    for (size_t i = 0; i < COUNT(names); i++) {
        char *json = textf("\"%s\"", names[i]);
        cJSON *name = cJSON_Parse(json);
        char *path = textf("%s/name", host.dir);
        write_file(path, name->valuestring, 0644);
        free(sh("git -C o.git branch -f \"$(cat name)\" main"));
        char *more = textf("\"gitBranch\":%s", json);
        struct reply *reply = in(runner, "o.git", "git rev-parse --abbrev-ref HEAD @{u}", more);
        if (cJSON_IsTrue(json_at(reply->json, "success"))) {
            char *expected = textf("%s\norigin/%s", name->valuestring, name->valuestring);
            assert_json_text(reply->json, "output", expected);
            free(expected);
        } else {
            fail_msg("%s: %s", json, reply->body);
        }
        reply_free(reply);
        free(more);
        free(path);
        free(json);
        cJSON_Delete(name);
    }
}

static void a_public_name_of_a_private_address_is_refused(void **state)
{
    (void)state;
    need_host();
    static const char *const urls[] = {"https://" REBOUND ":%d/o.git",
                                       "ssh://git@" REBOUND ":%d/o.git"};
    for (size_t i = 0; i < COUNT(urls); i++) {
        char fields[300];
        int n = snprintf(fields, sizeof fields, "\"repoUrl\":\"");
        n += i == 0 ? snprintf(fields + n, sizeof fields - (size_t)n,
                               "https://" REBOUND ":%d/o.git", host.web_port)
                    : snprintf(fields + n, sizeof fields - (size_t)n,
                               "ssh://git@" REBOUND ":%d/o.git", host.ssh_port);
        snprintf(fields + n, sizeof fields - (size_t)n, "\"");
        long before = file_size(runner->log);
        (void)before;
        struct reply *reply = runner_execute(runner, "true", fields);
        assert_failed(reply, "repo_error", "private addresses only");
    }
}

static void a_password_in_a_url_is_kept_nowhere(void **state)
{
    (void)state;
    need_host();
    char *fields = textf("\"repoUrl\":\"https://me:url-pass-word-7@localhost:%d/o.git\","
                         "\"gitToken\":\"" TOKEN "\"",
                         host.web_port);
    char *id = runner_submit(runner, "git config -l; cat .git/config; git remote -v", fields);
    EVENTUALLY(20000, runner_has_ended(runner, id));
    struct reply *reply = good(runner_result(runner, id));
    assert_null(strstr(reply->body, "url-pass-word-7"));
    reply_free(reply);
    static const char *const places[] = {"/repos", "/tasks/%s", "/tasks/%s/events", "/tasks"};
    for (size_t i = 0; i < COUNT(places); i++) {
        char path[200];
        const char *hole = strstr(places[i], "%s");
        snprintf(path, sizeof path, "%.*s%s%s", hole ? (int)(hole - places[i]) : 100, places[i],
                 hole ? id : "", hole ? hole + 2 : "");
        reply = runner_get(runner, path);
        assert_status(reply, 200);
        assert_null(strstr(reply->body, "url-pass-word-7"));
        reply_free(reply);
    }
    assert_true(says(sh("grep -rsl url-pass-word-7 %s %s || echo none", runner->state, runner->log),
                     "none"));
    free(id);
    free(fields);
}

/* ---- remotes that break down ---- */

static void a_remote_that_says_nothing_is_left_in_time(void **state)
{
    (void)state;
    need_host();
    int port, listener = listen_on(&port);
    char *key = key_json("k_ed25519");
    runner_stop(runner, 10000);
    runner_set(runner, "GIT_TIMEOUT_SECONDS", "2");
    runner_start(runner);
    for (int i = 0; i < 2; i++) {
        char *fields =
            i == 0 ? textf("\"repoUrl\":\"https://localhost:%d/o/r\"", port)
                   : textf("\"repoUrl\":\"ssh://git@localhost:%d/o/r\",\"sshKey\":%s", port, key);
        int64_t start = now_ms();
        struct reply *reply = runner_execute(runner, "true", fields);
        assert_failed(reply, "repo_error", "in time");
        assert_true(now_ms() - start < 7000 * slowness());
        EVENTUALLY(5000, helpers(0) == 0);
        free(fields);
    }
    runner_stop(runner, 10000);
    runner_set(runner, "GIT_TIMEOUT_SECONDS", "90");
    runner_start(runner);
    free(key);
    close(listener);
}

static void make_big(void)
{
    free(sh("[ -d big.git ] || { git init -q -b main big; cd big; head -c 4000000 /dev/urandom >r;"
            " git add r; git commit -qm big; cd ..; git clone -q --bare big big.git; }"));
}

static void a_remote_that_dies_in_mid_pack_leaves_nothing_behind(void **state)
{
    (void)state;
    need_host();
    make_big();
    line->allowed = 1000000;
    char *fields = line_fields("big.git", "");
    struct reply *reply = runner_execute(runner, "true", fields);
    assert_failed(reply, "repo_error", "git fetch");
    line->allowed = 100000000;
    reply = good(runner_execute(runner, "git fsck; wc -c <r", fields));
    assert_json_text(reply->json, "output", "4000000");
    reply_free(reply);
    /* and a mirror that was whole before */
    free(sh("cd big; head -c 3000000 /dev/urandom >r2; git add r2; git commit -qm more;"
            " git push -q ../big.git main"));
    line->allowed = 500000;
    reply = runner_execute(runner, "true", fields);
    assert_failed(reply, "repo_error", "git fetch");
    line->allowed = 100000000;
    reply = good(runner_execute(runner, "git fsck; wc -c <r2", fields));
    assert_json_text(reply->json, "output", "3000000");
    reply_free(reply);
    assert_true(says(
        sh("find %s/repos -name '*.new' -o -name 'tmp_*' -o -name '*.lock' 2>/dev/null | head -1;"
           " echo end",
           runner->state),
        "end"));
    free(fields);
}

/* The helper, then the whole runner, killed while a pack arrives. */
static void a_fetch_that_is_killed_is_done_again(void **state)
{
    (void)state;
    need_host();
    make_big();
    line->allowed = 100000000;
    for (int whole = 0; whole < 2; whole++) {
        free(sh("cd big; head -c 3000000 /dev/urandom >r%d; git add .; git commit -qm more;"
                " git push -q ../big.git main",
                whole + 3));
        line->allowed = 500000;
        line->silent = 1;
        char *fields = line_fields("big.git", "");
        char *id = runner_submit(runner, "true", fields);
        EVENTUALLY(10000, says(sh("find %s/repos -name 'tmp_pack*' -size +100k 2>/dev/null | wc -l",
                                  runner->state),
                               "1\n"));
        if (whole) {
            runner_crash(runner);
            runner_start(runner);
        } else {
            assert_int_equal(helpers(SIGKILL), 1);
        }
        EVENTUALLY(20000, runner_has_ended(runner, id));
        struct reply *reply = runner_result(runner, id);
        assert_json_text(reply->json, "reason", whole ? "interrupted" : "repo_error");
        reply_free(reply);
        line->silent = 0;
        line->allowed = 100000000;
        reply = good(runner_execute(runner, "git fsck; git status --porcelain; ls", fields));
        assert_json_contains(reply->json, "output", whole ? "r4" : "r3");
        reply_free(reply);
        free(id);
        free(fields);
    }
    char *left =
        sh("find %s/repos -name '*.new' -o -name 'tmp_*' 2>/dev/null || true", runner->state);
    assert_string_equal(left, "");
    free(left);
}

/* ---- many at once ---- */

static long asked(void)
{
    char *said =
        sh("grep -c 'GET /o.git/info/refs?service=git-upload-pack.* 200' access.log || true");
    long count = number(said);
    free(said);
    return count;
}

static void many_tasks_that_ask_together_cost_one_fetch(void **state)
{
    (void)state;
    need_host();
    char *ids[16];
    char *fields = textf("\"repoUrl\":\"https://localhost:%d/o.git\",\"gitToken\":\"" TOKEN "\"",
                         host.web_port);
    reply_free(good(runner_execute(runner, "true", fields)));
    char *lock = sh("grep -l 'https:[^\"]*/o.git' %s/repos/*/state", runner->state);
    snprintf(strstr(lock, "/state\n"), 7, "/lock");
    int fd = open(lock, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    long before = asked();
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = runner_submit(runner, "cat d/in", fields);
    EVENTUALLY(20000, helpers(0) == 16);
    close(fd);
    for (size_t i = 0; i < COUNT(ids); i++) {
        EVENTUALLY(30000, runner_has_ended(runner, ids[i]));
        reply_free(good(runner_result(runner, ids[i])));
        free(ids[i]);
    }
    assert_int_equal(asked() - before, 1);
    free(lock);
    free(fields);
}

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
    EVENTUALLY(20000, says(sh("ls %s", runner->shared), "ready"));
    char *theirs = sh("cd lw; git push -q origin HEAD:main; git rev-parse HEAD");
    theirs[strcspn(theirs, "\n")] = '\0';
    write_file(go, "", 0644);
    EVENTUALLY(20000, runner_has_ended(runner, id));
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

/* The owner's key is read when it is used: one that was exchanged while the task ran is the new. */
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
    EVENTUALLY(20000, says(sh("ls %s", own->shared), "ready"));
    free(sh("cp k_ecdsa owner; cat k_ecdsa.pub >auth"));
    write_file(go, "", 0644);
    EVENTUALLY(20000, runner_has_ended(own, id));
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
    struct reply *reply = in(runner, "o.git", "true",
                             "\"timeout_ms\":3000,\"preExecutionCommands\":[\"echo so far >&2;"
                             " setsid sleep 7531 & sleep 7532\"]");
    assert_failed(reply, "timeout", "preExecutionCommands");
    assert_int_equal(proc_with_argument("7531") + proc_with_argument("7532"), 0);
    char *fields =
        textf("\"repoUrl\":\"file://%s\",\"preExecutionCommands\":[\"echo one\",\"echo two;"
              " exit 7\",\"touch %s/three\"]",
              host.remote, runner->shared);
    char *id = runner_submit(runner, "true", fields);
    EVENTUALLY(20000, runner_has_ended(runner, id));
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

/* ---- keeping house ---- */

static bool packs_are_few(const char *state)
{
    char *said =
        sh("for s in $(grep -l many.git %s/repos/*/state); do ls $(dirname $s)/git/objects/pack/"
           "*.pack | wc -l; done",
           state);
    bool few = number(said) > 0 && number(said) < 5;
    free(said);
    return few;
}

/* The task stands in its workspace: that it is running says less. */
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
    EVENTUALLY(20000, packs_are_few(own->state));
    write_file(go, "", 0644);
    EVENTUALLY(20000, runner_has_ended(own, id));
    struct reply *reply = good(runner_result(own, id));
    assert_json_text(reply->json, "output", count);
    reply_free(reply);
    reply = good(in(own, "many.git", "git fsck; git rev-list --count HEAD", ""));
    char *expected = textf("%d", number(count) + 26);
    assert_json_text(reply->json, "output", expected);
    reply_free(reply);
    char *left = sh("find %s/repos -name repack 2>/dev/null || true", own->state);
    assert_string_equal(left, "");
    free(left);
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
    EVENTUALLY(20000, says(sh("grep -l c_old.git %s/repos/*/state 2>/dev/null || echo evicted",
                              own->state),
                           "evicted"));
    char *path = textf("/tasks/%s", id);
    struct reply *reply = runner_get(own, path);
    assert_json_text(reply->json, "status", "running");
    reply_free(reply);
    write_file(go, "", 0644);
    EVENTUALLY(20000, runner_has_ended(own, id));
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

/* A runner with a login, whose state and credentials are on 40 MB. */
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

/* Every token works once: one that was lost, or an older one in the file, would be found out at the
 * next refresh. */
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

/* A task that cannot say how it ended says so in the log, and waits. */
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
    EVENTUALLY(20000, runner_has_ended(own, id));
    struct reply *reply = runner_result(own, id);
    bool good = cJSON_IsTrue(json_at(reply->json, "success"));
    const cJSON *error = json_at(reply->json, "error");
    if (!good && !(cJSON_IsString(error) && *error->valuestring))
        fail_msg("%d KiB: %s", kib, reply->body);
    print_message("%5d KiB free: %s\n", kib, good ? "done" : error->valuestring);
    reply_free(reply);
}

/* Whatever room is left, a task is refused, or ends with a reason once there is room to say so. */
static void run_with_room_of(struct runner *own, const char *small, int kib)
{
    static const char *const more[] = {
        "", "," PUSH,
        ",\"environmentSecrets\":{\"A\":\"b\"},\"postExecutionActions\":{\"uploadFiles\":"
        "{\"globPatterns\":[\"*\"]}}"};
    char *ids[COUNT(more)] = {NULL};
    long from = file_size(own->log);
    free(sh("cd '%s'; n=$(($(df --output=avail -k . | tail -1) - %d)); [ $n -le 0 ] ||"
            " head -c ${n}k /dev/zero >fill",
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
            EVENTUALLY(20000, runner_has_ended(own, ids[i]) || complains_of_room(own, from));
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
    assert_int_equal(runner_stop(own, 20000), 0);
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
    runner_stop(own, 20000);
    free(sh("umount '%s'", small));
    runner_free(own);
    api_free(tokens);
    free(fields);
    free(small);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_git_would_take_for_its_own_are_refused),
        cmocka_unit_test(links_twins_pointers_and_submodules_are_kept_and_told),
        cmocka_unit_test(a_long_history_and_a_wide_tree_are_whole),
        cmocka_unit_test(what_looks_like_an_option_is_none),
        cmocka_unit_test(odd_branches_are_branches),
        cmocka_unit_test(a_public_name_of_a_private_address_is_refused),
        cmocka_unit_test(a_password_in_a_url_is_kept_nowhere),
        cmocka_unit_test(a_remote_that_says_nothing_is_left_in_time),
        cmocka_unit_test(a_remote_that_dies_in_mid_pack_leaves_nothing_behind),
        cmocka_unit_test(a_fetch_that_is_killed_is_done_again),
        cmocka_unit_test(many_tasks_that_ask_together_cost_one_fetch),
        cmocka_unit_test(many_pushes_and_a_stranger_all_get_home),
        cmocka_unit_test(a_commit_that_the_server_refuses_is_kept_as_a_bundle),
        cmocka_unit_test(the_first_commit_of_an_empty_repository_gets_home_or_is_kept),
        cmocka_unit_test(what_cannot_be_rebased_replaces_only_what_it_has_seen),
        cmocka_unit_test(who_commits_what_and_where_is_as_asked),
        cmocka_unit_test(the_key_of_the_push_is_the_one_of_that_moment),
        cmocka_unit_test(uploads_are_plain_files_and_bounded),
        cmocka_unit_test(secrets_are_what_they_were_and_never_in_git),
        cmocka_unit_test(commands_before_are_shown_and_end_with_their_whole_tree),
        cmocka_unit_test(what_claude_is_given_is_where_it_looks_and_not_in_the_repository),
        cmocka_unit_test(the_cache_keeps_to_its_size_and_nobody_loses_ground),
        cmocka_unit_test(a_full_disk_ends_tasks_clearly_and_harms_nothing),
        cmocka_unit_test(many_packs_become_one_under_a_workspace_that_goes_on),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("repos-hostile", tests, start_all, stop_all);
}
