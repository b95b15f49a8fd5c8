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
#define PATIENCE_US 50
#define PATIENCE_US_MAX 20000

/* Together they print everything that makes another shell like this one, and a null byte; parts
 * that cannot be set are skipped when it is read. */
static const char *const dumps[] = {"declare -p", "declare -f", "alias -p", "trap -p",
                                    "shopt -p",   "umask -p",   "set +o",   "printf \\\\0"};

void box_add_quoted(struct buf *out, const char *text, size_t len)
{
    buf_addc(out, '\'');
    while (len > 0) {
        const char *quote = memchr(text, '\'', len);
        size_t n = quote ? (size_t)(quote - text) : len;
        buf_add(out, text, n);
        if (quote)
            buf_adds(out, "'\\''");
        n += quote != NULL;
        text += n;
        len -= n;
    }
    buf_addc(out, '\'');
}

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

void box_add_fd(struct buf *line, const struct box *box, const char *how, int fd)
{
    buf_addf(line, " %s/proc/%d/fd/%d", how, (int)box->self, fd);
}

/* The caller's functions and aliases may have any name, so builtins are called explicitly. */
static void add_dump(struct buf *line, const struct box *box, const struct shell *shell)
{
    buf_adds(line, "{");
    for (size_t i = 0; i < COUNT_OF(dumps); i++) {
        buf_addf(line, " \\builtin %s", dumps[i]);
        if (shell->traced)
            box_add_fd(line, box, ">", shell->report_write);
        buf_addc(line, ';');
    }
    buf_adds(line, " }");
    if (!shell->traced)
        box_add_fd(line, box, ">", shell->report_write);
    buf_adds(line, " 2>/dev/null");
}

