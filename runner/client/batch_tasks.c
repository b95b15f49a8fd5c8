/*
 * The tasks of a batch: turns a line into the body of a request.
 *
 * Members that requests know are passed on; `id`, `n`, `inputs` and `timeout` are the batch's own;
 * other members are for {{templates}}. The names that users of the batch module write are accepted
 * as well.
 */
#include "base/auto.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "runner/client/batch.h"
#include "runner/client/batch_read.h"
#include "runner/client/fields.h"
#include "runner/request/request.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if !defined(__clang__) /* gcc's analyzer takes what is stored in a list for lost */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define ID_MAX 200
#define RUNS_MAX 10000

/* --- names --------------------------------------------------------------------------------- */

enum member {
    MEMBER_ID,
    MEMBER_N,
    MEMBER_INPUTS,
    MEMBER_TIMEOUT,
    MEMBER_CPU,
    MEMBER_MEMORY,
    MEMBER_FIELD,
    MEMBER_COMMANDS,
    MEMBER_OTHER
};

/* Names of the batch's own members; users of the batch module write those of the second half. */
static const struct {
    const char *name;
    enum member member;
    const char *field;
} names[] = {
    {"id", MEMBER_ID, NULL},
    {"n", MEMBER_N, NULL},
    {"inputs", MEMBER_INPUTS, NULL},
    {"timeout", MEMBER_TIMEOUT, NULL},
    {"cpu", MEMBER_CPU, NULL},
    {"memory", MEMBER_MEMORY, NULL},
    {"task", MEMBER_FIELD, "prompt"},
    {"system_prompt", MEMBER_FIELD, "systemPrompt"},
    {"append_system_prompt", MEMBER_FIELD, "appendSystemPrompt"},
    {"disallowed_tools", MEMBER_FIELD, "disallowedTools"},
    {"pre", MEMBER_COMMANDS, "preExecutionCommands"},
    {"preCommands", MEMBER_COMMANDS, "preExecutionCommands"},
    {"pre_claude_command", MEMBER_COMMANDS, "preExecutionCommands"},
    {"post", MEMBER_COMMANDS, "postCommands"},
    {"post_claude_command", MEMBER_COMMANDS, "postCommands"},
};

static bool is_alias(const char *aliases, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = aliases; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (strncmp(at, name, len) == 0 && (at[len] == '\0' || at[len] == '|'))
            return true;
    }
    return false;
}

/* The purpose of a member; *ret_field is its name in a request. */
static enum member what_is(const char *name, const char **ret_field)
{
    struct request_field field;
    *ret_field = name;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i].name, name) == 0) {
            *ret_field = names[i].field ? names[i].field : name;
            return names[i].member;
        }
    for (size_t i = 0; request_field_at(i, &field) == 0; i++)
        if (strcmp(field.name, name) == 0 || is_alias(field.aliases, name))
            return MEMBER_FIELD;
    return MEMBER_OTHER;
}

/* --- templates ----------------------------------------------------------------------------- */

struct filling {
    const struct json *task;
    bool strict; /* an unknown name is an error */
    struct err *err;
    bool failed;
};

/* Adds the text of a member for a template. */
static int add_member(struct buf *out, const struct json *value)
{
    if (json_text(value))
        return buf_adds(out, json_text(value));
    json_print(value, out);
    return out->failed ? -1 : 0;
}

/* Appends text with each {{name}} replaced. */
static void fill(struct filling *f, const char *text, struct buf *out)
{
    const char *open;
    while ((open = strstr(text, "{{"))) {
        const char *close = strstr(open, "}}");
        size_t from = 2 + strspn(open + 2, " \t");
        size_t len = strcspn(open + from, " \t}");
        const char *rest = open + from + len;
        bool plain = close && len > 0 && rest + strspn(rest, " \t") == close;
        AUTO(str) char *name = plain ? strndup(open + from, len) : NULL;
        const struct json *value = name ? json_get(f->task, name) : NULL;
        buf_add(out, text, (size_t)(open - text));
        if (value) {
            add_member(out, value);
            text = close + 2;
            continue;
        }
        if (plain && f->strict && !f->failed) {
            err_set(f->err, ERR_INVALID, "{{%.60s}}: the task has no member of that name", name);
            f->failed = true;
        }
        buf_adds(out, "{{");
        text = open + 2;
    }
    buf_adds(out, text);
}

