/* Shells: how bash is started, its script, its reports, and its state. See box.h. */
#include "runner/box/box_private.h"

#include "base/check.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOLD_BYTES_MAX STATE_BYTES_MAX
#define HOME_OF_COMMANDS "/workspace"
#define KEPT_BYTES_MAX (64u << 10)
#define FAREWELL_BYTES_MAX 4096
#define OWN_TRAP "#x\n" /* what a state begins with that has an EXIT trap of the caller's */
#define PATIENCE_US 50
#define PATIENCE_US_MAX 20000

char *box_shown_path(const struct box *box, const char *path)
{
    size_t n = box->outside ? strlen(box->outside) : 0;
    if (n > 0 && strncmp(path, box->outside, n) == 0 && path[n] == '/')
        return strdup(path + n);
    return strdup(path);
}

char *box_real_path(const struct box *box, const char *path)
{
    return box->outside && path[0] == '/' ? path_join(box->outside, path + 1) : strdup(path);
}

struct shell *box_shell_find(struct box *box, const char *name)
{
    for (size_t i = 0; i < box->shell_count; i++)
        if (strcmp(box->shells[i].name, name) == 0)
            return &box->shells[i];
    return NULL;
}

struct shell *box_shell_take(struct box *box, const char *name, struct err *err)
{
    struct shell *shell = box_shell_find(box, name);
    if (shell)
        return shell;
    if (box->shell_count == SHELLS_MAX) {
        err_set(err, ERR_RATE, "the session has %d shells already", SHELLS_MAX);
        return NULL;
    }
    shell = &box->shells[box->shell_count];
    *shell = (struct shell){.script = -1, .report = -1, .report_write = -1, .state = -1};
    buf_init(&shell->told, TOLD_BYTES_MAX);
    buf_init(&shell->kept, KEPT_BYTES_MAX);
    buf_init(&shell->farewell, FAREWELL_BYTES_MAX);
    buf_init(&shell->after.last, KEPT_BYTES_MAX);
    snprintf(shell->name, sizeof(shell->name), "%s", name);
    shell->cwd = box_real_path(box, HOME_OF_COMMANDS);
    if (!shell->cwd) {
        err_sys(err, "shell");
        return NULL;
    }
    box->shell_count++;
    return shell;
}

/* --- state --------------------------------------------------------------------------------- */

/* A state, as it was reported: which builtins are disabled, the names, and the modes. */
struct state {
    const char *disabled, *names, *modes;
    size_t disabled_len, names_len, modes_len;
};

/* Takes what is up to the next null byte. False when that is missing. */
static bool next_part(const char **at, const char *end, const char **ret_part, size_t *ret_len)
{
    const char *stop = memchr(*at, '\0', (size_t)(end - *at));
    if (!stop)
        return false;
    *ret_part = *at;
    *ret_len = (size_t)(stop - *at);
    *at = stop + 1;
    return true;
}

/* False while a part of the report is missing. */
static bool find_state(const char *text, size_t len, struct state *state)
{
    const char *at = text, *end = text + len;
    return next_part(&at, end, &state->disabled, &state->disabled_len) &&
           next_part(&at, end, &state->names, &state->names_len) &&
           next_part(&at, end, &state->modes, &state->modes_len);
}

static bool has(const char *text, size_t len, const char *what)
{
    return memmem(text, len, what, strlen(what)) != NULL;
}

/* Takes the EXIT trap that is ours off the modes: it comes first. Notes whose trap it is. */
static void take_trap(struct shell *shell, struct state *state)
{
    static const char before[] = "trap -- '", after[] = "' EXIT\n";
    size_t head = sizeof(before) - 1, tail = sizeof(after) - 1, len = shell->farewell.len;
    const char *at = state->modes + head;
    bool any = state->modes_len >= head && memcmp(state->modes, before, head) == 0;
    shell->armed = any && len > 0 && state->modes_len >= head + len + tail &&
                   memcmp(at, shell->farewell.data, len) == 0 && memcmp(at + len, after, tail) == 0;
    shell->trapped = false;
    if (shell->armed) {
        state->modes += head + len + tail;
        state->modes_len -= head + len + tail;
        return;
    }
    if (!any)
        return;
    const char *end = state->modes + state->modes_len;
    while ((at = memchr(at, '\'', (size_t)(end - at))) && end - at > 4 && at[1] == '\\')
        at += 4; /* a quote of the trap's: '\'' */
    shell->trapped = at && (size_t)(end - at) >= tail && memcmp(at, after, tail) == 0;
}

