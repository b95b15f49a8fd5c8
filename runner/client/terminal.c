#include "runner/client/terminal.h"

#include <stdio.h>
#include <termios.h>
#include <unistd.h>

int terminal_read_line(char *line, size_t size, bool hidden, const volatile sig_atomic_t *stop)
{
    struct termios before, silent;
    bool hides = hidden && tcgetattr(STDIN_FILENO, &before) == 0;
    size_t len = 0;
    ssize_t n = -1;
    char c = 0;
    if (hides) {
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSANOW, &silent);
    }
    while (!(stop && *stop) && (n = read(STDIN_FILENO, &c, 1)) == 1 && c != '\n')
        if (len + 1 < size)
            line[len++] = c;
    line[len] = '\0';
    if (hides) {
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
        fputc('\n', stderr);
    }
    return !(stop && *stop) && (n == 1 || len > 0) ? 0 : -1;
}