/* Writes a value with the templates in its texts filled in. */
static void write_filled(struct filling *f, struct json_writer *w, const char *name,
                         const struct json *value)
{
    AUTO(buf) struct buf text = BUF_INIT(BATCH_TASK_MAX);
    if (json_text(value)) {
        fill(f, json_text(value), &text);
        if (!buf_ok(&text))
            w->out->failed = true;
        json_add_textn(w, name, buf_str(&text), text.len);
    } else if (json_type(value) == JSON_OBJECT || json_type(value) == JSON_ARRAY) {
        bool object = json_type(value) == JSON_OBJECT;
        (object ? json_open_object : json_open_array)(w, name);
        for (const struct json *at = json_first(value); at; at = json_next(at))
            write_filled(f, w, object ? json_name(at) : NULL, at);
        json_close(w);
    } else {
        json_print(value, &text);
        json_add_raw(w, name, buf_str(&text), text.len);
    }
}

/* --- one task ------------------------------------------------------------------------------ */

static struct batch_task *new_task(struct batch_tasks *tasks)
{
    if (tasks->count == tasks->room) {
        size_t room = tasks->room ? tasks->room * 2 : 256;
        struct batch_task *items = realloc(tasks->items, room * sizeof(*items));
        if (!items)
            return NULL;
        tasks->items = items;
        tasks->room = room;
    }
    struct batch_task *task = &tasks->items[tasks->count];
    *task = (struct batch_task){.id = NULL};
    return task;
}

/* Takes the task's own id, or its number. */
static int take_id(struct batch_task *task, const struct json *value, size_t number,
                   struct err *err)
{
    AUTO(buf) struct buf id = BUF_INIT(ID_MAX), folder = BUF_INIT(3 * ID_MAX + 1);
    if (!value || json_type(value) == JSON_NULL)
        buf_addf(&id, "%zu", number);
    else if (json_text(value) || json_type(value) == JSON_NUMBER)
        add_member(&id, value);
    else
        return err_set(err, ERR_INVALID, "'id' must be a text or a number");
    if (buf_check(&id, "'id'", err))
        return -1;
    if (id.len == 0 || !str_is_utf8(buf_str(&id), id.len))
        return err_set(err, ERR_INVALID, "'id' must not be empty");
    str_add_url(&folder, buf_str(&id), "");
    task->id = buf_steal(&id);
    /* A folder must not be named "." or "..", or be hidden. */
    if (folder.data && folder.data[0] == '.' &&
        asprintf(&task->folder, "%%2E%s", folder.data + 1) < 0)
        task->folder = NULL;
    if (!task->folder)
        task->folder = buf_steal(&folder);
    return task->id && task->folder ? 0 : err_sys(err, "a task");
}

static int take_runs(struct batch_task *task, const struct json *value, int64_t fallback,
                     struct err *err)
{
    int64_t n = fallback;
    const char *text = json_text(value);
    bool given = value && json_type(value) != JSON_NULL && !(text && !*text);
    if (given && (text ? str_to_int(text, 1, RUNS_MAX, &n) : json_int(value, &n)))
        return err_set(err, ERR_INVALID, "'n' must be 1..%d", RUNS_MAX);
    if (n < 1 || n > RUNS_MAX)
        return err_set(err, ERR_INVALID, "'n' must be 1..%d, got %lld", RUNS_MAX, (long long)n);
    task->count = (uint32_t)n;
    return 0;
}

/* Writes a timeout, given as seconds or as "10m". */
static int write_timeout(struct json_writer *w, const struct json *value, struct err *err)
{
    int64_t ms = 0;
    double seconds = 0;
    const char *text = json_text(value);
    if (text ? fields_duration(text, &ms, err) : json_number(value, &seconds))
        return err_set(err, ERR_INVALID, "'timeout' must be seconds, or a text as \"10m\"");
    json_add_int(w, "timeout_ms", text ? ms : (int64_t)(seconds * 1000));
    return 0;
}

/* Writes inputs, given as {"name":"path"} or [["name","path"],…]. */
static int write_inputs(struct filling *f, struct json_writer *w, const struct json *inputs,
                        struct err *err)
{
    json_open_object(w, NULL);
    for (const struct json *at = json_first(inputs); at; at = json_next(at)) {
        bool pair = json_type(inputs) == JSON_ARRAY;
        const struct json *first = pair ? json_first(at) : NULL;
        const char *name = pair ? json_text(first) : json_name(at);
        const struct json *path = pair ? (first ? json_next(first) : NULL) : at;
        if (!name || !json_text(path) || !path_is_inside(name))
            return err_set(err, ERR_INVALID, "'inputs' must be names with paths");
        write_filled(f, w, name, path);
    }
    json_close(w);
    return 0;
}

/* What was read of a task's members so far. */
struct members {
    const struct json *id, *n, *inputs, *cpu, *memory;
    bool prompt, command, model, timeout, executor;
    const char *other; /* the first member that no request has */
};

