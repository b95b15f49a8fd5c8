/*
 * The table as JSON Schema (2020-12), for the OpenAPI document. It accepts what the decoder
 * accepts, as far as a schema can say it: the decoder counts bytes and a schema characters, and a
 * URL or a repository is checked further than a pattern can. A null counts as not given; a field
 * that is not supported yet accepts only values that ask for nothing.
 */
#include "base/auto.h"
#include "runner/request/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The opposite of str_is_blank(): at least one character that is not white space. */
#define NOT_BLANK                                                                 \
    ("[^\\u0000-\\u0020\\u0085\\u00a0\\u1680\\u2000-\\u200b\\u2028\\u2029\\u202f" \
     "\\u205f\\u3000\\ufeff]")
#define PRINTABLE "^[!-~]+$"
#define INSIDE "^(?!/)(?!.*//)(?!.*/$)(?!(.*/)?\\.\\.?(/|$))[^\\u0000-\\u001f\\u007f]+$"
#define REF                                                                       \
    ("^(?![-/.])(?!@$)(?!.*(\\.\\.|//|/\\.|@\\{|\\.lock/))(?!.*(/|\\.|\\.lock)$)" \
     "[^\\u0000-\\u0020\\u007f~^:?*\\[\\\\]+$")
#define RFC3339 "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
#define BRANCHES "^(?![-/])(?!.*(\\.\\.|//|@\\{))(?!.*/$)[^\\u0000-\\u0020\\u007f~^:\\\\]+$"
#define SSH_KEY "^-----BEGIN (?=[\\s\\S]*PRIVATE KEY-----)(?=[\\s\\S]*-----END )"
#define UUID "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
#define ID "^(?!status$)[A-Za-z0-9_~][A-Za-z0-9._~-]*$"
#define COMMAND_NAME "^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"
#define ENV_NAME "^[A-Za-z_][A-Za-z0-9_]*$"
#define SHA256 "^sha256:[0-9a-f]{64}$"
#define DOMAIN "^(\\*\\.)?[A-Za-z0-9_-]{1,63}(\\.[A-Za-z0-9_-]{1,63})*(:[1-9][0-9]{0,4})?$"

/* --- one field ----------------------------------------------------------------------------- */

/* Adds "type": NAME, or NAME and null for an optional field. */
static void add_type(struct json_writer *w, const char *name, bool required)
{
    if (required) {
        json_add_text(w, "type", name);
        return;
    }
    json_open_array(w, "type");
    json_add_text(w, NULL, name);
    json_add_text(w, NULL, "null");
    json_close(w);
}

/* The pattern of a text; NULL for any text. */
static const char *pattern_of(const struct request_row *row)
{
    static const char *const patterns[] = {
        [KIND_TEXT] = NOT_BLANK,
        [KIND_TOKEN] = PRINTABLE,
        [KIND_ID] = ID,
        [KIND_UUID] = UUID,
        [KIND_URL] = "^[Hh][Tt][Tt][Pp][Ss]?://",
        [KIND_REPO] = "^(?!-)[!-~]*[/:][!-~]+$",
        [KIND_REF] = REF,
        [KIND_PATH] = INSIDE,
        [KIND_TIME] = RFC3339,
        [KIND_SSH_KEY] = SSH_KEY,
    };
    return row->kind == KIND_TEXT && row->takes.min < 1 ? NULL : patterns[row->kind];
}

static void add_text(struct json_writer *w, const struct request_row *row, bool required)
{
    const char *pattern = pattern_of(row);
    add_type(w, "string", required);
    if (row->takes.max > 0)
        json_add_int(w, "maxLength", (int64_t)row->takes.max);
    if (row->kind == KIND_TOKEN)
        json_add_int(w, "minLength", (int64_t)row->takes.min);
    if (pattern)
        json_add_text(w, "pattern", pattern);
}

static void add_choices(struct json_writer *w, const struct request_row *row)
{
    json_open_array(w, "enum");
    for (const char *at = row->takes.choices; at;) {
        size_t n = strcspn(at, "|");
        json_add_textn(w, NULL, at, n);
        at = at[n] ? at + n + 1 : NULL;
    }
    json_add_null(w, NULL);
    json_close(w);
}

