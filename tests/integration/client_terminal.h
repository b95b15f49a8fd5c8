/* The client on a terminal of so many columns. */
#ifndef TESTS_CLIENT_TERMINAL_H
#define TESTS_CLIENT_TERMINAL_H

#include "testing.h"

#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TERMINAL_MAX (8 << 20)

struct terminal {
    int fd;
    pid_t pid;
    char *text; /* all that it has shown; the caller frees it */
    size_t len;
};

/* Starts the client with these arguments (up to NULL) against the runner. */
static inline struct terminal terminal_start(const struct runner *to, int columns,
                                             const char *const args[])
{
    struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = 20};
    struct terminal t = {.text = calloc(1, TERMINAL_MAX)};
    char *argv[32] = {(char[]){TEST_RUNNER}};
    for (size_t n = 0; args[n] && n + 2 < COUNT(argv); n++)
        argv[n + 1] = (char *)(uintptr_t)args[n];
    char *env[] = {textf("RUNNER_URL=%s", to->base), (char[]){"RUNNER_SECRET=" RUNNER_SECRET},
                   (char[]){"TERM=xterm"}, NULL};
    t.pid = forkpty(&t.fd, NULL, NULL, &size);
    if (t.pid == 0) {
        execve(argv[0], argv, env);
        _exit(127);
    }
    free(env[0]);
    return t;
}

/* Reads on; false at the end. */
static inline bool terminal_read(struct terminal *t)
{
    size_t room = TERMINAL_MAX - 1 - t->len;
    ssize_t n = room > 0 ? read(t->fd, t->text + t->len, room) : -1;
    t->len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* Reads to the end; returns the exit status. */
static inline int terminal_finish(struct terminal *t)
{
    int status = -1;
    while (terminal_read(t))
        continue;
    assert_true(proc_wait(t->pid, 120000, &status));
    close(t->fd);
    return status;
}

/* The widest line of the text, escape sequences left out. */
static inline int terminal_widest(const char *text)
{
    int column = 0, most = 0;
    for (; *text; text++) {
        if (*text == '\033') {
            text += 1 + strcspn(text + 1, "ABCDHJKmhl");
            if (!*text)
                break;
        } else if (*text == '\n' || *text == '\r') {
            column = 0;
        } else if (((unsigned char)*text & 0xc0) != 0x80) {
            column++;
        }
        most = column > most ? column : most;
    }
    return most;
}

#endif
