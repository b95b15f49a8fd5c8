/* session: commands for sessions and their shells. */
#include "base/auto.h"
#include "base/str.h"
#include "runner/client/commands.h"
#include "runner/client/fields.h"
#include "runner/client/inputs.h"
#include "runner/client/screen.h"
#include "runner/client/session_attach.h"
#include "runner/client/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BODY_MAX (16u << 20)
#define LINE_BYTES 65536
#define EXEC_SECONDS 120
#define MORE_MS 60000 /* added to the command's own time limit */

/* --- new, ls, rm --------------------------------------------------------------------------- */

static int write_env(const struct call *call, struct json_writer *w, struct err *err)
{
    const char *value;
    if (!options_value(&call->given, "env"))
        return 0;
    json_open_object(w, "env");
    for (size_t i = 0; (value = options_nth(&call->given, "env", i)); i++) {
        const char *equals = strchr(value, '=');
        AUTO(str) char *name = strndup(value, equals ? (size_t)(equals - value) : strlen(value));
        const char *text = equals ? equals + 1 : name ? getenv(name) : NULL;
        if (!text)
            return err_set(err, ERR_INVALID, "--env: '%.60s' is no NAME=VALUE, and not set here",
                           value);
        json_add_text(w, name, text);
    }
    json_close(w);
    return 0;
}

static int write_new(struct call *call, struct json_writer *w, struct err *err)
{
    static const struct {
        const char *option, *field;
    } texts[] = {{"id", "id"},
                 {"repo", "repoUrl"},
                 {"from", "from"},
                 {"executor", "executor"},
                 {"egress", "egress"}};
    const char *ttl = options_value(&call->given, "ttl");
    int64_t ms = 0;
    json_open_object(w, NULL);
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (options_value(&call->given, texts[i].option))
            json_add_text(w, texts[i].field, options_value(&call->given, texts[i].option));
    if (options_value(&call->given, "cloud")) {
        if (options_value(&call->given, "executor"))
            return err_set(err, ERR_INVALID, "--cloud says where it runs: no --executor");
        json_add_text(w, "executor", "cloud");
    }
    if (ttl && fields_duration(ttl, &ms, err))
        return err_wrap(err, "--ttl");
    if (ttl)
        json_add_int(w, "ttlMinutes", ms < 60000 ? 1 : ms / 60000);
    if (write_env(call, w, err) || client_inputs_write(call, w, err))
        return -1;
    json_close(w);
    return 0;
}

/* The id in a session's object: `session_id`, or `id`. */
static const char *id_of(const struct json *session)
{
    static const char *const names[] = {"session_id", "sessionId", "id"};
    const char *id = "";
    for (size_t i = 0; !*id && i < COUNT_OF(names); i++)
        id = text_of(session, names[i]);
    return id;
}

int client_session_new(struct call *call, struct err *err)
{
    struct json_writer w;
    AUTO(buf_wipe) struct buf body = BUF_INIT(BODY_MAX);
    json_write(&w, &body);
    if (settings_find(&call->to, &call->given, err) || write_new(call, &w, err) ||
        buf_check(&body, "the request", err))
        return -1;
    if (call->json)
        return client_print_json(&call->to, "POST", "/sessions", buf_str(&body), err);
    AUTO(json)
    struct json *answer = client_call(&call->to, "POST", "/sessions", buf_str(&body), err);
    if (answer)
        puts(id_of(answer));
    return answer ? 0 : -1;
}

static void print_files(const struct json *files)
{
    for (const struct json *at = json_first(files); at; at = json_next(at)) {
        AUTO(buf) struct buf line = BUF_INIT(LINE_BYTES);
        const char *name = text_of(at, "path");
        screen_add_line(&line, *name ? name : text_of(at, "name"), 4096);
        printf("%-10s %12lld  %s\n", text_of(at, "type"), number_of(at, "size"), buf_str(&line));
    }
}

static int list_files(struct call *call, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(LINE_BYTES);
    buf_adds(&path, "/sessions/");
    str_add_url(&path, call->args.items[0], "");
    buf_adds(&path, "/files?path=");
    str_add_url(&path, call->args.count > 1 ? call->args.items[1] : ".", "/");
    if (options_value(&call->given, "recursive"))
        buf_adds(&path, "&recursive=true");
    if (call->json)
        return client_print_json(&call->to, "GET", buf_str(&path), NULL, err);
    AUTO(json) struct json *answer = client_call(&call->to, "GET", buf_str(&path), NULL, err);
    if (answer)
        print_files(json_get(answer, json_get(answer, "files") ? "files" : "entries"));
    return answer ? 0 : -1;
}

int client_session_ls(struct call *call, struct err *err)
{
    AUTO(json) struct json *answer = NULL;
    if (settings_find(&call->to, &call->given, err))
        return -1;
    if (call->args.count > 0)
        return list_files(call, err);
    if (call->json)
        return client_print_json(&call->to, "GET", "/sessions", NULL, err);
    if (!(answer = client_call(&call->to, "GET", "/sessions", NULL, err)))
        return -1;
    const struct json *sessions = json_get(answer, "sessions");
    for (const struct json *at = json_first(sessions); at; at = json_next(at))
        printf("%-28s  %-10s  %s\n", id_of(at), text_of(at, "state"), text_of(at, "cwd"));
    return 0;
}

