/* Background processes, as the runner knows them. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/path.h"
#include "runner/session/session_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in a list for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define LIST_BYTES_MAX (4u << 20)
#define END_GRACE_MS 3000
#define KILLED_MS 3000

void detached_done(struct session *session)
{
    for (size_t i = 0; i < session->process_count; i++)
        free(session->processes[i].command);
    free(session->processes);
    session->processes = NULL;
    session->process_count = 0;
}

static struct detached *find_locked(struct session *session, pid_t pid)
{
    for (size_t i = session->process_count; i-- > 0;) /* The newest process with that pid. */
        if (session->processes[i].pid == pid)
            return &session->processes[i];
    return NULL;
}

/* --- printing and keeping ------------------------------------------------------------------ */

static void print_locked(const struct session *session, const struct detached *process,
                         struct json_writer *w)
{
    json_open_object(w, NULL);
    json_add_int(w, "pid", process->pid);
    json_add_text(w, "command", process->command);
    json_add_text(w, "shell", process->shell);
    json_add_text(w, "session_id", session->id);
    json_add_bool(w, "running", process->running);
    static const char *const names[] = {"exit_code", "returncode"}; /* As a shell's wait reports
                                                                     * it. */
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (process->exit_known)
            json_add_int(w, names[i], process->exit_code);
        else
            json_add_null(w, names[i]);
    }
    json_add_time(w, "started_at", process->started_ms);
    json_add_time(w, "ended_at", process->ended_ms);
    json_add_bool(w, "lost", process->lost);
    json_close(w);
}

/* Saves the list, so that the next start knows which processes it has lost. Errors are ignored,
 * because the list is only for display. */
static void keep_locked(struct session *session)
{
    struct err err;
    struct json_writer w;
    AUTO(str) char *path = path_join(session->dir, "processes.json");
    AUTO(buf) struct buf text = BUF_INIT(LIST_BYTES_MAX);
    json_write(&w, &text);
    json_open_array(&w, NULL);
    for (size_t i = 0; i < session->process_count; i++)
        print_locked(session, &session->processes[i], &w);
    json_close(&w);
    if (session->deleted || !path || !buf_ok(&text))
        return;
    AUTO(str) char *fresh = path_join(session->dir, "processes.new");
    FILE *file = fresh ? fopen(fresh, "we") : NULL;
    if (!file)
        return;
    size_t written = fwrite(text.data, 1, text.len, file);
    if (fclose(file) == 0 && written == text.len && rename(fresh, path))
        log_debug("session", "cannot keep the list of processes: %s",
                  err_sys(&err, "rename") ? err.msg : "");
}

static int64_t time_of(const struct json *node)
{
    int64_t ms = 0;
    const char *text = json_text(node);
    if (text)
        clock_parse(text, &ms);
    return ms;
}

static struct detached *add_locked(struct session *session)
{
    if (session->process_count == PROCESSES_MAX) { /* Drop the oldest process that has ended. */
        size_t at = 0;
        while (at < session->process_count - 1 && session->processes[at].running)
            at++;
        free(session->processes[at].command);
        memmove(&session->processes[at], &session->processes[at + 1],
                sizeof(struct detached) * (session->process_count - at - 1));
        session->process_count--;
    }
    struct detached *grown =
        realloc(session->processes, sizeof(struct detached) * (session->process_count + 1));
    if (!grown)
        return NULL;
    session->processes = grown;
    struct detached *process = &grown[session->process_count++];
    *process = (struct detached){0};
    return process;
}

