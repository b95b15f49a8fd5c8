/*
 * Python's processes: standby, kills, sharing between callers; sessions; and what remains after
 * many runs.
 */
#include "testing.h"

#include "python.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOON_MS 60000
#define OTHER_SECRET "other-secret-0123456789"
#define OTHER_AUTH "X-Runner-Secret: " OTHER_SECRET "\r\n"

static struct runner *the_runner;

static struct runner *shared(void)
{
    static const char *const settings[] = {"PYTHON_SLOTS", "2", "RUNNER_SECRET",
                                           "main:" RUNNER_SECRET ",other:" OTHER_SECRET, NULL};
    struct runner *runner = runner_shared(&the_runner, settings);
    python_needed(runner, NULL);
    return runner;
}

/* ---- processes --------------------------------------------------------------------------------
 */

static void nothing_is_started_before_the_first_run(void **state)
{
    (void)state;
    struct runner *own = runner_new();
    runner_start(own);
    python_needed(own, NULL);
    assert_int_equal(python_processes(own, "zygote-", NULL, 0), 0);
    python_prints(own, "print(1)", "1\n");
    EVENTUALLY(SOON_MS, python_processes(own, "python-standby", NULL, 0) >= 1);
    /* no more processes than it needs; one that is just forked has the name of its parent */
    EVENTUALLY(SOON_MS, python_processes(own, "zygote-", NULL, 0) == 1);
    runner_free(own);
}

/* Runs something until there is one zygote, another than that one (0: any). Returns its pid. What a
 * dead one leaves may still serve a run; a new one is started by the next that needs it. */
static pid_t zygote_after(pid_t old)
{
    pid_t pid = 0;
    EVENTUALLY(SOON_MS, (python_prints(shared(), "print(1)", "1\n"),
                         python_processes(shared(), "zygote-bare", &pid, 1) == 1 && pid != old));
    return pid;
}

static void a_killed_zygote_is_replaced(void **state)
{
    (void)state;
    shared();
    pid_t pid = zygote_after(0);
    for (int i = 0; i < 3; i++) {
        kill(pid, SIGKILL);
        python_prints(shared(), "print(2)", "2\n");
        pid = zygote_after(pid);
    }
}

static void a_killed_standby_is_replaced(void **state)
{
    pid_t pids[16];
    (void)state;
    python_prints(shared(), "print(1)", "1\n");
    EVENTUALLY(SOON_MS, python_processes(shared(), "python-standby", NULL, 0) >= 2);
    size_t count = python_processes(shared(), "python-standby", pids, COUNT(pids));
    for (size_t i = 0; i < count && i < COUNT(pids); i++)
        kill(pids[i], SIGKILL);
    python_prints(shared(), "print(3)", "3\n");
    for (size_t i = 0; i < count && i < COUNT(pids); i++)
        EVENTUALLY(SOON_MS, !proc_alive(pids[i]));
    EVENTUALLY(SOON_MS, python_processes(shared(), "python-standby", NULL, 0) >= 2);
}

static void a_killed_launcher_is_replaced(void **state)
{
    pid_t pid;
    (void)state;
    shared();
    pid_t zygote = zygote_after(0);
    EVENTUALLY(SOON_MS, python_processes(shared(), "launcher", &pid, 1) == 1);
    kill(pid, SIGKILL);
    python_prints(shared(), "print(4)", "4\n");
    zygote_after(zygote);
}

struct call {
    const char *headers;
    char *json;
    const char *path;
    struct reply *reply;
};

static void *do_call(void *arg)
{
    struct call *call = arg;
    call->reply = http_call(the_runner->base, "POST", call->path, call->headers, call->json);
    return NULL;
}

static double health_number(const char *member)
{
    struct reply *health = runner_get(shared(), "/health?verbose=true");
    double number = json_number(health->json, member);
    reply_free(health);
    return number;
}

/* Kills the zygote during a run that adds up so many numbers. False when the run had ended
 * before. */
static bool is_run_again(long count)
{
    pthread_t thread;
    char *code = textf("x = 0\nfor i in range(%ld):\n    x += i\nprint(x)", count);
    char *sum = textf("%ld\n", count * (count - 1) / 2);
    struct call call = {RUNNER_AUTH, python_json(code, "\"timeout\":200"), "/python", NULL};
    bool ended = false;
    pid_t zygote = zygote_after(0);
    pthread_create(&thread, NULL, do_call, &call);
    EVENTUALLY(SOON_MS, health_number("python.running") == 1 ||
                            (ended = pthread_tryjoin_np(thread, NULL) == 0));
    if (!ended) {
        ended = pthread_tryjoin_np(thread, NULL) == 0;
        kill(zygote, SIGKILL);
        if (!ended)
            pthread_join(thread, NULL);
    }
    assert_status(call.reply, 200);
    assert_json_text(call.reply->json, "stdout", sum);
    reply_free(call.reply);
    free(call.json);
    free(code);
    free(sum);
    return !ended;
}

