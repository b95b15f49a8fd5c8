/*
 * run, exec, logs: tasks that are followed from this terminal. The task is begun with `detach`, so
 * that a broken connection does not end it, and this program reconnects for the rest. Ctrl-C
 * cancels it; a second one leaves it running.
 */
#include "base/auto.h"
#include "base/str.h"
#include "runner/client/cloud_home.h"
#include "runner/client/commands.h"
#include "runner/client/fields.h"
#include "runner/client/follow.h"
#include "runner/client/inputs.h"
#include "runner/client/narrate.h"
#include "runner/client/screen.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BODY_MAX (32u << 20)
#define INTERRUPTED 130
#define TIMED_OUT 124

/* --- the request --------------------------------------------------------------------------- */

/* Writes "--repo" and "--timeout", which are short for fields; uploads inputs first. */
static int write_common(struct call *call, struct json_writer *w, struct err *err)
{
    const char *repo = options_value(&call->given, "repo");
    const char *timeout = options_value(&call->given, "timeout");
    int64_t ms = 0;
    if (repo)
        json_add_text(w, "repoUrl", repo);
    if (timeout && fields_duration(timeout, &ms, err))
        return err_wrap(err, "--timeout");
    if (timeout)
        json_add_int(w, "timeout_ms", ms);
    json_add_bool(w, "detach", true);
    if (fields_write(call, w, err))
        return -1;
    return client_inputs_write(call, w, err);
}

/* Reads the prompt: the arguments, or standard input for "-" or no argument. */
static int read_prompt(const struct call *call, struct buf *out, struct err *err)
{
    const char *only = call->args.count == 1 ? call->args.items[0] : "";
    if (call->args.count == 0 && isatty(STDIN_FILENO))
        return err_set(err, ERR_INVALID, "a prompt is missing");
    if (call->args.count == 0 || strcmp(only, "-") == 0)
        return fields_read_file("-", out, err);
    strlist_join(&call->args, " ", out);
    return buf_check(out, "the prompt", err);
}

/* Adds the command: one argument is a line of shell, several are quoted, so that they arrive
 * unchanged. */
static void add_command(const struct strlist *args, struct buf *out)
{
    for (size_t i = 0; i < args->count; i++) {
        if (i > 0)
            buf_addc(out, ' ');
        if (args->count == 1) {
            buf_adds(out, args->items[i]);
            continue;
        }
        buf_addc(out, '\'');
        for (const char *at = args->items[i]; *at; at++)
            if (*at == '\'')
                buf_adds(out, "'\\''");
            else
                buf_addc(out, *at);
        buf_addc(out, '\'');
    }
}

/* --- following ----------------------------------------------------------------------------- */

static void say_how_to_return(const struct follow *f)
{
    fprintf(stderr,
            "\nleft alone; `claude-runner logs -f %s` comes back to it, `claude-runner cancel %s` "
            "ends it\n",
            f->task_id, f->task_id);
}

/* Handles the first Ctrl-C. Returns 1 when the task must be left running. */
static int cancel_task(struct follow *f, struct err *err)
{
    AUTO(str) char *path = client_path("/tasks/", f->task_id, "/cancel", err);
    AUTO(buf) struct buf answer = BUF_INIT(CLIENT_ANSWER_MAX);
    fprintf(stderr, "\ncancelling; press Ctrl-C again to leave it alone\n");
    client_signals = client_signals > 1; /* the second may have come before this was reached */
    if (!path || client_fetch(f->to, "POST", path, "{}", &answer, err))
        return err->code == ERR_CONFLICT ? 0 : -1; /* The task has ended meanwhile. */
    return client_signals > 0;
}

/* Follows the task to its end. Returns 0, 1 when it was left running, or -1. */
static int follow_to_end(struct follow *f, bool cancels, struct err *err)
{
    for (bool cancelled = false;;) {
        int rc = follower_run(f, err);
        if (rc <= 0)
            return rc;
        if (!f->task_id[0])
            return err_set(err, ERR_TIMEOUT, "interrupted before the task had begun");
        if (cancelled || !cancels)
            return 1;
        cancelled = true;
        rc = cancel_task(f, err);
        if (rc)
            return rc;
    }
}

