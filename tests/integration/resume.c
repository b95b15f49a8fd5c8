/*
 * Conversations: a task continues where an earlier one ended, with the real Claude Code CLI.
 */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BASH "\"allowedTools\":[\"Bash\"]"

static struct api *api;
static struct runner *runner;

static const char *const settings[] = {NULL};

static struct runner *shared(void)
{
    return runner_shared_real(&runner, &api, settings);
}

static char *session_of(const struct reply *reply)
{
    const char *session = json_text(reply->json, "sessionId");
    if (strlen(session) != 36)
        fail_msg("no session in %s", reply->body);
    return strdup(session);
}

static char *resume_of(const char *session)
{
    return textf("\"resumeSessionId\":\"%s\"", session);
}

static void assert_goes_on(struct runner *at, const char *session, const char *prompt,
                           const char *mark, const char *earlier)
{
    char *more = resume_of(session);
    struct reply *reply = runner_ran(at, prompt, more);
    assert_json_bool(reply->json, "success", true);
    assert_json_text(reply->json, "sessionId", session);
    assert_asked(api, mark, "messages", earlier);
    reply_free(reply);
    free(more);
}

static void a_session_goes_on_also_after_a_restart(void **state)
{
    (void)state;
    struct runner *own = runner_new_real(&api);
    runner_set(own, "RUNNER_SECRET", RUNNER_SECRET ",other:other-secret-0123456789");
    runner_start(own);
    struct reply *reply = runner_ran(own, "[[text:I will]] Remember heron1", "");
    char *session = session_of(reply);
    reply_free(reply);
    assert_goes_on(own, session, "[[text:yes]] goonmark1", "goonmark1", "Remember heron1");
    assert_int_equal(runner_stop(own, 20000), 0);
    runner_start(own);
    assert_goes_on(own, session, "[[text:yes]] goonmark2", "goonmark2", "goonmark1");
    assert_asked(api, "goonmark2", "messages", "Remember heron1");
    assert_asked(api, "goonmark2", "messages", "I will");
    /* conversations belong to the runner: every caller with a secret may continue one, and the id's
     * case does not matter */
    for (char *p = session; *p; p++)
        if (*p >= 'a' && *p <= 'f')
            *p = (char)(*p - 'a' + 'A');
    char *more = resume_of(session), *json = prompt_json("[[text:yes]] goonmark3", more);
    reply = http_call(own->base, "POST", "/execute", "X-Runner-Secret: other-secret-0123456789\r\n",
                      json);
    assert_status(reply, 200);
    assert_asked(api, "goonmark3", "messages", "Remember heron1");
    reply_free(reply);
    free(json);
    free(more);
    free(session);
    runner_free(own);
}

static void a_session_that_goes_on_takes_the_requests_system_prompt(void **state)
{
    (void)state;
    struct runner *own = runner_new_real(&api);
    runner_start(own);
    struct reply *reply =
        runner_ran(own, "[[text:one]] promptmark1", "\"systemPrompt\":\"You are the first heron\"");
    char *session = session_of(reply), *resume = resume_of(session);
    reply_free(reply);
    char *more = textf("%s,\"systemPrompt\":\"You are the second heron\"", resume);
    reply = runner_ran(own, "[[text:two]] promptmark2", more);
    assert_json_bool(reply->json, "success", true);
    assert_asked(api, "promptmark2", "system", "second heron");
    assert_not_asked(api, "promptmark2", "system", "first heron");
    reply_free(reply);
    free(more);
    free(resume);
    free(session);
    runner_free(own);
}

static void a_task_that_failed_can_be_gone_on_with(void **state)
{
    (void)state;
    struct reply *reply =
        runner_ran(shared(), "[[tool:Bash {\"command\":\"echo 1\"}]][[text:never]] failmark1",
                   "\"maxTurns\":1");
    assert_json_text(reply->json, "reason", "max_turns");
    char *session = session_of(reply);
    assert_goes_on(runner, session, "[[text:yes]] failmark2", "failmark2", "failmark1");
    free(session);
    reply_free(reply);
    char *limit = textf("\"timeout_ms\":%d", 25000 * slowness());
    reply = runner_ran(runner, "[[tool:Bash {\"command\":\"echo 1\"}]][[hang]] failmark3", limit);
    free(limit);
    assert_json_text(reply->json, "reason", "timeout");
    session = session_of(reply);
    assert_goes_on(runner, session, "[[text:yes]] failmark4", "failmark4", "failmark3");
    free(session);
    reply_free(reply);
}

