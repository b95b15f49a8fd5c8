/*
 * Hostile commands, paths and archives: each is answered, none with 5xx, nothing leaves the
 * session, and the next command works. How many there are is printed.
 */
#include "session.h"
#include "session_hostile_cases.h"
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct runner *shared;

static struct runner *get(void)
{
    static const char *const settings[] = {"SESSIONS_MAX", "8", NULL};
    return runner_shared(&shared, settings);
}

static bool says_still(const char *id, const char *fields)
{
    struct done *done = session_run(get(), id, "echo still", fields);
    bool works =
        strstr(done->out, "still") && cJSON_IsNull(cJSON_GetObjectItem(done->reply->json, "cause"));
    done_free(done);
    return works;
}

/* The shell still works, and so does another. What a command has left running, or a limit that it
 * has set, may meet the next command, too, but not the one after. True when the next one works. */
static bool still_works(const char *id, const char *after)
{
    static const char *const shells[] = {"\"timeout\":30", "\"timeout\":30,\"shell\":\"beside\""};
    static unsigned count;
    size_t look_at = count++ % 10 == 0 ? COUNT(shells) : 1; /* at the other one now and then */
    bool at_once = true;
    for (size_t i = 0; i < look_at; i++) {
        if (says_still(id, shells[i]))
            continue;
        at_once = false;
        if (!says_still(id, shells[i]))
            fail_msg("two commands failed after '%s'", after);
    }
    return at_once;
}

static void no_command_bricks_a_session(void **state)
{
    (void)state;
    size_t met = 0;
    session_make(get(), "c");
    for (size_t i = 0; i < COUNT(hostile); i++) {
        done_free(session_run(get(), "c", hostile[i], "\"timeout\":1"));
        met += !still_works("c", hostile[i]);
    }
    print_message("%zu hostile commands, %zu met the next one, too\n", COUNT(hostile), met);
    assert_true(met < COUNT(hostile) / 10);
    reply_free(runner_delete(get(), "/sessions/c"));
}

/* What is done to the session's own directories, and then all of its processes end. */
static void no_command_bricks_a_session_that_begins_again(void **state)
{
    (void)state;
    static const char *const harms[] = {
        "rm -rf /box/* /box/.[a-z]*",
        "chmod 000 /box/* /box",
        "rm -rf /box/shells/*; mkfifo /box/shells/default",
        "rm -rf /box/shells/*; ln -s /dev/zero /box/shells/default",
        "rm -rf /box/shells/*; mkdir -p /box/shells/default/x",
        "rm -rf /box/shells/*; truncate -s 1T /box/shells/default",
        "echo 'kill -9 $$' >/box/shells/default",
        "echo 'exit' >/box/shells/default; chmod 000 /box/shells/default",
        "echo 'while :; do :; done' >/box/shells/default",
        "mv /box/workspace /box/w; ln -s /etc /box/workspace",
        "mv /box/home /box/h; echo x >/box/home",
        "rm -rf /home/user; ln -s / /home/user",
        "rm -rf /tmp; chmod 000 /tmp /workspace",
    };
    for (size_t i = 0; i < COUNT(harms); i++) {
        char *command = textf("{ %s; } 2>/dev/null; kill -9 $PPID; kill -9 $$", harms[i]);
        session_make(get(), "b");
        done_free(session_run(get(), "b", "true", ""));
        done_free(session_run(get(), "b", command, "\"timeout\":5"));
        done_free(session_run(get(), "b", ":", "\"timeout\":2")); /* what was left may hang once */
        (void)still_works("b", command);
        reply_free(runner_delete(get(), "/sessions/b"));
        free(command);
    }
    print_message("%zu harms to a session's own\n", COUNT(harms));
}

/* ---- paths ---- */

