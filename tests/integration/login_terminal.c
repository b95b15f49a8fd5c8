#include "login_scene.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- in a terminal ------------------------------------------------------------------------- */

/* A client command with a pipe to its stdin; its stdout and stderr go to files of these names. */
struct command {
    pid_t pid;
    int in;
    char *out, *err;
};

static struct command command_start(const struct runner *runner, const char *name)
{
    int ends[2];
    char *argv[] = {(char[]){TEST_RUNNER}, strdup(name), NULL};
    char *env[] = {textf("RUNNER_URL=%s", runner->base),
                   (char[]){"RUNNER_SECRET=me:" RUNNER_SECRET ",old:0123456789abcdef"}, NULL};
    struct command command = {.out = textf("%s/%s.out", runner->dir, name),
                              .err = textf("%s/%s.err", runner->dir, name)};
    unlink(command.out); /* the file of an earlier command */
    unlink(command.err);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    command.pid = fork();
    if (command.pid == 0) {
        dup2(ends[0], STDIN_FILENO);
        dup2(open(command.out, O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
        dup2(open(command.err, O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
        execve(argv[0], argv, env);
        _exit(127);
    }
    close(ends[0]);
    command.in = ends[1];
    free(argv[1]);
    free(env[0]);
    return command;
}

static int command_end(struct command *command)
{
    int status = -1;
    close(command->in);
    assert_true(proc_wait(command->pid, 90000, &status));
    return status;
}

static void command_free(struct command *command)
{
    free(command->out);
    free(command->err);
}

static bool has_text(const char *path, const char *part)
{
    char *text = read_file(path, NULL);
    bool has = text && strstr(text, part);
    free(text);
    return has;
}

/* The address that the command has printed. */
static char *printed_url(const struct command *command)
{
    EVENTUALLY(60000, has_text(command->out, "\n\n"));
    char *text = read_file(command->out, NULL);
    const char *at = strstr(text, "https://");
    assert_non_null(at);
    char *url = strndup(at, strcspn(at, "\n"));
    free(text);
    return url;
}

static void a_terminal_can_log_in(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct command command = command_start(runner, "status");
    assert_int_equal(command_end(&command), 1);
    assert_true(has_text(command.out, "degraded"));
    assert_true(has_text(command.out, "login_needed"));
    command_free(&command);
    command = command_start(runner, "login");
    char *url = printed_url(&command);
    assert_true(dprintf(command.in, "half\n") > 0);
    EVENTUALLY(60000, has_text(command.err, "not the full code"));
    char *code = internet_agree(internet, url);
    assert_true(dprintf(command.in, "%s\n", code) > 0);
    assert_int_equal(command_end(&command), 0);
    assert_true(has_text(command.out, "Logged in."));
    assert_false(has_text(command.out, code) || has_text(command.err, code));
    command_free(&command);
    command = command_start(runner, "status");
    assert_int_equal(command_end(&command), 0);
    assert_true(has_text(command.out, "healthy"));
    assert_true(has_text(command.out, "h left"));
    command_free(&command);
    free(code);
    free(url);
    runner_free(runner);
    internet_free(internet);
}

static void a_terminal_that_gives_up_takes_the_login_back(void **state)
{
    (void)state;
    struct internet *internet;
    struct runner *runner = new_runner(&internet);
    runner_start(runner);
    struct command command = command_start(runner, "login");
    free(printed_url(&command));
    assert_int_equal(command_end(&command), 2); /* no code was given */
    assert_int_equal(cli_processes(runner), 0);
    command_free(&command);
    command = command_start(runner, "login");
    free(printed_url(&command));
    kill(command.pid, SIGINT);
    assert_int_equal(command_end(&command), 2);
    assert_int_equal(cli_processes(runner), 0);
    command_free(&command);
    command = command_start(runner, "login");
    free(printed_url(&command));
    assert_true(dprintf(command.in, "no-real#code\n") > 0);
    assert_int_equal(command_end(&command), 1);
    assert_true(has_text(command.err, "the login failed: "));
    command_free(&command);
    runner_free(runner);
    internet_free(internet);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_terminal_can_log_in),
        cmocka_unit_test(a_terminal_that_gives_up_takes_the_login_back),
    };
    offline = internet_leave();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
