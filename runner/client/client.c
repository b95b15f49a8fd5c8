#include "runner/client/client.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CALL_MS 60000

volatile sig_atomic_t client_signals;

/* --- a call -------------------------------------------------------------------------------- */

static int read_call(struct call *call, int argc, char **argv, struct err *err)
{
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    if (options_read(call->row, argc, argv, &call->given, &call->args, err))
        return -1;
    call->json = options_value(&call->given, "json") != NULL;
    call->colour =
        isatty(STDOUT_FILENO) && !(no_colour && *no_colour) && !(term && strcmp(term, "dumb") == 0);
    return 0;
}

/* Says why a command failed, with --json also to the program that reads its output. */
static int report(const struct call *call, const struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf line = BUF_INIT(4096);
    json_write(&w, &line);
    json_open_object(&w, NULL);
    json_add_bool(&w, "success", false);
    json_add_text(&w, "error", err->msg);
    json_add_text(&w, "code", err_wire(err->code));
    json_close(&w);
    if (call->json)
        puts(buf_str(&line));
    fflush(stdout);
    fprintf(stderr, "claude-runner %s: %s\n", call->row->name, err->msg);
    return err_exit(err->code);
}

int client_run(const struct command_row *row, int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct call call = {.row = row};
    int status = read_call(&call, argc - 1, argv + 1, &err);
    if (status == 0 && options_value(&call.given, "help"))
        options_help(row, stdout);
    else if (status == 0)
        status = row->run(&call, &err);
    if (status < 0)
        status = report(&call, &err);
    strlist_wipe(&call.given); /* A secret may have been given there. */
    strlist_done(&call.args);
    settings_done(&call.to);
    if (fflush(stdout) && status == 0)
        status = 1;
    return status;
}

static void on_signal(int signal)
{
    (void)signal;
    client_signals++;
}