/* An array of strings, or one string with all of them, except for KIND_LINES. */
static void add_list(struct json_writer *w, const struct request_row *row)
{
    json_open_array(w, "type");
    json_add_text(w, NULL, "array");
    if (row->kind != KIND_LINES)
        json_add_text(w, NULL, "string");
    json_add_text(w, NULL, "null");
    json_close(w);
    json_add_int(w, "maxItems", (int64_t)row->takes.max);
    json_add_int(w, "maxLength", REQUEST_ITEM_MAX); /* Limits the string; an array has no such
                                                     * limit. */
    json_open_object(w, "items");
    json_add_text(w, "type", "string");
    json_add_text(w, "pattern", row->kind == KIND_DOMAINS ? DOMAIN : NOT_BLANK);
    json_add_int(w, "maxLength", REQUEST_ITEM_MAX);
    json_close(w);
}

/* An object of strings. */
static void add_strings(struct json_writer *w, const struct request_row *row)
{
    bool env = row->kind == KIND_ENV;
    add_type(w, "object", false);
    json_open_object(w, "propertyNames");
    json_add_text(w, "pattern", env ? ENV_NAME : INSIDE);
    json_add_int(w, "maxLength", 255);
    json_close(w);
    json_open_object(w, "additionalProperties");
    json_add_text(w, "type", "string");
    if (env)
        json_add_int(w, "maxLength", REQUEST_ARG_MAX);
    if (row->kind == KIND_INPUTS)
        json_add_text(w, "pattern", SHA256);
    json_close(w);
}

/* true, or an object with branches and force. */
static void add_push(struct json_writer *w, const struct request_row *row)
{
    json_open_array(w, "type");
    json_add_text(w, NULL, "boolean");
    json_add_text(w, NULL, "object");
    json_add_text(w, NULL, "null");
    json_close(w);
    json_add_bool(w, "additionalProperties", false);
    json_open_object(w, "properties");
    json_open_object(w, "branches");
    json_add_text(w, "type", "array");
    json_add_int(w, "maxItems", (int64_t)row->takes.max);
    json_open_object(w, "items");
    json_add_text(w, "type", "string");
    json_add_text(w, "pattern", BRANCHES);
    json_add_int(w, "maxLength", 255);
    json_close(w);
    json_close(w);
    json_open_object(w, "force");
    json_add_text(w, "type", "boolean");
    json_close(w);
    json_close(w);
}

static void add_range(struct json_writer *w, const struct request_row *row, const char *type)
{
    add_type(w, type, false);
    json_add_number(w, "minimum", row->takes.min);
    json_add_number(w, "maximum", row->takes.max);
}

static void add_members(struct json_writer *w, unsigned where, const char *path);

static void add_texts_or_objects(struct json_writer *w, const char *names)
{
    add_type(w, "object", false);
    if (names) {
        json_open_object(w, "propertyNames");
        json_add_text(w, "pattern", names);
        json_close(w);
    }
    json_open_object(w, "additionalProperties");
    json_open_array(w, "type");
    json_add_text(w, NULL, "string");
    json_add_text(w, NULL, "object");
    json_close(w);
    json_close(w);
}

static void add_group(struct json_writer *w, const struct request_row *row, unsigned where)
{
    add_type(w, "object", false);
    json_add_bool(w, "additionalProperties", false);
    add_members(w, where, row->name);
}