void detached_load(struct session *session)
{
    struct err ignored;
    AUTO(str) char *path = path_join(session->dir, "processes.json");
    AUTO(buf) struct buf text = BUF_INIT(LIST_BYTES_MAX);
    if (!path || file_read(path, &text, &ignored))
        return;
    AUTO(json) struct json *list = json_parse(buf_str(&text), text.len, &ignored);
    for (const struct json *at = json_first(list); at; at = json_next(at)) {
        int64_t pid = 0, exit = 0;
        struct detached *process = json_int(json_get(at, "pid"), &pid) ? NULL : add_locked(session);
        if (!process)
            continue;
        const char *command = json_text(json_get(at, "command"));
        const char *shell = json_text(json_get(at, "shell"));
        process->pid = (pid_t)pid;
        process->command = strdup(command ? command : "");
        snprintf(process->shell, sizeof(process->shell), "%s", shell ? shell : "");
        process->started_ms = time_of(json_get(at, "started_at"));
        process->ended_ms = time_of(json_get(at, "ended_at"));
        process->logged = true;
        json_bool(json_get(at, "running"), &process->running);
        json_bool(json_get(at, "lost"), &process->lost);
        process->exit_known = json_int(json_get(at, "exit_code"), &exit) == 0;
        process->exit_code = (int)exit;
        if (!process->running)
            continue;
        process->running = false;
        process->lost = true;
        process->ended_ms = clock_real_ms();
    }
}

/* --- what agents tell ---------------------------------------------------------------------- */

void waiters_wake_locked(struct session *session, pid_t pid, int64_t exec)
{
    struct sessions *sessions = session->sessions;
    struct process_waiter **at = &sessions->waiters;
    while (*at) {
        struct process_waiter *waiter = *at;
        bool meant = (pid == 0 && exec == 0) || (pid > 0 && waiter->pid == pid) ||
                     (exec > 0 && waiter->exec == exec);
        if (waiter->session != session || !meant) {
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        waiter->next = sessions->woken;
        sessions->woken = waiter;
    }
    pthread_cond_broadcast(&sessions->changed);
    hub_ring(sessions);
}

void detached_started_locked(struct session *session, const struct json *event)
{
    int64_t pid = 0;
    const char *command = json_text(json_get(event, "command"));
    const char *shell = json_text(json_get(event, "shell"));
    struct detached *process = json_int(json_get(event, "pid"), &pid) ? NULL : add_locked(session);
    if (!process)
        return;
    process->pid = (pid_t)pid;
    json_int(json_get(event, "exec"), &process->exec);
    const struct exec *by = exec_find_locked(session, process->exec);
    process->command = strdup(by ? by->text : command ? command : "");
    snprintf(process->shell, sizeof(process->shell), "%s", shell ? shell : "");
    json_int(json_get(event, "startedAt"), &process->started_ms);
    json_bool(json_get(event, "logged"), &process->logged);
    json_bool(json_get(event, "input"), &process->input);
    process->running = true;
    keep_locked(session);
}

void detached_exited_locked(struct session *session, const struct json *event)
{
    int64_t pid = 0, exit = 0;
    json_int(json_get(event, "pid"), &pid);
    struct detached *process = find_locked(session, (pid_t)pid);
    if (!process)
        return;
    if (process->running)
        json_int(json_get(event, "endedAt"), &process->ended_ms);
    process->running = false;
    if (json_int(json_get(event, "exitCode"), &exit) == 0) {
        process->exit_known = true;
        process->exit_code = (int)exit;
    }
    keep_locked(session);
    waiters_wake_locked(session, (pid_t)pid, 0);
}

void detached_lost_locked(struct session *session)
{
    bool any = false;
    for (size_t i = 0; i < session->process_count; i++) {
        struct detached *process = &session->processes[i];
        if (!process->running)
            continue;
        process->running = false;
        process->lost = true;
        process->ended_ms = clock_real_ms();
        any = true;
    }
    if (any)
        keep_locked(session);
    waiters_wake_locked(session, 0, 0);
}

/* --- what callers ask ---------------------------------------------------------------------- */

void detached_list_locked(const struct session *session, struct json_writer *w)
{
    json_open_array(w, "processes");
    for (size_t i = 0; i < session->process_count; i++)
        print_locked(session, &session->processes[i], w);
    json_close(w);
}

int detached_list(struct sessions *sessions, const char *id, const char *shell, struct buf *out,
                  struct err *err)
{
    struct json_writer w;
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session)
        return -1;
    lock_take(&sessions->lock);
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_open_array(&w, "processes");
    for (size_t i = 0; i < session->process_count; i++)
        if (!shell || strcmp(session->processes[i].shell, shell) == 0)
            print_locked(session, &session->processes[i], &w);
    json_close(&w);
    json_close(&w);
    lock_drop(&sessions->lock);
    return 0;
}

