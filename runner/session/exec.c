/* Commands: from the request to the complete answer. */
#include "base/check.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/str.h"
#include "runner/session/session_private.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (64u << 10)
#define PIECES_A_TURN 16

/* --- life ---------------------------------------------------------------------------------- */

void exec_ref_locked(struct exec *command)
{
    command->refs++;
}

static void unlist_locked(struct exec *command)
{
    struct exec **at = &command->session->commands;
    if (!command->listed)
        return;
    while (*at && *at != command)
        at = &(*at)->next;
    if (*at)
        *at = command->next;
    command->session->command_count--;
    command->listed = false;
    exec_unref_locked(command);
}

void exec_unref_locked(struct exec *command)
{
    REQUIRE(command->refs > 0);
    if (--command->refs > 0)
        return;
    session_unref_locked(command->session);
    spool_done(&command->out);
    spool_done(&command->err);
    free(command->text);
    free(command->cwd);
    free(command);
}

void exec_unref(struct exec *command)
{
    if (!command)
        return;
    struct sessions *sessions = command->sessions;
    lock_take(&sessions->lock);
    exec_unref_locked(command);
    lock_drop(&sessions->lock);
}

struct exec *exec_find_locked(struct session *session, int64_t id)
{
    struct exec *command = session->commands;
    while (command && command->id != id)
        command = command->next;
    return command;
}

/* --- output -------------------------------------------------------------------------------- */

static void changed_locked(struct exec *command)
{
    if (command->watch.changed)
        command->watch.changed(command->watch.arg);
}

/* Finishes the command's output: all pipes have ended, or are not read any more. */
static void let_go_locked(struct exec *command)
{
    if (command->ended && !command->sources[0] && !command->sources[1])
        unlist_locked(command);
}

/* Reads the output that is there; true at its end. *ret_any is set when there was some. */
static bool drain_locked(struct exec *command, struct source *source, int pieces, bool *ret_any)
{
    static char piece[PIECE_BYTES]; /* The lock protects it. */
    struct spool *spool = source->kind == SOURCE_OUT ? &command->out : &command->err;
    for (int i = 0; i < pieces; i++) {
        ssize_t n = read(source->fd, piece, sizeof(piece));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno != EAGAIN;
        if (n == 0)
            return true;
        *ret_any = true;
        spool_add(spool, command->session->dir, piece, (size_t)n);
    }
    return false;
}

void exec_bytes_locked(struct exec *command, struct source *source)
{
    bool any = false, over = drain_locked(command, source, PIECES_A_TURN, &any);
    if (any)
        changed_locked(command);
    if (!over)
        return;
    command->sources[source->kind == SOURCE_ERR] = NULL;
    source_end_locked(command->sessions, source);
    let_go_locked(command);
}

/* --- what becomes of it -------------------------------------------------------------------- */

static void finish_locked(struct exec *command)
{
    command->took_ms = clock_mono_ms() - command->began_ms;
    command->deadline_ms = 0;
    command->ended = true;
    struct view *view = shellview_find_locked(command->session, command->shell);
    if (view && view->running == command)
        view->running = NULL;
    if (view && command->failure.code == ERR_NONE) {
        shellview_add_locked(view, command);
        view->ended = true;
        view->exit_code = command->exit_code;
    }
    hub_finish_locked(command);
    waiters_wake_locked(command->session, 0, command->id);
    changed_locked(command);
    let_go_locked(command);
}

static void listen_locked(struct exec *command, enum source_kind kind, int fd)
{
    if (fd < 0)
        return;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct source *source = source_new_locked(command->sessions, kind, fd);
    if (!source) {
        close(fd);
        return;
    }
    source->command = command;
    command->sources[kind == SOURCE_ERR] = source;
}

void exec_started_locked(struct exec *command, int out, int err)
{
    command->started = true;
    listen_locked(command, SOURCE_OUT, out);
    listen_locked(command, SOURCE_ERR, err);
}

void exec_refused_locked(struct exec *command, const struct err *err)
{
    command->failure = *err;
    finish_locked(command);
}

