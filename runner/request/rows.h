/*
 * The table of request fields as rows, and the functions that read and print one value. Private to
 * runner/request.
 *
 * Threads: no shared state.
 * Ownership: rows are static; a member belongs to its request.
 */
#ifndef REQUEST_ROWS_H
#define REQUEST_ROWS_H

#include "runner/request/request.h"
#include "json/json.h"

enum request_kind {
    KIND_TEXT,
    KIND_TOKEN,
    KIND_ID,
    KIND_UUID,
    KIND_URL,
    KIND_REPO,
    KIND_REF,
    KIND_PATH,
    KIND_TIME,
    KIND_SSH_KEY,
    KIND_CHOICE,
    KIND_ENUM,
    KIND_INT,
    KIND_NUMBER,
    KIND_BOOL,
    KIND_LIST,
    KIND_LINES,
    KIND_DOMAINS,
    KIND_SCHEMA,
    KIND_CONFIG,
    KIND_COMMANDS,
    KIND_AGENTS,
    KIND_STRINGS,
    KIND_ENV,
    KIND_INPUTS,
    KIND_PUSH,
    KIND_JSON,
    KIND_GROUP,
};

/* How a member is stored. */
enum request_form {
    FORM_STRING,
    FORM_JSON,
    FORM_LIST,
    FORM_INT,
    FORM_ENUM,
    FORM_NUMBER,
    FORM_BOOL
};

struct request_row {
    enum request_kind kind;
    const char *name;
    const char *aliases;
    struct request_limits takes;
    const char *default_text;
    unsigned flags;
    const char *cli;
    const char *help;
    size_t offset;
};

enum {
#define REQUEST_INDEX(kind, member, ...) ROW_##member,
    REQUEST_FIELDS(REQUEST_INDEX)
#undef REQUEST_INDEX
        REQUEST_ROWS
};

extern const struct request_row request_rows[REQUEST_ROWS];

void *request_member(const struct task_request *request, const struct request_row *row);
enum request_form request_form(const struct request_row *row);
const char *request_type(const struct request_row *row);

/* True when the member has a value to keep. */
bool request_is_set(const struct task_request *request, const struct request_row *row);

/* Converts one JSON value into the row's member. -1 with the rest of the message: "must be …".
 * Not for KIND_GROUP and KIND_JSON. */
int request_decode_value(const struct request_row *row, const struct json *value, void *member,
                         struct err *err);

/* The decoders of KIND_COMMANDS and KIND_AGENTS (claude_forms.c). */
int request_decode_commands(const struct request_row *row, const struct json *value, void *member,
                            struct err *err);
int request_decode_agents(const struct request_row *row, const struct json *value, void *member,
                          struct err *err);

/* The decoder of KIND_PUSH (git_push.c). */
int request_decode_push(const struct request_row *row, const struct json *value, void *member,
                        struct err *err);

#define REQUEST_ITEM_MAX 8192 /* bytes of one string in a list */

/* Pairs of rows of which a request may have only one. */
struct request_pair {
    int first, second;
};
extern const struct request_pair request_exclusive[];
extern const size_t request_exclusive_count;

/* Length of the path of the object that contains a row: 0 at the top, 6 for "limits.cpu". */
size_t request_parent_length(const char *name);

/* How many bytes of text, at most max, end with a whole character. */
size_t request_cut(const char *text, size_t max);

#endif