static const char setup[] =
    "mkdir d; echo hello >p; ln -s /etc/hostname abs; ln -s ../../../../root up; ln -s d dl; "
    "ln -s p pl; ln -s nowhere dang; ln -s loop2 loop1; ln -s loop1 loop2; mkfifo fifo; "
    "truncate -s 3T sparse; ln -s /proc/self/root pr; ln -s /proc/1/cwd pc; ln -s /dev/zero z; "
    "ln -s /dev/stdin si; mkdir closed; echo x >closed/x; chmod 0 closed; echo y >noread; "
    "chmod 0 noread; printf '1\\n2\\n3' >lines; printf 'a\\0b' >nul; printf '\\377\\376' >bad; "
    "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('sock')\"; exit 0";

/* `status`: what has to be answered; 0: anything but 5xx. */
static const struct {
    const char *method, *path;
    int status;
} paths[] = {
    {"GET", "files/./p", 400},
    {"GET", "files/d/../p", 400},
    {"GET", "files/%2e%2e/%2e%2e/etc/passwd", 400},
    {"GET", "files/..%2f..%2fetc/passwd", 400},
    {"GET", "files/p%00", 400},
    {"GET", "files/p%0a", 400},
    {"GET", "files/%ff%fe", 400},
    {"GET", "files/%c0%ae%c0%ae/x", 400},
    {"GET", "files/%zz", 400},
    {"GET", "files/%", 400},
    {"GET", "files/p%2", 400},
    {"GET", "files/", 404},
    {"GET", "files//", 409},
    {"GET", "files/.", 400},
    {"GET", "files/..", 400},
    {"GET", "files/up", 0},
    {"GET", "files/up/.ssh/id_rsa", 404},
    {"GET", "files/dang", 404},
    {"PUT", "files/dang", 409},
    {"GET", "files/loop1", 403},
    {"PUT", "files/loop1", 403},
    {"GET", "files/fifo", 409},
    {"PUT", "files/fifo", 409},
    {"PUT", "files/fifo?append=true", 409},
    {"GET", "files/sock", 409},
    {"PUT", "files/sock", 409},
    {"GET", "files/z", 409},
    {"PUT", "files/z", 409},
    {"PUT", "files/z?append=true", 409},
    {"GET", "files/si", 403},
    {"GET", "files/pr/etc/passwd", 403},
    {"GET", "files/pc/x", 403},
    {"PUT", "files/pr/tmp/x", 403},
    {"GET", "files//proc/1/environ", 0},
    {"PUT", "files//proc/self/mem", 0},
    {"PUT", "files//proc/self/mem?append=true", 403},
    {"PUT", "files//proc/self/comm?append=true", 403},
    {"PUT", "files//proc/sysrq-trigger", 0},
    {"PUT", "files//proc/1/oom_score_adj?append=true", 0},
    {"GET", "files//proc/kmsg", 0},
    {"GET", "files//proc/kcore", 0},
    {"PUT", "files//dev/null", 0},
    {"GET", "files//dev/ptmx", 0},
    {"GET", "files//dev/pts/0", 0},
    {"GET", "files//sys/kernel", 0},
    {"DELETE", "files//", 403},
    {"DELETE", "files//home", 403},
    {"DELETE", "files//workspace/", 403},
    {"DELETE", "files//proc/1", 0},
    {"GET", "files/closed/x", 403},
    {"PUT", "files/closed/y", 403},
    {"GET", "files/noread", 403},
    {"PUT", "files/p/x", 404},
    {"PUT", "files/pl/x", 404},
    {"PUT", "files/dl", 409},
    {"PUT", "files/d/", 409},
    {"PUT", "files/d?append=true", 409},
    {"GET", "files/a%0ab", 400},
    {"PUT", "files/x?mode=99", 400},
    {"PUT", "files/x?mode=7777", 400},
    {"PUT", "files/x?mode=-1", 400},
    {"PUT", "files/x?append=maybe", 400},
    {"GET", "files/sparse?maxLength=10", 0},
    {"HEAD", "files/sparse", 200},
    {"GET", "files/sparse?startLine=1&endLine=2", 413},
    {"GET", "files/lines?startLine=-1", 400},
    {"GET", "files/lines?startLine=99999999999999999999", 400},
    {"GET", "files/lines?startLine=2&endLine=1", 200},
    {"GET", "files/lines?maxLength=0", 200},
    {"GET", "files/bad?startLine=1", 0},
    {"GET", "files?path=p", 404},
    {"GET", "files?path=closed", 403},
    {"GET", "files?path=/proc/1/fd", 0},
    {"GET", "files?path=.&limit=x", 400},
    {"GET", "files?path=.&cursor=../..", 0},
    {"GET", "files?path=loop1", 403},
    {"GET", "files?path=/&recursive=true&limit=5", 0},
    {"GET", "archive?path=sock", 409},
    {"GET", "archive?path=/dev/zero", 409},
    {"GET", "archive?path=loop1", 403},
    {"GET", "archive?path=sparse", 413},
    {"GET", "archive?path=closed", 403},
    {"PUT", "archive?path=p", 0},
    {"PUT", "archive?path=closed", 0},
    {"PUT", "archive?path=/etc", 0},
    {"PUT", "archive?path=loop1", 403},
    {"PUT", "archive?path=fifo", 0},
    {"PUT", "archive?path=/proc/self", 0},
    {"DELETE", "files//box/shells", 0},
    {"DELETE", "files//box/workspace", 0}, /* empties it: last */
    {"DELETE", "files//box", 0},
};

