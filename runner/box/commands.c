/* Commands, and the background processes that they leave: see box_private.h. */
#include "runner/box/box_private.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HAND_OVERS 2

static void run_free(struct run *run)
{
    if (!run)
        return;
    fd_close(&run->in);
    fd_close(&run->out);
    fd_close(&run->err);
    fd_close(&run->in_write);
    fd_close(&run->log);
    fd_close(&run->command);
    free(run);
}
DEFINE_AUTO(run, struct run *, run_free)

/* --- starting ------------------------------------------------------------------------------ */

static int one_pipe(int *ret_read, int *ret_write, struct err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return err_sys(err, "pipe");
    *ret_read = ends[0];
    *ret_write = ends[1];
    return 0;
}

/* Opens the file of a background process, which commands can read as well. */
static int open_log(struct box *box, struct run *run, struct err *err)
{
    (void)box;
    snprintf(run->log_path, sizeof(run->log_path), "tmp/.bg_%lld", (long long)run->id);
    run->log = openat(box->root, run->log_path,
                      O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (run->log < 0)
        return err_sys(err, "cannot write to /tmp");
    return 0;
}

/* Opens the command's descriptors and the ends that go to the runner. */
static int open_ends(struct box *box, struct run *run, bool in_background, int input, int ret[2],
                     struct err *err)
{
    if (in_background) {
        if (open_log(box, run, err) || one_pipe(&run->in, &run->in_write, err))
            return -1;
        fcntl(run->in_write, F_SETFL, O_NONBLOCK);
        return 0;
    }
    run->in =
        input >= 0 ? fcntl(input, F_DUPFD_CLOEXEC, 0) : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (run->in < 0)
        return err_sys(err, "standard input");
    return one_pipe(&ret[0], &run->out, err) || one_pipe(&ret[1], &run->err, err) ? -1 : 0;
}

static int read_command(int fd, struct buf *text, struct err *err)
{
    return lseek(fd, 0, SEEK_SET) < 0 ? err_sys(err, "command") : fd_read_all(fd, text, err);
}

static int write_lines(struct box *box, struct shell *shell, int command, const char *cwd,
                       struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(COMMAND_BYTES_MAX);
    AUTO(buf) struct buf line = BUF_INIT(4 * COMMAND_BYTES_MAX);
    if (read_command(command, &text, err))
        return -1;
    snprintf(shell->run->head, sizeof(shell->run->head), "%s", buf_str(&text));
    box_add_command(&line, box, shell, &text, command, cwd);
    return box_shell_write(shell, &line, err);
}

static void answer_started(const struct box *box, const struct run *run, const int ends[2])
{
    AUTO(buf) struct buf text = BUF_INIT(256);
    buf_addf(&text, "{\"id\":%lld,\"ok\":true}", (long long)run->id);
    box_say(box, &text, ends, ends[0] >= 0 ? 2 : 0);
}

/* Refuses a command for a busy shell, and says what runs there. */
static int refuse_busy(const struct shell *shell, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "shell '%s' is busy: it runs '%.120s'", shell->name,
                   shell->run->head);
}

/* Gives the command to the shell. One that has died meanwhile, or has read half a line, runs
 * nothing any more: another gets it. */
static int hand_over(struct box *box, struct shell *shell, struct run *run, const char *cwd,
                     struct err *err)
{
    for (int i = 0; i < HAND_OVERS; i++) {
        if (box_shell_wake(box, shell, err))
            return -1;
        box_tag_set(shell->pid, run->tag);
        kill(shell->pid, SIGCONT); /* Another shell's command may have stopped it. */
        shell->run = run;
        if (write_lines(box, shell, run->command, cwd, err) == 0)
            return 0;
        shell->run = NULL;
        box_shell_doom(shell);
    }
    return -1;
}

static const char swept[] = "The session had no room for other processes (limits.pids): what had "
                            "most of them was ended.\n";

static bool any_run(const struct box *box)
{
    for (size_t i = 0; i < box->shell_count; i++)
        if (box->shells[i].run)
            return true;
    return false;
}

/* Where a command is to run. A relative path is one from the shell's directory, whatever CDPATH and
 * OLDPWD are. */
static char *place_of(const struct box *box, const struct json *ask)
{
    char *path = NULL;
    const char *place = json_text(json_get(ask, "cwd"));
    if (!place || place[0] == '/')
        return place ? box_real_path(box, place) : NULL;
    return asprintf(&path, "./%s", place) < 0 ? NULL : path;
}