static void note_field(struct members *m, const char *field)
{
    m->prompt |= strcmp(field, "prompt") == 0;
    m->command |= strcmp(field, "command") == 0;
    m->model |= strcmp(field, "model") == 0;
    m->executor |= strcmp(field, "executor") == 0;
    m->timeout |= strcmp(field, "timeout_ms") == 0 || strcmp(field, "timeoutMinutes") == 0;
}

static int write_member(struct filling *f, struct json_writer *w, struct members *m,
                        const struct json *at, struct err *err)
{
    const char *field;
    const char *text = json_text(at);
    enum member member = what_is(json_name(at), &field);
    if (json_type(at) == JSON_NULL || (text && !*text))
        return 0;
    if (member == MEMBER_FIELD || member == MEMBER_COMMANDS)
        note_field(m, field);
    switch (member) {
    case MEMBER_ID:
        m->id = at;
        return 0;
    case MEMBER_N:
        m->n = at;
        return 0;
    case MEMBER_INPUTS:
        m->inputs = at;
        return 0;
    case MEMBER_CPU:
        m->cpu = at;
        return 0;
    case MEMBER_MEMORY:
        m->memory = at;
        return 0;
    case MEMBER_TIMEOUT:
        m->timeout = true;
        return write_timeout(w, at, err);
    case MEMBER_COMMANDS:
        if (!text) {
            write_filled(f, w, field, at);
            return 0;
        }
        json_open_array(w, field);
        write_filled(f, w, NULL, at);
        json_close(w);
        return 0;
    case MEMBER_FIELD:
        write_filled(f, w, field, at);
        return 0;
    case MEMBER_OTHER:
        m->other = m->other ? m->other : json_name(at);
        return 0;
    }
    return 0;
}

/* Reads megabytes: a number, or a text such as "512Mi" and "2Gi". */
static int read_memory(const struct json *value, int64_t *ret_mb)
{
    static const struct {
        const char *unit;
        double mb;
    } units[] = {{"Ki", 1 / 1024.0}, {"Mi", 1}, {"Gi", 1024}, {"", 1}};
    const char *text = json_text(value);
    char *rest = NULL;
    double number = text ? strtod(text, &rest) : 0;
    if (!text)
        return json_int(value, ret_mb);
    for (size_t i = 0; rest != text && number > 0 && number < 1e9 && i < COUNT_OF(units); i++)
        if (strcmp(rest, units[i].unit) == 0) {
            *ret_mb = (int64_t)(number * units[i].mb);
            return 0;
        }
    return -1;
}

/* Writes a task's size in the words of the module's users; columns of a table may have such names
 * by chance. */
static int write_size(struct json_writer *w, const struct members *m, struct err *err)
{
    double cpu = 0;
    int64_t mb = 0;
    const char *text = json_text(m->cpu);
    char *rest = NULL;
    if (m->cpu &&
        (text ? (cpu = strtod(text, &rest), *rest || rest == text) : json_number(m->cpu, &cpu)))
        return err_set(err, ERR_INVALID, "'cpu' must be a number of cores");
    if (m->memory && read_memory(m->memory, &mb))
        return err_set(err, ERR_INVALID, "'memory' must be as \"2Gi\", or megabytes");
    if (!m->cpu && !m->memory)
        return 0;
    json_open_object(w, "limits");
    if (m->cpu)
        json_add_number(w, "cpu", cpu);
    if (m->memory)
        json_add_int(w, "memoryMb", mb);
    json_close(w);
    return 0;
}

static void write_default(struct filling *f, struct json_writer *w, const char *field,
                          const char *text)
{
    AUTO(buf) struct buf filled = BUF_INIT(BATCH_TASK_MAX);
    fill(f, text, &filled);
    json_add_textn(w, field, buf_str(&filled), filled.len);
}

static int write_defaults(struct filling *f, struct json_writer *w, struct members *m,
                          const struct batch_defaults *defaults, struct err *err)
{
    if (!m->prompt && !m->command && defaults->prompt) {
        write_default(f, w, "prompt", defaults->prompt);
        m->prompt = true;
    } else if (!m->prompt && !m->command && defaults->command) {
        write_default(f, w, "command", defaults->command);
        m->command = true;
    }
    if (m->prompt == m->command)
        return err_set(err, ERR_INVALID,
                       m->prompt ? "has a prompt and a command"
                                 : "has neither a prompt nor a command");
    if (!m->model && m->prompt && defaults->model)
        json_add_text(w, "model", defaults->model);
    if (m->executor && defaults->executor)
        return err_set(err, ERR_INVALID, "has an executor; with --cloud all run there");
    if (defaults->executor)
        json_add_text(w, "executor", defaults->executor);
    if (!m->timeout && defaults->timeout_ms)
        json_add_int(w, "timeout_ms", defaults->timeout_ms);
    json_add_bool(w, "detach", true);           /* A broken connection ends no task, */
    json_add_bool(w, "retryInterrupted", true); /* nor does a runner that stops. */
    return 0;
}