/* The exit status for the task's end: its own where it has one. */
static int status_of(const struct json *end)
{
    long long code = number_of(end, "exit_code");
    const char *reason = text_of(end, "reason");
    if (client_is_true(end, "success"))
        return 0;
    if (strcmp(reason, "timeout") == 0)
        return TIMED_OUT;
    if (strcmp(reason, "cancelled") == 0)
        return INTERRUPTED;
    return code > 0 && code < 256 ? (int)code : 1;
}

/* True when a command ended by itself, successfully or not: its own output is enough. */
static bool is_own_end(const struct json *end)
{
    const char *reason = text_of(end, "reason");
    return !*text_of(end, "error") || !*reason || strcmp(reason, "exit_status") == 0;
}

static void print_diff(const struct call *call, const struct follow *f, const struct narrate *n)
{
    struct err ignored;
    AUTO(str) char *path = client_path("/tasks/", f->task_id, "/diff", &ignored);
    AUTO(net_answer) struct net_answer answer = {0};
    AUTO(strlist) struct strlist accept = STRLIST_INIT;
    strlist_add(&accept, "Accept: text/x-diff");
    if (path && !client_exchange(&call->to, "GET", path, &accept, NULL, &answer, &ignored) &&
        answer.status == 200)
        narrate_diff(buf_str(&answer.body), answer.body.len, n->colour, n->out);
}

/* Prints the last message. */
static void conclude(const struct call *call, const struct follow *f, struct narrate *n, bool diff)
{
    const char *output = text_of(n->end, "output");
    if (call->json) {
        client_print_answer(n->end);
        return;
    }
    if (diff)
        print_diff(call, f, n);
    narrate_end(n);
    if (n->out != stdout && !n->raw)
        narrate_foreign(output, stdout);
}

/* Begins the story. --json prints only the result; without a terminal the story goes to stderr, and
 * stdout has only the answer. */
static void begin_story(const struct call *call, struct narrate *n, bool raw)
{
    bool tty = isatty(STDOUT_FILENO);
    narrate_init(n, tty && !call->json && !raw ? stdout : stderr,
                 call->colour && !call->json && !raw);
    n->live = true;
    n->raw = raw;
    n->silent = call->json || raw;
}

static int follow_task(struct call *call, struct follow *f, struct narrate *n, struct err *err)
{
    bool diff = options_value(&call->given, "repo") || options_value(&call->given, "repo-url");
    client_catch_signals();
    int rc = follow_to_end(f, true, err);
    if (rc < 0)
        return -1;
    if (rc == 1) {
        if (options_value(&call->given, "cloud"))
            fprintf(stderr, "\nleft alone; its execution ends by itself\n");
        else
            say_how_to_return(f);
        return INTERRUPTED;
    }
    if (!n->end)
        return err_set(err, ERR_UPSTREAM, "the task's events ended without its result");
    if (!n->raw || call->json)
        conclude(call, f, n, diff && !call->json);
    else if (!client_is_true(n->end, "success") && number_of(n->end, "exit_code") <= 0)
        narrate_end(n);
    else if (!is_own_end(n->end))
        fprintf(stderr, "%s\n", text_of(n->end, "error"));
    return status_of(n->end);
}

/* For --detach: begins the task and prints its id. */
static int submit(struct call *call, const char *path, const char *body, struct err *err)
{
    AUTO(json) struct json *answer = client_call(&call->to, "POST", path, body, err);
    if (!answer)
        return -1;
    if (call->json) {
        client_print_answer(answer);
    } else {
        puts(text_of(answer, "taskId"));
    }
    return 0;
}

static int begin(struct call *call, const char *path, const char *body, bool raw, struct err *err)
{
    AUTO(follow) struct follow f;
    struct narrate n;
    begin_story(call, &n, raw);
    follower_init(&f, &call->to, narrate_event, &n);
    f.path = path;
    f.body = body;
    int status = follow_task(call, &f, &n, err);
    narrate_done(&n);
    return status;
}

