/* Terminals: an interactive bash on a pty, whose other end the runner holds. See box_private.h. */
#include "runner/box/box_private.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define RC_FD 100    /* descriptor of the script that it reads first */
#define STATE_FD 101 /* descriptor of the state that it begins with */

/* Restores what interactive use needs, because the state comes from a shell that reads a script. */
static const char rc_text[] =
    "\\builtin . /dev/fd/101 >/dev/null 2>&1\n"
    "\\exec 100<&- 101<&-\n"
    "\\builtin trap - EXIT DEBUG ERR RETURN\n"
    "\\builtin set +o errexit +o nounset +o noexec +o verbose +o xtrace\n"
    "\\builtin set -o emacs -o history -o histexpand -o monitor\n"
    "\\builtin shopt -u extdebug; \\builtin shopt -s expand_aliases checkwinsize\n"
    "\\builtin export TERM=xterm-256color\n"
    "\\builtin unset PROMPT_COMMAND\n"
    "PS1='\\u@\\h:\\w\\$ ' PS2='> '\n"
    "[ ! -r ~/.bashrc ] || \\builtin . ~/.bashrc\n";

static int rc_file(struct err *err)
{
    AUTO(fd) int fd = memfd_create("rc", MFD_CLOEXEC);
    if (fd < 0 || fd_write_all(fd, rc_text, sizeof(rc_text) - 1))
        return err_sys(err, "terminal");
    int out = fd;
    fd = -1;
    return out;
}

static _Noreturn void interact(const struct box *box, int slave, int rc, int state,
                               const char *place)
{
    char *argv[] = {(char[]){"bash"},        (char[]){"--noprofile"}, (char[]){"--rcfile"},
                    (char[]){"/dev/fd/100"}, (char[]){"-i"},          NULL};
    const struct bash_fd fds[] = {
        {slave, 0}, {slave, 1}, {slave, 2}, {rc, RC_FD}, {state, STATE_FD}};
    box_become_bash(box, argv, fds, COUNT_OF(fds), place);
}

/* Opens both ends; the runner's end does not block. */
static int open_ends(const struct json *ask, int *ret_master, int *ret_slave, struct err *err)
{
    int64_t cols = 80, rows = 24;
    const int unlock = 0;
    json_int(json_get(ask, "cols"), &cols);
    json_int(json_get(ask, "rows"), &rows);
    const struct winsize size = {.ws_col = (unsigned short)cols, .ws_row = (unsigned short)rows};
    AUTO(fd) int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) || ioctl(master, TIOCSWINSZ, &size))
        return err_sys(err, "cannot open a terminal");
    /* By descriptor, because in this mount namespace the name may belong to another pty. */
    *ret_slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*ret_slave < 0)
        return err_sys(err, "cannot open a terminal");
    *ret_master = master;
    master = -1;
    return 0;
}

static pid_t spawn(struct box *box, const char *name, int slave, struct err *err)
{
    const struct shell *shell = box_shell_find(box, name);
    AUTO(str) char *home = box_real_path(box, "/workspace");
    AUTO(fd) int rc = rc_file(err);
    AUTO(fd) int state = box_state_open(box, name);
    if (state < 0)
        state = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (rc < 0 || state < 0 || !home)
        return rc < 0 ? -1 : err_sys(err, "terminal");
    pid_t pid = box_fork(box);
    if (pid == 0)
        interact(box, slave, rc, state, shell ? shell->cwd : home);
    return pid < 0 ? err_sys(err, "cannot start a terminal's shell") : pid;
}

static int start(struct box *box, int64_t id, const struct json *ask, struct err *err)
{
    size_t i = 0;
    AUTO(fd) int master = -1, slave = -1;
    AUTO(buf) struct buf text = BUF_INIT(128);
    const char *name = json_text(json_get(ask, "shell"));
    while (i < PTYS_MAX && box->ptys[i] > 0)
        i++;
    if (i == PTYS_MAX)
        return err_set(err, ERR_RATE, "the session has %d terminals already", PTYS_MAX);
    if (open_ends(ask, &master, &slave, err))
        return -1;
    pid_t pid = spawn(box, name ? name : "default", slave, err);
    if (pid < 0)
        return -1;
    box->ptys[i] = pid;
    buf_addf(&text, "{\"id\":%lld,\"ok\":true,\"pid\":%d}", (long long)id, (int)pid);
    box_say(box, &text, &master, 1);
    return 0;
}

void box_pty_start(struct box *box, int64_t id, const struct json *ask)
{
    struct err err;
    if (start(box, id, ask, &err))
        box_say_error(box, id, &err);
}

bool box_pty_died(struct box *box, pid_t pid, int wait_status)
{
    AUTO(buf) struct buf text = BUF_INIT(128);
    size_t i = 0;
    while (i < PTYS_MAX && box->ptys[i] != pid)
        i++;
    if (i == PTYS_MAX)
        return false;
    box->ptys[i] = 0;
    buf_addf(&text, "{\"event\":\"pty\",\"pid\":%d,\"exitCode\":%d}", (int)pid,
             WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status));
    box_say(box, &text, NULL, 0);
    return true;
}
