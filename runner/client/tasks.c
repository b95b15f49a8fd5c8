/* tasks, show, cancel, result, diff, repos: a runner's tasks and repositories, for a person. */
#include "base/auto.h"
#include "base/clock.h"
#include "base/str.h"
#include "runner/client/commands.h"
#include "runner/client/narrate.h"
#include "runner/client/screen.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 4096

static enum narrate_colour hue_of(const char *state)
{
    static const struct {
        const char *state;
        enum narrate_colour hue;
    } hues[] = {{"completed", GREEN}, {"failed", RED}, {"running", CYAN}, {"cancelled", YELLOW}};
    for (size_t i = 0; i < COUNT_OF(hues); i++)
        if (strcmp(hues[i].state, state) == 0)
            return hues[i].hue;
    return DIM;
}

/* Adds "3 min ago" for an RFC 3339 time; nothing for none. */
static void add_age(struct buf *out, const char *time)
{
    int64_t then;
    if (clock_parse(time, &then))
        return;
    long long s = (clock_real_ms() - then) / 1000;
    s = s > 0 ? s : 0;
    if (s < 120)
        buf_addf(out, "%lld s ago", s);
    else if (s < 7200)
        buf_addf(out, "%lld min ago", s / 60);
    else if (s < 172800)
        buf_addf(out, "%lld h ago", s / 3600);
    else
        buf_addf(out, "%lld d ago", s / 86400);
}

/* --- lists --------------------------------------------------------------------------------- */

/* Prints id, state, kind, age, and why it ended or what was asked, cut to the screen. */
static void print_task_line(const struct call *call, const struct json *task, int columns)
{
    enum { BEFORE = 26 + 2 + 13 + 2 + 7 + 2 + 11 + 2 };
    AUTO(buf) struct buf age = BUF_INIT(LINE_BYTES), kind = BUF_INIT(LINE_BYTES);
    AUTO(buf) struct buf about = BUF_INIT(LINE_BYTES), cut = BUF_INIT(LINE_BYTES);
    const char *state = text_of(task, "status"), *reason = text_of(task, "reason");
    add_age(&age, text_of(task, "createdAt"));
    screen_add_line(&kind, text_of(task, "kind"), 7);
    buf_addf(&about, "%s%s", reason, *reason ? ": " : "");
    screen_add_line(&about, text_of(task, "title"), 200);
    screen_add_line(&cut, buf_str(&about), columns > BEFORE + 8 ? (size_t)(columns - BEFORE) : 8);
    printf("%-26s  %s%-13s%s  %-7s  %-11s  %s\n", text_of(task, "taskId"),
           narrate_colour(call->colour, hue_of(state)), state, narrate_colour(call->colour, PLAIN),
           buf_str(&kind), buf_str(&age), buf_str(&cut));
}

static int list_path(const struct call *call, struct buf *path, struct err *err)
{
    static const char *const filters[] = {"status", "kind", "limit", "cursor", "group"};
    buf_adds(path, "/tasks");
    for (size_t i = 0, n = 0; i < COUNT_OF(filters); i++) {
        const char *value = options_value(&call->given, filters[i]);
        if (!value)
            continue;
        buf_addf(path, "%c%s=", n++ ? '&' : '?', filters[i]);
        str_add_url(path, value, "");
    }
    return buf_check(path, "the filter", err);
}

int client_tasks(struct call *call, struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(LINE_BYTES);
    AUTO(json) struct json *answer = NULL;
    int columns = 200, rows;
    if (settings_find(&call->to, &call->given, err) || list_path(call, &path, err))
        return -1;
    if (call->json)
        return client_print_json(&call->to, "GET", buf_str(&path), NULL, err);
    if (!(answer = client_call(&call->to, "GET", buf_str(&path), NULL, err)))
        return -1;
    const struct json *tasks = json_get(answer, "tasks");
    if (isatty(STDOUT_FILENO))
        screen_size(STDOUT_FILENO, &columns, &rows);
    for (const struct json *at = json_first(tasks); at; at = json_next(at))
        print_task_line(call, at, columns);
    if (*text_of(answer, "nextCursor"))
        fprintf(stderr, "there are more: --cursor %s\n", text_of(answer, "nextCursor"));
    return 0;
}

/* --- one ----------------------------------------------------------------------------------- */

/* Prints "name: value" for every member, objects by their members; long texts are cut. */
static void print_members(const struct json *object, const char *path, int columns)
{
    for (const struct json *at = json_first(object); at; at = json_next(at)) {
        AUTO(buf) struct buf name = BUF_INIT(LINE_BYTES), value = BUF_INIT(CLIENT_ANSWER_MAX);
        AUTO(buf) struct buf line = BUF_INIT(LINE_BYTES * 4);
        buf_addf(&name, "%s%s%s", path, *path ? "." : "", json_name(at));
        if (json_type(at) == JSON_NULL)
            continue;
        if (json_type(at) == JSON_OBJECT && json_count(at) > 0) {
            print_members(at, buf_str(&name), columns);
            continue;
        }
        if (json_text(at))
            buf_adds(&value, json_text(at));
        else
            json_print(at, &value);
        screen_add_line(&line, buf_str(&value), columns > 40 ? (size_t)columns - 24 : 60);
        printf("%-22s  %s\n", buf_str(&name), buf_str(&line));
    }
}