int client_run_prompt(struct call *call, struct err *err)
{
    struct json_writer w;
    AUTO(buf_wipe) struct buf prompt = BUF_INIT(BODY_MAX), body = BUF_INIT(BODY_MAX);
    bool detach = options_value(&call->given, "detach") != NULL;
    if (settings_find(&call->to, &call->given, err) || read_prompt(call, &prompt, err))
        return -1;
    json_write(&w, &body);
    json_open_object(&w, NULL);
    json_add_text(&w, "prompt", buf_str(&prompt));
    if (write_common(call, &w, err))
        return -1;
    json_close(&w);
    if (buf_check(&body, "the request", err))
        return -1;
    return detach ? submit(call, "/run-async", buf_str(&body), err)
                  : begin(call, "/run", buf_str(&body), false, err);
}

static int exec_command(struct call *call, bool cloud, struct err *err)
{
    struct json_writer w;
    AUTO(buf_wipe) struct buf command = BUF_INIT(BODY_MAX), body = BUF_INIT(BODY_MAX);
    AUTO(buf_wipe) struct buf input = BUF_INIT(BODY_MAX);
    const char *stdin_file = options_value(&call->given, "stdin");
    if (stdin_file && fields_read_file(stdin_file, &input, err))
        return -1;
    add_command(&call->args, &command);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    json_add_text(&w, "command", buf_str(&command));
    if (stdin_file)
        json_add_text(&w, "stdin", buf_str(&input));
    if (cloud && options_value(&call->given, "executor"))
        return err_set(err, ERR_INVALID, "--cloud runs it in the cloud: no --executor");
    if (cloud)
        json_add_text(&w, "executor", "cloud");
    if (write_common(call, &w, err))
        return -1;
    json_close(&w);
    if (buf_check(&body, "the request", err))
        return -1;
    return begin(call, "/exec", buf_str(&body), true, err);
}

int client_exec(struct call *call, struct err *err)
{
    struct cloud_home home = {.pid = 0};
    bool cloud = options_value(&call->given, "cloud") != NULL;
    int status = cloud ? cloud_home_open(&home, NULL, &call->to, err)
                       : settings_find(&call->to, &call->given, err);
    if (status == 0)
        status = exec_command(call, cloud, err);
    cloud_home_close(&home, status >= 0);
    return status;
}

/* --- logs ---------------------------------------------------------------------------------- */

static void print_json_event(const char *id, const char *name, const char *data, size_t len,
                             void *arg)
{
    (void)arg;
    printf("{\"id\":%s,\"event\":\"%s\",\"data\":%.*s}\n", *id ? id : "null",
           *name ? name : "message", (int)len, data);
    fflush(stdout);
}

/* Without -f: prints the present events of a task and ends. */
static int print_now(struct call *call, struct follow *f, struct err *err)
{
    AUTO(json) struct json *task = NULL;
    AUTO(str) char *path = client_path("/tasks/", f->task_id, "", err);
    if (!path || !(task = client_call(&call->to, "GET", path, NULL, err)))
        return -1;
    const char *state = text_of(task, "status");
    if (strcmp(state, "completed") == 0 || strcmp(state, "failed") == 0 ||
        strcmp(state, "cancelled") == 0)
        return follow_to_end(f, false, err);
    f->to_now = true;
    return follow_to_end(f, false, err);
}

int client_logs(struct call *call, struct err *err)
{
    AUTO(follow) struct follow f;
    struct narrate n;
    bool follows = options_value(&call->given, "follow") != NULL;
    if (settings_find(&call->to, &call->given, err))
        return -1;
    narrate_init(&n, stdout, call->colour);
    n.live = follows;
    follower_init(&f, &call->to, call->json ? print_json_event : narrate_event, &n);
    snprintf(f.task_id, sizeof(f.task_id), "%s", call->args.items[0]);
    client_catch_signals();
    int rc = follows ? follow_to_end(&f, false, err) : print_now(call, &f, err);
    if (rc == 0 && n.end)
        narrate_end(&n);
    narrate_done(&n);
    return rc == 1 ? INTERRUPTED : rc;
}