static int start(struct box *box, struct run *owned, const struct json *ask,
                 const struct box_message *message, struct err *err)
{
    AUTO(run) struct run *run = owned;
    int ends[2] = {-1, -1};
    bool background = false, trailing = false;
    const char *name = json_text(json_get(ask, "shell"));
    struct shell *shell =
        message->fd_count > 0 ? box_shell_take(box, name ? name : "default", err) : NULL;
    if (!shell)
        return message->fd_count > 0 ? -1 : err_set(err, ERR_INVALID, "no command");
    if (shell->run)
        return refuse_busy(shell, err);
    json_bool(json_get(ask, "background"), &background);
    json_bool(json_get(ask, "trailing"), &trailing);
    box_reap(box);
    if (box->strangers)
        box_make_room(box, NULL, false);
    run->background = background;
    run->first = !box->strangers && !any_run(box);
    int input = message->fd_count > 1 ? message->fds[1] : -1;
    int rc = open_ends(box, run, background || trailing, input, ends, err) ||
             box_shell_wake(box, shell, err);
    if (rc == 0 && shell->status > 1) /* a line of ours forks then: see script.c */
        box_try_room(box);
    if (box->swept)
        (void)!fd_write_all(run->err >= 0 ? run->err : run->log, swept, sizeof(swept) - 1);
    box->swept = false;
    AUTO(str) char *cwd = place_of(box, ask);
    if (rc == 0) {
        run->command = fcntl(message->fds[0], F_DUPFD_CLOEXEC, 0);
        run->tag = box_tag_new(box);
        rc = hand_over(box, shell, run, cwd, err);
    }
    if (rc == 0) {
        answer_started(box, run, ends);
        run = NULL;
    }
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    return rc ? -1 : 0;
}

void box_run_start(struct box *box, int64_t id, const struct json *ask, struct box_message *message)
{
    struct err err;
    struct run *run = calloc(1, sizeof(*run));
    if (run) {
        *run = (struct run){.id = id,
                            .in = -1,
                            .out = -1,
                            .err = -1,
                            .in_write = -1,
                            .log = -1,
                            .command = -1,
                            .started_ms = clock_real_ms()};
        if (start(box, run, ask, message, &err) == 0)
            return;
    } else {
        err_sys(&err, "command");
    }
    box_say_error(box, id, &err);
}

/* --- processes that stay ------------------------------------------------------------------- */

struct job *box_job_find(struct box *box, pid_t pid)
{
    for (struct job *job = box->jobs; job; job = job->next)
        if (job->pid == pid)
            return job;
    return NULL;
}

static void say_job(const struct box *box, const struct job *job, const struct run *run,
                    bool logged)
{
    AUTO(buf) struct buf text = BUF_INIT(8192);
    struct json_writer w;
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "event", "process");
    json_add_int(&w, "pid", job->pid);
    json_add_int(&w, "exec", job->run);
    json_add_text(&w, "shell", job->shell);
    json_add_text(&w, "command", run->head);
    json_add_int(&w, "startedAt", run->started_ms);
    json_add_bool(&w, "logged", logged);
    json_add_bool(&w, "input", job->in_write >= 0);
    json_close(&w);
    box_say(box, &text, NULL, 0);
}

static struct job *job_add(struct box *box, struct shell *shell, struct run *run, pid_t pid)
{
    struct job *job = box->job_count < JOBS_MAX ? calloc(1, sizeof(*job)) : NULL;
    if (!job)
        return NULL;
    *job = (struct job){.next = box->jobs,
                        .pid = pid,
                        .run = run->id,
                        .tag = run->tag,
                        .whole = run->background,
                        .in_write = run->in_write};
    run->in_write = -1;
    snprintf(job->shell, sizeof(job->shell), "%s", shell->name);
    job->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (job->pidfd >= 0)
        fcntl(job->pidfd, F_SETFD, FD_CLOEXEC);
    job->over = job->pidfd < 0;
    box->jobs = job;
    box->job_count++;
    return job;
}

/* Renames the log to the name by which commands can find it. */
static void name_log(struct box *box, struct run *run, pid_t pid)
{
    char name[64];
    snprintf(name, sizeof(name), "tmp/bg_%d.out", (int)pid);
    renameat(box->root, run->log_path, box->root, name);
}

/* Registers other processes that the command has left: unknown children of its shell. */
static void adopt_others(struct box *box, struct shell *shell, struct run *run)
{
    size_t count;
    struct process *list = box_processes_list(box, &count);
    box->strangers = false;
    for (size_t i = 0; i < count; i++) {
        box->strangers = box->strangers || !box_is_ours(box, list[i].pid);
        bool left = list[i].parent == shell->pid && list[i].tag == run->tag;
        if (!left || box_job_find(box, list[i].pid))
            continue;
        struct job *job = job_add(box, shell, run, list[i].pid);
        if (job)
            say_job(box, job, run, false);
    }
    free(list);
}