static int none(pid_t pid, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "the session has no background process %d", (int)pid);
}

int detached_print(struct sessions *sessions, const char *id, pid_t pid, struct buf *out,
                   bool *ret_running, struct err *err)
{
    struct json_writer w;
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session)
        return -1;
    lock_take(&sessions->lock);
    const struct detached *process = find_locked(session, pid);
    if (process) {
        json_write(&w, out);
        print_locked(session, process, &w);
        *ret_running = process->running;
    }
    lock_drop(&sessions->lock);
    return process ? 0 : none(pid, err);
}

int detached_watch(struct sessions *sessions, const char *id, pid_t pid, void (*fn)(void *arg),
                   void *arg, struct err *err)
{
    AUTO(session) struct session *session = session_take(sessions, id, err);
    struct process_waiter *waiter = calloc(1, sizeof(*waiter));
    if (!session || !waiter) {
        free(waiter);
        return session ? err_sys(err, "waiting") : -1;
    }
    lock_take(&sessions->lock);
    const struct detached *process = find_locked(session, pid);
    bool waits = process && process->running;
    if (waits) {
        *waiter = (struct process_waiter){sessions->waiters, session, pid, 0, fn, arg};
        sessions->waiters = waiter;
        session->refs++;
    }
    lock_drop(&sessions->lock);
    if (waits)
        return 0;
    free(waiter);
    if (!process)
        return none(pid, err);
    fn(arg);
    return 0;
}

bool detached_unwatch(struct sessions *sessions, void *arg)
{
    bool found = false;
    lock_take(&sessions->lock);
    for (struct process_waiter **at = &sessions->waiters; *at && !found;) {
        struct process_waiter *waiter = *at;
        found = waiter->arg == arg;
        if (!found) {
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        session_unref_locked(waiter->session);
        free(waiter);
    }
    lock_drop(&sessions->lock);
    return found;
}

int exec_watch_end(struct exec *command, void (*fn)(void *arg), void *arg, struct err *err)
{
    struct sessions *sessions = command->sessions;
    struct process_waiter *waiter = calloc(1, sizeof(*waiter));
    if (!waiter)
        return err_sys(err, "waiting");
    lock_take(&sessions->lock);
    bool ended = command->ended;
    if (!ended) {
        *waiter =
            (struct process_waiter){sessions->waiters, command->session, 0, command->id, fn, arg};
        sessions->waiters = waiter;
        command->session->refs++;
    }
    lock_drop(&sessions->lock);
    if (!ended)
        return 0;
    free(waiter);
    fn(arg);
    return 0;
}

/* Copies what is known about a process; -1 with ERR_NOT_FOUND. */
static int look_up(struct session *session, pid_t pid, struct detached *ret_process,
                   struct err *err)
{
    lock_take(&session->sessions->lock);
    const struct detached *process = find_locked(session, pid);
    if (process)
        *ret_process = *process;
    lock_drop(&session->sessions->lock);
    return process ? 0 : none(pid, err);
}

int detached_log(struct sessions *sessions, const char *id, pid_t pid, struct err *err)
{
    char path[64];
    struct detached process = {0};
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session || look_up(session, pid, &process, err))
        return -1;
    if (!process.logged)
        return err_set(err, ERR_NOT_FOUND,
                       "process %d has no log: it writes to its command's output", (int)pid);
    snprintf(path, sizeof(path), "/tmp/bg_%d.out", (int)pid);
    return session_open(sessions, id, path, err);
}

/* Sends a request to the agent, whose answer holds no data. */
static int ask(struct session *session, const struct buf *members, const int *fds, size_t count,
               struct err *err)
{
    int fd;
    AUTO(json) struct json *said = link_call(session, members, fds, count, CALL_MS, &fd, err);
    fd_close(&fd);
    return said ? 0 : -1;
}

