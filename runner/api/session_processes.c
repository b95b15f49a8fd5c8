/* The background processes of sessions, and their shells. */
#include "base/lock.h"
#include "base/str.h"
#include "runner/api/body_fields.h"
#include "runner/api/session_cloud.h"
#include "runner/session/session.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_BYTES_MAX (16u << 20)
#define PIECE_BYTES (256u << 10)
#define WAIT_MAX_S 3600
#define SIGNALS 31 /* without those of real time */
#define INPUT_BYTES_MAX (1 << 20)

/* Reads the process that the path names. False after the answer has been sent. */
static bool find_pid(struct http_request *req, pid_t *ret_pid)
{
    int64_t pid;
    struct err err;
    if (str_to_int(http_param(req, "pid"), 1, INT32_MAX, &pid) == 0) {
        *ret_pid = (pid_t)pid;
        return true;
    }
    err_set(&err, ERR_NOT_FOUND, "the session has no background process '%.40s'",
            http_param(req, "pid"));
    send_err(req, &err);
    return false;
}

void processes_get(struct http_request *req, void *arg)
{
    static const char *const known[] = {"shell", NULL};
    struct api *api = arg;
    struct err err;
    const char *shell;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (query_refused(req, known) || query_shell(req, "shell", &shell))
        return;
    if (detached_list(api->sessions, http_param(req, "id"), shell, &out, &err))
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}

#if !defined(__clang__) /* gcc's analyzer does not follow a count of references */
#pragma GCC diagnostic ignored "-Wanalyzer-double-free"
#pragma GCC diagnostic ignored "-Wanalyzer-use-after-free"
#endif

/* A request that waits for the end of a process. */
struct wait {
    struct sessions *sessions;
    char id[ID_SIZE], request_id[80];
    pid_t pid;
    struct exec *command; /* NULL: it waits for a background process */
    _Atomic int refs;     /* of the process, the connection and the handler */
    struct lock lock;
    struct http_parked *parked; /* NULL before it is parked, and once one side answers */
    bool over;
};

static void wait_unref(struct wait *wait)
{
    if (atomic_fetch_sub(&wait->refs, 1) > 1)
        return;
    lock_done(&wait->lock);
    exec_unref(wait->command);
    free(wait);
}

static void print_ended(int exit, struct buf *out)
{
    buf_addf(out, "{\"running\":false,\"exit_code\":%d,\"returncode\":%d}", exit, exit);
}

/* Prints how it stands with a command in the foreground. */
static void print_running(struct exec *command, struct buf *out)
{
    int exit;
    if (exec_exit(command, &exit))
        print_ended(exit, out);
    else
        buf_adds(out, "{\"running\":true,\"exit_code\":null,\"returncode\":null}");
}

static void answer_wait(struct wait *wait, struct http_parked *parked)
{
    struct err err;
    bool running;
    int status = 200;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (wait->command) {
        print_running(wait->command, &out);
    } else if (detached_print(wait->sessions, wait->id, wait->pid, &out, &running, &err)) {
        buf_clear(&out);
        http_add_problem(&out, &err, wait->request_id, 0, NULL);
        status = err_http(err.code);
    }
    http_parked_send(parked, status,
                     status == 200 ? "application/json" : "application/problem+json", NULL,
                     buf_str(&out), out.len);
}

static struct http_parked *take_parked(struct wait *wait, bool over)
{
    lock_take(&wait->lock);
    struct http_parked *parked = wait->parked;
    wait->parked = NULL;
    wait->over |= over;
    lock_drop(&wait->lock);
    return parked;
}

static void on_process_ended(void *arg)
{
    struct wait *wait = arg;
    struct http_parked *parked = take_parked(wait, true);
    if (parked)
        answer_wait(wait, parked);
    wait_unref(wait);
}

static void on_waited(void *arg)
{
    struct wait *wait = arg;
    struct http_parked *parked = take_parked(wait, false);
    if (parked)
        answer_wait(wait, parked);
}

static void on_gone(void *arg)
{
    struct http_parked *parked = take_parked(arg, false);
    if (parked)
        http_parked_drop(parked);
}

/* The connection has ended; the process may run on for long. */
static void on_done(void *arg)
{
    struct wait *wait = arg;
    if (detached_unwatch(wait->sessions, wait))
        wait_unref(wait);
    wait_unref(wait);
}

