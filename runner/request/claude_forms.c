/*
 * Slash commands and subagents, in the forms that callers send: a text, or an object with
 * `frontmatter` and `content`; subagents also in the CLI's own form. They are stored in one form:
 * commands as the text of a file, subagents as the CLI's --agents.
 */
#include "base/str.h"
#include "runner/request/rows.h"

#include <stdlib.h>
#include <string.h>

#define KEPT_BYTES_MAX (4u << 20)
#define NAME_BYTES_MAX 100 /* longest name of a slash command */

static int bad_member(const char *name, const char *fault, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s, '%.*s' is not right", fault, (int)request_cut(name, 40),
                   name);
}

static int put(const struct request_row *row, struct buf *text, void *member, struct err *err)
{
    if (!buf_ok(text) || (double)text->len > row->takes.max)
        return err_set(err, ERR_INVALID, "is too long: at most %.0f bytes", row->takes.max);
    *(char **)member = buf_steal(text);
    return *(char **)member ? 0 : err_set(err, ERR_INTERNAL, "does not fit into memory");
}

/* Reads {frontmatter, content}; false when the object has other members, or wrong types. */
static bool take_apart(const struct json *object, const struct json **ret_front,
                       const char **ret_content)
{
    *ret_front = json_get(object, "frontmatter");
    *ret_content = json_text(json_get(object, "content"));
    for (const struct json *at = json_first(object); at; at = json_next(at))
        if (strcmp(json_name(at), "frontmatter") != 0 && strcmp(json_name(at), "content") != 0)
            return false;
    return *ret_content && (!*ret_front || json_type(*ret_front) == JSON_OBJECT ||
                            json_type(*ret_front) == JSON_NULL);
}

/* True for a key that YAML accepts without quotes. */
static bool is_key(const char *name)
{
    return *name &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") ==
               strlen(name);
}

/* Prints the text of a command's file. JSON is YAML, so each value is printed as it is. */
static int print_command(const char *name, const struct json *value, struct buf *out,
                         struct err *err)
{
    const struct json *front;
    const char *content;
    if (!take_apart(value, &front, &content))
        return bad_member(name, "must hold texts, or objects with frontmatter and content", err);
    if (json_first(front)) {
        buf_adds(out, "---\n");
        for (const struct json *at = json_first(front); at; at = json_next(at)) {
            if (!is_key(json_name(at)))
                return bad_member(json_name(at), "must have frontmatter with plain names", err);
            buf_addf(out, "%s: ", json_name(at));
            json_print(at, out);
            buf_addc(out, '\n');
        }
        buf_adds(out, "---\n");
    }
    buf_adds(out, content);
    return buf_check(out, "a command", err);
}

bool request_is_command_name(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= NAME_BYTES_MAX && *name != '.' && *name != '-' &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

/* Begins to print an object; -1 when the value is none. */
static int begin_object(const struct json *value, struct json_writer *w, struct buf *out,
                        struct err *err)
{
    if (json_type(value) != JSON_OBJECT)
        return err_set(err, ERR_INVALID, "must be an object, got %s",
                       json_type_name(json_type(value)));
    json_write(w, out);
    json_open_object(w, NULL);
    return 0;
}

int request_decode_commands(const struct request_row *row, const struct json *value, void *member,
                            struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf out = BUF_INIT(KEPT_BYTES_MAX);
    if (begin_object(value, &w, &out, err))
        return -1;
    for (const struct json *at = json_first(value); at; at = json_next(at)) {
        AUTO(buf) struct buf text = BUF_INIT(KEPT_BYTES_MAX);
        const char *name = json_name(at);
        if (!request_is_command_name(name))
            return bad_member(
                name, "must have names of A-Z a-z 0-9 . _ - that begin with none of . -", err);
        if (json_text(at))
            buf_adds(&text, json_text(at));
        else if (json_type(at) != JSON_OBJECT)
            return bad_member(name, "must hold texts, or objects with frontmatter and content",
                              err);
        else if (print_command(name, at, &text, err))
            return -1;
        json_add_textn(&w, name, buf_str(&text), text.len);
    }
    json_close(&w);
    return put(row, &out, member, err);
}

/* Adds the frontmatter; a subagent's file writes "a, b" where the CLI's own form has a list. */
static void add_front(struct json_writer *w, const struct json *at)
{
    AUTO(buf) struct buf text = BUF_INIT(KEPT_BYTES_MAX);
    AUTO(strlist) struct strlist list = STRLIST_INIT;
    bool tools =
        strcmp(json_name(at), "tools") == 0 || strcmp(json_name(at), "disallowedTools") == 0;
    if (tools && json_text(at) && strlist_split(&list, json_text(at)) == 0) {
        json_add_texts(w, json_name(at), &list);
        return;
    }
    json_print(at, &text);
    json_add_raw(w, json_name(at), buf_str(&text), text.len);
}

static void add_agent(struct json_writer *w, const char *name, const struct json *front,
                      const char *content)
{
    json_open_object(w, name);
    if (!json_text(json_get(front, "description")))
        json_add_text(w, "description", name);
    for (const struct json *at = json_first(front); at; at = json_next(at))
        if (strcmp(json_name(at), "name") != 0 && strcmp(json_name(at), "prompt") != 0)
            add_front(w, at);
    json_add_text(w, "prompt", content);
    json_close(w);
}

int request_decode_agents(const struct request_row *row, const struct json *value, void *member,
                          struct err *err)
{
    struct json_writer w;
    AUTO(buf) struct buf out = BUF_INIT(KEPT_BYTES_MAX);
    if (begin_object(value, &w, &out, err))
        return -1;
    for (const struct json *at = json_first(value); at; at = json_next(at)) {
        AUTO(buf) struct buf own = BUF_INIT(KEPT_BYTES_MAX);
        const struct json *front;
        const char *content;
        if (json_text(at)) {
            add_agent(&w, json_name(at), NULL, json_text(at));
        } else if (json_type(at) != JSON_OBJECT) {
            return bad_member(json_name(at), "must hold texts or objects", err);
        } else if (take_apart(at, &front, &content)) {
            add_agent(&w, json_name(at), front, content);
        } else if (json_get(at, "content") || json_get(at, "frontmatter")) {
            return bad_member(json_name(at), "must have frontmatter and content, and no more", err);
        } else { /* the CLI's own form */
            json_print(at, &own);
            json_add_raw(&w, json_name(at), buf_str(&own), own.len);
        }
    }
    json_close(&w);
    return put(row, &out, member, err);
}
