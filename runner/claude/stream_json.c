#include "runner/claude/stream_json.h"

#include "base/check.h"
#include "base/str.h"
#include "runner/claude/clean_line.h"
#include "runner/task/events.h"
#include "json/json.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUT_BYTES (64u << 10) /* bytes of a too long line that are passed on */
#define OUTPUT_BYTES_MAX (64u << 20)
#define MEMBERS_BYTES_MAX (1u << 20)

static void take_line(const char *line, size_t len, size_t whole_len, void *arg);

void claude_output_init(struct claude_output *stream, struct redact_set *redact,
                        claude_output_event_fn *event, void *arg)
{
    REQUIRE(event);
    *stream = (struct claude_output){.redact = redact, .event = event, .arg = arg, .num_turns = -1};
    lines_init(&stream->lines, LINE_BYTES_MAX, take_line, stream);
    buf_init(&stream->scratch, 8 * (size_t)LINE_BYTES_MAX);
    buf_init(&stream->clean, 8 * (size_t)LINE_BYTES_MAX);
    buf_init(&stream->output, OUTPUT_BYTES_MAX);
    buf_init(&stream->members, MEMBERS_BYTES_MAX);
}

void claude_output_done(struct claude_output *stream)
{
    lines_done(&stream->lines);
    buf_done(&stream->scratch);
    buf_done(&stream->clean);
    buf_done(&stream->output);
    buf_done(&stream->members);
}

void claude_output_feed(struct claude_output *stream, const char *data, size_t len)
{
    lines_feed(&stream->lines, data, len);
}

void claude_output_finish(struct claude_output *stream)
{
    lines_finish(&stream->lines);
}

/* --- lines that matter --------------------------------------------------------------------- */

static void copy_text(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "");
}

/* Reads "unifiedWindows":{"five_hour":{"utilization":0.42,"resetsAt":<s>,…},…}. */
static void take_windows(struct claude_output *stream, const struct json *windows)
{
    for (int i = 0; windows && i < USAGE_WINDOWS; i++) {
        int64_t resets_s;
        struct usage_reading *reading = &stream->windows[i];
        const struct json *window = json_get(windows, usage_window_name((enum usage_window)i));
        reading->known = json_number(json_get(window, "utilization"), &reading->ratio) == 0 &&
                         json_int(json_get(window, "resetsAt"), &resets_s) == 0 && resets_s > 0 &&
                         resets_s < INT64_MAX / 1000;
        if (reading->known)
            reading->resets_ms = resets_s * 1000;
        stream->have_windows |= reading->known;
    }
}

/* Reads {"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":<s>,…}}. */
static void take_rate_limit(struct claude_output *stream, const struct json *line)
{
    int64_t resets_s = 0;
    const struct json *info = json_get(line, "rate_limit_info");
    take_windows(stream, json_get(info, "unifiedWindows"));
    const char *status = json_text(json_get(info, "status"));
    if (!status || strcmp(status, "rejected") != 0)
        return;
    json_int(json_get(info, "resetsAt"), &resets_s);
    stream->limit_reset_ms = resets_s > 0 ? resets_s * 1000 : 1;
}

/* Reads {"type":"system","subtype":"init","slash_commands":["compact",…],…}. */
static void take_init(struct claude_output *stream, const struct json *line)
{
    const char *subtype = json_text(json_get(line, "subtype"));
    const struct json *list = json_get(line, "slash_commands");
    if (!subtype || strcmp(subtype, "init") != 0 || json_type(list) != JSON_ARRAY)
        return;
    stream->command_unknown = true;
    for (const struct json *at = json_first(list); at; at = json_next(at))
        if (json_text(at) && strcmp(json_text(at), stream->command) == 0)
            stream->command_unknown = false;
}