/* Takes ownership of `command`; NULL means that a background process is waited for. */
static struct wait *wait_new(struct http_request *req, struct api *api, struct exec *command,
                             pid_t pid)
{
    struct wait *wait = calloc(1, sizeof(*wait));
    if (!wait) {
        exec_unref(command);
        return NULL;
    }
    *wait = (struct wait){.sessions = api->sessions, .pid = pid, .command = command, .refs = 3};
    lock_init(&wait->lock);
    snprintf(wait->id, sizeof(wait->id), "%s", http_param(req, "id"));
    snprintf(wait->request_id, sizeof(wait->request_id), "%s", http_id(req));
    return wait;
}

static void wait_for(struct http_request *req, struct api *api, struct exec *command, pid_t pid,
                     int seconds)
{
    struct err err;
    AUTO(config_ref) const struct config *config = config_ref(api->config);
    struct wait *wait = wait_new(req, api, command, pid);
    if (!wait) {
        err_sys(&err, "waiting");
        send_err(req, &err);
        return;
    }
    if (command ? exec_watch_end(command, on_process_ended, wait, &err)
                : detached_watch(api->sessions, wait->id, pid, on_process_ended, wait, &err)) {
        send_err(req, &err);
        wait_unref(wait);
        wait_unref(wait);
        wait_unref(wait);
        return;
    }
    const struct http_park_config park = {.keepalive_after_ms = config->keepalive_after_ms,
                                          .keepalive_every_ms = config->keepalive_every_ms,
                                          .wait_ms = seconds * 1000,
                                          .gone = on_gone,
                                          .waited = on_waited,
                                          .done = on_done,
                                          .arg = wait};
    lock_take(&wait->lock); /* gone() may be called before the handle is stored. */
    struct http_parked *parked = http_park(req, &park, &err);
    bool over = wait->over;
    wait->parked = over ? NULL : parked;
    lock_drop(&wait->lock);
    if (!parked) {
        send_err(req, &err);
        on_done(wait);
    } else if (over) {
        answer_wait(wait, parked);
    }
    wait_unref(wait);
}

static void wait_for_process(struct http_request *req, struct api *api, pid_t pid, int seconds)
{
    struct err err;
    bool running = false;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (detached_print(api->sessions, http_param(req, "id"), pid, &out, &running, &err))
        send_err(req, &err);
    else if (running && seconds > 0)
        wait_for(req, api, NULL, pid, seconds);
    else
        send_json(req, 200, &out);
}

void process_get(struct http_request *req, void *arg)
{
    static const char *const known[] = {"wait", NULL};
    struct api *api = arg;
    pid_t pid = 0;
    int64_t seconds = 0;
    if (query_refused(req, known) || query_number(req, "wait", WAIT_MAX_S, &seconds) ||
        !find_pid(req, &pid))
        return;
    wait_for_process(req, api, pid, (int)seconds);
}

/* Sends a file from an offset to its present end. */
static void send_log(struct http_request *req, int fd, int64_t from)
{
    AUTO(str) char *piece = malloc(PIECE_BYTES);
    ssize_t n = piece ? 1 : -1;
    if (http_begin(req, 200, "text/plain; charset=utf-8"))
        return;
    while (n > 0 && (n = pread(fd, piece, PIECE_BYTES, from)) > 0) {
        from += n;
        if (http_write(req, piece, (size_t)n))
            return;
    }
    http_end(req, n == 0);
}

/* A client that comes back goes on after its last event, whatever its address says. -1 after the
 * answer has been sent. */
static int read_last_event(struct http_request *req, int64_t *ret_from)
{
    struct err err;
    const char *text = http_header(req, "Last-Event-ID");
    if (!text || !*text || str_to_int(text, 0, INT64_MAX, ret_from) == 0)
        return 0;
    err_set(&err, ERR_RANGE, "'%.40s' is not the id of an event", text);
    send_err(req, &err);
    return -1;
}

void process_logs(struct http_request *req, void *arg)
{
    static const char *const known[] = {"from", NULL};
    struct api *api = arg;
    struct err err;
    pid_t pid;
    int64_t from = 0;
    if (query_refused(req, known) || query_number(req, "from", INT64_MAX, &from) ||
        !find_pid(req, &pid))
        return;
    if (http_prefers(req, "text/event-stream")) {
        if (read_last_event(req, &from) == 0)
            follow_process(req, api, http_param(req, "id"), pid, from);
        return;
    }
    int fd = detached_log(api->sessions, http_param(req, "id"), pid, &err);
    if (fd < 0) {
        send_err(req, &err);
        return;
    }
    send_log(req, fd, from);
    close(fd);
}