int client_session_rm(struct call *call, struct err *err)
{
    if (settings_find(&call->to, &call->given, err))
        return -1;
    for (size_t i = 0; i < call->args.count; i++) {
        AUTO(str) char *path = client_path("/sessions/", call->args.items[i], "", err);
        AUTO(json)
        struct json *answer = path ? client_call(&call->to, "DELETE", path, NULL, err) : NULL;
        if (!answer)
            return err_wrap(err, "%.64s", call->args.items[i]);
        if (call->json)
            client_print_answer(answer);
    }
    return 0;
}

/* --- exec ---------------------------------------------------------------------------------- */

struct shell_call {
    const char *session, *shell, *cwd, *command, *input;
    int64_t seconds;
    bool background;
};

static struct json *exec_in(struct settings *to, const struct shell_call *shell, struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf body = BUF_INIT(BODY_MAX);
    AUTO(str) char *path = client_path("/sessions/", shell->session, "/exec", err);
    json_write(&w, &body);
    json_open_object(&w, NULL);
    json_add_text(&w, "command", shell->command);
    json_add_text(&w, "shell", shell->shell ? shell->shell : "default");
    if (shell->cwd)
        json_add_text(&w, "cwd", shell->cwd);
    if (shell->input)
        json_add_text(&w, "stdin", shell->input);
    json_add_int(&w, "timeout", shell->seconds);
    if (shell->background)
        json_add_bool(&w, "background", true);
    json_close(&w);
    to->answer_ms = (int)(shell->seconds * 1000) + MORE_MS;
    if (!path || buf_check(&body, "the command", err))
        return NULL;
    return client_call(to, "POST", path, buf_str(&body), err);
}

/* Prints a command's output; returns its exit status. */
static int print_exec(const struct json *answer)
{
    fputs(text_of(answer, "stdout"), stdout);
    fflush(stdout);
    fputs(text_of(answer, "stderr"), stderr);
    long long code = number_of(answer, "exit_code");
    if (number_of(answer, "background_pid") > 0)
        fprintf(stderr, "runs as process %lld\n", number_of(answer, "background_pid"));
    if (client_is_true(answer, "timed_out")) {
        fprintf(stderr, "its time was up\n");
        return 124;
    }
    return code >= 0 && code < 256 ? (int)code : 1;
}

int client_session_exec(struct call *call, struct err *err)
{
    AUTO(buf) struct buf command = BUF_INIT(BODY_MAX), input = BUF_INIT(BODY_MAX);
    const char *timeout = options_value(&call->given, "timeout");
    const char *stdin_file = options_value(&call->given, "stdin");
    int64_t ms = EXEC_SECONDS * 1000;
    for (size_t i = 1; i < call->args.count; i++)
        buf_addf(&command, "%s%s", i > 1 ? " " : "", call->args.items[i]);
    if (settings_find(&call->to, &call->given, err) ||
        (timeout && fields_duration(timeout, &ms, err)) ||
        (stdin_file && fields_read_file(stdin_file, &input, err)))
        return -1;
    const struct shell_call shell = {.session = call->args.items[0],
                                     .shell = options_value(&call->given, "shell"),
                                     .cwd = options_value(&call->given, "cwd"),
                                     .command = buf_str(&command),
                                     .input = stdin_file ? buf_str(&input) : NULL,
                                     .seconds = (ms + 999) / 1000,
                                     .background =
                                         options_value(&call->given, "background") != NULL};
    AUTO(json) struct json *answer = exec_in(&call->to, &shell, err);
    if (!answer)
        return -1;
    if (!call->json)
        return print_exec(answer);
    client_print_answer(answer);
    return 0;
}

/* Runs lines of standard input in a shell of the session, until "exit" or the end of input. */
static int run_lines(struct call *call, struct err *err)
{
    char line[LINE_BYTES];
    int status = 0;
    while (terminal_read_line(line, sizeof(line), false, NULL) == 0 && strcmp(line, "exit") != 0) {
        if (str_is_blank(line, strlen(line)))
            continue;
        const struct shell_call shell = {.session = call->args.items[0],
                                         .shell = options_value(&call->given, "shell"),
                                         .command = line,
                                         .seconds = EXEC_SECONDS};
        AUTO(json) struct json *answer = exec_in(&call->to, &shell, err);
        if (!answer)
            return -1;
        status = print_exec(answer);
    }
    return status;
}

int client_session_attach(struct call *call, struct err *err)
{
    if (settings_find(&call->to, &call->given, err))
        return -1;
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
        return attach_terminal(&call->to, call->args.items[0], options_value(&call->given, "shell"),
                               err);
    return run_lines(call, err);
}