void claude_output_command(struct claude_output *stream, const char *prompt)
{
    const char *at = prompt + strspn(prompt, " \t\r\n");
    size_t len = *at == '/' ? strcspn(at + 1, " \t\r\n") : 0;
    bool is_name = len > 0 && len < sizeof(stream->command) && isalpha((unsigned char)at[1]);
    for (size_t i = 0; i < len && is_name; i++)
        is_name = isalnum((unsigned char)at[1 + i]) || strchr("_:-", at[1 + i]);
    if (is_name)
        snprintf(stream->command, sizeof(stream->command), "%.*s", (int)len, at + 1);
}

/* Adds a warning that names the tools which Claude was not allowed to use. */
static void warn_of_denials(struct claude_output *stream, const struct json *root)
{
    AUTO(buf) struct buf names = BUF_INIT(1024);
    const struct json *at = json_first(json_get(root, "permission_denials"));
    size_t count = 0;
    for (; at; at = json_next(at), count++) {
        const char *name = json_text(json_get(at, "tool_name"));
        if (name && !strstr(buf_str(&names), name))
            buf_addf(&names, "%s%.60s", names.len > 0 ? ", " : "", name);
    }
    if (count == 0)
        return;
    buf_addf(&stream->members, ",\"warning\":\"%zu tool call%s denied (", count,
             count == 1 ? " was" : "s were");
    str_add_json(&stream->members, buf_str(&names), names.len);
    buf_adds(&stream->members, "): allowedTools or permissionMode would allow more\"");
}

/* Members that the answer copies when they have the documented type. */
static const struct {
    const char *from;
    const char *to;
    enum json_type type; /* JSON_NULL: any */
} members[] = {
    {"session_id", "sessionId", JSON_STRING},
    {"usage", "usage", JSON_OBJECT},
    {"modelUsage", "modelUsage", JSON_OBJECT},
    {"total_cost_usd", "total_cost_usd", JSON_NUMBER},
    {"num_turns", "num_turns", JSON_NUMBER},
    {"duration_api_ms", "duration_api_ms", JSON_NUMBER},
    {"permission_denials", "permission_denials", JSON_ARRAY},
    {"structured_output", "structured_output", JSON_NULL},
};

static bool is_a(const struct json *node, enum json_type type)
{
    return node && json_type(node) == type;
}

static void take_members(struct claude_output *stream, const struct json *root, const char *line,
                         size_t len)
{
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        size_t value_len;
        if (members[i].type != JSON_NULL && !is_a(json_get(root, members[i].from), members[i].type))
            continue;
        const char *value = json_raw_member(line, len, members[i].from, &value_len);
        if (!value)
            continue;
        buf_addf(&stream->members, ",\"%s\":", members[i].to);
        buf_add(&stream->members, value, value_len);
    }
    warn_of_denials(stream, root);
    if (!buf_ok(&stream->members)) {
        buf_done(&stream->members);
        buf_init(&stream->members, MEMBERS_BYTES_MAX);
        stream->truncated = true;
    }
}

/* Takes the CLI's message about an error, which has no other text, for the output. */
static void take_failure(struct claude_output *stream, const struct json *root)
{
    const struct json *first = json_first(json_get(root, "errors"));
    const char *said = json_text(first);
    if (!said)
        said = json_text(json_get(first, "message"));
    if (said && buf_adds(&stream->output, said))
        stream->truncated = true;
}

/* Reads the fields that decide the outcome. */
static void take_verdict(struct claude_output *stream, const struct json *root)
{
    const struct json *is_error = json_get(root, "is_error");
    stream->have_result = true;
    stream->is_error = is_error && !is_a(is_error, JSON_NULL); /* A value that is neither true nor
                                                                * false counts as an error. */
    json_bool(is_error, &stream->is_error);
    copy_text(stream->subtype, sizeof(stream->subtype), json_text(json_get(root, "subtype")));
    stream->api_status = 0;
    json_int(json_get(root, "api_error_status"), &stream->api_status);
    json_int(json_get(root, "num_turns"), &stream->num_turns);
}