int client_show(struct call *call, struct err *err)
{
    AUTO(str) char *path = client_path("/tasks/", call->args.items[0], "", err);
    AUTO(json) struct json *answer = NULL;
    int columns = 1024, rows;
    if (!path || settings_find(&call->to, &call->given, err))
        return -1;
    if (call->json)
        return client_print_json(&call->to, "GET", path, NULL, err);
    if (!(answer = client_call(&call->to, "GET", path, NULL, err)))
        return -1;
    if (isatty(STDOUT_FILENO))
        screen_size(STDOUT_FILENO, &columns, &rows);
    print_members(answer, "", columns);
    return 0;
}

int client_cancel(struct call *call, struct err *err)
{
    int worst = 0;
    if (settings_find(&call->to, &call->given, err))
        return -1;
    for (size_t i = 0; i < call->args.count; i++) {
        AUTO(str) char *path = client_path("/tasks/", call->args.items[i], "/cancel", err);
        AUTO(json) struct json *answer = NULL;
        if (path && call->json && client_print_json(&call->to, "POST", path, "{}", err) == 0)
            continue;
        if (path && !call->json && (answer = client_call(&call->to, "POST", path, "{}", err))) {
            printf("%s  %s\n", text_of(answer, "taskId"), text_of(answer, "status"));
            continue;
        }
        if (call->args.count == 1)
            return -1;
        fprintf(stderr, "claude-runner cancel: %s: %s\n", call->args.items[i], err->msg);
        worst = err_exit(err->code);
    }
    return worst;
}

/* Prints only the answer's text, so that it can be piped; exit status 1 when the task failed, 75
 * (try later) when it has not ended. */
int client_result(struct call *call, struct err *err)
{
    AUTO(str) char *path = client_path("/tasks/", call->args.items[0], "/result", err);
    AUTO(net_answer) struct net_answer answer = {0};
    if (!path || settings_find(&call->to, &call->given, err) ||
        client_exchange(&call->to, "GET", path, NULL, NULL, &answer, err))
        return -1;
    if (answer.status != 200 && answer.status != 202)
        return client_explain(&call->to, answer.status, buf_str(&answer.body), answer.body.len,
                              err);
    AUTO(json) struct json *root = json_parse(buf_str(&answer.body), answer.body.len, err);
    if (!root)
        return -1;
    if (call->json)
        puts(buf_str(&answer.body));
    if (answer.status == 202) {
        fprintf(stderr, "claude-runner result: the task is %s\n", text_of(root, "status"));
        return 75;
    }
    const char *output = text_of(root, *text_of(root, "output") ? "output" : "stdout");
    if (!call->json)
        narrate_foreign(output, stdout);
    if (!client_is_true(root, "success") && !call->json) {
        fputs("claude-runner result: ", stderr);
        narrate_foreign(text_of(root, "error"), stderr);
    }
    return client_is_true(root, "success") ? 0 : 1;
}

int client_diff(struct call *call, struct err *err)
{
    AUTO(str) char *path = client_path("/tasks/", call->args.items[0], "/diff", err);
    AUTO(strlist) struct strlist accept = STRLIST_INIT;
    AUTO(net_answer) struct net_answer answer = {0};
    strlist_add(&accept, call->json ? "Accept: application/json" : "Accept: text/x-diff");
    if (!path || settings_find(&call->to, &call->given, err) ||
        client_exchange(&call->to, "GET", path, &accept, NULL, &answer, err))
        return -1;
    if (answer.status != 200)
        return client_explain(&call->to, answer.status, buf_str(&answer.body), answer.body.len,
                              err);
    if (!call->json && isatty(STDOUT_FILENO))
        narrate_diff(buf_str(&answer.body), answer.body.len, call->colour, stdout);
    else
        fwrite(buf_str(&answer.body), 1, answer.body.len, stdout);
    return 0;
}

/* --- repositories -------------------------------------------------------------------------- */

int client_repos(struct call *call, struct err *err)
{
    AUTO(json) struct json *answer = NULL;
    const char *clear = options_value(&call->given, "clear");
    bool all = options_value(&call->given, "clear-all") != NULL;
    if (settings_find(&call->to, &call->given, err))
        return -1;
    if (clear || all) {
        AUTO(str) char *path = clear ? client_path("/repos/", clear, "", err) : strdup("/repos");
        return path ? client_print_json(&call->to, "DELETE", path, NULL, err) : -1;
    }
    if (call->json)
        return client_print_json(&call->to, "GET", "/repos", NULL, err);
    if (!(answer = client_call(&call->to, "GET", "/repos", NULL, err)))
        return -1;
    const struct json *mirrors = json_get(answer, "mirrors");
    for (const struct json *at = json_first(mirrors); at; at = json_next(at)) {
        AUTO(buf) struct buf age = BUF_INIT(LINE_BYTES), url = BUF_INIT(LINE_BYTES);
        const char *id = text_of(at, "id"), *fetched = text_of(at, "lastFetchedAt");
        screen_add_line(&url, json_text(at) ? json_text(at) : text_of(at, "url"), 200);
        add_age(&age, fetched);
        printf("%-16s  %8.1f MB  %-12s  %s\n", id, real_of(at, "sizeBytes") / 1e6, buf_str(&age),
               buf_str(&url));
    }
    return 0;
}