/* Reads the rest: everything that it wrote before its end is in the pipes by now. */
static void drain_all_locked(struct exec *command)
{
    for (int i = 0; i < 2; i++) {
        struct source *source = command->sources[i];
        bool any;
        if (!source || !drain_locked(command, source, INT32_MAX, &any))
            continue;
        command->sources[i] = NULL;
        source_end_locked(command->sessions, source);
    }
}

/* Output that went to a file: the command seemed to stay in the background. */
static void read_log_locked(struct exec *command, int log)
{
    static char piece[PIECE_BYTES]; /* The lock protects it. */
    struct stat st;
    ssize_t n;
    if (log < 0 || fstat(log, &st) || !S_ISREG(st.st_mode))
        return;
    for (int64_t at = 0; at <= OUTPUT_BYTES_MAX; at += n) {
        n = pread(log, piece, sizeof(piece), at);
        if (n <= 0)
            return;
        spool_add(&command->out, command->session->dir, piece, (size_t)n);
    }
}

void exec_ended_locked(struct exec *command, const struct json *event, int log)
{
    int64_t exit = 0, background = 0;
    struct view *view = shellview_take_locked(command->session, command->shell);
    const char *cwd = json_text(json_get(event, "cwd"));
    if (command->ended)
        return;
    json_int(json_get(event, "exitCode"), &exit);
    json_int(json_get(event, "background"), &background);
    drain_all_locked(command);
    read_log_locked(command, log);
    command->exit_code = (int)exit;
    command->pid = (pid_t)background;
    command->cwd = strdup(cwd ? cwd : "/workspace");
    if (view) {
        str_replace(&view->cwd, command->cwd);
        if (background)
            view->pid = (pid_t)background;
    }
    bool crowd = false;
    json_bool(json_get(event, "crowd"), &crowd);
    if (crowd && !command->timed_out) {
        static const char text[] = "The session had no room for other processes (limits.pids): "
                                   "this command had most of them, and was ended.\n";
        spool_add(&command->err, command->session->dir, text, sizeof(text) - 1);
        command->cause = WORK_PIDS;
        command->killed = true;
    }
    if (command->timed_out) {
        char text[96];
        int n = snprintf(text, sizeof(text), "Command timed out after %lld seconds\n",
                         (long long)((command->timeout_ms + 999) / 1000));
        spool_add(&command->err, command->session->dir, text, (size_t)n);
        command->exit_code = -1;
        command->cause = WORK_TIMEOUT;
    }
    finish_locked(command);
}

/* Why all of a session's processes were ended, said to who waits for one. */
static const char *say_why(enum work_cause limit)
{
    if (limit == WORK_MEMORY)
        return "The session used more memory than it may have (limits.memoryMb): its processes "
               "were ended.\n";
    if (limit == WORK_DISK)
        return "The session's files take more of the disk than they may (limits.diskMb): its "
               "processes were ended. Remove some.\n";
    return "The session's processes were ended.\n";
}

/* Its agent has gone: what it printed is kept. */
void exec_lost_locked(struct exec *command)
{
    enum work_cause limit = work_cause_of_limits(command->session->met, 0);
    const char *text = say_why(limit);
    struct view *view = shellview_find_locked(command->session, command->shell);
    drain_all_locked(command);
    for (int i = 0; i < 2; i++) {
        source_end_locked(command->sessions, command->sources[i]);
        command->sources[i] = NULL;
    }
    if (command->ended) {
        let_go_locked(command);
        return;
    }
    spool_add(&command->err, command->session->dir, text, strlen(text));
    command->exit_code = command->timed_out ? -1 : 137;
    command->cause = command->timed_out             ? WORK_TIMEOUT
                     : limit != WORK_ENDED          ? limit
                     : command->cause != WORK_ENDED ? command->cause
                                                    : WORK_INTERRUPT;
    command->killed = true;
    command->cwd = strdup(view && view->cwd ? view->cwd : "/workspace");
    finish_locked(command);
}

/* --- time limits --------------------------------------------------------------------------- */

int64_t execs_due_locked(struct sessions *sessions)
{
    int64_t due = INT64_MAX;
    for (struct session *session = sessions->list; session; session = session->next)
        for (struct exec *at = session->commands; at; at = at->next)
            if (at->deadline_ms > 0 && at->deadline_ms < due)
                due = at->deadline_ms;
    return due;
}