/* `log`: what was printed by a command that has left no process, or -1. */
static void say_ended(const struct box *box, const struct shell *shell, const struct run *run,
                      int status, pid_t background, int log)
{
    AUTO(buf) struct buf text = BUF_INIT(BOX_TEXT_MAX);
    AUTO(str) char *cwd = box_shown_path(box, shell->cwd);
    struct json_writer w;
    json_write(&w, &text);
    json_open_object(&w, NULL);
    json_add_text(&w, "event", "ended");
    json_add_int(&w, "exec", run->id);
    json_add_int(&w, "exitCode", status);
    json_add_text(&w, "cwd", cwd);
    json_add_int(&w, "background", background);
    json_add_bool(&w, "killed", run->killed);
    json_add_bool(&w, "crowd", run->crowd);
    json_add_bool(&w, "alive", shell->pid > 0);
    json_close(&w);
    box_say(box, &text, &log, log >= 0);
}

void box_run_ended(struct box *box, struct shell *shell, int status, pid_t bang)
{
    AUTO(run) struct run *run = STEAL_PTR(shell->run);
    pid_t background = 0;
    int log = -1;
    shell->status = status;
    if (!run)
        return;
    if (bang > 0 && bang != shell->bang && run->log >= 0) {
        struct job *job = job_add(box, shell, run, bang);
        name_log(box, run, bang);
        background = bang;
        if (job)
            say_job(box, job, run, true);
    } else if (run->log >= 0) { /* The '&' was a comment's, or the command has an error. */
        unlinkat(box->root, run->log_path, 0);
        log = run->log;
    }
    shell->bang = bang;
    box->strangers = true;
    if (shell->pid > 0) {
        adopt_others(box, shell, run);
        box_tag_set(shell->pid, TAG_NONE);
    }
    say_ended(box, shell, run, status, background, log);
    box_jobs_ask(box, shell);
}

/* Everything with the command's tag, its shell as well. */
static void kill_run(struct box *box, struct shell *shell)
{
    shell->run->killed = true;
    kill(shell->pid, SIGKILL);
    box_tag_end(box, shell->run->tag);
    box_reap(box);
}

void box_run_kill(struct box *box, int64_t id, const struct json *ask)
{
    int64_t exec = 0;
    json_int(json_get(ask, "exec"), &exec);
    for (size_t i = 0; i < box->shell_count; i++) {
        struct shell *shell = &box->shells[i];
        if (!shell->run || shell->run->id != exec || shell->pid <= 0)
            continue;
        box_note_cwd(shell);
        kill_run(box, shell);
    }
    if (id > 0)
        box_say_ok(box, id);
}

/* --- their ends ---------------------------------------------------------------------------- */

static void job_remove(struct box *box, struct job *job)
{
    struct job **at = &box->jobs;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    box->job_count--;
    fd_close(&job->pidfd);
    fd_close(&job->in_write);
    free(job);
}

/* Reports the end of a process; exit < 0: not known. */
static void say_exited(const struct box *box, const struct job *job, int exit)
{
    AUTO(buf) struct buf text = BUF_INIT(512);
    buf_addf(&text,
             "{\"event\":\"exited\",\"pid\":%d,\"endedAt\":%lld,\"exitCode\":", (int)job->pid,
             (long long)clock_real_ms());
    if (exit < 0)
        buf_adds(&text, "null}");
    else
        buf_addf(&text, "%d}", exit);
    box_say(box, &text, NULL, 0);
}