static void input_to(struct http_request *req, struct api *api, pid_t pid)
{
    struct err err;
    const char *text = "";
    bool enter = true, end = false;
    const struct field fields[] = {
        {.name = "text", .kind = FIELD_EMPTY, .to = &text, .max = INPUT_BYTES_MAX},
        {.name = "pressEnter", .kind = FIELD_BOOL, .to = &enter},
        {.name = "end", .kind = FIELD_BOOL, .to = &end},
    };
    AUTO(json) struct json *body = body_fields(req, fields, COUNT_OF(fields));
    if (!body)
        return;
    if (detached_input(api->sessions, http_param(req, "id"), pid, text, enter, end, &err)) {
        send_err(req, &err);
        return;
    }
    AUTO(buf) struct buf out = BUF_INIT(64);
    buf_adds(&out, "{\"status\":\"success\"}");
    send_json(req, 200, &out);
}

void process_stdin(struct http_request *req, void *arg)
{
    pid_t pid = 0;
    if (!away_refuses(req, arg, "standard input") && find_pid(req, &pid))
        input_to(req, arg, pid);
}

/* Reads "TERM", "SIGTERM" or "15"; 0 for anything else. */
static int signal_of(const char *text)
{
    int64_t number;
    if (str_to_int(text, 1, SIGNALS, &number) == 0)
        return (int)number;
    if (strncasecmp(text, "SIG", 3) == 0)
        text += 3;
    for (int sig = 1; sig <= SIGNALS; sig++) {
        const char *name = sigabbrev_np(sig);
        if (name && strcasecmp(name, text) == 0)
            return sig;
    }
    return 0;
}

/* Reads `signal`; an absent one leaves it as it is. -1 after the answer has been sent. */
static int read_signal(struct http_request *req, int *ret_signal)
{
    char why[96];
    const char *text = http_query(req, "signal");
    int number = text && *text ? signal_of(text) : *ret_signal;
    if (number || !text || !*text) {
        *ret_signal = number;
        return 0;
    }
    snprintf(why, sizeof(why), "'%.40s' is no signal", text);
    send_field_error(req, "signal", why);
    return -1;
}

static void end_and_say(struct http_request *req, struct api *api, pid_t pid)
{
    struct err err;
    bool running = false;
    const char *id = http_param(req, "id");
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX), process = BUF_INIT(LIST_BYTES_MAX);
    if (detached_end(api->sessions, id, pid, &running, &err)) {
        send_err(req, &err);
        return;
    }
    bool still;
    if (detached_print(api->sessions, id, pid, &process, &still, &err)) {
        send_err(req, &err);
        return;
    }
    AUTO(json) struct json *seen = json_parse(buf_str(&process), process.len, &err);
    buf_addf(&out, "{\"status\":\"%s\",\"killed_count\":%d,\"killed_pids\":[",
             running ? "terminated" : "already_terminated", running);
    if (running)
        buf_addi(&out, pid);
    buf_adds(&out, "],\"returncode\":");
    if (json_get(seen, "exit_code"))
        json_print(json_get(seen, "exit_code"), &out);
    else
        buf_adds(&out, "null");
    buf_adds(&out, ",\"process\":");
    buf_add(&out, process.data, process.len);
    buf_addc(&out, '}');
    send_json(req, 200, &out);
}

void process_delete(struct http_request *req, void *arg)
{
    static const char *const known[] = {"signal", NULL};
    struct api *api = arg;
    struct err err;
    pid_t pid;
    int sig = 0;
    if (query_refused(req, known) || read_signal(req, &sig) ||
        (sig && away_refuses(req, api, "a signal")) || !find_pid(req, &pid))
        return;
    if (!sig) {
        end_and_say(req, api, pid);
        return;
    }
    AUTO(buf) struct buf out = BUF_INIT(64);
    if (detached_signal(api->sessions, http_param(req, "id"), pid, sig, &err)) {
        send_err(req, &err);
        return;
    }
    buf_addf(&out, "{\"status\":\"signalled\",\"signal\":%d}", sig);
    send_json(req, 200, &out);
}

void processes_delete(struct http_request *req, void *arg)
{
    static const char *const known[] = {"pattern", "shell", "signal", NULL};
    struct api *api = arg;
    struct err err;
    int count = 0, sig = SIGTERM;
    const char *shell, *pattern = http_query(req, "pattern");
    AUTO(buf) struct buf pids = BUF_INIT(LIST_BYTES_MAX), out = BUF_INIT(LIST_BYTES_MAX);
    if (query_refused(req, known) || read_signal(req, &sig) || query_shell(req, "shell", &shell))
        return;
    if (detached_end_all(api->sessions, http_param(req, "id"), pattern, shell, sig, &pids, &count,
                         &err)) {
        send_err(req, &err);
        return;
    }
    buf_addf(&out, "{\"killed_count\":%d,\"killed_pids\":[%s]}", count, buf_str(&pids));
    send_json(req, 200, &out);
}