void client_catch_signals(void)
{
    const struct sigaction action = {.sa_handler = on_signal}; /* Without SA_RESTART, so that read()
                                                                * ends. */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* --- exchanges ----------------------------------------------------------------------------- */

static enum err_code code_of(const char *wire, int status)
{
    static const struct {
        enum err_code code;
        const char *wire;
        int status;
    } codes[] = {
#define CODE_ROW(name, wire, title, http, exit) {name, wire, http},
        ERR_CODES(CODE_ROW)
#undef CODE_ROW
    };
    for (size_t i = 0; wire && i < COUNT_OF(codes); i++)
        if (strcmp(codes[i].wire, wire) == 0)
            return codes[i].code;
    for (size_t i = 0; i < COUNT_OF(codes); i++)
        if (codes[i].status == status)
            return codes[i].code;
    return ERR_UPSTREAM;
}

int client_explain(const struct settings *to, int status, const char *body, size_t len,
                   struct err *err)
{
    struct err ignored;
    AUTO(json) struct json *root = json_parse(body, len, &ignored);
    const char *detail = json_text(json_get(root, "detail"));
    enum err_code code = code_of(json_text(json_get(root, "code")), status);
    if (code == ERR_FORBIDDEN && (!detail || strcmp(detail, "forbidden") == 0))
        return err_set(err, code, "%s takes %s", to->url,
                       to->secret ? "another secret" : "a secret: set RUNNER_SECRET");
    if (!detail)
        return err_set(err, code, "%s answered %d", to->url, status);
    return err_set(err, code, "%s", detail);
}

int client_headers(const struct settings *to, const char *accept, struct strlist *headers,
                   struct err *err)
{
    strlist_addf(headers, "Accept: %s", accept);
    if (to->secret)
        strlist_addf(headers, "X-Runner-Secret: %s", to->secret);
    if (to->access_id)
        strlist_addf(headers, "CF-Access-Client-Id: %s", to->access_id);
    if (to->access_secret)
        strlist_addf(headers, "CF-Access-Client-Secret: %s", to->access_secret);
    return headers->failed ? err_sys(err, "headers") : 0;
}

/* Explains a failure; says what to do about an address to which plain http is not allowed. */
static int explain_failure(const struct settings *to, struct err *err)
{
    if (err->code == ERR_FORBIDDEN)
        return err_set(err, ERR_CONFIG,
                       "%s: the secret goes by plain http to this machine only; use https, or a "
                       "tunnel to a port of this machine",
                       to->url);
    return -1;
}

/* The value of an Accept line among the headers, else JSON's. */
static const char *wanted_type(const struct strlist *headers)
{
    for (size_t i = 0; headers && i < headers->count; i++)
        if (strncmp(headers->items[i], "Accept: ", 8) == 0)
            return headers->items[i] + 8;
    return "application/json";
}

int client_exchange(const struct settings *to, const char *method, const char *path,
                    const struct strlist *more, const char *body, struct net_answer *ret_answer,
                    struct err *err)
{
    AUTO(str) char *url = NULL;
    AUTO(strlist) struct strlist headers = STRLIST_INIT;
    if (asprintf(&url, "%s%s", to->url, path) < 0)
        return err_sys(err, "URL");
    if (client_headers(to, wanted_type(more), &headers, err))
        return -1;
    if (body)
        strlist_add(&headers, "Content-Type: application/json");
    for (size_t i = 0; more && i < more->count; i++)
        if (strncmp(more->items[i], "Accept: ", 8) != 0)
            strlist_add(&headers, more->items[i]);
    const struct net_request request = {.method = method,
                                        .url = url,
                                        .headers = &headers,
                                        .body = body,
                                        .body_len = body ? strlen(body) : 0,
                                        .reach = NET_TRUSTED,
                                        .total_ms = to->answer_ms ? to->answer_ms : CALL_MS,
                                        .answer_max = CLIENT_ANSWER_MAX};
    return net_call(&request, ret_answer, err) ? explain_failure(to, err) : 0;
}

int client_fetch(const struct settings *to, const char *method, const char *path, const char *body,
                 struct buf *out, struct err *err)
{
    AUTO(net_answer) struct net_answer answer = {0};
    if (client_exchange(to, method, path, NULL, body, &answer, err))
        return -1;
    if (answer.status < 200 || answer.status > 299)
        return client_explain(to, answer.status, buf_str(&answer.body), answer.body.len, err);
    buf_add(out, buf_str(&answer.body), answer.body.len);
    return buf_check(out, "the answer", err);
}

struct json *client_call(const struct settings *to, const char *method, const char *path,
                         const char *body, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(CLIENT_ANSWER_MAX);
    if (client_fetch(to, method, path, body, &text, err))
        return NULL;
    struct json *root = json_parse(buf_str(&text), text.len, err);
    if (!root) {
        err->code = ERR_UPSTREAM;
        err_wrap(err, "%s", to->url);
    }
    return root;
}

char *client_path(const char *before, const char *part, const char *after, struct err *err)
{
    REQUIRE(before && part);
    AUTO(buf) struct buf path = BUF_INIT(16384);
    buf_adds(&path, before);
    str_add_url(&path, part, "");
    buf_adds(&path, after);
    return buf_check(&path, "a path", err) ? NULL : buf_steal(&path);
}

int client_print_json(const struct settings *to, const char *method, const char *path,
                      const char *body, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(CLIENT_ANSWER_MAX);
    if (client_fetch(to, method, path, body, &text, err))
        return -1;
    fwrite(buf_str(&text), 1, text.len, stdout);
    return putchar('\n') == EOF ? err_sys(err, "output") : 0;
}

/* --- members ------------------------------------------------------------------------------- */

const char *text_of(const struct json *object, const char *name)
{
    const char *text = json_text(json_get(object, name));
    return text ? text : "";
}

void client_print_answer(const struct json *answer)
{
    AUTO(buf) struct buf json = BUF_INIT(CLIENT_ANSWER_MAX * 2);
    json_print(answer, &json);
    puts(buf_str(&json));
}

long long number_of(const struct json *object, const char *name)
{
    int64_t value = 0;
    json_int(json_get(object, name), &value);
    return (long long)value;
}

double real_of(const struct json *object, const char *name)
{
    double value = 0;
    json_number(json_get(object, name), &value);
    return value;
}

bool client_is_true(const struct json *object, const char *name)
{
    bool value = false;
    json_bool(json_get(object, name), &value);
    return value;
}