void box_job_over(struct box *box, struct job *job, int status)
{
    struct shell *shell = box_shell_find(box, job->shell);
    if (status >= 0) {
        say_exited(box, job, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        job_remove(box, job);
        return;
    }
    if (job->over)
        return;
    job->over = true;
    if (shell && shell->run) /* The shell is busy and may report later. */
        say_exited(box, job, -1);
    if (shell && !shell->run && shell->pid > 0)
        box_jobs_ask(box, shell);
}

/* bash remembers how its children ended, also after it has been asked. A status that is not 0 must
 * not meet the caller's `set -e` or ERR trap. */
void box_jobs_ask(struct box *box, struct shell *shell)
{
    struct err ignored;
    AUTO(buf) struct buf line = BUF_INIT(65536);
    if (shell->run || shell->pid <= 0)
        return;
    for (struct job *job = box->jobs; job; job = job->next) {
        if (!job->over || job->asked || strcmp(job->shell, shell->name) != 0)
            continue;
        job->asked = true;
        buf_addf(&line, "\\builtin wait %d 2>/dev/null && \\builtin printf 'W%d 0\\0' ",
                 (int)job->pid, (int)job->pid);
        box_add_fd(&line, box, ">", shell->report_write);
        buf_addf(&line, " || \\builtin printf 'W%d %%s\\0' \"$?\"", (int)job->pid);
        box_add_fd(&line, box, ">", shell->report_write);
        buf_addc(&line, '\n');
    }
    if (line.len > 0)
        box_shell_write(shell, &line, &ignored);
}

void box_job_told(struct box *box, pid_t pid, int status)
{
    struct job *job = box_job_find(box, pid);
    if (!job || !job->asked)
        return;
    say_exited(box, job, status == 127 ? -1 : status); /* 127: the shell does not know the process
                                                        * any more. */
    job_remove(box, job);
}

/* Handles the jobs of a shell that has died: the kernel reports the exit codes that the shell did
 * not, unless it is too late. */
void box_jobs_orphaned(struct box *box, const struct shell *shell)
{
    struct job *next;
    for (struct job *job = box->jobs; job; job = next) {
        next = job->next;
        if (strcmp(job->shell, shell->name) != 0)
            continue;
        job->asked = false;
        if (!job->over || kill(job->pid, 0) == 0)
            continue;
        say_exited(box, job, -1);
        job_remove(box, job);
    }
}

/* --- what is done to them ------------------------------------------------------------------ */

void box_job_signal(struct box *box, int64_t id, const struct json *ask)
{
    int64_t pid = 0, sig = SIGTERM;
    struct err err;
    json_int(json_get(ask, "pid"), &pid);
    json_int(json_get(ask, "signal"), &sig);
    struct job *job = box_job_find(box, (pid_t)pid);
    if (!job || job->over) {
        err_set(&err, ERR_NOT_FOUND, "process %lld has ended", (long long)pid);
        box_say_error(box, id, &err);
        return;
    }
    struct shell *shell = box_shell_find(box, job->shell);
    box_branch_signal(box, job->pid, (int)sig);
    if (job->whole && sig == SIGKILL)
        box_tag_end(box, job->tag);
    else if (job->whole)
        box_tag_signal(box, job->tag, shell ? shell->pid : 0, (int)sig);
    box_say_ok(box, id);
}

/* Adds input to the log, as a terminal shows it. */
static void echo(struct box *box, const struct job *job, const char *text, size_t len)
{
    char name[64];
    snprintf(name, sizeof(name), "tmp/bg_%d.out", (int)job->pid);
    struct stat st;
    AUTO(fd)
    int log = openat(box->root, name, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (log >= 0 && fstat(log, &st) == 0 &&
        S_ISREG(st.st_mode)) /* A command may have replaced the file. */
        (void)!fd_write_all(log, text, len);
}

/* Writes input. It is added to the log first, as long as the pipe will take it whole, so that the
 * process's response comes after it. */
static int type_in(struct box *box, const struct job *job, const struct buf *text, struct err *err)
{
    struct pollfd room = {.fd = job->in_write, .events = POLLOUT};
    bool first = text->len <= PIPE_BUF && poll(&room, 1, 0) == 1 && room.revents == POLLOUT;
    if (first)
        echo(box, job, text->data, text->len);
    ssize_t n = write(job->in_write, text->data, text->len);
    if (n > 0 && !first)
        echo(box, job, text->data, (size_t)n);
    if (n == (ssize_t)text->len)
        return 0;
    if (n < 0 && errno == EPIPE)
        return err_set(err, ERR_CONFLICT, "process %d reads no input any more", (int)job->pid);
    return err_set(err, ERR_BUSY, "process %d has not read what was written before", (int)job->pid);
}

void box_job_stdin(struct box *box, int64_t id, const struct json *ask, struct box_message *message)
{
    int64_t pid = 0;
    bool end = false;
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(COMMAND_BYTES_MAX + 2);
    json_int(json_get(ask, "pid"), &pid);
    json_bool(json_get(ask, "end"), &end);
    struct job *job = box_job_find(box, (pid_t)pid);
    int rc = 0;
    if (!job || job->over)
        rc = err_set(&err, ERR_CONFLICT, "process %lld has ended", (long long)pid);
    else if (job->in_write < 0)
        rc = err_set(&err, ERR_CONFLICT, "process %lld takes no input", (long long)pid);
    else if (message->fd_count > 0)
        rc = read_command(message->fds[0], &text, &err);
    if (rc == 0 && text.len > 0)
        rc = type_in(box, job, &text, &err);
    if (rc) {
        box_say_error(box, id, &err);
        return;
    }
    if (end)
        fd_close(&job->in_write);
    box_say_ok(box, id);
}