static void what_ran_meanwhile_is_run_again(void **state)
{
    long count = 20000000;
    (void)state;
    while (!is_run_again(count) && count < 320000000)
        count *= 2;
    assert_true(count < 320000000);
}

static void a_client_that_goes_away_ends_its_run(void **state)
{
    (void)state;
    char *json = python_json("while True:\n    pass", "\"timeout\":300");
    int fd = http_begin(shared()->base, "POST", "/python", RUNNER_AUTH, json);
    EVENTUALLY(SOON_MS, health_number("python.running") == 1);
    close(fd);
    EVENTUALLY(SOON_MS, health_number("python.running") == 0);
    free(json);
}

/* ---- callers ----------------------------------------------------------------------------------
 */

/* One has both slots and four runs that wait, all of them endless. Another that asks for one is
 * answered all the same, beside them; the four still wait. A slot that becomes free is the next of
 * the four's. */
static void one_caller_cannot_starve_another(void **state)
{
    enum { SLOTS = 2, GREEDY = 6 };
    int fds[GREEDY];
    (void)state;
    char *endless = python_json("while True:\n    pass", "\"timeout\":300");
    python_prints(shared(), "print(1)", "1\n");
    for (int i = 0; i < GREEDY; i++) {
        fds[i] = http_begin(shared()->base, "POST", "/python", RUNNER_AUTH, endless);
        if (i < SLOTS)
            EVENTUALLY(SOON_MS, health_number("python.running") == i + 1);
    }
    EVENTUALLY(SOON_MS, health_number("python.queued") == GREEDY - SLOTS);
    struct reply *reply =
        http_call(shared()->base, "POST", "/python", OTHER_AUTH, "{\"code\":\"print(5)\"}");
    assert_status(reply, 200);
    assert_json_text(reply->json, "stdout", "5\n");
    reply_free(reply);
    EVENTUALLY(SOON_MS, health_number("python.running") == SLOTS);
    assert_int_equal(health_number("python.queued"), GREEDY - SLOTS);
    close(fds[0]);
    EVENTUALLY(SOON_MS, health_number("python.queued") == GREEDY - SLOTS - 1);
    for (int i = 1; i < GREEDY; i++)
        close(fds[i]);
    EVENTUALLY(SOON_MS, health_number("python.queued") + health_number("python.running") == 0);
    free(endless);
}

/* ---- sessions ---------------------------------------------------------------------------------
 */

static char *open_session(const char *json)
{
    struct reply *reply = runner_post(shared(), "/python/sessions", json);
    assert_status(reply, 201);
    assert_json_text(reply->json, "state", "ready");
    assert_json_bool(reply->json, "fresh", true);
    char *id = strdup(json_text(reply->json, "sessionId"));
    reply_free(reply);
    return id;
}

static struct reply *exec_in(const char *id, const char *code, const char *more)
{
    char *path = textf("/python/sessions/%s/exec", id);
    struct reply *reply = python_at(shared(), path, code, more);
    free(path);
    return reply;
}

static void expect(const char *id, const char *code, const char *out)
{
    struct reply *reply = exec_in(id, code, "");
    assert_json_text(reply->json, "status", "success");
    assert_json_text(reply->json, "stdout", out);
    reply_free(reply);
}

static struct reply *session_post(const char *id, const char *what)
{
    char *path = textf("/python/sessions/%s%s", id, what);
    struct reply *reply = runner_post(shared(), path, "");
    free(path);
    return reply;
}

static void end_session(char *id)
{
    char *path = textf("/python/sessions/%s", id);
    struct reply *reply = runner_delete(shared(), path);
    assert_status(reply, 204);
    reply_free(reply);
    reply = runner_get(shared(), path);
    assert_problem(reply, 404, "not_found");
    reply_free(reply);
    free(path);
    free(id);
}

