/* Serializes a request: JSON for the database, arguments for the CLI, secrets for redaction. */
#include "base/check.h"
#include "base/form.h"
#include "runner/request/rows.h"

#include <stdlib.h>
#include <string.h>

bool request_is_set(const struct task_request *request, const struct request_row *row)
{
    const void *member = request_member(request, row);
    switch (request_form(row)) {
    case FORM_STRING:
    case FORM_JSON:
        return *(char *const *)member != NULL;
    case FORM_LIST:
        return ((const struct strlist *)member)->count > 0;
    case FORM_INT:
    case FORM_ENUM:
        return *(const int *)member != 0 || row == &request_rows[ROW_priority];
    case FORM_NUMBER:
        return *(const double *)member > 0;
    case FORM_BOOL:
        return *(const bool *)member;
    }
    return false;
}

static void write_value(struct json_writer *w, const char *name, const struct task_request *request,
                        const struct request_row *row)
{
    const void *member = request_member(request, row);
    AUTO(str) char *choice = NULL;
    switch (request_form(row)) {
    case FORM_STRING:
        json_add_text(w, name, *(char *const *)member);
        return;
    case FORM_JSON:
        json_add_raw(w, name, *(char *const *)member, strlen(*(char *const *)member));
        return;
    case FORM_LIST:
        json_add_texts(w, name, member);
        return;
    case FORM_INT:
        json_add_int(w, name, *(const int *)member);
        return;
    case FORM_ENUM:
        choice = form_choice_at(row->takes.choices, *(const int *)member);
        json_add_text(w, name, choice);
        return;
    case FORM_NUMBER:
        json_add_number(w, name, *(const double *)member);
        return;
    case FORM_BOOL:
        json_add_bool(w, name, *(const bool *)member);
        return;
    }
}

/* Writes the rows of the object whose path is `path`: the secret ones, or the others. */
static void write_members(struct json_writer *w, const struct task_request *request,
                          const char *path, unsigned secret)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < REQUEST_ROWS; i++) {
        const struct request_row *row = &request_rows[i];
        if (request_parent_length(row->name) != len || strncmp(row->name, path, len) != 0 ||
            (row->flags & REQUEST_SECRET) != secret || !request_is_set(request, row))
            continue;
        const char *name = row->name + len + (len > 0);
        if (row->kind == KIND_GROUP) {
            json_open_object(w, name);
            write_members(w, request, row->name, secret);
            json_close(w);
        } else {
            write_value(w, name, request, row);
        }
    }
}

void task_request_save(const struct task_request *request, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    write_members(&w, request, "", 0);
    json_close(&w);
}

void task_request_save_secrets(const struct task_request *request, struct buf *out)
{
    struct json_writer w;
    bool any = false;
    for (size_t i = 0; i < REQUEST_ROWS; i++)
        any = any || ((request_rows[i].flags & REQUEST_SECRET) &&
                      request_is_set(request, &request_rows[i]));
    if (!any)
        return;
    json_write(&w, out);
    json_open_object(&w, NULL);
    write_members(&w, request, "", REQUEST_SECRET);
    json_close(&w);
}

/* Registers every string below a node. */
static int redact_strings(const struct json *node, struct redact_set *set)
{
    int rc = json_text(node) ? redact_add(set, json_text(node)) : 0;
    for (const struct json *child = json_first(node); child; child = json_next(child))
        rc |= redact_strings(child, set);
    return rc;
}

int task_request_redact(const struct task_request *request, struct redact_set *set)
{
    int rc = 0;
    for (size_t i = 0; i < REQUEST_ROWS; i++) {
        const struct request_row *row = &request_rows[i];
        struct err err = ERR_INIT;
        if (!(row->flags & REQUEST_SECRET) || !request_is_set(request, row))
            continue;
        const char *text = *(char *const *)request_member(request, row);
        AUTO(json)
        struct json *tree = row->kind == KIND_ENV ? json_parse(text, strlen(text), &err) : NULL;
        rc |= tree ? redact_strings(tree, set) : redact_add(set, text);
    }
    return rc ? -1 : 0;
}

static void add_argument(const struct task_request *request, const struct request_row *row,
                         struct strlist *argv)
{
    const void *member = request_member(request, row);
    const struct strlist *list = member;
    AUTO(buf) struct buf number = BUF_INIT(64);
    struct json_writer w;
    switch (request_form(row)) {
    case FORM_STRING:
    case FORM_JSON:
        if (**(char *const *)member)
            strlist_addf(argv, "%s=%s", row->cli, *(char *const *)member);
        return;
    case FORM_LIST: /* One flag per item, so that an odd item cannot affect the next. */
        for (size_t i = 0; i < list->count; i++)
            strlist_addf(argv, "%s=%s", row->cli, list->items[i]);
        return;
    case FORM_INT:
    case FORM_ENUM:
        strlist_addf(argv, "%s=%d", row->cli, *(const int *)member);
        return;
    case FORM_NUMBER:
        json_write(&w, &number);
        json_add_number(&w, NULL, *(const double *)member);
        strlist_addf(argv, "%s=%s", row->cli, buf_str(&number));
        return;
    case FORM_BOOL:
        strlist_add(argv, row->cli);
        return;
    }
}

int task_request_argv(const struct task_request *request, struct strlist *argv, struct err *err)
{
    REQUIRE(request && argv);
    static const char *const always[] = {"-p", "--output-format", "stream-json", "--verbose"};
    for (size_t i = 0; i < COUNT_OF(always); i++)
        strlist_add(argv, always[i]);
    if (request->project_settings) {
        strlist_add(argv, "--setting-sources=user,project,local");
        strlist_add(argv, "--settings={\"enableAllProjectMcpServers\":true}");
    } else {
        /* MCP servers, hooks and helpers of a repository do not start by themselves. */
        strlist_add(argv, "--strict-mcp-config");
        strlist_add(argv, "--setting-sources=user");
    }
    for (size_t i = 0; i < REQUEST_ROWS; i++)
        if (request_rows[i].cli && request_is_set(request, &request_rows[i]))
            add_argument(request, &request_rows[i], argv);
    return argv->failed ? err_set(err, ERR_INTERNAL, "too many arguments for the CLI") : 0;
}
