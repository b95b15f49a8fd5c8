/*
 * `claude-runner session attach` under a pty of the test, and a browser's WebSocket.
 */
#include "session.h"
#include "testing.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static struct runner *shared;

static struct runner *get(void)
{
    static const char *const settings[] = {"SESSIONS_MAX", "10", NULL};
    return runner_shared(&shared, settings);
}

static int start(void **state)
{
    (void)state;
    session_make(get(), "a");
    return 0;
}

/* A terminal window in which the client runs. */
struct window {
    int fd;
    pid_t pid;
    char shown[1 << 20];
    size_t size;
};

static struct window *open_window(const char *session, const char *shell)
{
    struct window *window = calloc(1, sizeof(*window));
    assert_non_null(window);
    struct winsize size = {.ws_col = 91, .ws_row = 27};
    char *url = textf("RUNNER_URL=%s", get()->base), *home = textf("HOME=%s", get()->dir);
    char *argv[] = {(char[]){TEST_RUNNER},
                    (char[]){"session"},
                    (char[]){"attach"},
                    (char[]){"--shell"},
                    textf("%s", shell),
                    textf("%s", session),
                    NULL};
    char *env[] = {url, home, (char[]){"RUNNER_SECRET=" RUNNER_SECRET}, (char[]){"TERM=xterm"},
                   NULL};
    window->pid = forkpty(&window->fd, NULL, NULL, &size);
    if (window->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execve(argv[0], argv, env);
        _exit(127);
    }
    assert_true(window->pid > 0);
    fcntl(window->fd, F_SETFD, FD_CLOEXEC);
    free(argv[4]);
    free(argv[5]);
    free(url);
    free(home);
    return window;
}

static bool read_more(struct window *window)
{
    struct pollfd wait = {.fd = window->fd, .events = POLLIN};
    if (poll(&wait, 1, 50) <= 0)
        return false;
    ssize_t n =
        read(window->fd, window->shown + window->size, sizeof(window->shown) - 1 - window->size);
    window->size += n > 0 ? (size_t)n : 0;
    return n > 0;
}

static void shows(struct window *window, const char *text)
{
    int64_t end = now_ms() + (int64_t)20000 * slowness();
    while (!strstr(window->shown, text)) {
        if (now_ms() > end)
            fail_msg("'%s' is not shown: %s", text, window->shown);
        read_more(window);
    }
}

static void type(const struct window *window, const char *keys)
{
    assert_int_equal(write(window->fd, keys, strlen(keys)), strlen(keys));
}

/* Waits until the client ends. Returns its exit status. */
static int close_window(struct window *window)
{
    int status = -1;
    EVENTUALLY(20000, (read_more(window) || true) &&
                          waitpid(window->pid, &status, WNOHANG) == window->pid);
    close(window->fd);
    free(window);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void it_is_a_terminal_as_any_other(void **state)
{
    struct termios before, after;
    (void)state;
    struct window *window = open_window("a", "one");
    shows(window, "$ ");
    assert_int_equal(tcgetattr(window->fd, &before), 0);
    assert_int_equal(before.c_lflag & (ICANON | ECHO), 0); /* the terminal is in raw mode */
    type(window, "stty size; echo sum-$((40+2))\r");
    shows(window, "\r\n27 91\r\nsum-42\r\n");
    const struct winsize size = {.ws_col = 101, .ws_row = 33};
    assert_int_equal(ioctl(window->fd, TIOCSWINSZ, &size), 0);
    /* a signal reports the change, and typed characters may arrive before it */
    type(window, "until [ \"$(stty size)\" = '33 101' ]; do :; done; echo now-$((1+1))\r");
    shows(window, "\r\nnow-2\r\n");
    type(
        window,
        "bash -c 'trap \"echo got; exit 9\" INT; echo up-$((1+1)); while :; do sleep .05; done'\r");
    shows(window, "\r\nup-2\r\n");
    type(window, "\003");
    shows(window, "got\r\n");
    type(window, "exit 43\r");
    EVENTUALLY(20000, (read_more(window) || true) && tcgetattr(window->fd, &after) == 0 &&
                          (after.c_lflag & (ICANON | ECHO)) == (ICANON | ECHO));
    assert_int_equal(close_window(window), 43);
}

static void who_leaves_finds_it_again(void **state)
{
    (void)state;
    struct window *window = open_window("a", "two");
    shows(window, "$ ");
    type(window, "V=kept; echo first-$((40+2))\r");
    shows(window, "\r\nfirst-42\r\n");
    type(window, "\x1d");
    type(window, "d");
    shows(window, "which goes on");
    assert_int_equal(close_window(window), 0);
    window = open_window("a", "two");
    shows(window, "\r\nfirst-42\r\n"); /* the last screen is shown again */
    type(window, "echo $V-again; od -An -tx1\r");
    shows(window, "\r\nkept-again\r\n");
    type(window, "\x1d\x1d\rx\r\004"); /* the escape key typed twice sends it once */
    shows(window, "1d 0a 78 0a");
    type(window, "exit\r");
    assert_int_equal(close_window(window), 0);
}

static void what_cannot_be_attached_to_is_said(void **state)
{
    (void)state;
    struct window *window = open_window("none", "x");
    shows(window, "there is no session 'none'");
    assert_int_equal(close_window(window), 1);
    session_make(get(), "ends");
    window = open_window("ends", "x");
    shows(window, "$ ");
    struct reply *reply = runner_delete(get(), "/sessions/ends");
    assert_status(reply, 200);
    reply_free(reply);
    shows(window, "has ended its processes");
    assert_int_equal(close_window(window), 1);
}

static void a_browser_types_into_it(void **state)
{
    int status = -1;
    (void)state;
    if (access("/usr/bin/node", X_OK) ||
        access(TEST_CONSOLE_FOLDER "/node_modules/playwright-core", R_OK))
        SKIP_BECAUSE("node or playwright-core is missing (npm ci in tests/console)");
    session_make(get(), "browser");
    char *out = textf("%s/browser", get()->dir), *home = textf("HOME=%s", get()->dir);
    char *argv[] = {(char[]){"/usr/bin/node"}, (char[]){TEST_CONSOLE_FOLDER "/terminal.mjs"},
                    get()->base, (char[]){RUNNER_SECRET}, NULL};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, home, NULL};
    bool ended = proc_wait(proc_start(argv, env, out, out), 120000, &status);
    char *said = read_file(out, NULL);
    fputs(said ? said : "", stdout);
    assert_true(ended);
    free(said);
    free(home);
    free(out);
    if (status == 77)
        SKIP_BECAUSE("there is no chromium");
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_a_terminal_as_any_other),
        cmocka_unit_test(who_leaves_finds_it_again),
        cmocka_unit_test(what_cannot_be_attached_to_is_said),
        cmocka_unit_test(a_browser_types_into_it),
    };
    return cmocka_run_group_tests_name("session_attach", tests, start, shared_stop);
}