int detached_input(struct sessions *sessions, const char *id, pid_t pid, const char *text,
                   bool enter, bool end, struct err *err)
{
    struct detached process = {0};
    AUTO(buf) struct buf members = BUF_INIT(256), input = BUF_INIT(2u << 20);
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session || look_up(session, pid, &process, err))
        return -1;
    if (!process.running)
        return err_set(err, ERR_CONFLICT, "process %d has ended", (int)pid);
    buf_adds(&input, text);
    if (enter)
        buf_addc(&input, '\n');
    AUTO(fd) int file = link_text_file(buf_str(&input), input.len, err);
    if (file < 0)
        return -1;
    buf_addf(&members, ",\"op\":\"stdin\",\"pid\":%d,\"end\":%s", (int)pid, end ? "true" : "false");
    return ask(session, &members, &file, 1, err);
}

int detached_signal(struct sessions *sessions, const char *id, pid_t pid, int sig, struct err *err)
{
    struct detached process = {0};
    AUTO(buf) struct buf members = BUF_INIT(256);
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session || look_up(session, pid, &process, err))
        return -1;
    if (!process.running)
        return 0;
    buf_addf(&members, ",\"op\":\"signal\",\"pid\":%d,\"signal\":%d", (int)pid, sig);
    int rc = ask(session, &members, NULL, 0, err);
    return rc && err->code == ERR_NOT_FOUND ? 0 : rc;
}

static bool wait_end(struct session *session, pid_t pid, int ms)
{
    struct sessions *sessions = session->sessions;
    int64_t deadline = clock_mono_ms() + ms, now;
    lock_take(&sessions->lock);
    const struct detached *process;
    while ((process = find_locked(session, pid)) && process->running &&
           (now = clock_mono_ms()) < deadline)
        lock_wait(&sessions->changed, &sessions->lock, deadline - now);
    bool ended = !process || !process->running;
    lock_drop(&sessions->lock);
    return ended;
}

int detached_end(struct sessions *sessions, const char *id, pid_t pid, bool *ret_running,
                 struct err *err)
{
    struct detached process = {0};
    AUTO(session) struct session *session = session_take(sessions, id, err);
    if (!session || look_up(session, pid, &process, err))
        return -1;
    *ret_running = process.running;
    if (!process.running)
        return 0;
    if (detached_signal(sessions, id, pid, SIGTERM, err))
        return -1;
    if (wait_end(session, pid, END_GRACE_MS))
        return 0;
    if (detached_signal(sessions, id, pid, SIGKILL, err))
        return -1;
    return wait_end(session, pid, KILLED_MS)
               ? 0
               : err_set(err, ERR_TIMEOUT, "process %d does not end", (int)pid);
}

/* Lists the processes to end, followed by 0; the caller frees the list. */
static pid_t *choose(struct session *session, const char *pattern, const char *shell)
{
    size_t count = 0;
    lock_take(&session->sessions->lock);
    pid_t *pids = calloc(session->process_count + 1, sizeof(*pids));
    for (size_t i = 0; pids && i < session->process_count; i++) {
        const struct detached *at = &session->processes[i];
        if (at->running && (!pattern || strstr(at->command, pattern)) &&
            (!shell || strcmp(at->shell, shell) == 0))
            pids[count++] = at->pid;
    }
    lock_drop(&session->sessions->lock);
    return pids;
}

int detached_end_all(struct sessions *sessions, const char *id, const char *pattern,
                     const char *shell, int sig, struct buf *ret_pids, int *ret_count,
                     struct err *err)
{
    AUTO(session) struct session *session = session_take(sessions, id, err);
    pid_t *pids = session ? choose(session, pattern, shell) : NULL;
    int64_t deadline = clock_mono_ms() + END_GRACE_MS;
    struct err ignored;
    if (!pids)
        return session ? err_sys(err, "processes") : -1;
    *ret_count = 0;
    for (size_t i = 0; pids[i]; i++)
        detached_signal(sessions, id, pids[i], sig, &ignored);
    for (size_t i = 0; pids[i]; i++) {
        int64_t left = deadline - clock_mono_ms();
        if (!wait_end(session, pids[i], left > 0 ? (int)left : 0) && sig == SIGTERM) {
            detached_signal(sessions, id, pids[i], SIGKILL, &ignored);
            wait_end(session, pids[i], KILLED_MS);
        }
        buf_addf(ret_pids, "%s%d", i > 0 ? "," : "", (int)pids[i]);
        (*ret_count)++;
    }
    free(pids);
    return 0;
}