/* Copies the line's text and members for the answer, from the line without secrets. */
static void take_words(struct claude_output *stream, const struct json *root, const char *line,
                       size_t len)
{
    const char *text = json_text(json_get(root, "result"));
    buf_clear(&stream->output);
    buf_clear(&stream->members);
    if (text && buf_adds(&stream->output, text))
        stream->truncated = true;
    take_members(stream, root, line, len);
    if (stream->output.len == 0 && (stream->is_error || strcmp(stream->subtype, "success") != 0))
        take_failure(stream, root);
}

static bool begins(const char *text, size_t len, const char *with)
{
    size_t n = strlen(with);
    return len >= n && memcmp(text, with, n) == 0;
}

/* False for nearly every line, at little cost: the CLI writes the type first. */
static bool may_matter(const struct claude_output *stream, const char *line, size_t len)
{
    static const char first[] = "{\"type\":\"";
    const size_t n = sizeof(first) - 1;
    if (!begins(line, len, first))
        return true;
    if (begins(line + n, len - n, "assistant\""))
        return memmem(line, len, "\"error\"", 7) != NULL;
    if (begins(line + n, len - n, "system\""))
        return stream->command[0] && memmem(line, len, "\"slash_commands\"", 16) != NULL;
    return begins(line + n, len - n, "result\"") || begins(line + n, len - n, "rate_limit_event\"");
}

enum wanted { WANT_RESULT, WANT_RATE_LIMIT, WANT_ASSISTANT, WANT_SYSTEM, WANT_NOTHING };

static enum wanted type_of(const struct claude_output *stream, const char *line, size_t len)
{
    static const char *const types[] = {
        [WANT_RESULT] = "\"result\"",
        [WANT_RATE_LIMIT] = "\"rate_limit_event\"",
        [WANT_ASSISTANT] = "\"assistant\"",
        [WANT_SYSTEM] = "\"system\"",
    };
    size_t type_len, which = 0;
    const char *type =
        may_matter(stream, line, len) ? json_raw_member(line, len, "type", &type_len) : NULL;
    while (type && which < COUNT_OF(types) &&
           (strlen(types[which]) != type_len || memcmp(types[which], type, type_len) != 0))
        which++;
    return type ? (enum wanted)which : WANT_NOTHING;
}

/* An assistant's line matters when it stands for an error. */
static void take_assistant(struct claude_output *stream, const char *line, size_t len)
{
    size_t error_len;
    const char *error = json_raw_member(line, len, "error", &error_len);
    if (error && error_len > 2 && error[0] == '"')
        snprintf(stream->last_error, sizeof(stream->last_error), "%.*s", (int)error_len - 2,
                 error + 1);
}

/* Reads a line. `line`, as the CLI printed it, decides; text for callers is taken from `clean`, the
 * same line without secrets. */
static void understand(struct claude_output *stream, const struct buf *line,
                       const struct buf *clean)
{
    struct err err;
    enum wanted type = type_of(stream, line->data, line->len);
    if (type == WANT_ASSISTANT)
        take_assistant(stream, line->data, line->len);
    if (type == WANT_ASSISTANT || type == WANT_NOTHING ||
        (type == WANT_SYSTEM && !stream->command[0]))
        return;
    AUTO(json) struct json *root = json_parse(line->data, line->len, &err);
    if (root && type == WANT_SYSTEM)
        take_init(stream, root);
    if (root && type == WANT_RATE_LIMIT)
        take_rate_limit(stream, root);
    if (!root || type != WANT_RESULT || stream->have_result)
        return; /* The first result is the end; later lines are a fault of the CLI. */
    take_verdict(stream, root);
    AUTO(json) struct json *said = json_parse(clean->data, clean->len, &err);
    take_words(stream, said, clean->data, clean->len);
}

/* --- lines as events ----------------------------------------------------------------------- */

/* The four hex digits at p as a code unit; 1, an ordinary character, when they are malformed. */
static unsigned code_unit(const char *p)
{
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)p[i];
        if (!isxdigit(c))
            return 1;
        code = code << 4 | ((c & 15u) + (c > '9' ? 9u : 0u));
    }
    return code;
}