static void send_kill_locked(struct exec *command)
{
    struct err ignored;
    AUTO(buf) struct buf members = BUF_INIT(128);
    buf_addf(&members, ",\"op\":\"kill\",\"exec\":%lld", (long long)command->id);
    link_send_locked(command->session, 0, &members, NULL, 0, &ignored);
    command->deadline_ms = clock_mono_ms() + KILL_MS;
    command->killed = true;
}

/* Handles expired time limits. True when the session has lost its agent: then its list has
 * changed. */
static bool look_late_locked(struct session *session, int64_t now_ms)
{
    for (struct exec *at = session->commands; at; at = at->next) {
        if (at->deadline_ms == 0 || at->deadline_ms > now_ms)
            continue;
        if (at->killed) { /* The agent does not answer, or cannot: start a new one. */
            session_lost_locked(session);
            return true;
        }
        at->timed_out = true;
        send_kill_locked(at);
    }
    return false;
}

void execs_late_locked(struct sessions *sessions, int64_t now_ms)
{
    for (struct session *session = sessions->list; session; session = session->next)
        while (look_late_locked(session, now_ms))
            continue;
}

void exec_kill(struct exec *command)
{
    struct sessions *sessions = command->sessions;
    lock_take(&sessions->lock);
    if (!command->ended && !command->killed) {
        command->cause = WORK_CANCEL;
        send_kill_locked(command);
    }
    hub_ring(sessions);
    lock_drop(&sessions->lock);
}

/* --- starting ------------------------------------------------------------------------------ */

/* True for a command that ends with a single '&', which leaves a process in the background. */
static bool ends_in_background(const char *text)
{
    size_t len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        len--;
    if (len < 2 || text[len - 1] != '&')
        return false;
    return !strchr("&<>|\\", text[len - 2]);
}

static void add_members(const struct exec *command, const struct exec_wish *wish,
                        struct buf *members)
{
    buf_addf(members, ",\"op\":\"exec\",\"shell\":\"%s\",\"background\":%s,\"trailing\":%s",
             command->shell, command->background ? "true" : "false",
             command->trailing ? "true" : "false");
    if (wish->cwd) {
        buf_adds(members, ",\"cwd\":\"");
        str_add_json(members, wish->cwd, strlen(wish->cwd));
        buf_addc(members, '"');
    }
}

static void note_ps1_locked(struct exec *command)
{
    const struct view *view = shellview_find_locked(command->session, command->shell);
    const char *cwd = view && view->cwd ? view->cwd : "/workspace";
    bool home = str_starts(cwd, "/home/user");
    snprintf(command->ps1, sizeof(command->ps1), "user@%s:%s%s $", command->session->id,
             home ? "~" : "", home ? cwd + strlen("/home/user") : cwd);
}

static int send_locked(struct exec *command, const struct exec_wish *wish, const int *fds,
                       struct err *err)
{
    struct session *session = command->session;
    AUTO(buf) struct buf members = BUF_INIT(BOX_TEXT_MAX);
    if (session->command_count >= COMMANDS_MAX)
        return err_set(err, ERR_RATE, "the session runs %d commands already", COMMANDS_MAX);
    struct view *view = shellview_take_locked(session, command->shell);
    if (!view)
        return err_sys(err, "shell");
    if (view->running)
        return err_set(err, ERR_CONFLICT, "shell '%s' is busy: it runs '%.120s'", command->shell,
                       view->running->text);
    command->id = ++command->sessions->next_id;
    command->began_ms = clock_mono_ms();
    command->deadline_ms = command->began_ms + command->timeout_ms;
    add_members(command, wish, &members);
    note_ps1_locked(command);
    if (link_send_locked(session, command->id, &members, fds, fds[1] >= 0 ? 2 : 1, err))
        return -1;
    command->next = session->commands;
    session->commands = command;
    session->command_count++;
    command->listed = true;
    exec_ref_locked(command);
    view->running = command;
    session->used_ms = clock_real_ms();
    hub_ring(command->sessions);
    return 0;
}