void box_add_report(struct buf *line, const struct box *box, const struct shell *shell,
                    const char *status, const char *bang, bool end_job_control)
{
    buf_addf(line, "\\builtin printf 'R%%s %%s\\0' %s %s", status, bang);
    box_add_fd(line, box, ">", shell->report_write);
    buf_adds(line, "; ");
    if (end_job_control)
        buf_adds(line, "\\builtin set +m; ");
    add_dump(line, box, shell);
    buf_adds(line, "\n\n");
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

/* True when the shell's file holds this state already. */
static bool is_kept(const struct box *box, const struct shell *shell, const struct buf *head,
                    const char *dump, size_t len)
{
    struct stat now;
    const struct buf *kept = &shell->kept;
    const struct stat *then = &shell->file;
    return kept->len == head->len + len && memcmp(kept->data, head->data, head->len) == 0 &&
           memcmp(kept->data + head->len, dump, len) == 0 &&
           fstatat(box->states, shell->name, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
           now.st_ino == then->st_ino && now.st_size == then->st_size &&
           now.st_ctim.tv_sec == then->st_ctim.tv_sec &&
           now.st_ctim.tv_nsec == then->st_ctim.tv_nsec;
}

/* Remembers what the shell's file holds, unless that is large. */
static void note_kept(const struct box *box, struct shell *shell, const struct buf *head,
                      const char *dump, size_t len)
{
    buf_clear(&shell->kept);
    if (head->len + len > KEPT_BYTES_MAX ||
        fstatat(box->states, shell->name, &shell->file, AT_SYMLINK_NOFOLLOW))
        return;
    buf_add(&shell->kept, head->data, head->len);
    buf_add(&shell->kept, dump, len);
}

/* Writes the state to a new file and renames it, so that there is always a complete one. Most
 * commands change nothing of it: then nothing is written. */
static void keep_state(const struct box *box, struct shell *shell, const char *dump, size_t len)
{
    char fresh[ID_SIZE + 8];
    AUTO(buf) struct buf head = BUF_INIT(65536);
    snprintf(fresh, sizeof(fresh), ".%s.new", shell->name);
    buf_adds(&head, "\\builtin cd -- ");
    box_add_quoted(&head, shell->cwd, strlen(shell->cwd));
    buf_adds(&head, "\n");
    if (!buf_ok(&head) || is_kept(box, shell, &head, dump, len))
        return;
    AUTO(fd) int fd = openat(box->states, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0 && fd_write_all(fd, head.data, head.len) == 0 && fd_write_all(fd, dump, len) == 0 &&
        renameat(box->states, fresh, box->states, shell->name) == 0)
        note_kept(box, shell, &head, dump, len);
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
    buf_adds(&line, "\\builtin shopt -s expand_aliases\n");
    if (shell->state >= 0)
        buf_addf(&line, "\\builtin . /proc/%d/fd/%d\n", (int)box->self, shell->state);
    shell->traced = false;
    buf_adds(&line, "\\builtin trap '{ \\builtin trap - DEBUG; } >/dev/null 2>&1; "
                    "\\builtin printf X%s\\\\0 \"$PWD\"");
    box_add_fd(&line, box, ">", shell->report_write);
    buf_adds(&line, "; ");
    add_dump(&line, box, shell);
    buf_adds(&line, "' EXIT\n");
    if (shell->state < 0) {
        buf_adds(&line, "\\builtin cd -- ");
        box_add_quoted(&line, shell->cwd, strlen(shell->cwd));
        buf_adds(&line, "\n");
    }
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
    pid_t pid = box_fork(box);
    if (pid == 0)
        read_script(box, script, shell->cwd);
    close(script);
    if (pid < 0) {
        close_pipes(shell);
        return err_sys(err, "cannot start a shell");
    }
    shell->pid = pid;
    shell->bang = 0;
    shell->ready = false;
    if (!shell->broken)
        shell->state = box_state_open(box, shell->name);
    return greet(box, shell, err);
}

/* --- listening ----------------------------------------------------------------------------- */

/* False for a state with extdebug: its DEBUG trap can prevent every command, also ours. Such a
 * state is not kept, so it ends with this bash. */
static bool is_usable(const char *dump, size_t len)
{
    static const char on[] = "shopt -s extdebug", any[] = "shopt -";
    return memmem(dump, len, any, sizeof(any) - 1) && !memmem(dump, len, on, sizeof(on) - 1);
}

/* True for a state with a DEBUG trap. It runs before each builtin, also before ours, and what it
 * prints is where they print. */
static bool is_traced(const char *dump, size_t len)
{
    static const char end[] = "' DEBUG\n";
    return memmem(dump, len, end, sizeof(end) - 1) != NULL;
}

/* Asks for the report again, each part of it by a redirection of its own: traps run before those.
 */
static bool ask_again(const struct box *box, struct shell *shell, const char *status,
                      const char *bang)
{
    struct err ignored;
    AUTO(buf) struct buf line = BUF_INIT(65536);
    shell->traced = true;
    box_add_report(&line, box, shell, status, bang, false);
    return box_shell_write(shell, &line, &ignored) == 0;
}

/* Handles one report. "S": it has read its state. "Wpid status": of a background process. "Rstatus
 * bang" and the state: a command has ended. "Xcwd" and the state: it exits. Returns how many bytes
 * were used, 0 when the report is incomplete. */
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
    const char *dump = text + used, *stop = memchr(dump, '\0', len - used);
    if (!stop)
        return 0;
    if (text[0] == 'X' && text[1] == '/') {
        str_replace(&shell->cwd, text + 1);
        if (is_usable(dump, (size_t)(stop - dump)))
            keep_state(box, shell, dump, (size_t)(stop - dump));
    } else if (text[0] == 'R') {
        char *after, numbers[2][24];
        long status = strtol(text + 1, &after, 10);
        long bang = strtol(after, NULL, 10);
        bool traced = is_traced(dump, (size_t)(stop - dump));
        snprintf(numbers[0], sizeof(numbers[0]), "%ld", status);
        snprintf(numbers[1], sizeof(numbers[1]), "%ld", bang);
        if (shell->run && traced && !shell->traced && ask_again(box, shell, numbers[0], numbers[1]))
            return (size_t)(stop - text) + 1;
        shell->traced = traced;
        box_note_cwd(shell);
        shell->monitor = memmem(dump, (size_t)(stop - dump), "set -o monitor", 14) != NULL;
        shell->broken = false;
        if (is_usable(dump, (size_t)(stop - dump)))
            keep_state(box, shell, dump, (size_t)(stop - dump));
        else
            box_shell_doom(shell);
        box_run_ended(box, shell, (int)status, (pid_t)bang);
    }
    return (size_t)(stop - text) + 1;
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

/* --- the environment ----------------------------------------------------------------------- */

/* Lists the variables that a shell with this state would export, by starting one. */
int box_shell_env(const struct work *work, struct err *err)
{
    static const char script[] = ". /dev/fd/100 >/dev/null 2>&1; \\builtin exec env -0";
    const char *name = json_text(json_get(work->ask, "shell"));
    int ends[2];
    AUTO(buf) struct buf out = BUF_INIT(4u << 20), answer = BUF_INIT(16u << 20);
    if (pipe2(ends, O_CLOEXEC))
        return err_sys(err, "environment");
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {(char[]){"bash"}, (char[]){"--noprofile"},   (char[]){"--norc"},
                        (char[]){"-c"},   (char *)(uintptr_t)script, NULL};
        int state = box_state_open(work->box, name ? name : "default");
        dup2(ends[1], 1);
        dup2(open("/dev/null", O_RDWR), 0);
        dup2(0, 2);
        if (state < 0)
            state = open("/dev/null", O_RDONLY);
        dup2(state, 100);
        execve("/bin/bash", argv, work->box->env.items);
        _exit(127);
    }
    close(ends[1]);
    int rc = pid < 0 ? err_sys(err, "environment") : fd_read_all(ends[0], &out, err);
    close(ends[0]);
    if (rc)
        return -1;
    struct json_writer w;
    json_write(&w, &answer);
    json_open_object(&w, NULL);
    for (size_t at = 0; at < out.len; at += strlen(out.data + at) + 1) {
        const char *equals = strchr(out.data + at, '=');
        char member[512];
        size_t len = equals ? (size_t)(equals - (out.data + at)) : 0;
        if (len == 0 || len >= sizeof(member) || out.data[at] == '_')
            continue;
        snprintf(member, sizeof(member), "%.*s", (int)len, out.data + at);
        json_add_text(&w, member, equals + 1);
    }
    json_close(&w);
    box_work_body(work, &answer);
    return 0;
}