/* True when the task uses its other members in templates. */
static bool uses_templates(const struct json *task, const struct batch_defaults *defaults)
{
    AUTO(buf) struct buf text = BUF_INIT(BATCH_TASK_MAX * 2);
    json_print(task, &text);
    return (defaults->prompt && strstr(defaults->prompt, "{{")) ||
           (defaults->command && strstr(defaults->command, "{{")) || strstr(buf_str(&text), "{{");
}

static const char *next_field(size_t index, void *arg)
{
    struct request_field field;
    (void)arg;
    return request_field_at(index, &field) == 0 ? field.name : NULL;
}

/* Refuses a member that nothing uses, which is probably misspelt, unless the tasks come from a
 * table. */
static int check_other(const struct batch_reading *reading, const struct members *m,
                       const struct json *task, struct err *err)
{
    if (!m->other || reading->table || uses_templates(task, reading->defaults))
        return 0;
    const char *near = str_nearest(m->other, next_field, NULL);
    return err_set(err, ERR_INVALID, "unknown member '%.60s'%s%s%s", m->other,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static int spool(struct batch_tasks *tasks, struct batch_task *task, const struct buf *body,
                 const struct buf *inputs, struct err *err)
{
    task->at = tasks->spool_len;
    task->body_len = (uint32_t)body->len - 1; /* without its last brace */
    task->inputs_len = (uint32_t)inputs->len;
    if (fd_pwrite_all(tasks->spool, buf_str(body), task->body_len, task->at) ||
        fd_pwrite_all(tasks->spool, buf_str(inputs), inputs->len, task->at + task->body_len))
        return err_sys(err, "cannot write a temporary file");
    tasks->spool_len += (int64_t)task->body_len + (int64_t)inputs->len;
    return 0;
}

static int read_task(struct batch_reading *reading, struct batch_task *task,
                     const struct json *object, struct err *err)
{
    struct json_writer w;
    struct members m = {.id = NULL};
    AUTO(buf) struct buf body = BUF_INIT(BATCH_TASK_MAX), inputs = BUF_INIT(BATCH_TASK_MAX);
    bool given = reading->defaults->prompt || reading->defaults->command;
    struct filling f = {.task = object, .strict = reading->table || given, .err = err};
    json_write(&w, &body);
    json_open_object(&w, NULL);
    for (const struct json *at = json_first(object); at; at = json_next(at))
        if (write_member(&f, &w, &m, at, err))
            return -1;
    if (write_defaults(&f, &w, &m, reading->defaults, err) ||
        (!reading->table && write_size(&w, &m, err)) || check_other(reading, &m, object, err) ||
        take_id(task, m.id, reading->tasks->count + 1, err) ||
        take_runs(task, m.n, reading->defaults->runs, err))
        return -1;
    json_close(&w);
    json_write(&w, &inputs);
    if (m.inputs && write_inputs(&f, &w, m.inputs, err))
        return -1;
    if (f.failed || buf_check(&body, "a task", err) || buf_check(&inputs, "inputs", err))
        return -1;
    task->command = m.command;
    return spool(reading->tasks, task, &body, &inputs, err);
}

int batch_tasks_add(struct batch_reading *reading, const char *text, size_t len, const char *where,
                    struct err *err)
{
    struct batch_tasks *tasks = reading->tasks;
    AUTO(json) struct json *object = json_parse(text, len, err);
    struct batch_task *task = object ? new_task(tasks) : NULL;
    if (!object)
        return err_wrap(err, "%s", where);
    if (json_type(object) != JSON_OBJECT)
        return err_set(err, ERR_INVALID, "%s: a task must be an object", where);
    if (!task)
        return err_sys(err, "a task");
    if (read_task(reading, task, object, err)) {
        free(task->id);
        free(task->folder);
        return err_wrap(err, "%s", where);
    }
    task->first = (uint32_t)tasks->run_count;
    tasks->run_count += task->count;
    tasks->count++;
    if (tasks->run_count > BATCH_RUNS_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d runs", BATCH_RUNS_MAX);
    return 0;
}

void batch_tasks_done(struct batch_tasks *tasks)
{
    for (size_t i = 0; i < tasks->count; i++) {
        free(tasks->items[i].id);
        free(tasks->items[i].folder);
    }
    free(tasks->items);
    free(tasks->runs);
    fd_close(&tasks->spool);
}