static void add_kind(struct json_writer *w, const struct request_row *row, unsigned where,
                     bool required)
{
    switch (row->kind) {
    case KIND_TEXT:
    case KIND_TOKEN:
    case KIND_ID:
    case KIND_UUID:
    case KIND_URL:
    case KIND_REPO:
    case KIND_REF:
    case KIND_PATH:
    case KIND_TIME:
    case KIND_SSH_KEY:
        add_text(w, row, required);
        return;
    case KIND_CHOICE:
    case KIND_ENUM:
        add_choices(w, row);
        return;
    case KIND_INT:
        add_range(w, row, "integer");
        return;
    case KIND_NUMBER:
        add_range(w, row, "number");
        return;
    case KIND_BOOL:
        add_type(w, "boolean", false);
        return;
    case KIND_LIST:
    case KIND_LINES:
    case KIND_DOMAINS:
        add_list(w, row);
        return;
    case KIND_SCHEMA:
    case KIND_CONFIG:
        json_open_array(w, "type");
        json_add_text(w, NULL, "object");
        json_add_text(w, NULL, "string");
        json_add_text(w, NULL, "null");
        json_close(w);
        return;
    case KIND_COMMANDS:
        add_texts_or_objects(w, COMMAND_NAME);
        return;
    case KIND_AGENTS:
        add_texts_or_objects(w, NULL);
        return;
    case KIND_STRINGS:
    case KIND_ENV:
    case KIND_INPUTS:
        add_strings(w, row);
        return;
    case KIND_PUSH:
        add_push(w, row);
        return;
    case KIND_JSON:
        return;
    case KIND_GROUP:
        add_group(w, row, where);
        return;
    }
}

/* The only values that a field may have that is not supported yet. */
static void add_nothing(struct json_writer *w, const struct request_row *row)
{
    json_open_array(w, "enum");
    json_add_null(w, NULL);
    if (row->kind == KIND_BOOL || row->kind == KIND_JSON)
        json_add_bool(w, NULL, false);
    if (request_form(row) == FORM_LIST || row->kind == KIND_JSON) {
        json_open_array(w, NULL);
        json_close(w);
    }
    if (request_form(row) == FORM_JSON) {
        json_open_object(w, NULL);
        json_close(w);
    }
    json_close(w);
}

/* Adds a default that is a value; others name a setting. */
static void add_default(struct json_writer *w, const struct request_row *row)
{
    char *end;
    const char *text = row->default_text;
    double number = text ? strtod(text, &end) : 0;
    if (!text)
        return;
    if (row->kind == KIND_BOOL)
        json_add_bool(w, "default", strcmp(text, "true") == 0);
    else if ((row->kind == KIND_INT || row->kind == KIND_NUMBER) && end != text)
        json_add_number(w, "default", number);
    else if (row->takes.choices && strstr(row->takes.choices, text))
        json_add_text(w, "default", text);
}

static void add_description(struct json_writer *w, const struct request_row *row,
                            const char *alias_of)
{
    AUTO(buf) struct buf text = BUF_INIT(4096);
    if (alias_of)
        buf_addf(&text, "the same as %s", alias_of);
    else
        buf_adds(&text, row->help);
    if (row->default_text && strcspn(row->default_text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 0)
        buf_addf(&text, "; default: the setting %s", row->default_text);
    if (row->flags & REQUEST_LATER)
        buf_adds(&text, " (not supported yet)");
    json_add_text(w, "description", buf_str(&text));
}

static bool is_required(const struct request_row *row, unsigned where)
{
    static const struct {
        unsigned where;
        int row;
    } needs[] = {
        {REQUEST_CLAUDE, ROW_prompt}, {REQUEST_PYTHON, ROW_code}, {REQUEST_COMMAND, ROW_command}};
    const bool choice = (where & REQUEST_CLAUDE) && (where & REQUEST_PYTHON) &&
                        !(request_rows[ROW_code].flags & REQUEST_LATER); /* see add_either() */
    for (size_t i = 0; i < COUNT_OF(needs) && !choice; i++)
        if (where & needs[i].where)
            return row == &request_rows[needs[i].row];
    return false;
}

static void add_field(struct json_writer *w, const struct request_row *row, unsigned where,
                      const char *name, size_t name_len, const char *alias_of)
{
    char own[64];
    snprintf(own, sizeof(own), "%.*s", (int)name_len, name);
    json_open_object(w, own);
    add_description(w, row, alias_of);
    if ((row->flags & REQUEST_LATER) && row->kind != KIND_GROUP)
        add_nothing(w, row);
    else
        add_kind(w, row, where, is_required(row, where));
    add_default(w, row);
    if (row->flags & REQUEST_SECRET)
        json_add_bool(w, "writeOnly", true);
    json_close(w);
}

/* Adds the fields directly inside the object of that path. */
static void add_members(struct json_writer *w, unsigned where, const char *path)
{
    size_t len = strlen(path);
    json_open_object(w, "properties");
    for (size_t i = 0; i < REQUEST_ROWS; i++) {
        const struct request_row *row = &request_rows[i];
        if (!(row->flags & where) || request_parent_length(row->name) != len ||
            strncmp(row->name, path, len) != 0)
            continue;
        const char *name = row->name + len + (len > 0);
        add_field(w, row, where, name, strlen(name), NULL);
        for (const char *alias = row->aliases; alias;) {
            size_t n = strcspn(alias, "|");
            add_field(w, row, where, alias, n, name);
            alias = alias[n] ? alias + n + 1 : NULL;
        }
    }
    json_close(w);
}

/* --- fields that exclude each other -------------------------------------------------------- */

/* Names of which only one may be given. */
struct names {
    const char *at[8];
    size_t len[8];
    size_t count;
};

static void collect(struct names *names, const struct request_row *row)
{
    names->at[names->count] = row->name;
    names->len[names->count++] = strlen(row->name);
    for (const char *alias = row->aliases; alias && names->count < COUNT_OF(names->at);) {
        size_t n = strcspn(alias, "|");
        names->at[names->count] = alias;
        names->len[names->count++] = n;
        alias = alias[n] ? alias + n + 1 : NULL;
    }
}

/* Requires each of the names, with a value other than null. */
static void add_given(struct json_writer *w, const struct names *names, const size_t which[],
                      size_t count)
{
    char name[64];
    json_open_array(w, "required");
    for (size_t i = 0; i < count; i++)
        json_add_textn(w, NULL, names->at[which[i]], names->len[which[i]]);
    json_close(w);
    json_open_object(w, "properties");
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "%.*s", (int)names->len[which[i]], names->at[which[i]]);
        json_add_raw(w, name, "{\"not\":{\"type\":\"null\"}}", 23);
    }
    json_close(w);
}

