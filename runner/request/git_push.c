/* `gitPush`: true, or which branches, and whether by force. Stored as JSON. */
#include "runner/request/rows.h"

#include <string.h>

#define BRANCH_BYTES_MAX 255

static int wrong(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "%s", what);
}

/* Checks a branch pattern, in which * and ? are wildcards; with refs/ before it, a pattern of full
 * ref names. */
static int check_branch(const struct json *item, struct err *err)
{
    const char *text = json_text(item);
    size_t len = text ? strlen(text) : 0;
    if (!text)
        return wrong(err, "must have `branches` that are strings");
    if (len == 0 || len > BRANCH_BYTES_MAX || *text == '-' || *text == '/' ||
        text[len - 1] == '/' || strstr(text, "..") || strstr(text, "//") || strstr(text, "@{"))
        return err_set(err, ERR_INVALID, "must have names of branches, '%.*s' is none",
                       (int)request_cut(text, 60), text);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f || strchr("~^:\\", *p))
            return err_set(err, ERR_INVALID, "must have names of branches, '%.*s' is none",
                           (int)request_cut(text, 60), text);
    return 0;
}

static int check_member(const struct request_row *row, const struct json *at, struct err *err)
{
    bool flag;
    const char *name = json_name(at);
    if (strcmp(name, "force") == 0)
        return json_bool(at, &flag) ? wrong(err, "must have a `force` of true or false") : 0;
    if (strcmp(name, "branches") != 0)
        return err_set(err, ERR_INVALID, "must have `branches` and `force` only, not '%.*s'",
                       (int)request_cut(name, 60), name);
    if (json_type(at) != JSON_ARRAY)
        return wrong(err, "must have an array of `branches`");
    if ((double)json_count(at) > row->takes.max)
        return err_set(err, ERR_INVALID, "must have at most %.0f branches", row->takes.max);
    for (const struct json *item = json_first(at); item; item = json_next(item))
        if (check_branch(item, err))
            return -1;
    return 0;
}

int request_decode_push(const struct request_row *row, const struct json *value, void *member,
                        struct err *err)
{
    bool yes = true;
    AUTO(buf) struct buf out = BUF_INIT(REQUEST_ITEM_MAX * 8);
    if (json_bool(value, &yes) && json_type(value) != JSON_OBJECT)
        return err_set(err, ERR_INVALID, "must be true, false or an object, got %s",
                       json_type_name(json_type(value)));
    for (const struct json *at = json_first(value); at; at = json_next(at))
        if (check_member(row, at, err))
            return -1;
    if (!yes)
        return 0;
    json_print(value, &out);
    if (buf_check(&out, "gitPush", err))
        return -1;
    *(char **)member = buf_steal(&out);
    return 0;
}
