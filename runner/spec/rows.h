/*
 * Inside the spec module: the table as rows, and what its files share.
 */
#ifndef SPEC_ROWS_H
#define SPEC_ROWS_H

#include "runner/spec/spec.h"
#include "json/json.h"

enum spec_kind {
    KIND_TEXT,
    KIND_TOKEN,
    KIND_ID,
    KIND_UUID,
    KIND_URL,
    KIND_REPO,
    KIND_REF,
    KIND_PATH,
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
    KIND_OBJECT,
    KIND_STRINGS,
    KIND_ENV,
    KIND_INPUTS,
    KIND_JSON,
    KIND_GROUP,
};

/* How a member is held. */
enum spec_form { FORM_STRING, FORM_JSON, FORM_LIST, FORM_INT, FORM_ENUM, FORM_NUMBER, FORM_BOOL };

struct spec_row {
    enum spec_kind kind;
    const char *name;
    const char *aliases;
    struct spec_limits takes;
    const char *default_text;
    unsigned flags;
    const char *cli;
    const char *help;
    size_t offset;
};

enum {
#define SPEC_INDEX(kind, member, ...) ROW_##member,
    SPEC_FIELDS(SPEC_INDEX)
#undef SPEC_INDEX
        SPEC_ROWS
};

extern const struct spec_row spec_rows[SPEC_ROWS];

void *spec_member(const struct task_spec *spec, const struct spec_row *row);
enum spec_form spec_form(const struct spec_row *row);
const char *spec_type(const struct spec_row *row);

/* True when the member holds something worth keeping. */
bool spec_is_set(const struct task_spec *spec, const struct spec_row *row);

/* Turns one JSON value into the row's member. -1 with the message's rest: "must be …". Not for
 * KIND_GROUP and KIND_JSON. */
int spec_decode_value(const struct spec_row *row, const struct json *value, void *member,
                      struct err *err);

#define SPEC_ITEM_MAX 8192 /* bytes of one string in a list */

/* Rows of which a request may have one only. */
struct spec_pair {
    int first, second;
};
extern const struct spec_pair spec_exclusive[];
extern const size_t spec_exclusive_count;

/* Length of the path of the object that a row is in: 0 at the top, 6 for "limits.cpu". */
size_t spec_parent_length(const char *name);

/* Bytes of text, at most max, that end with a whole character. */
size_t spec_cut(const char *text, size_t max);

#endif
