#include "runner/claude/clean_line.h"

#include "base/auto.h"
#include "base/check.h"
#include "base/str.h"
#include "json/json.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#define WORD_MAX 128 /* No id and no word of the protocol is longer. */

/* Members whose values are ids or words of the protocol. */
static const char *const kept[] = {
    "type",       "subtype",     "session_id",      "sessionId",  "uuid",
    "parentUuid", "id",          "message_id",      "request_id", "requestId",
    "role",       "tool_use_id", "terminal_reason", "error",      "parent_tool_use_id",
    "model",      "stop_reason", "status",
};

/* Members that tools, schemas and users fill in: nothing below them belongs to the protocol. */
static const char *const filled_in[] = {
    "input",      "structured_output", "tool_use_result",   "toolUseResult",
    "tool_input", "updatedInput",      "structuredContent", "arguments",
};

/* The state of a pass over one line. */
struct pass {
    struct redact_set *set;
    struct buf *out;
    const char *line;
    size_t at;
    size_t copied; /* bytes of the line that were copied to out */
    unsigned depth;
    uint64_t objects;      /* bit d: the container that is open at depth d + 1 is an object */
    unsigned filled_depth; /* everything at this depth and below was filled in; 0: nothing was */
    bool wants_name;
    const char *name; /* the last name, as written, without quotes */
    size_t name_len;
    size_t names_taken; /* counts redacted names */
};

static bool is_one_of(const char *const *words, size_t count, const char *text, size_t len)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0)
            return true;
    return false;
}

/* True for letters, digits (when `digits`) and what joins them. */
static bool is_word(const char *text, size_t len, bool digits)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (!(digits ? isalnum(c) || (c && strchr("_.:-", c)) : isalpha(c) || c == '_'))
            return false;
    }
    return len <= WORD_MAX;
}

static bool in_object(const struct pass *pass)
{
    return pass->depth > 0 && (pass->objects >> (pass->depth - 1) & 1);
}

/* The offset after the string that begins at `at`, a quote. */
static size_t string_end(const char *line, size_t at)
{
    for (at++; line[at] != '"'; at++)
        at += line[at] == '\\';
    return at + 1;
}

/* True when the string from `at` to `end`, including quotes, must be looked at. */
static bool may_change(const struct pass *pass, size_t at, size_t end)
{
    const char *text = pass->line + at + 1;
    size_t len = end - at - 2;
    if (pass->wants_name)
        return pass->filled_depth && !is_word(text, len, false);
    return !(in_object(pass) && !pass->filled_depth && is_word(text, len, true) &&
             is_one_of(kept, COUNT_OF(kept), pass->name, pass->name_len));
}

/* Redacts the string from `at` to `end`. Secrets are looked for in its meaning, not in its escapes,
 * so that no escape is cut in half. */
static void clean_string(struct pass *pass, size_t at, size_t end)
{
    struct err ignored;
    const char *text = pass->line + at + 1;
    size_t len = end - at - 2;
    AUTO(buf) struct buf clean = BUF_INIT(4 * len + 64);
    AUTO(json) struct json *tree = NULL;
    if (!may_change(pass, at, end))
        return;
    if (memchr(text, '\\', len) && (tree = json_parse(pass->line + at, end - at, &ignored))) {
        text = json_text(tree);
        len = strlen(text);
    }
    if (redact_is_clean(pass->set, text, len))
        return;
    redact_text(pass->set, text, len, &clean);
    buf_add(pass->out, pass->line + pass->copied, at + 1 - pass->copied);
    str_add_json(pass->out, buf_str(&clean), clean.len);
    if (pass->wants_name && pass->names_taken++ > 0) /* Two names in one object must differ. */
        buf_addf(pass->out, " %zu", pass->names_taken);
    pass->copied = end - 1;
    pass->out->failed |= clean.failed;
}

static void pass_string(struct pass *pass)
{
    size_t end = string_end(pass->line, pass->at);
    clean_string(pass, pass->at, end);
    if (pass->wants_name) {
        pass->name = pass->line + pass->at + 1;
        pass->name_len = end - pass->at - 2;
        pass->wants_name = false;
    }
    pass->at = end;
}

static void open_one(struct pass *pass, bool object)
{
    bool filled =
        in_object(pass) && is_one_of(filled_in, COUNT_OF(filled_in), pass->name, pass->name_len);
    uint64_t bit = UINT64_C(1) << pass->depth++;
    pass->objects = object ? pass->objects | bit : pass->objects & ~bit;
    if (filled && !pass->filled_depth)
        pass->filled_depth = pass->depth;
    pass->wants_name = object;
}

static void close_one(struct pass *pass)
{
    if (pass->filled_depth == pass->depth)
        pass->filled_depth = 0;
    pass->depth--;
    pass->wants_name = false;
}

bool clean_line(struct redact_set *set, const char *line, size_t len, struct buf *out)
{
    REQUIRE(set && out);
    struct pass pass = {.set = set, .out = out, .line = line};
    AUTO(buf) struct buf found = BUF_INIT(8 * len + 64);
    if (!redact_json(set, line, len, &found))
        return false; /* The case of nearly every line. */
    while (pass.at < len) {
        char c = line[pass.at];
        if (c == '"') {
            pass_string(&pass);
            continue;
        }
        if (c == '{' || c == '[')
            open_one(&pass, c == '{');
        else if (c == '}' || c == ']')
            close_one(&pass);
        else if (c == ',')
            pass.wants_name = in_object(&pass);
        pass.at++;
    }
    if (pass.copied > 0)
        buf_add(out, line + pass.copied, len - pass.copied);
    return pass.copied > 0;
}
