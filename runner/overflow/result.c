#include "runner/overflow/result.h"

#include "base/path.h"
#include "base/str.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1
#define OUTPUT_BYTES_MAX (64u << 20)
#define MEMBERS_BYTES_MAX (4u << 20)

void folder_result_init(struct folder_result *result)
{
    *result = (struct folder_result){.outcome = {.state = TASK_FAILED, .exit_code = 1}};
    buf_init(&result->outcome.output, OUTPUT_BYTES_MAX);
    buf_init(&result->outcome.errors, OUTPUT_BYTES_MAX);
    buf_init(&result->outcome.members, MEMBERS_BYTES_MAX);
}

void folder_result_done(struct folder_result *result)
{
    for (size_t i = 0; i < result->output_count; i++)
        free(result->outputs[i].path);
    free(result->outputs);
    result->outputs = NULL;
    result->output_count = 0;
    buf_done(&result->outcome.output);
    buf_done(&result->outcome.errors);
    buf_done(&result->outcome.members);
}

/* Doubles the room at each power of two. */
int folder_result_add_output(struct folder_result *result, const char *path, int64_t size,
                             struct err *err)
{
    size_t count = result->output_count;
    if (count >= RESULT_OUTPUTS_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d outputs", RESULT_OUTPUTS_MAX);
    if ((count & (count - 1)) == 0) {
        size_t room = count ? 2 * count : 1;
        struct folder_output *more = realloc(result->outputs, room * sizeof(*more));
        if (!more)
            return err_sys(err, "outputs");
        result->outputs = more;
    }
    char *copy = strdup(path);
    if (!copy)
        return err_sys(err, "outputs");
    result->outputs[result->output_count++] = (struct folder_output){copy, size};
    return 0;
}

size_t folder_result_keep_outputs(struct folder_result *result, const bool *kept)
{
    size_t count = 0, all = result->output_count;
    for (size_t i = 0; i < all; i++)
        if (kept && kept[i])
            result->outputs[count++] = result->outputs[i];
        else
            free(result->outputs[i].path);
    result->output_count = count;
    return all - count;
}

bool folder_result_is_reserved(const char *member)
{
    static const char *const names[] = {
        "success",  "taskId",   "status",    "output",         "reason",      "error",
        "executor", "metadata", "exit_code", "truncated",      "duration_ms", "stdout",
        "stderr",   "group",    "run",       "has_transcript", "has_outputs"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i], member) == 0)
            return true;
    return false;
}

/* --- printing --------------------------------------------------------------------------------- */

static void print_outputs(const struct folder_result *result, struct json_writer *w)
{
    json_open_array(w, "outputs");
    for (size_t i = 0; i < result->output_count; i++) {
        json_open_object(w, NULL);
        json_add_text(w, "path", result->outputs[i].path);
        json_add_int(w, "sizeBytes", result->outputs[i].size);
        json_close(w);
    }
    json_close(w);
}

/* Prints the result. The members are printed as text: as JSON they would be one level deeper than
 * JSON_DEPTH_MAX allows. */
void folder_result_print(const struct folder_result *result, struct buf *out)
{
    const struct task_outcome *outcome = &result->outcome;
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_int(&w, "version", VERSION);
    json_add_text(&w, "state", task_state_name(outcome->state));
    json_add_text(&w, "reason", outcome->reason);
    json_add_text(&w, "error", outcome->error);
    json_add_int(&w, "exitCode", outcome->exit_code);
    json_add_bool(&w, "truncated", outcome->truncated);
    json_add_int(&w, "attempt", result->attempt);
    json_add_int(&w, "startedMs", result->started_ms);
    json_add_int(&w, "endedMs", result->ended_ms);
    json_add_int(&w, "eventsBytes", result->events_bytes);
    if (result->idle_ms > 0) {
        json_add_int(&w, "idleMs", result->idle_ms);
        json_add_int(&w, "leftMs", result->left_ms);
    }
    if (result->conversation)
        json_add_bool(&w, "conversation", true);
    print_outputs(result, &w);
    json_add_textn(&w, "members", buf_str(&outcome->members), outcome->members.len);
    json_add_textn(&w, "output", buf_str(&outcome->output), outcome->output.len);
    if (outcome->errors.len > 0)
        json_add_textn(&w, "errors", outcome->errors.data, outcome->errors.len);
    json_close(&w);
}

/* --- parsing ---------------------------------------------------------------------------------- */

static int wrong(const char *member, struct err *err)
{
    return err_set(err, ERR_UPSTREAM, FOLDER_RESULT ": '%s' is missing or wrong", member);
}

static int take_int(const struct json *root, const char *name, int64_t min, int64_t max,
                    int64_t *ret_value, struct err *err)
{
    int64_t value;
    if (json_int(json_get(root, name), &value) || value < min || value > max)
        return wrong(name, err);
    *ret_value = value;
    return 0;
}