static void what_claude_remembers_of_paths_holds(void **state)
{
    (void)state;
    struct reply *reply = runner_succeeded(
        shared(), "[[tool:Bash {\"command\":\"pwd; seq 1 20000\"}]][[text:long]] pathmark1", BASH);
    char *session = session_of(reply), *more = resume_of(session);
    assert_asked(api, "pathmark1", "messages", "persisted-output");
    reply_free(reply);
    char *with_bash = textf("%s," BASH, more);
    reply = runner_succeeded(
        shared(),
        "[[tool:Bash {\"command\":\"cat $CLAUDE_CONFIG_DIR/projects/*/*/tool-results/* | "
        "wc -l; pwd\"}]][[echo]] pathmark2",
        with_bash);
    assert_memory_equal(json_text(reply->json, "output"), "20001\n/", 7);
    char *pwd = strdup(strchr(json_text(reply->json, "output"), '\n') + 1);
    assert_asked(api, "pathmark2", "messages", pwd);
    char *first = asked_member(api, "pathmark1", "messages");
    assert_non_null(strstr(first, pwd)); /* the same as in the first task */
    free(first);
    free(pwd);
    free(with_bash);
    free(more);
    free(session);
    reply_free(reply);
}

static void assert_in_use(struct runner *at, const char *more, const char *by)
{
    struct reply *reply = runner_execute(at, "[[text:no]] inusemark", more);
    assert_problem(reply, 409, "conflict");
    assert_json_contains(reply->json, "error", by);
    reply_free(reply);
}

/* The conversation's id of a running task, from its first line. */
static char *session_in_stream(const struct runner *at, const char *id)
{
    char *path = textf("/tasks/%s/events", id);
    struct stream *stream = stream_open(at->base, "GET", path, RUNNER_AUTH, NULL);
    stream_until(stream, "\"session_id\":\"", 60000);
    stream_until(stream, "\"tools\"", 60000);
    const char *session = strstr(stream->body, "\"session_id\":\"") + strlen("\"session_id\":\"");
    char *copy = strndup(session, 36);
    stream_free(stream);
    free(path);
    return copy;
}

static void a_session_is_in_use_by_one_task_at_a_time(void **state)
{
    (void)state;
    struct runner *own = runner_new_real(&api);
    runner_set(own, "MAX_CONCURRENT_TASKS", "1");
    runner_start(own);
    char *maker =
        runner_submit(own, "[[tool:Bash {\"command\":\"echo 1\"}]][[hang]] leasemark1", "");
    char *session = session_in_stream(own, maker), *more = resume_of(session);
    EVENTUALLY(60000, asked_times(api, "leasemark1") == 2);
    assert_in_use(own, more, maker);
    char *path = textf("/tasks/%s", maker);
    reply_free(runner_delete(own, path));
    runner_await(own, maker, "cancelled", 20000);
    char *busy = runner_submit(own, "[[hang]] leasemark2", "");
    char *pending = runner_submit(own, "[[hang]] leasemark3", more);
    assert_in_use(own, more, pending);
    free(path);
    path = textf("/tasks/%s", busy);
    reply_free(runner_delete(own, path));
    runner_await(own, pending, "running", 20000);
    assert_in_use(own, more, pending);
    EVENTUALLY(60000, asked_times(api, "leasemark3") == 1);
    assert_asked(api, "leasemark3", "messages", "leasemark1");
    runner_crash(own); /* what the crashed task had added is gone, and what was there before is
                        * whole */
    runner_start(own);
    runner_await(own, pending, "failed", 20000);
    assert_goes_on(own, session, "[[text:yes]] leasemark4", "leasemark4", "leasemark1");
    assert_not_asked(api, "leasemark4", "messages", "leasemark3");
    free(path);
    free(busy);
    free(pending);
    free(maker);
    free(more);
    free(session);
    runner_free(own);
}