static void a_namespace_lives_between_runs(void **state)
{
    (void)state;
    char *one = open_session(""), *two = open_session("{\"memory_limit\":256,\"ttl\":60}");
    expect(one, "import math\nx = [1]\ndef f():\n    return x", "");
    expect(two, "x = 'other'", "");
    expect(one, "x.append(math.floor(2.5))\nprint(f())", "[1, 2]\n");
    expect(two, "print(x)", "other\n");
    struct reply *reply = exec_in(one, "1 / 0", "");
    assert_json_text(reply->json, "status", "error");
    reply_free(reply);
    reply = exec_in(one, "import os", "");
    assert_json_text(reply->json, "status", "rejected");
    reply_free(reply);
    reply = exec_in(one, "raise SystemExit(4)", "");
    assert_json_number(reply->json, "exit_code", 4);
    reply_free(reply);
    reply = exec_in(one, "len(x)", "\"result\":true");
    assert_json_text(reply->json, "result", "2");
    reply_free(reply);
    reply = session_post(one, "/restart");
    assert_json_bool(reply->json, "fresh", true);
    reply_free(reply);
    reply = exec_in(one, "x", "");
    assert_non_null(strstr(json_text(reply->json, "stderr"), "NameError"));
    reply_free(reply);
    reply = http_call(shared()->base, "GET", "/python/sessions", OTHER_AUTH, NULL);
    assert_int_equal(cJSON_GetArraySize(json_at(reply->json, "sessions")), 0); /* the list does not
                                                                                * hold the other
                                                                                * caller's
                                                                                * sessions */
    reply_free(reply);
    end_session(one);
    end_session(two);
}

/* Interrupts a run that sets x to 2 and goes on for ever. Whether it had come so far. */
static bool interrupt_after_setting(const char *id)
{
    pthread_t thread;
    char *path = textf("/python/sessions/%s/exec", id);
    struct call call = {RUNNER_AUTH, python_json("x = 2\nwhile True:\n    pass", "\"timeout\":100"),
                        path, NULL};
    pthread_create(&thread, NULL, do_call, &call);
    char *shown = textf("/python/sessions/%s", id);
    struct reply *session = NULL;
    EVENTUALLY(SOON_MS, (reply_free(session), session = runner_get(shared(), shown),
                         strcmp(json_text(session->json, "state"), "busy") == 0));
    reply_free(session);
    char *json = python_json("1", "");
    struct reply *reply = runner_post(shared(), path, json);
    assert_problem(reply, 409, "conflict"); /* one run at a time */
    reply_free(reply);
    EVENTUALLY(SOON_MS,
               (reply_free(session_post(id, "/interrupt")), pthread_tryjoin_np(thread, NULL) == 0));
    assert_json_text(call.reply->json, "status", "error");
    assert_non_null(strstr(json_text(call.reply->json, "stderr"), "KeyboardInterrupt"));
    reply_free(call.reply);
    reply_free(exec_in(id, "pass", "")); /* the last interrupt may be on its way still */
    reply = exec_in(id, "print(x)", "");
    assert_json_text(reply->json, "status", "success");
    bool set = strcmp(json_text(reply->json, "stdout"), "2\n") == 0;
    reply_free(reply);
    free(call.json);
    free(json);
    free(shown);
    free(path);
    return set;
}

static void a_session_outlives_a_timeout_and_an_interrupt(void **state)
{
    (void)state;
    char *id = open_session("");
    expect(id, "x = 1", "");
    struct reply *reply = exec_in(id, "while True:\n    pass", "\"timeout\":1");
    assert_json_text(reply->json, "status", "timeout");
    reply_free(reply);
    expect(id, "print(x)", "1\n");
    EVENTUALLY(SOON_MS, interrupt_after_setting(id));
    reply = exec_in(id, "x = bytearray(10 ** 10)", "");
    assert_json_text(reply->json, "status", "memory_exceeded");
    reply_free(reply);
    end_session(id);
}

static void an_unused_session_ends(void **state)
{
    (void)state;
    char *id = open_session("{\"ttl\":1}"), *path = textf("/python/sessions/%s", id);
    struct reply *reply = NULL;
    EVENTUALLY(SOON_MS,
               (reply_free(reply), reply = runner_get(shared(), path), reply->status == 404));
    reply_free(reply);
    free(path);
    free(id);
}

/* ---- tiers ------------------------------------------------------------------------------------
 */

static void a_run_works_in_weaker_tiers(void **state)
{
    (void)state;
    static const char *const tiers[] = {"restricted", "none"};
    for (size_t i = 0; i < COUNT(tiers); i++) {
        struct runner *own = runner_new();
        runner_set(own, "JAIL", tiers[i]);
        runner_set(own, "JAIL_MIN", "none");
        runner_start(own);
        python_needed(own, NULL);
        python_prints(own, "print(1)", "1\n");
        runner_free(own);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_started_before_the_first_run),
        cmocka_unit_test(a_killed_zygote_is_replaced),
        cmocka_unit_test(a_killed_standby_is_replaced),
        cmocka_unit_test(a_killed_launcher_is_replaced),
        cmocka_unit_test(what_ran_meanwhile_is_run_again),
        cmocka_unit_test(a_client_that_goes_away_ends_its_run),
        cmocka_unit_test(one_caller_cannot_starve_another),
        cmocka_unit_test(a_namespace_lives_between_runs),
        cmocka_unit_test(a_session_outlives_a_timeout_and_an_interrupt),
        cmocka_unit_test(an_unused_session_ends),
        cmocka_unit_test(a_run_works_in_weaker_tiers),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