static int take_text(const struct json *root, const char *name, char *to, size_t size,
                     struct err *err)
{
    const char *text = json_text(json_get(root, name));
    if (!text)
        return wrong(name, err);
    snprintf(to, size, "%s", text);
    return 0;
}

static int take_long_text(const struct json *root, const char *name, struct buf *to,
                          struct err *err)
{
    const char *text = json_text(json_get(root, name));
    return text && buf_adds(to, text) == 0 ? 0 : wrong(name, err);
}

static int take_state(const struct json *root, struct task_outcome *outcome, struct err *err)
{
    const char *name = json_text(json_get(root, "state"));
    if (!name || task_state_parse(name, &outcome->state) || task_state_is_active(outcome->state))
        return wrong("state", err);
    return 0;
}

/* Checks members for an answer: members of an object, on one line, without names that the answer
 * has already. */
static int check_members(const struct buf *members, struct err *err)
{
    struct err ignored;
    AUTO(buf) struct buf text = BUF_INIT(MEMBERS_BYTES_MAX + 16);
    if (members->len == 0)
        return 0;
    if (members->data[0] != ',' || strpbrk(members->data, "\r\n"))
        return wrong("members", err);
    buf_addc(&text, '{');
    buf_add(&text, members->data + 1, members->len - 1);
    buf_addc(&text, '}');
    AUTO(json)
    struct json *object = buf_ok(&text) ? json_parse(text.data, text.len, &ignored) : NULL;
    if (json_count(object) == 0)
        return wrong("members", err);
    for (const struct json *at = json_first(object); at; at = json_next(at))
        if (folder_result_is_reserved(json_name(at)))
            return wrong("members", err);
    return 0;
}

static int take_outputs(const struct json *root, struct folder_result *result, struct err *err)
{
    const struct json *list = json_get(root, "outputs");
    if (!list || json_type(list) != JSON_ARRAY)
        return wrong("outputs", err);
    for (const struct json *at = json_first(list); at; at = json_next(at)) {
        int64_t size = 0;
        const char *path = json_text(json_get(at, "path"));
        if (!path || !path_is_inside(path) || json_int(json_get(at, "sizeBytes"), &size) ||
            size < 0 || folder_result_add_output(result, path, size, err))
            return wrong("outputs", err);
    }
    return 0;
}

static int take_all(const struct json *root, struct folder_result *result, struct err *err)
{
    int64_t version, exit_code = 1, attempt = 0;
    struct task_outcome *outcome = &result->outcome;
    if (take_int(root, "version", VERSION, VERSION, &version, err) ||
        take_state(root, outcome, err) ||
        take_text(root, "reason", outcome->reason, sizeof(outcome->reason), err) ||
        take_text(root, "error", outcome->error, sizeof(outcome->error), err) ||
        take_int(root, "exitCode", INT_MIN, INT_MAX, &exit_code, err) ||
        take_int(root, "attempt", 0, INT_MAX, &attempt, err) ||
        take_int(root, "startedMs", 0, JSON_INT_MAX, &result->started_ms, err) ||
        take_int(root, "endedMs", 0, JSON_INT_MAX, &result->ended_ms, err) ||
        take_int(root, "eventsBytes", 0, JSON_INT_MAX, &result->events_bytes, err))
        return -1;
    outcome->exit_code = (int)exit_code;
    result->attempt = (int)attempt;
    if (json_bool(json_get(root, "truncated"), &outcome->truncated))
        return wrong("truncated", err);
    if (json_get(root, "idleMs") &&
        (take_int(root, "idleMs", 0, JSON_INT_MAX, &result->idle_ms, err) ||
         take_int(root, "leftMs", 0, JSON_INT_MAX, &result->left_ms, err)))
        return -1;
    if (json_get(root, "conversation") &&
        json_bool(json_get(root, "conversation"), &result->conversation))
        return wrong("conversation", err);
    return take_outputs(root, result, err) ||
                   take_long_text(root, "members", &outcome->members, err) ||
                   check_members(&outcome->members, err) ||
                   take_long_text(root, "output", &outcome->output, err) ||
                   (json_get(root, "errors") &&
                    take_long_text(root, "errors", &outcome->errors, err))
               ? -1
               : 0;
}

int folder_result_parse(const char *text, size_t len, struct folder_result *ret_result,
                        struct err *err)
{
    struct err why;
    struct folder_result result;
    AUTO(json) struct json *root = json_parse(text, len, &why);
    if (!root)
        return err_set(err, ERR_UPSTREAM, FOLDER_RESULT ": %s", why.msg);
    folder_result_init(&result);
    if (take_all(root, &result, err)) {
        folder_result_done(&result);
        return -1;
    }
    *ret_result = result;
    return 0;
}