/* Replaces escapes of NUL and of half a surrogate pair: JavaScript prints them, but no other reader
 * accepts them. */
static void mend_escapes(struct buf *text)
{
    for (size_t i = 0; i + 6 <= text->len; i++) {
        char *p = text->data + i;
        if (p[0] != '\\')
            continue;
        if (p[1] != 'u') {
            i++; /* The second backslash of a pair does not begin an escape. */
            continue;
        }
        unsigned code = code_unit(p + 2);
        bool high = code >= 0xd800 && code < 0xdc00, low = code >= 0xdc00 && code < 0xe000;
        unsigned next = 0;
        if (high && i + 12 <= text->len && p[6] == '\\' && p[7] == 'u')
            next = code_unit(p + 8);
        if (high && next >= 0xdc00 && next < 0xe000)
            i += 11;
        else if (high || low || code == 0)
            memcpy(p + 2, "fffd", 4);
    }
}

/* Puts the line into scratch as strict JSON, with its secrets. True when it is an object on one
 * line. */
static bool as_json(struct claude_output *stream, const char *line, size_t len)
{
    struct err err;
    struct buf *text = &stream->scratch;
    if (len == 0 || line[0] != '{')
        return false;
    buf_clear(text);
    buf_add(text, line, len);
    if (!buf_ok(text))
        return false;
    if (json_check(text->data, text->len, &err) == 0)
        return true;
    if (!str_is_utf8(text->data, text->len)) {
        AUTO(buf) struct buf whole = BUF_INIT(text->max);
        str_add_utf8(&whole, text->data, text->len);
        buf_clear(text);
        buf_add(text, buf_str(&whole), whole.len);
    }
    mend_escapes(text);
    return buf_ok(text) && json_check(text->data, text->len, &err) == 0;
}

/* Makes a text event; with `cut` of the line's beginning only. It is redacted before it is cut,
 * because half a secret would not be found. */
static void as_text(struct claude_output *stream, const char *line, size_t len, size_t whole_len,
                    bool cut)
{
    AUTO(buf) struct buf clean = BUF_INIT(2 * (size_t)LINE_BYTES_MAX);
    struct buf *json = &stream->scratch;
    redact_text(stream->redact, line, len, &clean);
    stream->truncated |= cut;
    json->failed = false;
    buf_clear(json);
    buf_adds(json, "{\"type\":\"text\",\"content\":\"");
    str_add_json(json, buf_str(&clean), cut && clean.len > CUT_BYTES ? CUT_BYTES : clean.len);
    mend_escapes(json); /* NUL */
    buf_adds(json, "\"");
    if (cut)
        buf_addf(json, ",\"truncated\":true,\"bytes\":%zu", whole_len);
    buf_adds(json, "}");
}

/* The event of the line of JSON in scratch, without secrets. */
static struct buf *take_json(struct claude_output *stream)
{
    struct buf *line = &stream->scratch, *clean = &stream->clean;
    clean->failed = false;
    buf_clear(clean);
    if (!clean_line(stream->redact, line->data, line->len, clean))
        clean = line;
    if (buf_ok(clean))
        understand(stream, line, clean);
    return clean;
}

static void trim(struct buf *buf)
{
    buf->failed = false;
    if (buf->cap > (1u << 20))
        buf_done(buf);
}

static void take_line(const char *line, size_t len, size_t whole_len, void *arg)
{
    struct claude_output *stream = arg;
    struct buf *text = &stream->scratch;
    stream->began = true;
    if (len == 0)
        return;
    if (whole_len == len && as_json(stream, line, len))
        text = take_json(stream);
    else
        as_text(stream, line, len, whole_len, whole_len > len);
    if (!buf_ok(text) || text->len > EVENT_JSON_BYTES_MAX) { /* Escapes have made it too long. */
        text = &stream->scratch;
        as_text(stream, line, len, whole_len, true);
    }
    if (buf_ok(text))
        stream->event(text->data, text->len, stream->arg);
    else
        stream->truncated = true;
    trim(&stream->scratch);
    trim(&stream->clean);
}