/* --- shells -------------------------------------------------------------------------------- */

void shell_get(struct http_request *req, void *arg)
{
    static const char *const known[] = {"shell", "console", NULL};
    struct api *api = arg;
    struct err err;
    const char *name = http_param(req, "name");
    bool in_path = name != NULL, console = false;
    AUTO(buf) struct buf out = BUF_INIT(LIST_BYTES_MAX);
    if (query_refused(req, known + in_path) || query_bool(req, "console", &console) ||
        (!in_path && query_shell(req, "shell", &name)))
        return;
    if (shellview_print(api->sessions, http_param(req, "id"), name ? name : "default", console,
                        &out, &err))
        send_err(req, &err);
    else
        send_json(req, 200, &out);
}

/* Finds what the shell's calls refer to. False after the answer has been sent. The caller drops the
 * reference to a foreground command. */
static bool find_current(struct http_request *req, struct api *api, struct shellview_now *ret_now)
{
    struct err err;
    const char *name = http_param(req, "name");
    if (shellview_current(api->sessions, http_param(req, "id"), name, ret_now, &err) == 0) {
        if (ret_now->pid > 0 || ret_now->command || ret_now->ended)
            return true;
        err_set(&err, ERR_NOT_FOUND, "shell '%.64s' has no process", name);
    }
    send_err(req, &err);
    return false;
}

void shell_stdin(struct http_request *req, void *arg)
{
    struct err err;
    struct shellview_now now;
    if (away_refuses(req, arg, "standard input") || !find_current(req, arg, &now))
        return;
    if (now.pid > 0) {
        input_to(req, arg, now.pid);
        return;
    }
    exec_unref(now.command);
    err_set(&err, ERR_CONFLICT,
            now.command ? "the command in front takes no input: give it `stdin`, or start it with "
                          "`background`"
                        : "the shell's last command has ended");
    send_err(req, &err);
}

/* The execution of what runs there is ended, without waiting for it. */
static void kill_away(struct http_request *req, struct api *api)
{
    struct err err;
    AUTO(buf) struct buf out = BUF_INIT(64);
    if (cloudbox_kill(api->cloudbox, http_param(req, "id"), http_param(req, "name"), &err)) {
        send_err(req, &err);
        return;
    }
    buf_adds(&out, "{\"status\":\"terminated\",\"returncode\":137}");
    send_json(req, 200, &out);
}

void shell_kill(struct http_request *req, void *arg)
{
    struct shellview_now now;
    struct api *api = arg;
    AUTO(buf) struct buf out = BUF_INIT(128);
    if (cloudbox_has(api->cloudbox, http_param(req, "id"))) {
        kill_away(req, api);
        return;
    }
    if (!find_current(req, arg, &now))
        return;
    if (now.pid > 0) {
        end_and_say(req, arg, now.pid);
        return;
    }
    if (now.command) {
        exec_kill(now.command);
        exec_unref(now.command);
        buf_adds(&out, "{\"status\":\"terminated\",\"returncode\":137}");
    } else {
        buf_addf(&out, "{\"status\":\"already_terminated\",\"returncode\":%d}", now.exit_code);
    }
    send_json(req, 200, &out);
}

void shell_wait(struct http_request *req, void *arg)
{
    struct api *api = arg;
    struct shellview_now now;
    int64_t seconds = 60;
    const struct field fields[] = {
        {.name = "seconds", .kind = FIELD_INT, .to = &seconds, .min = 0, .max = WAIT_MAX_S}};
    AUTO(json) struct json *body = body_fields(req, fields, COUNT_OF(fields));
    AUTO(buf) struct buf out = BUF_INIT(256);
    if (!body || away_refuses(req, api, "waiting for a process") || !find_current(req, api, &now))
        return;
    if (now.command && seconds > 0) {
        wait_for(req, api, now.command, 0, (int)seconds);
        return;
    }
    if (now.pid > 0) {
        wait_for_process(req, api, now.pid, (int)seconds);
        return;
    }
    if (now.command)
        print_running(now.command, &out);
    else
        print_ended(now.exit_code, &out);
    exec_unref(now.command);
    send_json(req, 200, &out);
}