/* True when the shell's file holds this state already. */
static bool is_kept(const struct box *box, const struct shell *shell, const struct buf *whole)
{
    struct stat now;
    const struct buf *kept = &shell->kept;
    const struct stat *then = &shell->file;
    return kept->len == whole->len && memcmp(kept->data, whole->data, whole->len) == 0 &&
           fstatat(box->states, shell->name, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
           now.st_ino == then->st_ino && now.st_size == then->st_size &&
           now.st_ctim.tv_sec == then->st_ctim.tv_sec &&
           now.st_ctim.tv_nsec == then->st_ctim.tv_nsec;
}

/* Remembers what the shell's file holds, unless that is large. */
static void note_kept(const struct box *box, struct shell *shell, const struct buf *whole)
{
    buf_clear(&shell->kept);
    if (whole->len <= KEPT_BYTES_MAX &&
        fstatat(box->states, shell->name, &shell->file, AT_SYMLINK_NOFOLLOW) == 0)
        buf_add(&shell->kept, whole->data, whole->len);
}

/* Writes the state to a new file and renames it, so that there is always a complete one. Most
 * commands change nothing of it: then nothing is written. */
static void keep_state(const struct box *box, struct shell *shell, const struct state *state)
{
    char fresh[ID_SIZE + 8];
    AUTO(buf) struct buf whole = BUF_INIT(STATE_BYTES_MAX + 65536);
    snprintf(fresh, sizeof(fresh), ".%s.new", shell->name);
    buf_adds(&whole, shell->trapped ? OWN_TRAP : "");
    buf_adds(&whole, "\\builtin cd -- ");
    box_add_quoted(&whole, shell->cwd, strlen(shell->cwd));
    buf_adds(&whole, "\n\\builtin unset OLDPWD\n"); /* it may have had none */
    buf_add(&whole, state->names, state->names_len);
    buf_add(&whole, state->modes, state->modes_len);
    if (!buf_ok(&whole) || is_kept(box, shell, &whole))
        return;
    AUTO(fd) int fd = openat(box->states, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0 && fd_write_all(fd, whole.data, whole.len) == 0 &&
        renameat(box->states, fresh, box->states, shell->name) == 0)
        note_kept(box, shell, &whole);
}

int box_state_open(const struct box *box, const char *name)
{
    struct stat st;
    AUTO(fd)
    int fd = openat(box->states, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return -1;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        st.st_size <= (off_t)STATE_BYTES_MAX + PATH_MAX) {
        int out = fd;
        fd = -1;
        return out;
    }
    if (unlinkat(box->states, name, 0))
        unlinkat(box->states, name, AT_REMOVEDIR);
    return -1;
}

void box_note_cwd(struct shell *shell)
{
    char path[64], now[PATH_MAX + 16];
    snprintf(path, sizeof(path), "/proc/%d/cwd", (int)shell->pid);
    ssize_t n = shell->pid > 0 ? readlink(path, now, sizeof(now) - 1) : -1;
    if (n <= 0 || now[0] != '/')
        return;
    now[n] = '\0';
    static const char gone[] = " (deleted)";
    size_t tail = strlen(gone);
    if ((size_t)n > tail && strcmp(now + n - tail, gone) == 0)
        now[(size_t)n - tail] = '\0';
    shell->strayed |= strcmp(shell->cwd, now) != 0;
    str_replace(&shell->cwd, now);
}

/* --- starting ------------------------------------------------------------------------------ */

#define FDS_MAX 8
#define OUT_OF_THE_WAY 200

_Noreturn void box_become_bash(const struct box *box, char *const argv[], const struct bash_fd *fds,
                               size_t count, const char *place)
{
    sigset_t none;
    int moved[FDS_MAX], next = 0;
    setsid();
    for (int sig = 1; sig < 32; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (size_t i = 0; i < count; i++) /* one of them may have the number of another */
        moved[i] = fcntl(fds[i].from, F_DUPFD, OUT_OF_THE_WAY);
    for (size_t i = 0; i < count; i++) {
        if (dup2(moved[i], fds[i].to) < 0)
            _exit(127);
        if (fds[i].to > next)
            close_range((unsigned)next, (unsigned)fds[i].to - 1, 0);
        next = fds[i].to + 1;
    }
    fd_close_from(next);
    if ((isatty(0) && ioctl(0, TIOCSCTTY, 0)) ||
        (chdir(place) && chdir("/workspace") && chdir("/")))
        _exit(127);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execve("/bin/bash", argv, box->env.items);
    _exit(127);
}

/* It reads its script on standard input, and puts it aside when a command gets one of its own. */
static _Noreturn void read_script(const struct box *box, int script, const char *place)
{
    char *argv[] = {(char[]){"bash"}, (char[]){"--noprofile"}, (char[]){"--norc"}, NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct bash_fd fds[] = {{script, 0}, {null, 1}, {null, 2}};
    box_become_bash(box, argv, fds, COUNT_OF(fds), place);
}

static int open_pipes(struct shell *shell, int *ret_script, struct err *err)
{
    int script[2], report[2];
    if (pipe2(script, O_CLOEXEC))
        return err_sys(err, "shell");
    if (pipe2(report, O_CLOEXEC)) {
        close(script[0]);
        close(script[1]);
        return err_sys(err, "shell");
    }
    fcntl(report[0], F_SETFL, O_NONBLOCK);
    *ret_script = script[0];
    shell->script = script[1];
    shell->report = report[0];
    shell->report_write = report[1];
    return 0;
}

static void close_pipes(struct shell *shell)
{
    fd_close(&shell->script);
    fd_close(&shell->report);
    fd_close(&shell->report_write);
    fd_close(&shell->state);
    buf_clear(&shell->told);
    shell->patience_us = 0;
}

/* Writes what a fresh shell reads first. The shell reports when it has read the state. */
static int greet(struct box *box, struct shell *shell, struct err *err)
{
    AUTO(buf) struct buf line = BUF_INIT(65536);
    char begins[sizeof(OWN_TRAP)] = "";
    buf_adds(&line, "\\builtin shopt -s expand_aliases\n");
    if (shell->state >= 0) {
        (void)!pread(shell->state, begins, sizeof(begins) - 1, 0);
        buf_addf(&line, "\\builtin . /proc/%d/fd/%d\n", (int)box->self, shell->state);
    }
    if (shell->strayed) {
        buf_adds(&line, "[[ . -ef ");
        box_add_quoted(&line, shell->cwd, strlen(shell->cwd));
        buf_adds(&line, " ]] || \\builtin cd -- ");
        box_add_quoted(&line, shell->cwd, strlen(shell->cwd));
        buf_addc(&line, '\n');
    }
    shell->traced = shell->verbose = false;
    shell->disabled = 0;
    shell->trapped = strcmp(begins, OWN_TRAP) == 0;
    shell->armed = !shell->trapped;
    shell->after.known = false;
    shell->after.lasts = true; /* a bash begins with its own name */
    buf_clear(&shell->after.last);
    buf_adds(&shell->after.last, "bash");
    shell->after.words = 0;
    shell->after.pipe_count = 0;
    shell->after.lines_set = shell->state < 0;
    buf_clear(&shell->farewell);
    box_add_farewell(&shell->farewell, box, shell);
    if (shell->armed)
        box_add_arming(&line, shell);
    buf_addf(&line, "\\builtin printf 'S\\0' >/proc/%d/fd/%d\n", (int)box->self,
             shell->report_write);
    return box_shell_write(shell, &line, err);
}

int box_shell_write(struct shell *shell, const struct buf *line, struct err *err)
{
    if (buf_check(line, "the command", err))
        return -1;
    /* A pipe holds 64 KiB, and bash goes on reading. */
    return fd_write_all(shell->script, line->data, line->len)
               ? err_sys(err, "cannot reach the shell")
               : 0;
}

void box_shell_doom(struct shell *shell)
{
    if (shell->pid > 0)
        kill(shell->pid, SIGKILL);
    shell->doomed = shell->pid > 0;
}

void box_try_room(struct box *box)
{
    pid_t pid = box_fork(box);
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

int box_shell_wake(struct box *box, struct shell *shell, struct err *err)
{
    int script = -1, status;
    if (shell->doomed && shell->pid > 0 && waitpid(shell->pid, &status, 0) == shell->pid)
        box_shell_died(box, shell, status);
    if (shell->pid > 0)
        return 0;
    if (open_pipes(shell, &script, err))
        return -1;
    if (!shell->broken)
        shell->state = box_state_open(box, shell->name);
    AUTO(str) char *home = box_real_path(box, HOME_OF_COMMANDS);
    const char *place = shell->strayed && shell->state < 0 && home ? home : shell->cwd;
    pid_t pid = box_fork(box);
    if (pid == 0)
        read_script(box, script, place);
    close(script);
    if (pid < 0) {
        close_pipes(shell);
        return err_sys(err, "cannot start a shell");
    }
    shell->pid = pid;
    shell->bang = 0;
    shell->ready = false;
    return greet(box, shell, err);
}

/* --- listening ----------------------------------------------------------------------------- */

/* False for a state with extdebug: its DEBUG trap can prevent every command, also ours. Such a
 * state is not kept, so it ends with this bash. */
static bool is_usable(const struct state *state)
{
    return has(state->modes, state->modes_len, "shopt -") &&
           !has(state->modes, state->modes_len, "shopt -s extdebug");
}

/* Notes what decides how the next command is run. */
static void note_state(struct shell *shell, const struct state *state)
{
    const char *names = state->names, *modes = state->modes;
    shell->monitor = has(modes, state->modes_len, "set -o monitor");
    shell->verbose = has(modes, state->modes_len, "set -o verbose");
    shell->after.pipes_set = has(names, state->names_len, "declare -a PIPESTATUS=");
    shell->after.lines_set = has(names, state->names_len, "declare -- LINENO");
}

/* One word of what a command has reported itself: see script.c. */
static void note_after(struct shell *shell, const char *word)
{
    struct after *after = &shell->after;
    int number = (int)strtol(word, NULL, 10);
    if (after->words == 0) {
        after->status = number;
    } else if (after->words == 1) {
        buf_clear(&after->last);
        buf_adds(&after->last, word);
        after->pipe_count = 0;
    } else if (after->pipe_count < PIPES_MAX) {
        after->pipes[after->pipe_count++] = number;
    }
    after->words += after->words <= 1;
}

/* Asks for the report again, each part of it by a redirection of its own: traps run before those.
 */
static bool ask_again(const struct box *box, struct shell *shell, const char *status,
                      const char *bang)
{
    struct err ignored;
    AUTO(buf) struct buf line = BUF_INIT(65536);
    shell->traced = true;
    const struct report report = {.status = status, .bang = bang, .no_printf = true};
    box_add_report(&line, box, shell, &report);
    return box_shell_write(shell, &line, &ignored) == 0;
}

/* A command has ended, unless the report is to come once more. */
static void take_end(struct box *box, struct shell *shell, const char *numbers, struct state *state)
{
    char *after, *mark, status[24], bang[24];
    snprintf(bang, sizeof(bang), "%ld", strtol(numbers, &after, 10));
    long given = strtol(after, &mark, 10);
    /* A DEBUG trap runs before each builtin, also before ours, and what it prints is where they
     * print. */
    bool traced = has(state->modes, state->modes_len, "' DEBUG\n");
    snprintf(status, sizeof(status), "%ld", given);
    if (shell->run && traced && !shell->traced && ask_again(box, shell, status, bang))
        return;
    shell->after.known = shell->after.words > 1;
    shell->after.lasts |= shell->after.known;
    if (!shell->after.known)
        shell->after.pipe_count = 0;
    shell->after.words = 0;
    shell->traced = traced;
    shell->broken = false;
    box_note_cwd(shell);
    shell->strayed = false;
    shell->disabled = box_disabled(state->disabled, state->disabled_len, *mark == ' ');
    take_trap(shell, state);
    note_state(shell, state);
    if (is_usable(state))
        keep_state(box, shell, state);
    else
        box_shell_doom(shell);
    box_run_ended(box, shell, shell->after.known ? shell->after.status : (int)given,
                  (pid_t)strtol(bang, NULL, 10));
}

/* Handles one report. "S": it has read its state. "Wpid status": of a background process. "Vword":
 * one of what a command has left. "Rstatus bang" and the state: a command has ended. "Xcwd" and the
 * state: it exits. Returns how many bytes were used, 0 when the report is incomplete. */
static size_t take_word(struct box *box, struct shell *shell, const char *text, size_t len)
{
    const char *end = memchr(text, '\0', len);
    if (!end)
        return 0;
    size_t used = (size_t)(end - text) + 1;
    if (text[0] == 'S') {
        shell->ready = true;
        fd_close(&shell->state);
        return used;
    }
    if (text[0] == 'W') {
        char *after;
        long pid = strtol(text + 1, &after, 10);
        box_job_told(box, (pid_t)pid, (int)strtol(after, NULL, 10));
        return used;
    }
    if (text[0] == 'V') {
        note_after(shell, text + 1);
        return used;
    }
    struct state state;
    if (!find_state(text + used, len - used, &state))
        return 0;
    size_t whole = (size_t)(state.modes + state.modes_len + 1 - text);
    if (text[0] == 'X' && text[1] == '/' && shell->ready) {
        str_replace(&shell->cwd, text + 1);
        shell->strayed = false;
        take_trap(shell, &state);
        if (is_usable(&state))
            keep_state(box, shell, &state);
    } else if (text[0] == 'R') {
        take_end(box, shell, text + 1, &state);
    }
    return whole;
}

static void read_report(struct shell *shell)
{
    for (;;) {
        char *to = buf_room(&shell->told, 65536);
        ssize_t n = to ? read(shell->report, to, 65536) : 0;
        if (n <= 0)
            return;
        buf_grew(&shell->told, (size_t)n);
    }
}

/* Sets how long the rest of a report is left unread. Bash writes each line of it by itself: to be
 * woken by each would cost both sides more than the report does. */
static void set_patience(struct shell *shell, bool more)
{
    int doubled = 2 * shell->patience_us;
    if (shell->told.len == 0)
        shell->patience_us = 0;
    else if (more || doubled == 0)
        shell->patience_us = PATIENCE_US;
    else
        shell->patience_us = doubled < PATIENCE_US_MAX ? doubled : PATIENCE_US_MAX;
}

void box_shell_listen(struct box *box, struct shell *shell)
{
    size_t used, before = shell->told.len;
    read_report(shell);
    bool more = shell->told.len > before;
    while (shell->told.len > 0 &&
           (used = take_word(box, shell, shell->told.data, shell->told.len)) > 0)
        buf_drop(&shell->told, used);
    if (shell->told.failed) { /* The state is too large: the shell keeps the previous one. */
        buf_done(&shell->told);
        buf_init(&shell->told, TOLD_BYTES_MAX);
        box_shell_doom(shell);
    }
    set_patience(shell, more);
}

void box_shell_look(struct box *box, struct shell *shell)
{
    int unread = 1;
    if (shell->pid <= 0 || !shell->run || ioctl(shell->script, FIONREAD, &unread) || unread > 0)
        return;
    box_shell_listen(box, shell);
    if (!shell->run)
        return;
    box_note_cwd(shell);
    box_shell_doom(shell); /* It has read past the line that reports, and has not reported. */
}

void box_shell_died(struct box *box, struct shell *shell, int wait_status)
{
    box_shell_listen(box, shell);
    shell->pid = 0;
    shell->doomed = false;
    shell->bang = 0;
    shell->status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
    close_pipes(shell);
    shell->broken = !shell->ready;
    box_jobs_orphaned(box, shell);
    if (shell->run)
        box_run_ended(box, shell, shell->status, 0);
}