static void no_path_leads_out(void **state)
{
    (void)state;
    session_make(get(), "p");
    done_free(session_run(get(), "p", setup, ""));
    for (size_t i = 0; i < COUNT(paths); i++) {
        char *path = textf("/sessions/p/%s", paths[i].path);
        struct reply *reply = session_send(get(), paths[i].method, path, "data", 4);
        if (paths[i].status ? reply->status != paths[i].status : reply->status >= 500)
            fail_msg("%s %s: %d, not %d: %s", paths[i].method, paths[i].path, reply->status,
                     paths[i].status, reply->body);
        if (reply->body && strstr(reply->body, RUNNER_SECRET))
            fail_msg("%s shows the runner's secret", paths[i].path);
        reply_free(reply);
        free(path);
    }
    still_works("p", "the paths");
    print_message("%zu hostile paths\n", COUNT(paths));
    reply_free(runner_delete(get(), "/sessions/p"));
}

/* ---- archives ---- */

/* An entry, or two: `pax` is a record for an extended header before it (key=value, its length is
 * put before it) or, when it begins with '!', that header's whole content; `size` is the field as
 * it is written; `then` the name of a file after it. status 0: anything but 5xx. */
static const struct archive {
    const char *name;
    char type;
    const char *link, *size, *pax, *then;
    int status;
} archives[] = {
    {"n", '0', "", NULL, "path=../x", NULL, 422},
    {"n", '0', "", NULL, "path=/etc/x", NULL, 422},
    {"n", '0', "", NULL, "path=", NULL, 422},
    {"n", '0', "", NULL, "path=a/../../x", NULL, 422},
    {"n", '0', "", NULL, "path=\xff\xfe", NULL, 422},
    {"n", '0', "", NULL, "path=\xc0\xae\xc0\xae/x", NULL, 422},
    {"n", '0', "", NULL, "path=a\nb", NULL, 422},
    {"n", '0', "", NULL, "path=a\x1b[31m", NULL, 422},
    {"n", '2', "", NULL, "linkpath=/etc", NULL, 422},
    {"n", '2', "", NULL, "linkpath=../../x", NULL, 422},
    {"n", '1', "", NULL, "linkpath=../../etc/passwd", NULL, 422},
    {"n", '0', "", NULL, "size=999999999999999999", NULL, 413},
    {"n", '0', "", NULL, "size=-1", NULL, 422},
    {"n", '0', "", NULL, "size=1e9", NULL, 422},
    {"n", '0', "", NULL, "size=9999999999999999999999999", NULL, 422},
    {"n", '0', "", NULL, "GNU.sparse.major=1", NULL, 422},
    {"n", '0', "", NULL, "GNU.sparse.map=0,1", NULL, 422},
    {"n", '0', "", NULL, "!5 path=x\n", NULL, 422},
    {"n", '0', "", NULL, "!999999 path=x\n", NULL, 422},
    {"n", '0', "", NULL, "!0 path=x\n", NULL, 422},
    {"n", '0', "", NULL, "!-9 path=x\n", NULL, 422},
    {"n", '0', "", NULL, "!99999999999999999999 path=x\n", NULL, 422},
    {"n", '0', "", NULL, "!9 path=xy", NULL, 422},
    {"n", '0', "", NULL, "!7 path\n", NULL, 422},
    {"n", '0', "", NULL, "!\n", NULL, 422},
    {"a", '0', "", "77777777777", NULL, NULL, 422},
    {"a", '0', "", "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", NULL, NULL, 422},
    {"a", '0', "", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", NULL, NULL, 422},
    {"a", '0', "", "abcdefghijk", NULL, NULL, 422},
    {"a", '0', "", "99999999999", NULL, NULL, 422},
    {"a", '0', "", "-0000000001", NULL, NULL, 422},
    {"a", 'D', "", NULL, NULL, NULL, 422},
    {"a", 'M', "", NULL, NULL, NULL, 422},
    {"a", 'V', "", NULL, NULL, NULL, 422},
    {"a", 'N', "", NULL, NULL, NULL, 422},
    {"a", 'X', "", NULL, NULL, NULL, 422},
    {"a", '8', "", NULL, NULL, NULL, 422},
    {"a", '\xff', "", NULL, NULL, NULL, 422},
    {"a", '3', "", NULL, NULL, NULL, 422},
    {"a", '4', "", NULL, NULL, NULL, 422},
    {"a", '6', "", NULL, NULL, NULL, 422},
    {"", '0', "", NULL, NULL, NULL, 422},
    {".", '0', "", NULL, NULL, NULL, 422},
    {".", '2', "x", NULL, NULL, NULL, 422},
    {"../", '5', "", NULL, NULL, NULL, 422},
    {"/", '0', "", NULL, NULL, NULL, 422},
    {"//a", '0', "", NULL, NULL, NULL, 422},
    {"a/./b", '0', "", NULL, NULL, NULL, 422},
    {"a/b/../c", '0', "", NULL, NULL, NULL, 422},
    {"./..", '0', "", NULL, NULL, NULL, 422},
    {".//./../x", '0', "", NULL, NULL, NULL, 422},
    {"...", '0', "", NULL, NULL, NULL, 200},
    {"-rf", '0', "", NULL, NULL, NULL, 200},
    {"a\\..\\..\\b", '0', "", NULL, NULL, NULL, 200},
    {"l", '2', "l", NULL, NULL, NULL, 0},
    {"l", '2', ".", NULL, NULL, "l/x", 422},
    {"l", '2', "d", NULL, NULL, "l", 200},
    {"l", '2', "//etc", NULL, NULL, NULL, 422},
    {"l", '2', "../", NULL, NULL, NULL, 422},
    {"d/l", '2', "a/../../../x", NULL, NULL, NULL, 422},
    {"h", '1', "h", NULL, NULL, NULL, 422},
    {"h", '1', "", NULL, NULL, NULL, 422},
    {"h", '1', "/workspace/in/x", NULL, NULL, NULL, 422},
    {"d/", '5', "", NULL, NULL, "d", 409},
    {"d", '0', "", NULL, NULL, "d/x", 422},
    {"x", '0', "", NULL, NULL, "x", 200},
};

/* The record with its own length before it. */
static char *pax_record(const char *pax)
{
    size_t bare = strlen(pax) + 2, len = bare + 1;
    for (size_t digits; (digits = (size_t)snprintf(NULL, 0, "%zu", len)) + bare != len;)
        len = digits + bare;
    return pax[0] == '!' ? strdup(pax + 1) : textf("%zu %s\n", len, pax);
}

/* Writes another size into the header at `at`, and mends its sum. */
static void set_size(struct tar *tar, size_t at, const char *size)
{
    char *head = tar->data + at;
    unsigned sum = 0;
    memset(head + 124, 0, 12);
    memcpy(head + 124, size, strlen(size) < 12 ? strlen(size) : 12);
    memset(head + 148, ' ', 8);
    for (size_t i = 0; i < 512; i++)
        sum += (unsigned char)head[i];
    snprintf(head + 148, 8, "%06o", sum);
}

static struct tar build(const struct archive *archive)
{
    struct tar tar = {0};
    if (archive->pax) {
        char *record = pax_record(archive->pax);
        tar_add(&tar, "pax", 'x', record);
        free(record);
    }
    size_t at = tar.size;
    tar_add(&tar, archive->name, archive->type,
            archive->type == '1' || archive->type == '2' ? archive->link : "x");
    if (archive->size)
        set_size(&tar, at, archive->size);
    if (archive->then)
        tar_add(&tar, archive->then, '0', "y");
    tar_end(&tar);
    return tar;
}

static void put_archive(const void *data, size_t size, int status, const char *what)
{
    struct reply *reply = session_send(get(), "PUT", "/sessions/t/archive?path=in", data, size);
    if (status ? reply->status != status : reply->status >= 500)
        fail_msg("%s: %d, not %d: %s", what, reply->status, status, reply->body);
    reply_free(reply);
}

static void no_archive_leads_out(void **state)
{
    (void)state;
    session_make(get(), "t");
    for (size_t i = 0; i < COUNT(archives); i++) {
        struct tar tar = build(&archives[i]);
        char *what = textf("'%s' (%c) '%s' %s", archives[i].name, archives[i].type,
                           archives[i].link, archives[i].pax ? archives[i].pax : "");
        done_free(session_run(get(), "t", "cd /workspace; rm -rf in", ""));
        put_archive(tar.data, tar.size, archives[i].status, what);
        struct done *done = session_run(get(), "t", "ls -A /workspace | grep -vx in", "");
        assert_string_equal(done->out, "");
        done_free(done);
        free(tar.data);
        free(what);
    }
    print_message("%zu hostile archives\n", COUNT(archives));
}

/* Packed by the session's own gzip, then changed. */
static void a_damaged_gzip_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *how;
        int status;
    } harms[] = {
        {"cat a.gz", 200},
        {"head -c -4 a.gz", 422},                                    /* its length is missing */
        {"head -c -8 a.gz; printf '\\0\\0\\0\\0\\0\\0\\0\\0'", 422}, /* a wrong sum */
        {"head -c 100 a.gz", 422},
        {"printf '\\037\\213'", 422},
        {"printf '\\037\\213\\007\\0\\0\\0\\0\\0\\0\\0\\0\\0'", 422},
        {"gzip -c a.gz", 422},
        {"cat a.gz; printf garbage", 200}, /* as gzip does */
        {"head -c 600 a | gzip -c; tail -c +601 a | gzip -c", 200},
        {"gzip -c </dev/null; gzip -c </dev/null; cat a.gz", 200},
        {"{ cat a; head -c 100000000 /dev/zero; } | gzip -9c", 413}, /* a bomb behind the end */
    };
    done_free(session_run(get(), "t",
                          "cd /workspace; rm -rf *; head -c 9000 /dev/urandom >x; tar cf a x; "
                          "gzip -kf a",
                          "\"timeout\":60"));
    for (size_t i = 0; i < COUNT(harms); i++) {
        char *command = textf("cd /workspace; { %s; } >b", harms[i].how);
        done_free(session_run(get(), "t", command, "\"timeout\":60"));
        struct reply *made = runner_get(get(), "/sessions/t/files/b");
        assert_status(made, 200);
        put_archive(made->body, made->body_size, harms[i].status, harms[i].how);
        reply_free(made);
        free(command);
    }
    still_works("t", "the archives");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_command_bricks_a_session),
        cmocka_unit_test(no_command_bricks_a_session_that_begins_again),
        cmocka_unit_test(no_path_leads_out),
        cmocka_unit_test(no_archive_leads_out),
        cmocka_unit_test(a_damaged_gzip_is_refused),
    };
    return cmocka_run_group_tests_name("session_hostile", tests, NULL, shared_stop);
}