static void a_session_that_is_not_there_is_refused_by_name(void **state)
{
    (void)state;
    struct reply *reply =
        runner_execute(shared(), "[[text:no]] gonemark",
                       "\"resumeSessionId\":\"00000000-0000-4000-8000-000000000000\"");
    assert_problem(reply, 400, "invalid_request");
    assert_json_text(reply->json, "errors.0.field", "resumeSessionId");
    assert_json_contains(reply->json, "errors.0.message", "no task has left a session");
    reply_free(reply);
    assert_int_equal(asked_times(api, "gonemark"), 0);
    /* the conversation's file is gone from the disk: the task reports that */
    reply = runner_succeeded(shared(), "[[text:ok]]", "");
    char *session = session_of(reply), *more = resume_of(session);
    char *kept = textf("%s/conversations/%s", runner->state, session);
    char *away = textf("%s/away", runner->state);
    struct stat st;
    assert_int_equal(stat(kept, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    assert_int_equal(rename(kept, away), 0);
    reply_free(reply);
    reply = runner_ran(runner, "[[text:no]] gonemark", more);
    assert_json_text(reply->json, "reason", "session_error");
    assert_json_contains(reply->json, "error", "nothing is left of the session");
    reply_free(reply);
    assert_int_equal(rename(away, kept), 0);
    assert_goes_on(runner, session, "[[text:yes]] backmark", "backmark", "[[text:ok]]");
    free(more);
    free(kept);
    free(away);
    free(session);
}

/* The path of a repository with one commit. */
static char *new_repo(void)
{
    char *work = textf("%s/repo", shared()->shared);
    char *script = textf("set -e; git init -q -b main %s; cd %s; mkdir sub; echo in >sub/in;"
                         " echo 'and the tapir' >more.md; git add -A;"
                         " git -c user.name=t -c user.email=t@e commit -qm one; chmod -R a+rX .",
                         work, work);
    proc_shell(script);
    free(script);
    return work;
}

static void a_session_goes_on_in_a_fresh_workspace(void **state)
{
    (void)state;
    char *work = new_repo();
    char *repo = textf("\"repoUrl\":\"file://%s\",\"permissionMode\":\"acceptEdits\"", work);
    struct reply *reply =
        runner_succeeded(shared(),
                         "[[tool:Write {\"file_path\":\"more.md\",\"content\":\"changed\"}]]"
                         "[[text:ok]] freshmark1",
                         repo);
    char *session = session_of(reply),
         *more = textf("%s,\"resumeSessionId\":\"%s\"", repo, session);
    reply_free(reply);
    reply = runner_succeeded(
        shared(), "[[tool:Bash {\"command\":\"cat more.md; git status -s\"}]][[echo]] freshmark2",
        more);
    assert_json_text(reply->json, "output", "and the tapir");
    assert_asked(api, "freshmark2", "messages", "freshmark1");
    reply_free(reply);
    free(more);
    more = textf("%s,\"resumeSessionId\":\"%s\",\"cwdRelative\":\"sub\"", repo, session);
    reply_free(runner_succeeded(shared(), "[[text:ok]] freshmark3",
                                more)); /* the CLI looks up conversations by directory */
    assert_asked(api, "freshmark3", "messages", "freshmark2");
    reply_free(runner_succeeded(shared(), "[[text:ok]] freshmark4", more));
    free(more);
    free(session);
    free(repo);
    free(work);
}

static void a_transcript_shows_the_conversation_without_secrets(void **state)
{
    (void)state;
    struct reply *reply = runner_ran(shared(), "[[text:I see]] heron7 hush-hush-987654",
                                     "\"environmentSecrets\":{\"K\":\"hush-hush-987654\"}");
    char *path = textf("/tasks/%s/transcript", json_text(reply->json, "taskId")), type[80];
    struct reply *transcript = runner_get(runner, path);
    assert_status(transcript, 200);
    assert_true(reply_header(transcript, "Content-Type", type, sizeof type));
    assert_string_equal(type, "application/x-ndjson");
    if (!strstr(transcript->body, "heron7 [redacted]"))
        fail_msg("%s", transcript->body);
    assert_non_null(strstr(transcript->body, "I see"));
    assert_null(strstr(transcript->body, "hush-hush"));
    size_t lines = 0;
    char *rest;
    for (char *line = strtok_r(transcript->body, "\n", &rest); line; lines++) {
        cJSON *json = cJSON_Parse(line);
        assert_true(cJSON_IsObject(json));
        cJSON_Delete(json);
        line = strtok_r(NULL, "\n", &rest);
    }
    assert_true(lines >= 2);
    reply_free(transcript);
    reply_free(reply);
    free(path);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transcript_shows_the_conversation_without_secrets),
        cmocka_unit_test(a_session_goes_on_also_after_a_restart),
        cmocka_unit_test(a_session_that_goes_on_takes_the_requests_system_prompt),
        cmocka_unit_test(a_task_that_failed_can_be_gone_on_with),
        cmocka_unit_test(what_claude_remembers_of_paths_holds),
        cmocka_unit_test(a_session_is_in_use_by_one_task_at_a_time),
        cmocka_unit_test(a_session_that_is_not_there_is_refused_by_name),
        cmocka_unit_test(a_session_goes_on_in_a_fresh_workspace),
    };
    return cmocka_run_group_tests_name("resume", tests, NULL, shared_stop);
}