static struct exec *exec_new(struct session *session, const struct exec_wish *wish,
                             const struct exec_watch *watch)
{
    struct exec *command = calloc(1, sizeof(*command));
    char *text = strdup(wish->text);
    if (!command || !text) {
        free(command);
        free(text);
        return NULL;
    }
    command->sessions = session->sessions;
    command->session = session;
    command->refs = 1;
    command->text = text;
    command->background = wish->background;
    command->trailing = !wish->background && ends_in_background(wish->text);
    command->timeout_ms = wish->timeout_ms;
    command->watch = *watch;
    spool_init(&command->out);
    spool_init(&command->err);
    snprintf(command->shell, sizeof(command->shell), "%s", wish->shell ? wish->shell : "default");
    return command;
}

struct exec *exec_start(struct sessions *sessions, const char *id, const struct exec_wish *wish,
                        const struct exec_watch *watch, struct err *err)
{
    AUTO(session) struct session *session = session_take(sessions, id, err);
    AUTO(fd) int text = -1;
    AUTO(fd) int input = -1;
    if (!session || session_wake(session, err))
        return NULL;
    text = link_text_file(wish->text, strlen(wish->text), err);
    if (text < 0)
        return NULL;
    if (wish->input && (input = link_text_file(wish->input, strlen(wish->input), err)) < 0)
        return NULL;
    struct exec *command = exec_new(session, wish, watch);
    if (!command) {
        err_sys(err, "command");
        return NULL;
    }
    lock_take(&sessions->lock);
    session->refs++; /* the command's reference */
    int rc = send_locked(command, wish, (const int[]){text, input}, err);
    if (rc && session->control < 0) { /* it has died since: nothing has reached it */
        lock_drop(&sessions->lock);
        rc = session_wake(session, err);
        lock_take(&sessions->lock);
        rc = rc ? rc : send_locked(command, wish, (const int[]){text, input}, err);
    }
    if (rc)
        exec_unref_locked(command);
    lock_drop(&sessions->lock);
    return rc ? NULL : command;
}

bool exec_exit(struct exec *command, int *ret_exit)
{
    lock_take(&command->sessions->lock);
    bool ended = command->ended;
    *ret_exit = command->exit_code;
    lock_drop(&command->sessions->lock);
    return ended;
}

/* --- telling ------------------------------------------------------------------------------- */

bool exec_failed(const struct exec *command, struct err *err)
{
    if (command->failure.code == ERR_NONE)
        return false;
    *err = command->failure;
    return true;
}

static void add_output(struct json_writer *w, const char *name, const struct spool *spool)
{
    AUTO(buf) struct buf text = BUF_INIT((size_t)OUTPUT_BYTES_MAX + 1);
    spool_read(spool, 0, (size_t)OUTPUT_BYTES_MAX, &text);
    json_add_textn(w, name, buf_str(&text), text.len);
}

static void print(struct exec *command, bool whole, struct buf *out)
{
    struct json_writer w;
    lock_take(&command->sessions->lock);
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_int(&w, "exit_code", command->exit_code);
    if (whole) {
        add_output(&w, "stdout", &command->out);
        add_output(&w, "stderr", &command->err);
    }
    json_add_text(&w, "cwd", command->cwd ? command->cwd : "/workspace");
    json_add_text(&w, "session_id", command->session->id);
    json_add_text(&w, "shell", command->shell);
    if (command->pid > 0)
        json_add_int(&w, "background_pid", command->pid);
    else
        json_add_null(&w, "background_pid");
    json_add_int(&w, "duration_ms", command->took_ms);
    json_add_bool(&w, "truncated", command->out.truncated || command->err.truncated);
    json_add_bool(&w, "timed_out", command->timed_out);
    if (command->cause == WORK_ENDED)
        json_add_null(&w, "cause");
    else
        json_add_text(&w, "cause", work_cause_reason(command->cause));
    json_close(&w);
    lock_drop(&command->sessions->lock);
}

void exec_print(struct exec *command, struct buf *out)
{
    print(command, true, out);
}

void exec_print_end(struct exec *command, struct buf *out)
{
    print(command, false, out);
}

size_t exec_read(struct exec *command, bool of_err, int64_t from, size_t max, struct buf *out)
{
    lock_take(&command->sessions->lock);
    size_t n = spool_read(of_err ? &command->err : &command->out, from, max, out);
    lock_drop(&command->sessions->lock);
    return n;
}
