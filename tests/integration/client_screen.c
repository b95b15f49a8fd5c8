/*
 * What the client's commands show on a terminal: nothing wider than it, nothing that somebody
 * else's text could do to it; and what they print into a pipe.
 */
#include "client_terminal.h"
#include "testing.h"

#include <stdio.h>

static struct runner *runner;
static struct api *api;

static struct runner *shared(void)
{
    static const char *const settings[] = {NULL};
    return runner_shared_real(&runner, &api, settings);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* What the command shows on a terminal; the caller frees it. */
static char *shown(int columns, int status, const char *const args[])
{
    struct terminal t = terminal_start(shared(), columns, args);
    int got = terminal_finish(&t);
    if (got != status)
        fail_msg("%s %s: status %d: %s", args[0], args[1] ? args[1] : "", got, t.text);
    return t.text;
}

/* What it prints into a pipe. */
static char *piped(const char *const args[])
{
    static int count;
    char *out = textf("%s/piped-%d", shared()->dir, count++), *said;
    char *argv[32] = {(char[]){TEST_RUNNER}};
    char *env[] = {textf("RUNNER_URL=%s", shared()->base), (char[]){"RUNNER_SECRET=" RUNNER_SECRET},
                   NULL};
    int status = -1;
    for (size_t n = 0; args[n] && n + 2 < COUNT(argv); n++)
        argv[n + 1] = (char *)(uintptr_t)args[n];
    assert_true(proc_wait(proc_start(argv, env, out, "/dev/null"), 60000, &status));
    assert_int_equal(status, 0);
    said = read_file(out, NULL);
    free(env[0]);
    free(out);
    return said;
}

/* The id of the newest task. */
static char *newest(void)
{
    struct reply *reply = runner_get(shared(), "/tasks?limit=1");
    const cJSON *first = cJSON_GetArrayItem(json_at(reply->json, "tasks"), 0);
    char *id = strdup(json_text(first, "taskId"));
    reply_free(reply);
    return id;
}

static void holds(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in: %s", part, text);
}

static void lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("'%s' is in: %s", part, text);
}

static char *make_repository(void)
{
    char *script = textf("cd '%s' && git init -q -b main work && cd work && echo one >one && "
                         "git add . && git -c user.name=T -c user.email=t@example.com commit -qm "
                         "first && git clone -q --bare . ../project.git",
                         shared()->shared);
    proc_shell(script);
    free(script);
    return textf("file://%s/project.git", shared()->shared);
}

static void a_run_ends_with_its_diff(void **state)
{
    (void)state;
    char *url = make_repository();
    static const char prompt[] =
        "[[tool:Write {\"file_path\":\"note.txt\",\"content\":\"six\\n\"}]][[text:all is said]]";
    char *text = shown(80, 0, ARGS("run", "--repo", url, prompt)), *id = newest();
    holds(text, "diff --git a/note.txt b/note.txt");
    holds(text, "\033[32m+six\033[0m");
    lacks(text, "\"files\"");
    free(text);
    text = shown(80, 0, ARGS("diff", id));
    holds(text, "\033[32m+six\033[0m");
    free(text);
    text = piped(ARGS("diff", id));
    assert_int_equal(strncmp(text, "diff --git a/note.txt", 21), 0);
    lacks(text, "\033");
    free(text);
    text = piped(ARGS("diff", "--json", id));
    holds(text, "\"files\":[{\"path\":\"note.txt\"");
    free(text);
    free(id);
    text = shown(80, 0, ARGS("run", "--repo", url, "[[text:nothing is changed]]"));
    lacks(text, "{");
    holds(text, "1 turn,");
    free(text);
    free(url);
}

static void a_failure_is_told_once(void **state)
{
    (void)state;
    char *text = shown(80, 1, ARGS("run", "[[error:400]]"));
    char *first = strstr(text, "API Error: 400");
    assert_non_null(first);
    lacks(first + 1, "API Error: 400");
    holds(text, "✗ api_error in ");
    free(text);
}

static void what_others_wrote_does_nothing_to_a_terminal(void **state)
{
    (void)state;
    static const char hostile[] = "printf '\\033]0;owned\\007\\033[31mred no end'";
    char *text = shown(80, 0, ARGS("exec", "--", hostile)), *id = newest();
    lacks(text, "\033");
    free(text);
    text = shown(80, 0, ARGS("result", id));
    lacks(text, "\033");
    free(text);
    text = shown(80, 0, ARGS("logs", id)); /* its last line is ended before the client's own */
    holds(text, "no end\r\n");
    lacks(text, "\033]");
    lacks(text, "\007");
    free(text);
    text = piped(ARGS("result", id)); /* into a pipe it goes as it is */
    assert_string_equal(text, "\033]0;owned\007\033[31mred no end\n");
    free(text);
    free(id);
}

static void lists_and_help_fit(void **state)
{
    static const int columns[] = {80, 200, 100};
    (void)state;
    static const char command[] =
        "true; : a command that has a good many words, and is longer than any line of eighty "
        "columns, or of a hundred and twenty for that matter; : it goes on, and on, and on; true";
    free(shown(80, 0, ARGS("exec", "--", command)));
    for (size_t i = 0; i < COUNT(columns); i++) {
        static const char *const helps[] = {"run", "batch", "exec", "tasks"};
        char *text = shown(columns[i], 0, ARGS("tasks"));
        assert_in_range(terminal_widest(text), 70, columns[i]);
        holds(text, "true; : a");
        free(text);
        for (size_t k = 0; k < COUNT(helps); k++) {
            text = shown(columns[i], 0, ARGS(helps[k], "--help"));
            assert_in_range(terminal_widest(text), 70, columns[i]);
            free(text);
        }
    }
    char *text = piped(ARGS("tasks", "-n", "1"));
    lacks(text, "\033");
    lacks(text, " \n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_ends_with_its_diff),
        cmocka_unit_test(a_failure_is_told_once),
        cmocka_unit_test(what_others_wrote_does_nothing_to_a_terminal),
        cmocka_unit_test(lists_and_help_fit),
    };
    return cmocka_run_group_tests(tests, NULL, shared_stop);
}