static void add_pairs(struct json_writer *w, const struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        for (size_t k = i + 1; k < names->count; k++) {
            json_open_object(w, NULL);
            json_open_object(w, "not");
            add_given(w, names, (const size_t[]){i, k}, 2);
            json_close(w);
            json_close(w);
        }
}

/* Requires a prompt or code, where both are possible. */
static void add_either(struct json_writer *w, unsigned where)
{
    struct names names = {.count = 0};
    if (!(where & REQUEST_CLAUDE) || !(where & REQUEST_PYTHON) ||
        (request_rows[ROW_code].flags & REQUEST_LATER))
        return;
    collect(&names, &request_rows[ROW_prompt]);
    collect(&names, &request_rows[ROW_code]);
    json_open_object(w, NULL);
    json_open_array(w, "anyOf");
    for (size_t i = 0; i < names.count; i++) {
        json_open_object(w, NULL);
        add_given(w, &names, &i, 1);
        json_close(w);
    }
    json_close(w);
    json_close(w);
}

static void add_exclusions(struct json_writer *w, unsigned where)
{
    json_open_array(w, "allOf");
    for (size_t i = 0; i < REQUEST_ROWS; i++) {
        struct names names = {.count = 0};
        if ((request_rows[i].flags & where) && request_rows[i].aliases) {
            collect(&names, &request_rows[i]);
            add_pairs(w, &names);
        }
    }
    for (size_t i = 0; i < request_exclusive_count; i++) {
        const struct request_row *first = &request_rows[request_exclusive[i].first];
        const struct request_row *second = &request_rows[request_exclusive[i].second];
        struct names names = {.count = 0};
        if (!(first->flags & where) || !(second->flags & where))
            continue;
        collect(&names, first);
        collect(&names, second);
        add_pairs(w, &names);
    }
    add_either(w, where);
    json_close(w);
}

void request_print_schema(unsigned where, struct buf *out)
{
    struct json_writer w;
    json_write(&w, out);
    json_open_object(&w, NULL);
    json_add_text(&w, "type", "object");
    json_add_bool(&w, "additionalProperties", false);
    json_open_array(&w, "required");
    for (size_t i = 0; i < REQUEST_ROWS; i++)
        if (is_required(&request_rows[i], where))
            json_add_text(&w, NULL, request_rows[i].name);
    json_close(&w);
    add_members(&w, where, "");
    add_exclusions(&w, where);
    json_close(&w);
}
